//! Bytes that nobody should send (RFC 8489 §6.3, §14), to a server that serves others meanwhile.

use crate::harness::attribute as a;
use crate::harness::{
    Client, Message, Packet, Peer, TestServer, Via, eventually, method, own_ipv4,
};

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The vectors of a section: name and bytes.
pub(crate) fn vectors(section: &str) -> Vec<(String, Vec<u8>)> {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../data/vectors.json")).unwrap();
    let section = vectors[section].as_array().unwrap().iter();
    section
        .map(|vector| {
            let text = |key: &str| vector[key].as_str().unwrap().to_owned();
            (text("name"), unhex(&text("hex")))
        })
        .collect()
}

/// Of the malformed vectors the only one that is a request, and is answered like one.
const ANSWERED: &str = "MESSAGE-INTEGRITY of length 0";

/// MSG-03, MSG-04, MSG-07, MSG-08, MSG-09, MSG-19, FP-02, CHAN-11, CHAN-12: silence, on a
/// five-tuple with an allocation and on one without.
#[test]
fn malformed_vectors_over_udp() {
    let server = TestServer::start();
    for allocated in [false, true] {
        let mut client = Client::udp(&server);
        if allocated {
            client.allocate();
        }
        for (name, bytes) in vectors("malformed") {
            client.send(&bytes);
            if name == ANSWERED {
                assert!([400, 401].contains(&Message::parse(&client.recv()).code()));
            }
            client.expect_nothing();
        }
        assert_eq!(
            client.try_refresh(None).code(),
            if allocated { 0 } else { 437 }
        );
    }
}

/// MSG-03, MSG-04, STREAM-02: on a connection they are answered by silence or by its end.
#[test]
fn malformed_vectors_over_tcp() {
    let server = TestServer::start();
    for (name, bytes) in vectors("malformed") {
        let mut client = Client::tcp(&server);
        client.send(&bytes);
        client.stream().shutdown(std::net::Shutdown::Write).unwrap();
        let said = client.expect_close();
        // "Trailing bytes" are the start of the next frame there.
        let is_request = name == ANSWERED || name == "length 0, 4 trailing bytes";
        assert_eq!(said.is_empty(), !is_request, "{name}: {said:02x?}");
    }
    Client::tcp(&server).allocate();
}

/// A message of every kind that a client sends, for an allocation that there is.
fn samples(client: &mut Client, peer: std::net::SocketAddr) -> Vec<Vec<u8>> {
    let permit = Packet::request(method::CREATE_PERMISSION).address(a::XOR_PEER_ADDRESS, peer);
    let bind = Packet::request(method::CHANNEL_BIND)
        .u32(a::CHANNEL_NUMBER, 0x4001_0000)
        .address(a::XOR_PEER_ADDRESS, peer);
    let allocate = Packet::request(method::ALLOCATE)
        .attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
        .attr(a::EVEN_PORT, &[0]);
    let send = Packet::indication(method::SEND)
        .address(a::XOR_PEER_ADDRESS, peer)
        .attr(a::DATA, b"hello");
    let mut samples = vec![
        Packet::binding().attr(a::SOFTWARE, b"test").fingerprint(),
        client.signed(allocate),
        client.signed(permit),
        client.signed(bind),
        send,
    ]
    .into_iter()
    .map(Packet::into_bytes)
    .collect::<Vec<_>>();
    samples.push(b"\x40\x00\x00\x05hello".to_vec());
    samples
}

/// MSG-04, MSG-23: every prefix and a hundred thousand wrong bytes, and the allocation works.
#[test]
fn every_prefix_and_every_byte_over_udp() {
    let server = TestServer::start();
    // A wrong byte may be in the port: on this address no other test has one.
    let peer = Peer::on(own_ipv4().into());
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    // What is answered is answered to this client, who does not listen.
    let (samples, socket) = {
        let samples = samples(&mut client, peer.address());
        (samples, client.socket().try_clone().unwrap())
    };
    let mut sent = 0_u32;
    let mut send = |bytes: &[u8]| {
        socket.send_to(bytes, server.udp()).unwrap();
        sent += 1;
        if sent.is_multiple_of(64) {
            // No faster than the server: what it does not receive is no test.
            let mut probe = Client::udp_to(server.udp());
            assert_eq!(probe.exchange(&Packet::binding()).code(), 0);
        }
    };
    for sample in samples {
        for len in 0..sample.len() {
            send(&sample[..len]);
        }
        for place in 0..sample.len() {
            for mask in [0x01, 0x10, 0x80, 0xFF] {
                let mut mutated = sample.clone();
                mutated[place] ^= mask;
                send(&mutated);
            }
        }
    }
    let mut fresh = Client::udp(&server);
    let at_fresh = fresh.allocate();
    fresh.permit(peer.address());
    peer.socket.set_nonblocking(true).unwrap();
    while peer.socket.recv(&mut [0; 64]).is_ok() {}
    peer.socket.set_nonblocking(false).unwrap();
    fresh.send_data(peer.address(), b"marker");
    peer.expect(b"marker", at_fresh);
    peer.send(b"back", relayed);
    peer.send(b"back", at_fresh);
    fresh.expect_data(peer.address(), b"back");
}

/// MSG-04, MSG-23, STREAM-02: the same on connections, which end or wait for more.
#[test]
fn every_prefix_and_every_byte_over_tcp() {
    let server = TestServer::start();
    let peer = Peer::on(own_ipv4().into());
    let mut client = Client::tcp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    let samples = samples(&mut client, peer.address());
    for sample in &samples {
        for place in 0..sample.len() {
            let mut other = Client::tcp(&server);
            let mut bytes = Packet::binding().into_bytes();
            bytes.extend(&sample[..place]);
            bytes.push(sample[place] ^ 0xFF);
            bytes.extend(&sample[place + 1..]);
            other.send(&bytes);
            assert_eq!(other.recv()[..2], [1, 1], "what came before is answered");
        }
    }
    eventually("the end of the connections", || server.live_ports() == 1);
    client.send_data(peer.address(), b"marker");
    peer.expect(b"marker", relayed);
}

/// MSG-23: the messages of the RFCs and of both exchanges, meant for other servers and clients.
#[test]
fn the_vectors_of_others_are_harmless() {
    let server = TestServer::start();
    for via in Via::V4 {
        for section in ["exchange_md5", "exchange_sha256"] {
            for (name, bytes) in vectors(section) {
                let mut client = Client::new(&server, via);
                client.send(&bytes);
                let probe = Packet::binding();
                client.send(probe.bytes());
                let mut reply = Message::parse(&client.recv());
                if name.contains("C>S") && reply.id() != probe.id() {
                    // No nonce of theirs is good here.
                    assert!([400, 401, 438].contains(&reply.code()), "{name}");
                    reply = Message::parse(&client.recv());
                }
                assert_eq!((reply.id(), reply.code()), (probe.id(), 0), "{name}");
            }
        }
    }
    assert_eq!(server.live_ports(), 0);
}
