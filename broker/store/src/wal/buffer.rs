//! Records that are gathered for one append.

use broker_core::record::Record;

use super::format::FRAME_HEADER_BYTES;

/// Encoded records, with room in front of them for the header of the frame they may become: the log then takes the
/// buffer as it is instead of copying what is in it.
#[derive(Debug, Default)]
pub struct RecordBuffer {
    /// Empty, or room for the header and then the records.
    pub(super) bytes: Vec<u8>,
    pub(super) n_records: u32,
}

impl RecordBuffer {
    /// Adds a record.
    pub fn push(&mut self, record: &Record<'_>) {
        if self.bytes.is_empty() {
            self.bytes.resize(FRAME_HEADER_BYTES, 0);
        }
        record.encode(&mut self.bytes);
        self.n_records += 1;
    }

    /// Octets of the records in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len().saturating_sub(FRAME_HEADER_BYTES)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.n_records == 0
    }

    /// Gives its memory back if it holds more than `most` octets of it.
    pub fn shrink(&mut self, most: usize) {
        debug_assert!(self.is_empty(), "records would be lost");
        if self.bytes.capacity() > most {
            self.bytes = Vec::new();
        }
    }

    /// The records, one after the other.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        self.bytes.get(FRAME_HEADER_BYTES..).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.n_records = 0;
    }
}
