//! `turnstone drain`: no new allocations, and the end of the server once the old ones are over.

use std::process::ExitCode;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::admin_client::{ServerArgs, ask_and_print};
use super::table::{allocations, duration};

/// Refuse new allocations, and end the server with the last one that there is
#[derive(clap::Args)]
pub(super) struct Args {
    /// End the server after this time at the latest, e.g. 90s, 15m or 1h; else it waits for as long
    /// as clients refresh
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    deadline: Option<Duration>,

    /// Make new allocations again
    #[arg(long, conflicts_with = "deadline")]
    undo: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Progress {
    draining: Option<Draining>,
    allocations: u64,
}

#[derive(Deserialize)]
struct Draining {
    deadline_s: Option<u64>,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let (method, body) = if self.undo {
            (Method::DELETE, String::new())
        } else {
            let deadline_s = self.deadline.map(|deadline| deadline.as_secs());
            (
                Method::POST,
                json!({ "deadline_s": deadline_s }).to_string(),
            )
        };
        ask_and_print(self.server, method, "/v1/drain", body, |progress| {
            told(&progress)
        })
    }
}

fn told(progress: &Progress) -> String {
    let live = allocations(progress.allocations);
    let Some(Draining { deadline_s }) = progress.draining else {
        return format!("not draining: new allocations are made; {live} live");
    };
    let deadline = deadline_s.map(|seconds| format!(", or in {}", duration(seconds)));
    let deadline = deadline.unwrap_or_default();
    format!("draining: {live} live, and the server ends with the last one{deadline}")
}
