//! A stream's bytes become the frames that were put in, however the network cuts them.

use proptest::collection::vec;
use proptest::prelude::*;
use turnstone::wire::{
    ChannelNumber, Frame, HEADROOM, NotTurn, TAILROOM, next_frame, prepend_channel_data,
};

use crate::strategies::draft;
use crate::vectors::vectors;

/// A STUN message or padded ChannelData.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let channel_data =
        (0x4000_u16..=0x4FFF, vec(any::<u8>(), 0..90)).prop_map(|(number, payload)| {
            let mut buffer = vec![0; HEADROOM + payload.len() + TAILROOM];
            let place = HEADROOM..HEADROOM + payload.len();
            buffer[place.clone()].copy_from_slice(&payload);
            let number = ChannelNumber::new(number).unwrap();
            let range = prepend_channel_data(&mut buffer, place, number, true).unwrap();
            buffer[range].to_vec()
        });
    prop_oneof![draft().prop_map(|draft| draft.build()), channel_data]
}

/// Takes all whole frames off the front.
fn take_frames(buffered: &mut Vec<u8>, frames: &mut Vec<Vec<u8>>) -> Result<(), NotTurn> {
    while let Frame::Complete { len } = next_frame(buffered)? {
        frames.push(buffered.drain(..len).collect());
    }
    Ok(())
}

/// Feeds the stream in segments of these sizes, over and over.
fn read_in_segments(stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, NotTurn> {
    let (mut buffered, mut frames, mut rest) = (Vec::new(), Vec::new(), stream);
    for size in sizes.iter().cycle() {
        let (segment, later) = rest.split_at((*size).min(rest.len()));
        buffered.extend_from_slice(segment);
        take_frames(&mut buffered, &mut frames)?;
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    assert_eq!(buffered, [0; 0]);
    Ok(frames)
}

/// Reads as a host does that asks for no more than the frame needs.
fn read_exactly(stream: &[u8]) -> Result<Vec<Vec<u8>>, NotTurn> {
    let (mut frames, mut start, mut end) = (Vec::new(), 0, 0);
    while end < stream.len() {
        match next_frame(&stream[start..end])? {
            Frame::Incomplete { needed: None } => end += 1,
            Frame::Incomplete { needed: Some(len) } => end = start + len,
            Frame::Complete { len } => {
                frames.push(stream[start..start + len].to_vec());
                start += len;
            }
        }
    }
    assert_eq!(
        next_frame(&stream[start..]),
        Ok(Frame::Complete { len: end - start })
    );
    frames.push(stream[start..].to_vec());
    Ok(frames)
}

proptest! {
    /// STREAM-01, CHAN-14
    #[test]
    fn any_segments_give_the_same_frames(
        frames in vec(frame(), 1..8),
        sizes in vec(1_usize..300, 1..8),
    ) {
        let stream = frames.concat();
        prop_assert_eq!(read_in_segments(&stream, &sizes), Ok(frames.clone()));
        prop_assert_eq!(read_in_segments(&stream, &[1]), Ok(frames.clone()));
        prop_assert_eq!(read_in_segments(&stream, &[usize::MAX]), Ok(frames.clone()));
        prop_assert_eq!(read_exactly(&stream), Ok(frames.clone()));
    }

    /// STREAM-02: once out of step, always out of step: more bytes change nothing, and the verdict
    /// on the first bytes does not depend on what follows.
    #[test]
    fn verdicts_do_not_change(bytes in crate::strategies::packet(), tail in vec(any::<u8>(), 1..30)) {
        let longer = [&bytes[..], &tail].concat();
        let verdict = next_frame(&bytes);
        match verdict {
            Err(NotTurn) | Ok(Frame::Complete { .. }) => {
                prop_assert_eq!(next_frame(&longer), verdict);
            }
            Ok(Frame::Incomplete { needed: Some(needed) }) => match next_frame(&longer) {
                Ok(Frame::Incomplete { needed: still }) => prop_assert_eq!(still, Some(needed)),
                Ok(Frame::Complete { len }) => prop_assert_eq!(len, needed),
                Err(NotTurn) => prop_assert!(bytes.len() < 8, "the cookie ends at 8"),
            },
            Ok(Frame::Incomplete { needed: None }) => prop_assert!(bytes.len() < 4),
        }
    }
}

/// STREAM-01: both exchanges on one connection, with ChannelData in between, byte by byte.
#[test]
fn the_exchanges_on_one_connection() {
    let all = vectors();
    let mut frames: Vec<_> = all.exchanges().map(|vector| vector.bytes.clone()).collect();
    for (at, message) in all.channel_data.iter().enumerate() {
        frames.insert(at * 5, message.stream.clone());
    }
    let stream = frames.concat();
    for size in 1..=stream.len() {
        assert_eq!(read_in_segments(&stream, &[size]).as_ref(), Ok(&frames));
    }
}

/// STREAM-02: the lengths at the end of the range are waited for, to the byte.
#[test]
fn the_longest_frames_are_complete_at_their_last_byte() {
    let mut stun = vec![0x00, 0x16, 0xFF, 0xFC, 0x21, 0x12, 0xA4, 0x42];
    stun.resize(65_552, 0);
    let mut channel_data = vec![0x4F, 0xFF, 0xFF, 0xFD];
    channel_data.resize(65_540, 0);
    for frame in [stun, channel_data] {
        let len = frame.len();
        assert_eq!(next_frame(&frame), Ok(Frame::Complete { len }));
        let needed = Some(len);
        assert_eq!(
            next_frame(&frame[..len - 1]),
            Ok(Frame::Incomplete { needed })
        );
        assert_eq!(next_frame(&frame[..8]), Ok(Frame::Incomplete { needed }));
    }
}
