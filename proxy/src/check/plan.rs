//! What a check does, step by step, as the configuration asks for it. Every kind of check becomes a list
//! of steps: connect, send, read an answer.

use bytes::Bytes;

use super::answer::{self, Finding, Verdict};
use super::expect::Pattern;
use super::status::CheckStatus;
use crate::config::checks::{
    CheckConnect, CheckKind, CheckRule, CheckSettings, CheckStatusWord, Expect, HttpRequest,
};

/// The steps of a check.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In order; the first one connects.
    pub steps: Vec<Step>,
    /// Which words its failures get.
    pub style: Style,
}

/// Which words the failures of a check get, as in HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// None: a plain check, or one of a protocol.
    Plain,
    /// None, and a server that hangs up is judged as any other: a check HAProxy does not have.
    Native,
    /// `at step 2 of tcp-check (expect string 'x')`.
    Script,
    /// An answer of HTTP.
    Http {
        /// 404 is a pass on a condition (`http-check disable-on-404`).
        disable_on_404: bool,
    },
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is done.
    pub action: Action,
    /// Its number in the log, from 1; 0 when the user did not write it.
    pub number: usize,
    /// The user's text for it.
    pub comment: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// Connects, again after the first time.
    Connect(Box<CheckConnect>),
    /// Sends.
    Send(Bytes),
    /// Waits for an answer.
    Read(Box<Reader>),
    /// Only a number that is counted.
    Comment,
}

/// How an answer is looked at.
#[derive(Debug, Clone)]
pub struct Reader {
    /// What judges it.
    pub judge: Judge,
    /// Status of the check when this is its last step.
    pub ok: CheckStatus,
    /// Status when the answer is empty, or another one than wanted.
    pub error: CheckStatus,
    /// Status when none comes.
    pub timeout: CheckStatus,
    /// Text when it is as wanted and the last step.
    pub on_success: Option<String>,
    /// Text when it is not as wanted.
    pub on_error: Option<String>,
}

/// What judges an answer.
#[derive(Debug, Clone)]
pub enum Judge {
    /// A function over all bytes; the second argument says that no more will come.
    Function(fn(&[u8], bool) -> Verdict),
    /// A pattern in the bytes.
    Pattern {
        /// What is looked for.
        pattern: Pattern,
        /// It must not be there.
        negated: bool,
        /// Bytes to wait for; then the absence of a match is final.
        min_recv: Option<usize>,
    },
    /// A pattern in an HTTP answer.
    Http {
        /// What is looked for.
        pattern: Pattern,
        /// It must not be there.
        negated: bool,
    },
}

impl Plan {
    /// The plan of a kind of check.
    #[must_use]
    pub fn new(kind: CheckKind, settings: &CheckSettings) -> Self {
        let mut builder = Builder::default();
        let style = match kind {
            CheckKind::Tcp | CheckKind::External => {
                builder.connect(false);
                Style::Plain
            }
            CheckKind::Script => {
                script(&mut builder, &settings.tcp_rules, &HttpRequest::default());
                Style::Script
            }
            CheckKind::Http => {
                http(&mut builder, settings);
                Style::Http { disable_on_404: settings.http.disable_on_404 }
            }
            CheckKind::Amqp => {
                builder.connect(false);
                builder.send(amqp::PROTOCOL_HEADER.to_vec());
                builder.read(amqp_start, CheckStatus::L7Response);
                Style::Native
            }
            CheckKind::Mysql => {
                builder.connect(true);
                match &settings.mysql.user {
                    Some(user) => {
                        builder.send(answer::mysql::login(user, settings.mysql.pre_41));
                        builder.read(mysql_greeting, CheckStatus::L7Response);
                        builder.read(mysql_login, CheckStatus::L7Response);
                    }
                    None => builder.read(mysql_greeting_only, CheckStatus::L7Response),
                }
                Style::Plain
            }
            CheckKind::Pgsql => {
                builder.explicit_connect();
                builder.send(answer::pgsql::startup(&settings.pgsql_user));
                builder.read(answer::pgsql::no_error, CheckStatus::L7Response);
                builder.read(answer::pgsql::authentication, CheckStatus::L7Status);
                Style::Plain
            }
            CheckKind::Redis => {
                builder.connect(false);
                builder.send(answer::redis::PING.to_vec());
                builder.read(answer::redis::pong, CheckStatus::L7Status);
                Style::Plain
            }
            CheckKind::Ldap => {
                builder.connect(false);
                builder.send(answer::ldap::BIND.to_vec());
                builder.read(answer::ldap::bind_response, CheckStatus::L7Response);
                Style::Plain
            }
            CheckKind::Smtp => {
                let smtp = &settings.smtp;
                builder.explicit_connect();
                builder.read(answer::smtp::is_reply, CheckStatus::L7Response);
                builder.read(answer::smtp::positive, CheckStatus::L7Status);
                builder.send(format!("{} {}\r\n", smtp.hello, smtp.domain).into_bytes());
                builder.read(answer::smtp::positive, CheckStatus::L7Status);
                builder.send(b"QUIT\r\n".to_vec());
                builder.read(answer::smtp::positive, CheckStatus::L7Status);
                Style::Plain
            }
            CheckKind::SslHello => {
                builder.connect(false);
                let seconds = std::time::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
                builder.send(answer::tls::client_hello(u32::try_from(seconds).unwrap_or(u32::MAX)));
                let reader = builder.reader(answer::tls::server_hello, CheckStatus::L6Response);
                builder.push_read(Reader {
                    ok: CheckStatus::L6Ok,
                    timeout: CheckStatus::L6Timeout,
                    ..reader
                });
                Style::Plain
            }
        };
        Self { steps: builder.steps, style }
    }

    /// The plan of an agent: send what it wants to hear, read a line.
    #[must_use]
    pub fn agent(send: Option<&str>) -> Self {
        let mut builder = Builder::default();
        builder.connect(true);
        builder.send(send.unwrap_or_default().as_bytes().to_vec());
        builder.read(agent_line, CheckStatus::L7Response);
        Self { steps: builder.steps, style: Style::Plain }
    }

    /// Whether it only connects, so that the connection can be reset before the server takes it.
    #[must_use]
    pub fn only_connects(&self) -> bool {
        self.steps.iter().all(|step| match &step.action {
            Action::Connect(connect) => !connect.send_proxy && !connect.linger,
            Action::Comment => true,
            Action::Send(_) | Action::Read(_) => false,
        })
    }

    /// How many steps back an answer that is not final is looked at again: over the row of patterns that
    /// must not be there.
    #[must_use]
    pub fn head(&self, step: usize) -> usize {
        let negated = |at: usize| {
            matches!(&self.steps[at].action, Action::Read(reader)
                if matches!(reader.judge, Judge::Pattern { negated: true, .. }))
        };
        (0..step).rev().take_while(|at| negated(*at)).last().unwrap_or(step)
    }
}

fn amqp_start(bytes: &[u8], closed: bool) -> Verdict {
    match answer::amqp::connection_start(bytes, closed) {
        None => Verdict::Wait,
        Some(Ok(server)) => Verdict::Next(Finding::text(server)),
        Some(Err(problem)) => Verdict::Failed(CheckStatus::L7Response, Finding::text(problem)),
    }
}

fn mysql_greeting(bytes: &[u8], closed: bool) -> Verdict {
    answer::mysql::packet(bytes, 0, closed, false)
}

fn mysql_greeting_only(bytes: &[u8], closed: bool) -> Verdict {
    answer::mysql::packet(bytes, 0, closed, true)
}

fn mysql_login(bytes: &[u8], closed: bool) -> Verdict {
    answer::mysql::second_packet(bytes, closed, true)
}

/// The line itself is handed on; its words are read where they are obeyed.
fn agent_line(bytes: &[u8], closed: bool) -> Verdict {
    match answer::agent::parse(bytes) {
        Some(_) => Verdict::Next(Finding::default()),
        None if closed => Verdict::Failed(CheckStatus::L7Timeout, Finding::default()),
        None => Verdict::Wait,
    }
}

/// Collects steps and counts them as HAProxy does.
#[derive(Default)]
struct Builder {
    steps: Vec<Step>,
    count: usize,
    /// Text of a comment rule, for the rule behind it.
    pending: Option<String>,
}

impl Builder {
    /// A connection nobody wrote down: it is not counted.
    fn connect(&mut self, linger: bool) {
        let connect = CheckConnect { default: true, linger, ..CheckConnect::default() };
        self.steps.push(Step { action: Action::Connect(Box::new(connect)), number: 0, comment: None });
    }

    /// A connection that counts as a step.
    fn explicit_connect(&mut self) {
        let connect = CheckConnect { default: true, linger: true, ..CheckConnect::default() };
        self.push(Action::Connect(Box::new(connect)), None);
    }

    fn push(&mut self, action: Action, comment: Option<String>) {
        self.count += 1;
        let comment = comment.or_else(|| self.pending.take());
        self.pending = None;
        self.steps.push(Step { action, number: self.count, comment });
    }

    fn send(&mut self, data: Vec<u8>) {
        self.push(Action::Send(data.into()), None);
    }

    fn reader(&self, judge: fn(&[u8], bool) -> Verdict, error: CheckStatus) -> Reader {
        Reader {
            judge: Judge::Function(judge),
            ok: CheckStatus::L7Ok,
            error,
            timeout: CheckStatus::L7Timeout,
            on_success: None,
            on_error: None,
        }
    }

    fn read(&mut self, judge: fn(&[u8], bool) -> Verdict, error: CheckStatus) {
        let reader = self.reader(judge, error);
        self.push_read(reader);
    }

    fn push_read(&mut self, reader: Reader) {
        self.push(Action::Read(Box::new(reader)), None);
    }
}

/// `tcp-check` or `http-check` rules.
fn script(builder: &mut Builder, rules: &[CheckRule], request: &HttpRequest) {
    let connects_first = rules
        .iter()
        .find(|rule| !matches!(rule, CheckRule::Comment(_)))
        .is_some_and(|rule| matches!(rule, CheckRule::Connect(_)));
    if !connects_first {
        builder.connect(false);
    }
    for rule in rules {
        match rule {
            CheckRule::Connect(connect) => {
                builder.push(Action::Connect(connect.clone()), connect.comment.clone());
            }
            CheckRule::Send { data, comment } => {
                builder.push(Action::Send(data.clone().into()), comment.clone());
            }
            CheckRule::Request { request: more, comment } => {
                builder.push(Action::Send(http_request(request, Some(more)).into()), comment.clone());
            }
            CheckRule::Expect(expect) => {
                let action = Action::Read(Box::new(expected(expect, request_is_http(rules, expect))));
                builder.push(action, expect.comment.clone());
            }
            CheckRule::Comment(text) => {
                builder.push(Action::Comment, None);
                builder.pending = Some(text.clone());
            }
        }
    }
}

/// In `http-check` rules bytes and expressions are looked for in the body.
fn request_is_http(rules: &[CheckRule], expect: &Expect) -> bool {
    Pattern::is_about_status(&expect.pattern)
        || rules.iter().any(|rule| match rule {
            CheckRule::Request { .. } => true,
            CheckRule::Expect(other) => Pattern::is_about_status(&other.pattern),
            _ => false,
        })
}

fn http(builder: &mut Builder, settings: &CheckSettings) {
    let http = &settings.http;
    let mut rules = http.rules.clone();
    let plain = || CheckRule::Request { request: HttpRequest::default(), comment: None };
    if !rules.iter().any(|rule| matches!(rule, CheckRule::Request { .. })) {
        let at = rules.iter().position(|rule| matches!(rule, CheckRule::Expect(_))).unwrap_or(rules.len());
        rules.insert(at, plain());
    }
    let has_expect = rules.iter().any(|rule| matches!(rule, CheckRule::Expect(_)));
    script(builder, &rules, &http.request);
    if !has_expect {
        builder.push_read(Reader {
            judge: Judge::Http { pattern: Pattern::Status(vec![(200, 399)]), negated: false },
            ok: CheckStatus::L7Ok,
            error: CheckStatus::L7Status,
            timeout: CheckStatus::L7Timeout,
            on_success: None,
            on_error: None,
        });
    }
}

fn expected(expect: &Expect, http: bool) -> Reader {
    let pattern = Pattern::compile(&expect.pattern);
    let status = |word: Option<CheckStatusWord>, default| {
        word.and_then(|word| CheckStatus::from_word(word.word())).unwrap_or(default)
    };
    let error = if Pattern::is_about_status(&expect.pattern) {
        CheckStatus::L7Status
    } else {
        CheckStatus::L7Response
    };
    Reader {
        judge: if http {
            Judge::Http { pattern, negated: expect.negated }
        } else {
            let min_recv = expect.min_recv.and_then(|bytes| usize::try_from(bytes).ok());
            Judge::Pattern { pattern, negated: expect.negated, min_recv }
        },
        ok: status(expect.ok_status, CheckStatus::L7Ok),
        error: status(expect.error_status, error),
        timeout: status(expect.tout_status, CheckStatus::L7Timeout),
        on_success: expect.on_success.as_deref().map(unescaped),
        on_error: expect.on_error.as_deref().map(unescaped),
    }
}

/// Texts are log formats in HAProxy: a backslash takes the meaning from the next character, `%%` is one
/// percent sign.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            '%' if characters.peek() == Some(&'%') => out.extend(characters.next()),
            _ => out.push(character),
        }
    }
    out
}

/// The request as HAProxy writes it: header names in lower case, `content-length` when there is a body,
/// `connection: close` from HTTP/1.1 on.
fn http_request(base: &HttpRequest, more: Option<&HttpRequest>) -> Vec<u8> {
    let field = |pick: fn(&HttpRequest) -> &Option<String>, default: &str| {
        more.and_then(|more| pick(more).clone())
            .or_else(|| pick(base).clone())
            .unwrap_or_else(|| default.to_owned())
    };
    let method = field(|request| &request.method, "OPTIONS");
    let uri = field(|request| &request.uri, "/");
    let version = field(|request| &request.version, "HTTP/1.0");
    let body = more.and_then(|more| more.body.clone()).or_else(|| base.body.clone());
    let mut text = format!("{method} {uri} {version}\r\n");
    for (name, value) in base.headers.iter().chain(more.iter().flat_map(|more| &more.headers)) {
        text.push_str(&format!("{}: {value}\r\n", name.to_ascii_lowercase()));
    }
    if let Some(body) = &body {
        text.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    if version != "HTTP/1.0" {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body.as_deref().unwrap_or_default());
    text.into_bytes()
}

#[cfg(test)]
mod tests;
