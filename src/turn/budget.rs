//! Budgets that are spent one by one and fill again with time: a rate with a burst, in eight bytes.

use super::time::Time;

/// How fast budgets fill, and how much they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// The time in which one is filled in.
    interval_ns: u64,
    /// The time in which an empty budget is full again.
    full_ns: u64,
}

impl Rate {
    /// So many in a period, and `burst` at once. `None`, no limit, if `count` is 0.
    pub(super) const fn new(count: u32, period_s: u32, burst: u32) -> Option<Self> {
        let period_ns = period_s as u64 * 1_000_000_000;
        let Some(interval_ns) = period_ns.checked_div(count as u64) else {
            return None;
        };
        Some(Self {
            interval_ns,
            full_ns: interval_ns * burst as u64,
        })
    }
}

/// What is left of a rate to one sender. All zeros is a full one.
///
/// It is the moment at which the budget will be full again (the generic cell rate algorithm): a
/// token bucket that needs no separate count, no timer and no look until it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Budget {
    full_at_ns: u64,
}

impl Budget {
    /// Whether there is one left to spend.
    pub(super) fn has_one(self, rate: Rate, now: Time) -> bool {
        self.after_one(rate, now).is_some()
    }

    /// Whether it is as good as new.
    pub(super) const fn is_full(self, now: Time) -> bool {
        self.full_at_ns <= now.as_millis() * 1_000_000
    }

    /// Spends one, or says that there is none.
    pub(super) fn spend(&mut self, rate: Rate, now: Time) -> bool {
        let after = self.after_one(rate, now);
        if let Some(after) = after {
            *self = after;
        }
        after.is_some()
    }

    fn after_one(self, rate: Rate, now: Time) -> Option<Self> {
        let now_ns = now.as_millis() * 1_000_000;
        let full_at_ns = self.full_at_ns.max(now_ns) + rate.interval_ns;
        (full_at_ns - now_ns <= rate.full_ns).then_some(Self { full_at_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &mut Budget, rate: Rate, at_ms: u64) -> usize {
        let now = Time::from_millis(at_ms);
        std::iter::repeat_with(|| budget.spend(rate, now))
            .take_while(|spent| *spent)
            .count()
    }

    #[test]
    fn the_burst_then_the_rate() {
        let rate = Rate::new(200, 1, 400).unwrap();
        let mut budget = Budget::default();
        assert_eq!(spend(&mut budget, rate, 5_000), 400);
        assert_eq!(spend(&mut budget, rate, 5_004), 0);
        assert!(!budget.has_one(rate, Time::from_millis(5_004)));
        assert!(budget.has_one(rate, Time::from_millis(5_005)));
        assert_eq!(spend(&mut budget, rate, 5_005), 1);
        assert_eq!(spend(&mut budget, rate, 6_005), 200);
        assert!(!budget.is_full(Time::from_millis(8_004)));
        assert!(budget.is_full(Time::from_millis(8_005)));
        assert_eq!(spend(&mut budget, rate, 1_000_000), 400, "never more");
    }

    #[test]
    fn slow_rates_and_none() {
        let rate = Rate::new(10, 60, 10).unwrap();
        let mut budget = Budget::default();
        assert_eq!(spend(&mut budget, rate, 0), 10);
        assert_eq!(spend(&mut budget, rate, 5_999), 0);
        assert_eq!(spend(&mut budget, rate, 6_000), 1);
        assert_eq!(Rate::new(0, 60, 10), None);
        assert!(Rate::new(u32::MAX, 1, u32::MAX).is_some());
    }
}
