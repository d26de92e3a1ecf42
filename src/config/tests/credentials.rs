//! `[credentials]`: who may ask for credentials.

use secrecy::ExposeSecret;

use super::*;

const SECRET: &str = "[auth]\nstatic_auth_secret = \"a-secret-that-is-long-enough-for-all\"\n";

/// Asserts the only error of a configuration with one key, whose lines begin at the fifth.
#[track_caller]
fn assert_key_error(key: &str, expected: &str) {
    let text = format!("{SECRET}[credentials]\n[[credentials.keys]]\n{key}");
    assert_error(&text, &format!("turnserver.toml:{expected}"));
}

const GOOD: &str = "id = \"a\"\nkey = \"a-key-of-good-length\"\n";

#[test]
fn the_service_is_off_without_keys() {
    let service = Trial::new("[credentials]\nlisten = \"127.0.0.1:1\"\n").load();
    assert_eq!(service.config.credentials.listen, None);
    let service = Trial::new(&format!("[[credentials.keys]]\n{GOOD}")).load();
    let service = service.config.credentials;
    assert_eq!(service.listen, Some("127.0.0.1:8478".parse().unwrap()));
    assert_eq!(service.keys[0].max_ttl_s, 86_400);
    assert!(service.keys[0].origins.is_empty());
    let text = format!("[credentials]\nlisten = \"\"\n[[credentials.keys]]\n{GOOD}");
    assert_eq!(Trial::new(&text).load().config.credentials.listen, None);
}

#[test]
fn keys_are_read_from_tables_files_and_variables() {
    let text = format!(
        "{SECRET}[credentials]\nuris = [\"turn:t.example:3478\"]\n\
         [[credentials.keys]]\n{GOOD}max_ttl_s = 31536000\norigins = \"https://a.example\"\n\
         [[credentials.keys]]\nid = \"b\"\nkey_file = \"key\"\n"
    );
    let trial = Trial::new(&text);
    fs::write(
        trial.directory.path().join("key"),
        "a-key-in-a-file-of-its-own\n",
    )
    .unwrap();
    let config = trial.load().config;
    let service = &config.credentials;
    assert_eq!(service.uris, ["turn:t.example:3478"]);
    let [a, b] = &service.keys[..] else {
        panic!("{service:?}");
    };
    assert_eq!(
        (&*a.id, a.key.expose_secret()),
        ("a", "a-key-of-good-length")
    );
    assert_eq!(
        (a.max_ttl_s, &a.origins[..]),
        (31_536_000, &["https://a.example".to_owned()][..])
    );
    assert_eq!(b.key.expose_secret(), "a-key-in-a-file-of-its-own");
    assert!(
        config.to_toml().contains("keys = \"(set: 2)\""),
        "{}",
        config.to_toml()
    );
    assert!(!format!("{config:?}").contains("good-length"));

    let name = "TURNSERVER_CREDENTIALS__KEYS";
    let trial = trial.env(name, "[{ id = \"c\", key = \"a-key-in-a-variable\" }]");
    let keys = trial.load().config.credentials.keys;
    assert_eq!((keys.len(), &*keys[0].id), (1, "c"));
    let errors = Trial::new("").env(name, "a=b").errors();
    assert!(
        errors[0].starts_with("TURNSERVER_CREDENTIALS__KEYS: credentials.keys: "),
        "{errors:?}"
    );
}

#[test]
fn what_is_wrong_with_a_key_is_told_with_its_line() {
    let id = "write a name for logs and paths: letters, digits, '.', '_' and '-'";
    assert_key_error(
        "key = \"a-key-of-good-length\"",
        &format!("4: credentials.keys.id: is missing; {id}"),
    );
    assert_key_error(
        "id = \"a/b\"\nkey = \"a-key-of-good-length\"",
        &format!(
            "5: credentials.keys.id: is empty, longer than 64 characters, or has others than \
             letters, digits, '.', '_' and '-'; {id}"
        ),
    );
    assert_key_error(
        "id = \"a\"",
        "4: credentials.keys.key: is missing; set key_file to a file with one, e.g. from: openssl \
         rand -hex 32",
    );
    assert_key_error(
        "id = \"a\"\nkey = \"short\"",
        "6: credentials.keys.key: is shorter than 16 characters; write a long random \
         text, e.g. from: openssl rand -hex 32",
    );
    assert_key_error(
        &format!("{GOOD}key_file = \"key\""),
        "7: credentials.keys.key_file: is set beside credentials.keys.key; remove one of the two",
    );
    for number in [0, 31_536_001] {
        assert_key_error(
            &format!("{GOOD}max_ttl_s = {number}"),
            &format!(
                "7: credentials.keys.max_ttl_s: {number} is out of range; write 1 to 31536000"
            ),
        );
    }
    assert_key_error(
        &format!("{GOOD}origins = [\"*\"]"),
        "7: credentials.keys.origins: would let every web page ask with this key; write an origin \
         as browsers do: \"https://app.example\", without a path, in lower case",
    );
    assert_key_error(
        &format!("{GOOD}[[credentials.keys]]\nid = \"b\"\nkey = \"a-key-of-good-length\""),
        "7: credentials.keys: has the id or the key of another one, \"a\"; give each its own",
    );
    assert_key_error(
        &format!("{GOOD}ttl = 5"),
        "7: credentials.keys.ttl: is not a known key; write one of id, key, key_file, max_ttl_s, \
         origins",
    );
    assert_error(
        "credentials.keys = [\"a\"]",
        "turnserver.toml:1: credentials.keys: must be a list of tables, not text; write a list of \
         tables, e.g. [{ id = \"one\" }, { id = \"two\" }]",
    );
}

#[test]
fn what_is_wrong_with_the_service_is_told() {
    assert_error(
        &format!("[auth]\nusers = {{ a = \"password-of-a\" }}\n[[credentials.keys]]\n{GOOD}"),
        "turnserver.toml:3: credentials.keys: needs a secret: time-limited credentials are made \
         from one; set auth.static_auth_secret",
    );
    assert_error(
        "[credentials]\nlisten = \"8478\"",
        "turnserver.toml:2: credentials.listen: \"8478\" is not an address with a port; write an \
         address like \"127.0.0.1:8478\", or \"\" for none",
    );
    for uri in ["turn.example", "http://turn.example", "turn:", "turn:a b"] {
        assert_error(
            &format!("[credentials]\nuris = \"{uri}\""),
            &format!(
                "turnserver.toml:2: credentials.uris: {uri:?} is not a TURN URI; write a URI like \
                 \"turn:turn.example.org:3478?transport=udp\""
            ),
        );
    }
    let outside = "[credentials]\nlisten = \"0.0.0.0:8478\"\n[[credentials.keys]]\n";
    let warnings = Trial::new(&format!("{outside}{GOOD}"))
        .warnings()
        .join("\n");
    assert!(
        warnings.contains("travel to 0.0.0.0:8478 without encryption"),
        "{warnings}"
    );
}

#[test]
fn as_many_keys_as_there_can_be() {
    let keys = |count: usize| -> String {
        let key = |n| format!("[[credentials.keys]]\nid = \"{n}\"\nkey = \"a-key-for-{n:010}\"\n");
        (0..count).map(key).collect()
    };
    let most = Trial::new(&keys(API_KEYS_MAX)).load();
    assert_eq!(most.config.credentials.keys.len(), API_KEYS_MAX);
    let errors = Trial::new(&keys(API_KEYS_MAX + 1)).errors();
    assert!(errors[0].contains("has more than 100 keys"), "{errors:?}");
}
