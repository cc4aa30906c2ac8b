//! What quorum queues do differently: they count how often a message came back, tell consumers, and put it elsewhere.
//!
//! RabbitMQ 3.10: returned messages wait in a list of their own that goes first. Only where the client gives a
//! message back (`basic.nack`, `reject`, `recover`) to a queue without a delivery limit, it goes to the end.

use super::log::Ranges;
use super::ready::Entry;
use super::{Effects, Queue, Settle};
use crate::message::Message;
use crate::record::Record;
use amqp::content::{BasicProperties, Properties};
use amqp::table::FieldValue;

/// Level of the returned messages; the others are on 0. Quorum queues have no priorities.
const RETURNED: u8 = 1;

impl<H> Queue<H> {
    /// Takes messages back, in the order in which they were delivered.
    pub(super) fn return_to_quorum<E: Effects<Handle = H>>(
        &mut self,
        back: Vec<Entry>,
        how: Settle,
        fx: &mut E,
    ) {
        let last = how == Settle::Requeue && self.config.delivery_limit.is_none();
        let mut counted = Ranges::default();
        for mut entry in back {
            entry.returns = entry.returns.saturating_add(1);
            entry.priority = if last { 0 } else { RETURNED };
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
}

/// The message as consumers see it: with `x-delivery-count`.
pub(super) fn with_delivery_count(message: &Message, returns: u32) -> Message {
    let parsed = Properties::parse(message.view().properties);
    let mut properties = parsed.map(BasicProperties::from).unwrap_or_default();
    let headers = properties.headers.get_or_insert_default();
    headers.insert("x-delivery-count", FieldValue::Long(i64::from(returns)));
    message.with_properties(&properties)
}
