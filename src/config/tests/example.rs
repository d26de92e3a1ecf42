//! turnserver.toml.example documents every key, and truly.

use super::*;
use crate::tls::testing::Authority;

const EXAMPLE: &str = include_str!("../../../turnserver.toml.example");

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
    for file in ["secret", "nonce-secret"] {
        fs::write(trial.directory.path().join(file), "secret").unwrap();
    }
    fs::write(
        trial.directory.path().join("app-key"),
        "key-of-the-app-for-tests",
    )
    .unwrap();
    // The further certificate needs a first one.
    let missing = trial.errors();
    let lines = [
        "listen.tls: there is no",
        "tls.additional: is beside no",
        "other.crt cannot be",
    ];
    assert_eq!(missing.len(), lines.len(), "{missing:#?}");
    for line in lines {
        assert!(missing.iter().any(|it| it.contains(line)), "{missing:#?}");
    }
    let authority = Authority::new();
    for name in ["first", "other"] {
        let [cert, key] =
            ["crt", "key"].map(|kind| trial.directory.path().join(format!("{name}.{kind}")));
        authority.issue(&[name]).write(&Files { cert, key });
    }
    let first = |kind: &str| trial.directory.path().join(format!("first.{kind}"));
    let [cert, key] = ["crt", "key"].map(|kind| first(kind).display().to_string());
    let trial = trial
        .flag("tls.cert", "--cert", &[&cert])
        .flag("tls.key", "--key", &[&key]);
    let config = trial.load().config;
    assert_eq!((config.tls.pairs.len(), config.listen.tls.len()), (2, 2));
    let auth = config.auth;
    assert_eq!(auth.static_auth_secrets.len(), 3);
    assert_eq!(auth.nonce_secrets.len(), 2);
}

#[test]
fn the_example_and_check_config_have_every_key() {
    let example: toml::Table =
        toml::from_str(&uncommented("#").replace("\n# e.g. ", "\n")).unwrap();
    let shown: toml::Table = toml::from_str(&Trial::new("").load().config.to_toml()).unwrap();
    for key in schema::KEYS {
        let has = |table: &toml::Table| {
            let table = toml::Value::Table(table.clone());
            let mut names = key.path.split('.');
            names
                .try_fold(table, |at, name| at.get(name).cloned())
                .is_some()
        };
        assert!(
            has(&example),
            "{} is missing from turnserver.toml.example",
            key.path
        );
        // The secrets of files are shown with the others.
        let merged = key.path.ends_with("secret_file") || key.path == "admin.token_file";
        assert!(
            merged || has(&shown),
            "{} is missing from check-config",
            key.path
        );
    }
}
