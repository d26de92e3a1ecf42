//! Which messages are answered, and how (RFC 8489 §6.3).

use turnstone::turn::Limits;
use turnstone::wire::{
    AttributeType as A, Class, IntegrityAlgorithm, Message, Method, TransactionId,
};

use crate::client::TestClient;
use crate::host::{Host, Setup, address, alice};
use crate::message::{Scheme, UDP, build, send_indication};

const METHODS: [Method; 4] = [
    Method::Allocate,
    Method::Refresh,
    Method::CreatePermission,
    Method::ChannelBind,
];

fn client() -> TestClient {
    TestClient::udp("198.51.100.1:4000")
}

/// Sends bytes that must have no effect at all.
fn ignored(host: &mut Host, packet: &[u8]) {
    let client = client();
    let before = host.shards[0].allocations();
    let sent = host.client_packet(client.at, client.ip, packet);
    assert_eq!(sent, None, "{packet:02x?}");
    assert!(host.replies.is_empty(), "{packet:02x?}");
    assert!(host.events.is_empty(), "{packet:02x?}");
    assert_eq!(host.shards[0].allocations(), before);
}

fn type_of(class: u16, method: u16) -> u16 {
    (method & 0xF80) << 2
        | (method & 0x70) << 1
        | method & 0xF
        | (class & 2) << 7
        | (class & 1) << 4
}

/// MSG-07, MSG-08, MSG-09, MSG-12, BIND-05: of 16,384 message types five have an answer, and one
/// relays.
#[test]
fn every_message_type() {
    let mut host = Host::new(Setup::default());
    client().allocate(&mut host);
    host.events.clear();
    for method in 0..0x1000 {
        for class in 0..4 {
            let mut packet = build(
                Class::Request,
                Method::Binding,
                TransactionId([1; 12]),
                |_| {},
            );
            packet[..2].copy_from_slice(&type_of(class, method).to_be_bytes());
            if class == 0 && [0x001, 0x003, 0x004, 0x008, 0x009].contains(&method) {
                assert!(
                    client().exchange(&mut host, &packet).is_some(),
                    "{method:#x}"
                );
            } else {
                ignored(&mut host, &packet);
            }
        }
    }
}

/// MSG-01, MSG-02, MSG-03, MSG-04, MSG-19, MSG-23, FP-02: the malformed vectors, and everything
/// that is one bit away from a good message, are dropped or answered, and never break anything.
#[test]
fn malformed_messages() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../data/vectors.json")).unwrap();
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    };
    // Each bit makes a failure, of which none should hide another.
    let mut host = Host::new(Setup {
        limits: Limits {
            unauthenticated_replies_per_s: 0,
            failed_authentications_per_minute: 0,
            ..Limits::default()
        },
        ..Setup::default()
    });
    for row in vectors["malformed"].as_array().unwrap() {
        let bytes = hex(row["hex"].as_str().unwrap());
        if Message::parse(&bytes).is_err() {
            ignored(&mut host, &bytes);
        }
    }
    for first in (4..=19).chain(20..=63).chain(80..=255) {
        ignored(&mut host, &[first; 32]);
    }
    let mut client = client();
    client.challenge(&mut host, Method::Allocate);
    let good = client.signed(Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, UDP);
    });
    for len in 0..good.len() {
        ignored(&mut host, &good[..len]);
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        host.client_packet(client.at, client.ip, &bad);
        assert_eq!(host.shards[0].allocations(), 0, "bit {bit}");
        if let Some(reply) = host.only_reply() {
            // One bit makes it a Binding request.
            let is_binding = reply.message().method() == Some(Method::Binding);
            let class = if is_binding {
                Class::Success
            } else {
                Class::Error
            };
            assert_eq!(reply.class(), class, "bit {bit}");
        }
    }
    client.repeat(&mut host, &good).success();
}

/// MSG-13, MSG-14, AUTH-20: authentication, then unknown attributes, all of them listed.
#[test]
fn unknown_attributes_are_listed_to_who_may_ask() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    for method in METHODS {
        let packet = client.bare(method, |builder| {
            builder.attribute(A(0x7FFF), &[]);
        });
        let reply = client.exchange(&mut host, &packet).unwrap();
        assert_eq!(reply.code(), Some(401));
        for (unknown, expected) in [
            (vec![0x7FFE, 0x7FFD], vec![0x7F, 0xFE, 0x7F, 0xFD]),
            (
                vec![0x7FFE, 0x7FFD, 0x7FFE, 0x0002],
                vec![0x7F, 0xFE, 0x7F, 0xFD, 0, 2],
            ),
        ] {
            let answer = client.request(&mut host, method, |builder| {
                for unknown in unknown {
                    builder.attribute(A(unknown), b"?");
                }
            });
            let reply = answer.error(420);
            assert_eq!(reply.attribute(A::UNKNOWN_ATTRIBUTES), Some(expected));
        }
    }
    let packet = client.bare(Method::Binding, |builder| {
        builder.attribute(A(0x7FFF), &[]);
    });
    let reply = client.exchange(&mut host, &packet).unwrap();
    assert_eq!(reply.code(), Some(420), "Binding needs no credentials");
}

/// MSG-16: known attributes in places where they mean nothing.
#[test]
fn unexpected_known_attributes_are_ignored() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    for method in [
        Method::CreatePermission,
        Method::ChannelBind,
        Method::Refresh,
    ] {
        let answer = client.request(&mut host, method, |builder| {
            builder
                .u32(A::LIFETIME, 700)
                .attribute(A::EVEN_PORT, &[0x80])
                .u32(A::PRIORITY, 1)
                .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
                .attribute(A::USE_CANDIDATE, &[])
                .attribute(A::DONT_FRAGMENT, &[])
                .xor_address(A::XOR_PEER_ADDRESS, peer);
        });
        answer.success();
    }
    let binding = client.bare(Method::Binding, |builder| {
        builder.u32(A::LIFETIME, 1).attribute(A::USERNAME, b"x");
    });
    assert_eq!(
        client.exchange(&mut host, &binding).unwrap().code(),
        None,
        "BIND-04"
    );
}

/// MSG-06
#[test]
fn the_first_of_two_counts() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let answer = client.request(&mut host, Method::Refresh, |builder| {
        builder.u32(A::LIFETIME, 700).u32(A::LIFETIME, 0);
    });
    assert_eq!(answer.success().lifetime(), Some(700));
    let peer = address("9.9.9.1:5000");
    client.permit(&mut host, &[peer]).success();
    let packet = build(Class::Indication, Method::Send, client.id(), |builder| {
        builder
            .xor_address(A::XOR_PEER_ADDRESS, peer)
            .attribute(A::DATA, b"first")
            .attribute(A::DATA, b"second")
            .xor_address(A::XOR_PEER_ADDRESS, address("9.9.9.2:1"));
    });
    let sent = client.data(&mut host, &packet).unwrap();
    assert_eq!((sent.to, &sent.data[..]), (peer, &b"first"[..]));
}

/// MSG-12, MSG-17
#[test]
fn an_unknown_attribute_ends_an_indication() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    client.permit(&mut host, &[peer]).success();
    for (unknown, passes) in [(0x7FFF, false), (0x8FFF, true)] {
        for first in [true, false] {
            let packet = build(Class::Indication, Method::Send, client.id(), |builder| {
                if first {
                    builder.attribute(A(unknown), b"?");
                }
                builder
                    .xor_address(A::XOR_PEER_ADDRESS, peer)
                    .attribute(A::DATA, b"x");
                if !first {
                    builder.attribute(A(unknown), b"?");
                }
            });
            assert_eq!(client.data(&mut host, &packet).is_some(), passes);
        }
    }
}

/// MSG-18, and vector A18: nothing that follows the integrity attribute counts.
#[test]
fn what_stands_behind_the_integrity_is_not_there() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let smuggle = |packet: &[u8], attribute: &[u8]| {
        let mut packet = [packet, attribute].concat();
        let length = (packet.len() - 20) as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    };
    let refresh = client.signed(Method::Refresh, |_| {});
    let reply = client.repeat(&mut host, &smuggle(&refresh, &[0, 0x0D, 0, 4, 0, 0, 0, 0]));
    assert_eq!(reply.success().lifetime(), Some(600));
    let reply = client.repeat(&mut host, &smuggle(&refresh, &[0x7F, 0xFF, 0, 0]));
    reply.success();
    assert!(client.has_allocation(&mut host));
    // Credentials behind it are none.
    let nonce = client.nonce.clone().unwrap();
    let key = alice().key(turnstone::auth::PasswordAlgorithm::Md5);
    let packet = client.bare(Method::Refresh, |builder| {
        builder
            .attribute(A::REALM, b"example.org")
            .attribute(A::NONCE, &nonce)
            .integrity(IntegrityAlgorithm::Sha1, key.as_bytes())
            .attribute(A::USERNAME, b"alice");
    });
    assert_eq!(
        client.exchange(&mut host, &packet).unwrap().code(),
        Some(400)
    );
}

/// MSG-24, AUTH-12: many transactions at a time, each with its answer.
#[test]
fn pipelined_requests() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let packets: Vec<_> = (0..50)
        .map(|_| client.signed(Method::Refresh, |_| {}))
        .collect();
    for packet in &packets {
        assert_eq!(host.client_packet(client.at, client.ip, packet), None);
    }
    assert_eq!(host.replies.len(), 50);
    for packet in &packets {
        let id = Message::parse(packet).unwrap().transaction_id();
        let reply = host.replies.iter().find(|reply| reply.id() == id).unwrap();
        assert!(reply.is_signed_for(&client.account, client.scheme));
    }
}

/// FP-04: a repetition that lost its FINGERPRINT, which integrity does not cover, or got one.
#[test]
fn a_repetition_is_answered_with_the_fingerprint_that_it_has() {
    for first_has in [true, false] {
        let mut host = Host::new(Setup::default());
        let mut client = client();
        client.challenge(&mut host, Method::Allocate);
        let nonce = client.nonce.clone().unwrap();
        let id = client.id();
        for has in [first_has, !first_has, first_has] {
            let packet = build(Class::Request, Method::Allocate, id, |builder| {
                builder.u32(A::REQUESTED_TRANSPORT, UDP);
                crate::message::sign(builder, &alice(), &nonce, Scheme::Old);
                if has {
                    builder.fingerprint();
                }
            });
            let reply = client.exchange(&mut host, &packet).unwrap();
            assert_eq!(reply.class(), Class::Success);
        }
        assert_eq!(host.sockets.len(), 1);
    }
}

/// FP-02, FP-04: echoed in every kind of answer, and wrong ones dropped.
#[test]
fn fingerprints_are_echoed() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.challenge(&mut host, Method::Allocate);
    let nonce = client.nonce.clone().unwrap();
    for method in METHODS.into_iter().chain([Method::Binding]) {
        for signed in [true, false] {
            let packet = client.bare(method, |builder| {
                builder.u32(A::REQUESTED_TRANSPORT, UDP);
                if signed {
                    crate::message::sign(builder, &alice(), &nonce, Scheme::Old);
                }
                builder.fingerprint();
            });
            assert!(client.exchange(&mut host, &packet).is_some());
            if method == Method::Allocate && signed {
                assert!(
                    client.exchange(&mut host, &packet).is_some(),
                    "the repetition"
                );
            }
            let mut wrong = packet.clone();
            *wrong.last_mut().unwrap() ^= 1;
            assert!(client.exchange(&mut host, &wrong).is_none());
        }
    }
    let peer = address("9.9.9.1:5000");
    client.permit(&mut host, &[peer]).success();
    let mut packet = send_indication(client.id(), peer, b"x");
    packet.extend([0x80, 0x28, 0, 4, 0, 0, 0, 0]);
    packet[3] += 8;
    assert_eq!(client.data(&mut host, &packet), None);
}

/// OAUTH-02
#[test]
fn a_token_of_rfc_7635_is_unknown() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let packet = client.bare(Method::Allocate, |builder| {
        builder.attribute(A::ACCESS_TOKEN, &[1; 40]);
    });
    let reply = client.exchange(&mut host, &packet).unwrap();
    assert_eq!(reply.code(), Some(420));
    assert_eq!(reply.attribute(A::UNKNOWN_ATTRIBUTES), Some(vec![0, 0x1B]));
}

/// BIND-06: classic clients only where the operator wants them.
#[test]
fn classic_stun() {
    let request = [&[0u8, 1, 0, 0] as &[u8], &[0xABu8; 16]].concat();
    for classic_stun in [false, true] {
        let mut host = Host::new(Setup {
            classic_stun,
            ..Setup::default()
        });
        let client = client();
        host.client_packet(client.at, client.ip, &request);
        let reply = host.only_reply();
        assert_eq!(reply.is_some(), classic_stun);
        if let Some(reply) = reply {
            assert_eq!(reply.bytes[4..20], [0xAB; 16]);
            assert_eq!(reply.bytes[20..28], [0, 1, 0, 8, 0, 1, 0x0F, 0xA0]);
            assert_eq!(reply.bytes[28..], [198, 51, 100, 1]);
        }
        let stream = TestClient::tcp("198.51.100.1:4000");
        host.client_packet(stream.at, stream.ip, &request);
        assert!(host.only_reply().is_none());
        for method in [3u8, 4, 8, 9] {
            let mut request = request.clone();
            request[1] = method;
            host.client_packet(client.at, client.ip, &request);
            assert!(host.only_reply().is_none(), "never for TURN");
        }
    }
}

/// BIND-06, DTLS-03: over DTLS a request without the cookie is told off, and an indication is not.
#[test]
fn classic_stun_over_dtls() {
    let mut host = Host::new(Setup::default());
    let client = TestClient::dtls("198.51.100.1:4000");
    let request = [&[0u8, 1, 0, 0] as &[u8], &[0xABu8; 16]].concat();
    host.client_packet(client.at, client.ip, &request);
    let reply = host.only_reply().unwrap();
    assert_eq!(reply.bytes[..2], [0x01, 0x11]);
    assert_eq!(reply.bytes[4..20], [0xAB; 16]);
    assert_eq!(reply.bytes[20..28], [0, 9, 0, 4, 0, 0, 5, 0]);
    for kind in [[0x00, 0x11], [0x01, 0x01], [0, 3]] {
        let other = [&kind[..], &request[2..]].concat();
        host.client_packet(client.at, client.ip, &other);
        assert!(host.only_reply().is_none());
    }
}

/// ALLOC-05, DTLS-02: RFC 7350 §4.6 has another code than servers without RFC 6062 have elsewhere.
#[test]
fn no_relaying_over_tcp_from_dtls() {
    for (mut client, code) in [
        (TestClient::dtls("198.51.100.1:4000"), 400),
        (TestClient::udp("198.51.100.1:4000"), 442),
    ] {
        let mut host = Host::new(Setup::default());
        let answer = client.request(&mut host, Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, 6 << 24);
        });
        answer.error(code);
    }
}

/// MSG-20, BIND-08, SEC-09: what nobody authenticated is answered in few bytes.
#[test]
fn answers_to_strangers_are_small() {
    let mut host = Host::new(Setup {
        software: Some("turnstone"),
        ..Setup::default()
    });
    let mut client = client();
    let binding = client.bare(Method::Binding, |_| {});
    let reply = client.exchange(&mut host, &binding).unwrap();
    assert_eq!((binding.len(), reply.bytes.len()), (20, 32));
    let challenge = client.challenge(&mut host, Method::Allocate);
    assert!(
        challenge.bytes.len() <= 100,
        "{} bytes",
        challenge.bytes.len()
    );
}
