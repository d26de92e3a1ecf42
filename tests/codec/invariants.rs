//! What must hold of any bytes whatever.

use turnstone::wire::{
    Attributes, ChannelData, ChannelNumber, ClassicRequest, EvenPort, Family, Frame,
    IntegrityAlgorithm, MAGIC_COOKIE, Malformed, Message, NotTurn, PacketKind, RequestedTransport,
    TransactionId, classify, decode_address, decode_channel_number, decode_error_code,
    decode_lifetime, decode_xor_address, next_frame, padded,
};

const MESSAGE_INTEGRITY: u16 = 0x0008;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
const FINGERPRINT: u16 = 0x8028;

/// Reads the bytes in every way there is, and checks that the readings agree with the bytes and
/// with one another.
pub(crate) fn check(bytes: &[u8]) {
    let message = Message::parse(bytes);
    let classic = ClassicRequest::parse(bytes);
    let channel_data = ChannelData::parse(bytes);
    let kind = classify(bytes);

    if let Ok(message) = &message {
        check_message(bytes, message);
        assert_eq!((&classic, &channel_data), (&None, &None));
        if bytes[0] < 4 {
            assert_eq!(kind, PacketKind::Stun);
            assert_eq!(next_frame(bytes), Ok(Frame::Complete { len: bytes.len() }));
        } else {
            // Method 0x100 and above, reserved so that DTLS can share the port (RFC 8489 §18.2): the
            // demultiplexer does not let it come this far.
            assert!(matches!(kind, PacketKind::Dtls | PacketKind::Unknown));
            assert_eq!(message.method(), None);
            assert_eq!(next_frame(bytes), Err(NotTurn));
        }
    }
    if let Some(classic) = classic {
        assert_eq!(message.unwrap_err(), Malformed::Cookie);
        assert_eq!(kind, PacketKind::Stun);
        assert_eq!(classic.transaction_id, bytes[4..20]);
    }
    if let Some(channel_data) = channel_data {
        assert_eq!(kind, PacketKind::ChannelData);
        assert_eq!(channel_data.number.get().to_be_bytes(), bytes[..2]);
        assert_eq!(channel_data.payload.start, 4);
        assert_eq!(channel_data.payload.len(), usize::from(be16(bytes, 2)));
        assert!(channel_data.payload.end <= bytes.len());
    }
    check_frame(bytes);
}

fn check_frame(bytes: &[u8]) {
    match next_frame(bytes) {
        Ok(Frame::Complete { len }) => {
            assert!((4..=bytes.len()).contains(&len) && len % 4 == 0);
            assert_eq!(next_frame(&bytes[..len]), Ok(Frame::Complete { len }));
            let short = next_frame(&bytes[..len - 1]);
            assert!(matches!(short, Ok(Frame::Incomplete { .. })), "{short:?}");
        }
        Ok(Frame::Incomplete { needed: Some(len) }) => {
            assert!(bytes.len() >= 4 && len > bytes.len() && len <= 20 + 0xFFFC);
        }
        Ok(Frame::Incomplete { needed: None }) => assert!(bytes.len() < 4),
        Err(_) => {
            assert!(!bytes.is_empty());
            assert!(bytes[0] > 3 || Message::parse(bytes).is_err());
            assert_eq!(ChannelData::parse(bytes), None);
        }
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Walks the message a second time, by the letter of RFC 8489 §5 and §14.
fn check_message(bytes: &[u8], message: &Message<'_>) {
    assert!(bytes[0] < 0x40);
    assert_eq!(usize::from(be16(bytes, 2)) + 20, bytes.len());
    assert_eq!(bytes[4..8], MAGIC_COOKIE.to_be_bytes());
    assert_eq!(message.transaction_id().0, bytes[8..20]);
    assert!(std::ptr::eq(message.as_bytes(), bytes));

    let mut counted = message.attributes();
    let (mut sha1, mut sha256, mut fingerprint) = (None, None, None);
    let mut offset = 20;
    while offset < bytes.len() {
        assert_eq!(fingerprint, None, "something after FINGERPRINT");
        let attribute_type = be16(bytes, offset);
        let len = usize::from(be16(bytes, offset + 2));
        let value = &bytes[offset + 4..offset + 4 + len];
        match attribute_type {
            MESSAGE_INTEGRITY if sha256.is_none() => {
                sha1.get_or_insert((offset, value));
            }
            MESSAGE_INTEGRITY => {}
            MESSAGE_INTEGRITY_SHA256 => {
                sha256.get_or_insert((offset, value));
            }
            FINGERPRINT => fingerprint = Some((offset, value)),
            _ if sha1.is_some() || sha256.is_some() => {}
            _ => {
                check_attribute(&mut counted, message, offset, value);
                check_value(value, &message.transaction_id());
            }
        }
        offset += 4 + padded(len);
    }
    assert_eq!(offset, bytes.len());
    assert_eq!(counted.next(), None);
    assert_eq!(counted.next(), None, "the end stays the end");

    assert_eq!(message.integrity(IntegrityAlgorithm::Sha1), sha1);
    assert_eq!(message.integrity(IntegrityAlgorithm::Sha256), sha256);
    assert_eq!(message.has_integrity(), sha1.or(sha256).is_some());
    assert_eq!(message.has_fingerprint(), fingerprint.is_some());
    if let Some((offset, value)) = fingerprint {
        assert_eq!(value, fingerprint_of(&bytes[..offset]));
    }
}

/// The next attribute is the one at `offset`, lies in the message's own bytes, and the look-up by
/// type finds the first of its kind.
fn check_attribute(
    counted: &mut Attributes<'_>,
    message: &Message<'_>,
    offset: usize,
    value: &[u8],
) {
    let attribute = counted.next().expect("an attribute that counts is missing");
    assert_eq!(attribute.offset, offset);
    assert_eq!(
        attribute.attribute_type.0,
        be16(message.as_bytes(), offset),
        "{offset}"
    );
    assert!(std::ptr::eq(attribute.value, value));
    let first = message.first(attribute.attribute_type).unwrap();
    assert!(first.as_ptr() <= value.as_ptr());
    assert!(
        message
            .all(attribute.attribute_type)
            .any(|other| std::ptr::eq(other, value))
    );
}

/// Every decoder on one value: what it accepts has the right size and says what the bytes say.
pub(crate) fn check_value(value: &[u8], id: &TransactionId) {
    if let Ok(address) = decode_address(value) {
        assert_eq!(value.len(), if address.is_ipv4() { 8 } else { 20 });
        assert_eq!(value[1], Family::of(address.ip()) as u8);
        assert_eq!(be16(value, 2), address.port());
        let xored = decode_xor_address(value, id).unwrap();
        assert_eq!(xored.is_ipv4(), address.is_ipv4());
        assert_eq!(xored.port() ^ 0x2112, address.port());
    } else {
        assert!(decode_xor_address(value, id).is_err());
    }
    assert_eq!(decode_lifetime(value).is_ok(), value.len() == 4);
    assert_eq!(Family::decode(value).is_ok(), value.len() == 4);
    assert_eq!(RequestedTransport::decode(value).is_ok(), value.len() == 4);
    assert_eq!(EvenPort::decode(value).is_ok(), value.len() == 1);
    if let Ok(number) = decode_channel_number(value) {
        assert!(value.len() == 4 && number >= ChannelNumber::MIN && number <= ChannelNumber::MAX);
    }
    if let Ok((code, phrase)) = decode_error_code(value) {
        assert!((300..700).contains(&code));
        assert_eq!(phrase.as_bytes(), &value[4..]);
    }
}

/// FINGERPRINT's value over what is in front of it.
pub(crate) fn fingerprint_of(covered: &[u8]) -> [u8; 4] {
    (crc32(covered) ^ 0x5354_554E).to_be_bytes()
}

/// CRC-32 bit by bit (ITU V.42), as RFC 8489 §14.7 refers to it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// The check value of the CRC's definition.
#[test]
fn crc_is_the_one_that_everybody_means() {
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}
