//! Publisher confirms (RabbitMQ extension `confirm.select`): numbers publishes and says which may be
//! acknowledged.
//!
//! Messages of one read batch are confirmed together. A batch that touched the log waits until the log is
//! durable up to the batch's position; one that did not is confirmed at once, unless an earlier batch still
//! waits: confirms go out in order, so that each is one `basic.ack` with `multiple`.
//!
//! In a cluster a batch can wait for more than the log: for the node that leads a queue, for a mirror. Each of
//! them is a gate with positions of its own, and the batch has a [`Mark`] for each.

use std::collections::VecDeque;

/// Something beside the log that confirms wait for. Its positions only grow.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GateId(pub u32);

/// How far a gate has to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The gate.
    pub gate: GateId,
    /// The position.
    pub position: u64,
}

/// What a gate says about a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pass {
    /// Not there yet.
    Waits,
    /// It is behind.
    Passed,
    /// It will never be reached: what waits for it is refused.
    Failed,
}

/// Publisher confirms of one channel.
#[derive(Debug, Default)]
pub struct Confirms {
    last: u64,
    confirmed: u64,
    pending: VecDeque<Pending>,
    rejected: VecDeque<u64>,
    /// Batches among the pending that have marks.
    marked: usize,
}

#[derive(Debug)]
struct Pending {
    last: u64,
    position: u64,
    /// None for a node alone: nothing is allocated for it.
    marks: Option<Box<[Mark]>>,
}

impl Pending {
    fn pass(&self, pass: &impl Fn(Mark) -> Pass) -> Pass {
        let mut all = Pass::Passed;
        for mark in self.marks.iter().flatten() {
            match pass(*mark) {
                Pass::Passed => {}
                Pass::Failed => return Pass::Failed,
                Pass::Waits => all = Pass::Waits,
            }
        }
        all
    }
}

/// What to tell the publisher.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirm {
    /// `basic.ack`.
    Ack {
        /// Number of the publish.
        tag: u64,
        /// Everything before it too.
        multiple: bool,
    },
    /// `basic.nack` of one publish.
    Nack {
        /// Number of the publish.
        tag: u64,
    },
}

impl Confirms {
    /// Number of the next publish, counting from 1.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Number of the publish that is numbered next.
    pub fn next_number(&self) -> u64 {
        self.last + 1
    }

    /// The publish numbered last was refused by a queue.
    pub fn reject(&mut self) {
        self.rejected.push_back(self.last);
    }

    /// A publish numbered before was refused by a queue far away. One that is confirmed already stays so.
    pub fn refuse(&mut self, tag: u64) {
        if tag <= self.confirmed || tag > self.last {
            return;
        }
        let at = self.rejected.partition_point(|known| *known < tag);
        if self.rejected.get(at) != Some(&tag) {
            self.rejected.insert(at, tag);
        }
    }

    /// Ends a batch: everything numbered so far may be confirmed once the log is durable up to `position`
    /// (0: needs no log) and all `marks` are passed.
    pub fn end_batch(
        &mut self,
        position: u64,
        marks: &[Mark],
        durable: u64,
        pass: impl Fn(Mark) -> Pass,
        emit: impl FnMut(Confirm),
    ) {
        let batch_start = self.pending.back().map_or(self.confirmed, |pending| pending.last);
        if self.last == batch_start {
            return;
        }
        match self.pending.back_mut() {
            Some(back) if back.position >= position && marks.is_empty() => back.last = self.last,
            _ => {
                self.marked += usize::from(!marks.is_empty());
                let marks = (!marks.is_empty()).then(|| marks.into());
                self.pending.push_back(Pending { last: self.last, position, marks });
            }
        }
        self.durable(durable, pass, emit);
    }

    /// The log is durable up to `position`, and the gates are where `pass` says.
    pub fn durable(&mut self, position: u64, pass: impl Fn(Mark) -> Pass, mut emit: impl FnMut(Confirm)) {
        let mut upto = self.confirmed;
        while let Some(front) = self.pending.front() {
            let passed = front.pass(&pass);
            if passed == Pass::Waits || (passed == Pass::Passed && front.position > position) {
                break;
            }
            let last = front.last;
            self.marked -= usize::from(front.marks.is_some());
            self.pending.pop_front();
            if passed == Pass::Failed {
                self.settle(upto, &mut emit);
                self.nack(last, &mut emit);
            }
            upto = last;
        }
        self.settle(upto, &mut emit);
    }

    /// Everything up to `upto` is done with; what queues refused is told.
    fn settle(&mut self, upto: u64, emit: &mut impl FnMut(Confirm)) {
        while let Some(&tag) = self.rejected.front() {
            if tag > upto {
                break;
            }
            self.rejected.pop_front();
            self.ack(tag - 1, emit);
            emit(Confirm::Nack { tag });
            self.confirmed = tag;
        }
        self.ack(upto, emit);
    }

    fn ack(&mut self, tag: u64, emit: &mut impl FnMut(Confirm)) {
        if tag > self.confirmed {
            emit(Confirm::Ack { tag, multiple: tag > self.confirmed + 1 });
            self.confirmed = tag;
        }
    }

    /// Nothing up to `upto` is safe.
    fn nack(&mut self, upto: u64, emit: &mut impl FnMut(Confirm)) {
        while self.rejected.front().is_some_and(|tag| *tag <= upto) {
            self.rejected.pop_front();
        }
        for tag in self.confirmed + 1..=upto {
            emit(Confirm::Nack { tag });
        }
        self.confirmed = self.confirmed.max(upto);
    }

    /// Whether confirms wait for the log or a gate.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether confirms wait for a gate.
    pub fn is_marked(&self) -> bool {
        self.marked > 0
    }

    /// Publishes not yet confirmed.
    pub fn unconfirmed(&self) -> u64 {
        self.last - self.confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ack(tag: u64, multiple: bool) -> Confirm {
        Confirm::Ack { tag, multiple }
    }

    fn no_gates(mark: Mark) -> Pass {
        panic!("asked for {mark:?}")
    }

    fn end(confirms: &mut Confirms, position: u64, durable: u64) -> Vec<Confirm> {
        let mut out = Vec::new();
        confirms.end_batch(position, &[], durable, no_gates, |confirm| out.push(confirm));
        out
    }

    fn durable(confirms: &mut Confirms, position: u64) -> Vec<Confirm> {
        let mut out = Vec::new();
        confirms.durable(position, no_gates, |confirm| out.push(confirm));
        out
    }

    #[test]
    fn a_batch_without_log_is_confirmed_at_once() {
        let mut confirms = Confirms::default();
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 0), [ack(1, false)]);
        confirms.number();
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 0), [ack(3, true)]);
        assert_eq!(end(&mut confirms, 0, 0), []);
    }

    #[test]
    fn a_logged_batch_waits_for_its_position_and_later_ones_wait_behind_it() {
        let mut confirms = Confirms::default();
        confirms.number();
        assert_eq!(end(&mut confirms, 10, 5), []);
        confirms.number();
        assert_eq!(end(&mut confirms, 0, 5), []);
        confirms.number();
        assert_eq!(end(&mut confirms, 12, 5), []);
        assert!(confirms.is_waiting());
        assert_eq!(durable(&mut confirms, 9), []);
        assert_eq!(durable(&mut confirms, 11), [ack(2, true)]);
        assert_eq!(durable(&mut confirms, 12), [ack(3, false)]);
        assert!(!confirms.is_waiting());
        assert_eq!(confirms.unconfirmed(), 0);
    }

    #[test]
    fn every_publish_is_settled_once_also_around_refused_ones() {
        let mut confirms = Confirms::default();
        for tag in 1..=6 {
            confirms.number();
            if tag == 3 || tag == 6 {
                confirms.reject();
            }
        }
        let expected = [ack(2, true), Confirm::Nack { tag: 3 }, ack(5, true), Confirm::Nack { tag: 6 }];
        assert_eq!(end(&mut confirms, 0, 0), expected);
    }

    /// Gates by their number; -1 has failed.
    fn passing(positions: [i64; 2]) -> impl Fn(Mark) -> Pass {
        move |mark| match positions[mark.gate.0 as usize - 1] {
            -1 => Pass::Failed,
            position if position >= mark.position as i64 => Pass::Passed,
            _ => Pass::Waits,
        }
    }

    const fn mark(gate: u32, position: u64) -> Mark {
        Mark { gate: GateId(gate), position }
    }

    fn gated(confirms: &mut Confirms, durable: u64, gates: [i64; 2]) -> Vec<Confirm> {
        let mut out = Vec::new();
        confirms.durable(durable, passing(gates), |confirm| out.push(confirm));
        out
    }

    #[test]
    fn a_batch_waits_for_all_its_marks_and_for_the_log() {
        let mut confirms = Confirms::default();
        confirms.number();
        confirms.end_batch(7, &[mark(1, 3), mark(2, 5)], 7, passing([0, 0]), |_| panic!("too early"));
        confirms.number();
        confirms.end_batch(0, &[], 7, passing([0, 0]), |_| panic!("out of order"));
        assert!(confirms.is_marked());
        assert_eq!(gated(&mut confirms, 7, [3, 4]), []);
        assert_eq!(gated(&mut confirms, 6, [3, 5]), []);
        assert_eq!(gated(&mut confirms, 7, [3, 5]), [ack(2, true)]);
        assert!(!confirms.is_marked() && !confirms.is_waiting());
    }

    #[test]
    fn a_failed_gate_refuses_its_batch_and_no_other() {
        let mut confirms = Confirms::default();
        confirms.number();
        confirms.end_batch(9, &[], 0, passing([0, 0]), |_| panic!("too early"));
        confirms.number();
        confirms.number();
        confirms.end_batch(10, &[mark(1, 1)], 0, passing([0, 0]), |_| panic!("too early"));
        confirms.number();
        confirms.end_batch(11, &[mark(2, 1)], 0, passing([0, 0]), |_| panic!("too early"));
        assert_eq!(gated(&mut confirms, 8, [-1, 1]), []);
        let nack = |tag| Confirm::Nack { tag };
        assert_eq!(gated(&mut confirms, 9, [-1, 1]), [ack(1, false), nack(2), nack(3)]);
        assert_eq!(gated(&mut confirms, 11, [-1, 1]), [ack(4, false)]);
        assert_eq!(confirms.unconfirmed(), 0);
    }

    #[test]
    fn a_refusal_from_far_away_is_told_in_its_place() {
        let mut confirms = Confirms::default();
        for _ in 0..3 {
            confirms.number();
        }
        confirms.end_batch(0, &[mark(1, 3)], 0, passing([0, 0]), |_| panic!("too early"));
        confirms.refuse(3);
        confirms.refuse(2);
        confirms.refuse(2);
        confirms.refuse(9);
        let nack = |tag| Confirm::Nack { tag };
        assert_eq!(gated(&mut confirms, 0, [3, 0]), [ack(1, false), nack(2), nack(3)]);
        confirms.refuse(1);
        assert_eq!(gated(&mut confirms, 0, [3, 0]), []);
    }
}
