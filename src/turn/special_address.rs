//! The special ranges of addresses (IANA's registries, and what clouds put elsewhere), and the
//! forms in which an IPv6 address hides an IPv4 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::peer_policy::PeerRefusal;

/// What kind of special address this is; `None` for the public ones.
pub(super) fn classify(ip: IpAddr) -> Option<PeerRefusal> {
    match ip {
        IpAddr::V4(ip) => classify_v4(ip),
        IpAddr::V6(ip) => classify_v6(ip),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Option<PeerRefusal> {
    Some(match ip.octets() {
        [0, ..] => PeerRefusal::Unspecified,
        [127, ..] => PeerRefusal::Loopback,
        [169, 254, ..] => PeerRefusal::LinkLocal,
        [224..=239, ..] => PeerRefusal::Multicast,
        [240..=255, ..] => PeerRefusal::Reserved,
        // Alibaba, Oracle, and Azure's host, which is reached by a public address.
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16] => PeerRefusal::Metadata,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => PeerRefusal::Private,
        [100, 64..=127, ..] => PeerRefusal::SharedAddressSpace,
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => PeerRefusal::SpecialPurpose,
        _ => return None,
    })
}

fn classify_v6(ip: Ipv6Addr) -> Option<PeerRefusal> {
    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => PeerRefusal::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => PeerRefusal::Loopback,
        [0, 0, 0, 0, 0, 0 | 0xFFFF, ..] | [0, 0, 0, 0, 0xFFFF, 0, ..] | [0x64, 0xFF9B, 1, ..] => {
            PeerRefusal::EmbeddedIpv4
        }
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => PeerRefusal::Nat64,
        [0x2001, 0, ..] => PeerRefusal::Teredo,
        [0x2002, ..] => PeerRefusal::SixToFour,
        [0xFE80..=0xFEFF, ..] => PeerRefusal::LinkLocal,
        [0xFF00..=0xFFFF, ..] => PeerRefusal::Multicast,
        // AWS (all its local services), Oracle, Google, Akamai, Scaleway.
        [0xFD00, 0xEC2, ..]
        | [0xFD00, 0xC1, 0, 0, 0, 0, 0xA9FE, 0xA9FE]
        | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254]
        | [0xFD00, 0xA9FE, 0xA9FE, 0, 0, 0, 0, 1]
        | [0xFD00, 0x42, 0, 0, 0, 0, 0, 0x42] => PeerRefusal::Metadata,
        [0xFC00..=0xFDFF, ..] => PeerRefusal::UniqueLocal,
        [0x2001, 0x1..=0x1FF | 0xDB8, ..] | [0x3FFF, 0..=0x0FFF, ..] => PeerRefusal::SpecialPurpose,
        [0x2000..=0x3FFF, ..] => return None,
        // Everything else is not given out, or has a purpose of its own (100::/64, 5f00::/16).
        _ => PeerRefusal::SpecialPurpose,
    })
}

/// The IPv4 address that an IPv4-mapped, IPv4-compatible, IPv4-translated, NAT64 or 6to4 address
/// hides: where a packet to it may end.
pub(super) fn hidden_ipv4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low]
        | [0, 0, 0, 0, 0xFFFF, 0, high, low]
        | [0x64, 0xFF9B, 0, 0, 0, 0, high, low]
        | [0x64, 0xFF9B, 1, _, _, _, high, low]
        | [0x2002, high, low, ..] => Some(ipv4(high, low)),
        _ => None,
    }
}

/// The IPv4 address in an ISATAP interface identifier (RFC 5214 §6.1). Such a packet travels as
/// IPv6 to whoever has the prefix, so this is no more than a hint of a tunnel there.
pub(super) fn isatap_ipv4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    match ip.segments() {
        [.., 0 | 0x200, 0x5EFE, high, low] => Some(ipv4(high, low)),
        _ => None,
    }
}

fn ipv4(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SEC-03, SEC-05
    #[test]
    fn hidden_addresses() {
        let hidden = |ip: &str| hidden_ipv4(ip.parse().unwrap()).map(|ip| ip.to_string());
        for ip in [
            "::10.1.2.3",
            "::ffff:10.1.2.3",
            "::ffff:0:10.1.2.3",
            "64:ff9b::10.1.2.3",
            "64:ff9b:1::10.1.2.3",
            "2002:a01:203::1",
        ] {
            assert_eq!(hidden(ip).as_deref(), Some("10.1.2.3"), "{ip}");
        }
        for ip in [
            "10.1.2.3",
            "64:ff9b:0:1::10.1.2.3",
            "2001:db8::5efe:10.1.2.3",
        ] {
            assert_eq!(hidden(ip), None, "{ip}");
        }
        let isatap = |ip: &str| isatap_ipv4(ip.parse().unwrap()).is_some();
        assert!(isatap("2a00::5efe:10.1.2.3") && isatap("2a00::200:5efe:10.1.2.3"));
        assert!(!isatap("2a00::1:5efe:10.1.2.3") && !isatap("2a00::10.1.2.3"));
    }
}
