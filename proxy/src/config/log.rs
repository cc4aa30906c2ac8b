//! Where log lines go.

use std::path::PathBuf;

/// Where log lines go (`log ADDRESS FACILITY [LEVEL [MINLEVEL]]`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSink {
    /// The receiver.
    pub target: LogTarget,
    /// How a line is framed.
    pub format: LogFraming,
    /// syslog facility, 0 to 23.
    pub facility: u8,
    /// Least severe level that is sent (0 emergency to 7 debug).
    pub max_level: u8,
    /// More severe levels are sent as this one.
    pub min_level: u8,
    /// Longest line in bytes.
    pub length: usize,
    /// Only some of the lines are sent here (`sample RANGES:SIZE`).
    pub sample: Option<LogSample>,
}

/// `sample 1-2,5:10`: of every `size` lines, those whose number is in one of `ranges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSample {
    /// First and last number of each range, from 1.
    pub ranges: Vec<(u32, u32)>,
    /// Lines until the numbers begin again.
    pub size: u32,
}

/// The receiver of log lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// A syslog server.
    Udp(std::net::SocketAddr),
    /// A datagram socket such as `/dev/log`.
    Unix(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How a log line is framed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFraming {
    /// `<134>Nov 22 14:36:06 haproxy[1255]: text`: RFC 3164 without the host.
    #[default]
    Local,
    /// `<134>Nov 22 14:36:06 host haproxy[1255]: text` (RFC 3164).
    Rfc3164,
    /// `<134>1 2026-11-22T14:36:06.664+00:00 host haproxy 1255 - - text` (RFC 5424).
    Rfc5424,
    /// `<134>text`: level and facility only.
    Priority,
    /// `<6>text`: the level only, as systemd reads it.
    Short,
    /// `<6>2026-11-22T14:36:06.664+00:00 text`.
    Timed,
    /// `2026-11-22T14:36:06.664+00:00 text`.
    Iso,
    /// The text alone.
    Raw,
}

impl LogFraming {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Local,
        Self::Rfc3164,
        Self::Rfc5424,
        Self::Priority,
        Self::Short,
        Self::Timed,
        Self::Iso,
        Self::Raw,
    ];

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Rfc3164 => "rfc3164",
            Self::Rfc5424 => "rfc5424",
            Self::Priority => "priority",
            Self::Short => "short",
            Self::Timed => "timed",
            Self::Iso => "iso",
            Self::Raw => "raw",
        }
    }
}
