//! What RabbitMQ's API lacks: looking at messages without taking them, moving them to another queue, bringing dead
//! letters back to where they came from, holding consumers back.

use super::Api;
use super::caller::Caller;
use super::messages::{message_entry, wants_base64};
use super::queues::NO_CONNECTION;
use super::reply::{Answer, Refusal, count_of, json, no_content, parse_body, required};
use crate::forward::Home;
use crate::forward::outgoing::{FarTarget, Waiter};
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use amqp::BasicProperties;
use amqp::content::Properties;
use amqp::table::{FieldTable, FieldValue};
use axum::body::Bytes;
use axum::extract::{Path, State};
use broker_core::ids::{QueueId, VhostId};
use broker_core::message::{Message, MessageView, Publish};
use broker_core::meta::{Permission, checks};
use broker_core::queue::{PeekLimit, Peeked, Published};
use serde_json::{Map, Value, json as object};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Messages that one look shows unless told otherwise, and at most.
const PEEK: u64 = 50;
const MAX_PEEK: u64 = 1000;
/// Octets of bodies that one look reads.
const MAX_PEEK_BYTES: usize = 16 << 20;
/// Messages that are moved while their queues are locked: what happens meanwhile is one append to the log.
const BATCH: usize = 256;
/// Octets of bodies that are moved at once.
const BATCH_BYTES: usize = 4 << 20;
/// Dead letters that one request passes over because they can not go back.
const MAX_SKIPPED: u64 = 10_000;

/// `POST /api/queues/{vhost}/{name}/peek`
pub(super) async fn peek(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let count = count_of(&request, "count", PEEK)?.min(MAX_PEEK);
    let offset = count_of(&request, "offset", 0)?;
    let base64_only = wants_base64(request.get("encoding").unwrap_or(&Value::from("auto")))?;
    let truncate = count_of(&request, "truncate", u64::MAX)?;
    let truncate = usize::try_from(truncate).unwrap_or(usize::MAX);
    let source = Source::find(&api, &caller, &vhost, &name)?;
    let limit = PeekLimit { offset, count: count as usize, bytes: MAX_PEEK_BYTES };
    let looked = blocking(move || {
        let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
        let seen = turn.queue(source.id, |queue, _, fx| (queue.peek(limit, fx), queue.ready_count()));
        turn.finish();
        seen
    });
    let (seen, ready) = looked.await?.ok_or_else(Refusal::missing)?;
    let shown = seen.iter().map(|peeked| {
        let behind = ready.saturating_sub(peeked.ahead + 1);
        let mut entry =
            message_entry(&peeked.message, peeked.redelivered, behind, base64_only, Some(truncate));
        entry.insert("position".to_owned(), Value::from(peeked.ahead));
        Value::Object(entry)
    });
    json(&shown.collect())
}

/// `POST /api/queues/{vhost}/{name}/move`
pub(super) async fn move_messages(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let destination = required(&request, "destination")?;
    let count = count_of(&request, "count", u64::MAX)?;
    let source = Source::find(&api, &caller, &vhost, &name)?;
    let to = target(&api, &caller, source.vhost, destination)?
        .ok_or_else(|| Refusal::not_found(format!("no queue '{destination}' in vhost '{vhost}'")))?;
    if to == source.id {
        return Err(Refusal::bad_request("a queue's messages can not be moved to the queue itself"));
    }
    tracing::info!(by = &*caller.name, vhost, queue = name, destination, "messages are moved");
    let done = blocking(move || {
        let mut mover = Mover::new(&api, source.id, count);
        while mover.step(|_| Some(Place { queue: to, message: None })) {}
        mover.done
    });
    let done = done.await?;
    json(&object!({"moved": done.moved, "refused": done.skipped, "messages_ready": done.left}))
}

/// `POST /api/queues/{vhost}/{name}/requeue`
pub(super) async fn requeue(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let request = parse_body(&body)?;
    let count = count_of(&request, "count", u64::MAX)?;
    let source = Source::find(&api, &caller, &vhost, &name)?;
    tracing::info!(by = &*caller.name, vhost, queue = name, "dead letters are requeued");
    let done = blocking(move || {
        let mut mover = Mover::new(&api, source.id, count);
        let mut known: BTreeMap<String, Option<QueueId>> = BTreeMap::new();
        while mover.step(|message| {
            let origin = Origin::of(message)?;
            let queue = known
                .entry(origin.queue.clone())
                .or_insert_with(|| target(&api, &caller, source.vhost, &origin.queue).ok().flatten());
            let queue = queue.filter(|queue| *queue != source.id)?;
            Some(Place { queue, message: Some(Arc::new(origin.restored(message))) })
        }) {}
        (mover.done, known)
    });
    let (done, known) = done.await?;
    let arrived = |queue: Option<QueueId>| done.arrived.get(&queue?).copied();
    let targets: Map<String, Value> = known
        .into_iter()
        .filter_map(|(name, queue)| arrived(queue).map(|count| (name, Value::from(count))))
        .collect();
    json(&object!({
        "moved": done.moved, "skipped": done.skipped, "targets": targets, "messages_ready": done.left,
    }))
}

/// `PUT /api/queues/{vhost}/{name}/pause`
pub(super) async fn pause(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    set_paused(&api, &caller, &vhost, &name, true)
}

/// `DELETE /api/queues/{vhost}/{name}/pause`
pub(super) async fn resume(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    set_paused(&api, &caller, &vhost, &name, false)
}

fn set_paused(api: &Api, caller: &Caller, vhost: &str, name: &str, paused: bool) -> Answer {
    let (id, _) = super::queues::find(api, caller, vhost, name, Permission::Configure)?;
    let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
    let known = turn.queue(id, |queue, now, fx| queue.set_paused(now, paused, fx));
    turn.finish();
    known.ok_or_else(Refusal::missing)?;
    tracing::info!(by = &*caller.name, vhost, queue = name, paused, "queue paused or resumed");
    no_content()
}

/// Moving may read segments: not for the threads that serve others.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Refusal::internal("the work failed"))
}

/// A queue that the caller may read.
#[derive(Clone, Copy)]
struct Source {
    id: QueueId,
    vhost: VhostId,
}

impl Source {
    fn find(api: &Api, caller: &Caller, vhost: &str, name: &str) -> Result<Source, Refusal> {
        let (id, _) = super::queues::find(api, caller, vhost, name, Permission::Read)?;
        let vhost = api.node.metadata.read().vhost_id(vhost).ok_or_else(Refusal::missing)?;
        Ok(Source { id, vhost })
    }
}

/// A queue that the caller may write to, if there is one of this name.
fn target(api: &Api, caller: &Caller, vhost: VhostId, name: &str) -> Result<Option<QueueId>, Refusal> {
    let sm = api.node.metadata.read();
    if sm.queue_named(vhost, name).is_none() {
        return Ok(None);
    }
    let access = &mut caller.access(api, vhost);
    Ok(Some(checks::queue_for(&sm, access, Permission::Write, name, NO_CONNECTION)?.id))
}

/// Where a message goes, and as what if not as it is.
struct Place {
    queue: QueueId,
    message: Option<Arc<Message>>,
}

#[derive(Default)]
struct Done {
    moved: u64,
    /// How many of them each queue took.
    arrived: BTreeMap<QueueId, u64>,
    /// Messages that stay because they have no place to go to.
    skipped: u64,
    left: u64,
}

/// Moves ready messages out of a queue, a batch at a time.
struct Mover<'a> {
    api: &'a Api,
    source: QueueId,
    wanted: u64,
    done: Done,
}

impl<'a> Mover<'a> {
    fn new(api: &'a Api, source: QueueId, wanted: u64) -> Mover<'a> {
        let ready = api.node.with_queue(source, LocalQueue::ready_count).unwrap_or(0);
        // What is published meanwhile is not meant.
        Mover { api, source, wanted: wanted.min(ready), done: Done::default() }
    }

    /// Moves the next batch to where `place` says. Whether there may be more.
    fn step(&mut self, mut place: impl FnMut(&Message) -> Option<Place>) -> bool {
        let left = self.wanted.saturating_sub(self.done.moved + self.done.skipped);
        if left == 0 || self.done.skipped >= MAX_SKIPPED {
            return false;
        }
        let seen = self.look(left.min(BATCH as u64) as usize);
        let more = !seen.is_empty();
        let placed: Vec<(Peeked, Option<Place>)> = seen
            .into_iter()
            .map(|peeked| {
                let place = place(&peeked.message);
                (peeked, place)
            })
            .collect();
        let forward = &self.api.node.forward;
        let is_far = |place: &Place| matches!(forward.home(place.queue), Some(Home::At { .. }));
        let (far, near): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|(_, place)| place.as_ref().is_some_and(is_far));
        let count = (far.len() + near.len()) as u64;
        let went = self.hand_over(&near) + self.send_away(&far);
        self.done.moved += went;
        self.done.skipped += count - went;
        more
    }

    /// The next messages, behind those that were passed over.
    fn look(&mut self, count: usize) -> Vec<Peeked> {
        let api = self.api;
        let limit = PeekLimit { offset: self.done.skipped, count, bytes: BATCH_BYTES };
        let mut turn = Turn::new(&api.node, TurnBuffers::default(), api.node.now_ms());
        let seen = turn.queue(self.source, |queue, now, fx| {
            queue.load(now, self.done.skipped as usize + count, fx);
            self.done.left = queue.ready_count();
            queue.peek(limit, fx)
        });
        turn.finish();
        seen.unwrap_or_default()
    }

    /// Arrival and departure of each message are one append to the log: after a crash it is in exactly one queue.
    fn hand_over(&mut self, placed: &[(Peeked, Option<Place>)]) -> u64 {
        let api = self.api;
        let now = api.node.now_ms();
        let mut turn = Turn::new(&api.node, TurnBuffers::default(), now);
        let targets = placed.iter().filter_map(|(_, place)| place.as_ref().map(|place| place.queue));
        turn.pin(targets.chain([self.source]));
        let mut went = 0;
        for (peeked, place) in placed {
            let Some(place) = place else { continue };
            let message = place.message.as_ref().unwrap_or(&peeked.message);
            let room = turn.queue(place.queue, |queue, _, _| !queue.refuses(message.body_len()));
            // A consumer may have got it meanwhile.
            if room != Some(true)
                || turn.queue(self.source, |queue, now, fx| queue.take(now, peeked.qseq, fx)) != Some(true)
            {
                continue;
            }
            let mut publish = publish_of(message);
            let taken = turn.queue(place.queue, |queue, now, fx| queue.publish(now, &mut publish, fx));
            debug_assert!(matches!(taken, Some(Published::Accepted { .. })));
            *self.done.arrived.entry(place.queue).or_default() += 1;
            went += 1;
        }
        turn.close();
        turn.finish();
        self.done.left = api.node.with_queue(self.source, LocalQueue::ready_count).unwrap_or(0);
        went
    }
}

impl Mover<'_> {
    /// The same to queues of other nodes: a message leaves here when the other node has it. One that a consumer got
    /// meanwhile, or whose arrival was not heard of, may be there twice, but never nowhere.
    fn send_away(&mut self, placed: &[(Peeked, Option<Place>)]) -> u64 {
        if placed.is_empty() {
            return 0;
        }
        let node = &self.api.node;
        let mut turn = Turn::new(node, TurnBuffers::default(), node.now_ms());
        let mut sent = Vec::new();
        for (peeked, place) in placed {
            let Some(place) = place else { continue };
            if turn.far_target(place.queue) != FarTarget::Noted {
                continue;
            }
            let message = place.message.as_ref().unwrap_or(&peeked.message);
            let refused = Arc::new(AtomicBool::new(false));
            turn.forward(&publish_of(message), &Waiter::Commit(Arc::clone(&refused)));
            sent.push((peeked.qseq, place.queue, refused));
        }
        turn.close();
        turn.send_forwarded();
        let marks = turn.marks().to_vec();
        turn.finish();
        if !node.runtime.block_on(node.gates.passed(&marks)) {
            return 0;
        }
        let mut turn = Turn::new(node, TurnBuffers::default(), node.now_ms());
        let mut went = 0;
        for (qseq, queue, refused) in sent {
            if !refused.load(Ordering::Acquire)
                && turn.source(self.source, |source, now, fx| source.take(now, qseq, fx)) == Some(true)
            {
                *self.done.arrived.entry(queue).or_default() += 1;
                went += 1;
            }
        }
        turn.close();
        turn.finish();
        self.done.left = node.with_queue(self.source, LocalQueue::ready_count).unwrap_or(0);
        went
    }
}

/// A message as it is published into its next queue.
fn publish_of(message: &Arc<Message>) -> Publish<'_> {
    let properties = Properties::parse(message.view().properties).ok();
    let text = properties.as_ref().and_then(Properties::expiration);
    let expiration = text.and_then(|octets| std::str::from_utf8(octets).ok()?.parse().ok());
    let priority = properties.as_ref().and_then(Properties::priority).unwrap_or(0);
    Publish::of(message, expiration, priority)
}

/// Where a dead letter came from: the newest entry of its `x-death` header.
struct Origin {
    queue: String,
    exchange: Option<String>,
    routing_key: Option<String>,
}

impl Origin {
    fn of(message: &Message) -> Option<Origin> {
        let properties = Properties::parse(message.view().properties).ok()?;
        let headers: FieldTable = properties.headers()?.to_owned();
        let newest = headers.get("x-death")?.as_array()?.first()?.as_table()?.clone();
        let text = |name: &str| newest.get(name).and_then(FieldValue::as_str).map(str::to_owned);
        let keys = newest.get("routing-keys").and_then(FieldValue::as_array);
        let routing_key = keys.and_then(|keys| keys.first()?.as_str().map(str::to_owned));
        Some(Origin { queue: text("queue")?, exchange: text("exchange"), routing_key })
    }

    /// The message with the exchange and routing key that it had in the queue it came from; its history stays.
    fn restored(&self, message: &Message) -> Message {
        let view = message.view();
        let short = |given: &Option<String>, own: &str| match given {
            Some(text) if text.len() <= 255 => text.clone(),
            _ => own.to_owned(),
        };
        let (exchange, routing_key) =
            (short(&self.exchange, view.exchange), short(&self.routing_key, view.routing_key));
        let mut properties =
            Properties::parse(view.properties).map(BasicProperties::from).unwrap_or_default();
        properties.expiration = None;
        let mut raw = Vec::with_capacity(view.properties.len());
        properties.encode(&mut raw);
        let view =
            MessageView { exchange: &exchange, routing_key: &routing_key, properties: &raw, body: view.body };
        Message::copy_from(&view, message.persistent)
    }
}
