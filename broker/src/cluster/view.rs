//! The cluster as the rest of the node sees it: who am I, am I alone, who leads a queue, who are the others.

use super::link::Links;
use crate::metadata::MetadataView;
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::{Member, Queue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Where a queue is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// Here.
    Here {
        /// In this epoch.
        epoch: u32,
    },
    /// On another node.
    At {
        /// Which one.
        node: NodeId,
        /// In which epoch.
        epoch: u32,
    },
    /// On none now.
    Nowhere {
        /// The node that would run it if it came back.
        last: NodeId,
    },
}

/// The cluster, as one node knows it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct ClusterView {
    metadata: MetadataView,
    links: Option<Links>,
    paused: Arc<watch::Sender<Option<String>>>,
    lease: Arc<Lease>,
}

/// For how long nobody can lead what this node leads: the others have heard of it, and wait for longer than this until
/// they take it for dead.
#[derive(Debug)]
struct Lease {
    since: Instant,
    /// Milliseconds after that.
    until_ms: AtomicU64,
}

impl Lease {
    /// Until it is renewed for the first time it holds: by then the node has led nothing that others could lead.
    fn new() -> Lease {
        Lease { since: Instant::now(), until_ms: AtomicU64::new(u64::MAX) }
    }

    fn renew(&self, until: Option<Instant>) {
        let until = until.map_or(Duration::ZERO, |until| until.saturating_duration_since(self.since));
        let until_ms = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until_ms.store(until_ms, Ordering::Relaxed);
    }

    fn holds(&self, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.since);
        now < Duration::from_millis(self.until_ms.load(Ordering::Relaxed))
    }
}

impl std::fmt::Debug for ClusterView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterView").field("me", &self.me()).finish_non_exhaustive()
    }
}

impl ClusterView {
    /// The view of a node that reaches others by `links`.
    pub(crate) fn new(metadata: MetadataView, links: Option<Links>) -> ClusterView {
        let paused = Arc::new(watch::Sender::new(None));
        ClusterView { metadata, links, paused, lease: Arc::new(Lease::new()) }
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.metadata.seat().me
    }

    /// Which start of this node it is.
    pub(crate) fn incarnation(&self) -> u64 {
        self.metadata.seat().incarnation
    }

    /// Whether there are no other nodes.
    pub(crate) fn is_alone(&self) -> bool {
        self.metadata.is_alone()
    }

    /// Who runs a queue. `None`: there is no such queue any more. Another node may know of a queue, and publish to it,
    /// before this one does: until then nobody runs it.
    pub(crate) fn leader_of(&self, queue: QueueId) -> Option<Home> {
        let sm = self.metadata.read();
        match sm.queue(queue) {
            Some(queue) => Some(self.home(queue)),
            None => sm.is_yet_to_come(queue).then(|| Home::Nowhere { last: self.me() }),
        }
    }

    /// The same of a queue that was looked up.
    pub(crate) fn home(&self, queue: &Queue) -> Home {
        let placement = &queue.placement;
        let epoch = placement.epoch;
        match placement.leader {
            Some(node) if node != self.me() => Home::At { node, epoch },
            Some(_) if placement.incarnation == self.incarnation() => Home::Here { epoch },
            // An earlier start of this node: it leads again once the others know of this one.
            Some(last) => Home::Nowhere { last },
            None => Home::Nowhere { last: placement.home().unwrap_or(self.me()) },
        }
    }

    /// The connections to other nodes, if the node has any.
    pub(crate) fn links(&self) -> Option<&Links> {
        self.links.as_ref()
    }

    /// All nodes of the cluster, this one among them; empty on a node that never was in one.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.metadata.read().members().cloned().collect()
    }

    /// The name of a node.
    pub(crate) fn name_of(&self, node: NodeId) -> Option<Arc<str>> {
        self.metadata.read().member(node).map(|member| Arc::clone(&member.name))
    }

    /// Whether another node may lead by now what this node leads as far as it knows: it was stopped itself, or nobody
    /// has answered it for long.
    pub(crate) fn may_be_deposed(&self) -> bool {
        !self.is_alone() && !self.lease.holds(Instant::now())
    }

    /// The others do not take this node for dead until then; `None` when they may.
    pub(super) fn set_lease(&self, until: Option<Instant>) {
        self.lease.renew(until);
    }

    /// Why the node serves no clients now, if it does not.
    pub(crate) fn paused(&self) -> Option<String> {
        self.paused.borrow().clone()
    }

    /// Follows that.
    pub(crate) fn pause(&self) -> watch::Receiver<Option<String>> {
        self.paused.subscribe()
    }

    /// The node serves no clients from now on, or does again.
    pub(super) fn set_paused(&self, reason: Option<String>) {
        self.paused.send_if_modified(|known| {
            let changed = *known != reason;
            *known = reason;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_until_its_end_and_can_be_taken_away() {
        let lease = Lease::new();
        let now = Instant::now();
        assert!(lease.holds(now));
        lease.renew(Some(now + Duration::from_secs(2)));
        assert!(lease.holds(now));
        assert!(!lease.holds(now + Duration::from_secs(2)));
        lease.renew(None);
        assert!(!lease.holds(now));
    }
}
