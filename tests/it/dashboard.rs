//! The dashboard as a browser gets it, and the numbers that it asks for.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::attribute as a;
use crate::harness::{Client, DEADLINE, Packet, Peer, Process, eventually, method, own_ipv4};

const TOKEN: &str = "a-token-that-nobody-else-knows";

/// A server that answers operators over TCP and on a Unix socket.
struct Server {
    process: Process,
    tcp: SocketAddr,
    home: TempDir,
}

impl Server {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let (ip, socket) = (own_ipv4(), home.path().join("operators.sock"));
        let mut process = Process::start(&format!(
            "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
             listen.udp = [\"{ip}:0\"]\nlisten.tcp = []\nrelay.addresses = [\"{ip}\"]\n\
             relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 2\n\
             limits.allocations_per_user = 1\nadmin.listen = \"127.0.0.1:0\"\n\
             admin.token = \"{TOKEN}\"\nadmin.socket = \"{}\"\n",
            socket.display()
        ));
        let line = process.wait_for("operators are answered address=");
        let (_, address) = line.rsplit_once("address=").unwrap();
        let tcp = address.parse().unwrap();
        Self { process, tcp, home }
    }

    fn socket(&self) -> PathBuf {
        self.home.path().join("operators.sock")
    }

    fn over_tcp(&self, path: &str, more: &str) -> Answer {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        ask(
            stream,
            "GET",
            path,
            &format!("Host: {}\r\n{more}", self.tcp),
        )
    }

    fn statistics(&self) -> Value {
        let answer = over_socket(
            &self.socket(),
            "GET",
            "/v1/statistics",
            "Host: localhost\r\n",
        );
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).unwrap()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn over_socket(socket: &Path, method: &str, path: &str, head: &str) -> Answer {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    ask(stream, method, path, head)
}

fn ask(mut stream: impl Read + Write, method: &str, path: &str, head: &str) -> Answer {
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// DASH-01: the files, with what keeps a browser to them; the numbers are for who knows the token.
#[test]
fn the_page_needs_no_token_and_what_it_asks_does() {
    let server = Server::start();
    let page = server.over_tcp("/", "");
    assert_eq!(page.status, 200);
    let references = page.body.split(['"', '\'']);
    let files = references.filter(|it| [".js", ".css", ".svg"].iter().any(|end| it.ends_with(end)));
    let files: Vec<String> = files.map(|name| format!("/{name}")).collect();
    assert!(files.len() >= 3, "{files:?}");
    for path in files.iter().map(String::as_str).chain(["/"]) {
        let file = server.over_tcp(path, "");
        assert_eq!(file.status, 200, "{path}");
        for header in [
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            assert!(file.head.contains(header), "{path}: {}", file.head);
        }
        let over_socket = over_socket(&server.socket(), "GET", path, "Host: localhost\r\n");
        assert_eq!(over_socket.body, file.body, "{path}");
    }
    for path in ["/v1/info", "/v1/statistics", "/v1/allocations", "/nothing"] {
        assert_eq!(server.over_tcp(path, "").status, 401, "{path}");
    }
    let token = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(server.over_tcp("/v1/statistics", &token).status, 200);
    assert_eq!(server.over_tcp("/nothing", &token).status, 404);
    server.process.terminate();
}

/// DASH-02
#[test]
fn statistics_are_of_what_happened() {
    let server = Server::start();
    let (peer, udp) = (Peer::new(), server.process.udp[0]);
    let mut client = Client::udp_to(udp);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    for _ in 0..3 {
        client.send_channel(0x4000, b"seventeen bytes..");
        peer.recv();
        peer.send(b"five.", relayed);
        client.expect_channel(0x4000, b"five.");
    }
    let mut second = Client::udp_to(udp);
    assert_eq!(second.try_allocate(|packet| packet).code(), 486);
    let mut stranger = Client::udp_to(udp).with_user("mallory", "x");
    stranger.challenge();
    let request = Packet::request(method::ALLOCATE);
    let request = stranger.signed(request.attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]));
    assert_eq!(stranger.exchange(&request).code(), 401);
    client.send_data((own_ipv4(), 9).into(), b"without permission");

    let expected = json!({
        "allocations": 1, "tcp_connections": 0, "draining": null, "workers_respond": true,
        "packets_to_peers": 3, "bytes_to_peers": 51, "packets_to_client": 3, "bytes_to_client": 15,
        "failures": 2, "drops": 1,
        "relay_ports": {"live": 1, "held": 0, "resting": 0, "free": 9999},
    });
    let mut statistics = Value::Null;
    // Workers publish once a second.
    eventually("the numbers being published", || {
        statistics = server.statistics();
        statistics["now"] == expected
    });
    assert_eq!(statistics["authentication_failures"]["unknown_user"], 1);
    assert_eq!(statistics["limits_reached"]["allocations_per_user"], 1);
    assert_eq!(statistics["drops"]["no_permission"], 1);
    assert_eq!(statistics["drops"]["listener_overflow"], 0);
    assert_eq!(statistics["ended"]["deleted"], 0);
    let series = statistics["series"].as_object().unwrap();
    let lengths: Vec<usize> = series
        .values()
        .map(|it| it.as_array().unwrap().len())
        .collect();
    assert!(
        lengths.iter().all(|length| *length == lengths[0]),
        "{lengths:?}"
    );
    assert_eq!(statistics["interval_s"], 10);
}

/// DASH-03: the socket needs no token, and may be behind `ssh -L`, where every page that the operator has
/// open can reach it.
#[test]
fn pages_of_others_do_not_reach_the_socket() {
    let server = Server::start();
    let ask = |method, head: &str| over_socket(&server.socket(), method, "/v1/drain", head);
    for (head, reason) in [
        (
            "Host: localhost:8479\r\nOrigin: https://evil.example\r\n",
            "another site",
        ),
        ("Host: localhost:8479\r\nOrigin: null\r\n", "another site"),
        (
            "Host: localhost:8479\r\nOrigin: http://localhost:9000\r\n",
            "another site",
        ),
        (
            "Host: localhost:8479\r\nSec-Fetch-Site: cross-site\r\n",
            "another site",
        ),
        (
            "Host: localhost:8479\r\nSec-Fetch-Site: same-site\r\n",
            "another site",
        ),
        // A name of somebody else's that was made to point here.
        (
            "Host: evil.example:8479\r\nOrigin: http://evil.example:8479\r\n",
            "asked by a name",
        ),
        (
            "Host: localhost.evil.example\r\nSec-Fetch-Site: same-origin\r\n",
            "asked by a name",
        ),
        (
            "Host: evil.example\r\nSec-Fetch-Site: none\r\n",
            "asked by a name",
        ),
    ] {
        let answer = ask("POST", head);
        assert_eq!(answer.status, 403, "{head}");
        assert!(answer.body.contains(reason), "{head}: {}", answer.body);
    }
    // All that a browser says of a page's own GET over HTTP, where names were made to point here.
    for host in [
        "evil.example:8479",
        "evil.example",
        "localhost.evil.example",
        "",
    ] {
        let answer = ask("GET", &format!("Host: {host}\r\n"));
        assert_eq!(answer.status, 403, "{host}");
    }
    let statistics = server.statistics();
    assert_eq!(
        statistics["now"]["draining"],
        Value::Null,
        "nobody was let through"
    );
    for head in [
        "Host: localhost\r\n",
        "Host: localhost:8479\r\nOrigin: http://localhost:8479\r\nSec-Fetch-Site: same-origin\r\n",
        "Host: 127.0.0.1:8479\r\nOrigin: http://127.0.0.1:8479\r\n",
        "Host: [::1]:8479\r\nOrigin: http://[::1]:8479\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        assert_eq!(ask("DELETE", head).status, 200, "{head}");
    }
}
