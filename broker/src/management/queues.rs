//! `/api/queues`.

use super::Api;
use super::asked::{Asked, View};
use super::caller::Caller;
use super::erlang;
use super::fields::Fields;
use super::listing::Entry;
use super::peers::Share;
use super::rates::{Past, QUEUE_COUNTERS, QUEUE_NUMBERS, Snapshot};
use super::reply::{Answer, Refusal, flag, no_content, parse_body, put_status, required};
use crate::metadata::json::{from_table, to_table};
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use amqp::content::Properties;
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::ids::{ConnectionId, QueueId};
use broker_core::message::Message;
use broker_core::meta::checks::{self, Declared, QueueDeclare};
use broker_core::meta::options::QueueType;
use broker_core::meta::{Destination, MetaCommand, MetaReply, Permission, Queue};
use broker_core::queue::Amount;
use serde::Deserialize;
use serde_json::{Value, json};
use std::cell::LazyCell;
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
    persistent: Amount,
    paged_out: Amount,
    memory: u64,
    ever: u64,
    /// When the message at the head was made, seconds since the epoch, as its publisher says.
    head_timestamp: Option<u64>,
    paused: bool,
    /// How many ready messages there are of each priority in use, in a queue with priorities.
    priorities: Vec<(u8, u64)>,
}

/// `/api/queues` and `/api/queues/{vhost}`
pub(super) async fn list(asked: Asked, share: Option<Extension<Share>>) -> Answer {
    let shown = |queue: &&Queue| share.as_ref().is_none_or(|Extension(share)| share.shows(queue));
    asked.look(|view| {
        let vhosts = asked.vhosts(view.sm)?;
        let queues = vhosts.iter().flat_map(|id| view.sm.queues_in(*id)).filter(shown);
        asked.query.answer(queues.map(|queue| QueueEntry { view, queue, whole: false }).collect())
    })
}

pub(super) async fn one(asked: Asked) -> Answer {
    asked.look(|view| {
        let vhost = asked.vhost(view.sm)?;
        let queue = view.sm.queue_named(vhost, asked.part("name")).ok_or_else(Refusal::missing)?;
        asked.query.answer_one(&QueueEntry { view, queue, whole: true })
    })
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
    api.node.counters.churn.queues_declared.add(1);
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
    let (id, title) = find_anywhere(&api, &caller, &vhost, &name, Permission::Configure)?;
    let state = api.node.with_queue(id, live);
    let wanted = |flag: &Option<String>| flag.as_deref() == Some("true");
    if state.is_none() && (wanted(&query.if_unused) || wanted(&query.if_empty)) {
        return Err(Refusal::unavailable(format!("nobody can say now whether {title} is empty or unused")));
    }
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

/// `sync` and `cancel_sync` of mirrors.
pub(super) async fn act(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let body = parse_body(&body)?;
    let (id, _) = find(&api, &caller, &vhost, &name, Permission::Configure)?;
    let on = match required(&body, "action")? {
        "sync" => true,
        "cancel_sync" => false,
        other => return Err(Refusal::bad_request(format!("unknown action {other}"))),
    };
    api.node.sync_queue(id, on).map_err(Refusal::bad_request)?;
    no_content()
}

/// A queue that runs here and that the caller may do something with, and its title.
pub(super) fn find(
    api: &Api,
    caller: &Caller,
    vhost: &str,
    name: &str,
    permission: Permission,
) -> Result<(QueueId, String), Refusal> {
    let (id, title) = find_anywhere(api, caller, vhost, name, permission)?;
    let sm = api.node.metadata.read();
    let queue = sm.queue(id).ok_or_else(Refusal::missing)?;
    if api.node.runs(queue) { Ok((id, title)) } else { Err(sm.home_is_down(queue).into()) }
}

/// The same wherever it runs, if it does.
fn find_anywhere(
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

fn live(queue: &LocalQueue) -> Live {
    let consumers = queue.consumers();
    let single_active = consumers.iter().find(|it| consumers.is_active(it.reference()));
    let exclusive = consumers.iter().find(|consumer| consumer.exclusive);
    let timestamp = |message: &Arc<Message>| Properties::parse(message.view().properties).ok()?.timestamp();
    Live {
        snapshot: Snapshot::of(queue),
        consumers: consumers.len(),
        capacity: consumers.capacity(),
        single_active: single_active
            .filter(|_| consumers.is_single_active())
            .map(|consumer| Arc::clone(&consumer.tag)),
        exclusive: exclusive.map(|consumer| Arc::clone(&consumer.tag)),
        ready_bytes: queue.ready_bytes(),
        unacked_bytes: queue.unacked_bytes(),
        persistent: queue.persistent(),
        paged_out: queue.stored_only(),
        memory: queue.resident_bytes(),
        ever: queue.ever(),
        head_timestamp: queue.head().and_then(timestamp),
        paused: queue.is_paused(),
        priorities: queue.ready_by_priority(),
    }
}

/// A queue in a list, or with `whole` by itself.
struct QueueEntry<'a> {
    view: View<'a>,
    queue: &'a Queue,
    whole: bool,
}

impl Entry for QueueEntry<'_> {
    fn name(&self) -> &str {
        &self.queue.name
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let queue = self.queue;
        let api = self.view.api;
        let live = api.runs(&queue.placement).then(|| api.node.with_queue(queue.id, live)).flatten();
        fields.field("name", &*queue.name);
        fields.field("vhost", self.view.sm.vhost_name(queue.vhost));
        fields.field("durable", &queue.durable);
        fields.field("auto_delete", &queue.auto_delete);
        fields.field("exclusive", &queue.owner.is_some());
        if fields.wants("arguments") {
            fields.field("arguments", &from_table(&queue.arguments));
        }
        let own = &api.node.settings.node;
        fields.field("node", super::mirrors::home(self.view.sm, queue, own));
        fields.field("type", queue.options.queue_type.name());
        fields.field("state", if live.is_some() { "running" } else { "down" });
        fields.field("policy", &queue.policies.policy.as_deref());
        fields.field("operator_policy", &queue.policies.operator.as_deref());
        if fields.wants("effective_policy_definition") {
            let definition = self.view.book.effective_definition(self.view.sm, Destination::Queue(queue.id));
            fields.field("effective_policy_definition", &definition);
        }
        super::mirrors::write(fields, self.view.sm, queue, &api.node);
        if let Some(owner) = queue.owner
            && let Some(info) = self.view.api.node.connections.get(owner)
        {
            let (host, port) = (info.peer.ip().to_string(), info.peer.port());
            let details = json!({"name": &*info.name, "peer_host": host, "peer_port": port});
            fields.field("owner_pid_details", &details);
        }
        if let Some(live) = live {
            self.write_live(&live, fields);
        }
        if self.whole {
            if fields.wants("consumer_details") {
                let consumers = super::consumers::consumers_of(self.view.api, self.view.sm, queue);
                fields.field("consumer_details", &consumers);
            }
            // What RabbitMQ shows here in its detailed mode only.
            fields.field("incoming", &json!([]));
            fields.field("deliveries", &json!([]));
        }
    }

    fn number(&self, path: &str) -> Option<Option<f64>> {
        Some(match path {
            "messages" => self.live_number(|queue| queue.ready_count() + queue.unacked_count()),
            "messages_ready" => self.live_number(LocalQueue::ready_count),
            "messages_unacknowledged" => self.live_number(LocalQueue::unacked_count),
            "consumers" => self.live_number(|queue| queue.consumers().len() as u64),
            "message_bytes" => self.live_number(|queue| queue.ready_bytes() + queue.unacked_bytes()),
            "messages_details.rate" => self.rate(|past| past.rate_of(all_messages)),
            _ => {
                let name = path.strip_prefix("message_stats.")?.strip_suffix("_details.rate")?;
                let at = QUEUE_COUNTERS.iter().position(|known| *known == name)?;
                self.rate(|past| past.rate(at))
            }
        })
    }
}

/// Where the lengths are in what is sampled of a queue.
const READY: usize = QUEUE_COUNTERS.len();
const UNACKED: usize = READY + 1;

/// All messages, of what is sampled of a queue.
fn all_messages(numbers: &[u64; QUEUE_NUMBERS]) -> u64 {
    numbers[READY] + numbers[UNACKED]
}

impl QueueEntry<'_> {
    /// A number of a queue that runs here.
    fn live_number(&self, number: impl FnOnce(&LocalQueue) -> u64) -> Option<f64> {
        let api = self.view.api;
        api.runs(&self.queue.placement)
            .then(|| api.node.with_queue(self.queue.id, number))
            .flatten()
            .map(|number| number as f64)
    }

    /// A rate of a queue that runs here.
    fn rate(&self, rate: impl FnOnce(&Past<QUEUE_NUMBERS>) -> f64) -> Option<f64> {
        let view = &self.view;
        view.api.runs(&self.queue.placement).then(|| rate(&view.rates.queue(self.queue.id, None)))
    }

    fn write_live(&self, live: &Live, fields: &mut Fields<'_>) {
        let Snapshot { counts, ready, unacked } = live.snapshot;
        fields.field("consumers", &live.consumers);
        fields.field("consumer_capacity", &live.capacity);
        fields.field("consumer_utilisation", &live.capacity);
        fields.field("single_active_consumer_tag", &live.single_active.as_deref());
        if self.queue.options.queue_type == QueueType::Quorum {
            fields.field("single_active_consumer_ctag", &live.single_active.as_deref());
        }
        fields.field("exclusive_consumer_tag", &live.exclusive.as_deref());
        fields.field("head_message_timestamp", &live.head_timestamp);
        fields.field("paused", &live.paused);
        fields.field("memory", &live.memory);
        fields.field("message_bytes", &(live.ready_bytes + live.unacked_bytes));
        fields.field("message_bytes_ready", &live.ready_bytes);
        fields.field("message_bytes_unacknowledged", &live.unacked_bytes);
        let ram = (live.ready_bytes + live.unacked_bytes).saturating_sub(live.paged_out.bytes);
        fields.field("message_bytes_ram", &ram);
        fields.field("message_bytes_persistent", &live.persistent.bytes);
        fields.field("message_bytes_paged_out", &live.paged_out.bytes);
        let ready_ram = ready.saturating_sub(live.paged_out.messages);
        fields.field("messages_ram", &(ready_ram + unacked));
        fields.field("messages_ready_ram", &ready_ram);
        fields.field("messages_unacknowledged_ram", &unacked);
        fields.field("messages_persistent", &live.persistent.messages);
        fields.field("messages_paged_out", &live.paged_out.messages);
        erlang::garbage_collection(fields);
        let past = LazyCell::new(|| self.view.rates.queue(self.queue.id, self.view.windows.messages()));
        erlang::reductions(fields, || past.details_of(|_| 0));
        let lengths = LazyCell::new(|| self.view.rates.queue(self.queue.id, self.view.windows.lengths()));
        fields.rated("messages", ready + unacked, || lengths.details_of(all_messages));
        fields.rated("messages_ready", ready, || lengths.details(READY));
        fields.rated("messages_unacknowledged", unacked, || lengths.details(UNACKED));
        fields.object("message_stats", |stats| {
            for (at, (name, count)) in QUEUE_COUNTERS.iter().zip(counts).enumerate() {
                stats.rated(name, count, || past.details(at));
            }
        });
        fields.object("backing_queue_status", |status| {
            let rate = |name: &str| {
                QUEUE_COUNTERS.iter().position(|known| *known == name).map_or(0.0, |at| past.rate(at))
            };
            let (ingress, egress, acks) = (rate("publish"), rate("deliver_get"), rate("ack"));
            erlang::backing_queue_status(status, ready, live.ever, ingress, egress, acks);
            if let Some(max) = self.queue.options.max_priority {
                let length =
                    |level: u8| live.priorities.iter().find(|(it, _)| *it == level).map_or(0, |it| it.1);
                let lengths: serde_json::Map<_, _> =
                    (0..=max).map(|level| (level.to_string(), length(level).into())).collect();
                status.field("priority_lengths", &lengths);
            }
        });
    }
}
