//! What goes wrong, as JSON: `{"error": "what, and what to do"}`.

use axum::Json;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::Stopped;

/// An answer that is no success.
#[derive(Debug)]
pub struct Error {
    status: StatusCode,
    text: String,
}

impl Error {
    /// An answer with this status and text.
    pub fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// The request cannot be understood.
    pub(in crate::admin) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// There is no such thing, or not any more.
    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }
}

impl From<Stopped> for Error {
    fn from(stopped: Stopped) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, stopped.to_string())
    }
}

#[derive(Serialize)]
struct Body {
    error: String,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.status, Json(Body { error: self.text })).into_response()
    }
}

pub(in crate::admin) async fn unknown_path(uri: Uri) -> Error {
    Error::not_found(format!("there is no {}", uri.path()))
}

pub(in crate::admin) async fn wrong_method(method: Method, uri: Uri) -> Error {
    let text = format!("{} cannot be asked for with {method}", uri.path());
    Error::new(StatusCode::METHOD_NOT_ALLOWED, text)
}
