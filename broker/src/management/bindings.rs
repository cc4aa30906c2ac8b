//! `/api/bindings` and the bindings below queues and exchanges.
//!
//! A path names one binding by its `properties_key`: the routing key, `~` when that is empty, and
//! `key~hash` when the binding has arguments.

use super::Api;
use super::asked::Asked;
use super::caller::Caller;
use super::exchanges::exchange_name;
use super::listing::ListQuery;
use super::queues::NO_CONNECTION;
use super::reply::{Answer, Refusal, no_content, parse_body};
use crate::metadata::json::{from_table, to_table};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker_core::ids::VhostId;
use broker_core::meta::{
    BindingRequest, BindingSpec, Destination, DestinationName, MetaCommand, MetaSm, Queue, checks,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// `/api/bindings` and `/api/bindings/{vhost}`
pub(super) async fn list(asked: Asked) -> Answer {
    let entries = {
        let sm = asked.api.node.metadata.read();
        asked.vhosts(&sm)?.into_iter().flat_map(|id| in_vhost(&sm, id)).collect()
    };
    asked.query.answer(entries)
}

pub(super) async fn of_queue(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhost = caller.vhost(&sm, &vhost)?;
        let queue = sm.queue_named(vhost, &name).ok_or_else(Refusal::missing)?;
        let mut entries = vec![default_binding(&sm, queue)];
        entries
            .extend(sm.bindings_to(Destination::Queue(queue.id)).filter_map(|binding| entry(&sm, binding)));
        entries
    };
    query.answer(entries)
}

pub(super) async fn of_source(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhost = caller.vhost(&sm, &vhost)?;
        let name = exchange_name(&name);
        let exchange = sm.exchange_named(vhost, name).ok_or_else(Refusal::missing)?;
        if name.is_empty() {
            sm.queues_in(vhost).map(|queue| default_binding(&sm, queue)).collect()
        } else {
            sm.bindings_from(exchange.id).filter_map(|binding| entry(&sm, binding)).collect()
        }
    };
    query.answer(entries)
}

pub(super) async fn of_destination(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhost = caller.vhost(&sm, &vhost)?;
        let exchange = sm.exchange_named(vhost, exchange_name(&name)).ok_or_else(Refusal::missing)?;
        sm.bindings_to(Destination::Exchange(exchange.id)).filter_map(|binding| entry(&sm, binding)).collect()
    };
    query.answer(entries)
}

/// vhost, source, `q` or `e`, destination.
type Ends = (String, String, String, String);

pub(super) async fn between(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(ends): Path<Ends>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhost = caller.vhost(&sm, &ends.0)?;
        if exchange_name(&ends.1).is_empty() {
            let queue = sm.queue_named(vhost, &ends.3).ok_or_else(Refusal::missing)?;
            vec![default_binding(&sm, queue)]
        } else {
            found(&sm, vhost, &ends)?.filter_map(|binding| entry(&sm, binding)).collect()
        }
    };
    query.answer(entries)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, source, kind, to, key)): Path<(String, String, String, String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let shown = {
        let sm = api.node.metadata.read();
        let id = caller.vhost(&sm, &vhost)?;
        let ends = (vhost, source, kind, to);
        let binding =
            found(&sm, id, &ends)?.find(|binding| names(binding, &key)).ok_or_else(Refusal::missing)?;
        entry(&sm, binding).ok_or_else(Refusal::missing)?
    };
    query.answer_one(&shown)
}

pub(super) async fn bind(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(ends): Path<Ends>,
    body: Bytes,
) -> Answer {
    let body = parse_body(&body)?;
    let arguments = to_table(body.get("arguments").unwrap_or(&Value::Null))
        .map_err(|e| Refusal::bad_request(e.to_string()))?;
    let routing_key = body.get("routing_key").and_then(Value::as_str).unwrap_or_default();
    let request = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &ends.0)?;
        let mut access = caller.access(&api, vhost);
        let destination = destination_name(&ends)?;
        let source = exchange_name(&ends.1);
        checks::binding(
            &sm,
            &mut access,
            source,
            &destination,
            routing_key,
            Arc::new(arguments),
            NO_CONNECTION,
        )?
    };
    let location =
        format!("{}/{}", encode(&ends.3), properties_key(&request.routing_key, &request.arguments));
    api.node.metadata.propose(MetaCommand::Bind(request)).await?;
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(super) async fn unbind(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, source, kind, to, key)): Path<(String, String, String, String, String)>,
) -> Answer {
    let request: BindingRequest = {
        let sm = api.node.metadata.read();
        let id = caller.own_vhost(&sm, &vhost)?;
        let ends = (vhost, source, kind, to);
        let binding =
            found(&sm, id, &ends)?.find(|binding| names(binding, &key)).ok_or_else(Refusal::missing)?;
        let (routing_key, arguments) = (binding.routing_key.to_string(), Arc::clone(&binding.arguments));
        let destination = destination_name(&ends)?;
        let mut access = caller.access(&api, id);
        checks::binding(&sm, &mut access, &ends.1, &destination, &routing_key, arguments, NO_CONNECTION)?
    };
    api.node.metadata.propose(MetaCommand::Unbind(request)).await?;
    no_content()
}

/// Bindings between two ends.
fn found<'a>(
    sm: &'a MetaSm,
    vhost: VhostId,
    ends: &Ends,
) -> Result<impl Iterator<Item = &'a BindingSpec>, Refusal> {
    let source = sm.exchange_named(vhost, exchange_name(&ends.1)).ok_or_else(Refusal::missing)?.id;
    let to = match destination_name(ends)? {
        DestinationName::Queue(name) => {
            sm.queue_named(vhost, &name).map(|queue| Destination::Queue(queue.id))
        }
        DestinationName::Exchange(name) => {
            sm.exchange_named(vhost, &name).map(|x| Destination::Exchange(x.id))
        }
    };
    let to = to.ok_or_else(Refusal::missing)?;
    Ok(sm.bindings_to(to).filter(move |binding| binding.source == source))
}

fn destination_name(ends: &Ends) -> Result<DestinationName, Refusal> {
    match ends.2.as_str() {
        "q" => Ok(DestinationName::Queue(Arc::from(ends.3.as_str()))),
        "e" => Ok(DestinationName::Exchange(Arc::from(exchange_name(&ends.3)))),
        _ => Err(Refusal::missing()),
    }
}

fn in_vhost(sm: &MetaSm, vhost: VhostId) -> Vec<Value> {
    let mut entries: Vec<Value> = sm.queues_in(vhost).map(|queue| default_binding(sm, queue)).collect();
    let bindings = sm.exchanges_in(vhost).flat_map(|exchange| sm.bindings_from(exchange.id));
    entries.extend(bindings.filter_map(|binding| entry(sm, binding)));
    entries
}

fn entry(sm: &MetaSm, binding: &BindingSpec) -> Option<Value> {
    let source = sm.exchange(binding.source)?;
    let (destination, to_queue) = sm.destination_name(binding.destination)?;
    Some(json!({
        "source": &*source.name,
        "vhost": sm.vhost_name(binding.vhost),
        "destination": &**destination,
        "destination_type": if to_queue { "queue" } else { "exchange" },
        "routing_key": &*binding.routing_key,
        "arguments": from_table(&binding.arguments),
        "properties_key": properties_key(&binding.routing_key, &binding.arguments),
    }))
}

/// Every queue is bound to the default exchange by its name.
fn default_binding(sm: &MetaSm, queue: &Queue) -> Value {
    json!({
        "source": "",
        "vhost": sm.vhost_name(queue.vhost),
        "destination": &*queue.name,
        "destination_type": "queue",
        "routing_key": &*queue.name,
        "arguments": {},
        "properties_key": encode(&queue.name),
    })
}

/// Whether a path's last part names this binding. axum has decoded the part once already.
fn names(binding: &BindingSpec, key: &str) -> bool {
    let own = properties_key(&binding.routing_key, &binding.arguments);
    own == key || own == encode(key) || (binding.arguments.is_empty() && *binding.routing_key == *key)
}

pub(super) fn properties_key(routing_key: &str, arguments: &amqp::table::FieldTable) -> String {
    if arguments.is_empty() {
        return if routing_key.is_empty() { "~".to_owned() } else { encode(routing_key) };
    }
    let digest = Sha256::digest(arguments.to_bytes());
    format!("{}~{}", encode(routing_key), URL_SAFE_NO_PAD.encode(&digest[..6]))
}

/// Percent-encoding of everything but unreserved characters (RFC 3986 section 2.3).
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._".contains(&octet) {
            out.push(char::from(octet));
        } else {
            // Writing to a string can not fail.
            let _ = write!(out, "%{octet:02X}");
        }
    }
    out
}
