//! Version 1 of the admin API: JSON over HTTP. docs/admin.md has every endpoint.

mod allocations;
mod drain;
pub(super) mod error;
mod info;
pub(super) mod input;
mod log_level;
mod reload;
mod revocations;
mod statistics;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use tokio::sync::watch;

pub use error::Error;
pub use info::{Facts, InForce};

use super::reload::ReloadDesk;
use super::{Drain, RevocationBook, Statistics};
use crate::engine::Control;
use crate::log::Level;
use crate::tls::Certificates;

/// Bytes of a request's body at most.
pub const BODY_LEN_MAX: usize = 64 * 1024;

/// What the endpoints work with.
#[derive(Debug)]
pub struct Api {
    /// The workers.
    pub control: Control,
    /// Whether the server drains.
    pub drain: Drain,
    /// The credentials that are refused.
    pub revocations: Arc<RevocationBook>,
    /// The configuration.
    pub reload: ReloadDesk,
    /// The level of log lines.
    pub log_level: Level,
    /// What was counted, now and in the last hour.
    pub statistics: Arc<Statistics>,
    /// Those in force.
    pub certificates: Arc<Certificates>,
    /// What does not change while the server runs.
    pub facts: Facts,
    /// What does.
    pub in_force: watch::Receiver<InForce>,
}

/// Every endpoint.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .merge(info::routes())
        .merge(allocations::routes())
        .merge(drain::routes())
        .merge(log_level::routes())
        .merge(reload::routes())
        .merge(revocations::routes())
        .merge(statistics::routes())
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(api)
}
