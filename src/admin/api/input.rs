//! What requests say, or an [`Error`] that names the parameter.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::Error;

/// The parameters behind the path.
pub(in crate::admin) struct Parameters<T>(pub(in crate::admin) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Parameters<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Error> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => {
                // Its source is the reason alone, behind the parameter's name.
                let reason = std::error::Error::source(&rejection)
                    .map_or_else(|| rejection.body_text(), ToString::to_string);
                Err(Error::bad_request(format!("bad parameter: {reason}")))
            }
        }
    }
}

/// The part of the path that has a name.
pub(in crate::admin) struct Named(pub(in crate::admin) String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = Path::from_request_parts(parts, state).await;
        let path = path.map_err(|rejection| Error::bad_request(rejection.body_text()))?;
        Ok(Self(path.0))
    }
}

/// The body, as JSON; an empty one is an empty object.
pub(in crate::admin) struct Body<T>(pub(in crate::admin) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self, Error> {
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|rejection| refused(&rejection))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Error::bad_request(format!("bad body: {error}")))
    }
}

fn refused(rejection: &BytesRejection) -> Error {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let text = format!("the body is longer than {} bytes", super::BODY_LEN_MAX);
        return Error::new(StatusCode::PAYLOAD_TOO_LARGE, text);
    }
    Error::new(rejection.status(), rejection.body_text())
}
