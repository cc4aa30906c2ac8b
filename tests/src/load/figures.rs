//! What is measured: latencies, and the processor time of a server from /proc.

use std::fmt;
use std::time::Duration;
use xtask::lab::process::descendants;

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

/// One result: names and numbers, printed as `name=value` words on a line.
#[derive(Debug, Default)]
pub struct Line(Vec<(&'static str, f64)>);

impl Line {
    /// Adds a number.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.0.push((name, value));
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
        let start = std::time::Instant::now();
        let mut sum = 0_u64;
        while start.elapsed() < Duration::from_secs(10) && cpu_seconds(&me) < before + 0.05 {
            sum = (0..100_000).fold(sum, |sum, it| sum.wrapping_mul(31).wrapping_add(it));
        }
        assert!(cpu_seconds(&me) > before, "{sum}");
    }
}
