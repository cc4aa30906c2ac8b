//! Rise and fall of a `vrrp_script`: how many results in a row change its status.

use crate::priority::TrackStatus;

/// The counter behind one script. It runs from 0 to `rise + fall - 1`; at `rise` and above the script is
/// good. A result that crosses the border moves the counter to the far end, so that it takes `fall`
/// failures, or `rise` successes, in a row to cross it again.
#[derive(Clone, Debug)]
pub struct ScriptState {
    rise: u32,
    fall: u32,
    result: u32,
    status: TrackStatus,
}

impl ScriptState {
    /// A script without a result yet, or (`init_fail`) one that counts as failed until it succeeds.
    /// `rise` and `fall` of 0 count as 1.
    pub fn new(rise: u32, fall: u32, init_fail: bool) -> Self {
        let status = if init_fail { TrackStatus::Failed } else { TrackStatus::Unknown };
        Self { rise: rise.max(1), fall: fall.max(1), result: 0, status }
    }

    /// The status now.
    pub fn status(&self) -> TrackStatus {
        self.status
    }

    /// Takes one result; answers the new status when it changed. The very first result decides at once.
    pub fn outcome(&mut self, success: bool) -> Option<TrackStatus> {
        let before = self.status;
        let top = self.rise + self.fall - 1;
        if before == TrackStatus::Unknown {
            self.result = if success { top } else { 0 };
        } else if success {
            self.result = (self.result + 1).min(top);
            if before == TrackStatus::Failed && self.result >= self.rise {
                self.result = top;
            }
        } else {
            self.result = self.result.saturating_sub(1);
            if before == TrackStatus::Good && self.result < self.rise {
                self.result = 0;
            }
        }
        self.status = if self.result >= self.rise { TrackStatus::Good } else { TrackStatus::Failed };
        (self.status != before).then_some(self.status)
    }

    /// Takes over a reloaded configuration without losing the status.
    pub fn reconfigure(&mut self, rise: u32, fall: u32) {
        (self.rise, self.fall) = (rise.max(1), fall.max(1));
        self.result = if self.status == TrackStatus::Good { self.rise + self.fall - 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut state: ScriptState, results: &str) -> String {
        let letter = |status| match status {
            TrackStatus::Unknown => '?',
            TrackStatus::Good => 'g',
            TrackStatus::Failed => 'f',
        };
        results
            .chars()
            .map(|result| {
                state.outcome(result == '+');
                letter(state.status())
            })
            .collect()
    }

    #[test]
    fn results_in_a_row_change_the_status() {
        let new = ScriptState::new;
        assert_eq!(run(new(1, 1, false), "+-+-"), "gfgf");
        assert_eq!(run(new(2, 3, false), "+--+---++-++"), "gggggfffgggg");
        assert_eq!(run(new(2, 2, true), "+-++"), "fffg");
        assert_eq!(run(new(3, 3, false), "-"), "f", "the first result decides at once");
    }
}
