//! `[tls]`, and the listeners that need it.

use rcgen::{BasicConstraints, IsCa};

use super::*;
use crate::tls::testing::{Authority, DAY_S, Made, NOW_UNIX_S, self_signed_as};

const TLS: &str = "[tls]\ncert = \"a.crt\"\nkey = \"a.key\"\n";

/// Days from the date of the tests' certificates to today.
fn today() -> i64 {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    (now - NOW_UNIX_S) / DAY_S
}

fn made(names: &[&str], from_days: i64, until_days: i64) -> Made {
    let (from, until) = (today() + from_days, today() + until_days);
    Authority::new().issue_of(&rcgen::PKCS_ECDSA_P256_SHA256, names, from, until)
}

/// A configuration beside a pair of files a.crt and a.key, which the owner alone can read.
fn trial(toml: &str, pair: &Made) -> Trial {
    let trial = Trial::new(toml);
    write(&trial, "a", pair);
    trial
}

fn write(trial: &Trial, name: &str, pair: &Made) {
    let [cert, key] =
        ["crt", "key"].map(|kind| trial.directory.path().join(format!("{name}.{kind}")));
    let files = Files { cert, key };
    pair.write(&files);
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn there_is_none_by_default() {
    let config = Trial::new("").load().config;
    assert!(config.tls.pairs.is_empty() && config.listen.tls.is_empty());
    assert!(config.uris().iter().all(|uri| uri.starts_with("turn:")));
}

/// TLS-02: the port is there with the certificate, on the addresses of the others.
#[test]
fn a_certificate_turns_it_on() {
    let pair = made(&["turn.example.org"], -1, 90);
    let trial = trial(TLS, &pair);
    assert_eq!(trial.warnings(), [""; 0]);
    let loaded = trial.load();
    let listeners: Vec<String> = loaded
        .config
        .listen
        .tls
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(listeners, defaults::LISTEN_TLS);
    let uris = loaded.config.uris();
    assert_eq!(uris[2], "turns:turn.example.org:5349?transport=tcp");
    // A reload reads them again, and so they stay readable.
    for name in ["a.crt", "a.key"] {
        assert!(loaded.files.iter().any(|file| file.ends_with(name)));
    }
    let shown = loaded.config.to_toml();
    assert!(
        shown.contains("/a.crt\"") && shown.contains("/a.key\""),
        "{shown}"
    );
}

/// Browsers compare the name, so it is one that the certificate has.
#[test]
fn the_uri_names_what_the_certificate_is_for() {
    for (realm, names, expected) in [
        (
            "turn.example.org",
            &["*.example.org"][..],
            Some("turn.example.org"),
        ),
        (
            "Turn.example.org",
            &["a.example", "turn.example.org"],
            Some("turn.example.org"),
        ),
        (
            "example.org",
            &["*.example.org", "b.example.org"],
            Some("b.example.org"),
        ),
        ("example.org", &["203.0.113.10"], Some("203.0.113.10")),
        ("example.org", &["2001:db8::1"], Some("[2001:db8::1]")),
        ("example.org", &["*.example.org"], None),
    ] {
        let trial = trial(&format!("realm = \"{realm}\"\n{TLS}"), &made(names, -1, 90));
        let uris = trial.load().config.uris();
        let expected = expected.map(|host| format!("turns:{host}:5349?transport=tcp"));
        let found = uris.into_iter().find(|uri| uri.starts_with("turns:"));
        assert_eq!(found, expected, "{names:?}");
    }
}

/// Port 443 is the one that gets through, so clients are told of it, and first.
#[test]
fn clients_are_told_of_port_443() {
    let pair = made(&["turn.example.org"], -1, 90);
    let ports = |listen: &str| {
        let loaded = trial(&format!("{TLS}[listen]\n{listen}\n"), &pair).load();
        let uris = loaded.config.uris();
        assert_eq!(loaded.config.credentials.uris, uris);
        let of_tls = uris.iter().filter_map(|uri| {
            let rest = uri.strip_prefix("turns:turn.example.org:")?;
            rest.strip_suffix("?transport=tcp")?.parse::<u16>().ok()
        });
        of_tls.collect::<Vec<_>>()
    };
    let page = "tls = [\"0.0.0.0:5349\", \"[::]:5349\", \"0.0.0.0:443\", \"[::]:443\"]";
    assert_eq!(ports(page), [443, 5349]);
    // Any TCP listener takes TLS.
    assert_eq!(
        ports("tcp = [\"0.0.0.0:3478\", \"0.0.0.0:443\"]"),
        [443, 5349]
    );
    let strict = "tcp = [\"0.0.0.0:3478\", \"0.0.0.0:443\"]\nstrict = \"0.0.0.0:443\"";
    assert_eq!(ports(strict), [5349]);
    // With those of UDP and TCP there are no more than browsers like.
    let many = "tls = [\"0.0.0.0:5349\", \"0.0.0.0:5350\", \"0.0.0.0:443\"]";
    assert_eq!(ports(many), [443, 5349]);
    assert_eq!(
        ports("tls = [\"127.0.0.1:5349\", \"0.0.0.0:5350\"]"),
        [5350]
    );
    let local = "udp = \"127.0.0.1:3478\"\ntcp = []\ntls = \"127.0.0.1:5349\"";
    assert_eq!(ports(local), [5349]);
}

/// A listener for a proxy in front, and a certificate for any name of a domain.
#[test]
fn tls_that_nobody_is_told_of_is_a_warning() {
    let behind_proxy =
        "listen.tls = \"127.0.0.1:5349\"\nlisten.proxy_protocol_from = \"127.0.0.1\"\n";
    for (names, toml, told) in [
        (
            &["turn.example.org"][..],
            behind_proxy,
            "listen.tls: is on loopback alone, for a proxy whose port is not known here: clients are told \
             of no turns: URI; set credentials.uris to what clients shall use, with e.g. \
             \"turns:turn.example.org:443?transport=tcp\"",
        ),
        (
            &["*.example.org"],
            "realm = \"example.org\"\n",
            "tls.cert: is for *.example.org, which is no name to connect to",
        ),
    ] {
        let pair = made(names, -1, 90);
        let trial = |more: &str| trial(&format!("{toml}{more}{TLS}"), &pair);
        let uris = trial("").load().config.uris();
        assert!(
            !uris.iter().any(|uri| uri.starts_with("turns:")),
            "{uris:?}"
        );
        let warnings = trial("").warnings();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(warnings[0].contains(told), "{warnings:#?}");
        let uris = "credentials.uris = \"turns:turn.example.org:443?transport=tcp\"\n";
        assert_eq!(trial(uris).warnings(), [""; 0]);
    }
}

#[test]
fn several_pairs_keep_their_order() {
    let toml = format!(
        "{TLS}[[tls.additional]]\ncert = \"b.crt\"\nkey = \"b.key\"\n\
         [[tls.additional]]\ncert = \"c.crt\"\nkey = \"c.key\"\n"
    );
    let trial = trial(&toml, &made(&["a.example"], -1, 90));
    write(&trial, "b", &made(&["b.example"], -1, 90));
    write(&trial, "c", &made(&["a.example"], -1, 90));
    let pairs = trial.load().config.tls.pairs;
    let names: Vec<&str> = pairs.iter().map(|pair| pair.names()[0].as_str()).collect();
    assert_eq!(names, ["a.example", "b.example", "a.example"]);
}

#[test]
fn a_pair_is_listed_once() {
    let toml = format!("{TLS}additional = [{{ cert = \"a.crt\", key = \"a.key\" }}]\n");
    let expected =
        "turnserver.toml:4: tls.additional.cert: a.crt is listed twice; remove one of the two";
    let errors = trial(&toml, &made(&["a.example"], -1, 90)).errors();
    assert_eq!(errors, [expected]);
}

#[test]
fn what_cannot_be_served_is_refused_with_its_remedy() {
    let pair = made(&["turn.example.org"], -1, 90);
    let errors = |toml: &str| trial(toml, &pair).errors();
    for (toml, start) in [
        (
            "[tls]\ncert = \"a.crt\"\n",
            "turnserver.toml:2: tls.cert: has no key; set tls.key",
        ),
        (
            "[tls]\nkey = \"a.key\"\n",
            "turnserver.toml:2: tls.key: has no certificate; set tls.cert",
        ),
        (
            "[tls]\ncert = \"none.crt\"\nkey = \"a.key\"\n",
            "turnserver.toml:2: tls.cert: none.crt cannot be read (No such file or directory (os \
             error 2)); check the path",
        ),
        (
            "[tls]\ncert = \"a.crt\"\nkey = \"none.key\"\n",
            "turnserver.toml:3: tls.key: none.key cannot be read",
        ),
        (
            "[tls]\ncert = \"a.key\"\nkey = \"a.key\"\n",
            "turnserver.toml:2: tls.cert: a.key holds a private key and no certificate",
        ),
        (
            "[tls]\ncert = \"a.crt\"\nkey = \"a.crt\"\n",
            "turnserver.toml:3: tls.key: a.crt holds no private key",
        ),
        (
            "[listen]\ntls = \"0.0.0.0:443\"\n",
            "turnserver.toml:2: listen.tls: there is no certificate for 0.0.0.0:443; set tls.cert",
        ),
        (
            "[tls]\nadditional = [{ cert = \"a.crt\", key = \"a.key\" }]\n",
            "turnserver.toml:2: tls.additional: is beside no tls.cert",
        ),
    ] {
        let found = errors(toml);
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].starts_with(start), "{start}: {}", found[0]);
    }
    let toml = format!("{TLS}additional = [{{ cert = \"a.crt\" }}]\n");
    let found = errors(&toml);
    assert!(
        found[0].contains("tls.additional.key: is missing; write both"),
        "{found:?}"
    );
    let other = made(&["turn.example.org"], -1, 90);
    let found = trial(TLS, &pair.with_chain(&other.cert)).errors();
    let expected = "turnserver.toml:3: tls.key: a.key is not the key of the certificate; name the \
                    key that the certificate was requested with";
    assert_eq!(found, [expected]);
}

#[test]
fn a_server_has_a_bound_of_pairs() {
    let pair = made(&["a.example"], -1, 90);
    let additional = |count| {
        let one = |n| format!("[[tls.additional]]\ncert = \"{n}.crt\"\nkey = \"{n}.key\"\n");
        let all: String = (0..count).map(one).collect();
        let trial = trial(&format!("{TLS}{all}"), &pair);
        for n in 0..count {
            write(&trial, &n.to_string(), &pair);
        }
        trial
    };
    let most = additional(PAIRS_MAX - 1).load().config.tls.pairs.len();
    assert_eq!(most, PAIRS_MAX);
    let errors = additional(PAIRS_MAX).errors();
    assert!(
        errors[0].contains("makes more than 100 certificates"),
        "{errors:?}"
    );
}

/// A server that is to be renewed later is better than none.
#[test]
fn what_clients_refuse_is_a_warning() {
    for (from, until, what) in [
        (-90, -1, "has expired, so clients refuse it; renew it"),
        (
            1,
            90,
            "is not valid yet, so clients refuse it; check the clock",
        ),
    ] {
        let warnings = trial(TLS, &made(&["turn.example.org"], from, until)).warnings();
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(
            warnings[0].contains("tls.cert: ") && warnings[0].contains(what),
            "{warnings:?}"
        );
    }
}

#[test]
fn a_certificate_made_by_hand_is_a_warning() {
    let is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let made = self_signed_as(is_ca, &["turn.example.org"]);
    let warnings = trial(TLS, &made).warnings();
    for what in [
        "is self-signed, so browsers refuse it; get one",
        "begins with the certificate of an authority (CA:TRUE)",
    ] {
        let has = |warning: &String| warning.contains("tls.cert: ") && warning.contains(what);
        assert!(warnings.iter().any(has), "{what}: {warnings:#?}");
    }
}

#[test]
fn a_key_that_others_can_read_is_a_warning() {
    let trial = trial(TLS, &made(&["turn.example.org"], -1, 90));
    let open = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    open(trial.directory.path(), 0o755);
    open(&trial.directory.path().join("a.key"), 0o644);
    let warnings = trial.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0].contains("tls.key: everybody on this machine can read"),
        "{warnings:?}"
    );
}

/// On another machine files may be that are not here.
#[test]
fn files_of_another_machine_are_not_missed() {
    let host = Host {
        is_elsewhere: true,
        ..host()
    };
    let trial = Trial::new(TLS).on(host);
    let warnings = trial.warnings();
    assert!(warnings[0].contains("tls.cert: ") && warnings[0].contains("cannot be read"));
    let config = trial.load().config;
    assert!(config.tls.pairs.is_empty());
    assert_eq!((config.tls.files.len(), config.listen.tls.len()), (1, 2));
}

#[test]
fn listeners_are_of_one_kind() {
    let pair = made(&["turn.example.org"], -1, 90);
    let listen = |lines: &str| trial(&format!("{TLS}[listen]\n{lines}"), &pair);
    let both = "tcp = \"127.0.0.1:443\"\ntls = \"127.0.0.1:443\"\n";
    let errors = listen(both).errors();
    let expected = "turnserver.toml:6: listen.tls: 127.0.0.1:443 is in listen.tcp too; keep it in \
                    one of the two: either takes TCP and TLS";
    assert_eq!(errors, [expected]);
    let strict = "tcp = \"127.0.0.1:80\"\ntls = \"127.0.0.1:443\"\nstrict = [\"127.0.0.1:443\"]\n";
    let config = listen(strict).load().config;
    assert_eq!(config.listen.strict, config.listen.tls);
    let errors = listen("strict = \"127.0.0.1:443\"\n").errors();
    let expected = "turnserver.toml:5: listen.strict: \"127.0.0.1:443\" is not in listen.tcp or \
                    listen.tls; write an address as it is written there";
    assert_eq!(errors, [expected]);
    let only = listen("udp = []\ntcp = []\n").load().config;
    assert_eq!(only.listen.tls.len(), 2);
}

/// WEB-04: browsers' TURN names no protocol, so it would be sent to the web server.
#[test]
fn a_name_of_turn_is_none_of_the_web_server() {
    let web =
        "[web]\nhttps = \"127.0.0.1:8443\"\nnames = [\"www.example.org\", \"Turn.example.org\"]\n";
    let uris = "credentials.uris = \"turns:turn.example.org:443\"\n";
    let acme = "[tls.acme]\ndomains = \"turn.example.org\"\nterms_of_service_agreed = true\n";
    for (names, before, tls) in [
        (&["turn.example.org"][..], "", TLS),
        (&["*.example.org"], "realm = \"turn.example.org\"\n", TLS),
        (&["b.example.org"], uris, TLS),
        (&["turn.example.org"], "", acme),
    ] {
        let toml = format!("{before}{tls}{web}");
        let errors = trial(&toml, &made(names, -1, 90)).errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let told = "web.names: turn.example.org would lead browsers' TURN (turns:turn.example.org:";
        let is_told = errors[0].contains(told) && errors[0].contains("give TURN a name of its own");
        assert!(is_told, "{errors:#?}");
    }
    // One certificate may be for both names.
    let both = made(
        &["b.example.org", "turn.example.org", "www.example.org"],
        -1,
        90,
    );
    assert_eq!(trial(&format!("{TLS}{web}"), &both).warnings(), [""; 0]);
    let acme = "[tls.acme]\ndomains = [\"b.example.org\", \"turn.example.org\"]\n\
                terms_of_service_agreed = true\nchallenge = \"http-01\"\n";
    let warnings = trial(&format!("{acme}{web}"), &both).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(
        warnings[0].contains("turn.example.org is in tls.acme.domains too"),
        "{warnings:#?}"
    );
}

/// RELOAD-02: and what was built in is what can be asked for.
#[test]
fn dtls_is_asked_for_by_name() {
    let pair = made(&["turn.example.org"], -1, 90);
    let with = |lines: &str| trial(&format!("{TLS}[listen]\n{lines}"), &pair);
    assert!(with("").load().config.listen.dtls.is_empty());
    assert!(with("dtls = []\n").load().config.listen.dtls.is_empty());
    if !cfg!(feature = "dtls") {
        let expected = "turnserver.toml:5: listen.dtls: this turnstone was built without DTLS; \
                        cargo build --features dtls, or remove it";
        assert_eq!(with("dtls = \"0.0.0.0:5349\"\n").errors(), [expected]);
        return;
    }
    let config = with("dtls = \"127.0.0.1:5349\"\nudp = []\ntcp = []\ntls = []\n").load();
    assert_eq!(
        config.config.listen.dtls,
        ["127.0.0.1:5349".parse().unwrap()]
    );
    let both = with("udp = \"127.0.0.1:5349\"\ndtls = \"127.0.0.1:5349\"\n");
    let expected = "turnserver.toml:6: listen.dtls: 127.0.0.1:5349 is in listen.udp too; give DTLS a \
                    port of its own, e.g. 5349: nothing else is taken there";
    assert_eq!(both.errors(), [expected]);
    let alone = Trial::new("[listen]\ndtls = \"0.0.0.0:5349\"\n").errors();
    let expected = "turnserver.toml:2: listen.dtls: there is no certificate for 0.0.0.0:5349; set \
                    tls.cert and tls.key, or tls.acme.domains, or remove it";
    assert_eq!(alone, [expected]);
}
