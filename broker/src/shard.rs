//! Shards own the queues; a turn is what happens at them in one go.
//!
//! A queue belongs to one shard (`queue id mod shards`). Whoever has work for a queue, usually a
//! connection with a batch of publishes, locks the shard and does the work itself: there is no hand-over to
//! another task. A [`Turn`] keeps the lock of the shard it used last, collects what the queues ask for
//! ([`Effects`](broker_core::queue::Effects)) and carries it out when it moves on: log records are appended while the shard is still
//! locked, so that the log has each queue's records in the order in which things happened; dead letters are
//! published and outboxes flushed after the lock is gone.
//!
//! Lock order: metadata, then what is followed, then one shard, then what is led with copies, then one outbox or
//! the log. A turn lets go of its shard before it looks at the metadata.

mod effects;
mod letters;

use self::letters::Letter;
use crate::connection::outbox::{ConsumerHandle, Outbox};
use crate::firehose::Sighting;
use crate::forward::outgoing::Outgoing;
use crate::forward::served::Served;
use crate::node::Node;
use crate::pager::{Pager, PagingWork};
use crate::replicate::shipping::Shipping;
use broker_core::channel::confirm::Mark;
use broker_core::ids::{NodeId, QueueId};
use broker_core::queue::{Crowd, Queue};
use broker_store::Lsn;
use broker_store::wal::{RecordBuffer, Urgency};
use parking_lot::MutexGuard;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Work items a shard does before it lets others in.
const FAIRNESS: u32 = 64;
/// Octets of records that one turn gathers before the log gets them, unless they belong together.
const LOG_BATCH: usize = 4 << 20;
/// A buffer that a burst or a large message made larger than this is given back after its turn.
const KEEP_LOG: usize = 512 * 1024;

/// A queue whose deliveries go to this process's connections.
pub(crate) type LocalQueue = Queue<ConsumerHandle>;

/// Some of the node's queues.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    /// Those that are led here. Boxed, because a table is mostly half empty.
    queues: FxHashMap<QueueId, Box<LocalQueue>>,
    /// Copies of queues that other nodes lead, or nobody does: no client meets them.
    copies: FxHashMap<QueueId, Box<LocalQueue>>,
    timers: BinaryHeap<Reverse<(u64, QueueId)>>,
}

impl Shard {
    /// Adds a queue.
    pub(crate) fn insert(&mut self, queue: LocalQueue) {
        self.queues.insert(queue.id(), Box::new(queue));
    }

    /// Removes a queue, or a copy of one.
    pub(crate) fn remove(&mut self, id: QueueId) -> Option<LocalQueue> {
        self.queues.remove(&id).or_else(|| self.copies.remove(&id)).map(|queue| *queue)
    }

    /// Adds a copy of a queue that is led elsewhere.
    pub(crate) fn insert_copy(&mut self, queue: LocalQueue) {
        self.copies.insert(queue.id(), Box::new(queue));
    }

    /// A queue that is led here is a copy from now on.
    pub(crate) fn make_copy(&mut self, id: QueueId) -> Option<&mut LocalQueue> {
        let queue = self.queues.remove(&id)?;
        Some(self.copies.entry(id).or_insert(queue))
    }

    /// A copy is led here from now on.
    pub(crate) fn make_led(&mut self, id: QueueId) -> Option<&mut LocalQueue> {
        let queue = self.copies.remove(&id)?;
        Some(self.queues.entry(id).or_insert(queue))
    }

    /// Whether the queue is led here.
    pub(crate) fn leads(&self, id: QueueId) -> bool {
        self.queues.contains_key(&id)
    }

    /// Whether a copy of the queue is here.
    pub(crate) fn copies(&self, id: QueueId) -> bool {
        self.copies.contains_key(&id)
    }

    fn led_mut(&mut self, id: QueueId) -> Option<&mut LocalQueue> {
        self.queues.get_mut(&id).map(Box::as_mut)
    }

    /// A queue that is led here, or a copy.
    pub(crate) fn held_mut(&mut self, id: QueueId) -> Option<&mut LocalQueue> {
        let Shard { queues, copies, .. } = self;
        queues.get_mut(&id).or_else(|| copies.get_mut(&id)).map(Box::as_mut)
    }

    /// A queue that is led here, or held back until another node leads it: its messages fill copies, and clients have
    /// some of them.
    pub(crate) fn source_mut(&mut self, id: QueueId) -> Option<&mut LocalQueue> {
        self.held_mut(id).filter(|queue| !queue.is_copy())
    }

    /// Looks at a queue.
    pub(crate) fn get(&self, id: QueueId) -> Option<&LocalQueue> {
        self.queues.get(&id).map(Box::as_ref)
    }

    /// All queues that are led here, and all copies.
    pub(crate) fn held(&self) -> impl Iterator<Item = &LocalQueue> {
        self.queues.values().chain(self.copies.values()).map(Box::as_ref)
    }

    /// All queues that are led here.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &LocalQueue> {
        self.queues.values().map(Box::as_ref)
    }

    /// Adds a timer of a queue.
    pub(crate) fn add_timer(&mut self, at: u64, queue: QueueId) {
        self.timers.push(Reverse((at, queue)));
    }

    /// The queues here whose timers are due.
    fn take_due(&mut self, now: u64) -> Vec<QueueId> {
        let mut due = Vec::new();
        while let Some(Reverse((at, queue))) = self.timers.peek() {
            if *at > now {
                break;
            }
            due.push(*queue);
            self.timers.pop();
        }
        due
    }

    /// When the next timer is due, milliseconds since the epoch.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }
}

/// Buffers of a turn, reused from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct TurnBuffers {
    log: RecordBuffer,
    urgent: bool,
    log_floor: Lsn,
    /// What confirms of this turn wait for beside the log; nothing on a node alone.
    marks: Vec<Mark>,
    /// Which records go to copies on other nodes.
    shipping: Shipping,
    /// Another node may lead what is led here.
    deposed: bool,
    touched: Vec<Arc<Outbox>>,
    /// Nodes whose clients were sent something.
    touched_far: Vec<Arc<Served>>,
    /// What goes to queues of other nodes.
    forward: Outgoing,
    letters: Vec<Letter>,
    /// How many of the letters the node has been told about.
    counted_letters: usize,
    unused: Vec<QueueId>,
    wakes: Vec<(u64, QueueId)>,
    /// A consumer that does not keep up with what was published, and the octets it is owed since. Weak: buffers
    /// outlive the consumer's connection, and its socket must not.
    behind: Option<(Weak<Outbox>, usize)>,
    /// Some vhost is traced.
    tracing: bool,
    /// Publishes wait for a leader of their queue.
    detours: bool,
    sightings: Vec<Sighting>,
    paging: PagingWork,
    /// A queue that holds more than it should, and why.
    crowded: Option<(QueueId, Crowd)>,
    /// Where segments are read at once.
    pager: Option<Arc<Pager>>,
}

impl TurnBuffers {
    /// Whether deliveries may have to be told to the firehose.
    pub(crate) fn is_tracing(&self) -> bool {
        self.tracing
    }

    /// A shard was locked.
    fn begin(&mut self, node: &Node) {
        let leads = node.replicate.leads();
        self.shipping.begin(leads);
        self.deposed = leads && node.cluster.may_be_deposed();
    }

    /// Tells the firehose at the end of the turn.
    pub(crate) fn saw(&mut self, sighting: Option<Sighting>) {
        self.sightings.extend(sighting);
    }

    /// The output of a consumer that is owed more than `limit` octets by these turns, and how many.
    pub(crate) fn take_behind(&mut self, limit: usize) -> Option<(Arc<Outbox>, usize)> {
        let (behind, debt) = self.behind.take_if(|(_, debt)| *debt > limit)?;
        Some((behind.upgrade()?, debt))
    }

    /// A queue that these turns published to and that holds more than it should, and why.
    pub(crate) fn take_crowded(&mut self) -> Option<(QueueId, Crowd)> {
        self.crowded.take()
    }

    /// Nodes that these turns have published to.
    pub(crate) fn far_used(&self) -> &[NodeId] {
        self.forward.used()
    }

    /// Confirms of this turn have to wait for this too.
    pub(crate) fn mark(&mut self, mark: Mark) {
        join_mark(&mut self.marks, mark);
    }

    /// Does something whose records are the affair of this node's own files: no copy gets them.
    pub(crate) fn at_home<R>(&mut self, work: impl FnOnce(&mut TurnBuffers) -> R) -> R {
        let was = self.shipping.stay_home(true);
        let done = work(self);
        self.shipping.stay_home(was);
        done
    }

    /// Timers that queues asked for outside of a turn.
    pub(crate) fn take_wakes(&mut self) -> Vec<(u64, QueueId)> {
        std::mem::take(&mut self.wakes)
    }
}

/// Adds a mark to others, of which there is one for each gate.
pub(crate) fn join_mark(marks: &mut Vec<Mark>, mark: Mark) {
    match marks.iter_mut().find(|known| known.gate == mark.gate) {
        Some(known) => known.position = known.position.max(mark.position),
        None => marks.push(mark),
    }
}

/// One go at the shards. End it with [`Turn::finish`].
#[derive(Debug)]
pub(crate) struct Turn<'n> {
    node: &'n Node,
    /// The shards locked now, ascending: one, or all that a transaction touches.
    open: Vec<(usize, MutexGuard<'n, Shard>)>,
    pinned: bool,
    buffers: TurnBuffers,
    position: Lsn,
    work: u32,
    now: u64,
}

impl<'n> Turn<'n> {
    /// Starts a turn. `now` is milliseconds since the epoch, read once for the whole turn.
    pub(crate) fn new(node: &'n Node, mut buffers: TurnBuffers, now: u64) -> Turn<'n> {
        buffers.tracing = node.is_tracing();
        buffers.detours = node.forward.has_detours();
        buffers.pager.get_or_insert_with(|| Arc::clone(&node.pager));
        Turn { node, open: Vec::with_capacity(1), pinned: false, buffers, position: 0, work: 0, now }
    }

    /// The node.
    pub(crate) fn node(&self) -> &'n Node {
        self.node
    }

    /// What goes to other nodes.
    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.buffers.forward
    }

    /// The turn's buffers.
    pub(crate) fn buffers_mut(&mut self) -> &mut TurnBuffers {
        &mut self.buffers
    }

    /// Whether all shards of a transaction are locked.
    pub(crate) fn is_pinned(&self) -> bool {
        self.pinned
    }

    /// Whether publishes may have to be told to the firehose.
    pub(crate) fn is_tracing(&self) -> bool {
        self.buffers.tracing
    }

    /// Whether publishes may have to queue up behind others that wait for a leader. Never on a node alone.
    pub(crate) fn has_detours(&self) -> bool {
        self.buffers.detours
    }

    /// Tells the firehose at the end of the turn.
    pub(crate) fn saw(&mut self, sighting: Sighting) {
        self.buffers.saw(Some(sighting));
    }

    /// Highest log position this turn appended at; 0 when it appended nothing.
    pub(crate) fn position(&self) -> Lsn {
        self.position
    }

    /// Confirms of this turn wait for all that is in the log by now.
    pub(crate) fn wait_for_log(&mut self) {
        self.position = self.position.max(self.node.wal.last_lsn());
    }

    /// Confirms of this turn wait for everything that this queue's copies have not got yet.
    pub(crate) fn wait_for_copies(&mut self, queue: QueueId) {
        if let Some(mark) = self.node.unsafe_copies(queue) {
            self.buffers.mark(mark);
        }
    }

    /// What this turn's confirms wait for beside the log.
    pub(crate) fn marks(&self) -> &[Mark] {
        &self.buffers.marks
    }

    /// Works on a queue. `None` when it does not exist (any more) or is about to go.
    pub(crate) fn queue<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.on(id, |shard| shard.led_mut(id).filter(|queue| !queue.is_closing()), work)
    }

    /// The same, or on one that is held back: what clients say of messages that they have counts there too.
    pub(crate) fn source<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.on(id, |shard| shard.source_mut(id).filter(|queue| !queue.is_closing()), work)
    }

    /// Works on a queue that is led here, whether it is about to go or not.
    pub(crate) fn any_queue<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.on(id, |shard| shard.led_mut(id), work)
    }

    /// The same, or on a copy of one.
    pub(crate) fn held<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.on(id, |shard| shard.held_mut(id), work)
    }

    /// Whether a queue takes nothing because another node is about to lead it.
    pub(crate) fn is_held_back(&mut self, id: QueueId) -> bool {
        self.held(id, |queue, _, _| queue.is_held_back()) == Some(true)
    }

    /// Works on a copy of a queue that another node leads.
    pub(crate) fn copy<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.on(id, |shard| shard.copies.get_mut(&id).map(Box::as_mut), work)
    }

    fn on<R>(
        &mut self,
        id: QueueId,
        find: impl FnOnce(&mut Shard) -> Option<&mut LocalQueue>,
        work: impl FnOnce(&mut LocalQueue, u64, &mut TurnBuffers) -> R,
    ) -> Option<R> {
        self.shard(id, |shard, now, fx| Some(work(find(shard)?, now, fx)))
    }

    /// Works on the shard of a queue.
    pub(crate) fn shard<R>(
        &mut self,
        id: QueueId,
        work: impl FnOnce(&mut Shard, u64, &mut TurnBuffers) -> R,
    ) -> R {
        let now = self.now;
        let shard = self.open(self.node.shard_of(id));
        work(&mut self.open[shard].1, now, &mut self.buffers)
    }

    /// Locks all shards of these queues and keeps them until [`Turn::close`]: what happens meanwhile is one
    /// append to the log, all of it or nothing after a crash.
    pub(crate) fn pin(&mut self, queues: impl Iterator<Item = QueueId>) {
        self.close();
        let shards: std::collections::BTreeSet<usize> =
            queues.map(|queue| self.node.shard_of(queue)).collect();
        self.buffers.log_floor = self.node.wal.last_lsn();
        self.open.extend(shards.into_iter().map(|index| (index, self.node.lock_shard(index))));
        self.buffers.begin(self.node);
        self.pinned = true;
    }

    /// Lets go of the shards, after appending to the log what happened there.
    pub(crate) fn close(&mut self) {
        if self.open.is_empty() {
            return;
        }
        append(self.node, &mut self.buffers, &mut self.position);
        self.node.pager.submit(&mut self.buffers.paging, self.node.wal.last_lsn());
        self.pinned = false;
        let mut earliest = None;
        for (index, mut shard) in self.open.drain(..) {
            let first = shard.next_timer();
            let mine = |(_, queue): &(u64, QueueId)| self.node.shard_of(*queue) == index;
            shard.timers.extend(self.buffers.wakes.iter().copied().filter(mine).map(Reverse));
            let next = shard.next_timer();
            if next != first {
                earliest = earliest.min(next).or(next);
            }
        }
        self.buffers.wakes.clear();
        if let Some(at) = earliest {
            self.node.wake_timer(at);
        }
    }

    /// Notes an outbox that has to be flushed at the end of the turn.
    pub(crate) fn touch(&mut self, outbox: &Arc<Outbox>, first: bool) {
        if first {
            self.buffers.touched.push(Arc::clone(outbox));
        }
    }

    /// Ends the turn: publishes dead letters, deletes queues that asked for it, flushes outboxes. Returns the
    /// buffers for the next turn.
    pub(crate) fn finish(mut self) -> TurnBuffers {
        loop {
            self.close();
            for sighting in std::mem::take(&mut self.buffers.sightings) {
                self.publish_sighting(&sighting);
            }
            self.close();
            let letters = std::mem::take(&mut self.buffers.letters);
            if letters.is_empty() {
                break;
            }
            self.buffers.counted_letters = 0;
            for letter in letters {
                let arrived = match letter {
                    Letter::Dead(letter) => self.publish_dead_letter(&letter),
                    Letter::Due(due) => self.publish_due(&due),
                };
                self.close();
                if arrived {
                    self.node.letters_in_flight.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
        self.send_forwarded();
        for queue in self.buffers.unused.drain(..) {
            self.node.delete_unused(queue);
        }
        for outbox in self.buffers.touched.drain(..) {
            outbox.flush();
        }
        for served in self.buffers.touched_far.drain(..) {
            served.flush();
        }
        self.buffers.marks.clear();
        std::mem::take(&mut self.buffers)
    }

    /// Ends the turn from inside the metadata's lock, where nothing may be routed: what is left to do is done by
    /// a task of its own.
    pub(crate) fn defer(mut self, node: &Arc<Node>) {
        self.close();
        let (buffers, now, node) = (std::mem::take(&mut self.buffers), self.now, Arc::clone(node));
        if buffers.letters.is_empty()
            && buffers.touched.is_empty()
            && buffers.touched_far.is_empty()
            && buffers.forward.is_empty()
            && buffers.unused.is_empty()
            && buffers.sightings.is_empty()
        {
            return;
        }
        let runtime = node.runtime.clone();
        runtime.spawn(async move {
            Turn::new(&node, buffers, now).finish();
        });
    }

    /// Locks a shard, letting go of another one. Returns where it is in `open`.
    fn open(&mut self, index: usize) -> usize {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == index) {
            self.work += 1;
            let gathered = self.buffers.log.len() >= LOG_BATCH;
            if (self.work.is_multiple_of(FAIRNESS) || gathered) && !self.pinned {
                // Lets a waiting thread in, if there is one. The log hears first what happened so far.
                append(self.node, &mut self.buffers, &mut self.position);
                MutexGuard::bump(&mut self.open[at].1);
                self.buffers.begin(self.node);
            }
            return at;
        }
        debug_assert!(!self.pinned, "a transaction locks its shards ahead");
        self.close();
        self.buffers.log_floor = self.node.wal.last_lsn();
        self.open.push((index, self.node.lock_shard(index)));
        self.buffers.begin(self.node);
        0
    }
}

/// Appends what the queues logged. Called while their shard is locked.
fn append(node: &Node, buffers: &mut TurnBuffers, position: &mut Lsn) {
    // A message between two queues is in neither: its old place in the log has to stay until it is in the new one.
    let letters = buffers.letters.len() - buffers.counted_letters;
    if letters > 0 {
        node.letters_in_flight.fetch_add(letters, Ordering::AcqRel);
        buffers.counted_letters = buffers.letters.len();
    }
    if buffers.log.is_empty() {
        return;
    }
    if !buffers.shipping.is_empty() {
        node.ship(buffers.log.encoded(), &mut buffers.shipping, &mut buffers.marks);
    }
    let urgent = std::mem::take(&mut buffers.urgent);
    let last = node.wal.append_buffer(&mut buffers.log, if urgent { Urgency::Now } else { Urgency::Lazy });
    if urgent {
        *position = last;
    }
    buffers.log.shrink(KEEP_LOG);
}

impl Drop for Turn<'_> {
    /// A turn that an error or a panic ended early: the log and the clients still hear what happened at the
    /// queues. An outbox that nobody flushes would stay silent for good.
    fn drop(&mut self) {
        self.close();
        self.send_forwarded();
        for outbox in self.buffers.touched.drain(..) {
            outbox.flush();
        }
        for served in self.buffers.touched_far.drain(..) {
            served.flush();
        }
    }
}

impl Node {
    /// Runs the timers that are due. Returns when the next one is.
    pub(crate) fn run_timers(&self, now: u64) -> Option<u64> {
        let mut next = None;
        for index in 0..self.shard_count() {
            let due = self.lock_shard(index).take_due(now);
            if !due.is_empty() {
                let mut turn = Turn::new(self, TurnBuffers::default(), now);
                for queue in due {
                    turn.queue(queue, LocalQueue::tick);
                }
                turn.finish();
            }
            let at = self.lock_shard(index).next_timer();
            next = match (next, at) {
                (Some(one), Some(other)) => Some(u64::min(one, other)),
                (one, other) => one.or(other),
            };
        }
        next
    }
}
