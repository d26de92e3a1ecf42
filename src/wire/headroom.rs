//! Headers written in place, in front of a payload that stays where it was received.

use std::net::SocketAddr;
use std::ops::Range;

use super::address::{Family, encode_xor_address};
use super::method::encode_type;
use super::{
    ATTRIBUTE_HEADER_LEN, AttributeType, ChannelData, ChannelNumber, Class, HEADER_LEN,
    MAGIC_COOKIE, Method, TransactionId, padded,
};

/// Bytes that a receive buffer keeps free in front of a peer's payload: a Data indication's header
/// with an IPv6 peer takes 48, the rest keeps the payload aligned.
pub const HEADROOM: usize = 64;

/// Bytes that a receive buffer keeps free behind a peer's payload, for padding.
pub const TAILROOM: usize = 3;

/// Turns `buffer[payload]` into a ChannelData message and returns where that message is in the
/// buffer, or `None` if the payload is too long for it. `pad` adds zeros up to the 32-bit boundary,
/// as stream transports want (RFC 8656 §12.5).
///
/// # Panics
/// If there are not [`HEADROOM`] bytes before and [`TAILROOM`] bytes after the payload.
pub fn prepend_channel_data(
    buffer: &mut [u8],
    payload: Range<usize>,
    number: ChannelNumber,
    pad: bool,
) -> Option<Range<usize>> {
    let len = u16::try_from(payload.len()).ok()?;
    let start = payload.start - ChannelData::HEADER_LEN;
    buffer[start..start + 2].copy_from_slice(&number.get().to_be_bytes());
    buffer[start + 2..payload.start].copy_from_slice(&len.to_be_bytes());
    let end = if pad {
        write_padding(buffer, &payload)
    } else {
        payload.end
    };
    Some(start..end)
}

/// Turns `buffer[payload]` into a Data indication from `peer` and returns where that indication is
/// in the buffer, or `None` if the payload is too long for it (RFC 8656 §11.3).
///
/// # Panics
/// As [`prepend_channel_data`].
pub fn prepend_data_indication(
    buffer: &mut [u8],
    payload: Range<usize>,
    peer: SocketAddr,
    transaction_id: TransactionId,
) -> Option<Range<usize>> {
    let address_len = Family::of(peer.ip()).address_value_len();
    let attributes = ATTRIBUTE_HEADER_LEN + address_len + ATTRIBUTE_HEADER_LEN;
    let body_len = u16::try_from(attributes + padded(payload.len())).ok()?;
    let data_len = u16::try_from(payload.len()).ok()?;
    let start = payload.start - attributes - HEADER_LEN;

    let message_type = encode_type(Class::Indication, Method::Data);
    let header = &mut buffer[start..payload.start];
    header[0..2].copy_from_slice(&message_type.to_be_bytes());
    header[2..4].copy_from_slice(&body_len.to_be_bytes());
    header[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    header[8..20].copy_from_slice(&transaction_id.0);
    header[20..22].copy_from_slice(&AttributeType::XOR_PEER_ADDRESS.0.to_be_bytes());
    header[22..24].copy_from_slice(&(address_len as u16).to_be_bytes());
    encode_xor_address(&mut header[24..24 + address_len], peer, &transaction_id);
    let data = 24 + address_len;
    header[data..data + 2].copy_from_slice(&AttributeType::DATA.0.to_be_bytes());
    header[data + 2..data + 4].copy_from_slice(&data_len.to_be_bytes());
    Some(start..write_padding(buffer, &payload))
}

/// Zeroes the padding behind the payload and returns where it ends.
fn write_padding(buffer: &mut [u8], payload: &Range<usize>) -> usize {
    let end = payload.start + padded(payload.len());
    buffer[payload.end..end].fill(0);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Message, decode_xor_address};

    fn buffer(payload: &[u8]) -> (Vec<u8>, Range<usize>) {
        let mut buffer = vec![0xEE; HEADROOM + payload.len() + TAILROOM];
        buffer[HEADROOM..HEADROOM + payload.len()].copy_from_slice(payload);
        (buffer, HEADROOM..HEADROOM + payload.len())
    }

    /// CHAN-14, MSG-05
    #[test]
    fn channel_data_is_padded_with_zeros_on_streams_only() {
        for len in 0..9 {
            let payload = vec![7; len];
            let number = ChannelNumber::new(0x4001).unwrap();
            let (mut bytes, range) = buffer(&payload);
            let udp = prepend_channel_data(&mut bytes, range.clone(), number, false).unwrap();
            assert_eq!(
                &bytes[udp.start..udp.start + 4],
                &[0x40, 0x01, 0, len as u8]
            );
            assert_eq!(&bytes[udp.start + 4..udp.end], payload);

            let tcp = prepend_channel_data(&mut bytes, range, number, true).unwrap();
            assert_eq!(tcp.len() % 4, 0);
            assert!(
                bytes[tcp.start + 4 + len..tcp.end]
                    .iter()
                    .all(|&byte| byte == 0)
            );
        }
    }

    /// SEND-07, SEND-08, MSG-05
    #[test]
    fn data_indication_reads_back() {
        let id = TransactionId([3; 12]);
        for peer in ["192.0.2.1:50000", "[2001:db8::7]:1"] {
            let peer: SocketAddr = peer.parse().unwrap();
            for len in 0..9 {
                let (mut bytes, range) = buffer(&vec![9; len]);
                let range = prepend_data_indication(&mut bytes, range, peer, id).unwrap();
                let message = Message::parse(&bytes[range.clone()]).unwrap();
                assert_eq!(
                    (message.class(), message.method()),
                    (Class::Indication, Some(Method::Data))
                );
                let address = message.first(AttributeType::XOR_PEER_ADDRESS).unwrap();
                assert_eq!(decode_xor_address(address, &id), Ok(peer));
                assert_eq!(message.first(AttributeType::DATA).unwrap(), vec![9; len]);
                assert!(
                    bytes[range.end - (padded(len) - len)..range.end]
                        .iter()
                        .all(|&b| b == 0)
                );
            }
        }
        let (mut bytes, range) = buffer(b"data");
        let range =
            prepend_data_indication(&mut bytes, range, "192.0.2.1:1".parse().unwrap(), id).unwrap();
        assert_eq!(range.len(), 40);
    }

    #[test]
    fn what_no_header_can_count_is_refused() {
        let (mut bytes, range) = buffer(&vec![0; 65_536]);
        let number = ChannelNumber::MIN;
        let peer = "192.0.2.1:1".parse().unwrap();
        assert_eq!(
            prepend_channel_data(&mut bytes, range.clone(), number, true),
            None
        );
        let id = TransactionId([0; 12]);
        assert_eq!(prepend_data_indication(&mut bytes, range, peer, id), None);
    }
}
