//! Which of the application protocols (ALPN, RFC 7301) a client offers, before TLS begins.
//!
//! rustls ends the handshake of a client that offers others only. RFC 7301 permits that, and RFC 7443
//! does not ask for it; coturn serves such clients, and so do we.

use std::sync::Arc;

use rustls::ServerConfig;

use super::client_hello::ClientHello;
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

    /// For a client that asks so. Of what is no ClientHello, the session says so.
    pub(super) fn of(&self, hello: Option<&ClientHello>) -> &Arc<ServerConfig> {
        if is_foreign(hello, &self.configured.alpn_protocols) {
            &self.without_alpn
        } else {
            &self.configured
        }
    }

    /// The protocols that are spoken.
    pub(super) fn protocols(&self) -> &[Vec<u8>] {
        &self.configured.alpn_protocols
    }
}

/// TURN's protocols (RFC 7443).
const TURN: [&[u8]; 2] = [b"stun.turn", b"stun.nat-discovery"];

/// Whether a client that asks so is one of the web server. What is spoken here are application protocols,
/// or nothing where there is no certificate: whoever offers one of those, or of TURN's, is not.
pub(super) fn is_for_web(
    hello: Option<&ClientHello>,
    web: &Web,
    spoken: Option<&[Vec<u8>]>,
) -> bool {
    // It can say what is wrong with what cannot be read.
    let Some(hello) = hello else {
        return web.https.is_some();
    };
    let is_ours = |protocol: &[u8]| {
        TURN.contains(&protocol) || spoken.unwrap_or_default().iter().any(|it| it == protocol)
    };
    if web.https.is_none() || hello.protocols().any(is_ours) {
        return false;
    }
    // What names others only; what names none, by its name; and what would have nowhere to go.
    hello.protocols().next().is_some()
        || web.names.iter().any(|name| hello.is_to(name))
        || spoken.is_none()
}

/// Whether a client offers protocols, and none of these.
fn is_foreign(hello: Option<&ClientHello>, ours: &[Vec<u8>]) -> bool {
    let Some(hello) = hello else {
        return false;
    };
    let is_ours = |protocol: &[u8]| ours.iter().any(|our| our == protocol);
    hello.protocols().next().is_some() && !hello.protocols().any(is_ours)
}

#[cfg(test)]
mod tests {
    use rustls::crypto::aws_lc_rs;
    use rustls::server::ResolvesServerCertUsingSni;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::super::client_hello::tests::old_hello;
    use super::*;

    /// What an [`is_for_web`] of bytes makes of them.
    fn for_web(hello: &[u8], web: &Web, configs: Option<&TlsConfigs>) -> bool {
        let spoken = configs.map(TlsConfigs::protocols);
        is_for_web(ClientHello::read(hello).as_ref(), web, spoken)
    }

    fn foreign(hello: &[u8], ours: &[Vec<u8>]) -> bool {
        is_foreign(ClientHello::read(hello).as_ref(), ours)
    }

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

    /// A server that speaks TURN's protocols and these.
    fn shows(others: &[&[u8]]) -> TlsConfigs {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ResolvesServerCertUsingSni::new()));
        let protocols = TURN.iter().chain(others);
        config.alpn_protocols = protocols.map(|it| it.to_vec()).collect();
        TlsConfigs::new(Arc::new(config))
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
            assert_eq!(foreign(&hello, &ours), expected, "{offered:?}");
            for len in 0..hello.len() {
                assert!(!foreign(&hello[..len], &ours), "a part of it");
            }
        }
        // As many as a ClientHello that is waited for can have.
        let name = [b'x'; 255];
        let many = hello(&[&name[..]; 60]);
        assert!(many.len() > 15_000 && foreign(&many, &ours));
        assert!(!foreign(b"\x16\x03\x01\x00\x04none", &ours));
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
            let is = |web: &Web| for_web(&hello, web, Some(&shows(&[])));
            assert_eq!(is(&web), expected, "{name} {offered:?}");
            assert!(!is(&Web {
                https: None,
                ..web.clone()
            }));
        }
        // What cannot be read is the web server's to refuse.
        for speaks in [Some(&shows(&[])), None] {
            assert!(for_web(b"\x16\x03\x01\x00\x04none", &web, speaks));
        }
    }

    /// WEB-01: without a certificate, whoever does not name TURN has nobody else to go to.
    #[test]
    fn nobody_is_cut_off_for_want_of_a_certificate() {
        let web = Web {
            https: Some("127.0.0.1:8443".parse().unwrap()),
            ..Web::default()
        };
        for (name, offered, expected) in [
            ("turn.example.org", &[][..], true),
            ("127.0.0.1", &[], true),
            ("turn.example.org", &[&b"h2"[..]], true),
            ("turn.example.org", &[&b"stun.turn"[..]], false),
        ] {
            let is = |configs| for_web(&hello_to(name, offered), &web, configs);
            assert_eq!(is(None), expected, "{name} {offered:?}");
            assert!(!is(Some(&shows(&[&b"h2"[..]]))), "{name} {offered:?}");
        }
    }

    /// WEB-01: no TLS library of ours would take them, and a web server may.
    #[test]
    fn old_clients_get_the_web_server() {
        let web = Web {
            https: Some("127.0.0.1:8443".parse().unwrap()),
            names: vec!["www.example.org".to_owned()],
            ..Web::default()
        };
        for (name, offered, expected) in [
            ("www.example.org", &[][..], true),
            ("turn.example.org", &[&b"http/1.1"[..]], true),
            ("turn.example.org", &[], false),
            ("www.example.org", &[&b"stun.turn"[..]], false),
        ] {
            let hello = old_hello(name, offered);
            assert_eq!(for_web(&hello, &web, Some(&shows(&[]))), expected, "{name}");
        }
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
        let (with, without) = (shows(&[b"acme-tls/1"]), shows(&[]));
        for name in ["turn.example.org", "www.example.org"] {
            let hello = hello_to(name, &[b"acme-tls/1"]);
            let is = |configs| for_web(&hello, &web, configs);
            assert!(!is(Some(&with)) && is(Some(&without)) && is(None), "{name}");
        }
    }
}
