//! What happened to the configuration while the server ran.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Counts attempts to read the configuration again.
#[derive(Debug)]
pub struct Reloads {
    succeeded: AtomicU64,
    failed: AtomicU64,
    /// Unix time in seconds.
    loaded: AtomicU64,
}

impl Reloads {
    /// The configuration that the server started with.
    pub(super) fn new(loaded: SystemTime) -> Self {
        Self {
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            loaded: AtomicU64::new(unix_s(loaded)),
        }
    }

    /// Another configuration is in force.
    pub fn count_success(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
        self.loaded
            .store(unix_s(SystemTime::now()), Ordering::Relaxed);
    }

    /// A configuration was refused; the one before stays in force.
    pub fn count_failure(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// How often another configuration came into force.
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// When the configuration in force was read, in Unix seconds.
    pub fn loaded_unix_s(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }
}

/// Unix time in seconds; 0 before 1970.
pub(super) fn unix_s(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_leaves_the_time_of_the_last_success() {
        let reloads = Reloads::new(UNIX_EPOCH);
        reloads.count_failure();
        assert_eq!(
            (
                reloads.failed(),
                reloads.succeeded(),
                reloads.loaded_unix_s()
            ),
            (1, 0, 0)
        );
        reloads.count_success();
        assert_eq!((reloads.failed(), reloads.succeeded()), (1, 1));
        assert!(reloads.loaded_unix_s() > 0);
    }
}
