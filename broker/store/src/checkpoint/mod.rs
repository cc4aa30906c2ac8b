//! Checkpoints: what every queue's state was at a log position, so that recovery need not read what
//! came before it.
//!
//! A checkpoint lists, per queue, its counters, where its live messages stand in the log (as ranges),
//! and its segments with how many of their messages are live. It is written whole: under a temporary
//! name, synced, renamed, the directory synced; then the log gets a `CKPT` record. The newest two are
//! kept, so that a damaged one leaves the one before it.
//!
//! ```text
//! ckpt-<lsn>.bin, little endian
//!
//! header, 64 bytes
//!  0  "RCK1"
//!  4  u16 version        1
//!  6  u16 flags          0
//!  8  u64 lsn
//! 16  16B storage_uuid
//! 32  u64 queues
//! 40  u32 crc32c         over bytes 0..40
//! 44  zero
//!
//! blocks, each of some queues, up to the end of the file
//!  0  u32 crc32c         over bytes 4..end, seeded with the header's
//!  4  u32 block number   from 0
//!  8  u32 queues in it
//! 12  u32 length of what follows
//! 16  queues, all numbers as varints:
//!     id, epoch, next_qseq, next_off, hwm, leader + 1 (0 for none),
//!     number of epochs,   each: epoch, first offset
//!     number of ranges,   each: first qseq - end of the range before, length - 1, first lsn, last lsn
//!     number of segments, each: first qseq, last qseq - first, messages, live, bytes, earliest expiry
//! ```

mod codec;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::Lsn;
use crate::disk::{self, Disk};
use crate::segment::SegmentMeta;

const KEPT: usize = 2;

/// The state of all queues at a log position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Everything up to here is in it.
    pub lsn: Lsn,
    /// The queues, in any order.
    pub queues: Vec<QueueState>,
}

/// The state of one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's number.
    pub queue_id: u64,
    /// The highest epoch known.
    pub epoch: u32,
    /// The next message's position.
    pub next_qseq: u64,
    /// The next record's number in the epoch's stream.
    pub next_off: u64,
    /// Messages below it may have been delivered.
    pub hwm: u64,
    /// Who leads the queue, if known.
    pub leader: Option<u64>,
    /// The epochs with live messages and the first offset of each.
    pub epochs: Vec<(u32, u64)>,
    /// The live messages that are in the log, ascending.
    pub resident: Vec<LiveRange>,
    /// The segments, ascending.
    pub segments: Vec<SegmentState>,
}

/// Consecutive live messages in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveRange {
    /// The first message.
    pub first_qseq: u64,
    /// The last message.
    pub last_qseq: u64,
    /// The lowest log position among them.
    pub first_lsn: Lsn,
    /// The highest log position among them.
    pub last_lsn: Lsn,
}

/// A segment and how much of it is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentState {
    /// What is remembered of it.
    pub meta: SegmentMeta,
    /// How many of its messages are live.
    pub live: u32,
}

/// Why a checkpoint cannot be written or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The disk failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// There are checkpoints and none of them is whole.
    #[error("no checkpoint in {dir} is whole; the newest, {newest}, is damaged: {problem}")]
    AllDamaged {
        /// The directory.
        dir: PathBuf,
        /// The newest one.
        newest: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// A newer program wrote it.
    #[error("{path} has format version {version}, unknown to this program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
    },
}

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Problem {
    /// Its header.
    #[error("its header is damaged")]
    Header,
    /// One of its blocks, or it ends too early.
    #[error("block {0} is damaged")]
    Block(u32),
    /// It is of another data directory.
    #[error("it belongs to another data directory")]
    Foreign,
    /// Its format version is not known.
    #[error("its format version is {0}")]
    Newer(u16),
}

/// A checkpoint that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Newer ones that are damaged and were passed over.
    pub damaged: Vec<(String, Problem)>,
}

impl Checkpoint {
    /// Writes the checkpoint durably and removes all but the newest two.
    ///
    /// # Errors
    /// When the disk fails or is full; the older ones stay then.
    pub fn write(&self, disk: &dyn Disk, dir: &Path, storage_uuid: &[u8; 16]) -> Result<(), CheckpointError> {
        let name = name(self.lsn);
        let io = |doing, source| CheckpointError::Io { doing, path: dir.join(&name), source };
        disk::write_atomically(disk, dir, &name, &codec::encode(self, storage_uuid)).map_err(|source| {
            // What was written of it is space that others need.
            let _ = disk.remove(&dir.join(format!("{name}.tmp")));
            io("write", source)
        })?;
        let found = find(disk, dir)?;
        for &old in found.iter().rev().skip(KEPT) {
            disk.remove(&dir.join(self::name(old)))
                .map_err(|source| io("remove what is older than", source))?;
        }
        Ok(())
    }

    /// Reads the newest whole checkpoint; `None` when there is none at all.
    ///
    /// # Errors
    /// When the disk fails, or there are checkpoints and all are damaged: they are never taken for
    /// "none".
    pub fn load_newest(
        disk: &dyn Disk,
        dir: &Path,
        storage_uuid: &[u8; 16],
    ) -> Result<Option<Loaded>, CheckpointError> {
        let mut damaged: Vec<(String, Problem)> = Vec::new();
        let mut bytes = Vec::new();
        for lsn in find(disk, dir)?.into_iter().rev() {
            let name = name(lsn);
            let path = dir.join(&name);
            let read = disk.open(&path).and_then(|file| disk::read_file(&*file, &mut bytes));
            read.map_err(|source| CheckpointError::Io { doing: "read", path: path.clone(), source })?;
            match codec::decode(&bytes, lsn, storage_uuid) {
                Ok(checkpoint) => return Ok(Some(Loaded { checkpoint, damaged })),
                Err(Problem::Newer(version)) => return Err(CheckpointError::Newer { path, version }),
                Err(problem) => damaged.push((name, problem)),
            }
        }
        match damaged.into_iter().next() {
            None => Ok(None),
            Some((newest, problem)) => {
                Err(CheckpointError::AllDamaged { dir: dir.to_owned(), newest, problem })
            }
        }
    }
}

fn name(lsn: Lsn) -> String {
    format!("ckpt-{lsn:016x}.bin")
}

/// The positions of the checkpoints in a directory, ascending.
fn find(disk: &dyn Disk, dir: &Path) -> Result<Vec<Lsn>, CheckpointError> {
    let names = disk.list(dir).map_err(|source| CheckpointError::Io {
        doing: "list",
        path: dir.to_owned(),
        source,
    })?;
    let lsn = |name: &String| {
        let digits = name.strip_prefix("ckpt-")?.strip_suffix(".bin")?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let mut found: Vec<Lsn> = names.iter().filter_map(lsn).collect();
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests;
