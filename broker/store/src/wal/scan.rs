//! The recovery scan: reads the log's files in order, hands out the records, and tells a torn tail
//! from damage.
//!
//! The first place where no right frame follows is called the bad place, and the position expected
//! there `E`. If the next file begins with `E`, the file simply ended here. Else a right frame
//! somewhere behind the bad place settles what it is:
//! * with `synced_lsn >= E`: what stood at the bad place was durable and is gone. Corruption, which
//!   is reported and never skipped.
//! * with `synced_lsn < E`: what stands at the bad place was still being written when the power
//!   went, together with that frame. Nobody was told that either is safe: a torn tail.
//! * none: the end of the log, torn or not. The control file knows a position that it must reach.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_core::record::{DecodeError, Record};
use thiserror::Error;

use super::control::State;
use super::format::{self, ALIGN, Frame, HEADER_BYTES, HeaderError};
use crate::Lsn;
use crate::disk::{self, Disk, DiskFile};

/// Why the log cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A log file's header is not acceptable.
    #[error("log file {path}: {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// There should be a log and there is none, or it has files but no control file.
    #[error("{path} is missing although the log was in use; nothing was changed")]
    Missing {
        /// The file that is missing.
        path: PathBuf,
    },
    /// Both slots of the control file are damaged.
    #[error("{path} is damaged; nothing was changed")]
    ControlDamaged {
        /// The control file.
        path: PathBuf,
    },
    /// The control file belongs to another data directory.
    #[error("{path} belongs to another data directory (its storage id differs)")]
    ControlForeign {
        /// The control file.
        path: PathBuf,
    },
    /// Durable records are damaged.
    #[error("{0}")]
    Corrupt(Box<Corruption>),
    /// What stands behind the log's end imitates frames so often that it cannot be searched.
    #[error(
        "log file {path} cannot be checked: from byte {offset} on it holds too many imitated frames; nothing was changed"
    )]
    Imitated {
        /// The file.
        path: PathBuf,
        /// From where on.
        offset: u64,
    },
    /// A frame with a right checksum holds a record this version cannot read.
    #[error("log file {path}, frame at byte {offset}, record {lsn}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Where its frame starts.
        offset: u64,
        /// The record's position.
        lsn: Lsn,
        /// What is wrong.
        source: DecodeError,
    },
    /// A frame with a right checksum holds another number of records than it says.
    #[error("log file {path}, frame at byte {offset}: says {says} records and has {has}")]
    Count {
        /// The file.
        path: PathBuf,
        /// Where its frame starts.
        offset: u64,
        /// Records by its header.
        says: u32,
        /// Records found.
        has: u64,
    },
}

/// Durable records that cannot be read any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// The file with the damage.
    pub path: PathBuf,
    /// Where in it the damage starts.
    pub offset: u64,
    /// The first position that is damaged.
    pub first_lsn: Lsn,
    /// The last position that is damaged, as far as known.
    pub last_lsn: Option<Lsn>,
    /// Queues with records shortly before or after the damage, ascending.
    pub queues: Vec<u64>,
}

impl std::fmt::Display for Corruption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "log file {} is damaged at byte {}: record {}",
            self.path.display(),
            self.offset,
            self.first_lsn
        )?;
        match self.last_lsn {
            Some(last) if last > self.first_lsn => write!(f, " to {last}")?,
            Some(_) => {}
            None => write!(f, " and later")?,
        }
        write!(f, " had been written safely and cannot be read; queues seen around it: {:?}", self.queues)
    }
}

/// What the recovery scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// First position still in the log.
    pub first_lsn: Lsn,
    /// Last position in the log; `first_lsn - 1` when it is empty.
    pub last_lsn: Lsn,
    /// Records handed to the visitor.
    pub records: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Files with records or ready to take some.
    pub files: usize,
    /// Bytes of an unfinished write that were cleared from the tail; it had not been confirmed.
    pub torn_bytes: u64,
}

/// A log file of the scan.
pub(crate) struct ScannedFile {
    pub(crate) seq: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) len: u64,
    pub(crate) first_lsn: Lsn,
    /// Where its frames end.
    pub(crate) end: u64,
    /// Behind its end an unfinished write left something.
    torn: bool,
}

/// What the scan leaves: the files with records, the last of which continues, and unused ones.
pub(crate) struct Scanned {
    pub(crate) used: Vec<ScannedFile>,
    pub(crate) unused: Vec<ScannedFile>,
    pub(crate) next_lsn: Lsn,
    pub(crate) report: RecoveryReport,
}

pub(crate) fn path_of(dir: &Path, seq: u64) -> PathBuf {
    dir.join(name_of(seq))
}

pub(crate) fn name_of(seq: u64) -> String {
    format!("wal-{seq:016x}.log")
}

pub(crate) fn seq_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("wal-")?.strip_suffix(".log")?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

pub(crate) struct Scan<'a> {
    pub(crate) disk: &'a dyn Disk,
    pub(crate) dir: &'a Path,
    pub(crate) storage_uuid: [u8; 16],
    pub(crate) control: State,
}

impl Scan<'_> {
    /// Reads the files `seqs` (ascending, those from the control file's first on).
    pub(crate) fn run(
        &self,
        seqs: &[u64],
        visitor: &mut dyn FnMut(Lsn, Record<'_>),
    ) -> Result<Scanned, OpenError> {
        self.check_sequence(seqs)?;
        let first_lsn = self.control.first_lsn;
        let mut scanned = Scanned {
            used: Vec::new(),
            unused: Vec::new(),
            next_lsn: first_lsn,
            report: RecoveryReport { first_lsn, files: seqs.len(), ..RecoveryReport::default() },
        };
        let mut bytes = Vec::new();
        for &seq in seqs {
            let mut file = self.load(seq, &mut bytes)?;
            file.first_lsn = scanned.next_lsn;
            let seed = format::seed(&self.storage_uuid, seq);
            let starts_here = format::parse(&bytes[HEADER_BYTES..], seed, seq)
                .is_some_and(|frame| frame.head.first_lsn == scanned.next_lsn);
            let is_first = scanned.used.is_empty();
            if starts_here && !is_first {
                let previous_torn = scanned.used.last().is_some_and(|previous| previous.torn);
                if previous_torn || !scanned.unused.is_empty() {
                    let frame = format::parse(&bytes[HEADER_BYTES..], seed, seq);
                    return Err(self.corrupt(&scanned, frame.map(|frame| (seq, frame))));
                }
            }
            if starts_here || is_first {
                file.end = self.replay(&bytes, seq, &mut scanned, visitor)?;
                scanned.used.push(file);
            } else {
                scanned.unused.push(file);
            }
            let Some(file) = scanned.unused.last_mut().or(scanned.used.last_mut()) else { continue };
            let end = usize::try_from(file.end).unwrap_or(bytes.len());
            file.torn = format::is_begun(&bytes[end..], seq);
            let later = Later::search(&bytes, end, seed, seq, scanned.next_lsn).map_err(|Imitated| {
                OpenError::Imitated { path: path_of(self.dir, seq), offset: end as u64 }
            })?;
            match later {
                Later::Durable(frame) => return Err(self.corrupt(&scanned, Some((seq, frame)))),
                Later::Unfinished => file.torn = true,
                Later::Nothing => {}
            }
        }
        if scanned.next_lsn <= self.control.synced_lsn {
            return Err(self.corrupt(&scanned, None));
        }
        scanned.report.last_lsn = scanned.next_lsn - 1;
        self.clear_tail(&mut scanned)?;
        Ok(scanned)
    }

    fn check_sequence(&self, seqs: &[u64]) -> Result<(), OpenError> {
        let mut expected = self.control.first_file_seq;
        for &seq in seqs {
            if seq != expected {
                break;
            }
            expected += 1;
        }
        if seqs.is_empty() || expected - self.control.first_file_seq < seqs.len() as u64 {
            return Err(OpenError::Missing { path: path_of(self.dir, expected) });
        }
        Ok(())
    }

    /// Opens a file, reads it whole into `bytes` and checks its header.
    fn load(&self, seq: u64, bytes: &mut Vec<u8>) -> Result<ScannedFile, OpenError> {
        let path = path_of(self.dir, seq);
        let io = |doing| {
            let path = path.clone();
            move |source| OpenError::Io { doing, path, source }
        };
        let file = self.disk.open(&path).map_err(io("open log file"))?;
        disk::read_file(&*file, bytes).map_err(io("read log file"))?;
        format::check_file_header(bytes, &self.storage_uuid, seq)
            .map_err(|source| OpenError::Header { path: path.clone(), source })?;
        let (len, end) = (bytes.len() as u64, HEADER_BYTES as u64);
        Ok(ScannedFile { seq, file, len, first_lsn: 0, end, torn: false })
    }

    /// Hands out the records of the frames that continue the log; returns where they end.
    fn replay(
        &self,
        bytes: &[u8],
        seq: u64,
        scanned: &mut Scanned,
        visitor: &mut dyn FnMut(Lsn, Record<'_>),
    ) -> Result<u64, OpenError> {
        let seed = format::seed(&self.storage_uuid, seq);
        let mut at = HEADER_BYTES;
        while let Some(frame) = format::parse(&bytes[at..], seed, seq) {
            if frame.head.first_lsn != scanned.next_lsn {
                break;
            }
            let has = for_each_record(frame, visitor).map_err(|(lsn, source)| OpenError::Record {
                path: path_of(self.dir, seq),
                offset: at as u64,
                lsn,
                source,
            })?;
            let says = frame.head.n_records;
            if has != u64::from(says) {
                return Err(OpenError::Count { path: path_of(self.dir, seq), offset: at as u64, says, has });
            }
            scanned.next_lsn += has;
            scanned.report.records += has;
            scanned.report.bytes += frame.size as u64;
            at += frame.size;
        }
        Ok(at as u64)
    }

    /// Clears what an unfinished write left behind the last frame, so that no part of it can ever
    /// look like a frame that follows one written later; and makes sure that what was replayed is
    /// on the disk and not only in the system's cache (after a `kill -9` it may be).
    fn clear_tail(&self, scanned: &mut Scanned) -> Result<(), OpenError> {
        let torn_unused = scanned.unused.iter().filter(|file| file.torn);
        for file in scanned.used.last().into_iter().chain(torn_unused) {
            let cleared = clear(&*file.file, file.end, file.len);
            let cleared = cleared.map_err(|source| OpenError::Io {
                doing: "clear the tail of",
                path: path_of(self.dir, file.seq),
                source,
            })?;
            // Otherwise it was only what the file held before it was recycled.
            scanned.report.torn_bytes += if file.torn { cleared } else { 0 };
        }
        Ok(())
    }

    /// Describes the damage behind the last frame that was replayed. `resumes` is a right frame
    /// found behind it.
    fn corrupt(&self, scanned: &Scanned, resumes: Option<(u64, Frame<'_>)>) -> OpenError {
        let mut queues = BTreeSet::new();
        let mut note = |_: Lsn, record: Record<'_>| match record {
            Record::EnqMulti { targets, .. } => queues.extend(targets.iter().map(|target| target.queue_id)),
            other => queues.extend(other.queue_id()),
        };
        let (seq, offset) = scanned
            .used
            .last()
            .map_or((self.control.first_file_seq, HEADER_BYTES as u64), |file| (file.seq, file.end));
        let mut last_lsn = Some(self.control.synced_lsn).filter(|&lsn| lsn >= scanned.next_lsn);
        if let Some((_, frame)) = resumes {
            last_lsn = Some(frame.head.first_lsn.saturating_sub(1).max(scanned.next_lsn));
            let _ = for_each_record(frame, &mut note);
        }
        self.note_before(seq, offset as usize, &mut note);
        OpenError::Corrupt(Box::new(Corruption {
            path: path_of(self.dir, seq),
            offset,
            first_lsn: scanned.next_lsn,
            last_lsn,
            queues: queues.into_iter().collect(),
        }))
    }

    /// Reads the last frames before `end` once more.
    fn note_before(&self, seq: u64, end: usize, note: &mut dyn FnMut(Lsn, Record<'_>)) {
        const FRAMES: usize = 4;
        let mut bytes = Vec::new();
        if self.load(seq, &mut bytes).is_err() {
            return;
        }
        let seed = format::seed(&self.storage_uuid, seq);
        let mut frames = Vec::new();
        let mut at = HEADER_BYTES;
        while at < end {
            let Some(frame) = format::parse(&bytes[at..], seed, seq) else { break };
            frames.push(frame);
            at += frame.size;
        }
        for frame in frames.iter().rev().take(FRAMES) {
            let _ = for_each_record(*frame, note);
        }
    }
}

/// Overwrites what is not zero from `from` on, and syncs.
fn clear(file: &dyn DiskFile, from: u64, len: u64) -> io::Result<u64> {
    const BLOCK: usize = 1 << 16;
    let mut block = vec![0u8; BLOCK];
    let zeros = vec![0u8; BLOCK];
    let mut cleared = 0;
    let mut at = from;
    while at < len {
        let want = BLOCK.min(usize::try_from(len - at).unwrap_or(BLOCK));
        let read = file.read_at(&mut block[..want], at)?;
        if read == 0 {
            break;
        }
        if block[..read].iter().any(|&byte| byte != 0) {
            file.write_at(&zeros[..read], at)?;
            cleared += read as u64;
        }
        at += read as u64;
    }
    file.sync_data()?;
    Ok(cleared)
}

/// Decodes the records of a frame; returns how many there are, or the bad one's position.
fn for_each_record(
    frame: Frame<'_>,
    visitor: &mut dyn FnMut(Lsn, Record<'_>),
) -> Result<u64, (Lsn, DecodeError)> {
    let mut rest = frame.payload;
    let mut count = 0;
    while !rest.is_empty() {
        let lsn = frame.head.first_lsn.saturating_add(count);
        let (record, used) = Record::decode(rest).map_err(|source| (lsn, source))?;
        visitor(lsn, record);
        rest = &rest[used..];
        count += 1;
    }
    Ok(count)
}

/// So many bytes look like frames and are none that searching them all would take too long.
struct Imitated;

/// What stands behind the bad place.
enum Later<'a> {
    Nothing,
    /// Right frames, written together with what stands at the bad place.
    Unfinished,
    /// The first of them; one was written when what stood at the bad place was durable.
    Durable(Frame<'a>),
}

impl<'a> Later<'a> {
    /// Looks for right frames of this file at or behind `from`, where position `expected` is missing.
    /// All of them are asked: those next to the bad place may have been written together with it.
    fn search(bytes: &'a [u8], from: usize, seed: u32, seq: u64, expected: Lsn) -> Result<Self, Imitated> {
        let mut first = None;
        let mut budget = MOST_CHECKED;
        let mut from = from;
        while let Some((at, frame)) = find_frame(bytes, from, seed, seq, &mut budget)? {
            let first = *first.get_or_insert(frame);
            if frame.head.synced_lsn >= expected {
                return Ok(Later::Durable(first));
            }
            from = at + frame.size;
        }
        Ok(if first.is_some() { Later::Unfinished } else { Later::Nothing })
    }
}

/// Bytes to run a checksum over: the contents of messages may imitate frames, each claiming to be as
/// long as the file.
const MOST_CHECKED: usize = 4 << 30;

/// The first right frame of this file at or behind `from`.
fn find_frame<'a>(
    bytes: &'a [u8],
    from: usize,
    seed: u32,
    seq: u64,
    budget: &mut usize,
) -> Result<Option<(usize, Frame<'a>)>, Imitated> {
    const BLOCK: usize = 4096;
    const ZEROS: [u8; BLOCK] = [0; BLOCK];
    let mut start = from.next_multiple_of(ALIGN);
    while start < bytes.len() {
        let end = (start + BLOCK).min(bytes.len());
        if bytes[start..end] != ZEROS[..end - start] {
            for at in (start..end).step_by(ALIGN) {
                if !format::is_begun(&bytes[at..], seq) {
                    continue;
                }
                if let Some(frame) = format::parse(&bytes[at..], seed, seq) {
                    return Ok(Some((at, frame)));
                }
                *budget = budget.checked_sub(format::claimed_bytes(&bytes[at..])).ok_or(Imitated)?;
            }
        }
        start = end.next_multiple_of(ALIGN);
    }
    Ok(None)
}
