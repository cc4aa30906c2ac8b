//! Making changes so: the only code that writes to the state.

use super::cluster::{Member, Placement};
use super::entities::{
    BindingSpec, Destination, ExchangeId, ExchangeSpec, PolicyNames, Queue, QueueSpec, Vhost,
};
use super::{BindingKey, Change, Exchange, MetaSm, QueueOptions, VhostState, wire};
use crate::exchange::Router;
use crate::ids::{QueueId, VhostId};
use std::sync::Arc;

impl MetaSm {
    /// Makes a change so. Changes come from [`MetaSm::plan`], the journal or a snapshot, in order.
    /// A change that refers to something unknown is left out, so that a journal in which transient
    /// things are missing replays.
    pub fn commit(&mut self, change: &Change) {
        self.version += 1;
        match change {
            Change::PutExchange(spec) => self.put_exchange(spec),
            Change::RemoveExchange { id, .. } => self.remove_exchange(*id),
            Change::PutQueue(spec) => self.put_queue(spec),
            Change::RemoveQueue { id, .. } => self.remove_queue(*id),
            Change::PutBinding(spec) => self.put_binding(spec),
            Change::RemoveBinding(spec) => self.remove_binding(spec),
            Change::PutMember(member) => self.put_member(member),
            Change::RemoveMember { id } => {
                self.members.remove(id);
            }
            Change::PutPlacement { queue, placement } => self.put_placement(*queue, placement),
            Change::PutPolicy { .. } | Change::RemovePolicy { .. } => self.commit_policy(change),
            Change::PutParameter { .. }
            | Change::RemoveParameter { .. }
            | Change::PutGlobalParameter { .. }
            | Change::RemoveGlobalParameter { .. }
            | Change::PutVhostLimits { .. }
            | Change::PutUserLimits { .. } => self.commit_setting(change),
            _ => {
                self.access_version += 1;
                self.commit_access(change);
            }
        }
    }

    fn commit_access(&mut self, change: &Change) {
        match change {
            Change::PutVhost(vhost) => self.put_vhost(vhost),
            Change::RemoveVhost { id, name } => self.remove_vhost(*id, name),
            Change::PutUser(user) => {
                self.users.insert(Arc::clone(&user.name), user.clone());
            }
            Change::RemoveUser { name } => {
                self.users.remove(name);
                self.user_limits.remove(name);
                for state in self.vhosts.values_mut() {
                    state.permissions.remove(name);
                    state.topic_permissions.retain(|(user, _), _| user != name);
                }
            }
            Change::PutPermissions { user, vhost, patterns } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.permissions.insert(Arc::clone(user), patterns.clone());
                }
            }
            Change::RemovePermissions { user, vhost } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.permissions.remove(user);
                }
            }
            Change::PutTopicPermissions { user, vhost, exchange, patterns } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state
                        .topic_permissions
                        .insert((Arc::clone(user), Arc::clone(exchange)), patterns.clone());
                }
            }
            Change::RemoveTopicPermissions { user, vhost, exchange } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.topic_permissions.remove(&(Arc::clone(user), Arc::clone(exchange)));
                }
            }
            _ => debug_assert!(false, "not a change of access: {change:?}"),
        }
    }

    fn commit_policy(&mut self, change: &Change) {
        self.policy_version += 1;
        let (vhost, operator) = match change {
            Change::PutPolicy { vhost, operator, .. } | Change::RemovePolicy { vhost, operator, .. } => {
                (vhost, *operator)
            }
            _ => return,
        };
        let Some(state) = self.vhosts.get_mut(vhost) else { return };
        let policies = if operator { &mut state.operator_policies } else { &mut state.policies };
        match change {
            Change::PutPolicy { policy, .. } => {
                policies.insert(Arc::clone(&policy.name), policy.clone());
            }
            Change::RemovePolicy { name, .. } => {
                policies.remove(name);
            }
            _ => {}
        }
    }

    fn commit_setting(&mut self, change: &Change) {
        match change {
            Change::PutGlobalParameter { name, value } => {
                self.global_parameters.insert(Arc::clone(name), value.clone());
            }
            Change::RemoveGlobalParameter { name } => {
                self.global_parameters.remove(name);
            }
            Change::PutUserLimits { user, limits } => {
                self.user_limits.insert(Arc::clone(user), *limits);
            }
            Change::PutVhostLimits { vhost, limits } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.limits = *limits;
                }
            }
            Change::PutParameter { vhost, component, name, value } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.parameters.insert((Arc::clone(component), Arc::clone(name)), value.clone());
                }
            }
            Change::RemoveParameter { vhost, component, name } => {
                if let Some(state) = self.vhosts.get_mut(vhost) {
                    state.parameters.remove(&(Arc::clone(component), Arc::clone(name)));
                }
            }
            _ => debug_assert!(false, "not a setting: {change:?}"),
        }
    }

    fn put_vhost(&mut self, vhost: &Vhost) {
        if let Some(state) = self.vhosts.get_mut(&vhost.id) {
            state.vhost = vhost.clone();
            return;
        }
        self.vhost_ids.insert(Arc::clone(&vhost.name), vhost.id);
        self.vhosts.insert(
            vhost.id,
            VhostState {
                vhost: vhost.clone(),
                exchanges: Default::default(),
                queues: Default::default(),
                limits: Default::default(),
                policies: Default::default(),
                operator_policies: Default::default(),
                parameters: Default::default(),
                permissions: Default::default(),
                topic_permissions: Default::default(),
            },
        );
    }

    fn remove_vhost(&mut self, id: VhostId, name: &Arc<str>) {
        let Some(state) = self.vhosts.remove(&id) else { return };
        if self.vhost_ids.get(name) == Some(&id) {
            self.vhost_ids.remove(name);
        }
        for queue in state.queues.values() {
            self.forget_queue(*queue);
        }
        for exchange in state.exchanges.values() {
            self.exchanges.remove(exchange);
        }
        if state.exchanges.is_empty() {
            return;
        }
        self.bindings.retain(|_, binding| binding.vhost != id);
        let bindings = &self.bindings;
        self.bindings_to.retain(|(destination, source, routing_key, arguments)| {
            bindings.contains_key(&BindingKey {
                source: *source,
                destination: *destination,
                routing_key: Arc::clone(routing_key),
                arguments: Arc::clone(arguments),
            })
        });
    }

    fn put_exchange(&mut self, spec: &ExchangeSpec) {
        // Its bindings count on the one there is.
        if self.exchanges.contains_key(&spec.id) {
            return;
        }
        let Some(state) = self.vhosts.get_mut(&spec.vhost) else { return };
        state.exchanges.insert(Arc::clone(&spec.name), spec.id);
        let exchange = Exchange {
            policies: PolicyNames::default(),
            alternate: super::arguments::alternate_exchange(&spec.arguments),
            router: Router::new(spec.kind, &spec.arguments),
            outgoing: 0,
            spec: spec.clone(),
        };
        self.exchanges.insert(spec.id, exchange);
    }

    fn remove_exchange(&mut self, id: ExchangeId) {
        // Bindings that a journal did not know to be removed, because they were transient.
        let orphans: Vec<BindingSpec> =
            self.bindings_from(id).chain(self.bindings_to(Destination::Exchange(id))).cloned().collect();
        for binding in &orphans {
            self.remove_binding(binding);
        }
        let Some(exchange) = self.exchanges.remove(&id) else { return };
        if let Some(state) = self.vhosts.get_mut(&exchange.spec.vhost)
            && state.exchanges.get(&exchange.spec.name) == Some(&id)
        {
            state.exchanges.remove(&exchange.spec.name);
        }
    }

    fn put_queue(&mut self, spec: &QueueSpec) {
        if self.queues.contains_key(&spec.id) {
            return;
        }
        let Some(state) = self.vhosts.get_mut(&spec.vhost) else { return };
        state.queues.insert(Arc::clone(&spec.name), spec.id);
        if let Some(owner) = spec.owner {
            self.owned.insert((owner, spec.id));
        }
        let options = QueueOptions::shared(&spec.arguments);
        let mut spec = spec.clone();
        if spec.arguments.is_empty() {
            spec.arguments = wire::no_arguments();
        }
        let placement = Placement::alone();
        self.loads.add(&placement);
        let queue = Queue {
            own_options: Arc::clone(&options),
            options,
            policies: PolicyNames::default(),
            placement,
            spec,
        };
        self.queues.insert(queue.spec.id, queue);
    }

    fn put_placement(&mut self, id: QueueId, placement: &Arc<Placement>) {
        let Some(queue) = self.queues.get_mut(&id) else { return };
        self.loads.remove(&queue.placement);
        self.loads.add(placement);
        queue.placement = Arc::clone(placement);
    }

    fn put_member(&mut self, member: &Member) {
        self.members.insert(member.id, member.clone());
    }

    fn remove_queue(&mut self, id: QueueId) {
        let orphans: Vec<BindingSpec> = self.bindings_to(Destination::Queue(id)).cloned().collect();
        for binding in &orphans {
            self.remove_binding(binding);
        }
        let Some(queue) = self.forget_queue(id) else { return };
        if let Some(state) = self.vhosts.get_mut(&queue.spec.vhost)
            && state.queues.get(&queue.spec.name) == Some(&id)
        {
            state.queues.remove(&queue.spec.name);
        }
    }

    /// Takes a queue out of everything but its vhost.
    fn forget_queue(&mut self, id: QueueId) -> Option<Queue> {
        let queue = self.queues.remove(&id)?;
        self.loads.remove(&queue.placement);
        if let Some(owner) = queue.spec.owner {
            self.owned.remove(&(owner, id));
        }
        Some(queue)
    }

    fn put_binding(&mut self, spec: &BindingSpec) {
        let known = match spec.destination {
            Destination::Queue(id) => self.queues.contains_key(&id),
            Destination::Exchange(id) => self.exchanges.contains_key(&id),
        };
        let key = binding_key(spec);
        if !known || self.bindings.contains_key(&key) {
            return;
        }
        let Some(source) = self.exchanges.get_mut(&spec.source) else { return };
        source.router.bind(spec.destination, &spec.routing_key, &spec.arguments, &key.arguments);
        source.outgoing += 1;
        self.bindings_to.insert((
            key.destination,
            key.source,
            Arc::clone(&key.routing_key),
            Arc::clone(&key.arguments),
        ));
        self.bindings.insert(key, spec.clone());
    }

    fn remove_binding(&mut self, spec: &BindingSpec) {
        let key = binding_key(spec);
        if self.bindings.remove(&key).is_none() {
            return;
        }
        if let Some(source) = self.exchanges.get_mut(&spec.source) {
            source.router.unbind(spec.destination, &spec.routing_key, &key.arguments);
            source.outgoing -= 1;
        }
        self.bindings_to.remove(&(key.destination, key.source, key.routing_key, key.arguments));
    }
}

/// The identity of a binding.
pub(crate) fn binding_key(spec: &BindingSpec) -> BindingKey {
    BindingKey {
        source: spec.source,
        destination: spec.destination,
        routing_key: Arc::clone(&spec.routing_key),
        arguments: wire::canonical(&spec.arguments),
    }
}
