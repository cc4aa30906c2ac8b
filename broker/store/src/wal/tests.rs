//! The log with its threads on a real file system. Crashes are enumerated in `broker-sim`.

use std::sync::mpsc;

use broker_core::record::{At, Enq, Message};

use super::*;
use crate::disk::RealDisk;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn options() -> WalOptions {
    WalOptions { file_bytes: 1 << 16, ..WalOptions::new(UUID) }
}

fn enq(qseq: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let message = Message { body, ..Message::default() };
    broker_core::record::Record::Enq(Enq { queue_id: 1, epoch: 1, off: qseq, qseq, message })
        .encode(&mut bytes);
    bytes
}

fn open(dir: &std::path::Path, options: WalOptions) -> (Wal, Vec<u64>, RecoveryReport) {
    let mut seen = Vec::new();
    let (wal, report) = Wal::open(Arc::new(RealDisk), dir, options, |_, record| {
        if let broker_core::record::Record::Enq(enq) = record {
            seen.push(enq.qseq);
        }
    })
    .unwrap();
    (wal, seen, report)
}

#[test]
fn what_was_appended_comes_back_over_many_files() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, seen, _) = open(dir.path(), options());
    assert!(seen.is_empty());
    let (sender, told) = mpsc::channel();
    wal.on_durable(Box::new(move |lsn| {
        let _ = sender.send(lsn);
    }));
    for qseq in 1..=1000 {
        assert_eq!(wal.append(&enq(qseq, &[7; 500]), 1, Urgency::Now), qseq);
    }
    while told.recv().unwrap() < 1000 {}
    assert_eq!(wal.durable_lsn(), 1000);
    assert_eq!(wal.pending_bytes(), 0);
    assert!(wal.closed_files().len() >= 7);
    drop(wal);
    let (wal, seen, report) = open(dir.path(), options());
    assert_eq!(seen, (1..=1000).collect::<Vec<u64>>());
    assert_eq!((report.last_lsn, report.torn_bytes), (1000, 0));
    assert_eq!(wal.append(&enq(1001, b""), 1, Urgency::Now), 1001);
}

#[test]
fn buffers_that_are_handed_over_stay_in_order_with_what_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { file_bytes: 1 << 22, ..options() };
    let (wal, ..) = open(dir.path(), options.clone());
    let mut buffer = RecordBuffer::default();
    let mut last = 0;
    let mut handed_over = 0;
    for round in 0..60_u64 {
        // Some of these become a frame, some are copied into one; the log gives other buffers back for the former.
        for _ in 0..round % 7 * 20 {
            last += 1;
            let message = Message { body: &[9; 500], ..Message::default() };
            let enq = Enq { queue_id: 1, epoch: 1, off: last, qseq: last, message };
            buffer.push(&broker_core::record::Record::Enq(enq));
        }
        handed_over += u64::from(buffer.len() >= HAND_OVER_BYTES);
        assert_eq!(wal.append_buffer(&mut buffer, Urgency::Now), last);
        assert!(buffer.is_empty());
        assert_eq!(buffer.len(), 0);
        last += 1;
        assert_eq!(wal.append(&enq(last, b"x"), 1, Urgency::Lazy), last);
        if round % 5 == 0 {
            assert_eq!(wal.sync_blocking(), Ok(last));
        }
    }
    assert!(handed_over > 20);
    drop(wal);
    assert_eq!(open(dir.path(), options).1, (1..=last).collect::<Vec<u64>>());
}

#[test]
fn dropping_the_log_writes_what_was_appended_even_lazily() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path(), WalOptions { lazy_delay: Duration::from_secs(3600), ..options() });
    wal.append(&enq(1, b"x"), 1, Urgency::Lazy);
    drop(wal);
    assert_eq!(open(dir.path(), options()).1, [1]);
}

#[test]
fn lazy_records_become_durable_by_themselves_and_urgent_ones_take_them_along() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path(), WalOptions { lazy_delay: Duration::from_millis(20), ..options() });
    let (sender, told) = mpsc::channel();
    wal.on_durable(Box::new(move |lsn| {
        let _ = sender.send(lsn);
    }));
    wal.append(&enq(1, b"x"), 1, Urgency::Lazy);
    assert_eq!(told.recv().unwrap(), 1);
    let dir = tempfile::tempdir().unwrap();
    let (slow, ..) = open(dir.path(), WalOptions { lazy_delay: Duration::from_secs(3600), ..options() });
    slow.append(&enq(1, b"x"), 1, Urgency::Lazy);
    slow.append(&enq(2, b"x"), 1, Urgency::Now);
    assert_eq!(slow.sync_blocking(), Ok(2));
}

#[test]
fn released_files_are_used_again_and_the_rest_of_the_log_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path(), options());
    for qseq in 1..=1000 {
        wal.append(&enq(qseq, &[7; 500]), 1, Urgency::Now);
        if qseq % 50 == 0 {
            wal.sync_blocking().unwrap();
            wal.release_before(qseq - 10);
        }
    }
    wal.stop().unwrap();
    let oldest = wal.oldest_file_first_lsn();
    assert!(oldest > 500, "{oldest}");
    assert!(wal.total_bytes() < 4 << 16, "{}", wal.total_bytes());
    drop(wal);
    let (_wal, seen, report) = open(dir.path(), WalOptions { expect_existing: true, ..options() });
    assert_eq!(report.first_lsn, oldest);
    assert_eq!(seen, (oldest..=1000).collect::<Vec<u64>>());
    let bytes: u64 =
        std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 14 << 16, "released files do not pile up: {bytes}");
}

#[test]
fn a_message_larger_than_a_file_gets_a_larger_file() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path(), options());
    wal.append(&enq(1, b"small"), 1, Urgency::Now);
    wal.sync_blocking().unwrap();
    wal.append(&enq(2, &vec![9; 300_000]), 1, Urgency::Now);
    wal.append(&enq(3, b"small"), 1, Urgency::Now);
    drop(wal);
    assert_eq!(open(dir.path(), options()).1, [1, 2, 3]);
}

#[test]
fn one_append_is_one_frame_and_many_share_a_sync() {
    let dir = tempfile::tempdir().unwrap();
    let manual = WalOptions { background: false, ..options() };
    let (wal, ..) = open(dir.path(), manual);
    let pair = [enq(1, b"a"), enq(2, b"b")].concat();
    assert_eq!(wal.append(&pair, 2, Urgency::Now), 2);
    assert_eq!(wal.append(&enq(3, b"c"), 1, Urgency::Lazy), 3);
    assert_eq!(wal.durable_lsn(), 0);
    wal.run_once();
    assert_eq!(wal.durable_lsn(), 3);
    assert_eq!((wal.stats().frames, wal.stats().syncs), (1, 1));
}

#[test]
fn a_log_of_another_directory_and_a_missing_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refuse =
        |options| Wal::open(Arc::new(RealDisk), dir.path(), options, |_, _| {}).map(drop).unwrap_err();
    let missing = refuse(WalOptions { expect_existing: true, ..options() });
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
    open(dir.path(), options());
    let foreign = refuse(WalOptions::new([1; 16]));
    assert!(matches!(foreign, OpenError::ControlForeign { .. }), "{foreign}");
    std::fs::remove_file(dir.path().join("wal-0000000000000001.log")).unwrap();
    let missing = refuse(options());
    assert!(matches!(missing, OpenError::Missing { .. }), "{missing}");
}

#[test]
fn damage_in_a_durable_record_is_reported_with_its_place_and_queues() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, ..) = open(dir.path(), options());
    for qseq in 1..=3 {
        let mut bytes = Vec::new();
        broker_core::record::Record::QClose { at: At { queue_id: qseq * 10, epoch: 1, off: 0 } }
            .encode(&mut bytes);
        wal.append(&bytes, 1, Urgency::Now);
        wal.sync_blocking().unwrap();
    }
    wal.stop().unwrap();
    drop(wal);
    let file = dir.path().join("wal-0000000000000001.log");
    let damage = |at: usize| {
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    };
    // Frames of 40 + 8 bytes; the second one is damaged, then the last one.
    for (at, lsn, queues) in [(4096 + 48 + 41, 2, vec![10, 30]), (4096 + 96 + 41, 3, vec![10, 20])] {
        damage(at);
        let error = Wal::open(Arc::new(RealDisk), dir.path(), options(), |_, _| {}).map(drop).unwrap_err();
        let OpenError::Corrupt(corruption) = error else { panic!("{error}") };
        assert_eq!((corruption.first_lsn, corruption.last_lsn), (lsn, Some(lsn)));
        assert_eq!(corruption.offset, 4096 + 48 * (lsn - 1));
        assert_eq!(corruption.queues, queues);
        damage(at);
    }
    assert_eq!(open(dir.path(), options()).2.records, 3);
}

#[test]
fn bodies_that_imitate_frames_are_not_searched_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let file_bytes = 16 << 20;
    let (wal, ..) = open(dir.path(), WalOptions { file_bytes, ..options() });
    wal.stop().unwrap();
    drop(wal);
    // Frame headers of file 1 that claim 12 MiB each, every 40 bytes, where a frame was begun.
    let mut fake = Vec::new();
    fake.extend_from_slice(&0x314D_5246u32.to_le_bytes());
    fake.extend_from_slice(&[0; 4]);
    fake.extend_from_slice(&1u64.to_le_bytes());
    fake.resize(36, 0);
    fake.extend_from_slice(&(12u32 << 20).to_le_bytes());
    let path = dir.path().join("wal-0000000000000001.log");
    let mut bytes = std::fs::read(&path).unwrap();
    for at in (4096..4 << 20).step_by(40) {
        bytes[at..at + 40].copy_from_slice(&fake);
    }
    std::fs::write(&path, &bytes).unwrap();
    let error = Wal::open(Arc::new(RealDisk), dir.path(), options(), |_, _| {}).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Imitated { offset: 4096, .. }), "{error}");
}

/// Four threads append, urgently and lazily, wait for what is urgent, and release what is old.
#[test]
fn many_threads_lose_nothing_and_none_waits_for_ever() {
    const THREADS: u64 = 4;
    const EACH: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions { lazy_delay: Duration::from_millis(2), ..options() };
    let (wal, ..) = open(dir.path(), options.clone());
    let (lock, changed) = (Mutex::new(0u64), Condvar::new());
    let told = Arc::new((lock, changed));
    let tell = Arc::clone(&told);
    wal.on_durable(Box::new(move |lsn| {
        *tell.0.lock() = lsn;
        tell.1.notify_all();
    }));
    let wait_for = |lsn: Lsn| {
        let mut durable = told.0.lock();
        while *durable < lsn {
            assert!(
                !told.1.wait_for(&mut durable, Duration::from_secs(20)).timed_out(),
                "{lsn} was forgotten"
            );
        }
    };
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (wal, wait_for) = (&wal, &wait_for);
            scope.spawn(move || {
                for number in 0..EACH {
                    let record = enq(thread * EACH + number, &[thread as u8; 60]);
                    if number.is_multiple_of(3) {
                        let lsn = wal.append(&record, 1, Urgency::Now);
                        if number.is_multiple_of(30) {
                            wait_for(lsn);
                            assert!(wal.durable_lsn() >= lsn);
                        }
                    } else {
                        wal.append(&record, 1, Urgency::Lazy);
                    }
                    if number % 500 == 499 {
                        let lsn = wal.sync_blocking().unwrap();
                        wal.release_before(lsn / 2);
                    }
                }
            });
        }
    });
    // The last ones may be lazy ones, which come by themselves.
    wait_for(THREADS * EACH);
    assert_eq!((wal.last_lsn(), wal.pending_bytes(), wal.failed()), (THREADS * EACH, 0, None));
    let stats = wal.stats();
    assert!(stats.syncs < THREADS * EACH / 2, "appends share syncs: {stats:?}");
    drop(wal);
    let (_wal, seen, report) = open(dir.path(), options);
    assert!(report.first_lsn > 1, "files were released");
    assert_eq!(seen.len() as u64, THREADS * EACH + 1 - report.first_lsn);
    for thread in 0..THREADS {
        let mine: Vec<u64> = seen.iter().copied().filter(|qseq| qseq / EACH == thread).collect();
        assert!(mine.is_sorted(), "one thread's appends keep their order");
    }
}

/// Makes a log of 300 messages, each in a frame of its own, over several files; returns those that are closed.
fn filled(dir: &std::path::Path) -> Vec<ClosedFile> {
    let (wal, ..) = open(dir, options());
    for qseq in 1..=300 {
        wal.append(&enq(qseq, &[7; 500]), 1, Urgency::Now);
        wal.sync_blocking().unwrap();
    }
    wal.stop().unwrap();
    wal.closed_files()
}

/// Flips one bit of a file.
fn damage(path: &std::path::Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn accepting_the_loss_keeps_everything_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let files = filled(dir.path());
    assert!(files.len() >= 2);
    assert_eq!(accept_loss(&RealDisk, dir.path(), UUID).unwrap(), [], "a sound log stays as it is");
    let path = |seq: u64| dir.path().join(scan::name_of(seq));
    // In the middle of a file, the last frame of a file, a header, and the very last frame.
    let frame_at = |seq: u64, number: u64| {
        let bytes = std::fs::read(path(seq)).unwrap();
        (0..number)
            .fold(4096, |at, _| at + format::parse(&bytes[at..], format::seed(&UUID, seq), seq).unwrap().size)
    };
    damage(&path(files[0].seq), frame_at(files[0].seq, 10) + 100);
    damage(&path(files[1].seq), frame_at(files[1].seq, files[1].last_lsn - files[1].first_lsn) + 50);
    damage(&path(files[1].seq), 7);
    let last = files.last().unwrap();
    damage(&path(last.seq + 1), frame_at(last.seq + 1, 299 - last.last_lsn) + 60);
    let refused = Wal::open(Arc::new(RealDisk), dir.path(), options(), |_, _| {}).map(drop);
    assert!(refused.is_err());
    let losses = accept_loss(&RealDisk, dir.path(), UUID).unwrap();
    let lost: Vec<Lsn> = losses.iter().map(|loss| loss.first_lsn).collect();
    assert_eq!(lost, [11, files[1].last_lsn, 300]);
    assert!(losses.iter().all(|loss| loss.queues == [1] && loss.last_lsn == Some(loss.first_lsn)));
    let (wal, seen, report) = open(dir.path(), options());
    assert_eq!(seen, (1..=300).filter(|qseq| !lost.contains(qseq)).collect::<Vec<u64>>());
    assert_eq!(report.last_lsn, 300);
    assert_eq!(wal.append(&enq(301, b""), 1, Urgency::Now), 301);
    drop(wal);
    assert_eq!(open(dir.path(), options()).1.len(), 298);
}

#[test]
fn accepting_the_loss_of_a_files_first_frame_keeps_the_others_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let second = filled(dir.path())[1];
    damage(&dir.path().join(scan::name_of(second.seq)), 4096 + 60);
    let losses = accept_loss(&RealDisk, dir.path(), UUID).unwrap();
    let lost: Vec<(Lsn, Option<Lsn>)> = losses.iter().map(|loss| (loss.first_lsn, loss.last_lsn)).collect();
    assert_eq!(lost, [(second.first_lsn, Some(second.first_lsn))]);
    let (_, seen, report) = open(dir.path(), options());
    assert_eq!(seen, (1..=300).filter(|&qseq| qseq != second.first_lsn).collect::<Vec<u64>>());
    assert_eq!(report.last_lsn, 300);
}
