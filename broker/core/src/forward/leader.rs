//! The leader's end of a session with one origin: what its clients hold, and how much may be sent to them.

use super::op::Credit;
use crate::ids::QueueId;
use crate::queue::consumers::ConsumerRef;
use rustc_hash::{FxHashMap, FxHashSet};

/// Octets of deliveries that may be on their way in a session before its consumers wait.
pub const WINDOW_OCTETS: u64 = 16 << 20;

/// A consumer of the origin.
#[derive(Debug, Default)]
struct Consumer {
    sent: Credit,
    credit: Credit,
    /// It was offered a message that it could not take: where it is.
    stalled: Option<(QueueId, ConsumerRef)>,
}

/// One session.
#[derive(Debug, Default)]
pub struct Leader {
    consumers: FxHashMap<u64, Consumer>,
    held: FxHashMap<QueueId, FxHashSet<u64>>,
    sent: u64,
    received: u64,
    /// Consumers that wait for the session's window.
    waiting: Vec<(QueueId, ConsumerRef)>,
}

impl Leader {
    /// A consumer comes, with credit to begin with.
    pub fn add(&mut self, consumer: u64, credit: Credit) {
        self.consumers.insert(consumer, Consumer { credit, ..Consumer::default() });
    }

    /// A consumer left.
    pub fn remove(&mut self, consumer: u64) {
        self.consumers.remove(&consumer);
    }

    /// Whether a message may be sent to a consumer; if not, it waits for credit.
    pub fn may_send(&mut self, consumer: u64, at: (QueueId, ConsumerRef)) -> bool {
        let Some(known) = self.consumers.get_mut(&consumer) else { return false };
        if known.sent.messages >= known.credit.messages || known.sent.octets >= known.credit.octets {
            known.stalled = Some(at);
            return false;
        }
        if self.sent.saturating_sub(self.received) >= WINDOW_OCTETS {
            self.waiting.push(at);
            return false;
        }
        true
    }

    /// A message is sent to a consumer.
    pub fn sent(&mut self, consumer: u64, octets: usize) {
        if let Some(known) = self.consumers.get_mut(&consumer) {
            known.sent.messages += 1;
            known.sent.octets += octets as u64;
        }
        self.sent += octets as u64;
    }

    /// The origin has this message and will settle it.
    pub fn hold(&mut self, queue: QueueId, qseq: u64) {
        self.held.entry(queue).or_default().insert(qseq);
    }

    /// More credit for a consumer. Returns where it is if it waited for that.
    pub fn credit(&mut self, consumer: u64, credit: Credit) -> Option<(QueueId, ConsumerRef)> {
        let known = self.consumers.get_mut(&consumer)?;
        known.credit.messages = known.credit.messages.max(credit.messages);
        known.credit.octets = known.credit.octets.max(credit.octets);
        known.stalled.take()
    }

    /// So many octets have arrived. Returns who waited for that.
    pub fn received(&mut self, octets: u64) -> Vec<(QueueId, ConsumerRef)> {
        // What was never sent can not arrive.
        self.received = self.received.max(octets.min(self.sent));
        let room = self.sent.saturating_sub(self.received) < WINDOW_OCTETS / 2;
        if room { std::mem::take(&mut self.waiting) } else { Vec::new() }
    }

    /// Leaves those positions that the session holds; it does not any more.
    pub fn settle(&mut self, queue: QueueId, positions: &mut Vec<u64>) {
        let Some(held) = self.held.get_mut(&queue) else { return positions.clear() };
        positions.retain(|position| held.remove(position));
        if held.is_empty() {
            self.held.remove(&queue);
        }
    }

    /// The queue has begun again elsewhere or in another epoch: nothing of it is held any more.
    pub fn forget(&mut self, queue: QueueId) {
        self.held.remove(&queue);
    }

    /// How many messages the session holds.
    pub fn held(&self) -> usize {
        self.held.values().map(FxHashSet::len).sum()
    }

    /// The session is over. Returns what it held, for the queues to take back, each in order.
    pub fn end(&mut self) -> Vec<(QueueId, Vec<u64>)> {
        let held = std::mem::take(self).held;
        let mut back: Vec<(QueueId, Vec<u64>)> = held
            .into_iter()
            .map(|(queue, positions)| {
                let mut positions: Vec<u64> = positions.into_iter().collect();
                positions.sort_unstable();
                (queue, positions)
            })
            .collect();
        back.sort_unstable_by_key(|(queue, _)| *queue);
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(5);

    fn at() -> (QueueId, ConsumerRef) {
        (QUEUE, ConsumerRef::far(1))
    }

    #[test]
    fn a_consumer_is_sent_what_it_has_credit_for() {
        let mut leader = Leader::default();
        assert!(!leader.may_send(1, at()), "nobody");
        leader.add(1, Credit { messages: 2, octets: 100 });
        assert!(leader.may_send(1, at()));
        leader.sent(1, 60);
        assert!(leader.may_send(1, at()), "it begins below the limit");
        leader.sent(1, 60);
        assert!(!leader.may_send(1, at()));
        assert_eq!(leader.credit(1, Credit { messages: 3, octets: 100 }), Some(at()));
        assert!(!leader.may_send(1, at()), "no octets left");
        assert_eq!(leader.credit(1, Credit { messages: 1, octets: 200 }), Some(at()), "credit never shrinks");
        assert!(leader.may_send(1, at()));
        assert_eq!(leader.credit(1, Credit { messages: 9, octets: 900 }), None);
    }

    #[test]
    fn the_sessions_window_holds_all_its_consumers_up() {
        let mut leader = Leader::default();
        leader.add(1, Credit { messages: u64::MAX, octets: u64::MAX });
        leader.sent(1, WINDOW_OCTETS as usize);
        assert!(!leader.may_send(1, at()));
        assert_eq!(leader.received(1000), []);
        assert_eq!(leader.received(u64::MAX), [at()]);
        assert!(leader.may_send(1, at()));
    }

    #[test]
    fn only_what_the_session_holds_is_settled_and_the_rest_comes_back_in_order() {
        let mut leader = Leader::default();
        for qseq in [4, 2, 9, 1] {
            leader.hold(QUEUE, qseq);
        }
        leader.hold(QueueId(2), 7);
        let mut positions = vec![2, 3, 2];
        leader.settle(QUEUE, &mut positions);
        assert_eq!(positions, [2]);
        let mut elsewhere = vec![1];
        leader.settle(QueueId(8), &mut elsewhere);
        assert!(elsewhere.is_empty());
        assert_eq!(leader.held(), 4);
        assert_eq!(leader.end(), [(QueueId(2), vec![7]), (QUEUE, vec![1, 4, 9])]);
        assert_eq!(leader.held(), 0);
    }
}
