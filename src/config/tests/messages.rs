//! How problems are told, and that no secret is.

use super::*;

#[test]
fn all_errors_are_told_at_once_in_order() {
    let toml = "realm = 5\n\
                [relay]\n\
                ports = \"65535-49152\"\n\
                adresses = [\"203.0.113.10\"]\n\
                [limits]\n\
                max_lifetime_s = 20\n\
                tcp_idle_s = \"60\"\n\
                [peer]\n\
                allow = []\n\
                [listen]\n\
                udp = [\"0.0.0.0:3478\",\n\
                \x20 \"10.0.0.1\"]\n\
                broken = = 3\n";
    let errors = Trial::new(toml)
        .env("TURNSERVER_SERVER__WORKERS", "many")
        .flag("realm", "--realm", &[""])
        .errors();
    let expected = [
        "turnserver.toml:1: realm: must be text, not a number; write one text in quotes",
        "turnserver.toml:3: relay.ports: \"65535-49152\" runs backwards; write the lower port \
         first, e.g. \"49152-65535\"",
        "turnserver.toml:4: relay.adresses: is not a known key; did you mean relay.addresses?",
        "turnserver.toml:6: limits.max_lifetime_s: 20 is out of range; write 600 to 86400",
        "turnserver.toml:7: limits.tcp_idle_s: must be a whole number, not text; write a whole \
         number, without quotes",
        "turnserver.toml:8: peer: is not a known key; did you mean [peers]?",
        "turnserver.toml:12: listen.udp: \"10.0.0.1\" is not an address with a port; add the port: \
         \"10.0.0.1:3478\"",
    ];
    assert_eq!(errors[..expected.len()], expected);
    let [syntax, workers, realm] = &errors[expected.len()..] else {
        panic!("{errors:#?}")
    };
    assert!(
        syntax.starts_with("turnserver.toml:13: is not valid TOML ("),
        "{syntax}"
    );
    assert!(
        workers.starts_with("TURNSERVER_SERVER__WORKERS: server.workers: must be"),
        "{workers}"
    );
    assert_eq!(
        realm,
        "--realm: realm: is empty; write your domain, e.g. \"turn.example.org\""
    );
}

#[test]
fn a_broken_section_line_brings_no_wrong_blame() {
    assert_error_around(
        "[limits\ntcp_idle_s = 60\n",
        "turnserver.toml:1: is not valid TOML",
        "]",
    );
}

#[test]
fn a_broken_line_is_told_once() {
    let start = "turnserver.toml:2: is not valid TOML";
    assert_error_around("[relay]\nports = \"1-2\" x\n", start, "]");
}

#[test]
fn unknown_keys_are_told_with_what_was_meant() {
    let start = "turnserver.toml:1: ";
    for (toml, meant) in [
        ("external = {}", "relay.external"),
        ("static-auth-secret = \"x\"", "auth.static_auth_secret"),
        ("[relay]\nport = \"1-2\"", "relay.ports"),
        ("[LOG]\nlevel = 3", "[log]"),
    ] {
        let errors = Trial::new(toml).errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(
            errors[0].ends_with(&format!("; did you mean {meant}?")),
            "{errors:#?}"
        );
    }
    assert_error_around(
        "cli_password = 1",
        start,
        "see turnserver.toml.example for every key there is",
    );
    assert_error_around(
        "relay = 1",
        start,
        "write [relay] on a line of its own and its keys below",
    );
}

#[test]
fn a_private_relay_address_brings_one_warning_with_the_remedy() {
    let warnings = Trial::new("").on(private_host()).warnings();
    assert_eq!(
        warnings,
        [
            "relay.addresses: clients would be told a private relay address (10.0.0.5), which nobody \
          outside this network can reach; if this machine has a public address by 1:1 NAT, set \
          [relay] external = { \"10.0.0.5\" = \"PUBLIC-ADDRESS\" } or --external-address \
          PUBLIC-ADDRESS; if not, name the public ones only in relay.addresses"
        ]
    );
    let toml = "[relay]\nexternal = { \"10.0.0.5\" = \"203.0.113.1\" }";
    assert_eq!(
        Trial::new(toml).on(private_host()).warnings(),
        Vec::<String>::new()
    );
    let nothing = Host {
        route_sources: vec![],
        ..host()
    };
    assert!(Trial::new("").on(nothing).warnings()[0].contains("127.0.0.1"));
}

#[test]
fn weak_secrecy_brings_warnings() {
    let trial = Trial::new("[auth]\nstatic_auth_secret = \"short\"");
    let file = trial.sources.file.clone().unwrap();
    let mode = |mode| fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o644);
    let warnings = trial.warnings();
    assert!(
        warnings[0].contains("shorter than 16 characters"),
        "{warnings:#?}"
    );
    assert!(
        warnings[1].contains("everybody on this machine can read"),
        "{warnings:#?}"
    );
    mode(0o640);
    assert_eq!(trial.warnings().len(), 1);
}

#[test]
fn secrets_are_in_no_output() {
    let trial = Trial::new(
        "[auth]\nstatic_auth_secret = \"hunter2-static\"\nnonce_secret = \"hunter2-nonce\"\n\
         users = { alice = \"hunter2-password\", bob = \"0xdeadbeefdeadbeefdeadbeefdeadbeef\" }",
    )
    .flag("realm", "--realm", &["hunter2"]);
    assert!(!format!("{:?}", trial.sources).contains("hunter2"));
    let mut loaded = trial.load();
    loaded.config.realm.clear();
    for output in [format!("{loaded:?}"), loaded.config.to_toml()] {
        for secret in ["hunter2", "dead", "222"] {
            assert!(!output.contains(secret), "{output}");
        }
    }
    assert!(
        loaded
            .config
            .to_toml()
            .contains("static_auth_secret = \"(set: 1)\"")
    );
}
