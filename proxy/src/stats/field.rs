//! The columns of HAProxy's statistics, version 2.6: names, order, and what kind of value each holds.

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Origin, nature and scope, a letter each, as `show stat typed` gives them.
    pub tags: &'static str,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing: this kind of row has no such value.
    #[default]
    None,
    /// 32 bits.
    U32(u32),
    /// 64 bits.
    U64(u64),
    /// 32 bits, signed.
    S32(i32),
    /// Text.
    Text(String),
}

/// Columns every row has; the position is the number other programs know it by.
pub const FIELDS: &[Field] = &[
    f("pxname", "KNS"),
    f("svname", "KNS"),
    f("qcur", "MGP"),
    f("qmax", "MMP"),
    f("scur", "MGP"),
    f("smax", "MMP"),
    f("slim", "CLP"),
    f("stot", "MCP"),
    f("bin", "MCP"),
    f("bout", "MCP"),
    f("dreq", "MCP"),
    f("dresp", "MCP"),
    f("ereq", "MCP"),
    f("econ", "MCP"),
    f("eresp", "MCP"),
    f("wretr", "MCP"),
    f("wredis", "MCP"),
    f("status", "SGP"),
    f("weight", "MaP"),
    f("act", "SGP"),
    f("bck", "SGP"),
    f("chkfail", "MCP"),
    f("chkdown", "MCP"),
    f("lastchg", "MAP"),
    f("downtime", "MCP"),
    f("qlimit", "CLS"),
    f("pid", "KGP"),
    f("iid", "KGS"),
    f("sid", "KGS"),
    f("throttle", "MaP"),
    f("lbtot", "MCP"),
    f("tracked", "CNS"),
    f("type", "CGS"),
    f("rate", "MRP"),
    f("rate_lim", "CLP"),
    f("rate_max", "MMP"),
    f("check_status", "MOP"),
    f("check_code", "MOP"),
    f("check_duration", "MDP"),
    f("hrsp_1xx", "MCP"),
    f("hrsp_2xx", "MCP"),
    f("hrsp_3xx", "MCP"),
    f("hrsp_4xx", "MCP"),
    f("hrsp_5xx", "MCP"),
    f("hrsp_other", "MCP"),
    f("hanafail", "MCP"),
    f("req_rate", "MRP"),
    f("req_rate_max", "MMP"),
    f("req_tot", "MCP"),
    f("cli_abrt", "MCP"),
    f("srv_abrt", "MCP"),
    f("comp_in", "MCP"),
    f("comp_out", "MCP"),
    f("comp_byp", "MCP"),
    f("comp_rsp", "MCP"),
    f("lastsess", "MAP"),
    f("last_chk", "MOP"),
    f("last_agt", "MOP"),
    f("qtime", "MaP"),
    f("ctime", "MaP"),
    f("rtime", "MaP"),
    f("ttime", "MaP"),
    f("agent_status", "MOP"),
    f("agent_code", "MOP"),
    f("agent_duration", "MDP"),
    f("check_desc", "MOP"),
    f("agent_desc", "MOP"),
    f("check_rise", "CGS"),
    f("check_fall", "CGS"),
    f("check_health", "CGS"),
    f("agent_rise", "CGS"),
    f("agent_fall", "CGS"),
    f("agent_health", "CGS"),
    f("addr", "CGS"),
    f("cookie", "CNS"),
    f("mode", "CGS"),
    f("algo", "CGS"),
    f("conn_rate", "MRP"),
    f("conn_rate_max", "MMP"),
    f("conn_tot", "MCP"),
    f("intercepted", "MCP"),
    f("dcon", "MCP"),
    f("dses", "MCP"),
    f("wrew", "MCP"),
    f("connect", "MCP"),
    f("reuse", "MCP"),
    f("cache_lookups", "MCP"),
    f("cache_hits", "MCP"),
    f("srv_icur", "MGP"),
    f("src_ilim", "CLP"),
    f("qtime_max", "MMP"),
    f("ctime_max", "MMP"),
    f("rtime_max", "MMP"),
    f("ttime_max", "MMP"),
    f("eint", "MCP"),
    f("idle_conn_cur", "MGP"),
    f("safe_conn_cur", "MGP"),
    f("used_conn_cur", "MGP"),
    f("need_conn_est", "MGP"),
    f("uweight", "MaP"),
    f("agg_server_status", "MGP"),
    f("agg_server_check_status", "MGP"),
    f("agg_check_status", "MGP"),
];

/// Columns of HAProxy's TLS, HTTP/2 and HTTP/1 modules, after a column named `-`. They count things this
/// proxy does not do, so they are 0 where HAProxy shows them for a kind of row.
pub const MODULE_FIELDS: &[&str] = &[
    "ssl_sess",
    "ssl_reused_sess",
    "ssl_failed_handshake",
    "h2_headers_rcvd",
    "h2_data_rcvd",
    "h2_settings_rcvd",
    "h2_rst_stream_rcvd",
    "h2_goaway_rcvd",
    "h2_detected_conn_protocol_errors",
    "h2_detected_strm_protocol_errors",
    "h2_rst_stream_resp",
    "h2_goaway_resp",
    "h2_open_connections",
    "h2_backend_open_streams",
    "h2_total_connections",
    "h2_backend_total_streams",
    "h1_open_connections",
    "h1_open_streams",
    "h1_total_connections",
    "h1_total_streams",
    "h1_bytes_in",
    "h1_bytes_out",
    "h1_spliced_bytes_in",
    "h1_spliced_bytes_out",
];

const fn f(name: &'static str, tags: &'static str) -> Field {
    Field { name, tags }
}

/// The position of a column. Unknown names do not exist: callers use constants.
#[must_use]
pub fn position(name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.name == name)
}
