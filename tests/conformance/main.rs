//! `docs/conformance.md` against the tests: what the table calls tested has tests that exist and say
//! so, and what tests say they are about is in the table. Likewise `docs/advisories.md`.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod advisories;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    id: String,
    state: String,
    tests: Vec<String>,
}

/// The requirements of each test, by its full name.
type Tests = BTreeMap<String, BTreeSet<String>>;

/// The names of requirements in a text: capital letters, a hyphen and two digits.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let is_id = |word: &&str| {
        word.split_once('-').is_some_and(|(group, number)| {
            !group.is_empty()
                && group.bytes().all(|byte| byte.is_ascii_uppercase())
                && number.len() == 2
                && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    words.filter(is_id).map(str::to_owned).collect()
}

/// The lines of every table in a document, or what is wrong with one.
fn rows(document: &str) -> Vec<Result<Row, String>> {
    let lines = document.lines().filter(|line| line.starts_with('|'));
    let content = lines.filter(|line| !line.starts_with("| id |") && !line.starts_with("|---"));
    content.map(row).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [id, requirement, _source, level, state, tests] = cells[..] else {
        return Err(format!("{line}: {} cells instead of 6", cells.len()));
    };
    if ids(id).len() != 1 || requirement.is_empty() {
        return Err(format!("{line}: no id or no requirement"));
    }
    if !["must", "should", "optional", "own"].contains(&level) {
        return Err(format!("{id}: {level:?} is no level"));
    }
    let tests = tests.split(',').map(|name| name.trim().trim_matches('`'));
    Ok(Row {
        id: id.to_owned(),
        state: state.to_owned(),
        tests: tests
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

/// The tests of a source file and what their doc comments cite.
fn tests_of(module: &str, source: &str) -> Tests {
    let mut tests = Tests::new();
    let (mut doc, mut is_test) = (String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            doc.push_str(text);
        } else if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") {
            if let Some((name, _)) = line.strip_prefix("fn ").and_then(|l| l.split_once('('))
                && is_test
            {
                tests.insert(format!("{module}::{name}"), ids(&doc));
            }
            (doc, is_test) = (String::new(), false);
        }
    }
    tests
}

/// Every test below a directory. `module` is the directory's own.
fn tests_below(directory: &Path, module: &str, tests: &mut Tests) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let inner = [module, stem]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("::");
        if path.is_dir() {
            tests_below(&path, &inner, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_root = ["mod", "main", "lib"].contains(&stem);
            let module = if is_root { module } else { &inner };
            tests.extend(tests_of(module, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What is wrong with a table.
fn complaints(document: &str, tests: &Tests) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut listed = BTreeSet::new();
    for row in rows(document) {
        let Row {
            id,
            state,
            tests: cited,
        } = match row {
            Ok(row) => row,
            Err(complaint) => {
                complaints.push(complaint);
                continue;
            }
        };
        let kind = state.split(':').next().unwrap_or_default();
        match kind {
            "tested" if cited.is_empty() => complaints.push(format!("{id}: tested by nothing")),
            "tested" | "not built" => {}
            "by design" | "deviates" if state.len() > kind.len() + 2 => {}
            "by design" | "deviates" => complaints.push(format!("{id}: {kind}, but why?")),
            _ => complaints.push(format!("{id}: {state:?} is no state")),
        }
        for name in cited {
            match tests.get(&name) {
                None => complaints.push(format!("{id}: there is no test {name}")),
                Some(ids) if !ids.contains(&id) => {
                    complaints.push(format!("{id}: {name} does not say that it is about it"));
                }
                Some(_) => {}
            }
        }
        if !listed.insert(id.clone()) {
            complaints.push(format!("{id}: is there twice"));
        }
    }
    for (name, ids) in tests {
        for id in ids.difference(&listed) {
            complaints.push(format!("{name}: {id} is not in the table"));
        }
    }
    complaints
}

/// Every test of the repository but those of these files, where wrong ones are in strings.
fn every_test() -> Tests {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Tests::new();
    tests_below(&root.join("src"), "", &mut tests);
    tests_below(&root.join("tests"), "", &mut tests);
    tests.retain(|name, _| !name.starts_with("conformance::"));
    tests
}

#[test]
fn the_table_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = every_test();
    let document = fs::read_to_string(root.join("docs/conformance.md")).unwrap();
    assert!(rows(&document).len() > 200, "the table was not found");
    assert!(tests.len() > 300, "the tests were not found");
    let complaints = complaints(&document, &tests);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn a_wrong_table_is_found() {
    let source = "
        /// MSG-01, MSG-02: a comment
        /// of two lines, and MSG-09.
        #[test]
        fn first() {}

        /// MSG-03
        fn no_test() {}

        /// SHA-256 is no requirement, nor is CVE-2020-4067.
        #[test]
        #[ignore]
        fn second() {}
    ";
    let tests = tests_of("it::sample", source);
    assert_eq!(tests.len(), 2);
    assert_eq!(tests["it::sample::first"].len(), 3);
    assert!(tests["it::sample::second"].is_empty());

    let head = "# Title\n\n| id | requirement | source | level | state | tests |\n|---|---|---|---|---|---|\n";
    let right = "| MSG-01 | a | 1 | must | tested | `it::sample::first` |\n\
                 | MSG-02 | b | 1 | own | by design: so | |\n\
                 | MSG-09 | c | | should | not built | |\n";
    assert_eq!(complaints(&format!("{head}{right}"), &tests), [""; 0]);

    let cases = [
        (
            "| MSG-01 | a | 1 | must | tested | |",
            "MSG-01: tested by nothing",
        ),
        (
            "| MSG-01 | a | 1 | must | tested | `it::sample::third` |",
            "MSG-01: there is no test it::sample::third",
        ),
        (
            "| MSG-01 | a | 1 | must | tested | `it::sample::first`, `it::sample::second` |",
            "MSG-01: it::sample::second does not say that it is about it",
        ),
        (
            "| MSG-03 | a | 1 | must | tested | `it::sample::no_test` |",
            "MSG-03: there is no test it::sample::no_test",
        ),
        (
            "| MSG-01 | a | 1 | must | by design | |",
            "MSG-01: by design, but why?",
        ),
        (
            "| MSG-01 | a | 1 | must | perhaps | |",
            "MSG-01: \"perhaps\" is no state",
        ),
        (
            "| MSG-01 | a | 1 | often | not built | |",
            "MSG-01: \"often\" is no level",
        ),
        (
            "| MSG-02 | b | 1 | own | not built | |",
            "MSG-02: is there twice",
        ),
        (
            "| MSG-01 | a | must | not built | |",
            "5 cells instead of 6",
        ),
        ("", "it::sample::first: MSG-01 is not in the table"),
    ];
    let without_first = right.split_once('\n').unwrap().1;
    for (line, expected) in cases {
        let found = complaints(&format!("{head}{without_first}{line}\n"), &tests);
        assert!(
            found.iter().any(|c| c.contains(expected)),
            "{line}: {found:?}"
        );
    }
}
