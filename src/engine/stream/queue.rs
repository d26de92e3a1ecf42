//! What waits to be sent on one stream: whole frames, within a bound.

use std::collections::VecDeque;
use std::io::IoSlice;

use super::budget::{Budget, Claim, Share};

/// Bytes that replies may take beyond the bound: control must not wait for media. Without an
/// allocation there is nothing else.
const CONTROL_RESERVE: usize = 16 * 1024;

/// Bytes that a queue begins with, and the least that it grows by.
const STEP: usize = 4 * 1024;

/// What a frame is: data may be lost, replies should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// ChannelData and Data indications.
    Data,
    /// Responses.
    Control,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    /// It waits.
    Queued,
    /// It is lost, because this client is slow.
    QueueFull,
    /// It is lost, because all clients together are.
    BudgetSpent,
    /// There is no room for the rest of a frame that was begun, and without it the stream is out
    /// of step.
    Broken,
}

/// The bytes of frames that the kernel has not taken yet. A frame is queued whole or not at all,
/// so that the framing survives whatever is dropped.
#[derive(Debug)]
pub(crate) struct SendQueue {
    bytes: VecDeque<u8>,
    /// The capacity of `bytes`.
    share: Share,
    max: usize,
}

impl SendQueue {
    /// A queue of at most `max` bytes of data.
    pub(super) const fn new(max: usize, budget: Budget) -> Self {
        Self {
            bytes: VecDeque::new(),
            share: Share::new(budget),
            max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Queues a frame, of which the kernel has taken the first `sent` bytes already.
    pub(super) fn push(
        &mut self,
        frame: &[u8],
        sent: usize,
        priority: Priority,
        has_allocation: bool,
    ) -> Pushed {
        let begun = sent > 0;
        let (max, claim) = match (priority, has_allocation) {
            (Priority::Data, _) if begun => (self.max, Claim::Control),
            (Priority::Data, _) => (self.max, Claim::Data),
            (Priority::Control, true) => (self.max + CONTROL_RESERVE, Claim::Control),
            (Priority::Control, false) => (CONTROL_RESERVE, Claim::Stranger),
        };
        let rest = &frame[sent..];
        if !begun && self.bytes.len() + rest.len() > max {
            return Pushed::QueueFull;
        }
        if self.make_room(rest.len(), claim) {
            self.bytes.extend(rest);
            Pushed::Queued
        } else if begun {
            Pushed::Broken
        } else {
            Pushed::BudgetSpent
        }
    }

    /// Has room for so many more bytes, if the budget has.
    fn make_room(&mut self, more: usize, claim: Claim) -> bool {
        let needed = self.bytes.len() + more;
        if needed <= self.share.bytes() {
            return true;
        }
        // Doubled, so that neither the bytes are moved nor the budget is asked often; a step, where
        // that is too much.
        let roomy = needed.next_power_of_two().max(STEP);
        let granted =
            self.share.grow(roomy, claim) || self.share.grow(needed.next_multiple_of(STEP), claim);
        if granted {
            self.bytes
                .reserve_exact(self.share.bytes() - self.bytes.len());
        }
        granted
    }

    /// The bytes to send next.
    pub(super) fn chunks(&self) -> [IoSlice<'_>; 2] {
        let (front, back) = self.bytes.as_slices();
        [IoSlice::new(front), IoSlice::new(back)]
    }

    /// The kernel has taken so many bytes.
    pub(super) fn advance(&mut self, taken: usize) {
        self.bytes.drain(..taken);
        if self.bytes.is_empty() {
            self.bytes = VecDeque::new();
            self.share.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max: usize) -> SendQueue {
        SendQueue::new(max, Budget::new(1 << 20))
    }

    fn push(queue: &mut SendQueue, frame: &[u8], priority: Priority) -> Pushed {
        queue.push(frame, 0, priority, true)
    }

    fn drain(queue: &mut SendQueue) -> Vec<u8> {
        let bytes = queue.chunks().map(|chunk| chunk.to_vec()).concat();
        queue.advance(bytes.len());
        bytes
    }

    /// STREAM-03
    #[test]
    fn whole_frames_are_dropped_and_replies_last() {
        let mut queue = queue(10);
        assert_eq!(
            push(&mut queue, b"12345678", Priority::Data),
            Pushed::Queued
        );
        assert_eq!(push(&mut queue, b"abc", Priority::Data), Pushed::QueueFull);
        assert_eq!(push(&mut queue, b"ab", Priority::Data), Pushed::Queued);
        assert_eq!(
            push(&mut queue, b"reply", Priority::Control),
            Pushed::Queued
        );
        let long = [0; CONTROL_RESERVE];
        assert_eq!(
            push(&mut queue, &long, Priority::Control),
            Pushed::QueueFull
        );
        assert_eq!(drain(&mut queue), b"12345678abreply");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_frame_that_was_begun_is_finished() {
        let mut queue = queue(4);
        let pushed = queue.push(b"12345678", 3, Priority::Data, true);
        assert_eq!((pushed, queue.bytes.len()), (Pushed::Queued, 5));
        queue.advance(2);
        assert_eq!(drain(&mut queue), b"678");
    }

    #[test]
    fn an_empty_queue_keeps_no_memory() {
        let mut queue = queue(1 << 20);
        assert_eq!(
            push(&mut queue, &[0; 1 << 19], Priority::Data),
            Pushed::Queued
        );
        assert_eq!(queue.share.bytes(), queue.bytes.capacity());
        queue.advance(1 << 19);
        assert_eq!((queue.bytes.capacity(), queue.share.bytes()), (0, 0));
    }

    /// SEC-12: replies to strangers are few.
    #[test]
    fn without_an_allocation_the_reserve_is_all() {
        let mut queue = queue(1 << 20);
        let reply = [0; CONTROL_RESERVE / 2];
        for _ in 0..2 {
            let pushed = queue.push(&reply, 0, Priority::Control, false);
            assert_eq!(pushed, Pushed::Queued);
        }
        let pushed = queue.push(&[0], 0, Priority::Control, false);
        assert_eq!(pushed, Pushed::QueueFull);
    }

    /// SEC-12: what all queues together may hold is held to the byte; data goes first, then
    /// replies, and a frame that cannot be finished ends its connection.
    #[test]
    fn the_budget_is_that_of_all_queues() {
        let budget = Budget::new(64 * 1024);
        let mut one = SendQueue::new(1 << 20, budget.clone());
        let mut other = SendQueue::new(1 << 20, budget.clone());
        assert_eq!(push(&mut one, &[1; 30_000], Priority::Data), Pushed::Queued);
        assert_eq!(
            push(&mut other, &[2; 24_576], Priority::Data),
            Pushed::Queued
        );
        let spent = push(&mut other, &[2; 1], Priority::Data);
        assert_eq!(spent, Pushed::BudgetSpent);
        let reply = push(&mut other, &[3; 8192], Priority::Control);
        assert_eq!(reply, Pushed::Queued);
        let spent = push(&mut other, &[3; 1], Priority::Control);
        assert_eq!(spent, Pushed::BudgetSpent);
        let mut third = SendQueue::new(1 << 20, budget);
        let broken = third.push(&[4; 2], 1, Priority::Data, true);
        assert_eq!(broken, Pushed::Broken);
        drop(one);
        let begun = third.push(&[4; 2], 1, Priority::Data, true);
        assert_eq!(begun, Pushed::Queued);
        let stranger = third.push(&[4; 5000], 1, Priority::Control, false);
        assert_eq!(stranger, Pushed::Broken, "of its half nothing is left");
        let [mut sent, rest] = other.chunks().map(|chunk| chunk.to_vec());
        sent.extend(rest);
        assert_eq!(sent.len(), 24_576 + 8192);
    }
}
