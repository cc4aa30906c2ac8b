//! `/api/permissions` and `/api/topic-permissions`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, json, no_content, parse_body, put_status, required};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::meta::access::Pattern;
use broker_core::meta::{MetaCommand, MetaReply, MetaSm, PermissionPatterns, TopicPatterns, VhostState};
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = api.node.metadata.read().vhosts().flat_map(entries).collect();
    query.answer(entries)
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = inside(&api.node.metadata.read(), &vhost, entries)?;
    query.answer(entries)
}

pub(super) async fn of_user(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = of(&api.node.metadata.read(), &user, entries)?;
    query.answer(entries)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let found = inside(&api.node.metadata.read(), &vhost, entries)?;
    json(found.iter().find(|entry| entry["user"] == *user).ok_or_else(Refusal::missing)?)
}

pub(super) async fn put(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let patterns = PermissionPatterns {
        configure: pattern(&body, "configure")?,
        write: pattern(&body, "write")?,
        read: pattern(&body, "read")?,
    };
    both_exist(&api, &vhost, &user)?;
    let command = MetaCommand::SetPermissions { user: Arc::from(user), vhost: Arc::from(vhost), patterns };
    let reply = api.node.metadata.propose(command).await?;
    put_status(reply == MetaReply::Created(true))
}

pub(super) async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let command = MetaCommand::ClearPermissions { user: Arc::from(user), vhost: Arc::from(vhost) };
    match api.node.metadata.propose(command).await? {
        MetaReply::Removed(removed) if removed.existed => no_content(),
        _ => Err(Refusal::missing()),
    }
}

pub(super) async fn all_topics(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = api.node.metadata.read().vhosts().flat_map(topic_entries).collect();
    query.answer(entries)
}

pub(super) async fn topics_of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = inside(&api.node.metadata.read(), &vhost, topic_entries)?;
    query.answer(entries)
}

pub(super) async fn topics_of_user(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(user): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = of(&api.node.metadata.read(), &user, topic_entries)?;
    query.answer(entries)
}

pub(super) async fn topics(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    let mut found = inside(&api.node.metadata.read(), &vhost, topic_entries)?;
    found.retain(|entry| entry["user"] == *user);
    if found.is_empty() { Err(Refusal::missing()) } else { json(&Value::Array(found)) }
}

pub(super) async fn put_topic(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let exchange = Arc::from(required(&body, "exchange")?);
    let patterns = TopicPatterns { write: pattern(&body, "write")?, read: pattern(&body, "read")? };
    both_exist(&api, &vhost, &user)?;
    let command = MetaCommand::SetTopicPermissions {
        user: Arc::from(user),
        vhost: Arc::from(vhost),
        exchange,
        patterns,
    };
    let reply = api.node.metadata.propose(command).await?;
    put_status(reply == MetaReply::Created(true))
}

pub(super) async fn delete_topics(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user)): Path<(String, String)>,
) -> Answer {
    clear_topics(&api, &caller, &vhost, &user, None).await
}

/// Those for one exchange: the button of RabbitMQ's pages.
pub(super) async fn delete_topics_of_exchange(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Answer {
    clear_topics(&api, &caller, &vhost, &user, Some(&exchange)).await
}

async fn clear_topics(api: &Api, caller: &Caller, vhost: &str, user: &str, exchange: Option<&str>) -> Answer {
    caller.administrator()?;
    let command = MetaCommand::ClearTopicPermissions {
        user: Arc::from(user),
        vhost: Arc::from(vhost),
        exchange: exchange.map(Arc::from),
    };
    match api.node.metadata.propose(command).await? {
        MetaReply::Removed(removed) if removed.existed => no_content(),
        _ => Err(Refusal::missing()),
    }
}

/// A pattern that must be there and compile.
fn pattern(body: &Value, key: &str) -> Result<Arc<str>, Refusal> {
    let text = required(body, key)?;
    match Pattern::new(text) {
        Ok(_) => Ok(Arc::from(text)),
        Err(error) => Err(Refusal::bad_request(format!("{key}: invalid regular expression: {error}"))),
    }
}

fn both_exist(api: &Api, vhost: &str, user: &str) -> Result<(), Refusal> {
    let sm = api.node.metadata.read();
    if sm.vhost_id(vhost).is_some() && sm.user(user).is_some() {
        Ok(())
    } else {
        Err(Refusal::bad_request("vhost_or_user_not_found"))
    }
}

fn inside(sm: &MetaSm, vhost: &str, list: fn(&VhostState) -> Vec<Value>) -> Result<Vec<Value>, Refusal> {
    sm.vhost_id(vhost).and_then(|id| sm.vhost(id)).map(list).ok_or_else(Refusal::missing)
}

fn of(sm: &MetaSm, user: &str, list: fn(&VhostState) -> Vec<Value>) -> Result<Vec<Value>, Refusal> {
    sm.user(user).ok_or_else(Refusal::missing)?;
    Ok(sm.vhosts().flat_map(list).filter(|entry| entry["user"] == *user).collect())
}

fn entries(state: &VhostState) -> Vec<Value> {
    let vhost = &*state.vhost.name;
    let one = |user: &str, patterns: &PermissionPatterns| {
        object!({
            "user": user, "vhost": vhost,
            "configure": &*patterns.configure, "write": &*patterns.write, "read": &*patterns.read,
        })
    };
    state.permissions().map(|(user, patterns)| one(user, patterns)).collect()
}

fn topic_entries(state: &VhostState) -> Vec<Value> {
    let vhost = &*state.vhost.name;
    let one = |user: &str, exchange: &str, patterns: &TopicPatterns| {
        object!({
            "user": user, "vhost": vhost, "exchange": exchange,
            "write": &*patterns.write, "read": &*patterns.read,
        })
    };
    state.topic_permissions().map(|(user, exchange, patterns)| one(user, exchange, patterns)).collect()
}
