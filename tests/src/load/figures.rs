//! What is measured: latencies, and the processor time and memory of a server from /proc.

use std::fmt;
use std::time::{Duration, Instant};
use xtask::lab::process::descendants;

/// The time base of the stamps of a run.
#[derive(Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since the start.
    pub(super) fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time since then.
    pub(super) fn since(self, nanos: u64) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(nanos))
    }
}

/// Latencies in microseconds.
#[derive(Debug, Default)]
pub struct Latencies {
    micros: Vec<u32>,
}

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency: Duration) {
        self.micros.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds one in nanoseconds.
    pub fn add_nanos(&mut self, latency: u64) {
        self.add(Duration::from_nanos(latency));
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// Adds those of another thread.
    pub fn merge(&mut self, other: Self) {
        self.micros.extend(other.micros);
    }

    /// The latency that a share of all (0.5: half of them) does not exceed; 0 when there are none.
    #[must_use]
    pub fn at(&mut self, share: f64) -> u32 {
        self.micros.sort_unstable();
        let last = self.micros.len().saturating_sub(1) as f64;
        self.micros.get((last * share) as usize).copied().unwrap_or(0)
    }
}

/// The processor time that these processes and their descendants used so far, in seconds.
#[must_use]
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    // Linux counts in hundredths of a second on every platform it reports to user space.
    const TICKS_PER_SECOND: f64 = 100.0;
    let ticks = |pid: &u32| -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
        // utime, stime, and those of children that ended: fields 14 to 17.
        (11..15).filter_map(|index| fields.get(index)?.parse::<u64>().ok()).sum()
    };
    descendants(pids).iter().map(ticks).sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// The resident memory of these processes and their descendants, in KiB.
#[must_use]
pub fn resident_kib(pids: &[u32]) -> f64 {
    let one = |pid: &u32| -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    descendants(pids).iter().filter_map(one).sum::<u64>() as f64
}

/// One result: names and numbers, printed as `name=value` words on a line.
#[derive(Debug, Default)]
pub struct Line(Vec<(&'static str, f64)>);

impl Line {
    /// Adds a number.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
    }

    /// Adds median and 99th percentile, in milliseconds.
    pub fn add_latencies(&mut self, median: &'static str, high: &'static str, latencies: &mut Latencies) {
        for (name, share) in [(median, 0.5), (high, 0.99)] {
            self.add(name, f64::from(latencies.at(share)) / 1e3);
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let blank = if index == 0 { "" } else { " " };
            write!(f, "{blank}{name}={value:.3}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_latencies() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.at(0.5), 0);
        for micros in (1..=100).rev() {
            latencies.add(Duration::from_micros(micros));
        }
        assert_eq!((latencies.at(0.5), latencies.at(0.99), latencies.at(1.0)), (50, 99, 100));
    }

    #[test]
    fn work_shows_up_as_processor_time() {
        let me = [std::process::id()];
        let before = cpu_seconds(&me);
        let start = Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_secs(10) && cpu_seconds(&me) < before + 0.05 {
            sum = (0..100_000).fold(sum, |sum, it| sum.wrapping_mul(31).wrapping_add(it));
        }
        assert!(cpu_seconds(&me) > before, "{sum}");
    }
}
