//! What the core asks of the heap: nothing for a packet, and little for an allocation that idles.
#![allow(
    clippy::unwrap_used,
    reason = "a test that unwraps says where it failed"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use secrecy::SecretString;
use turnstone::auth::{Authenticator, Credentials, LongTermKey, NonceKey, PasswordAlgorithm};
use turnstone::turn::{
    Action, Client, ClientPolicy, FiveTuple, IpHeader, Limits, Link, Now, Options, PeerPolicy,
    PortPool, RelayAddress, RelayId, Server, Shared, Time, Transport,
};
use turnstone::wire::{
    AttributeType as A, Class, HEADROOM, IntegrityAlgorithm, Message, MessageBuilder, Method,
    TAILROOM, TransactionId,
};

/// Counts what the thread that asks has asked for: tests run beside each other.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

fn count(calls: u64, bytes: i64) {
    CALLS.set(CALLS.get() + calls);
    BYTES.set(BYTES.get() + bytes);
}

#[allow(unsafe_code, reason = "GlobalAlloc cannot be implemented without it")]
// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as i64);
        // SAFETY: the caller's promises are the callee's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(1, new_size as i64 - layout.size() as i64);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Now = Now {
    time: Time::from_millis(1_000_000),
    unix_s: 1_767_225_600,
};
const PEER: &str = "9.9.9.1:5000";

fn server() -> Server {
    let mut credentials = Credentials::new("example.org", ':').unwrap();
    credentials
        .add_user("alice", &SecretString::from("wonderland"))
        .unwrap();
    let keys = vec![NonceKey::new([1; 32])];
    let ip = "192.0.2.15".parse().unwrap();
    let address = RelayAddress {
        bound: ip,
        advertised: ip,
    };
    let options = Options {
        authenticator: Authenticator::new(Arc::new(credentials), keys, 600),
        limits: Limits {
            allocations_per_user: 100_000,
            allocations_per_address: 100_000,
            allocations_total: 100_000,
            unauthenticated_replies_per_s: 0,
            ..Limits::default()
        },
        clients: ClientPolicy::default(),
        peers: PeerPolicy::default(),
        software: None,
        classic_stun: false,
        dont_fragment: true,
    };
    let shared = Shared::new(PortPool::new(&[address], 49_152..=65_535, &[]));
    Server::new(Arc::new(options), Arc::new(shared), [2; 32])
}

fn client(index: u16) -> Client {
    Client {
        five_tuple: FiveTuple {
            transport: Transport::Udp,
            client: SocketAddr::from(([198, 51, 100, 1], 1024 + index)),
            server: "192.0.2.15:3478".parse().unwrap(),
        },
        link: Link(0),
    }
}

fn build(class: Class, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 2048];
    let mut builder = MessageBuilder::new(&mut buffer, class, method, TransactionId([7; 12]));
    write(&mut builder);
    let len = builder.finish().unwrap();
    buffer.truncate(len);
    buffer
}

/// Sends a request and does what the core wants done. Returns the relay socket that was bound and
/// the nonce that was given.
fn ask(server: &mut Server, client: Client, packet: &[u8]) -> (Option<RelayId>, Vec<u8>) {
    server.handle_client(NOW, client, IpHeader::default(), packet);
    let (mut bound, mut nonce) = (None, Vec::new());
    loop {
        let mut next = None;
        while let Some(action) = server.poll_action() {
            match action {
                Action::Reply { message, .. } => {
                    let message = Message::parse(&message).unwrap();
                    let value = message.first(A::NONCE);
                    assert!(value.is_some() || message.class() == Class::Success);
                    nonce = value.unwrap_or_default().to_vec();
                }
                Action::BindRelay { relay, .. } => next = Some(relay),
                Action::CloseRelay { .. } => {}
            }
        }
        while server.poll_event().is_some() {}
        let Some(relay) = next else {
            return (bound, nonce);
        };
        bound = next;
        server.handle_relay_bound(NOW, relay);
    }
}

/// Makes an allocation with one permission, on a channel.
fn allocate(server: &mut Server, client: Client) -> RelayId {
    allocate_with(server, client, &[PEER.parse().unwrap()])
}

/// Makes an allocation with a channel to each peer.
fn allocate_with(server: &mut Server, client: Client, peers: &[SocketAddr]) -> RelayId {
    let (_, nonce) = ask(
        server,
        client,
        &build(Class::Request, Method::Allocate, |_| {}),
    );
    let algorithm = PasswordAlgorithm::Md5;
    let key = LongTermKey::derive(algorithm, b"alice", "example.org", "wonderland");
    let sign = |builder: &mut MessageBuilder<'_>| {
        builder
            .attribute(A::USERNAME, b"alice")
            .attribute(A::REALM, b"example.org")
            .attribute(A::NONCE, &nonce)
            .integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
    };
    let request = build(Class::Request, Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, 17 << 24);
        sign(builder);
    });
    let relay = ask(server, client, &request).0.unwrap();
    for (number, &peer) in (0x4000..).zip(peers) {
        let request = build(Class::Request, Method::ChannelBind, |builder| {
            builder
                .u32(A::CHANNEL_NUMBER, number << 16)
                .xor_address(A::XOR_PEER_ADDRESS, peer);
            sign(builder);
        });
        ask(server, client, &request);
    }
    relay
}

/// The data path has no heap (design, §1).
#[test]
fn packets_take_nothing_from_the_heap() {
    let mut server = server();
    let client = client(0);
    let relay = allocate(&mut server, client);
    let peer: SocketAddr = PEER.parse().unwrap();
    let other = SocketAddr::new(peer.ip(), 5001);
    let payload = [0xAB; 160];
    let channel_data = [&[0x40, 0, 0, 160], &payload[..]].concat();
    let send = build(Class::Indication, Method::Send, |builder| {
        builder
            .xor_address(A::XOR_PEER_ADDRESS, peer)
            .attribute(A::DATA, &payload);
    });
    let mut buffer = [0; HEADROOM + 160 + TAILROOM];
    let (ip, range) = (IpHeader::default(), HEADROOM..HEADROOM + 160);
    let before = CALLS.get();
    for _ in 0..10_000 {
        for packet in [&channel_data, &send] {
            assert!(server.handle_client(NOW, client, ip, packet).is_some());
        }
        for from in [peer, other] {
            let time = NOW.time;
            let delivered = server.handle_peer(time, relay, from, ip, &mut buffer, range.clone());
            assert!(delivered.is_some());
        }
        // What is dropped costs nothing either.
        let stranger = SocketAddr::from(([9, 9, 9, 2], 1));
        let time = NOW.time;
        assert!(
            server
                .handle_peer(time, relay, stranger, ip, &mut buffer, range.clone())
                .is_none()
        );
        assert!(server.handle_client(NOW, client, ip, &send[..21]).is_none());
    }
    assert_eq!(CALLS.get() - before, 0);
}

/// What is beyond the limit of bandwidth takes nothing either, but for the word about the first.
#[test]
fn packets_beyond_the_bandwidth_take_nothing_from_the_heap() {
    let mut server = server();
    let client = client(0);
    let relay = allocate(&mut server, client);
    let channel_data = [&[0x40, 0, 3, 232], &[0xAB; 1000][..]].concat();
    let mut buffer = [0; HEADROOM + 1000 + TAILROOM];
    let (ip, range) = (IpHeader::default(), HEADROOM..HEADROOM + 1000);
    let mut both_ways = |server: &mut Server| {
        let peer = PEER.parse().unwrap();
        let forward = server.handle_client(NOW, client, ip, &channel_data);
        let deliver = server.handle_peer(NOW.time, relay, peer, ip, &mut buffer, range.clone());
        (forward.is_some(), deliver.is_some())
    };
    let before = CALLS.get();
    let mut passed = 0;
    while both_ways(&mut server) == (true, true) {
        passed += 1;
        assert_eq!(CALLS.get() - before, 0);
    }
    // What is less than a draw stays in the bucket.
    assert!(
        (6_244_000 / 1028..=6_250_000 / 1028).contains(&passed),
        "{passed}"
    );
    let before = CALLS.get();
    for _ in 0..10_000 {
        assert_eq!(both_ways(&mut server), (false, false));
    }
    assert_eq!(CALLS.get() - before, 0);
}

/// 5,000 allocations with one permission and one channel each.
#[test]
fn an_idle_allocation_is_small() {
    const COUNT: u16 = 5_000;
    let mut server = server();
    let before = BYTES.get();
    for index in 0..COUNT {
        allocate(&mut server, client(index));
    }
    let bytes = (BYTES.get() - before) / i64::from(COUNT);
    println!("{bytes} bytes an allocation");
    assert_eq!(server.allocations(), usize::from(COUNT));
    assert!(bytes < 1_350, "{bytes} bytes an allocation");
}

/// With as many allocations as there may be, each with all its permissions and channels, the core
/// fits a machine of 1 GB.
#[test]
fn a_full_server_is_bounded() {
    const COUNT: u16 = 500;
    let Limits {
        permissions_per_allocation,
        channels_per_allocation,
        allocations_total,
        ..
    } = Limits::default();
    let most = permissions_per_allocation.min(channels_per_allocation);
    assert_eq!(
        most,
        permissions_per_allocation.max(channels_per_allocation)
    );
    let peers: Vec<SocketAddr> = (0..most)
        .map(|n| SocketAddr::from(([9, 9, (n >> 8) as u8, n as u8], 5000)))
        .collect();
    let mut server = server();
    let before = BYTES.get();
    for index in 0..COUNT {
        allocate_with(&mut server, client(index), &peers);
    }
    let views = server.inspect(NOW.time);
    let full =
        views.filter(|it| (it.permissions(), it.channels()) == (most as usize, most as usize));
    assert_eq!(full.count(), usize::from(COUNT));
    let bytes = (BYTES.get() - before) / i64::from(COUNT);
    println!("{bytes} bytes a full allocation");
    assert!(
        bytes * i64::from(allocations_total) < 512 << 20,
        "{bytes} bytes"
    );
}
