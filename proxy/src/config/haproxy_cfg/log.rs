//! `log ADDRESS [len N] [format F] FACILITY [LEVEL [MINLEVEL]]`.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::args::Args;
use crate::config::{LogFraming, LogSample, LogSink, LogTarget};

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
    if address.text.starts_with("ring@") {
        // The lines can be had nowhere else, but nothing else changes: not worth refusing a file.
        args.warn(
            address,
            "not-used",
            format!("`log {}`: rings are not kept here; the line is read over", address.text),
            "write an address, /dev/log, stdout or stderr",
        );
        args.skip_rest();
        return None;
    }
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
        } else if args.take("sample") {
            let word = args.value("ranges and a size, e.g. 1-2:10")?;
            sink.sample = parse_sample(&word.text);
            if sink.sample.is_none() {
                let message = format!("`{}` is not RANGES:SIZE, e.g. 1-2,5:10", word.text);
                args.error(word, "wrong-value", message, "");
                return None;
            }
        } else if args.take("profile") {
            args.value("a value")?;
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
    if let Some(name) = text.strip_prefix("ring@") {
        return Err(format!(
            "log buffer `{name}`: rings are not kept here; use an address, /dev/log, stdout or stderr"
        ));
    }
    if text.starts_with("fd@") {
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

/// `1-2,5:10`
fn parse_sample(text: &str) -> Option<LogSample> {
    let (ranges, size) = text.split_once(':')?;
    let size: u32 = size.parse().ok().filter(|size| *size > 0)?;
    let ranges: Option<Vec<(u32, u32)>> = ranges
        .split(',')
        .map(|range| {
            let (low, high) = range.split_once('-').unwrap_or((range, range));
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            (1 <= low && low <= high && high <= size).then_some((low, high))
        })
        .collect();
    Some(LogSample { ranges: ranges?, size })
}

/// Writes a receiver as [`parse_text`] reads it.
#[must_use]
pub fn show(sink: &LogSink) -> String {
    let mut text = match &sink.target {
        LogTarget::Udp(address) => format!("udp@{address}"),
        LogTarget::Unix(path) => quoted(&format!("unix@{}", path.display())),
        LogTarget::Stdout => "stdout".to_owned(),
        LogTarget::Stderr => "stderr".to_owned(),
    };
    if sink.length != DEFAULT_LENGTH {
        text.push_str(&format!(" len {}", sink.length));
    }
    if sink.format != LogFraming::default() {
        text.push_str(&format!(" format {}", sink.format.word()));
    }
    if let Some(sample) = &sink.sample {
        let ranges: Vec<String> = sample.ranges.iter().map(|(low, high)| format!("{low}-{high}")).collect();
        text.push_str(&format!(" sample {}:{}", ranges.join(","), sample.size));
    }
    let name = |list: &[&'static str], at: u8| list.get(usize::from(at)).copied().unwrap_or_default();
    text.push_str(&format!(" {}", name(FACILITIES, sink.facility)));
    if sink.max_level != 7 || sink.min_level != 0 {
        text.push_str(&format!(" {}", name(LEVELS, sink.max_level)));
    }
    if sink.min_level != 0 {
        text.push_str(&format!(" {}", name(LEVELS, sink.min_level)));
    }
    text
}

/// A word as the lexer takes it.
pub(in crate::config) fn quoted(text: &str) -> String {
    if !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "#'\"\\$".contains(c)) {
        return text.to_owned();
    }
    // Single quotes keep everything but themselves.
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Reads the words of a log line given as one text, as TOML has it.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_text(text: &str) -> Result<LogSink, String> {
    if text.trim().is_empty() {
        return Err("write ADDRESS FACILITY [LEVEL], e.g. \"127.0.0.1 local0 info\"".to_owned());
    }
    super::with_words(text, directive)
}
