//! Clients on streams: accepting, framing, bounded sending.
//!
//! A connection's state lives in the worker ([`Connections`]); its task holds nothing but the name
//! and waits for the socket. What arrives goes through the same `turn::Server` as datagrams do.

mod admission;
mod budget;
mod connection;
mod ending;
mod input;
mod queue;
mod tcp;

pub(super) use admission::Admission;
pub(super) use budget::Budget;
pub(super) use connection::{Connections, Loss};
pub(super) use ending::{Ending, Endings};
pub(super) use queue::Priority;
pub(super) use tcp::accept;
