//! Settings of the process: the `global` section.

use std::path::PathBuf;
use std::time::Duration;

use super::bind::{Bind, UnixSocket};
use super::log::LogSink;
use super::tls::TlsDefaults;

/// Settings of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// Sockets that take commands (`stats socket`).
    pub stats_sockets: Vec<StatsSocket>,
    /// Silence after which a connection to a stats socket is closed (`stats timeout`).
    pub stats_timeout: Duration,
    /// Most connections to the stats sockets at one time (`stats maxconn`).
    pub stats_maxconn: u32,
    /// Most connections the process accepts at one time.
    pub maxconn: Option<u32>,
    /// Most connections accepted in a second (`maxconnrate`).
    pub maxconnrate: Option<u32>,
    /// Most sessions begun in a second (`maxsessrate`).
    pub maxsessrate: Option<u32>,
    /// Most TLS connections at one time (`maxsslconn`).
    pub maxsslconn: Option<u32>,
    /// Most TLS handshakes in a second (`maxsslrate`).
    pub maxsslrate: Option<u32>,
    /// Most pipes for `splice` (`maxpipes`).
    pub maxpipes: Option<u32>,
    /// Never move bytes by `splice` (`nosplice`).
    pub nosplice: bool,
    /// Open listening sockets without SO_REUSEPORT (`noreuseport`).
    pub noreuseport: bool,
    /// Worker threads; one per core when unset.
    pub nbthread: Option<usize>,
    /// Bind each worker thread to a processor of its own when there are as many of both
    /// (`numa-cpu-mapping`, on unless `no numa-cpu-mapping` or `cpu-map`).
    pub bind_threads: bool,
    /// Limit of open files to ask for.
    pub ulimit_n: Option<u64>,
    /// Do not start when a limit cannot be set (`strict-limits`, on unless `no strict-limits`).
    pub strict_limits: bool,
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
    /// `master-worker`, `-W`: here one process does both jobs.
    pub master_worker: bool,
    /// File to write the process id to.
    pub pidfile: Option<PathBuf>,
    /// Where log lines go for sections with `log global`.
    pub logs: Vec<LogSink>,
    /// Program name in log lines.
    pub log_tag: Option<String>,
    /// Host name in log lines (`log-send-hostname`); an empty text is the name of this host.
    pub log_send_hostname: Option<String>,
    /// Name of this host on the statistics page.
    pub node: Option<String>,
    /// Text on the statistics page.
    pub description: Option<String>,
    /// Name of this process among `peers`.
    pub localpeer: Option<String>,
    /// Random share (percent, 0 to 50) added to or taken from check intervals.
    pub spread_checks: u32,
    /// Longest time the first checks are spread over.
    pub max_spread_checks: Option<Duration>,
    /// After this long a soft stop becomes an immediate one.
    pub hard_stop_after: Option<Duration>,
    /// Time between a soft stop and the closing of listeners (`grace`).
    pub grace: Option<Duration>,
    /// During a soft stop, idle connections are closed spread over this time (`close-spread-time`).
    pub close_spread_time: Option<Duration>,
    /// Directory of state files with relative names.
    pub server_state_base: Option<PathBuf>,
    /// File with the states of all servers (`server-state-file`).
    pub server_state_file: Option<PathBuf>,
    /// File that remembers servers that are added at run time (`runtime-servers-file`; not in HAProxy).
    pub runtime_servers_file: Option<PathBuf>,
    /// Directory of CA files with relative names.
    pub ca_base: Option<PathBuf>,
    /// Directory of certificates with relative names.
    pub crt_base: Option<PathBuf>,
    /// What TLS starts from (`ssl-default-bind-*`, `ssl-default-server-*`).
    pub tls: TlsDefaults,
    /// What unix sockets start from (`unix-bind`).
    pub unix_bind: UnixSocket,
    /// Text before every unix socket's path (`unix-bind prefix`).
    pub unix_bind_prefix: Option<String>,
    /// Programs may be started by checks (`external-check`).
    pub external_check: bool,
    /// Say nothing at start (`quiet`).
    pub quiet: bool,
    /// Refuse to start when there is a warning (`zero-warning`).
    pub zero_warning: bool,
    /// Values of `tune.*` that mean something here.
    pub tune: Tune,
}

impl Default for Global {
    fn default() -> Self {
        Self {
            stats_sockets: Vec::new(),
            stats_timeout: Duration::from_secs(10),
            stats_maxconn: 10,
            maxconn: None,
            maxconnrate: None,
            maxsessrate: None,
            maxsslconn: None,
            maxsslrate: None,
            maxpipes: None,
            nosplice: false,
            noreuseport: false,
            nbthread: None,
            bind_threads: true,
            ulimit_n: None,
            strict_limits: true,
            user: None,
            group: None,
            uid: None,
            gid: None,
            chroot: None,
            daemon: false,
            master_worker: false,
            pidfile: None,
            logs: Vec::new(),
            log_tag: None,
            log_send_hostname: None,
            node: None,
            description: None,
            localpeer: None,
            spread_checks: 0,
            max_spread_checks: None,
            hard_stop_after: None,
            grace: None,
            close_spread_time: None,
            server_state_base: None,
            server_state_file: None,
            runtime_servers_file: None,
            ca_base: None,
            crt_base: None,
            tls: TlsDefaults::default(),
            unix_bind: UnixSocket::default(),
            unix_bind_prefix: None,
            external_check: false,
            quiet: false,
            zero_warning: false,
            tune: Tune::default(),
        }
    }
}

impl Global {
    /// The state file of all servers, with `server-state-base` before a relative name.
    #[must_use]
    pub fn state_file(&self) -> Option<PathBuf> {
        let file = self.server_state_file.as_ref()?;
        Some(match &self.server_state_base {
            Some(base) => base.join(file),
            None => file.clone(),
        })
    }
}

/// Values of `tune.*` that mean something here; the others concern HAProxy's own machinery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tune {
    /// Bytes read at once per connection (`tune.bufsize`).
    pub bufsize: Option<u32>,
    /// Connections accepted in a row (`tune.maxaccept`); `None` when unset or -1.
    pub maxaccept: Option<u32>,
    /// Bytes of a pipe for `splice` (`tune.pipesize`).
    pub pipesize: Option<u32>,
    /// SO_RCVBUF towards clients.
    pub rcvbuf_client: Option<u32>,
    /// SO_RCVBUF towards servers.
    pub rcvbuf_server: Option<u32>,
    /// SO_SNDBUF towards clients.
    pub sndbuf_client: Option<u32>,
    /// SO_SNDBUF towards servers.
    pub sndbuf_server: Option<u32>,
}

/// A socket that takes commands (`stats socket`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatsSocket {
    /// Address and the options it shares with `bind`.
    pub bind: Bind,
    /// What its users may do.
    pub level: Level,
    /// Listening sockets may be fetched through it (`expose-fd listeners`).
    pub expose_fd: bool,
}

/// What the users of a stats socket may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// See what harms nobody.
    User,
    /// See everything and change what cannot hurt.
    #[default]
    Operator,
    /// Everything.
    Admin,
}

impl Level {
    /// HAProxy's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}
