//! HAProxy's log line for a TCP connection.
//!
//! ```text
//! 127.0.0.1:51284 [22/Nov/2026:14:37:19.696] rabbitmq_cluster rabbitmq_cluster/A 1/0/15057 627 sD 1/1/0/0/0 0/0
//! client          accepted                   frontend         backend/server     │ │ │     │   │  │ │ │ │ │ └ queues
//!                                                          waited/connect/total ─┘─┘─┘     │   │  │ │ │ │ └ retries
//!                                                              bytes to the client ────────┘   │  │ │ │ └ server
//!                                                              why it ended ───────────────────┘  │ │ └ backend
//!                                                              connections now: process, frontend ┘─┘
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use daemon::clock::LocalTime;

use crate::config::Settings;
use crate::log_format::Format;
use crate::registry::Cause;
use crate::syslog::{Logger, level};

/// Why a connection ended, as HAProxy's two characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides finished.
    Normal,
    /// The client broke off during the transfer.
    ClientAbort,
    /// The client gave up while its server was connected to.
    ClientConnect,
    /// The client gave up while it waited for a place.
    ClientQueue,
    /// The server broke off during the transfer.
    ServerAbort,
    /// The client was silent too long.
    ClientTimeout,
    /// The server was silent too long.
    ServerTimeout,
    /// No server could be connected to.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// No place became free in time.
    QueueTimeout,
    /// A rule keeps the client out.
    Denied,
    /// The proxy ran out of something.
    Resource,
    /// It was closed from outside.
    Killed(Cause),
}

impl End {
    /// HAProxy's two characters.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Normal => "--",
            Self::ClientAbort => "CD",
            Self::ClientConnect => "CC",
            Self::ClientQueue => "CQ",
            Self::ServerAbort => "SD",
            Self::ClientTimeout => "cD",
            Self::ServerTimeout => "sD",
            Self::ConnectFailed => "SC",
            Self::ConnectTimeout => "sC",
            Self::QueueTimeout => "sQ",
            Self::Denied => "PR",
            Self::Resource => "RC",
            Self::Killed(Cause::Operator) => "K-",
            Self::Killed(Cause::ServerDown) => "D-",
            Self::Killed(Cause::ActiveUp) => "U-",
        }
    }
}

/// What one line says.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// The client.
    pub client: SocketAddr,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The frontend.
    pub frontend: &'a str,
    /// The backend.
    pub backend: &'a str,
    /// The server, or `<NOSRV>`.
    pub server: &'a str,
    /// Milliseconds until a server was chosen; -1 when none was.
    pub waited_ms: i64,
    /// Milliseconds to connect; -1 when it was not.
    pub connect_ms: i64,
    /// Milliseconds in all.
    pub total_ms: i64,
    /// Bytes to the client.
    pub bytes: u64,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Milliseconds of what comes before the bytes (PROXY header, TLS).
    pub handshake_ms: i64,
    /// The address the client came to.
    pub local: Option<SocketAddr>,
    /// Our address towards the server.
    pub source: Option<SocketAddr>,
    /// The server's address.
    pub target: Option<SocketAddr>,
    /// Version and cipher, when the client speaks TLS.
    pub tls: Option<(&'a str, &'a str)>,
    /// Written before the end (`option logasap`): times and bytes are not final.
    pub early: bool,
    /// Why it ended.
    pub end: End,
    /// Connections of the process.
    pub process: u32,
    /// Connections of the frontend.
    pub frontend_connections: u32,
    /// Connections of the backend.
    pub backend_connections: u32,
    /// Connections of the server.
    pub server_connections: u32,
    /// Repeated attempts.
    pub retries: u32,
    /// Whether another server was tried.
    pub redispatched: bool,
    /// Waiting for the server, and for the backend.
    pub queues: (u32, u32),
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plus = if self.early { "+" } else { "" };
        write!(
            f,
            "{}:{} [{}] {}{} {}/{} {}/{}/{plus}{} {plus}{} {} {}/{}/{}/{}/{}{} {}/{}",
            self.client.ip().to_canonical(),
            self.client.port(),
            Accepted(self.accepted),
            self.frontend,
            if self.tls.is_some() { "~" } else { "" },
            self.backend,
            self.server,
            self.waited_ms,
            self.connect_ms,
            self.total_ms,
            self.bytes,
            self.end.code(),
            self.process,
            self.frontend_connections,
            self.backend_connections,
            self.server_connections,
            if self.redispatched { "+" } else { "" },
            self.retries,
            self.queues.0,
            self.queues.1,
        )
    }
}

/// How a section writes its lines.
#[derive(Debug, Clone, Default)]
pub struct Style {
    format: Option<Format>,
    error_format: Option<Format>,
    structured: Option<Format>,
    tcplog: bool,
    dontlognull: bool,
    dontlog_normal: bool,
    separate_errors: bool,
    logasap: bool,
}

impl Style {
    /// What the section's configuration says. A format that is wrong was reported with the configuration.
    pub fn of(settings: &Settings) -> Self {
        let logging = &settings.logging;
        Self {
            format: logging.format.as_deref().and_then(|text| Format::parse(text).ok()),
            error_format: logging.error_format.as_deref().and_then(|text| Format::parse(text).ok()),
            structured: logging.format_sd.as_deref().and_then(|text| Format::parse(text).ok()),
            // A format we cannot write: HAProxy's usual line says most of it.
            tcplog: settings.tcplog || logging.format.is_some(),
            dontlognull: settings.dontlognull,
            dontlog_normal: logging.dontlog_normal,
            separate_errors: logging.separate_errors,
            logasap: logging.logasap,
        }
    }

    /// Whether a line is written once the server is connected (`option logasap`); then none at the end.
    pub fn is_early(&self) -> bool {
        self.logasap
    }

    /// Whether lines show addresses that have to be asked for.
    pub fn shows_addresses(&self) -> bool {
        self.format.as_ref().map_or(!self.tcplog, Format::shows_addresses)
            || self.structured.as_ref().is_some_and(Format::shows_addresses)
    }

    /// Sends a line about a client that never got as far as a session (`error-log-format`, or the given words).
    pub fn write_failure(
        &self,
        logger: &Logger,
        frontend: &str,
        client: SocketAddr,
        accepted: SystemTime,
        text: &str,
    ) {
        let Some(format) = &self.error_format else {
            logger.send(level::INFO, text);
            return;
        };
        let line = Line {
            client,
            accepted,
            frontend,
            backend: frontend,
            server: "<NOSRV>",
            waited_ms: -1,
            connect_ms: -1,
            total_ms: i64::try_from(accepted.elapsed().unwrap_or_default().as_millis()).unwrap_or(i64::MAX),
            bytes: 0,
            bytes_in: 0,
            handshake_ms: -1,
            local: None,
            source: None,
            target: None,
            tls: None,
            early: false,
            end: End::Denied,
            process: 0,
            frontend_connections: 0,
            backend_connections: 0,
            server_connections: 0,
            retries: 0,
            redispatched: false,
            queues: (0, 0),
        };
        logger.send(level::INFO, &format.line(&line));
    }

    /// Sends a session's line, when there is to be one.
    pub fn write(&self, logger: &Logger, line: &Line<'_>) {
        let is_error = line.end != End::Normal;
        let is_null = self.dontlognull && line.bytes_in == 0 && !line.early;
        if logger.is_silent() || is_null || (self.dontlog_normal && !is_error && line.retries == 0) {
            return;
        }
        let severity = if is_error && self.separate_errors { level::ERR } else { level::INFO };
        let structured = self.structured.as_ref().map(|format| format.line(line));
        logger.send_with(severity, structured.as_deref(), &self.text(line));
    }

    fn text(&self, line: &Line<'_>) -> String {
        if let Some(format) = &self.format {
            return format.line(line);
        }
        if self.tcplog {
            return line.to_string();
        }
        let to = line
            .local
            .map_or_else(String::new, |local| format!(" to {}:{}", local.ip().to_canonical(), local.port()));
        let client = line.client;
        format!("Connect from {}:{}{to} ({}/TCP)", client.ip().to_canonical(), client.port(), line.frontend)
    }
}

/// `22/Nov/2026:14:36:06.664` in local time.
pub struct Accepted(pub SystemTime);

impl Accepted {
    /// `22/Nov/2026:14:36:06 +0100`, without milliseconds, in local time or in UTC.
    #[must_use]
    pub fn in_zone(&self, utc: bool) -> String {
        let mut time = LocalTime::from_system(self.0);
        if utc {
            let offset = std::time::Duration::from_secs(u64::from(time.utc_offset_seconds.unsigned_abs()));
            let shifted = if time.utc_offset_seconds < 0 { self.0 + offset } else { self.0 - offset };
            // The calendar of UTC is the local one of a moment that is shifted by the offset.
            time = LocalTime { utc_offset_seconds: 0, ..LocalTime::from_system(shifted) };
        }
        let minutes = time.utc_offset_seconds.unsigned_abs() / 60;
        format!(
            "{:02}/{}/{:04}:{:02}:{:02}:{:02} {}{:02}{:02}",
            time.day,
            time.month_name(),
            time.year,
            time.hour,
            time.minute,
            time.second,
            if time.utc_offset_seconds < 0 { '-' } else { '+' },
            minutes / 60,
            minutes % 60
        )
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = LocalTime::from_system(self.0);
        write!(
            f,
            "{:02}/{}/{:04}:{:02}:{:02}:{:02}.{:03}",
            time.day,
            time.month_name(),
            time.year,
            time.hour,
            time.minute,
            time.second,
            time.millis
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn accepted() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_795_357_366_696)
    }

    /// The line that was recorded from haproxy 2.6.12.
    pub(crate) fn line() -> Line<'static> {
        Line {
            client: "127.0.0.1:51284".parse().unwrap(),
            accepted: accepted(),
            frontend: "rabbitmq_cluster",
            backend: "rabbitmq_cluster",
            server: "A",
            waited_ms: 1,
            connect_ms: 0,
            total_ms: 15057,
            bytes: 627,
            bytes_in: 5,
            handshake_ms: 0,
            local: None,
            source: None,
            target: None,
            tls: None,
            early: false,
            end: End::ServerTimeout,
            process: 1,
            frontend_connections: 1,
            backend_connections: 0,
            server_connections: 0,
            retries: 0,
            redispatched: false,
            queues: (0, 0),
        }
    }

    #[test]
    fn the_line_is_haproxys() {
        let expected = format!(
            "127.0.0.1:51284 [{}] rabbitmq_cluster rabbitmq_cluster/A 1/0/15057 627 sD 1/1/0/0/0 0/0",
            Accepted(accepted())
        );
        assert_eq!(line().to_string(), expected);
        assert!(Accepted(accepted()).to_string().ends_with(":46.696"));
        let redispatched = Line { retries: 2, redispatched: true, ..line() };
        assert!(redispatched.to_string().ends_with(" 1/1/0/0/+2 0/0"));
    }

    #[test]
    fn a_line_before_the_end_says_so_and_tls_is_marked() {
        let early =
            Line { early: true, tls: Some(("TLSv1.3", "TLS_AES_128_GCM_SHA256")), ..line() }.to_string();
        assert!(early.contains(" rabbitmq_cluster~ rabbitmq_cluster/A 1/0/+15057 +627 sD "), "{early}");
    }

    #[test]
    fn options_decide_about_lines() {
        let receiver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_nonblocking(true).unwrap();
        let sink = crate::config::LogSink {
            target: crate::config::LogTarget::Udp(receiver.local_addr().unwrap()),
            format: crate::config::LogFraming::Short,
            facility: 16,
            max_level: 7,
            min_level: 0,
            length: 200,
            sample: None,
        };
        let logger = crate::syslog::Opener::default().open(&[sink], "haproxy");
        let got = |style: &Style, line: &Line<'_>| {
            style.write(&logger, line);
            let mut buffer = [0; 300];
            receiver
                .recv(&mut buffer)
                .ok()
                .map(|length| String::from_utf8_lossy(&buffer[..length]).into_owned())
        };
        let normal = Line { end: End::Normal, ..line() };
        let plain = Style::default();
        assert_eq!(got(&plain, &normal).unwrap(), "<6>Connect from 127.0.0.1:51284 (rabbitmq_cluster/TCP)\n");
        let errors = Style { dontlog_normal: true, separate_errors: true, tcplog: true, ..Style::default() };
        assert_eq!(got(&errors, &normal), None);
        assert!(got(&errors, &line()).unwrap().starts_with("<3>127.0.0.1:51284 ["));
        let null = Style { dontlognull: true, ..Style::default() };
        assert_eq!(got(&null, &Line { bytes_in: 0, ..normal.clone() }), None);
        let own = Style { format: Some(Format::parse("%s %B").unwrap()), ..Style::default() };
        assert_eq!(got(&own, &normal).unwrap(), "<6>A 627\n");
    }

    #[test]
    fn dates_of_utc_have_no_offset() {
        assert_eq!(Accepted(accepted()).in_zone(true), "22/Nov/2026:14:22:46 +0000");
    }
}
