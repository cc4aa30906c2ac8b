//! Shorthand for the methods that tests use most.

use super::{Args, Client, PATIENCE, Received};
use amqp::content::BasicProperties;
use amqp::method::{Method, basic, channel, confirm, connection, exchange, queue};
use std::time::Instant;

/// A queue as texts of errors name it, in the default vhost.
#[must_use]
pub fn queue_in(name: &str) -> String {
    format!("queue '{name}' in vhost '/'")
}

impl Client {
    /// Opens a channel.
    pub fn open(&mut self, number: u16) {
        self.call(number, channel::Open, "channel.open-ok");
    }

    /// Closes a channel.
    pub fn close_channel(&mut self, number: u16) {
        self.call(number, channel::Close { reply_code: 200, ..Default::default() }, "channel.close-ok");
    }

    /// Closes the connection in order.
    pub fn close(mut self) {
        self.call(0, connection::Close { reply_code: 200, ..Default::default() }, "connection.close-ok");
    }

    /// Declares a queue and returns its name.
    pub fn declare(&mut self, number: u16, declare: &queue::Declare<'_>) -> String {
        let received = self.call(number, *declare, "queue.declare-ok");
        let Method::QueueDeclareOk(ok) = received.method() else { unreachable!("checked by its name") };
        ok.queue.to_owned()
    }

    /// Declares a queue of the connection's own.
    pub fn own_queue(&mut self) -> String {
        self.own_queue_with(&Args::default())
    }

    /// Declares a queue of the connection's own with these arguments.
    pub fn own_queue_with(&mut self, arguments: &Args) -> String {
        let arguments = arguments.table();
        self.declare(1, &queue::Declare { exclusive: true, arguments, ..Default::default() })
    }

    /// Ready messages and consumers of a queue.
    pub fn counts(&mut self, number: u16, queue: &str) -> (u32, u32) {
        let passive = queue::Declare { queue, passive: true, ..Default::default() };
        let received = self.call(number, passive, "queue.declare-ok");
        let Method::QueueDeclareOk(ok) = received.method() else { unreachable!("checked by its name") };
        (ok.message_count, ok.consumer_count)
    }

    /// Waits until a queue has this many ready messages.
    ///
    /// # Panics
    /// It does not happen.
    pub fn wait_ready(&mut self, number: u16, queue: &str, count: u32) {
        let start = Instant::now();
        loop {
            let (ready, _) = self.counts(number, queue);
            if ready == count {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{queue} has {ready} messages instead of {count}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Waits until a queue is there no more, asking on a channel that is open again afterwards.
    ///
    /// # Panics
    /// It does not happen.
    pub fn wait_gone(&mut self, number: u16, queue: &str) {
        let start = Instant::now();
        let passive = queue::Declare { queue, passive: true, ..Default::default() };
        loop {
            self.send(number, passive);
            let answer = self.answer(number).expect("an answer");
            if let Method::ChannelClose(close) = answer.method() {
                assert_eq!(close.reply_code, 404, "{close:?}");
                self.put(number, channel::CloseOk);
                self.open(number);
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{queue} stays");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Deletes a queue.
    pub fn delete_queue(&mut self, number: u16, queue: &str) {
        self.call(number, queue::Delete { queue, ..Default::default() }, "queue.delete-ok");
    }

    /// Declares an exchange that goes with its last binding.
    pub fn exchange(&mut self, number: u16, exchange: &str, kind: &str) {
        let declare = exchange::Declare { exchange, kind, auto_delete: true, ..Default::default() };
        self.call(number, declare, "exchange.declare-ok");
    }

    /// Binds a queue.
    pub fn bind(&mut self, number: u16, queue: &str, exchange: &str, routing_key: &str) {
        self.bind_with(number, queue, exchange, routing_key, &Args::default());
    }

    /// Binds a queue with arguments.
    pub fn bind_with(
        &mut self,
        number: u16,
        queue: &str,
        exchange: &str,
        routing_key: &str,
        arguments: &Args,
    ) {
        let arguments = arguments.table();
        let bind = queue::Bind { queue, exchange, routing_key, arguments, ..Default::default() };
        self.call(number, bind, "queue.bind-ok");
    }

    /// Publishes to a queue by its name.
    pub fn publish(&mut self, number: u16, routing_key: &str, body: &[u8]) {
        self.publish_with(number, "", routing_key, &BasicProperties::default(), body);
    }

    /// Publishes to an exchange.
    pub fn publish_to(&mut self, number: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        self.publish_with(number, exchange, routing_key, &BasicProperties::default(), body);
    }

    /// Publishes with properties.
    pub fn publish_with(
        &mut self,
        number: u16,
        exchange: &str,
        routing_key: &str,
        properties: &BasicProperties,
        body: &[u8],
    ) {
        let publish = basic::Publish { exchange, routing_key, ..Default::default() };
        self.put_publish(number, &publish, properties, body);
        self.flush();
    }

    /// Publishes what must be returned when no queue gets it.
    pub fn publish_mandatory(&mut self, number: u16, exchange: &str, routing_key: &str, body: &[u8]) {
        let publish = basic::Publish { exchange, routing_key, mandatory: true, ..Default::default() };
        self.put_publish(number, &publish, &BasicProperties::default(), body);
        self.flush();
    }

    /// Turns confirms on.
    pub fn confirm(&mut self, number: u16) {
        self.call(number, confirm::Select::default(), "confirm.select-ok");
    }

    /// Publishes to a queue on a channel with confirms and waits for the one that comes: `basic.ack` or
    /// `basic.nack`.
    pub fn publish_confirmed(
        &mut self,
        number: u16,
        queue: &str,
        properties: &BasicProperties,
        body: &[u8],
    ) -> Received {
        self.publish_with(number, "", queue, properties, body);
        self.answer(number).expect("a confirm")
    }

    /// Takes a message that needs no acknowledgement; `None` when the queue is empty.
    pub fn get(&mut self, number: u16, queue: &str) -> Option<Received> {
        self.get_with(number, queue, true)
    }

    /// Takes a message that has to be acknowledged.
    ///
    /// # Panics
    /// There is none.
    pub fn get_unacked(&mut self, number: u16, queue: &str) -> Received {
        self.get_with(number, queue, false).expect("a message in the queue")
    }

    fn get_with(&mut self, number: u16, queue: &str, no_ack: bool) -> Option<Received> {
        self.send(number, basic::Get { queue, no_ack });
        let received = self.answer(number).expect("an answer to basic.get");
        match received.method() {
            Method::BasicGetOk(_) => Some(received),
            Method::BasicGetEmpty(_) => None,
            other => panic!("basic.get was answered with {other:?}"),
        }
    }

    /// Waits for a message to take; it needs no acknowledgement.
    ///
    /// # Panics
    /// None comes.
    pub fn get_soon(&mut self, number: u16, queue: &str) -> Received {
        let start = Instant::now();
        loop {
            if let Some(received) = self.get(number, queue) {
                return received;
            }
            assert!(start.elapsed() < PATIENCE, "nothing comes into {queue}");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Takes everything that is ready: the bodies.
    pub fn drain(&mut self, number: u16, queue: &str) -> Vec<String> {
        std::iter::from_fn(|| self.get(number, queue)).map(|it| it.text().to_owned()).collect()
    }

    /// Starts to consume from a queue.
    pub fn consume(&mut self, number: u16, queue: &str, consumer_tag: &str, no_ack: bool) {
        let consume = basic::Consume { queue, consumer_tag, no_ack, ..Default::default() };
        self.call(number, consume, "basic.consume-ok");
    }

    /// Ends a consumer.
    pub fn cancel(&mut self, number: u16, consumer_tag: &str) {
        self.call(number, basic::Cancel { consumer_tag, nowait: false }, "basic.cancel-ok");
    }

    /// The next delivery on a channel.
    pub fn delivery(&mut self, number: u16) -> Received {
        self.expect_on(number, "basic.deliver")
    }

    /// The bodies of the next deliveries on a channel.
    pub fn deliveries(&mut self, number: u16, count: usize) -> Vec<String> {
        (0..count).map(|_| self.delivery(number).text().to_owned()).collect()
    }

    /// Sets a prefetch limit.
    pub fn qos(&mut self, number: u16, prefetch_count: u16, global: bool) {
        self.call(number, basic::Qos { prefetch_size: 0, prefetch_count, global }, "basic.qos-ok");
    }

    /// Acknowledges one delivery.
    pub fn ack(&mut self, number: u16, delivery_tag: u64) {
        self.send(number, basic::Ack { delivery_tag, multiple: false });
    }

    /// Refuses one delivery.
    pub fn reject(&mut self, number: u16, delivery_tag: u64, requeue: bool) {
        self.send(number, basic::Reject { delivery_tag, requeue });
    }

    /// Refuses a delivery, or with `multiple` all up to it.
    pub fn nack(&mut self, number: u16, delivery_tag: u64, multiple: bool, requeue: bool) {
        self.send(number, basic::Nack { delivery_tag, multiple, requeue });
    }
}
