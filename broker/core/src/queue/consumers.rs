//! The consumers of one queue: who is next, who has credit left, who is active.
//!
//! Equal consumers take turns; consumers with a higher `x-priority` come first for as long as they can take
//! messages. With a single active consumer only the oldest one is in the round.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Points at one consumer of one queue; stays valid (and then misses) after the consumer left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerRef {
    slot: u32,
    key: NonZeroU64,
}

/// Slot of consumers that are not at a queue of this process.
const FAR: u32 = u32::MAX;

impl ConsumerRef {
    /// Points at a consumer of a queue on another node, by the number it has here; 0 counts as 1.
    pub fn far(number: u64) -> ConsumerRef {
        ConsumerRef { slot: FAR, key: NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN) }
    }

    /// The number of a consumer of a queue on another node.
    pub fn as_far(self) -> Option<u64> {
        (self.slot == FAR).then_some(self.key.get())
    }
}

/// What a consumer brings along.
#[derive(Debug)]
pub struct NewConsumer<H> {
    /// Where its deliveries go.
    pub handle: H,
    /// Consumer tag, unique on its channel.
    pub tag: Arc<str>,
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Deliveries it may hold unacknowledged; 0 is no limit. Ignored with `no_ack`.
    pub prefetch: u32,
    /// `x-priority`.
    pub priority: i32,
    /// Nobody else may consume from the queue.
    pub exclusive: bool,
}

/// A consumer of a queue.
#[derive(Debug)]
pub struct Consumer<H> {
    /// Where its deliveries go.
    pub handle: H,
    /// Consumer tag.
    pub tag: Arc<str>,
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Deliveries it may hold unacknowledged; 0 is no limit.
    pub prefetch: u32,
    /// `x-priority`.
    pub priority: i32,
    /// Nobody else may consume.
    pub exclusive: bool,
    in_flight: u32,
    stalled: bool,
    in_round: bool,
    reference: ConsumerRef,
}

impl<H> Consumer<H> {
    /// Points at this consumer.
    pub fn reference(&self) -> ConsumerRef {
        self.reference
    }

    /// Deliveries it holds unacknowledged.
    pub fn unacked(&self) -> u32 {
        self.in_flight
    }

    fn has_credit(&self) -> bool {
        !self.stalled && (self.no_ack || self.prefetch == 0 || self.in_flight < self.prefetch)
    }
}

/// All consumers of a queue.
#[derive(Debug)]
pub struct Consumers<H> {
    slots: Vec<Option<Consumer<H>>>,
    /// Slots that nobody has.
    free: Vec<u32>,
    /// Those that can take a message now, by falling priority.
    rounds: Vec<(i32, VecDeque<u32>)>,
    count: usize,
    /// How many are stalled.
    stalled: usize,
    /// How many want the queue for themselves: one at most, unless rules changed.
    exclusive: usize,
    next_key: NonZeroU64,
    single_active: bool,
    active: Option<ConsumerRef>,
}

impl<H> Consumers<H> {
    pub(super) fn new(single_active: bool) -> Self {
        Consumers {
            slots: Vec::new(),
            free: Vec::new(),
            exclusive: 0,
            rounds: Vec::new(),
            count: 0,
            stalled: 0,
            next_key: NonZeroU64::MIN,
            single_active,
            active: None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether one of them has the queue for itself.
    pub fn has_exclusive(&self) -> bool {
        self.exclusive > 0
    }

    /// Whether only one consumer at a time gets messages.
    pub fn is_single_active(&self) -> bool {
        self.single_active
    }

    /// Whether messages go to this consumer (always, unless the queue has a single active consumer).
    pub fn is_active(&self, consumer: ConsumerRef) -> bool {
        !self.single_active || self.active == Some(consumer)
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer<H>> {
        self.slots.iter().flatten()
    }

    /// Share of consumers that could take a message now: 1 when all could.
    pub fn capacity(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.iter().filter(|consumer| consumer.has_credit()).count() as f64 / self.count as f64
    }

    pub(super) fn add(&mut self, new: NewConsumer<H>) -> ConsumerRef {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        let reference = ConsumerRef { slot, key: self.next_key };
        self.next_key = self.next_key.saturating_add(1);
        self.exclusive += usize::from(new.exclusive);
        self.slots[slot as usize] = Some(Consumer {
            handle: new.handle,
            tag: new.tag,
            no_ack: new.no_ack,
            prefetch: new.prefetch,
            priority: new.priority,
            exclusive: new.exclusive,
            in_flight: 0,
            stalled: false,
            in_round: false,
            reference,
        });
        self.count += 1;
        if self.single_active && self.active.is_none() {
            self.active = Some(reference);
        }
        self.enter_round(reference);
        reference
    }

    pub(super) fn remove(&mut self, reference: ConsumerRef) -> Option<H> {
        self.get_mut(reference)?;
        self.leave_round(reference);
        let consumer = self.slots[reference.slot as usize].take()?;
        self.free.push(reference.slot);
        self.count -= 1;
        self.stalled -= usize::from(consumer.stalled);
        self.exclusive -= usize::from(consumer.exclusive);
        if self.active == Some(reference) {
            self.active = self.iter().min_by_key(|other| other.reference.key).map(Consumer::reference);
            if let Some(next) = self.active {
                self.enter_round(next);
            }
        }
        Some(consumer.handle)
    }

    pub(super) fn remove_all(&mut self) -> Vec<Consumer<H>> {
        self.rounds.clear();
        self.free.clear();
        self.count = 0;
        self.stalled = 0;
        self.exclusive = 0;
        self.active = None;
        std::mem::take(&mut self.slots).into_iter().flatten().collect()
    }

    /// The consumer whose turn it is. It stays first until [`Consumers::delivered`] or
    /// [`Consumers::stall`] moves it.
    pub(super) fn next(&self) -> Option<&Consumer<H>> {
        let slot = self.rounds.iter().find_map(|(_, round)| round.front())?;
        self.slots[*slot as usize].as_ref()
    }

    /// A consumer that can take no more for reasons of its connection or channel, if there is one.
    pub(super) fn stalled(&self) -> Option<&Consumer<H>> {
        if self.stalled == 0 {
            return None;
        }
        self.iter().find(|consumer| consumer.stalled)
    }

    /// The first in the round took a message: its turn is over, and without credit it leaves the round.
    pub(super) fn delivered(&mut self, reference: ConsumerRef, counts: bool) {
        let Some(consumer) = self.get_mut(reference) else { return };
        consumer.in_flight += u32::from(counts);
        let (stays, priority) = (consumer.has_credit(), consumer.priority);
        consumer.in_round = stays;
        let Some((_, round)) = self.rounds.iter_mut().find(|(level, _)| *level == priority) else { return };
        debug_assert_eq!(round.front(), Some(&reference.slot));
        if stays {
            round.rotate_left(1);
        } else {
            round.pop_front();
        }
    }

    /// The consumer cannot take more for reasons of its connection or channel.
    pub(super) fn stall(&mut self, reference: ConsumerRef) {
        self.leave_round(reference);
        if let Some(consumer) = self.get_mut(reference)
            && !std::mem::replace(&mut consumer.stalled, true)
        {
            self.stalled += 1;
        }
    }

    pub(super) fn resume(&mut self, reference: ConsumerRef) {
        if let Some(consumer) = self.get_mut(reference) {
            if std::mem::replace(&mut consumer.stalled, false) {
                self.stalled -= 1;
            }
            self.enter_round(reference);
        }
    }

    /// One of its deliveries was settled.
    pub(super) fn settled(&mut self, reference: ConsumerRef) {
        if let Some(consumer) = self.get_mut(reference) {
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
            if !consumer.in_round {
                self.enter_round(reference);
            }
        }
    }

    fn get_mut(&mut self, reference: ConsumerRef) -> Option<&mut Consumer<H>> {
        self.slots
            .get_mut(reference.slot as usize)?
            .as_mut()
            .filter(|consumer| consumer.reference == reference)
    }

    fn enter_round(&mut self, reference: ConsumerRef) {
        if self.single_active && self.active != Some(reference) {
            return;
        }
        let Some(consumer) = self.get_mut(reference) else { return };
        if consumer.in_round || !consumer.has_credit() {
            return;
        }
        consumer.in_round = true;
        let priority = consumer.priority;
        let at = self.rounds.partition_point(|(level, _)| *level > priority);
        if self.rounds.get(at).is_none_or(|(level, _)| *level != priority) {
            self.rounds.insert(at, (priority, VecDeque::new()));
        }
        self.rounds[at].1.push_back(reference.slot);
    }

    fn leave_round(&mut self, reference: ConsumerRef) {
        let Some(consumer) = self.get_mut(reference) else { return };
        consumer.in_round = false;
        let priority = consumer.priority;
        if let Some((_, round)) = self.rounds.iter_mut().find(|(level, _)| *level == priority) {
            if round.front() == Some(&reference.slot) {
                round.pop_front();
            } else {
                round.retain(|slot| *slot != reference.slot);
            }
        }
        self.rounds.retain(|(_, round)| !round.is_empty());
    }
}
