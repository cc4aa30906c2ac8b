//! The protocol of mirrored queues as a model, explored state by state.
//!
//! One queue on three nodes. The decisions (who leads at which epoch, who is in sync) are a linear history of
//! configurations, which each node applies in order but as late as it likes. What leaders ship, followers take in, fill
//! in and sync, and what they say of it, happens in any order; nodes lose what was not synced; healthy nodes are
//! suspected. Whatever was synced is folded into the set of messages that are alive at once: the records themselves
//! are collected as early as can be, so nothing in the protocol can rest on old ones.
//!
//! Two promises are checked in every state, for every member of the in-sync set:
//!
//! * a confirmed message that no consumer has acknowledged is on its disk;
//! * a message whose removal all members have on disk does not come back.
//!
//! [`Mutant`] breaks one rule each; `tests.rs` demands that every one of them is caught.

mod state;
mod steps;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};

use self::state::State;
pub use self::steps::Step;

/// How much may happen in one history.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Messages published, beside the two that are there.
    pub publishes: u8,
    /// Messages that consumers acknowledge.
    pub drops: u8,
    /// Configurations after the first.
    pub changes: u8,
    /// Power losses.
    pub crashes: u8,
    /// Nodes declared down, rightly or not.
    pub downs: u8,
    /// Messages written again so that old log files can go.
    pub collections: u8,
}

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// I1: a follower acknowledges what it has not synced.
    AckBeforeSync,
    /// I2: a follower that is proposed for the in-sync set does not count until that is committed.
    ExpansionUncounted,
    /// I3: a follower stops counting before its removal is committed.
    EarlyShrink,
    /// I4: a follower is proposed that has not got everything.
    ExpandBehind,
    /// I5: a proposal that was made for an older configuration is accepted.
    StaleExpand,
    /// I6: a follower listens to the leader of an older epoch than it knows.
    NoFence,
    /// I6: the epoch that a node knows is not on its disk.
    FenceForgotten,
    /// I7: a leader that restarted goes on in its old epoch.
    ResumedEpoch,
    /// I9: a node that is not in sync is made leader.
    UnsyncedPromoted,
    /// Reconciling compares positions, whoever gave them out.
    ReconcileByPosition,
    /// Reconciling leaves what the leader does not have: its removal is in no record any more.
    ReconcileKeeps,
    /// A message that is filled in is taken whether or not it is still missing.
    FillRevives,
    /// Messages that a follower still has to be given do not count.
    FillUncounted,
    /// Old records go before what was written again is synced.
    CollectedEarly,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AckBeforeSync,
        Self::ExpansionUncounted,
        Self::EarlyShrink,
        Self::ExpandBehind,
        Self::StaleExpand,
        Self::NoFence,
        Self::FenceForgotten,
        Self::ResumedEpoch,
        Self::UnsyncedPromoted,
        Self::ReconcileByPosition,
        Self::ReconcileKeeps,
        Self::FillRevives,
        Self::FillUncounted,
        Self::CollectedEarly,
    ];
}

/// What exploring found.
#[derive(Debug)]
pub enum Outcome {
    /// Every state within the bounds keeps the promises.
    Holds,
    /// So does every state that was looked at, but there are more.
    OutOfStates,
    /// These steps lead to a state that does not.
    Broken(Vec<Step>),
}

/// The result of [`explore`].
#[derive(Debug)]
pub struct Explored {
    /// How many states were seen.
    pub states: usize,
    /// What was found.
    pub outcome: Outcome,
}

/// Explores breadth first, so that a history that breaks a promise is a shortest one.
#[must_use]
pub fn explore(bounds: Bounds, mutant: Option<Mutant>, most_states: usize) -> Explored {
    let first = State::first();
    let start = first.fingerprint();
    // Where each state was reached from. Two states of one fingerprint would hide one of them: with 64 bits and
    // millions of states that does not happen.
    let mut seen: HashMap<u64, (u64, Step)> = HashMap::from([(start, (start, Step::Start))]);
    let mut ahead = VecDeque::from([(first, start)]);
    let mut broken = None;
    while let Some((state, from)) = ahead.pop_front() {
        steps::each(&state, bounds, mutant, &mut |step, next| {
            let fingerprint = next.fingerprint();
            let Entry::Vacant(vacant) = seen.entry(fingerprint) else { return };
            vacant.insert((from, step));
            if broken.is_none() && !next.keeps_promises() {
                broken = Some(fingerprint);
            }
            ahead.push_back((next, fingerprint));
        });
        let states = seen.len();
        if let Some(at) = broken {
            return Explored { states, outcome: Outcome::Broken(history(&seen, start, at)) };
        }
        if states >= most_states {
            return Explored { states, outcome: Outcome::OutOfStates };
        }
    }
    Explored { states: seen.len(), outcome: Outcome::Holds }
}

fn history(seen: &HashMap<u64, (u64, Step)>, start: u64, mut at: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    while at != start {
        let (from, step) = seen[&at];
        steps.push(step);
        at = from;
    }
    steps.reverse();
    steps
}
