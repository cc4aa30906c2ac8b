//! From what is asked to what will be so, without changing anything.

use super::command::{BindingRequest, DeclareExchange, DeclareQueue, DestinationName, Removed};
use super::commit::binding_key;
use super::entities::{BindingSpec, Destination, ExchangeId, ExchangeSpec, QueueSpec, User, Vhost};
use super::{
    BindingKey, Change, MetaCommand, MetaError, MetaReply, MetaSm, Plan, TRANSIENT, arguments, checks,
    equivalence,
};
use crate::exception::Exception;
use crate::exchange::{self, ExchangeType};
use crate::ids::{QueueId, VhostId};
use amqp::reply_code;
use amqp::table::FieldTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Names travel as short strings (AMQP 0-9-1 section 4.2.5.3); the HTTP API could bring longer ones.
fn check_names(command: &MetaCommand) -> Result<(), MetaError> {
    let names: [&str; 3] = match command {
        MetaCommand::DeclareQueue(declare) => [&declare.name, "", ""],
        MetaCommand::DeclareExchange(declare) => [&declare.name, "", ""],
        MetaCommand::Bind(request) => match &request.destination {
            DestinationName::Queue(name) | DestinationName::Exchange(name) => {
                [&request.source, name, &request.routing_key]
            }
        },
        MetaCommand::PutVhost { name, .. } => [name, "", ""],
        _ => return Ok(()),
    };
    match names.iter().find(|name| name.len() > usize::from(u8::MAX)) {
        Some(name) => {
            Err(MetaError::Invalid(format!("a name has {} octets; at most 255 are possible", name.len())))
        }
        None => Ok(()),
    }
}

impl MetaSm {
    /// What `command` would change and answer. `id` is the number from which new things get their
    /// identity; it must never have been used before for anything that is on disk.
    ///
    /// A [`MetaCommand::Batch`] can not be planned as one, because each of its commands sees the
    /// changes of those before.
    pub fn plan(&self, id: u64, command: &MetaCommand) -> Result<Plan, MetaError> {
        check_names(command)?;
        match command {
            MetaCommand::DeclareQueue(declare) => self.plan_declare_queue(id, declare),
            MetaCommand::DeclareExchange(declare) => self.plan_declare_exchange(id, declare),
            MetaCommand::Bind(request) => self.plan_bind(request),
            MetaCommand::Unbind(request) => self.plan_unbind(request),
            MetaCommand::DeleteQueues { ids } => Ok(self.plan_delete_queues(ids)),
            MetaCommand::DeleteExchange { vhost, name, if_unused } => {
                self.plan_delete_exchange(*vhost, name, *if_unused)
            }
            MetaCommand::PutVhost { .. } | MetaCommand::DeleteVhost { .. } => self.plan_vhost(id, command),
            MetaCommand::PutUser { .. }
            | MetaCommand::AddUser { .. }
            | MetaCommand::ChangePassword { .. }
            | MetaCommand::SetTags { .. }
            | MetaCommand::DeleteUser { .. }
            | MetaCommand::SetUserLimits { .. } => self.plan_user(command),
            MetaCommand::SetPermissions { .. }
            | MetaCommand::ClearPermissions { .. }
            | MetaCommand::SetTopicPermissions { .. }
            | MetaCommand::ClearTopicPermissions { .. } => self.plan_permissions(command),
            MetaCommand::Batch(_) => Err(MetaError::Invalid("batches do not nest".to_owned())),
            MetaCommand::SetPolicy { .. }
            | MetaCommand::ClearPolicy { .. }
            | MetaCommand::SetParameter { .. }
            | MetaCommand::ClearParameter { .. }
            | MetaCommand::SetGlobalParameter { .. }
            | MetaCommand::ClearGlobalParameter { .. }
            | MetaCommand::SetVhostLimits { .. } => self.plan_setting(command),
            _ => self.plan_cluster(id, command),
        }
    }

    fn plan_declare_queue(&self, id: u64, declare: &DeclareQueue) -> Result<Plan, MetaError> {
        let state = self.vhost(declare.vhost).ok_or_else(|| gone_vhost(declare.vhost))?;
        if let Some(queue) = self.queue_named(declare.vhost, &declare.name) {
            equivalence::queue(self, queue, declare)?;
            return Ok(Plan {
                changes: Vec::new(),
                reply: MetaReply::Queue { id: queue.id, created: false },
            });
        }
        arguments::validate_queue(self, declare)?;
        if let Some(limit) = state.limits.max_queues
            && state.queues.len() as u64 >= limit
        {
            return Err(checks::queue_limit_reached(&declare.name, &state.vhost.name, limit).into());
        }
        let durable = declare.durable && declare.owner.is_none();
        let id = QueueId(if durable { id } else { id | TRANSIENT });
        let spec = QueueSpec {
            id,
            vhost: declare.vhost,
            name: Arc::clone(&declare.name),
            durable,
            auto_delete: declare.auto_delete,
            owner: declare.owner,
            arguments: Arc::clone(&declare.arguments),
        };
        let mut changes = vec![Change::PutQueue(spec)];
        changes.extend(
            self.first_placement(declare)?
                .map(|placement| Change::PutPlacement { queue: id, placement: Arc::new(placement) }),
        );
        Ok(Plan { changes, reply: MetaReply::Queue { id, created: true } })
    }

    fn plan_declare_exchange(&self, id: u64, declare: &DeclareExchange) -> Result<Plan, MetaError> {
        self.vhost(declare.vhost).ok_or_else(|| gone_vhost(declare.vhost))?;
        if let Some(exchange) = self.exchange_named(declare.vhost, &declare.name) {
            equivalence::exchange(self, exchange, declare)?;
            let reply = MetaReply::Exchange { id: exchange.id, created: false };
            return Ok(Plan { changes: Vec::new(), reply });
        }
        arguments::validate_exchange(self, declare)?;
        let id = ExchangeId(if declare.durable { id } else { id | TRANSIENT });
        let spec = ExchangeSpec {
            id,
            vhost: declare.vhost,
            name: Arc::clone(&declare.name),
            kind: declare.kind,
            durable: declare.durable,
            auto_delete: declare.auto_delete,
            internal: declare.internal,
            arguments: Arc::clone(&declare.arguments),
        };
        Ok(Plan {
            changes: vec![Change::PutExchange(spec)],
            reply: MetaReply::Exchange { id, created: true },
        })
    }

    fn plan_bind(&self, request: &BindingRequest) -> Result<Plan, MetaError> {
        let source = self.existing_exchange(request.vhost, &request.source)?;
        let (destination, durable_destination) = match &request.destination {
            DestinationName::Queue(name) => {
                let queue = self.existing_queue(request.vhost, name)?;
                (Destination::Queue(queue.id), queue.durable)
            }
            DestinationName::Exchange(name) => {
                let exchange = self.existing_exchange(request.vhost, name)?;
                (Destination::Exchange(exchange.id), exchange.durable)
            }
        };
        exchange::validate_binding(source.kind, &source.arguments, &request.routing_key, &request.arguments)?;
        self.check_binding_lock(request)?;
        let spec = BindingSpec {
            vhost: request.vhost,
            source: source.id,
            destination,
            routing_key: Arc::clone(&request.routing_key),
            arguments: Arc::clone(&request.arguments),
            durable: source.durable && durable_destination,
        };
        let created = !self.bindings.contains_key(&binding_key(&spec));
        let changes = if created { vec![Change::PutBinding(spec)] } else { Vec::new() };
        Ok(Plan { changes, reply: MetaReply::Created(created) })
    }

    fn plan_unbind(&self, request: &BindingRequest) -> Result<Plan, MetaError> {
        let nothing = Plan { changes: Vec::new(), reply: MetaReply::Removed(Removed::default()) };
        let destination = match &request.destination {
            DestinationName::Queue(name) => {
                self.queue_named(request.vhost, name).map(|queue| Destination::Queue(queue.id))
            }
            DestinationName::Exchange(name) => {
                self.exchange_named(request.vhost, name).map(|exchange| Destination::Exchange(exchange.id))
            }
        };
        let source = self.exchange_named(request.vhost, &request.source);
        let (Some(destination), Some(source)) = (destination, source) else { return Ok(nothing) };
        let key = BindingKey {
            source: source.id,
            destination,
            routing_key: Arc::clone(&request.routing_key),
            arguments: super::wire::canonical(&request.arguments),
        };
        if !self.bindings.contains_key(&key) {
            return Ok(nothing);
        }
        self.check_binding_lock(request)?;
        let mut removal = Removal::new(self);
        removal.binding(key);
        Ok(removal.finish(true))
    }

    /// An exclusive queue is bound and unbound by its own connection only.
    fn check_binding_lock(&self, request: &BindingRequest) -> Result<(), Exception> {
        match (&request.destination, request.connection) {
            (DestinationName::Queue(name), Some(connection)) => {
                let queue = self.existing_queue(request.vhost, name)?;
                checks::exclusive_access(self, queue, connection)
            }
            _ => Ok(()),
        }
    }

    fn plan_delete_queues(&self, ids: &[QueueId]) -> Plan {
        let mut removal = Removal::new(self);
        for id in ids {
            removal.queue(*id);
        }
        let existed = !removal.queues.is_empty();
        removal.finish(existed)
    }

    fn plan_delete_exchange(&self, vhost: VhostId, name: &str, if_unused: bool) -> Result<Plan, MetaError> {
        let Some(exchange) = self.exchange_named(vhost, name) else {
            return Ok(Plan { changes: Vec::new(), reply: MetaReply::Removed(Removed::default()) });
        };
        if if_unused && exchange.outgoing > 0 {
            let text = format!("{} in use", self.exchange_title(vhost, name));
            return Err(Exception::channel(reply_code::PRECONDITION_FAILED, text).into());
        }
        let mut removal = Removal::new(self);
        removal.exchange(exchange.id);
        Ok(removal.finish(true))
    }

    fn plan_vhost(&self, id: u64, command: &MetaCommand) -> Result<Plan, MetaError> {
        match command {
            MetaCommand::PutVhost { name, description, tags, tracing, default_queue_type } => {
                let known = self.vhost_id(name);
                let vhost = Vhost {
                    id: known.unwrap_or(VhostId(id)),
                    name: Arc::clone(name),
                    description: description.clone(),
                    tags: tags.clone(),
                    tracing: *tracing,
                    default_queue_type: default_queue_type.clone(),
                };
                let mut changes = vec![Change::PutVhost(vhost.clone())];
                if known.is_none() {
                    changes.extend(predeclared(vhost.id).map(Change::PutExchange));
                }
                Ok(Plan { changes, reply: MetaReply::Created(known.is_none()) })
            }
            MetaCommand::DeleteVhost { name } => {
                let id = self.vhost_id(name).ok_or_else(|| MetaError::NoSuchVhost(name.to_string()))?;
                let queues: Vec<QueueId> =
                    self.vhost(id).into_iter().flat_map(|state| state.queues.values()).copied().collect();
                // What lives in a shard is named so that the shard stops it; the journal needs the last only.
                let mut changes: Vec<Change> =
                    queues.iter().map(|id| Change::RemoveQueue { id: *id, durable: false }).collect();
                let delayed = self.exchanges_in(id).filter(|exchange| exchange.kind == ExchangeType::Delayed);
                changes.extend(
                    delayed.map(|exchange| Change::RemoveExchange { id: exchange.id, durable: false }),
                );
                changes.push(Change::RemoveVhost { id, name: Arc::clone(name) });
                let removed = Removed { queues, existed: true, ..Removed::default() };
                Ok(Plan { changes, reply: MetaReply::Removed(removed) })
            }
            _ => Err(MetaError::Invalid("not a vhost command".to_owned())),
        }
    }

    fn plan_user(&self, command: &MetaCommand) -> Result<Plan, MetaError> {
        let existing = |name: &Arc<str>| {
            self.users.get(name).cloned().ok_or_else(|| MetaError::NoSuchUser(name.to_string()))
        };
        match command {
            MetaCommand::PutUser { user, keep_password } => {
                let known = self.users.get(&user.name);
                let mut user = user.clone();
                if let (true, Some(known)) = (*keep_password, known) {
                    user.password.clone_from(&known.password);
                }
                Ok(put_user(user, known.is_none()))
            }
            MetaCommand::AddUser { user } => {
                if self.users.contains_key(&user.name) {
                    return Err(MetaError::UserExists(user.name.to_string()));
                }
                Ok(put_user(user.clone(), true))
            }
            MetaCommand::ChangePassword { user, password } => {
                let mut user = existing(user)?;
                user.password.clone_from(password);
                Ok(put_user(user, false))
            }
            MetaCommand::SetTags { user, tags } => {
                let mut user = existing(user)?;
                user.tags.clone_from(tags);
                Ok(put_user(user, false))
            }
            MetaCommand::DeleteUser { name } => {
                existing(name)?;
                let removed = Removed { existed: true, ..Removed::default() };
                let changes = vec![Change::RemoveUser { name: Arc::clone(name) }];
                Ok(Plan { changes, reply: MetaReply::Removed(removed) })
            }
            MetaCommand::SetUserLimits { user, limits } => {
                existing(user)?;
                Ok(done(Change::PutUserLimits { user: Arc::clone(user), limits: *limits }))
            }
            _ => Err(MetaError::Invalid("not a user command".to_owned())),
        }
    }

    fn plan_permissions(&self, command: &MetaCommand) -> Result<Plan, MetaError> {
        match command {
            MetaCommand::SetPermissions { user, vhost, patterns } => {
                let vhost = self.named_vhost(vhost)?;
                self.named_user(user)?;
                let created = self.vhost(vhost).is_some_and(|state| !state.permissions.contains_key(user));
                let change =
                    Change::PutPermissions { user: Arc::clone(user), vhost, patterns: patterns.clone() };
                Ok(Plan { changes: vec![change], reply: MetaReply::Created(created) })
            }
            MetaCommand::ClearPermissions { user, vhost } => {
                let vhost = self.named_vhost(vhost)?;
                self.named_user(user)?;
                let existed = self.vhost(vhost).is_some_and(|state| state.permissions.contains_key(user));
                let changes = vec![Change::RemovePermissions { user: Arc::clone(user), vhost }];
                let reply = MetaReply::Removed(Removed { existed, ..Removed::default() });
                Ok(Plan { changes: if existed { changes } else { Vec::new() }, reply })
            }
            MetaCommand::SetTopicPermissions { user, vhost, exchange, patterns } => {
                let vhost = self.named_vhost(vhost)?;
                self.named_user(user)?;
                let key = (Arc::clone(user), Arc::clone(exchange));
                let created =
                    self.vhost(vhost).is_some_and(|state| !state.topic_permissions.contains_key(&key));
                let change = Change::PutTopicPermissions {
                    user: key.0,
                    vhost,
                    exchange: key.1,
                    patterns: patterns.clone(),
                };
                Ok(Plan { changes: vec![change], reply: MetaReply::Created(created) })
            }
            MetaCommand::ClearTopicPermissions { user, vhost, exchange } => {
                let vhost = self.named_vhost(vhost)?;
                self.named_user(user)?;
                let state = self.vhost(vhost).ok_or_else(|| gone_vhost(vhost))?;
                let changes: Vec<Change> = state
                    .topic_permissions
                    .keys()
                    .filter(|(owner, name)| owner == user && exchange.as_ref().is_none_or(|x| x == name))
                    .map(|(user, exchange)| Change::RemoveTopicPermissions {
                        user: Arc::clone(user),
                        vhost,
                        exchange: Arc::clone(exchange),
                    })
                    .collect();
                let existed = !changes.is_empty();
                Ok(Plan { changes, reply: MetaReply::Removed(Removed { existed, ..Removed::default() }) })
            }
            _ => Err(MetaError::Invalid("not a permission command".to_owned())),
        }
    }

    fn plan_setting(&self, command: &MetaCommand) -> Result<Plan, MetaError> {
        match command {
            MetaCommand::SetPolicy { vhost, operator, policy } => {
                let vhost = self.named_vhost(vhost)?;
                let created = self.vhost(vhost).is_some_and(|v| v.policy(*operator, &policy.name).is_none());
                let change = Change::PutPolicy { vhost, operator: *operator, policy: policy.clone() };
                Ok(Plan { changes: vec![change], reply: MetaReply::Created(created) })
            }
            MetaCommand::ClearPolicy { vhost, operator, name } => {
                let vhost = self.named_vhost(vhost)?;
                let existed = self.vhost(vhost).is_some_and(|v| v.policy(*operator, name).is_some());
                let change = Change::RemovePolicy { vhost, operator: *operator, name: Arc::clone(name) };
                removed_entry(existed, "policy", name, change)
            }
            MetaCommand::SetParameter { vhost, component, name, value } => {
                let vhost = self.named_vhost(vhost)?;
                let key = (Arc::clone(component), Arc::clone(name));
                let created = self.vhost(vhost).is_some_and(|v| !v.parameters.contains_key(&key));
                let change =
                    Change::PutParameter { vhost, component: key.0, name: key.1, value: value.clone() };
                Ok(Plan { changes: vec![change], reply: MetaReply::Created(created) })
            }
            MetaCommand::ClearParameter { vhost, component, name } => {
                let vhost = self.named_vhost(vhost)?;
                let key = (Arc::clone(component), Arc::clone(name));
                let existed = self.vhost(vhost).is_some_and(|v| v.parameters.contains_key(&key));
                let change = Change::RemoveParameter { vhost, component: key.0, name: key.1 };
                removed_entry(existed, "parameter", name, change)
            }
            MetaCommand::SetGlobalParameter { name, value } => {
                let created = !self.global_parameters.contains_key(name);
                let change = Change::PutGlobalParameter { name: Arc::clone(name), value: value.clone() };
                Ok(Plan { changes: vec![change], reply: MetaReply::Created(created) })
            }
            MetaCommand::ClearGlobalParameter { name } => {
                let existed = self.global_parameters.contains_key(name);
                let change = Change::RemoveGlobalParameter { name: Arc::clone(name) };
                removed_entry(existed, "global parameter", name, change)
            }
            MetaCommand::SetVhostLimits { vhost, limits } => {
                let vhost = self.named_vhost(vhost)?;
                Ok(done(Change::PutVhostLimits { vhost, limits: *limits }))
            }
            _ => Err(MetaError::Invalid("not a setting".to_owned())),
        }
    }

    fn named_vhost(&self, name: &str) -> Result<VhostId, MetaError> {
        self.vhost_id(name).ok_or_else(|| MetaError::NoSuchVhost(name.to_owned()))
    }

    fn named_user(&self, name: &str) -> Result<&User, MetaError> {
        self.user(name).ok_or_else(|| MetaError::NoSuchUser(name.to_owned()))
    }
}

/// Collects what goes when something goes: bindings of a queue, exchanges that lived for their
/// last binding, the bindings of those, and so on.
pub(super) struct Removal<'a> {
    sm: &'a MetaSm,
    bindings: BTreeSet<BindingKey>,
    removed_from: BTreeMap<ExchangeId, usize>,
    exchanges: BTreeSet<ExchangeId>,
    queues: BTreeSet<QueueId>,
}

impl<'a> Removal<'a> {
    pub(super) fn new(sm: &'a MetaSm) -> Self {
        Removal {
            sm,
            bindings: BTreeSet::new(),
            removed_from: BTreeMap::new(),
            exchanges: BTreeSet::new(),
            queues: BTreeSet::new(),
        }
    }

    pub(super) fn queue(&mut self, id: QueueId) {
        if self.sm.queue(id).is_some() && self.queues.insert(id) {
            for key in self.sm.binding_keys_to(Destination::Queue(id)) {
                self.binding(key);
            }
        }
    }

    fn exchange(&mut self, id: ExchangeId) {
        // A list instead of recursion: a chain of auto-delete exchanges may be long.
        let mut pending = vec![id];
        while let Some(id) = pending.pop() {
            if !self.exchanges.insert(id) {
                continue;
            }
            let outgoing: Vec<BindingKey> = self.sm.bindings_from(id).map(binding_key).collect();
            let incoming: Vec<BindingKey> = self.sm.binding_keys_to(Destination::Exchange(id)).collect();
            for key in outgoing.into_iter().chain(incoming) {
                pending.extend(self.note_binding(key));
            }
        }
    }

    fn binding(&mut self, key: BindingKey) {
        if let Some(exchange) = self.note_binding(key) {
            self.exchange(exchange);
        }
    }

    /// Notes a binding as gone and says which exchange goes with it.
    fn note_binding(&mut self, key: BindingKey) -> Option<ExchangeId> {
        let source = key.source;
        if !self.bindings.insert(key) {
            return None;
        }
        let removed = self.removed_from.entry(source).or_default();
        *removed += 1;
        let exchange = self.sm.exchange(source)?;
        (exchange.auto_delete && *removed == exchange.outgoing).then_some(source)
    }

    pub(super) fn finish(self, existed: bool) -> Plan {
        let mut changes = Vec::with_capacity(self.bindings.len() + self.exchanges.len() + self.queues.len());
        changes.extend(
            self.bindings
                .iter()
                .filter_map(|key| self.sm.bindings.get(key))
                .cloned()
                .map(Change::RemoveBinding),
        );
        changes.extend(
            self.exchanges
                .iter()
                .filter_map(|id| self.sm.exchange(*id))
                .map(|exchange| Change::RemoveExchange { id: exchange.id, durable: exchange.durable }),
        );
        changes.extend(
            self.queues
                .iter()
                .filter_map(|id| self.sm.queue(*id))
                .map(|queue| Change::RemoveQueue { id: queue.id, durable: queue.durable }),
        );
        let removed = Removed {
            queues: self.queues.into_iter().collect(),
            exchanges: self.exchanges.into_iter().collect(),
            bindings: self.bindings.len(),
            existed,
        };
        Plan { changes, reply: MetaReply::Removed(removed) }
    }
}

/// The exchanges every vhost is born with. Their identities follow the vhost's own, which is why
/// an identity leaves room behind it.
fn predeclared(vhost: VhostId) -> impl Iterator<Item = ExchangeSpec> {
    const LIST: [(&str, ExchangeType, bool); 7] = [
        ("", ExchangeType::Direct, false),
        ("amq.direct", ExchangeType::Direct, false),
        ("amq.fanout", ExchangeType::Fanout, false),
        ("amq.headers", ExchangeType::Headers, false),
        ("amq.match", ExchangeType::Headers, false),
        ("amq.rabbitmq.trace", ExchangeType::Topic, true),
        ("amq.topic", ExchangeType::Topic, false),
    ];
    LIST.into_iter().enumerate().map(move |(position, (name, kind, internal))| ExchangeSpec {
        id: ExchangeId((vhost.0 << PREDECLARED_BITS) | PREDECLARED | position as u64),
        vhost,
        name: Arc::from(name),
        kind,
        durable: true,
        auto_delete: false,
        internal,
        arguments: Arc::new(FieldTable::default()),
    })
}

/// Marks identities of predeclared exchanges, which derive from their vhost's.
const PREDECLARED: u64 = 1 << 62;
/// Room for the position in the list of predeclared exchanges.
const PREDECLARED_BITS: u32 = 3;

fn gone_vhost(_id: VhostId) -> MetaError {
    MetaError::NoSuchVhost("(deleted)".to_owned())
}

fn put_user(user: User, created: bool) -> Plan {
    Plan { changes: vec![Change::PutUser(user)], reply: MetaReply::Created(created) }
}

fn done(change: Change) -> Plan {
    Plan { changes: vec![change], reply: MetaReply::Done }
}

fn removed_entry(existed: bool, what: &'static str, name: &str, change: Change) -> Result<Plan, MetaError> {
    if !existed {
        return Err(MetaError::NoSuchEntry { what: what.into(), name: name.to_owned() });
    }
    let reply = MetaReply::Removed(Removed { existed: true, ..Removed::default() });
    Ok(Plan { changes: vec![change], reply })
}
