//! 401: a secret or a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use turnstone::auth::{
    LongTermKey, PasswordAlgorithm, RestUsername, Revocations, RevokedName, rest_password,
};
use turnstone::wire::{AttributeType, Class, ErrorCode, IntegrityAlgorithm, Message, Method};

use super::fake::{FakeServer, allocation, reply};
use super::{assert_fails, codes, json, run, unfolded};
use crate::control::ask;
use crate::harness::{TestServer, unix_s};

const SECRET: &str = "the secret of the server, of many characters";

/// How nonces are made.
#[derive(Clone, Copy)]
enum Nonce {
    /// As coturn does since 4.17.
    WithTime,
    Plain,
}

/// A server whose clock is ahead, that takes time-limited credentials, and how many allocations it
/// has.
fn shifted(ahead_s: i64, kind: Nonce) -> (FakeServer, Arc<AtomicUsize>) {
    let allocations = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&allocations);
    let server = FakeServer::start(move |datagram| {
        let request = Message::parse(datagram).unwrap();
        let now = unix_s().saturating_add_signed(ahead_s);
        let challenge = || {
            let nonce = match kind {
                Nonce::WithTime => format!("{now:08x}0123456789abcdef"),
                Nonce::Plain => "0123456789abcdef".to_owned(),
            };
            super::challenge(&request, ErrorCode::Unauthenticated, &nonce)
        };
        let Some(username) = request.first(AttributeType::USERNAME) else {
            return Some(match request.method() {
                Some(Method::Binding) => reply(&request, Class::Success, |builder| {
                    let mapped_address = "192.0.2.7:4242".parse().unwrap();
                    builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped_address);
                }),
                _ => challenge(),
            });
        };
        let name = std::str::from_utf8(username).unwrap();
        let password = rest_password(SECRET, username);
        let key = LongTermKey::derive(PasswordAlgorithm::Md5, username, "example.org", &password);
        let is_good = RestUsername::parse(name, ':').unwrap().is_valid_at(now)
            && turnstone::wire::verify_integrity(
                &request,
                IntegrityAlgorithm::Sha1,
                key.as_bytes(),
            );
        Some(match request.method() {
            _ if !is_good => challenge(),
            Some(Method::Allocate) => {
                count.fetch_add(1, Ordering::Relaxed);
                allocation(&request, "127.0.0.3:50000", Some(&key))
            }
            _ => {
                count.fetch_sub(1, Ordering::Relaxed);
                reply(&request, Class::Success, |builder| {
                    builder
                        .u32(AttributeType::LIFETIME, 0)
                        .integrity(IntegrityAlgorithm::Sha1, key.as_bytes());
                })
            }
        })
    });
    (server, allocations)
}

fn check_with(server: &FakeServer, credentials: &[&str]) -> super::Report {
    let url = format!("turn:{}?transport=udp", server.address);
    run(&[&[url.as_str(), "--timeout", "5"], credentials].concat())
}

#[test]
fn clock_that_is_ahead_is_read_from_nonces() {
    let (server, allocations) = shifted(7_260, Nonce::WithTime);
    let report = check_with(&server, &["--static-auth-secret", SECRET]);
    let text = unfolded(&report);
    let by = ["by 2 h 1 min", "by 2 h, "];
    assert!(by.iter().any(|by| text.contains(by)), "{text}");
    assert_fails(
        &report,
        &[
            "FAIL allocate",
            "the secret is right, but the server's clock is ahead",
        ],
    );
    assert_eq!(codes(&report), ["error-401"]);
    let ahead_s = json(&report)["transports"][0]["clock_ahead_s"]
        .as_i64()
        .unwrap();
    assert!((7_255..=7_262).contains(&ahead_s), "{ahead_s}");
    assert_eq!(allocations.load(Ordering::Relaxed), 0);
}

#[test]
fn clock_that_is_ahead_is_bracketed_by_credentials() {
    let (server, allocations) = shifted(7_200, Nonce::Plain);
    let report = check_with(&server, &["--static-auth-secret", SECRET]);
    // Of the ten years that are halved again and again, in their logarithm.
    assert_fails(
        &report,
        &[
            "ok expiry",
            "the secret is right, but the server's clock is ahead of this machine's by between 1 h \
             58 min and 2 h 25 min",
        ],
    );
    let json = json(&report);
    assert!(json["transports"][0]["clock_ahead_s"].is_null());
    let bounds = &json["transports"][0]["clock_ahead_between_s"];
    let [least, most] = [0, 1].map(|i| bounds[i].as_u64().unwrap());
    assert!((least..=most).contains(&7_200), "{bounds}");
    assert_eq!(allocations.load(Ordering::Relaxed), 0);
}

#[test]
fn wrong_secret_is_not_blamed_on_the_clock() {
    let wrong = ["--static-auth-secret", "pw of another server"];
    let (server, _) = shifted(0, Nonce::WithTime);
    let report = check_with(&server, &wrong);
    assert_fails(
        &report,
        &[
            "wrong secret",
            "it is not the clock: the server's agrees with this machine's",
        ],
    );
    assert!(!unfolded(&report).contains("expiry"), "{report}");

    let (server, _) = shifted(0, Nonce::Plain);
    let words = "it is not the clock: a credential good for 3650 d is refused, too";
    assert_fails(&check_with(&server, &wrong), &["wrong secret", words]);

    // Both are wrong.
    let (server, _) = shifted(7_200, Nonce::WithTime);
    let words = "it is not the clock: a credential good for 2 h ";
    assert_fails(
        &check_with(&server, &wrong),
        &["wrong secret", "warn clock", words],
    );
}

#[test]
fn credential_that_somebody_made_has_its_end_told() {
    let credentials = |expiry: u64| [format!("{expiry}:carol"), "pw".to_owned()];
    let check_as = |server: &FakeServer, [user, password]: [String; 2]| {
        check_with(server, &["--user", &user, "--password", &password])
    };
    let now = unix_s();
    let (server, _) = shifted(7_200, Nonce::WithTime);
    let expired = check_as(&server, credentials(now - 7_200));
    assert_fails(&expired, &["the credential expired 2 h"]);
    let early = check_as(&server, credentials(now + 3_600));
    assert_fails(
        &early,
        &["the credential has expired by the server's clock, which is "],
    );
    let good = check_as(&server, credentials(now + 86_400));
    let clock = "it is not the clock: the server's is 2 h";
    assert_fails(&good, &["wrong password for this user name", clock]);
    let (server, _) = shifted(0, Nonce::Plain);
    let good = check_as(&server, credentials(now + 86_400));
    assert_fails(
        &good,
        &["or the server's clock differs: the credential expires at"],
    );
}

#[test]
fn turnstone_says_as_much_as_any_server() {
    let server = TestServer::with(|setup| setup.secrets.push(SECRET.to_owned()));
    let url = format!("turn:{}?transport=udp", server.udp());
    let report = run(&[&url, "--static-auth-secret", "pw of another server"]);
    let clock = "it is not the clock: the server's agrees with this machine's";
    assert_fails(&report, &["wrong secret", clock]);
    let report = run(&[&url, "--user", "alice", "--password", "pw"]);
    assert_fails(&report, &["wrong user or password"]);
}

/// A server that revokes says 401, and one that is drained 403, as for other causes.
#[test]
fn revocation_and_drain_are_among_the_causes() {
    let server = TestServer::with(|setup| setup.secrets.push(SECRET.to_owned()));
    let url = format!("turn:{}?transport=udp", server.udp());
    let name = format!("{}:carol", unix_s() + 3600);
    let password = rest_password(SECRET, name.as_bytes());
    let check_as = |user: &str, password: &str| {
        run(&[
            &url,
            "--user",
            user,
            "--password",
            password,
            "--seconds",
            "1",
        ])
    };
    let report = check_as(&name, &password);
    assert!(report.works(), "{report}");

    let mut revocations = Revocations::default();
    for name in [RevokedName::Username(&name), RevokedName::User("alice")] {
        revocations.insert(name, Some(unix_s() + 7200)).unwrap();
    }
    let control = server.engine.control();
    ask(control.revoke(&Arc::new(revocations))).unwrap();
    let revoked = "revoked (turnstone revoke --list on the server)";
    let report = check_as(&name, &password);
    assert_fails(
        &report,
        &[revoked, "it is not the clock: the server's agrees"],
    );
    assert!(!unfolded(&report).contains("clock differs"), "{report}");
    assert_fails(
        &check_as("alice", "wonderland"),
        &["wrong user or password", revoked],
    );

    ask(control.revoke(&Arc::default())).unwrap();
    ask(control.drain(true)).unwrap();
    let drained = "the server is being drained and makes no new allocations (turnstone drain,";
    assert_fails(&check_as(&name, &password), &["FAIL allocate", drained]);
}

#[test]
fn realm_that_changes_is_told() {
    let server = super::challenging(|request| {
        Some(reply(request, Class::Error, |builder| {
            builder
                .error_code(ErrorCode::Unauthenticated, "")
                .attribute(AttributeType::REALM, b"other.example")
                .attribute(AttributeType::NONCE, b"second");
        }))
    });
    let report = super::check_udp(server.address);
    assert_fails(
        &report,
        &["FAIL allocate", "another realm, \"other.example\""],
    );
}

#[test]
fn right_secret_is_right_after_many_wrong_ones() {
    let server = TestServer::with(|setup| {
        setup.secrets.push(SECRET.to_owned());
        setup.limits.failed_authentications_per_minute = 2;
    });
    let url = format!("turn:{}?transport=udp", server.udp());
    let check_by = |secret| run(&[&url, "--static-auth-secret", secret, "--seconds", "1"]);
    for _ in 0..4 {
        assert_fails(&check_by("pw of another server"), &["wrong secret"]);
    }
    let report = check_by(SECRET);
    assert!(report.works(), "{report}");
}
