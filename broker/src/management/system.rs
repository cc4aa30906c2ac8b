//! What the process uses of the machine: memory, files, sockets, disk.

use super::Api;
use super::rates::{CHURN_NUMBERS, NODE_NUMBERS};
use crate::connection::info::Counter;
use nix::sys::resource::{UsageWho, getrusage};

/// The node's numbers in the order of [`NODE_NUMBERS`].
pub(super) fn numbers(api: &Api) -> [u64; NODE_NUMBERS.len()] {
    let node = &api.node;
    let churn = churn(api);
    let wal = node.wal.stats();
    std::array::from_fn(|at| match NODE_NUMBERS[at] {
        _ if at < CHURN_NUMBERS => churn[at],
        "mem_used" => node.alarms.resident(),
        "fd_used" => open_files(),
        "sockets_used" => node.connections.sockets() as u64,
        "proc_used" => node.runtime.metrics().num_alive_tasks() as u64,
        "disk_free" => node.alarms.disk_free(),
        "context_switches" => context_switches(),
        "io_write_count" => wal.frames,
        "io_write_bytes" => wal.bytes,
        "io_sync_count" => wal.syncs,
        _ => 0,
    })
}

/// What came and went: the first of [`numbers`].
pub(super) fn churn(api: &Api) -> [u64; CHURN_NUMBERS] {
    let churn = &api.node.counters.churn;
    [
        &churn.connections_opened,
        &churn.connections_closed,
        &churn.channels_opened,
        &churn.channels_closed,
        &churn.queues_declared,
        &churn.queues_created,
        &churn.queues_deleted,
    ]
    .map(Counter::get)
}

/// One of [`numbers`].
pub(super) fn number(numbers: &[u64; NODE_NUMBERS.len()], name: &str) -> u64 {
    NODE_NUMBERS.iter().position(|known| *known == name).map_or(0, |at| numbers[at])
}

/// Files and sockets that the process has open.
pub(super) fn open_files() -> u64 {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// How many it may have open.
pub(super) fn most_files() -> u64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft)
}

fn context_switches() -> u64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        let switches = usage.voluntary_context_switches() + usage.involuntary_context_switches();
        u64::try_from(switches).unwrap_or(0)
    })
}
