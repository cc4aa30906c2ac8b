//! Bodies of the fuzz targets in `tests/fuzz`, shared with the ordinary test over the stored corpus.
//!
//! Each takes any octets and panics when a decoder breaks a promise: what is read is written as the same octets,
//! what is cut short or has a wrong bit is refused. Checksums keep a fuzzer away from everything behind them, so
//! where there is one the octets are tried as they are and once more with right checksums.
//!
//! Whole directories are opened on the simulated disk by `broker_sim::fuzz`; here is only how few octets stand for
//! their files, which are mostly zeros.

pub use crate::datadir::fuzz::node_toml;
pub use crate::journal::fuzz::{journal_files, journal_frame, journal_octets, journal_snapshot};
pub use crate::raft_log::fuzz::{raft_item, raft_snapshot};
pub use crate::recovery::fuzz::live_set;
pub use crate::segment::fuzz::{segment_meta, sound_segment};
pub use crate::wal::fuzz::{wal_control, wal_files, wal_frame, wal_header, wal_octets};

/// The data directory that all files belong to.
pub const STORAGE_UUID: [u8; 16] = *b"a data directory";

/// In the first of the octets that stand for files: give them right checksums.
pub(crate) const SOUND: u8 = 1;

/// Makes up the octets that stand for files: a first one with flags, then each part behind its length.
pub(crate) fn pack(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = vec![SOUND];
    for part in parts {
        octets.extend_from_slice(&(part.len() as u16).to_le_bytes());
        octets.extend_from_slice(part);
    }
    octets
}

/// Undoes [`pack`] with any octets: the flags, and the parts that there are, each as long as there are octets.
pub(crate) fn unpack(octets: &[u8]) -> (u8, Vec<&[u8]>) {
    let Some((&flags, mut rest)) = octets.split_first() else { return (0, Vec::new()) };
    let mut parts = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let (part, after) = after.split_at(usize::from(u16::from_le_bytes(*len)).min(after.len()));
        parts.push(part);
        rest = after;
    }
    (flags, parts)
}

/// Octets without the zeros at their end.
pub(crate) fn trimmed(octets: &[u8]) -> &[u8] {
    &octets[..crate::le::used_len(octets)]
}

/// A header of `size` octets that begins with the first `used` of a part, and what is left of the part behind it.
pub(crate) fn behind_header(part: &[u8], used: usize, size: usize) -> Vec<u8> {
    let (header, rest) = part.split_at(used.min(part.len()));
    let mut bytes = header.to_vec();
    bytes.resize(size, 0);
    bytes.extend_from_slice(rest);
    bytes
}

/// Puts the checksum of `bytes[from..to]`, begun with `seed`, in its place.
pub(crate) fn put_crc(bytes: &mut [u8], at: usize, seed: u32, from: usize, to: usize) {
    if to <= bytes.len() && at + 4 <= bytes.len() {
        let crc = crc32c::crc32c_append(seed, &bytes[from..to]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The same octets with one wrong bit, another one for other octets.
pub(crate) fn flipped(octets: &[u8]) -> Vec<u8> {
    let mut flipped = octets.to_vec();
    let pick = crc32c::crc32c(octets) as usize;
    if let Some(octet) = flipped.get_mut(pick / 8 % octets.len().max(1)) {
        *octet ^= 1 << (pick % 8);
    }
    flipped
}
