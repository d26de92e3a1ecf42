//! Attacks that other servers fell to, and what they come to here. `docs/advisories.md` lists them.

use turnstone::turn::{Event, IpHeader, Limits, RelayFailure};
use turnstone::wire::{AttributeType as A, Class, IntegrityAlgorithm, MessageBuilder, Method};

use crate::client::TestClient;
use crate::host::{Binds, Host, Setup, address, alice, bob};
use crate::message::{Delivered, REALM, Scheme, UDP, build, send_indication};
use crate::world::Rng;

const METHODS: [Method; 4] = [
    Method::Allocate,
    Method::Refresh,
    Method::CreatePermission,
    Method::ChannelBind,
];

fn client() -> TestClient {
    TestClient::udp("198.51.100.1:4000")
}

/// Appends attributes to a message that is signed already.
fn smuggle(packet: &[u8], write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let id = turnstone::wire::TransactionId(packet[8..20].try_into().unwrap());
    let more = build(Class::Request, Method::Binding, id, write);
    let mut packet = [packet, &more[20..]].concat();
    let length = (packet.len() - 20) as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    packet
}

/// MSG-18: behind the integrity of an Allocate request there is no family, port, token or lifetime.
#[test]
fn allocate_takes_nothing_from_behind_its_integrity() {
    for scheme in [Scheme::Old, Scheme::Sha256] {
        let mut host = Host::new(Setup::default());
        let mut client = client().with(scheme);
        client.challenge(&mut host, Method::Allocate);
        // What is needed must stand in front.
        let packet = client.signed(Method::Allocate, |_| {});
        let packet = smuggle(&packet, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
        });
        client.repeat(&mut host, &packet).error(400);

        let packet = client.signed(Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
        });
        let packet = smuggle(&packet, |builder| {
            builder
                .u32(A::REQUESTED_TRANSPORT, 6 << 24)
                .u32(A::LIFETIME, 3000)
                .u32(A::REQUESTED_ADDRESS_FAMILY, 2 << 24)
                .attribute(A::EVEN_PORT, &[0x80])
                .attribute(A::RESERVATION_TOKEN, &[1; 8]);
        });
        let reply = client.repeat(&mut host, &packet).success();
        assert_eq!(reply.lifetime(), Some(600));
        assert_eq!(reply.token(), None);
        assert!(reply.relayed()[0].is_ipv4());
        assert_eq!(host.shared.reservations.held(), 0);
    }
}

/// MSG-18: nor is there a lifetime, peer or channel for an allocation that lives.
#[test]
fn an_allocation_takes_nothing_from_behind_the_integrity() {
    let (peer, smuggled) = (address("9.9.9.1:5000"), address("9.9.9.2:5000"));
    for scheme in [Scheme::Old, Scheme::Sha256] {
        let mut host = Host::new(Setup::default());
        let mut client = client().with(scheme);
        client.allocate(&mut host);

        let refresh = client.signed(Method::Refresh, |_| {});
        let refresh = smuggle(&refresh, |builder| {
            builder
                .u32(A::LIFETIME, 0)
                .u32(A::REQUESTED_ADDRESS_FAMILY, 2 << 24);
        });
        let reply = client.repeat(&mut host, &refresh).success();
        assert_eq!(reply.lifetime(), Some(600));

        let permit = client.signed(Method::CreatePermission, |builder| {
            builder.xor_address(A::XOR_PEER_ADDRESS, peer);
        });
        let add_peer = |builder: &mut MessageBuilder<'_>| {
            builder.xor_address(A::XOR_PEER_ADDRESS, smuggled);
        };
        let permit = smuggle(&permit, add_peer);
        client.repeat(&mut host, &permit).success();
        let empty = client.signed(Method::CreatePermission, |_| {});
        let empty = smuggle(&empty, add_peer);
        client.repeat(&mut host, &empty).error(400);

        for missing in [A::CHANNEL_NUMBER, A::XOR_PEER_ADDRESS] {
            let number = |builder: &mut MessageBuilder<'_>| {
                builder.u32(A::CHANNEL_NUMBER, 0x4001 << 16);
            };
            let in_front = missing == A::XOR_PEER_ADDRESS;
            let bind = client.signed(Method::ChannelBind, |builder| {
                if in_front {
                    number(builder);
                } else {
                    add_peer(builder);
                }
            });
            let bind = smuggle(&bind, |builder| {
                if in_front {
                    add_peer(builder);
                } else {
                    number(builder);
                }
            });
            client.repeat(&mut host, &bind).error(400);
        }
        let bind = client.signed(Method::ChannelBind, |builder| {
            builder
                .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
                .xor_address(A::XOR_PEER_ADDRESS, peer);
        });
        let bind = smuggle(&bind, |builder| {
            add_peer(builder);
            builder.u32(A::CHANNEL_NUMBER, 0x4001 << 16);
        });
        client.repeat(&mut host, &bind).success();

        assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
        assert_eq!(client.send_on(&mut host, 0x4001, b"x"), None);
        assert!(client.send(&mut host, peer, b"x").is_some());
        assert_eq!(client.send(&mut host, smuggled, b"x"), None);
        assert!(client.has_allocation(&mut host));
    }
}

/// MSG-06, PERM-06: of two addresses the first is bound, and of many to be permitted each is
/// judged, wherever it stands.
#[test]
fn a_second_peer_address_opens_nothing() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let (first, second) = (address("9.9.9.1:5000"), address("9.9.9.2:5000"));
    let metadata = address("169.254.169.254:80");
    for (a, b) in [(first, metadata), (metadata, first)] {
        client.permit(&mut host, &[a, b]).error(403);
        client.permit(&mut host, &[a, a, a, b]).error(403);
    }
    assert_eq!(client.send(&mut host, first, b"x"), None);
    let bind = |client: &mut TestClient, host: &mut Host, number: [u32; 2], peers: [_; 2]| {
        client.request(host, Method::ChannelBind, |builder| {
            builder
                .u32(A::CHANNEL_NUMBER, number[0] << 16)
                .xor_address(A::XOR_PEER_ADDRESS, peers[0])
                .xor_address(A::XOR_PEER_ADDRESS, peers[1])
                .u32(A::CHANNEL_NUMBER, number[1] << 16);
        })
    };
    bind(&mut client, &mut host, [0x4000, 0x4001], [metadata, first]).error(403);
    bind(&mut client, &mut host, [0x3FFF, 0x4001], [first, second]).error(400);
    bind(&mut client, &mut host, [0x4000, 0x4001], [first, metadata]).success();
    assert_eq!(client.send_on(&mut host, 0x4000, b"x").unwrap().to, first);
    assert_eq!(client.send_on(&mut host, 0x4001, b"x"), None);
    assert_eq!(client.send(&mut host, metadata, b"x"), None);
    client.permit(&mut host, &[second, second]).success();
    assert!(client.send(&mut host, second, b"x").is_some());
}

/// OAUTH-02: a token of any length is refused before anything is made of it, also by the side of
/// credentials.
#[test]
fn access_tokens_of_every_length() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.challenge(&mut host, Method::Allocate);
    let token = [0xA5; 65_536];
    let long = (1_025..65_480).step_by(997).chain(65_400..65_480);
    for (round, len) in (0..=1_024).chain(long).enumerate() {
        // Time passes, for limits by the second.
        host.advance_ms(20);
        let token = &token[..len];
        let method = METHODS[round % METHODS.len()];
        let packet = client.bare(method, |builder| {
            builder
                .u32(A::REQUESTED_TRANSPORT, UDP)
                .attribute(A::ACCESS_TOKEN, token);
        });
        let reply = client.exchange(&mut host, &packet).expect("an answer");
        assert_eq!(reply.code(), Some(420), "{len} bytes");
        assert_eq!(reply.attribute(A::UNKNOWN_ATTRIBUTES), Some(vec![0, 0x1B]));
        if len <= 1_024 {
            let packet = client.signed(Method::Allocate, |builder| {
                builder
                    .u32(A::REQUESTED_TRANSPORT, UDP)
                    .attribute(A::ACCESS_TOKEN, token);
            });
            let reply = client.exchange(&mut host, &packet).expect("an answer");
            assert_eq!(reply.code(), Some(420), "{len} bytes");
        }
        // The length that the attribute claims is not the one that it has.
        let mut wrong = packet;
        wrong[30..32].copy_from_slice(&(len as u16 + 5).to_be_bytes());
        assert!(client.exchange(&mut host, &wrong).is_none(), "{len} bytes");
    }
    assert_eq!(host.shards[0].allocations(), 0);
}

/// AUTH-10, TUP-05, IDEM-01: what was overheard is worth nothing from any other address or port.
#[test]
fn a_captured_request_serves_its_five_tuple_alone() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.challenge(&mut host, Method::Allocate);
    let peer = address("9.9.9.1:5000");
    let allocate = client.signed(Method::Allocate, |builder| {
        builder.u32(A::REQUESTED_TRANSPORT, UDP);
    });
    let permit = client.signed(Method::CreatePermission, |builder| {
        builder.xor_address(A::XOR_PEER_ADDRESS, peer);
    });
    let bind = client.signed(Method::ChannelBind, |builder| {
        builder
            .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
            .xor_address(A::XOR_PEER_ADDRESS, peer);
    });
    let prolong = client.signed(Method::Refresh, |builder| {
        builder.u32(A::LIFETIME, 900);
    });
    let delete = client.signed(Method::Refresh, |builder| {
        builder.u32(A::LIFETIME, 0);
    });
    let captured = [&allocate, &permit, &bind, &prolong, &delete];
    let relayed = client.repeat(&mut host, &allocate).success().relayed();

    let thieves = ["198.51.100.1:4001", "198.51.100.2:4000"].map(TestClient::udp);
    for thief in thieves
        .into_iter()
        .chain([TestClient::tcp("198.51.100.2:4000")])
    {
        for packet in captured {
            let reply = thief.exchange(&mut host, packet).unwrap();
            assert_eq!(reply.code(), Some(438));
        }
    }
    assert_eq!((host.shards[0].allocations(), host.sockets.len()), (1, 1));
    assert_eq!(host.shared.quota.of_user("alice"), 1);

    // From the five-tuple itself it is the client's own retransmission.
    for _ in 0..2 {
        let again = client.repeat(&mut host, &allocate).success();
        assert_eq!(again.relayed(), relayed);
        client.repeat(&mut host, &permit).success();
        client.repeat(&mut host, &bind).success();
        client.repeat(&mut host, &prolong).success();
    }
    assert_eq!((host.shards[0].allocations(), host.sockets.len()), (1, 1));
    client.repeat(&mut host, &delete).success();
    assert_eq!(host.shards[0].allocations(), 0);
    // After the end it makes one anew, as long as the nonce lives: the user's, and without permissions.
    client.repeat(&mut host, &allocate).success();
    assert_eq!(host.shared.quota.of_user("alice"), 1);
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    client.repeat(&mut host, &delete).success();
    host.advance_s(601);
    client.repeat(&mut host, &allocate).error(438);
    assert_eq!(host.shared.quota.of_user("alice"), 0);
}

/// AUTH-22: with good credentials of one's own, another user's five-tuple is out of reach.
#[test]
fn good_credentials_are_good_for_ones_own_allocation() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    // Somebody who forges the client's address, and saw its nonce.
    let mut forger = TestClient::udp("198.51.100.1:4000").by(bob());
    forger.nonce = client.nonce.clone();
    forger.refresh(&mut host, 0).error(441);
    forger.permit(&mut host, &[peer]).error(441);
    forger.bind(&mut host, 0x4000, peer).error(441);
    let mut wrong_key = TestClient::udp("198.51.100.1:4000");
    wrong_key.nonce = client.nonce.clone();
    wrong_key.account.password = bob().password;
    wrong_key.refresh(&mut host, 0).error(401);
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    assert!(client.has_allocation(&mut host));
}

/// MSG-08, MSG-09, PERM-01: a peer's datagrams are data, whatever they look like; a stranger's are
/// nothing.
#[test]
fn stun_from_peers_is_data() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let relayed = client.allocate(&mut host);
    let (peer, stranger) = (address("9.9.9.1:5000"), address("9.9.9.2:5000"));
    client.permit(&mut host, &[peer]).success();
    let nonce = client.nonce.clone().unwrap();
    let mut forged = vec![send_indication(client.id(), peer, b"x")];
    for class in [
        Class::Request,
        Class::Indication,
        Class::Success,
        Class::Error,
    ] {
        for method in METHODS
            .into_iter()
            .chain([Method::Binding, Method::Send, Method::Data])
        {
            forged.push(build(class, method, client.id(), |builder| {
                builder
                    .u32(A::REQUESTED_TRANSPORT, UDP)
                    .u32(A::LIFETIME, 0)
                    .u32(A::CHANNEL_NUMBER, 0x4000 << 16)
                    .xor_address(A::XOR_PEER_ADDRESS, stranger)
                    .attribute(A::DATA, b"x")
                    .attribute(A::USERNAME, b"alice")
                    .attribute(A::REALM, REALM.as_bytes())
                    .attribute(A::NONCE, &nonce);
                let key = alice().key(Scheme::Old.password());
                builder.integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
            }));
        }
    }
    forged.push(vec![0x40, 0, 0, 1, 0]);
    host.events.clear();
    for packet in forged {
        let ip = IpHeader::default();
        let (to, delivered, _) = host.peer_packet(relayed, peer, ip, &packet).unwrap();
        let data = packet.clone();
        assert_eq!((to, delivered), (client.at, Delivered::Data { peer, data }));
        assert_eq!(host.peer_packet(relayed, stranger, ip, &packet), None);
        assert!(host.replies.is_empty() && host.events.is_empty());
    }
    assert_eq!(client.send(&mut host, stranger, b"x"), None);
    assert!(client.has_allocation(&mut host));
}

/// ALLOC-13, ALLOC-14, ALLOC-16: ten thousand pairs out of ten ports: taken, claimed, left to
/// expire, or not to be bound, all of them come back.
#[test]
fn ten_thousand_pairs_on_ten_ports() {
    const PAIRS: usize = 10_000;
    let mut host = Host::new(Setup {
        ports: 50_000..=50_009,
        nonce_lifetime_s: 10_000_000,
        ..Setup::default()
    });
    let mut rng = Rng::new(4);
    let (mut reserved, mut claimed, mut failed, mut full) = (0, 0, 0, 0);
    let mut clients: Vec<TestClient> = (0..6)
        .map(|n| TestClient::udp(&format!("198.51.100.1:{}", 4000 + n)))
        .collect();
    for _ in 0..PAIRS {
        if rng.chance(20) {
            host.binds = Binds::Fail(1 + rng.below(9) as u32, RelayFailure::AddressInUse);
        }
        let index = rng.below(5) as usize;
        let answer = clients[index].allocate_with(&mut host, |builder| {
            builder.attribute(A::EVEN_PORT, &[0x80]);
        });
        if matches!(host.binds, Binds::Fail(0, _)) {
            failed += 1;
        }
        host.binds = Binds::Succeed;
        match answer.0.code() {
            None => {
                reserved += 1;
                let token = answer.success().token().unwrap();
                if rng.chance(30) {
                    let answer = clients[5].allocate_with(&mut host, |builder| {
                        builder.attribute(A::RESERVATION_TOKEN, &token);
                    });
                    answer.success();
                    claimed += 1;
                    clients[5].refresh(&mut host, 0).success();
                }
            }
            Some(508) => full += 1,
            Some(437) => {}
            other => panic!("{other:?}"),
        }
        if rng.chance(60) {
            // There may be none.
            clients[index].refresh(&mut host, 0);
        }
        host.advance_ms(rng.below(4_000));
        host.events.clear();
        assert!(host.shared.ports.taken() <= 10);
    }
    let counts = [reserved, claimed, failed, full];
    assert!(counts.iter().all(|&count| count > 200), "{counts:?}");
    host.advance_s(3_700);
    assert_nothing_left(&host);
    let ports: std::collections::BTreeSet<u16> = (0..10)
        .map(|n| TestClient::udp(&format!("198.51.100.2:{}", 4000 + n)))
        .map(|mut client| client.allocate(&mut host).port())
        .collect();
    assert_eq!(ports.len(), 10, "every port serves again");
}

fn assert_nothing_left(host: &Host) {
    assert_eq!(host.shards[0].allocations(), 0);
    assert_eq!(host.shards[0].deadlines(), 0);
    assert_eq!(host.shared.ports.taken(), 0);
    assert_eq!(host.shared.reservations.held(), 0);
    assert_eq!(host.shared.quota.total(), 0);
    assert!(host.sockets.is_empty() && host.waiting.is_empty());
}

/// SEC-12: who makes and deletes allocations as quickly as it can leaves no deadline, rests few
/// ports and causes few lines.
#[test]
fn allocating_and_deleting_all_day_costs_nothing() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 3600,
        ..Setup::default()
    });
    let mut client = client();
    let (mut made, mut refused, mut resting) = (0, 0, 0);
    for _ in 0..10_000 {
        let answer = client.allocate_with(&mut host, |builder| {
            builder.u32(A::LIFETIME, 3600);
        });
        match answer.0.code() {
            None => made += 1,
            Some(486) => refused += 1,
            other => panic!("{other:?}"),
        }
        client.refresh(&mut host, 0);
        resting = resting.max(host.shared.ports.resting());
        assert_eq!(host.shards[0].deadlines(), 0);
        host.advance_ms(10);
    }
    // 50 at once, then five a second for a hundred seconds.
    assert_eq!((made, made + refused), (50 + 499, 10_000));
    assert!(resting <= 50 + 5 * 30, "{resting} ports rest");
    let told = host.events.iter().filter(|(_, event)| {
        matches!(event, Event::RequestRefused { reject, .. } if reject.to_string()
            == "new allocations too quickly for limits.allocations_per_user")
    });
    assert_eq!(told.count(), refused);
    host.advance_s(60);
    assert_nothing_left(&host);
    let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
    other.allocate(&mut host);
    assert_eq!(host.shared.quota.remembered(), (1, 1), "only who is there");
}

/// ALLOC-22, IDEM-04, IDEM-05: allocate, delete and disconnect in any order, while sockets are
/// being bound, bound or not to be had.
#[test]
fn a_thousand_races_leave_nothing() {
    let mut host = Host::new(Setup {
        ports: 50_000..=50_019,
        binds: Binds::Wait,
        nonce_lifetime_s: 10_000_000,
        limits: Limits {
            port_rest_s: 0,
            allocations_per_user: 1_000_000,
            allocations_per_address: 1_000_000,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut rng = Rng::new(22);
    let mut client = TestClient::tcp("198.51.100.1:4000");
    let (mut successes, mut refused, mut cut_short) = (0, 0, 0);
    for _ in 0..1_000 {
        client.challenge(&mut host, Method::Allocate);
        let pair = rng.chance(50);
        let both = !pair && rng.chance(50);
        let allocate = client.signed(Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
            if pair {
                builder.attribute(A::EVEN_PORT, &[0x80]);
            }
            if both {
                builder.u32(A::ADDITIONAL_ADDRESS_FAMILY, 2 << 24);
            }
        });
        let delete = client.signed(Method::Refresh, |builder| {
            builder.u32(A::LIFETIME, 0);
        });
        let send = |host: &mut Host, packet: &[u8]| {
            host.client_packet(client.at, IpHeader::default(), packet);
        };
        send(&mut host, &allocate);
        // In some rounds no socket can be had, until the server gives up.
        let hopeless = rng.chance(20);
        for _ in 0..rng.below(if hopeless { 30 } else { 6 }) {
            match rng.below(4) {
                0 => send(&mut host, &allocate),
                1 => send(&mut host, &delete),
                _ if host.waiting.is_empty() => {}
                choice if hopeless || choice == 2 => host.report(Err(RelayFailure::AddressInUse)),
                _ => host.report(Ok(())),
            }
        }
        for reply in host.replies.drain(..) {
            match reply.code() {
                None => successes += 1,
                Some(508) => refused += 1,
                Some(437) => {}
                other => panic!("{other:?}"),
            }
        }
        cut_short += usize::from(!host.waiting.is_empty());
        host.disconnect(&client.at.five_tuple);
        host.events.clear();
        assert_eq!(host.shards[0].allocations(), 0);
        assert_eq!(host.shared.quota.total(), 0);
        assert!(host.sockets.is_empty() && host.waiting.is_empty());
    }
    let counts = [successes, refused, cut_short];
    assert!(counts.iter().all(|&count| count > 50), "{counts:?}");
    host.advance_s(60);
    assert_nothing_left(&host);
}

/// MSG-23: a message is read the same wherever in memory it lies.
#[test]
fn messages_at_every_alignment() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let peer = address("9.9.9.1:5000");
    client.allocate(&mut host);
    client.bind(&mut host, 0x4000, peer).success();
    let requests = [
        client.signed(Method::Refresh, |builder| {
            // Values of every length in front of those that are read as numbers.
            for len in 0..4 {
                builder.attribute(A::SOFTWARE, &[0xEE; 3][..len]);
            }
            builder.u32(A::LIFETIME, 700);
        }),
        client.signed(Method::CreatePermission, |builder| {
            builder.xor_address(A::XOR_PEER_ADDRESS, peer);
        }),
        client.bare(Method::Binding, |builder| {
            builder.fingerprint();
        }),
    ];
    let data = [
        send_indication(client.id(), peer, b"data"),
        vec![0x40, 0, 0, 4, b'd', b'a', b't', b'a'],
    ];
    let mut answers = std::collections::BTreeMap::new();
    for offset in 0..16 {
        let mut buffer = vec![0; 512];
        for (index, packet) in requests.iter().enumerate() {
            let packet_at = &mut buffer[offset..offset + packet.len()];
            packet_at.copy_from_slice(packet);
            host.client_packet(client.at, IpHeader::default(), packet_at);
            let reply = host.only_reply().expect("an answer");
            assert_eq!(reply.code(), None);
            let first = answers.entry(index).or_insert_with(|| reply.bytes.clone());
            assert_eq!(*first, reply.bytes, "offset {offset}");
        }
        for packet in &data {
            let packet_at = &mut buffer[offset..offset + packet.len()];
            packet_at.copy_from_slice(packet);
            let sent = client.data(&mut host, packet_at).expect("relayed");
            assert_eq!((sent.to, &sent.data[..]), (peer, &b"data"[..]));
        }
    }
}
