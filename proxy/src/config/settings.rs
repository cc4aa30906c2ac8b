//! What can stand in `defaults` and in every section.

use std::time::Duration;

use super::balance::{Algorithm, HashType};
use super::checks::{CheckKind, CheckSettings};
use super::log::LogSink;
use super::section::{Mode, Place};
use super::server::{ServerOptions, Source};
use super::stats::StatsConfig;

/// What can stand in `defaults` and in every section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What travels through it.
    pub mode: Mode,
    /// How a server is chosen.
    pub balance: Algorithm,
    /// How hashes become servers (`hash-type`).
    pub hash_type: HashType,
    /// With a consistent hash, no server gets more than this percentage of the average
    /// (`hash-balance-factor`); 0 is no bound.
    pub hash_balance_factor: u32,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// Where `timeout server` was set, for remarks about its value.
    pub server_timeout_place: Option<Place>,
    /// How often a failed connection attempt is repeated.
    pub retries: u32,
    /// `option redispatch [N]`: choose another server on every N-th retry; negative counts from the last.
    pub redispatch: Option<i32>,
    /// Most connections of a frontend.
    pub maxconn: Option<u32>,
    /// Connections at which a backend counts as full (shown as its limit).
    pub fullconn: Option<u32>,
    /// Length of the accept queue (`backlog`).
    pub backlog: Option<u32>,
    /// Most new connections in a second (`rate-limit sessions`).
    pub rate_limit_sessions: Option<u32>,
    /// Our address towards servers (`source`).
    pub source: Option<Source>,
    /// How log lines of this section are written and when.
    pub logging: Logging,
    /// Where log lines go.
    pub logs: Vec<LogSink>,
    /// `log global`: also where the process sends its lines.
    pub log_global: bool,
    /// Program name in log lines (`log-tag`); the process's when unset.
    pub log_tag: Option<String>,
    /// `option tcplog`.
    pub tcplog: bool,
    /// `option httplog`.
    pub httplog: bool,
    /// `option dontlognull`: no line for a connection on which the client sent nothing.
    pub dontlognull: bool,
    /// `option log-health-checks`.
    pub log_health_checks: bool,
    /// TCP keep-alive towards clients.
    pub client_keepalive: bool,
    /// TCP keep-alive towards servers.
    pub server_keepalive: bool,
    /// Times of the keep-alive towards clients (`clitcpka-*`).
    pub client_keepalive_times: Keepalive,
    /// Times of the keep-alive towards servers (`srvtcpka-*`).
    pub server_keepalive_times: Keepalive,
    /// Use all backup servers together when no other is left.
    pub allbackups: bool,
    /// Move bulk data inside the kernel (`splice`).
    pub splice: bool,
    /// Count bytes while sessions run, not at their end (`option contstats`); always done here.
    pub contstats: bool,
    /// A row for every bind address on the statistics page (`option socket-stats`).
    pub socket_stats: bool,
    /// A client that closes while it waits for a server is let go (`option abortonclose`).
    pub abortonclose: bool,
    /// Close with a reset instead of a FIN (`option nolinger`).
    pub nolinger: bool,
    /// Delay the acknowledgement of the handshake until there is data (`option tcp-smart-accept`).
    pub tcp_smart_accept: bool,
    /// Send the client's first data with the handshake (`option tcp-smart-connect`).
    pub tcp_smart_connect: bool,
    /// Traffic one way does not count as activity of the other (`option independent-streams`).
    pub independent_streams: bool,
    /// Stay on the server that was used last (`option prefer-last-server`).
    pub prefer_last_server: bool,
    /// Connect to the address the client wanted (`option transparent`).
    pub transparent: bool,
    /// Send to a server that is down when the client asked for it (`option persist`).
    pub persist: bool,
    /// When every server is down, use all as if they were up (`option fail-open`; not in HAProxy).
    pub fail_open: bool,
    /// Move sessions at a bounded rate after a drain or a server's return (`option rebalance RATE/s`;
    /// not in HAProxy).
    pub rebalance: Option<Rebalance>,
    /// Where the states of servers are read from at start (`load-server-state-from-file`).
    pub server_state: ServerStateFile,
    /// The file for `local` (`server-state-file-name`); the section's name when unset.
    pub server_state_file_name: Option<String>,
    /// What a health check does.
    pub check: CheckKind,
    /// What it needs to know for that.
    pub checks: CheckSettings,
    /// The backend of a frontend.
    pub default_backend: Option<(String, Place)>,
    /// What servers of this section start from.
    pub default_server: ServerOptions,
    /// The statistics page.
    pub stats: StatsConfig,
    /// Text on the statistics page.
    pub description: Option<String>,
    /// The section is configured but not started.
    pub disabled: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Tcp,
            balance: Algorithm::RoundRobin,
            hash_type: HashType::default(),
            hash_balance_factor: 0,
            timeouts: Timeouts::default(),
            server_timeout_place: None,
            retries: 3,
            redispatch: None,
            maxconn: None,
            fullconn: None,
            backlog: None,
            rate_limit_sessions: None,
            source: None,
            logging: Logging::default(),
            logs: Vec::new(),
            log_global: false,
            log_tag: None,
            tcplog: false,
            httplog: false,
            dontlognull: false,
            log_health_checks: false,
            client_keepalive: false,
            server_keepalive: false,
            client_keepalive_times: Keepalive::default(),
            server_keepalive_times: Keepalive::default(),
            allbackups: false,
            splice: true,
            contstats: false,
            socket_stats: false,
            abortonclose: false,
            nolinger: false,
            tcp_smart_accept: false,
            tcp_smart_connect: false,
            independent_streams: false,
            prefer_last_server: false,
            transparent: false,
            persist: false,
            fail_open: false,
            rebalance: None,
            server_state: ServerStateFile::default(),
            server_state_file_name: None,
            check: CheckKind::Tcp,
            checks: CheckSettings::default(),
            default_backend: None,
            default_server: ServerOptions::default(),
            stats: StatsConfig::default(),
            description: None,
            disabled: false,
        }
    }
}

/// The timeouts of a section; `None` is "never".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Silence of the client.
    pub client: Option<Duration>,
    /// Silence of the server.
    pub server: Option<Duration>,
    /// Connecting to a server.
    pub connect: Option<Duration>,
    /// Reading a check's answer.
    pub check: Option<Duration>,
    /// Waiting for a free place; `connect` when unset.
    pub queue: Option<Duration>,
    /// Silence on both sides, instead of `client` and `server`.
    pub tunnel: Option<Duration>,
    /// Silence of the client after one side has finished.
    pub client_fin: Option<Duration>,
    /// Silence of the server after one side has finished.
    pub server_fin: Option<Duration>,
}

/// How log lines of a section are written and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    /// Own form of the lines (`log-format`).
    pub format: Option<String>,
    /// Structured data for RFC 5424 (`log-format-sd`).
    pub format_sd: Option<String>,
    /// Own form of the lines about connections that failed early (`error-log-format`).
    pub error_format: Option<String>,
    /// Nothing about connections without an error (`option dontlog-normal`).
    pub dontlog_normal: bool,
    /// Write the line before the session's end, with `+` before its numbers (`option logasap`).
    pub logasap: bool,
    /// Errors with level err (`option log-separate-errors`).
    pub separate_errors: bool,
}

/// Times of TCP keep-alive; the kernel's own when unset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Probes without an answer until the connection is given up.
    pub count: Option<u32>,
    /// Silence before the first probe.
    pub idle: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Sessions moved in a time, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebalance {
    /// So many sessions ...
    pub sessions: u32,
    /// ... in this time (a second, a minute or an hour).
    pub period: Duration,
    /// Close those of a server that drains.
    pub on_drain: bool,
    /// Close those that others have too many of after a server has come back.
    pub on_return: bool,
}

/// Where the states of servers are read from at start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ServerStateFile {
    /// Nowhere.
    #[default]
    None,
    /// From the file of all sections (`global`).
    Global,
    /// From a file of the section's own (`local`).
    Local,
}

impl ServerStateFile {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Global => "global",
            Self::Local => "local",
        }
    }
}
