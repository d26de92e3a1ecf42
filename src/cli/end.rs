//! `turnstone end`: ends allocations, and with them what is relayed.

use std::process::ExitCode;

use hyper::Method;
use serde::Deserialize;

use super::admin_client::{ServerArgs, ask_and_print, encoded};
use super::table::allocations;

/// End an allocation, or all of a user. The client may make a new one: to keep it out, use
/// turnstone revoke
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["id", "user"])))]
pub(super) struct Args {
    /// The allocation, as turnstone allocations names it
    id: Option<String>,

    /// All of this user, or with this very USERNAME
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Ended {
    ended: u64,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let path = match (&self.id, &self.user) {
            (Some(id), _) => format!("/v1/allocations/{}", encoded(id)),
            (None, user) => {
                let user = user.as_deref().unwrap_or_default();
                format!("/v1/allocations?user={}", encoded(user))
            }
        };
        let told = |Ended { ended }| format!("{} ended", allocations(ended));
        ask_and_print(self.server, Method::DELETE, &path, String::new(), told)
    }
}
