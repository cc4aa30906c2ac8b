//! The follower's side: whom it listens to, and what it may say of what it took.

use super::message::{self, BadMessage, Fill, Frame, Fresh, Refusal, Said, Stream, ToFollower, ToLeader};
use super::mids::MidSet;
use super::rules::Rule;
use crate::ids::{NodeId, QueueId};
use crate::record::{Enq, Record};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The copies of a node, and its log. Everything that these methods change has to be appended to the log before
/// [`FollowerCore::appended`] is called.
pub trait Copies {
    /// The messages of a copy; `None` when the metadata that this node has seen knows no such copy yet.
    fn live(&mut self, queue: QueueId) -> Option<MidSet>;
    /// The queue is led by this node in this epoch: older leaders are refused from now on, after a restart too.
    fn fence(&mut self, queue: QueueId, epoch: u32, leader: NodeId);
    /// Deletes what the leader does not have, and takes its counters.
    fn reconcile(&mut self, queue: QueueId, delete: &MidSet, fresh: &Fresh);
    /// From this position on the copy lacks messages; `None` when it lacks none.
    fn missing_from(&mut self, queue: QueueId, position: Option<u64>);
    /// A record of the leader's log; `octets` is the same, encoded.
    fn apply(&mut self, queue: QueueId, record: &Record<'_>, octets: &[u8]);
    /// A message from before the copy began.
    fn fill(&mut self, queue: QueueId, enq: &Enq<'_>, octets: &[u8]);
}

/// All copies that a node has of queues led elsewhere. `BROKEN` is the [`Rule`] that a simulation breaks.
#[derive(Debug, Default)]
pub struct FollowerCore<const BROKEN: u8 = { Rule::NONE }> {
    fences: FxHashMap<QueueId, u32>,
    queues: FxHashMap<QueueId, Following>,
    leaders: BTreeMap<NodeId, From>,
}

/// A queue whose leader has asked.
#[derive(Debug)]
struct Following {
    leader: NodeId,
    stream: Stream,
    epoch: u32,
    /// It has said how to go on; before, no record can come.
    planned: bool,
    missing: MidSet,
}

/// What comes from one leader, and what it is told.
#[derive(Debug, Default)]
struct From {
    stream: Option<Stream>,
    /// The last one, when the thread is lost.
    last: Option<Stream>,
    received: u64,
    /// The part of `received` for which an acknowledgement is waiting or was sent.
    answered: u64,
    refusals: u64,
    /// What is to be said once the log is synced up to what was appended last.
    said: Vec<ToLeader>,
    waiting: VecDeque<(u64, ToLeader)>,
    /// Questions about queues that this node does not know yet.
    unanswered: BTreeMap<QueueId, u32>,
    /// Queues that were refused since they were asked about last: saying it once is enough.
    refused: BTreeSet<QueueId>,
}

impl<const BROKEN: u8> FollowerCore<BROKEN> {
    /// A node without copies; what its log knows of epochs is told with [`FollowerCore::raise_fence`].
    #[must_use]
    pub fn new() -> Self {
        FollowerCore { fences: FxHashMap::default(), queues: FxHashMap::default(), leaders: BTreeMap::new() }
    }

    /// The node learned of an epoch, from the metadata or from its log. Returns whether it is news: then it has to be
    /// in the log before anything else of that epoch.
    pub fn raise_fence(&mut self, queue: QueueId, epoch: u32) -> bool {
        let fence = self.fences.entry(queue).or_default();
        let is_news = epoch > *fence;
        *fence = epoch.max(*fence);
        if self.queues.get(&queue).is_some_and(|following| following.epoch < *fence)
            && Rule::OldEpochsAreRefused.holds::<BROKEN>()
        {
            self.queues.remove(&queue);
        }
        is_news
    }

    /// The newest epoch of a queue that this node knows.
    #[must_use]
    pub fn fence(&self, queue: QueueId) -> u32 {
        self.fences.get(&queue).copied().unwrap_or(0)
    }

    /// The queue is gone.
    pub fn forget(&mut self, queue: QueueId) {
        self.fences.remove(&queue);
        self.queues.remove(&queue);
        for from in self.leaders.values_mut() {
            from.unanswered.remove(&queue);
        }
    }

    /// A frame of a leader's stream. What came of it is appended to the log by `copies`; then call
    /// [`FollowerCore::appended`].
    pub fn take(&mut self, leader: NodeId, frame: &[u8], copies: &mut impl Copies) {
        if self.take_frame(leader, frame, copies).is_err() {
            self.lose_thread(leader);
        }
    }

    /// A fill, beside the stream.
    pub fn take_fill(&mut self, leader: NodeId, fill: &Fill<'_>, copies: &mut impl Copies) {
        let stream = self.leaders.get(&leader).and_then(|from| from.stream);
        let Some(following) = self.queues.get_mut(&fill.queue) else { return };
        let is_asked = following.leader == leader
            && Some(fill.stream) == stream
            && following.stream == fill.stream
            && following.epoch == fill.epoch
            && following.planned;
        if !is_asked {
            return;
        }
        for record in message::records(fill.records) {
            let Ok((Record::Enq(enq), octets)) = record else { return self.lose_thread(leader) };
            if enq.queue_id != fill.queue.0 {
                return self.lose_thread(leader);
            }
            // What left the queue meanwhile must not come back.
            if following.missing.contains(enq.epoch, enq.qseq) || !Rule::FillsDoNotRevive.holds::<BROKEN>() {
                following.missing.remove(super::MidRange::one(enq.epoch, enq.qseq));
                copies.fill(fill.queue, &enq, octets);
            }
        }
        copies.missing_from(fill.queue, following.missing.first_position());
        let said = Said::FillAck { queue: fill.queue, epoch: fill.epoch, serial: fill.serial };
        self.say(leader, said);
    }

    /// The connection over which answers go was lost, or a frame was: the leader has to begin again. Where the word
    /// for that may have been lost too, this says it once more.
    pub fn lose_thread(&mut self, leader: NodeId) {
        let Some(from) = self.leaders.get_mut(&leader) else { return };
        from.stream = None;
        let Some(stream) = from.last else { return };
        self.queues.retain(|_, following| following.leader != leader);
        from.waiting.clear();
        from.said.clear();
        from.unanswered.clear();
        from.said.push(ToLeader { stream, refusals: from.refusals, said: Said::Reset });
    }

    /// Whether what this leader sends is taken; it is not while the thread is lost.
    #[must_use]
    pub fn listens_to(&self, leader: NodeId) -> bool {
        self.leaders.get(&leader).is_some_and(|from| from.stream.is_some())
    }

    /// The metadata that this node has seen knows this copy now: answers who has asked before.
    pub fn is_known(&mut self, queue: QueueId, copies: &mut impl Copies) -> Option<NodeId> {
        let (&leader, from) =
            self.leaders.iter_mut().find(|(_, from)| from.unanswered.contains_key(&queue))?;
        let epoch = from.unanswered.remove(&queue)?;
        self.attach(leader, queue, epoch, copies);
        Some(leader)
    }

    /// Everything that was taken from this leader so far lies in the log below `lsn`, or at it.
    pub fn appended(&mut self, leader: NodeId, lsn: u64) {
        let Some(from) = self.leaders.get_mut(&leader) else { return };
        from.waiting.extend(from.said.drain(..).map(|said| (lsn, said)));
        if from.answered < from.received
            && let Some(stream) = from.stream
        {
            from.answered = from.received;
            let said = Said::Ack { position: from.received };
            let ack = ToLeader { stream, refusals: from.refusals, said };
            match from.waiting.back_mut() {
                // A sync that has the one has the other.
                Some((at, last)) if *at == lsn && matches!(last.said, Said::Ack { .. }) => *last = ack,
                _ => from.waiting.push_back((lsn, ack)),
            }
        }
    }

    /// The log is synced up to `lsn`: what can be said now, and to whom.
    pub fn synced(&mut self, lsn: u64, mut say: impl FnMut(NodeId, ToLeader)) {
        let lsn = if Rule::AcksFollowSyncs.holds::<BROKEN>() { lsn } else { u64::MAX };
        for (leader, from) in &mut self.leaders {
            let mut last_ack = None;
            while from.waiting.front().is_some_and(|(at, _)| *at <= lsn) {
                let Some((_, said)) = from.waiting.pop_front() else { break };
                if matches!(said.said, Said::Ack { .. }) {
                    last_ack = Some(said);
                    continue;
                }
                last_ack.take().into_iter().for_each(|ack| say(*leader, ack));
                say(*leader, said);
            }
            last_ack.into_iter().for_each(|ack| say(*leader, ack));
        }
    }

    /// Whether any leader has ever spoken to this node.
    #[must_use]
    pub fn is_spoken_to(&self) -> bool {
        !self.leaders.is_empty()
    }

    /// How many messages a copy lacks; `None` when its leader has not said.
    #[must_use]
    pub fn missing(&self, queue: QueueId) -> Option<u64> {
        self.queues.get(&queue).filter(|following| following.planned).map(|following| following.missing.len())
    }

    fn take_frame(
        &mut self,
        leader: NodeId,
        frame: &[u8],
        copies: &mut impl Copies,
    ) -> Result<(), BadMessage> {
        let frame = Frame::decode(frame)?;
        if let Frame::Message(ToFollower::Hello { stream }) = frame {
            self.queues.retain(|_, following| following.leader != leader);
            let from = From { stream: Some(stream), last: Some(stream), ..From::default() };
            self.leaders.insert(leader, from);
            return Ok(());
        }
        let from = self.leaders.get_mut(&leader).ok_or(BadMessage)?;
        // What belongs to a stream whose thread is lost.
        let Some(stream) = from.stream else { return Ok(()) };
        match frame {
            Frame::Records(records) => self.records(leader, stream, records, copies),
            Frame::Message(message) => {
                from.received += 1;
                match message {
                    ToFollower::Hello { .. } => {}
                    ToFollower::Attach { queue, epoch } => self.attach(leader, queue, epoch, copies),
                    ToFollower::Plan { queue, epoch, delete, missing, fresh } => {
                        let fence = self.fence(queue);
                        let following = self.queues.get_mut(&queue).filter(|following| {
                            (following.leader, following.stream, following.epoch) == (leader, stream, epoch)
                        });
                        match following {
                            Some(following) => {
                                let position = missing.first_position();
                                (following.planned, following.missing) = (true, missing);
                                copies.reconcile(queue, &delete, &fresh);
                                copies.missing_from(queue, position);
                            }
                            None => self.refuse(leader, Refusal { queue, fence }),
                        }
                    }
                    ToFollower::Detach { queue } => {
                        from.unanswered.remove(&queue);
                        self.queues.retain(|id, following| *id != queue || following.leader != leader);
                    }
                }
                Ok(())
            }
        }
    }

    fn attach(&mut self, leader: NodeId, queue: QueueId, epoch: u32, copies: &mut impl Copies) {
        let fence = self.fence(queue);
        // Each question gets an answer.
        if let Some(from) = self.leaders.get_mut(&leader) {
            from.refused.remove(&queue);
        }
        if epoch < fence && Rule::OldEpochsAreRefused.holds::<BROKEN>() {
            return self.refuse(leader, Refusal { queue, fence });
        }
        let Some(from) = self.leaders.get_mut(&leader) else { return };
        let Some(stream) = from.stream else { return };
        let Some(live) = copies.live(queue) else {
            from.unanswered.insert(queue, epoch);
            return;
        };
        if self.raise_fence(queue, epoch) {
            copies.fence(queue, epoch, leader);
        }
        let following = Following { leader, stream, epoch, planned: false, missing: MidSet::default() };
        self.queues.insert(queue, following);
        self.say(leader, Said::Attached { queue, epoch, live });
    }

    fn records(
        &mut self,
        leader: NodeId,
        stream: Stream,
        octets: &[u8],
        copies: &mut impl Copies,
    ) -> Result<(), BadMessage> {
        for record in message::records(octets) {
            let (record, octets) = record?;
            let queue = QueueId(record.queue_id().ok_or(BadMessage)?);
            if let Some(from) = self.leaders.get_mut(&leader) {
                from.received += 1;
            }
            let following = self.queues.get_mut(&queue).filter(|following| {
                (following.leader, following.stream, following.planned) == (leader, stream, true)
            });
            let Some(following) = following else {
                // The leader hears it before it hears that anything behind this record is synced.
                let fence = self.fence(queue);
                self.refuse(leader, Refusal { queue, fence });
                continue;
            };
            let mut missing_from = None;
            if let Record::Drop { ranges, .. } = &record
                && !following.missing.is_empty()
            {
                ranges.iter().for_each(|range| following.missing.remove_positions(range));
                missing_from = Some(following.missing.first_position());
            }
            copies.apply(queue, &record, octets);
            if let Some(position) = missing_from {
                copies.missing_from(queue, position);
            }
        }
        Ok(())
    }

    fn refuse(&mut self, leader: NodeId, refusal: Refusal) {
        self.queues.retain(|queue, following| *queue != refusal.queue || following.leader != leader);
        if self.leaders.get_mut(&leader).is_none_or(|from| !from.refused.insert(refusal.queue)) {
            return;
        }
        self.say(leader, Said::Refused(refusal));
        if let Some(from) = self.leaders.get_mut(&leader) {
            from.refusals += 1;
        }
    }

    fn say(&mut self, leader: NodeId, said: Said) {
        if let Some(from) = self.leaders.get_mut(&leader)
            && let Some(stream) = from.stream
        {
            from.said.push(ToLeader { stream, refusals: from.refusals, said });
        }
    }
}
