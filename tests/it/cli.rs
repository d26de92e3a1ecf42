//! The command line: exit codes, messages, and what a first run leaves behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::assert::OutputAssertExt;
use tempfile::TempDir;

/// The binary with a state directory of its own and no configuration from outside.
fn turnstone(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("TURNSERVER_")) {
        command.env_remove(name);
    }
    command
        .env_remove("STATE_DIRECTORY")
        .env("RUNTIME_DIRECTORY", home)
        .env("XDG_STATE_HOME", home);
    command
}

fn home() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(home: &TempDir, text: &str) -> String {
    let path = home.path().join("turnserver.toml");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Starts the server and reads what it prints up to the command that makes credentials, which is
/// the last thing; then stops it.
fn first_run(home: &Path) -> String {
    let mut child = turnstone(home)
        .args(["run", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut text = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        text.push('\n');
        if line.contains("turnstone credentials") {
            break;
        }
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().unwrap();
    text
}

#[test]
fn help_names_the_exit_codes() {
    let output = turnstone(home().path()).arg("--help").output().unwrap();
    assert!(output.status.success());
    let help = stdout(&output);
    for expected in [
        "run",
        "check-config",
        "credentials",
        "Exit codes:",
        "TURNSERVER_SECTION__KEY",
    ] {
        assert!(help.contains(expected), "{help}");
    }
    turnstone(home().path())
        .arg("no-such-command")
        .assert()
        .code(2);
}

#[test]
fn every_error_of_a_broken_config_is_told_and_the_code_is_2() {
    let home = home();
    let file = write(
        &home,
        "relam = \"a\"\n[relay]\nports = \"2-1\"\n[server]\nworkers = 0\n",
    );
    for command in [&["check-config", &file][..], &["run", "--config", &file]] {
        let output = turnstone(home.path()).args(command).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let errors = stderr(&output).replace(&file, "turnserver.toml");
        assert_eq!(
            errors,
            "turnserver.toml:1: relam: is not a known key; did you mean realm?\n\
             turnserver.toml:3: relay.ports: \"2-1\" runs backwards; write the lower port first, \
             e.g. \"1-2\"\n\
             turnserver.toml:5: server.workers: 0 is out of range; write 1 to 256\n\
             turnstone: 3 errors in the configuration\n"
        );
    }
}

#[test]
fn check_config_shows_everything_but_secrets() {
    let home = home();
    let secrets = "[auth]\nstatic_auth_secret = \"hunter2-hunter2-hunter2\"\n\
                   users = { alice = \"hunter2\" }\n[relay]\naddresses = [\"127.0.0.1\"]\n";
    let file = write(&home, secrets);
    let output = turnstone(home.path())
        .args(["check-config", &file])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("static_auth_secret = \"(set: 1)\""));
    assert!(stdout(&output).contains("max_lifetime_s = 3600"));
    assert!(stderr(&output).contains("warning: ") && stderr(&output).contains("127.0.0.1"));
    assert!(!stdout(&output).contains("hunter2") && !stderr(&output).contains("hunter2"));
}

#[test]
fn check_config_accepts_another_machines_addresses_when_told_so() {
    let home = home();
    let file = write(&home, "[relay]\naddresses = [\"198.51.100.77\"]\n");
    turnstone(home.path())
        .args(["check-config", &file])
        .assert()
        .code(2);
    turnstone(home.path())
        .args(["check-config", "--other-machine", &file])
        .assert()
        .success();
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let home = home();
    let file = write(&home, "realm = \"\"\n");
    let run = |realm: &str, arguments: &[&str]| {
        let mut command = turnstone(home.path());
        command
            .args(["credentials", "--user", "a", "--config", &file])
            .args(arguments);
        command
            .env("TURNSERVER_REALM", realm)
            .env("TURNSERVER_AUTH__STATIC_AUTH_SECRET", "north");
        command.output().unwrap()
    };
    assert!(
        run("turn.example.org", &[]).status.success(),
        "the variable hides the file's error"
    );
    let refused = run("\"", &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).starts_with("TURNSERVER_REALM: realm: contains a quote"));
    let password = |output: &Output| {
        stdout(output)
            .lines()
            .find(|line| line.starts_with("password"))
            .map(str::to_owned)
    };
    let (north, south) = (run("a", &[]), run("a", &["--static-auth-secret", "south"]));
    assert_ne!(password(&north), password(&south));
}

#[test]
fn credentials_come_in_three_forms() {
    let home = home();
    let run = |form: &[&str]| {
        let mut command = turnstone(home.path());
        command.args(["credentials", "--user", "alice", "--ttl", "600"]);
        command
            .args([
                "--static-auth-secret",
                "north",
                "--uri",
                "turn:turn.example.org",
            ])
            .args(form);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let mut keys: Vec<_> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    assert_eq!(keys, ["password", "ttl", "uris", "username"]);
    assert_eq!(json["ttl"], 600);
    assert_eq!(json["uris"], serde_json::json!(["turn:turn.example.org"]));
    assert!(json["username"].as_str().unwrap().ends_with(":alice"));

    let servers: serde_json::Value = serde_json::from_str(&run(&["--ice-servers"])).unwrap();
    assert_eq!(servers[0]["urls"][0], "turn:turn.example.org");
    assert!(servers[0]["credential"].is_string() && servers[0]["username"].is_string());

    let names: Vec<String> = run(&[])
        .lines()
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["username", "password", "ttl", "uris"]);
}

#[test]
fn credentials_need_a_secret() {
    let home = home();
    let file = write(&home, "[auth]\nusers = { alice = \"password\" }\n");
    let arguments = ["credentials", "--user", "alice", "--config", &file];
    let users_only = turnstone(home.path()).args(arguments).output().unwrap();
    assert_eq!(users_only.status.code(), Some(2));
    assert!(
        stderr(&users_only).contains("users only"),
        "{}",
        stderr(&users_only)
    );
    let file = write(&home, "");
    let arguments = ["credentials", "--user", "alice", "--config", &file];
    let nothing = turnstone(home.path()).args(arguments).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
    assert!(
        stderr(&nothing).contains("--static-auth-secret-file"),
        "{}",
        stderr(&nothing)
    );
}

#[test]
fn a_first_run_keeps_its_secret_and_explains_itself() {
    let home = home();
    let path = home.path().join("turnstone/static-auth-secret");
    let first = first_run(home.path());
    let secret = fs::read_to_string(&path).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let second = first_run(home.path());
    assert_eq!(fs::read_to_string(&path).unwrap(), secret);

    for text in [&first, &second] {
        let shown = path.to_str().unwrap();
        assert!(
            text.contains(shown) && !text.contains(secret.trim()),
            "{text}"
        );
        assert!(
            text.contains("turnstone check 'turn:127.0.0.1:0'"),
            "{text}"
        );
        let start = text.find("{ \"iceServers\"").unwrap();
        let end = text.find("\n\nTest it").unwrap();
        let snippet: serde_json::Value = serde_json::from_str(&text[start..end]).unwrap();
        assert_eq!(
            snippet["iceServers"][0]["urls"].as_array().unwrap().len(),
            2
        );
    }
    assert!(
        first.contains("made now") && second.contains("an earlier start"),
        "{second}"
    );

    let mut credentials = turnstone(home.path());
    credentials
        .args(["credentials", "--user", "bob"])
        .assert()
        .success();
}

#[test]
fn the_journal_gets_neither_times_nor_credentials() {
    let home = home();
    let path = home.path().join("journal");
    let journal = fs::File::create(&path).unwrap();
    let metadata = journal.metadata().unwrap();
    let mut child = turnstone(home.path())
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--relay-address",
            "127.0.0.1",
        ])
        .env(
            "JOURNAL_STREAM",
            format!("{}:{}", metadata.dev(), metadata.ino()),
        )
        .stdout(journal.try_clone().unwrap())
        .stderr(journal)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut text = String::new();
    while !text.contains("using the secret in") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
        text = fs::read_to_string(&path).unwrap();
    }
    // It may have ended by itself.
    let _ = child.kill();
    child.wait().unwrap();
    assert!(text.contains("using the secret in"), "{text}");
    assert!(
        !text.contains("iceServers") && !text.contains(":test"),
        "{text}"
    );
    assert!(
        text.starts_with(" WARN --relay-address: relay.addresses: "),
        "{text}"
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let home = home();
    let mut child = turnstone(home.path())
        .args([
            "credentials",
            "--user",
            "a",
            "--static-auth-secret",
            "north",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_systemd_unit_starts_what_there_is() {
    let unit = include_str!("../../systemd/turnstone.service");
    let value = |key: &str| {
        unit.lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
    };
    let home = home();
    let file = write(&home, "[server]\nworkers = 0\n");
    let mut command = value("ExecStart=").split(' ');
    assert_eq!(command.next(), Some("/usr/bin/turnstone"));
    let mut refused = turnstone(home.path());
    let refused = refused
        .args(command)
        .env("TURNSERVER_CONFIG", &file)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("server.workers"));
    let users = include_str!("../../systemd/turnstone.sysusers");
    assert!(users.contains(&format!("u {} ", value("User="))));
}
