//! The bytes of a journal file and of a snapshot. Little endian.
//!
//! ```text
//! journal file header, 4096 bytes
//!  0  "RWJ1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 file_seq
//! 16  16B storage_uuid
//! 32  u64 after_index    the snapshot this file builds on, 0 for none
//! 40  u32 crc32c         over bytes 0..40
//! 44  zero
//!
//! frame
//!  0  u32 magic
//!  4  u32 crc32c         over bytes 8..end with the padding, seeded with crc32c(storage_uuid, file_seq)
//!  8  u64 index
//! 16  u64 synced_to      the file was durable below this offset when the frame was built
//! 24  u8  kind           0 mark, 1 entry
//! 25  zero
//! 28  u32 payload_len
//! 32  payload, then zeros up to a multiple of 8
//!
//! snapshot file
//!  0  "RWS1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 index
//! 16  16B storage_uuid
//! 32  u64 content_len
//! 40  u32 crc32c         over bytes 0..40 and the content
//! 44  content
//! ```

use crate::le::{u32_at, u64_at};

pub(super) const HEADER_BYTES: usize = 4096;
pub(super) const FRAME_HEADER_BYTES: usize = 32;
pub(super) const ALIGN: usize = 8;

const FILE_MAGIC: &[u8; 4] = b"RWJ1";
const SNAPSHOT_MAGIC: &[u8; 4] = b"RWS1";
const FRAME_MAGIC: u32 = 0x464A_5752;
const VERSION: u16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 44;
/// Numbers of files and entries stay below this, so that counting on from them never overflows.
const LIMIT: u64 = 1 << 62;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing but the statement that what stands before it was durable.
    Mark,
    /// An entry.
    Entry,
}

/// Why a file is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unacceptable {
    Damaged,
    Newer(u16),
    Foreign,
}

pub(super) fn seed(storage_uuid: &[u8; 16], file_seq: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(storage_uuid), &file_seq.to_le_bytes())
}

pub(super) fn file_header(storage_uuid: &[u8; 16], file_seq: u64, after_index: u64) -> Vec<u8> {
    let mut header = head(FILE_MAGIC, file_seq, storage_uuid, after_index);
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    header.resize(HEADER_BYTES, 0);
    header
}

/// Checks the header of a journal file; returns its `after_index`.
pub(super) fn check_file_header(
    bytes: &[u8],
    storage_uuid: &[u8; 16],
    file_seq: u64,
) -> Result<u64, Unacceptable> {
    if bytes.len() < HEADER_BYTES || crc32c::crc32c(&bytes[..40]) != u32_at(bytes, 40) {
        return Err(Unacceptable::Damaged);
    }
    check_head(bytes, FILE_MAGIC, file_seq, storage_uuid)?;
    Ok(u64_at(bytes, 32))
}

pub(super) fn snapshot(storage_uuid: &[u8; 16], index: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = head(SNAPSHOT_MAGIC, index, storage_uuid, content.len() as u64);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), content);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// The content of a snapshot file.
pub(super) fn snapshot_content<'a>(
    bytes: &'a [u8],
    storage_uuid: &[u8; 16],
    index: u64,
) -> Result<&'a [u8], Unacceptable> {
    if bytes.len() < SNAPSHOT_HEADER_BYTES {
        return Err(Unacceptable::Damaged);
    }
    let content = &bytes[SNAPSHOT_HEADER_BYTES..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..40]), content);
    if crc != u32_at(bytes, 40) || u64_at(bytes, 32) != content.len() as u64 {
        return Err(Unacceptable::Damaged);
    }
    check_head(bytes, SNAPSHOT_MAGIC, index, storage_uuid)?;
    Ok(content)
}

fn head(magic: &[u8; 4], number: u64, storage_uuid: &[u8; 16], last: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(64);
    head.extend_from_slice(magic);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&0u16.to_le_bytes());
    head.extend_from_slice(&number.to_le_bytes());
    head.extend_from_slice(storage_uuid);
    head.extend_from_slice(&last.to_le_bytes());
    head
}

/// Checks a head whose checksum is right.
fn check_head(
    bytes: &[u8],
    magic: &[u8; 4],
    number: u64,
    storage_uuid: &[u8; 16],
) -> Result<(), Unacceptable> {
    if &bytes[..4] != magic {
        return Err(Unacceptable::Damaged);
    }
    match u16::from_le_bytes([bytes[4], bytes[5]]) {
        VERSION => {}
        version => return Err(Unacceptable::Newer(version)),
    }
    if &bytes[16..32] != storage_uuid {
        return Err(Unacceptable::Foreign);
    }
    if u64_at(bytes, 8) == number && number < LIMIT { Ok(()) } else { Err(Unacceptable::Damaged) }
}

/// A frame found in a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    pub(super) index: u64,
    pub(super) synced_to: u64,
    pub(super) kind: u8,
    pub(super) payload: &'a [u8],
    pub(super) size: usize,
}

impl Frame<'_> {
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.kind {
            0 => Some(Kind::Mark),
            1 => Some(Kind::Entry),
            _ => None,
        }
    }
}

/// Appends a frame to `out`.
pub(super) fn put(out: &mut Vec<u8>, seed: u32, kind: Kind, index: u64, synced_to: u64, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&synced_to.to_le_bytes());
    out.extend_from_slice(&[if kind == Kind::Mark { 0 } else { 1 }, 0, 0, 0]);
    // Bounded by `MAX_ENTRY_BYTES`.
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
    let size = (out.len() - start).next_multiple_of(ALIGN);
    out.resize(start + size, 0);
    let crc = crc32c::crc32c_append(seed, &out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The whole, right frame at the start of `bytes`, if there is one.
pub(super) fn parse(bytes: &[u8], seed: u32) -> Option<Frame<'_>> {
    if bytes.len() < FRAME_HEADER_BYTES || u32_at(bytes, 0) != FRAME_MAGIC {
        return None;
    }
    let payload_len = u32_at(bytes, 28) as usize;
    let size = (FRAME_HEADER_BYTES + payload_len).next_multiple_of(ALIGN);
    let frame = bytes.get(..size)?;
    if crc32c::crc32c_append(seed, &frame[8..]) != u32_at(frame, 4) {
        return None;
    }
    Some(Frame {
        index: u64_at(frame, 8),
        synced_to: u64_at(frame, 16),
        kind: frame[24],
        payload: &frame[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + payload_len],
        size,
    })
}
