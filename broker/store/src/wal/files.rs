//! The log's files: making the next one ready ahead of need, and releasing old ones.
//!
//! Both are done by the `wal-files` thread (or a step of the owner that runs the log by hand), so
//! that the log thread only ever takes a file that is ready: filled with zeros, with a synced header
//! and a synced name. A released file becomes the next one if it has the usual size: renamed away,
//! given its new header, synced, renamed to its new name. A file with a log file's name therefore
//! always has the header that belongs to the name.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::control::State;
use super::format;
use super::scan::path_of;
use super::{FULL_FILES, Inner, WalFailure};
use crate::Lsn;
use crate::disk::{self, DiskFile};

const TEMPORARY: &str = "wal-next.tmp";
/// Released files kept for reuse, which saves filling new ones with zeros; further ones are removed.
pub(super) const SPARES: usize = 8;
/// How often a full disk is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// A log file that is not written any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClosedFile {
    /// Its number.
    pub seq: u64,
    /// The first position in it.
    pub first_lsn: Lsn,
    /// The last position in it.
    pub last_lsn: Lsn,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A file that is ready to take frames.
pub(super) struct ReadyFile {
    pub(super) seq: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
}

/// What is known about the files; shared by the log thread, the files thread and callers.
pub(super) struct Files {
    pub(super) closed: VecDeque<ClosedFile>,
    pub(super) current_seq: u64,
    pub(super) current_first_lsn: Lsn,
    pub(super) ready: Option<ReadyFile>,
    /// Numbers of released files that still have their old names.
    pub(super) spares: Vec<u64>,
    pub(super) release: Option<Release>,
    pub(super) stop: bool,
}

/// A wish to release files.
#[derive(Clone, Copy)]
pub(super) struct Release {
    /// Files wholly below this go.
    before: Lsn,
    /// But not before the log is durable up to here: what makes them dispensable may still be on
    /// its way to the disk.
    when_durable: Lsn,
}

impl Inner {
    pub(super) fn request_release(&self, before: Lsn) {
        let when_durable = self.appended.load(Ordering::SeqCst);
        let mut files = self.files.lock();
        let before = files.release.map_or(before, |release| release.before.max(before));
        if files.closed.front().is_none_or(|file| file.last_lsn >= before) {
            return;
        }
        files.release = Some(Release { before, when_durable });
        self.release_when_durable.store(when_durable.max(1), Ordering::SeqCst);
        drop(files);
        self.files_work.notify_one();
    }

    /// Told by the log thread after each sync.
    pub(super) fn durable_advanced_for_release(&self, durable: Lsn) {
        let wanted = self.release_when_durable.load(Ordering::SeqCst);
        if wanted != 0 && durable >= wanted {
            drop(self.files.lock());
            self.files_work.notify_one();
        }
    }

    /// The files thread.
    pub(super) fn run_files(&self) {
        loop {
            let mut files = self.files.lock();
            loop {
                if files.stop {
                    return;
                }
                let full = self.full.load(Ordering::SeqCst) & FULL_FILES != 0;
                if self.release_due(&files).is_some() || (files.ready.is_none() && !full) {
                    break;
                }
                if !full {
                    self.files_work.wait(&mut files);
                } else if self.files_work.wait_for(&mut files, RETRY).timed_out() {
                    break;
                }
            }
            drop(files);
            if let Err(failure) = self.files_step() {
                self.fail(failure);
                return;
            }
        }
    }

    /// Releases what may go and makes a file ready if none is.
    pub(super) fn files_step(&self) -> Result<(), WalFailure> {
        let due = {
            let mut files = self.files.lock();
            let due = self.release_due(&files);
            if due.is_some() {
                files.release = None;
                self.release_when_durable.store(0, Ordering::SeqCst);
            }
            due
        };
        if let Some(release) = due {
            self.release(release.before).map_err(|error| WalFailure::new("release old log files", &error))?;
        }
        let needed = {
            let mut files = self.files.lock();
            files.ready.is_none().then(|| (files.current_seq + 1, files.spares.pop()))
        };
        let Some((seq, spare)) = needed else { return Ok(()) };
        match self.make_ready(seq, spare) {
            Ok(ready) => {
                self.files.lock().ready = Some(ready);
                self.set_full(FULL_FILES, false);
                self.ready_changed.notify_all();
                Ok(())
            }
            Err(error) if disk::is_full(&error) => {
                // What was written of it is space that others need.
                let _ = self.disk.remove(&self.dir.join(TEMPORARY));
                self.set_full(FULL_FILES, true);
                self.ready_changed.notify_all();
                Ok(())
            }
            Err(error) => Err(WalFailure::new("prepare the next log file", &error)),
        }
    }

    fn release_due(&self, files: &Files) -> Option<Release> {
        files.release.filter(|release| self.durable.load(Ordering::SeqCst) >= release.when_durable)
    }

    /// Makes it durable that the log starts behind the files wholly below `before`, then drops them.
    fn release(&self, before: Lsn) -> io::Result<()> {
        let (released, state) = {
            let files = self.files.lock();
            let released: Vec<ClosedFile> =
                files.closed.iter().copied().take_while(|file| file.last_lsn < before).collect();
            let next = files.closed.get(released.len());
            let state = State {
                first_file_seq: next.map_or(files.current_seq, |file| file.seq),
                first_lsn: next.map_or(files.current_first_lsn, |file| file.first_lsn),
                synced_lsn: self.durable.load(Ordering::SeqCst),
            };
            (released, state)
        };
        if released.is_empty() {
            return Ok(());
        }
        self.control.lock().write(state)?;
        let mut files = self.files.lock();
        files.closed.drain(..released.len());
        let mut remove = Vec::new();
        for file in released {
            self.closed_bytes.fetch_sub(file.bytes, Ordering::Relaxed);
            if file.bytes == self.options.file_bytes && files.spares.len() < SPARES {
                files.spares.push(file.seq);
            } else {
                remove.push(file.seq);
            }
        }
        drop(files);
        for seq in remove {
            self.disk.remove(&path_of(&self.dir, seq))?;
        }
        Ok(())
    }

    fn make_ready(&self, seq: u64, spare: Option<u64>) -> io::Result<ReadyFile> {
        let temporary = self.dir.join(TEMPORARY);
        let file = match spare {
            Some(old) => {
                self.disk.rename(&path_of(&self.dir, old), &temporary)?;
                self.disk.open(&temporary)?
            }
            None => self.disk.create(&temporary)?,
        };
        let header = format::file_header(&self.options.storage_uuid, seq, now_ms());
        file.write_at(&header, 0)?;
        file.preallocate(self.options.file_bytes)?;
        file.sync_data()?;
        self.disk.rename(&temporary, &path_of(&self.dir, seq))?;
        self.disk.sync_dir(&self.dir)?;
        Ok(ReadyFile { seq, len: file.len()?, file })
    }
}

/// Creates the log's first file.
pub(super) fn create_first(
    disk: &dyn disk::Disk,
    dir: &std::path::Path,
    options: &super::WalOptions,
    seq: u64,
) -> io::Result<()> {
    let temporary = dir.join(TEMPORARY);
    let file = disk.create(&temporary)?;
    file.write_at(&format::file_header(&options.storage_uuid, seq, now_ms()), 0)?;
    file.preallocate(options.file_bytes)?;
    file.sync_data()?;
    disk.rename(&temporary, &path_of(dir, seq))?;
    disk.sync_dir(dir)
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
