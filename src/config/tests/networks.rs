//! The lists of networks: what is refused, and what is only wondered at.

use super::*;

/// SEC-06, ACL-02
#[test]
fn rules_are_read_and_shown_with_their_ports() {
    let toml = "[peers]\nallow = [\"10.0.0.0/8:5000-6000\", \"[fd00::1]:5000\"]\n\
                deny = [\"10.1.0.0/16\", \"fd00::1:5000\"]\n[clients]\ndeny = \"192.0.2.1\"";
    let trial = Trial::new(toml);
    let shown = trial.load().config.to_toml();
    for line in [
        "allow = [\"10.0.0.0/8:5000-6000\", \"[fd00::1/128]:5000\"]",
        "deny = [\"10.1.0.0/16\", \"fd00::1:5000/128\"]",
        "deny = [\"192.0.2.1/32\"]",
    ] {
        assert!(shown.contains(line), "{line} is not in {shown}");
    }
    assert_eq!(trial.warnings(), Vec::<String>::new());
}

/// SEC-06, ACL-01, ACL-02: a rule that cannot be read stops the start.
#[test]
fn what_is_no_network_is_refused_in_every_list() {
    for key in ["peers.allow", "peers.deny", "clients.allow", "clients.deny"] {
        for wrong in [
            "10.0.0.0/33",
            "10.0.0.1/8",
            "localhost",
            "::ffff:10.0.0.1",
            "",
        ] {
            let errors = Trial::new(&format!("{key} = [\"{wrong}\"]")).errors();
            assert_eq!(errors.len(), 1, "{wrong}: {errors:?}");
            assert!(errors[0].contains(key), "{errors:?}");
        }
    }
    assert_error(
        "peers.deny = \"fd00::/8:5000\"",
        "turnserver.toml:1: peers.deny: \"fd00::/8:5000\" leaves open where the IPv6 address ends \
         and the port begins; write \"[fd00::/8]:5000\"",
    );
    assert_error(
        "clients.deny = \"10.0.0.1:5000\"",
        "turnserver.toml:1: clients.deny: \"10.0.0.1:5000\" is not a network in CIDR notation; \
         write address/length, e.g. \"10.0.0.0/8\" or \"fd00::/8\"",
    );
}

/// SEC-05
#[test]
fn what_is_never_opened_is_refused() {
    for never in [
        "127.0.0.1:5000",
        "100.100.100.200",
        "168.63.129.16",
        "fd00:ec2::/32",
        "240.0.0.0/4",
        "2002::/16",
        "2001::/32",
        "64:ff9b:1::/48",
        "fec0::/10",
        "::",
    ] {
        let errors = Trial::new(&format!("peers.allow = [\"{never}\"]")).errors();
        assert_eq!(errors.len(), 1, "{never}");
    }
    for (network, what) in [
        ("fe80::/10", "is link-local"),
        ("169.254.0.0/16", "is link-local"),
        ("169.254.169.254", "is where cloud hosts"),
        ("169.254.170.2", "is where cloud hosts"),
        ("100.100.100.200", "is where cloud hosts"),
    ] {
        let errors = Trial::new(&format!("peers.allow = [\"{network}\"]")).errors();
        assert!(errors[0].contains(what), "{errors:?}");
    }
}

#[track_caller]
fn assert_warning(toml: &str, expected: &str) {
    let warnings = Trial::new(toml).warnings();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains(expected), "{}", warnings[0]);
}

#[test]
fn entries_that_do_not_do_what_they_seem_to() {
    for (toml, expected) in [
        ("peers.allow = \"0.0.0.0/0\"", "opens every private network"),
        ("peers.allow = \"8.0.0.0/5\"", "opens every private network"),
        ("peers.allow = \"::/0\"", "opens every private network"),
        (
            "peers.allow = \"8.8.8.0/24\"",
            "is public, and open without it",
        ),
        (
            "peers.allow = \"2606::/16\"",
            "is public, and open without it",
        ),
        (
            "peers.allow = \"10.1.0.0/16:5\"\npeers.deny = \"10.0.0.0/8\"",
            "is closed again by peers.deny, which has 10.0.0.0/8",
        ),
        (
            "peers.deny = \"203.0.113.0/24:1-50000\"",
            "has 203.0.113.10, the relay address",
        ),
        (
            "relay.addresses = \"10.0.0.5\"\nrelay.external = { \"10.0.0.5\" = \"9.9.9.9\" }\n\
             peers.deny = \"10.0.0.0/8\"",
            "has 10.0.0.5, the relay address",
        ),
        (
            "clients.deny = \"0.0.0.0/0\"",
            "no client is served over IPv4",
        ),
        ("clients.deny = \"::/0\"", "no client is served over IPv6"),
        (
            "clients.allow = \"192.0.2.1\"\nclients.deny = \"192.0.2.0/24\"",
            "is shut out again by clients.deny, which has 192.0.2.0/24",
        ),
    ] {
        assert_warning(toml, expected);
    }
    let warning = &Trial::new("\npeers.allow = [\"10.0.0.0/8\",\n\"8.8.8.8\"]").warnings()[0];
    assert!(
        warning.contains("turnserver.toml:3: peers.allow: "),
        "{warning}"
    );
}

#[test]
fn entries_that_do_what_they_seem_to() {
    for toml in [
        "peers.allow = [\"10.0.0.0/8\", \"fc00::/7\", \"172.0.0.0/8\", \"64:ff9b::/96\"]",
        // This machine's own addresses.
        "peers.allow = [\"203.0.113.10\", \"2001:db8::10\"]\npeers.deny = \"8.8.8.8\"",
        "peers.allow = \"10.0.0.0/8\"\npeers.deny = [\"10.0.0.0/8:53\", \"10.1.0.0/16\"]",
        "peers.deny = \"203.0.113.10:53\"",
        "clients.allow = \"192.0.2.0/24\"\nclients.deny = \"192.0.2.1\"",
    ] {
        assert_eq!(Trial::new(toml).warnings(), Vec::<String>::new(), "{toml}");
    }
}
