//! Waiting with a deadline: a test asks for a condition, never for a delay.

use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers, at most for `limit`; `what` completes the sentence "waited for …".
///
/// # Errors
/// The limit passed.
pub fn until<T>(limit: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            bail!("waited {:.1} s for {what}", start.elapsed().as_secs_f64());
        }
        std::thread::sleep(POLL);
    }
}

/// As [`until`], for a yes or no.
///
/// # Errors
/// The limit passed.
pub fn until_true(limit: Duration, what: &str, mut probe: impl FnMut() -> bool) -> Result<()> {
    until(limit, what, || probe().then_some(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_as_soon_as_the_probe_does() {
        let mut left = 2;
        let got = until(Duration::from_secs(5), "a countdown", || {
            left -= 1;
            (left == 0).then_some(7)
        });
        assert_eq!(got.unwrap(), 7);
    }

    #[test]
    fn a_passed_limit_names_what_was_waited_for() {
        let error = until_true(Duration::ZERO, "a miracle", || false).unwrap_err();
        assert!(error.to_string().ends_with("for a miracle"), "{error}");
    }
}
