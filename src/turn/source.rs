//! How far packets' sources are told apart by limits: by address, by subscriber or by network.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::RngCore;
use siphasher::sip::SipHasher13;

/// The prefix that a limit counts a source address under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourcePrefix(IpNet);

impl SourcePrefix {
    /// The network of an address: IPv4 /24, IPv6 /48. It is what a spoofed flood is aimed at, and
    /// what one host can hardly choose its addresses beyond.
    pub fn network(ip: IpAddr) -> Self {
        Self::cut(ip, 24, 48)
    }

    /// The subscriber behind an address: the IPv4 address itself, IPv6 /64, of which every host has
    /// one to choose its addresses from.
    pub fn subscriber(ip: IpAddr) -> Self {
        Self::cut(ip, 32, 64)
    }

    fn cut(ip: IpAddr, v4: u8, v6: u8) -> Self {
        let prefix_len = if ip.is_ipv4() { v4 } else { v6 };
        let network = IpNet::new(ip, prefix_len).expect("no longer than an address of the family");
        Self(network.trunc())
    }
}

impl fmt::Display for SourcePrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SipHash under a random key: places in a table that strangers can neither compute nor aim at.
#[derive(Clone, Debug)]
pub(super) struct KeyedHash(SipHasher13);

impl KeyedHash {
    pub(super) fn new(random: &mut ChaCha12Rng) -> Self {
        Self(SipHasher13::new_with_keys(
            random.next_u64(),
            random.next_u64(),
        ))
    }

    pub(super) fn of(&self, value: impl Hash) -> u64 {
        let mut hasher = self.0;
        value.hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_by_family() {
        let network = |ip: &str| SourcePrefix::network(ip.parse().unwrap()).to_string();
        let subscriber = |ip: &str| SourcePrefix::subscriber(ip.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2:3::4"), "2001:db8:1::/48");
        assert_eq!(subscriber("192.0.2.77"), "192.0.2.77/32");
        assert_eq!(subscriber("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
    }
}
