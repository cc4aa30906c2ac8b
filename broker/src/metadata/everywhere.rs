//! Answers that wait until every node that serves has made a change, so that what was declared on one node can
//! be used on another at once.

use broker_core::ids::NodeId;
use broker_core::meta::{MetaError, MetaReply};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long a node that does not keep up is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Somebody who waits for an answer.
pub(super) type Asker = oneshot::Sender<Result<MetaReply, MetaError>>;

/// The answers that wait.
#[derive(Debug, Default)]
pub(super) struct Everywhere(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Other nodes that serve.
    up: BTreeSet<NodeId>,
    /// How far nodes have carried out the log.
    applied: BTreeMap<NodeId, u64>,
    waiting: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    index: u64,
    since: Instant,
    answers: Vec<(Asker, MetaReply)>,
}

impl Inner {
    /// Sends what nobody has to be waited for any more.
    fn release(&mut self, now: Instant) {
        let everywhere = self.up.iter().map(|node| self.applied.get(node).copied().unwrap_or(0)).min();
        let everywhere = everywhere.unwrap_or(u64::MAX);
        while let Some(held) = self.waiting.front()
            && (held.index <= everywhere || now.duration_since(held.since) >= PATIENCE)
        {
            let late = held.index > everywhere;
            let Some(held) = self.waiting.pop_front() else { return };
            if late {
                tracing::warn!(
                    index = held.index,
                    "a change is answered although not every node has made it"
                );
            }
            for (asker, answer) in held.answers {
                // Nobody may wait any more, if the connection ended.
                let _ = asker.send(Ok(answer));
            }
        }
    }
}

impl Everywhere {
    /// Answers once all have carried out the entry at `index`.
    pub(super) fn hold(&self, index: u64, answers: Vec<(Asker, MetaReply)>) {
        let mut inner = self.0.lock();
        let now = Instant::now();
        inner.waiting.push_back(Held { index, since: now, answers });
        inner.release(now);
    }

    /// Another node has carried out the log up to `index`.
    pub(super) fn note(&self, node: NodeId, index: u64) {
        let mut inner = self.0.lock();
        let known = inner.applied.entry(node).or_default();
        if index > *known {
            *known = index;
            inner.release(Instant::now());
        }
    }

    /// These other nodes serve.
    pub(super) fn set_up(&self, up: BTreeSet<NodeId>) {
        let mut inner = self.0.lock();
        inner.applied.retain(|node, _| up.contains(node));
        inner.up = up;
        inner.release(Instant::now());
    }

    /// Whether anybody waits; who has waited for too long does not any more.
    pub(super) fn look(&self) -> bool {
        let mut inner = self.0.lock();
        inner.release(Instant::now());
        !inner.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(everywhere: &Everywhere, index: u64) -> oneshot::Receiver<Result<MetaReply, MetaError>> {
        let (asker, answer) = oneshot::channel();
        everywhere.hold(index, vec![(asker, MetaReply::Done)]);
        answer
    }

    #[test]
    fn an_answer_waits_for_every_node_that_serves_and_for_no_other() {
        let everywhere = Everywhere::default();
        held(&everywhere, 1).try_recv().unwrap().unwrap();
        everywhere.set_up([NodeId(2), NodeId(3)].into());
        let (mut first, mut second) = (held(&everywhere, 5), held(&everywhere, 6));
        everywhere.note(NodeId(2), 6);
        first.try_recv().unwrap_err();
        everywhere.note(NodeId(3), 5);
        first.try_recv().unwrap().unwrap();
        second.try_recv().unwrap_err();
        assert!(everywhere.look());
        everywhere.set_up([NodeId(2)].into());
        second.try_recv().unwrap().unwrap();
        assert!(!everywhere.look());
    }
}
