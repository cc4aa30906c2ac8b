//! The last lines of the log, for whoever asks the process for them.

use std::collections::VecDeque;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Octets that one kept line may have; the rest of a longer one is cut off.
const LONGEST: usize = 2048;

static RECENT: OnceLock<Recent> = OnceLock::new();

/// The last lines.
struct Recent {
    count: usize,
    lines: Mutex<VecDeque<String>>,
}

/// Keeps so many lines from now on.
pub(super) fn keep(count: usize) {
    let _ = RECENT.set(Recent { count, lines: Mutex::default() });
}

/// Whether lines are kept.
pub(super) fn is_kept() -> bool {
    RECENT.get().is_some()
}

/// Takes a line with its end.
pub(super) fn add(line: &str) {
    let Some(recent) = RECENT.get() else { return };
    let line = line.trim_end_matches('\n');
    let mut end = line.len().min(LONGEST);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    let mut lines = recent.lines.lock().unwrap_or_else(PoisonError::into_inner);
    // The memory of the line that goes serves the one that comes.
    let mut kept =
        if lines.len() >= recent.count { lines.pop_front().unwrap_or_default() } else { String::new() };
    kept.clear();
    kept.push_str(&line[..end]);
    lines.push_back(kept);
}

/// The last `count` lines that were kept, the oldest first.
#[must_use]
pub fn recent(count: usize) -> Vec<String> {
    let Some(recent) = RECENT.get() else { return Vec::new() };
    let lines = recent.lines.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        keep(3);
        for line in ["a\n", "b\n", "c\n", "d\n"] {
            add(line);
        }
        add(&"é".repeat(LONGEST));
        let lines = recent(10);
        assert_eq!(lines[..2], ["c", "d"]);
        assert_eq!(lines[2].len(), LONGEST);
        assert_eq!(recent(1).len(), 1);
    }
}
