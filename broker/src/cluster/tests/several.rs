//! Several nodes, whose requests go from memory to memory as long as nobody cuts the link between them.

use super::*;
use futures_util::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// All links.
#[derive(Default)]
struct Hub {
    councils: Mutex<BTreeMap<NodeId, Council>>,
    /// Nodes that nobody can talk to.
    cut: Mutex<BTreeSet<NodeId>>,
    /// Octets of snapshots that were sent.
    snapshots: Mutex<u64>,
}

/// The links of one node.
struct Wires {
    from: NodeId,
    hub: Arc<Hub>,
}

impl Network for Wires {
    fn call(
        &self,
        to: NodeId,
        service: Service,
        request: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let cut = self.hub.cut.lock();
        let council = self.hub.councils.lock().get(&to).cloned();
        if service == Service::Snapshot {
            *self.hub.snapshots.lock() += request.len() as u64;
        }
        match council {
            Some(council) if !cut.contains(&to) && !cut.contains(&self.from) => {
                async move { council.answer(request).await }.boxed()
            }
            _ => async { Err("cut".to_owned()) }.boxed(),
        }
    }
}

/// A node while it runs.
struct Running {
    consensus: Consensus,
    notes: Arc<Notes>,
}

/// Nodes and their directories.
#[derive(Default)]
struct Group {
    hub: Arc<Hub>,
    directories: BTreeMap<NodeId, TempDir>,
    running: BTreeMap<NodeId, Running>,
}

impl Group {
    async fn start(&mut self, id: NodeId) {
        let directory = self.directories.entry(id).or_insert_with(|| tempfile::tempdir().unwrap());
        let (log, notes) = open(directory.path());
        let network: Arc<dyn Network> = Arc::new(Wires { from: id, hub: Arc::clone(&self.hub) });
        let joined = id != FIRST_NODE;
        let seat =
            Seat { me: id, name: format!("rabbit@{id}"), joined, incarnation: 1, network: Some(network) };
        let machine: Arc<dyn Machine> = Arc::<Notes>::clone(&notes);
        let consensus = Consensus::start(&seat, log, machine).await.unwrap();
        self.hub.councils.lock().insert(id, consensus.council().clone());
        self.running.insert(id, Running { consensus, notes });
    }

    async fn stop(&mut self, id: NodeId) {
        self.hub.councils.lock().remove(&id);
        let Running { consensus, notes: _ } = self.running.remove(&id).unwrap();
        let writer = consensus.stop().await;
        tokio::task::spawn_blocking(|| writer.join().unwrap()).await.unwrap();
    }

    fn council(&self, id: NodeId) -> &Council {
        self.running[&id].consensus.council()
    }

    fn commands(&self, id: NodeId) -> Vec<String> {
        self.running[&id].notes.commands.lock().clone()
    }

    /// The node that leads and can write.
    async fn leader(&self) -> NodeId {
        until("somebody leads", || {
            let cut = self.hub.cut.lock();
            self.running
                .iter()
                .find(|(id, it)| {
                    !cut.contains(id)
                        && it.consensus.council().leads().is_some()
                        && it
                            .consensus
                            .council()
                            .majority_age()
                            .is_some_and(|age| age < Duration::from_millis(600))
                })
                .map(|(id, _)| *id)
        })
        .await
    }

    /// Writes on whoever leads, as often as it takes.
    async fn write(&self, command: &str) {
        loop {
            let leader = self.leader().await;
            match write(self.council(leader), command).await {
                Ok(()) => return,
                Err(WriteError::LostLead(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn all_have(&self, ids: &[NodeId], commands: &[&str]) {
        for id in ids {
            until(&format!("node {id} has {commands:?}"), || (self.commands(*id) == commands).then_some(()))
                .await;
        }
    }
}

async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let since = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);

/// Three voters, founded by A with one command.
async fn three() -> Group {
    let mut group = Group::default();
    group.start(A).await;
    group.write("one").await;
    for id in [B, C] {
        group.start(id).await;
        group.council(A).add_learner(id, &format!("rabbit@{id}")).await.unwrap();
        until("the learner has everything", || (group.council(A).lag(id) == Some(0)).then_some(())).await;
    }
    group.council(A).set_voters(BTreeSet::from([A, B, C])).await.unwrap();
    group.all_have(&[A, B, C], &["one"]).await;
    group
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_the_others_go_on_and_it_catches_up() {
    let mut group = three().await;
    let mut all = vec!["one".to_owned()];
    for id in [A, B, C] {
        group.stop(id).await;
        let command = format!("without {id}");
        group.write(&command).await;
        all.push(command);
        group.start(id).await;
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        group.all_have(&[A, B, C], &all).await;
    }
    for id in [A, B, C] {
        group.stop(id).await;
    }
    for id in [A, B, C] {
        group.start(id).await;
    }
    group.write("last").await;
    all.push("last".to_owned());
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    group.all_have(&[A, B, C], &all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_majority_writes_nothing_and_learns_of_the_next_one() {
    let group = three().await;
    let old = group.leader().await;
    group.hub.cut.lock().insert(old);
    let council = group.council(old).clone();
    let lonely = tokio::spawn(async move { write(&council, "lonely").await });
    group.write("together").await;
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|id| *id != old).collect();
    group.all_have(&others, &["one", "together"]).await;
    assert_eq!(group.commands(old), ["one"]);
    group.hub.cut.lock().clear();
    group.all_have(&[A, B, C], &["one", "together"]).await;
    let outcome = lonely.await.unwrap();
    assert!(matches!(outcome, Err(WriteError::LostLead(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lacks_much_gets_a_snapshot() {
    let mut group = three().await;
    group.council(A).snapshot_now(PATIENCE).await.unwrap();
    group.stop(C).await;
    let large = "x".repeat(3 << 20);
    group.write(&large).await;
    let leader = group.leader().await;
    group.council(leader).snapshot_now(PATIENCE).await.unwrap();
    let before = *group.hub.snapshots.lock();
    group.write("after").await;
    group.start(C).await;
    group.all_have(&[A, B, C], &["one", &large, "after"]).await;
    assert!(*group.hub.snapshots.lock() > before + (3 << 20));
    group.stop(C).await;
    group.start(C).await;
    group.all_have(&[C], &["one", &large, "after"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lacks_little_gets_no_more_than_that_though_there_is_a_snapshot() {
    let mut group = three().await;
    group.stop(C).await;
    group.write("two").await;
    let leader = group.leader().await;
    group.council(leader).take_snapshot(PATIENCE).await.unwrap();
    group.write("three").await;
    let before = *group.hub.snapshots.lock();
    group.start(C).await;
    group.all_have(&[A, B, C], &["one", "two", "three"]).await;
    assert_eq!(*group.hub.snapshots.lock(), before, "the log was enough");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_leader_is_gone_for_sure_nobody_waits_for_its_lease() {
    let mut group = three().await;
    let old = group.leader().await;
    group.stop(old).await;
    let others: Vec<NodeId> = [A, B, C].into_iter().filter(|id| *id != old).collect();
    let since = std::time::Instant::now();
    let replace: Vec<bool> = others.iter().map(|id| group.council(*id).is_gone(old)).collect();
    assert_eq!(replace, [true, true]);
    group.council(others[0]).elect().await.unwrap();
    assert_eq!(group.leader().await, others[0]);
    // The lease alone is longer than an election without it can take; seen in the term, not by the clock.
    tracing::info!(elapsed = ?since.elapsed(), "elected");
    group.write("two").await;
    group.start(old).await;
    group.council(others[0]).is_back(old);
    group.all_have(&[A, B, C], &["one", "two"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_voter_goes_on_without_its_learner_and_a_removed_node_gets_nothing() {
    let mut group = Group::default();
    group.start(A).await;
    group.start(B).await;
    group.council(A).add_learner(B, "rabbit@2").await.unwrap();
    group.write("one").await;
    group.all_have(&[A, B], &["one"]).await;
    assert_eq!(group.council(A).seats(), ([A].into(), [B].into()));
    group.stop(B).await;
    group.write("two").await;
    group.stop(A).await;
    group.start(A).await;
    group.start(B).await;
    group.all_have(&[A, B], &["one", "two"]).await;
    group.council(A).remove(B).await.unwrap();
    group.write("three").await;
    assert_eq!(group.commands(B), ["one", "two"]);
    assert_eq!(group.council(A).seats(), ([A].into(), BTreeSet::new()));
}
