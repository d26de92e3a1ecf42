//! Authorities of certificates that fail. What one that works gives is in `tests/interop`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::routing::get;
use socket2::{Domain, Socket, Type};
use turnstone::admin::{CONNECTIONS_MAX, serve_crowd};

use crate::harness::{
    Client, DEADLINE, Packet, Process, ask_socket, ask_tcp, eventually, own_ipv4,
};

/// What an authority does.
#[derive(Clone, Copy)]
enum Authority {
    /// Nobody listens.
    Away,
    /// It accepts, and says nothing.
    Hangs,
    /// It closes what it has accepted.
    Closes,
    /// It is something else.
    Foreign,
    /// It begins well, and then has had enough.
    Refuses,
}

const PROBLEM: &str =
    "{\"type\":\"urn:ietf:params:acme:error:rateLimited\",\"detail\":\"too many\"}";

impl Authority {
    /// Starts it; returns its address, and what keeps it there.
    fn start(self) -> (SocketAddr, Option<TcpListener>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        match self {
            Self::Away => (address, None),
            Self::Hangs => (address, Some(listener)),
            _ => {
                // Until the end of the test's process: it waits for connections.
                std::thread::spawn(move || {
                    for stream in listener.incoming() {
                        self.answer(stream.unwrap(), address);
                    }
                });
                (address, None)
            }
        }
    }

    fn answer(self, mut stream: TcpStream, own: SocketAddr) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let line = lines.next().and_then(Result::ok).unwrap_or_default();
        let (head, body) = match (self, line.split(' ').nth(1)) {
            (Self::Refuses, Some("/dir")) => {
                let at = |what: &str| format!("\"{what}\":\"http://{own}/{what}\"");
                let parts = ["newNonce", "newAccount", "newOrder"].map(at);
                ("200 OK", format!("{{{}}}", parts.join(",")))
            }
            (Self::Refuses, Some("/newNonce")) => ("200 OK\r\nReplay-Nonce: AAAA", String::new()),
            (Self::Refuses, _) => ("429 Too Many\r\nRetry-After: 7200", PROBLEM.to_owned()),
            (Self::Foreign, _) => ("404 Not Found", "<html>".to_owned()),
            _ => return,
        };
        // The rest of the request, so that closing does not take the answer back.
        let mut lines = lines.map_while(Result::ok);
        let _ = lines.by_ref().take_while(|line| !line.is_empty()).count();
        let length = body.len();
        let _ = write!(
            stream,
            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
}

fn server(directory: SocketAddr) -> Process {
    server_with(directory, "")
}

/// The same after a line of shell.
fn server_with(directory: SocketAddr, first: &str) -> Process {
    let ip = own_ipv4();
    let config = format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nlisten.tls = [\"{ip}:0\"]\n\
         relay.addresses = [\"{ip}\"]\npeers.allow_loopback = true\nserver.workers = 1\n\
         [tls.acme]\ndomains = [\"turn.example.org\"]\nterms_of_service_agreed = true\n\
         directory = \"http://{directory}/dir\"\nchallenge = \"http-01\"\n\
         http_listen = \"127.0.0.1:0\"\n"
    );
    Process::start_with(&config, first)
}

/// ACME-04, ACME-07: the server serves, says why there is no certificate and what to do, and ends when
/// it is told to.
#[test]
fn an_authority_that_fails_costs_nothing() {
    for (authority, why) in [
        (Authority::Away, Some("let this server reach 127.0.0.1")),
        (Authority::Hangs, None),
        (Authority::Closes, Some("let this server reach 127.0.0.1")),
        (
            Authority::Foreign,
            Some("it answers 404 Not Found; look whether"),
        ),
        (Authority::Refuses, Some("too many (rateLimited); wait")),
    ] {
        let (directory, _held) = authority.start();
        let mut process = server(directory);
        let reply = Client::udp_to(process.udp[0]).exchange(&Packet::binding());
        assert_eq!(reply.code(), 0);
        Client::tcp_to(process.tls[0]).exchange(&Packet::binding());
        if let Some(why) = why {
            let line = process.wait_for("ACME: no certificate");
            assert!(line.contains(why), "{line}");
            // Not before the authority wants it.
            let is_later = line.contains("next_attempt_in=\"2h");
            assert_eq!(is_later, matches!(authority, Authority::Refuses), "{line}");
            let socket = process.home().join("admin.sock");
            let info = ask_socket(&socket, "GET", "/v1/info", "").success();
            let acme = &info["acme"];
            assert_eq!(acme["domains"][0], "turn.example.org");
            assert_eq!(acme["has_certificate"], false);
            assert!(acme["last_error"].as_str().unwrap().contains(why), "{acme}");
            assert!(acme["next_attempt_unix_s"].is_u64(), "{acme}");
            let page = ask_tcp(process.metrics.unwrap(), "GET", "/metrics", &[], "").body;
            let counted = "turnstone_acme_orders_total{result=\"failure\"} 1\n";
            assert!(page.contains(counted), "{page}");
        }
        let began = Instant::now();
        process.terminate();
        assert!(process.wait().success());
        assert!(
            began.elapsed() < DEADLINE / 2,
            "the end waits for the authority"
        );
    }
}

/// ACME-04: an authority that refused an account, and wants two hours of peace, has them whoever starts
/// the server again.
#[test]
fn a_restart_asks_no_sooner() {
    let (directory, _held) = Authority::Refuses.start();
    let state = tempfile::tempdir().unwrap();
    let first = format!("export STATE_DIRECTORY={}", state.path().display());
    let mut process = server_with(directory, &first);
    process.wait_for("ACME: no certificate");
    process.terminate();
    assert!(process.wait().success());
    let process = server_with(directory, &first);
    let socket = process.home().join("admin.sock");
    let began = Instant::now();
    let acme = loop {
        let acme = ask_socket(&socket, "GET", "/v1/info", "").success()["acme"].clone();
        if acme["next_attempt_unix_s"].is_u64() {
            break acme;
        }
        assert!(began.elapsed() < DEADLINE, "{acme}");
    };
    assert_eq!(acme["last_error"], serde_json::Value::Null, "{acme}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let next = acme["next_attempt_unix_s"].as_u64().unwrap();
    assert!(next > now.as_secs() + 3600, "{acme}");
}

/// ACME-05: at its port there is nothing but tokens, of which none is asked for.
#[test]
fn only_tokens_are_answered() {
    let (directory, _held) = Authority::Hangs.start();
    let mut process = server(directory);
    let line = process.wait_for("ACME: the authority is answered");
    let (_, address) = line.split_once("address=").unwrap();
    let address: SocketAddr = address.trim().parse().unwrap();
    for target in [
        "/",
        "/metrics",
        "/v1/info",
        "/.well-known/acme-challenge/token",
    ] {
        let answer = ask_tcp(address, "GET", target, &[], "");
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{target}");
    }
}

/// ACME-05: whoever has the most connections makes room at the limit, with its oldest.
#[test]
fn slow_connections_keep_no_authority_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let (asked, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (tell_asked, tell_ended) = (Arc::clone(&asked), Arc::clone(&ended));
    let router = Router::new().route("/answer", get(async || "here")).route(
        "/slow",
        get(move || {
            tell_asked.fetch_add(1, Relaxed);
            std::future::pending::<()>()
        }),
    );
    // Until the end of the test's process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let tell_ended = move || {
            tell_ended.fetch_add(1, Relaxed);
        };
        runtime.block_on(serve_crowd(listener, router, 2 * DEADLINE, tell_ended))
    });
    let ask = |from: Ipv4Addr, path: &str| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from = SocketAddr::from((from, 0));
        socket.bind(&from.into()).unwrap();
        socket.connect(&server.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: turn\r\n\r\n").unwrap();
        stream
    };
    let (one, other) = (own_ipv4(), own_ipv4());
    let mut first = ask(other, "/slow");
    let mut slow: Vec<TcpStream> = (1..CONNECTIONS_MAX).map(|_| ask(one, "/slow")).collect();
    eventually("all of them", || asked.load(Relaxed) == CONNECTIONS_MAX);
    assert_eq!(ended.load(Relaxed), 0, "there is room for so many");

    let mut answer = String::new();
    ask(other, "/answer").read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nhere"), "{answer}");
    assert_eq!(ended.load(Relaxed), 1);
    assert_eq!(slow[0].read(&mut [0; 1]).unwrap(), 0, "the oldest of them");
    for stream in [&mut first, &mut slow[1]] {
        stream.set_nonblocking(true).unwrap();
        let open = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(open.kind(), ErrorKind::WouldBlock);
    }
    // It has gone, so that the next one costs nobody anything.
    ask(one, "/answer").read_to_string(&mut answer).unwrap();
    assert_eq!(ended.load(Relaxed), 1);
}
