//! Who may be a peer, at every door, and hairpins (RFC 8656 §21, conformance §19).

use std::net::SocketAddr;

use turnstone::turn::{
    ClientPolicy, DropCause, Event, IpHeader, NetworkRule, PeerPolicy, RelayAddress, Transport,
};
use turnstone::wire::{AttributeType as A, Class, Family, IcmpAttribute, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address, bob, ip, relay};
use crate::message::Delivered;

/// The doors of a peer's address. All say the same, or the family is wrong and they all say that.
fn is_peer(setup: Setup, via: Transport, peer: SocketAddr) -> bool {
    let mut host = Host::new(setup);
    let mut client = match via {
        Transport::Udp | Transport::Dtls => TestClient::udp("198.51.100.1:4000"),
        Transport::Tcp | Transport::Tls => TestClient::tcp("198.51.100.1:4000"),
    };
    let relayed = client.allocate_dual(&mut host);
    let at = relayed[usize::from(peer.is_ipv6())];
    let hears = |host: &mut Host| {
        host.peer_packet(at, peer, IpHeader::default(), b"x")
            .is_some()
    };
    assert!(!hears(&mut host), "{peer} before anybody asked");
    // Send before there is a permission: only the other doors decide.
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    let permitted = client
        .permit(&mut host, &[address("9.9.9.9:1"), peer])
        .0
        .code();
    let send = client.send(&mut host, peer, b"x").is_some();
    let bound = client.bind(&mut host, 0x4000, peer).0.code();
    let channel = client.send_on(&mut host, 0x4000, b"x").is_some();
    assert_eq!(hears(&mut host), permitted.is_none(), "{peer}");
    assert_eq!(permitted, bound, "{peer}");
    assert!(
        matches!(permitted, None | Some(403 | 443)),
        "{peer}: {permitted:?}"
    );
    assert_eq!(
        (send, channel),
        (permitted.is_none(), permitted.is_none()),
        "{peer}"
    );
    let good = client.send(&mut host, address("9.9.9.9:1"), b"x").is_some();
    assert_eq!(good, permitted.is_none(), "PERM-06");
    permitted.is_none()
}

fn rules(texts: &[&str]) -> Vec<NetworkRule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn setup(peers: PeerPolicy) -> Setup {
    Setup {
        relays: vec![relay("203.0.113.15"), relay("2001:db8:1::15")],
        peers,
        ..Setup::default()
    }
}

/// SEC-01, SEC-02, SEC-03, SEC-04, SEC-05, SEC-06, SEC-20, PERM-08, PERM-13
#[test]
fn the_table_of_peers_through_every_door() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../data/vectors.json")).unwrap();
    let everything = || PeerPolicy {
        allow: rules(&["0.0.0.0/0", "::/0"]),
        ..PeerPolicy::default()
    };
    let rows = vectors["peers"].as_array().unwrap();
    assert!(rows.len() > 40);
    for row in rows {
        let peer = SocketAddr::new(ip(row["ip"].as_str().unwrap()), 5000);
        let mapped = matches!(peer.ip().to_canonical(), ip if ip.is_ipv4() != peer.is_ipv4());
        // (by default, with everything allowed)
        let expected = match row["verdict"].as_str().unwrap() {
            "always" => (false, false),
            // An IPv4 address in IPv6 form is no way to it, whatever is allowed.
            "default" => (false, !mapped),
            "allow" => (true, true),
            "see text" => (!mapped, !mapped),
            other => panic!("{other}"),
        };
        for via in [Transport::Udp, Transport::Tcp] {
            let closed = is_peer(setup(PeerPolicy::default()), via, peer);
            let open = is_peer(setup(everything()), via, peer);
            assert_eq!((closed, open), expected, "{peer}");
        }
    }
}

/// SEC-01, SEC-07: this host's addresses are no peers, but for the relayed addresses that live.
#[test]
fn own_addresses() {
    let (own, opened) = (ip("9.9.9.9"), ip("198.18.0.1"));
    let policy = PeerPolicy {
        allow: rules(&["198.18.0.1"]),
        own: [own, opened, ip("192.0.2.15")].map(Into::into).to_vec(),
        ..PeerPolicy::default()
    };
    let listener = address("192.0.2.15:50000");
    let mut host = Host::new(Setup {
        relays: vec![relay("192.0.2.15")],
        ports: 50_000..=50_010,
        listeners: vec![listener],
        peers: policy,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
    client.allocate(&mut host);
    client
        .permit(&mut host, &[SocketAddr::new(own, 1)])
        .error(403);
    client
        .permit(&mut host, &[SocketAddr::new(opened, 1)])
        .success();
    client.permit(&mut host, &[listener]).success();
    for port in [22, 3478, 49_999, 50_000, 50_011] {
        let peer = SocketAddr::new(listener.ip(), port);
        assert_eq!(client.send(&mut host, peer, b"x"), None, "{peer}");
        client.bind(&mut host, 0x4000, peer).error(403);
    }
    let theirs = other.allocate(&mut host);
    client.bind(&mut host, 0x4000, theirs).success();
    assert!(client.send(&mut host, theirs, b"x").is_some());
    assert!(client.send_on(&mut host, 0x4000, b"x").is_some());
    other.refresh(&mut host, 0).success();
    assert_eq!(client.send(&mut host, theirs, b"x"), None, "its port rests");
    assert_eq!(client.send_on(&mut host, 0x4000, b"x"), None);
    // CHAN-04: browsers give up a pair whose channel is refused.
    client.bind(&mut host, 0x4000, theirs).success();
    client.bind(&mut host, 0x4001, theirs).error(403);
}

/// A deny rule closes the relay addresses too.
#[test]
fn hairpins_can_be_denied() {
    let mut host = Host::new(Setup {
        peers: PeerPolicy {
            deny: rules(&["192.0.2.15"]),
            ..PeerPolicy::default()
        },
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let relayed = client.allocate(&mut host);
    client.permit(&mut host, &[relayed]).error(403);
}

/// SEC-01, SEC-07, ACL-02: behind 1:1 NAT a relay address has two names. What is closed by one is not
/// reached by the other.
#[test]
fn deny_rules_hold_for_both_names_of_a_relay_address() {
    let service = 53;
    for (allow, deny) in [
        ("9.9.9.9", "10.0.0.0/8"),
        ("9.9.9.9", "10.0.0.5:53"),
        ("10.0.0.5", "9.9.9.9:53"),
        ("9.9.9.9", "10.0.0.5"),
        ("10.0.0.5", "9.9.9.9"),
        ("9.9.9.9", "10.0.0.5:50000-50003"),
        ("10.0.0.5", "9.9.9.9:50000-50003"),
    ] {
        let mut host = Host::new(Setup {
            relays: vec![RelayAddress {
                bound: ip("10.0.0.5"),
                advertised: ip("9.9.9.9"),
            }],
            ports: 50_000..=50_003,
            peers: PeerPolicy {
                allow: rules(&[allow]),
                deny: rules(&[deny]),
                ..PeerPolicy::default()
            },
            ..Setup::default()
        });
        let mut client = TestClient::udp("198.51.100.1:4000");
        let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
        client.allocate(&mut host);
        let live = other.allocate(&mut host).port();
        let is_closed = |port| !deny.contains(':') || deny.contains(":53") == (port == service);
        let mut number = 0x4000;
        for name in ["9.9.9.9", "10.0.0.5"].map(ip) {
            let peer = |port| SocketAddr::new(name, port);
            let permitted = client.permit(&mut host, &[peer(1)]).0.code();
            assert_eq!(permitted.is_none(), deny.contains(':'), "{deny}: {name}");
            for port in [service, live] {
                let sent = client.send(&mut host, peer(port), b"x");
                let bound = client.bind(&mut host, number, peer(port)).0.code();
                let on_channel = client.send_on(&mut host, number, b"x");
                number += 1;
                if is_closed(port) {
                    let doors = (sent, bound, on_channel);
                    assert_eq!(doors, (None, Some(403), None), "{deny}: {name}:{port}");
                } else if port == live {
                    assert_eq!(sent.map(|it| it.to.port()), Some(live), "{deny}: {name}");
                    assert_eq!(bound, None, "{deny}: {name}");
                }
            }
        }
    }
}

/// SEC-07, PERM-15, ALLOC-25: both sides of a call on one server behind 1:1 NAT, over two shards.
#[test]
fn hairpin_by_advertised_addresses() {
    let external = |bound: &str, advertised: &str| RelayAddress {
        bound: ip(bound),
        advertised: ip(advertised),
    };
    for (family, peer_port) in [(Family::V4, 4001), (Family::V6, 4003)] {
        let mut host = Host::new(Setup {
            relays: vec![
                external("10.0.0.5", "203.0.113.10"),
                external("fd00::5", "2001:db8::10"),
            ],
            shards: 2,
            ..Setup::default()
        });
        let mut alice = TestClient::udp("198.51.100.1:4000");
        let mut other = TestClient::tcp(&format!("198.51.100.2:{peer_port}")).by(bob());
        let mut relayed = [&mut alice, &mut other].map(|client| {
            let answer = client.allocate_with(&mut host, |builder| {
                builder.u32(A::REQUESTED_ADDRESS_FAMILY, (family as u32) << 24);
            });
            answer.success().relayed()[0]
        });
        let advertised = if family == Family::V4 {
            "203.0.113.10"
        } else {
            "2001:db8::10"
        };
        assert!(
            relayed.iter().all(|it| it.ip() == ip(advertised)),
            "ALLOC-25"
        );
        alice.permit(&mut host, &[relayed[1]]).success();
        other.bind(&mut host, 0x4000, relayed[0]).success();
        for (from, to) in [(&mut alice, 0), (&mut other, 1)] {
            let sent = from
                .send(&mut host, relayed[1 - to], b"media")
                .expect("relayed");
            assert_ne!(sent.to.ip(), ip(advertised), "to the bound address");
            let (client, delivered, _) = host
                .peer_packet(sent.to, sent.from, sent.ip, &sent.data)
                .expect("delivered");
            let data = b"media".to_vec();
            if to == 0 {
                assert_eq!(client.five_tuple.client.port(), peer_port);
                let number = 0x4000;
                assert_eq!(delivered, Delivered::Channel { number, data });
            } else {
                let peer = relayed[1];
                assert_eq!(delivered, Delivered::Data { peer, data });
            }
        }
        relayed.reverse();
        let stranger = address(if family == Family::V4 {
            "9.9.9.1:1"
        } else {
            "[2606:4700::1]:1"
        });
        let bound = host.sockets.values().next().unwrap().address;
        assert_eq!(
            host.peer_packet(bound, stranger, IpHeader::default(), b"x"),
            None
        );
    }
}

/// SEC-07: a loop through two relays ends with the TTL.
#[test]
fn a_loop_runs_out_of_hops() {
    let mut host = Host::new(Setup::default());
    let mut one = TestClient::udp("198.51.100.1:4000");
    let relayed = one.allocate(&mut host);
    one.permit(&mut host, &[relayed]).success();
    one.ip.ttl = Some(64);
    let mut hops = 0;
    // The client sends back whatever it gets, to its own relayed address.
    while let Some(sent) = one.send(&mut host, relayed, b"loop") {
        let Some((_, _, ip)) = host.peer_packet(sent.to, sent.from, sent.ip, &sent.data) else {
            break;
        };
        one.ip = ip;
        hops += 1;
        assert!(hops < 100);
    }
    assert_eq!(hops, 31);
}

/// ACL-02, SEC-01: a permission is for an address of which some port is open; every door that knows
/// the port asks for it.
#[test]
fn rules_with_ports_through_every_door() {
    let mut host = Host::new(setup(PeerPolicy {
        allow: rules(&["10.0.0.0/8:5000-5001"]),
        deny: rules(&["9.9.9.9:53", "[2606:4700::/32]:1-1023"]),
        ..PeerPolicy::default()
    }));
    let mut client = TestClient::udp("198.51.100.1:4000");
    let relayed = client.allocate_dual(&mut host);
    let unreachable = IcmpAttribute {
        icmp_type: 3,
        icmp_code: 3,
        error_data: 0,
    };
    let mut number = 0x4000;
    for (ip, open, closed) in [
        ("10.0.0.1", [5000, 5001], [4999, 5002]),
        ("9.9.9.9", [52, 54], [53, 53]),
        ("2606:4700::1", [1024, 65_535], [1, 1023]),
    ] {
        let at = relayed[usize::from(ip.contains(':'))];
        let peer = |port| SocketAddr::new(self::ip(ip), port);
        client.permit(&mut host, &[peer(closed[0])]).success();
        for port in open {
            assert!(client.send(&mut host, peer(port), b"x").is_some(), "{ip}");
            let heard = host.peer_packet(at, peer(port), IpHeader::default(), b"x");
            assert!(heard.is_some(), "{ip}:{port}");
            client.bind(&mut host, number, peer(port)).success();
            client.bind(&mut host, number, peer(port)).success();
            assert!(client.send_on(&mut host, number, b"x").is_some());
            number += 1;
        }
        let refused = |host: &Host| host.shards[0].counters().dropped(DropCause::PeerRefused);
        let before = refused(&host);
        for port in closed {
            assert_eq!(client.send(&mut host, peer(port), b"x"), None);
            let heard = host.peer_packet(at, peer(port), IpHeader::default(), b"x");
            assert_eq!(heard, None, "{ip}:{port}");
            client.bind(&mut host, number, peer(port)).error(403);
            assert_eq!(client.send_on(&mut host, number, b"x"), None);
            if at.is_ipv4() {
                assert_eq!(host.icmp(at, peer(port), unreachable), None);
                assert!(host.icmp(at, peer(open[0]), unreachable).is_some());
            }
        }
        let drops = if at.is_ipv4() { 6 } else { 4 };
        assert_eq!(refused(&host) - before, drops, "{ip}");
    }
    client
        .permit(
            &mut host,
            &[address("11.0.0.1:1"), address("192.168.0.1:1")],
        )
        .error(403);
}

/// SEC-07: what comes from this host is heard only from where a relay socket is bound, as it is sent
/// only there.
#[test]
fn services_of_this_host_are_not_heard() {
    let mut host = Host::new(Setup::default());
    let mut one = TestClient::udp("198.51.100.1:4000");
    let mut other = TestClient::udp("198.51.100.2:4000").by(bob());
    let (at, live) = (one.allocate(&mut host), other.allocate(&mut host));
    one.permit(&mut host, &[live]).success();
    let mut hears = |port| {
        let from = SocketAddr::new(live.ip(), port);
        host.peer_packet(at, from, IpHeader::default(), b"x")
            .is_some()
    };
    assert!(hears(live.port()));
    for service in [53, 3478, live.port() ^ 1] {
        assert!(!hears(service), "{service}");
    }
}

/// SEC-07, SEC-03: the relay address behind NAT64 is this host by another way.
#[test]
fn the_relay_address_in_disguise() {
    for relayed in ["8.8.4.4", "203.0.113.15"] {
        let disguised = address(&format!("[64:ff9b::{relayed}]:3478"));
        for allow in [&["64:ff9b::/96"][..], &["0.0.0.0/0", "::/0"]] {
            let policy = PeerPolicy {
                allow: rules(allow),
                ..PeerPolicy::default()
            };
            let setup = Setup {
                relays: vec![relay(relayed), relay("2001:db8:1::15")],
                ..setup(policy)
            };
            assert!(!is_peer(setup, Transport::Udp, disguised), "{disguised}");
        }
    }
}

/// SEC-01, PERM-04, PERM-06, MSG-06: of several addresses a permission takes all and judges all; a
/// channel and a Send indication take the first.
#[test]
fn more_addresses_than_one() {
    let (good, bad) = (address("9.9.9.9:1"), address("10.0.0.1:1"));
    for (first, second) in [(good, bad), (bad, good)] {
        let mut host = Host::new(Setup::default());
        let mut client = TestClient::udp("198.51.100.1:4000");
        client.allocate(&mut host);
        let both = |builder: &mut turnstone::wire::MessageBuilder<'_>| {
            builder
                .xor_address(A::XOR_PEER_ADDRESS, first)
                .xor_address(A::XOR_PEER_ADDRESS, second);
        };
        client
            .request(&mut host, Method::CreatePermission, both)
            .error(403);
        let bound = client.request(&mut host, Method::ChannelBind, |builder| {
            builder.u32(A::CHANNEL_NUMBER, 0x4000 << 16);
            both(builder);
        });
        if first == good {
            bound.success();
        } else {
            bound.error(403);
        }
        let send = crate::message::build(Class::Indication, Method::Send, client.id(), |builder| {
            both(builder);
            builder.attribute(A::DATA, b"x");
        });
        let sent = client.data(&mut host, &send).map(|sent| sent.to);
        assert_eq!(sent, (first == good).then_some(good));
        assert_eq!(client.send(&mut host, bad, b"x"), None);
    }
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate(&mut host);
    client.permit(&mut host, &[good, good, good]).success();
    let view = host.shards[0].inspect(host.time()).next().unwrap();
    assert_eq!(view.permissions(), 1, "one address is one permission");
}

/// ACL-01: a client that is not served learns nothing, not even that there is a server, and costs
/// nothing but a count.
#[test]
fn refused_clients_get_nothing() {
    for (allow, deny) in [
        (&["192.0.2.0/24"][..], &[][..]),
        (&[], &["198.51.100.0/24"]),
    ] {
        let networks = |texts: &[&str]| texts.iter().map(|it| it.parse().unwrap()).collect();
        let mut host = Host::new(Setup {
            clients: ClientPolicy {
                allow: networks(allow),
                deny: networks(deny),
            },
            classic_stun: true,
            ..Setup::default()
        });
        let mut stranger = TestClient::udp("198.51.100.1:4000");
        let methods = [
            Method::Binding,
            Method::Allocate,
            Method::Refresh,
            Method::CreatePermission,
            Method::ChannelBind,
        ];
        let mut packets = methods.map(|method| stranger.bare(method, |_| {})).to_vec();
        let mut classic = packets[0].clone();
        classic[4..8].copy_from_slice(&[0; 4]);
        packets.push(classic);
        for packet in &packets {
            assert!(stranger.exchange(&mut host, packet).is_none());
            let (_, event) = host.events.pop_front().unwrap();
            assert!(matches!(event, Event::ClientRefused { .. }), "{event:?}");
        }
        let count = |host: &Host| host.shards[0].counters().dropped(DropCause::ClientRefused);
        assert_eq!(count(&host), packets.len() as u64);
        let connection = TestClient::tcp("198.51.100.1:4000").at.five_tuple;
        assert!(host.shards[0].handle_connect(connection).is_err());
        assert_eq!(count(&host), packets.len() as u64 + 1);
        let mut served = TestClient::tcp("192.0.2.1:4000");
        assert!(host.shards[0].handle_connect(served.at.five_tuple).is_ok());
        served.allocate(&mut host);
    }
}
