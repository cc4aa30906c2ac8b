//! What has to be measured over time or added up: rates of the process, its idle share, its memory.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

use crate::process::Process;

/// Rates that a tick each second keeps up to date.
#[derive(Debug, Default)]
pub struct Rates {
    bytes_out: AtomicU64,
    idle_percent: AtomicU32,
    last: Mutex<Option<Last>>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    bytes_out: u64,
    cpu_seconds: f64,
}

impl Rates {
    /// Takes the state of this moment; the rates are those since the call before.
    pub fn tick(&self, process: &Process, now: Instant) {
        let bytes_out = total_bytes_out(process);
        let current = Last { at: now, bytes_out, cpu_seconds: cpu_seconds() };
        let Some(last) = self.last.lock().replace(current) else {
            self.idle_percent.store(100, Relaxed);
            return;
        };
        let elapsed = now.saturating_duration_since(last.at).as_secs_f64().max(0.001);
        let share = (current.cpu_seconds - last.cpu_seconds) / elapsed / process.threads.max(1) as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..100 before"
        )]
        let idle = ((1.0 - share) * 100.0).round().clamp(0.0, 100.0) as u32;
        self.idle_percent.store(idle, Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a rate for people"
        )]
        let rate = (bytes_out.saturating_sub(last.bytes_out) as f64 / elapsed) as u64;
        self.bytes_out.store(rate, Relaxed);
    }
}

/// The state of the process at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gauge {
    pub(super) requests: u64,
    pub(super) tasks: u32,
    pub(super) idle_percent: u32,
    pub(super) stopping: bool,
    pub(super) listeners: u32,
    pub(super) bytes_out: u64,
    pub(super) bytes_out_rate: u64,
    pub(super) pending: u32,
}

impl Gauge {
    pub(super) fn read(process: &Process) -> Self {
        let mut gauge = Self {
            requests: 0,
            tasks: process.counters.current.load(Relaxed),
            idle_percent: process.looking.rates.idle_percent.load(Relaxed),
            stopping: false,
            listeners: 0,
            bytes_out: total_bytes_out(process),
            bytes_out_rate: process.looking.rates.bytes_out.load(Relaxed),
            pending: 0,
        };
        let (mut frontends, mut stopped) = (0, 0);
        for section in process.sections().iter() {
            if let Some(frontend) = &section.frontend {
                let counters = &frontend.counters;
                gauge.requests += counters.requests.load(Relaxed).max(counters.total.load(Relaxed));
                frontends += 1;
                if frontend.stopped.load(Relaxed) {
                    stopped += 1;
                } else {
                    gauge.listeners += u32::try_from(frontend.config.binds.len()).unwrap_or(u32::MAX);
                }
            }
            if let Some(backend) = &section.backend {
                gauge.tasks += u32::try_from(backend.servers().len()).unwrap_or(u32::MAX);
                gauge.pending += u32::try_from(backend.pending_count()).unwrap_or(u32::MAX);
            }
        }
        gauge.tasks += gauge.listeners;
        gauge.stopping = frontends > 0 && frontends == stopped;
        gauge
    }
}

fn total_bytes_out(process: &Process) -> u64 {
    let sections = process.sections();
    let frontends = sections.iter().filter_map(|section| section.frontend.as_ref());
    frontends.map(|frontend| frontend.counters.bytes_out.load(Relaxed)).sum()
}

/// Resident memory of the process in bytes; 0 when the system does not say.
pub(super) fn resident_memory() -> u64 {
    // proc(5): the second number of statm is resident pages.
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    pages * u64::try_from(size).unwrap_or(4096)
}

/// Processor time this process has used, in seconds.
fn cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return 0.0 };
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| {
            #[expect(clippy::cast_precision_loss, reason = "seconds and microseconds are small")]
            let seconds = time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
            seconds
        })
        .sum()
}
