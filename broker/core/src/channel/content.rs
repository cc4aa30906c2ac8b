//! Joins the frames of a publish that does not lie whole in one read buffer.
//!
//! ```text
//! method basic.publish -> content header (class 60, body size, properties) -> body* -> message
//! ```
//! Everything goes into one buffer in the order in which a [`Message`] keeps it, so that the finished
//! message takes the buffer over without another copy.

use crate::message::Message;

/// Largest step in which memory is reserved ahead of what has really arrived: the announced body size is a
/// claim, not a fact.
const RESERVE_STEP: usize = 128 * 1024;

/// A publish whose header or body is still on its way.
#[derive(Debug)]
pub struct Assembly {
    exchange_len: usize,
    routing_key_len: usize,
    properties_len: usize,
    body_size: u64,
    received: u64,
    has_header: bool,
    data: Vec<u8>,
    /// `mandatory` of the publish.
    pub mandatory: bool,
    /// `immediate` of the publish.
    pub immediate: bool,
}

/// A body frame carried more than the header announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("body is longer than the announced {announced} octets")]
pub struct BodyTooLong {
    /// Size in the content header.
    pub announced: u64,
}

impl Assembly {
    /// Starts with the publish method.
    pub fn new(exchange: &str, routing_key: &str, mandatory: bool, immediate: bool) -> Assembly {
        let mut data = Vec::with_capacity(exchange.len() + routing_key.len() + 256);
        data.extend_from_slice(exchange.as_bytes());
        data.extend_from_slice(routing_key.as_bytes());
        Assembly {
            exchange_len: exchange.len(),
            routing_key_len: routing_key.len(),
            properties_len: 0,
            body_size: 0,
            received: 0,
            has_header: false,
            data,
            mandatory,
            immediate,
        }
    }

    /// Whether the content header has arrived.
    pub fn has_header(&self) -> bool {
        self.has_header
    }

    /// Takes the content header in. Properties are the raw flags and list.
    pub fn header(&mut self, properties: &[u8], body_size: u64) {
        self.has_header = true;
        self.properties_len = properties.len();
        self.body_size = body_size;
        self.data.reserve(properties.len() + (body_size as usize).min(RESERVE_STEP));
        self.data.extend_from_slice(properties);
    }

    /// Takes one body frame in.
    ///
    /// # Errors
    /// When the body grows past what the header announced.
    pub fn body(&mut self, payload: &[u8]) -> Result<(), BodyTooLong> {
        self.received += payload.len() as u64;
        if self.received > self.body_size {
            return Err(BodyTooLong { announced: self.body_size });
        }
        self.data.extend_from_slice(payload);
        Ok(())
    }

    /// Counts octets of a body that is too large to be kept: it will be refused once it is over.
    ///
    /// # Errors
    /// When the body grows past what the header announced.
    pub fn skip(&mut self, octets: u64) -> Result<(), BodyTooLong> {
        self.received += octets;
        if self.received > self.body_size {
            return Err(BodyTooLong { announced: self.body_size });
        }
        self.data.truncate(self.exchange_len + self.routing_key_len + self.properties_len);
        Ok(())
    }

    /// Whether header and the whole body are here.
    pub fn is_complete(&self) -> bool {
        self.has_header && self.received == self.body_size
    }

    /// Exchange and routing key of the publish.
    pub fn target(&self) -> (&str, &str) {
        let (exchange, rest) = self.data.split_at(self.exchange_len);
        (as_str(exchange), as_str(&rest[..self.routing_key_len]))
    }

    /// The properties; empty before the header came.
    pub fn properties(&self) -> &[u8] {
        let start = self.exchange_len + self.routing_key_len;
        &self.data[start..start + self.properties_len]
    }

    /// Octets of body so far.
    pub fn body_len(&self) -> u64 {
        self.received
    }

    /// The finished message.
    pub fn finish(self, persistent: bool) -> Message {
        let properties_len = self.properties_len;
        let (exchange, routing_key) = self.target();
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
        Message::from_parts(self.data, &exchange, &routing_key, properties_len, persistent)
    }
}

fn as_str(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("copied from a str")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_join_into_one_message() {
        let mut assembly = Assembly::new("ex", "key", true, false);
        assembly.header(&[0, 0], 6);
        assembly.body(b"abc").unwrap();
        assert!(!assembly.is_complete());
        assembly.body(b"def").unwrap();
        assert!(assembly.is_complete());
        let message = assembly.finish(true);
        let view = message.view();
        assert_eq!((view.exchange, view.routing_key, view.body), ("ex", "key", &b"abcdef"[..]));
    }

    #[test]
    fn a_body_longer_than_announced_is_refused() {
        let mut assembly = Assembly::new("", "q", false, false);
        assembly.header(&[0, 0], 2);
        assert_eq!(assembly.body(b"abc"), Err(BodyTooLong { announced: 2 }));
    }

    #[test]
    fn an_announced_size_is_not_allocated() {
        let mut assembly = Assembly::new("", "q", false, false);
        assembly.header(&[0, 0], 1 << 40);
        assert!(assembly.data.capacity() < 2 * RESERVE_STEP);
    }
}
