//! What leaders and followers say to each other, and how it lies on the wire.
//!
//! ```text
//! leader → follower    0 | postcard of ToFollower
//!                      1 | records as in the log, one after the other
//! follower → leader    postcard of ToLeader
//! beside the stream    postcard of (queue, epoch, stream, serial), then records
//! ```

use super::mids::{EpochTable, MidSet};
use crate::ids::QueueId;
use crate::queue::origins::Origins;
use crate::record::Record;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The number of a stream, chosen by its leader and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stream(pub u64);

/// What a leader tells a follower, beside records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToFollower {
    /// A new stream begins; the first message of each.
    Hello {
        /// Its number.
        stream: Stream,
    },
    /// Wants to ship a queue's records; says nothing yet.
    Attach {
        /// The queue.
        queue: QueueId,
        /// The epoch in which it is led.
        epoch: u32,
    },
    /// How to become a copy of the queue as it is now: every record behind this message comes on top.
    Plan {
        /// The queue.
        queue: QueueId,
        /// The epoch in which it is led.
        epoch: u32,
        /// What the follower has and the leader has not.
        delete: MidSet,
        /// What the leader has and the follower has not.
        missing: MidSet,
        /// What else there is to know.
        fresh: Fresh,
    },
    /// The node has no copy of the queue any more, or not from this leader.
    Detach {
        /// The queue.
        queue: QueueId,
    },
}

/// A queue's counters, for a copy that begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fresh {
    /// Which positions belong to which epoch.
    pub epochs: EpochTable,
    /// The next position.
    pub next_qseq: u64,
    /// Messages below it may have been delivered.
    pub hwm: u64,
    /// Which publishes were taken.
    pub origins: Origins,
}

/// What a follower tells a leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToLeader {
    /// The stream this is about; other streams' leaders ignore it.
    pub stream: Stream,
    /// How many refusals were said before in this stream. A leader that has not heard them all must not believe what
    /// follows.
    pub refusals: u64,
    /// What is said.
    pub said: Said,
}

/// See [`ToLeader`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// What the follower has of a queue.
    Attached {
        /// The queue.
        queue: QueueId,
        /// The epoch of the question.
        epoch: u32,
        /// The messages.
        live: MidSet,
    },
    /// The follower does not listen to this leader about this queue.
    Refused(Refusal),
    /// Everything up to this link position is on the follower's disk, where it was not refused.
    Ack {
        /// The position.
        position: u64,
    },
    /// A fill is on the follower's disk.
    FillAck {
        /// The queue.
        queue: QueueId,
        /// The epoch of the fill.
        epoch: u32,
        /// The fill's number.
        serial: u64,
    },
    /// The follower lost the thread: a new stream has to begin.
    Reset,
}

/// Why a follower does not listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The queue.
    pub queue: QueueId,
    /// The newest epoch that the follower knows.
    pub fence: u32,
}

/// Messages that a follower lacks. They travel beside the stream, so that they do not hold it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fill<'a> {
    /// The queue.
    pub queue: QueueId,
    /// The epoch in which it is led.
    pub epoch: u32,
    /// The stream in which the follower attached.
    pub stream: Stream,
    /// Numbers the fills of one queue in one stream.
    pub serial: u64,
    /// `ENQ` records, one after the other. What was dropped since they were asked for is not among them.
    pub records: &'a [u8],
}

/// Octets that are not a message of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a message of replication")]
pub struct BadMessage;

/// A frame of a stream.
#[derive(Debug)]
pub(super) enum Frame<'a> {
    Message(ToFollower),
    Records(&'a [u8]),
}

const MESSAGE: u8 = 0;
const RECORDS: u8 = 1;

impl ToFollower {
    /// The message as a frame of the stream.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![MESSAGE]).expect("memory takes what it is given")
    }

    /// The frame of records that were gathered behind [`ToFollower::records_frame`]'s first octet.
    #[must_use]
    pub fn records_frame() -> Vec<u8> {
        vec![RECORDS]
    }
}

impl<'a> Frame<'a> {
    pub(super) fn decode(octets: &'a [u8]) -> Result<Self, BadMessage> {
        match octets.split_first() {
            Some((&MESSAGE, message)) => {
                Ok(Self::Message(postcard::from_bytes(message).map_err(|_| BadMessage)?))
            }
            Some((&RECORDS, records)) => Ok(Self::Records(records)),
            _ => Err(BadMessage),
        }
    }
}

impl ToLeader {
    /// The message as octets.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("memory takes what it is given")
    }

    /// Reads a message.
    ///
    /// # Errors
    /// Whatever is not one.
    pub fn decode(octets: &[u8]) -> Result<Self, BadMessage> {
        postcard::from_bytes(octets).map_err(|_| BadMessage)
    }
}

impl<'a> Fill<'a> {
    /// Starts a fill: its records are appended to what this returns.
    #[must_use]
    pub fn head(queue: QueueId, epoch: u32, stream: Stream, serial: u64) -> Vec<u8> {
        postcard::to_stdvec(&(queue, epoch, stream, serial)).expect("memory takes what it is given")
    }

    /// Reads a fill.
    ///
    /// # Errors
    /// Whatever is not one.
    pub fn decode(octets: &'a [u8]) -> Result<Self, BadMessage> {
        let ((queue, epoch, stream, serial), records) =
            postcard::take_from_bytes(octets).map_err(|_| BadMessage)?;
        Ok(Self { queue, epoch, stream, serial, records })
    }
}

/// The records of a frame, with their octets.
pub(super) fn records(mut octets: &[u8]) -> impl Iterator<Item = Result<(Record<'_>, &[u8]), BadMessage>> {
    std::iter::from_fn(move || {
        if octets.is_empty() {
            return None;
        }
        let Ok((record, used)) = Record::decode(octets) else {
            octets = &[];
            return Some(Err(BadMessage));
        };
        let (one, rest) = octets.split_at(used);
        octets = rest;
        Some(Ok((record, one)))
    })
}
