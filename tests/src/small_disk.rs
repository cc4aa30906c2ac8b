//! A disk that is soon full: a tmpfs of its own, in the mount namespace that `cargo xtask test` gives each test
//! binary.

use anyhow::{Context, Result};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::lab::process::run;

/// What is written at once to fill it, octets.
const PIECE: u64 = 64 << 10;

/// The disk. It goes when it is dropped.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB at `path`, which is made.
    ///
    /// # Errors
    /// It cannot be mounted: that needs root.
    pub fn mount(path: &Path, mib: u32) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"]).arg(path);
        run(&mut command)?;
        Ok(Self { path: path.to_owned() })
    }

    /// Fills it until so many octets are free, with what nobody needs.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let mut filler = std::fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        let piece = vec![0; usize::try_from(PIECE)?];
        while self.free()? > leave {
            match filler.write_all(&piece) {
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                result => result?,
            }
        }
        Ok(())
    }

    /// Takes away what [`SmallDisk::fill`] wrote.
    ///
    /// # Errors
    /// It was not filled.
    pub fn relieve(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).context("remove the filler")
    }

    /// Octets that are free.
    ///
    /// # Errors
    /// Nobody can say.
    pub fn free(&self) -> Result<u64> {
        let stat = nix::sys::statvfs::statvfs(&self.path)?;
        Ok(stat.blocks_available() * stat.fragment_size())
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that was killed may not be quite gone.
        let _ = run(Command::new("umount").arg("--lazy").arg(&self.path));
    }
}
