//! The write-ahead log: one per node, shared by everything that must survive a power loss.
//!
//! ```text
//! append() ──► pending chunk ──► wal thread: seal, pwrite, fdatasync ──► durable_lsn ──► callbacks
//!  (a short lock; what is little  everything that came meanwhile is the next commit
//!   is copied, see RecordBuffer)
//! ```
//!
//! * [`Wal::append`] is called under the caller's own lock (a shard's), never blocks on the disk and
//!   gives the records of one call consecutive positions inside one frame: after a crash all of them
//!   are there or none.
//! * Nothing is safe before [`Wal::durable_lsn`] has passed it. The thread does not wait for company:
//!   while one sync runs, the next commit gathers. Appends that are all [`Urgency::Lazy`] wait up to
//!   [`WalOptions::lazy_delay`].
//! * A failed sync or write is final: [`Wal::failed`] is set, nothing becomes durable any more, and
//!   the process should exit (code 74). A full disk is not: what was appended waits, [`Wal::is_full`]
//!   is set ahead of need (when the *next* file cannot be made), and all goes on when space returns.
//! * Space comes back through [`Wal::release_before`].
//!
//! Files: `wal-<seq>.log` (see `format.rs`), `control` (see `control.rs`). Recovery: see `scan.rs`.

mod buffer;
mod control;
mod files;
mod format;
pub(crate) mod fuzz;
mod open;
mod repair;
mod scan;
mod watch;
mod writer;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};
use thiserror::Error;

pub use self::buffer::RecordBuffer;
pub use self::files::ClosedFile;
use self::files::Files;
pub use self::format::HeaderError;
pub use self::repair::{RepairError, accept_loss};
pub use self::scan::{Corruption, OpenError, RecoveryReport};
pub use self::watch::DiskWatch;
use self::writer::{Chunk, Writer};
use crate::Lsn;
use crate::disk::Disk;

/// The most bytes of records one [`Wal::append`] takes.
pub const MAX_APPEND_BYTES: usize = 1 << 30;

/// A frame is closed when it would exceed this size; also the largest batch of lazy records.
const FRAME_TARGET_BYTES: usize = 4 << 20;
/// At least this many frames go into a file, so that little of it stays empty.
const FRAMES_PER_FILE: u64 = 16;
/// Buffers kept for reuse, and how large one may be.
const SPARE_BUFFERS: usize = 16;
const SPARE_BUFFER_BYTES: usize = 8 << 20;

/// A buffer of records from this size on becomes a frame of its own: writing one costs less than copying this much.
const HAND_OVER_BYTES: usize = 32 << 10;
/// What is given in exchange for it is no larger than this, as whoever gets it may keep it for long.
const EXCHANGE_BYTES: usize = 512 << 10;

/// The disk had no room for the next file.
const FULL_FILES: u8 = 1;
/// The disk had no room for a write.
const FULL_WRITE: u8 = 2;

/// How a log is kept. Start from [`WalOptions::new`].
#[derive(Debug, Clone)]
pub struct WalOptions {
    /// The data directory's identity; part of every checksum.
    pub storage_uuid: [u8; 16],
    /// Size of a log file. 64 MiB.
    pub file_bytes: u64,
    /// How long lazy records wait for company. 50 ms.
    pub lazy_delay: Duration,
    /// Above this many bytes not yet durable, [`Wal::is_congested`]. 32 MiB.
    pub congestion_bytes: usize,
    /// The directory was in use before: an empty one is an error, not a new log.
    pub expect_existing: bool,
    /// Run the two threads. Without, nothing happens until [`Wal::run_once`] (simulations).
    pub background: bool,
}

impl WalOptions {
    /// The usual values.
    #[must_use]
    pub fn new(storage_uuid: [u8; 16]) -> Self {
        Self {
            storage_uuid,
            file_bytes: 64 << 20,
            lazy_delay: Duration::from_millis(50),
            congestion_bytes: 32 << 20,
            expect_existing: false,
            background: true,
        }
    }
}

/// Whether somebody waits for the records of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A confirm or a commit waits: write as soon as the disk is free.
    Now,
    /// Nobody waits (`DROP`, `HWM`, `REQUEUE`): may wait a little for company.
    Lazy,
}

/// The log stopped for good.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("failed to {doing}: {error}")]
pub struct WalFailure {
    /// What was being done.
    pub doing: &'static str,
    /// What the disk said.
    pub error: String,
    /// The same as a kind.
    pub kind: io::ErrorKind,
}

impl WalFailure {
    fn new(doing: &'static str, error: &io::Error) -> Self {
        Self { doing, error: error.to_string(), kind: error.kind() }
    }
}

/// Why [`Wal::sync_blocking`] could not make everything durable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SyncError {
    /// The log has failed.
    #[error(transparent)]
    Failed(#[from] WalFailure),
    /// The disk is full; what was appended is kept and still tried.
    #[error("the disk is full")]
    Full,
}

/// Counters since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Frames written.
    pub frames: u64,
    /// Syncs done.
    pub syncs: u64,
    /// Bytes written, with frame headers and padding.
    pub bytes: u64,
}

/// A handle on the log; clones share it. Dropping the last one writes what was appended, if there is
/// room, and stops the threads (without threads it just closes the log).
#[derive(Clone)]
pub struct Wal {
    handle: Arc<Handle>,
}

struct Handle {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

type Callback<T> = Box<dyn Fn(T) + Send + Sync>;

#[derive(Default)]
struct Callbacks {
    durable: Vec<Callback<Lsn>>,
    failure: Vec<Callback<WalFailure>>,
    full: Vec<Callback<bool>>,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: WalOptions,
    pending: Mutex<Pending>,
    /// The log thread waits here.
    work: Condvar,
    /// `sync_blocking` waits here, with `pending`.
    durable_changed: Condvar,
    /// The last position given out; follows `pending.next_lsn`.
    appended: AtomicU64,
    durable: AtomicU64,
    undurable_bytes: AtomicUsize,
    writer: Mutex<Writer>,
    files: Mutex<Files>,
    /// The files thread waits here, with `files`.
    files_work: Condvar,
    /// The log thread waits here, with `files`, when it needs a file or space.
    ready_changed: Condvar,
    control: Mutex<control::Control>,
    /// Not 0 while a release waits for the log to be durable up to there.
    release_when_durable: AtomicU64,
    closed_bytes: AtomicU64,
    current_bytes: AtomicU64,
    full: AtomicU8,
    at_work: DiskWatch,
    failure: OnceLock<WalFailure>,
    callbacks: RwLock<Callbacks>,
    frames: AtomicU64,
    syncs: AtomicU64,
    bytes: AtomicU64,
}

struct Pending {
    chunks: Vec<Chunk>,
    bytes: usize,
    frame_target: usize,
    next_lsn: Lsn,
    urgent: bool,
    thread: ThreadState,
    /// Threads in `sync_blocking`.
    waiting: usize,
    spare: Vec<Vec<u8>>,
    stop: bool,
    failed: bool,
}

/// What the log thread is doing, so that appending wakes it only when it must.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ThreadState {
    Busy,
    Idle,
    /// Lazy records are there and their delay runs.
    Lingering,
}

impl Wal {
    /// Adds records, already encoded one after the other, and returns the position of the last one.
    ///
    /// They end up in one frame: after a crash all of them are there or none. After a failure the
    /// records are discarded; their positions never become durable.
    ///
    /// # Panics
    /// With more than [`MAX_APPEND_BYTES`]: the caller bounds its transactions.
    pub fn append(&self, records: &[u8], n_records: u32, urgency: Urgency) -> Lsn {
        self.append_with(records.len(), n_records, urgency, |pending, first_lsn| {
            pending.put(records, n_records, first_lsn);
        })
    }

    fn append_with(
        &self,
        bytes: usize,
        n_records: u32,
        urgency: Urgency,
        put: impl FnOnce(&mut Pending, Lsn),
    ) -> Lsn {
        assert!(bytes <= MAX_APPEND_BYTES, "an append is bounded by the caller");
        let inner = &*self.handle.inner;
        let mut pending = inner.pending.lock();
        let first_lsn = pending.next_lsn;
        if bytes == 0 || n_records == 0 {
            debug_assert!(bytes == 0 && n_records == 0, "records and their number disagree");
            return first_lsn - 1;
        }
        pending.next_lsn += u64::from(n_records);
        inner.appended.store(pending.next_lsn - 1, Ordering::SeqCst);
        if pending.failed || pending.stop {
            return pending.next_lsn - 1;
        }
        put(&mut pending, first_lsn);
        pending.bytes += bytes;
        inner.undurable_bytes.fetch_add(bytes, Ordering::Relaxed);
        pending.urgent |= urgency == Urgency::Now || pending.bytes >= pending.frame_target;
        let wake = match pending.thread {
            ThreadState::Busy => false,
            ThreadState::Idle => true,
            ThreadState::Lingering => pending.urgent,
        };
        if wake {
            pending.thread = if pending.urgent { ThreadState::Busy } else { ThreadState::Lingering };
        }
        let last_lsn = pending.next_lsn - 1;
        drop(pending);
        if wake {
            inner.work.notify_one();
        }
        last_lsn
    }

    /// The same for records that were gathered for the log, which it need not copy then. The buffer is empty after.
    ///
    /// # Panics
    /// With more than [`MAX_APPEND_BYTES`]: the caller bounds its transactions.
    pub fn append_buffer(&self, records: &mut RecordBuffer, urgency: Urgency) -> Lsn {
        let (n_records, bytes) = (std::mem::take(&mut records.n_records), records.len());
        let last_lsn = self.append_with(bytes, n_records, urgency, |pending, first_lsn| {
            if bytes >= HAND_OVER_BYTES {
                let spare = pending.spare.iter().rposition(|spare| spare.capacity() <= EXCHANGE_BYTES);
                let spare = spare.map(|at| pending.spare.swap_remove(at)).unwrap_or_default();
                let bytes = std::mem::replace(&mut records.bytes, spare);
                pending.chunks.push(Chunk { bytes, n_records, first_lsn });
            } else {
                pending.put(records.encoded(), n_records, first_lsn);
            }
        });
        records.clear();
        last_lsn
    }

    /// Everything up to this position survives a power loss.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.handle.inner.durable.load(Ordering::SeqCst)
    }

    /// The last position given out.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.handle.inner.appended.load(Ordering::SeqCst)
    }

    /// Calls `callback` with the new [`Wal::durable_lsn`] after every sync, on the log thread: it
    /// must be short, must not block, and must not hold a `Wal` (that would keep it from stopping).
    pub fn on_durable(&self, callback: Box<dyn Fn(Lsn) + Send + Sync>) {
        self.handle.inner.callbacks.write().durable.push(callback);
    }

    /// Calls `callback` once when the log fails; at once if it has.
    pub fn on_failure(&self, callback: Box<dyn Fn(WalFailure) + Send + Sync>) {
        let mut callbacks = self.handle.inner.callbacks.write();
        if let Some(failure) = self.handle.inner.failure.get() {
            callback(failure.clone());
        }
        callbacks.failure.push(callback);
    }

    /// Calls `callback` with true when the disk became full and with false when it has room again.
    pub fn on_full(&self, callback: Box<dyn Fn(bool) + Send + Sync>) {
        self.handle.inner.callbacks.write().full.push(callback);
    }

    /// Why the log stopped for good, if it did.
    #[must_use]
    pub fn failed(&self) -> Option<WalFailure> {
        self.handle.inner.failure.get().cloned()
    }

    /// Whether the disk has no room for the next log file. Publishes should be refused then;
    /// records that free space (`DROP`) still fit into the current file.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.handle.inner.full.load(Ordering::Relaxed) != 0
    }

    /// Bytes of records appended and not yet durable.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.handle.inner.undurable_bytes.load(Ordering::Relaxed)
    }

    /// Whether so much is not yet durable that publishers should wait for the next
    /// [`Wal::on_durable`] and ask again.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.pending_bytes() > self.handle.inner.options.congestion_bytes
    }

    /// Makes everything appended so far durable and returns up to where it is.
    ///
    /// # Errors
    /// When the log has failed, or the disk is full.
    pub fn sync_blocking(&self) -> Result<Lsn, SyncError> {
        let inner = &*self.handle.inner;
        if !inner.options.background {
            self.run_once();
            return inner.sync_result(self.last_lsn()).unwrap_or(Err(SyncError::Full));
        }
        let mut pending = inner.pending.lock();
        let target = pending.next_lsn - 1;
        pending.urgent |= !pending.chunks.is_empty();
        pending.thread = ThreadState::Busy;
        inner.work.notify_one();
        pending.waiting += 1;
        let result = loop {
            if let Some(result) = inner.sync_result(target) {
                break result;
            }
            inner.durable_changed.wait(&mut pending);
        };
        pending.waiting -= 1;
        result
    }

    /// Does by hand what the threads do: everything that was appended is written and synced, if
    /// there is room, and what may be released is. Only for a log opened without `background`.
    pub fn run_once(&self) {
        let inner = &*self.handle.inner;
        debug_assert!(!inner.options.background, "the threads do this");
        if inner.failure.get().is_some() {
            return;
        }
        let mut writer = inner.writer.lock();
        let result = inner.files_step().and_then(|()| {
            inner.take_pending(&mut inner.pending.lock(), &mut writer);
            writer.write_queued(inner)?;
            inner.files_step()
        });
        drop(writer);
        if let Err(failure) = result {
            inner.fail(failure);
        }
    }

    /// Stops for good: everything appended is made durable, the control file notes up to where, and
    /// the threads end. Appending afterwards has no effect.
    ///
    /// # Errors
    /// When the log has failed, or the disk is full.
    pub fn stop(&self) -> Result<Lsn, SyncError> {
        let durable = self.sync_blocking()?;
        let inner = &*self.handle.inner;
        self.handle.join();
        let mut control = inner.control.lock();
        let state = control::State { synced_lsn: durable, ..control.state };
        control.write(state).map_err(|error| WalFailure::new("write the log's control file", &error))?;
        Ok(durable)
    }

    /// Bytes of all files of the log, the current one as far as it is written.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        let inner = &*self.handle.inner;
        inner.closed_bytes.load(Ordering::Relaxed) + inner.current_bytes.load(Ordering::Relaxed)
    }

    /// The first position still in the log.
    #[cfg(test)]
    fn oldest_file_first_lsn(&self) -> Lsn {
        let files = self.handle.inner.files.lock();
        files.closed.front().map_or(files.current_first_lsn, |file| file.first_lsn)
    }

    /// The files that are complete, oldest first. The one being written is not among them.
    #[must_use]
    pub fn closed_files(&self) -> Vec<ClosedFile> {
        self.handle.inner.files.lock().closed.iter().copied().collect()
    }

    /// Nothing below `lsn` is needed any more: files wholly below it are recycled or removed.
    ///
    /// Happens in the background, and not before everything appended so far is durable: it may be
    /// what makes the old records dispensable (messages written again further on).
    pub fn release_before(&self, lsn: Lsn) {
        self.handle.inner.request_release(lsn);
    }

    /// Tells how long the disk takes.
    #[must_use]
    pub fn disk_watch(&self) -> DiskWatch {
        self.handle.inner.at_work.clone()
    }

    /// Counters since the log was opened.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let inner = &*self.handle.inner;
        WalStats {
            frames: inner.frames.load(Ordering::Relaxed),
            syncs: inner.syncs.load(Ordering::Relaxed),
            bytes: inner.bytes.load(Ordering::Relaxed),
        }
    }
}

impl Pending {
    fn new(options: &WalOptions, next_lsn: Lsn) -> Self {
        let share = usize::try_from(options.file_bytes / FRAMES_PER_FILE).unwrap_or(FRAME_TARGET_BYTES);
        Self {
            chunks: Vec::new(),
            bytes: 0,
            frame_target: share.min(FRAME_TARGET_BYTES),
            next_lsn,
            urgent: false,
            thread: ThreadState::Busy,
            waiting: 0,
            spare: Vec::new(),
            stop: false,
            failed: false,
        }
    }

    fn put(&mut self, records: &[u8], n_records: u32, first_lsn: Lsn) {
        let fits = self.chunks.last().is_some_and(|chunk| {
            chunk.bytes.len() + records.len() <= self.frame_target
                && chunk.n_records.checked_add(n_records).is_some()
        });
        if !fits {
            let buffer = self.spare.pop().unwrap_or_default();
            self.chunks.push(Chunk::new(buffer, first_lsn));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.bytes.extend_from_slice(records);
            chunk.n_records += n_records;
        }
    }
}

impl Inner {
    /// The log thread.
    fn run_log(&self) {
        let mut writer = self.writer.lock();
        loop {
            if writer.queue.is_empty() && !self.wait_for_work(&mut writer) {
                return;
            }
            match writer.write_queued(self) {
                Ok(true) => {}
                Ok(false) => {
                    let mut files = self.files.lock();
                    if files.stop || (self.is_stuck(&files) && self.pending.lock().stop) {
                        return;
                    }
                    if files.ready.is_none() || self.full.load(Ordering::SeqCst) & FULL_WRITE != 0 {
                        self.durable_changed.notify_all();
                        self.ready_changed.wait_for(&mut files, files::RETRY);
                    }
                }
                Err(failure) => {
                    drop(writer);
                    self.fail(failure);
                    return;
                }
            }
        }
    }

    /// Waits until there is something to write and takes it. False when the log was stopped.
    fn wait_for_work(&self, writer: &mut Writer) -> bool {
        let mut pending = self.pending.lock();
        let mut deadline: Option<Instant> = None;
        loop {
            if pending.failed {
                return false;
            }
            if pending.chunks.is_empty() {
                if pending.stop {
                    return false;
                }
                pending.thread = ThreadState::Idle;
                self.work.wait(&mut pending);
                continue;
            }
            if pending.urgent || pending.stop {
                break;
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + self.options.lazy_delay);
            pending.thread = ThreadState::Lingering;
            if self.work.wait_until(&mut pending, until).timed_out() {
                break;
            }
        }
        self.take_pending(&mut pending, writer);
        true
    }

    fn take_pending(&self, pending: &mut Pending, writer: &mut Writer) {
        pending.thread = ThreadState::Busy;
        pending.urgent = false;
        pending.bytes = 0;
        writer.queue.extend(pending.chunks.drain(..));
        for buffer in writer.used.drain(..) {
            if pending.spare.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_BUFFER_BYTES {
                pending.spare.push(buffer);
            }
        }
    }

    /// Everything up to `durable` is on the disk.
    fn publish(&self, durable: Lsn, bytes: usize) {
        self.durable.store(durable, Ordering::SeqCst);
        self.undurable_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.pending.lock().waiting > 0 {
            self.durable_changed.notify_all();
        }
        self.durable_advanced_for_release(durable);
        for callback in &self.callbacks.read().durable {
            callback(durable);
        }
    }

    fn sync_result(&self, target: Lsn) -> Option<Result<Lsn, SyncError>> {
        let durable = self.durable.load(Ordering::SeqCst);
        if durable >= target {
            return Some(Ok(durable));
        }
        if let Some(failure) = self.failure.get() {
            return Some(Err(SyncError::Failed(failure.clone())));
        }
        (self.full.load(Ordering::SeqCst) & FULL_WRITE != 0).then_some(Err(SyncError::Full))
    }

    fn set_full(&self, bit: u8, full: bool) {
        let before = if full {
            self.full.fetch_or(bit, Ordering::SeqCst)
        } else if self.full.load(Ordering::Relaxed) & bit == 0 {
            return;
        } else {
            self.full.fetch_and(!bit, Ordering::SeqCst)
        };
        let after = if full { before | bit } else { before & !bit };
        if (before == 0) != (after == 0) {
            for callback in &self.callbacks.read().full {
                callback(full);
            }
        }
    }

    fn fail(&self, failure: WalFailure) {
        // Set before the lock is taken: who waits with `pending` has looked at it under that lock.
        let first = self.failure.set(failure.clone()).is_ok();
        {
            let mut pending = self.pending.lock();
            pending.failed = true;
            pending.chunks = Vec::new();
        }
        self.work.notify_all();
        self.durable_changed.notify_all();
        self.ready_changed.notify_all();
        if first {
            for callback in &self.callbacks.read().failure {
                callback(failure.clone());
            }
        }
    }
}

impl Handle {
    fn join(&self) {
        {
            let mut pending = self.inner.pending.lock();
            pending.stop = true;
            self.inner.work.notify_all();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let me = std::thread::current().id();
        // The log thread first: it may need one more file to write what is left.
        for thread in threads {
            {
                let mut files = self.inner.files.lock();
                files.stop = thread.thread().name() == Some(open::FILES_THREAD);
                self.inner.files_work.notify_all();
                self.inner.ready_changed.notify_all();
            }
            if thread.thread().id() != me {
                // A panic of the thread has been printed; there is nothing to add here.
                let _ = thread.join();
            }
        }
    }
}

impl Inner {
    /// Whether what is left cannot be written now.
    fn is_stuck(&self, files: &Files) -> bool {
        let full = self.full.load(Ordering::SeqCst);
        full & FULL_WRITE != 0 || (full & FULL_FILES != 0 && files.ready.is_none())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests;
