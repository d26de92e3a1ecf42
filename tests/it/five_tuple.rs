//! Which allocation a packet belongs to, and where the server answers from (RFC 8656 §3.2, §5;
//! RFC 8489 §6.3.1.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::harness::attribute as a;
use crate::harness::{Client, NOBODY, Packet, Peer, TestServer, Via, method};

/// A server on one wildcard, and its port.
fn wildcard(ip: std::net::IpAddr, workers: usize) -> TestServer {
    TestServer::with(|setup| {
        let any = SocketAddr::new(ip, 0);
        (setup.udp, setup.tcp) = (vec![any], vec![any]);
        setup.workers = workers;
    })
}

/// MSG-11, TUP-02: one client port, two addresses of the server, two allocations; each answers from
/// its own address. The client refuses what comes from another.
#[test]
fn a_wildcard_listener_answers_from_where_it_was_asked() {
    let wildcards = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    for (ip, workers) in wildcards.into_iter().flat_map(|ip| [(ip, 1), (ip, 2)]) {
        let server = wildcard(ip, workers);
        let peer = Peer::new();
        let port = server.udp().port();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = |server: [u8; 4]| {
            Client::udp_from(
                socket.try_clone().unwrap(),
                SocketAddr::from((server, port)),
            )
        };
        let (mut one, mut two) = (to([127, 0, 0, 1]), to([127, 0, 0, 2]));
        let relayed = [one.allocate(), two.allocate()];
        assert_ne!(relayed[0], relayed[1]);
        for (client, relayed) in [&mut one, &mut two].into_iter().zip(relayed) {
            assert_eq!(client.exchange(&Packet::binding()).code(), 0);
            client.permit(peer.address());
            client.send_data(peer.address(), b"data");
            peer.expect(b"data", relayed);
            peer.send(b"back", relayed);
            client.expect_data(peer.address(), b"back");
            client.bind(0x4000, peer.address());
            peer.send(b"back", relayed);
            client.expect_channel(0x4000, b"back");
        }
        one.delete();
        assert_eq!(one.try_refresh(None).code(), 437);
        two.assert_alive();
    }
}

/// MSG-11, BIND-03: an IPv6 wildcard alone serves both families, each in its own form.
#[test]
fn an_ipv6_wildcard_serves_both_families() {
    let server = wildcard(Ipv6Addr::UNSPECIFIED.into(), 1);
    let port = server.udp().port();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let mut client = Client::udp_to(SocketAddr::new(ip, port));
        let reply = client.try_allocate(|packet| packet);
        assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
        let mut client = Client::tcp_to(SocketAddr::new(ip, server.tcp().port()));
        let reply = client.try_allocate(|packet| packet);
        assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
    }
}

/// TUP-01, CHAN-11: data without an allocation goes nowhere.
#[test]
fn data_from_a_fresh_port_is_dropped() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut owner = Client::udp(&server);
    let relayed = owner.allocate();
    owner.bind(0x4000, peer.address());
    for via in Via::V4 {
        let mut stranger = Client::new(&server, via);
        // A stream has to begin with STUN.
        stranger.expect_nothing();
        stranger.send_data(peer.address(), b"stolen");
        stranger.send_channel(0x4000, b"stolen");
        stranger.expect_nothing();
    }
    owner.send_channel(0x4000, b"marker");
    peer.expect(b"marker", relayed);
}

/// TUP-03, TUP-05, TUP-06: another port of the same client is another client; the allocation stays
/// with the five-tuple that made it.
#[test]
fn the_server_does_not_follow_a_client_to_another_port() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());

    let mut moved = Client::udp(&server);
    moved.expect_nothing();
    assert_eq!(moved.try_refresh(None).code(), 437);
    assert_eq!(moved.try_permit(&[(NOBODY, 9).into()]).code(), 437);
    assert_eq!(moved.try_bind(0x4000, peer.address()).code(), 437);
    moved.send_channel(0x4000, b"dropped");
    moved.expect_nothing();

    peer.send(b"to the first port", relayed);
    client.expect_channel(0x4000, b"to the first port");
    moved.expect_nothing();
    // The client's application starts again on the same port.
    let socket = client.socket().try_clone().unwrap();
    let mut again = Client::udp_from(socket, server.udp());
    assert_eq!(again.try_allocate(|packet| packet).code(), 437);
    again.delete();
    assert_eq!(again.try_allocate(|packet| packet).code(), 0);
}

/// TUP-01: the same over TCP.
#[test]
fn each_connection_is_a_client() {
    let server = TestServer::start();
    let mut first = Client::tcp(&server);
    first.allocate();
    let mut second = Client::tcp(&server);
    assert_eq!(second.try_refresh(None).code(), 437);
    second.allocate();
    assert_eq!(
        second.request(Packet::request(method::ALLOCATE)).code(),
        437
    );
    first.delete();
    second.assert_alive();
}
