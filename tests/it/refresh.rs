//! Refresh (RFC 8656 §8.2).

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Peer, TestServer, Via, method};

fn refresh(family: u8) -> Packet {
    Packet::request(method::REFRESH).attr(a::REQUESTED_ADDRESS_FAMILY, &[family, 0, 0, 0])
}

/// REFR-01, REFR-02: what comes from peers afterwards has no way, and the five-tuple is free.
#[test]
fn zero_deletes() {
    for via in Via::ALL {
        let server = TestServer::start();
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        client.delete();
        assert_eq!(server.live_ports(), 0);
        assert_eq!(client.try_refresh(None).code(), 437);
        assert_eq!(client.try_refresh(Some(0)).code(), 437);
        peer.send(b"late", relayed);
        client.send_channel(0x4000, b"late");
        client.expect_nothing();
        assert_ne!(client.allocate(), relayed);
        client.send_channel(0x4000, b"the channel went with the allocation");
        client.permit(peer.address());
        client.send_data(peer.address(), b"marker");
        assert_eq!(peer.recv().0, b"marker");
    }
}

/// REFR-03
#[test]
fn the_lifetime_is_between_the_default_and_the_maximum() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(|packet| packet.u32(a::LIFETIME, 3600));
    assert_eq!(reply.lifetime(), 3600);
    let cases = [
        (None, 600),
        (Some(1), 600),
        (Some(599), 600),
        (Some(601), 601),
        (Some(3600), 3600),
        (Some(3601), 3600),
        (Some(u32::MAX), 3600),
        (None, 600),
    ];
    for (asked, granted) in cases {
        let reply = client.try_refresh(asked);
        assert_eq!((reply.code(), reply.lifetime()), (0, granted), "{asked:?}");
    }
    for len in [0, 3, 5, 8] {
        let packet = Packet::request(method::REFRESH).attr(a::LIFETIME, &vec![0; len]);
        assert_eq!(client.request(packet).code(), 400);
    }
    client.assert_alive();
}

/// REFR-04
#[test]
fn a_family_that_the_allocation_has_not_is_a_mismatch() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    assert_eq!(client.request(refresh(1)).code(), 0);
    for family in [2, 0, 7] {
        assert_eq!(client.request(refresh(family)).code(), 443);
        assert_eq!(
            client.request(refresh(family).u32(a::LIFETIME, 0)).code(),
            443
        );
    }
    client.assert_alive();
}

/// REFR-05
#[test]
fn one_family_of_two_is_deleted_alone() {
    let server = TestServer::start();
    for (gone, left) in [(1_u8, 2_u8), (2, 1)] {
        let mut client = Client::udp(&server);
        let dual = |p: Packet| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
        let relayed = client.try_allocate(dual).addresses(a::XOR_RELAYED_ADDRESS);
        let peers = ["127.0.0.1", "::1"].map(|ip| Peer::on(ip.parse().unwrap()));
        client.bind(0x4001, peers[0].address());
        client.bind(0x4002, peers[1].address());
        assert_eq!(
            client.request(refresh(gone).u32(a::LIFETIME, 0)).lifetime(),
            0
        );
        assert_eq!(client.request(refresh(gone)).code(), 443);
        let place = usize::from(left - 1);
        let number = 0x4000 + u16::from(left);
        client.send_channel(0x4000 + u16::from(gone), b"nowhere");
        client.send_channel(number, b"data");
        peers[place].expect(b"data", relayed[place]);
        peers[place].send(b"back", relayed[place]);
        client.expect_channel(number, b"back");
        assert_eq!(client.request(refresh(left)).code(), 0);
        client.delete();
        assert_eq!(client.try_refresh(None).code(), 437);
    }
}
