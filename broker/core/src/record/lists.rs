//! Lists inside a record: ranges of `qseq` and the targets of a fan-out.
//!
//! A list is either the caller's slice (when encoding) or the log's bytes, checked once when the
//! record was decoded and read again by the iterators without allocating.

use super::codec::{Reader, Sink};

/// Consecutive messages of a queue, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QseqRange {
    /// The first.
    pub first: u64,
    /// The last; never below `first`.
    pub last: u64,
}

impl QseqRange {
    /// A range of one.
    #[must_use]
    pub fn one(qseq: u64) -> Self {
        Self { first: qseq, last: qseq }
    }
}

/// One queue of a fan-out and the message's position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The queue's number.
    pub queue_id: u64,
    /// The epoch of the enqueue.
    pub epoch: u32,
    /// Number of the record in that epoch's stream.
    pub off: u64,
    /// Position in the queue.
    pub qseq: u64,
}

/// A list of ranges.
#[derive(Debug, Clone, Copy)]
pub struct Ranges<'a>(Repr<'a, QseqRange>);

/// A list of fan-out targets.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a>(Repr<'a, Target>);

#[derive(Debug, Clone, Copy)]
enum Repr<'a, T> {
    Slice(&'a [T]),
    One(T),
    /// Checked when the record was decoded.
    Encoded {
        count: usize,
        bytes: &'a [u8],
    },
}

impl<'a> From<&'a [QseqRange]> for Ranges<'a> {
    /// Every range must have `first <= last`.
    fn from(ranges: &'a [QseqRange]) -> Self {
        debug_assert!(ranges.iter().all(|range| range.first <= range.last), "a range ends before it starts");
        Self(Repr::Slice(ranges))
    }
}

impl From<QseqRange> for Ranges<'_> {
    fn from(range: QseqRange) -> Self {
        debug_assert!(range.first <= range.last, "a range ends before it starts");
        Self(Repr::One(range))
    }
}

impl<'a> From<&'a [Target]> for Targets<'a> {
    fn from(targets: &'a [Target]) -> Self {
        Self(Repr::Slice(targets))
    }
}

impl<'a> Ranges<'a> {
    /// How many ranges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The ranges, in the order in which they were written.
    #[must_use]
    pub fn iter(&self) -> RangesIter<'a> {
        RangesIter(Iter::new(self.0))
    }

    pub(super) fn encode<S: Sink>(&self, sink: &mut S) {
        sink.varint(self.len() as u64);
        for range in self {
            sink.varint(range.first);
            sink.varint(range.last.saturating_sub(range.first));
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Option<Self> {
        let (count, bytes) = checked(reader, read_range)?;
        Some(Self(Repr::Encoded { count, bytes }))
    }
}

impl<'a> Targets<'a> {
    /// How many targets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets, in the order in which they were written.
    #[must_use]
    pub fn iter(&self) -> TargetsIter<'a> {
        TargetsIter(Iter::new(self.0))
    }

    pub(super) fn encode<S: Sink>(&self, sink: &mut S) {
        sink.varint(self.len() as u64);
        for target in self {
            sink.varint(target.queue_id);
            sink.varint(u64::from(target.epoch));
            sink.varint(target.off);
            sink.varint(target.qseq);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'a>) -> Option<Self> {
        let (count, bytes) = checked(reader, read_target)?;
        Some(Self(Repr::Encoded { count, bytes }))
    }
}

impl<T> Repr<'_, T> {
    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::One(_) => 1,
            Self::Encoded { count, .. } => *count,
        }
    }
}

/// Reads a count and that many items, and returns the bytes the items took.
fn checked<'a, T>(
    reader: &mut Reader<'a>,
    item: fn(&mut Reader<'a>) -> Option<T>,
) -> Option<(usize, &'a [u8])> {
    let count = usize::try_from(reader.varint()?).ok()?;
    let before = reader.rest();
    // The items themselves bound the loop: each takes at least one byte, and running out ends it.
    for _ in 0..count {
        item(reader)?;
    }
    Some((count, &before[..before.len() - reader.rest().len()]))
}

fn read_range(reader: &mut Reader<'_>) -> Option<QseqRange> {
    let first = reader.varint()?;
    let last = first.checked_add(reader.varint()?)?;
    Some(QseqRange { first, last })
}

fn read_target(reader: &mut Reader<'_>) -> Option<Target> {
    Some(Target {
        queue_id: reader.varint()?,
        epoch: u32::try_from(reader.varint()?).ok()?,
        off: reader.varint()?,
        qseq: reader.varint()?,
    })
}

#[derive(Debug, Clone)]
enum Iter<'a, T> {
    Slice(std::slice::Iter<'a, T>),
    One(Option<T>),
    Encoded(Reader<'a>),
}

impl<'a, T: Copy> Iter<'a, T> {
    fn new(repr: Repr<'a, T>) -> Self {
        match repr {
            Repr::Slice(slice) => Self::Slice(slice.iter()),
            Repr::One(item) => Self::One(Some(item)),
            Repr::Encoded { bytes, .. } => Self::Encoded(Reader::new(bytes)),
        }
    }

    fn next(&mut self, item: fn(&mut Reader<'a>) -> Option<T>) -> Option<T> {
        match self {
            Self::Slice(iter) => iter.next().copied(),
            Self::One(one) => one.take(),
            Self::Encoded(reader) => item(reader),
        }
    }
}

/// Iterates over [`Ranges`].
#[derive(Debug, Clone)]
pub struct RangesIter<'a>(Iter<'a, QseqRange>);

impl Iterator for RangesIter<'_> {
    type Item = QseqRange;

    fn next(&mut self) -> Option<QseqRange> {
        self.0.next(read_range)
    }
}

/// Iterates over [`Targets`].
#[derive(Debug, Clone)]
pub struct TargetsIter<'a>(Iter<'a, Target>);

impl Iterator for TargetsIter<'_> {
    type Item = Target;

    fn next(&mut self) -> Option<Target> {
        self.0.next(read_target)
    }
}

impl<'a> IntoIterator for &Ranges<'a> {
    type Item = QseqRange;
    type IntoIter = RangesIter<'a>;

    fn into_iter(self) -> RangesIter<'a> {
        self.iter()
    }
}

impl<'a> IntoIterator for &Targets<'a> {
    type Item = Target;
    type IntoIter = TargetsIter<'a>;

    fn into_iter(self) -> TargetsIter<'a> {
        self.iter()
    }
}

impl PartialEq for Ranges<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Ranges<'_> {}

impl PartialEq for Targets<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Targets<'_> {}
