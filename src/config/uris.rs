//! The URIs by which clients find this server.

use std::net::{IpAddr, SocketAddr};

use super::Config;

impl Config {
    /// A `turn:` URI (RFC 7065) for the first listener of each transport, UDP first.
    ///
    /// The host is the address that the outside reaches this machine by, as far as the
    /// configuration tells.
    pub fn uris(&self) -> Vec<String> {
        let udp = self
            .listen
            .udp
            .first()
            .map(|listener| self.uri(*listener, "udp"));
        let tcp = self
            .listen
            .tcp
            .first()
            .map(|listener| self.uri(*listener, "tcp"));
        udp.into_iter().chain(tcp).collect()
    }

    fn uri(&self, listener: SocketAddr, transport: &str) -> String {
        let at = SocketAddr::new(self.public_address(listener.ip()), listener.port());
        format!("turn:{at}?transport={transport}")
    }

    /// The address that clients outside use for what listens on `listener`.
    pub fn public_address(&self, listener: IpAddr) -> IpAddr {
        if !listener.is_unspecified() {
            return self.relay.advertised(listener);
        }
        let alike = self
            .relay
            .addresses
            .iter()
            .find(|a| a.is_ipv4() == listener.is_ipv4());
        match alike.or_else(|| self.relay.addresses.first()) {
            Some(relay) => self.relay.advertised(*relay),
            None => listener,
        }
    }
}
