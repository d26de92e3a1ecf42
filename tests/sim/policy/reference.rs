//! Who may be a peer, as one would explain it: addresses are rows of bits, networks are how such a
//! row begins, and rules are asked in their order.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Never peers.
const NEVER: [&str; 22] = [
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Metadata services.
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "fd00:ec2::/32",
    "fd00:c1::a9fe:a9fe/128",
    "fd20:ce::254/128",
    "fd00:a9fe:a9fe::1/128",
    "fd00:42::42/128",
    // Unspecified, loopback and IPv4-compatible.
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b:1::/48",
    "2001::/32",
    "2002::/16",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
];

/// Peers once a rule opens them.
const CLOSED: [&str; 20] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    // All that is not 2000::/3.
    "::/3",
    "4000::/3",
    "6000::/3",
    "8000::/3",
    "a000::/3",
    "c000::/3",
    "e000::/3",
];

/// Networks at whose ends verdicts change.
pub(crate) const EDGES: &[&str] = &[
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "100.100.100.200/32",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.192/32",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "8.8.8.8/32",
    "::/128",
    "::1/128",
    "::/96",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2000::/3",
    "2001::/32",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fd00:ec2::/32",
    "fd00:c1::a9fe:a9fe/128",
    "fd20:ce::254/128",
    "fd00:a9fe:a9fe::1/128",
    "fd00:42::42/128",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "2606:4700::/32",
];

/// Where an IPv4 address may hide: how such an address begins, and the bit at which the IPv4 address
/// does.
const HIDDEN: [(&str, usize); 6] = [
    ("::/96", 96),
    ("::ffff:0:0/96", 96),
    ("::ffff:0:0:0/96", 96),
    ("64:ff9b::/96", 96),
    ("64:ff9b:1::/48", 96),
    ("2002::/16", 16),
];

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) network: String,
    pub(crate) ports: Option<(u16, u16)>,
}

impl Rule {
    fn is_about(&self, ip: IpAddr, port: u16) -> bool {
        let (first, last) = self.ports.unwrap_or((1, 65_535));
        is_in(ip, &self.network) && port >= first && port <= last
    }

    fn names_one_address(&self) -> bool {
        let (ip, len) = self.network.split_once('/').unwrap();
        len == if ip.contains(':') { "128" } else { "32" }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Reference {
    pub(crate) allow: Vec<Rule>,
    pub(crate) deny: Vec<Rule>,
    pub(crate) allow_loopback: bool,
    pub(crate) own: Vec<ipnet::IpNet>,
    pub(crate) listeners: Vec<SocketAddr>,
}

impl Reference {
    pub(crate) fn is_peer(&self, ip: IpAddr, port: u16) -> bool {
        if port == 0 {
            return false;
        }
        let is_denied = |ip| self.deny.iter().any(|rule| rule.is_about(ip, port));
        if is_denied(ip) || hidden(ip).is_some_and(is_denied) || isatap(ip).is_some_and(is_denied) {
            return false;
        }
        let is_loopback = is_in(ip, "127.0.0.0/8") || is_in(ip, "::1/128");
        let is_switched_on = is_loopback && self.allow_loopback;
        if self.own.iter().any(|own| own.contains(&ip)) || is_switched_on {
            let mut named = self.allow.iter().filter(|rule| rule.names_one_address());
            let is_listener = self.listeners.iter().any(|listener| {
                listener.port() == port && (listener.ip() == ip || listener.ip().is_unspecified())
            });
            if is_listener || !(is_switched_on || named.any(|rule| rule.is_about(ip, port))) {
                return false;
            }
        }
        if is_switched_on {
            return true;
        }
        if NEVER.iter().any(|network| is_in(ip, network)) {
            return false;
        }
        let is_nat64 = is_in(ip, "64:ff9b::/96");
        if is_nat64 {
            let behind = hidden(ip).unwrap();
            if is_in(behind, "127.0.0.0/8") || !self.is_peer(behind, port) {
                return false;
            }
        }
        let is_open = self.allow.iter().any(|rule| rule.is_about(ip, port));
        is_open || !CLOSED.iter().any(|network| is_in(ip, network))
    }
}

/// A server with relay addresses, and what it says about peers.
#[derive(Debug, Default)]
pub(crate) struct ReferenceServer {
    pub(crate) policy: Reference,
    /// Where relay sockets are bound, and what peers call it.
    pub(crate) relays: Vec<(IpAddr, IpAddr)>,
    /// Where relay sockets are bound just now.
    pub(crate) live: Vec<SocketAddr>,
}

impl ReferenceServer {
    /// What an address is called: a relay address has two names.
    fn names(&self, ip: IpAddr) -> Vec<IpAddr> {
        let pairs = self
            .relays
            .iter()
            .map(|&(inside, outside)| [inside, outside]);
        let pairs = pairs.filter(|pair| pair.contains(&ip));
        pairs.flatten().chain([ip]).collect()
    }

    fn is_relay(&self, ip: IpAddr) -> bool {
        self.names(ip).len() > 1
    }

    fn is_denied(&self, ip: IpAddr, port: u16) -> bool {
        let names = self.names(ip).into_iter();
        let mut names = names.flat_map(|ip| [Some(ip), hidden(ip), isatap(ip)]);
        names.any(|name| {
            let mut rules = self.policy.deny.iter();
            name.is_some_and(|ip| rules.any(|rule| rule.is_about(ip, port)))
        })
    }

    /// Whether a transport address is a peer just now.
    pub(crate) fn is_peer(&self, ip: IpAddr, port: u16) -> bool {
        if !self.is_relay(ip) {
            let is_relay_in_disguise = hidden(ip).is_some_and(|ip| self.is_relay(ip));
            return self.policy.is_peer(ip, port) && !is_relay_in_disguise;
        }
        if port == 0 || self.is_denied(ip, port) {
            return false;
        }
        let names = self.names(ip);
        let is_at = |at: &SocketAddr| at.port() == port && names.contains(&at.ip());
        if self.live.iter().any(is_at) {
            return true;
        }
        let is_bound = |at: &IpAddr| self.relays.iter().any(|(inside, _)| inside == at);
        let is_listener = self.policy.listeners.iter().any(|at| {
            let is_here = at.ip() == ip || (is_bound(&at.ip()) && names.contains(&at.ip()));
            at.port() == port && (is_here || at.ip().is_unspecified())
        });
        let mut named = self
            .policy
            .allow
            .iter()
            .filter(|rule| rule.names_one_address());
        let is_loopback = is_in(ip, "127.0.0.0/8") || is_in(ip, "::1/128");
        let is_opened = named.any(|rule| rule.is_about(ip, port))
            || (is_loopback && self.policy.allow_loopback);
        !is_listener && is_opened && self.policy.is_peer(ip, port)
    }

    /// Whether some of these ports of an address may be a peer, now or later.
    pub(crate) fn may_be_permitted(&self, ip: IpAddr, ports: &[u16]) -> bool {
        ports.iter().any(|&port| {
            if self.is_relay(ip) {
                port != 0 && !self.is_denied(ip, port)
            } else {
                self.is_peer(ip, port)
            }
        })
    }

    /// What a client is told of where a datagram comes from.
    pub(crate) fn as_told(&self, from: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|(inside, _)| *inside == from.ip());
        relay.map_or(from, |(_, outside)| SocketAddr::new(*outside, from.port()))
    }

    /// Where a datagram to a peer goes.
    pub(crate) fn as_sent(&self, to: SocketAddr) -> SocketAddr {
        let relay = self.relays.iter().find(|(_, outside)| *outside == to.ip());
        relay.map_or(to, |(inside, _)| SocketAddr::new(*inside, to.port()))
    }
}

/// An address as text of zeros and ones.
fn bits(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.octets().map(|byte| format!("{byte:08b}")).concat(),
        IpAddr::V6(ip) => ip.octets().map(|byte| format!("{byte:08b}")).concat(),
    }
}

fn is_in(ip: IpAddr, network: &str) -> bool {
    let (first, len) = network.split_once('/').unwrap();
    let first: IpAddr = first.parse().unwrap();
    let len: usize = len.parse().unwrap();
    ip.is_ipv4() == first.is_ipv4() && bits(ip).starts_with(&bits(first)[..len])
}

fn hidden(ip: IpAddr) -> Option<IpAddr> {
    let (_, at) = HIDDEN.iter().find(|(network, _)| is_in(ip, network))?;
    Some(ipv4_at(ip, *at))
}

/// The last 64 bits are 000000x0 0..0 0101111011111110 and the IPv4 address.
fn isatap(ip: IpAddr) -> Option<IpAddr> {
    let bits = bits(ip);
    let middle = bits.get(64..96)?;
    let markers = ["00000000", "00000010"].map(|first| format!("{first}000000000101111011111110"));
    markers
        .contains(&middle.to_owned())
        .then(|| ipv4_at(ip, 96))
}

fn ipv4_at(ip: IpAddr, bit: usize) -> IpAddr {
    let bits = u32::from_str_radix(&bits(ip)[bit..bit + 32], 2).unwrap();
    Ipv4Addr::from(bits).into()
}
