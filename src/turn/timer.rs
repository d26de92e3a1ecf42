//! When allocations end, to the second.
//!
//! It is lazy: a refresh only overwrites the allocation's deadline, and its entry looks at it when
//! it fires. An allocation has one entry at most, and none when it is gone: who makes and deletes
//! allocations all day leaves nothing here.

use std::collections::BTreeSet;

use super::event::AllocationId;
use super::time::Time;

/// What an allocation's `scheduled_s` says while it has no entry.
pub(super) const UNSCHEDULED: u64 = u64::MAX;

/// The ends of allocations in their order.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    entries: BTreeSet<(u64, AllocationId)>,
}

impl Deadlines {
    /// Schedules an allocation and returns the second in which it will fire: the first that begins
    /// at or after the deadline.
    pub(super) fn schedule(&mut self, id: AllocationId, deadline: Time) -> u64 {
        let second = second_of(deadline);
        self.entries.insert((second, id));
        second
    }

    /// Drops the entry of an allocation that is gone, or ends earlier.
    pub(super) fn cancel(&mut self, id: AllocationId, second: u64) {
        self.entries.remove(&(second, id));
    }

    /// Takes the next allocation that is due.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<AllocationId> {
        let (second, _) = *self.entries.first()?;
        if second > now.as_secs() {
            return None;
        }
        self.entries.pop_first().map(|(_, id)| id)
    }

    /// When the first one is due.
    pub(super) fn next_due(&self) -> Option<Time> {
        let (second, _) = *self.entries.first()?;
        Some(Time::from_millis(second * 1000))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// The first second that begins at or after a deadline.
pub(super) const fn second_of(deadline: Time) -> u64 {
    deadline.as_millis().div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(slot: u32) -> AllocationId {
        AllocationId {
            slot,
            generation: 0,
        }
    }

    #[test]
    fn fires_in_the_second_of_the_deadline_and_never_before() {
        let start = Time::from_millis(5_000_400);
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.schedule(id(1), start.plus_secs(600)), 5_601);
        assert_eq!(deadlines.pop_due(start.plus_secs(600)), None);
        assert_eq!(deadlines.next_due(), Some(Time::from_millis(5_601_000)));
        let fired = deadlines.pop_due(Time::from_millis(5_601_000));
        assert_eq!(fired, Some(id(1)));
        assert_eq!(deadlines.next_due(), None);
    }

    #[test]
    fn in_their_order_after_any_pause_and_without_the_cancelled() {
        let start = Time::from_millis(0);
        let mut deadlines = Deadlines::default();
        deadlines.schedule(id(1), start.plus_secs(100_000));
        deadlines.schedule(id(2), start.plus_secs(1));
        let second = deadlines.schedule(id(3), start.plus_secs(1));
        deadlines.cancel(id(3), second);
        assert_eq!(deadlines.len(), 2);
        let late = start.plus_secs(200_000);
        assert_eq!(deadlines.pop_due(late), Some(id(2)));
        assert_eq!(deadlines.pop_due(late), Some(id(1)));
        assert_eq!(deadlines.pop_due(late), None);
    }
}
