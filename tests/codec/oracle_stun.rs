//! Against the codec of the `stun` crate. It may differ in these ways and no other:
//!
//! - it accepts a set top bit, which RFC 8489 §5 forbids;
//! - it accepts bytes behind the message, which a datagram has no place for;
//! - it looks at FINGERPRINT only when asked, assumes that it is last, and accepts more behind it;
//! - it returns attributes behind the integrity attributes, which RFC 8489 §14.5 has us ignore, and
//!   so finds a MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256;
//! - it reads type 0x8020 as XOR-MAPPED-ADDRESS;
//! - it fills an XORed address that is too short with zeros, and takes the reserved byte in front
//!   of the family for a part of it.

use proptest::collection::vec;
use proptest::prelude::*;
use stun::attributes::{ATTR_FINGERPRINT, ATTR_MESSAGE_INTEGRITY, AttrType};
use stun::error_code::ErrorCodeAttribute;
use stun::fingerprint::FINGERPRINT;
use stun::integrity::MessageIntegrity;
use stun::message::{Getter, Message as Theirs, MessageClass, MessageType, Setter};
use stun::uattrs::UnknownAttributes;
use stun::xoraddr::XorMappedAddress;
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, Malformed, Message, Method, decode_error_code,
    decode_xor_address, verify_integrity,
};

use crate::strategies::{Attribute, Draft, draft, packet};
use crate::vectors::{in_message, set_length, vectors};

fn class_of(class: Class) -> MessageClass {
    match class {
        Class::Request => stun::message::CLASS_REQUEST,
        Class::Indication => stun::message::CLASS_INDICATION,
        Class::Success => stun::message::CLASS_SUCCESS_RESPONSE,
        Class::Error => stun::message::CLASS_ERROR_RESPONSE,
    }
}

fn method_of(method: Method) -> stun::message::Method {
    match method {
        Method::Binding => stun::message::METHOD_BINDING,
        Method::Allocate => stun::message::METHOD_ALLOCATE,
        Method::Refresh => stun::message::METHOD_REFRESH,
        Method::Send => stun::message::METHOD_SEND,
        Method::Data => stun::message::METHOD_DATA,
        Method::CreatePermission => stun::message::METHOD_CREATE_PERMISSION,
        Method::ChannelBind => stun::message::METHOD_CHANNEL_BIND,
    }
}

fn parse(bytes: &[u8]) -> Option<Theirs> {
    let mut message = Theirs::new();
    message.unmarshal_binary(bytes).ok().map(|()| message)
}

/// The type as the oracle names it.
fn renamed(attribute_type: AttributeType) -> u16 {
    match attribute_type.0 {
        0x8020 => 0x0020,
        other => other,
    }
}

/// Both codecs on the same bytes.
pub(crate) fn compare(bytes: &[u8]) {
    match (Message::parse(bytes), parse(bytes)) {
        (Ok(ours), Some(theirs)) => assert_same(&ours, &theirs),
        (Ok(ours), None) => panic!("only we accept {ours:?}"),
        (Err(_), None) => {}
        (Err(reason), Some(theirs)) => assert_forgivable(bytes, reason, &theirs),
    }
}

fn assert_same(ours: &Message<'_>, theirs: &Theirs) {
    assert_eq!(ours.transaction_id().0, theirs.transaction_id.0);
    assert_eq!(
        theirs.typ.value().to_be_bytes(),
        ours.as_bytes()[..2],
        "type"
    );
    assert_eq!(theirs.typ.class, class_of(ours.class()));
    if let Some(method) = ours.method() {
        assert_eq!(theirs.typ.method, method_of(method));
    }
    let mut all = theirs.attributes.0.iter();
    for attribute in ours.attributes() {
        let raw = all.next().expect("we see an attribute that they do not");
        assert_eq!(raw.typ.0, renamed(attribute.attribute_type));
        assert_eq!(raw.value, attribute.value);
    }
    // Where ours end, the message does, or what is not an ordinary attribute begins.
    let next = all.next().map(|raw| AttributeType(raw.typ.0));
    assert!(matches!(
        next,
        None | Some(
            AttributeType::MESSAGE_INTEGRITY
                | AttributeType::MESSAGE_INTEGRITY_SHA256
                | AttributeType::FINGERPRINT
        )
    ));
    assert_eq!(theirs.contains(ATTR_FINGERPRINT), ours.has_fingerprint());
    assert!(!ours.has_fingerprint() || FINGERPRINT.check(theirs).is_ok());
}

/// They accept what we do not: only for a reason of the list.
fn assert_forgivable(bytes: &[u8], reason: Malformed, theirs: &Theirs) {
    let mut mended = bytes[..20 + theirs.length as usize].to_vec();
    match reason {
        Malformed::NotStun => {
            assert!(mended[0] > 3);
            mended[0] &= 3;
            compare(&mended);
        }
        Malformed::Length => {
            assert!(mended.len() < bytes.len());
            compare(&mended);
        }
        Malformed::Fingerprint => {
            let all = &theirs.attributes.0;
            let first = all.iter().position(|raw| raw.typ == ATTR_FINGERPRINT);
            let last = first.unwrap() + 1 == all.len();
            assert!(!last || FINGERPRINT.check(theirs).is_err());
        }
        Malformed::Short | Malformed::Cookie | Malformed::Attribute => {
            panic!("only they accept this: {reason}")
        }
    }
}

/// Whether both find the same of MESSAGE-INTEGRITY.
fn assert_same_integrity(ours: &Message<'_>, theirs: &mut Theirs, key: &[u8]) {
    let verdict = verify_integrity(ours, IntegrityAlgorithm::Sha1, key);
    let signed = ours.integrity(IntegrityAlgorithm::Sha1).is_some();
    if signed || !theirs.contains(ATTR_MESSAGE_INTEGRITY) {
        let their_verdict = MessageIntegrity(key.to_vec()).check(theirs).is_ok();
        assert_eq!(verdict, their_verdict);
    } else {
        assert!(ours.integrity(IntegrityAlgorithm::Sha256).is_some());
    }
}

#[test]
fn vectors_mean_the_same() {
    for packet in vectors().packets() {
        compare(&packet);
    }
    for vector in vectors().messages() {
        let Ok(ours) = Message::parse(&vector.bytes) else {
            continue;
        };
        let key = vector.key(IntegrityAlgorithm::Sha1);
        assert_same_integrity(&ours, &mut parse(&vector.bytes).unwrap(), key);
    }
}

/// Their writer for what one of our attributes is.
fn write(attribute: &Attribute, message: &mut Theirs) {
    match attribute {
        Attribute::Opaque(attribute_type, value) => {
            message.add(AttrType(attribute_type.0), value);
        }
        Attribute::Xored(attribute_type, address) => XorMappedAddress {
            ip: address.ip(),
            port: address.port(),
        }
        .add_to_as(message, AttrType(attribute_type.0))
        .unwrap(),
        Attribute::Plain(address) => stun::addr::MappedAddress {
            ip: address.ip(),
            port: address.port(),
        }
        .add_to(message)
        .unwrap(),
        Attribute::Lifetime(seconds) => message.add(AttrType(0x000D), &seconds.to_be_bytes()),
        Attribute::Error(code) => ErrorCodeAttribute {
            code: stun::error_code::ErrorCode(code.number()),
            reason: code.phrase().into(),
        }
        .add_to(message)
        .unwrap(),
        Attribute::Unknown(types) => {
            UnknownAttributes(types.iter().map(|kind| AttrType(kind.0)).collect())
                .add_to(message)
                .unwrap();
        }
    }
}

fn build(draft: &Draft) -> Vec<u8> {
    let mut message = Theirs::new();
    message.transaction_id.0 = draft.id.0;
    message.typ = MessageType::new(method_of(draft.method), class_of(draft.class));
    message.write_header();
    for attribute in &draft.attributes {
        write(attribute, &mut message);
    }
    if draft.sha1 {
        let key = MessageIntegrity(draft.key.as_bytes().to_vec());
        key.add_to(&mut message).unwrap();
    }
    if draft.fingerprint {
        FINGERPRINT.add_to(&mut message).unwrap();
    }
    message.raw
}

proptest! {
    #![proptest_config(crate::strategies::more_cases())]

    /// What either codec writes is the same, to the byte.
    #[test]
    fn both_write_the_same(draft in draft()) {
        let draft = Draft { sha256: false, ..draft };
        prop_assert_eq!(build(&draft), draft.build());
    }

    /// FP-03: what we write is understood.
    #[test]
    fn they_understand_us(draft in draft()) {
        let bytes = draft.build();
        compare(&bytes);
        let mut theirs = parse(&bytes).unwrap();
        let ours = Message::parse(&bytes).unwrap();
        assert_same_integrity(&ours, &mut theirs, draft.key.as_bytes());
        prop_assert_eq!(FINGERPRINT.check(&theirs).is_ok(), draft.fingerprint);
        if draft.sha1 {
            let wrong = MessageIntegrity(b"\0another key".to_vec());
            prop_assert!(wrong.check(&mut theirs).is_err());
        }
        if let Some(value) = ours.first(AttributeType::ERROR_CODE)
            && let Ok((code, phrase)) = decode_error_code(value)
        {
            let mut error = ErrorCodeAttribute::default();
            error.get_from(&theirs).unwrap();
            prop_assert_eq!(error.code.0, code);
            prop_assert_eq!(error.reason, phrase.as_bytes());
        }
    }

    /// MSG-02, MSG-03, MSG-04, MSG-19: on bytes that nobody's builder wrote the verdicts differ
    /// only as listed.
    #[test]
    fn verdicts_differ_only_as_listed(bytes in packet()) {
        compare(&bytes);
        if let Ok(ours) = Message::parse(&bytes) {
            let mut theirs = parse(&bytes).unwrap();
            for key in [&vectors().md5_key[..], b"key"] {
                assert_same_integrity(&ours, &mut theirs, key);
            }
        }
    }

    /// XORed addresses of any shape.
    #[test]
    fn addresses_differ_only_as_listed(
        reserved in prop_oneof![4 => Just(0), 1 => any::<u8>()],
        family in 0_u8..4,
        rest in prop_oneof![vec(any::<u8>(), 6), vec(any::<u8>(), 18), vec(any::<u8>(), 0..24)],
    ) {
        let value = [&[reserved, family][..], &rest].concat();
        let mut attribute = vec![0x00, 0x20, 0, value.len() as u8];
        attribute.extend(&value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        let mut bytes = in_message(&attribute);
        set_length(&mut bytes);
        let ours = decode_xor_address(&value, &Message::parse(&bytes).unwrap().transaction_id());
        let mut theirs = XorMappedAddress::default();
        let verdict = theirs.get_from(&parse(&bytes).unwrap());
        match (ours, verdict) {
            (Ok(address), Ok(())) => {
                prop_assert_eq!((address.ip(), address.port()), (theirs.ip, theirs.port));
            }
            (Ok(_), Err(_)) => prop_assert_ne!(reserved, 0),
            (Err(_), Ok(())) => {
                let right_len = if family == 1 { 8 } else { 20 };
                prop_assert!(value.len() < right_len);
            }
            (Err(_), Err(_)) => {}
        }
    }
}
