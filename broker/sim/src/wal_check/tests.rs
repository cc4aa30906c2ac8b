//! The write-ahead log under every crash, and proof that the enumeration notices mistakes.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::disk::Fault;

fn setup(seed: u64, broken: Broken) -> Setup {
    Setup { seed, steps: 120, choices: 3, broken }
}

#[test]
fn no_crash_loses_or_invents_anything() {
    let started = std::time::Instant::now();
    let mut total = Report::default();
    for seed in 1..=16 {
        let report = enumerate(&setup(seed, Broken::Nothing));
        assert!(report.violations.is_empty(), "{}", report.violations.join("\n"));
        total.crash_points += report.crash_points;
        total.images += report.images;
        total.torn += report.torn;
        total.second += report.second;
        total.with_segments += report.with_segments;
    }
    let rate = total.images as f64 / started.elapsed().as_secs_f64();
    println!("{total:?}, {rate:.0} recoveries per second");
    assert!(
        total.crash_points > 2500 && total.torn > 500 && total.second > 500 && total.with_segments > 2000,
        "{total:?}"
    );
}

/// Whether one of some seeds shows a broken promise.
fn is_noticed(broken: Broken) -> bool {
    (1..=40).any(|seed| !enumerate(&setup(seed, broken)).violations.is_empty())
}

#[test]
fn confirming_when_appended_is_noticed() {
    assert!(is_noticed(Broken::ConfirmAtAppend));
}

#[test]
fn a_missing_sync_is_noticed() {
    assert!(is_noticed(Broken::Disk(Mutation::NoDataSync)));
}

#[test]
fn a_missing_directory_sync_is_noticed() {
    assert!(is_noticed(Broken::Disk(Mutation::NoDirSync)));
}

#[test]
fn a_missing_sync_before_a_rename_is_noticed() {
    assert!(is_noticed(Broken::Disk(Mutation::NoSyncBeforeRename)));
}

#[test]
fn a_tail_that_is_not_cleared_is_noticed() {
    assert!(is_noticed(Broken::Disk(Mutation::TailKept)));
}

#[test]
fn a_torn_tail_taken_for_damage_is_noticed() {
    assert!(is_noticed(Broken::TornTailRefused));
}

#[test]
fn releasing_files_with_live_messages_is_noticed() {
    assert!(is_noticed(Broken::ReleaseWithoutRelocation));
}

/// Runs the workload with one call of the disk failing, and recovers from what is left.
fn with_a_failing_call(broken: Broken, seed: u64, fault: Fault) -> Result<(), String> {
    let sim = Arc::new(SimDisk::new());
    let setup = setup(seed, broken);
    let mut workload = Workload::open(&sim, &setup, History::default())?;
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    workload.wal().on_failure(Box::new(move |_| tell.store(true, Ordering::Relaxed)));
    sim.set_fault(Some(Fault { at: sim.calls() + fault.at, ..fault }));
    for _ in 0..40 {
        // Only what cannot fail by itself: a restart on a failed log is refused, as it should be.
        workload.publish();
        workload.wal().run_once();
        workload.release_oldest();
    }
    let failed = workload.wal().failed();
    assert_eq!(failed.is_some(), told.load(Ordering::Relaxed), "a failure is told");
    assert!(failed.is_some() || broken != Broken::Nothing, "the fault was not reached");
    let (history, durable) = (workload.history().clone(), workload.wal().durable_lsn());
    drop(workload);
    sim.set_fault(None);
    let ops = sim.ops();
    let mut crasher = Crasher::new(BTreeMap::new(), sim.dirs(), &ops);
    while crasher.step() {}
    assert!(durable <= crasher.promised());
    let mut folds = Folds::default();
    for survivors in [Survivors::None, Survivors::All, Survivors::Some(seed), Survivors::Some(seed + 1)] {
        let image = Arc::new(crasher.image(survivors));
        let recovered = Recovered::open(Broken::Nothing, &image, true)
            .map_err(|error| format!("{fault:?} {survivors:?}: {error}"))?;
        recovered
            .check(&history, crasher.promised(), &mut folds)
            .map_err(|error| format!("{fault:?} {survivors:?}: {error}"))?;
    }
    Ok(())
}

#[test]
fn a_failing_disk_stops_the_log_and_nothing_confirmed_is_lost() {
    for at in 0..60 {
        let fault = Fault { at, kind: ErrorKind::Other };
        with_a_failing_call(Broken::Nothing, at + 1, fault).unwrap();
    }
}

#[test]
fn believing_the_second_sync_after_a_failed_one_is_noticed() {
    let noticed = (0..60).any(|at| {
        let fault = Fault { at, kind: ErrorKind::Other };
        with_a_failing_call(Broken::Disk(Mutation::SyncTwice), at + 1, fault).is_err()
    });
    assert!(noticed);
}

#[test]
fn a_full_disk_is_told_refuses_nothing_already_taken_and_recovers_by_itself() {
    let sim = Arc::new(SimDisk::new());
    let setup = setup(5, Broken::Nothing);
    let mut workload = Workload::open(&sim, &setup, History::default()).unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&full);
    workload.wal().on_full(Box::new(move |is_full| tell.store(is_full, Ordering::Relaxed)));
    // Room for three log files and the control file, and a bit of a fourth.
    sim.set_capacity(Some(3 * (12 << 10) + 8192 + 5000));
    let mut first_full = None;
    for round in 0..60 {
        workload.publish();
        workload.wal().run_once();
        assert_eq!(workload.wal().failed(), None);
        if workload.wal().is_full() && first_full.is_none() {
            first_full = Some(round);
            // The alarm comes while there is still room: this round's messages are durable.
            assert_eq!(workload.wal().durable_lsn(), workload.history().last());
        }
    }
    assert!(first_full.is_some() && full.load(Ordering::Relaxed));
    assert!(workload.wal().durable_lsn() < workload.history().last());
    assert!(workload.wal().pending_bytes() > 0);
    assert!(workload.wal().sync_blocking().is_err());
    sim.set_capacity(None);
    workload.wal().run_once();
    assert_eq!(workload.wal().durable_lsn(), workload.history().last());
    assert!(!workload.wal().is_full() && !full.load(Ordering::Relaxed));
    assert_eq!(workload.wal().pending_bytes(), 0);
    let history = workload.history().clone();
    drop(workload);
    let recovered = Recovered::open(Broken::Nothing, &sim, true).unwrap();
    recovered.check(&history, history.last(), &mut Folds::default()).unwrap();
}

#[test]
fn releasing_files_ends_the_alarm_too() {
    let sim = Arc::new(SimDisk::new());
    let mut workload = Workload::open(&sim, &setup(6, Broken::Nothing), History::default()).unwrap();
    sim.set_capacity(Some(3 * (12 << 10) + 8192));
    while !workload.wal().is_full() {
        workload.publish();
        workload.wal().run_once();
    }
    let last = workload.history().last();
    workload.wal().release_before(last);
    workload.wal().run_once();
    assert!(!workload.wal().is_full());
}

/// A log that was stopped in order, and its history.
fn stopped_log(seed: u64) -> (Arc<SimDisk>, History) {
    let sim = Arc::new(SimDisk::new());
    let setup = setup(seed, Broken::Nothing);
    let mut workload = Workload::open(&sim, &setup, History::default()).unwrap();
    for _ in 0..80 {
        workload.step().unwrap();
    }
    workload.wal().stop().unwrap();
    let history = workload.history().clone();
    (sim, history)
}

#[test]
fn every_flipped_bit_in_what_was_synced_is_reported_or_harmless() {
    let (mut reported, mut harmless) = (0, 0);
    for seed in 1..=4 {
        let (sim, history) = stopped_log(seed);
        let (files, dirs) = (sim.files(), sim.dirs());
        let mut random = Random::new(seed);
        let mut folds = Folds::default();
        for _ in 0..400 {
            let (path, data) = files.iter().nth(random.below(files.len() as u64) as usize).unwrap();
            let offset = random.below(data.len() as u64) as usize;
            let damaged = Arc::new(SimDisk::from_files(files.clone(), dirs.clone()));
            damaged.flip(path, offset, random.number() as u8);
            // Harmless: in what a recycled file held before, in padding of headers, in free space.
            match Recovered::open(Broken::Nothing, &damaged, true) {
                Ok(recovered) => match recovered.check(&history, history.last(), &mut folds) {
                    Ok(()) => harmless += 1,
                    // A segment says so when it is read.
                    Err(error) if error.contains(" is damaged: ") => reported += 1,
                    Err(error) => panic!("{path:?} byte {offset}: {error}"),
                },
                Err(_) => reported += 1,
            }
        }
    }
    println!("reported {reported}, harmless {harmless}");
    assert!(reported > 200);
}

#[test]
fn damage_is_reported_without_an_orderly_stop_too() {
    let mut reported = 0;
    for seed in 1..=6 {
        let sim = Arc::new(SimDisk::new());
        let mut workload = Workload::open(&sim, &setup(seed, Broken::Nothing), History::default()).unwrap();
        for _ in 0..30 {
            // Batches of several frames.
            for _ in 0..6 {
                workload.publish();
            }
            workload.wal().run_once();
        }
        let guarded = workload.wal().durable_lsn();
        // What a later frame speaks for must be intact or reported; the last frame has none.
        workload.publish();
        workload.wal().run_once();
        let history = workload.history().clone();
        let (files, dirs) = (sim.files(), sim.dirs());
        let mut random = Random::new(seed);
        for _ in 0..200 {
            let (path, data) = files.iter().nth(random.below(files.len() as u64) as usize).unwrap();
            let offset = random.below(data.len() as u64) as usize;
            let damaged = Arc::new(SimDisk::from_files(files.clone(), dirs.clone()));
            damaged.flip(path, offset, random.number() as u8);
            match Recovered::open(Broken::Nothing, &damaged, true) {
                Ok(recovered) => recovered
                    .check(&history, guarded, &mut Folds::default())
                    .unwrap_or_else(|error| panic!("{path:?} byte {offset}: {error}")),
                Err(_) => reported += 1,
            }
        }
    }
    assert!(reported > 500, "{reported}");
}

#[test]
fn a_lost_file_is_reported() {
    let (sim, _) = stopped_log(3);
    let (files, dirs) = (sim.files(), sim.dirs());
    let spare_or_ready = |path: &PathBuf| {
        let mut without = files.clone();
        without.remove(path);
        let disk = Arc::new(SimDisk::from_files(without, dirs.clone()));
        Recovered::open(Broken::Nothing, &disk, true).is_ok()
    };
    let kept: Vec<&PathBuf> = files.keys().filter(|path| !spare_or_ready(path)).collect();
    // The control file, and every file with records: those from the first that is not released on.
    assert!(kept.iter().any(|path| path.ends_with("control")));
    assert!(kept.len() >= files.len() - 3, "{kept:?} of {:?}", files.keys());
}

#[test]
fn noise_in_a_log_never_panics() {
    let (sim, _) = stopped_log(9);
    let (files, dirs) = (sim.files(), sim.dirs());
    let mut random = Random::new(99);
    let mut refused = 0;
    for _ in 0..400 {
        let mut noisy = files.clone();
        for data in noisy.values_mut() {
            for _ in 0..random.below(6) {
                let from = random.below(data.len() as u64) as usize;
                let len = random.below(64) as usize;
                for byte in data.iter_mut().skip(from).take(len) {
                    *byte = random.number() as u8;
                }
            }
            if random.one_in(10) {
                data.truncate(random.below(data.len() as u64) as usize);
            }
        }
        let disk = Arc::new(SimDisk::from_files(noisy, dirs.clone()));
        refused += u32::from(Recovered::open(Broken::Nothing, &disk, true).is_err());
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn with_threads_a_full_disk_is_an_answer_and_not_a_wait_and_space_heals_it() {
    let sim = Arc::new(SimDisk::new());
    let options = WalOptions { background: true, ..options(false) };
    let disk: Arc<dyn Disk> = Arc::<SimDisk>::clone(&sim);
    let (wal, _) = Wal::open(disk, Path::new(DIR), options, |_, _| {}).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    wal.on_full(Box::new(move |full| tell.send(full).unwrap()));
    sim.set_capacity(Some(3 * (12 << 10) + 8192));
    let mut record = Vec::new();
    let at = broker_core::record::At::default();
    Record::SegAdd { at, first_qseq: 1, last_qseq: 1, meta: &[1; 900] }.encode(&mut record);
    for _ in 0..100 {
        wal.append(&record, 1, broker_store::wal::Urgency::Now);
    }
    assert_eq!(wal.sync_blocking(), Err(broker_store::wal::SyncError::Full));
    assert!(told.recv().unwrap() && wal.is_full() && wal.failed().is_none());
    assert!(wal.durable_lsn() < 100);
    sim.set_capacity(None);
    // It tries again by itself, once a second.
    assert!(!told.recv_timeout(std::time::Duration::from_secs(10)).unwrap());
    assert_eq!(wal.sync_blocking(), Ok(100));
    assert_eq!(wal.stop(), Ok(100));
}
