//! A checked view of a received STUN message (RFC 8489 §5, §6.3, §14).

use std::fmt;
use std::iter::FusedIterator;

use super::integrity::IntegrityAlgorithm;
use super::method::decode_type;
use super::{
    ATTRIBUTE_HEADER_LEN, AttributeType, Class, HEADER_LEN, MAGIC_COOKIE, Method, fingerprint,
    padded,
};

/// A STUN transaction id (RFC 8489 §5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub [u8; 12]);

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why bytes are not a STUN message. A server drops them without a reply: an answer to bytes that
/// nobody's client sends would only serve reflection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Fewer bytes than a header.
    Short,
    /// One of the two top bits is set.
    NotStun,
    /// The length field is no multiple of 4 or differs from the bytes that follow.
    Length,
    /// The magic cookie is wrong; RFC 3489 had none.
    Cookie,
    /// An attribute reaches beyond the message.
    Attribute,
    /// FINGERPRINT is not last, or its value is wrong.
    Fingerprint,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "shorter than a STUN header",
            Self::NotStun => "top bits of a STUN message are zero",
            Self::Length => "length field does not fit the message",
            Self::Cookie => "wrong magic cookie",
            Self::Attribute => "attribute reaches beyond the message",
            Self::Fingerprint => "FINGERPRINT is wrong or not last",
        })
    }
}

impl std::error::Error for Malformed {}

/// One attribute as it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// The type.
    pub attribute_type: AttributeType,
    /// The value without its padding.
    pub value: &'a [u8],
    /// Where the attribute's header starts in the message.
    pub offset: usize,
}

/// A well-formed STUN message with the magic cookie. Its attributes lie within it, and its
/// FINGERPRINT, if there is one, is last and right.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    class: Class,
    method: Option<Method>,
    /// Where the attributes end that integrity covers, or that there are at all.
    attributes_end: usize,
    integrity: Option<RawAttribute<'a>>,
    integrity_sha256: Option<RawAttribute<'a>>,
    has_fingerprint: bool,
}

impl<'a> Message<'a> {
    /// Checks a whole datagram or stream frame.
    ///
    /// # Errors
    /// Says what is wrong with the first thing that is.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let message_type = check_header(bytes)?;
        if bytes[4..8] != MAGIC_COOKIE.to_be_bytes() {
            return Err(Malformed::Cookie);
        }
        let (class, method) = decode_type(message_type);
        let mut message = Self {
            bytes,
            class,
            method: Method::from_number(method),
            attributes_end: bytes.len(),
            integrity: None,
            integrity_sha256: None,
            has_fingerprint: false,
        };
        message.check_attributes()?;
        Ok(message)
    }

    /// Walks all attributes once, and notes where the ones end that count: RFC 8489 §14.5 and §14.6
    /// have a receiver ignore what follows an integrity attribute, except FINGERPRINT and
    /// MESSAGE-INTEGRITY-SHA256 after MESSAGE-INTEGRITY.
    fn check_attributes(&mut self) -> Result<(), Malformed> {
        let mut offset = HEADER_LEN;
        while offset < self.bytes.len() {
            let (attribute, next) = attribute_at(self.bytes, offset).ok_or(Malformed::Attribute)?;
            match attribute.attribute_type {
                AttributeType::MESSAGE_INTEGRITY
                    if self.integrity.is_none() && self.integrity_sha256.is_none() =>
                {
                    self.integrity = Some(attribute);
                    self.attributes_end = self.attributes_end.min(offset);
                }
                AttributeType::MESSAGE_INTEGRITY_SHA256 if self.integrity_sha256.is_none() => {
                    self.integrity_sha256 = Some(attribute);
                    self.attributes_end = self.attributes_end.min(offset);
                }
                AttributeType::FINGERPRINT => {
                    self.check_fingerprint(attribute)?;
                    self.has_fingerprint = true;
                    self.attributes_end = self.attributes_end.min(offset);
                }
                _ => {}
            }
            offset = next;
        }
        Ok(())
    }

    fn check_fingerprint(&self, attribute: RawAttribute<'a>) -> Result<(), Malformed> {
        let value: [u8; 4] = attribute
            .value
            .try_into()
            .map_err(|_| Malformed::Fingerprint)?;
        let covered = &self.bytes[..attribute.offset];
        if attribute.offset + fingerprint::ATTRIBUTE_LEN != self.bytes.len()
            || fingerprint::compute(covered) != u32::from_be_bytes(value)
        {
            return Err(Malformed::Fingerprint);
        }
        Ok(())
    }

    /// Request, indication, success or error.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The method, `None` if this server does not know it.
    pub const fn method(&self) -> Option<Method> {
        self.method
    }

    /// The transaction id.
    pub fn transaction_id(&self) -> TransactionId {
        transaction_id(self.bytes)
    }

    /// The message as it was received.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Whether it carries a FINGERPRINT (which is then right).
    pub const fn has_fingerprint(&self) -> bool {
        self.has_fingerprint
    }

    /// Whether it carries either integrity attribute.
    pub const fn has_integrity(&self) -> bool {
        self.integrity.is_some() || self.integrity_sha256.is_some()
    }

    /// Where an integrity attribute starts, and its value.
    pub fn integrity(&self, algorithm: IntegrityAlgorithm) -> Option<(usize, &'a [u8])> {
        match algorithm {
            IntegrityAlgorithm::Sha1 => self.integrity,
            IntegrityAlgorithm::Sha256 => self.integrity_sha256,
        }
        .map(|attribute| (attribute.offset, attribute.value))
    }

    /// The attributes that count, in their order; never the integrity attributes, FINGERPRINT, or
    /// what stands behind them.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            bytes: &self.bytes[..self.attributes_end],
            offset: HEADER_LEN,
        }
    }

    /// The value of the first attribute of a type; later ones do not count (RFC 8489 §14).
    pub fn first(&self, attribute_type: AttributeType) -> Option<&'a [u8]> {
        self.all(attribute_type).next()
    }

    /// The values of all attributes of a type that is defined as repeatable.
    pub fn all(&self, attribute_type: AttributeType) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.attributes()
            .filter(move |attribute| attribute.attribute_type == attribute_type)
            .map(|attribute| attribute.value)
    }
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("class", &self.class)
            .field("method", &self.method)
            .field("transaction_id", &self.transaction_id())
            .field("attributes", &AttributeTypes(self.attributes()))
            .finish_non_exhaustive()
    }
}

/// Lists types only: values may be secret.
struct AttributeTypes<'a>(Attributes<'a>);

impl fmt::Debug for AttributeTypes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.clone().map(|attribute| attribute.attribute_type))
            .finish()
    }
}

/// Iterator over attributes whose bounds were checked.
#[derive(Clone, Debug)]
pub struct Attributes<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = RawAttribute<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (attribute, next) = attribute_at(self.bytes, self.offset)?;
        self.offset = next;
        Some(attribute)
    }
}

impl FusedIterator for Attributes<'_> {}

/// A Binding request of RFC 3489, which had no cookie: its transaction id is 16 bytes long
/// (RFC 8489 §12; RFC 3489 §11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassicRequest {
    /// All 16 bytes of the id.
    pub transaction_id: [u8; 16],
    /// The first comprehension-required attribute other than the ones RFC 3489 has a client send
    /// without expecting more than an address.
    pub unsupported: Option<AttributeType>,
}

impl ClassicRequest {
    /// CHANGE-REQUEST, RFC 3489 §11.2.4
    const CHANGE_REQUEST: AttributeType = AttributeType(0x0003);

    /// Reads a Binding request without the magic cookie; `None` if the bytes are anything else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let message_type = check_header(bytes).ok()?;
        let is_binding_request = decode_type(message_type) == (Class::Request, 0x001);
        if !is_binding_request || bytes[4..8] == MAGIC_COOKIE.to_be_bytes() {
            return None;
        }
        let mut unsupported = None;
        let mut offset = HEADER_LEN;
        while offset < bytes.len() {
            let (attribute, next) = attribute_at(bytes, offset)?;
            let no_change =
                attribute.attribute_type == Self::CHANGE_REQUEST && attribute.value == [0, 0, 0, 0];
            if attribute.attribute_type.is_comprehension_required() && !no_change {
                unsupported = unsupported.or(Some(attribute.attribute_type));
            }
            offset = next;
        }
        let transaction_id = bytes[4..HEADER_LEN].try_into().ok()?;
        Some(Self {
            transaction_id,
            unsupported,
        })
    }
}

/// Checks top bits and length, and returns the message type.
fn check_header(bytes: &[u8]) -> Result<u16, Malformed> {
    let &[t0, t1, l0, l1, ..] = bytes else {
        return Err(Malformed::Short);
    };
    if bytes.len() < HEADER_LEN {
        return Err(Malformed::Short);
    }
    if t0 & 0xC0 != 0 {
        return Err(Malformed::NotStun);
    }
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if length % 4 != 0 || length != bytes.len() - HEADER_LEN {
        return Err(Malformed::Length);
    }
    Ok(u16::from_be_bytes([t0, t1]))
}

/// The transaction id of bytes that are at least a header long.
fn transaction_id(bytes: &[u8]) -> TransactionId {
    let mut id = [0; 12];
    id.copy_from_slice(&bytes[8..HEADER_LEN]);
    TransactionId(id)
}

/// The attribute at `offset` and where the next one starts; `None` at the end, or if it does not
/// fit.
fn attribute_at(bytes: &[u8], offset: usize) -> Option<(RawAttribute<'_>, usize)> {
    let &[t0, t1, l0, l1] = bytes.get(offset..offset + ATTRIBUTE_HEADER_LEN)? else {
        return None;
    };
    let start = offset + ATTRIBUTE_HEADER_LEN;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let value = bytes.get(start..start + len)?;
    let next = start + padded(len);
    if next > bytes.len() {
        return None;
    }
    let attribute_type = AttributeType(u16::from_be_bytes([t0, t1]));
    Some((
        RawAttribute {
            attribute_type,
            value,
            offset,
        },
        next,
    ))
}
