//! Patterns of `tcp-check expect` and `http-check expect`; pure.

use fancy_regex::Regex;

use super::answer::http::Response;
use super::answer::{Finding, Verdict};
use super::status::CheckStatus;
use crate::config::checks::ExpectPattern;

/// What is looked for.
#[derive(Debug, Clone)]
pub enum Pattern {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A match of a regular expression.
    Regex(Expression),
    /// A match in the bytes written as hexadecimal digits.
    BinaryRegex(Expression),
    /// A status of HTTP in one of these ranges.
    Status(Vec<(u16, u16)>),
    /// A status of HTTP that matches.
    StatusRegex(Expression),
}

/// A regular expression over bytes. Each byte is a character to it, so that no answer is out of reach;
/// `None` is one that cannot be read, which nothing matches.
#[derive(Debug, Clone)]
pub struct Expression(Option<Regex>);

impl Expression {
    fn new(text: &str) -> Self {
        let bytes_as_characters: String = text.bytes().map(char::from).collect();
        Self(Regex::new(&bytes_as_characters).ok())
    }

    fn matches(&self, bytes: &[u8]) -> bool {
        let Some(regex) = &self.0 else { return false };
        let text: String = bytes.iter().copied().map(char::from).collect();
        let found = |text: &str| regex.is_match(text).unwrap_or(false);
        // PCRE: `$` also matches before a line end that is the last byte.
        found(&text) || text.strip_suffix('\n').is_some_and(found)
    }
}

impl Pattern {
    /// Makes it ready for use.
    #[must_use]
    pub fn compile(pattern: &ExpectPattern) -> Self {
        match pattern {
            ExpectPattern::Bytes(bytes) => Self::Bytes(bytes.clone()),
            ExpectPattern::Regex(text) => Self::Regex(Expression::new(text)),
            ExpectPattern::BinaryRegex(text) => Self::BinaryRegex(Expression::new(text)),
            ExpectPattern::Status(ranges) => Self::Status(ranges.clone()),
            ExpectPattern::StatusRegex(text) => Self::StatusRegex(Expression::new(text)),
        }
    }

    /// Whether it looks at the status of HTTP.
    #[must_use]
    pub fn is_about_status(pattern: &ExpectPattern) -> bool {
        matches!(pattern, ExpectPattern::Status(_) | ExpectPattern::StatusRegex(_))
    }

    /// Whether it is there.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Bytes(wanted) => wanted.is_empty() || memchr::memmem::find(bytes, wanted).is_some(),
            Self::Regex(regex) => regex.matches(bytes),
            Self::BinaryRegex(regex) => {
                let digits = b"0123456789ABCDEF";
                let hex: Vec<u8> = bytes
                    .iter()
                    .flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]])
                    .collect();
                regex.matches(&hex)
            }
            Self::Status(_) | Self::StatusRegex(_) => false,
        }
    }

    fn matches_status(&self, status: u16) -> bool {
        match self {
            Self::Status(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&status)),
            Self::StatusRegex(regex) => regex.matches(status.to_string().as_bytes()),
            _ => false,
        }
    }

    /// Shortest text it can be found in.
    fn shortest(&self) -> usize {
        if let Self::Bytes(wanted) = self { wanted.len() } else { 0 }
    }

    /// ` (expect string 'x')`, for a step that failed.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Bytes(wanted) if is_text(wanted) => format!(" (expect string '{}')", shown(wanted)),
            Self::Bytes(wanted) => format!(" (expect binary '{}')", shown(wanted)),
            Self::Regex(_) => " (expect regex)".to_owned(),
            Self::BinaryRegex(_) => " (expect binary regex)".to_owned(),
            Self::Status(_) => " (expect HTTP status codes)".to_owned(),
            Self::StatusRegex(_) => " (expect HTTP status regex)".to_owned(),
        }
    }

    fn named(&self) -> String {
        match self {
            Self::Bytes(wanted) if is_text(wanted) => format!("'{}'", shown(wanted)),
            Self::Bytes(_) => "(binary)".to_owned(),
            Self::Regex(_) => "(regex)".to_owned(),
            Self::BinaryRegex(_) => "(binary regex)".to_owned(),
            Self::Status(_) => "(status codes)".to_owned(),
            Self::StatusRegex(_) => "(regex)".to_owned(),
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, 0x20..=0x7e | b'\r' | b'\n' | b'\t'))
}

/// Bytes up to the first zero, those outside ASCII's printable range as `<FF>`, as HAProxy logs them.
fn shown(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take_while(|byte| **byte != 0)
        .map(|byte| match byte {
            0x20..=0x7e => char::from(*byte).to_string(),
            _ => format!("<{byte:02X}>"),
        })
        .collect()
}

/// Looks for a pattern in the bytes so far. `step` is the number for the log.
#[must_use]
pub fn judge(
    pattern: &Pattern,
    negated: bool,
    min_recv: Option<usize>,
    bytes: &[u8],
    closed: bool,
    step: usize,
) -> Verdict {
    let wanted = pattern.shortest().max(min_recv.unwrap_or(0));
    if !closed && bytes.len() < wanted {
        return Verdict::Wait;
    }
    let found = pattern.matches(bytes);
    if !found && !closed && min_recv.is_none() {
        return Verdict::Wait;
    }
    if found != negated {
        return Verdict::Next(Finding::default());
    }
    let what = if found { "matched unwanted content" } else { "did not match content" };
    let text = format!("TCPCHK {what} {} at step {step}", pattern.named());
    Verdict::Failed(CheckStatus::L7Response, Finding::text(text))
}

/// Looks for a pattern in an HTTP answer.
#[must_use]
pub fn judge_http(pattern: &Pattern, negated: bool, response: &Response) -> Verdict {
    let is_status = matches!(pattern, Pattern::Status(_) | Pattern::StatusRegex(_));
    let found =
        if is_status { pattern.matches_status(response.status) } else { pattern.matches(&response.body) };
    if !is_status && !found && !response.whole {
        return Verdict::Wait;
    }
    if !is_status && response.body.is_empty() {
        let text = "HTTP content check could not find a response body";
        return Verdict::Failed(CheckStatus::L7Response, Finding::new(response.status, text));
    }
    if found != negated {
        return Verdict::Next(Finding { code: Some(response.status), info: None });
    }
    let text = match (is_status, negated) {
        (true, _) => response.reason.as_str(),
        (false, true) => "HTTP check matched unwanted content",
        (false, false) => "HTTP content check did not match",
    };
    let status = if is_status { CheckStatus::L7Status } else { CheckStatus::L7Response };
    Verdict::Failed(status, Finding::new(response.status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Pattern {
        Pattern::Bytes(text.as_bytes().to_vec())
    }

    fn regex(text: &str) -> Pattern {
        Pattern::compile(&ExpectPattern::Regex(text.to_owned()))
    }

    fn info(verdict: Verdict) -> String {
        match verdict {
            Verdict::Failed(_, finding) => finding.info.unwrap_or_default(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_missing_text_is_waited_for_until_the_end() {
        let wait = judge(&bytes("PONG"), false, None, b"+PO", false, 2);
        assert_eq!(wait, Verdict::Wait);
        assert_eq!(judge(&bytes("PONG"), false, None, b"+PONG", false, 2), Verdict::Next(Finding::default()));
        assert_eq!(
            info(judge(&bytes("PONG"), false, None, b"-ERR", true, 2)),
            "TCPCHK did not match content 'PONG' at step 2"
        );
        // With `min-recv` the absence is final before the end.
        assert_eq!(
            info(judge(&bytes("PONG"), false, Some(4), b"-ERR", false, 3)),
            "TCPCHK did not match content 'PONG' at step 3"
        );
        assert_eq!(judge(&regex("^x"), false, Some(4), b"abc", false, 1), Verdict::Wait);
    }

    #[test]
    fn what_must_not_be_there_fails_at_once() {
        assert_eq!(
            info(judge(&regex("h.llo"), true, None, b"hello", false, 1)),
            "TCPCHK matched unwanted content (regex) at step 1"
        );
        assert_eq!(judge(&bytes("bye"), true, None, b"hello", true, 1), Verdict::Next(Finding::default()));
    }

    #[test]
    fn expressions_see_bytes_as_pcre_does() {
        assert!(regex("^\\+OK$").matches(b"+OK\n"));
        assert!(!regex("^\\+OK$").matches(b"+OK\n\n"));
        assert!(regex("a.c").matches(b"a\xffc"));
        assert!(!regex("(broken").matches(b"(broken"));
        assert!(Pattern::compile(&ExpectPattern::BinaryRegex("^FF00".to_owned())).matches(&[0xff, 0, 1]));
        // A lookahead, which HAProxy's PCRE knows.
        assert!(regex("^(?!-ERR)").matches(b"+OK"));
    }

    #[test]
    fn descriptions_are_haproxys() {
        assert_eq!(bytes("bye").describe(), " (expect string 'bye')");
        assert_eq!(Pattern::Bytes(vec![b'h', 0xff]).describe(), " (expect binary 'h<FF>')");
        assert_eq!(Pattern::Bytes(vec![0xff, 0]).describe(), " (expect binary '<FF>')");
    }

    #[test]
    fn http_answers_are_judged_by_status_or_body() {
        let response = |status, body: &str| Response {
            status,
            reason: "Reason".to_owned(),
            body: body.as_bytes().to_vec(),
            whole: true,
        };
        let status = Pattern::Status(vec![(200, 200), (300, 399)]);
        assert!(matches!(judge_http(&status, false, &response(301, "")), Verdict::Next(_)));
        assert_eq!(
            judge_http(&status, false, &response(500, "")),
            Verdict::Failed(CheckStatus::L7Status, Finding::new(500, "Reason"))
        );
        assert_eq!(
            info(judge_http(&bytes("up"), false, &response(200, "down"))),
            "HTTP content check did not match"
        );
        assert_eq!(
            info(judge_http(&bytes("up"), true, &response(200, "up"))),
            "HTTP check matched unwanted content"
        );
        assert_eq!(
            info(judge_http(&bytes("up"), true, &response(200, ""))),
            "HTTP content check could not find a response body"
        );
        let part = Response { whole: false, ..response(200, "do") };
        assert_eq!(judge_http(&bytes("down"), false, &part), Verdict::Wait);
    }
}
