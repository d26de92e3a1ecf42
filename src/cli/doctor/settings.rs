//! The configuration by itself, and its secrets: what loading it has found.

use super::machine::{Machine, Unit, UnitSecrets};
use super::report::Finding;
use crate::config::{Config, Origin, Problem, SECRET_KEYS, Unreadable};

const LOADS: &str = "configuration.loads";
const READABLE: &str = "configuration.readable";
const SECRETS: &str = "configuration.secrets";

/// Keys that name files which are secrets, beside those that hold one.
const SECRET_FILES: [&str; 2] = ["tls.key", "tls.additional.key"];

/// What whoever has or guesses a secret can do, by the beginning of its key.
const CONSEQUENCES: [(&str, &str); 6] = [
    (
        "auth.",
        "whoever has or guesses a secret can relay as any user",
    ),
    (
        "admin.",
        "whoever has or guesses the token can end every call",
    ),
    (
        "credentials.",
        "whoever has or guesses a key gets credentials, and can relay",
    ),
    (
        "hooks.",
        "whoever has or guesses the secret can make events up",
    ),
    ("tls.", "whoever has the key can pass for this server"),
    ("", "whoever changes the file decides who relays, and what"),
];

/// Warnings about these are told by examinations that know more.
const ELSEWHERE: [&str; 3] = ["relay.addresses", "tls.cert", "tls.additional.cert"];

pub(super) fn examine(
    config: &Config,
    file: Option<&str>,
    warnings: &[Problem],
    unit: Option<&Unit>,
) -> Vec<Finding> {
    let warnings = warnings
        .iter()
        .filter(|warning| !ELSEWHERE.contains(&warning.key.as_str()));
    let (secret, other): (Vec<&Problem>, Vec<&Problem>) =
        warnings.partition(|warning| is_about_secrets(warning));
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
        findings.push(secrets(config, unit));
    }
    findings.extend(secret.into_iter().map(|warning| {
        let mut consequences = CONSEQUENCES.iter();
        let why = consequences.find(|(start, _)| warning.key.starts_with(start));
        found(SECRETS, warning).why(why.map_or("", |(_, why)| why))
    }));
    findings
}

/// Whether a secret can be guessed, or its file be read or changed. Whoever can change the
/// configuration itself needs no secret: such a problem is one of the whole file.
fn is_about_secrets(Problem { origin, key, .. }: &Problem) -> bool {
    let is_whole_file = key.is_empty() && matches!(origin, Origin::File { line: 0, .. });
    let mut secrets = SECRET_KEYS.iter().chain(&SECRET_FILES);
    is_whole_file || secrets.any(|secret| key.starts_with(secret))
}

/// Whether the server can read what this user could.
pub(super) fn readable(machine: &Machine) -> Vec<Finding> {
    match (&machine.unit, &machine.reader) {
        (Some(unit), _) if !unit.is_root() => readable_by_unit(machine, &unit.user),
        (_, Some(user)) => readable_again(machine, user),
        _ => vec![],
    }
}

fn readable_by_unit(machine: &Machine, user: &str) -> Vec<Finding> {
    if machine.unreadable.is_empty() {
        let found = "turnstone.service can read the files of the configuration";
        return vec![Finding::ok(READABLE, found)];
    }
    let finding = |unreadable: &Unreadable| {
        let shown = unreadable.file.display();
        Finding::fail(
            READABLE,
            format!("{shown}: turnstone.service runs as {user:?}, who may not read it"),
        )
        .why("the server does not start")
        .fix("let the group of that user, which has its name, read it")
        .command(let_read(user, unreadable))
    };
    machine.unreadable.iter().map(finding).collect()
}

/// Of a server that is started as root: it reads as root once, and then as somebody else.
fn readable_again(machine: &Machine, user: &str) -> Vec<Finding> {
    if machine.unreadable.is_empty() {
        let found = format!("started as root, the server can read its files again as {user:?}");
        return vec![Finding::ok(READABLE, found)];
    }
    let finding = |unreadable: &Unreadable| {
        let shown = unreadable.file.display();
        let group = format!("\"$(id -gn {user})\"");
        Finding::warn(
            READABLE,
            format!("{shown}: started as root, the server becomes {user:?}, who may not read it"),
        )
        .why("the server starts, but renewed certificates and reloads do not come into force")
        .fix("let the group of that user read it; of a user that others are too, rather set server.user")
        .command(let_read(&group, unreadable))
    };
    machine.unreadable.iter().map(finding).collect()
}

fn let_read(group: &str, Unreadable { file, because }: &Unreadable) -> String {
    let what = if file == because { "g+r" } else { "g+x" };
    let because = because.display();
    format!("chgrp {group} {because} && chmod {what} {because}")
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

fn secrets(config: &Config, unit: Option<&Unit>) -> Finding {
    let (secrets, users) = (
        config.auth.static_auth_secrets.len(),
        config.auth.users.len(),
    );
    let own = "run makes a secret and keeps it";
    if secrets + users > 0 {
        let found = "no short secret, no exposed file";
        let found = format!("{secrets} shared secrets and {users} users; {found}");
        return Finding::ok(SECRETS, found);
    }
    match unit.map(|unit| &unit.secrets) {
        Some(UnitSecrets { given, .. }) if !given.is_empty() => {
            let given = given.join(", ");
            let found = format!("no secret or user here; turnstone.service brings one: {given}");
            Finding::ok(SECRETS, found)
        }
        Some(UnitSecrets { perhaps, .. }) if !perhaps.is_empty() => {
            let found = format!(
                "no secret or user here; turnstone.service may bring one, which cannot be seen: {}; \
                 if it does not, {own}",
                perhaps.join(", ")
            );
            Finding::unknown(SECRETS, found)
        }
        _ => Finding::ok(SECRETS, format!("no secret or user: {own}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{config, well};
    use super::super::report::Status;
    use super::*;

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
        let found = examine(&config(&[]), Some("turnserver.toml"), &[], None);
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:?}");
        assert!(found[0].found.starts_with("turnserver.toml"));
        assert!(found[1].found.starts_with("1 shared secrets"));
        assert!(
            examine(&config(&[]), None, &[], None)[0]
                .found
                .contains("defaults")
        );
    }

    #[test]
    fn a_server_without_secrets_makes_one() {
        let mut config = config(&[]);
        config.auth.static_auth_secrets.clear();
        assert!(
            examine(&config, None, &[], None)[1]
                .found
                .contains("makes a secret")
        );
    }

    /// The unit's credential is not in the environment of who asks.
    #[test]
    fn a_secret_of_the_unit_is_not_said_to_be_made() {
        let mut config = config(&[]);
        config.auth.static_auth_secrets.clear();
        let with = |given: &[&str], perhaps: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let unit = Unit {
                secrets: UnitSecrets {
                    given: own(given),
                    perhaps: own(perhaps),
                },
                ..Unit::default()
            };
            examine(&config, None, &[], Some(&unit)).remove(1)
        };
        let given = with(
            &["LoadCredential=static_auth_secret"],
            &["EnvironmentFile="],
        );
        assert_eq!(given.status, Status::Ok);
        let is_named = given
            .found
            .ends_with("brings one: LoadCredential=static_auth_secret");
        assert!(is_named, "{given:?}");
        let perhaps = with(&[], &["EnvironmentFile="]);
        let is_named = perhaps.found.contains("cannot be seen: EnvironmentFile=;");
        assert!(perhaps.status == Status::Unknown && is_named, "{perhaps:?}");
        assert!(with(&[], &[]).found.contains("makes a secret"));
    }

    /// Every kind of secret that the configuration warns of is one here too.
    #[test]
    fn no_weak_or_exposed_secret_is_passed_over() {
        let exposed = |key: &str| warning(key, "everybody can read /x/s", "chmod 640 /x/s");
        for key in SECRET_KEYS {
            for key in [key.to_owned(), format!("{key}_file")] {
                let found = examine(&config(&[]), None, &[exposed(&key)], None);
                assert_eq!(found.len(), 2, "{found:?}");
                assert_eq!(
                    (found[0].check, found[0].status),
                    (LOADS, Status::Ok),
                    "{key}"
                );
                assert_eq!((found[1].check, found[1].status), (SECRETS, Status::Warn));
                assert!(
                    found[1]
                        .why
                        .as_deref()
                        .is_some_and(|why| why.starts_with("whoever "))
                );
            }
        }
        // Who can change the file can write a secret of his own to it.
        let mut whole = exposed("");
        whole.origin = Origin::File {
            path: "turnserver.toml".into(),
            line: 0,
        };
        let found = examine(&config(&[]), None, &[whole], None);
        assert_eq!((found[1].check, found[1].status), (SECRETS, Status::Warn));
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

    /// It reads them as root, and would only find out at the first renewal.
    #[test]
    fn a_server_started_as_root_can_read_its_files_again() {
        let mut machine = well();
        machine.reader = Some("nobody".to_owned());
        for unit in [None, Some(Unit::default())] {
            machine.unit = unit;
            machine.unreadable = vec![];
            assert_eq!(readable(&machine)[0].status, Status::Ok);
            machine.unreadable = vec![Unreadable {
                file: "/x/turn.key".into(),
                because: "/x/turn.key".into(),
            }];
            let found = readable(&machine);
            assert_eq!((found.len(), found[0].status), (1, Status::Warn));
            let told =
                "/x/turn.key: started as root, the server becomes \"nobody\", who may not read it";
            assert_eq!(found[0].found, told);
            let command = "chgrp \"$(id -gn nobody)\" /x/turn.key && chmod g+r /x/turn.key";
            assert_eq!(found[0].command.as_deref(), Some(command));
        }
    }

    #[test]
    fn warnings_are_sorted_to_where_they_belong() {
        let warnings = [
            warning(
                "auth.static_auth_secret_file",
                "everybody can read /x/s",
                "chmod 640 /x/s",
            ),
            warning("tls.key", "everybody can read /x/k", "chmod 640 /x/k"),
            warning("peers.allow", "is useless", "remove it"),
            warning("relay.addresses", "is private", "map it"),
        ];
        let found = examine(&config(&[]), None, &warnings, None);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[2]
                .why
                .as_ref()
                .unwrap()
                .contains("pass for this server")
        );
        assert_eq!((found[0].check, found[0].status), (LOADS, Status::Warn));
        assert_eq!((found[1].check, found[1].status), (SECRETS, Status::Warn));
        assert_eq!(found[1].command.as_deref(), Some("chmod 640 /x/s"));
        assert_eq!(found[0].remedy.as_deref(), Some("remove it"));
    }
}
