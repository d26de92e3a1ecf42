//! The syntax of `turnserver.conf`, read as coturn reads it.

use super::options;

/// One option as written.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) name: &'a str,
    /// Without the quotes around it; empty if there is none. It may be a secret.
    pub(super) value: &'a str,
    /// What the operator wrote in the lines above.
    pub(super) comments: Vec<&'a str>,
}

impl<'a> Line<'a> {
    /// The value without what coturn would take for a part of it, but nobody means as one: a
    /// comment or a semicolon behind it. Not for texts, which may have either.
    pub(super) fn bare(&self) -> &'a str {
        let comment = self.value.find(" #").or_else(|| self.value.find("\t#"));
        self.value[..comment.unwrap_or(self.value.len())].trim_end_matches([';', ' ', '\t', '"'])
    }

    /// Whether a switch is on. Alone it is; otherwise the first letter counts, as in coturn.
    pub(super) fn is_on(&self) -> Option<bool> {
        let value = self.bare();
        match value.chars().next() {
            None | Some('1'..='9' | 'y' | 'Y' | 't' | 'T') => Some(true),
            Some('0' | 'n' | 'N' | 'f' | 'F') => Some(false),
            Some(_) if value.eq_ignore_ascii_case("on") => Some(true),
            Some(_) if value.eq_ignore_ascii_case("off") => Some(false),
            Some(_) => None,
        }
    }
}

/// A file, line by line.
#[derive(Debug)]
pub(super) struct Input<'a> {
    /// What the file says of itself at its top.
    pub(super) header: Vec<&'a str>,
    pub(super) lines: Vec<Line<'a>>,
    /// Lines that hold a comment or nothing.
    pub(super) idle: usize,
}

/// Reads a file. There is nothing that is no line: what makes no sense is an option of a name that
/// nobody knows.
pub(super) fn read(text: &str) -> Input<'_> {
    let mut lines = Vec::new();
    let mut comments: Vec<&str> = Vec::new();
    let mut header = Vec::new();
    let mut idle = 0;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix('#') {
            idle += 1;
            let comment = comment.trim_start_matches('#').trim();
            // coturn's own explanations end with an empty comment; the operator's rarely do.
            if comment.is_empty() {
                comments.clear();
            } else if !is_option_switched_off(comment) {
                comments.push(comment);
            }
            continue;
        }
        if header.is_empty() && !comments.is_empty() && comments.len() == index {
            header = std::mem::take(&mut comments);
        }
        if line.is_empty() {
            idle += 1;
            comments.clear();
        } else {
            let (name, value) = split(line);
            lines.push(Line {
                number: index + 1,
                name,
                value,
                comments: std::mem::take(&mut comments),
            });
        }
    }
    Input {
        header,
        lines,
        idle,
    }
}

/// Name and value, between which any number of blanks and `=` stands.
fn split(line: &str) -> (&str, &str) {
    let separators = [' ', '\t', '='];
    let (name, value) = line.split_once(separators).unwrap_or((line, ""));
    let value = value.trim_start_matches(separators);
    let value = match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => value,
    };
    (name, value)
}

fn is_option_switched_off(comment: &str) -> bool {
    let (name, rest) = comment.split_at(comment.find([' ', '\t', '=']).unwrap_or(comment.len()));
    options::find(name).is_some() && (rest.is_empty() || rest.trim_start().starts_with('='))
}
