//! What quorum queues do differently: they count how often a message came back, tell consumers, and put it elsewhere.
//!
//! RabbitMQ 3.10: returned messages wait in a list of their own that goes first. Only where the client gives a
//! message back (`basic.nack`, `reject`, `recover`) to a queue without a delivery limit, it goes to the end.

use super::log::{Ranges, enqueue_record};
use super::ready::Entry;
use super::{Effects, Queue, Settle};
use crate::message::Message;
use crate::record::{DropReason, QseqRange, Record};
use amqp::content::{BasicProperties, Properties};
use amqp::table::FieldValue;

/// Level of the returned messages; the others are on 0. Quorum queues have no priorities.
const RETURNED: u8 = 1;

impl<H> Queue<H> {
    /// Takes messages back, in the order in which they were delivered.
    pub(super) fn return_to_quorum<E: Effects<Handle = H>>(
        &mut self,
        now: u64,
        mut back: Vec<Entry>,
        how: Settle,
        fx: &mut E,
    ) {
        back.iter_mut().for_each(|entry| entry.returns = entry.returns.saturating_add(1));
        if how == Settle::Requeue && self.config.delivery_limit.is_none() {
            back.into_iter().for_each(|entry| self.append_again(now, entry, fx));
            return;
        }
        let mut counted = Ranges::default();
        for mut entry in back {
            entry.priority = RETURNED;
            if entry.logged && self.config.delivery_limit.is_some() {
                counted.add(entry.qseq);
            }
            self.ready.push_back(entry);
        }
        if !counted.0.is_empty() {
            let at = self.at();
            let ranges = counted.0.as_slice().into();
            fx.log(&Record::Requeue { at, delivery_count_delta: 1, ranges });
        }
    }

    /// Puts a message behind all others. It gets a new position, so that positions ascend from the front to the
    /// back, as segments need it, and a restart finds it there.
    fn append_again<E: Effects<Handle = H>>(&mut self, now: u64, mut entry: Entry, fx: &mut E) {
        let old = std::mem::replace(&mut entry.qseq, self.next_qseq);
        self.next_qseq += 1;
        entry.priority = 0;
        if entry.logged {
            entry.log_floor = fx.log_floor();
            let view = entry.message.view();
            let at = self.at();
            fx.log(&enqueue_record(at, now, entry.qseq, entry.expires_ms, 0, entry.returns, view));
            self.log_drop(DropReason::Ack, &[QseqRange::one(old)], fx);
        }
        if std::mem::take(&mut entry.stored) {
            self.stored_gone(old, fx);
        }
        self.ready.push_back(entry);
        self.page_if_large(now, fx);
    }
}

/// The message as consumers see it: with `x-delivery-count`.
pub(super) fn with_delivery_count(message: &Message, returns: u32) -> Message {
    let parsed = Properties::parse(message.view().properties);
    let mut properties = parsed.map(BasicProperties::from).unwrap_or_default();
    let headers = properties.headers.get_or_insert_default();
    headers.insert("x-delivery-count", FieldValue::Long(i64::from(returns)));
    message.with_properties(&properties)
}
