//! Transactions: publishes and acknowledgements happen at the commit, or not at all.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{basic, tx};
use amqp::table::FieldValue;
use harness::wire::{Client, name};
use harness::{args, table};

/// A client with a queue, with channel 1 in a transaction and channel 2 to look on.
fn selected() -> (Client, String) {
    let mut client = client();
    let queue = client.own_queue();
    client.open(2);
    client.call(1, tx::Select, "tx.select-ok");
    (client, queue)
}

fn commit(client: &mut Client) {
    client.call(1, tx::Commit, "tx.commit-ok");
}

fn rollback(client: &mut Client) {
    client.call(1, tx::Rollback, "tx.rollback-ok");
}

#[test]
fn publishes_are_there_after_the_commit() {
    let (mut client, queue) = selected();
    client.publish(1, &queue, b"1");
    client.publish(1, &queue, b"2");
    assert_eq!(client.counts(1, &queue).0, 0);
    commit(&mut client);
    client.wait_ready(2, &queue, 2);
    // The channel stays transactional.
    client.publish(1, &queue, b"3");
    assert_eq!(client.counts(1, &queue).0, 2);
    commit(&mut client);
    client.wait_ready(2, &queue, 3);
    assert_eq!(client.drain(2, &queue), ["1", "2", "3"]);
}

#[test]
fn a_rollback_forgets_publishes() {
    let (mut client, queue) = selected();
    client.publish(1, &queue, b"1");
    rollback(&mut client);
    commit(&mut client);
    assert_eq!(client.counts(1, &queue).0, 0);
}

#[test]
fn closing_the_channel_is_a_rollback() {
    let (mut client, queue) = selected();
    client.publish(2, &queue, b"old");
    client.wait_ready(1, &queue, 1);
    client.publish(1, &queue, b"new");
    let got = client.get_unacked(1, &queue);
    client.ack(1, got.tag());
    client.close_channel(1);
    client.wait_ready(2, &queue, 1);
    let got = client.get(2, &queue).unwrap();
    assert_eq!((got.text(), got.redelivered()), ("old", true));
}

#[test]
fn acknowledgements_happen_at_the_commit() {
    let (mut client, queue) = selected();
    client.publish(2, &queue, b"1");
    client.wait_ready(1, &queue, 1);
    let tag = client.get_unacked(1, &queue).tag();
    client.ack(1, tag);
    commit(&mut client);
    client.close_channel(1);
    client.expect_nothing(2, &queue);
    assert_eq!(client.counts(2, &queue).0, 0);
}

#[test]
fn a_rollback_forgets_acknowledgements_and_delivers_nothing_again() {
    let (mut client, queue) = selected();
    client.publish(2, &queue, b"1");
    client.wait_ready(1, &queue, 1);
    let tag = client.get_unacked(1, &queue).tag();
    client.ack(1, tag);
    rollback(&mut client);
    assert_eq!(client.counts(2, &queue).0, 0);
    client.ack(1, tag);
    commit(&mut client);
}

#[test]
fn requeues_happen_at_the_commit() {
    let (mut client, queue) = selected();
    client.publish(2, &queue, b"1");
    client.wait_ready(1, &queue, 1);
    let tag = client.get_unacked(1, &queue).tag();
    client.nack(1, tag, false, true);
    assert_eq!(client.counts(1, &queue).0, 0);
    commit(&mut client);
    client.wait_ready(2, &queue, 1);
}

#[test]
fn returns_come_at_the_commit_before_its_answer() {
    let (mut client, queue) = selected();
    client.publish_mandatory(1, "", &name("nowhere"), b"r");
    client.expect_nothing(1, &queue);
    client.send(1, tx::Commit);
    assert_eq!(client.expect("basic.return").text(), "r");
    client.expect("tx.commit-ok");
}

#[test]
fn a_missing_exchange_is_told_at_once() {
    let (mut client, _) = selected();
    let exchange = name("no-exchange");
    client.publish_to(1, &exchange, "k", b"x");
    client.expect_channel_close(1, 404, &format!("no exchange '{exchange}' in vhost '/'"), (60, 40));
}

#[test]
fn an_unknown_delivery_tag_is_told_at_once() {
    let (mut client, _) = selected();
    client.refused(1, basic::Ack { delivery_tag: 5, multiple: false }, 406, "unknown delivery tag 5");
}

#[test]
fn a_tag_is_settled_once_in_a_transaction_too() {
    let (mut client, queue) = selected();
    client.publish(2, &queue, b"1");
    client.wait_ready(1, &queue, 1);
    let delivery_tag = client.get_unacked(1, &queue).tag();
    client.ack(1, delivery_tag);
    let again = basic::Ack { delivery_tag, multiple: false };
    client.refused(1, again, 406, &format!("unknown delivery tag {delivery_tag}"));
}

#[test]
fn transactions_have_to_be_selected_and_may_be_twice() {
    let mut client = client();
    client.refused(1, tx::Commit, 406, "channel is not transactional");
    client.refused(1, tx::Rollback, 406, "channel is not transactional");
    client.call(1, tx::Select, "tx.select-ok");
    client.call(1, tx::Select, "tx.select-ok");
    commit(&mut client);
}

#[test]
fn a_transaction_keeps_the_blind_copies_of_its_publishes() {
    let (mut client, open) = selected();
    let blind = client.declare(2, &amqp::method::queue::Declare { exclusive: true, ..Default::default() });
    let copies = FieldValue::Array(vec![FieldValue::long_str(blind.as_str())]);
    let headers = Some(table! { "BCC" => copies });
    let properties = BasicProperties { headers, ..Default::default() };
    client.publish_with(1, "", &open, &properties, b"both");
    commit(&mut client);
    for queue in [&open, &blind] {
        let got = client.get_soon(2, queue);
        assert_eq!(got.text(), "both");
        assert!(got.headers().get("BCC").is_none());
    }
}

#[test]
fn a_commit_of_which_a_queue_refuses_a_part_says_so() {
    let mut client = client();
    let arguments = args! { "x-max-length" => 1, "x-overflow" => "reject-publish" };
    let queue = client.own_queue_with(&arguments);
    client.call(1, tx::Select, "tx.select-ok");
    for body in [b"0", b"1", b"2"] {
        client.publish(1, &queue, body);
    }
    client.send(1, tx::Commit);
    client.expect_channel_close(1, 406, "partial tx completion", (90, 20));
    client.open(2);
    assert_eq!(client.get_soon(2, &queue).text(), "0");
}
