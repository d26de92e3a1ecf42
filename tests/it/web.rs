//! Web servers on the same port: who gets what, and what passing on costs.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;
use turnstone::engine::Settings;

use crate::control::ask;
use crate::harness::tls::{self, NAT_DISCOVERY, TURN, TlsStream, VERSIONS};
use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, Setup, TestServer, ask_socket, eventually, own_ipv4,
};

const WEB_NAME: &str = "www.example.org";
const TURN_NAME: &str = "turn.example.org";

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: www.example.org\r\n\r\n";

/// What the web server says when its client has ended.
const GOODBYE: &[u8] = b"goodbye";

/// A web server that sends back what it gets.
struct WebServer {
    address: SocketAddr,
    /// Client and server of each connection, as the PROXY protocol has them.
    announced: Receiver<(SocketAddr, SocketAddr)>,
}

impl WebServer {
    fn http() -> Self {
        Self::with(echo, true)
    }

    fn https() -> Self {
        let config = Arc::new(tls::server_config_of(WEB_NAME));
        Self::with(
            move |stream| {
                let config: Arc<ServerConfig> = Arc::clone(&config);
                let session = ServerConnection::new(config).unwrap();
                echo(StreamOwned::new(session, stream));
            },
            true,
        )
    }

    fn with(serve: impl Fn(TcpStream) + Send + Sync + 'static, has_header: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, announced) = channel();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, tell) = (stream.unwrap(), tell.clone());
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || {
                    if has_header {
                        // The test may have ended.
                        let _ = tell.send(read_header(&mut stream));
                    }
                    serve(stream);
                });
            }
        });
        Self { address, announced }
    }

    #[track_caller]
    fn expect_announced(&self, client: SocketAddr, server: SocketAddr) {
        let announced = self.announced.recv_timeout(DEADLINE).unwrap();
        assert_eq!(announced, (client, server));
    }
}

/// A header of version 2, by the letter of its specification.
fn read_header(stream: &mut TcpStream) -> (SocketAddr, SocketAddr) {
    let mut start = [0; 16];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start[..13], b"\r\n\r\n\0\r\nQUIT\n\x21");
    let mut payload = vec![0; u16::from_be_bytes([start[14], start[15]]).into()];
    stream.read_exact(&mut payload).unwrap();
    let address = |ip: &[u8]| -> IpAddr {
        match ip.len() {
            4 => <[u8; 4]>::try_from(ip).unwrap().into(),
            _ => <[u8; 16]>::try_from(ip).unwrap().into(),
        }
    };
    let len = match (start[13], payload.len()) {
        (0x11, 12) => 4,
        (0x21, 36) => 16,
        other => panic!("family and length {other:?}"),
    };
    let port = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let client = SocketAddr::new(address(&payload[..len]), port(2 * len));
    let server = SocketAddr::new(address(&payload[len..2 * len]), port(2 * len + 2));
    (client, server)
}

fn echo(mut stream: impl Read + Write) {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break drop(stream.write_all(GOODBYE)),
            Ok(len) if stream.write_all(&buffer[..len]).is_ok() => {}
            _ => break,
        }
    }
    let _ = stream.flush();
}

fn server_with(
    https: Option<&WebServer>,
    http: Option<&WebServer>,
    change: impl FnOnce(&mut Setup),
) -> TestServer {
    TestServer::with(|setup| {
        setup.web.https = https.map(|it| it.address);
        setup.web.names = vec![WEB_NAME.to_owned()];
        setup.web.http = http.map(|it| it.address);
        change(setup);
    })
}

fn connect_to(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn config(offered: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = tls::client_config(&VERSIONS);
    config.alpn_protocols = offered.iter().map(|it| it.to_vec()).collect();
    Arc::new(config)
}

fn browse(server: SocketAddr, name: &str, offered: &[&[u8]]) -> TlsStream {
    tls::connect_as(name, &config(offered), connect_to(server)).unwrap()
}

/// Sends, and gets the same back.
#[track_caller]
fn exchange(stream: &mut (impl Read + Write), bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == bytes, "{} bytes", bytes.len());
}

/// The connection ends without a byte.
#[track_caller]
fn expect_end(mut stream: TcpStream) {
    match stream.read(&mut [0; 64]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

fn is_reset(read: &std::io::Result<usize>) -> bool {
    matches!(read, Err(error) if error.kind() == ErrorKind::ConnectionReset)
}

/// The connection ends without a byte, and not as if that were all.
#[track_caller]
fn expect_reset(stream: &mut TcpStream) {
    let read = stream.read(&mut [0; 64]);
    assert!(is_reset(&read), "{read:?}");
}

fn failed(server: &TestServer, reason: &str) -> f64 {
    server.count(&format!(
        "turnstone_web_failures_total{{reason=\"{reason}\"}}"
    ))
}

fn open(server: &TestServer, kind: &str) -> f64 {
    server.count(&format!("turnstone_web_connections{{kind=\"{kind}\"}}"))
}

/// Data goes both ways.
#[track_caller]
fn relay(client: &mut Client) {
    let peer = Peer::new();
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    client.send_channel(0x4000, b"to the peer");
    peer.expect(b"to the peer", relayed);
    peer.send(b"to the client", relayed);
    client.expect_channel(0x4000, b"to the client");
}

/// WEB-01: the protocols tell, then the name. The certificates show who has answered.
#[test]
fn tls_goes_where_it_is_for() {
    let web = WebServer::https();
    let server = server_with(Some(&web), None, |_| {});
    for listener in [server.tls(), server.tls6(), server.tcp()] {
        for (name, offered) in [
            (WEB_NAME, &[][..]),
            (WEB_NAME, &[&b"h2"[..], b"http/1.1"][..]),
        ] {
            let mut stream = browse(listener, name, offered);
            web.expect_announced(stream.sock.local_addr().unwrap(), listener);
            exchange(&mut stream, b"hello");
            exchange(&mut stream, &[7; 100_000]);
        }
        for offered in [&[][..], &[TURN], &[b"h2", TURN]] {
            relay(&mut Client::tls_over(browse(listener, TURN_NAME, offered)));
        }
        let mut discovery = Client::tls_over(browse(listener, TURN_NAME, &[NAT_DISCOVERY]));
        discovery.expect_nothing();
    }
    // Whoever names TURN gets it, by whatever name.
    let refused = tls::connect_as(WEB_NAME, &config(&[TURN]), connect_to(server.tls()));
    assert!(refused.is_err(), "the certificate is not the web server's");
    let refused = tls::connect_as(TURN_NAME, &config(&[b"h2"]), connect_to(server.tls()));
    assert!(refused.is_err(), "the certificate is the web server's");
    eventually("the counts", || {
        let passed_on = "turnstone_web_connections_passed_on_total{kind=\"https\"}";
        server.count(passed_on) == 7.0
            && server.count("turnstone_tcp_connections_ended_total{reason=\"passed_on\"}") == 7.0
            && open(&server, "https") == 0.0
    });
}

/// WEB-01: whatever the segments, and both kinds on one port with TURN.
#[test]
fn http_goes_to_the_web_server() {
    let web = WebServer::http();
    let server = server_with(None, Some(&web), |_| {});
    let mut call = Client::tcp(&server);
    call.allocate();
    for listener in [server.tcp(), server.tcp6(), server.tls()] {
        for segment in [1, 3, GET.len()] {
            let mut stream = connect_to(listener);
            for part in GET.chunks(segment) {
                stream.write_all(part).unwrap();
            }
            web.expect_announced(stream.local_addr().unwrap(), listener);
            let mut back = vec![0; GET.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, GET);
            exchange(&mut stream, &vec![9; 1_000_000][..60_000]);
        }
        relay(&mut Client::tcp_to(listener));
    }
    // What is neither is cut off as ever.
    for other in [
        &b"SSH-2.0-OpenSSH_9.2p1\r\n"[..],
        b"\x80\x2E\x01",
        b"get / HTTP/1.1\r\n",
    ] {
        let mut stream = connect_to(server.tcp());
        stream.write_all(other).unwrap();
        expect_end(stream);
    }
    call.assert_alive();
    eventually("the bytes", || {
        let to_servers = "turnstone_web_bytes_total{direction=\"to_servers\",kind=\"http\"}";
        let to_clients = "turnstone_web_bytes_total{direction=\"to_clients\",kind=\"http\"}";
        let all = 9.0 * (GET.len() + 60_000) as f64;
        server.count(to_servers) == all && server.count(to_clients) >= all
    });
}

/// WEB-02: who has sent everything still gets the answer, and the other way round.
#[test]
fn half_a_close_is_half_a_close() {
    let web = WebServer::http();
    let server = server_with(None, Some(&web), |_| {});
    let mut stream = connect_to(server.tcp());
    stream.write_all(GET).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all, [GET, GOODBYE].concat());

    let (tell, told) = channel();
    let early = WebServer::with(
        move |mut stream| {
            stream.shutdown(Shutdown::Write).unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            tell.send(all).unwrap();
        },
        false,
    );
    let server = server_with(None, Some(&early), |setup| setup.web.proxy_protocol = false);
    let mut stream = connect_to(server.tcp());
    stream.write_all(GET).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    stream.write_all(b"more").unwrap();
    drop(stream);
    // Without the header the first byte is the client's.
    assert_eq!(
        told.recv_timeout(DEADLINE).unwrap(),
        [GET, b"more"].concat()
    );
    eventually("the end", || open(&server, "http") == 0.0);
}

/// WEB-02: a server that has answered early and does not read the rest, as for an upload that is too
/// large, resets. What it has said comes through, and then the reset.
#[test]
fn an_early_answer_comes_through() {
    const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\n\r\n";
    let early = WebServer::with(
        |mut stream| {
            stream.read_exact(&mut [0; GET.len()]).unwrap();
            stream.peek(&mut [0]).unwrap();
            stream.write_all(ANSWER).unwrap();
        },
        true,
    );
    let server = server_with(None, Some(&early), |_| {});
    for round in 0..20 {
        let mut stream = connect_to(server.tcp());
        stream.write_all(GET).unwrap();
        let mut upload = stream.try_clone().unwrap();
        let upload = std::thread::spawn(move || while upload.write_all(&[7; 16_384]).is_ok() {});
        let mut answer = [0; ANSWER.len()];
        let answered = stream.read_exact(&mut answer);
        assert!(
            answered.is_ok() && answer == ANSWER,
            "{round}: {answered:?}"
        );
        upload.join().unwrap();
    }
    eventually("the end", || open(&server, "http") == 0.0);
}

/// WEB-02: what was cut off does not look whole, to the client or to the web server.
#[test]
fn a_reset_is_no_end() {
    let reset = |stream: TcpStream| {
        let linger = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        linger.unwrap();
    };
    let web = WebServer::with(
        move |mut stream| {
            stream.read_exact(&mut [0; GET.len()]).unwrap();
            stream.write_all(b"half a page").unwrap();
            // The client has it now.
            stream.read_exact(&mut [0]).unwrap();
            reset(stream);
        },
        true,
    );
    let server = server_with(None, Some(&web), |_| {});
    let mut stream = connect_to(server.tcp());
    stream.write_all(GET).unwrap();
    stream.read_exact(&mut [0; b"half a page".len()]).unwrap();
    stream.write_all(b"!").unwrap();
    expect_reset(&mut stream);

    let (tell, told) = channel();
    let web = WebServer::with(
        move |mut stream| {
            stream.write_all(b"go on").unwrap();
            tell.send(stream.read_to_end(&mut Vec::new())).unwrap();
        },
        true,
    );
    let server = server_with(None, Some(&web), |_| {});
    let mut stream = connect_to(server.tcp());
    stream.write_all(GET).unwrap();
    stream.read_exact(&mut [0; b"go on".len()]).unwrap();
    reset(stream);
    let read = told.recv_timeout(DEADLINE).unwrap();
    assert!(is_reset(&read), "{read:?}");
}

/// WEB-01: a server without a certificate passes TLS on, and speaks none.
#[test]
fn a_certificate_is_not_needed_for_passing_on() {
    let web = WebServer::https();
    let server = server_with(Some(&web), None, |setup| setup.tls = None);
    exchange(&mut browse(server.tcp(), WEB_NAME, &[]), b"hello");
    // Whoever does not name TURN could not go anywhere else.
    let refused = tls::connect_as(TURN_NAME, &config(&[TURN]), connect_to(server.tcp()));
    assert!(refused.is_err());
    eventually("the reason", || {
        server.count("turnstone_tcp_connections_ended_total{reason=\"no_certificate\"}") == 1.0
    });
    let elsewhere = tls::connect_as(TURN_NAME, &config(&[]), connect_to(server.tcp()));
    assert!(elsewhere.is_err(), "the certificate is the web server's");
    eventually("the count", || {
        server.count("turnstone_web_connections_passed_on_total{kind=\"https\"}") == 2.0
    });
    relay(&mut Client::tcp(&server));
}

/// WEB-01: a ClientHello goes there as it comes, whatever a TLS library would say of it: this one is of
/// TLS 1.1, without signature algorithms and the null compression method.
#[test]
fn old_clients_are_passed_on_as_they_come() {
    const HELLO: &[u8] = b"\x16\x03\x01\x00\x41\x01\x00\x00\x3D\x03\x02\
        0123456789abcdef0123456789abcdef\x00\x00\x02\x00\x2F\x01\x01\x00\x12\
        \x00\x10\x00\x0E\x00\x0C\x02h2\x08http/1.1";
    let web = WebServer::http();
    for has_certificate in [true, false] {
        let server = server_with(Some(&web), None, |setup| {
            if !has_certificate {
                setup.tls = None;
            }
        });
        for segment in [7, HELLO.len()] {
            let mut stream = connect_to(server.tcp());
            for part in HELLO.chunks(segment) {
                stream.write_all(part).unwrap();
            }
            let mut back = [0; HELLO.len()];
            stream.read_exact(&mut back).unwrap();
            assert_eq!(back, HELLO);
        }
    }
}

/// PROXY-01, WEB-01: the client's address goes through both.
#[test]
fn a_client_of_a_proxy_is_announced_as_it_was() {
    let (https, http) = (WebServer::https(), WebServer::http());
    let server = server_with(Some(&https), Some(&http), |setup| {
        setup.proxy_protocol_from = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let header = b"PROXY TCP4 198.51.100.7 203.0.113.10 40000 443\r\n";
    let announced = ["198.51.100.7:40000", "203.0.113.10:443"].map(|it| it.parse().unwrap());
    let mut stream = connect_to(server.tls());
    stream.write_all(header).unwrap();
    let mut stream = tls::connect_as(WEB_NAME, &config(&[]), stream).unwrap();
    https.expect_announced(announced[0], announced[1]);
    exchange(&mut stream, b"hello");
    drop(stream);
    eventually("the end", || open(&server, "https") == 0.0);
    let mut stream = connect_to(server.tls());
    stream.write_all(&[header, GET].concat()).unwrap();
    http.expect_announced(announced[0], announced[1]);
    let mut back = vec![0; GET.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, GET);
}

/// WEB-03: as many as there may be, of all and of an address, and the longest idle goes for one more; TURN
/// has its own.
#[test]
fn web_clients_and_turns_take_no_place_of_each_other() {
    for of_address in [false, true] {
        let web = WebServer::http();
        let server = server_with(None, Some(&web), |setup| {
            setup.web.connections = if of_address { 50 } else { 3 };
            setup.stream.connections_per_address = if of_address { 3 } else { 50 };
            // What a connection is for is not known before it is let in.
            setup.stream.connections = 3;
        });
        let surf = || {
            let mut stream = connect_to(server.tcp());
            stream.write_all(GET).unwrap();
            stream
        };
        let mut surfers = [(); 3].map(|()| surf());
        for surfer in &mut surfers {
            surfer.read_exact(&mut [0; GET.len()]).unwrap();
        }
        let mut newcomer = surf();
        newcomer.read_exact(&mut [0; GET.len()]).unwrap();
        let [mut first, mut second, mut third] = surfers;
        expect_reset(&mut first);
        eventually("the count", || failed(&server, "connection_limit") == 1.0);
        let mut calls = [(); 2].map(|()| Client::tcp(&server));
        for call in &mut calls {
            call.allocate();
        }
        assert_eq!(server.engine.control().tcp_connections(), 2);
        for surfer in [&mut second, &mut third, &mut newcomer] {
            exchange(surfer, b"again");
        }
        drop(newcomer);
        eventually("room", || open(&server, "http") == 2.0);
        surf().read_exact(&mut [0; GET.len()]).unwrap();
        exchange(&mut second, b"nobody has gone for that");
        calls.iter_mut().for_each(Client::assert_alive);
    }
}

/// WEB-03: who uses a connection keeps it, and one that is silent makes room.
#[test]
fn a_silent_web_client_makes_room() {
    let web = WebServer::http();
    let server = server_with(None, Some(&web), |setup| setup.web.connections = 2);
    let [mut busy, mut silent] = [(); 2].map(|()| connect_to(server.tcp()));
    exchange(&mut busy, GET);
    exchange(&mut silent, GET);
    // A connection that is used is looked at once a second.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        exchange(&mut busy, GET);
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut newcomer = connect_to(server.tcp());
    exchange(&mut newcomer, GET);
    expect_reset(&mut silent);
    exchange(&mut busy, GET);
}

/// WEB-03: a quarter of the memory, at its edge: of two that ask for 16 KiB each there is room for one.
#[test]
fn web_clients_have_their_part_of_the_memory() {
    let web = WebServer::http();
    let server = server_with(None, Some(&web), |setup| {
        setup.stream.queues_total_bytes = 4 * (2 * 16_384 - 1);
    });
    let mut first = connect_to(server.tcp());
    exchange(&mut first, GET);
    let mut second = connect_to(server.tcp());
    second.write_all(GET).unwrap();
    expect_end(second);
    eventually("the count", || failed(&server, "memory_limit") == 1.0);
    relay(&mut Client::tcp(&server));
    exchange(&mut first, b"again");
}

/// WEB-03: a connection for which there is no memory fails as one for the web server, even if that is
/// short for its first bytes already, and does not count as one that was passed on.
#[test]
fn what_is_not_passed_on_is_counted_as_such() {
    let web = WebServer::http();
    let server = server_with(None, Some(&web), |setup| {
        setup.stream.queues_total_bytes = 4 * (16_384 + GET.len());
    });
    let mut first = connect_to(server.tcp());
    exchange(&mut first, GET);
    for refused in [1.0, 2.0] {
        let mut second = connect_to(server.tcp());
        second.write_all(&[GET, GET].concat()).unwrap();
        expect_end(second);
        eventually("the count", || failed(&server, "memory_limit") == refused);
        let ended = |reason: &str| {
            server.count(&format!(
                "turnstone_tcp_connections_ended_total{{reason=\"{reason}\"}}"
            ))
        };
        assert_eq!((ended("passed_on"), ended("not_passed_on")), (1.0, refused));
        assert_eq!(ended("memory_limit"), 0.0);
        let passed_on = "turnstone_web_connections_passed_on_total{kind=\"http\"}";
        assert_eq!(server.count(passed_on), 1.0);
    }
    exchange(&mut first, b"again");
}

/// WEB-03: who does not read has the web server wait, and nothing is heaped up in between.
#[test]
fn a_slow_web_client_makes_its_server_wait() {
    /// Far more than the buffers of four sockets.
    const MUCH: usize = 64 << 20;
    let (tell, told) = channel();
    let web = WebServer::with(
        move |mut stream| {
            stream
                .set_write_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            stream.read_exact(&mut [0; GET.len()]).unwrap();
            let mut written = 0;
            while written < MUCH {
                match stream.write(&[7; 65_536]) {
                    Ok(len) => written += len,
                    Err(_) => break,
                }
            }
            tell.send(written).unwrap();
        },
        true,
    );
    let server = server_with(None, Some(&web), |_| {});
    let mut call = Client::tcp(&server);
    let mut stream = connect_to(server.tcp());
    stream.write_all(GET).unwrap();
    let written = told.recv_timeout(DEADLINE).unwrap();
    assert!(
        written < MUCH,
        "{written} bytes wait for a client that reads none"
    );
    relay(&mut call);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), written);
}

/// WEB-02: silence ends what is passed on, for both sides, and traffic keeps it however long.
#[test]
fn silence_ends_what_is_passed_on() {
    let (tell, told) = channel();
    let web = WebServer::with(
        move |mut stream| {
            let mut buffer = [0; 64];
            let end = loop {
                match stream.read(&mut buffer) {
                    Ok(len @ 1..) => stream.write_all(&buffer[..len]).unwrap(),
                    end => break end,
                }
            };
            tell.send(end).unwrap();
        },
        true,
    );
    let idle = Duration::from_secs(2);
    let server = server_with(None, Some(&web), |setup| setup.web.idle_s = 2);
    let mut stream = connect_to(server.tcp());
    let begun = Instant::now();
    while begun.elapsed() < 2 * idle {
        exchange(&mut stream, GET);
        std::thread::sleep(idle / 20);
    }
    expect_reset(&mut stream);
    let end = told.recv_timeout(DEADLINE).unwrap();
    assert!(is_reset(&end), "{end:?}");
    eventually("the count", || open(&server, "http") == 0.0);
}

/// WEB-01: settings are exchanged for who comes, and who is there goes on.
#[test]
fn web_servers_are_exchanged() {
    let (first, second) = (WebServer::http(), WebServer::http());
    let mut settings: Vec<Settings> = Vec::new();
    let server = server_with(None, Some(&first), |setup| {
        settings.push(setup.settings());
        settings.push(setup.settings());
    });
    settings[0].web.http = Some(second.address);
    settings[1].web.http = None;
    let mut old = connect_to(server.tcp());
    exchange(&mut old, GET);
    first.expect_announced(old.local_addr().unwrap(), server.tcp());
    let none = settings.pop().unwrap();
    ask(server.engine.control().exchange(settings.pop().unwrap())).unwrap();
    let mut new = connect_to(server.tcp());
    exchange(&mut new, GET);
    second.expect_announced(new.local_addr().unwrap(), server.tcp());
    ask(server.engine.control().exchange(none)).unwrap();
    let mut nowhere = connect_to(server.tcp());
    nowhere.write_all(GET).unwrap();
    expect_end(nowhere);
    exchange(&mut old, b"still there");
    exchange(&mut new, b"still there");
}

/// WEB-04, PROC-04, RELOAD-02: a confined process reaches the web servers of its start and nothing else,
/// and says what to do where they are not there.
#[test]
fn a_confined_server_reaches_its_web_servers() {
    let (web, other) = (WebServer::http(), WebServer::http());
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let gone = gone.unwrap();
    let ip = own_ipv4();
    let config = |http: SocketAddr| {
        format!(
            "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
             listen = {{ udp = [], tcp = \"{ip}:0\" }}\nrelay.addresses = [\"{ip}\"]\n\
             relay.ports = \"20000-29999\"\nweb = {{ https = \"{gone}\", http = \"{http}\" }}\n"
        )
    };
    let mut process = Process::start(&config(web.address));
    let line = process.log.iter().find(|line| line.contains("confined:"));
    let mut ports = [web.address.port(), gone.port()];
    ports.sort_unstable();
    let told = format!("TCP connect to ports {} and {} only", ports[0], ports[1]);
    let line = line.unwrap();
    assert!(
        line.contains(&told) || line.contains("not in force: Landlock"),
        "{line}"
    );
    let server = process.tcp[0];
    let mut stream = connect_to(server);
    exchange(&mut stream, GET);
    web.expect_announced(stream.local_addr().unwrap(), server);
    let mut hello = Vec::new();
    let mut session = tls::session(&self::config(&[b"h2"]));
    session.write_tls(&mut hello).unwrap();
    let mut lost = connect_to(server);
    lost.write_all(&hello).unwrap();
    expect_end(lost);
    let line = process.wait_for("cannot pass a connection on");
    assert!(
        line.contains("WARN") && line.contains(&gone.to_string()),
        "{line}"
    );
    assert!(
        line.contains("start the web server, or correct web.https"),
        "{line}"
    );

    let socket = process.home().join("admin.sock");
    eventually("the counts", || {
        let told = ask_socket(&socket, "GET", "/v1/info", "").success()["web"].clone();
        let of_gone = json!({"kind": "https", "address": gone, "connections": 0, "passed_on": 0});
        let of_web =
            json!({"kind": "http", "address": web.address, "connections": 1, "passed_on": 1});
        let failures = json!({
            "connection_limit": 0, "memory_limit": 0, "unreachable": 1, "no_resources": 0
        });
        told["servers"] == json!([of_gone, of_web]) && told["failures"] == failures
    });
    let info = std::process::Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["info", "--socket"])
        .arg(&socket)
        .output();
    let info = String::from_utf8(info.unwrap().stdout).unwrap();
    let lines = [
        format!("http to {}\n", web.address),
        "  1 now, 1 so far\n".to_owned(),
        "  closed instead: 1 unreachable\n".to_owned(),
    ];
    for line in lines {
        assert!(info.contains(&line), "{info}");
    }

    process.let_read();
    process.configure(&config(other.address));
    process.signal(Signal::HUP);
    let line = process.wait_for("in force after a restart");
    assert!(line.contains("web.http"), "{line}");
    process.configure(&config(gone));
    process.signal(Signal::HUP);
    let line = process.wait_for("configuration reloaded: ");
    assert!(
        line.contains("nothing else"),
        "that was the one before: {line}"
    );
    let line = process.wait_for("configuration reloaded changed=");
    assert!(line.contains("web.http"), "{line}");
    let mut lost = connect_to(server);
    lost.write_all(GET).unwrap();
    expect_end(lost);
    process.wait_for("or correct web.http");
    exchange(&mut stream, b"still there");
}

/// WEB-03: a call over TLS loses nothing while web traffic runs on the same port.
#[test]
fn a_call_goes_on_beside_web_traffic() {
    let (https, http) = (WebServer::https(), WebServer::http());
    let server = server_with(Some(&https), Some(&http), |_| {});
    let listener = server.tls();
    let mut call = Client::tls_to(listener);
    let peer = Peer::new();
    let relayed = call.allocate();
    call.bind(0x4000, peer.address());
    let surfers: Vec<_> = (0..4)
        .map(|number| {
            std::thread::spawn(move || {
                for _ in 0..10 {
                    if number % 2 == 0 {
                        let mut stream = connect_to(listener);
                        exchange(&mut stream, &[GET, &[1; 50_000]].concat());
                    } else {
                        let mut stream = browse(listener, WEB_NAME, &[b"h2"]);
                        exchange(&mut stream, &[2; 50_000]);
                    }
                }
            })
        })
        .collect();
    for serial in 0..1000_u32 {
        let data = serial.to_be_bytes();
        call.send_channel(0x4000, &data);
        peer.expect(&data, relayed);
        peer.send(&data, relayed);
        call.expect_channel(0x4000, &data);
    }
    surfers
        .into_iter()
        .for_each(|surfer| surfer.join().unwrap());
    call.assert_alive();
    let mut binding = Client::tcp_to(listener);
    binding.send(Packet::binding().bytes());
    binding.recv();
}
