//! The `rustls` configuration of a server of TURN.

use std::fmt;
use std::sync::Arc;

#[cfg(feature = "dtls")]
use openssl::error::ErrorStack;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};

use super::certificates::Certificates;
use super::challenges::ALPN_ACME;

/// The application protocol of TURN (RFC 7443 section 3).
const ALPN_TURN: &[u8] = b"stun.turn";

/// The application protocol of NAT discovery by STUN, likewise.
const ALPN_NAT_DISCOVERY: &[u8] = b"stun.nat-discovery";

/// Why there can be no configuration: the system has no random numbers, or the like.
#[derive(Debug)]
pub enum ConfigError {
    /// rustls says so.
    Tls(rustls::Error),
    /// OpenSSL says so.
    #[cfg(feature = "dtls")]
    Dtls(ErrorStack),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "cannot set up TLS: {error}"),
            #[cfg(feature = "dtls")]
            Self::Dtls(error) => write!(f, "cannot set up DTLS: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// What the workers accept connections with, to be made once a process: certificates are exchanged
/// behind it, and the keys of session tickets belong to it.
///
/// TLS 1.2 and 1.3 with the cipher suites that rustls considers safe; no client certificates, no early
/// data. Sessions are resumed by tickets alone, so that there is no table of them to fill, and by
/// whichever worker the client meets.
///
/// With `challenges` it answers an authority that looks whether a name leads here (RFC 8737).
///
/// # Errors
/// If the system has no random numbers.
pub fn server_config(
    certificates: &Arc<Certificates>,
    challenges: bool,
) -> Result<Arc<ServerConfig>, ConfigError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(certificates) as _;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::ALL_VERSIONS)
        .map_err(ConfigError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    // An authority offers its protocol alone, and gets a certificate while it is asked to look. Who has
    // not asked it leaves it to the web server behind the port.
    let acme = challenges.then_some(ALPN_ACME);
    let protocols = [ALPN_TURN, ALPN_NAT_DISCOVERY].into_iter().chain(acme);
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(ConfigError::Tls)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // Off as the library has them, which is not ours to rely on: what a client sends early could be
    // sent again by others, and what we send early is nothing.
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::crypto::CryptoProvider;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{
        ClientConfig, ClientConnection, Error, HandshakeKind, RootCertStore, ServerConnection,
        SupportedProtocolVersion,
    };

    use super::super::testing::{Authority, verifier};
    use super::*;

    /// Flights of a handshake, and some more.
    const FLIGHTS_MAX: usize = 10;

    fn client_of(authority: &Authority, provider: CryptoProvider) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        client_with(roots, provider, rustls::ALL_VERSIONS)
    }

    fn client_with(
        roots: RootCertStore,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let provider = Arc::new(provider);
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier(roots, provider))
            .with_no_client_auth()
    }

    /// Both ends of a connection, after the handshake or what it ended with.
    fn meet(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
        name: &str,
    ) -> Result<(ClientConnection, ServerConnection), Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        for _ in 0..FLIGHTS_MAX {
            let mut flight = Vec::new();
            client.write_tls(&mut flight).unwrap();
            take(&flight, |bytes| server.read_tls(bytes));
            server.process_new_packets()?;
            let mut flight = Vec::new();
            server.write_tls(&mut flight).unwrap();
            take(&flight, |bytes| client.read_tls(bytes));
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok((client, server))
    }

    fn take(mut bytes: &[u8], mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>) {
        while !bytes.is_empty() {
            read(&mut bytes).unwrap();
        }
    }

    fn shown(client: &ClientConnection) -> CertificateDer<'static> {
        client.peer_certificates().unwrap()[0].clone().into_owned()
    }

    fn der(pair: &super::super::Pair) -> CertificateDer<'static> {
        pair.certified().cert[0].clone()
    }

    /// TLS-01: the suite is the one that RFC 8489 section 6.2.3 wants.
    #[test]
    fn both_versions_and_the_mandatory_suite() {
        let authority = Authority::new();
        let made = authority.issue_of(&rcgen::PKCS_RSA_SHA256, &["turn.example.org"], -1, 90);
        let certificates = Arc::new(Certificates::new(vec![made.pair()]));
        let config = server_config(&certificates, true).unwrap();
        let suite = aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256;
        let only = CryptoProvider {
            cipher_suites: vec![suite],
            ..aws_lc_rs::default_provider()
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        for (provider, versions) in [
            (only, [&rustls::version::TLS12]),
            (aws_lc_rs::default_provider(), [&rustls::version::TLS13]),
        ] {
            let client = Arc::new(client_with(roots.clone(), provider, &versions));
            let (client, server) = meet(&client, &config, "turn.example.org").unwrap();
            assert_eq!(client.protocol_version(), Some(versions[0].version));
            assert_eq!(server.protocol_version(), client.protocol_version());
        }
    }

    /// TLS-03: by name, then by a wildcard, else the first.
    #[test]
    fn a_client_gets_the_certificate_that_it_asks_for() {
        let authority = Authority::new();
        let issued = [
            &["first.example.org"][..],
            &["*.example.org"],
            &["turn.example.org", "turn.example.net"],
        ]
        .map(|names| authority.issue(names).pair());
        let certificates = Arc::new(Certificates::new(issued.to_vec()));
        let config = server_config(&certificates, true).unwrap();
        let client = Arc::new(client_of(&authority, aws_lc_rs::default_provider()));
        for (name, index) in [
            ("first.example.org", 0),
            ("FIRST.example.org", 0),
            ("turn.example.org", 2),
            ("turn.example.net", 2),
            ("other.example.org", 1),
            ("a.other.example.org", 0),
            ("elsewhere.example", 0),
            // Clients send no name where they know an address only.
            ("192.0.2.1", 0),
        ] {
            let (client, _) = meet(&client, &config, name).unwrap();
            assert_eq!(shown(&client), der(&issued[index]), "{name}");
        }
    }

    /// TLS-03: of one name with two kinds of keys the first that the client can verify.
    #[test]
    fn a_client_gets_a_certificate_that_it_can_verify() {
        let authority = Authority::new();
        let names = ["turn.example.org"];
        let ecdsa = authority.issue(&names).pair();
        let rsa = authority.issue_of(&rcgen::PKCS_RSA_SHA256, &names, -1, 90);
        let rsa = rsa.pair();
        let certificates = Arc::new(Certificates::new(vec![
            Arc::clone(&ecdsa),
            Arc::clone(&rsa),
        ]));
        let config = server_config(&certificates, true).unwrap();
        let all = aws_lc_rs::default_provider();
        let mut rsa_only = all.clone();
        let mapping = rsa_only.signature_verification_algorithms.mapping;
        let mapping: Vec<_> = mapping.to_vec();
        let rsa_mapping: Vec<_> = mapping
            .into_iter()
            .filter(|(scheme, _)| format!("{scheme:?}").starts_with("RSA"))
            .collect();
        rsa_only.signature_verification_algorithms.mapping = rsa_mapping.leak();
        for name in ["turn.example.org", "elsewhere.example", "192.0.2.1"] {
            for (provider, expected) in [(&all, &ecdsa), (&rsa_only, &rsa)] {
                let client = Arc::new(client_of(&authority, provider.clone()));
                let (client, _) = meet(&client, &config, name).unwrap();
                assert_eq!(shown(&client), der(expected), "{name}");
            }
        }
    }

    /// TLS-03: others come into force for the next handshake, and the connection there is goes on.
    #[test]
    fn pairs_are_exchanged_while_connections_go_on() {
        let authority = Authority::new();
        let [old, new] = [0, 1].map(|_| authority.issue(&["turn.example.org"]).pair());
        let certificates = Arc::new(Certificates::new(vec![Arc::clone(&old)]));
        let config = server_config(&certificates, true).unwrap();
        let client_config = Arc::new(client_of(&authority, aws_lc_rs::default_provider()));
        let (mut client, mut server) = meet(&client_config, &config, "turn.example.org").unwrap();
        assert_eq!(shown(&client), der(&old));
        certificates.replace(vec![Arc::clone(&new)]);
        let fresh = Arc::new(client_of(&authority, aws_lc_rs::default_provider()));
        let (after, _) = meet(&fresh, &config, "turn.example.org").unwrap();
        assert_eq!(shown(&after), der(&new));
        io::Write::write_all(&mut client.writer(), b"still here").unwrap();
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        take(&flight, |bytes| server.read_tls(bytes));
        server.process_new_packets().unwrap();
        let mut text = [0; 10];
        io::Read::read_exact(&mut server.reader(), &mut text).unwrap();
        assert_eq!(&text, b"still here");
        certificates.replace(vec![]);
        let refused = meet(&fresh, &config, "turn.example.org");
        assert!(refused.is_err(), "there is nothing to show");
    }

    /// ALPN-01
    #[test]
    fn our_protocols_are_told_back() {
        let authority = Authority::new();
        let pair = authority.issue(&["turn.example.org"]).pair();
        let config = server_config(&Arc::new(Certificates::new(vec![pair])), true).unwrap();
        let ask = |offered: &[&[u8]]| {
            let mut client = client_of(&authority, aws_lc_rs::default_provider());
            client.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
            let met = meet(&Arc::new(client), &config, "turn.example.org")?;
            Ok::<_, Error>(met.0.alpn_protocol().map(<[u8]>::to_vec))
        };
        assert_eq!(ask(&[]), Ok(None));
        assert_eq!(ask(&[ALPN_TURN]), Ok(Some(ALPN_TURN.to_vec())));
        let both: [&[u8]; 3] = [b"h2", ALPN_NAT_DISCOVERY, ALPN_TURN];
        assert_eq!(ask(&both), Ok(Some(ALPN_TURN.to_vec())));
        let discovery = Some(ALPN_NAT_DISCOVERY.to_vec());
        assert_eq!(ask(&[ALPN_NAT_DISCOVERY]), Ok(discovery));
    }

    /// ACME-06: an authority gets the certificate of the name that it looks for, and others do not.
    #[test]
    fn challenges_are_for_authorities() {
        let authority = Authority::new();
        let pair = authority.issue(&["turn.example.org"]).pair();
        let certificates = Arc::new(Certificates::new(vec![Arc::clone(&pair)]));
        let config = server_config(&certificates, true).unwrap();
        let ask = |offered: &[&[u8]], name: &str| {
            let mut client = client_of(&authority, aws_lc_rs::default_provider());
            client.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
            let met = meet(&Arc::new(client), &config, name)?;
            Ok::<_, Error>((shown(&met.0), met.0.alpn_protocol().map(<[u8]>::to_vec)))
        };
        assert!(
            ask(&[ALPN_ACME], "turn.example.org").is_err(),
            "none is looked for"
        );
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["turn.example.org".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let challenges = certificates.challenges();
        challenges
            .add("turn.example.org", cert.der().to_vec(), key.serialize_der())
            .unwrap();
        assert!(challenges.add("x", vec![], vec![1]).is_err(), "no key");
        let choose = |name: &str| challenges.choose(Some(name)).map(|it| it.cert[0].clone());
        assert_eq!(choose("TURN.example.org").as_ref(), Some(cert.der()));
        assert_eq!(choose("example.org"), None);
        assert!(challenges.choose(None).is_none());
        assert!(ask(&[ALPN_ACME], "example.org").is_err(), "not looked for");
        let (client_gets, protocol) = ask(&[ALPN_TURN], "turn.example.org").unwrap();
        assert_eq!(
            (client_gets, protocol.as_deref()),
            (der(&pair), Some(ALPN_TURN))
        );
        // Who offers more than an authority does is none.
        let both = ask(&[ALPN_TURN, ALPN_ACME], "turn.example.org").unwrap();
        assert_eq!(both, (der(&pair), Some(ALPN_TURN.to_vec())));
        challenges.clear();
        assert!(choose("turn.example.org").is_none());
    }

    /// By tickets, in both versions.
    #[test]
    fn sessions_are_resumed() {
        let authority = Authority::new();
        let pair = authority.issue(&["turn.example.org"]).pair();
        let config = server_config(&Arc::new(Certificates::new(vec![pair])), true).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let provider = aws_lc_rs::default_provider();
            let client = Arc::new(client_with(roots.clone(), provider, &[version]));
            for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
                let (met, _) = meet(&client, &config, "turn.example.org").unwrap();
                assert_eq!(met.handshake_kind(), Some(expected), "{version:?}");
            }
        }
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.send_half_rtt_data);
    }

    /// ACME-06: without ACME the protocol is not ours, and a web server behind the port can have it.
    #[test]
    fn authorities_are_answered_only_where_they_are_asked() {
        let certificates = Arc::new(Certificates::new(vec![]));
        let protocols = |challenges| {
            let config = server_config(&certificates, challenges).unwrap();
            config.alpn_protocols.contains(&ALPN_ACME.to_vec())
        };
        assert!(protocols(true) && !protocols(false));
    }
}
