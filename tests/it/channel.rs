//! Channels (RFC 8656 §12).

use std::net::SocketAddr;

use crate::harness::attribute as a;
use crate::harness::{Client, NOBODY, Packet, Peer, Received, TestServer, Via, method};

fn bind(number: &[u8], peer: Option<SocketAddr>) -> Packet {
    let packet = Packet::request(method::CHANNEL_BIND).attr(a::CHANNEL_NUMBER, number);
    match peer {
        Some(peer) => packet.address(a::XOR_PEER_ADDRESS, peer),
        None => packet,
    }
}

/// CHAN-01, CHAN-02, CHAN-17
#[test]
fn numbers_and_addresses_have_their_ranges() {
    let server = TestServer::start();
    let peer: SocketAddr = (NOBODY, 9).into();
    let mut client = Client::udp(&server);
    client.allocate();
    for number in [0, 0x3FFF, 0x5000, 0x7FFF, 0xFFFF] {
        assert_eq!(client.try_bind(number, peer).code(), 400, "{number:04x}");
    }
    for len in [0, 2, 3, 5, 8] {
        assert_eq!(
            client.request(bind(&vec![0x40; len], Some(peer))).code(),
            400
        );
    }
    assert_eq!(client.request(bind(&[0x40, 0, 0, 0], None)).code(), 400);
    let without_number = Packet::request(method::CHANNEL_BIND).address(a::XOR_PEER_ADDRESS, peer);
    assert_eq!(client.request(without_number).code(), 400);
    let malformed = bind(&[0x40, 0, 0, 0], None).attr(a::XOR_PEER_ADDRESS, &[0, 1, 0, 9]);
    assert_eq!(client.request(malformed).code(), 400);
    assert_eq!(client.try_bind(0x4000, (NOBODY, 0).into()).code(), 400);
    assert_eq!(
        client
            .request(bind(&[0x40, 0, 0xFF, 0xFF], Some(peer)))
            .code(),
        0
    );
    assert_eq!(client.try_bind(0x4FFF, (NOBODY, 10).into()).code(), 0);
}

/// CHAN-03, CHAN-04
#[test]
fn a_channel_has_one_peer_and_a_peer_one_channel() {
    let server = TestServer::start();
    let (peer, other) = (Peer::new(), Peer::new());
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    assert_eq!(client.try_bind(0x4000, other.address()).code(), 400);
    assert_eq!(client.try_bind(0x4001, peer.address()).code(), 400);
    client.bind(0x4000, peer.address());
    client.bind(0x4001, other.address());
    for (number, peer) in [(0x4000, &peer), (0x4001, &other)] {
        client.send_channel(number, b"data");
        peer.expect(b"data", relayed);
    }
}

/// CHAN-07, SEND-06, CHAN-09: a channel alone permits, both of the client's ways work, and what
/// comes back is ChannelData whichever was used.
#[test]
fn a_channel_brings_its_permission() {
    let server = TestServer::start();
    for via in Via::ALL {
        let (peer, other) = (Peer::new(), Peer::new());
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.bind(0x4ABC, peer.address());
        for round in 0..3_u8 {
            client.send_channel(0x4ABC, &[round]);
            peer.expect(&[round], relayed);
            client.send_data(peer.address(), &[round, round]);
            peer.expect(&[round, round], relayed);
            peer.send(&[round, 1, 2], relayed);
            client.expect_channel(0x4ABC, &[round, 1, 2]);
        }
        other.send(b"same address, other port", relayed);
        client.expect_data(other.address(), b"same address, other port");
    }
}

/// CHAN-08
#[test]
fn refusals_have_the_codes_of_permissions() {
    let server = TestServer::with(|setup| setup.limits.channels_per_allocation = 2);
    let mut client = Client::udp(&server);
    assert_eq!(client.try_bind(0x4000, (NOBODY, 9).into()).code(), 437);
    client.allocate();
    assert_eq!(
        client.try_bind(0x4000, "[::1]:9".parse().unwrap()).code(),
        443
    );
    assert_eq!(
        client
            .try_bind(0x4000, "224.0.0.1:9".parse().unwrap())
            .code(),
        403
    );
    client.bind(0x4000, (NOBODY, 9).into());
    client.bind(0x4001, (NOBODY, 10).into());
    assert_eq!(client.try_bind(0x4002, (NOBODY, 11).into()).code(), 508);
    client.bind(0x4001, (NOBODY, 10).into());
}

/// CHAN-11
#[test]
fn data_of_no_channel_is_dropped() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        client.bind(0x4000, peer.address());
        client.send_channel(0x4001, b"unbound");
        client.send_channel(0x4FFF, b"unbound");
        if via == Via::Udp {
            for reserved in [0x5000, 0x5FFF, 0x6000, 0x7FFF] {
                client.send_channel(reserved, b"reserved");
            }
        }
        client.send_channel(0x4000, b"marker");
        peer.expect(b"marker", relayed);
    }
}

/// CHAN-12: Length counts, whatever the datagram has beyond it; less is no message.
#[test]
fn only_length_bytes_of_a_datagram_are_data() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    for surplus in 0..=8 {
        let mut bytes = b"\x40\x00\x00\x05hello".to_vec();
        bytes.resize(bytes.len() + surplus, 0xEE);
        client.send(&bytes);
        peer.expect(b"hello", relayed);
    }
    for len in 0..9 {
        client.send(&b"\x40\x00\x00\x05hello"[..len]);
    }
    client.send_channel(0x4000, b"marker");
    peer.expect(b"marker", relayed);
}

/// CHAN-13, CHAN-14: every length, back to back in one segment, padded on streams alone.
#[test]
fn every_length_both_ways() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        let mut segment = Vec::new();
        for len in 0..=5_u8 {
            let mut bytes = vec![0x40, 0, 0, len];
            bytes.extend(vec![len; len.into()]);
            if via.is_stream() {
                // Padding may be anything.
                bytes.resize(bytes.len().next_multiple_of(4), 0xEE);
                segment.extend(bytes);
            } else {
                client.send(&bytes);
            }
        }
        if via.is_stream() {
            client.send(&segment);
        }
        for len in 0..=5_u8 {
            peer.expect(&vec![len; len.into()], relayed);
        }
        for len in 0..=5_u8 {
            peer.send(&vec![len; len.into()], relayed);
            client.expect_channel(0x4000, &vec![len; len.into()]);
        }
    }
}

/// CHAN-16: a client that bound no channel could not frame ChannelData.
#[test]
fn no_channel_data_without_a_channel() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    for round in 0..1000_u32 {
        peer.send(&round.to_be_bytes(), relayed);
        let Received::Data { data, .. } = client.next() else {
            panic!("not a Data indication");
        };
        assert_eq!(data, round.to_be_bytes());
    }
}

/// CHAN-18
#[test]
fn all_4096_channels() {
    let server = TestServer::with(|setup| setup.limits.channels_per_allocation = 4096);
    let (first, last) = (Peer::new(), Peer::new());
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, first.address());
    for number in 0x4001..0x4FFF {
        client.bind(number, (NOBODY, number).into());
    }
    client.bind(0x4FFF, last.address());
    for (number, peer) in [(0x4000, &first), (0x4FFF, &last)] {
        client.send_channel(number, b"data");
        peer.expect(b"data", relayed);
        peer.send(b"back", relayed);
        client.expect_channel(number, b"back");
    }
    assert_eq!(client.try_bind(0x4800, first.address()).code(), 400);
}
