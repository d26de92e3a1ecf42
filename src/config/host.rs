//! What the configuration needs to know about this machine: its addresses and its CPUs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZero;

use ipnet::IpNet;

use super::local_networks::{LocalNetwork, LocalRoutes};
use crate::process;

/// Facts about the machine, found out once, so that resolving a configuration is a pure function
/// of its sources and these.
#[derive(Clone, Debug)]
pub struct Host {
    /// The source addresses of the default routes: IPv4 first, at most one a family.
    pub route_sources: Vec<IpAddr>,
    /// The unicast addresses of the interfaces, without loopback and link-local ones.
    pub interface_addresses: Vec<IpAddr>,
    /// The networks whose packets this machine takes for its own, those addresses among them.
    pub local_networks: Vec<IpNet>,
    /// Why these are not known, if they are not.
    pub unknown_networks: Option<String>,
    /// Whether IPv6 sockets can be made at all; containers often have them switched off.
    pub ipv6: bool,
    /// How many CPUs this process may use, by affinity and cgroup.
    pub cpus: usize,
    /// Whether a socket can be bound to an address.
    pub bindable: fn(IpAddr) -> bool,
    /// Whether there is a user of this name or number.
    pub has_user: fn(&str) -> bool,
    /// Whether the configuration may be for another machine than this one, where certificates are
    /// that are not here, or not for whoever asks.
    pub is_elsewhere: bool,
}

impl Host {
    /// Looks at the machine. Sends nothing.
    pub fn probe() -> Self {
        let local = LocalRoutes::open().and_then(|mut routes| routes.read());
        let (local, unknown_networks) = match local {
            Ok(local) => (local, None),
            Err(error) => (vec![], Some(error.to_string())),
        };
        Self {
            route_sources: route_sources(),
            interface_addresses: interface_addresses(&local),
            local_networks: local.iter().map(|it| it.network).collect(),
            unknown_networks,
            ipv6: bindable(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            cpus: std::thread::available_parallelism().map_or(1, NonZero::get),
            bindable,
            has_user: process::is_user,
            is_elsewhere: false,
        }
    }

    /// The same machine later, looked at by a process that opens no files any more: what took files
    /// to find out stays as it was. So do the routes while there are none.
    #[must_use]
    pub fn again(&self) -> Self {
        let mut again = self.clone();
        let route_sources = route_sources();
        if !route_sources.is_empty() {
            again.route_sources = route_sources;
        }
        again.has_user = |_| true;
        again
    }

    /// For commands that only read a configuration, possibly another machine's: any address and
    /// any user counts as this machine's.
    #[must_use]
    pub fn of_any_machine(mut self) -> Self {
        self.bindable = |_| true;
        self.has_user = |_| true;
        self.is_elsewhere = true;
        self
    }

    /// The addresses to relay from when the configuration names none, best first; empty when the
    /// machine has loopback only.
    pub fn relay_addresses(&self) -> &[IpAddr] {
        if self.route_sources.is_empty() {
            &self.interface_addresses
        } else {
            &self.route_sources
        }
    }
}

/// Whether peers and clients elsewhere on the Internet cannot reach this address.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            // 100.64.0.0/10 is carrier-grade NAT (RFC 6598).
            let carrier_grade = a == 100 && b & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || carrier_grade
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

/// The addresses that packets to the Internet leave from.
fn route_sources() -> Vec<IpAddr> {
    [
        // Any public addresses do: connecting a UDP socket only consults the routes.
        (
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::from([8, 8, 8, 8]),
        ),
        (
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            IpAddr::from([0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888]),
        ),
    ]
    .into_iter()
    .filter_map(|(any, target)| source_towards(any, target))
    .filter(|address| is_usable(*address))
    .collect()
}

/// The local address the kernel would send from to reach `target`.
fn source_towards(any: IpAddr, target: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(SocketAddr::new(target, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn bindable(address: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// Loopback and link-local addresses are never picked unasked.
fn is_usable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(link_local || address.is_loopback() || address.is_unspecified())
}

/// The unicast addresses of this machine that one might relay from.
fn interface_addresses(networks: &[LocalNetwork]) -> Vec<IpAddr> {
    let hosts = networks
        .iter()
        .filter(|it| it.is_unicast && it.network.prefix_len() == it.network.max_prefix_len());
    let addresses = hosts.map(|it| it.network.addr());
    addresses.filter(|address| is_usable(*address)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_private_addresses() {
        for private in [
            "10.0.0.5",
            "192.168.1.1",
            "172.31.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "fd00::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["203.0.113.10", "100.128.0.1", "172.32.0.1", "2001:db8::1"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn interface_addresses_are_single_and_unicast() {
        let local = |network: &str, is_unicast| LocalNetwork {
            network: network.parse().unwrap(),
            is_unicast,
        };
        let networks = [
            local("10.0.0.5/32", true),
            local("10.0.0.255/32", false),
            local("198.51.100.0/24", true),
            local("2001:db8::/128", false),
            local("2001:db8::5/128", true),
        ];
        let expected: [IpAddr; 2] = ["10.0.0.5", "2001:db8::5"].map(|ip| ip.parse().unwrap());
        assert_eq!(interface_addresses(&networks), expected);
    }

    #[test]
    fn never_picks_loopback_or_link_local() {
        let host = Host::probe();
        for address in host.relay_addresses() {
            assert!(is_usable(*address), "{address}");
        }
        assert!(host.cpus >= 1);
    }
}
