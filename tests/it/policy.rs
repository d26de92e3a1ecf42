//! Who may be a peer and who may be a client, over every transport and kind of allocation.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::harness::attribute as a;
use crate::harness::{Client, DEADLINE, Packet, Peer, TestServer, Via, method};

/// Addresses that are no peers, whatever form they take.
const NO_PEERS: [&str; 40] = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.192",
    "192.168.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::7f00:1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "4000::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::a9fe:a9fe",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
];

/// What an allocation is asked to have: IPv4, IPv6 or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    V4,
    V6,
    Dual,
}

impl Kind {
    const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Dual];

    fn add_to(self, packet: Packet) -> Packet {
        match self {
            Self::V4 => packet.attr(a::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]),
            Self::V6 => packet.attr(a::REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0]),
            Self::Dual => packet.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]),
        }
    }

    fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Dual => true,
        }
    }
}

/// A socket that hears what is sent to its port on any address of this host, of either family.
fn witness() -> Peer {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    Peer { socket }
}

/// SEC-01, SEC-02, SEC-03, SEC-04, SEC-05, SEC-06, PERM-05, PERM-08, PERM-13: no door opens, and
/// nothing leaves or enters.
#[test]
fn no_door_opens_for_what_is_no_peer() {
    let server = TestServer::with(|setup| setup.peers.allow_loopback = false);
    let witness = witness();
    let port = witness.address().port();
    for via in Via::ALL {
        for kind in Kind::ALL {
            let mut client = Client::new(&server, via);
            let reply = client.try_allocate(|packet| kind.add_to(packet));
            assert_eq!(reply.code(), 0);
            let relayed = reply.addresses(a::XOR_RELAYED_ADDRESS);
            for text in NO_PEERS {
                let ip: IpAddr = text.parse().unwrap();
                let peer = SocketAddr::new(ip, port);
                let good = if ip.is_ipv4() {
                    "9.9.9.9:9".parse().unwrap()
                } else {
                    "[2606:4700::1]:9".parse().unwrap()
                };
                let is_mapped = ip.to_canonical() != ip;
                let codes = [
                    client.try_permit(&[peer]).code(),
                    client.try_permit(&[good, good, peer]).code(),
                    client.try_bind(0x4000, peer).code(),
                ];
                for code in codes {
                    match code {
                        443 => assert!(!kind.has(ip) || is_mapped, "{peer} {kind:?}"),
                        code => assert!(code == 403 && kind.has(ip), "{peer} {kind:?}: {code}"),
                    }
                }
                client.send_data(peer, b"blocked");
                client.send_channel(0x4000, b"blocked");
                client.send_data(good, b"blocked: one of three was no peer");
            }
            for relayed in relayed {
                let from = Peer::on(if relayed.is_ipv4() {
                    Ipv4Addr::LOCALHOST.into()
                } else {
                    Ipv6Addr::LOCALHOST.into()
                });
                from.send(b"blocked", relayed);
            }
            client.expect_nothing();
            client.delete();
        }
    }
    let marker = Peer::new();
    marker.send(b"marker", SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    assert_eq!(witness.recv().0, b"marker");
}

/// ACL-02, SEC-01
#[test]
fn a_rule_with_a_port_closes_that_port_alone() {
    let (open, closed) = (Peer::new(), Peer::new());
    let server = TestServer::with(|setup| {
        setup.peers.deny = vec![closed.address().to_string().parse().unwrap()];
    });
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(closed.address());
        assert_eq!(client.try_bind(0x4001, closed.address()).code(), 403);
        client.send_data(closed.address(), b"blocked");
        client.send_channel(0x4001, b"blocked");
        closed.send(b"blocked", relayed);
        open.send(b"marker", relayed);
        client.expect_data(open.address(), b"marker");
        client.bind(0x4000, open.address());
        client.send_channel(0x4000, b"marker");
        open.expect(b"marker", relayed);
        client.delete();
    }
    open.send(b"marker", closed.address());
    closed.expect(b"marker", open.address());
}

/// SEC-07: behind 1:1 NAT the server is not reached by the address that the outside knows, even
/// where that address is opened.
#[test]
fn a_listener_is_no_peer_by_its_external_address() {
    let external = Ipv4Addr::new(203, 0, 113, 77);
    let server = TestServer::with(|setup| {
        let IpAddr::V4(bound) = setup.relay[0].bound else {
            panic!("the first relay address is IPv4");
        };
        setup.udp = vec![SocketAddr::from((bound, 0))];
        setup.peers.allow_loopback = false;
        setup.peers.allow = vec!["203.0.113.77".parse().unwrap()];
        setup.advertise(external);
    });
    let service = Peer::on(server.relay[0].bound);
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    assert_eq!(relayed.ip(), IpAddr::from(external));
    let outside = |port| SocketAddr::from((external, port));
    let listener = outside(server.udp().port());
    client.permit(listener);
    assert_eq!(client.try_bind(0x4000, listener).code(), 403);
    client.send_data(listener, Packet::binding().bytes());
    client.expect_nothing();
    // What the operator opened by name is open.
    client.bind(0x4000, outside(service.address().port()));
    client.send_channel(0x4000, b"opened");
    assert_eq!(service.recv().0, b"opened");
}

/// ACL-01: no answer over UDP and none over TCP, also where an IPv6 socket takes IPv4 clients.
#[test]
fn clients_that_are_not_served_get_nothing() {
    for is_allow_list in [false, true] {
        let server = TestServer::with(|setup| {
            let everywhere = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))];
            (setup.udp, setup.tcp) = (everywhere.clone(), everywhere);
            if is_allow_list {
                setup.clients.allow = vec!["::1/128".parse().unwrap()];
            } else {
                setup.clients.deny = vec!["127.0.0.0/8".parse().unwrap()];
            }
        });
        let [udp, tcp] = [server.udp().port(), server.tcp().port()];
        let mut refused = Client::udp_to(SocketAddr::from((Ipv4Addr::LOCALHOST, udp)));
        for method in [method::BINDING, method::ALLOCATE, method::REFRESH] {
            refused.send(Packet::request(method).bytes());
        }
        let mut connection = Client::tcp_to(SocketAddr::from((Ipv4Addr::LOCALHOST, tcp)));
        assert_eq!(connection.expect_close(), b"");
        // Its answer is proof that the server has seen what came before.
        let mut served = Client::udp_to(SocketAddr::from((Ipv6Addr::LOCALHOST, udp)));
        served.allocate();
        Client::tcp_to(SocketAddr::from((Ipv6Addr::LOCALHOST, tcp))).allocate();
        refused.socket().set_nonblocking(true).unwrap();
        let heard = refused.socket().recv_from(&mut [0; 1500]);
        assert_eq!(heard.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}
