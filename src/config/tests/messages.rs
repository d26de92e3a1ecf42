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
        workers.starts_with("TURNSERVER_SERVER__WORKERS: server.workers: is not a whole"),
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
}

/// PROC-07
#[test]
fn weak_secrecy_brings_warnings() {
    let trial = Trial::new("[auth]\nstatic_auth_secret = \"short\"");
    let file = trial.sources.file.clone().unwrap();
    let mode = |mode| fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
    // Else nobody could come as far as the file.
    fs::set_permissions(trial.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
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
    let users = "{ alice = \"hunter2\", bob = \"0x00112233445566778899aabbccddeeff\", \
                 carol = \"9f3c07d1b85e42aa\" }";
    let warnings = trial.env("TURNSERVER_AUTH__USERS", users).warnings();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
    assert_eq!(
        warnings[1],
        "TURNSERVER_AUTH__USERS: auth.users: the password of user \"alice\" is shorter than 16 \
         characters; use a long random one, e.g. from: openssl rand -base64 18"
    );
}

/// What is started again for ever is what can come right without anybody.
#[test]
fn an_address_may_come_later() {
    let no_address = Host {
        bindable: |_| false,
        ..host()
    };
    let may_pass = |toml: &str| {
        let trial = Trial::new(toml).on(no_address.clone());
        load(&trial.sources, &trial.host).unwrap_err().may_pass()
    };
    assert!(may_pass("relay.addresses = [\"198.51.100.7\"]"));
    assert!(may_pass("listen.udp = [\"198.51.100.7:3478\"]"));
    assert!(!may_pass("realm = 1"));
    assert!(!may_pass("realm = 1\nrelay.addresses = [\"198.51.100.7\"]"));
    let external = |toml: &str| {
        let trial = Trial::new(toml).on(Host {
            route_sources: vec![address("10.0.0.5")],
            ..host()
        });
        let trial = trial.flag("relay.external", "--external-address", &["2001:db8::1"]);
        load(&trial.sources, &trial.host).unwrap_err().may_pass()
    };
    assert!(external(""));
    assert!(!external("relay.addresses = [\"10.0.0.5\"]"));
}

#[test]
fn secrets_are_in_no_output() {
    let trial = Trial::new(
        "[auth]\nstatic_auth_secret = \"hunter2-static\"\nnonce_secret = \"hunter2-nonce\"\n\
         users = { alice = \"hunter2-password\", bob = \"0xdeadbeefdeadbeefdeadbeefdeadbeef\" }",
    )
    .flag("realm", "--realm", &["hunter2"])
    .env("TURNSERVER_SERVER__SOFTWARE", "hunter2");
    assert!(!format!("{:?}", trial.sources).contains("hunter2"));
    let mut loaded = trial.load();
    loaded.config.realm.clear();
    loaded.config.server.software.clear();
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

/// What is written wrong by hand, and what is said about it.
#[test]
fn what_is_typed_on_the_command_line_is_explained() {
    let user = |value: &str| {
        let mut trial = Trial::new("");
        trial.sources.flags.push(Flag {
            key: "auth.users",
            name: "--user",
            values: vec![Zeroizing::new(value.to_owned())],
            separator: ':',
        });
        trial.errors().join("\n")
    };
    assert!(
        user("hunter2").starts_with("--user: auth.users: a user has no password; write a name")
    );
    assert!(user(":hunter2").starts_with("--user: auth.users: a user has no name; write a name"));
    assert!(!user("hunter2").contains("hunter2"));

    let errors = |key, name, value| Trial::new("").flag(key, name, &[value]).errors();
    assert_eq!(
        errors("relay.external", "--external-address", "here=there"),
        ["\"here\"", "\"there\""].map(|text| format!(
            "--external-address: relay.external: {text} is not an IP address; write an IP address \
             such as \"203.0.113.10\"; names are not looked up"
        ))
    );
    assert_eq!(
        errors("listen.udp", "--listen", "::1:3478"),
        [
            "--listen: listen.udp: \"::1:3478\" is not an address with a port; write the IPv6 \
             address in brackets: \"[::1]:3478\"; or add the port: \"[::1:3478]:3478\""
        ]
    );
    assert_eq!(
        errors("listen.udp", "--listen", "2001:db8:0:0:0:0:0:1:3478"),
        [
            "--listen: listen.udp: \"2001:db8:0:0:0:0:0:1:3478\" is not an address with a port; \
             write the IPv6 address in brackets: \"[2001:db8::1]:3478\""
        ]
    );
}

#[test]
fn what_is_set_by_variables_is_explained() {
    for (name, value, message) in [
        (
            "TURNSERVER_LIMITS__TCP_IDLE_S",
            "60s",
            "limits.tcp_idle_s: is not a whole number; write digits only, without a unit",
        ),
        (
            "TURNSERVER_LISTEN__CLASSIC_STUN",
            "yes",
            "listen.classic_stun: is neither true nor false; write true or false",
        ),
    ] {
        let errors = Trial::new("").env(name, value).errors();
        assert_eq!(errors, [format!("{name}: {message}")]);
    }
}

#[test]
fn a_wrong_type_in_a_list_or_table_hides_no_other_error() {
    let toml = "[auth]\nusers = { alice = 5, bob = \"\", carol = \"password\" }\n\
                [peers]\nallow = [5, \"10.0.0.0/33\"]\n[relay]\naddresses = [true]\n";
    let errors = Trial::new(toml).errors();
    for (error, start) in errors.iter().zip([
        "turnserver.toml:2: auth.users: holds a number for \"alice\" where text",
        "turnserver.toml:2: auth.users: user \"bob\" has an empty password",
        "turnserver.toml:4: peers.allow: holds a number where text",
        "turnserver.toml:4: peers.allow: \"10.0.0.0/33\" is not a network",
        "turnserver.toml:6: relay.addresses: holds true or false where text",
    ]) {
        assert!(error.starts_with(start), "{error}");
    }
    assert_eq!(errors.len(), 5, "{errors:#?}");
}

#[test]
fn a_machine_with_loopback_only_is_told_that_nobody_can_reach_it() {
    let nothing = Host {
        route_sources: vec![],
        ..host()
    };
    assert_eq!(
        Trial::new("").on(nothing).warnings(),
        [
            "relay.addresses: this machine has no address but loopback: relaying from 127.0.0.1, \
             which nobody else can reach; connect the machine to a network, or name an address of \
             one; for tests on one machine set peers.allow_loopback = true"
        ]
    );
}

#[test]
fn an_unknown_user_is_refused() {
    assert_error_around(
        "[server]\nuser = \"nobody-of-this-name\"",
        "turnserver.toml:2: server.user: there is no user \"nobody-of-this-name\" on this machine;",
        "turnstone or nobody is used then",
    );
    let user = |toml: &str| Trial::new(toml).load().config.server.user;
    assert_eq!(user("[server]\nuser = \"relay\"").as_deref(), Some("relay"));
    assert_eq!(user(""), None);
}

#[test]
fn a_configuration_that_others_can_write_brings_a_warning() {
    let trial = Trial::new("");
    let file = trial.sources.file.clone().unwrap();
    fs::write(&file, "realm = \"example.org\"").unwrap();
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(&file, 0o646);
    let shown = file.display();
    assert_eq!(
        trial.warnings(),
        [format!(
            "{shown}: everybody on this machine can change {shown}; chmod o-w {shown}"
        )]
    );
    mode(&file, 0o644);
    assert_eq!(trial.warnings(), Vec::<String>::new());
    mode(trial.directory.path(), 0o777);
    let warnings = trial.warnings();
    assert!(warnings[0].contains("can replace"), "{warnings:#?}");
}
