//! What an authority finds where it looks whether a name is ours: while it is looked for, and nothing
//! afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use instant_acme::KeyAuthorization;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};

use crate::tls::Challenges;

/// How an authority looks whether a name is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChallengeKind {
    /// By TLS at port 443 (RFC 8737).
    TlsAlpn01,
    /// By HTTP at port 80 (RFC 8555 section 8.3).
    Http01,
}

impl ChallengeKind {
    /// The port that the authority connects to.
    pub const fn port(self) -> u16 {
        match self {
            Self::TlsAlpn01 => 443,
            Self::Http01 => 80,
        }
    }
}

/// Tokens that are asked for by HTTP, with their answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Tokens(Arc<Mutex<Vec<(String, String)>>>);

impl Tokens {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, String)>> {
        // Every change leaves it good, whatever panics elsewhere.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers to who looks for a token, and to nobody else.
    pub(super) fn router(&self) -> Router {
        let path = "/.well-known/acme-challenge/{token}";
        Router::new()
            .route(path, get(answer))
            .with_state(self.clone())
    }
}

async fn answer(State(tokens): State<Tokens>, Path(token): Path<String>) -> Response {
    let answer = tokens
        .lock()
        .iter()
        .find_map(|(known, answer)| (*known == token).then(|| answer.clone()));
    match answer {
        Some(answer) => ([(CONTENT_TYPE, "application/octet-stream")], answer).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What is shown while an order is under way; nothing is any more when it is dropped.
#[derive(Debug)]
pub(super) struct Shown<'a> {
    tokens: &'a Tokens,
    challenges: &'a Challenges,
}

impl<'a> Shown<'a> {
    pub(super) const fn new(tokens: &'a Tokens, challenges: &'a Challenges) -> Self {
        Self { tokens, challenges }
    }

    /// Shows that we have the key of the account that a token was given to.
    ///
    /// # Errors
    /// If no certificate can be made for the name.
    pub(super) fn show(
        &self,
        kind: ChallengeKind,
        domain: &str,
        token: &str,
        key: &KeyAuthorization,
    ) -> Result<(), String> {
        match kind {
            ChallengeKind::Http01 => {
                let answer = key.as_str().to_owned();
                self.tokens.lock().push((token.to_owned(), answer));
                Ok(())
            }
            ChallengeKind::TlsAlpn01 => {
                let (cert, private) = certificate(domain, key.digest().as_ref())
                    .map_err(|error| error.to_string())?;
                self.challenges
                    .add(domain, cert, private)
                    .map_err(|error| error.to_string())
            }
        }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.tokens.lock().clear();
        self.challenges.clear();
    }
}

/// A certificate for one name, which nobody but an authority trusts, and its key in PKCS #8.
fn certificate(domain: &str, digest: &[u8]) -> Result<(Vec<u8>, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let cert = params.self_signed(&key)?;
    Ok((cert.der().to_vec(), key.serialize_der()))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use tower_service::Service;
    use x509_parser::prelude::*;

    use super::*;

    fn ask(tokens: &Tokens, method: &str, path: &str) -> (StatusCode, String) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
            let response = tokens.router().call(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    /// ACME-05
    #[test]
    fn only_what_is_asked_for_is_answered() {
        let tokens = Tokens::default();
        let challenges = Challenges::default();
        let path = "/.well-known/acme-challenge/token-1";
        let shown = Shown::new(&tokens, &challenges);
        tokens
            .lock()
            .push(("token-1".to_owned(), "token-1.thumb".to_owned()));
        let told = (StatusCode::OK, "token-1.thumb".to_owned());
        assert_eq!(ask(&tokens, "GET", path), told);
        for other in [
            "/",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/token-2",
            "/.well-known/acme-challenge/token-1/",
            "/.well-known/acme-challenge/../acme-challenge/token-1",
        ] {
            assert_eq!(
                ask(&tokens, "GET", other).0,
                StatusCode::NOT_FOUND,
                "{other}"
            );
        }
        assert_eq!(ask(&tokens, "POST", path).0, StatusCode::METHOD_NOT_ALLOWED);
        drop(shown);
        assert_eq!(ask(&tokens, "GET", path).0, StatusCode::NOT_FOUND);
    }

    /// ACME-06: RFC 8737 section 3: one name, and the digest in a critical extension.
    #[test]
    fn the_certificate_of_a_challenge_is_as_the_rfc_wants_it() {
        let digest = [7; 32];
        let (cert, _) = certificate("turn.example.org", &digest).unwrap();
        let (_, cert) = X509Certificate::from_der(&cert).unwrap();
        let names = cert.subject_alternative_name().unwrap().unwrap();
        let names = &names.value.general_names;
        assert!(matches!(
            names[..],
            [GeneralName::DNSName("turn.example.org")]
        ));
        let oid = "1.3.6.1.5.5.7.1.31";
        let extension = cert
            .extensions()
            .iter()
            .find(|it| it.oid.to_id_string() == oid);
        let extension = extension.unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value, [&[4, 32][..], &digest].concat());
    }
}
