//! The data directory: who uses it, whose it is, and where things are in it.
//!
//! ```text
//! LOCK        locked (flock) by the running broker; says who that is
//! node.toml   node name, storage id, format version
//! wal/        the write-ahead log
//! raft/       this node's part of the replicated log of metadata
//! seg/        segment files
//! trash/      what belongs to nobody any more, kept for a while
//! ```
//!
//! Format version 1 kept the metadata in a journal of its own, `meta/`. Whoever opens such a directory
//! carries it over and calls [`DataDir::finish_upgrade`].

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::disk::{self, Disk, RealDisk};

pub(crate) mod fuzz;

/// The layout this program reads and writes.
pub const FORMAT_VERSION: u32 = 2;
/// The last layout with a metadata journal in `meta/`.
pub const META_JOURNAL_VERSION: u32 = 1;

const LOCK: &str = "LOCK";
const NODE: &str = "node.toml";
const TRASH: &str = "trash";
const META: &str = "meta";

/// Why a data directory cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// Another broker runs on it.
    #[error(
        "data directory {dir} is in use by broker pid {pid} (node {node}, started {started}); stop that one or choose another --data"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Its process.
        pid: String,
        /// Its node name.
        node: String,
        /// When it started.
        started: String,
    },
    /// It belongs to a node of another name.
    #[error(
        "data directory {dir} belongs to node {found}, not {wanted}; start with --node {found} or choose another --data"
    )]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// The name in it.
        found: String,
        /// The name asked for.
        wanted: String,
    },
    /// A newer program wrote it.
    #[error(
        "data directory {dir} has format version {found}; this program knows up to {FORMAT_VERSION}: use the newer program that wrote it"
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// Its version.
        found: u32,
    },
    /// `node.toml` cannot be understood.
    #[error("{path} line {line}: {problem}; nothing was changed")]
    Identity {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 when something is missing.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// There is data and no `node.toml`.
    #[error("{dir} holds data ({found}) but no node.toml; nothing was changed")]
    NoIdentity {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        found: String,
    },
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
}

/// Whose data it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node's name, such as `rabbit@A`.
    pub node: String,
    /// Part of every checksum, so that files of another directory are never taken for ours.
    pub storage_uuid: [u8; 16],
    /// The layout.
    pub format_version: u32,
    /// The log and the journal were created: from now on, missing files are damage.
    pub in_use: bool,
}

/// An open, locked data directory. Unlocked when dropped (or when the process ends, however it ends).
pub struct DataDir {
    path: PathBuf,
    identity: Identity,
    lock: Flock<File>,
}

impl DataDir {
    /// Creates the directory if needed, locks it, and reads or writes its identity.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(path: &Path, node: &str) -> Result<Self, DataDirError> {
        Self::open_after(path, node, || Ok(()))
    }

    /// The same; `first` is called between locking and looking at what is there.
    ///
    /// # Errors
    /// See [`DataDirError`], or what `first` says.
    pub fn open_after<E: From<DataDirError>>(
        path: &Path,
        node: &str,
        first: impl FnOnce() -> Result<(), E>,
    ) -> Result<Self, E> {
        let io = |doing| move |source| DataDirError::Io { doing, path: path.to_owned(), source };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("create data directory"))?;
        let lock = lock(path, node)?;
        first()?;
        Ok(Self::read(path, node, lock)?)
    }

    /// Looks again at what is there, which was exchanged as a whole. Stays locked.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn reopen(self, node: &str) -> Result<Self, DataDirError> {
        Self::read(&self.path, node, self.lock)
    }

    fn read(path: &Path, node: &str, lock: Flock<File>) -> Result<Self, DataDirError> {
        let io = |doing| move |source| DataDirError::Io { doing, path: path.to_owned(), source };
        let identity = Identity::load_or_create(&RealDisk, path, node)?;
        for name in ["wal", "raft", "seg", TRASH] {
            let dir = path.join(name);
            fs::create_dir_all(&dir).map_err(|source| DataDirError::Io {
                doing: "create directory",
                path: dir.clone(),
                source,
            })?;
        }
        RealDisk.sync_dir(path).map_err(io("sync data directory"))?;
        Ok(Self { path: path.to_owned(), identity, lock })
    }

    /// The node that the data in `path` belongs to, if there is any that can be understood. Nothing is locked.
    #[must_use]
    pub fn known_node(path: &Path) -> Option<String> {
        let text = fs::read_to_string(path.join(NODE)).ok()?;
        Identity::parse(&text).ok().map(|identity| identity.node)
    }

    /// Whose data it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the write-ahead log is.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where the replicated log of metadata is.
    #[must_use]
    pub fn raft(&self) -> PathBuf {
        self.path.join("raft")
    }

    /// Where the metadata journal was up to [`META_JOURNAL_VERSION`].
    #[must_use]
    pub fn meta(&self) -> PathBuf {
        self.path.join(META)
    }

    /// Where segment files are.
    #[must_use]
    pub fn segments(&self) -> PathBuf {
        self.path.join("seg")
    }

    /// Notes, durably, that the log and the journal exist: call it once both were opened. From then on
    /// [`Identity::in_use`] is true and an empty log or journal is damage, not a beginning.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn mark_in_use(&mut self) -> Result<(), DataDirError> {
        if self.identity.in_use {
            return Ok(());
        }
        let identity = Identity { in_use: true, ..self.identity.clone() };
        identity.save(&RealDisk, &self.path)?;
        self.identity = identity;
        Ok(())
    }

    /// Gives the node another name, durably.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rename(&mut self, node: &str) -> Result<(), DataDirError> {
        let identity = Identity { node: node.to_owned(), ..self.identity.clone() };
        identity.save(&RealDisk, &self.path)?;
        self.identity = identity;
        Ok(())
    }

    /// Notes, durably, that the directory has the layout of [`FORMAT_VERSION`] now, and moves what only an
    /// older one knew to the trash. Does nothing on a directory without such things.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn finish_upgrade(&mut self) -> Result<(), DataDirError> {
        if self.identity.format_version < FORMAT_VERSION {
            let identity = Identity { format_version: FORMAT_VERSION, ..self.identity.clone() };
            identity.save(&RealDisk, &self.path)?;
            self.identity = identity;
        }
        if self.meta().exists() {
            self.trash(Path::new(META))?;
        }
        Ok(())
    }

    /// Moves a file or directory of this data directory, named relative to it, into the trash.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn trash(&self, name: &Path) -> Result<PathBuf, DataDirError> {
        let from = self.path.join(name);
        let io = |doing| {
            let path = from.clone();
            move |source| DataDirError::Io { doing, path, source }
        };
        let flat = name.to_string_lossy().replace('/', "-");
        let to = self.path.join(TRASH).join(format!("{}-{flat}", unix_ms()));
        fs::rename(&from, &to).map_err(io("move to the trash"))?;
        RealDisk.sync_dir(&self.path.join(TRASH)).map_err(io("sync the trash after moving"))?;
        if let Some(parent) = from.parent() {
            RealDisk.sync_dir(parent).map_err(io("sync the directory of"))?;
        }
        Ok(to)
    }

    /// Removes what has been in the trash for longer than `age`; returns how many entries that were.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn empty_trash(&self, age: Duration) -> Result<usize, DataDirError> {
        let trash = self.path.join(TRASH);
        let io = |doing| {
            let path = trash.clone();
            move |source| DataDirError::Io { doing, path, source }
        };
        let keep_from = unix_ms().saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let mut removed = 0;
        for entry in fs::read_dir(&trash).map_err(io("list"))? {
            let entry = entry.map_err(io("list"))?;
            let name = entry.file_name();
            let since = name.to_string_lossy().split('-').next().and_then(|ms| ms.parse::<u64>().ok());
            // What carries no time was not put there by us.
            if since.is_none_or(|since| since >= keep_from) {
                continue;
            }
            let is_dir = entry.file_type().map_err(io("look into"))?.is_dir();
            let gone = if is_dir { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
            gone.map_err(io("remove from"))?;
            removed += 1;
        }
        Ok(removed)
    }
}

/// Takes the lock, or says who holds it.
fn lock(dir: &Path, node: &str) -> Result<Flock<File>, DataDirError> {
    let path = dir.join(LOCK);
    let io = |doing| {
        let path = path.clone();
        move |source| DataDirError::Io { doing, path, source }
    };
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io("open lock file"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let holder =
                format!("pid = {}\nnode = {node}\nstarted = {}\n", std::process::id(), utc(unix_ms() / 1000));
            lock.set_len(0).map_err(io("write lock file"))?;
            lock.rewind().map_err(io("write lock file"))?;
            lock.write_all(holder.as_bytes()).map_err(io("write lock file"))?;
            Ok(lock)
        }
        Err((file, Errno::EWOULDBLOCK)) => {
            let mut holder = String::new();
            // The holder may be about to write it; then the names below stay unknown.
            let _ = file.take(4096).read_to_string(&mut holder);
            let field = |key: &str| {
                holder
                    .lines()
                    .find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
                    .unwrap_or("unknown")
                    .to_owned()
            };
            let (pid, node, started) = (field("pid"), field("node"), field("started"));
            Err(DataDirError::InUse { dir: dir.to_owned(), pid, node, started })
        }
        Err((_, errno)) => Err(io("lock")(errno.into())),
    }
}

impl Identity {
    /// Reads `node.toml`; writes a new one, with a new storage id, into a directory without data.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn load_or_create(disk: &dyn Disk, dir: &Path, node: &str) -> Result<Self, DataDirError> {
        let path = dir.join(NODE);
        let io = |doing| {
            let path = path.clone();
            move |source| DataDirError::Io { doing, path, source }
        };
        let file = match disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::create(disk, dir, node),
            Err(error) => return Err(io("open")(error)),
        };
        let mut bytes = Vec::new();
        disk::read_file(&*file, &mut bytes).map_err(io("read"))?;
        let identity = Self::parse(&String::from_utf8_lossy(&bytes))
            .map_err(|(line, problem)| DataDirError::Identity { path: path.clone(), line, problem })?;
        if identity.format_version > FORMAT_VERSION {
            return Err(DataDirError::NewerFormat { dir: dir.to_owned(), found: identity.format_version });
        }
        if identity.node != node {
            return Err(DataDirError::OtherNode {
                dir: dir.to_owned(),
                found: identity.node,
                wanted: node.to_owned(),
            });
        }
        Ok(identity)
    }

    fn create(disk: &dyn Disk, dir: &Path, node: &str) -> Result<Self, DataDirError> {
        for part in ["wal", "raft", META, "seg"] {
            // Never take "the identity is missing" for "there is nothing here".
            if let Some(found) = disk.list(&dir.join(part)).unwrap_or_default().first() {
                let found = format!("{part}/{found}");
                return Err(DataDirError::NoIdentity { dir: dir.to_owned(), found });
            }
        }
        let mut storage_uuid = [0u8; 16];
        File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut storage_uuid)).map_err(
            |source| DataDirError::Io {
                doing: "read random bytes from",
                path: "/dev/urandom".into(),
                source,
            },
        )?;
        let identity =
            Self { node: node.to_owned(), storage_uuid, format_version: FORMAT_VERSION, in_use: false };
        identity.save(disk, dir)?;
        Ok(identity)
    }

    fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), DataDirError> {
        disk::write_atomically(disk, dir, NODE, self.to_text().as_bytes())
            .map_err(|source| DataDirError::Io { doing: "write", path: dir.join(NODE), source })
    }

    fn to_text(&self) -> String {
        let uuid: String = self.storage_uuid.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "# Written by the broker. Do not edit: the log's checksums depend on it.\n\
             format_version = {}\nnode = \"{}\"\nstorage_uuid = \"{uuid}\"\nin_use = {}\n",
            self.format_version,
            self.node.replace(['"', '\n'], "_"),
            self.in_use,
        )
    }

    /// Parses `key = value` lines. A newer version may have more keys; only that version is looked at then.
    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let (mut node, mut uuid, mut version, mut in_use) = (None, None, None, None);
        let mut unknown = None;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = |problem: &str| (index + 1, format!("{problem}: {line:?}"));
            let (key, value) = line.split_once('=').ok_or_else(|| bad("not `key = value`"))?;
            let value = value.trim();
            let quoted = || {
                value
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                    .filter(|quoted| !quoted.contains('"'))
                    .ok_or_else(|| bad("not quoted"))
            };
            match key.trim() {
                "format_version" => version = Some(value.parse().map_err(|_| bad("not a number"))?),
                "node" => node = Some(quoted()?.to_owned()),
                "storage_uuid" => uuid = Some(parse_uuid(quoted()?).ok_or_else(|| bad("not 32 hex digits"))?),
                "in_use" => in_use = Some(value.parse().map_err(|_| bad("neither true nor false"))?),
                _ => unknown = unknown.or_else(|| Some(bad("unknown key"))),
            }
        }
        let missing = |key: &str| (0, format!("`{key}` is missing"));
        let format_version = version.ok_or_else(|| missing("format_version"))?;
        if let (Some(unknown), ..=FORMAT_VERSION) = (unknown, format_version) {
            return Err(unknown);
        }
        if format_version > FORMAT_VERSION {
            return Ok(Self {
                node: node.unwrap_or_default(),
                storage_uuid: [0; 16],
                format_version,
                in_use: true,
            });
        }
        Ok(Self {
            node: node.ok_or_else(|| missing("node"))?,
            storage_uuid: uuid.ok_or_else(|| missing("storage_uuid"))?,
            format_version,
            in_use: in_use.ok_or_else(|| missing("in_use"))?,
        })
    }
}

fn parse_uuid(hex: &str) -> Option<[u8; 16]> {
    if hex.len() != 32 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(hex, 16).ok()?.to_be_bytes())
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A moment as `2026-11-23 06:24:03 UTC`.
fn utc(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 1 March of year 0 of the Gregorian calendar, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02} UTC", second % 60)
}

#[cfg(test)]
mod tests;
