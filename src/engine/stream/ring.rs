//! A queue whose memory is charged.

use std::collections::VecDeque;

use super::budget::{Budget, Claim, Share};

/// Bytes that a queue begins with, and the least that it grows by.
const STEP: usize = 4 * 1024;

/// Items in the order of their coming, with the memory of their places charged to the budget. Empty,
/// it has none.
#[derive(Debug)]
pub(super) struct Ring<T> {
    items: VecDeque<T>,
    /// The capacity of `items`.
    share: Share,
}

impl<T> Ring<T> {
    pub(super) const fn new(budget: Budget) -> Self {
        Self {
            items: VecDeque::new(),
            share: Share::new(budget),
        }
    }

    /// Has room for so many more, if the budget has.
    pub(super) fn make_room(&mut self, more: usize, claim: Claim) -> bool {
        let size = size_of::<T>();
        let needed = (self.items.len() + more) * size;
        if needed <= self.share.bytes() {
            return true;
        }
        // Doubled, so that neither the items are moved nor the budget is asked often; a step, where
        // that is too much.
        let roomy = needed.next_power_of_two().max(STEP);
        let granted =
            self.share.grow(roomy, claim) || self.share.grow(needed.next_multiple_of(STEP), claim);
        if granted {
            let places = self.share.bytes() / size;
            self.items.reserve_exact(places - self.items.len());
        }
        granted
    }

    /// The items, to be looked at and changed; room is made first.
    pub(super) const fn items(&mut self) -> &mut VecDeque<T> {
        &mut self.items
    }

    pub(super) const fn as_deque(&self) -> &VecDeque<T> {
        &self.items
    }

    /// Gives the memory back if nothing is there.
    pub(super) fn tidy(&mut self) {
        if self.items.is_empty() {
            self.items = VecDeque::new();
            self.share.clear();
        }
    }

    /// Bytes of memory that are charged.
    #[cfg(test)]
    pub(super) fn charged(&self) -> usize {
        assert!(self.items.capacity() * size_of::<T>() <= self.share.bytes());
        self.share.bytes()
    }
}
