//! SIGHUP: what changed is changed, and nothing else.

use super::{Agent, check_interfaces, claim_failure};
use crate::config::{self, AgentConfig, Global};
use crate::instance::Router;

impl Agent {
    /// Reads the configuration again. A wrong file changes nothing.
    pub(super) async fn reload(&mut self) {
        let (config, remarks) =
            match config::load_as(&self.options.config_path, self.options.config_id.as_deref()) {
                Ok((config, remarks)) => (self.options.applied_to(config), remarks),
                Err(remarks) => {
                    config::log(&remarks);
                    tracing::error!("the configuration was not reloaded; the old one stays in force");
                    return;
                }
            };
        config::log(&remarks);
        if let Err(failure) = check_interfaces(&config, &self.host.names()) {
            tracing::error!("{}; the old configuration stays in force", failure.message);
            return;
        }
        if names_nothing(&config) && !names_nothing(&self.config) {
            // Most likely it is being written right now; a person who wants nothing stops the agent.
            tracing::error!(
                "the file names nothing at all and was not reloaded; the old configuration stays in force"
            );
            return;
        }
        if config == self.config {
            tracing::info!("reloaded, nothing changed");
            return;
        }
        let (before, after) = (&self.config.global, &config.global);
        if (&before.notify_fifo, &before.notify_fifo_script)
            != (&after.notify_fifo, &after.notify_fifo_script)
        {
            self.notifier.use_fifo(after);
        }
        for word in needs_restart(before, after) {
            tracing::warn!("`{word}` changed; it takes effect when the agent is started again");
        }
        self.host.global = config.global.clone();
        let now = self.now();
        self.scripts.configure(&config.scripts, now);
        // A group that stays keeps the state it was last told, or its scripts would hear it again.
        let told = |group: &config::GroupConfig| {
            let at = self.config.groups.iter().position(|before| before.name == group.name);
            at.and_then(|at| self.group_states[at])
        };
        self.group_states = config.groups.iter().map(told).collect();
        let before = std::mem::replace(&mut self.config, config);
        let statics = (before.static_addresses, before.static_routes);
        self.change_statics(statics).await;
        self.virtual_servers.reload(&self.config).await;
        self.regroup();
        self.reload_routers().await;
        self.track_all().await;
        for index in 0..self.routers.len() {
            if self.routers[index].core.wants_master() {
                self.group_wants_master(index).await;
            }
        }
        tracing::info!("reloaded");
    }

    async fn reload_routers(&mut self) {
        let wanted = self.config.instances.clone();
        for index in 0..self.routers.len() {
            let next = wanted.iter().find(|config| {
                config.key() == self.routers[index].config.key()
                    && config.vmac == self.routers[index].config.vmac
            });
            match next.filter(|_| !self.routers[index].leaving) {
                Some(config) => {
                    let config = config.clone();
                    let (router, mut tools) = self.parts(index);
                    router.reload(config, &mut tools).await;
                }
                None => {
                    self.routers[index].leaving = true;
                    self.stop_router(index).await;
                }
            }
        }
        for config in wanted {
            let known =
                self.routers.iter().any(|router| !router.leaving && router.config.key() == config.key());
            if known {
                continue;
            }
            if let Err(error) = self.claims.claim(&config) {
                tracing::error!("{}; the instance is not started", claim_failure(&config, &error).message);
                continue;
            }
            let mut router = Router::new(config);
            if let Err(error) = router.prepare(&mut self.host).await {
                tracing::error!(instance = router.name(), %error, "cannot make the interface; the instance is not started");
                continue;
            }
            if let Err(error) = router.attach(&self.host) {
                tracing::error!(instance = router.name(), %error, "cannot open the socket; the instance is not started");
                continue;
            }
            self.routers.push(router);
            self.regroup();
            self.start_router(self.routers.len() - 1).await;
        }
        self.tell_guard(None);
    }
}

/// Whether there is nothing for an agent to do.
fn names_nothing(config: &AgentConfig) -> bool {
    config.instances.is_empty()
        && config.virtual_servers.is_empty()
        && config.static_addresses.is_empty()
        && config.static_routes.is_empty()
}

/// What changed and is only looked at when the agent starts.
fn needs_restart(before: &Global, after: &Global) -> Vec<&'static str> {
    [
        ("http", before.http != after.http),
        ("guard", before.guard != after.guard),
        ("realtime", before.realtime != after.realtime),
        ("realtime_priority", before.realtime_priority != after.realtime_priority),
    ]
    .into_iter()
    .filter_map(|(word, changed)| changed.then_some(word))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_cannot_change_is_named() {
        let before = Global::default();
        assert!(needs_restart(&before, &before).is_empty());
        let address = Some(([127, 0, 0, 1], 9650).into());
        let after = Global { http: address, guard: !before.guard, ..before.clone() };
        assert_eq!(needs_restart(&before, &after), ["http", "guard"]);
    }
}
