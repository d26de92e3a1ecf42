//! EVEN-PORT and RESERVATION-TOKEN (RFC 8656 §7.2, §18.7, §18.10).

use std::collections::HashSet;

use turnstone::turn::RelayFailure;
use turnstone::wire::AttributeType as A;

use crate::client::TestClient;
use crate::host::{Binds, Host, Setup, address, bob, relay};
use crate::message::Reply;

fn client(port: u16) -> TestClient {
    TestClient::udp(&format!("198.51.100.1:{port}"))
}

/// An allocation whose next port is reserved.
fn reserve(host: &mut Host, port: u16) -> Reply {
    let answer = client(port).allocate_with(host, |builder| {
        builder.attribute(A::EVEN_PORT, &[0x80]);
    });
    answer.success()
}

/// ALLOC-13, ALLOC-16: an even port, and nothing else.
#[test]
fn an_even_port_reserves_nothing() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_399,
        limits: turnstone::turn::Limits {
            allocations_per_user: 1000,
            unauthenticated_replies_per_s: 0,
            ..Default::default()
        },
        ..Setup::default()
    });
    for n in 0..200 {
        let answer = client(4000 + n).allocate_with(&mut host, |builder| {
            builder.attribute(A::EVEN_PORT, &[0x7F]);
        });
        let reply = answer.success();
        assert_eq!(reply.relayed()[0].port() % 2, 0);
        assert_eq!(reply.token(), None);
    }
    assert_eq!(
        (host.shared.ports.taken(), host.shared.reservations.held()),
        (200, 0)
    );
    let answer = client(5000).allocate_with(&mut host, |builder| {
        builder.attribute(A::EVEN_PORT, &[0]);
    });
    answer.error(508);
    for n in 0..200 {
        assert_eq!(client(6000 + n).allocate(&mut host).port() % 2, 1);
    }
    assert_eq!(host.shared.ports.taken(), 400);
}

/// ALLOC-13: no port is lost over many rounds on a small range.
#[test]
fn ten_thousand_rounds_on_a_small_range_leak_nothing() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_007,
        nonce_lifetime_s: 1_000_000,
        ..Setup::default()
    });
    let mut client = client(4000);
    for round in 0..2_500u32 {
        for even_port in [0x00, 0x80] {
            let answer = client.allocate_with(&mut host, |builder| {
                builder.attribute(A::EVEN_PORT, &[even_port]);
            });
            answer.success();
            if round % 2 == 0 {
                host.advance_ms(7_300);
            }
            client.refresh(&mut host, 0).success();
        }
    }
    host.advance_s(60);
    assert_eq!(
        (host.shared.ports.taken(), host.shared.reservations.held()),
        (0, 0)
    );
}

/// ALLOC-09, ALLOC-14, ALLOC-15: from another five-tuple, transport and shard, once.
#[test]
fn a_token_is_good_once() {
    for shards in [1, 3] {
        let mut host = Host::new(Setup {
            shards,
            ..Setup::default()
        });
        let reply = reserve(&mut host, 4000);
        let token = reply.token().unwrap();
        assert_eq!(token.len(), 8);
        host.advance_ms(29_000);
        let mut other = TestClient::tcp("198.51.100.7:4001");
        let with_token = |client: &mut TestClient, host: &mut Host| {
            client.allocate_with(host, |builder| {
                builder.attribute(A::RESERVATION_TOKEN, &token);
            })
        };
        let claimed = with_token(&mut other, &mut host).success();
        let mut upper = reply.relayed()[0];
        upper.set_port(upper.port() + 1);
        assert_eq!(claimed.relayed(), [upper]);
        assert_eq!(claimed.token(), None);
        with_token(&mut client(4002), &mut host).error(508);
        host.advance_s(60);
        assert!(
            other.has_allocation(&mut host),
            "its end was the reservation's, not the port's"
        );
        client(4000).refresh(&mut host, 0).success();
        assert!(other.has_allocation(&mut host));
    }
}

/// ALLOC-14: held for 30 seconds, and not longer.
#[test]
fn an_unclaimed_reservation_ends() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_001,
        ..Setup::default()
    });
    let token = reserve(&mut host, 4000).token().unwrap();
    host.advance_ms(29_999);
    client(4001).allocate_with(&mut host, |_| {}).error(508);
    host.advance_ms(1);
    let answer = client(4002).allocate_with(&mut host, |builder| {
        builder.attribute(A::RESERVATION_TOKEN, &token);
    });
    answer.error(508);
    assert_eq!(
        (host.shared.ports.taken(), host.shared.reservations.held()),
        (1, 0)
    );
    assert_eq!(
        client(4001).allocate(&mut host),
        address("192.0.2.15:50001")
    );
}

/// ALLOC-15: nobody else's, and none like another.
#[test]
fn tokens_belong_to_their_user_and_are_distinct() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 1_000_000,
        limits: turnstone::turn::Limits {
            allocations_per_user: 1_000_000,
            allocations_per_address: 1_000_000,
            ..Default::default()
        },
        ..Setup::default()
    });
    let token = reserve(&mut host, 4000).token().unwrap();
    let take = |client: &mut TestClient, host: &mut Host| {
        client.allocate_with(host, |builder| {
            builder.attribute(A::RESERVATION_TOKEN, &token);
        })
    };
    take(&mut client(4001).by(bob()), &mut host).error(508);
    take(&mut client(4002), &mut host).success();

    let mut tokens = HashSet::new();
    let mut client = client(4003);
    for _ in 0..2_000 {
        let answer = client.allocate_with(&mut host, |builder| {
            builder.attribute(A::EVEN_PORT, &[0x80]);
        });
        assert!(tokens.insert(answer.success().token().unwrap()));
        client.refresh(&mut host, 0).success();
    }
}

/// ALLOC-16
#[test]
fn no_pair_is_a_capacity_error() {
    for ports in [50_001..=50_001, 50_000..=50_000, 50_001..=50_002] {
        let mut host = Host::new(Setup {
            ports,
            ..Setup::default()
        });
        let answer = client(4000).allocate_with(&mut host, |builder| {
            builder.attribute(A::EVEN_PORT, &[0x80]);
        });
        answer.error(508);
        assert_eq!(
            (host.shared.ports.taken(), host.shared.quota.total()),
            (0, 0)
        );
    }
}

/// ALLOC-28: the allocation's end is its unclaimed reservation's.
#[test]
fn the_reservation_ends_with_its_allocation() {
    let mut host = Host::new(Setup::default());
    let token = reserve(&mut host, 4000).token().unwrap();
    client(4000).refresh(&mut host, 0).success();
    assert_eq!(
        (host.shared.reservations.held(), host.shared.ports.resting()),
        (0, 1)
    );
    assert_eq!(host.shared.ports.taken(), 1);
    let answer = client(4001).allocate_with(&mut host, |builder| {
        builder.attribute(A::RESERVATION_TOKEN, &token);
    });
    answer.error(508);
}

/// ALLOC-14: a reserved port that somebody else holds is not replaced by another one.
#[test]
fn a_reserved_port_that_cannot_be_bound_is_a_capacity_error() {
    let mut host = Host::new(Setup::default());
    let token = reserve(&mut host, 4000).token().unwrap();
    host.binds = Binds::Fail(1, RelayFailure::AddressInUse);
    let answer = client(4001).allocate_with(&mut host, |builder| {
        builder.attribute(A::RESERVATION_TOKEN, &token);
    });
    answer.error(508);
    assert_eq!((host.shared.quota.total(), host.sockets.len()), (1, 1));
}

/// SEC-07: nothing of ours is bound to a reserved port, so what listens there is no peer.
#[test]
fn a_reserved_port_is_no_peer() {
    let mut host = Host::new(Setup {
        relays: vec![relay("192.0.2.15")],
        ..Setup::default()
    });
    let relayed = reserve(&mut host, 4000).relayed()[0];
    let mut upper = relayed;
    upper.set_port(relayed.port() + 1);
    let mut client = client(4001);
    client.allocate(&mut host);
    client.permit(&mut host, &[upper]).success();
    assert!(client.send(&mut host, relayed, b"x").is_some());
    assert_eq!(client.send(&mut host, upper, b"x"), None);
    client.bind(&mut host, 0x4000, upper).error(403);
}
