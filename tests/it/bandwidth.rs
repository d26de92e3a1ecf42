//! Limits of bandwidth (RFC 8656 §5), and floods beside clients that keep their pace.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use crate::harness::{Client, Packet, Peer, Received, TestServer, Via};

/// Bytes of a packet: with its headers 1000.
const DATA: [u8; 972] = [7; 972];

/// What a bucket of 1 kbit/s holds, which is the largest datagram there is, in packets of 1000
/// bytes.
const BUCKET: usize = 65;

/// Once a bucket of 1 kbit/s is empty, a packet has come in again after 8 seconds, and that may pass
/// in a slow test.
fn came_in_since(start: Instant) -> usize {
    start.elapsed().as_secs() as usize / 8 + 1
}

/// A client with a channel to the peer.
fn connect(mut client: Client, peer: &Peer) -> (Client, SocketAddr) {
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    (client, relayed)
}

/// The server has taken what was sent before, and sent on what it did not drop: it sends when it is
/// through with what it received together.
fn settle(client: &mut Client) {
    client.assert_alive();
    client.assert_alive();
}

/// Datagrams that wait in a peer's socket.
fn drain(peer: &Peer) -> usize {
    peer.socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 2000];
    let mut count = 0;
    while peer.socket.recv(&mut buffer).is_ok() {
        count += 1;
    }
    peer.socket.set_nonblocking(false).unwrap();
    count
}

/// SEC-11: twice of what the bucket holds: half arrives at once, and the rest never; on UDP and TCP.
#[test]
fn of_twice_the_quota_half_reaches_the_peer() {
    let server = TestServer::with(|setup| setup.limits.allocation_kbit_per_s = 1);
    for via in Via::V4 {
        let peer = Peer::new();
        let start = Instant::now();
        let (mut client, relayed) = connect(Client::new(&server, via), &peer);
        for _ in 0..2 * BUCKET {
            client.send_channel(0x4000, &DATA);
        }
        for _ in 0..BUCKET {
            peer.expect(&DATA, relayed);
        }
        settle(&mut client);
        assert!(drain(&peer) <= came_in_since(start));
    }
}

/// SEC-11: the same towards the client, whose next reply comes after the half that arrives.
#[test]
fn of_twice_the_quota_half_reaches_the_client() {
    let server = TestServer::with(|setup| setup.limits.allocation_kbit_per_s = 1);
    for via in Via::V4 {
        let peer = Peer::new();
        let start = Instant::now();
        let (mut client, relayed) = connect(Client::new(&server, via), &peer);
        for _ in 0..2 * BUCKET {
            peer.send(&DATA, relayed);
        }
        for _ in 0..BUCKET {
            client.expect_channel(0x4000, &DATA);
        }
        // The other way has a bucket of its own.
        client.send_channel(0x4000, b"marker");
        peer.expect(b"marker", relayed);
        settle(&mut client);
        client.send(Packet::binding().bytes());
        let is_data = |received: &Received| matches!(received, Received::Channel { .. });
        let heard = std::iter::repeat_with(|| client.next()).take_while(is_data);
        assert!(heard.count() <= came_in_since(start));
    }
}

/// SEC-11: all allocations of a user draw on one bucket, on whichever worker they are, and another
/// user has another.
#[test]
fn a_users_allocations_share_over_workers() {
    let server = TestServer::with(|setup| {
        setup.limits.allocation_kbit_per_s = 0;
        setup.limits.user_kbit_per_s = 1;
        setup.workers = 2;
    });
    let peer = Peer::new();
    let start = Instant::now();
    // All on one worker is one case in 128.
    let mut clients: Vec<Client> = (0..8)
        .map(|_| connect(Client::udp(&server), &peer).0)
        .collect();
    for _ in 0..BUCKET / 4 {
        for client in &mut clients {
            client.send_channel(0x4000, &DATA);
        }
    }
    for _ in 0..BUCKET {
        assert_eq!(peer.recv().0, DATA);
    }
    for client in &mut clients {
        settle(client);
    }
    assert!(drain(&peer) <= came_in_since(start));

    let bob = Client::udp(&server).with_user("bob", "builder");
    let (mut bob, relayed) = connect(bob, &peer);
    for _ in 0..BUCKET {
        bob.send_channel(0x4000, &DATA);
    }
    for _ in 0..BUCKET {
        peer.expect(&DATA, relayed);
    }
}

/// SEC-11: 0 is no limit.
#[test]
fn without_a_limit_all_of_it_arrives() {
    let server = TestServer::with(|setup| {
        setup.limits.allocation_kbit_per_s = 0;
        setup.limits.user_kbit_per_s = 0;
    });
    let peer = Peer::new();
    let (mut client, relayed) = connect(Client::udp(&server), &peer);
    for _ in 0..4 * BUCKET {
        client.send_channel(0x4000, &DATA);
        peer.expect(&DATA, relayed);
        peer.send(&DATA, relayed);
        client.expect_channel(0x4000, &DATA);
    }
}

/// Round trips of the paced client.
const ROUND_TRIPS: u32 = 500;

/// Threads that flood.
const FLOODERS: usize = 4;

/// Counts there and back, each packet when the last has arrived: a lost one ends the test.
fn paced(client: &mut Client, peer: &Peer, relayed: SocketAddr) {
    for round in 0..ROUND_TRIPS {
        let data = round.to_be_bytes();
        client.send_channel(0x4000, &data);
        peer.expect(&data, relayed);
        peer.send(&data, relayed);
        client.expect_channel(0x4000, &data);
    }
}

/// Runs `flood` for as long as `meanwhile` takes.
fn beside(flood: impl Fn() + Sync, meanwhile: impl FnOnce()) {
    /// A test that fails meanwhile ends the flood too.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (stop, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        // More than the worker has processors, so that it falls behind.
        for _ in 0..FLOODERS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    flood();
                    begun.store(true, Ordering::Relaxed);
                }
            });
        }
        let _stop = Stop(&stop);
        while !begun.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        meanwhile();
    });
}

/// SEC-22: a permitted peer sends to one allocation as fast as it can, which is hundreds of times
/// what the allocation may relay. The client of another allocation on the same worker, listener and
/// user loses nothing; nor does it when the flooded one is on TCP and reads nothing. Without a limit,
/// where all of the flood is sent on, it is the bound of the rounds that keeps the other served.
#[test]
fn a_flooded_allocation_leaves_the_others_served() {
    for (kbit_per_s, via) in [
        (1000, Via::Udp),
        (1000, Via::Tcp),
        (0, Via::Udp),
        (0, Via::Tcp),
    ] {
        let server = TestServer::with(|setup| {
            setup.limits.allocation_kbit_per_s = kbit_per_s;
            setup.limits.user_kbit_per_s = 0;
        });
        let (flooder, peer) = (Peer::new(), Peer::new());
        let (_flooded, target) = connect(Client::new(&server, via), &flooder);
        let (mut client, relayed) = connect(Client::udp(&server), &peer);
        let flood = || {
            for _ in 0..64 {
                // A full socket buffer is as good.
                let _ = flooder.socket.send_to(&DATA, target);
            }
        };
        beside(flood, || paced(&mut client, &peer, relayed));
    }
}
