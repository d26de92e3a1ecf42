//! The credential service: time-limited credentials for who has a key, in the shapes that back ends
//! and browsers know. docs/credentials.md has every endpoint.

mod caller;
mod issue;
mod limit;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRef, FromRequest, Request, State};
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use issue::{Issuer, USER_LEN_MAX};
pub use limit::{Rate, SENDERS_MAX};

use super::api::error::{unknown_path, wrong_method};
use super::api::input::{Body, Named, Parameters};
use super::api::{BODY_LEN_MAX, Error};
use crate::config;
use caller::{Caller, Callers};
use issue::Credentials;

/// What one address may ask without a key that is known, of IPv6 one /64.
pub const ADDRESS_RATE: Rate = Rate {
    per_s: 50,
    burst: 100,
};

/// What may be asked with one key, from wherever.
pub const KEY_RATE: Rate = Rate {
    per_s: 200,
    burst: 400,
};

/// The life of credentials that are asked for without one, in seconds; less if the key allows less.
const TTL_S_DEFAULT: u32 = 86_400;

/// How long browsers may remember what a page may ask.
const PREFLIGHT_TIME: Duration = Duration::from_secs(600);

/// The address of the service cannot be had.
#[derive(Debug)]
pub struct BindError {
    address: SocketAddr,
    error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot listen for those who ask for credentials on {}: {}; set credentials.listen to \
             another address, or to \"\" for none",
            self.address, self.error
        )
    }
}

impl std::error::Error for BindError {}

/// Binds the listener, if the service is configured.
///
/// # Errors
/// If the address cannot be had.
pub fn bind(service: &config::CredentialService) -> Result<Option<TcpListener>, BindError> {
    let listen = service
        .listen
        .map(|address| TcpListener::bind(address).map_err(|error| BindError { address, error }));
    listen.transpose()
}

/// What the endpoints work with.
#[derive(Debug)]
struct Service {
    /// None after a reload that left nothing to issue them with; then there are no keys either.
    issuer: Option<Issuer>,
    callers: Callers,
}

/// The service that runs. Clones are the same.
#[derive(Clone, Debug)]
pub struct Desk(Arc<RwLock<Arc<Service>>>);

impl FromRef<Desk> for Arc<Service> {
    fn from_ref(desk: &Desk) -> Self {
        desk.current()
    }
}

impl Desk {
    /// Issues these credentials to who has one of these keys.
    pub fn new(issuer: Option<Issuer>, keys: Vec<config::ApiKey>) -> Self {
        Self(Arc::new(RwLock::new(Service::new(issuer, keys))))
    }

    /// From here on other credentials are issued, or to others. What is being answered goes on.
    pub fn replace(&self, issuer: Option<Issuer>, keys: Vec<config::ApiKey>) {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Service::new(issuer, keys);
    }

    fn current(&self) -> Arc<Service> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every endpoint.
    pub fn router(&self) -> Router {
        let desk = self.clone();
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(move |origin, _| {
                // A preflight request has no key. Whether the page may use the key is asked
                // afterwards.
                desk.current().callers.are_of(origin)
            }))
            .allow_methods([Method::GET, Method::POST])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE])
            .max_age(PREFLIGHT_TIME);
        Router::new()
            .route("/", get(rest_api))
            .route("/ice-servers", get(ice_servers))
            .route(
                "/v1/turn/keys/{id}/credentials/generate-ice-servers",
                post(generate_ice_servers),
            )
            .route("/v1/turn/keys/{id}/credentials/generate", post(generate))
            .fallback(unknown_path)
            .method_not_allowed_fallback(wrong_method)
            .layer(from_fn_with_state(self.clone(), caller::limit))
            .layer(cors)
            .layer(map_response(complete))
            .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
            .with_state(self.clone())
    }
}

/// Nobody on the way may keep credentials, and who is refused is told what to do.
async fn complete(mut response: Response) -> Response {
    let remedy = match response.status() {
        StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, "Bearer")),
        StatusCode::TOO_MANY_REQUESTS => Some((RETRY_AFTER, "1")),
        _ => None,
    };
    let fields = [Some((CACHE_CONTROL, "no-store")), remedy];
    for (name, value) in fields.into_iter().flatten() {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// The query of the endpoints with GET. `key` is read with the header's.
#[derive(Deserialize)]
struct Query {
    service: Option<String>,
    username: Option<String>,
    ttl: Option<u32>,
}

impl Service {
    fn new(issuer: Option<Issuer>, keys: Vec<config::ApiKey>) -> Arc<Self> {
        let callers = Callers::new(keys);
        Arc::new(Self { issuer, callers })
    }

    fn issue(
        &self,
        caller: &Caller<'_>,
        user: Option<&str>,
        ttl: Option<u32>,
    ) -> Result<Credentials<'_>, Error> {
        let max = caller.key.max_ttl_s;
        let ttl_s = ttl.unwrap_or_else(|| TTL_S_DEFAULT.min(max));
        if !(1..=max).contains(&ttl_s) {
            let text = format!("ttl: {ttl_s} is not 1 to {max} seconds, which this key allows");
            return Err(Error::bad_request(text));
        }
        let issuer = self.issuer.as_ref().expect("there is no key without it");
        let credentials = issuer.issue(user, ttl_s, unix_s())?;
        tracing::debug!(
            key = caller.key.id,
            username = credentials.username,
            "credentials issued"
        );
        Ok(credentials)
    }

    fn issue_for_query(
        &self,
        caller: &Caller<'_>,
        query: &Query,
    ) -> Result<Credentials<'_>, Error> {
        match query.service.as_deref() {
            None | Some("turn") => {}
            Some(other) => {
                let text = format!("service: there is no {other:?}; write turn");
                return Err(Error::bad_request(text));
            }
        }
        self.issue(caller, query.username.as_deref(), query.ttl)
    }
}

/// `GET /?service=turn` of draft-uberti-behave-turn-rest.
async fn rest_api(
    State(service): State<Arc<Service>>,
    Parameters(query): Parameters<Query>,
    request: Request,
) -> Result<Response, Error> {
    let caller = service.callers.authenticate(&request, None)?;
    let credentials = service.issue_for_query(&caller, &query)?;
    Ok(Json(credentials).into_response())
}

/// The array that an `RTCPeerConnection` takes as `iceServers`.
async fn ice_servers(
    State(service): State<Arc<Service>>,
    Parameters(query): Parameters<Query>,
    request: Request,
) -> Result<Response, Error> {
    let caller = service.callers.authenticate(&request, None)?;
    let credentials = service.issue_for_query(&caller, &query)?;
    Ok(Json([credentials.ice_server()]).into_response())
}

/// The body of Cloudflare's endpoints, of which further fields are for others.
#[derive(Deserialize)]
struct Generate {
    ttl: Option<u32>,
    #[serde(rename = "customIdentifier")]
    custom_identifier: Option<String>,
}

#[derive(Serialize)]
struct IceServers<T> {
    #[serde(rename = "iceServers")]
    ice_servers: T,
}

/// Cloudflare's endpoint whose answer has a list.
async fn generate_ice_servers(
    State(service): State<Arc<Service>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Error> {
    let credentials = service.generate(&id, request).await?;
    let ice_servers = [credentials.ice_server()];
    Ok((StatusCode::CREATED, Json(IceServers { ice_servers })).into_response())
}

/// Its older one, whose answer has one server.
async fn generate(
    State(service): State<Arc<Service>>,
    Named(id): Named,
    request: Request,
) -> Result<Response, Error> {
    let credentials = service.generate(&id, request).await?;
    let ice_servers = credentials.ice_server();
    Ok((StatusCode::CREATED, Json(IceServers { ice_servers })).into_response())
}

impl Service {
    async fn generate(&self, id: &str, request: Request) -> Result<Credentials<'_>, Error> {
        let caller = self.callers.authenticate(&request, Some(id))?;
        let Body(Generate {
            ttl,
            custom_identifier,
        }) = Body::from_request(request, &()).await?;
        self.issue(&caller, custom_identifier.as_deref(), ttl)
    }
}

fn unix_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CRED-09: a secret that was removed makes no credentials any more, nor does a key's owner get
    /// any.
    #[test]
    fn the_newest_secret_and_keys_count() {
        let issuer = |secret: &str| Issuer {
            secret: secret.into(),
            separator: ':',
            uris: vec![],
        };
        let key = |key: &str| config::ApiKey {
            id: "one".to_owned(),
            key: key.into(),
            max_ttl_s: 600,
            origins: vec![],
        };
        let password = |desk: &Desk, key: &str| {
            let request = Request::builder().uri(format!("/?key={key}"));
            let request = request.body(axum::body::Body::empty()).unwrap();
            let service = desk.current();
            let caller = service.callers.authenticate(&request, None).ok()?;
            let credentials = service.issue(&caller, None, None).unwrap();
            Some((credentials.username.clone(), credentials.password.clone()))
        };
        let desk = Desk::new(Some(issuer("north")), vec![key("the-first-key")]);
        let (name, made) = password(&desk, "the-first-key").unwrap();
        assert_eq!(made, crate::auth::rest_password("north", name.as_bytes()));
        desk.replace(Some(issuer("south")), vec![key("the-second-key")]);
        assert_eq!(password(&desk, "the-first-key"), None);
        let (name, made) = password(&desk, "the-second-key").unwrap();
        assert_eq!(made, crate::auth::rest_password("south", name.as_bytes()));
    }
}
