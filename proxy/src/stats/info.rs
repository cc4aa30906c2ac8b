//! What the process says about itself: `show info`, the top of the page, the `haproxy_process_*` metrics.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{SystemTime, UNIX_EPOCH};

use super::field::Value;
use super::gauge;
use crate::counters::Moment;
use crate::process::Process;

/// The name programs know the product by; HAProxy's, so that they go on working.
pub const PRODUCT: &str = "HAProxy";

/// The version shown: the one of HAProxy whose interfaces these are, and our own.
pub const VERSION: &str = concat!("2.6.12-warren", env!("CARGO_PKG_VERSION"));

/// One line of `show info`.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its number in HAProxy's list.
    pub position: u32,
    /// Its name.
    pub name: &'static str,
    /// Origin, nature and scope, a letter each.
    pub tags: &'static str,
    /// The value.
    pub value: Value,
    /// What it says, in a few words.
    pub about: &'static str,
}

/// The whole list. With `float`, times have a fraction.
#[must_use]
pub fn items(process: &Process, float: bool) -> Vec<Item> {
    let facts = Facts::of(process, float);
    let mut items = about_process(&facts);
    items.extend(about_limits(&facts));
    items.extend(about_connections(&facts));
    items.extend(about_tls(&facts));
    items.extend(about_work(&facts));
    items
}

/// The item of that name.
#[must_use]
pub fn find<'a>(items: &'a [Item], name: &str) -> Option<&'a Item> {
    items.iter().find(|item| item.name == name)
}

const fn item(
    position: u32,
    name: &'static str,
    tags: &'static str,
    value: Value,
    about: &'static str,
) -> Item {
    Item { position, name, tags, value, about }
}

/// `1d 2h03m04s`
#[must_use]
pub fn uptime(seconds: u64) -> String {
    format!("{}d {}h{:02}m{:02}s", seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// What was measured, before it is given names.
struct Facts {
    pid: u32,
    threads: u32,
    seconds: Value,
    uptime: String,
    began: Value,
    memory: u64,
    open_files: u32,
    maxconn: u32,
    hard_maxconn: u32,
    current: u32,
    total: u32,
    requests: u32,
    rate: u32,
    rate_max: u32,
    tasks: u32,
    idle: u32,
    node: String,
    stopping: bool,
    listeners: u32,
    dropped_logs: u32,
    bytes_out: u64,
    bytes_out_rate: u64,
    cpu_waiting: u32,
    connection_rate_limit: u32,
    session_rate_limit: u32,
    tls_rate_limit: u32,
    tls_limit: u32,
    tls_current: u32,
}

impl Facts {
    fn of(process: &Process, float: bool) -> Self {
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let counters = &process.counters;
        let age = process.started.elapsed();
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(age);
        let measured = gauge::Gauge::read(process);
        let time = |time: std::time::Duration| match float {
            true => Value::Float(time.as_secs_f64()),
            false => Value::U32(small(time.as_secs())),
        };
        Self {
            pid: std::process::id(),
            threads: small(process.threads as u64),
            seconds: time(age),
            uptime: uptime(age.as_secs()),
            began: time(began),
            memory: gauge::resident_memory(),
            open_files: small(process.open_files()),
            maxconn: process.maxconn(),
            hard_maxconn: process.hard_maxconn(),
            current: counters.current.load(Relaxed),
            total: small(counters.total.load(Relaxed)),
            requests: small(measured.requests),
            rate: counters.rate.read(Moment::since(process.started)),
            rate_max: counters.rate_max.load(Relaxed),
            tasks: measured.tasks,
            idle: measured.idle_percent,
            node: node(process),
            stopping: measured.stopping,
            listeners: measured.listeners,
            dropped_logs: small(crate::syslog::DROPPED.load(Relaxed)),
            bytes_out: measured.bytes_out,
            bytes_out_rate: measured.bytes_out_rate,
            cpu_waiting: measured.pending,
            connection_rate_limit: process.paces.connections.limit(),
            session_rate_limit: process.paces.sessions.limit(),
            tls_rate_limit: process.paces.tls.limit(),
            tls_limit: process.global().maxsslconn.unwrap_or(0),
            tls_current: process.tls_places.used(),
        }
    }
}

/// The name of this host as the configuration has it, else as the system has it.
#[must_use]
pub fn node(process: &Process) -> String {
    process.global().node.clone().unwrap_or_else(|| crate::syslog::host_name().to_owned())
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn about_process(facts: &Facts) -> Vec<Item> {
    vec![
        item(0, "Name", "POS", text(PRODUCT), "Name of the product"),
        item(1, "Version", "POS", text(VERSION), "Version of the product"),
        item(2, "Release_date", "POS", text(RELEASE_DATE), "Date of the version"),
        item(3, "Nbthread", "CGS", Value::U32(facts.threads), "Threads that were started"),
        item(4, "Nbproc", "CGS", Value::U32(1), "Processes that were started, always 1"),
        item(5, "Process_num", "KGP", Value::U32(1), "Number of this process, always 1"),
        item(6, "Pid", "SGP", Value::U32(facts.pid), "The system's number of this process"),
        item(7, "Uptime", "MDP", text(facts.uptime.clone()), "Time since the start"),
        item(8, "Uptime_sec", "MDP", facts.seconds.clone(), "Seconds since the start"),
    ]
}

/// Of the version whose interfaces these are.
const RELEASE_DATE: &str = "2023/03/28";

fn about_limits(facts: &Facts) -> Vec<Item> {
    let megabytes = u32::try_from(facts.memory >> 20).unwrap_or(u32::MAX);
    vec![
        item(9, "Memmax_MB", "CLP", Value::U32(0), "Limit of memory in MiB, 0 for none"),
        item(10, "PoolAlloc_MB", "MGP", Value::U32(megabytes), "Memory in use in MiB"),
        item(11, "PoolUsed_MB", "MGP", Value::U32(megabytes), "Memory in use in MiB"),
        item(12, "PoolFailed", "MCP", Value::U32(0), "Requests for memory that failed"),
        item(13, "Ulimit-n", "CLP", Value::U32(facts.open_files), "Limit of open files"),
        item(14, "Maxsock", "CLP", Value::U32(facts.open_files), "Limit of sockets"),
        item(15, "Maxconn", "CLP", Value::U32(facts.maxconn), "Limit of connections"),
        item(
            16,
            "Hard_maxconn",
            "CLP",
            Value::U32(facts.hard_maxconn),
            "Highest limit of connections that can be set",
        ),
    ]
}

fn about_connections(facts: &Facts) -> Vec<Item> {
    vec![
        item(17, "CurrConns", "MGP", Value::U32(facts.current), "Connections now"),
        item(18, "CumConns", "MCP", Value::U32(facts.total), "Connections since the start"),
        item(19, "CumReq", "MCP", Value::U32(facts.requests), "Requests since the start"),
        item(20, "MaxSslConns", "MMP", Value::U32(facts.tls_limit), "Limit of TLS connections, 0 for none"),
        item(21, "CurrSslConns", "MGP", Value::U32(facts.tls_current), "TLS connections now"),
        item(22, "CumSslConns", "MCP", Value::U32(0), "TLS connections since the start"),
        item(23, "Maxpipes", "CLP", Value::U32(0), "Limit of pipes for splicing, 0 for none"),
        item(24, "PipesUsed", "MGP", Value::U32(0), "Pipes in use"),
        item(25, "PipesFree", "MGP", Value::U32(0), "Pipes kept for later"),
        item(26, "ConnRate", "MRP", Value::U32(facts.rate), "Connections in the last second"),
        item(
            27,
            "ConnRateLimit",
            "CLP",
            Value::U32(facts.connection_rate_limit),
            "Limit of connections in a second, 0 for none",
        ),
        item(28, "MaxConnRate", "MMP", Value::U32(facts.rate_max), "Most connections in one second"),
        item(29, "SessRate", "MRP", Value::U32(facts.rate), "Sessions in the last second"),
        item(
            30,
            "SessRateLimit",
            "CLP",
            Value::U32(facts.session_rate_limit),
            "Limit of sessions in a second, 0 for none",
        ),
        item(31, "MaxSessRate", "MRP", Value::U32(facts.rate_max), "Most sessions in one second"),
    ]
}

fn about_tls(facts: &Facts) -> Vec<Item> {
    let zero = || Value::U32(0);
    vec![
        item(32, "SslRate", "MRP", zero(), "TLS connections in the last second"),
        item(
            33,
            "SslRateLimit",
            "CLP",
            Value::U32(facts.tls_rate_limit),
            "Limit of TLS connections in a second, 0 for none",
        ),
        item(34, "MaxSslRate", "MMP", zero(), "Most TLS connections in one second"),
        item(35, "SslFrontendKeyRate", "MGP", zero(), "TLS keys towards clients in the last second"),
        item(36, "SslFrontendMaxKeyRate", "MMP", zero(), "Most TLS keys towards clients in one second"),
        item(
            37,
            "SslFrontendSessionReuse_pct",
            "MGP",
            zero(),
            "TLS sessions of clients that were resumed, in percent",
        ),
        item(38, "SslBackendKeyRate", "MRP", zero(), "TLS keys towards servers in the last second"),
        item(39, "SslBackendMaxKeyRate", "MMP", zero(), "Most TLS keys towards servers in one second"),
        item(40, "SslCacheLookups", "MCP", zero(), "Lookups of TLS sessions"),
        item(41, "SslCacheMisses", "MCP", zero(), "Lookups of TLS sessions that found none"),
        item(42, "CompressBpsIn", "MRP", zero(), "Bytes given to the HTTP compressor in the last second"),
        item(43, "CompressBpsOut", "MRP", zero(), "Bytes the HTTP compressor gave in the last second"),
        item(44, "CompressBpsRateLim", "CLP", zero(), "Limit of the HTTP compressor, 0 for none"),
    ]
}

fn about_work(facts: &Facts) -> Vec<Item> {
    let connections = facts.current + facts.listeners;
    vec![
        item(47, "Tasks", "MGP", Value::U32(facts.tasks), "Tasks, at work or waiting"),
        item(48, "Run_queue", "MGP", Value::U32(facts.cpu_waiting), "Connections that wait for a server"),
        item(
            49,
            "Idle_pct",
            "MaP",
            Value::U32(facts.idle),
            "Share of the last second the threads were idle, in percent",
        ),
        item(50, "node", "COS", text(facts.node.clone()), "Name of this host"),
        item(52, "Stopping", "MGP", Value::U32(u32::from(facts.stopping)), "1 while the process finishes"),
        item(53, "Jobs", "MGP", Value::U32(connections), "Connections and listeners"),
        item(54, "Unstoppable Jobs", "MGP", Value::U32(0), "Connections that do not end by a stop"),
        item(55, "Listeners", "MGP", Value::U32(facts.listeners), "Listeners that accept"),
        item(56, "ActivePeers", "MGP", Value::U32(0), "Connections to peers that work"),
        item(57, "ConnectedPeers", "MGP", Value::U32(0), "Connections to peers"),
        item(58, "DroppedLogs", "MGP", Value::U32(facts.dropped_logs), "Log lines that could not be sent"),
        item(59, "BusyPolling", "MGP", Value::U32(0), "1 while threads poll without sleeping"),
        item(60, "FailedResolutions", "MGP", Value::U32(0), "Names that could not be resolved"),
        item(
            61,
            "TotalBytesOut",
            "MGP",
            Value::U64(facts.bytes_out),
            "Bytes sent to clients since the start",
        ),
        item(62, "TotalSplicdedBytesOut", "MGP", Value::U64(0), "Bytes of those that went through a pipe"),
        item(
            63,
            "BytesOutRate",
            "MRP",
            Value::U64(facts.bytes_out_rate),
            "Bytes sent to clients in the last second",
        ),
        item(64, "DebugCommandsIssued", "MGP", Value::U32(0), "Commands for debugging that were given"),
        item(65, "CumRecvLogs", "MCP", Value::U32(0), "Log lines received"),
        item(66, "Build info", "POS", text(VERSION), "Version of the product"),
        item(67, "Memmax_bytes", "CLP", Value::U32(0), "Limit of memory in bytes, 0 for none"),
        item(68, "PoolAlloc_bytes", "MGP", Value::U64(facts.memory), "Memory in use in bytes"),
        item(69, "PoolUsed_bytes", "MGP", Value::U64(facts.memory), "Memory in use in bytes"),
        item(
            70,
            "Start_time_sec",
            "MDP",
            facts.began.clone(),
            "When the process began, in seconds since 1970",
        ),
        item(71, "Tainted", "SGP", text("0"), "Whether something unusual was done to the process"),
    ]
}
