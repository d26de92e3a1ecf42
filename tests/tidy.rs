//! Rules of this repository that no compiler knows: who may name whom, how long a file gets, what
//! the documents say. Every rule is a function from text to complaints, and is tried below on text
//! that breaks it.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which modules of the crate a module may name. The longest matching entry counts; a module may
/// always name its own top-level module. A module without an entry is not allowed to exist.
const LAYERS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "acme", "admin", "config", "engine", "hooks", "https", "log", "metrics", "process",
            "state", "tls", "turn", "auth", "wire",
        ],
    ),
    // An ordinary client, which knows nothing of this server.
    ("cli::check", &["tls", "auth", "wire"]),
    ("engine", &["metrics", "turn", "auth", "wire"]),
    // Operators by HTTP.
    (
        "admin",
        &[
            "auth", "config", "engine", "log", "metrics", "tls", "turn", "wire",
        ],
    ),
    ("metrics", &["turn", "wire"]),
    // System calls know addresses and bytes.
    ("engine::udp", &[]),
    // What it sends is the core's events.
    ("hooks", &["https", "metrics", "turn"]),
    // What it gets is a pair for a store that it does not know.
    ("acme", &["https", "metrics", "state", "tls"]),
    ("https", &[]),
    ("state", &[]),
    ("log", &["config"]),
    ("config", &["turn", "auth", "process", "state", "tls"]),
    ("process", &[]),
    // Certificates; who reads their files says so.
    ("tls", &[]),
    ("turn", &["auth", "wire"]),
    ("auth", &["wire"]),
    ("wire", &[]),
];

/// The protocol core: no socket, no thread, no clock, no random source, no log.
const CORE: &[&str] = &["turn", "auth", "wire"];

/// Modules of `std` that the core has no use for, and other crates that it must not know.
const FORBIDDEN_STD: &[&str] = &["env", "fs", "io", "os", "process", "thread"];
const FORBIDDEN_WORDS: &[&str] = &[
    "Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "arc_swap",
    "clap",
    "getrandom",
    "landlock",
    "libc",
    "nix",
    "println",
    "eprintln",
    "rustix",
    "sd_notify",
    "socket2",
    "thread_rng",
    "tokio",
    "toml",
    "tracing",
];

/// Lines of a source file, tests not counted.
const FILE_LINES_MAX: usize = 800;

/// Directories that hold nothing of ours.
const SKIPPED: &[&str] = &[".git", "__pycache__", "node_modules", "target"];

/// Files made by tools, which name registries.
const LOCK_FILES: &[&str] = &["Cargo.lock", "package-lock.json"];

// ---------------------------------------------------------------------------------------------
// The repository
// ---------------------------------------------------------------------------------------------

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every text file, by its path from the root.
fn files() -> BTreeMap<String, String> {
    let (mut found, mut directories) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(root().join(&directory)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = directory.join(&name);
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                directories.push(path);
            } else if let Ok(text) = fs::read_to_string(entry.path()) {
                found.insert(path.to_str().unwrap().to_owned(), text);
            }
        }
    }
    found
}

/// The source files of the crate that are in the product, by module. `#[cfg(test)]` is taken out.
fn modules() -> BTreeMap<String, Module> {
    let all: BTreeMap<String, Module> = files()
        .into_iter()
        .filter(|(path, _)| path.starts_with("src/") && path.ends_with(".rs"))
        .map(|(path, text)| (module_of(&path), Module::new(path, text)))
        .collect();
    let for_tests: BTreeSet<String> = all
        .iter()
        .flat_map(|(name, module)| test_modules(name, &blank(&module.text)))
        .collect();
    let is_for_tests = |name: &str| {
        for_tests
            .iter()
            .any(|test| name == test || name.starts_with(&format!("{test}::")))
    };
    all.into_iter()
        .filter(|(name, _)| !is_for_tests(name))
        .collect()
}

struct Module {
    path: String,
    text: String,
    /// The text without comments, contents of literals and tests; the lines are where they were.
    code: String,
}

impl Module {
    fn new(path: String, text: String) -> Self {
        let code = without_tests(&blank(&text));
        Self { path, text, code }
    }
}

/// `src/turn/request/mod.rs` is `turn::request`; the crate's root is empty.
fn module_of(path: &str) -> String {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" => String::new(),
        path => path.replace('/', "::"),
    }
}

// ---------------------------------------------------------------------------------------------
// Reading Rust
// ---------------------------------------------------------------------------------------------

/// Replaces comments and the contents of literals by spaces.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let end = at + literal_or_comment(rest, at.checked_sub(1).map(|i| chars[i]));
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(
                chars[at..end]
                    .iter()
                    .map(|&c| if c == '\n' { c } else { ' ' }),
            );
            at = end;
        }
    }
    out
}

/// Characters of the comment or literal that starts here; 0 if none does.
fn literal_or_comment(rest: &[char], before: Option<char>) -> usize {
    let starts = |prefix: &str| {
        rest.iter()
            .copied()
            .zip(prefix.chars())
            .all(|(a, b)| a == b)
            && rest.len() >= prefix.len()
    };
    let until = |end: &[char], from: usize| {
        (from..rest.len())
            .find(|&i| rest[i..].starts_with(end))
            .map_or(rest.len(), |i| i + end.len())
    };
    if starts("//") {
        return rest.iter().position(|&c| c == '\n').unwrap_or(rest.len());
    }
    if starts("/*") {
        return until(&['*', '/'], 2);
    }
    if rest[0] == 'r' && !before.is_some_and(|c| is_word(c) && c != 'b') {
        let hashes = rest[1..].iter().take_while(|&&c| c == '#').count();
        if rest.get(1 + hashes) == Some(&'"') {
            let end: Vec<char> = std::iter::once('"')
                .chain(std::iter::repeat_n('#', hashes))
                .collect();
            return until(&end, 2 + hashes);
        }
    }
    if rest[0] == '"' {
        let mut i = 1;
        while i < rest.len() && rest[i] != '"' {
            i += if rest[i] == '\\' { 2 } else { 1 };
        }
        return (i + 1).min(rest.len());
    }
    match rest {
        // A character; a lifetime has no quote behind it.
        ['\'', '\\', ..] => until(&['\''], 3),
        ['\'', _, '\'', ..] => 3,
        _ => 0,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Blanks every item under `#[cfg(test)]` out of blanked code.
fn without_tests(code: &str) -> String {
    let mut out = code.to_owned();
    while let Some(start) = out.find("#[cfg(test)]") {
        let end = start + item_len(&out[start..]);
        let hole: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' })
            .collect();
        out.replace_range(start..end, &hole);
    }
    out
}

/// Bytes up to the end of the first item: its `;` or its closing brace.
fn item_len(code: &str) -> usize {
    let mut depth = 0;
    for (i, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return i + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return i + 1,
            _ => {}
        }
    }
    code.len()
}

/// Modules in files of their own that are declared under `#[cfg(test)]`.
fn test_modules(parent: &str, code: &str) -> Vec<String> {
    code.split("#[cfg(test)]")
        .skip(1)
        .filter_map(|item| {
            let item = &item[..item_len(item)];
            let name = item
                .trim()
                .strip_suffix(';')?
                .trim()
                .rsplit("mod ")
                .next()?;
            Some(join(parent, name.trim()))
        })
        .collect()
}

fn join(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}::{name}")
    }
}

/// Places where a word stands alone, with what follows it.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    code.match_indices(word).filter_map(move |(at, _)| {
        let rest = &code[at + word.len()..];
        let alone = !code[..at].chars().next_back().is_some_and(is_word)
            && !rest.chars().next().is_some_and(is_word);
        alone.then_some((at, rest))
    })
}

/// The names that follow `::`, one or a braced group of paths.
fn names_after(rest: &str) -> Vec<&str> {
    let Some(rest) = rest.trim_start().strip_prefix("::") else {
        return vec![];
    };
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else {
        return vec![first_name(rest)];
    };
    let (mut names, mut depth, mut start) = (vec![], 0, 0);
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                names.push(first_name(group[start..i].trim_start()));
                start = i + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn first_name(path: &str) -> &str {
    match path.chars().next() {
        Some('*') => "*",
        _ => &path[..path.find(|c| !is_word(c)).unwrap_or(path.len())],
    }
}

/// What a module names at the root of the crate.
fn named_at_root(module: &str, code: &str) -> BTreeSet<String> {
    let crate_name = if module == "main" {
        "turnstone"
    } else {
        "crate"
    };
    let mut named: BTreeSet<String> = words(code, crate_name)
        .flat_map(|(_, rest)| names_after(rest))
        .map(str::to_owned)
        .collect();
    let depth = module.split("::").count();
    for (at, mut rest) in words(code, "super") {
        if code[..at].trim_end().ends_with("super::") {
            continue;
        }
        let mut up = 1;
        while let Some(more) = rest.strip_prefix("::super") {
            (up, rest) = (up + 1, more);
        }
        if up >= depth {
            named.extend(names_after(rest).into_iter().map(str::to_owned));
        }
    }
    named
}

// ---------------------------------------------------------------------------------------------
// The rules for source
// ---------------------------------------------------------------------------------------------

fn check_layers(module: &str, code: &str) -> Vec<String> {
    let is_inside = |layer: &str| module == layer || module.starts_with(&format!("{layer}::"));
    let layer = LAYERS
        .iter()
        .filter(|(layer, _)| is_inside(layer))
        .max_by_key(|(layer, _)| layer.len());
    let Some((layer, allowed)) = layer else {
        return vec![format!("{module} has no place in LAYERS")];
    };
    let own = module.split("::").next().unwrap();
    named_at_root(module, code)
        .into_iter()
        .filter(|name| name != own && !allowed.contains(&name.as_str()))
        .map(|name| format!("{layer} may not name {name}"))
        .collect()
}

fn check_core(module: &str, code: &str) -> Vec<String> {
    if !CORE.contains(&module.split("::").next().unwrap()) {
        return vec![];
    }
    let std = words(code, "std").flat_map(|(_, rest)| names_after(rest));
    let std = std.filter(|name| FORBIDDEN_STD.contains(name));
    let std = std.map(|name| format!("std::{name} in the core"));
    let words = FORBIDDEN_WORDS.iter();
    let words = words.filter(|word| words_in(code, word));
    std.chain(words.map(|word| format!("{word} in the core")))
        .collect()
}

fn words_in(code: &str, word: &str) -> bool {
    words(code, word).next().is_some()
}

/// The data path of `wire` needs no heap.
fn check_heap(module: &str, code: &str) -> Vec<String> {
    if module.split("::").next() != Some("wire") {
        return vec![];
    }
    [
        "Box", "HashMap", "Rc", "Arc", "String", "Vec", "format", "vec",
    ]
    .into_iter()
    .filter(|word| words_in(code, word))
    .map(|word| format!("{word} in wire, which has no heap"))
    .collect()
}

fn check_length(code: &str) -> Vec<String> {
    // Tests and comments are blank lines by now, and comments count: so the text's lines do.
    let lines = code.lines().count();
    if lines > FILE_LINES_MAX {
        vec![format!(
            "{lines} lines without tests, more than {FILE_LINES_MAX}"
        )]
    } else {
        vec![]
    }
}

/// The text without the lines that only tests have.
fn product_lines(module: &Module) -> String {
    let with_tests = blank(&module.text);
    let lines = module
        .text
        .lines()
        .zip(with_tests.lines())
        .zip(module.code.lines());
    let kept = lines.filter(|((_, with), without)| with == without);
    kept.map(|((text, _), _)| format!("{text}\n")).collect()
}

fn check_header(path: &str, text: &str) -> Vec<String> {
    let header: Vec<&str> = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .collect();
    let header = header.join("\n");
    if header.is_empty() && !text.starts_with("#![doc = include_str!") {
        return vec!["does not begin with //! and what it owns".to_owned()];
    }
    let is_request = path.starts_with("src/turn/request/") && !path.ends_with("/mod.rs");
    if is_request && !(header.contains("RFC ") && header.contains('§')) {
        return vec!["a request's header cites its section: RFC n §n".to_owned()];
    }
    vec![]
}

fn check_reasons(text: &str) -> Vec<String> {
    let code = blank(text);
    ["allow", "expect"]
        .into_iter()
        .flat_map(|lint| words(&code, lint))
        .filter(|(at, _)| {
            let before = code[..*at].trim_end();
            before.ends_with("#[") || before.ends_with("#![")
        })
        .map(|(_, rest)| rest.split(']').next().unwrap())
        .filter(|attribute| !words_in(attribute, "reason"))
        .map(|attribute| format!("allow{} without a reason", attribute.trim()))
        .collect()
}

// ---------------------------------------------------------------------------------------------
// The rules for every file
// ---------------------------------------------------------------------------------------------

/// What no file may say. The words are in pieces, since this file is one of them.
fn check_words(path: &str, text: &str) -> Vec<String> {
    let leftovers = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let leftovers = leftovers.into_iter().filter(|word| words_in(text, word));
    let places = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
    ];
    let registries = [
        concat!("crates", ".io"),
        concat!("npmjs", ".org"),
        concat!("pypi", ".org"),
        concat!("pythonhosted", ".org"),
        concat!("proxy.golang", ".org"),
    ];
    let lower = text.to_lowercase();
    let trackers = [
        concat!("issue", " #"),
        concat!("pull request", " #"),
        concat!("ticket", " #"),
    ];
    let is_lock = LOCK_FILES.iter().any(|lock| path.ends_with(lock));
    let registries = registries.into_iter().filter(|_| !is_lock);
    leftovers
        .chain(places.into_iter().filter(|place| text.contains(place)))
        .chain(registries.filter(|host| text.contains(host)))
        .chain(trackers.into_iter().filter(|word| lower.contains(word)))
        .map(|found| format!("contains {found}"))
        .collect()
}

// ---------------------------------------------------------------------------------------------
// The rules for documents
// ---------------------------------------------------------------------------------------------

/// The architecture names every module, and no other. Its map is the lines that begin with
/// "- `module`".
fn check_map(map: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let named: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("- `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(|c| is_word(c) || c == ':'))
        .collect();
    let missing = modules.difference(&named);
    let stale = named.difference(modules);
    missing
        .map(|name| format!("does not name {name}"))
        .chain(stale.map(|name| format!("names {name}, which is not there")))
        .collect()
}

/// Fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(fence.as_str())
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .collect()
}

/// Spans of code in running text.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    let outside_blocks = text.split("```").step_by(2);
    outside_blocks.flat_map(|part| part.split('`').skip(1).step_by(2))
}

/// Links to files lead somewhere.
fn check_links(text: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    text.split("](")
        .skip(1)
        .map(|link| link.split([')', '#']).next().unwrap())
        .filter(|link| !link.is_empty() && !link.contains("://") && !exists(link))
        .map(|link| format!("links to {link}, which is not there"))
        .collect()
}

/// Keys named as `section.key` are keys of the example, which has every one.
fn check_keys(text: &str, example: &str) -> Vec<String> {
    let (mut section, mut known, mut sections) = ("", BTreeSet::new(), BTreeSet::new());
    for line in example.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            sections.insert(section);
        }
        let line = line
            .strip_prefix("# e.g. ")
            .or_else(|| line.strip_prefix('#'));
        if let Some((key, _)) = line.and_then(|line| line.split_once(" = ")) {
            known.insert(format!("{section}.{key}"));
        }
    }
    let is_name = |name: &str| !name.is_empty() && name.chars().all(is_word);
    spans(text)
        .filter(|span| {
            let parts = span.split_once('.');
            parts.is_some_and(|(section, key)| sections.contains(section) && is_name(key))
        })
        .filter(|span| !known.contains(*span))
        .map(|span| format!("names the key {span}, which there is not"))
        .collect()
}

/// Commands that are shown exist, and so do their options. `help` is `turnstone COMMAND --help`.
fn check_commands(text: &str, help: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let lines = blocks(text, "sh").into_iter().flat_map(str::lines);
    let commands = lines.chain(spans(text)).filter_map(|line| {
        let line = line.trim_start_matches("sudo ");
        Some(line.strip_prefix("turnstone ")?.split(" #").next().unwrap())
    });
    let mut complaints = vec![];
    for command in commands {
        let mut arguments = command.split_whitespace();
        let name = arguments.next().unwrap_or_default();
        let Some(help) = help(name) else {
            complaints.push(format!("turnstone {name} is no command"));
            continue;
        };
        let options = arguments.filter(|argument| argument.starts_with("--"));
        let unknown = options.filter(|option| !help.split_whitespace().any(|word| word == *option));
        complaints.extend(unknown.map(|option| format!("turnstone {name} has no {option}")));
    }
    complaints
}

/// The first cells of the tables below a heading, if they are code, are texts of the program.
fn check_quotes(text: &str, heading: &str, source: &str) -> Vec<String> {
    let Some((_, section)) = text.split_once(heading) else {
        return vec![format!("has no {heading}")];
    };
    let section = section.split("\n## ").next().unwrap();
    let cells = section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let cells: Vec<&str> = cells.map(|(cell, _)| cell).collect();
    if cells.is_empty() {
        return vec![format!("has no table below {heading}")];
    }
    cells
        .into_iter()
        .filter(|cell| {
            !source.contains(&format!("\"{cell}")) && !source.contains(&format!("{cell}\""))
        })
        .map(|cell| format!("quotes {cell:?}, which the program does not say"))
        .collect()
}

// ---------------------------------------------------------------------------------------------
// The repository keeps the rules
// ---------------------------------------------------------------------------------------------

fn assert_tidy(complaints: impl IntoIterator<Item = (String, Vec<String>)>) {
    let lines: Vec<String> = complaints
        .into_iter()
        .flat_map(|(path, found)| found.into_iter().map(move |what| format!("{path}: {what}")))
        .collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn source_is_tidy() {
    assert_tidy(modules().into_iter().map(|(name, module)| {
        let Module { path, text, code } = &module;
        let mut found = check_header(path, text);
        found.extend(check_length(&product_lines(&module)));
        if !name.is_empty() {
            found.extend(check_layers(&name, code));
            found.extend(check_core(&name, code));
            found.extend(check_heap(&name, code));
        }
        (path.clone(), found)
    }));
}

#[test]
fn every_file_is_tidy() {
    let files = files();
    assert!(files.contains_key("Cargo.toml") && files.contains_key("tests/tidy.rs"));
    assert_tidy(files.into_iter().map(|(path, text)| {
        let mut found = check_words(&path, &text);
        if path.ends_with(".rs") {
            found.extend(check_reasons(&text));
        }
        (path, found)
    }));
}

#[test]
fn the_architecture_names_every_module() {
    let modules = modules()
        .into_keys()
        .filter(|name| !name.is_empty())
        .collect();
    let map = read("src/ARCHITECTURE.md");
    assert_tidy([("src/ARCHITECTURE.md".to_owned(), check_map(&map, &modules))]);
}

#[test]
fn documents_are_true() {
    let example = read("turnserver.toml.example");
    let source: String = modules().into_values().map(|module| module.text).collect();
    let exists =
        |directory: &'static str| move |link: &str| root().join(directory).join(link).exists();
    let readme = read("README.md");
    let mut found = check_links(&readme, exists(""));
    found.extend(check_keys(&readme, &example));
    found.extend(check_commands(&readme, help));
    found.extend(check_quotes(&readme, "\n## Logs\n", &source));
    let architecture = read("src/ARCHITECTURE.md");
    let changelog = read("CHANGELOG.md");
    let mut in_changelog = check_links(&changelog, exists(""));
    in_changelog.extend(check_keys(&changelog, &example));
    in_changelog.extend(check_commands(&changelog, help));
    let migration = read("docs/migration.md");
    let mut in_migration = check_links(&migration, exists("docs"));
    in_migration.extend(check_keys(&migration, &example));
    in_migration.extend(check_commands(&migration, help));
    let mut in_architecture = check_keys(&architecture, &example);
    in_architecture.extend(check_commands(&architecture, help));
    assert_tidy([
        ("README.md".to_owned(), found),
        ("CHANGELOG.md".to_owned(), in_changelog),
        ("docs/migration.md".to_owned(), in_migration),
        ("src/ARCHITECTURE.md".to_owned(), in_architecture),
    ]);
}

fn help(command: &str) -> Option<String> {
    let is_name = !command.is_empty() && !command.starts_with('-');
    let mut process = Command::new(env!("CARGO_BIN_EXE_turnstone"));
    let output = process
        .args(is_name.then_some(command))
        .arg("--help")
        .output();
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    output.status.success().then_some(text)
}

#[test]
fn configurations_in_the_readme_load() {
    use turnstone::config::{Host, Sources, load};

    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("secret"), "s".repeat(43)).unwrap();
    let readme = read("README.md");
    let snippets = blocks(&readme, "toml");
    assert!(!snippets.is_empty(), "README shows a configuration");
    for snippet in snippets {
        let file = directory.path().join("turnserver.toml");
        fs::write(&file, snippet).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        let loaded = load(&sources, &Host::probe().of_any_machine());
        assert!(loaded.is_ok(), "{snippet}\n{}", loaded.unwrap_err());
    }
}

/// The recipes of the README make the password of the TURN REST API. An interpreter that is not
/// there is passed over.
#[test]
fn credential_recipes_in_the_readme_work() {
    let readme = read("README.md");
    let call = "'north', 'alice', 1767225600";
    let recipes = [
        (
            "python",
            "python3",
            "-c",
            format!("print(*turn_credentials({call}))"),
        ),
        (
            "js",
            "node",
            "-e",
            format!("console.log(...turnCredentials({call}))"),
        ),
    ];
    for (language, interpreter, flag, call) in recipes {
        let snippets = blocks(&readme, language);
        let [recipe] = snippets.as_slice() else {
            panic!("README has one block of {language}");
        };
        let program = format!("{recipe}\n{call}");
        let Ok(output) = Command::new(interpreter).args([flag, &program]).output() else {
            eprintln!("passed over: there is no {interpreter}");
            continue;
        };
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(
            printed.trim(),
            "1767225600:alice qnVCfmDqv+5N7tpxKH0liO/huIU=",
            "{language}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

// ---------------------------------------------------------------------------------------------
// The rules can be broken
// ---------------------------------------------------------------------------------------------

#[test]
fn layers_can_be_broken() {
    let wrong = [
        ("turn::server", "use crate::engine::Engine;"),
        ("wire::message", "fn f() { crate::auth::check() }"),
        ("auth", "use super::turn::Server;"),
        ("auth::nonce", "use super::super::turn;"),
        ("config::load", "use crate::{config::Config, engine};"),
        (
            "turn",
            "use crate::{wire::{self, Message}, config::Limits};",
        ),
        ("cli::check::probe", "use crate::config::Config;"),
        ("engine::udp::sys", "use crate::wire::HEADROOM;"),
        ("auth", "use crate::*;"),
        ("main", "fn main() { turnstone::engine::go() }"),
        ("helpers", ""),
    ];
    for (module, code) in wrong {
        assert_eq!(check_layers(module, code).len(), 1, "{module}: {code}");
    }
    let right = [
        (
            "turn::server",
            "use crate::auth::Authenticator; use crate::turn::Time; use super::table;",
        ),
        ("turn::request::refresh", "use super::super::event::Event;"),
        ("cli::serve", "use crate::{config, engine::Engine};"),
        ("main", "fn main() { turnstone::cli::main() }"),
    ];
    for (module, code) in right {
        assert_eq!(check_layers(module, code), [""; 0], "{module}: {code}");
    }
}

#[test]
fn the_core_can_be_soiled() {
    let wrong = [
        "use std::net::UdpSocket;",
        "use std::{fmt, io};",
        "let now = std::time::Instant::now();",
        "tracing::info!();",
        "use tokio::time;",
        "std::thread::spawn(f);",
    ];
    for code in wrong {
        assert_eq!(check_core("turn::server", code).len(), 1, "{code}");
        assert_eq!(check_core("engine::worker", code), [""; 0], "{code}");
    }
    assert_eq!(
        check_core("auth", "use std::{fmt, time::Duration};"),
        [""; 0]
    );
    assert_eq!(check_heap("wire::message", "let v: Vec<u8> = a;").len(), 1);
    assert_eq!(check_heap("turn::table", "let v: Vec<u8> = a;"), [""; 0]);
}

#[test]
fn files_can_grow_and_lack_a_header() {
    assert_eq!(check_length(&"x\n".repeat(FILE_LINES_MAX)), [""; 0]);
    assert_eq!(check_length(&"x\n".repeat(FILE_LINES_MAX + 1)).len(), 1);
    assert_eq!(check_header("src/log.rs", "use std::io;").len(), 1);
    assert_eq!(
        check_header("src/turn/request/refresh.rs", "//! Refresh.").len(),
        1
    );
    assert_eq!(
        check_header(
            "src/turn/request/refresh.rs",
            "//! Refresh (RFC 8656 §8.2)."
        ),
        [""; 0]
    );
    assert_eq!(check_reasons("#[allow(dead_code)]").len(), 1);
    assert_eq!(check_reasons("#![expect(\n    dead_code,\n)]").len(), 1);
    assert_eq!(
        check_reasons("#[allow(dead_code, reason = \"why\")]"),
        [""; 0]
    );
    assert_eq!(check_reasons("value.expect(\"it is there\")"), [""; 0]);
}

#[test]
fn tests_are_taken_out_of_source() {
    let text = "fn a() { '{' }\n#[cfg(test)]\nmod testing;\nfn b() {}\n// crate::x\n\
                #[cfg(test)]\nmod tests {\n    fn c() { \"}\"; crate::engine::go() }\n}\nfn d() {}\n";
    let module = Module::new("src/auth/mod.rs".to_owned(), text.to_owned());
    assert_eq!(check_layers("auth", &module.code), [""; 0]);
    assert!(module.code.contains("fn b") && module.code.contains("fn d"));
    assert!(!module.code.contains("fn c"));
    assert_eq!(module.code.lines().count(), text.lines().count());
    assert_eq!(product_lines(&module).lines().count(), 4);
    assert_eq!(test_modules("auth", &blank(text)), ["auth::testing"]);
    let literals = blank("let a = r#\"crate::x \" \"#; let b: &'a str = '\\'' /* crate::y */;");
    assert!(!literals.contains("crate") && literals.contains("&'a str"));
}

#[test]
fn files_can_say_too_much() {
    let wrong = [
        concat!("// TO", "DO: later"),
        concat!("see issue", " #12"),
        concat!("path = \"/ho", "me/somebody/x\""),
        concat!("https://crates", ".io/crates/x"),
    ];
    for text in wrong {
        assert_eq!(check_words("src/lib.rs", text).len(), 1, "{text}");
    }
    assert_eq!(check_words("Cargo.lock", wrong[3]), [""; 0]);
    assert_eq!(
        check_words("src/lib.rs", concat!("mktemp XX", "XXXX; todo = 1")),
        [""; 0]
    );
}

#[test]
fn documents_can_be_wrong() {
    let modules = BTreeSet::from(["wire".to_owned(), "wire::stream".to_owned()]);
    assert_eq!(
        check_map("- `wire`: bytes\n- `wire::stream`: frames", &modules),
        [""; 0]
    );
    assert_eq!(check_map("- `wire`: bytes", &modules).len(), 1);
    assert_eq!(
        check_map("- `wire`\n- `wire::stream`\n- `wire::gone`", &modules).len(),
        1
    );

    let exists = |path: &str| path == "LICENSE";
    assert_eq!(
        check_links("[a](LICENSE) [b](https://a.example/x) [c](#here)", exists),
        [""; 0]
    );
    assert_eq!(check_links("[a](LICENCE)", exists).len(), 1);

    let example = "[relay]\n#ports = \"1-2\"\n# e.g. external = { }\n";
    assert_eq!(
        check_keys("`relay.ports` and `relay.external`, `a.b`", example),
        [""; 0]
    );
    assert_eq!(check_keys("`relay.port`", example).len(), 1);

    let help = |command: &str| (command == "run").then(|| " --listen <ADDRESS>".to_owned());
    let right = "```sh\nturnstone run --listen 127.0.0.1:3478\n```\nor `turnstone run`";
    assert_eq!(check_commands(right, help), [""; 0]);
    for wrong in [
        "`turnstone start`",
        "```sh\nsudo turnstone run --port 3478\n```",
    ] {
        assert_eq!(check_commands(wrong, help).len(), 1, "{wrong}");
    }

    let quotes = "\n## Logs\n\n| line |\n|---|\n| `it broke` | x |\n\n## Next\n";
    assert_eq!(
        check_quotes(quotes, "\n## Logs\n", "say(\"it broke\")"),
        [""; 0]
    );
    assert_eq!(
        check_quotes(quotes, "\n## Logs\n", "say(\"it works\")").len(),
        1
    );
    assert_eq!(check_quotes("", "\n## Logs\n", "").len(), 1);
}
