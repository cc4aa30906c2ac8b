//! Octets written as RabbitMQ writes them in close texts, that is as Erlang's `~p` does.

use std::fmt::Write as _;

/// `<<>>`, `<<"abc">>` when every octet is printable in Latin-1, otherwise `<<0,0,255>>`.
///
/// Text outside ASCII is rendered as the numbers too; a close text must be UTF-8.
#[must_use]
pub fn binary(octets: &[u8]) -> String {
    format_after("", octets)
}

/// `prefix` followed by [`binary`] of the octets, of which at most 255 are looked at: a close text has no room
/// for more.
pub(crate) fn format_after(prefix: &str, octets: &[u8]) -> String {
    let octets = &octets[..octets.len().min(255)];
    let mut text = String::from(prefix);
    text.push_str("<<");
    if !octets.is_empty() && octets.iter().all(|&octet| printable(octet)) {
        text.push('"');
        for &octet in octets {
            escape(&mut text, octet);
        }
        text.push('"');
    } else {
        for (index, octet) in octets.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(text, "{comma}{octet}");
        }
    }
    text.push_str(">>");
    text
}

fn printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | 8..=13 | 27)
}

fn escape(text: &mut String, octet: u8) {
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
        _ => text.push(char::from(octet)),
    }
}
