//! Remembers where a connection's publishes go.
//!
//! One program mostly publishes to few exchanges with few routing keys. What routing and the permission
//! checks found out is kept until the metadata changes, so that the common publish needs no lock but its
//! queue's.

use crate::counters::ExchangeCounters;
use broker_core::ids::QueueId;
use std::collections::HashMap;
use std::sync::Arc;

/// Targets remembered; beyond that all are forgotten.
const LIMIT: usize = 4096;

/// Where messages go, and where they are counted on their way.
#[derive(Clone, Debug, Default)]
pub(crate) struct Route {
    /// The queues.
    pub(crate) queues: Vec<QueueId>,
    /// Counters of the exchange.
    pub(crate) exchange: Arc<ExchangeCounters>,
}

/// Targets by exchange and routing key.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    version: u64,
    routes: HashMap<Box<[u8]>, Route>,
    key: Vec<u8>,
    last_key: Vec<u8>,
    last: Route,
}

impl RouteCache {
    /// Queues for this exchange and key, if they are known for this version of the metadata.
    pub(crate) fn find(&mut self, version: u64, exchange: &str, routing_key: &str) -> Option<&Route> {
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
        let route = self.routes.get(self.key.as_slice())?;
        self.last.queues.clear();
        self.last.queues.extend_from_slice(&route.queues);
        if !Arc::ptr_eq(&self.last.exchange, &route.exchange) {
            self.last.exchange = Arc::clone(&route.exchange);
        }
        std::mem::swap(&mut self.key, &mut self.last_key);
        Some(&self.last)
    }

    /// Remembers what was found out under this version.
    pub(crate) fn insert(&mut self, version: u64, exchange: &str, routing_key: &str, route: Route) {
        if version != self.version || self.routes.len() >= LIMIT {
            self.version = version;
            self.routes.clear();
            self.last_key.clear();
        }
        let mut key = Vec::with_capacity(1 + exchange.len() + routing_key.len());
        key.push(exchange.len() as u8);
        key.extend_from_slice(exchange.as_bytes());
        key.extend_from_slice(routing_key.as_bytes());
        self.routes.insert(key.into(), route);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_remembered_is_forgotten_with_the_next_version() {
        let mut cache = RouteCache::default();
        let find = |cache: &mut RouteCache, version, exchange, key| {
            cache.find(version, exchange, key).map(|route| route.queues.clone())
        };
        assert_eq!(find(&mut cache, 1, "ex", "key"), None);
        cache.insert(1, "ex", "key", Route { queues: vec![QueueId(3)], ..Route::default() });
        assert_eq!(find(&mut cache, 1, "ex", "key"), Some(vec![QueueId(3)]));
        assert_eq!(find(&mut cache, 1, "ex", "key"), Some(vec![QueueId(3)]));
        assert_eq!(find(&mut cache, 1, "e", "xkey"), None);
        assert_eq!(find(&mut cache, 2, "ex", "key"), None);
        assert_eq!(find(&mut cache, 2, "ex", "key"), None);
    }
}
