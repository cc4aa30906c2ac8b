//! Octets written as RabbitMQ writes them in close texts, that is as Erlang's `~w` and `~p` print a binary.
//!
//! `~p` breaks lines near column 80, and RabbitMQ sends the breaks to the client; clients and tests that compare
//! whole texts depend on them, so the breaks are made here too.

use std::fmt::Write as _;

/// More octets than fit in a close text are not printed.
const MOST: usize = 255;

/// Erlang's printer fills lines up to here.
const LINE: usize = 79;

/// As `~w` does: always numbers, on one line, such as `<<0,0,255>>`.
#[must_use]
pub fn binary_plain(octets: &[u8]) -> String {
    let mut text = String::from("<<");
    for (index, octet) in octets.iter().take(MOST).enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{octet}");
    }
    text.push_str(">>");
    text
}

/// Appends a binary as `~p` does: `<<"abc">>` when every octet is a printable Latin-1 character, otherwise
/// numbers, broken into lines.
pub fn push_binary(text: &mut String, octets: &[u8]) {
    let octets = &octets[..octets.len().min(MOST)];
    if octets.is_empty() || !octets.iter().all(|&octet| printable(octet)) {
        push_numbers(text, octets);
        return;
    }
    text.push_str("<<\"");
    for &octet in octets {
        push_escaped(text, octet);
    }
    text.push_str("\">>");
}

/// Appends a tuple of an atom and a number as `~p` does: on one line when it ends before the last column,
/// otherwise with the number on a line of its own.
pub fn push_pair(text: &mut String, atom: &str, number: u8) {
    let column = column(text);
    let number = number.to_string();
    let width = atom.len() + number.len() + 3;
    if column + width < LINE {
        let _ = write!(text, "{{{atom},{number}}}");
    } else {
        let _ = write!(text, "{{{atom},\n{:indent$}{number}}}", "", indent = column + 1);
    }
}

fn push_numbers(text: &mut String, octets: &[u8]) {
    text.push_str("<<");
    let indent = column(text);
    let mut column = indent;
    for (index, octet) in octets.iter().enumerate() {
        let last = index + 1 == octets.len();
        let number = if last { octet.to_string() } else { format!("{octet},") };
        if column + number.len() > LINE && index > 0 {
            let _ = write!(text, "\n{:indent$}", "");
            column = indent;
        }
        column += number.len();
        text.push_str(&number);
    }
    text.push_str(">>");
}

/// Characters since the last line break.
fn column(text: &str) -> usize {
    text.chars().rev().take_while(|&letter| letter != '\n').count()
}

fn printable(octet: u8) -> bool {
    matches!(octet, 8..=13 | 27 | 32..=126 | 160..=255)
}

fn push_escaped(text: &mut String, octet: u8) {
    match octet {
        b'"' => text.push_str("\\\""),
        b'\\' => text.push_str("\\\\"),
        8 => text.push_str("\\b"),
        b'\t' => text.push_str("\\t"),
        b'\n' => text.push_str("\\n"),
        11 => text.push_str("\\v"),
        12 => text.push_str("\\f"),
        b'\r' => text.push_str("\\r"),
        27 => text.push_str("\\e"),
        // Latin-1 as UTF-8. RabbitMQ sends the bare octet, which is no valid short string.
        _ => text.push(char::from(octet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pretty(prefix: &str, octets: &[u8]) -> String {
        let mut text = prefix.to_owned();
        push_binary(&mut text, octets);
        text
    }

    #[test]
    fn plain_binaries_are_numbers() {
        assert_eq!(binary_plain(&[]), "<<>>");
        assert_eq!(binary_plain(b"abc"), "<<97,98,99>>");
        assert_eq!(binary_plain(&[0, 0, 255]), "<<0,0,255>>");
    }

    // What Erlang/OTP 25 prints.
    #[test]
    fn pretty_binaries_are_text_when_printable() {
        assert_eq!(pretty("", &[]), "<<>>");
        assert_eq!(pretty("", b"abc"), "<<\"abc\">>");
        assert_eq!(pretty("", b"a\"b\\c\n\t\x1b\x08\r"), "<<\"a\\\"b\\\\c\\n\\t\\e\\b\\r\">>");
        assert_eq!(pretty("", &[0xC8, 0xC9]), "<<\"\u{c8}\u{c9}\">>");
        assert_eq!(pretty("", &[0xA0, b'a']), "<<\"\u{a0}a\">>");
        for unprintable in [7, 127, 159] {
            assert_eq!(pretty("", &[unprintable]), format!("<<{unprintable}>>"));
        }
    }

    #[test]
    fn pretty_numbers_break_before_column_eighty() {
        let prefix = "type 1, first 16 octets = ";
        let indent = " ".repeat(prefix.len() + 2);
        let octets = |high: usize| [vec![200; high], vec![1; 16 - high]].concat();
        let many = |octet: &str, times| vec![octet; times].join(",");
        let one_line = format!("{prefix}<<{},{}>>", many("200", 10), many("1", 6));
        assert_eq!(pretty(prefix, &octets(10)), one_line);
        let two_lines =
            format!("{prefix}<<{},{},\n{indent}{}>>", many("200", 11), many("1", 3), many("1", 2));
        assert_eq!(pretty(prefix, &octets(11)), two_lines);
        let two_lines = format!("{prefix}<<{},\n{indent}{},1>>", many("200", 12), many("200", 3));
        assert_eq!(pretty(prefix, &octets(15)), two_lines);
    }

    #[test]
    fn pairs_break_before_column_seventy_nine() {
        let at = |column: usize, number| {
            let mut text = ".".repeat(column);
            push_pair(&mut text, "invalid_frame_end_marker", number);
            text[column..].to_owned()
        };
        assert_eq!(at(50, 0), "{invalid_frame_end_marker,0}");
        assert_eq!(at(51, 0), format!("{{invalid_frame_end_marker,\n{}0}}", " ".repeat(52)));
        assert_eq!(at(50, 42), format!("{{invalid_frame_end_marker,\n{}42}}", " ".repeat(51)));
        assert_eq!(at(49, 42), "{invalid_frame_end_marker,42}");
    }
}
