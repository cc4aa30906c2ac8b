//! The statistics as comma-separated values, for hatop, exporters and scripts.

use std::fmt::Write;

use super::field::{FIELDS, MODULE_FIELDS, Value};
use super::row::{Row, RowKind};

/// The first line.
#[must_use]
pub fn header() -> String {
    let mut line = String::from("# ");
    for name in FIELDS.iter().map(|field| field.name).chain(["-"]).chain(MODULE_FIELDS.iter().copied()) {
        line.push_str(name);
        line.push(',');
    }
    line.push('\n');
    line
}

/// One line.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut line = String::with_capacity(400);
    for value in &row.values {
        match value {
            Value::None => {}
            Value::U32(value) => {
                let _ = write!(line, "{value}");
            }
            Value::U64(value) => {
                let _ = write!(line, "{value}");
            }
            Value::S32(value) => {
                let _ = write!(line, "{value}");
            }
            Value::Text(text) => quote(&mut line, text),
        }
        line.push(',');
    }
    line.push_str("-,");
    // Servers have the TLS columns only.
    let counted = if row.kind == RowKind::Server { 3 } else { MODULE_FIELDS.len() };
    for at in 0..MODULE_FIELDS.len() {
        line.push_str(if at < counted { "0," } else { "," });
    }
    line.push('\n');
    line
}

/// Quotes as RFC 4180 section 2 says, only when needed.
fn quote(line: &mut String, text: &str) {
    if text.contains(['"', ',', '\n', '\r']) {
        line.push('"');
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}
