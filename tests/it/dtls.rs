//! Clients over DTLS (RFC 7350), in a build with the feature of that name.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use openssl::ssl::{SslContext, SslMethod, SslVerifyMode, SslVersion};
use turnstone::tls::{Certificates, dtls_context};

use crate::control::ask;
use crate::harness::attribute as a;
use crate::harness::dtls::{Datagrams, DtlsStream, client_context, context, pair, pair_of, socket};
use crate::harness::tls::{NAME, NAT_DISCOVERY, TURN};
use crate::harness::{Client, DEADLINE, Packet, Peer, TestServer, eventually, method};

/// Of handshake records.
const HANDSHAKE: u8 = 22;

/// A record without encryption and with one message, of the number of both.
fn record(kind: u8, number: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u8;
    let message = [&[kind, 0, 0, len, 0, number, 0, 0, 0, 0, 0, len], body].concat();
    let len = message.len() as u8;
    let header = [HANDSHAKE, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, number, 0, len];
    [&header[..], &message].concat()
}

/// A ClientHello that offers one suite and no extensions.
fn hello(random: u8, cookie: &[u8]) -> Vec<u8> {
    let body = [
        &[0xfe, 0xfd][..],
        &[random; 32],
        &[0, cookie.len() as u8],
        cookie,
        &[0, 2, 0xc0, 0x2b, 1, 0],
    ]
    .concat();
    record(1, u8::from(!cookie.is_empty()), &body)
}

/// One that a handshake can begin with: X25519, and ECDSA with P-256.
fn able_hello(random: u8, cookie: &[u8]) -> Vec<u8> {
    let extensions = [
        0, 18, 0, 10, 0, 6, 0, 4, 0, 29, 0, 23, 0, 13, 0, 4, 0, 2, 4, 3,
    ];
    let plain = hello(random, cookie);
    let body = [&plain[25..], &extensions].concat();
    record(1, u8::from(!cookie.is_empty()), &body)
}

/// The first datagram of the server's flight.
fn expect_server_hello(socket: &UdpSocket) {
    let mut flight = [0; 2048];
    let len = socket.recv(&mut flight).unwrap();
    assert!(len > 100 && flight[13] == 2, "a ServerHello");
}

fn any_from(last: u8, server: SocketAddr) -> UdpSocket {
    let socket = socket((Ipv4Addr::new(127, 65, 0, last), 0).into(), server);
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// Says hello, and returns the cookie that the server wants back.
fn ask_for_cookie(socket: &UdpSocket, random: u8) -> Vec<u8> {
    let question = hello(random, &[]);
    socket.send(&question).unwrap();
    let mut answer = [0; 2048];
    let len = socket.recv(&mut answer).unwrap();
    assert!(len < question.len());
    // HelloVerifyRequest, in a record of the number of the question.
    assert_eq!(
        answer[..14],
        [HANDSHAKE, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 35, 3]
    );
    assert_eq!((answer[27], len), (20, 48));
    answer[28..48].to_vec()
}

fn dropped(server: &TestServer, cause: &str) -> f64 {
    server.count(&format!(
        "turnstone_dtls_dropped_total{{cause=\"{cause}\"}}"
    ))
}

fn sessions(server: &TestServer) -> f64 {
    ["established", "half_open"]
        .map(|state| server.count(&format!("turnstone_tcp_connections{{state=\"{state}\"}}")))
        .iter()
        .sum()
}

fn refused(server: &TestServer, reason: &str) -> f64 {
    server.count(&format!(
        "turnstone_tcp_connections_refused_total{{reason=\"{reason}\"}}"
    ))
}

fn ended(server: &TestServer, reason: &str) -> f64 {
    server.count(&format!(
        "turnstone_tcp_connections_ended_total{{reason=\"{reason}\"}}"
    ))
}

/// DTLS-02, BIND-01
#[test]
fn dtls_relays_both_ways() {
    let server = TestServer::start();
    for to in [server.dtls(), server.dtls6()] {
        let mut client = Client::dtls_to(to);
        let binding = client.exchange(&Packet::binding());
        assert_eq!(binding.address(a::XOR_MAPPED_ADDRESS), client.local());
        let peer = Peer::new();
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        for len in [0, 1, 1200, 9000] {
            let data = vec![7; len];
            client.send_channel(0x4000, &data);
            peer.expect(&data, relayed);
            peer.send(&data, relayed);
            client.expect_channel(0x4000, &data);
        }
        // Longer than a record, which DTLS does not cut.
        peer.send(&[1; 20_000], relayed);
        peer.send(b"next", relayed);
        client.expect_channel(0x4000, b"next");
    }
    eventually("the counts", || {
        server.count("turnstone_dtls_handshakes_total") == 2.0
            && ended(&server, "client") == 2.0
            && sessions(&server) == 0.0
    });
}

/// IDEM-01, DTLS-02: as over UDP.
#[test]
fn a_repeated_allocate_over_dtls() {
    let server = TestServer::with(|setup| setup.limits.allocations_per_user = 1);
    let mut client = Client::dtls(&server);
    let allocate = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let request = client.signed(allocate);
    let first = client.exchange(&request);
    assert_eq!(first.code(), 0);
    for _ in 0..4 {
        let again = client.exchange(&request);
        assert_eq!(
            again.all(a::XOR_RELAYED_ADDRESS),
            first.all(a::XOR_RELAYED_ADDRESS)
        );
    }
    assert_eq!(server.live_ports(), 1);
}

/// DTLS-02, ALLOC-05
#[test]
fn dtls_relays_no_tcp() {
    let server = TestServer::start();
    let mut client = Client::dtls(&server);
    let packet = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[6, 0, 0, 0]);
    assert_eq!(client.request(packet).code(), 400);
    client.allocate();
}

/// DTLS-03, BIND-06
#[test]
fn no_classic_stun_over_dtls() {
    let server = TestServer::with(|setup| setup.classic_stun = true);
    let mut client = Client::dtls(&server);
    let classic = |kind: [u8; 2]| [&kind[..], &[0, 0], &[9; 16]].concat();
    client.send(&classic([0, 1]));
    let reply = client.recv();
    assert_eq!(reply[..2], [0x01, 0x11]);
    assert_eq!(reply[4..20], [9; 16]);
    assert_eq!(reply[20..28], [0, 9, 0, 4, 0, 0, 5, 0]);
    client.expect_silence(&classic([0, 0x11]));
}

/// DTLS-04, ALLOC-29
#[test]
fn close_notify_ends_the_allocation() {
    let server = TestServer::start();
    let mut client = Client::dtls(&server);
    client.allocate();
    assert_eq!(server.live_ports(), 1);
    client.dtls_stream().close();
    eventually("its end", || {
        server.live_ports() == 0 && sessions(&server) == 0.0
    });
    let series = "turnstone_allocations_ended_total{reason=\"disconnected\"}";
    eventually("its count", || server.count(series) == 1.0);
}

/// DTLS-01: without the cookie there is nothing but an answer that is shorter than the question, and
/// not for everybody.
#[test]
fn strangers_leave_nothing_behind() {
    const HELLOS: u32 = 10_000;
    let server = TestServer::with(|setup| setup.workers = 2);
    let question = hello(1, &[]);
    let mut answers = 0;
    let mut buffer = [0; 2048];
    let mut first = Vec::new();
    for number in 0..HELLOS {
        let [_, _, high, low] = (number / 50).to_be_bytes();
        let from = Ipv4Addr::new(127, 66 + high, low, 1 + (number % 50) as u8);
        let from = UdpSocket::bind((from, 0)).unwrap();
        from.connect(server.dtls()).unwrap();
        from.send(&question).unwrap();
        // The socket's buffer is not to be what keeps answers away.
        if number % 50 == 0 {
            from.set_read_timeout(Some(DEADLINE)).unwrap();
            assert_eq!(from.recv(&mut buffer).unwrap(), 48);
            first.push(buffer[28..48].to_vec());
            answers += 1;
        }
    }
    eventually("all are looked at", || {
        let lost = ["reply_limit", "listener_overflow"].map(|cause| {
            server.count(&format!(
                "turnstone_dropped_packets_total{{cause=\"{cause}\"}}"
            ))
        });
        let answered = server.count("turnstone_dtls_cookies_total");
        answered + lost.iter().sum::<f64>() >= f64::from(HELLOS)
    });
    assert_eq!(sessions(&server), 0.0);
    assert_eq!(
        server.count("turnstone_tcp_connections_accepted_total"),
        0.0
    );
    first.sort();
    first.dedup();
    assert_eq!(first.len(), answers, "each address has its own cookie");
}

/// DTLS-01, SEC-09: as for plain STUN, and together with it.
#[test]
fn cookies_have_the_limit_of_replies() {
    let server = TestServer::with(|setup| setup.limits.unauthenticated_replies_per_s = 4);
    let socket = any_from(1, server.dtls());
    for _ in 0..100 {
        socket.send(&hello(1, &[])).unwrap();
    }
    let limited = "turnstone_dropped_packets_total{cause=\"reply_limit\"}";
    eventually("most are not answered", || server.count(limited) > 80.0);
}

/// DTLS-01: a cookie is for one address, and one hello.
#[test]
fn a_cookie_is_worth_nothing_elsewhere() {
    let server = TestServer::start();
    let (own, other) = (any_from(1, server.dtls()), any_from(2, server.dtls()));
    let cookie = ask_for_cookie(&own, 1);
    other.send(&hello(1, &cookie)).unwrap();
    own.send(&hello(2, &cookie)).unwrap();
    own.send(&hello(1, &[7; 20])).unwrap();
    eventually("all are dropped", || dropped(&server, "malformed") == 3.0);
    assert_eq!(sessions(&server), 0.0);
    own.send(&hello(1, &cookie)).unwrap();
    // What it offers is too little for OpenSSL, which says so.
    let mut alert = [0; 64];
    own.recv(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
    eventually("its end", || ended(&server, "tls_handshake") == 1.0);
}

/// DTLS-05, MSG-01: the two do not mix, on either listener.
#[test]
fn dtls_and_stun_have_their_own_listeners() {
    let server = TestServer::start();
    let plain = any_from(1, server.dtls());
    for first in [0, 1, 3, 4, 19, 64, 128, 255] {
        plain.send(&[first; 40]).unwrap();
    }
    plain.send(Packet::binding().bytes()).unwrap();
    plain.send(&[]).unwrap();
    eventually("all are dropped", || dropped(&server, "not_dtls") == 10.0);
    plain.send(&[23; 40]).unwrap();
    plain.send(&[63, 0xfe, 0xfd]).unwrap();
    eventually("neither is a record", || {
        dropped(&server, "malformed") == 2.0
    });
    ask_for_cookie(&plain, 1);
    let mut client = Client::udp(&server);
    client.expect_silence(&hello(1, &[]));
}

/// DTLS-05: a session is of one address.
#[test]
fn another_address_has_no_session() {
    let server = TestServer::start();
    let mut client = Client::dtls(&server);
    client.allocate();
    let elsewhere = any_from(3, server.dtls());
    let sealed = [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 30];
    elsewhere.send(&[&sealed[..], &[5; 30]].concat()).unwrap();
    eventually("it is dropped", || dropped(&server, "no_session") == 1.0);
    client.assert_alive();
}

/// A socket whose datagrams can be lost, or be others.
struct Unreliable {
    socket: UdpSocket,
    /// Whether each that is sent, and each that is received, is lost.
    lose: [VecDeque<bool>; 2],
    /// How many are lost that say the end of the server's handshake.
    lose_ends: usize,
}

/// Whether a datagram has what comes last in a handshake: a change of ciphers, or what is encrypted.
fn is_end(datagram: &[u8]) -> bool {
    datagram[0] == 20 || datagram[4] == 1
}

impl Datagrams for Unreliable {
    fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        match self.lose[0].pop_front() {
            Some(true) => Ok(datagram.len()),
            _ => self.socket.send(datagram),
        }
    }

    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = self.socket.recv(into)?;
        if self.lose_ends > 0 && is_end(&into[..len]) {
            self.lose_ends -= 1;
            return Err(ErrorKind::WouldBlock.into());
        }
        match self.lose[1].pop_front() {
            Some(true) => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(len),
        }
    }

    fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

/// DTLS-01: hellos, cookies, and each flight of either side; they are sent again.
#[test]
fn lost_flights_are_sent_again() {
    let server = TestServer::start();
    let client = client_context().build();
    // The client's: hello, hello with cookie, keys. The server's: cookie, certificate.
    let lost: [(usize, &[usize], usize); 6] = [
        (0, &[0], 0),
        (0, &[1], 0),
        (1, &[0], 0),
        (1, &[1], 0),
        (0, &[2], 0),
        (0, &[], 1),
    ];
    for (side, lost, lose_ends) in lost {
        let mut lose = [VecDeque::new(), VecDeque::new()];
        lose[side] = (0..=2).map(|number| lost.contains(&number)).collect();
        let socket = socket((Ipv4Addr::new(127, 67, 0, 1), 0).into(), server.dtls());
        let local = socket.local_addr().unwrap();
        let wire = Box::new(Unreliable {
            socket,
            lose,
            lose_ends,
        });
        let stream = DtlsStream::try_connect_over(&client, wire, local).unwrap();
        Client::dtls_over(stream).allocate();
    }
}

/// DTLS-05: a hello without a cookie does nothing to the session of its address, and one with a cookie nothing
/// before its handshake is complete (RFC 6347 §4.2.8).
#[test]
fn a_new_session_takes_the_place_of_the_old_one() {
    let server = TestServer::with(|setup| setup.stream.first_message_s = 1);
    let from = (Ipv4Addr::new(127, 68, 0, 1), 0).into();
    let mut client = Client::dtls_over(DtlsStream::connect(from, server.dtls()));
    let old = client.allocate();
    let peer = Peer::new();
    client.permit(peer.address());
    // Somebody else who writes the address cannot know the cookie. It is the same socket here.
    let twin = client.dtls_stream().stream.get_ref().try_clone();
    let cookie = {
        twin.send(&hello(1, &[])).unwrap();
        let mut answer = [0; 64];
        assert_eq!(twin.recv(&mut answer).unwrap(), 48);
        answer[28..48].to_vec()
    };
    twin.send(&hello(1, &[9; 20])).unwrap();
    client.assert_alive();
    twin.send(&hello(1, &cookie)).unwrap();
    let mut alert = [0; 64];
    twin.recv(&mut alert).unwrap();
    assert_eq!(alert[0], 21);
    peer.send(b"still here", old);
    client.expect_data(peer.address(), b"still here");
    client.assert_alive();

    // A handshake that does not go on has its time, and the old session goes on beside it and behind it.
    twin.send(&able_hello(1, &cookie)).unwrap();
    expect_server_hello(&twin);
    client.assert_alive();
    peer.send(b"beside it", old);
    client.expect_data(peer.address(), b"beside it");
    eventually("it has had its time", || {
        ended(&server, "no_first_message") == 1.0
    });
    client.assert_alive();

    let again = DtlsStream::try_connect(&client_context().build(), twin).unwrap();
    eventually("the old one ends", || server.live_ports() == 0);
    eventually("it is counted", || ended(&server, "replaced") == 1.0);
    let mut again = Client::dtls_over(again);
    again.allocate();
    eventually("there is one", || sessions(&server) == 1.0);
}

/// DTLS-05: what is not authentic, or is no record, is dropped whatever it looks like, and the session
/// goes on. OpenSSL 3.0 by itself gives a session up for a short record.
#[test]
fn forged_records_are_dropped() {
    let server = TestServer::start();
    let mut client = Client::dtls(&server);
    client.allocate();
    let twin = client.dtls_stream().stream.get_ref().try_clone();
    for content in 20..=25 {
        for epoch in 0..=2 {
            for len in (0..=50).chain([200, 255]) {
                let number = [0, 0, 0, 0, 1, len];
                let header = [content, 0xfe, 0xfd, 0, epoch];
                let forged = [&header[..], &number, &[0, len], &vec![2; len.into()]].concat();
                twin.send(&forged).unwrap();
            }
        }
        client.assert_alive();
    }
    // Of those of the right epoch and length that say they are data, and of those of a handshake, which
    // are heard a few times as the client may have missed its end; it has said something since.
    eventually("the count", || dropped(&server, "discarded") >= 29.0);
    assert_eq!(sessions(&server), 1.0);
}

/// SEC-12: before a handshake is complete OpenSSL keeps what is encrypted, so it is shown little of that,
/// and nothing that promises much.
#[test]
fn a_handshake_keeps_little() {
    const SHOWN: u8 = 6;
    let server = TestServer::start();
    let socket = any_from(5, server.dtls());
    let cookie = ask_for_cookie(&socket, 1);
    socket.send(&able_hello(1, &cookie)).unwrap();
    expect_server_hello(&socket);
    for number in 0..SHOWN + 2 {
        let header = [HANDSHAKE, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, number, 0, 48];
        socket.send(&[&header[..], &[7; 48]].concat()).unwrap();
    }
    eventually("two are too many", || dropped(&server, "discarded") == 2.0);
    let mut keys = record(16, 2, &[1]);
    keys[15..17].copy_from_slice(&[0x10, 1]);
    socket.send(&keys).unwrap();
    eventually("one is too long", || dropped(&server, "malformed") == 1.0);
    assert_eq!(sessions(&server), 1.0);
}

/// SEC-12: sessions are connections, and have their limits.
#[test]
fn sessions_are_limited() {
    let server = TestServer::with(|setup| setup.stream.connections_per_address = 2);
    let from = |last| Ipv4Addr::new(127, 69, 0, last);
    let connect = |last| {
        let stream = DtlsStream::connect((from(last), 0).into(), server.dtls());
        let mut client = Client::dtls_over(stream);
        client.allocate();
        client
    };
    let mut open = [connect(1), connect(1)];
    let one_more = socket((from(1), 0).into(), server.dtls());
    one_more.set_read_timeout(Some(DEADLINE)).unwrap();
    let cookie = ask_for_cookie(&one_more, 1);
    one_more.send(&hello(1, &cookie)).unwrap();
    eventually("it is refused", || refused(&server, "address_limit") == 1.0);
    let mut other = connect(2);
    open[0].dtls_stream().close();
    eventually("room", || server.live_ports() == 2);
    connect(1);
    open[1].assert_alive();
    other.assert_alive();
}

/// SEC-12, SEC-17: who has not said anything gives way, whoever else comes.
#[test]
fn half_open_sessions_give_way() {
    let server = TestServer::with(|setup| setup.stream.half_open = 2);
    let client = client_context().build();
    let connect = |last| {
        let socket = socket((Ipv4Addr::new(127, 70, 0, last), 0).into(), server.dtls());
        DtlsStream::try_connect(&client, socket).unwrap()
    };
    let mut silent = [1, 2].map(connect);
    let mut third = connect(3);
    third.send(Packet::binding().bytes());
    assert!(third.recv().is_some());
    eventually("the count", || ended(&server, "half_open_limit") == 1.0);
    assert!(silent[0].recv().is_none(), "the oldest is told");
    silent[1].send(Packet::binding().bytes());
    assert!(silent[1].recv().is_some());
}

/// SEC-17: as TCP clients.
#[test]
fn silent_sessions_end() {
    let server = TestServer::with(|setup| setup.stream.first_message_s = 1);
    let mut client = Client::dtls(&server);
    assert!(client.dtls_stream().recv().is_none());
    eventually("the count", || ended(&server, "no_first_message") == 1.0);
    // One whose handshake never ends.
    let socket = any_from(4, server.dtls());
    let cookie = ask_for_cookie(&socket, 1);
    socket.send(&able_hello(1, &cookie)).unwrap();
    expect_server_hello(&socket);
    eventually("it has its time", || {
        ended(&server, "no_first_message") == 2.0
    });
    assert_eq!(sessions(&server), 0.0);
}

/// ACL-01: before anything is answered.
#[test]
fn clients_that_are_refused_get_no_cookie() {
    let server = TestServer::with(|setup| {
        setup.clients.deny = vec!["127.65.0.9/32".parse().unwrap()];
    });
    let refused = any_from(9, server.dtls());
    refused.send(&hello(1, &[])).unwrap();
    let series = "turnstone_dropped_packets_total{cause=\"client_refused\"}";
    eventually("it is refused", || server.count(series) == 1.0);
    assert_eq!(server.count("turnstone_dtls_cookies_total"), 0.0);
    ask_for_cookie(&any_from(8, server.dtls()), 1);
}

/// DTLS-06: suites with forward secrecy and AEAD, DTLS 1.2, no compression.
#[test]
fn suites_are_those_of_today() {
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let mut own = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    own.distinguished_name.push(rcgen::DnType::CommonName, NAME);
    let own = own.self_signed(&rsa).unwrap();
    let rsa = pair_of(&own.pem(), &rsa.serialize_pem());
    let server = TestServer::with(|setup| setup.dtls = Some(context(vec![pair(NAME), rsa])));
    let try_with = |suite: &str, version: SslVersion| {
        let mut client = SslContext::builder(SslMethod::dtls_client()).unwrap();
        client.set_verify(SslVerifyMode::NONE);
        client.set_cipher_list(suite).unwrap();
        client.set_security_level(0);
        client.set_min_proto_version(Some(version)).unwrap();
        client.set_max_proto_version(Some(version)).unwrap();
        let socket = socket((Ipv4Addr::new(127, 71, 0, 1), 0).into(), server.dtls());
        DtlsStream::try_connect(&client.build(), socket)
    };
    for suite in [
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ] {
        let stream = try_with(suite, SslVersion::DTLS1_2).unwrap();
        let ssl = stream.stream.ssl();
        assert_eq!(ssl.current_cipher().unwrap().name(), suite);
        assert_eq!(ssl.version_str(), "DTLSv1.2");
        Client::dtls_over(stream).allocate();
    }
    for (suite, version) in [
        ("AES128-GCM-SHA256", SslVersion::DTLS1_2),
        ("AES128-SHA", SslVersion::DTLS1_2),
        ("ECDHE-ECDSA-AES128-SHA256", SslVersion::DTLS1_2),
        ("ECDHE-RSA-AES128-SHA", SslVersion::DTLS1_2),
        ("DHE-RSA-AES128-GCM-SHA256", SslVersion::DTLS1_2),
        ("ADH-AES128-GCM-SHA256", SslVersion::DTLS1_2),
        ("ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", SslVersion::DTLS1),
    ] {
        assert!(try_with(suite, version).is_err(), "{suite}");
    }
}

/// TLS-03: whoever comes sees the new certificate, and the session there is goes on.
#[test]
fn a_certificate_is_exchanged_under_live_sessions() {
    let certificates = Arc::new(Certificates::new(vec![pair(NAME)]));
    let server = TestServer::with(|setup| {
        setup.dtls = Some(dtls_context(&certificates).unwrap());
    });
    let shown = |client: &mut Client| {
        let ssl = client.dtls_stream().stream.ssl();
        ssl.peer_certificate().unwrap().to_der().unwrap()
    };
    let mut old = Client::dtls(&server);
    old.allocate();
    certificates.replace(vec![pair("elsewhere.example.org"), pair(NAME)]);
    old.assert_alive();
    let mut new = Client::dtls(&server);
    new.allocate();
    assert_ne!(shown(&mut old), shown(&mut new));
    // The harness asks for the name, and verifies it.
    let name = new.dtls_stream().stream.ssl().peer_certificate().unwrap();
    let names = name.subject_alt_names().unwrap();
    assert_eq!(names[0].dnsname(), Some(NAME));
}

/// ALPN-01, ALPN-02
#[test]
fn protocols_are_told_back_over_dtls() {
    let server = TestServer::start();
    let with = |offered: &[&[u8]]| {
        let mut client = client_context();
        let offered: Vec<u8> = offered
            .iter()
            .flat_map(|name| [&[name.len() as u8], *name].concat())
            .collect();
        client.set_alpn_protos(&offered).unwrap();
        let socket = socket((Ipv4Addr::new(127, 72, 0, 1), 0).into(), server.dtls());
        let stream = DtlsStream::try_connect(&client.build(), socket).unwrap();
        let chosen = stream
            .stream
            .ssl()
            .selected_alpn_protocol()
            .map(<[u8]>::to_vec);
        (Client::dtls_over(stream), chosen)
    };
    let (mut client, chosen) = with(&[b"h2", TURN]);
    assert_eq!(chosen.as_deref(), Some(TURN));
    client.allocate();
    let (mut client, chosen) = with(&[b"h2"]);
    assert_eq!(chosen, None);
    client.allocate();
    let (mut client, chosen) = with(&[NAT_DISCOVERY]);
    assert_eq!(chosen.as_deref(), Some(NAT_DISCOVERY));
    assert_eq!(client.exchange(&Packet::binding()).code(), 0);
    let allocate = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    assert_eq!(client.exchange(&allocate).code(), 403);
}

/// RELOAD-05: a listener that is gone serves who has an allocation, and is closed with the last.
#[test]
fn a_dtls_listener_comes_and_goes() {
    let mut settings = Vec::new();
    let server = TestServer::with(|setup| {
        setup.dtls_listeners = vec![(Ipv4Addr::LOCALHOST, 0).into()];
        settings.push(setup.settings());
        setup.dtls_listeners = vec![];
        settings.push(setup.settings());
    });
    let control = server.engine.control();
    let (with, without) = (settings.remove(0), settings.remove(0));
    ask(control.exchange(with)).unwrap();
    let listeners = control.listeners(turnstone::turn::Transport::Dtls);
    let mut owner = Client::dtls_to(listeners[0]);
    owner.allocate();
    let mut other = Client::dtls_to(listeners[0]);
    other.send(Packet::binding().bytes());
    other.recv();
    ask(control.exchange(without)).unwrap();
    assert_eq!(ask(control.close_left_listeners()).unwrap(), 1);
    owner.assert_alive();
    owner.delete();
    assert_eq!(ask(control.close_left_listeners()).unwrap(), 0);
    assert!(
        control
            .listeners(turnstone::turn::Transport::Dtls)
            .is_empty()
    );
    assert!(other.dtls_stream().recv().is_none(), "it is told");
}
