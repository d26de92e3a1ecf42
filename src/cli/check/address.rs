//! Which addresses the rest of the world can reach.

use std::net::{IpAddr, Ipv4Addr};

/// Whether the rest of the world can reach an address.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // RFC 6598: addresses behind a carrier's NAT.
            let shared = Ipv4Addr::new(100, 64, 0, 0).to_bits();
            let is_shared = ip.to_bits() & 0xFFC0_0000 == shared;
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || is_shared)
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unique_local()
                || ip.is_unicast_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_is_what_the_world_can_reach() {
        let cases = [
            ("203.0.113.9", true),
            ("100.63.255.255", true),
            ("100.128.0.0", true),
            ("2001:db8::1", true),
            ("100.64.0.1", false),
            ("100.127.255.255", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.0.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("::", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
        ];
        for (ip, expected) in cases {
            assert_eq!(is_public(ip.parse().unwrap()), expected, "{ip}");
        }
    }
}
