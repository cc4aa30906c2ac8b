//! The line of an agent (`agent-check`): words about the server, in any order, parted by spaces, tabs or
//! commas; text after `#` is a description.
//!
//! ```text
//!  up 75% maxconn:30 # all is well
//!  ready | drain | maint     what an operator would order
//!  up | down | fail | stopped  health
//!  N%                        weight, of the configured one
//!  maxconn:N                 limit of connections
//! ```

use super::super::status::CheckStatus;
use super::printable;

/// What an agent said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AgentAnswer {
    /// `up`, `down`, `fail` or `stopped`, as written.
    pub health: Option<(bool, String)>,
    /// `ready`, `drain` or `maint`.
    pub order: Option<AgentOrder>,
    /// The weight, with its percent sign.
    pub weight: Option<String>,
    /// The number behind `maxconn:`.
    pub maxconn: Option<String>,
    /// The description.
    pub message: String,
    /// The first word that means nothing.
    pub unknown: Option<String>,
}

/// What an agent can order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentOrder {
    /// `ready`.
    Ready,
    /// `drain`.
    Drain,
    /// `maint`.
    Maintenance,
}

/// Reads the first line; `None` while it is not whole.
#[must_use]
pub fn parse(bytes: &[u8]) -> Option<AgentAnswer> {
    let end = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0))?;
    let line = &bytes[..end];
    let (words, message) = match line.iter().position(|byte| *byte == b'#') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &b""[..]),
    };
    let mut answer =
        AgentAnswer { message: printable(message).trim_start().to_owned(), ..AgentAnswer::default() };
    for word in words.split(|byte| matches!(byte, b' ' | b'\t' | b',')).filter(|word| !word.is_empty()) {
        answer.take(&printable(word));
    }
    Some(answer)
}

impl AgentAnswer {
    fn take(&mut self, word: &str) {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "up" => self.health = Some((true, word.to_owned())),
            "down" | "fail" | "stopped" => self.health = Some((false, word.to_owned())),
            "ready" => self.order = Some(AgentOrder::Ready),
            "drain" => self.order = Some(AgentOrder::Drain),
            "maint" => self.order = Some(AgentOrder::Maintenance),
            _ if word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('%') => {
                self.weight = Some(word.to_owned());
            }
            _ if lower.starts_with("maxconn:") => self.maxconn = Some(lower["maxconn:".len()..].to_owned()),
            _ => self.unknown = self.unknown.take().or_else(|| Some(word.to_owned())),
        }
    }

    /// The status and the text of the report. `warning` is what the server said to the weight or the
    /// limit; without a word about health it is only told, and nothing changes.
    #[must_use]
    pub fn report(&self, warning: Option<&str>) -> (CheckStatus, String) {
        let problem = self.unknown.as_deref().or(warning).filter(|text| !text.is_empty());
        match &self.health {
            Some((up, word)) => {
                let message = problem.filter(|_| *up || self.message.is_empty()).unwrap_or(&self.message);
                let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
                let status = if *up { CheckStatus::L7Ok } else { CheckStatus::L7Status };
                (status, format!("via agent : {word}{message}"))
            }
            None => {
                let text = match (&self.unknown, warning) {
                    (Some(word), _) => format!("agent reports an error : {word}"),
                    (None, Some(warning)) => format!("agent warns : {warning}"),
                    (None, None) => String::new(),
                };
                (CheckStatus::Checked, text)
            }
        }
    }
}
