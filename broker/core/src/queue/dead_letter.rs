//! Dead letters: where messages go that expired, were refused, overflowed or failed too often.
//!
//! RabbitMQ's rules: `x-death` counts per queue and reason, newest first; `x-first-death-*` is set once;
//! a per-message expiration moves to `original-expiration`; `CC` goes when the routing key is replaced,
//! `BCC` always.

use crate::ids::QueueId;
use crate::message::{Message, MessageView};
use amqp::content::{BasicProperties, Properties};
use amqp::table::{FieldTable, FieldValue};
use std::collections::HashMap;
use std::sync::Arc;

/// `x-dead-letter-exchange` and `x-dead-letter-routing-key`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetterTarget {
    /// Exchange to publish to.
    pub exchange: Arc<str>,
    /// Routing key to use; the message's own keys when absent.
    pub routing_key: Option<Arc<str>>,
}

/// Why a message was dead lettered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// `basic.reject` or `basic.nack` without requeue.
    Rejected,
    /// Time to live.
    Expired,
    /// Length limit.
    MaxLength,
    /// `x-delivery-limit`.
    DeliveryLimit,
}

impl Reason {
    /// The word in `x-death`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::MaxLength => "maxlen",
            Reason::DeliveryLimit => "delivery_limit",
        }
    }
}

/// A message on its way out of a queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// Queue it leaves.
    pub queue: QueueId,
    /// Epoch of that queue.
    pub epoch: u32,
    /// Vhost of that queue.
    pub vhost: Arc<str>,
    /// Name of that queue.
    pub queue_name: Arc<str>,
    /// Where it goes.
    pub target: DeadLetterTarget,
    /// Why.
    pub reason: Reason,
    /// The message as it was in the queue.
    pub message: Arc<Message>,
    /// Its position there when the log knows it: the log must hear that it left, together with its arrival
    /// in the target queue.
    pub logged_qseq: Option<u64>,
    /// Its position when a segment holds it: [`super::Queue::letter_gone`] has to hear that it left.
    pub stored_qseq: Option<u64>,
}

/// A dead letter ready to be published.
#[derive(Debug)]
pub struct Rewritten {
    /// The message with its new headers, exchange and routing key.
    pub message: Arc<Message>,
    /// Routing keys to route by: the new one, or the original key and its `CC` keys.
    pub routing_keys: Vec<String>,
    /// The `priority` property.
    pub priority: u8,
    deaths: Vec<Death>,
}

#[derive(Debug)]
struct Death {
    queue: String,
    reason: String,
}

impl Rewritten {
    /// Whether delivering to `queue` would close a cycle that nobody but the broker drives. RabbitMQ drops
    /// such messages: the queue is in the history and nothing since then was a client's rejection.
    pub fn is_cycle(&self, queue: &str) -> bool {
        let Some(last) = self.deaths.iter().position(|death| death.queue == queue) else { return false };
        self.deaths[..=last].iter().all(|death| death.reason != "rejected")
    }
}

impl DeadLetter {
    /// Builds the message to publish. `now_s` is seconds since the epoch, for the time of death.
    pub fn rewrite(&self, now_s: u64) -> Rewritten {
        let view = self.message.view();
        let mut properties =
            Properties::parse(view.properties).map(BasicProperties::from).unwrap_or_default();
        let mut headers = properties.headers.take().unwrap_or_default();
        let mut routing_keys = vec![view.routing_key.to_owned()];
        routing_keys.extend(string_list(headers.get("CC")));
        self.record_death(&mut headers, &view, &routing_keys, properties.expiration.take(), now_s);
        headers.remove("BCC");
        if let Some(key) = &self.target.routing_key {
            headers.remove("CC");
            routing_keys = vec![key.to_string()];
        }
        let deaths = deaths(&headers);
        properties.headers = Some(headers);
        let mut raw = Vec::with_capacity(view.properties.len() + 256);
        properties.encode(&mut raw);
        let view = MessageView {
            exchange: short(&self.target.exchange),
            routing_key: short(&routing_keys[0]),
            properties: &raw,
            body: view.body,
        };
        let message = Arc::new(Message::copy_from(&view, self.message.persistent));
        Rewritten { message, routing_keys, priority: properties.priority.unwrap_or(0), deaths }
    }

    fn record_death(
        &self,
        headers: &mut FieldTable,
        view: &MessageView<'_>,
        routing_keys: &[String],
        expiration: Option<Vec<u8>>,
        now_s: u64,
    ) {
        let reason = self.reason.as_str();
        let known = headers.remove("x-death");
        let first = known.is_none();
        let mut history = match known {
            Some(FieldValue::Array(items)) => merged(items),
            _ => Vec::new(),
        };
        let same = history.iter().position(|item| {
            matches!(item, FieldValue::Table(table)
                if text(table.get("queue")) == Some(&*self.queue_name) && text(table.get("reason")) == Some(reason))
        });
        let death = match same.map(|at| history.remove(at)) {
            Some(FieldValue::Table(mut table)) => {
                let count = table.get("count").and_then(FieldValue::as_i64).unwrap_or(0);
                table.insert("count", FieldValue::Long(count.saturating_add(1)));
                table
            }
            _ => {
                let mut table = FieldTable::default();
                table.insert("count", FieldValue::Long(1));
                table.insert("reason", long(reason));
                table.insert("queue", long(&self.queue_name));
                table.insert("time", FieldValue::Timestamp(now_s));
                table.insert("exchange", long(view.exchange));
                let keys = routing_keys.iter().map(|key| long(key)).collect();
                table.insert("routing-keys", FieldValue::Array(keys));
                if let Some(expiration) = expiration {
                    table.insert("original-expiration", FieldValue::LongStr(expiration));
                }
                table
            }
        };
        history.insert(0, FieldValue::Table(death));
        headers.insert("x-death", FieldValue::Array(history));
        // RabbitMQ: a history that the publisher brought along is taken for one that has begun elsewhere.
        if first {
            headers.insert("x-first-death-exchange", long(view.exchange));
            headers.insert("x-first-death-queue", long(&self.queue_name));
            headers.insert("x-first-death-reason", long(reason));
        }
    }
}

/// A history with one entry per queue and reason. Entries of RabbitMQ before 3.5.2, and of clients that imitate
/// it, have no count and are repeated instead; the newest stays and counts for all.
fn merged(history: Vec<FieldValue>) -> Vec<FieldValue> {
    if history.len() < 2 {
        return history;
    }
    let bytes = |value: Option<&FieldValue>| match value {
        Some(FieldValue::LongStr(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    let mut places: HashMap<[Option<Vec<u8>>; 2], usize> = HashMap::new();
    let mut out: Vec<(FieldValue, i64)> = Vec::new();
    for item in history {
        let FieldValue::Table(table) = &item else {
            out.push((item, 0));
            continue;
        };
        let key = [bytes(table.get("queue")), bytes(table.get("reason"))];
        match places.get(&key) {
            Some(&at) => out[at].1 += 1,
            None => {
                places.insert(key, out.len());
                out.push((item, 1));
            }
        }
    }
    let counted = |(item, seen)| match item {
        FieldValue::Table(mut table) if table.get("count").is_none() => {
            table.insert("count", FieldValue::Long(seen));
            FieldValue::Table(table)
        }
        item => item,
    };
    out.into_iter().map(counted).collect()
}

/// As much of a text as a short string holds (AMQP 0-9-1 section 4.2.5.3): queue arguments and policies are long
/// strings, but exchange and routing key of a message are short ones.
pub fn short(text: &str) -> &str {
    let mut end = text.len().min(usize::from(u8::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn long(text: &str) -> FieldValue {
    FieldValue::LongStr(text.as_bytes().to_vec())
}

fn text(value: Option<&FieldValue>) -> Option<&str> {
    value.and_then(FieldValue::as_str)
}

/// The strings of a `CC` or `BCC` header.
pub fn string_list(value: Option<&FieldValue>) -> Vec<String> {
    match value {
        Some(FieldValue::Array(items)) => {
            items.iter().filter_map(FieldValue::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn deaths(headers: &FieldTable) -> Vec<Death> {
    let Some(FieldValue::Array(items)) = headers.get("x-death") else { return Vec::new() };
    let tables = items.iter().filter_map(|item| match item {
        FieldValue::Table(table) => Some(table),
        _ => None,
    });
    let death = |table: &FieldTable| {
        Some(Death {
            queue: text(table.get("queue"))?.to_owned(),
            reason: text(table.get("reason"))?.to_owned(),
        })
    };
    tables.filter_map(death).collect()
}
