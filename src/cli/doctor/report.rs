//! What was found, for people and as JSON.

use std::fmt;

use serde::Serialize;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// How much a finding matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It could not be found out.
    Unknown,
    /// The server works, worse than it could.
    Warn,
    /// The server does not start, or some clients or peers cannot use it.
    Fail,
}

impl Status {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "?",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was examined, as `group.name`.
    pub(super) check: &'static str,
    pub(super) status: Status,
    /// What was found.
    pub(super) found: String,
    /// Why it matters.
    pub(super) why: Option<String>,
    /// How to mend it.
    pub(super) remedy: Option<String>,
    /// The commands or the lines of the configuration that do it.
    pub(super) command: Option<String>,
}

impl Finding {
    fn new(check: &'static str, status: Status, found: impl Into<String>) -> Self {
        Self {
            check,
            status,
            found: found.into(),
            why: None,
            remedy: None,
            command: None,
        }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, found)
    }

    pub(super) fn unknown(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Status::Unknown, found)
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, found)
    }

    pub(super) fn fail(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, found)
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    pub(super) fn fix(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = format!("  {:<4}  ", self.status.word());
        f.write_str(&wrapped(&status, &self.found))?;
        let notes = [("why", &self.why), ("fix", &self.remedy)];
        for (name, text) in notes {
            if let Some(text) = text {
                let indent = format!("        {name}  ");
                write!(f, "\n{}", wrapped(&indent, text))?;
            }
        }
        // To be copied, so it is never wrapped.
        for line in self.command.iter().flat_map(|command| command.lines()) {
            write!(f, "\n             {line}")?;
        }
        Ok(())
    }
}

/// The text behind a mark, its further lines below its first.
fn wrapped(mark: &str, text: &str) -> String {
    let indent = " ".repeat(mark.len());
    let options = textwrap::Options::new(WIDTH)
        .initial_indent(mark)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// All findings. `Display` is the table, with the total on the last line.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    status: Status,
    ok: usize,
    unknown: usize,
    warn: usize,
    fail: usize,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let count = |status| findings.iter().filter(|f| f.status == status).count();
        let worst = findings.iter().map(|finding| finding.status).max();
        Self {
            // What nobody could see is no fault.
            status: match worst {
                Some(status) if status > Status::Unknown => status,
                _ => Status::Ok,
            },
            ok: count(Status::Ok),
            unknown: count(Status::Unknown),
            warn: count(Status::Warn),
            fail: count(Status::Fail),
            findings,
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.status == Status::Fail
    }

    /// One JSON object, on several lines.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("every field has a representation in JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group = "";
        for finding in &self.findings {
            let of = finding.check.split('.').next().unwrap_or_default();
            if of != group {
                let gap = if group.is_empty() { "" } else { "\n" };
                writeln!(f, "{gap}{of}")?;
                group = of;
            }
            writeln!(f, "{finding}")?;
        }
        let Self {
            ok,
            unknown,
            warn,
            fail,
            ..
        } = self;
        let word = self.status.word();
        write!(
            f,
            "\n{word}: {fail} to mend, {warn} to look at, {unknown} could not be told, {ok} well"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Vec<Finding> {
        vec![
            Finding::ok("clock.synchronised", "the clock is synchronised"),
            Finding::unknown("firewall.rules", "nft cannot be read: run as root"),
            Finding::warn("ports.local-range", "other programs may take relay ports 49152-60999 for a connection of theirs")
                .why("an allocation then costs another attempt")
                .fix("reserve them")
                .command("a command that is longer than a line of a terminal has columns, and stays on one line"),
        ]
    }

    #[test]
    fn table() {
        let expected = "\
clock
  ok    the clock is synchronised

firewall
  ?     nft cannot be read: run as root

ports
  warn  other programs may take relay ports 49152-60999 for a connection of
        theirs
        why  an allocation then costs another attempt
        fix  reserve them
             a command that is longer than a line of a terminal has columns, and stays on one line

warn: 0 to mend, 1 to look at, 1 could not be told, 1 well";
        assert_eq!(Report::new(findings()).to_string(), expected);
    }

    #[test]
    fn the_worst_finding_counts_and_the_unknown_does_not() {
        let mut findings = findings();
        assert!(!Report::new(findings.clone()).failed());
        findings.push(Finding::fail("listen.port", "taken"));
        assert!(Report::new(findings.clone()).failed());
        findings.truncate(2);
        let report = Report::new(findings);
        assert_eq!(report.status, Status::Ok);
        let json: serde_json::Value = serde_json::from_str(&report.to_json()).unwrap();
        assert_eq!(json["status"], "ok");
        assert_eq!(json["unknown"], 1);
        assert_eq!(json["findings"][1]["check"], "firewall.rules");
        assert_eq!(json["findings"][0]["why"], serde_json::Value::Null);
    }
}
