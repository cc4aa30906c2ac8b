//! The columns of HAProxy's statistics, version 2.6: names, order, and what kind of value each holds.

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Origin, nature and scope, a letter each, as `show stat typed` gives them.
    pub tags: &'static str,
    /// What it says, in a few words.
    pub about: &'static str,
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
    /// With a fraction; shown with six digits after the point.
    Float(f64),
    /// Text.
    Text(String),
}

impl Value {
    /// The word `show stat typed` and JSON have for its kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::U32(_) => "u32",
            Self::U64(_) => "u64",
            Self::S32(_) => "s32",
            Self::Float(_) => "flt",
            Self::Text(_) => "str",
        }
    }

    /// As a number; 0 when it is none.
    #[must_use]
    pub fn number(&self) -> u64 {
        match self {
            Self::U32(value) => u64::from(*value),
            Self::U64(value) => *value,
            Self::S32(value) => u64::try_from(*value).unwrap_or(0),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float is seconds since 1970 at most"
            )]
            Self::Float(value) => value.max(0.0) as u64,
            Self::None | Self::Text(_) => 0,
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::U32(value) => write!(f, "{value}"),
            Self::U64(value) => write!(f, "{value}"),
            Self::S32(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:.6}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Columns every row has; the position is the number other programs know it by.
pub const FIELDS: &[Field] = &[
    f("pxname", "KNS", "Name of the section"),
    f("svname", "KNS", "FRONTEND, BACKEND, or the name of a server or listener"),
    f("qcur", "MGP", "Connections waiting for a place now"),
    f("qmax", "MMP", "Most connections that waited at one time"),
    f("scur", "MGP", "Sessions now"),
    f("smax", "MMP", "Most sessions at one time"),
    f("slim", "CLP", "Limit of sessions: maxconn, or fullconn of a backend"),
    f("stot", "MCP", "Sessions since the start"),
    f("bin", "MCP", "Bytes from clients"),
    f("bout", "MCP", "Bytes to clients"),
    f("dreq", "MCP", "Requests a rule refused"),
    f("dresp", "MCP", "Responses a rule refused"),
    f("ereq", "MCP", "Requests that were not valid"),
    f("econ", "MCP", "Connections to servers that failed"),
    f("eresp", "MCP", "Errors of servers during transfers"),
    f("wretr", "MCP", "Connection attempts repeated on the same server"),
    f("wredis", "MCP", "Connection attempts that went to another server"),
    f("status", "SGP", "State of the object"),
    f("weight", "MaP", "Weight in effect, or the sum over usable servers"),
    f("act", "SGP", "Active servers that are up"),
    f("bck", "SGP", "Backup servers that are up"),
    f("chkfail", "MCP", "Health checks that failed"),
    f("chkdown", "MCP", "Times it went from up to down"),
    f("lastchg", "MAP", "Seconds since the state last changed"),
    f("downtime", "MCP", "Seconds spent down in all"),
    f("qlimit", "CLS", "Limit of waiting connections (maxqueue)"),
    f("pid", "KGP", "Number of the process, always 1"),
    f("iid", "KGS", "Number of the section"),
    f("sid", "KGS", "Number of the server or listener in its section"),
    f("throttle", "MaP", "Share of weight and maxconn during slowstart, in percent"),
    f("lbtot", "MCP", "Times balancing chose it"),
    f("tracked", "CNS", "The server whose state this one takes"),
    f("type", "CGS", "0 frontend, 1 backend, 2 server, 3 listener"),
    f("rate", "MRP", "Sessions in the last second"),
    f("rate_lim", "CLP", "Limit of sessions in a second"),
    f("rate_max", "MMP", "Most sessions in one second"),
    f("check_status", "MOP", "Result of the last health check"),
    f("check_code", "MOP", "Code the last health check was answered with"),
    f("check_duration", "MDP", "Milliseconds the last health check took"),
    f("hrsp_1xx", "MCP", "HTTP responses with a status of 100 to 199"),
    f("hrsp_2xx", "MCP", "HTTP responses with a status of 200 to 299"),
    f("hrsp_3xx", "MCP", "HTTP responses with a status of 300 to 399"),
    f("hrsp_4xx", "MCP", "HTTP responses with a status of 400 to 499"),
    f("hrsp_5xx", "MCP", "HTTP responses with a status of 500 to 599"),
    f("hrsp_other", "MCP", "HTTP responses with another status"),
    f("hanafail", "MCP", "Failures seen by observing traffic"),
    f("req_rate", "MRP", "HTTP requests in the last second"),
    f("req_rate_max", "MMP", "Most HTTP requests in one second"),
    f("req_tot", "MCP", "HTTP requests since the start"),
    f("cli_abrt", "MCP", "Transfers the client broke off"),
    f("srv_abrt", "MCP", "Transfers the server broke off"),
    f("comp_in", "MCP", "Bytes given to the HTTP compressor"),
    f("comp_out", "MCP", "Bytes the HTTP compressor gave back"),
    f("comp_byp", "MCP", "Bytes that passed the HTTP compressor by"),
    f("comp_rsp", "MCP", "HTTP responses that were compressed"),
    f("lastsess", "MAP", "Seconds since the last session, -1 for never"),
    f("last_chk", "MOP", "What the last health check said"),
    f("last_agt", "MOP", "What the last agent check said"),
    f("qtime", "MaP", "Milliseconds of waiting, mean of the last 1024 connections"),
    f("ctime", "MaP", "Milliseconds of connecting, mean of the last 1024 connections"),
    f("rtime", "MaP", "Milliseconds until a response, mean of the last 1024 connections"),
    f("ttime", "MaP", "Milliseconds of a session, mean of the last 1024 connections"),
    f("agent_status", "MOP", "Result of the last agent check"),
    f("agent_code", "MOP", "Code of the last agent check"),
    f("agent_duration", "MDP", "Milliseconds the last agent check took"),
    f("check_desc", "MOP", "Words for the result of the last health check"),
    f("agent_desc", "MOP", "Words for the result of the last agent check"),
    f("check_rise", "CGS", "Passed checks that bring it up"),
    f("check_fall", "CGS", "Failed checks that take it down"),
    f("check_health", "CGS", "Health from 0 to rise+fall-1"),
    f("agent_rise", "CGS", "Passed agent checks that bring it up"),
    f("agent_fall", "CGS", "Failed agent checks that take it down"),
    f("agent_health", "CGS", "Agent health from 0 to rise+fall-1"),
    f("addr", "CGS", "Address and port"),
    f("cookie", "CNS", "Cookie value of the server"),
    f("mode", "CGS", "tcp or http"),
    f("algo", "CGS", "Balancing algorithm"),
    f("conn_rate", "MRP", "Connections in the last second"),
    f("conn_rate_max", "MMP", "Most connections in one second"),
    f("conn_tot", "MCP", "Connections since the start"),
    f("intercepted", "MCP", "HTTP requests answered here"),
    f("dcon", "MCP", "Connections a rule refused"),
    f("dses", "MCP", "Sessions a rule refused"),
    f("wrew", "MCP", "HTTP header changes that failed"),
    f("connect", "MCP", "Connections to servers that were attempted"),
    f("reuse", "MCP", "Connections to servers that were used again"),
    f("cache_lookups", "MCP", "Lookups in the HTTP cache"),
    f("cache_hits", "MCP", "Lookups the HTTP cache could answer"),
    f("srv_icur", "MGP", "Idle connections kept to the server"),
    f("src_ilim", "CLP", "Limit of idle connections kept"),
    f("qtime_max", "MMP", "Most milliseconds of waiting"),
    f("ctime_max", "MMP", "Most milliseconds of connecting"),
    f("rtime_max", "MMP", "Most milliseconds until a response"),
    f("ttime_max", "MMP", "Most milliseconds of a session"),
    f("eint", "MCP", "Errors of the proxy itself"),
    f("idle_conn_cur", "MGP", "Idle connections that may not be shared"),
    f("safe_conn_cur", "MGP", "Idle connections that may be shared"),
    f("used_conn_cur", "MGP", "Connections in use"),
    f("need_conn_est", "MGP", "Connections that are probably needed"),
    f("uweight", "MaP", "Weight as set, or the sum over usable servers"),
    f("agg_server_status", "MGP", "Servers by state"),
    f("agg_server_check_status", "MGP", "Servers by state"),
    f("agg_check_status", "MGP", "Servers by result of the last check"),
];

/// Columns of HAProxy's TLS, HTTP/2 and HTTP/1 modules, after a column named `-`. The last two groups count
/// things this proxy does not do, so they are 0 where HAProxy shows them for a kind of row.
pub const MODULE_FIELDS: &[Field] = &[
    f("ssl_sess", "MCP", "TLS sessions"),
    f("ssl_reused_sess", "MCP", "TLS sessions that were resumed"),
    f("ssl_failed_handshake", "MCP", "TLS handshakes that failed"),
    f("h2_headers_rcvd", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_data_rcvd", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_settings_rcvd", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_rst_stream_rcvd", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_goaway_rcvd", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_detected_conn_protocol_errors", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_detected_strm_protocol_errors", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_rst_stream_resp", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_goaway_resp", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_open_connections", "MGP", "Not counted: no HTTP/2 is relayed"),
    f("h2_backend_open_streams", "MGP", "Not counted: no HTTP/2 is relayed"),
    f("h2_total_connections", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h2_backend_total_streams", "MCP", "Not counted: no HTTP/2 is relayed"),
    f("h1_open_connections", "MGP", "Not counted: no HTTP/1 is relayed"),
    f("h1_open_streams", "MGP", "Not counted: no HTTP/1 is relayed"),
    f("h1_total_connections", "MCP", "Not counted: no HTTP/1 is relayed"),
    f("h1_total_streams", "MCP", "Not counted: no HTTP/1 is relayed"),
    f("h1_bytes_in", "MCP", "Not counted: no HTTP/1 is relayed"),
    f("h1_bytes_out", "MCP", "Not counted: no HTTP/1 is relayed"),
    f("h1_spliced_bytes_in", "MCP", "Not counted: no HTTP/1 is relayed"),
    f("h1_spliced_bytes_out", "MCP", "Not counted: no HTTP/1 is relayed"),
];

/// Columns that are tagged otherwise in the rows of backends.
pub const BACKEND_FIELDS: &[Field] = &[
    f("act", "MGP", "Active servers that are up"),
    f("bck", "MGP", "Backup servers that are up"),
    f("rate", "MGP", "Sessions in the last second"),
    f("rate_max", "MGP", "Most sessions in one second"),
];

/// How many of [`MODULE_FIELDS`] servers and listeners have: those of TLS.
pub const TLS_FIELDS: usize = 3;

const fn f(name: &'static str, tags: &'static str, about: &'static str) -> Field {
    Field { name, tags, about }
}

/// The position of a column. Unknown names do not exist: callers use constants.
#[must_use]
pub fn position(name: &str) -> Option<usize> {
    FIELDS.iter().position(|field| field.name == name)
}
