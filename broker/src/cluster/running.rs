//! A node's part in its cluster while the node runs: its links, its voice, its duties when it leads.
//!
//! ```text
//! beats    each node to the leader, each 250 ms: I live; answered: a majority still hears me
//! steward  the leader: who is down, who votes, who holds which queue
//! ```

use super::asks::{self, Ask, Beat, Progress, Pulse, Told};
use super::beats::{self, Beats};
use super::life::hand_over_queues;
use super::link::{Caller, Handler, Kind, Lane, LinkIdentity, Links, PeerAddress, Session};
use super::operator::{Refused, RefusedKind};
use super::papers::{FileError, Papers, Peer};
use super::steward;
use super::{ClusterView, Council, HandOver, Network, Seat, Service};
use crate::metadata::Metadata;
use broker_core::ids::NodeId;
use broker_core::meta::{Member, MetaCommand, MetaError, MetaReply, NodeState, Role};
use broker_store::wal::DiskWatch;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How long another node may take over a question about membership.
pub(super) const ASK_PATIENCE: Duration = Duration::from_secs(90);
/// How long a goodbye may take.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

/// What does not change while a node runs.
pub(crate) struct Facts {
    /// Its data directory.
    pub(crate) data: PathBuf,
    /// Identity of its data.
    pub(crate) storage: [u8; 16],
    /// Where others reach it.
    pub(crate) addresses: Vec<String>,
    /// What it runs.
    pub(crate) version: String,
    /// It serves what only it has although it hears no majority.
    pub(crate) serves_local: bool,
    /// How long the disk takes; `None` on a node without messages.
    pub(crate) disk: Option<DiskWatch>,
}

/// A node's part in its cluster.
pub(crate) struct Running {
    pub(crate) facts: Facts,
    pub(super) metadata: Arc<Metadata>,
    pub(super) view: ClusterView,
    pub(super) links: Option<Links>,
    /// What is on disk about the cluster; `None` on a node that never was in one.
    pub(super) papers: Mutex<Option<Papers>>,
    pub(super) beats: Beats,
    /// Held by whoever changes the members.
    pub(super) changing: tokio::sync::Mutex<()>,
    /// There is something to look at for the leader.
    pub(super) wake_steward: Arc<Notify>,
    /// The node's queues; a witness has none.
    queues: OnceLock<Arc<dyn HandOver>>,
    ended: watch::Sender<bool>,
}

impl Running {
    /// Puts it together and lets other nodes in.
    pub(crate) fn new(
        facts: Facts,
        metadata: Arc<Metadata>,
        links: Option<Links>,
        papers: Option<Papers>,
    ) -> Arc<Running> {
        let view = ClusterView::new(metadata.view(), links.clone());
        let running = Arc::new(Running {
            facts,
            metadata,
            view,
            links,
            papers: Mutex::new(papers),
            beats: Beats::default(),
            changing: tokio::sync::Mutex::new(()),
            wake_steward: Arc::default(),
            queues: OnceLock::new(),
            ended: watch::Sender::new(false),
        });
        if let Some(links) = &running.links {
            // Others speak as soon as they see this node, and some nodes never have queues.
            links.be_deaf();
            let post: Arc<dyn Handler> =
                Arc::new(Post { running: Arc::downgrade(&running), kind: Kind::Member });
            links.handle(Kind::Member, post);
            for kind in [Kind::Raft, Kind::Propose, Kind::Beat] {
                links.handle(kind, Arc::new(Post { running: Arc::downgrade(&running), kind }));
            }
        }
        running.note_members();
        tokio::spawn(beats::run(Arc::downgrade(&running), running.ended.subscribe()));
        tokio::spawn(beats::report(Arc::downgrade(&running), running.ended.subscribe()));
        tokio::spawn(steward::run(Arc::downgrade(&running), running.ended.subscribe()));
        running
    }

    /// The cluster as the rest of the node sees it.
    pub(crate) fn view(&self) -> &ClusterView {
        &self.view
    }

    /// Makes the node's queues known, to be given to other nodes.
    pub(crate) fn set_queues(&self, queues: Arc<dyn HandOver>) {
        // There is one node.
        let _ = self.queues.set(queues);
    }

    /// The node's queues.
    pub(super) fn queues(&self) -> Option<&Arc<dyn HandOver>> {
        self.queues.get()
    }

    /// The node's part in consensus.
    pub(crate) fn council(&self) -> &Council {
        self.metadata.council()
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.view.me()
    }

    /// Tells the cluster, if there is one, that the node has started, and waits until its state is as new as that.
    ///
    /// # Errors
    /// The cluster does not want it.
    pub(crate) async fn come_up(&self) -> Result<(), MetaError> {
        if !self.metadata.has_to_come_up() {
            return Ok(());
        }
        self.metadata.come_up(u128::from_be_bytes(self.facts.storage), Vec::new()).await?;
        self.tell_news().await;
        // Only a majority can have taken it: clients are served from the beginning.
        self.beats.in_contact(Some(Instant::now()));
        self.view.set_paused(None);
        Ok(())
    }

    /// Tells the others where this node is reached and what it runs, if they know something else.
    async fn tell_news(&self) {
        let Some(known) = self.members().into_iter().find(|it| it.id == self.me()) else { return };
        let name: Arc<str> = self.metadata.seat().name.as_str().into();
        let Facts { addresses, version, .. } = &self.facts;
        if (&known.name, &known.addresses, &known.version) == (&name, addresses, version) {
            return;
        }
        let (addresses, version) = (addresses.clone(), version.clone());
        self.propose(MetaCommand::UpdateMember { id: self.me(), name, addresses, version }).await;
    }

    /// Says goodbye, so that nobody waits for this node, and ends everything but consensus.
    pub(crate) async fn stop(&self) {
        if !self.view.is_alone() {
            self.hand_over_lead().await;
            let goodbye = Ask::Goodbye { node: self.me(), incarnation: self.view.incarnation() };
            if let Err(error) = self.ask_leader(&goodbye, GOODBYE_PATIENCE).await {
                tracing::info!(%error, "nobody heard the goodbye");
            }
        }
        self.end();
    }

    /// Has other nodes lead the queues that this one leads, as far as they have all messages, if it hears a majority.
    pub(crate) async fn give_queues_away(&self, patience: Duration) {
        if self.view.is_alone() || self.view.paused().is_some() {
            return;
        }
        let left = match timeout(patience, hand_over_queues(self, || true)).await {
            Ok(Ok(())) => return,
            Ok(Err(left)) => left.to_string(),
            Err(_) => "some".to_owned(),
        };
        tracing::info!(left, "queues were not handed over: no other node has all their messages");
    }

    /// Has another voter decide for the cluster, if this node does and there is one.
    pub(super) async fn hand_over_lead(&self) {
        let heirs = self.council().seats().0.into_iter().filter(|id| *id != self.me());
        let up = |id: &NodeId| self.links.as_ref().is_some_and(|links| links.is_up(*id));
        if self.council().standing().borrow().leads
            && let Some(heir) = heirs.into_iter().find(up)
            && let Err(error) = self.council().hand_over(heir).await
        {
            tracing::info!(%error, "the lead was not handed over");
        }
    }

    /// How long the disk has been at work on one thing.
    pub(super) fn disk_age(&self) -> Duration {
        self.facts.disk.as_ref().map(DiskWatch::age).unwrap_or_default()
    }

    fn end(&self) {
        self.ended.send_replace(true);
        if let Some(links) = &self.links {
            links.disconnect();
        }
    }

    /// Ends without a word.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.end();
    }

    /// Asks whoever leads; answers itself if it is this node.
    pub(super) async fn ask_leader(&self, ask: &Ask, patience: Duration) -> Result<Told, Refused> {
        let deadline = tokio::time::Instant::now() + patience;
        let unreachable = |text: String| Refused::new(RefusedKind::Unreachable, text);
        let mut why = "no majority of the cluster's nodes answers".to_owned();
        loop {
            let standing = *self.council().standing().borrow();
            if standing.leads {
                match steward::answer(self, ask.clone()).await {
                    Told::Elsewhere(_) => {}
                    told => return refusal(told),
                }
            } else if let (Some(leader), Some(links)) = (standing.leader, &self.links) {
                let octets = asks::encode(ask).map_err(unreachable)?;
                match links.call(leader, Lane::Control, Kind::Member, octets, patience).await {
                    Ok(octets) => match asks::decode(&octets).map_err(unreachable)? {
                        Told::Elsewhere(_) => {}
                        told => return refusal(told),
                    },
                    Err(error) => why = error.to_string(),
                }
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(unreachable(why));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All members, this node among them.
    pub(super) fn members(&self) -> Vec<Member> {
        self.view.members()
    }

    /// Other nodes than these are members now: links follow, and the papers on disk.
    pub(super) fn note_members(&self) {
        let members = self.members();
        let others = members.iter().filter(|member| member.id != self.me());
        let mut peers: Vec<Peer> = others.map(Peer::from).collect();
        let mut papers = self.papers.lock();
        if members.is_empty() || !self.metadata.is_caught_up() {
            // The state of a node that has not heard of the leader yet is older than what it knew when it ran last, or
            // was told when it joined: without the members that it lacks there may be no majority.
            let known = papers.iter().flat_map(|papers| papers.peers.clone());
            let missing: Vec<Peer> =
                known.filter(|peer| peers.iter().all(|it| it.node != peer.node)).collect();
            peers.extend(missing);
        }
        if let Some(links) = &self.links {
            links.set_peers(peers.iter().map(address_of).collect());
        }
        if let Some(papers) = papers.as_mut().filter(|papers| papers.peers != peers) {
            papers.peers = peers;
            if let Err(error) = papers.save(&self.facts.data) {
                tracing::error!(%error, "the members of the cluster were not written down");
            }
        }
    }

    /// Makes a cluster of this node, if it is none yet.
    pub(super) async fn found(&self) -> Result<(), Refused> {
        let failed = |text: String| Refused::new(RefusedKind::Failed, text);
        if !self.members().is_empty() {
            return Ok(());
        }
        let storage = self.facts.storage;
        let written = || -> Result<(), FileError> {
            let mut papers = self.papers.lock();
            let new = papers.take().unwrap_or_else(|| Papers::founder(storage));
            new.save(&self.facts.data)?;
            *papers = Some(new);
            Ok(())
        };
        written().map_err(|error| failed(error.to_string()))?;
        let name: Arc<str> = self.metadata.seat().name.as_str().into();
        let addresses = self.facts.addresses.clone();
        let role = Role::Broker;
        let add = MetaCommand::AddMember { name, addresses, role, version: self.facts.version.clone() };
        match self.metadata.propose(add).await {
            Ok(MetaReply::Member(id)) if id == self.me() => {}
            Ok(other) => {
                return Err(failed(format!("this node can not be a member of its own cluster: {other:?}")));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
        let incarnation = self.view.incarnation();
        let storage = u128::from_be_bytes(storage);
        let up = MetaCommand::NodeUp { id: self.me(), incarnation, storage, lost: Vec::new() };
        self.metadata.propose(up).await.map(drop).map_err(|error| failed(error.to_string()))
    }

    /// The cluster's identity and generation.
    pub(super) fn cluster(&self) -> (u128, u64) {
        let papers = self.papers.lock();
        let founder = || Papers::founder(self.facts.storage);
        papers
            .as_ref()
            .map_or_else(|| (founder().cluster(), 1), |papers| (papers.cluster(), papers.generation))
    }

    /// Has the leader carry out a command that another node may have made unnecessary.
    pub(super) async fn propose(&self, command: MetaCommand) {
        if let Err(error) = self.metadata.propose(command).await {
            tracing::debug!(%error, "not carried out");
        }
    }

    /// What the metadata says of this node.
    pub(super) fn own_state(&self) -> Option<NodeState> {
        let view = self.metadata.view();
        let sm = view.read();
        sm.member(self.me()).map(|member| member.state)
    }
}

/// What was refused as an error.
pub(super) fn refusal(told: Told) -> Result<Told, Refused> {
    match told {
        Told::Refused(kind, text) => Err(Refused::new(kind, text)),
        told => Ok(told),
    }
}

fn address_of(peer: &Peer) -> PeerAddress {
    let Peer { node, name, addresses, .. } = peer.clone();
    PeerAddress { node: NodeId(node), name, addresses }
}

/// Takes what other nodes send.
struct Post {
    running: Weak<Running>,
    kind: Kind,
}

impl Handler for Post {
    fn on_up(&self, peer: NodeId, _session: Session) {
        if let (Kind::Beat, Some(running)) = (self.kind, self.running.upgrade()) {
            beats::peer_is_up(&running, peer);
        }
    }

    fn on_down(&self, peer: NodeId, _session: Session) {
        self.on_unreached(peer);
    }

    fn on_unreached(&self, peer: NodeId) {
        if let (Kind::Beat, Some(running)) = (self.kind, self.running.upgrade()) {
            tokio::spawn(beats::peer_is_down(running, peer));
        }
    }

    fn on_frame(&self, from: NodeId, _session: Session, payload: Bytes) {
        if let (Kind::Beat, Some(running)) = (self.kind, self.running.upgrade()) {
            match asks::decode::<Progress>(&payload) {
                Ok(progress) => running.metadata.note_applied(from, progress.applied),
                Err(error) => tracing::warn!(%from, %error, "a heartbeat makes no sense"),
            }
        }
    }

    fn on_call(&self, caller: Caller, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let (running, kind) = (self.running.upgrade(), self.kind);
        Box::pin(async move {
            let running = running.ok_or("the node stops")?;
            match kind {
                Kind::Raft => running.council().answer(payload).await,
                Kind::Propose => running.metadata.answer(payload).await,
                Kind::Beat => {
                    let node = caller.who.node.ok_or("a node without a number has no heart")?;
                    let pulse: Pulse = beats::heard(&running, node, asks::decode::<Beat>(&payload)?);
                    asks::encode(&pulse)
                }
                _ => {
                    let ask: Ask = asks::decode(&payload)?;
                    if let Err(text) = steward::may_ask(&caller, &ask) {
                        return asks::encode(&Told::Refused(RefusedKind::Invalid, text));
                    }
                    asks::encode(&steward::answer(&running, ask).await)
                }
            }
        })
    }
}

/// Links as consensus and metadata use them.
pub(crate) struct LinkNetwork(pub(crate) Links);

impl Network for LinkNetwork {
    fn call(
        &self,
        to: NodeId,
        service: Service,
        request: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let links = self.0.clone();
        let (lane, kind) = match service {
            Service::Consensus => (Lane::Control, Kind::Raft),
            Service::Snapshot => (Lane::Bulk, Kind::Raft),
            Service::Propose => (Lane::Control, Kind::Propose),
        };
        Box::pin(async move {
            links.call(to, lane, kind, request, patience).await.map_err(|error| error.to_string())
        })
    }
}

/// How a node presents itself to others, by its papers.
pub(crate) fn identity(
    base: LinkIdentity,
    papers: Option<&Papers>,
    storage: [u8; 16],
    seat: &Seat,
) -> LinkIdentity {
    let founder = Papers::founder(storage);
    let papers = papers.unwrap_or(&founder);
    LinkIdentity {
        cluster_id: papers.cluster(),
        generation: papers.generation,
        node: Some(seat.me),
        incarnation: seat.incarnation,
        ..base
    }
}
