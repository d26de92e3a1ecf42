//! The networks whose packets the kernel takes for its own, asked of it by netlink (rtnetlink(7)).
//!
//! That is more than the addresses of the interfaces: broadcast and anycast addresses, and prefixes
//! that are routed to this machine as a whole. They change while a server runs: addresses are
//! leased, moved by keepalived, or renewed for privacy.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// The table of local routes (rtnetlink(7)).
const RT_TABLE_LOCAL: u8 = 255;

/// Bytes of one answer at most: the kernel fills up to 32 KiB.
const ANSWER_MAX: usize = 64 * 1024;

/// Networks that are kept at most. A machine with more is told so, and has the first ones.
const NETWORKS_MAX: usize = 4096;

/// The kernel's table of local routes. It stays open, because who gives up its rights may not open
/// it again.
#[derive(Debug)]
pub struct LocalRoutes {
    socket: Socket,
    sequence: u32,
}

/// A local network, and whether one of its addresses is to be had by a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LocalNetwork {
    /// Which it is.
    pub network: IpNet,
    /// Whether it is this machine's own unicast, rather than broadcast or anycast.
    pub is_unicast: bool,
}

impl LocalRoutes {
    /// Opens the way to ask.
    ///
    /// # Errors
    /// If the system does not let this process.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// What is local now: sorted, without loopback, link-local and multicast networks, which have
    /// rules of their own.
    ///
    /// # Errors
    /// If the kernel does not answer, or not in a way that is understood.
    pub fn read(&mut self) -> io::Result<Vec<LocalNetwork>> {
        let mut networks = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            self.ask(family)?;
            self.receive(&mut networks)?;
        }
        networks.sort_unstable();
        networks.dedup();
        Ok(networks)
    }

    fn ask(&mut self, family: AddressFamily) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.sequence_number = self.sequence;
        let mut route = RouteMessage::default();
        route.header.address_family = family;
        route.header.table = RT_TABLE_LOCAL;
        let payload = NetlinkPayload::from(RouteNetlinkMessage::GetRoute(route));
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(drop)
    }

    /// Takes the answer's parts until the last one.
    fn receive(&self, networks: &mut Vec<LocalNetwork>) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(ANSWER_MAX);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            let mut rest = &buffer[..];
            while !rest.is_empty() {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let len = (message.header.length as usize).next_multiple_of(4);
                rest = rest.get(len..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route))
                        if networks.len() < NETWORKS_MAX =>
                    {
                        networks.extend(local_network(&route));
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What a route of the local table says, unless it is about what has rules of its own.
fn local_network(route: &RouteMessage) -> Option<LocalNetwork> {
    if route.header.table != RT_TABLE_LOCAL {
        return None;
    }
    let is_unicast = match route.header.kind {
        RouteType::Local => true,
        RouteType::Broadcast | RouteType::Anycast => false,
        _ => return None,
    };
    let destination = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        })?;
    let network = IpNet::new(destination, route.header.destination_prefix_length).ok()?;
    let has_rules = destination.is_loopback()
        || destination.is_multicast()
        || match destination {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
    (!has_rules).then_some(LocalNetwork {
        network,
        is_unicast,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(kind: RouteType, destination: &str, len: u8) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.table = RT_TABLE_LOCAL;
        route.header.kind = kind;
        route.header.destination_prefix_length = len;
        let destination = match destination.parse().unwrap() {
            IpAddr::V4(ip) => RouteAddress::Inet(ip),
            IpAddr::V6(ip) => RouteAddress::Inet6(ip),
        };
        route
            .attributes
            .push(RouteAttribute::Destination(destination));
        route
    }

    #[test]
    fn what_is_local() {
        let read = |kind, destination, len| {
            local_network(&route(kind, destination, len))
                .map(|it| (it.network.to_string(), it.is_unicast))
        };
        for (kind, destination, len, expected) in [
            (RouteType::Local, "10.0.0.5", 32, ("10.0.0.5/32", true)),
            (
                RouteType::Broadcast,
                "10.0.0.255",
                32,
                ("10.0.0.255/32", false),
            ),
            (
                RouteType::Local,
                "198.51.100.0",
                24,
                ("198.51.100.0/24", true),
            ),
            (
                RouteType::Anycast,
                "2001:db8::",
                128,
                ("2001:db8::/128", false),
            ),
            (
                RouteType::Local,
                "2001:db8:1::",
                64,
                ("2001:db8:1::/64", true),
            ),
        ] {
            let expected = (expected.0.to_owned(), expected.1);
            assert_eq!(read(kind, destination, len), Some(expected));
        }
        for (kind, destination, len) in [
            (RouteType::Local, "127.0.0.0", 8),
            (RouteType::Local, "::1", 128),
            (RouteType::Local, "fe80::1", 128),
            (RouteType::Anycast, "fe80::", 128),
            (RouteType::Multicast, "ff00::", 8),
            (RouteType::Unicast, "10.0.0.0", 24),
        ] {
            assert_eq!(read(kind, destination, len), None, "{destination}");
        }
        let mut other = route(RouteType::Local, "10.0.0.5", 32);
        other.header.table = RT_TABLE_LOCAL - 1;
        assert_eq!(local_network(&other), None);
    }

    /// The kernel answers, more than once, and what it says is true of sockets.
    #[test]
    fn the_kernel_is_asked() {
        let mut routes = LocalRoutes::open().unwrap();
        let networks = routes.read().unwrap();
        assert_eq!(routes.read().unwrap(), networks);
        for local in networks.iter().filter(|it| it.is_unicast) {
            let bound = std::net::UdpSocket::bind((local.network.addr(), 0));
            assert!(bound.is_ok(), "{local:?}");
        }
    }
}
