//! Metrics of single queues, channels, connections and exchanges, and their sums.

use super::super::Api;
use super::exposition::{Exposition, Kind};
use crate::connection::info::ConnectionInfo;
use crate::counters::{ChannelInfo, MESSAGE_COUNTERS, MessageCounts};
use crate::shard::LocalQueue;
use amqp::content::Properties;
use std::sync::Arc;

/// Objects of a kind that have series of their own; the others have one together.
pub(super) const MOST_OBJECTS: usize = 20_000;
/// The name under which they are.
const OTHERS: &str = "(others)";

/// Which objects are meant.
#[derive(Clone, Debug, Default)]
pub(super) struct Scope {
    /// Only those of these vhosts.
    pub(super) vhosts: Option<Vec<String>>,
}

impl Scope {
    fn has(&self, vhost: &str) -> bool {
        self.vhosts.as_ref().is_none_or(|vhosts| vhosts.iter().any(|own| own == vhost))
    }
}

/// A metric of something: its name and its value.
pub(super) type Column<T> = (&'static str, fn(&T) -> f64);

/// Objects with their labels.
pub(super) struct Table<T> {
    labels: &'static [&'static str],
    rows: Vec<(Vec<String>, T)>,
}

impl<T> Table<T> {
    /// Writes a series for each object and column.
    pub(super) fn write(&self, out: &mut Exposition, prefix: &str, columns: &[Column<T>]) {
        let (shown, others) = self.rows.split_at(self.rows.len().min(MOST_OBJECTS));
        for (name, value) in columns {
            let mut samples = out.metric(prefix, name, Kind::of(name));
            for (names, row) in shown {
                let labels: Vec<(&str, &str)> =
                    self.labels.iter().copied().zip(names.iter().map(String::as_str)).collect();
                samples.sample(&labels, value(row));
            }
            if !others.is_empty() {
                let labels: Vec<(&str, &str)> = self.labels.iter().map(|label| (*label, OTHERS)).collect();
                samples.sample(&labels, others.iter().map(|(_, row)| value(row)).sum());
            }
        }
    }

    /// Writes a sum for each column.
    pub(super) fn write_sums(&self, out: &mut Exposition, prefix: &str, columns: &[Column<T>]) {
        for (name, value) in columns {
            out.value(prefix, name, &[], self.rows.iter().map(|(_, row)| value(row)).sum());
        }
    }
}

/// What is shown of a queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueRow {
    ready: u64,
    unacked: u64,
    ready_bytes: u64,
    unacked_bytes: u64,
    persistent: u64,
    persistent_bytes: u64,
    paged_out: u64,
    paged_out_bytes: u64,
    memory: u64,
    consumers: usize,
    capacity: f64,
    published: u64,
    head_timestamp: u64,
    paused: bool,
}

impl QueueRow {
    fn of(queue: &LocalQueue) -> QueueRow {
        let (persistent, paged_out) = (queue.persistent(), queue.stored_only());
        let head = queue.head().and_then(|head| Properties::parse(head.view().properties).ok()?.timestamp());
        QueueRow {
            ready: queue.ready_count(),
            unacked: queue.unacked_count(),
            ready_bytes: queue.ready_bytes(),
            unacked_bytes: queue.unacked_bytes(),
            persistent: persistent.messages,
            persistent_bytes: persistent.bytes,
            paged_out: paged_out.messages,
            paged_out_bytes: paged_out.bytes,
            memory: queue.resident_bytes(),
            consumers: queue.consumers().len(),
            capacity: queue.consumers().capacity(),
            published: queue.stats().published,
            head_timestamp: head.unwrap_or(0),
            paused: queue.is_paused(),
        }
    }
}

/// The lengths of queues.
pub(super) const QUEUE_COARSE: &[Column<QueueRow>] = &[
    ("queue_messages_ready", |queue| queue.ready as f64),
    ("queue_messages_unacked", |queue| queue.unacked as f64),
    ("queue_messages", |queue| (queue.ready + queue.unacked) as f64),
];

/// How many consumers queues have.
pub(super) const QUEUE_CONSUMERS: &[Column<QueueRow>] =
    &[("queue_consumers", |queue| queue.consumers as f64)];

/// Everything else about queues.
pub(super) const QUEUE_FINE: &[Column<QueueRow>] = &[
    ("queue_consumer_capacity", |queue| queue.capacity),
    ("queue_consumer_utilisation", |queue| queue.capacity),
    ("queue_process_memory_bytes", |queue| queue.memory as f64),
    ("queue_messages_ram", |queue| (queue.ready - queue.paged_out.min(queue.ready) + queue.unacked) as f64),
    ("queue_messages_ram_bytes", |queue| {
        (queue.ready_bytes - queue.paged_out_bytes.min(queue.ready_bytes) + queue.unacked_bytes) as f64
    }),
    ("queue_messages_ready_ram", |queue| (queue.ready - queue.paged_out.min(queue.ready)) as f64),
    ("queue_messages_unacked_ram", |queue| queue.unacked as f64),
    ("queue_messages_persistent", |queue| queue.persistent as f64),
    ("queue_messages_persistent_bytes", |queue| queue.persistent_bytes as f64),
    ("queue_messages_bytes", |queue| (queue.ready_bytes + queue.unacked_bytes) as f64),
    ("queue_messages_ready_bytes", |queue| queue.ready_bytes as f64),
    ("queue_messages_unacked_bytes", |queue| queue.unacked_bytes as f64),
    ("queue_messages_paged_out", |queue| queue.paged_out as f64),
    ("queue_messages_paged_out_bytes", |queue| queue.paged_out_bytes as f64),
    ("queue_head_message_timestamp", |queue| queue.head_timestamp as f64),
    ("queue_messages_published_total", |queue| queue.published as f64),
    ("queue_paused", |queue| f64::from(u8::from(queue.paused))),
];

/// The queues. Where messages wait for a delay is none.
pub(super) fn queues(api: &Api, scope: &Scope) -> Table<QueueRow> {
    let sm = api.node.metadata.read();
    let mut rows = Vec::new();
    for state in sm.vhosts().filter(|state| scope.has(&state.vhost.name)) {
        for queue in sm.queues_in(state.vhost.id) {
            let row = api.node.with_queue(queue.id, QueueRow::of).unwrap_or_default();
            rows.push((vec![state.vhost.name.to_string(), queue.name.to_string()], row));
        }
    }
    Table { labels: &["vhost", "queue"], rows }
}

/// What is shown of a channel.
pub(super) struct ChannelRow {
    channel: Arc<ChannelInfo>,
    counts: MessageCounts,
    unacked: usize,
}

impl ChannelRow {
    fn count(&self, name: &str) -> f64 {
        MESSAGE_COUNTERS.iter().position(|known| *known == name).map_or(0.0, |at| self.counts[at] as f64)
    }
}

/// Everything about channels.
pub(super) const CHANNEL: &[Column<ChannelRow>] = &[
    ("channel_consumers", |row| row.channel.consumers.get() as f64),
    ("channel_messages_unacked", |row| row.unacked as f64),
    ("channel_messages_unconfirmed", |row| row.channel.unconfirmed() as f64),
    ("channel_messages_uncommitted", |row| row.channel.uncommitted.get() as f64),
    ("channel_acks_uncommitted", |row| row.channel.acks_uncommitted.get() as f64),
    ("consumer_prefetch", |row| row.channel.prefetch.get() as f64),
    ("channel_prefetch", |row| row.channel.global_prefetch.get() as f64),
];

/// What channels publish.
pub(super) const CHANNEL_PUBLISHES: &[Column<ChannelRow>] = &[
    ("channel_messages_published_total", |row| row.count("publish")),
    ("channel_messages_confirmed_total", |row| row.count("confirm")),
    ("channel_messages_unroutable_returned_total", |row| row.count("return_unroutable")),
    ("channel_messages_unroutable_dropped_total", |row| row.count("drop_unroutable")),
];

/// What channels get.
pub(super) const CHANNEL_DELIVERIES: &[Column<ChannelRow>] = &[
    ("channel_get_ack_total", |row| row.count("get")),
    ("channel_get_total", |row| row.count("get_no_ack")),
    ("channel_messages_delivered_ack_total", |row| row.count("deliver")),
    ("channel_messages_delivered_total", |row| row.count("deliver_no_ack")),
    ("channel_messages_redelivered_total", |row| row.count("redeliver")),
    ("channel_messages_acked_total", |row| row.count("ack")),
    ("channel_get_empty_total", |row| row.count("get_empty")),
];

/// The channels.
pub(super) fn channels(api: &Api, scope: &Scope) -> Table<ChannelRow> {
    let mut rows = Vec::new();
    for info in api.node.connections.list().into_iter().filter(|info| scope.has(&info.vhost())) {
        for channel in info.channels() {
            let (counts, unacked) = (channel.messages.values(), info.outbox.unacked(channel.number));
            let name = format!("{} ({})", info.name, channel.number);
            rows.push((vec![name], ChannelRow { channel, counts, unacked }));
        }
    }
    Table { labels: &["channel"], rows }
}

/// Octets of connections.
pub(super) const CONNECTION_COARSE: &[Column<Arc<ConnectionInfo>>] = &[
    ("connection_incoming_bytes_total", |info| info.counters.received_octets.get() as f64),
    ("connection_outgoing_bytes_total", |info| info.outbox.sent() as f64),
];

/// Everything else about connections.
pub(super) const CONNECTION_FINE: &[Column<Arc<ConnectionInfo>>] = &[
    ("connection_incoming_packets_total", |info| info.counters.reads.get() as f64),
    ("connection_outgoing_packets_total", |info| info.outbox.writes() as f64),
    ("connection_pending_packets", |info| info.outbox.pending() as f64),
    ("connection_channels", |info| info.counters.channels.get() as f64),
];

/// The connections.
pub(super) fn connections(api: &Api, scope: &Scope) -> Table<Arc<ConnectionInfo>> {
    let all = api.node.connections.list().into_iter().filter(|info| scope.has(&info.vhost()));
    Table { labels: &["connection"], rows: all.map(|info| (vec![info.name.to_string()], info)).collect() }
}

/// Messages that went through exchanges.
pub(super) const EXCHANGE: &[Column<[u64; 2]>] = &[
    ("exchange_messages_published_in_total", |counts| counts[0] as f64),
    ("exchange_messages_published_out_total", |counts| counts[1] as f64),
];

/// The exchanges that have been published to.
pub(super) fn exchanges(api: &Api, scope: &Scope) -> Table<[u64; 2]> {
    let counted = api.node.counters.exchanges();
    let sm = api.node.metadata.read();
    let row = |(id, counters): (_, Arc<crate::counters::ExchangeCounters>)| {
        let exchange = sm.exchange(id)?;
        let vhost = sm.vhost_name(exchange.vhost);
        let counts = [counters.publish_in.get(), counters.publish_out.get()];
        scope.has(vhost).then(|| (vec![vhost.to_owned(), exchange.name.to_string()], counts))
    };
    Table { labels: &["vhost", "exchange"], rows: counted.into_iter().filter_map(row).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_objects_share_one_series() {
        let rows = (0..MOST_OBJECTS + 3).map(|at| (vec![format!("q{at}")], 2_u64)).collect();
        let table = Table { labels: &["queue"], rows };
        let mut out = Exposition::default();
        table.write(&mut out, "", &[("queue_messages", |row| *row as f64)]);
        let text = out.finish();
        assert_eq!(text.lines().count(), MOST_OBJECTS + 3, "type, help, and one for the others");
        assert!(text.ends_with("queue_messages{queue=\"(others)\"} 6\n"));
        let mut out = Exposition::default();
        table.write_sums(&mut out, "", &[("queue_messages", |row| *row as f64)]);
        assert!(out.finish().ends_with("queue_messages 40006\n"));
    }
}
