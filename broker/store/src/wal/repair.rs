//! Making a damaged log usable again, when an operator accepts that what is damaged is lost.
//!
//! A file with damage is written anew, whole or not at all: the frames before the damage, frames
//! that stand for the lost positions, and the right frames behind it (a frame does not depend on its
//! place in the file). The damaged file is kept beside it as `<name>.damaged`.

use std::io;
use std::path::{Path, PathBuf};

use broker_core::record::{At, Record};
use thiserror::Error;

use super::control::{Control, ControlError};
use super::format::{self, ALIGN, FRAME_HEADER_BYTES, Frame, FrameHead, HEADER_BYTES, HeaderError};
use super::scan::{Corruption, OpenError, Scan, name_of, path_of, seq_of};
use crate::Lsn;
use crate::disk::{self, Disk};

/// Why a log cannot be repaired.
#[derive(Debug, Error)]
pub enum RepairError {
    /// What is wrong is not damage that could be cut out: a missing file, a foreign or newer log, a
    /// failing disk.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk failed while the file was written anew.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Cutting out the damage did not help.
    #[error("repairing does not get past this: {0}")]
    Stuck(Box<Corruption>),
}

/// Cuts the damage out of the log in `dir`, which nobody may have open, and returns what was lost.
/// A sound log stays as it is.
///
/// # Errors
/// See [`RepairError`]. Files repaired until then stay repaired.
pub fn accept_loss(
    disk: &dyn Disk,
    dir: &Path,
    storage_uuid: [u8; 16],
) -> Result<Vec<Corruption>, RepairError> {
    let mut losses: Vec<Corruption> = Vec::new();
    let mut header_repaired = None;
    loop {
        match scan(disk, dir, storage_uuid) {
            Ok(()) => return Ok(losses),
            Err(OpenError::Corrupt(corruption)) => {
                // Each round gets past the frame behind what it cut out, or there is no end.
                let cut = |last: &Corruption| last.last_lsn.unwrap_or(last.first_lsn);
                if losses.last().is_some_and(|last| corruption.first_lsn <= cut(last) + 1) {
                    return Err(RepairError::Stuck(corruption));
                }
                cut_out(disk, dir, storage_uuid, &corruption)?;
                losses.push(*corruption);
            }
            Err(OpenError::Header { path, source: HeaderError::Damaged })
                if header_repaired.as_ref() != Some(&path) =>
            {
                restore_header(disk, dir, storage_uuid, &path)?;
                header_repaired = Some(path);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Scans the log without changing it, apart from clearing a torn tail.
fn scan(disk: &dyn Disk, dir: &Path, storage_uuid: [u8; 16]) -> Result<(), OpenError> {
    let path = || dir.join(super::control::NAME);
    let control = Control::open(disk, dir, storage_uuid).map_err(|error| match error {
        ControlError::Io(source) => OpenError::Io { doing: "read", path: path(), source },
        ControlError::Damaged => OpenError::ControlDamaged { path: path() },
        ControlError::Foreign => OpenError::ControlForeign { path: path() },
    })?;
    let names = disk.list(dir).map_err(|source| OpenError::Io {
        doing: "list log directory",
        path: dir.to_owned(),
        source,
    })?;
    let first = control.state.first_file_seq;
    let mut seqs: Vec<u64> =
        names.iter().filter_map(|name| seq_of(name)).filter(|&seq| seq >= first).collect();
    seqs.sort_unstable();
    Scan { disk, dir, storage_uuid, control: control.state }.run(&seqs, &mut |_, _| {})?;
    Ok(())
}

/// Writes the damaged file anew, and those behind it up to the one in which the log goes on: that one may be damaged
/// at its beginning, which shows only where the file before it ends.
fn cut_out(
    disk: &dyn Disk,
    dir: &Path,
    storage_uuid: [u8; 16],
    corruption: &Corruption,
) -> Result<(), RepairError> {
    // Without a frame behind the damage nothing says how far it goes: one position is lost for sure.
    let last_lsn = corruption.last_lsn.unwrap_or(corruption.first_lsn);
    // However damaged, every record took some of the bytes that are there.
    if last_lsn - corruption.first_lsn >= bytes_of_all(disk, dir)? {
        return Err(RepairError::Stuck(Box::new(corruption.clone())));
    }
    let damaged = file_seq(&corruption.path);
    let mut next = corruption.first_lsn;
    for seq in damaged.. {
        let path = path_of(dir, seq);
        let old = read(disk, &path)?;
        let from = if seq == damaged {
            usize::try_from(corruption.offset).unwrap_or(old.len())
        } else {
            HEADER_BYTES
        };
        let from = from.min(old.len());
        let mut new = old[..from].to_vec();
        let seed = format::seed(&storage_uuid, seq);
        for frame in right_frames(&old, from, seed, seq) {
            if frame.head.first_lsn < next {
                continue;
            }
            // What is missing behind `last_lsn` is found, and told, when the log is read again.
            if next <= last_lsn {
                put_lost(&mut new, seed, seq, next, last_lsn.min(frame.head.first_lsn - 1));
            }
            new.extend_from_slice(frame.octets);
            next = frame.head.first_lsn.saturating_add(u64::from(frame.head.n_records));
        }
        if next <= last_lsn {
            let goes_on = goes_on_behind(disk, dir, storage_uuid, seq, next)?;
            // A file in which nothing is right has to hold something, or the ones behind it are not read.
            if !goes_on || (seq != damaged && new.len() == from) {
                let upto = if goes_on { next } else { last_lsn };
                put_lost(&mut new, seed, seq, next, upto);
                next = upto + 1;
            }
        }
        // At least as long as before: it may be the file that the log goes on in.
        new.resize(new.len().max(old.len()), 0);
        if new != old {
            replace(disk, dir, &path, seq, &old, &new)?;
        }
        if next > last_lsn {
            break;
        }
    }
    Ok(())
}

/// The right frames of a file at or behind `from`.
fn right_frames(bytes: &[u8], from: usize, seed: u32, seq: u64) -> impl Iterator<Item = Frame<'_>> {
    let mut at = from.next_multiple_of(ALIGN);
    std::iter::from_fn(move || {
        while at < bytes.len() {
            if let Some(frame) = format::parse(&bytes[at..], seed, seq) {
                at += frame.size;
                return Some(frame);
            }
            at += ALIGN;
        }
        None
    })
}

/// Whether a file behind this one has a right frame at or behind position `next`.
fn goes_on_behind(
    disk: &dyn Disk,
    dir: &Path,
    storage_uuid: [u8; 16],
    seq: u64,
    next: Lsn,
) -> Result<bool, RepairError> {
    for seq in seq + 1.. {
        let path = path_of(dir, seq);
        if disk.open(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            break;
        }
        let bytes = read(disk, &path)?;
        let seed = format::seed(&storage_uuid, seq);
        if right_frames(&bytes, HEADER_BYTES, seed, seq).any(|frame| frame.head.first_lsn >= next) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Frames that stand for lost positions. Their records close queue 0, which does not exist.
fn put_lost(out: &mut Vec<u8>, seed: u32, seq: u64, first_lsn: Lsn, last_lsn: Lsn) {
    const MOST: u64 = 100_000;
    let mut record = Vec::new();
    Record::QClose { at: At::default() }.encode(&mut record);
    let mut next = first_lsn;
    while next <= last_lsn {
        let count = MOST.min(last_lsn - next + 1);
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        for _ in 0..count {
            frame.extend_from_slice(&record);
        }
        // What stood before the damage is durable; this frame appears together with it.
        let head = FrameHead { first_lsn: next, synced_lsn: first_lsn - 1, n_records: count as u32 };
        format::seal(&mut frame, seed, seq, head);
        out.extend_from_slice(&frame);
        next += count;
    }
}

fn restore_header(
    disk: &dyn Disk,
    dir: &Path,
    storage_uuid: [u8; 16],
    path: &Path,
) -> Result<(), RepairError> {
    let seq = file_seq(path);
    let old = read(disk, path)?;
    let mut new = format::file_header(&storage_uuid, seq, 0);
    new.extend_from_slice(old.get(HEADER_BYTES..).unwrap_or_default());
    replace(disk, dir, path, seq, &old, &new)
}

/// Keeps the old content under another name, then puts the new one in its place.
fn replace(
    disk: &dyn Disk,
    dir: &Path,
    path: &Path,
    seq: u64,
    old: &[u8],
    new: &[u8],
) -> Result<(), RepairError> {
    let io = |doing| move |source| RepairError::Io { doing, path: path.to_owned(), source };
    let kept = format!("{}.damaged", name_of(seq));
    if disk.open(&dir.join(&kept)).is_err() {
        disk::write_atomically(disk, dir, &kept, old).map_err(io("keep a copy of"))?;
    }
    disk::write_atomically(disk, dir, &name_of(seq), new).map_err(io("write anew"))?;
    debug_assert_eq!(path_of(dir, seq), path, "a log file is where its number says");
    Ok(())
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, RepairError> {
    let mut bytes = Vec::new();
    disk.open(path)
        .and_then(|file| disk::read_file(&*file, &mut bytes))
        .map_err(|source| RepairError::Io { doing: "read", path: path.to_owned(), source })?;
    Ok(bytes)
}

/// Bytes of all log files.
fn bytes_of_all(disk: &dyn Disk, dir: &Path) -> Result<u64, RepairError> {
    let io = |source| RepairError::Io { doing: "measure the files in", path: dir.to_owned(), source };
    let mut bytes = 0;
    for name in disk.list(dir).map_err(io)?.iter().filter(|name| seq_of(name).is_some()) {
        bytes += disk.open(&dir.join(name)).and_then(|file| file.len()).map_err(io)?;
    }
    Ok(bytes)
}

fn file_seq(path: &Path) -> u64 {
    path.file_name().and_then(|name| seq_of(&name.to_string_lossy())).unwrap_or_default()
}
