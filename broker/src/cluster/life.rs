//! What an operator asks of a node's place in the cluster.
//!
//! Orders that need the node to stop or start go to the process ([`Orders`]), one after the other; the others are
//! carried out beside it.

use super::HandOver;
use super::asks::{Ask, Told};
use super::link::Links;
use super::operator::{AppState, ClusterStatus, Done, MemberStatus, Operator, Order, Refused, RefusedKind};
use super::papers::Papers;
use super::reach::Reach;
use super::running::{ASK_PATIENCE, Running};
use crate::ctl::relay::Relay;
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::cluster::{CatchingUp, catching_up, drain};
use broker_core::meta::{Member, MetaCommand, NodeState, Role};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot, watch};

/// Orders that may wait.
const INBOX: usize = 16;
/// How long the leadership of queues may take to go to others.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited for mirrors that are not told to get what they lack: they may lack nothing.
const IN_SYNC_PATIENCE: Duration = Duration::from_secs(1);
/// Queues that are handed over together: so long is none of them led.
const TOGETHER: usize = 256;
/// How often it is looked whether it has gone.
const LOOK: Duration = Duration::from_millis(20);
/// What clients are told then.
const MAINTENANCE: &str = "Node was put into maintenance mode";

/// An order, and who waits for it.
pub(crate) type Command = (Order, oneshot::Sender<Result<Done, Refused>>);

/// Where the process takes orders from.
pub(crate) type Orders = mpsc::Receiver<Command>;

/// The life of a node in its cluster, for operators. Clones are the same.
#[derive(Clone)]
pub(crate) struct Life(Arc<Inner>);

struct Inner {
    name: Mutex<String>,
    orders: mpsc::Sender<Command>,
    now: Mutex<Now>,
    /// Clients are not let in, and why.
    drained: watch::Sender<bool>,
}

/// What there is of the node now.
#[derive(Default)]
struct Now {
    app: AppState,
    running: Option<Arc<Running>>,
    papers: Option<Papers>,
}

impl Life {
    /// The life of a node that has not started yet, and its orders.
    pub(crate) fn new(name: &str) -> (Life, Orders) {
        let (orders, inbox) = mpsc::channel(INBOX);
        let now = Mutex::new(Now { app: AppState::Stopped, ..Now::default() });
        let drained = watch::Sender::new(false);
        (Life(Arc::new(Inner { name: Mutex::new(name.to_owned()), orders, now, drained })), inbox)
    }

    /// The node starts, or does so soon: it takes part in its cluster.
    pub(crate) fn set_running(&self, running: &Arc<Running>) {
        let mut now = self.0.now.lock();
        now.running = Some(Arc::clone(running));
        now.papers = None;
        self.0.drained.send_replace(running.own_state() == Some(NodeState::Drain));
    }

    /// It serves.
    pub(crate) fn set_serving(&self) {
        self.0.now.lock().app = AppState::Running;
    }

    /// It stopped; so is its place.
    pub(crate) fn set_stopped(&self, papers: Option<Papers>) {
        let mut now = self.0.now.lock();
        *now = Now { app: AppState::Stopped, running: None, papers };
    }

    /// It has another name from now on.
    pub(crate) fn rename(&self, name: &str) {
        name.clone_into(&mut self.0.name.lock());
    }

    /// Follows whether clients are kept out for maintenance.
    pub(crate) fn drained(&self) -> watch::Receiver<bool> {
        self.0.drained.subscribe()
    }

    fn running(&self) -> Result<Arc<Running>, Refused> {
        let running = self.0.now.lock().running.clone();
        running.ok_or_else(|| {
            Refused::new(RefusedKind::Stopped, "the node is stopped; start it with `rabbitmqctl start_app`")
        })
    }

    /// Has the process carry out an order.
    async fn by_process(&self, order: Order) -> Result<Done, Refused> {
        let (reply, outcome) = oneshot::channel();
        let over = || Refused::new(RefusedKind::Failed, "the node's process is ending");
        self.0.orders.send((order, reply)).await.map_err(|_| over())?;
        outcome.await.map_err(|_| over())?
    }

    async fn forget(&self, name: String, accept_loss: bool) -> Result<Done, Refused> {
        self.running()?.ask_leader(&Ask::Forget { name, accept_loss }, ASK_PATIENCE).await?;
        Ok(Done::default())
    }

    /// Goes on to its end even if nobody waits for it any more: half drained is the worst of both.
    async fn drain(&self) -> Result<Done, Refused> {
        let life = self.clone();
        let drained = tokio::spawn(async move { life.drain_whole().await }).await;
        drained.map_err(|error| Refused::new(RefusedKind::Failed, error.to_string()))?
    }

    async fn drain_whole(&self) -> Result<Done, Refused> {
        let running = self.running()?;
        let already = *self.0.drained.borrow();
        let mut remarks = Vec::new();
        let is_alone = running.view().is_alone();
        let still = || is_alone || running.own_state() == Some(NodeState::Drain);
        if !is_alone {
            self.set_state(&running, NodeState::Drain).await?;
            if let Err(left) = hand_over_queues(&running, still).await
                && still()
            {
                remarks
                    .push(format!("{left} queue(s) have no other node that could lead them, and stay here"));
            }
            if still() {
                running.hand_over_lead().await;
            }
        }
        // Now, so that what clients have published is confirmed to them first; unless it was revived meanwhile.
        let closed = self.0.drained.send_if_modified(|drained| {
            *drained = still();
            *drained
        });
        if !closed {
            remarks.push("the node was revived meanwhile".to_owned());
        }
        Ok(Done { already, remarks, ..Done::default() })
    }

    async fn revive(&self) -> Result<Done, Refused> {
        let running = self.running()?;
        if !running.view().is_alone() {
            self.set_state(&running, NodeState::Up).await?;
        }
        let was = self.0.drained.send_replace(false);
        Ok(Done { already: !was, ..Done::default() })
    }

    async fn set_state(&self, running: &Running, state: NodeState) -> Result<(), Refused> {
        let command = MetaCommand::SetNodeState { id: running.me(), state };
        let outcome = running.metadata.propose(command).await;
        outcome.map(drop).map_err(|error| Refused::new(RefusedKind::Failed, error.to_string()))
    }

    async fn token(&self, seconds: u64) -> Result<Done, Refused> {
        let running = self.running()?;
        let refused = |text: String| Refused::new(RefusedKind::Invalid, text);
        let links = running.links.as_ref().ok_or_else(|| {
            refused("this node listens for no other nodes; see [cluster] listen".to_owned())
        })?;
        running.found().await?;
        let addresses = running.facts.addresses.clone();
        let expires = SystemTime::now() + Duration::from_secs(seconds);
        // The identity of a founder is that of its data, before and after.
        let token = links.token(addresses, expires).map_err(|error| refused(error.to_string()))?;
        Ok(Done { token: Some(token.to_text()), ..Done::default() })
    }

    async fn replicas(
        &self,
        vhost: &str,
        queue: &str,
        add: Option<String>,
        remove: Option<String>,
    ) -> Result<Done, Refused> {
        let running = self.running()?;
        let unknown = |text: String| Refused::new(RefusedKind::Unknown, text);
        let command = {
            let view = running.metadata.view();
            let sm = view.read();
            let vhost_id =
                sm.vhost_id(vhost).ok_or_else(|| unknown(format!("there is no vhost '{vhost}'")))?;
            let known = sm
                .queue_named(vhost_id, queue)
                .ok_or_else(|| unknown(format!("there is no queue '{queue}' in vhost '{vhost}'")))?;
            let id = |name: &String| {
                let found = sm.members().find(|it| *it.name == **name).map(|it| it.id);
                found.ok_or_else(|| unknown(format!("there is no node '{name}' in this cluster")))
            };
            let mut replicas = known.placement.replicas.clone();
            if let Some(node) = add.as_ref().map(id).transpose()?
                && !replicas.contains(&node)
            {
                replicas.push(node);
            }
            if let Some(node) = remove.as_ref().map(id).transpose()? {
                replicas.retain(|id| *id != node);
            }
            if replicas == known.placement.replicas {
                return Ok(Done { already: true, ..Done::default() });
            }
            MetaCommand::SetReplicas { queue: known.id, cfg_ver: known.placement.cfg_ver, replicas }
        };
        let outcome = running.metadata.propose(command).await;
        outcome.map_err(|error| Refused::new(RefusedKind::Invalid, error.to_string()))?;
        Ok(Done::default())
    }
}

/// Has other nodes lead what this one leads; says how many queues have none that could.
/// Ends early when it shall not go on.
pub(super) async fn hand_over_queues(running: &Running, go_on: impl Fn() -> bool) -> Result<(), usize> {
    let began = tokio::time::Instant::now();
    loop {
        let (commands, led, behind) = {
            let view = running.metadata.view();
            let sm = view.read();
            let led =
                sm.queues().filter(|queue| queue.durable && queue.placement.leader == Some(running.me()));
            (drain(&sm, running.me()), led.count(), catching_up(&sm, running.me()))
        };
        // A node that was started a moment ago may have everything in the next one.
        let patience = match behind {
            _ if led == 0 => return Ok(()),
            Some(CatchingUp::IfNothingLacks) if commands.is_empty() => IN_SYNC_PATIENCE,
            None if commands.is_empty() => return Err(led),
            _ => DRAIN_PATIENCE,
        };
        for some in commands.chunks(TOGETHER) {
            give_away(running, some).await;
        }
        if began.elapsed() >= patience || !go_on() {
            return Err(led);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has other nodes lead some queues. What is published meanwhile waits, and is refused by nobody.
async fn give_away(running: &Running, transfers: &[MetaCommand]) {
    let queue = |command: &MetaCommand| match command {
        MetaCommand::Transfer { queue, .. } => Some(*queue),
        _ => None,
    };
    let queues: Vec<QueueId> = transfers.iter().filter_map(queue).collect();
    let held_back = running.queues().map(|all| HeldBack { all: &**all, queues });
    if let Some(HeldBack { all, queues }) = &held_back {
        all.hold_back(queues.clone()).await;
    }
    match running.metadata.propose_all(transfers.to_vec()).await {
        Ok(outcomes) => {
            for error in outcomes.into_iter().filter_map(Result::err) {
                // Copies come and go; what is left is tried again.
                tracing::info!(%error, "a queue is not handed over yet");
            }
        }
        Err(error) => tracing::warn!(%error, "queues are not handed over"),
    }
}

/// Queues that are held back until this goes, which may be because nobody waits any more for what they wait for.
struct HeldBack<'a> {
    all: &'a dyn HandOver,
    queues: Vec<QueueId>,
}

impl Drop for HeldBack<'_> {
    fn drop(&mut self) {
        self.all.go_on(&self.queues);
    }
}

impl Operator for Life {
    fn status(&self) -> ClusterStatus {
        let name = self.0.name.lock().clone();
        let now = self.0.now.lock();
        let mut status =
            ClusterStatus { node: name.clone(), app: now.app.clone(), ..ClusterStatus::default() };
        match (&now.running, &now.papers) {
            (Some(running), _) => describe(running, &mut status),
            (None, papers) => {
                let own = MemberStatus { name, ..MemberStatus::default() };
                let peers = papers.iter().flat_map(|papers| &papers.peers);
                let peers = peers.map(|peer| MemberStatus {
                    name: peer.name.clone(),
                    witness: peer.witness,
                    ..MemberStatus::default()
                });
                status.members = std::iter::once(own).chain(peers).collect();
                status.warnings.push("the node is stopped; start it with `rabbitmqctl start_app`".to_owned());
            }
        }
        status
    }

    fn carry_out(&self, order: Order) -> BoxFuture<'static, Result<Done, Refused>> {
        let life = self.clone();
        async move {
            match order {
                Order::Forget { node, accept_loss } => life.forget(node, accept_loss).await,
                Order::Drain => life.drain().await,
                Order::Revive => life.revive().await,
                Order::Token { seconds } => life.token(seconds).await,
                Order::Replicas { vhost, queue, add, remove } => {
                    life.replicas(&vhost, &queue, add, remove).await
                }
                order => life.by_process(order).await,
            }
        }
        .boxed()
    }
}

impl Relay for Life {
    fn pass_on(&self, node: String, question: Vec<u8>) -> BoxFuture<'static, Result<Bytes, String>> {
        let running = self.running();
        async move {
            let running = running.map_err(|refused| refused.text)?;
            Reach::new(&running).control(&node, &question).await
        }
        .boxed()
    }
}

/// What clients of a node in maintenance are told.
pub(crate) fn maintenance() -> &'static str {
    MAINTENANCE
}

/// What a running node knows of its cluster.
fn describe(running: &Running, status: &mut ClusterStatus) {
    if let Some(reason) = running.view().paused() {
        status.app = AppState::Paused(reason);
    }
    let members = running.members();
    let states = running.links.as_ref().map(Links::states).unwrap_or_default();
    let (voters, _) = running.council().seats();
    if members.is_empty() {
        status.members = vec![MemberStatus {
            name: status.node.clone(),
            running: true,
            vote: "voter".to_owned(),
            ..MemberStatus::default()
        }];
    }
    for member in &members {
        let vote = if voters.contains(&member.id) { "voter" } else { "learner" };
        status.members.push(MemberStatus {
            name: member.name.to_string(),
            witness: member.role == Role::Witness,
            running: member.state != NodeState::Down,
            drained: member.state == NodeState::Drain,
            vote: vote.to_owned(),
            ..MemberStatus::default()
        });
    }
    let unreachable = states.iter().filter(|link| !link.up).map(|link| link.node);
    let unreachable: BTreeSet<NodeId> = unreachable.collect();
    let named = |id: &NodeId| members.iter().find(|it| it.id == *id).map(|it| it.name.to_string());
    if let Some(own) = status.members.iter_mut().find(|it| it.name == status.node) {
        let lives = |id: &&NodeId| members.iter().any(|it| it.id == **id && it.state != NodeState::Down);
        own.partitions = unreachable.iter().filter(lives).filter_map(named).collect();
    }
    status.warnings = warnings(running, &members, &voters);
    status.warnings.extend(states.iter().filter_map(|link| {
        let text = link.error.clone().filter(|_| !link.up).or_else(|| link.warning.clone())?;
        Some(format!("link to {}: {text}", link.name))
    }));
}

/// What is wrong and what to do.
fn warnings(running: &Running, members: &[Member], voters: &BTreeSet<NodeId>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(reason) = running.view().paused() {
        warnings.push(format!(
            "this node serves no clients: {reason}; start the other nodes, or mend the network between them. If a \
             majority is lost for good, run `recover --new-generation` on one survivor"
        ));
    }
    let brokers: Vec<&Member> = members.iter().filter(|it| it.role == Role::Broker).collect();
    let name = |id: &NodeId| members.iter().find(|it| it.id == *id).map_or("?", |it| &*it.name);
    if brokers.len() == 2
        && voters.len() == 1
        && let Some(voter) = voters.first()
        && let Some(other) = brokers.iter().find(|it| it.id != *voter)
    {
        let (voter, other) = (name(voter), &other.name);
        warnings.push(format!(
            "{other} can fail; if {voter} fails, {other} pauses: add a witness (`broker witness --join {voter}`) so \
             that either can"
        ));
    }
    let down = |id: &&NodeId| members.iter().any(|it| it.id == **id && it.state == NodeState::Down);
    let lost = voters.iter().filter(down).count();
    let spare = (voters.len().max(1) - 1) / 2;
    for member in members.iter().filter(|it| it.state == NodeState::Down) {
        let critical = voters.contains(&member.id) && spare == lost;
        let more = if critical {
            "the loss of one more voter stops the cluster"
        } else {
            "the others go on without it"
        };
        warnings.push(format!(
            "{} is down: start it, or run `forget_cluster_node {}` if it never comes back; {more}",
            member.name, member.name
        ));
    }
    for member in members.iter().filter(|it| it.state == NodeState::Drain) {
        warnings.push(format!("{} is in maintenance mode; `rabbitmq-upgrade revive` ends it", member.name));
    }
    warnings
}

/// What the leader's answer to [`Ask::Join`] means for the one who asked.
pub(super) fn welcomed(told: Told, witness: bool) -> Result<Papers, Refused> {
    match told {
        Told::Welcome { node, cluster, generation, peers } => {
            Ok(Papers::new(node, cluster, generation, witness, peers))
        }
        Told::Refused(kind, text) => Err(Refused::new(kind, text)),
        Told::Elsewhere(_) => Err(Refused::new(
            RefusedKind::Unreachable,
            "no node of the cluster leads now; try again when a majority of its nodes runs",
        )),
        Told::Done => Err(Refused::new(RefusedKind::Failed, "the cluster's answer makes no sense")),
    }
}
