//! Metrics of the node, and the families that `/metrics/detailed` can be asked for.

use super::super::Api;
use super::super::rates::NODE_NUMBERS;
use super::super::system;
use super::exposition::{Exposition, Kind};
use super::objects::{self, Scope};
use crate::connection::info::Counter;
use crate::counters::{LATENCY_BOUNDS_US, MESSAGE_COUNTERS, MessageCounts, SIZE_BOUNDS, add};
use broker_core::meta::VhostState;

/// Metrics that are asked for together, by RabbitMQ's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    QueueCoarse,
    QueueConsumers,
    Queue,
    Channel,
    ChannelExchange,
    ChannelQueue,
    ConnectionCoarse,
    Connection,
    Churn,
    NodeCoarse,
    Node,
    NodePersister,
    Logins,
    Exchange,
    VhostStatus,
}

impl Family {
    pub(super) const ALL: [Family; 15] = [
        Family::QueueCoarse,
        Family::QueueConsumers,
        Family::Queue,
        Family::Channel,
        Family::ChannelExchange,
        Family::ChannelQueue,
        Family::ConnectionCoarse,
        Family::Connection,
        Family::Churn,
        Family::NodeCoarse,
        Family::Node,
        Family::NodePersister,
        Family::Logins,
        Family::Exchange,
        Family::VhostStatus,
    ];

    /// Those with a series for each object.
    pub(super) const OBJECTS: [Family; 9] = [
        Family::QueueCoarse,
        Family::QueueConsumers,
        Family::Queue,
        Family::Channel,
        Family::ChannelExchange,
        Family::ChannelQueue,
        Family::ConnectionCoarse,
        Family::Connection,
        Family::Exchange,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Family::QueueCoarse => "queue_coarse_metrics",
            Family::QueueConsumers => "queue_consumer_count",
            Family::Queue => "queue_metrics",
            Family::Channel => "channel_metrics",
            Family::ChannelExchange => "channel_exchange_metrics",
            Family::ChannelQueue => "channel_queue_metrics",
            Family::ConnectionCoarse => "connection_coarse_metrics",
            Family::Connection => "connection_metrics",
            Family::Churn => "connection_churn_metrics",
            Family::NodeCoarse => "node_coarse_metrics",
            Family::Node => "node_metrics",
            Family::NodePersister => "node_persister_metrics",
            Family::Logins => "auth_attempt_metrics",
            Family::Exchange => "exchange_metrics",
            Family::VhostStatus => "vhost_status",
        }
    }

    pub(super) fn named(name: &str) -> Option<Family> {
        Family::ALL.into_iter().find(|family| family.name() == name)
    }

    /// Writes the family's metrics.
    pub(super) fn write(self, api: &Api, out: &mut Exposition, prefix: &str, scope: &Scope) {
        match self {
            Family::QueueCoarse => objects::queues(api, scope).write(out, prefix, objects::QUEUE_COARSE),
            Family::QueueConsumers => {
                objects::queues(api, scope).write(out, prefix, objects::QUEUE_CONSUMERS);
            }
            Family::Queue => objects::queues(api, scope).write(out, prefix, objects::QUEUE_FINE),
            Family::Channel => objects::channels(api, scope).write(out, prefix, objects::CHANNEL),
            Family::ChannelExchange => {
                objects::channels(api, scope).write(out, prefix, objects::CHANNEL_PUBLISHES);
            }
            Family::ChannelQueue => {
                objects::channels(api, scope).write(out, prefix, objects::CHANNEL_DELIVERIES);
            }
            Family::ConnectionCoarse => {
                objects::connections(api, scope).write(out, prefix, objects::CONNECTION_COARSE);
            }
            Family::Connection => {
                objects::connections(api, scope).write(out, prefix, objects::CONNECTION_FINE);
            }
            Family::Exchange => objects::exchanges(api, scope).write(out, prefix, objects::EXCHANGE),
            Family::Churn => churn(api, out, prefix),
            Family::NodeCoarse => node_coarse(api, out, prefix),
            Family::Node => node_limits(api, out, prefix),
            Family::NodePersister => persister(api, out, prefix),
            Family::Logins => logins(api, out, prefix),
            Family::VhostStatus => {
                let sm = api.node.metadata.read();
                let mut samples = out.metric("rabbitmq_", "cluster_vhost_status", Kind::Gauge);
                sm.vhosts().for_each(|state| samples.sample(&[("vhost", &state.vhost.name)], 1.0));
            }
        }
    }
}

/// Everything about the node as a whole.
pub(super) fn node(api: &Api, out: &mut Exposition, prefix: &str) {
    identity(api, out);
    alarms(api, out, prefix);
    churn(api, out, prefix);
    node_coarse(api, out, prefix);
    node_limits(api, out, prefix);
    persister(api, out, prefix);
    logins(api, out, prefix);
    messages(api, out, prefix);
}

/// Who this is: other metrics are joined with it.
pub(super) fn identity(api: &Api, out: &mut Exposition) {
    let settings = &api.node.settings;
    let (product, version) = (settings.product.as_str(), settings.version.as_str());
    let own = env!("CARGO_PKG_VERSION");
    out.value(
        "rabbitmq_",
        "build_info",
        &[
            ("rabbitmq_version", version),
            ("prometheus_plugin_version", version),
            ("prometheus_client_version", own),
            ("erlang_version", ""),
            ("product_name", product),
            ("product_version", version),
        ],
        1.0,
    );
    let id = {
        let sm = api.node.metadata.read();
        let id = sm.global_parameter("internal_cluster_id");
        id.map(|json| json.trim_matches('"').to_owned()).unwrap_or_default()
    };
    out.value(
        "rabbitmq_",
        "identity_info",
        &[
            ("rabbitmq_node", &settings.node),
            ("rabbitmq_cluster", &api.node.cluster_name()),
            ("rabbitmq_cluster_permanent_id", &id),
        ],
        1.0,
    );
}

fn alarms(api: &Api, out: &mut Exposition, prefix: &str) {
    let (memory, disk) = api.node.alarms.on();
    for (name, on) in [
        ("alarms_file_descriptor_limit", false),
        ("alarms_free_disk_space_watermark", disk),
        ("alarms_memory_used_watermark", memory),
    ] {
        out.value(prefix, name, &[], f64::from(u8::from(on)));
    }
}

fn churn(api: &Api, out: &mut Exposition, prefix: &str) {
    let names = [
        "connections_opened_total",
        "connections_closed_total",
        "channels_opened_total",
        "channels_closed_total",
        "queues_declared_total",
        "queues_created_total",
        "queues_deleted_total",
    ];
    for (name, count) in names.into_iter().zip(system::churn(api)) {
        out.value(prefix, name, &[], count as f64);
    }
}

fn node_coarse(api: &Api, out: &mut Exposition, prefix: &str) {
    let numbers = system::numbers(api);
    let number = |name| system::number(&numbers, name) as f64;
    debug_assert_eq!(numbers.len(), NODE_NUMBERS.len());
    for (name, value) in [
        ("process_open_fds", number("fd_used")),
        ("process_open_tcp_sockets", number("sockets_used")),
        ("process_resident_memory_bytes", number("mem_used")),
        ("disk_space_available_bytes", number("disk_free")),
        ("erlang_processes_used", number("proc_used")),
        ("erlang_scheduler_run_queue", api.node.runtime.metrics().global_queue_depth() as f64),
        ("erlang_scheduler_context_switches_total", number("context_switches")),
    ] {
        out.value(prefix, name, &[], value);
    }
}

fn node_limits(api: &Api, out: &mut Exposition, prefix: &str) {
    let alarms = &api.node.alarms;
    for (name, value) in [
        ("process_max_fds", system::most_files() as f64),
        ("process_max_tcp_sockets", api.node.settings.max_connections as f64),
        ("resident_memory_limit_bytes", alarms.memory_limit() as f64),
        ("disk_space_available_limit_bytes", alarms.disk_limit() as f64),
        // Erlang's default: nothing here limits the tasks.
        ("erlang_processes_limit", 1_048_576.0),
        ("erlang_net_ticktime_seconds", 60.0),
        ("erlang_uptime_seconds", api.node.monotonic_ms() as f64 / 1000.0),
    ] {
        out.value(prefix, name, &[], value);
    }
}

fn persister(api: &Api, out: &mut Exposition, prefix: &str) {
    let log = api.node.wal.stats();
    for (name, value) in [
        ("io_write_ops_total", log.frames),
        ("io_write_bytes_total", log.bytes),
        ("io_sync_ops_total", log.syncs),
        ("raft_log_last_applied_index", api.node.metadata.read().applied()),
    ] {
        out.value(prefix, name, &[], value as f64);
    }
}

fn logins(api: &Api, out: &mut Exposition, prefix: &str) {
    let counters = &api.node.counters;
    let by_protocol = [("http", &counters.http_logins), ("amqp091", &counters.amqp_logins)]
        .map(|(protocol, it)| (protocol, it.succeeded.get(), it.failed.get()));
    let mut write = |name, count: fn(u64, u64) -> u64| {
        let mut samples = out.metric(prefix, name, Kind::Counter);
        for (protocol, succeeded, failed) in by_protocol {
            samples.sample(&[("protocol", protocol)], count(succeeded, failed) as f64);
        }
    };
    write("auth_attempts_total", |succeeded, failed| succeeded + failed);
    write("auth_attempts_succeeded_total", |succeeded, _| succeeded);
    write("auth_attempts_failed_total", |_, failed| failed);
}

/// What went through the node since it started.
fn messages(api: &Api, out: &mut Exposition, prefix: &str) {
    let counters = &api.node.counters;
    let connections = api.node.connections.list();
    let mut sum: MessageCounts = [0; MESSAGE_COUNTERS.len()];
    counters.by_vhost(&connections).values().for_each(|counts| add(&mut sum, counts));
    let count = |name: &str| MESSAGE_COUNTERS.iter().position(|it| *it == name).map_or(0, |at| sum[at]);
    let protocol = [("protocol", "amqp091")];
    for (name, value) in [
        ("global_messages_received_total", count("publish")),
        ("global_messages_received_confirm_total", counters.received_confirm.get()),
        ("global_messages_confirmed_total", count("confirm")),
        ("global_messages_routed_total", counters.routed.get()),
        ("global_messages_unroutable_dropped_total", count("drop_unroutable")),
        ("global_messages_unroutable_returned_total", count("return_unroutable")),
        ("global_messages_delivered_total", count("deliver_get")),
        ("global_messages_delivered_consume_auto_ack_total", count("deliver_no_ack")),
        ("global_messages_delivered_consume_manual_ack_total", count("deliver")),
        ("global_messages_delivered_get_auto_ack_total", count("get_no_ack")),
        ("global_messages_delivered_get_manual_ack_total", count("get")),
        ("global_messages_get_empty_total", count("get_empty")),
        ("global_messages_acknowledged_total", count("ack")),
        ("global_messages_redelivered_total", count("redeliver")),
    ] {
        out.value(prefix, name, &protocol, value as f64);
    }
    let channels = || connections.iter().flat_map(|info| info.channels());
    let publishers = channels().filter(|channel| channel.messages.publish.get() > 0).count();
    let consumers: u64 = channels().map(|channel| channel.consumers.get()).sum();
    out.value(prefix, "global_publishers", &protocol, publishers as f64);
    out.value(prefix, "global_consumers", &protocol, consumers as f64);
    let names = [
        "global_messages_dead_lettered_rejected_total",
        "global_messages_dead_lettered_expired_total",
        "global_messages_dead_lettered_maxlen_total",
        "global_messages_dead_lettered_delivery_limit_total",
    ];
    for (at, name) in names.into_iter().enumerate() {
        let mut samples = out.metric(prefix, name, Kind::Counter);
        for (kind, counts) in
            ["rabbit_classic_queue", "rabbit_quorum_queue"].into_iter().zip(&counters.dead_letters)
        {
            let labels = [("queue_type", kind), ("dead_letter_strategy", "at_most_once")];
            samples.sample(&labels, counts[at].get() as f64);
        }
    }
    let sizes = counters.sizes.buckets.each_ref().map(Counter::get);
    out.metric(prefix, "message_size_bytes", Kind::Histogram).histogram(
        &SIZE_BOUNDS.map(|bound| bound as f64),
        &sizes,
        counters.sizes.sum.get() as f64,
    );
    let latency = &counters.confirm_latency;
    out.metric(prefix, "confirm_latency_seconds", Kind::Histogram).histogram(
        &LATENCY_BOUNDS_US.map(|bound| bound as f64 / 1e6),
        &latency.buckets.each_ref().map(Counter::get),
        latency.sum.get() as f64 / 1e6,
    );
}

/// How many of each there are.
pub(super) fn totals(api: &Api, out: &mut Exposition) {
    let connections = api.node.connections.list();
    let channels: u64 = connections.iter().map(|info| info.counters.channels.get()).sum();
    let consumers: u64 = api.totals().values().map(|held| held.consumers).sum();
    let queues = {
        let sm = api.node.metadata.read();
        sm.vhosts().map(VhostState::queue_count).sum::<usize>()
    };
    for (name, count) in [
        ("connections", connections.len() as f64),
        ("channels", channels as f64),
        ("consumers", consumers as f64),
        ("queues", queues as f64),
    ] {
        out.value("rabbitmq_", name, &[], count);
    }
}

/// The sums over all objects.
pub(super) fn sums(api: &Api, out: &mut Exposition) {
    totals(api, out);
    let scope = Scope::default();
    let queues = objects::queues(api, &scope);
    for columns in [objects::QUEUE_COARSE, objects::QUEUE_CONSUMERS, objects::QUEUE_FINE] {
        queues.write_sums(out, "rabbitmq_", columns);
    }
    let channels = objects::channels(api, &scope);
    for columns in [objects::CHANNEL, objects::CHANNEL_PUBLISHES, objects::CHANNEL_DELIVERIES] {
        channels.write_sums(out, "rabbitmq_", columns);
    }
    let connections = objects::connections(api, &scope);
    for columns in [objects::CONNECTION_COARSE, objects::CONNECTION_FINE] {
        connections.write_sums(out, "rabbitmq_", columns);
    }
}
