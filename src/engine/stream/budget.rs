//! The memory of all connections together.
//!
//! Those without an allocation have an account of their own: what slow clients hold is no reason to
//! close a newcomer, and no crowd of newcomers takes what messages of allocations need.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What connections may hold of partial frames and unsent ones, in bytes of all workers. Touched
/// when a buffer grows or is freed, not by each frame.
#[derive(Clone, Debug)]
pub(in crate::engine) struct Budget {
    used: Arc<[AtomicUsize; ACCOUNTS]>,
    max: Arc<AtomicUsize>,
}

/// What web servers' connections have, what those without an allocation have, and all. Each is part of
/// the next.
const ACCOUNTS: usize = 3;

/// What memory is wanted for. The less important, the less of the budget is there for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// A connection that a web server has: a quarter of the budget, so that strangers to TURN have as
    /// much left, and nothing of the last eighth.
    Web,
    /// A connection without an allocation: half of the budget is for all of them, and of the last
    /// eighth, which data leaves to them, one half.
    Stranger,
    /// Data of allocations, which may be lost: all but an eighth.
    Data,
    /// Messages of connections with an allocation, and the rest of a frame that was begun.
    Control,
}

impl Claim {
    /// The narrowest account that it counts in.
    const fn account(self) -> usize {
        match self {
            Self::Web => 0,
            Self::Stranger => 1,
            Self::Data | Self::Control => 2,
        }
    }

    /// What each account may have for it to be granted. Where it does not count in one, nobody asks.
    const fn limits(self, max: usize) -> [usize; ACCOUNTS] {
        let all = match self {
            Self::Web | Self::Data => max - max / 8,
            Self::Stranger => max - max / 16,
            Self::Control => max,
        };
        [max / 4, max / 2, all]
    }
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

    /// Bytes that are used.
    #[cfg(fuzzing)]
    pub(super) fn used(&self) -> usize {
        self.used[ACCOUNTS - 1].load(Ordering::Relaxed)
    }

    /// The accounts of a claim by their places, the narrowest first, with their limits.
    fn accounts(&self, claim: Claim) -> impl Iterator<Item = (usize, &AtomicUsize, usize)> {
        let limits = claim.limits(self.max.load(Ordering::Relaxed));
        let accounts = self.used.iter().zip(limits).enumerate();
        let accounts = accounts.map(|(place, (used, limit))| (place, used, limit));
        accounts.skip(claim.account())
    }
}

/// Bytes of the budget that one buffer has. Given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    /// By account, as in [`Budget::used`].
    bytes: [usize; ACCOUNTS],
    budget: Budget,
}

impl Share {
    /// Of a buffer that is empty.
    pub(super) const fn new(budget: Budget) -> Self {
        Self {
            bytes: [0; ACCOUNTS],
            budget,
        }
    }

    pub(super) const fn budget(&self) -> &Budget {
        &self.budget
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes[ACCOUNTS - 1]
    }

    /// Whether some of it counts as that of a stranger.
    pub(super) const fn is_of_stranger(&self) -> bool {
        self.bytes[ACCOUNTS - 2] > 0
    }

    /// Takes what is missing to `bytes`. False if the budget does not have it, and then nothing
    /// changes.
    pub(super) fn grow(&mut self, bytes: usize, claim: Claim) -> bool {
        let more = bytes.saturating_sub(self.bytes());
        if more == 0 {
            return true;
        }
        for (place, used, limit) in self.budget.accounts(claim) {
            let take = |used: usize| used.checked_add(more).filter(|&used| used <= limit);
            let taken = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            if taken.is_err() {
                // What the narrower ones have granted goes back.
                for used in &self.budget.used[claim.account()..place] {
                    used.fetch_sub(more, Ordering::Relaxed);
                }
                return false;
            }
        }
        for bytes in &mut self.bytes[claim.account()..] {
            *bytes += more;
        }
        true
    }

    /// Whether the budget has so much more just now. Others may take it meanwhile.
    pub(super) fn has_room(&self, more: usize, claim: Claim) -> bool {
        let mut accounts = self.budget.accounts(claim);
        accounts.all(|(_, used, limit)| {
            let used = used.load(Ordering::Relaxed);
            used.saturating_add(more) <= limit
        })
    }

    /// Gives everything back.
    pub(super) fn clear(&mut self) {
        for (bytes, used) in self.bytes.iter_mut().zip(self.budget.used.iter()) {
            let bytes = std::mem::take(bytes);
            if bytes > 0 {
                used.fetch_sub(bytes, Ordering::Relaxed);
            }
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

    fn assert_empty(budget: &Budget) {
        for used in budget.used.iter() {
            assert_eq!(used.load(Ordering::Relaxed), 0);
        }
    }

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
            assert_empty(&budget);
        }
    }

    /// SEC-12: beside what others have, to the byte.
    #[test]
    fn claims_stand_beside_each_other() {
        let claims = [Claim::Web, Claim::Stranger, Claim::Data, Claim::Control];
        for (of_others, held, room) in [
            // What data has keeps a stranger out only where the reserve of messages begins.
            (Claim::Data, 448, [256, 512, 448, 576]),
            (Claim::Data, 700, [196, 260, 196, 324]),
            (Claim::Data, 896, [0, 64, 0, 128]),
            (Claim::Control, 960, [0, 0, 0, 64]),
            (Claim::Control, 1024, [0, 0, 0, 0]),
            // What strangers have is the strangers', however little data has.
            (Claim::Stranger, 300, [212, 212, 596, 724]),
            (Claim::Stranger, 512, [0, 0, 384, 512]),
            (Claim::Web, 256, [0, 256, 640, 768]),
        ] {
            let budget = Budget::new(1024);
            let mut others = Share::new(budget.clone());
            assert!(others.grow(held, of_others));
            for (claim, room) in claims.into_iter().zip(room) {
                let mut share = Share::new(budget.clone());
                assert_eq!(share.has_room(room.max(1), claim), room > 0);
                assert!(!share.has_room(room + 1, claim));
                assert!(
                    !share.grow(room + 1, claim),
                    "{held} {of_others:?} {claim:?}"
                );
                assert!(share.grow(room, claim), "{held} {of_others:?} {claim:?}");
            }
            drop(others);
            assert_empty(&budget);
        }
    }

    /// SEC-12: slow clients and a crowd of strangers together leave messages their part.
    #[test]
    fn the_last_part_is_for_messages() {
        let budget = Budget::new(1024);
        let [mut data, mut stranger, mut message] = [(); 3].map(|()| Share::new(budget.clone()));
        assert!(data.grow(896, Claim::Data));
        assert!(stranger.grow(64, Claim::Stranger) && !stranger.grow(65, Claim::Stranger));
        assert!(message.grow(64, Claim::Control) && !message.grow(65, Claim::Control));
    }

    /// A buffer that was a stranger's grows as that of an allocation, and gives back to whom it took
    /// from.
    #[test]
    fn a_share_knows_what_it_was_taken_for() {
        let budget = Budget::new(1024);
        let [mut one, mut other] = [(); 2].map(|()| Share::new(budget.clone()));
        assert!(one.grow(500, Claim::Stranger) && one.is_of_stranger());
        assert!(one.grow(800, Claim::Data) && one.bytes() == 800);
        assert!(other.grow(12, Claim::Stranger) && !other.grow(13, Claim::Stranger));
        one.clear();
        assert!(!one.is_of_stranger() && one.grow(500, Claim::Data) && !one.is_of_stranger());
        assert!(other.grow(460, Claim::Stranger) && !other.grow(513, Claim::Stranger));
        drop((one, other));
        assert_empty(&budget);
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
