//! Delivery tags of one channel and what they stand for (AMQP 0-9-1 section 1.8.3.13).
//!
//! Tags count from 1 in the order in which deliveries are written. A delivery that needs no
//! acknowledgement uses up a tag without being remembered.

use crate::ids::QueueId;
use crate::queue::consumers::ConsumerRef;
use std::collections::VecDeque;
use std::num::NonZeroU32;

/// The life of a queue, as its clients' node sees it: it ends when the queue is led anew, here or elsewhere, and when
/// the session with the node that leads it ends. What was delivered in a life that is over has gone back to its
/// place; settling it later means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Life(NonZeroU32);

impl Life {
    /// Bits for the epoch; the others are for the session.
    const EPOCH_BITS: u32 = 12;
    const EPOCH: u32 = (1 << Life::EPOCH_BITS) - 1;

    /// Never 0, so that an empty slot of a channel takes no room for saying so.
    fn new(bits: u32) -> Life {
        Life(NonZeroU32::new(bits).unwrap_or(NonZeroU32::MAX))
    }

    /// Led by this node in this epoch.
    pub fn here(epoch: u32) -> Life {
        Life::new(epoch & Life::EPOCH)
    }

    /// Led by another node. `session` is a number of this process for the session with that node, from 1 on.
    pub fn far(session: u32, epoch: u32) -> Life {
        Life::new(session << Life::EPOCH_BITS | epoch & Life::EPOCH)
    }
}

/// A delivery that the client has not settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unacked {
    /// Queue it came from.
    pub queue: QueueId,
    /// Its place there.
    pub qseq: u64,
    /// The life of the queue in which it was sent.
    pub life: Life,
    /// The consumer that got it; none for `basic.get`.
    pub consumer: Option<ConsumerRef>,
}

/// The tag is not one that waits for a settlement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown delivery tag {0}")]
pub struct UnknownTag(pub u64);

/// Slots up to which settled deliveries in between are left where they are.
const FEW: usize = 64;

/// Delivery tags of a channel.
#[derive(Debug)]
pub struct Deliveries {
    next_tag: u64,
    /// By ascending tag. Settled ones in between stay as empty slots until they are more than half of them: a
    /// delivery that nobody settles costs no room for the later ones.
    slots: VecDeque<(u64, Option<Unacked>)>,
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
            slots: VecDeque::new(),
            unacked_count: 0,
            consumer_count: 0,
            looks: VecDeque::new(),
            limit: 0,
        }
    }
}

impl Deliveries {
    /// How many deliveries to consumers the channel-wide limit leaves room for, if there is one.
    pub fn room(&self) -> Option<u32> {
        (self.limit > 0).then(|| self.limit.saturating_sub(self.consumer_count))
    }

    /// Whether the channel-wide limit leaves room for another delivery to a consumer.
    pub fn has_credit(&self) -> bool {
        self.limit == 0 || self.consumer_count < self.limit
    }

    /// A tag for a delivery that needs no acknowledgement.
    pub fn tag_no_ack(&mut self) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        tag
    }

    /// A tag for a delivery that will be acknowledged.
    pub fn tag(&mut self, unacked: Unacked) -> u64 {
        let tag = self.next_tag;
        self.next_tag += 1;
        self.unacked_count += 1;
        self.consumer_count += u32::from(unacked.consumer.is_some());
        self.slots.push_back((tag, Some(unacked)));
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
        let index = self.find(tag).ok_or(UnknownTag(tag))?;
        let Some((_, slot @ Some(_))) = self.slots.get_mut(index) else { return Err(UnknownTag(tag)) };
        if multiple {
            for _ in 0..=index {
                if let Some((tag, Some(unacked))) = self.slots.pop_front() {
                    out.push((tag, unacked));
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
        out.extend(self.slots.drain(..).filter_map(|(tag, unacked)| unacked.map(|unacked| (tag, unacked))));
        self.unacked_count = 0;
        self.consumer_count = 0;
    }

    /// Puts a delivery back under its tag: a transaction with its acknowledgement was rolled back.
    pub fn put_back(&mut self, tag: u64, unacked: Unacked) {
        let index = self.slots.partition_point(|(other, _)| *other < tag);
        match self.slots.get_mut(index) {
            Some((other, slot)) if *other == tag => *slot = Some(unacked),
            _ => self.slots.insert(index, (tag, Some(unacked))),
        }
        self.unacked_count += 1;
        self.consumer_count += u32::from(unacked.consumer.is_some());
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
        let first = self.slots.iter().find(|(_, unacked)| unacked.is_some());
        first.is_some_and(|(tag, _)| *tag < sent_before)
    }

    /// Deliveries not settled.
    pub fn unacked_count(&self) -> usize {
        self.unacked_count
    }

    fn forget(&mut self, unacked: Unacked) {
        self.unacked_count -= 1;
        self.consumer_count -= u32::from(unacked.consumer.is_some());
    }

    /// Where the slot of a tag is. Mostly no tag is missing in between, and it is found at once.
    fn find(&self, tag: u64) -> Option<usize> {
        let distance = usize::try_from(tag.checked_sub(self.slots.front()?.0)?).ok()?;
        match self.slots.get(distance) {
            Some((found, _)) if *found == tag => Some(distance),
            _ => self.slots.binary_search_by_key(&tag, |(tag, _)| *tag).ok(),
        }
    }

    fn shrink(&mut self) {
        while let Some((_, None)) = self.slots.front() {
            self.slots.pop_front();
        }
        // Each empty slot is passed over once for a slot that was filled before.
        if self.slots.len() > FEW && self.slots.len() > 2 * self.unacked_count {
            self.slots.retain(|(_, unacked)| unacked.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unacked(qseq: u64) -> Unacked {
        Unacked { queue: QueueId(1), qseq, life: Life::here(1), consumer: None }
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
    fn lives_differ_by_epoch_and_by_session_and_take_no_room() {
        let lives = [Life::here(1), Life::here(2), Life::far(1, 1), Life::far(1, 2), Life::far(2, 1)];
        for (at, life) in lives.iter().enumerate() {
            assert_eq!(lives.iter().position(|other| other == life), Some(at));
        }
        assert!(size_of::<(u64, Option<Unacked>)>() <= 48, "one for each delivery that is not settled");
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
    fn a_delivery_that_is_never_settled_costs_no_room_for_the_later_ones() {
        let mut deliveries = Deliveries::default();
        deliveries.tag(unacked(1));
        for tag in 2..=100_000 {
            if tag % 3 == 0 {
                deliveries.tag_no_ack();
                continue;
            }
            deliveries.tag(unacked(tag));
            assert_eq!(taken(&mut deliveries, tag, false), Ok(vec![tag]));
        }
        assert!(deliveries.slots.len() <= FEW + 1, "{}", deliveries.slots.len());
        assert_eq!(taken(&mut deliveries, 2, false), Err(UnknownTag(2)));
        assert_eq!(taken(&mut deliveries, 0, true), Ok(vec![1]));
    }

    #[test]
    fn tags_with_gaps_behave_like_a_map() {
        let mut random = 1_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let (mut deliveries, mut model) = (Deliveries::default(), std::collections::BTreeMap::new());
        let mut last = 0;
        for step in 0..20_000 {
            match next(6) {
                0 => last = deliveries.tag_no_ack(),
                1 | 2 => {
                    last = deliveries.tag(unacked(step));
                    model.insert(last, unacked(step));
                }
                choice => {
                    let (tag, multiple) = (1 + next(last + 2), choice == 5 && next(40) == 0);
                    let mut out = Vec::new();
                    let done = deliveries.take(tag, multiple, &mut out);
                    assert_eq!(done.is_ok(), model.contains_key(&tag));
                    if done.is_ok() && multiple {
                        let rest = model.split_off(&(tag + 1));
                        assert_eq!(out, std::mem::replace(&mut model, rest).into_iter().collect::<Vec<_>>());
                    } else if done.is_ok() {
                        assert_eq!(out, [(tag, model.remove(&tag).unwrap())]);
                    }
                    if done.is_ok() && next(10) == 0 {
                        for (tag, unacked) in out {
                            deliveries.put_back(tag, unacked);
                            model.insert(tag, unacked);
                        }
                    }
                }
            }
            assert_eq!(deliveries.unacked_count(), model.len());
        }
    }

    #[test]
    fn the_channel_limit_counts_consumers_only() {
        let mut deliveries = Deliveries { limit: 1, ..Deliveries::default() };
        deliveries.tag(unacked(1));
        assert!(deliveries.has_credit());
    }
}
