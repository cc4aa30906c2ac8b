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
//! In a cluster of several nodes, the one that leads plans for all: the others send it their commands
//! ([`forward`]). All changes go through the log then, those too that are not durable, and an answer waits until
//! every node that serves has made the change ([`everywhere`]).
//!
//! The hook runs under the lock, in the order of the changes, after they are made and before
//! anybody can see them: the node creates and stops queues there.

pub(crate) mod bootstrap;
pub(crate) mod definitions;
mod everywhere;
mod footprint;
mod forward;
pub(crate) mod json;
mod proposer;
mod restore;
#[cfg(test)]
mod tests;
pub(crate) mod upgrade;

use crate::cluster::{Council, Machine, Seat, StartError};
use broker_core::ids::{NodeId, QueueId};
use broker_core::meta::cluster::locate;
use broker_core::meta::log::{Command, RoundId};
use broker_core::meta::options::LeaderLocator;
use broker_core::meta::policy::PolicyBook;
use broker_core::meta::{
    BATCH_BITS, Change, MetaCommand, MetaError, MetaReply, MetaSm, NodeState, Patterns, Plan, Role,
};
use broker_store::disk::Disk;
use broker_store::journal::JournalOptions;
use broker_store::raft_log::{RaftLog, RaftLogOpenError};
use everywhere::{Asker, Everywhere};
use footprint::{Footprint, InFlight};
use parking_lot::{MappedRwLockReadGuard, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Pause before a node says again that it has started.
const COME_UP_AGAIN: Duration = Duration::from_millis(100);
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
    council: Council,
    /// `None` once closing.
    inbox: Mutex<Option<mpsc::Sender<Proposal>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    opened: Instant,
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metadata").field("version", &self.version()).finish_non_exhaustive()
    }
}

/// A way to the state that does not keep the metadata open.
#[derive(Clone)]
pub(crate) struct MetadataView(Arc<Shared>);

impl MetadataView {
    /// As [`Metadata::read`].
    pub(crate) fn read(&self) -> MappedRwLockReadGuard<'_, MetaSm> {
        RwLockReadGuard::map(self.0.state.read(), |state| &state.sm)
    }

    /// The place of this node.
    pub(crate) fn seat(&self) -> &Seat {
        &self.0.seat
    }

    /// Whether the node has no others.
    pub(crate) fn is_alone(&self) -> bool {
        self.0.alone.load(Ordering::Relaxed)
    }
}

struct Shared {
    seat: Seat,
    /// There are no other members, so that what is not durable need not be written down.
    alone: AtomicBool,
    everywhere: Everywhere,
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
    reply: Asker,
    /// To plan it again; kept in a cluster only.
    again: Option<Again>,
}

/// A proposal without whoever waits for its answer.
struct Again {
    command: MetaCommand,
    since: Instant,
    forwarded: bool,
}

/// Something that somebody wants changed.
struct Proposal {
    command: MetaCommand,
    reply: Asker,
    since: Instant,
    /// It comes from a node that takes this one for the leader.
    forwarded: bool,
}

impl Metadata {
    /// Opens the replicated log in `dir`, rebuilds the state from it, and starts the thread on which changes
    /// are proposed and made. Blocks, on a node with the only vote, until the state is that of before; one that
    /// needs others has to [come up](Metadata::come_up) first.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        seat: &Seat,
    ) -> Result<Metadata, OpenError> {
        let mut sm = MetaSm::new();
        let mut restored = Ok(());
        let (log, report) = RaftLog::open(disk, dir, options, |state| restored = sm.restore(state))?;
        restored?;
        tracing::debug!(?report, "replicated log opened");
        let patterns = Arc::new(Patterns::default());
        let shared = Arc::new(Shared {
            seat: seat.clone(),
            alone: AtomicBool::new(is_alone(seat, &sm)),
            everywhere: Everywhere::default(),
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
                let shared = Arc::clone(&shared);
                move || proposer::run(log, &shared, proposals, &ready)
            })
            .map_err(OpenError::Thread)?;
        let ended = |_| OpenError::Thread(std::io::Error::other("it ended at once"));
        let council = started.recv().map_err(ended)??;
        let (inbox, thread) = (Mutex::new(Some(inbox)), Mutex::new(Some(thread)));
        Ok(Metadata { shared, council, inbox, thread, opened: Instant::now() })
    }

    /// Ends it: nothing is changed any more. Waits until the log is closed, so that the data directory can be given
    /// up.
    pub(crate) fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.inbox.lock().take();
        if let Some(thread) = self.thread.lock().take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }

    /// Milliseconds since it was opened.
    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A way to the state that does not keep the metadata open.
    pub(crate) fn view(&self) -> MetadataView {
        MetadataView(Arc::clone(&self.shared))
    }

    /// This node's part in consensus.
    pub(crate) fn council(&self) -> &Council {
        &self.council
    }

    /// The place of this node.
    pub(crate) fn seat(&self) -> &Seat {
        &self.shared.seat
    }

    /// Whether the state is not older than this start of the node.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.shared.state.read().caught_up
    }

    /// Whether the node has to tell others that it started before its state is the one of now.
    pub(crate) fn has_to_come_up(&self) -> bool {
        let state = self.shared.state.read();
        !state.caught_up || state.sm.members().next().is_some()
    }

    /// Tells the cluster that this node has started, and waits until it has seen itself do so: then its state is
    /// not older than that.
    ///
    /// # Errors
    /// The cluster refuses: it does not know this node (any more), or knows a later start of it.
    pub(crate) async fn come_up(&self, storage: u128, lost: Vec<QueueId>) -> Result<(), MetaError> {
        let Seat { me, incarnation, .. } = self.shared.seat;
        let up = MetaCommand::NodeUp { id: me, incarnation, storage, lost };
        loop {
            match self.submit(up.clone(), false).await?.await {
                Ok(Ok(_)) => break,
                // Nobody leads, or the leader is a new one that has not seen everything.
                Ok(Err(MetaError::Journal(_))) if !self.shared.is_over() => {}
                Ok(Err(refused)) => return Err(refused),
                Err(_) => return Err(stopped()),
            }
            tokio::time::sleep(COME_UP_AGAIN).await;
        }
        self.shared.catch_up();
        Ok(())
    }

    /// Another node has carried out the log up to `index`.
    pub(crate) fn note_applied(&self, node: NodeId, index: u64) {
        self.shared.everywhere.note(node, index);
    }

    /// Looks at the state, and has `hook` told about every change after that. To be called once.
    pub(crate) fn attach(&self, look: impl FnOnce(&MetaSm), hook: Box<dyn Hook>) {
        // Nothing changes while the guard lives.
        let state = self.shared.state.read();
        look(&state.sm);
        self.set_hook(hook);
        drop(state);
    }

    /// Registers who is told about changes. To be called once, before the first proposal.
    fn set_hook(&self, hook: Box<dyn Hook>) {
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
        self.submit(command, false).await?.await.map_err(|_| stopped())?
    }

    /// Several commands in order with as few fsyncs as possible, each with an outcome of its own.
    pub(crate) async fn propose_all(
        &self,
        commands: Vec<MetaCommand>,
    ) -> Result<Vec<Result<MetaReply, MetaError>>, MetaError> {
        let mut waiting = VecDeque::new();
        let mut outcomes = Vec::with_capacity(commands.len());
        for command in commands {
            waiting.push_back(self.submit(command, false).await?);
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
        mut command: MetaCommand,
        forwarded: bool,
    ) -> Result<oneshot::Receiver<Result<MetaReply, MetaError>>, MetaError> {
        if let MetaCommand::DeclareQueue(declare) = &mut command
            && !forwarded
            && !self.shared.is_alone()
        {
            let state = self.shared.state.read();
            let locator = LeaderLocator::ClientLocal;
            locate(&state.sm, &state.book, declare, self.shared.seat.me, locator, rand::random());
        }
        let (reply, outcome) = oneshot::channel();
        let inbox = self.inbox.lock().clone().ok_or_else(stopped)?;
        let proposal = Proposal { command, reply, since: Instant::now(), forwarded };
        inbox.send(proposal).await.map_err(|_| stopped())?;
        Ok(outcome)
    }
}

/// Whether nobody else needs to know of a change.
fn is_alone(seat: &Seat, sm: &MetaSm) -> bool {
    !seat.joined && sm.members().nth(1).is_none()
}

impl Shared {
    fn is_alone(&self) -> bool {
        self.alone.load(Ordering::Relaxed)
    }

    /// Nothing will be changed any more.
    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Acquire) || self.is_closing()
    }

    /// Carries out a command in which nothing is durable and which nothing in flight concerns. In a cluster only
    /// what changes nothing is answered here.
    fn try_at_once(&self, command: &MetaCommand) -> Option<Result<MetaReply, MetaError>> {
        let mut state = self.state.write();
        let plan = state.plan(command);
        let footprint = Footprint::new(&state.sm, command, plan.as_ref().ok());
        if state.in_flight.conflicts(&footprint) {
            return None;
        }
        match plan {
            Ok(plan) if plan.changes.is_empty() => Some(Ok(plan.reply)),
            // The leader may know more; nobody else may decide.
            _ if !self.is_alone() => None,
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
        self.note_members(sm);
        state.caught_up = true;
        self.version.store(state.sm.version(), Ordering::Release);
    }

    /// Makes the changes of a round whose durable ones are on disk, and answers.
    fn finish(&self, mut state: RwLockWriteGuard<'_, State>, planned: Vec<Planned>, index: Option<u64>) {
        for planned in &planned {
            self.commit(&mut state, &planned.plan.changes);
        }
        state.in_flight = InFlight::default();
        let last = state.next_index - 1;
        state.sm.note_applied(last);
        drop(state);
        let answers = planned.into_iter().map(|planned| (planned.reply, planned.plan.reply));
        match index {
            Some(index) if !self.is_alone() => self.everywhere.hold(index, answers.collect()),
            _ => answers.for_each(|(asker, answer)| {
                // Nobody may wait any more, if the connection ended.
                let _ = asker.send(Ok(answer));
            }),
        }
    }

    /// The members are others now, or in another state.
    fn note_members(&self, sm: &MetaSm) {
        self.alone.store(is_alone(&self.seat, sm), Ordering::Relaxed);
        let serving = sm.members().filter(|member| {
            member.id != self.seat.me && member.role == Role::Broker && member.state != NodeState::Down
        });
        self.everywhere.set_up(serving.map(|member| member.id).collect());
    }

    fn commit(&self, state: &mut State, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        if !state.caught_up {
            changes.iter().for_each(|change| state.sm.commit(change));
            return;
        }
        let mut members = false;
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
                Change::PutMember(_) | Change::RemoveMember { .. } => members = true,
                _ => {}
            }
        }
        if members {
            self.note_members(&state.sm);
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
    fn apply(&self, index: u64, command: &[u8]) -> Result<(), String> {
        let command = Command::decode(command).map_err(|error| error.to_string())?;
        let mut state = self.state.write();
        if let Some(round) = state.round.take_if(|round| round.id == command.id) {
            self.finish(state, round.planned, Some(index));
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
        let state = self.state.read();
        // Others need all of it; what is not durable goes when a node says that it has started.
        state.sm.snapshot(state.sm.members().next().is_some())
    }

    fn restore(&self, _index: u64, octets: &[u8]) -> Result<(), String> {
        self.take_over(octets)
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
