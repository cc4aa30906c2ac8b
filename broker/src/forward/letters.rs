//! Messages on their way from a queue here to queues elsewhere: dead letters, and those whose delay is over.
//!
//! The log hears that such a message has left its queue only when all its targets have it: after a crash it may be in
//! both, but never in none. Until then it is kept here, and sent again when a leader could not be reached.

use super::Home;
use super::outgoing::{FarTarget, Waiter};
use crate::node::Node;
use crate::shard::{Turn, TurnBuffers};
use broker_core::ids::QueueId;
use broker_core::message::{Message, Publish};
use broker_core::record::Record;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Letters kept. More are not: those that the log has come back with the next start, the others are lost, as all
/// dead letters are in RabbitMQ's classic queues.
const LETTERS: usize = 16 << 10;
/// Octets of them.
const OCTETS: usize = 64 << 20;

/// Letters that are not in all their queues yet.
#[derive(Debug, Default)]
pub(super) struct Letters {
    last: u64,
    letters: FxHashMap<u64, Letter>,
    parts: FxHashMap<u64, Part>,
    octets: usize,
    /// Parts whose queues have the message.
    arrived: Vec<u64>,
    /// Parts to send again.
    again: Vec<u64>,
    /// It has been said that there are too many.
    warned: bool,
}

/// A message that has left its queue.
#[derive(Debug)]
pub(crate) struct Letter {
    /// The message.
    pub(crate) message: Arc<Message>,
    /// Its time to live.
    pub(crate) expiration_ms: Option<u64>,
    /// Its priority.
    pub(crate) priority: u8,
    /// The queue it left.
    pub(crate) source: QueueId,
    /// What the log has to hear when it has arrived.
    pub(crate) gone: Option<Record<'static>>,
    /// Its position there when a segment holds it.
    pub(crate) stored_qseq: Option<u64>,
    /// Parts that have not arrived.
    pub(crate) parts: usize,
}

/// What goes to the queues of one leader.
#[derive(Debug)]
struct Part {
    letter: u64,
    targets: Vec<QueueId>,
}

impl Letters {
    /// Keeps a letter that goes to these groups of queues. Returns the numbers of its parts; none when there is
    /// no room.
    fn add(&mut self, mut letter: Letter, groups: Vec<Vec<QueueId>>) -> Option<Vec<u64>> {
        let octets = letter.message.memory();
        if self.letters.len() >= LETTERS || self.octets + octets > OCTETS {
            if !std::mem::replace(&mut self.warned, true) {
                tracing::warn!(
                    "too many dead letters wait for queues on other nodes; further ones are dropped"
                );
            }
            return None;
        }
        self.octets += octets;
        self.last += 1;
        let number = self.last;
        letter.parts = groups.len();
        self.letters.insert(number, letter);
        let mut parts = Vec::with_capacity(groups.len());
        for targets in groups {
            self.last += 1;
            self.parts.insert(self.last, Part { letter: number, targets });
            parts.push(self.last);
        }
        Some(parts)
    }

    /// A part has arrived. Returns the letter if that was the last one.
    fn arrive(&mut self, part: u64) -> Option<Letter> {
        let part = self.parts.remove(&part)?;
        let letter = self.letters.get_mut(&part.letter)?;
        letter.parts -= 1;
        if letter.parts > 0 {
            return None;
        }
        let letter = self.letters.remove(&part.letter)?;
        self.octets -= letter.message.memory();
        self.warned &= self.letters.len() >= LETTERS / 2;
        Some(letter)
    }
}

impl Turn<'_> {
    /// Sends a letter to the noted queues elsewhere. `false`: nothing is kept of it.
    pub(crate) fn forward_letter(&mut self, letter: Letter) -> bool {
        let groups = self.take_far_groups();
        let targets = groups.iter().map(|group| group.iter().map(|(_, queue, _)| *queue).collect()).collect();
        let (message, expiration_ms, priority) =
            (Arc::clone(&letter.message), letter.expiration_ms, letter.priority);
        let Some(parts) = self.node().forward.letters.lock().add(letter, targets) else { return false };
        let publish = Publish::of(&message, expiration_ms, priority);
        for (part, group) in parts.into_iter().zip(groups) {
            self.note_far_group(group);
            self.forward(&publish, &Waiter::Letter(part));
        }
        true
    }
}

impl Node {
    /// The queues of a part have it.
    pub(super) fn letter_arrived(&self, part: u64) {
        self.forward.letters.lock().arrived.push(part);
        self.forward.wake.notify_one();
    }

    /// They refused it, or nobody leads them there now.
    pub(super) fn letter_refused(&self, part: u64, moved: bool) {
        if moved {
            // With the next tick: whoever leads it may not be there yet.
            self.forward.letters.lock().again.push(part);
        } else {
            self.letter_arrived(part);
        }
    }

    /// Finishes what has arrived, and sends again what has not.
    pub(super) fn send_letters_again(&self) {
        let (arrived, again) = {
            let mut letters = self.forward.letters.lock();
            (std::mem::take(&mut letters.arrived), std::mem::take(&mut letters.again))
        };
        if arrived.is_empty() && again.is_empty() {
            return;
        }
        let mut turn = Turn::new(self, TurnBuffers::default(), self.now_ms());
        for part in again {
            self.send_part_again(&mut turn, part);
        }
        for part in arrived {
            let Some(letter) = self.forward.letters.lock().arrive(part) else { continue };
            turn.letter_left(letter.source, letter.gone.as_ref(), letter.stored_qseq);
            turn.close();
            self.letters_in_flight.fetch_sub(1, Ordering::AcqRel);
        }
        turn.finish();
    }

    fn send_part_again(&self, turn: &mut Turn<'_>, number: u64) {
        let found = {
            let letters = self.forward.letters.lock();
            letters.parts.get(&number).and_then(|part| {
                let letter = letters.letters.get(&part.letter)?;
                let targets = part.targets.clone();
                Some((Arc::clone(&letter.message), letter.expiration_ms, letter.priority, targets))
            })
        };
        let Some((message, expiration_ms, priority, targets)) = found else { return };
        let mut publish = Publish::of(&message, expiration_ms, priority);
        let mut left = Vec::new();
        let (mut waits, mut sent) = (false, false);
        for queue in targets {
            match turn.home_of(queue) {
                None => continue,
                Some(Home::Here { .. }) => {
                    let taken = turn.queue(queue, |queue, now, fx| queue.publish(now, &mut publish, fx));
                    if taken.is_some() || turn.any_queue(queue, |_, _, _| ()).is_some() {
                        continue;
                    }
                    // It is held back for another leader, or led here a moment later.
                    waits = true;
                }
                Some(Home::Nowhere { .. }) => waits = true,
                Some(Home::At { .. }) => sent |= turn.far_target(queue) == FarTarget::Noted,
            }
            left.push(queue);
        }
        turn.close();
        if left.is_empty() {
            return self.letter_arrived(number);
        }
        if let Some(part) = self.forward.letters.lock().parts.get_mut(&number) {
            part.targets = left;
        }
        if waits || turn.far_nodes() > 1 {
            // All of them at once, or it would not be known who has it.
            turn.forget_far();
            self.forward.letters.lock().again.push(number);
        } else if sent {
            turn.forward(&publish, &Waiter::Letter(number));
        }
    }
}
