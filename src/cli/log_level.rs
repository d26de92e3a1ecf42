//! `turnstone log-level`: what a server that runs logs.

use std::process::ExitCode;

use hyper::Method;
use serde::{Deserialize, Serialize};

use super::admin_client::{ServerArgs, ask_and_print};

/// Show the log level of a server that runs, or change it until the server ends
#[derive(clap::Args)]
pub(super) struct Args {
    /// The least severe lines that are logged from here on
    #[arg(value_parser = ["error", "warn", "info", "debug", "trace"])]
    level: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize, Serialize)]
struct Level {
    level: String,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let (method, body) = match self.level {
            None => (Method::GET, String::new()),
            Some(level) => (Method::PUT, serde_json::json!(Level { level }).to_string()),
        };
        let told = |Level { level }| level;
        ask_and_print(self.server, method, "/v1/log-level", body, told)
    }
}
