//! The error codes that each method can answer with (RFC 8656 §19), every one of them signed.

use std::collections::BTreeMap;

use turnstone::turn::Limits;
use turnstone::wire::{AttributeType as A, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, address, bob};
use crate::message::UDP;

/// What a request has wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Password,
    Nonce,
    UnknownAttribute,
    Malformed,
    FiveTuple,
    OtherUser,
    Family,
    Transport,
    Peer,
    Conflict,
    Quota,
    Capacity,
}

const FAULTS: [Fault; 12] = [
    Fault::Password,
    Fault::Nonce,
    Fault::UnknownAttribute,
    Fault::Malformed,
    Fault::FiveTuple,
    Fault::OtherUser,
    Fault::Family,
    Fault::Transport,
    Fault::Peer,
    Fault::Conflict,
    Fault::Quota,
    Fault::Capacity,
];

/// The table: what a method says to a fault; `None` where it does not mind, or cannot have it.
fn code(method: Method, fault: Fault) -> Option<u16> {
    use Method::{Allocate, ChannelBind, CreatePermission, Refresh};
    Some(match (fault, method) {
        (Fault::Password, _) => 401,
        (Fault::Nonce, _) => 438,
        (Fault::UnknownAttribute, _) => 420,
        (Fault::Malformed, _) => 400,
        (Fault::FiveTuple, _) => 437,
        (Fault::OtherUser, Refresh | CreatePermission | ChannelBind) => 441,
        (Fault::Family, Allocate) => 440,
        (Fault::Family, Refresh | CreatePermission | ChannelBind) => 443,
        (Fault::Transport, Allocate) => 442,
        (Fault::Peer, CreatePermission | ChannelBind) => 403,
        (Fault::Conflict, Allocate | ChannelBind) => 400,
        (Fault::Quota, Allocate) => 486,
        (Fault::Capacity, Allocate | CreatePermission | ChannelBind) => 508,
        _ => return None,
    })
}

/// Makes the request with the fault and returns the code of the answer, which was checked.
fn provoke(method: Method, fault: Fault) -> Option<u16> {
    let is_allocate = method == Method::Allocate;
    let mut host = Host::new(Setup {
        ports: if fault == Fault::Capacity && is_allocate {
            49_152..=49_152
        } else {
            49_152..=65_535
        },
        limits: Limits {
            allocations_per_user: 1,
            permissions_per_allocation: 1,
            channels_per_allocation: 1,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let mut client = TestClient::udp("198.51.100.1:4000");
    let mut stranger = TestClient::udp("198.51.100.2:4000").by(bob());
    match fault {
        Fault::FiveTuple if !is_allocate => {}
        Fault::Quota => stranger.account = client.account.clone(),
        _ => {}
    }
    if matches!(fault, Fault::Quota | Fault::Capacity) {
        stranger.allocate(&mut host);
    }
    if is_allocate == (fault == Fault::FiveTuple) {
        client.allocate(&mut host);
    } else {
        client.challenge(&mut host, method);
    }
    if !is_allocate && matches!(fault, Fault::Capacity | Fault::Conflict) {
        let bound = address("9.9.9.1:5000");
        client.bind(&mut host, 0x4000, bound).success();
    }
    match fault {
        Fault::Password => client.account.password.push('!'),
        Fault::Nonce => {
            client.refresh(&mut host, 3600);
            host.advance_s(601);
        }
        Fault::OtherUser => client.account = bob(),
        _ => {}
    }
    let answer = client.request(&mut host, method, |builder| {
        if fault == Fault::UnknownAttribute {
            builder.attribute(A(0x7FFF), &[]);
        }
        let malformed = fault == Fault::Malformed;
        match method {
            Method::Allocate => {
                let protocol = if fault == Fault::Transport {
                    6 << 24
                } else {
                    UDP
                };
                builder.u32(A::REQUESTED_TRANSPORT, protocol);
                if fault == Fault::Conflict {
                    builder
                        .attribute(A::RESERVATION_TOKEN, &[0; 8])
                        .attribute(A::EVEN_PORT, &[0]);
                }
            }
            Method::CreatePermission | Method::ChannelBind => {
                let peer = match fault {
                    Fault::Family => "[2606:4700::1]:1",
                    Fault::Peer => "192.168.0.1:1",
                    _ => "9.9.9.2:1",
                };
                let number = if fault == Fault::Conflict {
                    0x4000
                } else {
                    0x4001
                };
                builder
                    .u32(A::CHANNEL_NUMBER, number << 16)
                    .xor_address(A::XOR_PEER_ADDRESS, address(peer));
                if malformed {
                    builder.attribute(A::XOR_PEER_ADDRESS, &[1]);
                }
            }
            _ => {}
        }
        if malformed {
            builder
                .attribute(A::LIFETIME, &[1])
                .attribute(A::CHANNEL_NUMBER, &[1]);
        }
        if fault == Fault::Family {
            builder.u32(
                A::REQUESTED_ADDRESS_FAMILY,
                if is_allocate { 9 << 24 } else { 2 << 24 },
            );
        }
    });
    answer.0.code()
}

/// The table of conformance §20: AUTH-20, MSG-21, CHAN-08, PERM-05, PERM-07, PERM-08, REFR-04
#[test]
fn every_error_of_every_method() {
    let mut seen = BTreeMap::new();
    for method in [
        Method::Allocate,
        Method::Refresh,
        Method::CreatePermission,
        Method::ChannelBind,
    ] {
        for fault in FAULTS {
            let Some(expected) = code(method, fault) else {
                continue;
            };
            // The second XOR-PEER-ADDRESS of a ChannelBind does not count.
            if (method, fault) == (Method::ChannelBind, Fault::Malformed) {
                continue;
            }
            assert_eq!(
                provoke(method, fault),
                Some(expected),
                "{} {fault:?}",
                method.name()
            );
            *seen.entry(expected).or_insert(0) += 1;
        }
    }
    let codes: Vec<u16> = seen.into_keys().collect();
    assert_eq!(
        codes,
        [400, 401, 403, 420, 437, 438, 440, 441, 442, 443, 486, 508]
    );
}
