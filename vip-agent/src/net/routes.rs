//! `virtual_routes` as the kernel wants them.

use std::net::IpAddr;

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteMessage, RouteProtocol, RouteScope};

use crate::config::VirtualRoute;

/// The message for `route` through interface `index`, when one is known.
///
/// # Errors
///
/// Gateway or source are of the other family.
pub(crate) fn message(route: &VirtualRoute, index: Option<u32>) -> Result<RouteMessage, String> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination, route.prefix)
        .map_err(|error| error.to_string())?
        .protocol(RouteProtocol::KeepAlived);
    let scope = match (route.scope, route.gateway) {
        (Some(scope), _) => RouteScope::from(scope),
        // As `ip route` does: what is on the link itself reaches no further.
        (None, None) if route.destination.is_ipv4() => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    builder = builder.scope(scope);
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway).map_err(|error| error.to_string())?;
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(|error| error.to_string())?;
    }
    if let Some(index) = index {
        builder = builder.output_interface(index);
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    if let Some(table) = route.table {
        builder = builder.table_id(table);
    }
    if route.onlink {
        builder = builder.onlink();
    }
    Ok(builder.build())
}
