//! The statistics for Prometheus (text format 0.0.4), under the names of HAProxy's own exporter.

use std::fmt::Write;

use super::field::{FIELDS, Value, position};
use super::info;
use super::metrics_names::{BACKEND, FRONTEND, Form, Kind, PROCESS, SERVER};
use super::row::{Row, RowKind, rows};
use crate::process::Process;

/// The content type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4";

const SERVER_STATES: [&str; 5] = ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];
/// Results of checks in HAProxy's order.
const CHECK_STATES: [&str; 16] = [
    "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK",
    "L7OKC", "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
];
const ANSWERS: [(&str, &str); 6] = [
    ("1xx", "hrsp_1xx"),
    ("2xx", "hrsp_2xx"),
    ("3xx", "hrsp_3xx"),
    ("4xx", "hrsp_4xx"),
    ("5xx", "hrsp_5xx"),
    ("other", "hrsp_other"),
];

/// What is asked for (`?scope=server&no-maint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    process: bool,
    frontend: bool,
    backend: bool,
    server: bool,
    no_maintenance: bool,
}

impl Wanted {
    /// Reads the part after `?`. `None` when a scope is unknown.
    #[must_use]
    pub fn read(pairs: &[(String, String)]) -> Option<Self> {
        let all = Self { process: true, frontend: true, backend: true, server: true, no_maintenance: false };
        let none = Self { process: false, frontend: false, backend: false, server: false, ..all };
        let mut wanted = None;
        let mut no_maintenance = false;
        for (key, value) in pairs {
            match (key.as_str(), value.as_str()) {
                ("no-maint", _) => no_maintenance = true,
                // HAProxy: an empty scope takes away what was asked for before.
                ("scope", "") => wanted = Some(none),
                ("scope", "*") => wanted = Some(all),
                ("scope", scope) => {
                    let wanted = wanted.get_or_insert(none);
                    match scope {
                        "global" => wanted.process = true,
                        "frontend" => wanted.frontend = true,
                        "backend" => wanted.backend = true,
                        "server" => wanted.server = true,
                        // No listeners, resolvers or stick tables are measured.
                        "listener" | "sticktable" => {}
                        _ => return None,
                    }
                }
                _ => {}
            }
        }
        Some(Self { no_maintenance, ..wanted.unwrap_or(all) })
    }
}

/// The whole document, with the sections whose names `is_in_scope`.
#[must_use]
pub fn document(process: &Process, wanted: Wanted, is_in_scope: &dyn Fn(&str) -> bool) -> String {
    let mut out = String::with_capacity(64 * 1024);
    if wanted.process {
        about_process(&mut out, process);
    }
    let sections = process.sections();
    let shown = sections.iter().filter(|section| is_in_scope(&section.config.name));
    let rows: Vec<Row> = shown.flat_map(|section| rows(process, section, true)).collect();
    let of = |kind: RowKind| -> Vec<&Row> {
        rows.iter()
            .filter(|row| row.kind == kind)
            .filter(|row| !(wanted.no_maintenance && row.extra.class == "maintain"))
            .collect()
    };
    for (asked, scope, table, kind) in [
        (wanted.frontend, "frontend", FRONTEND, RowKind::Frontend),
        (wanted.backend, "backend", BACKEND, RowKind::Backend),
        (wanted.server, "server", SERVER, RowKind::Server),
    ] {
        if !asked {
            continue;
        }
        let chosen = of(kind);
        for (name, metric, column, form) in table.iter().copied().flatten() {
            family(&mut out, scope, (name, *metric, column, *form), &chosen, &rows);
        }
    }
    out
}

fn about_process(out: &mut String, process: &Process) {
    let items = info::items(process, false);
    for (name, kind, source) in PROCESS {
        let found = info::find(&items, source);
        head(out, "process", name, *kind, found.map_or("Not measured", |item| item.about));
        let _ = match (found.map(|item| &item.value), *name) {
            (Some(Value::Text(version)), "build_info") => {
                writeln!(out, "haproxy_process_{name}{{version=\"{}\"}} 1", label(version))
            }
            (Some(value), _) => writeln!(out, "haproxy_process_{name} {value}"),
            (None, _) => writeln!(out, "haproxy_process_{name} NaN"),
        };
    }
}

fn head(out: &mut String, scope: &str, name: &str, kind: Kind, about: &str) {
    let _ = writeln!(out, "# HELP haproxy_{scope}_{name} {about}");
    let _ = writeln!(out, "# TYPE haproxy_{scope}_{name} {}", kind.word());
}

/// One name with all its samples; nothing when no row has one.
fn family(
    out: &mut String,
    scope: &str,
    (name, kind, column, form): (&str, Kind, &str, Form),
    rows: &[&Row],
    all: &[Row],
) {
    let mut samples = String::new();
    // What a check said is only told of servers that are checked.
    let is_of_check = row_of_check(column);
    for row in rows.iter().filter(|row| !is_of_check || !row.string("check_status").is_empty()) {
        let mut labels = format!("proxy=\"{}\"", label(row.string("pxname")));
        if row.kind == RowKind::Server {
            let _ = write!(labels, ",server=\"{}\"", label(row.string("svname")));
        }
        let mut sample = |more: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(samples, "haproxy_{scope}_{name}{{{labels}{more}}} {value}");
        };
        match form {
            Form::Plain => match row.get(column) {
                Value::None | Value::Text(_) => sample("", &"NaN"),
                value => sample("", value),
            },
            Form::Http if row.string("mode") == "http" => sample("", &row.number(column)),
            Form::Http => {}
            Form::Milliseconds => match row.get(column) {
                Value::None => sample("", &"NaN"),
                value => {
                    let milliseconds = value.number();
                    sample("", &format_args!("{}.{:03}000", milliseconds / 1000, milliseconds % 1000));
                }
            },
            Form::Status => {
                let present = state(row);
                let states =
                    if row.kind == RowKind::Server { &SERVER_STATES[..] } else { &SERVER_STATES[..2] };
                for state in states {
                    sample(&format!(",state=\"{state}\""), &u8::from(*state == present));
                }
            }
            Form::Check => {
                let last = row.string("check_status").trim_start_matches("* ");
                for state in CHECK_STATES {
                    sample(&format!(",state=\"{state}\""), &u8::from(state == last));
                }
            }
            Form::Answers if row.string("mode") == "http" => {
                for (code, column) in ANSWERS {
                    sample(&format!(",code=\"{code}\""), &row.number(column));
                }
            }
            Form::Answers => {}
            Form::Servers | Form::Checks => count_servers(row, all, form, &mut sample),
        }
    }
    if !samples.is_empty() {
        let about = position(column).and_then(|at| FIELDS.get(at)).map_or("", |field| field.about);
        head(out, scope, name, kind, about);
        out.push_str(&samples);
    }
}

fn row_of_check(column: &str) -> bool {
    matches!(column, "check_status" | "check_code" | "check_duration")
}

/// How many servers of a backend are in each state, or had each result.
fn count_servers(
    backend: &Row,
    all: &[Row],
    form: Form,
    sample: &mut dyn FnMut(&str, &dyn std::fmt::Display),
) {
    let servers: Vec<&Row> = all
        .iter()
        .filter(|row| row.kind == RowKind::Server && row.get("iid") == backend.get("iid"))
        .collect();
    if servers.is_empty() {
        return;
    }
    let states = if form == Form::Servers { &SERVER_STATES[..] } else { &CHECK_STATES[..] };
    for wanted in states {
        let count = servers
            .iter()
            .filter(|row| match form {
                Form::Servers => state(row) == *wanted,
                _ => row.string("check_status").trim_start_matches("* ") == *wanted,
            })
            .count();
        sample(&format!(",state=\"{wanted}\""), &count);
    }
}

/// The state of a row among the states of metrics.
fn state(row: &Row) -> &'static str {
    let status = row.string("status");
    match status.split(' ').next().unwrap_or_default() {
        "DOWN" | "STOP" => "DOWN",
        "MAINT" => "MAINT",
        "DRAIN" => "DRAIN",
        "NOLB" => "NOLB",
        _ => "UP",
    }
}

/// A label's value, escaped as the format asks.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
