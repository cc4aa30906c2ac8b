//! `/api/exchanges`.

use super::Api;
use super::caller::Caller;
use super::listing::ListQuery;
use super::queues::DeleteQuery;
use super::reply::{Answer, Refusal, flag, no_content, parse_body, put_status, required};
use crate::metadata::json::{from_table, to_table};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::exchange::{ExchangeType, delayed};
use broker_core::ids::VhostId;
use broker_core::meta::checks::{self, Declared, ExchangeDeclare};
use broker_core::meta::policy::PolicyBook;
use broker_core::meta::{Destination, Exchange, MetaReply, MetaSm};
use broker_core::queue::Queue;
use serde_json::{Value, json};
use std::sync::Arc;

/// How paths name the default exchange.
pub(super) fn exchange_name(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = api.node.metadata.with_policies(|sm, book| {
        let vhosts: Vec<VhostId> =
            sm.vhosts().map(|state| state.vhost.id).filter(|id| caller.sees(sm, *id)).collect();
        vhosts.into_iter().flat_map(|id| sm.exchanges_in(id)).map(|x| entry(&api, sm, book, x)).collect()
    });
    query.answer(entries)
}

pub(super) async fn of_vhost(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(vhost): Path<String>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let entries = api.node.metadata.with_policies(|sm, book| {
        let vhost = caller.vhost(sm, &vhost)?;
        Ok::<Vec<Value>, Refusal>(sm.exchanges_in(vhost).map(|x| entry(&api, sm, book, x)).collect())
    })?;
    query.answer(entries)
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Answer {
    let shown = api.node.metadata.with_policies(|sm, book| {
        let vhost = caller.vhost(sm, &vhost)?;
        let exchange = sm.exchange_named(vhost, exchange_name(&name)).ok_or_else(Refusal::missing)?;
        let mut shown = entry(&api, sm, book, exchange);
        shown["incoming"] = json!([]);
        shown["outgoing"] = json!([]);
        Ok::<Value, Refusal>(shown)
    })?;
    query.answer_one(shown)
}

pub(super) async fn declare(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let body = parse_body(&body)?;
    let arguments = to_table(body.get("arguments").unwrap_or(&Value::Null))
        .map_err(|e| Refusal::bad_request(e.to_string()))?;
    let command = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &vhost)?;
        let request = ExchangeDeclare {
            name: exchange_name(&name),
            kind: required(&body, "type")?,
            durable: flag(&body, "durable", true)?,
            auto_delete: flag(&body, "auto_delete", false)?,
            internal: flag(&body, "internal", false)?,
            arguments: Arc::new(arguments),
        };
        match checks::exchange_declare(&sm, &mut caller.access(&api, vhost), &request)? {
            Declared::Exists(_) => return put_status(false),
            Declared::Create(command) => command,
        }
    };
    match api.node.metadata.propose(command).await? {
        MetaReply::Exchange { created, .. } => put_status(created),
        _ => put_status(false),
    }
}

pub(super) async fn delete(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path((vhost, name)): Path<(String, String)>,
    Query(query): Query<DeleteQuery>,
) -> Answer {
    let command = {
        let sm = api.node.metadata.read();
        let vhost = caller.own_vhost(&sm, &vhost)?;
        let name = exchange_name(&name);
        sm.exchange_named(vhost, name).ok_or_else(Refusal::missing)?;
        let if_unused = query.if_unused.as_deref() == Some("true");
        checks::exchange_delete(&sm, &mut caller.access(&api, vhost), name, if_unused)?
    };
    api.node.metadata.propose(command).await?;
    no_content()
}

fn entry(api: &Api, sm: &MetaSm, book: &PolicyBook, exchange: &Exchange) -> Value {
    let mut shown = json!({
        "name": &*exchange.name,
        "vhost": sm.vhost_name(exchange.vhost),
        "type": exchange.kind.name(),
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": exchange.internal,
        "arguments": from_table(&exchange.arguments),
        "user_who_performed_action": "",
    });
    if exchange.kind == ExchangeType::Delayed {
        let store = delayed::store_of(exchange.id);
        shown["messages_delayed"] =
            Value::from(api.node.with_queue(store, Queue::delayed_count).unwrap_or(0));
    }
    if let Some(policy) = &exchange.policies.policy {
        shown["policy"] = Value::from(&**policy);
        shown["effective_policy_definition"] =
            Value::Object(book.effective_definition(sm, Destination::Exchange(exchange.id)));
    }
    shown
}
