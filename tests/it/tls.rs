//! Clients on TLS (RFC 8656 §3.1, RFC 7443): what a listener takes, handshakes and their ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, HandshakeKind,
    ProtocolVersion, RootCertStore, ServerConnection, StreamOwned, SupportedCipherSuite,
    SupportedProtocolVersion,
};
use socket2::{Domain, Socket, Type};
use turnstone::engine::{Cursor, Filter, Settings};
use turnstone::turn::Transport;

use crate::control::ask;
use crate::harness::tls::{self, ACME, NAT_DISCOVERY, TURN, VERSIONS};
use crate::harness::{Client, DEADLINE, Message, Packet, Peer, TestServer, Via, eventually};

fn connect_to(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn with_versions(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    Arc::new(tls::client_config(versions))
}

/// Connections that ended for a reason.
fn ended(server: &TestServer, reason: &str) -> f64 {
    let series = format!("turnstone_tcp_connections_ended_total{{reason=\"{reason}\"}}");
    server.count(&series)
}

/// Data goes both ways.
#[track_caller]
fn relay(client: &mut Client) -> (Peer, SocketAddr) {
    let peer = Peer::new();
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    relay_again(client, &peer, relayed);
    (peer, relayed)
}

#[track_caller]
fn relay_again(client: &mut Client, peer: &Peer, relayed: SocketAddr) {
    client.send_channel(0x4000, b"to the peer");
    peer.expect(b"to the peer", relayed);
    peer.send(b"to the client", relayed);
    client.expect_channel(0x4000, b"to the client");
}

/// TLS-01
#[test]
fn both_versions_relay_both_ways() {
    let server = TestServer::start();
    for version in VERSIONS {
        let config = with_versions(&[version]);
        let stream = tls::connect(&config, connect_to(server.tls())).unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(version.version));
        relay(&mut Client::tls_over(stream));
    }
    for version in ["1.2", "1.3"] {
        let series =
            format!("turnstone_tls_handshakes_total{{version=\"{version}\",kind=\"full\"}}");
        eventually("the count", || server.count(&series) == 1.0);
    }
}

/// TLS-06: libnice says bare STUN to the TLS port, and operators have one port for all.
#[test]
fn a_listener_takes_both() {
    let server = TestServer::start();
    let mut plain = Client::tcp_to(server.tls());
    let mut secret = Client::tls_to(server.tcp());
    for (client, transport) in [(&mut plain, Transport::Tcp), (&mut secret, Transport::Tls)] {
        relay(client);
        let list = server.engine.control();
        let page = ask(list.list(&Filter::default(), Cursor::default(), 9)).unwrap();
        let local = client.local();
        let mut records = page.records.iter().map(|record| record.five_tuple);
        let five_tuple = records.find(|it| it.client == local).unwrap();
        assert_eq!(five_tuple.transport, transport);
    }
}

/// TLS-06
#[test]
fn a_strict_listener_takes_its_own() {
    let server = TestServer::with(|setup| setup.strict_listeners = setup.tls_listeners.clone());
    for via in Via::STREAMS {
        relay(&mut Client::new(&server, via));
    }
    let mut plain = Client::tcp_to(server.tls());
    plain.send(Packet::binding().bytes());
    assert_eq!(plain.expect_close(), b"");
    assert!(tls::connect(&with_versions(&VERSIONS), connect_to(server.tcp())).is_err());
    eventually("both counts", || {
        ended(&server, "not_tls") == 1.0 && ended(&server, "not_turn") == 1.0
    });
}

/// TLS-06
#[test]
fn without_a_certificate_there_is_no_tls() {
    let server = TestServer::with(|setup| setup.tls = None);
    assert!(tls::connect(&with_versions(&VERSIONS), connect_to(server.tcp())).is_err());
    eventually("the count", || ended(&server, "not_turn") == 1.0);
    relay(&mut Client::tcp(&server));
}

/// STREAM-01: one byte a segment from the first of the ClientHello on, a frame in many records, and
/// many frames in one.
#[test]
fn segments_and_records_do_not_matter() {
    let server = TestServer::start();
    let peer = Peer::new();
    for version in VERSIONS {
        let mut sock = connect_to(server.tls());
        sock.set_nodelay(true).unwrap();
        let mut session = tls::session(&with_versions(&[version]));
        while session.is_handshaking() {
            let mut bytes = Vec::new();
            while session.wants_write() {
                session.write_tls(&mut bytes).unwrap();
            }
            for byte in bytes {
                sock.write_all(&[byte]).unwrap();
            }
            if session.is_handshaking() {
                session.read_tls(&mut sock).unwrap();
                session.process_new_packets().unwrap();
            }
        }
        let stream = StreamOwned::new(session, sock);
        let mut client = Client::tls_over(stream);
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        let binding = Packet::binding();
        let frames = [
            binding.bytes(),
            b"\x40\x00\x00\x05hello\0\0\0",
            b"\x40\x00\x00\x04data",
        ]
        .concat();
        for (record, segment) in [(1, 1), (1, 1000), (7, 3), (frames.len(), 1), (9, 40)] {
            let tls::TlsStream { conn, sock } = client.tls_stream();
            let mut bytes = Vec::new();
            for part in frames.chunks(record) {
                conn.writer().write_all(part).unwrap();
                while conn.wants_write() {
                    conn.write_tls(&mut bytes).unwrap();
                }
            }
            for part in bytes.chunks(segment) {
                sock.write_all(part).unwrap();
            }
            assert_eq!(Message::parse(&client.recv()).id(), binding.id());
            peer.expect(b"hello", relayed);
            peer.expect(b"data", relayed);
        }
    }
}

/// STREAM-02: the longest frames take several records, each way.
#[test]
fn long_frames_take_many_records() {
    let server = TestServer::start();
    let mut client = Client::tls(&server);
    let (peer, relayed) = relay(&mut client);
    for len in [16_380, 16_384, 20_000, 40_000, 65_000] {
        let data: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
        client.send_channel(0x4000, &data);
        peer.expect(&data, relayed);
        peer.send(&data, relayed);
        client.expect_channel(0x4000, &data);
    }
}

/// TLS-01: new keys in the middle of a call, of which nobody takes notice.
#[test]
fn keys_are_updated() {
    let server = TestServer::start();
    let mut client = Client::tls(&server);
    let version = client.tls_stream().conn.protocol_version();
    assert_eq!(version, Some(ProtocolVersion::TLSv1_3));
    let (peer, relayed) = relay(&mut client);
    for _ in 0..3 {
        client.tls_stream().conn.refresh_traffic_keys().unwrap();
        relay_again(&mut client, &peer, relayed);
    }
}

/// TLS-01: what is no ClientHello, what is none of ours, and what breaks later end the connection and
/// are counted for what they are.
#[test]
fn a_failed_handshake_ends_the_connection() {
    let server = TestServer::start();
    let mut hello = Vec::new();
    let mut session = tls::session(&with_versions(&VERSIONS));
    session.write_tls(&mut hello).unwrap();
    let wrong: [Vec<u8>; 4] = [
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\xFF".to_vec(),
        b"\x16\x03\x01\x00\x00".to_vec(),
        b"\x16\x03\x01\x40\x01\x01\x00\x3F\xFD".to_vec(),
        [
            &hello[..],
            b"\x17\x03\x03\x00\x20 garbage that nobody encrypted..",
        ]
        .concat(),
    ];
    for bytes in &wrong[..2] {
        let mut sock = connect_to(server.tls());
        sock.write_all(bytes).unwrap();
        let mut alert = Vec::new();
        sock.read_to_end(&mut alert).unwrap();
        assert_eq!((alert.len(), &alert[..3]), (7, &b"\x15\x03\x03"[..]));
    }
    let mut sock = connect_to(server.tls());
    sock.write_all(&wrong[3]).unwrap();
    let mut rest = Vec::new();
    assert!(sock.read_to_end(&mut rest).is_ok() && !rest.is_empty());
    eventually("the count", || ended(&server, "tls_handshake") == 3.0);

    let mut sock = connect_to(server.tls());
    sock.write_all(&wrong[2]).unwrap();
    sock.write_all(&[0; 16_400]).unwrap();
    let closed = sock.read(&mut [0; 1]);
    assert!(matches!(closed, Ok(0)) || closed.is_err(), "{closed:?}");
    eventually("the count", || ended(&server, "hello_too_long") == 1.0);

    // What came before is looked at, though nothing can be answered any more.
    let mut client = Client::tls(&server);
    client.allocate();
    let tls::TlsStream { conn, sock } = client.tls_stream();
    conn.writer().write_all(Packet::binding().bytes()).unwrap();
    let mut bytes = Vec::new();
    conn.write_tls(&mut bytes).unwrap();
    bytes.extend(b"\x17\x03\x03\x00\x20 garbage that nobody encrypted..");
    sock.write_all(&bytes).unwrap();
    eventually("the end of the allocation", || server.live_ports() == 0);
    eventually("the count", || ended(&server, "tls_broken") == 1.0);
}

/// SEC-19: a ClientHello with a byte that is wrong is a handshake or none, and nobody else minds.
#[test]
fn a_damaged_hello_disturbs_nobody() {
    let server = TestServer::start();
    let mut owner = Client::tls(&server);
    let (peer, relayed) = relay(&mut owner);
    let mut hello = Vec::new();
    let mut session = tls::session(&with_versions(&VERSIONS));
    session.write_tls(&mut hello).unwrap();
    for place in (0..hello.len()).step_by(3) {
        let mut damaged = hello.clone();
        damaged[place] ^= 1 << (place % 8);
        let mut sock = connect_to(server.tls());
        sock.write_all(&damaged).unwrap();
        sock.shutdown(Shutdown::Write).unwrap();
        // Whatever the answer is, it ends.
        let _ = sock.read_to_end(&mut Vec::new());
    }
    relay_again(&mut owner, &peer, relayed);
}

/// TLS-03: a client that does not trust the certificate says so.
#[test]
fn a_client_may_not_accept_the_certificate() {
    let server = TestServer::start();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&VERSIONS)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    config.enable_sni = false;
    assert!(tls::connect(&Arc::new(config), connect_to(server.tls())).is_err());
    eventually("the count", || ended(&server, "tls_handshake") == 1.0);
}

/// ALPN-01, ALPN-02: what the client offers is agreed, and who is here for NAT discovery gets that.
#[test]
fn protocols_are_agreed() {
    let server = TestServer::start();
    let connect = |offered: &[&[u8]]| {
        let mut config = tls::client_config(&VERSIONS);
        config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
        tls::connect(&Arc::new(config), connect_to(server.tls()))
    };
    for (offered, agreed) in [
        (&[][..], None),
        (&[TURN][..], Some(TURN)),
        (&[NAT_DISCOVERY, TURN], Some(TURN)),
        (&[b"h2", TURN], Some(TURN)),
    ] {
        let stream = connect(offered).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), agreed);
        relay(&mut Client::tls_over(stream));
    }
    let stream = connect(&[NAT_DISCOVERY]).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(NAT_DISCOVERY));
    let mut client = Client::tls_over(stream);
    client.expect_nothing();
    for method in [3, 4, 8, 9] {
        let reply = client.exchange(&Packet::request(method));
        assert_eq!(reply.code(), 403);
    }
    client.expect_silence(Packet::indication(6).bytes());
    // As coturn does, which some clients count on.
    let stream = connect(&[b"h2"]).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), None);
    relay(&mut Client::tls_over(stream));
}

/// A server that authorities may look at.
fn server_for_authorities() -> TestServer {
    let mut config = tls::server_config();
    config.alpn_protocols = vec![TURN.to_vec(), ACME.to_vec()];
    config.send_tls13_tickets = 0;
    TestServer::with(|setup| setup.tls = Some(Arc::new(config)))
}

/// An authority that has all that it needs, in TLS 1.3, and has not said so.
fn authority_at(server: &TestServer) -> (ClientConnection, TcpStream) {
    let mut config = tls::client_config(&VERSIONS[1..]);
    config.alpn_protocols = vec![ACME.to_vec()];
    config.enable_secret_extraction = true;
    let mut session = tls::session(&Arc::new(config));
    let mut sock = connect_to(server.tls());
    session.write_tls(&mut sock).unwrap();
    while session.is_handshaking() {
        session.read_tls(&mut sock).unwrap();
        session.process_new_packets().unwrap();
    }
    assert_eq!(session.alpn_protocol(), Some(ACME));
    (session, sock)
}

/// What a client has to say, and behind it a record with this in it.
fn with_record(mut session: ClientConnection, typ: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight).unwrap();
    }
    let Some(SupportedCipherSuite::Tls13(suite)) = session.negotiated_cipher_suite() else {
        panic!("TLS 1.3");
    };
    let (number, secrets) = session.dangerous_extract_secrets().unwrap().tx;
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
    | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
    else {
        panic!("an unknown cipher");
    };
    let message = OutboundPlainMessage {
        typ,
        version: ProtocolVersion::TLSv1_2,
        payload: OutboundChunks::Single(payload),
    };
    let mut encrypter = suite.aead_alg.encrypter(key, iv);
    flight.extend(encrypter.encrypt(message, number).unwrap().encode());
    flight
}

/// ACME-06: who offers what an authority does is let go after the handshake, and takes
/// nothing along if it has begun another message meanwhile.
#[test]
fn an_authority_may_leave_half_a_message_behind() {
    let server = server_for_authorities();
    let (session, mut sock) = authority_at(&server);
    let flight = with_record(session, ContentType::Handshake, &[24, 0]);
    sock.write_all(&flight).unwrap();
    let mut rest = Vec::new();
    sock.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.len(), rest[0]), (24, 23), "a close_notify");
    eventually("the count", || ended(&server, "client") == 1.0);
    relay(&mut Client::tls(&server));
}

/// ACME-06: a request in the flight that ends the handshake is not looked at.
#[test]
fn an_authority_gets_nothing_else() {
    let server = server_for_authorities();
    let (session, mut sock) = authority_at(&server);
    let request = Packet::binding();
    let flight = with_record(session, ContentType::ApplicationData, request.bytes());
    sock.write_all(&flight).unwrap();
    let mut rest = Vec::new();
    sock.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.len(), rest[0]), (24, 23), "a close_notify alone");
    eventually("the count", || ended(&server, "client") == 1.0);
    let requests = "turnstone_requests_total{method=\"Binding\"}";
    assert_eq!(server.count(requests), 0.0);
}

/// TLS-01: whichever worker a client comes back to.
#[test]
fn sessions_are_resumed_across_workers() {
    let server = TestServer::with(|setup| setup.workers = 3);
    for version in VERSIONS {
        let config = with_versions(&[version]);
        let mut kinds = Vec::new();
        for _ in 0..12 {
            let stream = tls::connect(&config, connect_to(server.tls())).unwrap();
            kinds.push(stream.conn.handshake_kind().unwrap());
            // The tickets are there when this is answered.
            relay(&mut Client::tls_over(stream));
        }
        assert_eq!(kinds[0], HandshakeKind::Full);
        assert_eq!(kinds[1..], [HandshakeKind::Resumed; 11]);
    }
}

/// TLS-03: two hundred calls go on while the certificate is another one, whoever comes sees that,
/// and without one there is no TLS for newcomers.
#[test]
fn a_certificate_is_exchanged_under_live_connections() {
    const CALLS: usize = 200;
    let configure = |setup: &mut crate::harness::Setup| {
        setup.workers = 2;
        setup.stream.connections = 2 * CALLS as u32;
        setup.stream.connections_per_address = 2 * CALLS as u32;
        setup.limits.allocations_per_user = 2 * CALLS as u32;
        setup.limits.allocations_per_address = 2 * CALLS as u32;
        setup.ports = *setup.ports.start()..=setup.ports.start() + 2 * CALLS as u16;
    };
    let mut settings = None;
    let server = TestServer::with(|setup| {
        configure(setup);
        let mut later = setup.settings();
        later.tls = Some(Arc::new(tls::server_config()));
        settings = Some(later);
    });
    let mut calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let mut client = Client::tls(&server);
            let (peer, relayed) = relay(&mut client);
            (client, peer, relayed)
        })
        .collect();
    let before = tls::shown(calls[0].0.tls_stream());
    let control = server.engine.control();
    ask(control.exchange(settings.unwrap())).unwrap();
    for (client, peer, relayed) in &mut calls {
        relay_again(client, peer, *relayed);
    }
    let mut newcomer = Client::tls(&server);
    assert_ne!(tls::shown(newcomer.tls_stream()), before);
    relay(&mut newcomer);
}

/// TLS-06, TLS-03: strictness and TLS itself change for who comes, and for nobody who is there.
#[test]
fn what_listeners_take_is_exchanged() {
    let mut settings = Vec::new();
    let server = TestServer::with(|setup| {
        settings.push(Settings {
            tls: None,
            ..setup.settings()
        });
        settings.push(Settings {
            strict_listeners: setup.tls_listeners.clone(),
            ..setup.settings()
        });
    });
    let control = server.engine.control();
    let calls = [Client::tcp_to(server.tls()), Client::tls_to(server.tcp())];
    let mut calls = calls.map(|mut client| {
        let (peer, relayed) = relay(&mut client);
        (client, peer, relayed)
    });
    ask(control.exchange(settings.pop().unwrap())).unwrap();
    let mut plain = Client::tcp_to(server.tls());
    plain.send(Packet::binding().bytes());
    assert_eq!(plain.expect_close(), b"");
    relay(&mut Client::tls(&server));
    ask(control.exchange(settings.pop().unwrap())).unwrap();
    assert!(tls::connect(&with_versions(&VERSIONS), connect_to(server.tls())).is_err());
    relay(&mut Client::tcp_to(server.tls()));
    for (client, peer, relayed) in &mut calls {
        relay_again(client, peer, *relayed);
    }
}

/// RELOAD-05: where both have port 0, a listener for TLS comes and goes beside that for TCP, which stays
/// where it is.
#[test]
fn a_port_of_the_kernels_choice_is_one_for_each() {
    let mut settings = Vec::new();
    let server = TestServer::with(|setup| {
        settings.push(setup.settings());
        settings.push(Settings {
            tls_listeners: vec![],
            ..setup.settings()
        });
    });
    let control = server.engine.control();
    let at = |transport| control.listeners(transport);
    let (tcp, tls) = (at(Transport::Tcp), at(Transport::Tls));
    ask(control.exchange(settings.pop().unwrap())).unwrap();
    assert_eq!(
        (at(Transport::Tcp), at(Transport::Tls)),
        (tcp.clone(), vec![])
    );
    assert!(TcpStream::connect(tls[0]).is_err());
    ask(control.exchange(settings.pop().unwrap())).unwrap();
    assert_eq!(
        (at(Transport::Tcp), at(Transport::Tls).len()),
        (tcp, tls.len())
    );
    relay(&mut Client::tls_to(at(Transport::Tls)[0]));
    relay(&mut Client::tcp(&server));
}

/// A session of a server that takes early data, as one at the same name may have been.
fn with_session_of_another(config: &Arc<ClientConfig>) {
    let mut elsewhere = tls::server_config();
    elsewhere.max_early_data_size = 1 << 15;
    let mut there = ServerConnection::new(Arc::new(elsewhere)).unwrap();
    let mut client = tls::session(config);
    while client.wants_write() || there.wants_write() {
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        there.read_tls(&mut &bytes[..]).unwrap();
        there.process_new_packets().unwrap();
        let mut bytes = Vec::new();
        while there.wants_write() {
            there.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets().unwrap();
    }
}

/// TLS-04: no early data is asked for. Who sends some, because a server of this name once took it, has to
/// come again, wherever its ClientHello is cut, and is served then.
#[test]
fn early_data_needs_a_second_attempt() {
    const EARLY: usize = 1 << 14;

    let server = TestServer::start();
    for is_split in [false, true] {
        let mut config = tls::client_config(&VERSIONS);
        config.enable_early_data = true;
        let config = Arc::new(config);
        with_session_of_another(&config);
        let mut session = tls::session(&config);
        session
            .early_data()
            .unwrap()
            .write_all(&[7; EARLY])
            .unwrap();
        let mut bytes = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut bytes).unwrap();
        }
        let hello = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
        assert!(bytes.len() > hello + EARLY);
        let mut stream = connect_to(server.tls());
        stream.set_nodelay(true).unwrap();
        let (start, rest) = bytes.split_at(if is_split { hello - 1 } else { 0 });
        stream.write_all(start).unwrap();
        // Then the server has read that: it does one thing after the other.
        Client::tcp(&server).expect_nothing();
        stream.write_all(rest).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        let said = stream.write_all(Packet::binding().bytes());
        let answer = said.and_then(|()| stream.read(&mut [0; 64]));
        // An alert says why, unless the client writes when the connection has been closed behind it.
        assert!(answer.is_err(), "{answer:?}");
        let again = tls::connect(&config, connect_to(server.tls())).unwrap();
        relay(&mut Client::tls_over(again));
    }
    eventually("the count", || ended(&server, "tls_handshake") == 2.0);
    assert_eq!(ended(&server, "hello_too_long"), 0.0);
}

/// TLS-04: a thousand that say half of a ClientHello, or all of it and then nothing, take the room of
/// their own address.
#[test]
fn half_open_handshakes_keep_nobody_out() {
    let server = TestServer::with(|setup| setup.stream.first_message_s = 60);
    let mut hello = Vec::new();
    let mut session = tls::session(&with_versions(&VERSIONS));
    session.write_tls(&mut hello).unwrap();
    let from = |ip: &str| {
        let ip: IpAddr = ip.parse().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
        socket.connect(&server.tls().into()).unwrap();
        TcpStream::from(socket)
    };
    let mut slow = from("127.0.0.2");
    slow.write_all(&hello[..hello.len() / 2]).unwrap();
    let crowd: Vec<TcpStream> = (0..1000)
        .map(|index| {
            let mut stream = from("127.0.0.1");
            let said = &hello[..hello.len() / (1 + index % 2)];
            // The server may have closed it already.
            let _ = stream.write_all(said);
            stream
        })
        .collect();
    relay(&mut Client::tls_over(tls::connect_default(from(
        "127.0.0.3",
    ))));
    slow.write_all(&hello[hello.len() / 2..]).unwrap();
    slow.set_read_timeout(Some(DEADLINE)).unwrap();
    slow.read_exact(&mut [0; 100]).unwrap();
    // All but the two hundred that there may be.
    eventually("the end of the crowd", || {
        let limits = ["address_limit", "connection_limit", "half_open_limit"];
        limits
            .map(|limit| ended(&server, limit))
            .iter()
            .sum::<f64>()
            >= 800.0
    });
    drop(crowd);
}

/// TLS-04: the deadline is that of all connections, and the handshake is no message.
#[test]
fn a_handshake_is_no_first_message() {
    let server = TestServer::with(|setup| setup.stream.first_message_s = 2);
    let mut half = connect_to(server.tls());
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03")
        .unwrap();
    let mut whole = Client::tls(&server);
    assert_eq!(half.read(&mut [0; 64]).unwrap(), 0);
    assert_eq!(whole.expect_close(), b"", "with a close_notify");
    eventually("the count", || ended(&server, "no_first_message") == 2.0);
}

/// ALLOC-29, STREAM-04: close_notify ends the allocation and is answered, and so is the end of TCP.
#[test]
fn a_close_is_one_of_both_sides() {
    let server = TestServer::start();
    for version in VERSIONS {
        let config = with_versions(&[version]);
        let stream = tls::connect(&config, connect_to(server.tls())).unwrap();
        let mut client = Client::tls_over(stream);
        client.allocate();
        let request = Packet::binding();
        client.send(request.bytes());
        let stream = client.tls_stream();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        assert_eq!(Message::parse(&client.recv()).id(), request.id());
        assert_eq!(client.expect_close(), b"", "with a close_notify");
        eventually("the end of the allocation", || server.live_ports() == 0);
    }
    let mut client = Client::tls(&server);
    client.allocate();
    client.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.expect_close(), b"", "with a close_notify");
    eventually("the end of the allocation", || server.live_ports() == 0);
}

/// SEC-12: first bytes and half records are charged like half frames.
#[test]
fn half_records_are_charged() {
    let server = TestServer::with(|setup| setup.stream.queues_total_bytes = 16_384);
    let mut streams = Vec::new();
    let mut hello = b"\x16\x03\x01\x20\x00\x01\x00\x1F\xFC".to_vec();
    hello.resize(3000, 7);
    for _ in 0..4 {
        let mut stream = connect_to(server.tls());
        stream.write_all(&hello).unwrap();
        streams.push(stream);
    }
    eventually("the count", || ended(&server, "memory_limit") == 2.0);
    let closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 1]);
        !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    assert_eq!(
        streams
            .iter_mut()
            .filter_map(|it| closed(it).then_some(()))
            .count(),
        2
    );
}

/// Says this in a record of its own. Returns the record, which has not been sent.
fn record(client: &mut Client, plain: &[u8]) -> Vec<u8> {
    let conn = &mut client.tls_stream().conn;
    conn.writer().write_all(plain).unwrap();
    let mut record = Vec::new();
    while conn.wants_write() {
        conn.write_tls(&mut record).unwrap();
    }
    record
}

/// Sends bytes with a request in them, whose answer shows that the server has all of them.
fn send_and_wait(client: &mut Client, request: &Packet, bytes: &[u8]) {
    client.tls_stream().sock.write_all(bytes).unwrap();
    assert_eq!(Message::parse(&client.recv()).id(), request.id());
}

/// SEC-12: of a stranger's record that is not whole as much waits as the longest request needs, and
/// not one byte more, so that few addresses cannot use up what all strangers may hold; with an
/// allocation a record is as long as records are.
#[test]
fn without_an_allocation_records_are_short() {
    const LONGEST: usize = 4096 + 29;
    let server = TestServer::start();
    let request = |len: usize| Packet::binding().attr(0x8FFF, &vec![7; len - 24]);
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let connect = || {
            let config = with_versions(&[version]);
            Client::tls_over(tls::connect(&config, connect_to(server.tls())).unwrap())
        };
        let mut client = connect();
        let (first, longest) = (Packet::binding(), request(4096));
        let mut bytes = record(&mut client, first.bytes());
        let len = bytes.len();
        bytes.extend(record(&mut client, longest.bytes()));
        assert!(bytes.len() - len <= LONGEST);
        let (last, most) = bytes.split_last().unwrap();
        send_and_wait(&mut client, &first, most);
        send_and_wait(&mut client, &longest, &[*last]);

        let mut client = connect();
        let mut bytes = record(&mut client, first.bytes());
        let len = bytes.len();
        bytes.extend(b"\x17\x03\x03\x40\x00");
        bytes.resize(len + LONGEST, 7);
        send_and_wait(&mut client, &first, &bytes);
        let sock = &mut client.tls_stream().sock;
        sock.set_nonblocking(true).unwrap();
        let read = sock.peek(&mut [0]);
        assert!(read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        sock.set_nonblocking(false).unwrap();
        sock.write_all(&[7]).unwrap();
        let _ = sock.read_to_end(&mut Vec::new());
        eventually("the count", || {
            ended(&server, "frame_too_long") == (index + 1) as f64
        });

        let mut client = connect();
        client.allocate();
        let many = [4096; 4].map(request);
        let plain: Vec<u8> = many.iter().flat_map(|it| it.bytes().to_vec()).collect();
        let mut bytes = record(&mut client, first.bytes());
        bytes.extend(record(&mut client, &plain));
        assert!(bytes.len() > 1 << 14);
        let (most, last) = bytes.split_at(10_000);
        send_and_wait(&mut client, &first, most);
        client.tls_stream().sock.write_all(last).unwrap();
        for request in &many {
            assert_eq!(Message::parse(&client.recv()).id(), request.id());
        }
    }
}
