//! Limits of bandwidth (RFC 8656 §5): what is beyond them is dropped, and told.

use std::net::SocketAddr;

use turnstone::turn::{BandwidthLimit, DropCause, Event, IpHeader, Limits, Usage, Way};
use turnstone::wire::{Family, IcmpAttribute};

use crate::client::TestClient;
use crate::host::{Host, Setup, address, bob};

/// Bytes of a packet: with its headers 1000 between IPv4 addresses.
const DATA: [u8; 972] = [7; 972];

/// Packets of [`DATA`] in a second at 8 Mbit/s.
const SECOND: usize = 1000;

fn peer() -> SocketAddr {
    address("9.9.9.1:5000")
}

/// A server with limits of so many kbit/s, and users with too many allocations for shares; clients
/// with odd ports have the second worker.
fn host(allocation: u32, user: u32) -> Host {
    Host::new(Setup {
        limits: Limits {
            allocation_kbit_per_s: allocation,
            user_kbit_per_s: user,
            allocations_per_user: 10_000,
            ..Limits::default()
        },
        shards: 2,
        ..Setup::default()
    })
}

/// A client with a channel to the peer, and its relayed address.
fn connected(host: &mut Host, mut client: TestClient) -> (TestClient, SocketAddr) {
    let relayed = client.allocate(host);
    client.bind(host, 0x4000, peer()).success();
    (client, relayed)
}

fn alice(host: &mut Host, port: u16) -> (TestClient, SocketAddr) {
    connected(host, TestClient::udp(&format!("198.51.100.1:{port}")))
}

/// Sends so many packets to the peer and counts what leaves.
fn to_peer(host: &mut Host, (client, _): &(TestClient, SocketAddr), count: usize) -> usize {
    let sent = |_: &usize| client.send_on(host, 0x4000, &DATA).is_some();
    (0..count).filter(sent).count()
}

/// Has the peer send so many packets and counts what reaches the client.
fn to_client(host: &mut Host, (_, relayed): &(TestClient, SocketAddr), count: usize) -> usize {
    let ip = IpHeader::default();
    let heard = |_: &usize| host.peer_packet(*relayed, peer(), ip, &DATA).is_some();
    (0..count).filter(heard).count()
}

fn dropped(host: &Host, cause: DropCause) -> u64 {
    let shards = host.shards.iter();
    shards.map(|shard| shard.counters().dropped(cause)).sum()
}

fn usage(host: &Host) -> Usage {
    let mut views = host.shards.iter().flat_map(|it| it.inspect(host.time()));
    views.next().expect("an allocation").usage()
}

/// SEC-11: at the edge all of it, one beyond is dropped; each way for itself, on UDP and TCP.
#[test]
fn an_allocations_second_and_one_packet_more() {
    for client in [
        TestClient::udp("198.51.100.1:4000"),
        TestClient::tcp("198.51.100.1:4000"),
    ] {
        let mut host = host(8000, 0);
        let client = connected(&mut host, client);
        assert_eq!(to_peer(&mut host, &client, SECOND), SECOND);
        assert_eq!(to_peer(&mut host, &client, 1), 0);
        assert_eq!(to_client(&mut host, &client, SECOND), SECOND);
        assert_eq!(to_client(&mut host, &client, 2), 0);
        assert_eq!(dropped(&host, DropCause::AllocationBandwidth), 3);
        let usage = usage(&host);
        assert_eq!((usage.limited_to_peers, usage.limited_to_client), (1, 2));
        assert_eq!(usage.packets_to_peers, SECOND as u64);
        assert_eq!(usage.bytes_to_client, (SECOND * DATA.len()) as u64);
        host.advance_ms(1);
        assert_eq!(to_peer(&mut host, &client, 2), 1);
        host.advance_s(10);
        assert_eq!(to_client(&mut host, &client, 2 * SECOND), SECOND);
    }
}

/// SEC-11: twice the quota for a minute: half arrives, each packet at once or never.
#[test]
fn of_twice_the_quota_half_arrives() {
    let mut host = host(8000, 0);
    let client = alice(&mut host, 4000);
    to_peer(&mut host, &client, SECOND);
    to_client(&mut host, &client, SECOND);
    let (mut sent, mut heard) = (0, 0);
    for _ in 0..60 * SECOND {
        host.advance_ms(1);
        sent += to_peer(&mut host, &client, 2);
        heard += to_client(&mut host, &client, 2);
        assert!(host.shards[0].poll_action().is_none(), "nothing is queued");
    }
    assert_eq!((sent, heard), (60 * SECOND, 60 * SECOND));
}

/// SEC-11: all allocations of a user share what the user has, over all workers; other users have
/// their own.
#[test]
fn a_users_allocations_share() {
    let mut host = host(0, 8000);
    let one_worker = [4000, 4002].map(|port| alice(&mut host, port));
    let other_worker = alice(&mut host, 4001);
    let bob = TestClient::udp("198.51.100.1:4003").by(bob());
    let bob = connected(&mut host, bob);
    for direction in [to_peer, to_client] {
        assert_eq!(direction(&mut host, &one_worker[0], 300), 300);
        assert_eq!(direction(&mut host, &other_worker, 300), 300);
        assert_eq!(direction(&mut host, &one_worker[1], 500), 400);
        for client in one_worker.iter().chain([&other_worker]) {
            assert_eq!(direction(&mut host, client, 10), 0);
        }
        assert_eq!(direction(&mut host, &bob, SECOND), SECOND);
    }
    let lost = dropped(&host, DropCause::UserBandwidth);
    assert_eq!(lost, 2 * (100 + 3 * 10));
    assert_eq!(dropped(&host, DropCause::AllocationBandwidth), 0);
}

/// SEC-22: with the limits of a server without a configuration, flooded allocations take all that
/// their user has. A call on another one loses nothing.
#[test]
fn flooded_allocations_do_not_silence_a_call() {
    let mut host = Host::new(Setup::default());
    let flooded = [4000, 4001, 4002].map(|port| alice(&mut host, port));
    let (call, relayed) = alice(&mut host, 4003);
    let voice = [7; 160];
    // Fifteen seconds of a packet every 20 ms.
    let (mut heard, mut sent) = (0, 0);
    for round in 0..750 {
        let flood = if round == 0 { 15_000 } else { 500 };
        for flooded in &flooded {
            to_client(&mut host, flooded, flood);
            to_peer(&mut host, flooded, flood);
        }
        let ip = IpHeader::default();
        let delivered = host.peer_packet(relayed, peer(), ip, &voice);
        heard += usize::from(delivered.is_some());
        sent += usize::from(call.send_on(&mut host, 0x4000, &voice).is_some());
        host.advance_ms(20);
    }
    assert_eq!((heard, sent), (750, 750));
    assert!(dropped(&host, DropCause::UserBandwidth) > 0);
}

/// SEC-22: what a user relays in all is what it may, and a share for each allocation.
#[test]
fn shares_have_a_bound() {
    let mut host = Host::new(Setup::default());
    let clients: Vec<_> = (4000..4010).map(|port| alice(&mut host, port)).collect();
    for second in 0..4 {
        let sent = clients.iter().map(|it| to_peer(&mut host, it, 10_000));
        let sent: usize = sent.sum();
        // 100 Mbit/s, and ten times half a megabit: 62 packets and what a purse may hold.
        let is_bound = (12_500 + 620..=12_500 + 630).contains(&sent);
        assert!(second == 0 || is_bound, "{sent}");
        host.advance_s(1);
    }
}

/// SEC-11: a new allocation is no new allowance.
#[test]
fn deletion_fills_no_bucket() {
    let mut host = host(0, 8000);
    let mut total = 0;
    for port in 4000..4010 {
        let mut client = alice(&mut host, port);
        total += to_peer(&mut host, &client, SECOND / 2);
        client.0.refresh(&mut host, 0).success();
    }
    assert_eq!(total, SECOND);
    assert_eq!(host.shared.quota.of_user("alice"), 0);
}

/// SEC-11: 0 is no limit.
#[test]
fn no_limit() {
    let mut host = host(0, 0);
    let client = alice(&mut host, 4000);
    assert_eq!(to_peer(&mut host, &client, 20 * SECOND), 20 * SECOND);
    assert_eq!(to_client(&mut host, &client, 20 * SECOND), 20 * SECOND);
}

/// SEC-11: what strangers send costs the owner nothing, nor does what is dropped for another reason.
#[test]
fn only_what_is_relayed_is_charged() {
    let mut host = host(8000, 0);
    let client = alice(&mut host, 4000);
    let stranger = address("9.9.9.2:5000");
    for _ in 0..2 * SECOND {
        let ip = IpHeader::default();
        assert_eq!(host.peer_packet(client.1, stranger, ip, &DATA), None);
        let dying = IpHeader { ttl: Some(1), ..ip };
        assert_eq!(host.peer_packet(client.1, peer(), dying, &DATA), None);
        assert_eq!(client.0.send_on(&mut host, 0x4001, &DATA), None);
    }
    assert_eq!(to_client(&mut host, &client, SECOND), SECOND);
    assert_eq!(to_peer(&mut host, &client, SECOND), SECOND);
}

/// SEC-11: an owner whose bandwidth is gone can still refresh, and hears of ICMP errors.
#[test]
fn replies_and_icmp_errors_are_not_charged() {
    let mut host = host(8000, 8000);
    let mut client = alice(&mut host, 4000);
    to_peer(&mut host, &client, SECOND + 1);
    to_client(&mut host, &client, SECOND + 1);
    let unreachable = IcmpAttribute {
        icmp_type: 3,
        icmp_code: 1,
        error_data: 0,
    };
    for _ in 0..Limits::default().icmp_per_s {
        assert!(host.icmp(client.1, peer(), unreachable).is_some());
        client.0.refresh(&mut host, 600).success();
        client.0.permit(&mut host, &[peer()]).success();
    }
    host.advance_ms(1);
    assert_eq!(to_client(&mut host, &client, 2), 1, "neither costs");
}

/// SEC-11: headers count, so that empty datagrams do, and those of IPv6 are longer.
#[test]
fn headers_count() {
    for (peer, len) in [("9.9.9.1:5000", 28), ("[2606:4700::1]:5000", 48)] {
        let mut host = host(8000, 0);
        let mut client = TestClient::udp("198.51.100.1:4000");
        let relayed = client.allocate_dual(&mut host);
        let relayed = relayed[usize::from(Family::of(address(peer).ip()) == Family::V6)];
        client.bind(&mut host, 0x4000, address(peer)).success();
        let mut passed = 0;
        while client.send_on(&mut host, 0x4000, b"").is_some() {
            passed += 1;
        }
        assert_eq!(passed, 1_000_000 / len);
        let mut heard = 0;
        let ip = IpHeader::default();
        while host.peer_packet(relayed, address(peer), ip, b"").is_some() {
            heard += 1;
        }
        assert_eq!(heard, passed);
    }
}

/// SEC-11: the first loss of each way is an event that names the limit, and no other loss is.
#[test]
fn the_first_loss_is_told() {
    for (allocation, user, limit) in [
        (8000, 0, BandwidthLimit::Allocation),
        (0, 8000, BandwidthLimit::User),
    ] {
        let mut host = host(allocation, user);
        let client = alice(&mut host, 4000);
        host.events.clear();
        to_peer(&mut host, &client, SECOND);
        to_client(&mut host, &client, SECOND);
        assert!(host.events.is_empty());
        for _ in 0..3 {
            assert_eq!(to_peer(&mut host, &client, 100), 0);
            assert_eq!(to_client(&mut host, &client, 100), 0);
        }
        let told: Vec<(Way, BandwidthLimit)> = host
            .events
            .drain(..)
            .map(|(_, event)| match event {
                Event::BandwidthExceeded { way, limit, .. } => (way, limit),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(Way::ToPeers, limit), (Way::ToClient, limit)]);
    }
}
