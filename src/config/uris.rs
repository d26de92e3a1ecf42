//! The URIs by which clients find this server.

use std::net::{IpAddr, SocketAddr};

use super::Config;

/// The port of the web, which gets through most firewalls.
pub(super) const HTTPS_PORT: u16 = 443;

/// URIs for TLS at most. With those for UDP and TCP there are four: of five and more Firefox warns its
/// users, as each costs time when a call begins.
const TLS_URIS_MAX: usize = 2;

impl Config {
    /// A URI (RFC 7065) for the first listener of each of UDP and TCP, and for the ports of TLS if the
    /// first certificate has a name that clients can compare.
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
        let tls = self.tls_host().into_iter().flat_map(|host| {
            let ports = self.tls_ports().into_iter();
            ports.map(move |port| format!("turns:{host}:{port}?transport=tcp"))
        });
        udp.into_iter().chain(tcp).chain(tls).collect()
    }

    /// The ports at which clients find TLS: 443 first, then as they are configured.
    pub(super) fn tls_ports(&self) -> Vec<u16> {
        let listen = &self.listen;
        // Any TCP listener takes TLS, but for a strict one.
        let is_https = |it: &&SocketAddr| it.port() == HTTPS_PORT && !listen.strict.contains(it);
        let tcp = listen.tcp.iter().filter(is_https);
        // What listens on loopback is for a proxy in front, whose port is not known here; unless the
        // whole server is for this machine.
        let is_outside = |it: &&SocketAddr| !it.ip().is_loopback();
        let is_local = !listen
            .udp
            .iter()
            .chain(listen.of_tcp())
            .any(|it| is_outside(&it));
        let found = listen.tls.iter().chain(tcp);
        let mut ports = Vec::new();
        for listener in found.filter(|it| is_local || is_outside(it)) {
            if !ports.contains(&listener.port()) {
                ports.push(listener.port());
            }
        }
        ports.sort_by_key(|port| *port != HTTPS_PORT);
        ports.truncate(TLS_URIS_MAX);
        ports
    }

    /// What the first certificate is for, or will be: the realm, which is a domain by convention, or else the
    /// first of its names that is no wildcard, or else an address.
    pub(super) fn tls_host(&self) -> Option<String> {
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
