//! What a few numbers were in the past: one point whenever something changed, so that what is idle costs nothing.

use std::collections::VecDeque;

/// Milliseconds between samples, RabbitMQ's `collect_statistics_interval`.
pub(super) const TICK_MS: u64 = 5000;
/// Ticks for which every change is kept: ten minutes.
pub(super) const FINE_TICKS: u32 = 121;
/// Ticks of which one point is kept beyond that: a minute.
const COARSE: u32 = 12;
/// Points that are kept beyond that: a day.
const COARSE_POINTS: usize = 1440;

/// When samples were taken, in ticks since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The last one.
    pub(super) now: u32,
    /// The one before that; the same when there is none.
    pub(super) before: u32,
}

/// Points of `N` numbers, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Series<const N: usize> {
    fine: VecDeque<(u32, [u64; N])>,
    coarse: VecDeque<(u32, [u64; N])>,
    /// Keeps more than the last minutes.
    long: bool,
}

impl<const N: usize> Series<N> {
    /// Nothing yet; `long` ones remember a day.
    pub(super) fn new(long: bool) -> Self {
        Series { fine: VecDeque::new(), coarse: VecDeque::new(), long }
    }

    /// Adds what the numbers are now; forgets what is older than `keep` ticks.
    pub(super) fn push(&mut self, tick: u32, values: [u64; N], keep: u32) {
        if self.fine.back().is_none_or(|(_, last)| *last != values) {
            self.fine.push_back((tick, values));
        }
        let oldest = tick.saturating_sub(keep);
        // The point before the oldest tick says what was so then.
        while self.fine.len() > 1 && self.fine[1].0 <= oldest {
            let Some(point) = self.fine.pop_front() else { break };
            if self.long {
                self.keep_coarse(point);
            }
        }
    }

    fn keep_coarse(&mut self, point: (u32, [u64; N])) {
        match self.coarse.back_mut() {
            Some(last) if last.0 / COARSE == point.0 / COARSE => *last = point,
            _ => self.coarse.push_back(point),
        }
        if self.coarse.len() > COARSE_POINTS {
            self.coarse.pop_front();
        }
    }

    /// What the numbers were at a tick; zero before the first.
    pub(super) fn at(&self, tick: u32) -> [u64; N] {
        let find = |points: &VecDeque<(u32, [u64; N])>| {
            let behind = points.partition_point(|(at, _)| *at <= tick);
            behind.checked_sub(1).map(|at| points[at].1)
        };
        find(&self.fine).or_else(|| find(&self.coarse)).unwrap_or([0; N])
    }

    /// When they changed last.
    pub(super) fn changed_at(&self) -> u32 {
        self.fine.back().map_or(0, |(tick, _)| *tick)
    }

    /// Whether they are zero and were for as long as is remembered.
    pub(super) fn is_idle(&self) -> bool {
        self.coarse.is_empty() && self.fine.len() == 1 && self.fine[0].1 == [0; N]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_knows_what_was_at_each_tick_and_keeps_changes_only() {
        let mut series = Series::new(false);
        for tick in 10..20 {
            series.push(tick, [u64::from(tick / 5)], 8);
        }
        let seen: Vec<u64> = (8..20).map(|tick| series.at(tick)[0]).collect();
        assert_eq!(seen, [0, 0, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert_eq!((series.fine.len(), series.changed_at()), (2, 15));
        series.push(23, [9], 8);
        assert_eq!(series.fine.len(), 2, "the point of tick 15 says what was at the oldest one");
        assert_eq!(series.at(14), [0]);
    }

    #[test]
    fn a_long_series_keeps_a_point_for_each_minute_of_a_day() {
        let mut series = Series::new(true);
        let last = 50_000;
        for tick in 1..=last {
            series.push(tick, [u64::from(tick)], FINE_TICKS);
        }
        assert_eq!(series.at(last - 100), [u64::from(last) - 100]);
        let long_ago = last - 10_000;
        assert!(series.at(long_ago)[0].abs_diff(u64::from(long_ago)) < u64::from(COARSE));
        assert_eq!(series.coarse.len(), COARSE_POINTS);
        assert_eq!(series.at(1), [0]);
    }
}
