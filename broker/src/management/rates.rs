//! Rates of queues: counters compared with what they were at the last sample.

use super::Api;
use broker_core::ids::QueueId;
use broker_core::queue::Stats;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Weak;
use std::time::{Duration, Instant};

/// Time between samples, RabbitMQ's `collect_statistics_interval`.
const INTERVAL: Duration = Duration::from_secs(5);

/// Counters of a queue, by RabbitMQ's names.
pub(super) const COUNTERS: [&str; 9] = [
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

/// Values of [`COUNTERS`].
pub(super) type Counts = [u64; COUNTERS.len()];

/// The counters of a queue in the order of [`COUNTERS`].
pub(super) fn counts(stats: &Stats) -> Counts {
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
    pub(super) counts: Counts,
    pub(super) ready: u64,
    pub(super) unacked: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    snapshot: Snapshot,
    /// Per second: counters, then ready and unacked.
    rates: [f64; COUNTERS.len()],
    ready_rate: f64,
    unacked_rate: f64,
}

/// The last sample of each queue that ever had something to do: thousands of idle ones cost nothing.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    taken: Option<Instant>,
    queues: HashMap<QueueId, Sample>,
}

impl Rates {
    /// Takes a sample of the queues that had something to do, `busy`.
    fn take(&self, now: Instant, busy: impl Iterator<Item = (QueueId, Snapshot)>) {
        let mut samples = self.0.lock();
        let before = samples.taken.replace(now);
        let mut next = HashMap::with_capacity(samples.queues.len());
        for (id, snapshot) in busy {
            let mut sample = Sample { snapshot, ..Sample::default() };
            if let Some(before) = before {
                let old = samples.queues.get(&id).map(|sample| sample.snapshot).unwrap_or_default();
                let seconds = now.duration_since(before).as_secs_f64().max(0.001);
                let change = |new: u64, old: u64| (new as f64 - old as f64) / seconds;
                for (rate, (new, old)) in sample.rates.iter_mut().zip(snapshot.counts.iter().zip(old.counts))
                {
                    *rate = change(*new, old);
                }
                sample.ready_rate = change(snapshot.ready, old.ready);
                sample.unacked_rate = change(snapshot.unacked, old.unacked);
            }
            next.insert(id, sample);
        }
        samples.queues = next;
    }

    /// `message_stats` and the details of `messages*` for some queues together.
    pub(super) fn json(&self, queues: &[(QueueId, Snapshot)]) -> (Map<String, Value>, Map<String, Value>) {
        let samples = self.0.lock();
        let mut totals = [0_u64; COUNTERS.len()];
        let mut rates = [0.0_f64; COUNTERS.len()];
        let (mut ready, mut unacked, mut ready_rate, mut unacked_rate) = (0, 0, 0.0, 0.0);
        for (id, snapshot) in queues {
            totals.iter_mut().zip(snapshot.counts).for_each(|(total, count)| *total += count);
            ready += snapshot.ready;
            unacked += snapshot.unacked;
            if let Some(sample) = samples.queues.get(id) {
                rates.iter_mut().zip(sample.rates).for_each(|(total, rate)| *total += rate);
                ready_rate += sample.ready_rate;
                unacked_rate += sample.unacked_rate;
            }
        }
        let mut stats = Map::new();
        for ((name, total), rate) in COUNTERS.iter().zip(totals).zip(rates) {
            stats.insert((*name).to_owned(), json!(total));
            stats.insert(format!("{name}_details"), json!({"rate": round(rate)}));
        }
        let mut lengths = Map::new();
        for (name, length, rate) in [
            ("messages", ready + unacked, ready_rate + unacked_rate),
            ("messages_ready", ready, ready_rate),
            ("messages_unacknowledged", unacked, unacked_rate),
        ] {
            lengths.insert(name.to_owned(), json!(length));
            lengths.insert(format!("{name}_details"), json!({"rate": round(rate)}));
        }
        (stats, lengths)
    }
}

/// Rates have one digit behind the point, as people read them.
fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// Takes a sample of every queue at intervals, until the API is gone.
pub(super) async fn sample(api: Weak<Api>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(api) = api.upgrade() else { return };
        let mut busy = Vec::new();
        for shard in 0..api.node.shard_count() {
            let shard = api.node.lock_shard(shard);
            let all = shard.queues().map(|queue| (queue.id(), snapshot(queue)));
            busy.extend(all.filter(|(_, snapshot)| *snapshot != Snapshot::default()));
        }
        api.rates.take(Instant::now(), busy.into_iter());
    }
}

/// What a queue is like now.
pub(super) fn snapshot(queue: &crate::shard::LocalQueue) -> Snapshot {
    Snapshot { counts: counts(&queue.stats()), ready: queue.ready_count(), unacked: queue.unacked_count() }
}
