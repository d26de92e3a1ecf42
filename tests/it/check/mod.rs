//! `turnstone check` against servers sound and broken: what it makes of them.
#![allow(
    clippy::unwrap_used,
    reason = "scripts are tests, though not marked as such"
)]

mod fake;
mod login;
mod refusals;
mod relay;
mod sound;
mod tls;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use serde_json::Value;
use turnstone::cli::check::{CheckArgs, Report, check};
use turnstone::wire::{
    AttributeType, Class, ErrorCode, IntegrityAlgorithm, Message, Method, verify_integrity,
};

use fake::{FakeServer, allocation, challenge, challenging, key, refusal, reply};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: CheckArgs,
}

fn run(args: &[&str]) -> Report {
    let command_line = ["check"].iter().chain(args);
    check(&Cli::try_parse_from(command_line).unwrap().args).unwrap()
}

/// Checks a server over UDP as alice.
fn check_udp(server: SocketAddr) -> Report {
    let url = format!("turn:{server}?transport=udp");
    run(&[
        &url,
        "--user",
        "alice",
        "--password",
        "pw",
        "--timeout",
        "5",
        "--seconds",
        "1",
    ])
}

/// The table with its lines unfolded and its columns closed up.
fn unfolded(report: &Report) -> String {
    Vec::from_iter(report.to_string().split_whitespace()).join(" ")
}

fn json(report: &Report) -> Value {
    serde_json::from_str(&report.to_json()).unwrap()
}

/// The codes of what is wrong with the only transport.
fn codes(report: &Report) -> Vec<String> {
    let json = json(report);
    let causes = json["transports"][0]["causes"].as_array().unwrap();
    let codes = causes.iter().map(|cause| cause["code"].as_str().unwrap());
    codes.map(str::to_owned).collect()
}

#[track_caller]
fn assert_fails(report: &Report, lines: &[&str]) {
    let (text, flat) = (report.to_string(), unfolded(report));
    assert!(!report.works(), "{text}");
    for line in lines {
        let line = Vec::from_iter(line.split_whitespace()).join(" ");
        assert!(flat.contains(&line), "{line:?} is not in\n{text}");
    }
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "too long: {line:?}");
    }
    assert!(!text.contains("pw"), "the password is in\n{text}");
}

#[test]
fn stun_url_takes_binding_alone() {
    let server = challenging(|_| None);
    let report = run(&[&format!("stun:{}?transport=udp", server.address)]);
    let text = report.to_string();
    assert!(report.works(), "{text}");
    assert!(text.contains("mapped address 192.0.2.7:4242"), "{text}");
    assert!(!text.contains("challenge"), "{text}");
}

#[test]
fn unsigned_success_is_a_failure() {
    let server = challenging(|request| Some(allocation(request, "127.0.0.1:50000", None)));
    let report = check_udp(server.address);
    assert_fails(
        &report,
        &[
            "ok    challenge",
            "FAIL  allocate",
            "the reply to Allocate has no MESSAGE-INTEGRITY",
            "anybody could have sent it",
            "FAIL: fails over UDP",
        ],
    );
}

#[test]
fn wrongly_signed_success_is_a_failure() {
    let other = key("other");
    let server =
        challenging(move |request| Some(allocation(request, "127.0.0.1:50000", Some(&other))));
    let report = check_udp(server.address);
    assert_fails(
        &report,
        &[
            "FAIL  allocate",
            "a wrong MESSAGE-INTEGRITY",
            "another password",
        ],
    );
}

#[test]
fn second_401_means_wrong_credentials() {
    let server =
        challenging(|request| Some(challenge(request, ErrorCode::Unauthenticated, "second")));
    assert_fails(
        &check_udp(server.address),
        &["401 Unauthenticated", "wrong user or password"],
    );
    let url = format!("turn:{}?transport=udp", server.address);
    let report = run(&[&url, "--static-auth-secret", "pw-of-all"]);
    assert_fails(&report, &["wrong secret, or the server takes no secrets"]);
}

#[test]
fn stale_nonce_is_replaced_once() {
    let server = challenging(|request| {
        assert!(verify_integrity(
            request,
            IntegrityAlgorithm::Sha1,
            key("pw").as_bytes()
        ));
        let fresh = request.first(AttributeType::NONCE) == Some(b"fresh");
        Some(if fresh {
            refusal(request, ErrorCode::AllocationQuotaReached)
        } else {
            challenge(request, ErrorCode::StaleNonce, "fresh")
        })
    });
    assert_fails(
        &check_udp(server.address),
        &[
            "FAIL  allocate",
            "486",
            "as many allocations as the server permits",
        ],
    );

    let server = challenging(|request| Some(challenge(request, ErrorCode::StaleNonce, "newer")));
    assert_fails(
        &check_udp(server.address),
        &["438 Stale Nonce", "its own fresh nonce stale"],
    );
}

#[test]
fn refused_peer_is_explained_and_allocations_are_deleted() {
    let deleted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&deleted);
    let server = challenging(move |request| {
        Some(match request.method() {
            Some(Method::Allocate) => allocation(request, "127.0.0.1:50000", Some(&key("pw"))),
            Some(Method::Refresh) => {
                let lifetime = request.first(AttributeType::LIFETIME);
                seen.store(lifetime == Some(&[0; 4]), Ordering::Relaxed);
                reply(request, Class::Success, |builder| {
                    builder
                        .u32(AttributeType::LIFETIME, 0)
                        .integrity(IntegrityAlgorithm::Sha1, key("pw").as_bytes());
                })
            }
            _ => refusal(request, ErrorCode::Forbidden),
        })
    });
    assert_fails(
        &check_udp(server.address),
        &[
            "FAIL  permission",
            "403",
            "refuses its own relayed address as a peer",
            "ok    refresh",
        ],
    );
    assert!(deleted.load(Ordering::Relaxed));
}

#[test]
fn open_relay_is_a_failure() {
    let server = FakeServer::start(|datagram| {
        let request = Message::parse(datagram).unwrap();
        Some(allocation(&request, "127.0.0.1:50000", None))
    });
    assert_fails(
        &check_udp(server.address),
        &["FAIL  challenge", "an open relay"],
    );
}

#[test]
fn challenge_without_a_nonce_is_named() {
    let server = FakeServer::start(|datagram| {
        let request = Message::parse(datagram).unwrap();
        Some(reply(&request, Class::Error, |builder| {
            builder
                .error_code(ErrorCode::Unauthenticated, "")
                .attribute(AttributeType::REALM, b"example.org");
        }))
    });
    assert_fails(
        &check_udp(server.address),
        &[
            "FAIL  challenge",
            "the reply to Allocate has no valid NONCE",
        ],
    );
}

#[test]
fn garbage_is_not_taken_for_silence() {
    let server = FakeServer::start(|_| Some(b"\x01garbage\x1b[31m".to_vec()));
    let report = check_udp(server.address);
    assert_fails(&report, &["the answer is not STUN", "wrong port?"]);
    assert!(!report.to_string().contains('\x1b'));
}

#[test]
fn silence_is_told_in_words() {
    let server = FakeServer::start(|_| None);
    let url = format!("turn:{}?transport=udp", server.address);
    let report = run(&[&url, "--user", "a", "--password", "b", "--timeout", "1"]);
    assert_fails(
        &report,
        &[
            "no answer over UDP within ",
            " s: firewall, wrong port, or no server",
        ],
    );
}

#[test]
fn request_is_repeated_until_the_answer_comes() {
    let mut requests = 0;
    let server = FakeServer::start(move |datagram| {
        requests += 1;
        let request = Message::parse(datagram).unwrap();
        (requests == 3).then(|| {
            reply(&request, Class::Success, |builder| {
                let mapped_address = "192.0.2.7:4242".parse().unwrap();
                builder.xor_address(AttributeType::XOR_MAPPED_ADDRESS, mapped_address);
            })
        })
    });
    let report = run(&[&format!("stun:{}?transport=udp", server.address)]);
    assert!(report.works(), "{report}");
}

#[test]
fn refused_and_silent_tcp_are_told_apart() {
    let args = ["--user", "a", "--password", "b", "--timeout", "1"];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("turn:{}?transport=tcp", listener.local_addr().unwrap());
    let report = run(&[&[url.as_str()], &args[..]].concat());
    assert_fails(&report, &["connected over TCP, but no answer within "]);

    drop(listener);
    let report = run(&[&[url.as_str()], &args[..]].concat());
    assert_fails(&report, &["connection refused", "nothing listens on port"]);
}

#[test]
fn unusable_command_lines_are_refused_before_anything_is_sent() {
    let usage_error = |args: &[&str]| {
        let command_line = ["check"].iter().chain(args);
        let args = Cli::try_parse_from(command_line).unwrap().args;
        check(&args).unwrap_err().to_string()
    };
    assert!(usage_error(&["turns:a.example?transport=udp"]).contains("DTLS"));
    assert!(usage_error(&["turn:127.0.0.1"]).contains("give --user and --password"));
    let missing = [
        "127.0.0.1",
        "--static-auth-secret-file",
        "/nonexistent/secret",
    ];
    assert!(usage_error(&missing).contains("/nonexistent/secret"));

    let both = [
        "check",
        "a",
        "--user",
        "u",
        "--password",
        "p",
        "--static-auth-secret",
        "s",
    ];
    assert!(Cli::try_parse_from(both).is_err());
}

#[test]
fn secrets_are_not_in_debug_output() {
    let args = ["check", "a", "--user", "u", "--password", "hunter2"];
    let args = Cli::try_parse_from(args).unwrap().args;
    assert!(!format!("{args:?}").contains("hunter2"));
}
