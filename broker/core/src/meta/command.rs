//! What may be asked of the metadata ([`MetaCommand`]), what then happens ([`Change`]) and what is
//! answered ([`MetaReply`], [`MetaError`]).
//!
//! A command says what somebody wants. [`super::MetaSm::plan`] turns it into changes, which say
//! what is so from now on, and [`super::MetaSm::commit`] makes them so. One node writes the durable
//! changes to its journal between the two, so that a restart replays facts and decides nothing
//! again. A cluster replicates the commands and plans on each node.

use super::cluster::{Member, NodeState, Placement, Role};
use super::entities::{
    BindingSpec, ExchangeId, ExchangeSpec, PasswordHash, PermissionPatterns, Policy, QueueSpec,
    TopicPatterns, User, UserLimits, Vhost, VhostLimits,
};
use super::wire;
use crate::exception::Exception;
use crate::exchange::ExchangeType;
use crate::ids::{ConnectionId, NodeId, QueueId, VhostId};
use amqp::reply_code;
use amqp::table::FieldTable;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;

/// Most commands that one [`MetaCommand::Batch`] may hold.
pub const MAX_BATCH: usize = 1024;

/// Where a binding shall lead, by name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DestinationName {
    /// To a queue.
    Queue(Arc<str>),
    /// To an exchange.
    Exchange(Arc<str>),
}

/// `queue.declare` after the checks that need no state ([`super::checks`]).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeclareQueue {
    /// The vhost.
    pub vhost: VhostId,
    /// Its name, never empty.
    pub name: Arc<str>,
    /// Survive a restart; without effect on an exclusive queue.
    pub durable: bool,
    /// Go with the last consumer.
    pub auto_delete: bool,
    /// The connection an exclusive queue belongs to; `None` for a shared queue.
    pub owner: Option<ConnectionId>,
    /// Arguments.
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
    /// The node that leads a new queue; see [`super::cluster::locate`]. Not looked at on a node alone.
    pub home: NodeId,
    /// Other nodes that hold a new queue from its beginning.
    pub mirrors: Vec<NodeId>,
}

/// `exchange.declare`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeclareExchange {
    /// The vhost.
    pub vhost: VhostId,
    /// Its name.
    pub name: Arc<str>,
    /// How it routes.
    pub kind: ExchangeType,
    /// Survive a restart.
    pub durable: bool,
    /// Go with the last binding.
    pub auto_delete: bool,
    /// Closed to clients' publishes.
    pub internal: bool,
    /// Arguments.
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
}

/// `queue.bind`, `exchange.bind` and their opposites.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct BindingRequest {
    /// The vhost.
    pub vhost: VhostId,
    /// Exchange the binding leads from.
    pub source: Arc<str>,
    /// What it leads to.
    pub destination: DestinationName,
    /// Routing key.
    pub routing_key: Arc<str>,
    /// Arguments.
    #[serde(with = "wire::arguments")]
    pub arguments: Arc<FieldTable>,
    /// Who asks; an exclusive queue may be bound by its own connection only. `None`: an operator.
    pub connection: Option<ConnectionId>,
}

/// One thing asked of the metadata.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the words of the entity they name")]
pub enum MetaCommand {
    /// Adds a vhost with its `amq.*` exchanges, or changes the description of one that exists.
    PutVhost {
        name: Arc<str>,
        description: String,
        tags: Vec<String>,
        tracing: bool,
        default_queue_type: Option<String>,
    },
    /// Deletes a vhost and everything in it.
    DeleteVhost { name: Arc<str> },
    /// Adds a user or replaces one. `keep_password` leaves the password of an existing user alone.
    PutUser { user: User, keep_password: bool },
    /// Adds a user; refused when the name is taken.
    AddUser { user: User },
    /// Changes the password of an existing user.
    ChangePassword { user: Arc<str>, password: Option<PasswordHash> },
    /// Changes the tags of an existing user.
    SetTags { user: Arc<str>, tags: Vec<String> },
    /// Deletes a user with all permissions.
    DeleteUser { name: Arc<str> },
    /// Sets what a user may do in a vhost.
    SetPermissions { user: Arc<str>, vhost: Arc<str>, patterns: PermissionPatterns },
    /// Takes a user's access to a vhost.
    ClearPermissions { user: Arc<str>, vhost: Arc<str> },
    /// Sets which routing keys a user may use on a topic exchange.
    SetTopicPermissions { user: Arc<str>, vhost: Arc<str>, exchange: Arc<str>, patterns: TopicPatterns },
    /// Clears them, for one exchange or all.
    ClearTopicPermissions { user: Arc<str>, vhost: Arc<str>, exchange: Option<Arc<str>> },
    /// Sets a policy (or operator policy).
    SetPolicy { vhost: Arc<str>, operator: bool, policy: Policy },
    /// Deletes a policy (or operator policy).
    ClearPolicy { vhost: Arc<str>, operator: bool, name: Arc<str> },
    /// Sets a runtime parameter; `value` is JSON.
    SetParameter { vhost: Arc<str>, component: Arc<str>, name: Arc<str>, value: String },
    /// Deletes a runtime parameter.
    ClearParameter { vhost: Arc<str>, component: Arc<str>, name: Arc<str> },
    /// Sets a global parameter; `value` is JSON.
    SetGlobalParameter { name: Arc<str>, value: String },
    /// Deletes a global parameter.
    ClearGlobalParameter { name: Arc<str> },
    /// Replaces the limits of a vhost.
    SetVhostLimits { vhost: Arc<str>, limits: VhostLimits },
    /// Replaces the limits of a user.
    SetUserLimits { user: Arc<str>, limits: UserLimits },
    /// Declares an exchange; equal redeclaring is fine.
    DeclareExchange(DeclareExchange),
    /// Deletes an exchange; a missing one is fine.
    DeleteExchange { vhost: VhostId, name: Arc<str>, if_unused: bool },
    /// Declares a queue; equal redeclaring is fine.
    DeclareQueue(DeclareQueue),
    /// Deletes queues by identity; missing ones are fine. Whether a queue is unused or empty is
    /// for its shard to say, before.
    DeleteQueues { ids: Vec<QueueId> },
    /// Adds a binding; an equal one is fine.
    Bind(BindingRequest),
    /// Removes a binding; a missing one is fine.
    Unbind(BindingRequest),
    /// Adds a member, which is down until it says [`MetaCommand::NodeUp`]; the first one ever is
    /// [`NodeId::FIRST`]. Answered with [`MetaReply::Member`].
    AddMember { name: Arc<str>, addresses: Vec<String>, role: Role, version: String },
    /// A member has another name, other addresses or another version.
    UpdateMember { id: NodeId, name: Arc<str>, addresses: Vec<String>, version: String },
    /// Takes out a member that is not up. Refused with [`MetaError::OnlyCopies`] where queues would go with
    /// it, unless `accept_loss`.
    ForgetMember { id: NodeId, accept_loss: bool },
    /// A member started, or is back after it was taken for dead. `lost` are queues whose data it does not
    /// have any more.
    NodeUp { id: NodeId, incarnation: u64, storage: u128, lost: Vec<QueueId> },
    /// A start of a member is over; without effect on a later start.
    NodeDown { id: NodeId, incarnation: u64 },
    /// Begins or ends the draining of a member that is up.
    SetNodeState { id: NodeId, state: NodeState },
    /// A follower has everything that the leader has.
    IsrExpand { queue: QueueId, cfg_ver: u32, add: NodeId },
    /// A follower does not keep up: it leaves the in-sync sets of all queues that this start of the leader leads.
    IsrShrink { leader: NodeId, incarnation: u64, follower: NodeId },
    /// Which nodes shall hold a queue. The leader stays one of them.
    SetReplicas { queue: QueueId, cfg_ver: u32, replicas: Vec<NodeId> },
    /// Hands the lead to another node of the in-sync set.
    Transfer { queue: QueueId, cfg_ver: u32, to: NodeId },
    /// Makes a node leader of a queue that has none though it may lack confirmed messages.
    ForcePromote { queue: QueueId, to: NodeId },
    /// Several commands in order, each with its own outcome. At most [`MAX_BATCH`], not nested.
    Batch(Vec<MetaCommand>),
}

/// Something that is so from now on. The durable ones are what the journal and snapshots hold.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the words of the entity they name")]
pub enum Change {
    /// A vhost exists, or has another description.
    PutVhost(Vhost),
    /// A vhost is gone with all it held.
    RemoveVhost { id: VhostId, name: Arc<str> },
    /// A user exists or was changed.
    PutUser(User),
    /// A user is gone, with all permissions.
    RemoveUser { name: Arc<str> },
    /// Access of a user to a vhost.
    PutPermissions { user: Arc<str>, vhost: VhostId, patterns: PermissionPatterns },
    /// No access any more.
    RemovePermissions { user: Arc<str>, vhost: VhostId },
    /// Routing keys a user may use on a topic exchange.
    PutTopicPermissions { user: Arc<str>, vhost: VhostId, exchange: Arc<str>, patterns: TopicPatterns },
    /// Any routing key again.
    RemoveTopicPermissions { user: Arc<str>, vhost: VhostId, exchange: Arc<str> },
    /// A policy exists or was changed.
    PutPolicy { vhost: VhostId, operator: bool, policy: Policy },
    /// A policy is gone.
    RemovePolicy { vhost: VhostId, operator: bool, name: Arc<str> },
    /// A runtime parameter is set.
    PutParameter { vhost: VhostId, component: Arc<str>, name: Arc<str>, value: String },
    /// A runtime parameter is gone.
    RemoveParameter { vhost: VhostId, component: Arc<str>, name: Arc<str> },
    /// A global parameter is set.
    PutGlobalParameter { name: Arc<str>, value: String },
    /// A global parameter is gone.
    RemoveGlobalParameter { name: Arc<str> },
    /// Limits of a vhost.
    PutVhostLimits { vhost: VhostId, limits: VhostLimits },
    /// Limits of a user.
    PutUserLimits { user: Arc<str>, limits: UserLimits },
    /// A new exchange.
    PutExchange(ExchangeSpec),
    /// An exchange is gone; its bindings were removed by changes before this one.
    RemoveExchange { id: ExchangeId, durable: bool },
    /// A new queue.
    PutQueue(QueueSpec),
    /// A queue is gone; its bindings were removed by changes before this one.
    RemoveQueue { id: QueueId, durable: bool },
    /// A new binding.
    PutBinding(BindingSpec),
    /// A binding is gone.
    RemoveBinding(BindingSpec),
    /// A member exists or was changed.
    PutMember(Member),
    /// A member is gone; no queue is placed on it any more.
    RemoveMember { id: NodeId },
    /// Which nodes hold a queue.
    PutPlacement { queue: QueueId, placement: Arc<Placement> },
}

impl Change {
    /// Whether the change must survive a restart of the node.
    pub fn is_durable(&self) -> bool {
        match self {
            Change::PutExchange(spec) => spec.durable,
            Change::PutQueue(spec) => spec.durable,
            Change::PutBinding(spec) | Change::RemoveBinding(spec) => spec.durable,
            Change::RemoveExchange { durable, .. } | Change::RemoveQueue { durable, .. } => *durable,
            Change::PutPlacement { queue, .. } => !super::arguments::is_transient(queue.0),
            _ => true,
        }
    }

    /// Whether versions that knew no clusters can not read it.
    pub(super) fn needs_format_2(&self) -> bool {
        matches!(self, Change::PutMember(_) | Change::RemoveMember { .. } | Change::PutPlacement { .. })
    }
}

/// What a command will change, and its answer. Made by [`super::MetaSm::plan`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// In the order they must be made.
    pub changes: Vec<Change>,
    /// The answer once they are made.
    pub reply: MetaReply,
}

/// The answer to a command.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub enum MetaReply {
    /// Nothing to say: it is so (or was so already, when `changed` is false).
    #[default]
    Done,
    /// Whether something that can exist was made (`true`) or was there before (`false`).
    Created(bool),
    /// Answer to a queue declare.
    Queue {
        /// The queue.
        id: QueueId,
        /// It is new.
        created: bool,
    },
    /// Answer to an exchange declare.
    Exchange {
        /// The exchange.
        id: ExchangeId,
        /// It is new.
        created: bool,
    },
    /// Answer to a delete or unbind: what went, including what went along with it.
    Removed(Removed),
    /// Answer to [`MetaCommand::AddMember`]: its number.
    Member(NodeId),
    /// Answers to a batch, in order.
    Batch(Vec<Result<MetaReply, MetaError>>),
}

/// What a delete took away.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Queues that are gone.
    pub queues: Vec<QueueId>,
    /// Exchanges that are gone, those included that went with their last binding.
    pub exchanges: Vec<ExchangeId>,
    /// How many bindings are gone.
    pub bindings: usize,
    /// The thing asked for existed.
    pub existed: bool,
}

/// Why a command was refused. Nothing was changed.
#[derive(Clone, PartialEq, Debug, thiserror::Error, Serialize, Deserialize)]
pub enum MetaError {
    /// As AMQP says it to a client.
    #[error("{0}")]
    Exception(Exception),
    /// There is no such vhost.
    #[error("virtual host '{0}' does not exist")]
    NoSuchVhost(String),
    /// There is no such user.
    #[error("user '{0}' does not exist")]
    NoSuchUser(String),
    /// The user exists.
    #[error("user '{0}' already exists")]
    UserExists(String),
    /// There is no such policy, parameter or permission.
    #[error("no {what} '{name}'")]
    NoSuchEntry {
        /// What kind of thing.
        what: Cow<'static, str>,
        /// Its name.
        name: String,
    },
    /// There is no such member.
    #[error("node {0} is not a member of the cluster")]
    NoSuchMember(NodeId),
    /// A member has the name.
    #[error("node '{0}' is a member of the cluster already")]
    MemberExists(String),
    /// Somebody else changed the placement of the queue before.
    #[error("the placement of the queue has changed: it has number {is}, not {given}")]
    Stale {
        /// The number that the placement has.
        is: u32,
        /// The one the command named.
        given: u32,
    },
    /// Queues would go with the node.
    #[error("{}", only_copies(.0))]
    OnlyCopies(Vec<String>),
    /// The command itself makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// The change could not be made durable; the node must not go on.
    #[error("metadata journal: {0}")]
    Journal(String),
}

/// Most queues that a refusal names one by one.
const NAMED_QUEUES: usize = 20;

fn only_copies(queues: &[String]) -> String {
    let named = queues.iter().take(NAMED_QUEUES).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match queues.len().saturating_sub(NAMED_QUEUES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "the node has the only complete copy of {} queue(s): {named}{more}; bring it back, or accept the loss of \
         their messages with --accept-loss",
        queues.len()
    )
}

impl From<Exception> for MetaError {
    fn from(exception: Exception) -> Self {
        MetaError::Exception(exception)
    }
}

impl MetaError {
    /// The exception a client gets. What only operators can cause becomes a 541 or 530.
    pub fn into_exception(self) -> Exception {
        match self {
            MetaError::Exception(exception) => exception,
            MetaError::NoSuchVhost(name) => {
                Exception::connection(reply_code::NOT_ALLOWED, format!("vhost {name} not found"))
            }
            other => Exception::connection(reply_code::INTERNAL_ERROR, other.to_string()),
        }
    }
}
