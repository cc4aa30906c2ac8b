//! A trailer that proves who sent an advert, between agents that share a key. Opt-in: keepalived does not
//! know it, and VRRP itself has no authentication worth the name (RFC 9568 section 9).
//!
//! ```text
//!  0                   1                   2                   3
//! |      'W'      |      'H'      |  version (1)  |   reserved    |
//! |            time of sending, microseconds since 1970           |
//! |                          (64 bits)                            |
//! |        first 16 bytes of HMAC-SHA-256 (RFC 2104)              |
//! ```
//!
//! It stands behind the VRRP packet, and the VRRP checksum covers it. The HMAC covers the source address,
//! the packet with a checksum of zero, and the first twelve bytes of the trailer. A time that is not
//! later than the last one from the same sender is a replay; clocks need not agree between hosts.

use std::fmt;
use std::net::IpAddr;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::packet::{Advert, ChecksumMode, packet_length, write_body, write_checksum};

const HEAD: usize = 12;
const MAC: usize = 16;
/// Bytes of the trailer.
pub const TRAILER: usize = HEAD + MAC;
const MAGIC: [u8; 4] = *b"WH\x01\0";
const BLOCK: usize = 64;
/// A key must not be shorter, in bytes.
pub const SHORTEST_KEY: usize = 16;

/// The shared key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// Takes a key of at least [`SHORTEST_KEY`] bytes; `None` when it is shorter.
    pub fn new(text: &str) -> Option<Self> {
        (text.len() >= SHORTEST_KEY).then(|| Self(text.as_bytes().to_vec()))
    }

    /// The text it was made of, to be handed to another process of the same agent.
    pub fn expose(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// HMAC-SHA-256 of `parts` (RFC 2104 section 2).
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut block = [0u8; BLOCK];
        if self.0.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(&self.0));
        } else {
            block[..self.0.len()].copy_from_slice(&self.0);
        }
        let mut inner = Sha256::new();
        inner.update(block.map(|byte| byte ^ 0x36));
        for part in parts {
            inner.update(part);
        }
        let mut outer = Sha256::new();
        outer.update(block.map(|byte| byte ^ 0x5c));
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Why an advert is not from a holder of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HmacError {
    /// No trailer.
    #[error("no HMAC; is `hmac_key` set on every host?")]
    Missing,
    /// Another key, or a changed packet.
    #[error("wrong HMAC")]
    Wrong,
    /// Sent before, and heard before.
    #[error("an old advert was replayed")]
    Replayed,
}

/// Like [`crate::packet::encode`], with the trailer. `time` is in microseconds since 1970 and must grow.
pub fn encode(
    key: &Key,
    advert: &Advert,
    source: IpAddr,
    destination: IpAddr,
    mode: ChecksumMode,
    time: u64,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    write_body(advert, source, out);
    let body = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&time.to_be_bytes());
    let mac = key.mac(&[&octets(source), &out[start..body], &out[body..]]);
    out.extend_from_slice(&mac[..MAC]);
    write_checksum(advert.version, source, destination, mode, &mut out[start..]);
}

/// Checks the trailer of a packet whose checksum was found right; answers the sender's time.
///
/// # Errors
///
/// [`HmacError`] when the sender does not hold the key, or the time is not later than `last`.
pub fn verify(key: &Key, payload: &[u8], source: IpAddr, last: Option<u64>) -> Result<u64, HmacError> {
    let length = packet_length(payload, source).ok_or(HmacError::Missing)?;
    let (body, trailer) = payload.split_at_checked(length).ok_or(HmacError::Missing)?;
    let trailer: &[u8; TRAILER] = trailer.try_into().map_err(|_| HmacError::Missing)?;
    let (head, mac) = trailer.split_at(HEAD);
    let (magic, time) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(HmacError::Missing);
    }
    let mut plain = body.to_vec();
    if let Some(checksum) = plain.get_mut(6..8) {
        checksum.fill(0);
    }
    let expected = key.mac(&[&octets(source), &plain, head]);
    if !bool::from(expected[..MAC].ct_eq(mac)) {
        return Err(HmacError::Wrong);
    }
    let time = time.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    if last.is_some_and(|last| time <= last) {
        return Err(HmacError::Replayed);
    }
    Ok(time)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InstanceConfig;
    use crate::packet::decode;

    fn key() -> Key {
        Key::new("a key of 16 bytes or more").unwrap()
    }

    fn sealed(time: u64) -> (Vec<u8>, Advert, IpAddr) {
        let advert = InstanceConfig::new("V", 7, vec![[10, 0, 0, 66].into()]).advert(100);
        let source: IpAddr = [10, 0, 0, 1].into();
        let mut out = Vec::new();
        encode(&key(), &advert, source, [224, 0, 0, 18].into(), ChecksumMode::PseudoHeader, time, &mut out);
        (out, advert, source)
    }

    /// RFC 4231, test case 2.
    #[test]
    fn hmac_is_the_standards() {
        let mac = Key(b"Jefe".to_vec()).mac(&[b"what do ya want ", b"for nothing?"]);
        let hex: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn a_sealed_advert_is_an_advert_and_proves_its_sender() {
        let (packet, advert, source) = sealed(1000);
        assert_eq!(decode(&packet, source, [224, 0, 0, 18].into()), Ok(advert));
        assert_eq!(verify(&key(), &packet, source, None), Ok(1000));
        assert_eq!(verify(&key(), &packet, source, Some(999)), Ok(1000));
        assert_eq!(verify(&key(), &packet, source, Some(1000)), Err(HmacError::Replayed));
        assert_eq!(verify(&key(), &packet, [10, 0, 0, 2].into(), None), Err(HmacError::Wrong));
        let other = Key::new("another key of 16 bytes").unwrap();
        assert_eq!(verify(&other, &packet, source, None), Err(HmacError::Wrong));
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let (packet, _, source) = sealed(1000);
        for at in (0..packet.len()).filter(|at| !(6..8).contains(at)) {
            let mut changed = packet.clone();
            changed[at] ^= 1;
            assert!(verify(&key(), &changed, source, None).is_err(), "byte {at}");
            assert!(verify(&key(), &packet[..at], source, None).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn keys_are_long_and_do_not_show() {
        assert_eq!(Key::new("short"), None);
        assert_eq!(format!("{:?}", key()), "Key(…)");
    }
}
