//! RabbitMQ's firehose: where a vhost is traced, a copy of each message that is published or delivered there goes to
//! the exchange `amq.rabbitmq.trace`, with the routing key `publish.EXCHANGE` or `deliver.QUEUE`.
//!
//! While no vhost is traced it costs one look at a flag for each batch of work.

use crate::connection::outbox::Outbox;
use crate::node::Node;
use amqp::content::{BasicProperties, Properties};
use amqp::table::{FieldTable, FieldValue};
use broker_core::ids::{QueueId, VhostId};
use broker_core::message::{Message, MessageView};
use broker_core::meta::{RouteScratch, RoutedMessage};
use broker_core::queue::Delivery;
use broker_core::queue::dead_letter::{short, string_list};
use std::sync::Arc;

/// Where the copies go.
const EXCHANGE: &str = "amq.rabbitmq.trace";

/// Who published a message or got it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Name of the connection.
    pub(crate) connection: Arc<str>,
    /// Its user.
    pub(crate) user: Arc<str>,
}

/// Something that was seen and has to be told.
#[derive(Debug)]
pub(crate) struct Sighting {
    event: Event,
    message: Message,
    client: Client,
    channel: u16,
}

#[derive(Debug)]
enum Event {
    Published { vhost: VhostId, queues: Vec<QueueId> },
    Delivered { queue: QueueId, redelivered: bool },
}

impl Sighting {
    /// A message that was published to these queues.
    pub(crate) fn published(
        view: &MessageView<'_>,
        vhost: VhostId,
        queues: &[QueueId],
        client: Client,
        channel: u16,
    ) -> Sighting {
        let event = Event::Published { vhost, queues: queues.to_vec() };
        Sighting { event, message: Message::copy_from(view, false), client, channel }
    }

    /// A message that was sent to a client. `None` when it is a copy itself, or nobody logged in there.
    pub(crate) fn delivered(outbox: &Outbox, channel: u16, delivery: &Delivery<'_>) -> Option<Sighting> {
        Self::sent(outbox, channel, delivery.queue, delivery.redelivered, &delivery.view)
    }

    /// The same for `basic.get`.
    pub(crate) fn sent(
        outbox: &Outbox,
        channel: u16,
        queue: QueueId,
        redelivered: bool,
        view: &MessageView<'_>,
    ) -> Option<Sighting> {
        if view.exchange == EXCHANGE {
            return None;
        }
        let event = Event::Delivered { queue, redelivered };
        let client = outbox.client()?.clone();
        Some(Sighting { event, message: Message::copy_from(view, false), client, channel })
    }
}

impl Node {
    /// The copy to publish and where it goes, if the vhost is traced.
    pub(crate) fn trace(&self, sighting: &Sighting) -> Option<(Message, Vec<QueueId>)> {
        let sm = self.metadata.read();
        let view = sighting.message.view();
        let (vhost, key) = match &sighting.event {
            Event::Published { vhost, .. } => (*vhost, format!("publish.{}", view.exchange)),
            Event::Delivered { queue, .. } => {
                let queue = sm.queue(*queue)?;
                (queue.vhost, format!("deliver.{}", queue.name))
            }
        };
        let known = &sm.vhost(vhost)?.vhost;
        if !known.tracing {
            return None;
        }
        let mut headers = about(&view, &self.settings.node);
        if let Event::Delivered { redelivered, .. } = &sighting.event {
            headers.push("redelivered", i32::from(*redelivered));
        }
        headers.push("vhost", &*known.name);
        headers.push("connection", &*sighting.client.connection);
        headers.push("channel", i32::from(sighting.channel));
        headers.push("user", &*sighting.client.user);
        if let Event::Published { queues, .. } = &sighting.event {
            let names = queues.iter().filter_map(|id| sm.queue(*id)).map(|queue| text(&queue.name));
            headers.push("routed_queues", names.collect::<Vec<_>>());
        }
        let mut properties = Vec::with_capacity(512);
        BasicProperties { headers: Some(headers), ..BasicProperties::default() }.encode(&mut properties);
        let key = short(&key);
        let copy =
            MessageView { exchange: EXCHANGE, routing_key: key, properties: &properties, body: view.body };
        let (mut queues, mut scratch) = (Vec::new(), RouteScratch::default());
        let routed = RoutedMessage { keys: &[key], headers: None, properties: None };
        sm.route_message(vhost, EXCHANGE, routed, &mut queues, &mut scratch);
        (!queues.is_empty()).then(|| (Message::copy_from(&copy, false), queues))
    }
}

/// What the copy says about the message itself.
fn about(view: &MessageView<'_>, node: &str) -> FieldTable {
    let properties = Properties::parse(view.properties).map(BasicProperties::from).unwrap_or_default();
    let mut keys = vec![text(view.routing_key)];
    let copies = properties.headers.as_ref().and_then(|headers| headers.get("CC"));
    keys.extend(string_list(copies).iter().map(|key| text(key)));
    let mut headers = FieldTable::new();
    headers.push("exchange_name", view.exchange);
    headers.push("routing_keys", keys);
    headers.push("properties", as_table(properties));
    headers.push("node", node);
    headers
}

/// The properties as fields of a table; what is absent is left out.
fn as_table(properties: BasicProperties) -> FieldTable {
    let number = |number: u64| match i32::try_from(number) {
        Ok(number) => FieldValue::SignedInt(number),
        Err(_) => FieldValue::Long(i64::try_from(number).unwrap_or(i64::MAX)),
    };
    let octets = |octets: Option<Vec<u8>>| octets.map(FieldValue::LongStr);
    let fields = [
        ("content_type", octets(properties.content_type)),
        ("content_encoding", octets(properties.content_encoding)),
        ("headers", properties.headers.map(FieldValue::Table)),
        ("delivery_mode", properties.delivery_mode.map(|mode| number(mode.into()))),
        ("priority", properties.priority.map(|priority| number(priority.into()))),
        ("correlation_id", octets(properties.correlation_id)),
        ("reply_to", octets(properties.reply_to)),
        ("expiration", octets(properties.expiration)),
        ("message_id", octets(properties.message_id)),
        ("timestamp", properties.timestamp.map(number)),
        ("type", octets(properties.kind)),
        ("user_id", octets(properties.user_id)),
        ("app_id", octets(properties.app_id)),
        ("cluster_id", octets(properties.cluster_id)),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn text(text: &str) -> FieldValue {
    FieldValue::LongStr(text.as_bytes().to_vec())
}
