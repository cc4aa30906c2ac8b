//! LDAP: the answer to an anonymous bind (RFC 4511 section 4.2.2), in BER.
//!
//! ```text
//!  30 len  02 01 01  61 len  0a 01 resultCode …
//!  message  id 1     bindResponse
//! ```

use super::super::status::CheckStatus;
use super::{Finding, Verdict};

/// An anonymous bind, version 3, message 1.
pub const BIND: &[u8] = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00";

/// Shortest whole answer.
pub const SHORTEST: usize = 14;

const NOT_LDAP: &str = "Not LDAPv3 protocol";

/// Reads the answer to the bind.
#[must_use]
pub fn bind_response(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < SHORTEST && !closed {
        return Verdict::Wait;
    }
    let failed = |text: &str| Verdict::Failed(CheckStatus::L7Response, Finding::text(text));
    if bytes.first() != Some(&0x30) {
        return failed(NOT_LDAP);
    }
    let (message, whole) = match length(&bytes[1..]) {
        Length::Known(size, rest) => (rest, rest.len() >= size),
        Length::Short => (&[][..], false),
        Length::Strange => return failed(NOT_LDAP),
    };
    if !whole {
        return if closed {
            Verdict::Failed(CheckStatus::L7Response, Finding::default())
        } else {
            Verdict::Wait
        };
    }
    match result_code(message) {
        None => failed(NOT_LDAP),
        Some(0) => Verdict::Next(Finding::new(0, "Success")),
        Some(code) => Verdict::Failed(
            CheckStatus::L7Status,
            Finding::new(u16::from(code), "See RFC: http://tools.ietf.org/html/rfc4511#section-4.1.9"),
        ),
    }
}

enum Length<'a> {
    Known(usize, &'a [u8]),
    Short,
    Strange,
}

/// A BER length: one byte, or a count of two or four bytes that follow.
fn length(bytes: &[u8]) -> Length<'_> {
    match bytes {
        [] => Length::Short,
        [short @ 0..=0x7f, rest @ ..] => Length::Known(usize::from(*short), rest),
        [0x82, high, low, rest @ ..] => Length::Known(usize::from(*high) << 8 | usize::from(*low), rest),
        [0x84, a, b, c, d, rest @ ..] => {
            Length::Known(usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX), rest)
        }
        [0x82 | 0x84, ..] => Length::Short,
        _ => Length::Strange,
    }
}

fn result_code(message: &[u8]) -> Option<u8> {
    let response = message.strip_prefix(&[0x02, 0x01, 0x01, 0x61])?;
    let (first, rest) = response.split_first()?;
    let skip = if first & 0x80 == 0 { 0 } else { usize::from(first & 0x7f) };
    match rest.get(skip..)? {
        [0x0a, 0x01, code, ..] => Some(*code),
        _ => None,
    }
}
