//! The library that decides: openraft. No other file may name it.
//!
//! It is given a log ([`LogStore`]), a state machine ([`StateMachine`]) and a way to other nodes ([`Links`]).
//! What is on disk is ours ([`broker_store::raft_log`]); here its types and the library's are turned into
//! each other.

use super::writer::{Work, Writer};
use super::{BYTES_PER_SNAPSHOT, ENTRIES_PER_SNAPSHOT, FIRST_NODE, Machine, StartError};
use broker_core::meta::log::{self, DecodeError, Members};
use broker_store::raft_log::{self as store, LogEntry, Payload, RaftLog, SnapshotHead};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::vote::RaftVote;
use openraft::{
    BasicNode, Config, Entry, EntryPayload, LogId, Membership, OptionalSend, Raft, RaftLogReader,
    RaftNetworkFactory, RaftNetworkV2, RaftSnapshotBuilder, SnapshotPolicy,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Its name in the log of the daemon.
pub(crate) const LIBRARY: &str = "openraft";

/// How long a start may take to carry out what is in the log.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(600);

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
    raft: Raft<Types, StateMachine>,
    log: Arc<RaftLog>,
    writer: JoinHandle<()>,
}

impl Consensus {
    /// Takes part with what is in `log`; founds a cluster of one if nothing is. Returns when the state machine,
    /// which has the state of the log's snapshot, has caught up with the log.
    pub(crate) async fn start(
        node_name: &str,
        log: RaftLog,
        machine: Arc<dyn Machine>,
    ) -> Result<Consensus, StartError> {
        let refused = |error: &dyn fmt::Display| StartError::Raft(error.to_string());
        let log = Arc::new(log);
        let (writer, thread) = Writer::start(Arc::clone(&log), Arc::clone(&machine))?;
        let store = LogStore { log: Arc::clone(&log), writer };
        let state = StateMachine::new(store.clone(), machine).map_err(|error| refused(&error))?;
        let config = config().validate().map_err(|error| refused(&error))?;
        let raft = Raft::new(FIRST_NODE, Arc::new(config), Links, store, state)
            .await
            .map_err(|error| refused(&error))?;
        if raft.is_initialized().await.map_err(|error| refused(&error))? {
            // Without ticks nobody else would begin: a leader of before is a leader only in a new term.
            raft.trigger().elect(false).await.map_err(|error| refused(&error))?;
        } else {
            let members = BTreeMap::from([(FIRST_NODE, BasicNode::new(node_name))]);
            raft.initialize(members).await.map_err(|error| refused(&error))?;
        }
        let recovered = async {
            raft.wait(Some(RECOVERY_PATIENCE)).current_leader(FIRST_NODE, "leads").await?;
            raft.wait_for_recovery(Some(RECOVERY_PATIENCE)).await
        };
        recovered.await.map_err(|error| refused(&error))?;
        Ok(Consensus { raft, log, writer: thread })
    }

    /// Has a command carried out; when it returns, it was.
    ///
    /// # Errors
    /// It was not, or nobody knows: the log failed, or another node leads.
    pub(crate) async fn write(&self, command: Vec<u8>) -> Result<(), String> {
        self.raft.client_write(Command(command.into())).await.map_err(|error| error.to_string())?;
        let (entries, octets) = self.log.since_snapshot();
        if entries >= ENTRIES_PER_SNAPSHOT || octets >= BYTES_PER_SNAPSHOT {
            // One that is being made is not made twice. What goes wrong ends the node.
            self.raft.trigger().snapshot().await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The place in the log of the first entry that is kept.
    #[cfg(test)]
    pub(super) fn log_begins(&self) -> u64 {
        self.log.ends().0.map_or(0, |id| id.index + 1)
    }

    /// Ends it. The log is closed when the runtime's tasks and the thread returned are gone.
    pub(crate) async fn stop(self) -> JoinHandle<()> {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not stop cleanly");
        }
        self.writer
    }
}

/// Settings: without other nodes there is nothing that time decides, so no tick wakes anybody.
fn config() -> Config {
    Config {
        cluster_name: "metadata".to_owned(),
        heartbeat_interval: 200,
        election_timeout_min: 1_000,
        election_timeout_max: 2_000,
        enable_pre_vote: Some(true),
        enable_tick: false,
        // What of the log was carried out is not on disk, so nobody leads by what it was before.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        // No other node needs what a snapshot includes.
        max_in_snapshot_log_to_keep: 0,
        ..Config::default()
    }
}

/// What a log of a cluster of one starts with that has a state already: as if the entry that founds it had
/// made that state.
pub(crate) fn first_head(node_name: &str) -> io::Result<SnapshotHead> {
    let last = store::LogId { term: 0, node: FIRST_NODE, index: 0 };
    let nodes = BTreeMap::from([(FIRST_NODE, BasicNode::new(node_name))]);
    let membership = Membership::new(vec![BTreeSet::from([FIRST_NODE])], nodes).map_err(io::Error::other)?;
    let members = StoredMembershipOf::<Types>::new(Some(their_id(last)), membership);
    Ok(SnapshotHead { last: Some(last), members: stored_members(&members)? })
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn members(membership: &Membership<u64, BasicNode>) -> Members {
    Members {
        voters: membership.get_joint_config().clone(),
        nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

fn membership(members: Members) -> io::Result<Membership<u64, BasicNode>> {
    let nodes: BTreeMap<u64, BasicNode> =
        members.nodes.into_iter().map(|(id, name)| (id, BasicNode::new(name))).collect();
    Membership::new(members.voters, nodes).map_err(io::Error::other)
}

fn stored_members(stored: &StoredMembershipOf<Types>) -> io::Result<Bytes> {
    let at = stored.log_id().as_ref().map(|id| (id.leader_id.term, id.leader_id.node_id, id.index));
    log::encode_members_at(&(at, members(stored.membership()))).map(Bytes::from).map_err(invalid)
}

fn stored_membership(octets: &[u8]) -> io::Result<StoredMembershipOf<Types>> {
    let (at, members) = log::decode_members_at(octets).map_err(invalid)?;
    let at = at.map(|(term, node, index)| their_id(store::LogId { term, node, index }));
    // Before the first entry there are none, which is no valid membership.
    let membership = if members.voters.is_empty() { Membership::default() } else { membership(members)? };
    Ok(StoredMembershipOf::<Types>::new(at, membership))
}

fn our_id(id: &LogIdOf<Types>) -> store::LogId {
    store::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

fn their_id(id: store::LogId) -> LogIdOf<Types> {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index }
}

fn our_entry(
    entry: Entry<LeaderId<u64, u64>, EntryPayload<Command, u64, BasicNode>>,
) -> io::Result<LogEntry> {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Command(octets)) => Payload::Command(octets),
        EntryPayload::Membership(membership) => {
            Payload::Members(members(&membership).encode().map_err(invalid)?.into())
        }
    };
    Ok(LogEntry { id: our_id(&entry.log_id), payload })
}

type TheirEntry = Entry<LeaderId<u64, u64>, EntryPayload<Command, u64, BasicNode>>;

fn their_entry(entry: LogEntry) -> io::Result<TheirEntry> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(octets) => EntryPayload::Normal(Command(octets)),
        Payload::Members(octets) => {
            EntryPayload::Membership(membership(Members::decode(&octets).map_err(invalid)?)?)
        }
    };
    Ok(Entry { log_id: their_id(entry.id), payload })
}

/// The log as the library sees it.
#[derive(Clone)]
struct LogStore {
    log: Arc<RaftLog>,
    writer: Writer,
}

impl LogStore {
    /// Waits until something is on disk.
    async fn written(&self, work: impl FnOnce(super::writer::Done) -> Work) -> io::Result<()> {
        let (done, outcome) = oneshot::channel();
        // Nobody waits any more if consensus was stopped.
        self.writer.send(work(Box::new(move |result| drop(done.send(result)))))?;
        outcome.await.map_err(|_| io::Error::other("the thread of the replicated log has ended"))?
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<TheirEntry>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        self.log.entries(from, to).into_iter().map(their_entry).collect()
    }

    async fn read_vote(&mut self) -> io::Result<Option<VoteOf<Types>>> {
        Ok(self.log.vote().map(|vote| {
            VoteOf::<Types>::from_leader_id(LeaderId { term: vote.term, node_id: vote.node }, vote.won)
        }))
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.log.ends();
        Ok(LogState { last_purged_log_id: purged.map(their_id), last_log_id: last.map(their_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<Types>) -> io::Result<()> {
        let leader = vote.leader_id();
        let vote = store::Vote { term: leader.term, node: leader.node_id, won: vote.is_committed() };
        self.log.save_vote(vote).map_err(io::Error::other)?;
        self.written(Work::Sync).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = TheirEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        for entry in entries {
            self.log.append(our_entry(entry)?).map_err(io::Error::other)?;
        }
        self.writer.send(Work::Sync(Box::new(|result| callback.io_completed(result))))
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<Types>>) -> io::Result<()> {
        self.log.truncate_after(last.as_ref().map(our_id)).map_err(io::Error::other)
    }

    async fn purge(&mut self, id: LogIdOf<Types>) -> io::Result<()> {
        // Only what a snapshot includes is purged, and that is not in the journal any more.
        self.log.purge(our_id(&id));
        Ok(())
    }
}

/// The state machine as the library sees it.
struct StateMachine {
    store: LogStore,
    machine: Arc<dyn Machine>,
    applied: Option<LogIdOf<Types>>,
    members: StoredMembershipOf<Types>,
}

impl StateMachine {
    /// `machine` has the state of the log's snapshot.
    fn new(store: LogStore, machine: Arc<dyn Machine>) -> io::Result<StateMachine> {
        let (applied, members) = match store.log.snapshot_head() {
            Some(head) => (head.last.map(their_id), stored_membership(&head.members)?),
            None => (None, StoredMembershipOf::<Types>::default()),
        };
        Ok(StateMachine { store, machine, applied, members })
    }
}

impl RaftStateMachine<Types> for StateMachine {
    /// A snapshot is named by the last entry in it; what is in it stays on disk.
    type SnapshotData = Option<store::LogId>;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogIdOf<Types>>, StoredMembershipOf<Types>)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(Command(octets)) => {
                    self.machine.apply(&octets).map_err(io::Error::other)?;
                }
                EntryPayload::Membership(membership) => {
                    self.members = StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
                }
            }
            self.applied = Some(entry.log_id);
            if let Some(responder) = responder {
                responder.send(());
            }
        }
        Ok(())
    }

    /// Nothing is applied while this runs, so the state is the one after `applied`.
    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let machine = Arc::clone(&self.machine);
        let state = tokio::task::spawn_blocking(move || machine.snapshot()).await.map_err(io::Error::other);
        SnapshotBuilder {
            store: self.store.clone(),
            meta: SnapshotMetaOf::<Types> {
                last_log_id: self.applied,
                last_membership: self.members.clone(),
            },
            state: Some(state),
        }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<Types>,
        _snapshot: Option<store::LogId>,
    ) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this node takes snapshots of its own only"))
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, Option<store::LogId>>>> {
        let Some(head) = self.store.log.snapshot_head() else { return Ok(None) };
        let last_membership = stored_membership(&head.members)?;
        let meta = SnapshotMetaOf::<Types> { last_log_id: head.last.map(their_id), last_membership };
        Ok(Some(SnapshotOf::<Types, _> { meta, snapshot: head.last }))
    }
}

/// A state on its way to the disk.
struct SnapshotBuilder {
    store: LogStore,
    meta: SnapshotMetaOf<Types>,
    /// `None` once written.
    state: Option<io::Result<Vec<u8>>>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = Option<store::LogId>;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, Option<store::LogId>>> {
        let state = self.state.take().ok_or_else(|| io::Error::other("a snapshot is written once"))??;
        let last = self.meta.last_log_id.as_ref().map(our_id);
        let head = SnapshotHead { last, members: stored_members(&self.meta.last_membership)? };
        self.store.written(|done| Work::Snapshot { head, state, done }).await?;
        Ok(SnapshotOf::<Types, _> { meta: self.meta.clone(), snapshot: last })
    }
}

/// The way to other nodes: there is none yet, and a cluster of one asks for none.
struct Links;

impl RaftNetworkFactory<Types> for Links {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link {
        Link { target, name: node.addr.clone() }
    }
}

/// The way to one node.
struct Link {
    target: u64,
    name: String,
}

impl Link {
    fn missing(&self) -> Unreachable<Types> {
        let Link { target, name } = self;
        Unreachable::from_string(format!("there is no link to node {target} ({name})"))
    }
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = Option<store::LogId>;

    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.missing()))
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.missing()))
    }

    async fn pre_vote(
        &mut self,
        _request: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Err(RPCError::Unreachable(self.missing()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Types>,
        _snapshot: SnapshotOf<Types, Option<store::LogId>>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        Err(StreamingError::Unreachable(self.missing()))
    }
}
