//! What an operator changes on a server at run time, beside its state.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::{Condition, Effect, Server};
use crate::config::ServerConfig;

impl Server {
    /// Another weight, 0 to 256; tell the backend afterwards.
    pub fn set_weight(&self, weight: u32) {
        self.weight.store(weight.min(256), Relaxed);
    }

    /// Another limit of connections, 0 for none; tell the backend afterwards.
    pub fn set_maxconn(&self, limit: u32) {
        self.maxconn.store(if limit == 0 { u32::MAX } else { limit }, Relaxed);
    }

    /// Changes its configuration in place, without looking at what follows from that.
    pub fn change_config(&self, change: impl FnOnce(&mut ServerConfig)) {
        let mut config = ServerConfig::clone(&self.config());
        change(&mut config);
        self.config.store(Arc::new(config));
    }

    /// Takes no new connections until checks say otherwise.
    pub fn force_stopping(&self, _now: Instant) {
        self.condition.lock().drain = true;
        self.refresh();
    }

    /// Turns agent checks on or off.
    pub fn set_agent_checking(&self, _on: bool) {}

    /// Forces what the agent is taken to say.
    pub fn force_agent(&self, up: bool, now: Instant) -> Effect {
        self.force_health(up, now)
    }
}

impl Condition {
    /// In maintenance, by whatever order.
    pub fn is_in_maintenance(&self) -> bool {
        self.maintenance
    }
}
