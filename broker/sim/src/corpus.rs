//! Every decoder of what is on the disk, over the stored fuzz corpus (`tests/fuzz/corpus`) and mutations of it.
//!
//! The seeds below are written by the store itself, on the simulated disk:
//! `UPDATE_FUZZ_CORPUS=1 cargo test -p broker-sim seeds` puts them into the corpus.

#[path = "../../../tests/fuzz/mutants.rs"]
mod mutants;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker_core::record::{At, DropReason, Enq, Message, PubRef, QseqRange, Record, Target};
use broker_store::datadir::Identity;
use broker_store::fuzz::{STORAGE_UUID, journal_octets, wal_octets};
use broker_store::journal::{Journal, JournalItem, JournalOptions};
use broker_store::raft_log::{LogEntry, LogId, Payload, RaftLog, SnapshotHead, Vote};
use broker_store::segment::SegmentBuilder;
use broker_store::wal::{Urgency, Wal, WalOptions};
use mutants::Seed;

use crate::disk::SimDisk;
use crate::fuzz;

const DIR: &str = "/data";
/// Octets that mean something: small numbers, the largest ones, flags.
const TELLING: &[u8] = b"\0\0\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x28\x7f\x80\x80\xff\xff\xff";

fn named<const N: usize>(seeds: [(&str, Vec<u8>); N]) -> Vec<Seed> {
    seeds.map(|(name, octets)| (name.to_owned(), octets)).into()
}

fn files(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    disk.files().into_iter().map(|(path, bytes)| (name(&path), bytes)).collect()
}

fn message() -> Message<'static> {
    Message {
        enq_ms: 1_764_000_000_123,
        expiry_ms: Some(1_764_000_060_123),
        priority: Some(9),
        pub_ref: Some(PubRef { origin: 77, seq: 3 }),
        delivery_count: 3,
        exchange: "orders",
        routing_key: "eu.new",
        properties: &[0x10, 0x00, 0x02],
        body: b"hello",
    }
}

fn enq(qseq: u64, message: Message<'static>) -> Record<'static> {
    Record::Enq(Enq { queue_id: 7, epoch: 1, off: qseq, qseq, message })
}

/// One record of each kind, as a queue's life has them.
fn life() -> Vec<Record<'static>> {
    const TARGETS: &[Target] = &[
        Target { queue_id: 7, epoch: 1, off: 4, qseq: 4 },
        Target { queue_id: 8, epoch: 1, off: 1, qseq: 1 },
    ];
    const RANGES: &[QseqRange] = &[QseqRange { first: 1, last: 1 }, QseqRange { first: 3, last: 4 }];
    // Of node 1, in its first life: forgotten up to 0, taken 1 to 3.
    const TAKEN: [u8; 13] = [1, 1, 129, 128, 128, 128, 128, 128, 64, 0, 1, 1, 3];
    const META: [u8; 28] =
        [2, 0, 0, 0, 90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
    let at = |off| At { queue_id: 7, epoch: 1, off };
    let plain = Message { body: b"x", ..Message::default() };
    vec![
        Record::QOpen { at: at(1), next_qseq: 1, hwm: 0 },
        Record::Epoch { at: at(1), leader: 1 },
        enq(1, message()),
        enq(2, plain),
        enq(3, plain),
        Record::EnqMulti { targets: TARGETS.into(), message: message() },
        Record::Hwm { at: at(5), hwm: 3 },
        Record::SegAdd { at: at(6), first_qseq: 1, last_qseq: 2, meta: &META },
        Record::Requeue { at: at(7), delivery_count_delta: 1, ranges: QseqRange::one(2).into() },
        Record::Drop { at: at(8), reason: DropReason::Ack, ranges: RANGES.into() },
        Record::SegDel { at: at(9), first_qseq: 1 },
        Record::Taken { at: at(10), origins: &TAKEN },
        Record::Ckpt { lsn: 3 },
        Record::QClose { at: At { queue_id: 8, epoch: 1, off: 2 } },
    ]
}

fn encoded(records: &[Record<'_>]) -> Vec<u8> {
    let mut octets = Vec::new();
    records.iter().for_each(|record| record.encode(&mut octets));
    octets
}

fn live_set_seeds() -> Vec<Seed> {
    let life = life();
    named([("life", encoded(&life)), ("paged", encoded(&life[..8])), ("closed", encoded(&life[13..]))])
}

/// The files of a log with one frame per record; `more` of them after it was opened again. When they were made is
/// left out: the clock tells it, and seeds stay the same.
fn wal_dir(records: &[Record<'_>], more: usize) -> BTreeMap<String, Vec<u8>> {
    let disk = Arc::new(SimDisk::new());
    let options = WalOptions { file_bytes: 4096 + 640, background: false, ..WalOptions::new(STORAGE_UUID) };
    let open = || Wal::open(Arc::clone(&disk) as _, Path::new(DIR), options.clone(), |_, _| {}).unwrap().0;
    let (first, later) = records.split_at(records.len() - more);
    for records in [first, later] {
        let wal = open();
        for record in records {
            wal.append(&encoded(&[*record]), 1, Urgency::Now);
            wal.run_once();
        }
    }
    let mut files = files(&disk);
    for file in files.iter_mut().filter(|(name, _)| name.ends_with(".log")) {
        file.1[32..44].fill(0);
    }
    files
}

fn wal_seeds() -> Vec<Seed> {
    let whole = wal_octets(&wal_dir(&life(), 3));
    let last = whole.len() - 40;
    let mut damaged = whole.clone();
    damaged[200] ^= 1;
    // As they are: with the wrong bit, and no checksum made right.
    damaged[0] = 0;
    named([
        ("life", whole.clone()),
        ("new", wal_octets(&wal_dir(&[], 0))),
        ("torn", whole[..last].to_vec()),
        ("damaged", damaged),
    ])
}

fn frame_seeds() -> Vec<Seed> {
    let dir = wal_dir(&life(), 0);
    let frames = &dir["wal-0000000000000001.log"][4096..];
    named([("one", frames[..80].to_vec()), ("many", frames.to_vec()), ("zeros", vec![0; 48])])
}

fn header_seeds() -> Vec<Seed> {
    let dir = wal_dir(&[], 0);
    let header = dir["wal-0000000000000001.log"][..44].to_vec();
    let mut newer = header.clone();
    newer[4] = 2;
    named([("header", header.clone()), ("newer", newer), ("cut", header[..20].to_vec())])
}

fn control_seeds() -> Vec<Seed> {
    let dir = wal_dir(&life(), 3);
    let slots = &dir["control"];
    let large = [&slots[..32], &[0xff; 24]].concat();
    named([("first", slots[..56].to_vec()), ("second", slots[4096..4152].to_vec()), ("large", large)])
}

fn journal_dir(entries: usize, snapshot: bool) -> BTreeMap<String, Vec<u8>> {
    let disk = Arc::new(SimDisk::new());
    let options = JournalOptions::new(STORAGE_UUID);
    let journal = Journal::open(Arc::clone(&disk) as _, Path::new(DIR), options, |_| {}).unwrap().0;
    for index in 1..=entries as u64 {
        journal.append(index, format!("entry {index}").as_bytes()).unwrap();
        journal.sync().unwrap();
    }
    if snapshot {
        journal.install_snapshot(entries as u64 - 1, b"what there was").unwrap();
    }
    journal.close().unwrap();
    files(&disk)
}

fn journal_seeds() -> Vec<Seed> {
    let whole = journal_octets(&journal_dir(4, false));
    let mut damaged = whole.clone();
    damaged[0] = 0;
    damaged[90] ^= 1;
    named([
        ("new", journal_octets(&journal_dir(0, false))),
        ("entries", whole),
        ("snapshot", journal_octets(&journal_dir(4, true))),
        ("damaged", damaged),
    ])
}

fn journal_frame_seeds() -> Vec<Seed> {
    let dir = journal_dir(2, false);
    let file = &dir["journal-0000000000000001.log"];
    let frames = &file[4096..];
    named([
        ("header", file[..44].to_vec()),
        ("frame", frames[..48].to_vec()),
        ("many", frames[..300].to_vec()),
    ])
}

fn journal_snapshot_seeds() -> Vec<Seed> {
    let dir = journal_dir(4, true);
    let snapshot = dir.iter().find(|(name, _)| name.starts_with("snapshot-")).unwrap().1;
    named([("whole", snapshot.clone()), ("head", snapshot[..44].to_vec()), ("cut", snapshot[..50].to_vec())])
}

fn raft_dir(snapshot: bool) -> BTreeMap<String, Vec<u8>> {
    let disk = Arc::new(SimDisk::new());
    let options = JournalOptions::new(STORAGE_UUID);
    let log = RaftLog::open(Arc::clone(&disk) as _, Path::new(DIR), options, |_| {}).unwrap().0;
    let id = |term, index| LogId { term, node: 1, index };
    let entry = |term, index, payload| LogEntry { id: id(term, index), payload };
    log.save_vote(Vote { term: 2, node: 1, won: true }).unwrap();
    log.append(entry(0, 0, Payload::Members("one".into()))).unwrap();
    log.append(entry(1, 1, Payload::Command("put".into()))).unwrap();
    log.append(entry(1, 2, Payload::Blank)).unwrap();
    log.truncate_after(Some(id(1, 1))).unwrap();
    log.append(entry(2, 2, Payload::Command("other".into()))).unwrap();
    log.sync().unwrap();
    if snapshot {
        let head = SnapshotHead { last: Some(id(1, 1)), members: "one".into() };
        log.install_snapshot(&head, b"the state").unwrap();
        log.purge(id(1, 1));
        log.truncate_after(None).unwrap();
    }
    log.close().unwrap();
    files(&disk)
}

/// The items, or the snapshot first.
fn raft_items(snapshot: bool) -> Vec<Vec<u8>> {
    let dir = raft_dir(snapshot);
    let place = |(name, bytes): (String, Vec<u8>)| (Path::new(DIR).join(name), bytes);
    let disk = SimDisk::from_files(dir.into_iter().map(place).collect(), [DIR.into()].into());
    let mut items = Vec::new();
    let note = |item: JournalItem<'_>| match item {
        JournalItem::Snapshot { content, .. } | JournalItem::Entry { content, .. } => {
            items.push(content.to_vec());
        }
    };
    Journal::open(Arc::new(disk), Path::new(DIR), JournalOptions::new(STORAGE_UUID), note).unwrap();
    items
}

fn raft_log_seeds() -> Vec<Seed> {
    let [items, snapshot] = [false, true].map(|snapshot| journal_octets(&raft_dir(snapshot)));
    named([("items", items.clone()), ("snapshot", snapshot), ("torn", items[..items.len() - 50].to_vec())])
}

fn raft_item_seeds() -> Vec<Seed> {
    let items = raft_items(false).into_iter().enumerate();
    items.map(|(at, octets)| (format!("item-{at}"), octets)).collect()
}

fn raft_snapshot_seeds() -> Vec<Seed> {
    let snapshot = raft_items(true).remove(0);
    named([
        ("whole", snapshot.clone()),
        ("head", snapshot[..60].to_vec()),
        ("empty", vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ])
}

/// A segment with these positions.
fn segment_file(positions: &[u64]) -> Vec<u8> {
    let disk = SimDisk::new();
    let mut builder = SegmentBuilder::new(7, STORAGE_UUID);
    for &qseq in positions {
        let expiry_ms = (qseq % 2 == 0).then_some(1_764_000_000_000 + qseq * 40_000);
        let message = Message { expiry_ms, priority: None, ..message() };
        assert!(builder.push(&Enq { queue_id: 7, epoch: 1, off: 0, qseq, message }));
    }
    builder.write(&disk, Path::new(DIR)).unwrap();
    files(&disk).into_values().next().unwrap()
}

fn segment_seeds() -> Vec<Seed> {
    named([
        ("one", segment_file(&[1])),
        ("gaps", segment_file(&[1, 2, 5, 9])),
        ("cut", segment_file(&[3])[..140].to_vec()),
    ])
}

fn segment_meta_seeds() -> Vec<Seed> {
    let mut one = [0; 28];
    (one[0], one[4], one[20]) = (2, 90, 10);
    let mut expires = one;
    expires[12] = 9;
    named([("one", one.to_vec()), ("expires", expires.to_vec()), ("large", vec![0xff; 28])])
}

fn node_seeds() -> Vec<Seed> {
    let disk = SimDisk::new();
    Identity::load_or_create(&disk, Path::new(DIR), "rabbit@here").unwrap();
    let written = files(&disk).remove("node.toml").unwrap();
    let text = String::from_utf8(written).unwrap();
    // The storage id is drawn, the seed is not.
    let lines = text.lines().map(|line| match line.split_once("uuid = ") {
        Some((before, _)) => format!("{before}uuid = \"91628dddccd0c311c0ed4bc73ab53b42\"\n"),
        None => format!("{line}\n"),
    });
    let node: String = lines.collect();
    named([
        ("whole", node.clone().into_bytes()),
        ("in-use", node.replace("false", "true").into_bytes()),
        ("newer", node.replace("format_version = ", "format_version = 9").into_bytes()),
        ("unknown-key", format!("{node}color = \"red\"\n").into_bytes()),
    ])
}

#[test]
fn the_stored_corpus_has_all_seeds() {
    for (target, seeds) in [
        ("store_wal_frame", frame_seeds()),
        ("store_wal_header", header_seeds()),
        ("store_wal_control", control_seeds()),
        ("store_wal", wal_seeds()),
        ("store_journal_frame", journal_frame_seeds()),
        ("store_journal_snapshot", journal_snapshot_seeds()),
        ("store_journal", journal_seeds()),
        ("store_raft_item", raft_item_seeds()),
        ("store_raft_snapshot", raft_snapshot_seeds()),
        ("store_raft_log", raft_log_seeds()),
        ("store_segment", segment_seeds()),
        ("store_segment_meta", segment_meta_seeds()),
        ("store_live_set", live_set_seeds()),
        ("store_node_toml", node_seeds()),
    ] {
        mutants::check_seeds(target, &seeds);
    }
}

#[test]
fn log_frames_survive_the_corpus_and_its_mutations() {
    mutants::run("store_wal_frame", 4000, TELLING, broker_store::fuzz::wal_frame);
}

#[test]
fn log_file_headers_survive_the_corpus_and_its_mutations() {
    mutants::run("store_wal_header", 1000, TELLING, broker_store::fuzz::wal_header);
}

#[test]
fn control_files_survive_the_corpus_and_its_mutations() {
    mutants::run("store_wal_control", 4000, TELLING, broker_store::fuzz::wal_control);
}

#[test]
fn logs_survive_the_corpus_and_its_mutations() {
    mutants::run("store_wal", 200, TELLING, fuzz::wal);
}

#[test]
fn journal_frames_survive_the_corpus_and_its_mutations() {
    mutants::run("store_journal_frame", 1000, TELLING, broker_store::fuzz::journal_frame);
}

#[test]
fn journal_snapshots_survive_the_corpus_and_its_mutations() {
    mutants::run("store_journal_snapshot", 4000, TELLING, broker_store::fuzz::journal_snapshot);
}

#[test]
fn journals_survive_the_corpus_and_its_mutations() {
    mutants::run("store_journal", 1500, TELLING, fuzz::journal);
}

#[test]
fn items_of_the_replicated_log_survive_the_corpus_and_its_mutations() {
    mutants::run("store_raft_item", 10000, TELLING, broker_store::fuzz::raft_item);
}

#[test]
fn snapshots_of_the_replicated_log_survive_the_corpus_and_its_mutations() {
    mutants::run("store_raft_snapshot", 10000, TELLING, broker_store::fuzz::raft_snapshot);
}

#[test]
fn replicated_logs_survive_the_corpus_and_its_mutations() {
    mutants::run("store_raft_log", 1500, TELLING, fuzz::raft_log);
}

#[test]
fn segments_survive_the_corpus_and_its_mutations() {
    mutants::run("store_segment", 4000, TELLING, fuzz::segment);
}

#[test]
fn descriptions_of_segments_survive_the_corpus_and_its_mutations() {
    mutants::run("store_segment_meta", 4000, TELLING, broker_store::fuzz::segment_meta);
}

#[test]
fn folded_records_survive_the_corpus_and_its_mutations() {
    mutants::run("store_live_set", 4000, TELLING, fuzz::live_set);
}

#[test]
fn identities_survive_the_corpus_and_its_mutations() {
    mutants::run("store_node_toml", 4000, TELLING, fuzz::node_toml);
}
