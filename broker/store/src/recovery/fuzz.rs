//! Body of a fuzz target: the folding of records.

use super::{LiveSet, QueueImage};
use broker_core::record::{QseqRange, Record};

/// What each queue holds after the records that the octets begin with, one behind the other.
#[must_use]
pub fn live_set(octets: &[u8]) -> Vec<QueueImage> {
    let mut live = LiveSet::new();
    let mut rest = octets;
    let mut lsn = 0;
    while let Ok((record, used)) = Record::decode(rest) {
        lsn += 1;
        live.apply(lsn, record);
        rest = &rest[used..];
    }
    let images = live.finish();
    for image in &images {
        check(image);
    }
    images
}

fn check(image: &QueueImage) {
    for (&qseq, message) in &image.messages {
        assert_eq!((qseq, message.redelivered), (message.qseq, qseq < image.hwm));
        assert!(qseq < image.next_qseq || qseq == u64::MAX);
    }
    for (&first, note) in &image.segments {
        assert!(first <= note.last_qseq);
        let _ = note.dropped.missing(QseqRange { first, last: note.last_qseq });
        assert!(note.requeued.keys().all(|qseq| (first..=note.last_qseq).contains(qseq)));
    }
    // What is said of the queue before old files go says as much as they did.
    let mut again = LiveSet::new();
    again.apply(1, image.state_record());
    image.segment_records(|record| again.apply(2, record));
    let mut again = again.finish();
    let again = again.pop().expect("the queue that was said to be there");
    assert_eq!((again.epoch, again.next_qseq, again.hwm), (image.epoch, image.next_qseq, image.hwm));
    assert!(again.segments.keys().eq(image.segments.keys()));
}
