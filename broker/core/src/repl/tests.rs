//! Leader and followers against a plain set: whatever is cut, lost or late, what is committed is where it has to be, and
//! in the end all copies are the leader's.

use super::message::records;
use super::*;
use crate::ids::QueueId;
use crate::record::{At, DropReason, Enq, Message, QseqRange, QseqSet, Record};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const QUEUE: QueueId = QueueId(9);
const LEADER: NodeId = NodeId(1);
const FOLLOWERS: [NodeId; 2] = [NodeId(2), NodeId(3)];

type Mid = (u32, u64);

#[derive(Clone, Copy, Debug)]
enum Op {
    Add(Mid),
    Remove(Mid),
}

/// A copy as a list of what happened to it, the first of which are synced.
#[derive(Debug, Default)]
struct Plain {
    ops: Vec<Op>,
    synced: usize,
}

impl Plain {
    fn fold(ops: &[Op]) -> BTreeSet<Mid> {
        ops.iter().fold(BTreeSet::new(), |mut live, op| {
            match op {
                Op::Add(mid) => live.insert(*mid),
                Op::Remove(mid) => live.remove(mid),
            };
            live
        })
    }

    fn all(&self) -> BTreeSet<Mid> {
        Self::fold(&self.ops)
    }

    fn on_disk(&self) -> BTreeSet<Mid> {
        Self::fold(&self.ops[..self.synced])
    }
}

fn mids(set: &BTreeSet<Mid>) -> MidSet {
    set.iter().map(|(epoch, qseq)| MidRange::one(*epoch, *qseq)).collect()
}

impl Copies for Plain {
    fn live(&mut self, _: QueueId) -> Option<MidSet> {
        Some(mids(&self.all()))
    }

    fn fence(&mut self, _: QueueId, _: u32, _: NodeId) {}

    fn reconcile(&mut self, _: QueueId, delete: &MidSet, _: &Fresh) {
        let gone = self.all().into_iter().filter(|(epoch, qseq)| delete.contains(*epoch, *qseq));
        self.ops.extend(gone.map(Op::Remove));
    }

    fn missing_from(&mut self, _: QueueId, _: Option<u64>) {}

    fn apply(&mut self, _: QueueId, record: &Record<'_>, _: &[u8]) {
        match record {
            Record::Enq(enq) => self.ops.push(Op::Add((enq.epoch, enq.qseq))),
            Record::Drop { ranges, .. } => {
                let mut gone = QseqSet::default();
                ranges.iter().for_each(|range| gone.insert(range));
                let gone = self.all().into_iter().filter(|(_, qseq)| gone.contains(*qseq));
                self.ops.extend(gone.map(Op::Remove));
            }
            _ => unreachable!("nothing else is shipped here"),
        }
    }

    fn fill(&mut self, _: QueueId, enq: &Enq<'_>, _: &[u8]) {
        self.ops.push(Op::Add((enq.epoch, enq.qseq)));
    }
}

#[derive(Default)]
struct Follower {
    core: FollowerCore,
    copy: Plain,
    stream: VecDeque<Vec<u8>>,
    fills: VecDeque<Vec<u8>>,
    answers: VecDeque<ToLeader>,
}

struct World {
    now: u64,
    leader: LeaderCore,
    live: BTreeSet<Mid>,
    next_qseq: u64,
    /// What was published, by the queue's position.
    published: BTreeMap<u64, Mid>,
    committed: u64,
    placed: Placed,
    decisions: VecDeque<Asked>,
    followers: BTreeMap<NodeId, Follower>,
    up: BTreeSet<NodeId>,
}

impl World {
    fn new(already: u64) -> Self {
        let replicas = vec![LEADER, FOLLOWERS[0], FOLLOWERS[1]];
        let placed =
            Placed { epoch: 3, cfg_ver: 5, replicas, isr: vec![LEADER], automatic: true, min_in_sync: 1 };
        let followers = FOLLOWERS.map(|node| (node, Follower::default()));
        let mut world = World {
            now: 0,
            leader: LeaderCore::new(LEADER, 7),
            // Some messages are from before this epoch.
            live: (1..=already).map(|qseq| (2, qseq)).collect(),
            next_qseq: already + 1,
            published: BTreeMap::new(),
            committed: 0,
            placed: placed.clone(),
            decisions: VecDeque::new(),
            followers: followers.into(),
            up: BTreeSet::new(),
        };
        // One copy has something of them, and something that the leader never had.
        let stale = &mut world.followers.get_mut(&FOLLOWERS[0]).unwrap().copy;
        stale.ops.extend([Op::Add((2, 1)), Op::Add((2, 3)), Op::Add((2, already + 1))]);
        stale.synced = 3;
        let mut asked = Vec::new();
        world.leader.place(0, QUEUE, placed, &mut asked);
        world.carry_out(asked);
        FOLLOWERS.into_iter().for_each(|node| world.connect(node));
        world
    }

    fn follower(&mut self, node: NodeId) -> &mut Follower {
        self.followers.get_mut(&node).unwrap()
    }

    fn carry_out(&mut self, asked: Vec<Asked>) {
        for asked in asked {
            match asked {
                Asked::Send { to, message } => self.follower(to).stream.push_back(message.encode()),
                Asked::Fill { to, queue, epoch, stream, serial, wanted } => {
                    let mut fill = Fill::head(queue, epoch, stream, serial);
                    for &(epoch, qseq) in
                        self.live.iter().filter(|(epoch, qseq)| wanted.contains(*epoch, *qseq))
                    {
                        enq(epoch, qseq).encode(&mut fill);
                    }
                    self.follower(to).fills.push_back(fill);
                }
                Asked::Committed { position, .. } => self.committed = position,
                Asked::Lost { .. } => unreachable!("there is one epoch"),
                decision => self.decisions.push_back(decision),
            }
        }
    }

    fn append(&mut self, record: &Record<'_>, dropped: Option<QseqRange>) -> u64 {
        let mut frame = ToFollower::records_frame();
        record.encode(&mut frame);
        let (mut to, mut asked) = (Vec::new(), Vec::new());
        let appended =
            self.leader.append(self.now, QUEUE, 1, dropped, |node| to.push(node), &mut asked).unwrap();
        to.into_iter().for_each(|node| self.follower(node).stream.push_back(frame.clone()));
        self.carry_out(asked);
        let (position, committed) = appended;
        if committed {
            self.committed = position;
        }
        position
    }

    fn publish(&mut self) {
        let mid = (3, self.next_qseq);
        self.next_qseq += 1;
        self.live.insert(mid);
        let position = self.append(&enq(mid.0, mid.1), None);
        self.published.insert(position, mid);
    }

    fn drop_one(&mut self, which: usize) {
        let Some(&mid) = self.live.iter().nth(which % self.live.len().max(1)) else { return };
        self.live.remove(&mid);
        let range = QseqRange::one(mid.1);
        let at = At { queue_id: QUEUE.0, epoch: 3, off: 0 };
        let record = Record::Drop { at, reason: DropReason::Ack, ranges: range.into() };
        self.append(&record, Some(range));
    }

    fn take(&mut self, node: NodeId) {
        let follower = self.follower(node);
        if let Some(frame) = follower.stream.pop_front() {
            follower.core.take(LEADER, &frame, &mut follower.copy);
            follower.core.appended(LEADER, follower.copy.ops.len() as u64);
        }
    }

    fn take_fill(&mut self, node: NodeId) {
        let follower = self.follower(node);
        if let Some(fill) = follower.fills.pop_front() {
            follower.core.take_fill(LEADER, &Fill::decode(&fill).unwrap(), &mut follower.copy);
            follower.core.appended(LEADER, follower.copy.ops.len() as u64);
        }
    }

    fn sync(&mut self, node: NodeId) {
        let Follower { core, copy, answers, .. } = self.follower(node);
        copy.synced = copy.ops.len();
        core.synced(copy.synced as u64, |to, said| {
            assert_eq!(to, LEADER);
            answers.push_back(said);
        });
    }

    fn answer(&mut self, node: NodeId) {
        let Some(said) = self.follower(node).answers.pop_front() else { return };
        let said = ToLeader::decode(&said.encode()).unwrap();
        let fresh = Fresh { epochs: EpochTable::starting(3), next_qseq: self.next_qseq, ..Fresh::default() };
        let (live, mut asked) = (mids(&self.live), Vec::new());
        self.leader.hear(self.now, node, said, |_| Some((live, fresh)), &mut asked);
        self.carry_out(asked);
    }

    fn disconnect(&mut self, node: NodeId) {
        let follower = self.follower(node);
        follower.stream.clear();
        follower.answers.clear();
        // What goes beside the stream may still come.
        let mut asked = Vec::new();
        self.leader.link_down(self.now, node, &mut asked);
        self.up.remove(&node);
        self.carry_out(asked);
    }

    fn connect(&mut self, node: NodeId) {
        let mut asked = Vec::new();
        self.leader.link_up(self.now, node, &mut asked);
        self.up.insert(node);
        self.carry_out(asked);
    }

    fn crash(&mut self, node: NodeId) {
        self.disconnect(node);
        let follower = self.follower(node);
        follower.copy.ops.truncate(follower.copy.synced);
        (follower.core, follower.fills) = (FollowerCore::new(), VecDeque::new());
    }

    /// Decides on the oldest proposal, as the metadata would.
    fn decide(&mut self) {
        match self.decisions.pop_front() {
            Some(Asked::Expand { cfg_ver, add, .. }) if cfg_ver == self.placed.cfg_ver => {
                self.placed.isr.push(add);
            }
            Some(Asked::Shrink { follower }) if self.placed.isr.contains(&follower) => {
                self.placed.isr.retain(|node| *node != follower);
            }
            _ => return,
        }
        self.placed.cfg_ver += 1;
        let mut asked = Vec::new();
        self.leader.place(self.now, QUEUE, self.placed.clone(), &mut asked);
        self.carry_out(asked);
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms;
        let mut asked = Vec::new();
        self.leader.tick(self.now, &mut asked);
        self.carry_out(asked);
    }

    /// What is committed is on the disk of every member, unless it left the queue.
    fn check(&self) {
        for node in self.placed.isr.iter().filter(|node| **node != LEADER) {
            let disk = self.followers[node].copy.on_disk();
            for (position, mid) in self.published.range(..=self.committed) {
                let is_owed = self.live.contains(mid);
                assert!(!is_owed || disk.contains(mid), "{node:?} lacks {mid:?}, committed at {position}");
            }
        }
    }

    fn settle(&mut self) {
        for node in FOLLOWERS {
            if !self.up.contains(&node) {
                self.connect(node);
            }
        }
        for _ in 0..200 {
            for node in FOLLOWERS {
                while !self.followers[&node].stream.is_empty() {
                    self.take(node);
                }
                while !self.followers[&node].fills.is_empty() {
                    self.take_fill(node);
                }
                self.sync(node);
                while !self.followers[&node].answers.is_empty() {
                    self.answer(node);
                    self.check();
                }
            }
            self.decide();
            self.tick(100);
        }
    }
}

fn enq(epoch: u32, qseq: u64) -> Record<'static> {
    Record::Enq(Enq { queue_id: QUEUE.0, epoch, off: 0, qseq, message: Message::default() })
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish,
    Drop(usize),
    Take(NodeId),
    TakeFill(NodeId),
    Sync(NodeId),
    Answer(NodeId),
    Disconnect(NodeId),
    Connect(NodeId),
    Crash(NodeId),
    Decide,
    Tick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let node = || prop::sample::select(FOLLOWERS.to_vec());
    prop_oneof![
        5 => Just(Step::Publish),
        2 => (0..40usize).prop_map(Step::Drop),
        10 => node().prop_map(Step::Take),
        4 => node().prop_map(Step::TakeFill),
        6 => node().prop_map(Step::Sync),
        8 => node().prop_map(Step::Answer),
        1 => node().prop_map(Step::Disconnect),
        1 => node().prop_map(Step::Connect),
        1 => node().prop_map(Step::Crash),
        3 => Just(Step::Decide),
        1 => (0..2500u64).prop_map(Step::Tick),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_committed_is_everywhere_and_copies_become_equal(
        already in 0..8u64,
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new(already);
        for step in steps {
            match step {
                Step::Publish => world.publish(),
                Step::Drop(which) => world.drop_one(which),
                Step::Take(node) => world.take(node),
                Step::TakeFill(node) => world.take_fill(node),
                Step::Sync(node) => world.sync(node),
                Step::Answer(node) => world.answer(node),
                Step::Disconnect(node) => world.disconnect(node),
                Step::Connect(node) => world.connect(node),
                Step::Crash(node) => world.crash(node),
                Step::Decide => world.decide(),
                Step::Tick(ms) => world.tick(ms),
            }
            world.check();
        }
        world.settle();
        for follower in world.followers.values() {
            prop_assert_eq!(&follower.copy.on_disk(), &world.live);
        }
        prop_assert_eq!(world.placed.isr.len(), 3);
        prop_assert_eq!(world.committed, world.published.keys().next_back().copied().unwrap_or(0).max(world.committed));
        world.publish();
        world.settle();
        prop_assert!(world.published.keys().all(|position| *position <= world.committed));
    }
}

fn settled() -> World {
    let mut world = World::new(3);
    world.settle();
    assert_eq!(world.placed.isr.len(), 3);
    world
}

#[test]
fn a_confirm_waits_for_a_silent_member_until_it_is_taken_out() {
    let mut world = settled();
    world.publish();
    let position = *world.published.keys().next_back().unwrap();
    world.take(FOLLOWERS[0]);
    world.sync(FOLLOWERS[0]);
    world.answer(FOLLOWERS[0]);
    assert!(world.committed < position);
    world.tick(PATIENCE_MS - 1);
    assert!(world.decisions.is_empty());
    world.tick(1);
    assert!(matches!(world.decisions.front(), Some(Asked::Shrink { follower }) if *follower == FOLLOWERS[1]));
    assert!(world.committed < position, "before the decision nothing changes");
    world.decide();
    assert_eq!(world.committed, position);
}

#[test]
fn a_follower_whose_node_does_not_serve_is_not_waited_for_and_tried_again() {
    let mut world = settled();
    // The node is taken for dead although it still answers.
    let down = FOLLOWERS[1];
    world.placed.isr.retain(|node| *node != down);
    world.placed.cfg_ver += 1;
    let mut asked = Vec::new();
    world.leader.place(world.now, QUEUE, world.placed.clone(), &mut asked);
    world.carry_out(asked);
    let proposed = |world: &mut World| match world.decisions.pop_front() {
        Some(Asked::Expand { cfg_ver, add, .. }) => Some((cfg_ver, add)),
        _ => None,
    };
    let cfg_ver = world.placed.cfg_ver;
    assert_eq!(proposed(&mut world), Some((cfg_ver, down)));
    world.publish();
    world.take(FOLLOWERS[0]);
    world.sync(FOLLOWERS[0]);
    world.answer(FOLLOWERS[0]);
    let position = *world.published.keys().next_back().unwrap();
    assert!(world.committed < position, "it might be let in");
    let mut asked = Vec::new();
    world.leader.put_off(world.now, QUEUE, cfg_ver, down, &mut asked);
    world.carry_out(asked);
    assert_eq!(world.committed, position);
    world.tick(499);
    assert_eq!(proposed(&mut world), None);
    world.tick(1);
    // It has not got what was published meanwhile.
    assert_eq!(proposed(&mut world), None);
    world.take(down);
    world.sync(down);
    world.answer(down);
    assert_eq!(proposed(&mut world), Some((cfg_ver, down)));
}

#[test]
fn a_broken_connection_is_noticed_at_once() {
    let mut world = settled();
    world.disconnect(FOLLOWERS[0]);
    assert!(matches!(world.decisions.front(), Some(Asked::Shrink { follower }) if *follower == FOLLOWERS[0]));
}

#[test]
fn the_leader_of_an_old_epoch_is_refused_and_its_records_do_not_count() {
    let mut world = settled();
    assert!(world.follower(FOLLOWERS[0]).core.raise_fence(QUEUE, 4));
    assert!(!world.follower(FOLLOWERS[0]).core.raise_fence(QUEUE, 4));
    world.publish();
    let (position, mid) = world.published.last_key_value().map(|(at, mid)| (*at, *mid)).unwrap();
    for node in FOLLOWERS {
        world.take(node);
        world.sync(node);
        while !world.followers[&node].answers.is_empty() {
            world.answer(node);
        }
    }
    assert!(world.committed < position);
    assert!(!world.followers[&FOLLOWERS[0]].copy.all().contains(&mid));
    assert!(world.followers[&FOLLOWERS[1]].copy.all().contains(&mid));
}

/// Five messages, and a follower that has been sent the first fill for them.
fn being_filled() -> (World, NodeId) {
    let mut world = World::new(5);
    let node = FOLLOWERS[1];
    for _ in 0..4 {
        world.take(node);
        world.sync(node);
        world.answer(node);
    }
    (world, node)
}

#[test]
fn what_left_the_queue_is_not_filled_in_any_more() {
    let (mut world, node) = being_filled();
    assert_eq!(world.followers[&node].fills.len(), 1);
    world.drop_one(0);
    world.take(node);
    world.take_fill(node);
    assert_eq!(world.followers[&node].copy.all(), world.live);
}

#[test]
fn a_copy_that_can_not_be_filled_is_left_out_alone_and_asked_again_later() {
    let (mut world, node) = being_filled();
    let fill = world.follower(node).fills.pop_front().unwrap();
    let Fill { epoch, stream, .. } = Fill::decode(&fill).unwrap();
    let leave_out = |world: &mut World| {
        let mut asked = Vec::new();
        let now = world.now;
        let is_news = world.leader.can_not_fill(now, (QUEUE, epoch), (node, stream), &mut asked);
        assert!(!asked.iter().any(|asked| matches!(asked, Asked::Shrink { .. })), "it is not in sync");
        world.carry_out(asked);
        is_news
    };
    assert!(leave_out(&mut world));
    assert!(!leave_out(&mut world), "it is already");
    world.publish();
    world.settle();
    assert_eq!(world.placed.isr, [LEADER, FOLLOWERS[0]]);
    assert_eq!(world.published.keys().next_back(), Some(&world.committed));
    assert_eq!(world.leader.progress(QUEUE), [(FOLLOWERS[0], Some(0)), (node, None)]);
    assert!(world.followers[&node].copy.all().is_empty());
    world.tick(60_000);
    world.settle();
    assert_eq!(world.placed.isr.len(), 3);
    assert_eq!(world.followers[&node].copy.on_disk(), world.live);
}

#[test]
fn manual_copies_take_what_is_new_and_wait_for_an_operator() {
    let mut world = settled();
    let mut placed =
        Placed { epoch: 4, cfg_ver: 20, isr: vec![LEADER], automatic: false, ..world.placed.clone() };
    world.live.insert((3, 500));
    world.placed = placed.clone();
    let mut asked = Vec::new();
    world.leader.place(world.now, QUEUE, placed.clone(), &mut asked);
    world.carry_out(asked);
    world.settle();
    assert_eq!(world.leader.progress(QUEUE), FOLLOWERS.map(|node| (node, Some(1))));
    assert_eq!(world.placed.isr, [LEADER]);
    let mut asked = Vec::new();
    world.leader.set_wanted(world.now, QUEUE, true, &mut asked);
    world.carry_out(asked);
    world.settle();
    assert_eq!(world.placed.isr.len(), 3);
    placed.isr = vec![LEADER];
    placed.min_in_sync = 2;
    placed.cfg_ver = 90;
    world.leader.place(world.now, QUEUE, placed, &mut Vec::new());
    assert!(!world.leader.accepts(QUEUE));
}

#[test]
fn octets_that_are_no_message_end_the_stream_and_nothing_else() {
    let mut world = settled();
    for octets in [&[][..], &[9, 9], &[0, 200, 200], &[1, 3, 1]] {
        let follower = world.follower(FOLLOWERS[0]);
        let before = follower.copy.ops.len();
        follower.core.take(LEADER, octets, &mut follower.copy);
        follower.core.appended(LEADER, before as u64);
        assert_eq!(follower.copy.ops.len(), before);
    }
    assert!(records(&[1, 2, 3]).any(|record| record.is_err()));
    assert!(ToLeader::decode(&[255; 3]).is_err() && Fill::decode(&[255; 30]).is_err());
    world.publish();
    world.settle();
    world.settle();
    assert_eq!(world.placed.isr.len(), 3);
    assert_eq!(world.followers[&FOLLOWERS[0]].copy.on_disk(), world.live);
}

/// A leader of one queue with one follower, which says what a test wants.
struct Alone {
    leader: LeaderCore,
    stream: Stream,
    refusals: u64,
    asked: Vec<Asked>,
}

impl Alone {
    const PEER: NodeId = FOLLOWERS[0];
    const MESSAGES: MidRange = MidRange { epoch: 1, first: 1, last: 5 };

    fn new() -> Self {
        let (mut leader, mut asked) = (LeaderCore::new(LEADER, 7), Vec::new());
        leader.link_up(0, Self::PEER, &mut asked);
        let Some(Asked::Send { message: ToFollower::Hello { stream }, .. }) = asked.first() else {
            panic!("a stream begins with its number: {asked:?}")
        };
        Alone { leader, stream: *stream, refusals: 0, asked: Vec::new() }
    }

    /// Returns what the decision leads to.
    fn place(&mut self, epoch: u32) -> Vec<Asked> {
        let both = vec![LEADER, Self::PEER];
        let placed = Placed {
            epoch,
            cfg_ver: epoch,
            replicas: both.clone(),
            isr: both,
            automatic: true,
            min_in_sync: 1,
        };
        self.leader.place(0, QUEUE, placed, &mut self.asked);
        std::mem::take(&mut self.asked)
    }

    /// Returns what the answer leads to.
    fn hear(&mut self, said: Said) -> Vec<Asked> {
        let heard = ToLeader { stream: self.stream, refusals: self.refusals, said };
        self.refusals += u64::from(matches!(heard.said, Said::Refused(_)));
        let live = |_| Some((std::iter::once(Self::MESSAGES).collect(), Fresh::default()));
        self.leader.hear(0, Self::PEER, heard, live, &mut self.asked);
        std::mem::take(&mut self.asked)
    }

    /// The follower has nothing, and takes the plan.
    fn attach(&mut self, epoch: u32) -> Vec<Asked> {
        self.hear(Said::Attached { queue: QUEUE, epoch, live: MidSet::default() });
        self.hear(Said::Ack { position: u64::MAX })
    }

    fn refuse(&mut self, fence: u32) -> Vec<Asked> {
        self.hear(Said::Refused(Refusal { queue: QUEUE, fence }))
    }

    /// Whether it is taken for late although it owes nothing.
    fn is_late(&mut self) -> bool {
        self.leader.tick(100 * ASK_ANEW_MS, &mut self.asked);
        !std::mem::take(&mut self.asked).is_empty()
    }
}

fn asks_anew(asked: &[Asked]) -> bool {
    asked.iter().any(|asked| matches!(asked, Asked::Send { message: ToFollower::Attach { .. }, .. }))
}

#[test]
fn a_refused_question_is_not_waited_for() {
    let mut alone = Alone::new();
    assert!(asks_anew(&alone.place(3)));
    assert!(!asks_anew(&alone.refuse(4)), "it knows a newer leader");
    assert!(asks_anew(&alone.place(5)));
    let filled = alone.attach(5);
    assert!(matches!(filled[..], [Asked::Fill { serial, .. }] if serial == 1));
    alone.hear(Said::FillAck { queue: QUEUE, epoch: 5, serial: 1 });
    assert!(!alone.is_late(), "everything was answered");
}

#[test]
fn fills_of_an_epoch_that_is_over_do_not_hold_up_those_of_the_next() {
    let mut alone = Alone::new();
    for epoch in 1..20 {
        assert!(asks_anew(&alone.place(epoch)));
        let asked = alone.attach(epoch);
        assert!(matches!(asked[..], [Asked::Fill { .. }]), "epoch {epoch}: {asked:?}");
    }
    alone.hear(Said::FillAck { queue: QUEUE, epoch: 19, serial: 1 });
    assert!(!alone.is_late(), "what the follower did not take is not waited for");
}

#[test]
fn a_follower_that_forgot_a_question_is_asked_again() {
    let mut alone = Alone::new();
    alone.place(3);
    let first = alone.attach(3);
    assert!(matches!(first[..], [Asked::Fill { serial: 1, .. }]), "{first:?}");
    assert!(asks_anew(&alone.refuse(3)), "it knows no newer leader");
    let second = alone.attach(3);
    assert!(matches!(second[..], [Asked::Fill { serial: 2, .. }]), "{second:?}");
    // The one from before the refusal says nothing of the other.
    alone.hear(Said::FillAck { queue: QUEUE, epoch: 3, serial: 1 });
    assert_eq!(alone.leader.progress(QUEUE), [(Alone::PEER, Some(5))]);
    alone.hear(Said::FillAck { queue: QUEUE, epoch: 3, serial: 2 });
    assert_eq!(alone.leader.progress(QUEUE), [(Alone::PEER, Some(0))]);
    assert!(!alone.is_late());
}

#[test]
fn a_member_that_can_not_be_filled_is_taken_out() {
    let mut alone = Alone::new();
    alone.place(3);
    alone.attach(3);
    let mut asked = Vec::new();
    assert!(alone.leader.can_not_fill(0, (QUEUE, 3), (Alone::PEER, alone.stream), &mut asked));
    let detach = |asked: &Asked| matches!(asked, Asked::Send { message: ToFollower::Detach { .. }, .. });
    let shrink = |asked: &Asked| matches!(asked, Asked::Shrink { follower: Alone::PEER });
    assert!(asked.iter().any(detach) && asked.iter().any(shrink), "{asked:?}");
}

#[test]
fn every_question_of_an_old_leader_is_refused() {
    let (mut follower, mut copy) = (FollowerCore::<{ Rule::NONE }>::new(), Plain::default());
    follower.raise_fence(QUEUE, 5);
    let stream = Stream(1);
    follower.take(LEADER, &ToFollower::Hello { stream }.encode(), &mut copy);
    let mut refused = 0;
    for epoch in [3, 4, 4] {
        follower.take(LEADER, &ToFollower::Attach { queue: QUEUE, epoch }.encode(), &mut copy);
        follower.appended(LEADER, 1);
        follower.synced(1, |_, said| refused += u32::from(matches!(said.said, Said::Refused(_))));
    }
    assert_eq!(refused, 3);
}
