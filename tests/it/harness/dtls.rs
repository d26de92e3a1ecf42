//! A client's end of DTLS, by OpenSSL.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use openssl::ssl::{
    ErrorCode, HandshakeError, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions,
    SslStream, SslVerifyMode, SslVersion,
};
use openssl::x509::X509;
use turnstone::tls::{Certificates, Files, Pair, Stamp, dtls_context};

use super::{DEADLINE, tls};

/// How long a client waits before it has OpenSSL look at its clock.
const PATIENCE: Duration = Duration::from_millis(200);

/// What servers have that say nothing else.
pub(crate) static SERVER: LazyLock<SslContext> = LazyLock::new(|| context(vec![pair(tls::NAME)]));

/// What clients have that say nothing else.
static CLIENT: LazyLock<SslContext> = LazyLock::new(|| client_context().build());

/// What a server proves itself with.
pub(crate) fn pair(name: &str) -> Arc<Pair> {
    let (cert, key) = tls::pem_of(name);
    pair_of(&cert, &key)
}

pub(crate) fn pair_of(cert: &str, key: &str) -> Arc<Pair> {
    let files = Files {
        cert: "dtls.crt".into(),
        key: "dtls.key".into(),
    };
    let stamp = Stamp::of(&files);
    let pair = Pair::from_pem(files, stamp, cert.as_bytes(), key.as_bytes());
    pair.unwrap().into()
}

/// A server that shows these.
pub(crate) fn context(pairs: Vec<Arc<Pair>>) -> SslContext {
    dtls_context(&Arc::new(Certificates::new(pairs))).unwrap()
}

/// A client that trusts the certificates of this process.
pub(crate) fn client_context() -> SslContextBuilder {
    let mut builder = SslContext::builder(SslMethod::dtls_client()).unwrap();
    builder
        .set_max_proto_version(Some(SslVersion::DTLS1_2))
        .unwrap();
    let authority = X509::from_der(&tls::authority()).unwrap();
    builder.cert_store_mut().add_cert(authority).unwrap();
    builder.set_verify(SslVerifyMode::PEER);
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder
}

/// A socket, or what is in its place.
pub(crate) trait Datagrams: Send {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize>;
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// The socket.
    fn socket(&self) -> &UdpSocket;
}

impl Datagrams for UdpSocket {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        Self::send(self, datagram)
    }

    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Self::recv(self, into)
    }

    fn socket(&self) -> &UdpSocket {
        self
    }
}

/// What OpenSSL reads from and writes to.
pub(crate) struct Wire(Box<dyn Datagrams>);

impl Wire {
    /// The socket, for what OpenSSL would not say.
    pub(crate) fn try_clone(&self) -> UdpSocket {
        self.0.socket().try_clone().unwrap()
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.recv(into) {
            // What listened there does not yet, or not any more.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                Err(ErrorKind::WouldBlock.into())
            }
            result => result,
        }
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.send(datagram)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A session.
pub(crate) struct DtlsStream {
    pub(crate) stream: SslStream<Wire>,
    pub(crate) local: SocketAddr,
}

impl DtlsStream {
    /// From a socket of this address.
    pub(crate) fn connect(from: SocketAddr, server: SocketAddr) -> Self {
        Self::try_connect(&CLIENT, socket(from, server)).unwrap()
    }

    /// Shakes hands. The error is OpenSSL's.
    pub(crate) fn try_connect(context: &SslContext, socket: UdpSocket) -> Result<Self, String> {
        let local = socket.local_addr().unwrap();
        Self::try_connect_over(context, Box::new(socket), local)
    }

    pub(crate) fn try_connect_over(
        context: &SslContext,
        wire: Box<dyn Datagrams>,
        local: SocketAddr,
    ) -> Result<Self, String> {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_mtu(1200).unwrap();
        ssl.set_hostname(tls::NAME).unwrap();
        let mut shaken = ssl.connect(Wire(wire));
        let deadline = Instant::now() + DEADLINE;
        loop {
            shaken = match shaken {
                Ok(stream) => return Ok(Self { stream, local }),
                Err(HandshakeError::WouldBlock(stream)) if Instant::now() < deadline => {
                    stream.handshake()
                }
                Err(HandshakeError::SetupFailure(error)) => return Err(error.to_string()),
                Err(HandshakeError::Failure(stream) | HandshakeError::WouldBlock(stream)) => {
                    return Err(stream.error().to_string());
                }
            };
        }
    }

    pub(crate) fn send(&mut self, message: &[u8]) {
        assert_eq!(self.stream.ssl_write(message).unwrap(), message.len());
    }

    /// The next message; none if the server has closed the session.
    pub(crate) fn recv(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(len) => {
                    buffer.truncate(len);
                    return Some(buffer);
                }
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => return None,
                Err(error) if error.code() == ErrorCode::WANT_READ => {
                    assert!(Instant::now() < deadline, "nothing comes");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self) {
        let _ = self.stream.shutdown();
    }
}

impl Drop for DtlsStream {
    /// As a connection's end is told by the system.
    fn drop(&mut self) {
        self.close();
    }
}

/// A socket between two addresses.
pub(crate) fn socket(from: SocketAddr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(from).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}
