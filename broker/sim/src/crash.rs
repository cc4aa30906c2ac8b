//! What a power loss leaves of a disk.
//!
//! Data that was synced is there. Of every write since, nothing, all, or any of its sectors (512
//! bytes) may be there. A name made, changed or removed since its directory was synced may be there
//! or not, each on its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{FileId, Op, SimDisk};
use crate::random::Random;

const SECTOR: usize = 512;

/// Which unsynced writes had reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survivors {
    /// None of them.
    None,
    /// All of them.
    All,
    /// Any of them, any sectors of the others, chosen by this seed.
    Some(u64),
}

/// Walks along the recorded operations and builds the disks that a power loss could leave.
pub struct Crasher<'a> {
    ops: &'a [Op],
    at: usize,
    files: HashMap<FileId, File<'a>>,
    names: BTreeMap<PathBuf, FileId>,
    /// Changes to names whose directory was not synced since.
    unsynced_names: Vec<&'a Op>,
    dirs: BTreeSet<PathBuf>,
    /// The highest promise so far.
    promised: u64,
}

#[derive(Default)]
struct File<'a> {
    durable: Arc<Vec<u8>>,
    unsynced: Vec<Unsynced<'a>>,
}

#[derive(Clone, Copy)]
struct Unsynced<'a> {
    offset: u64,
    data: &'a [u8],
    /// A sync that should have taken it failed: no later sync takes it.
    forsaken: bool,
}

impl<'a> Crasher<'a> {
    /// Starts before the first operation, on what was on the disk then.
    #[must_use]
    pub fn new(before: BTreeMap<PathBuf, Vec<u8>>, dirs: BTreeSet<PathBuf>, ops: &'a [Op]) -> Self {
        let mut files = HashMap::new();
        let mut names = BTreeMap::new();
        // The same numbering as `SimDisk::from_files`.
        for (file, (path, data)) in before.into_iter().enumerate() {
            files.insert(file, File { durable: Arc::new(data), unsynced: Vec::new() });
            names.insert(path, file);
        }
        Self { ops, at: 0, files, names, unsynced_names: Vec::new(), dirs, promised: 0 }
    }

    /// The highest value noted by [`SimDisk::note`] so far.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// How many operations have happened.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether something is unsynced, so that [`Survivors`] differ.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        !self.unsynced_names.is_empty() || self.files.values().any(|file| !file.unsynced.is_empty())
    }

    /// Lets the next operation happen; false when there is none.
    pub fn step(&mut self) -> bool {
        let Some(op) = self.ops.get(self.at) else { return false };
        self.at += 1;
        match op {
            Op::Create { file, .. } => {
                self.files.insert(*file, File::default());
                self.unsynced_names.push(op);
            }
            Op::Rename { .. } | Op::Remove { .. } => self.unsynced_names.push(op),
            Op::Write { file, offset, data } => {
                let write = Unsynced { offset: *offset, data, forsaken: false };
                self.files.entry(*file).or_default().unsynced.push(write);
            }
            Op::Sync { file } => {
                let file = self.files.entry(*file).or_default();
                let (forsaken, taken): (Vec<_>, Vec<_>) =
                    file.unsynced.drain(..).partition(|write| write.forsaken);
                for write in taken {
                    put(Arc::make_mut(&mut file.durable), write.offset as usize, write.data);
                }
                file.unsynced = forsaken;
            }
            Op::FailedSync { file } => {
                for write in &mut self.files.entry(*file).or_default().unsynced {
                    write.forsaken = true;
                }
            }
            Op::SyncDir { dir } => {
                for op in std::mem::take(&mut self.unsynced_names) {
                    if parent(op) == Some(dir) {
                        apply_name(&mut self.names, op);
                    } else {
                        self.unsynced_names.push(op);
                    }
                }
            }
            Op::Note(value) => self.promised = self.promised.max(*value),
        }
        true
    }

    /// The disk after a power loss here.
    #[must_use]
    pub fn image(&self, survivors: Survivors) -> SimDisk {
        let mut random = Random::new(match survivors {
            Survivors::Some(seed) => seed,
            _ => 0,
        });
        let mut names = self.names.clone();
        for op in &self.unsynced_names {
            let survives = match survivors {
                Survivors::None => false,
                Survivors::All => true,
                Survivors::Some(_) => random.one_in(2),
            };
            if survives {
                apply_name(&mut names, op);
            }
        }
        let mut files = BTreeMap::new();
        for (path, file) in names {
            let data = self.files.get(&file).map_or_else(Vec::new, |file| file.after(survivors, &mut random));
            files.insert(path, data);
        }
        SimDisk::from_files(files, self.dirs.clone())
    }
}

impl File<'_> {
    fn after(&self, survivors: Survivors, random: &mut Random) -> Vec<u8> {
        let mut data = self.durable.to_vec();
        for write in &self.unsynced {
            match survivors {
                Survivors::None => {}
                Survivors::All => put(&mut data, write.offset as usize, write.data),
                Survivors::Some(_) => match random.below(4) {
                    0 => {}
                    1 => put(&mut data, write.offset as usize, write.data),
                    how => tear(&mut data, write, how == 3, random),
                },
            }
        }
        data
    }
}

/// Lets any sectors of a write reach the disk. With `length`, the file's new length did.
fn tear(data: &mut Vec<u8>, write: &Unsynced<'_>, length: bool, random: &mut Random) {
    let start = write.offset as usize;
    let end = start + write.data.len();
    if length && data.len() < end {
        data.resize(end, 0);
    }
    let mut from = start;
    while from < end {
        let to = ((from / SECTOR + 1) * SECTOR).min(end);
        if random.one_in(2) {
            put(data, from, &write.data[from - start..to - start]);
        }
        from = to;
    }
}

fn put(file: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(data);
}

fn parent(op: &Op) -> Option<&Path> {
    match op {
        Op::Create { path, .. } | Op::Remove { path } | Op::Rename { to: path, .. } => path.parent(),
        _ => None,
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, FileId>, op: &Op) {
    match op {
        Op::Create { path, file } => {
            names.insert(path.clone(), *file);
        }
        Op::Rename { from, to, file } => {
            if names.get(from) == Some(file) {
                names.remove(from);
            }
            names.insert(to.clone(), *file);
        }
        Op::Remove { path } => {
            names.remove(path);
        }
        _ => {}
    }
}
