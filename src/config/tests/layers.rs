//! What overrides what.

use secrecy::ExposeSecret;

use super::*;

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

/// The keys of the nonces likewise, in both directions; the other pair is not touched.
#[test]
fn a_nonce_secret_on_top_leaves_no_other_valid() {
    let toml = "[auth]\nnonce_secret_file = [\"one\", \"two\"]\nstatic_auth_secret = \"secret\"";
    let mut trial = Trial::new(toml);
    let directory = trial.directory.path().to_owned();
    for name in ["one", "two", "three"] {
        fs::write(directory.join(name), format!("nonce-secret-{name}\n")).unwrap();
    }
    let secrets = |trial: &Trial| {
        let auth = trial.load().config.auth;
        assert_eq!(auth.issuing_secret(), Some("secret"));
        let secrets = auth.nonce_secrets.iter();
        let secrets = secrets.map(|secret| secret.expose_secret().to_owned());
        secrets.collect::<Vec<_>>()
    };
    assert_eq!(secrets(&trial), ["nonce-secret-one", "nonce-secret-two"]);
    trial = trial.env("TURNSERVER_AUTH__NONCE_SECRET", "of-the-environment");
    assert_eq!(secrets(&trial), ["of-the-environment"]);
    let three = directory.join("three").to_str().unwrap().to_owned();
    trial = trial.flag("auth.nonce_secret_file", "--test", &[&three]);
    assert_eq!(secrets(&trial), ["nonce-secret-three"]);
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

/// PROC-06: the secret that systemd hands over is used where nothing else names one; beside users, too.
#[test]
fn a_credential_of_the_unit_is_the_last_resort() {
    let trial = |toml: &str| {
        let trial = Trial::new(toml);
        let directory = trial.directory.path().join("credentials");
        fs::create_dir(&directory).unwrap();
        let file = directory.join("static_auth_secret");
        fs::write(&file, "a-secret-handed-over-by-systemd\n").unwrap();
        fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
        let shown = directory.to_str().unwrap().to_owned();
        trial.env("CREDENTIALS_DIRECTORY", &shown)
    };
    for toml in ["", "[auth]\nusers = { alice = \"password\" }"] {
        let trial = trial(toml);
        let secret = trial.load().config.auth.issuing_secret().map(str::to_owned);
        assert_eq!(secret.as_deref(), Some("a-secret-handed-over-by-systemd"));
        let warnings = trial.warnings();
        let unused = warnings.iter().find(|w| w.contains("credential"));
        assert_eq!(unused, None);
    }
    let mut named = trial("[auth]\nstatic_auth_secret = \"a-secret-named-by-the-file\"");
    fs::set_permissions(
        named.sources.file.as_ref().unwrap(),
        PermissionsExt::from_mode(0o600),
    )
    .unwrap();
    let secrets = |trial: &Trial| trial.load().config.auth.static_auth_secrets.len();
    assert_eq!(secrets(&named), 1);
    let file = named.sources.file.as_ref().unwrap().display().to_string();
    assert_eq!(
        named.warnings(),
        [format!(
            "CREDENTIALS_DIRECTORY: auth.static_auth_secret_file: the unit's credential is not \
             used: {file}:2 names another; remove one of the two"
        )]
    );
    named = named.env(
        "TURNSERVER_AUTH__STATIC_AUTH_SECRET",
        "a-secret-of-the-environment",
    );
    let config = named.load().config;
    assert_eq!(
        config.auth.issuing_secret(),
        Some("a-secret-of-the-environment")
    );
}

/// PROC-06: a credential of another name is likely misspelt.
#[test]
fn a_unit_without_our_credentials_is_told_the_name() {
    let without = |toml: &str| {
        let trial = Trial::new(toml).env("CREDENTIALS_DIRECTORY", "/nonexistent/");
        assert_eq!(trial.load().config.auth.issuing_secret(), None);
        trial.warnings()
    };
    let expected = "CREDENTIALS_DIRECTORY: no credential static_auth_secret in /nonexistent; write \
                    LoadCredential=static_auth_secret:FILE in the unit, or configure a secret";
    assert_eq!(without(""), [expected]);
    let users = without("[auth]\nusers = { alice = \"9f3c07d1b85e42aa\" }");
    assert!(!users.iter().any(|text| text.contains("CREDENTIALS")));
}

/// The places are told, and systemd's own are not worried about.
#[test]
fn secrets_have_places() {
    let toml = "[auth]\nstatic_auth_secret = [\"hunter2-one\",\n\"hunter2-two\"]\n\
                static_auth_secret_file = \"./secret\"";
    let trial = Trial::new(toml);
    let directory = trial.directory.path().display().to_string();
    for name in ["secret", "nonce_secret"] {
        fs::write(trial.directory.path().join(name), "hunter2-file\n").unwrap();
    }
    // Else nobody could come as far as the files.
    fs::set_permissions(trial.directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let open = trial.directory.path().join("nonce_secret");
    fs::set_permissions(open, PermissionsExt::from_mode(0o644)).unwrap();
    let trial = trial.env("CREDENTIALS_DIRECTORY", &directory);
    let loaded = trial.load();
    let places = loaded.secrets.iter();
    let places = places.map(|it| it.to_string().replace(&directory, "DIR"));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [
            "auth.static_auth_secret: value in DIR/turnserver.toml:2",
            "auth.static_auth_secret: value in DIR/turnserver.toml:3",
            "auth.static_auth_secret: file DIR/secret",
            "auth.nonce_secret: credential DIR/nonce_secret",
        ]
    );
    let warnings = trial.warnings();
    let exposed = warnings
        .iter()
        .any(|text| text.contains("can read") && text.contains("nonce"));
    assert!(!exposed, "{warnings:#?}");
    assert!(warnings.iter().any(|text| text.contains("can read")));
}

/// PROC-06: and for the keys of the nonces there is another credential.
#[test]
fn a_credential_serves_for_the_nonces() {
    let trial = |toml: &str| {
        let trial = Trial::new(toml);
        let file = trial.directory.path().join("nonce_secret");
        fs::write(file, "a-key-handed-over-by-systemd\n").unwrap();
        let shown = trial.directory.path().to_str().unwrap().to_owned();
        trial.env("CREDENTIALS_DIRECTORY", &shown)
    };
    let auth = trial("").load().config.auth;
    assert!(auth.is_empty());
    assert_eq!(auth.nonce_secrets.len(), 1);
    let secret = auth.nonce_secrets[0].expose_secret();
    assert_eq!(secret, "a-key-handed-over-by-systemd");
    let named = trial("[auth]\nnonce_secret = \"a-key-named-by-the-file\"");
    let secret = &named.load().config.auth.nonce_secrets[0];
    assert_eq!(secret.expose_secret(), "a-key-named-by-the-file");
    let unused = "CREDENTIALS_DIRECTORY: auth.nonce_secret_file: the unit's credential is not used";
    let warnings = named.warnings();
    let unused = warnings.iter().filter(|text| text.starts_with(unused));
    assert_eq!(unused.count(), 1, "{warnings:#?}");
}

/// PROC-06: a credential that cannot be looked at is not taken for none, which would have the server
/// make a secret of its own. Not even root can follow a loop of links.
#[test]
fn a_credential_that_cannot_be_looked_at_is_refused() {
    let trial = Trial::new("");
    let loop_of_links = trial.directory.path().join("loop");
    std::os::unix::fs::symlink(&loop_of_links, &loop_of_links).unwrap();
    let shown = loop_of_links.to_str().unwrap().to_owned();
    let errors = trial.env("CREDENTIALS_DIRECTORY", &shown).errors();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    for (error, name) in errors.iter().zip(["static_auth_secret", "nonce_secret"]) {
        let start = format!("CREDENTIALS_DIRECTORY: auth.{name}_file: loop/{name} cannot be read");
        let end = "make the file and let the user of this server read it";
        assert!(error.starts_with(&start) && error.ends_with(end), "{error}");
    }
}
