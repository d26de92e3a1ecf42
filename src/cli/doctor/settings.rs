//! The configuration by itself, and its secrets: what loading it has found.

use super::machine::Machine;
use super::report::Finding;
use crate::config::{Config, Problem, Unreadable};

const LOADS: &str = "configuration.loads";
const READABLE: &str = "configuration.readable";
const SECRETS: &str = "configuration.secrets";

/// Keys whose warnings are about secrets. A problem of the file as a whole has no key.
const SECRET_KEYS: &str = "auth.";

/// Warnings about these are told by examinations that know more.
const ELSEWHERE: [&str; 1] = ["relay.addresses"];

pub(super) fn examine(config: &Config, file: Option<&str>, warnings: &[Problem]) -> Vec<Finding> {
    let warnings = warnings
        .iter()
        .filter(|warning| !ELSEWHERE.contains(&warning.key.as_str()));
    let (secret, other): (Vec<&Problem>, Vec<&Problem>) =
        warnings.partition(|warning| warning.key.starts_with(SECRET_KEYS));
    let mut findings: Vec<Finding> = other
        .into_iter()
        .map(|warning| found(LOADS, warning))
        .collect();
    if findings.is_empty() {
        let name = file.unwrap_or("the built-in defaults");
        findings.push(Finding::ok(
            LOADS,
            format!("{name}: loads without a warning"),
        ));
    }
    if secret.is_empty() {
        findings.push(Finding::ok(SECRETS, secrets(config)));
    }
    findings.extend(secret.into_iter().map(|warning| {
        found(SECRETS, warning).why("whoever has or guesses a secret can relay as any user")
    }));
    findings
}

/// Whether the server of the unit can read what this user could.
pub(super) fn readable(machine: &Machine) -> Vec<Finding> {
    let Some(unit) = &machine.unit else {
        return vec![];
    };
    let user = &unit.user;
    if machine.unreadable.is_empty() {
        let found = "turnstone.service can read the files of the configuration";
        return vec![Finding::ok(READABLE, found)];
    }
    let finding = |Unreadable { file, because }: &Unreadable| {
        let (shown, because, what) = (
            file.display(),
            because.display(),
            if file == because { "g+r" } else { "g+x" },
        );
        Finding::fail(
            READABLE,
            format!("{shown}: turnstone.service runs as {user:?}, who may not read it"),
        )
        .why("the server does not start")
        .fix("let the group of that user, which has its name, read it")
        .command(format!("chgrp {user} {because} && chmod {what} {because}"))
    };
    machine.unreadable.iter().map(finding).collect()
}

fn found(check: &'static str, warning: &Problem) -> Finding {
    let Problem {
        origin,
        key,
        what,
        remedy,
        may_pass: _,
    } = warning;
    let key = if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    };
    let finding = Finding::warn(check, format!("{origin}: {key}{what}"));
    // Most are sentences; some are the command itself.
    match remedy.starts_with("ch") && remedy.contains(" /") {
        true => finding.fix("close it to others").command(remedy.clone()),
        false => finding.fix(remedy.clone()),
    }
}

fn secrets(config: &Config) -> String {
    let (secrets, users) = (
        config.auth.static_auth_secrets.len(),
        config.auth.users.len(),
    );
    if secrets + users == 0 {
        return "no secret or user: run makes a secret and keeps it".to_owned();
    }
    format!("{secrets} shared secrets and {users} users; no short secret, no exposed file")
}

#[cfg(test)]
mod tests {
    use super::super::machine::Unit;
    use super::super::machine::testing::{config, well};
    use super::super::report::Status;
    use super::*;
    use crate::config::Origin;

    fn warning(key: &str, what: &str, remedy: &str) -> Problem {
        Problem {
            origin: Origin::Flag("--test"),
            key: key.to_owned(),
            what: what.to_owned(),
            remedy: remedy.to_owned(),
            may_pass: false,
        }
    }

    #[test]
    fn a_quiet_configuration_is_well() {
        let found = examine(&config(&[]), Some("turnserver.toml"), &[]);
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:?}");
        assert!(found[0].found.starts_with("turnserver.toml"));
        assert!(found[1].found.starts_with("1 shared secrets"));
        assert!(
            examine(&config(&[]), None, &[])[0]
                .found
                .contains("defaults")
        );
    }

    #[test]
    fn a_server_without_secrets_makes_one() {
        let mut config = config(&[]);
        config.auth.static_auth_secrets.clear();
        assert!(
            examine(&config, None, &[])[1]
                .found
                .contains("makes a secret")
        );
    }

    #[test]
    fn the_unit_can_read_the_files() {
        let mut machine = well();
        assert_eq!(readable(&machine), []);
        machine.unit = Some(Unit {
            user: "turnstone".to_owned(),
            ..Unit::default()
        });
        assert_eq!(readable(&machine)[0].status, Status::Ok);
        let unreadable = |file: &str, because: &str| Unreadable {
            file: file.into(),
            because: because.into(),
        };
        machine.unreadable = vec![
            unreadable("/x/secret", "/x/secret"),
            unreadable("/y/s", "/y"),
        ];
        let found = readable(&machine);
        assert!(found.iter().all(|f| f.status == Status::Fail), "{found:?}");
        let command = |n: usize| found[n].command.as_deref().unwrap();
        assert_eq!(
            command(0),
            "chgrp turnstone /x/secret && chmod g+r /x/secret"
        );
        assert_eq!(command(1), "chgrp turnstone /y && chmod g+x /y");
    }

    #[test]
    fn warnings_are_sorted_to_where_they_belong() {
        let warnings = [
            warning(
                "auth.static_auth_secret_file",
                "everybody can read /x/s",
                "chmod 640 /x/s",
            ),
            warning("peers.allow", "is useless", "remove it"),
            warning("relay.addresses", "is private", "map it"),
        ];
        let found = examine(&config(&[]), None, &warnings);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!((found[0].check, found[0].status), (LOADS, Status::Warn));
        assert_eq!((found[1].check, found[1].status), (SECRETS, Status::Warn));
        assert_eq!(found[1].command.as_deref(), Some("chmod 640 /x/s"));
        assert_eq!(found[0].remedy.as_deref(), Some("remove it"));
    }
}
