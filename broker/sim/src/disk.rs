//! A disk in memory that records every operation and can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use broker_store::disk::{Disk, DiskFile};
use parking_lot::Mutex;

/// The number of a file, whatever its name.
pub type FileId = usize;

/// One operation on the disk.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new, empty file got this name.
    Create {
        /// Its name.
        path: PathBuf,
        /// The file.
        file: FileId,
    },
    /// Data went into a file.
    Write {
        /// The file.
        file: FileId,
        /// Where.
        offset: u64,
        /// What.
        data: Arc<[u8]>,
    },
    /// A file's data became durable.
    Sync {
        /// The file.
        file: FileId,
    },
    /// A sync failed: what it should have made durable may be lost, and no later sync brings it.
    FailedSync {
        /// The file.
        file: FileId,
    },
    /// The names in a directory became durable.
    SyncDir {
        /// The directory.
        dir: PathBuf,
    },
    /// A file changed its name.
    Rename {
        /// Before.
        from: PathBuf,
        /// After.
        to: PathBuf,
        /// The file.
        file: FileId,
    },
    /// A name was removed.
    Remove {
        /// The name.
        path: PathBuf,
    },
    /// Not an operation: the program under test made a promise here.
    Note(u64),
}

/// A fault to inject: the operation with this number (counting every call that changes the disk or
/// syncs) fails with this kind of error.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    /// Which call, from 0.
    pub at: u64,
    /// How it fails.
    pub kind: io::ErrorKind,
}

/// The disk. Files start with what [`SimDisk::from_files`] gives them, all of it durable.
#[derive(Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
    ops: Vec<Op>,
    calls: u64,
    fault: Option<Fault>,
    /// Bytes all files together may have.
    capacity: Option<u64>,
}

struct SimFile {
    state: Arc<Mutex<State>>,
    file: FileId,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk with these durable files.
    #[must_use]
    pub fn from_files(files: BTreeMap<PathBuf, Vec<u8>>, dirs: BTreeSet<PathBuf>) -> Self {
        let disk = Self::new();
        {
            let mut state = disk.state.lock();
            state.dirs = dirs;
            for (path, data) in files {
                let file = state.files.len();
                state.files.push(data);
                state.names.insert(path, file);
            }
        }
        disk
    }

    /// What is on the disk now, synced or not.
    #[must_use]
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state.lock();
        state.names.iter().map(|(path, &file)| (path.clone(), state.files[file].clone())).collect()
    }

    /// The directories.
    #[must_use]
    pub fn dirs(&self) -> BTreeSet<PathBuf> {
        self.state.lock().dirs.clone()
    }

    /// The operations so far.
    #[must_use]
    pub fn ops(&self) -> Vec<Op> {
        self.state.lock().ops.clone()
    }

    /// How many calls changed the disk or synced so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Notes a promise among the operations.
    pub fn note(&self, value: u64) {
        self.state.lock().ops.push(Op::Note(value));
    }

    /// Makes a call fail.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.state.lock().fault = fault;
    }

    /// Limits the bytes all files together may have.
    pub fn set_capacity(&self, capacity: Option<u64>) {
        self.state.lock().capacity = capacity;
    }

    /// Bytes of all files that have a name.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.state.lock().used()
    }

    /// Flips one bit of a file.
    pub fn flip(&self, path: &Path, offset: usize, bit: u8) {
        let mut state = self.state.lock();
        if let Some(&file) = state.names.get(path)
            && let Some(byte) = state.files[file].get_mut(offset)
        {
            *byte ^= 1 << (bit % 8);
        }
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|&file| self.files[file].len() as u64).sum()
    }

    /// Counts a call and fails it if it is the one that shall fail.
    fn call(&mut self) -> io::Result<()> {
        let number = self.calls;
        self.calls += 1;
        match self.fault {
            Some(fault) if fault.at == number => Err(fault.kind.into()),
            _ => Ok(()),
        }
    }

    fn lookup(&self, path: &Path) -> io::Result<FileId> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.call()?;
        let file = state.files.len();
        state.files.push(Vec::new());
        state.names.insert(path.to_owned(), file);
        state.ops.push(Op::Create { path: path.to_owned(), file });
        drop(state);
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.state.lock().lookup(path)?;
        Ok(Arc::new(SimFile { state: Arc::clone(&self.state), file }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        let file = state.lookup(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), file);
        state.ops.push(Op::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.lookup(path)?;
        state.names.remove(path);
        state.ops.push(Op::Remove { path: path.to_owned() });
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        // The store's directories are made once, long before anything depends on them: not a crash point.
        self.state.lock().dirs.insert(dir.to_owned());
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        state.ops.push(Op::SyncDir { dir: dir.to_owned() });
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        let data = &state.files[self.file];
        let rest = data.get(offset as usize..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        state.call()?;
        let len = state.files[self.file].len() as u64;
        let end = offset + data.len() as u64;
        let grows_by = end.saturating_sub(len);
        let mut fits = data.len() as u64;
        if let Some(capacity) = state.capacity {
            let free = capacity.saturating_sub(state.used());
            fits -= grows_by.saturating_sub(free).min(fits);
        }
        let written: Arc<[u8]> = data[..fits as usize].into();
        let end = offset as usize + written.len();
        let file = &mut state.files[self.file];
        if !written.is_empty() {
            file.resize(file.len().max(end), 0);
            file[offset as usize..end].copy_from_slice(&written);
        }
        state.ops.push(Op::Write { file: self.file, offset, data: written });
        if fits < data.len() as u64 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let result = state.call();
        let file = self.file;
        state.ops.push(if result.is_ok() { Op::Sync { file } } else { Op::FailedSync { file } });
        result
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().files[self.file].len() as u64)
    }
}
