//! `[[virtual_server]]`.
//!
//! ```toml
//! [[virtual_server]]
//! addresses = ["192.168.204.66:5672"]     # or "192.0.2.1-192.0.2.9:80", "192.0.2.8/29:80"
//! # marks = [5]                           # or packets that something else marked
//! protocol = "tcp"                        # tcp, udp, sctp
//! algorithm = "wrr"                       # rr, wrr, random, sh, fo
//! method = "nat"                          # nat, dr
//! persistence = "5m"
//! quorum = 1
//! sorry_server = "192.168.204.160:5672"
//! delay_loop = "6s"                       # for every check below that has none of its own
//!
//! [[virtual_server.real_server]]
//! address = "192.168.204.151:5672"
//! weight = 1
//! checks = [{ type = "tcp" }, { type = "http", pages = [{ path = "/", status = ["200-299"] }] }]
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Deserialize;

use super::program::{Program, command};
use super::{Span, script_user};
use crate::config::Command;
use crate::config::keepalived_conf::status_codes;
use crate::config::virtual_server::{
    Algorithm, Check as Checked, CheckKind, HttpCheck, HttpVersion, Listen, Masquerade, Method, Page as Good,
    Persistence, Protocol, RealServer, SorryServer, VirtualServer, default_retry, range,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    /// Where clients connect: `"192.0.2.1:80"`, `"192.0.2.1-192.0.2.9:80"`, `"192.0.2.8/29:80"`.
    #[serde(default)]
    addresses: Vec<String>,
    /// Or packets that something else has marked.
    #[serde(default)]
    marks: Vec<u32>,
    /// `"tcp"`, `"udp"` or `"sctp"`.
    protocol: Option<String>,
    /// `"rr"`, `"wrr"`, `"random"`, `"sh"` or `"fo"`; with IPVS in the kernel also its own.
    algorithm: Option<String>,
    /// `sh` looks at the port of the client too.
    #[serde(default)]
    hash_port: bool,
    /// `"nat"` or `"dr"`.
    method: Option<String>,
    /// When servers see the balancer as the client: `"hairpin"`, where answers would not come back through it; `"always"`, `"never"`.
    masquerade: Option<String>,
    /// A client stays with its server for this time.
    persistence: Option<Span>,
    /// Clients of one network count as one.
    persistence_prefix: Option<u8>,
    /// Weight of servers that must be up; 1.
    quorum: Option<u32>,
    /// How much more it takes to be up again, and less to be down.
    #[serde(default)]
    hysteresis: u32,
    /// A program that is told that there is a quorum.
    quorum_up: Option<Program>,
    /// A program that is told that there is none.
    quorum_down: Option<Program>,
    /// Serves while there is no quorum.
    sorry_server: Option<Address>,
    /// `quorum_down` and `notify_down` run when the agent stops, too.
    #[serde(default)]
    omega: bool,
    /// No checks while the address is elsewhere.
    #[serde(default)]
    ha_suspend: bool,
    /// A server that fails keeps its place with weight 0.
    #[serde(default)]
    inhibit_on_failure: bool,
    /// Servers count as down until their first check.
    #[serde(default)]
    alpha: bool,
    /// Time between checks; 60s.
    delay_loop: Option<Span>,
    /// Until a check has a connection; 5s.
    connect_timeout: Option<Span>,
    /// Failed attempts before a check has failed.
    retry: Option<u32>,
    /// Pause before such an attempt.
    delay_before_retry: Option<Span>,
    /// Checks begin within this time, at random.
    warmup: Option<Span>,
    /// The servers.
    #[serde(default)]
    real_server: Vec<Real>,
}

/// An address with a port, or without: then the port stays as it is.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Address(IpAddr, u16);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self(socket.ip(), socket.port()));
        }
        match text.parse() {
            Ok(address) => Ok(Self(address, 0)),
            Err(_) => {
                Err(format!("`{text}` is not an address such as \"192.0.2.1:5672\" or \"[fd00::1]:5672\""))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Real {
    /// Where it is.
    address: Address,
    /// Its share of connections; 1.
    weight: Option<u32>,
    /// A failure leaves it in its place with weight 0.
    inhibit_on_failure: Option<bool>,
    /// It counts as down until its first check.
    alpha: Option<bool>,
    /// A program that is told that it is up.
    notify_up: Option<Program>,
    /// A program that is told that it is down.
    notify_down: Option<Program>,
    /// All must be good.
    #[serde(default)]
    checks: Vec<Check>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Tcp,
    Amqp,
    Http,
    Https,
    Command,
    Smtp,
    Dns,
    Udp,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    /// What is asked.
    r#type: Kind,
    /// Another address than the server's.
    connect_ip: Option<IpAddr>,
    /// Another port than the server's.
    connect_port: Option<u16>,
    /// Address to ask from.
    bind: Option<IpAddr>,
    /// Until there is a connection.
    connect_timeout: Option<Span>,
    /// Time between checks.
    delay_loop: Option<Span>,
    /// Failed attempts before it has failed.
    retry: Option<u32>,
    /// Pause before such an attempt.
    delay_before_retry: Option<Span>,
    /// It begins within this time, at random.
    warmup: Option<Span>,
    /// For `http`, `https`: pages that must be good.
    #[serde(default)]
    pages: Vec<Page>,
    /// For `http`, `https`: `"1.0"`, `"1.0C"` (with `Connection: close`) or `"1.1"`.
    http_version: Option<String>,
    /// For `https`: the name of the page is told in the TLS hello.
    #[serde(default)]
    sni: bool,
    /// For `command`: a program; 0 is good.
    #[serde(default)]
    command: Vec<String>,
    /// For `command`: whom it runs as.
    user: Option<String>,
    /// For `command`: its group.
    group: Option<String>,
    /// For `command`: when it has failed.
    timeout: Option<Span>,
    /// For `command`: its exit code is the weight.
    #[serde(default)]
    dynamic: bool,
    /// For `smtp`: the name that is told.
    helo: Option<String>,
    /// For `dns`: the type of record.
    record: Option<String>,
    /// For `dns`: the name that is asked for.
    name: Option<String>,
    /// For `udp`: what is sent, in hexadecimal digits.
    payload: Option<String>,
    /// For `udp`: an answer is required.
    #[serde(default)]
    reply: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    /// Its path.
    path: String,
    /// Good codes and ranges, such as `"200-299"`.
    #[serde(default)]
    status: Vec<String>,
    /// MD5 of the page.
    digest: Option<String>,
    /// Name of the host that is asked for.
    virtualhost: Option<String>,
}

/// Reads one block.
pub(super) fn virtual_server(raw: Server, wrong: &mut impl FnMut(String)) -> VirtualServer {
    let mut listen: Vec<Listen> = raw.marks.iter().map(|mark| Listen::Mark(*mark)).collect();
    for text in &raw.addresses {
        match addresses(text) {
            Ok(found) => listen.push(found),
            Err(reason) => wrong(format!("virtual_server: `{text}` {reason}")),
        }
    }
    let mut server = VirtualServer::new(listen);
    let name = raw.addresses.first().cloned().unwrap_or_else(|| "of marks".to_owned());
    let mut wrong = |message: String| wrong(format!("virtual_server {name}: {message}"));
    if server.listen.is_empty() {
        wrong("write `addresses` or `marks`".to_owned());
    }
    server.protocol = word("protocol", raw.protocol.as_deref(), Protocol::ALL, Protocol::word, &mut wrong);
    server.method =
        word("method", raw.method.as_deref(), &[Method::Nat, Method::Dr], Method::word, &mut wrong);
    let masquerade = raw.masquerade.as_deref();
    server.masquerade = word("masquerade", masquerade, Masquerade::ALL, Masquerade::word, &mut wrong);
    if let Some(text) = &raw.algorithm {
        match Algorithm::parse(text) {
            Ok(algorithm) => server.algorithm = algorithm,
            Err(reason) => wrong(format!("`algorithm`: {reason}")),
        }
    }
    server.hash_port = raw.hash_port;
    let longest = if server.is_ipv6() { 128 } else { 32 };
    server.persistence = raw.persistence.map(|span| Persistence {
        timeout: span.0,
        prefix: raw.persistence_prefix.unwrap_or(longest).clamp(1, longest),
    });
    server.quorum = raw.quorum.unwrap_or(1);
    server.hysteresis = raw.hysteresis;
    server.quorum_up = command(raw.quorum_up.clone(), &mut wrong);
    server.quorum_down = command(raw.quorum_down.clone(), &mut wrong);
    server.sorry_server = raw.sorry_server.map(|Address(address, port)| SorryServer { address, port });
    (server.omega, server.ha_suspend) = (raw.omega, raw.ha_suspend);
    for real in &raw.real_server {
        server.real_servers.push(real_server(real, &raw, &mut wrong));
    }
    let six = server.is_ipv6();
    let sorry = server.sorry_server.map(|sorry| sorry.address);
    if server.real_servers.iter().map(|real| real.address).chain(sorry).any(|found| found.is_ipv6() != six) {
        wrong("its addresses mix IPv4 and IPv6".to_owned());
    }
    server
}

/// `ADDRESS:PORT`, `FIRST-LAST:PORT`, `[ADDRESS]:PORT`; without a port every port.
fn addresses(text: &str) -> Result<Listen, String> {
    let (range_text, port) = if let Some(inner) = text.strip_prefix('[') {
        let (inner, rest) = inner.split_once(']').ok_or("has no `]`")?;
        (inner.to_owned(), rest.strip_prefix(':'))
    } else if let Some((first, last)) = text.split_once("-[") {
        let (last, rest) = last.split_once(']').ok_or("has no `]`")?;
        (format!("{first}-{last}"), rest.strip_prefix(':'))
    } else if text.matches(':').count() == 1 {
        let (range, port) = text.split_once(':').unwrap_or((text, "0"));
        (range.to_owned(), Some(port))
    } else {
        (text.to_owned(), None)
    };
    let (first, last) = range(&range_text)?;
    let port = port.map_or(Ok(0), str::parse).map_err(|_| "has a port that is no number up to 65535")?;
    Ok(Listen::Address { first, last, port })
}

fn word<T: Copy + Default>(
    key: &str,
    text: Option<&str>,
    all: &[T],
    show: fn(T) -> &'static str,
    wrong: &mut impl FnMut(String),
) -> T {
    let Some(text) = text else { return T::default() };
    all.iter().copied().find(|known| show(*known) == text).unwrap_or_else(|| {
        let words: Vec<&str> = all.iter().map(|known| show(*known)).collect();
        wrong(format!("`{key}`: `{text}` is not one of {}", words.join(", ")));
        T::default()
    })
}

fn real_server(real: &Real, raw: &Server, wrong: &mut impl FnMut(String)) -> RealServer {
    let mut server = RealServer::new(real.address.0, real.address.1);
    server.weight = real.weight.unwrap_or(1).min(65535);
    server.inhibit_on_failure = real.inhibit_on_failure.unwrap_or(raw.inhibit_on_failure);
    server.alpha = real.alpha.unwrap_or(raw.alpha);
    server.notify_up = command(real.notify_up.clone(), wrong);
    server.notify_down = command(real.notify_down.clone(), wrong);
    for check in &real.checks {
        let kind = kind(check, wrong);
        server.checks.push(checked(kind, check, raw));
    }
    server
}

fn checked(kind: CheckKind, check: &Check, raw: &Server) -> Checked {
    let span = |own: Option<Span>, common: Option<Span>| own.or(common).map(|span| span.0);
    let mut checked = Checked::new(kind);
    checked.connect_ip = check.connect_ip;
    checked.connect_port = check.connect_port;
    checked.bind = check.bind;
    checked.delay_loop =
        span(check.delay_loop, raw.delay_loop).filter(|delay| !delay.is_zero()).unwrap_or(checked.delay_loop);
    let (retry, delay) = default_retry(&checked.kind, checked.delay_loop);
    checked.retry = check.retry.or(raw.retry).unwrap_or(retry);
    checked.delay_before_retry = span(check.delay_before_retry, raw.delay_before_retry).unwrap_or(delay);
    checked.connect_timeout =
        span(check.connect_timeout, raw.connect_timeout).unwrap_or(checked.connect_timeout);
    checked.warmup = span(check.warmup, raw.warmup).unwrap_or(checked.delay_loop);
    if let CheckKind::Misc { timeout, .. } = &mut checked.kind
        && timeout.is_zero()
    {
        *timeout = checked.delay_loop;
    }
    checked
}

fn kind(check: &Check, wrong: &mut impl FnMut(String)) -> CheckKind {
    match check.r#type {
        Kind::Tcp => CheckKind::Tcp,
        Kind::Amqp => CheckKind::Amqp,
        Kind::Http | Kind::Https => {
            if check.pages.is_empty() {
                wrong("an http check needs `pages`".to_owned());
            }
            let version = check.http_version.as_deref();
            CheckKind::Http(HttpCheck {
                tls: matches!(check.r#type, Kind::Https),
                sni: check.sni,
                version: word("http_version", version, HttpVersion::ALL, HttpVersion::word, wrong),
                pages: check.pages.iter().map(|raw| page(raw, wrong)).collect(),
            })
        }
        Kind::Command => {
            if check.command.is_empty() {
                wrong("a check of type \"command\" needs `command`".to_owned());
            }
            let user = script_user(check.user.as_deref(), check.group.as_deref(), wrong);
            CheckKind::Misc {
                command: Command { argv: check.command.clone(), user },
                timeout: check.timeout.map_or(Duration::ZERO, |span| span.0),
                dynamic: check.dynamic,
            }
        }
        Kind::Smtp => CheckKind::Smtp {
            helo: check.helo.clone().unwrap_or_else(|| "smtpchecker.keepalived.org".into()),
        },
        Kind::Dns => {
            let wanted = check.record.as_deref().unwrap_or("SOA");
            let records = crate::config::virtual_server::RECORDS;
            let record = records.iter().find(|(name, _)| *name == wanted).map(|(_, number)| *number);
            if record.is_none() {
                wrong(format!("`record`: `{wanted}` is not one of A, NS, CNAME, SOA, MX, TXT, AAAA"));
            }
            CheckKind::Dns {
                record: record.unwrap_or(6),
                name: check.name.clone().unwrap_or_else(|| ".".into()),
            }
        }
        Kind::Udp => {
            let payload = check.payload.as_deref().map(hexadecimal).transpose();
            if payload.is_err() {
                wrong("`payload` is not hexadecimal".to_owned());
            }
            CheckKind::Udp { payload: payload.ok().flatten().unwrap_or_default(), reply: check.reply }
        }
    }
}

fn hexadecimal(text: &str) -> Result<Vec<u8>, ()> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|letter| !letter.is_whitespace())
        .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()
        .ok_or(())?;
    if digits.len() > 2048 {
        return Err(());
    }
    Ok(digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

fn page(raw: &Page, wrong: &mut impl FnMut(String)) -> Good {
    let bad_path = !raw.path.starts_with('/') || raw.path.chars().any(|c| c.is_control() || c == ' ');
    if bad_path {
        wrong(format!("`{}` is not a path such as /", raw.path));
    }
    let mut status = Vec::new();
    for text in &raw.status {
        match status_codes(text) {
            Ok(range) => status.push(range),
            Err(reason) => wrong(format!("`{text}` {reason}")),
        }
    }
    if status.is_empty() && raw.digest.is_none() {
        status.push((200, 299));
    }
    let digest = raw.digest.as_ref().map(|digest| digest.to_ascii_lowercase());
    if digest.as_ref().is_some_and(|text| text.len() != 32 || text.chars().any(|c| !c.is_ascii_hexdigit())) {
        wrong("`digest` is not an MD5 digest of 32 hexadecimal digits".to_owned());
    }
    if raw.virtualhost.as_ref().is_some_and(|host| host.chars().any(char::is_control)) {
        wrong("`virtualhost` holds control characters".to_owned());
    }
    Good { path: raw.path.clone(), status, digest, virtualhost: raw.virtualhost.clone() }
}
