//! A seeded workload on the log: publishes, transactions, fan-outs, drops, requeues, restarts, paging
//! out to segments, and releasing old files after writing their live messages again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use broker_core::record::{At, DropReason, Enq, Message, QseqRange, Record, Target};
use broker_store::Lsn;
use broker_store::recovery::QseqSet;
use broker_store::segment::{self, SegmentBuilder};
use broker_store::wal::{Urgency, Wal};

use super::{Broken, DIR, SEGMENTS, Setup, UUID, options, store_disk};
use crate::disk::SimDisk;
use crate::random::Random;

const QUEUES: u64 = 3;

/// Everything that was ever appended, and the queues' state that follows from it.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The encoded records; the first one has position 1.
    records: Vec<Vec<u8>>,
    /// Last positions of appends.
    ends: BTreeSet<Lsn>,
}

impl History {
    /// The record at a position.
    #[must_use]
    pub fn record(&self, lsn: Lsn) -> Option<&Vec<u8>> {
        self.records.get(usize::try_from(lsn).ok()?.checked_sub(1)?)
    }

    /// Whether an append ended here, or nothing was appended.
    #[must_use]
    pub fn is_boundary(&self, lsn: Lsn) -> bool {
        lsn == 0 || self.ends.contains(&lsn)
    }

    /// The last position.
    #[must_use]
    pub fn last(&self) -> Lsn {
        self.records.len() as Lsn
    }

    /// The beginning, up to this position.
    #[must_use]
    pub fn up_to(&self, lsn: Lsn) -> Self {
        Self {
            records: self.records[..lsn as usize].to_vec(),
            ends: self.ends.range(..=lsn).copied().collect(),
        }
    }

    fn push(&mut self, records: &[Vec<u8>]) -> Lsn {
        self.records.extend_from_slice(records);
        self.ends.insert(self.last());
        self.last()
    }
}

/// A running workload.
pub struct Workload<'a> {
    sim: &'a Arc<SimDisk>,
    wal: Wal,
    broken: Broken,
    history: History,
    queues: BTreeMap<u64, Queue>,
    random: Random,
}

#[derive(Default)]
struct Queue {
    next_qseq: u64,
    next_off: u64,
    hwm: u64,
    live: BTreeMap<u64, Live>,
    /// Live messages in segments, and the last message of each segment.
    paged: BTreeSet<u64>,
    segments: BTreeMap<u64, u64>,
}

#[derive(Clone)]
struct Live {
    /// Where the append with its newest copy starts; the whole append is in one file.
    lsn: Lsn,
    off: u64,
    count: u32,
    exchange: Arc<str>,
    body: Arc<[u8]>,
}

impl<'a> Workload<'a> {
    /// Opens the log, which holds what `history` says, and works on it for some steps. Every position
    /// reported durable is noted on the disk.
    ///
    /// # Errors
    /// When the log does not open or fails.
    pub fn run(
        sim: &'a Arc<SimDisk>,
        setup: &Setup,
        history: History,
        steps: u32,
    ) -> Result<History, String> {
        let mut workload = Self::open(sim, setup, history)?;
        for _ in 0..steps {
            workload.step()?;
        }
        workload.wal.run_once();
        match workload.wal.failed() {
            Some(failure) => Err(failure.to_string()),
            None => Ok(workload.history),
        }
    }

    /// Opens the log for working on it step by step.
    ///
    /// # Errors
    /// When the log does not open.
    pub fn open(sim: &'a Arc<SimDisk>, setup: &Setup, history: History) -> Result<Self, String> {
        let queues = queues_of(&history);
        let wal = open(sim, setup.broken, history.last() > 0)?;
        Ok(Self { sim, wal, broken: setup.broken, history, queues, random: Random::new(setup.seed) })
    }

    /// The log.
    #[must_use]
    pub fn wal(&self) -> &Wal {
        &self.wal
    }

    /// Everything appended so far.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Does one thing, chosen at random.
    ///
    /// # Errors
    /// When the log does not open again after a restart.
    pub fn step(&mut self) -> Result<(), String> {
        match self.random.below(100) {
            0..45 => self.publish(),
            45..60 => self.drop_some(),
            60..64 => self.reserve(),
            64..68 => self.transaction(),
            68..71 => self.fan_out(),
            71..73 => self.requeue(),
            73 => self.publish_large(),
            74..92 => self.wal.run_once(),
            92..95 => self.page_out()?,
            95..98 => self.release_oldest(),
            _ => self.restart()?,
        }
        Ok(())
    }

    /// Publishes a few messages in one append.
    pub fn publish(&mut self) {
        let count = 1 + self.random.below(3);
        // Equal sizes now and then: what a torn write left then fits exactly behind the next one.
        let size = if self.random.one_in(2) { 300 } else { self.random.below(700) as usize };
        let records: Vec<Vec<u8>> = (0..count).map(|_| self.enqueue(size)).collect();
        self.append(&records, Urgency::Now);
    }

    fn publish_large(&mut self) {
        let record = self.enqueue(14_000);
        self.append(&[record], Urgency::Now);
    }

    /// A transaction: several queues and an acknowledgement, whole or not at all.
    fn transaction(&mut self) {
        let mut records: Vec<Vec<u8>> = (0..3).map(|_| self.enqueue(100)).collect();
        records.extend(self.drop_record());
        self.append(&records, Urgency::Now);
    }

    fn fan_out(&mut self) {
        let lsn = self.history.last() + 1;
        let body: Arc<[u8]> = body(lsn, 64).into();
        let targets: Vec<Target> = (1..=QUEUES)
            .map(|queue_id| {
                let queue = self.queues.entry(queue_id).or_default();
                let (qseq, live) = queue.enqueue(lsn, "fan", &body);
                Target { queue_id, epoch: 1, off: live.off, qseq }
            })
            .collect();
        let message = Message { exchange: "fan", routing_key: "k", body: &body, ..Message::default() };
        let record = encode(&Record::EnqMulti { targets: targets.as_slice().into(), message });
        self.append(&[record], Urgency::Now);
    }

    fn drop_some(&mut self) {
        if let Some(record) = self.drop_record() {
            self.append(&[record], Urgency::Lazy);
        }
    }

    fn requeue(&mut self) {
        let (queue_id, queue) = self.some_queue();
        let Some((&qseq, live)) = queue.live.iter_mut().next() else { return };
        live.count += 1;
        let at = queue.stamp(queue_id);
        let ranges = QseqRange::one(qseq).into();
        let record = encode(&Record::Requeue { at, delivery_count_delta: 1, ranges });
        self.append(&[record], Urgency::Lazy);
    }

    fn reserve(&mut self) {
        let (queue_id, queue) = self.some_queue();
        queue.hwm = queue.next_qseq + 2;
        let hwm = queue.hwm;
        let record = encode(&Record::Hwm { hwm, at: queue.stamp(queue_id) });
        self.append(&[record], Urgency::Lazy);
    }

    /// Writes the first messages of a queue into a segment; or removes one that has only dead ones.
    fn page_out(&mut self) -> Result<(), String> {
        let disk = store_disk(self.sim, self.broken);
        let lsn = self.history.last() + 1;
        let (queue_id, queue) = self.some_queue();
        let dead = queue
            .segments
            .iter()
            .find(|&(&first, &last)| queue.paged.range(first..=last).next().is_none())
            .map(|(&first, _)| first);
        let dir = segment::create_queue_dir(&*disk, Path::new(SEGMENTS), queue_id)
            .map_err(|error| error.to_string())?;
        if let Some(first_qseq) = dead {
            queue.segments.remove(&first_qseq);
            let at = queue.stamp(queue_id);
            self.append(&[encode(&Record::SegDel { at, first_qseq })], Urgency::Now);
            self.wal.run_once();
            if self.wal.durable_lsn() >= lsn {
                segment::remove(&*disk, &dir, first_qseq).map_err(|error| error.to_string())?;
            }
            return Ok(());
        }
        let mut builder = SegmentBuilder::new(queue_id, UUID);
        for (&qseq, live) in queue.live.iter().take(5) {
            builder.push(&live.enq(queue_id, qseq));
        }
        let Some(meta) = builder.write(&*disk, &dir).map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let (first_qseq, last_qseq) = (meta.first_qseq, meta.last_qseq);
        let resident = queue.live.split_off(&(last_qseq + 1));
        queue.paged.extend(std::mem::replace(&mut queue.live, resident).into_keys());
        queue.segments.insert(first_qseq, last_qseq);
        let at = queue.stamp(queue_id);
        let meta = meta.encode();
        let record = encode(&Record::SegAdd { at, first_qseq, last_qseq, meta: &meta });
        self.append(&[record], Urgency::Now);
        Ok(())
    }

    /// Writes the live messages of the oldest complete file again, and every queue's counters and
    /// segments, then releases the file.
    pub fn release_oldest(&mut self) {
        let Some(oldest) = self.wal.closed_files().first().copied() else { return };
        let mut records = Vec::new();
        for (&queue_id, queue) in &mut self.queues {
            if self.broken == Broken::ReleaseWithoutRelocation {
                break;
            }
            let lsn = self.history.last() + 1;
            for (&qseq, live) in queue.live.iter_mut().filter(|(_, live)| live.lsn <= oldest.last_lsn) {
                live.lsn = lsn;
                records.push(enq(queue_id, qseq, live));
            }
            let at = At { queue_id, epoch: 1, off: queue.next_off };
            let (next_qseq, hwm) = (queue.next_qseq, queue.hwm);
            records.push(encode(&Record::QOpen { at, next_qseq, hwm }));
        }
        if self.broken != Broken::ReleaseWithoutRelocation {
            for image in super::fold(&self.history, self.history.last()) {
                image.segment_records(|record| records.push(encode(&record)));
            }
        }
        if !records.is_empty() {
            self.append(&records, Urgency::Now);
        }
        self.wal.release_before(oldest.last_lsn + 1);
    }

    fn restart(&mut self) -> Result<(), String> {
        self.wal.stop().map_err(|error| error.to_string())?;
        self.wal = open(self.sim, self.broken, true)?;
        Ok(())
    }

    fn append(&mut self, records: &[Vec<u8>], urgency: Urgency) {
        let last = self.wal.append(&records.concat(), records.len() as u32, urgency);
        let expected = self.history.push(records);
        assert_eq!(last, expected, "the log numbers records as they come");
        if self.broken == Broken::ConfirmAtAppend && urgency == Urgency::Now {
            self.sim.note(last);
        }
    }

    fn some_queue(&mut self) -> (u64, &mut Queue) {
        let queue_id = 1 + self.random.below(QUEUES);
        (queue_id, self.queues.entry(queue_id).or_default())
    }

    /// The record of a message for some queue; appended next.
    fn enqueue(&mut self, size: usize) -> Vec<u8> {
        let lsn = self.history.last() + 1;
        let number = self.random.number();
        let (queue_id, queue) = self.some_queue();
        let (qseq, live) = queue.enqueue(lsn, "e", &body(number, size).into());
        enq(queue_id, qseq, live)
    }

    fn drop_record(&mut self) -> Option<Vec<u8>> {
        let count = 1 + self.random.below(6);
        let (queue_id, queue) = self.some_queue();
        let mut all: Vec<u64> = queue.paged.iter().chain(queue.live.keys()).copied().collect();
        all.sort_unstable();
        all.truncate(count as usize);
        let (first, last) = (*all.first()?, *all.last()?);
        queue.live.retain(|&qseq, _| qseq > last);
        queue.paged.retain(|&qseq| qseq > last);
        let at = queue.stamp(queue_id);
        let ranges = QseqRange { first, last }.into();
        Some(encode(&Record::Drop { at, reason: DropReason::Ack, ranges }))
    }
}

impl Queue {
    fn enqueue(&mut self, lsn: Lsn, exchange: &str, body: &Arc<[u8]>) -> (u64, &Live) {
        let qseq = self.next_qseq;
        self.next_qseq += 1;
        let off = self.stamp(0).off;
        let live = Live { lsn, off, count: 0, exchange: exchange.into(), body: Arc::clone(body) };
        (qseq, self.live.entry(qseq).or_insert(live))
    }

    /// The place of the next record in the queue's stream.
    fn stamp(&mut self, queue_id: u64) -> At {
        let off = self.next_off;
        self.next_off += 1;
        At { queue_id, epoch: 1, off }
    }
}

/// The queues after these records.
fn queues_of(history: &History) -> BTreeMap<u64, Queue> {
    super::fold(history, history.last())
        .into_iter()
        .map(|image| {
            let live = image.messages.into_values().map(|message| {
                let live = Live {
                    lsn: message.lsn,
                    off: message.off,
                    count: message.delivery_count,
                    exchange: message.exchange,
                    body: message.body.to_vec().into(),
                };
                (message.qseq, live)
            });
            let naive =
                super::naive_live(history, history.last()).remove(&image.queue_id).unwrap_or_default();
            let segments: BTreeMap<u64, u64> =
                image.segments.iter().map(|(&first, note)| (first, note.last_qseq)).collect();
            let mut in_segments = QseqSet::default();
            for (&first, &last) in &segments {
                in_segments.insert(QseqRange { first, last });
            }
            let queue = Queue {
                paged: naive.into_iter().filter(|&qseq| in_segments.contains(qseq)).collect(),
                segments,
                next_qseq: image.next_qseq,
                next_off: image.next_off,
                hwm: image.hwm,
                live: live.collect(),
            };
            (image.queue_id, queue)
        })
        .collect()
}

fn open(sim: &Arc<SimDisk>, broken: Broken, expect_existing: bool) -> Result<Wal, String> {
    let (wal, _) = Wal::open(store_disk(sim, broken), Path::new(DIR), options(expect_existing), |_, _| {})
        .map_err(|error| error.to_string())?;
    sim.note(wal.durable_lsn());
    let disk = Arc::clone(sim);
    wal.on_durable(Box::new(move |lsn| disk.note(lsn)));
    Ok(wal)
}

impl Live {
    fn enq(&self, queue_id: u64, qseq: u64) -> Enq<'_> {
        let message = Message {
            exchange: &self.exchange,
            routing_key: "k",
            body: &self.body,
            delivery_count: self.count,
            ..Message::default()
        };
        Enq { queue_id, epoch: 1, off: self.off, qseq, message }
    }
}

fn enq(queue_id: u64, qseq: u64, live: &Live) -> Vec<u8> {
    encode(&Record::Enq(live.enq(queue_id, qseq)))
}

fn body(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..size).map(|_| random.number() as u8).collect()
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(&mut bytes);
    bytes
}
