//! Send and Data indications (RFC 8656 §11).

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::harness::attribute as a;
use crate::harness::{Client, Message, NOBODY, Packet, Peer, TestServer, Via, method};

fn send(peer: SocketAddr, data: &[u8]) -> Packet {
    Packet::indication(method::SEND)
        .address(a::XOR_PEER_ADDRESS, peer)
        .attr(a::DATA, data)
}

/// Bytes that no two places have in common.
fn pattern(len: usize) -> Vec<u8> {
    (0..len)
        .map(|place| (place * 7 + place / 256) as u8)
        .collect()
}

/// SEND-01
#[test]
fn peer_and_data_are_both_needed() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        let incomplete = [
            Packet::indication(method::SEND).address(a::XOR_PEER_ADDRESS, peer.address()),
            Packet::indication(method::SEND).attr(a::DATA, b"no peer"),
            Packet::indication(method::SEND)
                .attr(a::XOR_PEER_ADDRESS, &[0, 1, 0, 9])
                .attr(a::DATA, b"no address"),
            send(SocketAddr::new(peer.address().ip(), 0), b"no port"),
        ];
        for packet in incomplete {
            client.expect_silence(packet.bytes());
        }
        client.send_data(peer.address(), b"");
        peer.expect(b"", relayed);
        client.send_data(peer.address(), b"marker");
        peer.expect(b"marker", relayed);
    }
}

/// SEND-02
#[test]
fn data_for_who_is_not_permitted_is_dropped() {
    let server = TestServer::start();
    let (peer, marker) = (Peer::new(), Peer::on([127, 9, 9, 9].into()));
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(marker.address());
        client.send_data(peer.address(), b"not permitted");
        client.send_data("224.0.0.1:9".parse().unwrap(), b"denied");
        client.send_data("[::1]:9".parse().unwrap(), b"no such family");
        client.permit(peer.address());
        client.send_data(peer.address(), b"marker");
        peer.expect(b"marker", relayed);
    }
}

/// SEND-03: what the client wrote, from the relayed address, to that port.
#[test]
fn the_payload_is_exact() {
    let server = TestServer::start();
    for via in Via::ALL {
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        for len in [0, 1, 2, 3, 4, 5, 1200, 1472] {
            client.send_data(peer.address(), &pattern(len));
            peer.expect(&pattern(len), relayed);
            peer.send(&pattern(len), relayed);
            client.expect_data(peer.address(), &pattern(len));
        }
    }
}

/// SEND-04, NETHDR-06: accepted or the whole indication dropped; to IPv6 peers it means nothing.
#[test]
fn dont_fragment_is_supported_or_not() {
    for supported in [true, false] {
        let server = TestServer::with(|setup| setup.dont_fragment = supported);
        for ip in ["127.0.0.1", "::1"] {
            let peer = Peer::on(ip.parse().unwrap());
            let mut client = Client::udp(&server);
            let dual = |p: Packet| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
            assert_eq!(client.try_allocate(dual).code(), 0);
            client.permit(peer.address());
            client.send(
                send(peer.address(), b"whole")
                    .attr(a::DONT_FRAGMENT, b"")
                    .bytes(),
            );
            client.send_data(peer.address(), b"marker");
            if supported {
                assert_eq!(peer.recv().0, b"whole");
            }
            assert_eq!(peer.recv().0, b"marker");
        }
    }
}

/// SEND-07, SEND-08: two attributes and the header, and no two transaction ids are the same.
#[test]
fn a_data_indication_is_small_and_fresh() {
    let server = TestServer::start();
    for via in Via::V4 {
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        let mut ids = HashSet::new();
        for _ in 0..50 {
            peer.send(b"four", relayed);
            let message = Message::parse(&client.recv());
            assert_eq!(message.bytes.len(), 20 + 12 + 8);
            let mut types = message.types();
            types.sort_unstable();
            assert_eq!(types, [a::XOR_PEER_ADDRESS, a::DATA]);
            assert_eq!(message.address(a::XOR_PEER_ADDRESS), peer.address());
            assert!(ids.insert(message.id()));
        }
    }
}

/// SEND-09: whatever the client's leg can carry. A datagram to the client has 36 bytes of header.
#[test]
fn large_payloads_from_peers() {
    let server = TestServer::start();
    // A record of DTLS has room for 16 KiB.
    for via in Via::V4.into_iter().filter(|via| !via.is_dtls()) {
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        let most = if via.is_stream() { 65_507 } else { 65_507 - 36 };
        for len in [1, 1472, 9000, 65_000, most] {
            peer.send(&pattern(len), relayed);
            // DATA is padded, for which the last bytes may lack room.
            if via.is_stream() || len.next_multiple_of(4) <= most {
                client.expect_data(peer.address(), &pattern(len));
            }
        }
        if !via.is_stream() {
            peer.send(&pattern(most + 1), relayed);
            peer.send(&pattern(65_507), relayed);
        }
        // Behind them, so that they meet no channel.
        peer.send(b"marker", relayed);
        client.expect_data(peer.address(), b"marker");
        client.bind(0x4000, peer.address());
        let most = if via.is_stream() { 65_507 } else { 65_503 };
        for len in [1, 1472, 9000, 65_000, most] {
            peer.send(&pattern(len), relayed);
            client.expect_channel(0x4000, &pattern(len));
        }
        peer.send(b"marker", relayed);
        client.expect_channel(0x4000, b"marker");
    }
}

/// SEND-09: on the way out.
#[test]
fn large_payloads_to_peers() {
    let server = TestServer::start();
    // A record of DTLS has room for 16 KiB.
    for via in Via::V4.into_iter().filter(|via| !via.is_dtls()) {
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        client.bind(0x4000, peer.address());
        for len in [1472, 9000, 65_000, 65_468] {
            client.send_data(peer.address(), &pattern(len));
            peer.expect(&pattern(len), relayed);
            client.send_channel(0x4000, &pattern(len));
            peer.expect(&pattern(len), relayed);
        }
    }
}

/// SEND-10: a stream can say more than a datagram can carry; the next frame arrives.
#[test]
fn frames_beyond_a_datagram_are_dropped_whole() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    client.bind(0x4000, peer.address());
    // 65,532 bytes of attributes, the most that the length field can say.
    let longest = 65_532 - 12 - 4;
    for len in [65_508, longest] {
        client.send_data(peer.address(), &pattern(len));
        client.send_data(peer.address(), b"after");
        peer.expect(b"after", relayed);
    }
    for len in [65_508, 65_535] {
        client.send_channel(0x4000, &pattern(len));
        client.send_channel(0x4000, b"after");
        peer.expect(b"after", relayed);
    }
    client.send_data(peer.address(), &pattern(65_507));
    peer.expect(&pattern(65_507), relayed);
    client.send_channel(0x4000, &pattern(65_507));
    peer.expect(&pattern(65_507), relayed);
}

/// SEND-06, TUP-06: both ways to a peer at once, many clients at once, nothing mixed up.
#[test]
fn many_clients_at_once() {
    let server = TestServer::with(|setup| setup.workers = 2);
    let peer = Peer::new();
    let vias = Via::ALL.into_iter().cycle().take(24);
    let mut clients: Vec<(Client, SocketAddr)> = vias
        .map(|via| {
            let mut client = Client::new(&server, via);
            let relayed = client.allocate();
            client.permit(peer.address());
            (client, relayed)
        })
        .collect();
    for (index, (client, _)) in clients.iter_mut().enumerate().step_by(2) {
        client.bind(0x4000 + index as u16, peer.address());
    }
    for round in 0..20_u8 {
        for (index, (client, relayed)) in clients.iter_mut().enumerate() {
            let data = [index as u8, round];
            if round % 2 == 0 && index % 2 == 0 {
                client.send_channel(0x4000 + index as u16, &data);
            } else {
                client.send_data(peer.address(), &data);
            }
            peer.expect(&data, *relayed);
        }
        for (index, (_, relayed)) in clients.iter().enumerate() {
            peer.send(&[index as u8, round, 0xFF], *relayed);
        }
        for (index, (client, _)) in clients.iter_mut().enumerate() {
            let data = [index as u8, round, 0xFF];
            if index % 2 == 0 {
                client.expect_channel(0x4000 + index as u16, &data);
            } else {
                client.expect_data(peer.address(), &data);
            }
        }
    }
}

/// SEND-02: a peer that nobody is behind costs nothing but its own datagrams.
#[test]
fn an_unreachable_peer_does_not_disturb_the_others() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.permit((NOBODY, 9).into());
    client.permit("8.8.8.8:53".parse().unwrap());
    client.permit(peer.address());
    for round in 0..50_u8 {
        client.send_data((NOBODY, 9).into(), b"nobody there");
        client.send_data(peer.address(), &[round]);
        peer.expect(&[round], relayed);
    }
}
