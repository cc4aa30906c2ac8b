//! The metadata state machine: vhosts, users, permissions, policies, exchanges, queues, bindings, members.
//!
//! [`MetaSm`] is deterministic: it reads no clock, runs no regular expression and lets nobody see
//! the order of a hash map, so that equal commands make equal states on every node. It keeps what
//! routing needs up to date with each change, so that a declare costs the same beside 100,000
//! queues as beside ten.
//!
//! ```text
//! MetaCommand --plan(&self)--> Plan { changes, reply } --commit(&mut self)--> state, version + 1
//!                                 |
//!                                 +-- durable changes: journal, snapshot
//! ```
//!
//! Maps whose keys clients choose are ordered maps: their cost can not be driven up by colliding
//! names, and listings come out sorted.

pub mod access;
pub mod arguments;
pub mod checks;
pub mod cluster;
pub mod command;
mod commit;
pub mod entities;
pub mod equivalence;
pub mod explain;
pub mod log;
pub mod options;
pub mod plan;
pub mod policy;
pub mod route;
pub mod snapshot;
mod wire;

#[cfg(test)]
mod tests;

pub use access::{Access, Patterns, Permission};
pub use cluster::{Member, NodeState, Placement, Role};
pub use command::{
    BindingRequest, Change, DeclareExchange, DeclareQueue, DestinationName, MetaCommand, MetaError,
    MetaReply, Plan, Removed,
};
pub use entities::{
    ApplyTo, BindingSpec, Destination, ExchangeId, ExchangeSpec, HashAlgorithm, PasswordHash,
    PermissionPatterns, Policy, PolicyNames, Queue, QueueSpec, TopicPatterns, User, UserLimits, Vhost,
    VhostLimits,
};
pub use options::QueueOptions;
pub use route::{Message as RoutedMessage, RouteScratch, Routed};

use crate::exception::Exception;
use crate::exchange::Router;
use crate::ids::{ConnectionId, NodeId, QueueId, VhostId};
use amqp::reply_code;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// Set in the identity of every queue, exchange and vhost that is not written to disk, so that it
/// can not collide with one that is, in this run or after a restart.
pub const TRANSIENT: u64 = 1 << 63;

/// An exchange with its routing table.
#[derive(Debug)]
pub struct Exchange {
    /// What was declared.
    pub spec: ExchangeSpec,
    /// The policies that count for it now; derived like [`Queue::options`].
    pub policies: PolicyNames,
    /// Where unroutable messages go: the argument, or else the policy's value.
    pub alternate: Option<Arc<str>>,
    pub(crate) router: Router,
    /// Bindings that lead from it.
    pub(crate) outgoing: usize,
}

impl std::ops::Deref for Exchange {
    type Target = ExchangeSpec;

    fn deref(&self) -> &ExchangeSpec {
        &self.spec
    }
}

/// Identity of a binding, ordered by source. The arguments are in a canonical form in which the
/// order of keys and the width of integers make no difference.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct BindingKey {
    pub(crate) source: ExchangeId,
    pub(crate) destination: Destination,
    pub(crate) routing_key: Arc<str>,
    pub(crate) arguments: Arc<[u8]>,
}

/// A vhost with what lives in it.
#[derive(Debug)]
pub struct VhostState {
    /// The vhost.
    pub vhost: Vhost,
    pub(crate) exchanges: BTreeMap<Arc<str>, ExchangeId>,
    pub(crate) queues: BTreeMap<Arc<str>, QueueId>,
    pub(crate) limits: VhostLimits,
    pub(crate) policies: BTreeMap<Arc<str>, Policy>,
    pub(crate) operator_policies: BTreeMap<Arc<str>, Policy>,
    /// By component and name.
    pub(crate) parameters: BTreeMap<(Arc<str>, Arc<str>), String>,
    /// By user.
    pub(crate) permissions: BTreeMap<Arc<str>, PermissionPatterns>,
    /// By user and exchange.
    pub(crate) topic_permissions: BTreeMap<(Arc<str>, Arc<str>), TopicPatterns>,
}

/// The metadata of a node or cluster.
#[derive(Debug, Default)]
pub struct MetaSm {
    version: u64,
    access_version: u64,
    policy_version: u64,
    applied: u64,
    pub(crate) vhost_ids: BTreeMap<Arc<str>, VhostId>,
    pub(crate) vhosts: BTreeMap<VhostId, VhostState>,
    pub(crate) users: BTreeMap<Arc<str>, User>,
    pub(crate) user_limits: BTreeMap<Arc<str>, UserLimits>,
    pub(crate) global_parameters: BTreeMap<Arc<str>, String>,
    pub(crate) exchanges: BTreeMap<ExchangeId, Exchange>,
    pub(crate) queues: BTreeMap<QueueId, Queue>,
    /// Exclusive queues by connection.
    pub(crate) owned: BTreeSet<(ConnectionId, QueueId)>,
    pub(crate) bindings: BTreeMap<BindingKey, BindingSpec>,
    /// The same bindings ordered by destination.
    pub(crate) bindings_to: BTreeSet<ReverseKey>,
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// Counted from the placements of the queues.
    pub(crate) loads: cluster::Loads,
}

/// A [`BindingKey`] with the destination first: destination, source, routing key, arguments.
pub(crate) type ReverseKey = (Destination, ExchangeId, Arc<str>, Arc<[u8]>);

impl MetaSm {
    /// Metadata of an empty node: no vhost, no user.
    pub fn new() -> MetaSm {
        MetaSm::default()
    }

    /// Plans and commits. `index` is the number of the command, larger than that of any command
    /// before; identities are made from it.
    pub fn apply(&mut self, index: u64, command: &MetaCommand) -> Result<MetaReply, MetaError> {
        if let MetaCommand::Batch(commands) = command {
            return self.apply_batch(index, commands);
        }
        let plan = self.plan(index << BATCH_BITS, command)?;
        self.applied = self.applied.max(index);
        for change in &plan.changes {
            self.commit(change);
        }
        Ok(plan.reply)
    }

    fn apply_batch(&mut self, index: u64, commands: &[MetaCommand]) -> Result<MetaReply, MetaError> {
        if commands.len() > command::MAX_BATCH {
            return Err(MetaError::Invalid(format!("a batch holds at most {} commands", command::MAX_BATCH)));
        }
        let mut replies = Vec::with_capacity(commands.len());
        for (position, command) in commands.iter().enumerate() {
            let id = (index << BATCH_BITS) | position as u64;
            let reply = self.plan(id, command).map(|plan| {
                for change in &plan.changes {
                    self.commit(change);
                }
                plan.reply
            });
            replies.push(reply);
        }
        self.applied = self.applied.max(index);
        Ok(MetaReply::Batch(replies))
    }

    /// Grows with each change that can affect routing, permissions or policies; what was looked up
    /// under an older version must be looked up again.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Grows with each change of users, vhosts or permissions only.
    pub fn access_version(&self) -> u64 {
        self.access_version
    }

    /// Grows with each change of policies only.
    pub fn policy_version(&self) -> u64 {
        self.policy_version
    }

    /// Highest index given to [`MetaSm::apply`] or noted by [`MetaSm::note_applied`].
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Records that everything up to `index` is in this state.
    pub fn note_applied(&mut self, index: u64) {
        self.applied = self.applied.max(index);
    }

    /// Whether a queue that is not known here may be created by a command that this state has not seen yet, as opposed
    /// to one that is deleted.
    pub fn is_yet_to_come(&self, queue: QueueId) -> bool {
        (queue.0 & !TRANSIENT) >> BATCH_BITS > self.applied
    }

    /// Keeps versions growing over a restore, so that nothing cached before is taken for current.
    fn raise_versions(&mut self, version: u64, access: u64, policy: u64) {
        self.version += version + 1;
        self.access_version += access + 1;
        self.policy_version += policy + 1;
    }

    /// The vhost called `name`.
    pub fn vhost_id(&self, name: &str) -> Option<VhostId> {
        self.vhost_ids.get(name).copied()
    }

    /// A vhost with what lives in it.
    pub fn vhost(&self, id: VhostId) -> Option<&VhostState> {
        self.vhosts.get(&id)
    }

    /// Name of a vhost; empty when it is gone.
    pub fn vhost_name(&self, id: VhostId) -> &str {
        self.vhosts.get(&id).map_or("", |state| &state.vhost.name)
    }

    /// All vhosts by name.
    pub fn vhosts(&self) -> impl Iterator<Item = &VhostState> {
        self.vhost_ids.values().filter_map(|id| self.vhosts.get(id))
    }

    /// A user.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.get(name)
    }

    /// All users by name.
    pub fn users(&self) -> impl Iterator<Item = &User> {
        self.users.values()
    }

    /// Limits of a user.
    pub fn user_limits(&self, name: &str) -> UserLimits {
        self.user_limits.get(name).copied().unwrap_or_default()
    }

    /// A queue.
    pub fn queue(&self, id: QueueId) -> Option<&Queue> {
        self.queues.get(&id)
    }

    /// The queue called `name`.
    pub fn queue_named(&self, vhost: VhostId, name: &str) -> Option<&Queue> {
        let id = self.vhosts.get(&vhost)?.queues.get(name)?;
        self.queues.get(id)
    }

    /// The queue called `name`, or the 404 that RabbitMQ answers.
    pub fn existing_queue(&self, vhost: VhostId, name: &str) -> Result<&Queue, Exception> {
        self.queue_named(vhost, name).ok_or_else(|| {
            Exception::channel(reply_code::NOT_FOUND, format!("no {}", self.queue_title(vhost, name)))
        })
    }

    /// All queues, oldest first.
    pub fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    /// Queues of a vhost by name.
    pub fn queues_in(&self, vhost: VhostId) -> impl Iterator<Item = &Queue> {
        self.vhosts
            .get(&vhost)
            .into_iter()
            .flat_map(|state| state.queues.values())
            .filter_map(|id| self.queues.get(id))
    }

    /// Queues that belong to one connection.
    pub fn queues_owned_by(&self, owner: ConnectionId) -> Vec<QueueId> {
        self.owned.range((owner, QueueId(0))..=(owner, QueueId(u64::MAX))).map(|(_, id)| *id).collect()
    }

    /// An exchange.
    pub fn exchange(&self, id: ExchangeId) -> Option<&Exchange> {
        self.exchanges.get(&id)
    }

    /// The exchange called `name`.
    pub fn exchange_named(&self, vhost: VhostId, name: &str) -> Option<&Exchange> {
        let id = self.vhosts.get(&vhost)?.exchanges.get(name)?;
        self.exchanges.get(id)
    }

    /// The exchange called `name`, or the 404 that RabbitMQ answers.
    pub fn existing_exchange(&self, vhost: VhostId, name: &str) -> Result<&Exchange, Exception> {
        self.exchange_named(vhost, name).ok_or_else(|| {
            Exception::channel(reply_code::NOT_FOUND, format!("no {}", self.exchange_title(vhost, name)))
        })
    }

    /// Exchanges of a vhost by name.
    pub fn exchanges_in(&self, vhost: VhostId) -> impl Iterator<Item = &Exchange> {
        self.vhosts
            .get(&vhost)
            .into_iter()
            .flat_map(|state| state.exchanges.values())
            .filter_map(|id| self.exchanges.get(id))
    }

    /// Bindings that lead from an exchange.
    pub fn bindings_from(&self, source: ExchangeId) -> impl Iterator<Item = &BindingSpec> {
        self.bindings
            .range((Bound::Included(first_key(source)), Bound::Unbounded))
            .take_while(move |(key, _)| key.source == source)
            .map(|(_, binding)| binding)
    }

    /// Bindings that lead to a queue or exchange.
    pub fn bindings_to(&self, destination: Destination) -> impl Iterator<Item = &BindingSpec> {
        self.binding_keys_to(destination).filter_map(|key| self.bindings.get(&key))
    }

    pub(crate) fn binding_keys_to(&self, destination: Destination) -> impl Iterator<Item = BindingKey> {
        let first = (destination, ExchangeId(0), Arc::from(""), Arc::from([]));
        self.bindings_to
            .range((Bound::Included(first), Bound::Unbounded))
            .take_while(move |(to, ..)| *to == destination)
            .map(|(destination, source, routing_key, arguments)| BindingKey {
                source: *source,
                destination: *destination,
                routing_key: Arc::clone(routing_key),
                arguments: Arc::clone(arguments),
            })
    }

    /// Name of a binding's destination and whether it is a queue.
    pub fn destination_name(&self, destination: Destination) -> Option<(&Arc<str>, bool)> {
        match destination {
            Destination::Queue(id) => self.queues.get(&id).map(|queue| (&queue.spec.name, true)),
            Destination::Exchange(id) => self.exchanges.get(&id).map(|x| (&x.spec.name, false)),
        }
    }

    /// Value of a global parameter, as JSON.
    pub fn global_parameter(&self, name: &str) -> Option<&str> {
        self.global_parameters.get(name).map(String::as_str)
    }

    /// All global parameters, as JSON.
    pub fn global_parameters(&self) -> impl Iterator<Item = (&Arc<str>, &str)> {
        self.global_parameters.iter().map(|(name, value)| (name, value.as_str()))
    }

    /// `queue 'q' in vhost '/'`, as RabbitMQ names a queue in its texts.
    pub fn queue_title(&self, vhost: VhostId, name: &str) -> String {
        format!("queue '{name}' in vhost '{}'", self.vhost_name(vhost))
    }

    /// `exchange 'x' in vhost '/'`.
    pub fn exchange_title(&self, vhost: VhostId, name: &str) -> String {
        format!("exchange '{name}' in vhost '{}'", self.vhost_name(vhost))
    }
}

impl VhostState {
    /// How many queues the vhost has.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Limits of the vhost.
    pub fn limits(&self) -> VhostLimits {
        self.limits
    }

    /// Policies, or operator policies, by name.
    pub fn policies(&self, operator: bool) -> impl Iterator<Item = &Policy> {
        if operator { self.operator_policies.values() } else { self.policies.values() }
    }

    /// A policy or operator policy.
    pub fn policy(&self, operator: bool, name: &str) -> Option<&Policy> {
        if operator { self.operator_policies.get(name) } else { self.policies.get(name) }
    }

    /// Runtime parameters: component, name, value as JSON.
    pub fn parameters(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &str)> {
        self.parameters.iter().map(|((component, name), value)| (component, name, value.as_str()))
    }

    /// What a user may do here; `None` means no access at all.
    pub fn permissions_of(&self, user: &str) -> Option<&PermissionPatterns> {
        self.permissions.get(user)
    }

    /// All permissions by user.
    pub fn permissions(&self) -> impl Iterator<Item = (&Arc<str>, &PermissionPatterns)> {
        self.permissions.iter()
    }

    /// All topic permissions: user, exchange, patterns.
    pub fn topic_permissions(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &TopicPatterns)> {
        self.topic_permissions.iter().map(|((user, exchange), patterns)| (user, exchange, patterns))
    }
}

/// How many low bits of an identity hold the position in a batch; callers of [`MetaSm::plan`] shift an
/// index by so many.
pub const BATCH_BITS: u32 = 10;

/// The last index that identities can be made from: shifted, it leaves the bit of [`TRANSIENT`] alone.
pub const LAST_INDEX: u64 = (TRANSIENT >> BATCH_BITS) - 1;

fn first_key(source: ExchangeId) -> BindingKey {
    BindingKey {
        source,
        destination: Destination::Queue(QueueId(0)),
        routing_key: Arc::from(""),
        arguments: Arc::from([]),
    }
}
