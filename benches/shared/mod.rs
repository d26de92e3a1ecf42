//! What the benches of whole servers share.

pub(crate) mod cores;
pub(crate) mod process;
pub(crate) mod statistics;

use std::process::Command;

/// What `turnserver --version` says; `None` if there is no such program.
pub(crate) fn coturn_version() -> Option<String> {
    let output = Command::new("turnserver").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(text.lines().next()?.trim().to_owned())
}
