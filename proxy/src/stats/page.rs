//! The statistics as a page: HAProxy's columns, words and colours.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use super::field::Value;
use super::request::Options;
use super::row::{Row, RowKind};
use crate::config::StatsConfig;
use crate::counters::Moment;
use crate::process::{Process, Section};

/// Colours by class: light, dark. The first twelve are HAProxy's, so that nobody has to relearn.
const COLOURS: &[(&str, &str, &str)] = &[
    ("active_up", "#c0ffc0", "#165900"),
    ("active_going_down", "#ffffa0", "#6c6c00"),
    ("active_going_up", "#ffd020", "#b99200"),
    ("active_down", "#ff9090", "#760000"),
    ("active_draining", "#20a0ff", "#006ab9"),
    ("active_no_check", "#e0e0e0", "#2a2d2f"),
    ("backup_up", "#b0d0ff", "#2e3234"),
    ("backup_going_down", "#c060ff", "#580092"),
    ("backup_going_up", "#ff80ff", "#7f007f"),
    ("backup_down", "#ff9090", "#760000"),
    ("backup_draining", "#cc9900", "#a37a00"),
    ("backup_no_check", "#e0e0e0", "#2a2d2f"),
    ("maintain", "#c07820", "#9a601a"),
    ("frontend", "#e8e8d0", "#2f3437"),
    ("backend", "#e8e8d0", "#2f3437"),
    ("head", "#20d0d0", "#1aa6a6"),
];

const STYLE: &str = "\
:root{color-scheme:light dark}
body{font:12px arial,helvetica,sans-serif;margin:8px;color:#000;background:#fff}
h1{font-size:x-large;margin:0 0 .3em}
h2{font-size:x-large;font-style:italic;color:#6020a0;margin:0}
h3{font-size:16px;color:#b00040;background:#e8e8d0;margin:.3em 0}
.info{display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start}
.info p{margin:0;line-height:1.4}
.wide{overflow-x:auto;margin:.6em 0 1em}
table{border-collapse:collapse;font-size:10px}
table.s{width:100%}
table.s td,table.s th{border:1px solid gray;padding:2px 3px;white-space:nowrap}
table.s td{text-align:right}
table.s td.c{text-align:center}
th.name{background:#b00040;color:#ffff40;font-size:11px;text-align:left}
th.name a{color:inherit;text-decoration:none}
td input{margin:0;height:10px;width:10px;vertical-align:middle}
td a{color:inherit;text-decoration:none}
table.l td{border:1px solid gray;padding:2px;min-width:1.2em}
table.l td+td{border:0}
u{text-decoration:none;border-bottom:1px dotted;position:relative;cursor:help}
u span{display:none}
u:hover span,u:focus span{display:block;position:absolute;left:0;top:1.4em;z-index:9;background:#f0f060;color:#000;
border:1px solid #7040c0;border-radius:3px;padding:2px 5px;text-align:left;white-space:pre}
td:nth-last-child(-n+9) u span{left:auto;right:0}
.order{margin:.4em 0}
.result{padding:4px 8px;background:#c0ffc0;color:#000;display:inline-block}
.result.bad{background:#ff9090}
@media(prefers-color-scheme:dark){body{color:#e8e6e3;background:#131516}h2{color:#a265e0}
h3{color:#ff5190;background:#3e3e1f}a{color:#3391ff}th.name{background:#8d0033}}
";

/// The whole page.
pub(super) fn page(
    process: &Process,
    stats: &StatsConfig,
    sections: &[(&Section, Vec<Row>)],
    options: &Options,
    is_admin: bool,
) -> String {
    let node = match &stats.show_node {
        Some(Some(node)) => Some(node.clone()),
        Some(None) => process.global().node.clone(),
        None => None,
    };
    let description = match &stats.show_desc {
        Some(Some(text)) => Some(text.clone()),
        Some(None) => process.global().description.clone(),
        None => None,
    };
    let mut out = String::with_capacity(16 * 1024);
    let title = node.as_ref().map(|node| format!(" on {}", escape(node))).unwrap_or_default();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>Statistics Report for proxy{title}</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}"
    );
    for (class, light, dark) in COLOURS {
        let _ = writeln!(out, ".{class}{{background:light-dark({light},{dark})}}");
    }
    out.push_str("</style></head>\n<body>");
    let version =
        if stats.hide_version { String::new() } else { format!(" version {}", env!("CARGO_PKG_VERSION")) };
    let _ = write!(
        out,
        "<h1>Warren proxy{version}</h1>\n<h2>Statistics Report for pid {}{title}",
        std::process::id()
    );
    if let Some(text) = description {
        let _ = write!(out, ": {}", escape(&text));
    }
    out.push_str("</h2>\n<hr>\n<h3>&gt; General process information</h3>\n<div class=\"info\">");
    information(&mut out, process);
    legend(&mut out);
    links(&mut out, stats, options);
    out.push_str("</div>\n");
    if let Some(result) = &options.result {
        notice(&mut out, result, &stats.uri);
    }
    for (section, rows) in sections {
        table(&mut out, section, rows, options, is_admin, stats.show_legends || is_admin);
    }
    out.push_str("</body></html>\n");
    out
}

fn information(out: &mut String, process: &Process) {
    let now = Moment::since(process.started);
    let seconds = now.0 / 1000;
    let _ = write!(
        out,
        "<p><b>pid = </b>{} (process #1, nbproc = 1, nbthread = {})<br>\n\
         <b>uptime = </b>{}d {}h{:02}m{:02}s<br>\n\
         <b>system limits:</b> memmax = unlimited; ulimit-n = {}<br>\n\
         <b>maxsock = </b>{}; <b>maxconn = </b>{}; <b>maxpipes = </b>0<br>\n\
         current conns = {}; conn rate = {}/sec</p>",
        std::process::id(),
        process.threads,
        seconds / 86_400,
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60,
        process.open_files(),
        process.open_files(),
        process.maxconn(),
        process.counters.current.load(Relaxed),
        process.counters.rate.read(now),
    );
}

fn legend(out: &mut String) {
    let lines = [
        [("active_up", "active UP"), ("backup_up", "backup UP")],
        [("active_going_down", "active UP, going down"), ("backup_going_down", "backup UP, going down")],
        [("active_going_up", "active DOWN, going up"), ("backup_going_up", "backup DOWN, going up")],
        [("active_down", "active or backup DOWN"), ("active_no_check", "not checked")],
        [
            ("maintain", "DOWN for maintenance (MAINT)"),
            ("active_draining", "SOFT STOPPED for maintenance (DRAIN)"),
        ],
    ];
    out.push_str("<table class=\"l\">");
    for line in lines {
        out.push_str("<tr>");
        for (class, text) in line {
            let _ = write!(out, "<td class=\"{class}\">&nbsp;</td><td>{text}</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

fn links(out: &mut String, stats: &StatsConfig, options: &Options) {
    let uri = escape(&stats.uri);
    let (toggle_up, up_text) =
        if options.up { ("", "Show all servers") } else { (";up", "Hide 'DOWN' servers") };
    let mut shown = Options { up: false, ..options.clone() };
    let up_link = shown.link(toggle_up);
    shown = Options { no_refresh: false, up: options.up, ..options.clone() };
    let refresh_link = shown.link(if options.no_refresh { "" } else { ";norefresh" });
    let refresh_text = if options.no_refresh { "Enable refresh" } else { "Disable refresh" };
    let here = options.link("");
    let _ = write!(
        out,
        "<div><b>Display option:</b><form method=\"get\">Scope : <input name=\"scope\" size=\"8\" maxlength=\"20\" \
         value=\"{}\"></form>\n<a href=\"{uri}{up_link}\">{up_text}</a><br>\n\
         <a href=\"{uri}{refresh_link}\">{refresh_text}</a><br>\n\
         <a href=\"{uri}{here}\">Refresh now</a><br>\n<a href=\"{uri};csv;norefresh\">CSV export</a><br>\n\
         <a href=\"{uri};json;norefresh\">JSON export</a></div>",
        escape(&options.scope)
    );
}

fn notice(out: &mut String, result: &str, uri: &str) {
    let (class, text) = match result {
        "DONE" => ("result", "Action processed successfully."),
        "NONE" => ("result bad", "Nothing has changed: no server was selected."),
        "PART" => ("result bad", "Action partially processed: some server names are not known."),
        "DENY" => ("result bad", "Access to this page's actions is denied."),
        _ => ("result bad", "Action not processed: the request could not be understood."),
    };
    let _ = writeln!(out, "<p><span class=\"{class}\">{text} <a href=\"{}\">[X]</a></span></p>", escape(uri));
}

const GROUPS: &str = "<th colspan=\"3\">Queue</th><th colspan=\"3\">Session rate</th><th colspan=\"6\">Sessions</th>\
    <th colspan=\"2\">Bytes</th><th colspan=\"2\">Denied</th><th colspan=\"3\">Errors</th>\
    <th colspan=\"2\">Warnings</th><th colspan=\"9\">Server</th>";
const COLUMNS: [&str; 30] = [
    "Cur", "Max", "Limit", "Cur", "Max", "Limit", "Cur", "Max", "Limit", "Total", "LbTot", "Last", "In",
    "Out", "Req", "Resp", "Req", "Conn", "Resp", "Retr", "Redis", "Status", "LastChk", "Wght", "Act", "Bck",
    "Chk", "Dwn", "Dwntme", "Thrtle",
];

fn table(
    out: &mut String,
    section: &Section,
    rows: &[Row],
    options: &Options,
    is_admin: bool,
    legends: bool,
) {
    let name = escape(&section.config.name);
    let with_orders =
        is_admin && section.backend.as_ref().is_some_and(|backend| !backend.servers().is_empty());
    if with_orders {
        out.push_str("<form method=\"post\">");
    }
    out.push_str("<div class=\"wide\"><table class=\"s\"><tr>");
    let kind = match section.config.kind {
        crate::config::Kind::Listen => "proxy",
        crate::config::Kind::Frontend => "frontend",
        crate::config::Kind::Backend => "backend",
    };
    let mode = if section.config.settings.mode == crate::config::Mode::Http { "http" } else { "tcp" };
    let id = section.config.id;
    let columns = COLUMNS.len() + 1 + usize::from(with_orders);
    let _ = write!(
        out,
        "<th class=\"name\" colspan=\"{columns}\"><a id=\"{name}\" href=\"#{name}\" title=\"cap: {kind}, mode: {mode}, id: {id}\">{name}</a>{}</th></tr>\n<tr class=\"head\">",
        section
            .config
            .settings
            .description
            .as_ref()
            .map(|text| format!(" {}", escape(text)))
            .unwrap_or_default()
    );
    if with_orders {
        out.push_str("<th rowspan=\"2\"></th>");
    }
    let _ = write!(out, "<th rowspan=\"2\"></th>{GROUPS}</tr>\n<tr class=\"head\">");
    for column in COLUMNS {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str("</tr>\n");
    for row in rows {
        let hidden = row.kind == RowKind::Server
            && ((options.up && row.extra.is_down) || (options.no_maint && row.extra.class == "maintain"));
        if !hidden {
            line(out, row, with_orders, legends);
        }
    }
    out.push_str("</table></div>");
    if with_orders {
        orders(out, id);
    }
}

fn orders(out: &mut String, id: u32) {
    out.push_str("<div class=\"order\">Choose the action to perform on the checked servers : <select name=\"action\"><option value=\"\"></option>");
    for (value, text) in [
        ("ready", "Set state to READY"),
        ("drain", "Set state to DRAIN"),
        ("maint", "Set state to MAINT"),
        ("dhlth", "Health: disable checks"),
        ("ehlth", "Health: enable checks"),
        ("hrunn", "Health: force UP"),
        ("hdown", "Health: force DOWN"),
    ] {
        let _ = write!(out, "<option value=\"{value}\">{text}</option>");
    }
    let _ = writeln!(
        out,
        "</select> <input type=\"hidden\" name=\"b\" value=\"#{id}\"> <input type=\"submit\" value=\"Apply\"></div></form>"
    );
}

fn line(out: &mut String, row: &Row, with_orders: bool, legends: bool) {
    let svname = escape(row.string("svname"));
    let label = match row.kind {
        RowKind::Frontend => "Frontend",
        RowKind::Backend => "Backend",
        RowKind::Server => &svname,
    };
    let _ = write!(out, "<tr class=\"{}\">", row.extra.class);
    if with_orders {
        match row.kind {
            RowKind::Server => {
                let _ = write!(
                    out,
                    "<td><input type=\"checkbox\" name=\"s\" value=\"{svname}\" aria-label=\"{svname}\"></td>"
                );
            }
            _ => out.push_str("<td></td>"),
        }
    }
    let anchor = format!("{}/{label}", escape(row.string("pxname")));
    let link = format!("<a id=\"{anchor}\" href=\"#{anchor}\">{label}</a>");
    if row.kind == RowKind::Server && legends {
        let address = format!("{}, id: {}", row.extra.address, row.number("sid"));
        let _ = write!(out, "<td class=\"c\">{}</td>", tip(&link, &address));
    } else {
        let _ = write!(out, "<td class=\"c\">{link}</td>");
    }
    if row.kind == RowKind::Frontend {
        out.push_str("<td colspan=\"3\"></td>");
    } else {
        cells(out, row, &["qcur", "qmax"]);
        let _ = write!(
            out,
            "<td>{}</td>",
            if row.kind == RowKind::Server { limit(row, "qlimit") } else { String::new() }
        );
    }
    cells(out, row, &["rate", "rate_max"]);
    out.push_str(if row.kind == RowKind::Frontend { "<td>-</td>" } else { "<td></td>" });
    cells(out, row, &["scur", "smax"]);
    let _ = write!(out, "<td>{}</td>", limit(row, "slim"));
    let _ = write!(out, "<td>{}</td>", tip(&grouped(row.number("stot")), &totals(row)));
    if row.kind == RowKind::Frontend {
        out.push_str("<td></td><td></td>");
    } else {
        cells(out, row, &["lbtot"]);
        let last = match row.get("lastsess") {
            Value::S32(seconds) if *seconds >= 0 => age(u64::from(seconds.unsigned_abs())),
            _ => "?".to_owned(),
        };
        let _ = write!(out, "<td>{last}</td>");
    }
    cells(out, row, &["bin", "bout", "dreq", "dresp", "ereq", "econ"]);
    let resets = format!(
        "Connection resets during transfers: {} client, {} server",
        row.number("cli_abrt"),
        row.number("srv_abrt")
    );
    if row.kind == RowKind::Frontend {
        out.push_str("<td></td>");
    } else {
        let _ = write!(out, "<td>{}</td>", tip(&grouped(row.number("eresp")), &resets));
    }
    cells(out, row, &["wretr", "wredis"]);
    state_cells(out, row);
    out.push_str("</tr>\n");
}

/// Status to throttle.
fn state_cells(out: &mut String, row: &Row) {
    let status = escape(row.string("status"));
    match row.kind {
        RowKind::Frontend => {
            let _ = write!(out, "<td class=\"c\">{status}</td><td class=\"c\" colspan=\"8\"></td>");
        }
        RowKind::Backend => {
            let _ = write!(out, "<td class=\"c\">{} {status}</td><td></td>", age(row.extra.age));
            weight(out, row);
            cells(out, row, &["act", "bck"]);
            out.push_str("<td></td>");
            cells(out, row, &["chkdown"]);
            let _ = write!(out, "<td>{}</td><td></td>", age(row.number("downtime")));
        }
        RowKind::Server => {
            if status == "no check" {
                out.push_str("<td class=\"c\"><i>no check</i></td>");
            } else {
                // An arrow when the state is about to turn.
                let arrow = match (status.contains('/'), row.extra.is_down) {
                    (true, false) => " &darr;",
                    (true, true) => " &uarr;",
                    _ => "",
                };
                let _ = write!(out, "<td class=\"c\">{} {status}{arrow}</td>", age(row.extra.age));
            }
            last_check(out, row);
            weight(out, row);
            let mark = |name| if row.number(name) > 0 { "Y" } else { "-" };
            let _ = write!(out, "<td class=\"c\">{}</td><td class=\"c\">{}</td>", mark("act"), mark("bck"));
            if matches!(row.get("chkfail"), Value::None) {
                out.push_str("<td colspan=\"3\"></td>");
            } else {
                let _ =
                    write!(out, "<td>{}</td>", tip(&grouped(row.number("chkfail")), "Failed Health Checks"));
                cells(out, row, &["chkdown"]);
                let _ = write!(out, "<td>{}</td>", age(row.number("downtime")));
            }
            out.push_str("<td class=\"c\">-</td>");
        }
    }
}

fn last_check(out: &mut String, row: &Row) {
    if row.string("check_status").is_empty() {
        out.push_str("<td></td>");
        return;
    }
    let mut text = escape(row.string("check_status"));
    if let Value::U64(milliseconds) = row.get("check_duration") {
        let _ = write!(text, " in {milliseconds}ms");
    }
    let mut more = row.string("check_desc").to_owned();
    if !row.string("last_chk").is_empty() {
        more.push_str(": ");
        more.push_str(row.string("last_chk"));
    }
    let _ = write!(out, "<td class=\"c\">{}</td>", tip(&text, &more));
}

fn weight(out: &mut String, row: &Row) {
    let _ = write!(out, "<td class=\"c\">{}/{}</td>", row.number("weight"), row.number("uweight"));
}

fn totals(row: &Row) -> String {
    let mut text = format!("Cum. sessions: {}", row.number("stot"));
    if row.kind == RowKind::Frontend {
        let _ = write!(text, "\nCum. connections: {}", row.number("conn_tot"));
        if row.string("mode") == "http" {
            let _ = write!(text, "\nCum. HTTP requests: {}", row.number("req_tot"));
        }
        return text;
    }
    text.push_str("\nMax / Avg over last 1024 success. conn.");
    for (name, words) in [("qtime", "Queue"), ("ctime", "Connect"), ("ttime", "Total")] {
        let _ = write!(
            text,
            "\n- {words} time: {} / {} ms",
            row.number(&format!("{name}_max")),
            row.number(name)
        );
    }
    text
}

fn cells(out: &mut String, row: &Row, names: &[&str]) {
    for name in names {
        match row.get(name) {
            Value::None => out.push_str("<td></td>"),
            _ => {
                let _ = write!(out, "<td>{}</td>", grouped(row.number(name)));
            }
        }
    }
}

fn limit(row: &Row, name: &str) -> String {
    match row.get(name) {
        Value::None => "-".to_owned(),
        _ => grouped(row.number(name)),
    }
}

/// A text that shows more when pointed at. `text` is HTML, `more` is not.
fn tip(text: &str, more: &str) -> String {
    format!("<u tabindex=\"0\">{text}<span>{}</span></u>", escape(more))
}

/// 1234567 as 1&thinsp;234&thinsp;567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push_str("&thinsp;");
        }
        out.push(digit);
    }
    out
}

/// HAProxy's short form of a time: 59s, 1m25s, 2h03m, 3d4h.
pub(super) fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours}h")
    } else if hours > 0 {
        format!("{hours}h{minutes}m")
    } else if minutes > 0 {
        format!("{minutes}m{}s", seconds % 60)
    } else {
        format!("{seconds}s")
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
