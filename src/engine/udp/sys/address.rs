//! Socket addresses between Rust and the kernel.

use std::{
    mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Room for an IPv4 or IPv6 socket address as the kernel reads and writes it.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union RawAddress {
    family: libc::sa_family_t,
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    /// Octets of room.
    pub(super) const SIZE: libc::socklen_t = size_of::<Self>() as libc::socklen_t;

    /// No address: family 0 (`AF_UNSPEC`).
    pub(super) const fn unspecified() -> Self {
        // SAFETY: both variants are plain integers, for which all zeros is a value.
        unsafe { mem::zeroed() }
    }

    /// Writes `to` in the form that a socket of the given family takes, and returns its length in
    /// octets. A dual-stack socket reaches IPv4 by mapped addresses (RFC 3493 section 3.7).
    ///
    /// An IPv6 address for an IPv4 socket is written as it is: the kernel refuses it
    /// (`EAFNOSUPPORT`).
    pub(super) fn encode(&mut self, to: SocketAddr, socket_is_v6: bool) -> libc::socklen_t {
        match canonical(to) {
            SocketAddr::V4(to) if !socket_is_v6 => {
                self.v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: to.port().to_be(),
                    sin_addr: in_addr(*to.ip()),
                    sin_zero: [0; 8],
                };
                size_of::<libc::sockaddr_in>() as libc::socklen_t
            }
            SocketAddr::V4(to) => {
                self.encode_v6(SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0))
            }
            SocketAddr::V6(to) => self.encode_v6(to),
        }
    }

    fn encode_v6(&mut self, to: SocketAddrV6) -> libc::socklen_t {
        self.v6 = libc::sockaddr_in6 {
            sin6_family: libc::AF_INET6 as libc::sa_family_t,
            sin6_port: to.port().to_be(),
            // RFC 8656 section 13: the flow label is our own choice, and ours is none.
            sin6_flowinfo: 0,
            sin6_addr: in6_addr(*to.ip()),
            sin6_scope_id: to.scope_id(),
        };
        size_of::<libc::sockaddr_in6>() as libc::socklen_t
    }

    /// Reads an address that the kernel has written, mapped IPv6 as IPv4.
    ///
    /// `None` if the kernel wrote neither IPv4 nor IPv6.
    pub(super) fn decode(&self) -> Option<SocketAddr> {
        // SAFETY: every variant begins with the family, and any bits are a value of it.
        match libc::c_int::from(unsafe { self.family }) {
            libc::AF_INET => {
                // SAFETY: the family says that this variant was written; any bits are a value.
                let v4 = unsafe { self.v4 };
                let ip = ipv4(v4.sin_addr);
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says that this variant was written; any bits are a value.
                let v6 = unsafe { self.v6 };
                let (ip, port) = (ipv6(v6.sin6_addr), u16::from_be(v6.sin6_port));
                Some(canonical(
                    SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into(),
                ))
            }
            _ => None,
        }
    }
}

/// The same address, with mapped IPv6 as IPv4.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddrV4::new(ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

pub(super) fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr {
        s_addr: u32::from_ne_bytes(ip.octets()),
    }
}

pub(super) fn in6_addr(ip: Ipv6Addr) -> libc::in6_addr {
    libc::in6_addr {
        s6_addr: ip.octets(),
    }
}

pub(super) fn ipv4(address: libc::in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

pub(super) fn ipv6(address: libc::in6_addr) -> Ipv6Addr {
    Ipv6Addr::from(address.s6_addr)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(address: &str, socket_is_v6: bool) -> (Option<SocketAddr>, usize) {
        let mut raw = RawAddress::unspecified();
        let len = raw.encode(address.parse().unwrap(), socket_is_v6);
        (raw.decode(), len as usize)
    }

    #[test]
    fn addresses_survive_and_mapped_ones_become_ipv4() {
        let ipv4 = Some("192.0.2.1:3478".parse().unwrap());
        assert_eq!(there_and_back("192.0.2.1:3478", false), (ipv4, 16));
        assert_eq!(there_and_back("192.0.2.1:3478", true), (ipv4, 28));
        assert_eq!(there_and_back("[::ffff:192.0.2.1]:3478", false), (ipv4, 16));
        assert_eq!(there_and_back("[::ffff:192.0.2.1]:3478", true), (ipv4, 28));
        let ipv6 = Some("[2001:db8::1%7]:3478".parse().unwrap());
        assert_eq!(there_and_back("[2001:db8::1%7]:3478", true), (ipv6, 28));
        assert_eq!(RawAddress::unspecified().decode(), None);
    }
}
