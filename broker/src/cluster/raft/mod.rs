//! The library that decides: openraft. No other folder may name it.
//!
//! It is given a log ([`disk::LogStore`]), a state machine ([`disk::StateMachine`]) and a way to other nodes
//! ([`links::Links`]). What is on disk and on the wire is ours ([`broker_store::raft_log`], [`super::rpc`]);
//! [`convert`] turns its types and the library's into each other.

mod convert;
mod disk;
mod links;

use super::rpc::{self, Answer, Request};
use super::writer::Writer;
use super::{
    BYTES_BEHIND_SNAPSHOT, BYTES_PER_SNAPSHOT, ENTRIES_BEHIND_SNAPSHOT, ENTRIES_PER_SNAPSHOT, Machine, Seat,
    Standing, StartError, WriteError,
};
use broker_core::ids::NodeId;
use broker_store::raft_log::{self as store, RaftLog, SnapshotHead};
use bytes::Bytes;
use convert::{
    our_place, our_vote, stored_members, stored_membership, their_entry, their_id, their_place, their_vote,
};
use disk::{LogStore, SnapshotData, StateMachine};
use links::Links;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ClientWriteResult, TransferLeaderRequest, VoteRequest,
};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::{
    BasicNode, ChangeMembers, Config, Instant as _, Membership, Raft, RaftMetrics, SnapshotPolicy,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Its name in the log of the daemon.
pub(crate) const LIBRARY: &str = "openraft";

/// How long a start may take to carry out what is in the log.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(600);

/// How long a vote may wait until it is known whether the leader's process is gone.
const SUSPICION: Duration = Duration::from_millis(150);
/// How often that is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

openraft::declare_raft_types!(
    /// The types that consensus works with.
    Types: D = Command, R = (), Node = BasicNode
);

/// Something for the state machine.
#[derive(Debug, Clone)]
struct Command(Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.0.len())
    }
}

/// This node's part in consensus. Lives on the runtime that started it.
pub(crate) struct Consensus {
    council: Council,
    writer: JoinHandle<()>,
}

/// What others may ask consensus for; they share it.
#[derive(Clone)]
pub(crate) struct Council {
    me: u64,
    raft: Raft<Types, StateMachine>,
    log: Arc<RaftLog>,
    standing: watch::Receiver<Standing>,
    applied: watch::Receiver<Applied>,
    incoming: Arc<Mutex<Incoming>>,
}

/// The last entry that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Applied {
    /// The term of the leader that made it.
    pub(crate) term: u64,
    /// Its place.
    pub(crate) index: u64,
}

/// What came from other nodes and is not used up.
#[derive(Default)]
struct Incoming {
    /// A snapshot of which parts are missing: whose, its last entry, its octets so far.
    snapshot: Option<(rpc::Ballot, Option<rpc::Place>, Vec<u8>)>,
    /// Nodes whose process is gone for sure: what they lead is up for election at once.
    gone: BTreeSet<u64>,
    /// Nodes of which it is being found out.
    suspected: BTreeSet<u64>,
}

impl Consensus {
    /// Takes part with what is in `log`; founds a cluster of one if nothing is and the node has not joined one.
    /// Returns, in a cluster of one, when the state machine, which has the state of the log's snapshot, has
    /// caught up with the log; in a larger one at once.
    pub(crate) async fn start(
        seat: &Seat,
        log: RaftLog,
        machine: Arc<dyn Machine>,
    ) -> Result<Consensus, StartError> {
        let refused = |error: &dyn fmt::Display| StartError::Raft(error.to_string());
        let log = Arc::new(log);
        let (writer, thread) = Writer::start(Arc::clone(&log), Arc::clone(&machine))?;
        let store = LogStore { log: Arc::clone(&log), writer };
        let (applying, applied) = watch::channel(Applied::default());
        let state = StateMachine::new(store.clone(), machine, applying).map_err(|error| refused(&error))?;
        let config = config().validate().map_err(|error| refused(&error))?;
        let me = seat.me.0;
        let links = Links { network: seat.network.clone(), log: Arc::clone(&log) };
        let raft =
            Raft::new(me, Arc::new(config), links, store, state).await.map_err(|error| refused(&error))?;
        let standing = follow(&raft, me, Arc::clone(&log));
        let council =
            Council { me, raft, log, standing, applied, incoming: Arc::new(Mutex::new(Incoming::default())) };
        council.begin(seat).await.map_err(|error| refused(&error))?;
        Ok(Consensus { council, writer: thread })
    }

    /// What others may ask it for.
    pub(crate) fn council(&self) -> &Council {
        &self.council
    }

    /// Ends it. The log is closed when the runtime's tasks and the thread returned are gone.
    pub(crate) async fn stop(self) -> JoinHandle<()> {
        if let Err(error) = self.council.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        self.writer
    }
}

/// Follows who leads, has time pass only while there are other nodes, and forgets what of the log a snapshot
/// includes: on a node alone all, in a cluster what lies so far back that a node that was away is sent a snapshot.
fn follow(raft: &Raft<Types, StateMachine>, me: u64, log: Arc<RaftLog>) -> watch::Receiver<Standing> {
    let mut metrics = raft.metrics();
    let (sender, follower) = watch::channel(standing(&metrics.borrow_watched(), me));
    // It must not keep consensus alive; the task ends when the sender of the metrics is gone.
    let handle = raft.clone();
    tokio::spawn(async move {
        let mut looked = (None, true);
        loop {
            let (now, snapshot) = {
                let metrics = metrics.borrow_watched();
                (standing(&metrics, me), metrics.snapshot.as_ref().map(|id| id.index))
            };
            handle.runtime_config().tick(now.nodes > 1);
            sender.send_if_modified(|known| std::mem::replace(known, now) != now);
            let alone = now.nodes <= 1;
            if std::mem::replace(&mut looked, (snapshot, alone)) != (snapshot, alone) {
                let kept = if alone { (0, 0) } else { (ENTRIES_BEHIND_SNAPSHOT, BYTES_BEHIND_SNAPSHOT) };
                let last = snapshot.and_then(|last| log.forgettable(last, kept));
                if let Some(last) = last
                    && handle.trigger().purge_log(last).await.is_err()
                {
                    return;
                }
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    });
    follower
}

fn standing(metrics: &RaftMetrics<Types>, me: u64) -> Standing {
    let membership = metrics.membership_config.membership();
    Standing {
        leader: metrics.current_leader.map(NodeId),
        term: metrics.current_term,
        leads: metrics.current_leader == Some(me) && metrics.state.is_leader(),
        nodes: membership.nodes().count(),
        votes: membership.voter_ids().any(|id| id == me),
        voters: membership.voter_ids().collect::<BTreeSet<u64>>().len(),
        ended: metrics.running_state.is_err(),
    }
}

impl Council {
    async fn begin(&self, seat: &Seat) -> Result<(), String> {
        let error = |error: &dyn fmt::Display| error.to_string();
        if !self.raft.is_initialized().await.map_err(|it| error(&it))? {
            if seat.joined {
                // The leader brings what there is.
                return Ok(());
            }
            let members = BTreeMap::from([(self.me, BasicNode::new(&seat.name))]);
            self.raft.initialize(members).await.map_err(|it| error(&it))?;
        } else if self.only_voter() {
            // Without ticks nobody else would begin: a leader of before is a leader only in a new term.
            self.raft.trigger().elect(false).await.map_err(|it| error(&it))?;
        } else {
            return Ok(());
        }
        let recovered = async {
            self.raft.wait(Some(RECOVERY_PATIENCE)).current_leader(self.me, "leads").await?;
            self.raft.wait_for_recovery(Some(RECOVERY_PATIENCE)).await
        };
        recovered.await.map(drop).map_err(|it| error(&it))
    }

    fn only_voter(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().voter_ids().all(|id| id == self.me)
    }

    /// Who leads, as far as this node knows; it is told of changes.
    pub(crate) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// How far entries are carried out here; it is told of changes.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.clone()
    }

    /// Whether this node leads and has carried out everything that earlier leaders had agreed.
    pub(crate) fn leads(&self) -> Option<u64> {
        let standing = *self.standing.borrow();
        (standing.leads && self.applied.borrow().term == standing.term).then_some(standing.term)
    }

    /// How long ago, at most, a majority answered to this node as its leader. `None`: it does not lead.
    pub(crate) fn majority_age(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if !metrics.state.is_leader() {
            return None;
        }
        if metrics.membership_config.membership().voter_ids().all(|id| id == self.me) {
            return Some(Duration::ZERO);
        }
        metrics.last_quorum_acked.map(|at| at.into_inner().elapsed())
    }

    /// Has a command carried out that was planned in `term` by this node as leader; when it returns, it was.
    ///
    /// # Errors
    /// It was not, or nobody knows.
    pub(crate) async fn write(&self, term: u64, command: Vec<u8>) -> Result<(), WriteError> {
        let failed = |error: &dyn fmt::Display| WriteError::Failed(error.to_string());
        let (responder, outcome) = ProgressResponder::<Types, ClientWriteResult<Types>>::complete_only();
        let leader = LeaderId { term, node_id: self.me };
        let write = self.raft.write(Command(command.into())).with_leader(leader).responder(responder);
        write.await.map_err(|error| failed(&error))?;
        match outcome.await {
            Ok(Ok(_)) => {}
            Ok(Err(
                error @ (ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_)),
            )) => {
                return Err(WriteError::LostLead(error.to_string()));
            }
            Ok(Err(error)) => return Err(failed(&error)),
            // What ended it is known by now.
            Err(_) => return Err(failed(&self.ended())),
        }
        self.snapshot_when_due().await
    }

    fn ended(&self) -> String {
        match &self.raft.metrics().borrow_watched().running_state {
            Ok(()) => "consensus has ended".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Takes a snapshot if enough was written since the last one.
    pub(crate) async fn snapshot_when_due(&self) -> Result<(), WriteError> {
        let (entries, octets) = self.log.since_snapshot();
        if entries >= ENTRIES_PER_SNAPSHOT || octets >= BYTES_PER_SNAPSHOT {
            // One that is being made is not made twice. What goes wrong ends the node.
            let asked = self.raft.trigger().snapshot().await;
            asked.map_err(|error| WriteError::Failed(error.to_string()))?;
        }
        Ok(())
    }

    /// Takes a snapshot with everything that is carried out by now, and waits for it. From then on it is the only
    /// way to know what was before.
    pub(crate) async fn snapshot_now(&self, patience: Duration) -> Result<(), String> {
        let index = self.take_snapshot(patience).await?;
        self.raft.trigger().purge_log(index).await.map_err(|error| error.to_string())?;
        let forgot =
            |metrics: &RaftMetrics<Types>| metrics.purged.as_ref().is_some_and(|id| id.index >= index);
        let waited = self.raft.wait(Some(patience)).metrics(forgot, "only the snapshot has it").await;
        waited.map(drop).map_err(|error| error.to_string())
    }

    /// Takes a snapshot with everything that is carried out by now, and waits for it; returns the place of that.
    pub(super) async fn take_snapshot(&self, patience: Duration) -> Result<u64, String> {
        let index = self.applied.borrow().index;
        self.raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
        let has =
            |metrics: &RaftMetrics<Types>| metrics.snapshot.as_ref().is_some_and(|id| id.index >= index);
        let waited = self.raft.wait(Some(patience)).metrics(has, "snapshot").await;
        waited.map(|_| index).map_err(|error| error.to_string())
    }

    /// Adds a node that gets everything and votes not yet.
    pub(crate) async fn add_learner(&self, id: NodeId, name: &str) -> Result<(), String> {
        let added = self.raft.add_learner(id.0, BasicNode::new(name), false).await;
        added.map(drop).map_err(|error| error.to_string())
    }

    /// Makes exactly these nodes voters; the others stay as learners.
    pub(crate) async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), String> {
        let voters = voters.into_iter().map(|id| id.0).collect();
        let changed = self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await;
        changed.map(drop).map_err(|error| error.to_string())
    }

    /// Takes a node out that votes no more.
    pub(crate) async fn remove(&self, id: NodeId) -> Result<(), String> {
        let nodes = BTreeSet::from([id.0]);
        let changed = self.raft.change_membership(ChangeMembers::RemoveNodes(nodes), true).await;
        changed.map(drop).map_err(|error| error.to_string())
    }

    /// Who votes, who does not, as this node knows it.
    pub(crate) fn seats(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().map(NodeId).collect();
        let nodes = membership.nodes().map(|(id, _)| NodeId(*id));
        let learners = nodes.filter(|id| !voters.contains(id)).collect();
        (voters, learners)
    }

    /// How many entries a node lacks; `None` while this node does not lead or knows nothing of that one.
    pub(crate) fn lag(&self, id: NodeId) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?.get(&id.0)?.as_ref()?.index;
        Some(metrics.last_log_index?.saturating_sub(matched))
    }

    /// Has another node lead.
    pub(crate) async fn hand_over(&self, to: NodeId) -> Result<(), String> {
        self.raft.trigger().transfer_leader(to.0).await.map_err(|error| error.to_string())
    }

    /// A node's process is there, again or still.
    pub(crate) fn is_back(&self, id: NodeId) {
        let mut incoming = self.incoming.lock();
        incoming.gone.remove(&id.0);
        incoming.suspected.remove(&id.0);
    }

    /// Whether a node's process is gone is being found out: who asks for a vote meanwhile waits for that. `false`: it is
    /// already.
    pub(crate) fn may_be_gone(&self, id: NodeId) -> bool {
        self.incoming.lock().suspected.insert(id.0)
    }

    /// A node's process is gone for sure. Says whether it was the leader that a majority has to replace.
    pub(crate) fn is_gone(&self, id: NodeId) -> bool {
        let mut incoming = self.incoming.lock();
        incoming.gone.insert(id.0);
        incoming.suspected.remove(&id.0);
        drop(incoming);
        let standing = *self.standing.borrow();
        standing.votes && standing.leader == Some(id)
    }

    /// Asks for the votes of the others, whatever they think of the leader of now.
    pub(crate) async fn elect(&self) -> Result<(), String> {
        self.raft.trigger().elect(false).await.map_err(|error| error.to_string())
    }

    /// The place in the log of the first entry that is kept.
    #[cfg(test)]
    pub(super) fn log_begins(&self) -> u64 {
        self.log.ends().0.map_or(0, |id| id.index + 1)
    }

    /// Answers another node.
    ///
    /// # Errors
    /// What it sent makes no sense, or consensus has ended.
    pub(crate) async fn answer(&self, octets: Bytes) -> Result<Bytes, String> {
        let (request, part) = rpc::read_request(&octets)?;
        let answer = match request {
            Request::Append { vote, before, entries, committed } => {
                let entries = entries.into_iter().map(|item| their_entry(item.into()));
                let request = AppendEntriesRequest {
                    vote: their_vote(vote),
                    prev_log_id: before.map(their_place),
                    entries: entries.collect::<io::Result<_>>().map_err(|error| error.to_string())?,
                    leader_commit: committed.map(their_place),
                };
                match self.raft.append_entries(request).await.map_err(|error| error.to_string())? {
                    AppendEntriesResponse::Success => Answer::Appended,
                    AppendEntriesResponse::PartialSuccess(to) => {
                        Answer::AppendedTo(to.as_ref().map(our_place))
                    }
                    AppendEntriesResponse::Conflict => Answer::Conflict,
                    AppendEntriesResponse::HigherVote(vote) => Answer::Outvoted(our_vote(&vote)),
                }
            }
            Request::Vote { asks_first, vote, last, handed_over } => {
                let gone = self.leader_is_gone().await;
                let mut request = VoteRequest::new(their_vote(vote), last.map(their_place));
                request.leadership_transfer = handed_over || gone;
                let asked = if asks_first {
                    self.raft.pre_vote(request).await
                } else {
                    self.raft.vote(request).await
                };
                let voted = asked.map_err(|error| error.to_string())?;
                Answer::Vote {
                    vote: our_vote(&voted.vote),
                    granted: voted.vote_granted,
                    last: voted.last_log_id.as_ref().map(our_place),
                }
            }
            Request::Snapshot { vote, last, members, at, total } => {
                match self.collect(vote, last, at, total, part)? {
                    None => Answer::More,
                    Some(state) => self.install(vote, last, &members, state).await?,
                }
            }
            Request::Lead { from, to, last } => {
                let request = TransferLeaderRequest::new(their_vote(from), to, last.map(their_place));
                let asked = self.raft.handle_transfer_leader(request).await;
                asked.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                Answer::Leading
            }
        };
        rpc::answer(&answer)
    }

    /// Whether the process of the leader of now is gone for sure. Two nodes hear of it in the same moment, and one of
    /// them may ask the other one for its vote before that one is sure, too.
    async fn leader_is_gone(&self) -> bool {
        let asked = Instant::now();
        loop {
            let Some(leader) = self.standing.borrow().leader else { return false };
            {
                let incoming = self.incoming.lock();
                if incoming.gone.contains(&leader.0) {
                    return true;
                }
                if !incoming.suspected.contains(&leader.0) || asked.elapsed() >= SUSPICION {
                    return false;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Adds a part of a snapshot to what is there of it; returns the whole once it is.
    fn collect(
        &self,
        vote: rpc::Ballot,
        last: Option<rpc::Place>,
        at: u64,
        total: u64,
        part: &[u8],
    ) -> Result<Option<Vec<u8>>, String> {
        let mut incoming = self.incoming.lock();
        if at == 0 {
            incoming.snapshot = Some((vote, last, Vec::new()));
        }
        let Some((of, of_last, octets)) = &mut incoming.snapshot else {
            return Err("a part of a snapshot that has not begun".to_owned());
        };
        if (*of, *of_last) != (vote, last) || octets.len() as u64 != at || total > rpc::MAX_SNAPSHOT {
            return Err("a part of another snapshot".to_owned());
        }
        octets.extend_from_slice(part);
        if (octets.len() as u64) < total {
            return Ok(None);
        }
        Ok(incoming.snapshot.take().map(|(_, _, octets)| octets))
    }

    async fn install(
        &self,
        vote: rpc::Ballot,
        last: Option<rpc::Place>,
        members: &[u8],
        state: Vec<u8>,
    ) -> Result<Answer, String> {
        let last_membership = stored_membership(members).map_err(|error| error.to_string())?;
        let meta = SnapshotMetaOf::<Types> { last_log_id: last.map(their_place), last_membership };
        let snapshot = SnapshotOf::<Types, _> { meta, snapshot: SnapshotData::Received(state.into()) };
        let installed = self.raft.install_full_snapshot(their_vote(vote), snapshot).await;
        let installed = installed.map_err(|error| error.to_string())?;
        Ok(Answer::Installed(our_vote(&installed.vote)))
    }
}

/// Settings. Without other nodes there is nothing that time decides, so no tick wakes anybody until there are.
fn config() -> Config {
    Config {
        cluster_name: "metadata".to_owned(),
        // Somebody else leads before those that hear only a dead leader pause, also when the first election fails:
        // one begins when the leader was silent for the longest timeout and a random one.
        heartbeat_interval: 150,
        election_timeout_min: 450,
        election_timeout_max: 650,
        enable_pre_vote: Some(true),
        enable_tick: false,
        // What of the log was carried out is not on disk, so nobody leads by what it was before.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        // What of the log a snapshot includes is forgotten as [`follow`] says.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    }
}

/// What a log of a cluster of one starts with that has a state already: as if the entry that founds it had
/// made that state.
pub(crate) fn first_head(me: NodeId, node_name: &str) -> io::Result<SnapshotHead> {
    head_of_one(me, node_name, store::LogId { term: 0, node: me.0, index: 0 })
}

/// What a log starts with whose only member this node is from the entry `last` on.
pub(crate) fn head_of_one(me: NodeId, node_name: &str, last: store::LogId) -> io::Result<SnapshotHead> {
    let nodes = BTreeMap::from([(me.0, BasicNode::new(node_name))]);
    let membership = Membership::new(vec![BTreeSet::from([me.0])], nodes).map_err(io::Error::other)?;
    let members = StoredMembershipOf::<Types>::new(Some(their_id(last)), membership);
    Ok(SnapshotHead { last: Some(last), members: stored_members(&members)? })
}
