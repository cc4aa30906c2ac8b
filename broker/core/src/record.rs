//! The records of the write-ahead log: what a queue's durable life consists of.
//!
//! ```text
//! varint len | u8 kind | u8 flags | varint queue_id | varint epoch | varint off | fields
//! ```
//!
//! `len` counts what follows it. Integers are LEB128 varints, at most ten bytes and none too many, so that a record
//! has one encoding only. Encoding appends to
//! the caller's buffer and allocates nothing else; decoding borrows from the caller's bytes, is
//! bounded by them and never panics, whatever they hold. Framing, checksums and positions are the
//! store's business (`broker-store`); this module knows single records only.
//!
//! | kind | record | fields |
//! | --- | --- | --- |
//! | 1 | ENQ | qseq, message |
//! | 2 | ENQ_MULTI | targets, message |
//! | 3 | DROP | u8 reason, ranges |
//! | 4 | REQUEUE | delivery count delta, ranges |
//! | 5 | HWM | hwm |
//! | 6 | EPOCH | leader node |
//! | 7 | QOPEN | next qseq, hwm |
//! | 8 | QCLOSE | - |
//! | 9 | SEGADD | first qseq, last qseq, opaque segment description |
//! | 10 | SEGDEL | first qseq |
//! | 11 | CKPT | lsn |
//! | 12 | TAKEN | opaque account of publishes |
//!
//! ```text
//! message  enq_ms, [expiry_ms], [u8 priority], [origin, seq], [delivery_count],
//!          len exchange, len routing key, len properties, body up to the end of the record
//! ranges   count, then per range: first, length - 1
//! targets  count, then per target: queue_id, epoch, off, qseq
//! ```
//!
//! What stands in brackets is present when its flag is set.

mod codec;
mod lists;
mod segment;
mod set;

use crate::message::MessageView;
pub use codec::DecodeError;
pub use lists::{QseqRange, Ranges, RangesIter, Target, Targets, TargetsIter};
pub use segment::SegmentRecords;
pub use set::QseqSet;

/// One log record, borrowed from the caller (encoding) or from the log's bytes (decoding).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// A message entered one queue.
    Enq(Enq<'a>),
    /// One message entered several queues of this node; its body is stored once.
    EnqMulti {
        /// The queues and the position of the message in each.
        targets: Targets<'a>,
        /// The message.
        message: Message<'a>,
    },
    /// Messages left a queue for good.
    Drop {
        /// Where in which queue's stream this record stands.
        at: At,
        /// Why they left.
        reason: DropReason,
        /// Which.
        ranges: Ranges<'a>,
    },
    /// Messages returned to a queue; only written for queues with a delivery limit.
    Requeue {
        /// Where in which queue's stream this record stands.
        at: At,
        /// Added to the delivery count of each message.
        delivery_count_delta: u32,
        /// Which.
        ranges: Ranges<'a>,
    },
    /// Messages with a `qseq` below `hwm` may have been sent to a consumer (reserved ahead).
    Hwm {
        /// Where in which queue's stream this record stands.
        at: At,
        /// The first `qseq` that was certainly not delivered yet.
        hwm: u64,
    },
    /// The durable fence: this node knows `at.epoch`, whose stream starts at `at.off`.
    Epoch {
        /// The new epoch and its first offset.
        at: At,
        /// Who leads it.
        leader: u64,
    },
    /// The queue exists here and its counters are at least these.
    ///
    /// Written when a queue is created, and again before the log files that hold its older records are
    /// released, so that its counters outlive them. Writing it twice changes nothing.
    QOpen {
        /// Where in which queue's stream this record stands.
        at: At,
        /// The next `qseq` to assign.
        next_qseq: u64,
        /// As in [`Record::Hwm`].
        hwm: u64,
    },
    /// The queue is gone, with every message in it.
    QClose {
        /// Where in which queue's stream this record stands.
        at: At,
    },
    /// Messages `first_qseq..=last_qseq` that are still live are in a segment file now.
    SegAdd {
        /// Where in which queue's stream this record stands.
        at: At,
        /// First message of the segment; names the file.
        first_qseq: u64,
        /// Last message of the segment.
        last_qseq: u64,
        /// The segment's description, as the store encodes it.
        meta: &'a [u8],
    },
    /// The segment that starts at `first_qseq` is gone.
    SegDel {
        /// Where in which queue's stream this record stands.
        at: At,
        /// Names the segment.
        first_qseq: u64,
    },
    /// Which publishes of other nodes the queue has taken, instead of all that older records say about it: of messages
    /// that were appended again or filled in the log does not know who published them.
    Taken {
        /// Where in which queue's stream this record stands.
        at: At,
        /// [`Origins`](crate::queue::origins::Origins), encoded.
        origins: &'a [u8],
    },
    /// The checkpoint that covers everything up to `lsn` is complete.
    Ckpt {
        /// The last log position in the checkpoint.
        lsn: u64,
    },
}

/// Where a record stands: the queue, the leadership epoch, and the record's number in the epoch's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct At {
    /// The queue's number; never reused, never derived from its name.
    pub queue_id: u64,
    /// Raised on every change of leader and every restart of the leader.
    pub epoch: u32,
    /// Number of the record in this epoch's replication stream.
    pub off: u64,
}

/// A message in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Enq<'a> {
    /// The queue's number.
    pub queue_id: u64,
    /// The epoch in which it was enqueued; with `qseq` the identity of the message.
    pub epoch: u32,
    /// Number of the record in this epoch's replication stream.
    pub off: u64,
    /// Position in the queue, strictly increasing over the queue's whole life.
    pub qseq: u64,
    /// The message.
    pub message: Message<'a>,
}

/// The parts of a message that are kept on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Message<'a> {
    /// When it entered the queue, milliseconds since 1970.
    pub enq_ms: u64,
    /// When it expires, milliseconds since 1970.
    pub expiry_ms: Option<u64>,
    /// Its priority, if it has one.
    pub priority: Option<u8>,
    /// Who published it, for finding a message that was sent twice.
    pub pub_ref: Option<PubRef>,
    /// How often it was delivered and returned, as counted so far (0 when it enters).
    pub delivery_count: u32,
    /// The exchange it was published to.
    pub exchange: &'a str,
    /// The routing key it was published with.
    pub routing_key: &'a str,
    /// The properties (flags and values) as on the wire.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// What of it was published.
    #[must_use]
    pub fn view(&self) -> MessageView<'a> {
        MessageView {
            exchange: self.exchange,
            routing_key: self.routing_key,
            properties: self.properties,
            body: self.body,
        }
    }
}

/// The node that a message was published at, when another one has the queue, and which publish to the queue it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PubRef {
    /// The node and which start of it: [`crate::queue::origins::life`].
    pub origin: u64,
    /// The publish's number among those to this queue.
    pub seq: u64,
}

/// Why messages left a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum DropReason {
    /// A consumer acknowledged them.
    Ack = 1,
    /// Their time to live ran out.
    Expired = 2,
    /// A length limit pushed them out.
    MaxLen = 3,
    /// `queue.purge`.
    Purged = 4,
    /// They are at the dead-letter target now, or had none.
    DeadLettered = 5,
}

impl DropReason {
    fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Ack,
            2 => Self::Expired,
            3 => Self::MaxLen,
            4 => Self::Purged,
            5 => Self::DeadLettered,
            _ => return None,
        })
    }
}

impl<'a> Record<'a> {
    /// Appends the encoded record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::encode(self, out);
    }

    /// Decodes the record at the start of `bytes`; also returns how many bytes it takes.
    ///
    /// # Errors
    /// Whatever is not exactly one whole record of a known kind.
    pub fn decode(bytes: &'a [u8]) -> Result<(Self, usize), DecodeError> {
        codec::decode(bytes)
    }

    /// The queue this record is about; `None` for [`Record::EnqMulti`] (ask its targets) and
    /// [`Record::Ckpt`].
    #[must_use]
    pub fn queue_id(&self) -> Option<u64> {
        match self {
            Self::Enq(enq) => Some(enq.queue_id),
            Self::Drop { at, .. }
            | Self::Requeue { at, .. }
            | Self::Hwm { at, .. }
            | Self::Epoch { at, .. }
            | Self::QOpen { at, .. }
            | Self::QClose { at }
            | Self::SegAdd { at, .. }
            | Self::Taken { at, .. }
            | Self::SegDel { at, .. } => Some(at.queue_id),
            Self::EnqMulti { .. } | Self::Ckpt { .. } => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
