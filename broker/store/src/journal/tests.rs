//! The journal on a real file system. Crashes are enumerated in `broker-sim`.

use std::path::Path;

use super::*;
use crate::disk::RealDisk;

const OPTIONS: JournalOptions = JournalOptions { storage_uuid: *b"0123456789abcdef", expect_existing: false };

type Seen = Vec<(&'static str, u64, Vec<u8>)>;

fn open(dir: &Path) -> (Journal, Seen, JournalReport) {
    let mut seen = Vec::new();
    let (journal, report) = Journal::open(Arc::new(RealDisk), dir, OPTIONS, |item| {
        seen.push(match item {
            JournalItem::Snapshot { index, content } => ("snapshot", index, content.to_vec()),
            JournalItem::Entry { index, content } => ("entry", index, content.to_vec()),
        });
    })
    .unwrap();
    (journal, seen, report)
}

fn append(journal: &Journal, from: u64, to: u64) {
    for index in from..=to {
        journal.append(index, format!("entry {index}").as_bytes()).unwrap();
    }
    assert_eq!(journal.sync().unwrap(), to);
}

fn indexes(seen: &Seen) -> Vec<(&'static str, u64)> {
    seen.iter().map(|(kind, index, _)| (*kind, *index)).collect()
}

#[test]
fn entries_come_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(dir.path());
    append(&journal, 1, 3);
    let gap = journal.append(5, b"x");
    assert_eq!(gap, Err(JournalError::OutOfOrder { expected: 4, got: 5 }));
    drop(journal);
    let (journal, seen, report) = open(dir.path());
    assert_eq!(indexes(&seen), [("entry", 1), ("entry", 2), ("entry", 3)]);
    assert_eq!(seen[2].2, b"entry 3");
    assert_eq!(report, JournalReport { snapshot_index: 0, last_index: 3, torn_bytes: 0 });
    append(&journal, 4, 4);
}

#[test]
fn a_snapshot_replaces_the_entries_it_contains_and_keeps_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(dir.path());
    append(&journal, 1, 5);
    journal.install_snapshot(3, b"state at 3").unwrap();
    append(&journal, 6, 6);
    drop(journal);
    let (journal, seen, _) = open(dir.path());
    assert_eq!(indexes(&seen), [("snapshot", 3), ("entry", 4), ("entry", 5), ("entry", 6)]);
    assert_eq!(seen[0].2, b"state at 3");
    journal.install_snapshot(20, b"from elsewhere").unwrap();
    assert_eq!(journal.last_index(), 20);
    append(&journal, 21, 21);
    journal.close().unwrap();
    let (journal, seen, _) = open(dir.path());
    assert_eq!(indexes(&seen), [("snapshot", 20), ("entry", 21)]);
    assert!(journal.install_snapshot(19, b"").is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "old files are gone");
}

#[test]
fn many_threads_share_a_sync_and_none_loses_its_entry() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(dir.path());
    let next = Mutex::new(1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut next = next.lock();
                    let index = *next;
                    journal.append(index, b"x").unwrap();
                    *next += 1;
                    drop(next);
                    assert!(journal.sync().unwrap() >= index);
                }
            });
        }
    });
    drop(journal);
    assert_eq!(open(dir.path()).2.last_index, 200);
}

#[test]
fn damage_in_durable_entries_is_reported_and_a_missing_file_is_not_a_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, ..) = open(dir.path());
    append(&journal, 1, 1);
    append(&journal, 2, 2);
    journal.close().unwrap();
    let file = dir.path().join(open::journal_name(1));
    let good = std::fs::read(&file).unwrap();
    // The mark of the opening (32 bytes), then two frames of 32 + 8 bytes.
    for (index, offset) in [(1u64, 4096 + 32u64), (2, 4096 + 72)] {
        let mut bytes = good.clone();
        bytes[offset as usize + 33] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        let error = Journal::open(Arc::new(RealDisk), dir.path(), OPTIONS, |_| {}).map(drop).unwrap_err();
        let JournalOpenError::Corrupt { offset: at, index: entry, .. } = error else { panic!("{error}") };
        assert_eq!((at, entry), (offset, index));
    }
    std::fs::write(&file, &good).unwrap();
    let (journal, ..) = open(dir.path());
    journal.install_snapshot(2, b"s").unwrap();
    drop(journal);
    std::fs::remove_file(dir.path().join(open::snapshot_name(2))).unwrap();
    let error = Journal::open(Arc::new(RealDisk), dir.path(), OPTIONS, |_| {}).map(drop).unwrap_err();
    assert!(matches!(error, JournalOpenError::Missing { .. }), "{error}");
}
