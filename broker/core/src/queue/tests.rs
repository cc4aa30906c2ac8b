//! What a queue promises, against recorded effects, and a long random walk against a naive model.

use super::consumers::NewConsumer;
use super::dead_letter::{DeadLetter, DeadLetterTarget};
use super::delayed::Due;
use super::paged::{PageOut, Stored, Window, WindowRead};
use super::*;
use crate::message::{Message, MessageView};
use crate::repl::MidSet;
use amqp::content::{BasicProperties, Properties};
use amqp::table::{FieldTable, FieldValue};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

/// Records what a queue asks for.
#[derive(Default)]
struct Recorder {
    delivered: Vec<(u32, u64, bool)>,
    /// `x-delivery-count` of what was delivered.
    counts: Vec<Option<i64>>,
    requeued: Vec<(u64, u64)>,
    consumer: Vec<ConsumerRef>,
    enqueued: Vec<u64>,
    references: Vec<Option<PubRef>>,
    accounts: Vec<Origins>,
    dropped: Vec<(u64, u64)>,
    letters: Vec<(u64, Reason)>,
    due: Vec<u64>,
    wakes: Vec<u64>,
    unused: u32,
    full: bool,
    /// Another node may lead the queue.
    deposed: bool,
    backlog: usize,
    floor: u64,
    page_outs: Vec<PageOut>,
    crowds: Vec<Crowd>,
    windows: Vec<Window>,
    segments: Segments,
}

/// Segment files in memory: positions with their bodies' first octets.
#[derive(Default)]
struct Segments(BTreeMap<u64, Vec<(u64, Arc<Message>)>>);

impl Segments {
    fn write(&mut self, page_out: &PageOut) {
        let messages = page_out.messages.iter().map(|it| (it.qseq, Arc::clone(&it.message))).collect();
        assert!(self.0.insert(page_out.first_qseq(), messages).is_none(), "segments do not overlap");
    }

    fn read(&self, window: &Window) -> Option<WindowRead> {
        let all = self.0.get(&window.segment)?;
        let from = all.partition_point(|(qseq, _)| *qseq < window.from);
        let upto = all.len().min(from + window.messages);
        let stored = |(qseq, message): &(u64, Arc<Message>)| Stored {
            qseq: *qseq,
            message: Arc::clone(message),
            expires_ms: 0,
            returns: 0,
        };
        Some(WindowRead { messages: all[from..upto].iter().map(stored).collect(), at_end: upto == all.len() })
    }
}

impl Effects for Recorder {
    type Handle = u32;

    fn log(&mut self, record: &Record<'_>) {
        match record {
            Record::Enq(enq) => {
                self.enqueued.push(enq.qseq);
                self.references.push(enq.message.pub_ref);
            }
            Record::Taken { origins, .. } => self.accounts.push(Origins::decode(origins).unwrap()),
            Record::Drop { ranges, .. } => {
                self.dropped.extend(ranges.iter().map(|range| (range.first, range.last)));
            }
            Record::Requeue { ranges, .. } => {
                self.requeued.extend(ranges.iter().map(|range| (range.first, range.last)));
            }
            _ => {}
        }
    }

    fn deliver(&mut self, to: &u32, delivery: &Delivery<'_>) -> Delivered {
        if self.full {
            return Delivered::Full;
        }
        self.delivered.push((*to, delivery.qseq, delivery.redelivered));
        self.counts.push(delivery_count(delivery.view.properties));
        self.consumer.push(delivery.consumer);
        Delivered::Sent
    }

    fn dead_letter(&mut self, letter: DeadLetter) {
        self.letters.push((letter.logged_qseq.unwrap_or(0), letter.reason));
    }

    fn due(&mut self, due: Due) {
        self.due.push(due.logged_qseq.unwrap_or(0));
    }

    fn wake_at(&mut self, _: QueueId, at_ms: u64) {
        self.wakes.push(at_ms);
    }

    fn unused(&mut self, _: QueueId) {
        self.unused += 1;
    }

    fn backlog(&mut self, _: &u32, octets: usize) {
        self.backlog += octets;
    }

    fn page_out(&mut self, page_out: PageOut) {
        self.page_outs.push(page_out);
    }

    fn crowded(&mut self, _: QueueId, crowd: Crowd) {
        self.crowds.push(crowd);
    }

    fn read_ahead(&mut self, window: Window) {
        self.windows.push(window);
    }

    fn read_now(&mut self, window: &Window) -> Option<WindowRead> {
        self.segments.read(window)
    }

    fn remove_segment(&mut self, _: QueueId, first_qseq: u64, _: bool) {
        self.segments.0.remove(&first_qseq).expect("a segment is removed once");
    }

    fn may_be_deposed(&self) -> bool {
        self.deposed
    }

    fn log_floor(&self) -> u64 {
        self.floor
    }
}

fn queue(config: QueueConfig) -> Queue<u32> {
    Queue::new(QueueId(7), "/".into(), "q".into(), true, config, 0)
}

fn publish(
    queue: &mut Queue<u32>,
    now: u64,
    persistent: bool,
    expiration: Option<u64>,
    fx: &mut Recorder,
) -> Published {
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"body" };
    queue.publish(now, &mut Publish::borrowed(view, persistent, expiration, 0), fx)
}

fn consumer(handle: u32, no_ack: bool, prefetch: u32, priority: i32) -> NewConsumer<u32> {
    NewConsumer { handle, tag: "c".into(), no_ack, prefetch, priority, exclusive: false }
}

fn deliveries(fx: &mut Recorder) -> Vec<(u32, u64, bool)> {
    fx.consumer.clear();
    std::mem::take(&mut fx.delivered)
}

#[test]
fn a_message_goes_straight_to_a_waiting_consumer_and_needs_no_log_without_acks() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    assert_eq!(publish(&mut queue, 0, true, None, &mut fx), Published::Accepted { logged: false });
    assert_eq!(deliveries(&mut fx), [(1, 1, false)]);
    assert!(fx.enqueued.is_empty());
    assert_eq!((queue.ready_count(), queue.unacked_count()), (0, 0));
}

#[test]
fn a_persistent_message_is_logged_and_its_ack_drops_it() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.consume(0, consumer(1, false, 0, 0), &mut fx);
    for _ in 0..3 {
        assert_eq!(publish(&mut queue, 0, true, None, &mut fx), Published::Accepted { logged: true });
    }
    assert_eq!(fx.enqueued, [1, 2, 3]);
    assert_eq!(queue.unacked_count(), 3);
    queue.settle(0, Settle::Ack, &[1, 2, 3], &mut fx);
    assert_eq!(fx.dropped, [(1, 3)]);
    assert_eq!(queue.unacked_count(), 0);
}

#[test]
fn consumers_take_turns_within_their_prefetch() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.consume(0, consumer(1, false, 2, 0), &mut fx);
    queue.consume(0, consumer(2, false, 1, 0), &mut fx);
    for _ in 0..5 {
        publish(&mut queue, 0, false, None, &mut fx);
    }
    assert_eq!(fx.delivered, [(1, 1, false), (2, 2, false), (1, 3, false)]);
    deliveries(&mut fx);
    queue.settle(0, Settle::Ack, &[2], &mut fx);
    assert_eq!(deliveries(&mut fx), [(2, 4, false)]);
}

#[test]
fn higher_priority_consumers_come_first_while_they_have_credit() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.consume(0, consumer(1, false, 0, 0), &mut fx);
    queue.consume(0, consumer(2, false, 2, 10), &mut fx);
    for _ in 0..4 {
        publish(&mut queue, 0, false, None, &mut fx);
    }
    assert_eq!(deliveries(&mut fx), [(2, 1, false), (2, 2, false), (1, 3, false), (1, 4, false)]);
}

#[test]
fn requeued_messages_go_back_to_their_places_marked_redelivered() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..4 {
        publish(&mut queue, 0, false, None, &mut fx);
    }
    let taken: Vec<u64> = (0..3).map(|_| queue.get(0, false, &mut fx).unwrap().qseq).collect();
    assert_eq!(taken, [1, 2, 3]);
    queue.settle(0, Settle::Requeue, &[2, 1], &mut fx);
    queue.settle(0, Settle::Requeue, &[3], &mut fx);
    queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 1, true), (1, 2, true), (1, 3, true), (1, 4, false)]);
}

#[test]
fn a_full_consumer_waits_until_it_is_resumed() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let one = queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    fx.full = true;
    publish(&mut queue, 0, false, None, &mut fx);
    fx.full = false;
    publish(&mut queue, 0, false, None, &mut fx);
    assert!(deliveries(&mut fx).is_empty());
    queue.resume(0, one, &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 1, false), (1, 2, false)]);
}

#[test]
fn a_backlog_is_told_only_while_a_consumer_is_behind() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..=BACKLOG {
        publish(&mut queue, 0, false, None, &mut fx);
    }
    assert_eq!(fx.backlog, 0, "nobody consumes");
    fx.full = true;
    let one = queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    assert_eq!(fx.backlog, 4);
    queue.cancel(0, one, &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    assert_eq!(fx.backlog, 4);
}

#[test]
fn expiry_happens_at_the_head_only_and_the_lower_ttl_wins() {
    let config = QueueConfig { message_ttl_ms: Some(100), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    publish(&mut queue, 0, true, None, &mut fx);
    publish(&mut queue, 0, true, Some(10), &mut fx);
    queue.tick(50, &mut fx);
    assert_eq!(queue.ready_count(), 2, "the second waits behind the first");
    assert_eq!(fx.wakes, [100]);
    queue.tick(100, &mut fx);
    assert_eq!(queue.ready_count(), 0);
    assert_eq!(fx.dropped, [(1, 1), (2, 2)]);
}

#[test]
fn timers_that_passed_while_a_queue_was_a_copy_are_looked_at_when_it_is_led_again() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    publish(&mut queue, 0, true, Some(100), &mut fx);
    publish(&mut queue, 0, true, Some(400), &mut fx);
    queue.follow(2, 2, &mut fx);
    // Nobody ticks a copy.
    queue.lead(200, 3, 1, false, &mut fx);
    assert_eq!(fx.wakes, [100, 200]);
    queue.tick(200, &mut fx);
    assert_eq!((fx.wakes.last(), queue.ready_count()), (Some(&400), 1));
    queue.tick(400, &mut fx);
    assert_eq!(queue.ready_count(), 0);
}

#[test]
fn a_ttl_of_zero_delivers_now_or_never() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    publish(&mut queue, 5, false, Some(0), &mut fx);
    assert_eq!(queue.ready_count(), 0);
    queue.consume(5, consumer(1, true, 0, 0), &mut fx);
    publish(&mut queue, 5, false, Some(0), &mut fx);
    assert_eq!(deliveries(&mut fx).len(), 1);
}

#[test]
fn limits_drop_from_the_head_or_refuse() {
    let config = QueueConfig { max_length: Some(2), ..QueueConfig::default() };
    let (mut dropping, mut fx) = (queue(config.clone()), Recorder::default());
    for _ in 0..3 {
        publish(&mut dropping, 0, true, None, &mut fx);
    }
    assert_eq!((dropping.ready_count(), fx.dropped.as_slice()), (2, &[(1, 1)][..]));

    let config = QueueConfig { overflow: Overflow::RejectPublish, ..config };
    let (mut refusing, mut fx) = (queue(config), Recorder::default());
    let outcomes: Vec<Published> = (0..3).map(|_| publish(&mut refusing, 0, false, None, &mut fx)).collect();
    assert_eq!(outcomes[2], Published::Rejected);
    assert_eq!(refusing.ready_count(), 2);
}

#[test]
fn with_a_dead_letter_target_the_log_hears_of_the_loss_from_the_one_who_publishes_it() {
    let target = DeadLetterTarget { exchange: "dlx".into(), routing_key: None };
    let config = QueueConfig { dead_letter: Some(target), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    publish(&mut queue, 0, true, None, &mut fx);
    let got = queue.get(0, false, &mut fx).unwrap();
    queue.settle(0, Settle::Discard, &[got.qseq], &mut fx);
    assert_eq!(fx.letters, [(1, Reason::Rejected)]);
    assert!(fx.dropped.is_empty());
}

#[test]
fn the_delivery_limit_counts_failed_deliveries() {
    let config = QueueConfig { quorum: true, delivery_limit: Some(2), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    publish(&mut queue, 0, false, None, &mut fx);
    for delivery in 1..=3 {
        let got = queue.get(0, false, &mut fx).unwrap();
        assert_eq!(got.redelivered, delivery > 1);
        queue.settle(0, Settle::Requeue, &[got.qseq], &mut fx);
    }
    assert!(queue.get(0, false, &mut fx).is_none());
}

#[test]
fn priorities_come_highest_first_and_in_order_inside() {
    let config = QueueConfig { max_priority: Some(5), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    for priority in [0, 5, 9, 1, 5] {
        let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"" };
        queue.publish(0, &mut Publish::borrowed(view, false, None, priority), &mut fx);
    }
    assert_eq!(queue.ready_by_priority(), [(5, 3), (1, 1), (0, 1)]);
    let order: Vec<u64> = (0..5).map(|_| queue.get(0, true, &mut fx).unwrap().qseq).collect();
    assert_eq!(order, [2, 3, 5, 4, 1]);
}

#[test]
fn only_the_oldest_of_single_active_consumers_gets_messages() {
    let config = QueueConfig { single_active_consumer: true, ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    let one = queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    let two = queue.consume(0, consumer(2, true, 0, 0), &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 1, false), (1, 2, false)]);
    assert!(queue.consumers().is_active(one) && !queue.consumers().is_active(two));
    queue.cancel(0, one, &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    assert_eq!(deliveries(&mut fx), [(2, 3, false)]);
}

#[test]
fn auto_delete_asks_when_the_last_consumer_left_and_not_before_the_first() {
    let mut queue = queue(QueueConfig::default()).auto_delete(true);
    let mut fx = Recorder::default();
    let one = queue.consume(0, consumer(1, true, 0, 0), &mut fx);
    let two = queue.consume(0, consumer(2, true, 0, 0), &mut fx);
    queue.cancel(0, one, &mut fx);
    assert_eq!(fx.unused, 0);
    queue.cancel(0, two, &mut fx);
    assert_eq!(fx.unused, 1);
}

#[test]
fn a_queue_that_lost_its_consumers_waits_for_them_for_a_while() {
    let config = QueueConfig { expires_ms: Some(3000), ..QueueConfig::default() };
    for (mut queue, wakes) in [
        (queue(QueueConfig::default()).auto_delete(true), [10_000, 31_000]),
        (queue(config), [10_000, 31_000]),
    ] {
        let mut fx = Recorder::default();
        let one = queue.consume(0, consumer(1, false, 0, 0), &mut fx);
        assert_eq!(queue.lose(0, one, &mut fx), Some(1));
        assert_eq!(fx.wakes, [wakes[0]]);
        queue.tick(9_999, &mut fx);
        assert_eq!(fx.unused, 0);
        let again = queue.consume(9_999, consumer(2, false, 0, 0), &mut fx);
        queue.tick(10_000, &mut fx);
        assert_eq!(fx.unused, 0, "it came back");
        queue.lose(21_000, again, &mut fx);
        assert_eq!(fx.wakes.last(), Some(&wakes[1]));
        queue.tick(31_000, &mut fx);
        assert_eq!((fx.unused, queue.is_closing()), (1, true));
    }
}

#[test]
fn a_publish_of_another_node_is_known_to_the_queue_its_log_and_its_copies() {
    let reference = PubRef { origin: origins::life(crate::ids::NodeId(2), 5), seq: 1 };
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"body" };
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    assert_eq!(queue.sight(reference), Sight::New);
    let mut incoming = Publish::borrowed(view, true, None, 0);
    incoming.reference = Some(reference);
    queue.publish(0, &mut incoming, &mut fx);
    assert_eq!(queue.sight(reference), Sight::Known);
    assert_eq!(fx.references, [Some(reference)]);
    publish(&mut queue, 0, true, None, &mut fx);
    assert_eq!(fx.references, [Some(reference), None]);
    let mut copy = self::queue(QueueConfig::default());
    copy.follow(2, 1, &mut fx);
    let mut record = enqueue_record(copy.at(), 0, 1, 0, 0, 0, view);
    if let Record::Enq(enq) = &mut record {
        enq.message.pub_ref = Some(reference);
    }
    copy.apply(0, &record, &mut fx);
    assert_eq!(copy.sight(reference), Sight::Known);
}

#[test]
fn a_copy_knows_the_publishes_that_its_leader_took_and_no_others() {
    let of = |seq| PubRef { origin: origins::life(crate::ids::NodeId(2), 5), seq };
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"body" };
    let mut fx = Recorder::default();
    let mut publish_to = |queue: &mut Queue<u32>, seq| {
        let mut incoming = Publish::borrowed(view, true, None, 0);
        incoming.reference = Some(of(seq));
        queue.publish(0, &mut incoming, &mut fx);
    };
    let (mut leader, mut copy) = (queue(QueueConfig::default()), queue(QueueConfig::default()));
    publish_to(&mut leader, 1);
    // Only a leader of before took this one: when it comes again, it is not there.
    publish_to(&mut copy, 2);
    copy.follow(2, 1, &mut fx);
    let delete = copy.live();
    copy.reconcile(&delete, &leader.fresh(), &mut fx);
    assert_eq!((copy.sight(of(1)), copy.sight(of(2))), (Sight::Known, Sight::New));
    let account = |taken: &Origins| taken.look(of(1)) == Sight::Known && taken.look(of(2)) == Sight::New;
    assert!(account(fx.accounts.last().unwrap()), "its log knows that too");
    // And that it took none at all.
    let other = queue(QueueConfig::default());
    copy.reconcile(&MidSet::default(), &other.fresh(), &mut fx);
    assert_eq!(copy.sight(of(1)), Sight::New);
    assert!(fx.accounts.last().unwrap().is_empty());
    // The log keeps it when what it came from goes.
    leader.log_open(&mut fx);
    assert!(account(fx.accounts.last().unwrap()));
}

#[test]
fn an_unused_queue_expires_and_use_postpones_it() {
    let config = QueueConfig { expires_ms: Some(100), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    queue.touch(0, &mut fx);
    queue.get(60, true, &mut fx);
    queue.tick(100, &mut fx);
    assert_eq!(fx.unused, 0);
    assert_eq!(fx.wakes, [100, 160]);
    queue.tick(160, &mut fx);
    assert_eq!(fx.unused, 1);
}

#[test]
fn what_recovery_found_is_redelivered_only_where_it_may_have_been_seen() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.restore_positions(1, 0, 10, 4);
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"" };
    for qseq in [3, 4, 9] {
        queue.restore(qseq, Arc::new(Message::copy_from(&view, true)), 0, 0, 0, 0);
    }
    let seen: Vec<bool> = (0..3).map(|_| queue.get(0, true, &mut fx).unwrap().redelivered).collect();
    assert_eq!(seen, [true, false, false]);
    publish(&mut queue, 0, true, None, &mut fx);
    assert_eq!(fx.enqueued, [10]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(bool),
    Get(bool),
    Settle(Settle, usize),
    Purge,
    Consume(bool, u32),
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<bool>().prop_map(Step::Publish),
        3 => any::<bool>().prop_map(Step::Get),
        4 => (prop_oneof![Just(Settle::Ack), Just(Settle::Requeue), Just(Settle::Discard)], 0usize..8)
            .prop_map(|(how, which)| Step::Settle(how, which)),
        1 => Just(Step::Purge),
        1 => (any::<bool>(), 0u32..4).prop_map(|(no_ack, prefetch)| Step::Consume(no_ack, prefetch)),
        1 => Just(Step::Cancel),
    ]
}

proptest! {
    /// Whatever happens: every message is in exactly one place, deliveries come in the order of the queue
    /// among messages never seen before, `redelivered` is only set on what was handed out, and the log's
    /// live set is what the queue holds.
    #[test]
    fn a_random_walk_agrees_with_a_naive_model(steps in proptest::collection::vec(step(), 1..400)) {
        let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
        let mut ready: BTreeMap<u64, bool> = Default::default();
        let mut held: Vec<u64> = Vec::new();
        let mut persistent: std::collections::BTreeSet<u64> = Default::default();
        let mut live: std::collections::BTreeSet<u64> = Default::default();
        let mut consumers: Vec<ConsumerRef> = Vec::new();
        let mut next = 1;
        for step in steps {
            match step {
                Step::Publish(durable) => {
                    if durable { persistent.insert(next); }
                    ready.insert(next, false);
                    publish(&mut queue, 0, durable, None, &mut fx);
                    next += 1;
                }
                Step::Get(no_ack) => {
                    let got = queue.get(0, no_ack, &mut fx);
                    let expected = ready.pop_first();
                    prop_assert_eq!(got.as_ref().map(|got| (got.qseq, got.redelivered)), expected);
                    if let (Some(got), false) = (got, no_ack) { held.push(got.qseq); }
                }
                Step::Settle(how, which) => {
                    if held.is_empty() { continue }
                    let qseq = held.remove(which % held.len());
                    if how == Settle::Requeue { ready.insert(qseq, true); }
                    queue.settle(0, how, &[qseq], &mut fx);
                }
                Step::Purge => {
                    prop_assert_eq!(queue.purge(&mut fx), ready.len() as u64);
                    ready.clear();
                }
                Step::Consume(no_ack, prefetch) => {
                    let handle = u32::from(no_ack);
                    consumers.push(queue.consume(0, consumer(handle, no_ack, prefetch, 0), &mut fx));
                }
                Step::Cancel => {
                    if let Some(consumer) = consumers.pop() { queue.cancel(0, consumer, &mut fx); }
                }
            }
            for (handle, qseq, redelivered) in deliveries(&mut fx) {
                prop_assert_eq!(ready.pop_first(), Some((qseq, redelivered)));
                if handle == 0 { held.push(qseq); }
            }
            live.extend(fx.enqueued.drain(..));
            for (first, last) in fx.dropped.drain(..) { live.retain(|qseq| !(first..=last).contains(qseq)); }
            let expected: std::collections::BTreeSet<u64> =
                ready.keys().chain(&held).copied().filter(|qseq| persistent.contains(qseq)).collect();
            prop_assert_eq!(&live, &expected);
            prop_assert_eq!(queue.ready_count(), ready.len() as u64);
            prop_assert_eq!(queue.unacked_count(), held.len() as u64);
        }
    }
}

#[test]
fn get_does_not_count_what_has_expired_behind_the_head() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    publish(&mut queue, 0, false, None, &mut fx);
    publish(&mut queue, 0, false, Some(50), &mut fx);
    publish(&mut queue, 0, false, None, &mut fx);
    assert_eq!(queue.get(100, true, &mut fx).unwrap().remaining, 1);
}

#[test]
fn relocating_goes_in_steps_that_fit_into_one_append() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let body = vec![0; 1 << 20];
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: &body };
    let message = Arc::new(Message::copy_from(&view, true));
    for _ in 0..10 {
        queue.publish(0, &mut Publish::of(&message, None, 0), &mut fx);
    }
    fx.enqueued.clear();
    fx.floor = 100;
    let mut steps = Vec::new();
    while let moved @ 1.. = queue.relocate(0, 100, &mut fx) {
        steps.push(moved);
    }
    assert_eq!(steps, [4, 4, 2]);
    assert_eq!(fx.enqueued, (1..=10).collect::<Vec<u64>>());
}

#[test]
fn the_log_keeps_properties_too_and_nothing_of_transient_messages() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let properties = vec![0; 10_000];
    let view = MessageView { exchange: "", routing_key: "q", properties: &properties, body: &[] };
    queue.publish(0, &mut Publish::borrowed(view, false, None, 0), &mut fx);
    assert_eq!(queue.logged_bytes(), 0);
    queue.publish(0, &mut Publish::borrowed(view, true, None, 0), &mut fx);
    assert!(queue.logged_bytes() >= 10_000);
    queue.get(0, true, &mut fx);
    let held = queue.get(0, false, &mut fx).unwrap().qseq;
    assert!(queue.logged_bytes() >= 10_000, "held messages count");
    queue.settle(0, Settle::Ack, &[held], &mut fx);
    assert_eq!(queue.logged_bytes(), 0);
}

#[test]
fn many_messages_return_between_others_in_order_and_at_once() {
    const COUNT: u64 = 200_000;
    let config = QueueConfig { max_priority: Some(1), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"" };
    let message = Arc::new(Message::copy_from(&view, false));
    for at in 0..COUNT {
        queue.publish(0, &mut Publish::of(&message, None, u8::from(at % 5 == 0)), &mut fx);
    }
    let all: Vec<u64> = (0..COUNT).map(|_| queue.get(0, false, &mut fx).unwrap().qseq).collect();
    let (odd, even): (Vec<u64>, Vec<u64>) = all.iter().partition(|qseq| **qseq % 2 == 1);
    queue.settle(0, Settle::Requeue, &even, &mut fx);
    queue.settle(0, Settle::Requeue, &odd, &mut fx);
    let again: Vec<u64> = (0..COUNT).map(|_| queue.get(0, true, &mut fx).unwrap().qseq).collect();
    assert_eq!(again, all);
}

#[test]
fn a_dead_letter_key_longer_than_a_short_string_is_cut_in_the_message_only() {
    let long: Arc<str> = "ä".repeat(200).into();
    let target = DeadLetterTarget { exchange: Arc::clone(&long), routing_key: Some(Arc::clone(&long)) };
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"" };
    let letter = DeadLetter {
        queue: QueueId(1),
        epoch: 1,
        vhost: "/".into(),
        queue_name: "q".into(),
        target,
        reason: Reason::Expired,
        message: Arc::new(Message::copy_from(&view, true)),
        logged_qseq: None,
        stored_qseq: None,
    };
    let rewritten = letter.rewrite(0);
    assert_eq!(rewritten.routing_keys, [&*long]);
    assert_eq!(rewritten.message.view().routing_key, "ä".repeat(127));
    assert_eq!(rewritten.message.view().exchange, "ä".repeat(127));
}

fn delayed_publish(queue: &mut Queue<u32>, now: u64, delay: i64, fx: &mut Recorder) -> Published {
    let mut headers = FieldTable::new();
    headers.insert("x-delay", delay);
    let mut raw = Vec::new();
    BasicProperties { headers: Some(headers), ..Default::default() }.encode(&mut raw);
    let view = MessageView { exchange: "x", routing_key: "k", properties: &raw, body: b"body" };
    queue.publish(now, &mut Publish::borrowed(view, true, None, 0), fx)
}

#[test]
fn delayed_messages_leave_in_the_order_of_their_times_with_one_timer() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()).delaying(), Recorder::default());
    for delay in [300, 100, 200, 100] {
        let taken = delayed_publish(&mut queue, 1000, delay, &mut fx);
        assert_eq!(taken, Published::Accepted { logged: true });
    }
    assert_eq!(fx.enqueued, [1, 2, 3, 4]);
    assert_eq!(fx.wakes, [1300, 1100], "only an earlier time asks for a timer");
    assert_eq!((queue.delayed_count(), queue.ready_count()), (4, 0));
    queue.tick(1099, &mut fx);
    assert!(fx.due.is_empty());
    queue.tick(1200, &mut fx);
    assert_eq!(fx.due, [2, 4, 3]);
    assert_eq!(fx.wakes.last(), Some(&1300));
    queue.tick(1300, &mut fx);
    assert_eq!(fx.due, [2, 4, 3, 1]);
    assert_eq!((queue.delayed_count(), queue.logged_bytes()), (0, 0));
    assert!(fx.dropped.is_empty(), "whoever routes them says so to the log");
}

#[test]
fn delayed_messages_come_back_from_the_log_and_the_overdue_ones_are_released_in_steps() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()).delaying(), Recorder::default());
    queue.restore_positions(1, 0, 1, 0);
    let view = MessageView { exchange: "x", routing_key: "k", properties: &[0, 0], body: b"body" };
    let message = Arc::new(Message::copy_from(&view, true));
    for qseq in 1..=1000 {
        queue.restore(qseq, Arc::clone(&message), 0, 5000 - qseq, 0, 0);
    }
    fx.floor = 1;
    assert_eq!(queue.relocate(0, 1, &mut fx), 1000, "they are moved when old log files go");
    queue.tick(10_000, &mut fx);
    assert!(fx.due.len() < 1000 && fx.due[..2] == [1000, 999]);
    assert!(fx.wakes.last().is_some_and(|at| *at <= 10_000), "the rest follows at once");
    queue.tick(10_000, &mut fx);
    assert_eq!(fx.due.len(), 1000);
}

fn delivery_count(properties: &[u8]) -> Option<i64> {
    let headers = Properties::parse(properties).unwrap().headers()?;
    headers.get("x-delivery-count")?.as_i64()
}

fn quorum(delivery_limit: Option<u32>) -> Queue<u32> {
    queue(QueueConfig { quorum: true, delivery_limit, ..QueueConfig::default() })
}

/// Positions of what is ready, in order.
fn all(queue: &mut Queue<u32>, fx: &mut Recorder) -> Vec<u64> {
    std::iter::from_fn(|| queue.get(0, true, fx).map(|got| got.qseq)).collect()
}

#[test]
fn a_quorum_queue_puts_what_a_client_returns_last_unless_it_has_a_limit() {
    // What goes last gets new positions.
    for (limit, how, order, moved) in [
        (None, Settle::Requeue, [4, 5, 6, 7, 8], [(2, 6), (1, 7), (3, 8)].as_slice()),
        (Some(9), Settle::Requeue, [2, 1, 3, 4, 5], &[]),
        (None, Settle::Release, [2, 1, 3, 4, 5], &[]),
    ] {
        let (mut queue, mut fx) = (quorum(limit), Recorder::default());
        for _ in 0..5 {
            publish(&mut queue, 0, false, None, &mut fx);
        }
        for _ in 0..3 {
            queue.get(0, false, &mut fx);
        }
        queue.settle(0, how, &[2], &mut fx);
        queue.settle(0, how, &[1, 3], &mut fx);
        let (old, new): (Vec<u64>, Vec<u64>) = moved.iter().copied().unzip();
        let gone: Vec<(u64, u64)> = old.iter().map(|qseq| (*qseq, *qseq)).collect();
        assert_eq!(fx.dropped, gone);
        assert_eq!(all(&mut queue, &mut fx), order, "{limit:?} {how:?}");
        assert_eq!(fx.requeued.is_empty(), limit.is_none(), "counts are logged where they limit");
        assert_eq!(fx.enqueued[..5], [1, 2, 3, 4, 5], "everything is kept, transient or not");
        assert_eq!(fx.enqueued[5..], new);
    }
}

#[test]
fn a_quorum_queue_tells_consumers_how_often_a_message_came_back() {
    let (mut queue, mut fx) = (quorum(None), Recorder::default());
    queue.consume(0, consumer(1, false, 1, 0), &mut fx);
    publish(&mut queue, 0, true, None, &mut fx);
    for qseq in 1..=2 {
        queue.settle(0, Settle::Requeue, &[qseq], &mut fx);
    }
    assert_eq!(fx.counts, [None, Some(1), Some(2)]);
    queue.settle(0, Settle::Discard, &[3], &mut fx);
    publish(&mut queue, 0, true, None, &mut fx);
    queue.settle(0, Settle::Release, &[4], &mut fx);
    assert_eq!(fx.counts[3..], [None, Some(1)], "the count is the message's own");
}

#[test]
fn a_quorum_queue_goes_on_counting_after_a_restart() {
    let (mut queue, mut fx) = (quorum(Some(2)), Recorder::default());
    queue.restore_positions(1, 0, 3, 4096);
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"body" };
    let message = Arc::new(Message::copy_from(&view, true));
    queue.restore(1, Arc::clone(&message), 0, 0, 0, 0);
    queue.restore(2, message, 1, 0, 2, 0);
    let got = queue.get(0, false, &mut fx).unwrap();
    assert_eq!((got.qseq, delivery_count(got.message.view().properties)), (2, Some(2)));
    queue.settle(0, Settle::Requeue, &[2], &mut fx);
    assert_eq!(all(&mut queue, &mut fx), [1], "the other one came back too often");
    assert_eq!(fx.dropped.len(), 2);
}

/// A publish of `size` octets.
fn publish_large(queue: &mut Queue<u32>, size: usize, fx: &mut Recorder) {
    let body = vec![7; size];
    let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: &body };
    queue.publish(1, &mut Publish::borrowed(view, true, None, 0), fx);
}

#[test]
fn publishers_wait_for_consumers_that_are_about_to_empty_a_large_queue_and_not_for_slow_ones() {
    for (acked, waits) in [(100, true), (1, false)] {
        let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
        queue.consume(0, consumer(1, false, 200, 0), &mut fx);
        let mut held = VecDeque::new();
        for now in 1..=200 {
            for _ in 0..200 {
                let view =
                    MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: &[7; 1000] };
                queue.publish(now, &mut Publish::borrowed(view, true, None, 0), &mut fx);
            }
            held.extend(deliveries(&mut fx).into_iter().map(|(_, qseq, _)| qseq));
            let done: Vec<u64> = held.drain(..acked).collect();
            queue.settle(now, Settle::Ack, &done, &mut fx);
            serve(&mut queue, &mut fx);
        }
        assert_eq!(fx.crowds.contains(&Crowd::Consumed), waits, "{acked} in a millisecond");
    }
}

#[test]
fn publishers_wait_for_segments_only_while_one_is_written() {
    for (max_priority, waits) in [(None, true), (Some(5), false)] {
        let config = QueueConfig { max_priority, ..QueueConfig::default() };
        let (mut queue, mut fx) = (queue(config), Recorder::default());
        while queue.resident_bytes() <= PAGE_BEHIND {
            publish_large(&mut queue, 1 << 20, &mut fx);
        }
        publish_large(&mut queue, 1 << 20, &mut fx);
        assert_eq!(fx.crowds.contains(&Crowd::Paged), waits, "{max_priority:?}");
    }
}

/// Does what the shell would: writes segments and reads windows until nothing is asked for.
fn serve(queue: &mut Queue<u32>, fx: &mut Recorder) {
    loop {
        if let Some(page_out) = fx.page_outs.pop() {
            fx.segments.write(&page_out);
            if queue.paged_out(1, &page_out, b"meta", fx).is_none() {
                fx.segments.0.remove(&page_out.first_qseq());
                queue.page_out_removed(1, fx);
            }
        } else if let Some(window) = fx.windows.pop() {
            match fx.segments.read(&window) {
                Some(read) => queue.arrived(1, &window, read, fx),
                None => queue.read_failed(1, &window, fx),
            }
        } else {
            return;
        }
    }
}

#[test]
fn a_long_queue_lies_in_segments_and_comes_back_in_order() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let count = 60_000;
    for _ in 0..count {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    assert!(queue.resident_bytes() < 40 << 20, "{} octets stay in memory", queue.resident_bytes());
    assert!(fx.segments.0.len() >= 4, "{} segments", fx.segments.0.len());
    assert_eq!((queue.ready_count(), queue.ready_bytes()), (count, count * 2000));
    let holder = queue.consume(1, consumer(1, false, 100, 0), &mut fx);
    let mut next = 1;
    while next <= count {
        serve(&mut queue, &mut fx);
        let got: Vec<u64> = deliveries(&mut fx).into_iter().map(|(_, qseq, _)| qseq).collect();
        assert!(!got.is_empty(), "stuck at {next}");
        for qseq in &got {
            assert_eq!(*qseq, next);
            next += 1;
        }
        queue.settle(1, Settle::Ack, &got, &mut fx);
    }
    assert_eq!((queue.ready_count(), queue.unacked_count(), queue.ready_bytes()), (0, 0, 0));
    assert!(fx.segments.0.is_empty(), "files stay: {:?}", fx.segments.0.keys());
    queue.cancel(1, holder, &mut fx);
}

#[test]
fn a_long_quorum_queue_lies_in_segments_between_what_was_returned() {
    let (mut queue, mut fx) = (quorum(None), Recorder::default());
    for _ in 0..40_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    assert!(queue.resident_bytes() < 40 << 20, "{} octets stay in memory", queue.resident_bytes());
    for _ in 0..6 {
        queue.get(1, false, &mut fx);
    }
    queue.settle(1, Settle::Release, &[2, 1], &mut fx);
    queue.settle(1, Settle::Requeue, &[4, 3], &mut fx);
    queue.settle(1, Settle::Ack, &[5, 6], &mut fx);
    assert_eq!(queue.ready_count(), 39_998);
    queue.consume(1, consumer(1, true, 0, 0), &mut fx);
    serve(&mut queue, &mut fx);
    let got: Vec<(u64, bool)> =
        deliveries(&mut fx).into_iter().map(|(_, qseq, redelivered)| (qseq, redelivered)).collect();
    let order = [2, 1].into_iter().chain(7..=40_002);
    let expected: Vec<(u64, bool)> = order.map(|qseq| (qseq, !(3..=40_000).contains(&qseq))).collect();
    assert!(got == expected, "{:?} … {:?}", &got[..4], got.last());
    assert!(fx.segments.0.is_empty(), "files stay: {:?}", fx.segments.0.keys());
}

#[test]
fn messages_return_to_their_places_before_what_lies_in_segments() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..40_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    let first = queue.consume(1, consumer(1, false, 30_000, 0), &mut fx);
    serve(&mut queue, &mut fx);
    let taken: Vec<u64> = deliveries(&mut fx).into_iter().map(|(_, qseq, _)| qseq).collect();
    assert_eq!(taken.len(), 30_000);
    queue.cancel(1, first, &mut fx);
    // Every other one comes back.
    let (back, done): (Vec<u64>, Vec<u64>) = taken.iter().partition(|qseq| **qseq % 2 == 0);
    queue.settle(1, Settle::Requeue, &back, &mut fx);
    queue.settle(1, Settle::Ack, &done, &mut fx);
    serve(&mut queue, &mut fx);
    let got = queue.get(1, true, &mut fx).unwrap();
    assert_eq!((got.qseq, got.redelivered), (2, true));
    queue.consume(1, consumer(2, true, 0, 0), &mut fx);
    serve(&mut queue, &mut fx);
    let rest: Vec<(u64, bool)> =
        deliveries(&mut fx).into_iter().map(|(_, qseq, redelivered)| (qseq, redelivered)).collect();
    let expected: Vec<(u64, bool)> = (4..=30_000)
        .step_by(2)
        .map(|qseq| (qseq, true))
        .chain((30_001..=40_000).map(|qseq| (qseq, false)))
        .collect();
    assert!(rest == expected, "{} of {}", rest.len(), expected.len());
    assert!(fx.segments.0.is_empty(), "files stay: {:?}", fx.segments.0.keys());
}

#[test]
fn a_purge_and_a_get_reach_what_lies_in_segments() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..40_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    // Without reading ahead being served: the get reads for itself.
    for qseq in 1..=10_000 {
        fx.windows.clear();
        assert_eq!(queue.get(1, false, &mut fx).map(|got| got.qseq), Some(qseq));
    }
    assert_eq!(queue.purge(&mut fx), 30_000);
    assert_eq!((queue.ready_count(), queue.unacked_count(), queue.ready_bytes()), (0, 10_000, 0));
    let held: Vec<u64> = (1..=10_000).collect();
    queue.settle(1, Settle::Ack, &held, &mut fx);
    assert!(fx.segments.0.is_empty(), "files stay: {:?}", fx.segments.0.keys());
    serve(&mut queue, &mut fx);
    publish_large(&mut queue, 10, &mut fx);
    assert_eq!(queue.get(1, true, &mut fx).map(|got| got.qseq), Some(40_001));
}

/// The headers of a message with this history, dead lettered once more for its expiry in queue `q`.
fn dead_lettered(headers: FieldTable) -> FieldTable {
    let properties = BasicProperties { headers: Some(headers), ..BasicProperties::default() };
    let mut raw = Vec::new();
    properties.encode(&mut raw);
    let view = MessageView { exchange: "x", routing_key: "k", properties: &raw, body: b"" };
    let letter = DeadLetter {
        queue: QueueId(1),
        epoch: 1,
        vhost: Arc::from("/"),
        queue_name: Arc::from("q"),
        target: DeadLetterTarget { exchange: Arc::from("dlx"), routing_key: None },
        reason: Reason::Expired,
        message: Arc::new(Message::copy_from(&view, false)),
        logged_qseq: None,
        stored_qseq: None,
    };
    let rewritten = letter.rewrite(7);
    let properties = BasicProperties::from(Properties::parse(rewritten.message.view().properties).unwrap());
    properties.headers.unwrap()
}

fn death(queue: &str, reason: &str, count: Option<i64>) -> FieldValue {
    let mut table = FieldTable::new();
    table.insert("queue", FieldValue::long_str(queue));
    table.insert("reason", FieldValue::long_str(reason));
    if let Some(count) = count {
        table.insert("count", FieldValue::Long(count));
    }
    FieldValue::Table(table)
}

/// Queue, reason and count of the entries of `x-death`.
fn history(headers: &FieldTable) -> Vec<(String, String, Option<i64>)> {
    let Some(FieldValue::Array(items)) = headers.get("x-death") else { panic!("no x-death in {headers:?}") };
    let entry = |item: &FieldValue| {
        let table = item.as_table().unwrap();
        let text = |name| table.get(name).and_then(FieldValue::as_str).unwrap().to_owned();
        (text("queue"), text("reason"), table.get("count").and_then(FieldValue::as_i64))
    };
    items.iter().map(entry).collect()
}

#[test]
fn repeated_entries_of_an_old_history_are_counted_together() {
    let mut headers = FieldTable::new();
    let old = vec![
        death("q", "expired", None),
        death("other", "expired", None),
        death("q", "expired", None),
        death("q", "rejected", None),
        death("other", "expired", None),
        death("counted", "expired", Some(9)),
        death("counted", "expired", None),
    ];
    headers.insert("x-death", FieldValue::Array(old));
    let entry = |queue: &str, reason: &str, count| (queue.to_owned(), reason.to_owned(), Some(count));
    let expected = vec![
        entry("q", "expired", 3),
        entry("other", "expired", 2),
        entry("q", "rejected", 1),
        entry("counted", "expired", 9),
    ];
    assert_eq!(history(&dead_lettered(headers)), expected);
}

#[test]
fn only_the_first_death_sets_the_headers_of_the_first_death() {
    let first = dead_lettered(FieldTable::new());
    assert_eq!(first.get("x-first-death-queue").and_then(FieldValue::as_str), Some("q"));
    let mut headers = FieldTable::new();
    headers.insert("x-death", FieldValue::Array(vec![death("elsewhere", "expired", Some(1))]));
    assert!(dead_lettered(headers).get("x-first-death-queue").is_none());
    // What a publisher left there without a history is not believed.
    let mut headers = FieldTable::new();
    headers.insert("x-first-death-reason", FieldValue::long_str("rejected"));
    let found = dead_lettered(headers);
    assert_eq!(found.get("x-first-death-reason").and_then(FieldValue::as_str), Some("expired"));
}

#[test]
fn a_segment_of_messages_that_were_taken_meanwhile_is_not_mistaken_for_a_later_one() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let fill = |queue: &mut Queue<u32>, fx: &mut Recorder| {
        for _ in 0..20_000 {
            publish_large(queue, 2000, fx);
        }
    };
    fill(&mut queue, &mut fx);
    let old = fx.page_outs.pop().unwrap();
    assert_eq!(queue.purge(&mut fx), 20_000);
    fill(&mut queue, &mut fx);
    assert!(fx.page_outs.is_empty(), "one at a time, wanted or not");
    fx.segments.write(&old);
    assert!(queue.paged_out(1, &old, b"meta", &mut fx).is_none());
    fx.segments.0.remove(&old.first_qseq());
    queue.page_out_removed(1, &mut fx);
    serve(&mut queue, &mut fx);
    assert!(!fx.segments.0.is_empty());
    queue.consume(1, consumer(1, true, 0, 0), &mut fx);
    serve(&mut queue, &mut fx);
    let got: Vec<u64> = deliveries(&mut fx).into_iter().map(|(_, qseq, _)| qseq).collect();
    assert!(got == (20_001..=40_000).collect::<Vec<u64>>(), "{} of 20000", got.len());
    assert!(fx.segments.0.is_empty(), "files stay: {:?}", fx.segments.0.keys());
}

#[test]
fn octets_add_up_although_a_restart_knows_them_only_about() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let message = |size: usize| {
        let body = vec![7; size];
        let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: &body };
        Arc::new(Message::copy_from(&view, true))
    };
    // Small ones are gone, so that half of the octets is less than what is left has.
    let messages = [(1, message(10)), (2, message(10)), (3, message(5000)), (4, message(5000))];
    fx.segments.0.insert(1, messages.to_vec());
    let mut dropped = crate::record::QseqSet::default();
    dropped.insert(QseqRange { first: 1, last: 2 });
    queue.restore_positions(1, 0, 5, 0);
    let segment = paged::RestoredSegment {
        first_qseq: 1,
        last_qseq: 4,
        messages: 4,
        body_bytes: 10_020,
        meta: Box::default(),
        dropped,
        requeued: BTreeMap::new(),
        epoch: 1,
    };
    queue.restore_segment(segment, 2);
    assert_eq!((queue.ready_count(), queue.ready_bytes()), (2, 5010));
    for qseq in [3, 4] {
        assert_eq!(queue.get(1, true, &mut fx).map(|got| got.qseq), Some(qseq));
    }
    assert_eq!((queue.ready_count(), queue.ready_bytes()), (0, 0));
}

#[test]
fn messages_that_came_back_are_redelivered_from_their_segment_too() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..10_000 {
        publish_large(&mut queue, 2000, &mut fx);
    }
    let taken: Vec<u64> = (0..9000).map(|_| queue.get(1, false, &mut fx).unwrap().qseq).collect();
    queue.settle(1, Settle::Requeue, &taken, &mut fx);
    for _ in 0..10_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    assert!(!fx.segments.0.is_empty());
    let seen = (0..20_000).map(|_| queue.get(1, true, &mut fx).unwrap().redelivered);
    assert_eq!(seen.filter(|redelivered| *redelivered).count(), 9000);
}

#[test]
fn a_limit_reaches_what_lies_in_segments() {
    let config = QueueConfig { max_length: Some(30_000), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    for _ in 0..30_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    assert!(!fx.segments.0.is_empty());
    // More than stays in front of them, and not enough for another segment.
    for _ in 0..6000 {
        publish_large(&mut queue, 10, &mut fx);
    }
    serve(&mut queue, &mut fx);
    assert_eq!(queue.ready_count(), 30_000);
}

#[test]
fn a_get_that_can_not_read_leaves_nobody_waiting_for_ever() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..40_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    let files = std::mem::take(&mut fx.segments.0);
    while queue.get(1, true, &mut fx).is_some() {}
    fx.segments.0 = files;
    let at = *fx.wakes.last().expect("it is tried again");
    fx.windows.clear();
    queue.consume(at, consumer(1, true, 0, 0), &mut fx);
    queue.tick(at, &mut fx);
    serve(&mut queue, &mut fx);
    assert_eq!(queue.ready_count(), 0);
}

#[test]
fn a_get_that_reads_for_itself_leaves_the_consumers_what_came_along() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..40_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    queue.consume(1, consumer(1, true, 0, 0), &mut fx);
    let last = deliveries(&mut fx).last().expect("what is in memory goes at once").1;
    assert_eq!(queue.get(1, true, &mut fx).map(|got| got.qseq), Some(last + 1));
    assert_eq!(deliveries(&mut fx).first().map(|(_, qseq, _)| *qseq), Some(last + 2));
    serve(&mut queue, &mut fx);
    assert_eq!(queue.ready_count(), 0);
}

fn peeked(queue: &mut Queue<u32>, offset: u64, count: usize, fx: &mut Recorder) -> Vec<(u64, u64)> {
    let limit = PeekLimit { offset, count, bytes: 1 << 30 };
    queue.peek(limit, fx).into_iter().map(|it| (it.qseq, it.ahead)).collect()
}

#[test]
fn a_look_at_a_queue_changes_nothing_and_reaches_what_lies_in_segments() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..60_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    let (resident, files) = (queue.resident_bytes(), fx.segments.0.len());
    for offset in [0, 3000, 10_000, 33_333, 59_990] {
        let expected: Vec<(u64, u64)> = (offset..offset + 5).map(|place| (place + 1, place)).collect();
        assert_eq!(peeked(&mut queue, offset, 5, &mut fx), expected);
    }
    assert_eq!(peeked(&mut queue, 0, 60_001, &mut fx).len(), 60_000);
    assert!(peeked(&mut queue, 60_000, 5, &mut fx).is_empty());
    let little = PeekLimit { offset: 0, count: 100, bytes: 5000 };
    assert_eq!(queue.peek(little, &mut fx).len(), 3, "the message that goes beyond is the last");
    assert_eq!((queue.resident_bytes(), fx.segments.0.len()), (resident, files));
    assert_eq!((queue.ready_count(), queue.stats().got), (60_000, 0));
    let got = queue.get(1, false, &mut fx).unwrap();
    assert_eq!((got.qseq, got.redelivered), (1, false));
}

#[test]
fn single_messages_are_taken_out_of_the_middle_wherever_they_lie() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..30_000 {
        publish_large(&mut queue, 2000, &mut fx);
        serve(&mut queue, &mut fx);
    }
    assert!(!queue.take(1, 10_000, &mut fx), "it lies in a segment");
    queue.load(1, 10_000, &mut fx);
    assert!(queue.take(1, 10_000, &mut fx));
    assert!(queue.take(1, 2, &mut fx));
    assert!(!queue.take(1, 2, &mut fx), "it is gone");
    assert!(queue.take(1, 30_000, &mut fx), "it is among the newest");
    assert_eq!((queue.ready_count(), queue.ready_bytes()), (29_997, 29_997 * 2000));
    assert!(fx.dropped.ends_with(&[(10_000, 10_000), (2, 2), (30_000, 30_000)]), "{:?}", fx.dropped);
    assert_eq!(peeked(&mut queue, 0, 2, &mut fx), [(1, 0), (3, 1)]);
    queue.load(1, 100_000, &mut fx);
    assert_eq!(peeked(&mut queue, 0, 40_000, &mut fx).len(), 29_997);
}

#[test]
fn consumers_of_a_paused_queue_get_nothing_until_it_is_resumed() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    let one = queue.consume(0, consumer(1, false, 0, 0), &mut fx);
    queue.set_paused(0, true, &mut fx);
    publish(&mut queue, 0, true, None, &mut fx);
    publish(&mut queue, 0, true, None, &mut fx);
    queue.resume(0, one, &mut fx);
    assert!(fx.delivered.is_empty() && queue.is_paused());
    assert_eq!(queue.get(0, true, &mut fx).map(|got| got.qseq), Some(1), "fetching goes on");
    queue.set_paused(0, false, &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 2, false)]);
}

#[test]
fn nothing_leaves_a_queue_that_is_held_back_by_itself_and_what_clients_say_counts() {
    let config = QueueConfig { max_length: Some(2), ..QueueConfig::default() };
    let (mut queue, mut fx) = (queue(config), Recorder::default());
    queue.consume(0, consumer(1, false, 3, 0), &mut fx);
    for expiration in [None, None, None, Some(100), None] {
        publish(&mut queue, 0, true, expiration, &mut fx);
    }
    assert_eq!(deliveries(&mut fx), [(1, 1, false), (1, 2, false), (1, 3, false)]);
    queue.hold_back();
    queue.settle(10, Settle::Ack, &[1], &mut fx);
    queue.settle(10, Settle::Requeue, &[2, 3], &mut fx);
    queue.tick(200, &mut fx);
    assert_eq!((queue.ready_count(), queue.unacked_count()), (4, 0));
    assert_eq!((deliveries(&mut fx).len(), &fx.dropped[..]), (0, &[(1, 1)][..]));
    queue.go_on(200, &mut fx);
    // The limit first: it takes away what is oldest.
    assert_eq!(fx.dropped, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(deliveries(&mut fx), [(1, 5, false)]);
    assert_eq!(fx.wakes.last(), Some(&200));
    // Held back and led by another node after all.
    queue.hold_back();
    queue.follow(2, 2, &mut fx);
    assert!(!queue.is_held_back() && queue.is_copy());
    assert_eq!((queue.ready_count(), queue.unacked_count()), (1, 0));
}

#[test]
fn what_another_leader_may_have_handed_out_is_marked_where_others_have_copies() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    for _ in 0..5 {
        publish(&mut queue, 0, true, None, &mut fx);
    }
    fx.deposed = true;
    queue.consume(0, consumer(1, false, 1, 0), &mut fx);
    queue.set_has_copies(true);
    queue.settle(0, Settle::Ack, &[1], &mut fx);
    assert!(queue.get(0, false, &mut fx).unwrap().redelivered);
    fx.deposed = false;
    queue.settle(0, Settle::Ack, &[2], &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 1, false), (1, 2, true), (1, 4, false)]);
    assert!(!queue.get(0, false, &mut fx).unwrap().redelivered);
    // What is new here nobody else can have had.
    fx.deposed = true;
    queue.settle(0, Settle::Ack, &[4], &mut fx);
    publish(&mut queue, 0, true, None, &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 6, false)]);
}

#[test]
fn what_came_again_because_its_leader_went_is_marked() {
    let (mut queue, mut fx) = (queue(QueueConfig::default()), Recorder::default());
    queue.consume(0, consumer(1, false, 1, 0), &mut fx);
    for seen in [true, false, true] {
        let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"x" };
        let mut message = Publish::borrowed(view, true, None, 0);
        message.seen = seen;
        queue.publish(0, &mut message, &mut fx);
    }
    assert_eq!(deliveries(&mut fx), [(1, 1, true)]);
    queue.settle(0, Settle::Ack, &[1], &mut fx);
    queue.settle(0, Settle::Ack, &[2], &mut fx);
    assert_eq!(deliveries(&mut fx), [(1, 2, false), (1, 3, true)]);
}
