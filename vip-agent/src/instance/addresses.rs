//! The virtual addresses of one router on their interfaces: put there with a kernel lifetime that is renewed, taken
//! away, swept when an earlier run left them, and the routes and rules that come with them.

use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::packet_route::route::RouteMessage;

use super::{Held, Router, Tools};
use crate::config::{VirtualRoute, VirtualRule};
use crate::host::Host;
use crate::net::{routes, rules};

/// A lease shorter than this cannot be told from the kernel's own rounding.
const SHORTEST_LEASE: Duration = Duration::from_secs(2);

impl Router {
    /// The kernel says that an address is gone which this router holds: puts it back.
    pub(crate) async fn address_gone(&mut self, index: u32, address: IpAddr, tools: &mut Tools<'_>) {
        let ours = self.held.iter().any(|held| held.index == index && held.vip.address == address);
        if ours && self.core.state().holds_addresses() {
            tracing::warn!(instance = self.name(), %address, "somebody removed the virtual address; putting it back");
            self.held.retain(|held| held.index != index || held.vip.address != address);
            self.add_addresses(tools).await;
            self.announce(1, tools);
        }
    }

    /// How long the kernel keeps an address without being asked again, in whole seconds.
    fn lease(&self, host: &Host) -> Option<Duration> {
        let configured = host.global.address_lease;
        // An address that expired before the peers take over would leave nobody.
        let shortest = SHORTEST_LEASE.max(self.core.master_down_interval() + Duration::from_secs(1));
        let lease = configured.max(shortest);
        (!configured.is_zero()).then(|| Duration::from_secs(lease.as_millis().div_ceil(1000) as u64))
    }

    /// Time between renewals: a killed agent's address must last until a peer has taken over.
    fn renewal_pause(&self, host: &Host) -> Option<Duration> {
        let lease = self.lease(host)?;
        let spare = lease.saturating_sub(self.core.master_down_interval());
        Some(spare.min(lease / 2).max(Duration::from_millis(500)))
    }

    pub(super) async fn add_addresses(&mut self, tools: &mut Tools<'_>) {
        self.watch_conflicts(tools);
        for vip in self.config.addresses.clone() {
            let dev = self.device(&vip);
            let Some(index) = tools.host.link(dev).map(|link| link.index) else {
                tracing::error!(instance = self.name(), address = %vip.address, dev, "no such interface");
                continue;
            };
            let held = Held { index, vip };
            if !self.held.contains(&held) && self.put(&held, tools).await {
                self.held.push(held);
            }
        }
        self.add_routes(tools).await;
        self.add_rules(tools).await;
        self.schedule_lease(tools);
    }

    async fn put(&self, held: &Held, tools: &Tools<'_>) -> bool {
        let lease = self.lease(tools.host);
        match tools.host.netlink.put_address(held.index, &held.vip, lease, self.vmac.is_none()).await {
            Ok(()) => true,
            Err(error) => {
                let address = held.vip.address;
                tracing::error!(instance = self.name(), %address, %error, "cannot add the virtual address");
                false
            }
        }
    }

    fn schedule_lease(&mut self, tools: &Tools<'_>) {
        let pause = self.renewal_pause(tools.host).filter(|_| !self.held.is_empty());
        self.lease_at = pause.map(|pause| tools.now + pause);
    }

    pub(super) async fn renew_leases(&mut self, tools: &mut Tools<'_>) {
        for held in &self.held {
            self.put(held, tools).await;
        }
        self.schedule_lease(tools);
    }

    /// Takes away what this router holds; with nothing held, what an earlier run left behind.
    pub(super) async fn remove_addresses(&mut self, tools: &mut Tools<'_>) {
        self.lease_at = None;
        self.watch = None;
        self.probe_at = None;
        self.frames.clear();
        self.next_frame_at = None;
        self.remove_rules(&self.config.rules, tools).await;
        self.remove_routes(&self.config.routes, tools).await;
        if self.held.is_empty() {
            self.sweep(tools).await;
            return;
        }
        for held in std::mem::take(&mut self.held) {
            self.drop_held(&held, tools).await;
        }
    }

    pub(super) async fn drop_held(&mut self, held: &Held, tools: &Tools<'_>) {
        self.held.retain(|known| known != held);
        let (address, prefix) = (held.vip.address, held.vip.prefix);
        if let Err(error) = tools.host.netlink.drop_address(held.index, address, prefix).await {
            tracing::error!(instance = self.name(), %address, %error, "cannot remove the virtual address");
        }
    }

    async fn sweep(&self, tools: &Tools<'_>) {
        for vip in &self.config.addresses {
            let dev = self.device(vip);
            let Some(link) = tools.host.link(dev) else { continue };
            for found in link.addresses.iter().filter(|found| found.address == vip.address) {
                let (address, prefix) = (found.address, found.prefix);
                match tools.host.netlink.drop_address(link.index, address, prefix).await {
                    Ok(true) => {
                        tracing::info!(instance = self.name(), %address, dev, "removed a left-over address");
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(instance = self.name(), %address, %error, "cannot remove a left-over address");
                    }
                }
            }
        }
    }

    /// `virtual_routes`, which need the addresses to be there.
    async fn add_routes(&self, tools: &Tools<'_>) {
        for route in &self.config.routes {
            let added = match self.route_message(route, tools.host) {
                Ok(message) => tools.host.netlink.put_route(message).await.map_err(|error| error.to_string()),
                Err(reason) => Err(reason),
            };
            if let Err(error) = added {
                tracing::error!(instance = self.name(), %route, error, "cannot add the virtual route");
            }
        }
    }

    pub(super) async fn remove_routes(&self, routes: &[VirtualRoute], tools: &Tools<'_>) {
        for route in routes {
            // Without its interface there is no route.
            let Ok(message) = self.route_message(route, tools.host) else { continue };
            if let Err(error) = tools.host.netlink.drop_route(message).await {
                tracing::error!(instance = self.name(), %route, %error, "cannot remove the virtual route");
            }
        }
    }

    /// `virtual_rules`, which lead to tables that routes may be in.
    async fn add_rules(&self, tools: &Tools<'_>) {
        for rule in &self.config.rules {
            if let Err(error) = tools.host.netlink.put_rule(rules::message(rule)).await {
                tracing::error!(instance = self.name(), %rule, %error, "cannot add the virtual rule");
            }
        }
    }

    pub(super) async fn remove_rules(&self, rules: &[VirtualRule], tools: &Tools<'_>) {
        for rule in rules {
            if let Err(error) = tools.host.netlink.drop_rule(rules::message(rule)).await {
                tracing::error!(instance = self.name(), %rule, %error, "cannot remove the virtual rule");
            }
        }
    }

    fn route_message(&self, route: &VirtualRoute, host: &Host) -> Result<RouteMessage, String> {
        routes::message(route, self.route_interface(route, host)?)
    }

    /// The interface that a route names; `None` when its gateway says where it is.
    pub(crate) fn route_interface(&self, route: &VirtualRoute, host: &Host) -> Result<Option<u32>, String> {
        let dev = match (&route.dev, route.gateway) {
            (Some(dev), _) => Some(dev.as_str()),
            (None, Some(_)) => None,
            (None, None) => Some(self.main_device()),
        };
        dev.map(|dev| match host.link(dev) {
            Some(link) => Ok(link.index),
            None => Err(format!("there is no interface {dev}")),
        })
        .transpose()
    }
}
