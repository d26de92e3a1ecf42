//! Refresh (RFC 8656 §8.2).

use turnstone::turn::{CloseReason, Event, IpHeader};
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address};

fn client() -> TestClient {
    TestClient::udp("198.51.100.1:4000")
}

/// REFR-01, REFR-02
#[test]
fn deletion_is_at_once() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.refresh(&mut host, 600).error(437);
    let (peer, relayed) = (address("9.9.9.1:5000"), client.allocate(&mut host));
    client.permit(&mut host, &[peer]).success();
    assert!(host.peer_packet(relayed, peer, client.ip, b"x").is_some());
    assert_eq!(client.refresh(&mut host, 0).success().lifetime(), Some(0));
    assert!(host.sockets.is_empty());
    assert_eq!(host.shared.quota.total(), 0);
    client.refresh(&mut host, 600).error(437);
    assert_eq!(client.send(&mut host, peer, b"x"), None);
}

/// REFR-03: the default even if more was granted before, and every answer is to the second.
#[test]
fn each_refresh_counts_from_now() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let answer = client.allocate_with(&mut host, |builder| {
        builder.u32(A::LIFETIME, 3600);
    });
    answer.success();
    let answer = client.request(&mut host, Method::Refresh, |_| {});
    assert_eq!(answer.success().lifetime(), Some(600));
    host.advance_ms(599_999);
    assert!(client.has_allocation(&mut host));
    assert_eq!(
        client.refresh(&mut host, 700).success().lifetime(),
        Some(700)
    );
    host.advance_ms(699_999);
    client.nonce = None;
    assert!(client.has_allocation(&mut host));
    host.advance_ms(1);
    assert!(!client.has_allocation(&mut host));
}

/// REFR-03: a deadline that moved nearer and further and nearer again.
#[test]
fn lifetimes_that_shrink_and_grow() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 1_000_000,
        limits: turnstone::turn::Limits {
            max_lifetime_s: 10_000,
            ..Default::default()
        },
        ..Setup::default()
    });
    let mut client = client();
    client.allocate(&mut host);
    for lifetime in [3600, 600, 10_000, 700, 3600, 600, 600, 10_000] {
        client.refresh(&mut host, lifetime).success();
        host.advance_ms(u64::from(lifetime) * 1000 - 1);
        assert!(client.has_allocation(&mut host), "{lifetime}");
    }
    client.refresh(&mut host, 10_000).success();
    client.refresh(&mut host, 600).success();
    host.advance_s(600);
    assert!(!client.has_allocation(&mut host));
    host.advance_s(1);
    assert_eq!(host.shards[0].allocations(), 0);
}

/// REFR-04
#[test]
fn a_family_that_is_not_there() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    for (family, code) in [
        (&[2u8, 0, 0, 0] as &[_], 443),
        (&[7, 0, 0, 0], 443),
        (&[1, 0, 0], 400),
    ] {
        let answer = client.request(&mut host, Method::Refresh, |builder| {
            builder.attribute(A::REQUESTED_ADDRESS_FAMILY, family);
        });
        answer.error(code);
    }
    let answer = client.request(&mut host, Method::Refresh, |builder| {
        builder.attribute(A::LIFETIME, &[0; 5]);
    });
    answer.error(400);
    assert!(client.has_allocation(&mut host));
}

fn refresh_family(client: &mut TestClient, host: &mut Host, family: u32, lifetime: u32) {
    let answer = client.request(host, Method::Refresh, |builder| {
        builder
            .u32(A::REQUESTED_ADDRESS_FAMILY, family << 24)
            .u32(A::LIFETIME, lifetime);
    });
    answer.success();
}

/// REFR-05, PERM-05: the families of a dual allocation live and die on their own.
#[test]
fn one_family_of_two() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let [four, six] = client.allocate_dual(&mut host);
    let (peer4, peer6) = (address("9.9.9.1:5000"), address("[2606:4700::1]:5000"));
    client.permit(&mut host, &[peer4, peer6]).success();
    client.bind(&mut host, 0x4004, peer4).success();
    client.bind(&mut host, 0x4006, peer6).success();
    assert_eq!(client.send(&mut host, peer4, b"x").unwrap().from, four);
    assert_eq!(client.send(&mut host, peer6, b"x").unwrap().from, six);

    refresh_family(&mut client, &mut host, 2, 0);
    assert_eq!(client.send_on(&mut host, 0x4006, b"x"), None);
    assert_eq!(client.send(&mut host, peer6, b"x"), None);
    client.permit(&mut host, &[peer6]).error(443);
    client.bind(&mut host, 0x4006, peer6).error(443);
    assert!(client.send_on(&mut host, 0x4004, b"x").is_some());
    assert!(
        host.peer_packet(four, peer4, IpHeader::default(), b"x")
            .is_some()
    );
    assert_eq!(host.sockets.len(), 1);
    assert_eq!(host.shared.quota.total(), 1);

    client.refresh(&mut host, 0).success();
    assert!(!client.has_allocation(&mut host));
}

/// REFR-05: also by time; without the attribute both are meant.
#[test]
fn families_expire_on_their_own() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 1_000_000,
        ..Setup::default()
    });
    let mut client = client();
    client.allocate_dual(&mut host);
    refresh_family(&mut client, &mut host, 1, 3600);
    host.advance_ms(599_999);
    let peer6 = address("[2606:4700::1]:5000");
    client.permit(&mut host, &[peer6]).success();
    host.now_ms += 1;
    client.permit(&mut host, &[peer6]).error(443);
    host.expire();
    host.advance_s(1);
    assert_eq!((host.sockets.len(), host.shards[0].allocations()), (1, 1));
    host.advance_s(2990);
    assert!(client.has_allocation(&mut host));
    client.refresh(&mut host, 600).success();
    host.advance_s(599);
    assert!(client.has_allocation(&mut host));
    host.advance_s(2);
    assert_eq!(host.shards[0].allocations(), 0);

    client.allocate_dual(&mut host);
    refresh_family(&mut client, &mut host, 2, 1000);
    // IPv4 is over, but not cleared away yet: what is deleted is the rest, and all of it.
    host.advance_ms(599_999);
    host.now_ms += 1;
    client.refresh(&mut host, 0).success();
    assert_eq!(host.shards[0].allocations(), 0);
    let last = host.events.back().map(|(_, event)| event);
    assert!(
        matches!(
            last,
            Some(Event::AllocationClosed {
                reason: CloseReason::Deleted,
                ..
            })
        ),
        "{last:?}"
    );
}

/// REFR-06, CHAN-15, PERM-10, SEND-05
#[test]
fn traffic_refreshes_nothing() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let (peer, relayed) = (address("9.9.9.1:5000"), client.allocate(&mut host));
    client.bind(&mut host, 0x4000, peer).success();
    for second in 1..=700 {
        host.advance_s(1);
        let from_peer = host
            .peer_packet(relayed, peer, IpHeader::default(), b"x")
            .is_some();
        let on_channel = client.send_on(&mut host, 0x4000, b"x").is_some();
        let sent = client.send(&mut host, peer, b"x").is_some();
        assert_eq!(from_peer, second < 300, "{second}");
        assert_eq!(sent, second < 300, "{second}");
        assert_eq!(on_channel, second < 600, "{second}");
    }
    assert_eq!(host.shards[0].allocations(), 0);
}

/// REFR-08: at the second of expiry there is one outcome, whichever comes first.
#[test]
fn refresh_races_with_the_end() {
    for late_ms in [0, 1, 2] {
        let mut host = Host::new(Setup::default());
        let mut client = client();
        client.allocate(&mut host);
        host.advance_ms(599_998);
        host.now_ms += late_ms;
        let answer = client.refresh(&mut host, 600);
        if late_ms < 2 {
            answer.success();
        } else {
            answer.error(437);
        }
        host.expire();
        host.advance_s(2);
        assert_eq!(host.shards[0].allocations(), usize::from(late_ms < 2));
    }
}
