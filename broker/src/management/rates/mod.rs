//! Rates and samples: what counters were at the last samples, of everything that has any.

mod details;
mod series;
mod take;

pub(super) use details::{Details, Past, Windows};
pub(super) use take::sample;

use crate::counters::MESSAGE_COUNTERS;
use broker_core::ids::{ConnectionId, QueueId};
use broker_core::meta::entities::ExchangeId;
use broker_core::queue::Stats;
use details::Window;
use parking_lot::Mutex;
use series::{Clock, Series};
use std::collections::HashMap;
use std::sync::Arc;

/// Counters of a queue, by RabbitMQ's names.
pub(super) const QUEUE_COUNTERS: [&str; 9] = [
    "publish",
    "deliver",
    "deliver_no_ack",
    "get",
    "get_no_ack",
    "get_empty",
    "redeliver",
    "ack",
    "deliver_get",
];

/// Values of [`QUEUE_COUNTERS`].
pub(super) type QueueCounts = [u64; QUEUE_COUNTERS.len()];

/// What of a queue is sampled: its counters, then ready and unacknowledged messages.
pub(super) const QUEUE_NUMBERS: usize = QUEUE_COUNTERS.len() + 2;
/// What of a vhost is sampled: its channels' counters, then ready and unacknowledged messages, then octets read and
/// written, then messages written to disk and read from it.
pub(super) const VHOST_NUMBERS: usize = MESSAGE_COUNTERS.len() + 4;
/// Where the lengths are in a vhost's numbers; the octets follow.
pub(super) const VHOST_LENGTHS: usize = MESSAGE_COUNTERS.len();
/// What of a connection is sampled: octets read and written.
pub(super) const CONNECTION_NUMBERS: usize = 2;

/// What of the node is sampled, by RabbitMQ's names. What does not exist here is always 0.
pub(super) const NODE_NUMBERS: [&str; 32] = [
    "connection_created",
    "connection_closed",
    "channel_created",
    "channel_closed",
    "queue_declared",
    "queue_created",
    "queue_deleted",
    "mem_used",
    "fd_used",
    "sockets_used",
    "proc_used",
    "disk_free",
    "gc_num",
    "gc_bytes_reclaimed",
    "context_switches",
    "io_read_count",
    "io_read_bytes",
    "io_read_avg_time",
    "io_write_count",
    "io_write_bytes",
    "io_write_avg_time",
    "io_sync_count",
    "io_sync_avg_time",
    "io_seek_count",
    "io_seek_avg_time",
    "io_reopen_count",
    "mnesia_ram_tx_count",
    "mnesia_disk_tx_count",
    "msg_store_read_count",
    "msg_store_write_count",
    "queue_index_read_count",
    "queue_index_write_count",
];

/// How many of them count what comes and goes; the overview shows these.
pub(super) const CHURN_NUMBERS: usize = 7;

/// The counters of a queue in the order of [`QUEUE_COUNTERS`].
fn counts(stats: &Stats) -> QueueCounts {
    [
        stats.published,
        stats.delivered,
        stats.delivered_no_ack,
        stats.got,
        stats.got_no_ack,
        stats.get_empty,
        stats.redelivered,
        stats.acked,
        stats.delivered + stats.delivered_no_ack + stats.got + stats.got_no_ack,
    ]
}

/// What a queue is like at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) counts: QueueCounts,
    pub(super) ready: u64,
    pub(super) unacked: u64,
}

impl Snapshot {
    /// What a queue is like now.
    pub(super) fn of(queue: &crate::shard::LocalQueue) -> Snapshot {
        Snapshot {
            counts: counts(&queue.stats()),
            ready: queue.ready_count(),
            unacked: queue.unacked_count(),
        }
    }

    fn numbers(&self) -> [u64; QUEUE_NUMBERS] {
        let mut numbers = [0; QUEUE_NUMBERS];
        numbers[..QUEUE_COUNTERS.len()].copy_from_slice(&self.counts);
        numbers[QUEUE_COUNTERS.len()] = self.ready;
        numbers[QUEUE_COUNTERS.len() + 1] = self.unacked;
        numbers
    }
}

/// The last samples of everything that ever had something to do: thousands of idle queues cost nothing.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Samples>);

#[derive(Debug)]
struct Samples {
    clock: Clock,
    queues: HashMap<QueueId, Series<QUEUE_NUMBERS>>,
    channels: HashMap<(ConnectionId, u16), Series<{ MESSAGE_COUNTERS.len() }>>,
    connections: HashMap<ConnectionId, Series<CONNECTION_NUMBERS>>,
    exchanges: HashMap<ExchangeId, Series<2>>,
    vhosts: HashMap<Arc<str>, Series<VHOST_NUMBERS>>,
    node: Series<{ NODE_NUMBERS.len() }>,
}

impl Default for Samples {
    fn default() -> Self {
        Samples {
            clock: Clock::default(),
            queues: HashMap::new(),
            channels: HashMap::new(),
            connections: HashMap::new(),
            exchanges: HashMap::new(),
            vhosts: HashMap::new(),
            node: Series::new(true),
        }
    }
}

impl Rates {
    /// A look at the samples; others wait meanwhile.
    pub(super) fn look<R>(&self, look: impl FnOnce(&Looking<'_>) -> R) -> R {
        look(&Looking(&self.0.lock()))
    }
}

/// Forgets all samples, and takes the first new ones.
pub(super) fn reset(api: &super::Api) {
    *api.rates.0.lock() = Samples::default();
    take::take(api);
}

/// The samples while they are looked at.
pub(super) struct Looking<'a>(&'a Samples);

impl Looking<'_> {
    fn past<'s, const N: usize>(
        &self,
        series: impl Iterator<Item = &'s Series<N>>,
        window: Option<Window>,
    ) -> Past<N> {
        Past::new(series, self.0.clock, window)
    }

    /// Of a queue.
    pub(super) fn queue(&self, id: QueueId, window: Option<Window>) -> Past<QUEUE_NUMBERS> {
        self.past(self.0.queues.get(&id).into_iter(), window)
    }

    /// Of a channel.
    pub(super) fn channel(
        &self,
        connection: ConnectionId,
        number: u16,
        window: Option<Window>,
    ) -> Past<{ MESSAGE_COUNTERS.len() }> {
        self.past(self.0.channels.get(&(connection, number)).into_iter(), window)
    }

    /// Since when a channel has done nothing, milliseconds since the epoch; `None` while it does something.
    pub(super) fn channel_idle_since(&self, connection: ConnectionId, number: u16) -> Option<u64> {
        let changed = self.0.channels.get(&(connection, number))?.changed_at();
        (changed < self.0.clock.now).then(|| self.0.clock.time_of(changed))
    }

    /// Of a connection.
    pub(super) fn connection(&self, id: ConnectionId, window: Option<Window>) -> Past<CONNECTION_NUMBERS> {
        self.past(self.0.connections.get(&id).into_iter(), window)
    }

    /// Of an exchange.
    pub(super) fn exchange(&self, id: ExchangeId, window: Option<Window>) -> Past<2> {
        self.past(self.0.exchanges.get(&id).into_iter(), window)
    }

    /// Of some vhosts together.
    pub(super) fn vhosts<'s>(
        &self,
        names: impl Iterator<Item = &'s str>,
        window: Option<Window>,
    ) -> Past<VHOST_NUMBERS> {
        self.past(names.filter_map(|name| self.0.vhosts.get(name)), window)
    }

    /// Of the node.
    pub(super) fn node(&self, window: Option<Window>) -> Past<{ NODE_NUMBERS.len() }> {
        self.past(std::iter::once(&self.0.node), window)
    }
}
