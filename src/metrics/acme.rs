//! What became of orders for certificates.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Orders for certificates, and when the next attempt is.
#[derive(Debug, Default)]
pub struct Acme {
    succeeded: AtomicU64,
    failed: AtomicU64,
    ended: AtomicU64,
    state: Mutex<AcmeState>,
}

/// How it stands with certificates from an ACME server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcmeState {
    /// The names that a certificate is kept for; none if there is no such server.
    pub domains: Vec<String>,
    /// The end of the certificate's time, in Unix seconds; `None` before the first one.
    pub expires_unix_s: Option<i64>,
    /// When the next attempt is, in Unix seconds; `None` while one is under way.
    pub next_attempt_unix_s: Option<u64>,
    /// Why the last attempt failed, if it did.
    pub last_error: Option<String>,
}

impl Acme {
    /// A certificate came.
    pub fn count_success(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// None came.
    pub fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of who looks for the answer to a challenge was ended for a newer one.
    pub fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// Changes what is told of it.
    pub fn update(&self, change: impl FnOnce(&mut AcmeState)) {
        change(&mut self.lock());
    }

    /// How it stands.
    pub fn state(&self) -> AcmeState {
        self.lock().clone()
    }

    pub(super) fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, AcmeState> {
        // Every change leaves it good, whatever panics elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
