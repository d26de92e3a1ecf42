//! STUN messages, their attributes and their order (RFC 8489 §5, §6.3, §14).

use crate::harness::attribute as a;
use crate::harness::{Class, Client, Message, NOBODY, Packet, Peer, TestServer, Via, method};

const KNOWN_METHODS: [u16; 4] = [
    method::ALLOCATE,
    method::REFRESH,
    method::CREATE_PERMISSION,
    method::CHANNEL_BIND,
];

/// MSG-01: what is neither STUN nor ChannelData gets no answer.
#[test]
fn other_protocols_are_dropped() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for first in [
        0x04, 0x10, 0x13, 0x14, 0x16, 0x3F, 0x50, 0x7F, 0x80, 0xBF, 0xC0, 0xFF,
    ] {
        let mut bytes = Packet::binding().into_bytes();
        bytes[0] = first;
        client.expect_silence(&bytes);
    }
}

/// MSG-02
#[test]
fn another_cookie_is_dropped() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let allocate = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    for bit in 0..32 {
        let mut bytes = allocate.bytes().to_vec();
        bytes[4 + bit / 8] ^= 1 << (bit % 8);
        client.expect_silence(&bytes);
    }
}

/// MSG-03
#[test]
fn a_length_that_is_not_the_datagrams_is_dropped() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let request = Packet::binding().attr(a::SOFTWARE, b"test");
    for length in [0_u16, 1, 2, 3, 4, 7, 9, 12, 0x7FFC, 0xFFFC, 0xFFFF] {
        let mut bytes = request.bytes().to_vec();
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        client.expect_silence(&bytes);
    }
    for trailing in 1..=8 {
        let mut bytes = request.bytes().to_vec();
        bytes.resize(bytes.len() + trailing, 0);
        client.expect_silence(&bytes);
    }
    client.send(request.bytes());
    assert_eq!(Message::parse(&client.recv()).code(), 0);
}

/// MSG-05: what was in the buffers before does not come out as padding. The reader of the test
/// insists on zeros.
#[test]
fn padding_is_zero_after_large_packets() {
    let server = TestServer::start();
    for via in Via::V4 {
        let peer = Peer::new();
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(peer.address());
        client.bind(0x4000, peer.address());
        let other = Peer::new();
        for len in [1, 2, 3, 4, 5, 6, 7] {
            for (peer, bound) in [(&peer, true), (&other, false)] {
                peer.send(&[0xFF; 1400], relayed);
                client.recv();
                client.send_data(peer.address(), &[0xFF; 1400]);
                peer.expect(&[0xFF; 1400], relayed);
                peer.send(&vec![0xEE; len], relayed);
                if bound {
                    client.expect_channel(0x4000, &vec![0xEE; len]);
                } else {
                    client.expect_data(peer.address(), &vec![0xEE; len]);
                }
            }
        }
    }
    for realm in ["r", "rr", "rrr", "rrrr"] {
        let server = TestServer::with(|setup| setup.realm = realm.to_owned());
        let mut client = Client::udp(&server);
        client.send(&[0xFF; 1400]);
        assert_eq!(client.challenge().get(a::REALM), Some(realm.as_bytes()));
    }
}

/// MSG-05: padding on receipt is any bytes.
#[test]
fn padding_of_requests_is_ignored() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let mut bytes = Packet::binding().attr(a::SOFTWARE, b"x").into_bytes();
    bytes[25..].copy_from_slice(b"\xFF\x20\x01");
    client.send(&bytes);
    assert_eq!(Message::parse(&client.recv()).code(), 0);
}

/// MSG-06
#[test]
fn the_first_of_two_attributes_counts() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(|packet| {
        packet
            .attr(a::REQUESTED_TRANSPORT, &[6, 0, 0, 0])
            .u32(a::LIFETIME, 900)
            .u32(a::LIFETIME, 3000)
    });
    assert_eq!((reply.code(), reply.lifetime()), (0, 900));
    let twice = Packet::request(method::REFRESH)
        .u32(a::LIFETIME, 600)
        .u32(a::LIFETIME, 0);
    assert_eq!(client.request(twice).lifetime(), 600);
    client.assert_alive();

    let (peer, other) = (Peer::new(), Peer::new());
    client.permit(peer.address());
    let twice = Packet::indication(method::SEND)
        .address(a::XOR_PEER_ADDRESS, peer.address())
        .attr(a::DATA, b"first")
        .address(a::XOR_PEER_ADDRESS, other.address())
        .attr(a::DATA, b"second");
    client.send(twice.bytes());
    assert_eq!(peer.recv().0, b"first");
}

/// MSG-07: with credentials too. The methods of RFC 6062 are not built.
#[test]
fn an_unknown_method_is_dropped() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        let unknown = [0x000, 0x002, 0x005, 0x00C, 0x00D, 0x07F, 0x080, 0x0FF];
        let connect = [method::CONNECT, method::CONNECTION_BIND];
        // On a stream the first byte of such a message ends the connection.
        let other_demultiplexing = [0x100, 0xFFF].into_iter().filter(|_| via == Via::Udp);
        for method in unknown
            .into_iter()
            .chain(connect)
            .chain(other_demultiplexing)
        {
            client.expect_silence(Packet::request(method).bytes());
            let signed = client.signed(Packet::request(method));
            client.expect_silence(signed.bytes());
        }
    }
}

/// MSG-08, MSG-09
#[test]
fn a_class_that_the_method_does_not_have_is_dropped() {
    let server = TestServer::start();
    let peer = Peer::new();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        client.permit(peer.address());
        let mut wrong = vec![
            (Class::Request, method::SEND),
            (Class::Request, method::DATA),
            (Class::Indication, method::DATA),
        ];
        for method in KNOWN_METHODS {
            wrong.push((Class::Indication, method));
        }
        for method in KNOWN_METHODS
            .into_iter()
            .chain([method::BINDING, method::SEND])
        {
            wrong.extend([(Class::Success, method), (Class::Error, method)]);
        }
        for (class, method) in wrong {
            let packet = Packet::new(class, method)
                .attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
                .u32(a::LIFETIME, 0)
                .address(a::XOR_PEER_ADDRESS, peer.address())
                .attr(a::DATA, b"not relayed");
            client.expect_silence(packet.bytes());
            let signed = client.signed(packet);
            client.expect_silence(signed.bytes());
        }
        client.assert_alive();
        client.send_data(peer.address(), b"marker");
        assert_eq!(peer.recv().0, b"marker");
    }
}

/// MSG-10
#[test]
fn a_reply_has_the_transaction_and_the_method_of_its_request() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        for method in KNOWN_METHODS {
            let reply = client.exchange(&Packet::request(method));
            assert_eq!((reply.class(), reply.method()), (Class::Error, method));
        }
        let reply = client.exchange(&Packet::binding());
        assert_eq!(
            (reply.class(), reply.method()),
            (Class::Success, method::BINDING)
        );
    }
}

/// MSG-12
#[test]
fn an_indication_is_never_answered() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        for method in [method::SEND, method::BINDING] {
            for unknown in [0x7FFF, 0x0003, a::DONT_FRAGMENT, a::ACCESS_TOKEN] {
                let packet = Packet::indication(method).attr(unknown, b"1234");
                client.expect_silence(packet.bytes());
                client.expect_silence(packet.fingerprint().bytes());
            }
            client.expect_silence(Packet::indication(method).bytes());
        }
    }
}

/// MSG-13, MSG-14: every unknown attribute is listed, and the reply is signed.
#[test]
fn unknown_required_attributes_are_listed() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let reply = client.try_allocate(|p| p.attr(0x7FFE, b"").attr(0x7FFD, b"123"));
        assert_eq!(reply.code(), 420);
        assert_eq!(reply.get(a::UNKNOWN_ATTRIBUTES).unwrap().len(), 4);
        assert_eq!(reply.unknown(), [0x7FFD, 0x7FFE]);
        let three = |p: Packet| p.attr(0x7FFE, b"").attr(0x7FFD, b"").attr(0x0030, b"");
        let reply = client.try_allocate(three);
        assert_eq!(reply.get(a::UNKNOWN_ATTRIBUTES).unwrap().len(), 6);
        assert_eq!(reply.unknown(), [0x0030, 0x7FFD, 0x7FFE]);

        client.allocate();
        for method in KNOWN_METHODS {
            let reply = client.request(Packet::request(method).attr(0x7FFF, b"1"));
            assert_eq!((reply.code(), reply.unknown()), (420, vec![0x7FFF]));
        }
        client.assert_alive();
    }
}

/// MSG-14
#[test]
fn credentials_come_before_unknown_attributes() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for method in KNOWN_METHODS {
        let reply = client.exchange(&Packet::request(method).attr(0x7FFF, b""));
        assert_eq!(reply.code(), 401);
        assert!(!reply.has(a::UNKNOWN_ATTRIBUTES));
    }
    client.challenge();
    client.password = "wrong".to_owned();
    let request = client.signed(Packet::request(method::ALLOCATE).attr(0x7FFF, b""));
    assert_eq!(client.exchange(&request).code(), 401);
}

/// MSG-15
#[test]
fn unknown_optional_attributes_are_ignored() {
    let server = TestServer::start();
    let peer = Peer::new();
    let extra = |packet: Packet| {
        packet
            .attr(0xFF05, b"browser")
            .attr(0xC057, &[0, 1, 0, 2])
            .attr(0x8FFF, b"")
    };
    let mut client = Client::udp(&server);
    assert_eq!(client.exchange(&extra(Packet::binding())).code(), 0);
    assert_eq!(client.try_allocate(extra).code(), 0);
    assert_eq!(
        client
            .request(extra(Packet::request(method::REFRESH)))
            .code(),
        0
    );
    let permit = Packet::request(method::CREATE_PERMISSION);
    let permit = extra(permit.address(a::XOR_PEER_ADDRESS, peer.address()));
    assert_eq!(client.request(permit).code(), 0);
    let bind = Packet::request(method::CHANNEL_BIND).u32(a::CHANNEL_NUMBER, 0x4000_0000);
    let bind = extra(bind.address(a::XOR_PEER_ADDRESS, peer.address()));
    assert_eq!(client.request(bind).code(), 0);
    let send = extra(Packet::indication(method::SEND))
        .address(a::XOR_PEER_ADDRESS, peer.address())
        .attr(a::DATA, b"data");
    client.send(send.bytes());
    assert_eq!(peer.recv().0, b"data");
}

/// MSG-16
#[test]
fn known_attributes_out_of_place_are_ignored() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let permit = Packet::request(method::CREATE_PERMISSION)
        .u32(a::LIFETIME, 0)
        .attr(a::EVEN_PORT, &[0x80])
        .u32(a::PRIORITY, 1)
        .u32(a::CHANNEL_NUMBER, 0x4000_0000)
        .attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0])
        .attr(a::RESERVATION_TOKEN, b"12345678")
        .address(a::XOR_PEER_ADDRESS, (NOBODY, 9).into());
    assert_eq!(client.request(permit).code(), 0);
    let binding = Packet::binding()
        .u32(a::LIFETIME, 0)
        .address(a::XOR_PEER_ADDRESS, (NOBODY, 9).into());
    assert_eq!(client.exchange(&binding).code(), 0);
    client.assert_alive();
}

/// MSG-17
#[test]
fn an_indication_with_an_unknown_required_attribute_is_dropped() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    for unknown in [0x7FFF, 0x0030, a::ACCESS_TOKEN] {
        let send = Packet::indication(method::SEND)
            .address(a::XOR_PEER_ADDRESS, peer.address())
            .attr(a::DATA, b"dropped")
            .attr(unknown, b"");
        client.expect_silence(send.bytes());
    }
    client.send_data(peer.address(), b"marker");
    peer.expect(b"marker", relayed);
}

/// MSG-18: the message ends with its integrity, whatever follows.
#[test]
fn nothing_counts_after_the_integrity() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let refresh = client.signed(Packet::request(method::REFRESH));
    let reply = client.exchange(&refresh.u32(a::LIFETIME, 0));
    assert_eq!((reply.code(), reply.lifetime()), (0, 600));
    let refresh = client.signed(Packet::request(method::REFRESH));
    assert_eq!(client.exchange(&refresh.attr(0x7FFF, b"")).code(), 0);
    let refresh = client.signed(Packet::request(method::REFRESH));
    let refresh = refresh.u32(a::LIFETIME, 0).fingerprint();
    assert_eq!(client.exchange(&refresh).lifetime(), 600);
    client.assert_alive();
}

/// MSG-19
#[test]
fn an_attribute_after_fingerprint_makes_the_message_malformed() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let request = Packet::binding().fingerprint().attr(a::SOFTWARE, b"late");
    client.expect_silence(request.bytes());
}

/// MSG-20: the longest challenge goes through any path in one piece.
#[test]
fn the_longest_challenge_fits_the_smallest_mtu() {
    let realm = "r".repeat(127);
    let server = TestServer::with(|setup| setup.realm = realm.clone());
    let mut client = Client::udp(&server);
    let request = Packet::request(method::ALLOCATE).fingerprint();
    let reply = client.exchange(&request);
    assert_eq!(reply.get(a::REALM), Some(realm.as_bytes()));
    assert!(reply.has(a::PASSWORD_ALGORITHMS) && reply.is_fingerprinted());
    assert!(reply.bytes.len() < 548, "{} bytes", reply.bytes.len());
}

/// MSG-21: who has credentials is told the reason in words; others get the number alone, and
/// nothing to reflect.
#[test]
fn reasons_are_for_users() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    assert_eq!(
        client.challenge().get(a::ERROR_CODE),
        Some(&[0, 0, 4, 1][..])
    );
    let reply = client.try_refresh(None);
    assert_eq!(reply.get(a::ERROR_CODE).unwrap()[..4], [0, 0, 4, 37]);
    assert_eq!(
        &reply.get(a::ERROR_CODE).unwrap()[4..],
        b"Allocation Mismatch"
    );
}

/// MSG-22
#[test]
fn software_is_told_to_users() {
    let server = TestServer::with(|setup| setup.software = Some("test software"));
    let mut client = Client::udp(&server);
    assert!(!client.challenge().has(a::SOFTWARE));
    assert!(!client.exchange(&Packet::binding()).has(a::SOFTWARE));
    let software = Some(&b"test software"[..]);
    assert_eq!(client.try_allocate(|p| p).get(a::SOFTWARE), software);
    assert_eq!(client.try_refresh(None).get(a::SOFTWARE), software);

    let server = TestServer::with(|setup| setup.software = None);
    let mut client = Client::udp(&server);
    assert!(!client.try_allocate(|p| p).has(a::SOFTWARE));
    assert!(!client.try_refresh(None).has(a::SOFTWARE));
}

/// MSG-24
#[test]
fn fifty_requests_at_once_get_fifty_replies() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        client.allocate();
        let mut open: Vec<[u8; 12]> = Vec::new();
        for number in 0..50 {
            let packet = match number % 3 {
                0 => Packet::binding(),
                1 => client.signed(Packet::request(method::REFRESH)),
                _ => Packet::request(method::ALLOCATE),
            };
            open.push(packet.id());
            client.send(packet.bytes());
        }
        for _ in 0..50 {
            let id = Message::parse(&client.recv()).id();
            let place = open.iter().position(|open| *open == id).unwrap();
            open.swap_remove(place);
        }
        assert_eq!(open.len(), 0);
    }
}
