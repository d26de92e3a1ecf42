//! HTTP for operators, on the main thread: never on a worker.

pub mod api;
pub mod credentials;
mod drain;
mod http;
mod listen;
mod revocations;
mod token;

pub use drain::{DEADLINE_S_MAX, Drain, Draining, Over};
pub use http::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, Listener, Remote, serve};
pub use listen::{ListenError, Listeners, bind};
pub use revocations::{Changed, RevocationBook};
pub use token::require_token;
