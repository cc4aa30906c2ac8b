//! `log ADDRESS [len N] [format F] FACILITY [LEVEL [MINLEVEL]]`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::args::Args;
use crate::config::{LogFraming, LogSink, LogTarget};

/// syslog facilities in the order of their numbers (RFC 3164 section 4.1.1).
pub(super) const FACILITIES: &[&str] = &[
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "auth2", "ftp", "ntp",
    "audit", "alert", "cron2", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

/// syslog levels in the order of their numbers.
pub(super) const LEVELS: &[&str] = &["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Longest log line when none is given.
pub(super) const DEFAULT_LENGTH: usize = 1024;

/// Reads everything after `log`, except `log global`.
pub(super) fn directive(args: &mut Args<'_, '_>) -> Option<LogSink> {
    let address = args.value("an address, e.g. 127.0.0.1, /dev/log or stdout")?;
    let target = match target(&address.text) {
        Ok(target) => target,
        Err(message) => {
            args.error(address, "wrong-address", message, "");
            args.skip_rest();
            return None;
        }
    };
    let mut sink = LogSink {
        target,
        format: LogFraming::Local,
        facility: 0,
        max_level: 7,
        min_level: 0,
        length: DEFAULT_LENGTH,
        sample: None,
    };
    loop {
        if args.take("len") {
            let length = args.number("a length in bytes", 80, 65_535)?;
            sink.length = usize::try_from(length).unwrap_or(DEFAULT_LENGTH);
        } else if args.take("format") {
            let word = args.value("a format")?;
            let Some(format) = LogFraming::ALL.into_iter().find(|format| format.word() == word.text) else {
                args.unknown(word, "log format", &[&LogFraming::ALL.map(LogFraming::word)]);
                return None;
            };
            sink.format = format;
        } else if args.take("sample") || args.take("profile") {
            let word = args.value("a value")?;
            args.warn(word, "not-used", "sampling of log lines is not supported: every line is sent", "");
        } else {
            break;
        }
    }
    sink.facility = choice(args, "a facility", "log facility", FACILITIES)?;
    if args.peek().is_some_and(|word| LEVELS.contains(&word.text.as_str())) {
        sink.max_level = choice(args, "a level", "log level", LEVELS)?;
        if args.peek().is_some_and(|word| LEVELS.contains(&word.text.as_str())) {
            sink.min_level = choice(args, "a level", "log level", LEVELS)?;
        }
    }
    Some(sink)
}

fn choice(args: &mut Args<'_, '_>, what: &str, noun: &str, list: &[&'static str]) -> Option<u8> {
    let word = args.value(what)?;
    match list.iter().position(|name| *name == word.text) {
        Some(at) => u8::try_from(at).ok(),
        None => {
            args.unknown(word, noun, &[list]);
            None
        }
    }
}

/// Reads the receiver of log lines.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn target(text: &str) -> Result<LogTarget, String> {
    match text {
        "stdout" | "fd@1" => return Ok(LogTarget::Stdout),
        "stderr" | "fd@2" => return Ok(LogTarget::Stderr),
        _ => {}
    }
    if let Some(path) = text.strip_prefix("unix@").or_else(|| text.starts_with('/').then_some(text)) {
        return Ok(LogTarget::Unix(path.into()));
    }
    if text.starts_with("ring@") || text.starts_with("fd@") {
        return Err(format!(
            "log receiver `{text}` is not supported; use an address, /dev/log, stdout or stderr"
        ));
    }
    let text = text.strip_prefix("udp@").unwrap_or(text);
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(LogTarget::Udp(address));
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(LogTarget::Udp(SocketAddr::new(ip, 514)));
    }
    let named = if text.contains(':') { text.to_socket_addrs() } else { (text, 514).to_socket_addrs() };
    named
        .ok()
        .and_then(|mut found| found.next())
        .map(LogTarget::Udp)
        .ok_or_else(|| format!("`{text}` is neither an address nor a name this host knows"))
}

/// Reads the words of a log line given as one text, as TOML has it.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_text(text: &str) -> Result<LogSink, String> {
    let words = super::lexer::words(text, &|_| None).map_err(|error| error.message)?;
    if words.is_empty() {
        return Err("write ADDRESS FACILITY [LEVEL], e.g. \"127.0.0.1 local0 info\"".to_owned());
    }
    let line = super::args::Line { file: "", number: 1, text, words: &words };
    let mut remarks = daemon::diagnostic::Diagnostics::new();
    let mut args = Args::new(&line, &mut remarks);
    let sink = directive(&mut args);
    let left = args.peek().map(|word| word.text.clone());
    let first = remarks.iter().next().map(|remark| remark.message.clone());
    match (sink, left) {
        (Some(sink), None) => Ok(sink),
        (_, Some(extra)) if first.is_none() => Err(format!("unexpected word `{extra}`")),
        _ => Err(first.unwrap_or_else(|| "not a log receiver".to_owned())),
    }
}
