//! Runs the steps of a check.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout_at;

use super::answer::http::Answer;
use super::answer::{Finding, Verdict, http};
use super::connect::{self, Stream, Target, Where};
use super::expect;
use super::plan::{Action, Judge, Plan, Reader, Style};
use super::status::{CheckReport, CheckStatus};
use crate::config::ProxyProtocol;
use crate::config::address::{Host, Port, ServerAddress};
use crate::config::checks::CheckConnect;

/// Bytes of an answer that are looked at (HAProxy: `tune.bufsize` less a reserve).
const MOST_BYTES: usize = 16 * 1024;

/// How long a check may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection stands; all of it when `answer` is none.
    pub connect: Duration,
    /// From there to the end.
    pub answer: Option<Duration>,
}

/// A check at its end.
#[derive(Debug)]
pub struct Finished {
    /// The result.
    pub report: CheckReport,
    /// The last answer.
    pub answer: Vec<u8>,
}

/// Runs a plan. `running` says that the server is up now, which decides about an answer of 404.
pub async fn run(plan: &Plan, target: &Target, limits: Limits, running: bool) -> Finished {
    let start = Instant::now();
    let mut check = Check {
        plan,
        target,
        limits,
        running,
        stream: None,
        answer: Vec::new(),
        closed: false,
        deadline: tokio::time::Instant::now() + limits.connect,
        secured: false,
    };
    let (status, finding) = check.steps().await.unwrap_or_else(|failure| failure);
    let report = CheckReport {
        status,
        code: finding.code.unwrap_or(0),
        info: finding.info.unwrap_or_default(),
        duration: start.elapsed(),
    };
    Finished { report, answer: check.answer }
}

struct Check<'a> {
    plan: &'a Plan,
    target: &'a Target,
    limits: Limits,
    running: bool,
    stream: Option<Stream>,
    answer: Vec<u8>,
    closed: bool,
    deadline: tokio::time::Instant,
    secured: bool,
}

type Result<T> = std::result::Result<T, (CheckStatus, Finding)>;

impl Check<'_> {
    async fn steps(&mut self) -> Result<(CheckStatus, Finding)> {
        let mut last = (CheckStatus::L4Ok, Finding::default());
        let mut at = 0;
        while let Some(step) = self.plan.steps.get(at) {
            match &step.action {
                Action::Connect(connect) => {
                    self.connect(at, connect).await?;
                    let status = if self.secured { CheckStatus::L6Ok } else { CheckStatus::L4Ok };
                    last = (status, self.passed_text(step.number > 0));
                }
                Action::Send(bytes) => {
                    self.send(at, bytes).await?;
                    last = (CheckStatus::L7Ok, self.passed_text(true));
                }
                Action::Read(reader) => match self.read(at, reader).await? {
                    // Only where it is tolerated such an answer comes so far.
                    Some(finding) if finding.code == Some(404) && self.tolerates_404() => {
                        last = (CheckStatus::L7OkConditionally, finding);
                    }
                    Some(finding) => last = (reader.ok, finding),
                    None => {
                        at = self.plan.head(at);
                        continue;
                    }
                },
                Action::Comment => {}
            }
            at += 1;
        }
        Ok(last)
    }

    fn passed_text(&self, wanted: bool) -> Finding {
        match self.plan.style {
            Style::Script if wanted => Finding::text("(tcp-check)"),
            _ => Finding::default(),
        }
    }

    async fn connect(&mut self, at: usize, wanted: &CheckConnect) -> Result<()> {
        // The one before closes first.
        self.stream = None;
        self.answer.clear();
        self.closed = false;
        let begin = tokio::time::Instant::now();
        self.deadline = begin + self.limits.connect;
        let target = aim(self.target, wanted);
        let opening = connect::open(&target, self.plan.only_connects(), wanted.linger);
        let mut stream = match timeout_at(self.deadline, opening).await {
            Ok(Ok(stream)) => stream,
            // It stood, and was reset at once: who only wanted to connect has.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                if self.plan.only_connects() {
                    return Ok(());
                }
                let next = (at + 1).min(self.plan.steps.len() - 1);
                return Err(self.broken(next, &error));
            }
            Ok(Err(error)) => {
                let status = match error.kind() {
                    io::ErrorKind::TimedOut => CheckStatus::L4Timeout,
                    _ if is_ours(&error) => CheckStatus::SocketError,
                    _ => CheckStatus::L4Con,
                };
                return Err((status, Finding::text(self.failed_at(at, &super::describe(&error)))));
            }
            Err(_) => return Err((CheckStatus::L4Timeout, Finding::text(self.failed_at(at, "")))),
        };
        if let Some(answer) = self.limits.answer {
            self.deadline = tokio::time::Instant::now() + answer;
        }
        if let Some(version) = target.send_proxy {
            connect::introduce(&mut stream, version).await.map_err(|error| self.broken(at, &error))?;
        }
        if let Some(tls) = &target.tls {
            stream = match timeout_at(self.deadline, connect::secure(stream, tls)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) => {
                    let text = self.failed_at(at, "SSL handshake failure");
                    return Err((CheckStatus::L6Response, Finding::text(text)));
                }
                Err(_) => return Err((CheckStatus::L6Timeout, Finding::text(self.failed_at(at, "")))),
            };
        }
        self.secured = target.tls.is_some();
        self.stream = Some(stream);
        Ok(())
    }

    async fn send(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.answer.clear();
        let Some(stream) = &mut self.stream else {
            return Err(self.broken(at, &io::ErrorKind::NotConnected.into()));
        };
        if bytes.is_empty() {
            return Ok(());
        }
        match timeout_at(self.deadline, stream.io().write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.broken(at, &error)),
            Err(_) => Err((CheckStatus::L7Timeout, Finding::text(self.failed_at(at, "")))),
        }
    }

    /// Reads until the answer is judged; `None` when more bytes came and an earlier step must look at them.
    async fn read(&mut self, at: usize, reader: &Reader) -> Result<Option<Finding>> {
        loop {
            let judged = self.plan.style == Style::Native;
            if self.answer.is_empty() && self.closed && !judged {
                return Err(self.empty(at, reader));
            }
            let full = self.answer.len() >= MOST_BYTES;
            if !self.answer.is_empty() || (self.closed && judged) {
                match self.judge(at, reader, self.closed || full) {
                    Verdict::Next(finding) => return Ok(Some(self.met(reader, finding))),
                    Verdict::Failed(status, finding) => return Err(self.unmet(at, reader, status, finding)),
                    Verdict::Wait => {}
                }
            }
            if self.closed || full {
                return Err((reader.timeout, Finding::text(self.failed_at(at, ""))));
            }
            let Some(stream) = &mut self.stream else {
                return Err(self.broken(at, &io::ErrorKind::NotConnected.into()));
            };
            let had = self.answer.len();
            match timeout_at(self.deadline, stream.io().read_buf(&mut self.answer)).await {
                Ok(Ok(0)) => self.closed = true,
                // A TLS stream that ends without a goodbye has ended all the same.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => self.closed = true,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.broken(at, &error)),
                Err(_) => return Err((reader.timeout, Finding::text(self.failed_at(at, "")))),
            }
            self.answer.truncate(MOST_BYTES);
            if had > 0 && self.plan.head(at) != at {
                return Ok(None);
            }
        }
    }

    fn judge(&self, at: usize, reader: &Reader, closed: bool) -> Verdict {
        match &reader.judge {
            Judge::Function(judge) => judge(&self.answer, closed),
            Judge::Pattern { pattern, negated, min_recv } => {
                let number = self.plan.steps[at].number;
                expect::judge(pattern, *negated, *min_recv, &self.answer, closed, number)
            }
            Judge::Http { pattern, negated } => match http::parse(&self.answer, closed, true) {
                Answer::Wait => Verdict::Wait,
                Answer::Invalid => Verdict::Failed(CheckStatus::L7Response, Finding::default()),
                Answer::Complete(response) if response.status == 404 && self.tolerates_404() => {
                    Verdict::Next(Finding { code: Some(404), info: None })
                }
                Answer::Complete(response) => expect::judge_http(pattern, *negated, &response),
            },
        }
    }

    fn tolerates_404(&self) -> bool {
        self.running && self.plan.style == Style::Http { disable_on_404: true }
    }

    fn met(&self, reader: &Reader, mut finding: Finding) -> Finding {
        if let Some(text) = &reader.on_success {
            finding.info = Some(text.clone());
        } else if finding.info.is_none() {
            finding.info = self.passed_text(true).info;
        }
        finding
    }

    fn unmet(
        &self,
        at: usize,
        reader: &Reader,
        status: CheckStatus,
        finding: Finding,
    ) -> (CheckStatus, Finding) {
        let told = matches!(reader.judge, Judge::Pattern { .. } | Judge::Http { .. });
        // A pattern does not know what its failure means; the rule does.
        let invalid = matches!(reader.judge, Judge::Http { .. }) && finding.code.is_none();
        let status = if told && !invalid { reader.error } else { status };
        let mut text = reader.on_error.clone().or(finding.info).unwrap_or_default();
        if let Some(comment) = self.plan.steps[at].comment.as_ref().filter(|_| told && !invalid) {
            text = format!("{text} comment: {comment}");
        }
        (status, Finding { code: finding.code, info: Some(text) })
    }

    /// The server hung up without a word.
    fn empty(&self, at: usize, reader: &Reader) -> (CheckStatus, Finding) {
        if matches!(self.plan.style, Style::Http { .. }) {
            return (CheckStatus::L7Response, Finding::default());
        }
        let step = &self.plan.steps[at];
        let comment = step.comment.as_ref().map(|text| format!(" comment: '{text}'")).unwrap_or_default();
        let text = format!("TCPCHK got an empty response at step {}{comment}", step.number);
        (reader.error, Finding::text(text))
    }

    /// The connection broke.
    fn broken(&self, at: usize, error: &io::Error) -> (CheckStatus, Finding) {
        (CheckStatus::SocketError, Finding::text(self.failed_at(at, &super::describe(error))))
    }

    /// The reason of a failure and, for scripts, where in the script it was.
    fn failed_at(&self, at: usize, reason: &str) -> String {
        if self.plan.style != Style::Script {
            return reason.to_owned();
        }
        let step = &self.plan.steps[at];
        if step.number == 0 {
            return format!("{reason} at initial connection step of tcp-check");
        }
        let what = match &step.action {
            Action::Connect(connect) => match connect.port {
                Some(port) => format!(" (connect port {port})"),
                None => " (connect)".to_owned(),
            },
            Action::Send(_) => " (send)".to_owned(),
            Action::Read(reader) => match &reader.judge {
                Judge::Pattern { pattern, .. } | Judge::Http { pattern, .. } => pattern.describe(),
                Judge::Function(_) => String::new(),
            },
            Action::Comment => String::new(),
        };
        let comment = step.comment.as_ref().map(|text| format!(" comment: '{text}'")).unwrap_or_default();
        format!("{reason} at step {} of tcp-check{what}{comment}", step.number)
    }
}

fn is_ours(error: &io::Error) -> bool {
    use nix::libc::{EADDRNOTAVAIL, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EADDRNOTAVAIL | EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

/// The target of one connection of a script: the server's, changed as the rule says.
fn aim(target: &Target, wanted: &CheckConnect) -> Target {
    let mut aimed = target.clone();
    if let Some(place) = wanted.address.as_ref().and_then(|address| place_of(address, &target.place)) {
        aimed.place = place;
    }
    if let (Where::Ip(address), Some(port)) = (&mut aimed.place, wanted.port) {
        address.set_port(port);
    }
    let explicit = !wanted.default
        && (wanted.ssl || wanted.send_proxy || wanted.port.is_some() || wanted.address.is_some());
    if explicit && !wanted.ssl {
        // Options that are written down replace those of the server.
        aimed.tls = None;
        aimed.send_proxy = None;
    }
    if wanted.send_proxy {
        aimed.send_proxy = Some(aimed.send_proxy.unwrap_or(ProxyProtocol::V1));
    }
    if let (Some(tls), Some(name)) = (&mut aimed.tls, &wanted.sni)
        && let Ok(name) = name.clone().try_into()
    {
        tls.name = name;
    }
    aimed
}

/// Where an address of a rule is; a name cannot be looked up in the middle of a check.
fn place_of(address: &ServerAddress, server: &Where) -> Option<Where> {
    let port = match (address.port, server) {
        (Port::Fixed(port), _) => port,
        (Port::Relative(_), Where::Ip(server)) => server.port(),
        (Port::Relative(_), _) => 0,
    };
    match &address.host {
        Host::Ip(ip) => Some(Where::Ip((*ip, port).into())),
        Host::Unix(path) => Some(Where::Unix(path.clone())),
        Host::Abstract(name) => Some(Where::Abstract(name.clone())),
        Host::Name(_) => None,
    }
}
