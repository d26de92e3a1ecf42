//! Who may be a peer (RFC 8656 §21.4; design for the open internet).
//!
//! One function decides for every door. It is asked when a permission or a channel is installed, and
//! the permission keeps what it said: packets ask again only where the answer depends on the port.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::network_rule::NetworkRule;
use super::port_pool::PortPool;
use super::special_address::{classify, hidden_ipv4, isatap_ipv4};

/// Which peers the operator opens or closes beyond the defaults.
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    /// What is relayed to although it is private or special.
    pub allow: Vec<NetworkRule>,
    /// What is never relayed to; this wins.
    pub deny: Vec<NetworkRule>,
    /// Opens loopback, for tests only.
    pub allow_loopback: bool,
    /// This server's own addresses beside its relay addresses. Refused unless `allow` names the one
    /// address, as for a media server on the same host: a network there means the neighbours.
    pub own: Vec<IpAddr>,
    /// Where this server listens: never a peer.
    pub listeners: Vec<SocketAddr>,
}

/// How much of an address may be a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every port.
    EveryPort,
    /// Every port at which a relayed address of this server lives.
    Relayed,
    /// It depends on the port.
    ByPort,
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
    /// A cloud's metadata service, or its like, outside the link-local range.
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
    /// Documentation, benchmarking, protocol assignments, IPv6 beyond `2000::/3`.
    SpecialPurpose,
    /// `64:ff9b::/96`, an IPv4 address behind NAT64. A rule opens it as far as the IPv4 address is
    /// a peer itself.
    Nat64,
    /// This server, but no live relayed address of it.
    OwnAddress,
    /// Port 0.
    NoPort,
    /// `peers.deny`.
    Denied,
}

impl PeerRefusal {
    /// Every one.
    pub const ALL: &[Self] = &[
        Self::Unspecified,
        Self::Loopback,
        Self::LinkLocal,
        Self::Metadata,
        Self::Multicast,
        Self::Reserved,
        Self::EmbeddedIpv4,
        Self::SixToFour,
        Self::Teredo,
        Self::Private,
        Self::SharedAddressSpace,
        Self::UniqueLocal,
        Self::SpecialPurpose,
        Self::Nat64,
        Self::OwnAddress,
        Self::NoPort,
        Self::Denied,
    ];

    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link_local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::EmbeddedIpv4 => "embedded_ipv4",
            Self::SixToFour => "6to4",
            Self::Teredo => "teredo",
            Self::Private => "private",
            Self::SharedAddressSpace => "shared_address_space",
            Self::UniqueLocal => "unique_local",
            Self::SpecialPurpose => "special_purpose",
            Self::Nat64 => "nat64",
            Self::OwnAddress => "own_address",
            Self::NoPort => "no_port",
            Self::Denied => "denied",
        }
    }

    /// Whether `peers.allow` opens the class.
    pub const fn can_be_allowed(self) -> bool {
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
    /// Decides on a transport address. Live relayed addresses of the server itself are the caller's
    /// to except.
    ///
    /// # Errors
    /// Why it is no peer.
    pub fn check(&self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        let (ip, port) = (peer.ip(), peer.port());
        if port == 0 {
            return Err(PeerRefusal::NoPort);
        }
        if self.is_denied(peer) {
            return Err(PeerRefusal::Denied);
        }
        if self.is_own(ip) {
            self.check_own(peer)?;
        }
        let Some(class) = classify(ip) else {
            return Ok(());
        };
        if ip.is_loopback() && self.allow_loopback {
            return Ok(());
        }
        // What is behind a disguise that somebody may mean is judged as such.
        let hidden = match (class, ip.to_canonical()) {
            (PeerRefusal::EmbeddedIpv4, IpAddr::V4(mapped)) => Some(mapped),
            (PeerRefusal::Nat64, _) => hidden_ipv4(ip),
            _ => None,
        };
        if let Some(hidden) = hidden {
            if hidden.is_loopback() {
                return Err(PeerRefusal::Loopback);
            }
            self.check(SocketAddr::new(hidden.into(), port))?;
        }
        if class.can_be_allowed() && matches(&self.allow, ip, port) {
            Ok(())
        } else {
            Err(class)
        }
    }

    /// Decides on an IP address, as a permission needs it: some port of it must be a peer.
    ///
    /// # Errors
    /// Why none is.
    pub fn check_ip(&self, ip: IpAddr) -> Result<Reach, PeerRefusal> {
        self.check_ports(&[ip], |port| self.check(SocketAddr::new(ip, port)))
    }

    /// Asks about every port of an address at which an answer can begin to be another one. `names`
    /// are all that rules may call it.
    fn check_ports(
        &self,
        names: &[IpAddr],
        check: impl Fn(u16) -> Result<(), PeerRefusal>,
    ) -> Result<Reach, PeerRefusal> {
        let at_first = check(1);
        let is_own = names
            .iter()
            .any(|&name| forms(name).any(|form| self.is_own(form)));
        if !is_own && !self.has_port_rules(names) {
            return at_first.map(|()| Reach::EveryPort);
        }
        let rules = names.iter().flat_map(|&name| self.port_rules(name));
        let rules = rules.flat_map(NetworkRule::port_edges);
        let listeners = self.listeners.iter().map(SocketAddr::port);
        let listeners = listeners.flat_map(|port| [port, port.saturating_add(1)]);
        let mut edges = rules.chain(listeners);
        if edges.any(|port| check(port).is_ok()) {
            Ok(Reach::ByPort)
        } else {
            at_first.map(|()| Reach::ByPort)
        }
    }

    /// The rules about some ports of an address, in whatever form it is written.
    fn port_rules(&self, ip: IpAddr) -> impl Iterator<Item = &NetworkRule> {
        let rules = self.allow.iter().chain(&self.deny);
        rules.filter(move |rule| {
            rule.has_ports() && forms(ip).any(|form| rule.network().contains(&form))
        })
    }

    /// Whether any rule is about some ports of an address, by any of its names.
    fn has_port_rules(&self, names: &[IpAddr]) -> bool {
        names
            .iter()
            .any(|&name| self.port_rules(name).next().is_some())
    }

    /// Whether an address is this host's, as far as the policy knows.
    fn is_own(&self, ip: IpAddr) -> bool {
        self.own.contains(&ip) || (self.allow_loopback && ip.is_loopback())
    }

    /// Decides on a transport address of this host that is no live relayed address: a service
    /// beside this server, or the server itself.
    fn check_own(&self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        let mut named = self.allow.iter().filter(|rule| rule.is_single_address());
        let is_open = named.any(|rule| rule.matches(peer.ip(), peer.port()))
            || (self.allow_loopback && peer.ip().is_loopback());
        if is_open && !self.listens_at(peer) {
            Ok(())
        } else {
            Err(PeerRefusal::OwnAddress)
        }
    }

    /// Whether one of this host's transport addresses is the server's door for clients.
    fn listens_at(&self, own: SocketAddr) -> bool {
        self.listeners.iter().any(|listener| {
            let ip = listener.ip();
            listener.port() == own.port() && (ip == own.ip() || ip.is_unspecified())
        })
    }

    /// Whether the operator closed a transport address, in whatever form it is written.
    fn is_denied(&self, peer: SocketAddr) -> bool {
        forms(peer.ip()).any(|form| matches(&self.deny, form, peer.port()))
    }
}

/// An address, and the IPv4 address that it hides or hints at.
fn forms(ip: IpAddr) -> impl Iterator<Item = IpAddr> {
    let hidden = hidden_ipv4(ip).or_else(|| isatap_ipv4(ip));
    std::iter::once(ip).chain(hidden.map(IpAddr::V4))
}

fn matches(rules: &[NetworkRule], ip: IpAddr, port: u16) -> bool {
    rules.iter().any(|rule| rule.matches(ip, port))
}

/// The door of all peers: what the policy says, but for the relayed addresses of this server, which
/// are peers as long as they live, because both sides of a call may be its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerGate<'a> {
    policy: &'a PeerPolicy,
    pub(super) ports: &'a PortPool,
}

impl<'a> PeerGate<'a> {
    pub(super) const fn new(policy: &'a PeerPolicy, ports: &'a PortPool) -> Self {
        Self { policy, ports }
    }

    /// Decides on a transport address.
    pub(super) fn check(self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        let Self { policy, ports } = self;
        if !ports.is_relay_ip(peer.ip()) {
            // Around a corner of the network it would be no relayed address any more.
            let is_own = hidden_ipv4(peer.ip()).is_some_and(|ip| ports.is_relay_ip(ip.into()));
            policy.check(peer)?;
            return if is_own {
                Err(PeerRefusal::OwnAddress)
            } else {
                Ok(())
            };
        }
        if self.is_denied(peer) {
            Err(PeerRefusal::Denied)
        } else if ports.is_live(peer) {
            Ok(())
        } else if policy.listens_at(ports.to_bound(peer)) {
            // The port of a relayed address that is gone may be any other service's of this host.
            Err(PeerRefusal::OwnAddress)
        } else {
            policy.check_own(peer)?;
            policy.check(peer)
        }
    }

    /// Decides on an IP address, as [`PeerPolicy::check_ip`] does. A relay address is a peer also
    /// while nobody is there.
    pub(super) fn check_ip(self, ip: IpAddr) -> Result<Reach, PeerRefusal> {
        let peer = |port| SocketAddr::new(ip, port);
        if !self.ports.is_relay_ip(ip) {
            return self
                .policy
                .check_ports(&[ip], |port| self.check(peer(port)));
        }
        let names = self.names(peer(0)).map(|name| name.ip());
        let reach = self.policy.check_ports(&names, |port| {
            if self.is_denied(peer(port)) {
                Err(PeerRefusal::Denied)
            } else {
                Ok(())
            }
        })?;
        if self.policy.has_port_rules(&names) {
            Ok(reach)
        } else {
            Ok(Reach::Relayed)
        }
    }

    /// What a transport address is called. Behind 1:1 NAT a relayed address has two names, and a
    /// packet to either goes to the same socket.
    fn names(self, peer: SocketAddr) -> [SocketAddr; 3] {
        [
            peer,
            self.ports.to_bound(peer),
            self.ports.to_advertised(peer),
        ]
    }

    /// Whether the operator closed a transport address by any of its names.
    fn is_denied(self, peer: SocketAddr) -> bool {
        let mut names = self.names(peer).into_iter();
        names.any(|name| self.policy.is_denied(name))
    }

    /// Decides on a packet to or from a peer of whose address so much is permitted. Only where the
    /// port matters are the rules looked at.
    pub(super) fn check_packet(self, peer: SocketAddr, reach: Reach) -> Result<(), PeerRefusal> {
        match reach {
            Reach::EveryPort => Ok(()),
            Reach::Relayed if self.ports.is_live(peer) => Ok(()),
            Reach::Relayed | Reach::ByPort => self.check(peer),
        }
    }

    /// Decides on a peer that was let in before: that it was another client of this server and has
    /// left is no refusal.
    pub(super) fn check_again(self, peer: SocketAddr) -> Result<(), PeerRefusal> {
        match self.check(peer) {
            Err(PeerRefusal::OwnAddress) => Ok(()),
            checked => checked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::port_pool::{Parity, RelayAddress};
    use super::*;
    use crate::wire::Family;

    fn check(policy: &PeerPolicy, ip: &str) -> Result<(), PeerRefusal> {
        policy.check_ip(ip.parse().unwrap()).map(|_| ())
    }

    fn rules(texts: &[&str]) -> Vec<NetworkRule> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// SEC-02, SEC-03, SEC-04, SEC-05, SEC-06
    #[test]
    fn defaults_and_what_an_allow_rule_opens() {
        let closed = PeerPolicy::default();
        let everything = rules(&["0.0.0.0/0", "::/0"]);
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
            "::ffff:10.0.0.1",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::7f00:1",
            "2002:7f00:1::",
            "2002:808:808::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "fe80::1",
            "fec0::1",
            "64:ff9b::100.100.100.200",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:a9fe:a9fe::1",
            "fd00:42::42",
            "100.100.100.200",
            "192.0.0.192",
            "168.63.129.16",
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
            "192.0.0.10",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "192.88.99.1",
            "64:ff9b::a00:1",
            "64:ff9b::808:808",
            "fc00::1",
            "100::1",
            "2001:db8::1",
            "2001:1::2",
            "3fff::1",
            "200::1",
            "4000::1",
            "64:ff9b:2::1",
            "5f00::1",
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
            "2000::1",
            "3ffe::1",
            "168.63.129.15",
        ];
        for ip in public {
            assert_eq!(check(&closed, ip), Ok(()), "{ip}");
        }
    }

    /// SEC-03
    #[test]
    fn deny_wins_in_every_disguise() {
        let policy = PeerPolicy {
            allow: rules(&["10.0.0.0/8", "64:ff9b::/96"]),
            deny: rules(&["10.1.0.0/16", "8.8.8.8/32"]),
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
            "2a00::5efe:8.8.8.8",
            "2a00::200:5efe:10.1.0.1",
        ] {
            assert_eq!(check(&policy, ip), Err(PeerRefusal::Denied), "{ip}");
        }
    }

    /// SEC-03: who opens NAT64 has opened public addresses behind it, and no private ones.
    #[test]
    fn nat64_opens_no_more_than_what_it_hides() {
        let mut policy = PeerPolicy {
            allow: rules(&["64:ff9b::/96"]),
            own: vec!["9.9.9.9".parse().unwrap()],
            ..PeerPolicy::default()
        };
        assert_eq!(check(&policy, "64:ff9b::808:808"), Ok(()));
        let private = "64:ff9b::a00:1";
        assert_eq!(check(&policy, private), Err(PeerRefusal::Private));
        let own = "64:ff9b::909:909";
        assert_eq!(check(&policy, own), Err(PeerRefusal::OwnAddress));
        policy.allow_loopback = true;
        let loopback = "64:ff9b::7f00:1";
        assert_eq!(check(&policy, loopback), Err(PeerRefusal::Loopback));
        policy.allow = rules(&["64:ff9b::/96", "10.0.0.0/8:5000"]);
        let reach = policy.check_ip(private.parse().unwrap());
        assert_eq!(reach, Ok(Reach::ByPort));
        let peer = |port| SocketAddr::new(private.parse().unwrap(), port);
        assert_eq!(policy.check(peer(5000)), Ok(()));
        assert_eq!(policy.check(peer(5001)), Err(PeerRefusal::Private));
    }

    /// SEC-03, SEC-07: a listener is one port of an own address, behind NAT64 too.
    #[test]
    fn an_own_address_in_disguise_is_a_peer_by_port() {
        let policy = PeerPolicy {
            allow: rules(&["64:ff9b::/96", "9.9.9.9"]),
            own: vec!["9.9.9.9".parse().unwrap()],
            listeners: vec!["0.0.0.0:3478".parse().unwrap()],
            ..PeerPolicy::default()
        };
        for ip in ["9.9.9.9", "64:ff9b::909:909"].map(|ip| ip.parse().unwrap()) {
            assert_eq!(policy.check_ip(ip), Ok(Reach::ByPort), "{ip}");
            let check = |port| policy.check(SocketAddr::new(ip, port));
            assert_eq!(check(3478), Err(PeerRefusal::OwnAddress), "{ip}");
            assert_eq!(check(3479), Ok(()), "{ip}");
        }
    }

    /// ACL-02, SEC-06
    #[test]
    fn a_rule_with_ports_opens_and_closes_these_alone() {
        let policy = PeerPolicy {
            allow: rules(&["10.0.0.0/8:5000-5999"]),
            deny: rules(&["10.0.0.1:5500", "8.8.8.8:1-53", "10.0.0.2:5000-6000"]),
            ..PeerPolicy::default()
        };
        let check = |peer: &str| policy.check(peer.parse().unwrap());
        for open in ["10.0.0.1:5000", "10.9.9.9:5999", "8.8.8.8:54", "9.9.9.9:1"] {
            assert_eq!(check(open), Ok(()), "{open}");
        }
        for (closed, why) in [
            ("10.0.0.1:4999", PeerRefusal::Private),
            ("10.0.0.1:6000", PeerRefusal::Private),
            ("10.0.0.1:5500", PeerRefusal::Denied),
            ("8.8.8.8:53", PeerRefusal::Denied),
            ("11.0.0.1:0", PeerRefusal::NoPort),
        ] {
            assert_eq!(check(closed), Err(why), "{closed}");
        }
        let check_ip = |ip: &str| policy.check_ip(ip.parse().unwrap());
        for (ip, expected) in [
            ("10.0.0.1", Ok(Reach::ByPort)),
            ("10.0.0.2", Err(PeerRefusal::Private)),
            ("8.8.8.8", Ok(Reach::ByPort)),
            ("9.9.9.9", Ok(Reach::EveryPort)),
        ] {
            assert_eq!(check_ip(ip), expected, "{ip}");
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

    /// SEC-07: a network in `peers.allow` means the neighbours, not this host.
    #[test]
    fn own_addresses_are_opened_by_name_and_listeners_never() {
        let mut policy = PeerPolicy {
            own: vec!["10.0.0.5".parse().unwrap()],
            listeners: vec!["0.0.0.0:3478".parse().unwrap()],
            allow: rules(&["10.0.0.0/8"]),
            ..PeerPolicy::default()
        };
        let check = |policy: &PeerPolicy, peer: &str| policy.check(peer.parse().unwrap());
        let own = Err(PeerRefusal::OwnAddress);
        assert_eq!(check(&policy, "10.0.0.6:3478"), Ok(()));
        assert_eq!(check(&policy, "10.0.0.5:5000"), own);
        policy.allow = rules(&["10.0.0.5"]);
        assert_eq!(check(&policy, "10.0.0.5:5000"), Ok(()));
        assert_eq!(check(&policy, "10.0.0.5:3478"), own);
        policy.allow = rules(&["10.0.0.5:3478-3479"]);
        assert_eq!(check(&policy, "10.0.0.5:5000"), own);
        let reach = policy.check_ip("10.0.0.5".parse().unwrap());
        assert_eq!(reach, Ok(Reach::ByPort), "port 3479 is left");
        policy.allow = rules(&["10.0.0.5:3478"]);
        let reach = policy.check_ip("10.0.0.5".parse().unwrap());
        assert_eq!(reach, Err(PeerRefusal::OwnAddress));
    }

    /// SEC-07, SEC-03: behind 1:1 NAT neither the listener nor another service is reached by the
    /// relay address that the outside knows.
    #[test]
    fn relay_addresses_are_peers_where_an_allocation_lives() {
        let relay = RelayAddress {
            bound: "10.0.0.5".parse().unwrap(),
            advertised: "9.9.9.9".parse().unwrap(),
        };
        let ports = PortPool::new(&[relay], 50_000..=50_010, &[]);
        let mut policy = PeerPolicy {
            listeners: vec!["10.0.0.5:3478".parse().unwrap()],
            allow: rules(&["9.9.9.9", "64:ff9b::/96"]),
            ..PeerPolicy::default()
        };
        let check = |policy: &PeerPolicy, peer: &str| {
            PeerGate::new(policy, &ports).check(peer.parse().unwrap())
        };
        let own = Err(PeerRefusal::OwnAddress);
        assert_eq!(check(&policy, "9.9.9.9:5000"), Ok(()), "opened by name");
        assert_eq!(check(&policy, "9.9.9.9:3478"), own, "the listener");
        assert_eq!(check(&policy, "10.0.0.5:3478"), own);
        assert_eq!(check(&policy, "[64:ff9b::9.9.9.9]:5000"), own);
        policy.allow = rules(&["0.0.0.0/0", "::/0"]);
        assert_eq!(check(&policy, "9.9.9.9:50000"), own, "nobody is there");
        assert_eq!(check(&policy, "[64:ff9b::10.0.0.5]:50000"), own);

        let lease = ports
            .acquire(Family::V4, Parity::Any, relay.bound, 0)
            .unwrap();
        let [bound, advertised] = [ports.bound(lease), ports.advertised(lease)];
        assert!(check(&policy, &advertised.to_string()).is_err());
        ports.go_live(lease);
        for live in [bound, advertised] {
            assert_eq!(check(&policy, &live.to_string()), Ok(()));
        }
        let port = advertised.port();
        policy.deny = rules(&[&format!("9.9.9.9:{port}")]);
        let denied = Err(PeerRefusal::Denied);
        assert_eq!(check(&policy, &advertised.to_string()), denied);
        let gate = PeerGate::new(&policy, &ports);
        assert_eq!(gate.check_ip(advertised.ip()), Ok(Reach::ByPort));
        assert_eq!(gate.check_packet(advertised, Reach::ByPort), denied);
        assert_eq!(gate.check_again(advertised), denied);
        policy.deny.clear();
        let gate = PeerGate::new(&policy, &ports);
        assert_eq!(gate.check_ip(advertised.ip()), Ok(Reach::Relayed));
        assert_eq!(gate.check_packet(advertised, Reach::Relayed), Ok(()));
        ports.rest(lease);
        assert_eq!(gate.check_packet(advertised, Reach::Relayed), own);
        assert_eq!(gate.check(advertised), own);
        assert_eq!(gate.check_again(advertised), Ok(()), "it has left");
    }

    /// SEC-01, SEC-07: both names of a relay address are one host, and what closes one closes the
    /// other.
    #[test]
    fn behind_nat_a_rule_holds_for_both_names() {
        let [bound, advertised] = ["10.0.0.5", "9.9.9.9"].map(|ip| ip.parse().unwrap());
        let ports = PortPool::new(&[RelayAddress { bound, advertised }], 50_000..=50_000, &[]);
        let lease = ports.acquire(Family::V4, Parity::Any, bound, 0).unwrap();
        ports.go_live(lease);
        let denied = Err(PeerRefusal::Denied);
        for (allow, deny, port) in [
            ("9.9.9.9", "10.0.0.0/8", 53),
            ("9.9.9.9", "10.0.0.5:53", 53),
            ("10.0.0.5", "9.9.9.9:53", 53),
            ("192.168.0.0/16", "10.0.0.5", 50_000),
            ("192.168.0.0/16", "9.9.9.9", 50_000),
            ("192.168.0.0/16", "10.0.0.5:50000", 50_000),
            ("192.168.0.0/16", "9.9.9.9:50000", 50_000),
        ] {
            let policy = PeerPolicy {
                allow: rules(&[allow]),
                deny: rules(&[deny]),
                ..PeerPolicy::default()
            };
            let gate = PeerGate::new(&policy, &ports);
            for ip in [bound, advertised] {
                let peer = SocketAddr::new(ip, port);
                assert_eq!(gate.check(peer), denied, "{deny}: {peer}");
                assert_eq!(gate.check_again(peer), denied, "{deny}: {peer}");
                let reach = gate.check_ip(ip);
                if deny.contains(':') {
                    assert_eq!(reach, Ok(Reach::ByPort), "{deny}: {ip}");
                } else {
                    assert_eq!(reach, Err(PeerRefusal::Denied), "{deny}: {ip}");
                }
                let live = SocketAddr::new(ip, 50_000);
                let by_rule = gate.check_packet(live, Reach::ByPort);
                assert_eq!(by_rule.is_ok(), deny.ends_with(":53"), "{deny}: {live}");
            }
        }
    }
}
