//! Folding records.

use broker_core::queue::origins::Sight;
use broker_core::record::{DropReason, QseqRange, Target};

use super::*;

fn at(off: u64) -> At {
    At { queue_id: 7, epoch: 1, off }
}

fn enq(qseq: u64) -> Record<'static> {
    let message = Message { enq_ms: 1, exchange: "e", routing_key: "k", body: b"b", ..Message::default() };
    Record::Enq(Enq { queue_id: 7, epoch: 1, off: qseq, qseq, message })
}

fn drop_record(first: u64, last: u64) -> Record<'static> {
    Record::Drop { at: at(0), reason: DropReason::Ack, ranges: QseqRange { first, last }.into() }
}

fn fold(records: &[Record<'_>]) -> Vec<QueueImage> {
    let mut set = LiveSet::new();
    for (index, record) in records.iter().enumerate() {
        set.apply(index as u64 + 1, *record);
    }
    set.finish()
}

fn qseqs(image: &QueueImage) -> Vec<u64> {
    image.messages.keys().copied().collect()
}

#[test]
fn what_was_enqueued_and_not_dropped_is_live_in_order() {
    let image = &fold(&[enq(3), enq(1), enq(2), enq(4), drop_record(2, 3)])[0];
    assert_eq!(qseqs(image), [1, 4]);
    assert_eq!(image.next_qseq, 5);
    assert_eq!(image.messages[&4].lsn, 4);
    assert_eq!(image.messages[&1].body.as_ref(), b"b");
}

#[test]
fn a_message_written_again_moves_and_is_not_doubled() {
    let mut again = enq(1);
    if let Record::Enq(enq) = &mut again {
        enq.message.delivery_count = 2;
    }
    let image = &fold(&[enq(1), enq(2), again])[0];
    assert_eq!(qseqs(image), [1, 2]);
    assert_eq!(image.messages[&1].lsn, 3);
    assert_eq!(image.messages[&1].delivery_count, 2);
}

#[test]
fn publishes_of_other_nodes_are_known_after_their_messages_are_gone() {
    let reference = PubRef { origin: 5, seq: 9 };
    let mut sent = enq(1);
    if let Record::Enq(enq) = &mut sent {
        enq.message.pub_ref = Some(reference);
    }
    let image = &fold(&[sent, drop_record(1, 1)])[0];
    assert!(image.messages.is_empty());
    assert_eq!(image.origins.look(reference), Sight::Known);
    assert_eq!(image.origins.look(PubRef { seq: 8, ..reference }), Sight::New);
}

#[test]
fn an_account_of_publishes_replaces_what_older_records_say() {
    let of = |seq| PubRef { origin: 5, seq };
    let sent = |seq| {
        let mut sent = enq(seq);
        if let Record::Enq(enq) = &mut sent {
            enq.message.pub_ref = Some(of(seq));
        }
        sent
    };
    let mut known = Origins::default();
    known.note(of(7));
    let octets = known.encode();
    let taken = |origins| Record::Taken { at: at(2), origins };
    let image = &fold(&[sent(1), taken(&octets), sent(2), taken(b"\xff")])[0];
    let sights = [1, 2, 7].map(|seq| image.origins.look(of(seq)));
    assert_eq!(sights, [Sight::New, Sight::Known, Sight::Known]);
}

#[test]
fn below_the_high_water_mark_is_redelivered_and_above_is_not() {
    let image = &fold(&[enq(1), enq(2), enq(3), Record::Hwm { at: at(9), hwm: 3 }])[0];
    let redelivered: Vec<bool> = image.messages.values().map(|message| message.redelivered).collect();
    assert_eq!(redelivered, [true, true, false]);
}

#[test]
fn a_drop_range_over_everything_costs_only_what_is_there() {
    let image = &fold(&[enq(1), enq(5), drop_record(0, u64::MAX)])[0];
    assert!(image.messages.is_empty());
    assert_eq!(image.next_qseq, 6);
}

#[test]
fn counters_survive_when_only_the_state_record_is_left() {
    let before = fold(&[enq(1), Record::Hwm { at: at(2), hwm: 4096 }, drop_record(1, 1)]).remove(0);
    let after = &fold(&[before.state_record()])[0];
    assert_eq!((after.next_qseq, after.hwm, after.epoch), (before.next_qseq, before.hwm, before.epoch));
    assert_eq!(after.next_off, before.next_off);
}

#[test]
fn a_closed_queue_stays_closed() {
    let queues = fold(&[enq(1), Record::QClose { at: at(2) }, enq(2), drop_record(1, 1)]);
    assert!(queues.is_empty());
}

#[test]
fn a_fan_out_shares_one_body() {
    let targets = [
        Target { queue_id: 1, epoch: 1, off: 1, qseq: 1 },
        Target { queue_id: 2, epoch: 1, off: 1, qseq: 9 },
    ];
    let message = Message { body: b"shared", ..Message::default() };
    let queues = fold(&[Record::EnqMulti { targets: targets.as_slice().into(), message }]);
    assert_eq!(queues[0].messages[&1].body.as_ptr(), queues[1].messages[&9].body.as_ptr());
}

#[test]
fn the_later_leader_wins_a_position_used_twice() {
    let second = |epoch| {
        let message = Message { body: b"second", ..Message::default() };
        Record::Enq(Enq { queue_id: 7, epoch, off: 1, qseq: 1, message })
    };
    assert_eq!(fold(&[enq(1), second(2)])[0].messages[&1].body.as_ref(), b"second");
    assert_eq!(fold(&[second(2), enq(1)])[0].messages[&1].body.as_ref(), b"second");
}

#[test]
fn a_requeue_counts_once_per_record() {
    let requeue = Record::Requeue { at: at(5), delivery_count_delta: 1, ranges: QseqRange::one(1).into() };
    let image = &fold(&[enq(1), enq(2), requeue, requeue])[0];
    assert_eq!(image.messages[&1].delivery_count, 2);
    assert_eq!(image.messages[&2].delivery_count, 0);
}

#[test]
fn epochs_only_rise_and_restart_the_offsets() {
    let epoch = |epoch, off| Record::Epoch { at: At { queue_id: 7, epoch, off }, leader: 4 };
    let image = &fold(&[enq(10), epoch(3, 0), epoch(2, 50)])[0];
    assert_eq!((image.epoch, image.next_off, image.leader), (3, 0, Some(4)));
}

#[test]
fn paged_out_messages_leave_the_log_and_what_happens_to_them_is_noted() {
    let add = Record::SegAdd { at: at(9), first_qseq: 1, last_qseq: 3, meta: b"m" };
    let requeue = |first, last| Record::Requeue {
        at: at(9),
        delivery_count_delta: 1,
        ranges: QseqRange { first, last }.into(),
    };
    let records = [
        enq(1),
        enq(2),
        enq(3),
        enq(4),
        enq(5),
        add,
        drop_record(1, 1),
        requeue(2, 4),
        requeue(2, 2),
        drop_record(3, 4),
        add,
    ];
    let image = fold(&records).remove(0);
    assert_eq!(qseqs(&image), [5]);
    let note = &image.segments[&1];
    assert_eq!((note.last_qseq, &*note.meta), (3, &b"m"[..]));
    assert!(note.dropped.contains(1) && !note.dropped.contains(2) && note.dropped.contains(3));
    assert_eq!(note.requeued, BTreeMap::from([(2, 2)]));

    // Only the records that keep a queue are left; the segments are as before.
    let mut set = LiveSet::new();
    set.apply(1, image.state_record());
    image.segment_records(|record| set.apply(2, record));
    let mut kept = set.finish().remove(0);
    assert_eq!(kept.segments, image.segments);
    kept.segments.clear();
    set = LiveSet::new();
    set.apply(1, Record::SegDel { at: at(9), first_qseq: 1 });
    assert!(set.finish()[0].segments.is_empty());
}

#[test]
fn a_set_of_positions_joins_its_ranges() {
    let mut set = QseqSet::default();
    for (first, last) in [(5, 6), (10, 12), (0, 0), (8, 8), (7, 7), (20, u64::MAX), (13, 19), (2, 3)] {
        set.insert(QseqRange { first, last });
    }
    let ranges: Vec<(u64, u64)> = set.ranges().map(|range| (range.first, range.last)).collect();
    assert_eq!(ranges, [(0, 0), (2, 3), (5, 8), (10, u64::MAX)]);
    assert!(set.contains(7) && !set.contains(9) && !set.contains(1) && set.contains(u64::MAX));
    set.insert(QseqRange { first: 0, last: u64::MAX });
    assert_eq!(set.ranges().count(), 1);
}
