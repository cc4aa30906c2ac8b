//! Names and types of the metrics, as HAProxy 2.6's own exporter has them, and where each value comes from.

use Form::{Answers, Check, Checks, Http, Milliseconds, Plain, Servers, Status};
use Kind::{Counter, Gauge};

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Goes up and down.
    Gauge,
    /// Only goes up.
    Counter,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Gauge => "gauge",
            Counter => "counter",
        }
    }
}

/// How a column becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is; `NaN` when there is none.
    Plain,
    /// As it is, of sections with `mode http` only.
    Http,
    /// Milliseconds shown as seconds.
    Milliseconds,
    /// One sample for each state, 1 for the present one.
    Status,
    /// One sample for each result of a check, 1 for the last one.
    Check,
    /// One sample for each class of HTTP status.
    Answers,
    /// One sample for each state: how many servers are in it.
    Servers,
    /// One sample for each result of a check: how many servers had it.
    Checks,
}

/// Name, type, column, form.
type Metric = (&'static str, Kind, &'static str, Form);

/// `haproxy_process_*`: name, type, item of `show info`.
pub(super) const PROCESS: &[(&str, Kind, &str)] = &[
    ("nbthread", Gauge, "Nbthread"),
    ("nbproc", Gauge, "Nbproc"),
    ("relative_process_id", Gauge, "Process_num"),
    ("uptime_seconds", Gauge, "Uptime_sec"),
    ("pool_failures_total", Counter, "PoolFailed"),
    ("max_fds", Gauge, "Ulimit-n"),
    ("max_sockets", Gauge, "Maxsock"),
    ("max_connections", Gauge, "Maxconn"),
    ("hard_max_connections", Gauge, "Hard_maxconn"),
    ("current_connections", Gauge, "CurrConns"),
    ("connections_total", Counter, "CumConns"),
    ("requests_total", Counter, "CumReq"),
    ("max_ssl_connections", Gauge, "MaxSslConns"),
    ("current_ssl_connections", Gauge, "CurrSslConns"),
    ("ssl_connections_total", Counter, "CumSslConns"),
    ("max_pipes", Gauge, "Maxpipes"),
    ("pipes_used_total", Counter, "PipesUsed"),
    ("pipes_free_total", Counter, "PipesFree"),
    ("current_connection_rate", Gauge, "ConnRate"),
    ("limit_connection_rate", Gauge, "ConnRateLimit"),
    ("max_connection_rate", Gauge, "MaxConnRate"),
    ("current_session_rate", Gauge, "SessRate"),
    ("limit_session_rate", Gauge, "SessRateLimit"),
    ("max_session_rate", Gauge, "MaxSessRate"),
    ("current_ssl_rate", Gauge, "SslRate"),
    ("limit_ssl_rate", Gauge, "SslRateLimit"),
    ("max_ssl_rate", Gauge, "MaxSslRate"),
    ("current_frontend_ssl_key_rate", Gauge, "SslFrontendKeyRate"),
    ("max_frontend_ssl_key_rate", Gauge, "SslFrontendMaxKeyRate"),
    ("frontend_ssl_reuse", Gauge, "SslFrontendSessionReuse_pct"),
    ("current_backend_ssl_key_rate", Gauge, "SslBackendKeyRate"),
    ("max_backend_ssl_key_rate", Gauge, "SslBackendMaxKeyRate"),
    ("ssl_cache_lookups_total", Counter, "SslCacheLookups"),
    ("ssl_cache_misses_total", Counter, "SslCacheMisses"),
    ("http_comp_bytes_in_total", Counter, "CompressBpsIn"),
    ("http_comp_bytes_out_total", Counter, "CompressBpsOut"),
    ("limit_http_comp", Gauge, "CompressBpsRateLim"),
    ("current_zlib_memory", Gauge, "ZlibMemUsage"),
    ("max_zlib_memory", Gauge, "MaxZlibMemUsage"),
    ("current_tasks", Gauge, "Tasks"),
    ("current_run_queue", Gauge, "Run_queue"),
    ("idle_time_percent", Gauge, "Idle_pct"),
    ("stopping", Gauge, "Stopping"),
    ("jobs", Gauge, "Jobs"),
    ("unstoppable_jobs", Gauge, "Unstoppable Jobs"),
    ("listeners", Gauge, "Listeners"),
    ("active_peers", Gauge, "ActivePeers"),
    ("connected_peers", Gauge, "ConnectedPeers"),
    ("dropped_logs_total", Counter, "DroppedLogs"),
    ("busy_polling_enabled", Gauge, "BusyPolling"),
    ("failed_resolutions", Counter, "FailedResolutions"),
    ("bytes_out_total", Counter, "TotalBytesOut"),
    ("spliced_bytes_out_total", Counter, "TotalSplicdedBytesOut"),
    ("bytes_out_rate", Gauge, "BytesOutRate"),
    ("recv_logs_total", Counter, "CumRecvLogs"),
    ("build_info", Gauge, "Build info"),
    ("max_memory_bytes", Gauge, "Memmax_bytes"),
    ("pool_allocated_bytes", Gauge, "PoolAlloc_bytes"),
    ("pool_used_bytes", Gauge, "PoolUsed_bytes"),
    ("start_time_seconds", Gauge, "Start_time_sec"),
];

/// Who waits.
const QUEUE: &[Metric] = &[("current_queue", Gauge, "qcur", Plain), ("max_queue", Gauge, "qmax", Plain)];

/// Sessions and bytes.
const SESSIONS: &[Metric] = &[
    ("current_sessions", Gauge, "scur", Plain),
    ("max_sessions", Gauge, "smax", Plain),
    ("limit_sessions", Gauge, "slim", Plain),
    ("sessions_total", Counter, "stot", Plain),
    ("bytes_in_total", Counter, "bin", Plain),
    ("bytes_out_total", Counter, "bout", Plain),
];

/// What went wrong on the way to a server, and the state.
const FAILURES: &[Metric] = &[
    ("connection_errors_total", Counter, "econ", Plain),
    ("response_errors_total", Counter, "eresp", Plain),
    ("retry_warnings_total", Counter, "wretr", Plain),
    ("redispatch_warnings_total", Counter, "wredis", Plain),
    ("status", Gauge, "status", Status),
    ("weight", Gauge, "weight", Plain),
];

/// Being down.
const DOWN: &[Metric] = &[
    ("check_up_down_total", Counter, "chkdown", Plain),
    ("check_last_change_seconds", Gauge, "lastchg", Plain),
    ("downtime_seconds_total", Counter, "downtime", Plain),
];

/// Compression of HTTP.
const COMPRESSION: &[Metric] = &[
    ("http_comp_bytes_in_total", Counter, "comp_in", Http),
    ("http_comp_bytes_out_total", Counter, "comp_out", Http),
    ("http_comp_bytes_bypassed_total", Counter, "comp_byp", Http),
    ("http_comp_responses_total", Counter, "comp_rsp", Http),
];

/// Sessions that ended early.
const ABORTS: &[Metric] = &[
    ("client_aborts_total", Counter, "cli_abrt", Plain),
    ("server_aborts_total", Counter, "srv_abrt", Plain),
];

/// The last session, average times, connections.
const TIMES: &[Metric] = &[
    ("last_session_seconds", Gauge, "lastsess", Plain),
    ("queue_time_average_seconds", Gauge, "qtime", Milliseconds),
    ("connect_time_average_seconds", Gauge, "ctime", Milliseconds),
    ("response_time_average_seconds", Gauge, "rtime", Milliseconds),
    ("total_time_average_seconds", Gauge, "ttime", Milliseconds),
    ("failed_header_rewriting_total", Counter, "wrew", Plain),
    ("connection_attempts_total", Counter, "connect", Plain),
    ("connection_reuses_total", Counter, "reuse", Plain),
];

/// The cache of HTTP.
const CACHE: &[Metric] = &[
    ("http_cache_lookups_total", Counter, "cache_lookups", Http),
    ("http_cache_hits_total", Counter, "cache_hits", Http),
];

/// The longest times.
const WORST_TIMES: &[Metric] = &[
    ("max_queue_time_seconds", Gauge, "qtime_max", Milliseconds),
    ("max_connect_time_seconds", Gauge, "ctime_max", Milliseconds),
    ("max_response_time_seconds", Gauge, "rtime_max", Milliseconds),
    ("max_total_time_seconds", Gauge, "ttime_max", Milliseconds),
    ("internal_errors_total", Counter, "eint", Plain),
];

/// `haproxy_frontend_*`.
pub(super) const FRONTEND: &[&[Metric]] = &[
    SESSIONS,
    &[
        ("requests_denied_total", Counter, "dreq", Plain),
        ("responses_denied_total", Counter, "dresp", Plain),
        ("request_errors_total", Counter, "ereq", Plain),
        ("status", Gauge, "status", Status),
        ("limit_session_rate", Gauge, "rate_lim", Plain),
        ("max_session_rate", Gauge, "rate_max", Plain),
        ("http_responses_total", Counter, "hrsp_1xx", Answers),
        ("http_requests_rate_max", Gauge, "req_rate_max", Http),
        ("http_requests_total", Counter, "req_tot", Http),
    ],
    COMPRESSION,
    &[
        ("connections_rate_max", Gauge, "conn_rate_max", Plain),
        ("connections_total", Counter, "conn_tot", Plain),
        ("intercepted_requests_total", Counter, "intercepted", Http),
        ("denied_connections_total", Counter, "dcon", Plain),
        ("denied_sessions_total", Counter, "dses", Plain),
        ("failed_header_rewriting_total", Counter, "wrew", Plain),
    ],
    CACHE,
    &[("internal_errors_total", Counter, "eint", Plain)],
];

/// `haproxy_backend_*`.
pub(super) const BACKEND: &[&[Metric]] = &[
    QUEUE,
    SESSIONS,
    &[("requests_denied_total", Counter, "dreq", Plain), ("responses_denied_total", Counter, "dresp", Plain)],
    FAILURES,
    &[("active_servers", Gauge, "act", Plain), ("backup_servers", Gauge, "bck", Plain)],
    DOWN,
    &[
        ("loadbalanced_total", Counter, "lbtot", Plain),
        ("max_session_rate", Gauge, "rate_max", Plain),
        ("http_responses_total", Counter, "hrsp_1xx", Answers),
        ("http_requests_total", Counter, "req_tot", Http),
    ],
    ABORTS,
    COMPRESSION,
    TIMES,
    CACHE,
    WORST_TIMES,
    &[
        ("uweight", Gauge, "uweight", Plain),
        ("agg_server_status", Gauge, "agg_server_status", Servers),
        ("agg_server_check_status", Gauge, "agg_server_check_status", Servers),
        ("agg_check_status", Gauge, "agg_check_status", Checks),
    ],
];

/// `haproxy_server_*`.
pub(super) const SERVER: &[&[Metric]] = &[
    QUEUE,
    SESSIONS,
    &[("responses_denied_total", Counter, "dresp", Plain)],
    FAILURES,
    &[("check_failures_total", Counter, "chkfail", Plain)],
    DOWN,
    &[
        ("queue_limit", Gauge, "qlimit", Plain),
        ("current_throttle", Gauge, "throttle", Plain),
        ("loadbalanced_total", Counter, "lbtot", Plain),
        ("max_session_rate", Gauge, "rate_max", Plain),
        ("check_status", Gauge, "check_status", Check),
        ("check_code", Gauge, "check_code", Plain),
        ("check_duration_seconds", Gauge, "check_duration", Milliseconds),
    ],
    ABORTS,
    TIMES,
    &[
        ("idle_connections_current", Gauge, "srv_icur", Plain),
        ("idle_connections_limit", Gauge, "src_ilim", Plain),
    ],
    WORST_TIMES,
    &[
        ("unsafe_idle_connections_current", Gauge, "idle_conn_cur", Plain),
        ("safe_idle_connections_current", Gauge, "safe_conn_cur", Plain),
        ("used_connections_current", Gauge, "used_conn_cur", Plain),
        ("need_connections_current", Gauge, "need_conn_est", Plain),
        ("uweight", Gauge, "uweight", Plain),
    ],
];
