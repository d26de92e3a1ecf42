//! The memory of all connections together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What connections may hold of partial frames and unsent ones, in bytes of all workers. Touched
/// when a buffer grows or is freed, not by each frame.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Budget {
    used: Arc<AtomicUsize>,
    max: Arc<AtomicUsize>,
}

/// What memory is wanted for. The less important, the less of the budget is there for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A connection that a web server has: a quarter of the budget, so that strangers to TURN have as
    /// much left.
    Web,
    /// A connection without an allocation: half of the budget is for all of them.
    Stranger,
    /// Data of allocations, which may be lost: all but an eighth.
    Data,
    /// Messages of connections with an allocation, and the rest of a frame that was begun.
    Control,
}

impl Budget {
    pub(in crate::engine) fn new(max: usize) -> Self {
        Self {
            used: Arc::default(),
            max: Arc::new(AtomicUsize::new(max)),
        }
    }

    /// From here on it has so many bytes. What is beyond is not taken back.
    pub(in crate::engine) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    fn max_for(&self, claim: Claim) -> usize {
        let max = self.max.load(Ordering::Relaxed);
        match claim {
            Claim::Web => max / 4,
            Claim::Stranger => max / 2,
            Claim::Data => max - max / 8,
            Claim::Control => max,
        }
    }
}

/// Bytes of the budget that one buffer has. Given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    bytes: usize,
    budget: Budget,
}

impl Share {
    /// Of a buffer that is empty.
    pub(super) const fn new(budget: Budget) -> Self {
        Self { bytes: 0, budget }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes what is missing to `bytes`. False if the budget does not have it, and then nothing
    /// changes.
    pub(super) fn grow(&mut self, bytes: usize, claim: Claim) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let max = self.budget.max_for(claim);
        let take = |used: usize| used.checked_add(more).filter(|&used| used <= max);
        let used = &self.budget.used;
        let taken = more == 0
            || used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
                .is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }

    /// Whether the budget has so much more just now. Others may take it meanwhile.
    pub(super) fn has_room(&self, more: usize, claim: Claim) -> bool {
        let used = self.budget.used.load(Ordering::Relaxed);
        used.saturating_add(more) <= self.budget.max_for(claim)
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        if self.bytes > 0 {
            self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
            self.bytes = 0;
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-12
    #[test]
    fn each_claim_has_its_part_and_all_is_given_back() {
        for (claim, max) in [
            (Claim::Web, 256),
            (Claim::Stranger, 512),
            (Claim::Data, 896),
            (Claim::Control, 1024),
        ] {
            let budget = Budget::new(1024);
            let mut one = Share::new(budget.clone());
            let mut other = Share::new(budget.clone());
            assert!(one.has_room(max, claim) && !one.has_room(max + 1, claim));
            assert!(one.grow(200, claim) && other.grow(max - 200, claim));
            assert!(!one.grow(201, claim) && one.grow(200, claim) && one.bytes() == 200);
            other.clear();
            assert!(one.grow(max, claim) && !other.grow(1, claim));
            drop(one);
            assert!(other.grow(max, claim));
            drop(other);
            assert_eq!(budget.used.load(Ordering::Relaxed), 0);
        }
    }

    /// What is beyond a lower maximum stays until it is given back.
    #[test]
    fn the_maximum_can_change() {
        let budget = Budget::new(1024);
        let mut one = Share::new(budget.clone());
        let mut other = Share::new(budget.clone());
        assert!(one.grow(1000, Claim::Control));
        budget.set_max(500);
        assert!(!other.grow(1, Claim::Control) && one.bytes() == 1000);
        one.clear();
        assert!(other.grow(500, Claim::Control) && !one.grow(1, Claim::Control));
        budget.set_max(501);
        assert!(one.grow(1, Claim::Control));
    }
}
