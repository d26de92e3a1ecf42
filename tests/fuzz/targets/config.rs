//! A configuration from file, environment and options.
//!
//! The input is text in three parts, separated by lines of `---`: a TOML file, variables as
//! `NAME=value`, options as `--name value`.
#![no_main]

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use turnstone::config::{Config, Environment, Flag, Host, Loaded, Origin, Problem, Sources, load};

/// The options of `turnstone run`: name, key, and what stands between a pair.
const OPTIONS: [(&str, &str, char); 9] = [
    ("--static-auth-secret", "auth.static_auth_secret", '='),
    ("--realm", "realm", '='),
    ("--listen", "listen.udp", '='),
    ("--listen", "listen.tcp", '='),
    ("--relay-address", "relay.addresses", '='),
    ("--external-address", "relay.external", '='),
    ("--user", "auth.users", ':'),
    ("--allow-peer", "peers.allow", '='),
    (
        "--static-auth-secret-file",
        "auth.static_auth_secret_file",
        '=',
    ),
];

/// Keys that `Config::to_toml` shows as a count.
const HIDDEN: [&str; 3] = ["static_auth_secret", "users", "nonce_secret"];

/// A secret without this word may be part of a message by chance.
const MARK: &str = "horse";

/// With one of these, the input may name a file of this machine.
const PATHS: [&str; 2] = ["/", "~"];

static DIRECTORY: LazyLock<TempDir> = LazyLock::new(|| {
    // Memory, where the system has it as a directory.
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    };
    let directory = tempfile::tempdir_in(parent).expect("a directory for the file");
    fs::write(
        directory.path().join("secret"),
        "0123456789abcdef-of-a-file\n",
    )
    .expect("written");
    directory
});

fuzz_target!(|input: &str| {
    let mut parts = input.splitn(3, "\n---\n");
    let [file, environment, options] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let names_file = [
        "_file",
        "_FILE",
        "-file",
        "CREDENTIALS_DIRECTORY",
        "cert",
        "CERT",
    ];
    let names_file = names_file.iter().any(|it| input.contains(it));
    if names_file && PATHS.iter().any(|it| input.contains(it)) {
        return;
    }
    let sources = Sources {
        file: Some(written(file)),
        environment: set(environment),
        flags: flags(options),
    };
    let secrets = secrets(input, file, environment, &sources);
    match load(&sources, &host()) {
        Ok(Loaded {
            config,
            warnings,
            secrets: places,
            ..
        }) => {
            warnings.iter().for_each(|it| check_problem(it, &secrets));
            check_config(&config);
            check_silence(
                &format!("{config:?}{warnings:?}{places:?}{}", config.to_toml()),
                &secrets,
            );
            check_round_trip(&config);
        }
        Err(problems) => {
            assert!(problems.iter().next().is_some());
            problems.iter().for_each(|it| check_problem(it, &secrets));
            check_silence(&format!("{problems}{problems:?}"), &secrets);
        }
    }
    check_silence(&format!("{:?}", sources.flags), &secrets);
});

fn written(text: &str) -> PathBuf {
    let path = DIRECTORY.path().join("turnserver.toml");
    fs::write(&path, text).expect("the directory is ours");
    path
}

/// A machine with a public address of each family.
fn host() -> Host {
    static HOST: LazyLock<Host> = LazyLock::new(|| {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let mut host = Host::probe().of_any_machine();
        host.route_sources = vec![address("203.0.113.10"), address("2001:db8::10")];
        host.interface_addresses.clear();
        host.ipv6 = true;
        host.cpus = 4;
        host
    });
    HOST.clone()
}

fn variables(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| line.split_once('='))
}

fn set(text: &str) -> Environment {
    let mut environment = Environment::default();
    variables(text).for_each(|(name, value)| environment.push(name, value));
    environment
}

fn flags(text: &str) -> Vec<Flag> {
    let given: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let flag = |(name, key, separator): &(&'static str, &'static str, char)| {
        let values = given.iter().filter(|(given, _)| given == name);
        let values: Vec<_> = values
            .map(|(_, value)| (*value).to_owned().into())
            .collect();
        Flag {
            key,
            name,
            values,
            separator: *separator,
        }
    };
    OPTIONS
        .iter()
        .map(flag)
        .filter(|it| !it.values.is_empty())
        .collect()
}

/// The secrets of the input that can be told from the rest of it.
fn secrets(input: &str, file: &str, environment: &str, sources: &Sources) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(table) = file.parse::<toml::Table>()
        && let Some(auth) = table.get("auth").and_then(toml::Value::as_table)
    {
        for key in HIDDEN {
            texts(auth.get(key), &mut found);
        }
    }
    for (name, value) in variables(environment) {
        let is_secret = name == "TURNSERVER_AUTH__STATIC_AUTH_SECRET"
            || name == "TURNSERVER_AUTH__NONCE_SECRET";
        if is_secret {
            found.push(value.to_owned());
        }
    }
    for flag in sources
        .flags
        .iter()
        .filter(|it| it.key == "auth.static_auth_secret")
    {
        found.extend(flag.values.iter().map(|it| it.to_string()));
    }
    // What is also somewhere else, such as in the name of a user, may be shown from there.
    found.retain(|it| it.contains(MARK) && input.matches(it.as_str()).count() == 1);
    found
}

fn texts(value: Option<&toml::Value>, into: &mut Vec<String>) {
    match value {
        Some(toml::Value::String(text)) => into.push(text.clone()),
        Some(toml::Value::Array(array)) => array.iter().for_each(|it| texts(Some(it), into)),
        Some(toml::Value::Table(table)) => table.values().for_each(|it| texts(Some(it), into)),
        _ => {}
    }
}

/// A problem says where, what and what to do.
fn check_problem(problem: &Problem, secrets: &[String]) {
    assert!(
        !problem.what.is_empty() && !problem.remedy.is_empty(),
        "{problem:?}"
    );
    // Only what is not TOML, an unknown variable or the whole file concerns no key.
    let has_place = problem.origin != Origin::Default;
    assert!(!problem.key.is_empty() || has_place, "{problem:?}");
    check_silence(&problem.to_string(), secrets);
}

fn check_silence(text: &str, secrets: &[String]) {
    for secret in secrets {
        assert!(!text.contains(secret.as_str()), "a secret is told: {text}");
    }
}

/// What the documentation of `Config` promises.
fn check_config(config: &Config) {
    assert!((1..=127).contains(&config.realm.chars().count()));
    assert!(!config.realm.contains(|c: char| c == '"' || c.is_control()));
    assert!(!config.listen.udp.is_empty() || !config.listen.tcp.is_empty());
    assert!(!config.relay.addresses.is_empty());
    assert!(*config.relay.ports.start() >= 1024 && !config.relay.ports.is_empty());
    for address in &config.relay.addresses {
        assert!(!address.is_unspecified() && !address.is_multicast());
    }
    for (inside, outside) in &config.relay.external {
        assert_eq!(inside.is_ipv4(), outside.is_ipv4());
        assert_eq!(config.relay.advertised(*inside), *outside);
    }
    assert!((1..=256).contains(&config.server.workers));
    assert!(config.server.software.chars().count() <= 127);
    assert!((600..=86_400).contains(&config.limits.max_lifetime_s));
}

/// What is shown is what was meant: read again, it says the same.
fn check_round_trip(config: &Config) {
    let shown = config.to_toml();
    let table = without_secrets(&shown);
    let sources = Sources {
        file: Some(written(&table.to_string())),
        ..Sources::default()
    };
    let again = load(&sources, &host()).unwrap_or_else(|problems| panic!("{problems}\n{shown}"));
    assert_eq!(without_secrets(&again.config.to_toml()), table);
}

/// A configuration without what is shown as a count, and without what makes no sense without that.
fn without_secrets(shown: &str) -> toml::Table {
    let mut table: toml::Table = shown.parse().expect("it is TOML");
    for section in ["admin", "credentials", "hooks", "tls"] {
        table.remove(section).expect("every section is shown");
    }
    let auth = table
        .get_mut("auth")
        .and_then(toml::Value::as_table_mut)
        .expect("a section");
    for key in HIDDEN {
        auth.remove(key).expect("every key is shown");
    }
    table
}
