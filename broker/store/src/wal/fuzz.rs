//! Bodies of fuzz targets: frames, file headers, the control file.

use super::control;
use super::format::{self, ALIGN, FRAME_HEADER_BYTES, HEADER_BYTES};
use super::scan::name_of;
use crate::fuzz::{SOUND, STORAGE_UUID, behind_header, flipped, pack, put_crc, trimmed, unpack};
use crate::le::u32_at;
use std::collections::BTreeMap;

/// The number of the file that frames are looked for in.
const SEQ: u64 = 1;
/// Octets of a file header that are not always zero.
const HEADER_USED: usize = 44;
/// Octets of a slot of the control file that are not always zero.
const SLOT_USED: usize = 56;
const SLOT_BYTES: usize = 4096;

/// A frame.
pub fn wal_frame(octets: &[u8]) {
    let seed = format::seed(&STORAGE_UUID, SEQ);
    let mut sound = octets.to_vec();
    make_frames_sound(&mut sound, seed);
    for bytes in [octets, &sound] {
        let Some(frame) = format::parse(bytes, seed, SEQ) else { continue };
        let whole = &bytes[..frame.size];
        assert_eq!(frame.size % ALIGN, 0);
        assert!(format::parse(&whole[..frame.size - 1], seed, SEQ).is_none(), "accepts a frame cut off");
        assert!(format::parse(&flipped(whole), seed, SEQ).is_none(), "accepts a wrong bit");
        assert!(format::parse(whole, seed ^ 1, SEQ).is_none(), "accepts a frame of another file");
        assert!(format::parse(whole, seed, SEQ + 1).is_none(), "accepts a frame of another file");
        let mut again = vec![0; FRAME_HEADER_BYTES];
        again.extend_from_slice(frame.payload);
        format::seal(&mut again, seed, SEQ, frame.head);
        let read = format::parse(&again, seed, SEQ).expect("a frame that was just made");
        assert_eq!((read.head, read.payload, read.size), (frame.head, frame.payload, again.len()));
        if whole[FRAME_HEADER_BYTES + frame.payload.len()..].iter().all(|&octet| octet == 0) {
            assert_eq!(again, whole);
        }
        format::unseal(&mut again, frame.payload.len());
        assert_eq!(&again[FRAME_HEADER_BYTES..], frame.payload);
    }
}

/// The header of a log file.
pub fn wal_header(octets: &[u8]) {
    let raw = behind_header(octets, HEADER_USED, HEADER_BYTES);
    let mut sound = raw.clone();
    put_crc(&mut sound, 40, 0, 0, 40);
    for bytes in [raw, sound] {
        let bytes = &bytes[..HEADER_BYTES];
        if format::check_file_header(bytes, &STORAGE_UUID, SEQ).is_err() {
            continue;
        }
        let again = format::file_header(&STORAGE_UUID, SEQ, crate::le::u64_at(bytes, 32));
        assert_eq!((&again[..6], &again[8..40]), (&bytes[..6], &bytes[8..40]));
        let cut = &bytes[..HEADER_BYTES - 1];
        assert!(format::check_file_header(cut, &STORAGE_UUID, SEQ).is_err(), "accepts a header cut off");
        let mut wrong = bytes.to_vec();
        wrong[..HEADER_USED].copy_from_slice(&flipped(&bytes[..HEADER_USED]));
        assert!(format::check_file_header(&wrong, &STORAGE_UUID, SEQ).is_err(), "accepts a wrong bit");
        assert!(format::check_file_header(bytes, &STORAGE_UUID, SEQ + 1).is_err(), "accepts another name");
    }
}

/// A slot of the control file.
pub fn wal_control(octets: &[u8]) {
    let mut sound = octets.to_vec();
    put_crc(&mut sound, 4, 0, 8, SLOT_USED);
    for bytes in [octets, &sound] {
        let Some((counter, uuid, state)) = control::parse_slot(bytes) else { continue };
        let used = &bytes[..SLOT_USED];
        assert_eq!(&control::slot(&uuid, counter, state)[..SLOT_USED], used);
        assert!(control::parse_slot(&used[..SLOT_USED - 1]).is_none(), "accepts a slot cut off");
        assert!(control::parse_slot(&flipped(used)).is_none(), "accepts a wrong bit");
    }
}

/// The files of a log, by name, that a few octets stand for: the control file's slots, then log files.
#[must_use]
pub fn wal_files(octets: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let (flags, parts) = unpack(octets);
    let sound = flags & SOUND != 0;
    let mut files = BTreeMap::new();
    let Some((slots, logs)) = parts.split_first() else { return files };
    let mut control = Vec::new();
    for slot in slots.chunks(SLOT_USED).take(2) {
        let mut slot = behind_header(slot, SLOT_USED, SLOT_BYTES);
        if sound {
            put_crc(&mut slot, 4, 0, 8, SLOT_USED);
        }
        control.extend_from_slice(&slot);
    }
    if !control.is_empty() {
        files.insert(control::NAME.to_owned(), control);
    }
    for (part, seq) in logs.iter().zip(SEQ..) {
        let mut bytes = behind_header(part, HEADER_USED, HEADER_BYTES);
        if sound {
            put_crc(&mut bytes, 40, 0, 0, 40);
            make_frames_sound(&mut bytes[HEADER_BYTES..], format::seed(&STORAGE_UUID, seq));
        }
        files.insert(name_of(seq), bytes);
    }
    files
}

/// The octets that stand for the files of a log.
#[must_use]
pub fn wal_octets(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut slots = Vec::new();
    for slot in files.get(control::NAME).map_or(&[][..], Vec::as_slice).chunks(SLOT_BYTES) {
        slots.extend_from_slice(&slot[..SLOT_USED]);
    }
    let mut parts = vec![slots];
    for seq in SEQ.. {
        let Some(bytes) = files.get(&name_of(seq)) else { break };
        parts.push([&bytes[..HEADER_USED], trimmed(&bytes[HEADER_BYTES..])].concat());
    }
    pack(&parts)
}

/// Gives right checksums to everything that looks like a frame.
fn make_frames_sound(bytes: &mut [u8], seed: u32) {
    let mut at = 0;
    while at + FRAME_HEADER_BYTES <= bytes.len() {
        let rest = &mut bytes[at..];
        let size = format::frame_bytes(u32_at(rest, 36) as usize);
        if rest[..4] == format::FRAME_MAGIC.to_le_bytes() && size <= rest.len() {
            put_crc(rest, 4, seed, 8, size);
            at += size;
        } else {
            at += ALIGN;
        }
    }
}
