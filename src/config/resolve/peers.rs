//! `[peers]`: which networks are opened and which are closed.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::Resolver;
use crate::config::Peers;
use crate::config::document::Item;

impl Resolver<'_> {
    pub(super) fn peers(&mut self) -> Peers {
        let allow = self.networks("peers.allow");
        for (network, item) in &allow {
            self.check_can_be_opened(*network, item);
        }
        let deny = self.networks("peers.deny");
        Peers {
            allow: allow.into_iter().map(|(network, _)| network).collect(),
            deny: deny.into_iter().map(|(network, _)| network).collect(),
            allow_loopback: self.switch("peers.allow_loopback", false),
        }
    }
}

impl<'a> Resolver<'a> {
    fn networks(&mut self, key: &str) -> Vec<(IpNet, &'a Item)> {
        let Some((items, _)) = self.list(key) else {
            return Vec::new();
        };
        let mut networks = Vec::new();
        for item in items {
            let text = item.text.as_str();
            // A single address is a network of one.
            let parsed = text
                .parse::<IpNet>()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            let Ok(network) = parsed else {
                let what = format!("{text:?} is not a network in CIDR notation");
                let remedy = "write address/length, e.g. \"10.0.0.0/8\" or \"fd00::/8\"";
                self.refuse(&item.origin, key, what, remedy);
                continue;
            };
            if network != network.trunc() {
                let what = format!(
                    "{text:?} has bits set after the first {}",
                    network.prefix_len()
                );
                let remedy = format!(
                    "write \"{}\", or \"{}\" for the one address",
                    network.trunc(),
                    network.addr()
                );
                self.refuse(&item.origin, key, what, remedy);
            } else {
                networks.push((network, item));
            }
        }
        networks
    }

    /// An entry that opens nothing would let the operator believe that it does.
    fn check_can_be_opened(&mut self, network: IpNet, item: &Item) {
        let key = "peers.allow";
        let first = network.network();
        let single = network.prefix_len() == network.max_prefix_len();
        let within = |outer: &str| {
            let outer: IpNet = outer.parse().expect("a constant network");
            outer.contains(&network)
        };
        if within("127.0.0.0/8") || first == IpAddr::V6(Ipv6Addr::LOCALHOST) {
            let what = format!("{network} is loopback, which is never opened by a list");
            let remedy = "remove it; for tests on one machine set peers.allow_loopback = true";
            self.refuse(&item.origin, key, what, remedy);
        } else if within("169.254.0.0/16") || within("fe80::/10") {
            let what = format!("{network} is link-local, where cloud hosts keep their credentials");
            self.refuse(
                &item.origin,
                key,
                what,
                "remove it: such addresses are never peers",
            );
        } else if within("224.0.0.0/4") || within("ff00::/8") {
            let what = format!("{network} is multicast");
            self.refuse(
                &item.origin,
                key,
                what,
                "remove it: only single machines are peers",
            );
        } else if within("0.0.0.0/8") || first == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && single {
            let what = format!("{network} names no machine");
            self.refuse(
                &item.origin,
                key,
                what,
                "remove it: such addresses are never peers",
            );
        }
    }
}
