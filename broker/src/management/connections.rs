//! `/api/connections` and `/api/consumers`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, no_content};
use crate::connection::info::ConnectionInfo;
use crate::connection::outbox::Request;
use crate::metadata::json::from_table;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use broker_core::exception::Exception;
use broker_core::ids::VhostId;
use broker_core::meta::{MetaSm, Queue};
use serde_json::{Value, json};
use std::sync::Arc;

/// Octets of a reason for closing that are sent to the client.
const MAX_REASON: usize = 200;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let visible = api.node.connections.list().into_iter().filter(|info| shows(&caller, info));
    query.answer(visible.map(|info| entry(&api, &info)).collect())
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.vhost(&api.node.metadata.read(), &vhost)?;
    let visible = api.node.connections.list().into_iter().filter(|info| shows(&caller, info));
    let inside = visible.filter(|info| *info.details().vhost == *vhost);
    query.answer(inside.map(|info| entry(&api, &info)).collect())
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let info = find(&api, &caller, &name)?;
    query.answer_one(entry(&api, &info))
}

pub(super) async fn close(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let info = find(&api, &caller, &name)?;
    let given = headers.get("x-reason").and_then(|reason| reason.to_str().ok());
    let reason = given
        .filter(|reason| !reason.is_empty() && reason.len() <= MAX_REASON)
        .unwrap_or("Closed via management plugin");
    tracing::info!(connection = name, by = %caller.name, reason, "connection closed by request");
    let exception = Exception::connection(amqp::reply_code::CONNECTION_FORCED, reason);
    info.outbox.request(Request::Close(exception));
    no_content()
}

pub(super) async fn consumers(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhosts: Vec<VhostId> =
            sm.vhosts().map(|state| state.vhost.id).filter(|id| caller.sees(&sm, *id)).collect();
        vhosts
            .into_iter()
            .flat_map(|id| sm.queues_in(id))
            .flat_map(|queue| consumers_of(&api, &sm, queue))
            .collect()
    };
    query.answer(entries)
}

pub(super) async fn consumers_of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        let vhost = caller.vhost(&sm, &vhost)?;
        sm.queues_in(vhost).flat_map(|queue| consumers_of(&api, &sm, queue)).collect()
    };
    query.answer(entries)
}

/// The consumers of a queue.
pub(super) fn consumers_of(api: &Api, sm: &MetaSm, queue: &Queue) -> Vec<Value> {
    let single_active = queue.options.single_active_consumer;
    let found = api.node.with_queue(queue.id, |live| {
        let consumers = live.consumers().iter().map(|consumer| {
            let handle = &consumer.handle;
            (
                Arc::clone(&handle.outbox),
                handle.channel,
                Arc::clone(&consumer.tag),
                consumer.no_ack,
                consumer.prefetch,
                consumer.exclusive,
                live.consumers().is_active(consumer.reference()),
            )
        });
        consumers.collect::<Vec<_>>()
    });
    let connections = if found.as_ref().is_some_and(|found| !found.is_empty()) {
        api.node.connections.list()
    } else {
        Vec::new()
    };
    found
        .into_iter()
        .flatten()
        .map(|(outbox, channel, tag, no_ack, prefetch, exclusive, active)| {
            let owner = connections.iter().find(|info| Arc::ptr_eq(&info.outbox, &outbox));
            json!({
                "consumer_tag": &*tag,
                "queue": {"name": &*queue.name, "vhost": sm.vhost_name(queue.vhost)},
                "channel_details": owner.map_or(Value::Null, |info| channel_details(api, info, channel)),
                "ack_required": !no_ack,
                "prefetch_count": prefetch,
                "exclusive": exclusive,
                "active": active,
                "activity_status": match (active, single_active) {
                    (true, true) => "single_active",
                    (true, false) => "up",
                    (false, _) => "waiting",
                },
                "arguments": {},
                // rabbitmqadmin 2 insists on it.
                "consumer_timeout": 0,
            })
        })
        .collect()
}

fn channel_details(api: &Api, info: &ConnectionInfo, channel: u16) -> Value {
    let name = &*info.name;
    json!({
        "connection_name": name, "name": format!("{name} ({channel})"), "node": api.node.settings.node,
        "number": channel, "peer_host": info.peer.ip().to_string(), "peer_port": info.peer.port(),
        "user": &*info.user(),
    })
}

/// Monitors see all connections, others their own.
fn shows(caller: &Caller, info: &ConnectionInfo) -> bool {
    caller.is_monitor() || info.user() == caller.name
}

fn find(api: &Api, caller: &Caller, name: &str) -> Result<Arc<ConnectionInfo>, Refusal> {
    let found = api.node.connections.list().into_iter().find(|info| *info.name == *name);
    let info = found.ok_or_else(Refusal::missing)?;
    if shows(caller, &info) {
        Ok(info)
    } else {
        Err(Refusal::not_authorised("User not authorised to access connection"))
    }
}

fn entry(api: &Api, info: &ConnectionInfo) -> Value {
    let details = info.details();
    let tls = info.tls.as_ref();
    let certificate = tls.and_then(|tls| tls.peer.as_ref());
    let mut shown = json!({
        "name": &*info.name,
        "node": api.node.settings.node,
        "user": &*details.user,
        "user_who_performed_action": &*details.user,
        "vhost": &*details.vhost,
        "protocol": "AMQP 0-9-1",
        "type": "network",
        "auth_mechanism": details.mechanism,
        "peer_host": info.peer.ip().to_string(),
        "peer_port": info.peer.port(),
        "host": info.local.ip().to_string(),
        "port": info.local.port(),
        "ssl": info.tls.is_some(),
        "ssl_protocol": tls.map(|tls| tls.protocol),
        "ssl_key_exchange": tls.map(|tls| tls.key_exchange),
        "ssl_cipher": tls.map(|tls| tls.cipher),
        "ssl_hash": tls.map(|tls| tls.hash),
        "peer_cert_issuer": certificate.map(|certificate| &certificate.issuer),
        "peer_cert_subject": certificate.map(|certificate| &certificate.subject),
        "peer_cert_validity": certificate.map(|certificate| &certificate.validity),
        "state": if details.running { "running" } else { "starting" },
        "channel_max": details.channel_max,
        "frame_max": details.frame_max,
        "timeout": details.heartbeat,
        "connected_at": info.connected_at_ms,
        "client_properties": from_table(&details.client_properties),
        "recv_oct": info.counters.received_octets.get(),
    });
    if let Some(name) = &details.provided_name {
        shown["user_provided_name"] = Value::from(name.as_str());
    }
    shown
}
