//! `turnstone check-config`: everything that `run` would refuse, and what it would run with.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Environment, Host, Sources};

use super::output;

/// Check a configuration file and show what it means
///
/// Prints every error with file, line, key and remedy and ends with 2; or prints the complete
/// configuration, defaults included, and ends with 0. Secrets are shown as a count only. Variables
/// TURNSERVER_SECTION__KEY count, as they do for run.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The file to check
    file: PathBuf,

    /// Do not check that addresses and user belong to this machine, for a file that is meant for
    /// another
    #[arg(long)]
    other_machine: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let mut host = Host::probe();
        if self.other_machine {
            host = host.of_any_machine();
        }
        let sources = Sources {
            file: Some(self.file),
            environment: Environment::of_process(),
            flags: Vec::new(),
        };
        match config::load(&sources, &host) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    output::complain(format_args!("warning: {warning}"));
                }
                if loaded.config.auth.is_empty() {
                    output::complain(
                        "note: no secret or user is configured; run makes a secret and keeps it",
                    );
                }
                output::print(loaded.config.to_toml().trim_end())
            }
            Err(problems) => output::refuse(&problems),
        }
    }
}
