//! TLS to the server (RFC 7443): whom the check trusts, what the server shows, and what is wrong with
//! that.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, ProtocolVersion,
    RootCertStore, SignatureScheme,
};
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::UsageError;
use super::client::printable;
use super::credentials::utc;
use crate::cli::certificates::EXPIRY_DAYS;
use crate::cli::credentials::unix_time;
use crate::tls::Refusal;

/// Names of a certificate that the table shows.
const NAMES_SHOWN: usize = 3;

const SECONDS_A_DAY: i64 = 86_400;

/// Whom to trust, and whom to ask for.
#[derive(Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the certificates of a file, or without one the authorities of this machine.
    ///
    /// # Errors
    /// If there are none, or no certificate can be for the host.
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, UsageError> {
        // The zone of an address is this machine's business.
        let host = host.split('%').next().unwrap_or(host);
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            UsageError(format!(
                "{host}: no certificate can be for this name, which has characters that DNS does not"
            ))
        })?;
        let roots = match ca_file {
            Some(path) => roots_of(path)?,
            None => roots_of_system()?,
        };
        let provider = Arc::new(aws_lc_rs::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .expect("there are roots, and no revocation lists");
        let verifier = Arc::new(Verifier {
            inner,
            shown: Mutex::default(),
        });
        // No application protocol is offered (ALPN, RFC 7443), as browsers offer none: where the port is
        // shared, who does may get to another server than they.
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has the ciphers of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier.clone())
            .with_no_client_auth();
        Ok(Self {
            config: Arc::new(config),
            verifier,
            name,
        })
    }

    /// The client's side of a connection.
    pub(super) fn session(&self) -> Result<ClientConnection, rustls::Error> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone())
    }

    /// What the handshake agreed on, once it is done.
    pub(super) fn handshake(&self, session: &ClientConnection) -> Handshake {
        let chain = session.peer_certificates().unwrap_or_default();
        let certificate = chain.first().and_then(Certificate::of).unwrap_or_default();
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "1.2",
            _ => "1.3",
        };
        let now_unix_s = unix_time().cast_signed();
        Handshake {
            version,
            days_left: (certificate.not_after_unix_s - now_unix_s).div_euclid(SECONDS_A_DAY),
            certificate,
        }
    }

    /// What is wrong with the certificates that the server showed last.
    pub(super) fn distrust(&self, error: &CertificateError) -> Distrust {
        let shown = self.verifier.shown.lock();
        let shown = shown.unwrap_or_else(PoisonError::into_inner);
        let chain = Vec::from_iter(shown.iter().filter_map(Certificate::of));
        Distrust::of(error, &chain, &self.name.to_str())
    }
}

fn roots_of(path: &Path) -> Result<RootCertStore, UsageError> {
    let unusable = |error: &dyn fmt::Display| {
        UsageError(format!(
            "{}: {error}; --ca-file names a PEM file with the certificate of an authority",
            path.display()
        ))
    };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"it holds no certificate"));
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, UsageError> {
    let mut roots = RootCertStore::empty();
    // Some of a system's are too old for any library; the others do.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let message = "this machine trusts no certificate authority: install its list of them \
                       (Debian: ca-certificates), or name one with --ca-file";
        return Err(UsageError(message.to_owned()));
    }
    Ok(roots)
}

/// The library's own verifier, which also keeps what it was shown: of a chain that is refused nobody
/// else hears.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    shown: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        above: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = [own].into_iter().chain(above);
        let chain = chain.map(|certificate| certificate.clone().into_owned());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        self.inner.verify_server_cert(own, above, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// What a handshake agreed on. `Display` is a line of the table.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Handshake {
    version: &'static str,
    #[serde(flatten)]
    certificate: Certificate,
    /// Whole days to the certificate's end.
    days_left: i64,
}

impl Handshake {
    /// What to say if the certificate's end is near.
    pub(super) fn expiry_warning(&self) -> Option<String> {
        let days = match self.days_left {
            left if left > EXPIRY_DAYS => return None,
            0 => "within a day".to_owned(),
            1 => "in 1 day".to_owned(),
            left => format!("in {left} days"),
        };
        Some(format!(
            "the certificate expires {days}, and clients refuse it then: renewal is overdue; look why \
             it was not done by itself"
        ))
    }
}

impl fmt::Display for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (version, names) = (self.version, self.certificate.names());
        write!(f, "TLS {version}; certificate of {names}")?;
        let days = if self.days_left == 1 { "day" } else { "days" };
        write!(f, ", {} {days} left", self.days_left)
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, Default, Serialize)]
struct Certificate {
    /// Domain names and addresses.
    names: Vec<String>,
    #[serde(skip)]
    subject: String,
    issuer: String,
    #[serde(skip)]
    not_before_unix_s: i64,
    not_after_unix_s: i64,
}

impl Certificate {
    /// `None` of something that is no certificate.
    fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let subjects = parsed.subject_alternative_name().ok().flatten();
        let subjects = subjects.map_or(&[][..], |subjects| &subjects.value.general_names);
        let names = subjects.iter().filter_map(|subject| match subject {
            GeneralName::DNSName(name) => Some(printable(name.as_bytes())),
            GeneralName::IPAddress(bytes) => address(bytes).map(|ip| ip.to_string()),
            _ => None,
        });
        Some(Self {
            names: names.collect(),
            subject: printable(parsed.subject().to_string().as_bytes()),
            issuer: printable(parsed.issuer().to_string().as_bytes()),
            not_before_unix_s: parsed.validity().not_before.timestamp(),
            not_after_unix_s: parsed.validity().not_after.timestamp(),
        })
    }

    /// Its names, as many as fit on a line.
    fn names(&self) -> String {
        if self.names.is_empty() {
            return "nobody".to_owned();
        }
        let shown = &self.names[..self.names.len().min(NAMES_SHOWN)];
        match self.names.len() - shown.len() {
            0 => shown.join(", "),
            others => format!("{} and {others} more", shown.join(", ")),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let v6 = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    v4.or_else(|_| v6()).ok()
}

/// Why clients do not trust what the server shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// It was signed by nobody else.
    SelfSigned,
    /// Nothing in the chain leads to an authority that is trusted.
    NoWay {
        /// Who signed the last one that follows from the first.
        issuer: String,
        /// Why a certificate in between is likely to be missing, if it is.
        gap: Option<Gap>,
    },
    /// Its time is over.
    Expired { whose: String, unix_s: i64 },
    /// Its time has not begun.
    NotYetValid { whose: String, unix_s: i64 },
    /// It is for others.
    OtherName { asked: String, names: String },
    /// It is wrong in itself.
    Refused(Refusal),
}

/// What is odd about a chain that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// The server's own certificate is the only one.
    Alone,
    /// One is not of the issuer of the one before it.
    Broken,
}

impl Distrust {
    fn of(error: &CertificateError, chain: &[Certificate], asked: &str) -> Self {
        use CertificateError as E;
        let Some(own) = chain.first() else {
            return Self::Refused(Refusal::of(error));
        };
        let now_unix_s = unix_time().cast_signed();
        // The first whose time it is not: it may be one of those above.
        let whose = |is_it: &dyn Fn(&&Certificate) -> bool| chain.iter().find(is_it).unwrap_or(own);
        match error {
            E::UnknownIssuer if own.subject == own.issuer => Self::SelfSigned,
            E::UnknownIssuer => {
                let mut links = chain.iter().zip(&chain[1..]);
                let broken = links.find(|(one, next)| one.issuer != next.subject);
                let last = broken.map_or_else(|| chain.last().unwrap_or(own), |(one, _)| one);
                let gap = match chain.len() {
                    1 => Some(Gap::Alone),
                    _ => broken.map(|_| Gap::Broken),
                };
                Self::NoWay {
                    issuer: last.issuer.clone(),
                    gap,
                }
            }
            E::ExpiredContext { .. } => {
                let it = whose(&|it| it.not_after_unix_s < now_unix_s);
                Self::Expired {
                    whose: it.subject.clone(),
                    unix_s: it.not_after_unix_s,
                }
            }
            E::NotValidYetContext { .. } => {
                let it = whose(&|it| it.not_before_unix_s > now_unix_s);
                Self::NotYetValid {
                    whose: it.subject.clone(),
                    unix_s: it.not_before_unix_s,
                }
            }
            E::NotValidForNameContext { .. } => Self::OtherName {
                asked: asked.to_owned(),
                names: own.names(),
            },
            error => Self::Refused(Refusal::of(error)),
        }
    }

    /// The likely cause, and what to do about it.
    pub(super) fn verdict(&self) -> String {
        match self {
            Self::SelfSigned => "the server's certificate is self-signed, and browsers trust none of \
                                 those: get one from an authority (Let's Encrypt costs nothing), or \
                                 trust this one with --ca-file"
                .to_owned(),
            Self::NoWay { issuer, gap } => {
                let missing = match gap {
                    Some(Gap::Alone) => {
                        "the server shows its own certificate alone, so an intermediate certificate \
                         is missing: give it the whole chain (certbot: fullchain.pem; turnstone: \
                         tls.cert; coturn: cert). If"
                    }
                    Some(Gap::Broken) => {
                        "the server's chain has a gap, so an intermediate certificate is missing or in \
                         the wrong place: each must be followed by that of its issuer (certbot: \
                         fullchain.pem; turnstone: tls.cert; coturn: cert). If"
                    }
                    None => "the server's chain is whole, and leads to nobody who is trusted here: if",
                };
                format!("{missing} {issuer} is an authority of your own, name it with --ca-file")
            }
            Self::Expired { whose, unix_s } => format!(
                "the certificate of {whose} expired at {}: renew it, look why that was not done by \
                 itself, and have the server read it again (SIGUSR2, of turnstone and coturn alike); \
                 or this machine's clock is ahead",
                utc(unix_s.cast_unsigned())
            ),
            Self::NotYetValid { whose, unix_s } => format!(
                "the certificate of {whose} is not valid before {}: this machine's clock is behind, \
                 or that of the authority was ahead",
                utc(unix_s.cast_unsigned())
            ),
            Self::OtherName { asked, names } => format!(
                "the certificate is for {names}, and not for {asked}: use a URL with a name of the \
                 certificate, or have it issued for this one too"
            ),
            Self::Refused(refusal) => format!(
                "the server's chain {}: {}",
                refusal.what(),
                refusal.remedy()
            ),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned => f.write_str("self-signed certificate"),
            Self::NoWay { issuer, .. } => write!(f, "certificate of unknown issuer {issuer}"),
            Self::Expired { unix_s, .. } => {
                write!(f, "certificate expired at {}", utc(unix_s.cast_unsigned()))
            }
            Self::NotYetValid { unix_s, .. } => {
                let start = utc(unix_s.cast_unsigned());
                write!(f, "certificate not valid before {start}")
            }
            Self::OtherName { names, .. } => write!(f, "certificate of {names}"),
            Self::Refused(refusal) => write!(f, "the server's chain {}", refusal.what()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::Acceptor;

    use super::*;

    /// Where a web server shares the port, a client that offers `stun.turn` may be served while
    /// browsers are not.
    #[test]
    fn the_handshake_is_that_of_a_browser() {
        let authority = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/ec.crt");
        let tls = Tls::new("turn.example.org", Some(Path::new(authority))).unwrap();
        let mut hello = Vec::new();
        tls.session().unwrap().write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &*hello).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let hello = accepted.client_hello();
        assert_eq!(hello.server_name(), Some("turn.example.org"));
        assert!(hello.alpn().is_none());
    }
}
