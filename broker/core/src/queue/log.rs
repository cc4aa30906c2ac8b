//! What a queue writes to the log.

use super::ready::Entry;
use crate::message::MessageView;
use crate::record::{self, At, QseqRange, Record};

/// The record of a message that is in a queue.
pub(super) fn entry_record(at: At, now: u64, entry: &Entry) -> Record<'_> {
    let Entry { qseq, expires_ms, priority, returns, .. } = *entry;
    enqueue_record(at, now, qseq, expires_ms, priority, returns, entry.message.view())
}

/// The record of a message that enters a queue.
pub(super) fn enqueue_record<'a>(
    at: At,
    now: u64,
    qseq: u64,
    expires_ms: u64,
    priority: u8,
    delivery_count: u32,
    view: MessageView<'a>,
) -> Record<'a> {
    Record::Enq(record::Enq {
        queue_id: at.queue_id,
        epoch: at.epoch,
        off: at.off,
        qseq,
        message: record::Message {
            enq_ms: now,
            expiry_ms: (expires_ms != 0).then_some(expires_ms),
            priority: (priority != 0).then_some(priority),
            pub_ref: None,
            delivery_count,
            exchange: view.exchange,
            routing_key: view.routing_key,
            properties: view.properties,
            body: view.body,
        },
    })
}

/// Positions folded into ranges where they follow each other.
#[derive(Default)]
pub(super) struct Ranges(pub(super) Vec<QseqRange>);

impl Ranges {
    pub(super) fn add(&mut self, qseq: u64) {
        match self.0.last_mut() {
            Some(range) if range.last + 1 == qseq => range.last = qseq,
            _ => self.0.push(QseqRange::one(qseq)),
        }
    }
}
