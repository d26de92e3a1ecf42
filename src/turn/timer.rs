//! One-second timing wheel for the ends of allocations.
//!
//! It is lazy: a refresh only overwrites the allocation's deadline, and the bucket looks at it when
//! it fires. Only a deadline that moved nearer costs another entry.

use super::event::AllocationId;
use super::time::Time;

/// Seconds that the wheel spans. A deadline further off fires early and is scheduled again.
const SPAN_S: u64 = 4096;

/// Buckets of allocations, one a second.
#[derive(Debug)]
pub(super) struct Wheel {
    buckets: Box<[Vec<Entry>]>,
    /// The second whose bucket fires next.
    next_s: u64,
    entries: usize,
}

/// An allocation, and the second it was scheduled for: the tag by which an entry that another one
/// has replaced is known.
pub(super) type Entry = (AllocationId, u64);

impl Wheel {
    pub(super) fn new(now: Time) -> Self {
        let buckets = (0..SPAN_S).map(|_| Vec::new()).collect();
        Self {
            buckets,
            next_s: now.as_secs(),
            entries: 0,
        }
    }

    /// Schedules an allocation and returns the second in which it will fire: the first that begins
    /// at or after the deadline, if the wheel reaches that far.
    pub(super) fn schedule(&mut self, id: AllocationId, deadline: Time) -> u64 {
        let second = deadline.as_millis().div_ceil(1000);
        let second = second.clamp(self.next_s, self.next_s + SPAN_S - 1);
        self.buckets[(second % SPAN_S) as usize].push((id, second));
        self.entries += 1;
        second
    }

    /// Takes the next entry that is due.
    pub(super) fn pop_due(&mut self, now: Time) -> Option<Entry> {
        if self.entries == 0 {
            self.next_s = self.next_s.max(now.as_secs());
            return None;
        }
        while self.next_s <= now.as_secs() {
            if let Some(entry) = self.buckets[(self.next_s % SPAN_S) as usize].pop() {
                self.entries -= 1;
                return Some(entry);
            }
            self.next_s += 1;
        }
        None
    }

    /// When the wheel next wants to turn.
    pub(super) fn next_due(&self) -> Option<Time> {
        (self.entries > 0).then(|| Time::from_millis(self.next_s * 1000))
    }
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
        let mut wheel = Wheel::new(start);
        wheel.schedule(id(1), start.plus_secs(600));
        assert_eq!(wheel.pop_due(start.plus_secs(600)), None);
        let fired = wheel.pop_due(Time::from_millis(5_601_000));
        assert_eq!(fired, Some((id(1), 5_601)));
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn far_deadlines_come_back_early_and_long_pauses_skip_nothing() {
        let start = Time::from_millis(0);
        let mut wheel = Wheel::new(start);
        assert_eq!(wheel.schedule(id(1), start.plus_secs(100_000)), SPAN_S - 1);
        wheel.schedule(id(2), start.plus_secs(1));
        let late = start.plus_secs(200_000);
        assert_eq!(wheel.pop_due(late).map(|entry| entry.0), Some(id(2)));
        assert_eq!(wheel.pop_due(late).map(|entry| entry.0), Some(id(1)));
        assert_eq!(wheel.pop_due(late), None);
        let second = wheel.schedule(id(3), late);
        assert_eq!(wheel.pop_due(late), Some((id(3), second)));
    }
}
