//! How often strangers are answered, and how often a password can be tried.

use turnstone::turn::{DropCause, Event, Limits};
use turnstone::wire::{AttributeType as A, Class, Method, TransactionId};

use crate::client::{Answer, TestClient};
use crate::host::{Host, SECRETS, Setup, UNIX_ORIGIN_S, alice, bob};
use crate::message::{Account, UDP, build};

/// What a network of strangers gets at once by default.
const BURST: usize = 400;

fn host() -> Host {
    Host::new(Setup::default())
}

/// Sends so many Binding requests, and returns how many were answered.
fn flood(host: &mut Host, from: &str, requests: usize) -> usize {
    let mut client = TestClient::udp(from);
    let answered = (0..requests).filter(|_| {
        let packet = client.bare(Method::Binding, |_| {});
        client.exchange(host, &packet).is_some()
    });
    answered.count()
}

fn limited(host: &Host) -> u64 {
    host.shards[0].counters().dropped(DropCause::ReplyLimit)
}

/// SEC-09: a network gets so many replies, the next one as many, and more when time has passed.
#[test]
fn replies_to_a_network_are_limited() {
    for (flooded, neighbour, other) in [
        ("192.0.2.1:1", "192.0.2.255:2", "192.0.3.1:1"),
        (
            "[2001:db8:1::1]:1",
            "[2001:db8:1:9::1]:2",
            "[2001:db8:2::1]:1",
        ),
    ] {
        let mut host = host();
        assert_eq!(flood(&mut host, flooded, BURST), BURST);
        assert_eq!(limited(&host), 0);
        assert_eq!(flood(&mut host, flooded, 1), 0);
        assert_eq!(flood(&mut host, neighbour, 10), 0);
        assert_eq!(limited(&host), 11);
        let told = host.shards[0].last_limited().unwrap().to_string();
        let network = if flooded.starts_with('[') {
            "2001:db8:1::/48"
        } else {
            "192.0.2.0/24"
        };
        assert_eq!(told, network);
        assert_eq!(flood(&mut host, other, 100), 100);
        host.advance_ms(500);
        assert_eq!(flood(&mut host, flooded, BURST), 100);
        host.advance_s(60);
        assert_eq!(flood(&mut host, neighbour, 2 * BURST), BURST);
        assert!(host.events.is_empty(), "no event for a packet");
    }
}

/// SEC-09: by configuration, down to one and up to any number.
#[test]
fn the_limit_of_replies_is_the_operators() {
    for (per_s, answered) in [(1, 2), (50, 100), (0, 5000)] {
        let mut host = Host::new(Setup {
            limits: Limits {
                unauthenticated_replies_per_s: per_s,
                ..Limits::default()
            },
            ..Setup::default()
        });
        assert_eq!(flood(&mut host, "192.0.2.1:1", 5000), answered);
    }
}

/// Every request that is answered without authentication.
fn strangers_requests(client: &mut TestClient) -> Vec<(u16, Vec<u8>)> {
    let mut requests = vec![
        (0, client.bare(Method::Binding, |_| {})),
        (
            420,
            client.bare(Method::Binding, |builder| {
                builder.attribute(A(0x7F00), b"");
            }),
        ),
        (
            420,
            client.bare(Method::Allocate, |builder| {
                builder.attribute(A::ACCESS_TOKEN, b"");
            }),
        ),
    ];
    for method in [
        Method::Allocate,
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        requests.push((401, client.bare(method, |_| {})));
        let key = [0; 16];
        let id = client.id();
        let incomplete = build(Class::Request, method, id, |builder| {
            builder
                .attribute(A::USERNAME, b"alice")
                .integrity(client.scheme.request_integrity(), &key);
        });
        requests.push((400, incomplete));
        client.nonce = Some(b"obMatJos2wAAAAAAAAAAAAAAAAAA".to_vec());
        requests.push((438, client.signed(method, |_| {})));
    }
    requests
}

/// SEC-09: nothing that a stranger can send by UDP goes past the limit, and what is answered is
/// answered in few bytes.
#[test]
fn every_reply_to_a_stranger_is_limited_and_small() {
    let mut host = Host::new(Setup {
        classic_stun: true,
        ..Setup::default()
    });
    let mut client = TestClient::udp("192.0.2.1:4000");
    let mut classic = vec![0, 1, 0, 0];
    classic.extend([7; 16]);
    let requests = strangers_requests(&mut client);
    for (code, packet) in &requests {
        let reply = client.exchange(&mut host, packet).unwrap();
        assert_eq!(reply.code().unwrap_or(0), *code);
        assert!(reply.bytes.len() <= 88, "{code}: {}", reply.bytes.len());
        if *code != 401 {
            let bound = if *code == 438 {
                88
            } else {
                packet.len() * 8 / 5
            };
            assert!(reply.bytes.len() <= bound, "{code}");
        }
    }
    host.client_packet(client.at, client.ip, &classic);
    assert_eq!(host.only_reply().unwrap().bytes.len(), 32);

    flood(&mut host, "192.0.2.2:1", BURST);
    host.events.clear();
    for (code, packet) in &requests {
        assert!(client.exchange(&mut host, packet).is_none(), "{code}");
    }
    host.client_packet(client.at, client.ip, &classic);
    assert!(host.only_reply().is_none());
    assert!(host.events.is_empty(), "what is dropped is counted only");
}

/// SEC-09: who has shown to receive at its address is answered, however many strangers use it.
#[test]
fn clients_with_a_proven_address_are_not_limited() {
    let mut host = host();
    let mut with_nonce = TestClient::udp("192.0.2.1:4000");
    with_nonce.challenge(&mut host, Method::Allocate);
    let mut with_old_nonce = TestClient::udp("192.0.2.1:4001");
    with_old_nonce.challenge(&mut host, Method::Allocate);
    let mut with_allocation = TestClient::udp("192.0.2.1:4002");
    with_allocation.allocate(&mut host);
    host.advance_s(599);
    with_nonce.challenge(&mut host, Method::Allocate);
    host.advance_s(2);
    with_allocation.nonce = with_nonce.nonce.clone();
    flood(&mut host, "192.0.2.2:1", BURST + 1);

    with_nonce.allocate(&mut host);
    let mut stream = TestClient::tcp("192.0.2.1:4000");
    stream.allocate(&mut host);
    for _ in 0..2 * BURST {
        for client in [&mut with_nonce, &mut stream] {
            let packet = client.bare(Method::Binding, |_| {});
            assert!(client.exchange(&mut host, &packet).is_some());
            client.challenge(&mut host, Method::Refresh);
        }
    }
    // An allocation whose time is over proves nothing any more.
    let packet = with_allocation.bare(Method::Binding, |_| {});
    assert!(with_allocation.exchange(&mut host, &packet).is_none());
    // Nor does a nonce whose time is over.
    let packet = with_old_nonce.signed(Method::Allocate, |_| {});
    assert!(with_old_nonce.exchange(&mut host, &packet).is_none());
    // Another client's nonce proves nothing.
    let mut thief = TestClient::udp("192.0.2.1:4003");
    thief.nonce = with_nonce.nonce.clone();
    let packet = thief.signed(Method::Allocate, |_| {});
    assert!(thief.exchange(&mut host, &packet).is_none());
}

/// Asks with the wrong password.
fn fail(host: &mut Host, client: &mut TestClient) -> Answer {
    let right = client.account.password.clone();
    client.account.password = "wrong".into();
    let answer = allocate(host, client);
    client.account.password = right;
    answer
}

fn allocate(host: &mut Host, client: &mut TestClient) -> Answer {
    client.allocate_with(host, |_| {})
}

/// Why the last request was refused, and whether its source is proven.
fn reason(host: &mut Host) -> (String, bool) {
    match host.events.pop_back() {
        Some((
            _,
            Event::RequestRefused {
                reject, from_there, ..
            },
        )) => (reject.to_string(), from_there),
        other => panic!("{other:?}"),
    }
}

const TOO_MANY: &str = "too many failed authentications";

/// AUTH-33: after ten failures the right password is refused like a wrong one, for as long as it
/// takes; not other users behind the same NAT, nor the same user elsewhere.
#[test]
fn passwords_can_be_tried_ten_times_a_minute() {
    let mut host = host();
    let mut client = TestClient::udp("192.0.2.1:4000");
    for _ in 0..10 {
        fail(&mut host, &mut client).error(401);
        assert_eq!(reason(&mut host), ("wrong password".to_owned(), true));
    }
    let wrong = fail(&mut host, &mut client).error(401);
    assert_eq!(reason(&mut host), (TOO_MANY.to_owned(), true));
    let right = allocate(&mut host, &mut client).error(401);
    assert_eq!(reason(&mut host), (TOO_MANY.to_owned(), true));
    // Nothing but the transaction differs.
    assert_eq!(wrong.bytes[20..], right.bytes[20..]);
    // Another port is the same client.
    let mut again = TestClient::udp("192.0.2.1:5000");
    allocate(&mut host, &mut again).error(401);
    let mut stream = TestClient::tcp("192.0.2.1:5001");
    allocate(&mut host, &mut stream).error(401);

    TestClient::udp("192.0.2.1:6000")
        .by(bob())
        .allocate(&mut host);
    TestClient::udp("192.0.2.2:4000").allocate(&mut host);
    host.advance_ms(5_999);
    allocate(&mut host, &mut client).error(401);
    host.advance_ms(1);
    allocate(&mut host, &mut client).success();
}

/// AUTH-33: what does not say whether a password is right does not count.
#[test]
fn only_passwords_that_were_tried_count() {
    let mut host = host();
    let name = format!("{}:carol", UNIX_ORIGIN_S);
    let mut expired = TestClient::udp("192.0.2.1:4000").by(Account::rest(SECRETS[0], &name));
    let mut client = TestClient::udp("192.0.2.1:4001");
    for _ in 0..30 {
        allocate(&mut host, &mut expired).error(401);
        let (told, _) = reason(&mut host);
        assert!(told.starts_with("credential expired"), "{told}");
        client.challenge(&mut host, Method::Allocate);
        let packet = client.signed(Method::Allocate, |_| {});
        let mut thief = TestClient::udp("192.0.2.1:4002");
        assert_eq!(
            thief.exchange(&mut host, &packet).unwrap().code(),
            Some(438)
        );
        thief.nonce = None;
    }
    host.advance_s(601);
    let old = client.nonce.clone();
    for _ in 0..30 {
        client.nonce.clone_from(&old);
        let packet = client.signed(Method::Allocate, |_| {});
        client.repeat(&mut host, &packet).error(438);
        assert_eq!(reason(&mut host).0, "stale nonce");
    }
    client.challenge(&mut host, Method::Allocate);
    client.allocate(&mut host);
}

/// AUTH-33: neither an old nonce, an expired credential nor a name that nobody has shows through.
#[test]
fn a_locked_out_client_learns_nothing() {
    let mut host = host();
    let name = format!("{}:carol", UNIX_ORIGIN_S);
    let unknown = Account::new("nobody", "x");
    for account in [alice(), Account::rest(SECRETS[0], &name), unknown] {
        let mut client = TestClient::udp("192.0.2.1:4000").by(account);
        client.challenge(&mut host, Method::Allocate);
        host.advance_s(601);
        for _ in 0..10 {
            fail(&mut host, &mut client).error(401);
            let (_, from_there) = reason(&mut host);
            assert!(!from_there, "by an old nonce");
        }
        let wrong = fail(&mut host, &mut client).error(401);
        let right = allocate(&mut host, &mut client).error(401);
        assert_eq!(reason(&mut host), (TOO_MANY.to_owned(), false));
        assert_eq!(wrong.bytes[20..], right.bytes[20..]);
        let packet = client.signed(Method::Refresh, |_| {});
        client.repeat(&mut host, &packet).error(401);
    }
}

/// AUTH-33: who has an allocation keeps it, whoever fails at the same address.
#[test]
fn an_allocation_is_not_locked_out() {
    let mut host = host();
    let mut client = TestClient::udp("192.0.2.1:4000");
    client.allocate(&mut host);
    let mut other = TestClient::udp("192.0.2.1:4001");
    for _ in 0..11 {
        fail(&mut host, &mut other).error(401);
    }
    allocate(&mut host, &mut other).error(401);
    client.refresh(&mut host, 600).success();
    let packet = client.signed(Method::Refresh, |builder| {
        builder.u32(A::LIFETIME, 0);
    });
    client.repeat(&mut host, &packet).success();
    allocate(&mut host, &mut client).error(401);
}

/// AUTH-33: an allocation whose time is over proves nothing, also before the timer comes.
#[test]
fn an_expired_allocation_is_locked_out() {
    for (early_ms, is_exempt) in [(1, true), (0, false)] {
        let mut host = Host::new(Setup {
            nonce_lifetime_s: 3600,
            ..Setup::default()
        });
        let mut client = TestClient::udp("192.0.2.1:4000");
        client.allocate(&mut host);
        host.advance_ms(599_000);
        let mut other = TestClient::udp("192.0.2.1:4001");
        for _ in 0..10 {
            fail(&mut host, &mut other).error(401);
        }
        // No timer.
        host.now_ms += 1000 - early_ms;
        assert_eq!(host.shards[0].allocations(), 1);
        let answer = client.refresh(&mut host, 600);
        if is_exempt {
            answer.success();
        } else {
            answer.error(401);
            assert_eq!(reason(&mut host).0, TOO_MANY);
        }
    }
}

/// AUTH-33: IPv6 clients have a /64 to choose from; its neighbour is somebody else.
#[test]
fn an_ipv6_subscriber_is_one_client() {
    let mut host = host();
    for host_part in 1..=10 {
        let mut client = TestClient::udp(&format!("[2001:db8:1:2::{host_part}]:4000"));
        fail(&mut host, &mut client).error(401);
    }
    let mut same = TestClient::udp("[2001:db8:1:2:ffff::1]:4000");
    allocate(&mut host, &mut same).error(401);
    TestClient::udp("[2001:db8:1:3::1]:4000").allocate(&mut host);
}

/// AUTH-33: somebody with a whole network tries a password ten times as often, and no more: the
/// next subscriber there is refused, and the user elsewhere is not.
#[test]
fn a_network_has_ten_subscribers_worth_of_tries() {
    type Subscriber = fn(usize) -> String;
    let networks: [(Subscriber, &str); 2] = [
        (
            |n| format!("[2001:db8:1:{n:x}::1]:4000"),
            "[2001:db8:2::1]:4000",
        ),
        (|n| format!("192.0.2.{n}:4000"), "192.0.3.1:4000"),
    ];
    for (subscriber, elsewhere) in networks {
        let mut host = host();
        for n in 0..100 {
            let mut client = TestClient::udp(&subscriber(n));
            fail(&mut host, &mut client).error(401);
            assert_eq!(reason(&mut host).0, "wrong password", "{n}");
        }
        let mut next = TestClient::udp(&subscriber(200));
        allocate(&mut host, &mut next).error(401);
        assert_eq!(reason(&mut host).0, TOO_MANY);
        TestClient::udp(&subscriber(201))
            .by(bob())
            .allocate(&mut host);
        TestClient::udp(elsewhere).allocate(&mut host);
        host.advance_ms(600);
        allocate(&mut host, &mut next).success();
    }
}

/// AUTH-33: an address that fails under ever new names is not answered any more, and right
/// credentials there still are.
#[test]
fn failures_of_an_address_are_answered_so_often() {
    let mut host = host();
    let mut client = TestClient::udp("192.0.2.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let mut answered = 0;
    for name in 0..1000 {
        client.account = Account::new(&format!("guess {name}"), "x");
        let packet = client.signed(Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
        });
        answered += u32::from(client.exchange(&mut host, &packet).is_some());
    }
    assert_eq!(answered, 200);
    assert_eq!(host.events.len(), 200);
    let dropped = host.shards[0].counters().dropped(DropCause::FailureLimit);
    assert_eq!(dropped, 800);
    client.account = alice();
    client.allocate(&mut host);
}

/// AUTH-33: one name is no way round that: what is refused for too many failures counts as one.
#[test]
fn refusals_of_one_name_are_answered_so_often() {
    let mut host = host();
    let mut client = TestClient::udp("192.0.2.1:4000");
    client.challenge(&mut host, Method::Allocate);
    client.account.password = "wrong".into();
    let mut answered = 0;
    for _ in 0..1000 {
        let packet = client.signed(Method::Allocate, |builder| {
            builder.u32(A::REQUESTED_TRANSPORT, UDP);
        });
        answered += usize::from(client.exchange(&mut host, &packet).is_some());
    }
    assert_eq!((answered, host.events.len()), (200, 200));
    assert_eq!(reason(&mut host).0, TOO_MANY);
}

/// AUTH-33: by configuration.
#[test]
fn the_limit_of_failures_is_the_operators() {
    for (per_minute, tries) in [(1, 1), (25, 25)] {
        let mut host = Host::new(Setup {
            limits: Limits {
                failed_authentications_per_minute: per_minute,
                ..Limits::default()
            },
            ..Setup::default()
        });
        let mut client = TestClient::udp("192.0.2.1:4000");
        for _ in 0..tries {
            fail(&mut host, &mut client).error(401);
            assert_eq!(reason(&mut host).0, "wrong password");
        }
        allocate(&mut host, &mut client).error(401);
        assert_eq!(reason(&mut host).0, TOO_MANY);
    }
    let mut host = Host::new(Setup {
        limits: Limits {
            failed_authentications_per_minute: 0,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut client = TestClient::udp("192.0.2.1:4000");
    for _ in 0..1000 {
        fail(&mut host, &mut client).error(401);
    }
    client.allocate(&mut host);
}

/// SEC-18: what anybody can send in anybody's name is reported as such.
#[test]
fn a_forged_source_is_told_from_a_proven_one() {
    let mut host = host();
    let mut client = TestClient::udp("192.0.2.1:4000");
    for (code, packet) in strangers_requests(&mut client) {
        client.exchange(&mut host, &packet).unwrap();
        if !matches!(code, 0 | 401) && packet[..2] != [0, 1] {
            assert!(!reason(&mut host).1, "{code}");
        }
        assert!(host.events.is_empty(), "{code}");
    }
    let mut stream = TestClient::tcp("192.0.2.1:4000");
    let id: TransactionId = stream.id();
    let incomplete = build(Class::Request, Method::Refresh, id, |builder| {
        builder.integrity(stream.scheme.request_integrity(), &[0; 16]);
    });
    assert_eq!(
        stream.exchange(&mut host, &incomplete).unwrap().code(),
        Some(400)
    );
    assert!(reason(&mut host).1);
    fail(&mut host, &mut stream).error(401);
    assert!(reason(&mut host).1);
}
