//! The part of netfilter's rules that can be understood, whoever wrote them: what becomes of a first
//! packet from somewhere on the Internet.
//!
//! Three answers are possible for a rule: it matches such a packet, it does not, or this program
//! does not know. What follows from not knowing is carried to the end, and never guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::turn::Transport;

/// How deep chains may call each other; netfilter's own limit is 16.
const DEPTH_MAX: usize = 16;

/// A packet that begins a conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) transport: Transport,
    pub(super) to: IpAddr,
    pub(super) port: u16,
}

/// A condition of a rule. All conditions of a rule must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// The transport is one of these.
    Transport(Vec<Transport>),
    /// The packet is of IPv4 (`true`) or IPv6.
    V4(bool),
    /// The destination port is in one of these ranges.
    Port(Vec<RangeInclusive<u16>>),
    /// The destination is in one of these networks.
    To(Vec<IpNet>),
    /// It comes in by one of these interfaces; `+` or `*` at the end stands for any rest.
    Interface(Vec<String>),
    /// It comes from particular addresses.
    Source,
    /// Holds for every packet that is asked about.
    Always,
    /// Holds for none of them, as `ct state established`.
    Never,
    /// Not understood.
    Unknown,
    Not(Box<Self>),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Connection tracking is left out.
    NoTrack,
    /// Counts, logs, marks.
    Nothing,
    /// Something else may become of the packet, as a redirection.
    Unknown,
}

/// A rule, and how to name it.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
    pub(super) name: String,
}

/// Where a packet begins its way through some rules. Every one of them has to let it pass.
#[derive(Clone, Debug)]
pub(super) struct Base {
    /// The key of the chain: family or program, table, name.
    pub(super) chain: String,
    /// `None` for both families.
    pub(super) v4: Option<bool>,
    pub(super) accepts: bool,
    /// How the chain is named where its policy is to blame.
    pub(super) name: String,
    pub(super) tool: Tool,
}

/// Who can change the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Nft,
    Iptables,
    Ufw,
    Firewalld,
}

/// Rules that are in force together.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) bases: Vec<Base>,
    pub(super) chains: BTreeMap<String, Vec<Rule>>,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Passes,
    /// A rule or policy of this name drops or refuses it; and the base chain that it began in.
    Dropped {
        by: String,
        base: usize,
        /// Whether some sources are let through.
        but_some: bool,
    },
    /// A rule of this name is not understood, and decides.
    Unclear(String),
}

/// What is known so far about a packet on its way.
#[derive(Debug, Default)]
struct Way {
    accepted: bool,
    dropped: Option<String>,
    /// A rule that is not understood, after which the packet may or may not be here.
    doubt: Option<String>,
    some_sources: bool,
    untracked: Option<bool>,
}

/// How the way through a chain ends.
enum End {
    /// The packet is certainly elsewhere.
    Decided,
    /// It goes on behind the chain.
    Falls,
}

impl Rules {
    /// What becomes of a packet, with these interfaces towards the Internet.
    pub(super) fn fate(&self, packet: Packet, interfaces: &[String]) -> Fate {
        let mut unclear = None;
        for (index, base) in self.bases.iter().enumerate() {
            if base.v4.is_some_and(|v4| v4 != packet.to.is_ipv4()) {
                continue;
            }
            let way = self.way(base, packet, interfaces);
            match (way.dropped, way.accepted) {
                (None, _) => {}
                (Some(by), false) => {
                    return Fate::Dropped {
                        by,
                        base: index,
                        but_some: way.some_sources,
                    };
                }
                (Some(by), true) => {
                    unclear = unclear.or_else(|| Some(way.doubt.unwrap_or(by)));
                }
            }
        }
        unclear.map_or(Fate::Passes, Fate::Unclear)
    }

    /// Whether connection tracking leaves a packet out; `None` where that is unclear.
    pub(super) fn is_untracked(&self, packet: Packet, interfaces: &[String]) -> Option<bool> {
        let mut answer = Some(false);
        for base in &self.bases {
            if base.v4.is_some_and(|v4| v4 != packet.to.is_ipv4()) {
                continue;
            }
            match self.way(base, packet, interfaces).untracked {
                Some(true) => return Some(true),
                Some(false) => answer = None,
                None => {}
            }
        }
        answer
    }

    /// The first ports of ranges over which all packets share a fate, within a range.
    pub(super) fn edges(&self, within: &RangeInclusive<u16>) -> Vec<u16> {
        let mut edges = BTreeSet::from([*within.start()]);
        let rules = self.chains.values().flatten();
        for condition in rules.flat_map(|rule| &rule.conditions) {
            let mut condition = condition;
            while let Condition::Not(inner) = condition {
                condition = inner;
            }
            if let Condition::Port(ranges) = condition {
                edges.extend(ranges.iter().map(|range| *range.start()));
                edges.extend(ranges.iter().filter_map(|range| range.end().checked_add(1)));
            }
        }
        edges.retain(|port| within.contains(port));
        edges.into_iter().collect()
    }

    fn way(&self, base: &Base, packet: Packet, interfaces: &[String]) -> Way {
        let mut way = Way::default();
        let end = self.walk(&base.chain, packet, interfaces, &mut way, 0);
        if matches!(end, End::Falls) {
            if base.accepts {
                way.accepted = true;
            } else {
                way.dropped
                    .get_or_insert_with(|| format!("the policy of {}", base.name));
            }
        }
        way
    }

    fn walk(
        &self,
        chain: &str,
        packet: Packet,
        interfaces: &[String],
        way: &mut Way,
        depth: usize,
    ) -> End {
        let rules = self.chains.get(chain).map(Vec::as_slice);
        if depth > DEPTH_MAX {
            return End::Falls;
        }
        for rule in rules.unwrap_or_default() {
            let (matches, some_sources) = rule.matches(packet, interfaces);
            if some_sources && rule.verdict == Verdict::Accept {
                way.some_sources = true;
            }
            if matches == Some(false) {
                continue;
            }
            let certain = matches == Some(true);
            if !certain && rule.verdict != Verdict::Nothing {
                way.doubt.get_or_insert_with(|| rule.name.clone());
            }
            let decided = match &rule.verdict {
                Verdict::Accept => {
                    way.accepted = true;
                    true
                }
                Verdict::Drop => {
                    way.dropped.get_or_insert_with(|| rule.name.clone());
                    true
                }
                Verdict::Return if certain => return End::Falls,
                Verdict::Return | Verdict::Nothing => false,
                Verdict::NoTrack => {
                    way.untracked = Some(certain || way.untracked == Some(true));
                    false
                }
                Verdict::Unknown => {
                    // It may pass, and it may not.
                    way.doubt.get_or_insert_with(|| rule.name.clone());
                    way.accepted = true;
                    way.dropped.get_or_insert_with(|| rule.name.clone());
                    true
                }
                Verdict::Jump(to) | Verdict::Goto(to) => {
                    let end = self.walk(to, packet, interfaces, way, depth + 1);
                    let leaves = matches!(rule.verdict, Verdict::Goto(_));
                    match end {
                        End::Decided => true,
                        End::Falls if leaves && certain => return End::Falls,
                        End::Falls => false,
                    }
                }
            };
            if decided && certain {
                return End::Decided;
            }
        }
        End::Falls
    }
}

impl Rule {
    /// Whether the rule matches, and whether it would if the packet came from somewhere else.
    fn matches(&self, packet: Packet, interfaces: &[String]) -> (Option<bool>, bool) {
        let mut answer = Some(true);
        let mut some_sources = false;
        for condition in &self.conditions {
            if *condition == Condition::Source {
                some_sources = true;
                continue;
            }
            match condition.holds(packet, interfaces) {
                Some(true) => {}
                Some(false) => return (Some(false), false),
                None => answer = None,
            }
        }
        if some_sources {
            return (Some(false), true);
        }
        (answer, false)
    }
}

impl Condition {
    fn holds(&self, packet: Packet, interfaces: &[String]) -> Option<bool> {
        match self {
            Self::Transport(transports) => Some(transports.contains(&packet.transport)),
            Self::V4(v4) => Some(*v4 == packet.to.is_ipv4()),
            Self::Port(ranges) => Some(ranges.iter().any(|range| range.contains(&packet.port))),
            Self::To(networks) => Some(networks.iter().any(|net| net.contains(&packet.to))),
            Self::Interface(names) if names.iter().all(|name| name == "lo") => Some(false),
            Self::Interface(_) if interfaces.is_empty() => None,
            Self::Interface(names) => Some(
                names
                    .iter()
                    .any(|name| interfaces.iter().any(|interface| is_like(interface, name))),
            ),
            Self::Always => Some(true),
            Self::Never | Self::Source => Some(false),
            Self::Unknown => None,
            Self::Not(inner) => inner.holds(packet, interfaces).map(|holds| !holds),
        }
    }
}

fn is_like(interface: &str, pattern: &str) -> bool {
    match pattern.strip_suffix(['+', '*']) {
        Some(start) => interface.starts_with(start),
        None => interface == pattern,
    }
}
