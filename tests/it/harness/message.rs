//! STUN messages as bytes: a writer and a strict reader of this test's own.

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::attribute::{
    ERROR_CODE, FINGERPRINT, LIFETIME, MESSAGE_INTEGRITY, MESSAGE_INTEGRITY_SHA256,
    UNKNOWN_ATTRIBUTES,
};

const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];

/// Method numbers (RFC 8489 §18.2, RFC 8656 §17).
pub(crate) mod method {
    pub(crate) const BINDING: u16 = 0x001;
    pub(crate) const ALLOCATE: u16 = 0x003;
    pub(crate) const REFRESH: u16 = 0x004;
    pub(crate) const SEND: u16 = 0x006;
    pub(crate) const DATA: u16 = 0x007;
    pub(crate) const CREATE_PERMISSION: u16 = 0x008;
    pub(crate) const CHANNEL_BIND: u16 = 0x009;
    /// RFC 6062.
    pub(crate) const CONNECT: u16 = 0x00A;
    /// RFC 6062.
    pub(crate) const CONNECTION_BIND: u16 = 0x00B;
}

/// The two class bits (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Request = 0,
    Indication = 1,
    Success = 2,
    Error = 3,
}

pub(crate) fn random_id() -> [u8; 12] {
    let mut id = [0; 12];
    getrandom::fill(&mut id).unwrap();
    id
}

/// A message being written. The header is right after every step.
#[derive(Clone, Debug)]
pub(crate) struct Packet(Vec<u8>);

impl Packet {
    pub(crate) fn new(class: Class, method: u16) -> Self {
        let class = class as u16;
        let kind = (method & 0x00F)
            | (method & 0x070) << 1
            | (method & 0xF80) << 2
            | (class & 1) << 4
            | (class & 2) << 7;
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(COOKIE);
        bytes.extend(random_id());
        Self(bytes)
    }

    pub(crate) fn request(method: u16) -> Self {
        Self::new(Class::Request, method)
    }

    pub(crate) fn binding() -> Self {
        Self::request(method::BINDING)
    }

    pub(crate) fn indication(method: u16) -> Self {
        Self::new(Class::Indication, method)
    }

    pub(crate) fn with_id(mut self, id: [u8; 12]) -> Self {
        self.0[8..20].copy_from_slice(&id);
        self
    }

    pub(crate) fn id(&self) -> [u8; 12] {
        self.0[8..20].try_into().unwrap()
    }

    pub(crate) fn attr(mut self, number: u16, value: &[u8]) -> Self {
        self.0.extend(number.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self.set_length(0);
        self
    }

    pub(crate) fn u32(self, number: u16, value: u32) -> Self {
        self.attr(number, &value.to_be_bytes())
    }

    pub(crate) fn address(self, number: u16, address: SocketAddr) -> Self {
        let value = xor(address, &self.0[4..20]);
        self.attr(number, &value)
    }

    /// MESSAGE-INTEGRITY.
    pub(crate) fn sha1(mut self, key: &[u8]) -> Self {
        self.set_length(24);
        let mac = hmac_sha1(key, &self.0);
        self.attr(MESSAGE_INTEGRITY, &mac)
    }

    /// MESSAGE-INTEGRITY-SHA256, cut to `len` bytes.
    pub(crate) fn sha256(mut self, key: &[u8], len: usize) -> Self {
        self.set_length(4 + len.next_multiple_of(4));
        let mut mac = hmac_sha256(key, &self.0).to_vec();
        mac.resize(len, 0);
        self.attr(MESSAGE_INTEGRITY_SHA256, &mac)
    }

    pub(crate) fn fingerprint(mut self) -> Self {
        self.set_length(8);
        let crc = crc32fast::hash(&self.0) ^ 0x5354_554E;
        self.u32(FINGERPRINT, crc)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn set_length(&mut self, more: usize) {
        let length = (self.0.len() - 20 + more) as u16;
        self.0[2..4].copy_from_slice(&length.to_be_bytes());
    }
}

/// A well-formed message from the server: exact length, the cookie, attributes that fill it, and
/// zero padding (MSG-05), all of which the constructor insists on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Message {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        assert_eq!(length + 20, bytes.len(), "length field of {bytes:02x?}");
        assert_eq!(&bytes[4..8], COOKIE, "cookie of {bytes:02x?}");
        assert!(bytes[0] < 0x40, "type of {bytes:02x?}");
        Self {
            bytes: bytes.to_vec(),
            attributes: parse_attributes(&bytes[20..]),
        }
    }

    fn kind(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    pub(crate) fn class(&self) -> Class {
        match (self.kind() >> 4 & 1) | (self.kind() >> 7 & 2) {
            0 => Class::Request,
            1 => Class::Indication,
            2 => Class::Success,
            _ => Class::Error,
        }
    }

    pub(crate) fn method(&self) -> u16 {
        let kind = self.kind();
        (kind & 0x00F) | (kind >> 1 & 0x070) | (kind >> 2 & 0xF80)
    }

    pub(crate) fn id(&self) -> [u8; 12] {
        self.bytes[8..20].try_into().unwrap()
    }

    /// The attribute numbers in their order.
    pub(crate) fn types(&self) -> Vec<u16> {
        self.attributes.iter().map(|(number, _)| *number).collect()
    }

    pub(crate) fn all(&self, number: u16) -> Vec<&[u8]> {
        let all = self.attributes.iter();
        all.filter(|(n, _)| *n == number)
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    pub(crate) fn get(&self, number: u16) -> Option<&[u8]> {
        self.all(number).first().copied()
    }

    pub(crate) fn has(&self, number: u16) -> bool {
        self.get(number).is_some()
    }

    pub(crate) fn addresses(&self, number: u16) -> Vec<SocketAddr> {
        let all = self.all(number).into_iter();
        all.map(|value| unxor(value, &self.bytes[4..20])).collect()
    }

    pub(crate) fn address(&self, number: u16) -> SocketAddr {
        self.addresses(number)[0]
    }

    pub(crate) fn lifetime(&self) -> u32 {
        u32::from_be_bytes(self.get(LIFETIME).unwrap().try_into().unwrap())
    }

    /// The error code, 0 of a success response. The fields are checked as MSG-21 has them.
    pub(crate) fn code(&self) -> u16 {
        if self.class() == Class::Success {
            assert!(!self.has(ERROR_CODE));
            return 0;
        }
        let value = self.get(ERROR_CODE).expect("an error response has a code");
        assert_eq!(value[..2], [0, 0], "reserved bits");
        assert!((3..=6).contains(&value[2]) && value[3] < 100);
        assert!(std::str::from_utf8(&value[4..]).unwrap().chars().count() < 128);
        u16::from(value[2]) * 100 + u16::from(value[3])
    }

    /// UNKNOWN-ATTRIBUTES, sorted.
    pub(crate) fn unknown(&self) -> Vec<u16> {
        let value = self.get(UNKNOWN_ATTRIBUTES).unwrap();
        let pairs = value.chunks(2);
        let mut types: Vec<u16> = pairs.map(|b| u16::from_be_bytes([b[0], b[1]])).collect();
        types.sort_unstable();
        types
    }

    /// Whether MESSAGE-INTEGRITY is there and right.
    pub(crate) fn is_sha1_signed(&self, key: &[u8]) -> bool {
        let Some((covered, value)) = self.covered(MESSAGE_INTEGRITY, 20) else {
            return false;
        };
        hmac_sha1(key, &covered) == value.as_slice()
    }

    /// Whether MESSAGE-INTEGRITY-SHA256 is there, whole, and right.
    pub(crate) fn is_sha256_signed(&self, key: &[u8]) -> bool {
        let Some((covered, value)) = self.covered(MESSAGE_INTEGRITY_SHA256, 32) else {
            return false;
        };
        hmac_sha256(key, &covered) == value.as_slice()
    }

    /// Whether FINGERPRINT is the last attribute and right.
    pub(crate) fn is_fingerprinted(&self) -> bool {
        if self.types().last() != Some(&FINGERPRINT) {
            return false;
        }
        let (covered, value) = self.covered(FINGERPRINT, 4).unwrap();
        (crc32fast::hash(&covered) ^ 0x5354_554E).to_be_bytes() == value.as_slice()
    }

    /// The bytes before an attribute, with the length field as it was when it was added; and its
    /// value.
    fn covered(&self, number: u16, len: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut end = 20;
        for (n, value) in &self.attributes {
            if *n == number {
                assert_eq!(value.len(), len);
                let mut covered = self.bytes[..end].to_vec();
                covered[2..4].copy_from_slice(&((end - 20 + 4 + len) as u16).to_be_bytes());
                return Some((covered, value.clone()));
            }
            end += 4 + value.len().next_multiple_of(4);
        }
        None
    }
}

/// Takes attributes apart; they must fill `bytes` exactly and be padded with zeros.
pub(crate) fn parse_attributes(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut attributes = Vec::new();
    while !bytes.is_empty() {
        let number = u16::from_be_bytes([bytes[0], bytes[1]]);
        let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        let (value, rest) = bytes[4..].split_at(len);
        let (padding, rest) = rest.split_at(len.next_multiple_of(4) - len);
        assert!(padding.iter().all(|&byte| byte == 0), "padding {padding:?}");
        attributes.push((number, value.to_vec()));
        bytes = rest;
    }
    attributes
}

/// The value of an XORed address; `mask` is the cookie and the transaction id.
fn xor(address: SocketAddr, mask: &[u8]) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let port = address.port().to_be_bytes();
    let mut value = vec![0, family];
    value.extend(port.iter().zip(mask).map(|(a, b)| a ^ b));
    value.extend(ip.iter().zip(mask).map(|(a, b)| a ^ b));
    value
}

fn unxor(value: &[u8], mask: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([value[2] ^ mask[0], value[3] ^ mask[1]]);
    let ip: Vec<u8> = value[4..].iter().zip(mask).map(|(a, b)| a ^ b).collect();
    let ip = match value[1] {
        1 => IpAddr::from(<[u8; 4]>::try_from(ip).unwrap()),
        2 => IpAddr::from(<[u8; 16]>::try_from(ip).unwrap()),
        family => panic!("address family {family}"),
    };
    SocketAddr::new(ip, port)
}

fn hmac_sha1(key: &[u8], bytes: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}
