//! Ranges of addresses: read, cut out of each other, and written as networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

/// Addresses from the first to the last, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    /// `None` if the two are of different families, or in the wrong order.
    pub(super) fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let is_range = first.is_ipv4() == last.is_ipv4() && first <= last;
        is_range.then_some(Self { first, last })
    }

    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let is_alike = self.first.is_ipv4() == other.first.is_ipv4();
        is_alike && self.first <= other.last && other.first <= self.last
    }

    /// The one address, if it is one.
    pub(super) fn single(&self) -> Option<IpAddr> {
        (self.first == self.last).then_some(self.first)
    }

    /// Whether it is of IPv4-mapped addresses alone.
    pub(super) fn is_mapped(&self) -> bool {
        let is_mapped = |ip| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
        is_mapped(self.first) && is_mapped(self.last)
    }

    /// What is left of this range when others are cut out.
    pub(super) fn without(self, others: &[Self]) -> Vec<Self> {
        let mut others: Vec<&Self> = others.iter().filter(|o| o.overlaps(&self)).collect();
        others.sort_by_key(|other| other.first);
        let mut left = Vec::new();
        // Where what is not looked at yet begins; nowhere, once the last address is cut out.
        let mut begin = Some(self.first);
        for other in others {
            let Some(first) = begin else { break };
            let gap = before(other.first).and_then(|last| Self::new(first, last));
            left.extend(gap);
            begin = after(other.last).map(|next| next.max(first));
        }
        left.extend(begin.and_then(|first| Self::new(first, self.last)));
        left
    }

    /// The fewest networks that are the range.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
            }
            _ => unreachable!("a range is of one family"),
        }
    }
}

impl From<IpNet> for Range {
    fn from(network: IpNet) -> Self {
        Self {
            first: network.network(),
            last: network.broadcast(),
        }
    }
}

fn before(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_sub(1)
            .map(|bits| Ipv6Addr::from(bits).into()),
    }
}

fn after(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from(bits).into()),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Range::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    fn networks(ranges: &[Range]) -> String {
        let networks = ranges.iter().flat_map(Range::networks);
        let texts: Vec<String> = networks.map(|network| network.to_string()).collect();
        texts.join(" ")
    }

    #[test]
    fn ranges_are_cut_to_the_address() {
        for (range_, others, left) in [
            ("10.0.0.0-10.0.0.255", &[][..], "10.0.0.0/24"),
            (
                "10.0.0.0-10.0.0.3",
                &["10.0.0.0"],
                "10.0.0.1/32 10.0.0.2/31",
            ),
            (
                "10.0.0.0-10.0.0.3",
                &["10.0.0.3"],
                "10.0.0.0/31 10.0.0.2/32",
            ),
            (
                "10.0.0.0-10.0.0.3",
                &["10.0.0.1", "10.0.0.2"],
                "10.0.0.0/32 10.0.0.3/32",
            ),
            ("10.0.0.0-10.0.0.3", &["9.0.0.0-11.0.0.0"], ""),
            ("10.0.0.0-10.0.0.3", &["10.0.0.4", "fd00::1"], "10.0.0.0/30"),
            (
                "0.0.0.0-255.255.255.255",
                &["0.0.0.0-127.255.255.255"],
                "128.0.0.0/1",
            ),
            (
                "0.0.0.0-255.255.255.255",
                &["255.255.255.255", "0.0.0.0-255.255.255.253"],
                "255.255.255.254/32",
            ),
            (
                "10.0.0.0-10.0.0.7",
                &["10.0.0.4-10.0.0.6", "10.0.0.1-10.0.0.5", "10.0.0.2"],
                "10.0.0.0/32 10.0.0.7/32",
            ),
            ("fd00::-fd00::3", &["fd00::1"], "fd00::/128 fd00::2/127"),
            (
                "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                &["::-7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
                "8000::/1",
            ),
        ] {
            let others: Vec<Range> = others.iter().map(|other| range(other)).collect();
            assert_eq!(networks(&range(range_).without(&others)), left, "{range_}");
        }
    }

    #[test]
    fn what_is_no_range_is_none() {
        let new =
            |first: &str, last: &str| Range::new(first.parse().unwrap(), last.parse().unwrap());
        assert_eq!(new("10.0.0.2", "10.0.0.1"), None);
        assert_eq!(new("10.0.0.2", "fd00::1"), None);
        assert_eq!(
            new("10.0.0.2", "10.0.0.2").unwrap().single(),
            "10.0.0.2".parse().ok()
        );
    }
}
