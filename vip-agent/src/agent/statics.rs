//! `static_ipaddress` and `static_routes`: there as long as the agent runs.

use super::Agent;
use crate::config::{VirtualAddress, VirtualRoute};
use crate::net::routes;

impl Agent {
    /// Puts every static address and route there, those that are there already too.
    pub(super) async fn put_statics(&self) {
        for address in &self.config.static_addresses {
            let dev = address.dev.as_deref().unwrap_or_default();
            let Some(index) = self.host.link(dev).map(|link| link.index) else {
                tracing::error!(address = %address.address, dev, "static address: no such interface");
                continue;
            };
            if let Err(error) = self.host.netlink.put_address(index, address, None, true).await {
                tracing::error!(address = %address.address, dev, %error, "cannot add the static address");
            }
        }
        for route in &self.config.static_routes {
            let Some(message) = self.static_route(route) else { continue };
            if let Err(error) = self.host.netlink.put_route(message).await {
                tracing::error!(%route, %error, "cannot add the static route");
            }
        }
    }

    /// After a reload: what is gone goes, what is wanted is put there.
    pub(super) async fn change_statics(&self, before: (Vec<VirtualAddress>, Vec<VirtualRoute>)) {
        let (mut addresses, mut routes) = before;
        addresses.retain(|address| !self.config.static_addresses.contains(address));
        routes.retain(|route| !self.config.static_routes.contains(route));
        self.drop_statics(&addresses, &routes).await;
        self.put_statics().await;
    }

    /// Takes away what `addresses` and `routes` name.
    pub(super) async fn drop_statics(&self, addresses: &[VirtualAddress], routes: &[VirtualRoute]) {
        for route in routes {
            let Some(message) = self.static_route(route) else { continue };
            if let Err(error) = self.host.netlink.drop_route(message).await {
                tracing::warn!(%route, %error, "cannot remove the static route");
            }
        }
        for address in addresses {
            let Some(link) = self.host.link(address.dev.as_deref().unwrap_or_default()) else { continue };
            if let Err(error) =
                self.host.netlink.drop_address(link.index, address.address, address.prefix).await
            {
                tracing::warn!(address = %address.address, %error, "cannot remove the static address");
            }
        }
    }

    fn static_route(&self, route: &VirtualRoute) -> Option<rtnetlink::packet_route::route::RouteMessage> {
        let index = match &route.dev {
            None => None,
            Some(dev) => match self.host.link(dev) {
                Some(link) => Some(link.index),
                None => {
                    tracing::error!(%route, dev, "static route: no such interface");
                    return None;
                }
            },
        };
        routes::message(route, index).map_err(|error| tracing::error!(%route, error, "static route")).ok()
    }
}
