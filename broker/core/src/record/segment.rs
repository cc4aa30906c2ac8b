//! What the log says of a segment file: said when it is added, and again before the files that said so are released.

use super::{At, DropReason, QseqRange, QseqSet, Record};
use std::collections::BTreeMap;

/// A segment and what happened to its messages since it was written.
#[derive(Debug, Clone, Copy)]
pub struct SegmentRecords<'a> {
    /// Where in which queue's stream the records stand.
    pub at: At,
    /// First message of the segment; names the file.
    pub first_qseq: u64,
    /// Last message of the segment.
    pub last_qseq: u64,
    /// The segment's description, as the store encodes it.
    pub meta: &'a [u8],
    /// Messages that are gone.
    pub gone: &'a [&'a QseqSet],
    /// Messages that were returned, and how often, where that is counted.
    pub requeued: &'a BTreeMap<u64, u32>,
}

impl SegmentRecords<'_> {
    /// The records, in order: `SEGADD`, and `DROP` and `REQUEUE` for what happened to its messages since.
    pub fn visit(&self, mut visitor: impl FnMut(Record<'_>)) {
        let SegmentRecords { at, first_qseq, last_qseq, meta, gone, requeued } = *self;
        visitor(Record::SegAdd { at, first_qseq, last_qseq, meta });
        for set in gone {
            let ranges: Vec<QseqRange> = set.ranges().collect();
            if !ranges.is_empty() {
                visitor(Record::Drop { at, reason: DropReason::Ack, ranges: ranges.as_slice().into() });
            }
        }
        for (&qseq, &delivery_count_delta) in requeued {
            let ranges = QseqRange::one(qseq).into();
            visitor(Record::Requeue { at, delivery_count_delta, ranges });
        }
    }
}
