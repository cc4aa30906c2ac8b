//! The command line of `broker` when it runs a node.

use super::cluster::PeerName;
use clap::Args;
use daemon::logging::LogArgs;
use std::net::IpAddr;
use std::path::PathBuf;

/// Options of a node. They beat the environment, which beats the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NodeArgs {
    /// Configuration file: broker.toml, or a rabbitmq.conf
    #[arg(short = 'c', long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Node name, such as rabbit@host
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
    /// AMQP port (0: any free one)
    #[arg(short = 'p', long, value_name = "PORT")]
    pub(crate) port: Option<u16>,
    /// Port of the HTTP API and the web page (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) management_port: Option<u16>,
    /// Port for Prometheus (0: any free one)
    #[arg(long, value_name = "PORT")]
    pub(crate) metrics_port: Option<u16>,
    /// Address to listen on, for AMQP and HTTP
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) bind: Option<IpAddr>,
    /// Keep everything in memory; nothing is left when the node stops
    #[arg(long, conflicts_with = "data")]
    pub(crate) ephemeral: bool,
    /// Check the configuration and stop
    #[arg(long)]
    pub(crate) check: bool,
    /// Logging
    #[command(flatten)]
    pub(crate) log: LogArgs,
    /// The node is a witness of the cluster in which these are
    #[arg(skip)]
    pub(crate) witness_of: Vec<PeerName>,
}

/// Options of `broker witness`: those of a node, and whom it joins.
#[derive(Debug, Clone, Args)]
pub(crate) struct WitnessArgs {
    /// A node of the cluster, such as rabbit@A or A:25672; may be given several times
    #[arg(long, value_name = "NODE", required = true, value_parser = peer)]
    join: Vec<PeerName>,
    #[command(flatten)]
    node: NodeArgs,
}

impl WitnessArgs {
    /// The node that it is.
    pub(crate) fn node(self) -> NodeArgs {
        NodeArgs { witness_of: self.join, ..self.node }
    }
}

fn peer(text: &str) -> Result<PeerName, String> {
    PeerName::parse(text).ok_or_else(|| "write rabbit@host, or host:25672".to_owned())
}

/// What the environment says, under the names people know from RabbitMQ.
#[derive(Clone, Default)]
pub(crate) struct Environment {
    /// `RABBITMQ_NODENAME`
    pub(crate) node_name: Option<String>,
    /// `RABBITMQ_NODE_PORT`
    pub(crate) port: Option<String>,
    /// `RABBITMQ_NODE_IP_ADDRESS`
    pub(crate) address: Option<String>,
    /// `RABBITMQ_MNESIA_DIR` or `RABBITMQ_MNESIA_BASE`
    pub(crate) data: Option<PathBuf>,
    /// `RABBITMQ_DEFAULT_USER`
    pub(crate) default_user: Option<String>,
    /// `RABBITMQ_DEFAULT_PASS`
    pub(crate) default_pass: Option<String>,
    /// `RABBITMQ_DEFAULT_VHOST`
    pub(crate) default_vhost: Option<String>,
    /// `XDG_DATA_HOME`, or `$HOME/.local/share`
    pub(crate) data_home: Option<PathBuf>,
    /// `RABBITMQ_CONFIG_FILE`; its `.conf` may be left out
    pub(crate) config: Option<PathBuf>,
    /// `RABBITMQ_DEFAULT_USER_TAGS`, with commas
    pub(crate) default_user_tags: Option<Vec<String>>,
    /// `RABBITMQ_VM_MEMORY_HIGH_WATERMARK` of the container image
    pub(crate) memory_high_watermark: Option<String>,
    /// `RABBITMQ_SSL_…` of the container image: the options of TLS
    pub(crate) ssl: Vec<(&'static str, String)>,
    /// `RABBITMQ_DIST_PORT`
    pub(crate) cluster_port: Option<String>,
    /// `RABBITMQ_ERLANG_COOKIE`; not to be logged
    pub(crate) cookie: Option<String>,
    /// `HOME`
    pub(crate) home: Option<PathBuf>,
    /// `RABBITMQ_PID_FILE`
    pub(crate) pid_file: Option<PathBuf>,
    /// `RABBITMQ_LOGS`: a file, or `-` for standard output
    pub(crate) logs: Option<String>,
    /// `RABBITMQ_LOG_BASE`: where log files are
    pub(crate) log_base: Option<PathBuf>,
    /// The process runs as root.
    pub(crate) root: bool,
    /// The machine's name.
    pub(crate) host: String,
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Environment {
        Environment::of(|name| std::env::var(name).ok())
    }

    /// What variables say, each by its name; one that is empty is as good as none.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Environment {
        let text = |name: &str| variable(name).filter(|value| !value.is_empty());
        // The container image: a file that holds it. One that can not be read leaves the default in place,
        // with which nobody but this host can log in.
        let secret = |name: &str| {
            let held = std::fs::read_to_string(text(name)?).ok()?;
            Some(held.trim_end_matches(['\r', '\n']).to_owned())
        };
        let long_names = text("RABBITMQ_USE_LONGNAME").is_some_and(|word| word == "true");
        let full_name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Environment {
            node_name: text("RABBITMQ_NODENAME"),
            port: text("RABBITMQ_NODE_PORT"),
            address: text("RABBITMQ_NODE_IP_ADDRESS"),
            data: text("RABBITMQ_MNESIA_DIR").or_else(|| text("RABBITMQ_MNESIA_BASE")).map(PathBuf::from),
            default_user: text("RABBITMQ_DEFAULT_USER").or_else(|| secret("RABBITMQ_DEFAULT_USER_FILE")),
            default_pass: text("RABBITMQ_DEFAULT_PASS").or_else(|| secret("RABBITMQ_DEFAULT_PASS_FILE")),
            default_vhost: text("RABBITMQ_DEFAULT_VHOST"),
            data_home: text("XDG_DATA_HOME")
                .map(PathBuf::from)
                .or_else(|| text("HOME").map(|home| PathBuf::from(home).join(".local/share"))),
            config: text("RABBITMQ_CONFIG_FILE").map(PathBuf::from),
            default_user_tags: text("RABBITMQ_DEFAULT_USER_TAGS")
                .map(|tags| tags.split(',').map(|tag| tag.trim().to_owned()).collect()),
            memory_high_watermark: text("RABBITMQ_VM_MEMORY_HIGH_WATERMARK"),
            ssl: SSL_OPTIONS
                .iter()
                .filter_map(|name| Some((*name, text(&format!("RABBITMQ_SSL_{name}"))?)))
                .collect(),
            cluster_port: text("RABBITMQ_DIST_PORT"),
            cookie: text("RABBITMQ_ERLANG_COOKIE"),
            home: text("HOME").map(PathBuf::from),
            pid_file: text("RABBITMQ_PID_FILE").map(PathBuf::from),
            logs: text("RABBITMQ_LOGS"),
            log_base: text("RABBITMQ_LOG_BASE").map(PathBuf::from),
            root: daemon::privilege::is_root(),
            host: host_name(&full_name.unwrap_or_default(), long_names),
        }
    }
}

impl Environment {
    /// The file that `RABBITMQ_CONFIG_FILE` names.
    pub(crate) fn config_file(&self) -> Option<PathBuf> {
        let named = self.config.as_ref()?;
        let with_end = PathBuf::from(format!("{}.conf", named.display()));
        Some(if !named.exists() && with_end.exists() { with_end } else { named.clone() })
    }
}

/// What may stand behind `RABBITMQ_SSL_`.
const SSL_OPTIONS: &[&str] = &["CACERTFILE", "CERTFILE", "KEYFILE", "VERIFY", "FAIL_IF_NO_PEER_CERT"];

/// Variables whose values are no secrets, as `os_env` shows them.
pub(crate) const SHOWN_VARIABLES: &[&str] = &[
    "RABBITMQ_NODENAME",
    "RABBITMQ_NODE_PORT",
    "RABBITMQ_NODE_IP_ADDRESS",
    "RABBITMQ_MNESIA_DIR",
    "RABBITMQ_MNESIA_BASE",
    "RABBITMQ_CONFIG_FILE",
    "RABBITMQ_DEFAULT_USER",
    "RABBITMQ_DEFAULT_USER_TAGS",
    "RABBITMQ_DEFAULT_VHOST",
    "RABBITMQ_VM_MEMORY_HIGH_WATERMARK",
    "RABBITMQ_USE_LONGNAME",
    "RABBITMQ_DIST_PORT",
    "RABBITMQ_PID_FILE",
    "RABBITMQ_LOGS",
    "RABBITMQ_LOG_BASE",
];

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// The first label of the machine's name, or all of it.
fn host_name(full: &str, long: bool) -> String {
    let name = if long { full } else { full.split('.').next().unwrap_or_default() };
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::host_name;

    #[test]
    fn long_names_are_whole_and_short_ones_are_the_first_label() {
        assert_eq!(host_name("a.example.org", true), "a.example.org");
        assert_eq!(host_name("a.example.org", false), "a");
        assert_eq!(host_name("", true), "localhost");
    }
}
