//! Secrets are in no text: not by `Debug`, not in what the program prints about a configuration.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use turnstone::auth::{
    Authenticator, Credentials, Identity, KnownUser, LongTermKey, NonceKey, PasswordAlgorithm,
    RealmMark,
};
use turnstone::config::{Credential, Environment, Flag, Sources};
use turnstone::engine::{Settings, StreamLimits, Web};
use turnstone::turn::{ClientPolicy, Limits, Options, PeerPolicy};
use turnstone::wire::IntegrityAlgorithm;
use zeroize::Zeroizing;

/// In every secret of this file.
const MARK: &str = "hunter2";

/// SEC-15: by `Debug` of everything that holds one. Bytes are looked for as the numbers that `Debug`
/// would print.
#[test]
fn no_secret_is_in_debug_output() {
    let mut credentials = Credentials::new("example.org", ':').unwrap();
    credentials.add_secret("hunter2-secret".into());
    credentials
        .add_user("alice", &"hunter2-password".into())
        .unwrap();
    credentials.add_user_key("bob", [222; 16]).unwrap();
    let keys = vec![NonceKey::new([222; 32]), NonceKey::from_secret("hunter2")];
    let authenticator = Authenticator::new(Arc::new(credentials), keys, 600);
    let key = LongTermKey::derive(PasswordAlgorithm::Sha256, b"alice", "example.org", MARK);
    let shown = format!("{:?}", key.as_bytes());
    let identity = Identity {
        username: "alice".into(),
        user: "alice".into(),
        realm: RealmMark::of(b"example.org"),
        key: key.clone(),
        reply_integrity: IntegrityAlgorithm::Sha256,
    };
    let known = KnownUser {
        username: "alice",
        user: "alice",
        realm: RealmMark::of(b"example.org"),
        key: &key,
    };
    let flag = Flag {
        key: "auth.static_auth_secret",
        name: "--static-auth-secret",
        values: vec![Zeroizing::new("hunter2-flag".to_owned())],
        separator: '=',
    };
    let mut environment = Environment::default();
    environment.push("TURNSERVER_AUTH__STATIC_AUTH_SECRET", "hunter2-variable");
    let sources = Sources {
        file: None,
        environment,
        flags: vec![flag],
    };
    let of_config = [
        Credential::Plain("hunter2-password".into()),
        Credential::Md5Key([222; 16].into()),
    ];
    let settings = Settings {
        udp: vec![],
        tcp: vec![],
        tls_listeners: vec![],
        #[cfg(feature = "dtls")]
        dtls_listeners: vec![],
        #[cfg(feature = "dtls")]
        dtls: None,
        strict_listeners: vec![],
        tls: None,
        workers: 1,
        relay_addresses: vec![],
        relay_ports: 1024..=1025,
        own_networks: vec![],
        options: Options {
            authenticator: authenticator.clone(),
            limits: Limits::default(),
            peers: PeerPolicy::default(),
            clients: ClientPolicy::default(),
            software: None,
            classic_stun: false,
            dont_fragment: false,
        },
        revocations: Arc::default(),
        stream: StreamLimits {
            connections: 1,
            connections_per_address: 1,
            half_open: 1,
            send_queue_bytes: 65_540,
            queues_total_bytes: 65_540,
            first_message_s: 10,
            idle_s: 60,
        },
        proxy_protocol_from: vec![],
        web: Web::default(),
    };
    let texts = [
        format!("{authenticator:?}"),
        format!("{identity:?} {known:?} {key:?}"),
        format!("{sources:?}"),
        format!("{of_config:?}"),
        format!("{settings:?}"),
    ];
    for text in texts {
        assert!(text.len() > 20, "there is something to look at");
        for secret in [MARK, "222", shown.trim_matches(['[', ']'])] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
}

fn turnstone(home: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnstone"));
    command.args(arguments).env_clear();
    command.env("RUNTIME_DIRECTORY", home);
    command.env("XDG_STATE_HOME", home);
    command.envs(environment.iter().copied());
    let output = command.output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

/// SEC-15: whatever is wrong with a secret, and wherever it was put by mistake.
#[test]
fn no_secret_is_in_a_message_about_the_configuration() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("turnserver.toml");
    let secret_file = home.path().join("secret");
    fs::write(&secret_file, "hunter2-line-one\nhunter2-line-two\n").unwrap();
    let broken = [
        "static_auth_secret = hunter2",
        "static_auth_secret = \"hunter2\\q\"",
        "static_auth_secret = \"hunter2",
        "static_auth_secret = [\"hunter2\", 2",
        "static_auth_secret = { hunter2 = 1 }",
        "static_auth_secret = 'hunter2' 'hunter2'",
        "static_auth_secret_file = \"secret\"",
        "nonce_secret = hunter2",
        "nonce_lifetime_s = \"hunter2\"",
        "users = \"hunter2\"",
        "users = [\"alice:hunter2\"]",
        "users = { alice = \"0xhunter2\" }",
        "users = { alice = \"hunter2\\u0000\" }",
        "users = { alice = [\"hunter2\"] }",
        "users = { alice = \"hunter2\", alice = \"hunter2\" }",
        "users = { \"\" = \"hunter2\" }",
        "[auth.users]\nalice = hunter2",
    ];
    let path = file.to_str().unwrap();
    for text in broken {
        fs::write(&file, format!("[auth]\n{text}\n")).unwrap();
        for arguments in [&["check-config", path][..], &["run", "--config", path]] {
            let (code, output) = turnstone(home.path(), arguments, &[]);
            assert_eq!(code, 2, "{text}: {output}");
            assert!(!output.contains(MARK), "{text}: {output}");
            assert!(!output.contains("panicked"), "{text}: {output}");
        }
    }
    let good = "[auth]\nstatic_auth_secret = [\"hunter2\", \"hunter2hunter2hunter2\"]\n\
                nonce_secret = \"hunter2\"\nusers = { alice = \"hunter2\" }\n";
    fs::write(&file, good).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, output) = turnstone(home.path(), &["check-config", path], &[]);
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("shorter than 16") && output.contains("can read"));
    assert!(!output.contains(MARK), "{output}");

    for (name, value) in [
        ("TURNSERVER_AUTH__USERS", "hunter2"),
        ("TURNSERVER_AUTH__USERS", "{ alice = hunter2 }"),
        ("TURNSERVER_AUTH__STATIC_AUTH_SECRET", "[\"hunter2\""),
        ("TURNSERVER_SERVER__WORKERS", "hunter2"),
        ("TURNSERVER_LISTEN__CLASSIC_STUN", "hunter2"),
    ] {
        let (code, output) = turnstone(home.path(), &["run"], &[(name, value)]);
        assert_eq!(code, 2, "{name}: {output}");
        assert!(!output.contains(MARK), "{name}: {output}");
    }
    for value in ["hunter2", ":hunter2", "alice:0xhunter2"] {
        let (code, output) = turnstone(home.path(), &["run", "--user", value], &[]);
        assert_eq!(code, 2, "{value}: {output}");
        assert!(!output.contains(MARK), "{value}: {output}");
    }
}

/// What is on the command line is in the process list: every option that takes a secret says so.
#[test]
fn help_warns_of_secrets_in_the_process_list() {
    let home = tempfile::tempdir().unwrap();
    for (command, options) in [
        ("run", &["--static-auth-secret", "--user"][..]),
        ("credentials", &["--static-auth-secret"]),
        ("check", &["--static-auth-secret", "--password"]),
    ] {
        let (code, help) = turnstone(home.path(), &[command, "--help"], &[]);
        assert_eq!(code, 0);
        for option in options {
            let (_, rest) = help.split_once(&format!("{option} <")).unwrap();
            let about = rest.split("\n      --").next().unwrap();
            let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                about.contains("in the process list"),
                "{command} {option}: {about}"
            );
        }
    }
}
