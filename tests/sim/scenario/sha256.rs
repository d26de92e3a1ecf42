//! The exchanges B02-B13 of RFC 8489's algorithms, with nonces of our own.

use turnstone::auth::PasswordAlgorithm;
use turnstone::wire::{AttributeType as A, IntegrityAlgorithm, Method};

use crate::client::TestClient;
use crate::host::{Host, Setup, alice};
use crate::message::{REALM, Reply, Scheme, UDP};

const OFFERED: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];

/// A request that may be anything but what RFC 8489 wants.
struct Attempt {
    algorithms: Option<&'static [u8]>,
    algorithm: Option<u32>,
    password: PasswordAlgorithm,
    integrity: &'static [IntegrityAlgorithm],
    /// Bytes of the last integrity attribute's value.
    truncated: Option<usize>,
    /// Bytes from the end of the one that is flipped.
    flipped: Option<usize>,
}

const GOOD: Attempt = Attempt {
    algorithms: Some(&OFFERED),
    algorithm: Some(2 << 16),
    password: PasswordAlgorithm::Sha256,
    integrity: &[IntegrityAlgorithm::Sha256],
    truncated: None,
    flipped: None,
};

fn attempt(attempt: &Attempt) -> (TestClient, Reply) {
    let mut host = Host::new(Setup::default());
    let mut client = TestClient::udp("198.51.100.1:4000");
    client.challenge(&mut host, Method::Allocate);
    let nonce = client.nonce.clone().unwrap();
    assert!(nonce.starts_with(b"obMatJos2gAAA"), "AUTH-14");
    let key = alice().key(attempt.password);
    let mut packet = client.bare(Method::Allocate, |builder| {
        builder
            .u32(A::REQUESTED_TRANSPORT, UDP)
            .attribute(A::USERNAME, b"alice")
            .attribute(A::REALM, REALM.as_bytes())
            .attribute(A::NONCE, &nonce);
        if let Some(algorithms) = attempt.algorithms {
            builder.attribute(A::PASSWORD_ALGORITHMS, algorithms);
        }
        if let Some(algorithm) = attempt.algorithm {
            builder.u32(A::PASSWORD_ALGORITHM, algorithm);
        }
        for integrity in attempt.integrity {
            builder.integrity(*integrity, key.as_bytes());
        }
    });
    if let Some(len) = attempt.truncated {
        resize_integrity(&mut packet, len);
    }
    if let Some(place) = attempt.flipped {
        let place = packet.len() - place;
        packet[place] ^= 1;
    }
    let reply = client.exchange(&mut host, &packet).expect("an answer");
    (client, reply)
}

/// Gives MESSAGE-INTEGRITY-SHA256, which is the last attribute, another length.
fn resize_integrity(packet: &mut Vec<u8>, len: usize) {
    let value = packet.len() - 32;
    packet[value - 1] = len as u8;
    packet.resize(value + len.next_multiple_of(4), 0);
    let length = (packet.len() - 20) as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
}

fn succeeds(what: &Attempt, scheme: Scheme) {
    let (client, reply) = attempt(what);
    assert_eq!(reply.code(), None);
    assert!(reply.is_signed_for(&client.account, scheme), "AUTH-19");
}

fn fails(what: &Attempt, code: u16) {
    let (_, reply) = attempt(what);
    assert_eq!(reply.code(), Some(code));
    assert!(!reply.message().has_integrity());
}

/// AUTH-15, AUTH-16, AUTH-19: B02, B05, B10, B11
#[test]
fn what_was_offered_is_accepted_and_answered_in_kind() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    succeeds(&GOOD, Scheme::Sha256);
    let old = Attempt {
        algorithms: None,
        algorithm: None,
        password: PasswordAlgorithm::Md5,
        integrity: &[Sha1],
        ..GOOD
    };
    succeeds(&old, Scheme::Old);
    for integrity in [&[Sha1] as &[_], &[Sha256]] {
        let explicit = Attempt {
            algorithm: Some(1 << 16),
            password: PasswordAlgorithm::Md5,
            integrity,
            ..GOOD
        };
        succeeds(&explicit, Scheme::Md5Sha1);
    }
}

/// AUTH-16: B06-B09
#[test]
fn what_was_not_offered_is_a_bad_request() {
    let cases = [
        Attempt {
            algorithms: None,
            ..GOOD
        },
        Attempt {
            algorithm: None,
            ..GOOD
        },
        Attempt {
            algorithms: Some(&[0, 1, 0, 0]),
            algorithm: Some(1 << 16),
            password: PasswordAlgorithm::Md5,
            ..GOOD
        },
        Attempt {
            algorithms: Some(&[0, 1, 0, 0, 0, 2, 0, 0]),
            ..GOOD
        },
        Attempt {
            algorithm: Some(3 << 16),
            ..GOOD
        },
        Attempt {
            algorithm: Some(2 << 16 | 4),
            ..GOOD
        },
    ];
    for case in &cases {
        fails(case, 400);
    }
}

/// AUTH-17: B12. Of two integrity attributes the stronger one decides, whichever is broken.
#[test]
fn the_stronger_integrity_decides() {
    use IntegrityAlgorithm::{Sha1, Sha256};
    let both = Attempt {
        integrity: &[Sha1, Sha256],
        ..GOOD
    };
    succeeds(&both, Scheme::Sha256);
    fails(
        &Attempt {
            flipped: Some(1),
            ..both
        },
        401,
    );
    // SHA-256 covers the SHA-1 attribute, so a flipped bit there breaks it as well.
    fails(
        &Attempt {
            flipped: Some(36 + 1),
            ..both
        },
        401,
    );
}

/// AUTH-18: B13
#[test]
fn no_truncated_integrity_is_accepted() {
    for len in [0, 4, 15, 16, 17, 20, 28, 31, 33, 36] {
        let truncated = Attempt {
            truncated: Some(len),
            ..GOOD
        };
        fails(&truncated, 401);
    }
}
