//! Property tests: records against themselves, and the folding of records against the simplest
//! thing that could be right.

use std::collections::{BTreeMap, BTreeSet};

use broker_core::record::{At, DropReason, Enq, Message, PubRef, QseqRange, Record, Target};
use broker_store::recovery::LiveSet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// A record that owns what it is made of.
#[derive(Debug, Clone)]
enum Owned {
    Enq(Target, Content),
    EnqMulti(Vec<Target>, Content),
    Drop(At, u8, Vec<QseqRange>),
    Requeue(At, u32, Vec<QseqRange>),
    Hwm(At, u64),
    Epoch(At, u64),
    QOpen(At, u64, u64),
    QClose(At),
    SegAdd(At, u64, u64, Vec<u8>),
    SegDel(At, u64),
    Taken(At, Vec<u8>),
    Ckpt(u64),
}

#[derive(Debug, Clone)]
struct Content {
    enq_ms: u64,
    expiry_ms: Option<u64>,
    priority: Option<u8>,
    pub_ref: Option<(u64, u64)>,
    delivery_count: u32,
    exchange: String,
    routing_key: String,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl Content {
    fn message(&self) -> Message<'_> {
        Message {
            enq_ms: self.enq_ms,
            expiry_ms: self.expiry_ms,
            priority: self.priority,
            pub_ref: self.pub_ref.map(|(origin, seq)| PubRef { origin, seq }),
            delivery_count: self.delivery_count,
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            properties: &self.properties,
            body: &self.body,
        }
    }
}

impl Owned {
    fn record(&self) -> Record<'_> {
        match self {
            Self::Enq(Target { queue_id, epoch, off, qseq }, content) => Record::Enq(Enq {
                queue_id: *queue_id,
                epoch: *epoch,
                off: *off,
                qseq: *qseq,
                message: content.message(),
            }),
            Self::EnqMulti(targets, content) => {
                Record::EnqMulti { targets: targets.as_slice().into(), message: content.message() }
            }
            Self::Drop(at, reason, ranges) => {
                let reasons = [
                    DropReason::Ack,
                    DropReason::Expired,
                    DropReason::MaxLen,
                    DropReason::Purged,
                    DropReason::DeadLettered,
                ];
                let reason = reasons[usize::from(*reason) % reasons.len()];
                Record::Drop { at: *at, reason, ranges: ranges.as_slice().into() }
            }
            Self::Requeue(at, delta, ranges) => {
                Record::Requeue { at: *at, delivery_count_delta: *delta, ranges: ranges.as_slice().into() }
            }
            Self::Hwm(at, hwm) => Record::Hwm { at: *at, hwm: *hwm },
            Self::Epoch(at, leader) => Record::Epoch { at: *at, leader: *leader },
            Self::QOpen(at, next_qseq, hwm) => Record::QOpen { at: *at, next_qseq: *next_qseq, hwm: *hwm },
            Self::QClose(at) => Record::QClose { at: *at },
            Self::SegAdd(at, first_qseq, last_qseq, meta) => {
                Record::SegAdd { at: *at, first_qseq: *first_qseq, last_qseq: *last_qseq, meta }
            }
            Self::SegDel(at, first_qseq) => Record::SegDel { at: *at, first_qseq: *first_qseq },
            Self::Taken(at, origins) => Record::Taken { at: *at, origins },
            Self::Ckpt(lsn) => Record::Ckpt { lsn: *lsn },
        }
    }
}

prop_compose! {
    fn at()(queue_id: u64, epoch: u32, off: u64) -> At {
        At { queue_id, epoch, off }
    }
}

prop_compose! {
    fn target()(queue_id: u64, epoch: u32, off: u64, qseq: u64) -> Target {
        Target { queue_id, epoch, off, qseq }
    }
}

prop_compose! {
    fn range()(one: u64, other: u64) -> QseqRange {
        QseqRange { first: one.min(other), last: one.max(other) }
    }
}

prop_compose! {
    fn content()(
        enq_ms: u64,
        expiry_ms in option::of(any::<u64>()),
        priority in option::of(any::<u8>()),
        pub_ref in option::of(any::<(u64, u64)>()),
        delivery_count: u32,
        exchange in ".{0,20}",
        routing_key in ".{0,60}",
        properties in vec(any::<u8>(), 0..60),
        body in vec(any::<u8>(), 0..300),
    ) -> Content {
        Content {
            enq_ms, expiry_ms, priority, pub_ref, delivery_count, exchange, routing_key, properties, body,
        }
    }
}

fn record() -> impl Strategy<Value = Owned> {
    prop_oneof![
        (target(), content()).prop_map(|(target, content)| Owned::Enq(target, content)),
        (vec(target(), 0..5), content()).prop_map(|(targets, content)| Owned::EnqMulti(targets, content)),
        (at(), any::<u8>(), vec(range(), 0..6)).prop_map(|(at, why, ranges)| Owned::Drop(at, why, ranges)),
        (at(), any::<u32>(), vec(range(), 0..6)).prop_map(|(at, by, ranges)| Owned::Requeue(at, by, ranges)),
        (at(), any::<u64>()).prop_map(|(at, hwm)| Owned::Hwm(at, hwm)),
        (at(), any::<u64>()).prop_map(|(at, leader)| Owned::Epoch(at, leader)),
        (at(), any::<u64>(), any::<u64>()).prop_map(|(at, next, hwm)| Owned::QOpen(at, next, hwm)),
        at().prop_map(Owned::QClose),
        (at(), any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..40))
            .prop_map(|(at, first, last, meta)| Owned::SegAdd(at, first, last, meta)),
        (at(), any::<u64>()).prop_map(|(at, first)| Owned::SegDel(at, first)),
        (at(), vec(any::<u8>(), 0..40)).prop_map(|(at, origins)| Owned::Taken(at, origins)),
        any::<u64>().prop_map(Owned::Ckpt),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Encoding and decoding are inverse, and records find their ends in a row of them.
    #[test]
    fn records_come_back(records in vec(record(), 1..6)) {
        let mut bytes = Vec::new();
        for record in &records {
            record.record().encode(&mut bytes);
        }
        let mut rest = bytes.as_slice();
        for expected in &records {
            let (record, used) = Record::decode(rest).unwrap();
            prop_assert_eq!(record, expected.record());
            rest = &rest[used..];
        }
        prop_assert!(rest.is_empty());
    }

    /// No bytes make the decoder panic, and it never claims more than there is.
    #[test]
    fn noise_does_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok((_, used)) = Record::decode(&bytes) {
            prop_assert!(used <= bytes.len());
        }
    }

    /// No records make the fold panic, whatever numbers they hold.
    #[test]
    fn folding_anything_does_not_panic(records in vec(record(), 0..30)) {
        let mut live = LiveSet::new();
        for (record, lsn) in records.iter().zip(1..) {
            live.apply(lsn, record.record());
        }
        let queues = live.finish();
        prop_assert!(queues.windows(2).all(|pair| pair[0].queue_id < pair[1].queue_id));
    }
}

/// What a queue may do, in small numbers so that things meet.
#[derive(Debug, Clone)]
enum Step {
    Enqueue(u64),
    Drop(u64, u64),
    Requeue(u64),
    Reserve(u64),
    PageOut(u64, u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..60u64).prop_map(Step::Enqueue),
        2 => (0..60u64, 0..20u64).prop_map(|(first, len)| Step::Drop(first, first + len)),
        1 => (0..60u64).prop_map(Step::Requeue),
        1 => (0..60u64).prop_map(Step::Reserve),
        1 => (0..60u64, 0..10u64).prop_map(|(first, len)| Step::PageOut(first, first + len)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The fold holds what a plain set of positions holds.
    #[test]
    fn folding_is_a_set_of_positions(steps in vec(step(), 0..80)) {
        let at = At { queue_id: 1, epoch: 1, off: 0 };
        let mut fold = LiveSet::new();
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        let mut paged: BTreeSet<u64> = BTreeSet::new();
        let (mut next_qseq, mut hwm) = (0, 0);
        for (step, lsn) in steps.iter().zip(1..) {
            match *step {
                Step::Enqueue(qseq) => {
                    // A position that is in a segment is not enqueued again.
                    if paged.contains(&qseq) {
                        continue;
                    }
                    let message = Message::default();
                    fold.apply(lsn, Record::Enq(Enq { queue_id: 1, epoch: 1, off: 0, qseq, message }));
                    counts.insert(qseq, 0);
                    next_qseq = next_qseq.max(qseq + 1);
                }
                Step::Drop(first, last) => {
                    let ranges = QseqRange { first, last }.into();
                    fold.apply(lsn, Record::Drop { at, reason: DropReason::Ack, ranges });
                    counts.retain(|qseq, _| !(first..=last).contains(qseq));
                    next_qseq = next_qseq.max(last + 1);
                }
                Step::Requeue(qseq) => {
                    let ranges = QseqRange::one(qseq).into();
                    fold.apply(lsn, Record::Requeue { at, delivery_count_delta: 1, ranges });
                    if let Some(count) = counts.get_mut(&qseq) {
                        *count += 1;
                    }
                }
                Step::Reserve(to) => {
                    fold.apply(lsn, Record::Hwm { at, hwm: to });
                    hwm = hwm.max(to);
                }
                Step::PageOut(first_qseq, last_qseq) => {
                    // Segments do not overlap.
                    if (first_qseq..=last_qseq).any(|qseq| paged.contains(&qseq)) {
                        continue;
                    }
                    fold.apply(lsn, Record::SegAdd { at, first_qseq, last_qseq, meta: b"" });
                    paged.extend(first_qseq..=last_qseq);
                    counts.retain(|qseq, _| !(first_qseq..=last_qseq).contains(qseq));
                    next_qseq = next_qseq.max(last_qseq + 1);
                }
            }
        }
        let queues = fold.finish();
        if let Some(queue) = queues.first() {
            let live: BTreeMap<u64, u32> =
                queue.messages.values().map(|message| (message.qseq, message.delivery_count)).collect();
            prop_assert_eq!(live, counts);
            prop_assert_eq!((queue.next_qseq, queue.hwm), (next_qseq, hwm));
            prop_assert!(queue.messages.values().all(|message| message.redelivered == (message.qseq < hwm)));
        } else {
            prop_assert!(counts.is_empty());
        }
    }
}
