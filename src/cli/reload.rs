//! `turnstone reload`: has a server that runs read its configuration again.

use std::fmt;
use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;

use super::admin_client::{ServerArgs, ask_and_print};

/// Have a server that runs read its configuration again, without ending a call
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Reloaded {
    changed: Vec<String>,
    restart_needed: Vec<String>,
    warnings: Vec<String>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let told = |reloaded: Reloaded| reloaded;
        ask_and_print(self.server, Method::POST, "/v1/reload", String::new(), told)
    }
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        if !self.restart_needed.is_empty() {
            let keys = self.restart_needed.join(", ");
            writeln!(f, "in force after a restart: {keys}")?;
        }
        match &self.changed[..] {
            [] => f.write_str("reloaded: nothing else has changed"),
            changed => write!(f, "reloaded: {}", changed.join(", ")),
        }
    }
}
