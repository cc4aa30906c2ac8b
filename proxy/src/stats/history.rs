//! The last minutes of every server, for the small pictures on the page; bounded in time and number.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use daemon::shutdown::ShutdownToken;
use parking_lot::Mutex;

use super::gauge::Rates;
use crate::process::Process;

/// Points kept for each server.
pub const POINTS: usize = 60;
/// Time between two points.
pub const STEP: Duration = Duration::from_secs(5);
/// Servers that have a history; more have none.
const MAX_SERVERS: usize = 4096;

/// What the page remembers: beside the counters, and lost with the process.
#[derive(Debug, Default)]
pub struct Looking {
    /// Rates of the process.
    pub rates: Rates,
    /// The last minutes.
    pub history: History,
    /// For the forms of the page.
    pub secret: super::guard::Secret,
}

/// The last minutes of every server.
#[derive(Debug, Default)]
pub struct History {
    servers: Mutex<HashMap<Key, Series>>,
}

/// Number of the section and of the server.
type Key = (u32, u32);

/// One server.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// Sessions at each point, oldest first.
    pub sessions: VecDeque<u32>,
    /// Bytes in both directions between a point and the one before.
    pub bytes: VecDeque<u64>,
    last_bytes: Option<u64>,
}

impl Series {
    fn add(&mut self, sessions: u32, total_bytes: u64) {
        // Counters can be cleared by an operator.
        let moved = self.last_bytes.map_or(0, |last| total_bytes.saturating_sub(last));
        self.last_bytes = Some(total_bytes);
        self.sessions.push_back(sessions);
        self.bytes.push_back(moved);
        if self.sessions.len() > POINTS {
            self.sessions.pop_front();
            self.bytes.pop_front();
        }
    }
}

impl History {
    /// Takes one point of every server; forgets servers that are gone.
    pub fn take(&self, process: &Process) {
        let mut servers = self.servers.lock();
        let mut present = HashMap::with_capacity(servers.len());
        for section in process.sections().iter() {
            let Some(backend) = &section.backend else { continue };
            for server in backend.servers().iter() {
                if present.len() >= MAX_SERVERS {
                    break;
                }
                let key = (section.config.id, server.config().id);
                let mut series = servers.remove(&key).unwrap_or_default();
                let counters = &server.counters;
                let bytes = counters.bytes_in.load(Relaxed) + counters.bytes_out.load(Relaxed);
                series.add(counters.current.load(Relaxed), bytes);
                present.insert(key, series);
            }
        }
        *servers = present;
    }

    /// A copy of one server's points.
    pub fn of(&self, section: u32, server: u32) -> Option<Series> {
        self.servers.lock().get(&(section, server)).cloned()
    }
}

/// Ticks until a stop.
pub async fn run(process: Arc<Process>, mut stop: ShutdownToken) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut next = Instant::now();
    loop {
        tokio::select! {
            _ = second.tick() => {}
            () = stop.forced() => return,
        }
        let now = Instant::now();
        process.looking.rates.tick(&process, now);
        if now >= next {
            process.looking.history.take(&process);
            next = now + STEP;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_keeps_the_newest_points_and_differences() {
        let mut series = Series::default();
        for at in 0..200u32 {
            series.add(at, u64::from(at) * 10);
        }
        assert_eq!((series.sessions.len(), series.bytes.len()), (POINTS, POINTS));
        assert_eq!((series.sessions.front(), series.sessions.back()), (Some(&140), Some(&199)));
        assert!(series.bytes.iter().all(|bytes| *bytes == 10));
        // Cleared counters are no huge or negative movement.
        series.add(1, 5);
        assert_eq!(series.bytes.back(), Some(&0));
    }
}
