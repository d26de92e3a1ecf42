//! From coturn's `turnserver.conf` to a `turnserver.toml`.
//!
//! [`import()`] accounts for every line: it is translated, or not needed, or has no counterpart and
//! the finding says what to do instead, or nobody knows it, or its value is none. `options` is the
//! table of all of coturn's options, which `docs/migration.md` repeats. Options that become keys
//! have rules, by subject: `listen`, `relay`, `auth`, `peers`, `limits`.
//!
//! What comes out is a configuration that loads: each value is tried on the configuration's own
//! checks before it is written.

mod auth;
mod draft;
mod limits;
mod line;
mod listen;
mod options;
mod peers;
mod ranges;
mod relay;
mod render;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::error::Problem;
use super::{Host, load, resolve};
use draft::Draft;

/// The longest file that is read: thirty times coturn's example, which is explanation for the most
/// part.
pub const INPUT_BYTES_MAX: usize = 1 << 20;

/// What has become of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Its value is none, or cannot be meant.
    Invalid,
    /// Neither coturn nor anybody else knows the option.
    Unknown,
    /// There is nothing like it; the text says what to do instead.
    Missing,
    /// It has become a key, or says what is the default. The text is what differs, if anything.
    Translated,
    /// turnstone behaves so anyway, or the option is about something that it has not.
    Needless,
}

/// What is to be said of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Counted from 1.
    pub line: usize,
    /// The option's name, as written.
    pub option: String,
    /// What has become of it.
    pub verdict: Verdict,
    /// The difference, the reason, or what to do. It holds no secret.
    pub text: String,
    /// The section of the result that it is told in; empty for the top.
    section: &'static str,
}

/// A translated configuration.
pub struct Import {
    /// The text of a `turnserver.toml`, which may hold secrets.
    pub toml: Zeroizing<String>,
    /// One for each option line, in their order.
    pub findings: Vec<Finding>,
    /// What is true of the file as a whole.
    pub notes: Vec<String>,
    /// How many lines hold a comment or nothing.
    pub idle_lines: usize,
}

/// Translates a file. `source` is its name, for the result's first line; `host` is asked for this
/// machine's addresses where the file relies on them.
pub fn import(source: &str, text: &str, host: &Host) -> Import {
    let input = line::read(text);
    let mut draft = Draft::new(&input.lines, host);
    let listening = listen::translate(&mut draft);
    tls::translate(&mut draft, &listening);
    let own = relay::translate(&mut draft, &listening);
    auth::translate(&mut draft);
    peers::translate(&mut draft, &own);
    limits::translate(&mut draft);
    draft.settle_the_rest();
    // What is told last is read first.
    draft.notes.sort_by_key(|(section, _)| *section == "auth");
    Import {
        toml: render::render(&draft, source, &input.header),
        findings: draft.findings.into_values().collect(),
        notes: draft.notes.into_iter().map(|(_, note)| note).collect(),
        idle_lines: input.idle,
    }
}

impl Import {
    /// Whether every line could be read.
    pub fn is_complete(&self) -> bool {
        let mut verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.all(|verdict| verdict != Verdict::Invalid)
    }

    /// How many lines have this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        let findings = self.findings.iter();
        findings
            .filter(|finding| finding.verdict == verdict)
            .count()
    }

    /// What the operator should read, the worst first: everything but what needs no attention.
    /// Lines of which the same is to be said are taken together.
    pub fn report(&self) -> Vec<Remark<'_>> {
        let mut remarks: Vec<Remark<'_>> = Vec::new();
        let mut places: BTreeMap<(Verdict, &str), usize> = BTreeMap::new();
        for finding in &self.findings {
            if finding.verdict == Verdict::Needless || finding.text.is_empty() {
                continue;
            }
            let (verdict, text) = (finding.verdict, finding.text.as_str());
            let place = *places.entry((verdict, text)).or_insert(remarks.len());
            if place == remarks.len() {
                let lines = Vec::new();
                remarks.push(Remark {
                    verdict,
                    lines,
                    text,
                });
            }
            remarks[place].lines.push((finding.line, &finding.option));
        }
        remarks.sort_by_key(|remark| remark.verdict);
        remarks
    }
}

/// One thing to say of one or several lines.
pub struct Remark<'a> {
    /// What has become of them.
    pub verdict: Verdict,
    /// Their numbers and options.
    pub lines: Vec<(usize, &'a str)>,
    /// What to say.
    pub text: &'a str,
}

impl fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.verdict {
            Verdict::Invalid => "bad value",
            Verdict::Unknown => "unknown",
            Verdict::Missing => "no counterpart",
            Verdict::Translated => "differs",
            Verdict::Needless => "not needed",
        };
        let lines = self.lines.iter();
        let lines: Vec<String> = lines
            .map(|(number, option)| format!("{number}: {option}"))
            .collect();
        write!(f, "{}: {label}: {}", lines.join(", "), self.text)
    }
}

/// Asks the configuration itself whether it takes these lines of TOML, on whatever machine.
///
/// # Errors
/// Its first problem.
fn check(toml: &str) -> Result<(), Problem> {
    let host = Host {
        route_sources: Vec::new(),
        interface_addresses: Vec::new(),

        local_networks: vec![],
        unknown_networks: None,
        ipv6: true,
        cpus: 1,
        bindable: |_| true,
        has_user: |_| true,
        is_elsewhere: true,
    };
    let mut problems = Vec::new();
    let document = load::read_toml(&Arc::from(""), toml, &mut problems);
    match resolve::resolve(&document, &host, problems) {
        Ok(_) => Ok(()),
        Err(problems) => Err(problems
            .iter()
            .next()
            .expect("a refusal has a problem")
            .clone()),
    }
}
