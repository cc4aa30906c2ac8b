//! The scenarios of `tests/clients/scenarios.txt` with lapin, the AMQP client for Rust: a test for each.

use crate::node;
use futures_util::{FutureExt, Stream, StreamExt};
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicPublishOptions, BasicQosOptions, BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, DecimalValue, FieldArray, FieldTable, ShortString};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
};
use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What a scenario may take on a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(180);

/// Runs a scenario with a connection and a channel of its own.
fn scenario<F: Future<Output = ()>>(steps: impl FnOnce(Connection, Channel) -> F) {
    run(async {
        let connection = connect(30).await;
        let channel = connection.create_channel().await.unwrap();
        let blocked = |it: &lapin::Event| matches!(it, lapin::Event::ConnectionBlocked(_));
        let mut notices = Box::pin(connection.events_listener().filter(|it| std::future::ready(blocked(it))));
        steps(connection, channel).await;
        assert!(notices.next().now_or_never().flatten().is_none());
    });
}

fn run(steps: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, steps).await.expect("in time") });
}

async fn connect(heartbeat: u16) -> Connection {
    let url = format!("amqp://guest:guest@127.0.0.1:{}/%2F?heartbeat={heartbeat}", node().port);
    let properties = ConnectionProperties::default().with_connection_name("lapin".into());
    Connection::connect(&url, properties).await.unwrap()
}

/// A name that no other test has.
fn name(what: &str) -> ShortString {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("lapin-{what}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert(key.into(), value);
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

async fn queue(channel: &Channel, what: &str, arguments: FieldTable) -> ShortString {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    channel.queue_declare(name(what), options, arguments).await.unwrap().name().clone()
}

async fn passive(channel: &Channel, queue: &ShortString) -> lapin::Result<lapin::Queue> {
    let options = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Confirmation {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    channel
        .basic_publish(exchange.into(), key.into(), options, body, properties)
        .await
        .unwrap()
        .await
        .unwrap()
}

async fn send(channel: &Channel, queue: &ShortString, body: &str) {
    publish(channel, "", queue.as_str(), body.as_bytes(), BasicProperties::default()).await;
}

async fn get(channel: &Channel, queue: &ShortString, no_ack: bool) -> Option<BasicGetMessage> {
    channel.basic_get(queue.clone(), BasicGetOptions { no_ack }).await.unwrap()
}

/// Gets a message; dead lettering is asynchronous. The scenario's limit bounds it.
async fn fetch(channel: &Channel, queue: &ShortString, no_ack: bool) -> BasicGetMessage {
    loop {
        match get(channel, queue, no_ack).await {
            Some(message) => return message,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> lapin::Consumer {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
}

async fn next(consumer: &mut (impl Stream<Item = lapin::Result<Delivery>> + Unpin)) -> Delivery {
    consumer.next().await.expect("the consumer goes on").unwrap()
}

fn body(delivery: &Delivery) -> &str {
    std::str::from_utf8(&delivery.data).unwrap()
}

/// The action's channel is closed with this code and text.
async fn refused<T, F>(connection: &Connection, code: u16, reason: &str, action: impl FnOnce(Channel) -> F)
where
    T: std::fmt::Debug,
    F: Future<Output = lapin::Result<T>>,
{
    let channel = connection.create_channel().await.unwrap();
    let error = action(channel.clone()).await.unwrap_err();
    let ErrorKind::ProtocolError(error) = error.kind() else { panic!("{error:?}") };
    assert_eq!((error.get_id(), error.get_message().as_str()), (code, reason));
    assert!(!channel.status().connected() && connection.status().connected());
}

#[test]
fn connect_negotiates_and_is_refused_with_a_wrong_password() {
    run(async {
        let url = |password: &str, query: &str| {
            format!("amqp://guest:{password}@127.0.0.1:{}/%2F{query}", node().port)
        };
        let options = url("guest", "?heartbeat=17&channel_max=9&frame_max=8192");
        let connection = Connection::connect(&options, ConnectionProperties::default()).await.unwrap();
        let tuned = connection.configuration();
        assert_eq!((tuned.heartbeat(), tuned.channel_max(), tuned.frame_max()), (17, 9, 8192));
        connection.close(200, "bye".into()).await.unwrap();
        let error =
            Connection::connect(&url("wrong", ""), ConnectionProperties::default()).await.unwrap_err();
        let ErrorKind::ProtocolError(error) = error.kind() else { panic!("{error:?}") };
        assert_eq!(error.get_id(), 403);
        assert!(error.get_message().as_str().starts_with("ACCESS_REFUSED - Login was refused"), "{error:?}");
    });
}

/// An exchange of this kind, with queues bound to it: for each its bindings.
async fn bound(
    channel: &Channel,
    kind: ExchangeKind,
    queues: &[&[(&str, FieldTable)]],
) -> (ShortString, Vec<ShortString>) {
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let exchange = name("exchange");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(exchange.clone(), kind, options, FieldTable::default()).await.unwrap();
    let mut names = Vec::new();
    for bindings in queues {
        let name = queue(channel, "bound", FieldTable::default()).await;
        for (key, arguments) in *bindings {
            let options = QueueBindOptions::default();
            let (name, exchange, key) = (name.clone(), exchange.clone(), (*key).into());
            channel.queue_bind(name, exchange, key, options, arguments.clone()).await.unwrap();
        }
        names.push(name);
    }
    (exchange, names)
}

/// Which of the queues got a message published so.
async fn routed(
    channel: &Channel,
    to: &(ShortString, Vec<ShortString>),
    key: &str,
    headers: Option<FieldTable>,
) -> Vec<usize> {
    let properties =
        headers.map_or_else(BasicProperties::default, |it| BasicProperties::default().with_headers(it));
    assert!(publish(channel, to.0.as_str(), key, key.as_bytes(), properties).await.is_ack());
    let mut found = Vec::new();
    for (index, queue) in to.1.iter().enumerate() {
        if let Some(message) = get(channel, queue, true).await {
            assert_eq!(body(&message.delivery), key);
            found.push(index);
        }
        assert!(get(channel, queue, true).await.is_none());
    }
    found
}

#[test]
fn exchanges_of_every_type_route() {
    scenario(|_connection, channel| async move {
        let none = FieldTable::default;
        let queues: &[&[_]] = &[&[("error", none())], &[("error", none()), ("info", none())]];
        let direct = bound(&channel, ExchangeKind::Direct, queues).await;
        assert_eq!(routed(&channel, &direct, "error", None).await, [0, 1]);
        assert_eq!(routed(&channel, &direct, "info", None).await, [1]);
        assert_eq!(routed(&channel, &direct, "debug", None).await, [0; 0]);
        let fanout = bound(&channel, ExchangeKind::Fanout, queues).await;
        assert_eq!(routed(&channel, &fanout, "anything", None).await, [0, 1]);
        let queues: &[&[_]] = &[&[("*.orange.*", none())], &[("*.*.rabbit", none()), ("lazy.#", none())]];
        let topic = bound(&channel, ExchangeKind::Topic, queues).await;
        for (key, wanted) in [
            ("quick.orange.rabbit", &[0, 1][..]),
            ("lazy.orange.elephant", &[0, 1]),
            ("quick.orange.fox", &[0]),
            ("lazy.brown.fox", &[1]),
            ("lazy.pink.rabbit", &[1]),
            ("quick.brown.fox", &[]),
            ("quick.orange.male.rabbit", &[]),
            ("lazy.orange.male.rabbit", &[1]),
        ] {
            assert_eq!(routed(&channel, &topic, key, None).await, wanted, "{key}");
        }
        let report = |size| table([("kind", text("report")), ("size", AMQPValue::LongInt(size))]);
        let matching =
            |how| table([("x-match", text(how)), ("kind", text("report")), ("size", AMQPValue::LongInt(3))]);
        let queues: &[&[_]] = &[&[("", matching("all"))], &[("", matching("any"))]];
        let headers = bound(&channel, ExchangeKind::Headers, queues).await;
        assert_eq!(routed(&channel, &headers, "1", Some(report(3))).await, [0, 1]);
        assert_eq!(routed(&channel, &headers, "2", Some(report(4))).await, [1]);
        assert_eq!(routed(&channel, &headers, "3", Some(table([("kind", text("other"))]))).await, [0; 0]);
        assert_eq!(routed(&channel, &headers, "4", None).await, [0; 0]);
    });
}

#[test]
fn properties_and_bodies_come_back_unchanged() {
    scenario(|_connection, channel| async move {
        let queue = queue(&channel, "properties", FieldTable::default()).await;
        let headers = table([
            ("text", text("wörter")),
            ("byte", AMQPValue::ShortShortInt(-3)),
            ("octet", AMQPValue::ShortShortUInt(200)),
            ("short", AMQPValue::ShortInt(-2)),
            ("number", AMQPValue::LongInt(42)),
            ("unsigned", AMQPValue::LongUInt(u32::MAX)),
            ("large", AMQPValue::LongLongInt(1 << 40)),
            ("float", AMQPValue::Float(0.5)),
            ("double", AMQPValue::Double(0.25)),
            ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 1234 })),
            ("yes", AMQPValue::Boolean(true)),
            ("nothing", AMQPValue::Void),
            ("time", AMQPValue::Timestamp(1_700_000_000)),
            ("binary", AMQPValue::ByteArray(vec![0, 255].into())),
            (
                "table",
                AMQPValue::FieldTable(table([(
                    "inner",
                    AMQPValue::FieldTable(table([("deep", text("1"))])),
                )])),
            ),
            ("array", AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::LongInt(1), text("two")]))),
        ]);
        let sent = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_content_encoding("gzip".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(7)
            .with_correlation_id("correlation".into())
            .with_reply_to("reply".into())
            .with_expiration("60000".into())
            .with_message_id("message".into())
            .with_timestamp(1_700_000_000)
            .with_type("type".into())
            .with_user_id("guest".into())
            .with_app_id("app".into())
            .with_cluster_id("cluster".into());
        for size in [0, 5, 512 * 1024] {
            let data: Vec<u8> = (0..size).map(|it: u32| it.to_le_bytes()[0] ^ it.to_le_bytes()[1]).collect();
            publish(&channel, "", queue.as_str(), &data, sent.clone()).await;
            let got = fetch(&channel, &queue, true).await.delivery;
            assert!(got.data == data);
            assert_eq!((got.exchange.as_str(), &got.routing_key, got.redelivered), ("", &queue, false));
            assert_eq!(got.properties, sent);
        }
        send(&channel, &queue, "none").await;
        assert_eq!(fetch(&channel, &queue, true).await.delivery.properties, BasicProperties::default());
    });
}

#[test]
fn confirms_are_nack_when_the_queue_refuses() {
    scenario(|_connection, channel| async move {
        let arguments = [("x-max-length", AMQPValue::LongInt(2)), ("x-overflow", text("reject-publish"))];
        let queue = queue(&channel, "confirms", table(arguments)).await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let mut pending = Vec::new();
        for body in ["1", "2", "3"] {
            let options = BasicPublishOptions::default();
            let confirm = channel.basic_publish(
                "".into(),
                queue.clone(),
                options,
                body.as_bytes(),
                BasicProperties::default(),
            );
            pending.push(confirm.await.unwrap());
        }
        let mut outcomes = Vec::new();
        for confirm in pending {
            outcomes.push(confirm.await.unwrap());
        }
        assert_eq!(outcomes, [Confirmation::Ack(None), Confirmation::Ack(None), Confirmation::Nack(None)]);
        assert_eq!(body(&fetch(&channel, &queue, true).await.delivery), "1");
        assert_eq!(body(&fetch(&channel, &queue, true).await.delivery), "2");
        assert!(get(&channel, &queue, true).await.is_none());
    });
}

#[test]
fn returns_come_before_their_confirm() {
    scenario(|_connection, channel| async move {
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let nowhere = name("nowhere");
        let properties = BasicProperties::default().with_message_id("one".into());
        let confirm = publish(&channel, "", nowhere.as_str(), b"back", properties.clone()).await;
        assert!(confirm.is_ack());
        let returned = confirm.take_message().expect("the message came back");
        assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
        assert_eq!((&returned.routing_key, body(&returned)), (&nowhere, "back"));
        assert_eq!(returned.properties, properties);
    });
}

#[test]
fn transactions_commit_and_roll_back() {
    scenario(|connection, channel| async move {
        let queue = queue(&channel, "transactions", FieldTable::default()).await;
        channel.tx_select().await.unwrap();
        send(&channel, &queue, "dropped").await;
        channel.tx_rollback().await.unwrap();
        send(&channel, &queue, "kept").await;
        let other = connection.create_channel().await.unwrap();
        assert!(get(&other, &queue, true).await.is_none());
        channel.tx_commit().await.unwrap();
        let got = fetch(&channel, &queue, false).await.delivery;
        assert_eq!(body(&got), "kept");
        channel.basic_ack(got.delivery_tag, BasicAckOptions::default()).await.unwrap();
        channel.tx_rollback().await.unwrap();
        channel.basic_ack(got.delivery_tag, BasicAckOptions::default()).await.unwrap();
        channel.tx_commit().await.unwrap();
        channel.close(200, "bye".into()).await.unwrap();
        assert!(get(&other, &queue, true).await.is_none());
    });
}

#[test]
fn prefetch_bounds_what_is_unacked() {
    scenario(|_connection, channel| async move {
        let queue = queue(&channel, "prefetch", FieldTable::default()).await;
        for number in 0..5 {
            send(&channel, &queue, &number.to_string()).await;
        }
        channel.basic_qos(2, BasicQosOptions::default()).await.unwrap();
        let mut consumer = consume(&channel, queue.as_str(), false).await;
        let (first, second) = (next(&mut consumer).await, next(&mut consumer).await);
        assert_eq!(passive(&channel, &queue).await.unwrap().message_count(), 3);
        first.ack(BasicAckOptions::default()).await.unwrap();
        let third = next(&mut consumer).await;
        assert_eq!(passive(&channel, &queue).await.unwrap().message_count(), 2);
        third.ack(BasicAckOptions { multiple: true }).await.unwrap();
        let (fourth, fifth) = (next(&mut consumer).await, next(&mut consumer).await);
        let bodies: Vec<&str> = [&first, &second, &third, &fourth, &fifth].map(body).to_vec();
        assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
    });
}

#[test]
fn acknowledgements_drop_requeue_and_mark() {
    scenario(|connection, channel| async move {
        let queue = queue(&channel, "acknowledgements", FieldTable::default()).await;
        let mut consumer = consume(&channel, queue.as_str(), false).await;
        for what in ["ack", "nack", "reject", "requeue"] {
            send(&channel, &queue, what).await;
            let got = next(&mut consumer).await;
            assert_eq!((body(&got), got.redelivered), (what, false));
            match what {
                "ack" => got.ack(BasicAckOptions::default()).await,
                "nack" => got.nack(BasicNackOptions::default()).await,
                "reject" => got.reject(BasicRejectOptions::default()).await,
                _ => got.nack(BasicNackOptions { requeue: true, multiple: false }).await,
            }
            .unwrap();
        }
        let again = next(&mut consumer).await;
        assert_eq!((body(&again), again.redelivered), ("requeue", true));
        channel.close(200, "bye".into()).await.unwrap();
        let other = connection.create_channel().await.unwrap();
        let back = fetch(&other, &queue, false).await.delivery;
        assert_eq!((body(&back), back.redelivered), ("requeue", true));
        back.ack(BasicAckOptions::default()).await.unwrap();
        let mut automatic = consume(&other, queue.as_str(), true).await;
        send(&other, &queue, "automatic").await;
        assert_eq!(body(&next(&mut automatic).await), "automatic");
        other.close(200, "bye".into()).await.unwrap();
        let last = connection.create_channel().await.unwrap();
        assert!(get(&last, &queue, true).await.is_none());
    });
}

#[test]
fn get_tells_how_many_are_left() {
    scenario(|_connection, channel| async move {
        let queue = queue(&channel, "get", FieldTable::default()).await;
        assert!(get(&channel, &queue, false).await.is_none());
        send(&channel, &queue, "1").await;
        send(&channel, &queue, "2").await;
        let first = fetch(&channel, &queue, false).await;
        assert_eq!((body(&first.delivery), first.message_count, first.delivery.redelivered), ("1", 1, false));
        first.delivery.reject(BasicRejectOptions { requeue: true }).await.unwrap();
        let again = fetch(&channel, &queue, true).await;
        assert_eq!((body(&again.delivery), again.message_count, again.delivery.redelivered), ("1", 1, true));
        assert_eq!(channel.queue_purge(queue, QueuePurgeOptions::default()).await.unwrap(), 1);
    });
}

#[test]
fn cancel_ends_a_consumer_and_the_broker_tells_it() {
    scenario(|connection, channel| async move {
        let queue = queue(&channel, "cancel", FieldTable::default()).await;
        let mut consumer = consume(&channel, queue.as_str(), false).await;
        assert_eq!(passive(&channel, &queue).await.unwrap().consumer_count(), 1);
        channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await.unwrap();
        assert!(consumer.next().await.is_none());
        assert_eq!(passive(&channel, &queue).await.unwrap().consumer_count(), 0);
        let mut consumer = consume(&channel, queue.as_str(), false).await;
        let other = connection.create_channel().await.unwrap();
        other.queue_delete(queue, QueueDeleteOptions::default()).await.unwrap();
        assert!(consumer.next().await.is_none());
        assert!(channel.status().connected());
    });
}

#[test]
fn exceptions_close_their_channel_only() {
    scenario(|connection, channel| async move {
        let missing = name("missing");
        let reason = format!("NOT_FOUND - no queue '{}' in vhost '/'", missing.as_str());
        refused(&connection, 404, &reason, |it| async move { passive(&it, &missing).await }).await;
        let shared = name("shared");
        let declare = |it: Channel, durable, shared: ShortString| async move {
            let options = QueueDeclareOptions { durable, ..Default::default() };
            it.queue_declare(shared, options, FieldTable::default()).await
        };
        declare(channel.clone(), false, shared.clone()).await.unwrap();
        let reason = format!(
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{}' in vhost '/': received 'true' but \
             current is 'false'",
            shared.as_str()
        );
        refused(&connection, 406, &reason, |it| declare(it, true, shared.clone())).await;
        channel.queue_delete(shared, QueueDeleteOptions::default()).await.unwrap();
        let mine = &queue(&channel, "mine", FieldTable::default()).await;
        let other = connect(30).await;
        let reason = format!(
            "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{}' in vhost '/'. It could be \
             originally declared on another connection or the exclusive property value does not match that of the \
             original declaration.",
            mine.as_str()
        );
        refused(&other, 405, &reason, |it| async move { passive(&it, mine).await }).await;
        let channel = other.create_channel().await.unwrap();
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let temporary = channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        assert!(temporary.name().as_str().starts_with("amq.gen-"));
    });
}

fn deaths(delivery: &Delivery) -> Vec<FieldTable> {
    let headers = delivery.properties.headers().as_ref().expect("there are headers").inner();
    let Some(AMQPValue::FieldArray(deaths)) = headers.get("x-death") else { panic!("{headers:?}") };
    let table = |it: &AMQPValue| match it {
        AMQPValue::FieldTable(table) => table.clone(),
        other => panic!("{other:?}"),
    };
    deaths.as_slice().iter().map(table).collect()
}

#[test]
fn dead_letters_tell_their_story() {
    scenario(|_connection, channel| async move {
        let to = bound(&channel, ExchangeKind::Fanout, &[&[("", FieldTable::default())]]).await;
        let (exchange, dead) = (&to.0, &to.1[0]);
        let dlx = ("x-dead-letter-exchange", text(exchange.as_str()));
        let full =
            queue(&channel, "full", table([dlx.clone(), ("x-max-length", AMQPValue::LongInt(1))])).await;
        let aging =
            queue(&channel, "aging", table([dlx.clone(), ("x-message-ttl", AMQPValue::LongInt(30))])).await;
        let rejecting = queue(&channel, "rejecting", table([dlx])).await;
        for (source, reason) in [(&full, "maxlen"), (&aging, "expired"), (&rejecting, "rejected")] {
            let properties = BasicProperties::default().with_expiration("60000".into());
            publish(&channel, "", source.as_str(), reason.as_bytes(), properties).await;
            match reason {
                "maxlen" => send(&channel, source, "new").await,
                "rejected" => {
                    let got = fetch(&channel, source, false).await.delivery;
                    assert!(got.reject(BasicRejectOptions::default()).await.unwrap());
                }
                _ => {}
            }
            let got = fetch(&channel, dead, true).await.delivery;
            assert_eq!((body(&got), &got.exchange, &got.routing_key), (reason, exchange, source));
            assert_eq!(got.properties.expiration(), &None);
            let deaths = deaths(&got);
            assert_eq!(deaths.len(), 1);
            let death = deaths[0].inner();
            assert!(matches!(death.get("time"), Some(AMQPValue::Timestamp(_))), "{death:?}");
            assert_eq!(death.len(), 7, "{death:?}");
            for (key, value) in [
                ("count", AMQPValue::LongLongInt(1)),
                ("reason", text(reason)),
                ("queue", text(source.as_str())),
                ("exchange", text("")),
                ("original-expiration", text("60000")),
                ("routing-keys", AMQPValue::FieldArray(vec![text(source.as_str())].into())),
            ] {
                assert_eq!(death.get(key), Some(&value), "{key}");
            }
            let headers = got.properties.headers().as_ref().unwrap().inner().clone();
            assert_eq!(headers.get("x-first-death-reason"), Some(&text(reason)));
            assert_eq!(headers.get("x-first-death-queue"), Some(&text(source.as_str())));
            assert_eq!(headers.get("x-first-death-exchange"), Some(&text("")));
        }
    });
}

#[test]
fn priorities_go_first() {
    scenario(|_connection, channel| async move {
        let queue = queue(&channel, "priorities", table([("x-max-priority", AMQPValue::LongInt(5))])).await;
        for priority in [0, 3, 1, 9, 3] {
            let properties = BasicProperties::default().with_priority(priority);
            publish(&channel, "", queue.as_str(), priority.to_string().as_bytes(), properties).await;
        }
        let mut found = String::new();
        for _ in 0..5 {
            found.push_str(body(&fetch(&channel, &queue, true).await.delivery));
        }
        assert_eq!(found, "93310");
    });
}

#[test]
fn rpc_by_direct_replies() {
    scenario(|connection, channel| async move {
        let requests = queue(&channel, "requests", FieldTable::default()).await;
        let serving = connection.create_channel().await.unwrap();
        let mut calls = consume(&serving, requests.as_str(), false).await;
        let mut replies = consume(&channel, "amq.rabbitmq.reply-to", true).await;
        for id in ["0", "1", "2"] {
            let properties = BasicProperties::default()
                .with_reply_to("amq.rabbitmq.reply-to".into())
                .with_correlation_id(id.into());
            publish(&channel, "", requests.as_str(), format!("call {id}").as_bytes(), properties).await;
            let call = next(&mut calls).await;
            let to = call.properties.reply_to().clone().unwrap();
            assert!(to.as_str().starts_with("amq.rabbitmq.reply-to."), "{to:?}");
            let properties = BasicProperties::default().with_correlation_id(id.into());
            publish(&serving, "", to.as_str(), body(&call).to_uppercase().as_bytes(), properties).await;
            call.ack(BasicAckOptions::default()).await.unwrap();
            let reply = next(&mut replies).await;
            assert_eq!(body(&reply), format!("CALL {id}"));
            assert_eq!(reply.properties.correlation_id(), &Some(id.into()));
        }
    });
}

#[test]
fn heartbeats_keep_a_quiet_connection() {
    run(async {
        let quiet = connect(1).await;
        // Longer than the two heartbeats after which a silent client is dropped.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        let channel = quiet.create_channel().await.unwrap();
        queue(&channel, "quiet", FieldTable::default()).await;
    });
}

/// Publishes a message, calls `ready`, loses its broker, and finds the message in the next one.
pub(crate) fn recover(url: &str, ready: impl FnOnce()) {
    run(async {
        let durable = name("recover");
        let (connection, channel) = confirming(url).await.unwrap();
        confirmed(&channel, &durable, b"before").await;
        let mut watch = consume(&channel, durable.as_str(), false).await;
        assert_eq!(body(&next(&mut watch).await), "before");
        ready();
        // The consumer ends with its connection, with the reason or without.
        let end = watch.next().await;
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
        drop(connection);
        let (_connection, channel) = loop {
            match confirming(url).await {
                Ok(connected) => break connected,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        confirmed(&channel, &durable, b"after").await;
        assert_eq!(body(&fetch(&channel, &durable, true).await.delivery), "before");
        assert_eq!(body(&fetch(&channel, &durable, true).await.delivery), "after");
        channel.queue_delete(durable, QueueDeleteOptions::default()).await.unwrap();
    });
}

async fn confirming(url: &str) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

/// Publishes a persistent message to a durable queue and waits for its confirm.
async fn confirmed(channel: &Channel, queue: &ShortString, body: &[u8]) {
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    assert!(publish(channel, "", queue.as_str(), body, persistent).await.is_ack());
}
