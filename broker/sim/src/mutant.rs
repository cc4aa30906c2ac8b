//! A disk between the store and the real (or simulated) one that breaks a rule on purpose.
//!
//! Each mutation has the effect of a plausible mistake in the store. The enumeration must notice
//! every one of them; if it does not, it is the enumeration that is broken.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use broker_store::disk::{Disk, DiskFile};

/// The rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Data is reported durable without being synced.
    NoDataSync,
    /// Directories are not synced after a name changed.
    NoDirSync,
    /// A file made under a temporary name is not synced before it gets its real name.
    NoSyncBeforeRename,
    /// A failed sync is tried once more, and the second answer believed.
    SyncTwice,
    /// The tail that an unfinished write left is not cleared.
    TailKept,
}

/// The disk with the mutation.
pub struct MutantDisk {
    inner: Arc<dyn Disk>,
    mutation: Mutation,
}

struct MutantFile {
    inner: Arc<dyn DiskFile>,
    mutation: Mutation,
    /// Made under a temporary name and not synced yet.
    temporary: AtomicBool,
}

impl MutantDisk {
    /// Breaks `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, mutation: Mutation) -> Self {
        Self { inner, mutation }
    }

    fn wrap(&self, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let temporary = path.extension().is_some_and(|extension| extension == "tmp");
        Arc::new(MutantFile { inner, mutation: self.mutation, temporary: AtomicBool::new(temporary) })
    }
}

impl Disk for MutantDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, self.inner.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if self.mutation == Mutation::NoDirSync { Ok(()) } else { self.inner.sync_dir(dir) }
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        self.inner.free_bytes(dir)
    }
}

impl DiskFile for MutantFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        // Within a file, only clearing a tail writes nothing but zeros.
        let clears = offset + data.len() as u64 <= self.inner.len()? && data.iter().all(|&byte| byte == 0);
        if self.mutation == Mutation::TailKept && clears {
            return Ok(());
        }
        self.inner.write_at(data, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.mutation {
            Mutation::NoDataSync => Ok(()),
            Mutation::NoSyncBeforeRename if self.temporary.swap(false, Ordering::Relaxed) => Ok(()),
            Mutation::SyncTwice => self.inner.sync_data().or_else(|_| self.inner.sync_data()),
            _ => self.inner.sync_data(),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}
