//! The protocol core alone, without sockets: what a packet and a request cost in computation.
#![allow(missing_docs, reason = "criterion's macros make a public function")]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that unwraps says where it failed"
)]

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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

const NOW: Now = Now {
    time: Time::from_millis(1_000_000),
    unix_s: 1_767_225_600,
};

/// Bytes of a voice packet.
const PAYLOAD: usize = 160;

struct Bench {
    server: Server,
    clients: Vec<(Client, RelayId)>,
    key: LongTermKey,
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

fn peer() -> SocketAddr {
    SocketAddr::from(([9, 9, 9, 1], 5000))
}

fn build(
    class: Class,
    method: Method,
    id: u64,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> Vec<u8> {
    let mut buffer = [0; 2048];
    let mut transaction_id = [0; 12];
    transaction_id[4..].copy_from_slice(&id.to_be_bytes());
    let id = TransactionId(transaction_id);
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id);
    write(&mut builder);
    let len = builder.finish().unwrap();
    buffer[..len].to_vec()
}

impl Bench {
    /// A server with so many allocations, each with a channel.
    fn new(allocations: u16) -> Self {
        let mut credentials = Credentials::new("example.org", ':').unwrap();
        credentials
            .add_user("alice", &SecretString::from("wonderland"))
            .unwrap();
        let ip = "192.0.2.15".parse().unwrap();
        let address = RelayAddress {
            bound: ip,
            advertised: ip,
        };
        let options = Options {
            authenticator: Authenticator::new(
                Arc::new(credentials),
                vec![NonceKey::new([1; 32])],
                600,
            ),
            limits: Limits {
                allocations_per_user: u32::MAX,
                allocations_per_address: u32::MAX,
                allocations_total: u32::MAX,
                // The clock stands still: as much as a second's worth can be.
                allocation_kbit_per_s: u32::MAX,
                user_kbit_per_s: u32::MAX,
                port_rest_s: 0,
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
        let algorithm = PasswordAlgorithm::Md5;
        let key = LongTermKey::derive(algorithm, b"alice", "example.org", "wonderland");
        let mut bench = Self {
            server: Server::new(Arc::new(options), Arc::new(shared), [2; 32]),
            clients: Vec::new(),
            key,
        };
        for index in 0..allocations {
            let client = client(index);
            let nonce = bench.challenge(client);
            let relay = bench.allocate(client, &nonce, 1).expect("a relay socket");
            bench.ask(client, &nonce, Method::ChannelBind, 2, |builder| {
                builder
                    .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
                    .xor_address(A::XOR_PEER_ADDRESS, peer());
            });
            bench.clients.push((client, relay));
        }
        bench
    }

    fn challenge(&mut self, client: Client) -> Vec<u8> {
        let request = build(Class::Request, Method::Allocate, 0, |_| {});
        let ip = IpHeader::default();
        self.server.handle_client(NOW, client, ip, &request);
        let Some(Action::Reply { message, .. }) = self.server.poll_action() else {
            panic!("a challenge");
        };
        let message = Message::parse(&message).unwrap();
        message.first(A::NONCE).unwrap().to_vec()
    }

    /// Sends a request, and does what the core wants done.
    fn ask(
        &mut self,
        client: Client,
        nonce: &[u8],
        method: Method,
        id: u64,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Option<RelayId> {
        let request = build(Class::Request, method, id, |builder| {
            write(builder);
            builder
                .attribute(A::USERNAME, b"alice")
                .attribute(A::REALM, b"example.org")
                .attribute(A::NONCE, nonce)
                .integrity(IntegrityAlgorithm::Sha1, self.key.as_bytes());
        });
        let ip = IpHeader::default();
        self.server.handle_client(NOW, client, ip, &request);
        let mut bound = None;
        while let Some(action) = self.server.poll_action() {
            if let Action::BindRelay { relay, .. } = action {
                bound = Some(relay);
                self.server.handle_relay_bound(NOW, relay);
            }
        }
        while self.server.poll_event().is_some() {}
        bound
    }

    fn allocate(&mut self, client: Client, nonce: &[u8], id: u64) -> Option<RelayId> {
        self.ask(client, nonce, Method::Allocate, id, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, 17 << 24);
        })
    }
}

/// Relayed packets, of all the allocations in turn.
fn data_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("data_path");
    group.throughput(Throughput::Elements(1));
    let channel_data = [&[0x40, 0, 0, PAYLOAD as u8], &[0xAB; PAYLOAD][..]].concat();
    let send = build(Class::Indication, Method::Send, 0, |builder| {
        builder
            .xor_address(A::XOR_PEER_ADDRESS, peer())
            .attribute(A::DATA, &[0xAB; PAYLOAD]);
    });
    let ip = IpHeader {
        ttl: Some(64),
        tos: 0,
    };
    for allocations in [1, 1_000, 10_000] {
        let Bench {
            mut server,
            clients,
            ..
        } = Bench::new(allocations);
        let mut next = 0;
        let mut turn = || {
            // A stride that visits all of them, far from each other.
            next = (next + 7_919) % clients.len();
            clients[next]
        };
        for (name, packet) in [
            ("client_channel_data", &channel_data),
            ("client_send", &send),
        ] {
            group.bench_function(BenchmarkId::new(name, allocations), |bencher| {
                bencher.iter(|| {
                    let (client, _) = turn();
                    let forward = server.handle_client(NOW, client, ip, black_box(packet));
                    assert!(black_box(forward).is_some());
                });
            });
        }
        let mut buffer = [0; HEADROOM + PAYLOAD + TAILROOM];
        let range = HEADROOM..HEADROOM + PAYLOAD;
        let unbound = SocketAddr::new(peer().ip(), 5001);
        for (name, from) in [
            ("peer_channel_data", peer()),
            ("peer_data_indication", unbound),
        ] {
            group.bench_function(BenchmarkId::new(name, allocations), |bencher| {
                bencher.iter(|| {
                    let (_, relay) = turn();
                    let (time, range) = (NOW.time, range.clone());
                    let deliver =
                        server.handle_peer(time, relay, from, ip, black_box(&mut buffer), range);
                    assert!(black_box(deliver).is_some());
                });
            });
        }
    }
    group.finish();
}

/// Requests, their replies and what the host is asked for.
fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("requests");
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::new(1_000);
    let newcomer = client(50_000);
    group.bench_function("challenge", |bencher| {
        bencher.iter(|| black_box(bench.challenge(newcomer)));
    });
    let nonce = bench.challenge(newcomer);
    let mut id = 10;
    group.bench_function("allocate_and_delete", |bencher| {
        bencher.iter(|| {
            id += 2;
            assert!(bench.allocate(newcomer, &nonce, id).is_some());
            bench.ask(newcomer, &nonce, Method::Refresh, id + 1, |builder| {
                builder.u32(A::LIFETIME, 0);
            });
            // The port's rest is 0 seconds long.
            bench.server.handle_timeout(NOW.time);
        });
    });
    group.finish();
}

criterion_group!(benches, data_path, requests);
criterion_main!(benches);
