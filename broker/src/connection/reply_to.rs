//! Direct reply-to: answers go straight from the responder's channel to the requester's, without a queue
//! (RabbitMQ's `amq.rabbitmq.reply-to`).
//!
//! ```text
//! requester                                                     responder
//! basic.consume amq.rabbitmq.reply-to (no_ack)
//! basic.publish reply_to=amq.rabbitmq.reply-to  -- rewritten -> reply_to=amq.rabbitmq.reply-to.<token>
//! basic.deliver  <---------------------------------------------- basic.publish "" amq.rabbitmq.reply-to.<token>
//! ```
//!
//! The token names connection and channel and ends in a random part that nobody can guess. A reply whose
//! requester is gone counts as unroutable.

use super::Connection;
use super::basic::precondition;
use super::outbox::{Outbox, ReplyConsumer};
use crate::node::Node;
use crate::shard::Turn;
use amqp::method::basic;
use amqp::reply_code;
use broker_core::exception::Exception;
use broker_core::ids::ConnectionId;
use broker_core::message::MessageView;
use std::sync::Arc;

/// The pseudo queue that requesters consume from.
pub(crate) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// What the address of a requester begins with.
const PREFIX: &str = "amq.rabbitmq.reply-to.";

/// Whether a message published to the default exchange with this key is a direct reply.
pub(crate) fn is_reply(routing_key: &str) -> bool {
    routing_key.starts_with(PREFIX)
}

/// Takes a requester's address apart: connection and channel.
fn parse_address(address: &str) -> Option<(ConnectionId, u16)> {
    let mut parts = address.strip_prefix(PREFIX)?.split('.');
    let connection = u64::from_str_radix(parts.next()?, 16).ok()?;
    let channel = u16::from_str_radix(parts.next()?, 16).ok()?;
    Some((ConnectionId(connection), channel))
}

/// Whether somebody waits for replies under this name, as a declare of it asks.
pub(crate) fn exists(node: &Node, name: &str) -> bool {
    name == REPLY_TO
        || parse_address(name).is_some_and(|(connection, channel)| {
            // Of another node: asked elsewhere.
            let requester = node.connections.get(connection);
            requester.is_some_and(|requester| requester.outbox.expects_reply(channel, name))
        })
}

impl Connection {
    /// `basic.consume` from the pseudo queue.
    ///
    /// # Errors
    /// 406 when the consumer wants to acknowledge, or when the channel has such a consumer already.
    pub(crate) fn consume_replies(
        &mut self,
        turn: &mut Turn<'_>,
        number: u16,
        consume: &basic::Consume<'_>,
    ) -> Result<(), Exception> {
        let node = Arc::clone(&self.node);
        let connection = self.info.id.0;
        let open = self.channel(number)?;
        if !consume.no_ack {
            return Err(precondition("reply consumer cannot acknowledge"));
        }
        if open.replies.is_some() {
            return Err(precondition("reply consumer already set"));
        }
        let tag: Arc<str> = match consume.consumer_tag {
            "" => Arc::from(node.unique_name("amq.ctag-")),
            tag => Arc::from(tag),
        };
        let address = Arc::from(node.unique_name(&format!("{PREFIX}{connection:x}.{number:x}.")));
        let consumer = ReplyConsumer { tag: Arc::clone(&tag), address };
        open.replies = Some(consumer.clone());
        self.outbox.set_reply_consumer(number, Some(consumer));
        if !consume.nowait {
            self.send(turn, number, &basic::ConsumeOk { consumer_tag: &tag });
        }
        Ok(())
    }

    /// Ends the consumer of direct replies, if that is its tag.
    pub(crate) fn cancel_replies(&mut self, number: u16, tag: &str) {
        let Some(open) = self.channels.get_mut(&number) else { return };
        if open.replies.take_if(|replies| *replies.tag == *tag).is_some() {
            self.outbox.set_reply_consumer(number, None);
        }
    }

    /// What a request with `reply-to: amq.rabbitmq.reply-to` carries instead.
    ///
    /// # Errors
    /// 406 when the channel does not consume replies.
    pub(crate) fn reply_address(
        &self,
        number: u16,
        reply_to: Option<&[u8]>,
    ) -> Result<Option<Arc<str>>, Exception> {
        if reply_to != Some(REPLY_TO.as_bytes()) {
            return Ok(None);
        }
        let replies = self.channels.get(&number).and_then(|open| open.replies.as_ref());
        match replies {
            Some(replies) => Ok(Some(Arc::clone(&replies.address))),
            None => Err(precondition("fast reply consumer does not exist")),
        }
    }

    /// Sends a direct reply to its requester. Returns whether there is one; one of another node is taken to be
    /// there.
    pub(crate) fn deliver_reply(&self, turn: &mut Turn<'_>, view: &MessageView<'_>) -> bool {
        match slot_of(view.routing_key) {
            Some(slot) if slot != self.node.forward.slot() => {
                turn.close();
                turn.forward_reply(slot, view)
            }
            _ => deliver_here(&self.node, turn, view),
        }
    }
}

/// The node's number in a requester's address.
pub(crate) fn slot_of(address: &str) -> Option<u16> {
    parse_address(address).map(|(connection, _)| (connection.0 >> 48) as u16)
}

/// Sends a direct reply to a requester of this node. Returns whether it is there.
pub(crate) fn deliver_here(node: &Node, turn: &mut Turn<'_>, view: &MessageView<'_>) -> bool {
    let Some((connection, channel)) = parse_address(view.routing_key) else { return false };
    let Some(requester) = node.connections.get(connection) else { return false };
    let outbox: &Arc<Outbox> = &requester.outbox;
    let Some(first) = outbox.deliver_reply(channel, view) else { return false };
    turn.touch(outbox, first);
    true
}

/// A missing requester, as a declare of its address sees it.
pub(crate) fn no_requester(name: &str, vhost: &str) -> Exception {
    Exception::channel(reply_code::NOT_FOUND, format!("no queue '{name}' in vhost '{vhost}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_connection_and_channel() {
        let address = "amq.rabbitmq.reply-to.1f.a.QUJD_-";
        assert_eq!(parse_address(address), Some((ConnectionId(0x1f), 10)));
        assert!(is_reply(address));
        for wrong in
            [REPLY_TO, "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.x.1.k", "amq.rabbitmq.reply-to.1"]
        {
            assert_eq!(parse_address(wrong), None, "{wrong}");
        }
    }
}
