//! Send and Data indications, header fields and ICMP (RFC 8656 §11, §13-§16).

use std::collections::HashSet;
use std::net::SocketAddr;

use turnstone::turn::{DropCause, IpHeader, Limits};
use turnstone::wire::{AttributeType as A, Class, IcmpAttribute, MessageBuilder, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address};
use crate::message::{Delivered, build};

const PEER: &str = "9.9.9.1:5000";

fn client() -> TestClient {
    TestClient::udp("198.51.100.1:4000")
}

/// A client with a permission for the peer, and its relayed address.
fn permitted(host: &mut Host) -> (TestClient, SocketAddr) {
    let mut client = client();
    let relayed = client.allocate(host);
    client.permit(host, &[address(PEER)]).success();
    (client, relayed)
}

fn indication(client: &mut TestClient, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    build(Class::Indication, Method::Send, client.id(), write)
}

/// SEND-01
#[test]
fn a_send_indication_needs_peer_and_data() {
    let mut host = Host::new(Setup::default());
    let (mut client, _) = permitted(&mut host);
    let peer = address(PEER);
    let bad = [
        indication(&mut client, |_| {}),
        indication(&mut client, |builder| {
            builder.xor_address(A::XOR_PEER_ADDRESS, peer);
        }),
        indication(&mut client, |builder| {
            builder.attribute(A::DATA, b"x");
        }),
        indication(&mut client, |builder| {
            builder
                .attribute(A::XOR_PEER_ADDRESS, &[0; 8])
                .attribute(A::DATA, b"x");
        }),
        indication(&mut client, |builder| {
            builder
                .xor_address(A::XOR_PEER_ADDRESS, address("9.9.9.1:0"))
                .attribute(A::DATA, b"x");
        }),
    ];
    for bad in &bad {
        assert_eq!(client.data(&mut host, bad), None);
    }
    let dropped = host.shards[0].counters().dropped(DropCause::BadIndication);
    assert_eq!(dropped, bad.len() as u64);
    let sent = client
        .send(&mut host, peer, b"")
        .expect("an empty datagram");
    assert_eq!((sent.to, sent.data.len()), (peer, 0));
}

/// SEND-02, TUP-01: no permission, no such family, no allocation.
#[test]
fn data_that_leads_nowhere() {
    let mut host = Host::new(Setup::default());
    let peer = address(PEER);
    assert_eq!(client().send(&mut host, peer, b"x"), None);
    let (mut client, relayed) = permitted(&mut host);
    for peer in [
        "9.9.9.2:5000",
        "[2606:4700::1]:5000",
        "10.0.0.1:1",
        "127.0.0.1:1",
    ] {
        assert_eq!(client.send(&mut host, address(peer), b"x"), None);
        let heard = host.peer_packet(relayed, address(peer), IpHeader::default(), b"x");
        assert_eq!(heard, None);
    }
    assert!(host.replies.is_empty() && host.shards[0].poll_action().is_none());
}

/// SEND-06, SEND-07, SEND-08: fresh ids, the peer's port, 36 bytes of header.
#[test]
fn data_indications() {
    let mut host = Host::new(Setup::default());
    let (mut client, relayed) = permitted(&mut host);
    let mut ids = HashSet::new();
    let socket = *host.sockets.values().next().unwrap();
    for port in 1..=1000 {
        let peer = SocketAddr::new(address(PEER).ip(), port);
        let mut buffer = [0; 71];
        buffer[64..68].copy_from_slice(b"data");
        let (time, ip) = (host.time(), IpHeader::default());
        let deliver = host.shards[0].handle_peer(time, socket.relay, peer, ip, &mut buffer, 64..68);
        let message = &buffer[deliver.unwrap().message];
        assert_eq!(message.len(), 40);
        assert!(ids.insert(message[8..20].to_vec()), "SEC-13");
        let data = b"data".to_vec();
        assert_eq!(
            Delivered::read(message, false),
            Delivered::Data { peer, data }
        );
    }
    client.bind(&mut host, 0x4000, address(PEER)).success();
    assert!(client.send(&mut host, address(PEER), b"x").is_some());
    assert!(
        host.peer_packet(relayed, address(PEER), IpHeader::default(), b"")
            .is_some()
    );
}

/// SEND-04, NETHDR-06: DF for that datagram, between IPv4 addresses only.
#[test]
fn dont_fragment() {
    let mut host = Host::new(Setup::default());
    let six = address("[2606:4700::1]:5000");
    let send = |client: &mut TestClient, host: &mut Host, peer| {
        let packet = indication(client, |builder| {
            builder
                .attribute(A::DONT_FRAGMENT, &[])
                .xor_address(A::XOR_PEER_ADDRESS, peer)
                .attribute(A::DATA, b"x");
        });
        client.data(host, &packet).map(|sent| sent.dont_fragment)
    };
    for from in ["198.51.100.1:4000", "[2001:db8::1]:4000"] {
        let mut client = TestClient::udp(from);
        client.allocate_dual(&mut host);
        client.permit(&mut host, &[address(PEER), six]).success();
        let is_v4 = client.at.five_tuple.client.is_ipv4();
        assert_eq!(send(&mut client, &mut host, address(PEER)), Some(is_v4));
        assert_eq!(send(&mut client, &mut host, six), Some(false));
        let sent = client.send(&mut host, address(PEER), b"x").unwrap();
        assert!(!sent.dont_fragment);
    }
    let mut host = Host::new(Setup {
        dont_fragment: false,
        ..Setup::default()
    });
    let (mut client, _) = permitted(&mut host);
    assert_eq!(send(&mut client, &mut host, address(PEER)), None);
}

/// SEND-09, SEND-10: what no datagram can carry is dropped and counted. A stream carries the
/// largest datagram there is.
#[test]
fn the_largest_payloads() {
    let mut host = Host::new(Setup::default());
    let peer = address(PEER);
    for (mut client, largest) in [
        (client(), 65_504 - 36),
        (TestClient::tcp("198.51.100.1:4000"), 65_507),
    ] {
        let relayed = client.allocate(&mut host);
        client.permit(&mut host, &[peer]).success();
        let (fits, too_large) = (vec![1; 65_507], vec![1; 65_508]);
        assert_eq!(client.send(&mut host, peer, &fits).unwrap().data, fits);
        assert_eq!(client.send(&mut host, peer, &too_large), None);
        for len in [9_000, largest] {
            let heard = host.peer_packet(relayed, peer, IpHeader::default(), &vec![1; len]);
            assert_eq!(heard.unwrap().1.data().len(), len);
        }
        if largest < 65_507 {
            let heard = host.peer_packet(relayed, peer, IpHeader::default(), &vec![1; largest + 1]);
            assert_eq!(heard, None);
        }
    }
    assert_eq!(host.shards[0].counters().dropped(DropCause::TooLarge), 3);
}

/// NETHDR-01, NETHDR-02, NETHDR-04, SEC-07: TTL less one, the rest as it came; the last hop ends
/// datagrams between datagram legs only.
#[test]
fn header_fields_pass_through() {
    let mut host = Host::new(Setup::default());
    let (mut client, relayed) = permitted(&mut host);
    let peer = address(PEER);
    let header = |ttl, tos| IpHeader { ttl, tos };
    for (ttl, relayed_ttl) in [(Some(5), Some(4)), (None, None), (Some(255), Some(254))] {
        for tos in [0xB8, 0x01, 0x02, 0x03] {
            client.ip = header(ttl, tos);
            let sent = client.send(&mut host, peer, b"x").unwrap();
            assert_eq!(sent.ip, header(relayed_ttl, tos));
            let (_, _, ip) = host
                .peer_packet(relayed, peer, header(ttl, tos), b"x")
                .unwrap();
            assert_eq!(ip, header(relayed_ttl, tos));
        }
    }
    client.ip = header(Some(1), 0);
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    assert_eq!(
        host.peer_packet(relayed, peer, header(Some(1), 0), b"x"),
        None
    );
    assert_eq!(host.shards[0].counters().dropped(DropCause::HopLimit), 2);

    let mut stream = TestClient::tcp("198.51.100.2:4000");
    let relayed = stream.allocate(&mut host);
    stream.permit(&mut host, &[peer]).success();
    stream.ip = header(Some(1), 0xB9);
    let sent = stream.send(&mut host, peer, b"x").unwrap();
    assert_eq!(sent.ip, IpHeader::default());
    assert!(
        host.peer_packet(relayed, peer, header(Some(1), 3), b"x")
            .is_some()
    );
}

/// ICMP-01, ICMP-02, ICMP-03: the errors of the list, about permitted peers, even on a channel.
#[test]
fn icmp_errors_become_indications() {
    let mut host = Host::new(Setup::default());
    let mut client = client();
    let [four, six] = client.allocate_dual(&mut host);
    let (peer4, peer6) = (address(PEER), address("[2606:4700::1]:5000"));
    client.bind(&mut host, 0x4000, peer4).success();
    client.permit(&mut host, &[peer6]).success();
    for icmp_type in 0..=255 {
        let icmp = IcmpAttribute {
            icmp_type,
            icmp_code: 4,
            error_data: 1400,
        };
        for (relayed, peer, relayed_types) in [(four, peer4, [3, 11, 11]), (six, peer6, [1, 2, 3])]
        {
            let heard = host.icmp(relayed, peer, icmp);
            let Some((to, delivered, _)) = heard else {
                assert!(!relayed_types.contains(&icmp_type));
                continue;
            };
            assert!(relayed_types.contains(&icmp_type));
            assert_eq!(to, client.at);
            let has_mtu = icmp_type == if peer.is_ipv4() { 3 } else { 2 };
            let mtu = if has_mtu { [0, 0, 5, 0x78] } else { [0; 4] };
            let icmp = [&[0, 0, icmp_type, 4], &mtu[..]].concat();
            assert_eq!(delivered, Delivered::Icmp { peer, icmp });
        }
    }
    let unreachable = IcmpAttribute {
        icmp_type: 3,
        icmp_code: 3,
        error_data: 0,
    };
    assert_eq!(host.icmp(four, address("9.9.9.2:5000"), unreachable), None);
    let any_port = address("9.9.9.1:0");
    assert!(host.icmp(four, any_port, unreachable).is_some());
    host.advance_s(300);
    assert_eq!(host.icmp(four, peer4, unreachable), None);
}

/// ICMP-04
#[test]
fn icmp_errors_are_limited() {
    let mut host = Host::new(Setup {
        limits: Limits {
            icmp_per_s: 10,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let (_, relayed) = permitted(&mut host);
    let unreachable = IcmpAttribute {
        icmp_type: 3,
        icmp_code: 3,
        error_data: 0,
    };
    for _ in 0..2 {
        let admitted = (0..1000)
            .filter(|_| host.icmp(relayed, address(PEER), unreachable).is_some())
            .count();
        assert_eq!(admitted, 10);
        host.advance_s(1);
    }
    assert_eq!(
        host.shards[0].counters().dropped(DropCause::IcmpLimit),
        1980
    );
}
