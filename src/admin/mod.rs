//! HTTP for operators, on the main thread: never on a worker.

pub mod api;
mod counted;
pub mod credentials;
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
pub use dashboard::dashboard;
pub use drain::{DEADLINE_S_MAX, Drain, Draining, Over};
pub use http::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, Listener, Remote, serve};
pub use listen::{ListenError, Listeners, bind};
pub use metrics_page::metrics_page;
pub use revocations::{Changed, RevocationBook, RevokedNotice};
pub use same_origin::require_same_origin;
pub use statistics::{Point, SAMPLE_INTERVAL, SAMPLES_MAX, Statistics, Totals};
pub use token::{Token, require_token};
