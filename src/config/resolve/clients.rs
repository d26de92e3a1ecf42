//! `[clients]`: from where the server may be used.

use ipnet::IpNet;

use super::Resolver;
use crate::config::{Clients, Config};
use crate::turn::parse_network;

impl Resolver<'_> {
    pub(super) fn clients(&mut self) -> Clients {
        Clients {
            allow: self.networks("clients.allow", parse_network),
            deny: self.networks("clients.deny", parse_network),
        }
    }

    /// An operator may want to shut everybody out, but hardly to wonder why nobody gets in.
    pub(super) fn warn_of_lost_clients(&mut self, config: &Config) {
        let Clients { allow, deny } = &config.clients;
        for (index, denied) in deny.iter().enumerate() {
            if denied.prefix_len() == 0 {
                let family = match denied {
                    IpNet::V4(_) => "IPv4",
                    IpNet::V6(_) => "IPv6",
                };
                let what = format!("{denied} is everybody: no client is served over {family}");
                let remedy = "to serve some networks only, write them to clients.allow instead";
                self.warn_of_item("clients.deny", index, what, remedy);
            }
        }
        for (index, allowed) in allow.iter().enumerate() {
            if let Some(denied) = deny.iter().find(|denied| denied.contains(allowed)) {
                let what =
                    format!("{allowed} is shut out again by clients.deny, which has {denied}");
                let remedy = "remove one of the two: clients.deny wins";
                self.warn_of_item("clients.allow", index, what, remedy);
            }
        }
    }
}
