//! MAPPED-ADDRESS and its XORed kin (RFC 8489 §14.1, §14.2).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{BadAttribute, MAGIC_COOKIE, TransactionId};

/// An address family as attributes name it (RFC 8489 §14.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// 0x01
    V4 = 1,
    /// 0x02
    V6 = 2,
}

impl Family {
    /// The family of an address.
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The other family.
    pub const fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }

    /// The family of its number on the wire.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }

    /// Bytes of an address attribute's value in this family.
    pub(super) const fn address_value_len(self) -> usize {
        match self {
            Self::V4 => 8,
            Self::V6 => 20,
        }
    }

    /// The value of REQUESTED-ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY (RFC 8656 §18.6,
    /// §18.11). The inner `None` is a family that does not exist.
    ///
    /// # Errors
    /// If the value is not 4 bytes long.
    pub fn decode(value: &[u8]) -> Result<Option<Self>, BadAttribute> {
        let &[family, _, _, _] = value else {
            return Err(BadAttribute);
        };
        Ok(Self::from_number(family))
    }
}

/// Reads a plain address (MAPPED-ADDRESS, ALTERNATE-SERVER).
///
/// # Errors
/// If the family is neither 1 nor 2, or the length is not that family's.
pub fn decode_address(value: &[u8]) -> Result<SocketAddr, BadAttribute> {
    let (&[_, family, p0, p1], address) = value.split_first_chunk().ok_or(BadAttribute)?;
    let port = u16::from_be_bytes([p0, p1]);
    let ip = match Family::from_number(family).ok_or(BadAttribute)? {
        Family::V4 => {
            let octets: [u8; 4] = address.try_into().map_err(|_| BadAttribute)?;
            IpAddr::V4(Ipv4Addr::from(octets))
        }
        Family::V6 => {
            let octets: [u8; 16] = address.try_into().map_err(|_| BadAttribute)?;
            IpAddr::V6(Ipv6Addr::from(octets))
        }
    };
    Ok(SocketAddr::new(ip, port))
}

/// Reads an XORed address (XOR-MAPPED-ADDRESS, XOR-PEER-ADDRESS, XOR-RELAYED-ADDRESS).
///
/// # Errors
/// As [`decode_address`].
pub fn decode_xor_address(value: &[u8], id: &TransactionId) -> Result<SocketAddr, BadAttribute> {
    decode_address(value).map(|address| xor(address, id))
}

/// Writes a plain address into a buffer of exactly its length.
pub(super) fn encode_address(out: &mut [u8], address: SocketAddr) {
    out[0] = 0;
    out[1] = Family::of(address.ip()) as u8;
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => out[4..].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => out[4..].copy_from_slice(&ip.octets()),
    }
}

/// Writes an XORed address into a buffer of exactly its length.
pub(super) fn encode_xor_address(out: &mut [u8], address: SocketAddr, id: &TransactionId) {
    encode_address(out, xor(address, id));
}

/// The mapping and its inverse: the cookie over port and IPv4 address, cookie and transaction id
/// over an IPv6 address.
fn xor(address: SocketAddr, id: &TransactionId) -> SocketAddr {
    let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from(u32::from(ip) ^ MAGIC_COOKIE)),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(&id.0);
            IpAddr::V6(Ipv6Addr::from(u128::from(ip) ^ u128::from_be_bytes(mask)))
        }
    };
    SocketAddr::new(ip, port)
}
