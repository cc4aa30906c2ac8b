//! The statistics as JSON, in HAProxy's form: a list of rows, a row being a list of typed fields.

use std::fmt::Write;

use super::field::{FIELDS, Value};
use super::row::{Row, RowKind};

/// All rows.
#[must_use]
pub fn document(rows: &[Row]) -> String {
    let rows: Vec<String> = rows.iter().map(object).collect();
    format!("[{}]", rows.join(","))
}

fn object(row: &Row) -> String {
    let kind = match row.kind {
        RowKind::Frontend => "Frontend",
        RowKind::Backend => "Backend",
        RowKind::Server => "Server",
    };
    let fields: Vec<String> = FIELDS
        .iter()
        .zip(&row.values)
        .enumerate()
        .filter_map(|(position, (field, value))| {
            let value = typed(value)?;
            let mut letters = field.tags.chars();
            let mut tag = |words: &[(char, &'static str)]| {
                let letter = letters.next().unwrap_or('-');
                words.iter().find(|(known, _)| *known == letter).map_or("Unknown", |(_, word)| word)
            };
            let (origin, nature, scope) = (tag(ORIGINS), tag(NATURES), tag(SCOPES));
            Some(format!(
                "{{\"objType\":\"{kind}\",\"proxyId\":{},\"id\":{},\
                 \"field\":{{\"pos\":{position},\"name\":\"{}\"}},\"processNum\":1,\
                 \"tags\":{{\"origin\":\"{origin}\",\"nature\":\"{nature}\",\"scope\":\"{scope}\"}},\
                 \"value\":{value}}}",
                row.number("iid"),
                row.number("sid"),
                field.name,
            ))
        })
        .collect();
    format!("[{}]", fields.join(","))
}

const ORIGINS: &[(char, &str)] =
    &[('M', "Metric"), ('S', "Status"), ('K', "Key"), ('C', "Config"), ('P', "Product")];
const NATURES: &[(char, &str)] = &[
    ('A', "Age"),
    ('a', "Average"),
    ('C', "Counter"),
    ('D', "Duration"),
    ('G', "Gauge"),
    ('L', "Limit"),
    ('M', "Max"),
    ('m', "Min"),
    ('N', "Name"),
    ('O', "Output"),
    ('R', "Rate"),
    ('T', "Time"),
];
const SCOPES: &[(char, &str)] = &[('C', "Cluster"), ('P', "Process"), ('S', "Service"), ('Y', "System")];

fn typed(value: &Value) -> Option<String> {
    Some(match value {
        Value::None => return None,
        Value::U32(value) => format!("{{\"type\":\"u32\",\"value\":{value}}}"),
        Value::U64(value) => format!("{{\"type\":\"u64\",\"value\":{value}}}"),
        Value::S32(value) => format!("{{\"type\":\"s32\",\"value\":{value}}}"),
        Value::Text(text) => format!("{{\"type\":\"str\",\"value\":{}}}", string(text)),
    })
}

/// A JSON string (RFC 8259 section 7).
#[must_use]
pub fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
