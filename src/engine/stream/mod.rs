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

/// A connection's input, for `tests/fuzz`.
#[cfg(fuzzing)]
#[derive(Debug, Default)]
pub struct StreamInput(connection::Input);

#[cfg(fuzzing)]
impl StreamInput {
    /// Takes what was read and calls `handle` with every frame that is complete.
    ///
    /// # Errors
    /// If the stream is out of step.
    pub fn push(
        &mut self,
        bytes: &[u8],
        handle: impl FnMut(&[u8]),
    ) -> Result<(), crate::wire::NotTurn> {
        self.0.push(bytes, handle)
    }

    /// Whether any complete message has arrived.
    pub const fn has_begun(&self) -> bool {
        self.0.has_begun()
    }

    /// Bytes of memory that it holds.
    pub const fn held(&self) -> usize {
        self.0.held()
    }
}
