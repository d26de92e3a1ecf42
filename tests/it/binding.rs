//! Binding (RFC 8489 §6.3, §12; RFC 3489).

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, TestServer, Via};

/// BIND-01, BIND-02, BIND-04
#[test]
fn tells_the_clients_address_on_every_transport() {
    let server = TestServer::start();
    for via in Via::ALL {
        for _ in 0..3 {
            let mut client = Client::new(&server, via);
            for _ in 0..2 {
                let reply = client.exchange(&Packet::binding());
                assert_eq!(reply.code(), 0);
                assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
            }
        }
    }
}

/// BIND-03: an IPv4 client of an IPv6 socket is an IPv4 client.
#[test]
fn an_ipv4_client_of_a_dual_stack_listener_is_told_an_ipv4_address() {
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let server = TestServer::with(|setup| (setup.udp, setup.tcp) = (vec![any], vec![any]));
    let ports = [server.udp().port(), server.tcp().port()];
    let v4 = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let v6 = ports.map(|port| SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
    for [udp, tcp] in [v4, v6] {
        for mut client in [Client::udp_to(udp), Client::tcp_to(tcp)] {
            let reply = client.exchange(&Packet::binding());
            assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
            let relayed = client.allocate();
            assert!(relayed.is_ipv4());
        }
    }
}

/// BIND-04: credentials are not looked at.
#[test]
fn needs_no_credentials_and_minds_none() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let strays = [
        Packet::binding().attr(a::USERNAME, b"nobody"),
        Packet::binding()
            .attr(a::USERNAME, b"a:b")
            .sha1(b"wrong key"),
        Packet::binding().sha256(b"wrong key", 32),
        client.signed(Packet::binding()),
    ];
    for request in strays {
        let reply = client.exchange(&request);
        assert_eq!(reply.code(), 0);
        assert_eq!(reply.types(), [a::XOR_MAPPED_ADDRESS]);
    }
}

/// BIND-05
#[test]
fn an_indication_keeps_alive_and_is_not_answered() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        client.expect_silence(Packet::indication(0x001).bytes());
        client.allocate();
        client.expect_silence(Packet::indication(0x001).bytes());
        client.expect_silence(Packet::indication(0x001).fingerprint().bytes());
        client.assert_alive();
    }
}

/// A request of RFC 3489, whose transaction id has 16 bytes.
fn classic(kind: u16, attributes: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((attributes.len() as u16).to_be_bytes());
    bytes.extend(*b"sixteen byte id.");
    bytes.extend(attributes);
    bytes
}

/// BIND-06: off unless the operator wants it, and then for Binding over UDP alone.
#[test]
fn clients_of_rfc_3489_where_they_are_wanted() {
    let server = TestServer::start();
    Client::udp(&server).expect_silence(&classic(0x0001, &[]));

    let server = TestServer::with(|setup| setup.classic_stun = true);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = Client::udp_from(socket, server.udp());
    client.send(&classic(0x0001, &[]));
    let reply = client.recv();
    let mut mapped = vec![0, 1, 0, 8, 0, 1];
    mapped.extend(client.local().port().to_be_bytes());
    mapped.extend([127, 0, 0, 1]);
    let mut expected = classic(0x0101, &mapped);
    assert_eq!(reply, expected);

    client.send(&classic(0x0001, &[0, 3, 0, 4, 0, 0, 0, 6]));
    let reply = client.recv();
    expected = classic(0x0111, &[]);
    assert_eq!(reply[..2], expected[..2]);
    assert_eq!(reply[4..20], expected[4..20]);
    let attributes = crate::harness::parse_attributes(&reply[20..]);
    assert_eq!(attributes[0], (a::ERROR_CODE, vec![0, 0, 4, 20]));
    assert_eq!(attributes[1], (a::UNKNOWN_ATTRIBUTES, vec![0, 3, 0, 3]));

    for method in [0x0003, 0x0004, 0x0008, 0x0009, 0x0016] {
        client.expect_silence(&classic(method, &[]));
    }
    let mut client = Client::tcp(&server);
    client.send(&classic(0x0001, &[]));
    assert_eq!(client.expect_close(), b"");
}

/// BIND-07, BIND-08: nothing but the address, so that nobody gains by a forged source.
#[test]
fn the_reply_is_small_and_has_no_mapped_address() {
    let server = TestServer::start();
    for (via, len) in [
        (Via::Udp, 32),
        (Via::Udp6, 44),
        (Via::Tcp, 32),
        (Via::Tcp6, 44),
    ] {
        let reply = Client::new(&server, via).exchange(&Packet::binding());
        assert_eq!(reply.types(), [a::XOR_MAPPED_ADDRESS]);
        assert_eq!(reply.bytes.len(), len);
        assert!(!reply.has(a::MAPPED_ADDRESS));
    }
}

/// BIND-09, BIND-10
#[test]
fn does_not_disturb_an_allocation() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        client.allocate();
        for _ in 0..20 {
            let reply = client.exchange(&Packet::binding());
            assert_eq!(reply.address(a::XOR_MAPPED_ADDRESS), client.local());
        }
        client.assert_alive();
    }
}

/// MSG-13, NATD-01: unknown attributes of a Binding request, which nobody signs; CHANGE-REQUEST is
/// one, and there is no OTHER-ADDRESS.
#[test]
fn unknown_required_attributes_are_listed() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let request = Packet::binding()
        .attr(0x7FFF, b"")
        .attr(a::CHANGE_REQUEST, &[0, 0, 0, 6]);
    let reply = client.exchange(&request);
    assert_eq!((reply.code(), reply.unknown()), (420, vec![0x0003, 0x7FFF]));
}
