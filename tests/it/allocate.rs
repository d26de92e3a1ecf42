//! Allocate (RFC 8656 §7.2).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::harness::attribute as a;
use crate::harness::{
    Client, Message, Packet, Peer, Setup, TestServer, Via, eventually, method, own_ipv4,
};

const V4: [u8; 4] = [1, 0, 0, 0];
const V6: [u8; 4] = [2, 0, 0, 0];

fn only_ipv4(setup: &mut Setup) {
    setup.relay.truncate(1);
}

/// A relay range of `count` ports that starts with an even one, on an address of its own.
fn ipv4_ports(count: u16) -> impl Fn(&mut Setup) {
    move |setup| {
        only_ipv4(setup);
        setup.ports = 20_000..=20_000 + count - 1;
    }
}

fn allocate_with(server: &TestServer, add: impl FnOnce(Packet) -> Packet) -> Message {
    Client::udp(server).try_allocate(add)
}

fn relayed(reply: &Message) -> SocketAddr {
    assert_eq!(reply.code(), 0);
    reply.address(a::XOR_RELAYED_ADDRESS)
}

/// ALLOC-01, ALLOC-19
#[test]
fn success_has_both_addresses_and_the_lifetime() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        let reply = client.try_allocate(|packet| packet);
        let relayed = relayed(&reply);
        assert_eq!(relayed.ip(), server.relay[0].bound);
        assert!(server.ports.contains(&relayed.port()));
        assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
        assert_eq!(reply.lifetime(), 600);
        assert!(!reply.has(a::RESERVATION_TOKEN) && !reply.has(a::ADDRESS_ERROR_CODE));
    }
}

/// ALLOC-03
#[test]
fn requested_transport_has_four_bytes() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    assert_eq!(
        client.request(Packet::request(method::ALLOCATE)).code(),
        400
    );
    for len in [0, 3, 5, 8] {
        let packet = Packet::request(method::ALLOCATE);
        let packet = packet.attr(a::REQUESTED_TRANSPORT, &vec![17; len]);
        assert_eq!(client.request(packet).code(), 400, "{len} bytes");
    }
    let packet = Packet::request(method::ALLOCATE);
    let packet = packet.attr(a::REQUESTED_TRANSPORT, &[17, 0xFF, 0xFF, 0xFF]);
    assert_eq!(
        client.request(packet).code(),
        0,
        "the reserved bytes mean nothing"
    );
}

/// ALLOC-04, ALLOC-05: TCP relaying is not built.
#[test]
fn other_transports_are_not_relayed() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        for protocol in [0, 1, 6, 16, 18, 58, 132, 255] {
            let packet = Packet::request(method::ALLOCATE);
            let packet = packet.attr(a::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0]);
            let code = match (client.is_dtls(), protocol) {
                // RFC 7350 §4.6
                (true, 6) => 400,
                _ => 442,
            };
            assert_eq!(client.request(packet).code(), code, "{protocol}");
        }
        client.allocate();
    }
}

/// ALLOC-07
#[test]
fn dont_fragment_is_known_or_unknown() {
    let dont_fragment = |packet: Packet| packet.attr(a::DONT_FRAGMENT, b"");
    let server = TestServer::start();
    assert_eq!(allocate_with(&server, dont_fragment).code(), 0);
    let server = TestServer::with(|setup| setup.dont_fragment = false);
    let reply = allocate_with(&server, dont_fragment);
    assert_eq!(
        (reply.code(), reply.unknown()),
        (420, vec![a::DONT_FRAGMENT])
    );
}

/// ALLOC-08, ALLOC-10, ALLOC-16
#[test]
fn attributes_that_exclude_each_other_are_a_bad_request() {
    let server = TestServer::start();
    let token = |p: Packet| p.attr(a::RESERVATION_TOKEN, b"12345678");
    let even = |p: Packet| p.attr(a::EVEN_PORT, &[0x80]);
    let requested = |p: Packet| p.attr(a::REQUESTED_ADDRESS_FAMILY, &V6);
    let additional = |p: Packet| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &V6);
    let cases: [&dyn Fn(Packet) -> Packet; 5] = [
        &|p| even(token(p)),
        &|p| requested(token(p)),
        &|p| additional(token(p)),
        &|p| additional(requested(p)),
        &|p| additional(even(p)),
    ];
    for add in cases {
        assert_eq!(allocate_with(&server, add).code(), 400);
    }
}

/// ALLOC-09, ALLOC-11, ALLOC-16, ALLOC-18
#[test]
fn attributes_of_another_length_are_a_bad_request() {
    let server = TestServer::start();
    let cases = [
        (a::RESERVATION_TOKEN, 8),
        (a::REQUESTED_ADDRESS_FAMILY, 4),
        (a::ADDITIONAL_ADDRESS_FAMILY, 4),
        (a::EVEN_PORT, 1),
        (a::LIFETIME, 4),
    ];
    for (number, right) in cases {
        for len in (0..=9).filter(|&len| len != right) {
            let reply = allocate_with(&server, |p| p.attr(number, &vec![1; len]));
            assert_eq!(reply.code(), 400, "{number:04x} of {len} bytes");
        }
    }
    assert_eq!(server.live_ports(), 0);
}

/// ALLOC-11, ALLOC-12
#[test]
fn the_family_is_ipv4_unless_another_is_asked_for() {
    let server = TestServer::start();
    let family = |value: [u8; 4]| move |p: Packet| p.attr(a::REQUESTED_ADDRESS_FAMILY, &value);
    for via in Via::ALL {
        assert!(Client::new(&server, via).allocate().is_ipv4());
        let mut client = Client::new(&server, via);
        assert!(relayed(&client.try_allocate(family(V6))).is_ipv6());
        let mut client = Client::new(&server, via);
        assert!(relayed(&client.try_allocate(family([1, 9, 9, 9]))).is_ipv4());
    }
    for unknown in [0, 3, 255] {
        assert_eq!(
            allocate_with(&server, family([unknown, 0, 0, 0])).code(),
            440
        );
    }
    let server = TestServer::with(only_ipv4);
    assert_eq!(allocate_with(&server, family(V6)).code(), 440);
    let server = TestServer::with(|setup| setup.relay = vec![setup.relay[1]]);
    assert_eq!(allocate_with(&server, |p| p).code(), 440);
    assert!(relayed(&allocate_with(&server, family(V6))).is_ipv6());
}

/// ALLOC-13
#[test]
fn an_even_port_reserves_nothing() {
    let server = TestServer::with(|setup| {
        ipv4_ports(10)(setup);
        setup.limits.port_rest_s = 0;
    });
    let mut ports = HashSet::new();
    let even = |value: u8| move |p: Packet| p.attr(a::EVEN_PORT, &[value]);
    let mut clients: Vec<Client> = (0..6).map(|_| Client::udp(&server)).collect();
    for (client, bits) in clients[..5].iter_mut().zip([0, 0x7F, 1, 0x40, 0]) {
        let reply = client.try_allocate(even(bits));
        assert_eq!(relayed(&reply).port() % 2, 0);
        assert!(!reply.has(a::RESERVATION_TOKEN), "only the first bit is R");
        ports.insert(relayed(&reply).port());
    }
    assert_eq!(ports.len(), 5);
    assert_eq!(
        clients[5].try_allocate(even(0)).code(),
        508,
        "no even port is left"
    );
    assert_eq!(clients[5].allocate().port() % 2, 1);
    assert_eq!(server.live_ports(), 6);
}

/// ALLOC-14, ALLOC-15, ALLOC-09: the port above, for the same user, once, from anywhere.
#[test]
fn a_reserved_port_is_had_with_its_token() {
    let server = TestServer::with(ipv4_ports(2));
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(|p| p.attr(a::EVEN_PORT, &[0x80]));
    let even = relayed(&reply);
    assert_eq!(even.port(), 20_000);
    let token = reply.get(a::RESERVATION_TOKEN).unwrap().to_vec();
    assert_eq!(token.len(), 8);
    assert_eq!(
        allocate_with(&server, |p| p).code(),
        508,
        "the port is held"
    );

    let with_token = |p: Packet| p.attr(a::RESERVATION_TOKEN, &token);
    let mut bob = Client::udp(&server).with_user("bob", "builder");
    assert_eq!(
        bob.try_allocate(with_token).code(),
        508,
        "another user's token"
    );
    let mut second = Client::tcp(&server);
    assert_eq!(relayed(&second.try_allocate(with_token)).port(), 20_001);
    assert_eq!(
        allocate_with(&server, with_token).code(),
        508,
        "a used token"
    );

    let peer = Peer::new();
    for (client, port) in [(&mut client, 20_000), (&mut second, 20_001)] {
        client.permit(peer.address());
        client.send_data(peer.address(), b"from both");
        peer.expect(b"from both", (even.ip(), port).into());
    }
}

/// ALLOC-16: no two free ports in a row.
#[test]
fn no_pair_no_reservation() {
    let server = TestServer::with(ipv4_ports(3));
    let mut first = Client::udp(&server);
    let pair = |p: Packet| p.attr(a::EVEN_PORT, &[0x80]);
    assert_eq!(relayed(&first.try_allocate(pair)).port(), 20_000);
    assert_eq!(allocate_with(&server, pair).code(), 508);
    assert_eq!(server.live_ports(), 2, "the failure took nothing");
    assert_eq!(relayed(&allocate_with(&server, |p| p)).port(), 20_002);
}

/// ALLOC-15, SEC-13
#[test]
fn tokens_are_not_alike() {
    let server = TestServer::with(only_ipv4);
    let mut tokens = HashSet::new();
    for _ in 0..30 {
        let mut client = Client::udp(&server);
        let reply = client.try_allocate(|p| p.attr(a::EVEN_PORT, &[0x80]));
        tokens.insert(reply.get(a::RESERVATION_TOKEN).unwrap()[..4].to_vec());
        client.delete();
    }
    assert_eq!(tokens.len(), 30);
}

/// ALLOC-17: both families, one and the reason for the other's absence, or none.
#[test]
fn two_families_at_once() {
    let additional = |value: [u8; 4]| move |p: Packet| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &value);
    let server = TestServer::start();
    assert_eq!(allocate_with(&server, additional(V4)).code(), 400);
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(additional(V6));
    let addresses = reply.addresses(a::XOR_RELAYED_ADDRESS);
    assert_eq!(addresses.len(), 2);
    assert!(addresses[0].is_ipv4() && addresses[1].is_ipv6());
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let peer = Peer::on(ip);
        client.permit(peer.address());
        client.send_data(peer.address(), b"both");
        let relayed = addresses.iter().find(|a| a.is_ipv4() == ip.is_ipv4());
        peer.expect(b"both", *relayed.unwrap());
        peer.send(b"back", *relayed.unwrap());
        client.expect_data(peer.address(), b"back");
    }

    let server = TestServer::with(only_ipv4);
    let reply = allocate_with(&server, additional(V6));
    assert_eq!(reply.addresses(a::XOR_RELAYED_ADDRESS).len(), 1);
    assert_eq!(
        reply.get(a::ADDRESS_ERROR_CODE).unwrap()[..4],
        [2, 0, 4, 40]
    );

    let server = TestServer::with(ipv4_ports(1));
    let mut first = Client::udp(&server);
    first.allocate();
    assert_eq!(allocate_with(&server, additional(V6)).code(), 508);
}

/// ALLOC-18
#[test]
fn the_lifetime_is_between_the_default_and_the_maximum() {
    let server = TestServer::start();
    let cases = [
        (0, 600),
        (1, 600),
        (599, 600),
        (601, 601),
        (3600, 3600),
        (3601, 3600),
        (u32::MAX, 3600),
    ];
    for (asked, granted) in cases {
        let reply = allocate_with(&server, |p| p.u32(a::LIFETIME, asked));
        assert_eq!((reply.code(), reply.lifetime()), (0, granted), "{asked}");
    }
}

/// ALLOC-20, ALLOC-22, SEC-12: every port of the range once, on several workers, and then none.
#[test]
fn ports_are_unique_until_there_are_no_more() {
    const PORTS: usize = 300;
    let server = TestServer::with(|setup| {
        ipv4_ports(PORTS as u16)(setup);
        setup.workers = 3;
        setup.limits.allocations_per_user = 1000;
    });
    let mut clients: Vec<Client> = (0..PORTS).map(|_| Client::udp(&server)).collect();
    let ports: HashSet<u16> = clients.iter_mut().map(|c| c.allocate().port()).collect();
    assert_eq!(ports.len(), PORTS);
    let mut late = Client::udp(&server);
    for _ in 0..3 {
        assert_eq!(late.try_allocate(|p| p).code(), 508);
    }
    assert_eq!(server.live_ports(), PORTS as u32, "nothing leaked");
    clients[7].delete();
    assert_eq!(late.try_allocate(|p| p).code(), 0);
}

/// ALLOC-21, SEC-12: by user, wherever the user comes from.
#[test]
fn the_quota_is_the_users() {
    let server = TestServer::with(|setup| setup.limits.allocations_per_user = 2);
    let mut first = Client::udp(&server);
    first.allocate();
    let mut second = Client::new(&server, Via::Tcp6);
    second.allocate();
    let mut third = Client::udp(&server);
    assert_eq!(third.try_allocate(|p| p).code(), 486);
    Client::udp(&server).with_user("bob", "builder").allocate();
    first.delete();
    third.allocate();
    drop(second);
    let mut fourth = Client::udp(&server);
    eventually("the quota's release by a closed connection", || {
        fourth.try_allocate(|p| p).code() == 0
    });
}

/// SEC-12: by the client's address, over all workers, transports and users. Of IPv6 a /64 is one, and
/// loopback has no other.
#[test]
fn the_quota_of_an_address() {
    let server = TestServer::with(|setup| {
        setup.limits.allocations_per_address = 3;
        setup.workers = 2;
    });
    for (udp, tcp) in [(Via::Udp, Via::Tcp), (Via::Udp6, Via::Tcp6)] {
        let udp = || {
            let server = if udp == Via::Udp {
                server.udp()
            } else {
                server.udp6()
            };
            let ip: IpAddr = if server.is_ipv4() {
                [127, 0, 0, 1].into()
            } else {
                Ipv6Addr::LOCALHOST.into()
            };
            Client::udp_from(UdpSocket::bind((ip, 0)).unwrap(), server)
        };
        let mut first = udp();
        first.allocate();
        udp().with_user("bob", "builder").allocate();
        let mut stream = Client::new(&server, tcp);
        stream.allocate();
        let mut late = udp();
        assert_eq!(late.try_allocate(|p| p).code(), 486);
        let mut stranger = udp().with_user("bob", "builder");
        assert_eq!(stranger.try_allocate(|p| p).code(), 486);
        first.delete();
        late.allocate();
        drop(stream);
        eventually("the release by a closed connection", || {
            stranger.try_allocate(|p| p).code() == 0
        });
    }
    Client::udp(&server).allocate();
}

/// SEC-12: of the whole server, over all workers.
#[test]
fn the_server_has_a_limit_too() {
    let server = TestServer::with(|setup| {
        setup.limits.allocations_total = 3;
        setup.workers = 2;
    });
    let mut clients: Vec<Client> = (0..4).map(|_| Client::udp(&server)).collect();
    for client in &mut clients[..3] {
        client.allocate();
    }
    assert_eq!(clients[3].try_allocate(|p| p).code(), 508);
    clients[0].delete();
    clients[3].allocate();
}

/// ALLOC-22: what other processes hold is skipped.
#[test]
fn a_port_that_somebody_else_has_is_skipped() {
    let server = TestServer::with(ipv4_ports(4));
    let ip = server.relay[0].bound;
    let held: Vec<UdpSocket> = [20_000, 20_003]
        .map(|port| UdpSocket::bind((ip, port)).unwrap())
        .into();
    let mut clients: Vec<Client> = (0..3).map(|_| Client::udp(&server)).collect();
    let mut ports: Vec<u16> = clients[..2]
        .iter_mut()
        .map(|c| c.allocate().port())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [20_001, 20_002]);
    assert_eq!(clients[2].try_allocate(|p| p).code(), 508);
    drop(held);
    assert!([20_000, 20_003].contains(&clients[2].allocate().port()));
}

/// ALLOC-25: clients and their peers see the address outside, in both directions.
#[test]
fn the_external_address_is_told() {
    let outside = own_ipv4();
    let server = TestServer::with(|setup| setup.advertise(outside));
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    assert_eq!(relayed.ip(), outside);
    let inside = SocketAddr::new(server.relay[0].bound, relayed.port());
    let peer = Peer::new();
    client.permit(peer.address());
    client.send_data(peer.address(), b"out");
    peer.expect(b"out", inside);
    peer.send(b"in", inside);
    client.expect_data(peer.address(), b"in");
}

/// ALLOC-25, SEC-07, PERM-15: two clients of one server, with and without an address outside, on
/// one worker or several; by Data indications and by channels.
#[test]
fn two_clients_of_one_server_reach_each_other() {
    for (external, workers) in [(false, 1), (true, 1), (true, 2)] {
        let outside = own_ipv4();
        let server = TestServer::with(|setup| {
            setup.workers = workers;
            // The default policy: relayed addresses are peers although they are this server's.
            setup.peers.allow_loopback = false;
            setup.own_networks = [setup.relay[0].bound, Ipv4Addr::LOCALHOST.into()]
                .map(ipnet::IpNet::from)
                .to_vec();
            if external {
                setup.advertise(outside);
            }
        });
        let mut alice = Client::udp(&server);
        let mut bob = Client::tcp(&server).with_user("bob", "builder");
        let (at_alice, at_bob) = (alice.allocate(), bob.allocate());
        alice.permit(at_bob);
        alice.send_data(at_bob, b"too early");
        bob.permit(at_alice);
        alice.send_data(at_bob, b"to bob");
        // Without bob's permission the first one was dropped, if it came before that.
        let first = bob.next();
        let data = |data: &[u8]| crate::harness::Received::Data {
            peer: at_alice,
            data: data.to_vec(),
        };
        if first == data(b"too early") {
            bob.expect_data(at_alice, b"to bob");
        } else {
            assert_eq!(first, data(b"to bob"));
        }
        bob.bind(0x4000, at_alice);
        alice.bind(0x4FFF, at_bob);
        for round in 0..20_u8 {
            bob.send_channel(0x4000, &[round; 999]);
            alice.expect_channel(0x4FFF, &[round; 999]);
            alice.send_channel(0x4FFF, &[round; 3]);
            bob.expect_channel(0x4000, &[round; 3]);
        }
    }
}

/// ALLOC-26, TUP-02: one client port, two transports, two ports of the server.
#[test]
fn every_part_of_the_five_tuple_counts() {
    let ip = own_ipv4();
    let listeners = vec![SocketAddr::from((ip, 3478)), SocketAddr::from((ip, 3479))];
    let _server = TestServer::with(|setup| {
        setup.udp.clone_from(&listeners);
        setup.tcp.clone_from(&listeners);
    });
    let local = SocketAddr::from((own_ipv4(), 4000));
    let udp = UdpSocket::bind(local).unwrap();
    let mut clients: Vec<Client> = Vec::new();
    for to in listeners {
        clients.push(Client::udp_from(udp.try_clone().unwrap(), to));
        let tcp = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        tcp.set_reuse_address(true).unwrap();
        tcp.bind(&local.into()).unwrap();
        tcp.connect(&to.into()).unwrap();
        clients.push(Client::tcp_over(tcp.into()));
    }
    let mut relayed = HashSet::new();
    for client in &mut clients {
        assert_eq!(client.local(), local);
        relayed.insert(client.allocate());
    }
    assert_eq!(relayed.len(), 4);
    clients[0].delete();
    assert_eq!(clients[0].try_refresh(None).code(), 437);
    for client in &mut clients[1..] {
        client.assert_alive();
    }
}

/// ALLOC-29, TUP-04: the five-tuple of a connection cannot come back.
#[test]
fn a_closed_connection_ends_its_allocation() {
    let server = TestServer::start();
    for via in [Via::Tcp, Via::Tcp6] {
        let mut client = Client::new(&server, via);
        client.allocate();
        assert_eq!(server.live_ports(), 1);
        drop(client);
        eventually("the end of the allocation", || server.live_ports() == 0);
    }
}

/// ALLOC-30
#[test]
fn junk_on_the_five_tuple_ends_nothing() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    for junk in 0..200_u8 {
        let mut bytes = vec![junk; usize::from(junk)];
        // Not by chance a channel or a message.
        bytes.insert(0, 0x80 | junk);
        client.send(&bytes);
    }
    client.assert_alive();
}

/// MOB-01: mobility is not built, so nobody gets a ticket for asking.
#[test]
fn a_mobility_ticket_is_ignored() {
    const MOBILITY_TICKET: u16 = 0x8030;
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(|packet| packet.attr(MOBILITY_TICKET, b""));
    assert_eq!(reply.code(), 0);
    assert!(!reply.has(MOBILITY_TICKET));
    let refresh = Packet::request(method::REFRESH).attr(MOBILITY_TICKET, b"ticket");
    assert_eq!(client.request(refresh).code(), 0);
}

/// ALLOC-31
#[test]
fn a_freed_port_rests() {
    let server = TestServer::with(ipv4_ports(60));
    let mut client = Client::udp(&server);
    let mut ports = HashSet::new();
    for _ in 0..50 {
        assert!(
            ports.insert(client.allocate().port()),
            "a port that was just freed"
        );
        client.delete();
    }
}
