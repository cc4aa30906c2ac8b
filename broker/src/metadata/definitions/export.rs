//! Writing definitions.

use super::{user_limits_json, vhost_limits_json};
use crate::metadata::json;
use broker_core::ids::VhostId;
use broker_core::meta::{BindingSpec, Exchange, MetaSm, Policy, Queue, User, VhostState};
use serde_json::{Map, Value, json};

/// Everything, with the version of the server that it claims to come from.
pub(crate) fn export(sm: &MetaSm, product: &str, version: &str) -> Value {
    let mut all = header(product, version);
    all.insert("users".to_owned(), sm.users().map(|user| user_json(sm, user)).collect());
    all.insert("vhosts".to_owned(), sm.vhosts().map(vhost_json).collect());
    all.insert("permissions".to_owned(), sm.vhosts().flat_map(permissions).collect());
    all.insert("topic_permissions".to_owned(), sm.vhosts().flat_map(topic_permissions).collect());
    all.insert("parameters".to_owned(), sm.vhosts().flat_map(|state| parameters(state, true)).collect());
    let global = sm.global_parameters().map(|(name, value)| json!({"name": &**name, "value": parsed(value)}));
    all.insert("global_parameters".to_owned(), global.collect());
    all.insert("policies".to_owned(), sm.vhosts().flat_map(|state| policies(state, true)).collect());
    let ids: Vec<VhostId> = sm.vhosts().map(|state| state.vhost.id).collect();
    topology(sm, &ids, true, &mut all);
    Value::Object(all)
}

/// What one vhost holds, without the vhost's name in it.
pub(crate) fn export_vhost(sm: &MetaSm, vhost: VhostId, product: &str, version: &str) -> Option<Value> {
    let state = sm.vhost(vhost)?;
    let mut all = header(product, version);
    all.insert("parameters".to_owned(), parameters(state, false).into_iter().collect());
    all.insert("policies".to_owned(), policies(state, false).into_iter().collect());
    topology(sm, &[vhost], false, &mut all);
    Some(Value::Object(all))
}

fn header(product: &str, version: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for (key, value) in [
        ("rabbit_version", version),
        ("rabbitmq_version", version),
        ("product_name", product),
        ("product_version", version),
    ] {
        all.insert(key.to_owned(), Value::from(value));
    }
    all
}

fn user_json(sm: &MetaSm, user: &User) -> Value {
    let (hash, algorithm) = match &user.password {
        Some(password) => (password.hash.as_str(), password.algorithm.name()),
        None => ("", "rabbit_password_hashing_sha256"),
    };
    json!({
        "name": &*user.name,
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": user.tags,
        "limits": user_limits_json(sm.user_limits(&user.name)),
    })
}

fn vhost_json(state: &VhostState) -> Value {
    let mut vhost = json!({"name": &*state.vhost.name});
    if !state.vhost.description.is_empty() {
        vhost["description"] = Value::from(state.vhost.description.as_str());
    }
    if !state.vhost.tags.is_empty() {
        vhost["tags"] = Value::from(state.vhost.tags.clone());
    }
    vhost
}

fn permissions(state: &VhostState) -> Vec<Value> {
    let vhost = &*state.vhost.name;
    let one = |(user, patterns): (&std::sync::Arc<str>, &broker_core::meta::PermissionPatterns)| {
        json!({
            "user": &**user, "vhost": vhost,
            "configure": &*patterns.configure, "write": &*patterns.write, "read": &*patterns.read,
        })
    };
    state.permissions().map(one).collect()
}

fn topic_permissions(state: &VhostState) -> Vec<Value> {
    let vhost = &*state.vhost.name;
    state
        .topic_permissions()
        .map(|(user, exchange, patterns)| {
            json!({
                "user": &**user, "vhost": vhost, "exchange": &**exchange,
                "write": &*patterns.write, "read": &*patterns.read,
            })
        })
        .collect()
}

fn parameters(state: &VhostState, with_vhost: bool) -> Vec<Value> {
    let mut all = Vec::new();
    let mut add = |component: &str, name: &str, value: Value| {
        let mut parameter = json!({"value": value, "component": component, "name": name});
        if with_vhost {
            parameter["vhost"] = Value::from(&*state.vhost.name);
        }
        all.push(parameter);
    };
    let limits = vhost_limits_json(state.limits());
    if !limits.is_empty() {
        add("vhost-limits", "limits", Value::Object(limits));
    }
    for policy in state.policies(true) {
        let value = json!({
            "pattern": &*policy.pattern, "definition": parsed(&policy.definition),
            "priority": policy.priority, "apply-to": policy.apply_to.name(),
        });
        add("operator_policy", &policy.name, value);
    }
    for (component, name, value) in state.parameters() {
        add(component, name, parsed(value));
    }
    all
}

fn policies(state: &VhostState, with_vhost: bool) -> Vec<Value> {
    let one = |policy: &Policy| {
        let mut value = json!({
            "name": &*policy.name, "pattern": &*policy.pattern, "apply-to": policy.apply_to.name(),
            "definition": parsed(&policy.definition), "priority": policy.priority,
        });
        if with_vhost {
            value["vhost"] = Value::from(&*state.vhost.name);
        }
        value
    };
    state.policies(false).map(one).collect()
}

/// Durable queues, exchanges and bindings. Transient ones are left out, as RabbitMQ does.
fn topology(sm: &MetaSm, vhosts: &[VhostId], with_vhost: bool, all: &mut Map<String, Value>) {
    let vhost_of = |id: VhostId, mut value: Value| {
        if with_vhost {
            value["vhost"] = Value::from(sm.vhost_name(id));
        }
        value
    };
    let queue = |queue: &Queue| {
        vhost_of(
            queue.vhost,
            json!({
                "name": &*queue.name, "durable": queue.durable, "auto_delete": queue.auto_delete,
                "arguments": json::from_table(&queue.arguments),
            }),
        )
    };
    let exchange = |exchange: &Exchange| {
        vhost_of(
            exchange.vhost,
            json!({
                "name": &*exchange.name, "type": exchange.kind.name(), "durable": exchange.durable,
                "auto_delete": exchange.auto_delete, "internal": exchange.internal,
                "arguments": json::from_table(&exchange.arguments),
            }),
        )
    };
    let binding = |binding: &BindingSpec| {
        let source = sm.exchange(binding.source)?;
        let (destination, to_queue) = sm.destination_name(binding.destination)?;
        Some(vhost_of(
            binding.vhost,
            json!({
                "source": &*source.name, "destination": &**destination,
                "destination_type": if to_queue { "queue" } else { "exchange" },
                "routing_key": &*binding.routing_key, "arguments": json::from_table(&binding.arguments),
            }),
        ))
    };
    let queues = vhosts.iter().flat_map(|id| sm.queues_in(*id)).filter(|queue| queue.durable);
    all.insert("queues".to_owned(), queues.map(queue).collect());
    let exchanges = || vhosts.iter().flat_map(|id| sm.exchanges_in(*id)).filter(|exchange| exchange.durable);
    let own = exchanges().filter(|exchange| !exchange.name.is_empty() && !exchange.name.starts_with("amq."));
    all.insert("exchanges".to_owned(), own.map(exchange).collect());
    let bindings = exchanges().flat_map(|exchange| sm.bindings_from(exchange.id));
    all.insert("bindings".to_owned(), bindings.filter(|b| b.durable).filter_map(binding).collect());
}

/// JSON kept as text; what is damaged becomes null.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or(Value::Null)
}
