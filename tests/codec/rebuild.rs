//! Writing a message again from what was read of it.

use turnstone::wire::{
    AttributeType, ErrorCode, IntegrityAlgorithm, Message, MessageBuilder, decode_error_code,
    decode_lifetime, decode_xor_address,
};

use crate::vectors::Vector;

/// Every error code of the server.
pub(crate) const ERROR_CODES: [ErrorCode; 13] = [
    ErrorCode::BadRequest,
    ErrorCode::Unauthenticated,
    ErrorCode::Forbidden,
    ErrorCode::UnknownAttribute,
    ErrorCode::AllocationMismatch,
    ErrorCode::StaleNonce,
    ErrorCode::AddressFamilyNotSupported,
    ErrorCode::WrongCredentials,
    ErrorCode::UnsupportedTransportProtocol,
    ErrorCode::PeerAddressFamilyMismatch,
    ErrorCode::AllocationQuotaReached,
    ErrorCode::ServerError,
    ErrorCode::InsufficientCapacity,
];

/// Decodes every attribute and writes it with the builder's own method for it, into a buffer that
/// was not clean.
pub(crate) fn rebuild(message: &Message<'_>, vector: &Vector) -> Vec<u8> {
    let id = message.transaction_id();
    let mut buffer = vec![0xEE; 1024];
    let mut builder =
        MessageBuilder::new(&mut buffer, message.class(), message.method().unwrap(), id);
    for attribute in message.attributes() {
        let (attribute_type, value) = (attribute.attribute_type, attribute.value);
        match attribute_type {
            AttributeType::XOR_MAPPED_ADDRESS
            | AttributeType::XOR_PEER_ADDRESS
            | AttributeType::XOR_RELAYED_ADDRESS => {
                builder.xor_address(attribute_type, decode_xor_address(value, &id).unwrap());
            }
            AttributeType::LIFETIME => {
                builder.u32(attribute_type, decode_lifetime(value).unwrap());
            }
            AttributeType::ERROR_CODE => {
                let (number, phrase) = decode_error_code(value).unwrap();
                let code = ERROR_CODES.into_iter().find(|code| code.number() == number);
                builder.error_code(code.unwrap(), phrase);
            }
            AttributeType::UNKNOWN_ATTRIBUTES => {
                let types: Vec<_> = value
                    .chunks_exact(2)
                    .map(|pair| AttributeType(u16::from_be_bytes([pair[0], pair[1]])))
                    .collect();
                builder.unknown_attributes(&types);
            }
            _ => {
                builder.attribute(attribute_type, value);
            }
        }
    }
    for algorithm in [IntegrityAlgorithm::Sha1, IntegrityAlgorithm::Sha256] {
        match message.integrity(algorithm) {
            Some((_, value)) if value.len() == algorithm.value_len() => {
                builder.integrity(algorithm, vector.key(algorithm));
            }
            Some((_, value)) => {
                builder.attribute(algorithm.attribute(), value);
            }
            None => {}
        }
    }
    if message.has_fingerprint() {
        builder.fingerprint();
    }
    let len = builder.finish().unwrap();
    buffer.truncate(len);
    buffer
}
