//! Credentials that the operator withdraws, at a server that relays meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::yield_now;
use tokio::time::timeout;
use turnstone::admin::api::Error;
use turnstone::admin::{Place, Revocation, RevocationBook};
use turnstone::auth::{REVOCATIONS_MAX, Revocations, RevokedName, rest_password};

use crate::control::{ask, look_once};
use crate::harness::attribute::REQUESTED_TRANSPORT;
use crate::harness::{
    Call, Client, DEADLINE, Packet, Process, TestServer, ask_socket, ask_tcp, eventually, method,
    own_ipv4, unix_s,
};

const SECRET: &str = "a-secret-that-nobody-else-knows-at-all";

/// A server whose state outlives it.
struct Server {
    process: Process,
    socket: PathBuf,
}

impl Server {
    fn start(state: &Path) -> Self {
        let socket = state.join("admin.sock");
        let process = Process::start_with(
            &config(&socket),
            &format!("export STATE_DIRECTORY='{}'", state.display()),
        );
        Self { process, socket }
    }

    fn client(&self, username: &str) -> Client {
        let password = rest_password(SECRET, username.as_bytes());
        Client::udp_to(self.process.udp[0]).with_user(username, &password)
    }

    #[track_caller]
    fn ask(&self, method: &str, target: &str, body: &Value) -> Value {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        ask_socket(&self.socket, method, target, &body).success()
    }

    #[track_caller]
    fn revoke(&self, body: &Value) -> Value {
        self.ask("POST", "/v1/revocations", body)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_turnstone"))
            .arg("revoke")
            .args(arguments)
            .arg("--socket")
            .arg(&self.socket)
            .output()
            .unwrap()
    }

    #[track_caller]
    fn stdout(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn stop(mut self) -> Vec<String> {
        self.process.terminate();
        assert!(self.process.wait().success());
        std::mem::take(&mut self.process.log)
    }
}

fn config(socket: &Path) -> String {
    let ip = own_ipv4();
    format!(
        "realm = \"example.org\"\nauth.static_auth_secret = \"{SECRET}\"\n\
         auth.users = {{ carol = \"password-of-carol\" }}\nadmin.socket = \"{}\"\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 2\n\
         limits.allocation_kbit_per_s = 0\nlimits.user_kbit_per_s = 0\n",
        socket.display()
    )
}

fn state() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// What an Allocate request gets.
fn verdict(client: &mut Client) -> u16 {
    let packet = Packet::request(method::ALLOCATE).attr(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let signed = client.signed(packet);
    client.exchange(&signed).code()
}

/// What a Refresh request gets.
fn refreshed(client: &mut Client) -> u16 {
    let signed = client.signed(Packet::request(method::REFRESH));
    client.exchange(&signed).code()
}

/// REV-04: a user's allocations end at once, under whatever name, and nobody else's does or loses a
/// datagram.
#[test]
fn a_revoked_user_is_out_and_nobody_else() {
    let state = state();
    let mut server = Server::start(state.path());
    let later = unix_s() + 600;
    let bobs = Call::start(server.client(&format!("{later}:bob")));
    let mut first = server.client(&format!("{later}:alice"));
    let allocate = Packet::request(method::ALLOCATE).attr(REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
    let allocate = first.signed(allocate);
    assert_eq!(first.exchange(&allocate).code(), 0);
    assert_eq!(first.exchange(&allocate).code(), 0, "a retransmission");
    let other_name = format!("{}:alice", later + 1);
    let mut second = server.client(&other_name);
    second.allocate();
    bobs.assert_goes_on();

    let revoked = server.revoke(&json!({"user": "alice"}));
    let expected = json!({"user": "alice", "ended": 2, "until_unix_s": null, "persisted": true});
    assert_eq!(revoked, expected);
    bobs.assert_goes_on();
    // Its allocation is gone, and its credential no good: a Refresh fails like any other request.
    assert_eq!(refreshed(&mut first), 401);
    assert_eq!(
        first.exchange(&allocate).code(),
        401,
        "a late retransmission"
    );
    assert_eq!(refreshed(&mut second), 401);
    server.process.wait_for("credential revoked");
    for name in [
        format!("{later}:alice"),
        other_name,
        format!("{later}:x:alice"),
    ] {
        let expected = if name.ends_with(":x:alice") { 0 } else { 401 };
        assert_eq!(verdict(&mut server.client(&name)), expected, "{name}");
    }
    assert_eq!(verdict(&mut server.client(&format!("{later}:bob"))), 0);
    bobs.assert_goes_on();

    let undone = server.ask("DELETE", "/v1/revocations/alice", &Value::Null);
    assert_eq!(undone, json!({"undone": 1, "persisted": true}));
    assert_eq!(verdict(&mut first), 0, "good again");
    bobs.assert_goes_on();
    bobs.end();
    let log = server.stop().join("\n");
    assert!(log.contains("revoked"), "{log}");
}

/// REV-05: a USERNAME is refused alone, and an expired one is ended too.
#[test]
fn a_username_is_refused_alone() {
    let state = state();
    let server = Server::start(state.path());
    let later = unix_s() + 600;
    let (name, other) = (format!("{later}:alice"), format!("{}:alice", later + 1));
    let mut one = server.client(&name);
    one.allocate();
    let another = Call::start(server.client(&other));
    // Whose user is called like that USERNAME.
    let alike = Call::start(server.client(&format!("{later}:{name}")));
    let revoked = server.revoke(&json!({ "username": name }));
    assert_eq!(
        (&revoked["ended"], &revoked["until_unix_s"]),
        (&json!(1), &json!(later))
    );
    assert_eq!(verdict(&mut one), 401);
    another.assert_goes_on();
    alike.assert_goes_on();

    let soon = unix_s() + 1;
    let short = format!("{soon}:dave");
    let mut outlives = server.client(&short);
    outlives.allocate();
    eventually("the expiry", || unix_s() > soon);
    outlives.assert_alive();
    let revoked = server.revoke(&json!({ "username": short }));
    assert_eq!(revoked["ended"], 1);
    assert_eq!(refreshed(&mut outlives), 401);
    another.end();
    alike.end();
    server.stop();
}

/// REV-06: revocations are in force before the first client of the next start is.
#[test]
fn revocations_outlive_the_server() {
    let state = state();
    let later = unix_s() + 600;
    let server = Server::start(state.path());
    server.revoke(&json!({"user": "carol"}));
    server.revoke(&json!({"username": format!("{later}:bob"), "until_unix_s": later + 5}));
    let log = server.stop().join("\n");
    assert!(!log.contains("survive"), "{log}");

    let server = Server::start(state.path());
    let mut carol = Client::udp_to(server.process.udp[0]).with_user("carol", "password-of-carol");
    assert_eq!(verdict(&mut carol), 401);
    assert_eq!(verdict(&mut server.client(&format!("{later}:bob"))), 401);
    assert_eq!(verdict(&mut server.client(&format!("{later}:alice"))), 0);
    let list = server.ask("GET", "/v1/revocations", &Value::Null);
    let expected = json!([
        {"user": "carol", "until_unix_s": null},
        {"username": format!("{later}:bob"), "until_unix_s": later + 5},
    ]);
    assert_eq!(
        (&list["revocations"], &list["persistent"]),
        (&expected, &json!(true))
    );
    server.ask("DELETE", "/v1/revocations/carol", &Value::Null);
    server.stop();

    let server = Server::start(state.path());
    let mut carol = Client::udp_to(server.process.udp[0]).with_user("carol", "password-of-carol");
    assert_eq!(verdict(&mut carol), 0, "undone for good");
    server.stop();
}

/// What cannot be kept is in force all the same, and said not to be kept.
#[test]
fn without_a_place_revocations_end_with_the_server() {
    let state = state();
    let socket = state.path().join("admin.sock");
    let file = state.path().join("no-directory");
    fs::write(&file, "").unwrap();
    let environment = format!("export STATE_DIRECTORY='{}'", file.display());
    let mut process = Process::start_with(&config(&socket), &environment);
    let answer = ask_socket(&socket, "POST", "/v1/revocations", r#"{"user": "carol"}"#);
    assert_eq!(answer.success()["persisted"], false);
    process.wait_for("will not survive a restart");
    let mut carol = Client::udp_to(process.udp[0]).with_user("carol", "password-of-carol");
    assert_eq!(verdict(&mut carol), 401);
    let run = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["revoke", "--list", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    let told = String::from_utf8(run.stderr).unwrap();
    assert!(told.contains("does not survive a restart"), "{told}");
}

/// Revocations that cannot be read are not forgotten.
#[test]
fn a_broken_file_stops_the_start() {
    let state = state();
    fs::create_dir(state.path().join("revocations")).unwrap();
    let file = state.path().join("revocations/revocations.json");
    fs::write(file, "{").unwrap();
    let environment = format!("export STATE_DIRECTORY='{}'", state.path().display());
    let mut process = Process::spawn(&config(&state.path().join("admin.sock")), &environment);
    process.wait_for("revocations.json");
    assert!(!process.wait().success());
}

#[test]
fn what_cannot_be_revoked_is_refused() {
    let state = state();
    let server = Server::start(state.path());
    let refused = |method, target, body: Value, status, text| {
        ask_socket(&server.socket, method, target, &body.to_string()).assert_refused(status, text);
    };
    let post = |body, text| refused("POST", "/v1/revocations", body, 400, text);
    post(json!({}), "one of user, username and name");
    post(
        json!({"user": "a", "username": "b"}),
        "one of user, username and name",
    );
    post(json!({"user": ""}), "no name has");
    post(json!({"user": "x".repeat(764)}), "no name has");
    post(
        json!({"user": "a", "until_unix_s": unix_s() - 1}),
        "is over",
    );
    post(json!({"users": "a"}), "unknown field");
    refused(
        "DELETE",
        "/v1/revocations/alice",
        Value::Null,
        404,
        "is not revoked",
    );
    server.revoke(&json!({"user": "x".repeat(763)}));
    server.stop();
}

/// The command, with names that a path cannot hold as they are.
#[test]
fn the_command_revokes_and_undoes() {
    let state = state();
    let server = Server::start(state.path());
    let later = unix_s() + 600;
    let mut alice = server.client(&format!("{later}:alice"));
    alice.allocate();
    let told = server.stdout(&["alice", "--until", "2h"]);
    assert!(told.starts_with("user alice: refused until 2"), "{told}");
    assert!(told.ends_with("; 1 allocation ended\n"), "{told}");
    let awkward = format!("{later}:a b/c+d%?é");
    let told = server.stdout(&[&awkward]);
    assert!(told.ends_with("; 0 allocations ended\n"), "{told}");
    let list = server.stdout(&["--list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(
        lines[0].starts_with("user alice: refused until 2"),
        "{list}"
    );
    assert!(
        lines[1].starts_with(&format!("USERNAME {awkward}: refused until 2")),
        "{list}"
    );
    assert_eq!(
        server.stdout(&["--undo", &awkward]),
        format!("{awkward}: good again\n")
    );
    assert_eq!(server.stdout(&["--undo", "alice"]), "alice: good again\n");
    assert_eq!(server.stdout(&["--list"]), "no credential is revoked\n");
    let output = server.run(&["--undo", "alice"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not revoked"));
    assert_eq!(verdict(&mut alice), 0);
    server.stop();
}

/// REV-02: the longest list is exchanged under calls on every worker, again and again, and refuses its
/// last name.
#[test]
fn the_longest_list_costs_no_datagram() {
    let server = TestServer::with(|setup| {
        setup.workers = 2;
        setup.limits.allocation_kbit_per_s = 0;
        setup.limits.user_kbit_per_s = 0;
    });
    let calls = [(); 4].map(|()| Call::start(Client::udp(&server).with_user("bob", "builder")));
    let mut alice = Client::udp(&server);
    let mut revocations = Revocations::default();
    for number in 1..REVOCATIONS_MAX {
        let name = format!("user {number}");
        revocations.insert(RevokedName::User(&name), None).unwrap();
    }
    revocations
        .insert(RevokedName::User("alice"), None)
        .unwrap();
    let control = server.engine.control();
    for _ in 0..10 {
        alice.allocate();
        // Copies, as of a book that changes: one is freed with every exchange.
        let of_book = || Arc::new(revocations.clone());
        assert_eq!(ask(control.revoke(&of_book())), Ok(1));
        assert_eq!(refreshed(&mut alice), 401);
        assert_eq!(ask(control.revoke(&of_book())), Ok(0), "once is enough");
        assert_eq!(ask(control.revoke(&Arc::default())), Ok(0));
    }
    assert_eq!(verdict(&mut alice), 0);
    for call in &calls {
        call.assert_goes_on();
    }
    calls.into_iter().for_each(Call::end);
}

/// A disk that answers when it is told to.
#[derive(Debug)]
struct Disk {
    /// How many revocations are to be saved.
    asked: UnboundedSender<usize>,
    answers: Mutex<Receiver<io::Result<()>>>,
}

impl Place for Disk {
    fn save(&self, revocations: &Revocations) -> io::Result<()> {
        self.asked.send(revocations.len()).unwrap();
        let answers = self.answers.lock().unwrap();
        answers.recv_timeout(DEADLINE).expect("an answer")
    }

    fn name(&self) -> String {
        "a disk of this test".to_owned()
    }
}

/// REV-07: while the disk does not answer, revocations take hold and are listed; what fails is tried
/// again, and in the end the newest are kept.
#[test]
fn a_disk_that_does_not_answer_keeps_nobody_from_revoking() {
    let server = TestServer::with(|setup| setup.workers = 2);
    let (asked, mut saves) = unbounded_channel();
    let (answer, answers) = channel();
    let disk: Arc<dyn Place> = Arc::new(Disk {
        asked,
        answers: Mutex::new(answers),
    });
    let failure = || Err(io::Error::other("no space left"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let story = async {
        let control = server.engine.control();
        let book = RevocationBook::new(control, Some(disk), Arc::default(), None);
        let revoke = |name: &str| {
            let revocation = Revocation {
                is_user: true,
                name: name.to_owned(),
                until_unix_s: None,
            };
            let book = Arc::clone(&book);
            // Who asks waits longer than this test does.
            tokio::spawn(async move { book.revoke::<Error>(revocation, unix_s()).await });
        };
        revoke("alice");
        assert_eq!(saves.recv().await, Some(1));
        revoke("bob");
        while book.in_force().len() < 2 {
            yield_now().await;
        }
        assert_eq!(verdict(&mut Client::udp(&server)), 401);
        let mut bob = Client::udp(&server).with_user("bob", "builder");
        assert_eq!(verdict(&mut bob), 401);
        assert_eq!(book.unsaved(), 2);
        answer.send(failure()).unwrap();
        assert_eq!(saves.recv().await, Some(2), "the newest");
        answer.send(failure()).unwrap();
        assert_eq!(saves.recv().await, Some(2), "again");
        assert_eq!(book.unsaved(), 2);
        answer.send(Ok(())).unwrap();
        while book.unsaved() > 0 {
            yield_now().await;
        }
    };
    runtime
        .block_on(async { timeout(DEADLINE, story).await })
        .expect("nobody waits for the disk");
}

/// REV-07: a revocation that nobody waits for is told all the same.
#[test]
fn a_revocation_that_nobody_waits_for_is_whole() {
    let server = TestServer::with(|setup| setup.workers = 2);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (sender, mut told) = tokio::sync::mpsc::channel(1);
        let control = server.engine.control();
        let book = RevocationBook::new(control, None, Arc::default(), Some(sender));
        let revocation = Revocation {
            is_user: true,
            name: "alice".to_owned(),
            until_unix_s: None,
        };
        // Begun, and then dropped.
        let begun = look_once(book.revoke::<Error>(revocation.clone(), unix_s()));
        assert!(begun.await.is_pending());
        let notice = timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
        assert_eq!((notice.revocation, notice.ended), (revocation, 0));
        let begun = look_once(book.undo::<Error>("alice".to_owned()));
        assert!(begun.await.is_pending());
        while !book.in_force().is_empty() {
            yield_now().await;
        }
    });
}

/// REV-07: a file that cannot be written is told to who revokes, by exit code and metric, and written
/// once it can be.
#[test]
fn a_file_that_cannot_be_written_is_told_and_written_later() {
    let state = state();
    let mut server = Server::start(state.path());
    // In the place of the draft, where the server can neither write nor remove it.
    let obstacle = state.path().join("revocations/revocations.json.new");
    fs::create_dir(&obstacle).unwrap();
    let metrics = server.process.metrics.unwrap();
    let unsaved = |number: u32| {
        let page = ask_tcp(metrics, "GET", "/metrics", &[], "").body;
        let sample = format!("turnstone_revocations_unsaved {number}");
        page.lines().any(|line| line == sample)
    };
    assert!(unsaved(0));
    let output = server.run(&["carol"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("does not survive a restart"), "{told}");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(server.run(&["bob", "--json"]).status.code(), Some(3));
    assert!(unsaved(2));
    let line = server.process.wait_for("will not survive a restart");
    assert!(line.contains("trying again"), "{line}");
    let carol = |server: &Server| {
        let mut carol =
            Client::udp_to(server.process.udp[0]).with_user("carol", "password-of-carol");
        verdict(&mut carol)
    };
    assert_eq!(carol(&server), 401);

    fs::remove_dir(&obstacle).unwrap();
    server.process.wait_for("the revocations are written again");
    assert!(unsaved(0));
    server.stop();
    let server = Server::start(state.path());
    assert_eq!(carol(&server), 401, "kept");
    assert_eq!(server.run(&["--undo", "carol"]).status.code(), Some(0));

    // What fails until the end is tried once more there.
    fs::create_dir(&obstacle).unwrap();
    assert_eq!(server.run(&["carol"]).status.code(), Some(3));
    fs::remove_dir(&obstacle).unwrap();
    let log = server.stop().join("\n");
    assert!(!log.contains("revocations are not kept"), "{log}");
    assert_eq!(carol(&Server::start(state.path())), 401, "kept at the end");
}
