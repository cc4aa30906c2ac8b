//! Crash enumeration over the replicated log of metadata.
//!
//! The promise checked after every crash: what is recovered (the vote, the entries, and the state of the
//! snapshot) is what was there after some change, and that change is not older than the last one that was
//! reported durable. So a vote is never forgotten, an acknowledged entry never lost, and an entry that was
//! taken back never comes back under a newer one. The log can then be written on, with the same promise.

use std::path::Path;
use std::sync::Arc;

use broker_store::journal::JournalOptions;
use broker_store::raft_log::{LogEntry, LogId, Payload, RaftLog, SnapshotHead, Vote};
use bytes::Bytes;

use crate::disk::SimDisk;
use crate::enumeration::{self, Report, Setup, Subject};
use crate::random::Random;

/// Where the log lives on the simulated disk.
pub const DIR: &str = "/data/raft";

/// A change of the log.
#[derive(Debug, Clone)]
enum Change {
    Vote(Vote),
    Append(LogEntry),
    Truncate(Option<LogId>),
}

/// The changes ever made, in order.
#[derive(Debug, Clone, Default)]
struct History(Vec<Change>);

impl History {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    /// The vote and all entries, purged or not, after this many changes.
    fn after(&self, count: usize) -> (Option<Vote>, Vec<LogEntry>) {
        let (mut vote, mut entries) = (None, Vec::new());
        for change in &self.0[..count] {
            match change {
                Change::Vote(it) => vote = Some(*it),
                Change::Append(entry) => entries.push(entry.clone()),
                Change::Truncate(last) => entries.truncate(last.map_or(0, |id| id.index as usize + 1)),
            }
        }
        (vote, entries)
    }
}

/// What the state machine would have made of the log up to an entry.
fn state_at(last: Option<LogId>) -> Vec<u8> {
    let seed = last.map_or(0, |id| id.term * 1000 + id.index + 1);
    let mut random = Random::new(seed);
    (0..100 + seed * 7 % 900).map(|_| random.number() as u8).collect()
}

/// Runs a workload and recovers from every crash.
#[must_use]
pub fn enumerate(setup: &Setup) -> Report {
    enumeration::enumerate::<Changes>(setup)
}

struct Changes;

impl Subject for Changes {
    type History = History;
    const SALT: u64 = 0x7af7;

    fn work(sim: &Arc<SimDisk>, setup: &Setup, history: History, steps: u32) -> Result<History, String> {
        work(sim, setup, history, steps)
    }

    fn check(
        setup: &Setup,
        sim: &Arc<SimDisk>,
        history: &History,
        promised: u64,
    ) -> Result<(History, bool), String> {
        let (_, found, torn) = open(setup, sim, history, promised)?;
        Ok((found, torn))
    }
}

/// Opens the log and finds out after which change it is; returns it with the history up to there, and whether
/// it had a torn tail.
fn open(
    setup: &Setup,
    sim: &Arc<SimDisk>,
    history: &History,
    promised: u64,
) -> Result<(RaftLog, History, bool), String> {
    let options =
        JournalOptions { expect_existing: promised > 0, ..JournalOptions::new(*b"simulated store!") };
    let mut state = None;
    let (log, report) =
        RaftLog::open(setup.disk(sim), Path::new(DIR), options, |octets| state = Some(octets.to_vec()))
            .map_err(|error| format!("does not open: {error}"))?;
    let (purged, last) = log.ends();
    if let Some(head) = log.snapshot_head()
        && (head.last != purged || state != Some(state_at(head.last)) || head.members != members(head.last))
    {
        return Err(format!("the snapshot at {purged:?} is not what was installed"));
    }
    let entries = log.entries(0, u64::MAX);
    let fits = |count: &usize| {
        let (vote, all) = history.after(*count);
        let kept = purged.map_or(0, |id| id.index as usize + 1);
        vote == log.vote()
            && all.last().map(|entry| entry.id) == last
            && all.len() >= kept
            && all[..kept].last().map(|entry| entry.id) == purged
            && all[kept..] == entries
    };
    match (promised as usize..=history.0.len()).find(fits) {
        Some(count) => {
            let found = History(history.0[..count].to_vec());
            Ok((log, found, report.torn_bytes > 0))
        }
        None => Err(format!(
            "ends at {last:?} with the vote {:?}, which is no state since change {promised} was reported durable",
            log.vote()
        )),
    }
}

fn members(last: Option<LogId>) -> Bytes {
    Bytes::from(format!("members at {last:?}"))
}

/// Opens the log, which holds what `history` says, and works on it.
fn work(sim: &Arc<SimDisk>, setup: &Setup, history: History, steps: u32) -> Result<History, String> {
    let mut random = Random::new(setup.seed);
    let text = |error: broker_store::journal::JournalError| error.to_string();
    let (mut log, mut history, _) = open(setup, sim, &history, history.count())?;
    let mut noted = history.count();
    sim.note(noted);
    for _ in 0..steps {
        let (purged, last) = log.ends();
        let term = log.vote().map_or(1, |vote| vote.term);
        match random.below(20) {
            0..8 => {
                for _ in 0..=random.below(3) {
                    let index = log.ends().1.map_or(0, |id| id.index + 1);
                    let entry = entry(&mut random, LogId { term, node: 1, index });
                    log.append(entry.clone()).map_err(text)?;
                    history.0.push(Change::Append(entry));
                }
            }
            8 | 9 => {
                let vote =
                    Vote { term: term + random.below(2), node: random.below(3), won: random.one_in(2) };
                log.save_vote(vote).map_err(text)?;
                history.0.push(Change::Vote(vote));
            }
            10 => {
                // Never what a snapshot includes.
                let kept = log.entries(0, u64::MAX);
                let stay = random.below(kept.len() as u64 + 1) as usize;
                let last = kept[..stay].last().map(|entry| entry.id).or(purged);
                log.truncate_after(last).map_err(text)?;
                history.0.push(Change::Truncate(last));
            }
            11..16 => {
                log.sync().map_err(text)?;
                noted = history.count();
            }
            16 | 17 => {
                let first = purged.map_or(0, |id| id.index);
                let span = last.map_or(0, |id| id.index + 1 - first);
                let at =
                    log.entries(first + random.below(span.max(1)), u64::MAX).first().map(|entry| entry.id);
                let last = at.or(purged);
                log.install_snapshot(&SnapshotHead { last, members: members(last) }, &state_at(last))
                    .map_err(text)?;
                if let Some(last) = last {
                    log.purge(last);
                }
                noted = history.count();
            }
            18 => {
                log.close().map_err(text)?;
                noted = history.count();
                drop(log);
                (log, history, _) = open(setup, sim, &history, history.count())?;
            }
            _ => {
                // A `kill -9`: what was not written is gone.
                drop(log);
                (log, history, _) = open(setup, sim, &history, noted)?;
            }
        }
        sim.note(noted);
    }
    log.sync().map_err(text)?;
    sim.note(history.count());
    Ok(history)
}

fn entry(random: &mut Random, id: LogId) -> LogEntry {
    let size = if random.one_in(3) { random.below(1500) } else { 32 * random.below(3) };
    let octets: Bytes = (0..size).map(|_| random.number() as u8).collect();
    let payload = match random.below(6) {
        0 => Payload::Blank,
        1 => Payload::Members(octets),
        _ => Payload::Command(octets),
    };
    LogEntry { id, payload }
}

#[cfg(test)]
mod tests;
