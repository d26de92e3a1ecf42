//! A TCP stream's bytes, cut anywhere.
#![no_main]

use libfuzzer_sys::fuzz_target;
use turnstone::engine::StreamInput;
use turnstone::wire::{Frame, NotTurn, PacketKind, classify, next_frame};

/// What came out of a stream: its frames, and how it stands at the end.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    frames: Vec<Vec<u8>>,
    /// Bytes of a frame that is not complete.
    end: Result<usize, NotTurn>,
}

// The first byte is how many sizes of segments follow; they are used over and over.
fuzz_target!(|input: &[u8]| {
    let Some((count, rest)) = input.split_first() else {
        return;
    };
    let (sizes, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
    for has_allocation in [true, false] {
        let whole = by_the_letter(stream, has_allocation);
        assert_eq!(in_segments(stream, sizes, has_allocation), whole);
        assert_eq!(in_segments(stream, &[], has_allocation), whole);
        if stream.len() < 2_000 {
            assert_eq!(in_segments(stream, &[1], has_allocation), whole);
        }
    }
});

/// The frames of a stream that is there as a whole. ChannelData counts only after a STUN message,
/// and without an allocation no frame may be longer than a request.
fn by_the_letter(stream: &[u8], has_allocation: bool) -> Seen {
    let (mut frames, mut rest, mut seen_stun) = (Vec::new(), stream, false);
    let max = if has_allocation {
        usize::MAX
    } else {
        StreamInput::STRANGER_FRAME_MAX
    };
    let end = loop {
        let is_stun = classify(rest) == PacketKind::Stun;
        if !rest.is_empty() && !is_stun && !seen_stun {
            break Err(NotTurn);
        }
        match next_frame(rest) {
            Ok(Frame::Complete { len }) if len <= max => {
                seen_stun |= is_stun;
                frames.push(rest[..len].to_vec());
                rest = &rest[len..];
            }
            Ok(Frame::Incomplete { needed }) if needed.is_none_or(|needed| needed <= max) => {
                assert!(needed.is_none_or(|needed| needed > rest.len()));
                break Ok(rest.len());
            }
            Ok(_) => break Err(NotTurn),
            Err(error) => break Err(error),
        }
    };
    Seen { frames, end }
}

/// The same through a connection's input, in segments of these sizes.
fn in_segments(stream: &[u8], sizes: &[u8], has_allocation: bool) -> Seen {
    /// Bytes that an input keeps from one frame to the next, and a little.
    const KEPT: usize = 2048 + 64;

    let (mut input, mut frames) = (StreamInput::new(1 << 20), Vec::new());
    let (mut rest, mut arrived, mut taken) = (stream, 0, 0);
    // A size of 0 is a segment as long as the kernel makes them.
    let mut sizes = sizes
        .iter()
        .map(|&size| if size == 0 { 1460 } else { usize::from(size) })
        .cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).min(rest.len());
        let (segment, later) = rest.split_at(size);
        arrived += size;
        rest = later;
        let pushed = input.push(segment, has_allocation, |frame| {
            taken += frame.len();
            frames.push(frame.to_vec());
        });
        if let Err(error) = pushed {
            let end = Err(error);
            return Seen { frames, end };
        }
        assert!(taken <= arrived);
        // A promised length reserves nothing: only what arrived is held.
        assert!(
            input.held() <= 2 * (arrived - taken) + KEPT,
            "{} held",
            input.held()
        );
    }
    let end = Ok(arrived - taken);
    Seen { frames, end }
}
