//! Delivery tags of one channel and what they stand for (AMQP 0-9-1 section 1.8.3.13).
//!
//! Tags count from 1 in the order in which deliveries are written. A delivery that needs no
//! acknowledgement uses up a tag without being remembered.

use crate::ids::QueueId;
use crate::queue::consumers::ConsumerRef;
use std::collections::VecDeque;

/// A delivery that the client has not settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unacked {
    /// Queue it came from.
    pub queue: QueueId,
    /// Its place there.
    pub qseq: u64,
    /// The consumer that got it; none for `basic.get`.
    pub consumer: Option<ConsumerRef>,
}

/// The tag is not one that waits for a settlement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub struct UnknownTag(pub u64);

/// Delivery tags of a channel.
#[derive(Debug)]
pub struct Deliveries {
    next_tag: u64,
    /// Tag of the first element of `unacked`.
    base: u64,
    unacked: VecDeque<Option<Unacked>>,
    unacked_count: usize,
    consumer_count: u32,
    /// Tags that were next at earlier looks, with the time of the look; see [`Deliveries::overdue`].
    looks: VecDeque<(u64, u64)>,
    /// `basic.qos` with `global`: unacknowledged deliveries to consumers of this channel, 0 is no limit.
    pub limit: u32,
}

impl Default for Deliveries {
    fn default() -> Self {
        Deliveries {
            next_tag: 1,
            base: 1,
            unacked: VecDeque::new(),
            unacked_count: 0,
            consumer_count: 0,
            looks: VecDeque::new(),
            limit: 0,
        }
    }
}

impl Deliveries {
    /// Whether the channel-wide limit leaves room for another delivery to a consumer.
    pub fn has_credit(&self) -> bool {
        self.limit == 0 || self.consumer_count < self.limit
    }

    /// A tag for a delivery that needs no acknowledgement.
    pub fn tag_no_ack(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        if self.unacked.is_empty() {
            self.base = self.next_tag;
        } else {
            self.unacked.push_back(None);
        }
        tag
    }

    /// A tag for a delivery that will be acknowledged.
    pub fn tag(&mut self, unacked: Unacked) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.unacked_count += 1;
        self.consumer_count += u32::from(unacked.consumer.is_some());
        self.unacked.push_back(Some(unacked));
        tag
    }

    /// Takes what a settlement names, oldest first: one tag, or everything up to it (`multiple`; tag 0 then
    /// means everything).
    ///
    /// # Errors
    /// When the tag is not waiting.
    pub fn take(
        &mut self,
        tag: u64,
        multiple: bool,
        out: &mut Vec<(u64, Unacked)>,
    ) -> Result<(), UnknownTag> {
        if multiple && tag == 0 {
            self.take_all(out);
            return Ok(());
        }
        let index = tag.checked_sub(self.base).ok_or(UnknownTag(tag))?;
        let index = usize::try_from(index).map_err(|_| UnknownTag(tag))?;
        let Some(slot @ Some(_)) = self.unacked.get_mut(index) else { return Err(UnknownTag(tag)) };
        if multiple {
            for offset in 0..=index {
                if let Some(unacked) = self.unacked[offset].take() {
                    out.push((self.base + offset as u64, unacked));
                    self.forget(unacked);
                }
            }
        } else if let Some(unacked) = slot.take() {
            out.push((tag, unacked));
            self.forget(unacked);
        }
        self.shrink();
        Ok(())
    }

    /// Takes everything, oldest first: `basic.recover`, or the channel closed.
    pub fn take_all(&mut self, out: &mut Vec<(u64, Unacked)>) {
        let base = self.base;
        let taken = self.unacked.drain(..).enumerate();
        out.extend(
            taken.filter_map(|(offset, unacked)| unacked.map(|unacked| (base + offset as u64, unacked))),
        );
        self.base = self.next_tag;
        self.unacked_count = 0;
        self.consumer_count = 0;
    }

    /// Puts a delivery back under its tag: a transaction with its acknowledgement was rolled back.
    pub fn put_back(&mut self, tag: u64, unacked: Unacked) {
        while self.base > tag {
            self.unacked.push_front(None);
            self.base -= 1;
        }
        if let Some(slot) = self.unacked.get_mut((tag - self.base) as usize) {
            *slot = Some(unacked);
            self.unacked_count += 1;
            self.consumer_count += u32::from(unacked.consumer.is_some());
        }
    }

    /// Whether the oldest unsettled delivery was sent `timeout` milliseconds ago or earlier. Call it every now and
    /// then: the answer is late by as much as lies between two calls, and no delivery has to carry its time.
    pub fn overdue(&mut self, now: u64, timeout: u64) -> bool {
        if self.unacked_count == 0 {
            self.looks.clear();
            return false;
        }
        let mut sent_before = 0;
        while let Some((at, next_tag)) = self.looks.front().copied() {
            if at.saturating_add(timeout) > now {
                break;
            }
            sent_before = next_tag;
            // The last one that is old enough stays: nothing was sent after it for a while.
            if self.looks.get(1).is_none_or(|(at, _)| at.saturating_add(timeout) > now) {
                break;
            }
            self.looks.pop_front();
        }
        if self.looks.back().is_none_or(|(_, next_tag)| *next_tag != self.next_tag) {
            self.looks.push_back((now, self.next_tag));
        }
        let first = self.unacked.iter().position(Option::is_some).map(|offset| self.base + offset as u64);
        first.is_some_and(|tag| tag < sent_before)
    }

    /// Deliveries not settled.
    pub fn unacked_count(&self) -> usize {
        self.unacked_count
    }

    fn forget(&mut self, unacked: Unacked) {
        self.unacked_count -= 1;
        self.consumer_count -= u32::from(unacked.consumer.is_some());
    }

    fn shrink(&mut self) {
        while let Some(None) = self.unacked.front() {
            self.unacked.pop_front();
            self.base += 1;
        }
        if self.unacked.is_empty() {
            self.base = self.next_tag;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unacked(qseq: u64) -> Unacked {
        Unacked { queue: QueueId(1), qseq, consumer: None }
    }

    fn taken(deliveries: &mut Deliveries, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownTag> {
        let mut out = Vec::new();
        deliveries.take(tag, multiple, &mut out)?;
        Ok(out.into_iter().map(|(tag, _)| tag).collect())
    }

    #[test]
    fn tags_count_from_one_and_no_ack_uses_tags_up() {
        let mut deliveries = Deliveries::default();
        assert_eq!(deliveries.tag_no_ack(), 1);
        assert_eq!(deliveries.tag(unacked(1)), 2);
        assert_eq!(deliveries.tag_no_ack(), 3);
        assert_eq!(deliveries.tag(unacked(2)), 4);
        assert_eq!(taken(&mut deliveries, 1, false), Err(UnknownTag(1)));
        assert_eq!(taken(&mut deliveries, 3, true), Err(UnknownTag(3)));
        assert_eq!(taken(&mut deliveries, 4, true), Ok(vec![2, 4]));
        assert_eq!(taken(&mut deliveries, 4, false), Err(UnknownTag(4)));
    }

    #[test]
    fn zero_with_multiple_means_all_even_when_there_are_none() {
        let mut deliveries = Deliveries::default();
        assert_eq!(taken(&mut deliveries, 0, true), Ok(vec![]));
        assert_eq!(taken(&mut deliveries, 0, false), Err(UnknownTag(0)));
        deliveries.tag(unacked(1));
        deliveries.tag(unacked(2));
        assert_eq!(taken(&mut deliveries, 2, false), Ok(vec![2]));
        assert_eq!(taken(&mut deliveries, 0, true), Ok(vec![1]));
        assert_eq!(deliveries.unacked_count(), 0);
        assert_eq!(deliveries.tag(unacked(3)), 3);
    }

    #[test]
    fn a_rolled_back_acknowledgement_waits_again_under_its_tag() {
        let mut deliveries = Deliveries::default();
        for qseq in 1..=3 {
            deliveries.tag(unacked(qseq));
        }
        let mut out = Vec::new();
        deliveries.take(2, true, &mut out).unwrap();
        for (tag, unacked) in out {
            deliveries.put_back(tag, unacked);
        }
        assert_eq!(deliveries.unacked_count(), 3);
        assert_eq!(taken(&mut deliveries, 3, true), Ok(vec![1, 2, 3]));
    }

    #[test]
    fn a_delivery_is_overdue_once_it_is_older_than_the_timeout() {
        let mut deliveries = Deliveries::default();
        deliveries.tag(unacked(1));
        assert!(!deliveries.overdue(0, 100));
        deliveries.tag(unacked(2));
        assert!(!deliveries.overdue(60, 100));
        assert!(deliveries.overdue(110, 100), "the first was sent before 0");
        taken(&mut deliveries, 1, false).unwrap();
        assert!(!deliveries.overdue(120, 100), "the second was sent after 0");
        assert!(deliveries.overdue(160, 100), "and before 60");
        taken(&mut deliveries, 2, false).unwrap();
        assert!(!deliveries.overdue(200, 100));
        deliveries.tag(unacked(3));
        assert!(!deliveries.overdue(1000, 100), "looking late does not make it old");
    }

    #[test]
    fn the_channel_limit_counts_consumers_only() {
        let mut deliveries = Deliveries { limit: 1, ..Deliveries::default() };
        deliveries.tag(unacked(1));
        assert!(deliveries.has_credit());
    }
}
