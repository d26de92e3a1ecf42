//! Who asks: by which key, from which page, and how often.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use secrecy::ExposeSecret;
use subtle::{ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroizing;

use super::limit::Limiter;
use super::{ADDRESS_RATE, Error, KEY_RATE, Service};
use crate::admin::Remote;
use crate::config::ApiKey;

const SCHEME: &[u8] = b"Bearer ";

/// Who has proven to have a key.
pub(super) struct Caller<'a> {
    pub(super) key: &'a ApiKey,
}

/// Everybody who may ask.
#[derive(Debug)]
pub(super) struct Callers {
    keys: Vec<ApiKey>,
    by_key: Mutex<Limiter<usize>>,
    by_address: Mutex<Limiter<IpAddr>>,
}

impl Callers {
    pub(super) fn new(keys: Vec<ApiKey>) -> Self {
        Self {
            keys,
            by_key: Mutex::new(Limiter::new(KEY_RATE)),
            by_address: Mutex::new(Limiter::new(ADDRESS_RATE)),
        }
    }

    /// Whether pages of this origin may ask with any of the keys.
    pub(super) fn are_of(&self, origin: &HeaderValue) -> bool {
        self.keys.iter().any(|key| is_of(key, origin))
    }

    /// The key of a request, which must be the one with this id if there is one.
    pub(super) fn authenticate(
        &self,
        request: &Request,
        id: Option<&str>,
    ) -> Result<Caller<'_>, Error> {
        let given = given_key(request);
        let place = given.as_deref().and_then(|given| self.find(given));
        let place = place.filter(|&place| id.is_none_or(|id| id == self.keys[place].id));
        let Some(place) = place else {
            return Err(Error::new(
                StatusCode::UNAUTHORIZED,
                "the key is missing or wrong; send Authorization: Bearer KEY",
            ));
        };
        let key = &self.keys[place];
        if let Some(origin) = request.headers().get(ORIGIN)
            && !is_of(key, origin)
        {
            let text = "pages of this origin may not use the key; add it to the key's origins";
            return Err(Error::new(StatusCode::FORBIDDEN, text));
        }
        let mut limiter = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if !limiter.admits(place, Instant::now()) {
            return Err(too_often());
        }
        Ok(Caller { key })
    }

    /// Compares with every key, so that time does not tell which one is nearly right.
    fn find(&self, given: &[u8]) -> Option<usize> {
        let mut found = u64::MAX;
        for (place, key) in self.keys.iter().enumerate() {
            let is_it = given.ct_eq(key.key.expose_secret().as_bytes());
            found.conditional_assign(&(place as u64), is_it);
        }
        usize::try_from(found)
            .ok()
            .filter(|place| *place < self.keys.len())
    }

    /// Whether a request may be looked at. One with a key has the rate of its key: behind a proxy all
    /// requests are of one address, and strangers must not use up what callers need.
    fn admits(&self, request: &Request, from: IpAddr) -> bool {
        let key = given_key(request).and_then(|given| self.find(&given));
        key.is_some() || self.admits_stranger(from)
    }

    fn admits_stranger(&self, from: IpAddr) -> bool {
        let mut limiter = self
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        limiter.admits(subscriber(from), Instant::now())
    }
}

fn is_of(key: &ApiKey, origin: &HeaderValue) -> bool {
    key.origins.iter().any(|known| known.as_bytes() == origin)
}

/// The header's, or else the query's, which some clients cannot do without.
fn given_key(request: &Request) -> Option<Zeroizing<Vec<u8>>> {
    if let Some(value) = request.headers().get(AUTHORIZATION) {
        // The name of the scheme is in any case (RFC 9110 §11.1).
        let (scheme, key) = value.as_bytes().split_at_checked(SCHEME.len())?;
        let is_bearer = scheme.eq_ignore_ascii_case(SCHEME);
        return is_bearer.then(|| Zeroizing::new(key.to_vec()));
    }
    let query = request.uri().query()?.as_bytes();
    let (_, key) = form_urlencoded::parse(query).find(|(name, _)| name == "key")?;
    Some(Zeroizing::new(key.into_owned().into_bytes()))
}

/// A whole IPv6 network is one subscriber's.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

fn too_often() -> Error {
    let text = "too many requests; ask again in a second";
    Error::new(StatusCode::TOO_MANY_REQUESTS, text)
}

/// Refuses strangers that ask too often.
pub(super) async fn limit(
    State(service): State<Arc<Service>>,
    request: Request,
    next: Next,
) -> Response {
    let from = request.extensions().get::<Option<Remote>>();
    let from = from.and_then(|from| from.map(|Remote(address)| address.ip()));
    if from.is_some_and(|from| !service.callers.admits(&request, from)) {
        return too_often().into_response();
    }
    next.run(request).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, key: &str) -> ApiKey {
        ApiKey {
            id: id.to_owned(),
            key: key.into(),
            max_ttl_s: 600,
            origins: vec![],
        }
    }

    fn callers() -> Callers {
        Callers::new(vec![
            key("one", "key-of-the-first"),
            key("two", "key-of-the-second"),
        ])
    }

    /// CRED-02
    #[test]
    fn only_the_very_keys() {
        let callers = callers();
        assert_eq!(callers.find(b"key-of-the-first"), Some(0));
        assert_eq!(callers.find(b"key-of-the-second"), Some(1));
        for wrong in ["", "key-of-the-", "key-of-the-first ", "Key-of-the-first"] {
            assert_eq!(callers.find(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    /// CRED-08: the last request that a key has, and the first that it has not.
    #[test]
    fn a_key_has_a_rate() {
        let callers = callers();
        let ask = |query: &str| {
            let request = Request::builder().uri(format!("/?{query}"));
            let request = request.body(axum::body::Body::empty()).unwrap();
            callers
                .authenticate(&request, None)
                .map(|caller| caller.key.id.clone())
        };
        // Time goes by meanwhile, in which the budget fills again.
        let start = Instant::now();
        let mut admitted = 0;
        while ask("key=key-of-the-first").is_ok() {
            admitted += 1;
        }
        let filled = start.elapsed().as_secs_f64() * f64::from(KEY_RATE.per_s);
        assert!(admitted >= KEY_RATE.burst);
        assert!(f64::from(admitted - KEY_RATE.burst) <= filled);
        assert_eq!(ask("key=key-of-the-second").unwrap(), "two");
    }

    #[test]
    fn an_ipv6_network_is_one_sender() {
        let of = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2:3:4"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
