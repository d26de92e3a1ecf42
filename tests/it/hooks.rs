//! Event hooks: what a receiver gets, and what receivers of every kind of badness cost the server.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Channel, channel};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use turnstone::hooks::{
    BATCH_EVENTS_MAX, Event, FINISHING_REQUESTS, Hooks, Kind, QUEUE_EVENTS_MAX, Settings, Timing,
};
use turnstone::metrics::HookEvents;

use crate::harness::{
    Client, DEADLINE, Packet, Peer, Process, ask_socket, ask_tcp, eventually, method, own_ipv4,
    unix_s,
};

const SECRET: &str = "a-secret-that-server-and-receiver-share";

/// A request as it came.
#[derive(Debug)]
struct Request {
    line: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Request {
    fn read(stream: impl Read) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut next_line = || {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            Some(line.trim_end().to_owned())
        };
        let line = next_line().filter(|line| !line.is_empty())?;
        let mut headers = BTreeMap::new();
        loop {
            let line = next_line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        Some(Self {
            line,
            headers,
            body,
        })
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn events(&self) -> Vec<Value> {
        self.json()["events"].as_array().unwrap().clone()
    }

    /// As a receiver should: the time is near, and the HMAC is that of time and body.
    fn assert_signed(&self) {
        self.assert_signed_with(SECRET);
    }

    fn assert_signed_with(&self, secret: &str) {
        let header = &self.headers["x-turnstone-signature"];
        let (time, mac) = header.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        assert!(time.parse::<u64>().unwrap().abs_diff(unix_s()) < 60);
        let signed = [time.as_bytes(), b".", &self.body].concat();
        assert_eq!(mac, hmac_sha256(secret.as_bytes(), &signed));
    }
}

/// RFC 2104 from its definition, for a key shorter than a block.
fn hmac_sha256(key: &[u8], message: &[u8]) -> String {
    let padded = |with: u8| -> Vec<u8> {
        let key = key.iter().copied().chain(std::iter::repeat(0));
        key.take(64).map(|byte| byte ^ with).collect()
    };
    let inner = Sha256::digest([&padded(0x36), message].concat());
    let outer = Sha256::digest([padded(0x5c), inner.to_vec()].concat());
    outer.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a receiver does with a request.
#[derive(Clone, Copy)]
enum Reaction {
    Answer(&'static str),
    /// Never answers; the connection is kept.
    Hang,
    /// Closes before it reads anything.
    CloseAtOnce,
    /// Accepts, and then sends a body that does not end.
    EndlessBody,
    /// An answer whose head does not end.
    EndlessHead,
}

const OK: Reaction = Reaction::Answer("HTTP/1.1 204 No Content\r\n\r\n");

/// A receiver that reacts to its requests in this order, and to all further ones as to the last.
struct Receiver {
    address: SocketAddr,
    requests: Channel<Request>,
}

impl Receiver {
    fn start(reactions: &[Reaction]) -> Self {
        Self::with_tls(reactions, None)
    }

    fn with_tls(reactions: &[Reaction], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let reactions = reactions.to_vec();
        let (sender, requests) = channel();
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                stream.set_write_timeout(Some(DEADLINE)).unwrap();
                let reaction = reactions[number.min(reactions.len() - 1)];
                let request = match &tls {
                    None => react(&stream, reaction),
                    Some(tls) => {
                        let tls = ServerConnection::new(Arc::clone(tls)).unwrap();
                        react(StreamOwned::new(tls, &stream), reaction)
                    }
                };
                if matches!(reaction, Reaction::Hang) {
                    kept.push(stream);
                }
                if request.is_some_and(|request| sender.send(request).is_err()) {
                    return;
                }
            }
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}/events?of=turn", self.address)
    }

    #[track_caller]
    fn next(&self) -> Request {
        self.requests.recv_timeout(DEADLINE).expect("a request")
    }

    /// Accepted events up to the batch that has one of this name.
    #[track_caller]
    fn events_until(&self, name: &str) -> Vec<Value> {
        let mut events = Vec::new();
        while !events.iter().any(|it: &Value| it["event"] == name) {
            events.extend(self.next().events());
        }
        events
    }
}

fn react(mut stream: impl Read + Write, reaction: Reaction) -> Option<Request> {
    if matches!(reaction, Reaction::CloseAtOnce) {
        return None;
    }
    let request = Request::read(&mut stream)?;
    let (head, more) = match reaction {
        Reaction::Answer(head) => (head, None),
        Reaction::EndlessBody => ("HTTP/1.1 200 OK\r\n\r\n", Some(vec![b'x'; 65_536])),
        Reaction::EndlessHead => (
            "HTTP/1.1 200 OK\r\n",
            Some(b"x-more: more\r\n".repeat(1000)),
        ),
        Reaction::Hang | Reaction::CloseAtOnce => return Some(request),
    };
    // The server may have closed.
    let _ = stream.write_all(head.as_bytes());
    if let Some(more) = more {
        // 64 MiB are endless enough: a bounded loop, which a server that read it all would survive.
        for _ in 0..1024 {
            if stream.write_all(&more).is_err() {
                return Some(request);
            }
        }
        panic!("the server took all of it");
    }
    let _ = stream.flush();
    Some(request)
}

fn server(url: &str, more: &str) -> Process {
    let ip = own_ipv4();
    Process::start(&format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 2\n\
         hooks.url = \"{url}\"\nhooks.secret = \"{SECRET}\"\n{more}\n"
    ))
}

/// A call of so many datagrams each way, of which none is lost.
fn call(process: &Process, datagrams: usize) -> (SocketAddr, SocketAddr) {
    let peer = Peer::new();
    let mut client = Client::udp_to(process.udp[0]);
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    for _ in 0..datagrams {
        client.send_channel(0x4000, b"to the peer");
        peer.expect(b"to the peer", relayed);
        peer.send(b"back", relayed);
        client.expect_channel(0x4000, b"back");
    }
    client.delete();
    (client.local(), relayed)
}

fn of<'a>(events: &'a [Value], name: &'a str) -> Vec<&'a Value> {
    events.iter().filter(|it| it["event"] == name).collect()
}

/// HOOK-01: a revocation by an operator is told, with the allocations that it ended.
#[test]
fn a_revocation_is_told() {
    let receiver = Receiver::start(&[OK]);
    let process = server(&receiver.url(), "");
    let mut client = Client::udp_to(process.udp[0]);
    client.allocate();
    let revoked = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["revoke", "alice", "--socket"])
        .arg(process.home().join("admin.sock"))
        .output()
        .unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    let events = receiver.events_until("credential_revoked");
    let [told] = of(&events, "credential_revoked")[..] else {
        panic!("{events:#?}")
    };
    assert_eq!(
        (&told["user"], &told["ended"]),
        (&"alice".into(), &1.into())
    );
    assert!(told["until_unix_s"].is_null());
    assert!(told.get("username").is_none());
}

/// HOOK-01: a revocation whose caller hangs up is carried out, logged and told all the same, or not begun.
#[test]
fn a_revocation_is_told_although_its_caller_hangs_up() {
    const ATTEMPTS: usize = 1000;
    let receiver = Receiver::start(&[OK]);
    let mut process = server(&receiver.url(), "");
    let socket = process.home().join("admin.sock");
    let revoked = || {
        let list = ask_socket(&socket, "GET", "/v1/revocations", "").success();
        list["revocations"].as_array().unwrap().len()
    };
    let mut attempts = 0;
    while revoked() < 5 {
        attempts += 1;
        assert!(
            attempts < ATTEMPTS,
            "the server looks whether somebody waits"
        );
        let body = format!(r#"{{"user": "user {attempts}"}}"#);
        let length = body.len();
        let request = format!(
            "POST /v1/revocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut caller = UnixStream::connect(&socket).unwrap();
        caller.write_all(request.as_bytes()).unwrap();
    }
    ask_socket(
        &socket,
        "POST",
        "/v1/revocations",
        r#"{"user": "the last"}"#,
    )
    .success();
    let revoked = revoked();
    process.terminate();
    assert!(process.wait().success());
    let events: Vec<Value> = receiver
        .requests
        .try_iter()
        .flat_map(|it| it.events())
        .collect();
    assert_eq!(of(&events, "credential_revoked").len(), revoked);
    let log = process.log.join("\n");
    let ended = "allocations with revoked credentials ended";
    assert_eq!(log.matches(ended).count(), revoked, "{log}");
}

/// HOOK-01, HOOK-02, HOOK-05: every event of a call once, with its usage, in requests that are signed.
#[test]
fn a_call_is_told_once_and_signed() {
    let receiver = Receiver::start(&[OK]);
    let mut process = server(&receiver.url(), "");
    let mut stranger = Client::udp_to(process.udp[0]).with_user("mallory", "guess");
    stranger.challenge();
    let signed = stranger.signed(Packet::request(method::ALLOCATE));
    assert_eq!(stranger.exchange(&signed).code(), 401);
    let (client, relayed) = call(&process, 7);
    process.terminate();
    assert!(process.wait().success());

    let requests: Vec<Request> = receiver.requests.try_iter().collect();
    let mut ids = Vec::new();
    for request in &requests {
        request.assert_signed();
        assert_eq!(request.line, "POST /events?of=turn HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        let agent = format!("turnstone/{}", env!("CARGO_PKG_VERSION"));
        assert_eq!(request.headers["user-agent"], agent);
        assert_eq!(request.json()["dropped"], 0);
        assert_eq!(request.json()["batch"], *request.headers["idempotency-key"]);
        ids.push(request.headers["idempotency-key"].clone());
    }
    let events: Vec<Value> = requests.iter().flat_map(Request::events).collect();
    ids.extend(
        events
            .iter()
            .map(|it| it["id"].as_str().unwrap().to_owned()),
    );
    let different: std::collections::BTreeSet<&String> = ids.iter().collect();
    assert_eq!(different.len(), ids.len());
    assert_eq!(events.len(), 3, "{events:#?}");

    let [failed] = of(&events, "authentication_failed")[..] else {
        panic!("{events:#?}")
    };
    assert_eq!(failed["username"], "mallory");
    assert_eq!(failed["client"], stranger.local().to_string());
    assert_eq!(
        (&failed["method"], &failed["code"]),
        (&"Allocate".into(), &401.into())
    );
    let [created] = of(&events, "allocation_created")[..] else {
        panic!("{events:#?}")
    };
    let [ended] = of(&events, "allocation_ended")[..] else {
        panic!("{events:#?}")
    };
    assert_eq!(created["lifetime_s"], 600);
    for event in [created, ended] {
        assert_eq!(event["username"], "alice");
        assert_eq!(event["client"], client.to_string());
        assert_eq!(event["transport"], "udp");
        assert_eq!(event["server"], process.udp[0].to_string());
        assert_eq!(event["relayed"], serde_json::json!([relayed.to_string()]));
        assert_eq!(event["allocation"], created["allocation"]);
        let at_s = event["at_unix_ms"].as_u64().unwrap() / 1000;
        assert!(at_s.abs_diff(unix_s()) < 60);
    }
    assert_eq!(ended["reason"], "deleted");
    assert!(ended["duration_ms"].as_u64().unwrap() < 60_000);
    let expected = serde_json::json!({
        "packets_to_peers": 7, "bytes_to_peers": 77, "packets_to_client": 7, "bytes_to_client": 28,
        "dropped_to_client": 0, "limited_to_peers": 0, "limited_to_client": 0, "peers": 1,
    });
    assert_eq!(ended["usage"], expected);
}

/// HOOK-03: a receiver that fails gets the same batch again, with the same name and a new time.
#[test]
fn what_fails_is_sent_again() {
    let failing = Reaction::Answer("HTTP/1.1 500 Internal Server Error\r\n\r\n");
    let busy = Reaction::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n\r\n");
    let receiver = Receiver::start(&[failing, busy, OK]);
    let mut process = server(&receiver.url(), "");
    call(&process, 1);
    let attempts = [receiver.next(), receiver.next(), receiver.next()];
    for attempt in &attempts {
        attempt.assert_signed();
        assert_eq!(attempt.body, attempts[0].body);
        let key = "idempotency-key";
        assert_eq!(attempt.headers[key], attempts[0].headers[key]);
    }
    process.wait_for("event hooks: answered 500");
    process.wait_for("the receiver accepts events again");
    let mut events = attempts[2].events();
    call(&process, 1);
    process.terminate();
    assert!(process.wait().success());
    events.extend(receiver.requests.try_iter().flat_map(|it| it.events()));
    assert_eq!(of(&events, "allocation_created").len(), 2);
    assert_eq!(of(&events, "allocation_ended").len(), 2);
}

/// HOOK-04: whatever the receiver does at first, calls lose nothing and in the end it has every event.
#[test]
fn bad_receivers_cost_calls_nothing() {
    for bad in [
        Reaction::Hang,
        Reaction::CloseAtOnce,
        Reaction::EndlessHead,
        Reaction::Answer("nonsense\r\n\r\n"),
    ] {
        let receiver = Receiver::start(&[bad, OK]);
        let mut process = server(&receiver.url(), "hooks.timeout_s = 1");
        call(&process, 1);
        process.wait_for("event hooks: ");
        call(&process, 200);
        process.wait_for("the receiver accepts events again");
        process.terminate();
        assert!(process.wait().success());
        let requests: Vec<Request> = receiver.requests.try_iter().collect();
        // The one that was not accepted may have been read all the same, and has the same name.
        let batches: BTreeMap<&String, &Request> = requests
            .iter()
            .map(|request| (&request.headers["idempotency-key"], request))
            .collect();
        let events: Vec<Value> = batches.values().flat_map(|it| it.events()).collect();
        assert_eq!(of(&events, "allocation_ended").len(), 2);
    }
}

/// HOOK-04: the status is the answer, and a body that does not end is not read.
#[test]
fn an_endless_body_is_cut_off() {
    let receiver = Receiver::start(&[Reaction::EndlessBody, OK]);
    let mut process = server(&receiver.url(), "");
    call(&process, 1);
    let events = receiver.events_until("allocation_ended");
    call(&process, 200);
    let more = receiver.events_until("allocation_ended");
    process.terminate();
    assert!(process.wait().success());
    assert_eq!((events.len(), more.len()), (2, 2));
    assert!(receiver.requests.try_iter().next().is_none(), "twice");
}

/// HOOK-04, HOOK-06: nobody listens; the server relays, and ends.
#[test]
fn a_receiver_that_is_not_there_costs_nothing() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mut process = server(&format!("http://{gone}/secret-path"), "");
    call(&process, 1);
    let line = process.wait_for("event hooks: ");
    assert!(line.contains("refused"), "{line}");
    call(&process, 200);
    process.terminate();
    assert!(process.wait().success());
    let log = process.log.join("\n");
    assert!(log.contains("not sent before the end"), "{log}");
    assert!(!log.contains("secret-path") && !log.contains(SECRET));
}

/// HOOK-02: a secret that leaked is changed without ending a call.
#[test]
fn another_secret_signs_at_once() {
    let receiver = Receiver::start(&[OK]);
    let mut process = server(&receiver.url(), "hooks.events = \"allocation_ended\"");
    call(&process, 1);
    receiver.next().assert_signed();
    let other = "another-secret-of-server-and-receiver";
    let text = fs::read_to_string(process.home().join("turnserver.toml")).unwrap();
    let line = process.reload(&text.replace(SECRET, other));
    assert!(line.contains("changed=\"hooks.secret\""), "{line}");
    call(&process, 1);
    receiver.next().assert_signed_with(other);
}

/// HOOK-04: what became of events is among the metrics.
#[test]
fn lost_events_are_counted() {
    let refuses = Reaction::Answer("HTTP/1.1 400 Bad Request\r\n\r\n");
    let receiver = Receiver::start(&[refuses, OK]);
    let mut process = server(&receiver.url(), "hooks.events = \"allocation_ended\"");
    let metrics = process.metrics.unwrap();
    let are = |sent: u64, failed: u64| {
        let page = ask_tcp(metrics, "GET", "/metrics", &[], "").body;
        let has = |sample: String| page.lines().any(|it| it == sample);
        has(format!(
            "turnstone_hook_events_total{{result=\"sent\"}} {sent}"
        )) && has(format!(
            "turnstone_hook_events_total{{result=\"failed\"}} {failed}"
        )) && has("turnstone_hook_events_total{result=\"dropped\"} 0".to_owned())
            && has("turnstone_hook_events_queued 0".to_owned())
    };
    assert!(are(0, 0));
    call(&process, 1);
    process.wait_for("refused with 400");
    assert!(are(0, 1));
    call(&process, 1);
    eventually("an event that is counted as sent", || are(1, 1));
}

/// HOOK-03: what the receiver refuses is not sent again, and the next batch tells how much it was.
/// Redirects are not followed.
#[test]
fn what_is_refused_is_dropped_and_told() {
    for (refusal, status) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "400"),
        ("HTTP/1.1 302 Found\r\nLocation: /other\r\n\r\n", "302"),
    ] {
        let receiver = Receiver::start(&[Reaction::Answer(refusal), OK]);
        let mut process = server(&receiver.url(), "hooks.events = \"allocation_ended\"");
        call(&process, 1);
        assert_eq!(receiver.next().events().len(), 1);
        process.wait_for(&format!("refused with {status}"));
        call(&process, 1);
        let next = receiver.next();
        assert_eq!(next.json()["dropped"], 1);
        assert_eq!(next.events().len(), 1);
        assert_eq!(next.line, "POST /events?of=turn HTTP/1.1");
        process.terminate();
        assert!(process.wait().success());
        assert!(receiver.requests.try_iter().next().is_none());
    }
}

/// HOOK-06: the allocations that the end of the server ends are told.
#[test]
fn the_end_of_the_server_is_told() {
    let receiver = Receiver::start(&[OK]);
    let mut process = server(&receiver.url(), "limits.allocations_per_user = 1000");
    let mut clients: Vec<Client> = (0..150).map(|_| Client::udp_to(process.udp[0])).collect();
    for client in &mut clients {
        client.allocate();
    }
    process.terminate();
    assert!(process.wait().success());
    let events: Vec<Value> = receiver
        .requests
        .try_iter()
        .flat_map(|it| it.events())
        .collect();
    let ended = of(&events, "allocation_ended");
    assert_eq!(ended.len(), clients.len());
    assert!(ended.iter().all(|it| it["reason"] == "shutdown"));
}

/// A certificate for localhost, and the authority that it is of.
fn certificates() -> (Arc<ServerConfig>, String) {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &authority).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (Arc::new(config), authority.pem())
}

fn write_ca(directory: &Path, pem: &str) -> String {
    let path = directory.join("ca.pem");
    fs::write(&path, pem).unwrap();
    format!("hooks.ca_file = \"{}\"", path.display())
}

/// HOOK-06: certificates elsewhere do not keep a server that has given up its files from a reload.
#[test]
fn certificates_in_another_directory_can_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(directory.path(), everybody).unwrap();
    let (_, ca) = certificates();
    let more = write_ca(directory.path(), &ca);
    let mut process = server("https://localhost:1/", &more);
    let file = process.home().join("turnserver.toml");
    let text = fs::read_to_string(file).unwrap() + "server.software = \"changed\"\n";
    let line = process.reload(&text);
    assert!(line.contains("changed=\"server.software\""), "{line}");
}

/// HOOK-07: https, to a name, by a process that opens no file any more and connects to one port.
#[test]
fn https_needs_a_certificate_of_the_authority() {
    let directory = tempfile::tempdir().unwrap();
    let (tls, ca) = certificates();
    let (_, other_ca) = certificates();
    let receiver = Receiver::with_tls(&[OK], Some(tls));
    let port = receiver.address.port();
    let url = format!("https://localhost:{port}/");
    let mut process = server(&url, &write_ca(directory.path(), &ca));
    let log = process.log.join("\n");
    let exception = format!("TCP connect to port {port} only");
    assert!(
        log.contains(&exception) || log.contains("not in force: Landlock"),
        "{log}"
    );
    call(&process, 1);
    let request = receiver.next();
    request.assert_signed();
    assert_eq!(request.headers["host"], format!("localhost:{port}"));
    process.terminate();
    assert!(process.wait().success());
    while receiver.requests.try_recv().is_ok() {}

    let mut process = server(&url, &write_ca(directory.path(), &other_ca));
    call(&process, 1);
    let line = process.wait_for("event hooks: ");
    assert!(line.contains("invalid peer certificate"), "{line}");
    process.terminate();
    assert!(process.wait().success());
    assert!(receiver.requests.try_recv().is_err());
}

fn settings(url: String, timing: Timing) -> Settings {
    Settings {
        url: url.parse().unwrap(),
        secret: SECRET.into(),
        kinds: Kind::ALL.to_vec(),
        allocations: 0,
        timeout: Duration::from_millis(200),
        ca_file: None,
        timing,
    }
}

fn revoked(name: &str) -> Event<'_> {
    Event::CredentialRevoked {
        user: None,
        username: Some(name),
        until_unix_s: None,
        ended: 1,
    }
}

/// HOOK-04: while the receiver hangs the queue fills to its bound, and what comes then is counted;
/// when it is back it gets everything that was queued, in order, and is told of the rest.
#[test]
fn an_outage_costs_what_does_not_fit() {
    let receiver = Receiver::start(&[Reaction::Hang, OK]);
    let timing = Timing {
        gather: Duration::from_millis(10),
        retry_first: Duration::from_millis(10),
        ..Timing::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hooks = Hooks::prepare(&settings(receiver.url(), timing))
            .unwrap()
            .start();
        let handle = hooks.handle();
        for number in 0..QUEUE_EVENTS_MAX + 3 {
            handle.send(0, &revoked(&number.to_string()));
        }
        let full = HookEvents {
            queued: QUEUE_EVENTS_MAX as u64,
            dropped: 3,
            ..HookEvents::default()
        };
        assert_eq!(handle.statistics(), full);
        let sent = async {
            while handle.statistics().queued > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, sent).await.unwrap();
        let expected = HookEvents {
            sent: QUEUE_EVENTS_MAX as u64,
            dropped: 3,
            ..HookEvents::default()
        };
        assert_eq!(handle.statistics(), expected);
        hooks.finish().await;
    });
    let requests: Vec<Request> = receiver.requests.try_iter().collect();
    assert_eq!(
        requests[0].body, requests[1].body,
        "it hung, and came again"
    );
    assert_eq!(requests.len(), 1 + QUEUE_EVENTS_MAX / BATCH_EVENTS_MAX);
    let dropped = requests[1..]
        .iter()
        .map(|it| it.json()["dropped"].as_u64().unwrap());
    assert_eq!(dropped.sum::<u64>(), 3);
    let names = requests[1..].iter().flat_map(Request::events);
    let names: Vec<String> = names
        .map(|it| it["username"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (0..QUEUE_EVENTS_MAX).map(|it| it.to_string()).collect();
    assert_eq!(names, expected);
}

/// HOOK-06: a receiver that takes its time with every request gets what is left at the end, because
/// requests do not wait for each other. This one answers none before it has them all.
#[test]
fn the_end_does_not_go_one_request_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let receiver = std::thread::spawn(move || {
        let streams = listener.incoming().take(FINISHING_REQUESTS);
        let mut streams: Vec<TcpStream> = streams.map(Result::unwrap).collect();
        let requests: Vec<Request> = streams
            .iter()
            .map(|stream| {
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                Request::read(stream).unwrap()
            })
            .collect();
        for stream in &mut streams {
            stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .unwrap();
        }
        requests
    });
    let mut settings = settings(url, Timing::default());
    settings.timeout = DEADLINE;
    let events = FINISHING_REQUESTS * BATCH_EVENTS_MAX;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hooks = Hooks::prepare(&settings).unwrap().start();
        let handle = hooks.handle();
        for number in 0..events {
            handle.send(0, &revoked(&number.to_string()));
        }
        hooks.finish().await;
        assert_eq!(handle.statistics().sent, events as u64);
    });
    let requests = receiver.join().unwrap();
    let received = requests.iter().map(|it| it.events().len());
    assert_eq!(received.collect::<Vec<_>>(), [BATCH_EVENTS_MAX; 8]);
}

/// HOOK-03: a batch is tried for a bounded time, whatever the receiver asks for.
#[test]
fn a_batch_is_given_up_in_the_end() {
    let later = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 86400\r\n\r\n";
    let receiver = Receiver::start(&[Reaction::Answer(later)]);
    let timing = Timing {
        gather: Duration::from_millis(1),
        retry_first: Duration::from_millis(1),
        give_up: Duration::from_millis(50),
        ..Timing::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let hooks = Hooks::prepare(&settings(receiver.url(), timing))
            .unwrap()
            .start();
        let handle = hooks.handle();
        handle.send(0, &revoked("x"));
        let given_up = async {
            while handle.statistics().failed == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(DEADLINE, given_up).await.unwrap();
        hooks.finish().await;
        let expected = HookEvents {
            failed: 1,
            ..HookEvents::default()
        };
        assert_eq!(handle.statistics(), expected);
    });
    assert_eq!(
        receiver.requests.try_iter().count(),
        2,
        "at once, and at the end"
    );
}

/// HOOK-04: a receiver that never answers keeps no connection open beyond the deadline.
#[test]
fn connections_are_not_kept() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let process = server(&url, "hooks.timeout_s = 1");
    call(&process, 1);
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = Vec::new();
    // Ends when the server closes.
    stream.read_to_end(&mut request).unwrap();
    assert!(request.starts_with(b"POST / HTTP/1.1\r\n"));
    call(&process, 1);
}

/// HOOK-05: a flood of failures is a few events, and the call's are among them.
#[test]
fn strangers_cannot_flood_the_receiver() {
    let receiver = Receiver::start(&[OK]);
    let more = "limits.failed_authentications_per_minute = 0";
    let mut process = server(&receiver.url(), more);
    let mut stranger = Client::udp_to(process.udp[0]).with_user("alice", "guess");
    stranger.challenge();
    let signed = stranger.signed(Packet::request(method::ALLOCATE));
    let started = Instant::now();
    for _ in 0..500 {
        assert_eq!(stranger.exchange(&signed).code(), 401);
    }
    let seconds = started.elapsed().as_secs() as usize + 2;
    call(&process, 1);
    process.terminate();
    assert!(process.wait().success());
    let requests = receiver.requests.try_iter();
    let events: Vec<Value> = requests.flat_map(|it| it.events()).collect();
    let failed = of(&events, "authentication_failed").len();
    assert!(
        (1..=3 * seconds).contains(&failed),
        "{failed} in {seconds} s"
    );
    assert_eq!(of(&events, "allocation_ended").len(), 1);
}
