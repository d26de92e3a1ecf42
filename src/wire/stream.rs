//! Where one message ends and the next begins on TCP and TLS (RFC 8489 §6.2.2, RFC 8656 §12.5).

use std::fmt;

use super::demux::{PacketKind, classify};
use super::{ChannelData, HEADER_LEN, MAGIC_COOKIE, padded};

/// The next message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// More bytes are needed to tell, or to complete it.
    Incomplete {
        /// Bytes of the whole frame, once its header is there.
        needed: Option<usize>,
    },
    /// The first `len` bytes are a STUN message or a ChannelData message with its padding.
    Complete {
        /// Bytes to take from the stream.
        len: usize,
    },
}

/// The bytes are neither STUN nor ChannelData: the stream is out of step and must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotTurn;

impl fmt::Display for NotTurn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither STUN nor ChannelData on the stream")
    }
}

impl std::error::Error for NotTurn {}

/// Bytes of the longest frame: a STUN message with the largest length field that is a multiple of 4.
pub(super) const MAX_FRAME_LEN: usize = HEADER_LEN + 0xFFFC;

/// Looks at the bytes of a stream that have not been taken yet.
///
/// ASCII capitals up to `O` are first bytes of ChannelData, so `GET ` looks like one: a host should
/// take ChannelData only on a stream that has carried a STUN message.
///
/// # Errors
/// As soon as the bytes cannot be the beginning of a frame.
pub fn next_frame(bytes: &[u8]) -> Result<Frame, NotTurn> {
    if bytes.is_empty() {
        return Ok(Frame::Incomplete { needed: None });
    }
    let header_len = match classify(bytes) {
        PacketKind::Stun => HEADER_LEN,
        PacketKind::ChannelData => ChannelData::HEADER_LEN,
        PacketKind::Dtls | PacketKind::Unknown => return Err(NotTurn),
    };
    let &[_, _, l0, l1, ref rest @ ..] = bytes else {
        return Ok(Frame::Incomplete { needed: None });
    };
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let len = header_len + padded(length);
    if header_len == HEADER_LEN {
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let seen = rest.len().min(cookie.len());
        if length % 4 != 0 || rest[..seen] != cookie[..seen] {
            return Err(NotTurn);
        }
    }
    debug_assert!(len <= MAX_FRAME_LEN);
    if bytes.len() < len {
        Ok(Frame::Incomplete { needed: Some(len) })
    } else {
        Ok(Frame::Complete { len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(length: u16) -> Vec<u8> {
        let mut bytes = vec![0, 1];
        bytes.extend(length.to_be_bytes());
        bytes.extend(MAGIC_COOKIE.to_be_bytes());
        bytes.extend([0; 12]);
        bytes
    }

    /// STREAM-01
    #[test]
    fn every_split_waits_for_the_rest() {
        let mut stream = stun(4);
        stream.extend([0x80, 0x22, 0, 0]);
        for len in 0..stream.len() {
            assert!(
                matches!(next_frame(&stream[..len]), Ok(Frame::Incomplete { .. })),
                "{len}"
            );
        }
        stream.extend([0x40, 0, 0, 1]);
        assert_eq!(next_frame(&stream), Ok(Frame::Complete { len: 24 }));
    }

    /// CHAN-14
    #[test]
    fn channel_data_frames_include_their_padding() {
        for length in 0..=8u8 {
            let mut frame = vec![0x40, 0, 0, length];
            frame.resize(4 + padded(length.into()), 0);
            assert_eq!(next_frame(&frame), Ok(Frame::Complete { len: frame.len() }));
            if length > 0 {
                let short = &frame[..frame.len() - 1];
                assert_eq!(
                    next_frame(short),
                    Ok(Frame::Incomplete {
                        needed: Some(frame.len())
                    })
                );
            }
        }
    }

    /// STREAM-02: the largest lengths do not wrap (CVE-2026-68552 of coturn).
    #[test]
    fn largest_lengths_do_not_wrap() {
        assert_eq!(
            next_frame(&stun(0xFFFC)),
            Ok(Frame::Incomplete {
                needed: Some(MAX_FRAME_LEN)
            })
        );
        assert_eq!(next_frame(&stun(0xFFFF)), Err(NotTurn));
        let channel_data = [0x40, 0, 0xFF, 0xFF];
        assert_eq!(
            next_frame(&channel_data),
            Ok(Frame::Incomplete {
                needed: Some(65_540)
            })
        );
    }

    /// STREAM-02, SEC-19
    #[test]
    fn what_is_not_turn_is_refused_at_the_first_wrong_byte() {
        assert_eq!(next_frame(b"POST"), Err(NotTurn));
        assert_eq!(next_frame(&[0x16, 3, 1]), Err(NotTurn));
        assert_eq!(next_frame(&[0x50, 0, 0, 0]), Err(NotTurn));
        assert_eq!(next_frame(&[0, 1, 0, 2]), Err(NotTurn));
        assert_eq!(next_frame(&[0, 1, 0, 0, 0x21, 0x13]), Err(NotTurn));
    }
}
