//! Remembers where a connection's publishes go.
//!
//! One program mostly publishes to few exchanges with few routing keys. What routing and the permission
//! checks found out is kept until the metadata changes, so that the common publish needs no lock but its
//! queue's.

use broker_core::ids::QueueId;
use std::collections::HashMap;

/// Targets remembered; beyond that all are forgotten.
const LIMIT: usize = 4096;

/// Targets by exchange and routing key.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    version: u64,
    routes: HashMap<Box<[u8]>, Box<[QueueId]>>,
    key: Vec<u8>,
    last_key: Vec<u8>,
    last: Vec<QueueId>,
}

impl RouteCache {
    /// Queues for this exchange and key, if they are known for this version of the metadata.
    pub(crate) fn find(&mut self, version: u64, exchange: &str, routing_key: &str) -> Option<&[QueueId]> {
        if version != self.version {
            self.version = version;
            self.routes.clear();
            self.last_key.clear();
            return None;
        }
        self.key.clear();
        self.key.push(exchange.len() as u8);
        self.key.extend_from_slice(exchange.as_bytes());
        self.key.extend_from_slice(routing_key.as_bytes());
        if self.key == self.last_key {
            return Some(&self.last);
        }
        let queues = self.routes.get(self.key.as_slice())?;
        self.last.clear();
        self.last.extend_from_slice(queues);
        std::mem::swap(&mut self.key, &mut self.last_key);
        Some(&self.last)
    }

    /// Remembers what was found out under this version.
    pub(crate) fn insert(&mut self, version: u64, exchange: &str, routing_key: &str, queues: &[QueueId]) {
        if version != self.version || self.routes.len() >= LIMIT {
            self.version = version;
            self.routes.clear();
            self.last_key.clear();
        }
        let mut key = Vec::with_capacity(1 + exchange.len() + routing_key.len());
        key.push(exchange.len() as u8);
        key.extend_from_slice(exchange.as_bytes());
        key.extend_from_slice(routing_key.as_bytes());
        self.routes.insert(key.into(), queues.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_forgotten_with_the_next_version() {
        let mut cache = RouteCache::default();
        assert_eq!(cache.find(1, "ex", "key"), None);
        cache.insert(1, "ex", "key", &[QueueId(3)]);
        assert_eq!(cache.find(1, "ex", "key"), Some(&[QueueId(3)][..]));
        assert_eq!(cache.find(1, "ex", "key"), Some(&[QueueId(3)][..]));
        assert_eq!(cache.find(1, "e", "xkey"), None);
        assert_eq!(cache.find(2, "ex", "key"), None);
        assert_eq!(cache.find(2, "ex", "key"), None);
    }
}
