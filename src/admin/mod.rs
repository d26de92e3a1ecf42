//! HTTP for operators, on the main thread: never on a worker.

pub mod api;
mod counted;
pub mod credentials;
mod crowd;
mod dashboard;
mod drain;
mod http;
mod listen;
mod metrics_page;
pub mod reload;
mod revocations;
mod same_origin;
mod statistics;
mod token;

pub use counted::counted;
pub use crowd::serve_crowd;
pub use dashboard::dashboard;
pub use drain::{DEADLINE_S_MAX, Drain, Draining, Over};
pub use http::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, Listener, Remote, serve};
pub use listen::{ListenError, Listeners, bind};
pub use metrics_page::metrics_page;
pub use revocations::{Changed, Place, Revocation, RevocationBook, RevokedNotice, Undone};
pub use same_origin::require_same_origin;
pub use statistics::{Point, SAMPLE_INTERVAL, SAMPLES_MAX, Statistics, Totals};
pub use token::{Token, require_token};

use crate::engine::Stopped;

/// Carries out what must not end half-way because whoever asked has hung up.
async fn to_its_end<T: Send + 'static, E: From<Stopped> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    // Without the task the runtime is ending.
    tokio::spawn(work)
        .await
        .unwrap_or_else(|_| Err(Stopped.into()))
}
