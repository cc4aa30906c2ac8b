//! The node's metadata: the state machine behind a lock, and the journal that makes it durable.
//!
//! Everything that changes metadata goes through [`Metadata::propose`], one after the other:
//!
//! ```text
//!                 plan            durable changes          commit, hook, answer
//! propose ──┬──► (lock) ──► journal: write + fsync ──► (lock) ──────────────────►
//!           │        many proposals share one fsync
//!           └──► nothing durable in it and nothing in flight that matters: commit at once
//! ```
//!
//! A plan is made from the state without the changes that are still being written. So a proposal
//! that looks at anything that a change in flight touches waits for the next round
//! ([`footprint`]). What has not reached the disk is never seen by anyone.
//!
//! The hook runs under the lock, in the order of the changes, after they are made and before
//! anybody can see them: the node creates and stops queues there.

pub(crate) mod bootstrap;
pub(crate) mod definitions;
mod footprint;
mod journal;
pub(crate) mod json;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use journal::MemoryJournal;
pub(crate) use journal::{FileJournal, Journal};

use broker_core::ids::QueueId;
use broker_core::meta::policy::PolicyBook;
use broker_core::meta::{BATCH_BITS, Change, MetaCommand, MetaError, MetaReply, MetaSm, Patterns, Plan};
use footprint::{Footprint, InFlight};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Proposals that may wait for the journal; more make their senders wait.
const INBOX: usize = 1024;
/// Most proposals that share one fsync.
const ROUND: usize = 512;
/// Journal entries after which a snapshot replaces them.
const ENTRIES_PER_SNAPSHOT: usize = 20_000;
/// Octets of journal after which a snapshot replaces them.
const BYTES_PER_SNAPSHOT: usize = 32 << 20;

/// What was just made so.
#[derive(Debug)]
pub(crate) struct Applied<'a> {
    /// The state with the changes in it.
    pub(crate) sm: &'a MetaSm,
    /// The changes, in order.
    pub(crate) changes: &'a [Change],
    /// Queues that obey other options now because a policy changed.
    pub(crate) new_options: &'a [QueueId],
}

/// Told about every change, under the lock. Must be quick and must not call back.
pub(crate) trait Hook: Send + Sync {
    /// Changes were made.
    fn on_applied(&self, applied: &Applied<'_>);
    /// The journal failed: nothing durable can be changed any more, and the node must stop.
    fn on_journal_failure(&self, error: &str);
}

/// Why the metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The snapshot is not one.
    #[error(transparent)]
    Snapshot(#[from] broker_core::meta::snapshot::SnapshotError),
    /// A journal entry is not one.
    #[error("metadata journal entry {position} is damaged: {reason}")]
    Entry {
        /// Which, counted from the snapshot.
        position: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The thread could not be started.
    #[error("failed to start the metadata thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// The metadata of this node.
pub(crate) struct Metadata {
    shared: Arc<Shared>,
    /// `None` once closing.
    inbox: Option<mpsc::Sender<Proposal>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Metadata {
    /// Waits until the journal is closed, so that the data directory can be given up.
    fn drop(&mut self) {
        self.inbox = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the thread was reported when it happened.
            let _ = writer.join();
        }
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("version", &self.version()).finish_non_exhaustive()
    }
}

struct Shared {
    state: RwLock<State>,
    /// [`MetaSm::version`], readable without the lock.
    version: AtomicU64,
    failed: AtomicBool,
    hook: OnceLock<Box<dyn Hook>>,
    patterns: Arc<Patterns>,
}

struct State {
    sm: MetaSm,
    book: PolicyBook,
    in_flight: InFlight,
    next_index: u64,
}

struct Proposal {
    command: MetaCommand,
    reply: oneshot::Sender<Result<MetaReply, MetaError>>,
}

/// One journal entry.
#[derive(Serialize, Deserialize)]
struct Entry {
    index: u64,
    changes: Vec<Change>,
}

/// What a journal had when it was opened.
#[derive(Default)]
pub(crate) struct Recovered {
    /// The newest snapshot.
    pub(crate) snapshot: Option<Vec<u8>>,
    /// The entries after it.
    pub(crate) entries: Vec<Vec<u8>>,
}

impl Metadata {
    /// Rebuilds the state from what the journal had and starts the thread that writes to it.
    pub(crate) fn open(journal: Box<dyn Journal>, recovered: &Recovered) -> Result<Metadata, OpenError> {
        let patterns = Arc::new(Patterns::default());
        let mut sm = MetaSm::new();
        if let Some(snapshot) = &recovered.snapshot {
            sm.restore(snapshot)?;
        }
        for (position, octets) in recovered.entries.iter().enumerate() {
            let entry: Entry = postcard::from_bytes(octets)
                .map_err(|error| OpenError::Entry { position, reason: error.to_string() })?;
            entry.changes.iter().for_each(|change| sm.commit(change));
            sm.note_applied(entry.index);
        }
        let mut book = PolicyBook::new(Arc::clone(&patterns));
        book.refresh_all(&mut sm);
        let shared = Arc::new(Shared {
            version: AtomicU64::new(sm.version()),
            state: RwLock::new(State {
                next_index: sm.applied() + 1,
                sm,
                book,
                in_flight: InFlight::default(),
            }),
            failed: AtomicBool::new(false),
            hook: OnceLock::new(),
            patterns,
        });
        let (inbox, proposals) = mpsc::channel(INBOX);
        let writer = Writer {
            shared: Arc::clone(&shared),
            journal,
            waiting: VecDeque::new(),
            entries: recovered.entries.len(),
            bytes: recovered.entries.iter().map(Vec::len).sum(),
        };
        let writer = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || writer.run(proposals))
            .map_err(OpenError::Thread)?;
        Ok(Metadata { shared, inbox: Some(inbox), writer: Some(writer) })
    }

    /// Registers who is told about changes. To be called once, before the first proposal.
    pub(crate) fn set_hook(&self, hook: Box<dyn Hook>) {
        let first = self.shared.hook.set(hook).is_ok();
        debug_assert!(first, "one hook");
    }

    /// The state, to be read for a moment only: nothing changes while the guard lives.
    pub(crate) fn read(&self) -> MappedRwLockReadGuard<'_, MetaSm> {
        RwLockReadGuard::map(self.shared.state.read(), |state| &state.sm)
    }

    /// The state together with the compiled policies.
    pub(crate) fn with_policies<T>(&self, look: impl FnOnce(&MetaSm, &PolicyBook) -> T) -> T {
        let state = self.shared.state.read();
        look(&state.sm, &state.book)
    }

    /// [`MetaSm::version`] without taking the lock.
    pub(crate) fn version(&self) -> u64 {
        self.shared.version.load(Ordering::Acquire)
    }

    /// Compiled permission patterns, shared by all connections.
    pub(crate) fn patterns(&self) -> &Arc<Patterns> {
        &self.shared.patterns
    }

    /// Nothing was ever stored here: no vhost and no user.
    pub(crate) fn is_empty(&self) -> bool {
        let state = self.shared.state.read();
        state.sm.vhosts().next().is_none() && state.sm.users().next().is_none()
    }

    /// Asks for a change and waits until it is durable and made. The commands of a batch are
    /// carried out in order, each for itself.
    pub(crate) async fn propose(&self, command: MetaCommand) -> Result<MetaReply, MetaError> {
        if let MetaCommand::Batch(commands) = command {
            return self.propose_all(commands).await.map(MetaReply::Batch);
        }
        if let Some(outcome) = self.shared.try_at_once(&command) {
            return outcome;
        }
        self.submit(command).await?.await.map_err(|_| stopped())?
    }

    /// Several commands in order with as few fsyncs as possible, each with an outcome of its own.
    pub(crate) async fn propose_all(
        &self,
        commands: Vec<MetaCommand>,
    ) -> Result<Vec<Result<MetaReply, MetaError>>, MetaError> {
        let mut waiting = VecDeque::new();
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            waiting.push_back(self.submit(command).await?);
            if waiting.len() >= INBOX
                && let Some(first) = waiting.pop_front()
            {
                outcomes.push(first.await.map_err(|_| stopped())?);
            }
        }
        for reply in waiting {
            outcomes.push(reply.await.map_err(|_| stopped())?);
        }
        Ok(outcomes)
    }

    async fn submit(
        &self,
        command: MetaCommand,
    ) -> Result<oneshot::Receiver<Result<MetaReply, MetaError>>, MetaError> {
        let (reply, outcome) = oneshot::channel();
        let inbox = self.inbox.as_ref().ok_or_else(stopped)?;
        inbox.send(Proposal { command, reply }).await.map_err(|_| stopped())?;
        Ok(outcome)
    }
}

impl Shared {
    /// Carries out a command in which nothing is durable and which nothing in flight concerns.
    fn try_at_once(&self, command: &MetaCommand) -> Option<Result<MetaReply, MetaError>> {
        let mut state = self.state.write();
        let plan = state.plan(command);
        let footprint = Footprint::new(&state.sm, command, plan.as_ref().ok());
        if state.in_flight.conflicts(&footprint) {
            return None;
        }
        match plan {
            Err(error) => Some(Err(error)),
            Ok(plan) if plan.changes.iter().any(Change::is_durable) => None,
            Ok(plan) => {
                self.commit(&mut state, &plan.changes);
                Some(Ok(plan.reply))
            }
        }
    }

    fn commit(&self, state: &mut State, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut new_options = Vec::new();
        for change in changes {
            state.sm.commit(change);
            match change {
                Change::PutQueue(spec) => {
                    state.book.refresh_queue(&mut state.sm, spec.id);
                }
                Change::PutExchange(spec) => state.book.refresh_exchange(&mut state.sm, spec.id),
                Change::PutVhost(vhost) => {
                    state.book.refresh_vhost(&mut state.sm, vhost.id);
                }
                Change::PutPolicy { vhost, .. } | Change::RemovePolicy { vhost, .. } => {
                    new_options.extend(state.book.refresh_vhost(&mut state.sm, *vhost));
                }
                Change::RemoveVhost { id, .. } => {
                    state.book.refresh_vhost(&mut state.sm, *id);
                }
                _ => {}
            }
        }
        if let Some(hook) = self.hook.get() {
            hook.on_applied(&Applied { sm: &state.sm, changes, new_options: &new_options });
        }
        self.version.store(state.sm.version(), Ordering::Release);
    }
}

impl State {
    /// Plans with the next identity, which is used up if something durable comes of it or not.
    fn plan(&mut self, command: &MetaCommand) -> Result<Plan, MetaError> {
        let plan = self.sm.plan(self.next_index << BATCH_BITS, command)?;
        if !plan.changes.is_empty() {
            self.next_index += 1;
        }
        Ok(plan)
    }
}

/// The thread that writes to the journal.
struct Writer {
    shared: Arc<Shared>,
    journal: Box<dyn Journal>,
    waiting: VecDeque<Proposal>,
    entries: usize,
    bytes: usize,
}

/// A proposal whose changes are being written.
struct Planned {
    plan: Plan,
    reply: oneshot::Sender<Result<MetaReply, MetaError>>,
}

impl Writer {
    fn run(mut self, mut proposals: mpsc::Receiver<Proposal>) {
        loop {
            if self.waiting.is_empty() {
                match proposals.blocking_recv() {
                    Some(proposal) => self.waiting.push_back(proposal),
                    None => break,
                }
            }
            while self.waiting.len() < ROUND
                && let Ok(proposal) = proposals.try_recv()
            {
                self.waiting.push_back(proposal);
            }
            self.round();
        }
        self.journal.close();
    }

    /// Plans as many waiting proposals as fit together, writes them, makes them so.
    fn round(&mut self) {
        if self.shared.failed.load(Ordering::Acquire) {
            for proposal in self.waiting.drain(..) {
                let _ = proposal.reply.send(Err(failed()));
            }
            return;
        }
        let (planned, entries) = self.plan_round();
        let written = if entries.is_empty() { Ok(()) } else { self.journal.append(&entries) };
        self.entries += entries.len();
        self.bytes += entries.iter().map(Vec::len).sum::<usize>();
        if let Err(error) = written {
            self.fail(planned, &error.to_string());
            return;
        }
        {
            let mut state = self.shared.state.write();
            for planned in &planned {
                self.shared.commit(&mut state, &planned.plan.changes);
            }
            state.in_flight = InFlight::default();
            let last = state.next_index - 1;
            state.sm.note_applied(last);
        }
        for planned in planned {
            // Nobody may wait any more, if the connection ended.
            let _ = planned.reply.send(Ok(planned.plan.reply));
        }
        if self.entries >= ENTRIES_PER_SNAPSHOT || self.bytes >= BYTES_PER_SNAPSHOT {
            self.snapshot();
        }
    }

    fn plan_round(&mut self) -> (Vec<Planned>, Vec<Vec<u8>>) {
        let mut planned = Vec::new();
        let mut entries = Vec::new();
        let mut state = self.shared.state.write();
        while let Some(proposal) = self.waiting.pop_front() {
            let plan = state.plan(&proposal.command);
            let footprint = Footprint::new(&state.sm, &proposal.command, plan.as_ref().ok());
            if state.in_flight.conflicts(&footprint) {
                self.waiting.push_front(proposal);
                break;
            }
            match plan {
                Err(error) => {
                    let _ = proposal.reply.send(Err(error));
                }
                Ok(plan) => {
                    let durable: Vec<Change> =
                        plan.changes.iter().filter(|change| change.is_durable()).cloned().collect();
                    if !durable.is_empty() {
                        let entry = Entry { index: state.next_index - 1, changes: durable };
                        match postcard::to_stdvec(&entry) {
                            Ok(octets) => entries.push(octets),
                            Err(error) => {
                                let _ = proposal.reply.send(Err(MetaError::Invalid(error.to_string())));
                                continue;
                            }
                        }
                    }
                    state.in_flight.add(&footprint);
                    planned.push(Planned { plan, reply: proposal.reply });
                }
            }
        }
        (planned, entries)
    }

    fn snapshot(&mut self) {
        let octets = self.shared.state.read().sm.snapshot();
        match self.journal.snapshot(&octets) {
            Ok(()) => {
                self.entries = 0;
                self.bytes = 0;
            }
            Err(error) => self.fail(Vec::new(), &error.to_string()),
        }
    }

    fn fail(&self, planned: Vec<Planned>, error: &str) {
        tracing::error!(error, "metadata journal failed");
        self.shared.failed.store(true, Ordering::Release);
        self.shared.state.write().in_flight = InFlight::default();
        for planned in planned {
            let _ = planned.reply.send(Err(MetaError::Journal(error.to_owned())));
        }
        if let Some(hook) = self.shared.hook.get() {
            hook.on_journal_failure(error);
        }
    }
}

fn stopped() -> MetaError {
    MetaError::Journal("the node is stopping".to_owned())
}

fn failed() -> MetaError {
    MetaError::Journal("a write failed before".to_owned())
}
