//! Which messages a copy of a queue has: positions, told apart by the epoch in which they were given out.
//!
//! Two leaders may give out the same position, so a position alone says nothing about what lies there. Within one copy
//! positions ascend with the epochs, which is why a short [`EpochTable`] tells the epoch of every message of it.

use crate::record::{QseqRange, QseqSet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Consecutive messages of one epoch, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MidRange {
    /// The epoch in which they were published.
    pub epoch: u32,
    /// Position of the first.
    pub first: u64,
    /// Position of the last; never below `first`.
    pub last: u64,
}

impl MidRange {
    /// One message.
    #[must_use]
    pub fn one(epoch: u32, qseq: u64) -> Self {
        Self { epoch, first: qseq, last: qseq }
    }

    fn positions(self) -> QseqRange {
        QseqRange { first: self.first, last: self.last }
    }
}

/// A set of messages of one queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<MidRange>", into = "Vec<MidRange>")]
pub struct MidSet(BTreeMap<u32, QseqSet>);

impl MidSet {
    /// The messages at these positions.
    #[must_use]
    pub fn at(positions: &QseqSet, epochs: &EpochTable) -> Self {
        let mut set = Self::default();
        for range in positions.ranges() {
            epochs.split(range, |range| set.insert(range));
        }
        set
    }

    /// Adds messages.
    pub fn insert(&mut self, range: MidRange) {
        self.0.entry(range.epoch).or_default().insert(range.positions());
    }

    /// Takes messages out.
    pub fn remove(&mut self, range: MidRange) {
        if let Some(set) = self.0.get_mut(&range.epoch) {
            set.remove(range.positions());
            if set.is_empty() {
                self.0.remove(&range.epoch);
            }
        }
    }

    /// Takes out whatever is at these positions.
    pub fn remove_positions(&mut self, range: QseqRange) {
        self.0.retain(|_, set| {
            set.remove(range);
            !set.is_empty()
        });
    }

    /// Takes all these messages out.
    pub fn remove_all(&mut self, other: &MidSet) {
        other.ranges().for_each(|range| self.remove(range));
    }

    /// What is in this set and not in the other.
    #[must_use]
    pub fn without(&self, other: &MidSet) -> Self {
        let mut rest = self.clone();
        rest.remove_all(other);
        rest
    }

    /// Takes the oldest messages out, at most so many.
    #[must_use]
    pub fn take_first(&mut self, most: u64) -> Self {
        let mut taken = Self::default();
        let mut room = most;
        while room > 0 {
            let Some(range) = self.ranges().next() else { break };
            let last = range.last.min(range.first.saturating_add(room - 1));
            let part = MidRange { last, ..range };
            room -= part.last - part.first + 1;
            self.remove(part);
            taken.insert(part);
        }
        taken
    }

    /// Whether a message is in it.
    #[must_use]
    pub fn contains(&self, epoch: u32, qseq: u64) -> bool {
        self.0.get(&epoch).is_some_and(|set| set.contains(qseq))
    }

    /// How many messages.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.values().fold(0, |sum, set| sum.saturating_add(set.len()))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest position in it.
    #[must_use]
    pub fn first_position(&self) -> Option<u64> {
        self.0.values().filter_map(|set| set.ranges().next()).map(|range| range.first).min()
    }

    /// The messages, by epoch and position.
    pub fn ranges(&self) -> impl Iterator<Item = MidRange> + '_ {
        self.0.iter().flat_map(|(&epoch, set)| {
            set.ranges().map(move |range| MidRange { epoch, first: range.first, last: range.last })
        })
    }
}

impl From<Vec<MidRange>> for MidSet {
    /// Ranges that end before they start hold nothing.
    fn from(ranges: Vec<MidRange>) -> Self {
        let mut set = Self::default();
        ranges.into_iter().filter(|range| range.first <= range.last).for_each(|range| set.insert(range));
        set
    }
}

impl From<MidSet> for Vec<MidRange> {
    fn from(set: MidSet) -> Self {
        set.ranges().collect()
    }
}

impl FromIterator<MidRange> for MidSet {
    fn from_iter<T: IntoIterator<Item = MidRange>>(ranges: T) -> Self {
        ranges.into_iter().collect::<Vec<_>>().into()
    }
}

/// From which position on messages were published in which epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochTable(Vec<(u64, u32)>);

impl EpochTable {
    /// Everything belongs to this epoch.
    #[must_use]
    pub fn starting(epoch: u32) -> Self {
        Self(vec![(0, epoch)])
    }

    /// From this position on it is this epoch. Older entries that begin there or later, or are not older, go.
    pub fn begin(&mut self, qseq: u64, epoch: u32) {
        self.0.retain(|&(first, known)| first < qseq && known < epoch);
        self.0.push((qseq, epoch));
    }

    /// The epoch in which the message at this position was published; 0 before the first.
    #[must_use]
    pub fn of(&self, qseq: u64) -> u32 {
        let after = self.0.partition_point(|(first, _)| *first <= qseq);
        after.checked_sub(1).map_or(0, |at| self.0[at].1)
    }

    /// The last position of the epoch that the message at this position belongs to.
    #[must_use]
    pub fn last_of_epoch(&self, qseq: u64) -> u64 {
        let after = self.0.partition_point(|(first, _)| *first <= qseq);
        self.0.get(after).map_or(u64::MAX, |(first, _)| first - 1)
    }

    /// How many epochs it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn split(&self, range: QseqRange, mut visit: impl FnMut(MidRange)) {
        let mut first = range.first;
        loop {
            let last = self.last_of_epoch(first).min(range.last);
            visit(MidRange { epoch: self.of(first), first, last });
            if last == range.last {
                return;
            }
            first = last + 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_epoch_of_a_message_follows_from_its_position() {
        let mut table = EpochTable::starting(1);
        table.begin(10, 3);
        table.begin(20, 4);
        // A leader that lacked what the one before it had given out from 15 on.
        table.begin(15, 6);
        assert_eq!([0, 9, 10, 14, 15, 99].map(|qseq| table.of(qseq)), [1, 1, 3, 3, 6, 6]);
        assert_eq!([0, 9, 10, 15].map(|qseq| table.last_of_epoch(qseq)), [9, 9, 14, u64::MAX]);
        let mut positions = QseqSet::default();
        positions.insert(QseqRange { first: 8, last: 16 });
        let ranges: Vec<_> = MidSet::at(&positions, &table).into();
        let range = |epoch, first, last| MidRange { epoch, first, last };
        assert_eq!(ranges, [range(1, 8, 9), range(3, 10, 14), range(6, 15, 16)]);
    }

    fn ranges() -> impl Strategy<Value = Vec<(u32, u64, u64)>> {
        proptest::collection::vec((1..4u32, 0..40u64, 0..8u64), 0..12)
    }

    fn both(ranges: &[(u32, u64, u64)]) -> (MidSet, BTreeSet<(u32, u64)>) {
        let range = |&(epoch, first, more): &(u32, u64, u64)| MidRange { epoch, first, last: first + more };
        let set = ranges.iter().map(range).collect();
        let plain = ranges
            .iter()
            .flat_map(|&(epoch, first, more)| (first..=first + more).map(move |qseq| (epoch, qseq)));
        (set, plain.collect())
    }

    fn plain(set: &MidSet) -> BTreeSet<(u32, u64)> {
        set.ranges().flat_map(|range| (range.first..=range.last).map(move |at| (range.epoch, at))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// The set does what a plain set of pairs does.
        #[test]
        fn sets_of_messages_are_sets(one in ranges(), other in ranges(), at in 0..40u64, most in 0..30u64) {
            let ((one, one_plain), (other, other_plain)) = (both(&one), both(&other));
            prop_assert_eq!(plain(&one), one_plain.clone());
            prop_assert_eq!(one.len(), one_plain.len() as u64);
            prop_assert_eq!(one.first_position(), one_plain.iter().map(|(_, qseq)| *qseq).min());
            let without: BTreeSet<_> = one_plain.difference(&other_plain).copied().collect();
            prop_assert_eq!(plain(&one.without(&other)), without);
            let mut union = one.clone();
            other.ranges().for_each(|range| union.insert(range));
            prop_assert_eq!(plain(&union), one_plain.union(&other_plain).copied().collect());
            let mut left = one.clone();
            left.remove_positions(QseqRange { first: at, last: at + 3 });
            let kept = one_plain.iter().copied().filter(|(_, qseq)| !(at..=at + 3).contains(qseq));
            prop_assert_eq!(plain(&left), kept.collect());
            let mut rest = one.clone();
            let taken = rest.take_first(most);
            let expected: BTreeSet<_> = one_plain.iter().copied().take(most as usize).collect();
            prop_assert_eq!(plain(&taken), expected.clone());
            prop_assert_eq!(plain(&rest), one_plain.difference(&expected).copied().collect());
            let octets = postcard::to_stdvec(&one).unwrap();
            prop_assert_eq!(postcard::from_bytes::<MidSet>(&octets).unwrap(), one);
        }
    }
}
