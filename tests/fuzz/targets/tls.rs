//! A connection's bytes, cut anywhere, from the first to frames: PROXY protocol, TLS and framing.
#![no_main]

use std::io::Write;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion, version,
};
use turnstone::engine::{Over, StreamConnection, StreamInput};

/// Bytes that one connection may hold.
const MEMORY: usize = 1 << 20;

/// Bytes that TLS has to say in a handshake, and what a buffer is rounded up by.
const SAID: usize = 16 * 1024;

// How, how many sizes of segments follow, the sizes, which are used over and over, and the bytes.
fuzz_target!(|input: &[u8]| {
    let [how, count, rest @ ..] = input else {
        return;
    };
    let (sizes, bytes) = rest.split_at(usize::from(count % 16).min(rest.len()));
    if how & 1 == 0 {
        let is_proxy = how & 2 != 0;
        let whole = of_bytes(bytes, &[], is_proxy);
        assert_eq!(of_bytes(bytes, sizes, is_proxy), whole);
        assert_eq!(of_bytes(bytes, &[1], is_proxy), whole);
    } else {
        let version = if how & 2 == 0 {
            &version::TLS12
        } else {
            &version::TLS13
        };
        let damage = (how & 4 != 0).then_some(usize::from(how >> 3));
        of_a_client(bytes, sizes, version, damage);
    }
});

/// What came out of a connection.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    frames: Vec<Vec<u8>>,
    is_over: bool,
}

/// A connection that carries these bytes in these segments.
fn of_bytes(bytes: &[u8], sizes: &[u8], is_proxy: bool) -> Seen {
    let mut connection = Connection::new(is_proxy);
    connection.push(bytes, sizes);
    connection.end()
}

/// A client of TLS that sends these bytes, in records and segments of these sizes: the frames are those
/// of the bytes, or, if one of 32 places was changed on the way, the first of them.
fn of_a_client(
    bytes: &[u8],
    sizes: &[u8],
    version: &'static SupportedProtocolVersion,
    damage: Option<usize>,
) {
    let name = ServerName::try_from("turn.example.org").unwrap();
    let config = CLIENTS.iter().find(|(of, _)| of == &version).unwrap();
    let mut client = ClientConnection::new(Arc::clone(&config.1), name).unwrap();
    let mut connection = Connection::new(false);
    // A round trip is half of a handshake at most.
    for _ in 0..4 {
        let said = written(&mut client);
        connection.push(&said, sizes);
        let mut answer = &connection.inner.take_output()[..];
        while !answer.is_empty() {
            client.read_tls(&mut answer).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!client.is_handshaking() && !connection.seen.is_over);
    let mut records = Vec::new();
    for part in segments(bytes, sizes) {
        client.writer().write_all(part).unwrap();
        records.extend(written(&mut client));
    }
    if let Some(place) = damage {
        let place = records.len() * place / 32;
        if let Some(byte) = records.get_mut(place) {
            *byte ^= 1;
        }
    }
    connection.push(&records, sizes);
    let seen = connection.end();
    let mut expected = Vec::new();
    let mut plain = StreamInput::new(MEMORY);
    let end = plain.push(bytes, false, |frame| expected.push(frame.to_vec()));
    match damage {
        None => assert_eq!((seen.frames, seen.is_over), (expected, end.is_err())),
        Some(_) => assert!(expected.starts_with(&seen.frames)),
    }
}

fn written(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// In parts of these sizes; a size of 0 is a segment as long as the kernel makes them.
fn segments<'a>(mut rest: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let sizes = sizes
        .iter()
        .map(|&size| if size == 0 { 1460 } else { usize::from(size) });
    let mut sizes = sizes.cycle();
    std::iter::from_fn(move || {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (segment, later) = rest.split_at(size);
        rest = later;
        (!segment.is_empty()).then_some(segment)
    })
}

/// The server's end.
struct Connection {
    inner: StreamConnection,
    seen: Seen,
    arrived: usize,
}

impl Connection {
    fn new(is_proxy: bool) -> Self {
        Self {
            inner: StreamConnection::new(Arc::clone(&SERVER), is_proxy, MEMORY),
            seen: Seen {
                frames: vec![],
                is_over: false,
            },
            arrived: 0,
        }
    }

    fn push(&mut self, bytes: &[u8], sizes: &[u8]) {
        for segment in segments(bytes, sizes) {
            if self.seen.is_over {
                return;
            }
            self.arrived += segment.len();
            let frames = &mut self.seen.frames;
            let pushed = self.inner.push(&mut segment.to_vec(), |frame| {
                frames.push(frame.to_vec());
            });
            self.seen.is_over = pushed == Err(Over);
            let held = self.inner.held();
            assert!(held <= 2 * self.arrived + SAID, "{held} bytes held");
        }
    }

    fn end(self) -> Seen {
        assert_eq!(self.inner.end(), 0, "memory that is not given back");
        self.seen
    }
}

static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let cert = CertificateDer::from_pem_slice(include_bytes!("../../data/tls/ec.crt"));
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../data/tls/ec-pkcs8.key"));
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Fixed))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.unwrap()], key.unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    Arc::new(config)
});

type Client = (&'static SupportedProtocolVersion, Arc<ClientConfig>);

static CLIENTS: LazyLock<[Client; 2]> = LazyLock::new(|| {
    [&version::TLS12, &version::TLS13].map(|version| {
        let config = ClientConfig::builder_with_details(provider(), Arc::new(Fixed))
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trusting))
            .with_no_client_auth();
        (version, Arc::new(config))
    })
});

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// It is always the same time.
#[derive(Debug)]
struct Fixed;

impl TimeProvider for Fixed {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(
            1_800_000_000,
        )))
    }
}

/// Whoever it is.
#[derive(Debug)]
struct Trusting;

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = aws_lc_rs::default_provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
