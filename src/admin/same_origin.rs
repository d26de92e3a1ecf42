//! What a page of another site has its visitor's browser send is not an operator's wish.
//!
//! A socket that needs no token may be behind `ssh -L`, and then every page that the operator has
//! open can reach it.

use std::net::IpAddr;

use axum::Router;
use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};

use super::api::Error;

/// How a browser says whose page asks (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Lets nothing through to a router that a page of another site may have sent.
pub fn require_same_origin(router: Router) -> Router {
    router.layer(from_fn(|request: Request, next: Next| {
        let refused = refusal(request.headers());
        async move {
            match refused {
                Some(refusal) => refusal,
                None => next.run(request).await,
            }
        }
    }))
}

fn refusal(headers: &HeaderMap) -> Option<Response> {
    let text = |name: &HeaderName| {
        let value = headers.get(name)?;
        Some(value.to_str().unwrap_or_default())
    };
    let host = text(&HOST).unwrap_or_default();
    let site = text(&SEC_FETCH_SITE);
    let origin = text(&ORIGIN);
    let is_other_site = site.is_some_and(|site| !["same-origin", "none"].contains(&site))
        || origin.is_some_and(|origin| authority(origin) != Some(host));
    let reason = if is_other_site {
        "a page of another site asks; only the dashboard of this server may"
    } else if !is_address(host) {
        // A name that somebody else can let point here makes any page one of this server, and of a
        // plain GET over HTTP a browser does not say that it is one.
        "asked by a name; use localhost or an IP address"
    } else {
        return None;
    };
    Some(Error::new(StatusCode::FORBIDDEN, reason).into_response())
}

/// `localhost:8479` of `http://localhost:8479`.
fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

/// Whether a host, with or without a port, is an address, or `localhost`, which no other resolves.
fn is_address(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let inner = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost") || inner.unwrap_or(name).parse::<IpAddr>().is_ok()
}
