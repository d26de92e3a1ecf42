//! The import as a whole, and each option by itself.

mod each;
mod samples;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::config::{Config, Sources, load};

/// A machine behind 1:1 NAT.
fn host() -> Host {
    Host {
        route_sources: vec![address("10.0.0.5")],
        interface_addresses: vec![],

        local_networks: vec![],
        unknown_networks: None,
        ipv6: true,
        cpus: 4,
        bindable: |_| true,
        has_user: |_| true,
        is_elsewhere: true,
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Imports a file, and asserts what must hold for every file: the result loads, every line has one
/// finding, and the result names it.
#[track_caller]
fn imported(text: &str) -> (Import, Config) {
    let import = import("turnserver.conf", text, &host());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("turnserver.toml");
    fs::write(&file, import.toml.as_bytes()).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    let loaded = load(&sources, &host())
        .unwrap_or_else(|problems| panic!("{problems}\n{}", import.toml.as_str()));

    let is_option = |line: &&str| !(line.trim().is_empty() || line.trim().starts_with('#'));
    let options = text.lines().filter(is_option).count();
    assert_eq!(import.findings.len(), options, "{:?}", import.findings);
    assert_eq!(import.idle_lines, text.lines().count() - options);
    let named: BTreeSet<usize> = numbers(&import.toml);
    for finding in &import.findings {
        assert!(
            named.contains(&finding.line),
            "{finding:?} is not in\n{}",
            import.toml.as_str()
        );
    }
    (import, loaded.config)
}

/// The numbers of lines that a result names: `# 3: name=value` before a key, `# 3, 4` behind one.
fn numbers(toml: &str) -> BTreeSet<usize> {
    let comments = toml.lines().filter_map(|line| line.rsplit_once("# "));
    let behind = comments.flat_map(|(_, comment)| comment.split(", "));
    let before = toml
        .lines()
        .filter_map(|line| line.strip_prefix("# ")?.split(':').next());
    behind
        .chain(before)
        .filter_map(|number| number.parse().ok())
        .collect()
}

/// A value of the resulting configuration, in TOML.
fn value(config: &Config, key: &str) -> String {
    let table: toml::Table = toml::from_str(&config.to_toml()).unwrap();
    let found = match key.split_once('.') {
        Some((section, name)) => table[section].get(name),
        None => table.get(key),
    };
    found.unwrap_or_else(|| panic!("{key}")).to_string()
}

/// The one finding of a file with one option.
#[track_caller]
fn finding(text: &str) -> (Verdict, String) {
    let (mut import, _) = imported(text);
    assert_eq!(import.findings.len(), 1);
    let finding = import.findings.remove(0);
    (finding.verdict, finding.text)
}

/// Each line of the one option cuts each of the other: neither time nor the result may grow with
/// their product.
#[test]
fn networks_are_bounded() {
    use std::fmt::Write;

    let mut text = String::new();
    for number in 0..400_u32 {
        let [_, _, high, low] = number.to_be_bytes();
        writeln!(
            text,
            "denied-peer-ip=0.0.0.{}-255.255.255.{low}",
            number % 7
        )
        .unwrap();
        writeln!(text, "allowed-peer-ip=8.{high}.{low}.8").unwrap();
    }
    let (import, config) = imported(&text);
    assert!(config.peers.deny.len() <= 4096);
    let refused = import.count(Verdict::Invalid);
    assert!(refused > 0 && !import.is_complete());

    let lines = "allowed-peer-ip=8.8.8.8\n".repeat(1001);
    let (import, _) = imported(&lines);
    assert_eq!(import.count(Verdict::Invalid), 1);
    assert_eq!(import.findings[1000].verdict, Verdict::Invalid);
}
