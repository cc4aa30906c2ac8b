//! The log and the state machine, as the library sees them.

use super::convert::{
    TheirEntry, our_entry, our_id, our_vote, stored_members, stored_membership, their_entry, their_id,
    their_vote,
};
use super::{Applied, Command, Types};
use crate::cluster::writer::{Work, Writer};
use crate::cluster::{Machine, rpc};
use broker_store::raft_log::{RaftLog, SnapshotHead};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf, VoteOf};
use openraft::{EntryPayload, OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use std::fmt;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// The log as the library sees it.
#[derive(Clone)]
pub(super) struct LogStore {
    pub(super) log: Arc<RaftLog>,
    pub(super) writer: Writer,
}

impl LogStore {
    /// Waits until something is on disk.
    async fn written(&self, work: impl FnOnce(crate::cluster::writer::Done) -> Work) -> io::Result<()> {
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
        Ok(self.log.vote().map(|vote| their_vote(rpc::ballot(vote))))
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
        self.log.save_vote(rpc::vote(our_vote(vote))).map_err(io::Error::other)?;
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
pub(super) struct StateMachine {
    store: LogStore,
    machine: Arc<dyn Machine>,
    applied: Option<LogIdOf<Types>>,
    members: StoredMembershipOf<Types>,
    applying: watch::Sender<Applied>,
}

/// A snapshot, named by the last entry in it; what is in it stays on disk unless it comes from another node.
#[derive(Debug, Clone)]
pub(super) enum SnapshotData {
    Stored,
    Received(Bytes),
}

impl StateMachine {
    /// `machine` has the state of the log's snapshot.
    pub(super) fn new(
        store: LogStore,
        machine: Arc<dyn Machine>,
        applying: watch::Sender<Applied>,
    ) -> io::Result<StateMachine> {
        let (applied, members) = match store.log.snapshot_head() {
            Some(head) => (head.last.map(their_id), stored_membership(&head.members)?),
            None => (None, StoredMembershipOf::<Types>::default()),
        };
        let state = StateMachine { store, machine, applied, members, applying };
        state.tell();
        Ok(state)
    }

    fn tell(&self) {
        if let Some(id) = &self.applied {
            self.applying.send_replace(Applied { term: id.leader_id.term, index: id.index });
        }
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotData = SnapshotData;
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
                    self.machine.apply(entry.log_id.index, &octets).map_err(io::Error::other)?;
                }
                EntryPayload::Membership(membership) => {
                    self.members = StoredMembershipOf::<Types>::new(Some(entry.log_id), membership);
                }
            }
            self.applied = Some(entry.log_id);
            self.tell();
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
        meta: &SnapshotMetaOf<Types>,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        // One that is stored was read when the log was opened.
        let SnapshotData::Received(state) = snapshot else { return Ok(()) };
        let last = meta.last_log_id.as_ref().map(our_id);
        let head = SnapshotHead { last, members: stored_members(&meta.last_membership)? };
        let octets = state.clone();
        self.store.written(|done| Work::Snapshot { head, state: octets.into(), done }).await?;
        let (machine, index) = (Arc::clone(&self.machine), last.map_or(0, |id| id.index));
        let restored = tokio::task::spawn_blocking(move || machine.restore(index, &state)).await;
        restored.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.members = meta.last_membership.clone();
        self.tell();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Types, SnapshotData>>> {
        let Some(head) = self.store.log.snapshot_head() else { return Ok(None) };
        let last_membership = stored_membership(&head.members)?;
        let meta = SnapshotMetaOf::<Types> { last_log_id: head.last.map(their_id), last_membership };
        Ok(Some(SnapshotOf::<Types, _> { meta, snapshot: SnapshotData::Stored }))
    }
}

/// A state on its way to the disk.
pub(super) struct SnapshotBuilder {
    store: LogStore,
    meta: SnapshotMetaOf<Types>,
    /// `None` once written.
    state: Option<io::Result<Vec<u8>>>,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Types, SnapshotData>> {
        let state = self.state.take().ok_or_else(|| io::Error::other("a snapshot is written once"))??;
        let last = self.meta.last_log_id.as_ref().map(our_id);
        let head = SnapshotHead { last, members: stored_members(&self.meta.last_membership)? };
        self.store.written(|done| Work::Snapshot { head, state, done }).await?;
        Ok(SnapshotOf::<Types, _> { meta: self.meta.clone(), snapshot: SnapshotData::Stored })
    }
}
