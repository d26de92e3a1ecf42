//! Bytes and their meaning: the STUN message (RFC 8489 §5, §14), ChannelData (RFC 8656 §12.4) and
//! the framing of both on a stream.
//!
//! No state, no clock, no randomness and no heap: views borrow the received bytes, writers fill a
//! buffer of the caller's. Nothing here panics, whatever the bytes are, and nothing here knows who
//! may do what: that is `auth` and `turn`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
mod attribute;
mod builder;
mod channel_data;
mod demux;
mod error_code;
mod fingerprint;
mod headroom;
mod integrity;
mod message;
mod method;
mod stream;

pub use address::{Family, decode_address, decode_xor_address};
pub use attribute::{
    AttributeType, BadAttribute, EvenPort, IcmpAttribute, RequestedTransport,
    decode_channel_number, decode_error_code, decode_lifetime,
};
pub use builder::{BufferTooSmall, MessageBuilder};
pub use channel_data::{ChannelData, ChannelNumber};
pub use demux::{PacketKind, classify};
pub use error_code::ErrorCode;
pub use headroom::{HEADROOM, TAILROOM, prepend_channel_data, prepend_data_indication};
pub use integrity::{IntegrityAlgorithm, verify_integrity};
pub use message::{Attributes, ClassicRequest, Malformed, Message, RawAttribute, TransactionId};
pub use method::{Class, Method};
pub use stream::{Frame, NotTurn, next_frame};

/// Bytes of a STUN header (RFC 8489 §5).
pub const HEADER_LEN: usize = 20;

/// The fixed value of the magic cookie field (RFC 8489 §5).
pub const MAGIC_COOKIE: u32 = 0x2112_A442;

/// Bytes of an attribute's type and length (RFC 8489 §14).
pub const ATTRIBUTE_HEADER_LEN: usize = 4;

/// Rounds a value's length up to the 32-bit boundary on which attributes and stream frames end.
pub const fn padded(len: usize) -> usize {
    (len + 3) & !3
}
