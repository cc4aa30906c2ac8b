//! Acknowledging, rejecting, requeueing, recovering, and how many deliveries may be outstanding.

use crate::client;
use amqp::method::{Method, basic, queue};
use harness::args;
use harness::wire::Client;
use std::time::Duration;

/// A queue with the messages `0`, `1`, … in it.
fn filled(client: &mut Client, count: u32) -> String {
    let queue = client.own_queue();
    for number in 0..count {
        client.publish(1, &queue, number.to_string().as_bytes());
    }
    client.wait_ready(1, &queue, count);
    queue
}

#[test]
fn tags_that_nobody_has_are_406() {
    let mut client = client();
    let unknown = |tag: u64| format!("unknown delivery tag {tag}");
    for tag in [1, 99, u64::MAX] {
        client.refused(1, basic::Ack { delivery_tag: tag, multiple: false }, 406, &unknown(tag));
        client.refused(1, basic::Reject { delivery_tag: tag, requeue: true }, 406, &unknown(tag));
        let nack = basic::Nack { delivery_tag: tag, ..Default::default() };
        client.refused(1, nack, 406, &unknown(tag));
    }
    client.refused(1, basic::Ack { delivery_tag: 0, multiple: false }, 406, &unknown(0));
    client.refused(1, basic::Ack { delivery_tag: 7, multiple: true }, 406, &unknown(7));
    let queue = filled(&mut client, 1);
    client.get_unacked(1, &queue);
    client.refused(1, basic::Ack { delivery_tag: 7, multiple: true }, 406, &unknown(7));
}

#[test]
fn a_delivery_is_settled_once() {
    let mut client = client();
    let queue = filled(&mut client, 3);
    let verbs: [fn(u64) -> Method<'static>; 3] = [
        |delivery_tag| basic::Ack { delivery_tag, multiple: false }.into(),
        |delivery_tag| basic::Nack { delivery_tag, multiple: false, requeue: false }.into(),
        |delivery_tag| basic::Reject { delivery_tag, requeue: false }.into(),
    ];
    for verb in verbs {
        let tag = client.get_unacked(1, &queue).tag();
        client.send(1, verb(tag));
        client.refused(1, verb(tag), 406, &format!("unknown delivery tag {tag}"));
    }
}

#[test]
fn of_many_acknowledgements_those_before_an_unknown_tag_count() {
    let mut client = client();
    let queue = filled(&mut client, 5);
    let last = (0..5).map(|_| client.get_unacked(1, &queue).tag()).last().unwrap();
    // In one write: in any order, with one that nobody has in between.
    for delivery_tag in [2, 1, 4, 99, 3] {
        client.put(1, basic::Ack { delivery_tag, multiple: false });
    }
    client.put(1, basic::Ack { delivery_tag: last, multiple: true });
    client.flush();
    client.expect_channel_close(1, 406, "unknown delivery tag 99", (60, 80));
    client.wait_ready(1, &queue, 2);
    assert_eq!(client.drain(1, &queue), ["2", "4"]);
}

#[test]
fn another_channel_cannot_settle_a_delivery() {
    let mut client = client();
    let queue = filled(&mut client, 1);
    client.open(2);
    let delivery_tag = client.get_unacked(1, &queue).tag();
    let ack = basic::Ack { delivery_tag, multiple: false };
    client.refused(2, ack, 406, &format!("unknown delivery tag {delivery_tag}"));
    client.ack(1, delivery_tag);
    client.expect_nothing(1, &queue);
}

#[test]
fn a_delivery_without_acknowledgement_cannot_be_acknowledged() {
    let mut client = client();
    let queue = filled(&mut client, 1);
    let delivery_tag = client.get(1, &queue).unwrap().tag();
    client.refused(1, basic::Ack { delivery_tag, multiple: false }, 406, "unknown delivery tag 1");
}

#[test]
fn all_up_to_a_tag_and_all_there_are() {
    let mut client = client();
    let queue = filled(&mut client, 5);
    for tag in 1..=5 {
        assert_eq!(client.get_unacked(1, &queue).tag(), tag);
    }
    client.send(1, basic::Ack { delivery_tag: 3, multiple: true });
    client.nack(1, 0, true, true);
    assert_eq!(client.drain(1, &queue), ["3", "4"]);
    // Nothing is outstanding: that is no error.
    client.send(1, basic::Ack { delivery_tag: 0, multiple: true });
    client.nack(1, 0, true, true);
    client.expect_nothing(1, &queue);
}

#[test]
fn tags_count_from_1_on_every_channel_and_for_every_delivery() {
    let mut client = client();
    let queue = filled(&mut client, 5);
    client.open(2);
    client.open(3);
    assert_eq!(client.get(2, &queue).unwrap().tag(), 1);
    assert_eq!(client.get(3, &queue).unwrap().tag(), 1);
    assert_eq!(client.get(1, &queue).unwrap().tag(), 1);
    assert_eq!(client.get_unacked(1, &queue).tag(), 2);
    assert_eq!(client.get(1, &queue).unwrap().tag(), 3);
}

#[test]
fn a_requeued_message_is_first_again_and_marked() {
    let mut client = client();
    let queue = filled(&mut client, 3);
    let tag = client.get_unacked(1, &queue).tag();
    client.reject(1, tag, true);
    let tag = client.get_unacked(1, &queue).tag();
    client.nack(1, tag, false, true);
    let got: Vec<_> = (0..3).map(|_| client.get(1, &queue).unwrap()).collect();
    let seen: Vec<_> = got.iter().map(|it| (it.text(), it.redelivered())).collect();
    assert_eq!(seen, [("0", true), ("1", false), ("2", false)]);
}

#[test]
fn requeued_messages_find_their_places() {
    let mut client = client();
    let queue = filled(&mut client, 5);
    let tags: Vec<u64> = (0..4).map(|_| client.get_unacked(1, &queue).tag()).collect();
    for index in [2, 0, 3] {
        client.nack(1, tags[index], false, true);
    }
    assert_eq!(client.drain(1, &queue), ["0", "2", "3", "4"]);
}

#[test]
fn rejected_messages_are_dropped() {
    let mut client = client();
    let queue = filled(&mut client, 2);
    let tag = client.get_unacked(1, &queue).tag();
    client.reject(1, tag, false);
    let tag = client.get_unacked(1, &queue).tag();
    client.nack(1, tag, false, false);
    assert!(client.get(1, &queue).is_none());
}

#[test]
fn recover_delivers_again_with_new_tags() {
    let mut client = client();
    let queue = filled(&mut client, 2);
    client.consume(1, &queue, "t", false);
    assert_eq!(client.deliveries(1, 2), ["0", "1"]);
    client.send(1, basic::Recover { requeue: true });
    let mut seen = Vec::new();
    let mut answered = false;
    while seen.len() < 2 || !answered {
        let received = client.receive().unwrap();
        match received.method() {
            Method::BasicRecoverOk(_) => answered = true,
            Method::BasicDeliver(it) => {
                seen.push((received.text().to_owned(), it.redelivered, it.delivery_tag));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [("0".to_owned(), true, 3), ("1".to_owned(), true, 4)]);
}

#[test]
fn recover_async_has_no_answer() {
    let mut client = client();
    let queue = filled(&mut client, 1);
    client.get_unacked(1, &queue);
    client.send(1, basic::RecoverAsync { requeue: true });
    assert!(client.get_soon(1, &queue).redelivered());
}

#[test]
fn recover_without_requeue_is_540() {
    client().fatal(1, basic::Recover { requeue: false }, 540, "requeue=false");
    client().fatal(1, basic::RecoverAsync { requeue: false }, 540, "requeue=false");
}

#[test]
fn a_prefetch_size_is_540() {
    let qos = basic::Qos { prefetch_size: 100, prefetch_count: 1, global: false };
    client().fatal(1, qos, 540, "prefetch_size!=0 (100)");
}

#[test]
fn a_prefetch_bounds_the_unacked_of_each_consumer_started_later() {
    let mut client = client();
    let queue = filled(&mut client, 7);
    client.qos(1, 2, false);
    client.consume(1, &queue, "a", false);
    let first = client.delivery(1).tag();
    assert_eq!(client.deliveries(1, 1), ["1"]);
    client.expect_nothing(1, &queue);
    client.ack(1, first);
    assert_eq!(client.deliveries(1, 1), ["2"]);
    client.expect_nothing(1, &queue);
    // A new limit is for the next consumer only.
    client.qos(1, 3, false);
    client.expect_nothing(1, &queue);
    client.consume(1, &queue, "b", false);
    assert_eq!(client.deliveries(1, 3), ["3", "4", "5"]);
    client.expect_nothing(1, &queue);
}

#[test]
fn several_acks_at_once_make_room_for_as_many() {
    let mut client = client();
    let queue = filled(&mut client, 10);
    client.qos(1, 4, false);
    client.consume(1, &queue, "a", false);
    client.deliveries(1, 4);
    client.send(1, basic::Ack { delivery_tag: 3, multiple: true });
    assert_eq!(client.deliveries(1, 3), ["4", "5", "6"]);
    client.expect_nothing(1, &queue);
    // Rejecting makes room too.
    client.nack(1, 0, true, false);
    assert_eq!(client.deliveries(1, 3), ["7", "8", "9"]);
}

#[test]
fn a_prefetch_of_the_channel_is_shared_by_its_consumers() {
    let mut client = client();
    let (one, two) = (filled(&mut client, 4), filled(&mut client, 4));
    client.qos(1, 3, true);
    client.consume(1, &one, "a", false);
    client.consume(1, &two, "b", false);
    client.deliveries(1, 3);
    client.expect_nothing(1, &one);
    client.expect_nothing(1, &two);
    // A wider one is in force at once.
    client.qos(1, 5, true);
    client.deliveries(1, 2);
    client.expect_nothing(1, &two);
}

#[test]
fn of_both_limits_the_lower_holds() {
    let mut client = client();
    let (one, two) = (filled(&mut client, 4), filled(&mut client, 4));
    client.qos(1, 2, false);
    client.qos(1, 3, true);
    client.consume(1, &one, "a", false);
    client.deliveries(1, 2);
    client.expect_nothing(1, &one);
    client.consume(1, &two, "b", false);
    client.deliveries(1, 1);
    client.expect_nothing(1, &two);
}

#[test]
fn no_limit_holds_for_get_and_for_consumers_without_acknowledgement() {
    let mut client = client();
    let queue = filled(&mut client, 6);
    client.qos(1, 1, false);
    client.qos(1, 1, true);
    client.get_unacked(1, &queue);
    client.get_unacked(1, &queue);
    client.consume(1, &queue, "a", true);
    client.deliveries(1, 4);
}

#[test]
fn a_consumer_without_acknowledgement_waits_for_the_limit_of_its_channel() {
    let mut client = client();
    let (counted, free) = (filled(&mut client, 2), filled(&mut client, 2));
    client.qos(1, 1, true);
    client.consume(1, &counted, "counted", false);
    client.deliveries(1, 1);
    client.consume(1, &free, "free", true);
    client.expect_silence(Duration::from_millis(300));
    // It does not count itself: once there is room, it gets all there is.
    client.cancel(1, "counted");
    client.ack(1, 1);
    client.deliveries(1, 2);
}

#[test]
fn zero_takes_the_limit_away() {
    let mut client = client();
    let queue = filled(&mut client, 5);
    client.qos(1, 1, true);
    client.consume(1, &queue, "a", false);
    client.deliveries(1, 1);
    client.expect_nothing(1, &queue);
    client.qos(1, 0, true);
    client.deliveries(1, 4);
}

#[test]
fn counts_tell_what_is_ready() {
    let mut client = client();
    let queue = filled(&mut client, 3);
    client.consume(1, &queue, "t", false);
    client.deliveries(1, 3);
    let ok = client.call(
        1,
        queue::Declare { queue: &queue, passive: true, ..Default::default() },
        "queue.declare-ok",
    );
    let Method::QueueDeclareOk(ok) = ok.method() else { unreachable!() };
    assert_eq!((ok.queue, ok.message_count, ok.consumer_count), (&*queue, 0, 1));
    client.cancel(1, "t");
    assert_eq!(client.counts(1, &queue), (0, 0), "what was delivered stays with the channel");
    let limited = client.own_queue_with(&args! { "x-max-length" => 1 });
    assert_eq!(client.counts(1, &limited), (0, 0));
}
