//! Queues that are given to another node in good order, as for maintenance: nothing that was published is refused.
//!
//! ```text
//! held back ──► (copies have all that was taken: it is confirmed) ──► Transfer ──► copy
//!     │ what is published from now on waits on a detour, what is acknowledged counts │
//!     └──────────────────────────────────────────────────────────────► new leader ◄──┘
//! ```

use super::Over;
use crate::cluster::HandOver;
use crate::connection::outbox::ConsumerHandle;
use crate::node::Node;
use crate::shard::{LocalQueue, Shard, Turn, TurnBuffers};
use broker_core::ids::QueueId;
use broker_core::queue::consumers::Consumer;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::time::timeout;

/// How long it is waited for copies.
const PATIENCE: Duration = Duration::from_secs(2);

/// The queues of a node, as the cluster gives them to other nodes.
pub(crate) struct Giving(Weak<Node>);

impl Giving {
    /// Those of this node.
    pub(crate) fn of(node: &Arc<Node>) -> Giving {
        Giving(Arc::downgrade(node))
    }
}

impl HandOver for Giving {
    fn hold_back(&self, queues: Vec<QueueId>) -> BoxFuture<'static, ()> {
        let node = self.0.upgrade();
        async move {
            if let Some(node) = node {
                node.hold_back(&queues).await;
            }
        }
        .boxed()
    }

    fn go_on(&self, queues: &[QueueId]) {
        if let Some(node) = self.0.upgrade() {
            queues.iter().for_each(|queue| node.go_on(*queue));
        }
    }
}

impl Node {
    /// Takes nothing more for these queues, and waits until what they took is safe.
    async fn hold_back(&self, queues: &[QueueId]) {
        let mut marks = Vec::new();
        for &id in queues {
            let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
            turn.shard(id, |shard, _, _| {
                if let Some(queue) = shard.make_copy(id) {
                    queue.hold_back();
                }
            });
            turn.close();
            marks.extend(self.unsafe_copies(id));
            turn.finish();
        }
        let position = self.wal.last_lsn();
        let mut durable = self.durable();
        let safe = async {
            let synced = durable.wait_for(|durable| *durable >= position).await.is_ok();
            synced && self.gates.passed(&marks).await
        };
        if timeout(PATIENCE, safe).await.is_err() {
            tracing::info!("queues are handed over although not every copy has said that it has everything");
        }
    }

    /// The queue is led here as before, unless another node leads it by now.
    fn go_on(&self, id: QueueId) {
        let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
        turn.shard(id, |shard, now, fx| {
            let is_held_back = shard.held_mut(id).is_some_and(|queue| queue.is_held_back());
            if is_held_back && let Some(queue) = shard.make_led(id) {
                queue.go_on(now, fx);
            }
        });
        turn.finish();
    }

    /// Another node leads a queue that may have been held back for it. Returns who consumed. Its shard is locked.
    pub(crate) fn end_hand_over(&self, shard: &mut Shard, queue: QueueId) -> Vec<Consumer<ConsumerHandle>> {
        let consumers = shard.source_mut(queue).map(LocalQueue::remove_consumers);
        if consumers.is_some() {
            self.unlead(queue, Over::Deposed);
        }
        consumers.unwrap_or_default()
    }
}
