//! `/api/users`, `/api/whoami`, `/api/user-limits`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::reply::{Answer, Refusal, json, limit_value, no_content, parse_body, put_status, with_limit};
use crate::auth::{hash_is_well_formed, hash_password};
use crate::metadata::definitions::{tags, user_limits, user_limits_json};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::meta::{HashAlgorithm, MetaCommand, MetaReply, MetaSm, PasswordHash, User, UserLimits};
use serde_json::{Value, json as object};
use std::sync::Arc;

/// Users that one bulk delete may name.
const MAX_BULK: usize = 10_000;

pub(super) async fn whoami(caller: Caller) -> Answer {
    json(&object!({"name": &*caller.name, "tags": caller.tags}))
}

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = {
        let sm = api.node.metadata.read();
        sm.users().map(|user| entry(&sm, user)).collect()
    };
    query.answer(entries)
}

pub(super) async fn without_permissions(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = {
        let sm = api.node.metadata.read();
        let lonely = |user: &&User| sm.vhosts().all(|state| state.permissions_of(&user.name).is_none());
        sm.users().filter(lonely).map(|user| entry(&sm, user)).collect()
    };
    query.answer(entries)
}

pub(super) async fn one(caller: Caller, State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    caller.administrator()?;
    let sm = api.node.metadata.read();
    json(&sm.user(&name).map(|user| entry(&sm, user)).ok_or_else(Refusal::missing)?)
}

pub(super) async fn put(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    if name.is_empty() || name.len() > 255 {
        return Err(Refusal::bad_request("a user name has 1 to 255 octets"));
    }
    let given = body.get("tags").ok_or_else(|| Refusal::bad_request("tags_not_present"))?;
    let tags = tags(given).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let user = User { name: Arc::from(name), password: password(&body).await?, tags };
    let reply = api.node.metadata.propose(MetaCommand::PutUser { user, keep_password: false }).await?;
    put_status(reply == MetaReply::Created(true))
}

pub(super) async fn delete(caller: Caller, State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    caller.administrator()?;
    api.node.metadata.propose(MetaCommand::DeleteUser { name: Arc::from(name) }).await?;
    no_content()
}

pub(super) async fn bulk_delete(caller: Caller, State(api): State<Arc<Api>>, body: Bytes) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let names = body.get("users").and_then(Value::as_array).filter(|names| names.len() <= MAX_BULK);
    let names = names.ok_or_else(|| Refusal::bad_request("[{key_missing,users}]"))?;
    let commands = names
        .iter()
        .filter_map(Value::as_str)
        .map(|name| MetaCommand::DeleteUser { name: Arc::from(name) })
        .collect();
    // Those that do not exist are passed over.
    api.node.metadata.propose_all(commands).await?;
    no_content()
}

pub(super) async fn all_limits(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    caller.administrator()?;
    let entries = {
        let sm = api.node.metadata.read();
        sm.users().filter_map(|user| limits_entry(&sm, &user.name)).collect()
    };
    query.answer(entries)
}

pub(super) async fn limits(caller: Caller, State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    caller.administrator()?;
    let sm = api.node.metadata.read();
    sm.user(&name).ok_or_else(Refusal::missing)?;
    json(&limits_entry(&sm, &name).into_iter().collect())
}

pub(super) async fn set_limit(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((name, limit)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let value = limit_value(&body)?;
    change_limit(&api, &name, &limit, Some(value)).await
}

pub(super) async fn clear_limit(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((name, limit)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    change_limit(&api, &name, &limit, None).await
}

async fn change_limit(api: &Api, name: &str, limit: &str, value: Option<i64>) -> Answer {
    let old = user_limits_json(api.node.metadata.read().user_limits(name));
    let limits = with_limit(old, limit, value, &["max-connections", "max-channels"])?;
    let limits = user_limits(&limits);
    api.node.metadata.propose(MetaCommand::SetUserLimits { user: Arc::from(name), limits }).await?;
    no_content()
}

fn limits_entry(sm: &MetaSm, name: &str) -> Option<Value> {
    let limits = sm.user_limits(name);
    (limits != UserLimits::default()).then(|| object!({"user": name, "value": user_limits_json(limits)}))
}

/// `password`, or `password_hash` with `hashing_algorithm`; neither means no password.
async fn password(body: &Value) -> Result<Option<PasswordHash>, Refusal> {
    if let Some(password) = body.get("password").and_then(Value::as_str) {
        if password.is_empty() {
            return Ok(None);
        }
        let password = password.to_owned();
        let hashed = tokio::task::spawn_blocking(move || hash_password(password.as_bytes())).await;
        return match hashed {
            Ok(Ok(hash)) => Ok(Some(hash)),
            Ok(Err(_)) | Err(_) => Err(Refusal::internal("the password could not be hashed")),
        };
    }
    let Some(hash) = body.get("password_hash").and_then(Value::as_str).filter(|hash| !hash.is_empty()) else {
        return Ok(None);
    };
    let name =
        body.get("hashing_algorithm").and_then(Value::as_str).unwrap_or("rabbit_password_hashing_sha256");
    let algorithm = HashAlgorithm::from_name(name)
        .ok_or_else(|| Refusal::bad_request(format!("hashing algorithm {name} is not known")))?;
    let stored = PasswordHash { algorithm, hash: hash.to_owned() };
    if hash_is_well_formed(&stored) {
        Ok(Some(stored))
    } else {
        Err(Refusal::bad_request("invalid password_hash"))
    }
}

fn entry(sm: &MetaSm, user: &User) -> Value {
    let (hash, algorithm) = match &user.password {
        Some(password) => (password.hash.as_str(), password.algorithm.name()),
        None => ("", "rabbit_password_hashing_sha256"),
    };
    object!({
        "name": &*user.name,
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": user.tags,
        "limits": user_limits_json(sm.user_limits(&user.name)),
    })
}
