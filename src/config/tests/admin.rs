//! `[admin]`: who may administer, and from where.

use secrecy::ExposeSecret;

use super::*;

/// ADM-05
#[test]
fn nobody_listens_on_tcp_without_a_good_token() {
    let with = |token: &str| format!("[admin]\nlisten = \"127.0.0.1:8479\"\n{token}");
    let needs = "turnserver.toml:2: admin.listen: needs a token: whoever reaches the address could \
        end every call; set admin.token_file to a file with one, e.g. from: openssl rand -hex 32";
    assert_error(&with(""), needs);
    assert_error(&with("token = \"\""), needs);
    let long = "write a long random text, e.g. from: openssl rand -hex 32";
    assert_error(
        &with("token = \"fifteen-letters\""),
        &format!("turnserver.toml:3: admin.token: is shorter than 16 characters; {long}"),
    );
    assert_error(
        &with("token = \"sixteen letters, and a space\""),
        &format!(
            "turnserver.toml:3: admin.token: has characters that no HTTP header can \
             hold; {long}"
        ),
    );
    assert_error(
        &with("token = \"a-token-of-the-file-itself\"\ntoken_file = \"token\""),
        "turnserver.toml:4: admin.token_file: is set beside admin.token; remove one of the two",
    );
    let admin = Trial::new(&with("token = \"sixteen-letters!\""))
        .load()
        .config
        .admin;
    assert_eq!(admin.listen, Some("127.0.0.1:8479".parse().unwrap()));
    assert_eq!(admin.token.unwrap().expose_secret(), "sixteen-letters!");
}

#[test]
fn the_token_may_be_a_file_beside_the_configuration() {
    let trial = Trial::new("[admin]\nlisten = \"192.0.2.1:8479\"\ntoken_file = \"token\"");
    let file = trial.directory.path().join("token");
    fs::write(&file, "a-token-of-its-own-file\n").unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let loaded = trial.load();
    let token = loaded.config.admin.token.as_ref().unwrap();
    assert_eq!(token.expose_secret(), "a-token-of-its-own-file");
    let [warning] = &loaded.warnings[..] else {
        panic!("{:?}", loaded.warnings);
    };
    assert!(
        warning.to_string().contains("without encryption"),
        "{warning}"
    );
    // A variable replaces the file's.
    let trial = trial.env("TURNSERVER_ADMIN__TOKEN", "another-token-of-a-variable");
    let token = trial.load().config.admin.token.unwrap();
    assert_eq!(token.expose_secret(), "another-token-of-a-variable");
    assert!(!trial.load().config.to_toml().contains("another"));
}

#[test]
fn the_socket_has_a_place_of_its_own_unless_it_is_told_one() {
    let socket = |trial: Trial| {
        let admin = trial.load().config.admin;
        let path = admin.socket.map(|path| path.display().to_string());
        (path.unwrap_or_default(), admin.is_default)
    };
    let found = socket(Trial::new("").env("RUNTIME_DIRECTORY", "/run/a:/run/b"));
    assert_eq!(found, ("/run/a/admin.sock".to_owned(), true));
    let found = socket(Trial::new("").env("XDG_RUNTIME_DIR", "/run/user/1"));
    let expected = match rustix::process::geteuid().is_root() {
        true => "/run/turnstone/admin.sock",
        false => "/run/user/1/turnstone/admin.sock",
    };
    assert_eq!(found, (expected.to_owned(), true));
    let toml = "[admin]\nsocket = \"/srv/socket\"";
    let found = socket(Trial::new(toml).env("RUNTIME_DIRECTORY", "/run/a"));
    assert_eq!(found, ("/srv/socket".to_owned(), false));
    let found = socket(Trial::new("[admin]\nsocket = \"\""));
    assert_eq!(found, (String::new(), false));
}

#[test]
fn bad_places_are_refused() {
    assert_error(
        "[admin]\nsocket = \"admin.sock\"",
        "turnserver.toml:2: admin.socket: \"admin.sock\" is not an absolute path; write a path from \
         the root, or \"\" for no socket",
    );
    let path = |length: usize| format!("[admin]\nsocket = \"/{}\"", "x".repeat(length - 1));
    Trial::new(&path(SOCKET_PATH_MAX)).load();
    assert_error(
        &path(SOCKET_PATH_MAX + 1),
        "turnserver.toml:2: admin.socket: is longer than 107 bytes; write a shorter path",
    );
    assert_error(
        "[admin]\nlisten = \"8479\"\ntoken = \"a-token-of-the-file-itself\"",
        "turnserver.toml:2: admin.listen: \"8479\" is not an address with a port; write an address \
         like \"127.0.0.1:8479\", or \"\" for none",
    );
}
