//! Who may be a peer, at every door, and hairpins (RFC 8656 §21, conformance §19).

use std::net::SocketAddr;

use turnstone::turn::{IpHeader, PeerPolicy, RelayAddress};
use turnstone::wire::{AttributeType as A, Family};

use crate::client::TestClient;
use crate::host::{Host, Setup, address, bob, ip, relay};
use crate::message::Delivered;

/// The three doors of a peer's address. All say the same, or the family is wrong and they all say
/// that.
fn is_peer(setup: Setup, peer: SocketAddr) -> bool {
    let mut host = Host::new(setup);
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate_dual(&mut host);
    // Send before there is a permission: only the other doors decide.
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    let permitted = client
        .permit(&mut host, &[address("9.9.9.9:1"), peer])
        .0
        .code();
    let send = client.send(&mut host, peer, b"x").is_some();
    let bound = client.bind(&mut host, 0x4000, peer).0.code();
    let channel = client.send_on(&mut host, 0x4000, b"x").is_some();
    assert_eq!(permitted, bound, "{peer}");
    assert!(
        matches!(permitted, None | Some(403 | 443)),
        "{peer}: {permitted:?}"
    );
    assert_eq!(
        (send, channel),
        (permitted.is_none(), permitted.is_none()),
        "{peer}"
    );
    let good = client.send(&mut host, address("9.9.9.9:1"), b"x").is_some();
    assert_eq!(good, permitted.is_none(), "PERM-06");
    permitted.is_none()
}

fn setup(peers: PeerPolicy) -> Setup {
    Setup {
        relays: vec![relay("203.0.113.15"), relay("2001:db8:1::15")],
        peers,
        ..Setup::default()
    }
}

/// SEC-01, SEC-02, SEC-03, SEC-04, SEC-05, SEC-06, SEC-20, PERM-08, PERM-13
#[test]
fn the_table_of_peers_through_every_door() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../data/vectors.json")).unwrap();
    let everything = || PeerPolicy {
        allow: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        ..PeerPolicy::default()
    };
    let rows = vectors["peers"].as_array().unwrap();
    assert!(rows.len() > 40);
    for row in rows {
        let peer = SocketAddr::new(ip(row["ip"].as_str().unwrap()), 5000);
        let mapped = matches!(peer.ip().to_canonical(), ip if ip.is_ipv4() != peer.is_ipv4());
        // (by default, with everything allowed)
        let expected = match row["verdict"].as_str().unwrap() {
            "always" => (false, false),
            // An IPv4 address in IPv6 form is no way to it, whatever is allowed.
            "default" => (false, !mapped),
            "allow" => (true, true),
            "see text" => (!mapped, !mapped),
            other => panic!("{other}"),
        };
        let closed = is_peer(setup(PeerPolicy::default()), peer);
        let open = is_peer(setup(everything()), peer);
        assert_eq!((closed, open), expected, "{peer}");
    }
}

/// SEC-01, SEC-07: this host's addresses are no peers, but for the relayed addresses that live.
#[test]
fn own_addresses() {
    let (own, opened) = (ip("9.9.9.9"), ip("198.18.0.1"));
    let policy = PeerPolicy {
        allow: vec!["198.18.0.0/15".parse().unwrap()],
        own: vec![own, opened, ip("192.0.2.15")],
        ..PeerPolicy::default()
    };
    let listener = address("192.0.2.15:50000");
    let mut host = Host::new(Setup {
        relays: vec![relay("192.0.2.15")],
        ports: 50_000..=50_010,
        listeners: vec![listener],
        peers: policy,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
    client.allocate(&mut host);
    client
        .permit(&mut host, &[SocketAddr::new(own, 1)])
        .error(403);
    client
        .permit(&mut host, &[SocketAddr::new(opened, 1)])
        .success();
    client.permit(&mut host, &[listener]).success();
    for port in [22, 3478, 49_999, 50_000, 50_011] {
        let peer = SocketAddr::new(listener.ip(), port);
        assert_eq!(client.send(&mut host, peer, b"x"), None, "{peer}");
        client.bind(&mut host, 0x4000, peer).error(403);
    }
    let theirs = other.allocate(&mut host);
    client.bind(&mut host, 0x4000, theirs).success();
    assert!(client.send(&mut host, theirs, b"x").is_some());
    assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
    other.refresh(&mut host, 0).success();
    assert_eq!(client.send(&mut host, theirs, b"x"), None, "its port rests");
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    // CHAN-04: browsers give up a pair whose channel is refused.
    client.bind(&mut host, 0x4000, theirs).success();
    client.bind(&mut host, 0x4001, theirs).error(403);
}

/// A deny rule closes the relay addresses too.
#[test]
fn hairpins_can_be_denied() {
    let mut host = Host::new(Setup {
        peers: PeerPolicy {
            deny: vec!["192.0.2.15/32".parse().unwrap()],
            ..PeerPolicy::default()
        },
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[relayed]).error(403);
}

/// SEC-07, PERM-15, ALLOC-25: both sides of a call on one server behind 1:1 NAT, over two shards.
#[test]
fn hairpin_by_advertised_addresses() {
    let external = |bound: &str, advertised: &str| RelayAddress {
        bound: ip(bound),
        advertised: ip(advertised),
    };
    for (family, peer_port) in [(Family::V4, 4001), (Family::V6, 4003)] {
        let mut host = Host::new(Setup {
            relays: vec![
                external("10.0.0.5", "203.0.113.10"),
                external("fd00::5", "2001:db8::10"),
            ],
            shards: 2,
            ..Setup::default()
        });
        let mut alice = TestClient::udp("198.51.100.1:4000");
        let mut other = TestClient::tcp(&format!("198.51.100.2:{peer_port}")).by(bob());
        let mut relayed = [&mut alice, &mut other].map(|client| {
            let answer = client.allocate_with(&mut host, |builder| {
                builder.u32(A::REQUESTED_ADDRESS_FAMILY, (family as u32) << 24);
            });
            answer.success().relayed()[0]
        });
        let advertised = if family == Family::V4 {
            "203.0.113.10"
        } else {
            "2001:db8::10"
        };
        assert!(
            relayed.iter().all(|it| it.ip() == ip(advertised)),
            "ALLOC-25"
        );
        alice.permit(&mut host, &[relayed[1]]).success();
        other.bind(&mut host, 0x4000, relayed[0]).success();
        for (from, to) in [(&mut alice, 0), (&mut other, 1)] {
            let sent = from
                .send(&mut host, relayed[1 - to], b"media")
                .expect("relayed");
            assert_ne!(sent.to.ip(), ip(advertised), "to the bound address");
            let (client, delivered, _) = host
                .peer_packet(sent.to, sent.from, sent.ip, &sent.data)
                .expect("delivered");
            let data = b"media".to_vec();
            if to == 0 {
                assert_eq!(client.five_tuple.client.port(), peer_port);
                let number = 0x4000;
                assert_eq!(delivered, Delivered::Channel { number, data });
            } else {
                let peer = relayed[1];
                assert_eq!(delivered, Delivered::Data { peer, data });
            }
        }
        relayed.reverse();
        let stranger = address(if family == Family::V4 {
            "9.9.9.1:1"
        } else {
            "[2606:4700::1]:1"
        });
        let bound = host.sockets.values().next().unwrap().address;
        assert_eq!(
            host.peer_packet(bound, stranger, IpHeader::default(), b"x"),
            None
        );
    }
}

/// SEC-07: a loop through two relays ends with the TTL.
#[test]
fn a_loop_runs_out_of_hops() {
    let mut host = Host::new(Setup::default());
    let mut one = TestClient::udp("198.51.100.1:4000");
    let relayed = one.allocate(&mut host);
    one.permit(&mut host, &[relayed]).success();
    one.ip.ttl = Some(64);
    let mut hops = 0;
    // The client sends back whatever it gets, to its own relayed address.
    while let Some(sent) = one.send(&mut host, relayed, b"loop") {
        let Some((_, _, ip)) = host.peer_packet(sent.to, sent.from, sent.ip, &sent.data) else {
            break;
        };
        one.ip = ip;
        hops += 1;
        assert!(hops < 100);
    }
    assert_eq!(hops, 31);
}
