//! `option *chk`, `option *-check`, `tcp-check ...`, `http-check ...`, `external-check ...`.

use super::args::Args;
use super::lexer::Word;
use crate::config::checks::{
    CheckConnect, CheckRule, CheckStatusWord, Expect, ExpectPattern, HttpRequest, MysqlCheck, SmtpCheck,
};
use crate::config::{CheckKind, Settings};

/// Names after `option` that choose what a check does.
pub(super) const OPTIONS: &[&str] = &[
    "tcp-check",
    "amqp-check",
    "httpchk",
    "mysql-check",
    "pgsql-check",
    "redis-check",
    "ldap-check",
    "smtpchk",
    "ssl-hello-chk",
    "external-check",
    "spop-check",
];

/// `option NAME ...`, the name taken.
pub(super) fn option(word: &Word, args: &mut Args<'_, '_>, settings: &mut Settings, on: bool) {
    if !on {
        // HAProxy refuses this; the meaning is clear.
        settings.check = CheckKind::Tcp;
        return args.skip_rest();
    }
    let checks = &mut settings.checks;
    let kind = match word.text.as_str() {
        "tcp-check" => CheckKind::Script,
        "amqp-check" => CheckKind::Amqp,
        "redis-check" => CheckKind::Redis,
        "ldap-check" => CheckKind::Ldap,
        "ssl-hello-chk" => CheckKind::SslHello,
        "external-check" => CheckKind::External,
        "httpchk" => {
            checks.http.request = httpchk(args);
            CheckKind::Http
        }
        "mysql-check" => match mysql(args) {
            Some(mysql) => {
                checks.mysql = mysql;
                CheckKind::Mysql
            }
            None => return args.skip_rest(),
        },
        "pgsql-check" => {
            if !args.take("user") {
                args.error(word, "missing-value", "`option pgsql-check` needs `user NAME`", "");
                return args.skip_rest();
            }
            match args.text("a name") {
                Some(user) => checks.pgsql_user = user,
                None => return,
            }
            CheckKind::Pgsql
        }
        "smtpchk" => {
            checks.smtp = smtp(args);
            CheckKind::Smtp
        }
        _ => {
            args.warn(
                word,
                "check-replaced",
                format!(
                    "`option {}` is not supported: servers are checked by a TCP connection instead",
                    word.text
                ),
                "",
            );
            return args.skip_rest();
        }
    };
    settings.check = kind;
}

/// `[[METHOD] URI [VERSION[\r\nHEADER: VALUE...]]]`
fn httpchk(args: &mut Args<'_, '_>) -> HttpRequest {
    let mut request = HttpRequest::default();
    let Some(first) = args.next() else { return request };
    let Some(uri) = args.next() else {
        request.uri = Some(first.text.clone());
        return request;
    };
    request.method = Some(first.text.clone());
    request.uri = Some(uri.text.clone());
    let Some(version) = args.next() else { return request };
    // Headers were put into the version before `http-check send` came.
    let (head, body) = version.text.split_once("\r\n\r\n").unwrap_or((&version.text, ""));
    let mut lines = head.split("\r\n");
    request.version = lines.next().filter(|version| !version.is_empty()).map(str::to_owned);
    for line in lines.filter(|line| !line.is_empty()) {
        match line.split_once(':') {
            Some((name, value)) => {
                request.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            None => args.warn(version, "not-used", format!("`{line}` is not a header"), ""),
        }
    }
    request.body = (!body.is_empty()).then(|| body.to_owned());
    if !request.headers.is_empty() {
        args.warn(
            version,
            "old-form",
            "headers in the version are the form of HAProxy 2.1; they are read",
            "write `http-check send hdr NAME VALUE`",
        );
    }
    request
}

fn mysql(args: &mut Args<'_, '_>) -> Option<MysqlCheck> {
    let mut mysql = MysqlCheck::default();
    let Some(word) = args.next() else { return Some(mysql) };
    if word.text != "user" {
        args.unknown(word, "word after mysql-check", &[&["user"]]);
        return None;
    }
    mysql.user = Some(args.text("a name")?);
    if args.peek().is_some() {
        mysql.pre_41 = args.choice("version of the protocol", &[("post-41", false), ("pre-41", true)])?;
    }
    Some(mysql)
}

fn smtp(args: &mut Args<'_, '_>) -> SmtpCheck {
    match (args.next(), args.next()) {
        (Some(hello), Some(domain)) if matches!(hello.text.as_str(), "HELO" | "EHLO") => {
            SmtpCheck { hello: hello.text.clone(), domain: domain.text.clone() }
        }
        // As HAProxy: anything else is the default.
        _ => SmtpCheck::default(),
    }
}

/// `external-check command FILE`, `external-check path PATH`.
pub(super) fn external(args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(which) = args.choice("word after external-check", &[("command", true), ("path", false)]) else {
        return args.skip_rest();
    };
    let value = args.text("a value");
    let external = &mut settings.checks.external;
    *(if which { &mut external.command } else { &mut external.path }) = value;
}

/// `tcp-check ...`
pub(super) fn tcp_rule(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("connect, send, expect, ...") else { return };
    let rule = match word.text.as_str() {
        "connect" => connect(args).map(|connect| CheckRule::Connect(Box::new(connect))),
        "send" => send(args, false),
        "send-binary" => send(args, true),
        "expect" => expect(args, false).map(|expect| CheckRule::Expect(Box::new(expect))),
        "comment" => args.text("a text").map(CheckRule::Comment),
        text if is_left_out(text) => return left_out(keyword, word, args),
        _ => {
            args.unknown(
                word,
                "word after tcp-check",
                &[&[
                    "connect",
                    "send",
                    "send-binary",
                    "expect",
                    "comment",
                    "send-lf",
                    "send-binary-lf",
                    "set-var",
                    "unset-var",
                ]],
            );
            None
        }
    };
    push(rule, &mut settings.checks.tcp_rules, word, args);
}

/// `http-check ...`
pub(super) fn http_rule(keyword: &Word, args: &mut Args<'_, '_>, settings: &mut Settings) {
    let Some(word) = args.value("send, expect, disable-on-404, ...") else { return };
    let http = &mut settings.checks.http;
    let rule = match word.text.as_str() {
        "disable-on-404" => {
            http.disable_on_404 = true;
            return;
        }
        "send-state" => {
            http.send_state = true;
            return;
        }
        "connect" => connect(args).map(|connect| CheckRule::Connect(Box::new(connect))),
        "send" => request(args),
        "expect" => match args.peek() {
            Some(word) if matches!(word.text.trim_start_matches('!'), "hdr" | "fhdr" | "string-lf") => {
                return left_out(keyword, word, args);
            }
            _ => expect(args, true).map(|expect| CheckRule::Expect(Box::new(expect))),
        },
        "comment" => args.text("a text").map(CheckRule::Comment),
        text if is_left_out(text) => return left_out(keyword, word, args),
        _ => {
            args.unknown(
                word,
                "word after http-check",
                &[&[
                    "send",
                    "expect",
                    "connect",
                    "disable-on-404",
                    "send-state",
                    "comment",
                    "set-var",
                    "unset-var",
                ]],
            );
            None
        }
    };
    push(rule, &mut settings.checks.http.rules, word, args);
}

fn is_left_out(text: &str) -> bool {
    text.ends_with("-lf") || text.starts_with("set-var") || text.starts_with("unset-var")
}

fn left_out(keyword: &Word, word: &Word, args: &mut Args<'_, '_>) {
    let message = format!(
        "`{} {}`: expressions are not evaluated in checks; the rule is left out",
        keyword.text, word.text
    );
    args.warn(word, "check-replaced", message, "");
    args.skip_rest();
}

/// Most rules of one section.
const MAX_RULES: usize = 1000;

fn push(rule: Option<CheckRule>, rules: &mut Vec<CheckRule>, word: &Word, args: &mut Args<'_, '_>) {
    let Some(rule) = rule else { return args.skip_rest() };
    if rules.len() >= MAX_RULES {
        args.error(word, "too-many", format!("more than {MAX_RULES} rules"), "");
        return;
    }
    // As in HAProxy: when there is a `connect` at all, the check begins with one.
    let is_connect = matches!(rule, CheckRule::Connect(_));
    let first = rules.iter().find(|rule| !matches!(rule, CheckRule::Comment(_)));
    if is_connect && first.is_some_and(|first| !matches!(first, CheckRule::Connect(_))) {
        args.error(word, "misplaced", "the first step must be a `connect` when there is one at all", "");
        return;
    }
    rules.push(rule);
}

fn connect(args: &mut Args<'_, '_>) -> Option<CheckConnect> {
    let mut connect = CheckConnect::default();
    while let Some(word) = args.next() {
        match word.text.as_str() {
            "default" => connect.default = true,
            "port" => connect.port = Some(port(args)?),
            "addr" => connect.address = Some(args.server_address()?),
            "ssl" => connect.ssl = true,
            "sni" => connect.sni = Some(args.text("a name")?),
            "alpn" => {
                let list = args.value("protocols")?;
                connect.alpn = list.text.split(',').map(str::to_owned).collect();
            }
            "send-proxy" => connect.send_proxy = true,
            "linger" => connect.linger = true,
            "comment" => connect.comment = Some(args.text("a text")?),
            "proto" => {
                args.value("a protocol")?;
            }
            _ => {
                args.unknown(
                    word,
                    "word after connect",
                    &[&[
                        "default",
                        "port",
                        "addr",
                        "ssl",
                        "sni",
                        "alpn",
                        "send-proxy",
                        "linger",
                        "comment",
                        "proto",
                    ]],
                );
                return None;
            }
        }
    }
    Some(connect)
}

fn port(args: &mut Args<'_, '_>) -> Option<u16> {
    u16::try_from(args.number("a port", 1, 65_535)?).ok()
}

fn comment(args: &mut Args<'_, '_>) -> Option<Option<String>> {
    if args.take("comment") { args.text("a text").map(Some) } else { Some(None) }
}

fn send(args: &mut Args<'_, '_>, is_binary: bool) -> Option<CheckRule> {
    let word = args.value("what to send")?;
    let data = if is_binary { hexadecimal(word, args)? } else { word.text.clone().into_bytes() };
    Some(CheckRule::Send { data, comment: comment(args)? })
}

fn hexadecimal(word: &Word, args: &mut Args<'_, '_>) -> Option<Vec<u8>> {
    let found = crate::config::checks::from_hexadecimal(&word.text);
    if found.is_none() {
        let message = format!("`{}` is not an even number of hexadecimal digits", word.text);
        args.error(word, "wrong-value", message, "");
    }
    found
}

fn request(args: &mut Args<'_, '_>) -> Option<CheckRule> {
    let mut request = HttpRequest::default();
    let mut comment = None;
    while let Some(word) = args.next() {
        match word.text.as_str() {
            "meth" => request.method = Some(args.text("a method")?),
            "uri" => request.uri = Some(args.text("a path")?),
            "ver" => request.version = Some(args.text("a version")?),
            "hdr" => {
                let name = args.text("a name and a value")?;
                let value = args.text("a value")?;
                request.headers.push((name, value));
            }
            "body" => request.body = Some(args.text("a text")?),
            "comment" => comment = Some(args.text("a text")?),
            "uri-lf" | "body-lf" => {
                let value = args.value("a text")?;
                let message =
                    format!("`{}`: expressions are not evaluated; the text is sent as it is", word.text);
                args.warn(word, "check-replaced", message, "");
                *(if word.text == "uri-lf" { &mut request.uri } else { &mut request.body }) =
                    Some(value.text.clone());
            }
            _ => {
                args.unknown(word, "word after send", &[&["meth", "uri", "ver", "hdr", "body", "comment"]]);
                return None;
            }
        }
    }
    Some(CheckRule::Request { request, comment })
}

fn expect(args: &mut Args<'_, '_>, is_http: bool) -> Option<Expect> {
    let mut expect = Expect::new(false, ExpectPattern::Bytes(Vec::new()));
    let mut found = false;
    while let Some(word) = args.next() {
        match word.text.as_str() {
            "min-recv" => {
                let value = args.value("a number of bytes")?;
                match value.text.parse::<i32>() {
                    Ok(bytes) if bytes >= -1 => expect.min_recv = Some(bytes),
                    _ => {
                        args.error(
                            value,
                            "wrong-value",
                            format!("`{}` is not a number of bytes", value.text),
                            "",
                        );
                        return None;
                    }
                }
            }
            "comment" => expect.comment = Some(args.text("a text")?),
            "on-success" => expect.on_success = Some(args.text("a text")?),
            "on-error" => expect.on_error = Some(args.text("a text")?),
            "ok-status" => expect.ok_status = Some(status(args)?),
            "error-status" => expect.error_status = Some(status(args)?),
            "tout-status" => expect.tout_status = Some(status(args)?),
            "status-code" => {
                args.value("an expression")?;
                args.warn(word, "check-replaced", "`status-code` is not evaluated", "");
            }
            "!" if !found => expect.negated = !expect.negated,
            text if !found => {
                let plain = text.trim_start_matches('!');
                if (text.len() - plain.len()) % 2 == 1 {
                    expect.negated = !expect.negated;
                }
                expect.pattern = pattern(word, plain, args, is_http)?;
                found = true;
            }
            _ => {
                args.unknown(word, "word after the pattern", &[&["comment", "on-success", "on-error"]]);
                return None;
            }
        }
    }
    if !found {
        let last = args.last();
        args.error(last, "missing-value", "`expect` needs a pattern, e.g. string OK", "");
        return None;
    }
    Some(expect)
}

fn status(args: &mut Args<'_, '_>) -> Option<CheckStatusWord> {
    args.choice("status of a check", &CheckStatusWord::WORDS)
}

const TCP_PATTERNS: &[&str] = &["string", "rstring", "binary", "rbinary", "min-recv", "comment"];
const HTTP_PATTERNS: &[&str] = &["status", "rstatus", "string", "rstring", "hdr", "fhdr", "comment"];

fn pattern(word: &Word, kind: &str, args: &mut Args<'_, '_>, is_http: bool) -> Option<ExpectPattern> {
    let regex = |args: &mut Args<'_, '_>| -> Option<String> {
        let value = args.value("a regular expression")?;
        match crate::config::checks::regex_error(&value.text) {
            None => Some(value.text.clone()),
            Some(error) => {
                args.error(value, "wrong-value", format!("not a regular expression: {error}"), "");
                None
            }
        }
    };
    match kind {
        "string" => Some(ExpectPattern::Bytes(args.text("a text")?.into_bytes())),
        "rstring" => Some(ExpectPattern::Regex(regex(args)?)),
        "binary" if !is_http => {
            let value = args.value("hexadecimal digits")?;
            Some(ExpectPattern::Bytes(hexadecimal(value, args)?))
        }
        "rbinary" if !is_http => Some(ExpectPattern::BinaryRegex(regex(args)?)),
        "status" if is_http => {
            let value = args.value("a status, e.g. 200-399")?;
            match crate::config::checks::parse_status_ranges(&value.text) {
                Some(ranges) => Some(ExpectPattern::Status(ranges)),
                None => {
                    args.error(
                        value,
                        "wrong-value",
                        format!("`{}` is not a status", value.text),
                        "e.g. 200-399,404",
                    );
                    None
                }
            }
        }
        "rstatus" if is_http => Some(ExpectPattern::StatusRegex(regex(args)?)),
        "string-lf" | "binary-lf" => {
            args.error(word, "not-supported", "expressions are not evaluated in checks", "write string TEXT");
            None
        }
        _ => {
            args.unknown(word, "pattern", &[if is_http { HTTP_PATTERNS } else { TCP_PATTERNS }]);
            None
        }
    }
}
