//! Crash enumeration over the journal.
//!
//! The promises checked after every crash: the journal opens; it holds every entry that was
//! reported durable, either itself or in the snapshot; entries and snapshot are what was given to it;
//! and it can be written on, with the same promises after another crash.

use std::path::Path;
use std::sync::Arc;

use broker_store::journal::{Journal, JournalItem, JournalOptions};

use crate::disk::SimDisk;
use crate::enumeration::{self, Report, Setup, Subject};
use crate::random::Random;

/// Where the journal lives on the simulated disk.
pub const DIR: &str = "/data/journal";

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
    enumeration::enumerate::<Entries>(setup)
}

struct Entries;

impl Subject for Entries {
    type History = History;
    const SALT: u64 = 0x10a4;

    fn work(sim: &Arc<SimDisk>, setup: &Setup, history: History, steps: u32) -> Result<History, String> {
        work(sim, setup, history, steps)
    }

    fn check(
        setup: &Setup,
        sim: &Arc<SimDisk>,
        history: &History,
        promised: u64,
    ) -> Result<(History, bool), String> {
        let (last, torn) = check(setup, sim, history, promised)?;
        Ok((history.up_to(last), torn))
    }
}

/// Opens the journal and compares; returns its last index and whether it had a torn tail.
fn check(setup: &Setup, sim: &Arc<SimDisk>, history: &History, promised: u64) -> Result<(u64, bool), String> {
    let mut wrong = None;
    let opened = Journal::open(setup.disk(sim), Path::new(DIR), options(promised > 0), |item| match item {
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

fn options(expect_existing: bool) -> JournalOptions {
    JournalOptions { expect_existing, ..JournalOptions::new(*b"simulated store!") }
}

/// Opens the journal, which holds what `history` says, and works on it.
fn work(sim: &Arc<SimDisk>, setup: &Setup, mut history: History, steps: u32) -> Result<History, String> {
    let mut random = Random::new(setup.seed);
    let open = |expect_existing| {
        Journal::open(setup.disk(sim), Path::new(DIR), options(expect_existing), |_| {})
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
