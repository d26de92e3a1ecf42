//! HTTP for operators, on the main thread: never on a worker.

mod http;
mod metrics_page;

pub use http::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, serve};
pub use metrics_page::metrics_page;
