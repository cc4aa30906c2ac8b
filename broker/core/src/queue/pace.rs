//! How fast a queue is being emptied: whether its publishers can wait for its consumers.

/// Milliseconds over which the pace is measured, at least.
const SPAN_MS: u64 = 50;
/// A queue that would be empty within so many milliseconds if nothing came is about to be.
const SOON_MS: u64 = 1000;

/// The pace of a queue's consumers.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since_ms: u64,
    /// Messages consumed by then, in the queue's whole life.
    consumed: u64,
    per_second: u64,
}

impl Pace {
    /// Looks at how many messages were consumed in the queue's life. Call it often.
    pub(super) fn look(&mut self, now: u64, consumed: u64) {
        let span = now.saturating_sub(self.since_ms);
        if span >= SPAN_MS {
            self.per_second = consumed.saturating_sub(self.consumed).saturating_mul(1000) / span;
            (self.since_ms, self.consumed) = (now, consumed);
        }
    }

    /// Whether consumers are about to take this many messages.
    pub(super) fn empties_soon(&self, messages: u64) -> bool {
        messages <= self.per_second.saturating_mul(SOON_MS) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_that_of_the_last_span() {
        let mut pace = Pace::default();
        pace.look(1_000, 0);
        assert!(!pace.empties_soon(1), "nobody consumes");
        pace.look(1_049, 500);
        assert!(!pace.empties_soon(1), "too early to tell");
        pace.look(1_050, 500);
        assert!(pace.empties_soon(10_000) && !pace.empties_soon(10_001));
        pace.look(2_050, 510);
        assert!(pace.empties_soon(10) && !pace.empties_soon(11), "they became slow");
    }
}
