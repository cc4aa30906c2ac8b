//! Reading little-endian numbers out of a slice that is known to be long enough, and finding where
//! a slice's zeros begin.

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes make a u32"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes make a u64"))
}

/// How many bytes there are up to the last one that is not zero.
pub(crate) fn used_len(bytes: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut len = bytes.len();
    // Comparing blocks is far faster than looking at single bytes.
    while len >= BLOCK && bytes[len - BLOCK..len] == ZEROS {
        len -= BLOCK;
    }
    bytes[..len].iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)
}
