//! The web servers that share the port: whether they are there.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::report::Finding;
use crate::config::Config;

const SERVERS: &str = "web.servers";

/// How long a web server may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let web = &config.web;
    let servers = [("web.https", web.https), ("web.http", web.http)];
    let servers = servers
        .into_iter()
        .filter_map(|(key, server)| Some((key, server?)));
    servers
        .map(|(key, server)| of_server(key, server, call(server)))
        .collect()
}

fn call(server: SocketAddr) -> io::Result<()> {
    TcpStream::connect_timeout(&server, TIMEOUT).map(drop)
}

fn of_server(key: &str, server: SocketAddr, called: io::Result<()>) -> Finding {
    match called {
        Ok(()) => Finding::ok(SERVERS, format!("{key}: {server} answers")),
        Err(error) => Finding::warn(
            SERVERS,
            format!("{key}: {server} does not answer ({error})"),
        )
        .why("connections for the web server are closed")
        .fix(format!("start the web server there, or correct {key}")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::machine::testing::{config, expect};
    use super::super::report::Status;
    use super::*;

    /// WEB-04
    #[test]
    fn web_servers_are_called() {
        let mut config = config(&[]);
        assert_eq!(examine(&config), []);
        let there = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").unwrap();
        config.web.https = Some(there.local_addr().unwrap());
        config.web.http = Some(gone.local_addr().unwrap());
        drop(gone);
        let found = examine(&config);
        assert_eq!(found.len(), 2);
        expect(&found[0], Status::Ok, "web.https: ");
        expect(&found[1], Status::Warn, "does not answer");
    }
}
