//! What waits to be sent on one stream: whole frames, within a bound.

use std::collections::VecDeque;
use std::io::IoSlice;

/// Bytes that replies may take beyond the bound: control must not wait for media.
const CONTROL_RESERVE: usize = 16 * 1024;

/// Bytes of memory that an empty queue may keep.
const IDLE_CAPACITY: usize = 4 * 1024;

/// What a frame is: data may be lost, replies should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// ChannelData and Data indications.
    Data,
    /// Responses.
    Control,
}

/// The bytes of frames that the kernel has not taken yet. A frame is queued whole or not at all,
/// so that the framing survives whatever is dropped.
#[derive(Debug)]
pub(crate) struct SendQueue {
    bytes: VecDeque<u8>,
    max: usize,
}

impl SendQueue {
    /// A queue of at most `max` bytes of data.
    pub(crate) const fn new(max: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            max,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Queues a frame, of which the kernel has taken the first `sent` bytes already. False if it
    /// was dropped; a frame that was begun never is.
    pub(crate) fn push(&mut self, frame: &[u8], sent: usize, priority: Priority) -> bool {
        let max = match priority {
            Priority::Data => self.max,
            Priority::Control => self.max + CONTROL_RESERVE,
        };
        let begun = sent > 0;
        if !begun && self.bytes.len() + frame.len() > max {
            return false;
        }
        self.bytes.extend(&frame[sent..]);
        true
    }

    /// The bytes to send next.
    pub(crate) fn chunks(&self) -> [IoSlice<'_>; 2] {
        let (front, back) = self.bytes.as_slices();
        [IoSlice::new(front), IoSlice::new(back)]
    }

    /// The kernel has taken so many bytes.
    pub(crate) fn advance(&mut self, taken: usize) {
        self.bytes.drain(..taken);
        if self.bytes.is_empty() && self.bytes.capacity() > IDLE_CAPACITY {
            self.bytes = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut SendQueue) -> Vec<u8> {
        let bytes = queue.chunks().map(|chunk| chunk.to_vec()).concat();
        queue.advance(bytes.len());
        bytes
    }

    /// STREAM-03
    #[test]
    fn whole_frames_are_dropped_and_replies_last() {
        let mut queue = SendQueue::new(10);
        assert!(queue.push(b"12345678", 0, Priority::Data));
        assert!(!queue.push(b"abc", 0, Priority::Data));
        assert!(queue.push(b"ab", 0, Priority::Data));
        assert!(queue.push(b"reply", 0, Priority::Control));
        assert!(!queue.push(&[0; CONTROL_RESERVE], 0, Priority::Control));
        assert_eq!(drain(&mut queue), b"12345678abreply");
        assert!(queue.is_empty());
    }

    #[test]
    fn a_frame_that_was_begun_is_finished() {
        let mut queue = SendQueue::new(4);
        assert!(queue.push(b"12345678", 3, Priority::Data));
        assert_eq!(queue.bytes.len(), 5);
        queue.advance(2);
        assert_eq!(drain(&mut queue), b"678");
    }

    #[test]
    fn an_empty_queue_keeps_no_memory() {
        let mut queue = SendQueue::new(1 << 20);
        assert!(queue.push(&[0; 1 << 19], 0, Priority::Data));
        queue.advance(1 << 19);
        assert!(queue.bytes.capacity() <= IDLE_CAPACITY);
    }
}
