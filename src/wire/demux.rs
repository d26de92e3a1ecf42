//! What a packet is, by its first byte (RFC 8656 §12 Table 3, RFC 7983).

/// The protocol of a packet on a TURN port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A STUN message: first byte 0-3.
    Stun,
    /// ChannelData: first byte 64-79.
    ChannelData,
    /// DTLS: first byte 20-63.
    Dtls,
    /// Anything else, which a TURN server drops.
    Unknown,
}

/// Tells a packet's kind from its first byte; an empty packet is [`PacketKind::Unknown`].
pub fn classify(packet: &[u8]) -> PacketKind {
    match packet.first() {
        Some(0..=3) => PacketKind::Stun,
        Some(20..=63) => PacketKind::Dtls,
        Some(64..=79) => PacketKind::ChannelData,
        _ => PacketKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MSG-01
    #[test]
    fn first_byte_decides() {
        for first in 0..=255u8 {
            let expected = match first {
                0..=3 => PacketKind::Stun,
                20..=63 => PacketKind::Dtls,
                64..=79 => PacketKind::ChannelData,
                _ => PacketKind::Unknown,
            };
            assert_eq!(classify(&[first, 0, 0]), expected, "first byte {first}");
        }
        assert_eq!(classify(&[]), PacketKind::Unknown);
    }
}
