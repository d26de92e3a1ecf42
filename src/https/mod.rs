//! Requests to the servers of others: to a receiver of events, to an authority of certificates.
//!
//! [`Client::new`] opens every file that is needed (certificates of authorities, where names are
//! resolved), for there are none later. Each request has a connection of its own.

mod resolver;

use std::error::Error;
use std::fmt::{self, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;

use resolver::Resolver;

/// Bytes of a response's head. Longer ones are an error.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Whom requests are sent to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The key of the configuration that names it.
    pub url_key: &'static str,
    /// `http:` or `https:`, with a host. What is requested may be elsewhere on the same port; with
    /// `https:` it is by TLS too.
    pub url: Uri,
    /// The key of the configuration that names the file of authorities.
    pub ca_key: &'static str,
    /// PEM certificates of authorities; those of the system if there is no file.
    pub ca_file: Option<PathBuf>,
    /// How long a request may take until its response begins, its connection included.
    pub timeout: Duration,
}

impl Target {
    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        let default = if self.is_tls() { 443 } else { 80 };
        self.url.port_u16().unwrap_or(default)
    }

    fn is_tls(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }
}

/// Why requests cannot be sent. The text names the key.
#[derive(Debug)]
pub enum PrepareError {
    /// The file of authorities is not usable.
    CaFile(&'static str, PathBuf, String),
    /// The system has no authorities.
    NoRoots(&'static str, &'static str, String),
    /// The system does not say how names are resolved.
    Resolver(&'static str, String),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CaFile(key, path, error) => write!(
                f,
                "{key}: {} has no usable certificates ({error}); write those of the \
                 authorities as PEM",
                path.display()
            ),
            Self::NoRoots(key, ca_key, error) => write!(
                f,
                "{key}: this system has no certificates of authorities ({error}); install \
                 ca-certificates, or set {ca_key}"
            ),
            Self::Resolver(key, error) => write!(
                f,
                "{key}: names cannot be resolved ({error}); mend /etc/resolv.conf, or write an \
                 address"
            ),
        }
    }
}

impl Error for PrepareError {}

/// Why there is no response.
#[derive(Debug)]
pub enum SendError {
    /// It could not be asked for, or broke off.
    Failed(legacy::Error),
    /// It took longer than it may.
    TimedOut(Duration),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.write_str(&with_causes(error)),
            Self::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs_f32()),
        }
    }
}

impl Error for SendError {}

impl SendError {
    /// Whether there was no connection, so that nothing of the request was sent.
    pub fn is_unconnected(&self) -> bool {
        matches!(self, Self::Failed(error) if error.is_connect())
    }
}

/// Who sends requests with such a body.
pub struct Client<B> {
    http: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, B>,
    timeout: Duration,
}

impl<B> fmt::Debug for Client<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl<B> Client<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Reads the files that are needed.
    ///
    /// # Errors
    /// If they are not there, or not usable.
    pub fn new(target: &Target) -> Result<Self, PrepareError> {
        let is_name = target.url.host().is_some_and(|host| {
            let ip = host.trim_start_matches('[').trim_end_matches(']');
            ip.parse::<IpAddr>().is_err()
        });
        let resolver = is_name.then(Resolver::of_system).transpose();
        let resolver =
            resolver.map_err(|error| PrepareError::Resolver(target.url_key, error.to_string()))?;
        let mut tcp = HttpConnector::new_with_resolver(resolver.unwrap_or_default());
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(target.timeout));
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls(target)?);
        // The target's answers may name other URLs, which are to be no less secret.
        let connector = match target.is_tls() {
            true => connector.https_only(),
            false => connector.https_or_http(),
        };
        let connector = connector.enable_http1().wrap_connector(tcp);
        // Requests are seconds apart in busy times: a connection that is kept would mostly be found
        // closed.
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self {
            http,
            timeout: target.timeout,
        })
    }

    /// Sends a request once. Redirects are not followed.
    ///
    /// # Errors
    /// If no response has begun in time.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, SendError> {
        match timeout(self.timeout, self.http.request(request)).await {
            Ok(response) => response.map_err(SendError::Failed),
            Err(_) => Err(SendError::TimedOut(self.timeout)),
        }
    }
}

/// What the value of Retry-After means: seconds, or a date (RFC 9110 section 10.2.3).
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// An error with what caused it: the outermost says least.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Into a String, which takes everything.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// With the authorities that the operator named, or those of the system.
fn tls(target: &Target) -> Result<ClientConfig, PrepareError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has the ciphers of TLS 1.2 and 1.3");
    let no_roots = |error: std::io::Error| {
        PrepareError::NoRoots(target.url_key, target.ca_key, error.to_string())
    };
    let builder = match &target.ca_file {
        _ if !target.is_tls() => builder.with_root_certificates(RootCertStore::empty()),
        None => builder.with_native_roots().map_err(no_roots)?,
        Some(path) => {
            let unusable = |error: &dyn fmt::Display| {
                PrepareError::CaFile(target.ca_key, path.clone(), error.to_string())
            };
            let mut roots = RootCertStore::empty();
            let certificates =
                CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
            for certificate in certificates {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
            if roots.is_empty() {
                return Err(unusable(&"there are none"));
            }
            builder.with_root_certificates(roots)
        }
    };
    Ok(builder.with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http_body_util::Empty;
    use hyper::body::Bytes;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }

    /// An authority is asked by https alone (RFC 8555 section 6.1), whatever URLs it hands out.
    #[test]
    fn https_does_not_become_http() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let own = server.local_addr().unwrap();
        let home = tempfile::tempdir().unwrap();
        let ca_file = home.path().join("ca.pem");
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        std::fs::write(&ca_file, made.cert.pem()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let is_called = |scheme: &str| {
            let target = Target {
                url_key: "url",
                url: format!("{scheme}://{own}/dir").parse().unwrap(),
                ca_key: "ca_file",
                ca_file: Some(ca_file.clone()),
                timeout: Duration::from_millis(200),
            };
            let client = Client::<Empty<Bytes>>::new(&target).unwrap();
            let request = Request::get(format!("http://{own}/order"));
            let request = request.body(Empty::new()).unwrap();
            assert!(runtime.block_on(client.send(request)).is_err());
            server.accept().is_ok()
        };
        assert!(is_called("http"));
        assert!(!is_called("https"));
    }

    #[test]
    fn a_target_has_a_port() {
        for (url, port) in [
            ("https://ca.example/dir", 443),
            ("http://ca.example", 80),
            ("https://ca.example:14000/dir", 14000),
        ] {
            let target = Target {
                url_key: "url",
                url: url.parse().unwrap(),
                ca_key: "ca_file",
                ca_file: None,
                timeout: Duration::ZERO,
            };
            assert_eq!(target.port(), port);
        }
    }
}
