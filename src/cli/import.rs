//! `turnstone import`: a configuration of coturn becomes one of turnstone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::config::Host;
use crate::config::coturn::{self, INPUT_BYTES_MAX, Import, Verdict};

use super::{BAD_CONFIGURATION, output};

/// Translate a configuration of coturn (turnserver.conf)
///
/// Every line of it is accounted for in the result, and what has no counterpart or differs is told
/// on standard error, with what to do. Ends with 1 if a value cannot be read: the result then lacks
/// that line. docs/migration.md has all options.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The configuration of coturn
    file: PathBuf,

    /// Where to write to, instead of standard output. Only the user of this command can read it, as
    /// it may hold secrets
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the output file if there is one
    #[arg(long, requires = "output")]
    force: bool,
}

impl Args {
    pub(super) fn run(self) -> ExitCode {
        let text = match read(&self.file) {
            Ok(text) => text,
            Err(message) => {
                output::complain(message);
                return ExitCode::from(BAD_CONFIGURATION);
            }
        };
        let source = self.file.display().to_string();
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let import = coturn::import(&name, &text, &Host::probe());
        let written = match &self.output {
            None => output::print(import.toml.trim_end()),
            Some(path) => match write(path, &import.toml, self.force) {
                Ok(()) => ExitCode::SUCCESS,
                Err(message) => {
                    output::complain(message);
                    ExitCode::FAILURE
                }
            },
        };
        if written != ExitCode::SUCCESS {
            return written;
        }
        report(&source, &import, self.output.as_deref());
        if import.is_complete() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// The file's text, or what is wrong with it.
fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let shown = path.display();
    // Bytes that grow would leave copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(INPUT_BYTES_MAX + 1));
    File::open(path)
        .and_then(|file| {
            file.take(INPUT_BYTES_MAX as u64 + 1)
                .read_to_end(&mut bytes)
        })
        .map_err(|error| {
            format!("{shown}: cannot be read ({error}); check the path and its rights")
        })?;
    if bytes.len() > INPUT_BYTES_MAX {
        return Err(format!(
            "{shown}: is longer than {INPUT_BYTES_MAX} bytes; is it a turnserver.conf?"
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            Err(format!(
                "{shown}:{line}: is not UTF-8; convert the file, e.g. with iconv"
            ))
        }
    }
}

/// Makes the file appear whole or not at all.
fn write(path: &Path, text: &str, force: bool) -> Result<(), String> {
    let shown = path.display();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let written = create(&draft, text).and_then(|()| match force {
        true => fs::rename(&draft, path),
        false => appear(&draft, path),
    });
    if written.is_err() {
        // It may be what is there already that was in the way.
        let _ = fs::remove_file(&draft);
    }
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            format!("{shown}: is there already; choose another name, or replace it with --force")
        }
        _ => format!("{shown}: cannot be written ({error})"),
    })
}

/// Renames a file, unless there is one of that name already.
fn appear(draft: &Path, path: &Path) -> io::Result<()> {
    match renameat_with(CWD, draft, CWD, path, RenameFlags::NOREPLACE) {
        // File systems that cannot (NFS) have links, and one that has no links (FAT) can.
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::hard_link(draft, path)?;
            fs::remove_file(draft)
        }
        renamed => Ok(renamed?),
    }
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn report(source: &str, import: &Import, path: Option<&Path>) {
    for remark in import.report() {
        output::complain(format_args!("{source}:{remark}"));
    }
    for note in &import.notes {
        output::complain(format_args!("note: {note}"));
    }
    let count = import.findings.len();
    let plural = if count == 1 { "" } else { "s" };
    output::complain(format_args!(
        "{source}: {count} option{plural}: {} translated, {} not needed, {} without counterpart, \
         {} unknown, {} with a bad value; {} lines of comment or nothing",
        import.count(Verdict::Translated),
        import.count(Verdict::Needless),
        import.count(Verdict::Missing),
        import.count(Verdict::Unknown),
        import.count(Verdict::Invalid),
        import.idle_lines,
    ));
    if let Some(path) = path {
        let path = path.display();
        output::complain(format_args!(
            "next: turnstone check-config {path}; and let the server's user read it: \
             chgrp turnstone {path} && chmod 640 {path}"
        ));
    }
}
