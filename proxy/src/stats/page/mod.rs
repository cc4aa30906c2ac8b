//! The statistics as a page: HAProxy's columns, words and colours, and beside them a small history, the share
//! of every server, and buttons. One document without anything from elsewhere; it works without scripts.

mod picture;
mod table;

pub(super) use self::table::is_shown;

use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::Ordering::Relaxed;

use base64::Engine;
use sha2::{Digest, Sha256};

use super::guard::Ticket;
use super::info;
use super::request::Options;
use super::row::Row;
use crate::config::StatsConfig;
use crate::counters::Moment;
use crate::process::{Process, Section};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("live.js");

/// What the browser may do with the page: run this script and this style, ask this host, and nothing else.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |text: &str| {
        format!("'sha256-{}'", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
    };
    format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// What a page is made from.
pub(super) struct Page<'a> {
    pub(super) process: &'a Process,
    pub(super) stats: &'a StatsConfig,
    pub(super) sections: &'a [(&'a Section, Vec<Row>)],
    pub(super) options: &'a Options,
    pub(super) is_admin: bool,
    pub(super) ticket: &'a Ticket,
}

impl Page<'_> {
    /// The whole page.
    pub(super) fn document(&self) -> String {
        let (stats, global) = (self.stats, self.process.global());
        let node =
            stats.show_node.as_ref().map(|node| node.clone().unwrap_or_else(|| info::node(self.process)));
        let description =
            stats.show_desc.as_ref().and_then(|text| text.clone().or(global.description.clone()));
        let mut out = String::with_capacity(32 * 1024);
        let title = node.as_ref().map(|node| format!(" on {}", escape(node))).unwrap_or_default();
        let _ = write!(
            out,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
             <title>Statistics Report for proxy{title}</title><link rel=\"icon\" href=\"data:,\">\
             <style>{STYLE}</style></head>\n<body data-live=\"{}\">",
            escape(&self.options.address(&stats.uri, &[";live"])),
        );
        let version = if stats.hide_version {
            String::new()
        } else {
            format!(" version {}", env!("CARGO_PKG_VERSION"))
        };
        let _ = write!(
            out,
            "<h1>Warren proxy{version}</h1>\n<h2>Statistics Report for pid {}{title}",
            std::process::id()
        );
        if let Some(text) = description {
            let _ = write!(out, ": {}", escape(&text));
        }
        out.push_str("</h2>\n<hr>\n<h3>&gt; General process information</h3>\n<div class=\"info\">");
        self.information(&mut out);
        legend(&mut out);
        self.links(&mut out);
        out.push_str("</div>\n");
        if let Some(result) = &self.options.result {
            self.notice(&mut out, result);
        }
        for (section, rows) in self.sections {
            table::table(&mut out, self, section, rows);
        }
        let _ = writeln!(out, "<script>{SCRIPT}</script></body></html>");
        out
    }

    fn information(&self, out: &mut String) {
        let process = self.process;
        let items = info::items(process, false);
        let value = |name: &str| info::find(&items, name).map_or(0, |item| item.value.number());
        let now = Moment::since(process.started);
        let _ = write!(
            out,
            "<p><b>pid = </b>{} (process #1, nbproc = 1, nbthread = {})<br>\n\
             <b>uptime = </b>{}<br>\n\
             <b>system limits:</b> memmax = unlimited; ulimit-n = {}<br>\n\
             <b>maxsock = </b>{}; <b>maxconn = </b>{}; <b>maxpipes = </b>{}<br>\n\
             current conns = {}; current pipes = {}/{}; conn rate = {}/sec; bit rate = {}<br>\n\
             Running tasks: {}/{}; idle = {} %</p>",
            std::process::id(),
            process.threads,
            info::uptime(now.0 / 1000),
            value("Ulimit-n"),
            value("Maxsock"),
            value("Maxconn"),
            value("Maxpipes"),
            process.counters.current.load(Relaxed),
            value("PipesUsed"),
            value("PipesFree"),
            process.counters.rate.read(now),
            bit_rate(value("BytesOutRate")),
            value("Run_queue"),
            value("Tasks"),
            value("Idle_pct"),
        );
    }

    fn links(&self, out: &mut String) {
        let (options, uri) = (self.options, &self.stats.uri);
        let link = |also: &[&str], changed: Options| escape(&changed.address(uri, also));
        let up = Options { up: !options.up, result: None, ..options.clone() };
        let maintenance = Options { no_maint: !options.no_maint, result: None, ..options.clone() };
        let refresh = Options { no_refresh: !options.no_refresh, result: None, ..options.clone() };
        let here = Options { result: None, ..options.clone() };
        let export = Options { no_refresh: true, ..here.clone() };
        let _ = writeln!(
            out,
            "<div><b>Display option:</b><ul>\
             <li><form method=\"get\">Scope : <input name=\"scope\" size=\"8\" maxlength=\"20\" value=\"{}\" \
             aria-label=\"Scope\"></form>",
            escape(&options.scope)
        );
        let _ = writeln!(
            out,
            "<li><a href=\"{}\">{}</a>\n<li><a href=\"{}\">{}</a>",
            link(&[], up),
            if options.up { "Show all servers" } else { "Hide 'DOWN' servers" },
            link(&[], maintenance),
            if options.no_maint { "Show 'MAINT' servers" } else { "Hide 'MAINT' servers" },
        );
        if self.stats.refresh.is_some() {
            let words = if options.no_refresh { "Enable refresh" } else { "Disable refresh" };
            let _ = writeln!(out, "<li><a href=\"{}\">{words}</a>", link(&[], refresh));
        }
        let _ = write!(
            out,
            "<li><a href=\"{}\">Refresh now</a>\n<li><a href=\"{}\">CSV export</a>\n\
             <li><a href=\"{}\">JSON export</a> (<a href=\"{}\">schema</a>)\n\
             <li><a href=\"/metrics\">Prometheus metrics</a></ul></div>",
            link(&[], here.clone()),
            link(&[";csv"], export.clone()),
            link(&[";json"], export),
            link(&[";json-schema"], here),
        );
    }

    /// What became of the last order, in HAProxy's colours.
    fn notice(&self, out: &mut String, result: &str) {
        let (class, text) = match result {
            "DONE" => ("active_up", "Action processed successfully."),
            "NONE" => ("active_going_down", "Nothing has changed: no server or no action was selected."),
            "PART" => ("active_going_down", "Action partially processed: some server names are not known."),
            "ERRP" => (
                "active_down",
                "Action not processed: the action, the backend or a server's name is not known.",
            ),
            "EXCD" => {
                ("active_down", "Action not processed: the form is too large; retry with fewer servers.")
            }
            "DENY" => (
                "active_down",
                "Action denied. Either nobody may change servers here (stats admin), or the form was not from this \
                 page; load it again.",
            ),
            _ => ("active_no_check", "Unexpected result."),
        };
        let back = Options { result: None, ..self.options.clone() };
        let _ = writeln!(
            out,
            "<p><span class=\"note {class}\" role=\"status\"><a href=\"{}\" title=\"Remove this message\">[X]</a> {text}</span></p>",
            escape(&back.address(&self.stats.uri, &[]))
        );
    }
}

fn legend(out: &mut String) {
    let lines = [
        [("active_up", "active UP"), ("backup_up", "backup UP")],
        [("active_going_down", "active UP, going down"), ("backup_going_down", "backup UP, going down")],
        [("active_going_up", "active DOWN, going up"), ("backup_going_up", "backup DOWN, going up")],
        [("active_down", "active or backup DOWN"), ("active_no_check", "not checked")],
    ];
    out.push_str("<div><table class=\"l\">");
    for line in lines {
        out.push_str("<tr>");
        for (class, text) in line {
            let _ = write!(out, "<td class=\"{class}\">&nbsp;</td><td class=\"t\">{text}</td>");
        }
        out.push_str("</tr>");
    }
    for (class, text) in [
        ("maintain", "active or backup DOWN for maintenance (MAINT)"),
        ("active_draining", "active or backup SOFT STOPPED for maintenance"),
    ] {
        let _ = write!(
            out,
            "<tr><td class=\"{class}\">&nbsp;</td><td class=\"t\" colspan=\"3\">{text}</td></tr>"
        );
    }
    out.push_str("</table>Note: \"NOLB\"/\"DRAIN\" = UP with load-balancing disabled.</div>");
}

/// Bits per second from bytes per second, in HAProxy's units.
fn bit_rate(bytes: u64) -> String {
    let bits = bytes.saturating_mul(8);
    let units = ["kbps", "Mbps", "Gbps"];
    let mut unit = 0;
    let mut scale = 1000;
    while unit < 2 && bits >= scale * 1000 {
        scale *= 1000;
        unit += 1;
    }
    format!("{}.{:03} {}", bits / scale, bits % scale / (scale / 1000), units[unit])
}

/// HAProxy's short form of a time: 59s, 1m25s, 2h3m, 3d4h.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_haproxys_units() {
        for (bytes, shown) in
            [(0, "0.000 kbps"), (125, "1.000 kbps"), (125_000, "1.000 Mbps"), (1_250_000_000, "10.000 Gbps")]
        {
            assert_eq!(bit_rate(bytes), shown);
        }
    }
}
