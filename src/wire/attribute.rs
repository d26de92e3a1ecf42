//! Attribute types and the values that are simple enough to need no file of their own
//! (RFC 8489 §14, RFC 8656 §18).

use std::fmt;

use super::ChannelNumber;

/// An attribute's 16-bit type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttributeType(pub u16);

/// One line an attribute: constant, number, the RFC's name, where it is defined.
macro_rules! attributes {
    ($($constant:ident = $number:literal, $name:literal, $source:literal;)*) => {
        impl AttributeType {
            $(#[doc = concat!($name, ", ", $source)] pub const $constant: Self = Self($number);)*

            /// The RFC's name, if this is an attribute that the server has a use for.
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($number => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

attributes! {
    MAPPED_ADDRESS = 0x0001, "MAPPED-ADDRESS", "RFC 8489 §14.1";
    USERNAME = 0x0006, "USERNAME", "RFC 8489 §14.3";
    MESSAGE_INTEGRITY = 0x0008, "MESSAGE-INTEGRITY", "RFC 8489 §14.5";
    ERROR_CODE = 0x0009, "ERROR-CODE", "RFC 8489 §14.8";
    UNKNOWN_ATTRIBUTES = 0x000A, "UNKNOWN-ATTRIBUTES", "RFC 8489 §14.13";
    CHANNEL_NUMBER = 0x000C, "CHANNEL-NUMBER", "RFC 8656 §18.1";
    LIFETIME = 0x000D, "LIFETIME", "RFC 8656 §18.2";
    XOR_PEER_ADDRESS = 0x0012, "XOR-PEER-ADDRESS", "RFC 8656 §18.3";
    DATA = 0x0013, "DATA", "RFC 8656 §18.4";
    REALM = 0x0014, "REALM", "RFC 8489 §14.9";
    NONCE = 0x0015, "NONCE", "RFC 8489 §14.10";
    XOR_RELAYED_ADDRESS = 0x0016, "XOR-RELAYED-ADDRESS", "RFC 8656 §18.5";
    REQUESTED_ADDRESS_FAMILY = 0x0017, "REQUESTED-ADDRESS-FAMILY", "RFC 8656 §18.6";
    EVEN_PORT = 0x0018, "EVEN-PORT", "RFC 8656 §18.7";
    REQUESTED_TRANSPORT = 0x0019, "REQUESTED-TRANSPORT", "RFC 8656 §18.8";
    DONT_FRAGMENT = 0x001A, "DONT-FRAGMENT", "RFC 8656 §18.9";
    ACCESS_TOKEN = 0x001B, "ACCESS-TOKEN", "RFC 7635 §6.2";
    MESSAGE_INTEGRITY_SHA256 = 0x001C, "MESSAGE-INTEGRITY-SHA256", "RFC 8489 §14.6";
    PASSWORD_ALGORITHM = 0x001D, "PASSWORD-ALGORITHM", "RFC 8489 §14.12";
    USERHASH = 0x001E, "USERHASH", "RFC 8489 §14.4";
    XOR_MAPPED_ADDRESS = 0x0020, "XOR-MAPPED-ADDRESS", "RFC 8489 §14.2";
    RESERVATION_TOKEN = 0x0022, "RESERVATION-TOKEN", "RFC 8656 §18.10";
    PRIORITY = 0x0024, "PRIORITY", "RFC 8445 §16.1";
    USE_CANDIDATE = 0x0025, "USE-CANDIDATE", "RFC 8445 §16.1";
    ADDITIONAL_ADDRESS_FAMILY = 0x8000, "ADDITIONAL-ADDRESS-FAMILY", "RFC 8656 §18.11";
    ADDRESS_ERROR_CODE = 0x8001, "ADDRESS-ERROR-CODE", "RFC 8656 §18.12";
    PASSWORD_ALGORITHMS = 0x8002, "PASSWORD-ALGORITHMS", "RFC 8489 §14.11";
    ICMP = 0x8004, "ICMP", "RFC 8656 §18.13";
    SOFTWARE = 0x8022, "SOFTWARE", "RFC 8489 §14.14";
    FINGERPRINT = 0x8028, "FINGERPRINT", "RFC 8489 §14.7";
}

impl AttributeType {
    /// Whether a receiver that does not know the attribute must refuse the message
    /// (RFC 8489 §14).
    pub const fn is_comprehension_required(self) -> bool {
        self.0 < 0x8000
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

/// An attribute whose value has the wrong length or an impossible content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAttribute;

impl fmt::Display for BadAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("attribute value of the wrong length or content")
    }
}

impl std::error::Error for BadAttribute {}

/// LIFETIME, in seconds.
///
/// # Errors
/// If the value is not 4 bytes long.
pub fn decode_lifetime(value: &[u8]) -> Result<u32, BadAttribute> {
    value
        .try_into()
        .map(u32::from_be_bytes)
        .map_err(|_| BadAttribute)
}

/// CHANNEL-NUMBER; the two reserved bytes are ignored.
///
/// # Errors
/// If the value is not 4 bytes long or the number is outside 0x4000-0x4FFF.
pub fn decode_channel_number(value: &[u8]) -> Result<ChannelNumber, BadAttribute> {
    let &[n0, n1, _, _] = value else {
        return Err(BadAttribute);
    };
    ChannelNumber::new(u16::from_be_bytes([n0, n1])).ok_or(BadAttribute)
}

/// ERROR-CODE as a client reads it: the code, 300-699, and the reason phrase.
///
/// # Errors
/// If the value is shorter than 4 bytes, the code impossible or the phrase no UTF-8.
pub fn decode_error_code(value: &[u8]) -> Result<(u16, &str), BadAttribute> {
    let (&[_, _, class, number], phrase) = value.split_first_chunk().ok_or(BadAttribute)?;
    let class = class & 0x07;
    if !(3..=6).contains(&class) || number > 99 {
        return Err(BadAttribute);
    }
    let phrase = std::str::from_utf8(phrase).map_err(|_| BadAttribute)?;
    Ok((u16::from(class) * 100 + u16::from(number), phrase))
}

/// The protocol number in REQUESTED-TRANSPORT (RFC 8656 §18.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestedTransport(pub u8);

impl RequestedTransport {
    /// IP protocol 17
    pub const UDP: Self = Self(17);

    /// TCP, RFC 6062.
    pub const TCP: Self = Self(6);

    /// Reads the value; the three reserved bytes are ignored.
    ///
    /// # Errors
    /// If the value is not 4 bytes long.
    pub fn decode(value: &[u8]) -> Result<Self, BadAttribute> {
        let &[protocol, _, _, _] = value else {
            return Err(BadAttribute);
        };
        Ok(Self(protocol))
    }
}

/// EVEN-PORT (RFC 8656 §18.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvenPort {
    /// The R bit: keep the next higher port for a later allocation.
    pub reserve_next: bool,
}

impl EvenPort {
    /// Reads the value; bits other than R are ignored.
    ///
    /// # Errors
    /// If the value is not 1 byte long.
    pub fn decode(value: &[u8]) -> Result<Self, BadAttribute> {
        let &[bits] = value else {
            return Err(BadAttribute);
        };
        Ok(Self {
            reserve_next: bits & 0x80 != 0,
        })
    }
}

/// ICMP (RFC 8656 §18.13). The figure there draws 7 and 9 bits for type and code; the text and
/// ICMP itself have 8 and 8, and so does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpAttribute {
    /// ICMP or ICMPv6 type.
    pub icmp_type: u8,
    /// ICMP or ICMPv6 code.
    pub icmp_code: u8,
    /// The next-hop MTU in bytes for "fragmentation needed" and "packet too big", else 0.
    pub error_data: u32,
}

impl IcmpAttribute {
    /// The attribute's value.
    pub fn encode(self) -> [u8; 8] {
        let [d0, d1, d2, d3] = self.error_data.to_be_bytes();
        [0, 0, self.icmp_type, self.icmp_code, d0, d1, d2, d3]
    }
}
