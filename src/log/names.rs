//! Names of users in text lines: in quotes unless they are plain words, so that they can pass for
//! nothing else in the line. In JSON the format itself sees to that.

use std::fmt::{self, Debug, Display};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

/// The field with the name.
const USER: &str = "user";

/// A longer name may have been cut, and the quotes show what it is that is there.
const PLAIN_MAX: usize = 127;

/// The usual fields of a text line, but for the name.
pub(super) struct TextFields;

impl<'writer> FormatFields<'writer> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = Visitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct Visitor<'a>(DefaultVisitor<'a>);

impl Visit for Visitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == USER {
            let name = Printable(value);
            self.0.record_debug(field, &format_args!("{name}"));
        } else {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.record_debug(field, value);
    }
}

struct Printable<'a>(&'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._:@+-".contains(c);
        if self.0.len() <= PLAIN_MAX && self.0.chars().all(is_plain) {
            return f.write_str(self.0);
        }
        write!(f, "\"{}\"", self.0.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_forge_lines() {
        let printed = Printable("a\nallocation created\u{1b}[31m").to_string();
        assert_eq!(printed, r#""a\nallocation created\u{1b}[31m""#);
        let name = "x client=192.0.2.1:1 user=\"root\"";
        let printed = Printable(name).to_string();
        assert_eq!(printed, r#""x client=192.0.2.1:1 user=\"root\"""#);
        for plain in ["1767225600:alice", &"x".repeat(127)] {
            assert_eq!(Printable(plain).to_string(), plain);
        }
        let cut = "x".repeat(128);
        assert_eq!(Printable(&cut).to_string(), format!("\"{cut}\""));
    }
}
