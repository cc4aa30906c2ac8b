//! Opening the log: the first file, or the recovery scan; then the threads.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};

use broker_core::record::Record;
use parking_lot::{Condvar, Mutex, RwLock};

use super::control::{self, Control, ControlError, State};
use super::files::{self, ClosedFile, Files, ReadyFile};
use super::format::{self, HEADER_BYTES};
use super::scan::{OpenError, RecoveryReport, Scan, Scanned, ScannedFile, path_of, seq_of};
use super::writer::Writer;
use super::{Callbacks, DiskWatch, Handle, Inner, Pending, Wal, WalOptions};
use crate::Lsn;
use crate::disk::Disk;

/// The name of the thread that writes the log.
const LOG_THREAD: &str = "wal";
/// The name of the thread that makes log files ready.
pub(super) const FILES_THREAD: &str = "wal-files";

impl Wal {
    /// Opens the log in `dir`, creating it if it is new, and hands every record in it to `visitor`
    /// in order, with its position.
    ///
    /// # Errors
    /// When the disk fails, or the log is damaged, incomplete, foreign or newer than this program.
    /// Nothing is changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: WalOptions,
        mut visitor: impl FnMut(Lsn, Record<'_>),
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let io = |doing| move |source| OpenError::Io { doing, path: dir.to_owned(), source };
        disk.create_dir(dir).map_err(io("create log directory"))?;
        let mut names = Names::list(&*disk, dir)?;
        if !names.control {
            start_new(&*disk, dir, &options, &names)?;
            names = Names::list(&*disk, dir)?;
        }
        let mut control = open_control(&*disk, dir, options.storage_uuid)?;
        let first = control.state.first_file_seq;
        let (released, seqs): (Vec<u64>, Vec<u64>) = names.logs.iter().partition(|&&seq| seq < first);
        let scan = Scan { disk: &*disk, dir, storage_uuid: options.storage_uuid, control: control.state };
        let scanned = scan.run(&seqs, &mut visitor)?;
        // The names that were found are relied on from here on.
        disk.sync_dir(dir).map_err(io("sync log directory"))?;
        let state = State { synced_lsn: scanned.report.last_lsn, ..control.state };
        if state != control.state {
            control.write(state).map_err(io("write the control file in"))?;
        }
        for name in names.temporary {
            disk.remove(&dir.join(name)).map_err(io("clean up log directory"))?;
        }
        let report = scanned.report.clone();
        let inner = Arc::new(assemble(disk, dir, options, control, scanned, released)?);
        let threads = if inner.options.background {
            start_threads(&inner).map_err(io("start threads for"))?
        } else {
            Vec::new()
        };
        Ok((Self { handle: Arc::new(Handle { inner, threads: Mutex::new(threads) }) }, report))
    }
}

/// The names in the log's directory.
#[derive(Default)]
struct Names {
    control: bool,
    /// Numbers of log files, ascending.
    logs: Vec<u64>,
    temporary: Vec<String>,
}

impl Names {
    fn list(disk: &dyn Disk, dir: &Path) -> Result<Self, OpenError> {
        let listed = disk.list(dir).map_err(|source| OpenError::Io {
            doing: "list log directory",
            path: dir.to_owned(),
            source,
        })?;
        let mut names = Self::default();
        for name in listed {
            if name == control::NAME {
                names.control = true;
            } else if let Some(seq) = seq_of(&name) {
                names.logs.push(seq);
            } else if name.ends_with(".tmp") {
                names.temporary.push(name);
            }
        }
        names.logs.sort_unstable();
        Ok(names)
    }
}

const FIRST_SEQ: u64 = 1;

/// Makes the first file and then the control file. Without a control file nothing was ever appended.
fn start_new(disk: &dyn Disk, dir: &Path, options: &WalOptions, names: &Names) -> Result<(), OpenError> {
    let missing = OpenError::Missing { path: dir.join(control::NAME) };
    if options.expect_existing || names.logs.iter().any(|&seq| seq != FIRST_SEQ) {
        return Err(missing);
    }
    let io = |doing| move |source| OpenError::Io { doing, path: dir.to_owned(), source };
    if names.logs.is_empty() {
        files::create_first(disk, dir, options, FIRST_SEQ).map_err(io("create the first log file in"))?;
    } else {
        // A crash came between the first file and the control file; then the file is empty.
        let state = State { first_file_seq: FIRST_SEQ, first_lsn: 1, synced_lsn: 0 };
        let scan = Scan { disk, dir, storage_uuid: options.storage_uuid, control: state };
        let mut records = 0u64;
        scan.run(&[FIRST_SEQ], &mut |_, _| records += 1)?;
        if records > 0 {
            return Err(missing);
        }
        disk.sync_dir(dir).map_err(io("sync log directory"))?;
    }
    let state = State { first_file_seq: FIRST_SEQ, first_lsn: 1, synced_lsn: 0 };
    Control::create(disk, dir, options.storage_uuid, state).map_err(io("create the control file in"))?;
    Ok(())
}

fn open_control(disk: &dyn Disk, dir: &Path, storage_uuid: [u8; 16]) -> Result<Control, OpenError> {
    let path = || dir.join(control::NAME);
    Control::open(disk, dir, storage_uuid).map_err(|error| match error {
        ControlError::Io(source) => OpenError::Io { doing: "read", path: path(), source },
        ControlError::Damaged => OpenError::ControlDamaged { path: path() },
        ControlError::Foreign => OpenError::ControlForeign { path: path() },
    })
}

fn assemble(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: WalOptions,
    control: Control,
    scanned: Scanned,
    released: Vec<u64>,
) -> Result<Inner, OpenError> {
    let Scanned { mut used, unused, next_lsn, .. } = scanned;
    let Some(current) = used.pop() else {
        return Err(OpenError::Missing { path: path_of(dir, control.state.first_file_seq) });
    };
    let durable = next_lsn - 1;
    let closed = closed_files(&used, current.first_lsn);
    let mut unused = unused.into_iter();
    let ready = unused.next().map(|file| ReadyFile { seq: file.seq, file: file.file, len: file.len });
    // More than one unused file is never made; should there be some, they would get in the way.
    let remove =
        |path: PathBuf| disk.remove(&path).map_err(|source| OpenError::Io { doing: "remove", path, source });
    for file in unused {
        remove(path_of(dir, file.seq))?;
    }
    let mut spares = Vec::new();
    for seq in released {
        let len = disk.open(&path_of(dir, seq)).and_then(|file| file.len()).unwrap_or(0);
        if len == options.file_bytes && spares.len() < files::SPARES {
            spares.push(seq);
        } else {
            remove(path_of(dir, seq))?;
        }
    }
    let closed_bytes = closed.iter().map(|file| file.bytes).sum();
    let writer = Writer {
        seq: current.seq,
        seed: format::seed(&options.storage_uuid, current.seq),
        file: current.file,
        len: current.len,
        at: current.end,
        synced: durable,
        written: durable,
        unsynced_bytes: 0,
        queue: VecDeque::new(),
        used: Vec::new(),
    };
    let files = Files {
        closed,
        current_seq: current.seq,
        current_first_lsn: current.first_lsn,
        ready,
        spares,
        release: None,
        stop: false,
    };
    let pending = Pending::new(&options, next_lsn);
    Ok(Inner {
        disk,
        dir: dir.to_owned(),
        options,
        pending: Mutex::new(pending),
        work: Condvar::new(),
        durable_changed: Condvar::new(),
        appended: AtomicU64::new(durable),
        durable: AtomicU64::new(durable),
        undurable_bytes: AtomicUsize::new(0),
        current_bytes: AtomicU64::new(writer.at),
        writer: Mutex::new(writer),
        files: Mutex::new(files),
        files_work: Condvar::new(),
        ready_changed: Condvar::new(),
        control: Mutex::new(control),
        release_when_durable: AtomicU64::new(0),
        closed_bytes: AtomicU64::new(closed_bytes),
        full: AtomicU8::new(0),
        at_work: DiskWatch::default(),
        failure: OnceLock::new(),
        callbacks: RwLock::new(Callbacks::default()),
        frames: AtomicU64::new(0),
        syncs: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    })
}

fn closed_files(used: &[ScannedFile], current_first_lsn: Lsn) -> VecDeque<ClosedFile> {
    debug_assert_eq!(HEADER_BYTES % 512, 0, "frames start on a sector");
    let following = used.iter().skip(1).map(|file| file.first_lsn).chain([current_first_lsn]);
    used.iter()
        .zip(following)
        .map(|(file, next)| ClosedFile {
            seq: file.seq,
            first_lsn: file.first_lsn,
            last_lsn: next - 1,
            bytes: file.len,
        })
        .collect()
}

fn start_threads(inner: &Arc<Inner>) -> io::Result<Vec<JoinHandle<()>>> {
    let log = Arc::clone(inner);
    let log = thread::Builder::new().name(LOG_THREAD.to_owned()).spawn(move || log.run_log())?;
    let files = Arc::clone(inner);
    let files = thread::Builder::new().name(FILES_THREAD.to_owned()).spawn(move || files.run_files())?;
    Ok(vec![log, files])
}
