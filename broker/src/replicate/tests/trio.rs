//! Whole nodes in one process, with real links, real logs and clients.

use crate::alarms::Alarms;
use crate::cluster::link::{LinkIdentity, LinkSettings, Links, Secret};
use crate::cluster::moves;
use crate::cluster::papers::Papers;
use crate::cluster::running::{Facts, LinkNetwork, Running, identity};
use crate::cluster::stopped::StoppedNode;
use crate::cluster::{FIRST_NODE, Seat};
use crate::config::Config;
use crate::config::cli::{Environment, NodeArgs};
use crate::forward::tests::pair::Client;
use crate::metadata::{Metadata, bootstrap};
use crate::node::Node;
use crate::shard::LocalQueue;
use crate::storage::Storage;
use amqp::table::FieldTable;
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::{ApplyTo, MetaCommand, Placement, Policy};
use broker_store::datadir::DataDir;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long something may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(40);

/// A node: its directory, its ports, and what runs of it.
struct Member {
    name: String,
    dir: TempDir,
    /// Where it listens for other nodes, and where they believe it does.
    inner: u16,
    outer: u16,
    /// Nothing that others send reaches it.
    frozen: watch::Sender<bool>,
    live: Option<Live>,
}

struct Live {
    running: Arc<Running>,
    metadata: Arc<Metadata>,
    links: Links,
    node: Arc<Node>,
    amqp: u16,
    accepting: JoinHandle<()>,
    _directory: DataDir,
}

/// Nodes A, B and C of a cluster.
pub(super) struct Trio {
    members: Vec<Member>,
    runtime: Runtime,
}

impl Member {
    fn new(name: &str) -> Member {
        Member {
            name: format!("rabbit@{name}"),
            dir: tempfile::tempdir().unwrap(),
            inner: crate::ports::free_port(),
            outer: crate::ports::free_port(),
            frozen: watch::Sender::new(false),
            live: None,
        }
    }

    fn base(&self) -> LinkIdentity {
        LinkIdentity {
            cluster_id: 0,
            generation: 0,
            node: None,
            name: self.name.clone(),
            incarnation: 0,
            addresses: vec![format!("127.0.0.1:{}", self.outer)],
            version: "0.1.0".to_owned(),
            features: 0,
            secrets: vec![Secret::new(b"COOKIE")],
            tls: None,
        }
    }

    async fn start(&mut self) {
        let data = self.dir.path().to_owned();
        moves::finish(&data).unwrap();
        let directory = DataDir::open(&data, &self.name).unwrap();
        let storage = directory.identity().storage_uuid;
        let mut papers = Papers::load(&data).unwrap();
        let mut seat = Seat::alone(&self.name);
        if let Some(papers) = &mut papers {
            papers.incarnation += 1;
            papers.save(&data).unwrap();
            seat.me = NodeId(papers.node);
            seat.joined = seat.me != FIRST_NODE;
            seat.incarnation = papers.incarnation;
        }
        let listener = TcpListener::bind(("127.0.0.1", self.inner)).await.unwrap();
        let identity = identity(self.base(), papers.as_ref(), storage, &seat);
        let links = Links::start(identity, LinkSettings::default(), listener);
        seat.network = Some(Arc::new(LinkNetwork(links.clone())));
        let opened = tokio::task::spawn_blocking(move || Storage::open(directory, &seat).unwrap());
        let Storage { directory, metadata, wal, images, segments } = opened.await.unwrap();
        let facts = Facts {
            data: data.clone(),
            storage,
            addresses: self.base().addresses,
            version: "0.1.0".to_owned(),
            serves_local: false,
            disk: None,
        };
        let running = Running::new(facts, Arc::clone(&metadata), Some(links.clone()), papers);
        tokio::time::timeout(PATIENCE, running.come_up()).await.expect("a majority hears it").unwrap();
        let environment = Environment { host: "test".to_owned(), ..Environment::default() };
        let config = Config::from_text("", "", &NodeArgs::default(), &environment).unwrap();
        let place = (Arc::clone(&metadata), running.view().clone());
        let alarms = Alarms::new(&config.limits, &data);
        let node = Node::start(crate::start::settings(&config), alarms, place, wal, images, segments);
        crate::forward::cluster::attach(&node);
        crate::replicate::attach(&node);
        bootstrap::bootstrap(&node.metadata, &config).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let amqp = listener.local_addr().unwrap().port();
        let serving = Arc::downgrade(&node);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let Some(node) = serving.upgrade() else { return };
                let local = stream.local_addr().unwrap();
                let socket = crate::connection::socket::Socket::Plain(stream);
                let arrived = crate::connection::Arrived { socket, peer, local, tls: None };
                tokio::spawn(crate::connection::serve(node, arrived));
            }
        });
        self.live = Some(Live { running, metadata, links, node, amqp, accepting, _directory: directory });
    }

    /// As if the process were killed: nobody is told, and what is not on the disk by now may never be.
    async fn kill(&mut self) {
        let Live { running, metadata, links, node, accepting, _directory, .. } = self.live.take().unwrap();
        running.kill();
        accepting.abort();
        node.close_connections(amqp::reply_code::CONNECTION_FORCED, "killed");
        links.stopped().await;
        node.close();
        let wal = node.wal.clone();
        drop((running, node));
        tokio::task::spawn_blocking(move || metadata.close()).await.unwrap();
        // Only so that the next life may open the files; a log that was not stopped would do as well.
        tokio::task::spawn_blocking(move || wal.stop()).await.unwrap().unwrap();
    }

    fn live(&self) -> &Live {
        self.live.as_ref().expect("the node runs")
    }
}

impl Trio {
    pub(super) fn new() -> Trio {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut members: Vec<Member> = ["A", "B", "C"].map(Member::new).into();
        runtime.block_on(async {
            for member in &members {
                tokio::spawn(pass_on(member.outer, member.inner, member.frozen.subscribe()));
            }
            members[0].start().await;
            let address = members[0].base().addresses;
            for member in &mut members[1..] {
                let stopped =
                    StoppedNode { identity: member.base(), witness: false, data: member.dir.path() };
                stopped.join(&address, None).await.unwrap();
                member.start().await;
            }
        });
        let trio = Trio { members, runtime };
        trio.wait("all three vote", |trio| {
            trio.members.iter().all(|it| it.live().running.council().seats().0.len() == 3)
        });
        trio
    }

    pub(super) fn node(&self, index: usize) -> &Arc<Node> {
        &self.members[index].live().node
    }

    pub(super) fn id(&self, index: usize) -> NodeId {
        self.node(index).cluster.me()
    }

    pub(super) fn client(&self, index: usize) -> Client {
        Client::new(self.members[index].live().amqp)
    }

    pub(super) fn start(&mut self, index: usize) {
        let Trio { members, runtime } = self;
        runtime.block_on(members[index].start());
    }

    pub(super) fn kill(&mut self, index: usize) {
        let Trio { members, runtime } = self;
        runtime.block_on(members[index].kill());
    }

    /// Nothing that other nodes send reaches this one, until it does again. What it sends itself arrives.
    pub(super) fn freeze(&self, index: usize, frozen: bool) {
        self.members[index].frozen.send_replace(frozen);
    }

    /// What a node has written into segments until now can not be read any more.
    pub(super) fn spoil_segments(&self, index: usize) {
        for folder in std::fs::read_dir(self.members[index].dir.path().join("seg")).unwrap() {
            for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                let file = std::fs::OpenOptions::new().write(true).open(file.unwrap().path());
                file.unwrap().set_len(0).unwrap();
            }
        }
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Has something happen beside the test.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.runtime.spawn(future)
    }

    pub(super) fn propose(&self, index: usize, command: MetaCommand) {
        self.runtime.block_on(self.node(index).metadata.propose(command)).unwrap();
    }

    /// Waits until something is so.
    pub(super) fn wait(&self, what: &str, mut is_so: impl FnMut(&Trio) -> bool) {
        let since = Instant::now();
        while !is_so(self) {
            assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn policy(&self, index: usize, definition: &str) {
        let policy = Policy {
            name: "ha".into(),
            pattern: "^q".into(),
            apply_to: ApplyTo::Queues,
            priority: 0,
            definition: definition.to_owned(),
        };
        self.propose(index, MetaCommand::SetPolicy { vhost: "/".into(), operator: false, policy });
    }

    pub(super) fn queue_id(&self, index: usize, name: &str) -> QueueId {
        let sm = self.node(index).metadata.read();
        let vhost = sm.vhost_id("/").unwrap();
        sm.queue_named(vhost, name).unwrap().id
    }

    pub(super) fn placement(&self, index: usize, queue: QueueId) -> Arc<Placement> {
        Arc::clone(self.node(index).metadata.read().placement(queue).unwrap())
    }

    /// Waits until this many nodes are in sync, as this node knows it.
    pub(super) fn wait_in_sync(&self, index: usize, queue: QueueId, nodes: usize) {
        let told = format!("{nodes} nodes are in sync");
        self.wait(&told, |trio| {
            let placement = trio.placement(index, queue);
            placement.isr.len() == nodes && placement.leader.is_some()
        });
    }

    /// Declares a queue on node A and mirrors it on all three.
    pub(super) fn mirrored(&self, name: &str) -> QueueId {
        self.policy(0, r#"{"ha-mode":"all","ha-sync-mode":"automatic"}"#);
        let mut client = self.client(0);
        client.declare(name, &FieldTable::new());
        let queue = self.queue_id(0, name);
        self.wait_in_sync(0, queue, 3);
        queue
    }

    /// Looks at what a node has of a queue, led or copied.
    pub(super) fn held<R>(
        &self,
        index: usize,
        queue: QueueId,
        look: impl FnOnce(&LocalQueue) -> R,
    ) -> Option<R> {
        let node = self.node(index);
        let mut shard = node.lock_shard(node.shard_of(queue));
        shard.held_mut(queue).map(|queue| look(queue))
    }

    /// Which of the others leads.
    pub(super) fn leader_but(&self, but: usize, queue: QueueId) -> usize {
        let mut found = None;
        self.wait("another node leads", |trio| {
            let others = (0..3).filter(|index| *index != but && trio.members[*index].live.is_some());
            found = others.into_iter().find(|index| {
                let node = trio.node(*index);
                node.lock_shard(node.shard_of(queue)).leads(queue)
            });
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            if self.members[index].live.is_some() && !std::thread::panicking() {
                self.kill(index);
            }
        }
    }
}

/// Passes connections on; while it is frozen, what comes stays where it is.
async fn pass_on(outer: u16, inner: u16, frozen: watch::Receiver<bool>) {
    let listener = TcpListener::bind(("127.0.0.1", outer)).await.unwrap();
    while let Ok((dialer, _)) = listener.accept().await {
        let frozen = frozen.clone();
        tokio::spawn(async move {
            let Ok(node) = TcpStream::connect(("127.0.0.1", inner)).await else { return };
            for stream in [&dialer, &node] {
                stream.set_nodelay(true).unwrap();
            }
            let ((from, back), (answers, to)) = (dialer.into_split(), node.into_split());
            tokio::select! {
                () = pump(from, to, frozen) => {}
                () = pump(answers, back, watch::Sender::new(false).subscribe()) => {}
            }
        });
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut frozen: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 65536];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        while *frozen.borrow_and_update() {
            if frozen.changed().await.is_err() {
                break;
            }
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
