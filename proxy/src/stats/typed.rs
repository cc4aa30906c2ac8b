//! `show stat typed` and `show info typed`: one value a line, with its number, tags and kind.

use std::fmt::Write;

use super::info::Item;
use super::row::{Row, RowKind};

/// `F.2.0.4.scur.1:MGP:u32:0`, one for each value of each row.
#[must_use]
pub fn statistics(rows: &[Row], described: bool) -> String {
    let mut out = String::new();
    for row in rows {
        let letter = match row.kind {
            RowKind::Frontend => 'F',
            RowKind::Backend => 'B',
            RowKind::Server => 'S',
            RowKind::Listener => 'L',
        };
        let (section, id) = (row.number("iid"), row.number("sid"));
        for (position, field, value) in row.fields() {
            let _ = write!(
                out,
                "{letter}.{section}.{id}.{position}.{}.1:{}:{}:{value}",
                field.name,
                field.tags,
                value.kind()
            );
            about(&mut out, field.about, described);
        }
    }
    out
}

/// `3.Nbthread.1:CGS:u32:2`, one for each value.
#[must_use]
pub fn information(items: &[Item], described: bool) -> String {
    let mut out = String::new();
    for item in items {
        let _ = write!(
            out,
            "{}.{}.1:{}:{}:{}",
            item.position,
            item.name,
            item.tags,
            item.value.kind(),
            item.value
        );
        about(&mut out, item.about, described);
    }
    out
}

/// `Nbthread: 2`, one for each value.
#[must_use]
pub fn plain_information(items: &[Item], described: bool) -> String {
    let mut out = String::new();
    for item in items {
        let _ = write!(out, "{}: {}", item.name, item.value);
        about(&mut out, item.about, described);
    }
    out
}

fn about(out: &mut String, text: &str, described: bool) {
    if described {
        let _ = write!(out, ":\"{text}\"");
    }
    out.push('\n');
}
