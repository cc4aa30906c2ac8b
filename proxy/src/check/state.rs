//! The state machine of health checks, as HAProxy has it; pure.
//!
//! Health is a number from 0 to rise+fall-1. A server is UP when health >= rise.
//!
//! ```text
//!   DOWN                       UP
//!   0 ──pass──► 1 … rise-1 ──pass──► rise+fall-1 (full)
//!   ▲           │                     │ fail: one less
//!   └───fail────┘                     ▼
//!   └──────────fail at rise──── rise … rise+fall-2 ──pass──► one more, or full
//! ```
//!
//! * A server starts at `rise`: one failure takes it down, one pass makes it full.
//! * A failure lowers health by one; below `rise` it drops to 0.
//! * A pass raises health by one; on reaching `rise` or more it jumps to the top.

use std::time::Duration;

/// What a check said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server is well.
    Passed,
    /// It is well and wants no new connections.
    PassedConditionally,
    /// It is not.
    Failed,
    /// Nothing about health.
    Neutral,
}

impl Outcome {
    /// Whether the server is well.
    #[must_use]
    pub fn is_pass(self) -> bool {
        matches!(self, Self::Passed | Self::PassedConditionally)
    }
}

/// The health of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    rise: u32,
    fall: u32,
    value: u32,
}

/// What a check changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Health moved: worth a line with `option log-health-checks`.
    pub moved: bool,
    /// The server came up (`Some(true)`) or went down (`Some(false)`).
    pub turned: Option<bool>,
}

/// The intervals between checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// `inter`.
    pub normal: Duration,
    /// `fastinter`: on the way up or down.
    pub fast: Option<Duration>,
    /// `downinter`: down, nothing passed yet.
    pub down: Option<Duration>,
}

impl Health {
    /// A server that was not checked yet.
    #[must_use]
    pub fn new(rise: u32, fall: u32) -> Self {
        let rise = rise.max(1);
        Self { rise, fall: fall.max(1), value: rise }
    }

    /// Takes one check's outcome.
    pub fn apply(&mut self, outcome: Outcome) -> Change {
        let before = *self;
        match outcome {
            Outcome::Failed => {
                self.value = self.value.saturating_sub(1);
                if self.value < self.rise {
                    self.value = 0;
                }
            }
            Outcome::Passed | Outcome::PassedConditionally if self.value < self.top() => {
                self.value += 1;
                if self.value >= self.rise {
                    self.value = self.top();
                }
            }
            Outcome::Passed | Outcome::PassedConditionally | Outcome::Neutral => {}
        }
        Change {
            moved: self.value != before.value,
            turned: (self.is_up() != before.is_up()).then(|| self.is_up()),
        }
    }

    /// How long to wait before the next check.
    #[must_use]
    pub fn interval(&self, intervals: &Intervals) -> Duration {
        if self.value == self.top() {
            intervals.normal
        } else if self.value == 0 {
            intervals.down.unwrap_or(intervals.normal)
        } else {
            intervals.fast.unwrap_or(intervals.normal)
        }
    }

    /// Whether connections may go to the server.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.value >= self.rise
    }

    /// Full health, or none: not on the way to the other side.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.value == 0 || self.value == self.top()
    }

    /// The raw number.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.value
    }

    /// How HAProxy shows it: `3/3` of UP, `1/2` of DOWN.
    #[must_use]
    pub fn fraction(&self) -> (u32, u32) {
        if self.is_up() { (self.value - self.rise + 1, self.fall) } else { (self.value, self.rise) }
    }

    /// Nothing on the way to the other side is missing.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.value == self.top()
    }

    /// Passed checks on the way up, and how many it takes.
    #[must_use]
    pub fn rising(&self) -> (u32, u32) {
        (self.value, self.rise)
    }

    /// Failed checks left on the way down, and how many it takes.
    #[must_use]
    pub fn falling(&self) -> (u32, u32) {
        ((self.value + 1).saturating_sub(self.rise), self.fall)
    }

    /// As at the start: up, and the first failed check takes it down.
    pub fn restart(&mut self) {
        self.value = self.rise;
    }

    /// Two failures from being down, when it is better than that (`on-error sudden-death`).
    pub fn weaken(&mut self) {
        if self.value > self.rise {
            self.value = (self.rise + 1).min(self.top());
        }
    }

    /// Makes the server fully well, or not at all, by an operator's order.
    pub fn force(&mut self, up: bool) {
        self.value = if up { self.top() } else { 0 };
    }

    /// Takes a number over from another process, which may have had another `rise` and `fall`; being up or
    /// down stays.
    pub fn restore(&mut self, up: bool, value: u32) {
        self.value = if up { value.clamp(self.rise, self.top()) } else { value.min(self.rise - 1) };
    }

    fn top(&self) -> u32 {
        self.rise + self.fall - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rise: u32, fall: u32, value: u32) -> Health {
        Health { rise, fall, value }
    }

    /// Every (state, input) pair of rise 2, fall 3, written out by hand from the rules.
    #[test]
    fn every_state_and_input_of_rise_2_fall_3() {
        use Outcome::{Failed, Passed};
        let table = [
            // health, input, health after, moved, turned
            (0, Passed, 1, true, None),
            (0, Failed, 0, false, None),
            (1, Passed, 4, true, Some(true)),
            (1, Failed, 0, true, None),
            (2, Passed, 4, true, None),
            (2, Failed, 0, true, Some(false)),
            (3, Passed, 4, true, None),
            (3, Failed, 2, true, None),
            (4, Passed, 4, false, None),
            (4, Failed, 3, true, None),
        ];
        for (before, input, after, moved, turned) in table {
            let mut health = at(2, 3, before);
            let change = health.apply(input);
            assert_eq!((health.value, change), (after, Change { moved, turned }), "{before} {input:?}");
        }
    }

    #[test]
    fn every_state_and_input_of_rise_1_fall_1() {
        use Outcome::{Failed, Passed};
        let table = [
            (0, Passed, 1, Some(true)),
            (0, Failed, 0, None),
            (1, Passed, 1, None),
            (1, Failed, 0, Some(false)),
        ];
        for (before, input, after, turned) in table {
            let mut health = at(1, 1, before);
            assert_eq!((health.apply(input).turned, health.value), (turned, after), "{before} {input:?}");
        }
    }

    #[test]
    fn health_stays_in_bounds_and_up_means_at_least_rise() {
        for rise in 1..6 {
            for fall in 1..6 {
                for value in 0..rise + fall {
                    for outcome in [Outcome::Passed, Outcome::Failed] {
                        let mut health = at(rise, fall, value);
                        let was_up = health.is_up();
                        let change = health.apply(outcome);
                        assert!(health.value < rise + fall);
                        assert_eq!(health.is_up(), health.value >= rise);
                        assert_eq!(change.turned.is_some(), was_up != health.is_up());
                        // Between 0 and rise only on the way up; a failure never leaves it there.
                        assert!(outcome == Outcome::Passed || health.value == 0 || health.is_up());
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_server_falls_at_the_first_failure_and_is_full_at_the_first_pass() {
        let mut health = Health::new(2, 3);
        assert!(health.is_up() && !health.is_settled());
        assert_eq!(health.apply(Outcome::Failed).turned, Some(false));
        let mut health = Health::new(2, 3);
        health.apply(Outcome::Passed);
        assert_eq!((health.value(), health.fraction()), (4, (3, 3)));
    }

    #[test]
    fn a_full_server_falls_after_fall_failures_and_returns_after_rise_passes() {
        let mut health = at(2, 3, 4);
        let shown: Vec<_> = (0..3)
            .map(|_| {
                health.apply(Outcome::Failed);
                (health.is_up(), health.fraction())
            })
            .collect();
        assert_eq!(shown, [(true, (2, 3)), (true, (1, 3)), (false, (0, 2))]);
        health.apply(Outcome::Passed);
        assert_eq!((health.is_up(), health.fraction()), (false, (1, 2)));
        assert_eq!(health.apply(Outcome::Passed).turned, Some(true));
        assert_eq!(health.fraction(), (3, 3));
    }

    #[test]
    fn the_interval_follows_the_state() {
        let second = Duration::from_secs;
        let all = Intervals { normal: second(5), fast: Some(second(1)), down: Some(second(9)) };
        let expected = [(0, 9), (1, 1), (2, 1), (3, 1), (4, 5)];
        for (value, seconds) in expected {
            assert_eq!(at(2, 3, value).interval(&all), second(seconds), "{value}");
        }
        let only = Intervals { normal: second(5), fast: None, down: None };
        for value in 0..5 {
            assert_eq!(at(2, 3, value).interval(&only), second(5));
        }
    }

    #[test]
    fn an_order_overrides_the_checks() {
        let mut health = Health::new(2, 3);
        health.force(false);
        assert_eq!((health.is_up(), health.value()), (false, 0));
        health.force(true);
        assert_eq!((health.is_up(), health.value()), (true, 4));
    }
}
