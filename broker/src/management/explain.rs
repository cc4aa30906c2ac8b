//! `/api/explain`: which queues a message would reach, and through which bindings.

use super::Api;
use super::bindings::properties_key;
use super::caller::Caller;
use super::exchanges::exchange_name;
use super::reply::{Answer, Refusal, json, parse_body};
use crate::metadata::json::{from_table, to_table};
use amqp::BasicProperties;
use amqp::content::Properties;
use axum::body::Bytes;
use axum::extract::{Path, State};
use broker_core::exchange::ExchangeType;
use broker_core::meta::entities::ExchangeId;
use broker_core::meta::explain::Hop;
use broker_core::meta::{BindingSpec, MetaSm, RoutedMessage};
use serde_json::{Value, json as object};
use std::sync::Arc;

/// `POST /api/explain/{vhost}/{exchange}`
pub(super) async fn explain(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, exchange)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let key = request.get("routing_key").and_then(Value::as_str).unwrap_or_default();
    let headers = to_table(request.get("headers").unwrap_or(&Value::Null))
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let mut raw = Vec::new();
    BasicProperties { headers: Some(headers), ..BasicProperties::default() }.encode(&mut raw);
    let properties = Properties::parse(&raw).map_err(|_| Refusal::bad_request("headers are too large"))?;
    let headers = properties.headers();
    let sm = api.node.metadata.read();
    let id = caller.vhost(&sm, &vhost)?;
    let message = RoutedMessage { keys: &[key], headers: headers.as_ref(), properties: Some(&properties) };
    let found = sm.explain(id, exchange_name(&exchange), message).ok_or_else(Refusal::missing)?;
    let queues: Vec<Value> = found
        .queues
        .iter()
        .filter_map(|(id, path)| {
            let queue = sm.queue(*id)?;
            let path: Vec<Value> = path.iter().map(|hop| step(&sm, hop, key)).collect();
            Some(object!({"name": &*queue.name, "vhost": vhost, "path": path}))
        })
        .collect();
    let names =
        |ids: &[ExchangeId]| -> Vec<Value> { ids.iter().map(|id| Value::from(name(&sm, *id))).collect() };
    let alternate = sm.exchange_named(id, exchange_name(&exchange)).and_then(|it| it.alternate.as_deref());
    json(&object!({
        "routed": !queues.is_empty(),
        "queues": queues,
        "exchanges": names(&found.exchanges),
        "dead_ends": names(&found.dead_ends),
        "alternate": alternate,
    }))
}

fn name(sm: &MetaSm, id: ExchangeId) -> &str {
    sm.exchange(id).map_or("", |exchange| &exchange.name)
}

/// One step of a message's way.
fn step(sm: &MetaSm, hop: &Hop, key: &str) -> Value {
    match hop {
        Hop::Binding(binding) => {
            let (to, to_queue) = sm
                .destination_name(binding.destination)
                .map_or(("", false), |(name, queue)| (&**name, queue));
            object!({
                "source": name(sm, binding.source),
                "destination": to,
                "destination_type": if to_queue { "queue" } else { "exchange" },
                "routing_key": &*binding.routing_key,
                "arguments": from_table(&binding.arguments),
                "properties_key": properties_key(&binding.routing_key, &binding.arguments),
                "reason": reason(sm, binding, key),
            })
        }
        Hop::ByName(queue) => object!({
            "source": "", "destination": &**queue, "destination_type": "queue", "routing_key": &**queue,
            "arguments": {}, "properties_key": &**queue,
            "reason": "every queue is bound to the default exchange by its name",
        }),
        Hop::Alternate { from, to } => object!({
            "source": name(sm, *from), "destination": name(sm, *to), "destination_type": "exchange",
            "routing_key": key, "arguments": {}, "properties_key": Value::Null,
            "reason": "no binding matches, so the message goes to the alternate exchange",
        }),
        Hop::Delayed(at) => object!({
            "source": name(sm, *at), "destination": name(sm, *at), "destination_type": "exchange",
            "routing_key": key, "arguments": {}, "properties_key": Value::Null,
            "reason": "the message waits here until its x-delay is over",
        }),
    }
}

fn reason(sm: &MetaSm, binding: &BindingSpec, key: &str) -> String {
    let kind = sm.exchange(binding.source).map_or(ExchangeType::Direct, |exchange| exchange.kind);
    match kind {
        ExchangeType::Direct | ExchangeType::Delayed => {
            format!("routing key equals '{}'", binding.routing_key)
        }
        ExchangeType::Topic => format!("routing key '{key}' matches '{}'", binding.routing_key),
        ExchangeType::Fanout => "a fanout exchange sends to everything bound to it".to_owned(),
        ExchangeType::Headers => "the headers match the binding's arguments".to_owned(),
        ExchangeType::ConsistentHash => "chosen by hash among the bindings".to_owned(),
    }
}
