//! Dead letters: what becomes one, where it goes, what its headers tell, and where a circle ends.

use crate::client;
use amqp::content::BasicProperties;
use amqp::method::{basic, exchange};
use amqp::table::{FieldTable, FieldValue};
use harness::wire::{Args, Client, Received, name};
use harness::{args, table};

/// A client with a topic exchange for dead letters and the queue that gets all of them.
struct Graveyard {
    client: Client,
    exchange: String,
    dead: String,
}

impl Graveyard {
    fn new() -> Self {
        let mut client = client();
        let (exchange, dead) = (name("dlx"), client.own_queue());
        client.exchange(1, &exchange, "topic");
        client.bind(1, &dead, &exchange, "#");
        Self { client, exchange, dead }
    }

    /// A queue whose dead letters go there, with more arguments.
    fn queue(&mut self, mut more: FieldTable) -> String {
        more.insert("x-dead-letter-exchange", self.exchange.as_str());
        self.client.own_queue_with(&Args::from(more))
    }

    /// Publishes to a queue and rejects what comes out.
    fn reject(&mut self, queue: &str, properties: &BasicProperties, body: &[u8]) {
        self.client.publish_with(1, "", queue, properties, body);
        self.client.wait_ready(1, queue, 1);
        let tag = self.client.get_unacked(1, queue).tag();
        self.client.reject(1, tag, false);
    }

    fn letter(&mut self) -> Received {
        let dead = self.dead.clone();
        self.client.get_soon(1, &dead)
    }
}

fn text(table: &FieldTable, name: &str) -> Option<String> {
    table.get(name).and_then(FieldValue::as_str).map(str::to_owned)
}

fn list(words: &[&str]) -> FieldValue {
    FieldValue::Array(words.iter().map(|it| FieldValue::long_str(*it)).collect())
}

#[test]
fn what_a_letter_tells_about_its_death() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! {});
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let properties = BasicProperties {
        headers: Some(table! { "mine" => 1 }),
        correlation_id: Some("c".into()),
        ..Default::default()
    };
    yard.reject(&queue, &properties, b"body");
    let letter = yard.letter();
    assert_eq!((letter.text(), letter.address()), ("body", (&*yard.exchange, &*queue)));
    assert_eq!(letter.properties().correlation_id, properties.correlation_id);
    assert!(!letter.redelivered());
    let headers = letter.headers();
    assert_eq!(headers.get("mine"), Some(&FieldValue::SignedInt(1)));
    assert_eq!(letter.header("x-first-death-queue").unwrap(), queue);
    assert_eq!(letter.header("x-first-death-reason").unwrap(), "rejected");
    assert_eq!(letter.header("x-first-death-exchange").unwrap(), "");
    let deaths = letter.deaths();
    assert_eq!(deaths.len(), 1);
    let death = &deaths[0];
    let names: Vec<&str> = death.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["count", "reason", "queue", "time", "exchange", "routing-keys"]);
    assert_eq!(death.get("count"), Some(&FieldValue::Long(1)));
    assert_eq!(death.get("reason"), Some(&FieldValue::long_str("rejected")));
    assert_eq!(death.get("queue"), Some(&FieldValue::long_str(queue.as_str())));
    assert_eq!(death.get("exchange"), Some(&FieldValue::long_str("")));
    assert_eq!(death.get("routing-keys"), Some(&list(&[&queue])));
    let Some(FieldValue::Timestamp(time)) = death.get("time") else { panic!("{death:?}") };
    assert!((before - 1..=before + 60).contains(time), "{time} after {before}");
}

#[test]
fn a_nack_is_a_rejection_and_a_requeue_is_none() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! {});
    yard.client.publish(1, &queue, b"1");
    yard.client.publish(1, &queue, b"2");
    yard.client.wait_ready(1, &queue, 2);
    let one = yard.client.get_unacked(1, &queue).tag();
    yard.client.nack(1, one, false, true);
    let one = yard.client.get_unacked(1, &queue).tag();
    let two = yard.client.get_unacked(1, &queue).tag();
    yard.client.nack(1, two, true, false);
    assert!(one < two);
    assert_eq!([yard.letter().text(), yard.letter().text()], ["1", "2"]);
}

#[test]
fn purging_and_deleting_make_no_letters() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! {});
    yard.client.publish(1, &queue, b"x");
    yard.client.wait_ready(1, &queue, 1);
    let purge = amqp::method::queue::Purge { queue: &queue, nowait: false };
    yard.client.call(1, purge, "queue.purge-ok");
    yard.client.publish(1, &queue, b"x");
    yard.client.wait_ready(1, &queue, 1);
    yard.client.delete_queue(1, &queue);
    let dead = yard.dead.clone();
    yard.client.consume(1, &dead, "letters", true);
    yard.client.expect_nothing(1, &dead);
}

#[test]
fn expired_messages_tell_when_they_had_to_go() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! { "x-message-ttl" => 60 });
    yard.client.publish(1, &queue, b"b");
    let death = yard.letter().deaths().remove(0);
    assert_eq!(text(&death, "reason").unwrap(), "expired");
    assert!(!death.contains("original-expiration"));
    // An expiration of its own is taken off, so that it does not expire again, and told.
    let queue = yard.queue(table! {});
    let properties = BasicProperties { expiration: Some("60".into()), ..Default::default() };
    yard.client.publish_with(1, "", &queue, &properties, b"b");
    let letter = yard.letter();
    assert_eq!(letter.properties().expiration, None);
    assert_eq!(text(&letter.deaths()[0], "original-expiration").unwrap(), "60");
}

#[test]
fn a_full_queue_sends_its_oldest() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! { "x-max-length" => 1 });
    yard.client.publish(1, &queue, b"old");
    yard.client.publish(1, &queue, b"new");
    let letter = yard.letter();
    assert_eq!(letter.text(), "old");
    assert_eq!(text(&letter.deaths()[0], "reason").unwrap(), "maxlen");
    assert_eq!(yard.client.drain(1, &queue), ["new"]);
}

#[test]
fn a_key_of_the_queue_takes_the_place_of_the_messages() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! { "x-dead-letter-routing-key" => "over.ride" });
    let headers = Some(table! { "CC" => list(&["cc.key"]) });
    yard.reject(&queue, &BasicProperties { headers, ..Default::default() }, b"b");
    let letter = yard.letter();
    assert_eq!(letter.address(), (&*yard.exchange, "over.ride"));
    assert!(!letter.headers().contains("CC"), "the old keys have no meaning any more");
    assert_eq!(letter.deaths()[0].get("routing-keys"), Some(&list(&[&queue, "cc.key"])));
}

#[test]
fn without_one_the_copies_keep_their_keys() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! {});
    let headers = Some(table! { "CC" => list(&["cc.key"]) });
    yard.reject(&queue, &BasicProperties { headers, ..Default::default() }, b"b");
    let letter = yard.letter();
    assert_eq!(letter.address(), (&*yard.exchange, &*queue));
    assert_eq!(letter.headers().get("CC"), Some(&list(&["cc.key"])));
}

#[test]
fn deaths_count_by_queue_and_reason_newest_first() {
    let mut yard = Graveyard::new();
    let one = yard.queue(table! { "x-dead-letter-routing-key" => "first" });
    let two = yard.queue(table! { "x-dead-letter-routing-key" => "second", "x-message-ttl" => 20 });
    yard.reject(&one, &BasicProperties::default(), b"b");
    let letter = yard.letter();
    // Once more through the same queue, with the headers it has now.
    yard.reject(&one, &letter.properties(), b"b");
    let letter = yard.letter();
    assert_eq!(letter.deaths().len(), 1);
    assert_eq!(letter.deaths()[0].get("count"), Some(&FieldValue::Long(2)));
    // And through another, where it dies of another reason.
    yard.client.publish_with(1, "", &two, &letter.properties(), b"b");
    let letter = yard.letter();
    let deaths = letter.deaths();
    let seen: Vec<_> = deaths
        .iter()
        .map(|it| (text(it, "queue").unwrap(), text(it, "reason").unwrap(), it.get("count").cloned()))
        .collect();
    let expected = [
        (two, "expired".to_owned(), Some(FieldValue::Long(1))),
        (one.clone(), "rejected".to_owned(), Some(FieldValue::Long(2))),
    ];
    assert_eq!(seen, expected);
    assert_eq!(letter.header("x-first-death-queue").unwrap(), one);
    assert_eq!(letter.header("x-first-death-reason").unwrap(), "rejected");
}

#[test]
fn an_exchange_that_is_not_there_takes_them_silently() {
    let mut client = client();
    let queue = client.own_queue_with(&args! { "x-dead-letter-exchange" => name("nope") });
    client.publish(1, &queue, b"x");
    client.wait_ready(1, &queue, 1);
    let tag = client.get_unacked(1, &queue).tag();
    client.reject(1, tag, false);
    assert!(client.get(1, &queue).is_none());
    client.expect_nothing(1, &queue);
}

#[test]
fn a_circle_without_a_rejection_ends_at_once() {
    let mut client = client();
    let (one, two) = (name("q"), name("q"));
    for (queue, other) in [(&one, &two), (&two, &one)] {
        let arguments = args! {
            "x-message-ttl" => 30,
            "x-dead-letter-exchange" => "",
            "x-dead-letter-routing-key" => other.as_str(),
        };
        let arguments = arguments.table();
        let declare =
            amqp::method::queue::Declare { queue, exclusive: true, arguments, ..Default::default() };
        client.declare(1, &declare);
    }
    client.confirm(1);
    client.publish_confirmed(1, &one, &BasicProperties::default(), b"x");
    // From one to two, and there it would go back: it is dropped instead.
    client.wait_ready(1, &one, 0);
    client.wait_ready(1, &two, 0);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!((client.counts(1, &one).0, client.counts(1, &two).0), (0, 0));
}

#[test]
fn a_circle_with_a_rejection_goes_on() {
    let mut client = client();
    let queue = name("q");
    let arguments = args! { "x-dead-letter-exchange" => "", "x-dead-letter-routing-key" => queue.as_str() };
    let arguments = arguments.table();
    let declare =
        amqp::method::queue::Declare { queue: &queue, exclusive: true, arguments, ..Default::default() };
    client.declare(1, &declare);
    client.publish(1, &queue, b"x");
    client.consume(1, &queue, "t", false);
    for round in 0..4 {
        let delivered = client.delivery(1);
        let deaths = delivered.deaths();
        assert_eq!(deaths.len(), usize::from(round > 0));
        if let Some(death) = deaths.first() {
            assert_eq!(death.get("count"), Some(&FieldValue::Long(round)));
        }
        client.reject(1, delivered.tag(), false);
    }
}

#[test]
fn letters_go_where_their_exchange_leads_and_more_than_once() {
    let mut yard = Graveyard::new();
    let second = yard.client.own_queue();
    let exchange = yard.exchange.clone();
    yard.client.bind(1, &second, &exchange, "#");
    let queue = yard.queue(table! {});
    yard.reject(&queue, &BasicProperties::default(), b"b");
    assert_eq!(yard.letter().text(), "b");
    assert_eq!(yard.client.get_soon(1, &second).text(), "b");
    // Through an alternate exchange too.
    let alternate = args! { "alternate-exchange" => exchange.as_str() };
    let first = name("direct");
    let declare = exchange::Declare {
        exchange: &first,
        kind: "direct",
        arguments: alternate.table(),
        ..Default::default()
    };
    yard.client.call(1, declare, "exchange.declare-ok");
    let arguments = args! { "x-dead-letter-exchange" => first.as_str() };
    let queue = yard.client.own_queue_with(&arguments);
    yard.reject(&queue, &BasicProperties::default(), b"c");
    assert_eq!(yard.letter().text(), "c");
    yard.client.call(1, exchange::Delete { exchange: &first, ..Default::default() }, "exchange.delete-ok");
}

#[test]
fn a_consumer_of_the_letters_may_acknowledge_them() {
    let mut yard = Graveyard::new();
    let queue = yard.queue(table! {});
    yard.reject(&queue, &BasicProperties::default(), b"b");
    let dead = yard.dead.clone();
    yard.client.consume(1, &dead, "letters", false);
    let delivered = yard.client.delivery(1);
    yard.client.send(1, basic::Ack { delivery_tag: delivered.tag(), multiple: false });
    yard.client.expect_nothing(1, &dead);
}
