//! MESSAGE-INTEGRITY and MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.5, §14.6).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::message::Message;
use super::{ATTRIBUTE_HEADER_LEN, AttributeType, HEADER_LEN};

/// The two integrity attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegrityAlgorithm {
    /// MESSAGE-INTEGRITY, HMAC-SHA1, 20 bytes
    Sha1,
    /// MESSAGE-INTEGRITY-SHA256, HMAC-SHA256, 32 bytes; TURN permits no truncation
    Sha256,
}

impl IntegrityAlgorithm {
    /// The attribute that carries it.
    pub const fn attribute(self) -> AttributeType {
        match self {
            Self::Sha1 => AttributeType::MESSAGE_INTEGRITY,
            Self::Sha256 => AttributeType::MESSAGE_INTEGRITY_SHA256,
        }
    }

    /// Bytes of the attribute's value.
    pub const fn value_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Bytes of the whole attribute.
    pub(super) const fn attribute_len(self) -> usize {
        ATTRIBUTE_HEADER_LEN + self.value_len()
    }

    /// The HMAC of `message` (everything before the attribute, whose header length is replaced by
    /// one that ends with the attribute), left-aligned in 32 bytes.
    pub(super) fn compute(self, key: &[u8], message: &[u8]) -> [u8; 32] {
        let length = (message.len() - HEADER_LEN + self.attribute_len()) as u16;
        let parts = [&message[..2], &length.to_be_bytes(), &message[4..]];
        let mut out = [0; 32];
        match self {
            Self::Sha1 => out[..20].copy_from_slice(&mac::<Hmac<Sha1>>(key, parts)),
            Self::Sha256 => out.copy_from_slice(&mac::<Hmac<Sha256>>(key, parts)),
        }
        out
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], parts: [&[u8]; 3]) -> hmac::digest::Output<M> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes()
}

/// Whether the message carries this integrity attribute and it is right under `key`. The time it
/// takes does not depend on where the values differ.
pub fn verify_integrity(message: &Message<'_>, algorithm: IntegrityAlgorithm, key: &[u8]) -> bool {
    let Some((offset, value)) = message.integrity(algorithm) else {
        return false;
    };
    if value.len() != algorithm.value_len() {
        return false;
    }
    let expected = algorithm.compute(key, &message.as_bytes()[..offset]);
    expected[..value.len()].ct_eq(value).into()
}
