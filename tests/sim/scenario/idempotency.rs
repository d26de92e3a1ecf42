//! Retransmissions (RFC 8489 §6.3.1, RFC 8656 §5, §7.2).

use turnstone::turn::{DropCause, RelayFailure};
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Binds, Host, SECRETS, Setup, UNIX_ORIGIN_S, address};
use crate::message::{Account, UDP};

/// IDEM-01, IDEM-02, IDEM-07: the same answer as long as the allocation lives, and one allocation.
#[test]
fn repeated_allocate_gets_the_same_answer() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Allocate, |builder| {
        builder
            .u32(A::REQUESTED_TRANSPORT, UDP)
            .attribute(A::EVEN_PORT, &[0x80])
            .u32(A::LIFETIME, 1000);
    });
    let first = client.repeat(&mut host, &packet).success();
    assert_eq!(first.lifetime(), Some(1000));
    assert!(first.token().is_some());
    for second in [0, 1, 39, 400, 599] {
        let mut host_now = host.now_ms / 1000;
        let target = 1_234 + second;
        if host_now < target {
            host.advance_s(target - host_now);
            host_now = target;
        }
        let again = client.repeat(&mut host, &packet).success();
        assert_eq!(again.relayed(), first.relayed());
        assert_eq!(again.token(), first.token());
        assert_eq!(again.lifetime(), Some(1000 - (host_now - 1_234) as u32));
    }
    assert_eq!(host.shared.quota.of_user("alice"), 1);
    assert_eq!(host.sockets.len(), 1);
    client.nonce = None;
    client.allocate_with(&mut host, |_| {}).error(437);
}

/// IDEM-01: also the answer that says which family is missing.
#[test]
fn repeated_allocate_says_again_what_is_missing() {
    let mut host = Host::new(Setup {
        relays: vec![crate::host::relay("192.0.2.15")],
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Allocate, |builder| {
        builder
            .u32(A::REQUESTED_TRANSPORT, UDP)
            .u32(A::ADDITIONAL_ADDRESS_FAMILY, 2 << 24);
    });
    for _ in 0..3 {
        let reply = client.repeat(&mut host, &packet).success();
        assert_eq!(reply.relayed().len(), 1);
        assert_eq!(
            reply.attribute(A::ADDRESS_ERROR_CODE),
            Some(vec![2, 0, 4, 40])
        );
    }
}

/// IDEM-03
#[test]
fn equal_ids_from_two_clients_are_two_transactions() {
    let mut host = Host::new(Setup::default());
    let mut relayed = Vec::new();
    for from in ["198.51.100.1:4000", "198.51.100.2:4000"] {
        // Both clients count their ids from the same start, and have the same port.
        relayed.push(TestClient::udp(from).allocate(&mut host));
    }
    assert_ne!(relayed[0], relayed[1]);
    assert_eq!(host.shards[0].allocations(), 2);
}

/// IDEM-04: while the sockets are being bound there is one allocation and no answer.
#[test]
fn repetitions_while_the_first_is_worked_on_are_silent() {
    let mut host = Host::new(Setup {
        binds: Binds::Wait,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, UDP);
    });
    for _ in 0..3 {
        assert!(client.exchange(&mut host, &packet).is_none());
        host.advance_ms(300);
    }
    assert_eq!((host.waiting.len(), host.shared.quota.total()), (1, 1));
    client.allocate_with(&mut host, |_| {}).error(437);
    client.refresh(&mut host, 600).error(437);
    assert_eq!(client.send(&mut host, address("9.9.9.1:1"), b"x"), None);
    host.report(Ok(()));
    let reply = host.only_reply().expect("the answer to all of them");
    assert_eq!((reply.code(), reply.lifetime()), (None, Some(600)));
    let again = client.repeat(&mut host, &packet).success();
    assert_eq!(again.relayed(), reply.relayed());
}

/// IDEM-04, ALLOC-22: what was going on when the client went away leaves nothing behind.
#[test]
fn a_client_that_goes_away_meanwhile_leaves_nothing() {
    let mut host = Host::new(Setup {
        binds: Binds::Wait,
        ..Setup::default()
    });
    let mut client = TestClient::tcp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    for even_port in [None, Some([0x80])] {
        let packet = client.signed(Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
            if let Some(even_port) = even_port {
                builder.attribute(A::EVEN_PORT, &even_port);
            }
        });
        for outcome in [Ok(()), Err(RelayFailure::AddressInUse)] {
            assert!(client.exchange(&mut host, &packet).is_none());
            let socket = host.waiting[0];
            let five_tuple = client.at.five_tuple;
            host.disconnect(&five_tuple);
            assert!(host.waiting.is_empty(), "the socket was closed");
            // A host that had the outcome under way already reports it all the same.
            host.report_on(socket, outcome);
            host.sockets.clear();
            host.drain(0);
            assert!(host.only_reply().is_none());
            assert!(host.events.is_empty(), "an allocation that never was");
            assert_eq!(host.shared.quota.total(), 0);
            assert_eq!(host.shared.reservations.held(), 0);
            assert_eq!(host.shared.ports.taken(), host.shared.ports.resting());
        }
    }
}

/// IDEM-05, REFR-01
#[test]
fn repeated_deletion_is_a_mismatch() {
    let mut host = Host::new(Setup::default());
    let expiry = UNIX_ORIGIN_S + host.now_ms / 1000;
    let name = format!("{expiry}:carol");
    let mut client = TestClient::udp("198.51.100.1:4000").by(Account::rest(SECRETS[0], &name));
    client.allocate(&mut host);
    let packet = client.signed(Method::Refresh, |builder| {
        builder.u32(A::LIFETIME, 0);
    });
    let reply = client.repeat(&mut host, &packet).success();
    assert_eq!(reply.lifetime(), Some(0));
    for seconds in [0, 1, 4, 100] {
        host.advance_s(seconds);
        client.repeat(&mut host, &packet).error(437);
    }
}

/// IDEM-06, CHAN-04
#[test]
fn repeated_permissions_and_channels_refresh() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    let permit = client.signed(Method::CreatePermission, |builder| {
        builder.xor_address(A::XOR_PEER_ADDRESS, peer);
    });
    let bind = client.signed(Method::ChannelBind, |builder| {
        builder
            .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
            .xor_address(A::XOR_PEER_ADDRESS, peer);
    });
    for _ in 0..5 {
        client.repeat(&mut host, &permit).success();
        client.repeat(&mut host, &bind).success();
    }
}

/// IDEM-08: what is not authenticated leaves nothing.
#[test]
fn requests_without_credentials_leave_nothing() {
    let mut host = Host::new(Setup::default());
    for port in 1..=10_000u16 {
        // Of one network there could be 400.
        let mut client = TestClient::udp(&format!("198.51.{}.1:{port}", port >> 8));
        client.challenge(&mut host, Method::Allocate);
    }
    let shard = &host.shards[0];
    assert_eq!((shard.allocations(), shard.poll_timeout()), (0, None));
    assert_eq!(shard.counters().challenges, 10_000);
    assert_eq!(shard.counters().dropped(DropCause::Malformed), 0);
    assert!(host.events.is_empty());
}

/// IDEM-09: browsers take a 438 on Allocate as final.
#[test]
fn a_nonce_that_ran_out_in_between_is_forgiven() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 2,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, UDP);
    });
    let first = client.repeat(&mut host, &packet).success();
    host.advance_s(3);
    let again = client.repeat(&mut host, &packet).success();
    assert_eq!(first.relayed(), again.relayed());
    // Another transaction is not.
    client.refresh(&mut host, 600).error(438);
}

/// IDEM-01, ALLOC-28: in the second in which an allocation ends, its repetition is a new request.
#[test]
fn repetition_after_the_end_is_a_new_allocation() {
    let mut host = Host::new(Setup::default());
    let expiry = UNIX_ORIGIN_S + host.now_ms / 1000 + 100;
    let name = format!("{expiry}:carol");
    let mut client = TestClient::udp("198.51.100.1:4000").by(Account::rest(SECRETS[0], &name));
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, UDP);
    });
    client.repeat(&mut host, &packet).success();
    host.advance_ms(599_999);
    assert_eq!(
        client.repeat(&mut host, &packet).success().lifetime(),
        Some(1)
    );
    host.now_ms += 1;
    assert_eq!(host.shards[0].allocations(), 1, "the timer was not called");
    client.repeat(&mut host, &packet).error(401);
    host.expire();
    host.advance_s(1);
    assert_eq!(host.shards[0].allocations(), 0);
}
