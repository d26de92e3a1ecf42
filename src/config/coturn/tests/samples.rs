//! Whole files, as they are found on servers.

use super::*;

const GUIDE: &str = include_str!("../../../../tests/data/coturn/guide.conf");
const GUIDE_TOML: &str = include_str!("../../../../tests/data/coturn/guide.toml");
const OFFICE: &str = include_str!("../../../../tests/data/coturn/office.conf");

/// The file after one of the usual guides, to the letter of the result.
#[test]
fn the_guide() {
    let (import, config) = imported(GUIDE);
    assert!(import.is_complete());
    let import = super::import("guide.conf", GUIDE, &host());
    assert_eq!(import.toml.as_str(), GUIDE_TOML);
    assert_eq!(config.realm, "turn.example.org");
    assert_eq!(
        config.relay.external,
        [(address("10.0.0.5"), address("203.0.113.10"))]
    );
    assert_eq!(config.auth.static_auth_secrets.len(), 1);
    assert_eq!(config.limits.allocation_kbit_per_s, 12_000);
}

/// A file of long standing, with users, lists, comments and mistakes.
#[test]
fn the_office() {
    let (import, config) = imported(OFFICE);
    assert!(!import.is_complete());
    let counts = [
        Verdict::Translated,
        Verdict::Needless,
        Verdict::Missing,
        Verdict::Unknown,
        Verdict::Invalid,
    ]
    .map(|verdict| import.count(verdict));
    assert_eq!(counts, [17, 5, 3, 1, 2]);
    assert_eq!(config.auth.users.len(), 2);
    let denied: Vec<String> = config.peers.deny.iter().map(ToString::to_string).collect();
    assert_eq!(denied, ["9.9.9.0/25", "9.9.9.128/26", "9.9.9.192/28"]);
    // The operator's words stay with what they are about, and a switched-off password does not.
    let toml = import.toml.as_str();
    assert!(
        toml.contains("# the conference room\n\"room\" = "),
        "{toml}"
    );
    assert!(!toml.contains("retired"));
    assert!(toml.starts_with("# TURN for the office, see the wiki\n"));
}

/// What is told never holds a secret.
#[test]
fn no_secret_is_told() {
    for text in [GUIDE, OFFICE] {
        let (import, _) = imported(text);
        let mut told: Vec<String> = import.report().iter().map(ToString::to_string).collect();
        told.extend(import.notes.iter().cloned());
        let told = told.join("\n");
        for secret in [
            "3f8a1c0d9b7e4f25",
            "room-password",
            "00112233445566",
            "hush",
        ] {
            assert!(!told.contains(secret), "{told}");
        }
    }
}
