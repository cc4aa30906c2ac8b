//! Bodies of fuzz targets: the description of a segment, and segment files with right checksums.

use super::{FOOTER_BYTES, HEADER_BYTES, INDEX_BYTES, SegmentMeta};
use crate::fuzz::put_crc;
use crate::le::{u32_at, u64_at};

/// The description that the log has of a segment.
pub fn segment_meta(octets: &[u8]) {
    let (queue_id, first, last) = (7, 1, 100);
    let Some(meta) = SegmentMeta::decode(queue_id, first, last, octets) else { return };
    assert_eq!(meta.encode(), octets);
    assert!(SegmentMeta::decode(queue_id, first, last, &octets[..octets.len() - 1]).is_none());
}

/// A segment file whose checksums are right wherever it is clear what they are of.
#[must_use]
pub fn sound_segment(octets: &[u8]) -> Vec<u8> {
    let mut bytes = octets.to_vec();
    let Some(footer) = bytes.len().checked_sub(FOOTER_BYTES).filter(|&at| at >= HEADER_BYTES) else {
        return bytes;
    };
    put_crc(&mut bytes, 48, 0, 0, 48);
    let index = usize::try_from(u64_at(&bytes, footer + 8)).unwrap_or(usize::MAX);
    if (HEADER_BYTES..=footer).contains(&index) {
        for entry in (index..footer.saturating_sub(INDEX_BYTES - 1)).step_by(INDEX_BYTES) {
            let (offset, len) = (u32_at(&bytes, entry + 4) as usize, u32_at(&bytes, entry + 8) as usize);
            if len >= 4 && offset >= HEADER_BYTES && offset + len <= index {
                put_crc(&mut bytes, offset, 0, offset + 4, offset + len);
            }
        }
        put_crc(&mut bytes, footer + 32, 0, index, footer);
    }
    put_crc(&mut bytes, footer + 36, 0, 0, HEADER_BYTES);
    put_crc(&mut bytes, footer + 48, 0, footer, footer + 48);
    bytes
}
