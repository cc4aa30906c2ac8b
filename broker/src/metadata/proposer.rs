//! The thread on which changes of metadata are proposed, in rounds, and made.

use super::forward::{self, Answer};
use super::{Machine, OpenError, Planned, Proposal, Round, Shared, failed};
use crate::cluster::{Consensus, Council, Service, StartError, WriteError};
use crate::metadata::footprint::Footprint;
use broker_core::ids::NodeId;
use broker_core::meta::log::{CommandWriter, LoggedChanges, RoundId};
use broker_core::meta::{Change, MetaError};
use broker_store::raft_log::RaftLog;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Most proposals of one round.
const ROUND: usize = 512;
/// Octets of changes after which a round takes no more.
const ROUND_BYTES: usize = 8 << 20;
/// How long a proposal waits for somebody to lead.
const LEADER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the leader may take over the proposals of another node.
const ANSWER_PATIENCE: Duration = Duration::from_secs(8);
/// A leader that no majority has answered for so long plans nothing.
const MAJORITY_AGE: Duration = Duration::from_secs(2);
/// Pause before a leader that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);
/// How often it is looked whether somebody leads, if nobody says so.
const LOOK: Duration = Duration::from_millis(100);

/// What the thread does: takes part in consensus, tells `ready` when the state is that of before, proposes
/// until nobody can ask any more, and closes the log.
pub(super) fn run(
    log: RaftLog,
    shared: &Arc<Shared>,
    proposals: mpsc::Receiver<Proposal>,
    ready: &Sender<Result<Council, OpenError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(OpenError::Thread(error)))),
    };
    let worked = runtime.block_on(async {
        let machine: Arc<dyn Machine> = Arc::<Shared>::clone(shared);
        let consensus = Consensus::start(&shared.seat, log, machine).await?;
        let standing = *consensus.council().standing().borrow();
        if !shared.seat.joined && standing.votes && standing.voters == 1 {
            shared.catch_up();
        }
        // Whoever opens the metadata waits for this.
        let _ = ready.send(Ok(consensus.council().clone()));
        tokio::spawn(look_after(Arc::clone(shared), consensus.council().clone()));
        let mut proposer = Proposer::new(Arc::clone(shared), consensus.council().clone());
        proposer.run(proposals).await;
        Ok::<_, StartError>(consensus.stop().await)
    });
    // Ends the tasks of consensus, and with them the writer of the log.
    drop(runtime);
    match worked {
        // A panic of the writer was reported when it happened.
        Ok(writer) => drop(writer.join()),
        Err(error) => drop(ready.send(Err(error.into()))),
    }
}

/// In a cluster: lets nobody wait for too long for nodes that do not keep up, and takes snapshots when another
/// node leads.
async fn look_after(shared: Arc<Shared>, council: Council) {
    let mut applied = council.applied();
    loop {
        let waits = shared.everywhere.look();
        let pause = async {
            if waits || !shared.is_alone() { sleep(LOOK).await } else { std::future::pending().await }
        };
        tokio::select! {
            changed = applied.changed() => if changed.is_err() { return },
            () = pause => {}
        }
        if !shared.is_alone()
            && let Err(error) = council.snapshot_when_due().await
        {
            tracing::debug!(%error, "no snapshot");
        }
    }
}

struct Proposer {
    shared: Arc<Shared>,
    council: Council,
    waiting: VecDeque<Proposal>,
    /// The id of the next round.
    id: RoundId,
}

/// Who can carry out what waits.
enum Way {
    /// This node, in this term.
    Here(u64),
    /// The leader.
    There(NodeId),
    /// Nobody now.
    None,
}

impl Proposer {
    fn new(shared: Arc<Shared>, council: Council) -> Proposer {
        let id = RoundId::first(rand::random());
        Proposer { shared, council, waiting: VecDeque::new(), id }
    }

    async fn run(&mut self, mut proposals: mpsc::Receiver<Proposal>) {
        loop {
            if self.waiting.is_empty() {
                match proposals.recv().await {
                    Some(proposal) => self.waiting.push_back(proposal),
                    None => break,
                }
            }
            while self.waiting.len() < ROUND
                && let Ok(proposal) = proposals.try_recv()
            {
                self.waiting.push_back(proposal);
            }
            if self.shared.failed.load(Ordering::Acquire) {
                for proposal in self.waiting.drain(..) {
                    let _ = proposal.reply.send(Err(failed()));
                }
                continue;
            }
            match self.way() {
                Way::Here(term) => self.round(term, &mut proposals).await,
                Way::There(leader) => self.forward(leader).await,
                Way::None => {
                    if self.shared.is_closing() {
                        break;
                    }
                    self.wait_for_leader().await;
                }
            }
        }
    }

    fn way(&self) -> Way {
        if let Some(term) = self.council.leads() {
            let heard = self.council.majority_age().is_some_and(|age| age < MAJORITY_AGE);
            return if heard || self.shared.is_alone() { Way::Here(term) } else { Way::None };
        }
        let standing = *self.council.standing().borrow();
        match standing.leader {
            Some(leader) if leader != self.shared.seat.me => Way::There(leader),
            _ => Way::None,
        }
    }

    /// Gives up what has waited for too long, and waits for a moment.
    async fn wait_for_leader(&mut self) {
        self.give_back_forwarded();
        self.give_up_old();
        let (mut standing, mut applied) = (self.council.standing(), self.council.applied());
        standing.mark_unchanged();
        applied.mark_unchanged();
        if !matches!(self.way(), Way::None) {
            return;
        }
        let changed = async {
            tokio::select! {
                it = standing.changed() => it.is_ok(),
                it = applied.changed() => it.is_ok(),
            }
        };
        if let Ok(false) = timeout(LOOK, changed).await {
            // Consensus has ended: nothing will change any more.
            sleep(LOOK).await;
        }
    }

    fn give_up_old(&mut self) {
        let old = |proposal: &Proposal| proposal.since.elapsed() >= LEADER_PATIENCE;
        while self.waiting.front().is_some_and(old)
            && let Some(proposal) = self.waiting.pop_front()
        {
            let _ = proposal.reply.send(Err(forward::nobody_leads()));
        }
    }

    /// What comes from nodes that took this one for the leader is theirs to send elsewhere.
    fn give_back_forwarded(&mut self) {
        self.waiting.retain(|proposal| !proposal.forwarded);
    }

    /// Has the leader carry out what waits.
    async fn forward(&mut self, leader: NodeId) {
        self.give_back_forwarded();
        let count = self.waiting.len().min(forward::BATCH);
        let batch: Vec<Proposal> = self.waiting.drain(..count).collect();
        if batch.is_empty() {
            return;
        }
        let again = match self.ask(leader, &batch).await {
            Ok(Answer::Led { index, outcomes }) => {
                self.wait_until_applied(index).await;
                forward::settle(batch, outcomes)
            }
            Ok(Answer::NotLed) => batch,
            Err(error) => {
                tracing::debug!(%leader, %error, "the leader does not answer");
                batch
            }
        };
        if self.shared.is_closing() {
            // Nobody is waited for any more.
            again.into_iter().for_each(|proposal| drop(proposal.reply.send(Err(forward::nobody_leads()))));
        } else if !again.is_empty() {
            again.into_iter().rev().for_each(|proposal| self.waiting.push_front(proposal));
            sleep(ASK_AGAIN).await;
            self.wait_for_leader().await;
        }
    }

    async fn ask(&self, leader: NodeId, batch: &[Proposal]) -> Result<Answer, String> {
        let network = self.shared.seat.network.as_ref().ok_or("this node has no links")?;
        let request = forward::request(batch.iter().map(|proposal| &proposal.command))?;
        let mut standing = self.council.standing();
        let replaced = standing.wait_for(|now| now.leader.is_some_and(|now| now != leader));
        let answer = tokio::select! {
            answer = network.call(leader, Service::Propose, request, ANSWER_PATIENCE) => answer?,
            // What it may have carried out is proposed again, as when its answer is lost.
            Ok(_) = replaced => return Err("another node leads".to_owned()),
        };
        forward::answer(&answer)
    }

    /// What the leader has answered is so here too before anybody is told.
    async fn wait_until_applied(&self, index: u64) {
        let mut applied = self.council.applied();
        // A node that lags behind so far is not waited for: its clients see it a little later.
        let _ = timeout(ANSWER_PATIENCE, applied.wait_for(|applied| applied.index >= index)).await;
    }

    /// Plans as many waiting proposals as fit together, and has them written and made.
    async fn round(&mut self, term: u64, proposals: &mut mpsc::Receiver<Proposal>) {
        let Some(command) = self.plan() else { return };
        let council = self.council.clone();
        let write = council.write(term, command);
        tokio::pin!(write);
        let begun = Instant::now();
        let outcome = loop {
            if let Ok(outcome) = timeout(LOOK, &mut write).await {
                break outcome;
            }
            if self.shared.is_alone() {
                // Its own disk decides, and is waited for.
                continue;
            }
            if self.shared.is_closing() {
                return;
            }
            if begun.elapsed() >= LEADER_PATIENCE {
                // It may be carried out yet, as what it says; nobody waits for that.
                let round = self.shared.state.write().round.take();
                for planned in round.into_iter().flat_map(|round| round.planned) {
                    let _ = planned.reply.send(Err(forward::nobody_leads()));
                }
            }
            while self.waiting.len() < ROUND
                && let Ok(proposal) = proposals.try_recv()
            {
                self.waiting.push_back(proposal);
            }
            self.give_up_old();
        };
        if !self.shared.is_alone() {
            // What was given up above is not in flight any more.
            self.shared.state.write().in_flight = super::InFlight::default();
        }
        match outcome {
            Ok(()) => {}
            Err(WriteError::LostLead(reason)) => {
                tracing::info!(reason, "another node leads; what was proposed is proposed again");
                self.take_back();
            }
            Err(WriteError::Failed(error)) => self.shared.on_failure(&error),
        }
    }

    /// Another leader may or may not carry out the round: it is planned again, on what is there then.
    fn take_back(&mut self) {
        let round = {
            let mut state = self.shared.state.write();
            state.in_flight = super::InFlight::default();
            state.round.take()
        };
        for planned in round.into_iter().flat_map(|round| round.planned).rev() {
            if let Some(super::Again { command, since, forwarded }) = planned.again {
                self.waiting.push_front(Proposal { command, reply: planned.reply, since, forwarded });
            }
        }
    }

    /// Plans a round, and makes its changes if nothing in it is durable; else returns the command for the log.
    fn plan(&mut self) -> Option<Vec<u8>> {
        let id = self.id;
        let mut command = CommandWriter::new(id);
        let mut planned = Vec::new();
        let mut state = self.shared.state.write();
        let alone = self.shared.is_alone();
        while command.len() < ROUND_BYTES
            && let Some(proposal) = self.waiting.pop_front()
        {
            let plan = state.plan(&proposal.command);
            let footprint = Footprint::new(&state.sm, &proposal.command, plan.as_ref().ok());
            if state.in_flight.conflicts(&footprint) {
                self.waiting.push_front(proposal);
                break;
            }
            let index = state.next_index - 1;
            let appended =
                plan.and_then(|plan| append(&mut command, index, &plan.changes, alone).map(|()| plan));
            match appended {
                Err(error) => drop(proposal.reply.send(Err(error))),
                Ok(plan) => {
                    state.in_flight.add(&footprint);
                    let Proposal { command, reply, since, forwarded } = proposal;
                    let again = (!alone).then_some(super::Again { command, since, forwarded });
                    planned.push(Planned { plan, reply, again });
                }
            }
        }
        if command.is_empty() {
            self.shared.finish(state, planned, None);
            return None;
        }
        self.id.advance();
        state.round = Some(Round { id, planned });
        Some(command.into_octets())
    }
}

/// Adds the changes of a proposal to a command, if there are any: on a node alone the durable ones.
fn append(command: &mut CommandWriter, index: u64, changes: &[Change], alone: bool) -> Result<(), MetaError> {
    let wanted = |change: &&Change| !alone || change.is_durable();
    let changes: Vec<Change> = changes.iter().filter(wanted).cloned().collect();
    if !changes.is_empty() {
        command.push(&LoggedChanges { index, changes }).map_err(MetaError::Invalid)?;
    }
    Ok(())
}
