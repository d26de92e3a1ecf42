//! Attacks that other servers fell to, over real sockets and against the process.
//! `docs/advisories.md` lists them.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, UdpSocket};
use std::time::Duration;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use rustix::process::{Pid, Signal, kill_process};
use sha1::Sha1;

use crate::harness::attribute as a;
use crate::harness::{
    Client, Message, NOBODY, Packet, Peer, Process, Received, TestServer, Via, eventually, method,
    own_ipv4, unix_s,
};

const SECRET: &str = "north-secret-of-the-back-end-and-the-server";

fn config(ip: impl Into<IpAddr>, ports: &str, more: &str) -> String {
    let ip = ip.into();
    format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         auth.static_auth_secret = \"{SECRET}\"\nlisten.udp = [\"{ip}:0\"]\n\
         listen.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\nrelay.ports = \"{ports}\"\n\
         peers.allow_loopback = true\nserver.workers = 1\nlimits.allocations_per_user = 10000\n\
         limits.allocations_per_address = 10000\n{more}\n"
    )
}

fn start(more: &str) -> Process {
    Process::start(&config(own_ipv4(), "20000-29999", more))
}

/// A server that closes no connection for its silence within the time of a test.
fn patient_server() -> TestServer {
    TestServer::with(|setup| {
        // Half a ClientHello is waited for, where there is TLS.
        setup.tls = None;
        setup.stream.first_message_s = 3600;
        setup.stream.idle_s = 3600;
    })
}

fn allocate() -> Packet {
    Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0])
}

/// SEC-19: HTTP with lengths of every kind, and other protocols, at the beginning of a connection
/// and behind a request.
#[test]
fn other_protocols_on_tcp_are_cut_off_without_a_word() {
    let server = patient_server();
    let mut greetings: Vec<Vec<u8>> = [
        "-1",
        "0",
        "2147483647",
        "4294967295",
        "18446744073709551616",
        "99999999999999999999999999999999",
        "0x10",
        "",
    ]
    .iter()
    .map(|len| {
        format!("POST /turn HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\nbody").into()
    })
    .collect();
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /.well-known/acme-challenge/%s%n../../etc/passwd HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "OPTIONS sip:a SIP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "SSH-2.0-x\r\n",
        "psd /etc/passwd\r\n",
    ] {
        greetings.push(text.into());
    }
    // A TLS ClientHello, and every byte that begins neither a request nor a response.
    greetings.push(b"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03".to_vec());
    greetings.extend((0x40..=0xFF).map(|byte| vec![byte; 40]));
    for (index, bytes) in greetings.iter().enumerate() {
        let mut client = Client::new(&server, [Via::Tcp, Via::Tcp6][index % 2]);
        client.send(bytes);
        assert_eq!(client.expect_close(), b"", "{bytes:02x?}");
        if (0x40..0x50).contains(&bytes[0]) {
            // ChannelData, once it is known that this is a TURN client.
            continue;
        }
        let mut client = Client::new(&server, [Via::Tcp6, Via::Tcp][index % 2]);
        let request = Packet::binding();
        client.send(&[request.bytes(), bytes].concat());
        // The reply may be lost with the connection.
        let reply = client.expect_close();
        assert!(reply.is_empty() || Message::parse(&reply).id() == request.id());
    }
    Client::tcp(&server).expect_nothing();
}

/// STREAM-02, MSG-03: the longest lengths, split at every byte of the header and before the last
/// ones, with a request behind them; and those that wrap.
#[test]
fn lengths_up_to_the_last_are_kept_whatever_the_segments() {
    let server = patient_server();
    let mut client = Client::tcp(&server);
    // Without an allocation no frame may be as long.
    client.allocate();
    let frame_len = 20 + 0xFFFC;
    let cuts = (1..=24).chain(frame_len - 5..=frame_len + 5);
    for cut in cuts {
        // One attribute that nobody has to understand fills the message.
        let mut frame = Packet::binding().attr(0x8FFF, &[0xEE; 0xFFF8]).into_bytes();
        assert_eq!((frame.len(), &frame[2..4]), (frame_len, &[0xFF, 0xFC][..]));
        let id: [u8; 12] = frame[8..20].try_into().unwrap();
        let behind = Packet::binding();
        frame.extend(behind.bytes());
        let (first, rest) = frame.split_at(cut);
        client.send(first);
        client.send(rest);
        for id in [id, behind.id()] {
            let reply = Message::parse(&client.recv());
            assert_eq!((reply.id(), reply.code()), (id, 0), "cut at {cut}");
        }
    }
    for length in [0xFFFD_u16, 0xFFFE, 0xFFFF, 1, 2, 3] {
        for cut in 4..20 {
            let mut client = Client::tcp(&server);
            let mut header = Packet::binding().into_bytes();
            header[2..4].copy_from_slice(&length.to_be_bytes());
            client.send(&header[..cut]);
            // The server may have closed by now.
            let _ = std::io::Write::write_all(&mut client.stream(), &header[cut..]);
            assert_eq!(client.expect_close(), b"", "{length:#x}");
        }
    }
}

/// What of a message was padded: attribute and bytes of its value modulo four.
fn padded(message: &Message) -> impl Iterator<Item = (u16, usize)> {
    let all = message.types().into_iter();
    all.filter_map(|number| Some((number, message.get(number)?.len() % 4)))
        .filter(|(_, odd)| *odd != 0)
}

/// MSG-05: replies of every kind, on both transports, with something long before each of them. The
/// reader of the test insists on zeros.
#[test]
fn every_reply_is_padded_with_zeros() {
    let mut seen = BTreeSet::new();
    for (realm, software) in [("r", "sof"), ("rr", "so"), ("rrr", "s"), ("rrrr", "soft")] {
        let server = TestServer::with(|setup| {
            setup.realm = realm.to_owned();
            setup.software = Some(software);
            setup.limits.permissions_per_allocation = 2;
            setup.limits.allocations_per_user = 2;
        });
        for via in Via::V4 {
            let mut client = Client::new(&server, via);
            let mut collect = |client: &mut Client, code: u16, request: Packet| {
                // Long, and full of ones.
                let warm_up = Packet::binding().attr(0x8FFF, &[0xFF; 1301]);
                client.exchange(&warm_up);
                let reply = client.exchange(&request);
                assert_eq!(reply.code(), code);
                seen.extend(padded(&reply));
                reply
            };
            let challenge = collect(&mut client, 401, allocate());
            client.take_challenge(&challenge);
            let stale = Packet::request(method::ALLOCATE)
                .attr(a::USERNAME, b"alice")
                .attr(a::REALM, realm.as_bytes())
                .attr(a::NONCE, b"none");
            collect(&mut client, 438, stale.sha1(b"key"));
            collect(&mut client, 400, allocate().sha1(b"key"));
            for unknown in 1..4_u16 {
                let add = |packet: Packet, number| packet.attr(0x7F00 + number, b"");
                let request = (0..unknown).fold(Packet::binding(), add);
                collect(&mut client, 420, request);
            }
            let mut signed = |client: &mut Client, code: u16, request: Packet| {
                let request = client.signed(request);
                let reply = collect(client, code, request);
                assert!(reply.is_sha1_signed(&client.key()));
                reply
            };
            let refresh = || Packet::request(method::REFRESH);
            let permit = |ip: &str| {
                let peer = SocketAddr::new(ip.parse().unwrap(), 9);
                Packet::request(method::CREATE_PERMISSION).address(a::XOR_PEER_ADDRESS, peer)
            };
            signed(&mut client, 437, refresh());
            signed(&mut client, 420, allocate().attr(0x7F00, b""));
            signed(
                &mut client,
                if via.is_dtls() { 400 } else { 442 },
                Packet::request(method::ALLOCATE).u32(a::REQUESTED_TRANSPORT, 6 << 24),
            );
            signed(&mut client, 0, allocate().attr(a::EVEN_PORT, &[0x80]));
            signed(&mut client, 437, allocate());
            signed(&mut client, 0, refresh());
            signed(&mut client, 403, permit("169.254.169.254"));
            signed(&mut client, 443, permit("2001:db8::1"));
            signed(&mut client, 400, Packet::request(method::CREATE_PERMISSION));
            signed(&mut client, 0, permit("127.255.0.1"));
            signed(&mut client, 0, permit("127.255.0.2"));
            signed(&mut client, 508, permit("127.255.0.3"));
            let user = std::mem::replace(&mut client.user, "bob".to_owned());
            let password = std::mem::replace(&mut client.password, "builder".to_owned());
            signed(&mut client, 441, refresh());
            (client.user, client.password) = (user, password);
            signed(&mut client, 0, refresh().u32(a::LIFETIME, 0));
        }
    }
    for odd in 1..4 {
        for number in [a::REALM, a::SOFTWARE, a::ERROR_CODE] {
            assert!(
                seen.contains(&(number, odd)),
                "{number:#x} of {odd} mod 4: {seen:x?}"
            );
        }
    }
    assert!(seen.contains(&(a::UNKNOWN_ATTRIBUTES, 2)));
}

/// A request of this user, whose name, realm and nonce are any bytes.
fn claim(client: &mut Client, name: &[u8], realm: &[u8], nonce: &[u8], key: &[u8]) -> Message {
    let request = allocate()
        .attr(a::USERNAME, name)
        .attr(a::REALM, realm)
        .attr(a::NONCE, nonce)
        .sha1(key);
    client.exchange(&request)
}

/// Names that mean something to a database, a shell, printf, a terminal or a log.
fn hostile_names() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 7] = [
        b"'\"; DROP TABLE turnusers_lt; --\n%s%n",
        b"\0",
        b"alice\0",
        b"x\n2026-01-01T00:00:00Z  INFO allocation created id=f-f-f user=root\r\n",
        b"\x1b[2J\x1b]0;%n%n%n%n\x07",
        b"\xff\xfe\xc0\xaf\xed\xa0\x80 alice",
        b"\",\"level\":\"ERROR\",\"x\":\"",
    ];
    let mut names: Vec<Vec<u8>> = texts.iter().map(|text| text.to_vec()).collect();
    names.push(b"%s'\n".repeat(191)[..763].to_vec());
    names
}

/// SEC-15, AUTH-05, AUTH-25: a name is compared and counted, and printed so that it passes for
/// nothing else: one line for each, in which it is the value of `user`.
#[test]
fn a_name_is_a_name_in_the_log_as_in_the_database() {
    for format in ["text", "json"] {
        let mut process = start(&format!("log.format = \"{format}\""));
        for (number, name) in (1..).zip(hostile_names()) {
            // Lines about one network are limited.
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 77, number, 1), 0)).unwrap();
            let mut client = Client::udp_from(socket, process.udp[0]);
            client.challenge();
            let session = client.session.clone().unwrap();
            let reply = claim(&mut client, &name, &session.realm, &session.nonce, &name);
            assert!([400, 401].contains(&reply.code()), "{name:02x?}");
            assert!(!reply.has(a::USERNAME));
            let line = process.wait_for("Allocate");
            assert_is_one_line(&line, format, "authentication failed", &client);
        }
        // With a right password: the secret signs whatever the back end asks for.
        for id in ["'; DROP TABLE x; --", "a\nb\u{1b}[31m%n", "\",\"x\":\"y"] {
            let name = format!("{}:{id}", unix_s() + 600);
            let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
            mac.update(name.as_bytes());
            let password = mac.finalize().into_bytes();
            let password = base64::engine::general_purpose::STANDARD.encode(password);
            let mut client = Client::udp_to(process.udp[0]).with_user(&name, &password);
            client.allocate();
            let line = process.wait_for("allocation created");
            assert_is_one_line(&line, format, "allocation created", &client);
            if format == "json" {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["user"], name, "the name itself");
            }
        }
        process.terminate();
        assert!(process.wait().success());
        let forged = process
            .log
            .iter()
            .find(|line| line.starts_with("2026-01-01"));
        assert_eq!(forged, None);
    }
}

#[track_caller]
fn assert_is_one_line(line: &str, format: &str, message: &str, client: &Client) {
    let from = client.local().to_string();
    assert!(line.chars().all(|c| !c.is_control()), "{line:?}");
    if format == "json" {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["message"], message);
        assert_eq!(line["client"], from);
        assert_eq!(line["level"], "INFO");
        assert!(line["user"].is_string() && line["x"].is_null());
    } else {
        assert!(line.contains(&format!("INFO {message} ")), "{line}");
        assert!(line.contains(&format!(" client={from} ")), "{line}");
        assert!(line.matches(" user=\"").count() == 1, "{line}");
    }
}

/// AUTH-05, AUTH-23, AUTH-25: in the realm's and the nonce's place they are as harmless, and users
/// who are really called so are served.
#[test]
fn odd_names_are_served_and_odd_realms_are_not() {
    let odd = [
        "o'; DROP TABLE x; --",
        "%s%n%x",
        "\"a\" = \"b\"",
        "${jndi:x}",
        "a/../b",
    ];
    let server = TestServer::with(|setup| {
        for name in odd {
            setup.user(name, name);
        }
    });
    for name in odd {
        Client::udp(&server).with_user(name, name).allocate();
    }
    for bytes in hostile_names() {
        let mut client = Client::udp(&server);
        client.challenge();
        let (session, key) = (client.session.clone().unwrap(), client.key());
        let realm = claim(&mut client, b"alice", &bytes, &session.nonce, &key);
        assert!([400, 401].contains(&realm.code()), "{bytes:02x?}");
        let nonce = claim(&mut client, b"alice", &session.realm, &bytes, &key);
        assert!([400, 438].contains(&nonce.code()), "{bytes:02x?}");
        let right = claim(&mut client, b"alice", &session.realm, &session.nonce, &key);
        assert_eq!(right.code(), 0);
    }
}

/// What a column of a table of `/proc/net` has for the sockets of a process that are in a state.
fn sockets(process: &Process, table: &str, state: &str) -> BTreeSet<String> {
    // Of Unix sockets there are flags and paths, and of the others addresses.
    let (wanted, state_at, inode_at) = match table {
        "unix" => (7, 3, 6),
        _ => (1, 3, 9),
    };
    let fds = fs::read_dir(format!("/proc/{}/fd", process.pid())).unwrap();
    let inodes: HashSet<String> = fds
        .filter_map(|fd| fs::read_link(fd.unwrap().path()).ok())
        .filter_map(|target| {
            let inner = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            Some(inner.to_owned())
        })
        .collect();
    // Not every kernel has every table.
    let table = fs::read_to_string(format!("/proc/{}/net/{table}", process.pid()));
    let table = table.unwrap_or_default();
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| inodes.contains(row[inode_at]) && row[state_at] == state)
        .map(|row| (*row.get(wanted).unwrap_or(&"without a path")).to_owned())
        .collect()
}

/// The sockets of a process in a table are these. A row may be missing where other sockets come and
/// go while the table is read, so it is read until it has what is expected.
#[track_caller]
fn assert_sockets(process: &Process, table: &str, state: &str, expected: &BTreeSet<String>) {
    let mut found = BTreeSet::new();
    eventually("the whole table", || {
        found = sockets(process, table, state);
        found.is_superset(expected)
    });
    assert_eq!(found, *expected, "{table}");
}

/// An IPv4 address as `/proc/net` has it.
fn as_in_proc(address: &SocketAddr) -> String {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("not IPv4");
    };
    format!(
        "{:08X}:{:04X}",
        u32::from_le_bytes(ip.octets()),
        address.port()
    )
}

/// SEC-19: nothing listens but what the configuration says: no telnet, no HTTP, and administration
/// only on a Unix socket.
#[test]
fn nothing_listens_but_what_is_configured() {
    const LISTEN: &str = "0A";
    const UNCONNECTED: &str = "07";
    const ACCEPTS: &str = "00010000";
    let process = start("");
    let set = |all: &[SocketAddr]| -> BTreeSet<String> { all.iter().map(as_in_proc).collect() };
    let metrics = process.metrics.expect("the page of the metrics");
    let tcp: Vec<SocketAddr> = process.tcp.iter().copied().chain([metrics]).collect();
    assert_sockets(&process, "tcp", LISTEN, &set(&tcp));
    assert_sockets(&process, "tcp6", LISTEN, &BTreeSet::new());
    assert_sockets(&process, "udp", UNCONNECTED, &set(&process.udp));
    assert_sockets(&process, "udp6", UNCONNECTED, &BTreeSet::new());
    for raw in ["raw", "raw6", "udplite", "udplite6"] {
        assert_sockets(&process, raw, UNCONNECTED, &BTreeSet::new());
    }
    // The operators', which is the server's user's alone (ADM-04).
    let operators = process.home().join("admin.sock").display().to_string();
    assert_sockets(&process, "unix", ACCEPTS, &BTreeSet::from([operators]));

    let mut client = Client::udp_to(process.udp[0]);
    let relayed = client.allocate();
    let mut expected = set(&process.udp);
    expected.insert(as_in_proc(&relayed));
    assert_sockets(&process, "udp", UNCONNECTED, &expected);
    client.delete();
    eventually("the end of the relay socket", || {
        sockets(&process, "udp", UNCONNECTED) == set(&process.udp)
    });
}

/// A storm of signals that do not end the server, while calls go on: nothing is lost.
#[test]
fn signals_do_not_disturb_calls() {
    let text = config(own_ipv4(), "20000-29999", "");
    let mut process = Process::start(&text);
    process.let_read();
    let pid = Pid::from_raw(process.pid() as i32).unwrap();
    // Before whatever is asked of it, so that they arrive while it is at work.
    let storm = || {
        for signal in [
            Signal::HUP,
            Signal::USR2,
            Signal::PIPE,
            Signal::WINCH,
            Signal::CONT,
            Signal::URG,
        ] {
            kill_process(pid, signal).unwrap();
        }
    };
    let peer = Peer::new();
    for round in 0..40_u8 {
        let mut clients = [
            Client::udp_to(process.udp[0]),
            Client::tcp_to(process.tcp[0]),
        ];
        for client in &mut clients {
            storm();
            let relayed = client.allocate();
            storm();
            client.bind(0x4000, peer.address());
            for packet in 0..20 {
                storm();
                client.send_channel(0x4000, &[round, packet]);
                peer.expect(&[round, packet], relayed);
                storm();
                peer.send(&[packet, round], relayed);
                client.expect_channel(0x4000, &[packet, round]);
            }
            storm();
            client.delete();
        }
    }
    process.signal(Signal::USR2);
    process.wait_for("SIGUSR2 ignored");
    process.reload(&text);
    process.terminate();
    assert!(process.wait().success());
}

/// SEC-06: a network that is to be denied and is none stops the start, with its line.
#[test]
fn a_denied_network_that_is_none_stops_the_start() {
    for bad in [
        "10.0.0.0/33",
        "10.0.0.0/-1",
        "10.0.0",
        "fe80::/129",
        "nonsense",
        "::ffff:1.2.3.4/x",
        "",
    ] {
        let text = config(
            own_ipv4(),
            "20000-29999",
            &format!("peers.deny = [\"192.0.2.1\", \"{bad}\"]"),
        );
        let line = text
            .lines()
            .position(|line| line.contains("peers.deny"))
            .unwrap()
            + 1;
        let mut process = Process::spawn(&text, "");
        let status = process.wait();
        let log = process.log.join("\n");
        assert_eq!(status.code(), Some(2), "{bad}: {log}");
        assert!(
            log.contains(&format!("turnserver.toml:{line}: peers.deny: ")),
            "{bad}: {log}"
        );
    }
}

/// SEC-13: two servers of the same configuration have neither nonces nor tokens nor the order of
/// their ports in common.
#[test]
fn processes_have_nothing_random_in_common() {
    let servers = [start(""), start("")];
    let socket = UdpSocket::bind((own_ipv4(), 0)).unwrap();
    let secrets = servers.each_ref().map(|process| {
        // The same client for both.
        let mut client = Client::udp_from(socket.try_clone().unwrap(), process.udp[0]);
        client.challenge();
        let nonce = client.session.clone().unwrap().nonce;
        let mut ports = Vec::new();
        let mut tokens = HashSet::new();
        for _ in 0..6 {
            let reply = client.try_allocate(|packet| packet.attr(a::EVEN_PORT, &[0x80]));
            ports.push(reply.address(a::XOR_RELAYED_ADDRESS).port());
            assert!(tokens.insert(reply.get(a::RESERVATION_TOKEN).unwrap().to_vec()));
            client.delete();
        }
        (nonce, ports, tokens)
    });
    let [(nonce, ports, tokens), other] = secrets;
    assert_ne!(nonce, other.0);
    assert_ne!(ports, other.1);
    assert!(tokens.is_disjoint(&other.2));
}

/// ALLOC-22, STREAM-05: a thousand connections that allocate and end in every way leave no port and
/// no descriptor behind.
#[test]
fn a_thousand_connections_that_race_their_allocations_leave_nothing() {
    let process = Process::start(&config(own_ipv4(), "20000-20019", ""));
    let descriptors = || {
        fs::read_dir(format!("/proc/{}/fd", process.pid()))
            .unwrap()
            .count()
    };
    // A worker that answers has all that it begins with.
    Client::udp_to(process.udp[0]).expect_nothing();
    let before = descriptors();
    for round in 0..1_000 {
        let mut client = Client::tcp_to(process.tcp[0]);
        client.challenge();
        let request = allocate().attr(a::EVEN_PORT, &[0x80]);
        let request = client.signed(if round % 2 == 0 { request } else { allocate() });
        let delete = client.signed(Packet::request(method::REFRESH).u32(a::LIFETIME, 0));
        let both = [request.bytes(), delete.bytes(), request.bytes()].concat();
        match round % 5 {
            0 => client.send(request.bytes()),
            1 => client.send(&both[..both.len() - 7]),
            2 => {
                assert_eq!(client.exchange(&request).code(), 0);
                client.send(delete.bytes());
            }
            3 => {
                client.send(&both);
                client.stream().shutdown(Shutdown::Write).unwrap();
            }
            _ => {
                client.send(&both);
                let reset = Some(Duration::ZERO);
                socket2::SockRef::from(client.stream())
                    .set_linger(reset)
                    .unwrap();
            }
        }
    }
    eventually("the end of the descriptors", || descriptors() == before);
    let mut clients: Vec<Client> = (0..20).map(|_| Client::udp_to(process.udp[0])).collect();
    let ports: BTreeSet<u16> = clients
        .iter_mut()
        .map(|client| client.allocate().port())
        .collect();
    assert_eq!(ports.len(), 20, "every port serves again");
}

/// MSG-09, MSG-12, SEND-08: responses and indications that nobody asked for, from strangers and
/// through the relayed address: the former are dropped, the latter data and nothing else.
#[test]
fn forged_answers_change_nothing() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    let (peer, stranger) = (Peer::new(), Peer::on([127, 3, 3, 3].into()));
    client.permit(peer.address());
    let forged: Vec<Packet> = [
        crate::harness::Class::Success,
        crate::harness::Class::Error,
        crate::harness::Class::Indication,
    ]
    .into_iter()
    .flat_map(|class| (1..12).map(move |method| Packet::new(class, method)))
    .map(|packet| {
        packet
            .u32(a::LIFETIME, 0)
            .address(a::XOR_PEER_ADDRESS, (NOBODY, 9).into())
            .attr(a::ERROR_CODE, &[0, 0, 4, 1])
    })
    .collect();
    let mut attacker = Client::udp(&server);
    for packet in &forged {
        attacker.send(packet.bytes());
        client.send(packet.bytes());
        stranger.send(packet.bytes(), relayed);
        peer.send(packet.bytes(), relayed);
        let data = packet.bytes().to_vec();
        let from = peer.address();
        assert_eq!(client.next(), Received::Data { peer: from, data });
    }
    attacker.expect_nothing();
    client.expect_nothing();
    client.assert_alive();
}
