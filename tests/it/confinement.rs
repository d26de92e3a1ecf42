//! What the server's process has given up once it serves. What only root can give up is tested
//! where the tests run as root, and said to be left out where they do not.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use landlock::{AccessFs, LandlockStatus, Ruleset, RulesetAttr};
use rustix::process::Signal;

use crate::harness::{Client, Peer, Process, eventually, own_ipv4};

/// `CAP_SETPCAP`, without which nobody empties a bounding set.
const SETPCAP: u64 = 1 << 8;

fn config(more: &str) -> String {
    let ip = own_ipv4();
    format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen.udp = [\"{ip}:0\"]\nlisten.tcp = [\"{ip}:0\"]\nrelay.addresses = [\"{ip}\"]\n\
         relay.ports = \"20000-29999\"\npeers.allow_loopback = true\nserver.workers = 2\n{more}\n"
    )
}

/// What the kernel says of a process or thread.
fn status(of: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{of}/status")).unwrap();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

fn set(status: &BTreeMap<String, String>, name: &str) -> u64 {
    u64::from_str_radix(&status[name], 16).unwrap()
}

/// Real, effective, saved and file system id.
fn ids(status: &BTreeMap<String, String>, name: &str) -> Vec<u32> {
    let ids = status[name].split_ascii_whitespace();
    ids.map(|id| id.parse().unwrap()).collect()
}

#[expect(clippy::print_stdout, reason = "says what is not tested")]
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: the change of user is not tested");
    }
    root
}

/// PROC-01, PROC-02, PROC-05: every thread, and the server still does everything.
#[test]
fn no_thread_keeps_a_right() {
    let mut process = Process::start(&config(""));
    let line = process.log.join("\n");
    assert!(line.contains("confined: runs as"), "{line}");
    let own = status("self");
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap();
    let tasks: Vec<String> = tasks
        .map(|task| task.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(tasks.len() >= 3, "two workers and the one that waits");
    for task in tasks {
        let status = status(&format!("{}/task/{task}", process.pid()));
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(set(&status, name), 0, "{name} of {}", status["Name"]);
        }
        if set(&own, "CapEff") & SETPCAP != 0 {
            assert_eq!(set(&status, "CapBnd"), 0, "{}", status["Name"]);
        }
        assert_eq!(status["NoNewPrivs"], "1");
        if is_root() {
            let (users, groups) = (ids(&status, "Uid"), ids(&status, "Gid"));
            assert!(users.iter().all(|&id| id != 0 && id == users[0]));
            assert!(groups.iter().all(|&id| id != 0 && id == groups[0]));
            assert_eq!(status["Groups"], "");
        }
    }

    let peer = Peer::new();
    for mut client in [
        Client::udp_to(process.udp[0]),
        Client::tcp_to(process.tcp[0]),
    ] {
        let relayed = client.allocate();
        client.bind(0x4000, peer.address());
        client.send_channel(0x4000, b"out");
        peer.expect(b"out", relayed);
        peer.send(b"in", relayed);
        client.expect_channel(0x4000, b"in");
        client.delete();
    }
    process.terminate();
    assert!(process.wait().success());
}

/// PROC-01
#[test]
fn root_becomes_the_configured_user() {
    if !is_root() {
        return;
    }
    let process = Process::start(&config("server.user = \"64999\""));
    let status = status(&process.pid().to_string());
    assert_eq!(ids(&status, "Uid"), [64999; 4]);
    assert_eq!(ids(&status, "Gid"), [64999; 4]);
    assert!(process.log.join("\n").contains("runs as 64999 (uid 64999)"));
}

/// PROC-01
#[test]
fn an_unknown_user_stops_the_start() {
    let mut process = Process::spawn(&config("server.user = \"no-such-user-here\""), "");
    assert_eq!(process.wait().code(), Some(2));
    let log = process.log.join("\n");
    assert!(
        log.contains("server.user: there is no user \"no-such-user-here\" on this machine; make"),
        "{log}"
    );
}

/// PROC-03: a crash leaves no core, whatever limit the server was started with, and its memory and
/// environment are root's.
#[test]
fn a_crash_leaves_no_core() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let dumps = format!("ulimit -c unlimited && cd {}", directory.path().display());
    let mut control = Command::new("sh");
    let control = control.args(["-c", &format!("{dumps} && kill -ABRT $$")]);
    let control = control.status().unwrap();
    if !control.core_dumped() {
        println!("this system makes no core dumps: that the server makes none proves nothing");
    }
    let mut process = Process::start_with(&config(""), &dumps);
    let own = status(&process.pid().to_string());
    assert!(!is_root() || ids(&own, "Uid")[0] != 0);
    // Files of a process that can be dumped are its user's.
    let environment = fs::metadata(format!("/proc/{}/environ", process.pid())).unwrap();
    assert_eq!(environment.uid(), 0);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<&str> = core.unwrap().split_ascii_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    process.signal(Signal::ABORT);
    let ended = process.wait();
    assert_eq!(ended.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!ended.core_dumped());
}

/// What this kernel has, by the least that can be asked of it. On a thread of its own, which is what
/// it confines.
fn landlock() -> LandlockStatus {
    let asked = std::thread::spawn(|| {
        let least = Ruleset::default().handle_access(AccessFs::Execute).unwrap();
        least.create().unwrap().restrict_self().unwrap().landlock
    });
    asked.join().unwrap()
}

/// PROC-04: the log says what Landlock closes. That it does is tested beside the code, where a
/// thread can try.
#[test]
fn the_confinement_is_told_in_one_line() {
    let process = Process::start(&config(""));
    let lines = process.log.iter().filter(|line| line.contains("confined:"));
    let lines: Vec<&String> = lines.collect();
    assert_eq!(lines.len(), 1);
    for expected in ["no core dumps", "no capabilities", "no new privileges"] {
        assert!(lines[0].contains(expected), "{}", lines[0]);
    }
    let LandlockStatus::Available { effective_abi, .. } = landlock() else {
        assert!(
            lines[0].contains("no Landlock; not in force:"),
            "{}",
            lines[0]
        );
        return;
    };
    let version = effective_abi as u32;
    for (expected, since) in [
        (&*format!("Landlock ABI {version}: no files"), 1),
        (", no TCP bind or connect", 4),
        (", no signals", 6),
    ] {
        let told = lines[0].contains(expected);
        assert_eq!(told, version >= since, "{expected}: {}", lines[0]);
    }
}

/// Starts the server by a command, which gets it as its last arguments.
fn by(command: &str) -> String {
    format!("exec {command} \"$0\" run --config \"$1\" 2>&1")
}

/// PROC-01: who named a user wants that one.
#[test]
fn a_refused_change_of_user_stops_the_start() {
    if !is_root() {
        return;
    }
    let without_rights = by("setpriv --bounding-set -setuid,-setgid");
    let mut process = Process::spawn(&config("server.user = \"64999\""), &without_rights);
    assert_eq!(process.wait().code(), Some(1));
    let log = process.log.join("\n");
    let told = "cannot become user \"64999\" (Operation not permitted (os error 1)); start with \
                CAP_SETUID";
    assert!(log.contains(told) && !log.contains("serving"), "{log}");
}

/// PROC-01: with this secure bit the capabilities survive the change of user, and so does the way
/// back.
#[test]
fn root_that_comes_back_stops_the_start() {
    if !is_root() {
        return;
    }
    let no_fixup = by("setpriv --securebits +no_setuid_fixup");
    let mut process = Process::spawn(&config("server.user = \"64999\""), &no_fixup);
    assert_eq!(process.wait().code(), Some(1));
    let log = process.log.join("\n");
    assert!(
        log.contains("root can be regained") && !log.contains("serving"),
        "{log}"
    );
}

/// PROC-01, PROC-02: as in a container without these capabilities, or with one user.
#[test]
fn root_that_nobody_may_leave_has_no_capabilities() {
    if !is_root() {
        return;
    }
    let namespace = "unshare --user --map-root-user";
    for command in ["setpriv --bounding-set -setuid,-setgid", namespace] {
        let tried = format!("{command} true");
        let possible = Command::new("sh").args(["-c", &tried]).status();
        if !possible.unwrap().success() {
            println!("{command} is forbidden here: not tested");
            continue;
        }
        let process = Process::start_with(&config(""), &by(command));
        let log = process.log.join("\n");
        assert!(
            log.contains("running as root without capabilities"),
            "{log}"
        );
        assert!(
            log.contains("runs as uid 0, no core dumps, no capabilities"),
            "{log}"
        );
        let status = status(&process.pid().to_string());
        assert_eq!(ids(&status, "Uid"), [0; 4]);
        for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(set(&status, name), 0, "{name}");
        }
        Client::udp_to(process.udp[0]).allocate();
    }
}

/// PROC-03: before it reads anything, which is here where it waits for a configuration.
#[test]
fn every_command_hides_its_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("turnserver.toml");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    // Open for both, so that opening waits for nobody, and reading for ever.
    let _held = fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    for command in [
        &["run", "--config"][..],
        &["check-config"],
        &["credentials", "--user", "alice", "--config"],
    ] {
        let mut process = Command::new(env!("CARGO_BIN_EXE_turnstone"))
            .args(command)
            .arg(&path)
            .env("RUNTIME_DIRECTORY", path.parent().unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = process.id();
        eventually("the hiding of the memory", || {
            let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let core = limits.lines().find(|line| line.starts_with("Max core"));
            // A process that has ended shows none.
            let core: Vec<&str> = core.unwrap_or("").split_ascii_whitespace().collect();
            core.get(4..6) == Some(&["0", "0"])
        });
        let ended = process.try_wait().unwrap();
        assert!(ended.is_none(), "{command:?} does not wait: {ended:?}");
        process.kill().unwrap();
        process.wait().unwrap();
    }
}
