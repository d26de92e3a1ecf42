//! Against the codec of the `stun-types` crate: what it reads and writes is what we do, but for the
//! differences that `agreement` lists.

use proptest::prelude::*;
use stun_types::attribute::{
    AttributeType as TheirType, ErrorCode, MappedSocketAddr, RawAttribute, UnknownAttributes,
    XorSocketAddr,
};
use stun_types::message::{
    IntegrityAlgorithm as TheirAlgorithm, IntegrityKey, LongTermKeyCredentials, Message as Theirs,
    MessageType, MessageWriteVec, Method, ShortTermCredentials, StunParseError,
};
use stun_types::prelude::*;
use turnstone::wire::{
    AttributeType, IntegrityAlgorithm, Malformed, Message, decode_address, decode_error_code,
    decode_xor_address, verify_integrity,
};

use crate::agreement::{ALGORITHMS, assert_same_integrity, class_of, compare, id_of};
use crate::strategies::{Attribute, Draft, draft, packet};
use crate::vectors::vectors;

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
