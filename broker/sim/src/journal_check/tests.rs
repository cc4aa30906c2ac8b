//! The metadata journal under every crash, and proof that the enumeration notices mistakes.

use super::*;
use crate::mutant::Mutation;

fn setup(seed: u64, mutation: Option<Mutation>) -> Setup {
    Setup { seed, steps: 60, choices: 3, mutation }
}

#[test]
fn no_crash_loses_or_invents_an_entry() {
    let mut total = Report::default();
    for seed in 1..=30 {
        let report = enumerate(&setup(seed, None));
        assert!(report.violations.is_empty(), "{}", report.violations.join("\n"));
        total.crash_points += report.crash_points;
        total.images += report.images;
        total.torn += report.torn;
    }
    println!("{total:?}");
    assert!(total.crash_points > 3000 && total.torn > 300, "{total:?}");
}

fn is_noticed(mutation: Mutation) -> bool {
    (1..=40).any(|seed| !enumerate(&setup(seed, Some(mutation))).violations.is_empty())
}

#[test]
fn a_missing_sync_is_noticed() {
    assert!(is_noticed(Mutation::NoDataSync));
}

#[test]
fn a_missing_directory_sync_is_noticed() {
    assert!(is_noticed(Mutation::NoDirSync));
}

#[test]
fn a_missing_sync_before_a_rename_is_noticed() {
    assert!(is_noticed(Mutation::NoSyncBeforeRename));
}

/// Two entries are written together and the first one is torn. A new entry then ends exactly where
/// the second one starts. Returns the last index found after that: 2 if the second came back.
fn last_index_after_a_torn_pair(mutation: Option<Mutation>) -> u64 {
    let setup = setup(1, mutation);
    let sim = Arc::new(SimDisk::new());
    let open = |sim: &Arc<SimDisk>| {
        Journal::open(setup.disk(sim), Path::new(DIR), options(false), |_| {}).unwrap().0
    };
    let journal = open(&sim);
    let first_at = first_entry_at();
    journal.append(1, &[1; 1000]).unwrap();
    journal.append(2, b"never reported durable").unwrap();
    journal.sync().unwrap();
    drop(journal);
    let mut files = sim.files();
    let data = files.values_mut().next().unwrap();
    // The sector with the first entry's head did not reach the disk.
    data[first_at..(first_at / 512 + 1) * 512].fill(0);
    let sim = Arc::new(SimDisk::from_files(files, sim.dirs()));
    let journal = open(&sim);
    assert_eq!(journal.last_index(), 0);
    // Opening wrote a mark of 32 bytes where the first entry was; this makes up for it.
    journal.append(1, &[3; 1000 - 32]).unwrap();
    journal.sync().unwrap();
    drop(journal);
    open(&sim).last_index()
}

/// Where the first entry of a new journal stands: behind the header and the mark of its opening.
fn first_entry_at() -> usize {
    4096 + 32
}

#[test]
fn a_tail_that_is_not_cleared_would_come_back_and_a_cleared_one_does_not() {
    assert_eq!(last_index_after_a_torn_pair(None), 1);
    assert_eq!(last_index_after_a_torn_pair(Some(Mutation::TailKept)), 2);
}

#[test]
fn every_flipped_bit_in_a_closed_journal_is_reported_or_harmless() {
    let sim = Arc::new(SimDisk::new());
    let setup = setup(3, None);
    let history = work(&sim, &setup, History::default(), 60).unwrap();
    Journal::open(setup.disk(&sim), Path::new(DIR), options(true), |_| {}).unwrap().0.close().unwrap();
    let (files, dirs) = (sim.files(), sim.dirs());
    let mut random = Random::new(7);
    let mut reported = 0;
    for _ in 0..1500 {
        let (path, data) = files.iter().nth(random.below(files.len() as u64) as usize).unwrap();
        // The end of the entries: behind it there are only the zeros of the space made ahead.
        let used = data.iter().rposition(|&byte| byte != 0).unwrap_or(0) + 1;
        let offset = random.below(used as u64) as usize;
        let damaged = Arc::new(SimDisk::from_files(files.clone(), dirs.clone()));
        damaged.flip(path, offset, random.number() as u8);
        match check(&setup, &damaged, &history, history.last()) {
            Ok(_) => {}
            Err(error) if error.starts_with("does not open") => reported += 1,
            // The very last mark has nothing behind it that could speak for it; it holds nothing.
            Err(error) => panic!("{path:?} byte {offset} of {used}: {error}"),
        }
    }
    assert!(reported > 500, "{reported}");
}
