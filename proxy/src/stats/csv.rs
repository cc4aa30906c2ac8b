//! The statistics as comma-separated values, for hatop, exporters and scripts.

use std::fmt::Write;

use super::field::{FIELDS, MODULE_FIELDS, Value};
use super::row::Row;

/// The first line.
#[must_use]
pub fn header() -> String {
    let mut line = String::from("# ");
    for name in FIELDS.iter().map(|field| field.name).chain(["-"]).chain(MODULE_FIELDS.iter().map(|f| f.name))
    {
        line.push_str(name);
        line.push(',');
    }
    line.push('\n');
    line
}

/// The whole table.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = header();
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

/// One line.
#[must_use]
pub fn line(row: &Row) -> String {
    let mut line = String::with_capacity(400);
    for value in &row.values {
        match value {
            Value::Text(text) => quote(&mut line, text),
            value => {
                let _ = write!(line, "{value}");
            }
        }
        line.push(',');
    }
    line.push_str("-,");
    for at in 0..MODULE_FIELDS.len() {
        let _ = write!(line, "{}", row.module(at));
        line.push(',');
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
