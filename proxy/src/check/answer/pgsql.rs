//! PostgreSQL: the answer to a startup message (protocol 3.0) asks for authentication, or is an error.
//!
//! ```text
//!  'R' length (4) kind (4) …       authentication
//!  'E' length (4) 'S' severity 0 … error
//! ```

use super::super::status::CheckStatus;
use super::{Finding, Verdict, printable};

/// The kinds of authentication that the protocol has.
const KINDS: [u8; 9] = [0, 2, 3, 4, 5, 6, 7, 9, 10];

/// The startup message of a user.
#[must_use]
pub fn startup(user: &str) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    body.extend(b"user\0");
    body.extend(user.bytes());
    body.extend([0, 0]);
    let mut bytes = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// The answer must be no error.
#[must_use]
pub fn no_error(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < 5 && !closed {
        return Verdict::Wait;
    }
    if bytes.first() == Some(&b'E') {
        let text = bytes.get(6..).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
        return Verdict::Failed(CheckStatus::L7Response, Finding::text(printable(&text[..end])));
    }
    Verdict::Next(Finding::default())
}

/// The answer must ask for a kind of authentication we know.
#[must_use]
pub fn authentication(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < 9 && !closed {
        return Verdict::Wait;
    }
    match bytes {
        [b'R', 0, 0, 0, _, 0, 0, 0, kind, ..] if KINDS.contains(kind) => {
            Verdict::Next(Finding::new(0, "PostgreSQL server is ok"))
        }
        _ => Verdict::Failed(CheckStatus::L7Status, Finding::text("PostgreSQL unknown error")),
    }
}
