//! What clients put on the wire, and what they read from it.

use std::net::SocketAddr;

use turnstone::auth::{LongTermKey, PASSWORD_ALGORITHMS, PasswordAlgorithm, rest_password};
use turnstone::turn::Client;
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, Message, MessageBuilder, Method, TransactionId,
    decode_error_code, decode_lifetime, decode_xor_address, verify_integrity,
};

pub(crate) const REALM: &str = "example.org";

/// The protocol number of UDP in REQUESTED-TRANSPORT.
pub(crate) const UDP: u32 = 17 << 24;

/// A user name and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Account {
    pub(crate) fn new(username: &str, password: &str) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
        }
    }

    /// A time-limited credential.
    pub(crate) fn rest(secret: &str, username: &str) -> Self {
        let password = rest_password(secret, username.as_bytes());
        Self::new(username, &password)
    }

    pub(crate) fn key(&self, algorithm: PasswordAlgorithm) -> LongTermKey {
        LongTermKey::derive(algorithm, self.username.as_bytes(), REALM, &self.password)
    }
}

/// How a client of RFC 8489 uses its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// As in RFC 5389: neither algorithm attribute, MD5 and SHA-1.
    Old,
    /// MD5 by name, with SHA-1.
    Md5Sha1,
    /// MD5 by name, with SHA-256.
    Md5Sha256,
    /// SHA-256 for both.
    Sha256,
}

impl Scheme {
    pub(crate) const fn password(self) -> PasswordAlgorithm {
        match self {
            Self::Old | Self::Md5Sha1 | Self::Md5Sha256 => PasswordAlgorithm::Md5,
            Self::Sha256 => PasswordAlgorithm::Sha256,
        }
    }

    pub(crate) const fn request_integrity(self) -> IntegrityAlgorithm {
        match self {
            Self::Old | Self::Md5Sha1 => IntegrityAlgorithm::Sha1,
            Self::Md5Sha256 | Self::Sha256 => IntegrityAlgorithm::Sha256,
        }
    }

    /// AUTH-19
    pub(crate) const fn reply_integrity(self) -> IntegrityAlgorithm {
        match self {
            Self::Old => IntegrityAlgorithm::Sha1,
            Self::Md5Sha1 | Self::Md5Sha256 | Self::Sha256 => IntegrityAlgorithm::Sha256,
        }
    }
}

/// Builds a message of whatever `write` puts into it.
pub(crate) fn build(
    class: Class,
    method: Method,
    id: TransactionId,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id);
    write(&mut builder);
    let len = builder.finish().expect("the message fits");
    buffer.truncate(len);
    buffer
}

/// Appends the credentials of RFC 8489 §9.2.3, the integrity attribute last.
pub(crate) fn sign(
    builder: &mut MessageBuilder<'_>,
    account: &Account,
    nonce: &[u8],
    scheme: Scheme,
) {
    builder
        .attribute(AttributeType::USERNAME, account.username.as_bytes())
        .attribute(AttributeType::REALM, REALM.as_bytes())
        .attribute(AttributeType::NONCE, nonce);
    if scheme != Scheme::Old {
        let algorithm = (scheme.password() as u32) << 16;
        builder
            .attribute(AttributeType::PASSWORD_ALGORITHMS, &PASSWORD_ALGORITHMS)
            .u32(AttributeType::PASSWORD_ALGORITHM, algorithm);
    }
    let key = account.key(scheme.password());
    builder.integrity(scheme.request_integrity(), key.as_bytes());
}

pub(crate) fn send_indication(id: TransactionId, peer: SocketAddr, data: &[u8]) -> Vec<u8> {
    build(Class::Indication, Method::Send, id, |builder| {
        builder
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::DATA, data);
    })
}

/// A ChannelData message, padded as on streams if `pad`.
pub(crate) fn channel_data(number: u16, data: &[u8], pad: bool) -> Vec<u8> {
    let mut message = number.to_be_bytes().to_vec();
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    if pad {
        message.resize(message.len().next_multiple_of(4), 0);
    }
    message
}

/// A message from the server.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) to: Client,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.bytes).expect("the server sends well-formed messages")
    }

    pub(crate) fn class(&self) -> Class {
        self.message().class()
    }

    pub(crate) fn id(&self) -> TransactionId {
        self.message().transaction_id()
    }

    pub(crate) fn attribute(&self, attribute: AttributeType) -> Option<Vec<u8>> {
        self.message().first(attribute).map(<[u8]>::to_vec)
    }

    /// The code of an error response.
    pub(crate) fn code(&self) -> Option<u16> {
        let value = self.attribute(AttributeType::ERROR_CODE)?;
        Some(decode_error_code(&value).unwrap().0)
    }

    pub(crate) fn addresses(&self, attribute: AttributeType) -> Vec<SocketAddr> {
        let id = self.id();
        self.message()
            .all(attribute)
            .map(|value| decode_xor_address(value, &id).unwrap())
            .collect()
    }

    pub(crate) fn relayed(&self) -> Vec<SocketAddr> {
        self.addresses(AttributeType::XOR_RELAYED_ADDRESS)
    }

    pub(crate) fn lifetime(&self) -> Option<u32> {
        let value = self.attribute(AttributeType::LIFETIME)?;
        Some(decode_lifetime(&value).unwrap())
    }

    pub(crate) fn token(&self) -> Option<Vec<u8>> {
        self.attribute(AttributeType::RESERVATION_TOKEN)
    }

    /// Whether exactly the integrity attribute is there that the scheme calls for, and is right.
    pub(crate) fn is_signed_for(&self, account: &Account, scheme: Scheme) -> bool {
        let message = self.message();
        let wanted = scheme.reply_integrity();
        let other = match wanted {
            IntegrityAlgorithm::Sha1 => IntegrityAlgorithm::Sha256,
            IntegrityAlgorithm::Sha256 => IntegrityAlgorithm::Sha1,
        };
        let key = account.key(scheme.password());
        message.integrity(other).is_none() && verify_integrity(&message, wanted, key.as_bytes())
    }
}

/// What the server makes of a peer's datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Delivered {
    Channel {
        number: u16,
        data: Vec<u8>,
    },
    Data {
        peer: SocketAddr,
        data: Vec<u8>,
    },
    /// The value of ICMP.
    Icmp {
        peer: SocketAddr,
        icmp: Vec<u8>,
    },
}

impl Delivered {
    /// Reads a message for a client, with the strictness of one that frames a stream by it.
    pub(crate) fn read(bytes: &[u8], is_stream: bool) -> Self {
        if (0x40..0x50).contains(&bytes[0]) {
            let number = u16::from_be_bytes([bytes[0], bytes[1]]);
            let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            let frame = if is_stream {
                (4 + len).next_multiple_of(4)
            } else {
                4 + len
            };
            assert_eq!(bytes.len(), frame, "ChannelData of {len} bytes");
            assert!(bytes[4 + len..].iter().all(|&byte| byte == 0));
            let data = bytes[4..4 + len].to_vec();
            return Self::Channel { number, data };
        }
        let message = Message::parse(bytes).unwrap();
        let what = (message.class(), message.method());
        assert_eq!(what, (Class::Indication, Some(Method::Data)));
        let peer = message.first(AttributeType::XOR_PEER_ADDRESS).unwrap();
        let peer = decode_xor_address(peer, &message.transaction_id()).unwrap();
        if let Some(icmp) = message.first(AttributeType::ICMP) {
            assert_eq!(message.first(AttributeType::DATA), None);
            let icmp = icmp.to_vec();
            return Self::Icmp { peer, icmp };
        }
        assert_eq!(message.attributes().count(), 2, "nothing but the two");
        let data = message.first(AttributeType::DATA).unwrap().to_vec();
        Self::Data { peer, data }
    }

    /// The payload.
    pub(crate) fn data(&self) -> &[u8] {
        match self {
            Self::Channel { data, .. } | Self::Data { data, .. } => data,
            Self::Icmp { .. } => &[],
        }
    }
}
