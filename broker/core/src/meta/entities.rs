//! What the metadata holds: vhosts, users, permissions, policies, exchanges, queues, bindings.
//!
//! These are the records the state machine keeps and the ones it writes to disk, so a field added
//! here is a change of the on-disk format.

use super::cluster::Placement;
use super::options::QueueOptions;
use super::wire;
use crate::exchange::ExchangeType;
use crate::ids::{ConnectionId, QueueId, VhostId};
use amqp::table::FieldTable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// An exchange, for its whole life; never reused, like [`QueueId`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct ExchangeId(pub u64);

/// Where a binding leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Destination {
    /// To a queue.
    Queue(QueueId),
    /// To another exchange (RabbitMQ's exchange-to-exchange bindings).
    Exchange(ExchangeId),
}

/// A virtual host: a name space of exchanges, queues and permissions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vhost {
    /// Its identity; a vhost deleted and added again under the same name is another vhost.
    pub id: VhostId,
    /// Its name, as clients give it in `connection.open`.
    pub name: Arc<str>,
    /// Free text for people.
    pub description: String,
    /// Free labels for people.
    pub tags: Vec<String>,
    /// Whether the firehose (`amq.rabbitmq.trace`) is on.
    pub tracing: bool,
    /// `default_queue_type` of RabbitMQ 3.11 and later.
    pub default_queue_type: Option<String>,
}

/// How a stored password was hashed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// base64(salt ‖ SHA-256(salt ‖ password)) with a salt of four octets, RabbitMQ's default.
    Sha256,
    /// The same with SHA-512.
    Sha512,
    /// The same with MD5, only ever imported.
    Md5,
    /// A PHC string made by argon2id; what this broker makes itself.
    Argon2id,
}

impl HashAlgorithm {
    /// The name used in RabbitMQ's `definitions.json`.
    pub fn name(self) -> &'static str {
        match self {
            HashAlgorithm::Sha256 => "rabbit_password_hashing_sha256",
            HashAlgorithm::Sha512 => "rabbit_password_hashing_sha512",
            HashAlgorithm::Md5 => "rabbit_password_hashing_md5",
            HashAlgorithm::Argon2id => "argon2id",
        }
    }

    /// The algorithm called `name` in `definitions.json`.
    pub fn from_name(name: &str) -> Option<HashAlgorithm> {
        match name {
            "rabbit_password_hashing_sha256" => Some(HashAlgorithm::Sha256),
            "rabbit_password_hashing_sha512" => Some(HashAlgorithm::Sha512),
            "rabbit_password_hashing_md5" => Some(HashAlgorithm::Md5),
            "argon2id" => Some(HashAlgorithm::Argon2id),
            _ => None,
        }
    }
}

/// A hashed password. `Debug` does not show the hash.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// How it was made.
    pub algorithm: HashAlgorithm,
    /// The hash; empty means that no password fits.
    pub hash: String,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PasswordHash({:?}, …)", self.algorithm)
    }
}

/// Somebody who may log in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: Arc<str>,
    /// The password's hash; `None` for a user who can not log in with a password.
    pub password: Option<PasswordHash>,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator` or free text.
    pub tags: Vec<String>,
}

impl User {
    /// Whether the user carries this tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }
}

/// What a user may do in a vhost: three unanchored regular expressions over resource names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PermissionPatterns {
    /// Create and delete.
    pub configure: Arc<str>,
    /// Publish to exchanges, bind queues.
    pub write: Arc<str>,
    /// Consume, get, purge, bind from exchanges.
    pub read: Arc<str>,
}

/// What a user may publish to and bind from a topic exchange, by routing key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicPatterns {
    /// Routing keys the user may publish with.
    pub write: Arc<str>,
    /// Routing keys the user may bind with.
    pub read: Arc<str>,
}

/// Which names a policy looks at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ApplyTo {
    /// Queues and exchanges.
    All,
    /// Queues only.
    Queues,
    /// Exchanges only.
    Exchanges,
}

impl ApplyTo {
    /// The word used by the HTTP API.
    pub fn name(self) -> &'static str {
        match self {
            ApplyTo::All => "all",
            ApplyTo::Queues => "queues",
            ApplyTo::Exchanges => "exchanges",
        }
    }

    /// The value of the word `name`.
    pub fn from_name(name: &str) -> Option<ApplyTo> {
        match name {
            "all" => Some(ApplyTo::All),
            "queues" => Some(ApplyTo::Queues),
            "exchanges" => Some(ApplyTo::Exchanges),
            _ => None,
        }
    }
}

/// A policy or an operator policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Its name, unique in its vhost.
    pub name: Arc<str>,
    /// Regular expression over the names of queues or exchanges.
    pub pattern: Arc<str>,
    /// Which names it looks at.
    pub apply_to: ApplyTo,
    /// Of several that match, the highest counts.
    pub priority: i64,
    /// The definition as a JSON object.
    pub definition: String,
}

/// Limits of a vhost; `None` means none, and a negative number in the API is stored as `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VhostLimits {
    /// Client connections at the same time.
    pub max_connections: Option<u64>,
    /// Queues.
    pub max_queues: Option<u64>,
}

/// Limits of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UserLimits {
    /// Connections at the same time.
    pub max_connections: Option<u64>,
    /// Channels at the same time, over all connections.
    pub max_channels: Option<u64>,
}

/// What is asked for when an exchange is declared, and kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ExchangeSpec {
    /// Its identity.
    pub id: ExchangeId,
    /// The vhost it lives in.
    pub vhost: VhostId,
    /// Its name; empty for the default exchange.
    pub name: Arc<str>,
    /// How it routes.
    pub kind: ExchangeType,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Clients may not publish to it, only other exchanges.
    pub internal: bool,
    /// Arguments of the declare.
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
}

/// What is asked for when a queue is declared, and kept.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct QueueSpec {
    /// Its identity.
    pub id: QueueId,
    /// The vhost it lives in.
    pub vhost: VhostId,
    /// Its name.
    pub name: Arc<str>,
    /// Survives a restart. Never set together with `owner`: RabbitMQ makes an exclusive queue
    /// transient whatever the client asked for.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that an exclusive queue belongs to and ends with.
    pub owner: Option<ConnectionId>,
    /// Arguments of the declare.
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
}

/// A binding. Two bindings are the same one when source, destination, routing key and arguments
/// are the same; integers in the arguments compare by value, whatever their width.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BindingSpec {
    /// The vhost it lives in.
    pub vhost: VhostId,
    /// The exchange it leads from.
    pub source: ExchangeId,
    /// The queue or exchange it leads to.
    #[serde(with = "wire::destination")]
    pub destination: Destination,
    /// Its routing key (a pattern on topic exchanges).
    pub routing_key: Arc<str>,
    /// Its arguments (what headers exchanges look at).
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
    /// Both ends survive a restart, so the binding does.
    pub durable: bool,
}

/// Names of the policies that count for a queue or exchange now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyNames {
    /// The policy.
    pub policy: Option<Arc<str>>,
    /// The operator policy.
    pub operator: Option<Arc<str>>,
}

/// A queue as the metadata knows it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// What was declared.
    pub spec: QueueSpec,
    /// Its arguments, parsed.
    pub own_options: Arc<QueueOptions>,
    /// Arguments and policies together: what the queue obeys. Derived by the reader, not part of
    /// the replicated state (see [`super::policy`]).
    pub options: Arc<QueueOptions>,
    /// The policies behind `options`.
    pub policies: PolicyNames,
    /// Which nodes hold it. On a node alone all queues share one.
    pub placement: Arc<Placement>,
}

impl std::ops::Deref for Queue {
    type Target = QueueSpec;

    fn deref(&self) -> &QueueSpec {
        &self.spec
    }
}
