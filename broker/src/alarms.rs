//! Resource alarms: why publishers are held up (RabbitMQ's memory and disk alarms).
//!
//! An alarm stops reading from connections that publish; consumers go on, so that the cause can go away.
//! Clients that asked for it are told with `connection.blocked`.

use crate::config::{Limits, MemoryLimit};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// What can be short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Resource {
    /// The process holds more memory than it should.
    Memory,
    /// The data directory's disk has little room left.
    Disk,
    /// The log could not be written for lack of room.
    Log,
    /// Messages of a long queue could not be written into a segment for lack of room.
    Segments,
}

/// Free octets with which a segment will find room again: more than one of many messages.
const SEGMENT_ROOM: u64 = 32 << 20;

/// Alarms that are on now.
#[derive(Debug)]
pub(crate) struct Alarms {
    on: Mutex<[bool; 4]>,
    blocked: watch::Sender<Option<Arc<str>>>,
    /// Resident memory when it was measured last, octets.
    resident: AtomicU64,
    /// Free octets of the disk when they were measured last.
    disk_free: AtomicU64,
    memory_limit: AtomicU64,
    disk_limit: AtomicU64,
    data: PathBuf,
}

impl Alarms {
    /// No alarm is on; `data` is the directory whose disk is watched.
    pub(crate) fn new(limits: &Limits, data: &Path) -> Alarms {
        Alarms {
            on: Mutex::new([false; 4]),
            blocked: watch::Sender::new(None),
            resident: AtomicU64::new(resident_memory().unwrap_or_default()),
            disk_free: AtomicU64::new(0),
            memory_limit: AtomicU64::new(octets_of(limits.memory)),
            disk_limit: AtomicU64::new(limits.disk_free),
            data: data.to_owned(),
        }
    }

    /// Resident memory above which publishers are held up, octets.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.memory_limit.load(Ordering::Relaxed)
    }

    /// Free disk space below which publishers are held up, octets.
    pub(crate) fn disk_limit(&self) -> u64 {
        self.disk_limit.load(Ordering::Relaxed)
    }

    /// Another limit for memory, until the node stops.
    pub(crate) fn set_memory_limit(&self, limit: MemoryLimit) {
        self.memory_limit.store(octets_of(limit), Ordering::Relaxed);
        self.check();
    }

    /// Another limit for the disk, until the node stops.
    pub(crate) fn set_disk_limit(&self, octets: u64) {
        self.disk_limit.store(octets, Ordering::Relaxed);
        self.check();
    }

    /// Follows why publishers are held up, if they are.
    pub(crate) fn blocked(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.blocked.subscribe()
    }

    /// Resident memory of the process when it was measured last, octets.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Ordering::Relaxed)
    }

    /// Free octets of the disk when they were measured last.
    pub(crate) fn disk_free(&self) -> u64 {
        self.disk_free.load(Ordering::Relaxed)
    }

    /// Whether the alarm of memory, and one of the disk, is on.
    pub(crate) fn on(&self) -> (bool, bool) {
        let [memory, disk, log, segments] = *self.on.lock();
        (memory, disk || log || segments)
    }

    /// Octets of messages in memory above which queues write them into segments: long before the alarm.
    pub(crate) fn paging_limit(&self) -> u64 {
        self.memory_limit() / 5 * 2
    }

    /// Whether the disk, or what is written to it, has little room.
    pub(crate) fn is_short_of_disk(&self) -> bool {
        let [_, disk, log, segments] = *self.on.lock();
        disk || log || segments
    }

    /// Turns an alarm on or off.
    pub(crate) fn set(&self, resource: Resource, on: bool) {
        let mut all = self.on.lock();
        if std::mem::replace(&mut all[resource as usize], on) == on {
            return;
        }
        if on {
            tracing::warn!(?resource, "resource alarm set: publishers are held up until it clears");
        } else {
            tracing::info!(?resource, "resource alarm cleared");
        }
        let [memory, disk, log, segments] = *all;
        // RabbitMQ's reasons.
        let reason = match (memory, disk || log || segments) {
            (false, false) => None,
            (true, false) => Some("low on memory"),
            (false, true) => Some("low on disk"),
            (true, true) => Some("low on memory & disk"),
        };
        self.blocked.send_replace(reason.map(Arc::from));
    }

    /// Measures memory and disk.
    pub(crate) fn check(&self) {
        if let Some(resident) = resident_memory() {
            self.resident.store(resident, Ordering::Relaxed);
            self.set(Resource::Memory, resident > self.memory_limit());
        }
        if let Ok(stat) = nix::sys::statvfs::statvfs(&self.data) {
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            self.disk_free.store(free, Ordering::Relaxed);
            self.set(Resource::Disk, free < self.disk_limit());
            if free >= SEGMENT_ROOM {
                // Whose segment it was may need none by now.
                self.set(Resource::Segments, false);
            }
        }
    }
}

fn octets_of(limit: MemoryLimit) -> u64 {
    match limit {
        MemoryLimit::Octets(octets) => octets,
        MemoryLimit::Share(share) => (machine_memory() as f64 * share) as u64,
    }
}

/// Resident memory of this process, octets.
fn resident_memory() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Memory of the machine, octets.
pub(crate) fn machine_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarms(memory: u64, disk_free: u64) -> Alarms {
        let limits = Limits { max_connections: 10, memory: MemoryLimit::Octets(memory), disk_free };
        Alarms::new(&limits, Path::new("/"))
    }

    #[test]
    fn reasons_add_up_and_go_again() {
        let alarms = alarms(u64::MAX, 0);
        let blocked = alarms.blocked();
        let reason = || blocked.borrow().as_deref().map(str::to_owned);
        assert_eq!(reason(), None);
        alarms.set(Resource::Memory, true);
        assert_eq!(reason().as_deref(), Some("low on memory"));
        assert!(!alarms.is_short_of_disk());
        alarms.set(Resource::Log, true);
        assert_eq!(reason().as_deref(), Some("low on memory & disk"));
        alarms.set(Resource::Memory, false);
        assert_eq!(reason().as_deref(), Some("low on disk"));
        assert!(alarms.is_short_of_disk());
        alarms.set(Resource::Segments, true);
        alarms.set(Resource::Log, false);
        assert!(alarms.is_short_of_disk());
        alarms.set(Resource::Segments, false);
        assert_eq!(reason(), None);
    }

    #[test]
    fn measured_values_are_held_against_the_limits() {
        let tight = alarms(1, u64::MAX);
        tight.check();
        assert_eq!(tight.blocked().borrow().as_deref(), Some("low on memory & disk"));
        tight.set_memory_limit(MemoryLimit::Octets(u64::MAX));
        assert_eq!(tight.blocked().borrow().as_deref(), Some("low on disk"));
        tight.set_disk_limit(0);
        assert_eq!(tight.blocked().borrow().as_deref(), None);
        let wide = alarms(u64::MAX, 0);
        wide.check();
        assert_eq!(wide.blocked().borrow().as_deref(), None);
    }
}
