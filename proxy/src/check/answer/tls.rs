//! The answer to a client hello (`option ssl-hello-chk`): a TLS record with an alert or a handshake.

use super::super::status::CheckStatus;
use super::{Finding, Verdict};

/// A client hello in SSL 3.0's form with every cipher suite of that time, as HAProxy sends it; `seconds` is
/// the time of day.
#[must_use]
pub fn client_hello(seconds: u32) -> Vec<u8> {
    let mut suites: Vec<u8> = (0x01..=0x1b).chain(0x2f..=0x3a).flat_map(|suite| [0, suite]).collect();
    let mut body = vec![3, 0];
    body.extend(seconds.to_be_bytes());
    // The random part; 28 bytes that tell a reader of a capture who asks.
    body.extend(b"WARREN-SSLCHK\nWARREN-SSLCHK\n");
    body.push(0);
    body.extend(u16::try_from(suites.len()).unwrap_or(0).to_be_bytes());
    body.append(&mut suites);
    // One compression method: none.
    body.extend([1, 0]);
    let size = |length: usize| u16::try_from(length).unwrap_or(0).to_be_bytes();
    let mut record = vec![0x16, 3, 0];
    record.extend(size(body.len() + 4));
    record.extend([1, 0]);
    record.extend(size(body.len()));
    record.extend(body);
    record
}

/// Reads the answer.
#[must_use]
pub fn server_hello(bytes: &[u8], closed: bool) -> Verdict {
    if bytes.len() < 5 && !closed {
        return Verdict::Wait;
    }
    match bytes {
        // An alert, or a handshake.
        [0x15 | 0x16, ..] => Verdict::Next(Finding::default()),
        _ => Verdict::Failed(CheckStatus::L6Response, Finding::default()),
    }
}
