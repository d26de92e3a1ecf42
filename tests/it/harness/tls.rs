//! Certificates and configurations for TLS, and a client's end of it.

use std::io;
use std::net::TcpStream;
use std::sync::{Arc, LazyLock};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned,
    SupportedProtocolVersion, version,
};

use super::{DEADLINE, uninterrupted};

/// The name in certificates.
pub(crate) const NAME: &str = "turn.example.org";

pub(crate) const TURN: &[u8] = b"stun.turn";
pub(crate) const NAT_DISCOVERY: &[u8] = b"stun.nat-discovery";
pub(crate) const ACME: &[u8] = b"acme-tls/1";

pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// Who signs certificates in this process.
static AUTHORITY: LazyLock<CertifiedIssuer<'static, KeyPair>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
});

/// What servers have that say nothing else.
pub(crate) static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| {
    let mut config = server_config();
    config.alpn_protocols = vec![TURN.to_vec(), NAT_DISCOVERY.to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
    Arc::new(config)
});

/// What clients have that say nothing else.
static CLIENT: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| Arc::new(client_config(&VERSIONS)));

/// Its certificate.
#[cfg(feature = "dtls")]
pub(crate) fn authority() -> CertificateDer<'static> {
    AUTHORITY.der().clone()
}

/// A certificate and its key, as files hold them.
pub(crate) fn pem_of(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
    // With the name of who has signed it, it would look like its own issuer.
    leaf.distinguished_name.push(DnType::CommonName, name);
    let leaf = leaf.signed_by(&key, &*AUTHORITY).unwrap();
    (leaf.pem(), key.serialize_pem())
}

/// A server with a certificate of its own.
pub(crate) fn server_config() -> ServerConfig {
    server_config_of(NAME)
}

/// Likewise, for another name.
pub(crate) fn server_config_of(name: &str) -> ServerConfig {
    let (cert, key) = pem_of(name);
    let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap()
}

/// A client that trusts the certificates of this process.
pub(crate) fn client_config(versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(AUTHORITY.der().clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client's end of a connection.
pub(crate) type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// The client's side of TLS, which has not said anything.
pub(crate) fn session(config: &Arc<ClientConfig>) -> ClientConnection {
    session_to(NAME, config)
}

fn session_to(name: &str, config: &Arc<ClientConfig>) -> ClientConnection {
    let name = name.to_owned().try_into().unwrap();
    ClientConnection::new(Arc::clone(config), name).unwrap()
}

/// Shakes hands.
pub(crate) fn connect(config: &Arc<ClientConfig>, stream: TcpStream) -> io::Result<TlsStream> {
    connect_as(NAME, config, stream)
}

/// Shakes hands with who is called so.
pub(crate) fn connect_as(
    name: &str,
    config: &Arc<ClientConfig>,
    mut stream: TcpStream,
) -> io::Result<TlsStream> {
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let mut session = session_to(name, config);
    while session.is_handshaking() {
        uninterrupted(|| session.complete_io(&mut stream))?;
    }
    Ok(StreamOwned::new(session, stream))
}

/// Shakes hands as most clients do.
pub(crate) fn connect_default(stream: TcpStream) -> TlsStream {
    connect(&CLIENT, stream).unwrap()
}

/// The certificate that the server has shown.
pub(crate) fn shown(stream: &TlsStream) -> CertificateDer<'static> {
    stream.conn.peer_certificates().unwrap()[0].clone()
}
