//! FINGERPRINT (RFC 8489 §7, §14.7).

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Peer, TestServer, Via, method};

/// FP-01, FP-03, FP-04: a reply has it exactly if the request had it, as its last attribute.
#[test]
fn a_reply_has_it_if_the_request_had_it() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.challenge();
        let requests = [
            (Packet::binding(), 0),
            (Packet::request(method::ALLOCATE), 401),
            (client.signed(Packet::request(method::REFRESH)), 437),
            (client.signed(Packet::request(method::ALLOCATE)), 400),
            (
                {
                    let allocate = Packet::request(method::ALLOCATE);
                    client.signed(allocate.attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
                },
                0,
            ),
            (client.signed(Packet::request(method::REFRESH)), 0),
        ];
        for (request, code) in requests {
            let reply = client.exchange(&request);
            assert_eq!(reply.code(), code);
            assert!(!reply.has(a::FINGERPRINT));
            let with = request.fingerprint();
            let reply = client.exchange(&with);
            assert_eq!(reply.code(), code);
            assert!(reply.is_fingerprinted(), "{code}");
        }
    }
}

/// FP-02: on requests and on indications.
#[test]
fn a_wrong_one_makes_the_message_invisible() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let wrong = |packet: Packet| {
            let mut bytes = packet.fingerprint().into_bytes();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        };
        client.expect_silence(&wrong(Packet::binding()));
        let allocate = Packet::request(method::ALLOCATE);
        let allocate = client.signed(allocate.attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
        client.expect_silence(&wrong(allocate.clone()));
        assert_eq!(
            client.try_refresh(None).code(),
            437,
            "nothing was allocated"
        );
        assert_eq!(client.exchange(&allocate).code(), 0);
        client.permit(peer.address());
        let send = |data: &[u8]| {
            Packet::indication(method::SEND)
                .address(a::XOR_PEER_ADDRESS, peer.address())
                .attr(a::DATA, data)
        };
        client.expect_silence(&wrong(send(b"dropped")));
        client.send(send(b"relayed").fingerprint().bytes());
        assert_eq!(peer.recv().0, b"relayed");
    }
}

/// FP-02: any length but four bytes is no FINGERPRINT at all.
#[test]
fn one_of_another_length_makes_the_message_invisible() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for len in [0, 1, 3, 5, 8] {
        let request = Packet::binding().attr(a::FINGERPRINT, &vec![0; len]);
        client.expect_silence(request.bytes());
    }
}
