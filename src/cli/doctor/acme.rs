//! ACME: what would keep certificates from coming, as far as this machine knows.

use super::machine::Machine;
use super::report::Finding;
use crate::config::Config;

const STATE: &str = "acme.state";

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    if config.tls.acme.domains.is_empty() {
        return vec![];
    }
    vec![state(machine)]
}

/// The unit of systemd has a directory, whoever asks.
fn state(machine: &Machine) -> Finding {
    match &machine.no_place {
        Some(why) if machine.unit.is_none() => {
            Finding::fail(STATE, format!("no place for account and keys: {why}"))
                .why("the server does not start")
                .fix("set STATE_DIRECTORY to a directory that the user of the server may write")
        }
        _ => Finding::ok(STATE, "there is a place for account, keys and certificates"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Unit;
    use super::super::machine::testing::{config, well};
    use super::super::report::Status;
    use super::*;

    fn with_acme() -> Config {
        let mut config = config(&[]);
        config.tls.acme.domains = vec!["turn.example.org".to_owned()];
        config
    }

    fn statuses(config: &Config, machine: &Machine) -> Vec<Status> {
        let findings = examine(config, machine);
        findings.iter().map(|finding| finding.status).collect()
    }

    #[test]
    fn only_what_is_configured_is_examined() {
        assert!(examine(&config(&[]), &well()).is_empty());
        assert_eq!(statuses(&with_acme(), &well()), [Status::Ok]);
    }

    #[test]
    fn a_state_directory_is_needed() {
        let mut machine = well();
        machine.no_place = Some("/x cannot be written to".to_owned());
        let config = with_acme();
        assert_eq!(statuses(&config, &machine)[0], Status::Fail);
        machine.unit = Some(Unit::default());
        assert_eq!(statuses(&config, &machine)[0], Status::Ok);
    }
}
