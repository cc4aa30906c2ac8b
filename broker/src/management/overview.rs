//! `/api/overview` and what else describes the cluster as a whole.

use super::caller::Caller;
use super::fields::Fields;
use super::listing::{Entry, ListQuery};
use super::rates::{NODE_NUMBERS, Windows};
use super::reply::{Answer, json, no_content, parse_body, required};
use super::totals::Sum;
use super::{Api, Listening, system};
use crate::auth::Mechanism;
use crate::connection::info::ConnectionInfo;
use crate::tls::{TlsServer, Verify, version_name};
use axum::body::Bytes;
use axum::extract::{Query, State};
use broker_core::exchange::ExchangeType;
use broker_core::meta::{MetaCommand, VhostState, cluster};
use serde_json::{Value, json as object};
use std::sync::Arc;

pub(super) async fn overview(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
    Query(windows): Query<Windows>,
) -> Answer {
    query.answer_one(&Overview::new(&api, &caller, windows))
}

/// The overview, as one user sees it.
pub(super) struct Overview<'a> {
    api: &'a Api,
    caller: &'a Caller,
    windows: Windows,
}

impl<'a> Overview<'a> {
    pub(super) fn new(api: &'a Api, caller: &'a Caller, windows: Windows) -> Overview<'a> {
        Overview { api, caller, windows }
    }

    fn totals(&self, fields: &mut Fields<'_>) {
        let (api, caller) = (self.api, self.caller);
        let (totals, counts) = (api.totals(), api.message_counts());
        let shown = |info: &Arc<ConnectionInfo>| super::connections::shows(caller, info);
        let connections: Vec<_> = api.node.connections.list().into_iter().filter(shown).collect();
        let channels: u64 = connections.iter().map(|info| info.counters.channels.get()).sum();
        let sm = api.node.metadata.read();
        let visible: Vec<&VhostState> =
            sm.vhosts().filter(|state| caller.sees(&sm, state.vhost.id)).collect();
        // What was counted in vhosts that are gone is for those who see everything.
        let gone = caller.is_monitor().then_some("");
        let names = visible.iter().map(|state| &*state.vhost.name).chain(gone);
        let wal = api.node.wal.stats();
        api.rates.look(|rates| {
            let sum = Sum::of(names, &totals, &counts, rates, &self.windows);
            fields.object("message_stats", |stats| {
                sum.message_stats(stats);
                let log = rates.node(self.windows.messages());
                let written = NODE_NUMBERS.iter().position(|name| *name == "io_write_count").unwrap_or(0);
                stats.rated("disk_reads", 0, || log.details_of(|_| 0));
                stats.rated("disk_writes", wal.frames, || log.details(written));
            });
            fields.object("queue_totals", |lengths| sum.lengths(lengths));
            let queues = visible.iter().map(|state| state.queue_count()).sum::<usize>();
            let objects = object!({
                "queues": queues,
                "exchanges": visible.iter().map(|state| sm.exchanges_in(state.vhost.id).count()).sum::<usize>(),
                "connections": connections.len(),
                "channels": channels,
                "consumers": sum.held.consumers,
            });
            fields.field("object_totals", &objects);
            let churn = rates.node(self.windows.messages());
            let now = system::churn(api);
            fields.object("churn_rates", |rates| {
                for (at, (name, count)) in NODE_NUMBERS.iter().zip(now).enumerate() {
                    rates.rated(name, count, || churn.details(at));
                }
            });
        });
    }
}

impl Entry for Overview<'_> {
    fn name(&self) -> &str {
        ""
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let settings = &self.api.node.settings;
        fields.field("management_version", &settings.version);
        fields.field("rates_mode", "basic");
        let policies = object!({"global": [600, 3600, 28800, 86400], "basic": [600], "detailed": [600]});
        fields.field("sample_retention_policies", &policies);
        fields.field("exchange_types", &exchange_types());
        fields.field("product_version", &settings.version);
        fields.field("product_name", &settings.product);
        fields.field("rabbitmq_version", &settings.version);
        fields.field("cluster_name", &self.api.node.cluster_name());
        // What these describe in RabbitMQ does not exist here; clients only print them.
        fields.field("erlang_version", "");
        fields.field("erlang_full_version", "");
        fields.field("release_series_support_status", "supported");
        fields.field("disable_stats", &false);
        fields.field("enable_queue_totals", &false);
        self.totals(fields);
        fields.field("statistics_db_event_queue", &0);
        fields.field("node", &settings.node);
        if self.caller.is_monitor() {
            fields.field("listeners", &listeners(self.api));
            fields.field("contexts", &contexts(self.api));
        }
    }
}

pub(super) async fn cluster_name(_caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    json(&object!({"name": api.node.cluster_name()}))
}

pub(super) async fn set_cluster_name(caller: Caller, State(api): State<Arc<Api>>, body: Bytes) -> Answer {
    caller.administrator()?;
    let body = parse_body(&body)?;
    let value = Value::from(required(&body, "name")?).to_string();
    let command = MetaCommand::SetGlobalParameter { name: Arc::from("cluster_name"), value };
    api.node.metadata.propose(command).await?;
    no_content()
}

/// Spreads the leaders of queues over the nodes; with one node they are.
pub(super) async fn rebalance(caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    caller.administrator()?;
    let moves = cluster::rebalance(&api.node.metadata.read(), |_| true);
    // One that is refused changed meanwhile.
    api.node.metadata.propose_all(moves).await?;
    no_content()
}

/// How a web page may log in: not by OAuth.
pub(super) async fn auth() -> Answer {
    json(&object!({"enable_uaa": false, "oauth_enabled": false, "uaa_client_id": "", "uaa_location": ""}))
}

/// What RabbitMQ's own pages load after the login: without it they stay empty.
pub(super) async fn extensions(_caller: Caller) -> Answer {
    json(&object!([{"javascript": "dispatcher.js"}]))
}

pub(super) fn exchange_types() -> Value {
    let types = [
        ExchangeType::Direct,
        ExchangeType::Fanout,
        ExchangeType::Headers,
        ExchangeType::Topic,
        ExchangeType::ConsistentHash,
        ExchangeType::Delayed,
    ];
    types
        .map(|kind| {
            let name = kind.name();
            object!({"name": name, "description": format!("AMQP {name} exchange"), "enabled": true})
        })
        .into_iter()
        .collect()
}

fn listeners(api: &Api) -> Value {
    let one = |listening: &Listening| {
        let Listening { protocol, address, tls } = listening;
        let mut options = tls.as_ref().map_or(object!({}), |tls| ssl_options(tls));
        options["backlog"] = Value::from(daemon::listen::DEFAULT_BACKLOG);
        options["nodelay"] = Value::from(true);
        options["linger"] = object!([true, 0]);
        options["exit_on_close"] = Value::from(false);
        options["ip"] = Value::from(address.ip().to_string());
        options["port"] = Value::from(address.port());
        options["protocol"] = Value::from(*protocol);
        object!({
            "node": api.node.settings.node, "protocol": protocol, "ip_address": address.ip().to_string(),
            "port": address.port(), "socket_opts": options,
        })
    };
    api.listeners.iter().map(one).collect()
}

/// What a TLS listener was told.
fn ssl_options(tls: &TlsServer) -> Value {
    let options = tls.options();
    let mut shown = object!({
        "versions": options.versions.iter().map(|version| version_name(version)).collect::<Vec<_>>(),
        "certfile": options.cert.to_string_lossy(),
        "keyfile": options.key.to_string_lossy(),
        "verify": if options.verify == Verify::None { "verify_none" } else { "verify_peer" },
        "fail_if_no_peer_cert": options.verify == Verify::PeerRequired,
    });
    if let Some(ca) = &options.ca {
        shown["cacertfile"] = Value::from(ca.to_string_lossy());
    }
    shown
}

pub(super) fn contexts(api: &Api) -> Value {
    let http = api.listeners.iter().filter(|listening| listening.protocol.starts_with("http"));
    http.map(|Listening { protocol, address, tls }| {
        let metrics = protocol.ends_with("prometheus");
        object!({
            "node": api.node.settings.node,
            "description": if metrics { "RabbitMQ Prometheus" } else { "RabbitMQ Management" }, "path": "/",
            "ip": address.ip().to_string(), "port": address.port().to_string(), "protocol": protocol,
            // Options of RabbitMQ's web server.
            "cowboy_opts": "[{sendfile,false}]",
            "ssl_opts": tls.as_ref().map_or(object!([]), |tls| ssl_options(tls)),
        })
    })
    .collect()
}

pub(super) fn auth_mechanisms(api: &Api) -> Value {
    let one = |mechanism: Mechanism| {
        let description = match mechanism {
            Mechanism::External => "SASL EXTERNAL authentication by TLS client certificate",
            Mechanism::Plain => "SASL PLAIN authentication mechanism",
            Mechanism::AmqPlain => "AMQPLAIN mechanism",
        };
        let enabled = api.node.settings.auth_mechanisms.contains(&mechanism);
        object!({"name": mechanism.name(), "description": description, "enabled": enabled})
    };
    Mechanism::ALL.into_iter().map(one).collect()
}
