//! When a certificate is renewed, and when what failed is tried again.

use std::time::Duration;

const HOUR_S: u64 = 3600;

/// The wait after the first failure to reach the authority, which doubles with every further one.
const UNREACHED_FIRST: Duration = Duration::from_secs(60);
const UNREACHED_LONGEST: Duration = Duration::from_secs(HOUR_S);

/// The wait after the first failed order, likewise. Let's Encrypt takes five failures an hour for a
/// name.
const FAILED_FIRST: Duration = Duration::from_secs(HOUR_S);
const FAILED_LONGEST: Duration = Duration::from_secs(12 * HOUR_S);

/// The longest wait that an authority can ask for.
const ASKED_LONGEST: Duration = Duration::from_secs(7 * 24 * HOUR_S);

/// Doublings after which the longest wait has come.
const DOUBLINGS_MAX: u32 = 16;

/// Attempts of one hour, restarts included. Whoever mends something and restarts wants one at once.
pub(super) const ATTEMPTS_PER_HOUR: usize = 3;

/// What came of an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The authority was not reached, so nothing was asked of it.
    Unreached,
    /// The authority was asked for a certificate, or refused to be.
    Ordered,
}

/// When a certificate with such a life is renewed: with a third of it left.
pub(super) fn renewal_unix_s(not_before_unix_s: i64, not_after_unix_s: i64) -> u64 {
    let life = not_after_unix_s.saturating_sub(not_before_unix_s).max(0);
    let at = not_before_unix_s.saturating_add(life / 3 * 2);
    u64::try_from(at).unwrap_or(0)
}

/// How long to wait after so many failures in a row, of which the last was at this stage. Servers
/// that failed together do not come back together: `random` adds up to a quarter.
pub(super) fn delay(stage: Stage, failures: u32, asked: Option<Duration>, random: u32) -> Duration {
    let (first, longest) = match stage {
        Stage::Unreached => (UNREACHED_FIRST, UNREACHED_LONGEST),
        Stage::Ordered => (FAILED_FIRST, FAILED_LONGEST),
    };
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    let wait = (first * (1 << doublings)).min(longest);
    let wait = wait.max(asked.unwrap_or_default().min(ASKED_LONGEST));
    wait + wait.mul_f64(0.25 * f64::from(random) / f64::from(u32::MAX))
}

/// When the next attempt is. A clock may be set meanwhile: only a renewal is bound to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// From now on, at least.
    pub(super) wait: Duration,
    /// Not before this Unix time either.
    pub(super) renewal_unix_s: u64,
}

impl Next {
    /// The next order of those that do well, where so much of the wait for a permit is left.
    pub(super) const fn order(wait: Duration, renewal_unix_s: u64) -> Self {
        Self {
            wait,
            renewal_unix_s,
        }
    }

    /// After an attempt that failed, with such a delay.
    pub(super) const fn after_failure(delay: Duration) -> Self {
        Self {
            wait: delay,
            renewal_unix_s: 0,
        }
    }

    /// The Unix time of it, if no clock is set.
    pub(super) fn unix_s(&self, now_unix_s: u64) -> u64 {
        self.renewal_unix_s
            .max(now_unix_s.saturating_add(self.wait.as_secs()))
    }

    /// How long it is until then, of which so much has passed.
    pub(super) fn left(&self, passed: Duration, now_unix_s: u64) -> Duration {
        let renewal = Duration::from_secs(self.renewal_unix_s.saturating_sub(now_unix_s));
        self.wait.saturating_sub(passed).max(renewal)
    }
}

/// From when on one more attempt is permitted, after those at these times of Unix time, and with an
/// authority that wants to be left alone until then.
pub(super) fn permitted_unix_s(
    attempts_unix_s: &[u64],
    not_before_unix_s: u64,
    now_unix_s: u64,
) -> u64 {
    // A clock that was wrong is no reason to wait for years.
    let past = attempts_unix_s.iter().filter(|at| **at <= now_unix_s);
    let latest = past.rev().nth(ATTEMPTS_PER_HOUR - 1);
    let permitted = latest.map_or(0, |at| at.saturating_add(HOUR_S));
    match not_before_unix_s <= until_unix_s(ASKED_LONGEST, now_unix_s) {
        true => permitted.max(not_before_unix_s),
        false => permitted,
    }
}

/// Until when an authority wants to be left alone that asks for so long.
pub(super) fn until_unix_s(asked: Duration, now_unix_s: u64) -> u64 {
    now_unix_s.saturating_add(asked.min(ASKED_LONGEST).as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    /// ACME-03
    #[test]
    fn a_third_of_the_life_is_left() {
        let from = 1_700_000_000;
        let at = |days: i64| renewal_unix_s(from, from + days * DAY_S);
        assert_eq!(at(90), (from + 60 * DAY_S) as u64);
        assert_eq!(at(6), (from + 4 * DAY_S) as u64);
        assert_eq!(
            renewal_unix_s(from, from - 1),
            from as u64,
            "it has no life"
        );
        assert_eq!(renewal_unix_s(-1, -1), 0);
    }

    /// ACME-04
    #[test]
    fn failures_are_tried_again_ever_later() {
        let hours = |stage, failures| delay(stage, failures, None, 0).as_secs_f64() / 3600.;
        let ordered = [1, 2, 3, 4, 5, 6, u32::MAX].map(|it| hours(Stage::Ordered, it));
        assert_eq!(ordered, [1., 2., 4., 8., 12., 12., 12.]);
        let unreached = [1, 2, 6, 7, 8].map(|it| hours(Stage::Unreached, it) * 60.);
        assert_eq!(unreached, [1., 2., 32., 60., 60.]);
        let spread = delay(Stage::Ordered, 1, None, u32::MAX);
        assert_eq!(spread, FAILED_FIRST.mul_f64(1.25));
    }

    /// ACME-04: and never before the authority wants it.
    #[test]
    fn the_authority_can_ask_for_more() {
        let asked = |seconds| {
            let asked = Some(Duration::from_secs(seconds));
            delay(Stage::Ordered, 1, asked, 0)
        };
        assert_eq!(asked(5), FAILED_FIRST);
        assert_eq!(asked(86_400), Duration::from_secs(86_400));
        assert_eq!(asked(u64::MAX), ASKED_LONGEST);
    }

    /// ACME-04: however often it is started again.
    #[test]
    fn restarts_do_not_make_more_attempts() {
        let now = 1000;
        let permitted = |attempts: &[u64]| permitted_unix_s(attempts, 0, now);
        assert_eq!(permitted(&[]), 0);
        assert_eq!(permitted(&[100, 200]), 0);
        assert_eq!(permitted(&[100, 200, 300]), 3700);
        assert_eq!(permitted(&[100, 200, 300, 400]), 3800);
        assert_eq!(permitted(&[u64::MAX; 3]), 0, "the clock was wrong");
    }

    /// ACME-04: what the authority wants outlives the process.
    #[test]
    fn restarts_heed_the_authority() {
        let now = 1000;
        assert_eq!(permitted_unix_s(&[], 8200, now), 8200);
        assert_eq!(permitted_unix_s(&[100, 200, 300], 8200, now), 8200);
        assert_eq!(permitted_unix_s(&[100, 200, 300], 900, now), 3700);
        let longest = until_unix_s(Duration::MAX, now);
        assert_eq!(longest, now + ASKED_LONGEST.as_secs());
        assert_eq!(permitted_unix_s(&[], longest, now), longest);
        assert_eq!(
            permitted_unix_s(&[], longest + 1, now),
            0,
            "the clock was wrong"
        );
    }

    /// ACME-04: a clock that was ahead by a year is no reason to wait for a year.
    #[test]
    fn the_wait_after_a_failure_is_by_no_clock_that_is_set() {
        let (now, year) = (1_800_000_000, 365 * 86_400);
        let hour = Duration::from_secs(HOUR_S);
        let next = Next::after_failure(hour);
        assert_eq!(next.unix_s(now), now + HOUR_S);
        for now in [now, now - year, now + year, 0] {
            assert_eq!(next.left(Duration::ZERO, now), hour);
            assert_eq!(next.left(hour / 4, now), hour / 4 * 3);
            assert_eq!(next.left(hour, now), Duration::ZERO);
        }
        let next = Next::order(hour, now);
        assert_eq!(next.left(hour, now - year), Duration::from_secs(year));
        assert_eq!(next.left(hour, now), Duration::ZERO);
    }
}
