//! Routes as native text.

use std::fmt::Write as _;

use super::quoted;
use crate::config::VirtualRoute;

pub(super) fn route(route: &VirtualRoute) -> String {
    let mut text = format!("{{ to = \"{}/{}\"", route.destination, route.prefix);
    if let Some(gateway) = route.gateway {
        let _ = write!(text, ", via = \"{gateway}\"");
    }
    if let Some(dev) = &route.dev {
        let _ = write!(text, ", dev = {}", quoted(dev));
    }
    if let Some(source) = route.source {
        let _ = write!(text, ", source = \"{source}\"");
    }
    if let Some(metric) = route.metric {
        let _ = write!(text, ", metric = {metric}");
    }
    if let Some(table) = route.table {
        let _ = write!(text, ", table = {table}");
    }
    if let Some(scope) = route.scope {
        let _ = write!(text, ", scope = {scope}");
    }
    if route.onlink {
        text.push_str(", onlink = true");
    }
    text.push_str(" }");
    text
}
