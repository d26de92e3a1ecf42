//! The admin API of a server that relays meanwhile, and the commands that ask it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use turnstone::admin::api::BODY_LEN_MAX;
use turnstone::admin::{CONNECTIONS_MAX, DEADLINE_S_MAX, Drain};

use crate::control::look_once;
use crate::harness::{Call, Client, DEADLINE, Process, TestServer, ask_tcp, eventually, own_ipv4};

const TOKEN: &str = "a-token-that-nobody-else-knows";

fn config(more: &str) -> String {
    let ip = own_ipv4();
    format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\", bob = \"builder\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 2\n\
         limits.allocation_kbit_per_s = 0\nlimits.user_kbit_per_s = 0\n{more}\n"
    )
}

/// A server, and what operators of it do.
struct Server {
    process: Process,
    socket: PathBuf,
}

impl Server {
    fn start(more: &str) -> Self {
        let process = Process::start(&config(more));
        let socket = process.home().join("admin.sock");
        Self { process, socket }
    }

    fn client(&self) -> Client {
        Client::udp_to(self.process.udp[0])
    }

    /// Status and JSON of an answer over the Unix socket.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let (status, _, body) = exchange(self.connect(), &request);
        (status, serde_json::from_str(&body).unwrap())
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    #[track_caller]
    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, "");
        assert_eq!(status, 200, "{answer}");
        answer
    }

    #[track_caller]
    fn assert_refused(&self, (method, path, body): (&str, &str, &str), status: u16, text: &str) {
        let (actual, answer) = self.ask(method, path, body);
        let error = answer["error"].as_str().unwrap();
        assert_eq!(actual, status, "{error}");
        assert!(error.contains(text), "{error}");
    }

    /// Runs a command against the server.
    fn run(&self, arguments: &[&str]) -> Output {
        run(arguments, &self.socket)
    }

    #[track_caller]
    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn run(arguments: &[&str], socket: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(arguments)
        .arg("--socket")
        .arg(socket)
        .output()
        .unwrap()
}

/// Status, header and body of the answer to a request.
fn exchange(mut stream: impl Read + Write, request: &str) -> (u16, String, String) {
    // The server may answer, and end the connection, before it has read everything.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// ADM-01: every question, while a call loses nothing.
#[test]
fn every_question_while_a_call_goes_on() {
    let server = Server::start("");
    let base = fs::read_to_string(server.process.home().join("turnserver.toml")).unwrap();
    let call = Call::start(server.client());
    let mut bobs = server.client().with_user("bob", "builder");
    bobs.allocate();

    let info = server.get("/v1/info");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&info["realm"], &info["workers"]),
        (&json!("example.org"), &json!(2))
    );
    assert_eq!(info["allocations"], 2);
    assert_eq!(info["relay_ports"]["live"], 2);
    assert_eq!(info["relay"]["ports"], "20000-29999");
    let udp = json!({"transport": "udp", "address": server.process.udp[0], "leaving": false});
    assert_eq!(info["listeners"][0], udp);
    assert_eq!(info["draining"], Value::Null);

    let all = server.get("/v1/allocations");
    assert_eq!(all["allocations"].as_array().unwrap().len(), 2);
    let of_alice = server.get("/v1/allocations?user=alice&client=127.0.0.0/8&min_age_s=0&limit=1");
    let [alices] = &of_alice["allocations"].as_array().unwrap()[..] else {
        panic!("{of_alice}");
    };
    assert_eq!(alices["client"], json!(call.client));
    assert_eq!(alices["relayed"], json!([call.relayed]));
    assert_eq!(
        (&alices["permissions"], &alices["channels"]),
        (&json!(1), &json!(1))
    );
    for none in ["user=carol", "client=192.0.2.0/24", "min_age_s=1000"] {
        let page = server.get(&format!("/v1/allocations?{none}"));
        assert_eq!(page, json!({"allocations": [], "next": null}));
    }

    let id = alices["id"].as_str().unwrap();
    let full = server.get(&format!("/v1/allocations/{id}"));
    assert_eq!(full["id"], id);
    assert_eq!(full["permissions"][0]["address"], "127.0.0.1");
    assert_eq!(full["channels"][0]["number"], 0x4000);
    assert!(full["rates"]["bits_per_s_to_peers"].as_u64().unwrap() > 0);
    assert!(full["rates"]["packets_per_s_to_client"].as_u64().unwrap() > 0);

    let of_bob = server.get("/v1/allocations?user=bob");
    let id = of_bob["allocations"][0]["id"].as_str().unwrap();
    let path = format!("/v1/allocations/{id}");
    assert_eq!(server.ask("DELETE", &path, ""), (200, json!({"ended": 1})));
    server.assert_refused(("DELETE", &path, ""), 404, id);
    server.assert_refused(("GET", &path, ""), 404, id);
    assert_eq!(bobs.try_refresh(None).code(), 437);
    bobs.allocate();
    let ended = server.ask("DELETE", "/v1/allocations?user=bob", "");
    assert_eq!(ended, (200, json!({"ended": 1})));

    let level = json!({"level": "debug"});
    let changed = server.ask("PUT", "/v1/log-level", &level.to_string());
    assert_eq!(
        (changed, server.get("/v1/log-level")),
        ((200, level.clone()), level)
    );
    let (status, draining) = server.ask("POST", "/v1/drain", r#"{"deadline_s": 100}"#);
    assert_eq!((status, &draining["allocations"]), (200, &json!(1)));
    assert_eq!(draining["draining"]["deadline_s"], 100);
    assert!(server.get("/v1/info")["draining"].is_object());
    let (status, undone) = server.ask("DELETE", "/v1/drain", "");
    assert_eq!((status, &undone["draining"]), (200, &Value::Null));

    let revocation = json!({"user": "bob"}).to_string();
    for number in 0..20 {
        let (status, revoked) = server.ask("POST", "/v1/revocations", &revocation);
        assert_eq!((status, &revoked["ended"]), (200, &json!(0)), "{number}");
        let list = server.get("/v1/revocations");
        assert_eq!(list["revocations"][0]["user"], "bob");
        assert_eq!(server.ask("DELETE", "/v1/revocations/bob", "").0, 200);
        assert_eq!(server.ask("POST", "/v1/drain", "{}").0, 200);
        assert_eq!(server.ask("DELETE", "/v1/drain", "").0, 200);
        let software = format!("{base}\nserver.software = \"version {number}\"\n");
        server.process.configure(&software);
        let (status, reloaded) = server.ask("POST", "/v1/reload", "");
        let changed = json!(["server.software"]);
        assert_eq!((status, &reloaded["changed"]), (200, &changed));
    }
    assert!(server.get("/v1/statistics").is_object());
    call.assert_goes_on();
    call.end();
}

/// Pages lead to every allocation once.
#[test]
fn cursors_go_through_all_pages() {
    let server = Server::start("");
    let mut clients: Vec<Client> = (0..7).map(|_| server.client()).collect();
    for client in &mut clients {
        client.allocate();
    }
    let (mut seen, mut cursor) = (vec![], String::new());
    for _ in 0..10 {
        let page = server.get(&format!("/v1/allocations?limit=3{cursor}"));
        let allocations = page["allocations"].as_array().unwrap();
        assert!(allocations.len() <= 3);
        seen.extend(
            allocations
                .iter()
                .map(|it| it["client"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let mut expected: Vec<String> = clients.iter().map(|it| it.local().to_string()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

/// ADM-02: what cannot be understood is named.
#[test]
fn bad_requests_are_told_what_is_wrong() {
    let server = Server::start("");
    for (question, status, text) in [
        (("GET", "/v1/nothing", ""), 404, "/v1/nothing"),
        (("GET", "/v1/allocations/0-0-1", ""), 404, "0-0-1"),
        (("GET", "/v1/allocations/zebra", ""), 404, "zebra"),
        (("DELETE", "/v1/allocations/99-0-1", ""), 404, "99-0-1"),
        (("PATCH", "/v1/info", ""), 405, "PATCH"),
        (("GET", "/v1/drain", ""), 405, "GET"),
        (("GET", "/v1/allocations?limit=0", ""), 400, "limit"),
        (("GET", "/v1/allocations?limit=1001", ""), 400, "limit"),
        (("GET", "/v1/allocations?limit=-1", ""), 400, "limit"),
        (
            ("GET", "/v1/allocations?client=10.0.0.1/8", ""),
            400,
            "client",
        ),
        (
            ("GET", "/v1/allocations?min_age_s=old", ""),
            400,
            "min_age_s",
        ),
        (("GET", "/v1/allocations?cursor=1", ""), 400, "cursor"),
        (("GET", "/v1/allocations?usr=alice", ""), 400, "usr"),
        (("DELETE", "/v1/allocations", ""), 400, "user"),
        (("DELETE", "/v1/allocations?limit=5", ""), 400, "limit"),
        (("POST", "/v1/drain", r#"{"deadline": 5}"#), 400, "deadline"),
        (("POST", "/v1/drain", "soon"), 400, "body"),
        (
            ("PUT", "/v1/log-level", r#"{"level": "loud"}"#),
            400,
            "loud",
        ),
        (("PUT", "/v1/log-level", ""), 400, "level"),
    ] {
        server.assert_refused(question, status, text);
    }
    let too_late = format!(r#"{{"deadline_s": {}}}"#, DEADLINE_S_MAX + 1);
    server.assert_refused(("POST", "/v1/drain", &too_late), 400, "deadline_s");
    let last = format!(r#"{{"deadline_s": {DEADLINE_S_MAX}}}"#);
    let mut client = server.client();
    client.allocate();
    assert_eq!(server.ask("POST", "/v1/drain", &last).0, 200);
}

/// ADM-03: no request takes much.
#[test]
fn bodies_and_headers_are_bounded() {
    let server = Server::start("");
    let body = |length| " ".repeat(length - 17) + r#"{"level": "warn"}"#;
    assert_eq!(
        server.ask("PUT", "/v1/log-level", &body(BODY_LEN_MAX)).0,
        200
    );
    let longer = body(BODY_LEN_MAX + 1);
    server.assert_refused(("PUT", "/v1/log-level", &longer), 413, "65536");
    let header = format!("GET /v1/info HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let (status, ..) = exchange(server.connect(), &header);
    assert_eq!(status, 431);
}

/// ADM-03: connections are few, and who is slow loses its own.
#[test]
fn slow_requests_are_cut_off_and_make_room() {
    let server = Server::start("");
    let slow: Vec<UnixStream> = (0..CONNECTIONS_MAX)
        .map(|_| {
            let mut stream = server.connect();
            stream
                .write_all(b"GET /v1/info HTTP/1.1\r\nHost: ")
                .unwrap();
            stream
        })
        .collect();
    // It is answered in the place of one that was cut off.
    assert_eq!(server.ask("GET", "/v1/info", "").0, 200);
    let mut first = &slow[0];
    first.set_nonblocking(true).unwrap();
    assert_eq!(first.read(&mut [0]).unwrap(), 0);
    first.set_nonblocking(false).unwrap();
    for mut stream in slow {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
    }
}

/// ADM-04: the socket is the server's user's alone, and that of a server that is gone is replaced.
#[test]
fn the_socket_is_private_and_survives_the_server() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("run/admin.sock");
    let more = format!("admin.socket = {socket:?}");
    for _ in 0..2 {
        let mut server = Server::start(&more);
        server.socket.clone_from(&socket);
        let (file, directory) = (fs::metadata(&socket).unwrap(), socket.parent().unwrap());
        assert_eq!(file.mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(directory).unwrap().mode() & 0o7777, 0o750);
        let status = fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
        let uid = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))
            .unwrap();
        let uid: u32 = uid.split_whitespace().next().unwrap().parse().unwrap();
        assert_eq!(file.uid(), uid);
        assert_eq!(server.ask("GET", "/v1/info", "").0, 200);

        // Another one is told whose it is.
        let mut second = Process::spawn(&config(&more), "");
        second.wait_for("another server answers operators");
        assert_eq!(second.wait().code(), Some(1));
        server.process.terminate();
        assert!(server.process.wait().success());
        assert!(socket.exists());
        let output = run(&["info"], &socket);
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains("nobody answers on this socket"), "{told}");
        assert_eq!(output.status.code(), Some(1));
    }
}

/// ADM-05: a token that leaked is changed without ending calls, and who comes with the old one shows.
#[test]
fn another_token_counts_at_once() {
    let more = |token: &str| {
        config(&format!(
            "admin.listen = \"127.0.0.1:0\"\nadmin.token = \"{token}\""
        ))
    };
    let mut process = Process::start(&more(TOKEN));
    let call = Call::start(Client::udp_to(process.udp[0]));
    let line = process.wait_for("operators are answered address");
    let address: SocketAddr = line
        .split_once("address=")
        .unwrap()
        .1
        .trim()
        .parse()
        .unwrap();
    let ask = |token: &str| {
        let fields = [("Authorization", format!("Bearer {token}"))];
        let fields = fields
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        ask_tcp(address, "GET", "/v1/info", &fields, "").status
    };
    let other = "another-token-that-nobody-knows";
    assert_eq!((ask(TOKEN), ask(other)), (200, 401));
    let line = process.wait_for("HTTP request without the right key");
    assert!(
        line.contains("service=\"admin\" client=127.0.0.1:"),
        "{line}"
    );
    let new = fs::read_to_string(process.home().join("turnserver.toml")).unwrap();
    let line = process.reload(&new.replace(TOKEN, other));
    assert!(line.contains("changed=\"admin.token\""), "{line}");
    assert_eq!((ask(TOKEN), ask(other)), (401, 200));
    let page = ask_tcp(process.metrics.unwrap(), "GET", "/metrics", &[], "").body;
    for (result, number) in [("success", 2), ("unauthorized", 2)] {
        let sample = format!(
            "turnstone_http_requests_total{{result=\"{result}\",service=\"admin\"}} {number}"
        );
        let other = format!(
            "turnstone_http_requests_total{{service=\"admin\",result=\"{result}\"}} {number}"
        );
        assert!(page.contains(&sample) || page.contains(&other), "{page}");
    }
    call.assert_goes_on();
    call.end();
}

/// ADM-05: over TCP nobody is answered who does not know the token.
#[test]
fn tcp_needs_the_token() {
    let more = format!("admin.listen = \"127.0.0.1:0\"\nadmin.token = \"{TOKEN}\"");
    let mut server = Server::start(&more);
    let line = server.process.wait_for("operators are answered address");
    let (_, address) = line.split_once("address=").unwrap();
    let address: SocketAddr = address.trim().parse().unwrap();
    let ask = |path: &str, authorization: &str| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{authorization}\r\n");
        exchange(stream, &request)
    };
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    assert_eq!(ask("/v1/info", &right).0, 200);
    let wrong = format!("Authorization: Bearer {TOKEN}x\r\n");
    let basic = "Authorization: Basic YTpi\r\n";
    for authorization in ["", &wrong, basic] {
        // What there is is nobody's business either.
        for path in ["/v1/info", "/v1/nothing"] {
            let (status, head, body) = ask(path, authorization);
            assert_eq!(status, 401);
            assert!(head.contains("www-authenticate: bearer"), "{head}");
            assert!(body.contains("token"), "{body}");
        }
    }

    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    let info = |token: &str| {
        fs::write(&file, token).unwrap();
        Command::new(env!("CARGO_BIN_EXE_turnstone"))
            .args([
                "info",
                "--url",
                &format!("http://{address}"),
                "--token-file",
            ])
            .arg(&file)
            .output()
            .unwrap()
    };
    assert!(info(&format!("{TOKEN}\n")).status.success());
    let refused = info("something-else");
    assert!(
        String::from_utf8(refused.stderr)
            .unwrap()
            .contains("token is missing or wrong")
    );
}

/// ADM-08: a reload says what has changed, and with an error why nothing has; calls go on.
#[test]
fn a_reload_says_what_became_of_it() {
    let server = Server::start("");
    let call = Call::start(server.client());
    let base = fs::read_to_string(server.process.home().join("turnserver.toml")).unwrap();
    let with = |line: &str| server.process.configure(&format!("{base}\n{line}\n"));
    with("limits.allocations_per_user = 1");
    let (status, reloaded) = server.ask("POST", "/v1/reload", "");
    assert_eq!(status, 200);
    assert_eq!(reloaded["changed"], json!(["limits.allocations_per_user"]));
    assert_eq!(reloaded["restart_needed"], json!([]));
    let mut second = server.client();
    second.challenge();
    assert_eq!(second.try_allocate(|packet| packet).code(), 486);
    with("log.format = \"json\"");
    let told = server.stdout(&["reload"]);
    assert!(
        told.contains("in force after a restart: log.format"),
        "{told}"
    );
    assert!(
        told.contains("reloaded: limits.allocations_per_user"),
        "{told}"
    );
    server.process.configure("realm = 5");
    server.assert_refused(("POST", "/v1/reload", ""), 422, "realm");
    let refused = server.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("realm"));
    call.assert_goes_on();
    call.end();
}

/// Asks, and hangs up before there can be an answer.
fn hang_up(server: &Server, method: &str, path: &str) {
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}");
    server.connect().write_all(request.as_bytes()).unwrap();
}

/// ADM-06: a drain whose caller hangs up is one that everybody knows of, or not begun.
#[test]
fn a_drain_goes_on_when_its_caller_hangs_up() {
    const ATTEMPTS: usize = 500;
    let server = Server::start("");
    let mut client = server.client();
    client.allocate();
    let metrics = server.process.metrics.unwrap();
    let are_draining = || {
        let page = ask_tcp(metrics, "GET", "/metrics", &[], "").body;
        page.lines().any(|line| line == "turnstone_draining 1")
    };
    let is_draining = || server.get("/v1/info")["draining"].is_object();
    let (mut attempts, mut begun) = (0, 0);
    while begun < 10 {
        attempts += 1;
        assert!(
            attempts < ATTEMPTS,
            "the server looks whether somebody waits"
        );
        hang_up(&server, "POST", "/v1/drain");
        eventually("agreement", || are_draining() == is_draining());
        begun += usize::from(is_draining());
        server.ask("DELETE", "/v1/drain", "");
    }
}

/// ADM-06: a drain and its undoing do not interleave, and neither is left half-way.
#[test]
fn a_drain_that_nobody_waits_for_is_whole() {
    let server = TestServer::with(|setup| setup.workers = 3);
    let drain = Drain::new(server.engine.control());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..20 {
            // Each is begun, and then dropped.
            assert!(look_once(drain.begin(None)).await.is_pending());
            assert!(look_once(drain.undo()).await.is_pending());
            assert!(look_once(drain.begin(None)).await.is_pending());
        }
        assert_eq!(drain.undo().await, Ok(true), "after all of them");
        assert_eq!(drain.state(), None);
    });
    Client::udp(&server).allocate();
}

/// An operator who hangs up has ended the allocations, and the log says so.
#[test]
fn allocations_end_when_who_ends_them_hangs_up() {
    let mut server = Server::start("");
    let mut client = server.client();
    for _ in 0..10 {
        client.allocate();
        eventually("the end", || {
            hang_up(&server, "DELETE", "/v1/allocations?user=alice");
            client.try_refresh(None).code() == 437
        });
        server
            .process
            .wait_for("an operator ended allocations ended=1");
    }
}

/// ADM-06: a drained server ends with its last allocation.
#[test]
fn a_drained_server_ends_with_its_last_allocation() {
    let mut server = Server::start("");
    let call = Call::start(server.client());
    let told = server.stdout(&["drain", "--deadline", "1h"]);
    assert!(
        told.contains("1 allocation live") && told.contains("in 1h00m"),
        "{told}"
    );
    let mut new = server.client();
    new.challenge();
    assert_eq!(new.try_allocate(|packet| packet).code(), 403);
    call.assert_goes_on();
    call.end();
    assert!(server.process.wait().success());
    let log = server.process.log.join("\n");
    assert!(
        log.contains("drained: the last allocation has ended"),
        "{log}"
    );
}

/// ADM-06: at the deadline it ends whatever lives, and says so.
#[test]
fn a_drained_server_ends_at_the_deadline() {
    let mut server = Server::start("");
    let mut client = server.client();
    client.allocate();
    server.stdout(&["drain"]);
    assert!(server.stdout(&["drain", "--undo"]).contains("not draining"));
    server.client().allocate();
    assert_eq!(
        server.ask("POST", "/v1/drain", r#"{"deadline_s": 1}"#).0,
        200
    );
    assert!(server.process.wait().success());
    let log = server.process.log.join("\n");
    assert!(log.contains("the deadline of draining has come"), "{log}");
    assert_eq!(log.matches("server shutdown").count(), 2, "{log}");
}

/// ADM-07: what operators type, and read.
#[test]
fn commands_say_what_the_server_says() {
    let mut server = Server::start("");
    let call = Call::start(server.client());
    let table = server.stdout(&["allocations"]);
    let [head, row] = table.lines().collect::<Vec<_>>()[..] else {
        panic!("{table}");
    };
    assert!(
        head.starts_with("ID") && head.contains("TO CLIENT"),
        "{head}"
    );
    let id = row.split_whitespace().next().unwrap();
    assert!(
        row.contains("alice") && row.contains(&call.relayed.to_string()),
        "{row}"
    );
    let none = server.stdout(&["allocations", "--user", "b&b", "--client", "::/0"]);
    assert_eq!(none.lines().count(), 1);

    let raw: Value = serde_json::from_str(&server.stdout(&["allocations", "--json"])).unwrap();
    assert_eq!(raw["allocations"][0]["id"], id);
    let full = server.stdout(&["show", id]);
    for expected in ["PERMISSION", "127.0.0.1", "0x4000", "to peers", "bit/s"] {
        assert!(full.contains(expected), "{full}");
    }
    let json = |command: &[&str]| -> Value {
        let command = [command, &["--json"]].concat();
        serde_json::from_str(&server.stdout(&command)).unwrap()
    };
    assert_eq!(json(&["show", id])["id"], id);
    assert_eq!(json(&["log-level"])["level"], "info");
    server.process.let_read();
    assert_eq!(json(&["reload"])["changed"], json!([]));
    assert!(json(&["drain"])["draining"].is_object());
    assert!(json(&["drain", "--undo"])["draining"].is_null());
    assert_eq!(json(&["end", "--user", "nobody"])["ended"], 0);
    assert!(server.stdout(&["info"]).contains("example.org"));
    assert_eq!(server.stdout(&["log-level"]), "info\n");
    assert_eq!(server.stdout(&["log-level", "trace"]), "trace\n");
    server.process.wait_for("level=Trace");

    call.assert_goes_on();
    call.end();
    let output = server.run(&["end", id]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains(&format!("there is no allocation {id}")),
        "{told}"
    );
    server.client().allocate();
    assert_eq!(
        server.stdout(&["end", "--user", "alice"]),
        "1 allocation ended\n"
    );
    // The file that is broken is the one that a reload would tell of.
    let broken = server.process.home().join("broken.toml");
    let text = format!("admin.socket = {:?}\nlisten.udp = 1\n", server.socket);
    fs::write(&broken, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .arg("info")
        .env("TURNSERVER_CONFIG", &broken)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let gone = run(&["info"], Path::new("/nonexistent/admin.sock"));
    assert!(
        String::from_utf8(gone.stderr)
            .unwrap()
            .contains("there is no such socket")
    );
}

/// A look again, until nobody reads.
#[test]
fn watching_shows_rates() {
    let server = Server::start("");
    let call = Call::start(server.client());
    let mut watch = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["allocations", "--watch", "--socket"])
        .arg(&server.socket)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = watch.stdout.take().unwrap();
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains("bit/s") {
        let length = output.read(&mut buffer).unwrap();
        assert!(length > 0, "{text}");
        text += std::str::from_utf8(&buffer[..length]).unwrap();
    }
    drop(output);
    assert!(watch.wait().unwrap().success());
    assert!(text.contains("1 allocation"), "{text}");
    call.end();
}
