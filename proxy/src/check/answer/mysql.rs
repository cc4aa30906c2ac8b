//! MySQL: packets of a three-byte length, a sequence number and a payload (protocol 4.1, "packets").
//!
//! ```text
//!  length (3, little endian)  sequence (1)  payload
//!  payload of an error:  0xff, error number (2), then text
//!  payload of a greeting: 10, version up to a zero byte, …
//! ```

use super::super::status::CheckStatus;
use super::{Finding, Verdict, printable};

/// Looks at the packet that begins at `offset`. The last one of a check names the server's version,
/// which stands in the first packet.
#[must_use]
pub fn packet(bytes: &[u8], offset: usize, closed: bool, is_last: bool) -> Verdict {
    let Some(packet) = cut(bytes, offset) else {
        return if closed {
            Verdict::Failed(CheckStatus::L7Response, Finding::default())
        } else {
            Verdict::Wait
        };
    };
    match packet {
        [0xff, low, high, text @ ..] => {
            let code = u16::from_le_bytes([*low, *high]);
            Verdict::Failed(CheckStatus::L7Status, Finding::new(code, printable(text)))
        }
        [0xff, ..] => Verdict::Failed(CheckStatus::L7Status, Finding::default()),
        _ if is_last => Verdict::Next(Finding::text(version(bytes))),
        _ => Verdict::Next(Finding::default()),
    }
}

/// Looks at the packet behind the greeting: the answer to the login.
#[must_use]
pub fn second_packet(bytes: &[u8], closed: bool, is_last: bool) -> Verdict {
    let offset = length(bytes).map_or(0, |length| length + 4);
    packet(bytes, offset, closed, is_last)
}

/// The login of a user without a password, and the goodbye behind it, as HAProxy sends them.
#[must_use]
pub fn login(user: &str, before_41: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    if before_41 {
        // Capabilities: secure connection (0x8000); largest packet 1 << 16.
        payload.extend([0x00, 0x80, 0x00, 0x00, 0x01]);
        payload.extend(user.bytes());
        payload.extend([0, 0]);
    } else {
        // Capabilities: protocol 4.1 (0x0200), secure connection (0x8000); largest packet; charset utf8.
        payload.extend([0x00, 0x82, 0x00, 0x00, 0x00, 0x80, 0x00, 0x01, 0x21]);
        payload.extend([0; 23]);
        payload.extend(user.bytes());
        payload.extend([0, 0]);
    }
    let length = u32::try_from(payload.len()).unwrap_or(0).to_le_bytes();
    let mut bytes = vec![length[0], length[1], length[2], 1];
    bytes.extend(payload);
    // COM_QUIT.
    bytes.extend([1, 0, 0, 0, 1]);
    bytes
}

fn length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..3)?;
    Some(usize::from(head[0]) | usize::from(head[1]) << 8 | usize::from(head[2]) << 16)
}

/// The payload of a whole packet.
fn cut(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let length = length(rest)?;
    rest.get(4..)?.get(..length)
}

/// The version in the greeting.
fn version(bytes: &[u8]) -> String {
    let text = bytes.get(5..).unwrap_or_default();
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    printable(&text[..end])
}
