//! Who may be a peer, and who may be a client (RFC 8656 §21.4; design for the open internet).
//!
//! One function decides for every door. It is asked about addresses only when a permission or a
//! channel is installed; packets then need no more than the permission.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

/// Which peers the operator opens or closes beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    /// Networks that are relayed to although they are private or special.
    pub allow: Vec<IpNet>,
    /// Networks that are never relayed to; these win.
    pub deny: Vec<IpNet>,
    /// Opens loopback, for tests only.
    pub allow_loopback: bool,
    /// This server's own addresses beside its relay addresses. Refused unless `allow` has them, as
    /// for a media server on the same host; live relayed addresses are always peers.
    pub own: Vec<IpAddr>,
    /// Where this server listens: never a peer.
    pub listeners: Vec<SocketAddr>,
}

/// Why an address is no peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerRefusal {
    /// 0.0.0.0/8 and `::`, which Linux connects to loopback.
    Unspecified,
    /// 127.0.0.0/8 and `::1`.
    Loopback,
    /// 169.254.0.0/16, `fe80::/10`, `fec0::/10`.
    LinkLocal,
    /// A cloud's metadata service outside the link-local range.
    Metadata,
    /// 224.0.0.0/4, `ff00::/8`.
    Multicast,
    /// 240.0.0.0/4 with the broadcast address.
    Reserved,
    /// An IPv4 address in IPv6 clothes that nobody has a use for.
    EmbeddedIpv4,
    /// `2002::/16`, RFC 8656 §21.4.
    SixToFour,
    /// `2001::/32`, RFC 8656 §21.4.
    Teredo,
    /// RFC 1918.
    Private,
    /// 100.64.0.0/10, RFC 6598.
    SharedAddressSpace,
    /// `fc00::/7`.
    UniqueLocal,
    /// Documentation, benchmarking, protocol assignments and other special purposes.
    SpecialPurpose,
    /// `64:ff9b::/96`, a public IPv4 address behind NAT64.
    Nat64,
    /// This server, but no live relayed address of it.
    OwnAddress,
    /// Port 0.
    NoPort,
    /// `peers.deny`.
    Denied,
}

impl PeerRefusal {
    /// Whether `peers.allow` opens the class.
    const fn can_be_allowed(self) -> bool {
        match self {
            Self::Private
            | Self::SharedAddressSpace
            | Self::UniqueLocal
            | Self::SpecialPurpose
            | Self::Nat64 => true,
            Self::Unspecified
            | Self::Loopback
            | Self::LinkLocal
            | Self::Metadata
            | Self::Multicast
            | Self::Reserved
            | Self::EmbeddedIpv4
            | Self::SixToFour
            | Self::Teredo
            | Self::OwnAddress
            | Self::NoPort
            | Self::Denied => false,
        }
    }
}

impl fmt::Display for PeerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified address",
            Self::Loopback => "loopback address",
            Self::LinkLocal => "link-local address",
            Self::Metadata => "metadata service",
            Self::Multicast => "multicast address",
            Self::Reserved => "reserved address",
            Self::EmbeddedIpv4 => "IPv4 address in IPv6 form",
            Self::SixToFour => "6to4 address",
            Self::Teredo => "Teredo address",
            Self::Private => "private address, not in peers.allow",
            Self::SharedAddressSpace => "carrier-grade NAT address, not in peers.allow",
            Self::UniqueLocal => "unique local address, not in peers.allow",
            Self::SpecialPurpose => "special-purpose address, not in peers.allow",
            Self::Nat64 => "NAT64 address, not in peers.allow",
            Self::OwnAddress => "this server's own address",
            Self::NoPort => "port 0",
            Self::Denied => "peers.deny",
        })
    }
}

impl PeerPolicy {
    /// Decides on an address. Relayed addresses of the server itself are the caller's to except.
    ///
    /// # Errors
    /// Why it is no peer.
    pub fn check(&self, ip: IpAddr) -> Result<(), PeerRefusal> {
        if self.is_denied(ip) {
            return Err(PeerRefusal::Denied);
        }
        if self.own.contains(&ip) && !self.opens(ip) {
            return Err(PeerRefusal::OwnAddress);
        }
        match classify(ip) {
            None => Ok(()),
            Some(PeerRefusal::Loopback) if self.allow_loopback && ip.is_loopback() => Ok(()),
            Some(class) if class.can_be_allowed() && contains(&self.allow, ip) => Ok(()),
            Some(class) => Err(class),
        }
    }

    /// Decides on a transport address of this host that is no live relayed address: a service
    /// beside this server, or the server itself.
    pub(super) fn check_own(&self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        let listens = self.listeners.iter().any(|listener| {
            let ip = listener.ip();
            listener.port() == peer.port() && (ip == peer.ip() || ip.is_unspecified())
        });
        if listens || !self.opens(peer.ip()) {
            Err(PeerRefusal::OwnAddress)
        } else {
            Ok(())
        }
    }

    /// Whether the operator opened an address by name.
    fn opens(&self, ip: IpAddr) -> bool {
        contains(&self.allow, ip) || (self.allow_loopback && ip.is_loopback())
    }

    /// Whether the operator closed an address, in whatever form it is written.
    pub(super) fn is_denied(&self, ip: IpAddr) -> bool {
        contains(&self.deny, ip) || embedded(ip).is_some_and(|ip| contains(&self.deny, ip.into()))
    }
}

/// Whether a client comes through a tunnel from which RFC 8656 §21.4 accepts no requests.
pub(super) fn is_tunnelled(client: IpAddr) -> bool {
    matches!(
        classify(client),
        Some(PeerRefusal::SixToFour | PeerRefusal::Teredo)
    )
}

fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// The IPv4 address that an IPv4-mapped, IPv4-compatible, IPv4-translated, NAT64 or 6to4 address
/// hides.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [.., high, low] = ip.segments();
    let last = Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0 | 0xFFFF, ..] | [0, 0, 0, 0, 0xFFFF, 0, ..] => Some(last),
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => Some(last),
        [0x2002, high, low, ..] => Some(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
        _ => None,
    }
}

/// What kind of special address this is; `None` for the public ones.
fn classify(ip: IpAddr) -> Option<PeerRefusal> {
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
    /// The address of AWS's metadata service, which stays closed when `fc00::/7` is opened.
    const AWS_METADATA: Ipv6Addr = Ipv6Addr::new(0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x254);

    Some(match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => PeerRefusal::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => PeerRefusal::Loopback,
        [0, 0, 0, 0, 0, 0xFFFF, ..] => {
            let hidden = embedded(ip.into()).and_then(classify_v4);
            hidden.unwrap_or(PeerRefusal::EmbeddedIpv4)
        }
        [0, 0, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xFFFF, 0, ..] | [0x64, 0xFF9B, 1, ..] => {
            PeerRefusal::EmbeddedIpv4
        }
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => {
            let hidden = embedded(ip.into()).and_then(classify_v4);
            hidden.unwrap_or(PeerRefusal::Nat64)
        }
        [0x2001, 0, ..] => PeerRefusal::Teredo,
        [0x2002, ..] => PeerRefusal::SixToFour,
        [0xFE80..=0xFEFF, ..] => PeerRefusal::LinkLocal,
        [0xFF00..=0xFFFF, ..] => PeerRefusal::Multicast,
        [0xFC00..=0xFDFF, ..] if ip == AWS_METADATA => PeerRefusal::Metadata,
        [0xFC00..=0xFDFF, ..] => PeerRefusal::UniqueLocal,
        [0x100, 0, 0, 0 | 1, ..]
        | [0x2001, 0x1..=0x1FF | 0xDB8, ..]
        | [0x3FFF, 0..=0x0FFF, ..]
        | [0x5F00, ..] => PeerRefusal::SpecialPurpose,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(policy: &PeerPolicy, ip: &str) -> Result<(), PeerRefusal> {
        policy.check(ip.parse().unwrap())
    }

    /// SEC-02, SEC-03, SEC-04, SEC-05, SEC-06
    #[test]
    fn defaults_and_what_an_allow_rule_opens() {
        let closed = PeerPolicy::default();
        let everything = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let open = PeerPolicy {
            allow: everything,
            ..PeerPolicy::default()
        };
        // "always" stays closed under any allow rule, "default" is opened by one.
        let always = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "fe80::1",
            "fec0::1",
            "fd00:ec2::254",
            "ff02::1",
            "ff0e::1",
        ];
        for ip in always {
            assert!(check(&closed, ip).is_err(), "{ip}");
            assert!(check(&open, ip).is_err(), "{ip} under an allow rule");
        }
        let default = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.192",
            "192.0.0.10",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::808:808",
            "fc00::1",
            "100::1",
            "2001:db8::1",
            "2001:1::2",
            "3fff::1",
        ];
        for ip in default {
            assert!(check(&closed, ip).is_err(), "{ip}");
            assert_eq!(check(&open, ip), Ok(()), "{ip} under an allow rule");
        }
        let public = [
            "172.15.255.255",
            "172.32.0.1",
            "100.63.255.255",
            "100.128.0.1",
            "8.8.8.8",
            "9.9.9.9",
            "11.0.0.0",
            "192.0.1.1",
            "2606:4700:4700::1111",
            "2a00:1450:4001::5efe:7f00:1",
        ];
        for ip in public {
            assert_eq!(check(&closed, ip), Ok(()), "{ip}");
        }
    }

    #[test]
    fn deny_wins_in_every_disguise() {
        let policy = PeerPolicy {
            allow: vec![
                "10.0.0.0/8".parse().unwrap(),
                "64:ff9b::/96".parse().unwrap(),
            ],
            deny: vec![
                "10.1.0.0/16".parse().unwrap(),
                "8.8.8.8/32".parse().unwrap(),
            ],
            ..PeerPolicy::default()
        };
        assert_eq!(check(&policy, "10.2.0.1"), Ok(()));
        assert_eq!(check(&policy, "64:ff9b::909:909"), Ok(()));
        for ip in [
            "10.1.0.1",
            "8.8.8.8",
            "::ffff:10.1.0.1",
            "64:ff9b::808:808",
            "64:ff9b::a01:1",
        ] {
            assert_eq!(check(&policy, ip), Err(PeerRefusal::Denied), "{ip}");
        }
    }

    /// SEC-05
    #[test]
    fn the_test_switch_opens_loopback_and_nothing_else() {
        let policy = PeerPolicy {
            allow_loopback: true,
            ..PeerPolicy::default()
        };
        assert_eq!(check(&policy, "127.0.0.1"), Ok(()));
        assert_eq!(check(&policy, "::1"), Ok(()));
        for ip in ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "0.0.0.0", "10.0.0.1"] {
            assert!(check(&policy, ip).is_err(), "{ip}");
        }
    }

    /// SEC-07
    #[test]
    fn own_addresses_are_opened_by_name_and_listeners_never() {
        let mut policy = PeerPolicy {
            own: vec!["9.9.9.9".parse().unwrap()],
            listeners: vec!["0.0.0.0:3478".parse().unwrap()],
            ..PeerPolicy::default()
        };
        let (service, listener) = (
            "9.9.9.9:5000".parse().unwrap(),
            "9.9.9.9:3478".parse().unwrap(),
        );
        assert_eq!(check(&policy, "9.9.9.9"), Err(PeerRefusal::OwnAddress));
        assert_eq!(policy.check_own(service), Err(PeerRefusal::OwnAddress));
        policy.allow = vec!["9.9.9.9/32".parse().unwrap()];
        assert_eq!(check(&policy, "9.9.9.9"), Ok(()));
        assert_eq!(policy.check_own(service), Ok(()));
        assert_eq!(policy.check_own(listener), Err(PeerRefusal::OwnAddress));
    }

    /// ALLOC-27
    #[test]
    fn tunnelled_clients() {
        assert!(is_tunnelled("2002:808:808::1".parse().unwrap()));
        assert!(is_tunnelled("2001:0:4136::1".parse().unwrap()));
        assert!(!is_tunnelled("2001:db8::1".parse().unwrap()));
        assert!(!is_tunnelled("10.0.0.1".parse().unwrap()));
    }
}
