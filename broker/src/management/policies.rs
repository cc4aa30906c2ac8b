//! `/api/policies`, `/api/operator-policies`, `/api/global-parameters`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::policy_check;
use super::reply::{Answer, Refusal, json, no_content, parse_body, put_status, required};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::meta::access::Pattern;
use broker_core::meta::{ApplyTo, MetaCommand, MetaReply, Policy, VhostState};
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(listed(&api, &caller, false))
}

pub(super) async fn all_operator(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(listed(&api, &caller, true))
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(inside(&api, &caller, &vhost, false)?)
}

pub(super) async fn operator_of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    query.answer(inside(&api, &caller, &vhost, true)?)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    json(&named(inside(&api, &caller, &vhost, false)?, &name)?)
}

pub(super) async fn one_operator(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    json(&named(inside(&api, &caller, &vhost, true)?, &name)?)
}

pub(super) async fn put(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.policymaker()?;
    set(&api, &caller, &vhost, &name, false, &body).await
}

pub(super) async fn put_operator(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    set(&api, &caller, &vhost, &name, true, &body).await
}

pub(super) async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    caller.policymaker()?;
    clear(&api, &caller, &vhost, &name, false).await
}

pub(super) async fn delete_operator(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    clear(&api, &caller, &vhost, &name, true).await
}

async fn set(api: &Api, caller: &Caller, vhost: &str, name: &str, operator: bool, body: &[u8]) -> Answer {
    caller.own_vhost(&api.node.metadata.read(), vhost)?;
    let body = parse_body(body)?;
    let pattern = required(&body, "pattern")?;
    if let Err(error) = Pattern::new(pattern).map(drop) {
        return Err(invalid(&format!("pattern should be regular expression but is invalid: {error}")));
    }
    let definition = match body.get("definition") {
        Some(Value::Object(definition)) => definition,
        Some(_) => return Err(invalid("definition must be an object")),
        None => return Err(Refusal::bad_request("[{key_missing,definition}]")),
    };
    policy_check::check(definition, operator).map_err(|reason| invalid(&reason))?;
    let apply_to = match body.get("apply-to") {
        None => ApplyTo::All,
        Some(word) => word.as_str().and_then(ApplyTo::from_name).ok_or_else(|| {
            invalid(&format!(
                "apply-to '{}' unrecognised; should be 'queues', 'exchanges' or 'all'",
                text(word)
            ))
        })?,
    };
    let priority = match body.get("priority") {
        None => 0,
        Some(number) => number.as_i64().ok_or_else(|| invalid("priority should be a number"))?,
    };
    let policy = Policy {
        name: Arc::from(name),
        pattern: Arc::from(pattern),
        apply_to,
        priority,
        definition: Value::Object(definition.clone()).to_string(),
    };
    let command = MetaCommand::SetPolicy { vhost: Arc::from(vhost), operator, policy };
    let reply = api.node.metadata.propose(command).await?;
    put_status(reply == MetaReply::Created(true))
}

async fn clear(api: &Api, caller: &Caller, vhost: &str, name: &str, operator: bool) -> Answer {
    caller.own_vhost(&api.node.metadata.read(), vhost)?;
    let command = MetaCommand::ClearPolicy { vhost: Arc::from(vhost), operator, name: Arc::from(name) };
    api.node.metadata.propose(command).await?;
    no_content()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn invalid(reason: &str) -> Refusal {
    Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
}

fn listed(api: &Api, caller: &Caller, operator: bool) -> Vec<Value> {
    let sm = api.node.metadata.read();
    let visible = sm.vhosts().filter(|state| caller.sees(&sm, state.vhost.id));
    visible.flat_map(|state| entries(state, operator)).collect()
}

fn inside(api: &Api, caller: &Caller, vhost: &str, operator: bool) -> Result<Vec<Value>, Refusal> {
    let sm = api.node.metadata.read();
    let id = caller.vhost(&sm, vhost)?;
    sm.vhost(id).map(|state| entries(state, operator)).ok_or_else(Refusal::missing)
}

fn named(entries: Vec<Value>, name: &str) -> Result<Value, Refusal> {
    entries.into_iter().find(|entry| entry["name"] == *name).ok_or_else(Refusal::missing)
}

fn entries(state: &VhostState, operator: bool) -> Vec<Value> {
    let one = |policy: &Policy| {
        object!({
            "vhost": &*state.vhost.name,
            "name": &*policy.name,
            "pattern": &*policy.pattern,
            "apply-to": policy.apply_to.name(),
            "definition": serde_json::from_str::<Value>(&policy.definition).unwrap_or(Value::Null),
            "priority": policy.priority,
        })
    };
    state.policies(operator).map(one).collect()
}

pub(super) async fn global_parameters(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.policymaker()?;
    let entries =
        api.node.metadata.read().global_parameters().map(|(name, value)| parameter(name, value)).collect();
    query.answer(entries)
}

pub(super) async fn global_parameter(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Answer {
    caller.policymaker()?;
    let sm = api.node.metadata.read();
    json(&parameter(&name, sm.global_parameter(&name).ok_or_else(Refusal::missing)?))
}

pub(super) async fn put_global_parameter(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let value = body.get("value").ok_or_else(|| Refusal::bad_request("[{key_missing,value}]"))?.to_string();
    let reply =
        api.node.metadata.propose(MetaCommand::SetGlobalParameter { name: Arc::from(name), value }).await?;
    put_status(reply == MetaReply::Created(true))
}

pub(super) async fn delete_global_parameter(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Answer {
    caller.administrator()?;
    api.node.metadata.propose(MetaCommand::ClearGlobalParameter { name: Arc::from(name) }).await?;
    no_content()
}

fn parameter(name: &str, value: &str) -> Value {
    object!({"name": name, "value": serde_json::from_str::<Value>(value).unwrap_or(Value::Null)})
}
