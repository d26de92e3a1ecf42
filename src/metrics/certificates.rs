//! What became of the certificates while the server ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// When certificates expire, and attempts to read them again.
#[derive(Debug, Default)]
pub struct Certificates {
    replaced: AtomicU64,
    failed: AtomicU64,
    outdated: AtomicU64,
    /// The file of each, and the end of its time in Unix seconds.
    expiries: Mutex<Vec<(String, i64)>>,
}

impl Certificates {
    /// One was put in the place of another.
    pub fn count_replaced(&self) {
        self.replaced.fetch_add(1, Ordering::Relaxed);
    }

    /// One could not be used; the one before stays in force.
    pub fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// So many are in force although their files hold something else, or cannot be read.
    pub fn set_outdated(&self, count: u64) {
        self.outdated.store(count, Ordering::Relaxed);
    }

    /// Those in force: their files, and the ends of their time in Unix seconds.
    pub fn set_expiries(&self, expiries: Vec<(String, i64)>) {
        *self.lock() = expiries;
    }

    pub(super) fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(super) fn outdated(&self) -> u64 {
        self.outdated.load(Ordering::Relaxed)
    }

    pub(super) fn expiries(&self) -> Vec<(String, i64)> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(String, i64)>> {
        // The list is replaced as a whole, so a panic elsewhere leaves it good.
        self.expiries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
