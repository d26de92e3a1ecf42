//! Allocate (RFC 8656 §7.2).

use std::collections::HashSet;
use std::net::IpAddr;

use turnstone::turn::{CloseReason, Event, Limits, Reject, RelayFailure};
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Binds, Host, Setup, address, bob, ip, relay};
use crate::message::UDP;

fn client(port: u16) -> TestClient {
    TestClient::udp(&format!("198.51.100.1:{port}"))
}

/// ALLOC-01, ALLOC-25, MSG-22: the answer has what clients need, and SOFTWARE if the operator says
/// so, in failures too.
#[test]
fn success_tells_both_addresses_and_the_lifetime() {
    let mut host = Host::new(Setup {
        software: Some("turnstone 0.1"),
        ..Setup::default()
    });
    let mut client = client(4000);
    let reply = client.allocate_with(&mut host, |_| {}).success();
    assert_eq!(reply.relayed()[0].ip(), ip("192.0.2.15"));
    assert_eq!(
        reply.addresses(A::XOR_MAPPED_ADDRESS),
        [client.at.five_tuple.client]
    );
    assert_eq!(reply.lifetime(), Some(600));
    let software = Some(b"turnstone 0.1".to_vec());
    assert_eq!(reply.attribute(A::SOFTWARE), software);
    let reply = client.allocate_with(&mut host, |_| {}).error(437);
    assert_eq!(reply.attribute(A::SOFTWARE), software);
    let reply = client.permit(&mut host, &[]).error(400);
    assert_eq!(reply.attribute(A::SOFTWARE), None);
}

/// ALLOC-02, TUP-05: 437 comes before the attributes are looked at.
#[test]
fn a_five_tuple_has_one_allocation() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    client.allocate(&mut host);
    client
        .request(&mut host, Method::Allocate, |_| {})
        .error(437);
    let answer = client.request(&mut host, Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, 6 << 24);
    });
    answer.error(437);
    assert!(client.has_allocation(&mut host));
    // The client starts again on the same port, with no memory of its nonce.
    let mut restarted = TestClient::udp("198.51.100.1:4000");
    restarted.id();
    restarted.id();
    for _ in 0..8 {
        restarted.id();
    }
    restarted.allocate_with(&mut host, |_| {}).error(437);
    host.advance_s(600);
    host.advance_s(1);
    restarted.nonce = None;
    restarted.allocate(&mut host);
}

/// An attribute as it is.
type Raw = (A, &'static [u8]);

/// ALLOC-03, ALLOC-04, ALLOC-07, ALLOC-08, ALLOC-10, ALLOC-11, ALLOC-16, ALLOC-17
#[test]
fn attributes_that_are_wrong_or_exclude_each_other() {
    let token: Raw = (A::RESERVATION_TOKEN, &[7; 8]);
    let udp: Raw = (A::REQUESTED_TRANSPORT, &[17, 1, 1, 1]);
    let family: Raw = (A::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0, 0]);
    let additional: Raw = (A::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0, 0]);
    let mut cases: Vec<(Vec<Raw>, u16)> = vec![
        (vec![], 400),
        (vec![(A::REQUESTED_TRANSPORT, &[])], 400),
        (vec![(A::REQUESTED_TRANSPORT, &[17, 0, 0])], 400),
        (vec![(A::REQUESTED_TRANSPORT, &[17, 0, 0, 0, 0])], 400),
        (vec![(A::REQUESTED_TRANSPORT, &[17; 8])], 400),
        (vec![udp, token, (A::EVEN_PORT, &[0])], 400),
        (vec![udp, token, family], 400),
        (vec![udp, token, additional], 400),
        (vec![udp, (A::RESERVATION_TOKEN, &[7; 7])], 400),
        (vec![udp, (A::RESERVATION_TOKEN, &[7; 12])], 400),
        (vec![udp, token], 508),
        (vec![udp, family, additional], 400),
        (
            vec![udp, (A::ADDITIONAL_ADDRESS_FAMILY, &[1, 0, 0, 0])],
            400,
        ),
        (vec![udp, (A::ADDITIONAL_ADDRESS_FAMILY, &[2, 0, 0])], 400),
        (vec![udp, (A::EVEN_PORT, &[0x80]), additional], 400),
        (vec![udp, (A::EVEN_PORT, &[])], 400),
        (vec![udp, (A::EVEN_PORT, &[0, 0])], 400),
        (vec![udp, (A::LIFETIME, &[0, 0, 1])], 400),
        (vec![udp, (A::LIFETIME, &[0; 8])], 400),
        (vec![udp, (A::REQUESTED_ADDRESS_FAMILY, &[1, 0, 0])], 400),
        (vec![udp, (A::REQUESTED_ADDRESS_FAMILY, &[1; 8])], 400),
        (vec![udp, (A::REQUESTED_ADDRESS_FAMILY, &[0; 4])], 440),
        (vec![udp, (A::REQUESTED_ADDRESS_FAMILY, &[3; 4])], 440),
        (vec![udp, (A::REQUESTED_ADDRESS_FAMILY, &[255; 4])], 440),
    ];
    for protocol in [
        &[0, 0, 0, 0],
        &[1, 0, 0, 0],
        &[6, 0, 0, 0],
        &[58; 4],
        &[132; 4],
        &[255; 4],
    ] {
        cases.push((vec![(A::REQUESTED_TRANSPORT, protocol)], 442));
    }
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    for (attributes, code) in cases {
        let answer = client.request(&mut host, Method::Allocate, |builder| {
            for (attribute, value) in &attributes {
                builder.attribute(*attribute, value);
            }
        });
        assert_eq!(answer.0.code(), Some(code), "{attributes:?}");
        assert_eq!(host.shared.quota.total(), 0);
        assert_eq!(host.shared.ports.taken(), 0);
    }
    let answer = client.request(&mut host, Method::Allocate, |builder| {
        builder
            .attribute(udp.0, udp.1)
            .attribute(A::DONT_FRAGMENT, &[]);
    });
    answer.success();
}

/// ALLOC-07, MSG-13: an unsupported DONT-FRAGMENT is unknown, and listed.
#[test]
fn dont_fragment_can_be_unsupported() {
    let mut host = Host::new(Setup {
        dont_fragment: false,
        ..Setup::default()
    });
    let mut client = client(4000);
    let answer = client.allocate_with(&mut host, |builder| {
        builder.attribute(A::DONT_FRAGMENT, &[]);
    });
    let reply = answer.error(420);
    assert_eq!(reply.attribute(A::UNKNOWN_ATTRIBUTES), Some(vec![0, 0x1A]));
}

/// ALLOC-11, ALLOC-12: IPv4 unless something else is asked for, whatever the client's own family.
#[test]
fn the_family_is_ipv4_by_default() {
    let mut host = Host::new(Setup::default());
    let mut six = TestClient::udp("[2001:db8::1]:4000");
    assert!(six.allocate(&mut host).is_ipv4());
    let mut four = client(4000);
    let answer = four.allocate_with(&mut host, |builder| {
        builder.u32(A::REQUESTED_ADDRESS_FAMILY, 2 << 24);
    });
    assert_eq!(answer.success().relayed()[0].ip(), ip("2001:db8::15"));

    let mut host = Host::new(Setup {
        relays: vec![relay("192.0.2.15")],
        ..Setup::default()
    });
    let answer = four.allocate_with(&mut host, |builder| {
        builder.u32(A::REQUESTED_ADDRESS_FAMILY, 2 << 24);
    });
    answer.error(440);
    let mut host = Host::new(Setup {
        relays: vec![relay("2001:db8::15")],
        ..Setup::default()
    });
    six.allocate_with(&mut host, |_| {}).error(440);
}

/// ALLOC-17: both, one with the reason for the other's absence, or none.
#[test]
fn dual_allocations() {
    let dual = |host: &mut Host, port| {
        client(port).allocate_with(host, |builder| {
            builder.u32(A::ADDITIONAL_ADDRESS_FAMILY, 2 << 24);
        })
    };
    let mut host = Host::new(Setup {
        ports: 50_000..=50_000,
        ..Setup::default()
    });
    let reply = dual(&mut host, 4000).success();
    assert_eq!(
        reply.relayed(),
        [address("192.0.2.15:50000"), address("[2001:db8::15]:50000")]
    );
    assert_eq!(reply.attribute(A::ADDRESS_ERROR_CODE), None);
    dual(&mut host, 4001).error(508);

    for (binds, missing) in [(1, vec![1, 0, 5, 8]), (0, Vec::new())] {
        let mut host = Host::new(Setup {
            binds: Binds::Fail(binds, RelayFailure::Unavailable),
            ..Setup::default()
        });
        let reply = dual(&mut host, 4000).success();
        let error = reply.attribute(A::ADDRESS_ERROR_CODE);
        assert_eq!(error.unwrap_or_default(), missing);
        assert_eq!(reply.relayed().len(), 2 - binds as usize);
    }
    let mut host = Host::new(Setup {
        binds: Binds::Fail(2, RelayFailure::Unavailable),
        ..Setup::default()
    });
    dual(&mut host, 4000).error(508);
    assert_eq!(
        (host.shards[0].allocations(), host.shared.quota.total()),
        (0, 0)
    );

    for (only, missing) in [
        ("192.0.2.15", [2, 0, 4, 40]),
        ("2001:db8::15", [1, 0, 4, 40]),
    ] {
        let mut host = Host::new(Setup {
            relays: vec![relay(only)],
            ..Setup::default()
        });
        let reply = dual(&mut host, 4000).success();
        assert_eq!(reply.relayed().len(), 1);
        assert_eq!(reply.relayed()[0].ip(), ip(only));
        assert_eq!(reply.attribute(A::ADDRESS_ERROR_CODE).unwrap(), missing);
    }
}

/// ALLOC-18
#[test]
fn lifetime_is_between_the_default_and_the_maximum() {
    let mut host = Host::new(Setup::default());
    let cases = [0, 1, 599, 600, 601, 3600, 3601, u32::MAX];
    for (port, asked) in (4000..).zip(cases) {
        let mut client = client(port);
        let answer = client.allocate_with(&mut host, |builder| {
            builder.u32(A::LIFETIME, asked);
        });
        let granted = asked.clamp(600, 3600);
        assert_eq!(answer.success().lifetime(), Some(granted));
        assert_eq!(
            client.refresh(&mut host, asked.max(1)).success().lifetime(),
            Some(granted)
        );
    }
}

/// ALLOC-20, ALLOC-22, SEC-12: every port serves once, and then there is none.
#[test]
fn the_last_port_and_one_more() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_039,
        ..Setup::default()
    });
    let relayed: HashSet<_> = (0..40)
        .map(|n| client(4000 + n).allocate(&mut host))
        .collect();
    assert_eq!(relayed.len(), 40);
    client(5000).allocate_with(&mut host, |_| {}).error(508);
    assert_eq!(host.shared.quota.total(), 40);
    client(4007).refresh(&mut host, 0).success();
    client(5000).allocate(&mut host);
}

/// ALLOC-21, SEC-12: limits of a user and of the server, given back by deletion and by expiry.
#[test]
fn quotas() {
    let mut host = Host::new(Setup {
        limits: Limits {
            allocations_per_user: 2,
            allocations_total: 3,
            ..Limits::default()
        },
        ..Setup::default()
    });
    client(4000).allocate(&mut host);
    TestClient::tcp("198.51.100.2:4001").allocate(&mut host);
    client(4002).allocate_with(&mut host, |_| {}).error(486);
    client(4003).by(bob()).allocate(&mut host);
    client(4004)
        .by(bob())
        .allocate_with(&mut host, |_| {})
        .error(508);
    client(4000).refresh(&mut host, 0).success();
    client(4004).by(bob()).allocate(&mut host);
    host.advance_s(601);
    client(4002).allocate(&mut host);
}

/// SEC-12: an IPv4 address, and an IPv6 /64, whoever asks from there and over which transport. The
/// refusal is signed, and given back is what deletion and expiry end.
#[test]
fn the_quota_of_an_address() {
    for (here, too, elsewhere) in [
        ("198.51.100.1:", "198.51.100.1:", "198.51.100.2:"),
        (
            "[2001:db8::1]:",
            "[2001:db8::2:0:0:1]:",
            "[2001:db8:0:1::1]:",
        ),
    ] {
        let mut host = Host::new(Setup {
            limits: Limits {
                allocations_per_address: 2,
                ..Limits::default()
            },
            shards: 3,
            ..Setup::default()
        });
        let client = |ip: &str, port: u16| TestClient::udp(&format!("{ip}{port}"));
        client(here, 4000).allocate(&mut host);
        TestClient::tcp(&format!("{too}4001"))
            .by(bob())
            .allocate(&mut host);
        for ip in [here, too] {
            client(ip, 4002).allocate_with(&mut host, |_| {}).error(486);
        }
        assert!(host.events.iter().any(|(_, event)| matches!(
            event,
            Event::RequestRefused {
                reject: Reject::AddressQuota,
                ..
            }
        )));
        client(elsewhere, 4003).allocate(&mut host);
        client(here, 4000).refresh(&mut host, 0).success();
        client(too, 4002).allocate(&mut host);
        assert_eq!(host.shared.quota.of_address(ip_of(here)), 2);
        host.advance_s(601);
        assert_eq!(host.shared.quota.of_address(ip_of(here)), 0);
        client(too, 4004).allocate(&mut host);
        client(here, 4005).allocate(&mut host);
    }
}

/// The address of text that a port is to follow.
fn ip_of(text: &str) -> IpAddr {
    address(&format!("{text}1")).ip()
}

/// ALLOC-22: other processes may hold ports. The server tries others, but not for ever.
#[test]
fn ports_that_other_processes_hold() {
    for (failures, works) in [(1, true), (7, true), (8, false)] {
        let mut host = Host::new(Setup {
            binds: Binds::Fail(failures, RelayFailure::AddressInUse),
            ..Setup::default()
        });
        let answer = client(4000).allocate_with(&mut host, |builder| {
            builder.attribute(A::EVEN_PORT, &[0x80]);
        });
        let taken = host.shared.ports.taken();
        assert_eq!(host.shared.ports.resting(), failures, "they rest");
        if works {
            let reply = answer.success();
            assert_eq!(reply.relayed()[0].port() % 2, 0);
            assert_eq!(taken, failures + 2);
        } else {
            answer.error(508);
            assert_eq!((taken, host.shared.quota.total()), (failures, 0));
            assert_eq!(host.shared.reservations.held(), 0);
        }
    }
    let mut host = Host::new(Setup {
        binds: Binds::Fail(1, RelayFailure::Unavailable),
        ..Setup::default()
    });
    client(4000).allocate_with(&mut host, |_| {}).error(508);
    assert!(
        host.events
            .iter()
            .any(|(_, event)| matches!(event, Event::RequestRefused { .. }))
    );
}

/// ALLOC-26, TUP-02: transport and the server's own address tell allocations apart.
#[test]
fn every_part_of_the_five_tuple_counts() {
    let mut host = Host::new(Setup::default());
    let mut clients = [
        client(4000),
        TestClient::tcp("198.51.100.1:4000"),
        client(4000),
        client(4000),
    ];
    clients[2].at.five_tuple.server = address("192.0.2.16:3478");
    clients[3].at.five_tuple.server = address("192.0.2.15:3479");
    let relayed: HashSet<_> = clients
        .iter_mut()
        .map(|it| it.allocate(&mut host))
        .collect();
    assert_eq!(relayed.len(), 4);
    clients[0].refresh(&mut host, 0).success();
    assert!(!clients[0].has_allocation(&mut host));
    assert!(
        clients[1..]
            .iter_mut()
            .all(|it| it.has_allocation(&mut host))
    );
}

/// ALLOC-27
#[test]
fn clients_behind_6to4_and_teredo() {
    let mut host = Host::new(Setup::default());
    for from in ["[2002:808:808::1]:4000", "[2001:0:4136:e378::1]:4000"] {
        TestClient::udp(from)
            .allocate_with(&mut host, |_| {})
            .error(403);
    }
}

/// ALLOC-28, REFR-06, TUP-01: gone to the millisecond, with everything that belonged to it.
#[test]
fn the_end_of_an_allocation() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let (peer, relayed) = (address("9.9.9.1:5000"), client.allocate(&mut host));
    host.advance_s(400);
    client.bind(&mut host, 0x4000, peer).success();
    host.advance_ms(199_999);
    assert!(client.send(&mut host, peer, b"x").is_some());
    assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
    assert!(host.peer_packet(relayed, peer, client.ip, b"x").is_some());
    // The timer comes up to a second late; nothing is relayed meanwhile.
    host.now_ms += 1;
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    assert_eq!(host.peer_packet(relayed, peer, client.ip, b"x"), None);
    client.refresh(&mut host, 600).error(437);
    host.expire();
    host.advance_s(1);
    assert!(host.sockets.is_empty());
    assert_eq!(host.shards[0].allocations(), 0);
    let Some((
        _,
        Event::AllocationClosed {
            reason,
            usage,
            duration,
            ..
        },
    )) = host.events.pop_back()
    else {
        panic!("the last event is the end");
    };
    assert_eq!(
        (reason, usage.packets_to_peers, usage.peers),
        (CloseReason::Expired, 2, 1)
    );
    assert_eq!((usage.bytes_to_client, duration.as_secs()), (1, 600));
    client.nonce = None;
    client.allocate(&mut host);
    assert_eq!(client.send(&mut host, peer, b"x"), None, "PERM-12");
}

/// ALLOC-29, TUP-04
#[test]
fn a_closed_connection_takes_its_allocation_along() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::tcp("198.51.100.1:4000");
    let relayed = client.allocate(&mut host);
    host.disconnect(&client.at.five_tuple);
    assert!(host.sockets.is_empty());
    assert_eq!(host.shared.quota.total(), 0);
    assert_ne!(client.allocate(&mut host), relayed);
    host.disconnect(&TestClient::tcp("198.51.100.1:4001").at.five_tuple);
    host.shut_down();
    assert_eq!(host.shards[0].allocations(), 0);
    let reasons: Vec<_> = host
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::AllocationClosed { reason, .. } => Some(*reason),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [CloseReason::Disconnected, CloseReason::Shutdown]);
}

/// ALLOC-30, BIND-09, TUP-03, TUP-06
#[test]
fn junk_and_strangers_do_not_disturb_an_allocation() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let (peer, relayed) = (address("9.9.9.1:5000"), client.allocate(&mut host));
    client.permit(&mut host, &[peer]).success();
    for first in 0..=255u8 {
        let junk = [first; 40];
        assert_eq!(client.data(&mut host, &junk), None);
    }
    let binding = client.bare(Method::Binding, |_| {});
    assert!(client.exchange(&mut host, &binding).is_some());
    let mut rebound = TestClient::udp("198.51.100.1:4009");
    assert!(rebound.exchange(&mut host, &binding).is_some());
    rebound.refresh(&mut host, 600).error(437);
    assert_eq!(rebound.send(&mut host, peer, b"x"), None);
    let (to, _, _) = host.peer_packet(relayed, peer, client.ip, b"x").unwrap();
    assert_eq!(to, client.at);
    client.refresh(&mut host, 600).success();
}

/// ALLOC-31: a port is not used again for a while, unless there is no other.
#[test]
fn freed_ports_rest() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_059,
        limits: Limits {
            allocations_per_user: 100,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut seen = HashSet::new();
    for n in 0..50 {
        let mut client = client(4000);
        for _ in 0..4 * n {
            client.id();
        }
        assert!(
            seen.insert(client.allocate(&mut host)),
            "reissued while others are free"
        );
        client.refresh(&mut host, 0).success();
    }
    assert_eq!(
        (host.shared.ports.taken(), host.shared.ports.resting()),
        (50, 50)
    );
    host.advance_ms(29_999);
    assert_eq!(host.shared.ports.taken(), 50);
    host.advance_ms(1);
    assert_eq!(host.shared.ports.taken(), 0);
    for n in 0..61 {
        let answer = client(5000 + n).allocate_with(&mut host, |_| {});
        assert_eq!(answer.0.code(), (n == 60).then_some(508));
    }
    client(5000).refresh(&mut host, 0).success();
    client(6000).allocate_with(&mut host, |_| {}).success();
}

/// MSG-15, ALLOC-01: what browsers add is ignored.
#[test]
fn unknown_optional_attributes_are_ignored() {
    let mut host = Host::new(Setup::default());
    let mut client = client(4000);
    let peer = address("9.9.9.1:5000");
    for method in [
        Method::Allocate,
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        let answer = client.request(&mut host, method, |builder| {
            for unknown in [0xFF05, 0xC057, 0x8FFF] {
                builder.attribute(A(unknown), &[1, 2, 3]);
            }
            match method {
                Method::Allocate => {
                    builder.u32(A::REQUESTED_TRANSPORT, UDP);
                }
                Method::ChannelBind => {
                    builder
                        .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
                        .xor_address(A::XOR_PEER_ADDRESS, peer);
                }
                _ => {
                    builder.xor_address(A::XOR_PEER_ADDRESS, peer);
                }
            }
        });
        answer.success();
    }
}
