//! Certificates of a server that runs: who gets which, and what becomes of them when files change.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SignatureAlgorithm,
};
use rustix::process::Signal;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use time::{Duration, OffsetDateTime};

use crate::harness::tls::{TlsStream, shown};
use crate::harness::{Client, DEADLINE, Packet, Peer, Process, ask_tcp, own_ipv4, uninterrupted};

const NAME: &str = "turn.example.org";

/// Who issues certificates, and who trusts them.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A pair as its files hold it.
struct Made {
    cert: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap())
    }

    fn issue(&self, name: &str) -> Made {
        self.issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, name, 90)
    }

    fn issue_of(&self, kind: &'static SignatureAlgorithm, name: &str, days: i64) -> Made {
        let key = KeyPair::generate_for(kind).unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = OffsetDateTime::now_utc() - Duration::days(1);
        // And some hours, so that the whole days are these ones.
        params.not_after = OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(6);
        let cert = params.signed_by(&key, &self.0).unwrap();
        Made {
            cert: format!("{}{}", cert.pem(), self.0.pem()),
            key: key.serialize_pem(),
        }
    }

    /// A client with a session of its own, which names a server.
    fn connect(&self, server: SocketAddr, name: &str) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = TcpStream::connect(server).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        while session.is_handshaking() {
            uninterrupted(|| session.complete_io(&mut stream)).unwrap();
        }
        TlsStream::new(session, stream)
    }
}

impl Made {
    /// Puts whole files in the place of those there are, as tools that renew do.
    fn write(&self, directory: &Path, name: &str) {
        for (kind, text) in [("key", &self.key), ("crt", &self.cert)] {
            write(&directory.join(format!("{name}.{kind}")), text);
        }
    }

    fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// For everybody to read, as the server may have become somebody.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    fs::rename(&new, path).unwrap();
}

fn config(ip: Ipv4Addr, tls: &str, directory: &Path) -> String {
    let directory = directory.display();
    let tls = tls.replace("DIR", &directory.to_string());
    format!(
        "realm = \"example.org\"\n\
         auth.users = {{ alice = \"wonderland\" }}\n\
         listen = {{ udp = \"{ip}:0\", tcp = \"{ip}:0\", tls = \"{ip}:0\" }}\n\
         relay = {{ addresses = \"{ip}\", ports = \"20000-20099\" }}\n\
         peers.allow_loopback = true\n\
         server.workers = 2\n\
         [tls]\n{tls}"
    )
}

const PAIR: &str = "cert = \"DIR/turn.crt\"\nkey = \"DIR/turn.key\"\n";

/// A server with a pair in a directory that it can read.
struct Trial {
    process: Process,
    authority: Authority,
    directory: tempfile::TempDir,
    ip: Ipv4Addr,
}

impl Trial {
    fn new(made: impl FnOnce(&Authority) -> Made) -> (Self, Made) {
        let authority = Authority::new();
        let made = made(&authority);
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        made.write(directory.path(), "turn");
        let ip = own_ipv4();
        let process = Process::start(&config(ip, PAIR, directory.path()));
        process.let_read();
        let trial = Self {
            process,
            authority,
            directory,
            ip,
        };
        (trial, made)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn connect(&self) -> TlsStream {
        self.authority.connect(self.process.tls[0], NAME)
    }

    fn metrics(&self) -> String {
        ask_tcp(self.process.metrics.unwrap(), "GET", "/metrics", &[], "").body
    }

    #[track_caller]
    fn assert_shown(&self, expected: &Made) {
        assert_eq!(shown(&self.connect()), expected.der());
    }
}

/// TLS-03: the next handshake shows what the files hold, and calls go on.
#[test]
fn changed_files_serve_the_next_handshake() {
    let (mut trial, old) = Trial::new(|authority| authority.issue(NAME));
    trial.assert_shown(&old);
    let mut client = Client::tls_over(trial.connect());
    let relayed = client.allocate();
    let peer = Peer::new();
    client.bind(0x4000, peer.address());

    let new = trial.authority.issue(NAME);
    new.write(trial.directory.path(), "turn");
    let line = trial.process.wait_for("certificate replaced");
    assert!(line.contains(NAME) && line.contains("in 90 days"), "{line}");
    trial.assert_shown(&new);
    assert!(
        trial
            .metrics()
            .contains("turnstone_tls_certificate_reloads_total{result=\"success\"} 1\n")
    );

    client.send_channel(0x4000, b"still here");
    peer.expect(b"still here", relayed);
    peer.send(b"and here", relayed);
    client.expect_channel(0x4000, b"and here");
    client.delete();
}

/// What clients will refuse is told when it takes the place of a good one.
#[test]
fn a_certificate_that_clients_refuse_is_told() {
    let (mut trial, _) = Trial::new(|authority| authority.issue(NAME));
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let own = Made {
        cert: made.cert.pem(),
        key: made.signing_key.serialize_pem(),
    };
    own.write(trial.directory.path(), "turn");
    trial.process.wait_for("certificate replaced");
    let line = trial
        .process
        .wait_for("is self-signed, so browsers refuse it");
    assert!(line.contains("WARN"), "{line}");
}

/// TLS-03: with many of them, none is dropped.
#[test]
fn connections_go_on_with_another_certificate() {
    let (mut trial, _) = Trial::new(|authority| authority.issue(NAME));
    let mut clients: Vec<Client> = (0..200)
        .map(|_| {
            let mut client = Client::tls_over(trial.connect());
            assert_eq!(client.exchange(&Packet::binding()).code(), 0);
            client
        })
        .collect();
    let new = trial.authority.issue(NAME);
    new.write(trial.directory.path(), "turn");
    trial.process.signal(Signal::USR2);
    trial.process.wait_for("certificates read again: 1 of 1");
    trial.assert_shown(&new);
    for client in &mut clients {
        assert_eq!(client.exchange(&Packet::binding()).code(), 0);
    }
}

/// TLS-03
#[test]
fn a_broken_pair_leaves_the_one_before() {
    let (mut trial, old) = Trial::new(|authority| authority.issue(NAME));
    let new = trial.authority.issue(NAME);
    write(&trial.path("turn.crt"), &new.cert);
    let line = trial.process.wait_for("stays in force");
    assert!(
        line.contains("turn.key is not the key of the certificate"),
        "{line}"
    );
    trial.assert_shown(&old);
    trial.process.signal(Signal::USR2);
    trial.process.wait_for("stays in force");
    trial.process.wait_for("certificates read again: 0 of 1");
    trial.assert_shown(&old);
    // A reload is all or nothing.
    trial.process.signal(Signal::HUP);
    trial.process.wait_for("not reloaded");
    trial.assert_shown(&old);
    write(&trial.path("turn.key"), &new.key);
    trial.process.wait_for("certificate replaced");
    trial.assert_shown(&new);
}

/// TLS-03: SIGUSR2, which other servers have for it too.
#[test]
fn a_signal_has_certificates_read_at_once() {
    let (mut trial, old) = Trial::new(|authority| authority.issue(NAME));
    trial.process.signal(Signal::USR2);
    trial.process.wait_for("certificates read again: 1 of 1");
    trial.assert_shown(&old);
    let new = trial.authority.issue(NAME);
    new.write(trial.directory.path(), "turn");
    trial.process.signal(Signal::USR2);
    trial.process.wait_for("certificates read again: 1 of 1");
    trial.assert_shown(&new);
}

/// TLS-03: as certbot does it, with links into a directory beside.
#[test]
fn links_are_followed_to_the_next_file() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let [archive, live] = ["archive", "live"].map(|name| directory.path().join(name));
    for path in [directory.path(), &archive, &live] {
        if path != directory.path() {
            fs::create_dir(path).unwrap();
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let point = |number: u32| {
        for kind in ["crt", "key"] {
            let link = live.join("link");
            std::os::unix::fs::symlink(format!("../archive/{number}.{kind}"), &link).unwrap();
            fs::rename(&link, live.join(format!("turn.{kind}"))).unwrap();
        }
    };
    authority.issue(NAME).write(&archive, "1");
    point(1);
    let process = Process::start(&config(own_ipv4(), PAIR, &live));
    process.let_read();
    let mut process = process;
    let new = authority.issue(NAME);
    new.write(&archive, "2");
    point(2);
    process.wait_for("certificate replaced");
    let stream = authority.connect(process.tls[0], NAME);
    assert_eq!(shown(&stream), new.der());
}

/// TLS-03: a reload brings names, by which clients get their certificate.
#[test]
fn a_reload_takes_further_pairs() {
    let (mut trial, first) = Trial::new(|authority| authority.issue(NAME));
    let other = trial.authority.issue("other.example.net");
    other.write(trial.directory.path(), "other");
    let more = "additional = [{ cert = \"DIR/other.crt\", key = \"DIR/other.key\" }]\n";
    let text = config(trial.ip, &format!("{PAIR}{more}"), trial.directory.path());
    let line = trial.process.reload(&text);
    assert!(line.contains("changed=\"tls.additional\""), "{line}");
    trial.assert_shown(&first);
    let server = trial.process.tls[0];
    let stream = trial.authority.connect(server, "other.example.net");
    assert_eq!(shown(&stream), other.der());
    let socket = trial.process.home().join("admin.sock");
    let info = Command::new(env!("CARGO_BIN_EXE_turnstone"))
        .args(["info", "--socket"])
        .arg(&socket)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&info.stdout);
    for part in [
        "turn.example.org (ECDSA), expires in 90 days",
        "other.example.net",
        "tls ",
    ] {
        assert!(text.contains(part), "{part}: {info:?}");
    }
}

/// TLS-02: a server that has had no certificate speaks TLS once it has one.
#[test]
fn a_reload_turns_tls_on() {
    let authority = Authority::new();
    let made = authority.issue(NAME);
    let ip = own_ipv4();
    let plain = format!(
        "realm = \"example.org\"\nauth.users = {{ alice = \"wonderland\" }}\n\
         listen = {{ udp = \"{ip}:0\", tcp = \"{ip}:0\" }}\n\
         relay = {{ addresses = \"{ip}\", ports = \"20000-20099\" }}\n\
         peers.allow_loopback = true\nserver.workers = 2\n"
    );
    let mut process = Process::start(&plain);
    process.let_read();
    process.signal(Signal::USR2);
    process.wait_for("SIGUSR2 ignored");
    // Beside the configuration, where a server that runs can read.
    made.write(process.home(), "turn");
    let tls = "tls = { cert = \"turn.crt\", key = \"turn.key\" }\n";
    let text = format!(
        "{tls}{}",
        plain.replace("0\" }\nrelay", "0\", tls = [] }\nrelay")
    );
    let line = process.reload(&text);
    assert!(line.contains("changed=\"tls.cert\""), "{line}");
    let stream = authority.connect(process.tcp[0], NAME);
    assert_eq!(shown(&stream), made.der());
}

/// An end that is near is told by the log and by the metrics.
#[test]
fn expiry_is_told() {
    let (mut trial, _) =
        Trial::new(|authority| authority.issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, NAME, 5));
    let line = trial.process.wait_for("due for renewal");
    assert!(
        line.contains("in 5 days") && line.contains("turn.crt"),
        "{line}"
    );
    let file = trial.path("turn.crt");
    let start = format!(
        "turnstone_tls_certificate_expiry_timestamp_seconds{{file=\"{}\"}} ",
        file.display()
    );
    let metrics = trial.metrics();
    let number = metrics.lines().find_map(|line| line.strip_prefix(&start));
    let left =
        number.unwrap().parse::<f64>().unwrap() - OffsetDateTime::now_utc().unix_timestamp() as f64;
    assert!((5.0 * 86_400.0..6.0 * 86_400.0).contains(&left), "{left}");
}

/// A key that everybody can read is told of at the start, and one that does not fit ends it.
#[test]
fn a_start_looks_at_the_key() {
    let (trial, _) = Trial::new(|authority| authority.issue(NAME));
    let warning = "tls.key: everybody on this machine can read";
    let is_told = trial.process.log.iter().any(|line| line.contains(warning));
    assert!(is_told, "{:#?}", trial.process.log);
    write(&trial.path("turn.key"), &trial.authority.issue(NAME).key);
    let text = config(own_ipv4(), PAIR, trial.directory.path());
    let mut process = Process::spawn(&text, "");
    assert_eq!(process.wait().code(), Some(2));
    let told = process.log.join("\n");
    assert!(
        told.contains("tls.key: ") && told.contains("is not the key"),
        "{told}"
    );
}

/// A server that was started as root reads a key that it cannot read again once it is somebody, which
/// had better show before the renewal.
#[test]
fn a_key_for_root_alone_is_told_after_the_start() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let made = authority.issue(NAME);
    made.write(directory.path(), "turn");
    let key = directory.path().join("turn.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let mut process = Process::start(&config(own_ipv4(), PAIR, directory.path()));
    let line = process.wait_for("stays in force");
    assert!(
        line.contains("turn.key cannot be read (Permission denied"),
        "{line}"
    );
    let stream = authority.connect(process.tls[0], NAME);
    assert_eq!(shown(&stream), made.der());
}
