//! Opening the journal: the snapshot, the entries behind it, the tail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use thiserror::Error;

use super::format::{self, ALIGN, HEADER_BYTES, Kind, Unacceptable};
use super::{Journal, JournalError, Pending, Writer};
use crate::disk::{self, Disk, DiskFile};
use crate::le;

/// How a journal is kept.
#[derive(Debug, Clone, Copy)]
pub struct JournalOptions {
    /// The data directory's identity; part of every checksum.
    pub storage_uuid: [u8; 16],
    /// The directory was in use before: an empty one is an error, not a new journal.
    pub expect_existing: bool,
}

impl JournalOptions {
    /// The usual values.
    #[must_use]
    pub fn new(storage_uuid: [u8; 16]) -> Self {
        Self { storage_uuid, expect_existing: false }
    }
}

/// What opening the journal hands to the visitor, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalItem<'a> {
    /// The newest snapshot; comes first, if there is one.
    Snapshot {
        /// The last entry it contains.
        index: u64,
        /// What was installed.
        content: &'a [u8],
    },
    /// An entry behind the snapshot.
    Entry {
        /// Its number.
        index: u64,
        /// What was appended.
        content: &'a [u8],
    },
}

/// What opening the journal found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JournalReport {
    /// The snapshot's index, 0 for none.
    pub snapshot_index: u64,
    /// The last entry, or the snapshot's index.
    pub last_index: u64,
    /// Bytes of an unfinished write that were cleared from the tail; it had not been reported durable.
    pub torn_bytes: u64,
}

/// Why the journal cannot be opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum JournalOpenError {
    /// The disk failed.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A file that must be there is not.
    #[error("{path} is missing although the journal was in use; nothing was changed")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A file's header, or a snapshot, is damaged.
    #[error("{path} is damaged; nothing was changed")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{path}: {what} is unknown to this version")]
    Newer {
        /// The file.
        path: PathBuf,
        /// What this version does not know.
        what: String,
    },
    /// It belongs to another data directory.
    #[error("{path} belongs to another data directory (its storage id differs)")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A durable entry is damaged.
    #[error("{path} is damaged at byte {offset}: entry {index} had been written safely and cannot be read")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where the damage starts.
        offset: u64,
        /// The first entry that is damaged.
        index: u64,
    },
    /// The journal could not be prepared for writing.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

pub(super) fn journal_name(file_seq: u64) -> String {
    format!("journal-{file_seq:016x}.log")
}

pub(super) fn snapshot_name(index: u64) -> String {
    format!("snapshot-{index:016x}.bin")
}

const FIRST_SEQ: u64 = 1;

impl Journal {
    /// Opens the journal in `dir`, creating it if it is new, and hands the snapshot and every entry
    /// behind it to `visitor`.
    ///
    /// # Errors
    /// When the disk fails, or the journal is damaged, incomplete, foreign or newer than this program.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: JournalOptions,
        mut visitor: impl FnMut(JournalItem<'_>),
    ) -> Result<(Self, JournalReport), JournalOpenError> {
        let io = |doing| move |source| JournalOpenError::Io { doing, path: dir.to_owned(), source };
        disk.create_dir(dir).map_err(io("create journal directory"))?;
        let mut names = disk.list(dir).map_err(io("list journal directory"))?;
        if numbers(&names, "journal-", ".log").is_empty() {
            start_new(&*disk, dir, options, &names)?;
            names = disk.list(dir).map_err(io("list journal directory"))?;
        }
        let uuid = options.storage_uuid;
        let file_seq = numbers(&names, "journal-", ".log").last().copied().unwrap_or(FIRST_SEQ);
        let loaded = Loaded::load(&*disk, dir, &uuid, file_seq, &mut visitor)?;
        // The names that were found are relied on from here on.
        disk.sync_dir(dir).map_err(io("sync journal directory"))?;
        let report = loaded.report;
        let mut writer = Writer {
            file_seq,
            seed: format::seed(&uuid, file_seq),
            file: loaded.file,
            at: loaded.end,
            len: loaded.len,
            synced_index: report.last_index,
            snapshot_index: report.snapshot_index,
            queue: Vec::new(),
            failure: None,
        };
        match writer.mark() {
            // Its only use is to guard the entries before it.
            Ok(()) | Err(JournalError::Full) => {}
            Err(error) => return Err(error.into()),
        }
        let keep = [journal_name(file_seq), snapshot_name(report.snapshot_index)];
        for name in names.iter().filter(|name| is_ours(name) && !keep.contains(name)) {
            disk.remove(&dir.join(name)).map_err(io("clean up journal directory"))?;
        }
        let pending = Mutex::new(Pending { entries: Vec::new(), last_index: report.last_index });
        let journal = Self { disk, dir: dir.to_owned(), options, pending, writer: Mutex::new(writer) };
        Ok((journal, report))
    }
}

/// What was read.
struct Loaded {
    file: Arc<dyn DiskFile>,
    len: u64,
    end: u64,
    report: JournalReport,
}

impl Loaded {
    fn load(
        disk: &dyn Disk,
        dir: &Path,
        uuid: &[u8; 16],
        file_seq: u64,
        visitor: &mut dyn FnMut(JournalItem<'_>),
    ) -> Result<Self, JournalOpenError> {
        let path = dir.join(journal_name(file_seq));
        let mut bytes = Vec::new();
        let file = read(disk, &path, &mut bytes)?;
        let after_index =
            format::check_file_header(&bytes, uuid, file_seq).map_err(|why| refuse(why, &path))?;
        if after_index != 0 {
            let path = dir.join(snapshot_name(after_index));
            let mut bytes = Vec::new();
            read(disk, &path, &mut bytes)?;
            let content =
                format::snapshot_content(&bytes, uuid, after_index).map_err(|why| refuse(why, &path))?;
            visitor(JournalItem::Snapshot { index: after_index, content });
        }
        let seed = format::seed(uuid, file_seq);
        let mut last_index = after_index;
        let mut at = HEADER_BYTES;
        while let Some(frame) = format::parse(&bytes[at..], seed) {
            match frame.kind() {
                Some(Kind::Mark) => {}
                Some(Kind::Entry) if frame.index == last_index + 1 => {
                    last_index = frame.index;
                    visitor(JournalItem::Entry { index: frame.index, content: frame.payload });
                }
                Some(Kind::Entry) => break,
                None => {
                    let what = format!("frame kind {} at byte {at}", frame.kind);
                    return Err(JournalOpenError::Newer { path, what });
                }
            }
            at += frame.size;
        }
        let end = at as u64;
        // A right frame behind the bad place says up to where the file had been synced before it;
        // the next one may have been written together with the bad one, so all of them are asked.
        let used = at + le::used_len(&bytes[at..]);
        let mut later = (at..used).step_by(ALIGN).filter_map(|at| format::parse(&bytes[at..], seed));
        if later.any(|frame| frame.synced_to > end) {
            return Err(JournalOpenError::Corrupt { path, offset: end, index: last_index + 1 });
        }
        let torn_bytes = clear_tail(&*file, end, used - at).map_err(|source| JournalOpenError::Io {
            doing: "clear the tail of",
            path,
            source,
        })?;
        let report = JournalReport { snapshot_index: after_index, last_index, torn_bytes };
        Ok(Self { file, len: bytes.len() as u64, end, report })
    }
}

/// Overwrites what an unfinished write left behind `from` with zeros, and syncs: what was read may
/// so far be in the system's cache only.
fn clear_tail(file: &dyn DiskFile, from: u64, torn: usize) -> io::Result<u64> {
    if torn > 0 {
        file.write_at(&vec![0; torn], from)?;
    }
    file.sync_data()?;
    Ok(torn as u64)
}

fn read(disk: &dyn Disk, path: &Path, bytes: &mut Vec<u8>) -> Result<Arc<dyn DiskFile>, JournalOpenError> {
    let file = disk.open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => JournalOpenError::Missing { path: path.to_owned() },
        _ => JournalOpenError::Io { doing: "open", path: path.to_owned(), source },
    })?;
    disk::read_file(&*file, bytes).map_err(|source| JournalOpenError::Io {
        doing: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(file)
}

fn refuse(why: Unacceptable, path: &Path) -> JournalOpenError {
    let path = path.to_owned();
    match why {
        Unacceptable::Damaged => JournalOpenError::Damaged { path },
        Unacceptable::Newer(version) => {
            JournalOpenError::Newer { path, what: format!("format version {version}") }
        }
        Unacceptable::Foreign => JournalOpenError::Foreign { path },
    }
}

fn start_new(
    disk: &dyn Disk,
    dir: &Path,
    options: JournalOptions,
    names: &[String],
) -> Result<(), JournalOpenError> {
    let name = journal_name(FIRST_SEQ);
    if options.expect_existing || !numbers(names, "snapshot-", ".bin").is_empty() {
        return Err(JournalOpenError::Missing { path: dir.join(name) });
    }
    let header = format::file_header(&options.storage_uuid, FIRST_SEQ, 0);
    disk::write_atomically(disk, dir, &name, &header).map_err(|source| JournalOpenError::Io {
        doing: "create",
        path: dir.join(name),
        source,
    })
}

/// The numbers in names of this form, ascending.
fn numbers(names: &[String], prefix: &str, suffix: &str) -> Vec<u64> {
    let number = |name: &String| {
        let digits = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
    };
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Whether the journal made a file of this name.
fn is_ours(name: &str) -> bool {
    name.ends_with(".tmp") || name.starts_with("journal-") || name.starts_with("snapshot-")
}
