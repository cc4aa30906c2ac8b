//! Publishing and fetching single messages: `publish` of an exchange, `get` of a queue.

use super::Api;
use super::caller::Caller;
use super::exchanges::exchange_name;
use super::reply::{Answer, Refusal, json, parse_body, required};
use crate::forward::outgoing::{FarTarget, Waiter};
use crate::metadata::json::{from_table, to_table};
use crate::shard::{Turn, TurnBuffers};
use amqp::BasicProperties;
use amqp::content::Properties;
use axum::body::Bytes;
use axum::extract::{Path, State};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use broker_core::channel::confirm::Mark;
use broker_core::ids::QueueId;
use broker_core::message::{Message, MessageView, Publish};
use broker_core::meta::{Permission, RouteScratch, checks};
use broker_core::queue::{Got, Published, Settle};
use broker_store::Lsn;
use serde_json::{Map, Value, json as object};
use std::sync::Arc;

/// Messages that one request may fetch.
const MAX_GET: u64 = 10_000;
/// Octets of bodies that one request may fetch; it stops after the message that goes beyond.
const MAX_GET_BYTES: usize = 64 << 20;

pub(super) async fn publish(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost_name, exchange)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let exchange = exchange_name(&exchange);
    let routing_key = required(&request, "routing_key")?;
    if routing_key.len() > 255 {
        return Err(Refusal::bad_request("routing_key has at most 255 octets"));
    }
    let payload = payload(&request)?;
    if payload.len() as u64 > api.node.settings.max_message_size {
        return Err(Refusal::bad_request("the message is larger than the node accepts"));
    }
    let properties = properties(request.get("properties").unwrap_or(&Value::Null))?;
    let expiration = match properties.expiration.as_deref().map(std::str::from_utf8) {
        None => None,
        Some(Ok(text)) => Some(text.parse().map_err(|_| Refusal::bad_request("invalid expiration"))?),
        Some(Err(_)) => return Err(Refusal::bad_request("invalid expiration")),
    };
    may_claim(&caller, properties.user_id.as_deref())?;
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let mut queues = Vec::new();
    let counted = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &vhost_name)?;
        checks::publish(&sm, &mut caller.access(&api, vhost), exchange, routing_key)?;
        let headers = Properties::parse(&encoded).ok().and_then(|properties| properties.headers());
        sm.route(
            vhost,
            exchange,
            &[routing_key],
            headers.as_ref(),
            &mut queues,
            &mut RouteScratch::default(),
        );
        sm.exchange_named(vhost, exchange).ok_or_else(Refusal::missing)?.id
    };
    let view = MessageView { exchange, routing_key, properties: &encoded, body: &payload };
    let counters = &api.node.counters;
    counters.exchange(counted).count(queues.len() as u64);
    let Enqueued { routed, position, marks } = enqueue(&api, &queues, &view, &properties, expiration);
    counters.count_for(&vhost_name, |count| {
        count.publish.set(1);
        count.drop_unroutable.set(u64::from(!routed));
    });
    if position > 0 {
        // What is answered as routed is as safe as what is confirmed.
        let mut durable = api.node.durable();
        let reached = durable.wait_for(|durable| *durable >= position).await;
        reached.map_err(|_| Refusal::internal("the log failed"))?;
    }
    if !marks.is_empty() && !api.node.gates.passed(&marks).await {
        return Err(Refusal::internal("the queue's node has gone"));
    }
    json(&object!({"routed": routed}))
}

/// RabbitMQ: `user_id` is the publisher's own name, unless it has the tag `impersonator`.
fn may_claim(caller: &Caller, user_id: Option<&[u8]>) -> Result<(), Refusal> {
    let Some(claimed) = user_id else { return Ok(()) };
    if claimed == caller.name.as_bytes()
        || caller.local
        || caller.tags.iter().any(|tag| tag == "impersonator")
    {
        return Ok(());
    }
    let (claimed, user) = (String::from_utf8_lossy(claimed), &caller.name);
    let text = format!("user_id property set to '{claimed}' but authenticated user was '{user}'");
    Err(Refusal::bad_request(text))
}

/// What became of a message that was put into queues.
struct Enqueued {
    /// One took it.
    routed: bool,
    /// Up to where the log must be durable.
    position: Lsn,
    /// What must be passed beside it.
    marks: Vec<Mark>,
}

/// Puts a message into queues.
fn enqueue(
    api: &Api,
    queues: &[QueueId],
    view: &MessageView<'_>,
    properties: &BasicProperties,
    expiration: Option<u64>,
) -> Enqueued {
    let (persistent, priority) = (properties.delivery_mode == Some(2), properties.priority.unwrap_or(0));
    let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
    let mut routed = false;
    let mut publish = Publish::borrowed(*view, persistent, expiration, priority);
    for queue in queues {
        let outcome = turn.queue(*queue, |queue, now, fx| queue.publish(now, &mut publish, fx));
        routed |= match outcome {
            Some(published) => matches!(published, Published::Accepted { .. }),
            None => turn.far_target(*queue) == FarTarget::Noted,
        };
    }
    turn.forward(&publish, &Waiter::Nobody);
    turn.close();
    turn.send_forwarded();
    let (position, marks) = (turn.position(), turn.marks().to_vec());
    turn.finish();
    Enqueued { routed, position, marks }
}

/// What happens to fetched messages.
struct AckMode {
    no_ack: bool,
    settle: Settle,
}

pub(super) async fn get(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost_name, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let mode = match required(&request, "ackmode")? {
        "ack_requeue_false" => AckMode { no_ack: true, settle: Settle::Ack },
        "ack_requeue_true" | "reject_requeue_true" => AckMode { no_ack: false, settle: Settle::Requeue },
        "reject_requeue_false" => AckMode { no_ack: false, settle: Settle::Discard },
        other => return Err(Refusal::bad_request(format!("ackmode {other} is not known"))),
    };
    let count = match request.get("count") {
        None => return Err(Refusal::bad_request("[{key_missing,count}]")),
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_u64(),
    };
    let count = count.filter(|count| *count <= MAX_GET).ok_or_else(|| Refusal::bad_request("bad count"))?;
    required(&request, "encoding")?;
    let base64_only = wants_base64(&request["encoding"])?;
    let truncate =
        request.get("truncate").and_then(Value::as_u64).and_then(|octets| usize::try_from(octets).ok());
    let (id, _) = super::queues::find(&api, &caller, &vhost_name, &name, Permission::Read)?;
    let fetched = fetch(&api, id, count, &mode);
    api.node.counters.count_for(&vhost_name, |counts| {
        let got = fetched.len() as u64;
        if mode.no_ack { &counts.get_no_ack } else { &counts.get }.set(got);
        counts.redeliver.set(fetched.iter().filter(|got| got.redelivered).count() as u64);
        counts.get_empty.set(u64::from(got < count));
    });
    let shown = fetched.iter().map(|got| {
        let entry = message_entry(&got.message, got.redelivered, got.remaining, base64_only, truncate);
        Value::Object(entry)
    });
    json(&shown.collect())
}

fn fetch(api: &Api, id: QueueId, count: u64, mode: &AckMode) -> Vec<Got> {
    let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
    let mut fetched: Vec<Got> = Vec::new();
    let mut octets = 0;
    while (fetched.len() as u64) < count && octets <= MAX_GET_BYTES {
        let Some(got) = turn.queue(id, |queue, now, fx| queue.get(now, mode.no_ack, fx)).flatten() else {
            break;
        };
        octets += got.message.body_len();
        fetched.push(got);
    }
    if !mode.no_ack {
        let positions: Vec<u64> = fetched.iter().map(|got| got.qseq).collect();
        turn.source(id, |queue, now, fx| queue.settle(now, mode.settle, &positions, fx));
    }
    turn.finish();
    fetched
}

/// Whether bodies are shown as base64 even if they are text.
pub(super) fn wants_base64(encoding: &Value) -> Result<bool, Refusal> {
    match encoding.as_str() {
        Some("auto") => Ok(false),
        Some("base64") => Ok(true),
        _ => Err(Refusal::bad_request(format!("unsupported encoding: {encoding}"))),
    }
}

/// A message as RabbitMQ shows it; `behind` is how many are ready behind it.
pub(super) fn message_entry(
    message: &Message,
    redelivered: bool,
    behind: u64,
    base64_only: bool,
    truncate: Option<usize>,
) -> Map<String, Value> {
    let view = message.view();
    let shown = &view.body[..view.body.len().min(truncate.unwrap_or(usize::MAX))];
    let (payload, encoding) = match std::str::from_utf8(shown) {
        Ok(text) if !base64_only => (text.to_owned(), "string"),
        _ => (STANDARD.encode(shown), "base64"),
    };
    let properties = Properties::parse(view.properties).map(|properties| shown_properties(&properties));
    let properties = properties.unwrap_or_default();
    let entry = object!({
        "payload_bytes": view.body.len(),
        "redelivered": redelivered,
        "exchange": view.exchange,
        "routing_key": view.routing_key,
        "message_count": behind,
        // RabbitMQ writes an empty list for no properties.
        "properties": if properties.is_empty() { object!([]) } else { Value::Object(properties) },
        "payload": payload,
        "payload_encoding": encoding,
    });
    match entry {
        Value::Object(entry) => entry,
        _ => Map::new(),
    }
}

fn shown_properties(properties: &Properties<'_>) -> Map<String, Value> {
    let mut shown = Map::new();
    let texts = [
        ("content_type", properties.content_type()),
        ("content_encoding", properties.content_encoding()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("user_id", properties.user_id()),
        ("app_id", properties.app_id()),
        ("cluster_id", properties.cluster_id()),
    ];
    for (name, octets) in texts {
        if let Some(octets) = octets {
            shown.insert(name.to_owned(), Value::from(String::from_utf8_lossy(octets)));
        }
    }
    if let Some(headers) = properties.headers() {
        shown.insert("headers".to_owned(), Value::Object(from_table(&headers.to_owned())));
    }
    for (name, number) in [
        ("delivery_mode", properties.delivery_mode().map(u64::from)),
        ("priority", properties.priority().map(u64::from)),
        ("timestamp", properties.timestamp()),
    ] {
        if let Some(number) = number {
            shown.insert(name.to_owned(), Value::from(number));
        }
    }
    shown
}

fn payload(request: &Value) -> Result<Vec<u8>, Refusal> {
    let payload = required(request, "payload")?;
    match required(request, "payload_encoding")? {
        "string" => Ok(payload.as_bytes().to_vec()),
        "base64" => STANDARD.decode(payload).map_err(|_| Refusal::bad_request("payload is not base64")),
        other => Err(Refusal::bad_request(format!("unsupported payload_encoding: {other}"))),
    }
}

fn properties(json: &Value) -> Result<BasicProperties, Refusal> {
    let empty = Map::new();
    let fields = match json {
        Value::Object(fields) => fields,
        Value::Null => &empty,
        Value::Array(list) if list.is_empty() => &empty,
        _ => return Err(Refusal::bad_request("properties must be an object")),
    };
    let text = |key: &str| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.len() <= 255 => Ok(Some(text.as_bytes().to_vec())),
        Some(_) => Err(Refusal::bad_request(format!("property {key} must be a short text"))),
    };
    let number = |key: &str, most: u64| match fields.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| *number <= most) {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::bad_request(format!("property {key} must be a number up to {most}"))),
        },
    };
    let octet = |key: &str| Ok::<_, Refusal>(number(key, 255)?.and_then(|number| u8::try_from(number).ok()));
    let headers = match fields.get("headers") {
        None => None,
        Some(headers) => Some(to_table(headers).map_err(|error| Refusal::bad_request(error.to_string()))?),
    };
    Ok(BasicProperties {
        content_type: text("content_type")?,
        content_encoding: text("content_encoding")?,
        headers,
        delivery_mode: octet("delivery_mode")?,
        priority: octet("priority")?,
        correlation_id: text("correlation_id")?,
        reply_to: text("reply_to")?,
        expiration: text("expiration")?,
        message_id: text("message_id")?,
        timestamp: number("timestamp", u64::MAX)?,
        kind: text("type")?,
        user_id: text("user_id")?,
        app_id: text("app_id")?,
        cluster_id: text("cluster_id")?,
    })
}
