//! Long-term and time-limited credentials (RFC 8489 §9.2, draft-uberti-behave-turn-rest).

use secrecy::SecretString;
use turnstone::auth::{Credentials, LongTermKey, PasswordAlgorithm, rest_password, userhash};
use turnstone::turn::Limits;
use turnstone::wire::{AttributeType as A, IntegrityAlgorithm, MessageBuilder, Method};

use crate::client::TestClient;
use crate::host::{Host, SECRETS, Setup, UNIX_ORIGIN_S, address, alice, bob};
use crate::message::{Account, REALM, Scheme, UDP, sign};

const METHODS: [Method; 4] = [
    Method::Allocate,
    Method::Refresh,
    Method::CreatePermission,
    Method::ChannelBind,
];

/// AUTH-24, AUTH-26, REST-01, REST-08: keys, USERHASH and passwords of the vectors.
#[test]
fn keys_of_the_vectors() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../data/vectors.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let key = |algorithm, user: &str, realm: &str, password: &str| {
        hex(LongTermKey::derive(algorithm, user.as_bytes(), realm, password).as_bytes())
    };
    let (md5, sha256) = (PasswordAlgorithm::Md5, PasswordAlgorithm::Sha256);
    for row in vectors["keys"].as_array().unwrap() {
        let [user, realm, password] = ["username", "realm", "password"].map(|it| text(&row[it]));
        assert_eq!(key(md5, &user, &realm, &password), text(&row["md5"]));
        assert_eq!(key(sha256, &user, &realm, &password), text(&row["sha256"]));
        assert_eq!(hex(&userhash(&user, &realm)), text(&row["userhash"]));
    }
    for row in vectors["rest"].as_array().unwrap() {
        let [secret, user, realm] = ["secret", "username", "realm"].map(|it| text(&row[it]));
        let password = rest_password(&secret, user.as_bytes());
        assert_eq!(*password, text(&row["password_sha1"]));
        assert_eq!(key(md5, &user, &realm, &password), text(&row["md5key"]));
        assert_eq!(
            key(sha256, &user, &realm, &password),
            text(&row["sha256key"])
        );
    }
}

/// AUTH-02, AUTH-03: without credentials there is a challenge, whatever the five-tuple has.
#[test]
fn challenge_comes_before_everything() {
    let mut host = Host::new(Setup {
        software: Some("turnstone"),
        ..Setup::default()
    });
    for method in METHODS {
        let mut client = TestClient::udp("198.51.100.1:4000");
        let reply = client.challenge(&mut host, method);
        assert!(!reply.message().has_integrity());
        assert_eq!(
            reply.attribute(A::PASSWORD_ALGORITHMS).unwrap(),
            [0, 2, 0, 0, 0, 1, 0, 0]
        );
        for absent in [A::USERNAME, A::USERHASH, A::SOFTWARE] {
            assert_eq!(reply.attribute(absent), None, "{absent:?}, MSG-22");
        }
        if method != Method::Allocate {
            client.request(&mut host, method, |_| {}).error(437);
        }
    }
}

/// AUTH-04
#[test]
fn what_is_missing_is_a_bad_request_without_integrity() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let nonce = client.nonce.clone().unwrap();
    let key = alice().key(PasswordAlgorithm::Md5);
    let complete: [(A, &[u8]); 3] = [
        (A::USERNAME, b"alice"),
        (A::REALM, REALM.as_bytes()),
        (A::NONCE, &nonce),
    ];
    for missing in complete {
        for method in METHODS {
            let packet = client.bare(method, |builder| {
                for (attribute, value) in complete {
                    if attribute != missing.0 {
                        builder.attribute(attribute, value);
                    }
                }
                builder.integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
            });
            let reply = client.exchange(&mut host, &packet).unwrap();
            assert_eq!(reply.code(), Some(400), "without {:?}", missing.0);
            let alone = reply.message().attributes().count();
            assert_eq!((alone, reply.message().has_integrity()), (1, false));
        }
    }
}

/// AUTH-05, AUTH-06, AUTH-07, AUTH-23: nothing in the answer tells which of them it was.
#[test]
fn wrong_credentials_are_challenged_again() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let mut lengths = Vec::new();
    let future = format!("{}:alice", UNIX_ORIGIN_S + 10_000_000);
    for account in [
        Account::new("alice", "looking-glass"),
        Account::new("nobody", "wonderland"),
        Account::new("\u{0}\u{1}", ""),
        Account::new(&"x".repeat(763), "x"),
        Account::new(&"x".repeat(764), "x"),
        Account::rest("no secret of ours", &future),
    ] {
        client.account = account;
        for method in METHODS {
            let answer = client.request(&mut host, method, |builder| {
                builder.u32(A::REQUESTED_TRANSPORT, UDP);
            });
            lengths.push(answer.error(401).bytes.len());
        }
    }
    lengths.dedup();
    assert_eq!(lengths.len(), 1, "equal in length: {lengths:?}");

    let other_realm = LongTermKey::derive(PasswordAlgorithm::Md5, b"alice", "other", "wonderland");
    let nonce = client.nonce.clone().unwrap();
    let packet = client.bare(Method::Allocate, |builder| {
        builder
            .attribute(A::USERNAME, b"alice")
            .attribute(A::REALM, b"other")
            .attribute(A::NONCE, &nonce)
            .integrity(IntegrityAlgorithm::Sha1, other_realm.as_bytes());
    });
    client.repeat(&mut host, &packet).error(401);
    assert_eq!(host.shards[0].allocations(), 0);
}

/// AUTH-06, AUTH-20: one flipped bit of the value is enough.
#[test]
fn every_bit_of_the_integrity_counts() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let packet = client.signed(Method::Refresh, |_| {});
    client.repeat(&mut host, &packet).error(437);
    let value = packet.len() - 20;
    for bit in 0..160 {
        let mut packet = packet.clone();
        packet[value + bit / 8] ^= 1 << (bit % 8);
        client.repeat(&mut host, &packet).error(401);
    }
}

/// AUTH-08, AUTH-12, REFR-07: a nonce is good for its whole life, and a 438 ends nothing.
#[test]
fn stale_nonce_is_replaced_and_the_allocation_lives() {
    let mut host = Host::new(Setup {
        nonce_lifetime_s: 60,
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    for _ in 0..20 {
        host.advance_s(3);
        client.permit(&mut host, &[peer]).success();
    }
    let mut stale = client.nonce.clone();
    for method in [
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        host.advance_s(61);
        client.nonce = stale.clone();
        let reply = client.request(&mut host, method, |_| {}).error(438);
        assert!(reply.attribute(A::PASSWORD_ALGORITHMS).is_some());
        client.learn(&reply);
        assert_ne!(client.nonce, stale);
        stale = client.nonce.clone();
        client.refresh(&mut host, 600).success();
    }
    assert_eq!(host.shards[0].allocations(), 1);
}

/// AUTH-09: integrity is checked before the nonce's age; a nonce of nobody's before both.
#[test]
fn wrong_password_with_a_stale_nonce_is_a_401() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    host.advance_s(601);
    client.account.password.push('!');
    client.allocate_with(&mut host, |_| {}).error(401);
    client.account = alice();
    client.allocate_with(&mut host, |_| {}).error(438);
    client.nonce = Some(b"f//499k954d6OL34oL9FSTvy64sA".to_vec());
    client.account.password.push('!');
    client.allocate_with(&mut host, |_| {}).error(438);
}

/// AUTH-10: another port is another client, and its nonce another nonce.
#[test]
fn a_nonce_belongs_to_one_address_and_port() {
    let mut host = Host::new(Setup::default());
    let mut one = TestClient::udp("198.51.100.1:4000");
    one.challenge(&mut host, Method::Allocate);
    for other in ["198.51.100.1:4001", "198.51.100.2:4000"] {
        let mut other = TestClient::udp(other);
        other.challenge(&mut host, Method::Allocate);
        assert_ne!(one.nonce, other.nonce);
        other.nonce = one.nonce.clone();
        let reply = other.allocate_with(&mut host, |_| {}).error(438);
        other.learn(&reply);
        other.allocate(&mut host);
    }
}

/// AUTH-22: another user's requests change nothing.
#[test]
fn an_allocation_obeys_the_user_who_made_it() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    client.account = bob();
    client.refresh(&mut host, 0).error(441);
    client.permit(&mut host, &[peer]).error(441);
    client.bind(&mut host, 0x4000, peer).error(441);
    client.allocate_with(&mut host, |_| {}).error(437);
    client.account = alice();
    assert_eq!(client.send(&mut host, peer, b"x"), None);
    client.refresh(&mut host, 600).success();
}

/// AUTH-28: indications are not authenticated, and what looks like it is ignored.
#[test]
fn integrity_of_an_indication_is_not_looked_at() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.allocate(&mut host);
    let peer = address("9.9.9.1:5000");
    client.permit(&mut host, &[peer]).success();
    let mut packet = crate::message::send_indication(client.id(), peer, b"data");
    packet.extend([0, 8, 0, 20]);
    packet.extend([0xEE; 20]);
    packet[3] += 24;
    assert_eq!(client.data(&mut host, &packet).unwrap().data, b"data");
}

/// AUTH-29: ORIGIN, like all that is unknown and optional, changes nothing.
#[test]
fn origin_changes_nothing() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    let answer = client.allocate_with(&mut host, |builder| {
        builder.attribute(A(0x802F), b"https://example.com");
    });
    answer.success();
}

/// AUTH-15, AUTH-16: stored MD5 keys cannot make SHA-256 ones, so neither is offered, and what a
/// client says about algorithms is ignored.
#[test]
fn a_realm_with_stored_keys_offers_md5_only() {
    let mut credentials = Credentials::new(REALM, ':').unwrap();
    let LongTermKey::Md5(key) = alice().key(PasswordAlgorithm::Md5) else {
        panic!("an MD5 key");
    };
    credentials.add_user_key("alice", key).unwrap();
    credentials
        .add_user("bob", &SecretString::from("builder"))
        .unwrap();
    let mut host = Host::with_credentials(Setup::default(), credentials);
    let mut client = TestClient::udp("198.51.100.1:4000");
    let reply = client.challenge(&mut host, Method::Allocate);
    assert_eq!(reply.attribute(A::PASSWORD_ALGORITHMS), None);
    assert!(client.nonce.as_ref().unwrap().starts_with(b"obMatJos2QAAA"));
    client.allocate(&mut host);
    let answer = client.request(&mut host, Method::Refresh, |builder| {
        builder.u32(A::PASSWORD_ALGORITHM, 2 << 16);
    });
    answer.success();
}

fn with_userhash(client: &mut TestClient, hash: &[u8]) -> Vec<u8> {
    let nonce = client.nonce.clone().unwrap();
    let key = client.account.key(client.scheme.password());
    client.bare(Method::Allocate, |builder: &mut MessageBuilder<'_>| {
        builder
            .u32(A::REQUESTED_TRANSPORT, UDP)
            .attribute(A::USERHASH, hash)
            .attribute(A::REALM, REALM.as_bytes())
            .attribute(A::NONCE, &nonce)
            .attribute(A::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0])
            .u32(A::PASSWORD_ALGORITHM, 2 << 16)
            .integrity(IntegrityAlgorithm::Sha256, key.as_bytes());
    })
}

/// AUTH-26, and vector B04: USERHASH where every name is known, and nowhere else.
#[test]
fn userhash_names_a_static_user() {
    let mut credentials = Credentials::new(REALM, ':').unwrap();
    credentials
        .add_user("alice", &SecretString::from("wonderland"))
        .unwrap();
    let mut host = Host::with_credentials(Setup::default(), credentials);
    let mut client = TestClient::udp("198.51.100.1:4000").with(Scheme::Sha256);
    client.challenge(&mut host, Method::Allocate);
    assert!(client.nonce.as_ref().unwrap().starts_with(b"obMatJos2wAAA"));
    let hash = userhash("alice", REALM);
    for len in [31, 33] {
        let mut wrong = hash.to_vec();
        wrong.resize(len, 0);
        let packet = with_userhash(&mut client, &wrong);
        let reply = client.exchange(&mut host, &packet).unwrap();
        assert_eq!(reply.code(), Some(400), "{len} bytes");
    }
    let packet = with_userhash(&mut client, &userhash("carol", REALM));
    client.repeat(&mut host, &packet).error(401);
    let packet = with_userhash(&mut client, &hash);
    client.repeat(&mut host, &packet).success();
    assert_eq!(host.shared.quota.of_user("alice"), 1);
    client.refresh(&mut host, 600).success();

    // A server that also has shared secrets cannot know every name.
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000").with(Scheme::Sha256);
    client.challenge(&mut host, Method::Allocate);
    let packet = with_userhash(&mut client, &hash);
    client.repeat(&mut host, &packet).error(401);
}

/// REST-03, REST-04: the credential's end matters to Allocate only, to the second.
#[test]
fn a_time_limited_credential_ends_no_allocation() {
    let mut host = Host::new(Setup {
        start_ms: 0,
        ..Setup::default()
    });
    let expiry = UNIX_ORIGIN_S + 100;
    let account = Account::rest(SECRETS[0], &format!("{expiry}:carol"));
    let mut early = TestClient::udp("198.51.100.1:4000").by(account.clone());
    host.advance_s(99);
    early.allocate(&mut host);
    let mut last = TestClient::udp("198.51.100.1:4001").by(account.clone());
    host.advance_ms(1999);
    last.allocate(&mut host);
    let mut late = TestClient::udp("198.51.100.1:4002").by(account);
    host.advance_ms(1);
    late.allocate_with(&mut host, |_| {}).error(401);
    late.request(&mut host, Method::Refresh, |_| {}).error(437);

    for _ in 0..5 {
        host.advance_s(500);
        if let Some(438) = early.refresh(&mut host, 600).0.code() {
            early.nonce = None;
        }
        early.refresh(&mut host, 600).success();
    }
    early.permit(&mut host, &[address("9.9.9.1:1")]).success();
    early.refresh(&mut host, 0).success();
    early.allocate_with(&mut host, |_| {}).error(401);
}

/// REST-02, REST-05, REST-07, REST-09: every form of the name, both secrets, and static users
/// beside them.
#[test]
fn time_limited_and_static_users_side_by_side() {
    let mut host = Host::new(Setup::default());
    let expiry = UNIX_ORIGIN_S + 10_000_000;
    let mut port = 4000;
    let mut client = |account: Account, scheme| {
        port += 1;
        let from = format!("198.51.100.1:{port}");
        TestClient::udp(&from).by(account).with(scheme)
    };
    for secret in SECRETS {
        for name in [
            format!("{expiry}:carol"),
            format!("carol:{expiry}"),
            format!("{expiry}"),
            format!("{expiry}:ca:rol"),
        ] {
            for scheme in [Scheme::Old, Scheme::Sha256] {
                client(Account::rest(secret, &name), scheme).allocate(&mut host);
            }
        }
    }
    client(alice(), Scheme::Old).allocate(&mut host);
    for name in [
        "99999999999999999999:x",
        "-1:x",
        " 1:x",
        "1e9:x",
        "0:alice",
        "abc",
    ] {
        let mut client = client(Account::rest(SECRETS[0], name), Scheme::Old);
        client.allocate_with(&mut host, |_| {}).error(401);
    }
}

/// REST-06, ALLOC-21: the changing part of the name makes nobody another user.
#[test]
fn quota_counts_the_user_behind_the_timestamp() {
    let mut host = Host::new(Setup {
        limits: Limits {
            allocations_per_user: 2,
            ..Limits::default()
        },
        ..Setup::default()
    });
    for n in 0..3 {
        let name = format!("{}:carol", UNIX_ORIGIN_S + 10_000_000 + n);
        let mut client = TestClient::udp(&format!("198.51.100.{n}:4000"));
        client.account = Account::rest(SECRETS[0], &name);
        let answer = client.allocate_with(&mut host, |_| {});
        if n < 2 {
            answer.success();
        } else {
            answer.error(486);
        }
    }
    assert_eq!(host.shared.quota.of_user("carol"), 2);
}

/// AUTH-13: any server with the key takes the nonce; nothing is remembered.
#[test]
fn a_restart_with_the_same_key_keeps_nonces_good() {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let mut restarted = Host::new(Setup::default());
    client.allocate(&mut restarted);
    let mut stranger = Host::new(Setup {
        seed: 2,
        ..Setup::default()
    });
    client.allocate_with(&mut stranger, |_| {}).error(438);
}

/// AUTH-19: all the schemes work for all methods, each with its own integrity in replies.
#[test]
fn every_scheme_through_a_whole_life() {
    use Scheme::{Md5Sha1, Md5Sha256, Old, Sha256};
    let mut host = Host::new(Setup::default());
    let peer = address("9.9.9.1:5000");
    for (port, scheme) in [Old, Md5Sha1, Md5Sha256, Sha256].into_iter().enumerate() {
        let mut client = TestClient::udp(&format!("198.51.100.1:{}", 4000 + port)).with(scheme);
        client.allocate(&mut host);
        client.permit(&mut host, &[peer]).success();
        client.bind(&mut host, 0x4000, peer).success();
        client.bind(&mut host, 0x4001, peer).error(400);
        // A client may change its mind: the key is made anew.
        client.scheme = if scheme == Old { Sha256 } else { Old };
        client.refresh(&mut host, 600).success();
        client.scheme = scheme;
        client.refresh(&mut host, 0).success();
    }
}

/// AUTH-25
#[test]
fn the_longest_name_works() {
    let name = "n".repeat(508);
    let account = Account::new(&name, "secret");
    let mut credentials = Credentials::new(REALM, ':').unwrap();
    credentials
        .add_user(&name, &SecretString::from("secret"))
        .unwrap();
    let mut host = Host::with_credentials(Setup::default(), credentials);
    let mut client = TestClient::udp("198.51.100.1:4000").by(account);
    client.allocate(&mut host);
    let nonce = client.nonce.clone().unwrap();
    let packet = client.bare(Method::Refresh, |builder| {
        sign(builder, &Account::new("n", "secret"), &nonce, Scheme::Old);
    });
    assert_eq!(
        client.exchange(&mut host, &packet).unwrap().code(),
        Some(401)
    );
}
