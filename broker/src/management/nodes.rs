//! `/api/nodes`.

use super::caller::Caller;
use super::fields::Fields;
use super::listing::{Entry, ListQuery};
use super::overview::{auth_mechanisms, contexts, exchange_types};
use super::rates::{self, NODE_NUMBERS, Windows};
use super::reply::{Answer, Refusal, json, no_content};
use super::{Api, erlang, system};
use crate::shard::LocalQueue;
use axum::extract::{Path, Query, State};
use broker_core::meta::{Member, NodeState};
use serde_json::json as object;
use std::sync::Arc;

pub(super) async fn all(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Query(query): Query<ListQuery>,
    Query(windows): Query<Windows>,
) -> Answer {
    caller.monitor()?;
    query.answer(vec![NodeEntry { api: &api, windows }])
}

pub(super) async fn one(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(query): Query<ListQuery>,
    Query(windows): Query<Windows>,
) -> Answer {
    caller.monitor()?;
    known(&api, &name)?;
    query.answer_one(&NodeEntry { api: &api, windows })
}

/// `/api/nodes/{name}/memory`
pub(super) async fn memory(caller: Caller, State(api): State<Arc<Api>>, Path(name): Path<String>) -> Answer {
    caller.monitor()?;
    known(&api, &name)?;
    let messages: u64 = (0..api.node.shard_count())
        .map(|shard| api.node.lock_shard(shard).queues().map(LocalQueue::resident_bytes).sum::<u64>())
        .sum();
    json(&object!({"memory": erlang::memory(api.node.alarms.resident(), messages)}))
}

/// `/api/auth/attempts/{node}`
pub(super) async fn login_attempts(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Answer {
    caller.monitor()?;
    known(&api, &name)?;
    let counters = &api.node.counters;
    let shown =
        [("http", &counters.http_logins), ("amqp091", &counters.amqp_logins)].map(|(protocol, it)| {
            let (succeeded, failed) = (it.succeeded.get(), it.failed.get());
            object!({
                "protocol": protocol, "auth_attempts": succeeded + failed, "auth_attempts_failed": failed,
                "auth_attempts_succeeded": succeeded,
            })
        });
    json(&shown.into_iter().collect())
}

/// `DELETE /api/reset`: forgets what rates and charts are made of. Totals go on counting.
pub(super) async fn reset(caller: Caller, State(api): State<Arc<Api>>) -> Answer {
    forget(&caller, api).await
}

/// `DELETE /api/reset/{node}`
pub(super) async fn reset_node(
    caller: Caller,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Answer {
    caller.administrator()?;
    known(&api, &name)?;
    forget(&caller, api).await
}

async fn forget(caller: &Caller, api: Arc<Api>) -> Answer {
    caller.administrator()?;
    tracing::info!(by = &*caller.name, "statistics are reset");
    let done = tokio::task::spawn_blocking(move || rates::reset(&api)).await;
    done.map_err(|_| Refusal::internal("a sample could not be taken"))?;
    no_content()
}

fn known(api: &Api, name: &str) -> Result<(), Refusal> {
    if name == api.node.settings.node { Ok(()) } else { Err(Refusal::missing()) }
}

/// This node.
struct NodeEntry<'a> {
    api: &'a Api,
    windows: Windows,
}

impl Entry for NodeEntry<'_> {
    fn name(&self) -> &str {
        &self.api.node.settings.node
    }

    fn write(&self, fields: &mut Fields<'_>) {
        let node = &self.api.node;
        let (memory_alarm, disk_alarm) = node.alarms.on();
        fields.field("name", &node.settings.node);
        fields.field("type", "disc");
        fields.field("running", &true);
        let drained = |member: &Member| member.state == NodeState::Drain;
        let drained = node.metadata.read().member_named(&node.settings.node).is_some_and(drained);
        fields.field("being_drained", &drained);
        fields.field("partitions", &object!([]));
        fields.field("os_pid", &std::process::id().to_string());
        fields.field("uptime", &node.monotonic_ms());
        fields.field("processors", &std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        fields.field("run_queue", &node.runtime.metrics().global_queue_depth());
        fields.field("rates_mode", "basic");
        fields.field("net_ticktime", &60);
        fields.field("mem_alarm", &memory_alarm);
        fields.field("mem_limit", &node.alarms.memory_limit());
        fields.field("mem_calculation_strategy", "rss");
        fields.field("disk_free_alarm", &disk_alarm);
        fields.field("disk_free_limit", &node.alarms.disk_limit());
        fields.field("fd_total", &system::most_files());
        fields.field("sockets_total", &node.settings.max_connections);
        // Erlang's default: nothing here limits the tasks.
        fields.field("proc_total", &1_048_576);
        fields.field("exchange_types", &exchange_types());
        fields.field("auth_mechanisms", &auth_mechanisms(self.api));
        let version = &node.settings.version;
        let application = |name: &str, description: &str| object!({"name": name, "description": description, "version": version});
        let applications = object!([
            application("rabbit", "RabbitMQ"),
            application("rabbitmq_management", "RabbitMQ Management Console"),
            application("rabbitmq_prometheus", "Prometheus metrics"),
        ]);
        fields.field("applications", &applications);
        fields.field("contexts", &contexts(self.api));
        fields.field("enabled_plugins", &["rabbitmq_management", "rabbitmq_prometheus"]);
        fields.field("log_files", &self.api.files.log);
        fields.field(
            "config_files",
            &self.api.files.config.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>(),
        );
        fields.field("db_dir", &self.api.files.data.to_string_lossy());
        fields.field("cluster_links", &object!([]));
        fields.field("metrics_gc_queue_length", &erlang::metrics_gc_queue_length());
        fields.field("ra_open_file_metrics", &object!({"ra_log_wal": 1, "ra_log_segment_writer": 0}));
        let now = system::numbers(self.api);
        let past = self.api.rates.look(|rates| rates.node(self.windows.node()));
        for (at, (name, number)) in NODE_NUMBERS.iter().zip(now).enumerate() {
            fields.rated(name, number, || past.details(at));
        }
    }
}
