//! `/api/overview`, `/api/nodes` and what else describes the node as a whole.

use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, json, no_content, parse_body, required};
use super::{Api, Listening};
use crate::auth::Mechanism;
use crate::tls::{TlsServer, Verify, version_name};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::exchange::ExchangeType;
use broker_core::ids::VhostId;
use broker_core::meta::MetaCommand;
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn overview(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let settings = &api.node.settings;
    let (totals, objects) = {
        let sm = api.node.metadata.read();
        let vhosts: Vec<VhostId> =
            sm.vhosts().map(|state| state.vhost.id).filter(|id| caller.sees(&sm, *id)).collect();
        let consumers: usize = (0..api.node.shard_count())
            .map(|shard| {
                api.node.lock_shard(shard).queues().map(|queue| queue.consumers().len()).sum::<usize>()
            })
            .sum();
        let objects = object!({
            "queues": vhosts.iter().map(|id| sm.queues_in(*id).count()).sum::<usize>(),
            "exchanges": vhosts.iter().map(|id| sm.exchanges_in(*id).count()).sum::<usize>(),
            "connections": api.node.connections.len(),
            "consumers": consumers,
        });
        (super::queues::totals(&api, &sm, &vhosts), objects)
    };
    let mut shown = object!({
        "management_version": settings.version,
        "rabbitmq_version": settings.version,
        "product_name": settings.product,
        "product_version": settings.version,
        "cluster_name": api.node.cluster_name(),
        "node": settings.node,
        "rates_mode": "basic",
        "sample_retention_policies": {"global": [600], "basic": [600], "detailed": [600]},
        "exchange_types": exchange_types(),
        "message_stats": totals.0,
        "queue_totals": totals.1,
        "object_totals": objects,
        "disable_stats": false,
        "enable_queue_totals": false,
        // What the fields describe in RabbitMQ does not exist here; clients only print them.
        "erlang_version": "",
        "erlang_full_version": "",
        "release_series_support_status": "supported",
    });
    if caller.is_monitor() {
        shown["listeners"] = listeners(&api);
        shown["contexts"] = contexts(&api);
    }
    query.answer_one(shown)
}

pub(super) async fn nodes(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.monitor()?;
    query.answer(vec![node_entry(&api)])
}

pub(super) async fn node(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.monitor()?;
    if name != api.node.settings.node {
        return Err(Refusal::missing());
    }
    query.answer_one(node_entry(&api))
}

pub(super) async fn cluster_name(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    json(&object!({"name": api.node.cluster_name()}))
}

pub(super) async fn set_cluster_name(caller: Caller, State(api): State<Arc<Api>>, body: Bytes) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let value = Value::from(required(&body, "name")?).to_string();
    let command = MetaCommand::SetGlobalParameter { name: Arc::from("cluster_name"), value };
    api.node.metadata.propose(command).await?;
    no_content()
}

/// Spreads the leaders of queues over the nodes; with one node they are.
pub(super) async fn rebalance(caller: Caller) -> Answer {
    caller.administrator()?;
    no_content()
}

/// How a web page may log in: not by OAuth.
pub(super) async fn auth() -> Answer {
    json(&object!({"enable_uaa": false, "oauth_enabled": false, "uaa_client_id": "", "uaa_location": ""}))
}

/// What RabbitMQ's own pages load after the login: without it they stay empty.
pub(super) async fn extensions(_caller: Caller) -> Answer {
    json(&object!([{"javascript": "dispatcher.js"}]))
}

fn node_entry(api: &Api) -> Value {
    let blocked = api.node.blocked().borrow().clone();
    let alarm = |word: &str| blocked.as_deref().is_some_and(|reason| reason.contains(word));
    let uptime = u64::try_from(api.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    object!({
        "name": api.node.settings.node,
        "type": "disc",
        "running": true,
        "being_drained": false,
        "partitions": [],
        "os_pid": std::process::id().to_string(),
        "uptime": uptime,
        "processors": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "rates_mode": "basic",
        "mem_alarm": alarm("memory"),
        "disk_free_alarm": alarm("disk"),
        "exchange_types": exchange_types(),
        "auth_mechanisms": auth_mechanisms(api),
        "applications": [],
        "contexts": contexts(api),
        "enabled_plugins": ["rabbitmq_management"],
        "log_files": [],
        "config_files": [],
        "cluster_links": [],
    })
}

fn exchange_types() -> Value {
    let types = [
        ExchangeType::Direct,
        ExchangeType::Fanout,
        ExchangeType::Headers,
        ExchangeType::Topic,
        ExchangeType::ConsistentHash,
        ExchangeType::Delayed,
    ];
    types
        .map(|kind| {
            let name = kind.name();
            object!({"name": name, "description": format!("AMQP {name} exchange"), "enabled": true})
        })
        .into_iter()
        .collect()
}

fn listeners(api: &Api) -> Value {
    let one = |listening: &Listening| {
        let Listening { protocol, address, tls } = listening;
        object!({
            "node": api.node.settings.node, "protocol": protocol, "ip_address": address.ip().to_string(),
            "port": address.port(), "socket_opts": tls.as_ref().map_or(object!({}), |tls| ssl_options(tls)),
        })
    };
    api.listeners.iter().map(one).collect()
}

/// What a TLS listener was told.
fn ssl_options(tls: &TlsServer) -> Value {
    let options = tls.options();
    let mut shown = object!({
        "versions": options.versions.iter().map(|version| version_name(version)).collect::<Vec<_>>(),
        "certfile": options.cert.to_string_lossy(),
        "keyfile": options.key.to_string_lossy(),
        "verify": if options.verify == Verify::None { "verify_none" } else { "verify_peer" },
        "fail_if_no_peer_cert": options.verify == Verify::PeerRequired,
    });
    if let Some(ca) = &options.ca {
        shown["cacertfile"] = Value::from(ca.to_string_lossy());
    }
    shown
}

fn contexts(api: &Api) -> Value {
    let http = api.listeners.iter().filter(|listening| listening.protocol.starts_with("http"));
    http.map(|Listening { address, tls, .. }| {
        object!({
            "node": api.node.settings.node, "description": "RabbitMQ Management", "path": "/",
            "ip": address.ip().to_string(), "port": address.port().to_string(),
            "ssl_opts": tls.as_ref().map_or(object!([]), |tls| ssl_options(tls)),
        })
    })
    .collect()
}

fn auth_mechanisms(api: &Api) -> Value {
    let one = |mechanism: Mechanism| {
        let description = match mechanism {
            Mechanism::External => "SASL EXTERNAL authentication by TLS client certificate",
            Mechanism::Plain => "SASL PLAIN authentication mechanism",
            Mechanism::AmqPlain => "AMQPLAIN mechanism",
        };
        let enabled = api.node.settings.auth_mechanisms.contains(&mechanism);
        object!({"name": mechanism.name(), "description": description, "enabled": enabled})
    };
    Mechanism::ALL.into_iter().map(one).collect()
}
