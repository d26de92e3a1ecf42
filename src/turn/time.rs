//! Time as the core knows it: numbers that the host hands in.

use std::fmt;
use std::ops::Sub;
use std::time::Duration;

/// A moment: milliseconds since an origin that the host fixes once. It never goes back. A host
/// whose origin outlives its process (the machine's start) can hand allocations to a successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// So many milliseconds after the origin.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the origin.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the origin.
    pub(super) const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The moment so many seconds later.
    #[must_use]
    pub const fn plus_secs(self, seconds: u32) -> Self {
        Self(self.0 + seconds as u64 * 1000)
    }

    /// Seconds from `now` until this moment, rounded up; 0 if it has passed.
    pub(super) const fn secs_after(self, now: Self) -> u32 {
        self.0.saturating_sub(now.0).div_ceil(1000) as u32
    }
}

impl Sub for Time {
    type Output = Duration;

    /// The time since `earlier`; zero if that is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks of the host: timers run on the steady one, credentials expire on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For everything that lasts.
    pub time: Time,
    /// Unix time in seconds, for nonces and time-limited credentials.
    pub unix_s: u64,
}

impl fmt::Display for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms, Unix time {}", self.time.0, self.unix_s)
    }
}
