//! The bytes of a log file: its header and its frames. Little endian.
//!
//! ```text
//! file header, 4096 bytes
//!  0  "RWL1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 file_seq
//! 16  16B storage_uuid
//! 32  u64 created_ms
//! 40  u32 crc32c         over bytes 0..40
//! 44  zero
//!
//! frame = one group commit = the atomic unit
//!  0  u32 magic
//!  4  u32 crc32c         over bytes 8..end with the padding, seeded with crc32c(storage_uuid, file_seq)
//!  8  u64 file_seq       a recycled file still holds old frames; they fail this check and the seed
//! 16  u64 first_lsn      the previous frame's last + 1
//! 24  u64 synced_lsn     highest position known durable when this frame was built
//! 32  u32 n_records
//! 36  u32 payload_len
//! 40  records, then zeros up to a multiple of 8
//! ```

use thiserror::Error;

use crate::Lsn;
use crate::le::{u32_at, u64_at};

/// Where the frames of a file start.
pub(crate) const HEADER_BYTES: usize = 4096;
/// Where a frame's records start.
pub(crate) const FRAME_HEADER_BYTES: usize = 40;
/// Frames start at multiples of this.
pub(crate) const ALIGN: usize = 8;

const FILE_MAGIC: &[u8; 4] = b"RWL1";
const VERSION: u16 = 1;
pub(super) const FRAME_MAGIC: u32 = 0x314D_5246;

/// Why the header of a log file is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HeaderError {
    /// Shorter than a header, wrong magic or wrong checksum.
    #[error("its header is damaged")]
    Damaged,
    /// Written by a newer version.
    #[error("its format version is {0}; this program knows {VERSION}")]
    Newer(u16),
    /// It belongs to another data directory.
    #[error("it belongs to another data directory (its storage id differs)")]
    Foreign,
    /// Its name and its header disagree.
    #[error("its header says it is file {0:#x}")]
    Misnamed(u64),
}

/// The seed of the checksums of one file's frames.
pub(crate) fn seed(storage_uuid: &[u8; 16], file_seq: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(storage_uuid), &file_seq.to_le_bytes())
}

pub(crate) fn file_header(storage_uuid: &[u8; 16], file_seq: u64, created_ms: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(FILE_MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&0u16.to_le_bytes());
    header.extend_from_slice(&file_seq.to_le_bytes());
    header.extend_from_slice(storage_uuid);
    header.extend_from_slice(&created_ms.to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header.resize(HEADER_BYTES, 0);
    header
}

pub(crate) fn check_file_header(
    bytes: &[u8],
    storage_uuid: &[u8; 16],
    file_seq: u64,
) -> Result<(), HeaderError> {
    if bytes.len() < HEADER_BYTES || &bytes[..4] != FILE_MAGIC {
        return Err(HeaderError::Damaged);
    }
    if crc32c::crc32c(&bytes[..40]) != u32_at(bytes, 40) {
        return Err(HeaderError::Damaged);
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(HeaderError::Newer(version));
    }
    if &bytes[16..32] != storage_uuid {
        return Err(HeaderError::Foreign);
    }
    match u64_at(bytes, 8) {
        seq if seq == file_seq => Ok(()),
        seq => Err(HeaderError::Misnamed(seq)),
    }
}

/// Bytes a frame with this many bytes of records takes in the file.
pub(crate) fn frame_bytes(payload_len: usize) -> usize {
    (FRAME_HEADER_BYTES + payload_len).next_multiple_of(ALIGN)
}

/// What a frame's header says, apart from what only the file needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) first_lsn: Lsn,
    pub(crate) synced_lsn: Lsn,
    pub(crate) n_records: u32,
}

/// Completes a frame in place: `frame` holds room for the header and then the records.
pub(crate) fn seal(frame: &mut Vec<u8>, seed: u32, file_seq: u64, head: FrameHead) {
    let payload_len = frame.len() - FRAME_HEADER_BYTES;
    frame.resize(frame_bytes(payload_len), 0);
    frame[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
    frame[8..16].copy_from_slice(&file_seq.to_le_bytes());
    frame[16..24].copy_from_slice(&head.first_lsn.to_le_bytes());
    frame[24..32].copy_from_slice(&head.synced_lsn.to_le_bytes());
    frame[32..36].copy_from_slice(&head.n_records.to_le_bytes());
    // An append is bounded far below 4 GiB (`MAX_APPEND_BYTES`), and so is a frame.
    frame[36..40].copy_from_slice(&(payload_len as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(seed, &frame[8..]);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Undoes [`seal`]'s padding, so that a frame can be sealed again for another file.
pub(crate) fn unseal(frame: &mut Vec<u8>, payload_len: usize) {
    frame.truncate(FRAME_HEADER_BYTES + payload_len);
}

/// A frame found in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) head: FrameHead,
    pub(crate) payload: &'a [u8],
    /// All of it.
    pub(crate) octets: &'a [u8],
    /// Bytes it takes in the file.
    pub(crate) size: usize,
}

/// Whether a frame of this file was begun here.
pub(crate) fn is_begun(bytes: &[u8], file_seq: u64) -> bool {
    bytes.len() >= FRAME_HEADER_BYTES && u32_at(bytes, 0) == FRAME_MAGIC && u64_at(bytes, 8) == file_seq
}

/// How many of these bytes a frame begun here claims to take.
pub(crate) fn claimed_bytes(bytes: &[u8]) -> usize {
    frame_bytes(u32_at(bytes, 36) as usize).min(bytes.len())
}

/// The whole, right frame at the start of `bytes`, if there is one.
pub(crate) fn parse(bytes: &[u8], seed: u32, file_seq: u64) -> Option<Frame<'_>> {
    if !is_begun(bytes, file_seq) {
        return None;
    }
    let payload_len = u32_at(bytes, 36) as usize;
    let size = frame_bytes(payload_len);
    let frame = bytes.get(..size)?;
    if crc32c::crc32c_append(seed, &frame[8..]) != u32_at(frame, 4) {
        return None;
    }
    let head = FrameHead {
        first_lsn: u64_at(frame, 16),
        synced_lsn: u64_at(frame, 24),
        n_records: u32_at(frame, 32),
    };
    Some(Frame {
        head,
        payload: &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_len],
        octets: frame,
        size,
    })
}
