//! The configuration in the making: what the rules have found out about each line, and the keys
//! that they have set.

use std::collections::BTreeMap;
use std::net::IpAddr;

use zeroize::{Zeroize, Zeroizing};

use super::line::Line;
use super::options::{self, CoturnOption, Fate};
use super::{Finding, Verdict};
use crate::config::Host;
use crate::config::error::Problem;

/// The longest name that is compared with those of options, of which the longest has 33 bytes.
const MISSPELT_LEN_MAX: usize = 40;

/// The longest unknown name that is told whole.
const LIKELY_NAME_LEN_MAX: usize = 16;

/// A value of a list or of a table, and the lines that it comes from.
pub(super) struct Element {
    /// As TOML, for a table with its name.
    pub(super) toml: Zeroizing<String>,
    pub(super) lines: Vec<usize>,
}

/// The value of a key.
pub(super) enum Value {
    /// As TOML.
    Plain(Zeroizing<String>),
    List(Vec<Element>),
    /// A table below a header of its own.
    Table(Vec<Element>),
}

/// A key that is set.
pub(super) struct Setting {
    /// Section and name, e.g. `relay.ports`.
    pub(super) key: &'static str,
    pub(super) value: Value,
    /// The lines that it comes from, if it is no list.
    pub(super) lines: Vec<usize>,
}

/// What the rules read from and write to.
pub(super) struct Draft<'a> {
    pub(super) lines: &'a [Line<'a>],
    pub(super) host: &'a Host,
    /// By number of the line.
    pub(super) findings: BTreeMap<usize, Finding>,
    pub(super) settings: Vec<Setting>,
    /// What is true of the file as a whole, with the section that it belongs to.
    pub(super) notes: Vec<(&'static str, String)>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(lines: &'a [Line<'a>], host: &'a Host) -> Self {
        Self {
            lines,
            host,
            findings: BTreeMap::new(),
            settings: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Every line of an option.
    pub(super) fn all(&self, name: &'static str) -> Vec<&'a Line<'a>> {
        debug_assert!(options::find(name).is_some(), "{name} is in the table");
        self.lines.iter().filter(|line| line.name == name).collect()
    }

    /// The last line of an option that has a value; in coturn it replaces the earlier ones.
    pub(super) fn last(&mut self, name: &'static str) -> Option<&'a Line<'a>> {
        let lines = self.all(name);
        let (last, earlier) = lines.split_last()?;
        for line in earlier {
            self.needless(line, format!("line {} replaces it", last.number));
        }
        Some(last)
    }

    /// The last line of an option that needs a value.
    pub(super) fn text(&mut self, name: &'static str) -> Option<&'a Line<'a>> {
        let line = self.last(name)?;
        if line.value.is_empty() {
            self.invalid(line, "it has no value", "write one, or remove the line");
            return None;
        }
        Some(line)
    }

    /// A switch, if it is written and on.
    pub(super) fn switch(&mut self, name: &'static str) -> Option<&'a Line<'a>> {
        let line = self.last(name)?;
        match line.is_on() {
            Some(true) => Some(line),
            Some(false) => {
                self.needless(line, "it is off, as it is without this line");
                None
            }
            None => {
                self.not_a_switch(line);
                None
            }
        }
    }

    pub(super) fn not_a_switch(&mut self, line: &Line<'_>) {
        let what = format!("{:?} is neither on nor off", line.bare());
        self.invalid(line, what, "write on or off");
    }

    /// A whole number.
    pub(super) fn number(&mut self, name: &'static str) -> Option<(&'a Line<'a>, u64)> {
        let line = self.text(name)?;
        let text = line.bare();
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some(number) = text.parse().ok().filter(|_| digits) {
            return Some((line, number));
        }
        let what = format!("{text:?} is not a whole number");
        self.invalid(line, what, "write digits only");
        None
    }

    /// A whole number, for which the option alone stands too.
    pub(super) fn number_or(
        &mut self,
        name: &'static str,
        alone: u64,
    ) -> Option<(&'a Line<'a>, u64)> {
        let is_alone = self.all(name).last()?.value.is_empty();
        if is_alone {
            self.last(name).map(|line| (line, alone))
        } else {
            self.number(name)
        }
    }

    /// A port.
    pub(super) fn port(&mut self, name: &'static str) -> Option<(&'a Line<'a>, u16)> {
        let (line, number) = self.number(name)?;
        match u16::try_from(number) {
            Ok(port) if port > 0 => Some((line, port)),
            _ => {
                let what = format!("{number} is not a port");
                self.invalid(line, what, "write 1 to 65535");
                None
            }
        }
    }

    /// An address, with brackets or without.
    pub(super) fn address(&mut self, line: &Line<'_>, text: &str) -> Option<IpAddr> {
        let bare = text.trim().trim_start_matches('[').trim_end_matches(']');
        let parsed = bare.parse().ok();
        if parsed.is_none() {
            let what = format!("{text:?} is not an IP address");
            self.invalid(
                line,
                what,
                "write one such as 203.0.113.10: names are not looked up",
            );
        }
        parsed
    }

    /// The line has become keys. `note` is what to know beyond the option's own.
    pub(super) fn translated(&mut self, line: &Line<'_>, note: impl Into<String>) {
        let option = known(line).filter(|option| option.differs);
        let (own, more) = (option.map_or("", |option| option.note), note.into());
        let both = !own.is_empty() && !more.is_empty();
        let text = format!("{own}{}{more}", if both { "; " } else { "" });
        self.tell(line, Verdict::Translated, text);
    }

    pub(super) fn needless(&mut self, line: &Line<'_>, why: impl Into<String>) {
        self.tell(line, Verdict::Needless, why.into());
    }

    pub(super) fn missing(&mut self, line: &Line<'_>, instead: impl Into<String>) {
        self.tell(line, Verdict::Missing, instead.into());
    }

    pub(super) fn invalid(
        &mut self,
        line: &Line<'_>,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let text = format!("{}; {}", what.into(), remedy.into());
        self.tell(line, Verdict::Invalid, text);
    }

    /// The configuration's own words about a value that it does not take.
    pub(super) fn refused(&mut self, line: &Line<'_>, problem: &Problem) {
        self.invalid(line, &problem.what, &problem.remedy);
    }

    fn tell(&mut self, line: &Line<'_>, verdict: Verdict, text: String) {
        let option = known(line);
        let finding = Finding {
            line: line.number,
            option: option.map_or_else(|| told(line.name), |option| option.name.to_owned()),
            verdict,
            // Keys are marked for the manual only.
            text: text.replace('`', ""),
            section: option.map_or("", |option| option.section),
        };
        let earlier = self.findings.insert(line.number, finding);
        debug_assert!(
            earlier.is_none(),
            "line {} ({}) has one verdict",
            line.number,
            line.name
        );
    }

    /// Whether the line has its verdict.
    pub(super) fn is_settled(&self, line: &Line<'_>) -> bool {
        self.findings.contains_key(&line.number)
    }

    /// Says something of the file as a whole.
    pub(super) fn note(&mut self, section: &'static str, text: impl Into<String>) {
        self.notes.push((section, text.into()));
    }

    /// Sets a key to a value in TOML.
    pub(super) fn set(
        &mut self,
        key: &'static str,
        toml: impl Into<Zeroizing<String>>,
        lines: &[&Line<'_>],
    ) {
        self.settings.push(Setting {
            key,
            value: Value::Plain(toml.into()),
            lines: lines.iter().map(|line| line.number).collect(),
        });
    }

    pub(super) fn set_list(&mut self, key: &'static str, elements: Vec<Element>) {
        self.settings.push(Setting {
            key,
            value: Value::List(elements),
            lines: Vec::new(),
        });
    }

    pub(super) fn set_table(&mut self, key: &'static str, elements: Vec<Element>) {
        self.settings.push(Setting {
            key,
            value: Value::Table(elements),
            lines: Vec::new(),
        });
    }

    /// What the table says of the lines that no rule is for.
    pub(super) fn settle_the_rest(&mut self) {
        for line in self.lines {
            if self.is_settled(line) {
                continue;
            }
            let Some(option) = known(line) else {
                self.tell(line, Verdict::Unknown, unknown(line.name));
                continue;
            };
            match (option.is_switch.then(|| line.is_on()), option.fate) {
                (Some(None), _) => self.not_a_switch(line),
                (Some(Some(false)), _) => {
                    self.needless(line, "it is off, as it is without this line");
                }
                (_, Fate::Needless) => self.needless(line, option.note),
                (_, Fate::Missing) => self.missing(line, option.note),
                (_, Fate::Becomes(_)) => {
                    debug_assert!(false, "{} has a rule", line.name);
                    self.missing(line, option.note);
                }
            }
        }
    }
}

fn known(line: &Line<'_>) -> Option<&'static CoturnOption> {
    options::find(line.name)
}

/// The option that an unknown name is a slip of, if it is one of any.
fn meant(name: &str) -> Option<&'static str> {
    let plain = word(name).trim_start_matches('-');
    if let Some(option) = options::find(plain) {
        return Some(option.name);
    }
    let names = options::OPTIONS.iter().map(|option| option.name);
    (plain.len() <= MISSPELT_LEN_MAX)
        .then(|| crate::config::suggest::nearest(plain, names))
        .flatten()
}

/// coturn warns of such a line, and starts.
fn unknown(name: &str) -> String {
    match meant(name) {
        Some(meant) => format!(
            "no coturn knows it, so it has had no effect; if {meant} was meant, correct the line \
             and import again"
        ),
        None => "no coturn knows it, so it has had no effect; remove it".to_owned(),
    }
}

/// What is told of an unknown name. It may be, or have behind it, a secret that was meant for
/// another option: whatever looks like no name is cut off.
fn told(name: &str) -> String {
    let word = word(name);
    if word.len() > LIKELY_NAME_LEN_MAX && meant(name).is_none() {
        let start: String = word.chars().take(LIKELY_NAME_LEN_MAX / 2).collect();
        return format!("{start}...");
    }
    word.to_owned()
}

/// What a name may consist of, from the start.
fn word(name: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let end = name.find(|c| !is_part(c)).unwrap_or(name.len());
    &name[..end]
}

/// A text in TOML, quoted.
pub(super) fn quoted(text: &str) -> Zeroizing<String> {
    let mut value = toml::Value::String(text.to_owned());
    let quoted = Zeroizing::new(value.to_string());
    if let toml::Value::String(copy) = &mut value {
        copy.zeroize();
    }
    quoted
}
