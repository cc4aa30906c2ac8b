//! Who published what, what was confirmed, what came out: held against each other at the end.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::ids::NodeId;

/// A node and the epoch in which it leads.
pub(super) type Leadership = (NodeId, u32);

#[derive(Debug, Default)]
pub(super) struct Account {
    published: BTreeSet<u64>,
    confirmed: BTreeSet<u64>,
    deliveries: BTreeMap<u64, Delivered>,
    /// The newest message that came out as new, by leadership.
    newest: BTreeMap<Leadership, u64>,
}

#[derive(Debug, Default)]
struct Delivered {
    acknowledged: bool,
}

impl Account {
    /// The number of the next message.
    pub(super) fn publish(&mut self) -> u64 {
        let id = self.published.len() as u64 + 1;
        self.published.insert(id);
        id
    }

    pub(super) fn confirm(&mut self, id: u64) {
        self.confirmed.insert(id);
    }

    /// A consumer got a message.
    ///
    /// # Errors
    /// When nobody published it, or it came as new a second time.
    pub(super) fn deliver(&mut self, by: Leadership, id: u64, redelivered: bool) -> Result<(), String> {
        if !self.published.contains(&id) {
            return Err(format!("message {id} was never published"));
        }
        let is_first = !self.deliveries.contains_key(&id);
        self.deliveries.entry(id).or_default();
        if !redelivered {
            if !is_first {
                return Err(format!("message {id} came again and was not marked redelivered"));
            }
            // The publisher sends one after the other.
            let newest = self.newest.entry(by).or_default();
            if id < *newest {
                return Err(format!("message {id} came after {newest}, which was published later"));
            }
            *newest = id;
        }
        Ok(())
    }

    pub(super) fn acknowledge(&mut self, id: u64) {
        self.deliveries.entry(id).or_default().acknowledged = true;
    }

    pub(super) fn confirmed(&self) -> usize {
        self.confirmed.len()
    }

    /// Confirmed messages that no consumer has acknowledged.
    pub(super) fn owed(&self) -> impl Iterator<Item = u64> + '_ {
        let settled = |id: &u64| self.deliveries.get(id).is_some_and(|delivered| delivered.acknowledged);
        self.confirmed.iter().copied().filter(move |id| !settled(id))
    }
}
