//! `/`: the dashboard, a page that asks the API as everybody else does.
//!
//! The files are part of the program, and know nothing of the server: whoever may connect may have
//! them, and only what they ask for needs the token.

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Every file: path, type, content.
const FILES: [(&str, &str, &str); 7] = [
    ("/", "text/html; charset=utf-8", include_str!("page.html")),
    ("/page.css", CSS, include_str!("page.css")),
    ("/page.js", SCRIPT, include_str!("page.js")),
    ("/text.js", SCRIPT, include_str!("text.js")),
    ("/chart.js", SCRIPT, include_str!("chart.js")),
    ("/relay_test.js", SCRIPT, include_str!("relay_test.js")),
    ("/icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but these files. The credential service may be elsewhere, but then its key is not sent
/// across a network in the clear.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self' https: http://localhost:* http://127.0.0.1:*; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// The page, for whoever comes.
pub fn dashboard() -> Router {
    FILES
        .iter()
        .fold(Router::new(), |router, &(path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let head = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        // The next version of the server has other files.
        (CACHE_CONTROL, "no-cache"),
    ];
    (head, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DASH-04: what the policy would forbid, or what makes markup of text that a client chose.
    #[test]
    fn files_are_plain_and_self_contained() {
        for (path, _, text) in FILES {
            assert!(!text.is_empty(), "{path}");
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "eval(",
                "Function(",
                "javascript:",
                "@import",
                "url(",
                " style=",
                " onclick=\"",
                "<script>",
                "localStorage",
            ] {
                assert!(!text.contains(forbidden), "{path} has {forbidden}");
            }
            for scheme in ["http://", "https://"] {
                for (at, _) in text.match_indices(scheme) {
                    let is_name = text[at..].starts_with("http://www.w3.org/2000/svg");
                    let is_example = text[at..].starts_with("https://turn.example.org");
                    // Of the credential service, as the server tells it.
                    let is_told = text[at..].starts_with("http://${");
                    assert!(
                        is_name || is_example || is_told,
                        "{path}: {}",
                        &text[at..at + 30]
                    );
                }
            }
        }
    }

    #[test]
    fn whatever_a_file_imports_is_there() {
        for (path, _, text) in FILES {
            for import in text.split("from \"./").skip(1) {
                let (name, _) = import.split_once('"').expect("the end of the name");
                let is_there = FILES.iter().any(|(path, ..)| path[1..] == *name);
                assert!(is_there, "{path} imports {name}");
            }
        }
    }
}
