//! Which publishes of other nodes a queue has taken: one that a node sends again, because it does not know what became of
//! it, is not taken twice.
//!
//! The node of the publisher numbers what it sends to a queue, from 1 on in each of its lives. The record of a message
//! keeps the number, so that a copy of the queue knows it too, and the queue itself after a restart.

use crate::ids::NodeId;
use crate::record::PubRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Ranges of numbers that are kept for a node. There is one, unless publishes come late or are refused.
const RANGES: usize = 1024;
/// Bits of a life that say which start of the node it is.
const START_BITS: u32 = 48;

/// What [`PubRef::origin`] is for a node and the number of its start.
pub fn life(node: NodeId, incarnation: u64) -> u64 {
    node.0 << START_BITS | incarnation & ((1 << START_BITS) - 1)
}

/// What a queue knows about a publish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// It was not taken.
    New,
    /// It was taken.
    Known,
    /// It is too old to be known: to take it may be once too often, and to confirm it a lie.
    Forgotten,
}

/// What was taken of each node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins(BTreeMap<u16, Taken>);

/// What was taken of one node in its newest life.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Taken {
    life: u64,
    /// Up to this number it is not known any more.
    forgotten: u64,
    /// Numbers, ascending.
    ranges: VecDeque<(u64, u64)>,
}

impl Origins {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The account for the log.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("memory takes what it is given")
    }

    /// Reads it; `None` for what is none.
    pub fn decode(octets: &[u8]) -> Option<Origins> {
        postcard::from_bytes(octets).ok()
    }

    /// Whether a publish was taken.
    pub fn look(&self, reference: PubRef) -> Sight {
        let Some(taken) = self.0.get(&node(reference)) else { return Sight::New };
        if reference.origin != taken.life {
            // Nobody sends for a node that has started again since.
            return if reference.origin > taken.life { Sight::New } else { Sight::Forgotten };
        }
        if reference.seq <= taken.forgotten {
            return Sight::Forgotten;
        }
        // What comes is usually new, and behind all others.
        if taken.ranges.back().is_none_or(|(_, last)| reference.seq > *last) {
            return Sight::New;
        }
        let at = taken.ranges.partition_point(|(_, last)| *last < reference.seq);
        match taken.ranges.get(at) {
            Some((first, _)) if *first <= reference.seq => Sight::Known,
            _ => Sight::New,
        }
    }

    /// A publish is taken.
    pub fn note(&mut self, reference: PubRef) {
        let taken = self.0.entry(node(reference)).or_default();
        if reference.origin > taken.life {
            *taken = Taken { life: reference.origin, ..Taken::default() };
        }
        if reference.origin == taken.life {
            taken.note(reference.seq);
        }
    }
}

impl Taken {
    fn note(&mut self, number: u64) {
        match self.ranges.back_mut() {
            Some((_, last)) if number.checked_sub(1) == Some(*last) => *last = number,
            Some((_, last)) if number <= *last => self.insert(number),
            _ => self.ranges.push_back((number, number)),
        }
        if self.ranges.len() > RANGES
            && let Some((_, last)) = self.ranges.pop_front()
        {
            self.forgotten = self.forgotten.max(last);
        }
    }

    /// Notes a number that comes late.
    fn insert(&mut self, number: u64) {
        let at = self.ranges.partition_point(|(_, last)| *last < number);
        let Some((first, last)) = self.ranges.get(at).copied() else { return };
        if first <= number {
            return;
        }
        let joins_next = number.checked_add(1) == Some(first);
        let before = at.checked_sub(1).filter(|before| self.ranges[*before].1.checked_add(1) == Some(number));
        match (before, joins_next) {
            (Some(before), true) => {
                self.ranges[before].1 = last;
                self.ranges.remove(at);
            }
            (Some(before), false) => self.ranges[before].1 = number,
            (None, true) => self.ranges[at].0 = number,
            (None, false) => self.ranges.insert(at, (number, number)),
        }
    }
}

fn node(reference: PubRef) -> u16 {
    (reference.origin >> START_BITS) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(life: u64, seq: u64) -> PubRef {
        PubRef { origin: life, seq }
    }

    #[test]
    fn every_number_is_known_once_it_was_taken_in_whatever_order() {
        let mut origins = Origins::default();
        let one = life(NodeId(3), 7);
        let mut taken = std::collections::BTreeSet::new();
        for seq in [1, 2, 3, 9, 5, 4, 8, 7, 7, 20, 6, 15, 16, 14, 1] {
            let sight = if taken.contains(&seq) { Sight::Known } else { Sight::New };
            assert_eq!(origins.look(of(one, seq)), sight, "{seq}");
            origins.note(of(one, seq));
            taken.insert(seq);
            for other in 1..25 {
                let sight = if taken.contains(&other) { Sight::Known } else { Sight::New };
                assert_eq!(origins.look(of(one, other)), sight, "{other} after {seq}");
            }
        }
        assert_eq!(origins.0[&3].ranges, [(1, 9), (14, 16), (20, 20)]);
    }

    #[test]
    fn an_account_is_read_as_it_was_written() {
        let mut origins = Origins::default();
        for seq in [1, 2, 9, u64::MAX] {
            origins.note(of(life(NodeId(7), 3), seq));
        }
        let octets = origins.encode();
        assert_eq!(Origins::decode(&octets), Some(origins));
        for end in 0..octets.len() {
            assert_eq!(Origins::decode(&octets[..end]), None);
        }
    }

    #[test]
    fn nodes_count_apart_and_a_new_life_begins_anew() {
        let mut origins = Origins::default();
        let (one, again, other) = (life(NodeId(1), 4), life(NodeId(1), 5), life(NodeId(2), 1));
        origins.note(of(one, 1));
        assert_eq!(origins.look(of(other, 1)), Sight::New);
        assert_eq!(origins.look(of(again, 1)), Sight::New);
        origins.note(of(again, 2));
        assert_eq!(origins.look(of(again, 1)), Sight::New);
        assert_eq!(origins.look(of(again, 2)), Sight::Known);
        assert_eq!(origins.look(of(one, 9)), Sight::Forgotten);
        origins.note(of(one, 9));
        assert_eq!(origins.look(of(again, 9)), Sight::New);
    }

    #[test]
    fn what_is_forgotten_is_neither_new_nor_known() {
        let mut origins = Origins::default();
        let one = life(NodeId(1), 1);
        for number in 1..=RANGES as u64 + 1 {
            origins.note(of(one, number * 2));
        }
        assert_eq!(origins.look(of(one, 1)), Sight::Forgotten);
        assert_eq!(origins.look(of(one, 2)), Sight::Forgotten);
        assert_eq!(origins.look(of(one, 3)), Sight::New);
        assert_eq!(origins.look(of(one, 4)), Sight::Known);
        assert!(origins.0[&1].ranges.len() <= RANGES);
    }

    #[test]
    fn the_ends_of_numbers_do_no_harm() {
        let mut origins = Origins::default();
        for seq in [u64::MAX, 0, u64::MAX - 1, 0, u64::MAX] {
            origins.note(of(0, seq));
        }
        assert_eq!(origins.look(of(0, u64::MAX)), Sight::Known);
    }
}
