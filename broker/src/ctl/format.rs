//! How results are written: as a table with tabs, JSON, CSV, a table with lines, or Erlang terms.

use super::term::{cell, escaped, term};
use serde_json::{Map, Value};
use std::io::{self, Write};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Formatter {
    /// Columns with tabs between.
    #[default]
    Table,
    /// JSON.
    Json,
    /// One JSON object a line.
    JsonStream,
    /// Comma-separated values.
    Csv,
    /// A table with lines.
    Pretty,
    /// Erlang terms.
    Erlang,
}

impl Formatter {
    /// What `--formatter` takes.
    pub(super) const NAMES: [(&str, Formatter); 6] = [
        ("table", Formatter::Table),
        ("json", Formatter::Json),
        ("json_stream", Formatter::JsonStream),
        ("csv", Formatter::Csv),
        ("pretty_table", Formatter::Pretty),
        ("erlang", Formatter::Erlang),
    ];

    /// The formatter of that name.
    pub(super) fn from_name(name: &str) -> Option<Formatter> {
        Formatter::NAMES.iter().find(|(own, _)| *own == name).map(|(_, formatter)| *formatter)
    }

    /// What it writes is for programs: nothing else may be around it.
    pub(super) fn is_machine(self) -> bool {
        matches!(self, Formatter::Json | Formatter::JsonStream | Formatter::Csv)
    }
}

/// Rows with named columns.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// Names of the columns.
    pub(super) columns: Vec<String>,
    /// A value for each column.
    pub(super) rows: Vec<Vec<Value>>,
}

impl Rows {
    /// Picks columns out of JSON objects.
    pub(super) fn pick(columns: &[&str], entries: &[Value]) -> Rows {
        let row = |entry: &Value| columns.iter().map(|column| entry[*column].clone()).collect();
        Rows {
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows: entries.iter().map(row).collect(),
        }
    }

    fn object(&self, row: &[Value]) -> Value {
        Value::Object(self.columns.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>())
    }

    /// Writes them. Nothing, not even the names of columns, is written for no rows in a table.
    pub(super) fn write(&self, out: &mut dyn Write, formatter: Formatter, headers: bool) -> io::Result<()> {
        match formatter {
            Formatter::Table => self.table(out, headers),
            Formatter::Json => self.json(out),
            Formatter::JsonStream => {
                self.rows.iter().try_for_each(|row| writeln!(out, "{}", self.object(row)))
            }
            Formatter::Csv => self.csv(out, headers),
            Formatter::Pretty => self.pretty(out, headers),
            Formatter::Erlang => {
                let rows: Vec<String> = self.rows.iter().map(|row| term(&self.object(row))).collect();
                writeln!(out, "[{}]", rows.join(",\n "))
            }
        }
    }

    fn table(&self, out: &mut dyn Write, headers: bool) -> io::Result<()> {
        if headers && !self.rows.is_empty() {
            writeln!(out, "{}", self.columns.join("\t"))?;
        }
        for row in &self.rows {
            writeln!(out, "{}", row.iter().map(cell).collect::<Vec<_>>().join("\t"))?;
        }
        Ok(())
    }

    /// As rabbitmqctl does: a comma before every row but the first.
    fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "[")?;
        for (index, row) in self.rows.iter().enumerate() {
            writeln!(out, "{}{}", if index > 0 { "," } else { "" }, self.ordered(row))?;
        }
        writeln!(out, "]")
    }

    /// An object whose fields have the order of the columns.
    fn ordered(&self, row: &[Value]) -> String {
        let field = |(name, value): (&String, &Value)| format!("{}:{value}", Value::from(name.as_str()));
        format!("{{{}}}", self.columns.iter().zip(row).map(field).collect::<Vec<_>>().join(","))
    }

    fn csv(&self, out: &mut dyn Write, headers: bool) -> io::Result<()> {
        let quoted = |text: String| {
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text
            }
        };
        if headers {
            writeln!(out, "{}", self.columns.join(","))?;
        }
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(|value| quoted(cell(value))).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    }

    fn pretty(&self, out: &mut dyn Write, headers: bool) -> io::Result<()> {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(pretty_cell).collect()).collect();
        let width = |index: usize| {
            let widest = cells.iter().filter_map(|row| row.get(index)).map(|text| text.chars().count()).max();
            let title = if headers { self.columns[index].chars().count() } else { 0 };
            widest.unwrap_or(0).max(title)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let rule = |left: &str, middle: &str, right: &str| {
            let parts: Vec<String> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
            format!("{left}{}{right}", parts.join(middle))
        };
        let line = |texts: &[String]| {
            let padded = texts.iter().zip(&widths).map(|(text, width)| format!(" {text:<width$} "));
            format!("│{}│", padded.collect::<Vec<_>>().join("│"))
        };
        writeln!(out, "{}", rule("┌", "┬", "┐"))?;
        if headers {
            writeln!(out, "{}", line(&self.columns))?;
        }
        for (index, row) in cells.iter().enumerate() {
            if headers || index > 0 {
                writeln!(out, "{}", rule("├", "┼", "┤"))?;
            }
            writeln!(out, "{}", line(row))?;
        }
        writeln!(out, "{}", rule("└", "┴", "┘"))
    }
}

/// Lists have no brackets there.
fn pretty_cell(value: &Value) -> String {
    match value {
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::String(text) => escaped(text),
        other => cell(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn written(formatter: Formatter, headers: bool) -> String {
        let users =
            [json!({"user": "laosun", "tags": ["administrator"]}), json!({"user": "a,b", "tags": []})];
        let mut out = Vec::new();
        Rows::pick(&["user", "tags"], &users).write(&mut out, formatter, headers).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn tables_have_tabs_and_a_header() {
        assert_eq!(written(Formatter::Table, true), "user\ttags\nlaosun\t[administrator]\na,b\t[]\n");
        assert_eq!(written(Formatter::Table, false), "laosun\t[administrator]\na,b\t[]\n");
        let mut out = Vec::new();
        Rows::pick(&["user"], &[]).write(&mut out, Formatter::Table, true).unwrap();
        assert!(out.is_empty());
    }

    #[test]
    fn json_and_csv_are_for_programs() {
        assert_eq!(
            written(Formatter::Json, true),
            "[\n{\"user\":\"laosun\",\"tags\":[\"administrator\"]}\n,{\"user\":\"a,b\",\"tags\":[]}\n]\n"
        );
        assert_eq!(written(Formatter::Csv, true), "user,tags\nlaosun,[administrator]\n\"a,b\",[]\n");
    }

    #[test]
    fn pretty_tables_have_lines() {
        let text = written(Formatter::Pretty, true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "┌────────┬───────────────┐");
        assert_eq!(lines[1], "│ user   │ tags          │");
        assert_eq!(lines[3], "│ laosun │ administrator │");
    }
}
