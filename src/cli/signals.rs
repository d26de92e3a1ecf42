//! The signals that the server knows.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// To end now, by the signal of this name.
    Stop(&'static str),
    /// To read the configuration again.
    Reload,
    /// To read certificates again.
    Certificates,
    /// To end with the last allocation.
    Drain,
}

/// The signals that are waited for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// From here on they are waited for, and end nothing by themselves. Wants to be called on a
    /// runtime.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the next wish. Signals of one kind that come before it is looked at are one.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Wish::Stop("SIGINT"),
            _ = self.hang_up.recv() => Wish::Reload,
            _ = self.user1.recv() => Wish::Drain,
            _ = self.user2.recv() => Wish::Certificates,
        }
    }
}
