//! `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and stops the server.
//!
//! What is there holds no secret and no name of a user, and nothing can be changed by it.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::metrics::Metrics;

/// OpenMetrics 1.0, which is all that there is.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The pages.
pub fn metrics_page(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(text))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .with_state(metrics)
}

async fn text(State(metrics): State<Arc<Metrics>>, headers: HeaderMap) -> Response {
    if !accepts_openmetrics(&headers) {
        let reason = "only application/openmetrics-text is served\n";
        return (StatusCode::NOT_ACCEPTABLE, reason).into_response();
    }
    let head = [(CONTENT_TYPE, OPENMETRICS), (CACHE_CONTROL, "no-store")];
    (head, metrics.to_text()).into_response()
}

/// Whether a client would read OpenMetrics (RFC 9110 §12.5.1). One that says nothing would.
fn accepts_openmetrics(headers: &HeaderMap) -> bool {
    let mut ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .peekable();
    let says_nothing = ranges.peek().is_none();
    says_nothing || ranges.any(is_openmetrics)
}

fn is_openmetrics(range: &str) -> bool {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_refused = parts.any(|parameter| {
        let quality = parameter.strip_prefix("q=").map(str::parse::<f32>);
        quality == Some(Ok(0.0))
    });
    let fits = ["application/openmetrics-text", "application/*", "*/*"].contains(&name.as_str());
    fits && !is_refused
}

/// The process serves, and every worker does.
async fn health(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    if metrics.is_well() {
        (StatusCode::OK, "ok\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "a worker does not respond\n",
        )
    }
}

/// New clients may be sent here. A server that stops does not answer any more.
async fn readiness(State(metrics): State<Arc<Metrics>>) -> (StatusCode, &'static str) {
    if metrics.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else {
        health(State(metrics)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_served_to_whoever_reads_it() {
        let accepts = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(ACCEPT, value.parse().unwrap());
            }
            accepts_openmetrics(&headers)
        };
        // As Prometheus 2 and 3 ask.
        let prometheus = "application/openmetrics-text;version=1.0.0,\
            application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for good in [
            &[][..],
            &["*/*"],
            &[prometheus],
            &["text/html", "Application/OpenMetrics-Text; version=1.0.0"],
            &["text/html, application/*;q=0.1"],
        ] {
            assert!(accepts(good), "{good:?}");
        }
        for bad in [
            &["text/plain;version=0.0.4"][..],
            &["application/json"],
            &["*/*;q=0"],
            &["text/html, application/openmetrics-text; q=0.0"],
        ] {
            assert!(!accepts(bad), "{bad:?}");
        }
    }
}
