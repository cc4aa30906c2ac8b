//! Making a damaged log usable again, when an operator accepts that what is damaged is lost.
//!
//! A file with damage is written anew, whole or not at all: the frames before the damage, a frame
//! that stands for the lost positions, and the right frames behind it (a frame does not depend on its
//! place in the file). The damaged file is kept beside it as `<name>.damaged`.

use std::io;
use std::path::{Path, PathBuf};

use broker_core::record::{At, Record};
use thiserror::Error;

use super::control::{Control, ControlError};
use super::format::{self, ALIGN, FRAME_HEADER_BYTES, FrameHead, HEADER_BYTES, HeaderError};
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
                // Each round gets further, or there is no end.
                if losses.last().is_some_and(|last| last.first_lsn >= corruption.first_lsn) {
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

fn cut_out(
    disk: &dyn Disk,
    dir: &Path,
    storage_uuid: [u8; 16],
    corruption: &Corruption,
) -> Result<(), RepairError> {
    let seq = file_seq(&corruption.path);
    let old = read(disk, &corruption.path)?;
    let seed = format::seed(&storage_uuid, seq);
    let from = usize::try_from(corruption.offset).unwrap_or(old.len()).min(old.len());
    // Without a frame behind the damage nothing says how far it goes: one position is lost for sure.
    let last_lsn = corruption.last_lsn.unwrap_or(corruption.first_lsn);
    // However damaged, every record took some of the bytes that are there.
    if last_lsn - corruption.first_lsn >= bytes_of_all(disk, dir)? {
        return Err(RepairError::Stuck(Box::new(corruption.clone())));
    }
    let mut new = old[..from].to_vec();
    put_lost(&mut new, seed, seq, corruption.first_lsn, last_lsn);
    let mut next_lsn = last_lsn + 1;
    let mut at = from.next_multiple_of(ALIGN);
    while at < old.len() {
        match format::parse(&old[at..], seed, seq) {
            Some(frame) if frame.head.first_lsn >= next_lsn => {
                new.extend_from_slice(&old[at..at + frame.size]);
                next_lsn = frame.head.first_lsn.saturating_add(u64::from(frame.head.n_records));
                at += frame.size;
            }
            _ => at += ALIGN,
        }
    }
    // At least as long as before: it may be the file that the log goes on in.
    new.resize(new.len().max(old.len()), 0);
    replace(disk, dir, &corruption.path, seq, &old, &new)
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
