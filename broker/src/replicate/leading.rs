//! Queues that are led here and have copies elsewhere.

use super::Replicate;
use super::shipping::Shipping;
use super::work::Work;
use crate::cluster::link::{Kind, Lane};
use crate::node::Node;
use crate::shard::join_mark;
use broker_core::channel::confirm::{GateId, Mark};
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::MetaCommand;
use broker_core::repl::{Asked, LeaderCore, Placed, Said, Stream, ToFollower, ToLeader};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Octets that may wait for a follower until a stream that was broken off begins anew.
const CALM: usize = 1 << 20;
/// Octets that may wait until publishers wait too.
const BEHIND: usize = 16 << 20;

/// What is led, and what confirms wait for.
#[derive(Debug)]
pub(super) struct Leading {
    core: LeaderCore,
    /// Of each queue for whose copies somebody waits; its positions are the queue's.
    gates: FxHashMap<QueueId, GateId>,
    asked: Vec<Asked>,
    parcels: Vec<Parcel>,
    /// Followers to whom nothing could be sent because too much waits.
    broken: BTreeSet<NodeId>,
}

/// What a turn has for one follower.
#[derive(Debug)]
struct Parcel {
    to: NodeId,
    octets: Vec<Range<usize>>,
}

impl Leading {
    pub(super) fn new(core: LeaderCore) -> Leading {
        Leading {
            core,
            gates: FxHashMap::default(),
            asked: Vec::new(),
            parcels: Vec::new(),
            broken: BTreeSet::new(),
        }
    }
}

/// Why what confirms wait for is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Another node leads: what is not everywhere may be nowhere.
    Deposed,
    /// The queue is gone.
    Deleted,
}

impl Replicate {
    /// Whether so much waits to be sent to followers that publishers should wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    fn note_leads(&self, leading: &Leading) {
        self.leads.store(!leading.core.is_empty(), Ordering::Relaxed);
    }
}

impl Node {
    /// Hands what the log is about to get to the followers of its queues. Called while their shard is locked; `octets`
    /// is what the turn gathered.
    #[inline(never)]
    pub(crate) fn ship(&self, octets: &[u8], shipping: &mut Shipping, marks: &mut Vec<Mark>) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        let Leading { core, gates, asked, parcels, .. } = &mut *leading;
        for run in shipping.drain() {
            let add = |to| match parcels.iter_mut().find(|parcel| parcel.to == to) {
                Some(Parcel { octets, .. }) => match octets.last_mut() {
                    Some(last) if last.end == run.octets.start => last.end = run.octets.end,
                    _ => octets.push(run.octets.clone()),
                },
                None => parcels.push(Parcel { to, octets: vec![run.octets.clone()] }),
            };
            let dropped = run.dropped(octets);
            let Some((position, committed)) = core.append(now, run.queue, run.records, dropped, add, asked)
            else {
                continue;
            };
            if run.enters && !committed {
                let gate = *gates.entry(run.queue).or_insert_with(|| self.gates.open());
                join_mark(marks, Mark { gate, position });
            }
        }
        let mut frames: Vec<(Vec<Range<usize>>, Bytes)> = Vec::new();
        for parcel in std::mem::take(parcels) {
            let frame = match frames.iter().find(|(same, _)| *same == parcel.octets) {
                Some((_, frame)) => frame.clone(),
                None => {
                    let frame = frame(octets, &parcel.octets);
                    frames.push((parcel.octets, frame.clone()));
                    frame
                }
            };
            self.replicate.shipped.fetch_add(frame.len() as u64, Ordering::Relaxed);
            if !self.send_copy(parcel.to, frame) {
                self.break_off(&mut leading, parcel.to);
            } else if self.waits_for(parcel.to) > BEHIND {
                self.replicate.behind.store(true, Ordering::Relaxed);
            }
        }
        self.carry_out(&mut leading);
    }

    /// Octets that wait to be sent to a follower.
    fn waits_for(&self, peer: NodeId) -> usize {
        self.cluster.links().map_or(0, |links| links.pending(peer, Lane::Data))
    }

    /// Looks whether followers have caught up.
    pub(crate) fn look_behind(&self) {
        if self.replicate.is_behind() {
            let behind = self.cluster.members().iter().any(|member| self.waits_for(member.id) > BEHIND / 2);
            self.replicate.behind.store(behind, Ordering::Relaxed);
        }
    }

    /// What has to come to pass until all that a queue took is safe; none when it is.
    pub(crate) fn unsafe_copies(&self, queue: QueueId) -> Option<Mark> {
        if !self.replicate.leads() {
            return None;
        }
        let mut leading = self.replicate.leading.lock();
        let position = leading.core.uncommitted(queue)?;
        let gate = *leading.gates.entry(queue).or_insert_with(|| self.gates.open());
        Some(Mark { gate, position })
    }

    /// A decision that makes this node a queue's leader, or leaves it that. Its shard has to be locked.
    pub(crate) fn lead_copies(&self, queue: QueueId, placed: Placed) {
        let has_copies = placed.replicas.len() > 1;
        if !has_copies && !self.replicate.leads() {
            return;
        }
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        let known = leading.core.epoch(queue);
        if !has_copies && known.is_none() {
            return;
        }
        let over = if known == Some(placed.epoch) { None } else { leading.gates.remove(&queue) };
        let Leading { core, asked, .. } = &mut *leading;
        core.place(now, queue, placed, asked);
        if let Some(gate) = over {
            self.end_gate(gate, asked, queue, Over::Deposed);
        }
        self.carry_out(&mut leading);
        if has_copies {
            self.replicate.note_leads(&leading);
        } else {
            drop(leading);
            // Nobody is waited for any more.
            self.unlead(queue, Over::Deleted);
        }
    }

    /// The node leads the queue no more. Its shard has to be locked, unless it is gone.
    pub(crate) fn unlead(&self, queue: QueueId, over: Over) {
        if !self.replicate.leads() {
            return;
        }
        let mut leading = self.replicate.leading.lock();
        let Leading { core, gates, asked, .. } = &mut *leading;
        core.unplace(queue, asked);
        if let Some(gate) = gates.remove(&queue) {
            self.end_gate(gate, asked, queue, over);
        }
        self.carry_out(&mut leading);
        self.replicate.note_leads(&leading);
    }

    fn end_gate(&self, gate: GateId, asked: &[Asked], queue: QueueId, over: Over) {
        let lost = |asked: &Asked| matches!(asked, Asked::Lost { queue: lost } if *lost == queue);
        if over == Over::Deposed && asked.iter().any(lost) {
            self.gates.fail(gate);
        } else {
            self.gates.release(gate);
        }
    }

    /// A follower says something.
    pub(super) fn hear_follower(&self, from: NodeId, said: ToLeader) {
        let now = self.monotonic_ms();
        // What the queue holds has to be right for the moment, so its shard is locked first.
        let mut shard = match &said.said {
            Said::Attached { queue, .. } => Some(self.lock_shard(self.shard_of(*queue))),
            _ => None,
        };
        let mut leading = self.replicate.leading.lock();
        let live = |queue| {
            let queue = shard.as_mut()?.source_mut(queue)?;
            Some((queue.live(), queue.fresh()))
        };
        let Leading { core, asked, .. } = &mut *leading;
        core.hear(now, from, said, live, asked);
        self.carry_out(&mut leading);
    }

    /// Our connection to a node is there: as a follower it hears everything, as a leader it hears what it was not told.
    pub(crate) fn copies_up(&self, peer: NodeId) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        leading.broken.remove(&peer);
        let Leading { core, asked, .. } = &mut *leading;
        core.link_up(now, peer, asked);
        self.carry_out(&mut leading);
        // What is followed is locked before what is led.
        drop(leading);
        self.lose_leader(peer);
    }

    /// Our connection to a node is gone.
    pub(super) fn copies_down(&self, peer: NodeId) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        leading.broken.remove(&peer);
        let Leading { core, asked, .. } = &mut *leading;
        core.link_down(now, peer, asked);
        self.carry_out(&mut leading);
        drop(leading);
        self.lose_leader(peer);
    }

    /// What a follower got or said makes no sense, or something did not reach it: all begins anew.
    pub(super) fn restart_stream(&self, peer: NodeId) {
        let mut leading = self.replicate.leading.lock();
        self.break_off(&mut leading, peer);
        self.carry_out(&mut leading);
    }

    /// Time passes.
    pub(super) fn copies_tick(&self) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        let Leading { core, asked, broken, .. } = &mut *leading;
        core.tick(now, asked);
        if let Some(links) = self.cluster.links().filter(|_| !broken.is_empty()) {
            let calm = |peer: &NodeId| links.is_up(*peer) && links.pending(*peer, Lane::Data) <= CALM;
            for peer in broken.iter().copied().filter(calm).collect::<Vec<NodeId>>() {
                broken.remove(&peer);
                core.link_up(now, peer, asked);
            }
        }
        self.carry_out(&mut leading);
        drop(leading);
        self.look_behind();
        let unsaid = std::mem::take(&mut self.replicate.following.lock().unsaid);
        unsaid.into_iter().for_each(|leader| self.lose_leader(leader));
    }

    /// The nodes with a copy of a queue that is led here, and how many messages each of them lacks; `None` when that
    /// node is not connected, or has not said.
    pub(crate) fn mirrors(&self, queue: QueueId) -> Vec<(NodeId, Option<u64>)> {
        self.replicate.leading.lock().core.progress(queue)
    }

    /// Fills the copies of a queue although its policy leaves that to an operator, or stops that.
    ///
    /// # Errors
    /// The queue is not led here, in words for people.
    pub(crate) fn sync_queue(&self, queue: QueueId, on: bool) -> Result<(), String> {
        let now = self.monotonic_ms();
        if !self.lock_shard(self.shard_of(queue)).leads(queue) {
            return Err("another node leads the queue".to_owned());
        }
        let mut leading = self.replicate.leading.lock();
        let Leading { core, asked, .. } = &mut *leading;
        core.set_wanted(now, queue, on, asked);
        self.carry_out(&mut leading);
        Ok(())
    }

    /// A follower is not proposed for the in-sync set now: its node does not serve.
    pub(super) fn put_off(&self, queue: QueueId, cfg_ver: u32, follower: NodeId) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        let Leading { core, asked, .. } = &mut *leading;
        core.put_off(now, queue, cfg_ver, follower, asked);
        self.carry_out(&mut leading);
    }

    /// Messages that a copy lacks can not be read here.
    pub(super) fn can_not_fill(&self, follower: NodeId, queue: QueueId, epoch: u32, stream: Stream) {
        let now = self.monotonic_ms();
        let mut leading = self.replicate.leading.lock();
        let Leading { core, asked, .. } = &mut *leading;
        if core.can_not_fill(now, (queue, epoch), (follower, stream), asked) {
            tracing::error!(%queue, node = %follower, "a mirror lacks messages that can not be read here: it is in sync when they have left the queue");
        }
        self.carry_out(&mut leading);
    }

    /// Does what the leader's part asks for.
    fn carry_out(&self, leading: &mut Leading) {
        while !leading.asked.is_empty() {
            let mut broken = BTreeSet::new();
            for asked in std::mem::take(&mut leading.asked) {
                match asked {
                    // After one that was lost, the next would be taken for it.
                    Asked::Send { to, message } => {
                        if !broken.contains(&to) && !self.send_copy(to, message.encode().into()) {
                            broken.insert(to);
                        }
                    }
                    Asked::Fill { to, queue, epoch, stream, serial, wanted } => {
                        self.start_work(Work::Fill { to, queue, epoch, stream, serial, wanted });
                    }
                    Asked::Committed { queue, position } => {
                        if let Some(gate) = leading.gates.get(&queue) {
                            self.gates.advance(*gate, position);
                        }
                    }
                    // Whoever ends what is led ends the gate.
                    Asked::Lost { .. } => {}
                    Asked::Expand { queue, cfg_ver, add } => {
                        self.start_work(Work::Propose(MetaCommand::IsrExpand { queue, cfg_ver, add }));
                    }
                    Asked::Shrink { follower } => {
                        let (leader, incarnation) = (self.cluster.me(), self.cluster.incarnation());
                        tracing::warn!(node = %follower, "a mirror does not keep up or is gone: it is in sync no more");
                        let shrink = MetaCommand::IsrShrink { leader, incarnation, follower };
                        self.start_work(Work::Propose(shrink));
                    }
                }
            }
            broken.into_iter().for_each(|peer| self.break_off(leading, peer));
        }
    }

    /// Something did not reach a follower: what comes after it would be misunderstood.
    fn break_off(&self, leading: &mut Leading, peer: NodeId) {
        let now = self.monotonic_ms();
        leading.broken.insert(peer);
        leading.core.link_down(now, peer, &mut leading.asked);
    }

    fn start_work(&self, work: Work) {
        // The task ends with the node only.
        let _ = self.replicate.work.send(work);
    }

    fn send_copy(&self, to: NodeId, frame: Bytes) -> bool {
        let sent = self.cluster.links().map(|links| links.send(to, Lane::Data, Kind::Replicate, frame));
        matches!(sent, Some(Ok(_)))
    }
}

/// A frame with these records.
fn frame(all: &[u8], octets: &[Range<usize>]) -> Bytes {
    let mut frame = ToFollower::records_frame();
    frame.reserve_exact(octets.iter().map(ExactSizeIterator::len).sum());
    for range in octets {
        frame.extend_from_slice(all.get(range.clone()).unwrap_or_default());
    }
    frame.into()
}
