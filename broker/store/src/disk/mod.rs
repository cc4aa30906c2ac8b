//! What the store needs from a disk.
//!
//! The guarantees the store builds on are the weak ones of POSIX:
//! * written data is on the disk only after [`DiskFile::sync_data`]; before that any part of it may
//!   be there, in units of a sector (512 bytes);
//! * a name (created, renamed, removed) is on the disk only after [`Disk::sync_dir`];
//! * a failed sync may have dropped the data, and repeating it proves nothing.

mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// A directory tree with files in it.
pub trait Disk: Send + Sync {
    /// Creates an empty file, emptying one that exists, for reading and writing.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when there is none, else whatever the disk reports.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing a file of that name.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory and its missing parents; one that exists is fine.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The names in a directory, in no particular order.
    ///
    /// # Errors
    /// `NotFound` when there is no such directory, else whatever the disk reports.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// Whatever the disk reports; the names may be lost then.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Bytes an unprivileged process may still write under `dir`.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file; may be used from several threads.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buffer.len()` bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `data`, growing the file if needed. On an error any part may have been written.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the data written so far, and the length, durable.
    ///
    /// # Errors
    /// Whatever the disk reports. Not to be retried: the kernel may have dropped the data.
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// Whatever the disk reports.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills with zeros from the file's end up to `len`.
    ///
    /// Real zeros: blocks that are only reserved (`fallocate`) cost a journal commit at their first
    /// sync, which is what preallocation is meant to avoid.
    ///
    /// # Errors
    /// Whatever the disk reports, typically `StorageFull`.
    fn preallocate(&self, len: u64) -> io::Result<()> {
        const CHUNK: usize = 1 << 20;
        let mut at = self.len()?;
        let zeros = vec![0u8; CHUNK.min(usize::try_from(len.saturating_sub(at)).unwrap_or(CHUNK))];
        while at < len {
            let piece = zeros.len().min(usize::try_from(len - at).unwrap_or(CHUNK));
            self.write_at(&zeros[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }
}

/// Reads a whole file into `buffer`, replacing what it held.
///
/// # Errors
/// Whatever the disk reports.
pub fn read_file(file: &dyn DiskFile, buffer: &mut Vec<u8>) -> io::Result<()> {
    let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // What it held is overwritten, not cleared first.
    buffer.resize(len, 0);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    buffer.truncate(filled);
    Ok(())
}

/// Writes `content` as the file `name` in `dir`, whole or not at all: a temporary file, synced,
/// renamed, and the directory synced.
///
/// # Errors
/// Whatever the disk reports; the file then holds its old or its new content.
pub fn write_atomically(disk: &dyn Disk, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let file = disk.create(&temporary)?;
    file.write_at(content, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Whether an error means that the disk, or what this user may use of it, is full.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
