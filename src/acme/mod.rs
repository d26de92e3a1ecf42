//! Certificates from an authority that speaks ACME (RFC 8555), such as Let's Encrypt.
//!
//! [`Acme::new`] opens every file that is needed, for there are none later but in a directory of its
//! own. Everything else is one task of the runtime that started it: it has one order under way at
//! most, and an authority that is slow, refuses or is not there costs a line in the log and nothing
//! else. Where a certificate goes, and how an authority reaches this server, is not known here.

mod challenge;
mod failure;
mod order;
mod schedule;
mod store;
#[cfg(test)]
mod testing;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use hyper::Uri;
use secrecy::SecretBox;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub use challenge::ChallengeKind;

use crate::https::{PrepareError, Target};
use crate::metrics::Metrics;
use crate::state::Directory;
use crate::tls::{Challenges, Pair};
use challenge::{Shown, Tokens};
use failure::Failure;
use order::{Attempt, Requests};
use schedule::{Next, Stage};
use store::Store;

/// How long one request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);

/// The longest sleep: clocks are set, and machines stand still.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// What is asked of whom.
#[derive(Debug)]
pub struct Settings {
    /// The names of the certificate, one at least; not in upper case.
    pub domains: Vec<String>,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// The directory of the authority: `https:`, with a host.
    pub directory: Uri,
    /// PEM certificates of who signed the directory's; those of the system if there is no file.
    pub ca_file: Option<PathBuf>,
    /// How it looks whether the names are ours.
    pub challenge: ChallengeKind,
    /// An account with it that there is outside of ACME.
    pub external_account: Option<ExternalAccount>,
}

/// An account outside of ACME (RFC 8555 section 7.3.4).
#[derive(Debug)]
pub struct ExternalAccount {
    /// Its name.
    pub key_id: String,
    /// The key of its HMAC.
    pub key: SecretBox<Vec<u8>>,
}

impl fmt::Display for ChallengeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        })
    }
}

impl Settings {
    /// Whom the requests are for.
    pub fn target(&self) -> Target {
        Target {
            url_key: "tls.acme.directory",
            url: self.directory.clone(),
            ca_key: "tls.acme.ca_file",
            ca_file: self.ca_file.clone(),
            timeout: REQUEST_TIME_MAX,
        }
    }
}

/// Who gets certificates.
#[derive(Debug)]
pub struct Acme {
    settings: Settings,
    store: Store,
    requests: Requests,
    tokens: Tokens,
    failures: u32,
    last_stage: Stage,
}

impl Acme {
    /// Reads the files that are needed. The account and the certificates are kept in `directory`.
    ///
    /// # Errors
    /// If they are not there, or not usable.
    pub fn new(settings: Settings, directory: Directory) -> Result<Self, PrepareError> {
        let authority = settings.directory.to_string();
        Ok(Self {
            store: Store::new(directory, &authority, &settings.domains),
            requests: Requests::new(&settings)?,
            settings,
            tokens: Tokens::default(),
            failures: 0,
            last_stage: Stage::Unreached,
        })
    }

    /// The names of the certificate.
    pub fn domains(&self) -> &[String] {
        &self.settings.domains
    }

    /// The directory that is to stay writable.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.store.directory().as_fd()
    }

    /// The file of the certificate and its key, whether or not there is one.
    pub fn file(&self) -> PathBuf {
        self.store.certificate_path()
    }

    /// What answers an authority that looks by HTTP.
    pub fn responder(&self) -> Router {
        self.tokens.router()
    }

    /// The certificate of earlier runs, unless it has expired, or cannot be read: another one is asked
    /// for then, as often as attempts permit it.
    pub fn kept(&self) -> Option<Arc<Pair>> {
        let pair = self.store.certificate().unwrap_or_else(|error| {
            let file = self.file();
            tracing::warn!("ACME: cannot read {} ({error})", file.display());
            None
        })?;
        (pair.not_after_unix_s() > now_unix_s() as i64).then_some(pair)
    }

    /// Begins to look after the certificate, in the runtime of the caller. Each new one is handed to
    /// `take`. Of `challenges` only those of ACME are used.
    pub fn start(
        self,
        metrics: Arc<Metrics>,
        challenges: Arc<Challenges>,
        take: impl Fn(Arc<Pair>) + Send + Sync + 'static,
    ) -> JoinHandle<()> {
        tokio::spawn(self.run(metrics, challenges, take))
    }

    async fn run(
        mut self,
        metrics: Arc<Metrics>,
        challenges: Arc<Challenges>,
        take: impl Fn(Arc<Pair>),
    ) {
        let mut pair = self.kept();
        let told = metrics.acme();
        told.update(|state| {
            state.domains.clone_from(&self.settings.domains);
            state.expires_unix_s = pair.as_ref().map(|pair| pair.not_after_unix_s());
        });
        let mut next = self.next_order(pair.as_deref());
        loop {
            let at = next.unix_s(now_unix_s());
            told.update(|state| state.next_attempt_unix_s = Some(at));
            sleep_until(next).await;
            told.update(|state| state.next_attempt_unix_s = None);
            match self.attempt(&challenges).await {
                Ok(new) => {
                    told.count_success();
                    next = self.next_order(Some(&new));
                    self.tell_success(&new, next);
                    told.update(|state| {
                        state.expires_unix_s = Some(new.not_after_unix_s());
                        state.last_error = None;
                    });
                    take(Arc::clone(&new));
                    pair = Some(new);
                }
                Err(failure) => {
                    told.count_failure();
                    next = self.after_failure(&failure);
                    let left = pair
                        .as_ref()
                        .map(|pair| pair.days_left(now_unix_s() as i64));
                    self.tell_failure(&failure, next, left);
                    told.update(|state| state.last_error = Some(failure.to_string()));
                }
            }
        }
    }

    /// At once if there is no certificate, else with its renewal; as far as earlier attempts permit it,
    /// whether or not they failed: an authority may make certificates of seconds.
    fn next_order(&self, pair: Option<&Pair>) -> Next {
        let (attempts, now) = (self.store.attempts(), now_unix_s());
        let permitted =
            schedule::permitted_unix_s(&attempts.unix_s, attempts.not_before_unix_s, now);
        let wait = Duration::from_secs(permitted.saturating_sub(now));
        Next::order(wait, pair.map_or(0, renewal_of))
    }

    async fn attempt(&self, challenges: &Challenges) -> Result<Arc<Pair>, Failure> {
        let attempt = Attempt {
            settings: &self.settings,
            store: &self.store,
            requests: &self.requests,
            shown: Shown::new(&self.tokens, challenges),
            now_unix_s: now_unix_s(),
        };
        // What an earlier one was told is over.
        self.requests.take_after();
        let pem = attempt.make().await.map_err(|failure| Failure {
            after: self.requests.take_after(),
            ..failure
        })?;
        self.judge(&pem, now_unix_s())?;
        self.store.keep_certificate(&pem).map_err(|error| {
            let file = self.file();
            let why = format!("cannot write {} ({error})", file.display());
            let remedy = "let the user of the server write there";
            Failure::new(Stage::Ordered, why, remedy)
        })
    }

    /// What has come is put in the place of a good certificate only if it is better than nothing for
    /// longer than until the next order.
    fn judge(&self, pem: &[u8], now_unix_s: u64) -> Result<(), Failure> {
        let fail = |what: &str, remedy: &str| {
            let why = format!("the certificate that came {what}");
            Err(Failure::new(Stage::Ordered, why, remedy))
        };
        let of_clock = "look whether the clock of this server is right, or ask the authority";
        match self.store.check(pem) {
            Err(what) => fail(&what, "ask the authority"),
            Ok(pair) if pair.not_after_unix_s() <= now_unix_s as i64 => {
                fail("has expired by the clock of this server", of_clock)
            }
            Ok(pair) if renewal_of(&pair) <= now_unix_s => {
                let what = "is due for renewal already by the clock of this server";
                fail(what, of_clock)
            }
            Ok(_) => Ok(()),
        }
    }

    /// When the next attempt is.
    fn after_failure(&mut self, failure: &Failure) -> Next {
        if self.last_stage != failure.stage {
            self.failures = 0;
            self.last_stage = failure.stage;
        }
        self.failures = self.failures.saturating_add(1);
        if let Some(asked) = failure.after {
            let until = schedule::until_unix_s(asked, now_unix_s());
            // What cannot be written is told of by the next attempt.
            let _ = self.store.note_not_before(until);
        }
        let random = getrandom::u32().expect("the system has random numbers");
        let delay = schedule::delay(failure.stage, self.failures, failure.after, random);
        Next::after_failure(delay)
    }

    fn tell_success(&mut self, pair: &Pair, next: Next) {
        self.failures = 0;
        let names = self.settings.domains.join(", ");
        let days = pair.days_left(now_unix_s() as i64);
        tracing::info!(
            names,
            days,
            renewal_in = after(next),
            "ACME: a certificate has come, and is in force"
        );
    }

    fn tell_failure(&self, failure: &Failure, next: Next, days_left: Option<i64>) {
        let Failure { why, remedy, .. } = failure;
        let directory = self.settings.directory.host().unwrap_or_default();
        let names = self.settings.domains.join(", ");
        let state = match days_left {
            None => "TLS has no certificate of it yet".to_owned(),
            Some(days) => format!("the one in force is good for {days} days"),
        };
        tracing::warn!(
            authority = directory,
            names,
            next_attempt_in = after(next),
            "ACME: no certificate: {why}; {remedy}. {state}"
        );
    }
}

fn renewal_of(pair: &Pair) -> u64 {
    schedule::renewal_unix_s(pair.not_before_unix_s(), pair.not_after_unix_s())
}

/// How long it is until then, for people.
fn after(next: Next) -> String {
    let seconds = next.left(Duration::ZERO, now_unix_s()).as_secs();
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn now_unix_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

async fn sleep_until(next: Next) {
    let began = Instant::now();
    loop {
        let left = next.left(began.elapsed(), now_unix_s());
        if left.is_zero() {
            return;
        }
        sleep(left.min(SLEEP_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    fn acme(home: &tempfile::TempDir) -> Acme {
        let settings = Settings {
            directory: "http://127.0.0.1/dir".parse().unwrap(),
            ..testing::settings()
        };
        let directory = Directory::open(home.path().join("acme"), None).unwrap();
        Acme::new(settings, directory).unwrap()
    }

    /// ACME-04: three orders an hour are all there are, those that succeed included.
    #[test]
    fn success_makes_no_loop_of_orders() {
        let home = tempfile::tempdir().unwrap();
        let acme = acme(&home);
        let made =
            Authority::new().issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, &["a.example"], -9, -8);
        let due = made.pair();
        for waits in [false, false, true, true] {
            acme.store.note_attempt(now_unix_s()).unwrap();
            let next = acme.next_order(Some(&due));
            let left = next.left(Duration::ZERO, now_unix_s());
            assert_eq!(left > Duration::from_secs(1800), waits, "{left:?}");
        }
    }

    /// ACME-04: it would be asked for again at once, and for ever.
    #[test]
    fn a_certificate_that_is_due_when_it_comes_is_a_failure() {
        let home = tempfile::tempdir().unwrap();
        let acme = acme(&home);
        let made = Authority::new().issue(&["turn.example.org"]);
        let pem = format!("{}{}", made.key, made.cert).into_bytes();
        let pair = acme.store.check(&pem).unwrap();
        let (due, end) = (renewal_of(&pair), pair.not_after_unix_s() as u64);
        assert!(acme.judge(&pem, due - 1).is_ok());
        for (now, why) in [
            (due, "is due for renewal already"),
            (end - 1, "is due for renewal already"),
            (end, "has expired"),
        ] {
            let failure = acme.judge(&pem, now).unwrap_err();
            assert!(failure.why.contains(why), "{failure}");
            assert!(failure.remedy.contains("clock"), "{failure}");
            assert_eq!(failure.stage, Stage::Ordered);
        }
    }
}
