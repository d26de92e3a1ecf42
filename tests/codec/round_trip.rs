//! What is written is read; what is read need not have been written by us.

use proptest::collection::vec;
use proptest::prelude::*;
use turnstone::wire::{
    AttributeType, BufferTooSmall, ChannelData, ChannelNumber, Class, ClassicRequest, Family,
    HEADROOM, IntegrityAlgorithm, Message, MessageBuilder, Method, TAILROOM, TransactionId,
    decode_address, decode_error_code, decode_lifetime, decode_xor_address, padded,
    prepend_channel_data, prepend_data_indication, verify_integrity,
};

use crate::invariants;
use crate::strategies::{Attribute, Draft, address, draft, packet};
use crate::vectors::in_message;

/// The attribute as it must come out.
fn assert_reads_back(drafted: &Attribute, draft: &Draft, attribute_type: AttributeType, v: &[u8]) {
    match drafted {
        Attribute::Opaque(kind, value) => assert_eq!((attribute_type, v), (*kind, &value[..])),
        Attribute::Xored(kind, address) => {
            assert_eq!(attribute_type, *kind);
            assert_eq!(decode_xor_address(v, &draft.id), Ok(*address));
        }
        Attribute::Plain(address) => {
            assert_eq!(attribute_type, AttributeType::MAPPED_ADDRESS);
            assert_eq!(decode_address(v), Ok(*address));
        }
        Attribute::Lifetime(seconds) => {
            assert_eq!(attribute_type, AttributeType::LIFETIME);
            assert_eq!(decode_lifetime(v), Ok(*seconds));
        }
        Attribute::Error(code) => {
            assert_eq!(attribute_type, AttributeType::ERROR_CODE);
            assert_eq!(decode_error_code(v), Ok((code.number(), code.phrase())));
        }
        Attribute::Unknown(types) => {
            assert_eq!(attribute_type, AttributeType::UNKNOWN_ATTRIBUTES);
            let bytes: Vec<_> = types.iter().flat_map(|kind| kind.0.to_be_bytes()).collect();
            assert_eq!(v, bytes);
        }
    }
}

proptest! {
    /// MSG-05, MSG-10, FP-03: every part of a message comes back, and padding is zero whatever the
    /// buffer held.
    #[test]
    fn drafts_come_back(draft in draft()) {
        let bytes = draft.build();
        invariants::check(&bytes);
        let message = Message::parse(&bytes).unwrap();
        prop_assert_eq!(message.class(), draft.class);
        prop_assert_eq!(message.method(), Some(draft.method));
        prop_assert_eq!(message.transaction_id(), draft.id);
        prop_assert_eq!(message.has_fingerprint(), draft.fingerprint);
        prop_assert_eq!(message.has_integrity(), draft.sha1 || draft.sha256);

        let mut drafted = draft.attributes.iter();
        for attribute in message.attributes() {
            let (kind, value) = (attribute.attribute_type, attribute.value);
            assert_reads_back(drafted.next().unwrap(), &draft, kind, value);
            let padding = attribute.offset + 4 + value.len()..attribute.offset + 4 + padded(value.len());
            prop_assert!(bytes[padding].iter().all(|&byte| byte == 0));
        }
        prop_assert!(drafted.next().is_none());

        let key = draft.key.as_bytes();
        for (algorithm, signed) in [
            (IntegrityAlgorithm::Sha1, draft.sha1),
            (IntegrityAlgorithm::Sha256, draft.sha256),
        ] {
            prop_assert_eq!(message.integrity(algorithm).is_some(), signed);
            prop_assert_eq!(verify_integrity(&message, algorithm, key), signed);
            prop_assert!(!verify_integrity(&message, algorithm, b"\0another key"));
        }
        // A name in a log, never a value.
        let shown = format!("{message:?}");
        prop_assert!(shown.is_ascii());
    }

    /// A buffer that is too small is an error at every size, and nothing is written behind the
    /// message.
    #[test]
    fn every_smaller_buffer_is_too_small(draft in draft()) {
        let bytes = draft.build();
        let mut buffer = vec![0xEE; bytes.len() + 8];
        for len in 0..bytes.len() {
            prop_assert_eq!(draft.build_into(&mut buffer[..len]), Err(BufferTooSmall));
            prop_assert!(buffer[len..].iter().all(|&byte| byte == 0xEE));
            buffer.fill(0xEE);
        }
        prop_assert_eq!(draft.build_into(&mut buffer), Ok(bytes.len()));
        prop_assert_eq!(&buffer[..bytes.len()], &bytes[..]);
        prop_assert!(buffer[bytes.len()..].iter().all(|&byte| byte == 0xEE));
    }

    /// MSG-23
    #[test]
    fn any_bytes_agree_with_themselves(bytes in packet()) {
        invariants::check(&bytes);
        invariants::check_value(&bytes, &TransactionId([1; 12]));
        if let Ok(message) = Message::parse(&bytes) {
            for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
                let _ = verify_integrity(&message, algorithm, b"key");
            }
            let _ = format!("{message:?}");
        }
    }

    /// SEND-03, SEND-07, CHAN-13, MSG-05: both headers go in front of a payload that stays.
    #[test]
    fn payloads_keep_their_place(
        payload in vec(any::<u8>(), 0..200),
        peer in address(),
        id in any::<[u8; 12]>(),
        number in 0x4000_u16..=0x4FFF,
        pad in any::<bool>(),
    ) {
        let id = TransactionId(id);
        let number = ChannelNumber::new(number).unwrap();
        let mut buffer = vec![0xEE; HEADROOM + payload.len() + TAILROOM];
        let place = HEADROOM..HEADROOM + payload.len();
        buffer[place.clone()].copy_from_slice(&payload);

        let range = prepend_channel_data(&mut buffer, place.clone(), number, pad).unwrap();
        invariants::check(&buffer[range.clone()]);
        let parsed = ChannelData::parse(&buffer[range.clone()]).unwrap();
        prop_assert_eq!(parsed.number, number);
        prop_assert_eq!(&buffer[range.clone()][parsed.payload], &payload[..]);
        prop_assert_eq!(range.start, HEADROOM - 4);
        prop_assert_eq!(range.len(), 4 + if pad { padded(payload.len()) } else { payload.len() });
        prop_assert!(buffer[place.end..range.end].iter().all(|&byte| byte == 0));
        prop_assert!(buffer[range.end..].iter().all(|&byte| byte == 0xEE));
        prop_assert!(buffer[..range.start].iter().all(|&byte| byte == 0xEE));

        let range = prepend_data_indication(&mut buffer, place, peer, id).unwrap();
        let mut expected = vec![0xEE; range.len()];
        let len = MessageBuilder::new(&mut expected, Class::Indication, Method::Data, id)
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::DATA, &payload)
            .finish();
        prop_assert_eq!(len, Ok(range.len()));
        prop_assert_eq!(&buffer[range], &expected[..]);
    }

    /// BIND-06: a client of RFC 3489 gets its 16 bytes back.
    #[test]
    fn classic_requests_keep_their_id(id in any::<[u8; 16]>(), address in address()) {
        let mut request = in_message(&[]);
        request[4..20].copy_from_slice(&id);
        prop_assume!(id[..4] != turnstone::wire::MAGIC_COOKIE.to_be_bytes());
        invariants::check(&request);
        let classic = ClassicRequest::parse(&request).unwrap();
        prop_assert_eq!(classic, ClassicRequest { transaction_id: id, unsupported: None });

        let mut reply = [0xEE; 64];
        let len = MessageBuilder::classic_binding(&mut reply, Class::Success, id)
            .address(AttributeType::MAPPED_ADDRESS, address)
            .finish()
            .unwrap();
        prop_assert_eq!(&reply[..2], &[0x01, 0x01]);
        prop_assert_eq!(&reply[4..20], &id);
        prop_assert_eq!(decode_address(&reply[24..len]), Ok(address));
    }
}

/// BIND-06: only a Binding request is classic, and CHANGE-REQUEST is supported as far as it asks
/// for no change.
#[test]
fn classic_requests_name_what_is_unsupported() {
    let classic = |message_type: u16, attributes: &[u8]| {
        let mut bytes = in_message(attributes);
        bytes[..2].copy_from_slice(&message_type.to_be_bytes());
        bytes[4] ^= 1;
        invariants::check(&bytes);
        ClassicRequest::parse(&bytes).map(|request| request.unsupported)
    };
    for message_type in 0..=0xFFFF {
        let expected = (message_type == 0x0001).then_some(None);
        assert_eq!(classic(message_type, &[]), expected, "{message_type:#06x}");
    }
    let change = |flags| [0x00, 0x03, 0, 4, 0, 0, 0, flags];
    let response_address = [0x00, 0x02, 0, 0];
    let optional = [0xFF, 0x05, 0, 1, 9, 0, 0, 0];
    assert_eq!(classic(1, &change(0)), Some(None));
    assert_eq!(classic(1, &optional), Some(None));
    assert_eq!(classic(1, &change(6)), Some(Some(AttributeType(3))));
    let several = [&optional[..], &change(0), &response_address, &change(4)].concat();
    assert_eq!(classic(1, &several), Some(Some(AttributeType(2))));
    assert_eq!(classic(1, &several[..several.len() - 4]), None);
}

/// MSG-20, SEND-10: 65 532 bytes of attributes is the most that a length field can say.
#[test]
fn the_largest_message() {
    let mut buffer = vec![0xEE; 70_000];
    let mut build = |len: usize| {
        MessageBuilder::new(
            &mut buffer,
            Class::Indication,
            Method::Send,
            TransactionId([0; 12]),
        )
        .attribute(AttributeType::DATA, &vec![1; len])
        .finish()
    };
    for len in [65_529, 65_532, 65_535, 65_536, 69_000] {
        assert_eq!(build(len), Err(BufferTooSmall), "{len}");
    }
    assert_eq!(build(65_528), Ok(65_552));
    invariants::check(&buffer[..65_552]);
    let message = Message::parse(&buffer[..65_552]).unwrap();
    assert_eq!(message.first(AttributeType::DATA).unwrap().len(), 65_528);
    assert!(!verify_integrity(&message, IntegrityAlgorithm::Sha1, b""));
}

/// MSG-20, SEND-09: the longest payloads that each header can count.
#[test]
fn the_longest_payloads() {
    let mut buffer = vec![0xEE; HEADROOM + 65_536 + TAILROOM];
    let number = ChannelNumber::MAX;
    for (len, fits) in [(65_535, true), (65_536, false)] {
        let place = HEADROOM..HEADROOM + len;
        let range = prepend_channel_data(&mut buffer, place, number, true);
        assert_eq!(range.is_some(), fits);
    }
    for (peer, most) in [("192.0.2.1:9", 65_516), ("[2001:db8::1]:9", 65_504)] {
        for (len, fits) in [(most, true), (most + 1, false)] {
            let place = HEADROOM..HEADROOM + len;
            let id = TransactionId([0; 12]);
            let range = prepend_data_indication(&mut buffer, place, peer.parse().unwrap(), id);
            assert_eq!(range.is_some(), fits, "{peer} {len}");
            if let Some(range) = range {
                invariants::check(&buffer[range]);
            }
        }
    }
}

/// MSG-06: the first of a kind counts; XOR-PEER-ADDRESS may be asked for as often as it is there.
#[test]
fn duplicates() {
    let mut buffer = [0; 128];
    let id = TransactionId([5; 12]);
    let peers = ["192.0.2.1:1", "192.0.2.2:2", "[2001:db8::1]:3"].map(|peer| peer.parse().unwrap());
    let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::Refresh, id);
    for (lifetime, peer) in [600, 0, 1].into_iter().zip(peers) {
        builder.u32(AttributeType::LIFETIME, lifetime);
        builder.xor_address(AttributeType::XOR_PEER_ADDRESS, peer);
    }
    let len = builder.finish().unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    let lifetime = message.first(AttributeType::LIFETIME).unwrap();
    assert_eq!(decode_lifetime(lifetime), Ok(600));
    let read: Vec<_> = message
        .all(AttributeType::XOR_PEER_ADDRESS)
        .map(|value| decode_xor_address(value, &id).unwrap())
        .collect();
    assert_eq!(read, peers);
}

/// MSG-18: behind MESSAGE-INTEGRITY only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT count, behind
/// MESSAGE-INTEGRITY-SHA256 only FINGERPRINT.
#[test]
fn order_of_the_integrity_attributes() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    let build = |order: &[IntegrityAlgorithm]| {
        let mut buffer = [0; 256];
        let id = TransactionId([5; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::Refresh, id);
        for &algorithm in order {
            builder.integrity(algorithm, b"key");
            builder.u32(AttributeType(0x7FFF), 0);
        }
        let len = builder.fingerprint().finish().unwrap();
        invariants::check(&buffer[..len]);
        let message = Message::parse(&buffer[..len]).unwrap();
        assert!(message.has_fingerprint() && message.has_integrity());
        assert_eq!(message.attributes().next(), None);
        [Sha1, Sha256].map(|algorithm| verify_integrity(&message, algorithm, b"key"))
    };
    assert_eq!(build(&[Sha1]), [true, false]);
    assert_eq!(build(&[Sha256]), [false, true]);
    assert_eq!(build(&[Sha1, Sha256]), [true, true]);
    assert_eq!(build(&[Sha256, Sha1]), [false, true]);
    assert_eq!(build(&[Sha1, Sha1]), [true, false]);
}

/// MSG-21: the numbers fit their fields, and the phrases are short ASCII.
#[test]
fn error_codes_are_in_range() {
    for code in crate::rebuild::ERROR_CODES {
        assert!((300..700).contains(&code.number()) && code.number() % 100 <= 99);
        assert!(code.phrase().is_ascii() && code.phrase().len() < 128);
        for family in [Family::V4, Family::V6] {
            let mut buffer = [0xEE; 28];
            let id = TransactionId([0; 12]);
            let len = MessageBuilder::new(&mut buffer, Class::Success, Method::Allocate, id)
                .address_error_code(family, code)
                .finish();
            assert_eq!(len, Ok(28));
            let (class, number) = (code.number() / 100, code.number() % 100);
            assert_eq!(
                buffer[20..],
                [0x80, 0x01, 0, 4, family as u8, 0, class as u8, number as u8]
            );
        }
    }
}
