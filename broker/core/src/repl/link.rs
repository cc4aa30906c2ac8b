//! What a leader keeps of its stream to one follower.

use super::message::Stream;
use crate::ids::QueueId;
use std::collections::VecDeque;

/// Some records of a queue that went out one after the other, and where they end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Link position before the first one that is not acknowledged.
    from: u64,
    /// Link position of the last one.
    upto: u64,
    pub(super) queue: QueueId,
    pub(super) epoch: u32,
    /// The queue's position behind them.
    pub(super) position: u64,
    /// It is the plan: what follows it comes on top.
    pub(super) is_plan: bool,
}

#[derive(Debug, Default)]
pub(super) struct Link {
    /// `None` while there is no connection.
    pub(super) stream: Option<Stream>,
    position: u64,
    sent: VecDeque<Sent>,
    pub(super) refusals: u64,
    /// Questions and fills that are not answered.
    pub(super) owed: usize,
    pub(super) fills: usize,
    /// Queues with messages to fill in.
    pub(super) to_fill: VecDeque<QueueId>,
    /// Since when nothing came although something should.
    waiting_since: Option<u64>,
    pub(super) gave_up_at: Option<u64>,
}

impl Link {
    /// A new stream: nothing was sent in it yet.
    pub(super) fn restart(&mut self, stream: Stream) {
        *self = Link { stream: Some(stream), gave_up_at: self.gave_up_at, ..Link::default() };
    }

    /// The connection is gone.
    pub(super) fn stop(&mut self, now: u64) {
        *self = Link { waiting_since: Some(now), gave_up_at: self.gave_up_at, ..Link::default() };
    }

    /// So many records go out, or a plan.
    pub(super) fn send(&mut self, now: u64, queue: QueueId, epoch: u32, records: u64, position: u64) {
        let from = self.position;
        self.position += records;
        self.expect(now);
        match self.sent.back_mut() {
            // Nothing came between them, neither here nor in the queue: a part of the run can be acknowledged.
            Some(last)
                if (last.queue, last.epoch, last.upto) == (queue, epoch, from)
                    && last.position + records == position
                    && !last.is_plan =>
            {
                (last.upto, last.position) = (self.position, position);
            }
            _ => self.sent.push_back(Sent {
                from,
                upto: self.position,
                queue,
                epoch,
                position,
                is_plan: false,
            }),
        }
    }

    /// The plan of a queue goes out.
    pub(super) fn send_plan(&mut self, now: u64, queue: QueueId, epoch: u32, position: u64) {
        let from = self.position;
        self.position += 1;
        self.expect(now);
        self.sent.push_back(Sent { from, upto: self.position, queue, epoch, position, is_plan: true });
    }

    /// A message without consequences goes out: it counts as a position only.
    pub(super) fn send_message(&mut self) {
        self.position += 1;
    }

    /// The next of what went out, as much of it as the follower has. Positions that were never sent mean nothing.
    ///
    /// A run that goes on and on is taken in parts: what is confirmed must not wait for what came after it.
    pub(super) fn take_acked(&mut self, upto: u64) -> Option<Sent> {
        let next = self.sent.front_mut()?;
        if next.upto <= upto {
            return self.sent.pop_front();
        }
        if next.from >= upto {
            return None;
        }
        next.from = upto;
        Some(Sent { upto, position: next.position - (next.upto - upto), ..*next })
    }

    /// The answers that a copy owes, to a question and to so many fills, are not waited for any more.
    pub(super) fn let_off(&mut self, question: bool, fills: usize) {
        self.owed = self.owed.saturating_sub(usize::from(question) + fills);
        self.fills = self.fills.saturating_sub(fills);
    }

    /// Something went out, and an answer should come.
    pub(super) fn expect(&mut self, now: u64) {
        self.waiting_since.get_or_insert(now);
    }

    /// Something came.
    pub(super) fn progressed(&mut self, now: u64) {
        let waits = !self.sent.is_empty() || self.owed > 0;
        self.waiting_since = waits.then_some(now);
        self.gave_up_at = None;
    }

    /// Whether nothing came for so long although something should.
    pub(super) fn is_silent(&self, now: u64, patience_ms: u64) -> bool {
        self.waiting_since.is_some_and(|since| now.saturating_sub(since) >= patience_ms)
    }

    /// Octets and records on their way do not interest here; how many batches are.
    pub(super) fn unacknowledged(&self) -> usize {
        self.sent.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_run_is_acknowledged_before_the_rest_of_it() {
        let (queue, other) = (QueueId(1), QueueId(2));
        let mut link = Link::default();
        let positions = |link: &mut Link, upto| -> Vec<(QueueId, u64)> {
            std::iter::from_fn(|| link.take_acked(upto)).map(|sent| (sent.queue, sent.position)).collect()
        };
        link.send(0, queue, 1, 3, 103);
        link.send(0, queue, 1, 2, 105);
        assert_eq!(link.unacknowledged(), 1);
        assert_eq!(positions(&mut link, 2), [(queue, 102)]);
        assert_eq!(positions(&mut link, 2), []);
        assert_eq!(positions(&mut link, 4), [(queue, 104)]);
        // A message has a position on the link and none in the queue; other records have one in the queue only.
        link.send_message();
        link.send(0, queue, 1, 1, 106);
        link.send(0, queue, 1, 1, 108);
        link.send(0, other, 1, 1, 7);
        assert_eq!(positions(&mut link, 6), [(queue, 105)]);
        assert_eq!(positions(&mut link, 8), [(queue, 106), (queue, 108)]);
        assert_eq!(positions(&mut link, 100), [(other, 7)]);
    }
}
