//! A STUN message, and everything that is read from it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stun_types::message::ShortTermCredentials;
use turnstone::auth::LongTermKey;
use turnstone::wire::{
    AttributeType, ClassicRequest, IntegrityAlgorithm, Message, MessageBuilder, Method,
    TransactionId, decode_address, decode_error_code, decode_lifetime, decode_xor_address,
    verify_integrity,
};

#[path = "../../codec/agreement.rs"]
mod agreement;
#[path = "../../codec/invariants.rs"]
mod invariants;

const PASSWORD: &str = "wonderland";

fuzz_target!(|bytes: &[u8]| {
    check(bytes);
    invariants::check_value(bytes, &TransactionId(*b"abcdefghijkl"));
    // No fuzzer finds a CRC, and few find a length.
    if let Some(mended) = mended(bytes) {
        check(&mended);
    }
});

fn check(bytes: &[u8]) {
    invariants::check(bytes);
    agreement::compare(bytes);
    if let Ok(message) = Message::parse(bytes) {
        check_integrity(bytes, &message);
        check_rebuilt(&message);
    }
    if let Some(classic) = ClassicRequest::parse(bytes) {
        check_classic(bytes, &classic);
    }
}

/// The bytes with the right length and cookie, and the right CRC if FINGERPRINT is at the end.
fn mended(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    bytes.truncate(20 + 0xFFFC);
    bytes.truncate(bytes.len() / 4 * 4);
    let length = u16::try_from(bytes.len().checked_sub(20)?).expect("truncated to it");
    bytes[0] &= 0x3F;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    bytes[4..8].copy_from_slice(&turnstone::wire::MAGIC_COOKIE.to_be_bytes());
    if length >= 8 {
        let (covered, fingerprint) = bytes.split_at_mut(usize::from(length) + 12);
        if fingerprint[..4] == [0x80, 0x28, 0, 4] {
            fingerprint[4..].copy_from_slice(&invariants::fingerprint_of(covered));
        }
    }
    Some(bytes)
}

/// Both codecs say the same of an integrity attribute, of whatever key.
fn check_integrity(bytes: &[u8], message: &Message<'_>) {
    let their_key = ShortTermCredentials::new(PASSWORD.to_owned()).make_key();
    for algorithms in agreement::ALGORITHMS {
        agreement::assert_same_integrity(bytes, algorithms, PASSWORD.as_bytes(), &their_key);
        if message.integrity(algorithms.0).is_none() {
            assert!(!verify_integrity(message, algorithms.0, b""));
        }
    }
    let key = LongTermKey::derive(
        turnstone::auth::PasswordAlgorithm::Md5,
        message.first(AttributeType::USERNAME).unwrap_or_default(),
        "example.org",
        PASSWORD,
    );
    let _ = verify_integrity(message, IntegrityAlgorithm::Sha1, key.as_bytes());
}

/// What the builder writes of what was read is read again as the same, and what it signs
/// verifies, and does not once a bit is wrong.
fn check_rebuilt(message: &Message<'_>) {
    let id = message.transaction_id();
    let method = message.method().unwrap_or(Method::Binding);
    let mut buffer = vec![0xEE; message.as_bytes().len() + 100];
    let mut builder = MessageBuilder::new(&mut buffer, message.class(), method, id);
    for attribute in message.attributes() {
        write_again(&mut builder, &id, attribute.attribute_type, attribute.value);
    }
    builder.integrity(IntegrityAlgorithm::Sha1, PASSWORD.as_bytes());
    builder.integrity(IntegrityAlgorithm::Sha256, PASSWORD.as_bytes());
    builder.fingerprint();
    let Ok(len) = builder.finish() else {
        assert!(message.as_bytes().len() > 0xFFFF - 68, "it did fit");
        return;
    };
    buffer.truncate(len);
    invariants::check(&buffer);
    agreement::compare(&buffer);
    let again = Message::parse(&buffer).expect("we read what we write");
    assert_eq!(
        (again.class(), again.method()),
        (message.class(), Some(method))
    );
    assert_eq!(again.transaction_id(), id);
    assert!(again.has_fingerprint());
    let both = |it: &Message<'_>| {
        let attributes = it
            .attributes()
            .map(|it| (it.attribute_type, it.value.to_vec()));
        attributes.collect::<Vec<_>>()
    };
    assert_eq!(both(&again), both(message));
    for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
        assert!(verify_integrity(&again, algorithm, PASSWORD.as_bytes()));
        assert!(!verify_integrity(&again, algorithm, b"looking-glass"));
    }
    let end = again
        .integrity(IntegrityAlgorithm::Sha1)
        .expect("as above")
        .0;
    let bit = usize::from(id.0[0]) * 8 % ((end - 8) * 8) + 64;
    let mut wrong = buffer[..len - 8].to_vec();
    wrong[bit / 8] ^= 1 << (bit % 8);
    let length = (wrong.len() - 20) as u16;
    wrong[2..4].copy_from_slice(&length.to_be_bytes());
    if let Ok(wrong) = Message::parse(&wrong) {
        for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
            assert!(!verify_integrity(&wrong, algorithm, PASSWORD.as_bytes()));
        }
    }
}

/// One attribute by the builder's own method for it, where its value is canonical.
fn write_again(
    builder: &mut MessageBuilder<'_>,
    id: &TransactionId,
    attribute_type: AttributeType,
    value: &[u8],
) {
    use AttributeType as A;
    let is_canonical = value.first() == Some(&0);
    match attribute_type {
        A::XOR_MAPPED_ADDRESS | A::XOR_PEER_ADDRESS | A::XOR_RELAYED_ADDRESS if is_canonical => {
            if let Ok(address) = decode_xor_address(value, id) {
                builder.xor_address(attribute_type, address);
                return;
            }
        }
        A::MAPPED_ADDRESS if is_canonical => {
            if let Ok(address) = decode_address(value) {
                builder.address(attribute_type, address);
                return;
            }
        }
        A::LIFETIME => {
            if let Ok(lifetime) = decode_lifetime(value) {
                builder.u32(attribute_type, lifetime);
                return;
            }
        }
        A::UNKNOWN_ATTRIBUTES if value.len().is_multiple_of(2) => {
            let types = value
                .chunks_exact(2)
                .map(|it| A(u16::from_be_bytes([it[0], it[1]])));
            builder.unknown_attributes(&types.collect::<Vec<_>>());
            return;
        }
        A::ERROR_CODE => {
            if let Ok((code, phrase)) = decode_error_code(value) {
                assert!((300..700).contains(&code) && value.ends_with(phrase.as_bytes()));
            }
        }
        _ => {}
    }
    builder.attribute(attribute_type, value);
}

/// RFC 3489: a Binding request whose attributes lie within it, and no cookie.
fn check_classic(bytes: &[u8], classic: &ClassicRequest) {
    assert_eq!(bytes[..2], [0, 1]);
    assert_ne!(bytes[4..8], turnstone::wire::MAGIC_COOKIE.to_be_bytes());
    assert_eq!(bytes[4..20], classic.transaction_id);
    if let Some(unsupported) = classic.unsupported {
        assert!(unsupported.is_comprehension_required());
        let wanted = unsupported.0.to_be_bytes();
        assert!(bytes[20..].chunks_exact(4).any(|it| it[..2] == wanted));
    }
}
