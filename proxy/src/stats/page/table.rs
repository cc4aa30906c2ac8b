//! One section of the page: HAProxy's thirty columns, then the last minutes, the share and the buttons.

use std::fmt::Write;

use super::{Page, age, escape, picture};
use crate::config::{Kind, Mode};
use crate::process::Section;
use crate::stats::field::Value;
use crate::stats::request::Options;
use crate::stats::row::{Row, RowKind};

const GROUPS: &str = "<th colspan=\"3\">Queue</th><th colspan=\"3\">Session rate</th><th colspan=\"6\">Sessions</th>\
    <th colspan=\"2\">Bytes</th><th colspan=\"2\">Denied</th><th colspan=\"3\">Errors</th>\
    <th colspan=\"2\">Warnings</th><th colspan=\"9\">Server</th>";
const COLUMNS: [&str; 30] = [
    "Cur", "Max", "Limit", "Cur", "Max", "Limit", "Cur", "Max", "Limit", "Total", "LbTot", "Last", "In",
    "Out", "Req", "Resp", "Req", "Conn", "Resp", "Retr", "Redis", "Status", "LastChk", "Wght", "Act", "Bck",
    "Chk", "Dwn", "Dwntme", "Thrtle",
];

/// What can be done to the checked servers, in HAProxy's order and words.
const ACTIONS: [(&str, &str); 13] = [
    ("ready", "Set state to READY"),
    ("drain", "Set state to DRAIN"),
    ("maint", "Set state to MAINT"),
    ("dhlth", "Health: disable checks"),
    ("ehlth", "Health: enable checks"),
    ("hrunn", "Health: force UP"),
    ("hnolb", "Health: force NOLB"),
    ("hdown", "Health: force DOWN"),
    ("dagent", "Agent: disable checks"),
    ("eagent", "Agent: enable checks"),
    ("arunn", "Agent: force UP"),
    ("adown", "Agent: force DOWN"),
    ("shutdown", "Kill Sessions"),
];

/// Shares of a backend's servers.
struct Shares {
    sessions: u64,
    weights: u64,
    backups: bool,
}

impl Shares {
    fn of(rows: &[Row]) -> Self {
        let servers = || rows.iter().filter(|row| row.kind == RowKind::Server);
        let backups = !servers().any(|row| takes_sessions(row) && row.number("act") > 0);
        Self {
            sessions: servers().map(|row| row.number("scur")).sum(),
            weights: servers().filter(|row| is_used(row, backups)).map(|row| row.number("weight")).sum(),
            backups,
        }
    }

    /// Tenths of a percent of the sessions, and of the weights, that are this server's.
    fn parts(&self, row: &Row) -> (u64, u64) {
        let part = |value: u64, whole: u64| (value * 1000).checked_div(whole).unwrap_or(0);
        let fair = if is_used(row, self.backups) { part(row.number("weight"), self.weights) } else { 0 };
        (part(row.number("scur"), self.sessions), fair)
    }

    /// How far the server that is farthest from its share is from it, in tenths of a percent.
    fn imbalance(&self, rows: &[Row]) -> Option<u64> {
        let servers = rows.iter().filter(|row| row.kind == RowKind::Server);
        let distances = servers.map(|row| {
            let (share, fair) = self.parts(row);
            share.abs_diff(fair)
        });
        (self.sessions > 0 && self.weights > 0).then(|| distances.max().unwrap_or(0))
    }
}

fn takes_sessions(row: &Row) -> bool {
    !row.extra.is_down && !row.extra.class.ends_with("draining") && row.number("weight") > 0
}

fn is_used(row: &Row, backups: bool) -> bool {
    takes_sessions(row) && (row.number("bck") > 0) == backups
}

/// The table of a section, in a form when servers can be changed.
pub(super) fn table(out: &mut String, page: &Page<'_>, section: &Section, rows: &[Row]) {
    let settings = &section.config.settings;
    let id = section.config.id;
    let name = escape(&section.config.name);
    let with_orders = page.is_admin && rows.iter().any(|row| row.kind == RowKind::Server);
    let legends = page.stats.show_legends || page.is_admin;
    if with_orders {
        out.push_str("<form method=\"post\">");
    }
    let kind = match section.config.kind {
        Kind::Listen => "proxy",
        Kind::Frontend => "frontend",
        Kind::Backend => "backend",
    };
    let mode = if settings.mode == Mode::Http { "http" } else { "tcp" };
    let link = format!("<a id=\"{name}\" href=\"#{name}\">{name}</a>");
    let title = if legends { tip(&link, &format!("cap: {kind}, mode: {mode}, id: {id}")) } else { link };
    let description =
        settings.description.as_ref().map(|text| format!("<i>{}</i>", escape(text))).unwrap_or_default();
    let _ = write!(
        out,
        "<div class=\"wide\"><table class=\"s\"><caption><b>{title}</b>{description}</caption><thead><tr>"
    );
    if with_orders {
        out.push_str(
            "<th rowspan=\"2\"><input type=\"checkbox\" data-all hidden aria-label=\"all servers\"></th>",
        );
    }
    let live = if with_orders { 3 } else { 2 };
    let _ = write!(out, "<th rowspan=\"2\"></th>{GROUPS}<th colspan=\"{live}\">Live</th></tr>\n<tr>");
    for column in COLUMNS.iter().chain(&["History", "Share"]) {
        let _ = write!(out, "<th>{column}</th>");
    }
    out.push_str(if with_orders { "<th>Set</th></tr></thead><tbody>\n" } else { "</tr></thead><tbody>\n" });
    let shares = Shares::of(rows);
    for row in rows.iter().filter(|row| is_shown(row, page.options)) {
        let mut line = Line { out, row, page, with_orders, legends };
        line.begin();
        line.traffic();
        line.errors();
        line.state();
        line.live(&shares, rows);
        line.out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n");
    if with_orders {
        orders(out, page, id);
    }
}

/// Whether the row is wanted (`;up`, `;no-maint`).
pub(in crate::stats) fn is_shown(row: &Row, options: &Options) -> bool {
    let is_hidden = (options.up && row.extra.is_down) || (options.no_maint && row.extra.class == "maintain");
    row.kind != RowKind::Server || !is_hidden
}

fn orders(out: &mut String, page: &Page<'_>, id: u32) {
    out.push_str(
        "<div class=\"order\"><label>Choose the action to perform on the checked servers : \
         <select name=\"action\"><option value=\"\"></option>",
    );
    for (value, text) in ACTIONS {
        let _ = write!(out, "<option value=\"{value}\">{text}</option>");
    }
    let _ = writeln!(
        out,
        "</select></label> <input type=\"hidden\" name=\"b\" value=\"#{id}\">\
         <input type=\"hidden\" name=\"token\" value=\"{}\"> <button>Apply</button></div></form>",
        page.ticket.token
    );
}

/// One line of the table while it is written.
struct Line<'a> {
    out: &'a mut String,
    row: &'a Row,
    page: &'a Page<'a>,
    with_orders: bool,
    legends: bool,
}

impl Line<'_> {
    fn is(&self, kind: RowKind) -> bool {
        self.row.kind == kind
    }

    /// A cell with the label it has where there is no head, on small screens.
    fn cell(&mut self, class: &str, label: &str, html: &str) {
        let _ = match html {
            "" => write!(self.out, "<td></td>"),
            _ => write!(self.out, "<td class=\"{class}\" data-l=\"{label}\">{html}</td>"),
        };
    }

    /// A number that is of little interest while it is 0.
    fn count(&mut self, label: &str, name: &str) {
        let html = number(self.row, name);
        self.cell(if html == "0" { "z" } else { "" }, label, &html);
    }

    /// A number the page keeps up to date.
    fn moving(&mut self, label: &str, name: &str) {
        let html = number(self.row, name);
        let _ = write!(self.out, "<td data-l=\"{label}\" data-v=\"{name}\">{html}</td>");
    }

    fn begin(&mut self) {
        let row = self.row;
        let svname = escape(row.string("svname"));
        let (label, key) = match row.kind {
            RowKind::Frontend => ("Frontend", 'F'),
            RowKind::Backend => ("Backend", 'B'),
            RowKind::Server => (svname.as_str(), 'S'),
            RowKind::Listener => (svname.as_str(), 'L'),
        };
        let (section, id) = (row.number("iid"), row.number("sid"));
        let _ = write!(self.out, "<tr class=\"{}\" data-row=\"{section}/{id}/{key}\">", row.extra.class);
        if self.with_orders {
            match row.kind {
                RowKind::Server => {
                    let _ = write!(
                        self.out,
                        "<td class=\"c\"><input type=\"checkbox\" name=\"s\" value=\"{svname}\" data-key=\"{section}/{id}\" \
                         aria-label=\"{svname}\"></td>"
                    );
                }
                _ => self.out.push_str("<td></td>"),
            }
        }
        let anchor = format!("{}/{label}", escape(row.string("pxname")));
        let link = format!("<a id=\"{anchor}\" href=\"#{anchor}\">{label}</a>");
        let html = if self.is(RowKind::Server) && self.legends {
            tip(&link, &format!("{}, id: {id}", row.extra.address))
        } else {
            link
        };
        let _ = write!(self.out, "<td class=\"c n\">{html}</td>");
    }

    /// Queue, session rate, sessions and bytes.
    fn traffic(&mut self) {
        let row = self.row;
        if matches!(row.kind, RowKind::Frontend | RowKind::Listener) {
            self.out.push_str("<td colspan=\"3\"></td>");
        } else {
            self.count("Queue", "qcur");
            self.count("Queue max", "qmax");
            let limit = if self.is(RowKind::Server) { limit(row, "qlimit") } else { String::new() };
            self.cell("z", "Queue limit", &limit);
        }
        if self.is(RowKind::Listener) {
            self.out.push_str("<td colspan=\"3\"></td>");
        } else {
            self.moving("Rate", "rate");
            self.count("Rate max", "rate_max");
            let limit = match (row.kind, row.number("rate_lim")) {
                (RowKind::Frontend, 0) => "-".to_owned(),
                (RowKind::Frontend, limit) => grouped(limit),
                _ => String::new(),
            };
            self.cell("z", "Rate limit", &limit);
        }
        self.moving("Sessions", "scur");
        self.count("Sess. max", "smax");
        let slim = limit(row, "slim");
        self.cell("", "Sess. limit", &slim);
        let total = format!("<b data-v=\"stot\">{}</b>", grouped(row.number("stot")));
        let total = tip(&total, &totals(row));
        self.cell("", "Total", &total);
        if matches!(row.kind, RowKind::Frontend | RowKind::Listener) {
            self.out.push_str("<td></td><td></td>");
        } else {
            self.count("LbTot", "lbtot");
            let last = match row.get("lastsess") {
                Value::S32(seconds) if *seconds >= 0 => age(u64::from(seconds.unsigned_abs())),
                _ => "?".to_owned(),
            };
            self.cell("", "Last", &last);
        }
        self.moving("Bytes in", "bin");
        self.moving("Bytes out", "bout");
    }

    /// Denied, errors and warnings.
    fn errors(&mut self) {
        let row = self.row;
        self.count("Denied req", "dreq");
        self.count("Denied resp", "dresp");
        self.count("Err. req", "ereq");
        self.count("Err. conn", "econ");
        if matches!(row.kind, RowKind::Frontend | RowKind::Listener) {
            self.out.push_str("<td></td>");
        } else {
            let (client, server) = (row.number("cli_abrt"), row.number("srv_abrt"));
            let words = format!("Connection resets during transfers: {client} client, {server} server");
            let errors = row.number("eresp");
            let class = if errors + client + server == 0 { "z" } else { "" };
            self.cell(class, "Err. resp", &tip(&grouped(errors), &words));
        }
        self.count("Retries", "wretr");
        self.count("Redispatch", "wredis");
    }

    /// Status to throttle.
    fn state(&mut self) {
        let row = self.row;
        let status = escape(row.string("status"));
        match row.kind {
            RowKind::Frontend | RowKind::Listener => {
                self.cell("c st", "Status", &status);
                self.out.push_str("<td colspan=\"8\"></td>");
            }
            RowKind::Backend => {
                self.cell("c st", "Status", &format!("{} {status}", age(row.extra.age)));
                self.out.push_str("<td></td>");
                self.weight();
                self.cell("c", "Act", &number(row, "act"));
                self.cell("c", "Bck", &number(row, "bck"));
                self.out.push_str("<td></td>");
                self.count("Down", "chkdown");
                let downtime = match row.get("downtime") {
                    Value::None => String::new(),
                    value => age(value.number()),
                };
                self.cell("", "Dwntme", &downtime);
                self.out.push_str("<td></td>");
            }
            RowKind::Server => self.server_state(&status),
        }
    }

    fn server_state(&mut self, status: &str) {
        let row = self.row;
        let shown = if status == "no check" {
            "<i>no check</i>".to_owned()
        } else {
            // An arrow when the state is about to turn.
            let arrow = match (status.contains('/') && !status.contains("via"), row.extra.is_down) {
                (true, false) => " &darr;",
                (true, true) => " &uarr;",
                _ => "",
            };
            format!("{} {status}{arrow}", age(row.extra.age))
        };
        self.cell("c st", "Status", &shown);
        let (check, more) = last_check(row);
        let html = if check.is_empty() { String::new() } else { tip(&check, &more) };
        self.cell("c st", "LastChk", &html);
        self.weight();
        let mark = |name| if row.number(name) > 0 { "Y" } else { "-" };
        self.cell("c z", "Act", mark("act"));
        self.cell("c z", "Bck", mark("bck"));
        let tracked = row.string("tracked");
        if !tracked.is_empty() {
            let tracked = escape(tracked);
            let _ = write!(
                self.out,
                "<td class=\"c\" colspan=\"3\" data-l=\"Chk\"><a href=\"#{tracked}\">via {tracked}</a></td>"
            );
        } else if matches!(row.get("chkfail"), Value::None) {
            self.out.push_str("<td colspan=\"3\"></td>");
        } else {
            let mut words = "Failed Health Checks".to_owned();
            if !matches!(row.get("hanafail"), Value::None) {
                let _ = write!(words, "; failures seen in traffic: {}", row.number("hanafail"));
            }
            let failed = row.number("chkfail");
            self.cell(if failed == 0 { "z" } else { "" }, "Chk", &tip(&grouped(failed), &words));
            self.count("Down", "chkdown");
            self.cell("", "Dwntme", &age(row.number("downtime")));
        }
        let throttle = match row.get("throttle") {
            Value::None => "-".to_owned(),
            value => format!("{value} %"),
        };
        self.cell(if throttle == "-" { "c z" } else { "c" }, "Thrtle", &throttle);
    }

    fn weight(&mut self) {
        let (weight, set) = (self.row.number("weight"), self.row.number("uweight"));
        self.cell("c", "Weight", &format!("{weight}/{set}"));
    }

    /// What HAProxy's page does not have.
    fn live(&mut self, shares: &Shares, rows: &[Row]) {
        let row = self.row;
        let (section, id) = (row.number("iid"), row.number("sid"));
        let speed = "<small data-v=\"speed\"></small>";
        match row.kind {
            RowKind::Server => {
                let key = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
                let series = self.page.process.looking.history.of(key(section), key(id)).unwrap_or_default();
                self.cell("h r x", "History", &format!("{}{speed}", picture::sparkline(&series)));
                let (share, fair) = shares.parts(row);
                let words = format!(
                    "{}.{} % of the sessions, {}.{} % by weight",
                    share / 10,
                    share % 10,
                    fair / 10,
                    fair % 10
                );
                self.cell("c r", "Share", &tip(&picture::share(share, fair), &words));
            }
            RowKind::Backend => {
                self.cell("h", "Now", speed);
                let html = shares.imbalance(rows).map(|far| {
                    let words = "How far a server is from its share by weight, at most";
                    tip(&format!("&plusmn;{}.{} %", far / 10, far % 10), words)
                });
                self.cell("c r", "Imbalance", &html.unwrap_or_default());
            }
            _ => {
                self.cell("h", "Now", speed);
                self.out.push_str("<td></td>");
            }
        }
        if self.with_orders {
            self.buttons();
        }
    }

    fn buttons(&mut self) {
        if !self.is(RowKind::Server) {
            self.out.push_str("<td></td>");
            return;
        }
        let name = escape(self.row.string("svname"));
        self.out.push_str("<td class=\"c x\">");
        for order in ["ready", "drain", "maint"] {
            let _ = write!(self.out, "<button name=\"do\" value=\"{order} {name}\">{order}</button>");
        }
        self.out.push_str("</td>");
    }
}

/// The last check as shown, and what the tooltip says.
fn last_check(row: &Row) -> (String, String) {
    let mut text = escape(row.string("check_status"));
    if text.is_empty() {
        return (text, String::new());
    }
    if !matches!(row.get("check_code"), Value::None) && row.number("check_code") > 0 {
        let _ = write!(text, "/{}", row.number("check_code"));
    }
    if let Value::U64(milliseconds) = row.get("check_duration") {
        let _ = write!(text, " in {milliseconds}ms");
    }
    let mut more = row.string("check_desc").to_owned();
    let mut also = |before: &str, text: &str| {
        if !text.is_empty() {
            more.push_str(before);
            more.push_str(text);
        }
    };
    also(": ", row.string("last_chk"));
    also("\nAgent: ", row.string("agent_desc"));
    also(": ", row.string("last_agt"));
    (text, more)
}

fn totals(row: &Row) -> String {
    let mut text = format!("Cum. sessions: {}", row.number("stot"));
    if matches!(row.kind, RowKind::Frontend | RowKind::Listener) {
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

fn number(row: &Row, name: &str) -> String {
    match row.get(name) {
        Value::None => String::new(),
        value => grouped(value.number()),
    }
}

fn limit(row: &Row, name: &str) -> String {
    match row.get(name) {
        Value::None if row.kind == RowKind::Server => "-".to_owned(),
        Value::None => String::new(),
        value => grouped(value.number()),
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
