//! `turnstone revoke`: credentials that are refused before their time.

use std::fmt;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::admin_client::{AdminClient, Failure, ServerArgs, encoded, read};
use super::table::{allocations, shown};
use super::{NOT_KEPT, output};

/// Refuse credentials from now on, and end the allocations made with them
///
/// A user is refused with every time-limited name, now and in future; a USERNAME such as
/// 1767225600:alice alone. Other credentials of that user stay good.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["name", "list"])))]
pub(super) struct Args {
    /// The user, or a USERNAME with its expiry, as the log and turnstone allocations show them
    name: Option<String>,

    /// Until when: Unix time, a date like 2026-12-31T23:59:59Z, or a time from now like 2h
    /// [default: the expiry in the USERNAME; for ever]
    #[arg(long, value_name = "TIME", value_parser = parse_until, conflicts_with_all = ["undo", "list"])]
    until: Option<u64>,

    /// NAME is a user, whatever it looks like
    #[arg(long, conflicts_with_all = ["undo", "list"])]
    user: bool,

    /// Let the credentials be good again
    #[arg(long, conflicts_with = "list")]
    undo: bool,

    /// Print the revocations in force: USER or USERNAME, and their ends
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Revoked {
    #[serde(flatten)]
    revocation: Revocation,
    ended: u64,
    persisted: bool,
}

#[derive(Deserialize)]
struct Undone {
    persisted: bool,
}

#[derive(Deserialize)]
struct List {
    revocations: Vec<Revocation>,
    persistent: bool,
}

#[derive(Deserialize)]
struct Revocation {
    user: Option<String>,
    username: Option<String>,
    until_unix_s: Option<u64>,
}

#[derive(Deserialize)]
struct Kept {
    persisted: bool,
}

const NOT_PERSISTED: &str = "note: this does not survive a restart of the server; its log says why";

impl Args {
    pub(super) fn run(self) -> ExitCode {
        match self.ask() {
            Ok(code) => code,
            Err(failure) => failure.tell(),
        }
    }

    fn ask(self) -> Result<ExitCode, Failure> {
        let server = AdminClient::new(self.server)?;
        let name = self.name.unwrap_or_default();
        let (method, path, body) = if self.list {
            (Method::GET, "/v1/revocations".to_owned(), String::new())
        } else if self.undo {
            // Unlike a parameter's, a path's space is no plus.
            let name = encoded(&name).replace('+', "%20");
            let path = format!("/v1/revocations/{name}");
            (Method::DELETE, path, String::new())
        } else {
            // Which of the two a name is, the server knows by its separator.
            let kind = if self.user { "user" } else { "name" };
            let mut body = json!({ kind: name });
            if let Some(until) = self.until {
                body["until_unix_s"] = until.into();
            }
            (Method::POST, "/v1/revocations".to_owned(), body.to_string())
        };
        let text = server.ask_for_text(method, &path, body)?;
        if server.is_json() {
            let is_kept = self.list || read::<Kept>(&text)?.persisted;
            return Ok(exit(output::print(text), is_kept));
        }
        let (told, is_persisted) = if self.list {
            let list: List = read(&text)?;
            (list.to_string(), list.persistent)
        } else if self.undo {
            let undone: Undone = read(&text)?;
            (format!("{}: good again", shown(&name)), undone.persisted)
        } else {
            let revoked: Revoked = read(&text)?;
            (revoked.to_string(), revoked.persisted)
        };
        let printed = output::print(told);
        if !is_persisted {
            output::complain(NOT_PERSISTED);
        }
        Ok(exit(printed, self.list || is_persisted))
    }
}

/// A script is not to take for done what the next start of the server does not know.
fn exit(printed: ExitCode, is_kept: bool) -> ExitCode {
    if is_kept || printed != ExitCode::SUCCESS {
        return printed;
    }
    ExitCode::from(NOT_KEPT)
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {} ended", self.revocation, allocations(self.ended))
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match (&self.user, &self.username) {
            (Some(name), _) => ("user", &**name),
            (None, name) => ("USERNAME", name.as_deref().unwrap_or_default()),
        };
        write!(
            f,
            "{kind} {}: refused {}",
            shown(name),
            until(self.until_unix_s)
        )
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, revocation) in self.revocations.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            revocation.fmt(f)?;
        }
        if self.revocations.is_empty() {
            f.write_str("no credential is revoked")?;
        }
        Ok(())
    }
}

fn until(unix_s: Option<u64>) -> String {
    let time = unix_s.map(|unix_s| UNIX_EPOCH.checked_add(Duration::from_secs(unix_s)));
    match time {
        None => "for ever".to_owned(),
        // The formatter knows four digits of a year.
        Some(Some(time)) if unix_s < Some(253_402_300_800) => {
            format!("until {}", humantime::format_rfc3339_seconds(time))
        }
        Some(_) => format!("until Unix time {}", unix_s.unwrap_or_default()),
    }
}

fn parse_until(text: &str) -> Result<u64, String> {
    if let Ok(unix_s) = text.parse() {
        return Ok(unix_s);
    }
    let from_now = humantime::parse_duration(text).ok();
    let time = from_now.and_then(|duration| SystemTime::now().checked_add(duration));
    let time = time.or_else(|| humantime::parse_rfc3339_weak(text).ok());
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let unix_s = since_1970.map(|since| since.as_secs());
    unix_s.ok_or_else(|| "write a Unix time, 2026-12-31T23:59:59Z, or 2h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ADM-07: a name may have come from a client.
    #[test]
    fn names_in_the_list_cannot_write_on_the_terminal() {
        let list = List {
            revocations: vec![Revocation {
                user: None,
                username: Some("x\x1b[31mred\ny".to_owned()),
                until_unix_s: None,
            }],
            persistent: true,
        };
        let expected = "USERNAME x\u{fffd}[31mred\u{fffd}y: refused for ever";
        assert_eq!(list.to_string(), expected);
    }

    #[test]
    fn times() {
        assert_eq!(parse_until("1767225600"), Ok(1_767_225_600));
        assert_eq!(parse_until("2026-01-01T00:00:00Z"), Ok(1_767_225_600));
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let in_an_hour = parse_until("1h").unwrap();
        assert!((now + 3600..=now + 3660).contains(&in_an_hour));
        assert!(parse_until("tomorrow").is_err());
        assert_eq!(until(Some(1_767_225_600)), "until 2026-01-01T00:00:00Z");
        assert_eq!(
            until(Some(u64::MAX)),
            format!("until Unix time {}", u64::MAX)
        );
        assert_eq!(until(None), "for ever");
    }
}
