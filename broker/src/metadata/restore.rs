//! Taking over the state of another node, when this one lacks so much that it gets a snapshot.

use super::{Applied, InFlight, Shared, State};
use broker_core::exchange::ExchangeType;
use broker_core::ids::{QueueId, VhostId};
use broker_core::meta::cluster::Placement;
use broker_core::meta::{Change, ExchangeId, MetaSm};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What whoever is told about changes has to know of the state that is replaced.
struct Before {
    queues: BTreeMap<QueueId, (bool, Arc<Placement>)>,
    stores: BTreeMap<ExchangeId, bool>,
    vhosts: BTreeMap<VhostId, Arc<str>>,
    users: Vec<Arc<str>>,
}

impl Before {
    fn of(sm: &MetaSm) -> Before {
        Before {
            queues: sm.queues().map(|it| (it.id, (it.durable, Arc::clone(&it.placement)))).collect(),
            stores: stores(sm),
            vhosts: sm.vhosts().map(|it| (it.vhost.id, Arc::clone(&it.vhost.name))).collect(),
            users: sm.users().map(|user| Arc::clone(&user.name)).collect(),
        }
    }

    /// The changes between it and `sm` that concern queues and connections.
    fn changes(&self, sm: &MetaSm) -> Vec<Change> {
        let mut changes = Vec::new();
        for (id, (durable, _)) in self.queues.iter().filter(|(id, _)| sm.queue(**id).is_none()) {
            changes.push(Change::RemoveQueue { id: *id, durable: *durable });
        }
        for (id, durable) in self.stores.iter().filter(|(id, _)| sm.exchange(**id).is_none()) {
            changes.push(Change::RemoveExchange { id: *id, durable: *durable });
        }
        for (id, name) in self.vhosts.iter().filter(|(id, _)| sm.vhost(**id).is_none()) {
            changes.push(Change::RemoveVhost { id: *id, name: Arc::clone(name) });
        }
        for name in self.users.iter().filter(|name| sm.user(name).is_none()) {
            changes.push(Change::RemoveUser { name: Arc::clone(name) });
        }
        for state in sm.vhosts().filter(|state| !self.vhosts.contains_key(&state.vhost.id)) {
            changes.push(Change::PutVhost(state.vhost.clone()));
        }
        for id in stores(sm).keys().filter(|id| !self.stores.contains_key(id)) {
            changes.extend(sm.exchange(*id).map(|exchange| Change::PutExchange(exchange.spec.clone())));
        }
        for queue in sm.queues() {
            match self.queues.get(&queue.id) {
                None => changes.push(Change::PutQueue(queue.spec.clone())),
                Some((_, placement)) if *placement != queue.placement => {
                    let placement = Arc::clone(&queue.placement);
                    changes.push(Change::PutPlacement { queue: queue.id, placement });
                }
                Some(_) => {}
            }
        }
        changes
    }
}

/// Exchanges in which messages wait.
fn stores(sm: &MetaSm) -> BTreeMap<ExchangeId, bool> {
    let all = sm.vhosts().flat_map(|state| sm.exchanges_in(state.vhost.id));
    all.filter(|it| it.kind == ExchangeType::Delayed).map(|it| (it.id, it.durable)).collect()
}

impl Shared {
    /// Replaces the state, and tells what is different.
    pub(super) fn take_over(&self, octets: &[u8]) -> Result<(), String> {
        let mut state = self.state.write();
        let before = Before::of(&state.sm);
        state.sm.restore(octets).map_err(|error| error.to_string())?;
        state.next_index = state.next_index.max(state.sm.applied() + 1);
        state.in_flight = InFlight::default();
        // Whoever still waits for a round of this node asks again.
        state.round = None;
        if !state.caught_up {
            return Ok(());
        }
        let State { sm, book, .. } = &mut *state;
        book.refresh_all(sm);
        self.note_members(sm);
        let changes = before.changes(sm);
        let queues: Vec<QueueId> = sm.queues().map(|queue| queue.id).collect();
        if let Some(hook) = self.hook.get() {
            hook.on_applied(&Applied { sm, changes: &changes, new_options: &queues });
        }
        self.version.store(state.sm.version(), Ordering::Release);
        Ok(())
    }
}
