//! Which of the application protocols (ALPN, RFC 7301) a client offers, before TLS begins.
//!
//! rustls ends the handshake of a client that offers others only. RFC 7301 permits that, and RFC 7443
//! does not ask for it; coturn serves such clients, and so do we.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::Acceptor;

/// How TLS is spoken.
#[derive(Clone, Debug)]
pub(in crate::engine) struct TlsConfigs {
    /// With clients that offer one of its protocols, or none.
    configured: Arc<ServerConfig>,
    /// With those that offer others only: the same without protocols, tickets included.
    without_alpn: Arc<ServerConfig>,
}

impl TlsConfigs {
    pub(in crate::engine) fn new(configured: Arc<ServerConfig>) -> Self {
        let mut without_alpn = ServerConfig::clone(&configured);
        without_alpn.alpn_protocols.clear();
        Self {
            configured,
            without_alpn: Arc::new(without_alpn),
        }
    }

    /// For a client whose whole ClientHello is this. Of what is none, the session says so.
    pub(super) fn of(&self, hello: &[u8]) -> &Arc<ServerConfig> {
        if is_foreign(hello, &self.configured.alpn_protocols) {
            &self.without_alpn
        } else {
            &self.configured
        }
    }
}

/// Whether a ClientHello offers protocols, and none of these.
fn is_foreign(mut hello: &[u8], ours: &[Vec<u8>]) -> bool {
    let mut acceptor = Acceptor::default();
    // It takes a part at a time, and nothing when it is full.
    while !hello.is_empty() && acceptor.read_tls(&mut hello).is_ok_and(|taken| taken > 0) {}
    let Ok(Some(accepted)) = acceptor.accept() else {
        return false;
    };
    let hello = accepted.client_hello();
    hello
        .alpn()
        .is_some_and(|mut offered| !offered.any(|protocol| ours.iter().any(|our| our == protocol)))
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(offered: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
        let name = "turn.example.org".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// ALPN-01
    #[test]
    fn foreign_protocols_are_told_from_ours() {
        let ours = [b"stun.turn".to_vec(), b"stun.nat-discovery".to_vec()];
        for (offered, expected) in [
            ("", false),
            ("stun.turn", false),
            ("h2 stun.nat-discovery", false),
            ("h2", true),
            ("h2 http/1.1", true),
        ] {
            let names: Vec<&[u8]> = offered.split_whitespace().map(str::as_bytes).collect();
            let hello = hello(&names);
            assert_eq!(is_foreign(&hello, &ours), expected, "{offered:?}");
            for len in 0..hello.len() {
                assert!(!is_foreign(&hello[..len], &ours), "a part of it");
            }
        }
        // As many as a ClientHello that is waited for can have.
        let name = [b'x'; 255];
        let many = hello(&[&name[..]; 60]);
        assert!(many.len() > 15_000 && is_foreign(&many, &ours));
        assert!(!is_foreign(b"\x16\x03\x01\x00\x04none", &ours));
    }
}
