//! Proposals of a node that does not lead: they go to the one that does.
//!
//! ```text
//! request:  MetaCommand...                 postcard
//! answer:   Led { index, outcomes } | NotLed
//! ```

use super::{Metadata, Proposal};
use broker_core::meta::{MetaCommand, MetaError, MetaReply};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Most commands of one request.
pub(super) const BATCH: usize = 512;

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The node leads; how far its log is carried out there, and what came of each command.
    Led { index: u64, outcomes: Vec<Option<Result<MetaReply, MetaError>>> },
    /// It does not.
    NotLed,
}

/// Commands as octets.
pub(super) fn request<'a>(commands: impl Iterator<Item = &'a MetaCommand>) -> Result<Bytes, String> {
    let commands: Vec<&MetaCommand> = commands.collect();
    postcard::to_stdvec(&commands).map(Bytes::from).map_err(|error| error.to_string())
}

/// Reads an answer.
pub(super) fn answer(octets: &[u8]) -> Result<Answer, String> {
    postcard::from_bytes(octets).map_err(|error| error.to_string())
}

impl Metadata {
    /// Answers a node that takes this one for the leader.
    ///
    /// # Errors
    /// What it sent makes no sense.
    pub(crate) async fn answer(&self, octets: Bytes) -> Result<Bytes, String> {
        let commands: Vec<MetaCommand> = postcard::from_bytes(&octets).map_err(|error| error.to_string())?;
        if commands.len() > BATCH {
            return Err(format!("{} commands in one request, {BATCH} are the limit", commands.len()));
        }
        let answer = self.lead(commands).await;
        postcard::to_stdvec(&answer).map(Bytes::from).map_err(|error| error.to_string())
    }

    async fn lead(&self, commands: Vec<MetaCommand>) -> Answer {
        if self.council().leads().is_none() {
            return Answer::NotLed;
        }
        let mut waiting = Vec::with_capacity(commands.len());
        for command in commands {
            match self.submit(command, true).await {
                Ok(outcome) => waiting.push(outcome),
                Err(_) => return Answer::NotLed,
            }
        }
        let mut outcomes = Vec::with_capacity(waiting.len());
        for outcome in waiting {
            // Dropped by a node that does not lead any more: whether it is carried out nobody knows.
            outcomes.push(outcome.await.ok());
        }
        Answer::Led { index: self.council().applied().borrow().index, outcomes }
    }
}

/// Answers what was forwarded; what nobody knows the outcome of comes back.
pub(super) fn settle(
    proposals: Vec<Proposal>,
    outcomes: Vec<Option<Result<MetaReply, MetaError>>>,
) -> Vec<Proposal> {
    let mut outcomes = outcomes.into_iter();
    let mut again = Vec::new();
    for proposal in proposals {
        match outcomes.next().flatten() {
            // Nobody may wait any more, if the connection ended.
            Some(outcome) => drop(proposal.reply.send(outcome)),
            None => again.push(proposal),
        }
    }
    again
}

/// What is answered when nobody leads for too long.
pub(super) fn nobody_leads() -> MetaError {
    MetaError::Journal(
        "no majority of the cluster's nodes answers; nothing can be changed until one does".to_owned(),
    )
}
