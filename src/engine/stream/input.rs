//! From the bytes of one stream to frames.

use super::budget::{Budget, Claim, Share};
use super::ending::Ending;
use super::queue::Dropped;
use crate::wire::{Frame, NotTurn, PacketKind, classify, next_frame};

/// Bytes of the longest frame without an allocation. A request with USERNAME, REALM, NONCE and
/// SOFTWARE at their longest (RFC 8489 §14) and every other attribute there is has less than 3400.
pub(super) const STRANGER_FRAME_MAX: usize = 4096;

/// Bytes of the buffer that is kept from one partial frame to the next.
const KEPT_CAPACITY: usize = 2048;

/// Bytes that tell how long a frame is.
const LENGTH_END: usize = 4;

/// Bytes of a frame that has not arrived completely. Nothing is reserved for what a header
/// promises.
#[derive(Debug)]
pub(crate) struct Input {
    partial: Vec<u8>,
    /// The capacity of `partial`, but for a header that is cut.
    share: Share,
    /// Bytes still to come of a frame that there was no memory for.
    skip: usize,
    /// Frames that there was no memory for.
    lost: Dropped,
    /// Whether `partial` is a whole frame, which has been taken.
    taken: bool,
    /// Whether the stream has carried a STUN message. Before, what looks like ChannelData is
    /// something else: `GET ` would be channel 0x4745.
    seen_stun: bool,
}

impl Input {
    pub(super) const fn new(budget: Budget) -> Self {
        Self {
            partial: Vec::new(),
            share: Share::new(budget),
            skip: 0,
            lost: Dropped {
                frames: 0,
                bytes: 0,
            },
            taken: false,
            seen_stun: false,
        }
    }

    /// The next whole frame, of what was held and `bytes` behind it, from which it is taken. Once
    /// there is none, all of `bytes` is taken.
    ///
    /// # Errors
    /// If the stream cannot or may not go on.
    pub(crate) fn next<'a, 'b: 'a>(
        &'a mut self,
        bytes: &mut &'b [u8],
        has_allocation: impl Fn() -> bool,
    ) -> Result<Option<&'a [u8]>, Ending> {
        if std::mem::take(&mut self.taken) {
            self.release();
        }
        while !bytes.is_empty() {
            if self.skip > 0 {
                self.skip -= take(bytes, self.skip).len();
            } else if self.partial.is_empty() {
                match self.measure(bytes, &has_allocation)? {
                    Frame::Complete { len } => {
                        self.seen_stun = true;
                        return Ok(Some(take(bytes, len)));
                    }
                    Frame::Incomplete { needed } => {
                        self.hold(take(bytes, usize::MAX), needed, has_allocation())?;
                    }
                }
            } else if self.complete(bytes, &has_allocation)? {
                self.seen_stun = true;
                self.taken = true;
                return Ok(Some(&self.partial));
            }
        }
        Ok(None)
    }

    /// Takes no more than the partial frame lacks, and says whether that was all.
    fn complete(
        &mut self,
        bytes: &mut &[u8],
        has_allocation: &impl Fn() -> bool,
    ) -> Result<bool, Ending> {
        // Of a header that is cut the length comes first, and then the rest.
        for _ in 0..2 {
            let Frame::Incomplete { needed } = self.measure(&self.partial, has_allocation)? else {
                break;
            };
            let missing = needed.unwrap_or(LENGTH_END) - self.partial.len();
            self.hold(take(bytes, missing), needed, has_allocation())?;
            if self.skip > 0 || bytes.is_empty() {
                break;
            }
        }
        if self.partial.is_empty() {
            return Ok(false);
        }
        let measured = self.measure(&self.partial, has_allocation)?;
        Ok(matches!(measured, Frame::Complete { .. }))
    }

    /// Where the frame ends that begins here.
    fn measure(&self, bytes: &[u8], has_allocation: impl Fn() -> bool) -> Result<Frame, Ending> {
        if !self.seen_stun && classify(bytes) != PacketKind::Stun {
            return Err(Ending::NotTurn);
        }
        let frame = next_frame(bytes).map_err(|NotTurn| Ending::NotTurn)?;
        let len = match frame {
            Frame::Complete { len } => len,
            Frame::Incomplete { needed } => needed.unwrap_or(0),
        };
        if len > STRANGER_FRAME_MAX && !has_allocation() {
            return Err(Ending::FrameTooLong);
        }
        Ok(frame)
    }

    /// Adds to the partial frame, of `needed` bytes, or gives the frame up for want of memory.
    fn hold(
        &mut self,
        more: &[u8],
        needed: Option<usize>,
        has_allocation: bool,
    ) -> Result<(), Ending> {
        let held = self.partial.len() + more.len();
        if held > self.share.bytes()
            && let Some(needed) = needed
        {
            let beginning = if self.partial.is_empty() {
                more
            } else {
                &self.partial
            };
            let claim = match classify(beginning) {
                _ if !has_allocation => Claim::Stranger,
                PacketKind::Stun => Claim::Control,
                _ => Claim::Data,
            };
            let roomy = held.next_power_of_two().min(needed);
            if !self.share.grow(roomy, claim) {
                if !has_allocation {
                    return Err(Ending::MemoryLimit);
                }
                self.skip = needed - held;
                self.lost += Dropped::one(needed);
                self.partial = Vec::new();
                self.share.clear();
                return Ok(());
            }
            self.partial
                .reserve_exact(self.share.bytes() - self.partial.len());
        }
        self.partial.extend_from_slice(more);
        Ok(())
    }

    /// Forgets a frame that was taken.
    fn release(&mut self) {
        self.partial.clear();
        // What a stranger's was would count as a stranger's as long as it is kept.
        if self.share.bytes() > KEPT_CAPACITY || self.share.is_of_stranger() {
            self.partial = Vec::new();
            self.share.clear();
        }
    }

    /// Bytes of memory that wait for the rest of a frame.
    #[cfg(fuzzing)]
    pub(super) const fn held(&self) -> usize {
        self.partial.capacity()
    }

    /// Frames that were given up since this was last asked.
    pub(crate) fn take_lost(&mut self) -> Dropped {
        std::mem::take(&mut self.lost)
    }
}

/// Takes up to `len` bytes.
fn take<'b>(bytes: &mut &'b [u8], len: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(len.min(bytes.len()));
    *bytes = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input() -> Input {
        Input::new(Budget::new(1 << 20))
    }

    fn frames_of(
        input: &mut Input,
        mut bytes: &[u8],
        has_allocation: bool,
    ) -> Result<Vec<usize>, Ending> {
        let mut lengths = Vec::new();
        while let Some(frame) = input.next(&mut bytes, || has_allocation)? {
            lengths.push(frame.len());
        }
        assert!(bytes.is_empty());
        Ok(lengths)
    }

    fn frames(input: &mut Input, bytes: &[u8]) -> Result<Vec<usize>, Ending> {
        frames_of(input, bytes, true)
    }

    fn binding() -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42];
        bytes.extend([7; 12]);
        bytes
    }

    /// ChannelData of so many bytes, header included.
    fn data(len: usize) -> Vec<u8> {
        let [high, low] = ((len - 4) as u16).to_be_bytes();
        let mut bytes = vec![0x40, 0, high, low];
        bytes.resize(len, 9);
        bytes
    }

    /// An input that has carried a STUN message.
    fn begun(budget: &Budget) -> Input {
        let mut input = Input::new(budget.clone());
        assert_eq!(frames(&mut input, &binding()), Ok(vec![20]));
        input
    }

    /// STREAM-01
    #[test]
    fn one_byte_at_a_time_and_many_frames_at_once() {
        let mut stream = binding();
        stream.extend([0x40, 0, 0, 1, 9, 0, 0, 0]);
        stream.extend(binding());
        assert_eq!(frames(&mut input(), &stream), Ok(vec![20, 8, 20]));
        for piece in 1..stream.len() {
            let mut input = input();
            let mut lengths = Vec::new();
            for bytes in stream.chunks(piece) {
                lengths.extend(frames(&mut input, bytes).unwrap());
            }
            assert_eq!(lengths, [20, 8, 20], "in pieces of {piece}");
            input.next(&mut &[][..], || true).unwrap();
            assert!(input.partial.is_empty());
        }
    }

    /// STREAM-01, STREAM-02: and every byte is where it was.
    #[test]
    fn every_split_gives_the_same_bytes() {
        let mut stream = binding();
        stream.extend((0..=255).flat_map(|byte| [[0x40, 0, 0, 4], [byte; 4]].concat()));
        stream.extend(data(5000));
        for split in 0..stream.len() {
            let mut input = input();
            let mut seen = Vec::new();
            for mut bytes in [&stream[..split], &stream[split..]] {
                while let Some(frame) = input.next(&mut bytes, || true).unwrap() {
                    seen.extend_from_slice(frame);
                }
            }
            assert!(seen == stream, "split at {split}");
        }
    }

    /// SEC-19
    #[test]
    fn an_http_request_is_refused_at_its_first_byte() {
        let get = b"GET / HTTP/1.1\r\n\r\n";
        assert_eq!(frames(&mut input(), get), Err(Ending::NotTurn));
        assert_eq!(frames(&mut input(), b"G"), Err(Ending::NotTurn));
        let mut input = begun(&Budget::new(1024));
        let silence = frames(&mut input, b"GET ");
        assert_eq!(silence, Ok(vec![]), "then it is channel 0x4745");
    }

    /// MSG-23
    #[test]
    fn a_promised_length_reserves_nothing() {
        let mut input = begun(&Budget::new(1 << 20));
        frames(&mut input, &[0x40, 0, 0xFF, 0xFF]).unwrap();
        assert!(input.partial.capacity() < 64);
    }

    /// SEC-12, SEC-17: whatever the segments.
    #[test]
    fn without_an_allocation_frames_are_no_longer_than_requests() {
        for piece in [1, 3, 4, 20, 8192] {
            let send = |len| {
                let mut input = begun(&Budget::new(1 << 20));
                let frame = data(len);
                let mut pieces = frame.chunks(piece);
                pieces.try_for_each(|bytes| frames_of(&mut input, bytes, false).map(drop))
            };
            assert_eq!(send(STRANGER_FRAME_MAX), Ok(()));
            assert_eq!(send(STRANGER_FRAME_MAX + 4), Err(Ending::FrameTooLong));
        }
    }

    /// SEC-12: with an allocation a frame beyond the budget is lost whole, without one the
    /// connection is, and the budget gets everything back.
    #[test]
    fn a_frame_that_there_is_no_memory_for_is_skipped() {
        let budget = Budget::new(4096);
        let mut hoarder = Share::new(budget.clone());
        let most = 4096 - 4096 / 8;
        let mut input = begun(&budget);
        assert!(hoarder.grow(most - 1024, Claim::Data));
        assert_eq!(frames(&mut input, &data(2000)[..1024]), Ok(vec![]));
        assert_eq!(frames(&mut input, &data(2000)[..1]), Ok(vec![]));
        assert_eq!(
            (input.share.bytes(), input.take_lost()),
            (0, Dropped::one(2000))
        );
        for byte in &data(2000)[1025..] {
            assert_eq!(frames(&mut input, &[*byte]), Ok(vec![]));
        }
        let mut rest = data(100);
        rest.extend(binding());
        assert_eq!(frames(&mut input, &rest), Ok(vec![100, 20]));
        assert_eq!(input.take_lost(), Dropped::default());

        let mut stranger = begun(&budget);
        let half = frames_of(&mut stranger, &binding()[..10], false);
        assert_eq!(half, Ok(vec![]), "what data has is nothing to strangers");
        let rest = frames_of(&mut stranger, &binding()[10..], false);
        assert_eq!(rest, Ok(vec![20]));
        stranger.next(&mut &[][..], || true).unwrap();
        assert_eq!(stranger.share.bytes(), 0, "it is not kept");
        assert!(hoarder.grow(4096, Claim::Control));
        let half = frames_of(&mut stranger, &binding()[..10], false);
        assert_eq!(half, Err(Ending::MemoryLimit));
        hoarder.clear();
        drop((stranger, input));
        assert!(hoarder.grow(4096, Claim::Control));
    }
}
