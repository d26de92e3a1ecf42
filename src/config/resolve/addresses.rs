//! `[listen]` and `[relay]`: which of this machine's addresses clients and peers use.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::Resolver;
use crate::config::document::Item;
use crate::config::{Config, Listen, Origin, Relay, defaults, is_private};
use crate::turn::parse_network;

/// For the remedies: what to do about an address that only NAT knows.
const NAT_REMEDY: &str = "write an address that \"ip addr\" shows; if this one is the public side \
    of 1:1 NAT, write [relay] external = { \"RELAY-ADDRESS\" = \"THIS-ADDRESS\" } instead";

impl Resolver<'_> {
    pub(super) fn listen(&mut self) -> Listen {
        let has_names = matches!(self.list("tls.acme.domains"), Some(([_, ..], _)));
        let has_certificate = has_names || self.filled("tls.cert").is_some();
        let tcp = self.listeners("listen.tcp", &defaults::LISTEN);
        let tls: &[&str] = match has_certificate {
            true => &defaults::LISTEN_TLS,
            false => &[],
        };
        let tls = self.listeners("listen.tls", tls);
        if !has_certificate && let Some((items @ [_, ..], origin)) = self.list("listen.tls") {
            let what = format!("there is no certificate for {}", *items[0].text);
            let remedy = "set tls.cert and tls.key, or tls.acme.domains, or remove it";
            self.refuse(origin, "listen.tls", what, remedy);
        }
        self.refuse_in_both(&tcp);
        let udp = self.listeners("listen.udp", &defaults::LISTEN);
        let dtls = self.dtls(&udp, has_certificate);
        let listen = Listen {
            udp,
            dtls,
            strict: self.strict(&tcp, &tls),
            proxy_protocol_from: self.proxies(),
            tcp,
            tls,
            classic_stun: self.switch("listen.classic_stun", false),
        };
        let (udp, tcp) = (self.list("listen.udp"), self.list("listen.tcp"));
        if let (Some(([], origin)), Some(([], _)), [], []) =
            (udp, tcp, &listen.tls[..], &listen.dtls[..])
        {
            let remedy = "give at least one of listen.udp, listen.tcp and listen.tls an address";
            self.refuse(
                origin,
                "listen.udp",
                "there is nothing to listen on",
                remedy,
            );
        }
        listen
    }

    /// Nothing unless it is asked for by name: strangers with a cookie talk to OpenSSL there.
    fn dtls(&mut self, udp: &[SocketAddr], has_certificate: bool) -> Vec<SocketAddr> {
        let key = "listen.dtls";
        let Some((items @ [first, ..], origin)) = self.list(key) else {
            return vec![];
        };
        if !cfg!(feature = "dtls") {
            let what = "this turnstone was built without DTLS";
            self.refuse(
                origin,
                key,
                what,
                "cargo build --features dtls, or remove it",
            );
            return vec![];
        }
        if !has_certificate {
            let what = format!("there is no certificate for {}", *first.text);
            let remedy = "set tls.cert and tls.key, or tls.acme.domains, or remove it";
            self.refuse(origin, key, what, remedy);
        }
        for item in items {
            let both = |address: &SocketAddr| address.port() != 0 && udp.contains(address);
            if item.text.parse().is_ok_and(|address| both(&address)) {
                let what = format!("{} is in listen.udp too", *item.text);
                let remedy = "give DTLS a port of its own, e.g. 5349: nothing else is taken there";
                self.refuse(&item.origin, key, what, remedy);
            }
        }
        self.listeners(key, &[])
    }

    /// A port with two kinds of listeners would give each half of the clients.
    fn refuse_in_both(&mut self, tcp: &[SocketAddr]) {
        let items = self.list("listen.tls").map_or(&[][..], |(items, _)| items);
        for item in items {
            let both = |address: &SocketAddr| address.port() != 0 && tcp.contains(address);
            if item.text.parse().is_ok_and(|address| both(&address)) {
                let what = format!("{} is in listen.tcp too", *item.text);
                let remedy = "keep it in one of the two: either takes TCP and TLS";
                self.refuse(&item.origin, "listen.tls", what, remedy);
            }
        }
    }

    fn strict(&mut self, tcp: &[SocketAddr], tls: &[SocketAddr]) -> Vec<SocketAddr> {
        let key = "listen.strict";
        let mut strict = Vec::new();
        for item in self.list(key).map_or(&[][..], |(items, _)| items) {
            let address = item.text.parse().ok();
            match address.filter(|address| tcp.contains(address) || tls.contains(address)) {
                Some(address) => strict.push(address),
                None => {
                    let what = format!("{:?} is not in listen.tcp or listen.tls", *item.text);
                    let remedy = "write an address as it is written there";
                    self.refuse(&item.origin, key, what, remedy);
                }
            }
        }
        strict
    }

    fn proxies(&mut self) -> Vec<IpNet> {
        let key = "listen.proxy_protocol_from";
        let proxies = self.networks(key, parse_network);
        for (index, network) in proxies.iter().enumerate() {
            if network.prefix_len() == 0 {
                let what = format!("{network} lets everybody say that they are somebody else");
                let remedy = "write the addresses of your proxies only";
                self.warn_of_item(key, index, what, remedy);
            }
        }
        proxies
    }

    fn listeners(&mut self, key: &str, default: &[&str]) -> Vec<SocketAddr> {
        let Some((items, _)) = self.list(key) else {
            let parsed = default.iter().map(|text| {
                text.parse::<SocketAddr>()
                    .expect("the built-in listeners are addresses")
            });
            return parsed
                .filter(|address| address.is_ipv4() || self.host.ipv6)
                .collect();
        };
        let mut listeners = Vec::new();
        for item in items {
            let Ok(address) = item.text.parse::<SocketAddr>() else {
                let what = format!("{:?} is not an address with a port", *item.text);
                self.refuse(&item.origin, key, what, listener_remedy(&item.text));
                continue;
            };
            if address.port() != 0 && listeners.contains(&address) {
                let what = format!("{address} is listed twice");
                self.refuse(&item.origin, key, what, "remove one of the two");
                continue;
            }
            self.check_listener(item, key, address);
            listeners.push(address);
        }
        listeners
    }

    fn check_listener(&mut self, item: &Item, key: &str, address: SocketAddr) {
        // Link-local addresses are fit for listening when they name their interface, which only
        // the kernel can check.
        if has_scope(&address) {
            return;
        }
        if address.ip().is_unspecified() {
            if address.is_ipv6() && !self.host.ipv6 {
                let what = format!("{address} cannot be used: IPv6 is switched off");
                self.refuse(&item.origin, key, what, "remove it, or switch IPv6 on");
            }
        } else if let Some((what, remedy)) = unfit(address.ip()) {
            self.refuse(&item.origin, key, format!("{address} {what}"), remedy);
        } else if !(self.host.bindable)(address.ip()) {
            self.refuse_foreign(item, key, address.ip());
        }
    }

    pub(super) fn relay(&mut self) -> Relay {
        let addresses = self.relay_addresses();
        let relay = Relay {
            ports: self.relay_ports(),
            external: self.external(&addresses),
            dont_fragment: self.switch("relay.dont_fragment", true),
            addresses,
        };
        self.warn_of_private_addresses(&relay);
        relay
    }

    fn relay_addresses(&mut self) -> Vec<IpAddr> {
        let key = "relay.addresses";
        let Some((items, origin)) = self.list(key) else {
            return match self.host.relay_addresses() {
                [] => vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                picked => picked.to_vec(),
            };
        };
        if items.is_empty() {
            let remedy = "name an address, or leave the key out: the addresses of the default \
                routes are then used";
            self.refuse(origin, key, "is empty", remedy);
        }
        let mut addresses = Vec::new();
        for item in items {
            let Some(address) = self.address(item, key, &item.text) else {
                continue;
            };
            if addresses.contains(&address) {
                let what = format!("{address} is listed twice");
                self.refuse(&item.origin, key, what, "remove one of the two");
                continue;
            }
            if !(self.host.bindable)(address) {
                self.refuse_foreign(item, key, address);
            }
            addresses.push(address);
        }
        addresses
    }

    fn relay_ports(&mut self) -> RangeInclusive<u16> {
        let key = "relay.ports";
        let Some(item) = self.text(key) else {
            return defaults::RELAY_PORTS;
        };
        let text = item.text.as_str();
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (Ok(low), Ok(high)) = (low.trim().parse::<u16>(), high.trim().parse::<u16>()) else {
            let what = format!("{text:?} is not a range of ports");
            self.refuse(
                &item.origin,
                key,
                what,
                "write lowest-highest, e.g. \"49152-65535\"",
            );
            return defaults::RELAY_PORTS;
        };
        if low > high {
            let what = format!("{text:?} runs backwards");
            let remedy = format!("write the lower port first, e.g. \"{high}-{low}\"");
            self.refuse(&item.origin, key, what, remedy);
        } else if low < 1024 {
            let what = format!("{text:?} reaches below 1024, where system services live");
            self.refuse(
                &item.origin,
                key,
                what,
                "start at 1024 or above, e.g. \"49152-65535\"",
            );
        }
        low..=high
    }

    fn external(&mut self, relays: &[IpAddr]) -> Vec<(IpAddr, IpAddr)> {
        let key = "relay.external";
        let mut pairs: Vec<(IpAddr, IpAddr)> = Vec::new();
        for (name, item) in self.map(key) {
            // Both are looked at before either stops it.
            let named = name.as_ref().map(|name| self.address(item, key, name));
            let Some(outside) = self.address(item, key, &item.text) else {
                continue;
            };
            let inside = named.unwrap_or_else(|| self.only_relay_like(outside, relays, item));
            let Some(inside) = inside else { continue };
            if inside.is_ipv4() != outside.is_ipv4() {
                let what = format!("{inside} and {outside} are of different families");
                let remedy = "map IPv4 to IPv4 and IPv6 to IPv6";
                self.refuse(&item.origin, key, what, remedy);
            } else if pairs.iter().any(|(known, _)| *known == inside) {
                let what = format!("{inside} has two external addresses");
                self.refuse(&item.origin, key, what, "keep one of them");
            } else if let Some((known, _)) = pairs.iter().find(|pair| pair.1 == outside) {
                let what = format!("{outside} is already the external address of {known}");
                let remedy = "give every relay address an external address of its own";
                self.refuse(&item.origin, key, what, remedy);
            } else if outside != inside && relays.contains(&outside) {
                let what = format!("{outside} is a relay address itself");
                let remedy = "map to an address that this machine does not relay from";
                self.refuse(&item.origin, key, what, remedy);
            } else {
                self.check_is_relay(inside, outside, relays, item);
                pairs.push((inside, outside));
            }
        }
        pairs
    }

    /// `--external-address 203.0.113.10`, without the relay address that it belongs to.
    fn only_relay_like(
        &mut self,
        outside: IpAddr,
        relays: &[IpAddr],
        item: &Item,
    ) -> Option<IpAddr> {
        let mut alike = relays
            .iter()
            .filter(|relay| relay.is_ipv4() == outside.is_ipv4());
        if let (Some(only), None) = (alike.next(), alike.next()) {
            return Some(*only);
        }
        let what = format!("{outside} does not say which relay address it stands for");
        let remedy = format!(
            "write RELAY-ADDRESS={outside}; relay addresses: {}",
            join(relays)
        );
        self.refuse(&item.origin, "relay.external", what, remedy);
        if self.list("relay.addresses").is_none() {
            self.last_may_pass();
        }
        None
    }

    fn check_is_relay(&mut self, inside: IpAddr, outside: IpAddr, relays: &[IpAddr], item: &Item) {
        let key = "relay.external";
        if relays.contains(&inside) {
            return;
        }
        let what = format!(
            "{inside} is not one of the relay addresses ({})",
            join(relays)
        );
        if self.list("relay.addresses").is_some() {
            let remedy =
                format!("add {inside} to relay.addresses, or write one of those as the key");
            self.refuse(&item.origin, key, what, remedy);
        } else {
            // The picked addresses change with the host's routes, so this is no reason not to start.
            let remedy = format!("set relay.addresses, or clients are never told {outside}");
            self.warn(&item.origin, key, what, remedy);
        }
    }

    /// An address that something can be sent from and to.
    fn address(&mut self, item: &Item, key: &str, text: &str) -> Option<IpAddr> {
        let Ok(address) = text.parse::<IpAddr>() else {
            let remedy = match text.parse::<SocketAddr>() {
                Ok(with_port) => format!("write it without the port: \"{}\"", with_port.ip()),
                Err(_) => "write an IP address such as \"203.0.113.10\"; names are not looked up"
                    .to_owned(),
            };
            self.refuse(
                &item.origin,
                key,
                format!("{text:?} is not an IP address"),
                remedy,
            );
            return None;
        };
        if let Some((what, remedy)) = unfit(address) {
            self.refuse(&item.origin, key, format!("{address} {what}"), remedy);
            return None;
        }
        Some(address)
    }

    fn refuse_foreign(&mut self, item: &Item, key: &str, address: IpAddr) {
        let what = format!("{address} is not an address of this machine");
        self.refuse(&item.origin, key, what, NAT_REMEDY);
        self.last_may_pass();
    }

    /// An address may come later, with a link or a router's advertisement.
    fn last_may_pass(&mut self) {
        if let Some(problem) = self.problems.last_mut() {
            problem.may_pass = true;
        }
    }

    fn warn_of_private_addresses(&mut self, relay: &Relay) {
        let told = relay.addresses.iter().copied();
        let (loopback, hidden): (Vec<_>, Vec<_>) = told
            .filter(|a| is_private(relay.advertised(*a)))
            .partition(|a| relay.advertised(*a).is_loopback());
        let origin = self
            .list("relay.addresses")
            .map_or(&Origin::Default, |(_, origin)| origin);
        if !loopback.is_empty() {
            let (addresses, key) = (join(&loopback), "relay.addresses");
            let what = match origin {
                Origin::Default => format!(
                    "this machine has no address but loopback: relaying from {addresses}, which \
                     nobody else can reach"
                ),
                _ => format!("nobody but this machine can reach {addresses}"),
            };
            let remedy = "connect the machine to a network, or name an address of one; for tests \
                on one machine set peers.allow_loopback = true";
            self.warn(origin, key, what, remedy);
        }
        let Some(first) = hidden.first() else { return };
        let what = format!(
            "clients would be told a private relay address ({}), which nobody outside this network \
             can reach",
            join(&hidden)
        );
        let remedy = format!(
            "if this machine has a public address by 1:1 NAT, set [relay] external = {{ \"{first}\" \
             = \"PUBLIC-ADDRESS\" }} or --external-address PUBLIC-ADDRESS; if not, name the public \
             ones only in relay.addresses"
        );
        self.warn(origin, "relay.addresses", what, remedy);
    }

    /// Such a port can never be a relayed one, which is odd but harms nobody.
    pub(super) fn warn_of_listeners_among_relay_ports(&mut self, config: &Config) {
        let listeners = config.listen.udp.iter().map(SocketAddr::port);
        let inside: HashSet<u16> = listeners
            .filter(|p| config.relay.ports.contains(p))
            .collect();
        for port in inside {
            let origin = self
                .list("listen.udp")
                .map_or(&Origin::Default, |(_, origin)| origin);
            let what = format!("port {port} is also in relay.ports");
            self.warn(
                origin,
                "listen.udp",
                what,
                "listen elsewhere or narrow relay.ports",
            );
        }
    }
}

/// Why no socket of ours can use this address.
fn unfit(address: IpAddr) -> Option<(&'static str, &'static str)> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let link_local = match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() {
        Some(("means any address", "write the concrete one"))
    } else if address.is_multicast() || address == Ipv4Addr::BROADCAST {
        Some((
            "is not a unicast address",
            "write an address of one machine",
        ))
    } else if mapped {
        Some(("is IPv4 in disguise", "write it as IPv4, without ::ffff:"))
    } else if link_local {
        Some((
            "is link-local, valid on one wire only",
            "write a global address",
        ))
    } else {
        None
    }
}

/// Whether the address names its interface, as link-local ones must: `[fe80::1%2]:3478`.
fn has_scope(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.scope_id() != 0)
}

fn listener_remedy(text: &str) -> String {
    match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => {
            let with_port = format!("add the port: \"{}\"", SocketAddr::new(ip, 3478));
            match without_brackets(text) {
                Some(meant) => {
                    format!("write the IPv6 address in brackets: \"{meant}\"; or {with_port}")
                }
                None => with_port,
            }
        }
        Err(_) if let Some(meant) = without_brackets(text) => {
            format!("write the IPv6 address in brackets: \"{meant}\"")
        }
        Err(_) if text.parse::<u16>().is_ok() => {
            format!("add the address: \"0.0.0.0:{text}\" and \"[::]:{text}\"")
        }
        Err(_) => "write address:port, e.g. \"0.0.0.0:3478\" or \"[::]:3478\"".to_owned(),
    }
}

/// What `::1:3478` may stand for.
fn without_brackets(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let ip: Ipv6Addr = ip.parse().ok()?;
    Some(SocketAddr::new(ip.into(), port.parse().ok()?))
}

fn join(addresses: &[IpAddr]) -> String {
    addresses
        .iter()
        .map(IpAddr::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
