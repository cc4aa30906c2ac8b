//! Reading segments: the footer when it is opened, the index and messages when they are needed.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::record::{Enq, Record};

use super::{
    FOOTER_BYTES, FOOTER_MAGIC, HAS_EXPIRY, HAS_PRIORITY, HEADER_BYTES, INDEX_BYTES, MAGIC, SegmentError,
    SegmentMeta, VERSION, data_name,
};
use crate::disk::{Disk, DiskFile};
use crate::le::{u32_at, u64_at};

/// An open segment. Opening reads 128 bytes.
pub struct Segment {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    meta: SegmentMeta,
    index_offset: u64,
    index_crc: u32,
}

/// A segment's index: one entry per message, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentIndex {
    entries: Vec<IndexEntry>,
}

/// Where a message is in its segment, and what is needed without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// Its position in the queue.
    pub qseq: u64,
    /// It expires at this time or up to a second before it (milliseconds since 1970); with
    /// `u64::MAX`, some time far ahead that its record says.
    pub expiry_ms: Option<u64>,
    /// Its priority, if it has one.
    pub priority: Option<u8>,
    offset: u32,
    len: u32,
}

impl IndexEntry {
    /// Bytes the message takes in the file.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len as usize
    }
}

impl SegmentIndex {
    /// The entries, by ascending `qseq`. A message's place in this list is its slot.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The slot of a message.
    #[must_use]
    pub fn slot(&self, qseq: u64) -> Option<usize> {
        self.entries.binary_search_by_key(&qseq, |entry| entry.qseq).ok()
    }

    /// The first slot at or behind `qseq`.
    #[must_use]
    pub fn slot_from(&self, qseq: u64) -> usize {
        self.entries.partition_point(|entry| entry.qseq < qseq)
    }

    /// The slots from `from` on whose messages take at most `bytes` together; at least one, if there
    /// is one.
    #[must_use]
    pub fn window(&self, from: usize, bytes: usize) -> Range<usize> {
        let from = from.min(self.entries.len());
        let mut sum = 0;
        let fits = self.entries[from..].iter().take_while(|entry| {
            sum += entry.bytes();
            sum <= bytes
        });
        let count = fits.count().max(1).min(self.entries.len() - from);
        from..from + count
    }
}

impl Segment {
    /// Opens the segment of a queue that starts at `first_qseq` and checks its header and footer.
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        storage_uuid: &[u8; 16],
        queue_id: u64,
        first_qseq: u64,
    ) -> Result<Self, SegmentError> {
        let path = dir.join(data_name(first_qseq));
        let io = |doing, source| SegmentError::Io { doing, path: path.clone(), source };
        let damaged = |part: &str| SegmentError::Damaged { path: path.clone(), part: part.to_owned() };
        let file = disk.open(&path).map_err(|source| io("open", source))?;
        let len = file.len().map_err(|source| io("measure", source))?;
        let Some(footer_at) = len.checked_sub(FOOTER_BYTES as u64).filter(|&at| at >= HEADER_BYTES as u64)
        else {
            return Err(damaged("it is too short"));
        };
        let mut header = [0; HEADER_BYTES];
        let mut footer = [0; FOOTER_BYTES];
        read_exact(&*file, &mut header, 0).map_err(|source| io("read", source))?;
        read_exact(&*file, &mut footer, footer_at).map_err(|source| io("read", source))?;
        if &header[..4] != MAGIC || crc32c::crc32c(&header[..48]) != u32_at(&header, 48) {
            return Err(damaged("its header"));
        }
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(SegmentError::Newer { path, version });
        }
        if &header[32..48] != storage_uuid
            || u64_at(&header, 8) != queue_id
            || u64_at(&header, 16) != first_qseq
        {
            return Err(SegmentError::Foreign { path });
        }
        if &footer[..4] != FOOTER_MAGIC
            || crc32c::crc32c(&footer[..48]) != u32_at(&footer, 48)
            || crc32c::crc32c(&header) != u32_at(&footer, 36)
        {
            return Err(damaged("its footer"));
        }
        let messages = u32_at(&footer, 4);
        let index_offset = u64_at(&footer, 8);
        if index_offset < HEADER_BYTES as u64
            || index_offset.checked_add(u64::from(messages) * INDEX_BYTES as u64) != Some(footer_at)
        {
            return Err(damaged("its footer"));
        }
        let earliest = u64_at(&footer, 16);
        let meta = SegmentMeta {
            queue_id,
            first_qseq,
            last_qseq: u64_at(&header, 24),
            messages,
            bytes: index_offset - HEADER_BYTES as u64,
            body_bytes: u64_at(&footer, 40),
            earliest_expiry_ms: (earliest != 0).then_some(earliest),
        };
        if !meta.is_possible() {
            return Err(damaged("its footer"));
        }
        let index_crc = u32_at(&footer, 32);
        Ok(Self { path, file, meta, index_offset, index_crc })
    }

    /// What is remembered of it.
    #[must_use]
    pub fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Reads the index (16 bytes per message).
    ///
    /// # Errors
    /// See [`SegmentError`].
    pub fn index(&self) -> Result<SegmentIndex, SegmentError> {
        let mut bytes = vec![0; self.meta.messages as usize * INDEX_BYTES];
        read_exact(&*self.file, &mut bytes, self.index_offset).map_err(|source| self.io(source))?;
        if crc32c::crc32c(&bytes) != self.index_crc {
            return Err(self.damaged("its index".to_owned()));
        }
        let entries: Vec<IndexEntry> =
            bytes.chunks_exact(INDEX_BYTES).map(|entry| self.entry(entry)).collect();
        let ordered = entries.windows(2).all(|pair| {
            pair[0].qseq < pair[1].qseq
                && u64::from(pair[0].offset) + u64::from(pair[0].len) == u64::from(pair[1].offset)
        });
        let ends =
            entries.last().map_or(HEADER_BYTES as u64, |last| u64::from(last.offset) + u64::from(last.len));
        let edges = [entries.first(), entries.last()].map(|entry| entry.map(|entry| entry.qseq));
        let whole = edges == [Some(self.meta.first_qseq), Some(self.meta.last_qseq)];
        if !ordered || !whole || ends != self.index_offset || entries.iter().any(|entry| entry.len < 4) {
            return Err(self.damaged("its index".to_owned()));
        }
        Ok(SegmentIndex { entries })
    }

    fn entry(&self, bytes: &[u8]) -> IndexEntry {
        let after_s = u16::from_le_bytes([bytes[12], bytes[13]]);
        let expiry_ms = match after_s {
            u16::MAX => u64::MAX,
            after_s => self.meta.earliest_expiry_ms.unwrap_or(0).saturating_add(u64::from(after_s) * 1000),
        };
        IndexEntry {
            qseq: self.meta.first_qseq.saturating_add(u64::from(u32_at(bytes, 0))),
            expiry_ms: (bytes[15] & HAS_EXPIRY != 0).then_some(expiry_ms),
            priority: (bytes[15] & HAS_PRIORITY != 0).then_some(bytes[14]),
            offset: u32_at(bytes, 4),
            len: u32_at(bytes, 8),
        }
    }

    /// Reads the messages in these slots with one read and hands them out in order. `buffer` is
    /// scratch space to be reused.
    ///
    /// # Errors
    /// See [`SegmentError`]. Messages before a damaged one have been handed out.
    pub fn read(
        &self,
        index: &SegmentIndex,
        slots: Range<usize>,
        buffer: &mut Vec<u8>,
        mut visitor: impl FnMut(usize, Enq<'_>),
    ) -> Result<(), SegmentError> {
        let Some(entries) = index.entries.get(slots.clone()) else {
            return Err(self.damaged(format!("it has no slots {slots:?}")));
        };
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(()) };
        let start = first.offset as usize;
        buffer.clear();
        buffer.resize(last.offset as usize + last.len as usize - start, 0);
        read_exact(&*self.file, buffer, start as u64).map_err(|source| self.io(source))?;
        for (slot, entry) in slots.zip(entries) {
            let bytes = &buffer[entry.offset as usize - start..][..entry.len as usize];
            let record = &bytes[4..];
            if crc32c::crc32c(record) != u32_at(bytes, 0) {
                return Err(self.damaged(format!("message {}", entry.qseq)));
            }
            match Record::decode(record) {
                Ok((Record::Enq(enq), used)) if used == record.len() && enq.qseq == entry.qseq => {
                    visitor(slot, enq);
                }
                _ => return Err(self.damaged(format!("message {}", entry.qseq))),
            }
        }
        Ok(())
    }

    fn io(&self, source: std::io::Error) -> SegmentError {
        SegmentError::Io { doing: "read", path: self.path.clone(), source }
    }

    fn damaged(&self, part: String) -> SegmentError {
        SegmentError::Damaged { path: self.path.clone(), part }
    }
}

fn read_exact(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    Ok(())
}
