//! What a leader keeps of its stream to one follower.

use super::message::Stream;
use crate::ids::QueueId;
use std::collections::VecDeque;

/// Some records of a queue that went out, and where they end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
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
        self.position += records;
        self.expect(now);
        match self.sent.back_mut() {
            Some(last) if last.queue == queue && last.epoch == epoch && !last.is_plan => {
                (last.upto, last.position) = (self.position, position);
            }
            _ => self.sent.push_back(Sent { upto: self.position, queue, epoch, position, is_plan: false }),
        }
    }

    /// The plan of a queue goes out.
    pub(super) fn send_plan(&mut self, now: u64, queue: QueueId, epoch: u32, position: u64) {
        self.position += 1;
        self.expect(now);
        self.sent.push_back(Sent { upto: self.position, queue, epoch, position, is_plan: true });
    }

    /// A message without consequences goes out: it counts as a position only.
    pub(super) fn send_message(&mut self) {
        self.position += 1;
    }

    /// The next of what went out, if the follower has all of it. Positions that were never sent mean nothing.
    pub(super) fn take_acked(&mut self, upto: u64) -> Option<Sent> {
        self.sent.front().filter(|sent| sent.upto <= upto)?;
        self.sent.pop_front()
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
