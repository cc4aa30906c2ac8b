//! One node: its queues in shards, its log, its metadata, its connections.
//!
//! What happens to the metadata reaches the queues through [`QueueHook`], in order and under the metadata's
//! lock; what a queue wants of the metadata (to be deleted) goes to the housekeeping task.

mod placing;
mod queues;

use crate::alarms::{Alarms, Resource};
use crate::auth::{Authenticator, Credentials, LoopbackUsers, Mechanism, Refusal};
use crate::cluster::{ClusterView, Home};
use crate::connection::handshake::ServerProperties;
use crate::connection::info::Connections;
use crate::connection::outbox::{Output, Request};
use crate::counters::NodeCounters;
use crate::forward::Forward;
use crate::gates::Gates;
use crate::metadata::{Applied, Hook, Metadata};
use crate::pager::{self, Pager, PagerInbox, Removal};
use crate::replicate::{Over, Replicate};
use crate::shard::{LocalQueue, Shard, Turn, TurnBuffers};
use crate::tls::CertLogin;
use amqp::table::Value;
use broker_core::exception::Exception;
use broker_core::exchange::{ExchangeType, delayed};
use broker_core::ids::{ConnectionId, QueueId};
use broker_core::message::Message;
use broker_core::meta::options::QueueType;
use broker_core::meta::{Change, MetaCommand, MetaSm, Queue as MetaQueue, RouteScratch, RoutedMessage};
use broker_core::queue::dead_letter::{DeadLetter, Rewritten};
use broker_core::queue::delayed::Due;
use broker_core::queue::{Effects, PAGE_ABOVE_SHORT, Queue};
use broker_core::record::QseqRange;
use broker_store::Lsn;
use broker_store::recovery::{QueueImage, SegmentNote};
use broker_store::segment::SegmentMeta;
use broker_store::wal::Wal;
use parking_lot::{Mutex, MutexGuard};
use queues::{is_delaying, new_queue, new_store, queue_config};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};

/// Locks that the node's queues are spread over.
const SHARDS: usize = 16;
/// Octets of log that are fine however little of it is alive.
const LOG_FLOOR_BYTES: u64 = 512 << 20;
/// The same while the disk has little room.
const SHORT_LOG_FLOOR_BYTES: u64 = 128 << 20;
/// Octets that moving messages inside the log may be ahead of the disk.
const MOVE_AHEAD_BYTES: usize = 8 << 20;
/// How often memory, disk and the log's size are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// What the configuration says that connections and queues need.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Node name, such as `rabbit@A`.
    pub(crate) node: String,
    /// `cluster_name` of the server properties, until one is set.
    pub(crate) cluster_name: String,
    /// `product` of the server properties.
    pub(crate) product: String,
    /// `version` of the server properties.
    pub(crate) version: String,
    /// Offered frame size, octets.
    pub(crate) frame_max: u32,
    /// Offered number of channels; 0 is no limit.
    pub(crate) channel_max: u16,
    /// Offered heartbeat, seconds; 0 is none.
    pub(crate) heartbeat: u16,
    /// Largest message body, octets.
    pub(crate) max_message_size: u64,
    /// How long a delivery may wait for its acknowledgement, milliseconds; 0 is for ever.
    pub(crate) consumer_timeout_ms: u64,
    /// Largest transaction, octets.
    pub(crate) max_transaction_size: usize,
    /// Client connections at the same time.
    pub(crate) max_connections: usize,
    /// Users who may connect from this host only.
    pub(crate) loopback_users: Vec<String>,
    /// What clients may log in with.
    pub(crate) auth_mechanisms: Vec<Mechanism>,
    /// Where EXTERNAL takes the user name from.
    pub(crate) cert_login: CertLogin,
}

/// What a task without a lock has to do for a queue.
#[derive(Debug)]
enum Job {
    /// Delete a queue that has decided to go.
    DeleteUnused(QueueId),
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    /// What the configuration says.
    pub(crate) settings: Settings,
    /// Vhosts, users, exchanges, queues, bindings.
    pub(crate) metadata: Arc<Metadata>,
    /// The other nodes.
    pub(crate) cluster: ClusterView,
    /// The log.
    pub(crate) wal: LogHandle,
    /// Segment files of queues that do not fit into memory.
    pub(crate) pager: Arc<Pager>,
    /// Client connections.
    pub(crate) connections: Connections,
    /// What is counted over the node's life.
    pub(crate) counters: NodeCounters,
    /// What each of them is told first.
    pub(crate) server_properties: ServerProperties,
    authenticator: Arc<Authenticator>,
    /// For work that comes from threads outside of it.
    pub(crate) runtime: tokio::runtime::Handle,
    shards: Box<[Mutex<Shard>]>,
    durable: watch::Sender<Lsn>,
    /// What confirms wait for beside the log.
    pub(crate) gates: Gates,
    /// Queues of other nodes, and clients of other nodes.
    pub(crate) forward: Forward,
    /// Copies of queues, here and on other nodes.
    pub(crate) replicate: Replicate,
    /// Why publishers are held up.
    pub(crate) alarms: Alarms,
    next_connection: AtomicU64,
    jobs: mpsc::UnboundedSender<Job>,
    /// Dead letters that have left their queue and are not in another one yet.
    pub(crate) letters_in_flight: AtomicUsize,
    timer: Arc<Notify>,
    timer_at: AtomicU64,
    /// Some vhost is traced.
    tracing: AtomicBool,
    /// New client connections are refused for now.
    pub(crate) suspended: AtomicBool,
    started: Instant,
    failed: watch::Sender<Option<String>>,
    closed: AtomicBool,
}

/// The log, printable.
#[derive(Clone)]
pub(crate) struct LogHandle(pub Wal);

impl std::ops::Deref for LogHandle {
    type Target = Wal;

    fn deref(&self) -> &Wal {
        &self.0
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("durable", &self.0.durable_lsn()).finish_non_exhaustive()
    }
}

impl Node {
    /// Puts a node together from its metadata, its log and what recovery found in the log, and starts its
    /// housekeeping.
    pub(crate) fn start(
        settings: Settings,
        alarms: Alarms,
        (metadata, cluster): (Arc<Metadata>, ClusterView),
        wal: Wal,
        images: Vec<QueueImage>,
        (pager, paging): (Pager, PagerInbox),
    ) -> Arc<Node> {
        let (jobs, inbox) = mpsc::unbounded_channel();
        let authenticator = Authenticator::new(LoopbackUsers(settings.loopback_users.clone()));
        let durable = watch::Sender::new(wal.durable_lsn());
        let replicate = Replicate::new(cluster.me(), cluster.incarnation());
        let node = Arc::new(Node {
            settings,
            next_connection: AtomicU64::new(first_connection(&cluster)),
            metadata,
            cluster,
            wal: LogHandle(wal),
            pager: Arc::new(pager),
            connections: Connections::default(),
            counters: NodeCounters::default(),
            server_properties: ServerProperties::default(),
            authenticator: Arc::new(authenticator),
            runtime: tokio::runtime::Handle::current(),
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            durable,
            gates: Gates::default(),
            forward: Forward::default(),
            replicate,
            alarms,
            jobs,
            letters_in_flight: AtomicUsize::new(0),
            timer: Arc::new(Notify::new()),
            timer_at: AtomicU64::new(u64::MAX),
            tracing: AtomicBool::new(false),
            suspended: AtomicBool::new(false),
            started: Instant::now(),
            failed: watch::Sender::new(None),
            closed: AtomicBool::new(false),
        });
        let restore = |sm: &MetaSm| {
            node.restore_queues(sm, images);
            node.note_tracing(sm);
        };
        node.metadata.attach(restore, Box::new(QueueHook { node: Arc::downgrade(&node) }));
        node.watch_log();
        tokio::spawn(run_timers(Arc::downgrade(&node)));
        tokio::spawn(run_jobs(Arc::downgrade(&node), inbox));
        tokio::spawn(pager::run(Arc::downgrade(&node), paging));
        tokio::spawn(keep_house(Arc::downgrade(&node)));
        node
    }

    /// Makes the queues that the metadata knows, with the messages that the log has for them.
    fn restore_queues(self: &Arc<Self>, sm: &MetaSm, images: Vec<QueueImage>) {
        let now = self.now_ms();
        let mut images: HashMap<u64, QueueImage> =
            images.into_iter().map(|image| (image.queue_id, image)).collect();
        let mut buffers = TurnBuffers::default();
        for known in sm.queues() {
            let image = images.remove(&known.id.0);
            if !self.holds(known) {
                continue;
            }
            let mut queue = new_queue(sm, known, now);
            let led_by_me = image.as_ref().and_then(|image| image.leader) == Some(self.cluster.me().0);
            if let Some(image) = image {
                self.restore(&mut queue, image);
            }
            if !self.cluster.is_alone() || known.placement.epoch > 1 {
                self.restore_place(sm, known, queue, led_by_me, now);
                continue;
            }
            queue.touch(now, &mut buffers);
            buffers.wake_at(known.id, now);
            self.lock_shard(self.shard_of(known.id)).insert(queue);
        }
        let delaying = sm.vhosts().flat_map(|state| sm.exchanges_in(state.vhost.id)).filter(is_delaying);
        for exchange in delaying {
            let mut store = new_store(sm, exchange, now);
            if let Some(image) = images.remove(&store.id().0) {
                self.restore(&mut store, image);
            }
            buffers.wake_at(store.id(), now);
            self.lock_shard(self.shard_of(store.id())).insert(store);
        }
        for (queue, image) in images.into_iter().filter(|(_, image)| !image.messages.is_empty()) {
            // Nothing is deleted for being unknown: the log keeps it until its files are released.
            tracing::warn!(queue = %QueueId(queue), messages = image.messages.len(), "the log has messages of a queue that the metadata does not know");
        }
        for (at, queue) in buffers.take_wakes() {
            self.lock_shard(self.shard_of(queue)).add_timer(at, queue);
        }
        self.wake_timer(now);
    }

    /// Whether a queue is here: led, or as a copy.
    fn holds(&self, queue: &MetaQueue) -> bool {
        self.runs(queue) || queue.durable && queue.placement.replicas.contains(&self.cluster.me())
    }

    /// Whether a queue is led here.
    pub(crate) fn runs(&self, queue: &MetaQueue) -> bool {
        matches!(self.cluster.home(queue), Home::Here { .. })
    }

    /// Puts back what the log has for a queue.
    fn restore(&self, queue: &mut LocalQueue, image: QueueImage) {
        queue.restore_positions(image.epoch.max(1), image.next_off, image.next_qseq, image.hwm);
        let epochs = image.epochs();
        queue.restore_origins(image.origins);
        queue.restore_epochs(epochs);
        self.restore_segments(queue, image.segments);
        image.messages.values().for_each(|message| message.restore(queue));
    }

    /// Makes the segments of a queue known to it.
    fn restore_segments(&self, queue: &mut LocalQueue, segments: BTreeMap<u64, SegmentNote>) {
        for (first_qseq, note) in segments {
            let last_qseq = note.last_qseq;
            let Some(known) = SegmentMeta::decode(queue.id().0, first_qseq, last_qseq, &note.meta) else {
                tracing::error!(queue = %queue.id(), first_qseq, "the log's description of a segment is malformed");
                continue;
            };
            let (messages, gone) = (u64::from(known.messages), &note.dropped);
            let whole = QseqRange { first: first_qseq, last: last_qseq };
            let live = if last_qseq - first_qseq == messages - 1 {
                gone.missing(whole)
            } else {
                // Positions that never were in it may count as dropped.
                let counted = self.pager.count_live(queue.id(), first_qseq, |qseq| gone.contains(qseq));
                counted.unwrap_or_else(|error| {
                    tracing::error!(queue = %queue.id(), %error, "messages can not be counted");
                    messages
                })
            };
            queue.restore_segment(note.restored(&known), live);
        }
    }

    /// Octets of ready messages that lie in memory.
    fn resident_bytes(&self) -> u64 {
        let of_shard = |index| self.lock_shard(index).held().map(LocalQueue::resident_bytes).sum::<u64>();
        (0..SHARDS).map(of_shard).sum()
    }

    /// Moves messages out of memory when much of it is taken.
    fn relieve_memory(&self) {
        // Every queue is asked; only when the process is large.
        let limit = self.alarms.paging_limit();
        if self.alarms.resident() <= limit || self.resident_bytes() <= limit {
            return;
        }
        let now = self.now_ms();
        for index in 0..SHARDS {
            let large = |queue: &&LocalQueue| queue.resident_bytes() > PAGE_ABOVE_SHORT;
            let queues: Vec<QueueId> =
                self.lock_shard(index).held().filter(large).map(LocalQueue::id).collect();
            let mut turn = Turn::new(self, TurnBuffers::default(), now);
            for id in queues {
                turn.held(id, LocalQueue::page_out);
            }
            turn.finish();
        }
    }

    fn watch_log(self: &Arc<Self>) {
        let node = Arc::downgrade(self);
        self.wal.on_durable(Box::new(move |position| {
            if let Some(node) = node.upgrade() {
                node.durable.send_replace(position);
            }
        }));
        let node = Arc::downgrade(self);
        self.wal.on_failure(Box::new(move |failure| {
            if let Some(node) = node.upgrade() {
                node.fail(&format!("log: {failure}"));
            }
        }));
        let node = Arc::downgrade(self);
        self.wal.on_full(Box::new(move |full| {
            if let Some(node) = node.upgrade() {
                node.alarms.set(Resource::Log, full);
            }
        }));
    }

    /// Milliseconds since the epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the node started, by a clock that nobody sets.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether some vhost is traced.
    pub(crate) fn is_tracing(&self) -> bool {
        self.tracing.load(Ordering::Relaxed)
    }

    fn note_tracing(&self, sm: &MetaSm) {
        self.tracing.store(sm.vhosts().any(|state| state.vhost.tracing), Ordering::Relaxed);
    }

    /// A number for a new connection.
    pub(crate) fn next_connection_id(&self) -> ConnectionId {
        let number = self.next_connection.fetch_add(1, Ordering::Relaxed);
        // In a cluster the upper bits say which node's it is.
        ConnectionId(u64::from(self.forward.slot()) << 48 | number)
    }

    /// Follows how far the log is durable.
    pub(crate) fn durable(&self) -> watch::Receiver<Lsn> {
        self.durable.subscribe()
    }

    /// Follows why publishers are held up, if they are.
    pub(crate) fn blocked(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.alarms.blocked()
    }

    /// Follows whether the node must stop because its storage failed.
    pub(crate) fn failed(&self) -> watch::Receiver<Option<String>> {
        self.failed.subscribe()
    }

    /// The node has stopped: what is left of its tasks ends.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.timer.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn fail(&self, reason: &str) {
        tracing::error!(reason, "storage failed; the node stops");
        self.failed.send_replace(Some(reason.to_owned()));
    }

    /// Name of the cluster, as clients see it.
    pub(crate) fn cluster_name(&self) -> String {
        let sm = self.metadata.read();
        let named = sm.global_parameter("cluster_name").and_then(|json| serde_json::from_str(json).ok());
        // Of several nodes the first gives the name, unless the configuration does.
        let own = self.settings.cluster_name == self.settings.node;
        let founder = || sm.members().next().filter(|_| own && !self.cluster.is_alone());
        named.unwrap_or_else(|| {
            founder().map_or_else(|| self.settings.cluster_name.clone(), |member| member.name.to_string())
        })
    }

    /// A name nobody else has: `prefix` and 22 characters.
    pub(crate) fn unique_name(&self, prefix: &str) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut random: u128 = rand::random();
        let mut name = String::with_capacity(prefix.len() + 22);
        name.push_str(prefix);
        for _ in 0..22 {
            name.push(char::from(ALPHABET[(random & 63) as usize]));
            random >>= 6;
        }
        name
    }

    /// Checks a login. Returns the user's tags.
    pub(crate) async fn authenticate(
        &self,
        credentials: Credentials,
        peer: IpAddr,
    ) -> Result<Vec<String>, Refusal> {
        let user = Authenticator::lookup(&self.metadata.read(), &credentials);
        self.authenticator.login(user, &credentials, peer).await.map(|user| user.tags)
    }

    /// Checks the login of somebody whose name is proven by other means. Returns the user's tags.
    pub(crate) fn authenticate_named(&self, name: &str, peer: IpAddr) -> Result<Vec<String>, Refusal> {
        let user = self.metadata.read().user(name).cloned().ok_or(Refusal::Unknown)?;
        self.authenticator.admit(user, peer).map(|user| user.tags)
    }

    /// How many shards there are.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The shard of a queue.
    pub(crate) fn shard_of(&self, queue: QueueId) -> usize {
        // Identities hold the position in a batch in their low bits; multiplying spreads what is left.
        (queue.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 60) as usize % SHARDS
    }

    /// Locks a shard.
    pub(crate) fn lock_shard(&self, index: usize) -> MutexGuard<'_, Shard> {
        self.shards[index].lock()
    }

    /// Looks at a queue.
    pub(crate) fn with_queue<R>(&self, id: QueueId, look: impl FnOnce(&LocalQueue) -> R) -> Option<R> {
        self.lock_shard(self.shard_of(id)).get(id).map(look)
    }

    /// A timer is due at this time; wakes the timer task if that is earlier than it knows.
    pub(crate) fn wake_timer(&self, at: u64) {
        if at < self.timer_at.fetch_min(at, Ordering::AcqRel) {
            self.timer.notify_one();
        }
    }

    /// A queue asked to be deleted.
    pub(crate) fn delete_unused(&self, queue: QueueId) {
        // The task ends with the node only.
        let _ = self.jobs.send(Job::DeleteUnused(queue));
    }

    /// Deletes the exclusive queues of a connection that ended.
    pub(crate) async fn delete_exclusive(&self, connection: ConnectionId) {
        let ids = self.metadata.read().queues_owned_by(connection);
        if !ids.is_empty()
            && let Err(error) = self.metadata.propose(MetaCommand::DeleteQueues { ids }).await
        {
            tracing::error!(%error, "could not delete exclusive queues");
        }
    }

    /// The queues a dead letter goes to, with their names.
    pub(crate) fn route_dead_letter(
        &self,
        letter: &DeadLetter,
        rewritten: &Rewritten,
    ) -> Vec<(QueueId, Arc<str>)> {
        let sm = self.metadata.read();
        let Some(vhost) = sm.vhost_id(&letter.vhost) else { return Vec::new() };
        let quorum =
            sm.queue(letter.queue).is_some_and(|queue| queue.options.queue_type == QueueType::Quorum);
        self.counters.dead_letter(quorum, letter.reason);
        let keys: Vec<&str> = rewritten.routing_keys.iter().map(String::as_str).collect();
        let view = rewritten.message.view();
        let properties = amqp::content::Properties::parse(view.properties).ok();
        let headers = properties.and_then(|properties| properties.headers());
        let mut queues = Vec::new();
        let mut scratch = RouteScratch::default();
        let message =
            RoutedMessage { keys: &keys, headers: headers.as_ref(), properties: properties.as_ref() };
        sm.route_message(vhost, &letter.target.exchange, message, &mut queues, &mut scratch);
        let name = |id| match sm.queue(id) {
            Some(queue) => Some(Arc::clone(&queue.name)),
            None if scratch.delaying().contains(&id) => Some(Arc::from("")),
            None => None,
        };
        queues.into_iter().filter_map(|id| name(id).map(|name| (id, name))).collect()
    }

    /// The queues that a message goes to whose delay is over, by the bindings of now.
    pub(crate) fn route_due(&self, due: &Due, message: &Message) -> Vec<QueueId> {
        let sm = self.metadata.read();
        let mut queues = Vec::new();
        let Some(exchange) = sm.exchange(delayed::exchange_of(due.store)) else { return queues };
        let view = message.view();
        let properties = amqp::content::Properties::parse(view.properties).ok();
        let headers = properties.as_ref().and_then(amqp::content::Properties::headers);
        let mut keys = vec![view.routing_key];
        for name in ["CC", "BCC"] {
            if let Some(Value::Array(more)) = headers.as_ref().and_then(|headers| headers.get(name)) {
                keys.extend(more.iter().filter_map(|key| key.as_str()));
            }
        }
        let message =
            RoutedMessage { keys: &keys, headers: headers.as_ref(), properties: properties.as_ref() };
        let mut scratch = RouteScratch::default();
        sm.route_message(exchange.vhost, &exchange.name, message, &mut queues, &mut scratch);
        queues
    }

    /// Closes every client connection.
    pub(crate) fn close_connections(&self, code: u16, text: &str) {
        for info in self.connections.list() {
            info.outbox.request(Request::Close(Exception::connection(code, text)));
        }
    }

    /// Waits while the log has much to write; memory would take in what the disk does not. `false`: it can not go on.
    fn log_keeps_up(&self) -> bool {
        while self.wal.pending_bytes() > MOVE_AHEAD_BYTES {
            if self.wal.is_full() || self.wal.failed().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Makes old log files free: moves what still lives in them to the log's end.
    fn reclaim_log(&self) {
        let total = self.wal.total_bytes();
        let short = self.wal.is_full() || self.alarms.is_short_of_disk();
        let fine = if short { SHORT_LOG_FLOOR_BYTES } else { LOG_FLOOR_BYTES };
        if total <= fine {
            return;
        }
        // Every queue is asked; only for a log that is large.
        let live: u64 = (0..SHARDS)
            .map(|index| self.lock_shard(index).held().map(LocalQueue::logged_bytes).sum::<u64>())
            .sum();
        if total <= live.saturating_mul(2) {
            return;
        }
        let files = self.wal.closed_files();
        let Some(floor) = files.get(files.len() / 2).map(|file| file.last_lsn) else { return };
        let now = self.now_ms();
        let mut moved = 0;
        for index in 0..SHARDS {
            let queues: Vec<QueueId> = self.lock_shard(index).held().map(Queue::id).collect();
            for id in queues {
                let mut turn = Turn::new(self, TurnBuffers::default(), now);
                // Bounded steps: a queue with many old messages lets others in between.
                while turn
                    .held(id, |queue, now, fx| fx.at_home(|fx| queue.relocate(now, floor, fx)))
                    .is_some_and(|count| count > 0)
                {
                    turn.close();
                    moved += 1;
                    if !self.log_keeps_up() {
                        tracing::warn!(
                            "old log files can not be released: the log has no room for what lives in them"
                        );
                        return;
                    }
                }
                turn.held(id, |queue, now, fx| {
                    if queue.is_durable() {
                        fx.at_home(|fx| {
                            queue.log_open(fx);
                            queue.log_strays(now, fx);
                        });
                    }
                });
                turn.finish();
            }
        }
        if self.letters_in_flight.load(Ordering::Acquire) > 0 {
            // A dead letter may have left its queue before the queue was looked at here; next time.
            return;
        }
        self.wal.release_before(floor + 1);
        tracing::info!(total, live, moved, "released old log files");
    }
}

/// The number of a node's first connection. In a cluster those of other nodes are others.
fn first_connection(cluster: &ClusterView) -> u64 {
    if cluster.is_alone() { 1 } else { ConnectionId::on(cluster.me(), 1).0 }
}

/// Carries changes of the metadata over to the queues.
struct QueueHook {
    node: Weak<Node>,
}

impl Hook for QueueHook {
    fn on_applied(&self, applied: &Applied<'_>) {
        let Some(node) = self.node.upgrade() else { return };
        let now = node.now_ms();
        for change in applied.changes {
            match change {
                Change::PutQueue(spec) => {
                    let Some(known) = applied.sm.queue(spec.id) else { continue };
                    node.counters.churn.queues_created.add(1);
                    node.place(applied.sm, known, now);
                }
                Change::PutPlacement { queue, .. } => {
                    if let Some(known) = applied.sm.queue(*queue) {
                        node.place(applied.sm, known, now);
                        node.forward.leaders_changed();
                    }
                }
                Change::PutExchange(spec) if spec.kind == ExchangeType::Delayed => {
                    let Some(exchange) = applied.sm.exchange(spec.id) else { continue };
                    let store = new_store(applied.sm, exchange, now);
                    let id = store.id();
                    node.lock_shard(node.shard_of(id)).insert(store);
                    let mut turn = Turn::new(&node, TurnBuffers::default(), now);
                    turn.queue(id, |store, _, fx| {
                        if store.is_durable() {
                            store.log_open(fx);
                        }
                    });
                    turn.close();
                }
                Change::RemoveExchange { id, .. } => {
                    node.counters.forget_exchange(*id);
                    remove_queue(&node, delayed::store_of(*id), now);
                }
                Change::RemoveQueue { id, .. } => {
                    node.forget_copies(*id, Over::Deleted);
                    let removed = remove_queue(&node, *id, now);
                    node.counters.churn.queues_deleted.add(1);
                    for consumer in removed.into_iter().flat_map(|mut queue| queue.remove_consumers()) {
                        let (channel, tag) = (consumer.handle.channel, consumer.tag);
                        match consumer.handle.output {
                            Output::Here(outbox) => {
                                outbox.request(Request::ConsumerGone { channel, tag, queue: *id });
                            }
                            Output::Far(far) => far.gone(),
                        }
                    }
                }
                Change::PutVhost(_) => node.note_tracing(applied.sm),
                Change::RemoveVhost { name, .. } => {
                    node.note_tracing(applied.sm);
                    node.counters.forget_vhost(name);
                    let text = format!("vhost '{name}' is deleted");
                    close_matching(&node, &text, |details| *details.vhost == **name);
                }
                Change::RemoveUser { name } => {
                    let text = format!("user '{name}' is deleted");
                    close_matching(&node, &text, |details| *details.user == **name);
                }
                _ => {}
            }
        }
        for id in applied.new_options {
            let Some(known) = applied.sm.queue(*id) else { continue };
            node.place(applied.sm, known, now);
            let config = queue_config(known);
            let mut turn = Turn::new(&node, TurnBuffers::default(), now);
            turn.held(*id, |queue, now, fx| queue.configure(now, config, fx));
            turn.defer(&node);
        }
    }

    fn on_journal_failure(&self, error: &str) {
        if let Some(node) = self.node.upgrade() {
            node.fail(&format!("metadata journal: {error}"));
        }
    }
}

/// Takes a queue out of its shard, if it is there.
fn remove_queue(node: &Node, id: QueueId, now: u64) -> Option<LocalQueue> {
    let mut turn = Turn::new(node, TurnBuffers::default(), now);
    turn.held(id, |queue, _, fx| {
        if queue.is_durable() {
            queue.log_close(fx);
        }
    });
    turn.close();
    node.pager.remove_later(node.wal.last_lsn(), Removal::Queue(id));
    node.lock_shard(node.shard_of(id)).remove(id)
}

fn close_matching(node: &Node, text: &str, matches: impl Fn(&crate::connection::info::Details) -> bool) {
    for info in node.connections.list() {
        if matches(&info.details()) {
            let exception = Exception::connection(amqp::reply_code::CONNECTION_FORCED, text);
            info.outbox.request(Request::Close(exception));
        }
    }
}

async fn run_timers(node: Weak<Node>) {
    loop {
        let Some(strong) = node.upgrade().filter(|node| !node.is_closed()) else { return };
        let now = strong.now_ms();
        strong.timer_at.store(u64::MAX, Ordering::Release);
        // A mistake in one queue's timer must not stop those of all others.
        let next = catch_unwind(AssertUnwindSafe(|| strong.run_timers(now))).unwrap_or_else(|_| {
            tracing::error!("a timer failed");
            Some(now + 1000)
        });
        if let Some(next) = next {
            strong.timer_at.fetch_min(next, Ordering::AcqRel);
        }
        let at = strong.timer_at.load(Ordering::Acquire);
        let wait = Duration::from_millis(at.saturating_sub(strong.now_ms()).clamp(1, 60_000));
        // The task does not keep the node alive while it waits.
        let timer = Arc::clone(&strong.timer);
        drop(strong);
        tokio::select! {
            () = timer.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn run_jobs(node: Weak<Node>, mut inbox: mpsc::UnboundedReceiver<Job>) {
    while let Some(Job::DeleteUnused(queue)) = inbox.recv().await {
        let Some(node) = node.upgrade() else { return };
        if let Err(error) = node.metadata.propose(MetaCommand::DeleteQueues { ids: vec![queue] }).await {
            tracing::error!(%queue, %error, "could not delete an unused queue");
        }
    }
}

async fn keep_house(node: Weak<Node>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        let Some(node) = node.upgrade().filter(|node| !node.is_closed()) else { return };
        let work = tokio::task::spawn_blocking(move || {
            node.alarms.check();
            node.relieve_memory();
            node.reclaim_log();
            node.pager.remove_due(node.wal.durable_lsn());
            crate::allocator::give_back();
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "housekeeping failed");
        }
    }
}
