//! `broker.toml` as it is written. [`super::Config`] is what it means.

use serde::Deserialize;
use std::path::PathBuf;
use toml::Spanned;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawConfig {
    pub(crate) node: RawNode,
    pub(crate) amqp: RawAmqp,
    pub(crate) cluster: RawCluster,
    pub(crate) management: RawManagement,
    pub(crate) metrics: RawMetrics,
    pub(crate) log: RawLog,
    pub(crate) limits: RawLimits,
    pub(crate) users: Vec<RawUser>,
    pub(crate) vhosts: Vec<RawVhost>,
}

/// `[node]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawNode {
    /// `rabbit@host`.
    pub(crate) name: Option<Spanned<String>>,
    /// Data directory.
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
    pub(crate) listen: Option<Spanned<Addresses>>,
    pub(crate) heartbeat: Option<Spanned<i64>>,
    pub(crate) frame_max: Option<Spanned<i64>>,
    pub(crate) channel_max: Option<Spanned<i64>>,
    pub(crate) max_message_size: Option<Spanned<i64>>,
    /// Milliseconds, as in RabbitMQ; 0 for none.
    pub(crate) consumer_timeout: Option<Spanned<i64>>,
    pub(crate) loopback_users: Option<Vec<String>>,
    pub(crate) default_user: Option<String>,
    pub(crate) default_pass: Option<String>,
    pub(crate) default_vhost: Option<String>,
    pub(crate) default_user_tags: Option<Vec<String>>,
    pub(crate) default_permissions: RawDefaultPermissions,
    pub(crate) product: Option<String>,
    pub(crate) version: Option<Spanned<String>>,
    pub(crate) cluster_name: Option<String>,
    pub(crate) auth_mechanisms: Option<Spanned<Vec<String>>>,
    /// Clients come through a proxy that says who they are.
    pub(crate) proxy_protocol: bool,
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// What the default user may do in the default vhost.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawDefaultPermissions {
    pub(crate) configure: Option<Spanned<String>>,
    pub(crate) write: Option<Spanned<String>>,
    pub(crate) read: Option<Spanned<String>>,
}

/// `[amqp.tls]` and `[management.tls]`; the names of RabbitMQ's `ssl_options` work too.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawTls {
    pub(crate) listen: Option<Spanned<Addresses>>,
    #[serde(alias = "certfile")]
    pub(crate) cert: Option<Spanned<PathBuf>>,
    #[serde(alias = "keyfile")]
    pub(crate) key: Option<Spanned<PathBuf>>,
    #[serde(alias = "cacertfile")]
    pub(crate) ca: Option<Spanned<PathBuf>>,
    pub(crate) verify: Option<Spanned<String>>,
    pub(crate) fail_if_no_peer_cert: Option<Spanned<bool>>,
    pub(crate) versions: Option<Spanned<Vec<String>>>,
    #[serde(alias = "ssl_cert_login_from")]
    pub(crate) cert_login_from: Option<Spanned<String>>,
    #[serde(alias = "ssl_cert_login_san_type")]
    pub(crate) cert_login_san_type: Option<Spanned<String>>,
    #[serde(alias = "ssl_cert_login_san_index")]
    pub(crate) cert_login_san_index: Option<Spanned<i64>>,
}

/// `[cluster]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawCluster {
    /// Where other nodes reach this one.
    pub(crate) listen: Option<Spanned<Addresses>>,
    /// `host` or `host:port` that other nodes are told, when it is not the host of the node's name.
    pub(crate) advertise: Option<Spanned<String>>,
    /// The file with the secret that all nodes share.
    pub(crate) cookie_file: Option<PathBuf>,
    /// Nodes that a node without data joins.
    pub(crate) peers: Option<Vec<Spanned<String>>>,
    pub(crate) partition_handling: Option<Spanned<String>>,
    /// The node votes and holds no queues.
    pub(crate) witness: Option<Spanned<bool>>,
    pub(crate) tls: Option<Spanned<RawClusterTls>>,
}

/// `[cluster.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawClusterTls {
    #[serde(alias = "certfile")]
    pub(crate) cert: Option<Spanned<PathBuf>>,
    #[serde(alias = "keyfile")]
    pub(crate) key: Option<Spanned<PathBuf>>,
    #[serde(alias = "cacertfile")]
    pub(crate) ca: Option<Spanned<PathBuf>>,
}

/// `[management]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawManagement {
    pub(crate) listen: Option<Spanned<Addresses>>,
    pub(crate) enabled: Option<bool>,
    pub(crate) tls: Option<Spanned<RawTls>>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawMetrics {
    pub(crate) listen: Option<Spanned<Addresses>>,
    pub(crate) enabled: Option<bool>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLog {
    pub(crate) format: Option<Spanned<String>>,
    pub(crate) level: Option<String>,
    /// Beside the file, if there is one.
    pub(crate) console: Option<bool>,
    pub(crate) file: Option<PathBuf>,
    /// Where files are whose names say no folder.
    pub(crate) dir: Option<PathBuf>,
    pub(crate) rotation: RawRotation,
}

/// `[log.rotation]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawRotation {
    pub(crate) size: Option<Spanned<Size>>,
    pub(crate) date: Option<Spanned<String>>,
    pub(crate) count: Option<Spanned<i64>>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RawLimits {
    pub(crate) max_connections: Option<Spanned<i64>>,
    pub(crate) memory_high_watermark: Option<Spanned<Watermark>>,
    pub(crate) disk_free: Option<Spanned<Size>>,
}

/// `[[users]]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawUser {
    pub(crate) name: Spanned<String>,
    pub(crate) password: Option<String>,
    pub(crate) password_hash: Option<Spanned<String>>,
    pub(crate) hashing_algorithm: Option<Spanned<String>>,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
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
    #[serde(default = "slash")]
    pub(crate) vhost: String,
    pub(crate) configure: Spanned<String>,
    pub(crate) write: Spanned<String>,
    pub(crate) read: Spanned<String>,
}

/// `[[vhosts]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawVhost {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    pub(crate) description: String,
}

/// One address or several.
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
