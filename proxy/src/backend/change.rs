//! Adding and removing servers at run time.

use std::sync::Arc;
use std::time::Instant;

use super::Backend;
use crate::condition::Admin;
use crate::config::{ProxyConfig, ServerConfig};
use crate::server::Server;
use crate::syslog::Logger;

impl Backend {
    /// Adds a server, in maintenance and without running checks. `None` when there is one of that name.
    pub fn add_server(self: &Arc<Self>, server: ServerConfig, now: Instant) -> Option<Arc<Server>> {
        let change = self.change.lock();
        if self.server(&server.name).is_some() {
            return None;
        }
        let mut config = ProxyConfig::clone(&self.config());
        config.servers.push(server.clone());
        let added = Arc::new(Server::new(server, self.name.clone(), now));
        added.change(|condition| condition.order(Admin::FORCED_MAINTENANCE, true, now));
        added.set_checking(false);
        let mut servers = self.servers.load().to_vec();
        servers.push(added.clone());
        self.replace(Arc::new(config), Logger::clone(&self.logger()), servers, now);
        drop(change);
        Some(added)
    }

    /// Takes a server out. `false` when it is not there any more.
    pub fn remove_server(self: &Arc<Self>, server: &Arc<Server>, now: Instant) -> bool {
        let change = self.change.lock();
        let mut servers = self.servers.load().to_vec();
        let before = servers.len();
        servers.retain(|other| !Arc::ptr_eq(other, server));
        if servers.len() == before {
            return false;
        }
        let mut config = ProxyConfig::clone(&self.config());
        config.servers.retain(|other| other.name != server.name());
        self.replace(Arc::new(config), Logger::clone(&self.logger()), servers, now);
        drop(change);
        true
    }
}
