//! The log on a real file system. Crashes are enumerated in `broker-sim`.

use super::*;
use crate::disk::RealDisk;
use std::fs;

fn open(dir: &Path) -> (RaftLog, Option<Vec<u8>>) {
    let mut state = None;
    let options = JournalOptions::new([3; 16]);
    let (log, _) =
        RaftLog::open(Arc::new(RealDisk), dir, options, |octets| state = Some(octets.to_vec())).unwrap();
    (log, state)
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, node: 1, index }
}

fn command(term: u64, index: u64) -> LogEntry {
    let payload = Payload::Command(format!("command {term}.{index}").into_bytes().into());
    LogEntry { id: id(term, index), payload }
}

fn everything(log: &RaftLog) -> Vec<LogEntry> {
    log.entries(0, u64::MAX)
}

const WON: Vote = Vote { term: 2, node: 1, won: true };

#[test]
fn votes_and_entries_of_every_kind_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let (log, state) = open(dir.path());
    assert_eq!((log.vote(), log.ends(), state), (None, (None, None), None));
    let members = LogEntry { id: id(0, 0), payload: Payload::Members(Bytes::from_static(b"me")) };
    let blank = LogEntry { id: id(2, 1), payload: Payload::Blank };
    let all = [members, blank, command(2, 2)];
    log.save_vote(Vote { term: 2, node: 1, won: false }).unwrap();
    log.save_vote(WON).unwrap();
    for entry in &all {
        log.append(entry.clone()).unwrap();
    }
    assert_eq!(log.append(command(2, 4)), Err(JournalError::OutOfOrder { expected: 3, got: 4 }));
    log.sync().unwrap();
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(log.vote(), Some(WON));
    assert_eq!(everything(&log), all);
    assert_eq!(log.entries(1, 2), all[1..2]);
    assert_eq!(log.ends(), (None, Some(id(2, 2))));
    assert_eq!(log.since_snapshot(), (3, 2 + 11));
}

#[test]
fn truncated_entries_stay_away() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    for index in 0..5 {
        log.append(command(1, index)).unwrap();
    }
    log.truncate_after(Some(id(1, 2))).unwrap();
    log.append(command(2, 3)).unwrap();
    log.close().unwrap();
    drop(log);
    let (log, _) = open(dir.path());
    assert_eq!(everything(&log), [command(1, 0), command(1, 1), command(1, 2), command(2, 3)]);
    log.truncate_after(None).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(open(dir.path()).0.ends(), (None, None));
}

#[test]
fn a_snapshot_keeps_the_vote_and_the_entries_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    log.save_vote(WON).unwrap();
    for index in 0..5 {
        log.append(command(2, index)).unwrap();
    }
    let head = SnapshotHead { last: Some(id(2, 2)), members: Bytes::from_static(b"members") };
    log.install_snapshot(&head, b"the state").unwrap();
    assert_eq!(everything(&log).len(), 5, "kept until they are purged");
    assert_eq!(log.since_snapshot(), (2, 2 * 11));
    log.purge(id(2, 2));
    assert_eq!(log.ends(), (Some(id(2, 2)), Some(id(2, 4))));
    log.append(command(2, 5)).unwrap();
    log.sync().unwrap();
    drop(log);
    let (log, state) = open(dir.path());
    assert_eq!(state.as_deref(), Some(&b"the state"[..]));
    assert_eq!(log.vote(), Some(WON));
    assert_eq!(log.snapshot_head(), Some(head));
    assert_eq!(everything(&log), [command(2, 3), command(2, 4), command(2, 5)]);
    assert_eq!(log.entries(0, 4), [command(2, 3)]);
    assert_eq!(log.ends(), (Some(id(2, 2)), Some(id(2, 5))));
}

#[test]
fn of_what_a_snapshot_includes_so_much_can_be_forgotten_as_is_not_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    assert_eq!(log.forgettable(7, (0, 0)), None);
    // Eleven octets each.
    (0..10).for_each(|index| log.append(command(1, index)).unwrap());
    for (last, kept, expected) in [
        (7, (0, 0), Some(7)),
        (7, (3, 1_000), Some(4)),
        (7, (100, 22), Some(5)),
        (7, (100, 1_000), None),
        (99, (0, 0), Some(9)),
    ] {
        assert_eq!(log.forgettable(last, kept), expected, "{last} {kept:?}");
    }
    log.purge(id(1, 5));
    assert_eq!(log.forgettable(5, (0, 0)), None);
    assert_eq!(log.forgettable(7, (1, 1_000)), Some(6));
}

#[test]
fn a_log_can_begin_with_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let head = SnapshotHead { last: Some(id(0, 0)), members: Bytes::from_static(b"me") };
    let options = JournalOptions::new([3; 16]);
    RaftLog::begin_with(Arc::new(RealDisk), dir.path(), options, &head, b"old").unwrap();
    let (log, state) = open(dir.path());
    assert_eq!(state.as_deref(), Some(&b"old"[..]));
    assert_eq!(log.ends(), (Some(id(0, 0)), Some(id(0, 0))));
    log.append(command(1, 1)).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(everything(&open(dir.path()).0), [command(1, 1)]);
}

#[test]
fn an_unfinished_write_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(dir.path());
    for index in 0..3 {
        log.append(command(1, index)).unwrap();
        log.sync().unwrap();
    }
    drop(log);
    let name = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let mut octets = fs::read(&name).unwrap();
    let end = octets.iter().rposition(|octet| *octet != 0).unwrap();
    octets[end] = 0;
    fs::write(&name, &octets).unwrap();
    let (log, _) = open(dir.path());
    assert_eq!(everything(&log), [command(1, 0), command(1, 1)]);
    log.append(command(1, 2)).unwrap();
    log.sync().unwrap();
    drop(log);
    assert_eq!(everything(&open(dir.path()).0).len(), 3);
}

#[test]
fn what_this_version_does_not_know_is_refused() {
    for (item, expected) in [
        (&[9, 1][..], "format version 9 is unknown"),
        (&[1, 9], "operation 9 is unknown"),
        (&[1, 1, 0], "ends too early"),
        (&[&[1, 2][..], &[0; 24], &[7]].concat(), "kind of entry 7 is unknown"),
        (&codec::entry(&command(1, 4)), "entry 4 appended where 0 is next"),
        (&[&codec::vote(WON)[..], &[0]].concat(), "1 octets too many"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let options = JournalOptions::new([3; 16]);
        let (journal, _) = Journal::open(Arc::new(RealDisk), dir.path(), options, |_| {}).unwrap();
        journal.append(1, item).unwrap();
        journal.close().unwrap();
        drop(journal);
        let refused = RaftLog::open(Arc::new(RealDisk), dir.path(), options, |_| {}).map(drop).unwrap_err();
        assert!(refused.to_string().contains(expected), "{refused}");
    }
}

#[test]
fn a_snapshot_cut_short_at_any_octet_is_refused_or_has_less_state() {
    let head = SnapshotHead { last: Some(id(2, 2)), members: Bytes::from_static(b"members") };
    let entries = [command(2, 3), command(2, 4)];
    let whole = codec::snapshot(Some(WON), &head, entries.iter(), b"state");
    let read = codec::read_snapshot(&whole).unwrap();
    assert_eq!(
        (read.vote, read.head, &read.entries[..], read.state),
        (Some(WON), head, &entries[..], &b"state"[..])
    );
    for cut in 0..whole.len() - 5 {
        assert!(codec::read_snapshot(&whole[..cut]).is_err(), "cut at {cut}");
    }
}
