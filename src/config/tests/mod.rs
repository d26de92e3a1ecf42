//! The configuration as a whole, from text to what `run` gets.

mod acme;
mod admin;
mod credentials;
mod example;
mod hooks;
mod layers;
mod meaning;
mod messages;
mod networks;
mod tls;
mod web;

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;

/// A machine with a public address of each family.
fn host() -> Host {
    Host {
        route_sources: vec![address("203.0.113.10"), address("2001:db8::10")],
        interface_addresses: vec![],
        local_networks: vec![],
        unknown_networks: None,
        ipv6: true,
        cpus: 4,
        bindable: |_| true,
        has_user: |name| name != "nobody-of-this-name",
        is_elsewhere: false,
    }
}

fn private_host() -> Host {
    Host {
        route_sources: vec![address("10.0.0.5")],
        ..host()
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Trial {
    directory: TempDir,
    sources: Sources,
    host: Host,
}

impl Trial {
    fn new(toml: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("turnserver.toml");
        fs::write(&file, toml).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        Self {
            directory,
            sources,
            host: host(),
        }
    }

    fn on(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push(name, value);
        self
    }

    fn flag(mut self, key: &'static str, name: &'static str, values: &[&str]) -> Self {
        let values = values
            .iter()
            .map(|v| Zeroizing::new(v.to_string()))
            .collect();
        self.sources.flags.push(Flag {
            key,
            name,
            values,
            separator: '=',
        });
        self
    }

    fn load(&self) -> Loaded {
        load(&self.sources, &self.host).unwrap_or_else(|problems| panic!("{problems}"))
    }

    /// The messages, with the directory of the test cut off.
    fn errors(&self) -> Vec<String> {
        let directory = format!("{}/", self.directory.path().display());
        let problems = load(&self.sources, &self.host).expect_err("must be refused");
        problems
            .iter()
            .map(|problem| problem.to_string().replace(&directory, ""))
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        self.load()
            .warnings
            .iter()
            .map(ToString::to_string)
            .collect()
    }
}

#[track_caller]
fn assert_error(toml: &str, expected: &str) {
    assert_eq!(Trial::new(toml).errors(), [expected]);
}

/// Asserts that the only error starts and ends like this.
#[track_caller]
fn assert_error_around(toml: &str, start: &str, end: &str) {
    let errors = Trial::new(toml).errors();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].starts_with(start) && errors[0].ends_with(end),
        "{}",
        errors[0]
    );
}
