//! What the codec of the `stun-types` crate and ours must agree on, in whatever bytes. `tests/fuzz`
//! asks the same. Theirs may differ in these ways and no other:
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

use stun_types::attribute::{Attribute as _, AttributeType as TheirType};
use stun_types::message::{
    IntegrityAlgorithm as TheirAlgorithm, IntegrityKey, Message as Theirs, MessageClass,
    TransactionId,
};
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, Malformed, Message, verify_integrity,
};

const SPECIAL: [AttributeType; 3] = [
    AttributeType::MESSAGE_INTEGRITY,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::FINGERPRINT,
];

pub(crate) fn class_of(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::Success,
        Class::Error => MessageClass::Error,
    }
}

pub(crate) fn id_of(id: [u8; 12]) -> TransactionId {
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
            let length = (bytes.len() - 20) as u16;
            mended[2..4].copy_from_slice(&length.to_be_bytes());
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
pub(crate) fn assert_same_integrity(
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

pub(crate) const ALGORITHMS: [(IntegrityAlgorithm, TheirAlgorithm); 2] = [
    (IntegrityAlgorithm::Sha1, TheirAlgorithm::Sha1),
    (IntegrityAlgorithm::Sha256, TheirAlgorithm::Sha256),
];
