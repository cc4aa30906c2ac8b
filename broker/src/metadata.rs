//! The node's metadata: the state machine behind a lock, driven by a replicated log.
//!
//! Everything that changes metadata goes through [`Metadata::propose`], one after the other:
//!
//! ```text
//!                 plan            durable changes          commit, hook, answer
//! propose ──┬──► (lock) ──► one command for the log ──► (lock) ──────────────────►
//!           │        many proposals share one round
//!           └──► nothing durable in it and nothing in flight that matters: commit at once
//! ```
//!
//! A plan is made from the state without the changes that are still being written. So a proposal
//! that looks at anything that a change in flight touches waits for the next round
//! ([`footprint`]). What has not reached the disk is never seen by anyone.
//!
//! The log hands every command back when a majority has it ([`Machine::apply`]). The node that made it still
//! has the plans and makes all of their changes, those that are not durable too; at a restart, and on other
//! nodes, the durable changes in the command are made.
//!
//! The hook runs under the lock, in the order of the changes, after they are made and before
//! anybody can see them: the node creates and stops queues there.

pub(crate) mod bootstrap;
pub(crate) mod definitions;
mod footprint;
pub(crate) mod json;
mod proposer;
#[cfg(test)]
mod tests;
pub(crate) mod upgrade;

use crate::cluster::{Machine, StartError};
use broker_core::ids::QueueId;
use broker_core::meta::log::{Command, RoundId};
use broker_core::meta::policy::PolicyBook;
use broker_core::meta::{BATCH_BITS, Change, MetaCommand, MetaError, MetaReply, MetaSm, Patterns, Plan};
use broker_store::disk::Disk;
use broker_store::journal::JournalOptions;
use broker_store::raft_log::{RaftLog, RaftLogOpenError};
use footprint::{Footprint, InFlight};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use proposer::Proposal;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot};

/// Proposals that may wait for the log; more make their senders wait.
const INBOX: usize = 1024;

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
    /// The log failed: nothing durable can be changed any more, and the node must stop.
    fn on_journal_failure(&self, error: &str);
}

/// Why the metadata could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The log on disk.
    #[error(transparent)]
    Log(#[from] RaftLogOpenError),
    /// The snapshot is not one.
    #[error(transparent)]
    Snapshot(#[from] broker_core::meta::snapshot::SnapshotError),
    /// The log could not be carried out.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The thread could not be started.
    #[error("failed to start the metadata thread: {0}")]
    Thread(#[source] std::io::Error),
}

/// The metadata of this node.
pub(crate) struct Metadata {
    shared: Arc<Shared>,
    /// `None` once closing.
    inbox: Option<mpsc::Sender<Proposal>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Metadata {
    /// Waits until the log is closed, so that the data directory can be given up.
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.inbox = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
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
    /// The node stops.
    closing: AtomicBool,
    hook: OnceLock<Box<dyn Hook>>,
    patterns: Arc<Patterns>,
}

struct State {
    sm: MetaSm,
    book: PolicyBook,
    in_flight: InFlight,
    /// The round that is being written.
    round: Option<Round>,
    next_index: u64,
    /// The log that was found at the start is carried out; policies are looked at only then.
    caught_up: bool,
}

/// Proposals that are written together.
struct Round {
    id: RoundId,
    planned: Vec<Planned>,
}

/// A proposal whose changes are being written.
struct Planned {
    plan: Plan,
    reply: oneshot::Sender<Result<MetaReply, MetaError>>,
}

impl Metadata {
    /// Opens the replicated log in `dir`, rebuilds the state from it, and starts the thread on which changes
    /// are proposed and made. Blocks until the state is that of before.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        node_name: &str,
    ) -> Result<Metadata, OpenError> {
        let mut sm = MetaSm::new();
        let mut restored = Ok(());
        let (log, report) = RaftLog::open(disk, dir, options, |state| restored = sm.restore(state))?;
        restored?;
        tracing::debug!(?report, "replicated log opened");
        let patterns = Arc::new(Patterns::default());
        let shared = Arc::new(Shared {
            version: AtomicU64::new(sm.version()),
            state: RwLock::new(State {
                next_index: sm.applied() + 1,
                sm,
                book: PolicyBook::new(Arc::clone(&patterns)),
                in_flight: InFlight::default(),
                round: None,
                caught_up: false,
            }),
            failed: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            hook: OnceLock::new(),
            patterns,
        });
        let (inbox, proposals) = mpsc::channel(INBOX);
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("metadata".to_owned())
            .spawn({
                let (shared, node_name) = (Arc::clone(&shared), node_name.to_owned());
                move || proposer::run(&node_name, log, &shared, proposals, &ready)
            })
            .map_err(OpenError::Thread)?;
        let ended = |_| OpenError::Thread(std::io::Error::other("it ended at once"));
        started.recv().map_err(ended)??;
        Ok(Metadata { shared, inbox: Some(inbox), thread: Some(thread) })
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

    /// Everything up to the end of the log is carried out.
    fn catch_up(&self) {
        let mut state = self.state.write();
        let State { sm, book, .. } = &mut *state;
        book.refresh_all(sm);
        state.caught_up = true;
        self.version.store(state.sm.version(), Ordering::Release);
    }

    /// Makes the changes of a round whose durable ones are on disk, and answers.
    fn finish(&self, mut state: RwLockWriteGuard<'_, State>, planned: Vec<Planned>) {
        for planned in &planned {
            self.commit(&mut state, &planned.plan.changes);
        }
        state.in_flight = InFlight::default();
        let last = state.next_index - 1;
        state.sm.note_applied(last);
        drop(state);
        for planned in planned {
            // Nobody may wait any more, if the connection ended.
            let _ = planned.reply.send(Ok(planned.plan.reply));
        }
    }

    fn commit(&self, state: &mut State, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        if !state.caught_up {
            changes.iter().for_each(|change| state.sm.commit(change));
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

impl Machine for Shared {
    fn apply(&self, command: &[u8]) -> Result<(), String> {
        let command = Command::decode(command).map_err(|error| error.to_string())?;
        let mut state = self.state.write();
        if let Some(round) = state.round.take_if(|round| round.id == command.id) {
            self.finish(state, round.planned);
            return Ok(());
        }
        for logged in command {
            let logged = logged.map_err(|error| error.to_string())?;
            self.commit(&mut state, &logged.changes);
            state.sm.note_applied(logged.index);
            state.next_index = state.next_index.max(logged.index + 1);
        }
        Ok(())
    }

    fn snapshot(&self) -> Vec<u8> {
        self.state.read().sm.snapshot(false)
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn on_failure(&self, error: &str) {
        let first = !self.failed.swap(true, Ordering::AcqRel);
        let round = {
            let mut state = self.state.write();
            state.in_flight = InFlight::default();
            state.round.take()
        };
        for planned in round.into_iter().flat_map(|round| round.planned) {
            let _ = planned.reply.send(Err(MetaError::Journal(error.to_owned())));
        }
        if !first || self.is_closing() {
            return;
        }
        tracing::error!(error, "the log of metadata failed");
        if let Some(hook) = self.hook.get() {
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
