//! How often one sender may ask: budgets in a table of a bounded size.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Senders of a table at most. One more replaces the one that has asked the least.
pub const SENDERS_MAX: usize = 4096;

/// A rate, and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests a second.
    pub per_s: u32,
    /// Requests at once.
    pub burst: u32,
}

impl Rate {
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_s
    }

    fn time_to_fill(self) -> Duration {
        self.interval() * self.burst
    }
}

/// What is left to each sender (the generic cell rate algorithm): the moment at which its budget is
/// full again.
#[derive(Debug)]
pub(super) struct Limiter<K> {
    rate: Rate,
    full_at: HashMap<K, Instant>,
}

impl<K: Copy + Eq + Hash> Limiter<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self {
            rate,
            full_at: HashMap::new(),
        }
    }

    /// Spends one of a sender's requests, or says that there is none left.
    pub(super) fn admits(&mut self, sender: K, now: Instant) -> bool {
        let known = self.full_at.get(&sender);
        let full_at = known.map_or(now, |full_at| now.max(*full_at)) + self.rate.interval();
        if full_at - now > self.rate.time_to_fill() {
            return false;
        }
        if known.is_none() && self.full_at.len() >= SENDERS_MAX {
            self.make_room(now);
        }
        self.full_at.insert(sender, full_at);
        true
    }

    fn make_room(&mut self, now: Instant) {
        self.full_at.retain(|_, full_at| *full_at > now);
        if self.full_at.len() >= SENDERS_MAX {
            let least = self.full_at.iter().min_by_key(|(_, full_at)| **full_at);
            if let Some(least) = least.map(|(sender, _)| *sender) {
                self.full_at.remove(&least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_s: 10,
        burst: 20,
    };

    fn spend(limiter: &mut Limiter<usize>, sender: usize, now: Instant) -> usize {
        std::iter::repeat_with(|| limiter.admits(sender, now))
            .take_while(|admitted| *admitted)
            .count()
    }

    /// CRED-08: the burst, then the rate, and each for itself.
    #[test]
    fn the_burst_then_the_rate() {
        let start = Instant::now();
        let mut limiter = Limiter::new(RATE);
        assert_eq!(spend(&mut limiter, 1, start), 20);
        assert_eq!(spend(&mut limiter, 2, start), 20);
        assert_eq!(spend(&mut limiter, 1, start + Duration::from_millis(99)), 0);
        assert_eq!(
            spend(&mut limiter, 1, start + Duration::from_millis(100)),
            1
        );
        assert_eq!(
            spend(&mut limiter, 1, start + Duration::from_millis(1100)),
            10
        );
        assert_eq!(
            spend(&mut limiter, 1, start + Duration::from_secs(3600)),
            20
        );
    }

    /// CRED-08: a full table forgets who has asked the least, and stays as it is large.
    #[test]
    fn the_table_is_bounded() {
        let start = Instant::now();
        let mut limiter = Limiter::new(RATE);
        assert_eq!(spend(&mut limiter, 0, start), 20);
        for sender in 1..3 * SENDERS_MAX {
            assert!(limiter.admits(sender, start));
            assert!(limiter.full_at.len() <= SENDERS_MAX);
        }
        assert!(!limiter.admits(0, start), "who asks much is not forgotten");
        let later = start + Duration::from_secs(60);
        assert!(limiter.admits(usize::MAX, later));
        assert_eq!(limiter.full_at.len(), 1, "whose budget is full again is");
    }
}
