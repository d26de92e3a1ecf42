//! One attempt to send a batch: a request on a connection of its own, within one deadline.

use std::error::Error;
use std::fmt::{self, Write};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tower_service::Service;

use super::queue::Batch;
use super::signature::{self, Signer};
use super::{PrepareError, Settings};

/// Bytes of a response's head. Longer ones are an error.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Bytes of a response's body that are taken, and thrown away, so that the receiver is not cut off
/// while it writes; and how long that may take.
const BODY_BYTES_MAX: usize = 16 << 10;
const BODY_TIME_MAX: Duration = Duration::from_secs(1);

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The receiver has it.
    Accepted,
    /// The receiver does not want it, now and later.
    Refused(StatusCode),
    /// It may be tried again, not before a time if the receiver names one.
    Failed(String, Option<Duration>),
}

/// Who sends.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    url: Uri,
    signer: Signer,
    timeout: Duration,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path may be a secret.
        write!(f, "Client({})", self.receiver())
    }
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, PrepareError> {
        let is_tls = settings.url.scheme_str() == Some("https");
        let is_name = settings.url.host().is_some_and(|host| {
            let ip = host.trim_start_matches('[').trim_end_matches(']');
            ip.parse::<std::net::IpAddr>().is_err()
        });
        let resolver = is_name.then(Resolver::of_system).transpose()?;
        let mut connector = HttpConnector::new_with_resolver(resolver.unwrap_or_default());
        connector.enforce_http(false);
        connector.set_connect_timeout(Some(settings.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(settings, is_tls)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        // A batch a second at most in quiet times: a connection that is kept would mostly be found
        // closed.
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(connector);
        Ok(Self {
            http,
            url: settings.url.clone(),
            signer: Signer::new(settings.secret.clone()),
            timeout: settings.timeout,
        })
    }

    /// What it signs with.
    pub(super) fn signer(&self) -> Signer {
        self.signer.clone()
    }

    /// The receiver, as logs may name it.
    pub(super) fn receiver(&self) -> &str {
        self.url.authority().map_or("", |host| host.as_str())
    }

    /// Sends a batch once.
    pub(super) async fn send(&self, batch: &Batch) -> Answer {
        let request = match self.request(batch) {
            Ok(request) => request,
            Err(error) => return Answer::Failed(error.to_string(), None),
        };
        match timeout(self.timeout, self.http.request(request)).await {
            Ok(Ok(response)) => judge(response).await,
            Ok(Err(error)) => Answer::Failed(with_causes(&error), None),
            Err(_) => {
                let seconds = self.timeout.as_secs_f32();
                Answer::Failed(format!("no answer within {seconds} s"), None)
            }
        }
    }

    fn request(&self, batch: &Batch) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_s = now.map_or(0, |now| now.as_secs());
        Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .header(USER_AGENT, concat!("turnstone/", env!("CARGO_PKG_VERSION")))
            .header("idempotency-key", &batch.id)
            .header(signature::HEADER, self.signer.sign(unix_s, &batch.body))
            .body(Full::new(batch.body.clone()))
    }
}

/// What a response means. Redirects are not followed: they would take the events elsewhere than the
/// operator wrote.
async fn judge(response: Response<Incoming>) -> Answer {
    let status = response.status();
    let after = response.headers().get(RETRY_AFTER);
    let after = after.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect();
    // Whatever it says, and whether or not it ends: the status was the answer.
    let _ = timeout(BODY_TIME_MAX, body).await;
    match status {
        status if status.is_success() => Answer::Accepted,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Answer::Failed(format!("answered {status}"), after)
        }
        status if status.is_client_error() || status.is_redirection() => Answer::Refused(status),
        status => Answer::Failed(format!("answered {status}"), after),
    }
}

/// Seconds, or a date (RFC 9110 section 10.2.3).
fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
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
fn tls(settings: &Settings, is_needed: bool) -> Result<ClientConfig, PrepareError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3");
    let builder = match &settings.ca_file {
        _ if !is_needed => builder.with_root_certificates(RootCertStore::empty()),
        None => builder
            .with_native_roots()
            .map_err(|error| PrepareError::NoRoots(error.to_string()))?,
        Some(path) => {
            let unusable =
                |error: &dyn fmt::Display| PrepareError::CaFile(path.clone(), error.to_string());
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

/// Resolves names without a file: those of `/etc/hosts` and the servers of `/etc/resolv.conf` are
/// read when it is made.
#[derive(Clone, Default)]
struct Resolver(Option<TokioResolver>);

impl Resolver {
    fn of_system() -> Result<Self, PrepareError> {
        let unusable = |error: &dyn fmt::Display| PrepareError::Resolver(error.to_string());
        let mut builder = TokioResolver::builder_tokio().map_err(|error| unusable(&error))?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        // Truncated answers would need TCP, which is closed: have long ones come whole.
        options.edns0 = true;
        builder
            .build()
            .map(|resolver| Self(Some(resolver)))
            .map_err(|error| unusable(&error))
    }
}

type Resolved = Result<std::vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Resolved> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or("there is no resolver")?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
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
}
