//! Arbitrary messages, and bytes that are nearly messages.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use turnstone::wire::{
    AttributeType, Class, ErrorCode, IntegrityAlgorithm, MessageBuilder, Method, TransactionId,
};

use crate::invariants::fingerprint_of;
use crate::rebuild::ERROR_CODES;
use crate::vectors::{set_length, vectors};

/// Comparing with an oracle is where the surprises are; `PROPTEST_CASES` still scales it.
pub(crate) fn more_cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases * 4,
        ..config
    }
}

pub(crate) const CLASSES: [Class; 4] = [
    Class::Request,
    Class::Indication,
    Class::Success,
    Class::Error,
];

pub(crate) const METHODS: [Method; 7] = [
    Method::Binding,
    Method::Allocate,
    Method::Refresh,
    Method::Send,
    Method::Data,
    Method::CreatePermission,
    Method::ChannelBind,
];

/// An attribute before it is written.
#[derive(Clone, Debug)]
pub(crate) enum Attribute {
    Opaque(AttributeType, Vec<u8>),
    Xored(AttributeType, SocketAddr),
    Plain(SocketAddr),
    Lifetime(u32),
    Error(ErrorCode),
    Unknown(Vec<AttributeType>),
}

/// A message before it is written.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) class: Class,
    pub(crate) method: Method,
    pub(crate) id: TransactionId,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) sha1: bool,
    pub(crate) sha256: bool,
    pub(crate) fingerprint: bool,
    /// Text, because one of the oracles takes no other key.
    pub(crate) key: String,
}

impl Draft {
    /// The message, in a buffer that was not clean.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut buffer = vec![0xEE; 4096];
        let len = self.build_into(&mut buffer).unwrap();
        buffer.truncate(len);
        buffer
    }

    pub(crate) fn build_into(
        &self,
        buffer: &mut [u8],
    ) -> Result<usize, turnstone::wire::BufferTooSmall> {
        let mut builder = MessageBuilder::new(buffer, self.class, self.method, self.id);
        for attribute in &self.attributes {
            match attribute {
                Attribute::Opaque(attribute_type, value) => {
                    builder.attribute(*attribute_type, value)
                }
                Attribute::Xored(attribute_type, address) => {
                    builder.xor_address(*attribute_type, *address)
                }
                Attribute::Plain(address) => {
                    builder.address(AttributeType::MAPPED_ADDRESS, *address)
                }
                Attribute::Lifetime(seconds) => builder.u32(AttributeType::LIFETIME, *seconds),
                Attribute::Error(code) => builder.error_code(*code, code.phrase()),
                Attribute::Unknown(types) => builder.unknown_attributes(types),
            };
        }
        if self.sha1 {
            builder.integrity(IntegrityAlgorithm::Sha1, self.key.as_bytes());
        }
        if self.sha256 {
            builder.integrity(IntegrityAlgorithm::Sha256, self.key.as_bytes());
        }
        if self.fingerprint {
            builder.fingerprint();
        }
        builder.finish()
    }
}

/// Any attribute but the three that the builder computes.
pub(crate) fn attribute_type() -> impl Strategy<Value = AttributeType> {
    any::<u16>()
        .prop_map(AttributeType)
        .prop_filter("computed", |&attribute_type| {
            !matches!(
                attribute_type,
                AttributeType::MESSAGE_INTEGRITY
                    | AttributeType::MESSAGE_INTEGRITY_SHA256
                    | AttributeType::FINGERPRINT
            )
        })
}

pub(crate) fn address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    let xored = select(vec![
        AttributeType::XOR_MAPPED_ADDRESS,
        AttributeType::XOR_PEER_ADDRESS,
        AttributeType::XOR_RELAYED_ADDRESS,
    ]);
    prop_oneof![
        4 => (attribute_type(), vec(any::<u8>(), 0..40))
            .prop_map(|(attribute_type, value)| Attribute::Opaque(attribute_type, value)),
        2 => (xored, address()).prop_map(|(kind, address)| Attribute::Xored(kind, address)),
        1 => address().prop_map(Attribute::Plain),
        1 => any::<u32>().prop_map(Attribute::Lifetime),
        1 => select(&ERROR_CODES[..]).prop_map(Attribute::Error),
        1 => vec(attribute_type(), 0..5).prop_map(Attribute::Unknown),
    ]
}

pub(crate) fn draft() -> impl Strategy<Value = Draft> {
    (
        (
            select(&CLASSES[..]),
            select(&METHODS[..]),
            any::<[u8; 12]>(),
        ),
        vec(attribute(), 0..10),
        any::<(bool, bool, bool)>(),
        "[ -~]{0,70}",
    )
        .prop_map(
            |(head, attributes, (sha1, sha256, fingerprint), key)| Draft {
                class: head.0,
                method: head.1,
                id: TransactionId(head.2),
                attributes,
                sha1,
                sha256,
                fingerprint,
                key,
            },
        )
}

/// One step away from a message.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Truncate(Index),
    Append(Vec<u8>),
    /// A word goes.
    Remove(Index),
    /// A word comes.
    Insert(Index, [u8; 4]),
    /// Words from there on are said twice.
    Repeat(Index),
    /// The length field fits again.
    Mend,
    /// A FINGERPRINT comes that is right for now.
    Fingerprint,
}

fn edit() -> impl Strategy<Value = Edit> {
    // The types on whose order and position much depends.
    let special = select(vec![
        [0x00, 0x08, 0, 0],
        [0x00, 0x08, 0, 20],
        [0x00, 0x1C, 0, 0],
        [0x00, 0x1C, 0, 32],
        [0x80, 0x28, 0, 0],
        [0x80, 0x28, 0, 4],
        [0x80, 0x20, 0, 0],
    ]);
    prop_oneof![
        3 => any::<(Index, u8)>().prop_map(|(at, byte)| Edit::Set(at, byte)),
        1 => any::<Index>().prop_map(Edit::Truncate),
        1 => vec(any::<u8>(), 0..12).prop_map(Edit::Append),
        1 => any::<Index>().prop_map(Edit::Remove),
        1 => any::<(Index, [u8; 4])>().prop_map(|(at, word)| Edit::Insert(at, word)),
        2 => (any::<Index>(), special).prop_map(|(at, word)| Edit::Insert(at, word)),
        1 => any::<Index>().prop_map(Edit::Repeat),
        4 => Just(Edit::Mend),
        2 => Just(Edit::Fingerprint),
    ]
}

fn apply(edit: Edit, bytes: &mut Vec<u8>) {
    let words = bytes.len() / 4;
    let word = |at: Index| at.index(words.max(1)) * 4;
    match edit {
        Edit::Set(at, byte) if !bytes.is_empty() => {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Edit::Set(..) => {}
        Edit::Truncate(at) => bytes.truncate(at.index(bytes.len() + 1)),
        Edit::Append(tail) => bytes.extend(tail),
        Edit::Remove(at) if words > 0 => {
            let at = word(at);
            bytes.drain(at..at + 4);
        }
        Edit::Remove(_) => {}
        Edit::Insert(at, new) => {
            let at = word(at);
            bytes.splice(at..at, new);
        }
        Edit::Repeat(at) => bytes.extend_from_within(word(at)..),
        Edit::Mend if bytes.len() >= 20 => set_length(bytes),
        Edit::Fingerprint if bytes.len() >= 20 => {
            let covered = bytes.len();
            bytes.extend([0x80, 0x28, 0, 4, 0, 0, 0, 0]);
            set_length(bytes);
            let value = fingerprint_of(&bytes[..covered]);
            bytes[covered + 4..].copy_from_slice(&value);
        }
        Edit::Mend | Edit::Fingerprint => {}
    }
}

/// Arbitrary bytes, arbitrary attributes behind a good header, and edited vectors.
pub(crate) fn packet() -> impl Strategy<Value = Vec<u8>> {
    let body = vec(any::<u8>(), 0..120).prop_map(|body| crate::vectors::in_message(&body));
    let edited = (select(vectors().packets()), vec(edit(), 0..6)).prop_map(|(mut bytes, edits)| {
        for edit in edits {
            // "Repeat" doubles at most: five of them stay far below the largest length.
            apply(edit, &mut bytes);
        }
        bytes
    });
    prop_oneof![
        1 => vec(any::<u8>(), 0..120),
        1 => body,
        6 => edited,
    ]
}
