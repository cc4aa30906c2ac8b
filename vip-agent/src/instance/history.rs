//! The last transitions of a virtual router, for `status`.

use std::collections::VecDeque;
use std::time::Duration;

/// Older ones are in the log.
const MOST: usize = 16;

/// A transition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// Since the start of the agent.
    pub(crate) at: Duration,
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) reason: String,
}

/// Transitions, the newest first.
#[derive(Debug, Default)]
pub(crate) struct History(VecDeque<Move>);

impl History {
    pub(crate) fn push(&mut self, moved: Move) {
        self.0.truncate(MOST - 1);
        self.0.push_front(moved);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Move> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_the_oldest_go() {
        let mut history = History::default();
        for second in 0..40 {
            let at = Duration::from_secs(second);
            history.push(Move { at, from: "BACKUP", to: "MASTER", reason: second.to_string() });
        }
        let reasons: Vec<&str> = history.iter().map(|moved| moved.reason.as_str()).collect();
        assert_eq!((reasons.len(), reasons[0], reasons[15]), (16, "39", "24"));
    }
}
