//! The peer policy against a slow and obvious one, over any addresses and any rules: alone, and at
//! the doors of a server with relay addresses, some of them live.

mod reference;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use turnstone::turn::{IpHeader, NetworkRule, PeerPolicy, Reach, RelayAddress};

use self::reference::{EDGES, Reference, ReferenceServer, Rule};
use crate::client::TestClient;
use crate::host::{Host, Setup, bob, ip};

/// Ports that matter are few, so that every one can be tried. The last stands for all beyond.
const PORTS: std::ops::RangeInclusive<u16> = 1..=10;

/// The first or last address of a range of the registries, or any.
fn base() -> impl Strategy<Value = IpAddr> {
    let edge = (select(EDGES), any::<bool>()).prop_map(|(network, is_last)| {
        let network: ipnet::IpNet = network.parse().unwrap();
        if is_last {
            network.broadcast()
        } else {
            network.network()
        }
    });
    prop_oneof![
        6 => edge,
        1 => any::<u32>().prop_map(|bits| Ipv4Addr::from(bits).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from(bits).into()),
        1 => any::<u128>().prop_map(|bits| Ipv6Addr::from(bits >> 3 | 1 << 125).into()),
    ]
}

/// A neighbour of an address, or one that differs in a bit.
fn nudge(ip: IpAddr, by: (u8, Index)) -> IpAddr {
    let (bits, width) = match ip {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let bits = match by.0 {
        0 => bits.wrapping_add(1),
        1 => bits.wrapping_sub(1),
        2 => bits ^ 1 << by.1.index(width),
        _ => bits,
    };
    match ip {
        IpAddr::V4(_) => Ipv4Addr::from(bits as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(bits).into(),
    }
}

/// IPv6 addresses that hide an IPv4 one, by form.
const DISGUISES: [&str; 8] = [
    "::",
    "::ffff:0:0",
    "::ffff:0:0:0",
    "64:ff9b::",
    "64:ff9b:1:1:1::",
    "2002::1",
    "2a00:1450:4001::5efe:0:0",
    "2a00:1450:4001::200:5efe:0:0",
];

fn disguise(ip: IpAddr, form: Option<usize>) -> IpAddr {
    let (IpAddr::V4(ip), Some(form)) = (ip, form) else {
        return ip;
    };
    let prefix: Ipv6Addr = DISGUISES[form].parse().unwrap();
    let shift = if DISGUISES[form] == "2002::1" { 80 } else { 0 };
    Ipv6Addr::from(u128::from(prefix) | u128::from(u32::from(ip)) << shift).into()
}

/// A rule about the network around one of the bases: all of the Internet, a part, or the address.
type RuleSeed = (bool, Index, Option<usize>, (u8, u8), Option<(u16, u16)>);

fn rule_seed() -> impl Strategy<Value = RuleSeed> {
    (
        any::<bool>(),
        any::<Index>(),
        option::weighted(0.2, 0..DISGUISES.len()),
        (0_u8..4, 0_u8..=128),
        option::of((PORTS, 0_u16..5)),
    )
}

/// The text of a rule as an operator writes it, and what the reference takes it for. IPv4 in its
/// mapped form is no rule at all.
fn write_rule(bases: &[IpAddr], seed: RuleSeed) -> Option<(bool, String, Rule)> {
    let (is_allow, base, form, (kind, len), ports) = seed;
    let ip = disguise(bases[base.index(bases.len())], form);
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let len = match kind {
        0 => 0,
        1 => width,
        _ => len % (width + 1),
    };
    let network = ipnet::IpNet::new(ip, len).unwrap().trunc();
    let ports = ports.map(|(first, more)| (first, (first + more).min(*PORTS.end() - 1).max(first)));
    let text = match (ports, ip) {
        (None, _) => network.to_string(),
        (Some((first, last)), IpAddr::V4(_)) => format!("{network}:{first}-{last}"),
        (Some((first, last)), IpAddr::V6(_)) => format!("[{network}]:{first}-{last}"),
    };
    if text.parse::<NetworkRule>().is_err() {
        assert!(text.contains("::ffff:"), "{text}");
        return None;
    }
    let rule = Rule {
        network: network.to_string(),
        ports,
    };
    Some((is_allow, text, rule))
}

/// The operator's lists, before it is known which addresses there are.
#[derive(Clone, Debug)]
struct Lists {
    rules: Vec<RuleSeed>,
    own: Option<Index>,
    listener: Option<(Option<Index>, u16)>,
    allow_loopback: bool,
    /// Whether `peers.allow` names an own address, and NAT64: few rules would do so by chance.
    opens_own: bool,
    opens_nat64: bool,
}

fn lists() -> impl Strategy<Value = Lists> {
    let listener = (option::of(any::<Index>()), PORTS);
    (
        vec(rule_seed(), 0..5),
        option::weighted(0.7, any::<Index>()),
        option::weighted(0.7, listener),
        any::<[bool; 3]>(),
    )
        .prop_map(|(rules, own, listener, switches)| {
            let [allow_loopback, opens_own, opens_nat64] = switches;
            Lists {
                rules,
                own,
                listener,
                allow_loopback,
                opens_own,
                opens_nat64,
            }
        })
}

impl Lists {
    fn over(self, bases: &[IpAddr]) -> (PeerPolicy, Reference) {
        let mut policy = PeerPolicy {
            allow_loopback: self.allow_loopback,
            ..PeerPolicy::default()
        };
        let mut reference = Reference {
            allow_loopback: self.allow_loopback,
            ..Reference::default()
        };
        let pick = |index: Index| bases[index.index(bases.len())];
        policy
            .own
            .extend(self.own.map(|index| ipnet::IpNet::from(pick(index))));
        if let Some((at, port)) = self.listener {
            let ip = at.map_or_else(|| Ipv6Addr::UNSPECIFIED.into(), pick);
            policy.listeners.push(SocketAddr::new(ip, port));
        }
        reference.own = policy.own.clone();
        reference.listeners = policy.listeners.clone();
        let rules = self.rules.into_iter();
        let mut rules: Vec<_> = rules.filter_map(|seed| write_rule(bases, seed)).collect();
        let own = policy.own.first().filter(|_| self.opens_own);
        let own = own.map(ipnet::IpNet::to_string);
        let nat64 = self.opens_nat64.then(|| "64:ff9b::/96".to_owned());
        for network in own.into_iter().chain(nat64) {
            // IPv4 in its mapped form is no rule.
            if network.parse::<NetworkRule>().is_ok() {
                let ports = None;
                rules.push((true, network.clone(), Rule { network, ports }));
            }
        }
        for (is_allow, text, rule) in rules {
            let (texts, rules) = if is_allow {
                (&mut policy.allow, &mut reference.allow)
            } else {
                (&mut policy.deny, &mut reference.deny)
            };
            texts.push(text.parse().unwrap());
            rules.push(rule);
        }
        (policy, reference)
    }
}

/// An address at or near one of the bases, or that hides it.
type ProbeSeed = (Index, (u8, Index), Option<usize>);

fn probe_seed() -> impl Strategy<Value = ProbeSeed> {
    /// Of [`DISGUISES`], the one that a rule opens.
    const NAT64: usize = 3;
    let form = prop_oneof![0..DISGUISES.len(), Just(NAT64)];
    (any::<Index>(), (0_u8..6, any::<Index>()), option::of(form))
}

fn probe(bases: &[IpAddr], (base, by, form): ProbeSeed) -> IpAddr {
    disguise(nudge(bases[base.index(bases.len())], by), form)
}

/// All ports that matter, and one that does not.
fn ports() -> Vec<u16> {
    PORTS.chain([u16::MAX]).collect()
}

/// A pair of relay addresses of a family: of the bases, if they have any.
fn relay_pair(bases: &[IpAddr], default: IpAddr, pick: [Index; 2]) -> RelayAddress {
    let mut of_family: Vec<IpAddr> = bases.to_vec();
    of_family.retain(|ip| ip.is_ipv4() == default.is_ipv4());
    of_family.push(default);
    let [bound, advertised] = pick.map(|index| of_family[index.index(of_family.len())]);
    RelayAddress { bound, advertised }
}

/// The space is large; `PROPTEST_CASES` still scales it.
fn more_cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig {
        cases: config.cases * 4,
        failure_persistence: None,
        ..config
    }
}

proptest! {
    #![proptest_config(more_cases())]

    /// SEC-01, SEC-02, SEC-03, SEC-04, SEC-05, SEC-06, SEC-07, ACL-02
    #[test]
    fn agrees_with_the_reference(
        bases in vec(base(), 1..4),
        lists in lists(),
        probes in vec(probe_seed(), 1..8),
    ) {
        let (policy, reference) = lists.over(&bases);
        for seed in probes {
            let ip = probe(&bases, seed);
            let mut open = 0;
            for port in [0].into_iter().chain(ports()) {
                let expected = reference.is_peer(ip, port);
                let checked = policy.check(SocketAddr::new(ip, port));
                prop_assert_eq!(checked.is_ok(), expected, "{} {}: {:?} {:?}", ip, port, checked, policy);
                open += usize::from(expected);
            }
            let reach = policy.check_ip(ip);
            prop_assert_eq!(reach.is_ok(), open > 0, "{}: {:?} {:?}", ip, reach, policy);
            if reach == Ok(Reach::EveryPort) {
                prop_assert_eq!(open, ports().len(), "{}: {:?}", ip, policy);
            }
        }
    }

    /// SEC-01, SEC-03, SEC-07, ACL-02: CreatePermission asks about an address, ChannelBind about a
    /// port, and data, either way, as far as the permission says that the port matters.
    #[test]
    fn every_door_agrees_with_the_reference(
        bases in vec(base(), 1..3),
        lists in lists(),
        probes in vec(probe_seed(), 1..5),
        pairs in any::<[[Index; 2]; 2]>(),
    ) {
        let relays = [("192.0.2.15", pairs[0]), ("2001:db8::15", pairs[1])]
            .map(|(default, pick)| relay_pair(&bases, ip(default), pick));
        // Rules and probes are about relay addresses as often as about others.
        let names = relays.iter().flat_map(|relay| [relay.bound, relay.advertised]);
        let bases: Vec<IpAddr> = bases.into_iter().chain(names).collect();
        let (policy, reference) = lists.over(&bases);
        let mut doors = Doors::new(relays, policy, reference);
        for ip in probes.into_iter().map(|seed| probe(&bases, seed)) {
            doors.knock(ip)?;
        }
    }
}

/// A server with two clients, and what the reference says of it.
struct Doors {
    host: Host,
    client: TestClient,
    reference: ReferenceServer,
    permitted: BTreeSet<IpAddr>,
    channels: u16,
}

impl Doors {
    fn new(relays: [RelayAddress; 2], policy: PeerPolicy, reference: Reference) -> Self {
        let mut host = Host::new(Setup {
            relays: relays.to_vec(),
            ports: 2..=6,
            listeners: policy.listeners.clone(),
            peers: policy,
            ..Setup::default()
        });
        let mut client = TestClient::udp("198.51.100.1:4000");
        client.allocate_dual(&mut host);
        let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
        other.allocate_dual(&mut host);
        let reference = ReferenceServer {
            policy: reference,
            relays: relays.map(|it| (it.bound, it.advertised)).to_vec(),
            live: host.sockets.values().map(|it| it.address).collect(),
        };
        Self {
            host,
            client,
            reference,
            permitted: BTreeSet::new(),
            channels: 0,
        }
    }

    /// Tries every door with every port of an address.
    fn knock(&mut self, ip: IpAddr) -> Result<(), TestCaseError> {
        if self.permitted.contains(&ip) {
            return Ok(());
        }
        let (host, client, reference) = (&mut self.host, &mut self.client, &self.reference);
        let code = client.permit(host, &[SocketAddr::new(ip, 1)]).0.code();
        prop_assert!(matches!(code, None | Some(403 | 443)), "{}: {:?}", ip, code);
        let is_permitted = code.is_none();
        let expected = reference.may_be_permitted(ip, &ports());
        prop_assert_eq!(is_permitted, expected, "{}: {:?}", ip, reference);
        if is_permitted {
            self.permitted.insert(ip);
        }
        let at = host.sockets.values().map(|it| it.address);
        let at = at.clone().find(|it| it.is_ipv4() == ip.is_ipv4()).unwrap();
        for port in ports() {
            let peer = SocketAddr::new(ip, port);
            let is_peer = reference.is_peer(ip, port);
            let sent = client.send(host, peer, b"x").map(|sent| sent.to);
            let expected = (is_peer && is_permitted).then(|| reference.as_sent(peer));
            prop_assert_eq!(sent, expected, "Send to {}: {:?}", peer, reference);

            let told = reference.as_told(peer);
            let is_told = self.permitted.contains(&told.ip()) && reference.is_peer(told.ip(), port);
            let heard = host.peer_packet(at, peer, IpHeader::default(), b"x");
            prop_assert_eq!(heard.is_some(), is_told, "from {}: {:?}", peer, reference);

            let number = 0x4000 + self.channels;
            self.channels += 1;
            let bound = client.bind(host, number, peer).0.code();
            prop_assert_eq!(
                bound.is_none(),
                is_peer,
                "channel {}: {:?}",
                peer,
                reference
            );
            let sent = client.send_on(host, number, b"x").map(|sent| sent.to);
            prop_assert_eq!(sent, is_peer.then(|| reference.as_sent(peer)));
        }
        Ok(())
    }
}
