//! What waits to be sent on one stream: whole frames, within a bound.

use std::io::IoSlice;
use std::ops::AddAssign;

use super::budget::{Budget, Claim};
use super::ring::Ring;

/// Bytes that replies may take beyond the bound: control must not wait for media. Without an
/// allocation there is nothing else.
const CONTROL_RESERVE: usize = 16 * 1024;

/// Frames that one write may have.
pub(super) const FRAMES_PER_WRITE: usize = 64;

/// What a frame is: data may be lost, replies should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// ChannelData and Data indications.
    Data,
    /// Responses.
    Control,
}

/// Frames that went nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dropped {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Dropped {
    pub(super) const fn one(len: usize) -> Self {
        Self {
            frames: 1,
            bytes: len as u64,
        }
    }
}

impl AddAssign for Dropped {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// What was lost, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Because this client is slow, or gone.
    pub(crate) slow: Dropped,
    /// Because all clients together have used up the memory for what waits.
    pub(crate) memory: Dropped,
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.slow += other.slow;
        self.memory += other.memory;
    }
}

/// There is no room for the rest of a frame that was begun, and without it the stream is out of
/// step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A frame that waits, or what is left of it.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    len: u32,
    /// Whether it may be lost: it is data, and nothing of it has gone.
    may_go: bool,
}

/// The bytes of frames that have not been taken yet. Frames are lost whole, the oldest data first:
/// the framing survives, and what is late already is worth the least.
#[derive(Debug)]
pub(crate) struct SendQueue {
    bytes: Ring<u8>,
    frames: Ring<Waiting>,
    max: usize,
}

impl SendQueue {
    /// A queue of at most `max` bytes of data.
    pub(super) fn new(max: usize, budget: Budget) -> Self {
        Self {
            bytes: Ring::new(budget.clone()),
            frames: Ring::new(budget),
            max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.as_deque().is_empty()
    }

    /// Queues a frame, of which the first `sent` bytes have been taken already. Older data makes
    /// room for it; what was lost is added to `losses`.
    ///
    /// # Errors
    /// If the frame was begun and cannot be finished.
    pub(super) fn push(
        &mut self,
        frame: &[u8],
        sent: usize,
        priority: Priority,
        has_allocation: bool,
        losses: &mut Losses,
    ) -> Result<(), Broken> {
        let begun = sent > 0;
        let (max, claim) = match (priority, has_allocation) {
            (Priority::Data, _) if begun => (self.max, Claim::Control),
            (Priority::Data, _) => (self.max, Claim::Data),
            (Priority::Control, true) => (self.max + CONTROL_RESERVE, Claim::Control),
            (Priority::Control, false) => (CONTROL_RESERVE, Claim::Stranger),
        };
        let max = if begun { usize::MAX } else { max };
        let rest = &frame[sent..];
        let fits = |queue: &Self| queue.bytes.as_deque().len() <= max.saturating_sub(rest.len());
        while !fits(self) {
            // What is too long by itself takes nothing with it.
            let dropped = (rest.len() <= max).then(|| self.drop_oldest()).flatten();
            let Some(dropped) = dropped else {
                losses.slow += Dropped::one(frame.len());
                return Ok(());
            };
            losses.slow += dropped;
        }
        while !(self.bytes.make_room(rest.len(), claim) && self.frames.make_room(1, claim)) {
            match self.drop_oldest() {
                Some(dropped) => losses.memory += dropped,
                None => {
                    losses.memory += Dropped::one(frame.len());
                    self.tidy();
                    return if begun { Err(Broken) } else { Ok(()) };
                }
            }
        }
        self.bytes.items().extend(rest);
        self.frames.items().push_back(Waiting {
            len: rest.len() as u32,
            may_go: priority == Priority::Data && !begun,
        });
        Ok(())
    }

    /// Loses the oldest data frame of which nothing has gone.
    fn drop_oldest(&mut self) -> Option<Dropped> {
        let mut start = 0;
        let frames = self.frames.items();
        let index = frames.iter().position(|frame| {
            start += if frame.may_go { 0 } else { frame.len as usize };
            frame.may_go
        })?;
        let len = frames.remove(index)?.len as usize;
        self.bytes.items().drain(start..start + len);
        Some(Dropped::one(len))
    }

    /// The next frames to send, each in one piece or two. Returns how many pieces there are.
    pub(super) fn pieces<'a>(&'a self, pieces: &mut [IoSlice<'a>; FRAMES_PER_WRITE]) -> usize {
        let (front, back) = self.bytes.as_deque().as_slices();
        let (mut start, mut count) = (0, 0);
        for frame in self.frames.as_deque() {
            let end = start + frame.len as usize;
            for part in [
                front.get(start..end.min(front.len())),
                back_part(front, back, start, end),
            ] {
                if let Some(part) = part.filter(|part| !part.is_empty()) {
                    if count == pieces.len() {
                        return count;
                    }
                    pieces[count] = IoSlice::new(part);
                    count += 1;
                }
            }
            start = end;
        }
        count
    }

    /// So many bytes have been taken.
    pub(super) fn advance(&mut self, taken: usize) {
        self.bytes.items().drain(..taken);
        let frames = self.frames.items();
        let mut left = taken as u32;
        while let Some(first) = frames.front_mut().filter(|_| left > 0) {
            if first.len <= left {
                left -= first.len;
                frames.pop_front();
            } else {
                first.len -= left;
                first.may_go = false;
                left = 0;
            }
        }
        self.tidy();
    }

    fn tidy(&mut self) {
        self.bytes.tidy();
        self.frames.tidy();
    }
}

/// What of a frame is in the second half of the ring.
fn back_part<'a>(front: &[u8], back: &'a [u8], start: usize, end: usize) -> Option<&'a [u8]> {
    let end = end.checked_sub(front.len())?;
    back.get(start.saturating_sub(front.len())..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max: usize) -> SendQueue {
        SendQueue::new(max, Budget::new(1 << 20))
    }

    fn push(queue: &mut SendQueue, frame: &[u8], priority: Priority) -> Losses {
        let mut losses = Losses::default();
        let pushed = queue.push(frame, 0, priority, true, &mut losses);
        assert_eq!(pushed, Ok(()));
        losses
    }

    fn pieces(queue: &SendQueue) -> Vec<Vec<u8>> {
        let mut pieces = [IoSlice::new(&[]); FRAMES_PER_WRITE];
        let count = queue.pieces(&mut pieces);
        pieces[..count].iter().map(|piece| piece.to_vec()).collect()
    }

    fn drain(queue: &mut SendQueue) -> Vec<u8> {
        let mut all = Vec::new();
        while !queue.is_empty() {
            let bytes = pieces(queue).concat();
            queue.advance(bytes.len());
            all.extend(bytes);
        }
        all
    }

    const NOTHING: Losses = Losses {
        slow: Dropped {
            frames: 0,
            bytes: 0,
        },
        memory: Dropped {
            frames: 0,
            bytes: 0,
        },
    };

    fn slow(frames: u64, bytes: u64) -> Losses {
        let slow = Dropped { frames, bytes };
        Losses { slow, ..NOTHING }
    }

    fn memory(frames: u64, bytes: u64) -> Losses {
        let memory = Dropped { frames, bytes };
        Losses { memory, ..NOTHING }
    }

    /// STREAM-03: the oldest data goes, as much as is needed, and replies stay where they are.
    #[test]
    fn the_oldest_data_is_lost_and_replies_stay() {
        let mut queue = queue(10);
        for frame in ["1234", "5678"] {
            assert_eq!(push(&mut queue, frame.as_bytes(), Priority::Data), NOTHING);
        }
        assert_eq!(push(&mut queue, b"reply", Priority::Control), NOTHING);
        assert_eq!(push(&mut queue, b"abc", Priority::Data), slow(2, 8));
        assert_eq!(push(&mut queue, b"de", Priority::Data), NOTHING);
        assert_eq!(push(&mut queue, b"f", Priority::Data), slow(1, 3));
        assert_eq!(drain(&mut queue), b"replydef");
        assert!(queue.is_empty());
    }

    /// STREAM-03: a reply finds room where only data is in its way, and none where replies are.
    #[test]
    fn replies_make_data_go() {
        let mut queue = queue(10);
        assert_eq!(push(&mut queue, b"12345678", Priority::Data), NOTHING);
        let long = vec![b'r'; CONTROL_RESERVE];
        assert_eq!(push(&mut queue, &long, Priority::Control), NOTHING);
        assert_eq!(push(&mut queue, b"reply", Priority::Control), slow(1, 8));
        assert_eq!(push(&mut queue, b"another", Priority::Control), slow(1, 7));
        assert_eq!(push(&mut queue, b"12345", Priority::Data), slow(1, 5));
        assert_eq!(drain(&mut queue).len(), long.len() + 5);
    }

    /// STREAM-03: whose turn has come is finished, and what is longer than all takes nothing along.
    #[test]
    fn a_frame_that_was_begun_is_finished() {
        let mut queue = queue(8);
        let mut losses = NOTHING;
        let pushed = queue.push(b"12345678", 3, Priority::Data, true, &mut losses);
        assert_eq!((pushed, losses), (Ok(()), NOTHING));
        assert_eq!(push(&mut queue, b"abc", Priority::Data), NOTHING);
        assert_eq!(push(&mut queue, b"de", Priority::Data), slow(1, 3));
        queue.advance(5);
        assert_eq!(push(&mut queue, b"fgh", Priority::Data), NOTHING);
        queue.advance(1);
        assert_eq!(push(&mut queue, b"ijklm", Priority::Data), slow(1, 3));
        assert_eq!(push(&mut queue, &[0; 9], Priority::Data), slow(1, 9));
        assert_eq!(drain(&mut queue), b"eijklm");
    }

    #[test]
    fn pieces_are_frames_however_they_lie() {
        let mut queue = queue(1 << 16);
        for serial in 0..5000_u32 {
            let frame = serial.to_be_bytes().repeat(10);
            assert_eq!(push(&mut queue, &frame, Priority::Data), NOTHING);
            if serial >= 90 {
                let first = pieces(&queue);
                let expected = (serial - 90).to_be_bytes().repeat(10);
                let len = if first[0].len() < 40 { 2 } else { 1 };
                assert_eq!(first[..len].concat(), expected);
                queue.advance(40);
            }
        }
        assert_eq!(drain(&mut queue).len(), 90 * 40);
    }

    #[test]
    fn an_empty_queue_keeps_no_memory() {
        let mut queue = queue(1 << 20);
        assert_eq!(push(&mut queue, &[0; 1 << 19], Priority::Data), NOTHING);
        assert!(queue.bytes.charged() >= 1 << 19 && queue.frames.charged() > 0);
        queue.advance(1 << 19);
        assert_eq!((queue.bytes.charged(), queue.frames.charged()), (0, 0));
    }

    /// SEC-12: replies to strangers are few.
    #[test]
    fn without_an_allocation_the_reserve_is_all() {
        let mut queue = queue(1 << 20);
        let reply = [0; CONTROL_RESERVE / 2];
        let mut losses = NOTHING;
        for _ in 0..2 {
            let pushed = queue.push(&reply, 0, Priority::Control, false, &mut losses);
            assert_eq!((pushed, losses), (Ok(()), NOTHING));
        }
        let pushed = queue.push(&[0], 0, Priority::Control, false, &mut losses);
        assert_eq!((pushed, losses), (Ok(()), slow(1, 1)));
    }

    /// SEC-12, STREAM-03: what all queues together may hold is held to, the places of short frames
    /// included; data goes first, then replies, and a frame that cannot be finished ends its
    /// connection.
    #[test]
    fn the_budget_is_that_of_all_queues() {
        let budget = Budget::new(64 * 1024);
        let queue = || SendQueue::new(1 << 20, budget.clone());
        let (mut one, mut other) = (queue(), queue());
        assert_eq!(push(&mut one, &[1; 30_000], Priority::Data), NOTHING);
        assert_eq!(push(&mut other, &[2; 16_000], Priority::Data), NOTHING);
        // One has 32 KiB and a step of places, the other a quarter of the budget likewise.
        let lost = push(&mut other, &[2; 5000], Priority::Data);
        assert_eq!(lost, memory(1, 16_000), "its own oldest");
        assert_eq!(push(&mut other, &[3; 11_000], Priority::Control), NOTHING);
        let lost = push(&mut other, &[3; 10_000], Priority::Control);
        assert_eq!(lost, memory(1, 5000), "data goes for a reply");
        let mut losses = NOTHING;
        let mut third = queue();
        let broken = third.push(&[4; 9000], 1, Priority::Data, true, &mut losses);
        assert_eq!(broken, Err(Broken));
        drop(one);
        let begun = third.push(&[4; 9000], 1, Priority::Data, true, &mut losses);
        assert_eq!(begun, Ok(()));
        let mut stranger = queue();
        let reply = stranger.push(&[5; 9000], 1, Priority::Control, false, &mut losses);
        assert_eq!(reply, Err(Broken), "half of the last eighth is strangers'");
        drop(third);
        let reply = stranger.push(&[5; 9000], 1, Priority::Control, false, &mut losses);
        assert_eq!(reply, Ok(()));
        assert_eq!(drain(&mut other), [3; 21_000]);
    }
}
