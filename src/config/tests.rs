//! The configuration as a whole: messages, layers, secrecy, and the example file.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

const EXAMPLE: &str = include_str!("../../turnserver.toml.example");

/// A machine with a public address of each family.
fn host() -> Host {
    Host {
        route_sources: vec![address("203.0.113.10"), address("2001:db8::10")],
        interface_addresses: vec![],
        ipv6: true,
        cpus: 4,
        bindable: |_| true,
    }
}

fn private_host() -> Host {
    Host {
        route_sources: vec![address("10.0.0.5")],
        ..host()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Trial {
    directory: TempDir,
    sources: Sources,
    host: Host,
}

impl Trial {
    fn new(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("turnserver.toml");
        fs::write(&file, toml).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Self {
            directory,
            sources,
            host: host(),
        }
    }

    fn on(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, key: &'static str, name: &'static str, values: &[&str]) -> Self {
        let values = values.iter().map(ToString::to_string).collect();
        self.sources.flags.push(Flag {
            key,
            name,
            values,
            separator: '=',
        });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources, &self.host).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The messages, with the directory of the test cut off.
    fn errors(&self) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        let problems = load(&self.sources, &self.host).expect_err("must be refused");
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&directory, ""))
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.load()
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[track_caller]
fn assert_error(toml: &str, expected: &str) {
    assert_eq!(Trial::new(toml).errors(), [expected]);
}

/// Asserts that the only error starts and ends like this.
#[track_caller]
fn assert_error_around(toml: &str, start: &str, end: &str) {
    let errors = Trial::new(toml).errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with(start) && errors[0].ends_with(end),
        "{}",
        errors[0]
    );
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = Trial::new("").load().config;
    assert_eq!(config.realm, "turnstone");
    assert_eq!(
        config.relay.addresses,
        [address("203.0.113.10"), address("2001:db8::10")]
    );
    assert_eq!(config.relay.ports, 49152..=65535);
    assert_eq!(config.listen.udp.len(), 2);
    assert_eq!(config.server.workers, 4);
    assert!(config.auth.is_empty());
    assert_eq!(Trial::new("").warnings(), Vec::<String>::new());
}

#[test]
fn a_full_file_is_understood() {
    let toml = r#"
        realm = "turn.example.org"
        [listen]
        udp = ["203.0.113.10:3478"]
        tcp = []
        [relay]
        ports = "50000-50100"
        addresses = ["10.0.0.5"]
        external = { "10.0.0.5" = "203.0.113.10" }
        [auth]
        static_auth_secret = "a-secret-that-is-long-enough"
        [auth.users]
        alice = "password"
        bob = "0x000102030405060708090a0b0c0d0e0F"
        [peers]
        allow = ["10.0.0.0/8", "fd00::1"]
        [log]
        level = "debug"
        format = "json"
    "#;
    let config = Trial::new(toml).load().config;
    assert_eq!(config.realm, "turn.example.org");
    assert_eq!(
        config.relay.external,
        [(address("10.0.0.5"), address("203.0.113.10"))]
    );
    assert_eq!(config.relay.ports, 50000..=50100);
    assert_eq!(
        config.auth.issuing_secret(),
        Some("a-secret-that-is-long-enough")
    );
    assert_eq!(config.peers.allow[1].to_string(), "fd00::1/128");
    assert_eq!(
        config.log,
        Log {
            level: LogLevel::Debug,
            format: LogFormat::Json
        }
    );
    assert!(config.listen.tcp.is_empty());
    let [
        (_, Credential::Plain(password)),
        (_, Credential::Md5Key(key)),
    ] = &config.auth.users[..]
    else {
        panic!("{:?}", config.auth.users)
    };
    assert_eq!(password.expose_secret(), "password");
    assert_eq!(*key.expose(), std::array::from_fn(|index| index as u8));
}

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
fn addresses_are_checked() {
    let f = "turnserver.toml:2: ";
    for (toml, start, end) in [
        (
            "[relay]\naddresses = [\"0.0.0.0\"]",
            "relay.addresses: 0.0.0.0 means any",
            "concrete one",
        ),
        (
            "[relay]\naddresses = [\"224.0.0.1\"]",
            "relay.addresses: 224.0.0.1 is not a unicast",
            "machine",
        ),
        (
            "[relay]\naddresses = [\"fe80::1\"]",
            "relay.addresses: fe80::1 is link-local",
            "address",
        ),
        (
            "[relay]\naddresses = [\"::ffff:1.2.3.4\"]",
            "relay.addresses: ",
            "without ::ffff:",
        ),
        (
            "[relay]\naddresses = [\"1.2.3.4:5\"]",
            "relay.addresses: ",
            "without the port: \"1.2.3.4\"",
        ),
        (
            "[relay]\naddresses = []",
            "relay.addresses: is empty",
            "are then used",
        ),
        (
            "[relay]\naddresses = [\"::1\", \"0::1\"]",
            "relay.addresses: ::1 is listed twice",
            "two",
        ),
        (
            "[relay]\nports = \"80-2000\"",
            "relay.ports: ",
            "e.g. \"49152-65535\"",
        ),
        (
            "[relay]\nports = \"all\"",
            "relay.ports: ",
            "e.g. \"49152-65535\"",
        ),
        (
            "[listen]\nudp = [\"[::]:1\", \"[::]:1\"]",
            "listen.udp: [::]:1 is listed twice",
            "two",
        ),
        (
            "[listen]\nudp = \"3478\"",
            "listen.udp: ",
            "\"0.0.0.0:3478\" and \"[::]:3478\"",
        ),
        (
            "[listen]\nudp = []\ntcp = []",
            "listen.udp: there is nothing to listen on",
            "address",
        ),
    ] {
        assert_error_around(toml, &format!("{f}{start}"), end);
    }
}

#[test]
fn addresses_of_other_machines_are_refused() {
    let host = Host {
        bindable: |address| address.is_loopback(),
        ..host()
    };
    let toml = "[relay]\naddresses = [\"198.51.100.7\"]\n[listen]\nudp = [\"198.51.100.7:3478\"]\n";
    let errors = Trial::new(toml).on(host).errors();
    let what = "198.51.100.7 is not an address of this machine; write an address that \"ip addr\" \
                shows; if this one is the public side of 1:1 NAT, write [relay] external = { \
                \"RELAY-ADDRESS\" = \"THIS-ADDRESS\" } instead";
    assert_eq!(
        errors,
        [
            format!("turnserver.toml:2: relay.addresses: {what}"),
            format!("turnserver.toml:4: listen.udp: {what}"),
        ]
    );
}

#[test]
fn without_ipv6_only_ipv4_is_listened_on() {
    let host = Host {
        ipv6: false,
        ..host()
    };
    let config = Trial::new("").on(host.clone()).load().config;
    assert_eq!(config.listen.udp, ["0.0.0.0:3478".parse().unwrap()]);
    let errors = Trial::new("[listen]\nudp = [\"[::]:3478\"]")
        .on(host)
        .errors();
    assert!(errors[0].contains("IPv6 is switched off"), "{errors:#?}");
}

#[test]
fn external_addresses_are_checked() {
    for (external, start, end) in [
        (
            "{ \"10.0.0.5\" = \"2001:db8::1\" }",
            "10.0.0.5 and 2001:db8::1 are of different",
            "IPv6",
        ),
        (
            "{ \"10.0.0.9\" = \"203.0.113.1\" }",
            "10.0.0.9 is not one of the relay",
            "the key",
        ),
        (
            "{ \"10.0.0.5\" = \"turn.example.org\" }",
            "\"turn.example.org\" is not an IP",
            "looked up",
        ),
    ] {
        let toml = format!("[relay]\naddresses = [\"10.0.0.5\"]\nexternal = {external}");
        assert_error_around(
            &toml,
            &format!("turnserver.toml:3: relay.external: {start}"),
            end,
        );
    }
    let toml = "[relay]\naddresses = [\"10.0.0.5\", \"10.0.0.6\"]\n[relay.external]\n\
                \"10.0.0.5\" = \"203.0.113.1\"\n\"10.0.0.6\" = \"203.0.113.1\"";
    assert_error_around(
        toml,
        "turnserver.toml:5: relay.external: 203.0.113.1 is already the external address of 10.0.0.5;",
        "of its own",
    );
}

#[test]
fn an_external_address_alone_belongs_to_the_only_relay_address_of_its_family() {
    let trial = Trial::new("").on(private_host());
    let config = trial
        .flag("relay.external", "--external-address", &["203.0.113.1"])
        .load()
        .config;
    assert_eq!(
        config.relay.external,
        [(address("10.0.0.5"), address("203.0.113.1"))]
    );
    assert_eq!(
        config.relay.advertised(address("10.0.0.5")),
        address("203.0.113.1")
    );

    let toml = "[relay]\naddresses = [\"10.0.0.5\", \"10.0.0.6\"]";
    let errors = Trial::new(toml)
        .flag("relay.external", "--external-address", &["203.0.113.1"])
        .errors();
    assert_eq!(
        errors,
        [
            "--external-address: relay.external: 203.0.113.1 does not say which relay address it \
          stands for; write RELAY-ADDRESS=203.0.113.1; relay addresses: 10.0.0.5, 10.0.0.6"
        ]
    );
}

#[test]
fn users_and_secrets_are_checked_without_quoting_them() {
    for (auth, start, end) in [
        (
            "users = { alice = \"0x12secret\" }",
            "auth.users: the password of user \"alice\"",
            "0x",
        ),
        (
            "users = { alice = \"\" }",
            "auth.users: user \"alice\" has an empty",
            "the user",
        ),
        (
            "users = { \"\" = \"hunter2-secret\" }",
            "auth.users: a user has no name",
            "--user",
        ),
        (
            "static_auth_secret = [\" \"]",
            "auth.static_auth_secret: holds an empty",
            "base64 32",
        ),
        (
            "static_auth_secret_file = \"none\"",
            "auth.static_auth_secret_file: ",
            "read it",
        ),
        ("rest_separator = \"7\"", "auth.rest_separator: ", "\":\""),
        (
            "nonce_lifetime_s = 7200",
            "auth.nonce_lifetime_s: 7200 is out of range",
            "3600",
        ),
    ] {
        let toml = format!("[auth]\n{auth}");
        assert_error_around(&toml, &format!("turnserver.toml:2: {start}"), end);
        assert!(
            !Trial::new(&toml).errors()[0].contains("secret\""),
            "{auth}"
        );
    }
    let broken = "[auth]\nstatic_auth_secret = \"hunter2\\q\"\nusers = { alice = hunter2 }\n";
    for error in Trial::new(broken).errors() {
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn networks_are_checked() {
    assert_error(
        "[peers]\nallow = [\"10.1.2.3/8\"]",
        "turnserver.toml:2: peers.allow: \"10.1.2.3/8\" has bits set after the first 8; write \
         \"10.0.0.0/8\", or \"10.1.2.3\" for the one address",
    );
    for loopback in ["127.0.0.0/8", "127.0.0.1", "::1"] {
        let toml = format!("[peers]\nallow = [\"{loopback}\"]");
        let start = "turnserver.toml:2: peers.allow: ";
        assert_error_around(&toml, start, "set peers.allow_loopback = true");
    }
    for never in ["169.254.169.254", "224.0.0.0/8", "0.0.0.0/8", "fe80::/10"] {
        assert_eq!(
            Trial::new(&format!("[peers]\nallow = [\"{never}\"]"))
                .errors()
                .len(),
            1
        );
    }
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let trial = Trial::new("realm = \"file\"\n[peers]\nallow = [\"10.0.0.0/8\"]\n")
        .env("TURNSERVER_REALM", "environment")
        .env("TURNSERVER_PEERS__ALLOW", "192.168.0.0/16, fd00::/8")
        .env("TURNSERVER_PEERS__ALLOW_LOOPBACK", "true")
        .env("TURNSERVER_LISTEN__UDP", "[::1]:3478")
        .env("TURNSERVER_AUTH__USERS", "{ alice = \"with,comma\" }")
        .env("TURNSERVER_LIMITS__TCP_IDLE_S", "77")
        .env("TURNSERVER_LOG__LEVEL", "");
    let config = trial.load().config;
    assert_eq!(config.realm, "environment");
    assert_eq!(config.peers.allow.len(), 2);
    assert!(config.peers.allow_loopback);
    assert_eq!(config.listen.udp, ["[::1]:3478".parse().unwrap()]);
    assert_eq!(config.auth.users.len(), 1);
    assert_eq!(config.limits.tcp_idle_s, 77);
    assert_eq!(
        trial
            .flag("realm", "--realm", &["flag"])
            .load()
            .config
            .realm,
        "flag"
    );
}

#[test]
fn a_secret_on_top_leaves_no_other_valid() {
    let trial = Trial::new("[auth]\nstatic_auth_secret_file = \"file-secret\"");
    fs::write(
        trial.directory.path().join("file-secret"),
        "from-the-secret-file\n",
    )
    .unwrap();
    assert_eq!(
        trial.load().config.auth.issuing_secret(),
        Some("from-the-secret-file")
    );
    let config = trial
        .env("TURNSERVER_AUTH__STATIC_AUTH_SECRET", "one-secret,two")
        .load()
        .config;
    assert_eq!(config.auth.issuing_secret(), Some("one-secret"));
    assert_eq!(config.auth.static_auth_secrets.len(), 2);
}

#[test]
fn misspelt_variables_are_errors_and_foreign_ones_are_not() {
    let errors = Trial::new("")
        .env("TURNSERVER_AUTH_STATIC_AUTH_SECRET", "x")
        .env("TURNSERVER_REALMS", "x")
        .env("TURNSERVER_PORT", "tcp://10.0.0.1:3478")
        .env("TURNSERVER_SERVICE_PORT_TURN_UDP", "3478")
        .env("TURNSERVER_CONFIG", "x")
        .env("TURNSERVER_LIMITS__BANDWIDTH", "1")
        .errors();
    assert_eq!(
        errors,
        [
            "TURNSERVER_AUTH_STATIC_AUTH_SECRET: is no configuration key; did you mean \
             TURNSERVER_AUTH__STATIC_AUTH_SECRET?",
            "TURNSERVER_LIMITS__BANDWIDTH: is no configuration key; unset it: names are \
             TURNSERVER_SECTION__KEY",
            "TURNSERVER_REALMS: is no configuration key; did you mean TURNSERVER_REALM?",
        ]
    );
}

#[test]
fn a_mistake_in_listen_flags_is_told_once() {
    let trial = Trial::new("")
        .flag("listen.udp", "--listen", &["nowhere"])
        .flag("listen.tcp", "--listen", &["nowhere"]);
    assert_eq!(trial.errors().len(), 1);
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

#[test]
fn uris_name_the_address_that_the_outside_knows() {
    let uris = |toml: &str| Trial::new(toml).load().config.uris();
    assert_eq!(
        uris(""),
        [
            "turn:203.0.113.10:3478?transport=udp",
            "turn:203.0.113.10:3478?transport=tcp"
        ]
    );
    let toml = "[listen]\nudp = \"[::]:5000\"\ntcp = []";
    assert_eq!(uris(toml), ["turn:[2001:db8::10]:5000?transport=udp"]);
    let toml = "[listen]\nudp = \"10.0.0.5:3478\"\ntcp = []\n[relay]\naddresses = \"10.0.0.5\"\n\
                external = { \"10.0.0.5\" = \"198.51.100.1\" }";
    assert_eq!(uris(toml), ["turn:198.51.100.1:3478?transport=udp"]);
}

/// The example with its default lines (`#key = value`) or its example lines uncommented.
fn uncommented(prefix: &str) -> String {
    let is_key =
        |rest: &str| rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest.contains(" = ");
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix(prefix) {
            Some(rest) if is_key(rest) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_shows_the_defaults() {
    let defaults = Trial::new("").load().config.to_toml();
    assert_eq!(Trial::new(EXAMPLE).load().config.to_toml(), defaults);
    assert_eq!(
        Trial::new(&uncommented("#")).load().config.to_toml(),
        defaults
    );
}

#[test]
fn the_examples_of_the_example_are_accepted() {
    let trial = Trial::new(&uncommented("# e.g. "));
    fs::write(trial.directory.path().join("secret"), "secret").unwrap();
    assert_eq!(trial.load().config.auth.static_auth_secrets.len(), 3);
}

#[test]
fn the_example_and_check_config_have_every_key() {
    let example: toml::Table =
        toml::from_str(&uncommented("#").replace("\n# e.g. ", "\n")).unwrap();
    let shown: toml::Table = toml::from_str(&Trial::new("").load().config.to_toml()).unwrap();
    for key in schema::KEYS {
        let has = |table: &toml::Table| match key.path.split_once('.') {
            Some((section, name)) => table.get(section).is_some_and(|s| s.get(name).is_some()),
            None => table.contains_key(key.path),
        };
        assert!(
            has(&example),
            "{} is missing from turnserver.toml.example",
            key.path
        );
        // The secrets of files are shown with the others.
        let merged = key.path == "auth.static_auth_secret_file";
        assert!(
            merged || has(&shown),
            "{} is missing from check-config",
            key.path
        );
    }
}
