//! `[web]`: the web servers that share the port.

use std::net::SocketAddr;

use super::Resolver;
use crate::config::document::Item;
use crate::config::{Listen, Web, defaults};

impl Resolver<'_> {
    pub(super) fn web(&mut self, listen: &Listen) -> Web {
        let https = self.web_server("web.https", "127.0.0.1:8443", listen);
        let http = self.web_server("web.http", "127.0.0.1:8080", listen);
        let ports = [https, http].into_iter().flatten();
        Web {
            https,
            names: self.web_names(),
            http,
            proxy_protocol: self.switch("web.proxy_protocol", true),
            connections: self.number("web.connections", 1..=1_000_000, defaults::WEB_CONNECTIONS),
            // Shorter than a browser keeps a connection would break requests that are on their way.
            idle_s: self.number("web.idle_s", 10..=86_400, defaults::WEB_IDLE_S),
            ports: ports.map(|server| server.port()).collect(),
        }
    }

    fn web_server(&mut self, key: &str, example: &str, listen: &Listen) -> Option<SocketAddr> {
        let item = self.filled(key)?;
        let remedy = format!("write where the web server listens, e.g. \"{example}\"");
        let server = match item.text.parse::<SocketAddr>() {
            Ok(server) if server.port() != 0 && !server.ip().is_unspecified() => server,
            _ => {
                let what = format!("{:?} is not an address with a port", *item.text);
                self.refuse(&item.origin, key, what, remedy);
                return None;
            }
        };
        let is_own = |listener: &&SocketAddr| {
            let ip = listener.ip();
            let is_any = ip.is_unspecified() && (self.host.bindable)(server.ip());
            listener.port() == server.port() && (is_any || ip == server.ip())
        };
        if let Some(listener) = listen.of_tcp().find(is_own) {
            let what = format!("{server} is this server itself, which listens on {listener}");
            let remedy = "have the web server listen on another port, and write that";
            self.refuse(&item.origin, key, what, remedy);
            return None;
        }
        Some(server)
    }

    fn web_names(&mut self) -> Vec<String> {
        let key = "web.names";
        let Some((items, origin)) = self.list(key) else {
            return Vec::new();
        };
        if !items.is_empty() && self.filled("web.https").is_none() {
            let remedy = "set web.https to the address of the web server, or remove it";
            self.refuse(origin, key, "is beside no web.https", remedy);
        }
        let names = items.iter().filter_map(|item| self.web_name(key, item));
        names.collect()
    }

    fn web_name(&mut self, key: &str, item: &Item) -> Option<String> {
        let name = item.text.to_ascii_lowercase();
        let is_character = |c: char| c.is_ascii_alphanumeric() || ['-', '.', '_'].contains(&c);
        let is_name = !name.is_empty() && name.chars().all(is_character);
        if is_name && name.parse::<std::net::IpAddr>().is_err() {
            return Some(name);
        }
        let what = format!("{:?} is not a whole host name", *item.text);
        let remedy = "write each name as browsers ask for it, e.g. \"www.example.org\"";
        self.refuse(&item.origin, key, what, remedy);
        None
    }
}
