//! Clients on streams: accepting, TLS, framing, bounded sending.
//!
//! A connection's state lives in the worker ([`Streams`]); its task holds nothing but the name
//! and waits for the socket. What arrives goes through the same `turn::Server` as datagrams do.

mod admission;
mod alpn;
mod budget;
mod client_hello;
mod connection;
mod ending;
mod evictable;
mod failure;
#[cfg(fuzzing)]
mod fuzzing;
mod held;
mod input;
mod opening;
mod passage;
mod proxied;
mod proxy;
mod queue;
mod receive;
mod ring;
mod streams;
mod tcp;
mod tls;
mod web;
mod web_places;

pub(super) use admission::Admission;
#[cfg(feature = "dtls")]
pub(super) use admission::{Notice, Place, Stage};
pub(super) use alpn::TlsConfigs;
pub(super) use budget::Budget;
#[cfg(feature = "dtls")]
pub(super) use connection::overdue;
pub(super) use ending::Ending;
#[cfg(fuzzing)]
pub use fuzzing::{OpenedFor, Over, StreamConnection, StreamInput, StreamOpening};
pub(super) use queue::Priority;
pub(super) use streams::{StreamSettings, Streams};
pub(super) use tcp::accept;
pub(super) use web::{Failure as WebFailure, Kind as WebKind};
