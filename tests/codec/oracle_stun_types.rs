//! Against the codec of the `stun-types` crate. It may differ in these ways and no other:
//!
//! - it does not hold the length field against the bytes, as long as there are enough: what is
//!   behind the message is read as attributes of it, and must be well-formed;
//! - behind an integrity attribute or FINGERPRINT it stops at the first attribute that does not
//!   belong there and accepts the rest unseen, though it be malformed, a wrong FINGERPRINT, or no
//!   multiple of 4 bytes;
//! - it accepts an integrity attribute behind FINGERPRINT;
//! - it accepts a MESSAGE-INTEGRITY-SHA256 that is truncated, which TURN does not permit;
//! - it does not look for MESSAGE-INTEGRITY-SHA256 behind such an attribute, and looks for
//!   MESSAGE-INTEGRITY behind MESSAGE-INTEGRITY-SHA256.

use proptest::prelude::*;
use stun_types::attribute::{
    Attribute as _, AttributeType as TheirType, ErrorCode, MappedSocketAddr, RawAttribute,
    UnknownAttributes, XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm as TheirAlgorithm, IntegrityKey, LongTermKeyCredentials, Message as Theirs,
    MessageClass, MessageType, MessageWriteVec, Method, ShortTermCredentials, StunParseError,
    TransactionId,
};
use stun_types::prelude::*;
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, Malformed, Message, decode_address,
    decode_error_code, decode_xor_address, verify_integrity,
};

use crate::strategies::{Attribute, Draft, draft, packet};
use crate::vectors::{set_length, vectors};

const SPECIAL: [AttributeType; 3] = [
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::FINGERPRINT,
];

fn class_of(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::Success,
        Class::Error => MessageClass::Error,
    }
}

fn id_of(id: [u8; 12]) -> TransactionId {
    let mut bytes = [0; 16];
    bytes[4..].copy_from_slice(&id);
    u128::from_be_bytes(bytes).into()
}

/// Both codecs on the same bytes.
pub(crate) fn compare(bytes: &[u8]) {
    match (Message::parse(bytes), Theirs::from_bytes(bytes)) {
        (Ok(ours), Ok(theirs)) => assert_same(&ours, &theirs),
        (Ok(ours), Err(error)) => panic!("only we accept {ours:?}: {error}"),
        (Err(_), Err(_)) => {}
        (Err(reason), Ok(theirs)) => assert_forgivable(bytes, reason, &theirs),
    }
}

fn assert_same(ours: &Message<'_>, theirs: &Theirs<'_>) {
    assert_eq!(theirs.transaction_id(), id_of(ours.transaction_id().0));
    assert_eq!(theirs.class(), class_of(ours.class()));
    if let Some(method) = ours.method() {
        assert_eq!(theirs.method().value(), method.number());
    }
    let mut all = theirs.iter_attributes();
    for attribute in ours.attributes() {
        let (offset, raw) = all.next().expect("we see an attribute that they do not");
        assert_eq!(offset, attribute.offset);
        assert_eq!(raw.get_type().value(), attribute.attribute_type.0);
        assert_eq!(&*raw.value, attribute.value);
    }
    let next = all.next().map(|(_, raw)| raw.get_type().value());
    assert!(next.is_none_or(|next| SPECIAL.contains(&AttributeType(next))));
}

/// They accept what we do not: only for a reason of the list.
fn assert_forgivable(bytes: &[u8], reason: Malformed, theirs: &Theirs<'_>) {
    let mut special = theirs
        .iter_attributes()
        .filter(|(_, raw)| SPECIAL.contains(&AttributeType(raw.get_type().value())));
    match reason {
        Malformed::Length if !bytes.len().is_multiple_of(4) => assert!(special.next().is_some()),
        Malformed::Length => {
            let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            assert!(20 + length < bytes.len());
            let mut mended = bytes.to_vec();
            set_length(&mut mended);
            // The CRC covers the length field that they put in its place.
            compare(&mended);
        }
        Malformed::Attribute | Malformed::Fingerprint => {
            assert!(special.next().is_some(), "{reason}");
        }
        Malformed::Short | Malformed::NotStun | Malformed::Cookie => {
            panic!("only they accept this: {reason}")
        }
    }
}

/// Whether both find the same of an integrity attribute that both look at.
fn assert_same_integrity(
    bytes: &[u8],
    (algorithm, their_algorithm): (IntegrityAlgorithm, TheirAlgorithm),
    key: &[u8],
    their_key: &IntegrityKey,
) {
    let ours = Message::parse(bytes).unwrap();
    let theirs = Theirs::from_bytes(bytes).unwrap();
    let attribute_type = TheirType::new(algorithm.attribute().0);
    let seen = theirs
        .iter_attributes()
        .find(|(_, raw)| raw.get_type() == attribute_type);
    let verdict = verify_integrity(&ours, algorithm, key);
    let their_verdict = theirs.validate_integrity_with_key(their_key);
    match (ours.integrity(algorithm), seen) {
        (None, None) => assert!(!verdict),
        (Some((offset, value)), Some((their_offset, _))) => {
            assert_eq!(offset, their_offset);
            let same = match their_verdict {
                Ok(used) => used == their_algorithm,
                Err(_) => false,
            };
            let truncated = value.len() < algorithm.value_len();
            assert!(
                verdict == same || (truncated && !verdict),
                "{their_verdict:?}"
            );
        }
        (Some((offset, _)), None) => {
            assert_eq!(algorithm, IntegrityAlgorithm::Sha256);
            assert!(ours.integrity(IntegrityAlgorithm::Sha1).unwrap().0 < offset);
        }
        (None, Some((offset, _))) => {
            assert_eq!(algorithm, IntegrityAlgorithm::Sha1);
            assert!(ours.integrity(IntegrityAlgorithm::Sha256).unwrap().0 < offset);
        }
    }
}

const ALGORITHMS: [(IntegrityAlgorithm, TheirAlgorithm); 2] = [
    (IntegrityAlgorithm::Sha1, TheirAlgorithm::Sha1),
    (IntegrityAlgorithm::Sha256, TheirAlgorithm::Sha256),
];

/// The keys of `alice`, made by them of her password.
fn keys_of_alice(algorithm: TheirAlgorithm) -> IntegrityKey {
    LongTermKeyCredentials::new("alice".into(), "wonderland".into(), "example.org".into())
        .make_key(algorithm)
}

/// Both exchanges verify for them too, from the password, where the key is made by the algorithm
/// of the integrity attribute: they can do no other.
#[test]
fn vectors_mean_the_same() {
    for packet in vectors().packets() {
        compare(&packet);
    }
    let mut verified = 0;
    let their_keys = [&vectors().md5_key, &vectors().sha256_key];
    for vector in vectors().exchanges() {
        for (algorithms, their_key) in ALGORITHMS.into_iter().zip(their_keys) {
            let key = vector.key(algorithms.0);
            if key != their_key {
                continue;
            }
            let their_key = keys_of_alice(algorithms.1);
            assert_same_integrity(&vector.bytes, algorithms, key, &their_key);
            let message = Message::parse(&vector.bytes).unwrap();
            verified += u32::from(verify_integrity(&message, algorithms.0, key));
        }
    }
    assert_eq!(verified, 23);
}

fn build(draft: &Draft) -> Option<Vec<u8>> {
    let message_type =
        MessageType::from_class_method(class_of(draft.class), Method::new(draft.method.number()));
    let id = id_of(draft.id.0);
    let mut message = Theirs::builder(message_type, id, MessageWriteVec::new());
    for attribute in &draft.attributes {
        let raw = match attribute {
            Attribute::Opaque(kind, value) => RawAttribute::new(TheirType::new(kind.0), value),
            Attribute::Xored(kind, address) => XorSocketAddr::new(*address, id)
                .to_raw(TheirType::new(kind.0))
                .into_owned(),
            Attribute::Plain(address) => MappedSocketAddr::new(*address)
                .to_raw(TheirType::new(AttributeType::MAPPED_ADDRESS.0))
                .into_owned(),
            Attribute::Lifetime(seconds) => {
                let kind = TheirType::new(AttributeType::LIFETIME.0);
                RawAttribute::new_owned(kind, seconds.to_be_bytes().into())
            }
            Attribute::Error(code) => ErrorCode::new(code.number(), code.phrase())
                .unwrap()
                .to_raw()
                .into_owned(),
            Attribute::Unknown(types) => {
                let types: Vec<_> = types.iter().map(|kind| TheirType::new(kind.0)).collect();
                UnknownAttributes::new(&types).to_raw().into_owned()
            }
        };
        message.add_attribute(&raw).ok()?;
    }
    let key = ShortTermCredentials::new(draft.key.clone()).make_key();
    for ((_, algorithm), wanted) in ALGORITHMS.into_iter().zip([draft.sha1, draft.sha256]) {
        if wanted {
            message
                .add_message_integrity_with_key(&key, algorithm)
                .ok()?;
        }
    }
    if draft.fingerprint {
        message.add_fingerprint().ok()?;
    }
    Some(message.finish())
}

proptest! {
    #![proptest_config(crate::strategies::more_cases())]

    /// What either codec writes is the same, to the byte.
    #[test]
    fn both_write_the_same(draft in draft()) {
        prop_assert_eq!(build(&draft), Some(draft.build()));
    }

    /// FP-03: what we write is understood, both integrity attributes included.
    #[test]
    fn they_understand_us(draft in draft()) {
        let bytes = draft.build();
        compare(&bytes);
        let theirs = Theirs::from_bytes(&bytes).unwrap();
        let key = ShortTermCredentials::new(draft.key.clone()).make_key();
        let expected = match (draft.sha1, draft.sha256) {
            (_, true) => Some(TheirAlgorithm::Sha256),
            (true, false) => Some(TheirAlgorithm::Sha1),
            (false, false) => None,
        };
        prop_assert_eq!(theirs.validate_integrity_with_key(&key).ok(), expected);
        let ours = Message::parse(&bytes).unwrap();
        let id = id_of(ours.transaction_id().0);
        for attribute in ours.attributes() {
            let raw = RawAttribute::new(
                TheirType::new(attribute.attribute_type.0),
                attribute.value,
            );
            let address = XorSocketAddr::from_raw(&raw).map(|address| address.addr(id)).ok();
            let our_address = decode_xor_address(attribute.value, &ours.transaction_id()).ok();
            prop_assert_eq!(address, our_address);
            let plain = MappedSocketAddr::from_raw(&raw).map(|address| address.addr()).ok();
            prop_assert_eq!(plain, decode_address(attribute.value).ok());
            if let Ok(error) = ErrorCode::from_raw_ref(&raw)
                && let Ok(read) = decode_error_code(attribute.value)
            {
                prop_assert_eq!((error.code(), error.reason()), read);
            }
        }
    }

    /// MSG-02, MSG-03, MSG-04, MSG-18, MSG-19: on bytes that nobody's builder wrote the verdicts
    /// differ only as listed.
    #[test]
    fn verdicts_differ_only_as_listed(bytes in packet()) {
        compare(&bytes);
        if Message::parse(&bytes).is_ok() {
            for algorithms in ALGORITHMS {
                let key = match algorithms.0 {
                    IntegrityAlgorithm::Sha1 => &vectors().md5_key,
                    IntegrityAlgorithm::Sha256 => &vectors().sha256_key,
                };
                assert_same_integrity(&bytes, algorithms, key, &keys_of_alice(algorithms.1));
            }
        }
    }
}

/// FP-02: a wrong FINGERPRINT is a wrong FINGERPRINT to both.
#[test]
fn fingerprints_are_refused_alike() {
    let mut bytes = vectors().rfc("binding-request-fp").bytes.clone();
    bytes[27] ^= 1;
    assert_eq!(Message::parse(&bytes).unwrap_err(), Malformed::Fingerprint);
    assert_eq!(
        Theirs::from_bytes(&bytes).unwrap_err(),
        StunParseError::FingerprintMismatch
    );
}
