//! `[hooks]`.

use super::*;

const SECRET: &str = "secret = \"hunter2-of-at-least-sixteen-characters\"";

fn hooks(lines: &str) -> String {
    format!("[hooks]\n{lines}\n{SECRET}")
}

#[test]
fn without_a_url_there_are_none() {
    for toml in ["", "[hooks]\nurl = \"\"\nsecret = \"\"\nca_file = \"\""] {
        let config = Trial::new(toml).load().config.hooks;
        assert!(config.url.is_none() && config.secret.is_none() && config.ca_file.is_none());
        assert_eq!(config.events, defaults::HOOK_EVENTS);
    }
}

/// HOOK-07: the path of the URL may be a secret too.
#[test]
fn neither_secret_nor_path_is_in_any_output() {
    let trial = Trial::new(&hooks(
        "url = \"https://app.example:8443/hunter2?hunter2\"\nevents = \"allocation_ended\"",
    ));
    let config = trial.load().config;
    assert_eq!(config.hooks.events, ["allocation_ended"]);
    let url = config.hooks.url.as_ref().unwrap().expose();
    assert_eq!(url.path_and_query().unwrap(), "/hunter2?hunter2");
    for output in [format!("{config:?}"), config.to_toml()] {
        assert!(!output.contains("hunter2"), "{output}");
        assert!(output.contains("https://app.example:8443/..."), "{output}");
    }
}

#[test]
fn what_is_no_receiver_is_refused() {
    let wanted = "write e.g. \"https://app.example.org/turn-events\"";
    for (url, what) in [
        ("no url", "is not a URL"),
        ("app.example", "is not a http or https URL"),
        ("/events", "is not a http or https URL"),
        ("ftp://app.example/", "is not a http or https URL"),
        ("https://app.example:0/", "has no valid port"),
        ("https://app.example:/", "has no valid port"),
    ] {
        let toml = hooks(&format!("url = \"{url}\""));
        let expected = format!("turnserver.toml:2: hooks.url: {what}; {wanted}");
        assert_error(&toml, &expected);
    }
    assert_error_around(
        &hooks("url = \"https://me:hunter2@app.example/\""),
        "turnserver.toml:2: hooks.url: names a user, which is not sent; leave it out",
        "who sends",
    );
    let errors = Trial::new("hooks.url = \"https://app.example/hunter2\"").errors();
    assert!(
        errors[0].contains("hooks.url: has no secret to sign"),
        "{errors:?}"
    );
    assert_eq!(errors.len(), 1);
    assert!(!errors[0].contains("hunter2"));
}

#[test]
fn what_nobody_means_is_refused() {
    let some = "write some of allocation_created, allocation_ended, authentication_failed, \
                credential_revoked";
    for (line, expected) in [
        (
            "events = [\"allocation_ended\", \"alloc\"]",
            format!("hooks.events: \"alloc\" is not an event; {some}"),
        ),
        ("events = []", format!("hooks.events: is empty; {some}")),
        (
            "timeout_s = 0",
            "hooks.timeout_s: 0 is out of range; write 1 to 60".to_owned(),
        ),
        (
            "timeout_s = 61",
            "hooks.timeout_s: 61 is out of range; write 1 to 60".to_owned(),
        ),
        (
            "ca_file = \"turnserver.toml\"",
            "hooks.ca_file: turnserver.toml holds no certificate; write the certificates of the \
             authorities as PEM"
                .to_owned(),
        ),
    ] {
        assert_error(&hooks(line), &format!("turnserver.toml:2: {expected}"));
    }
    assert_error_around(
        &hooks("ca_file = \"missing.pem\""),
        "turnserver.toml:2: hooks.ca_file: missing.pem cannot be read",
        "let the user of this server read it",
    );
    let both = Trial::new(&hooks("secret_file = \"secret\"")).errors();
    let told = "hooks.secret: is set beside hooks.secret_file; remove one of the two";
    assert!(both[0].ends_with(told), "{both:?}");
}

/// A secret of an upper layer takes the place of the file's, as with other secrets.
#[test]
fn a_secret_comes_from_one_place() {
    let trial = Trial::new("[hooks]\nurl = \"https://app.example/\"\nsecret_file = \"secret\"");
    let path = trial.directory.path().join("secret");
    fs::write(path, "sixteen-characters-of-the-file\n").unwrap();
    let of = |trial: &Trial| {
        use secrecy::ExposeSecret;
        let secret = trial.load().config.hooks.secret.unwrap();
        secret.expose_secret().to_owned()
    };
    assert_eq!(of(&trial), "sixteen-characters-of-the-file");
    let trial = trial.env("TURNSERVER_HOOKS__SECRET", "sixteen-characters-of-another");
    assert_eq!(of(&trial), "sixteen-characters-of-another");
}

/// HOOK-07
#[test]
fn plain_http_is_for_loopback() {
    for (url, warned) in [
        ("http://app.example/", true),
        ("http://192.0.2.1:8080/", true),
        ("http://localhost:8080/", false),
        ("http://127.0.0.9/", false),
        ("http://[::1]:8080/", false),
        ("https://app.example/", false),
    ] {
        let warnings = Trial::new(&hooks(&format!("url = \"{url}\""))).warnings();
        let told = warnings
            .iter()
            .any(|it| it.contains("hooks.url: is not https"));
        assert_eq!(told, warned, "{url}: {warnings:?}");
    }
    let weak = Trial::new("[hooks]\nurl = \"https://app.example/\"\nsecret = \"short\"").warnings();
    assert!(
        weak.iter()
            .any(|it| it.contains("hooks.secret: a secret is shorter")),
        "{weak:?}"
    );
}
