//! `log-format`: HAProxy's own language for log lines, as far as it speaks of TCP.
//!
//! ```text
//! %ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq
//! %{+Q}s      flags: Q quotes, X hexadecimal, E escapes; with `o` they hold for all that follows
//! %[src_port] a sample fetch
//! ```

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::tcplog::{Accepted, Line};

/// A format that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Field, Flags),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Flags {
    quote: bool,
    hexadecimal: bool,
    escape: bool,
}

/// Why a format cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// HAProxy would not understand it either.
    #[error("{0}")]
    Mistake(String),
    /// Only HTTP has what it asks for.
    #[error("format variable '{0}' is reserved for HTTP mode")]
    Http(String),
    /// It asks for something that is not known here.
    #[error("sample fetch `{0}` is not known here")]
    Unknown(String),
}

impl FormatError {
    /// Whether HAProxy would refuse it as well.
    #[must_use]
    pub fn is_mistake(&self) -> bool {
        matches!(self, Self::Mistake(_))
    }
}

fn mistake(text: impl Into<String>) -> FormatError {
    FormatError::Mistake(text.into())
}

/// What can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    ClientIp,
    ClientPort,
    FrontendIp,
    FrontendPort,
    BackendIp,
    BackendPort,
    ServerIp,
    ServerPort,
    Frontend,
    FrontendTransport,
    Backend,
    Server,
    Waited,
    Connected,
    Total,
    Handshake,
    BytesOut,
    BytesIn,
    End,
    EndLong,
    Process,
    FrontendConnections,
    BackendConnections,
    ServerConnections,
    Retries,
    ServerQueue,
    BackendQueue,
    Date,
    DateGmt,
    DateLocal,
    Seconds,
    Milliseconds,
    HostName,
    Pid,
    Count,
    TlsCipher,
    TlsVersion,
    Nothing,
}

use Field::{
    Backend, BackendConnections, BackendIp, BackendPort, BackendQueue, BytesIn, BytesOut, ClientIp,
    ClientPort, Connected, Count, Date, DateGmt, DateLocal, End, EndLong, Frontend, FrontendConnections,
    FrontendIp, FrontendPort, FrontendTransport, Handshake, HostName, Milliseconds, Nothing, Pid, Process,
    Retries, Seconds, Server, ServerConnections, ServerIp, ServerPort, ServerQueue, TlsCipher, TlsVersion,
    Total, Waited,
};

/// HAProxy's names of variables.
const VARIABLES: &[(&str, Field)] = &[
    ("ci", ClientIp),
    ("cp", ClientPort),
    ("fi", FrontendIp),
    ("fp", FrontendPort),
    ("bi", BackendIp),
    ("bp", BackendPort),
    ("si", ServerIp),
    ("sp", ServerPort),
    ("f", Frontend),
    ("ft", FrontendTransport),
    ("b", Backend),
    ("s", Server),
    ("Tw", Waited),
    ("Tc", Connected),
    ("Tt", Total),
    ("Td", Total),
    ("Th", Handshake),
    ("B", BytesOut),
    ("U", BytesIn),
    ("ts", End),
    ("tsc", EndLong),
    ("ac", Process),
    ("fc", FrontendConnections),
    ("bc", BackendConnections),
    ("sc", ServerConnections),
    ("rc", Retries),
    ("sq", ServerQueue),
    ("bq", BackendQueue),
    ("t", Date),
    ("T", DateGmt),
    ("Tl", DateLocal),
    ("Ts", Seconds),
    ("ms", Milliseconds),
    ("H", HostName),
    ("pid", Pid),
    ("rt", Count),
    ("lc", Count),
    ("sslc", TlsCipher),
    ("sslv", TlsVersion),
    ("ID", Nothing),
];

/// Variables that only HTTP has.
const OF_HTTP: &[&str] = &[
    "CC", "CS", "HM", "HP", "HPO", "HQ", "HU", "HV", "ST", "TR", "Ta", "Ti", "Tq", "Tr", "hr", "hs", "hrl",
    "hsl", "r", "tr", "trg", "trl",
];

/// Sample fetches that give the same as a variable.
const SAMPLES: &[(&str, Field)] = &[
    ("src", ClientIp),
    ("src_port", ClientPort),
    ("dst", FrontendIp),
    ("dst_port", FrontendPort),
    ("fe_name", Frontend),
    ("be_name", Backend),
    ("srv_name", Server),
    ("bc_src", BackendIp),
    ("bc_src_port", BackendPort),
    ("bc_dst", ServerIp),
    ("bc_dst_port", ServerPort),
    ("fe_conn", FrontendConnections),
    ("be_conn", BackendConnections),
    ("act_conn", Process),
    ("hostname", HostName),
    ("ssl_fc_cipher", TlsCipher),
    ("ssl_fc_protocol", TlsVersion),
];

/// A format longer than this is refused.
const MAX_LENGTH: usize = 4096;

impl Format {
    /// Reads a format.
    ///
    /// # Errors
    /// Says what is wrong, in HAProxy's words where it has some.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.len() > MAX_LENGTH {
            return Err(mistake(format!("a log format has {MAX_LENGTH} characters at most")));
        }
        let mut parts = Vec::new();
        let mut all = Flags::default();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            push_text(&mut parts, &rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                push_text(&mut parts, "%");
                rest = after;
                continue;
            }
            let mut flags = all;
            if let Some(inside) = rest.strip_prefix('{') {
                let (given, after) = inside.split_once('}').ok_or_else(|| mistake("`{` without `}`"))?;
                flags.apply(given)?;
                rest = after;
            }
            if let Some(inside) = rest.strip_prefix('[') {
                let (name, after) = inside.split_once(']').ok_or_else(|| mistake("`[` without `]`"))?;
                parts.push(Part::Value(sample(name)?, flags));
                rest = after;
                continue;
            }
            let length = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (name, after) = rest.split_at(length);
            rest = after;
            if name == "o" {
                all = flags;
                // HAProxy drops the space after it.
                rest = rest.strip_prefix(' ').unwrap_or(rest);
                continue;
            }
            parts.push(Part::Value(variable(name)?, flags));
        }
        push_text(&mut parts, rest);
        Ok(Self { parts })
    }

    /// Whether it shows addresses that have to be asked for.
    #[must_use]
    pub fn shows_addresses(&self) -> bool {
        let asked = [FrontendIp, FrontendPort, BackendIp, BackendPort];
        self.parts.iter().any(|part| matches!(part, Part::Value(field, _) if asked.contains(field)))
    }

    /// The line.
    #[must_use]
    pub fn line(&self, line: &Line<'_>) -> String {
        let mut out = String::with_capacity(160);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(field, flags) => field.show(&mut out, *flags, line),
            }
        }
        out
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Text(last)) => last.push_str(text),
        _ => parts.push(Part::Text(text.to_owned())),
    }
}

fn variable(name: &str) -> Result<Field, FormatError> {
    if let Some((_, field)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Ok(*field);
    }
    if OF_HTTP.contains(&name) {
        return Err(FormatError::Http(name.to_owned()));
    }
    Err(mistake(format!("no such format variable '{name}'; to emit the '%' character verbatim, write '%%'")))
}

fn sample(name: &str) -> Result<Field, FormatError> {
    // An empty list of arguments says the same as none.
    let plain = name.trim().strip_suffix("()").unwrap_or(name.trim());
    let found = SAMPLES.iter().find(|(known, _)| *known == plain).map(|(_, field)| *field);
    found.ok_or_else(|| FormatError::Unknown(plain.to_owned()))
}

impl Flags {
    fn apply(&mut self, text: &str) -> Result<(), FormatError> {
        for word in text.split(',').filter(|word| !word.is_empty()) {
            let (on, letter) = match word.split_at_checked(1) {
                Some(("+", letter)) => (true, letter),
                Some(("-", letter)) => (false, letter),
                _ => (true, word),
            };
            match letter {
                "Q" => self.quote = on,
                "X" => self.hexadecimal = on,
                "E" => self.escape = on,
                _ => {
                    return Err(mistake(format!(
                        "`{word}` is no flag of a log format: there are Q, X and E"
                    )));
                }
            }
        }
        Ok(())
    }
}

impl Field {
    fn show(self, out: &mut String, flags: Flags, line: &Line<'_>) {
        let mut number = |value: i64| {
            let _ = if flags.hexadecimal { write!(out, "{value:X}") } else { write!(out, "{value}") };
        };
        let unsigned = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| i64::from(address.port()));
        match self {
            ClientPort => number(i64::from(line.client.port())),
            FrontendPort => number(port(line.local)),
            BackendPort => number(port(line.source)),
            ServerPort => number(port(line.target)),
            Waited => number(line.waited_ms),
            Connected => number(line.connect_ms),
            Handshake => number(line.handshake_ms),
            Total => early(out, line, unsigned(line.total_ms.unsigned_abs())),
            BytesOut => early(out, line, unsigned(line.bytes)),
            BytesIn => early(out, line, unsigned(line.bytes_in)),
            Process => number(i64::from(line.process)),
            FrontendConnections => number(i64::from(line.frontend_connections)),
            BackendConnections => number(i64::from(line.backend_connections)),
            ServerConnections => number(i64::from(line.server_connections)),
            Retries => {
                if line.redispatched {
                    out.push('+');
                }
                let _ = write!(out, "{}", line.retries);
            }
            ServerQueue => number(i64::from(line.queues.0)),
            BackendQueue => number(i64::from(line.queues.1)),
            Seconds => number(unsigned(seconds_of(line).0)),
            Milliseconds => {
                let _ = write!(out, "{:03}", seconds_of(line).1);
            }
            Pid => number(i64::from(std::process::id())),
            Count => number(0),
            ClientIp => address(out, flags, Some(line.client.ip())),
            FrontendIp => address(out, flags, line.local.map(|address| address.ip())),
            BackendIp => address(out, flags, line.source.map(|address| address.ip())),
            ServerIp => address(out, flags, line.target.map(|address| address.ip())),
            Frontend => text(out, flags, line.frontend),
            FrontendTransport => {
                let mark = if line.tls.is_some() { "~" } else { "" };
                text(out, flags, &format!("{}{mark}", line.frontend));
            }
            Backend => text(out, flags, line.backend),
            Server => text(out, flags, line.server),
            End => text(out, flags, line.end.code()),
            // Without cookies the last two characters never say anything.
            EndLong => text(out, flags, &format!("{}--", line.end.code())),
            Date => text(out, flags, &Accepted(line.accepted).to_string()),
            DateGmt => text(out, flags, &Accepted(line.accepted).in_zone(true)),
            DateLocal => text(out, flags, &Accepted(line.accepted).in_zone(false)),
            HostName => text(out, flags, crate::syslog::host_name()),
            TlsVersion => text(out, flags, line.tls.map_or("-", |tls| tls.0)),
            TlsCipher => text(out, flags, line.tls.map_or("-", |tls| tls.1)),
            Nothing => text(out, flags, "-"),
        }
    }
}

/// A number that is not final has a plus before it (`option logasap`).
fn early(out: &mut String, line: &Line<'_>, value: i64) {
    let _ = write!(out, "{}{value}", if line.early { "+" } else { "" });
}

fn seconds_of(line: &Line<'_>) -> (u64, u32) {
    let since = line.accepted.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs(), since.subsec_millis())
}

fn address(out: &mut String, flags: Flags, ip: Option<IpAddr>) {
    match ip.map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) if flags.hexadecimal => {
            let _ = write!(out, "{:08X}", u32::from(ip));
        }
        Some(IpAddr::V6(ip)) if flags.hexadecimal => {
            let _ = write!(out, "{:032X}", u128::from(ip));
        }
        Some(ip) => text(out, flags, &ip.to_string()),
        None => text(out, flags, "-"),
    }
}

fn text(out: &mut String, flags: Flags, value: &str) {
    let quote = if flags.quote { "\"" } else { "" };
    out.push_str(quote);
    if flags.escape {
        for c in value.chars() {
            if matches!(c, '"' | '\\' | ']') {
                out.push('\\');
            }
            out.push(c);
        }
    } else {
        out.push_str(value);
    }
    out.push_str(quote);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcplog;

    fn show(format: &str) -> String {
        Format::parse(format).unwrap().line(&tcplog::tests::line())
    }

    #[test]
    fn tcplog_written_out_is_the_built_in_line() {
        let written = "%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq";
        assert_eq!(show(written), tcplog::tests::line().to_string());
    }

    /// As haproxy 2.6.12 answered to the same formats.
    #[test]
    fn flags_are_haproxys() {
        assert_eq!(show("%{+Q}s %{+Q}b %{+X}ci %{+X}cp %%"), "\"A\" \"rabbitmq_cluster\" 7F000001 C854 %");
        assert_eq!(show("%{+Q}o %s %Tt %ci"), "\"A\" 15057 \"127.0.0.1\"");
        assert_eq!(show("%[src]:%[src_port] %[fe_name]"), "127.0.0.1:51284 rabbitmq_cluster");
        assert_eq!(show("%tsc %ts %sslv %ID"), "sD-- sD - -");
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |format: &str| Format::parse(format).unwrap_err().to_string();
        assert!(wrong("%zz").contains("no such format variable 'zz'"));
        assert!(wrong("%ST").contains("reserved for HTTP mode"));
        assert!(wrong("%{+Z}s").contains("+Z"));
        assert!(wrong("%[req.hdr(host)]").contains("req.hdr(host)"));
        assert!(wrong("%{+Q").contains('}'));
        assert!(wrong("%[src").contains(']'));
        assert!(wrong("a%").contains("no such format variable ''"));
        assert!(Format::parse(&"x".repeat(5000)).is_err());
    }
}
