//! Whether the machine's own firewall lets clients and peers in.
//!
//! ufw, firewalld and Docker write their rules by nft or iptables, so those two are read.

mod iptables;
mod nft;
mod rules;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::machine::Machine;
use super::ports::span;
use super::report::Finding;
use crate::config::Config;
use crate::turn::Transport;
use rules::{Fate, Packet, Rules, Tool};

const LISTENERS: &str = "firewall.listeners";
const RELAY: &str = "firewall.relay-ports";

/// The answer of a command that lists rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Listing {
    /// It is not installed.
    Missing,
    /// It failed, and said this.
    Failed(String),
    Text(String),
}

impl Listing {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Missing | Self::Failed(_) => None,
        }
    }
}

/// What `nft -j list ruleset`, `iptables-save` and `ip6tables-save` print.
#[derive(Clone, Debug)]
pub(super) struct Listings {
    pub(super) nft: Listing,
    pub(super) iptables: Listing,
    pub(super) ip6tables: Listing,
}

/// The rules in force, as far as they can be read.
#[derive(Clone, Debug, Default)]
pub(super) struct Firewall {
    rules: Rules,
    /// Why some of them cannot be.
    unread: Vec<String>,
}

impl Firewall {
    pub(super) fn read(listings: &Listings) -> Self {
        let mut unread = vec![];
        let mut skip = vec![];
        let families = [
            ("iptables-save", &listings.iptables, true, "ip"),
            ("ip6tables-save", &listings.ip6tables, false, "ip6"),
        ];
        for (_, listing, _, family) in families {
            if listing.text().is_some_and(iptables::is_nft) {
                skip.push(family);
            }
        }
        let nft = listings.nft.text().map(|text| nft::parse(text, &skip));
        if matches!(nft, Some(None)) {
            unread.push("nft lists rules in a form that is not known here".to_owned());
        }
        let mut rules = nft.flatten().unwrap_or_default();
        for (program, listing, v4, _) in families {
            match listing {
                Listing::Text(text) => iptables::parse(text, v4, &mut rules),
                Listing::Failed(error) => unread.push(refusal(program, error)),
                Listing::Missing => {}
            }
        }
        match &listings.nft {
            Listing::Failed(error) => unread.push(refusal("nft", error)),
            Listing::Missing if skip.is_empty() => {
                unread.push("nft is not installed, which would list the rules".to_owned());
            }
            Listing::Missing | Listing::Text(_) => {}
        }
        Self { rules, unread }
    }

    /// Whether connection tracking leaves out every first packet to these ports of an address;
    /// `None` where that is unclear.
    pub(super) fn is_untracked(
        &self,
        transport: Transport,
        to: IpAddr,
        ports: &RangeInclusive<u16>,
        interfaces: &[String],
    ) -> Option<bool> {
        let mut all = Some(true);
        for port in self.rules.edges(ports) {
            let packet = Packet {
                transport,
                to,
                port,
            };
            match self.rules.is_untracked(packet, interfaces) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
        all
    }

    /// The ranges of ports that share a fate.
    fn fates(
        &self,
        transport: Transport,
        to: IpAddr,
        ports: &RangeInclusive<u16>,
        interfaces: &[String],
    ) -> Vec<(RangeInclusive<u16>, Fate)> {
        let edges = self.rules.edges(ports);
        let ends = edges.iter().skip(1).map(|next| next - 1);
        let ends = ends.chain([*ports.end()]);
        let mut fates: Vec<(RangeInclusive<u16>, Fate)> = vec![];
        for (&port, end) in edges.iter().zip(ends) {
            let packet = Packet {
                transport,
                to,
                port,
            };
            let fate = self.rules.fate(packet, interfaces);
            match fates.last_mut() {
                Some((range, last)) if *last == fate => *range = *range.start()..=end,
                _ => fates.push((port..=end, fate)),
            }
        }
        fates
    }
}

/// Why a program does not list its rules. For want of root they say so in a line each.
fn refusal(program: &str, error: &str) -> String {
    if error.contains("must be root") {
        format!("{program} wants root")
    } else {
        format!("{program} says: {error}")
    }
}

/// Where packets from outside should arrive.
struct Target {
    transport: Transport,
    to: IpAddr,
    ports: RangeInclusive<u16>,
}

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    let listeners = listeners(config);
    let relays = config.relay.addresses.iter().map(|&to| Target {
        transport: Transport::Udp,
        to,
        ports: config.relay.ports.clone(),
    });
    let relays = relays.filter(|target| !target.to.is_loopback()).collect();
    let mut findings = judge(
        LISTENERS,
        listeners,
        machine,
        "clients cannot reach the server",
    );
    findings.extend(judge(
        RELAY,
        relays,
        machine,
        "what peers send is lost, or all that comes before the client has sent to them",
    ));
    findings
}

/// A wildcard is asked about by the addresses that the server relays from, which are the likely ones.
fn listeners(config: &Config) -> Vec<Target> {
    let mut targets = vec![];
    let lists = [
        (Transport::Udp, &config.listen.udp),
        (Transport::Tcp, &config.listen.tcp),
        (Transport::Tcp, &config.listen.tls),
        (Transport::Udp, &config.listen.dtls),
    ];
    for (transport, listeners) in lists {
        for listener in listeners.iter().filter(|listener| listener.port() != 0) {
            let addresses = if listener.ip().is_unspecified() {
                let of_family = |ip: &&IpAddr| ip.is_ipv4() == listener.is_ipv4();
                config
                    .relay
                    .addresses
                    .iter()
                    .filter(of_family)
                    .copied()
                    .collect()
            } else {
                vec![listener.ip()]
            };
            let port = listener.port();
            let remote = addresses.into_iter().filter(|ip| !ip.is_loopback());
            targets.extend(remote.map(|to| Target {
                transport,
                to,
                ports: port..=port,
            }));
        }
    }
    targets
}

fn judge(check: &'static str, targets: Vec<Target>, machine: &Machine, why: &str) -> Vec<Finding> {
    let firewall = &machine.firewall;
    let mut findings = vec![];
    if targets.is_empty() {
        return vec![Finding::ok(
            check,
            "only loopback is used, which firewalls leave alone",
        )];
    }
    for target in &targets {
        let Target {
            transport,
            to,
            ports,
        } = target;
        for (range, fate) in firewall.fates(*transport, *to, ports, &machine.interfaces) {
            let shown = format!("{to} {transport} {}", span(&range, '-'));
            let finding = match fate {
                Fate::Passes => continue,
                Fate::Unclear(by) => Finding::unknown(
                    check,
                    format!("{shown}: {by} decides, and is not understood here"),
                )
                .fix("read that rule, or run turnstone check from another machine"),
                Fate::Dropped { by, base, but_some } => {
                    let found = format!("{shown}: new packets from outside are dropped by {by}");
                    let finding = if but_some {
                        Finding::warn(check, format!("{found}, but for some source addresses"))
                    } else {
                        Finding::fail(check, found)
                    };
                    finding
                        .why(why)
                        .fix("let them in, and keep the rule over a restart of the machine")
                        .command(command(&firewall.rules, base, *transport, &range))
                }
            };
            findings.push(finding);
        }
    }
    if findings.is_empty() {
        findings.push(if firewall.unread.is_empty() {
            let what = match check {
                LISTENERS => "the listeners",
                _ => "the relay ports",
            };
            Finding::ok(
                check,
                format!("no rule of this machine drops packets to {what}"),
            )
        } else {
            Finding::unknown(check, firewall.unread.join("; "))
                .fix("run the doctor as root where nft or iptables-save is installed")
        });
    }
    findings
}

/// The command that lets these ports in.
fn command(
    rules: &Rules,
    base: usize,
    transport: Transport,
    ports: &RangeInclusive<u16>,
) -> String {
    let base = &rules.bases[base];
    let (dash, colon) = (span(ports, '-'), span(ports, ':'));
    match base.tool {
        Tool::Nft => format!(
            "nft insert rule {} {transport} dport {dash} accept",
            base.chain
        ),
        Tool::Iptables => {
            let mut words = base.chain.split(' ');
            let mut word = || words.next().unwrap_or_default();
            let (program, table, chain) = (word(), word(), word());
            format!("{program} -t {table} -I {chain} -p {transport} --dport {colon} -j ACCEPT")
        }
        Tool::Ufw => format!("ufw allow {colon}/{transport}"),
        Tool::Firewalld => format!(
            "firewall-cmd --permanent --add-port={dash}/{transport} && firewall-cmd --reload"
        ),
    }
}
