//! The table of options: against lists of coturn's, against the rules, and against the manual.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::options::{CoturnOption, Fate, OPTIONS, SECTIONS, find};
use super::*;

const MANUAL: &str = include_str!("../../../../docs/migration.md");

/// What the tables of long options in the two versions hold.
const DEBIAN: &str = include_str!("../../../../tests/data/coturn/options-4.6.1.txt");
const NEWER: &str = include_str!("../../../../tests/data/coturn/options-since.txt");

fn names(list: &str) -> BTreeSet<&str> {
    list.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn every_option_of_coturn_is_in_the_table() {
    let (debian, newer) = (names(DEBIAN), names(NEWER));
    assert_eq!(debian.len(), 111);
    let known: BTreeSet<&str> = OPTIONS.iter().map(|option| option.name).collect();
    assert_eq!(known.len(), OPTIONS.len(), "no option is there twice");
    let all: BTreeSet<&str> = debian.union(&newer).copied().collect();
    let missing: Vec<_> = all.difference(&known).collect();
    assert_eq!(missing, [&""; 0]);
    let invented: Vec<_> = known.difference(&all).collect();
    assert_eq!(invented, [&""; 0], "a list says which coturn has it");
}

/// A value that is not the default and that the option takes.
fn sample(option: &CoturnOption) -> &'static str {
    match option.name {
        "listening-ip" | "relay-ip" => "10.0.0.5",
        "listening-port" => "3479",
        "aux-server" => "10.0.0.5:443",
        "tls-listening-port" => "5350",
        "cert" | "pkey" => "/etc/turnstone/none.pem",
        "external-ip" => "203.0.113.10/10.0.0.5",
        "min-port" | "max-port" => "50000",
        "realm" => "example.org",
        "static-auth-secret" | "stateless-nonce-secret" => "8f3c07d1b85e42aa9f3c07d1b85e42aa",
        "user" => "alice:wonderland",
        "rest-api-separator" => "!",
        "allowed-peer-ip" | "denied-peer-ip" => "172.16.0.0-172.31.255.255",
        "log-min-level" => "warning",
        "relay-threads" | "cpus" => "2",
        "proc-user" => "relay",
        "software-attribute" => "off",
        _ if option.is_switch => "",
        _ => "600",
    }
}

#[test]
fn an_option_becomes_the_keys_of_its_row() {
    for option in OPTIONS {
        let mut text = format!("{}={}\n", option.name, sample(option));
        if option.name == "allowed-peer-ip" {
            text.push_str("denied-peer-ip=0.0.0.0-255.255.255.255\n");
        }
        for (name, with) in [
            ("tls-listening-port", ["cert", "pkey"]),
            ("cert", ["pkey", ""]),
            ("pkey", ["cert", ""]),
        ] {
            if option.name == name {
                for name in with.into_iter().filter(|name| !name.is_empty()) {
                    text.push_str(&format!("{name}=/etc/turnstone/none.pem\n"));
                }
            }
        }
        if option.name == "use-auth-secret" {
            text.push_str("static-auth-secret=8f3c07d1b85e42aa9f3c07d1b85e42aa\n");
        }
        let (import, _) = imported(&text);
        let finding = &import.findings[0];
        match option.fate {
            Fate::Becomes(keys) => {
                assert_eq!(finding.verdict, Verdict::Translated, "{finding:?}");
                let document: toml::Table = toml::from_str(&import.toml).unwrap();
                for key in keys {
                    let is_set = match key.split_once('.') {
                        Some((section, name)) => {
                            document.get(section).is_some_and(|s| s.get(name).is_some())
                        }
                        None => document.contains_key(*key),
                    };
                    assert!(
                        is_set,
                        "{} sets {key}:\n{}",
                        option.name,
                        import.toml.as_str()
                    );
                }
            }
            Fate::Needless => assert_eq!(finding.verdict, Verdict::Needless, "{finding:?}"),
            Fate::Missing => {
                // What the RFC has anyway is not missed.
                let is_usual = option.name == "channel-lifetime";
                let verdict = if is_usual {
                    Verdict::Needless
                } else {
                    Verdict::Missing
                };
                assert_eq!(finding.verdict, verdict, "{finding:?}");
                assert!(!finding.text.is_empty());
            }
        }
        assert!(SECTIONS.contains(&option.section));
    }
}

#[test]
fn a_switch_that_is_off_changes_nothing() {
    for option in OPTIONS.iter().filter(|option| option.is_switch) {
        let (verdict, text) = finding(&format!("{}=no", option.name));
        assert_eq!(verdict, Verdict::Needless, "{}: {text}", option.name);
        let (verdict, text) = finding(&format!("{} perhaps", option.name));
        let expected = (
            Verdict::Invalid,
            "\"perhaps\" is neither on nor off; write on or off",
        );
        assert_eq!((verdict, text.as_str()), expected, "{}", option.name);
    }
}

/// The rows of the manual. Options of a section of which the same is to be said share one.
fn rows() -> BTreeSet<String> {
    let mut rows: BTreeMap<(&str, String, &str), Vec<String>> = BTreeMap::new();
    for option in OPTIONS {
        let becomes = match option.fate {
            Fate::Becomes(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                keys.join(", ")
            }
            Fate::Needless => "not needed".to_owned(),
            Fate::Missing => "no".to_owned(),
        };
        let same = rows.entry((option.section, becomes, option.note));
        same.or_default().push(format!("`{}`", option.name));
    }
    let rows = rows.into_iter();
    rows.map(|((_, becomes, note), names)| format!("| {} | {becomes} | {note} |", names.join(", ")))
        .collect()
}

#[test]
fn the_manual_has_the_table() {
    let section = MANUAL.split("\n## Options\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let shown = section.lines().filter(|line| line.starts_with("| `"));
    let shown: BTreeSet<String> = shown.map(str::to_owned).collect();
    let expected = rows();
    let missing: Vec<_> = expected.difference(&shown).collect();
    let stale: Vec<_> = shown.difference(&expected).collect();
    assert!(missing.is_empty(), "rows are missing:\n{missing:#?}");
    assert!(
        stale.is_empty(),
        "rows that are not in the table:\n{stale:#?}"
    );
}

#[test]
fn notes_name_keys_that_there_are() {
    for option in OPTIONS {
        let marked = option.note.split('`').skip(1).step_by(2);
        let becomes = match option.fate {
            Fate::Becomes(keys) => keys,
            _ => &[],
        };
        for key in marked.chain(becomes.iter().copied()) {
            let known = crate::config::schema::find(key);
            assert!(known.is_some(), "{}: {key}", option.name);
        }
    }
}

fn any_line() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        8 => (0..OPTIONS.len()).prop_map(|index| OPTIONS[index].name.to_owned()),
        1 => "[a-zA-Z#-]{0,12}",
    ];
    let number = prop_oneof![
        (0..100_000_u32).prop_map(|number| number.to_string()),
        any::<u64>().prop_map(|number| number.to_string()),
    ];
    let address = any::<IpAddr>().prop_map(|ip| ip.to_string());
    let value = prop_oneof![
        Just(String::new()),
        number.clone(),
        address.clone(),
        (address.clone(), address.clone()).prop_map(|(a, b)| format!("{a}-{b}")),
        (address.clone(), address.clone()).prop_map(|(a, b)| format!("{a}/{b}")),
        (address, 0..200_u8).prop_map(|(ip, length)| format!("{ip}/{length}")),
        "(alice|bob|\\PC{0,3}):(0x)?[0-9a-f]{30,33}",
        "\\PC{0,20}",
        "[\\x01-\\x09\\x0b\\x0c\\x0e-\\x7f]{0,12}",
    ];
    (name, "[ =\t]{1,2}", value).prop_map(|(name, separator, value)| {
        format!("{name}{separator}{}", value.replace(['\n', '\r'], ""))
    })
}

proptest! {
    /// Whatever a file holds, its import loads, and every line has a verdict.
    #[test]
    fn the_import_of_any_file_loads(lines in prop::collection::vec(any_line(), 0..12)) {
        imported(&lines.join("\n"));
    }
}

#[test]
fn names_are_found_as_coturn_finds_them() {
    assert!(find("Verbose").is_some() && find("verbose").is_some());
    assert!(find("VERBOSE").is_none());
}
