//! What a proposal looks at and changes, to find out which may be written together.
//!
//! Two proposals may share a round when neither changes what the other looks at. Names are kept as
//! hashes; two names with one hash make a proposal wait for the next round, nothing worse.

use broker_core::ids::VhostId;
use broker_core::meta::{
    BindingRequest, BindingSpec, Change, Destination, DestinationName, ExchangeId, MetaCommand, MetaSm, Plan,
};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// What one proposal looks at and changes.
#[derive(Debug, Default)]
pub(super) struct Footprint {
    /// Concerns users, vhosts, policies: goes alone.
    alone: bool,
    looks_at: Vec<u64>,
    changes: Vec<u64>,
}

/// What all proposals of the round in flight look at and change.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    alone: bool,
    any: bool,
    looks_at: HashSet<u64>,
    changes: HashSet<u64>,
}

#[derive(Hash)]
enum Thing<'a> {
    Queue(u64, &'a str),
    Exchange(u64, &'a str),
    QueueCount(u64),
    Placement(u64),
}

impl InFlight {
    /// Whether a proposal must wait until what is in flight is done.
    pub(super) fn conflicts(&self, footprint: &Footprint) -> bool {
        self.alone
            || (footprint.alone && self.any)
            || footprint.looks_at.iter().any(|thing| self.changes.contains(thing))
            || footprint
                .changes
                .iter()
                .any(|thing| self.changes.contains(thing) || self.looks_at.contains(thing))
    }

    /// Adds a proposal to the round.
    pub(super) fn add(&mut self, footprint: &Footprint) {
        self.any = true;
        self.alone |= footprint.alone;
        self.looks_at.extend(&footprint.looks_at);
        self.changes.extend(&footprint.changes);
    }
}

impl Footprint {
    /// The footprint of a command; `plan` is what it would do if nothing were in flight.
    pub(super) fn new(sm: &MetaSm, command: &MetaCommand, plan: Option<&Plan>) -> Footprint {
        let mut footprint = Footprint::default();
        match command {
            MetaCommand::DeclareQueue(declare) => footprint.queue(declare.vhost, &declare.name),
            MetaCommand::DeclareExchange(declare) => footprint.exchange(declare.vhost, &declare.name),
            MetaCommand::DeleteExchange { vhost, name, .. } => footprint.exchange(*vhost, name),
            MetaCommand::Bind(request) | MetaCommand::Unbind(request) => footprint.binding(request),
            MetaCommand::DeleteQueues { .. } => {}
            MetaCommand::IsrExpand { queue, .. }
            | MetaCommand::SetReplicas { queue, .. }
            | MetaCommand::Transfer { queue, .. }
            | MetaCommand::ForcePromote { queue, .. } => {
                footprint.looks_at.push(hash(&Thing::Placement(queue.0)));
            }
            _ => footprint.alone = true,
        }
        for change in plan.into_iter().flat_map(|plan| &plan.changes) {
            footprint.change(sm, change);
        }
        footprint
    }

    fn queue(&mut self, vhost: VhostId, name: &str) {
        self.looks_at.push(hash(&Thing::Queue(vhost.0, name)));
    }

    fn exchange(&mut self, vhost: VhostId, name: &str) {
        self.looks_at.push(hash(&Thing::Exchange(vhost.0, name)));
    }

    fn binding(&mut self, request: &BindingRequest) {
        self.exchange(request.vhost, &request.source);
        match &request.destination {
            DestinationName::Queue(name) => self.queue(request.vhost, name),
            DestinationName::Exchange(name) => self.exchange(request.vhost, name),
        }
    }

    fn change(&mut self, sm: &MetaSm, change: &Change) {
        match change {
            Change::PutQueue(spec) => {
                self.changes.push(hash(&Thing::Queue(spec.vhost.0, &spec.name)));
                if sm.vhost(spec.vhost).is_some_and(|state| state.limits().max_queues.is_some()) {
                    self.changes.push(hash(&Thing::QueueCount(spec.vhost.0)));
                }
            }
            Change::RemoveQueue { id, .. } => {
                if let Some(queue) = sm.queue(*id) {
                    self.changes.push(hash(&Thing::Queue(queue.vhost.0, &queue.name)));
                    self.changes.push(hash(&Thing::Placement(id.0)));
                }
            }
            Change::PutPlacement { queue, .. } => self.changes.push(hash(&Thing::Placement(queue.0))),
            Change::PutExchange(spec) => {
                self.changes.push(hash(&Thing::Exchange(spec.vhost.0, &spec.name)));
            }
            Change::RemoveExchange { id, .. } => self.change_exchange(sm, *id),
            Change::PutBinding(spec) => self.look_at_ends(sm, spec),
            Change::RemoveBinding(spec) => {
                self.look_at_ends(sm, spec);
                // Whether an exchange goes with its last binding depends on all its bindings.
                if sm.exchange(spec.source).is_some_and(|exchange| exchange.auto_delete) {
                    self.change_exchange(sm, spec.source);
                }
            }
            _ => self.alone = true,
        }
    }

    fn change_exchange(&mut self, sm: &MetaSm, id: ExchangeId) {
        if let Some(exchange) = sm.exchange(id) {
            self.changes.push(hash(&Thing::Exchange(exchange.vhost.0, &exchange.name)));
        }
    }

    fn look_at_ends(&mut self, sm: &MetaSm, spec: &BindingSpec) {
        if let Some(source) = sm.exchange(spec.source) {
            self.exchange(source.vhost, &source.name);
        }
        match spec.destination {
            Destination::Queue(id) => {
                if let Some(queue) = sm.queue(id) {
                    self.queue(queue.vhost, &queue.name);
                }
            }
            Destination::Exchange(id) => {
                if let Some(exchange) = sm.exchange(id) {
                    self.exchange(exchange.vhost, &exchange.name);
                }
            }
        }
    }
}

fn hash(thing: &Thing<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    thing.hash(&mut hasher);
    hasher.finish()
}
