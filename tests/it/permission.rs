//! CreatePermission and who may be a peer (RFC 8656 §9, §10).

use std::net::{IpAddr, SocketAddr};

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Peer, TestServer, Via, method};

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// PERM-01
#[test]
fn a_permission_is_for_an_address_whatever_the_port() {
    let server = TestServer::start();
    for via in Via::V4 {
        let peers = [Peer::new(), Peer::new()];
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        client.permit(address("127.0.0.1:0"));
        for peer in &peers {
            peer.send(b"in", relayed);
            client.expect_data(peer.address(), b"in");
            client.send_data(peer.address(), b"out");
            peer.expect(b"out", relayed);
        }
    }
}

/// PERM-03
#[test]
fn a_malformed_address_is_a_bad_request() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let permit = || Packet::request(method::CREATE_PERMISSION);
    assert_eq!(client.request(permit()).code(), 400, "none at all");
    let good = permit().address(a::XOR_PEER_ADDRESS, address("127.0.0.1:9"));
    for len in [0, 4, 7, 9, 12, 19, 20, 21] {
        let mut value = vec![0; len];
        value.splice(..len.min(2), [0, 1].into_iter().take(len.min(2)));
        let request = permit().attr(a::XOR_PEER_ADDRESS, &value);
        assert_eq!(client.request(request).code(), 400, "{len} bytes");
        let request = good.clone().attr(a::XOR_PEER_ADDRESS, &value);
        assert_eq!(
            client.request(request).code(),
            400,
            "{len} bytes after a good one"
        );
    }
    for (family, len) in [(0, 8), (3, 8), (2, 8), (1, 20), (0, 20), (255, 20)] {
        let mut value = vec![0; len];
        value[1] = family;
        let request = permit().attr(a::XOR_PEER_ADDRESS, &value);
        assert_eq!(
            client.request(request).code(),
            400,
            "family {family}, {len} bytes"
        );
    }
}

/// PERM-04
#[test]
fn every_address_of_a_request_is_permitted() {
    let server = TestServer::start();
    for count in [1_u8, 5, 20] {
        let mut client = Client::udp(&server);
        let relayed = client.allocate();
        let peers: Vec<Peer> = (1..=count)
            .map(|last| Peer::on(IpAddr::from([127, 9, 9, last])))
            .collect();
        let addresses: Vec<SocketAddr> = peers.iter().map(Peer::address).collect();
        assert_eq!(client.try_permit(&addresses).code(), 0);
        for peer in &peers {
            peer.send(b"hello", relayed);
            client.expect_data(peer.address(), b"hello");
        }
    }
}

/// PERM-05
#[test]
fn a_family_without_a_relayed_address_is_a_mismatch() {
    let server = TestServer::start();
    let (v4, v6) = (address("127.0.0.1:9"), address("[::1]:9"));
    let families: [(&[u8], bool, bool); 2] =
        [(&[1, 0, 0, 0], true, false), (&[2, 0, 0, 0], false, true)];
    for (family, has_v4, has_v6) in families {
        let mut client = Client::udp(&server);
        client.try_allocate(|p| p.attr(a::REQUESTED_ADDRESS_FAMILY, family));
        assert_eq!(client.try_permit(&[v4]).code() == 0, has_v4);
        assert_eq!(client.try_permit(&[v6]).code() == 0, has_v6);
        assert_eq!(client.try_permit(&[v4, v6]).code(), 443);
        assert_eq!(client.try_permit(&[v6, v4]).code(), 443);
    }
    let mut client = Client::udp(&server);
    client.try_allocate(|p| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]));
    assert_eq!(client.try_permit(&[v4, v6]).code(), 0);
}

/// PERM-06, PERM-08, PERM-11: one bad address of many, and no permission is installed.
#[test]
fn all_addresses_or_none() {
    let server = TestServer::start();
    let (good, marker) = (Peer::new(), Peer::on([127, 9, 9, 9].into()));
    for bad in ["224.0.0.1:9", "[2001:db8::1]:9"] {
        for good_first in [true, false] {
            let mut client = Client::udp(&server);
            let relayed = client.allocate();
            client.permit(marker.address());
            let mut both = [good.address(), address(bad)];
            if !good_first {
                both.reverse();
            }
            assert!([403, 443].contains(&client.try_permit(&both).code()));
            good.send(b"blocked", relayed);
            client.send_data(good.address(), b"blocked");
            marker.send(b"marker", relayed);
            client.expect_data(marker.address(), b"marker");
            client.permit(good.address());
            client.send_data(good.address(), b"permitted");
            good.expect(b"permitted", relayed);
        }
    }
}

/// The wire's forms of the addresses of the vectors, with the verdict of a server that allows
/// nothing beyond the defaults. `::1` is the servers' relay address here, and so another matter.
fn table_of_peers() -> Vec<(IpAddr, String)> {
    let text = include_str!("../data/vectors.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let peers = vectors["peers"].as_array().unwrap().iter();
    peers
        .map(|peer| {
            let ip: IpAddr = peer["ip"].as_str().unwrap().parse().unwrap();
            (ip, peer["verdict"].as_str().unwrap().to_owned())
        })
        .filter(|(ip, _)| *ip != IpAddr::from(std::net::Ipv6Addr::LOCALHOST))
        .collect()
}

/// PERM-08, PERM-13, SEC-01, SEC-02, SEC-03, SEC-04, SEC-05, SEC-06: the table of peers, through
/// both requests, over UDP and TCP. Forbidden is 403, and nothing else.
#[test]
fn the_table_of_peers() {
    let server = TestServer::with(|setup| {
        setup.peers.allow_loopback = false;
        setup.limits.allocations_per_user = 10_000;
    });
    for via in Via::V4 {
        for (ip, verdict) in table_of_peers() {
            let mut client = Client::new(&server, via);
            let family = if ip.is_ipv4() {
                [1, 0, 0, 0]
            } else {
                [2, 0, 0, 0]
            };
            let reply = client.try_allocate(|p| p.attr(a::REQUESTED_ADDRESS_FAMILY, &family));
            assert_eq!(reply.code(), 0);
            let peer = SocketAddr::new(ip, 9);
            let codes = [
                client.try_permit(&[peer]).code(),
                client.try_bind(0x4000, peer).code(),
            ];
            let mapped = ip.to_canonical().is_ipv4() != ip.is_ipv4();
            match verdict.as_str() {
                "allow" => assert_eq!(codes, [0, 0], "{ip}"),
                // An address of the other family in disguise.
                _ if mapped => assert!(codes.iter().all(|code| [403, 443].contains(code)), "{ip}"),
                "always" | "default" => assert_eq!(codes, [403, 403], "{ip}"),
                _ => {}
            }
            client.delete();
        }
    }
}

/// SEC-05, SEC-06: a wide allow rule opens private networks, and neither loopback nor link-local
/// nor metadata services.
#[test]
fn a_wide_allow_rule_opens_private_networks_alone() {
    let server = TestServer::with(|setup| {
        setup.peers.allow_loopback = false;
        setup.peers.allow = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        setup.peers.deny = vec!["10.9.0.0/16".parse().unwrap()];
    });
    for (ip, verdict) in table_of_peers() {
        let family = if ip.is_ipv4() {
            [1, 0, 0, 0]
        } else {
            [2, 0, 0, 0]
        };
        let mut client = Client::udp(&server);
        client.try_allocate(|p| p.attr(a::REQUESTED_ADDRESS_FAMILY, &family));
        let code = client.try_permit(&[SocketAddr::new(ip, 9)]).code();
        match verdict.as_str() {
            "always" => assert!([403, 443].contains(&code), "{ip}: {code}"),
            "default" if ip.is_ipv4() => assert_eq!(code, 0, "{ip}"),
            _ => {}
        }
        client.delete();
    }
    let mut client = Client::udp(&server);
    client.allocate();
    assert_eq!(client.try_permit(&[address("10.9.0.1:9")]).code(), 403);
    assert_eq!(client.try_permit(&[address("10.8.0.1:9")]).code(), 0);
}

/// SEC-01, SEC-02: Send is the third door, and has no other key than the permission.
#[test]
fn nothing_is_sent_to_who_is_not_permitted() {
    let server = TestServer::with(|setup| setup.peers.allow_loopback = false);
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    client.allocate();
    assert_eq!(client.try_permit(&[peer.address()]).code(), 403);
    assert_eq!(client.try_permit(&[address("0.0.0.0:9")]).code(), 403);
    for to in [
        peer.address(),
        SocketAddr::from(([0, 0, 0, 0], peer.address().port())),
    ] {
        client.send_data(to, b"blocked");
    }
    client.expect_nothing();
    let other = Peer::new();
    other.send(b"marker", peer.address());
    peer.expect(b"marker", other.address());
}

/// SEC-07: neither listeners nor services on the server's own addresses.
#[test]
fn the_server_itself_is_no_peer() {
    let server = TestServer::with(|setup| {
        setup.peers.allow_loopback = false;
        setup.own_networks = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    assert_eq!(client.try_permit(&[server.udp()]).code(), 403);
    assert_eq!(client.try_bind(0x4000, server.udp()).code(), 403);
    let port = if relayed.port() == *server.ports.start() {
        relayed.port() + 1
    } else {
        relayed.port() - 1
    };
    let service = Peer {
        socket: std::net::UdpSocket::bind((relayed.ip(), port)).unwrap(),
    };
    assert_eq!(client.try_bind(0x4000, service.address()).code(), 403);
    client.try_permit(&[service.address()]);
    client.send_data(service.address(), b"blocked");
    client.expect_nothing();
    let other = Peer::new();
    other.send(b"marker", service.address());
    service.expect(b"marker", other.address());
}

/// SEC-07: behind a wildcard listener every address of the host is the server.
#[test]
fn a_wildcard_listener_is_no_peer_on_any_address() {
    let server = TestServer::with(|setup| setup.udp = vec!["0.0.0.0:0".parse().unwrap()]);
    let port = server.udp().port();
    let mut client = Client::udp_to(SocketAddr::from(([127, 0, 0, 1], port)));
    client.allocate();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        let listener = SocketAddr::from((ip, port));
        assert_eq!(client.try_bind(0x4000, listener).code(), 403, "{listener}");
        client.permit(listener);
        let inner = Packet::binding();
        client.send_data(listener, inner.bytes());
        client.expect_nothing();
    }
}

/// PERM-09, SEC-12
#[test]
fn one_more_than_the_limit_is_a_capacity_error() {
    let server = TestServer::with(|setup| setup.limits.permissions_per_allocation = 3);
    let mut client = Client::udp(&server);
    client.allocate();
    let peers: Vec<SocketAddr> = (1..=4)
        .map(|last| SocketAddr::from(([127, 9, 9, last], 9)))
        .collect();
    assert_eq!(client.try_permit(&peers).code(), 508);
    assert_eq!(client.try_permit(&peers[..3]).code(), 0);
    assert_eq!(client.try_permit(&peers[3..]).code(), 508);
    assert_eq!(
        client.try_permit(&peers[..3]).code(),
        0,
        "these are there already"
    );
}

/// PERM-11, PERM-12: a permission of one allocation is none of another of the same user, and peers
/// that nobody permitted are not heard.
#[test]
fn each_allocation_has_its_own_permissions() {
    let server = TestServer::start();
    let (peer, marker) = (Peer::new(), Peer::on([127, 9, 9, 9].into()));
    let (mut one, mut two) = (Client::udp(&server), Client::tcp(&server));
    let (at_one, at_two) = (one.allocate(), two.allocate());
    one.permit(peer.address());
    two.permit(marker.address());
    for to in [at_one, at_two] {
        peer.send(b"hello", to);
        marker.send(b"marker", to);
    }
    one.expect_data(peer.address(), b"hello");
    one.expect_nothing();
    two.expect_data(marker.address(), b"marker");
    one.delete();
    peer.send(b"late", at_one);
    one.expect_nothing();
    one.allocate();
    one.send_data(peer.address(), b"no permission in the new one");
    two.permit(peer.address());
    two.send_data(peer.address(), b"marker");
    peer.expect(b"marker", at_two);
}

/// PERM-13, SEC-03: an IPv4 address in IPv6 form permits nothing, on an allocation of either family.
#[test]
fn a_mapped_address_is_not_an_ipv4_permission() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let dual = |p: Packet| p.attr(a::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let reply = client.try_allocate(dual);
    let relayed = reply.addresses(a::XOR_RELAYED_ADDRESS)[0];
    for form in [
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1",
    ] {
        let disguised = SocketAddr::new(form.parse().unwrap(), peer.address().port());
        assert!(
            [403, 443].contains(&client.try_permit(&[disguised]).code()),
            "{form}"
        );
        client.send_data(disguised, b"blocked");
    }
    let marker = Peer::on([127, 9, 9, 9].into());
    client.permit(marker.address());
    peer.send(b"blocked", relayed);
    marker.send(b"marker", relayed);
    client.expect_data(marker.address(), b"marker");
    client.permit(peer.address());
    client.send_data(peer.address(), b"marker");
    peer.expect(b"marker", relayed);
}
