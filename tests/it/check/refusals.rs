//! Each error code, and each thing that answers and is no STUN server.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread::{self, JoinHandle};

use turnstone::wire::{ErrorCode, Method};

use super::fake::{allocation, challenging, key, refusal};
use super::{assert_fails, check_udp, codes, run};

#[test]
fn every_refusal_of_an_allocation_has_its_meaning() {
    let cases = [
        (ErrorCode::Forbidden, "refuses this client"),
        (ErrorCode::AllocationMismatch, "holds an allocation on this"),
        (
            ErrorCode::AddressFamilyNotSupported,
            "relay.addresses; coturn: relay-ip",
        ),
        (ErrorCode::WrongCredentials, "another user's"),
        (
            ErrorCode::UnsupportedTransportProtocol,
            "coturn: no-udp-relay",
        ),
        (
            ErrorCode::AllocationQuotaReached,
            "limits.allocations_per_user",
        ),
        (
            ErrorCode::InsufficientCapacity,
            "relay.ports, limits.allocations_total",
        ),
        (ErrorCode::ServerError, "the server refuses Allocate: 500"),
    ];
    for (code, meaning) in cases {
        let server = challenging(move |request| Some(refusal(request, code)));
        let report = check_udp(server.address);
        assert_fails(&report, &["FAIL allocate", meaning]);
        assert_eq!(codes(&report), [format!("error-{}", code.number())]);
    }
}

#[test]
fn allocation_that_is_gone_a_moment_later_is_a_balancer() {
    let server = challenging(|request| {
        Some(match request.method() {
            Some(Method::Allocate) => allocation(request, "127.0.0.3:50000", Some(&key("pw"))),
            _ => refusal(request, ErrorCode::AllocationMismatch),
        })
    });
    let report = check_udp(server.address);
    assert_fails(
        &report,
        &["FAIL permission", "437", "a balancer spreads packets"],
    );
}

#[test]
fn closed_udp_port_is_told_from_silence() {
    // Free again when it is dropped, and nobody else's within the test.
    let address = UdpSocket::bind("127.0.0.2:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let report = check_udp(address);
    assert_fails(
        &report,
        &[
            "FAIL binding",
            "ICMP port unreachable",
            "127.0.0.2 is up, but nothing listens on UDP port",
        ],
    );
    assert_eq!(codes(&report), ["port-unreachable"]);
}

/// A TCP server that reads the beginning of a request, says something and closes.
fn says(bytes: &'static [u8]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 20];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(bytes).unwrap();
    });
    (address, thread)
}

#[test]
fn what_is_no_stun_server_is_named() {
    let cases: [(&[u8], &str, &str); 5] = [
        (
            b"",
            "the server closed the connection: no STUN server",
            "closed",
        ),
        (b"\x15\x03\x03\0\x02\x02\x32", "the port speaks TLS", "tls"),
        (b"\x16\x03\x01\0\x02\x02\x32", "the port speaks TLS", "tls"),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "a web server answers",
            "http",
        ),
        (
            b"220 mail ESMTP\r\n",
            "something answers over TCP, but it is no STUN server",
            "not-stun",
        ),
    ];
    for (bytes, words, code) in cases {
        let (address, thread) = says(bytes);
        let url = format!("turn:{address}?transport=tcp");
        let report = run(&[
            &url,
            "--user",
            "alice",
            "--password",
            "pw",
            "--timeout",
            "5",
        ]);
        thread.join().unwrap();
        assert_fails(&report, &["FAIL binding", words]);
        assert_eq!(codes(&report), [code]);
    }
}

#[test]
fn host_without_an_address_of_the_family_is_told() {
    for (host, family) in [("127.0.0.2", "--ipv6"), ("[::1]", "-4")] {
        let report = run(&[&format!("stun:{host}"), family]);
        assert_fails(
            &report,
            &["FAIL resolve", "no address of the family that --ipv4 or"],
        );
    }
    let report = run(&["stun:no.such.name.invalid", "--timeout", "5"]);
    assert_fails(&report, &["FAIL resolve", "the name cannot be resolved"]);
}
