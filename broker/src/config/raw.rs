//! `broker.toml` as it is written. [`super::Config`] is what it means.

use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    /// The node itself.
    pub(crate) node: RawNode,
    /// What clients meet.
    pub(crate) amqp: RawAmqp,
    /// How the node meets others.
    pub(crate) cluster: RawCluster,
    /// Web pages and the HTTP API.
    pub(crate) management: RawManagement,
    /// What Prometheus scrapes.
    pub(crate) metrics: RawMetrics,
    /// Log lines.
    pub(crate) log: RawLog,
    /// Bounds of the node.
    pub(crate) limits: RawLimits,
    /// Users that are added when they are missing.
    pub(crate) users: Vec<RawUser>,
    /// Vhosts that are added when they are missing.
    pub(crate) vhosts: Vec<RawVhost>,
}

/// `[node]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawNode {
    /// `rabbit@host`; the host's name unless given, and later the one in the data directory.
    pub(crate) name: Option<Spanned<String>>,
    /// Data directory; `/var/lib/broker` for root, below the home directory for others.
    pub(crate) data: Option<PathBuf>,
    /// `definitions.json` to import when the data directory is new.
    pub(crate) definitions: Option<PathBuf>,
    /// Import it at every start.
    pub(crate) definitions_at_every_start: bool,
}

/// `[amqp]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawAmqp {
    /// Where clients connect; `127.0.0.1:5672`.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// Seconds between heartbeats that are suggested to clients, 0 for none; 60.
    pub(crate) heartbeat: Option<Spanned<i64>>,
    /// Largest frame in octets that is suggested to clients; 131072.
    pub(crate) frame_max: Option<Spanned<i64>>,
    /// Channels of a connection; 2047.
    pub(crate) channel_max: Option<Spanned<i64>>,
    /// Largest message body in octets; 134217728.
    pub(crate) max_message_size: Option<Spanned<i64>>,
    /// Milliseconds a delivery may wait for its acknowledgement, 0 for ever; 1800000.
    pub(crate) consumer_timeout: Option<Spanned<i64>>,
    /// Users who may log in from this host only; `["guest"]`.
    pub(crate) loopback_users: Option<Vec<String>>,
    /// User of a new data directory; `guest`.
    pub(crate) default_user: Option<String>,
    /// That user's password; `guest`.
    pub(crate) default_pass: Option<String>,
    /// Vhost of a new data directory; `/`.
    pub(crate) default_vhost: Option<String>,
    /// That user's tags; `["administrator"]`.
    pub(crate) default_user_tags: Option<Vec<String>>,
    /// What that user may do in that vhost; everything.
    pub(crate) default_permissions: RawDefaultPermissions,
    /// Product that is told to clients; `RabbitMQ`, by which libraries choose what they do.
    pub(crate) product: Option<String>,
    /// Version that is told to clients, x.y.z.
    pub(crate) version: Option<Spanned<String>>,
    /// Name of the cluster that is told to clients; the node's name.
    pub(crate) cluster_name: Option<String>,
    /// With what clients may log in: `PLAIN`, `AMQPLAIN`, `EXTERNAL`.
    pub(crate) auth_mechanisms: Option<Spanned<Vec<String>>>,
    /// Clients come through a proxy that says who they are (`send-proxy`).
    pub(crate) proxy_protocol: bool,
    /// AMQP over TLS, beside plain AMQP.
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// What the default user may do in the default vhost.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDefaultPermissions {
    /// Pattern of what may be declared and deleted.
    pub(crate) configure: Option<Spanned<String>>,
    /// Pattern of what may be published to.
    pub(crate) write: Option<Spanned<String>>,
    /// Pattern of what may be consumed from.
    pub(crate) read: Option<Spanned<String>>,
}

/// `[amqp.tls]` and `[management.tls]`; the names of RabbitMQ's `ssl_options` work too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTls {
    /// Where to listen; port 5671 for AMQP, 15671 for HTTP.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// Our certificate, and those between it and the root.
    #[serde(alias = "certfile")]
    pub(crate) cert: Option<Spanned<PathBuf>>,
    /// Its private key, without a password.
    #[serde(alias = "keyfile")]
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// Who may sign the certificates of clients.
    #[serde(alias = "cacertfile")]
    pub(crate) ca: Option<Spanned<PathBuf>>,
    /// `"peer"`: clients are asked for a certificate; `"none"`.
    pub(crate) verify: Option<Spanned<String>>,
    /// Clients must have a certificate.
    pub(crate) fail_if_no_peer_cert: Option<Spanned<bool>>,
    /// `["tlsv1.3", "tlsv1.2"]`.
    pub(crate) versions: Option<Spanned<Vec<String>>>,
    /// For `[amqp.tls]`: where EXTERNAL takes the name of the user from: `"distinguished_name"`, `"common_name"`, `"subject_alternative_name"`.
    #[serde(alias = "ssl_cert_login_from")]
    pub(crate) cert_login_from: Option<Spanned<String>>,
    /// For `[amqp.tls]`: which alternative name: `"dns"`, `"ip"`, `"email"`, `"uri"`, `"other_name"`.
    #[serde(alias = "ssl_cert_login_san_type")]
    pub(crate) cert_login_san_type: Option<Spanned<String>>,
    /// For `[amqp.tls]`: which of several, from 0.
    #[serde(alias = "ssl_cert_login_san_index")]
    pub(crate) cert_login_san_index: Option<Spanned<i64>>,
}

/// `[cluster]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCluster {
    /// Where other nodes reach this one; the port of AMQP and 20000 more.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// `host` or `host:port` that other nodes are told, when it is not the host of the node's name.
    pub(crate) advertise: Option<Spanned<String>>,
    /// The file with the secret that all nodes share.
    pub(crate) cookie_file: Option<PathBuf>,
    /// Nodes that a node without data joins, such as `"rabbit@A"`.
    pub(crate) peers: Option<Vec<Spanned<String>>>,
    /// What a node does that hears no majority: `"pause_minority"` closes its AMQP port, `"serve_local"` serves queues that are here alone.
    pub(crate) partition_handling: Option<Spanned<String>>,
    /// The node votes and holds no queues.
    pub(crate) witness: Option<Spanned<bool>>,
    /// TLS between the nodes.
    pub(crate) tls: Option<Spanned<RawClusterTls>>,
}

/// `[cluster.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawClusterTls {
    /// Our certificate; `broker ca` makes one.
    #[serde(alias = "certfile")]
    pub(crate) cert: Option<Spanned<PathBuf>>,
    /// Its private key.
    #[serde(alias = "keyfile")]
    pub(crate) key: Option<Spanned<PathBuf>>,
    /// Who signs the certificates of the nodes.
    #[serde(alias = "cacertfile")]
    pub(crate) ca: Option<Spanned<PathBuf>>,
}

/// `[management]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawManagement {
    /// Where to listen; `127.0.0.1:15672`.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// Whether it is there; true.
    pub(crate) enabled: Option<bool>,
    /// The same over TLS.
    pub(crate) tls: Option<Spanned<RawTls>>,
    /// What all paths begin with, for a proxy that leaves it on them: `"/broker"`.
    pub(crate) path_prefix: Option<Spanned<String>>,
    /// Sites whose pages may use the API: `["https://tools.example"]`; none. `"*"`: pages of all sites may read.
    pub(crate) allow_origins: Option<Spanned<Vec<String>>>,
    /// How long a browser remembers that, seconds; 1800.
    pub(crate) cors_max_age: Option<Spanned<i64>>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMetrics {
    /// Where to listen; `127.0.0.1:15692`.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// Whether they are there; true.
    pub(crate) enabled: Option<bool>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    /// `"text"`, `"json"`, or `"auto"`: text, in colour on a terminal.
    pub(crate) format: Option<Spanned<String>>,
    /// `"error"`, `"warn"`, `"info"`, `"debug"`, or a list such as `"info,broker::cluster=debug"`.
    pub(crate) level: Option<String>,
    /// Lines go to standard output; true without a file.
    pub(crate) console: Option<bool>,
    /// A file that lines go to.
    pub(crate) file: Option<PathBuf>,
    /// Where files are whose names say no folder.
    pub(crate) dir: Option<PathBuf>,
    /// When the file is put aside.
    pub(crate) rotation: RawRotation,
}

/// `[log.rotation]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRotation {
    /// At this size.
    pub(crate) size: Option<Spanned<Size>>,
    /// At a time, in RabbitMQ's form: `$D0` is every midnight, `$W5D16` Fridays at 16.
    pub(crate) date: Option<Spanned<String>>,
    /// So many files are kept; 5.
    pub(crate) count: Option<Spanned<i64>>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    /// Connections of clients; 65536.
    pub(crate) max_connections: Option<Spanned<i64>>,
    /// Memory above which publishers are held back: a share of the machine's, or octets; 0.4.
    pub(crate) memory_high_watermark: Option<Spanned<Watermark>>,
    /// Free octets of the disk below which publishers are held back; 50MB.
    pub(crate) disk_free: Option<Spanned<Size>>,
}

/// `[[users]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUser {
    /// Login name.
    pub(crate) name: Spanned<String>,
    /// Password in clear.
    pub(crate) password: Option<String>,
    /// Instead of it: RabbitMQ's salted hash, base64.
    pub(crate) password_hash: Option<Spanned<String>>,
    /// Of the hash, as in definitions: `rabbit_password_hashing_sha256` and its like.
    pub(crate) hashing_algorithm: Option<Spanned<String>>,
    /// `administrator`, `policymaker`, `monitoring`, `management`.
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// What the user may do, by vhost.
    #[serde(default)]
    pub(crate) permissions: Vec<RawPermission>,
}

impl std::fmt::Debug for RawUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// `permissions` of a user.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPermission {
    /// Of which vhost; `/`.
    #[serde(default = "slash")]
    pub(crate) vhost: String,
    /// Pattern of what may be declared and deleted.
    pub(crate) configure: Spanned<String>,
    /// Pattern of what may be published to.
    pub(crate) write: Spanned<String>,
    /// Pattern of what may be consumed from.
    pub(crate) read: Spanned<String>,
}

/// `[[vhosts]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVhost {
    /// Its name.
    pub(crate) name: Spanned<String>,
    /// What it is for.
    #[serde(default)]
    pub(crate) description: String,
}

/// Address:port, or a list.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Addresses {
    One(String),
    Many(Vec<String>),
}

impl Addresses {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            Addresses::One(address) => std::slice::from_ref(address).iter(),
            Addresses::Many(addresses) => addresses.iter(),
        }
    }
}

/// A share of the machine's memory, or octets.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Watermark {
    Share(f64),
    Size(Size),
}

/// Octets, as a number or as `"50MB"`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Size {
    Octets(i64),
    Text(String),
}

impl Size {
    /// How many octets. The units are RabbitMQ's: `kB` and `MB` are decimal, `KiB`, `MiB`, `k`, `M`
    /// and `G` are binary.
    pub(crate) fn octets(&self) -> Option<u64> {
        match self {
            Size::Octets(octets) => u64::try_from(*octets).ok(),
            Size::Text(text) => {
                let text = text.trim();
                let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
                let (number, unit) = text.split_at(digits);
                let unit: u64 = match unit.trim() {
                    "" | "B" => 1,
                    "kB" | "KB" => 1000,
                    "MB" => 1_000_000,
                    "GB" => 1_000_000_000,
                    "k" | "kiB" | "KiB" => 1 << 10,
                    "M" | "MiB" => 1 << 20,
                    "G" | "GiB" => 1 << 30,
                    _ => return None,
                };
                number.parse::<u64>().ok()?.checked_mul(unit)
            }
        }
    }
}

fn slash() -> String {
    "/".to_owned()
}
