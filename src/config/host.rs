//! What the configuration needs to know about this machine: its addresses and its CPUs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZero;

use crate::process;

/// Facts about the machine, found out once, so that resolving a configuration is a pure function
/// of its sources and these.
#[derive(Clone, Debug)]
pub struct Host {
    /// The source addresses of the default routes: IPv4 first, at most one a family.
    pub route_sources: Vec<IpAddr>,
    /// The other addresses of the interfaces, without loopback and link-local ones.
    pub interface_addresses: Vec<IpAddr>,
    /// Whether IPv6 sockets can be made at all; containers often have them switched off.
    pub ipv6: bool,
    /// How many CPUs this process may use, by affinity and cgroup.
    pub cpus: usize,
    /// Whether a socket can be bound to an address.
    pub bindable: fn(IpAddr) -> bool,
    /// Whether there is a user of this name or number.
    pub has_user: fn(&str) -> bool,
}

impl Host {
    /// Looks at the machine. Sends nothing.
    pub fn probe() -> Self {
        let route_sources: Vec<IpAddr> = [
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
        .collect();
        Self {
            route_sources,
            interface_addresses: interface_addresses(),
            ipv6: bindable(IpAddr::from(Ipv6Addr::UNSPECIFIED)),
            cpus: std::thread::available_parallelism().map_or(1, NonZero::get),
            bindable,
            has_user: process::is_user,
        }
    }

    /// For commands that only read a configuration, possibly another machine's: any address and
    /// any user counts as this machine's.
    #[must_use]
    pub fn of_any_machine(mut self) -> Self {
        self.bindable = |_| true;
        self.has_user = |_| true;
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

/// Read from `/proc`: the standard library cannot list interfaces, and this is only the fallback
/// of a machine without a default route. Below `self`, because a hardened unit sees no more.
fn interface_addresses() -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    let v4 = fs::read_to_string("/proc/self/net/fib_trie").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    let all = local_ipv4(&v4)
        .map(IpAddr::V4)
        .chain(local_ipv6(&v6).map(IpAddr::V6));
    for address in all.filter(|address| is_usable(*address)) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The addresses of the kernel's routing trie that are marked as this machine's own:
/// ```text
///            |-- 10.0.0.5
///               /32 host LOCAL
/// ```
fn local_ipv4(trie: &str) -> impl Iterator<Item = Ipv4Addr> {
    trie.lines()
        .zip(trie.lines().skip(1))
        .filter_map(|(leaf, kind)| {
            let address = leaf.trim_start().strip_prefix("|-- ")?;
            (kind.trim() == "/32 host LOCAL").then(|| address.parse().ok())?
        })
}

/// The first column of each line is an address in 32 hexadecimal digits.
fn local_ipv6(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    table.lines().filter_map(|line| {
        let digits = line.split_whitespace().next()?;
        (digits.len() == 32).then(|| u128::from_str_radix(digits, 16).ok().map(Ipv6Addr::from))?
    })
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
    fn reads_own_addresses_from_the_kernel() {
        let trie = "Local:\n  +-- 10.0.0.0/24 2 0 2\n     |-- 10.0.0.0\n        /24 link UNICAST\n     \
                    |-- 10.0.0.5\n        /32 host LOCAL\n";
        assert_eq!(
            local_ipv4(trie).collect::<Vec<_>>(),
            [Ipv4Addr::new(10, 0, 0, 5)]
        );
        let table = "20010db8000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(
            local_ipv6(table).collect::<Vec<_>>(),
            ["2001:db8::1".parse::<Ipv6Addr>().unwrap()]
        );
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
