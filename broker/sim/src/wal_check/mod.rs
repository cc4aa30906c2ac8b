//! Crash enumeration over the write-ahead log.
//!
//! The promises checked after every crash:
//! * the log opens: a torn tail is never taken for damage;
//! * it reaches at least as far as it was ever reported durable;
//! * every record is the one that was appended at that position, nothing is invented;
//! * it ends where an append ended: an append is there whole or not at all;
//! * folding it gives the queues that folding everything ever appended up to there gives, although
//!   old files were released: no live message and no counter is lost, nothing dropped comes back;
//! * every segment the log speaks of is there and whole, and its messages together with those in the
//!   log are exactly the live ones;
//! * the opened log can be written on, and all of this holds after another crash.

mod workload;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use broker_core::record::Record;
use broker_store::Lsn;
use broker_store::disk::Disk;
use broker_store::recovery::{LiveSet, QueueImage};
use broker_store::segment::{self, Segment, SegmentError};
use broker_store::wal::{Wal, WalOptions};

use crate::crash::{Crasher, Survivors};
use crate::disk::SimDisk;
use crate::enumeration::{Crash, every_crash};
use crate::mutant::{MutantDisk, Mutation};
use crate::random::Random;
pub use workload::{History, Workload};

/// Where the log lives on the simulated disk.
pub const DIR: &str = "/data/wal";
/// Where the segments live.
pub const SEGMENTS: &str = "/data/seg";
const UUID: [u8; 16] = *b"simulated store!";

/// What is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nothing.
    Nothing,
    /// The disk, as [`crate::mutant`] says.
    Disk(Mutation),
    /// A publish is confirmed when it was appended.
    ConfirmAtAppend,
    /// A torn tail is taken for damage.
    TornTailRefused,
    /// Files are released without writing their live messages again.
    ReleaseWithoutRelocation,
}

/// A run of the enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Chooses the workload and the surviving writes.
    pub seed: u64,
    /// How many steps the workload has.
    pub steps: u32,
    /// Random choices of surviving writes per crash point, besides none and all.
    pub choices: u64,
    /// What is broken.
    pub broken: Broken,
}

/// What an enumeration found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Places at which the power was cut.
    pub crash_points: u64,
    /// Disks recovered from.
    pub images: u64,
    /// How many of them had a torn tail.
    pub torn: u64,
    /// How many were written on and crashed again.
    pub second: u64,
    /// How many of them had segments.
    pub with_segments: u64,
    /// Broken promises; at most ten are kept.
    pub violations: Vec<String>,
}

impl Report {
    fn violation(&mut self, text: String) {
        if self.violations.len() < 10 {
            self.violations.push(text);
        }
    }
}

/// The log's options on the simulated disk: small files, no threads.
#[must_use]
pub fn options(expect_existing: bool) -> WalOptions {
    WalOptions { file_bytes: 12 << 10, background: false, expect_existing, ..WalOptions::new(UUID) }
}

/// Runs a workload and recovers from every crash.
#[must_use]
pub fn enumerate(setup: &Setup) -> Report {
    let mut report = Report::default();
    let sim = Arc::new(SimDisk::new());
    let run = Workload::run(&sim, setup, History::default(), setup.steps);
    let history = match run {
        Ok(history) => history,
        Err(error) => {
            report.violation(format!("the workload itself failed: {error}"));
            return report;
        }
    };
    let mut random = Random::new(setup.seed ^ 0xc4a5);
    let mut folds = Folds::default();
    report.crash_points = every_crash(&sim, setup.choices, &mut random, |crash, random| {
        recover(setup, crash, &history, &mut folds, random, &mut report);
        report.violations.is_empty()
    });
    report
}

/// Recovers from a crash and checks; sometimes goes on from there and crashes again.
fn recover(
    setup: &Setup,
    crash: Crash,
    history: &History,
    folds: &mut Folds,
    random: &mut Random,
    report: &mut Report,
) {
    let Crash { image, promised, at } = crash;
    let at = format!("seed {} {at}", setup.seed);
    report.images += 1;
    let again = random.one_in(8);
    let (before, dirs) = if again { (image.files(), image.dirs()) } else { Default::default() };
    let recovered = match Recovered::open(setup.broken, &image, promised > 0) {
        Ok(recovered) => recovered,
        Err(error) => return report.violation(format!("{at}: does not open: {error}")),
    };
    report.torn += u64::from(recovered.torn);
    report.with_segments += u64::from(recovered.queues.iter().any(|queue| !queue.segments.is_empty()));
    if let Err(error) = recovered.check(history, promised, folds) {
        return report.violation(format!("{at}: {error}"));
    }
    if !again {
        return;
    }
    report.second += 1;
    let seed = random.number();
    let shorter = history.up_to(recovered.last_lsn);
    drop(recovered);
    let second = Setup { seed, ..*setup };
    let continued = match Workload::run(&image, &second, shorter, 6) {
        Ok(continued) => continued,
        Err(error) => return report.violation(format!("{at}: cannot go on: {error}")),
    };
    let ops = image.ops();
    let mut crasher = Crasher::new(before, dirs, &ops);
    let stop = random.below(ops.len() as u64 + 1);
    for _ in 0..stop {
        crasher.step();
    }
    let promised = promised.max(crasher.promised());
    let image = Arc::new(crasher.image(Survivors::Some(random.number())));
    let at = format!("{at}, then operation {stop} of seed {seed}");
    let result = Recovered::open(setup.broken, &image, promised > 0)
        .and_then(|recovered| recovered.check(&continued, promised, &mut Folds::default()));
    if let Err(error) = result {
        report.violation(format!("{at}: {error}"));
    }
}

/// The disk the store gets to see.
fn store_disk(sim: &Arc<SimDisk>, broken: Broken) -> Arc<dyn Disk> {
    match broken {
        Broken::Disk(mutation) => Arc::new(MutantDisk::new(Arc::<SimDisk>::clone(sim), mutation)),
        _ => Arc::<SimDisk>::clone(sim),
    }
}

/// What a recovery handed out.
pub struct Recovered {
    /// The position of the first record.
    pub first_lsn: Lsn,
    /// The position of the last record.
    pub last_lsn: Lsn,
    /// Whether an unfinished write was cleared.
    pub torn: bool,
    records: Vec<Vec<u8>>,
    queues: Vec<QueueImage>,
    disk: Arc<dyn Disk>,
}

impl Recovered {
    /// Opens the log on this disk.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(broken: Broken, sim: &Arc<SimDisk>, expect_existing: bool) -> Result<Self, String> {
        let mut records = Vec::new();
        let mut live = LiveSet::new();
        let mut expected = None;
        let mut gap = None;
        let opened = Wal::open(
            store_disk(sim, broken),
            Path::new(DIR),
            options(expect_existing),
            |lsn, record: Record<'_>| {
                if expected.is_some_and(|expected| expected != lsn) {
                    gap.get_or_insert(lsn);
                }
                expected = Some(lsn + 1);
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                records.push(bytes);
                live.apply(lsn, record);
            },
        );
        let (_wal, report) = opened.map_err(|error| error.to_string())?;
        if let Some(lsn) = gap {
            return Err(format!("a gap in the positions before {lsn}"));
        }
        if broken == Broken::TornTailRefused && report.torn_bytes > 0 {
            return Err("damaged tail".to_owned());
        }
        Ok(Self {
            first_lsn: report.first_lsn,
            last_lsn: report.last_lsn,
            torn: report.torn_bytes > 0,
            records,
            queues: live.finish(),
            disk: store_disk(sim, broken),
        })
    }

    fn check(&self, history: &History, promised: Lsn, folds: &mut Folds) -> Result<(), String> {
        self.check_records(history, promised)?;
        let (queues, live) = folds.up_to(history, self.last_lsn);
        self.check_queues(queues)?;
        self.check_live(live)
    }

    fn check_records(&self, history: &History, promised: Lsn) -> Result<(), String> {
        let (first, last) = (self.first_lsn, self.last_lsn);
        if last < promised {
            return Err(format!("ends at {last} although {promised} was reported durable"));
        }
        if !history.is_boundary(last) {
            return Err(format!("ends at {last}, in the middle of an append"));
        }
        for (record, lsn) in self.records.iter().zip(first..) {
            if history.record(lsn) != Some(record) {
                return Err(format!("record {lsn} is not the one that was appended"));
            }
        }
        Ok(())
    }

    /// The messages in the log and in the segments are exactly these.
    fn check_live(&self, expected: &LiveMessages) -> Result<(), String> {
        for queue in &self.queues {
            let mut live: BTreeSet<u64> = queue.messages.keys().copied().collect();
            let dir = segment::queue_dir(Path::new(SEGMENTS), queue.queue_id);
            for (&first, note) in &queue.segments {
                let read = || -> Result<Vec<u64>, SegmentError> {
                    let segment = Segment::open(&*self.disk, &dir, &UUID, queue.queue_id, first)?;
                    let index = segment.index()?;
                    let mut qseqs = Vec::new();
                    let all = 0..index.entries().len();
                    segment.read(&index, all, &mut Vec::new(), |_, enq| qseqs.push(enq.qseq))?;
                    Ok(qseqs)
                };
                let qseqs = read().map_err(|error| error.to_string())?;
                live.extend(qseqs.into_iter().filter(|&qseq| !note.dropped.contains(qseq)));
            }
            let expected = expected.get(&queue.queue_id).cloned().unwrap_or_default();
            if live != expected {
                let id = queue.queue_id;
                return Err(format!("queue {id}: live {live:?}, expected {expected:?}"));
            }
        }
        Ok(())
    }

    fn check_queues(&self, expected: &[QueueImage]) -> Result<(), String> {
        if self.queues == expected {
            return Ok(());
        }
        let describe = |queues: &[QueueImage]| -> Vec<String> {
            queues
                .iter()
                .map(|queue| {
                    let live: Vec<(u64, Lsn)> =
                        queue.messages.iter().map(|(qseq, message)| (*qseq, message.lsn)).collect();
                    format!(
                        "queue {} epoch {} next {} {} hwm {} live {live:?}",
                        queue.queue_id, queue.epoch, queue.next_qseq, queue.next_off, queue.hwm
                    )
                })
                .collect()
        };
        Err(format!("queues differ: got {:#?}, expected {:#?}", describe(&self.queues), describe(expected)))
    }
}

type LiveMessages = BTreeMap<u64, BTreeSet<u64>>;

/// What the queues hold at each end of the log, worked out once.
#[derive(Default)]
struct Folds(HashMap<Lsn, (Vec<QueueImage>, LiveMessages)>);

impl Folds {
    fn up_to(&mut self, history: &History, lsn: Lsn) -> &(Vec<QueueImage>, LiveMessages) {
        self.0.entry(lsn).or_insert_with(|| (fold(history, lsn), naive_live(history, lsn)))
    }
}

/// The live messages of every queue, worked out in the simplest way: segments play no part in it.
fn naive_live(history: &History, last: Lsn) -> LiveMessages {
    let mut live = LiveMessages::new();
    let mut dropped = BTreeSet::new();
    for lsn in 1..=last {
        match history.record(lsn).and_then(|bytes| Record::decode(bytes).ok()) {
            Some((Record::Enq(enq), _)) => {
                live.entry(enq.queue_id).or_default().insert(enq.qseq);
            }
            Some((Record::EnqMulti { targets, .. }, _)) => {
                for target in &targets {
                    live.entry(target.queue_id).or_default().insert(target.qseq);
                }
            }
            Some((Record::Drop { at, ranges, .. }, _)) => {
                for range in &ranges {
                    dropped.extend((range.first..=range.last).map(|qseq| (at.queue_id, qseq)));
                }
            }
            _ => {}
        }
    }
    for (queue_id, live) in &mut live {
        live.retain(|&qseq| !dropped.contains(&(*queue_id, qseq)));
    }
    live
}

fn fold(history: &History, last: Lsn) -> Vec<QueueImage> {
    let mut live = LiveSet::new();
    for lsn in 1..=last {
        if let Some((record, _)) = history.record(lsn).and_then(|bytes| Record::decode(bytes).ok()) {
            live.apply(lsn, record);
        }
    }
    live.finish()
}

#[cfg(test)]
mod tests;
