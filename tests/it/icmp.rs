//! ICMP errors, of peers and of clients (RFC 8656 §11.5).

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use crate::harness::attribute as a;
use crate::harness::{Class, Client, Message, Peer, TestServer, Via, method, own_ipv4};

/// Discard: below every port that tests and the kernel give out, and served nowhere.
const CLOSED: u16 = 9;

/// A closed port on an address of its own.
fn closed() -> SocketAddr {
    (own_ipv4(), CLOSED).into()
}

fn dual(packet: crate::harness::Packet) -> crate::harness::Packet {
    packet.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
}

/// ICMP-01, ICMP-03: type, code and no data, by Send and by channel alike, on every transport.
#[test]
fn a_closed_port_of_a_peer_is_told_to_the_client() {
    let server = TestServer::start();
    let v6 = Ipv6Addr::LOCALHOST.into();
    for via in Via::ALL {
        for (ip, icmp) in [(own_ipv4().into(), [3, 3]), (v6, [1, 4])] {
            let mut client = Client::new(&server, via);
            assert_eq!(client.try_allocate(dual).code(), 0);
            let peer = SocketAddr::new(ip, CLOSED);
            client.permit(peer);
            for bound in [false, true] {
                if bound {
                    client.bind(0x4000, peer);
                    client.send_channel(0x4000, b"nobody there");
                } else {
                    client.send_data(peer, b"nobody there");
                }
                let message = Message::parse(&client.recv());
                assert_eq!(
                    (message.class(), message.method()),
                    (Class::Indication, method::DATA)
                );
                let mut types = message.types();
                types.sort_unstable();
                assert_eq!(types, [a::XOR_PEER_ADDRESS, a::ICMP]);
                assert_eq!(message.address(a::XOR_PEER_ADDRESS), peer);
                let [kind, code] = icmp;
                assert_eq!(
                    message.get(a::ICMP),
                    Some(&[0, 0, kind, code, 0, 0, 0, 0][..])
                );
            }
        }
    }
}

/// ICMP-02: nobody hears of a peer whose permission is gone. Here it went with the allocation.
#[test]
fn an_error_about_another_allocations_peer_is_not_told() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let (peer, alive) = (closed(), Peer::on([127, 9, 9, 9].into()));
    client.permit(peer);
    client.send_data(peer, b"nobody there");
    client.delete();
    let relayed = client.allocate();
    client.permit(alive.address());
    alive.send(b"marker", relayed);
    // The first error may have been faster than the deletion.
    let mut frame = client.recv();
    if Message::parse(&frame).has(a::ICMP) {
        frame = client.recv();
    }
    assert_eq!(Message::parse(&frame).get(a::DATA), Some(&b"marker"[..]));
}

/// ICMP-04: so many a second, and data goes on.
#[test]
fn errors_are_limited() {
    let server = TestServer::with(|setup| setup.limits.icmp_per_s = 5);
    let alive = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    let peer = closed();
    client.permit(peer);
    client.permit(alive.address());
    let mut told = 0;
    let started = std::time::Instant::now();
    for round in 0..200_u8 {
        client.send_data(peer, b"nobody there");
        client.send_data(alive.address(), &[round]);
        assert_eq!(alive.recv().0, [round]);
    }
    let seconds = started.elapsed().as_secs() as usize + 2;
    alive.send(b"end", relayed);
    while Message::parse(&client.recv()).has(a::ICMP) {
        told += 1;
    }
    assert!((1..=5 * seconds).contains(&told), "{told} in {seconds} s");
}

/// ICMP-05: a client that is gone gets datagrams all the same, and its neighbours are served.
#[test]
fn a_client_that_is_gone_disturbs_nobody() {
    let server = TestServer::start();
    let peer = Peer::new();
    let address = SocketAddr::from((own_ipv4(), 4000));
    let socket = UdpSocket::bind(address).unwrap();
    let mut gone = Client::udp_from(socket, server.udp());
    let at_gone = gone.allocate();
    gone.permit(peer.address());
    drop(gone);
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    for round in 0..100_u8 {
        peer.send(b"to nobody", at_gone);
        peer.send(&[round], relayed);
        client.expect_data(peer.address(), &[round]);
        client.expect_nothing();
    }
    assert_eq!(server.live_ports(), 2, "it may come back");
    let mut back = Client::udp_from(UdpSocket::bind(address).unwrap(), server.udp());
    back.assert_alive();
    peer.send(b"again", at_gone);
    back.expect_data(peer.address(), b"again");
}
