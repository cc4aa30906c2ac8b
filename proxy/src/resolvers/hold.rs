//! How long the last good answer for a name is kept; pure.
//!
//! A good answer replaces the one before; records that it no longer has stay for `hold obsolete`. After a
//! bad answer the good ones stay until `hold nx|timeout|refused|other` has passed since the last good one.

use std::time::{Duration, Instant};

use super::message::Answer;
use crate::config::sections::Hold;

/// Why a name has nothing any more, in HAProxy's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It does not exist.
    NoName,
    /// Nobody answered.
    Timeout,
    /// The name server refused.
    Refused,
    /// Another error.
    Other,
}

impl Failure {
    /// HAProxy's words, for `Server b/s is going DOWN for maintenance (DNS NX status)`.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::NoName => "DNS NX status",
            Self::Timeout => "DNS timeout status",
            Self::Refused => "DNS refused status",
            Self::Other => "unspecified DNS error",
        }
    }

    fn hold(self, hold: &Hold) -> Duration {
        match self {
            Self::NoName => hold.nx,
            Self::Timeout => hold.timeout,
            Self::Refused => hold.refused,
            Self::Other => hold.other,
        }
    }
}

/// What is known of a name.
#[derive(Debug, Clone)]
pub struct Held<T> {
    records: Vec<(T, Instant)>,
    /// Of the last good answer, or the beginning.
    good: Instant,
    failure: Option<Failure>,
    answered: bool,
}

impl<T: Clone + PartialEq> Held<T> {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { records: Vec::new(), good: now, failure: None, answered: false }
    }

    /// Takes the records of a good answer.
    pub fn found(&mut self, records: Vec<T>, now: Instant, hold: &Hold) {
        self.good = now;
        self.failure = None;
        self.answered = true;
        self.records.retain(|(record, seen)| {
            !records.contains(record) && now.saturating_duration_since(*seen) < hold.obsolete
        });
        self.records.extend(records.into_iter().map(|record| (record, now)));
    }

    /// Takes a bad answer; drops the good one when it was held long enough.
    pub fn failed(&mut self, failure: Failure, now: Instant, hold: &Hold) {
        self.failure = Some(failure);
        if now.saturating_duration_since(self.good) >= failure.hold(hold) {
            self.answered = true;
            self.records.clear();
        }
    }

    /// The records; `None` while nothing is decided.
    #[must_use]
    pub fn records(&self) -> Option<Vec<T>> {
        self.answered.then(|| self.records.iter().map(|(record, _)| record.clone()).collect())
    }

    /// Why the last answer was bad.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }
}

/// What a bad answer is a case of; `None` for a good one.
#[must_use]
pub fn failure(answer: &Answer) -> Option<Failure> {
    match answer {
        Answer::Found(_) => None,
        Answer::NoName | Answer::Empty => Some(Failure::NoName),
        Answer::Refused => Some(Failure::Refused),
        Answer::Timeout => Some(Failure::Timeout),
        Answer::Truncated | Answer::Other => Some(Failure::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn the_last_good_answer_stays_until_its_time_is_over() {
        let hold = Hold::default();
        let start = Instant::now();
        let mut held = Held::new(start);
        assert_eq!(held.records(), None);
        held.found(vec![1, 2], start, &hold);
        assert_eq!(held.records(), Some(vec![1, 2]));
        held.failed(Failure::Timeout, start + second(29), &hold);
        assert_eq!((held.records(), held.failure()), (Some(vec![1, 2]), Some(Failure::Timeout)));
        held.failed(Failure::Timeout, start + second(30), &hold);
        assert_eq!(held.records(), Some(vec![]));
        held.found(vec![3], start + second(31), &hold);
        assert_eq!((held.records(), held.failure()), (Some(vec![3]), None));
    }

    #[test]
    fn records_that_are_gone_stay_for_hold_obsolete() {
        let hold = Hold { obsolete: second(10), ..Hold::default() };
        let start = Instant::now();
        let mut held = Held::new(start);
        held.found(vec![1, 2], start, &hold);
        held.found(vec![2], start + second(9), &hold);
        assert_eq!(held.records(), Some(vec![1, 2]));
        held.found(vec![2], start + second(10), &hold);
        assert_eq!(held.records(), Some(vec![2]));
        let strict = Hold::default();
        held.found(vec![4], start + second(11), &strict);
        assert_eq!(held.records(), Some(vec![4]));
    }

    #[test]
    fn a_name_that_never_was_is_decided_after_its_time() {
        let hold = Hold { nx: second(5), ..Hold::default() };
        let start = Instant::now();
        let mut held: Held<u8> = Held::new(start);
        held.failed(Failure::NoName, start + second(1), &hold);
        assert_eq!(held.records(), None);
        held.failed(Failure::NoName, start + second(5), &hold);
        assert_eq!(held.records(), Some(vec![]));
    }
}
