//! What was found, and what to do about it.

use crate::ctl::escaped;
use std::fmt;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// As it should be.
    Pass,
    /// It was not looked at, and why.
    Note,
    /// It works, but not for ever.
    Warn,
    /// It does not work.
    Fail,
}

/// One line, with another one that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) step: &'static str,
    text: String,
    fix: String,
}

impl Finding {
    /// All is well.
    pub(super) fn pass(step: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Pass, step, text: text.into(), fix: String::new() }
    }

    /// It was not looked at.
    pub(super) fn note(step: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Note, step, text: text.into(), fix: fix.into() }
    }

    /// It could be better.
    pub(super) fn warn(step: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Warn, step, text: text.into(), fix: fix.into() }
    }

    /// It does not work.
    pub(super) fn fail(step: &'static str, text: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { level: Level::Fail, step, text: text.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.level {
            Level::Pass => "PASS",
            Level::Note => "NOTE",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        // Names come from elsewhere: what a terminal would obey is shown instead.
        write!(f, "{word} {:<24} {}", self.step, escaped(&self.text))?;
        if self.fix.is_empty() { Ok(()) } else { write!(f, "\n     fix: {}", escaped(&self.fix)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        let found = Finding::warn("mirrors", "late: \u{1b}]0;x\u{7}q\u{9b}2J", "sync_queue q\nrm");
        assert_eq!(
            found.to_string(),
            "WARN mirrors                  late: \\u{1b}]0;x\\u{7}q\\u{9b}2J\n     fix: sync_queue q\\nrm"
        );
    }
}
