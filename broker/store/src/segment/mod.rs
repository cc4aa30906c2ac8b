//! Segment files: where messages go that outlive the write-ahead log.
//!
//! A segment holds messages of one queue in ascending `qseq`, at most [`MOST_MESSAGES`] or
//! [`MOST_BYTES`] (a single larger message gets a file of its own). It is written whole: under a
//! temporary name, synced, renamed, the directory synced. Only then may the log say so (`SEGADD`),
//! and only when that record is durable may the log's copies be released. A segment never changes;
//! which of its messages are gone is in the log, which says so again before its old files are released.
//!
//! ```text
//! <first_qseq>.dat, little endian
//!
//! header, 64 bytes
//!  0  "RSG1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 queue_id
//! 16  u64 first_qseq
//! 24  u64 last_qseq
//! 32  16B storage_uuid
//! 48  u32 crc32c         over bytes 0..48
//! 52  zero
//!
//! per message
//!  0  u32 crc32c         over the record
//!  4  ENQ record
//!
//! index, 16 bytes per message
//!  0  u32 qseq - first_qseq
//!  4  u32 offset         of the checksum, from the start of the file
//!  8  u32 len            checksum and record
//! 12  u16 expiry         seconds after the earliest expiry, rounded up; u16::MAX for "that or later"
//! 14  u8  priority
//! 15  u8  flags          1 has an expiry, 2 has a priority
//!
//! footer, 64 bytes
//!  0  "RSGF"
//!  4  u32 messages
//!  8  u64 index_offset
//! 16  u64 earliest expiry, milliseconds since 1970; 0 for none
//! 24  u64 latest expiry, 0 for none
//! 32  u32 crc32c of the index
//! 36  u32 crc32c of the header
//! 40  u64 body bytes
//! 48  u32 crc32c         over bytes 0..48
//! 52  zero
//! ```

pub(crate) mod fuzz;
mod read;

use std::io;
use std::path::{Path, PathBuf};

use broker_core::record::{Enq, Record};
use thiserror::Error;

pub use self::read::{IndexEntry, Segment, SegmentIndex};
use crate::disk::{self, Disk};

/// The most messages in a segment.
pub const MOST_MESSAGES: usize = 16_384;
/// The most bytes of messages in a segment with more than one.
pub const MOST_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 4] = b"RSG1";
const FOOTER_MAGIC: &[u8; 4] = b"RSGF";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 64;
const FOOTER_BYTES: usize = 64;
const INDEX_BYTES: usize = 16;
/// What a message takes beside what it consists of, about.
const ROOM_EACH: usize = 48;
const HAS_EXPIRY: u8 = 1;
const HAS_PRIORITY: u8 = 2;

/// Why a segment cannot be used.
#[derive(Debug, Error)]
pub enum SegmentError {
    /// The disk failed, or the file is not there.
    #[error("cannot {doing} segment {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A part of it is damaged.
    #[error("segment {path} is damaged: {part}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which part.
        part: String,
    },
    /// A newer program wrote it.
    #[error("segment {path} has format version {version}; this program knows {VERSION}")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
    /// It belongs to another data directory or another queue.
    #[error("segment {path} belongs to another queue or data directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

impl SegmentError {
    /// Whether it could not be written for lack of room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, SegmentError::Io { source, .. } if disk::is_full(source))
    }
}

/// What is remembered of a segment without opening it; goes into the log with `SEGADD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentMeta {
    /// The queue.
    pub queue_id: u64,
    /// Its first message; names the file.
    pub first_qseq: u64,
    /// Its last message.
    pub last_qseq: u64,
    /// How many messages.
    pub messages: u32,
    /// Bytes of messages.
    pub bytes: u64,
    /// Bytes of bodies among them.
    pub body_bytes: u64,
    /// The earliest expiry of a message, milliseconds since 1970.
    pub earliest_expiry_ms: Option<u64>,
}

impl SegmentMeta {
    /// The description for `SEGADD`: what the record does not say itself.
    #[must_use]
    pub fn encode(&self) -> [u8; 28] {
        let mut bytes = [0; 28];
        bytes[0..4].copy_from_slice(&self.messages.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.earliest_expiry_ms.unwrap_or(0).to_le_bytes());
        bytes[20..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes
    }

    /// Reads it back out of a `SEGADD`; `None` when it is malformed.
    #[must_use]
    pub fn decode(queue_id: u64, first_qseq: u64, last_qseq: u64, meta: &[u8]) -> Option<Self> {
        if meta.len() != 28 {
            return None;
        }
        let expiry = crate::le::u64_at(meta, 12);
        let decoded = Self {
            queue_id,
            first_qseq,
            last_qseq,
            messages: crate::le::u32_at(meta, 0),
            bytes: crate::le::u64_at(meta, 4),
            body_bytes: crate::le::u64_at(meta, 20),
            earliest_expiry_ms: (expiry != 0).then_some(expiry),
        };
        decoded.is_possible().then_some(decoded)
    }

    /// Whether there can be such a segment: counters are made from what it says.
    fn is_possible(&self) -> bool {
        // Where the last message starts, and how long it is, are numbers of 32 bits.
        const MOST: u64 = 2 * u32::MAX as u64;
        let spanned = self.last_qseq.checked_sub(self.first_qseq);
        self.messages > 0
            && spanned.is_some_and(|spanned| spanned >= u64::from(self.messages) - 1)
            && self.body_bytes <= self.bytes
            && self.bytes <= MOST
    }
}

/// Collects the messages of a segment and writes it.
#[derive(Debug)]
pub struct SegmentBuilder {
    queue_id: u64,
    storage_uuid: [u8; 16],
    /// The header's room, then the messages.
    bytes: Vec<u8>,
    body_bytes: u64,
    index: Vec<Slot>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    qseq: u64,
    offset: u32,
    len: u32,
    expiry_ms: Option<u64>,
    priority: Option<u8>,
}

impl SegmentBuilder {
    /// An empty segment of this queue.
    #[must_use]
    pub fn new(queue_id: u64, storage_uuid: [u8; 16]) -> Self {
        Self { queue_id, storage_uuid, bytes: vec![0; HEADER_BYTES], body_bytes: 0, index: Vec::new() }
    }

    /// Makes room at once for so many more messages, with so many octets of properties, keys and bodies together.
    pub fn reserve(&mut self, messages: usize, octets: usize) {
        self.bytes.reserve(messages * (ROOM_EACH + INDEX_BYTES) + octets + FOOTER_BYTES);
        self.index.reserve(messages);
    }

    /// How many messages it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Adds a message and returns true, or returns false when it belongs into the next segment: this
    /// one is full, or too far below it.
    ///
    /// # Panics
    /// When the message is of another queue or not above the last one: the caller goes through one
    /// queue in order.
    pub fn push(&mut self, enq: &Enq<'_>) -> bool {
        assert_eq!(enq.queue_id, self.queue_id, "a segment holds one queue");
        let size = self.bytes.len() - HEADER_BYTES + enq.message.body.len() + enq.message.properties.len();
        if let (Some(first), Some(last)) = (self.index.first(), self.index.last()) {
            assert!(enq.qseq > last.qseq, "messages come in order");
            let too_far = enq.qseq - first.qseq > u64::from(u32::MAX);
            if too_far || self.index.len() >= MOST_MESSAGES || size > MOST_BYTES {
                return false;
            }
        }
        let offset = self.bytes.len();
        self.body_bytes += enq.message.body.len() as u64;
        self.bytes.extend_from_slice(&[0; 4]);
        Record::Enq(*enq).encode(&mut self.bytes);
        let crc = crc32c::crc32c(&self.bytes[offset + 4..]);
        self.bytes[offset..offset + 4].copy_from_slice(&crc.to_le_bytes());
        // Both fit: only the first message can be large, and it is bounded by what the log takes.
        self.index.push(Slot {
            qseq: enq.qseq,
            offset: offset as u32,
            len: (self.bytes.len() - offset) as u32,
            expiry_ms: enq.message.expiry_ms,
            priority: enq.message.priority,
        });
        true
    }

    /// Writes the segment into its queue's directory, durably; `None` when it is empty.
    ///
    /// # Errors
    /// When the disk fails or is full; then there is no segment.
    pub fn write(self, disk: &dyn Disk, dir: &Path) -> Result<Option<SegmentMeta>, SegmentError> {
        self.write_by(disk, dir, disk::write_atomically)
    }

    /// As [`SegmentBuilder::write`], for messages that need not survive the process.
    ///
    /// # Errors
    /// When the disk fails or is full; then there is no segment.
    pub fn write_unsynced(self, disk: &dyn Disk, dir: &Path) -> Result<Option<SegmentMeta>, SegmentError> {
        self.write_by(disk, dir, |disk, dir, name, content| {
            disk.create(&dir.join(name)).and_then(|file| file.write_at(content, 0))
        })
    }

    fn write_by(
        mut self,
        disk: &dyn Disk,
        dir: &Path,
        write: impl Fn(&dyn Disk, &Path, &str, &[u8]) -> io::Result<()>,
    ) -> Result<Option<SegmentMeta>, SegmentError> {
        let (Some(first), Some(last)) = (self.index.first().copied(), self.index.last().copied()) else {
            return Ok(None);
        };
        let meta = SegmentMeta {
            queue_id: self.queue_id,
            first_qseq: first.qseq,
            last_qseq: last.qseq,
            messages: self.index.len() as u32,
            bytes: (self.bytes.len() - HEADER_BYTES) as u64,
            body_bytes: self.body_bytes,
            earliest_expiry_ms: self.index.iter().filter_map(|slot| slot.expiry_ms).min(),
        };
        self.put_header(&meta);
        self.put_index(&meta);
        let name = data_name(first.qseq);
        write(disk, dir, &name, &self.bytes).map_err(|source| {
            // What was written of it is space that others need.
            for left in [dir.join(format!("{name}.tmp")), dir.join(&name)] {
                let _ = disk.remove(&left);
            }
            SegmentError::Io { doing: "write", path: dir.join(&name), source }
        })?;
        Ok(Some(meta))
    }

    fn put_header(&mut self, meta: &SegmentMeta) {
        let header = &mut self.bytes[..HEADER_BYTES];
        header[0..4].copy_from_slice(MAGIC);
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
        header[8..16].copy_from_slice(&meta.queue_id.to_le_bytes());
        header[16..24].copy_from_slice(&meta.first_qseq.to_le_bytes());
        header[24..32].copy_from_slice(&meta.last_qseq.to_le_bytes());
        header[32..48].copy_from_slice(&self.storage_uuid);
        let crc = crc32c::crc32c(&header[..48]);
        header[48..52].copy_from_slice(&crc.to_le_bytes());
    }

    fn put_index(&mut self, meta: &SegmentMeta) {
        let index_offset = self.bytes.len();
        let earliest = meta.earliest_expiry_ms.unwrap_or(0);
        for slot in &self.index {
            let after_ms = slot.expiry_ms.map_or(0, |expiry| expiry - earliest);
            let after_s = u16::try_from(after_ms.div_ceil(1000)).unwrap_or(u16::MAX);
            let has_expiry = if slot.expiry_ms.is_some() { HAS_EXPIRY } else { 0 };
            let has_priority = if slot.priority.is_some() { HAS_PRIORITY } else { 0 };
            // The span of a segment fits, `push` has seen to it.
            let delta = (slot.qseq - meta.first_qseq) as u32;
            self.bytes.extend_from_slice(&delta.to_le_bytes());
            self.bytes.extend_from_slice(&slot.offset.to_le_bytes());
            self.bytes.extend_from_slice(&slot.len.to_le_bytes());
            self.bytes.extend_from_slice(&after_s.to_le_bytes());
            self.bytes.extend_from_slice(&[slot.priority.unwrap_or(0), has_expiry | has_priority]);
        }
        let index_crc = crc32c::crc32c(&self.bytes[index_offset..]);
        let header_crc = crc32c::crc32c(&self.bytes[..HEADER_BYTES]);
        let latest = self.index.iter().filter_map(|slot| slot.expiry_ms).max().unwrap_or(0);
        let footer = self.bytes.len();
        self.bytes.extend_from_slice(FOOTER_MAGIC);
        self.bytes.extend_from_slice(&meta.messages.to_le_bytes());
        self.bytes.extend_from_slice(&(index_offset as u64).to_le_bytes());
        self.bytes.extend_from_slice(&earliest.to_le_bytes());
        self.bytes.extend_from_slice(&latest.to_le_bytes());
        self.bytes.extend_from_slice(&index_crc.to_le_bytes());
        self.bytes.extend_from_slice(&header_crc.to_le_bytes());
        self.bytes.extend_from_slice(&meta.body_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&self.bytes[footer..]);
        self.bytes.extend_from_slice(&crc.to_le_bytes());
        self.bytes.resize(footer + FOOTER_BYTES, 0);
    }
}

/// The directory of a queue's segments, below the data directory's `seg`.
#[must_use]
pub fn queue_dir(segments: &Path, queue_id: u64) -> PathBuf {
    segments.join(format!("{queue_id:016x}"))
}

/// Creates the directory of a queue's segments, durably.
///
/// # Errors
/// When the disk fails.
pub fn create_queue_dir(disk: &dyn Disk, segments: &Path, queue_id: u64) -> Result<PathBuf, SegmentError> {
    let dir = queue_dir(segments, queue_id);
    disk.create_dir(&dir).and_then(|()| disk.sync_dir(segments)).map_err(|source| SegmentError::Io {
        doing: "create the directory of",
        path: dir.clone(),
        source,
    })?;
    Ok(dir)
}

/// Removes a segment; one that is gone already is fine.
///
/// # Errors
/// When the disk fails.
pub fn remove(disk: &dyn Disk, dir: &Path, first_qseq: u64) -> Result<(), SegmentError> {
    let path = dir.join(data_name(first_qseq));
    match disk.remove(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(SegmentError::Io { doing: "remove", path, source })
        }
        _ => Ok(()),
    }
}

/// The first messages of the segments in a queue's directory, ascending. Left-over temporary files
/// are removed.
///
/// # Errors
/// When the disk fails.
pub fn list(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>, SegmentError> {
    let io = |doing| move |source| SegmentError::Io { doing, path: dir.to_owned(), source };
    let mut segments = Vec::new();
    for name in disk.list(dir).map_err(io("list"))? {
        if let Some(digits) = name.strip_suffix(".dat").filter(|digits| digits.len() == 16) {
            segments.extend(u64::from_str_radix(digits, 16));
        } else if name.ends_with(".tmp") {
            disk.remove(&dir.join(name)).map_err(io("clean up"))?;
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

fn data_name(first_qseq: u64) -> String {
    format!("{first_qseq:016x}.dat")
}

#[cfg(test)]
mod tests;
