//! Clients on streams: accepting, TLS, framing, bounded sending.
//!
//! A connection's state lives in the worker ([`Connections`]); its task holds nothing but the name
//! and waits for the socket. What arrives goes through the same `turn::Server` as datagrams do.

mod admission;
mod alpn;
mod budget;
mod connection;
mod ending;
mod evictable;
mod failure;
mod held;
mod input;
mod opening;
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
pub(super) use alpn::TlsConfigs;
pub(super) use budget::Budget;
pub(super) use ending::Ending;
pub(super) use failure::HandshakeFailure;
pub(super) use queue::Priority;
pub(super) use streams::{StreamSettings, Streams};
pub(super) use tcp::accept;
pub(super) use web::{Failure as WebFailure, Kind as WebKind};

/// A connection's input, for `tests/fuzz`.
#[cfg(fuzzing)]
#[derive(Debug)]
pub struct StreamInput(input::Input);

#[cfg(fuzzing)]
impl StreamInput {
    /// Bytes of the longest frame without an allocation.
    pub const STRANGER_FRAME_MAX: usize = input::STRANGER_FRAME_MAX;

    /// An input that may hold so many bytes.
    pub fn new(memory: usize) -> Self {
        Self(input::Input::new(Budget::new(memory)))
    }

    /// Takes what was read and calls `handle` with every frame that is complete.
    ///
    /// # Errors
    /// If the stream is out of step, or a frame longer than it may be.
    pub fn push(
        &mut self,
        mut bytes: &[u8],
        has_allocation: bool,
        mut handle: impl FnMut(&[u8]),
    ) -> Result<(), crate::wire::NotTurn> {
        let mut next = |input: &mut input::Input| match input.next(&mut bytes, || has_allocation) {
            Ok(Some(frame)) => {
                handle(frame);
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(_) => Err(crate::wire::NotTurn),
        };
        while next(&mut self.0)? {}
        Ok(())
    }

    /// Bytes of memory that it holds.
    pub const fn held(&self) -> usize {
        self.0.held()
    }
}
