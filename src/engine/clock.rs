//! The host's clocks, as the core wants them.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::turn::{Now, Time};

/// Milliseconds since the machine started, suspended time included: the same origin for every
/// process, so that deadlines can be handed to a successor.
pub(super) fn time() -> Time {
    let since_boot = clock_gettime(ClockId::Boottime);
    let seconds = since_boot.tv_sec.unsigned_abs();
    Time::from_millis(seconds * 1000 + since_boot.tv_nsec.unsigned_abs() / 1_000_000)
}

/// Both clocks at once.
pub(super) fn now() -> Now {
    Now {
        time: time(),
        unix_s: unix_s(),
    }
}

/// The time that the calling thread has computed, in nanoseconds.
pub(super) fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Unix time in seconds; 0 before 1970.
pub(super) fn unix_s() -> u64 {
    unix_ms() / 1000
}

/// Unix time in milliseconds; 0 before 1970.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
