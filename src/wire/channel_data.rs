//! ChannelData messages (RFC 8656 §12.4, §12.6).

use std::fmt;
use std::ops::Range;

/// A channel number, 0x4000-0x4FFF (RFC 8656 §12).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelNumber(u16);

impl ChannelNumber {
    /// The lowest channel number.
    pub const MIN: Self = Self(0x4000);
    /// The highest channel number; RFC 8656 reserves 0x5000 and above.
    pub const MAX: Self = Self(0x4FFF);

    /// `None` outside 0x4000-0x4FFF.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= Self::MIN.0 && number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A received ChannelData message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelData {
    /// The channel that the client named.
    pub number: ChannelNumber,
    /// Where the application data is in the packet, padding excluded.
    pub payload: Range<usize>,
}

impl ChannelData {
    /// Bytes of number and length.
    pub const HEADER_LEN: usize = 4;

    /// Reads one message. `None` if the number is reserved or the packet is shorter than its
    /// length field says; what follows the data is padding and ignored.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let &[n0, n1, l0, l1, ..] = packet else {
            return None;
        };
        let number = ChannelNumber::new(u16::from_be_bytes([n0, n1]))?;
        let end = Self::HEADER_LEN + usize::from(u16::from_be_bytes([l0, l1]));
        (packet.len() >= end).then_some(Self {
            number,
            payload: Self::HEADER_LEN..end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CHAN-01, CHAN-11
    #[test]
    fn numbers_end_where_the_rfc_says() {
        for number in 0..=u16::MAX {
            assert_eq!(
                ChannelNumber::new(number).is_some(),
                (0x4000..=0x4FFF).contains(&number)
            );
        }
    }

    /// CHAN-12
    #[test]
    fn surplus_is_padding_and_shortage_is_an_error() {
        let message = [
            0x40, 0x00, 0x00, 0x05, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        for len in 0..9 {
            assert_eq!(ChannelData::parse(&message[..len]), None, "{len} bytes");
        }
        for len in 9..=message.len() {
            assert_eq!(ChannelData::parse(&message[..len]).unwrap().payload, 4..9);
        }
    }
}
