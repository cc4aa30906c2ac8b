//! Two nodes in one process, the wires between them, and clients.

use crate::alarms::Alarms;
use crate::cluster::{ClusterView, Seat};
use crate::config::Config;
use crate::config::cli::{Environment, NodeArgs};
use crate::forward::{Around, Home};
use crate::metadata::bootstrap;
use crate::node::Node;
use crate::storage::Storage;
use amqp::Method;
use amqp::content::ContentHeader;
use amqp::frame::{self, FrameKind};
use amqp::method::{MethodFields, basic, channel, confirm, connection, queue};
use amqp::table::{FieldTable, Table};
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::MetaCommand;
use broker_store::datadir::DataDir;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// One direction between the nodes.
struct Lane {
    frames: mpsc::UnboundedSender<Bytes>,
    alive: Arc<AtomicBool>,
    link: u64,
}

/// What both nodes know of each other.
#[derive(Default)]
struct Wires {
    homes: Mutex<HashMap<QueueId, Option<(usize, u32)>>>,
    lanes: [Mutex<Option<Lane>>; 2],
    full: [AtomicBool; 2],
    nodes: OnceLock<[Arc<Node>; 2]>,
    links: AtomicU64,
}

/// One node's view.
struct View {
    me: usize,
    wires: Arc<Wires>,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

impl Around for View {
    fn me(&self) -> NodeId {
        id(self.me)
    }

    fn incarnation(&self) -> u64 {
        1
    }

    fn is_alone(&self) -> bool {
        false
    }

    fn home(&self, queue: QueueId) -> Option<Home> {
        Some(match *self.wires.homes.lock().get(&queue)? {
            Some((node, epoch)) if node == self.me => Home::Here { epoch },
            Some((node, epoch)) => Home::At { node: id(node), epoch },
            None => Home::Nowhere { last: id(1 - self.me) },
        })
    }

    fn send(&self, _: NodeId, frame: Bytes) -> bool {
        let lane = self.wires.lanes[self.me].lock();
        let room = !self.wires.full[self.me].load(Ordering::Acquire);
        room && lane.as_ref().is_some_and(|lane| lane.frames.send(frame).is_ok())
    }

    fn name(&self, node: NodeId) -> String {
        format!("rabbit@{node}")
    }

    fn with_slot(&self, slot: u16) -> Option<NodeId> {
        (u64::from(slot) == id(1 - self.me).0).then(|| id(1 - self.me))
    }
}

/// Two nodes.
pub(super) struct Pair {
    pub(super) nodes: [Arc<Node>; 2],
    ports: [u16; 2],
    wires: Arc<Wires>,
    runtime: tokio::runtime::Runtime,
    _directories: Vec<(DataDir, tempfile::TempDir)>,
}

impl Pair {
    /// Two nodes that both know these queues: name, arguments, the node that leads it. Those whose names begin with
    /// `auto` are deleted with their last consumer.
    pub(super) fn new(queues: &[(&str, FieldTable, usize)]) -> Pair {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut started = Vec::new();
        let mut directories = Vec::new();
        for _ in 0..2 {
            let folder = tempfile::tempdir().unwrap();
            let (node, port, directory) = runtime.block_on(start(folder.path()));
            started.push((node, port));
            directories.push((directory, folder));
        }
        let [(first, one), (second, other)] = <[_; 2]>::try_from(started).unwrap();
        let wires = Arc::new(Wires::default());
        let nodes = [first, second];
        assert!(wires.nodes.set(nodes.clone()).is_ok());
        let pair = Pair { nodes, ports: [one, other], wires, runtime, _directories: directories };
        // While each is alone: the same commands give the same identities.
        for node in 0..2 {
            let mut client = pair.client(node);
            for (name, arguments, _) in queues {
                client.declare(name, arguments);
            }
        }
        for (name, _, leader) in queues {
            let ids = [0, 1].map(|node| pair.queue_id(node, name));
            assert_eq!(ids[0], ids[1], "both know the queue by the same number");
            pair.wires.homes.lock().insert(ids[0], Some((*leader, 1)));
            let other = &pair.nodes[1 - leader];
            other.lock_shard(other.shard_of(ids[0])).remove(ids[0]);
        }
        for me in 0..2 {
            let _inside = pair.runtime.enter();
            let view = View { me, wires: Arc::clone(&pair.wires) };
            pair.nodes[me].begin_forwarding(Arc::new(view));
        }
        pair.connect(0);
        pair.connect(1);
        pair
    }

    pub(super) fn queue_id(&self, node: usize, name: &str) -> QueueId {
        let sm = self.nodes[node].metadata.read();
        let vhost = sm.vhost_id("/").unwrap();
        sm.queue_named(vhost, name).unwrap().id
    }

    /// Connects a node to the other one.
    pub(super) fn connect(&self, from: usize) {
        let (frames, mut inbox) = mpsc::unbounded_channel::<Bytes>();
        let alive = Arc::new(AtomicBool::new(true));
        let link = self.wires.links.fetch_add(1, Ordering::Relaxed) + 1;
        let lane = Lane { frames, alive: Arc::clone(&alive), link };
        *self.wires.lanes[from].lock() = Some(lane);
        let to = Arc::clone(&self.nodes[1 - from]);
        self.runtime.spawn(async move {
            while let Some(frame) = inbox.recv().await {
                if alive.load(Ordering::Acquire) {
                    to.forward_frame(id(from), link, &frame);
                }
            }
        });
        self.nodes[from].forward_up(id(1 - from));
    }

    /// Breaks the connection of a node to the other one: what is on its way is lost.
    pub(super) fn cut(&self, from: usize) {
        let Some(lane) = self.wires.lanes[from].lock().take() else { return };
        lane.alive.store(false, Ordering::Release);
        self.nodes[from].forward_down(id(1 - from));
        self.nodes[1 - from].forward_accepted_down(id(from), lane.link);
    }

    /// So much waits to be sent from this node that nothing more is taken; or not any more.
    pub(super) fn fill(&self, from: usize, full: bool) {
        self.wires.full[from].store(full, Ordering::Release);
    }

    /// What is sent from this node from now on gets nowhere, and nobody notices.
    pub(super) fn swallow(&self, from: usize) {
        if let Some(lane) = &*self.wires.lanes[from].lock() {
            lane.alive.store(false, Ordering::Release);
        }
    }

    /// Makes a node the leader of a queue, or none, in an epoch; both nodes see other metadata from then on.
    pub(super) fn lead(&self, name: &str, leader: Option<(usize, u32)>) {
        let id = self.queue_id(0, name);
        self.wires.homes.lock().insert(id, leader);
        self.change_metadata();
    }

    /// The same, and only one node has heard of it.
    pub(super) fn lead_known_to(&self, name: &str, leader: Option<(usize, u32)>, node: usize) {
        let id = self.queue_id(0, name);
        self.wires.homes.lock().insert(id, leader);
        let queue = self.nodes[node].unique_name("touch-");
        self.client(node).declare(&queue, &FieldTable::new());
    }

    /// Changes something in the metadata of both nodes.
    pub(super) fn change_metadata(&self) {
        for node in 0..2 {
            let queue = self.nodes[node].unique_name("touch-");
            self.client(node).declare(&queue, &FieldTable::new());
        }
    }

    /// Moves a queue, empty, to the other node.
    pub(super) fn move_queue(&self, name: &str, to: usize, epoch: u32) {
        let id = self.queue_id(0, name);
        let from = &self.nodes[1 - to];
        let mut queue = from.lock_shard(from.shard_of(id)).remove(id).unwrap();
        self.wires.homes.lock().insert(id, Some((to, epoch)));
        let consumers = queue.remove_consumers();
        let there = &self.nodes[to];
        let mut moved = crate::shard::LocalQueue::new(
            id,
            Arc::clone(queue.vhost()),
            Arc::clone(queue.name()),
            queue.is_durable(),
            queue.config().clone(),
            there.now_ms(),
        );
        moved.restore_positions(epoch, 1, 1 << 20, 0);
        there.lock_shard(there.shard_of(id)).insert(moved);
        self.change_metadata();
        from.send_consumers_away(id, consumers);
    }

    /// Changes the metadata of one node.
    pub(super) fn propose(&self, node: usize, command: MetaCommand) {
        self.runtime.block_on(self.nodes[node].metadata.propose(command)).unwrap();
    }

    /// Looks at a queue of a node.
    pub(super) fn counts(&self, node: usize, name: &str) -> (u64, u64, usize) {
        let id = self.queue_id(node, name);
        let look = |queue: &crate::shard::LocalQueue| {
            (queue.ready_count(), queue.unacked_count(), queue.consumers().len())
        };
        self.nodes[node].with_queue(id, look).expect("the queue is here")
    }

    /// Waits until a queue has so many ready and unacknowledged messages and consumers.
    pub(super) fn wait_counts(&self, node: usize, name: &str, wanted: (u64, u64, usize)) {
        wait(
            || self.counts(node, name) == wanted,
            || format!("{:?}, not {wanted:?}", self.counts(node, name)),
        );
    }

    /// A client of a node.
    pub(super) fn client(&self, node: usize) -> Client {
        Client::new(self.ports[node])
    }
}

/// Waits until something is so.
pub(crate) fn wait(mut is_so: impl FnMut() -> bool, what: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{}", what());
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn start(data: &std::path::Path) -> (Arc<Node>, u16, DataDir) {
    let environment = Environment { host: "test".to_owned(), ..Environment::default() };
    let config = Config::from_text("", "", &NodeArgs::default(), &environment).unwrap();
    let place = DataDir::open(data, "rabbit@test").unwrap();
    let Storage { directory, metadata, wal, images, segments } =
        Storage::open(place, &Seat::alone("rabbit@test")).unwrap();
    let place = (Arc::clone(&metadata), ClusterView::new(metadata.view(), None));
    let alarms = Alarms::new(&config.limits, data);
    let node = Node::start(crate::start::settings(&config), alarms, place, wal, images, segments);
    bootstrap::bootstrap(&node.metadata, &config).await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = Arc::clone(&node);
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let local = stream.local_addr().unwrap();
            let socket = crate::connection::socket::Socket::Plain(stream);
            let arrived = crate::connection::Arrived { socket, peer, local, tls: None };
            tokio::spawn(crate::connection::serve(Arc::clone(&serving), arrived));
        }
    });
    (node, port, directory)
}

/// A method that came, with its content.
pub(crate) struct Event {
    method: Vec<u8>,
    properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Event {
    pub(crate) fn method(&self) -> Method<'_> {
        Method::decode(&self.method).unwrap()
    }

    /// Delivery tag, whether redelivered, body.
    pub(crate) fn delivery(&self) -> (u64, bool, &[u8]) {
        match self.method() {
            Method::BasicDeliver(deliver) => (deliver.delivery_tag, deliver.redelivered, &self.body),
            Method::BasicGetOk(got) => (got.delivery_tag, got.redelivered, &self.body),
            other => panic!("a delivery was due, not {other:?}"),
        }
    }
}

/// A client with channel 1 open.
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    pub(crate) fn new(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Client { stream, input: Vec::new() };
        client.stream.write_all(&amqp::PROTOCOL_HEADER).unwrap();
        let mut capabilities = FieldTable::new();
        capabilities.push("consumer_cancel_notify", true);
        capabilities.push("connection.blocked", true);
        let mut properties = FieldTable::new();
        properties.push("capabilities", capabilities);
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let start = connection::StartOk {
            client_properties: Table::parse(&encoded[4..]).unwrap(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        };
        client.send_on(0, &start);
        client.send_on(0, &connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 });
        client.send_on(0, &connection::Open { virtual_host: "/" });
        client.open(1);
        while !matches!(client.event().method(), Method::ChannelOpenOk(_)) {}
        client
    }

    pub(crate) fn open(&mut self, number: u16) {
        self.send_on(number, &channel::Open);
    }

    pub(crate) fn send_on<'m, M: MethodFields<'m>>(&mut self, number: u16, fields: &M) {
        let mut output = Vec::new();
        frame::write_fields(&mut output, number, fields);
        self.stream.write_all(&output).unwrap();
    }

    pub(crate) fn send<'m, M: MethodFields<'m>>(&mut self, fields: &M) {
        self.send_on(1, fields);
    }

    /// The next method, with its content if it has one.
    pub(crate) fn event(&mut self) -> Event {
        let (mut event, mut left): (Option<Event>, u64) = (None, 0);
        loop {
            let (kind, payload) = self.frame();
            match kind {
                FrameKind::Heartbeat => continue,
                FrameKind::Method => {
                    let has_content = matches!(
                        Method::decode(&payload).unwrap(),
                        Method::BasicDeliver(_) | Method::BasicGetOk(_) | Method::BasicReturn(_)
                    );
                    let new = Event { method: payload, properties: Vec::new(), body: Vec::new() };
                    if !has_content {
                        return new;
                    }
                    event = Some(new);
                    continue;
                }
                FrameKind::Header => {
                    let header = ContentHeader::decode(&payload).unwrap();
                    left = header.body_size;
                    event.as_mut().unwrap().properties = header.properties.raw().to_vec();
                }
                FrameKind::Body => {
                    left -= payload.len() as u64;
                    event.as_mut().unwrap().body.extend_from_slice(&payload);
                }
            }
            if left == 0 {
                return event.unwrap();
            }
        }
    }

    fn frame(&mut self) -> (FrameKind, Vec<u8>) {
        loop {
            if let Some((frame, size)) = frame::parse(&self.input, 131_072).unwrap() {
                let found = (frame.kind, frame.payload.to_vec());
                self.input.drain(..size);
                return found;
            }
            let mut chunk = [0; 65536];
            let read = self.stream.read(&mut chunk).expect("an answer in time");
            assert!(read > 0, "the node hung up");
            self.input.extend_from_slice(&chunk[..read]);
        }
    }

    /// Whether nothing comes for a moment although a channel answers.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.send(&basic::Qos { prefetch_size: 0, prefetch_count: 0, global: false });
        matches!(self.event().method(), Method::BasicQosOk(_))
    }

    pub(crate) fn declare(&mut self, name: &str, arguments: &FieldTable) {
        let mut encoded = Vec::new();
        arguments.encode(&mut encoded);
        let arguments = Table::parse(&encoded[4..]).unwrap();
        let auto_delete = name.starts_with("auto");
        self.send(&queue::Declare {
            queue: name,
            durable: true,
            auto_delete,
            arguments,
            ..queue::Declare::default()
        });
        assert!(matches!(self.event().method(), Method::QueueDeclareOk(_)));
    }

    /// Messages and consumers that a passive declare says.
    pub(crate) fn passive(&mut self, name: &str) -> (u32, u32) {
        self.send(&queue::Declare { queue: name, passive: true, ..queue::Declare::default() });
        match self.event().method() {
            Method::QueueDeclareOk(ok) => (ok.message_count, ok.consumer_count),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn select_confirms(&mut self) {
        self.send(&confirm::Select { nowait: false });
        assert!(matches!(self.event().method(), Method::ConfirmSelectOk(_)));
    }

    /// Publishes persistent messages to a queue.
    pub(crate) fn publish(&mut self, queue: &str, bodies: &[&[u8]]) {
        self.publish_to("", queue, bodies, &PERSISTENT);
    }

    pub(crate) fn publish_to(&mut self, exchange: &str, key: &str, bodies: &[&[u8]], properties: &[u8]) {
        let mut output = Vec::new();
        for body in bodies {
            let publish = basic::Publish { exchange, routing_key: key, ..basic::Publish::default() };
            frame::write_fields(&mut output, 1, &publish);
            frame::write_content_header(&mut output, 1, 60, body.len() as u64, properties);
            frame::write_body(&mut output, 1, body, 131_072);
        }
        self.stream.write_all(&output).unwrap();
    }

    /// Waits until so many publishes are settled. Returns those that were refused.
    pub(crate) fn confirms(&mut self, upto: u64) -> Vec<u64> {
        let (mut confirmed, mut refused) = (0, Vec::new());
        while confirmed < upto {
            match self.event().method() {
                Method::BasicAck(ack) => {
                    assert!(ack.delivery_tag > confirmed);
                    confirmed = ack.delivery_tag;
                }
                Method::BasicNack(nack) => {
                    assert!(nack.delivery_tag > confirmed);
                    confirmed = nack.delivery_tag;
                    refused.push(confirmed);
                }
                other => panic!("a confirm was due, not {other:?}"),
            }
        }
        refused
    }

    pub(crate) fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) {
        self.send(&basic::Consume { queue, consumer_tag: tag, no_ack, ..basic::Consume::default() });
        assert!(matches!(self.event().method(), Method::BasicConsumeOk(_)));
    }

    pub(crate) fn consume_with(&mut self, queue: &str, tag: &str, arguments: &FieldTable) {
        let mut encoded = Vec::new();
        arguments.encode(&mut encoded);
        let arguments = Table::parse(&encoded[4..]).unwrap();
        self.send(&basic::Consume { queue, consumer_tag: tag, arguments, ..basic::Consume::default() });
        assert!(matches!(self.event().method(), Method::BasicConsumeOk(_)));
    }

    pub(crate) fn ack(&mut self, tag: u64, multiple: bool) {
        self.send(&basic::Ack { delivery_tag: tag, multiple });
    }

    /// The next delivery: where the answer goes, body.
    pub(crate) fn delivery_with_reply_to(&mut self) -> (String, Vec<u8>) {
        let event = self.event();
        let properties = amqp::content::Properties::parse(&event.properties).unwrap();
        let address = properties.reply_to().unwrap();
        (String::from_utf8(address.to_vec()).unwrap(), event.body)
    }

    /// The next delivery: tag, whether redelivered, body.
    pub(crate) fn delivery(&mut self) -> (u64, bool, Vec<u8>) {
        let event = self.event();
        let (tag, redelivered, body) = event.delivery();
        (tag, redelivered, body.to_vec())
    }
}

/// Properties with `delivery-mode: 2` only.
const PERSISTENT: [u8; 3] = [0x10, 0, 2];
