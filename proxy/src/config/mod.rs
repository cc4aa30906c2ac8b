//! What the proxy is told to do, in one checked form that both file formats are turned into.
//!
//! [`Config`] is the form the rest of the program sees. `haproxy_cfg` and `toml` read the two file
//! formats into it, [`validate`] looks for contradictions between its parts.

pub mod address;
pub mod duration;
pub mod haproxy_cfg;
pub mod rules;
pub mod toml;
pub mod validate;

use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon::diagnostic::{Diagnostic, Diagnostics};

use self::address::{BindAddress, ServerAddress};

/// Everything the proxy is told to do.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Settings of the process.
    pub global: Global,
    /// `listen`, `frontend` and `backend` sections in the order of the file.
    pub proxies: Vec<ProxyConfig>,
}

impl Config {
    /// The number (`iid`) of the next section. HAProxy counts from 1; a stats socket takes the first number.
    pub fn next_id(&self) -> u32 {
        let before = self.proxies.len() + usize::from(self.global.stats_socket);
        u32::try_from(before).unwrap_or(u32::MAX - 1) + 1
    }
}

/// Settings of the process.
#[derive(Debug, Clone, Default)]
pub struct Global {
    /// A `stats socket` is asked for.
    pub stats_socket: bool,
    /// Most connections the process accepts at one time.
    pub maxconn: Option<u32>,
    /// Worker threads; one per core when unset.
    pub nbthread: Option<usize>,
    /// Limit of open files to ask for.
    pub ulimit_n: Option<u64>,
    /// User to become after start.
    pub user: Option<String>,
    /// Group to become after start.
    pub group: Option<String>,
    /// Numeric user, used when `user` is not given or unknown.
    pub uid: Option<u32>,
    /// Numeric group, used when `group` is not given or unknown.
    pub gid: Option<u32>,
    /// Directory to enter for good after start.
    pub chroot: Option<PathBuf>,
    /// Go to the background.
    pub daemon: bool,
    /// File to write the process id to.
    pub pidfile: Option<PathBuf>,
    /// Where log lines go for sections with `log global`.
    pub logs: Vec<LogSink>,
    /// Program name in log lines.
    pub log_tag: Option<String>,
    /// Name of this host on the statistics page.
    pub node: Option<String>,
    /// Text on the statistics page.
    pub description: Option<String>,
    /// Random share (percent, 0 to 50) added to or taken from check intervals.
    pub spread_checks: u32,
    /// Longest time the first checks are spread over.
    pub max_spread_checks: Option<Duration>,
    /// After this long a soft stop becomes an immediate one.
    pub hard_stop_after: Option<Duration>,
}

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFraming {
    /// `<134>Nov 22 14:36:06 haproxy[1255]: text` (RFC 3164 without the host).
    Rfc3164,
    /// `<134>1 2026-11-22T14:36:06.664+00:00 host haproxy 1255 - - text`.
    Rfc5424,
    /// `<6>text`, as systemd reads it.
    Short,
    /// The text alone.
    Raw,
}

/// Which kind of section it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Frontend and backend in one.
    Listen,
    /// Accepts only.
    Frontend,
    /// Connects only.
    Backend,
}

/// What travels through a section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Bytes.
    #[default]
    Tcp,
    /// HTTP; here only for the statistics page.
    Http,
}

/// A place in a file, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The file as the user named it.
    pub file: String,
    /// Line from 1; 0 when unknown.
    pub line: usize,
    /// Column from 1.
    pub column: usize,
    /// Text of the line.
    pub text: String,
    /// Marked characters.
    pub length: usize,
}

impl Place {
    /// Puts a remark at this place.
    #[must_use]
    pub fn mark(&self, remark: Diagnostic) -> Diagnostic {
        remark.in_file(&self.file).at(self.line, self.column, &self.text, self.length)
    }
}

/// One `listen`, `frontend` or `backend` section.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// Its name.
    pub name: String,
    /// Its number on the statistics page; the first is 2, as HAProxy counts itself as 1.
    pub id: u32,
    /// Which kind of section it was.
    pub kind: Kind,
    /// Where it begins.
    pub place: Place,
    /// Addresses to accept on.
    pub binds: Vec<Bind>,
    /// Servers to connect to.
    pub servers: Vec<ServerConfig>,
    /// What can also stand in `defaults`.
    pub settings: Settings,
    /// Tests by name.
    pub acls: Vec<(String, rules::Test)>,
    /// Who may come in.
    pub client_rules: Vec<rules::ClientRule>,
    /// Who goes to another backend than the default one.
    pub backend_rules: Vec<rules::BackendRule>,
}

impl ProxyConfig {
    /// Whether it accepts connections.
    #[must_use]
    pub fn has_frontend(&self) -> bool {
        self.kind != Kind::Backend
    }

    /// Whether it can have servers.
    #[must_use]
    pub fn has_backend(&self) -> bool {
        self.kind != Kind::Frontend
    }
}

/// What can stand in `defaults` and in every section.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What travels through it.
    pub mode: Mode,
    /// How a server is chosen.
    pub balance: Algorithm,
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
    /// Where log lines go.
    pub logs: Vec<LogSink>,
    /// `log global`: also where the process sends its lines.
    pub log_global: bool,
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
    /// Use all backup servers together when no other is left.
    pub allbackups: bool,
    /// Move bulk data inside the kernel (`splice`).
    pub splice: bool,
    /// What a health check does.
    pub check: CheckKind,
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
            timeouts: Timeouts::default(),
            server_timeout_place: None,
            retries: 3,
            redispatch: None,
            maxconn: None,
            fullconn: None,
            logs: Vec::new(),
            log_global: false,
            tcplog: false,
            httplog: false,
            dontlognull: false,
            log_health_checks: false,
            client_keepalive: false,
            server_keepalive: false,
            allbackups: false,
            splice: true,
            check: CheckKind::Tcp,
            default_backend: None,
            default_server: ServerOptions::default(),
            stats: StatsConfig::default(),
            description: None,
            disabled: false,
        }
    }
}

/// How a server is chosen (`balance`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Each in turn, by weight.
    RoundRobin,
    /// As round robin; weights never change at run time.
    StaticRoundRobin,
    /// The one with fewest connections for its weight.
    LeastConn,
    /// The first one that is not full.
    First,
    /// By a hash of the client's address.
    Source,
    /// The less loaded of N drawn at random.
    Random(u32),
}

impl Algorithm {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::StaticRoundRobin => "static-rr",
            Self::LeastConn => "leastconn",
            Self::First => "first",
            Self::Source => "source",
            Self::Random(_) => "random",
        }
    }

    /// Whether it would give another server when asked again, so that nothing holds a client to one.
    #[must_use]
    pub fn is_free_to_move(self) -> bool {
        self != Self::Source
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

/// What a health check does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// Connects and resets.
    #[default]
    Tcp,
    /// Sends the AMQP 0-9-1 protocol header and waits for Connection.Start.
    Amqp,
}

/// An address to accept on.
#[derive(Debug, Clone)]
pub struct Bind {
    /// The address.
    pub address: BindAddress,
    /// Its name on the statistics page.
    pub name: Option<String>,
    /// Only through this interface.
    pub interface: Option<String>,
    /// `v6only` / `v4v6`.
    pub v6only: Option<bool>,
    /// Length of the accept queue.
    pub backlog: Option<u32>,
    /// `transparent`.
    pub transparent: bool,
    /// Most connections through this address.
    pub maxconn: Option<u32>,
    /// Where it stands in the file.
    pub place: Place,
}

/// A server to connect to.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its name.
    pub name: String,
    /// Its number inside the section, from 1.
    pub id: u32,
    /// Where it is.
    pub address: ServerAddress,
    /// Everything else.
    pub options: ServerOptions,
    /// Where it stands in the file.
    pub place: Place,
}

/// What a `server` line says after the address; `default-server` gives the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Run health checks.
    pub check: bool,
    /// Time between checks.
    pub inter: Duration,
    /// Time between checks while going up or down.
    pub fastinter: Option<Duration>,
    /// Time between checks while down.
    pub downinter: Option<Duration>,
    /// Passed checks that bring a server up.
    pub rise: u32,
    /// Failed checks that take a server down.
    pub fall: u32,
    /// Share of connections, 0 to 256.
    pub weight: u32,
    /// Only used when no other server is left.
    pub backup: bool,
    /// Most connections at one time.
    pub maxconn: Option<u32>,
    /// Most connections that wait for this server.
    pub maxqueue: Option<u32>,
    /// Start in maintenance.
    pub disabled: bool,
    /// Port to check instead.
    pub check_port: Option<u16>,
    /// Address to check instead.
    pub check_address: Option<ServerAddress>,
    /// Tell the server the client's address (PROXY protocol version 1 or 2).
    pub send_proxy: Option<ProxyProtocol>,
    /// What the check does, when different from the section.
    pub check_kind: Option<CheckKind>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            check: false,
            inter: Duration::from_secs(2),
            fastinter: None,
            downinter: None,
            rise: 2,
            fall: 3,
            weight: 1,
            backup: false,
            maxconn: None,
            maxqueue: None,
            disabled: false,
            check_port: None,
            check_address: None,
            send_proxy: None,
            check_kind: None,
        }
    }
}

/// Version of the PROXY protocol header sent to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// The line of text.
    V1,
    /// The binary header.
    V2,
}

/// The statistics page of a section.
#[derive(Clone, PartialEq, Eq)]
pub struct StatsConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Its path.
    pub uri: String,
    /// The browser reloads it this often.
    pub refresh: Option<Duration>,
    /// `user:password` pairs; none means open to all.
    pub auth: Vec<(String, String)>,
    /// Name of the protected area.
    pub realm: Option<String>,
    /// Do not show the version.
    pub hide_version: bool,
    /// Who may change states of servers.
    pub admin: StatsAdmin,
    /// Show this node name.
    pub show_node: Option<Option<String>>,
    /// Show this text.
    pub show_desc: Option<Option<String>>,
    /// Show addresses and cookies.
    pub show_legends: bool,
}

impl std::fmt::Debug for StatsConfig {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatsConfig")
            .field("enabled", &self.enabled)
            .field("uri", &self.uri)
            .field("refresh", &self.refresh)
            .field("users", &self.auth.len())
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            uri: DEFAULT_STATS_URI.to_owned(),
            refresh: None,
            auth: Vec::new(),
            realm: None,
            hide_version: false,
            admin: StatsAdmin::Never,
            show_node: None,
            show_desc: None,
            show_legends: false,
        }
    }
}

/// The path of the statistics page when none is given.
pub const DEFAULT_STATS_URI: &str = "/monitor";

/// Who may change states of servers on the statistics page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatsAdmin {
    /// Nobody.
    Never,
    /// Whoever may see the page.
    Always,
    /// Clients on this host.
    Localhost,
}

/// Reads several files into one configuration. A directory stands for its `*.cfg` files in order.
///
/// # Errors
/// All mistakes of all files.
pub fn load(paths: &[PathBuf]) -> Result<(Config, Diagnostics), Diagnostics> {
    let mut remarks = Diagnostics::new();
    let mut config = Config::default();
    let mut reader = haproxy_cfg::Reader::default();
    for path in expand(paths, &mut remarks) {
        let text = match daemon::config::read_text(&path) {
            Ok(text) => text,
            Err(error) => {
                remarks.extend(error);
                continue;
            }
        };
        let file = path.display().to_string();
        if is_toml(&path, &text) {
            match toml::read(&text, &file, &mut config) {
                Ok(found) => remarks.extend(found),
                Err(found) => remarks.extend(found),
            }
        } else {
            reader.read(&text, &file, &mut config, &mut remarks);
        }
    }
    validate::validate(&mut config, &mut remarks);
    remarks.sort();
    if remarks.has_errors() { Err(remarks) } else { Ok((config, remarks)) }
}

fn expand(paths: &[PathBuf], remarks: &mut Diagnostics) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        inside.retain(|file| {
            file.extension().is_some_and(|extension| extension == "cfg" || extension == "toml")
        });
        inside.sort();
        if inside.is_empty() {
            remarks.push(Diagnostic::error(
                "empty-directory",
                format!("no *.cfg or *.toml file in {}", path.display()),
            ));
        }
        files.extend(inside);
    }
    files
}

/// Tells TOML from haproxy.cfg: by the extension, else by the first line with content.
fn is_toml(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => return true,
        Some("cfg") => return false,
        _ => {}
    }
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .is_some_and(|line| line.starts_with('[') || (line.contains('=') && !line.starts_with("server ")))
}
