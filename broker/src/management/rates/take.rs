//! Taking samples, every five seconds.

use super::super::Api;
use super::series::{FINE_TICKS, Series, TICK_MS};
use super::{CONNECTION_NUMBERS, Snapshot, VHOST_LENGTHS, VHOST_NUMBERS};
use crate::connection::info::ConnectionInfo;
use crate::counters::MESSAGE_COUNTERS;
use crate::management::system;
use broker_core::ids::QueueId;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Points that are kept in all; the more there is to sample, the shorter is what is remembered of each.
const POINTS: usize = 250_000;

/// Takes a sample of everything at intervals, until the API is gone.
pub(in super::super) async fn sample(api: Weak<Api>) {
    loop {
        {
            let Some(api) = api.upgrade() else { return };
            if tokio::task::spawn_blocking(move || take(&api)).await.is_err() {
                tracing::error!("a sample could not be taken");
            }
        }
        let Some(now) = api.upgrade().map(|api| api.node.now_ms()) else { return };
        // At the beginning of the next tick, so that the samples of all nodes and restarts have the same times.
        tokio::time::sleep(Duration::from_millis(TICK_MS - now % TICK_MS)).await;
    }
}

/// Takes a sample of everything, unless there is one of this moment.
pub(super) fn take(api: &Api) {
    let connections = api.node.connections.list();
    let (busy, lengths) = queues(api);
    let vhosts = vhosts(api, &connections, lengths);
    let exchanges = api.node.counters.exchanges();
    let node = system::numbers(api);
    let known: HashSet<Arc<str>> =
        api.node.metadata.read().vhosts().map(|state| Arc::clone(&state.vhost.name)).collect();
    let mut samples = api.rates.0.lock();
    if !samples.clock.advance(api.node.now_ms(), api.node.monotonic_ms()) {
        return;
    }
    let tick = samples.clock.now;
    let things = busy.len() + connections.len() * 2 + exchanges.len() + 1;
    let keep = u32::try_from(POINTS / things).unwrap_or(FINE_TICKS).clamp(2, FINE_TICKS);
    update(&mut samples.queues, tick, keep, busy.into_iter().map(|(id, it)| (id, it.numbers())));
    let channels = connections.iter().flat_map(|info| {
        info.channels().into_iter().map(|channel| ((info.id, channel.number), channel.messages.values()))
    });
    update(&mut samples.channels, tick, keep, channels);
    let octets = connections.iter().map(|info| (info.id, octets(info)));
    update(&mut samples.connections, tick, keep, octets);
    let exchanges = exchanges.into_iter().map(|(id, it)| (id, [it.publish_in.get(), it.publish_out.get()]));
    update(&mut samples.exchanges, tick, keep, exchanges);
    for (name, numbers) in vhosts {
        samples.vhosts.entry(name).or_insert_with(|| Series::new(true)).push(tick, numbers, FINE_TICKS);
    }
    samples.vhosts.retain(|name, _| name.is_empty() || known.contains(name));
    samples.node.push(tick, node, FINE_TICKS);
}

/// Octets that a connection read and wrote.
fn octets(info: &ConnectionInfo) -> [u64; CONNECTION_NUMBERS] {
    [info.counters.received_octets.get(), info.outbox.sent()]
}

/// Ready and unacknowledged messages by vhost.
type Lengths = HashMap<Arc<str>, [u64; 2]>;

/// The queues that have something to tell, and the lengths of each vhost's queues together.
fn queues(api: &Api) -> (Vec<(QueueId, Snapshot)>, Lengths) {
    let mut busy = Vec::new();
    let mut lengths = Lengths::new();
    for shard in 0..api.node.shard_count() {
        for queue in api.node.lock_shard(shard).queues() {
            let snapshot = Snapshot::of(queue);
            if snapshot == Snapshot::default() {
                continue;
            }
            busy.push((queue.id(), snapshot));
            // The names of vhosts are shared: this allocates once for each vhost.
            let sum = lengths.entry(Arc::clone(queue.vhost())).or_default();
            sum[0] += snapshot.ready;
            sum[1] += snapshot.unacked;
        }
    }
    (busy, lengths)
}

fn vhosts(
    api: &Api,
    connections: &[Arc<ConnectionInfo>],
    lengths: Lengths,
) -> HashMap<Arc<str>, [u64; VHOST_NUMBERS]> {
    let mut all: HashMap<Arc<str>, [u64; VHOST_NUMBERS]> = HashMap::new();
    for (vhost, counts) in api.node.counters.by_vhost(connections) {
        all.entry(vhost).or_insert([0; VHOST_NUMBERS])[..MESSAGE_COUNTERS.len()].copy_from_slice(&counts);
    }
    for (vhost, lengths) in lengths {
        all.entry(vhost).or_insert([0; VHOST_NUMBERS])[VHOST_LENGTHS..VHOST_LENGTHS + 2]
            .copy_from_slice(&lengths);
    }
    for info in connections {
        let numbers = all.entry(info.vhost()).or_insert([0; VHOST_NUMBERS]);
        for (sum, octets) in numbers[VHOST_LENGTHS + 2..].iter_mut().zip(octets(info)) {
            *sum += octets;
        }
    }
    all
}

/// Adds a sample of each thing and forgets those that are gone.
fn update<K: Eq + Hash + Copy, const N: usize>(
    all: &mut HashMap<K, Series<N>>,
    tick: u32,
    keep: u32,
    now: impl Iterator<Item = (K, [u64; N])>,
) {
    let mut seen = HashSet::with_capacity(all.len());
    for (key, numbers) in now {
        seen.insert(key);
        all.entry(key).or_insert_with(|| Series::new(false)).push(tick, numbers, keep);
    }
    all.retain(|key, series| seen.contains(key) && !series.is_idle());
}
