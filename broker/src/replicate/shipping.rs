//! Which records of a turn go to copies on other nodes: noted while they are gathered for the log, looked at when the
//! log gets them.

use broker_core::ids::QueueId;
use broker_core::record::{QseqRange, Record};
use std::ops::Range;

/// Records of one queue that follow each other.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) queue: QueueId,
    /// Where they lie.
    pub(super) octets: Range<usize>,
    pub(super) records: u64,
    /// Messages enter the queue: somebody may wait for a confirm.
    pub(super) enters: bool,
    /// Messages leave the queue.
    drops: bool,
}

impl Run {
    /// The positions that left the queue; `all` is what the turn gathered.
    pub(super) fn dropped(&self, all: &[u8]) -> Vec<QseqRange> {
        let mut dropped = Vec::new();
        let mut rest = if self.drops { all.get(self.octets.clone()).unwrap_or_default() } else { &[] };
        while let Ok((record, used)) = Record::decode(rest) {
            if let Record::Drop { ranges, .. } = record {
                dropped.extend(ranges.iter());
            }
            rest = &rest[used..];
        }
        dropped
    }
}

/// The records of a turn that copies may need; part of its buffers.
#[derive(Debug, Default)]
pub(crate) struct Shipping {
    /// The node leads queues that have copies.
    on: bool,
    home: bool,
    runs: Vec<Run>,
}

impl Shipping {
    /// A shard was locked; `leads` says whether any queue of the node has copies.
    pub(crate) fn begin(&mut self, leads: bool) {
        self.on = leads;
    }

    /// Whether records have to be noted.
    pub(crate) fn is_on(&self) -> bool {
        self.on && !self.home
    }

    /// What is gathered from now on concerns this node only, or does not. Returns what was said before.
    pub(crate) fn stay_home(&mut self, home: bool) -> bool {
        std::mem::replace(&mut self.home, home)
    }

    /// Whether nothing is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Notes a record and where it lies.
    pub(crate) fn note(&mut self, record: &Record<'_>, octets: Range<usize>) {
        let (enters, drops) = match record {
            Record::Enq(_) => (true, false),
            Record::Drop { .. } => (false, true),
            Record::Requeue { .. } | Record::Hwm { .. } => (false, false),
            // What a node does with its own files is its own affair.
            _ => return,
        };
        let Some(queue) = record.queue_id().map(QueueId) else { return };
        match self.runs.last_mut() {
            Some(run) if run.queue == queue && run.octets.end == octets.start => {
                run.octets.end = octets.end;
                run.records += 1;
                run.enters |= enters;
                run.drops |= drops;
            }
            _ => self.runs.push(Run { queue, octets, records: 1, enters, drops }),
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Run> + '_ {
        self.runs.drain(..)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_core::record::{At, DropReason, Enq, Message};

    #[test]
    fn records_that_follow_each_other_are_one_run_and_what_concerns_files_is_none() {
        let mut octets = Vec::new();
        let mut shipping = Shipping::default();
        shipping.begin(true);
        let at = |queue_id| At { queue_id, epoch: 1, off: 0 };
        let range = QseqRange { first: 3, last: 5 };
        let enq =
            |queue_id| Record::Enq(Enq { queue_id, epoch: 1, off: 0, qseq: 9, message: Message::default() });
        let dropped = Record::Drop { at: at(7), reason: DropReason::Ack, ranges: range.into() };
        let open = Record::QOpen { at: at(7), next_qseq: 1, hwm: 0 };
        for record in [enq(7), dropped, open, enq(7), enq(8)] {
            let start = octets.len();
            record.encode(&mut octets);
            shipping.note(&record, start..octets.len());
        }
        let runs: Vec<Run> = shipping.drain().collect();
        let seen: Vec<_> = runs.iter().map(|run| (run.queue.0, run.records, run.enters)).collect();
        assert_eq!(seen, [(7, 2, true), (7, 1, true), (8, 1, true)]);
        assert_eq!(runs[0].dropped(&octets), [range]);
        assert_eq!(runs[1].dropped(&octets), []);
        assert!(shipping.is_empty());
        shipping.stay_home(true);
        assert!(!shipping.is_on());
    }
}
