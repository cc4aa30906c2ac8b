//! Segments on a real file system.

use broker_core::record::Message;

use super::*;
use crate::disk::RealDisk;

const UUID: [u8; 16] = *b"0123456789abcdef";
const BASE_MS: u64 = 1_764_000_000_000;

fn enq(qseq: u64, body: &[u8]) -> Enq<'_> {
    let expiry_ms = qseq.is_multiple_of(3).then_some(BASE_MS + qseq * 700);
    let priority = qseq.is_multiple_of(5).then_some(7);
    let message = Message { expiry_ms, priority, exchange: "e", body, ..Message::default() };
    Enq { queue_id: 9, epoch: 1, off: qseq, qseq, message }
}

fn write(dir: &Path, qseqs: impl Iterator<Item = u64>) -> SegmentMeta {
    let mut builder = SegmentBuilder::new(9, UUID);
    for qseq in qseqs {
        assert!(builder.push(&enq(qseq, &[qseq as u8; 100])));
    }
    builder.write(&RealDisk, dir).unwrap().unwrap()
}

#[test]
fn messages_come_back_by_slot_and_the_index_knows_expiry_and_priority() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), (10..1000u64).filter(|qseq| !qseq.is_multiple_of(7)));
    assert_eq!(list(&RealDisk, dir.path()).unwrap(), [10]);
    let segment = Segment::open(&RealDisk, dir.path(), &UUID, 9, 10).unwrap();
    assert_eq!(*segment.meta(), meta);
    assert_eq!(SegmentMeta::decode(9, 10, 999, &meta.encode()), Some(meta));
    let index = segment.index().unwrap();
    assert_eq!(index.entries().len(), meta.messages as usize);
    assert_eq!(index.slot(14), None);
    let slot = index.slot(15).unwrap();
    let entry = index.entries()[slot];
    assert_eq!((entry.qseq, entry.priority), (15, Some(7)));
    let expiry = BASE_MS + 15 * 700;
    assert!((expiry..expiry + 1000).contains(&entry.expiry_ms.unwrap()));

    let window = index.window(index.slot_from(500), 2000);
    let mut buffer = Vec::new();
    let mut seen = Vec::new();
    segment
        .read(&index, window.clone(), &mut buffer, |slot, enq| {
            assert_eq!(enq.message.body, &[enq.qseq as u8; 100]);
            seen.push((slot, enq.qseq));
        })
        .unwrap();
    assert_eq!(seen.len(), window.len());
    assert_eq!(seen[0], (window.start, 500));
    assert!(seen.len() > 10 && buffer.len() <= 2000);
    assert!(segment.read(&index, 0..5000, &mut buffer, |_, _| {}).is_err());
}

#[test]
fn a_segment_is_full_by_number_by_size_and_takes_one_large_message() {
    let mut many = SegmentBuilder::new(9, UUID);
    for qseq in 0..MOST_MESSAGES as u64 {
        assert!(many.push(&enq(qseq, b"")));
    }
    assert!(!many.push(&enq(MOST_MESSAGES as u64, b"")));
    let large = vec![1; MOST_BYTES + 1];
    let mut single = SegmentBuilder::new(9, UUID);
    assert!(single.push(&enq(1, &large)));
    assert!(!single.push(&enq(2, b"x")));
    let mut far = SegmentBuilder::new(9, UUID);
    assert!(far.push(&enq(1, b"")));
    assert!(!far.push(&enq(1 << 40, b"")));
}

#[test]
fn every_flipped_bit_is_reported_or_in_unused_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let meta = write(dir.path(), 1..6);
    let path = dir.path().join(data_name(1));
    let good = std::fs::read(&path).unwrap();
    let read_all = || -> Result<Vec<u64>, SegmentError> {
        let segment = Segment::open(&RealDisk, dir.path(), &UUID, 9, 1)?;
        let index = segment.index()?;
        let mut seen = Vec::new();
        segment.read(&index, 0..index.entries().len(), &mut Vec::new(), |_, enq| seen.push(enq.qseq))?;
        assert_eq!(*segment.meta(), meta);
        Ok(seen)
    };
    assert_eq!(read_all().unwrap(), [1, 2, 3, 4, 5]);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&path, bytes).unwrap();
        // The end of the footer is zero and means nothing.
        let unused = at >= good.len() - (FOOTER_BYTES - 52);
        assert_eq!(read_all().is_err(), !unused, "byte {at}");
    }
    for len in 0..good.len() {
        std::fs::write(&path, &good[..len]).unwrap();
        assert!(read_all().is_err(), "cut to {len}");
    }
    std::fs::write(&path, &good).unwrap();
    let foreign = Segment::open(&RealDisk, dir.path(), &[0; 16], 9, 1).map(drop);
    assert!(matches!(foreign, Err(SegmentError::Foreign { .. })));
}

#[test]
fn a_removed_segment_may_be_removed_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1..21);
    remove(&RealDisk, dir.path(), 1).unwrap();
    remove(&RealDisk, dir.path(), 1).unwrap();
    assert!(list(&RealDisk, dir.path()).unwrap().is_empty());
}
