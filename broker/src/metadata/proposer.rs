//! The thread on which changes of metadata are proposed, in rounds, and made.

use super::{OpenError, Planned, Round, Shared, failed};
use crate::cluster::{Consensus, Machine, StartError};
use crate::metadata::footprint::Footprint;
use broker_core::meta::log::{CommandWriter, LoggedChanges, RoundId};
use broker_core::meta::{Change, MetaCommand, MetaError, MetaReply};
use broker_store::raft_log::RaftLog;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use tokio::sync::{mpsc, oneshot};

/// Most proposals of one round.
const ROUND: usize = 512;
/// Octets of changes after which a round takes no more.
const ROUND_BYTES: usize = 8 << 20;

/// Something that somebody wants changed.
pub(super) struct Proposal {
    pub(super) command: MetaCommand,
    pub(super) reply: oneshot::Sender<Result<MetaReply, MetaError>>,
}

/// What the thread does: takes part in consensus, tells `ready` when the state is that of before, proposes
/// until nobody can ask any more, and closes the log.
pub(super) fn run(
    node_name: &str,
    log: RaftLog,
    shared: &Arc<Shared>,
    proposals: mpsc::Receiver<Proposal>,
    ready: &Sender<Result<(), OpenError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(OpenError::Thread(error)))),
    };
    let worked = runtime.block_on(async {
        let machine: Arc<dyn Machine> = Arc::<Shared>::clone(shared);
        let consensus = Consensus::start(node_name, log, machine).await?;
        shared.catch_up();
        // Whoever opens the metadata waits for this.
        let _ = ready.send(Ok(()));
        let mut proposer = Proposer::new(Arc::clone(shared), consensus);
        proposer.run(proposals).await;
        Ok::<_, StartError>(proposer.consensus.stop().await)
    });
    // Ends the tasks of consensus, and with them the writer of the log.
    drop(runtime);
    match worked {
        // A panic of the writer was reported when it happened.
        Ok(writer) => drop(writer.join()),
        Err(error) => drop(ready.send(Err(error.into()))),
    }
}

struct Proposer {
    shared: Arc<Shared>,
    consensus: Consensus,
    waiting: VecDeque<Proposal>,
    /// The id of the next round.
    id: RoundId,
}

impl Proposer {
    fn new(shared: Arc<Shared>, consensus: Consensus) -> Proposer {
        let id = RoundId::first(rand::random());
        Proposer { shared, consensus, waiting: VecDeque::new(), id }
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
            self.round().await;
        }
    }

    /// Plans as many waiting proposals as fit together, and has them written and made.
    async fn round(&mut self) {
        if self.shared.failed.load(Ordering::Acquire) {
            for proposal in self.waiting.drain(..) {
                let _ = proposal.reply.send(Err(failed()));
            }
            return;
        }
        if let Some(command) = self.plan()
            && let Err(error) = self.consensus.write(command).await
        {
            self.shared.on_failure(&error);
        }
    }

    /// Plans a round, and makes its changes if nothing in it is durable; else returns the command for the log.
    fn plan(&mut self) -> Option<Vec<u8>> {
        let id = self.id;
        let mut command = CommandWriter::new(id);
        let mut planned = Vec::new();
        let mut state = self.shared.state.write();
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
            match plan.and_then(|plan| append_durable(&mut command, index, &plan.changes).map(|()| plan)) {
                Err(error) => drop(proposal.reply.send(Err(error))),
                Ok(plan) => {
                    state.in_flight.add(&footprint);
                    planned.push(Planned { plan, reply: proposal.reply });
                }
            }
        }
        if command.is_empty() {
            self.shared.finish(state, planned);
            return None;
        }
        self.id.advance();
        state.round = Some(Round { id, planned });
        Some(command.into_octets())
    }
}

/// Adds the durable ones of the changes of a proposal to a command, if there are any.
fn append_durable(command: &mut CommandWriter, index: u64, changes: &[Change]) -> Result<(), MetaError> {
    let changes: Vec<Change> = changes.iter().filter(|change| change.is_durable()).cloned().collect();
    if !changes.is_empty() {
        command.push(&LoggedChanges { index, changes }).map_err(MetaError::Invalid)?;
    }
    Ok(())
}
