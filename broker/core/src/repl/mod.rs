//! Mirrored queues: what their leader ships, what followers take in, and what counts as safe.
//!
//! Nothing here elects or votes. Who leads a queue in which epoch, and which copies are in sync, are decisions of the
//! metadata ([`Placed`]); this module sees to it that what is confirmed under one decision survives under every later
//! one. Both cores are plain structures: they are given messages and the time, and say what to send and to propose.
//!
//! ```text
//! leader                                    follower
//!   Hello{stream} ───────────────────────────►  a new stream: what was attached is not any more
//!   Attach{queue, epoch} ────────────────────►  is the epoch the newest that it knows?
//!   ◄──────────── Attached{live} | Refused{fence}
//!   Plan{delete, missing} ───────────────────►  deletes what the leader does not have
//!   records of the queue's log … ────────────►  appends them to its own log
//!   Fill{missing messages}, beside the stream ►  takes those that are still missing
//!   ◄────── Ack{position}, FillAck{serial}      each after its own sync
//! ```
//!
//! * A *stream* is one connection's worth of order: everything a leader sends one follower, for all queues, numbered by
//!   *link position*. Answers carry the stream and count for that one only.
//! * A queue's *position* counts the records that its leader shipped in this epoch. A record is *committed* when every
//!   copy that counts has synced it: the in-sync set, and whoever is about to join it.
//! * A copy that still lacks messages from before it attached counts as having none of the stream.
//!
//! `broker/sim` has the protocol as a model (`protocol`), and runs these cores under faults (`cluster`).

mod follower;
mod leader;
mod led;
mod link;
mod message;
mod mids;
mod rules;
#[cfg(test)]
mod tests;

use crate::ids::NodeId;

pub use follower::{Copies, FollowerCore};
pub use leader::{Asked, LeaderCore};
pub use message::{BadMessage, Fill, Fresh, Refusal, Said, Stream, ToFollower, ToLeader};
pub use mids::{EpochTable, MidRange, MidSet};
pub use rules::Rule;

/// How long a follower may owe an answer before it is taken out of the in-sync set, milliseconds.
pub const PATIENCE_MS: u64 = 2000;
/// How long it may owe an answer before it is asked anew what it has, milliseconds.
pub const ASK_ANEW_MS: u64 = 3 * PATIENCE_MS;
/// Messages in one [`Fill`].
pub const FILL_MESSAGES: u64 = 512;
/// The number of a [`Fill`] that is only a part of one: it counts when the last part, which has the fill's own number,
/// is on the follower's disk.
pub const PART: u64 = 0;
/// Fills on their way to one follower.
pub const FILL_WINDOW: usize = 4;

/// What the metadata says of a queue that this node leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The leadership's number.
    pub epoch: u32,
    /// Raised by every decision about the queue's copies.
    pub cfg_ver: u32,
    /// The nodes with a copy, this one among them.
    pub replicas: Vec<NodeId>,
    /// Those of them that are in sync, this one among them.
    pub isr: Vec<NodeId>,
    /// Copies are filled by themselves (`ha-sync-mode: automatic`).
    pub automatic: bool,
    /// With fewer copies in sync, publishes are refused (`ha-min-in-sync`).
    pub min_in_sync: usize,
}
