//! Log set-up: `tracing` events to standard error, as text or as JSON lines.
//!
//! Called once, by the commands that serve. Nothing above `engine` logs packets, and nothing
//! anywhere logs a secret.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging to standard error. Has no effect when the process logs already.
///
/// Colours are for terminals only, and there is no time on the lines when standard error is the
/// systemd journal, which adds its own; else it is UTC as of RFC 3339. `RUST_LOG` is not read: the
/// level has one place, `log.level`.
pub fn init(log: &Log) {
    let level = filter(log.level);
    // Libraries tell their innards at debug, which drown ours.
    let targets = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), level)
        .with_default(level.min(LevelFilter::WARN));
    let lines = lines(log.format, is_journal(&io::stderr())).with_filter(targets);
    let _ = tracing_subscriber::registry().with(lines).try_init();
}

fn lines(format: LogFormat, journal: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let layer = fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(colours)
        .with_target(false);
    match (format, journal) {
        (LogFormat::Text, false) => layer.with_timer(SystemTime).boxed(),
        (LogFormat::Text, true) => layer.without_time().boxed(),
        (LogFormat::Json, false) => layer.json().flatten_event(true).boxed(),
        (LogFormat::Json, true) => layer.json().flatten_event(true).without_time().boxed(),
    }
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Whether this stream ends in the systemd journal. `JOURNAL_STREAM` alone does not tell: it is
/// inherited by children whose streams go elsewhere.
pub fn is_journal(stream: &impl AsFd) -> bool {
    let Ok(announced) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(copy) = stream.as_fd().try_clone_to_owned() else {
        return false;
    };
    let Ok(metadata) = File::from(copy).metadata() else {
        return false;
    };
    announced == format!("{}:{}", metadata.dev(), metadata.ino())
}
