//! `[tls.acme]`.

use secrecy::ExposeSecret;

use super::*;

fn acme(lines: &str) -> String {
    format!("[tls.acme]\n{lines}\nterms_of_service_agreed = true")
}

const DOMAINS: &str = "domains = [\"turn.example.org\"]";

/// With a listener where the authority connects, so that nothing is warned of.
fn named(lines: &str) -> String {
    format!(
        "listen.tls = \"0.0.0.0:443\"\n{}",
        acme(&format!("{DOMAINS}\n{lines}"))
    )
}

#[test]
fn without_names_there_is_none() {
    let config = Trial::new("").load().config;
    assert!(!config.tls.is_on() && config.listen.tls.is_empty());
    let url = "https://acme-v02.api.letsencrypt.org/directory";
    assert_eq!(config.tls.acme.directory, url);
    assert_eq!(config.tls.acme.http_listener(), None);
    assert!(
        !Trial::new("[tls.acme]\ndomains = []")
            .load()
            .config
            .tls
            .is_on()
    );
}

#[test]
fn with_names_tls_is_listened_for() {
    let trial = Trial::new(&acme(
        "domains = [\"TURN.Example.org.\", \"b.example.org\"]",
    ));
    let config = trial.load().config;
    assert_eq!(
        config.tls.acme.domains,
        ["turn.example.org", "b.example.org"]
    );
    assert!(config.tls.is_on() && config.tls.pairs.is_empty());
    let ports: Vec<u16> = config.listen.tls.iter().map(|it| it.port()).collect();
    assert_eq!(ports, [5349, 5349]);
    let uri = "turns:turn.example.org:5349?transport=tcp".to_owned();
    assert!(config.uris().contains(&uri));
}

#[test]
fn directories_have_names_or_urls() {
    for (written, url) in [
        (
            "letsencrypt-staging",
            "https://acme-staging-v02.api.letsencrypt.org/directory",
        ),
        (
            "https://ca.example:14000/dir",
            "https://ca.example:14000/dir",
        ),
        ("http://127.0.0.1:14000/dir", "http://127.0.0.1:14000/dir"),
    ] {
        let trial = Trial::new(&named(&format!("directory = \"{written}\"")));
        assert_eq!(trial.load().config.tls.acme.directory, url);
    }
}

#[test]
fn the_terms_are_the_operators_to_agree_to() {
    let errors = Trial::new(&format!("[tls.acme]\n{DOMAINS}")).errors();
    let told =
        "turnserver.toml:2: tls.acme.domains: the terms of the authority have not been agreed to";
    assert!(
        errors.len() == 1 && errors[0].starts_with(told),
        "{errors:?}"
    );
    assert!(
        errors[0].contains("terms_of_service_agreed = true"),
        "{errors:?}"
    );
}

#[test]
fn names_that_nobody_certifies_are_refused() {
    for (domain, what) in [
        ("*.example.org", "is a wildcard"),
        ("192.0.2.1", "is an address"),
        ("2001:db8::1", "is an address"),
        ("bücher.example", "is not ASCII"),
        ("turn_1.example.org", "is not a domain name"),
        ("-turn.example.org", "is not a domain name"),
        ("turn..example.org", "is not a domain name"),
        ("../turn", "is not a domain name"),
        ("", "is not a domain name"),
    ] {
        let errors = Trial::new(&acme(&format!("domains = [\"{domain}\"]"))).errors();
        let told = format!("tls.acme.domains: {domain:?} {what}");
        assert!(errors.len() == 1 && errors[0].contains(&told), "{errors:?}");
    }
    let twice = Trial::new(&acme("domains = [\"a.example\", \"A.example\"]")).errors();
    assert!(twice[0].contains("a.example is listed twice"), "{twice:?}");
    let label = "x".repeat(64);
    assert_eq!(
        Trial::new(&acme(&format!("domains = \"{label}.example\"")))
            .errors()
            .len(),
        1
    );
    let label = "x".repeat(63);
    Trial::new(&acme(&format!("domains = \"{label}.example\""))).load();
}

#[test]
fn a_certificate_has_so_many_names() {
    let many = |count: usize| {
        let names = (0..count)
            .map(|n| format!("\"n{n}.example.org\""))
            .collect::<Vec<_>>();
        Trial::new(&acme(&format!("domains = [{}]", names.join(", "))))
    };
    assert_eq!(
        many(ACME_DOMAINS_MAX).load().config.tls.acme.domains.len(),
        100
    );
    let errors = many(ACME_DOMAINS_MAX + 1).errors();
    assert!(errors[0].contains("has more than 100 names"), "{errors:?}");
}

#[test]
fn what_nobody_means_is_refused() {
    for (line, told) in [
        (
            "email = \"admin\"",
            "tls.acme.email: is not an e-mail address",
        ),
        (
            "email = \"a@b.example,c@d.example\"",
            "tls.acme.email: is not an e-mail address",
        ),
        (
            "directory = \"zerossl\"",
            "tls.acme.directory: \"zerossl\" is no directory",
        ),
        (
            "directory = \"http://ca.example/dir\"",
            "is no directory; write \"letsencrypt\"",
        ),
        (
            "directory = \"https://me@ca.example/dir\"",
            "is no directory",
        ),
        (
            "directory = \"https://ca.example:0/dir\"",
            "is no directory",
        ),
        (
            "challenge = \"dns-01\"",
            "tls.acme.challenge: \"dns-01\" is not one of its values",
        ),
        (
            "http_listen = \"80\"",
            "tls.acme.http_listen: \"80\" is not an address with a port",
        ),
        (
            "ca_file = \"turnserver.toml\"",
            "tls.acme.ca_file: turnserver.toml holds no certificate",
        ),
        ("eab_key_id = \"kid\"", "tls.acme.eab_key_id: has no key"),
        (
            "eab_key_file = \"missing\"",
            "tls.acme.eab_key_file: missing cannot be read",
        ),
    ] {
        let errors = Trial::new(&named(line)).errors();
        assert!(
            errors.iter().any(|it| it.contains(told)),
            "{line}: {errors:?}"
        );
    }
    let errors = Trial::new("[tls.acmee]\nemail = \"\"").errors();
    assert!(errors[0].contains("did you mean [tls.acme]?"), "{errors:?}");
}

/// The key is in base64url, with padding or without, and in no output.
#[test]
fn an_account_outside_of_acme_has_a_key() {
    for text in ["aHVudGVyMg", "aHVudGVyMg==\n"] {
        let trial = Trial::new(&named("eab_key_id = \"kid\"\neab_key_file = \"key\""));
        fs::write(trial.directory.path().join("key"), text).unwrap();
        let config = trial.load().config;
        let key = config.tls.acme.eab_key.as_ref().unwrap();
        assert_eq!(key.expose_secret(), b"hunter2");
        for output in [format!("{config:?}"), config.to_toml()] {
            assert!(
                !output.contains("hunter2") && !output.contains("104, 117"),
                "{output}"
            );
        }
    }
    let trial = Trial::new(&named("eab_key_id = \"kid\"\neab_key_file = \"key\""));
    fs::write(trial.directory.path().join("key"), "not base64!").unwrap();
    let errors = trial.errors();
    assert!(errors[0].contains("is not in base64url"), "{errors:?}");
}

#[test]
fn an_authority_that_is_not_heard_is_warned_of() {
    let strict = "listen.strict = \"0.0.0.0:443\"\n";
    for (toml, told) in [
        (named(""), None),
        (
            acme(DOMAINS),
            Some("tls.acme.challenge: no listener takes TLS at port 443"),
        ),
        (
            format!("listen.tcp = \"0.0.0.0:443\"\n{}", acme(DOMAINS)),
            None,
        ),
        (
            format!("listen.tcp = \"0.0.0.0:443\"\n{strict}{}", acme(DOMAINS)),
            Some("tls.acme.challenge: no listener takes TLS at port 443"),
        ),
        (
            format!("listen.tls = \"0.0.0.0:443\"\n{strict}{}", acme(DOMAINS)),
            None,
        ),
        (acme(&format!("{DOMAINS}\nchallenge = \"http-01\"")), None),
        (
            acme(&format!(
                "{DOMAINS}\nchallenge = \"http-01\"\nhttp_listen = \"0.0.0.0:8080\""
            )),
            Some("tls.acme.http_listen: is port 8080, and the authority connects to port 80"),
        ),
    ] {
        let warnings = Trial::new(&toml).warnings();
        let of_acme: Vec<_> = warnings
            .iter()
            .filter(|it| it.contains("tls.acme"))
            .collect();
        assert_eq!(of_acme.len(), usize::from(told.is_some()), "{warnings:?}");
        let is_told = told.is_none_or(|told| of_acme[0].contains(told));
        assert!(is_told, "{warnings:?}");
    }
}

/// Both at port 80, as where a web server shares it, would keep the server from its start.
#[test]
fn http_01_has_its_port_to_itself() {
    let errors = |listen: &str, more: &str| {
        let acme = acme(&format!("{DOMAINS}\nchallenge = \"http-01\"\n{more}"));
        Trial::new(&format!("{listen}\n{acme}"))
    };
    for (listen, more, told) in [
        (
            "listen.tcp = [\"0.0.0.0:3478\", \"0.0.0.0:80\"]",
            "",
            "answers on [::]:80 (tls.acme.http_listen), and listen.tcp has 0.0.0.0:80; set it to \
             \"tls-alpn-01\"",
        ),
        (
            "listen.tls = \"[::]:80\"",
            "http_listen = \"0.0.0.0:80\"",
            "answers on 0.0.0.0:80 (tls.acme.http_listen), and listen.tls has [::]:80",
        ),
        (
            "listen.tcp = \"203.0.113.10:80\"",
            "http_listen = \"203.0.113.10:80\"",
            "listen.tcp has 203.0.113.10:80",
        ),
    ] {
        let errors = errors(listen, more).errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let is_told = errors[0].contains("tls.acme.challenge: ") && errors[0].contains(told);
        assert!(is_told, "{errors:#?}");
    }
    for (listen, more) in [
        ("listen.tcp = \"0.0.0.0:443\"", ""),
        (
            "listen.tcp = \"[2001:db8::10]:80\"",
            "http_listen = \"0.0.0.0:80\"",
        ),
        (
            "listen.tcp = \"203.0.113.10:80\"",
            "http_listen = \"203.0.113.11:80\"",
        ),
    ] {
        errors(listen, more).load();
    }
}

/// RELOAD-02: what a process that was started without cannot take over waits for the next one, its
/// listeners too.
#[test]
fn all_of_it_needs_a_restart() {
    let before = Trial::new("").load().config;
    let after = Trial::new(&acme(&format!(
        "{DOMAINS}\nemail = \"a@example.org\"\ndirectory = \"letsencrypt-staging\"\n\
         challenge = \"http-01\"\nhttp_listen = \"0.0.0.0:80\""
    )));
    let after = after.load().config;
    let differ = differences(&before, &after);
    let of_acme: Vec<_> = differ
        .iter()
        .filter(|(key, _)| key.starts_with("tls."))
        .collect();
    assert_eq!(of_acme.len(), 6, "{differ:?}");
    assert!(of_acme.iter().all(|(_, when)| *when == When::Restart));
    let kept = after.clone().kept_from(&before);
    assert_eq!(differences(&before, &kept), []);
    let kept = before.kept_from(&after);
    assert_eq!(differences(&after, &kept), []);
}
