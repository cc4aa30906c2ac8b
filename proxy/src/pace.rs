//! Not more than so many events in a second: `rate-limit sessions`, `maxconnrate`, `maxsessrate`, `maxsslrate`.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use crate::counters::{Moment, Rate};

/// A limit and the rate that it limits.
#[derive(Debug, Default)]
pub struct Pace {
    /// 0 is none.
    limit: AtomicU32,
    rate: Rate,
}

impl Pace {
    /// So many in a second; none when there is no limit.
    #[must_use]
    pub fn new(limit: Option<u32>) -> Self {
        Self { limit: AtomicU32::new(limit.unwrap_or(0)), rate: Rate::default() }
    }

    /// The limit; 0 is none.
    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    /// Changes the limit.
    pub fn set_limit(&self, limit: Option<u32>) {
        self.limit.store(limit.unwrap_or(0), Relaxed);
    }

    /// How long to wait before the next one, when the limit is reached.
    pub fn wait(&self, now: impl Fn() -> Moment) -> Option<Duration> {
        let limit = self.limit();
        if limit == 0 || self.rate.read(now()) < limit {
            return None;
        }
        // As long as one of them takes at that rate; then it is asked again.
        Some(Duration::from_millis(u64::from(1000 / limit).clamp(1, 1000)))
    }

    /// Counts one.
    pub fn count(&self, now: impl Fn() -> Moment) {
        if self.limit() > 0 {
            self.rate.add(now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_no_more_than_the_limit() {
        let pace = Pace::new(Some(10));
        let mut taken = Vec::new();
        let mut now = 5_000;
        while now < 8_000 {
            match pace.wait(|| Moment(now)) {
                Some(wait) => now += u64::try_from(wait.as_millis()).unwrap(),
                None => {
                    pace.count(|| Moment(now));
                    taken.push(now);
                }
            }
        }
        for from in (5_000..7_000).step_by(250) {
            let within = taken.iter().filter(|at| (from..from + 1000).contains(*at)).count();
            assert!(within <= 11, "{within} from {from}: {taken:?}");
        }
        assert!((25..=32).contains(&taken.len()), "{taken:?}");
    }

    #[test]
    fn without_a_limit_nobody_waits() {
        let pace = Pace::new(None);
        for _ in 0..1000 {
            pace.count(|| Moment(1));
            assert_eq!(pace.wait(|| Moment(1)), None);
        }
        pace.set_limit(Some(1));
        pace.count(|| Moment(1));
        assert_eq!(pace.wait(|| Moment(1)), Some(Duration::from_secs(1)));
    }
}
