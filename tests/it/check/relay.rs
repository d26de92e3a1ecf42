//! The relayed address, from outside and from inside.

use std::net::UdpSocket;

use turnstone::wire::{AttributeType, Class, ErrorCode, IntegrityAlgorithm, Method};

use super::fake::{FakeServer, allocation, challenging, key, refusal, reply};
use super::{assert_fails, check_udp, codes, run};

/// Allocates this relayed address, permits everything and relays nothing.
fn relaying_at(relayed_address: String) -> FakeServer {
    challenging(move |request| {
        Some(match request.method() {
            Some(Method::Allocate) => allocation(request, &relayed_address, Some(&key("pw"))),
            _ => reply(request, Class::Success, |builder| {
                builder
                    .u32(AttributeType::LIFETIME, 0)
                    .integrity(IntegrityAlgorithm::Sha1, key("pw").as_bytes());
            }),
        })
    })
}

#[test]
fn relay_that_swallows_packets_is_closed() {
    let swallows = UdpSocket::bind("127.0.0.2:0").unwrap();
    let relayed_address = swallows.local_addr().unwrap();
    let server = relaying_at(relayed_address.to_string());
    let report = check_udp(server.address);
    assert_fails(
        &report,
        &[
            "FAIL outside",
            &format!("arrives at {relayed_address}, the relayed address: a firewall closes"),
            "FAIL send",
            "nor do two clients of this server reach each other",
        ],
    );
    assert_eq!(codes(&report), ["relay-closed", "data-lost"]);
}

#[test]
fn relay_that_icmp_refuses_is_told_from_silence() {
    let free = UdpSocket::bind("127.0.0.3:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = relaying_at(free.to_string());
    assert_fails(
        &check_udp(server.address),
        &[
            "FAIL outside",
            "ICMP refuses what is sent to 127.0.0.3:",
            "which is not the server's address 127.0.0.2:",
            "relay.external; coturn: external-ip",
        ],
    );
}

#[test]
fn peer_that_may_not_be_one_is_no_failure_of_its_own() {
    let server = challenging(|request| {
        Some(match request.method() {
            Some(Method::Allocate) => allocation(request, "127.0.0.3:50000", Some(&key("pw"))),
            _ => refusal(request, ErrorCode::Forbidden),
        })
    });
    let report = check_udp(server.address);
    assert_fails(
        &report,
        &[
            "skip outside",
            "the server refuses 192.0.2.7 as a peer: 403",
        ],
    );
    assert_eq!(codes(&report)[0], "error-403");
}

#[test]
fn packets_have_a_bounded_time() {
    for (seconds, is_good) in [("0", false), ("1", true), ("240", true), ("241", false)] {
        let args = ["check", "stun:a", "--seconds", seconds];
        let parsed = <super::Cli as clap::Parser>::try_parse_from(args);
        assert_eq!(parsed.is_ok(), is_good, "{seconds}");
    }
    // A Binding alone takes none of it.
    let server = challenging(|_| None);
    let url = format!("stun:{}?transport=udp", server.address);
    assert!(run(&[&url, "--seconds", "240"]).works());
}
