//! What values mean, and which are refused.

use secrecy::ExposeSecret;

use super::*;

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
fn limits_on_strangers_can_be_set_and_switched_off() {
    let limits = |toml: &str| {
        let limits = Trial::new(toml).load().config.limits;
        (
            limits.unauthenticated_replies_per_s,
            limits.failed_authentications_per_minute,
        )
    };
    assert_eq!(limits(""), (200, 10));
    let toml = "[limits]\nunauthenticated_replies_per_s = 0\nfailed_authentications_per_minute = 0";
    assert_eq!(limits(toml), (0, 0));
    let toml = "[limits]\nunauthenticated_replies_per_s = 7\nfailed_authentications_per_minute = 3";
    assert_eq!(limits(toml), (7, 3));
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

/// SEC-11: 0 is no limit of bandwidth, but no number of allocations.
#[test]
fn limits_of_addresses_and_bandwidth() {
    let toml = "[limits]\nallocations_per_address = 1\nallocation_kbit_per_s = 0\n\
                user_kbit_per_s = 100_000_000\n";
    let limits = Trial::new(toml).load().config.limits;
    assert_eq!(limits.allocations_per_address, 1);
    assert_eq!(limits.allocation_kbit_per_s, 0);
    assert_eq!(limits.user_kbit_per_s, 100_000_000);
    for (key, value, remedy) in [
        ("allocations_per_address", 0, "write 1 to 1000000"),
        ("allocation_kbit_per_s", 100_000_001, "write 0 to 100000000"),
        ("user_kbit_per_s", 100_000_001, "write 0 to 100000000"),
    ] {
        let toml = format!("[limits]\n{key} = {value}\n");
        let start = format!("turnserver.toml:2: limits.{key}: {value} is out of range");
        assert_error_around(&toml, &start, remedy);
    }
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
        (
            "nonce_secret_file = \"/dev/zero\"",
            "auth.nonce_secret_file: /dev/zero cannot be read (it is not a regular file)",
            "name a regular file with one line, the secret",
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

/// A pipe or a device as configuration could keep the server waiting for ever.
#[test]
fn the_configuration_is_a_regular_file() {
    let mut trial = Trial::new("");
    trial.sources.file = Some("/dev/zero".into());
    assert_eq!(
        trial.errors(),
        [
            "/dev/zero: cannot be read (it is not a regular file); name a regular file of at most 1 MiB"
        ]
    );
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

/// SEC-12
#[test]
fn limits_of_tcp_have_edges() {
    for (key, least, wrong) in [
        ("tcp_connections_per_address", "1", "0"),
        ("tcp_half_open", "1", "0"),
        ("tcp_queues_total_bytes", "1048576", "1048575"),
    ] {
        Trial::new(&format!("[limits]\n{key} = {least}")).load();
        let toml = format!("[limits]\n{key} = {wrong}");
        let start = format!("turnserver.toml:2: limits.{key}: {wrong} is out of range; ");
        assert_error_around(&toml, &start, "");
    }
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

#[test]
fn metrics_are_for_this_machine_unless_told() {
    let by_default = Trial::new("").load().config.metrics;
    assert!(by_default.is_default);
    assert_eq!(by_default.listen, Some("127.0.0.1:9641".parse().unwrap()));
    let metrics = |listen: &str| {
        let trial = Trial::new(&format!("metrics.listen = \"{listen}\""));
        (trial.load().config.metrics, trial.warnings())
    };
    for listen in ["127.0.0.1:9641", "[::1]:0"] {
        let (configured, warnings) = metrics(listen);
        assert!(
            !configured.is_default && warnings.is_empty(),
            "{warnings:?}"
        );
        assert_eq!(configured.listen, Some(listen.parse().unwrap()));
    }
    assert_eq!(metrics("").0.listen, None);
    let (_, warnings) = metrics("0.0.0.0:9641");
    let expected = "metrics.listen: 0.0.0.0:9641 can be read by others, without a password; let only \
        your monitoring reach the port, by the firewall";
    assert!(
        warnings.len() == 1 && warnings[0].ends_with(expected),
        "{warnings:?}"
    );
    assert_error(
        "metrics.listen = \"9641\"",
        "turnserver.toml:1: metrics.listen: \"9641\" is not an address with a port; write an address \
         like \"127.0.0.1:9641\", or \"\" for none",
    );
    let nowhere = Host {
        bindable: |_| false,
        ..host()
    };
    let foreign = Trial::new("metrics.listen = \"198.51.100.7:9641\"").on(nowhere);
    let expected = "turnserver.toml:1: metrics.listen: 198.51.100.7:9641 is not an address of this \
        machine; write an address that \"ip addr\" shows, or 127.0.0.1";
    assert_eq!(foreign.errors(), [expected]);
}
