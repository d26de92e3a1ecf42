//! `turnstone check-config`: everything that `run` would refuse, and what it would run with.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, Environment, Host, Loaded, Problem, Sources};

use super::output;

/// Check a configuration file and show what it means
///
/// Prints every error with file, line, key and remedy and ends with 2; or prints the complete
/// configuration, defaults included, and ends with 0. Secrets are shown as a count only, with the
/// places where they were found. Variables
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
            file: Some(self.file.clone()),
            environment: Environment::of_process(),
            flags: Vec::new(),
        };
        match config::load(&sources, &host) {
            Ok(loaded) => self.report(&loaded),
            Err(problems) => output::refuse(&problems),
        }
    }

    fn report(&self, loaded: &Loaded) -> ExitCode {
        let Loaded {
            config,
            warnings,
            secrets,
            files,
        } = loaded;
        // Of a credential systemd decides who reads it.
        let of_unit =
            |file: &&PathBuf| secrets.iter().any(|it| it.place.credential() == Some(file));
        let files = files.iter().filter(|file| !of_unit(file));
        let files = files.filter(|_| !self.other_machine);
        let user = config.server.user.as_deref();
        let hidden: Vec<Problem> = files
            .filter_map(|file| config::hidden_from(file, user))
            .collect();
        for warning in warnings.iter().chain(&hidden) {
            output::complain(format_args!("warning: {warning}"));
        }
        if config.auth.is_empty() {
            let note = "note: no secret or user is configured; run makes a secret and keeps it";
            output::complain(note);
        }
        let places = secrets.iter().map(|secret| format!("\n# {secret}"));
        let shown = format!("{}{}", config.to_toml(), places.collect::<String>());
        let code = output::print(shown.trim_end());
        output::complain(match warnings.len() + hidden.len() {
            0 => "ok".to_owned(),
            1 => "ok, 1 warning".to_owned(),
            count => format!("ok, {count} warnings"),
        });
        code
    }
}
