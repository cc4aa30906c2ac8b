//! Crash enumeration over the journal.
//!
//! The promises checked after every crash: the journal opens; it holds every entry that was
//! reported durable, either itself or in the snapshot; entries and snapshot are what was given to it;
//! and it can be written on, with the same promises after another crash.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use broker_store::disk::Disk;
use broker_store::journal::{Journal, JournalItem, JournalOptions};

use crate::crash::{Crasher, Survivors};
use crate::disk::SimDisk;
use crate::mutant::{MutantDisk, Mutation};
use crate::random::Random;

/// Where the journal lives on the simulated disk.
pub const DIR: &str = "/data/journal";

/// A run of the enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Chooses the workload and the surviving writes.
    pub seed: u64,
    /// How many steps the workload has.
    pub steps: u32,
    /// Random choices of surviving writes per crash point, besides none and all.
    pub choices: u64,
    /// How the disk is broken on purpose.
    pub mutation: Option<Mutation>,
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
    /// Broken promises.
    pub violations: Vec<String>,
}

/// The entries ever appended; `None` where a snapshot came from elsewhere.
#[derive(Debug, Clone, Default)]
struct History(Vec<Option<Vec<u8>>>);

impl History {
    fn last(&self) -> u64 {
        self.0.len() as u64
    }

    fn up_to(&self, index: u64) -> Self {
        Self(self.0[..index as usize].to_vec())
    }
}

fn snapshot_content(index: u64) -> Vec<u8> {
    let mut random = Random::new(index);
    (0..200 + index * 7 % 900).map(|_| random.number() as u8).collect()
}

/// Runs a workload and recovers from every crash.
#[must_use]
pub fn enumerate(setup: &Setup) -> Report {
    let mut report = Report::default();
    let sim = Arc::new(SimDisk::new());
    let history = match work(&sim, setup, History::default(), setup.steps) {
        Ok(history) => history,
        Err(error) => {
            report.violations.push(format!("the workload itself failed: {error}"));
            return report;
        }
    };
    let ops = sim.ops();
    let mut crasher = Crasher::new(BTreeMap::new(), sim.dirs(), &ops);
    let mut random = Random::new(setup.seed ^ 0x10a4);
    loop {
        report.crash_points += 1;
        let mut choices = vec![Survivors::None];
        if crasher.is_unsettled() {
            choices.push(Survivors::All);
            choices.extend((0..setup.choices).map(|_| Survivors::Some(random.number())));
        }
        for survivors in choices {
            report.images += 1;
            let image = Arc::new(crasher.image(survivors));
            let result = recover(setup, image, &history, crasher.promised(), &mut random);
            match result {
                Ok(torn) => report.torn += u64::from(torn),
                Err(error) => {
                    let at = format!("seed {} operation {} {survivors:?}", setup.seed, crasher.at());
                    report.violations.push(format!("{at}: {error}"));
                }
            }
        }
        if !crasher.step() || !report.violations.is_empty() {
            return report;
        }
    }
}

/// Recovers and checks; sometimes goes on and crashes again. Says whether there was a torn tail.
fn recover(
    setup: &Setup,
    image: Arc<SimDisk>,
    history: &History,
    promised: u64,
    random: &mut Random,
) -> Result<bool, String> {
    let (before, dirs) = (image.files(), image.dirs());
    let (last, torn) = check(setup, &image, history, promised)?;
    if random.one_in(4) {
        let seed = random.number();
        let again = Setup { seed, ..*setup };
        let continued = work(&image, &again, history.up_to(last), 5)?;
        let ops = image.ops();
        let mut crasher = Crasher::new(before, dirs, &ops);
        let stop = random.below(ops.len() as u64 + 1);
        for _ in 0..stop {
            crasher.step();
        }
        let image = Arc::new(crasher.image(Survivors::Some(random.number())));
        check(setup, &image, &continued, promised.max(crasher.promised()))
            .map_err(|error| format!("then operation {stop} of seed {seed}: {error}"))?;
    }
    Ok(torn)
}

/// Opens the journal and compares; returns its last index and whether it had a torn tail.
fn check(setup: &Setup, sim: &Arc<SimDisk>, history: &History, promised: u64) -> Result<(u64, bool), String> {
    let mut wrong = None;
    let opened = Journal::open(disk(sim, setup), Path::new(DIR), options(promised > 0), |item| match item {
        JournalItem::Snapshot { index, content } => {
            if content != snapshot_content(index) {
                wrong = Some(format!("snapshot {index} is not what was installed"));
            }
        }
        JournalItem::Entry { index, content } => {
            if history.0.get(index as usize - 1).and_then(|entry| entry.as_deref()) != Some(content) {
                wrong = Some(format!("entry {index} is not what was appended"));
            }
        }
    });
    let (_, report) = opened.map_err(|error| format!("does not open: {error}"))?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    if report.last_index < promised {
        return Err(format!("ends at {} although {promised} was reported durable", report.last_index));
    }
    Ok((report.last_index, report.torn_bytes > 0))
}

fn disk(sim: &Arc<SimDisk>, setup: &Setup) -> Arc<dyn Disk> {
    match setup.mutation {
        Some(mutation) => Arc::new(MutantDisk::new(Arc::<SimDisk>::clone(sim), mutation)),
        None => Arc::<SimDisk>::clone(sim),
    }
}

fn options(expect_existing: bool) -> JournalOptions {
    JournalOptions { expect_existing, ..JournalOptions::new(*b"simulated store!") }
}

/// Opens the journal, which holds what `history` says, and works on it.
fn work(sim: &Arc<SimDisk>, setup: &Setup, mut history: History, steps: u32) -> Result<History, String> {
    let mut random = Random::new(setup.seed);
    let open = |expect_existing| {
        Journal::open(disk(sim, setup), Path::new(DIR), options(expect_existing), |_| {})
            .map(|(journal, report)| {
                sim.note(report.last_index);
                journal
            })
            .map_err(|error| error.to_string())
    };
    let mut journal = open(history.last() > 0)?;
    for _ in 0..steps {
        match random.below(20) {
            0..10 => {
                for _ in 0..=random.below(3) {
                    // Few sizes now and then: what a torn write left then fits exactly behind what is next.
                    let size = if random.one_in(3) { random.below(1500) } else { 32 * random.below(3) };
                    let entry: Vec<u8> = (0..size).map(|_| random.number() as u8).collect();
                    journal.append(history.last() + 1, &entry).map_err(|error| error.to_string())?;
                    history.0.push(Some(entry));
                }
            }
            10..16 => sim.note(journal.sync().map_err(|error| error.to_string())?),
            16 | 17 => {
                let oldest = journal.snapshot_index().max(1);
                let span = (history.last() + 1).saturating_sub(oldest).max(1);
                let beyond = if random.one_in(4) { 3 } else { 0 };
                let index = oldest + random.below(span) + beyond;
                journal
                    .install_snapshot(index, &snapshot_content(index))
                    .map_err(|error| error.to_string())?;
                while history.last() < index {
                    history.0.push(None);
                }
                sim.note(history.last());
            }
            18 => {
                journal.close().map_err(|error| error.to_string())?;
                sim.note(history.last());
                journal = open(true)?;
            }
            _ => {
                // A `kill -9` between two appends and their sync: what was not written is gone.
                drop(journal);
                journal = open(true)?;
                history.0.truncate(journal.last_index() as usize);
            }
        }
    }
    sim.note(journal.sync().map_err(|error| error.to_string())?);
    Ok(history)
}

#[cfg(test)]
mod tests;
