//! `turnstone doctor` on the real machine. What it says of machines that are made up is tested beside
//! the code, and of wrong ones in `tests/interop/doctor.py`.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Process, own_ipv4};

struct Doctor {
    home: TempDir,
}

impl Doctor {
    fn new(config: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("turnserver.toml");
        fs::write(&path, config).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Self { home }
    }

    fn ask(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("TURNSERVER_")) {
            command.env_remove(name);
        }
        let config = self.home.path().join("turnserver.toml");
        let command = command.arg("doctor").arg("--config").arg(config);
        command.args(more).output().unwrap()
    }

    /// The exit code and what is said as JSON.
    fn examine(&self) -> (Option<i32>, Value) {
        let output = self.ask(&["--json"]);
        let report = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    }
}

fn config(udp: SocketAddr, tcp: SocketAddr) -> String {
    format!(
        "realm = \"example.org\"\n\
         auth.static_auth_secret = \"{SECRET}\"\n\
         listen.udp = [\"{udp}\"]\nlisten.tcp = [\"{tcp}\"]\n\
         relay.addresses = [\"{}\"]\nserver.workers = 1\n",
        own_ipv4()
    )
}

const SECRET: &str = "q8ZrV1mTc5Kd7Wx0Lb3Hs9Nf2Pg6Yj4A";

/// Nobody listens there: port 0 is whatever is free.
fn nowhere() -> SocketAddr {
    SocketAddr::new(own_ipv4().into(), 0)
}

/// The findings of a check, as `status: what`.
fn findings(report: &Value, check: &str) -> Vec<String> {
    let all = report["findings"].as_array().unwrap();
    let of_check = all.iter().filter(|finding| finding["check"] == check);
    of_check
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            format!("{}: {}", text("status"), text("found"))
        })
        .collect()
}

#[track_caller]
fn expect(report: &Value, check: &str, text: &str) {
    let found = findings(report, check);
    assert!(
        found.iter().any(|f| f.contains(text)),
        "{check} {text}: {found:?}"
    );
}

#[test]
fn a_port_that_is_taken_must_be_mended() {
    let udp = UdpSocket::bind((own_ipv4(), 0)).unwrap();
    let tcp = TcpListener::bind((own_ipv4(), 0)).unwrap();
    let (udp_address, tcp_address) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let doctor = Doctor::new(&config(udp_address, tcp_address));
    let (code, report) = doctor.examine();
    assert_eq!(code, Some(1));
    assert_eq!(report["status"], "fail");
    let own = format!("(pid {})", std::process::id());
    for (address, transport) in [(udp_address, "udp"), (tcp_address, "tcp")] {
        let found = findings(&report, "ports.listeners");
        let is =
            |line: &&String| line.starts_with(&format!("fail: {address}/{transport}: taken by"));
        let line = found.iter().find(is).unwrap();
        assert!(line.ends_with(&own), "{line}");
    }
    drop((udp, tcp));
    let (_, report) = doctor.examine();
    expect(&report, "ports.listeners", "ok: free: ");
}

/// Beside a server that runs the same configuration nothing is wrong with its ports.
#[test]
fn a_server_that_runs_is_no_fault() {
    let process = Process::start(&config(nowhere(), nowhere()));
    let doctor = Doctor::new(&config(process.udp[0], process.tcp[0]));
    let (code, report) = doctor.examine();
    if rustix::process::geteuid().is_root() {
        let runs = format!("turnstone (pid {}) runs and has it", process.pid());
        expect(
            &report,
            "ports.listeners",
            &format!("ok: {}/udp: {runs}", process.udp[0]),
        );
        expect(
            &report,
            "ports.listeners",
            &format!("ok: {}/tcp: {runs}", process.tcp[0]),
        );
        expect(&report, "limits.files", "the server that runs may open");
    } else {
        // The process of a server is closed to everybody else.
        expect(&report, "ports.listeners", "warn: ");
    }
    assert_eq!(code, Some(i32::from(report["fail"] != 0)));
}

#[test]
fn an_address_of_another_machine_is_a_finding_among_others() {
    let elsewhere = "198.51.100.7:3478".parse().unwrap();
    let doctor = Doctor::new(&config(elsewhere, nowhere()));
    let (code, report) = doctor.examine();
    assert_eq!(code, Some(1));
    expect(
        &report,
        "addresses.listeners",
        "fail: 198.51.100.7:3478/udp",
    );
    expect(&report, "system.kernel", "ok: Linux ");
}

/// The server would not start without the pages that it was asked for.
#[test]
fn listeners_of_http_are_listeners() {
    let elsewhere = "metrics.listen = \"198.51.100.7:9641\"\n";
    let doctor = Doctor::new(&format!("{elsewhere}{}", config(nowhere(), nowhere())));
    let (code, report) = doctor.examine();
    assert_eq!(code, Some(1));
    let missing = "fail: 198.51.100.7:9641/tcp (metrics.listen)";
    expect(&report, "addresses.listeners", missing);

    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap();
    let taken = format!(
        "admin.listen = \"{address}\"\nadmin.token = \"8f3c07d1b85e42aa9f3c07d1b85e42aa\"\n"
    );
    let doctor = Doctor::new(&format!("{taken}{}", config(nowhere(), nowhere())));
    let (code, report) = doctor.examine();
    assert_eq!(code, Some(1));
    let taken = format!("fail: {address}/tcp (admin.listen): taken by");
    expect(&report, "ports.listeners", &taken);
}

/// Of every kind, not only those of clients.
#[test]
fn weak_and_exposed_secrets_are_told_as_such() {
    let doctor = Doctor::new(&format!(
        "admin.token = \"aaaaaaaaaaaaaaaa\"\nhooks.url = \"https://127.0.0.1\"\n\
         hooks.secret_file = \"hook\"\n{}",
        config(nowhere(), nowhere())
    ));
    let home = doctor.home.path();
    fs::write(home.join("hook"), SECRET).unwrap();
    for (path, mode) in [(home.join("hook"), 0o666), (home.to_owned(), 0o755)] {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    let (_, report) = doctor.examine();
    let found = findings(&report, "configuration.secrets");
    assert!(
        found.iter().all(|line| line.starts_with("warn: ")),
        "{found:?}"
    );
    for text in [
        "admin.token: a secret ",
        "hooks.secret_file: everybody on this machine can read",
        "hooks.secret_file: everybody on this machine can change",
    ] {
        expect(&report, "configuration.secrets", text);
    }
    expect(&report, "configuration.loads", "ok: ");
}

#[test]
fn a_configuration_that_does_not_load_is_told_as_by_run() {
    let output = Doctor::new("listen.udp = 1\n").ask(&["--json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(output.stdout, b"");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("listen.udp") && text.contains("1 error"),
        "{text}"
    );
}

#[test]
fn the_options_of_run_count_and_no_secret_is_printed() {
    let doctor = Doctor::new(&config(nowhere(), nowhere()));
    let output = doctor.ask(&["--relay-address", "198.51.100.7"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("  FAIL  198.51.100.7: this machine does not have"),
        "{text}"
    );
    assert!(!text.contains(SECRET));
}

/// What is said fits a terminal, but for commands that are to be copied.
#[test]
fn lines_fit_a_terminal() {
    let doctor = Doctor::new(&config("198.51.100.7:443".parse().unwrap(), nowhere()));
    let text = String::from_utf8(doctor.ask(&[]).stdout).unwrap();
    assert!(text.lines().count() > 20, "{text}");
    for line in text
        .lines()
        .filter(|line| !line.starts_with("             "))
    {
        assert!(line.chars().count() <= 80, "{line}");
    }
}

/// Every key of the JSON, which programs read.
#[test]
fn the_keys_are_stable() {
    let (_, report) = Doctor::new(&config(nowhere(), nowhere())).examine();
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(
        keys(&report),
        ["fail", "findings", "ok", "status", "unknown", "warn"]
    );
    let findings = report["findings"].as_array().unwrap();
    for finding in findings {
        assert_eq!(
            keys(finding),
            ["check", "command", "found", "remedy", "status", "why"]
        );
    }
    let count = |key: &str| report[key].as_u64().unwrap();
    let total = count("ok") + count("unknown") + count("warn") + count("fail");
    assert_eq!(total, findings.len() as u64);
}

/// The table of examinations in the documentation is the one of the program.
#[test]
fn every_examination_is_documented() {
    let root = env!("CARGO_MANIFEST_DIR");
    let document = fs::read_to_string(format!("{root}/docs/doctor.md")).unwrap();
    let mut in_source = vec![];
    let sources = [
        "acme",
        "addresses",
        "certificates",
        "firewall/mod",
        "limits",
        "ports",
        "settings",
        "system",
        "web",
    ];
    for source in sources {
        let path = format!("{root}/src/cli/doctor/{source}.rs");
        let text = fs::read_to_string(path).unwrap();
        let checks = text.lines().filter_map(|line| {
            let (_, value) = line.strip_prefix("const ")?.split_once(": &str = \"")?;
            let check = value.strip_suffix("\";")?;
            check.contains('.').then(|| check.to_owned())
        });
        in_source.extend(checks);
    }
    let rows = document.lines().filter_map(|line| {
        let (check, _) = line.strip_prefix("| `")?.split_once('`')?;
        check.contains('.').then(|| check.to_owned())
    });
    let mut in_document: Vec<String> = rows.collect();
    in_source.sort();
    in_document.sort();
    assert!(in_source.len() >= 20, "{in_source:?}");
    assert_eq!(in_source, in_document);
}
