//! `[peers]`: which networks are opened and which are closed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Resolver;
use crate::config::document::Item;
use crate::config::{Config, Origin, Peers};
use crate::turn::{NetworkRule, NetworkRuleError, PeerPolicy, PeerRefusal};

/// What `peers.allow` can open amid public addresses: a network without any of it opens nothing.
const CLOSED_AMID_PUBLIC: [&str; 13] = [
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
    "2001:1::/32",
    "2001:db8::/32",
    "3fff::/20",
];

/// Metadata services of virtual machines and of containers.
const LINK_LOCAL_METADATA: [&str; 2] = ["169.254.169.254/32", "169.254.170.2/32"];

/// Networks of which a wider one in `peers.allow` is more than anybody's own.
const PRIVATE: [&str; 2] = ["10.0.0.0/8", "fc00::/7"];

impl Resolver<'_> {
    pub(super) fn peers(&mut self) -> Peers {
        let mut allow = Vec::new();
        for item in self.list("peers.allow").map_or(&[][..], |list| list.0) {
            if let Some(rule) = self.network("peers.allow", item, str::parse) {
                self.check_can_be_opened(rule, item);
                allow.push(rule);
            }
        }
        Peers {
            allow,
            deny: self.networks("peers.deny", str::parse),
            allow_loopback: self.switch("peers.allow_loopback", false),
        }
    }

    /// The entries of a list of networks.
    pub(super) fn networks<T>(
        &mut self,
        key: &str,
        parse: fn(&str) -> Result<T, NetworkRuleError>,
    ) -> Vec<T> {
        let items = self.list(key).map_or(&[][..], |list| list.0);
        items
            .iter()
            .filter_map(|item| self.network(key, item, parse))
            .collect()
    }

    fn network<T>(
        &mut self,
        key: &str,
        item: &Item,
        parse: fn(&str) -> Result<T, NetworkRuleError>,
    ) -> Option<T> {
        let text = item.text.as_str();
        parse(text)
            .map_err(|error| {
                let what = format!("{text:?} {error}");
                self.refuse(&item.origin, key, what, error.remedy());
            })
            .ok()
    }

    /// An entry that opens nothing would let the operator believe that it does.
    fn check_can_be_opened(&mut self, rule: NetworkRule, item: &Item) {
        let policy = PeerPolicy {
            allow: vec![rule],
            ..PeerPolicy::default()
        };
        let network = rule.network();
        let [first, last] = [network.network(), network.broadcast()].map(|ip| policy.check_ip(ip));
        let Err(refusal) = first else { return };
        if first != last || refusal.can_be_allowed() {
            return;
        }
        let (what, remedy) = match refusal {
            PeerRefusal::Loopback => (
                "is loopback, which is never opened by a list",
                "remove it; for tests on one machine set peers.allow_loopback = true",
            ),
            PeerRefusal::LinkLocal if !is_metadata(network) => (
                "is link-local, which is never opened",
                "remove it: such addresses are never peers",
            ),
            PeerRefusal::LinkLocal | PeerRefusal::Metadata => (
                "is where cloud hosts keep their credentials",
                "remove it: such addresses are never peers",
            ),
            PeerRefusal::Multicast => ("is multicast", "remove it: only single machines are peers"),
            PeerRefusal::Unspecified => (
                "names no machine",
                "remove it: such addresses are never peers",
            ),
            PeerRefusal::SixToFour | PeerRefusal::Teredo => (
                "is a tunnel, which RFC 8656 section 21.4 forbids",
                "remove it: such addresses are never peers",
            ),
            _ => (
                "is never opened",
                "remove it: such addresses are never peers",
            ),
        };
        self.refuse(
            &item.origin,
            "peers.allow",
            format!("{rule} {what}"),
            remedy,
        );
    }

    /// Entries of `peers.allow` that do more, or less, than they seem to.
    pub(super) fn warn_of_useless_rules(&mut self, config: &Config) {
        let key = "peers.allow";
        let Peers { allow, deny, .. } = &config.peers;
        for (index, rule) in allow.iter().enumerate() {
            let network = rule.network();
            let is_wide = PRIVATE.map(constant).into_iter();
            let mut is_wide = is_wide.filter(|inner| network.contains(inner) && network != *inner);
            if let Some(denied) = deny.iter().find(|denied| denied.covers(rule)) {
                let what = format!("{rule} is closed again by peers.deny, which has {denied}");
                let remedy = "remove one of the two: peers.deny wins";
                self.warn_of_item(key, index, what, remedy);
            } else if is_wide.next().is_some() {
                let what = format!(
                    "{rule} opens every private network: clients reach whatever this machine can \
                     reach there"
                );
                let remedy =
                    "name the networks that clients need; public addresses are open anyway";
                self.warn_of_item(key, index, what, remedy);
            } else if self.opens_nothing(rule, config) {
                let what = format!("{rule} is public, and open without it");
                let remedy = "remove it: peers.allow closes nothing, and to close networks there \
                              is peers.deny";
                self.warn_of_item(key, index, what, remedy);
            }
        }
    }

    fn opens_nothing(&self, rule: &NetworkRule, config: &Config) -> bool {
        let network = rule.network();
        let is_own = |ip: &IpAddr| network.contains(ip);
        let listeners = config.listen.udp.iter().chain(config.listen.of_tcp());
        let mut own: Vec<IpAddr> = listeners.map(SocketAddr::ip).collect();
        own.extend(&self.host.interface_addresses);
        own.extend(&config.relay.addresses);
        own.extend(config.relay.external.iter().map(|(_, outside)| outside));
        is_public(network) && !(rule.is_single_address() && own.iter().any(is_own))
    }

    /// Both sides of a call may be clients of this server, and then they are each other's peers.
    pub(super) fn warn_of_denied_relay_addresses(&mut self, config: &Config) {
        let relays = config.relay.addresses.iter();
        let relays: Vec<IpAddr> = relays
            .flat_map(|&ip| [config.relay.advertised(ip), ip])
            .collect();
        for (index, rule) in config.peers.deny.iter().enumerate() {
            let mut denied = relays
                .iter()
                .filter(|&&ip| rule.concerns(ip, &config.relay.ports));
            if let Some(relay) = denied.next() {
                let what = format!(
                    "{rule} has {relay}, the relay address: two clients of this server cannot \
                     reach each other through it"
                );
                let remedy = "leave the address out, unless that is what you want";
                self.warn_of_item("peers.deny", index, what, remedy);
            }
        }
    }

    /// Warns of an entry of a list. Only lists without errors have as many entries as items.
    pub(super) fn warn_of_item(&mut self, key: &str, index: usize, what: String, remedy: &str) {
        let item = self.list(key).and_then(|(items, _)| items.get(index));
        let origin = item.map_or(&Origin::Default, |item| &item.origin);
        self.warn(origin, key, what, remedy);
    }
}

/// Whether all of a network is open without a word of the operator's.
pub(in crate::config) fn is_public(network: IpNet) -> bool {
    let policy = PeerPolicy::default();
    let mut ends = [network.network(), network.broadcast()].into_iter();
    let mut closed = CLOSED_AMID_PUBLIC.map(constant).into_iter();
    ends.all(|ip| policy.check_ip(ip).is_ok()) && !closed.any(|inner| network.contains(&inner))
}

/// Whether every address is that of a metadata service with a link-local address.
fn is_metadata(network: IpNet) -> bool {
    LINK_LOCAL_METADATA.map(constant).contains(&network)
}

fn constant(network: &str) -> IpNet {
    network.parse().expect("a constant network")
}
