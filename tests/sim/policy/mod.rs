//! The peer policy against a slow and obvious one, over any addresses and any rules.

mod reference;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use turnstone::turn::{NetworkRule, PeerPolicy, Reach};

use self::reference::{EDGES, Reference, Rule};

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
        rules in vec(rule_seed(), 0..5),
        probes in vec((any::<Index>(), (0_u8..6, any::<Index>()), option::of(0..DISGUISES.len())), 1..8),
        own in option::of(any::<Index>()),
        listener in option::of((any::<bool>(), PORTS)),
        allow_loopback in any::<bool>(),
    ) {
        let mut policy = PeerPolicy { allow_loopback, ..PeerPolicy::default() };
        let mut reference = Reference { allow_loopback, ..Reference::default() };
        for (is_allow, text, rule) in rules.into_iter().filter_map(|seed| write_rule(&bases, seed)) {
            if is_allow {
                policy.allow.push(text.parse().unwrap());
                reference.allow.push(rule);
            } else {
                policy.deny.push(text.parse().unwrap());
                reference.deny.push(rule);
            }
        }
        policy.own.extend(own.map(|index| bases[index.index(bases.len())]));
        reference.own = policy.own.clone();
        if let Some((is_wildcard, port)) = listener {
            let ip = match policy.own.first() {
                Some(ip) if !is_wildcard => *ip,
                _ => Ipv6Addr::UNSPECIFIED.into(),
            };
            policy.listeners.push(SocketAddr::new(ip, port));
            reference.listeners = policy.listeners.clone();
        }
        for (base, by, form) in probes {
            let ip = disguise(nudge(bases[base.index(bases.len())], by), form);
            let mut open = 0;
            for port in (0..=*PORTS.end()).chain([u16::MAX]) {
                let expected = reference.is_peer(ip, port);
                let checked = policy.check(SocketAddr::new(ip, port));
                prop_assert_eq!(checked.is_ok(), expected, "{} {}: {:?} {:?}", ip, port, checked, policy);
                open += usize::from(expected);
            }
            let reach = policy.check_ip(ip);
            prop_assert_eq!(reach.is_ok(), open > 0, "{}: {:?} {:?}", ip, reach, policy);
            if reach == Ok(Reach::EveryPort) {
                prop_assert_eq!(open, PORTS.count() + 1, "{}: {:?}", ip, policy);
            }
        }
    }
}
