//! A message: borrowed while it is in transit, owned and shared once it must wait.
//!
//! A publish is looked at where it lies in the connection's read buffer ([`MessageView`]). Only a
//! message that stays in a queue is copied out into a [`Message`] of its own, because a slice would
//! keep its whole read buffer alive.

use crate::record::PubRef;
use amqp::content::BasicProperties;
use bytes::Bytes;
use std::sync::Arc;

/// The parts of a message that consumers see, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Exchange it was published to; empty for the default exchange.
    pub exchange: &'a str,
    /// Routing key it was published with.
    pub routing_key: &'a str,
    /// Property flags and list exactly as received (AMQP 0-9-1 section 4.2.6.1).
    pub properties: &'a [u8],
    /// The whole body.
    pub body: &'a [u8],
}

/// A message that waits: one allocation holds exchange, routing key, properties and body.
#[derive(Debug)]
pub struct Message {
    data: Bytes,
    exchange_len: u8,
    routing_key_len: u8,
    properties_len: u32,
    /// Delivery mode 2: survives a restart when its queue is durable.
    pub persistent: bool,
}

impl Message {
    /// Copies a view into an allocation of its own.
    pub fn copy_from(view: &MessageView<'_>, persistent: bool) -> Message {
        let mut data = Vec::with_capacity(
            view.exchange.len() + view.routing_key.len() + view.properties.len() + view.body.len(),
        );
        data.extend_from_slice(view.exchange.as_bytes());
        data.extend_from_slice(view.routing_key.as_bytes());
        data.extend_from_slice(view.properties);
        data.extend_from_slice(view.body);
        Message {
            data: Bytes::from(data),
            exchange_len: short_len(view.exchange),
            routing_key_len: short_len(view.routing_key),
            properties_len: view.properties.len() as u32,
            persistent,
        }
    }

    /// Takes over a buffer that already holds exchange, routing key, properties and body in this
    /// order, as [`crate::channel::content::Assembly`] collects them.
    pub fn from_parts(
        data: Vec<u8>,
        exchange: &str,
        routing_key: &str,
        properties_len: usize,
        persistent: bool,
    ) -> Message {
        debug_assert!(data.starts_with(exchange.as_bytes()));
        Message {
            data: Bytes::from(data),
            exchange_len: short_len(exchange),
            routing_key_len: short_len(routing_key),
            properties_len: properties_len as u32,
            persistent,
        }
    }

    /// A copy with other properties.
    pub fn with_properties(&self, properties: &BasicProperties) -> Message {
        let view = self.view();
        let mut raw = Vec::with_capacity(view.properties.len() + 32);
        properties.encode(&mut raw);
        Message::copy_from(&MessageView { properties: &raw, ..view }, self.persistent)
    }

    /// The message as consumers see it.
    pub fn view(&self) -> MessageView<'_> {
        let (exchange, rest) = self.data.split_at(usize::from(self.exchange_len));
        let (routing_key, rest) = rest.split_at(usize::from(self.routing_key_len));
        let (properties, body) = rest.split_at(self.properties_len as usize);
        MessageView { exchange: text(exchange), routing_key: text(routing_key), properties, body }
    }

    /// The body as a shared slice, for writers that send large bodies without copying them.
    pub fn body(&self) -> Bytes {
        self.data.slice(self.data.len() - self.body_len()..)
    }

    /// Octets of the body.
    pub fn body_len(&self) -> usize {
        self.data.len()
            - usize::from(self.exchange_len)
            - usize::from(self.routing_key_len)
            - self.properties_len as usize
    }

    /// Octets of memory the message holds, headers included.
    pub fn memory(&self) -> usize {
        self.data.len() + size_of::<Message>() + 2 * size_of::<usize>()
    }
}

/// A message on its way into queues, with what routing and queues need to know about it.
#[derive(Debug)]
pub struct Publish<'a> {
    /// What consumers will see.
    pub view: MessageView<'a>,
    /// Delivery mode 2.
    pub persistent: bool,
    /// The `expiration` property in milliseconds.
    pub expiration_ms: Option<u64>,
    /// The `priority` property, 0 when absent.
    pub priority: u8,
    /// Whose publish it is, if another node may send it again.
    pub reference: Option<PubRef>,
    /// Somebody may have got it already, from a node that led its queue before.
    pub seen: bool,
    shared: Option<Arc<Message>>,
}

impl<'a> Publish<'a> {
    /// A publish that borrows from the read buffer.
    pub fn borrowed(
        view: MessageView<'a>,
        persistent: bool,
        expiration_ms: Option<u64>,
        priority: u8,
    ) -> Publish<'a> {
        Publish { view, persistent, expiration_ms, priority, reference: None, seen: false, shared: None }
    }

    /// A publish of a message that already has its own allocation.
    pub fn of(message: &'a Arc<Message>, expiration_ms: Option<u64>, priority: u8) -> Publish<'a> {
        Publish {
            view: message.view(),
            persistent: message.persistent,
            expiration_ms,
            priority,
            reference: None,
            seen: false,
            shared: Some(Arc::clone(message)),
        }
    }

    /// The owned message; copied out of the read buffer the first time, shared after that.
    pub fn share(&mut self) -> Arc<Message> {
        let (view, persistent) = (&self.view, self.persistent);
        Arc::clone(self.shared.get_or_insert_with(|| Arc::new(Message::copy_from(view, persistent))))
    }

    /// The owned message, if there is one already.
    pub fn shared(&self) -> Option<&Arc<Message>> {
        self.shared.as_ref()
    }
}

/// Short strings hold at most 255 octets (AMQP 0-9-1 section 4.2.5.3).
fn short_len(text: &str) -> u8 {
    u8::try_from(text.len()).expect("names and routing keys were decoded from short strings")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("stored from a str")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_message_gives_back_every_part() {
        let view = MessageView { exchange: "ex", routing_key: "a.b", properties: &[0, 0], body: b"hello" };
        let message = Message::copy_from(&view, true);
        let seen = message.view();
        assert_eq!((seen.exchange, seen.routing_key), ("ex", "a.b"));
        assert_eq!((seen.properties, seen.body), (&[0u8, 0][..], &b"hello"[..]));
        assert_eq!(message.body(), &b"hello"[..]);
        assert!(message.persistent);
    }

    #[test]
    fn fan_out_shares_one_copy() {
        let view = MessageView { exchange: "", routing_key: "q", properties: &[0, 0], body: b"x" };
        let mut publish = Publish::borrowed(view, false, None, 0);
        assert!(publish.shared().is_none());
        let (one, two) = (publish.share(), publish.share());
        assert!(Arc::ptr_eq(&one, &two));
    }
}
