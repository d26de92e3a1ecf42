//! TLS: what the check makes of certificates, and of ports that do not speak it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, date_time_ymd,
};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tempfile::NamedTempFile;
use time::{Duration, OffsetDateTime};
use turnstone::cli::check::Report;

use super::{assert_fails, codes, json, run, unfolded};
use crate::harness::tls::{TURN, VERSIONS};
use crate::harness::{DEADLINE, TestServer, own_ipv4};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// An authority, one that it has signed, and what a client is given to trust the first.
struct Trial {
    root: Issuer,
    between: Issuer,
    ca_file: NamedTempFile,
}

impl Trial {
    fn new() -> Self {
        let root = authority_params("root of the test");
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let between = authority_params("intermediate of the test");
        let key = KeyPair::generate().unwrap();
        let between = CertifiedIssuer::signed_by(between, key, &root).unwrap();
        let mut ca_file = NamedTempFile::new().unwrap();
        ca_file.write_all(root.pem().as_bytes()).unwrap();
        Self {
            root,
            between,
            ca_file,
        }
    }

    /// A server's configuration with a certificate by the intermediate authority and `above` it.
    fn config(&self, params: &CertificateParams, above: &[&Issuer]) -> ServerConfig {
        let key = KeyPair::generate().unwrap();
        let own = params.signed_by(&key, &self.between).unwrap();
        let above = above.iter().map(|issuer| issuer.der().clone());
        let chain = [own.der().clone()].into_iter().chain(above).collect();
        config(chain, &key)
    }

    fn check(&self, url: &str) -> Report {
        let ca_file = self.ca_file.path().to_str().unwrap();
        run(&[&[url, "--ca-file", ca_file], &ARGS[..]].concat())
    }
}

const ARGS: [&str; 8] = [
    "--user",
    "alice",
    "--password",
    "wonderland",
    "--seconds",
    "1",
    "--timeout",
    "5",
];

fn config(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> ServerConfig {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![TURN.to_vec()];
    config
}

/// A certificate for an address, for so many days from a start.
fn params(name: &str, start: OffsetDateTime, days: i64) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params
        .distinguished_name
        .push(DnType::CommonName, "server of the test");
    params.not_before = start;
    params.not_after = start + Duration::days(days);
    params
}

/// From yesterday on, until so many days from now and an hour.
fn good_for(name: &str, days: i64) -> CertificateParams {
    let start = OffsetDateTime::now_utc() - Duration::days(1) + Duration::hours(1);
    params(name, start, days + 1)
}

/// A TURN server with such a configuration, on an address of its own.
fn turn_server(address: Ipv4Addr, config: ServerConfig) -> TestServer {
    TestServer::with(|setup| {
        setup.tls_listeners = vec![(address, 0).into()];
        setup.tls = Some(Arc::new(config));
    })
}

/// What is done with a connection.
type Treatment = Box<dyn FnOnce(TcpStream) + Send>;

/// A TCP server on which one connection after the other is treated so.
fn serves(ip: Ipv4Addr, treatments: Vec<Treatment>) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        for treat in treatments {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            treat(stream);
        }
    });
    (address, thread)
}

/// Shakes hands, answers what the client says inside TLS, and closes.
fn inside(config: ServerConfig, answer: &'static [u8]) -> Treatment {
    Box::new(move |mut stream| {
        let mut session = ServerConnection::new(Arc::new(config)).unwrap();
        // A client that refuses ends it with an alert.
        while session.is_handshaking() {
            if session.complete_io(&mut stream).is_err() {
                return;
            }
        }
        let mut tls = rustls::Stream::new(&mut session, &mut stream);
        let mut request = [0; 20];
        tls.read_exact(&mut request).unwrap();
        tls.write_all(answer).unwrap();
        tls.conn.send_close_notify();
        tls.flush().unwrap();
    })
}

/// Reads the beginning of what comes, says something and closes.
fn says(bytes: &'static [u8]) -> Treatment {
    Box::new(move |mut stream| {
        stream.read_exact(&mut [0; 20]).unwrap();
        stream.write_all(bytes).unwrap();
    })
}

#[test]
fn everything_works_over_tls() {
    let trial = Trial::new();
    let address = own_ipv4();
    let params = good_for(&address.to_string(), 90);
    let server = turn_server(address, trial.config(&params, &[&trial.between]));
    let report = trial.check(&format!("turns:{}", server.tls()));
    let text = unfolded(&report);
    assert!(report.works(), "{report}");
    for words in [
        "ok connect",
        "ok handshake",
        &format!("TLS 1.3; certificate of {address}, 90 days left"),
        "ok: works over TLS",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{report}");
    }
    assert!(!text.contains("warn: the certificate"), "{report}");

    let json = json(&report);
    let transport = &json["transports"][0];
    assert_eq!(transport["transport"], "tls");
    let tls = transport["tls"].as_object().unwrap();
    assert_eq!(tls["version"], "1.3");
    assert_eq!(tls["names"][0], address.to_string());
    assert_eq!(tls["issuer"], "CN=intermediate of the test");
    assert_eq!(tls["days_left"], 90);
    let not_after = params.not_after.unix_timestamp();
    assert_eq!(tls["not_after_unix_s"], not_after);
    assert_eq!(tls.len(), 5);
    assert_eq!(server.live_ports(), 0, "{report}");
}

#[test]
fn binding_alone_goes_over_tls() {
    let trial = Trial::new();
    let address = own_ipv4();
    let params = good_for(&address.to_string(), 90);
    let server = turn_server(address, trial.config(&params, &[&trial.between]));
    let ca_file = trial.ca_file.path().to_str().unwrap();
    let url = format!("stuns:{}", server.tls());
    let report = run(&[&url, "--ca-file", ca_file]);
    let text = unfolded(&report);
    assert!(report.works(), "{report}");
    assert!(
        text.contains("ok binding") && text.contains("answers Binding requests"),
        "{report}"
    );
}

#[test]
fn an_end_that_is_near_is_a_warning() {
    let trial = Trial::new();
    for (days, expected) in [(21, true), (22, false)] {
        let address = own_ipv4();
        let params = good_for(&address.to_string(), days);
        let server = turn_server(address, trial.config(&params, &[&trial.between]));
        let report = trial.check(&format!("turns:{}", server.tls()));
        assert!(report.works(), "{report}");
        let json = json(&report);
        let warnings = json["transports"][0]["warnings"].as_array().unwrap();
        let mut warnings = warnings.iter();
        let is_there = warnings.any(|warning| warning["code"] == "certificate-expiry");
        assert_eq!(is_there, expected, "{days} days: {report}");
        let line = format!("warn: the certificate expires in {days} days");
        assert_eq!(unfolded(&report).contains(&line), expected, "{report}");
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_named() {
    let trial = Trial::new();
    let ip = own_ipv4();
    let name = ip.to_string();
    let now = OffsetDateTime::now_utc();
    let stranger = CertifiedIssuer::self_signed(
        authority_params("authority of others"),
        KeyPair::generate().unwrap(),
    )
    .unwrap();
    let own_key = KeyPair::generate().unwrap();
    let self_signed = good_for(&name, 90).self_signed(&own_key).unwrap();
    let by_stranger = {
        let own = good_for(&name, 90).signed_by(&own_key, &stranger).unwrap();
        config(vec![own.der().clone(), stranger.der().clone()], &own_key)
    };
    let whole = [&trial.between];
    let cases: [(&str, ServerConfig, &[&str]); 7] = [
        (
            "certificate-self-signed",
            config(vec![self_signed.der().clone()], &own_key),
            &["self-signed, and browsers trust none"],
        ),
        (
            "certificate-chain",
            trial.config(&good_for(&name, 90), &[]),
            &[
                "unknown issuer CN=intermediate of the test",
                "its own certificate alone",
            ],
        ),
        (
            "certificate-chain",
            trial.config(&good_for(&name, 90), &[&stranger]),
            &["the server's chain has a gap"],
        ),
        (
            "certificate-issuer",
            by_stranger,
            &[
                "leads to nobody who is trusted here",
                "if CN=authority of others is an authority of your own",
            ],
        ),
        (
            "certificate-expired",
            trial.config(&params(&name, now - Duration::days(90), 89), &whole),
            &["certificate of CN=server of the test expired at"],
        ),
        (
            "certificate-not-yet-valid",
            trial.config(&params(&name, now + Duration::days(1), 90), &whole),
            &["certificate of CN=server of the test is not valid before"],
        ),
        (
            "certificate-name",
            trial.config(&good_for("turn.example.org", 90), &whole),
            &["the certificate is for turn.example.org, and not for 127."],
        ),
    ];
    assert_refused(&trial, ip, cases);
}

/// Each server is refused for its certificate, by this code and in these words.
fn assert_refused<'l>(
    trial: &Trial,
    ip: Ipv4Addr,
    cases: impl IntoIterator<Item = (&'l str, ServerConfig, &'l [&'l str])>,
) {
    for (code, config, lines) in cases {
        let server = turn_server(ip, config);
        let report = trial.check(&format!("turns:{}", server.tls()));
        assert_fails(&report, &["ok connect", "FAIL handshake"]);
        assert_fails(&report, lines);
        assert_eq!(codes(&report), [code], "{report}");
    }
}

/// What is wrong with it in itself, so that no trust helps: by hand most of these are made.
#[test]
fn what_every_client_refuses_is_said_in_words() {
    let trial = Trial::new();
    let ip = own_ipv4();
    let name = ip.to_string();
    let whole = [&trial.between];
    let own_key = KeyPair::generate().unwrap();
    let mut by_hand = good_for(&name, 90);
    by_hand.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let self_made = by_hand.self_signed(&own_key).unwrap();
    let mut for_clients = good_for(&name, 90);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let other_key = CertifiedIssuer::signed_by(
        authority_params("intermediate of the test"),
        KeyPair::generate().unwrap(),
        &trial.root,
    )
    .unwrap();
    let mut plain = authority_params("no authority");
    plain.is_ca = IsCa::ExplicitNoCa;
    let plain =
        CertifiedIssuer::signed_by(plain, KeyPair::generate().unwrap(), &trial.root).unwrap();
    let by_plain = good_for(&name, 90).signed_by(&own_key, &plain).unwrap();
    let by_plain = vec![by_plain.der().clone(), plain.der().clone()];
    let cases: [(&str, ServerConfig, &[&str]); 5] = [
        (
            "certificate-ca",
            config(vec![self_made.der().clone()], &own_key),
            &["CA:TRUE", "even if they trust it", "CA:FALSE"],
        ),
        (
            "certificate-ca",
            trial.config(&by_hand, &whole),
            &["have an authority sign one for the server"],
        ),
        (
            "certificate-purpose",
            trial.config(&for_clients, &whole),
            &["is not for servers", "extendedKeyUsage=serverAuth"],
        ),
        (
            "certificate-signature",
            trial.config(&good_for(&name, 90), &[&other_key]),
            &["a signature that does not verify"],
        ),
        (
            "certificate",
            config(by_plain, &own_key),
            &["signed by one that is no authority's"],
        ),
    ];
    assert_refused(&trial, ip, cases);
}

#[test]
fn an_authority_that_has_expired_is_named_itself() {
    let mut trial = Trial::new();
    let mut between = authority_params("intermediate of the test");
    between.not_after = date_time_ymd(2020, 1, 1);
    let key = KeyPair::generate().unwrap();
    trial.between = CertifiedIssuer::signed_by(between, key, &trial.root).unwrap();
    let ip = own_ipv4();
    let params = good_for(&ip.to_string(), 90);
    let server = turn_server(ip, trial.config(&params, &[&trial.between]));
    let report = trial.check(&format!("turns:{}", server.tls()));
    assert_eq!(codes(&report), ["certificate-expired"], "{report}");
    let line = "certificate of CN=intermediate of the test expired at 2020-01-01";
    assert_fails(&report, &[line]);
}

#[test]
fn a_port_without_tls_says_what_it_speaks() {
    let trial = Trial::new();
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let closes: [&'static [u8]; 2] = [b"", b""];
    let cases: [(Vec<&'static [u8]>, &str, &str); 7] = [
        (closes.to_vec(), "handshake-closed", "closes port"),
        (vec![http, http], "no-tls", "a web server without TLS"),
        (vec![b"", http], "no-tls", "a web server without TLS"),
        (
            vec![b"220 mail ESMTP\r\n", b""],
            "no-tls",
            "something answers on port",
        ),
        (
            vec![b"\x15\x03\x01\0\x02\x02\x46"],
            "tls-alert",
            "no version of TLS or cipher in common",
        ),
        (
            vec![b"\x15\x03\x03\0\x02\x02\x78"],
            "tls-alert",
            "another service has port",
        ),
        (
            vec![b"\x15\x03\x03\0\x02\x02\x70"],
            "tls-alert",
            "no certificate for this name",
        ),
    ];
    for (answers, code, words) in cases {
        let (address, thread) = serves(own_ipv4(), answers.into_iter().map(says).collect());
        let report = trial.check(&format!("turns:{address}"));
        thread.join().unwrap();
        assert_fails(&report, &["FAIL handshake", words]);
        assert_eq!(codes(&report), [code], "{report}");
    }
}

#[test]
fn plain_stun_on_the_port_is_recognized() {
    let trial = Trial::new();
    let server = TestServer::with(|setup| setup.tls = None);
    let report = trial.check(&format!("turns:{}", server.tcp()));
    let url = format!("turn:HOST:{}?transport=tcp", server.tcp().port());
    assert_fails(
        &report,
        &[
            "FAIL handshake",
            "a STUN server answers on port",
            "without TLS",
            &url,
        ],
    );
    assert_eq!(codes(&report), ["no-tls"], "{report}");
}

#[test]
fn a_port_that_is_silent_is_told_in_words() {
    let trial = Trial::new();
    let listener = TcpListener::bind((own_ipv4(), 0)).unwrap();
    let url = format!("turns:{}", listener.local_addr().unwrap());
    let ca_file = trial.ca_file.path().to_str().unwrap();
    let report = run(&[
        &url,
        "--timeout",
        "1",
        "--ca-file",
        ca_file,
        "--user",
        "a",
        "--password",
        "b",
    ]);
    assert_fails(
        &report,
        &["no answer to the ClientHello within", "nor to plain STUN"],
    );
    assert_eq!(codes(&report), ["handshake-timeout"], "{report}");
}

#[test]
fn a_second_connection_that_is_refused_is_told_from_a_first() {
    let trial = Trial::new();
    let address = own_ipv4();
    let params = good_for(&address.to_string(), 90);
    let config = trial.config(&params, &[&trial.between]);
    let server = TestServer::with(|setup| {
        setup.tls_listeners = vec![(address, 0).into()];
        setup.tls = Some(Arc::new(config));
        setup.stream.connections_per_address = 1;
    });
    let report = trial.check(&format!("turns:{}", server.tls()));
    assert_fails(
        &report,
        &[
            "ok allocate",
            "FAIL allocate 2",
            "took one connection over TLS",
            "limits.tcp_connections_per_address",
        ],
    );
    assert_eq!(codes(&report), ["handshake-closed"], "{report}");
}

/// A server that wants a certificate of the client.
fn mutual(trial: &Trial, params: &CertificateParams) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trial.root.der().clone()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &trial.between).unwrap();
    let chain = vec![own.der().clone(), trial.between.der().clone()];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap()
}

#[test]
fn a_server_that_wants_a_certificate_of_the_client_is_recognized() {
    let trial = Trial::new();
    let ip = own_ipv4();
    let config = mutual(&trial, &good_for(&ip.to_string(), 90));
    let (address, thread) = serves(ip, vec![inside(config, b"")]);
    let report = trial.check(&format!("turns:{address}"));
    thread.join().unwrap();
    assert_fails(&report, &["wants a certificate of the client"]);
    assert_eq!(codes(&report), ["tls-alert"], "{report}");
}

#[test]
fn tls_of_another_service_is_recognized() {
    let trial = Trial::new();
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let cases: [(&'static [u8], &str, &str); 2] = [
        (http, "http", "a web server answers"),
        (b"", "closed", "TLS works, but the server closed"),
    ];
    for (answer, code, words) in cases {
        let ip = own_ipv4();
        let params = good_for(&ip.to_string(), 90);
        let config = trial.config(&params, &[&trial.between]);
        let (address, thread) = serves(ip, vec![inside(config, answer)]);
        let report = trial.check(&format!("turns:{address}"));
        thread.join().unwrap();
        assert_fails(&report, &["ok handshake", "FAIL binding", words]);
        assert_eq!(codes(&report), [code], "{report}");
    }
}

#[test]
fn a_file_without_authorities_is_refused_before_anything_is_sent() {
    let usage_error = |args: &[&str]| {
        use clap::Parser;
        let args = ["check"].iter().chain(args);
        let args = super::Cli::try_parse_from(args).unwrap().args;
        super::check(&args).unwrap_err().to_string()
    };
    let empty = NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let error = usage_error(&["turns:a.example", "--ca-file", empty]);
    assert!(error.contains("it holds no certificate"), "{error}");
    let error = usage_error(&["turns:a.example", "--ca-file", "/nonexistent/ca.pem"]);
    assert!(error.contains("/nonexistent/ca.pem"), "{error}");
    let error = usage_error(&["turn:a.example", "--ca-file", empty]);
    assert!(error.contains("--ca-file is of use with turns:"), "{error}");
}
