//! `turnstone drain`: no new allocations, and the end of the server once the old ones are over.

use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::admin_client::{ServerArgs, ask_and_print};
use super::table::{allocations, duration};
use crate::admin::DEADLINE_S_MAX;

/// Refuse new allocations, and end the server with the last one that there is
#[derive(clap::Args)]
pub(super) struct Args {
    /// End the server after this time at the latest, e.g. 90s, 15m or 1h; else it waits for as long
    /// as clients refresh
    #[arg(long, value_name = "TIME", value_parser = parse_deadline)]
    deadline: Option<u64>,

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
            (
                Method::POST,
                json!({ "deadline_s": self.deadline }).to_string(),
            )
        };
        ask_and_print(self.server, method, "/v1/drain", body, |progress| {
            told(&progress)
        })
    }
}

/// Seconds; one that has begun is one, so that no short time means at once.
fn parse_deadline(text: &str) -> Result<u64, String> {
    let deadline = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let seconds = deadline.as_millis().div_ceil(1000);
    let seconds = u64::try_from(seconds).ok();
    let longest = u64::from(DEADLINE_S_MAX);
    seconds
        .filter(|seconds| *seconds <= longest)
        .ok_or_else(|| format!("write {} at most", duration(longest)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_have_whole_seconds_and_an_end() {
        assert_eq!(parse_deadline("999ms"), Ok(1));
        assert_eq!(parse_deadline("0s"), Ok(0));
        assert_eq!(parse_deadline("7d"), Ok(604_800));
        for wrong in ["7d 1ms", "8d", "300000000y", "soon", ""] {
            assert!(parse_deadline(wrong).is_err(), "{wrong:?}");
        }
    }
}
