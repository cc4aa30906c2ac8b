//! Hash functions of `hash-type`, with HAProxy's results, so that a client stays on the server it had
//! behind HAProxy.

use std::net::IpAddr;

use crate::config::HashFunction;

/// Hashes a key.
#[must_use]
pub fn key(function: HashFunction, bytes: &[u8]) -> u32 {
    match function {
        HashFunction::Sdbm => sdbm(bytes),
        HashFunction::Djb2 => djb2(bytes),
        HashFunction::Wt6 => wt6(bytes),
        HashFunction::Crc32 => crc32(bytes),
        // The key is a number in big-endian order; its low 32 bits count.
        HashFunction::None => bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)),
    }
}

/// The `avalanche` step: spreads close values over the whole range (Bob Jenkins' 32-bit integer hash
/// with a multiplication by a large prime behind it).
#[must_use]
pub fn avalanche(value: u32) -> u32 {
    let mut mixed = value;
    mixed = mixed.wrapping_add(0x7ed5_5d16).wrapping_add(mixed << 12);
    mixed = mixed ^ 0xc761_c23c ^ (mixed >> 19);
    mixed = mixed.wrapping_add(0x1656_67b1).wrapping_add(mixed << 5);
    mixed = mixed.wrapping_add(0xd3a2_646c) ^ (mixed << 9);
    mixed = mixed.wrapping_add(0xfd70_46c5).wrapping_add(mixed << 3);
    mixed = mixed ^ 0xb55a_4f09 ^ (mixed >> 16);
    mixed.wrapping_mul(3_221_225_473)
}

/// `balance source` looks at the address as 32-bit words, combined by exclusive or.
#[must_use]
pub fn source(client: IpAddr) -> u32 {
    match client.to_canonical() {
        IpAddr::V4(ip) => u32::from(ip),
        IpAddr::V6(ip) => {
            ip.octets().as_chunks::<4>().0.iter().fold(0, |hash, word| hash ^ u32::from_be_bytes(*word))
        }
    }
}

fn sdbm(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0u32, |hash, byte| {
        u32::from(*byte).wrapping_add(hash << 6).wrapping_add(hash << 16).wrapping_sub(hash)
    })
}

fn djb2(bytes: &[u8]) -> u32 {
    bytes.iter().fold(5381u32, |hash, byte| (hash << 5).wrapping_add(hash).wrapping_add(u32::from(*byte)))
}

/// Two words that turn by amounts taken from themselves.
fn wt6(bytes: &[u8]) -> u32 {
    let (mut first, mut second) = (0xa53c_965a_u32, 0x5ca6_953a_u32);
    let (mut turn_first, mut turn_second) = (6, 18);
    for byte in bytes {
        let byte = u32::from(*byte);
        let mixed = !(first ^ byte);
        let added = !second.wrapping_add(byte);
        first = added.rotate_left(turn_first);
        second = mixed.rotate_left(turn_second);
        let turns = ((first >> 16) ^ second) & 0xffff;
        (turn_first, turn_second) = (turns & 0x1f, turns >> 11);
    }
    first ^ second
}

/// CRC-32 as in Ethernet and zip.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        // The check value every CRC-32 catalogue gives.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(djb2(b""), 5381);
        assert_eq!(djb2(b"a"), 5381 * 33 + 97);
        assert_eq!(sdbm(b"a"), 97);
        assert_eq!(sdbm(b"ab"), 97 * 65599 + 98);
        assert_eq!(source("10.0.0.1".parse().unwrap()), 0x0a00_0001);
        assert_eq!(source("::ffff:10.0.0.1".parse().unwrap()), 0x0a00_0001);
        assert_eq!(source("2001:db8::1".parse().unwrap()), 0x2001_0db8 ^ 1);
    }

    #[test]
    fn the_avalanche_has_no_two_values_alike() {
        let mut seen: Vec<u32> = (0..10_000).map(avalanche).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
    }
}
