//! One node of the simulated cluster: the real queue, the real log on a simulated disk, the real cores.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use broker_core::ids::{NodeId, QueueId};
use broker_core::message::{MessageView, Publish};
use broker_core::queue::consumers::NewConsumer;
use broker_core::queue::dead_letter::DeadLetter;
use broker_core::queue::delayed::Due;
use broker_core::queue::paged::{PageOut, Window, WindowRead};
use broker_core::queue::{Crowd, Delivered, Delivery, Effects, Queue, QueueConfig, Settle};
use broker_core::record::{Enq, Record};
use broker_core::repl::{
    Asked, Copies, Fill, FollowerCore, Fresh, LeaderCore, MidRange, MidSet, Placed, ToFollower,
};
use broker_store::disk::Disk;
use broker_store::recovery::LiveSet;
use broker_store::wal::{Urgency, Wal, WalOptions};

use super::Slip;
use super::metadata::Placement;
use crate::crash::{Crasher, Survivors};
use crate::disk::SimDisk;

pub(super) const QUEUE: QueueId = QueueId(5);
const LOG: &str = "/wal";
const FILE_BYTES: u64 = 64 << 10;
/// Messages that the consumer may hold.
const PREFETCH: u32 = 3;

/// What the queue asked for.
#[derive(Debug, Default)]
pub(super) struct Log {
    records: Vec<u8>,
    count: u32,
    floor: u64,
    /// Another node may lead by now.
    unsure: bool,
    /// What a consumer got: position, number, whether it may have been seen.
    pub(super) delivered: Vec<(u64, u64, bool)>,
}

impl Effects for Log {
    type Handle = ();

    fn log(&mut self, record: &Record<'_>) {
        record.encode(&mut self.records);
        self.count += 1;
    }

    fn deliver(&mut self, (): &(), delivery: &Delivery<'_>) -> Delivered {
        self.delivered.push((delivery.qseq, number(delivery.view.body), delivery.redelivered));
        Delivered::Sent
    }

    fn dead_letter(&mut self, _: DeadLetter) {}
    fn due(&mut self, _: Due) {}
    fn wake_at(&mut self, _: QueueId, _: u64) {}
    fn unused(&mut self, _: QueueId) {}
    fn backlog(&mut self, (): &(), _: usize) {}
    fn page_out(&mut self, _: PageOut) {}
    fn crowded(&mut self, _: QueueId, _: Crowd) {}
    fn read_ahead(&mut self, _: Window) {}
    fn read_now(&mut self, _: &Window) -> Option<WindowRead> {
        None
    }
    fn remove_segment(&mut self, _: QueueId, _: u64, _: bool) {}
    fn may_be_deposed(&self) -> bool {
        self.unsure
    }
    fn log_floor(&self) -> u64 {
        self.floor
    }
}

fn number(body: &[u8]) -> u64 {
    body.try_into().map_or(0, u64::from_le_bytes)
}

/// A confirm that waits.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    number: u64,
    lsn: u64,
    position: u64,
}

pub(super) struct Node<const BROKEN: u8> {
    pub(super) id: NodeId,
    pub(super) incarnation: u64,
    /// The version of the metadata that was applied.
    pub(super) view: Option<usize>,
    pub(super) leader: LeaderCore<BROKEN>,
    pub(super) follower: FollowerCore<BROKEN>,
    pub(super) queue: Queue<()>,
    wal: Wal,
    disk: Arc<SimDisk>,
    before: Before,
    /// The epoch in which it leads.
    pub(super) leads: Option<u32>,
    /// Until then nobody else leads what it leads: the others wait longer until they take it for dead.
    pub(super) sure_until: u64,
    waiting: VecDeque<Waiting>,
    committed: u64,
    /// Positions that the consumer has and has not acknowledged.
    pub(super) held: Vec<(u64, u64)>,
    slip: Option<Slip>,
}

/// What was on the disk when the node started, to work out what a power loss leaves.
type Before =
    (std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>, std::collections::BTreeSet<std::path::PathBuf>);

impl<const BROKEN: u8> Node<BROKEN> {
    /// A node starts on what its disk has.
    pub(super) fn start(
        id: NodeId,
        incarnation: u64,
        disk: SimDisk,
        now: u64,
        slip: Option<Slip>,
    ) -> Result<Self, String> {
        let before = (disk.files(), disk.dirs());
        let disk = Arc::new(disk);
        let dynamic: Arc<dyn Disk> = Arc::<SimDisk>::clone(&disk);
        let options = WalOptions { background: false, file_bytes: FILE_BYTES, ..WalOptions::new([7; 16]) };
        let mut live = LiveSet::new();
        let (wal, _) = Wal::open(dynamic, Path::new(LOG), options, |lsn, record| live.apply(lsn, record))
            .map_err(|error| format!("node {id} does not start: {error}"))?;
        let mut queue = Queue::new(QUEUE, "/".into(), "q".into(), true, QueueConfig::default(), now);
        let mut follower = FollowerCore::new();
        if let Some(image) = live.finish().into_iter().find(|image| image.queue_id == QUEUE.0) {
            queue.restore_positions(image.epoch.max(1), image.next_off, image.next_qseq, image.hwm);
            queue.restore_epochs(image.epochs());
            image.messages.values().for_each(|message| message.restore(&mut queue));
            if slip != Some(Slip::FenceForgotten) {
                follower.raise_fence(QUEUE, image.epoch);
            }
        }
        queue.set_has_copies(true);
        // Until a decision says that it leads.
        queue.follow(0, 0, &mut Log::default());
        let leader = LeaderCore::new(id, incarnation);
        Ok(Self {
            id,
            incarnation,
            view: None,
            leader,
            follower,
            queue,
            wal,
            disk,
            before,
            leads: None,
            sure_until: 0,
            waiting: VecDeque::new(),
            committed: 0,
            held: Vec::new(),
            slip,
        })
    }

    /// What is on the disk after the power is lost, or (with everything surviving) the process is killed.
    pub(super) fn disk_after(&self, survivors: Survivors) -> SimDisk {
        let ops = self.disk.ops();
        let mut crasher = Crasher::new(self.before.0.clone(), self.before.1.clone(), &ops);
        while crasher.step() {}
        crasher.image(survivors)
    }

    pub(super) fn fill_disk(&self, full: bool) {
        self.disk.set_capacity(full.then(|| self.disk.used()));
    }

    pub(super) fn is_full(&self) -> bool {
        self.wal.is_full()
    }

    /// Works on the queue and gives the log what came of it. Returns what was delivered.
    fn turn<R>(&mut self, now: u64, work: impl FnOnce(&mut Queue<()>, &mut Log) -> R) -> (R, Log) {
        let unsure = now >= self.sure_until && self.slip != Some(Slip::AlwaysSure);
        let mut log = Log { floor: self.wal.last_lsn(), unsure, ..Log::default() };
        let done = work(&mut self.queue, &mut log);
        self.append(&log);
        (done, log)
    }

    fn append(&mut self, log: &Log) {
        if log.count > 0 {
            self.wal.append(&log.records, log.count, Urgency::Now);
        }
    }

    /// As the leader: what happened goes to the log and, in the same order, to those who follow.
    fn ship<R>(
        &mut self,
        now: u64,
        asked: &mut Vec<Asked>,
        frames: &mut Vec<(NodeId, Vec<u8>)>,
        work: impl FnOnce(&mut Queue<()>, &mut Log) -> R,
    ) -> (R, Log, u64) {
        let (done, log) = self.turn(now, work);
        let mut position = 0;
        let mut rest = log.records.as_slice();
        while let Ok((record, used)) = Record::decode(rest) {
            let dropped: Vec<_> = match &record {
                Record::Drop { ranges, .. } => ranges.iter().collect(),
                _ => Vec::new(),
            };
            let octets = &rest[..used];
            let send = |to| {
                let mut frame = ToFollower::records_frame();
                frame.extend_from_slice(octets);
                frames.push((to, frame));
            };
            if let Some((at, committed)) = self.leader.append(now, QUEUE, 1, dropped, send, asked) {
                position = at;
                if committed {
                    self.committed = at;
                }
            }
            rest = &rest[used..];
        }
        (done, log, position)
    }

    /// A client publishes here.
    pub(super) fn publish(
        &mut self,
        now: u64,
        number: u64,
        asked: &mut Vec<Asked>,
    ) -> (Vec<(NodeId, Vec<u8>)>, Log) {
        let body = number.to_le_bytes();
        let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: &body };
        let mut frames = Vec::new();
        let (_, log, position) = self.ship(now, asked, &mut frames, |queue, log| {
            queue.publish(now, &mut Publish::borrowed(view, true, None, 0), log)
        });
        self.waiting.push_back(Waiting { number, lsn: self.wal.last_lsn(), position });
        (frames, log)
    }

    /// A client of this node consumes.
    pub(super) fn consume(&mut self, now: u64, asked: &mut Vec<Asked>) -> (Vec<(NodeId, Vec<u8>)>, Log) {
        let mut frames = Vec::new();
        let (_, log, _) = self.ship(now, asked, &mut frames, |queue, log| {
            let tag = "c".into();
            let consumer = NewConsumer {
                handle: (),
                tag,
                no_ack: false,
                prefetch: PREFETCH,
                priority: 0,
                exclusive: false,
            };
            queue.consume(now, consumer, log)
        });
        (frames, log)
    }

    /// The consumer acknowledges a message, or gives it back.
    pub(super) fn settle(
        &mut self,
        now: u64,
        how: Settle,
        qseq: u64,
        asked: &mut Vec<Asked>,
    ) -> (Vec<(NodeId, Vec<u8>)>, Log) {
        let mut frames = Vec::new();
        let (_, log, _) =
            self.ship(now, asked, &mut frames, |queue, log| queue.settle(now, how, &[qseq], log));
        (frames, log)
    }

    /// A decision is applied here. Returns what a consumer got.
    pub(super) fn apply(
        &mut self,
        now: u64,
        placement: &Placement,
        all: &[NodeId],
        asked: &mut Vec<Asked>,
    ) -> Log {
        let is_mine = placement.leader.is_some_and(|(leader, incarnation)| {
            leader == self.id && (incarnation == self.incarnation || self.slip == Some(Slip::ResumedEpoch))
        });
        let by = placement.leader.map_or(0, |(leader, _)| leader.0);
        let news = self.follower.raise_fence(QUEUE, placement.epoch);
        let epoch = placement.epoch;
        // Metadata that is older than what the log knows is read again after a restart.
        let is_current = self.follower.fence(QUEUE) == epoch;
        if !is_mine || !is_current {
            if self.leads.is_some_and(|leads| leads <= epoch) {
                self.step_down(now, asked);
            }
            if news || (is_current && !self.queue.is_copy()) {
                return self.turn(now, |queue, log| queue.follow(epoch, by, log)).1;
            }
            return Log::default();
        }
        let mut delivered = Log::default();
        if self.leads != Some(epoch) {
            self.step_down(now, asked);
            (self.leads, self.committed) = (Some(epoch), 0);
            delivered = self.turn(now, |queue, log| queue.lead(now, epoch, by, true, log)).1;
        }
        let placed = Placed {
            epoch,
            cfg_ver: placement.cfg_ver,
            replicas: all.to_vec(),
            isr: placement.isr.clone(),
            automatic: true,
            min_in_sync: 1,
        };
        self.leader.place(now, QUEUE, placed, asked);
        delivered
    }

    /// Another leader has this node's word: it leads no more.
    fn step_down(&mut self, now: u64, asked: &mut Vec<Asked>) {
        if self.leads.take().is_some() {
            self.leader.unplace(QUEUE, asked);
            self.waiting.clear();
            self.held.clear();
            let (_, log) = self.turn(now, |queue, log| queue.follow(0, 0, log));
            debug_assert!(log.delivered.is_empty());
            self.queue.remove_consumers();
        }
    }

    pub(super) fn committed(&mut self, position: u64) {
        self.committed = self.committed.max(position);
    }

    /// The disk takes what was written.
    pub(super) fn sync(&mut self) {
        self.wal.run_once();
    }

    pub(super) fn durable(&self) -> u64 {
        self.wal.durable_lsn()
    }

    /// Confirms that can be sent.
    pub(super) fn confirms(&mut self) -> Vec<u64> {
        let (durable, committed) = (self.durable(), self.committed);
        let mut confirmed = Vec::new();
        while let Some(waiting) = self.waiting.front() {
            if waiting.lsn > durable || waiting.position > committed {
                break;
            }
            confirmed.push(waiting.number);
            self.waiting.pop_front();
        }
        confirmed
    }

    /// As a follower: a frame of a leader's stream.
    pub(super) fn take(&mut self, now: u64, from: NodeId, frame: &[u8]) {
        self.with_copies(now, from, |follower, copies| follower.take(from, frame, copies));
    }

    /// As a follower: messages beside the stream.
    pub(super) fn take_fill(&mut self, now: u64, from: NodeId, fill: &[u8]) {
        let Ok(fill) = Fill::decode(fill) else { return };
        self.with_copies(now, from, |follower, copies| follower.take_fill(from, &fill, copies));
    }

    fn with_copies(
        &mut self,
        now: u64,
        from: NodeId,
        work: impl FnOnce(&mut FollowerCore<BROKEN>, &mut Copy<'_>),
    ) {
        let mut log = Log { floor: self.wal.last_lsn(), ..Log::default() };
        let by_position = self.slip == Some(Slip::PositionsOnly);
        // While it leads, only a newer epoch can make it listen.
        let mut copies = Copy { now, queue: &mut self.queue, log: &mut log, by_position, outranked: false };
        work(&mut self.follower, &mut copies);
        let outranked = copies.outranked;
        self.append(&log);
        if outranked {
            (self.leads, self.committed) = (None, 0);
            self.leader.unplace(QUEUE, &mut Vec::new());
            self.waiting.clear();
            self.held.clear();
            self.queue.remove_consumers();
        }
        self.follower.appended(from, self.wal.last_lsn());
    }

    /// What the leader answers to a question for what is missing: the messages that are still here.
    pub(super) fn read(&self, now: u64, wanted: &MidSet, frame: &mut Vec<u8>) {
        self.queue.read_missing(now, wanted, &mut Log::default(), |record| record.encode(frame));
    }

    /// Writes again what lies in old log files, and lets those go.
    pub(super) fn collect(&mut self, now: u64) {
        let floor = self.wal.last_lsn();
        while self.turn(now, |queue, log| queue.relocate(now, floor, log)).0 > 0 {}
        self.turn(now, Queue::log_open);
        self.turn(now, |queue, log| queue.log_strays(now, log));
        self.wal.release_before(floor + 1);
    }
}

struct Copy<'n> {
    now: u64,
    queue: &'n mut Queue<()>,
    log: &'n mut Log,
    by_position: bool,
    outranked: bool,
}

impl Copies for Copy<'_> {
    fn live(&mut self, _: QueueId) -> Option<MidSet> {
        let live = self.queue.live();
        if self.by_position {
            // As if positions were all there is to a message.
            let current = self.queue.fresh().epochs.of(u64::MAX);
            let epoch = |range: MidRange| MidRange { epoch: current, ..range };
            return Some(live.ranges().map(epoch).collect());
        }
        Some(live)
    }

    fn fence(&mut self, _: QueueId, epoch: u32, leader: NodeId) {
        self.outranked |= !self.queue.is_copy();
        self.queue.follow(epoch, leader.0, self.log);
    }

    fn reconcile(&mut self, _: QueueId, delete: &MidSet, fresh: &Fresh) {
        self.queue.reconcile(delete, fresh, self.log);
    }

    fn missing_from(&mut self, _: QueueId, position: Option<u64>) {
        self.queue.set_lowest_missing(position);
    }

    fn apply(&mut self, _: QueueId, record: &Record<'_>, _: &[u8]) {
        self.queue.apply(self.now, record, self.log);
    }

    fn fill(&mut self, _: QueueId, enq: &Enq<'_>, _: &[u8]) {
        self.queue.fill(self.now, enq, self.log);
    }
}
