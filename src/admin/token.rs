//! The bearer token (RFC 6750 §2.1) of those who do not come over the Unix socket.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use super::api::Error;

/// What an operator has to know. Clones are the same.
#[derive(Clone, Debug)]
pub struct Token(Arc<RwLock<SecretString>>);

impl Token {
    /// This token.
    pub fn new(token: SecretString) -> Self {
        Self(Arc::new(RwLock::new(token)))
    }

    /// From here on another one counts.
    pub fn replace(&self, token: SecretString) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    fn is_in(&self, headers: &HeaderMap) -> bool {
        let token = self.0.read().unwrap_or_else(PoisonError::into_inner);
        knows(headers, &token)
    }
}

/// Lets nobody through to a router who does not know the token.
pub fn require_token(router: Router, token: Token) -> Router {
    router.layer(from_fn(move |request: Request, next: Next| {
        let is_known = token.is_in(request.headers());
        async move {
            if is_known {
                next.run(request).await
            } else {
                refusal()
            }
        }
    }))
}

fn knows(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    // The name of the scheme is in any case (RFC 9110 §11.1).
    let given = given.and_then(|value| match value.split_at_checked(SCHEME.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(SCHEME) => Some(rest),
        _ => None,
    });
    given.is_some_and(|given| given.ct_eq(token.expose_secret().as_bytes()).into())
}

const SCHEME: &[u8] = b"Bearer ";

fn refusal() -> Response {
    let error = Error::new(
        StatusCode::UNAUTHORIZED,
        "the token is missing or wrong; send Authorization: Bearer TOKEN",
    );
    let challenge = [(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (challenge, error).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ADM-05
    #[test]
    fn only_the_very_token_is_let_through() {
        let token = SecretString::from("correct-horse-battery");
        let knows = |value: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(AUTHORIZATION, value.parse().unwrap());
            }
            knows(&headers, &token)
        };
        assert!(knows(Some("Bearer correct-horse-battery")));
        assert!(knows(Some("bearer correct-horse-battery")));
        for wrong in [
            "correct-horse-battery",
            "Basic correct-horse-battery",
            "Bearer",
            "Bearer ",
            "Bearer correct-horse-batter",
            "Bearer correct-horse-battery ",
            "Bearer correct-horse-batterY",
        ] {
            assert!(!knows(Some(wrong)), "{wrong:?}");
        }
        assert!(!knows(None));
    }
}
