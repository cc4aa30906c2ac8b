//! `/api/exchanges`.

use super::Api;
use super::asked::{Asked, View};
use super::caller::Caller;
use super::fields::Fields;
use super::listing::Entry;
use super::queues::DeleteQuery;
use super::reply::{Answer, Refusal, flag, no_content, parse_body, put_status, required};
use crate::counters::ExchangeCounters;
use crate::metadata::json::{from_table, to_table};
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use broker_core::exchange::{ExchangeType, delayed};
use broker_core::meta::checks::{self, Declared, ExchangeDeclare};
use broker_core::meta::{Destination, Exchange, MetaReply};
use broker_core::queue::Queue;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// How paths name the default exchange.
pub(super) fn exchange_name(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

/// `/api/exchanges` and `/api/exchanges/{vhost}`
pub(super) async fn list(asked: Asked) -> Answer {
    let counters: HashMap<_, _> = asked.api.node.counters.exchanges().into_iter().collect();
    asked.look(|view| {
        let vhosts = asked.vhosts(view.sm)?;
        let exchanges = vhosts.iter().flat_map(|id| view.sm.exchanges_in(*id));
        let entries = exchanges.map(|exchange| {
            let counters = counters.get(&exchange.id).map(Arc::as_ref);
            ExchangeEntry { view, counters, exchange, whole: false }
        });
        asked.query.answer(entries.collect())
    })
}

pub(super) async fn one(asked: Asked) -> Answer {
    asked.look(|view| {
        let vhost = asked.vhost(view.sm)?;
        let name = exchange_name(asked.part("name"));
        let exchange = view.sm.exchange_named(vhost, name).ok_or_else(Refusal::missing)?;
        let counters = view.api.node.counters.exchange(exchange.id);
        asked.query.answer_one(&ExchangeEntry { view, counters: Some(&counters), exchange, whole: true })
    })
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

/// An exchange in a list, or with `whole` by itself.
struct ExchangeEntry<'a> {
    view: View<'a>,
    counters: Option<&'a ExchangeCounters>,
    exchange: &'a Exchange,
    whole: bool,
}

impl Entry for ExchangeEntry<'_> {
    fn name(&self) -> &str {
        &self.exchange.name
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let exchange = self.exchange;
        fields.field("name", &*exchange.name);
        fields.field("vhost", self.view.sm.vhost_name(exchange.vhost));
        fields.field("type", exchange.kind.name());
        fields.field("durable", &exchange.durable);
        fields.field("auto_delete", &exchange.auto_delete);
        fields.field("internal", &exchange.internal);
        if fields.wants("arguments") {
            fields.field("arguments", &from_table(&exchange.arguments));
        }
        fields.field("user_who_performed_action", "");
        if exchange.kind == ExchangeType::Delayed {
            let store = delayed::store_of(exchange.id);
            let waiting = self.view.api.node.with_queue(store, Queue::delayed_count).unwrap_or(0);
            fields.field("messages_delayed", &waiting);
        }
        if let Some(policy) = &exchange.policies.policy {
            fields.field("policy", &**policy);
            let definition =
                self.view.book.effective_definition(self.view.sm, Destination::Exchange(exchange.id));
            fields.field("effective_policy_definition", &definition);
        }
        // RabbitMQ: none before the first message.
        if let Some(counters) = self.counters.filter(|counters| counters.publish_in.get() > 0) {
            let past = self.view.rates.exchange(exchange.id, self.view.windows.messages());
            fields.object("message_stats", |stats| {
                stats.rated("publish_in", counters.publish_in.get(), || past.details(0));
                stats.rated("publish_out", counters.publish_out.get(), || past.details(1));
            });
        }
        if self.whole {
            // What RabbitMQ shows here in its detailed mode only.
            fields.field("incoming", &json!([]));
            fields.field("outgoing", &json!([]));
        }
    }
}
