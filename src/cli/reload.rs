//! `turnstone reload`: has a server that runs read its configuration again.

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
        ask_and_print(self.server, Method::POST, "/v1/reload", String::new(), told)
    }
}

fn told(reloaded: Reloaded) -> String {
    let warnings = reloaded.warnings.iter();
    let mut lines = Vec::from_iter(warnings.map(|warning| format!("warning: {warning}")));
    if !reloaded.restart_needed.is_empty() {
        let keys = reloaded.restart_needed.join(", ");
        lines.push(format!("in force after a restart: {keys}"));
    }
    lines.push(match &reloaded.changed[..] {
        [] => "reloaded: nothing else has changed".to_owned(),
        changed => format!("reloaded: {}", changed.join(", ")),
    });
    lines.join("\n")
}
