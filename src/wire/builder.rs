//! Writing a STUN message into the caller's buffer.

use std::fmt;
use std::net::SocketAddr;

use super::address::{Family, encode_address, encode_xor_address};
use super::integrity::IntegrityAlgorithm;
use super::method::encode_type;
use super::{
    ATTRIBUTE_HEADER_LEN, AttributeType, Class, ErrorCode, HEADER_LEN, MAGIC_COOKIE, Method,
    TransactionId, fingerprint, padded,
};

/// The buffer cannot hold the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferTooSmall;

impl fmt::Display for BufferTooSmall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is too small for the STUN message")
    }
}

impl std::error::Error for BufferTooSmall {}

/// Writes header and attributes in the order of the calls. Padding is zero whatever the buffer held
/// before. A message that does not fit is reported once, by [`MessageBuilder::finish`].
pub struct MessageBuilder<'b> {
    buffer: &'b mut [u8],
    len: usize,
    fits: bool,
    transaction_id: TransactionId,
}

impl<'b> MessageBuilder<'b> {
    /// Starts a message.
    pub fn new(
        buffer: &'b mut [u8],
        class: Class,
        method: Method,
        transaction_id: TransactionId,
    ) -> Self {
        let fits = buffer.len() >= HEADER_LEN;
        if fits {
            buffer[..2].copy_from_slice(&encode_type(class, method).to_be_bytes());
            buffer[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            buffer[8..HEADER_LEN].copy_from_slice(&transaction_id.0);
        }
        Self {
            buffer,
            len: HEADER_LEN,
            fits,
            transaction_id,
        }
    }

    /// Starts a Binding success response to a client of RFC 3489, whose transaction id takes the
    /// cookie's place too.
    pub fn classic_binding(buffer: &'b mut [u8], class: Class, transaction_id: [u8; 16]) -> Self {
        let builder = Self::new(buffer, class, Method::Binding, TransactionId([0; 12]));
        if builder.fits {
            builder.buffer[4..HEADER_LEN].copy_from_slice(&transaction_id);
        }
        builder
    }

    /// Reserves an attribute of `len` bytes, writes its header and its padding, and returns the
    /// place of its value.
    fn place(&mut self, attribute_type: AttributeType, len: usize) -> Option<&mut [u8]> {
        let start = self.len + ATTRIBUTE_HEADER_LEN;
        let end = start + padded(len);
        self.fits &= end <= self.buffer.len() && end - HEADER_LEN <= usize::from(u16::MAX);
        if !self.fits {
            return None;
        }
        self.buffer[self.len..self.len + 2].copy_from_slice(&attribute_type.0.to_be_bytes());
        self.buffer[self.len + 2..start].copy_from_slice(&(len as u16).to_be_bytes());
        self.buffer[start + len..end].fill(0);
        self.len = end;
        Some(&mut self.buffer[start..start + len])
    }

    /// Appends an attribute as it is.
    pub fn attribute(&mut self, attribute_type: AttributeType, value: &[u8]) -> &mut Self {
        if let Some(place) = self.place(attribute_type, value.len()) {
            place.copy_from_slice(value);
        }
        self
    }

    /// Appends a 32-bit attribute: LIFETIME, and every other that is four bytes long.
    pub fn u32(&mut self, attribute_type: AttributeType, value: u32) -> &mut Self {
        self.attribute(attribute_type, &value.to_be_bytes())
    }

    /// Appends an XORed address.
    pub fn xor_address(&mut self, attribute_type: AttributeType, address: SocketAddr) -> &mut Self {
        let id = self.transaction_id;
        let len = Family::of(address.ip()).address_value_len();
        if let Some(place) = self.place(attribute_type, len) {
            encode_xor_address(place, address, &id);
        }
        self
    }

    /// Appends a plain address.
    pub fn address(&mut self, attribute_type: AttributeType, address: SocketAddr) -> &mut Self {
        let len = Family::of(address.ip()).address_value_len();
        if let Some(place) = self.place(attribute_type, len) {
            encode_address(place, address);
        }
        self
    }

    /// Appends ERROR-CODE with a reason phrase, which may be empty.
    pub fn error_code(&mut self, code: ErrorCode, phrase: &str) -> &mut Self {
        if let Some(place) = self.place(AttributeType::ERROR_CODE, 4 + phrase.len()) {
            place[..4].copy_from_slice(&encode_code(code));
            place[4..].copy_from_slice(phrase.as_bytes());
        }
        self
    }

    /// Appends ADDRESS-ERROR-CODE without a phrase (RFC 8656 §18.12).
    pub fn address_error_code(&mut self, family: Family, code: ErrorCode) -> &mut Self {
        let [_, _, class, number] = encode_code(code);
        self.attribute(
            AttributeType::ADDRESS_ERROR_CODE,
            &[family as u8, 0, class, number],
        )
    }

    /// Appends UNKNOWN-ATTRIBUTES.
    pub fn unknown_attributes(&mut self, types: &[AttributeType]) -> &mut Self {
        if let Some(place) = self.place(AttributeType::UNKNOWN_ATTRIBUTES, types.len() * 2) {
            for (place, attribute_type) in place.chunks_exact_mut(2).zip(types) {
                place.copy_from_slice(&attribute_type.0.to_be_bytes());
            }
        }
        self
    }

    /// Appends an integrity attribute over everything so far.
    pub fn integrity(&mut self, algorithm: IntegrityAlgorithm, key: &[u8]) -> &mut Self {
        let covered = self.len;
        if self
            .place(algorithm.attribute(), algorithm.value_len())
            .is_some()
        {
            let mac = algorithm.compute(key, &self.buffer[..covered]);
            let value = covered + ATTRIBUTE_HEADER_LEN;
            self.buffer[value..self.len].copy_from_slice(&mac[..algorithm.value_len()]);
        }
        self
    }

    /// Appends FINGERPRINT, which must be the last attribute.
    pub fn fingerprint(&mut self) -> &mut Self {
        let covered = self.len;
        if self.place(AttributeType::FINGERPRINT, 4).is_some() {
            self.write_length();
            let crc = fingerprint::compute(&self.buffer[..covered]);
            let value = covered + ATTRIBUTE_HEADER_LEN;
            self.buffer[value..self.len].copy_from_slice(&crc.to_be_bytes());
        }
        self
    }

    /// Completes the header and returns the message's length in bytes.
    ///
    /// # Errors
    /// If any part of the message did not fit; the buffer's content is then meaningless.
    pub fn finish(&mut self) -> Result<usize, BufferTooSmall> {
        if !self.fits {
            return Err(BufferTooSmall);
        }
        self.write_length();
        Ok(self.len)
    }

    fn write_length(&mut self) {
        let length = (self.len - HEADER_LEN) as u16;
        self.buffer[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// Class and number as ERROR-CODE and ADDRESS-ERROR-CODE split them.
fn encode_code(code: ErrorCode) -> [u8; 4] {
    [
        0,
        0,
        (code.number() / 100) as u8,
        (code.number() % 100) as u8,
    ]
}
