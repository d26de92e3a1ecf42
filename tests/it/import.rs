//! `turnstone import`: the command, its files and exit codes, and a server on what it made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use tempfile::TempDir;
use turnstone::config::coturn::INPUT_BYTES_MAX;

use crate::harness::attribute as a;
use crate::harness::{Client, Packet, Process, method, unix_s};

const GUIDE: &str = include_str!("../data/coturn/guide.conf");
const OFFICE: &str = include_str!("../data/coturn/office.conf");

struct Place {
    directory: TempDir,
}

impl Place {
    fn with(conf: impl AsRef<[u8]>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("turnserver.conf"), conf).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_turnstone"))
            .current_dir(self.directory.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Exit code and messages.
    fn import(&self, options: &[&str]) -> (i32, String) {
        let output = self.run(&[&["import", "turnserver.conf"], options].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_is_made_for_its_owner_and_never_replaced_unasked() {
    let place = Place::with(GUIDE);
    let (code, told) = place.import(&["-o", "turnserver.toml"]);
    assert_eq!(code, 0, "{told}");
    for part in [
        "turnserver.conf:37: log-file: no counterpart: ",
        "turnserver.conf:18: total-quota: differs: ",
        "note: these limits hold",
        "turnserver.conf: 35 options: 19 translated, 13 not needed, 3 without counterpart, 0 \
         unknown, 0 with a bad value; 8 lines of comment or nothing\n",
        "next: turnstone check-config turnserver.toml;",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert!(!told.contains("3f8a1c0d9b7e4f25"), "no secret is told");
    let file = place.path("turnserver.toml");
    assert_eq!(mode(&file), 0o600);
    let made = fs::read_to_string(&file).unwrap();
    let checked = place.run(&["check-config", "--other-machine", "turnserver.toml"]);
    assert!(checked.status.success());

    fs::write(&file, "precious").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, told) = place.import(&["-o", "turnserver.toml"]);
    let expected =
        "turnserver.toml: is there already; choose another name, or replace it with --force\n";
    assert_eq!((code, told.as_str()), (1, expected));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(
        place.import(&["--output", "turnserver.toml", "--force"]).0,
        0
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), made);
    assert_eq!(
        mode(&file),
        0o600,
        "also where others could read what was there"
    );
    assert_eq!(
        fs::read_dir(place.directory.path()).unwrap().count(),
        2,
        "no draft is left"
    );

    let (code, told) = place.import(&["-o", "nowhere/turnserver.toml"]);
    assert!(
        code == 1 && told.starts_with("nowhere/turnserver.toml: cannot be written"),
        "{told}"
    );
    assert_eq!(place.import(&["--force"]).0, 2, "there is nothing to force");
}

/// Half a file would look like a configuration, and the next import would not replace it.
#[test]
fn a_full_disk_leaves_no_half_of_a_file() {
    let place = Place::with(GUIDE);
    for option in ["", "--force"] {
        // No file may be longer than a kilobyte, and to try it is an error, not the end.
        let script =
            "trap '' XFSZ; ulimit -f 1; exec \"$0\" import turnserver.conf -o made.toml $1";
        let output = Command::new("sh")
            .current_dir(place.directory.path())
            .args(["-c", script, env!("CARGO_BIN_EXE_turnstone"), option])
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.starts_with("made.toml: cannot be written"), "{told}");
        let left: Vec<_> = fs::read_dir(place.directory.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
    assert_eq!(place.import(&["-o", "made.toml"]).0, 0);
}

#[test]
fn a_bad_value_is_told_and_the_rest_is_made() {
    let place = Place::with(OFFICE);
    let output = place.run(&["import", "turnserver.conf"]);
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    let mut lines = told.lines();
    let expected = "turnserver.conf:16: user: bad value: it has no colon; write user=name:password \
                    or user=name:0xKEY";
    assert_eq!(lines.next(), Some(expected), "the worst comes first");
    assert!(told.contains("34: listening-prot: unknown"));
    assert!(!told.contains("next: "), "there is no file to go on with");
    assert!(!told.contains("room-password") && !told.contains("hush"));
    fs::write(place.path("made.toml"), output.stdout).unwrap();
    let checked = place.run(&["check-config", "--other-machine", "made.toml"]);
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
}

#[test]
fn a_file_that_is_none_is_refused() {
    let place = Place::with("realm=n\u{f6}rth\n");
    assert_eq!(place.import(&[]).0, 0);
    for (bytes, expected) in [
        (
            b"# one\nrealm=n\xf6rth\n".to_vec(),
            "turnserver.conf:2: is not UTF-8; convert the file",
        ),
        (
            vec![b'\n'; INPUT_BYTES_MAX + 1],
            "turnserver.conf: is longer than 1048576 bytes",
        ),
    ] {
        let (code, told) = Place::with(bytes).import(&[]);
        assert!(code == 2 && told.starts_with(expected), "{told}");
    }
    assert_eq!(Place::with(vec![b'\n'; INPUT_BYTES_MAX]).import(&[]).0, 0);
    let output = place.run(&["import", "nothing.conf"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("nothing.conf: cannot be read"));
}

/// The server on the import of a file for loopback, at ports of the kernel's choice.
fn serve(conf: &str) -> Process {
    let place = Place::with(format!("listening-ip=127.0.0.1\n{conf}"));
    let output = place.run(&["import", "turnserver.conf"]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let toml = String::from_utf8(output.stdout).unwrap();
    assert!(toml.contains("\"127.0.0.1:3478\""), "{toml}");
    Process::start(&toml.replace("127.0.0.1:3478", "127.0.0.1:0"))
}

/// What an Allocate request gets over UDP and over TCP.
fn verdicts(server: &Process, user: &str, password: &str) -> [u16; 2] {
    let clients = [Client::udp_to(server.udp[0]), Client::tcp_to(server.tcp[0])];
    clients.map(|client| {
        let mut client = client.with_user(user, password);
        let packet = Packet::request(method::ALLOCATE).attr(a::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let signed = client.signed(packet);
        client.exchange(&signed).code()
    })
}

#[test]
fn the_imported_server_takes_coturns_credentials() {
    let server =
        serve("use-auth-secret\nstatic-auth-secret=north-secret\nrealm=north.gov\nuser=bob:b");
    let name = format!("{}:alice", unix_s() + 600);
    let mut mac = Hmac::<Sha1>::new_from_slice(b"north-secret").unwrap();
    mac.update(name.as_bytes());
    let password = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(verdicts(&server, &name, &password), [0, 0]);
    assert_eq!(
        verdicts(&server, "bob", "b"),
        [401, 401],
        "coturn does not take him either"
    );

    // The key is what turnadmin -k -u ninefingers -r north.gov -p youhavetoberealistic prints.
    let server = serve(
        "lt-cred-mech\nrealm=north.gov\nuser=gorst:hero\n\
         user=ninefingers:0xbc807ee29df3c9ffa736523fb2c4e8ee",
    );
    assert_eq!(verdicts(&server, "gorst", "hero"), [0, 0]);
    assert_eq!(
        verdicts(&server, "ninefingers", "youhavetoberealistic"),
        [0, 0]
    );
    assert_eq!(verdicts(&server, "gorst", "coward"), [401, 401]);
}

/// Where coturn would relay for everybody.
#[test]
fn the_import_of_an_open_relay_relays_for_nobody_unknown() {
    let server = serve("no-auth");
    assert_eq!(verdicts(&server, "anybody", "anything"), [401, 401]);
}
