//! The leader's side: which records go to whom, and what every copy that counts has.

use super::led::{Attached, Copy, Joining, Led};
use super::link::Link;
use super::message::{Fresh, Refusal, Said, Stream, ToFollower, ToLeader};
use super::mids::MidSet;
use super::rules::Rule;
use super::{ASK_ANEW_MS, FILL_MESSAGES, FILL_WINDOW, PART, PATIENCE_MS, Placed};
use crate::ids::{NodeId, QueueId};
use crate::record::QseqRange;
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;

/// What a leader asks of its surroundings. Carry it out in order, before the next call.
#[derive(Debug)]
pub enum Asked {
    /// Send this in the follower's stream.
    Send {
        /// The follower.
        to: NodeId,
        /// The message.
        message: ToFollower,
    },
    /// Read these messages and send what is left of them as a fill, beside the stream.
    Fill {
        /// The follower.
        to: NodeId,
        /// The queue.
        queue: QueueId,
        /// The epoch in which it is led.
        epoch: u32,
        /// The follower's stream.
        stream: Stream,
        /// The fill's number.
        serial: u64,
        /// The messages.
        wanted: MidSet,
    },
    /// Records up to here can be confirmed, once they are on this node's disk too.
    Committed {
        /// The queue.
        queue: QueueId,
        /// Its position.
        position: u64,
    },
    /// What this node took in an epoch that is over and is not committed can not be confirmed any more.
    Lost {
        /// The queue.
        queue: QueueId,
    },
    /// Propose to take a follower into the in-sync set.
    Expand {
        /// The queue.
        queue: QueueId,
        /// The decision that the proposal builds on.
        cfg_ver: u32,
        /// The follower.
        add: NodeId,
    },
    /// Propose to take a follower out of all in-sync sets of queues that this node leads.
    Shrink {
        /// The follower.
        follower: NodeId,
    },
}

/// How long it takes until a follower is tried again that was put off, in milliseconds.
const AGAIN_MS: u64 = 500;
/// And until a copy is asked again for which messages could not be read.
const READ_AGAIN_MS: u64 = 60_000;

/// All queues with copies that a node leads. `BROKEN` is the [`Rule`] that a simulation breaks.
#[derive(Debug)]
pub struct LeaderCore<const BROKEN: u8 = { Rule::NONE }> {
    me: NodeId,
    next_stream: u64,
    queues: FxHashMap<QueueId, Led>,
    links: BTreeMap<NodeId, Link>,
    /// Copies that could be in sync, on nodes that do not serve now, and since when nobody has tried.
    put_off: BTreeMap<(QueueId, NodeId), u64>,
    /// Copies that could not be filled, and since when.
    unfilled: BTreeMap<(QueueId, NodeId), u64>,
}

impl<const BROKEN: u8> LeaderCore<BROKEN> {
    /// A node that leads nothing yet. The incarnation keeps streams of different lives apart.
    #[must_use]
    pub fn new(me: NodeId, incarnation: u64) -> Self {
        LeaderCore {
            me,
            next_stream: incarnation << 32,
            queues: FxHashMap::default(),
            links: BTreeMap::new(),
            put_off: BTreeMap::new(),
            unfilled: BTreeMap::new(),
        }
    }

    /// The connection to a node is up, or up again.
    pub fn link_up(&mut self, now: u64, peer: NodeId, asked: &mut Vec<Asked>) {
        self.next_stream += 1;
        let stream = Stream(self.next_stream);
        let link = self.links.entry(peer).or_default();
        link.restart(stream);
        asked.push(Asked::Send { to: peer, message: ToFollower::Hello { stream } });
        self.detach(peer, asked);
        let mut queues: Vec<QueueId> =
            self.queues.iter().filter(|(_, led)| led.copies.contains_key(&peer)).map(|(id, _)| *id).collect();
        queues.sort_unstable();
        queues.into_iter().for_each(|queue| self.attach(now, queue, peer, asked));
    }

    /// The connection to a node is gone.
    pub fn link_down(&mut self, now: u64, peer: NodeId, asked: &mut Vec<Asked>) {
        self.links.entry(peer).or_default().stop(now);
        self.detach(peer, asked);
        self.give_up(now, peer, asked);
    }

    /// A decision that makes this node a queue's leader, or leaves it that.
    pub fn place(&mut self, now: u64, queue: QueueId, placed: Placed, asked: &mut Vec<Asked>) {
        let known = self.queues.get(&queue).map(|led| (led.placed.epoch, led.placed.cfg_ver));
        match known {
            Some((epoch, cfg_ver)) if (placed.epoch, placed.cfg_ver) < (epoch, cfg_ver) => return,
            Some((epoch, _)) if placed.epoch == epoch => self.replace(queue, placed, asked),
            _ => {
                self.unplace(queue, asked);
                self.queues.insert(queue, Led::new(self.me, placed));
            }
        }
        let Some(led) = self.queues.get(&queue) else { return };
        let unattached: Vec<NodeId> =
            led.copies.iter().filter(|(_, copy)| copy.attached.is_none()).map(|(node, _)| *node).collect();
        let is_new = known.is_none_or(|(epoch, _)| epoch < led.placed.epoch);
        for peer in unattached {
            // Within an epoch, a copy that was there before has been asked already.
            if is_new || !self.is_asked(queue, peer) {
                self.attach(now, queue, peer, asked);
            }
        }
        self.advance(queue, asked);
        let copies: Vec<NodeId> =
            self.queues.get(&queue).iter().flat_map(|led| led.copies.keys().copied()).collect();
        for peer in copies {
            self.join(now, queue, peer, asked);
            // The policy may say by now that it is filled.
            self.start_fill(queue, peer);
            self.fill(now, peer, asked);
        }
    }

    /// The node does not lead the queue any more, or the queue is gone.
    pub fn unplace(&mut self, queue: QueueId, asked: &mut Vec<Asked>) {
        let Some(led) = self.queues.remove(&queue) else { return };
        for (peer, mut copy) in led.copies {
            self.let_off(peer, &mut copy);
        }
        if led.committed < led.position {
            asked.push(Asked::Lost { queue });
        }
    }

    /// The queue's log got records: `send` is told who has to get them too, in the same order. Returns the queue's
    /// position behind them, and whether it is committed already; `None` when the queue has no copies.
    pub fn append(
        &mut self,
        now: u64,
        queue: QueueId,
        records: u64,
        dropped: impl IntoIterator<Item = QseqRange>,
        mut send: impl FnMut(NodeId),
        asked: &mut Vec<Asked>,
    ) -> Option<(u64, bool)> {
        let led = self.queues.get_mut(&queue)?;
        led.position += records;
        dropped.into_iter().for_each(|range| led.dropped(range));
        let (epoch, position) = (led.placed.epoch, led.position);
        for (node, copy) in &led.copies {
            let Some(link) = self.links.get_mut(node).filter(|link| link.stream.is_some()) else { continue };
            if copy.attached.as_ref().is_some_and(|to| Some(to.stream) == link.stream) {
                link.send(now, queue, epoch, records, position);
                send(*node);
            } else if led.is_in_sync(*node) {
                link.expect(now);
            }
        }
        let committed = led.advance::<BROKEN>();
        // Where nothing but this node counts, nobody has to be told.
        if let Some(position) = committed.filter(|committed| *committed != position) {
            asked.push(Asked::Committed { queue, position });
        }
        Some((position, committed == Some(position)))
    }

    /// A follower says something. `live` is asked what the queue holds, and has to be right for the moment of the call:
    /// with every record that was given to [`LeaderCore::append`], and no other.
    pub fn hear(
        &mut self,
        now: u64,
        from: NodeId,
        heard: ToLeader,
        live: impl FnOnce(QueueId) -> Option<(MidSet, Fresh)>,
        asked: &mut Vec<Asked>,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        let same = link.stream == Some(heard.stream);
        if !same && Rule::StreamsAreApart.holds::<BROKEN>() || link.stream.is_none() {
            return;
        }
        if heard.refusals != link.refusals && Rule::RefusalsAreHeard.holds::<BROKEN>() {
            // One was lost on the way: what follows would count for a queue that was refused.
            return self.link_up(now, from, asked);
        }
        match heard.said {
            Said::Attached { queue, epoch, live: theirs } => {
                let led = self.queues.get_mut(&queue).filter(|led| led.placed.epoch == epoch);
                if let Some(copy) = led.and_then(|led| led.copies.get_mut(&from)) {
                    link.let_off(std::mem::take(&mut copy.owes), 0);
                }
                link.progressed(now);
                self.attached(now, from, (queue, epoch), &theirs, live, asked);
            }
            Said::Refused(refusal) => {
                link.refusals += 1;
                self.refused(now, from, refusal, asked);
            }
            Said::Ack { position } => {
                let mut touched = Vec::new();
                while let Some(sent) = link.take_acked(position) {
                    let led = self.queues.get_mut(&sent.queue).filter(|led| led.placed.epoch == sent.epoch);
                    let Some(copy) = led.and_then(|led| led.copies.get_mut(&from)) else { continue };
                    let Some(attached) = &mut copy.attached else { continue };
                    if sent.is_plan {
                        attached.planned = true;
                    }
                    attached.acked = attached.acked.max(sent.position);
                    touched.push(sent.queue);
                }
                link.progressed(now);
                for queue in touched {
                    self.start_fill(queue, from);
                    self.moved(now, queue, from, asked);
                }
                self.fill(now, from, asked);
            }
            // Part of a fill that was too large for one frame: the last one has its number.
            Said::FillAck { serial: PART, .. } => link.progressed(now),
            Said::FillAck { queue, epoch, serial } => {
                let led = self.queues.get_mut(&queue).filter(|led| led.placed.epoch == epoch);
                let attached = led.and_then(|led| led.copies.get_mut(&from)?.attached.as_mut());
                let filled = attached.and_then(|attached| {
                    let filled = attached.fills.remove(&serial)?;
                    attached.missing.remove_all(&filled);
                    Some(filled)
                });
                // What is not waited for any more has been let off.
                link.let_off(false, usize::from(filled.is_some()));
                link.progressed(now);
                if filled.is_some() {
                    self.moved(now, queue, from, asked);
                }
                self.fill(now, from, asked);
            }
            Said::Reset => self.link_up(now, from, asked),
        }
    }

    /// Time passes: followers that owe an answer for too long are given up, and asked anew when they go on to be silent: what
    /// they wait for may have been lost. Call some times a second.
    pub fn tick(&mut self, now: u64, asked: &mut Vec<Asked>) {
        let silent = |patience_ms| {
            move |(node, link): (&NodeId, &Link)| link.is_silent(now, patience_ms).then_some(*node)
        };
        let late: Vec<NodeId> = self.links.iter().filter_map(silent(PATIENCE_MS)).collect();
        let mute: Vec<NodeId> = self.links.iter().filter_map(silent(ASK_ANEW_MS)).collect();
        late.into_iter().for_each(|peer| self.give_up(now, peer, asked));
        for (queue, peer) in take_due(&mut self.put_off, now, AGAIN_MS) {
            self.join(now, queue, peer, asked);
        }
        for (queue, peer) in take_due(&mut self.unfilled, now, READ_AGAIN_MS) {
            let copy = self.queues.get(&queue).and_then(|led| led.copies.get(&peer));
            if copy.is_some_and(|copy| copy.attached.is_none()) {
                self.attach(now, queue, peer, asked);
            }
        }
        for peer in mute {
            if self.links.get(&peer).is_some_and(|link| link.stream.is_some()) {
                self.link_up(now, peer, asked);
            }
        }
    }

    /// A follower was not proposed for the in-sync set because its node does not serve now: confirms do not wait for it,
    /// and it is tried again later.
    pub fn put_off(&mut self, now: u64, queue: QueueId, cfg_ver: u32, peer: NodeId, asked: &mut Vec<Asked>) {
        let copy = self.queues.get_mut(&queue).and_then(|led| led.copies.get_mut(&peer));
        if let Some(copy) = copy.filter(|copy| copy.joining == Joining::Proposed { cfg_ver }) {
            copy.joining = Joining::No;
            self.put_off.insert((queue, peer), now);
            self.advance(queue, asked);
        }
    }

    /// Messages of a fill can not be read: the copy takes nothing more for a while, and counts no more; what its node has
    /// of other queues goes on. Returns whether that is news.
    pub fn can_not_fill(
        &mut self,
        now: u64,
        (queue, epoch): (QueueId, u32),
        (peer, stream): (NodeId, Stream),
        asked: &mut Vec<Asked>,
    ) -> bool {
        let Some(led) = self.queues.get_mut(&queue).filter(|led| led.placed.epoch == epoch) else {
            return false;
        };
        let is_member = led.is_in_sync(peer);
        let Some(copy) = led.copies.get_mut(&peer) else { return false };
        let Some(attached) = copy.attached.take_if(|to| to.stream == stream) else { return false };
        let is_news = !std::mem::replace(&mut copy.unfilled, true);
        self.unfilled.insert((queue, peer), now);
        if let Some(link) = self.links.get_mut(&peer) {
            link.let_off(false, attached.fills.len());
            link.progressed(now);
            link.send_message();
            asked.push(Asked::Send { to: peer, message: ToFollower::Detach { queue } });
        }
        if is_member {
            // Confirms would wait for what it can not get.
            self.give_up(now, peer, asked);
        }
        is_news
    }

    /// Whether enough copies are in sync for publishes to be taken; `true` for queues without copies.
    #[must_use]
    pub fn accepts(&self, queue: QueueId) -> bool {
        self.queues.get(&queue).is_none_or(|led| led.placed.isr.len() >= led.placed.min_in_sync)
    }

    /// The queue's position, if not all up to there is committed.
    #[must_use]
    pub fn uncommitted(&self, queue: QueueId) -> Option<u64> {
        let led = self.queues.get(&queue).filter(|led| led.committed < led.position)?;
        Some(led.position)
    }

    /// Fills the copies of a queue although its policy leaves that to an operator (`sync_queue`), or stops that.
    pub fn set_wanted(&mut self, now: u64, queue: QueueId, wanted: bool, asked: &mut Vec<Asked>) {
        let Some(led) = self.queues.get_mut(&queue) else { return };
        led.copies.values_mut().for_each(|copy| copy.wanted = wanted);
        let peers: Vec<NodeId> = led.copies.keys().copied().collect();
        for peer in peers {
            self.start_fill(queue, peer);
            self.fill(now, peer, asked);
        }
    }

    /// The copies of a queue on other nodes, and how many messages each lacks; `None` while that is not known.
    #[must_use]
    pub fn progress(&self, queue: QueueId) -> Vec<(NodeId, Option<u64>)> {
        let copies = self.queues.get(&queue).into_iter().flat_map(|led| &led.copies);
        copies.map(|(node, copy)| (*node, copy.attached.as_ref().map(|to| to.missing.len()))).collect()
    }

    /// Whether this node leads no queue that has copies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The epoch in which this node leads a queue that has copies.
    #[must_use]
    pub fn epoch(&self, queue: QueueId) -> Option<u32> {
        self.queues.get(&queue).map(|led| led.placed.epoch)
    }

    /// Batches that a follower has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self, peer: NodeId) -> usize {
        self.links.get(&peer).map_or(0, Link::unacknowledged)
    }

    fn replace(&mut self, queue: QueueId, placed: Placed, asked: &mut Vec<Asked>) {
        let Some(led) = self.queues.get_mut(&queue) else { return };
        let gone: Vec<NodeId> =
            led.copies.keys().copied().filter(|node| !placed.replicas.contains(node)).collect();
        let gone: Vec<(NodeId, Copy)> =
            gone.into_iter().filter_map(|node| led.copies.remove_entry(&node)).collect();
        led.replace(self.me, placed);
        for (to, mut copy) in gone {
            self.let_off(to, &mut copy);
            if let Some(link) = self.links.get_mut(&to).filter(|link| link.stream.is_some()) {
                link.send_message();
                asked.push(Asked::Send { to, message: ToFollower::Detach { queue } });
            }
        }
    }

    /// Nothing that a copy has not answered in this stream is waited for any more.
    fn let_off(&mut self, peer: NodeId, copy: &mut Copy) {
        let fills = copy.attached.as_mut().map_or(0, |attached| std::mem::take(&mut attached.fills).len());
        let owes = std::mem::take(&mut copy.owes);
        if let Some(link) = self.links.get_mut(&peer) {
            link.let_off(owes, fills);
        }
    }

    /// A follower does not listen to this leader about a queue, or did not when it was led in an earlier epoch.
    fn refused(&mut self, now: u64, from: NodeId, refusal: Refusal, asked: &mut Vec<Asked>) {
        let Refusal { queue, fence } = refusal;
        let mut again = false;
        if let Some(led) = self.queues.get_mut(&queue)
            && let Some(copy) = led.copies.get_mut(&from)
        {
            let is_over = fence > led.placed.epoch;
            // Where it knows no newer epoch, it has forgotten that it was asked, and may be asked again.
            again = copy.attached.is_some() && !is_over;
            let fills = copy.attached.take().map_or(0, |attached| attached.fills.len());
            // A question of this epoch is still answered, unless this is the answer.
            let answers = is_over && std::mem::take(&mut copy.owes);
            if matches!(copy.joining, Joining::Counted { .. }) {
                copy.joining = Joining::No;
            }
            if let Some(link) = self.links.get_mut(&from) {
                link.let_off(answers, fills);
            }
        }
        if let Some(link) = self.links.get_mut(&from) {
            link.progressed(now);
        }
        self.advance(queue, asked);
        if again {
            self.attach(now, queue, from, asked);
        }
    }

    /// Asks a follower what it has of a queue.
    fn attach(&mut self, now: u64, queue: QueueId, peer: NodeId, asked: &mut Vec<Asked>) {
        let Some(led) = self.queues.get_mut(&queue) else { return };
        let (epoch, is_member) = (led.placed.epoch, led.is_in_sync(peer));
        let Some(copy) = led.copies.get_mut(&peer) else { return };
        let link = self.links.entry(peer).or_default();
        copy.attached = None;
        copy.asked = link.stream;
        if link.stream.is_some() {
            link.send_message();
            link.owed += usize::from(!std::mem::replace(&mut copy.owes, true));
            link.expect(now);
            asked.push(Asked::Send { to: peer, message: ToFollower::Attach { queue, epoch } });
        } else if is_member {
            link.expect(now);
        }
    }

    fn is_asked(&self, queue: QueueId, peer: NodeId) -> bool {
        let stream = self.links.get(&peer).and_then(|link| link.stream);
        let copy = self.queues.get(&queue).and_then(|led| led.copies.get(&peer));
        copy.is_some_and(|copy| copy.asked == stream)
    }

    /// A follower said what it has: it hears what to delete, and takes the stream from here on.
    fn attached(
        &mut self,
        now: u64,
        from: NodeId,
        (queue, epoch): (QueueId, u32),
        theirs: &MidSet,
        live: impl FnOnce(QueueId) -> Option<(MidSet, Fresh)>,
        asked: &mut Vec<Asked>,
    ) {
        let Some(link) = self.links.get_mut(&from) else { return };
        let Some(stream) = link.stream else { return };
        let Some(led) = self.queues.get_mut(&queue).filter(|led| led.placed.epoch == epoch) else { return };
        let position = led.position;
        let Some(copy) = led.copies.get_mut(&from).filter(|copy| copy.attached.is_none()) else { return };
        let Some((mine, fresh)) = live(queue) else { return };
        let missing = mine.without(theirs);
        let delete = match Rule::StrangersAreDeleted.holds::<BROKEN>() {
            true => theirs.without(&mine),
            false => MidSet::default(),
        };
        copy.attached = Some(Attached::new(stream, missing.clone()));
        link.send_plan(now, queue, epoch, position);
        let plan = ToFollower::Plan { queue, epoch, delete, missing, fresh };
        asked.push(Asked::Send { to: from, message: plan });
    }

    /// Lines a copy up for what it lacks, where it is to have that.
    fn start_fill(&mut self, queue: QueueId, peer: NodeId) {
        let Some(led) = self.queues.get(&queue) else { return };
        let Some(copy) = led.copies.get(&peer) else { return };
        // A member that lacks something holds up every confirm.
        let is_wanted = led.placed.automatic || copy.wanted || led.is_in_sync(peer);
        let lacks = copy.attached.as_ref().is_some_and(|to| to.planned && !to.unsent.is_empty());
        if let Some(link) = self.links.get_mut(&peer)
            && is_wanted
            && lacks
            && !link.to_fill.contains(&queue)
        {
            link.to_fill.push_back(queue);
        }
    }

    /// Sends fills, the queues taking turns.
    fn fill(&mut self, now: u64, peer: NodeId, asked: &mut Vec<Asked>) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let Some(stream) = link.stream else { return };
        while link.fills < FILL_WINDOW {
            let Some(queue) = link.to_fill.pop_front() else { return };
            let Some(led) = self.queues.get_mut(&queue) else { continue };
            let (epoch, automatic, is_member) =
                (led.placed.epoch, led.placed.automatic, led.is_in_sync(peer));
            let Some(copy) = led.copies.get_mut(&peer) else { continue };
            let is_wanted = automatic || copy.wanted || is_member;
            let Some(attached) = copy.attached.as_mut().filter(|_| is_wanted) else { continue };
            let wanted = attached.unsent.take_first(FILL_MESSAGES);
            if wanted.is_empty() {
                continue;
            }
            copy.fills += 1;
            let serial = copy.fills;
            attached.fills.insert(serial, wanted.clone());
            (link.fills, link.owed) = (link.fills + 1, link.owed + 1);
            link.expect(now);
            if !attached.unsent.is_empty() {
                link.to_fill.push_back(queue);
            }
            asked.push(Asked::Fill { to: peer, queue, epoch, stream, serial, wanted });
        }
    }

    /// A copy has more than before.
    fn moved(&mut self, now: u64, queue: QueueId, peer: NodeId, asked: &mut Vec<Asked>) {
        self.advance(queue, asked);
        self.join(now, queue, peer, asked);
    }

    fn advance(&mut self, queue: QueueId, asked: &mut Vec<Asked>) {
        if let Some(position) = self.queues.get_mut(&queue).and_then(Led::advance::<BROKEN>) {
            asked.push(Asked::Committed { queue, position });
        }
    }

    fn join(&mut self, now: u64, queue: QueueId, peer: NodeId, asked: &mut Vec<Asked>) {
        let Some(led) = self.queues.get_mut(&queue) else { return };
        if led.join::<BROKEN>(peer) {
            let cfg_ver = led.placed.cfg_ver;
            asked.push(Asked::Expand { queue, cfg_ver, add: peer });
        } else if led.copies.get(&peer).is_some_and(|copy| matches!(copy.joining, Joining::Counted { .. }))
            && let Some(link) = self.links.get_mut(&peer)
        {
            link.expect(now);
        }
    }

    /// A node's copies take no stream any more.
    fn detach(&mut self, peer: NodeId, asked: &mut Vec<Asked>) {
        let mut freed = Vec::new();
        for (queue, led) in &mut self.queues {
            let Some(copy) = led.copies.get_mut(&peer) else { continue };
            // The stream in which it owed anything is over.
            (copy.attached, copy.asked, copy.owes) = (None, None, false);
            // Nobody knows that it was about to be proposed.
            if matches!(copy.joining, Joining::Counted { .. }) {
                copy.joining = Joining::No;
                freed.push(*queue);
            }
        }
        freed.sort_unstable();
        freed.into_iter().for_each(|queue| self.advance(queue, asked));
    }

    /// Confirms shall not wait for this node any longer.
    fn give_up(&mut self, now: u64, peer: NodeId, asked: &mut Vec<Asked>) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        if link.gave_up_at.is_some_and(|at| now.saturating_sub(at) < PATIENCE_MS) {
            return;
        }
        link.gave_up_at = Some(now);
        let (mut is_member, mut freed) = (false, Vec::new());
        for (queue, led) in &mut self.queues {
            is_member |= led.is_in_sync(peer);
            let Some(copy) = led.copies.get_mut(&peer) else { continue };
            if matches!(copy.joining, Joining::Counted { .. }) {
                copy.joining = Joining::No;
                freed.push(*queue);
            }
            if !Rule::RemovalIsDecided.holds::<BROKEN>() {
                led.placed.isr.retain(|node| *node != peer);
                freed.push(*queue);
            }
        }
        freed.sort_unstable();
        freed.into_iter().for_each(|queue| self.advance(queue, asked));
        if is_member {
            asked.push(Asked::Shrink { follower: peer });
        }
    }
}

/// Takes out what has waited for so long.
fn take_due(
    waiting: &mut BTreeMap<(QueueId, NodeId), u64>,
    now: u64,
    patience_ms: u64,
) -> Vec<(QueueId, NodeId)> {
    let mut due = Vec::new();
    waiting.retain(|at, since| {
        let is_due = now.saturating_sub(*since) >= patience_ms;
        due.extend(is_due.then_some(*at));
        !is_due
    });
    due
}
