//! `/api/queues`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::rates::{Snapshot, snapshot};
use super::reply::{Answer, Refusal, flag, no_content, parse_body, put_status, required};
use crate::metadata::json::{from_table, to_table};
use crate::shard::{Turn, TurnBuffers};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::ids::{ConnectionId, QueueId, VhostId};
use broker_core::meta::checks::{self, Declared, QueueDeclare};
use broker_core::meta::policy::PolicyBook;
use broker_core::meta::{Destination, MetaCommand, MetaReply, MetaSm, Permission, Queue};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// The API acts for nobody's connection, so it may not touch exclusive queues.
pub(super) const NO_CONNECTION: ConnectionId = ConnectionId(0);

/// What a queue's shard says about it.
#[derive(Debug, Clone)]
struct Live {
    snapshot: Snapshot,
    consumers: usize,
    capacity: f64,
    /// Tag of the single active consumer, or of the exclusive one.
    single_active: Option<Arc<str>>,
    exclusive: Option<Arc<str>>,
    ready_bytes: u64,
    unacked_bytes: u64,
}

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = api.node.metadata.with_policies(|sm, book| {
        let live = live_counters(&api);
        let vhosts: Vec<VhostId> =
            sm.vhosts().map(|state| state.vhost.id).filter(|id| caller.sees(sm, *id)).collect();
        let queues = vhosts.into_iter().flat_map(|id| sm.queues_in(id));
        queues.map(|queue| entry(&api, sm, book, queue, live.get(&queue.id))).collect()
    });
    query.answer(entries)
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = api.node.metadata.with_policies(|sm, book| {
        let vhost = caller.vhost(sm, &vhost)?;
        let live = live_counters(&api);
        let all = sm.queues_in(vhost).map(|queue| entry(&api, sm, book, queue, live.get(&queue.id)));
        Ok::<Vec<Value>, Refusal>(all.collect())
    })?;
    query.answer(entries)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let shown = api.node.metadata.with_policies(|sm, book| {
        let vhost = caller.vhost(sm, &vhost)?;
        let queue = sm.queue_named(vhost, &name).ok_or_else(Refusal::missing)?;
        let live = api.node.with_queue(queue.id, live);
        let mut shown = entry(&api, sm, book, queue, live.as_ref());
        shown["consumer_details"] = Value::Array(super::connections::consumers_of(&api, sm, queue));
        shown["incoming"] = json!([]);
        shown["deliveries"] = json!([]);
        Ok::<Value, Refusal>(shown)
    })?;
    query.answer_one(shown)
}

pub(super) async fn declare(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let body = parse_body(&body)?;
    let arguments = to_table(body.get("arguments").unwrap_or(&Value::Null))
        .map_err(|e| Refusal::bad_request(e.to_string()))?;
    let command = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &vhost)?;
        let request = QueueDeclare {
            name: &name,
            server_named: false,
            durable: flag(&body, "durable", true)?,
            exclusive: false,
            auto_delete: flag(&body, "auto_delete", false)?,
            arguments: Arc::new(arguments),
            connection: NO_CONNECTION,
        };
        match checks::queue_declare(&sm, &mut caller.access(&api, vhost), &request)? {
            Declared::Exists(_) => return put_status(false),
            Declared::Create(command) => command,
        }
    };
    match api.node.metadata.propose(command).await? {
        MetaReply::Queue { created, .. } => put_status(created),
        _ => put_status(false),
    }
}

/// `if-unused` and `if-empty`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct DeleteQuery {
    #[serde(rename = "if-unused")]
    pub(super) if_unused: Option<String>,
    #[serde(rename = "if-empty")]
    if_empty: Option<String>,
}

pub(super) async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Answer {
    let (id, title) = find(&api, &caller, &vhost, &name, Permission::Configure)?;
    let state = api.node.with_queue(id, live);
    let wanted = |flag: &Option<String>| flag.as_deref() == Some("true");
    if wanted(&query.if_unused) && state.as_ref().is_some_and(|live| live.consumers > 0) {
        return Err(Refusal::bad_request(format!("{title} in use")));
    }
    if wanted(&query.if_empty) && state.is_some_and(|live| live.snapshot.ready > 0) {
        return Err(Refusal::bad_request(format!("{title} not empty")));
    }
    api.node.metadata.propose(MetaCommand::DeleteQueues { ids: vec![id] }).await?;
    no_content()
}

pub(super) async fn purge(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    let (id, _) = find(&api, &caller, &vhost, &name, Permission::Read)?;
    let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
    let purged = turn.queue(id, |queue, _, fx| queue.purge(fx));
    turn.finish();
    if purged.is_some() { no_content() } else { Err(Refusal::missing()) }
}

/// `sync` and `cancel_sync` of mirrors: a queue with one copy is always synchronised.
pub(super) async fn act(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let body = parse_body(&body)?;
    find(&api, &caller, &vhost, &name, Permission::Configure)?;
    match required(&body, "action")? {
        "sync" | "cancel_sync" => no_content(),
        other => Err(Refusal::bad_request(format!("unknown action {other}"))),
    }
}

/// A queue the caller may do something with, and its title.
fn find(
    api: &Api,
    caller: &Caller,
    vhost: &str,
    name: &str,
    permission: Permission,
) -> Result<(QueueId, String), Refusal> {
    let sm = api.node.metadata.read();
    let vhost = caller.own_vhost(&sm, vhost)?;
    if sm.queue_named(vhost, name).is_none() {
        return Err(Refusal::missing());
    }
    let queue = checks::queue_for(&sm, &mut caller.access(api, vhost), permission, name, NO_CONNECTION)?;
    Ok((queue.id, sm.queue_title(vhost, name)))
}

fn live(queue: &crate::shard::LocalQueue) -> Live {
    let consumers = queue.consumers();
    let single_active = consumers.iter().find(|it| consumers.is_active(it.reference()));
    let exclusive = consumers.iter().find(|consumer| consumer.exclusive);
    Live {
        snapshot: snapshot(queue),
        consumers: consumers.len(),
        capacity: consumers.capacity(),
        single_active: single_active
            .filter(|_| consumers.is_single_active())
            .map(|consumer| Arc::clone(&consumer.tag)),
        exclusive: exclusive.map(|consumer| Arc::clone(&consumer.tag)),
        ready_bytes: queue.ready_bytes(),
        unacked_bytes: queue.unacked_bytes(),
    }
}

/// The counters of all queues, with each shard locked once.
fn live_counters(api: &Api) -> HashMap<QueueId, Live> {
    let mut all = HashMap::new();
    for shard in 0..api.node.shard_count() {
        all.extend(api.node.lock_shard(shard).queues().map(|queue| (queue.id(), live(queue))));
    }
    all
}

/// Totals over the queues of some vhosts: `queue_totals` and `message_stats`.
pub(super) fn totals(api: &Api, sm: &MetaSm, vhosts: &[VhostId]) -> (Map<String, Value>, Map<String, Value>) {
    let live = live_counters(api);
    let queues: Vec<(QueueId, Snapshot)> = vhosts
        .iter()
        .flat_map(|id| sm.queues_in(*id))
        .filter_map(|queue| Some((queue.id, live.get(&queue.id)?.snapshot)))
        .collect();
    api.rates.json(&queues)
}

fn entry(api: &Api, sm: &MetaSm, book: &PolicyBook, queue: &Queue, live: Option<&Live>) -> Value {
    let name_or_null = |name: &Option<Arc<str>>| name.as_deref().map_or(Value::Null, Value::from);
    let mut shown = json!({
        "name": &*queue.name,
        "vhost": sm.vhost_name(queue.vhost),
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner.is_some(),
        "arguments": from_table(&queue.arguments),
        "node": api.node.settings.node,
        "type": queue.options.queue_type.name(),
        "state": if live.is_some() { "running" } else { "down" },
        "policy": name_or_null(&queue.policies.policy),
        "operator_policy": name_or_null(&queue.policies.operator),
        "effective_policy_definition": book.effective_definition(sm, Destination::Queue(queue.id)),
        "exclusive_consumer_tag": Value::Null,
        "single_active_consumer_tag": Value::Null,
        "consumer_capacity": 0,
        "consumer_utilisation": 0,
        "head_message_timestamp": Value::Null,
        "recoverable_slaves": Value::Null,
    });
    if let (Some(owner), Value::Object(fields)) = (queue.owner, &mut shown)
        && let Some(info) = api.node.connections.get(owner)
    {
        let details = json!({"name": &*info.name, "peer_host": info.peer.ip().to_string(), "peer_port": info.peer.port()});
        fields.insert("owner_pid_details".to_owned(), details);
    }
    let Some(live) = live else { return shown };
    let (stats, lengths) = api.rates.json(&[(queue.id, live.snapshot)]);
    if let Value::Object(fields) = &mut shown {
        fields.insert("consumers".to_owned(), json!(live.consumers));
        fields.insert("consumer_capacity".to_owned(), json!(live.capacity));
        fields.insert("consumer_utilisation".to_owned(), json!(live.capacity));
        fields.insert("single_active_consumer_tag".to_owned(), json!(live.single_active.as_deref()));
        fields.insert("exclusive_consumer_tag".to_owned(), json!(live.exclusive.as_deref()));
        fields.insert("message_bytes".to_owned(), json!(live.ready_bytes + live.unacked_bytes));
        fields.insert("message_bytes_ready".to_owned(), json!(live.ready_bytes));
        fields.insert("message_bytes_unacknowledged".to_owned(), json!(live.unacked_bytes));
        fields.insert("message_bytes_ram".to_owned(), json!(live.ready_bytes + live.unacked_bytes));
        fields.insert("messages_ram".to_owned(), json!(live.snapshot.ready + live.snapshot.unacked));
        fields.insert("message_stats".to_owned(), Value::Object(stats));
        fields.extend(lengths);
    }
    shown
}
