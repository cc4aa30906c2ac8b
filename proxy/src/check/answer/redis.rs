//! Redis: `+PONG` to a PING.

use super::super::status::CheckStatus;
use super::{Finding, Verdict, first_line, printable};

/// PING as an array of one string.
pub const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

const PONG: &[u8] = b"+PONG\r\n";

/// Reads the answer to PING. As in HAProxy another answer is only final when the server hangs up.
#[must_use]
pub fn pong(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.windows(PONG.len()).any(|part| part == PONG) {
        Verdict::Next(Finding::text("Redis server is ok"))
    } else if closed {
        Verdict::Failed(CheckStatus::L7Status, Finding::text(printable(first_line(bytes))))
    } else {
        Verdict::Wait
    }
}
