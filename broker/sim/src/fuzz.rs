//! Bodies of the fuzz targets in `tests/fuzz` that open whole directories on the simulated disk, shared with the
//! ordinary test over the stored corpus.
//!
//! Whatever is on the disk: it opens, or an error names the file and nothing was changed. What opens takes more, and
//! opens again with what was found and what was added.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::ids::QueueId;
use broker_core::queue::dead_letter::DeadLetter;
use broker_core::queue::delayed::Due;
use broker_core::queue::paged::{PageOut, Window, WindowRead};
use broker_core::queue::{Crowd, Delivered, Delivery, Effects, Queue, QueueConfig};
use broker_core::record::{At, QseqRange, Record};
use broker_store::datadir::{DataDirError, Identity};
use broker_store::fuzz::{self, STORAGE_UUID};
use broker_store::journal::{Journal, JournalItem, JournalOptions};
use broker_store::raft_log::{LogEntry, LogId, Payload, RaftLog};
use broker_store::recovery::QueueImage;
use broker_store::segment::{Segment, SegmentMeta};
use broker_store::wal::{OpenError, Urgency, Wal, WalOptions, accept_loss};

use crate::disk::SimDisk;

const DIR: &str = "/data";
/// Small files keep a run short.
const FILE_BYTES: u64 = 16 << 10;

fn disk(files: &BTreeMap<String, Vec<u8>>) -> Arc<SimDisk> {
    let files = files.iter().map(|(name, bytes)| (Path::new(DIR).join(name), bytes.clone())).collect();
    Arc::new(SimDisk::from_files(files, BTreeSet::from([PathBuf::from(DIR)])))
}

/// An error that says where to look, on a disk that is as it was.
fn check_refused(error: &dyn std::error::Error, disk: &SimDisk, before: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(error.to_string().contains(DIR), "names no file: {error}");
    assert!(disk.files() == *before, "refused and changed: {error}");
}

/// Positions and what stands there.
type Records = Vec<(u64, Vec<u8>)>;

fn open_wal(disk: &Arc<SimDisk>) -> Result<(Wal, Records), OpenError> {
    let options = WalOptions {
        file_bytes: FILE_BYTES,
        expect_existing: true,
        background: false,
        ..WalOptions::new(STORAGE_UUID)
    };
    let mut records = Vec::new();
    let (wal, report) = Wal::open(Arc::clone(disk) as _, Path::new(DIR), options, |lsn, record| {
        let mut octets = Vec::new();
        record.encode(&mut octets);
        records.push((lsn, octets));
    })?;
    assert_eq!(report.records, records.len() as u64);
    assert_eq!(report.last_lsn + 1, report.first_lsn + report.records);
    assert!(records.iter().map(|(lsn, _)| *lsn).eq(report.first_lsn..=report.last_lsn));
    assert_eq!(wal.last_lsn(), report.last_lsn);
    Ok((wal, records))
}

/// The write-ahead log.
pub fn wal(octets: &[u8]) {
    let files = fuzz::wal_files(octets);
    let (disk, room) = (disk(&files), files.values().map(Vec::len).sum::<usize>() as u64 + 8 * FILE_BYTES);
    let before = disk.files();
    match open_wal(&disk) {
        Ok((wal, found)) => goes_on(&disk, wal, found),
        Err(error) => {
            check_refused(&error, &disk, &before);
            // Whatever an operator gives up: the log opens then, or it is refused for good.
            if accept_loss(&*disk, Path::new(DIR), STORAGE_UUID).is_ok() {
                let (wal, found) = open_wal(&disk).expect("what was given up is not in the way any more");
                goes_on(&disk, wal, found);
            }
        }
    }
    assert!(disk.used() <= 4 * room, "{} bytes of {room}", disk.used());
}

/// What opened takes a record, and has it when it is opened again.
fn goes_on(disk: &Arc<SimDisk>, wal: Wal, mut records: Records) {
    let mut octets = Vec::new();
    Record::QClose { at: At { queue_id: 77, epoch: 1, off: 1 } }.encode(&mut octets);
    let lsn = wal.append(&octets, 1, Urgency::Now);
    wal.run_once();
    assert_eq!((wal.durable_lsn(), wal.failed().is_none()), (lsn, true));
    records.push((lsn, octets));
    drop(wal);
    let (_, again) = open_wal(disk).expect("a log that was just written");
    assert_eq!(again, records);
}

/// A journal.
pub fn journal(octets: &[u8]) {
    let disk = disk(&fuzz::journal_files(octets));
    let before = disk.files();
    let open = |items: &mut Records| {
        let options = JournalOptions { expect_existing: true, ..JournalOptions::new(STORAGE_UUID) };
        let note = |item: JournalItem<'_>| match item {
            JournalItem::Snapshot { index, content } | JournalItem::Entry { index, content } => {
                items.push((index, content.to_vec()));
            }
        };
        Journal::open(Arc::clone(&disk) as _, Path::new(DIR), options, note)
    };
    let mut found = Vec::new();
    let (journal, report) = match open(&mut found) {
        Ok(opened) => opened,
        Err(error) => return check_refused(&error, &disk, &before),
    };
    assert_eq!(found.last().map_or(0, |(index, _)| *index), report.last_index);
    assert!(found.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1));
    let next = journal.last_index() + 1;
    journal.append(next, b"one more").expect("it is the next one");
    assert_eq!(journal.sync(), Ok(next));
    drop(journal);
    found.push((next, b"one more".to_vec()));
    let mut again = Vec::new();
    let (journal, _) = open(&mut again).expect("a journal that was just written");
    assert_eq!(again, found);
    journal.install_snapshot(next, b"all of it").expect("the disk works");
    drop(journal);
    again.clear();
    open(&mut again).expect("a journal that was just written");
    assert_eq!(again, [(next, b"all of it".to_vec())]);
}

/// The replicated log in a journal.
pub fn raft_log(octets: &[u8]) {
    let disk = disk(&fuzz::journal_files(octets));
    let open = |state: &mut Option<Vec<u8>>| {
        let options = JournalOptions { expect_existing: true, ..JournalOptions::new(STORAGE_UUID) };
        RaftLog::open(Arc::clone(&disk) as _, Path::new(DIR), options, |octets| {
            *state = Some(octets.to_vec());
        })
    };
    let mut state = None;
    let Ok((log, _)) = open(&mut state) else { return };
    let (vote, (purged, last)) = (log.vote(), log.ends());
    let index = last.map_or(0, |id| id.index + 1);
    let entries = log.entries(0, u64::MAX);
    assert!(entries.windows(2).all(|pair| pair[1].id.index == pair[0].id.index + 1));
    assert_eq!(entries.last().map(|entry| entry.id).or(purged), last);
    let entry = LogEntry { id: LogId { term: 9, node: 1, index }, payload: Payload::Blank };
    log.append(entry.clone()).expect("it is the next one");
    log.sync().expect("the disk works");
    drop(log);
    let mut again = None;
    let (log, _) = open(&mut again).expect("a log that was just written");
    assert_eq!((again, log.vote(), log.ends()), (state, vote, (purged, Some(entry.id))));
    assert_eq!(log.entries(0, u64::MAX), [entries, vec![entry]].concat());
}

/// A segment file.
pub fn segment(octets: &[u8]) {
    const QUEUE: u64 = 7;
    let raw = octets.to_vec();
    for bytes in [raw, fuzz::sound_segment(octets)] {
        let first =
            bytes.get(16..24).map_or(0, |first| u64::from_le_bytes(first.try_into().expect("eight octets")));
        let disk = disk(&BTreeMap::from([(format!("{first:016x}.dat"), bytes)]));
        let before = disk.files();
        let segment = match Segment::open(&*disk, Path::new(DIR), &STORAGE_UUID, QUEUE, first) {
            Ok(segment) => segment,
            Err(error) => {
                check_refused(&error, &disk, &before);
                continue;
            }
        };
        let meta = *segment.meta();
        let encoded = meta.encode();
        assert_eq!(SegmentMeta::decode(QUEUE, meta.first_qseq, meta.last_qseq, &encoded), Some(meta));
        let index = match segment.index() {
            Ok(index) => index,
            Err(error) => {
                check_refused(&error, &disk, &before);
                continue;
            }
        };
        let entries = index.entries();
        assert_eq!(entries.len(), meta.messages as usize);
        assert!(index.window(0, 1 << 20).end <= entries.len());
        for (slot, entry) in entries.iter().enumerate() {
            assert_eq!((index.slot(entry.qseq), index.slot_from(entry.qseq)), (Some(slot), slot));
        }
        let mut read = 0;
        let mut buffer = Vec::new();
        let outcome = segment.read(&index, 0..entries.len(), &mut buffer, |slot, enq| {
            assert_eq!((slot, enq.qseq), (read, entries[read].qseq));
            read += 1;
        });
        assert!(buffer.len() as u64 <= meta.bytes);
        match outcome {
            Ok(()) => assert_eq!(read, entries.len()),
            Err(error) => check_refused(&error, &disk, &before),
        }
    }
}

/// `node.toml`.
pub fn node_toml(octets: &[u8]) {
    fuzz::node_toml(octets);
    let disk = disk(&BTreeMap::from([("node.toml".to_owned(), octets.to_vec())]));
    let before = disk.files();
    let node = match Identity::load_or_create(&*disk, Path::new(DIR), "rabbit@here") {
        Ok(identity) => identity.node,
        Err(error) => {
            check_refused(&error, &disk, &before);
            let DataDirError::OtherNode { found, .. } = error else { return };
            found
        }
    };
    let identity = Identity::load_or_create(&*disk, Path::new(DIR), &node).expect("this is its name");
    assert_eq!(identity.node, node);
}

/// Records of the log as they come to a queue when the broker starts.
pub fn live_set(octets: &[u8]) {
    for image in fuzz::live_set(octets) {
        let mut queue =
            Queue::new(QueueId(image.queue_id), "/".into(), "q".into(), true, QueueConfig::default(), 0);
        let in_memory = image.messages.len() as u64;
        restore(&mut queue, image);
        let before = queue.ready_count();
        assert!(before >= in_memory);
        let mut fx = Nothing;
        queue.tick(1, &mut fx);
        while queue.get(1, false, &mut fx).is_some() {}
        queue.log_open(&mut fx);
        queue.relocate(1, u64::MAX, &mut fx);
        queue.purge(&mut fx);
        assert_eq!(queue.ready_count(), 0);
    }
}

fn restore(queue: &mut Queue<()>, image: QueueImage) {
    queue.restore_positions(image.epoch.max(1), image.next_off, image.next_qseq, image.hwm);
    queue.restore_epochs(image.epochs());
    for (first_qseq, note) in image.segments {
        let known = SegmentMeta::decode(image.queue_id, first_qseq, note.last_qseq, &note.meta);
        let Some(known) = known else { continue };
        let whole = QseqRange { first: first_qseq, last: known.last_qseq };
        let live = note.dropped.missing(whole).min(u64::from(known.messages));
        queue.restore_segment(note.restored(&known), live);
    }
    image.messages.values().for_each(|message| message.restore(queue));
}

/// Effects that nobody carries out; records are written and thrown away.
struct Nothing;

impl Effects for Nothing {
    type Handle = ();

    fn log(&mut self, record: &Record<'_>) {
        record.encode(&mut Vec::new());
    }

    fn deliver(&mut self, (): &(), _: &Delivery<'_>) -> Delivered {
        Delivered::Full
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

    fn log_floor(&self) -> u64 {
        0
    }
}
