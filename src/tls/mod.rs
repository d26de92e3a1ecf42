//! What a TLS server proves itself with: certificates with their keys, which of them a client gets,
//! and the `rustls` configuration that says so.
//!
//! [`Pair::from_pem`] checks what an operator has in files. [`Certificates`] holds the pairs in
//! force, chooses one for each handshake, and is told others while connections go on. [`server_config`]
//! is made once a process. Nothing here opens a file, waits, or logs.

mod certificates;
mod challenges;
#[cfg(feature = "dtls")]
mod dtls;
mod names;
mod pair;
mod refusal;
mod server;
#[cfg(test)]
pub(crate) mod testing;

pub use certificates::Certificates;
pub use challenges::{ALPN_ACME, Challenges};
#[cfg(feature = "dtls")]
pub use dtls::dtls_context;
pub use pair::{Files, Flaw, Pair, PairError, Part, Stamp};
pub use refusal::Refusal;
pub use server::{ConfigError, server_config};
