//! `option NAME ...` and `no option NAME`.

use std::time::Duration;

use super::args::Args;
use super::http::{Notes, Weight};
use super::{checks, vocabulary};
use crate::config::{Rebalance, Settings};

/// Reads what follows `option`.
pub(super) fn directive(args: &mut Args<'_, '_>, settings: &mut Settings, notes: &mut Notes, on: bool) {
    let Some(word) = args.value("a name") else { return };
    if let Some(flag) = flag(&word.text, settings) {
        *flag = on;
        return;
    }
    match word.text.as_str() {
        "tcplog" => {
            settings.tcplog = on;
            args.take("clf");
        }
        "httplog" => {
            settings.httplog = on;
            args.take("clf");
            if on {
                notes.http(
                    word,
                    args,
                    "option httplog (lines are written as with option tcplog)",
                    Weight::Changes,
                );
            }
        }
        "redispatch" => redispatch(args, settings, on),
        "tcpka" => (settings.client_keepalive, settings.server_keepalive) = (on, on),
        "rebalance" if on => rebalance(args, settings),
        "rebalance" => settings.rebalance = None,
        text if checks::OPTIONS.contains(&text) => checks::option(word, args, settings, on),
        text if vocabulary::OPTIONS_HTTP.contains(&text) => {
            let weight = match text {
                "forwardfor" | "originalto" => Weight::Changes,
                "http_proxy" => Weight::Routes,
                _ => Weight::Harmless,
            };
            notes.http(word, args, &format!("option {text}"), weight);
        }
        "smtp-check" => {
            args.error(word, "unknown-word", "unknown option `smtp-check`", "did you mean `smtpchk`?");
            args.skip_rest();
        }
        _ => {
            args.unknown(word, "option", &[vocabulary::OPTIONS, checks::OPTIONS, vocabulary::OPTIONS_HTTP]);
            args.skip_rest();
        }
    }
}

/// Options that are on or off.
fn flag<'a>(name: &str, settings: &'a mut Settings) -> Option<&'a mut bool> {
    Some(match name {
        "dontlognull" => &mut settings.dontlognull,
        "clitcpka" => &mut settings.client_keepalive,
        "srvtcpka" => &mut settings.server_keepalive,
        "log-health-checks" => &mut settings.log_health_checks,
        "allbackups" => &mut settings.allbackups,
        "splice-auto" | "splice-request" | "splice-response" => &mut settings.splice,
        "contstats" => &mut settings.contstats,
        "socket-stats" => &mut settings.socket_stats,
        "abortonclose" => &mut settings.abortonclose,
        "nolinger" => &mut settings.nolinger,
        "tcp-smart-accept" => &mut settings.tcp_smart_accept,
        "tcp-smart-connect" => &mut settings.tcp_smart_connect,
        "independent-streams" | "independant-streams" => &mut settings.independent_streams,
        "prefer-last-server" => &mut settings.prefer_last_server,
        "transparent" => &mut settings.transparent,
        "persist" => &mut settings.persist,
        "dontlog-normal" => &mut settings.logging.dontlog_normal,
        "logasap" => &mut settings.logging.logasap,
        "log-separate-errors" => &mut settings.logging.separate_errors,
        "fail-open" => &mut settings.fail_open,
        _ => return None,
    })
}

fn redispatch(args: &mut Args<'_, '_>, settings: &mut Settings, on: bool) {
    settings.redispatch = on.then_some(-1);
    if let Some(every) = args.peek().and_then(|word| word.text.parse::<i32>().ok()) {
        args.next();
        settings.redispatch = (on && every != 0).then_some(every);
    }
}

/// `option rebalance RATE [drain] [return]`
fn rebalance(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("a rate, e.g. 10/s") else { return };
    let Some((sessions, period)) = parse_rate(&word.text) else {
        let message = format!("`{}` is not a rate", word.text);
        args.error(word, "wrong-value", message, "a number and a time, e.g. 10/s or 30/m");
        return args.skip_rest();
    };
    let mut rebalance = Rebalance { sessions, period, on_drain: false, on_return: false };
    loop {
        if args.take("drain") {
            rebalance.on_drain = true;
        } else if args.take("return") {
            rebalance.on_return = true;
        } else {
            break;
        }
    }
    if !rebalance.on_drain && !rebalance.on_return {
        (rebalance.on_drain, rebalance.on_return) = (true, true);
    }
    settings.rebalance = Some(rebalance);
}

/// `10/s`, `30/m`, `100/h`.
#[must_use]
pub fn parse_rate(text: &str) -> Option<(u32, Duration)> {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let number = number.parse().ok().filter(|number| (1..=1_000_000).contains(number))?;
    Some((number, Duration::from_secs(seconds)))
}

/// Writes a rate as [`parse_rate`] reads it.
#[must_use]
pub fn show_rate(rebalance: &Rebalance) -> String {
    let unit = match rebalance.period.as_secs() {
        60 => "m",
        3600 => "h",
        _ => "s",
    };
    format!("{}/{unit}", rebalance.sessions)
}

/// What `no` can take back in a proxy section.
pub(super) fn negation(args: &mut Args<'_, '_>, settings: &mut Settings, notes: &mut Notes) {
    match args.value("option or log") {
        Some(word) if word.text == "option" => directive(args, settings, notes, false),
        Some(word) if word.text == "log" => {
            settings.logs.clear();
            settings.log_global = false;
        }
        Some(word) => {
            args.unknown(word, "word after no", &[&["option", "log"]]);
            args.skip_rest();
        }
        None => {}
    }
}
