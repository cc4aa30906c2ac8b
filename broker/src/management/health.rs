//! `/api/health/checks` and the aliveness test.

use super::Api;
use super::caller::Caller;
use super::reply::{Answer, Refusal, json};
use crate::shard::{Turn, TurnBuffers};
use crate::tls::certificate::Moment;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use broker_core::ids::NodeId;
use broker_core::message::{MessageView, Publish};
use broker_core::meta::checks::{self, Declared, QueueDeclare};
use broker_core::meta::options::QueueType;
use broker_core::meta::{Member, MetaReply, MetaSm, Permission, Queue};
use serde_json::{Value, json as object};
use std::sync::Arc;

/// The queue of the aliveness test, RabbitMQ's name.
pub(super) const ALIVENESS_QUEUE: &str = "aliveness-test";

/// Who answers is fine.
pub(super) async fn fine(_caller: Caller) -> Answer {
    json(&object!({"status": "ok"}))
}

/// The same for the node that is asked about, which has to be this one.
pub(super) async fn fine_node(
    _caller: Caller,
    State(api): State<Arc<Api>>,
    Path(node): Path<String>,
) -> Answer {
    if node == api.node.settings.node { json(&object!({"status": "ok"})) } else { Err(Refusal::missing()) }
}

/// Whether mirrored queues led here have nobody who could take over.
pub(super) async fn mirrors(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    let reason = "There are classic mirrored queues without online synchronised mirrors";
    critical(&api, reason, |sm, me, queue| {
        let placement = &queue.placement;
        queue.options.queue_type == QueueType::Classic
            && queue.options.mirroring.is_some()
            && placement.leader == Some(me)
            && !placement.isr.iter().any(|id| *id != me && serves(sm, *id))
    })
}

/// Whether quorum queues would lose their majority with this node.
pub(super) async fn quorums(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    let reason = "There are quorum queues that would lose their quorum if the target node is shut down";
    critical(&api, reason, |sm, me, queue| {
        let placement = &queue.placement;
        let others = placement.isr.iter().filter(|id| **id != me && serves(sm, **id)).count();
        queue.options.queue_type == QueueType::Quorum
            && placement.isr.contains(&me)
            && others < queue.options.min_in_sync(placement.replicas.len())
    })
}

fn serves(sm: &MetaSm, id: NodeId) -> bool {
    sm.member(id).is_some_and(Member::serves)
}

/// Fails when there are queues for which this node matters so much.
fn critical(api: &Api, reason: &str, matters: impl Fn(&MetaSm, NodeId, &Queue) -> bool) -> Answer {
    let Some(me) = api.peers.get().filter(|peers| !peers.is_alone()).map(|peers| peers.me()) else {
        return json(&object!({"status": "ok", "reason": "single node cluster"}));
    };
    let sm = api.node.metadata.read();
    let queues: Vec<Value> = sm
        .queues()
        .filter(|queue| queue.durable && matters(&sm, me, queue))
        .map(|queue| {
            object!({
                "name": &*queue.name, "virtual_host": sm.vhost_name(queue.vhost),
                "readable_name": sm.queue_title(queue.vhost, &queue.name), "type": queue.options.queue_type.name(),
            })
        })
        .collect();
    if queues.is_empty() {
        return json(&object!({"status": "ok"}));
    }
    Err(Refusal::unhealthy(object!({"status": "failed", "reason": reason, "queues": queues})))
}

/// Alarms anywhere in the cluster.
pub(super) async fn alarms(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    no_alarms(&api, "There are alarms in effect in the cluster")
}

/// Alarms at this node.
pub(super) async fn local_alarms(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    no_alarms(&api, "There are alarms in effect on the node")
}

fn no_alarms(api: &Api, reason: &str) -> Answer {
    let (memory, disk) = api.node.alarms.on();
    let on = [("memory", memory), ("disk", disk)].into_iter().filter(|(_, on)| *on);
    let alarms: Vec<_> =
        on.map(|(resource, _)| object!({"node": api.node.settings.node, "resource": resource})).collect();
    if alarms.is_empty() {
        return json(&object!({"status": "ok"}));
    }
    Err(Refusal::unhealthy(object!({"status": "failed", "reason": reason, "alarms": alarms})))
}

/// Whether certificates of listeners run out within a time.
pub(super) async fn certificates(
    _caller: Caller,
    State(api): State<Arc<Api>>,
    Path((within, unit)): Path<(String, String)>,
) -> Answer {
    const DAY: u64 = 86_400;
    let unit = match unit.to_lowercase().as_str() {
        "days" => DAY,
        "weeks" => 7 * DAY,
        "months" => 365 * DAY / 12,
        "years" => 365 * DAY,
        _ => {
            let text = "Time unit not recognised. Supported units: days, weeks, months, years.";
            return Err(Refusal::bad_request(text));
        }
    };
    let Ok(within) = within.parse::<u64>() else {
        return Err(Refusal::bad_request("Invalid expiration value."));
    };
    let end = (api.node.now_ms() / 1000).saturating_add(within.saturating_mul(unit));
    let before = |ends: Vec<Moment>| -> Vec<String> {
        ends.into_iter().filter(|at| at.unix_seconds() < end).map(Moment::listed).collect()
    };
    let expiring = api.listeners.iter().filter_map(|listening| {
        let tls = listening.tls.as_ref()?;
        let (cert, ca) = (before(tls.ends().cert), before(tls.ends().ca));
        let options = tls.options();
        (!cert.is_empty() || !ca.is_empty()).then(|| {
            object!({
                "node": api.node.settings.node, "protocol": listening.protocol,
                "interface": listening.address.ip().to_string(), "port": listening.address.port(),
                "certfile": options.cert.to_string_lossy(),
                "cacertfile": options.ca.as_ref().map(|path| path.to_string_lossy()),
                "certfile_expires_on": cert, "cacertfile_expires_on": ca,
            })
        })
    });
    let expiring: Vec<_> = expiring.collect();
    if expiring.is_empty() {
        return json(&object!({"status": "ok"}));
    }
    Err(Refusal::unhealthy(object!({
        "status": "failed", "reason": "Certificates expiring", "expired": expiring,
    })))
}

pub(super) async fn port(_caller: Caller, State(api): State<Arc<Api>>, Path(port): Path<u16>) -> Answer {
    let ports: Vec<u16> = api.listeners.iter().map(|listening| listening.address.port()).collect();
    if ports.contains(&port) {
        return json(&object!({"status": "ok", "port": port}));
    }
    Err(Refusal::unhealthy(object!({
        "status": "failed", "reason": "No active listener", "missing": port, "ports": ports,
    })))
}

pub(super) async fn protocol(
    _caller: Caller,
    State(api): State<Arc<Api>>,
    Path(protocol): Path<String>,
) -> Answer {
    let wanted = match protocol.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" => "amqp",
        "amqps" => "amqp/ssl",
        other => other,
    };
    let protocols: Vec<&str> = api.listeners.iter().map(|listening| listening.protocol).collect();
    if protocols.contains(&wanted) {
        return json(&object!({"status": "ok", "protocol": wanted}));
    }
    Err(Refusal::unhealthy(object!({
        "status": "failed", "reason": "No active listener", "missing": protocol, "protocols": protocols,
    })))
}

/// Declares a queue, publishes a message to it and fetches it again. That changes something, although it is asked for
/// by GET.
pub(super) async fn aliveness(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    headers: HeaderMap,
) -> Answer {
    super::front::refuse_foreign(&api, &headers)?;
    let declared = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &vhost)?;
        let mut access = caller.access(&api, vhost);
        access.check_exchange(&sm, Permission::Write, "")?;
        access.check_queue(&sm, Permission::Read, ALIVENESS_QUEUE)?;
        let request = QueueDeclare {
            name: ALIVENESS_QUEUE,
            server_named: false,
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: Arc::default(),
            connection: super::queues::NO_CONNECTION,
        };
        checks::queue_declare(&sm, &mut access, &request)?
    };
    let id = match declared {
        Declared::Exists(id) => id,
        Declared::Create(command) => match api.node.metadata.propose(command).await? {
            MetaReply::Queue { id, .. } => id,
            _ => return Err(Refusal::internal("the queue was not declared")),
        },
    };
    let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
    let view = MessageView {
        exchange: "",
        routing_key: ALIVENESS_QUEUE,
        properties: &[0, 0],
        body: b"test_message",
    };
    let mut publish = Publish::borrowed(view, false, None, 0);
    turn.queue(id, |queue, now, fx| queue.publish(now, &mut publish, fx));
    let got = turn.queue(id, |queue, now, fx| queue.get(now, true, fx)).flatten();
    turn.finish();
    match got {
        Some(_) => json(&object!({"status": "ok"})),
        None => {
            Err(Refusal::unhealthy(object!({"status": "failed", "reason": "the message did not arrive"})))
        }
    }
}
