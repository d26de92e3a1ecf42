//! One attempt to get a certificate.

use std::error::Error as StdError;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::RETRY_AFTER;
use hyper::{Request, Response, StatusCode};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType,
    Error, ExternalAccountKey, HttpClient, Identifier, NewAccount, NewOrder, Order, OrderStatus,
    Problem, RetryPolicy,
};
use secrecy::ExposeSecret;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::challenge::Shown;
use super::failure::{Failure, told};
use super::schedule::Stage;
use super::store::{KeptAccount, Store};
use super::{ChallengeKind, Settings};
use crate::https::{self, SendError, retry_after};

/// Bytes of a response's body at most: a chain of ten certificates has less than a tenth.
const BODY_BYTES_MAX: usize = 1 << 20;

/// How long an order may take, from the first request to the certificate.
pub(super) const ORDER_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// How often an order is looked at that is under way, and for how long.
const LOOKS: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(500))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// The requests of the library, with bounds that it does not have.
#[derive(Clone, Debug)]
pub(super) struct Requests {
    client: Arc<https::Client<BodyWrapper<Bytes>>>,
    body_time: Duration,
    after: Arc<Mutex<Option<Duration>>>,
}

impl Requests {
    pub(super) fn new(settings: &Settings) -> Result<Self, https::PrepareError> {
        let target = settings.target();
        Ok(Self {
            client: Arc::new(https::Client::new(&target)?),
            body_time: target.timeout,
            after: Arc::default(),
        })
    }

    /// How long the authority wants to be left alone, by its last refusal.
    pub(super) fn take_after(&self) -> Option<Duration> {
        self.after
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn note_refusal(&self, response: &Response<Incoming>) {
        let refusals = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::SERVICE_UNAVAILABLE,
        ];
        if refusals.contains(&response.status()) {
            let value = response.headers().get(RETRY_AFTER);
            let after = value.and_then(|it| retry_after(it.to_str().ok()?, SystemTime::now()));
            *self.after.lock().unwrap_or_else(PoisonError::into_inner) = after;
        }
    }

    async fn send(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: Box<dyn StdError + Send + Sync>| Error::Other(error);
        let response = self.client.send(request).await;
        let response = response.map_err(|error| other(error.into()))?;
        self.note_refusal(&response);
        let (parts, body) = response.into_parts();
        let body = timeout(self.body_time, Limited::new(body, BODY_BYTES_MAX).collect()).await;
        let body = body.map_err(|_| other(SendError::TimedOut(self.body_time).into()))?;
        let bytes = body.map_err(other)?.to_bytes();
        if !parts.status.is_success() && serde_json::from_slice::<Problem>(&bytes).is_err() {
            // A proxy, or a web server at the wrong path: what the library would tell is that it
            // cannot parse JSON.
            return Err(other(format!("it answers {}", parts.status).into()));
        }
        Ok(BytesResponse {
            parts,
            body: Box::new(bytes),
        })
    }
}

impl HttpClient for Requests {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().send(request))
    }
}

/// What an attempt needs.
pub(super) struct Attempt<'a> {
    pub(super) settings: &'a Settings,
    pub(super) store: &'a Store,
    pub(super) requests: &'a Requests,
    pub(super) shown: Shown<'a>,
    pub(super) now_unix_s: u64,
}

impl Attempt<'_> {
    /// Gets a certificate. Returns it after its key, as PEM.
    pub(super) async fn make(self) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut stage = Stage::Unreached;
        match timeout(ORDER_TIME_MAX, self.order(&mut stage)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = format!("no certificate within {} s", ORDER_TIME_MAX.as_secs());
                Err(Failure::new(
                    stage,
                    why,
                    "nothing is to be done if it happens once",
                ))
            }
        }
    }

    async fn order(&self, stage: &mut Stage) -> Result<Zeroizing<Vec<u8>>, Failure> {
        // Before an account or an order is asked for: however this process ends, it counts, and an
        // answer that cannot be kept is not asked for.
        let kept = self.store.account();
        let account = match kept.map_err(|error| self.cannot_read(&error))? {
            Some(kept) => {
                let account = self.known_account(kept).await?;
                self.note()?;
                account
            }
            None => {
                self.note()?;
                self.new_account().await?
            }
        };
        *stage = Stage::Ordered;
        let failed = |error: Error| Failure::of(&error, Stage::Ordered, self.settings);
        let domains = self.settings.domains.iter();
        let identifiers: Vec<_> = domains.cloned().map(Identifier::Dns).collect();
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        let mut order = match order {
            Err(Error::Api(problem)) if is_unknown_account(&problem) => {
                return Err(self.forget_account());
            }
            order => order.map_err(failed)?,
        };
        self.prove(&mut order).await?;
        match order.poll_ready(&LOOKS).await {
            Ok(OrderStatus::Ready) => {}
            Ok(status) => {
                let why = format!("the order is {status:?}");
                let failure = Failure::new(Stage::Ordered, why, "look for the reason in the text");
                return Err(self.reason(&mut order).await.unwrap_or(failure));
            }
            Err(error) => {
                return Err(self
                    .reason(&mut order)
                    .await
                    .unwrap_or_else(|| failed(error)));
            }
        }
        let key = Zeroizing::new(order.finalize().await.map_err(failed)?);
        let chain = order.poll_certificate(&LOOKS).await.map_err(failed)?;
        Ok(Zeroizing::new([key.as_bytes(), chain.as_bytes()].concat()))
    }

    fn note(&self) -> Result<(), Failure> {
        let noted = self.store.note_attempt(self.now_unix_s);
        noted.map_err(|error| self.cannot_write(&error))
    }

    async fn known_account(&self, kept: KeptAccount) -> Result<Account, Failure> {
        let builder = Account::builder_with_http(Box::new(self.requests.clone()));
        let account = builder.from_credentials(kept.credentials).await;
        let account =
            account.map_err(|error| Failure::of(&error, Stage::Unreached, self.settings))?;
        if kept.email != self.settings.email {
            self.tell_contact(&account).await?;
        }
        Ok(account)
    }

    async fn new_account(&self) -> Result<Account, Failure> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = self.settings.external_account.as_ref();
        let binding =
            binding.map(|it| ExternalAccountKey::new(it.key_id.clone(), it.key.expose_secret()));
        let directory = self.settings.directory.to_string();
        let builder = Account::builder_with_http(Box::new(self.requests.clone()));
        let made = builder.create(&new, directory, binding.as_ref()).await;
        let (account, credentials) = made.map_err(|error| {
            if is_unconnected(&error) {
                // Nothing was asked for. If this cannot be written the next start waits for longer.
                let _ = self.store.forget_attempt(self.now_unix_s);
            }
            Failure::of(&error, Stage::Unreached, self.settings)
        })?;
        self.keep(credentials)?;
        tracing::info!(
            id = told(account.id()),
            "ACME: an account was made, and the terms of the authority agreed to"
        );
        Ok(account)
    }

    fn contact(&self) -> Option<String> {
        let email = self.settings.email.as_ref();
        email.map(|email| format!("mailto:{email}"))
    }

    /// Has the authority write to somebody else.
    async fn tell_contact(&self, account: &Account) -> Result<(), Failure> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        match account.update_contacts(&contact).await {
            Err(Error::Api(problem)) if is_unknown_account(&problem) => {
                return Err(self.forget_account());
            }
            told => told.map_err(|error| Failure::of(&error, Stage::Unreached, self.settings))?,
        }
        let kept = self.store.account();
        match kept.map_err(|error| self.cannot_read(&error))? {
            Some(kept) => self.keep(kept.credentials),
            None => Ok(()),
        }
    }

    fn keep(&self, credentials: AccountCredentials) -> Result<(), Failure> {
        let kept = self.store.keep_account(&KeptAccount {
            email: self.settings.email.clone(),
            credentials,
        });
        kept.map_err(|error| self.cannot_write(&error))
    }

    fn forget_account(&self) -> Failure {
        let why = "the authority does not know it";
        self.store.forget_account(why);
        let remedy = "a new one is made with the next attempt";
        Failure::new(Stage::Unreached, format!("the account: {why}"), remedy)
    }

    fn cannot_read(&self, error: &io::Error) -> Failure {
        let path = self.store.directory().path("");
        let why = format!("cannot read the account in {} ({error})", path.display());
        let remedy = "let the user of the server read it";
        Failure::new(Stage::Unreached, why, remedy)
    }

    /// What cannot be kept is not asked for: each start would ask again.
    fn cannot_write(&self, error: &io::Error) -> Failure {
        let path = self.store.directory().path("");
        let why = format!("cannot write in {} ({error})", path.display());
        let remedy = "let the user of the server write there, and look whether the disk is full";
        Failure::new(Stage::Unreached, why, remedy)
    }

    /// Shows what the authority looks for, for every name that it wants proved.
    async fn prove(&self, order: &mut Order) -> Result<(), Failure> {
        let failed = |error: Error| Failure::of(&error, Stage::Ordered, self.settings);
        let kind = self.settings.challenge;
        let wanted = match kind {
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Http01 => ChallengeType::Http01,
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(failed)?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let Some(mut challenge) = authorization.challenge(wanted.clone()) else {
                let why = format!("{domain}: the authority does not offer {kind}");
                let remedy = "set tls.acme.challenge to the other one";
                return Err(Failure::new(Stage::Ordered, why, remedy));
            };
            let shown = self.shown.show(
                kind,
                &domain,
                &challenge.token,
                &challenge.key_authorization(),
            );
            shown.map_err(|error| {
                let remedy = "look whether the name is a domain name";
                Failure::new(Stage::Ordered, format!("{domain}: {error}"), remedy)
            })?;
            challenge.set_ready().await.map_err(failed)?;
        }
        Ok(())
    }

    /// What the authority did not like, by the first name that has something.
    async fn reason(&self, order: &mut Order) -> Option<Failure> {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            let domain = authorization.identifier().to_string();
            let state = authorization.refresh().await.ok()?;
            let problem = state.challenges.iter().find_map(|it| it.error.as_ref());
            if let Some(problem) = problem {
                return Some(Failure::of_problem(problem, Some(&domain), self.settings));
            }
        }
        None
    }
}

/// Whether the request did not get as far as the authority.
fn is_unconnected(error: &Error) -> bool {
    match error {
        Error::Other(other) => other
            .downcast_ref::<SendError>()
            .is_some_and(SendError::is_unconnected),
        _ => false,
    }
}

fn is_unknown_account(problem: &Problem) -> bool {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.ends_with(":accountDoesNotExist")
}
