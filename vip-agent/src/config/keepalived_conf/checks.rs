//! The health checks of a `real_server`.

use std::time::Duration;

use super::lexer::Word;
use super::tree::Statement;
use super::{Reader, values};
use crate::config::Command;
use crate::config::virtual_server::{Check, CheckKind, HttpCheck, HttpVersion, Page, RECORDS, default_retry};

/// Pauses between checks, as far as a block named them.
#[derive(Clone, Copy, Default)]
pub(super) struct Pauses {
    delay_loop: Option<Duration>,
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    connect_timeout: Option<Duration>,
    warmup: Option<Duration>,
}

const CHECKS: &[&str] = &[
    "TCP_CHECK",
    "AMQP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "BFD_CHECK",
    "FILE_CHECK",
];
const COMMON: &[&str] = &[
    "connect_ip",
    "connect_port",
    "bindto",
    "connect_timeout",
    "delay_loop",
    "retry",
    "delay_before_retry",
    "warmup",
];
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("bind_port", "the kernel chooses the port"),
    ("bind_if", ""),
    ("fwmark", ""),
    ("alpha", "write it in real_server"),
    ("log_all_failures", ""),
    ("fast_recovery", "all pages are asked one after the other without a pause"),
    ("nb_get_retry", "write retry"),
];
/// Longest body of a UDP packet a check sends.
const MAX_PAYLOAD: usize = 1024;

pub(super) fn is_check(word: &str) -> bool {
    CHECKS.contains(&word)
}

/// The words that a virtual_server, a real_server and a check share; false when it is none of them.
pub(super) fn pause(reader: &mut Reader, line: &Statement, pauses: &mut Pauses) -> bool {
    const SECONDS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
    match line.keyword.text.as_str() {
        "delay_loop" => pauses.delay_loop = reader.seconds(line, SECONDS).or(pauses.delay_loop),
        "retry" => pauses.retry = reader.number(line, 0..=1_000_000).map(|number| number as u32),
        "delay_before_retry" => pauses.delay_before_retry = reader.seconds(line, 0.0..=1_000_000.0),
        "connect_timeout" => pauses.connect_timeout = reader.seconds(line, SECONDS),
        "warmup" => pauses.warmup = reader.seconds(line, 0.0..=1_000_000.0),
        _ => return false,
    }
    true
}

/// Words only one kind of check has.
#[derive(Default)]
struct Own {
    pages: Vec<Page>,
    version: HttpVersion,
    sni: bool,
    command: Option<Command>,
    user: Option<crate::config::ScriptUser>,
    timeout: Option<Duration>,
    dynamic: bool,
    helo: Option<String>,
    record: u16,
    name: Option<String>,
    payload: Vec<u8>,
    reply: bool,
}

/// Reads one check.
pub(super) fn read(
    reader: &mut Reader,
    statement: &Statement,
    mut pauses: Pauses,
    virtualhost: Option<&str>,
) -> Option<Check> {
    let kind = statement.keyword.text.as_str();
    if matches!(kind, "PING_CHECK" | "BFD_CHECK" | "FILE_CHECK") {
        let label = "write TCP_CHECK, or MISC_CHECK with a program of yours";
        reader.error(statement.keyword.place, "wrong-value", format!("`{kind}` is not supported"), label);
        return None;
    }
    let mut check = Check::new(CheckKind::Tcp);
    let mut own = Own { record: 6, ..Own::default() };
    let mut virtualhost = virtualhost.map(str::to_owned);
    let (known, quiet) = own_words(kind);
    for line in statement.children() {
        let word = line.keyword.text.as_str();
        match word {
            "connect_ip" | "bindto" => {
                if let Some(value) = reader.value(line) {
                    let address = values::address(value);
                    let address = reader.taken(value, word, address);
                    *(if word == "bindto" { &mut check.bind } else { &mut check.connect_ip }) = address;
                }
            }
            "connect_port" => {
                check.connect_port = reader.number(line, 1..=65535).map(|number| number as u16);
            }
            "virtualhost" if kind.ends_with("_GET") => {
                virtualhost = host_name(reader, line);
            }
            _ if pause(reader, line, &mut pauses) => {}
            _ if known.contains(&word) => own_word(reader, line, &mut own),
            // keepalived has the address of SMTP_CHECK in a block of its own too.
            "host" if kind == "SMTP_CHECK" => host(reader, line, &mut check, &mut pauses),
            _ => {
                let all: Vec<&str> = known.iter().chain(COMMON).copied().collect();
                let quiet: Vec<_> = quiet.iter().chain(WITHOUT_EFFECT).copied().collect();
                reader.no_effect_or_unknown(&line.keyword, &format!("in {kind}"), &all, &quiet);
            }
        }
    }
    check.kind = finish(reader, statement, own, virtualhost)?;
    check.delay_loop = pauses.delay_loop.unwrap_or(check.delay_loop);
    let (retry, delay) = default_retry(&check.kind, check.delay_loop);
    check.retry = pauses.retry.unwrap_or(retry);
    check.delay_before_retry = pauses.delay_before_retry.unwrap_or(delay);
    check.connect_timeout = pauses.connect_timeout.unwrap_or(check.connect_timeout);
    check.warmup = pauses.warmup.unwrap_or(check.delay_loop);
    if let CheckKind::Misc { timeout, .. } = &mut check.kind
        && timeout.is_zero()
    {
        *timeout = check.delay_loop;
    }
    Some(check)
}

type Words = (&'static [&'static str], &'static [(&'static str, &'static str)]);

fn own_words(kind: &str) -> Words {
    match kind {
        "HTTP_GET" => (&["url", "http_protocol"], &[]),
        "SSL_GET" => (&["url", "http_protocol", "enable_sni"], &[]),
        "MISC_CHECK" => (&["misc_path", "misc_timeout", "misc_dynamic", "user"], &[]),
        "SMTP_CHECK" => (&["helo_name"], &[]),
        "DNS_CHECK" => (&["type", "name"], &[]),
        "UDP_CHECK" => (
            &["payload", "require_reply"],
            &[("min_reply_length", "any answer counts"), ("max_reply_length", "any answer counts")],
        ),
        _ => (&[], &[]),
    }
}

fn own_word(reader: &mut Reader, line: &Statement, own: &mut Own) {
    match line.keyword.text.as_str() {
        "url" => own.pages.extend(page(reader, line)),
        "http_protocol" => {
            if let Some(word) = reader.value(line) {
                let found = HttpVersion::ALL.iter().find(|known| known.word() == word.text).copied();
                let found = found.ok_or_else(|| "is not one of 1.0, 1.0C, 1.1".to_owned());
                own.version = reader.taken(word, "http_protocol", found).unwrap_or_default();
            }
        }
        "enable_sni" => own.sni = reader.switch(line),
        "misc_path" => own.command = reader.command(line, &line.texts().join(" ")),
        "misc_timeout" => own.timeout = reader.seconds(line, 0.001..=1_000_000.0),
        "misc_dynamic" => own.dynamic = reader.switch(line),
        "user" if reader.value_of_several(line) => own.user = reader.user(&line.words),
        "helo_name" => {
            if let Some(word) = reader.value(line) {
                let name = text(word);
                own.helo = reader.taken(word, "helo_name", name);
            }
        }
        "type" => {
            if let Some(word) = reader.value(line) {
                let found = RECORDS.iter().find(|(name, _)| *name == word.text).map(|(_, number)| *number);
                let found = found.ok_or_else(|| "is not one of A, NS, CNAME, SOA, MX, TXT, AAAA".to_owned());
                own.record = reader.taken(word, "type", found).unwrap_or(6);
            }
        }
        "name" => {
            if let Some(word) = reader.value(line) {
                let good = word.text.split('.').all(|label| label.len() <= 63) && word.text.len() <= 253;
                let name = if good { Ok(word.text.clone()) } else { Err("is not a domain name".to_owned()) };
                own.name = reader.taken(word, "name", name);
            }
        }
        "payload" => {
            if let Some(word) = line.words.first() {
                let bytes = hexadecimal(&line.texts().join(" "));
                own.payload = reader.taken(word, "payload", bytes).unwrap_or_default();
            }
        }
        "require_reply" => {
            own.reply = true;
            if let Some(word) = line.words.first() {
                let label = "any answer counts; take the pattern out";
                reader.error(word.place, "wrong-value", "answers are not compared with a pattern", label);
            }
        }
        _ => {}
    }
}

/// The value of `virtualhost`.
pub(super) fn host_name(reader: &mut Reader, line: &Statement) -> Option<String> {
    let word = reader.value(line)?;
    let name = text(word);
    reader.taken(word, "virtualhost", name)
}

/// Text that goes onto a line of a protocol.
fn text(word: &Word) -> Result<String, String> {
    if word.text.chars().any(char::is_control) {
        return Err("holds control characters".to_owned());
    }
    Ok(word.text.clone())
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for group in text.split_whitespace() {
        let digits: Vec<u8> = group
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<_>>()
            .ok_or_else(|| "is not hexadecimal".to_owned())?;
        bytes.extend(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)));
    }
    if bytes.len() > MAX_PAYLOAD { Err("is too long".to_owned()) } else { Ok(bytes) }
}

fn host(reader: &mut Reader, block: &Statement, check: &mut Check, pauses: &mut Pauses) {
    for line in block.children() {
        match line.keyword.text.as_str() {
            word @ ("connect_ip" | "bindto") => {
                if let Some(value) = reader.value(line) {
                    let address = values::address(value);
                    let address = reader.taken(value, word, address);
                    *(if word == "bindto" { &mut check.bind } else { &mut check.connect_ip }) = address;
                }
            }
            "connect_port" => {
                check.connect_port = reader.number(line, 1..=65535).map(|number| number as u16);
            }
            "connect_timeout" => pauses.connect_timeout = reader.seconds(line, 0.001..=1_000_000.0),
            _ => {
                let known = ["connect_ip", "connect_port", "bindto", "connect_timeout"];
                reader.no_effect_or_unknown(&line.keyword, "in host", &known, WITHOUT_EFFECT);
            }
        }
    }
}

/// One `url` block.
fn page(reader: &mut Reader, statement: &Statement) -> Option<Page> {
    const WORDS: &[&str] = &["path", "digest", "status_code", "virtualhost"];
    let mut page = Page { path: String::new(), status: Vec::new(), digest: None, virtualhost: None };
    for line in statement.children() {
        match line.keyword.text.as_str() {
            "path" => {
                if let Some(word) = reader.value(line) {
                    let good = word.text.starts_with('/')
                        && !word.text.chars().any(|letter| letter.is_control() || letter == ' ');
                    let path =
                        if good { Ok(word.text.clone()) } else { Err("is not a path such as /".to_owned()) };
                    page.path = reader.taken(word, "path", path)?;
                }
            }
            "digest" => {
                if let Some(word) = reader.value(line) {
                    let good = word.text.len() == 32 && word.text.chars().all(|c| c.is_ascii_hexdigit());
                    let digest = if good {
                        Ok(word.text.to_ascii_lowercase())
                    } else {
                        Err("is not an MD5 digest of 32 hexadecimal digits".to_owned())
                    };
                    page.digest = reader.taken(word, "digest", digest);
                }
            }
            "status_code" => {
                if reader.value_of_several(line) {
                    for word in &line.words {
                        let codes = status_codes(&word.text);
                        page.status.extend(reader.taken(word, "status_code", codes));
                    }
                }
            }
            "virtualhost" => {
                page.virtualhost = host_name(reader, line);
            }
            word if word.starts_with("regex") => {
                let label = "write digest or status_code, or MISC_CHECK with a program of yours";
                reader.error(line.keyword.place, "wrong-value", format!("`{word}` is not supported"), label);
            }
            _ => reader.unknown(&line.keyword, "in url", WORDS, &[]),
        }
    }
    if page.path.is_empty() {
        reader.error(statement.keyword.place, "missing-value", "this url has no `path`", "add: path /");
        return None;
    }
    Some(page)
}

/// `200` or `200-299`.
pub(crate) fn status_codes(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if (100..=999).contains(&first) && first <= last && last <= 999 => {
            Ok((first, last))
        }
        _ => Err("is not a status code such as 200 or 200-299".to_owned()),
    }
}

/// What is checked, or a remark about what is missing.
fn finish(
    reader: &mut Reader,
    statement: &Statement,
    own: Own,
    virtualhost: Option<String>,
) -> Option<CheckKind> {
    let place = statement.keyword.place;
    Some(match statement.keyword.text.as_str() {
        "AMQP_CHECK" => CheckKind::Amqp,
        kind @ ("HTTP_GET" | "SSL_GET") => {
            let mut pages = own.pages;
            for page in &mut pages {
                page.virtualhost = page.virtualhost.take().or_else(|| virtualhost.clone());
                if page.status.is_empty() && page.digest.is_none() {
                    page.status = vec![(200, 299)];
                }
            }
            if pages.is_empty() {
                let message = format!("this {kind} has no `url`");
                reader.error(place, "missing-value", message, "add: url { path / }");
                return None;
            }
            CheckKind::Http(HttpCheck { tls: kind == "SSL_GET", sni: own.sni, version: own.version, pages })
        }
        "MISC_CHECK" => {
            let Some(mut command) = own.command else {
                let label = "add: misc_path \"/path/to/check\"";
                reader.error(place, "missing-value", "this MISC_CHECK has no `misc_path`", label);
                return None;
            };
            command.user = own.user;
            let timeout = own.timeout.unwrap_or_default();
            CheckKind::Misc { command, timeout, dynamic: own.dynamic }
        }
        "SMTP_CHECK" => {
            CheckKind::Smtp { helo: own.helo.unwrap_or_else(|| "smtpchecker.keepalived.org".into()) }
        }
        "DNS_CHECK" => CheckKind::Dns { record: own.record, name: own.name.unwrap_or_else(|| ".".into()) },
        "UDP_CHECK" => CheckKind::Udp { payload: own.payload, reply: own.reply },
        _ => CheckKind::Tcp,
    })
}
