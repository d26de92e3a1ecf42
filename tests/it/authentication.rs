//! The long-term credential mechanism (RFC 8489 §9.2; RFC 8656 §5).

use std::collections::HashSet;
use std::net::UdpSocket;

use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::harness::attribute as a;
use crate::harness::{
    Client, Message, NOBODY, Packet, Peer, REALM, TestServer, Via, method, unix_s,
};

/// SHA-256, then MD5.
const ALGORITHMS: [u8; 8] = [0, 2, 0, 0, 0, 1, 0, 0];
const SHA256: [u8; 4] = [0, 2, 0, 0];
const MD5: [u8; 4] = [0, 1, 0, 0];

fn requests() -> [Packet; 4] {
    let peer = (NOBODY, 9).into();
    [
        Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]),
        Packet::request(method::REFRESH),
        Packet::request(method::CREATE_PERMISSION).address(a::XOR_PEER_ADDRESS, peer),
        Packet::request(method::CHANNEL_BIND)
            .u32(a::CHANNEL_NUMBER, 0x4000_0000)
            .address(a::XOR_PEER_ADDRESS, peer),
    ]
}

/// A 401 or 438: realm, nonce and algorithms, and nothing that names or proves anybody.
fn assert_challenge(reply: &Message, code: u16) {
    assert_eq!(reply.code(), code);
    assert_eq!(reply.get(a::REALM), Some(REALM.as_bytes()));
    assert!(reply.get(a::NONCE).unwrap().starts_with(b"obMatJos2"));
    assert_eq!(reply.get(a::PASSWORD_ALGORITHMS), Some(&ALGORITHMS[..]));
    let mut types = reply.types();
    types.sort_unstable();
    let expected = [a::ERROR_CODE, a::REALM, a::NONCE, a::PASSWORD_ALGORITHMS];
    assert_eq!(types, expected);
}

/// AUTH-01, AUTH-02, AUTH-03, SEC-09: every request but Binding is challenged before anything is
/// looked up, in few bytes.
#[test]
fn a_request_without_credentials_is_challenged() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        for allocated in [false, true] {
            for request in requests() {
                let reply = client.exchange(&request);
                assert_challenge(&reply, 401);
                assert!(reply.bytes.len() <= 120, "{} bytes", reply.bytes.len());
            }
            if !allocated {
                client.allocate();
            }
        }
        // USERNAME alone proves nothing.
        let named = client.named(Packet::request(method::REFRESH));
        assert_challenge(&client.exchange(&named), 401);
    }
}

/// AUTH-03, TUP-01, REFR-01, PERM-07, CHAN-08: with credentials, and without an allocation.
#[test]
fn an_authenticated_request_without_an_allocation_is_a_mismatch() {
    let server = TestServer::start();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        for request in requests().into_iter().skip(1) {
            assert_eq!(client.request(request).code(), 437);
        }
    }
}

/// AUTH-04
#[test]
fn integrity_without_a_name_realm_or_nonce_is_a_bad_request() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let (key, sha256_key) = (client.key(), client.sha256_key());
    let nonce = client.session.clone().unwrap().nonce;
    let all = [
        (a::USERNAME, &b"alice"[..]),
        (a::REALM, REALM.as_bytes()),
        (a::NONCE, &nonce),
    ];
    for left_out in [0, 1, 2] {
        for request in requests() {
            let mut request = request;
            for (index, (number, value)) in all.iter().enumerate() {
                if index != left_out {
                    request = request.attr(*number, value);
                }
            }
            for signed in [request.clone().sha1(&key), request.sha256(&sha256_key, 32)] {
                let reply = client.exchange(&signed);
                assert_eq!(reply.code(), 400);
                assert_eq!(reply.types(), [a::ERROR_CODE]);
            }
        }
    }
}

/// AUTH-05, AUTH-06, AUTH-07: nobody learns which names exist.
#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    let server = TestServer::start();
    let mut seen = HashSet::new();
    for (user, password) in [("alice", "wrong"), ("carol", "wonderland"), ("", "")] {
        for request in requests() {
            let mut client = Client::udp(&server).with_user(user, password);
            client.challenge();
            let signed = client.signed(request);
            let reply = client.exchange(&signed);
            assert_challenge(&reply, 401);
            seen.insert((reply.types(), reply.bytes.len()));
        }
    }
    assert_eq!(seen.len(), 1);
}

/// AUTH-06: any bit of the request or of its integrity.
#[test]
fn one_wrong_bit_is_a_wrong_password() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let signed = client.signed(Packet::request(method::REFRESH).u32(a::LIFETIME, 900));
    let len = signed.bytes().len();
    for place in (24..28).chain(len - 20..len) {
        let mut bytes = signed.bytes().to_vec();
        bytes[place] ^= 0x10;
        client.send(&bytes);
        assert_challenge(&Message::parse(&client.recv()), 401);
    }
    assert_eq!(client.exchange(&signed).code(), 0);
}

/// AUTH-08, REFR-07: the allocation and what belongs to it stay, and the nonce of the reply is good.
#[test]
fn a_stale_nonce_is_replaced() {
    let server = TestServer::with(|setup| setup.nonce_lifetime_s = 600);
    let peer = Peer::new();
    for via in Via::ALL {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        let stale = server
            .authenticator
            .nonce(client.local(), unix_s() - 700)
            .to_vec();
        for request in requests().into_iter().skip(1) {
            client.session.as_mut().unwrap().nonce.clone_from(&stale);
            let signed = client.signed(request.clone());
            let reply = client.exchange(&signed);
            assert_challenge(&reply, 438);
            client.take_challenge(&reply);
            assert_eq!(client.request(request).code(), 0);
        }
        client.permit(peer.address());
        client.send_data(peer.address(), b"alive");
        if relayed.is_ipv4() {
            peer.expect(b"alive", relayed);
        }
    }
}

/// AUTH-09: integrity before the age of the nonce, but after the nonce's own authenticity.
#[test]
fn a_wrong_password_with_a_stale_nonce_is_a_wrong_password() {
    let server = TestServer::with(|setup| setup.nonce_lifetime_s = 600);
    let mut client = Client::udp(&server).with_user("alice", "wrong");
    client.challenge();
    let stale = server
        .authenticator
        .nonce(client.local(), unix_s() - 700)
        .to_vec();
    let session = client.session.as_mut().unwrap();
    session.nonce = stale;
    let signed = client.signed(Packet::request(method::REFRESH));
    assert_challenge(&client.exchange(&signed), 401);
    for forged in [
        &b"obMatJos2wAAAAAAAAAAAAAAAAAAA"[..],
        b"f//499k954d6OL34oL9FSTvy64sA",
        b"",
    ] {
        client.session.as_mut().unwrap().nonce = forged.to_vec();
        let signed = client.signed(Packet::request(method::REFRESH));
        assert_challenge(&client.exchange(&signed), 438);
    }
}

/// AUTH-10, AUTH-11, SEC-13: bound to the client's address and port.
#[test]
fn a_nonce_is_one_clients() {
    let server = TestServer::start();
    let mut nonces = HashSet::new();
    // Kept open, so that each has a port of its own.
    let mut sockets = Vec::new();
    let mut previous: Option<Vec<u8>> = None;
    for _ in 0..50 {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut client = Client::udp_from(socket.try_clone().unwrap(), server.udp());
        sockets.push(socket);
        client.challenge();
        let own = client.session.clone().unwrap().nonce;
        assert!(own.len() < 128);
        assert!(
            own.iter()
                .all(|c| c.is_ascii_graphic() && !b"\"\\".contains(c))
        );
        assert!(nonces.insert(own.clone()), "another port, another nonce");
        if let Some(foreign) = previous {
            client.session.as_mut().unwrap().nonce = foreign;
            let signed = client.signed(Packet::request(method::REFRESH));
            assert_challenge(&client.exchange(&signed), 438);
        }
        previous = Some(own);
    }
}

/// AUTH-12: no nonce is used up, and a challenge makes none of the others stale.
#[test]
fn a_nonce_is_good_for_many_requests() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let first = client.session.clone();
    let mut ids = HashSet::new();
    for _ in 0..20 {
        let signed = client.signed(Packet::request(method::REFRESH));
        ids.insert(signed.id());
        client.send(signed.bytes());
    }
    for _ in 0..20 {
        let reply = Message::parse(&client.recv());
        assert_eq!(reply.code(), 0);
        assert!(ids.remove(&reply.id()));
    }
    client.challenge();
    client.session = first;
    client.assert_alive();
}

/// AUTH-13: a server that was started again with the same key takes the nonces of the last one.
#[test]
fn a_nonce_outlives_the_server() {
    let (first, second) = (TestServer::start(), TestServer::start());
    let mut client = Client::udp(&first);
    client.challenge();
    let socket = client.socket().try_clone().unwrap();
    let mut again = Client::udp_from(socket, second.udp());
    again.session = client.session;
    assert_eq!(again.try_allocate(|packet| packet).code(), 0);
}

/// AUTH-14, AUTH-15, AUTH-26: what is offered depends on whose keys can be made.
#[test]
fn the_nonce_tells_what_is_offered() {
    let server = TestServer::start();
    let reply = Client::udp(&server).challenge();
    assert_eq!(&reply.get(a::NONCE).unwrap()[9..13], b"wAAA");
    assert_eq!(reply.get(a::PASSWORD_ALGORITHMS), Some(&ALGORITHMS[..]));
    let server = TestServer::with(|setup| setup.secrets = vec!["north".to_owned()]);
    let reply = Client::udp(&server).challenge();
    assert_eq!(&reply.get(a::NONCE).unwrap()[9..13], b"gAAA");
    assert_eq!(reply.get(a::PASSWORD_ALGORITHMS), Some(&ALGORITHMS[..]));
}

/// AUTH-14, AUTH-15: MD5 keys alone make nothing else.
#[test]
fn stored_keys_offer_nothing() {
    let server = TestServer::with(|setup| {
        setup.store_md5_keys = true;
        setup.secrets = vec!["north".to_owned()];
    });
    let mut client = Client::udp(&server);
    let reply = client.challenge();
    assert_eq!(&reply.get(a::NONCE).unwrap()[9..13], b"AAAA");
    assert!(!reply.has(a::PASSWORD_ALGORITHMS));
    assert_eq!(client.try_allocate(|packet| packet).code(), 0);
}

/// AUTH-16: cleared feature bits are no way back to MD5.
#[test]
fn a_nonce_with_other_features_is_refused() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    client.session.as_mut().unwrap().nonce[9..13].copy_from_slice(b"AAAA");
    let signed = client.signed(Packet::request(method::REFRESH));
    assert_challenge(&client.exchange(&signed), 438);
}

/// AUTH-16, AUTH-19: an RFC 5389 client is answered as one.
#[test]
fn a_request_without_algorithms_is_md5_and_sha1() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let reply = client.try_allocate(|packet| packet);
    assert_eq!(reply.code(), 0);
    assert!(!reply.has(a::MESSAGE_INTEGRITY_SHA256));
}

/// How a request of an RFC 8489 client deviates.
struct Offer<'a> {
    algorithms: Option<&'a [u8]>,
    algorithm: Option<&'a [u8]>,
}

fn with_offer(client: &mut Client, packet: Packet, offer: &Offer<'_>) -> Packet {
    let mut packet = client.named(packet);
    if let Some(algorithms) = offer.algorithms {
        packet = packet.attr(a::PASSWORD_ALGORITHMS, algorithms);
    }
    if let Some(algorithm) = offer.algorithm {
        packet = packet.attr(a::PASSWORD_ALGORITHM, algorithm);
    }
    packet
}

fn allocate() -> Packet {
    Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
}

/// AUTH-15, AUTH-17, AUTH-19, AUTH-20: SHA-256 keys, and MD5 keys that were asked for; success and
/// error both signed with MESSAGE-INTEGRITY-SHA256 alone.
#[test]
fn a_request_with_algorithms_is_answered_with_sha256() {
    let server = TestServer::start();
    for via in Via::V4 {
        for (algorithm, is_sha256) in [(SHA256, true), (MD5, false)] {
            for integrity in ["sha256", "sha1", "both"] {
                let mut client = Client::new(&server, via);
                client.challenge();
                let key = if is_sha256 {
                    client.sha256_key()
                } else {
                    client.key()
                };
                let offer = Offer {
                    algorithms: Some(&ALGORITHMS),
                    algorithm: Some(&algorithm),
                };
                let mut sign = |packet: Packet| {
                    let packet = with_offer(&mut client, packet, &offer);
                    match integrity {
                        "sha256" => packet.sha256(&key, 32),
                        "sha1" => packet.sha1(&key),
                        _ => packet.sha1(&key).sha256(&key, 32),
                    }
                };
                let (first, second) = (sign(allocate()), sign(allocate()));
                for (request, code) in [(first, 0), (second, 437)] {
                    let reply = client.exchange(&request);
                    assert_eq!(reply.code(), code, "{integrity}");
                    assert!(reply.is_sha256_signed(&key));
                    assert!(!reply.has(a::MESSAGE_INTEGRITY));
                }
            }
        }
    }
}

/// AUTH-17: MESSAGE-INTEGRITY does not count beside MESSAGE-INTEGRITY-SHA256.
#[test]
fn a_wrong_sha256_beside_a_right_sha1_is_wrong() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let (md5, sha256) = (client.key(), client.sha256_key());
    let offer = Offer {
        algorithms: Some(&ALGORITHMS),
        algorithm: Some(&SHA256),
    };
    let named = with_offer(&mut client, allocate(), &offer);
    let request = named.sha1(&sha256).sha256(b"wrong", 32);
    assert_challenge(&client.exchange(&request), 401);
    let named = with_offer(&mut client, allocate(), &offer);
    assert_eq!(
        client
            .exchange(&named.sha1(b"wrong").sha256(&sha256, 32))
            .code(),
        0
    );
    let named = client.named(Packet::request(method::REFRESH));
    let request = named.sha1(&md5).sha256(b"wrong", 32);
    assert_challenge(&client.exchange(&request), 401);
}

/// AUTH-16: half an offer, a cut one, and an algorithm that is not in it.
#[test]
fn a_bid_down_is_a_bad_request() {
    let server = TestServer::start();
    type Half<'a> = Option<&'a [u8]>;
    let cases: [(Half<'_>, Half<'_>); 8] = [
        (None, Some(&SHA256)),
        (None, Some(&MD5)),
        (Some(&ALGORITHMS), None),
        (Some(&MD5), Some(&MD5)),
        (Some(&[0, 1, 0, 0, 0, 2, 0, 0]), Some(&MD5)),
        (Some(b""), Some(&MD5)),
        (Some(&ALGORITHMS), Some(&[0, 3, 0, 0])),
        (Some(&ALGORITHMS), Some(&[0, 2])),
    ];
    let mut client = Client::udp(&server);
    client.challenge();
    for (algorithms, algorithm) in cases {
        let offer = Offer {
            algorithms,
            algorithm,
        };
        for is_sha256 in [true, false] {
            let key = if is_sha256 {
                client.sha256_key()
            } else {
                client.key()
            };
            let named = with_offer(&mut client, allocate(), &offer);
            let reply = client.exchange(&named.clone().sha256(&key, 32));
            assert_eq!(reply.code(), 400);
            assert_eq!(reply.types(), [a::ERROR_CODE]);
            assert_eq!(client.exchange(&named.sha1(&key)).code(), 400);
        }
    }
    assert_eq!(server.live_ports(), 0);
}

/// AUTH-18
#[test]
fn a_truncated_sha256_is_never_accepted() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let key = client.sha256_key();
    let offer = Offer {
        algorithms: Some(&ALGORITHMS),
        algorithm: Some(&SHA256),
    };
    for len in [0, 4, 15, 16, 17, 20, 28, 31, 33, 36] {
        let named = with_offer(&mut client, allocate(), &offer);
        let reply = client.exchange(&named.sha256(&key, len));
        assert!(
            [400, 401].contains(&reply.code()),
            "{len}: {}",
            reply.code()
        );
    }
    assert_eq!(server.live_ports(), 0);
}

/// AUTH-20, AUTH-21: the client checks every reply for its signature and for what must not be
/// there, of each error that a single request can cause.
#[test]
fn every_error_to_a_user_is_signed() {
    let server = TestServer::with(|setup| {
        setup.limits.allocations_per_user = 1;
        setup.limits.permissions_per_allocation = 1;
    });
    let mut client = Client::udp(&server);
    let family = |f: u8| move |p: Packet| p.attr(a::REQUESTED_ADDRESS_FAMILY, &[f, 0, 0, 0]);
    assert_eq!(
        client.request(Packet::request(method::ALLOCATE)).code(),
        400
    );
    assert_eq!(client.try_allocate(|p| p.attr(0x7FFF, b"")).code(), 420);
    assert_eq!(client.try_refresh(None).code(), 437);
    assert_eq!(client.try_allocate(family(9)).code(), 440);
    let tcp = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    assert_eq!(client.request(tcp).code(), 442);
    let token = |p: Packet| p.attr(a::RESERVATION_TOKEN, b"12345678");
    assert_eq!(client.try_allocate(token).code(), 508);
    client.allocate();
    assert_eq!(Client::udp(&server).try_allocate(|p| p).code(), 486);
    assert_eq!(
        client
            .try_permit(&["[2001:db8::1]:9".parse().unwrap()])
            .code(),
        443
    );
    assert_eq!(
        client.try_permit(&["224.0.0.1:9".parse().unwrap()]).code(),
        403
    );
    let two = [
        "127.0.0.1:9".parse().unwrap(),
        "127.0.0.2:9".parse().unwrap(),
    ];
    assert_eq!(client.try_permit(&two).code(), 508);
    let socket = client.socket().try_clone().unwrap();
    let mut other = Client::udp_from(socket, server.udp()).with_user("bob", "builder");
    assert_eq!(other.try_refresh(None).code(), 441);
}

/// AUTH-22, CHAN-08: nobody touches another user's allocation.
#[test]
fn another_user_on_the_five_tuple_is_refused() {
    let server = TestServer::start();
    for via in Via::V4 {
        let mut client = Client::new(&server, via);
        let relayed = client.allocate();
        (client.user, client.password) = ("bob".to_owned(), "builder".to_owned());
        let delete = Packet::request(method::REFRESH).u32(a::LIFETIME, 0);
        for request in requests().into_iter().skip(1).chain([delete]) {
            assert_eq!(client.request(request).code(), 441);
        }
        assert_eq!(client.try_allocate(|packet| packet).code(), 437);
        (client.user, client.password) = ("alice".to_owned(), "wonderland".to_owned());
        client.assert_alive();
        let peer = Peer::new();
        client.send_data((NOBODY, 9).into(), b"bob permitted nothing");
        client.permit(peer.address());
        client.send_data(peer.address(), b"marker");
        peer.expect(b"marker", relayed);
    }
}

/// AUTH-23
#[test]
fn another_realm_is_challenged() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for realm in ["other.org", "", "example.org ", "EXAMPLE.ORG"] {
        client.challenge();
        client.session.as_mut().unwrap().realm = realm.into();
        for request in requests() {
            let signed = client.signed(request);
            assert_challenge(&client.exchange(&signed), 401);
        }
    }
}

/// AUTH-24, AUTH-31: keys of prepared names and passwords; the quotes of a configured realm are no
/// part of it.
#[test]
fn keys_are_made_of_prepared_strings() {
    let server = TestServer::with(|setup| {
        setup.realm = "\"example.org\"".to_owned();
        setup.user("マトリックス", "TheMatrIX");
        setup.user("wide\u{3000}space", "a\u{a0}b");
    });
    for (user, password) in [
        ("alice", "wonderland"),
        ("マトリックス", "TheMatrIX"),
        ("wide space", "a b"),
    ] {
        let mut client = Client::udp(&server).with_user(user, password);
        let challenge = client.challenge();
        assert_eq!(challenge.get(a::REALM), Some(REALM.as_bytes()));
        assert_eq!(client.try_allocate(|packet| packet).code(), 0, "{user}");
    }
}

/// AUTH-25
#[test]
fn long_names_are_taken_or_refused_and_no_more() {
    let longest = "u".repeat(508);
    let server = TestServer::with(|setup| setup.user(&longest, "password"));
    let mut client = Client::udp(&server).with_user(&longest, "password");
    client.allocate();
    for len in [509, 513, 763, 764, 800, 1200] {
        let mut client = Client::udp(&server).with_user(&"u".repeat(len), "password");
        client.challenge();
        let signed = client.signed(Packet::request(method::REFRESH));
        let code = client.exchange(&signed).code();
        assert!([400, 401].contains(&code), "{len}: {code}");
        client.session.as_mut().unwrap().realm = vec![b'r'; len];
        let signed = client.signed(Packet::request(method::REFRESH));
        let code = client.exchange(&signed).code();
        assert!([400, 401].contains(&code), "{len}: {code}");
    }
    client.assert_alive();
}

fn userhash(user: &str) -> Vec<u8> {
    Sha256::digest(format!("{user}:{REALM}")).to_vec()
}

fn with_userhash(client: &Client, packet: Packet, hash: &[u8]) -> Packet {
    let nonce = client.session.clone().unwrap().nonce;
    packet
        .attr(a::USERHASH, hash)
        .attr(a::REALM, REALM.as_bytes())
        .attr(a::NONCE, &nonce)
        .attr(a::PASSWORD_ALGORITHMS, &ALGORITHMS)
        .attr(a::PASSWORD_ALGORITHM, &SHA256)
}

/// AUTH-26
#[test]
fn a_hashed_name_will_do() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let key = client.sha256_key();
    for len in [0, 31, 33] {
        let hash = vec![7; len];
        let request = with_userhash(&client, allocate(), &hash).sha256(&key, 32);
        assert_eq!(client.exchange(&request).code(), 400, "{len} bytes");
    }
    let request = with_userhash(&client, allocate(), &userhash("carol")).sha256(&key, 32);
    assert_challenge(&client.exchange(&request), 401);
    let request = with_userhash(&client, allocate(), &userhash("alice")).sha256(&key, 32);
    let reply = client.exchange(&request);
    assert_eq!(reply.code(), 0);
    assert!(reply.is_sha256_signed(&key));
    // The allocation is alice's, whatever she is called by.
    client.assert_alive();
}

/// AUTH-26: where it was not offered it names nobody.
#[test]
fn a_hashed_name_that_was_not_offered_is_challenged() {
    let server = TestServer::with(|setup| setup.secrets = vec!["north".to_owned()]);
    let mut client = Client::udp(&server);
    client.challenge();
    let key = client.sha256_key();
    let request = with_userhash(&client, allocate(), &userhash("alice")).sha256(&key, 32);
    assert_eq!(client.exchange(&request).code(), 401);
}

/// AUTH-28
#[test]
fn the_integrity_of_an_indication_is_ignored() {
    let server = TestServer::start();
    let peer = Peer::new();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    client.permit(peer.address());
    let send = Packet::indication(method::SEND)
        .address(a::XOR_PEER_ADDRESS, peer.address())
        .attr(a::DATA, b"data");
    client.send(send.clone().sha1(b"garbage").bytes());
    peer.expect(b"data", relayed);
    client.send(
        send.attr(a::USERNAME, b"nobody")
            .sha256(b"garbage", 32)
            .bytes(),
    );
    peer.expect(b"data", relayed);
}

/// AUTH-29
#[test]
fn origin_changes_nothing() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for origin in ["https://example.com", "other.org", ""] {
        let request = allocate().attr(a::ORIGIN, origin.as_bytes());
        assert_challenge(&client.exchange(&request), 401);
    }
    let with_origin = |packet: Packet| packet.attr(a::ORIGIN, b"https://other.org");
    assert_eq!(client.try_allocate(with_origin).code(), 0);
}

/// OAUTH-02: tokens are not offered, and whoever sends one is told so rather than challenged.
#[test]
fn an_access_token_is_an_unknown_attribute() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    for request in requests() {
        let request = request.attr(a::ACCESS_TOKEN, b"token");
        let reply = client.exchange(&request);
        assert_eq!(
            (reply.code(), reply.unknown()),
            (420, vec![a::ACCESS_TOKEN])
        );
    }
}

/// AUTH-07: base64 of the time and the MAC, nothing that differs from one user to the next.
#[test]
fn a_nonce_knows_no_user() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.challenge();
    let nonce = client.session.clone().unwrap().nonce;
    let opaque = base64::engine::general_purpose::STANDARD_NO_PAD.decode(&nonce[13..]);
    assert_eq!(opaque.unwrap().len(), 11);
}
