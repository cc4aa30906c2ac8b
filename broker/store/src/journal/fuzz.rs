//! Bodies of fuzz targets: frames, file headers and snapshots of a journal.

use super::format::{self, ALIGN, FRAME_HEADER_BYTES, HEADER_BYTES, Kind};
use super::open::{journal_name, snapshot_name};
use crate::fuzz::{SOUND, STORAGE_UUID, behind_header, flipped, pack, put_crc, trimmed, unpack};
use crate::le::{u32_at, u64_at};
use std::collections::BTreeMap;

/// The number of the file that frames are looked for in.
const SEQ: u64 = 1;
/// Octets of a file header that are not always zero.
const HEADER_USED: usize = 44;
/// Where a snapshot's content starts.
const CONTENT: usize = 44;

/// A frame, or the header of a file.
pub fn journal_frame(octets: &[u8]) {
    let seed = format::seed(&STORAGE_UUID, SEQ);
    let mut sound = octets.to_vec();
    make_frames_sound(&mut sound, seed);
    for bytes in [octets, &sound] {
        let Some(frame) = format::parse(bytes, seed) else { continue };
        let whole = &bytes[..frame.size];
        assert!(format::parse(&whole[..frame.size - 1], seed).is_none(), "accepts a frame cut off");
        assert!(format::parse(&flipped(whole), seed).is_none(), "accepts a wrong bit");
        assert!(format::parse(whole, seed ^ 1).is_none(), "accepts a frame of another file");
        let Some(kind) = frame.kind() else { continue };
        let mut again = Vec::new();
        format::put(&mut again, seed, kind, frame.index, frame.synced_to, frame.payload);
        let read = format::parse(&again, seed).expect("a frame that was just made");
        assert_eq!((read.index, read.synced_to, read.kind), (frame.index, frame.synced_to, frame.kind));
        assert_eq!((read.payload, read.size), (frame.payload, again.len()));
    }
    let header = behind_header(octets, HEADER_USED, HEADER_BYTES);
    let mut sound = header.clone();
    put_crc(&mut sound, 40, 0, 0, 40);
    for bytes in [header, sound] {
        let bytes = &bytes[..HEADER_BYTES];
        let Ok(after) = format::check_file_header(bytes, &STORAGE_UUID, SEQ) else { continue };
        let again = format::file_header(&STORAGE_UUID, SEQ, after);
        assert_eq!((&again[..6], &again[8..40]), (&bytes[..6], &bytes[8..40]));
        let mut wrong = bytes.to_vec();
        wrong[..HEADER_USED].copy_from_slice(&flipped(&bytes[..HEADER_USED]));
        assert!(format::check_file_header(&wrong, &STORAGE_UUID, SEQ).is_err(), "accepts a wrong bit");
    }
}

/// A snapshot file.
pub fn journal_snapshot(octets: &[u8]) {
    let mut sound = octets.to_vec();
    make_snapshot_sound(&mut sound);
    for bytes in [octets, &sound] {
        let index = if bytes.len() >= 16 { u64_at(bytes, 8) } else { 0 };
        let Ok(content) = format::snapshot_content(bytes, &STORAGE_UUID, index) else { continue };
        let again = format::snapshot(&STORAGE_UUID, index, content);
        assert_eq!((&again[..6], &again[8..40], &again[CONTENT..]), (&bytes[..6], &bytes[8..40], content));
        let refused = |bytes: &[u8], index| format::snapshot_content(bytes, &STORAGE_UUID, index).is_err();
        assert!(refused(&bytes[..bytes.len() - 1], index), "accepts a snapshot cut off");
        assert!(refused(&flipped(bytes), index), "accepts a wrong bit");
        assert!(refused(bytes, index ^ 1), "accepts a snapshot of another name");
    }
}

/// The files of a journal, by name, that a few octets stand for: a journal file, and a snapshot if there is more.
#[must_use]
pub fn journal_files(octets: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let (flags, parts) = unpack(octets);
    let sound = flags & SOUND != 0;
    let mut files = BTreeMap::new();
    let Some((journal, snapshots)) = parts.split_first() else { return files };
    let mut bytes = behind_header(journal, HEADER_USED, HEADER_BYTES);
    let seq = u64_at(&bytes, 8);
    if sound {
        put_crc(&mut bytes, 40, 0, 0, 40);
        make_frames_sound(&mut bytes[HEADER_BYTES..], format::seed(&STORAGE_UUID, seq));
    }
    files.insert(journal_name(seq), bytes);
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.len() >= CONTENT) {
        let mut bytes = snapshot.to_vec();
        if sound {
            make_snapshot_sound(&mut bytes);
        }
        files.insert(snapshot_name(u64_at(&bytes, 8)), bytes);
    }
    files
}

/// The octets that stand for the files of a journal.
#[must_use]
pub fn journal_octets(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let of = |prefix| files.iter().filter(move |(name, _)| name.starts_with(prefix)).map(|(_, bytes)| bytes);
    let journal =
        of("journal-").map(|bytes| [&bytes[..HEADER_USED], trimmed(&bytes[HEADER_BYTES..])].concat());
    pack(&journal.chain(of("snapshot-").cloned()).collect::<Vec<_>>())
}

/// Gives right checksums to everything that looks like a frame.
fn make_frames_sound(bytes: &mut [u8], seed: u32) {
    let mut magic = Vec::new();
    format::put(&mut magic, 0, Kind::Mark, 0, 0, &[]);
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let rest = &mut bytes[at..];
        let size = (FRAME_HEADER_BYTES + u32_at(rest, 28) as usize).next_multiple_of(ALIGN);
        if rest[..4] == magic[..4] && size <= rest.len() {
            put_crc(rest, 4, seed, 8, size);
            at += size;
        } else {
            at += ALIGN;
        }
    }
}

/// Gives a snapshot its right length and checksum.
fn make_snapshot_sound(bytes: &mut [u8]) {
    if bytes.len() >= CONTENT {
        let len = (bytes.len() - CONTENT) as u64;
        bytes[32..40].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..40]), &bytes[CONTENT..]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
    }
}
