//! SMTP replies (RFC 5321 section 4.2): three digits, then a space before the text of the last line or a
//! hyphen before that of another.

use super::super::status::CheckStatus;
use super::{Finding, Verdict, first_line, printable};

/// Enough to see the digits and what follows.
const SHORTEST: usize = 4;

/// The greeting must begin as a reply.
#[must_use]
pub fn is_reply(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < SHORTEST && !closed {
        return Verdict::Wait;
    }
    match bytes {
        [a, b, c, b' ' | b'-' | b'\r', ..] if [a, b, c].iter().all(|digit| digit.is_ascii_digit()) => {
            Verdict::Next(Finding::default())
        }
        _ => Verdict::Failed(CheckStatus::L7Response, Finding::text(printable(first_line(bytes)))),
    }
}

/// A reply of the 2xx kind, whole.
#[must_use]
pub fn positive(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < SHORTEST && !closed {
        return Verdict::Wait;
    }
    let code = std::str::from_utf8(&bytes[..bytes.len().min(3)]).ok().and_then(|text| text.parse().ok());
    let text = printable(first_line(bytes.get(SHORTEST..).unwrap_or_default())).trim_start().to_owned();
    let finding = Finding { code, info: Some(text) };
    let mut rest = bytes;
    loop {
        match rest {
            [b'2', a, b, end, ..] if a.is_ascii_digit() && b.is_ascii_digit() => match end {
                b' ' | b'\r' => return Verdict::Next(finding),
                b'-' => {}
                _ => break,
            },
            _ if rest.len() < SHORTEST && !closed => return Verdict::Wait,
            _ => break,
        }
        match rest.windows(2).position(|pair| pair == b"\r\n") {
            Some(end) => rest = &rest[end + 2..],
            None if closed => break,
            None => return Verdict::Wait,
        }
    }
    Verdict::Failed(CheckStatus::L7Status, finding)
}
