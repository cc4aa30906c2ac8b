//! `acl NAME TEST` and conditions: `if a !b || { src 10.0.0.0/8 }`.

use super::args::Args;
use super::lexer::Word;
use super::vocabulary;
use crate::config::ProxyConfig;
use crate::config::rules::{Acl, Condition, Network, Number, Range, Term, Test};
use crate::config::texts::{Case, Matching, Method, Pattern, Text};

/// `acl NAME TEST...`
pub(super) fn acl(args: &mut Args<'_, '_>, proxy: &mut ProxyConfig) {
    let Some(name) = args.value("a name and a test") else { return };
    let place = args.place(name);
    let Some(criterion) = args.value("a test, e.g. src 10.0.0.0/8") else { return };
    let Some(test) = test(criterion, args, &[]) else {
        args.skip_rest();
        return;
    };
    // A second `acl` of the same name adds to the first, as in HAProxy.
    match proxy.acls.iter_mut().find(|known| known.name == name.text) {
        Some(known) => {
            known.tests.push(test);
            known.places.push(place);
        }
        None => proxy.acls.push(Acl { name: name.text.clone(), tests: vec![test], places: vec![place] }),
    }
}

/// Reads a test given as one text, as TOML has it.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_test(text: &str) -> Result<Test, String> {
    super::with_words(text, |args| {
        let criterion = args.value("a test, e.g. src 10.0.0.0/8")?;
        test(criterion, args, &[])
    })
}

/// Reads a condition given as one text, as TOML has it.
///
/// # Errors
/// Says what is wrong with it.
pub fn parse_condition(text: &str, acls: &[Acl]) -> Result<Condition, String> {
    super::with_words(text, |args| condition_of(args, acls))
}

/// What follows an acl's name, up to the end of the line or one of `ends`.
fn test(criterion: &Word, args: &mut Args<'_, '_>, ends: &[&str]) -> Option<Test> {
    let (name, argument) = match criterion.text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').map(str::trim).filter(|text| !text.is_empty())),
        None => (criterion.text.as_str(), None),
    };
    let more = |word: &Word| !ends.contains(&word.text.as_str());
    match name {
        "src" => return networks(criterion, args, ends).map(Test::Source),
        "dst" => return networks(criterion, args, ends).map(Test::Destination),
        "src_port" => return ranges(criterion, args, ends, true).map(Test::SourcePort),
        "dst_port" => return ranges(criterion, args, ends, true).map(Test::DestinationPort),
        "wait_end" => return Some(Test::WaitEnd),
        "always_true" => return Some(Test::Constant(true)),
        "always_false" => return Some(Test::Constant(false)),
        _ => {}
    }
    if let Some(number) = number(name, argument) {
        return ranges(criterion, args, ends, false).map(|ranges| Test::Number(number, ranges));
    }
    if let Some((text, matching)) = text(name) {
        return texts(criterion, args, ends, matching).map(|matching| Test::Text(text, matching));
    }
    let base = name.split(',').next().unwrap_or(name);
    if !vocabulary::is_fetch(base) {
        args.unknown(criterion, "test", &[vocabulary::FETCHES_USED, vocabulary::FETCHES]);
        return None;
    }
    while args.peek().is_some_and(more) {
        args.next();
    }
    Some(Test::Unsupported(criterion.text.clone()))
}

/// `nbsrv(backend)`, `srv_is_up(backend/server)`, ...
fn number(name: &str, argument: Option<&str>) -> Option<Number> {
    let section = argument.map(str::to_owned);
    let server = |make: fn(Option<String>, String) -> Number| {
        let (section, server) = match argument?.split_once('/') {
            Some((section, server)) => (Some(section.to_owned()), server),
            None => (None, argument?),
        };
        Some(make(section, server.to_owned()))
    };
    Some(match name {
        "nbsrv" => Number::UsableServers(section),
        "srv_is_up" => return server(Number::ServerIsUp),
        "srv_conn" => return server(Number::ServerSessions),
        "fe_conn" => Number::FrontendSessions(section),
        "fe_sess_rate" => Number::FrontendRate(section),
        "be_conn" => Number::BackendSessions(section),
        "be_sess_rate" => Number::BackendRate(section),
        "queue" => Number::Pending(section),
        "avg_queue" => Number::AveragePending(section),
        "connslots" => Number::FreePlaces(section),
        "dst_conn" => Number::ListenerSessions,
        "so_id" => Number::ListenerId,
        "ssl_fc" => Number::SpeaksTls,
        "req.len" | "req_len" => Number::ContentLength,
        "req.ssl_hello_type" | "req_ssl_hello_type" => Number::HelloType,
        _ => return None,
    })
}

/// How addresses and numbers are compared (`-m`); each only says what is so anyway.
const NUMBER_METHODS: &[&str] = &["ip", "int", "bool", "found"];

/// Reads a value from a word; the second argument gives the word after it.
type ReadValue<'a, T> = &'a mut dyn FnMut(&str, &mut dyn FnMut() -> Option<String>) -> Result<T, String>;

/// `req.ssl_sni,lower` and the like, with how it is compared when nothing else is said.
fn text(name: &str) -> Option<(Text, Matching)> {
    let mut parts = name.split(',');
    let (text, method) = match parts.next()? {
        "req.ssl_sni" | "req_ssl_sni" => (Text::HelloName, Method::Exact),
        "ssl_fc_sni" => (Text::TlsName, Method::Exact),
        "ssl_fc_sni_end" => (Text::TlsName, Method::End),
        "ssl_fc_sni_reg" => (Text::TlsName, Method::Regex),
        _ => return None,
    };
    let mut matching = Matching { method, ..Matching::default() };
    for converter in parts {
        matching.case = Some(match converter {
            "lower" => Case::Lower,
            "upper" => Case::Upper,
            _ => return None,
        });
    }
    Some((text, matching))
}

/// Flags and values of a test of texts.
fn texts(
    criterion: &Word,
    args: &mut Args<'_, '_>,
    ends: &[&str],
    mut matching: Matching,
) -> Option<Matching> {
    // The flags come first and decide how values are read.
    let known = Method::WORDS.map(|(word, _)| word);
    let mut flags = Flags::default();
    let values = values(args, ends, &known, &mut flags, &mut |text, _| Ok(text.to_owned()))?;
    matching.ignore_case = flags.ignore_case;
    if let Some(word) = &flags.method {
        let found = Method::WORDS.iter().find(|(known, _)| known == word);
        matching.method = found.map_or(matching.method, |(_, method)| *method);
    }
    if values.is_empty() && matching.method != Method::Found && !flags.ended {
        args.warn(
            criterion,
            "never-holds",
            format!("`{}` without values never holds", criterion.text),
            "write `-m found` to ask whether it is there at all",
        );
    }
    for value in values {
        let added = match matching.method {
            Method::Length => range(None, &value).map(|range| matching.values.push(Pattern::Length(range))),
            _ => matching.add(&value),
        };
        if let Err(message) = added {
            args.error(criterion, "wrong-value", message, "");
            return None;
        }
    }
    Some(matching)
}

/// Flags of a test.
#[derive(Default)]
struct Flags {
    /// `-i`
    ignore_case: bool,
    /// `-m`
    method: Option<String>,
    /// `--`
    ended: bool,
}

/// Flags and values of a test, one after another; `-m` takes one of `methods`.
fn values<T>(
    args: &mut Args<'_, '_>,
    ends: &[&str],
    methods: &[&str],
    given: &mut Flags,
    read: ReadValue<'_, T>,
) -> Option<Vec<T>> {
    let mut found = Vec::new();
    let mut flags = true;
    while let Some(word) = args.peek().filter(|word| !ends.contains(&word.text.as_str())) {
        args.next();
        match word.text.as_str() {
            "--" if flags => {
                (flags, given.ended) = (false, true);
                continue;
            }
            "-i" if flags => {
                given.ignore_case = true;
                continue;
            }
            "-n" if flags => continue,
            "-m" if flags => {
                let method = args.value("a method, e.g. ip")?;
                if !methods.contains(&method.text.as_str()) {
                    let message = format!("`-m {}` is not supported here", method.text);
                    args.error(method, "not-supported", message, &methods.join(", "));
                    return None;
                }
                given.method = Some(method.text.clone());
                continue;
            }
            "-f" if flags => {
                let file = args.value("a file")?;
                from_file(file, args, &mut found, read)?;
                continue;
            }
            text if flags
                && text.starts_with('-')
                && text.len() > 1
                && !text.as_bytes()[1].is_ascii_digit() =>
            {
                args.error(word, "not-supported", format!("flag `{text}` of acl is not supported"), "");
                return None;
            }
            _ => flags = false,
        }
        let mut next = || {
            let word = args.peek().filter(|word| !ends.contains(&word.text.as_str()))?;
            args.next();
            Some(word.text.clone())
        };
        match read(&word.text, &mut next) {
            Ok(value) => found.push(value),
            Err(message) => {
                args.error(word, "wrong-value", message, "");
                return None;
            }
        }
    }
    Some(found)
}

/// `-f FILE`: a value on each line, `#` begins a comment.
fn from_file<T>(
    file: &Word,
    args: &mut Args<'_, '_>,
    found: &mut Vec<T>,
    read: ReadValue<'_, T>,
) -> Option<()> {
    let text = match daemon::config::read_text(std::path::Path::new(&file.text)) {
        Ok(text) => text,
        Err(remarks) => {
            let message = remarks.iter().next().map_or_else(String::new, |remark| remark.message.clone());
            args.error(file, "unreadable", message, "");
            return None;
        }
    };
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match read(line, &mut || None) {
            Ok(value) => found.push(value),
            Err(message) => {
                let message = format!("{} line {}: {message}", file.text, number + 1);
                args.error(file, "wrong-value", message, "");
                return None;
            }
        }
    }
    Some(())
}

fn networks(criterion: &Word, args: &mut Args<'_, '_>, ends: &[&str]) -> Option<Vec<Network>> {
    let found =
        values(args, ends, NUMBER_METHODS, &mut Flags::default(), &mut |text, _| Network::parse(text))?;
    if found.is_empty() {
        args.warn(
            criterion,
            "never-holds",
            format!("`{}` without addresses never holds", criterion.text),
            "write addresses or networks, e.g. 10.0.0.0/8",
        );
    }
    Some(found)
}

/// Without a value, a port never holds and another number holds when it is not 0.
fn ranges(criterion: &Word, args: &mut Args<'_, '_>, ends: &[&str], needs_one: bool) -> Option<Vec<Range>> {
    let mut operator: Option<String> = None;
    let found = values(args, ends, NUMBER_METHODS, &mut Flags::default(), &mut |text, next| {
        let mut text = text.to_owned();
        if ["eq", "ge", "gt", "le", "lt"].contains(&text.as_str()) {
            operator = Some(text);
            text = next().ok_or("a number must follow")?;
        }
        range(operator.as_deref(), &text)
    })?;
    if found.is_empty() && needs_one {
        args.error(criterion, "missing-value", format!("`{}` needs numbers", criterion.text), "");
        return None;
    }
    Some(found)
}

fn range(operator: Option<&str>, text: &str) -> Result<Range, String> {
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("`{text}` is not a number"));
    if let Some((low, high)) = text.split_once(':') {
        let bound = |text: &str, open| if text.is_empty() { Ok(open) } else { number(text) };
        return Ok(Range { low: bound(low, i64::MIN)?, high: bound(high, i64::MAX)? });
    }
    let value = number(text)?;
    let (low, high) = match operator {
        Some("ge") => (value, i64::MAX),
        Some("gt") => (value.saturating_add(1), i64::MAX),
        Some("le") => (i64::MIN, value),
        Some("lt") => (i64::MIN, value.saturating_sub(1)),
        _ => (value, value),
    };
    Ok(Range { low, high })
}

/// `[if|unless] [!]ACL ... [|| ...]` to the end of the line; `None` after an error.
pub(super) fn condition(args: &mut Args<'_, '_>, proxy: &ProxyConfig) -> Option<Condition> {
    condition_of(args, &proxy.acls)
}

/// As [`condition`], with the acls by themselves.
pub(super) fn condition_of(args: &mut Args<'_, '_>, acls: &[Acl]) -> Option<Condition> {
    let mut condition = Condition::default();
    let Some(first) = args.next() else { return Some(condition) };
    condition.negated = match first.text.as_str() {
        "if" => false,
        "unless" => true,
        _ => {
            args.unknown(first, "word", &[&["if", "unless"]]);
            return None;
        }
    };
    let mut group = Vec::new();
    let mut negated = false;
    while let Some(word) = args.next() {
        let mut name = word.text.as_str();
        if matches!(name, "||" | "or") {
            condition.groups.push(std::mem::take(&mut group));
            continue;
        }
        while let Some(rest) = name.strip_prefix('!') {
            (negated, name) = (!negated, rest);
        }
        if name.is_empty() {
            continue;
        }
        let (name, tests) = match name {
            "{" => (None, vec![anonymous(word, args)?]),
            name => (Some(name.to_owned()), named(name, word, args, acls)?),
        };
        group.push(Term { negated: std::mem::take(&mut negated), name, tests });
    }
    condition.groups.push(group);
    if condition.groups.iter().any(Vec::is_empty) {
        args.error(first, "missing-value", format!("`{}` needs conditions", first.text), "");
        return None;
    }
    Some(condition)
}

/// `{ src 10.0.0.0/8 }`
fn anonymous(brace: &Word, args: &mut Args<'_, '_>) -> Option<Test> {
    let criterion = args.value("a test")?;
    let test = test(criterion, args, &["}"])?;
    if args.take("}") {
        return Some(test);
    }
    args.error(brace, "syntax", "`{` is not closed by `}`", "");
    None
}

fn named(name: &str, word: &Word, args: &mut Args<'_, '_>, acls: &[Acl]) -> Option<Vec<Test>> {
    if let Some(known) = acls.iter().find(|known| known.name == name) {
        return Some(known.tests.clone());
    }
    match name {
        "TRUE" => return Some(vec![Test::Constant(true)]),
        "FALSE" => return Some(vec![Test::Constant(false)]),
        "LOCALHOST" => {
            let networks = ["127.0.0.0/8", "::1"].map(Network::parse).into_iter().flatten().collect();
            return Some(vec![Test::Source(networks)]);
        }
        "WAIT_END" => return Some(vec![Test::WaitEnd]),
        "REQ_CONTENT" => {
            let some = Range { low: 1, high: i64::MAX };
            return Some(vec![Test::Number(Number::ContentLength, vec![some])]);
        }
        text if vocabulary::PREDEFINED_ACLS.contains(&text) => {
            return Some(vec![Test::Unsupported(text.to_owned())]);
        }
        _ => {}
    }
    let near = daemon::diagnostic::suggest(name, acls.iter().map(|known| known.name.as_str()));
    let label = near
        .map_or_else(|| "define it above with `acl`".to_owned(), |near| format!("did you mean `{near}`?"));
    args.error(word, "unknown-name", format!("there is no acl `{name}`"), &label);
    None
}

/// The first thing in a condition that cannot be tested.
pub(super) fn unsupported(condition: &Condition) -> Option<&str> {
    let tests = condition.groups.iter().flatten().flat_map(|term| &term.tests);
    tests.into_iter().find_map(|test| match test {
        Test::Unsupported(what) => Some(what.as_str()),
        _ => None,
    })
}
