//! A set of positions in a queue, kept as ranges: what is gone out of a segment.

use super::QseqRange;
use std::collections::BTreeMap;

/// A set of positions in a queue, as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QseqSet(BTreeMap<u64, u64>);

impl QseqSet {
    /// Adds a range.
    pub fn insert(&mut self, range: QseqRange) {
        let QseqRange { mut first, mut last } = range;
        // Join with the range before, if it reaches this one, and with those this one reaches.
        if let Some((&before, &end)) = self.0.range(..=first).next_back()
            && end.saturating_add(1) >= first
        {
            first = before;
            last = last.max(end);
        }
        while let Some((&next, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            self.0.remove(&next);
            last = last.max(end);
        }
        self.0.insert(first, last);
    }

    /// Takes a range out.
    pub fn remove(&mut self, range: QseqRange) {
        let QseqRange { first, last } = range;
        // What reaches into the range from before keeps its beginning, and its end where it reaches beyond.
        let before = self.0.range(..first).next_back().map(|(&start, &end)| (start, end));
        if let Some((start, end)) = before.filter(|(_, end)| *end >= first) {
            self.0.insert(start, first - 1);
            if end > last {
                self.0.insert(last + 1, end);
            }
        }
        while let Some((&start, &end)) = self.0.range(first..=last).next() {
            self.0.remove(&start);
            if end > last {
                self.0.insert(last + 1, end);
            }
        }
    }

    /// How many positions are in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        let spans = self.0.iter().map(|(&first, &last)| last - first);
        spans.fold(0, |sum: u64, span| sum.saturating_add(span).saturating_add(1))
    }

    /// The lowest position.
    #[must_use]
    pub fn first(&self) -> Option<u64> {
        self.0.first_key_value().map(|(&first, _)| first)
    }

    /// Whether a position is in it.
    #[must_use]
    pub fn contains(&self, qseq: u64) -> bool {
        self.0.range(..=qseq).next_back().is_some_and(|(_, &last)| last >= qseq)
    }

    /// How many positions of `range` are not in it.
    #[must_use]
    pub fn missing(&self, range: QseqRange) -> u64 {
        let before = self.0.range(..range.first).next_back().map(|(_, &last)| last);
        let from =
            before.filter(|last| *last >= range.first).map_or(range.first, |last| last.saturating_add(1));
        if from > range.last {
            return 0;
        }
        // All positions there are would be one too many for a number.
        let counted = |sum: u64, span: u64| sum.saturating_add(span).saturating_add(1);
        let taken: u64 = self
            .0
            .range(from..=range.last)
            .map(|(&first, &last)| last.min(range.last) - first)
            .fold(0, counted);
        counted(0, range.last - from).saturating_sub(taken)
    }

    /// The ranges, ascending, with gaps between them.
    pub fn ranges(&self) -> impl Iterator<Item = QseqRange> + '_ {
        self.0.iter().map(|(&first, &last)| QseqRange { first, last })
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_out_leaves_both_sides() {
        let mut set = QseqSet::default();
        let range = |first, last| QseqRange { first, last };
        set.insert(range(1, 10));
        set.insert(range(20, 30));
        set.remove(range(4, 5));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [range(1, 3), range(6, 10), range(20, 30)]);
        set.remove(range(8, 22));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [range(1, 3), range(6, 7), range(23, 30)]);
        set.remove(range(0, 1));
        set.remove(range(30, u64::MAX));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [range(2, 3), range(6, 7), range(23, 29)]);
        assert_eq!((set.len(), set.first()), (11, Some(2)));
        set.insert(range(u64::MAX, u64::MAX));
        set.remove(range(0, u64::MAX));
        assert!(set.is_empty() && set.first().is_none());
    }

    #[test]
    fn ranges_join_and_what_is_missing_is_counted() {
        let mut set = QseqSet::default();
        let range = |first, last| QseqRange { first, last };
        assert_eq!(set.missing(range(1, 10)), 10);
        set.insert(range(3, 4));
        set.insert(range(8, 8));
        assert_eq!(set.missing(range(1, 10)), 7);
        assert_eq!(set.missing(range(4, 8)), 3);
        assert_eq!(set.missing(range(3, 4)), 0);
        set.insert(range(5, 7));
        assert_eq!(set.ranges().collect::<Vec<_>>(), [range(3, 8)]);
        assert_eq!(set.missing(range(8, 9)), 1);
        assert!(set.contains(8) && !set.contains(9) && !set.is_empty());
    }
}
