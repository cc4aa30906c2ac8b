//! What the statistics page counts; relaxed atomics, summed when asked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counters of a frontend, a backend or a server. Not every one is used by every kind.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now.
    pub current: AtomicU32,
    /// Most connections at one time.
    pub current_max: AtomicU32,
    /// Connections in all.
    pub total: AtomicU64,
    /// Times a server was chosen by balancing.
    pub chosen: AtomicU64,
    /// Bytes from clients.
    pub bytes_in: AtomicU64,
    /// Bytes to clients.
    pub bytes_out: AtomicU64,
    /// Requests refused by rules.
    pub denied: AtomicU64,
    /// Errors of clients before a connection was made.
    pub request_errors: AtomicU64,
    /// Connections that could not be made.
    pub connect_errors: AtomicU64,
    /// Errors of servers during transfers.
    pub response_errors: AtomicU64,
    /// Attempts that were repeated on the same server.
    pub retries: AtomicU64,
    /// Attempts that went to another server.
    pub redispatches: AtomicU64,
    /// Transfers broken off by the client.
    pub client_aborts: AtomicU64,
    /// Transfers broken off by the server.
    pub server_aborts: AtomicU64,
    /// Connection attempts that succeeded.
    pub connected: AtomicU64,
    /// Waiting now.
    pub pending: AtomicU32,
    /// Most waiting at one time.
    pub pending_max: AtomicU32,
    /// New connections per second.
    pub rate: Rate,
    /// Most new connections per second.
    pub rate_max: AtomicU32,
    /// HTTP requests (statistics page).
    pub requests: AtomicU64,
    /// HTTP answers by class: 1xx to 5xx, other.
    pub answers: [AtomicU64; 6],
    /// Times of the last 1024 connections.
    pub times: Times,
    /// Millisecond of the process's life of the last connection, plus 1; 0 is never.
    pub last: AtomicU64,
}

impl Counters {
    /// A connection begins.
    pub fn begin(&self, now: Moment) {
        let current = self.current.fetch_add(1, Relaxed) + 1;
        self.current_max.fetch_max(current, Relaxed);
        self.total.fetch_add(1, Relaxed);
        self.rate_max.fetch_max(self.rate.add(now), Relaxed);
        self.last.store(now.0 + 1, Relaxed);
    }

    /// A connection ends.
    pub fn end(&self) {
        self.current.fetch_sub(1, Relaxed);
    }

    /// A connection starts to wait.
    pub fn wait(&self) {
        let pending = self.pending.fetch_add(1, Relaxed) + 1;
        self.pending_max.fetch_max(pending, Relaxed);
    }

    /// It no longer waits.
    pub fn waited(&self) {
        self.pending.fetch_sub(1, Relaxed);
    }

    /// Sets maxima back to what is now, or with `all` everything that only counts up.
    pub fn clear(&self, all: bool) {
        self.current_max.store(self.current.load(Relaxed), Relaxed);
        self.pending_max.store(self.pending.load(Relaxed), Relaxed);
        self.rate_max.store(0, Relaxed);
        for average in [&self.times.queue, &self.times.connect, &self.times.total] {
            average.max.store(0, Relaxed);
        }
        if !all {
            return;
        }
        self.sums().for_each(|(_, counter)| counter.store(0, Relaxed));
    }

    /// Everything that only counts up, by name.
    fn sums(&self) -> impl Iterator<Item = (&'static str, &AtomicU64)> {
        let counters = [
            ("total", &self.total),
            ("chosen", &self.chosen),
            ("bytes_in", &self.bytes_in),
            ("bytes_out", &self.bytes_out),
            ("denied", &self.denied),
            ("request_errors", &self.request_errors),
            ("connect_errors", &self.connect_errors),
            ("response_errors", &self.response_errors),
            ("retries", &self.retries),
            ("redispatches", &self.redispatches),
            ("client_aborts", &self.client_aborts),
            ("server_aborts", &self.server_aborts),
            ("connected", &self.connected),
            ("requests", &self.requests),
        ];
        let names = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
        counters.into_iter().chain(names.into_iter().zip(&self.answers))
    }

    /// ` total=5 bytes_in=7`: what is not 0.
    #[must_use]
    pub fn sums_as_text(&self) -> String {
        let sums = self.sums().map(|(name, counter)| (name, counter.load(Relaxed)));
        sums.filter(|(_, value)| *value > 0).map(|(name, value)| format!(" {name}={value}")).collect()
    }

    /// Adds sums that were written so.
    pub fn add_sums<'a>(&self, values: impl Iterator<Item = (&'a str, &'a str)>) {
        for (name, value) in values {
            if let (Some((_, counter)), Ok(value)) =
                (self.sums().find(|(known, _)| *known == name), value.parse::<u64>())
            {
                counter.fetch_add(value, Relaxed);
            }
        }
    }

    /// Seconds since the last connection.
    pub fn last_seconds(&self, now: Moment) -> Option<u64> {
        let last = self.last.load(Relaxed);
        (last > 0).then(|| now.0.saturating_sub(last - 1) / 1000)
    }
}

/// Milliseconds since the process began to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// Now, counted from `start`.
    pub fn since(start: Instant) -> Self {
        Self::at(start, Instant::now())
    }

    /// A moment, counted from `start`.
    pub fn at(start: Instant, moment: Instant) -> Self {
        Self(u64::try_from(moment.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX))
    }
}

/// Events per second over a sliding second: what is left of the last full second plus this one.
#[derive(Debug, Default)]
pub struct Rate {
    /// Second in the upper 32 bits, events of it in the lower.
    now: AtomicU64,
    /// The same for the second before.
    before: AtomicU64,
}

impl Rate {
    /// Counts one event and gives the rate.
    pub fn add(&self, now: Moment) -> u32 {
        self.turn(now);
        self.now.fetch_add(1, Relaxed);
        self.read(now)
    }

    /// Events in the second that ends now, estimated.
    pub fn read(&self, now: Moment) -> u32 {
        self.turn(now);
        let part = now.0 % 1000;
        let (this, before) = (self.now.load(Relaxed), self.before.load(Relaxed));
        let second = this >> 32;
        let earlier = if before >> 32 == second.wrapping_sub(1) { before & 0xffff_ffff } else { 0 };
        u32::try_from((this & 0xffff_ffff) + earlier * (1000 - part) / 1000).unwrap_or(u32::MAX)
    }

    /// Begins a new second when it is time. Two threads may race here; one event may be lost.
    fn turn(&self, now: Moment) {
        let second = (now.0 / 1000) & 0xffff_ffff;
        let this = self.now.load(Relaxed);
        if this >> 32 != second && self.now.compare_exchange(this, second << 32, Relaxed, Relaxed).is_ok() {
            self.before.store(this, Relaxed);
        }
    }
}

/// Moving averages and maxima of times in milliseconds.
#[derive(Debug, Default)]
pub struct Times {
    /// Waiting for a free place.
    pub queue: Average,
    /// Connecting.
    pub connect: Average,
    /// The whole connection.
    pub total: Average,
}

/// A moving average over about 1024 values, and the maximum.
#[derive(Debug, Default)]
pub struct Average {
    sum: AtomicU64,
    max: AtomicU32,
}

const WINDOW: u64 = 1024;

impl Average {
    /// Adds a value in milliseconds.
    pub fn add(&self, milliseconds: u64) {
        let sum = self.sum.load(Relaxed);
        // A lost update under a race only costs one sample of an average.
        self.sum.store(sum - sum.div_ceil(WINDOW).min(sum) + milliseconds, Relaxed);
        self.max.fetch_max(u32::try_from(milliseconds).unwrap_or(u32::MAX), Relaxed);
    }

    /// The average in milliseconds over at most as many values as there were.
    pub fn mean(&self, values: u64) -> u32 {
        let window = values.clamp(1, WINDOW);
        u32::try_from(self.sum.load(Relaxed) / window).unwrap_or(u32::MAX)
    }

    /// The largest value.
    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_the_last_second() {
        let rate = Rate::default();
        for _ in 0..10 {
            rate.add(Moment(5_100));
        }
        assert_eq!(rate.read(Moment(5_900)), 10);
        // Half a second later half of the last second still counts.
        assert_eq!(rate.read(Moment(6_500)), 5);
        assert_eq!(rate.read(Moment(7_000)), 0);
        assert_eq!(rate.read(Moment(99_000)), 0);
    }

    #[test]
    fn averages_follow_their_values() {
        let average = Average::default();
        assert_eq!(average.mean(0), 0);
        average.add(10);
        average.add(20);
        assert_eq!((average.mean(2), average.max()), (14, 20));
        for _ in 0..100_000 {
            average.add(50);
        }
        assert!((45..=50).contains(&average.mean(100_002)), "{}", average.mean(100_002));
    }

    #[test]
    fn connections_are_counted_in_and_out() {
        let counters = Counters::default();
        counters.begin(Moment(1_000));
        counters.begin(Moment(1_000));
        counters.end();
        assert_eq!(counters.current.load(Relaxed), 1);
        assert_eq!(counters.current_max.load(Relaxed), 2);
        assert_eq!(counters.last_seconds(Moment(4_000)), Some(3));
        assert_eq!(Counters::default().last_seconds(Moment(4_000)), None);
    }
}
