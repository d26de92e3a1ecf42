//! One attempt to send a batch: a request on a connection of its own, within one deadline.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::time::timeout;

use super::Settings;
use super::queue::Batch;
use super::signature::{self, Signer};
use crate::https::{self, PrepareError, retry_after};

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
    https: https::Client<Full<Bytes>>,
    url: Uri,
    signer: Signer,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path may be a secret.
        write!(f, "Client({})", self.receiver())
    }
}

impl Client {
    pub(super) fn new(settings: &Settings) -> Result<Self, PrepareError> {
        Ok(Self {
            https: https::Client::new(&settings.target())?,
            url: settings.url.clone(),
            signer: Signer::new(settings.secret.clone()),
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
        match self.https.send(request).await {
            Ok(response) => judge(response).await,
            Err(error) => Answer::Failed(error.to_string(), None),
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
