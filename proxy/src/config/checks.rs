//! What health checks do: `option *chk`, `option *-check`, `tcp-check` and `http-check` rules.

use super::address::ServerAddress;

/// What a health check does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects and resets.
    #[default]
    Tcp,
    /// Follows the `tcp-check` rules (`option tcp-check`); without rules as `Tcp`.
    Script,
    /// Sends the AMQP 0-9-1 protocol header and waits for Connection.Start.
    Amqp,
    /// Asks over HTTP and follows the `http-check` rules (`option httpchk`).
    Http,
    /// Reads MySQL's greeting, logs in when a user is given (`option mysql-check`).
    Mysql,
    /// Sends PostgreSQL's startup message (`option pgsql-check`).
    Pgsql,
    /// Sends PING to Redis (`option redis-check`).
    Redis,
    /// Binds to LDAP without a name (`option ldap-check`).
    Ldap,
    /// Greets a mail server (`option smtpchk`).
    Smtp,
    /// Sends a TLS client hello and waits for the server's (`option ssl-hello-chk`).
    SslHello,
    /// Runs a program (`option external-check`).
    External,
}

impl CheckKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Tcp,
        Self::Script,
        Self::Amqp,
        Self::Http,
        Self::Mysql,
        Self::Pgsql,
        Self::Redis,
        Self::Ldap,
        Self::Smtp,
        Self::SslHello,
        Self::External,
    ];

    /// Its name in TOML.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Script => "script",
            Self::Amqp => "amqp",
            Self::Http => "http",
            Self::Mysql => "mysql",
            Self::Pgsql => "pgsql",
            Self::Redis => "redis",
            Self::Ldap => "ldap",
            Self::Smtp => "smtp",
            Self::SslHello => "ssl-hello",
            Self::External => "external",
        }
    }

    /// Whether a check goes on after the connection is there, so that `timeout check` counts.
    #[must_use]
    pub fn talks(self) -> bool {
        self != Self::Tcp
    }
}

/// What the kinds of checks need to know, and the rules of scripted ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckSettings {
    /// `tcp-check` rules in order.
    pub tcp_rules: Vec<CheckRule>,
    /// `option httpchk` and the `http-check` rules.
    pub http: HttpCheck,
    /// `option mysql-check [user NAME [post-41|pre-41]]`.
    pub mysql: MysqlCheck,
    /// `option pgsql-check user NAME`.
    pub pgsql_user: String,
    /// `option smtpchk [HELLO DOMAIN]`.
    pub smtp: SmtpCheck,
    /// `external-check command` and `external-check path`.
    pub external: ExternalCheck,
}

/// How MySQL is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MysqlCheck {
    /// User to log in as; only the greeting is read without one.
    pub user: Option<String>,
    /// Use the protocol from before MySQL 4.1.
    pub pre_41: bool,
}

/// How a mail server is greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpCheck {
    /// `HELO` or `EHLO`.
    pub hello: String,
    /// The name given.
    pub domain: String,
}

impl Default for SmtpCheck {
    fn default() -> Self {
        Self { hello: "HELO".to_owned(), domain: "localhost".to_owned() }
    }
}

/// The program of an external check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalCheck {
    /// The program.
    pub command: Option<String>,
    /// Its PATH.
    pub path: Option<String>,
}

/// How servers are asked over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpCheck {
    /// The request of the `option httpchk` line; `http-check send` adds to it.
    pub request: HttpRequest,
    /// `http-check` rules in order, `disable-on-404` and `send-state` apart.
    pub rules: Vec<CheckRule>,
    /// An answer of 404 takes a server that is up out of balancing (`disable-on-404`).
    pub disable_on_404: bool,
    /// Tell the server its state in a header (`send-state`).
    pub send_state: bool,
}

/// A request over HTTP; what is `None` keeps what was said before it, or the default
/// (`OPTIONS / HTTP/1.0`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRequest {
    /// Method.
    pub method: Option<String>,
    /// Path.
    pub uri: Option<String>,
    /// Version, `HTTP/1.0` or `HTTP/1.1`.
    pub version: Option<String>,
    /// Headers in order.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Option<String>,
}

/// One step of a scripted check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckRule {
    /// Connects (again).
    Connect(Box<CheckConnect>),
    /// Sends bytes (`tcp-check send`, `send-binary`).
    Send {
        /// The bytes.
        data: Vec<u8>,
        /// Text for the log when the check fails here.
        comment: Option<String>,
    },
    /// Sends a request (`http-check send`).
    Request {
        /// The request.
        request: HttpRequest,
        /// Text for the log when the check fails here.
        comment: Option<String>,
    },
    /// Waits for an answer.
    Expect(Box<Expect>),
    /// Text for the log when the check fails after this (`tcp-check comment`).
    Comment(String),
}

/// `tcp-check connect`, `http-check connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckConnect {
    /// Use the server's own settings for what is not given (`default`).
    pub default: bool,
    /// Host instead of the checked one.
    pub address: Option<ServerAddress>,
    /// Port instead of the checked one.
    pub port: Option<u16>,
    /// Speak TLS.
    pub ssl: bool,
    /// Server name to ask for.
    pub sni: Option<String>,
    /// Protocols offered.
    pub alpn: Vec<String>,
    /// Begin with a PROXY protocol header.
    pub send_proxy: bool,
    /// Close with FIN instead of a reset.
    pub linger: bool,
    /// Text for the log when the check fails here.
    pub comment: Option<String>,
}

/// `tcp-check expect`, `http-check expect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expect {
    /// The pattern must not be there (`!`).
    pub negated: bool,
    /// What is looked for.
    pub pattern: ExpectPattern,
    /// Bytes to wait for before the answer is looked at; -1 waits for the end (`min-recv`).
    pub min_recv: Option<i32>,
    /// Status when it is the last rule and is met (`ok-status`).
    pub ok_status: Option<CheckStatusWord>,
    /// Status when it is not met (`error-status`).
    pub error_status: Option<CheckStatusWord>,
    /// Status when no answer comes (`tout-status`).
    pub tout_status: Option<CheckStatusWord>,
    /// Text when it is met and last (`on-success`).
    pub on_success: Option<String>,
    /// Text when it is not met (`on-error`).
    pub on_error: Option<String>,
    /// Text for the log when the check fails here.
    pub comment: Option<String>,
}

impl Expect {
    /// Waits for a pattern, with nothing else said.
    #[must_use]
    pub fn new(negated: bool, pattern: ExpectPattern) -> Self {
        Self {
            negated,
            pattern,
            min_recv: None,
            ok_status: None,
            error_status: None,
            tout_status: None,
            on_success: None,
            on_error: None,
            comment: None,
        }
    }
}

/// What an answer is searched for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpectPattern {
    /// These bytes (`string`, `binary`). For `http-check` in the body.
    Bytes(Vec<u8>),
    /// A match of this regular expression (`rstring`).
    Regex(String),
    /// A match of this regular expression in the answer as hexadecimal digits (`rbinary`).
    BinaryRegex(String),
    /// A status of HTTP in one of these ranges (`status 200-399,404`).
    Status(Vec<(u16, u16)>),
    /// A status of HTTP that matches (`rstatus`).
    StatusRegex(String),
}

/// The status a rule asks for (`L7OK`, `L7OKC`, `L6OK`, `L4OK`, `L7RSP`, `L7STS`, `L7TOUT`, `L6RSP`,
/// `L6TOUT`, `L4CON`, `L4TOUT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckStatusWord {
    /// Layer 7 passed.
    L7Ok,
    /// Layer 7 passed on a condition: no new connections.
    L7OkC,
    /// Layer 6 passed.
    L6Ok,
    /// Layer 4 passed.
    L4Ok,
    /// Invalid answer on layer 7.
    L7Rsp,
    /// Answer with an error on layer 7.
    L7Sts,
    /// No answer in time on layer 7.
    L7Tout,
    /// Invalid answer on layer 6.
    L6Rsp,
    /// No answer in time on layer 6.
    L6Tout,
    /// Connection failed.
    L4Con,
    /// Connection not there in time.
    L4Tout,
}

impl CheckStatusWord {
    /// All of them with HAProxy's words.
    pub const WORDS: [(&'static str, Self); 11] = [
        ("L7OK", Self::L7Ok),
        ("L7OKC", Self::L7OkC),
        ("L6OK", Self::L6Ok),
        ("L4OK", Self::L4Ok),
        ("L7RSP", Self::L7Rsp),
        ("L7STS", Self::L7Sts),
        ("L7TOUT", Self::L7Tout),
        ("L6RSP", Self::L6Rsp),
        ("L6TOUT", Self::L6Tout),
        ("L4CON", Self::L4Con),
        ("L4TOUT", Self::L4Tout),
    ];

    /// The status of this name.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(name, _)| *name == word).map(|(_, status)| *status)
    }

    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(_, status)| *status == self).map_or("", |(name, _)| name)
    }
}

/// Reads hexadecimal digits; `None` when they are not, or odd in number.
#[must_use]
pub fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// Writes bytes as hexadecimal digits.
#[must_use]
pub fn to_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads `200`, `200-399`, `200,204-206`.
#[must_use]
pub fn parse_status_ranges(text: &str) -> Option<Vec<(u16, u16)>> {
    text.split(',')
        .map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            let (low, high) = (low.parse().ok()?, high.parse().ok()?);
            (low <= high && high <= 999).then_some((low, high))
        })
        .collect()
}

/// What is wrong with a regular expression of a check.
#[must_use]
pub fn regex_error(text: &str) -> Option<String> {
    fancy_regex::Regex::new(text).err().map(|error| error.to_string())
}
