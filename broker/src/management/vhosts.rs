//! `/api/vhosts` and `/api/vhost-limits`.

use super::Api;
use super::caller::Caller;
use super::fields::Fields;
use super::listing::{Entry, ListQuery};
use super::rates::{Looking, Windows};
use super::reply::{
    Answer, Refusal, flag, json, limit_value, no_content, parse_body, put_status, with_limit,
};
use super::totals::{Sum, Totals};
use crate::counters::MessageCounts;
use crate::metadata::definitions::{tags, vhost_limits, vhost_limits_json};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::meta::{MetaCommand, MetaReply, PermissionPatterns, VhostLimits, VhostState};
use serde_json::{Value, json as object};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
    Query(windows): Query<Windows>,
) -> Answer {
    let (totals, counts) = (api.totals(), api.message_counts());
    let sm = api.node.metadata.read();
    api.rates.look(|rates| {
        let visible = sm.vhosts().filter(|state| caller.sees(&sm, state.vhost.id));
        let entry = |state| VhostEntry::new(&api, state, &totals, &counts, rates, &windows);
        query.answer(visible.map(entry).collect())
    })
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
    Query(windows): Query<Windows>,
) -> Answer {
    let (totals, counts) = (api.totals(), api.message_counts());
    let sm = api.node.metadata.read();
    let id = caller.vhost(&sm, &vhost)?;
    let state = sm.vhost(id).ok_or_else(Refusal::missing)?;
    api.rates.look(|rates| query.answer_one(&VhostEntry::new(&api, state, &totals, &counts, rates, &windows)))
}

/// `POST /api/vhosts/{vhost}/start/{node}`: vhosts run on every node, always.
pub(super) async fn start(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, node)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    caller.vhost(&api.node.metadata.read(), &vhost)?;
    if node == api.node.settings.node { no_content() } else { Err(Refusal::missing()) }
}

pub(super) async fn put(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let name: Arc<str> = Arc::from(vhost.as_str());
    let (known, command) = {
        let sm = api.node.metadata.read();
        let known = sm.vhost_id(&name).and_then(|id| sm.vhost(id)).map(|state| state.vhost.clone());
        let old = known.as_ref();
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let command = MetaCommand::PutVhost {
            name: Arc::clone(&name),
            description: text("description")
                .or_else(|| old.map(|vhost| vhost.description.clone()))
                .unwrap_or_default(),
            tags: match body.get("tags") {
                Some(given) => tags(given).map_err(|error| Refusal::bad_request(error.to_string()))?,
                None => old.map(|vhost| vhost.tags.clone()).unwrap_or_default(),
            },
            tracing: flag(&body, "tracing", old.is_some_and(|vhost| vhost.tracing))?,
            default_queue_type: text("default_queue_type")
                .or_else(|| old.and_then(|vhost| vhost.default_queue_type.clone())),
        };
        (known.is_some(), command)
    };
    if name.is_empty() || name.len() > 255 {
        return Err(Refusal::bad_request("a vhost name has 1 to 255 octets"));
    }
    api.node.metadata.propose(command).await?;
    if !known && !caller.local {
        // RabbitMQ: whoever adds a vhost may use it.
        let everything: Arc<str> = Arc::from(".*");
        let patterns = PermissionPatterns {
            configure: Arc::clone(&everything),
            write: Arc::clone(&everything),
            read: everything,
        };
        let command = MetaCommand::SetPermissions { user: Arc::clone(&caller.name), vhost: name, patterns };
        api.node.metadata.propose(command).await?;
    }
    put_status(!known)
}

pub(super) async fn delete(caller: Caller, State(api): State<Arc<Api>>, Path(vhost): Path<String>) -> Answer {
    caller.administrator()?;
    let reply = api.node.metadata.propose(MetaCommand::DeleteVhost { name: Arc::from(vhost) }).await?;
    debug_assert!(matches!(reply, MetaReply::Removed(_)));
    no_content()
}

pub(super) async fn all_limits(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = {
        let sm = api.node.metadata.read();
        sm.vhosts().filter(|state| caller.sees(&sm, state.vhost.id)).filter_map(limits_entry).collect()
    };
    query.answer(entries)
}

pub(super) async fn limits(caller: Caller, State(api): State<Arc<Api>>, Path(vhost): Path<String>) -> Answer {
    let sm = api.node.metadata.read();
    let id = caller.vhost(&sm, &vhost)?;
    json(&sm.vhost(id).and_then(limits_entry).into_iter().collect())
}

pub(super) async fn set_limit(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, limit)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    caller.administrator()?;
    let value = limit_value(&body)?;
    change_limit(&api, &vhost, &limit, Some(value)).await
}

pub(super) async fn clear_limit(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, limit)): Path<(String, String)>,
) -> Answer {
    caller.administrator()?;
    change_limit(&api, &vhost, &limit, None).await
}

async fn change_limit(api: &Api, vhost: &str, limit: &str, value: Option<i64>) -> Answer {
    let old = {
        let sm = api.node.metadata.read();
        let id = sm.vhost_id(vhost).ok_or_else(Refusal::missing)?;
        vhost_limits_json(sm.vhost(id).map(VhostState::limits).unwrap_or_default())
    };
    let limits = with_limit(old, limit, value, &["max-connections", "max-queues"])?;
    let limits = vhost_limits(&limits);
    api.node.metadata.propose(MetaCommand::SetVhostLimits { vhost: Arc::from(vhost), limits }).await?;
    no_content()
}

fn limits_entry(state: &VhostState) -> Option<Value> {
    (state.limits() != VhostLimits::default())
        .then(|| object!({"vhost": &*state.vhost.name, "value": vhost_limits_json(state.limits())}))
}

/// A vhost in a list.
struct VhostEntry<'a> {
    node: &'a str,
    state: &'a VhostState,
    sum: Sum,
}

impl<'a> VhostEntry<'a> {
    fn new(
        api: &'a Api,
        state: &'a VhostState,
        totals: &Totals,
        counts: &HashMap<Arc<str>, MessageCounts>,
        rates: &Looking<'_>,
        windows: &Windows,
    ) -> Self {
        let name = &*state.vhost.name;
        let sum = Sum::of(std::iter::once(name), totals, counts, rates, windows);
        VhostEntry { node: &api.node.settings.node, state, sum }
    }
}

impl Entry for VhostEntry<'_> {
    fn name(&self) -> &str {
        &self.state.vhost.name
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let vhost = &self.state.vhost;
        fields.field("name", &*vhost.name);
        fields.field("description", &vhost.description);
        fields.field("tags", &vhost.tags);
        let queue_type = vhost.default_queue_type.as_deref().unwrap_or("undefined");
        fields.field("default_queue_type", queue_type);
        fields.field("metadata", &object!({"description": vhost.description, "tags": vhost.tags}));
        fields.field("tracing", &vhost.tracing);
        fields.field("cluster_state", &object!({self.node: "running"}));
        fields.object("message_stats", |stats| self.sum.message_stats(stats));
        self.sum.lengths(fields);
        self.sum.octets(fields);
    }
}
