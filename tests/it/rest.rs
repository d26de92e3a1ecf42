//! Time-limited credentials (draft-uberti-behave-turn-rest-00).

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Setup, TestServer, eventually, method, unix_s};

/// The password, made as the draft says.
fn password(secret: &str, username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(username.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

fn client(server: &TestServer, secret: &str, username: &str) -> Client {
    Client::udp(server).with_user(username, &password(secret, username))
}

fn two_secrets(setup: &mut Setup) {
    setup.secrets = vec!["north".to_owned(), "ключ-🔑".to_owned()];
}

/// What an Allocate request gets.
fn verdict(client: &mut Client) -> u16 {
    let packet = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let signed = client.signed(packet);
    client.exchange(&signed).code()
}

/// REST-01, REST-02, REST-05: every form of name, on either secret.
#[test]
fn names_with_a_time_are_good_until_then() {
    let server = TestServer::with(two_secrets);
    let later = unix_s() + 600;
    for secret in ["north", "ключ-🔑"] {
        for name in [
            format!("{later}:alice"),
            format!("{later}"),
            format!("{later}:"),
            format!("alice:{later}"),
            format!("{later}:al:ice"),
            format!("{later}:zoë"),
        ] {
            assert_eq!(verdict(&mut client(&server, secret, &name)), 0, "{name}");
        }
    }
    let name = format!("{later}:alice");
    assert_eq!(verdict(&mut client(&server, "south", &name)), 401);
    let mut other = client(&server, "north", &name);
    other.user = format!("{}:alice", later + 1);
    assert_eq!(verdict(&mut other), 401, "a longer life");
}

/// REST-03
#[test]
fn an_expired_name_is_refused() {
    let server = TestServer::with(two_secrets);
    for expiry in [0, 1, unix_s() - 3600, unix_s() - 2] {
        let name = format!("{expiry}:alice");
        assert_eq!(verdict(&mut client(&server, "north", &name)), 401, "{name}");
    }
}

/// REST-04: an allocation outlives the credential that made it.
#[test]
fn expiry_ends_no_allocation() {
    let server = TestServer::with(two_secrets);
    let name = format!("{}:alice", unix_s() + 1);
    let mut client = client(&server, "north", &name);
    assert_eq!(verdict(&mut client), 0);
    eventually("the credential's expiry", || {
        let mut late = self::client(&server, "north", &name);
        verdict(&mut late) == 401
    });
    client.assert_alive();
    client.permit("127.0.0.1:9".parse().unwrap());
    client.bind(0x4000, "127.0.0.1:9".parse().unwrap());
    client.delete();
    assert_eq!(
        verdict(&mut client),
        401,
        "no new one on the same five-tuple"
    );
}

/// REST-06
#[test]
fn the_quota_is_the_users_not_the_names() {
    let server = TestServer::with(|setup| {
        two_secrets(setup);
        setup.limits.allocations_per_user = 2;
    });
    let now = unix_s();
    let mut first = client(&server, "north", &format!("{}:alice", now + 600));
    assert_eq!(verdict(&mut first), 0);
    let mut second = client(&server, "north", &format!("{}:alice", now + 601));
    assert_eq!(verdict(&mut second), 0);
    assert_eq!(
        verdict(&mut client(
            &server,
            "north",
            &format!("{}:alice", now + 602)
        )),
        486
    );
    assert_eq!(
        verdict(&mut client(&server, "north", &format!("{}:bob", now + 602))),
        0
    );
    first.delete();
    assert_eq!(
        verdict(&mut client(
            &server,
            "north",
            &format!("{}:alice", now + 603)
        )),
        0
    );
}

/// REST-07
#[test]
fn what_is_no_time_names_nobody() {
    let server = TestServer::with(two_secrets);
    for name in [
        "99999999999999999999:alice",
        "18446744073709551615:alice",
        "-1:alice",
        " 9999999999:alice",
        "1e9:alice",
        "+9999999999:alice",
        "0x7fffffff:alice",
        "alice",
        "",
        ":",
    ] {
        assert_eq!(
            verdict(&mut client(&server, "north", name)),
            401,
            "{name:?}"
        );
    }
}

/// REST-08: SHA-256 keys work with secrets. Hashed names cannot, and are not offered (AUTH-26).
#[test]
fn sha256_keys_of_time_limited_passwords() {
    let server = TestServer::with(two_secrets);
    let name = format!("{}:alice", unix_s() + 600);
    let mut client = client(&server, "north", &name);
    client.challenge();
    let key = client.sha256_key();
    let packet = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let request = client
        .named(packet)
        .attr(a::PASSWORD_ALGORITHMS, &[0, 2, 0, 0, 0, 1, 0, 0])
        .attr(a::PASSWORD_ALGORITHM, &[0, 2, 0, 0])
        .sha256(&key, 32);
    let reply = client.exchange(&request);
    assert_eq!(reply.code(), 0);
    assert!(reply.is_sha256_signed(&key));
}

/// REST-09
#[test]
fn static_users_beside_secrets() {
    let looks_like_one = format!("{}:carol", unix_s() + 600);
    let server = TestServer::with(|setup| {
        two_secrets(setup);
        setup.user(&looks_like_one, "a password");
    });
    assert_eq!(verdict(&mut Client::udp(&server)), 0);
    assert_eq!(
        verdict(&mut client(
            &server,
            "north",
            &format!("{}:x", unix_s() + 60)
        )),
        0
    );
    let mut carol = Client::udp(&server).with_user(&looks_like_one, "a password");
    assert_eq!(verdict(&mut carol), 0, "a static name comes first");
}
