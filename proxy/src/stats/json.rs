//! The statistics as JSON, in HAProxy's form: a list of rows, a row being a list of typed fields; and the
//! schema of that form.

use std::fmt::Write;

use super::field::{Field, Value};
use super::info::Item;
use super::row::Row;

/// All rows.
#[must_use]
pub fn document(rows: &[Row]) -> String {
    let rows: Vec<String> = rows.iter().map(object).collect();
    format!("[{}]", rows.join(","))
}

/// What `show info json` gives.
#[must_use]
pub fn information(items: &[Item]) -> String {
    let items: Vec<String> = items
        .iter()
        .map(|item| {
            format!(
                "{{\"field\":{{\"pos\":{},\"name\":{}}},\"processNum\":1,{},\"value\":{}}}",
                item.position,
                string(item.name),
                tags(item.tags),
                typed(&item.value),
            )
        })
        .collect();
    format!("[{}]", items.join(","))
}

fn object(row: &Row) -> String {
    let kind = row.kind.object_type();
    let (proxy, id) = (row.number("iid"), row.number("sid"));
    let fields: Vec<String> =
        row.fields().map(|(position, field, value)| one(kind, proxy, id, position, field, &value)).collect();
    format!("[{}]", fields.join(","))
}

fn one(kind: &str, proxy: u64, id: u64, position: usize, field: &Field, value: &Value) -> String {
    format!(
        "{{\"objType\":\"{kind}\",\"proxyId\":{proxy},\"id\":{id},\
         \"field\":{{\"pos\":{position},\"name\":\"{}\"}},\"processNum\":1,{},\"value\":{}}}",
        field.name,
        tags(field.tags),
        typed(value)
    )
}

fn tags(letters: &str) -> String {
    let mut letters = letters.chars();
    let mut tag = |words: &[(char, &'static str)]| {
        let letter = letters.next().unwrap_or('-');
        words.iter().find(|(known, _)| *known == letter).map_or("Unknown", |(_, word)| word)
    };
    let (origin, nature, scope) = (tag(ORIGINS), tag(NATURES), tag(SCOPES));
    format!("\"tags\":{{\"origin\":\"{origin}\",\"nature\":\"{nature}\",\"scope\":\"{scope}\"}}")
}

const ORIGINS: &[(char, &str)] =
    &[('M', "Metric"), ('S', "Status"), ('K', "Key"), ('C', "Config"), ('P', "Product")];
const NATURES: &[(char, &str)] = &[
    ('A', "Age"),
    ('a', "Avg"),
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

fn typed(value: &Value) -> String {
    let shown = match value {
        Value::Text(text) => string(text),
        other => other.to_string(),
    };
    format!("{{\"type\":\"{}\",\"value\":{shown}}}", value.kind())
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
            // Not needed by JSON; keeps it harmless inside a page.
            '<' => out.push_str("\\u003c"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The schema of both documents (JSON schema, draft 4).
#[must_use]
pub fn schema() -> String {
    let number = |name: &str, low: &str, high: &str| {
        format!(
            "\"{name}Value\":{{\"properties\":{{\"type\":{{\"type\":\"string\",\"enum\":[\"{name}\"]}},\
             \"value\":{{\"type\":\"integer\",\"minimum\":{low},\"maximum\":{high}}}}},\"required\":[\"type\",\"value\"]}}"
        )
    };
    // Whole numbers beyond 2^53 are not exact in JavaScript.
    let largest = "9007199254740991";
    let kinds = [
        number("s32", "-2147483648", "2147483647"),
        number("s64", "-9007199254740991", largest),
        number("u32", "0", "4294967295"),
        number("u64", "0", largest),
        "\"strValue\":{\"properties\":{\"type\":{\"type\":\"string\",\"enum\":[\"str\"]},\
         \"value\":{\"type\":\"string\"}},\"required\":[\"type\",\"value\"]}"
            .to_owned(),
    ];
    let one_of: Vec<String> = ["s32", "s64", "u32", "u64", "str"]
        .iter()
        .map(|name| format!("{{\"$ref\":\"#/definitions/typedValue/definitions/{name}Value\"}}"))
        .collect();
    let words = |list: &[(char, &str)]| {
        let words: Vec<String> = list.iter().map(|(_, word)| format!("\"{word}\"")).collect();
        words.join(",")
    };
    let refer = |name: &str| format!("\"{name}\":{{\"$ref\":\"#/definitions/{name}\"}}");
    let common = format!(
        "{},{},{},\"value\":{{\"$ref\":\"#/definitions/typedValue\"}}",
        refer("field"),
        refer("processNum"),
        refer("tags")
    );
    let required = "\"field\",\"processNum\",\"tags\",\"value\"";
    format!(
        "{{\"$schema\":\"http://json-schema.org/draft-04/schema#\",\"oneOf\":[\
         {{\"title\":\"Info\",\"type\":\"array\",\"items\":{{\"title\":\"InfoItem\",\"type\":\"object\",\
         \"properties\":{{{common}}},\"required\":[{required}]}}}},\
         {{\"title\":\"Stat\",\"type\":\"array\",\"items\":{{\"type\":\"array\",\"items\":{{\"title\":\"StatItem\",\"type\":\"object\",\
         \"properties\":{{\"objType\":{{\"enum\":[\"Frontend\",\"Backend\",\"Listener\",\"Server\",\"Unknown\"]}},\
         \"proxyId\":{{\"type\":\"integer\",\"minimum\":0}},\"id\":{{\"type\":\"integer\",\"minimum\":0}},{common}}},\
         \"required\":[\"objType\",\"proxyId\",\"id\",{required}]}}}}}},\
         {{\"title\":\"Error\",\"type\":\"object\",\"properties\":{{\"errorStr\":{{\"type\":\"string\"}}}},\"required\":[\"errorStr\"]}}],\
         \"definitions\":{{\"field\":{{\"type\":\"object\",\"properties\":{{\"pos\":{{\"type\":\"integer\",\"minimum\":0}},\
         \"name\":{{\"type\":\"string\"}}}},\"required\":[\"pos\",\"name\"]}},\
         \"processNum\":{{\"type\":\"integer\",\"minimum\":1}},\
         \"tags\":{{\"type\":\"object\",\"properties\":{{\
         \"origin\":{{\"type\":\"string\",\"enum\":[{},\"Unknown\"]}},\"nature\":{{\"type\":\"string\",\"enum\":[{},\"Unknown\"]}},\
         \"scope\":{{\"type\":\"string\",\"enum\":[{},\"Unknown\"]}}}},\"required\":[\"origin\",\"nature\",\"scope\"]}},\
         \"typedValue\":{{\"type\":\"object\",\"oneOf\":[{}],\"definitions\":{{{}}}}}}}}}",
        words(ORIGINS),
        words(NATURES),
        words(SCOPES),
        one_of.join(","),
        kinds.join(",")
    )
}
