//! What the log says: who came, who was refused and the true reason, and no secret. The process's
//! own lines are read.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use turnstone::auth::{Authenticator, Credentials, NonceKey};

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Peer, Process, method, own_ipv4, unix_s};

const SECRET: &str = "north-secret-that-nobody-may-read-in-a-log";

fn start(more: &str) -> Process {
    let ip = own_ipv4();
    Process::start(&format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         auth.static_auth_secret = \"{SECRET}\"\nauth.nonce_secret = \"{SECRET}-for-nonces\"\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\nserver.workers = 1\n{more}\n"
    ))
}

fn rest_password(username: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(username.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())
}

#[track_caller]
fn assert_has(line: &str, all: &[&str]) {
    for expected in all {
        assert!(line.contains(expected), "{expected} is not in {line}");
    }
}

/// SEC-16: an allocation's beginning and its end.
#[test]
fn an_allocation_is_two_lines() {
    let mut process = start("peers.allow_loopback = true");
    let mut client = Client::udp_to(process.udp[0]);
    let relayed = client.allocate();
    let (local, relayed) = (
        format!("client={}", client.local()),
        format!("relayed={relayed}"),
    );
    let line = process.wait_for("allocation created");
    let common = ["user=alice", &local, &relayed, "transport=udp"];
    assert_has(&line, &common);
    assert_has(&line, &["lifetime_s=600", " INFO "]);
    let id = |line: &str| {
        let (_, rest) = line.split_once(" id=").unwrap();
        rest.split(' ').next().unwrap().to_owned()
    };
    let created = id(&line);
    client.delete();
    let line = process.wait_for("allocation closed");
    assert_has(&line, &common);
    assert_has(
        &line,
        &["deleted by the client", "duration_s=", "bytes_to_peers=0"],
    );
    assert_eq!(id(&line), created);

    let mut client = Client::tcp_to(process.tcp[0]);
    client.allocate();
    assert_has(&process.wait_for("allocation created"), &["transport=tcp"]);
    drop(client);
    assert_has(
        &process.wait_for("allocation closed"),
        &["client disconnected"],
    );
}

/// Sends a signed request whose credentials `change` has spoiled, and returns the line about it.
fn fail(
    process: &mut Process,
    user: &str,
    password: &str,
    change: impl FnOnce(&mut Client),
) -> String {
    // Each from a network of its own, of which no more than three lines a second are written.
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let network = NEXT.fetch_add(1, Ordering::Relaxed);
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 65, network, 1), 0)).unwrap();
    let mut client = Client::udp_from(socket, process.udp[0]).with_user(user, password);
    client.challenge();
    change(&mut client);
    let signed = client.signed(Packet::request(method::ALLOCATE));
    let code = client.exchange(&signed).code();
    let line = process.wait_for("authentication failed");
    let (local, code) = (format!("client={}", client.local()), format!("code={code}"));
    assert_has(&line, &[&local, &code, "transport=udp", "Allocate"]);
    line
}

/// SEC-16, AUTH-05, AUTH-06, AUTH-08, AUTH-23, REST-03: clients are told no more than 401 or 438,
/// the operator the reason.
#[test]
fn a_failed_authentication_has_its_true_reason() {
    let mut process = start("auth.nonce_lifetime_s = 30");
    let line = fail(&mut process, "carol", "wonderland", |_| {});
    assert_has(&line, &["unknown user", "user=carol", "code=401"]);
    let line = fail(&mut process, "alice", "wrong", |_| {});
    assert_has(&line, &["wrong password", "user=alice", "code=401"]);

    let expiry = unix_s() - 3600;
    let name = format!("{expiry}:dave");
    let line = fail(&mut process, &name, &rest_password(&name), |_| {});
    let expiry = format!("expiry_unix_s={expiry}");
    assert_has(
        &line,
        &[
            "credential expired",
            &format!("user={name}"),
            &expiry,
            "code=401",
        ],
    );
    let (_, now) = line.split_once("now_unix_s=").unwrap();
    let now: u64 = now.split(' ').next().unwrap().parse().unwrap();
    assert!(unix_s().abs_diff(now) < 30);

    let line = fail(&mut process, "alice", "wonderland", |client| {
        client.session.as_mut().unwrap().realm = b"other.org".to_vec();
    });
    assert_has(&line, &["wrong realm", "code=401"]);
    let line = fail(&mut process, "alice", "wonderland", |client| {
        client.session.as_mut().unwrap().nonce[20] ^= 1;
    });
    assert_has(&line, &["nonce of another client or server", "code=438"]);
    let line = fail(&mut process, "alice", "wonderland", |client| {
        let stale = authenticator().nonce(client.local(), unix_s() - 60);
        client.session.as_mut().unwrap().nonce = stale.to_vec();
    });
    assert_has(&line, &["stale nonce", "user=alice", "code=438"]);
}

/// Makes the nonces of [`start`]'s server.
fn authenticator() -> Authenticator {
    let mut credentials = Credentials::new("example.org", ':').unwrap();
    credentials.add_user("alice", &"wonderland".into()).unwrap();
    credentials.add_secret(SECRET.into());
    let key = NonceKey::from_secret(&format!("{SECRET}-for-nonces"));
    Authenticator::new(Arc::new(credentials), vec![key], 30)
}

/// SEC-16, PERM-08: who asked for whom, and why not.
#[test]
fn refused_peers_and_requests_have_a_line() {
    let mut process = start("limits.allocations_per_user = 1");
    let mut client = Client::udp_to(process.udp[0]);
    client.allocate();
    let local = format!("client={}", client.local());
    let cases = [
        ("10.0.0.1:9", "private address, not in peers.allow"),
        ("127.0.0.1:9", "loopback address"),
        ("169.254.169.254:80", "link-local address"),
    ];
    for (peer, reason) in cases {
        assert_eq!(client.try_permit(&[peer.parse().unwrap()]).code(), 403);
        let line = process.wait_for("peer refused");
        assert_has(
            &line,
            &[&local, "user=alice", &format!("peer={peer}"), reason],
        );
    }
    let mut second = Client::udp_to(process.udp[0]);
    assert_eq!(second.try_allocate(|packet| packet).code(), 486);
    let line = process.wait_for("request refused");
    assert_has(
        &line,
        &[
            "user=alice",
            "code=486",
            "limits.allocations_per_user reached",
        ],
    );
}

/// SEC-12: who has too many allocations may be an address rather than a user.
#[test]
fn the_quota_of_an_address_has_a_line() {
    let mut process = start("limits.allocations_per_address = 1");
    let [mut first, mut second] = [0; 2].map(|_| Client::tcp_to(process.tcp[0]));
    first.allocate();
    assert_eq!(second.try_allocate(|packet| packet).code(), 486);
    let line = process.wait_for("request refused");
    let reason = "reason=limits.allocations_per_address reached";
    assert_has(&line, &["user=alice", "code=486", reason]);
}

/// SEC-11: choppy video has a line when it begins, with the limit to raise, and the last line has
/// the extent. 1 kbit/s lets the largest datagram through, which is 65 of these.
#[test]
fn packets_beyond_the_bandwidth_have_a_line() {
    for limit in ["limits.allocation_kbit_per_s", "limits.user_kbit_per_s"] {
        let mut process = start(&format!("peers.allow_loopback = true\n{limit} = 1"));
        let mut client = Client::udp_to(process.udp[0]);
        let peer = Peer::new();
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        for _ in 0..200 {
            client.send_channel(0x4000, &[0; 972]);
        }
        let common = ["user=alice", &format!("client={}", client.local())];
        let reason = format!("reason={limit} reached");
        let line = process.wait_for("packets dropped");
        assert_has(&line, &common);
        assert_has(&line, &[&reason, "way=to peers"]);
        for _ in 0..200 {
            peer.send(&[0; 972], relayed);
        }
        let line = process.wait_for("packets dropped");
        assert_has(&line, &[&reason, "way=to the client"]);
        client.delete();
        let line = process.wait_for("allocation closed");
        assert_has(&line, &common);
        let number = |key: &str| -> u64 {
            let (_, rest) = line.split_once(&format!(" {key}=")).unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        };
        let passed = number("packets_to_peers");
        assert_eq!(passed + number("limited_to_peers"), 200);
        assert!(passed >= 65 && number("limited_to_client") > 0, "{line}");
        let told = process
            .log
            .iter()
            .filter(|it| it.contains("packets dropped"));
        assert_eq!(told.count(), 2);
    }
}

/// SEC-15: at the most talkative level, in both formats, through everything that has to do with
/// credentials.
#[test]
fn no_secret_is_in_the_log() {
    for format in ["text", "json"] {
        let more = format!(
            "log.level = \"trace\"\nlog.format = \"{format}\"\npeers.allow_loopback = true"
        );
        let mut process = start(&more);
        let name = format!("{}:dave", unix_s() + 600);
        let password = rest_password(&name);
        let mut secrets = vec![SECRET.to_owned(), "wonderland".to_owned(), password.clone()];
        let mut first = Client::udp_to(process.udp[0]);
        let mut second = Client::tcp_to(process.tcp[0]).with_user(&name, &password);
        for client in [&mut first, &mut second] {
            client.challenge();
            for key in [client.key(), client.sha256_key()] {
                secrets.push(key.iter().map(|byte| format!("{byte:02x}")).collect());
                secrets.push(format!("{key:?}"));
                secrets.push(base64::engine::general_purpose::STANDARD.encode(&key));
            }
            let reply = client.try_allocate(|packet| packet.attr(a::EVEN_PORT, &[0x80]));
            let token = reply.get(a::RESERVATION_TOKEN).unwrap();
            secrets.push(token.iter().map(|byte| format!("{byte:02x}")).collect());
            secrets.push(format!("{token:?}"));
            client.permit("127.0.0.1:9".parse().unwrap());
            client.bind(0x4000, "127.0.0.1:9".parse().unwrap());
            client.send_channel(0x4000, b"payload-that-is-nobodys-business");
            client.try_bind(0x4001, "127.0.0.1:9".parse().unwrap());
            client.delete();
        }
        secrets.push("payload-that-is-nobodys-business".to_owned());
        let wrong = "wrong-password-typed-by-somebody";
        fail_quietly(&process, "alice", wrong);
        secrets.push(wrong.to_owned());
        process.wait_for("authentication failed");
        process.terminate();
        let status = process.wait();
        let log = process.log.join("\n");
        assert!(status.success(), "{status}\n{log}");
        assert!(log.contains("allocation created") && log.contains("channel bound"));
        for secret in secrets {
            assert!(!log.contains(&secret), "{secret} is in the log");
        }
    }
}

fn fail_quietly(process: &Process, user: &str, password: &str) {
    let mut client = Client::udp_to(process.udp[0]).with_user(user, password);
    client.challenge();
    let signed = client.signed(Packet::request(method::ALLOCATE));
    assert_eq!(client.exchange(&signed).code(), 401);
}

/// SEC-18: one client's flood of bad requests is told in few lines, and how many are missing.
#[test]
fn a_flood_is_told_in_few_lines() {
    let mut process = start("limits.failed_authentications_per_minute = 0");
    let mut client = Client::udp_to(process.udp[0]).with_user("alice", "wrong");
    client.challenge();
    let started = Instant::now();
    let signed = client.signed(Packet::request(method::ALLOCATE));
    let mut requests = 0;
    // Into the second after, in which the count of the first is told.
    while started.elapsed() < Duration::from_millis(1100) {
        assert_eq!(client.exchange(&signed).code(), 401);
        requests += 1;
    }
    let seconds = started.elapsed().as_secs() + 2;
    process.wait_for("failed authentications not logged: more than 10 a second");
    process.terminate();
    assert!(process.wait().success());
    let lines = process
        .log
        .iter()
        .filter(|line| line.contains("authentication failed"));
    let lines = lines.count() as u64;
    assert!(
        lines <= 3 * seconds && requests > lines,
        "{lines} lines of {requests}"
    );
}

/// ACL-01, SEC-16: the operator is told which list is against a client.
#[test]
fn a_refused_client_is_a_line_with_the_list() {
    for (list, reason) in [
        ("clients.deny = \"127.0.0.0/8\"", "in clients.deny"),
        ("clients.allow = \"192.0.2.0/24\"", "not in clients.allow"),
    ] {
        let mut process = start(list);
        let mut client = Client::udp_to(process.udp[0]);
        client.send(Packet::binding().bytes());
        let local = format!("client={}", client.local());
        assert_has(
            &process.wait_for("client refused"),
            &[&local, "transport=udp", reason],
        );
        let mut client = Client::tcp_to(process.tcp[0]);
        assert_eq!(client.expect_close(), b"");
        assert_has(
            &process.wait_for("client refused"),
            &["transport=tcp", reason],
        );
    }
}

/// Relays a datagram each way.
fn relay(client: &mut Client) {
    let peer = Peer::new();
    let relayed = client.allocate();
    client.bind(0x4000, peer.address());
    client.send_channel(0x4000, b"out");
    peer.expect(b"out", relayed);
    peer.send(b"in", relayed);
    client.expect_channel(0x4000, b"in");
    client.delete();
}

/// More lines than pipe, reader and queue hold.
fn fill_the_log(client: &mut Client) {
    for _ in 0..700 {
        client.allocate();
        client.delete();
    }
}

/// PROC-09: a log that nobody reads (a paused `docker logs`, `| less`) stops no worker, and once it is
/// read a line tells how much is missing.
#[test]
fn a_stalled_log_costs_lines_and_no_call() {
    let limits = "limits.allocations_total = 10\nlimits.allocations_per_user = 5000\n\
                  limits.allocations_per_address = 5000\npeers.allow_loopback = true";
    for format in ["text", "json"] {
        let mut process = start(&format!("{limits}\nlog.format = \"{format}\""));
        let mut client = Client::udp_to(process.udp[0]);
        let reading = Arc::clone(&process.reading);
        let stalled = reading.lock().unwrap();
        fill_the_log(&mut client);
        relay(&mut client);
        drop(stalled);
        let line = process.wait_for("log lines lost");
        let (_, lost) = line.split_once("lost").unwrap();
        let digits = |text: &str| -> String { text.chars().filter(char::is_ascii_digit).collect() };
        assert!(!digits(lost).is_empty(), "{line}");
        assert_eq!(line.starts_with('{'), format == "json", "{line}");
        relay(&mut client);
        process.terminate();
        assert!(process.wait().success());
        let is_lost = |line: &&String| line.contains("log lines lost");
        assert!(process.log.iter().filter(is_lost).count() <= 3);
        assert!(process.log.iter().any(|line| line.contains("stopping")));
    }
}

/// PROC-09: who is not read to the end ends all the same.
#[test]
fn a_stalled_log_does_not_keep_the_server_from_ending() {
    let mut process = start(
        "limits.allocations_total = 10\nlimits.allocations_per_user = 5000\n\
         limits.allocations_per_address = 5000",
    );
    let reading = Arc::clone(&process.reading);
    let stalled = reading.lock().unwrap();
    fill_the_log(&mut Client::udp_to(process.udp[0]));
    process.terminate();
    assert!(process.wait_unread().success());
    drop(stalled);
}

/// PROC-09: nor does a log whose reader has gone.
#[test]
fn a_closed_log_stops_nobody() {
    let ip = own_ipv4();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnserver.toml");
    let config = format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\nlisten.tcp = []\n\
         listen.udp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\nrelay.ports = \"20000-29999\"\n\
         peers.allow_loopback = true\nserver.workers = 1\n"
    );
    fs::write(&path, config).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["run", "--config"])
        .arg(&path)
        .env_remove("NOTIFY_SOCKET")
        .env("RUNTIME_DIRECTORY", path.parent().unwrap())
        .env("NO_COLOR", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(server.stderr.take().unwrap());
    let mut lines = log.lines().map(Result::unwrap);
    let serving = lines.find(|line| line.contains("serving")).unwrap();
    let (_, address) = serving.split_once("udp=").unwrap();
    let address = address.split(' ').next().unwrap().parse().unwrap();
    drop(lines);
    let mut client = Client::udp_to(address);
    relay(&mut client);
    relay(&mut client);
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
}
