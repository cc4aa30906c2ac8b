//! The command line of `broker` when it runs a node.

use clap::Args;
use daemon::logging::LogArgs;
use std::net::IpAddr;
use std::path::PathBuf;

/// Options of a node. They beat the environment, which beats the file.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct NodeArgs {
    /// Configuration file (TOML)
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
    /// `RABBITMQ_MNESIA_BASE`
    pub(crate) data: Option<PathBuf>,
    /// `RABBITMQ_DEFAULT_USER`
    pub(crate) default_user: Option<String>,
    /// `RABBITMQ_DEFAULT_PASS`
    pub(crate) default_pass: Option<String>,
    /// `RABBITMQ_DEFAULT_VHOST`
    pub(crate) default_vhost: Option<String>,
    /// `XDG_DATA_HOME`, or `$HOME/.local/share`
    pub(crate) data_home: Option<PathBuf>,
    /// The process runs as root.
    pub(crate) root: bool,
    /// The machine's name.
    pub(crate) host: String,
}

impl Environment {
    /// Reads the environment of this process.
    pub(crate) fn read() -> Environment {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Environment {
            node_name: text("RABBITMQ_NODENAME"),
            port: text("RABBITMQ_NODE_PORT"),
            address: text("RABBITMQ_NODE_IP_ADDRESS"),
            data: text("RABBITMQ_MNESIA_BASE").map(PathBuf::from),
            default_user: text("RABBITMQ_DEFAULT_USER"),
            default_pass: text("RABBITMQ_DEFAULT_PASS"),
            default_vhost: text("RABBITMQ_DEFAULT_VHOST"),
            data_home: text("XDG_DATA_HOME")
                .map(PathBuf::from)
                .or_else(|| text("HOME").map(|home| PathBuf::from(home).join(".local/share"))),
            root: daemon::privilege::is_root(),
            host: host_name(),
        }
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment").field("node_name", &self.node_name).finish_non_exhaustive()
    }
}

/// The first label of the machine's name.
fn host_name() -> String {
    let full = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let short = full.split('.').next().unwrap_or_default();
    if short.is_empty() { "localhost".to_owned() } else { short.to_owned() }
}
