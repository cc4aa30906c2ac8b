//! `…_details`: a rate, and the samples that a query asks for with `…_age` and `…_incr`.

use super::series::{Clock, Series, TICK_MS};
use crate::counters::add;
use serde::{Deserialize, Serialize};

/// Samples that one answer has of each number, at most: a day, minute by minute.
const MAX_SAMPLES: u64 = 1441;

/// Samples that are wanted: the last `age` seconds, one every `incr` seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Window {
    ticks: u32,
    step: u32,
}

impl Window {
    fn new(age: Option<&str>, incr: Option<&str>) -> Option<Window> {
        let ticks =
            |text: &str| -> Option<u64> { Some(text.parse::<u64>().ok()?.checked_mul(1000)? / TICK_MS) };
        let age = ticks(age?)?.min(u64::from(u32::MAX));
        let step = ticks(incr?)?.clamp(1, u64::from(u32::MAX));
        let age = age.min(step.saturating_mul(MAX_SAMPLES));
        Some(Window { ticks: u32::try_from(age).ok()?, step: u32::try_from(step).ok()? })
    }
}

/// The windows of a query.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct Windows {
    lengths_age: Option<String>,
    lengths_incr: Option<String>,
    msg_rates_age: Option<String>,
    msg_rates_incr: Option<String>,
    data_rates_age: Option<String>,
    data_rates_incr: Option<String>,
    node_stats_age: Option<String>,
    node_stats_incr: Option<String>,
}

impl Windows {
    /// For numbers of messages.
    pub(in super::super) fn lengths(&self) -> Option<Window> {
        Window::new(self.lengths_age.as_deref(), self.lengths_incr.as_deref())
    }

    /// For counters of messages.
    pub(in super::super) fn messages(&self) -> Option<Window> {
        Window::new(self.msg_rates_age.as_deref(), self.msg_rates_incr.as_deref())
    }

    /// For octets.
    pub(in super::super) fn data(&self) -> Option<Window> {
        Window::new(self.data_rates_age.as_deref(), self.data_rates_incr.as_deref())
    }

    /// For the node.
    pub(in super::super) fn node(&self) -> Option<Window> {
        Window::new(self.node_stats_age.as_deref(), self.node_stats_incr.as_deref())
    }
}

/// What some numbers were at the times that a query asks for.
#[derive(Clone, Debug)]
pub(in super::super) struct Past<const N: usize> {
    now: [u64; N],
    before: [u64; N],
    seconds: f64,
    /// Newest first, with their times.
    points: Option<Vec<(u64, [u64; N])>>,
}

impl<const N: usize> Past<N> {
    pub(super) fn new<'s>(
        series: impl Iterator<Item = &'s Series<N>>,
        clock: Clock,
        window: Option<Window>,
    ) -> Past<N> {
        let steps = |window: Window| {
            let ticks = (0..=window.ticks / window.step)
                .map(move |step| clock.now.saturating_sub(step.saturating_mul(window.step)));
            ticks.map(|tick| (tick, [0; N])).collect::<Vec<_>>()
        };
        let mut points = window.map(steps);
        let (mut now, mut before) = ([0; N], [0; N]);
        for series in series {
            add(&mut now, &series.at(clock.now));
            add(&mut before, &series.at(clock.before));
            for (tick, sum) in points.iter_mut().flatten() {
                add(sum, &series.at(*tick));
            }
        }
        let seconds = f64::from(clock.now - clock.before) * (TICK_MS as f64 / 1000.0);
        let timed = |points: Vec<(u32, _)>| {
            points.into_iter().map(|(tick, numbers)| (clock.time_of(tick), numbers)).collect()
        };
        Past { now, before, seconds, points: points.map(timed) }
    }

    /// What the numbers were at the last sample.
    pub(in super::super) fn now(&self) -> &[u64; N] {
        &self.now
    }

    /// How fast the number at this place changes, per second.
    pub(in super::super) fn rate(&self, at: usize) -> f64 {
        self.rate_of(|numbers| numbers[at])
    }

    /// How fast a number changes that is computed from these, per second.
    pub(in super::super) fn rate_of(&self, number: impl Fn(&[u64; N]) -> u64) -> f64 {
        if self.seconds == 0.0 {
            return 0.0;
        }
        round((number(&self.now) as f64 - number(&self.before) as f64) / self.seconds)
    }

    /// The details of the number at this place.
    pub(in super::super) fn details(&self, at: usize) -> Details {
        self.details_of(|numbers| numbers[at])
    }

    /// The details of a number that is computed from these.
    pub(in super::super) fn details_of(&self, number: impl Fn(&[u64; N]) -> u64) -> Details {
        let samples = self.points.as_ref().map(|points| {
            let samples = points
                .iter()
                .map(|(timestamp, numbers)| Sample { sample: number(numbers), timestamp: *timestamp });
            samples.collect::<Vec<_>>()
        });
        let averages = samples.as_ref().and_then(|samples| {
            let (newest, oldest) = (samples.first()?, samples.last()?);
            let seconds = (newest.timestamp - oldest.timestamp) as f64 / 1000.0;
            let change = newest.sample as f64 - oldest.sample as f64;
            let avg_rate = if seconds == 0.0 { 0.0 } else { change / seconds };
            let sum: f64 = samples.iter().map(|sample| sample.sample as f64).sum();
            Some((avg_rate, sum / samples.len() as f64))
        });
        Details {
            rate: self.rate_of(&number),
            samples,
            avg_rate: averages.map(|(rate, _)| rate),
            avg: averages.map(|(_, average)| average),
        }
    }
}

/// A number's recent past.
#[derive(Clone, Debug, Serialize)]
pub(in super::super) struct Details {
    rate: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Vec<Sample>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avg: Option<f64>,
}

impl Details {
    /// Of a number that never changes.
    #[cfg(test)]
    pub(in super::super) const STILL: Details =
        Details { rate: 0.0, samples: None, avg_rate: None, avg: None };
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    sample: u64,
    timestamp: u64,
}

/// Rates have one digit behind the point, as people read them.
fn round(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::series::FINE_TICKS;
    use super::*;
    use serde_json::json;

    fn window(age: &str, incr: &str) -> Option<Window> {
        Window::new(Some(age), Some(incr))
    }

    #[test]
    fn samples_reach_back_as_far_as_asked_for_and_sum_over_what_is_looked_at() {
        let mut one = Series::new(false);
        let mut other = Series::new(false);
        for tick in 100..=112 {
            one.push(tick, [u64::from(tick - 100) * 10], FINE_TICKS);
            other.push(tick, [1], FINE_TICKS);
        }
        let clock = Clock::of(112, 111);
        let past = Past::new([&one, &other].into_iter(), clock, window("15", "5"));
        let shown = serde_json::to_value(past.details(0)).unwrap();
        let sample = |value: u64, tick: u64| json!({"sample": value, "timestamp": tick * 5000});
        assert_eq!(
            shown["samples"],
            json!([sample(121, 112), sample(111, 111), sample(101, 110), sample(91, 109)])
        );
        assert_eq!(
            (&shown["rate"], &shown["avg_rate"], &shown["avg"]),
            (&json!(2.0), &json!(2.0), &json!(106.0))
        );
        let plain = Past::new([&one].into_iter(), clock, None);
        assert_eq!(serde_json::to_value(plain.details(0)).unwrap(), json!({"rate": 2.0}));
    }

    #[test]
    fn the_first_sample_gives_no_rate_and_odd_windows_are_bounded() {
        let mut one = Series::new(false);
        one.push(7, [1000], FINE_TICKS);
        let past = Past::new([&one].into_iter(), Clock::of(7, 7), None);
        assert_eq!(past.rate(0), 0.0);
        assert_eq!(window("x", "5"), None);
        assert_eq!(window("60", "0"), window("60", "5"));
        let endless = window("99999999999999", "5").unwrap();
        assert_eq!(u64::from(endless.ticks / endless.step), MAX_SAMPLES);
    }
}
