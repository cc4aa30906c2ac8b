//! How a check ended, in HAProxy's words.

use std::time::Duration;

use super::state::Outcome;

/// How a check ended. The order is HAProxy's: from [`CheckStatus::L7Ok`] on, a status has a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckStatus {
    /// No check was run yet.
    None,
    /// An agent answered without saying up or down.
    Checked,
    /// Decided by watching live traffic.
    Observed,
    /// This host has no socket, or the connection broke.
    SocketError,
    /// Connected.
    L4Ok,
    /// Nobody answered.
    L4Timeout,
    /// Refused, unreachable.
    L4Con,
    /// TLS stands.
    L6Ok,
    /// Connected, no TLS in time.
    L6Timeout,
    /// Connected, but TLS failed.
    L6Response,
    /// Connected, but no answer.
    L7Timeout,
    /// Connected, but a wrong answer.
    L7Response,
    /// The protocol was understood and the server is well.
    L7Ok,
    /// Well, but wants no new connections.
    L7OkConditionally,
    /// The protocol was understood and the server is not well.
    L7Status,
    /// An external check could not be run.
    ProcessError,
    /// An external check took too long.
    ProcessTimeout,
    /// An external check passed.
    ProcessOk,
}

impl CheckStatus {
    /// Every status.
    pub const ALL: [Self; 18] = [
        Self::None,
        Self::Checked,
        Self::Observed,
        Self::SocketError,
        Self::L4Ok,
        Self::L4Timeout,
        Self::L4Con,
        Self::L6Ok,
        Self::L6Timeout,
        Self::L6Response,
        Self::L7Timeout,
        Self::L7Response,
        Self::L7Ok,
        Self::L7OkConditionally,
        Self::L7Status,
        Self::ProcessError,
        Self::ProcessTimeout,
        Self::ProcessOk,
    ];

    /// Whether the server is well.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::None | Self::Checked => Outcome::Neutral,
            Self::L4Ok | Self::L6Ok | Self::L7Ok | Self::ProcessOk => Outcome::Passed,
            Self::L7OkConditionally => Outcome::PassedConditionally,
            _ => Outcome::Failed,
        }
    }

    /// The short word of the statistics page.
    #[must_use]
    pub fn word(self) -> &'static str {
        self.words().0
    }

    /// The words of the log.
    #[must_use]
    pub fn description(self) -> &'static str {
        self.words().1
    }

    /// Whether the check's code means something.
    #[must_use]
    pub fn has_code(self) -> bool {
        self >= Self::L7Ok
    }

    /// The status with this short word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.word() == word)
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("INI", "Initializing"),
            Self::Checked => ("CHECKED", "No status change"),
            Self::Observed => ("HANA", "Health analyze"),
            Self::SocketError => ("SOCKERR", "Socket error"),
            Self::L4Ok => ("L4OK", "Layer4 check passed"),
            Self::L4Timeout => ("L4TOUT", "Layer4 timeout"),
            Self::L4Con => ("L4CON", "Layer4 connection problem"),
            Self::L6Ok => ("L6OK", "Layer6 check passed"),
            Self::L6Timeout => ("L6TOUT", "Layer6 timeout"),
            Self::L6Response => ("L6RSP", "Layer6 invalid response"),
            Self::L7Timeout => ("L7TOUT", "Layer7 timeout"),
            Self::L7Response => ("L7RSP", "Layer7 invalid response"),
            Self::L7Ok => ("L7OK", "Layer7 check passed"),
            Self::L7OkConditionally => ("L7OKC", "Layer7 check conditionally passed"),
            Self::L7Status => ("L7STS", "Layer7 wrong status"),
            Self::ProcessError => ("PROCERR", "External check error"),
            Self::ProcessTimeout => ("PROCTOUT", "External check timeout"),
            Self::ProcessOk => ("PROCOK", "External check passed"),
        }
    }
}

/// One finished check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckReport {
    /// How it ended.
    pub status: CheckStatus,
    /// The protocol's own number for the result, e.g. 200; 0 when it has none.
    pub code: u16,
    /// The reason, or what the server said; may be empty.
    pub info: String,
    /// How long it took.
    pub duration: Duration,
}

impl CheckReport {
    /// Before the first check.
    #[must_use]
    pub fn none() -> Self {
        Self { status: CheckStatus::None, code: 0, info: String::new(), duration: Duration::ZERO }
    }

    /// `reason: Layer7 wrong status, code: 500, info: "Oops", check duration: 0ms`
    #[must_use]
    pub fn reason(&self) -> String {
        let code = if self.status.has_code() { format!(", code: {}", self.code) } else { String::new() };
        let info = if self.info.is_empty() { String::new() } else { format!(", info: \"{}\"", self.info) };
        // Nothing was timed when live traffic decided.
        let took = if self.status == CheckStatus::Observed {
            String::new()
        } else {
            format!(", check duration: {}ms", self.duration.as_millis())
        };
        format!("reason: {}{code}{info}{took}", self.status.description())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_unique_and_found_again() {
        for status in CheckStatus::ALL {
            assert_eq!(CheckStatus::from_word(status.word()), Some(status));
        }
        assert_eq!(CheckStatus::from_word("OK"), None);
    }

    #[test]
    fn reasons_read_as_in_haproxys_log() {
        let report = |status, code, info: &str| {
            CheckReport { status, code, info: info.to_owned(), duration: Duration::from_millis(3) }.reason()
        };
        assert_eq!(report(CheckStatus::L4Ok, 0, ""), "reason: Layer4 check passed, check duration: 3ms");
        assert_eq!(
            report(CheckStatus::L7Status, 500, "Oops"),
            "reason: Layer7 wrong status, code: 500, info: \"Oops\", check duration: 3ms"
        );
        assert_eq!(
            report(CheckStatus::L7Response, 12, "x"),
            "reason: Layer7 invalid response, info: \"x\", check duration: 3ms"
        );
    }
}
