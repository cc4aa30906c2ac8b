//! Which messages of a segment are gone: one bit per slot, written whole at a checkpoint.
//!
//! ```text
//! <first_qseq>.ack, little endian
//!  0  "RSA1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 first_qseq
//! 16  u64 lsn            the log position the bits are as of
//! 24  u32 slots
//! 28  u32 crc32c         over bytes 0..28 and the bits
//! 32  bits, lowest first
//! ```

use std::io;
use std::path::Path;

use super::SegmentError;
use crate::Lsn;
use crate::disk::{self, Disk};
use crate::le::{u32_at, u64_at};

const MAGIC: &[u8; 4] = b"RSA1";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 32;

/// One bit per slot of a segment; set when the message is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckBitmap {
    bits: Vec<u8>,
    slots: usize,
    gone: usize,
}

pub(super) fn name(first_qseq: u64) -> String {
    format!("{first_qseq:016x}.ack")
}

impl AckBitmap {
    /// All messages are there.
    #[must_use]
    pub fn new(slots: usize) -> Self {
        Self { bits: vec![0; slots.div_ceil(8)], slots, gone: 0 }
    }

    /// Marks a message as gone; false when it was, or there is no such slot.
    pub fn set(&mut self, slot: usize) -> bool {
        if slot >= self.slots || self.is_set(slot) {
            return false;
        }
        self.bits[slot / 8] |= 1 << (slot % 8);
        self.gone += 1;
        true
    }

    /// Whether the message is gone.
    #[must_use]
    pub fn is_set(&self, slot: usize) -> bool {
        self.bits.get(slot / 8).is_some_and(|byte| byte & (1 << (slot % 8)) != 0)
    }

    /// How many messages are still there.
    #[must_use]
    pub fn live(&self) -> usize {
        self.slots - self.gone
    }

    /// Writes the bitmap beside its segment, durably, replacing an older one. `lsn` is the log
    /// position it is as of.
    ///
    /// # Errors
    /// When the disk fails or is full; the older one stays then.
    pub fn write(&self, disk: &dyn Disk, dir: &Path, first_qseq: u64, lsn: Lsn) -> Result<(), SegmentError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.bits.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&0u16.to_le_bytes());
        bytes.extend_from_slice(&first_qseq.to_le_bytes());
        bytes.extend_from_slice(&lsn.to_le_bytes());
        bytes.extend_from_slice(&(self.slots as u32).to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), &self.bits);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&self.bits);
        let name = name(first_qseq);
        disk::write_atomically(disk, dir, &name, &bytes).map_err(|source| SegmentError::Io {
            doing: "write the bitmap of",
            path: dir.join(name),
            source,
        })
    }

    /// Reads the bitmap of a segment with this many slots and the position it is as of; `None` when
    /// there is none yet.
    ///
    /// # Errors
    /// When the disk fails, or the bitmap is damaged or belongs to another segment.
    pub fn read(
        disk: &dyn Disk,
        dir: &Path,
        first_qseq: u64,
        slots: usize,
    ) -> Result<Option<(Self, Lsn)>, SegmentError> {
        let path = dir.join(name(first_qseq));
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SegmentError::Io { doing: "open the bitmap of", path, source }),
        };
        let mut bytes = Vec::new();
        if let Err(source) = disk::read_file(&*file, &mut bytes) {
            return Err(SegmentError::Io { doing: "read the bitmap of", path, source });
        }
        let damaged = |part: &str| SegmentError::Damaged { path: path.clone(), part: part.to_owned() };
        if bytes.len() != HEADER_BYTES + slots.div_ceil(8) || &bytes[..4] != MAGIC {
            return Err(damaged("its bitmap"));
        }
        let bits = &bytes[HEADER_BYTES..];
        if crc32c::crc32c_append(crc32c::crc32c(&bytes[..28]), bits) != u32_at(&bytes, 28) {
            return Err(damaged("its bitmap"));
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(SegmentError::Newer { path, version });
        }
        if u64_at(&bytes, 8) != first_qseq || u32_at(&bytes, 24) as usize != slots {
            return Err(SegmentError::Foreign { path });
        }
        let gone = bits.iter().map(|byte| byte.count_ones() as usize).sum();
        if gone > slots {
            return Err(damaged("its bitmap"));
        }
        Ok(Some((Self { bits: bits.to_vec(), slots, gone }, u64_at(&bytes, 16))))
    }
}
