//! What becomes of each option, with good values and bad ones.

use secrecy::ExposeSecret;

use super::*;
use crate::config::Credential;

/// Asserts what a file makes of a key.
#[track_caller]
fn assert_value(text: &str, key: &str, expected: &str) {
    let (import, config) = imported(text);
    assert_eq!(
        value(&config, key),
        expected,
        "{text}\n{}",
        import.toml.as_str()
    );
}

/// Asserts that the last line of a file is no good, and how that is told.
#[track_caller]
fn assert_invalid(text: &str, expected: &str) {
    let (import, _) = imported(text);
    let last = import.findings.last().unwrap();
    assert_eq!(
        (last.verdict, last.text.as_str()),
        (Verdict::Invalid, expected)
    );
    assert!(!import.is_complete());
    let number = text.lines().count();
    let told = format!("{number}: {}: bad value: {expected}", last.option);
    assert!(
        import
            .report()
            .iter()
            .any(|remark| remark.to_string().contains(&told)),
        "{told}"
    );
}

#[test]
fn tls() {
    let pair = "cert=/nowhere/cert.pem\npkey=/nowhere/key.pem\n";
    for (more, tls) in [
        ("", r#"["0.0.0.0:5349", "[::]:5349"]"#),
        (
            "tls-listening-port=5349",
            r#"["0.0.0.0:5349", "[::]:5349"]"#,
        ),
        ("tls-listening-port=443", r#"["0.0.0.0:443", "[::]:443"]"#),
        ("listening-ip=10.0.0.5", r#"["10.0.0.5:5349"]"#),
        (
            "listening-ip=10.0.0.5\ntls-listening-port=443",
            r#"["10.0.0.5:443"]"#,
        ),
        // There TLS is taken anyway.
        ("tls-listening-port=3478", "[]"),
        (
            "listening-ip=10.0.0.5\nlistening-port=443\ntls-listening-port=443",
            "[]",
        ),
        ("no-udp\nno-tcp", r#"["0.0.0.0:5349", "[::]:5349"]"#),
    ] {
        assert_value(&format!("{pair}{more}"), "listen.tls", tls);
    }
    assert_value(pair, "tls.cert", "\"/nowhere/cert.pem\"");
    assert_value(pair, "tls.key", "\"/nowhere/key.pem\"");
    assert_value(&format!("{pair}no-udp\nno-tcp"), "listen.tcp", "[]");
    for text in [
        "cert=/nowhere/cert.pem\ntls-listening-port=443".to_owned(),
        format!("{pair}no-tls\ntls-listening-port=443"),
    ] {
        assert_value(&text, "listen.tls", "[]");
        assert_value(&text, "tls.cert", "\"\"");
    }
    assert_invalid(
        &format!("{pair}tls-listening-port=0"),
        "0 is not a port; write 1 to 65535",
    );
}

/// A certificate that is on this machine is looked at.
#[test]
fn a_certificate_that_is_none_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cert.pem");
    fs::write(&path, "none").unwrap();
    let path = path.display();
    let (import, _) = imported(&format!("pkey={path}\ncert={path}"));
    let told: Vec<_> = import.findings.iter().map(|it| it.verdict).collect();
    assert_eq!(told, [Verdict::Needless, Verdict::Invalid]);
}

#[test]
fn listeners() {
    for (text, udp, tcp) in [
        (
            "",
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
        ),
        (
            "listening-port=3478",
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
        ),
        (
            "listening-port=3479",
            r#"["0.0.0.0:3479", "[::]:3479"]"#,
            r#"["0.0.0.0:3479", "[::]:3479"]"#,
        ),
        (
            "listening-ip=10.0.0.5\nlistening-ip = [2001:db8::5]\nlistening-ip=10.0.0.5",
            r#"["10.0.0.5:3478", "[2001:db8::5]:3478"]"#,
            r#"["10.0.0.5:3478", "[2001:db8::5]:3478"]"#,
        ),
        (
            "aux-server=10.0.0.5:443\nno-udp",
            "[]",
            r#"["0.0.0.0:3478", "[::]:3478", "10.0.0.5:443"]"#,
        ),
        (
            "no-tcp\nlistening-ip 10.0.0.5 # ours",
            r#"["10.0.0.5:3478"]"#,
            "[]",
        ),
        (
            "no-tcp\nno-udp\nlistening-port=80",
            "[]",
            r#"["127.0.0.1:80"]"#,
        ),
        (
            "no-tcp=off",
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
            r#"["0.0.0.0:3478", "[::]:3478"]"#,
        ),
    ] {
        assert_value(text, "listen.udp", udp);
        assert_value(text, "listen.tcp", tcp);
    }
    assert_value(
        "rfc3489-compatibility\nstun-backward-compatibility",
        "listen.classic_stun",
        "true",
    );
    for (text, expected) in [
        ("listening-port=0", "0 is not a port; write 1 to 65535"),
        (
            "listening-port=65536",
            "65536 is not a port; write 1 to 65535",
        ),
        (
            "listening-port=turn",
            "\"turn\" is not a whole number; write digits only",
        ),
        (
            "listening-port=-1",
            "\"-1\" is not a whole number; write digits only",
        ),
        (
            "listening-port=",
            "it has no value; write one, or remove the line",
        ),
        (
            "listening-ip=turn.example.org",
            "\"turn.example.org\" is not an IP address; write one such as 203.0.113.10: names \
             are not looked up",
        ),
        (
            "listening-ip=224.0.0.1",
            "224.0.0.1:3478 is not a unicast address; write an address of one machine",
        ),
        (
            "aux-server=10.0.0.5",
            "\"10.0.0.5\" is not an address with a port; write 203.0.113.10:443 or \
             [2001:db8::10]:443",
        ),
        (
            "no-udp=perhaps",
            "\"perhaps\" is neither on nor off; write on or off",
        ),
    ] {
        assert_invalid(text, expected);
    }
}

#[test]
fn relay_addresses() {
    let external = r#"{ "10.0.0.5" = "203.0.113.10" }"#;
    for (text, addresses, mapped) in [
        ("", r#"["10.0.0.5"]"#, "{}"),
        (
            "relay-ip=10.0.0.7\nrelay-ip=2001:db8::7",
            r#"["10.0.0.7", "2001:db8::7"]"#,
            "{}",
        ),
        (
            "listening-ip=10.0.0.8\nlistening-ip=127.0.0.1",
            r#"["10.0.0.8"]"#,
            "{}",
        ),
        ("listening-ip=0.0.0.0", r#"["10.0.0.5"]"#, "{}"),
        // This machine's address, where the file names none.
        ("external-ip=203.0.113.10", r#"["10.0.0.5"]"#, external),
        (
            "external-ip=203.0.113.10/10.0.0.5",
            r#"["10.0.0.5"]"#,
            external,
        ),
        (
            "external-ip=203.0.113.10/10.0.0.6",
            r#"["10.0.0.6"]"#,
            r#"{ "10.0.0.6" = "203.0.113.10" }"#,
        ),
        (
            "relay-ip=10.0.0.5\nexternal-ip=203.0.113.10",
            r#"["10.0.0.5"]"#,
            external,
        ),
        (
            "relay-ip=10.0.0.5\nrelay-ip=10.0.0.6\n\
             external-ip=203.0.113.10/10.0.0.5\nexternal-ip=203.0.113.11/10.0.0.6",
            r#"["10.0.0.5", "10.0.0.6"]"#,
            r#"{ "10.0.0.5" = "203.0.113.10", "10.0.0.6" = "203.0.113.11" }"#,
        ),
        (
            "relay-ip=203.0.113.10\nexternal-ip=203.0.113.10",
            r#"["203.0.113.10"]"#,
            "{}",
        ),
    ] {
        assert_value(text, "relay.addresses", addresses);
        assert_value(text, "relay.external", mapped);
    }
    for (text, expected) in [
        (
            "relay-ip=10.0.0",
            "\"10.0.0\" is not an IP address; write one such as 203.0.113.10: names are not \
             looked up",
        ),
        (
            "relay-ip=0.0.0.0",
            "0.0.0.0 means any address; write the concrete one",
        ),
        (
            "relay-ip=10.0.0.5\nrelay-ip=10.0.0.6\nexternal-ip=203.0.113.10",
            "203.0.113.10 does not say whose external address it is; write \
             203.0.113.10/RELAY-ADDRESS",
        ),
        (
            "relay-ip=10.0.0.5\nexternal-ip=203.0.113.10/10.0.0.6",
            "10.0.0.6 is no relay address, so that the mapping has no effect; write \
             relay-ip=10.0.0.6, or remove the line",
        ),
        (
            "external-ip=203.0.113.10/10.0.0.5\nexternal-ip=203.0.113.11/10.0.0.5",
            "line 1 maps one of these addresses already; keep one of the two",
        ),
        (
            "external-ip=203.0.113.10/fd00::5",
            "fd00::5 and 203.0.113.10 are of different families; map IPv4 to IPv4 and IPv6 to \
             IPv6",
        ),
        (
            "external-ip=example.org/10.0.0.5",
            "\"example.org\" is not an IP address; write one such as 203.0.113.10: names are \
             not looked up",
        ),
    ] {
        assert_invalid(text, expected);
    }
}

#[test]
fn relay_ports_and_family() {
    for (text, ports) in [
        ("min-port=50000\nmax-port=50100", "50000-50100"),
        ("min-port=50000", "50000-65535"),
        ("max-port=50000;", "49152-50000"),
        ("min-port=1\nmin-port=1024\n", "1024-65535"),
    ] {
        assert_value(text, "relay.ports", &format!("{ports:?}"));
    }
    for (text, expected) in [
        (
            "allocation-default-address-family=\"ipv4\"",
            Verdict::Needless,
        ),
        ("allocation-default-address-family=keep", Verdict::Missing),
    ] {
        assert_eq!(finding(text).0, expected, "{text}");
    }
    assert_invalid(
        "max-port=40000",
        "\"49152-40000\" runs backwards; write the lower port first, e.g. \"40000-49152\"",
    );
    assert_invalid(
        "min-port=1023",
        "\"1023-65535\" reaches below 1024, where system services live; start at 1024 or \
             above, e.g. \"49152-65535\"",
    );
}

fn secrets(config: &Config) -> Vec<&str> {
    let secrets = config.auth.static_auth_secrets.iter();
    secrets.map(|secret| secret.expose_secret()).collect()
}

fn users(config: &Config) -> Vec<(&str, String)> {
    let users = config.auth.users.iter();
    users
        .map(|(name, credential)| {
            let shown = match credential {
                Credential::Plain(password) => password.expose_secret().to_owned(),
                Credential::Md5Key(key) => format!("{:02x?}", key.expose()),
            };
            (name.as_str(), shown)
        })
        .collect()
}

#[test]
fn secrets_are_taken_as_they_are() {
    let (import, config) =
        imported("static-auth-secret=\"one\"\nstatic-auth-secret = two # 2;\nuse-auth-secret=off");
    assert_eq!(secrets(&config), ["one", "two # 2;"]);
    assert!(import.findings[2].text.contains("it is on"));
    for (text, name) in [
        (
            "static-auth-secret",
            "it has no value; write a secret, or remove the line",
        ),
        (
            "stateless-nonce-secret=\"\"",
            "it has no value; write a secret, or remove the line",
        ),
    ] {
        assert_invalid(text, name);
    }
    let (import, config) = imported("use-auth-secret");
    assert!(config.auth.is_empty());
    assert!(
        import
            .notes
            .iter()
            .any(|note| note.contains("turnadmin -S"))
    );
    let (_, config) = imported("stateless-nonce-secret=fleet");
    assert_eq!(config.auth.nonce_secrets[0].expose_secret(), "fleet");
}

#[test]
fn users_are_those_that_coturn_accepts() {
    let key = "0x00112233445566778899aabbccddeeff";
    let (import, config) = imported(&format!(
        "realm=example.org\nuser=alice:first\nuser=bob: {key}\nuser=alice:pass:word"
    ));
    let bytes = "[00, 11, 22, 33, 44, 55, 66, 77, 88, 99, aa, bb, cc, dd, ee, ff]";
    let expected = [("alice", "pass:word".to_owned()), ("bob", bytes.to_owned())];
    let mut found = users(&config);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(
        import.findings[1].text,
        "line 4 replaces it: the name is the same"
    );
    assert_eq!(value(&config, "limits.allocations_per_user"), "16000");
    assert_eq!(value(&config, "limits.user_kbit_per_s"), "0");
    let open = |import: &Import| import.notes.iter().any(|note| note.contains("OPEN RELAY"));
    assert!(!open(&import));

    // A user with a secret beside it has never been let in, and is not by the import.
    let (import, config) = imported("lt-cred-mech\nuser=alice:wonderland\nstatic-auth-secret=s");
    assert!(users(&config).is_empty() && secrets(&config) == ["s"]);
    assert_eq!(import.findings[1].verdict, Verdict::Needless);
    assert!(!import.toml.contains("wonderland"));
    let (import, config) = imported("user=alice:wonderland\nno-auth");
    assert!(config.auth.is_empty() && open(&import));

    for (text, expected) in [
        (
            "user=alice",
            "it has no colon; write user=name:password or user=name:0xKEY",
        ),
        (
            "user=alice:",
            "user \"alice\" has an empty password; write a password or remove the user",
        ),
    ] {
        assert_invalid(text, expected);
    }
    let (import, _) = imported("user=alice:0x0011");
    let [finding] = &import.findings[..] else {
        panic!()
    };
    assert!(finding.verdict == Verdict::Invalid && finding.text.contains("exactly 32 hexadecimal"));
    let (import, _) = imported(&format!("user=alice:{key}"));
    assert!(
        import
            .notes
            .iter()
            .any(|note| note.contains("0x keys are made for a realm"))
    );
}

/// The worst that a file can say is said by saying nothing.
#[test]
fn an_open_relay_is_told_and_ends() {
    let open = |text: &str| {
        let (import, config) = imported(text);
        let told = import
            .notes
            .iter()
            .any(|note| note.contains("THIS COTURN IS AN OPEN RELAY"));
        assert_eq!(
            told,
            import.toml.contains("# NOTE: THIS COTURN IS AN OPEN RELAY")
        );
        (told, config.auth.is_empty())
    };
    for text in ["", "no-auth", "lt-cred-mech=no", "realm=example.org"] {
        assert_eq!(open(text), (true, true), "{text}");
    }
    for text in ["lt-cred-mech", "use-auth-secret", "stun-only"] {
        assert_eq!(open(text), (false, true), "{text}");
    }
    assert_eq!(open("static-auth-secret=s"), (false, false));
    let (import, _) = imported("lt-cred-mech");
    assert!(
        import
            .notes
            .iter()
            .any(|note| note.contains("turnadmin -l"))
    );
}

#[test]
fn realm_nonces_and_names() {
    assert_value("realm=first\nrealm\t=  north gov", "realm", "\"north gov\"");
    assert_value("stale-nonce", "auth.nonce_lifetime_s", "600");
    for (written, kept) in [(0, 3600), (29, 30), (30, 30), (3600, 3600), (3601, 3600)] {
        let text = format!("stale-nonce={written}");
        assert_value(&text, "auth.nonce_lifetime_s", &kept.to_string());
    }
    assert_value("rest-api-separator=!x", "auth.rest_separator", "\"!\"");
    for (text, expected) in [
        ("realm=", "it has no value; write one, or remove the line"),
        (
            "realm=a\"b",
            "contains a quote, a backslash or a control character; write your domain, e.g. \
             \"turn.example.org\"",
        ),
        (
            "stale-nonce=long",
            "\"long\" is not a whole number; write digits only",
        ),
        (
            "rest-api-separator=5",
            "\"5\" cannot separate expiry and name; write one ASCII character that is not a \
             digit, e.g. \":\"",
        ),
    ] {
        assert_invalid(text, expected);
    }
}

#[test]
fn peers() {
    for (text, allow, deny) in [
        (
            "denied-peer-ip=10.0.0.0-10.255.255.255",
            "[]",
            r#"["10.0.0.0/8"]"#,
        ),
        (
            "denied-peer-ip=8.8.8.7-8.8.8.10",
            "[]",
            r#"["8.8.8.7/32", "8.8.8.8/31", "8.8.8.10/32"]"#,
        ),
        ("denied-peer-ip=2001:db8::5", "[]", r#"["2001:db8::5/128"]"#),
        // What is allowed comes out of what is denied, as there it beats it.
        (
            "denied-peer-ip=8.8.8.0-8.8.8.3\nallowed-peer-ip=8.8.8.1",
            "[]",
            r#"["8.8.8.0/32", "8.8.8.2/31"]"#,
        ),
        (
            "denied-peer-ip=8.8.8.0-8.8.8.3\nallowed-peer-ip=8.8.8.0-8.8.9.255",
            "[]",
            "[]",
        ),
        // A private network is closed but for what is allowed.
        (
            "denied-peer-ip=10.0.0.0-10.255.255.255\nallowed-peer-ip=10.1.2.3",
            r#"["10.1.2.3/32"]"#,
            "[]",
        ),
        (
            "allowed-peer-ip=192.168.0.0-192.168.255.255",
            r#"["192.168.0.0/16"]"#,
            "[]",
        ),
        (
            "allowed-peer-ip=192.168.0.0/16",
            r#"["192.168.0.0/16"]"#,
            "[]",
        ),
        (
            "denied-peer-ip=8.8.0.0/16 # theirs",
            "[]",
            r#"["8.8.0.0/16"]"#,
        ),
        // Public addresses are open, but for this server's own.
        ("allowed-peer-ip=8.8.8.8", "[]", "[]"),
        (
            "relay-ip=10.0.0.5\ndenied-peer-ip=10.0.0.0-10.255.255.255\nallowed-peer-ip=10.0.0.5",
            r#"["10.0.0.5/32"]"#,
            "[]",
        ),
        (
            "listening-ip=8.8.8.8\ndenied-peer-ip=8.8.8.8-8.8.8.9\nallowed-peer-ip=8.8.8.8",
            r#"["8.8.8.8/32"]"#,
            r#"["8.8.8.9/32"]"#,
        ),
        (
            "external-ip=203.0.113.10/10.0.0.5\n\
             allowed-peer-ip=10.0.0.5\nallowed-peer-ip=203.0.113.10",
            r#"["10.0.0.5/32", "203.0.113.10/32"]"#,
            "[]",
        ),
        // What can never be opened is not cut out either.
        (
            "denied-peer-ip=127.0.0.0-127.255.255.255\nallowed-peer-ip=127.0.0.1",
            "[]",
            r#"["127.0.0.0/8"]"#,
        ),
    ] {
        assert_value(text, "peers.allow", allow);
        assert_value(text, "peers.deny", deny);
    }
    assert_value("allow-loopback-peers", "peers.allow_loopback", "true");
    for (text, expected) in [
        (
            "denied-peer-ip=10.0.0.9-10.0.0.1",
            "\"10.0.0.9-10.0.0.1\" is no range of addresses; write the lower address first, \
             and both of one family",
        ),
        (
            "denied-peer-ip=10.0.0.9-fd00::1",
            "\"10.0.0.9-fd00::1\" is no range of addresses; write the lower address first, and \
             both of one family",
        ),
        (
            "allowed-peer-ip=example.org",
            "\"example.org\" is not an IP address; write one such as 203.0.113.10: names are \
             not looked up",
        ),
    ] {
        assert_invalid(text, expected);
    }
    let (verdict, text) = finding("allowed-peer-ip=169.254.169.254");
    assert!(
        verdict == Verdict::Missing && text.contains("never peers"),
        "{text}"
    );
}

/// Guides deny all of them, and no call would work if that closed all of IPv4.
#[test]
fn mapped_addresses_that_guides_deny_are_no_bad_value() {
    for denied in [
        "::ffff:0.0.0.0-::ffff:255.255.255.255",
        "::ffff:10.0.0.1",
        "::ffff:0:0/96",
    ] {
        let text = format!("denied-peer-ip={denied}");
        assert_eq!(finding(&text).0, Verdict::Needless, "{denied}");
        assert_value(&text, "peers.deny", "[]");
    }
    // The part of a range that is more than these addresses is denied.
    assert_value(
        "denied-peer-ip=::ffff:0:0-::1:0:0:0",
        "peers.deny",
        r#"["::1:0:0:0/128"]"#,
    );
    let (verdict, text) = finding("allowed-peer-ip=::ffff:10.0.0.0-::ffff:10.0.0.255");
    assert!(
        verdict == Verdict::Missing && text.ends_with("public ones are open anyway"),
        "{text}"
    );
    let (_, text) = finding("allowed-peer-ip=::ffff:0.0.0.0-::ffff:255.255.255.255");
    assert!(!text.contains("0.0.0.0"), "{text}");
}

fn is_noted(text: &str, words: &str) -> bool {
    let (import, _) = imported(text);
    import.notes.iter().any(|note| note.contains(words))
}

/// Who relies on open private networks is told, and who has closed or opened them is not.
#[test]
fn private_networks_are_told_of() {
    let told = |text: &str| is_noted(text, "coturn relays to private networks");
    let all = "denied-peer-ip=10.0.0.0-10.255.255.255\ndenied-peer-ip=192.168.0.0-192.168.255.255\n\
               denied-peer-ip=172.16.0.0-172.31.255.";
    assert!(told("") && told(&format!("{all}254")));
    assert!(!told(&format!("{all}255")));
    assert!(!told(&format!(
        "{all}254\nallowed-peer-ip=172.31.255.0-172.31.255.255"
    )));
    assert!(!told("allowed-peer-ip=0.0.0.0-255.255.255.255"));
    assert!(told("allowed-peer-ip=10.0.0.0-10.255.255.255"));
}

/// A media server beside coturn is reached without a line, and here only with one.
#[test]
fn services_of_the_own_machine_are_told_of() {
    let told = |text: &str| is_noted(text, "other services of its own machine");
    let private = "listening-ip=8.8.8.8\ndenied-peer-ip=10.0.0.0-10.255.255.255\n\
                   denied-peer-ip=172.16.0.0-172.31.255.255\n\
                   denied-peer-ip=192.168.0.0-192.168.255.255";
    assert!(told("") && told(private));
    for allowed in [
        "listening-ip=8.8.8.8\nallowed-peer-ip=8.8.8.8",
        "allowed-peer-ip=10.0.0.5",
    ] {
        let (import, _) = imported(allowed);
        let remarks: Vec<String> = import.report().iter().map(ToString::to_string).collect();
        let remark = "every service of this machine at the address";
        assert!(
            remarks.iter().any(|told| told.contains(remark)),
            "{remarks:?}"
        );
    }
    // What cannot be opened is not lost in silence.
    let (import, config) = imported("listening-ip=127.0.0.1\nallowed-peer-ip=127.0.0.1");
    assert_eq!(config.peers.allow, []);
    assert_eq!(import.count(Verdict::Missing), 1);
}

/// Real differences are not buried under lines that say what is the default.
#[test]
fn what_is_the_default_is_no_difference() {
    for text in [
        "listening-port=3478",
        "user=a:b\nuser-quota=0",
        "software-attribute",
    ] {
        let (import, _) = imported(text);
        let remarks: Vec<String> = import.report().iter().map(ToString::to_string).collect();
        assert!(
            !remarks.iter().any(|told| told.contains("differs")),
            "{text}: {remarks:?}"
        );
    }
}

#[test]
fn limits() {
    for (text, key, expected) in [
        ("user-quota=12", "limits.allocations_per_user", "12"),
        ("total-quota=1200", "limits.allocations_total", "1200"),
        (
            "user=a:b\nuser-quota=12",
            "limits.allocations_per_user",
            "12",
        ),
        (
            "user=a:b\nuser-quota=0",
            "limits.allocations_per_user",
            "16000",
        ),
        // Bytes, rounded up: no tighter than coturn.
        ("max-bps=125", "limits.allocation_kbit_per_s", "1"),
        ("max-bps=126", "limits.allocation_kbit_per_s", "2"),
        ("max-bps=0", "limits.allocation_kbit_per_s", "0"),
        (
            "max-bps=12500000000",
            "limits.allocation_kbit_per_s",
            "100000000",
        ),
        ("max-bps=12500000001", "limits.allocation_kbit_per_s", "0"),
        (
            "max-bps=18446744073709551615",
            "limits.allocation_kbit_per_s",
            "0",
        ),
        ("max-allocate-lifetime", "limits.max_lifetime_s", "3600"),
        ("max-allocate-lifetime=599", "limits.max_lifetime_s", "600"),
        (
            "max-allocate-lifetime=7200",
            "limits.max_lifetime_s",
            "7200",
        ),
        (
            "max-allocate-lifetime=86401",
            "limits.max_lifetime_s",
            "86400",
        ),
    ] {
        assert_value(text, key, expected);
    }
    for (text, expected) in [
        (
            "user-quota=1000001",
            "1000001 is out of range; write 1 to 1000000",
        ),
        (
            "total-quota=many",
            "\"many\" is not a whole number; write digits only",
        ),
        (
            "max-bps=1.5",
            "\"1.5\" is not a whole number; write digits only",
        ),
    ] {
        assert_invalid(text, expected);
    }
    let (verdict, text) = finding("total-quota=0");
    assert!(
        verdict == Verdict::Missing && text.contains("limits.allocations_total = 16000"),
        "{text}"
    );
    for (text, expected) in [
        ("channel-lifetime", Verdict::Needless),
        ("channel-lifetime=601", Verdict::Missing),
        ("permission-lifetime=300", Verdict::Needless),
        ("permission-lifetime=600", Verdict::Missing),
    ] {
        assert_eq!(finding(text).0, expected, "{text}");
    }
}

#[test]
fn log_and_process() {
    for (text, key, expected) in [
        ("Verbose", "log.level", "\"debug\""),
        ("verbose", "log.level", "\"info\""),
        ("log-min-level=WARNING", "log.level", "\"warn\""),
        ("log-min-level=error\nVerbose", "log.level", "\"debug\""),
        ("relay-threads=0", "server.workers", "1"),
        ("relay-threads=2\ncpus=8", "server.workers", "2"),
        ("cpus=8", "server.workers", "8"),
        ("proc-user=relay", "server.user", "\"relay\""),
        (
            "proc-user=turnserver",
            "server.user",
            "\"(turnstone, else nobody)\"",
        ),
        ("no-software-attribute", "server.software", "\"\""),
        ("prod", "server.software", "\"\""),
        ("software-attribute=0", "server.software", "\"\""),
        ("software-attribute", "server.software", "\"turnstone\""),
    ] {
        assert_value(text, key, expected);
    }
    for (text, expected) in [
        ("relay-threads=257", "257 is out of range; write 1 to 256"),
        (
            "log-min-level=loud",
            "\"loud\" is not a level; write debug, info, warning or error",
        ),
        (
            "software-attribute=coturn",
            "\"coturn\" is neither on nor off; write on or off",
        ),
        (
            "proc-user=",
            "it has no value; write one, or remove the line",
        ),
    ] {
        assert_invalid(text, expected);
    }
    assert_eq!(finding("log-file=/var/log/turn.log").0, Verdict::Missing);
    assert_eq!(finding("log-file=stdout").0, Verdict::Needless);
}

#[test]
fn what_nobody_knows_is_told_without_what_may_be_secret() {
    for (text, name, expected) in [
        (
            "static-auth-secert=hush",
            "static-auth-secert",
            "if static-auth-secret was meant",
        ),
        (
            "static-auth-secret:hush",
            "static-auth-secret",
            "if static-auth-secret was meant",
        ),
        ("user: hush", "user", "if user was meant"),
        ("--verbose", "--verbose", "if verbose was meant"),
        ("this is no option", "this", "remove it"),
        ("a-name-of-16-byte", "a-name-o...", "remove it"),
        ("a-name-of-16-byt", "a-name-of-16-byt", "remove it"),
        (
            "4b1f9c27e86dhush4b1f9c27e86d03a5f27",
            "4b1f9c27...",
            "remove it",
        ),
    ] {
        let (import, _) = imported(text);
        let [finding] = &import.findings[..] else {
            panic!()
        };
        assert_eq!(
            (finding.verdict, finding.option.as_str()),
            (Verdict::Unknown, name)
        );
        assert!(finding.text.contains(expected), "{}", finding.text);
        assert!(!import.toml.contains("hush"), "{}", import.toml.as_str());
    }
}
