//! `turnstone doctor`: the configuration against this machine, before the server starts or while it
//! runs.
//!
//! `probe` finds the facts out, and everything else is a function of them and of the configuration:
//! one file a group of examinations. A further examination is a field of [`machine::Machine`], a
//! function that returns findings, and a row of `docs/doctor.md`.

mod acme;
mod addresses;
mod certificates;
mod commands;
mod files;
mod firewall;
mod limits;
mod listeners;
mod machine;
mod ports;
mod probe;
mod report;
mod settings;
mod system;
mod timex;
mod web;

use std::process::ExitCode;

use crate::config::{self, Host};

use super::certificates::unix_s;
use super::{output, run};
use report::Report;

/// Examine whether this machine is fit for the configuration
///
/// Takes the options of run, and tells what is well, what to look at and what to mend: addresses,
/// ports, firewall, limits, clock, secrets and kernel, each with the reason and the remedy. Changes
/// nothing, and sends nothing; it does call the web servers of the configuration. As root it sees more. Ends with 0 if nothing must be mended, with 1 if
/// something must, with 2 if the configuration does not load.
#[derive(clap::Args)]
// The options of run are a group of the same name.
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    run: run::Args,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let sources = self.run.into_sources();
        let host = Host::probe();
        // That an address or a user is not this machine's is a finding here, one of many.
        let lenient = Host {
            is_elsewhere: false,
            ..host.clone().of_any_machine()
        };
        let loaded = match config::load(&sources, &lenient) {
            Ok(loaded) => loaded,
            Err(problems) => return output::refuse(&problems),
        };
        let config = &loaded.config;
        let machine = probe::machine(config, &host, &loaded.files);
        let file = sources.file.map(|file| file.display().to_string());
        let (file, unit) = (file.as_deref(), machine.unit.as_ref());
        let mut findings = settings::examine(config, file, &loaded.warnings, unit);
        findings.extend(settings::readable(&machine));
        findings.extend(certificates::examine(config, unix_s()));
        findings.extend(acme::examine(config, &machine));
        findings.extend(addresses::examine(config, &machine));
        findings.extend(ports::examine(config, &machine));
        findings.extend(web::examine(config));
        findings.extend(firewall::examine(config, &machine));
        findings.extend(limits::examine(config, &machine));
        findings.extend(system::examine(config, &machine));
        let report = Report::new(findings);
        let printed = if self.json {
            output::print(report.to_json())
        } else {
            output::print(&report)
        };
        if report.failed() {
            ExitCode::FAILURE
        } else {
            printed
        }
    }
}
