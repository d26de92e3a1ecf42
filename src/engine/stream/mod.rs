//! Clients on streams: accepting, framing, bounded sending.
//!
//! A connection's state lives in the worker ([`Connections`]); its task holds nothing but the name
//! and waits for the socket. What arrives goes through the same `turn::Server` as datagrams do.

mod connection;
mod queue;
mod tcp;

pub(super) use connection::Connections;
pub(super) use queue::Priority;
pub(super) use tcp::accept;
