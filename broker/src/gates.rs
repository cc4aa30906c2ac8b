//! Gates: what confirms wait for beside the log. A node alone has none.
//!
//! Whoever lets others take part in a publish (the leader of a queue on another node, the mirrors of a queue here)
//! opens a gate for each of them and numbers what it sends there. A publish carries marks, pairs of gate and
//! position, and is confirmed when all of them are passed ([`broker_core::channel::confirm`]). Positions only grow.

use broker_core::channel::confirm::{GateId, Mark, Pass};
use parking_lot::{RwLock, RwLockReadGuard};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Gates that ended and are still known, for those who have not looked yet. One that is not known any more counts
/// as failed: to refuse what was safe is a nuisance, to confirm what was not is a loss.
const ENDED: usize = 1024;

/// All gates of a node.
#[derive(Debug)]
pub(crate) struct Gates {
    state: RwLock<State>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    gates: FxHashMap<GateId, Gate>,
    last: u32,
    ended: VecDeque<GateId>,
}

#[derive(Clone, Copy, Debug)]
enum Gate {
    At(u64),
    /// Everything may pass.
    Released,
    /// Nothing beyond this passes any more.
    Failed(u64),
}

impl Default for Gates {
    fn default() -> Self {
        Gates { state: RwLock::default(), changed: watch::Sender::new(0) }
    }
}

impl Gates {
    /// A new gate at position 0.
    pub(crate) fn open(&self) -> GateId {
        let mut state = self.state.write();
        state.last += 1;
        let gate = GateId(state.last);
        state.gates.insert(gate, Gate::At(0));
        gate
    }

    /// The gate has come to this position.
    pub(crate) fn advance(&self, gate: GateId, position: u64) {
        {
            let mut state = self.state.write();
            match state.gates.get_mut(&gate) {
                Some(Gate::At(at)) if *at < position => *at = position,
                _ => return,
            }
        }
        self.poke();
    }

    /// The gate is needed no more: everything passes.
    pub(crate) fn release(&self, gate: GateId) {
        self.end(gate, |_| Gate::Released);
    }

    /// The gate will come no further: what waits for it is refused.
    pub(crate) fn fail(&self, gate: GateId) {
        self.end(gate, Gate::Failed);
    }

    fn end(&self, gate: GateId, how: impl FnOnce(u64) -> Gate) {
        {
            let mut state = self.state.write();
            let Some(found) = state.gates.get_mut(&gate) else { return };
            let Gate::At(at) = *found else { return };
            *found = how(at);
            state.ended.push_back(gate);
            if state.ended.len() > ENDED
                && let Some(oldest) = state.ended.pop_front()
            {
                state.gates.remove(&oldest);
            }
        }
        self.poke();
    }

    /// Where the gate is.
    #[cfg(test)]
    pub(crate) fn position(&self, gate: GateId) -> u64 {
        match self.state.read().gates.get(&gate) {
            Some(Gate::At(at) | Gate::Failed(at)) => *at,
            Some(Gate::Released) => u64::MAX,
            None => 0,
        }
    }

    /// Looks at many marks under one lock.
    pub(crate) fn look(&self) -> Look<'_> {
        Look(self.state.read())
    }

    /// Follows that something has changed.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes everybody who follows.
    pub(crate) fn poke(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Waits until all marks are passed. `false`: one of them never will be.
    pub(crate) async fn passed(&self, marks: &[Mark]) -> bool {
        let mut changed = self.subscribe();
        loop {
            changed.mark_unchanged();
            let all = marks.iter().map(|mark| self.look().pass(*mark)).fold(Pass::Passed, worse);
            match all {
                Pass::Passed => return true,
                Pass::Failed => return false,
                Pass::Waits => {}
            }
            if changed.changed().await.is_err() {
                return false;
            }
        }
    }
}

fn worse(one: Pass, other: Pass) -> Pass {
    match (one, other) {
        (Pass::Failed, _) | (_, Pass::Failed) => Pass::Failed,
        (Pass::Waits, _) | (_, Pass::Waits) => Pass::Waits,
        (Pass::Passed, Pass::Passed) => Pass::Passed,
    }
}

/// A look at the gates; they stay where they are meanwhile.
pub(crate) struct Look<'a>(RwLockReadGuard<'a, State>);

impl Look<'_> {
    /// What a mark's gate says.
    pub(crate) fn pass(&self, mark: Mark) -> Pass {
        match self.0.gates.get(&mark.gate) {
            Some(Gate::Released) => Pass::Passed,
            Some(Gate::At(at) | Gate::Failed(at)) if *at >= mark.position => Pass::Passed,
            Some(Gate::At(_)) => Pass::Waits,
            Some(Gate::Failed(_)) | None => Pass::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_only_moves_forward_and_ends_once() {
        let gates = Gates::default();
        let changes = gates.subscribe();
        let (one, other) = (gates.open(), gates.open());
        assert_ne!(one, other);
        let pass = |gate, position| gates.look().pass(Mark { gate, position });
        assert_eq!(pass(one, 1), Pass::Waits);
        gates.advance(one, 5);
        gates.advance(one, 3);
        assert_eq!((gates.position(one), gates.position(other)), (5, 0));
        assert_eq!((pass(one, 5), pass(one, 6), pass(other, 1)), (Pass::Passed, Pass::Waits, Pass::Waits));
        gates.fail(one);
        gates.release(one);
        gates.advance(one, 9);
        assert_eq!((pass(one, 5), pass(one, 6)), (Pass::Passed, Pass::Failed));
        gates.release(other);
        assert_eq!(pass(other, u64::MAX), Pass::Passed);
        assert_eq!(*changes.borrow(), 3, "one each for the advance, the failure and the release");
    }

    #[test]
    fn what_is_forgotten_counts_as_failed() {
        let gates = Gates::default();
        let first = gates.open();
        gates.release(first);
        for _ in 0..ENDED {
            let gate = gates.open();
            gates.fail(gate);
        }
        assert_eq!(gates.look().pass(Mark { gate: first, position: 1 }), Pass::Failed);
        assert!(gates.state.read().gates.len() <= ENDED);
    }

    #[tokio::test]
    async fn waiting_ends_when_all_are_passed_or_one_has_failed() {
        let gates = Gates::default();
        let (one, other) = (gates.open(), gates.open());
        let marks = [Mark { gate: one, position: 2 }, Mark { gate: other, position: 1 }];
        let (passed, ()) = tokio::join!(gates.passed(&marks), async {
            gates.advance(one, 2);
            tokio::task::yield_now().await;
            gates.advance(other, 1);
        });
        assert!(passed);
        let marks = [Mark { gate: one, position: 3 }];
        let (passed, ()) = tokio::join!(gates.passed(&marks), async { gates.fail(one) });
        assert!(!passed);
    }
}
