//! `docs/advisories.md` and the limits of `docs/security.md` against the tests and the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::{Tests, every_test};

/// Tests in these modules exist for the sake of the table, and so are in it.
const MODULES: [&str; 4] = [
    "it::attacks::",
    "sim::scenario::attacks::",
    "sim::scenario::randomness::",
    "sim::scenario::reflection::",
];

/// The cells of the lines of every table below a heading that starts with `| first |`.
fn rows<'a>(document: &'a str, first: &str) -> Vec<Vec<&'a str>> {
    let head = format!("| {first} |");
    let mut rows = Vec::new();
    let mut inside = false;
    for line in document.lines() {
        if !line.starts_with('|') {
            inside = false;
        } else if line.starts_with(&head) {
            inside = true;
        } else if inside && !line.starts_with("|---") {
            let line = line.strip_prefix('|').unwrap();
            let line = line.strip_suffix('|').unwrap_or(line);
            rows.push(line.split('|').map(str::trim).collect());
        }
    }
    rows
}

/// Keys of the configuration with their defaults, as the example has them, by the key's full name.
fn keys(example: &str) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let mut section = String::new();
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, value)) = line
            .strip_prefix("# e.g. ")
            .or_else(|| line.strip_prefix('#'))
            .and_then(|line| line.split_once(" = "))
            && key
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.insert(format!("{section}{key}"), value.to_owned());
        }
    }
    keys
}

fn unquoted(text: &str) -> Option<&str> {
    text.strip_prefix('`')?.strip_suffix('`')
}

/// What is wrong with the proof of a row; its tests go to `cited`.
fn wrong_proof(proof: &str, tests: &Tests, cited: &mut BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(reason) = proof.strip_prefix("none:") {
        if reason.trim().is_empty() {
            wrong.push("no test, and no reason".to_owned());
        }
        return wrong;
    }
    for name in proof.split(',').map(str::trim) {
        match unquoted(name) {
            None => wrong.push(format!("{name:?} is no test, and no reason")),
            Some(name) if !tests.contains_key(name) => {
                wrong.push(format!("there is no test {name}"));
            }
            Some(name) => {
                cited.insert(name.to_owned());
            }
        }
    }
    wrong
}

/// What is wrong with the tables of attacks.
fn wrong_attacks(document: &str, tests: &Tests) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut listed, mut cited) = (BTreeSet::new(), BTreeSet::new());
    for row in rows(document, "id") {
        let [id, what, here, proof] = row[..] else {
            wrong.push(format!("{}: {} cells instead of 4", row[0], row.len()));
            continue;
        };
        if id.is_empty() || what.is_empty() || here.is_empty() {
            wrong.push(format!("{id}: an empty cell"));
        }
        if !listed.insert(id) {
            wrong.push(format!("{id}: is there twice"));
        }
        let proof = wrong_proof(proof, tests, &mut cited);
        wrong.extend(proof.into_iter().map(|it| format!("{id}: {it}")));
    }
    for name in tests.keys() {
        if MODULES.iter().any(|module| name.starts_with(module)) && !cited.contains(name) {
            wrong.push(format!("{name}: is in no row"));
        }
    }
    wrong
}

/// What is wrong with the table of limits: it has all of them, with the values of the example.
fn wrong_limits(document: &str, keys: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::new();
    for row in rows(document, "limit") {
        let [key, value, effect] = row[..] else {
            wrong.push(format!("{}: {} cells instead of 3", row[0], row.len()));
            continue;
        };
        let Some(name) = unquoted(key) else {
            wrong.push(format!("{key:?} names no key"));
            continue;
        };
        listed.insert(name);
        match keys.get(name) {
            None => wrong.push(format!("{name} does not exist")),
            Some(default) if default != value => {
                wrong.push(format!("{name} is {default} and not {value}"));
            }
            Some(_) => {}
        }
        if value.is_empty() || effect.is_empty() {
            wrong.push(format!("{name}: an empty cell"));
        }
    }
    for key in keys.keys().filter(|key| key.starts_with("limits.")) {
        if !listed.contains(key.as_str()) {
            wrong.push(format!("{key} is not listed"));
        }
    }
    wrong
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn the_attacks_have_their_tests() {
    let document = read("docs/advisories.md");
    let tests = every_test();
    assert!(
        rows(&document, "id").len() > 60,
        "the tables were not found"
    );
    let wrong = wrong_attacks(&document, &tests);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_limits_are_those_of_the_configuration() {
    let document = read("docs/security.md");
    let keys = keys(&read("turnserver.toml.example"));
    assert!(
        rows(&document, "limit").len() > 10,
        "the table was not found"
    );
    let wrong = wrong_limits(&document, &keys);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_row_of_attacks_is_found() {
    let tests: Tests = ["it::attacks::first", "it::other::second"]
        .map(|name| (name.to_owned(), BTreeSet::new()))
        .into();
    let head = "| no table |\n\n| id | what | here | proof |\n|---|---|---|---|\n";
    let first = "| A | b | c | `it::attacks::first`, `it::other::second` |\n";
    let right = format!("{head}{first}| B | b | c | none: because |\n");
    assert_eq!(wrong_attacks(&right, &tests), [""; 0]);

    let cases = [
        ("| C | b | c | |", "C: \"\" is no test"),
        (
            "| C | b | c | `it::attacks::third` |",
            "C: there is no test it::attacks::third",
        ),
        (
            "| C | b | c | it::attacks::first |",
            "is no test, and no reason",
        ),
        (
            "| C | b | c | not applicable |",
            "is no test, and no reason",
        ),
        ("| C | b | c | none: |", "C: no test, and no reason"),
        ("| C | | c | none: because |", "C: an empty cell"),
        ("| C | b | | none: because |", "C: an empty cell"),
        ("| A | b | c | none: because |", "A: is there twice"),
        ("| C | b | none: because |", "C: 3 cells instead of 4"),
    ];
    for (line, expected) in cases {
        let found = wrong_attacks(&format!("{right}{line}\n"), &tests);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].contains(expected), "{line}: {found:?}");
    }
    let without = format!("{head}| B | b | c | none: because |\n");
    let found = wrong_attacks(&without, &tests);
    assert_eq!(found, ["it::attacks::first: is in no row"]);
}

#[test]
fn a_wrong_limit_is_found() {
    let keys = keys("# Words = words\n#realm = \"a\"\n[limits]\n#here = 5\n\n# e.g. there = [1]\n");
    assert_eq!(
        keys.iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect::<Vec<_>>(),
        ["limits.here=5", "limits.there=[1]", "realm=\"a\""]
    );
    let head = "| limit | default | what |\n|---|---|---|\n";
    let right = format!("{head}| `limits.here` | 5 | a |\n| `limits.there` | [1] | a |\n");
    assert_eq!(wrong_limits(&right, &keys), [""; 0]);
    let cases = [
        (
            "`limits.here` | 5 |",
            "`limits.here` | 6 |",
            "limits.here is 5 and not 6",
        ),
        (
            "| `limits.there`",
            "| `limits.later` | 7 | a |\n| `limits.there`",
            "limits.later does not exist",
        ),
        (
            "| `limits.there` | [1] | a |\n",
            "",
            "limits.there is not listed",
        ),
        ("| 5 | a |", "| 5 | |", "limits.here: an empty cell"),
    ];
    for (from, to, expected) in cases {
        let found = wrong_limits(&right.replace(from, to), &keys);
        assert!(
            found.len() == 1 && found[0].contains(expected),
            "{to}: {found:?}"
        );
    }
}
