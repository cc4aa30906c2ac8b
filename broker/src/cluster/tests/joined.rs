//! Whole members on loopback, with real links and real directories: they join, lose each other, and leave.

use super::*;
use crate::cluster::asks::Ask;
use crate::cluster::link::{LinkIdentity, LinkSettings, Links, Secret};
use crate::cluster::moves;
use crate::cluster::operator::{Refused, RefusedKind};
use crate::cluster::papers::Papers;
use crate::cluster::running::{Facts, LinkNetwork, Running, identity};
use crate::cluster::stopped::StoppedNode;
use crate::metadata::Metadata;
use broker_core::ids::QueueId;
use broker_core::meta::{BATCH_BITS, DeclareQueue, MetaCommand, MetaReply, NodeState};
use broker_store::datadir::DataDir;
use broker_store::wal::DiskWatch;
use std::time::Instant;
use tempfile::TempDir;
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(30);

/// A node: its directory, its port, and what runs of it.
struct Node {
    name: String,
    dir: TempDir,
    port: u16,
    witness: bool,
    live: Option<Live>,
}

struct Live {
    running: Arc<Running>,
    metadata: Arc<Metadata>,
    links: Links,
    _directory: DataDir,
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Node {
    fn new(name: &str) -> Node {
        // The port stays the node's own across its starts.
        let port = crate::ports::free_port();
        Node {
            name: format!("rabbit@{name}"),
            dir: tempfile::tempdir().unwrap(),
            port,
            witness: false,
            live: None,
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn base(&self) -> LinkIdentity {
        LinkIdentity {
            cluster_id: 0,
            generation: 0,
            node: None,
            name: self.name.clone(),
            incarnation: 0,
            addresses: vec![self.address()],
            version: "0.1.0".to_owned(),
            features: 0,
            secrets: vec![Secret::new(b"COOKIE")],
            tls: None,
        }
    }

    fn stopped(&self) -> StoppedNode<'_> {
        StoppedNode { identity: self.base(), witness: self.witness, data: self.dir.path() }
    }

    /// Opens it; the cluster does not know yet.
    async fn open(&mut self) -> &Live {
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
        let listener = TcpListener::bind(self.address()).await.unwrap();
        let links = Links::start(
            identity(self.base(), papers.as_ref(), storage, &seat),
            LinkSettings::default(),
            listener,
        );
        seat.network = Some(Arc::new(LinkNetwork(links.clone())));
        let raft = directory.raft();
        let options = JournalOptions::new(storage);
        let metadata = tokio::task::spawn_blocking(move || {
            Metadata::open(Arc::new(RealDisk), &raft, options, &seat).unwrap()
        });
        let metadata = Arc::new(metadata.await.unwrap());
        let facts = Facts {
            data,
            storage,
            addresses: vec![self.address()],
            version: "0.1.0".to_owned(),
            serves_local: false,
            disk: Some(DiskWatch::default()),
        };
        let running = Running::new(facts, Arc::clone(&metadata), Some(links.clone()), papers);
        self.live.insert(Live { running, metadata, links, _directory: directory })
    }

    async fn start(&mut self) {
        self.open().await;
        let up = self.running().come_up();
        tokio::time::timeout(PATIENCE, up).await.expect("a majority hears it").unwrap();
    }

    /// As if the process were killed.
    async fn kill(&mut self) {
        let Live { running, metadata, links, _directory } = self.live.take().unwrap();
        running.kill();
        links.stopped().await;
        tokio::task::spawn_blocking(move || metadata.close()).await.unwrap();
    }

    async fn stop(&mut self) {
        self.running().stop().await;
        self.kill().await;
    }

    fn running(&self) -> &Arc<Running> {
        &self.live.as_ref().unwrap().running
    }

    fn metadata(&self) -> &Metadata {
        &self.live.as_ref().unwrap().metadata
    }

    async fn put_vhost(&self, name: &str) -> Result<MetaReply, broker_core::meta::MetaError> {
        let command = MetaCommand::PutVhost {
            name: name.into(),
            description: String::new(),
            tags: Vec::new(),
            tracing: false,
            default_queue_type: None,
        };
        self.metadata().propose(command).await
    }

    fn has_vhost(&self, name: &str) -> bool {
        self.metadata().read().vhost_id(name).is_some()
    }

    fn state_of(&self, name: &str) -> Option<NodeState> {
        let members = self.running().view().members();
        members.into_iter().find(|it| *it.name == *name).map(|it| it.state)
    }

    fn voters(&self) -> usize {
        self.running().council().seats().0.len()
    }
}

/// Nodes of these names, of which the first founds the cluster and the others join.
async fn cluster<const N: usize>(names: [&str; N]) -> [Node; N] {
    let mut nodes = names.map(Node::new);
    for node in &mut nodes {
        node.witness = node.name == "rabbit@W";
    }
    nodes[0].start().await;
    let address = nodes[0].address();
    for node in &mut nodes[1..] {
        node.stopped().join(std::slice::from_ref(&address), None).await.unwrap();
        node.start().await;
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_on_any_node_is_there_on_all_and_survives_any_of_them() {
    let mut nodes = cluster(["A", "B", "C"]).await;
    until("all three vote", || (nodes[0].voters() == 3).then_some(())).await;
    for (index, name) in ["one", "two", "three"].into_iter().enumerate() {
        nodes[index].put_vhost(name).await.unwrap();
        // Not a moment later: the answer waited for all.
        assert!(nodes.iter().all(|node| node.has_vhost(name)), "{name}");
    }
    for index in 0..3 {
        nodes[index].kill().await;
        let others = [(index + 1) % 3, (index + 2) % 3];
        let name = format!("without {}", nodes[index].name);
        nodes[others[0]].put_vhost(&name).await.unwrap();
        let dead = nodes[index].name.clone();
        for other in others {
            let down = || (nodes[other].state_of(&dead) == Some(NodeState::Down)).then_some(());
            until("the others know who is dead", down).await;
        }
        nodes[index].start().await;
        assert!(nodes[index].has_vhost(&name), "a node that is up has everything from before");
        until("it is up for the others", || {
            (nodes[others[0]].state_of(&dead) == Some(NodeState::Up)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_changes_nothing_and_pauses_until_it_is_none() {
    let mut nodes = cluster(["A", "B", "W"]).await;
    until("both and the witness vote", || (nodes[0].voters() == 3).then_some(())).await;
    assert_eq!(nodes[0].running().view().paused(), None);
    nodes[1].kill().await;
    nodes[2].kill().await;
    until("it pauses", || nodes[0].running().view().paused()).await;
    let error = nodes[0].put_vhost("lonely").await.unwrap_err();
    assert!(error.to_string().contains("majority"), "{error}");
    nodes[2].start().await;
    until("it serves again", || nodes[0].running().view().paused().is_none().then_some(())).await;
    nodes[0].put_vhost("together").await.unwrap();
    nodes[1].start().await;
    assert!(nodes[1].has_vhost("together") && !nodes[1].has_vhost("lonely"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_of_a_dead_node_has_no_leader_and_gets_it_back_in_a_new_epoch() {
    let mut nodes = cluster(["A", "B", "C"]).await;
    until("all three vote", || (nodes[0].voters() == 3).then_some(())).await;
    nodes[0].put_vhost("v").await.unwrap();
    let vhost = nodes[1].metadata().read().vhost_id("v").unwrap();
    let declare = MetaCommand::DeclareQueue(DeclareQueue {
        vhost,
        name: "q".into(),
        durable: true,
        auto_delete: false,
        owner: None,
        arguments: Arc::default(),
        home: NodeId::FIRST,
        mirrors: Vec::new(),
    });
    let MetaReply::Queue { id, created: true } = nodes[1].metadata().propose(declare).await.unwrap() else {
        panic!("it is new")
    };
    let b = nodes[1].running().me();
    let Some(Home::Here { epoch }) = nodes[1].running().view().leader_of(id) else { panic!("declared on B") };
    assert_eq!(nodes[0].running().view().leader_of(id), Some(Home::At { node: b, epoch }));
    // What B published to a queue that A does not know yet is not dropped: A will know it.
    let later = QueueId(id.0 + (1 << BATCH_BITS));
    let a = nodes[0].running().me();
    assert_eq!(nodes[0].running().view().leader_of(later), Some(Home::Nowhere { last: a }));
    assert_eq!(nodes[0].running().view().leader_of(QueueId(1)), None, "it never was a queue");
    nodes[1].kill().await;
    until("nobody leads it", || {
        (nodes[0].running().view().leader_of(id) == Some(Home::Nowhere { last: b })).then_some(())
    })
    .await;
    nodes[1].start().await;
    let Some(Home::Here { epoch: after }) = nodes[1].running().view().leader_of(id) else {
        panic!("B is back")
    };
    assert!(after > epoch, "{after} after {epoch}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_hangs_leads_nothing_until_the_disk_answers() {
    let nodes = cluster(["A", "B", "C"]).await;
    until("all three vote", || (nodes[0].voters() == 3).then_some(())).await;
    let watch = nodes[0].running().facts.disk.clone().unwrap();
    let (answer, hangs) = std::sync::mpsc::channel::<()>();
    let disk = std::thread::spawn(move || watch.during(|| hangs.recv().is_err()));
    until("the others lead its queues", || {
        (nodes[1].state_of("rabbit@A") == Some(NodeState::Down)).then_some(())
    })
    .await;
    let why = until("it serves nobody", || nodes[0].running().view().paused()).await;
    assert!(why.contains("disk"), "{why}");
    drop(answer);
    assert!(disk.join().unwrap());
    until("it is back", || {
        let up = nodes[1].state_of("rabbit@A") == Some(NodeState::Up);
        (up && nodes[0].running().view().paused().is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_gets_its_own_data_back_and_who_is_dead_can_be_forgotten() {
    let mut nodes = [Node::new("A"), Node::new("B"), Node::new("C")];
    for node in &mut nodes {
        node.start().await;
    }
    nodes[1].put_vhost("of B alone").await.unwrap();
    for index in [1, 2] {
        nodes[index].stop().await;
        let address = nodes[0].address();
        nodes[index].stopped().join(&[address], None).await.unwrap();
        nodes[index].start().await;
        assert!(!nodes[index].has_vhost("of B alone"));
    }
    until("all three vote", || (nodes[0].voters() == 3).then_some(())).await;
    nodes[1].stop().await;
    nodes[1].stopped().leave(false).await.unwrap();
    until("A forgot B", || nodes[0].state_of("rabbit@B").is_none().then_some(())).await;
    nodes[1].start().await;
    assert!(nodes[1].has_vhost("of B alone"));
    until("one of two votes", || (nodes[0].voters() == 1).then_some(())).await;

    let forget = Ask::Forget { name: "rabbit@C".to_owned(), accept_loss: false };
    let refused: Refused = nodes[0].running().ask_leader(&forget, PATIENCE).await.unwrap_err();
    assert_eq!(refused.kind, RefusedKind::Invalid, "{refused}");
    nodes[2].kill().await;
    until("C is down", || (nodes[0].state_of("rabbit@C") == Some(NodeState::Down)).then_some(())).await;
    nodes[0].running().ask_leader(&forget, PATIENCE).await.unwrap();
    assert_eq!(nodes[0].state_of("rabbit@C"), None);
    nodes[0].put_vhost("alone again").await.unwrap();
    assert!(nodes[0].running().view().is_alone());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_begins_a_new_generation_and_the_old_one_stays_out() {
    let mut nodes = cluster(["A", "B", "C"]).await;
    until("all three vote", || (nodes[0].voters() == 3).then_some(())).await;
    nodes[0].put_vhost("kept").await.unwrap();
    for node in &mut nodes {
        node.kill().await;
    }
    let directory = DataDir::open(nodes[1].dir.path(), "rabbit@B").unwrap();
    nodes[1].stopped().recover(&directory).unwrap();
    drop(directory);
    nodes[1].start().await;
    assert!(nodes[1].has_vhost("kept"));
    nodes[1].put_vhost("new").await.unwrap();
    assert_eq!(nodes[1].running().view().members().len(), 1);
    nodes[0].open().await;
    let generation = |node: &Node| Papers::load(node.dir.path()).unwrap().unwrap().generation;
    assert_eq!((generation(&nodes[0]), generation(&nodes[1])), (1, 2));
    until("the old one is refused", || {
        let states = nodes[0].live.as_ref().unwrap().links.states();
        states.into_iter().find(|it| it.name == "rabbit@B" && !it.up)?.error
    })
    .await;
    assert!(!nodes[0].has_vhost("new"));
}
