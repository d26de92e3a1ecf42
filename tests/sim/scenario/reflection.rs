//! What somebody can have sent to an address that he forges: the replies to requests without
//! credentials (RFC 8489 §16.1.2).

use proptest::prelude::*;
use secrecy::SecretString;
use turnstone::auth::Credentials;
use turnstone::turn::IpHeader;
use turnstone::wire::{AttributeType as A, Class, Message, Method, TransactionId};

use crate::client::TestClient;
use crate::host::{Host, Setup};
use crate::message::build;

/// The realm of a server that was configured without one.
const REALM: &str = "turnstone";

/// Bytes of the headers of IP and UDP.
const HEADERS: [usize; 2] = [28, 48];

/// Bytes on the wire, out and in: no reply to a stranger over UDP is more than this many times its
/// request, for a realm of this length.
const WORST: (usize, usize) = (116, 48);

const METHODS: [Method; 4] = [
    Method::Allocate,
    Method::Refresh,
    Method::CreatePermission,
    Method::ChannelBind,
];

/// A server as installed, but for the clients of RFC 3489, which it serves too.
fn host() -> Host {
    let mut credentials = Credentials::new(REALM, ':').unwrap();
    let password = SecretString::from("wonderland");
    credentials.add_user("alice", &password).unwrap();
    let setup = Setup {
        classic_stun: true,
        software: Some("turnstone"),
        ..Setup::default()
    };
    Host::with_credentials(setup, credentials)
}

/// A stranger of this family: 0 is IPv4.
fn stranger(family: usize) -> TestClient {
    TestClient::udp(["198.51.100.1:4000", "[2001:db8:1::1]:4000"][family])
}

/// The bytes of the reply, 0 if there is none.
fn reply_to(family: usize, request: &[u8]) -> (usize, Option<u16>) {
    let mut host = host();
    let client = stranger(family);
    let sent = host.client_packet(client.at, IpHeader::default(), request);
    assert_eq!(sent, None, "strangers relay nothing");
    let Some(reply) = host.only_reply() else {
        return (0, None);
    };
    assert_eq!(reply.to, client.at);
    // A classic reply has no cookie; its ERROR-CODE is where the first attribute is.
    let code = Message::parse(&reply.bytes).ok().and_then(|_| reply.code());
    (reply.bytes.len(), code)
}

fn id() -> TransactionId {
    TransactionId([7; 12])
}

fn allocate(attributes: &[(A, &[u8])]) -> Vec<u8> {
    build(Class::Request, Method::Allocate, id(), |builder| {
        for &(attribute, value) in attributes {
            builder.attribute(attribute, value);
        }
    })
}

fn with_fingerprint(request: &[u8]) -> Vec<u8> {
    let message = Message::parse(request).unwrap();
    let attributes: Vec<(A, Vec<u8>)> = message
        .attributes()
        .map(|it| (it.attribute_type, it.value.to_vec()))
        .collect();
    build(Class::Request, message.method().unwrap(), id(), |builder| {
        for (attribute, value) in &attributes {
            builder.attribute(*attribute, value);
        }
        builder.fingerprint();
    })
}

/// Without the magic cookie.
fn classic(request: &[u8]) -> Vec<u8> {
    let mut request = request.to_vec();
    request[4..8].fill(0);
    request
}

/// Every kind of reply to a stranger, its code, and the shortest request that brings it.
fn smallest_requests() -> Vec<(&'static str, Option<u16>, Vec<u8>)> {
    let binding = build(Class::Request, Method::Binding, id(), |_| {});
    let binding_unknown = build(Class::Request, Method::Binding, id(), |builder| {
        builder.attribute(A(0x7FFF), &[]);
    });
    let empty = allocate(&[]);
    let incomplete = allocate(&[(A::MESSAGE_INTEGRITY, &[])]);
    let foreign_nonce = allocate(&[
        (A::USERNAME, &[]),
        (A::REALM, &[]),
        (A::NONCE, &[]),
        (A::MESSAGE_INTEGRITY, &[]),
    ]);
    let token = allocate(&[(A::ACCESS_TOKEN, &[])]);
    vec![
        ("Binding success", None, binding.clone()),
        ("Binding 420", Some(420), binding_unknown.clone()),
        ("classic Binding success", None, classic(&binding)),
        ("classic Binding 420", None, classic(&binding_unknown)),
        ("401", Some(401), empty.clone()),
        ("401, with FINGERPRINT", Some(401), with_fingerprint(&empty)),
        ("438", Some(438), foreign_nonce),
        ("400", Some(400), incomplete),
        ("420 for ACCESS-TOKEN", Some(420), token),
    ]
}

/// SEC-09: no shorter request brings an error than the one in the table. Every set of attributes that
/// have to do with authentication is tried, all of them empty.
#[test]
fn the_smallest_requests_are_the_smallest() {
    let attributes = [
        A::USERNAME,
        A::USERHASH,
        A::REALM,
        A::NONCE,
        A::PASSWORD_ALGORITHMS,
        A::PASSWORD_ALGORITHM,
        A::ACCESS_TOKEN,
        A::MESSAGE_INTEGRITY,
        A::MESSAGE_INTEGRITY_SHA256,
    ];
    let mut smallest = std::collections::BTreeMap::new();
    for set in 0..1_u32 << attributes.len() {
        let chosen = attributes.iter().enumerate();
        let chosen = chosen.filter(|(index, _)| set >> index & 1 == 1);
        let chosen: Vec<(A, &[u8])> = chosen.map(|(_, it)| (*it, &[] as &[u8])).collect();
        let request = allocate(&chosen);
        let (_, code) = reply_to(0, &request);
        let len = smallest.entry(code).or_insert(request.len());
        *len = request.len().min(*len);
    }
    let listed = smallest_requests().into_iter();
    let listed =
        listed.filter(|(name, ..)| ["401", "438", "400", "420 for ACCESS-TOKEN"].contains(name));
    let listed: std::collections::BTreeMap<_, _> = listed
        .map(|(_, code, request)| (code, request.len()))
        .collect();
    assert_eq!(listed, smallest);
}

/// A ratio as it is written in the documentation.
fn times(out: usize, request: usize) -> String {
    format!("{:.2}", out as f64 / request as f64)
}

/// SEC-09: the table in `docs/security.md` is what the server does.
#[test]
fn the_table_of_replies_to_strangers() {
    let document = include_str!("../../../docs/security.md");
    let (mut worst, mut missing) = ((0, 1), Vec::new());
    for (name, code, request) in smallest_requests() {
        let mut cells = format!("| {name} | {} |", request.len());
        for (family, headers) in HEADERS.into_iter().enumerate() {
            let (reply, got) = reply_to(family, &request);
            assert!(reply > 0 && got == code, "{name}: {got:?}");
            let (out, wire) = (reply + headers, request.len() + headers);
            cells += &format!(" {reply} | {wire} → {out} | {} |", times(out, wire));
            if out * worst.1 > worst.0 * wire {
                worst = (out, wire);
            }
        }
        if !document.contains(&cells) {
            missing.push(cells);
        }
    }
    assert_eq!(worst, WORST);
    let missing = missing.join("\n");
    assert!(missing.is_empty(), "docs/security.md has no\n{missing}");
}

/// Any attribute that the server might look at, with any value.
fn attribute() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let known = prop::sample::select(vec![
        0x0003_u16, 0x0006, 0x0008, 0x000C, 0x000D, 0x0012, 0x0013, 0x0014, 0x0015, 0x0017, 0x0018,
        0x0019, 0x001A, 0x001B, 0x001C, 0x001D, 0x001E, 0x0022, 0x8000, 0x8002, 0x8022, 0x802F,
    ]);
    let number = prop_oneof![3 => known, 1 => any::<u16>()];
    let value = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(REALM.as_bytes().to_vec()),
        1 => Just(b"alice".to_vec()),
        1 => Just(vec![0; 20]),
    ];
    (number, value)
}

/// A request that is nearly always well-formed.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        Just(Method::Binding),
        prop::sample::select(METHODS.to_vec()),
        Just(Method::Send),
    ];
    let attributes = prop::collection::vec(attribute(), 0..12);
    let garbled = prop::option::weighted(0.2, any::<(u16, u8)>());
    (
        method,
        attributes,
        any::<bool>(),
        prop::bool::weighted(0.2),
        garbled,
    )
        .prop_map(|(method, attributes, fingerprint, is_classic, garbled)| {
            let mut bytes = build(Class::Request, method, id(), |builder| {
                for (number, value) in attributes {
                    builder.attribute(A(number), &value);
                }
                if fingerprint && !is_classic {
                    builder.fingerprint();
                }
            });
            if is_classic {
                bytes = classic(&bytes);
            }
            if let Some((at, byte)) = garbled {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            bytes
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// SEC-09: nothing that a stranger says has an answer beyond the worst of the table.
    #[test]
    fn no_request_has_a_longer_reply(request in request(), family in 0..2_usize) {
        let (reply, _) = reply_to(family, &request);
        if reply > 0 {
            let (out, wire) = (reply + HEADERS[family], request.len() + HEADERS[family]);
            prop_assert!(out * WORST.1 <= WORST.0 * wire, "{} for {}", out, wire);
        }
    }
}

/// SEC-09: the longest list of unknown attributes, and every number of them up to it.
#[test]
fn many_unknown_attributes_do_not_make_a_reply_that_is_worth_it() {
    for count in 1..100_u16 {
        for method in [Method::Binding, Method::Allocate] {
            let request = build(Class::Request, method, id(), |builder| {
                for number in 0..count {
                    builder.attribute(A(0x7F00 + number), &[]);
                }
            });
            let (reply, _) = reply_to(0, &request);
            let (out, wire) = (reply + HEADERS[0], request.len() + HEADERS[0]);
            assert!(out * WORST.1 < WORST.0 * wire, "{count}: {out} for {wire}");
        }
    }
}
