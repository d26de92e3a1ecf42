//! The web servers that share the port: whether they are there, and expect what they are sent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::report::Finding;
use crate::config::Config;

const SERVERS: &str = "web.servers";

/// How long a web server may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long one that does not know the PROXY protocol may take to say so. It has the whole of a request
/// then, and one that knows it has none.
const COMPLAINT_TIMEOUT: Duration = Duration::from_millis(500);

/// A header of the PROXY protocol for connections that the proxy makes for itself, as to see whether the
/// server is well: version 2, LOCAL, no addresses.
const LOCAL_HEADER: [u8; 16] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

pub(super) fn examine(config: &Config) -> Vec<Finding> {
    let web = &config.web;
    let servers = [("web.https", web.https), ("web.http", web.http)];
    let servers = servers
        .into_iter()
        .filter_map(|(key, server)| Some((key, server?)));
    servers
        .map(|(key, server)| of_server(key, server, call(server, web.proxy_protocol)))
        .collect()
}

/// What a web server does.
enum Manner {
    /// It waits for a request.
    Waits,
    /// It takes the header for one, and this is the beginning of its answer.
    Answers(String),
    /// It closes the connection for the header.
    Closes,
}

fn call(server: SocketAddr, has_header: bool) -> io::Result<Manner> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    if !has_header {
        return Ok(Manner::Waits);
    }
    stream.set_read_timeout(Some(COMPLAINT_TIMEOUT))?;
    let mut answer = [0; 16];
    let read = stream.write_all(&LOCAL_HEADER);
    Ok(match read.and_then(|()| stream.read(&mut answer)) {
        Ok(0) => Manner::Closes,
        Ok(len) => Manner::Answers(answer[..len].escape_ascii().to_string()),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Manner::Closes,
            _ => Manner::Waits,
        },
    })
}

fn of_server(key: &str, server: SocketAddr, called: io::Result<Manner>) -> Finding {
    let manner = match called {
        Ok(manner) => manner,
        Err(error) => {
            let found = format!("{key}: {server} does not answer ({error})");
            return Finding::warn(SERVERS, found)
                .why("connections for the web server are closed")
                .fix(format!("start the web server there, or correct {key}"));
        }
    };
    let does = match manner {
        Manner::Waits => return Finding::ok(SERVERS, format!("{key}: {server} answers")),
        Manner::Answers(beginning) => format!("answers \"{beginning}\" to its header"),
        Manner::Closes => "closes connections that begin with its header".to_owned(),
    };
    let found = format!("{key}: {server} does not expect the PROXY protocol: it {does}");
    Finding::warn(SERVERS, found)
        .why("every connection that is passed on begins so, and none is served")
        .fix(
            "have the web server expect it (nginx: proxy_protocol behind the address of listen), or \
             set web.proxy_protocol = false, and the server sees no client's address",
        )
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

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

    /// WEB-04
    #[test]
    fn servers_that_do_not_expect_the_header_are_found() {
        for (says, expected) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
                "answers \"HTTP/1.1 400 Bad",
            ),
            (b"", "closes connections"),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut config = config(&[]);
            config.web.http = listener.local_addr().ok();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut header = [0; LOCAL_HEADER.len()];
                stream.read_exact(&mut header).unwrap();
                stream.write_all(says).unwrap();
                drop(stream);
                (listener, header)
            });
            config.web.proxy_protocol = true;
            let found = examine(&config);
            let (listener, header) = server.join().unwrap();
            assert_eq!(header, LOCAL_HEADER);
            assert_eq!(found.len(), 1);
            expect(&found[0], Status::Warn, expected);
            let remedy = found[0].remedy.as_deref().unwrap();
            assert!(remedy.contains("web.proxy_protocol = false"), "{remedy}");
            config.web.proxy_protocol = false;
            let found = examine(&config);
            expect(&found[0], Status::Ok, "web.http: ");
            let (mut stream, _) = listener.accept().unwrap();
            assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "it is told nothing");
        }
    }
}
