//! Snapshots: the state as the list of changes that makes it.

use super::cluster::Placement;
use super::entities::BindingSpec;
use super::{Change, LAST_INDEX, MetaSm, Queue};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Format of snapshots that have something of clusters in them. A snapshot of a later format is refused, never
/// guessed at.
const FORMAT: u32 = 2;
/// Format of all others, which versions can read that knew no clusters.
const ALONE: u32 = 1;

/// Why octets are not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Written by another version.
    #[error("metadata snapshot has format {0}, this program reads format {FORMAT}")]
    Format(u32),
    /// Damaged.
    #[error("metadata snapshot is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    applied: u64,
}

impl MetaSm {
    /// What must survive a restart of this node if it is alone, or `with_transients` everything, transient
    /// queues and exchanges included: what another node needs to join.
    pub fn snapshot(&self, with_transients: bool) -> Vec<u8> {
        let clustered = !self.members.is_empty() || self.queues().any(|queue| !is_alone(queue));
        let header = Header { format: if clustered { FORMAT } else { ALONE }, applied: self.applied() };
        let mut out = postcard::to_stdvec(&header).unwrap_or_default();
        self.for_each_change(|change| {
            if (with_transients || change.is_durable())
                && let Ok(octets) = postcard::to_stdvec(&change)
            {
                out.extend_from_slice(&(octets.len() as u32).to_le_bytes());
                out.extend_from_slice(&octets);
            }
        });
        out
    }

    /// Replaces the state by that of a snapshot. On an error the state is empty.
    pub fn restore(&mut self, octets: &[u8]) -> Result<(), SnapshotError> {
        let (version, access, policy) = (self.version(), self.access_version(), self.policy_version());
        *self = MetaSm::new();
        let outcome = self.commit_all(octets);
        match outcome {
            Ok(()) => self.raise_versions(version, access, policy),
            Err(_) => *self = MetaSm::new(),
        }
        outcome
    }

    fn commit_all(&mut self, octets: &[u8]) -> Result<(), SnapshotError> {
        let damaged = |error: postcard::Error| SnapshotError::Damaged(error.to_string());
        let wrong = |what: &str| SnapshotError::Damaged(what.to_owned());
        let (header, mut rest): (Header, &[u8]) = postcard::take_from_bytes(octets).map_err(damaged)?;
        if !(ALONE..=FORMAT).contains(&header.format) {
            return Err(SnapshotError::Format(header.format));
        }
        if header.applied > LAST_INDEX {
            return Err(wrong("the number of its last command is out of range"));
        }
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            let record = after.split_at_checked(length).ok_or_else(|| wrong("a record ends too early"))?;
            match postcard::take_from_bytes::<Change>(record.0).map_err(damaged)? {
                (change, []) => self.commit(&change),
                _ => return Err(wrong("octets behind a change")),
            }
            rest = record.1;
        }
        if !rest.is_empty() {
            return Err(wrong("octets behind the last record"));
        }
        self.note_applied(header.applied);
        Ok(())
    }

    /// The changes that make this state from an empty one, in an order that works.
    fn for_each_change(&self, mut each: impl FnMut(Change)) {
        for member in self.members() {
            each(Change::PutMember(member.clone()));
        }
        for user in self.users() {
            each(Change::PutUser(user.clone()));
        }
        for (user, limits) in &self.user_limits {
            each(Change::PutUserLimits { user: user.clone(), limits: *limits });
        }
        for (name, value) in self.global_parameters() {
            each(Change::PutGlobalParameter { name: name.clone(), value: value.to_owned() });
        }
        for state in self.vhosts() {
            let vhost = state.vhost.id;
            each(Change::PutVhost(state.vhost.clone()));
            each(Change::PutVhostLimits { vhost, limits: state.limits });
            for (user, patterns) in state.permissions() {
                each(Change::PutPermissions { user: user.clone(), vhost, patterns: patterns.clone() });
            }
            for (user, exchange, patterns) in state.topic_permissions() {
                each(Change::PutTopicPermissions {
                    user: user.clone(),
                    vhost,
                    exchange: exchange.clone(),
                    patterns: patterns.clone(),
                });
            }
            for operator in [false, true] {
                for policy in state.policies(operator) {
                    each(Change::PutPolicy { vhost, operator, policy: policy.clone() });
                }
            }
            for (component, name, value) in state.parameters() {
                each(Change::PutParameter {
                    vhost,
                    component: component.clone(),
                    name: name.clone(),
                    value: value.to_owned(),
                });
            }
        }
        for exchange in self.exchanges.values() {
            each(Change::PutExchange(exchange.spec.clone()));
        }
        for queue in self.queues() {
            each(Change::PutQueue(queue.spec.clone()));
            if !is_alone(queue) {
                each(Change::PutPlacement { queue: queue.id, placement: Arc::clone(&queue.placement) });
            }
        }
        let bindings: Vec<&BindingSpec> = self.bindings.values().collect();
        for binding in bindings {
            each(Change::PutBinding(binding.clone()));
        }
    }
}

/// Whether the queue is placed as on a node alone, which is not worth a word.
fn is_alone(queue: &Queue) -> bool {
    queue.placement == Placement::alone()
}
