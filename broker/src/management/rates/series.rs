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

/// When samples were taken, in ticks. They only go forward: when somebody sets the wall clock, the past moves with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clock {
    /// The last one; 0 when there is none.
    pub(super) now: u32,
    /// The one before that; the same when there is none.
    pub(super) before: u32,
    /// What the last one was by a clock that nobody sets, milliseconds.
    taken_ms: u64,
    /// How many ticks since the epoch the wall clock is ahead of these.
    ahead: i64,
}

impl Clock {
    /// A sample is taken now, by the wall clock in milliseconds since the epoch and by a clock that nobody sets. False
    /// when there is one of this tick.
    pub(super) fn advance(&mut self, wall_ms: u64, monotonic_ms: u64) -> bool {
        let wall = i64::try_from(wall_ms / TICK_MS).unwrap_or(i64::MAX);
        let passed = (monotonic_ms.saturating_sub(self.taken_ms) + TICK_MS / 2) / TICK_MS;
        let expected = i64::from(self.now).saturating_add_unsigned(passed);
        if self.now != 0 && (wall - self.ahead).abs_diff(expected) > 1 {
            self.ahead = wall - expected;
        }
        let tick = u32::try_from(wall - self.ahead).unwrap_or(u32::MAX);
        if tick <= self.now {
            return false;
        }
        self.before = if self.now == 0 { tick } else { self.now };
        self.now = tick;
        self.taken_ms = monotonic_ms;
        true
    }

    /// The last two samples were at these ticks.
    #[cfg(test)]
    pub(super) fn of(now: u32, before: u32) -> Self {
        Clock { now, before, ..Clock::default() }
    }

    /// When a tick was, by the wall clock, in milliseconds since the epoch.
    pub(super) fn time_of(&self, tick: u32) -> u64 {
        u64::try_from(i64::from(tick) + self.ahead).unwrap_or(0) * TICK_MS
    }
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
    fn ticks_go_forward_whatever_is_done_to_the_wall_clock() {
        let mut clock = Clock::default();
        let begin = 1_000_000 * TICK_MS;
        assert!(clock.advance(begin, 700));
        assert_eq!((clock.before, clock.now), (1_000_000, 1_000_000));
        assert!(!clock.advance(begin + 4999, 5699), "the same tick");
        assert!(clock.advance(begin + 5000, 5700));
        assert_eq!((clock.before, clock.now), (1_000_000, 1_000_001));
        let (mut wall, mut monotonic) = (begin + 5000, 5700);
        for jump in [-86_400_000i64, 86_400_000, -30_000, 30_000, -6000, 6000, -4000, 3_600_000, i64::MIN / 2]
        {
            let before = clock;
            wall = wall.saturating_add_signed(jump);
            while clock == before {
                (wall, monotonic) = (wall + 5000, monotonic + 5000);
                clock.advance(wall, monotonic);
                assert!(monotonic - before.taken_ms <= 15_000, "no sample after {jump}");
            }
            assert_eq!(clock.before, before.now);
            assert!((1..=3).contains(&(clock.now - clock.before)), "{clock:?} after {jump}");
            assert_eq!(clock.time_of(clock.now), wall / TICK_MS * TICK_MS);
        }
    }

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
