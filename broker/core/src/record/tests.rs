//! Records come back as they went in, and nothing else decodes.

use super::*;

fn sample() -> Message<'static> {
    Message {
        enq_ms: 1_764_000_000_123,
        expiry_ms: Some(1_764_000_060_123),
        priority: Some(9),
        pub_ref: Some(PubRef { origin: 77, seq: u64::MAX }),
        delivery_count: 3,
        exchange: "orders",
        routing_key: "eu.new",
        properties: &[0x18, 0x00, 0x02, 0x01],
        body: b"hello",
    }
}

pub(crate) fn all_kinds() -> Vec<Record<'static>> {
    const RANGES: &[QseqRange] = &[QseqRange { first: 0, last: 0 }, QseqRange { first: 7, last: u64::MAX }];
    const TARGETS: &[Target] = &[
        Target { queue_id: 1, epoch: 2, off: 3, qseq: 4 },
        Target { queue_id: u64::MAX, epoch: u32::MAX, off: u64::MAX, qseq: 0 },
    ];
    let at = At { queue_id: 300, epoch: 2, off: 1 << 40 };
    let plain = Message { body: b"x", ..Message::default() };
    vec![
        Record::Enq(Enq { queue_id: 300, epoch: 2, off: 5, qseq: 6, message: sample() }),
        Record::Enq(Enq { queue_id: 0, epoch: 0, off: 0, qseq: 0, message: plain }),
        Record::EnqMulti { targets: TARGETS.into(), message: sample() },
        Record::Drop { at, reason: DropReason::Ack, ranges: RANGES.into() },
        Record::Drop { at, reason: DropReason::DeadLettered, ranges: QseqRange::one(9).into() },
        Record::Requeue { at, delivery_count_delta: 1, ranges: RANGES.into() },
        Record::Hwm { at, hwm: 4096 },
        Record::Epoch { at, leader: 3 },
        Record::QOpen { at, next_qseq: 12, hwm: 10 },
        Record::QClose { at },
        Record::SegAdd { at, first_qseq: 1, last_qseq: 16_384, meta: b"meta" },
        Record::SegDel { at, first_qseq: 1 },
        Record::Taken { at, origins: b"account" },
        Record::Ckpt { lsn: 99 },
    ]
}

#[test]
fn every_kind_comes_back_as_it_went_in() {
    let mut log = Vec::new();
    for record in all_kinds() {
        record.encode(&mut log);
    }
    let mut rest = log.as_slice();
    for expected in all_kinds() {
        let (record, used) = Record::decode(rest).unwrap();
        assert_eq!(record, expected);
        rest = &rest[used..];
    }
    assert!(rest.is_empty());
}

#[test]
fn every_cut_is_an_error_and_so_is_a_byte_too_many() {
    for record in all_kinds() {
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(matches!(Record::decode(&bytes[..cut]), Err(DecodeError::Truncated { .. })));
        }
        if !matches!(record, Record::Enq(_) | Record::EnqMulti { .. }) {
            // The body of a message takes whatever is left; every other record has a fixed end.
            bytes[0] += 1;
            bytes.push(0);
            assert!(matches!(Record::decode(&bytes), Err(DecodeError::Malformed(_))), "{record:?}");
        }
    }
}

#[test]
fn unknown_kinds_and_flags_are_named() {
    let unknown = Record::decode(&[5, 13, 0, 1, 1, 1]);
    assert_eq!(unknown, Err(DecodeError::UnknownKind(13)));
    let flags = Record::decode(&[6, HWM_KIND, 0x10, 1, 1, 1, 1]);
    assert_eq!(flags, Err(DecodeError::UnknownFlags { kind: HWM_KIND, flags: 0x10 }));
}

const HWM_KIND: u8 = 5;

#[test]
fn a_name_that_is_no_short_string_and_a_second_encoding_are_refused() {
    let long = "x".repeat(256);
    let message = Message { exchange: &long, ..Message::default() };
    let mut bytes = Vec::new();
    Record::Enq(Enq { queue_id: 1, epoch: 1, off: 1, qseq: 1, message }).encode(&mut bytes);
    assert_eq!(Record::decode(&bytes), Err(DecodeError::Malformed(1)));
    // A mark of 1, written with two bytes; a checkpoint that stands in a queue; a delivery count of 0.
    assert_eq!(Record::decode(&[7, HWM_KIND, 0, 1, 1, 1, 0x81, 0]), Err(DecodeError::Malformed(HWM_KIND)));
    assert_eq!(Record::decode(&[6, 11, 0, 1, 0, 0, 9]), Err(DecodeError::Malformed(11)));
    assert_eq!(Record::decode(&[11, 1, 8, 1, 1, 1, 1, 0, 0, 0, 0, 0]), Err(DecodeError::Malformed(1)));
}

#[test]
fn a_claimed_count_costs_no_more_than_its_bytes() {
    // A DROP that claims 2^63 ranges and has none.
    let mut bytes = vec![0, 3, 0, 1, 1, 1, 1];
    bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    bytes[0] = (bytes.len() - 1) as u8;
    assert_eq!(Record::decode(&bytes), Err(DecodeError::Malformed(3)));
}

/// A small generator (xorshift) so that the test needs no clock and no dependency.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[test]
fn noise_never_panics_and_what_decodes_encodes_to_something_equal() {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let seeds: Vec<Vec<u8>> = all_kinds()
        .iter()
        .map(|record| {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            bytes
        })
        .collect();
    let mut decoded = 0;
    for round in 0..200_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=noise.next() % 4 {
            let at = (noise.next() as usize) % bytes.len();
            bytes[at] = noise.next() as u8;
        }
        if let Ok((record, used)) = Record::decode(&bytes) {
            assert!(used <= bytes.len());
            let mut again = Vec::new();
            record.encode(&mut again);
            let (same, _) = Record::decode(&again).unwrap();
            assert_eq!(record, same);
            decoded += 1;
        }
    }
    assert!(decoded > 1000, "the mutations are too wild to reach the fields: {decoded}");
}
