//! From the draft to the text of a `turnserver.toml`.
//!
//! Every line of the original is named by its number: at the key that it became, or in a comment of
//! the section where one would look for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use zeroize::Zeroizing;

use super::draft::{Draft, Element, Setting, Value};
use super::line::Line;
use super::options::{self, SECTIONS};
use super::{Finding, Verdict};

/// The longest line of a comment, in characters.
const COMMENT_WIDTH: usize = 100;

/// Room for the text of all but the longest files: one that has to grow leaves secrets behind.
const TEXT_BYTES: usize = 256 << 10;

/// The whole file.
pub(super) fn render(draft: &Draft<'_>, source: &str, header: &[&str]) -> Zeroizing<String> {
    let lines = draft.lines.iter();
    let mut page = Page {
        draft,
        lines: lines.map(|line| (line.number, line)).collect(),
        text: Zeroizing::new(String::with_capacity(TEXT_BYTES)),
        told: BTreeSet::new(),
    };
    for comment in header {
        page.comment("# ", comment);
    }
    page.comment(
        "# ",
        &format!(
            "Made by turnstone import from {source}, a configuration of coturn. The numbers are \
             lines there. turnserver.toml.example explains the keys."
        ),
    );
    for section in SECTIONS {
        page.section(section);
    }
    page.text
}

struct Page<'a> {
    draft: &'a Draft<'a>,
    lines: BTreeMap<usize, &'a Line<'a>>,
    text: Zeroizing<String>,
    /// Lines whose comments are in the text.
    told: BTreeSet<usize>,
}

impl Page<'_> {
    fn section(&mut self, section: &str) {
        let settings = self.draft.settings.iter();
        let settings: Vec<&Setting> = settings
            .filter(|setting| section_of(setting.key) == section)
            .collect();
        let findings = self.draft.findings.values();
        let untranslated: Vec<_> = findings
            .filter(|f| f.section == section && f.verdict != Verdict::Translated)
            .collect();
        let notes: Vec<_> = self
            .draft
            .notes
            .iter()
            .filter(|note| note.0 == section)
            .collect();
        // A line may be translated without a key, as one that names a default is.
        let without_key: Vec<usize> = self.without_key(section);
        if settings.is_empty()
            && untranslated.is_empty()
            && notes.is_empty()
            && without_key.is_empty()
        {
            return;
        }
        self.gap();
        if !section.is_empty() {
            let _ = writeln!(self.text, "[{section}]");
        }
        for (_, note) in notes {
            self.comment("# NOTE: ", note);
        }
        self.untranslated(&untranslated);
        for line in without_key {
            self.origin(line);
        }
        for setting in settings {
            if !self.text.ends_with("]\n") || section.is_empty() {
                self.gap();
            }
            self.setting(setting);
        }
    }

    /// Lines that have become no key. Those of which the same is to be said stand together.
    fn untranslated(&mut self, findings: &[&Finding]) {
        let mut alike: BTreeMap<(Verdict, &str), Vec<usize>> = BTreeMap::new();
        for finding in findings {
            let same = alike.entry((finding.verdict, &finding.text)).or_default();
            same.push(finding.line);
        }
        for finding in findings {
            let Some(alike) = alike.remove(&(finding.verdict, finding.text.as_str())) else {
                continue;
            };
            for &line in &alike {
                self.comments_of(line, "");
                let shown = self.shown(line);
                self.comment("# ", &format!("{line}: {shown}"));
            }
            let label = match finding.verdict {
                Verdict::Translated | Verdict::Needless => "not needed",
                Verdict::Missing => "NO COUNTERPART",
                Verdict::Unknown => "UNKNOWN",
                Verdict::Invalid => "BAD VALUE",
            };
            self.comment("#   ", &format!("{label}: {}", finding.text));
        }
    }

    /// Exactly one empty line, but for the first line of all.
    fn gap(&mut self) {
        if !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// Translated lines of a section that no setting names.
    fn without_key(&self, section: &str) -> Vec<usize> {
        let named: BTreeSet<usize> = self
            .draft
            .settings
            .iter()
            .flat_map(|setting| match &setting.value {
                Value::Plain(_) => setting.lines.clone(),
                Value::List(elements) | Value::Table(elements) => {
                    elements.iter().flat_map(|e| e.lines.clone()).collect()
                }
            })
            .collect();
        let findings = self.draft.findings.values();
        findings
            .filter(|f| f.section == section && f.verdict == Verdict::Translated)
            .map(|f| f.line)
            .filter(|line| !named.contains(line))
            .collect()
    }

    fn setting(&mut self, setting: &Setting) {
        let name = setting.key.rsplit('.').next().unwrap_or(setting.key);
        let elements = match &setting.value {
            Value::Plain(toml) => {
                for &line in &setting.lines {
                    self.origin(line);
                }
                let _ = writeln!(self.text, "{name} = {}", toml.as_str());
                return;
            }
            Value::List(elements) | Value::Table(elements) => elements,
        };
        let lines: BTreeSet<usize> = elements.iter().flat_map(|e| e.lines.clone()).collect();
        let notable = lines.into_iter().filter(|line| {
            let finding = self.draft.findings.get(line);
            finding.is_some_and(|finding| !finding.text.is_empty())
        });
        // The operator's own words stand at the element.
        for line in notable.collect::<Vec<_>>() {
            self.origin_alone(line);
        }
        if let Value::Table(_) = setting.value {
            let _ = writeln!(self.text, "[{}]", setting.key);
            self.elements(elements, "", "");
        } else if elements.is_empty() {
            let _ = writeln!(self.text, "{name} = []");
        } else {
            let _ = writeln!(self.text, "{name} = [");
            self.elements(elements, "    ", ",");
            self.text.push_str("]\n");
        }
    }

    fn elements(&mut self, elements: &[Element], indent: &str, end: &str) {
        for element in elements {
            for &line in &element.lines {
                self.comments_of(line, indent);
            }
            let _ = write!(self.text, "{indent}{}{end}", element.toml.as_str());
            let numbers: Vec<String> = element.lines.iter().map(ToString::to_string).collect();
            if !numbers.is_empty() {
                let _ = write!(self.text, " # {}", numbers.join(", "));
            }
            self.text.push('\n');
        }
    }

    /// What was written, above the key that it has become.
    fn origin(&mut self, number: usize) {
        self.comments_of(number, "");
        self.origin_alone(number);
    }

    fn origin_alone(&mut self, number: usize) {
        let shown = self.shown(number);
        let finding = self.draft.findings.get(&number);
        let text = finding.map_or("", |finding| finding.text.as_str());
        let separator = if text.is_empty() { "" } else { ": " };
        self.comment("# ", &format!("{number}: {shown}{separator}{text}"));
    }

    /// An option with its value, unless that may be a secret.
    fn shown(&self, number: usize) -> String {
        let finding = self.draft.findings.get(&number);
        let name = finding.map_or("", |finding| finding.option.as_str());
        let value = self.lines.get(&number).map_or("", |line| line.value);
        match options::find(name) {
            Some(option) if !option.is_secret && !value.is_empty() => format!("{name}={value}"),
            _ => name.to_owned(),
        }
    }

    /// What the operator wrote above a line, once.
    fn comments_of(&mut self, number: usize, indent: &str) {
        if !self.told.insert(number) {
            return;
        }
        let line = self.lines.get(&number);
        for comment in line.map_or(&[][..], |line| &line.comments) {
            let _ = writeln!(self.text, "{indent}# {}", printable(comment));
        }
    }

    /// A comment, on as many lines as it takes.
    fn comment(&mut self, start: &str, text: &str) {
        let text = printable(text);
        let mut width = start.len();
        self.text.push_str(start);
        for (index, word) in text.split_whitespace().enumerate() {
            let length = word.chars().count();
            if index > 0 && width + 1 + length > COMMENT_WIDTH {
                self.text.push_str("\n#   ");
                width = 4;
            } else if index > 0 {
                self.text.push(' ');
                width += 1;
            }
            self.text.push_str(word);
            width += length;
        }
        self.text.push('\n');
    }
}

/// TOML has no control characters in comments.
fn printable(text: &str) -> String {
    text.replace(|c: char| c.is_control() && c != '\t', "\u{fffd}")
}

fn section_of(key: &str) -> &str {
    key.split_once('.').map_or("", |(section, _)| section)
}
