//! Tables and units for people.

use std::fmt;

/// Characters of a cell at most; longer ones are cut.
const CELL_MAX: usize = 47;

/// Which side of its column a cell is on.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Left,
    Right,
}

/// Rows below names of columns, with two spaces between the columns.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Side)]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: vec![],
        }
    }

    /// Adds a row of as many cells as there are columns.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        let shown = cells.iter().map(|cell| cut(&shown(cell)));
        self.rows.push(shown.collect());
    }

    /// Adds a row of which nothing is cut.
    pub(super) fn whole_row(&mut self, cells: &[&str]) {
        self.rows
            .push(cells.iter().map(|cell| shown(cell)).collect());
    }
}

/// What of a text can be shown: names are what clients send, and must not move the cursor.
pub(super) fn shown(text: &str) -> String {
    let shown = text.chars().map(|character| {
        let is_plain = !character.is_control() && !is_invisible(character);
        if is_plain { character } else { '\u{fffd}' }
    });
    shown.collect()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= CELL_MAX {
        return text.to_owned();
    }
    let kept = text.chars().take(CELL_MAX - 1);
    kept.chain(['…']).collect()
}

/// Characters that turn the direction of writing or have no width.
const fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            let name = self.columns[column].0.chars().count();
            cells.max().unwrap_or(0).max(name)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut line = String::new();
            for ((cell, width), (_, side)) in cells.zip(&widths).zip(&self.columns) {
                match side {
                    Side::Left => line += &format!("{cell:<width$}  "),
                    Side::Right => line += &format!("{cell:>width$}  "),
                }
            }
            line.trim_end().to_owned()
        };
        f.write_str(&line(&mut self.columns.iter().map(|(name, _)| *name)))?;
        for row in &self.rows {
            write!(f, "\n{}", line(&mut row.iter().map(String::as_str)))?;
        }
        Ok(())
    }
}

/// How many allocations: `1 allocation`, `2 allocations`.
pub(super) fn allocations(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} allocation{plural}")
}

/// Three digits and a unit: `999 B`, `1.23 kB`, `45.6 MB`.
pub(super) fn bytes(bytes: u64) -> String {
    scaled(bytes, "B")
}

/// Likewise: `1.23 Mbit/s`.
pub(super) fn bit_rate(bits_per_s: u64) -> String {
    scaled(bits_per_s, "bit/s")
}

fn scaled(number: u64, unit: &str) -> String {
    const PREFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
    let (mut scale, mut prefix) = (1_u64, 0);
    // Rounded up to the next thousand it has the next prefix.
    while prefix + 1 < PREFIXES.len() && number / scale >= 1000 {
        scale *= 1000;
        prefix += 1;
    }
    if prefix == 0 {
        return format!("{number} {unit}");
    }
    let value = number as f64 / scale as f64;
    let digits = match value {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$} {}{unit}", PREFIXES[prefix])
}

/// The two largest units: `45s`, `3m05s`, `2h07m`, `4d01h`.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&[("ID", Side::Left), ("BYTES", Side::Right)]);
        table.row(vec!["0-1-2".to_owned(), "1".to_owned()]);
        table.row(vec!["1-22-333".to_owned(), "1.23 kB".to_owned()]);
        let expected = "\
ID          BYTES
0-1-2           1
1-22-333  1.23 kB";
        assert_eq!(table.to_string(), expected);
    }

    /// ADM-07
    #[test]
    fn names_cannot_write_on_the_terminal() {
        assert_eq!(
            shown("a\x1b[2Jb\n\u{202e}c"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c"
        );
        assert_eq!(cut(&"x".repeat(CELL_MAX)), "x".repeat(CELL_MAX));
        let long = cut(&"x".repeat(CELL_MAX + 1));
        assert_eq!(long.chars().count(), CELL_MAX);
        assert!(long.ends_with("x…"));
        // The longest address is whole.
        let address = "[1111:2222:3333:4444:5555:6666:7777:8888]:65535";
        assert_eq!(cut(address), address);
    }

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (number, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.00 kB"),
            (1234, "1.23 kB"),
            (99_949, "99.9 kB"),
            (99_950, "100 kB"),
            (45_600_000, "45.6 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
        assert_eq!(bit_rate(1_500_000), "1.50 Mbit/s");
    }

    #[test]
    fn durations_have_two_units() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m00s"),
            (3599, "59m59s"),
            (3600, "1h00m"),
            (90_061, "1d01h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
