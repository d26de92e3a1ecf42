//! The URIs by which clients find this server.

use std::net::{IpAddr, SocketAddr};

use super::Config;

impl Config {
    /// A URI (RFC 7065) for the first listener of each transport: UDP, TCP, and TLS if the first
    /// certificate has a name that clients can compare.
    ///
    /// The host is the address that the outside reaches this machine by, as far as the
    /// configuration tells; for TLS it is that name.
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
        udp.into_iter().chain(tcp).chain(self.tls_uri()).collect()
    }

    fn tls_uri(&self) -> Option<String> {
        let (listener, host) = (self.listen.tls.first()?, self.tls_host()?);
        let port = listener.port();
        Some(format!("turns:{host}:{port}?transport=tcp"))
    }

    /// What the first certificate is for, or will be: the realm, which is a domain by convention, or else the
    /// first of its names that is no wildcard, or else an address.
    fn tls_host(&self) -> Option<String> {
        let Some(pair) = self.tls.pairs.first() else {
            return self.tls.acme.domains.first().cloned();
        };
        if pair.covers(&self.realm) {
            return Some(self.realm.to_ascii_lowercase());
        }
        let name = pair.names().iter().find(|name| !name.starts_with("*."));
        let address = || match pair.addresses().first()? {
            IpAddr::V6(v6) => Some(format!("[{v6}]")),
            v4 @ IpAddr::V4(_) => Some(v4.to_string()),
        };
        name.cloned().or_else(address)
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
