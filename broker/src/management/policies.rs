//! `/api/policies`, `/api/operator-policies`, `/api/global-parameters`.

use super::Api;
use super::asked::Asked;
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

/// Policies, or with `OPERATOR` operator policies: of a vhost, or of all that the caller sees.
pub(super) async fn list<const OPERATOR: bool>(asked: Asked) -> Answer {
    asked.query.answer(found(&asked, OPERATOR)?)
}

pub(super) async fn one<const OPERATOR: bool>(asked: Asked) -> Answer {
    let found = found(&asked, OPERATOR)?.into_iter().find(|entry| entry["name"] == *asked.part("name"));
    json(&found.ok_or_else(Refusal::missing)?)
}

pub(super) async fn put<const OPERATOR: bool>(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    may_set(&caller, OPERATOR)?;
    set(&api, &caller, &vhost, &name, OPERATOR, &body).await
}

pub(super) async fn delete<const OPERATOR: bool>(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
) -> Answer {
    may_set(&caller, OPERATOR)?;
    caller.own_vhost(&api.node.metadata.read(), &vhost)?;
    let command =
        MetaCommand::ClearPolicy { vhost: Arc::from(vhost), operator: OPERATOR, name: Arc::from(name) };
    api.node.metadata.propose(command).await?;
    no_content()
}

/// Operator policies bind those who set policies.
fn may_set(caller: &Caller, operator: bool) -> Result<(), Refusal> {
    if operator { caller.administrator() } else { caller.policymaker() }
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

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn invalid(reason: &str) -> Refusal {
    Refusal::bad_request(format!("Validation failed\n\n{reason}\n"))
}

fn found(asked: &Asked, operator: bool) -> Result<Vec<Value>, Refusal> {
    let sm = asked.api.node.metadata.read();
    let states = asked.vhosts(&sm)?.into_iter().filter_map(|id| sm.vhost(id));
    Ok(states.flat_map(|state| entries(state, operator)).collect())
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
