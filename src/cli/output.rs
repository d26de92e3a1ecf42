//! The only writer to standard output, and messages to standard error that are not log lines.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use crate::config::Problems;

use super::BAD_CONFIGURATION;

/// Prints the result of a command and makes it the exit code.
///
/// That nobody reads on (`turnstone ... | head -1`) is no failure; a full disk is.
pub(super) fn print(result: impl Display) -> ExitCode {
    match write(result) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("cannot write to standard output: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes a line to standard output. It fails with [`ErrorKind::BrokenPipe`] when nobody reads on.
pub(super) fn write(line: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush())
}

/// Items in a sentence.
pub(super) fn list(items: &[impl Display]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// Prints a line to standard error. Nothing can be done when that fails.
pub(super) fn complain(message: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{message}");
}

/// Prints every problem and returns the exit code for them.
pub(super) fn refuse(problems: &Problems) -> ExitCode {
    complain(problems);
    let count = problems.iter().count();
    let plural = if count == 1 { "" } else { "s" };
    complain(format_args!(
        "turnstone: {count} error{plural} in the configuration"
    ));
    ExitCode::from(BAD_CONFIGURATION)
}
