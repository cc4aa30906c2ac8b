//! Serving clients of queues that other nodes lead, and clients of other nodes of queues that are led here.
//!
//! ```text
//!   client ── connection ── turn ── outgoing ──► peer ═══ link ═══► served ── turn ── queue
//!                  ▲                              │ │                  │
//!               outbox ◄──── deliveries ──────────┘ ◄════ link ════ outputs
//! ```
//!
//! The client's node is the *origin*: it keeps channels, delivery tags, limits and transactions ([`peer`],
//! [`outgoing`], [`ask`]). The queue's node is its *leader* ([`served`]). What both remember and how they talk is in
//! [`broker_core::forward`], without I/O.
//!
//! A turn that finds no queue of a number in its shard asks here where it is. A node alone has nothing attached
//! and answers at once that it is nowhere.
//!
//! Lock order: metadata, one shard, a peer or a served origin, then outboxes, gates, links.

pub(crate) mod ask;
pub(crate) mod cluster;
pub(crate) mod consumer;
mod detours;
pub(crate) mod frames;
pub(crate) mod letters;
pub(crate) mod outgoing;
pub(crate) mod peer;
pub(crate) mod served;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use crate::cluster::Home;
use crate::connection::outbox::Request;
use crate::node::Node;
use crate::shard::{Turn, TurnBuffers};
use broker_core::ids::{NodeId, QueueId};
use broker_core::queue::origins::life;
use bytes::Bytes;
use consumer::{FarConsumer, Moved};
use detours::Detours;
use letters::Letters;
use parking_lot::{Mutex, RwLock};
use peer::Peer;
use rustc_hash::FxHashMap;
use served::Served;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// How often consumers are attached again, dead letters are sent again, and changed leaders are noticed.
const TICK: Duration = Duration::from_millis(100);

/// How often consumers are compared with the metadata although it has not changed, in ticks.
const THOROUGH_TICKS: u32 = 10;
/// Queues from which on the numbers of those are forgotten that were deleted.
const NUMBERS: usize = 8192;
/// How often it is looked for them, in ticks.
const NUMBERS_TICKS: u32 = 600;

/// The cluster, as far as forwarding needs it.
pub(crate) trait Around: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// Which start of it this is.
    fn incarnation(&self) -> u64;
    /// Whether there are no other nodes.
    fn is_alone(&self) -> bool;
    /// Where a queue is run; none when there is no such queue. Reads the metadata.
    fn home(&self, queue: QueueId) -> Option<Home>;
    /// Sends a frame, or says that it can not.
    fn send(&self, to: NodeId, frame: Bytes) -> bool;
    /// Name of a node.
    fn name(&self, node: NodeId) -> String;
    /// The other node whose connections have this number in their upper bits.
    fn with_slot(&self, slot: u16) -> Option<NodeId>;
}

/// A consumer that is attached to no leader now.
#[derive(Debug)]
struct Detached {
    number: u64,
    consumer: FarConsumer,
    /// Leader and epoch it was attached to last.
    was: Option<(NodeId, u32)>,
}

/// All consumers that are attached to no leader now.
#[derive(Debug, Default)]
struct Unattached {
    detached: Vec<Detached>,
    /// Those that are about to be attached, unless they are forgotten meanwhile.
    attaching: Vec<u64>,
}

impl Unattached {
    fn take(&mut self) -> Vec<Detached> {
        self.attaching = self.detached.iter().map(|detached| detached.number).collect();
        std::mem::take(&mut self.detached)
    }

    fn put_back(&mut self, left: Vec<Detached>) {
        let attaching = std::mem::take(&mut self.attaching);
        self.detached.extend(left.into_iter().filter(|detached| attaching.contains(&detached.number)));
    }

    fn forget(&mut self, number: u64) {
        self.detached.retain(|detached| detached.number != number);
        self.attaching.retain(|attaching| *attaching != number);
    }
}

/// What a node knows about queues elsewhere and clients from elsewhere.
#[derive(Default)]
pub(crate) struct Forward {
    around: OnceLock<Arc<dyn Around>>,
    peers: RwLock<FxHashMap<NodeId, Arc<Peer>>>,
    served: RwLock<FxHashMap<NodeId, Arc<Served>>>,
    unattached: Mutex<Unattached>,
    letters: Mutex<Letters>,
    detours: Detours,
    /// How many publishes were sent to each queue elsewhere. Numbers of a queue never begin again.
    numbers: Mutex<FxHashMap<QueueId, u64>>,
    consumers: AtomicU64,
    requests: AtomicU64,
    sessions: AtomicU32,
    /// Version of the metadata that consumers were compared with.
    looked_at: AtomicU64,
    /// Wakes the task.
    wake: Arc<Notify>,
    /// Wakes the task because confirms have begun to wait.
    confirms: Arc<Notify>,
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forward").field("alone", &self.is_alone()).finish_non_exhaustive()
    }
}

impl Forward {
    /// Whether there are no other nodes.
    pub(crate) fn is_alone(&self) -> bool {
        self.around.get().is_none_or(|around| around.is_alone())
    }

    /// Whether publishes wait for a leader of their queue.
    pub(crate) fn has_detours(&self) -> bool {
        !self.detours.is_empty()
    }

    /// Where a queue is run. Reads the metadata: no shard may be locked. None as well on a node alone.
    pub(crate) fn home(&self, queue: QueueId) -> Option<Home> {
        self.around.get().filter(|around| !around.is_alone())?.home(queue)
    }

    /// The upper bits of the numbers of this node's connections.
    pub(crate) fn slot(&self) -> u16 {
        let around = self.around.get().filter(|around| !around.is_alone());
        around.map_or(0, |around| around.me().0 as u16)
    }

    /// Name of a node.
    pub(crate) fn name(&self, node: NodeId) -> String {
        self.around.get().map_or_else(String::new, |around| around.name(node))
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.around.get().map_or(NodeId::FIRST, |around| around.me())
    }

    fn is_me(&self, node: NodeId) -> bool {
        self.me() == node
    }

    /// This start of this node, as queues know who published.
    fn own_life(&self) -> u64 {
        self.around.get().map_or(0, |around| life(around.me(), around.incarnation()))
    }

    fn send(&self, to: NodeId, frame: impl Into<Bytes>) -> bool {
        self.around.get().is_some_and(|around| around.send(to, frame.into()))
    }

    /// Forgets the numbers of queues that do not exist any more.
    fn forget_numbers(&self) {
        let mut numbers = self.numbers.lock();
        if numbers.len() < NUMBERS {
            return;
        }
        let queues: Vec<QueueId> = numbers.keys().copied().collect();
        drop(numbers);
        let gone: Vec<QueueId> = queues.into_iter().filter(|queue| self.home(*queue).is_none()).collect();
        numbers = self.numbers.lock();
        for queue in gone {
            numbers.remove(&queue);
        }
    }

    fn peer(&self, node: NodeId) -> Arc<Peer> {
        if let Some(peer) = self.peers.read().get(&node) {
            return Arc::clone(peer);
        }
        let mut peers = self.peers.write();
        Arc::clone(peers.entry(node).or_insert_with(|| Arc::new(Peer::new(node))))
    }

    fn peers(&self) -> Vec<Arc<Peer>> {
        self.peers.read().values().cloned().collect()
    }

    fn served(&self, origin: NodeId) -> Option<Arc<Served>> {
        if let Some(served) = self.served.read().get(&origin) {
            return Some(Arc::clone(served));
        }
        let around = self.around.get()?;
        let mut all = self.served.write();
        let served = all.entry(origin).or_insert_with(|| Arc::new(Served::new(origin, Arc::clone(around))));
        Some(Arc::clone(served))
    }

    fn all_served(&self) -> Vec<Arc<Served>> {
        self.served.read().values().cloned().collect()
    }

    /// Some queue has another leader: what waits for that goes on.
    pub(crate) fn leaders_changed(&self) {
        if !self.is_alone() {
            self.wake.notify_one();
        }
    }

    fn wake_confirms(&self) {
        self.confirms.notify_one();
    }

    fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for a consumer of a queue elsewhere.
    pub(crate) fn next_consumer(&self) -> u64 {
        self.consumers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A consumer that has lost its leader: it is attached again as soon as there is one.
    pub(crate) fn detach(&self, number: u64, consumer: FarConsumer, was: Option<(NodeId, u32)>) {
        self.unattached.lock().detached.push(Detached { number, consumer, was });
        self.wake.notify_one();
    }

    /// Forgets a consumer that waits for a leader.
    fn forget_detached(&self, number: u64) {
        self.unattached.lock().forget(number);
    }
}

impl Node {
    /// Begins to forward: the node may have neighbours from now on.
    pub(crate) fn begin_forwarding(self: &Arc<Self>, around: Arc<dyn Around>) {
        if self.forward.around.set(around).is_ok() {
            tokio::spawn(run(Arc::downgrade(self)));
        }
    }

    /// Our connection to another node is there.
    pub(crate) fn forward_up(&self, peer: NodeId) {
        self.begin_session(&self.forward.peer(peer));
        if let Some(served) = self.forward.served(peer) {
            served.say_ready();
        }
    }

    /// Our connection to another node is gone.
    pub(crate) fn forward_down(&self, peer: NodeId) {
        self.end_session(&self.forward.peer(peer));
        if let Some(served) = self.forward.served(peer) {
            self.end_served(&served);
        }
    }

    /// A frame came. `link` is a number of the connection it came on.
    pub(crate) fn forward_frame(&self, from: NodeId, link: u64, frame: &[u8]) {
        let malformed = match broker_core::forward::codec::head(frame) {
            Ok((broker_core::forward::codec::OPS, generation, items)) => {
                let Some(served) = self.forward.served(from) else { return };
                self.serve(&served, link, generation, items)
            }
            Ok((broker_core::forward::codec::ANSWERS, generation, items)) => {
                self.hear(&self.forward.peer(from), generation, items)
            }
            Ok(_) => Err(broker_core::forward::codec::Malformed),
            Err(error) => Err(error),
        };
        if let Err(error) = malformed {
            tracing::error!(node = %from, %error, "a frame can not be read; the session begins anew");
            if let Some(served) = self.forward.served(from) {
                self.end_served(&served);
                served.say_ready();
            }
            self.begin_session(&self.forward.peer(from));
        }
    }

    /// The connection that brought frames of another node is gone.
    pub(crate) fn forward_accepted_down(&self, from: NodeId, link: u64) {
        if let Some(served) = self.forward.served(from) {
            self.end_served_of(&served, link);
        }
        // What the leader had sent on it may be lost.
        self.begin_session(&self.forward.peer(from));
    }

    /// Consumers of a queue that is led here no more: those of our clients follow it to its new leader, and
    /// those of other nodes do the same from there.
    pub(crate) fn send_consumers_away(
        &self,
        queue: QueueId,
        consumers: Vec<broker_core::queue::consumers::Consumer<crate::connection::outbox::ConsumerHandle>>,
    ) {
        for consumer in consumers {
            let reference = consumer.reference();
            if let Some(outbox) = consumer.handle.outbox().cloned() {
                let consumer = FarConsumer::of(queue, consumer);
                outbox.request(Request::Attach(Box::new(Moved { consumer, reference })));
            }
        }
    }

    /// What has to be done every now and then.
    fn forward_tick(self: &Arc<Self>, thoroughly: bool) {
        for served in self.forward.all_served() {
            if served.is_broken() {
                self.end_served(&served);
                served.say_ready();
            }
        }
        // Every consumer is asked for.
        let version = self.metadata.version();
        if self.forward.looked_at.swap(version, Ordering::AcqRel) != version || thoroughly {
            self.forward.peers().iter().for_each(|peer| self.let_go_moved(peer));
        }
        if thoroughly {
            self.forward
                .peers()
                .iter()
                .filter(|peer| peer.is_unheard())
                .for_each(|peer| self.begin_session(peer));
        }
        self.attach_detached();
        self.send_detours(self.monotonic_ms());
        self.send_letters_again();
    }

    /// Attaches consumers that have lost their leader.
    fn attach_detached(&self) {
        let waiting = self.forward.unattached.lock().take();
        let mut left = Vec::new();
        for detached in waiting {
            let home = self.forward.home(detached.consumer.queue);
            let moved = |node, epoch| detached.was.is_some_and(|was| was != (node, epoch));
            match home {
                None => detached.consumer.gone(),
                Some(Home::Nowhere { .. }) => left.push(detached),
                Some(Home::Here { .. }) => {
                    if detached.was.is_some() && detached.consumer.cancel_on_failover() {
                        detached.consumer.gone();
                        continue;
                    }
                    let reference = broker_core::queue::consumers::ConsumerRef::far(detached.number);
                    let outbox = detached.consumer.handle.outbox().cloned();
                    let moved = Moved { consumer: detached.consumer, reference };
                    if let Some(outbox) = outbox {
                        outbox.request(Request::Attach(Box::new(moved)));
                    }
                }
                Some(Home::At { node, epoch }) => {
                    if moved(node, epoch) && detached.consumer.cancel_on_failover() {
                        detached.consumer.gone();
                        continue;
                    }
                    let (number, was) = (detached.number, detached.was);
                    match self.attach_far(node, epoch, number, detached.consumer) {
                        Err(consumer) => left.push(Detached { number, consumer, was }),
                        // It was cancelled meanwhile.
                        Ok(()) if !self.forward.unattached.lock().attaching.contains(&number) => {
                            let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
                            turn.forward_withdraw(number);
                            turn.finish();
                        }
                        Ok(()) => {}
                    }
                }
            }
        }
        self.forward.unattached.lock().put_back(left);
    }
}

/// The task that follows the log, the gates, the alarms and the time.
async fn run(node: Weak<Node>) {
    let Some(strong) = node.upgrade() else { return };
    let (mut durable, mut gates, mut blocked) =
        (strong.durable(), strong.gates.subscribe(), strong.blocked());
    let (wake, confirms) = (Arc::clone(&strong.forward.wake), Arc::clone(&strong.forward.confirms));
    drop(strong);
    let mut ticks = 0u32;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Some(strong) = node.upgrade() else { return };
        let waits = strong.forward.all_served().iter().any(|served| served.waits());
        // The task does not keep the node alive while it waits.
        drop(strong);
        let due = tokio::select! {
            changed = durable.changed(), if waits => changed.map(|()| Due::Confirms),
            changed = gates.changed(), if waits => changed.map(|()| Due::Confirms),
            changed = blocked.changed() => changed.map(|()| Due::Alarm),
            () = confirms.notified() => Ok(Due::Nothing),
            () = wake.notified() => Ok(Due::Tick),
            _ = tick.tick() => Ok(Due::Tick),
        };
        let (Ok(due), Some(strong)) = (due, node.upgrade()) else { return };
        match due {
            Due::Confirms => strong.confirm_served(),
            Due::Alarm => {
                let reason = blocked.borrow_and_update().clone();
                strong.forward.all_served().iter().for_each(|served| served.alarm(reason.as_deref()));
            }
            Due::Tick => {
                strong.forward_tick(ticks.is_multiple_of(THOROUGH_TICKS));
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(NUMBERS_TICKS) {
                    strong.forward.forget_numbers();
                }
            }
            Due::Nothing => {}
        }
    }
}

/// What the task has to do.
enum Due {
    Confirms,
    Alarm,
    Tick,
    Nothing,
}
