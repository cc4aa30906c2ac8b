//! The log thread's work: turn what was appended into frames, write them, sync, tell.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::files::{ClosedFile, ReadyFile};
use super::format::{self, FRAME_HEADER_BYTES, FrameHead, HEADER_BYTES};
use super::{FULL_FILES, FULL_WRITE, Inner, WalFailure};
use crate::Lsn;
use crate::disk::{self, DiskFile};

/// Records of one or more appends that become one frame.
pub(super) struct Chunk {
    /// Room for the frame's header, then the records.
    pub(super) bytes: Vec<u8>,
    pub(super) n_records: u32,
    pub(super) first_lsn: Lsn,
}

impl Chunk {
    pub(super) fn new(mut bytes: Vec<u8>, first_lsn: Lsn) -> Self {
        bytes.clear();
        bytes.resize(FRAME_HEADER_BYTES, 0);
        Self { bytes, n_records: 0, first_lsn }
    }

    pub(super) fn payload_len(&self) -> usize {
        self.bytes.len() - FRAME_HEADER_BYTES
    }
}

/// The file being written and what has not been written to it yet.
pub(super) struct Writer {
    pub(super) seq: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) len: u64,
    pub(super) seed: u32,
    /// Where the next frame goes.
    pub(super) at: u64,
    /// Last position known durable.
    pub(super) synced: Lsn,
    /// Last position written.
    pub(super) written: Lsn,
    /// Record bytes written since the last sync.
    pub(super) unsynced_bytes: usize,
    pub(super) queue: VecDeque<Chunk>,
    /// Buffers that may be used again.
    pub(super) used: Vec<Vec<u8>>,
}

/// Why a chunk could not be written now.
enum Obstacle {
    /// The disk is full or the next file is not ready; try again later.
    Later,
    Failed(WalFailure),
}

impl Writer {
    /// Writes and syncs what is queued. False when some of it has to wait for space or a file.
    pub(super) fn write_queued(&mut self, inner: &Inner) -> Result<bool, WalFailure> {
        let mut all = true;
        while let Some(mut chunk) = self.queue.pop_front() {
            match self.place(inner, &mut chunk) {
                Ok(()) => self.used.push(chunk.bytes),
                Err(Obstacle::Later) => {
                    self.queue.push_front(chunk);
                    all = false;
                    break;
                }
                Err(Obstacle::Failed(failure)) => return Err(failure),
            }
        }
        self.sync(inner)?;
        Ok(all)
    }

    fn place(&mut self, inner: &Inner, chunk: &mut Chunk) -> Result<(), Obstacle> {
        let payload_len = chunk.payload_len();
        let needed = format::frame_bytes(payload_len) as u64;
        if self.at + needed > self.len && self.at > HEADER_BYTES as u64 {
            self.next_file(inner)?;
        }
        if self.at + needed > self.len {
            // Larger than a file: this one, still empty, grows.
            self.file
                .preallocate(self.at + needed)
                .map_err(|error| blocked(inner, "grow the log file", &error))?;
            self.len = self.at + needed;
        }
        let head =
            FrameHead { first_lsn: chunk.first_lsn, synced_lsn: self.synced, n_records: chunk.n_records };
        format::seal(&mut chunk.bytes, self.seed, self.seq, head);
        if let Err(error) = inner.at_work.during(|| self.file.write_at(&chunk.bytes, self.at)) {
            format::unseal(&mut chunk.bytes, payload_len);
            return Err(blocked(inner, "write the log", &error));
        }
        inner.set_full(FULL_WRITE, false);
        self.at += needed;
        self.written = chunk.first_lsn + u64::from(chunk.n_records) - 1;
        self.unsynced_bytes += payload_len;
        inner.current_bytes.store(self.at, Ordering::Relaxed);
        inner.frames.fetch_add(1, Ordering::Relaxed);
        inner.bytes.fetch_add(needed, Ordering::Relaxed);
        Ok(())
    }

    /// Goes on in the next file. The old one is synced first: recovery relies on it.
    fn next_file(&mut self, inner: &Inner) -> Result<(), Obstacle> {
        self.sync(inner).map_err(Obstacle::Failed)?;
        if !inner.options.background {
            inner.files_step().map_err(Obstacle::Failed)?;
        }
        let mut files = inner.files.lock();
        let Some(ReadyFile { seq, file, len }) = files.ready.take() else {
            drop(files);
            inner.files_work.notify_one();
            // Not only is there no room for a file ahead of need: there is none to go on in.
            if inner.full.load(Ordering::SeqCst) & FULL_FILES != 0 {
                inner.set_full(FULL_WRITE, true);
            }
            return Err(Obstacle::Later);
        };
        let closed = ClosedFile {
            seq: self.seq,
            first_lsn: files.current_first_lsn,
            last_lsn: self.written,
            bytes: self.len,
        };
        files.closed.push_back(closed);
        files.current_seq = seq;
        files.current_first_lsn = self.written + 1;
        inner.closed_bytes.fetch_add(closed.bytes, Ordering::Relaxed);
        inner.current_bytes.store(HEADER_BYTES as u64, Ordering::Relaxed);
        drop(files);
        inner.files_work.notify_one();
        self.seed = format::seed(&inner.options.storage_uuid, seq);
        (self.seq, self.file, self.len, self.at) = (seq, file, len, HEADER_BYTES as u64);
        Ok(())
    }

    fn sync(&mut self, inner: &Inner) -> Result<(), WalFailure> {
        if self.synced == self.written {
            return Ok(());
        }
        // Never repeated after an error: the kernel may have dropped what it could not write, and a
        // second sync would then report success.
        let synced = inner.at_work.during(|| self.file.sync_data());
        synced.map_err(|error| WalFailure::new("sync the log", &error))?;
        self.synced = self.written;
        inner.syncs.fetch_add(1, Ordering::Relaxed);
        inner.publish(self.synced, std::mem::take(&mut self.unsynced_bytes));
        Ok(())
    }
}

fn blocked(inner: &Inner, doing: &'static str, error: &io::Error) -> Obstacle {
    if disk::is_full(error) {
        inner.set_full(FULL_WRITE, true);
        Obstacle::Later
    } else {
        Obstacle::Failed(WalFailure::new(doing, error))
    }
}
