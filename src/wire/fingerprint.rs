//! FINGERPRINT (RFC 8489 §14.7).

/// What the CRC is XORed with, so that it differs from a CRC that a payload of its own carries.
const XOR: u32 = 0x5354_554E;

/// Bytes of the whole attribute.
pub(super) const ATTRIBUTE_LEN: usize = 8;

/// The value over `message`: everything before the attribute, with a header length that already
/// counts the attribute.
pub(super) fn compute(message: &[u8]) -> u32 {
    crc32fast::hash(message) ^ XOR
}
