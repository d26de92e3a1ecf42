//! Permissions (RFC 8656 §9, §10).

use std::net::SocketAddr;

use turnstone::turn::{DropCause, Event, IpHeader, Limits};
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address};

fn client(port: u16) -> TestClient {
    TestClient::udp(&format!("198.51.100.1:{port}"))
}

fn peer(last: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([9, 9, 9, last], port))
}

fn hears(host: &mut Host, relayed: SocketAddr, peer: SocketAddr) -> bool {
    host.peer_packet(relayed, peer, IpHeader::default(), b"x")
        .is_some()
}

/// PERM-01
#[test]
fn ports_do_not_matter() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[peer(1, 0)]).success();
    for port in [1, 5000, 65_535] {
        assert!(hears(&mut host, relayed, peer(1, port)));
        assert!(client.send(&mut host, peer(1, port), b"x").is_some());
    }
    assert!(!hears(&mut host, relayed, peer(2, 5000)));
}

/// PERM-02, PERM-11, SEND-02
#[test]
fn three_hundred_seconds() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[peer(1, 1)]).success();
    host.advance_ms(299_999);
    assert!(hears(&mut host, relayed, peer(1, 1)));
    assert!(client.send(&mut host, peer(1, 1), b"x").is_some());
    host.advance_ms(1);
    assert!(!hears(&mut host, relayed, peer(1, 1)));
    assert_eq!(client.send(&mut host, peer(1, 1), b"x"), None);
    assert_eq!(
        host.shards[0].counters().dropped(DropCause::NoPermission),
        2
    );
    client.permit(&mut host, &[peer(1, 1)]).success();
    assert!(hears(&mut host, relayed, peer(1, 1)));
}

/// PERM-03
#[test]
fn malformed_addresses() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[]).error(400);
    let good = [0, 1, 0x21, 0x12, 0x28, 0x1B, 0xAD, 0x43];
    let bad: [&[u8]; 8] = [
        &[],
        &good[..7],
        &[0; 8],
        &[0, 3, 0, 0, 0, 0, 0, 0],
        &[0, 2, 0, 0, 0, 0, 0, 0],
        &[0; 9],
        &[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0; 21],
    ];
    for bad in bad {
        for values in [vec![bad], vec![&good, bad], vec![bad, &good]] {
            let answer = client.request(&mut host, Method::CreatePermission, |builder| {
                for value in values {
                    builder.attribute(A::XOR_PEER_ADDRESS, value);
                }
            });
            answer.error(400);
        }
    }
    assert!(!hears(&mut host, relayed, peer(1, 1)), "PERM-06");
}

/// PERM-04
#[test]
fn many_addresses_at_once() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    for count in [1, 5, 20] {
        let peers: Vec<_> = (1..=count).map(|last| peer(last, 0)).collect();
        client.permit(&mut host, &peers).success();
        assert!((1..=count).all(|last| hears(&mut host, relayed, peer(last, 9))));
    }
    assert_eq!(
        host.shards[0]
            .inspect(host.time())
            .next()
            .unwrap()
            .permissions(),
        20
    );
}

/// PERM-05, PERM-07
#[test]
fn wrong_family_and_no_allocation() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    client.permit(&mut host, &[peer(1, 1)]).error(437);
    client.allocate(&mut host);
    client
        .permit(&mut host, &[address("[2606:4700::1]:1")])
        .error(443);
    client
        .permit(&mut host, &[peer(1, 1), address("[2606:4700::1]:1")])
        .error(443);
    assert_eq!(client.send(&mut host, peer(1, 1), b"x"), None);
}

/// PERM-06, PERM-08: nothing is installed, nothing refreshed, and the refusal is reported once.
#[test]
fn all_or_nothing() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[peer(1, 1)]).success();
    host.advance_s(200);
    let private = address("10.0.0.1:1");
    for peers in [
        [peer(1, 1), peer(2, 1), private],
        [private, peer(2, 1), peer(1, 1)],
    ] {
        host.events.clear();
        client.permit(&mut host, &peers).error(403);
        let refused = host.events.iter().filter(
            |(_, event)| matches!(event, Event::PeerRefused { peer, .. } if *peer == private),
        );
        assert_eq!((refused.count(), host.events.len()), (1, 1));
    }
    assert!(!hears(&mut host, relayed, peer(2, 1)));
    host.advance_ms(99_999);
    assert!(hears(&mut host, relayed, peer(1, 1)));
    host.advance_ms(1);
    assert!(!hears(&mut host, relayed, peer(1, 1)));
}

/// PERM-09, SEC-12: a message holds thousands of addresses. The policy is asked about as many as there
/// may be, and about each once.
#[test]
fn the_policy_is_asked_about_no_more_than_the_limit() {
    let limit = 3;
    let mut host = Host::new(Setup {
        limits: Limits {
            permissions_per_allocation: limit.into(),
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    let asked = |host: &mut Host| {
        let events = host.events.drain(..);
        events
            .filter(|(_, event)| matches!(event, Event::PeerRefused { .. }))
            .count()
    };
    let refused = |last| SocketAddr::from(([10, 0, 0, last], 1));
    let good: Vec<SocketAddr> = (1..=limit).map(|last| peer(last, 1)).collect();

    let with_one_refused = [&good[1..], &[refused(1)]].concat();
    client.permit(&mut host, &with_one_refused).error(403);
    assert_eq!(asked(&mut host), 1, "as many as there may be");
    let one_more = [&good[..], &[refused(1)]].concat();
    client.permit(&mut host, &one_more).error(508);
    assert_eq!(asked(&mut host), 0, "one more");
    let many: Vec<SocketAddr> = (1..=200).map(|last| peer(last, 1)).collect();
    client.permit(&mut host, &many).error(508);
    assert!(!hears(&mut host, relayed, good[0]), "all or none");

    let often: Vec<SocketAddr> = (0..200)
        .map(|at| SocketAddr::new(good[at % good.len()].ip(), at as u16))
        .collect();
    client.permit(&mut host, &often).success();
    for peer in &good {
        assert!(hears(&mut host, relayed, *peer));
    }
    let installed = host.events.drain(..).find_map(|(_, event)| match event {
        Event::PermissionsInstalled { peers, .. } => Some(peers),
        _ => None,
    });
    let ips: Vec<_> = good.iter().map(SocketAddr::ip).collect();
    assert_eq!(installed, Some(ips), "each once, as they came");
}

/// PERM-09, PERM-06, SEC-12
#[test]
fn one_more_than_there_may_be() {
    let mut host = Host::new(Setup {
        limits: Limits {
            permissions_per_allocation: 3,
            channels_per_allocation: 2,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client
        .permit(&mut host, &[peer(1, 1), peer(2, 1)])
        .success();
    client
        .permit(&mut host, &[peer(3, 1), peer(4, 1)])
        .error(508);
    assert!(!hears(&mut host, relayed, peer(3, 1)));
    client
        .permit(&mut host, &[peer(3, 1), peer(3, 2), peer(1, 1)])
        .success();
    client.bind(&mut host, 0x4000, peer(4, 1)).error(508);
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    client.bind(&mut host, 0x4000, peer(3, 1)).success();
    client.bind(&mut host, 0x4001, peer(3, 2)).success();
    client.bind(&mut host, 0x4002, peer(3, 3)).error(508);
    client.bind(&mut host, 0x4001, peer(3, 2)).success();
    host.advance_s(301);
    client
        .permit(&mut host, &[peer(5, 1), peer(6, 1), peer(7, 1)])
        .success();
}

/// PERM-12
#[test]
fn each_allocation_has_its_own() {
    let mut host = Host::new(Setup::default());
    let (mut one, mut other) = (client(4000), client(4001));
    let (first, second) = (one.allocate(&mut host), other.allocate(&mut host));
    one.permit(&mut host, &[peer(1, 1)]).success();
    assert!(hears(&mut host, first, peer(1, 1)));
    assert!(!hears(&mut host, second, peer(1, 1)));
    one.refresh(&mut host, 0).success();
    one.allocate(&mut host);
    assert_eq!(one.send(&mut host, peer(1, 1), b"x"), None);
}

/// PERM-13
#[test]
fn a_mapped_address_is_no_ipv4_permission() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let [four, _] = client.allocate_dual(&mut host);
    for peer in ["[::ffff:9.9.9.1]:1", "[::ffff:8.8.8.8]:1"] {
        client.permit(&mut host, &[address(peer)]).error(443);
        client.bind(&mut host, 0x4000, address(peer)).error(443);
        assert_eq!(client.send(&mut host, address(peer), b"x"), None);
    }
    assert!(!hears(&mut host, four, peer(1, 1)));
}

/// PERM-10: only CreatePermission and ChannelBind prolong it.
#[test]
fn what_prolongs_a_permission() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[peer(1, 1)]).success();
    host.advance_s(250);
    client.refresh(&mut host, 3600).success();
    client.bind(&mut host, 0x4000, peer(2, 1)).success();
    assert!(client.send(&mut host, peer(1, 1), b"x").is_some());
    host.advance_s(50);
    assert!(!hears(&mut host, relayed, peer(1, 1)));
    assert!(hears(&mut host, relayed, peer(2, 2)));
    host.advance_ms(249_999);
    assert!(hears(&mut host, relayed, peer(2, 2)));
    client.bind(&mut host, 0x4000, peer(2, 1)).success();
    host.advance_ms(299_999);
    assert!(hears(&mut host, relayed, peer(2, 2)));
    host.advance_ms(1);
    assert!(!hears(&mut host, relayed, peer(2, 2)));
}
