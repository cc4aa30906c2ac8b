//! Queues: declaring, comparing, arguments, exclusivity, purging, deleting, and going by themselves.

use crate::{client, node};
use amqp::method::{Method, basic, queue};
use amqp::table::{FieldTable, FieldValue};
use harness::wire::{Args, Client, name, queue_in};
use harness::{args, table};

fn passive(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue, passive: true, ..Default::default() }
}

fn shared(queue: &str) -> queue::Declare<'_> {
    queue::Declare { queue, ..Default::default() }
}

fn is_missing(client: &mut Client, queue: &str) {
    client.refused(1, passive(queue), 404, &format!("no {}", queue_in(queue)));
}

/// What is said to all but the owner of an exclusive queue.
fn locked(queue: &str) -> String {
    format!(
        "cannot obtain exclusive access to locked {}. It could be originally declared on another connection or \
         the exclusive property value does not match that of the original declaration.",
        queue_in(queue)
    )
}

#[test]
fn the_broker_finds_names_and_remembers_the_last() {
    let mut client = client();
    let (one, two) = (client.own_queue(), client.own_queue());
    assert!(one.starts_with("amq.gen-") && two.starts_with("amq.gen-") && one != two);
    client.publish(1, &two, b"x");
    assert_eq!(client.get(1, "").unwrap().text(), "x");
    // Also a passive declaration is one.
    client.declare(1, &passive(&one));
    client.publish(1, &one, b"y");
    assert_eq!(client.get(1, "").unwrap().text(), "y");
    client.call(1, queue::Purge::default(), "queue.purge-ok");
    client.consume(1, "", "t", true);
    client.call(1, queue::Delete::default(), "queue.delete-ok");
    client.expect_on(1, "basic.cancel");
    is_missing(&mut client, &one);
}

#[test]
fn without_a_declaration_there_is_no_last_queue() {
    let mut client = client();
    let text = "no previously declared queue";
    client.refused(1, basic::Get::default(), 404, text);
    client.refused(1, basic::Consume::default(), 404, text);
    client.refused(1, queue::Purge::default(), 404, text);
    client.refused(1, queue::Delete::default(), 404, text);
    let bind = queue::Bind { exchange: "amq.direct", routing_key: "k", ..Default::default() };
    client.refused(1, bind, 404, text);
}

#[test]
fn everything_needs_the_queue_to_be_there() {
    let mut client = client();
    let missing = name("q");
    let queue = missing.as_str();
    let text = format!("no {}", queue_in(queue));
    client.refused(1, passive(queue), 404, &text);
    client.refused(1, basic::Get { queue, no_ack: true }, 404, &text);
    client.refused(1, basic::Consume { queue, ..Default::default() }, 404, &text);
    client.refused(1, queue::Purge { queue, nowait: false }, 404, &text);
    let deleted = client.call(1, queue::Delete { queue, ..Default::default() }, "queue.delete-ok");
    assert!(matches!(deleted.method(), Method::QueueDeleteOk(queue::DeleteOk { message_count: 0 })));
}

#[test]
fn reserved_names_are_403() {
    let mut client = client();
    let queue = format!("amq.{}", name("q"));
    let text = format!("queue name '{queue}' contains reserved prefix 'amq.*'");
    client.refused(1, shared(&queue), 403, &text);
}

#[test]
fn names_of_255_octets_and_of_any_script() {
    let mut client = client();
    for queue in [format!("{:0>255}", name("q")), format!("очередь-{}", name("q"))] {
        let declare = queue::Declare { exclusive: true, ..shared(&queue) };
        assert_eq!(client.declare(1, &declare), queue);
        client.publish(1, &queue, b"x");
        assert_eq!(client.get(1, &queue).unwrap().address(), ("", &*queue));
    }
    // Line ends are taken out of names.
    let queue = name("q");
    let ended = format!("{queue}\r\n");
    assert_eq!(client.declare(1, &queue::Declare { exclusive: true, ..shared(&ended) }), queue);
}

/// Declares a queue in two ways and checks what is said about the second: `received …`.
fn differs(
    first: (queue::Declare<'_>, &Args),
    second: (queue::Declare<'_>, &Args),
    argument: &str,
    text: &str,
) {
    let mut client = client();
    let queue = name("q");
    let first = queue::Declare { queue: &queue, arguments: first.1.table(), ..first.0 };
    let second = queue::Declare { queue: &queue, arguments: second.1.table(), ..second.0 };
    client.declare(1, &first);
    client.declare(1, &first);
    client.refused(
        1,
        second,
        406,
        &format!("inequivalent arg '{argument}' for {}: {text}", queue_in(&queue)),
    );
    client.delete_queue(1, &queue);
}

#[test]
fn a_declaration_that_differs_is_406() {
    let none = Args::default();
    let plain = queue::Declare::default();
    let durable = queue::Declare { durable: true, ..plain };
    let auto_delete = queue::Declare { auto_delete: true, ..plain };
    differs((plain, &none), (durable, &none), "durable", "received 'true' but current is 'false'");
    differs((durable, &none), (plain, &none), "durable", "received 'false' but current is 'true'");
    differs((plain, &none), (auto_delete, &none), "auto_delete", "received 'true' but current is 'false'");
}

#[test]
fn an_argument_that_differs_is_406() {
    let plain = queue::Declare::default();
    let rows: Vec<(FieldTable, FieldTable, &str, &str)> = vec![
        (
            table! { "x-message-ttl" => 1000 },
            table! { "x-message-ttl" => 2000 },
            "x-message-ttl",
            "received '2000' but current is '1000'",
        ),
        (
            table! { "x-message-ttl" => 1000 },
            table! {},
            "x-message-ttl",
            "received none but current is the value '1000' of type 'signedint'",
        ),
        (
            table! {},
            table! { "x-message-ttl" => 1000 },
            "x-message-ttl",
            "received the value '1000' of type 'signedint' but current is none",
        ),
        (
            table! {},
            table! { "x-max-length" => 5 },
            "x-max-length",
            "received the value '5' of type 'signedint' but current is none",
        ),
        (
            table! {},
            table! { "x-max-length-bytes" => 5_i64 },
            "x-max-length-bytes",
            "received the value '5' of type 'long' but current is none",
        ),
        (
            table! { "x-dead-letter-exchange" => "a" },
            table! { "x-dead-letter-exchange" => "b" },
            "x-dead-letter-exchange",
            "received 'b' but current is 'a'",
        ),
        (
            table! { "x-dead-letter-exchange" => "a", "x-dead-letter-routing-key" => "k" },
            table! { "x-dead-letter-exchange" => "a" },
            "x-dead-letter-routing-key",
            "received none but current is the value 'k' of type 'longstr'",
        ),
        (
            table! { "x-max-priority" => 5 },
            table! { "x-max-priority" => 6 },
            "x-max-priority",
            "received '6' but current is '5'",
        ),
        (
            table! { "x-single-active-consumer" => true },
            table! {},
            "x-single-active-consumer",
            "received none but current is the value 'true' of type 'bool'",
        ),
        (
            table! { "x-queue-mode" => "lazy" },
            table! {},
            "x-queue-mode",
            "received none but current is the value 'lazy' of type 'longstr'",
        ),
        (
            table! { "x-overflow" => "reject-publish" },
            table! {},
            "x-overflow",
            "received none but current is the value 'reject-publish' of type 'longstr'",
        ),
        (
            table! { "x-expires" => 60_000 },
            table! { "x-expires" => 70_000 },
            "x-expires",
            "received '70000' but current is '60000'",
        ),
    ];
    for (first, second, argument, text) in rows {
        differs((plain, &first.into()), (plain, &second.into()), argument, text);
    }
}

#[test]
fn numbers_are_the_same_in_every_width() {
    let mut client = client();
    let queue = name("q");
    let widths = [
        FieldValue::Byte(100),
        FieldValue::UnsignedByte(100),
        FieldValue::Short(100),
        FieldValue::UnsignedShort(100),
        FieldValue::SignedInt(100),
        FieldValue::UnsignedInt(100),
        FieldValue::Long(100),
    ];
    for value in widths {
        let arguments = args! { "x-max-length" => value };
        let arguments = arguments.table();
        client.declare(1, &queue::Declare { exclusive: true, arguments, ..shared(&queue) });
    }
}

#[test]
fn a_passive_declaration_looks_at_nothing_but_the_name() {
    let mut client = client();
    let queue = client.own_queue();
    let arguments = args! { "x-message-ttl" => 1 };
    let declare =
        queue::Declare { durable: true, auto_delete: true, arguments: arguments.table(), ..passive(&queue) };
    client.declare(1, &declare);
}

#[test]
fn invalid_arguments_are_406() {
    let rows: Vec<(FieldTable, &str, &str)> = vec![
        (table! { "x-message-ttl" => -1 }, "x-message-ttl", "{value_negative,-1}"),
        (table! { "x-message-ttl" => "1000" }, "x-message-ttl", "\"expected integer, got longstr\""),
        (table! { "x-message-ttl" => 1_i64 << 40 }, "x-message-ttl", "{value_too_large,1099511627776}"),
        (table! { "x-expires" => 0 }, "x-expires", "{value_zero,0}"),
        (table! { "x-expires" => -1 }, "x-expires", "{value_negative,-1}"),
        (table! { "x-expires" => "1" }, "x-expires", "\"expected integer, got longstr\""),
        (table! { "x-max-length" => -1 }, "x-max-length", "{value_negative,-1}"),
        (table! { "x-max-length" => "5" }, "x-max-length", "\"expected integer, got longstr\""),
        (table! { "x-max-length-bytes" => -5 }, "x-max-length-bytes", "{value_negative,-5}"),
        (table! { "x-max-length-bytes" => true }, "x-max-length-bytes", "\"expected integer, got bool\""),
        (table! { "x-max-priority" => -1 }, "x-max-priority", "{value_negative,-1}"),
        (table! { "x-max-priority" => 256 }, "x-max-priority", "{max_value_exceeded,256}"),
        (
            table! { "x-dead-letter-routing-key" => "k" },
            "x-dead-letter-routing-key",
            "routing_key_but_no_dlx_defined",
        ),
        (
            table! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => 3 },
            "x-dead-letter-routing-key",
            "{unacceptable_type,signedint}",
        ),
        (table! { "x-overflow" => "nope" }, "x-overflow", "invalid_overflow"),
        (table! { "x-queue-mode" => "nope" }, "x-queue-mode", "\"unsupported queue mode 'nope'\""),
        (
            table! { "x-single-active-consumer" => "yes" },
            "x-single-active-consumer",
            "{unacceptable_type,longstr}",
        ),
        (table! { "x-queue-type" => 1 }, "x-queue-type", "{unacceptable_type,signedint}"),
        (table! { "x-queue-type" => "nope" }, "x-queue-type", "\"unsupported queue type 'nope'\""),
    ];
    let mut client = client();
    let queue = name("q");
    for (table, argument, text) in rows {
        let arguments = Args::from(table);
        let declare = queue::Declare { arguments: arguments.table(), ..shared(&queue) };
        client.refused(
            1,
            declare,
            406,
            &format!("invalid arg '{argument}' for {}: {text}", queue_in(&queue)),
        );
    }
    let arguments = args! { "x-dead-letter-exchange" => 1 };
    let declare = queue::Declare { arguments: arguments.table(), ..shared(&queue) };
    let text = format!("invalid type 'signedint' for arg 'x-dead-letter-exchange' in {}", queue_in(&queue));
    client.refused(1, declare, 406, &text);
    is_missing(&mut client, &queue);
}

#[test]
fn valid_and_unknown_arguments_are_taken() {
    let mut client = client();
    let rows = [
        args! { "x-queue-type" => "classic" },
        args! { "x-queue-mode" => "lazy" },
        args! { "x-queue-mode" => "default" },
        args! { "x-queue-version" => 1 },
        args! { "x-queue-version" => 2 },
        args! { "x-max-priority" => 0 },
        args! { "x-max-priority" => 255 },
        args! { "x-overflow" => "drop-head" },
        args! { "x-overflow" => "reject-publish" },
        args! { "x-overflow" => "reject-publish-dlx" },
        args! { "x-single-active-consumer" => true },
        args! { "x-message-ttl" => 0 },
        args! { "x-expires" => 1_800_000 },
        args! { "x-max-length" => 0 },
        args! { "x-max-length-bytes" => 0 },
        args! { "x-dead-letter-exchange" => "" },
        args! { "x-dead-letter-exchange" => "no-such", "x-dead-letter-routing-key" => "k" },
        args! { "x-queue-master-locator" => "min-masters" },
        args! { "x-ha-policy" => "all" },
        args! { "ha-mode" => "all" },
        args! { "x-cancel-on-ha-failover" => true },
    ];
    for arguments in &rows {
        client.own_queue_with(arguments);
    }
    let queue = name("q");
    for arguments in [args! { "x-foo" => "bar", "y" => 1 }, args! { "x-foo" => "other" }, args! {}] {
        let arguments = arguments.table();
        client.declare(1, &queue::Declare { exclusive: true, arguments, ..shared(&queue) });
    }
}

#[test]
fn exclusive_queues_are_locked_for_others() {
    let (mut owner, mut other) = (client(), client());
    let own = name("q");
    let queue = own.as_str();
    owner.declare(1, &queue::Declare { exclusive: true, ..shared(queue) });
    owner.bind(1, queue, "amq.direct", queue);
    let text = locked(queue);
    other.refused(1, queue::Declare { exclusive: true, ..shared(queue) }, 405, &text);
    other.refused(1, passive(queue), 405, &text);
    other.refused(1, basic::Get { queue, no_ack: true }, 405, &text);
    other.refused(1, basic::Consume { queue, ..Default::default() }, 405, &text);
    other.refused(1, queue::Purge { queue, nowait: false }, 405, &text);
    other.refused(1, queue::Delete { queue, ..Default::default() }, 405, &text);
    let bind = queue::Bind { queue, exchange: "amq.direct", routing_key: "k", ..Default::default() };
    other.refused(1, bind, 405, &text);
    let unbind = queue::Unbind { queue, exchange: "amq.direct", routing_key: queue, ..Default::default() };
    other.refused(1, unbind, 405, &text);
    // Everybody may publish to it, and every channel of the owner may do everything.
    other.publish(1, queue, b"x");
    other.own_queue();
    owner.open(2);
    assert_eq!(owner.get_soon(2, queue).text(), "x");
}

#[test]
fn exclusivity_is_part_of_a_declaration() {
    let mut client = client();
    let queue = name("q");
    client.declare(1, &shared(&queue));
    client.refused(1, queue::Declare { exclusive: true, ..shared(&queue) }, 405, &locked(&queue));
    client.delete_queue(1, &queue);
    client.declare(1, &queue::Declare { exclusive: true, ..shared(&queue) });
    client.refused(1, shared(&queue), 405, &locked(&queue));
}

#[test]
fn exclusive_queues_go_with_their_connection_and_not_with_their_channel() {
    let (mut owner, mut other) = (client(), client());
    let queue = name("q");
    owner.open(2);
    owner.declare(2, &queue::Declare { durable: true, exclusive: true, ..shared(&queue) });
    owner.close_channel(2);
    owner.declare(1, &passive(&queue));
    owner.close();
    // Locked until the broker has cleaned up, then gone.
    let gone = || {
        other.send(1, passive(&queue));
        let close = other.expect("channel.close").close();
        other.put(1, amqp::method::channel::CloseOk);
        other.open(1);
        close.code == 404
    };
    xtask::lab::wait::until_true(harness::wire::PATIENCE, "the queue to go", gone).unwrap();
}

#[test]
fn queues_of_nobody_stay() {
    let queue = name("q");
    let mut one = client();
    one.declare(1, &shared(&queue));
    one.close();
    let mut two = client();
    two.declare(1, &passive(&queue));
    two.delete_queue(1, &queue);
}

#[test]
fn auto_delete_queues_go_with_their_last_consumer() {
    let mut client = client();
    let queue = name("q");
    let declare = queue::Declare { auto_delete: true, ..shared(&queue) };
    client.declare(1, &declare);
    client.declare(1, &passive(&queue));
    client.consume(1, &queue, "a", true);
    client.consume(1, &queue, "b", true);
    client.cancel(1, "a");
    client.declare(1, &passive(&queue));
    client.cancel(1, "b");
    client.wait_gone(1, &queue);
    // With a channel.
    client.declare(1, &declare);
    client.open(2);
    client.consume(2, &queue, "a", true);
    client.close_channel(2);
    client.wait_gone(1, &queue);
    // With a connection.
    client.declare(1, &declare);
    let mut other = crate::client();
    other.consume(1, &queue, "a", true);
    drop(other);
    client.wait_gone(1, &queue);
}

#[test]
fn who_comes_after_the_last_consumer_of_an_auto_delete_queue_does_not_meet_it() {
    let mut client = client();
    let queue = name("q");
    let declare = queue::Declare { auto_delete: true, ..shared(&queue) };
    let consume = basic::Consume { queue: &queue, ..Default::default() };
    for round in 0..50 {
        client.declare(1, &declare);
        client.consume(1, &queue, "c", true);
        // In one write: nobody can be in between, and the deletion itself takes longer.
        client.put(1, basic::Cancel { consumer_tag: "c", nowait: true });
        if round % 2 == 0 {
            client.refused(1, consume, 404, &format!("no {}", queue_in(&queue)));
        } else {
            // A declare makes a new one, which stays.
            client.declare(1, &declare);
            client.consume(1, &queue, "d", true);
            client.publish(1, &queue, b"x");
            assert_eq!(client.deliveries(1, 1), ["x"]);
            client.cancel(1, "d");
            client.wait_gone(1, &queue);
        }
    }
}

#[test]
fn deleting_asks_for_conditions_and_counts() {
    let mut client = client();
    let queue = client.own_queue();
    client.publish(1, &queue, b"x");
    client.publish(1, &queue, b"x");
    let delete = queue::Delete { queue: &queue, ..Default::default() };
    let text = format!("{} not empty", queue_in(&queue));
    client.refused(1, queue::Delete { if_empty: true, ..delete }, 406, &text);
    client.consume(1, &queue, "t", false);
    client.deliveries(1, 2);
    let text = format!("{} in use", queue_in(&queue));
    client.refused(1, queue::Delete { if_unused: true, ..delete }, 406, &text);
    client.wait_ready(1, &queue, 2);
    let deleted = client.call(1, queue::Delete { if_unused: true, ..delete }, "queue.delete-ok");
    assert!(matches!(deleted.method(), Method::QueueDeleteOk(queue::DeleteOk { message_count: 2 })));
}

#[test]
fn purging_takes_what_is_ready() {
    let mut client = client();
    let queue = client.own_queue();
    for body in [b"0", b"1", b"2"] {
        client.publish(1, &queue, body);
    }
    let tag = client.get_unacked(1, &queue).tag();
    let purged = client.call(1, queue::Purge { queue: &queue, nowait: false }, "queue.purge-ok");
    assert!(matches!(purged.method(), Method::QueuePurgeOk(queue::PurgeOk { message_count: 2 })));
    client.nack(1, tag, false, true);
    assert_eq!(client.drain(1, &queue), ["0"]);
}

#[test]
fn requests_without_an_answer_work_and_tell_their_errors() {
    let mut client = client();
    let queue = name("q");
    let declare = queue::Declare { exclusive: true, nowait: true, ..shared(&queue) };
    client.put(1, declare);
    client.put(
        1,
        queue::Bind {
            queue: &queue,
            exchange: "amq.direct",
            routing_key: &queue,
            nowait: true,
            ..Default::default()
        },
    );
    let publish = basic::Publish { exchange: "amq.direct", routing_key: &queue, ..Default::default() };
    client.put_publish(1, &publish, &Default::default(), b"x");
    client.wait_ready(1, &queue, 1);
    client.put(1, queue::Purge { queue: &queue, nowait: true });
    assert!(client.get(1, &queue).is_none());
    client.send(1, queue::Delete { queue: &queue, nowait: true, ..Default::default() });
    is_missing(&mut client, &queue);
    client.send(1, queue::Declare { queue: &queue, passive: true, nowait: true, ..Default::default() });
    client.expect_channel_close(1, 404, &format!("no {}", queue_in(&queue)), (50, 10));
    client.send(1, queue::Purge { queue: &queue, nowait: true });
    client.expect_channel_close(1, 404, &format!("no {}", queue_in(&queue)), (50, 30));
    assert!(node().port > 0);
}

#[test]
fn streams_are_not_there() {
    let mut client = client();
    let queue = name("q");
    let arguments = args! { "x-queue-type" => "stream" };
    let declare = queue::Declare { durable: true, arguments: arguments.table(), ..shared(&queue) };
    if !harness::against_rabbitmq() {
        client.send(1, declare);
        let close = client.expect("connection.close").close();
        assert_eq!((close.code, close.at), (540, (50, 10)), "{close:?}");
        return;
    }
    client.declare(1, &declare);
    let text = format!("consumer prefetch count is not set for '{}'", queue_in(&queue));
    client.refused(1, basic::Consume { queue: &queue, ..Default::default() }, 406, &text);
    let text = format!("basic.get not supported by stream queues {}", queue_in(&queue));
    client.fatal(1, basic::Get { queue: &queue, no_ack: true }, 540, &text);
    crate::client().delete_queue(1, &queue);
}
