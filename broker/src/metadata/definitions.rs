//! `definitions.json`: everything but messages, as RabbitMQ exports and imports it.

mod export;
mod import;

pub(crate) use export::{export, export_vhost};
pub(crate) use import::{Draft, ImportError, import, tags};

use broker_core::meta::{UserLimits, VhostLimits};
use serde_json::{Map, Value};

/// Limits as the JSON object that RabbitMQ has for them; what is not limited is left out.
pub(crate) fn vhost_limits_json(limits: VhostLimits) -> Map<String, Value> {
    limits_json([("max-connections", limits.max_connections), ("max-queues", limits.max_queues)])
}

/// The same for a user.
pub(crate) fn user_limits_json(limits: UserLimits) -> Map<String, Value> {
    limits_json([("max-connections", limits.max_connections), ("max-channels", limits.max_channels)])
}

fn limits_json(limits: [(&str, Option<u64>); 2]) -> Map<String, Value> {
    limits.into_iter().filter_map(|(key, limit)| Some((key.to_owned(), Value::from(limit?)))).collect()
}

/// Reads limits of a vhost; a negative number means none.
pub(crate) fn vhost_limits(json: &Map<String, Value>) -> VhostLimits {
    VhostLimits { max_connections: limit(json, "max-connections"), max_queues: limit(json, "max-queues") }
}

/// Reads limits of a user.
pub(crate) fn user_limits(json: &Map<String, Value>) -> UserLimits {
    UserLimits { max_connections: limit(json, "max-connections"), max_channels: limit(json, "max-channels") }
}

fn limit(json: &Map<String, Value>, key: &str) -> Option<u64> {
    json.get(key)?.as_u64()
}
