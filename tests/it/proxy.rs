//! Clients behind proxies, which say whose connections they pass on (PROXY protocol).

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use turnstone::engine::{Cursor, Filter};
use turnstone::turn::ClientPolicy;

use crate::control::ask;
use crate::harness::attribute::XOR_MAPPED_ADDRESS;
use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, Setup, TestServer, eventually, own_ipv4, tls,
};

/// The proxy of these tests, and somebody who is none.
const PROXY: &str = "127.0.0.1";
const STRANGER: &str = "127.0.0.2";

const CLIENT: &str = "198.51.100.7:40000";

fn server(change: impl FnOnce(&mut Setup)) -> TestServer {
    TestServer::with(|setup| {
        setup.proxy_protocol_from = vec![format!("{PROXY}/32").parse().unwrap()];
        change(setup);
    })
}

fn connect_from(ip: &str, server: SocketAddr) -> TcpStream {
    let ip: IpAddr = ip.parse().unwrap();
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// The proxy's destination, as clients know it.
fn destination(client: &SocketAddr) -> &'static str {
    match client {
        SocketAddr::V4(_) => "203.0.113.10:443",
        SocketAddr::V6(_) => "[2001:db8::10]:443",
    }
}

fn v1(client: &str) -> Vec<u8> {
    let from: SocketAddr = client.parse().unwrap();
    let to: SocketAddr = destination(&from).parse().unwrap();
    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, port) = (from.ip(), from.port());
    format!("PROXY {family} {ip} {} {port} {}\r\n", to.ip(), to.port()).into_bytes()
}

/// With fields that nobody here has asked for.
fn v2(client: &str) -> Vec<u8> {
    let from: SocketAddr = client.parse().unwrap();
    let to: SocketAddr = destination(&from).parse().unwrap();
    let mut payload = Vec::new();
    for address in [from, to] {
        match address.ip() {
            IpAddr::V4(ip) => payload.extend(ip.octets()),
            IpAddr::V6(ip) => payload.extend(ip.octets()),
        }
    }
    payload.extend(from.port().to_be_bytes());
    payload.extend(to.port().to_be_bytes());
    payload.extend(b"\x02\x00\x10turn.example.org\xE0\x00\x01x");
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let family = if from.is_ipv4() { 0x11 } else { 0x21 };
    let start = [0x21, family, high, low];
    [b"\r\n\r\n\0\r\nQUIT\n", &start[..], &payload].concat()
}

/// A client that comes by the proxy.
fn client_by(header: &[u8], server: SocketAddr) -> Client {
    let mut stream = connect_from(PROXY, server);
    stream.write_all(header).unwrap();
    Client::tcp_over(stream)
}

fn mapped(client: &mut Client) -> SocketAddr {
    let reply = client.exchange(&Packet::binding());
    reply.address(XOR_MAPPED_ADDRESS)
}

fn ended(server: &TestServer, reason: &str) -> bool {
    let text = server.engine.metrics().to_text();
    let series = format!("turnstone_tcp_connections_ended_total{{reason=\"{reason}\"}} 1\n");
    text.contains(&series)
}

/// PROXY-01: both versions, both families, any cut; the client's own address is told, in lists too, and
/// the call relays.
#[test]
fn a_client_is_known_by_its_own_address() {
    let server = server(|_| {});
    let peer = Peer::new();
    for (index, address) in [CLIENT, "[2001:db8::7]:40000"].into_iter().enumerate() {
        for (version, header) in [v1(address), v2(address)].into_iter().enumerate() {
            for (way, segment) in [1, 9, header.len()].into_iter().enumerate() {
                let mut stream = connect_from(PROXY, server.tcp());
                // The first message comes with the end of the header.
                let all = [&header[..], Packet::binding().bytes()].concat();
                for part in all.chunks(segment) {
                    stream.write_all(part).unwrap();
                }
                let mut client = Client::tcp_over(stream);
                client.recv();
                let expected: SocketAddr = address.parse().unwrap();
                assert_eq!(mapped(&mut client), expected, "{index} {version} {way}");
                let relayed = client.allocate();
                client.bind(0x4000, peer.address());
                client.send_channel(0x4000, b"data");
                peer.expect(b"data", relayed);
                let control = server.engine.control();
                let page = ask(control.list(&Filter::default(), Cursor::default(), 9)).unwrap();
                let five_tuple = page.records[0].five_tuple;
                assert_eq!(five_tuple.client, expected);
                assert_eq!(five_tuple.server.to_string(), destination(&expected));
                drop(client);
                eventually("the end", || server.live_ports() == 0);
            }
        }
    }
}

/// PROXY-01: TLS that the proxy passes on as it comes, and TLS that it has ended itself.
#[test]
fn a_header_stands_before_tls() {
    let server = server(|_| {});
    for header in [v1(CLIENT), v2(CLIENT)] {
        let mut stream = connect_from(PROXY, server.tls());
        stream.write_all(&header).unwrap();
        let mut client = Client::tls_over(tls::connect_default(stream));
        assert_eq!(mapped(&mut client).to_string(), CLIENT);
        client.allocate();
        drop(client);
        eventually("the end", || server.live_ports() == 0);
    }
}

/// PROXY-01: health checks.
#[test]
fn a_proxy_can_speak_for_itself() {
    let server = server(|_| {});
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for header in [&b"PROXY UNKNOWN\r\n"[..], local] {
        let mut client = client_by(header, server.tcp());
        assert_eq!(mapped(&mut client), client.local());
        let mut stream = connect_from(PROXY, server.tls());
        stream.write_all(header).unwrap();
        let mut client = Client::tls_over(tls::connect_default(stream));
        assert_eq!(mapped(&mut client), client.local());
    }
}

/// PROXY-02: where a proxy left the header out, its clients could write it.
#[test]
fn a_proxy_has_to_send_a_header() {
    let hello = [0x16, 3, 1];
    for bytes in [Packet::binding().bytes(), &hello] {
        let server = server(|_| {});
        let mut stream = connect_from(PROXY, server.tls());
        stream.write_all(bytes).unwrap();
        let closed = stream.read(&mut [0; 64]);
        assert!(!matches!(closed, Ok(1..)), "an answer");
        eventually("the count", || ended(&server, "proxy_missing"));
    }
}

/// PROXY-03: nobody else is believed, or answered; nor is who comes by the proxy and says it again, which
/// is no reason to believe that client.
#[test]
fn a_header_of_a_stranger_is_not_believed() {
    for header in [v1(CLIENT), v2(CLIENT)] {
        for (from, before, reason) in [
            (STRANGER, vec![], "proxy_untrusted"),
            (PROXY, v2("198.51.100.66:6666"), "proxy_broken"),
        ] {
            let server = server(|_| {});
            let mut stream = connect_from(from, server.tcp());
            stream.write_all(&[&before[..], &header].concat()).unwrap();
            let closed = stream.read(&mut [0; 64]);
            assert!(!matches!(closed, Ok(1..)), "an answer");
            eventually("the count", || ended(&server, reason));
        }
    }
    let server = TestServer::start();
    let mut stream = connect_from(PROXY, server.tcp());
    stream.write_all(&v1(CLIENT)).unwrap();
    let closed = stream.read(&mut [0; 64]);
    assert!(!matches!(closed, Ok(1..)), "by default nobody is");
}

/// PROXY-02, PROXY-05
#[test]
fn a_broken_header_ends_the_connection() {
    let long = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    let promised = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF".to_vec();
    let mut checksum = v2(CLIENT);
    checksum.extend(b"\x03\0\x04sum?");
    checksum[15] += 7;
    let text = b"PROXY TCP4 a b c d\r\n".to_vec();
    for header in [long, promised, text, checksum] {
        let server = server(|_| {});
        let mut stream = connect_from(PROXY, server.tcp());
        stream.write_all(&header).unwrap();
        let closed = stream.read(&mut [0; 64]);
        assert!(matches!(closed, Ok(0)) || closed.is_err(), "{closed:?}");
        eventually("the count", || ended(&server, "proxy_broken"));
    }
}

/// PROXY-02: two connections cannot be one, lest one of them speaks for the other, whichever workers
/// have them.
#[test]
fn a_connection_is_announced_once() {
    for workers in [1, 4] {
        let server = server(|setup| setup.workers = workers);
        let mut first = client_by(&v2(CLIENT), server.tcp());
        first.allocate();
        // By its source port a connection comes to any of the workers.
        for round in 0..16 {
            let header = if round % 2 == 0 {
                v1(CLIENT)
            } else {
                v2(CLIENT)
            };
            let mut second = client_by(&header, server.tcp());
            assert_eq!(second.expect_close(), b"", "{workers} {round}");
        }
        first.assert_alive();
        drop(first);
        eventually("the end", || server.engine.control().tcp_connections() == 0);
        assert_eq!(server.live_ports(), 0);
        client_by(&v2(CLIENT), server.tcp()).allocate();
    }
}

/// PROXY-02, SEC-17: a header has no longer than a first message has.
#[test]
fn a_header_has_the_deadline_of_the_first_message() {
    let server = server(|setup| setup.stream.first_message_s = 1);
    for part in [&b""[..], b"PROXY TCP4", &v2(CLIENT)] {
        let mut client = client_by(part, server.tcp());
        assert_eq!(client.expect_close(), b"");
    }
}

/// PROXY-04: the limit of an address is that of the client's, and the proxy has none.
#[test]
fn limits_are_those_of_the_client() {
    let server = server(|setup| {
        setup.stream.connections_per_address = 2;
        setup.limits.allocations_per_address = 3;
    });
    let owner = |address: &str| {
        let mut client = client_by(&v2(address), server.tcp());
        client.allocate();
        client
    };
    let of_clients: Vec<Client> = (1..=5)
        .flat_map(|host| [1, 2].map(|port| format!("198.51.100.{host}:{port}")))
        .map(|address| owner(&address))
        .collect();
    let mut refused = client_by(&v2("198.51.100.5:3"), server.tcp());
    assert_eq!(refused.expect_close(), b"");
    eventually("the count", || ended(&server, "address_limit"));
    drop(of_clients);
    eventually("room", || server.live_ports() == 0);
    owner("198.51.100.5:3");
}

/// PROXY-04, CLIENT: where the client is counts, and not where the proxy is.
#[test]
fn policies_are_about_the_client() {
    let server = server(|setup| {
        setup.clients = ClientPolicy {
            allow: vec!["198.51.100.0/24".parse().unwrap()],
            deny: vec!["198.51.100.66/32".parse().unwrap()],
        }
    });
    client_by(&v2(CLIENT), server.tcp()).allocate();
    for header in [v2("198.51.100.66:1"), v2("192.0.2.1:1"), vec![]] {
        let mut client = client_by(&header, server.tcp());
        client.send(Packet::binding().bytes());
        assert_eq!(client.expect_close(), b"");
    }
    let mut direct = connect_from(STRANGER, server.tcp());
    let closed = direct.read(&mut [0; 1]);
    let reset = |error: &std::io::Error| error.kind() == ErrorKind::ConnectionReset;
    assert!(matches!(closed, Ok(0)) || closed.as_ref().is_err_and(reset));
}

/// PROXY-03, PROXY-04: the log has the client, and the remedy; a reload has another proxy believed.
#[test]
fn the_log_names_the_client() {
    let ip = own_ipv4();
    let config = |from: &str| {
        format!(
            "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
             listen = {{ udp = [], tcp = \"{ip}:0\", proxy_protocol_from = \"{from}\" }}\n\
             relay.addresses = [\"{ip}\"]\nrelay.ports = \"20000-29999\"\n"
        )
    };
    let mut process = Process::start(&config(PROXY));
    let server = process.tcp[0];
    client_by(&v1(CLIENT), server).allocate();
    let line = process.wait_for("allocation created");
    assert!(line.contains(&format!("client={CLIENT}")), "{line}");
    let mut stranger = connect_from(STRANGER, server);
    stranger.write_all(&v1(CLIENT)).unwrap();
    let line = process.wait_for("listen.proxy_protocol_from");
    assert!(line.contains(&format!("client={STRANGER}:")), "{line}");
    assert!(
        line.contains("add it there if it is a proxy of yours"),
        "{line}"
    );
    process.let_read();
    process.configure(&config(STRANGER));
    process.signal(Signal::HUP);
    let line = process.wait_for("configuration reloaded");
    assert!(line.contains("listen.proxy_protocol_from"), "{line}");
    let mut stream = connect_from(STRANGER, server);
    stream.write_all(&v1(CLIENT)).unwrap();
    assert_eq!(mapped(&mut Client::tcp_over(stream)).to_string(), CLIENT);
}
