//! Which of the application protocols (ALPN, RFC 7301) a client offers, before TLS begins.
//!
//! rustls ends the handshake of a client that offers others only. RFC 7301 permits that, and RFC 7443
//! does not ask for it; coturn serves such clients, and so do we.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::{Accepted, Acceptor};

use crate::engine::settings::Web;

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

/// TURN's protocols (RFC 7443).
const TURN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// Whether a client whose whole ClientHello is this is one of the web server. Where TLS is spoken,
/// whoever offers a protocol of this server is not.
pub(super) fn is_for_web(hello: &[u8], web: &Web, configs: Option<&TlsConfigs>) -> bool {
    if web.https.is_none() {
        return false;
    }
    let spoken = configs.map_or(&[][..], |it| &it.configured.alpn_protocols);
    let ours: Vec<&[u8]> = TURN
        .into_iter()
        .chain(spoken.iter().map(Vec::as_slice))
        .collect();
    parse(hello).is_some_and(|accepted| web.takes(&accepted.client_hello(), &ours))
}

/// A ClientHello, if these bytes are one.
fn parse(mut hello: &[u8]) -> Option<Accepted> {
    let mut acceptor = Acceptor::default();
    // It takes a part at a time, and nothing when it is full.
    while !hello.is_empty() && acceptor.read_tls(&mut hello).is_ok_and(|taken| taken > 0) {}
    acceptor.accept().ok().flatten()
}

/// Whether a ClientHello offers protocols, and none of these.
fn is_foreign(hello: &[u8], ours: &[Vec<u8>]) -> bool {
    let Some(accepted) = parse(hello) else {
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
    use rustls::server::ResolvesServerCertUsingSni;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;

    fn hello(offered: &[&[u8]]) -> Vec<u8> {
        hello_to("turn.example.org", offered)
    }

    fn hello_to(name: &str, offered: &[&[u8]]) -> Vec<u8> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
        let name = name.to_owned().try_into().unwrap();
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

    /// WEB-01: the application protocols tell, and the name where there are none.
    #[test]
    fn the_web_server_gets_what_is_not_turn() {
        let web = Web {
            https: Some("127.0.0.1:8443".parse().unwrap()),
            names: vec!["www.example.org".to_owned()],
            ..Web::default()
        };
        for (name, offered, expected) in [
            ("turn.example.org", "", false),
            ("www.example.org", "", true),
            ("WWW.example.ORG", "", true),
            ("other.www.example.org", "", false),
            ("127.0.0.1", "", false),
            ("turn.example.org", "h2 http/1.1", true),
            ("127.0.0.1", "acme-tls/1", true),
            ("www.example.org", "stun.turn", false),
            ("www.example.org", "h2 stun.nat-discovery", false),
        ] {
            let names: Vec<&[u8]> = offered.split_whitespace().map(str::as_bytes).collect();
            let hello = hello_to(name, &names);
            let is = |web: &Web| is_for_web(&hello, web, None);
            assert_eq!(is(&web), expected, "{name} {offered:?}");
            assert!(!is(&Web {
                https: None,
                ..web.clone()
            }));
        }
        assert!(!is_for_web(b"\x16\x03\x01\x00\x04none", &web, None));
    }

    /// WEB-01, ACME-06: an authority looks at this server where it shows challenges, whatever the name,
    /// and otherwise at the web server.
    #[test]
    fn authorities_get_who_shows_challenges() {
        let web = Web {
            https: Some("127.0.0.1:8443".parse().unwrap()),
            names: vec!["www.example.org".to_owned()],
            ..Web::default()
        };
        let shows = |acme: &[&[u8]]| {
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
            let protocols = TURN.iter().chain(acme);
            config.alpn_protocols = protocols.map(|it| it.to_vec()).collect();
            TlsConfigs::new(Arc::new(config))
        };
        let (with, without) = (shows(&[b"acme-tls/1"]), shows(&[]));
        for name in ["turn.example.org", "www.example.org"] {
            let hello = hello_to(name, &[b"acme-tls/1"]);
            let is = |configs| is_for_web(&hello, &web, configs);
            assert!(!is(Some(&with)) && is(Some(&without)) && is(None), "{name}");
        }
    }
}
