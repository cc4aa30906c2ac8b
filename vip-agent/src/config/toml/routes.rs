//! Routes of the native configuration: `"10.0.0.0/8 via 10.1.0.1"` in parts.
//!
//! ```toml
//! routes = [{ to = "0.0.0.0/0", via = "192.168.204.1", metric = 100 }, { to = "10.0.0.0/8", dev = "eth1" }]
//! ```

use std::net::IpAddr;

use serde::Deserialize;

use crate::config::VirtualRoute;
use crate::config::keepalived_conf::address_with_prefix;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// Where to; `0.0.0.0/0` is the default route.
    to: String,
    /// Through which gateway.
    via: Option<IpAddr>,
    /// Through which interface; the gateway's.
    dev: Option<String>,
    /// Address to send from.
    source: Option<IpAddr>,
    /// The lowest is used.
    metric: Option<u32>,
    /// Number of the table; main.
    table: Option<u32>,
    /// Kernel's number of the scope: 0 global, 253 link, 254 host.
    scope: Option<u8>,
    /// The gateway is on the interface, whatever its address.
    #[serde(default)]
    onlink: bool,
}

/// The checked forms.
pub(super) fn all(raw: Vec<Route>, wrong: &mut impl FnMut(String)) -> Vec<VirtualRoute> {
    raw.into_iter().filter_map(|route| virtual_route(route, wrong)).collect()
}

fn virtual_route(raw: Route, wrong: &mut impl FnMut(String)) -> Option<VirtualRoute> {
    let (destination, prefix) = match address_with_prefix(&raw.to) {
        Ok(found) => found,
        Err(reason) => {
            wrong(format!("route: `{}` {reason}", raw.to));
            return None;
        }
    };
    if raw.via.iter().chain(&raw.source).any(|address| address.is_ipv4() != destination.is_ipv4()) {
        wrong(format!("route to {}: it mixes IPv4 and IPv6", raw.to));
    }
    if raw.via.is_none() && raw.dev.is_none() {
        wrong(format!("route to {}: write `via` or `dev`", raw.to));
    }
    Some(VirtualRoute {
        destination,
        prefix,
        gateway: raw.via,
        dev: raw.dev,
        source: raw.source,
        metric: raw.metric,
        table: raw.table,
        scope: raw.scope,
        onlink: raw.onlink,
    })
}
