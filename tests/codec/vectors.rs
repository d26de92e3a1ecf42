//! A typed view of `tests/data/vectors.json`, of the parts that concern the codec.

use std::net::SocketAddr;
use std::sync::LazyLock;

use serde_json::Value;
use turnstone::wire::{
    AttributeType, Class, IntegrityAlgorithm, MessageBuilder, Method, TransactionId,
};

/// Bytes with a name, and the HMAC key if the vector has one of its own.
pub(crate) struct Vector {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) key: Option<Vec<u8>>,
}

impl Vector {
    /// Whether this is the exchange message of that number ("A03").
    pub(crate) fn is(&self, number: &str) -> bool {
        self.name.split(' ').next() == Some(number)
    }

    /// The key that this vector's integrity attribute is made with.
    pub(crate) fn key(&self, algorithm: IntegrityAlgorithm) -> &[u8] {
        let all = vectors();
        match (&self.key, algorithm) {
            (Some(key), _) => key,
            // The algorithm of the key is PASSWORD-ALGORITHM's, not the integrity attribute's: MD5
            // under SHA-256 in the one, SHA-256 under both in the other.
            (None, _) if self.is("B11") => &all.md5_key,
            (None, _) if self.is("B12") => &all.sha256_key,
            (None, IntegrityAlgorithm::Sha256) => &all.sha256_key,
            (None, IntegrityAlgorithm::Sha1) => &all.md5_key,
        }
    }
}

/// An address with both of its encodings, attribute header included.
pub(crate) struct AddressVector {
    pub(crate) address: SocketAddr,
    pub(crate) transaction_id: TransactionId,
    pub(crate) xored: Vec<u8>,
    pub(crate) plain: Vec<u8>,
}

/// A ChannelData message for both kinds of transport.
pub(crate) struct ChannelDataVector {
    pub(crate) channel: u16,
    pub(crate) payload: Vec<u8>,
    pub(crate) udp: Vec<u8>,
    pub(crate) stream: Vec<u8>,
}

/// A method's four message types.
pub(crate) struct TypeVector {
    pub(crate) method: String,
    pub(crate) types: [(Class, u16); 4],
}

pub(crate) struct Vectors {
    pub(crate) rfc: Vec<Vector>,
    pub(crate) exchange_md5: Vec<Vector>,
    pub(crate) exchange_sha256: Vec<Vector>,
    pub(crate) attributes: Vec<Vector>,
    pub(crate) malformed: Vec<Vector>,
    pub(crate) addresses: Vec<AddressVector>,
    pub(crate) channel_data: Vec<ChannelDataVector>,
    pub(crate) types: Vec<TypeVector>,
    /// The keys of `alice` in both exchanges.
    pub(crate) md5_key: Vec<u8>,
    pub(crate) sha256_key: Vec<u8>,
}

impl Vectors {
    /// The messages of the RFCs and of both exchanges.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Vector> {
        self.rfc.iter().chain(self.exchanges())
    }

    /// The messages of both exchanges.
    pub(crate) fn exchanges(&self) -> impl Iterator<Item = &Vector> {
        self.exchange_md5.iter().chain(&self.exchange_sha256)
    }

    /// The RFC's vector of that name.
    pub(crate) fn rfc(&self, name: &str) -> &Vector {
        self.rfc.iter().find(|vector| vector.name == name).unwrap()
    }

    /// The exchange message of that number.
    pub(crate) fn exchange(&self, number: &str) -> &Vector {
        self.exchanges().find(|vector| vector.is(number)).unwrap()
    }

    /// Every vector as a packet: messages, attributes in a message, ChannelData, malformed bytes.
    pub(crate) fn packets(&self) -> Vec<Vec<u8>> {
        let mut packets: Vec<_> = self.messages().map(|vector| vector.bytes.clone()).collect();
        packets.extend(self.malformed.iter().map(|vector| vector.bytes.clone()));
        packets.extend(self.attributes.iter().map(|v| in_message(&v.bytes)));
        for address in &self.addresses {
            packets.push(in_message(&address.xored));
            packets.push(in_message(&address.plain));
        }
        for message in &self.channel_data {
            packets.push(message.udp.clone());
            packets.push(message.stream.clone());
        }
        packets
    }
}

/// A Binding request whose attributes are these bytes.
pub(crate) fn in_message(attributes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    let id = TransactionId([7; 12]);
    let len = MessageBuilder::new(&mut bytes, Class::Request, Method::Binding, id).finish();
    assert_eq!(len, Ok(20));
    bytes.extend(attributes);
    set_length(&mut bytes);
    bytes
}

/// Makes the length field fit the bytes.
pub(crate) fn set_length(message: &mut [u8]) {
    let length = u16::try_from(message.len() - 20).unwrap();
    message[2..4].copy_from_slice(&length.to_be_bytes());
}

/// Removes a FINGERPRINT, so that it does not hide what an integrity attribute would say.
pub(crate) fn without_fingerprint(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let at = message.len().saturating_sub(8);
    if message[at..].starts_with(&AttributeType::FINGERPRINT.0.to_be_bytes()) {
        message.truncate(at);
        set_length(&mut message);
    }
    message
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    assert_eq!(text.len() % 2, 0, "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// All vectors, read once.
pub(crate) fn vectors() -> &'static Vectors {
    static VECTORS: LazyLock<Vectors> = LazyLock::new(load);
    &VECTORS
}

fn load() -> Vectors {
    let json: Value = serde_json::from_str(include_str!("../data/vectors.json")).unwrap();
    let alice = array(&json["keys"])
        .iter()
        .find(|key| key["username"] == "alice" && key["realm"] == "example.org")
        .unwrap();
    Vectors {
        rfc: object(&json["rfc"])
            .map(|(name, value)| named(name, value))
            .collect(),
        exchange_md5: list(&json["exchange_md5"]),
        exchange_sha256: list(&json["exchange_sha256"]),
        attributes: list(&json["attributes"]),
        malformed: list(&json["malformed"]),
        addresses: array(&json["xor"]).iter().map(address).collect(),
        channel_data: array(&json["channeldata"])
            .iter()
            .map(channel_data)
            .collect(),
        types: object(&json["types"]).map(types).collect(),
        md5_key: bytes(&alice["md5"]),
        sha256_key: bytes(&alice["sha256"]),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex(text(value))
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().unwrap().iter()
}

fn list(value: &Value) -> Vec<Vector> {
    array(value)
        .iter()
        .map(|value| named(text(&value["name"]), value))
        .collect()
}

fn named(name: &str, value: &Value) -> Vector {
    Vector {
        name: name.to_owned(),
        bytes: bytes(&value["hex"]),
        key: value.get("key").map(bytes),
    }
}

fn address(value: &Value) -> AddressVector {
    let ip = text(&value["ip"]).parse().unwrap();
    let port = value["port"].as_u64().unwrap().try_into().unwrap();
    AddressVector {
        address: SocketAddr::new(ip, port),
        transaction_id: TransactionId(bytes(&value["tid"]).try_into().unwrap()),
        xored: bytes(&value["xor"]),
        plain: bytes(&value["plain"]),
    }
}

fn channel_data(value: &Value) -> ChannelDataVector {
    let channel = text(&value["channel"]).strip_prefix("0x").unwrap();
    ChannelDataVector {
        channel: u16::from_str_radix(channel, 16).unwrap(),
        payload: bytes(&value["payload"]),
        udp: bytes(&value["udp"]),
        stream: bytes(&value["stream"]),
    }
}

fn types((method, value): (&String, &Value)) -> TypeVector {
    let number = |name: &str| u16::from_str_radix(text(&value[name]), 16).unwrap();
    TypeVector {
        method: method.clone(),
        types: [
            (Class::Request, number("request")),
            (Class::Indication, number("indication")),
            (Class::Success, number("success")),
            (Class::Error, number("error")),
        ],
    }
}
