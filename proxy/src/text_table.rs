//! Tables for people at a terminal: columns as wide as needed, colours where somebody sees them.

use std::io::IsTerminal;

/// The colour of a cell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Colour {
    /// As everything else.
    #[default]
    Plain,
    /// All is well.
    Green,
    /// On the way, or on purpose.
    Yellow,
    /// Not well.
    Red,
    /// Of less interest.
    Dim,
}

impl Colour {
    /// The escape sequence (ECMA-48, select graphic rendition).
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Red => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

/// A table.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: Vec<Vec<(String, Colour)>>,
    /// Columns of numbers, which end at the same place.
    right: Vec<usize>,
}

impl Table {
    /// With these words over the columns; `right` are columns of numbers.
    #[must_use]
    pub fn new(head: &[&str], right: &[usize]) -> Self {
        let head = head.iter().map(|word| ((*word).to_owned(), Colour::Dim)).collect();
        Self { rows: vec![head], right: right.to_vec() }
    }

    /// Adds a line.
    pub fn row(&mut self, cells: Vec<(String, Colour)>) {
        self.rows.push(cells);
    }

    /// The text, with colours or without.
    #[must_use]
    pub fn text(&self, colours: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (text, colour)) in row.iter().enumerate() {
                // Nothing from a peer or a file may steer the terminal.
                let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                let padding = " ".repeat(widths[column].saturating_sub(text.chars().count()));
                let (before, after) = match colour.code() {
                    code if colours && !code.is_empty() => (code, "\x1b[0m"),
                    _ => ("", ""),
                };
                if column > 0 {
                    line.push_str("  ");
                }
                let is_last = column + 1 == row.len();
                match self.right.contains(&column) {
                    true => line.push_str(&format!("{padding}{before}{text}{after}")),
                    false if is_last => line.push_str(&format!("{before}{text}{after}")),
                    false => line.push_str(&format!("{before}{text}{after}{padding}")),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// Whether standard output shows colours (<https://no-color.org>).
#[must_use]
pub fn shows_colours() -> bool {
    std::io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none()
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// 1536000 as `1.5M`.
#[must_use]
pub fn short(number: u64) -> String {
    let (mut value, mut unit) = (number, 0);
    while value >= 10_000 && unit < 5 {
        value = value.saturating_add(500) / 1000;
        unit += 1;
    }
    format!("{value}{}", ["", "k", "M", "G", "T", "P"][unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["SERVER", "N", "STATUS"], &[1]);
        table.row(vec![
            ("a/longer".to_owned(), Colour::Plain),
            ("5".to_owned(), Colour::Plain),
            ("UP".to_owned(), Colour::Green),
        ]);
        table.row(vec![
            ("b".to_owned(), Colour::Plain),
            ("1200".to_owned(), Colour::Plain),
            ("\x1b[2J".to_owned(), Colour::Red),
        ]);
        assert_eq!(table.text(false), "SERVER       N  STATUS\na/longer     5  UP\nb         1200  ?[2J\n");
        assert!(table.text(true).contains("\x1b[32mUP\x1b[0m"));
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [(0, "0"), (9_999, "9999"), (1_536_000, "1536k"), (u64::MAX, "18447P")] {
            assert_eq!(short(number), text);
        }
    }
}
