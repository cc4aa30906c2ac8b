//! A disk that is soon full: a tmpfs or an ext4 of its own, in the mount namespace that `cargo xtask test` gives each
//! test binary.

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use xtask::lab::process::run;

/// What is taken at once to fill it, octets.
const LARGEST_PIECE: u64 = 1 << 30;
const SMALLEST_PIECE: u64 = 4 << 10;

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

    /// Mounts an ext4 of so many MiB at `path`, which is made, from a file beside it. Unlike a tmpfs it has a device,
    /// which can be made slow; what was never written takes no room.
    ///
    /// # Errors
    /// It cannot be mounted: that needs root and loop devices.
    pub fn image(path: &Path, mib: u32) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let image = path.with_extension("img");
        std::fs::File::create(&image)?.set_len(u64::from(mib) << 20)?;
        // Without room for root alone: it is root that fills it.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(path))?;
        let disk = Self { path: path.to_owned() };
        std::fs::remove_dir(path.join("lost+found"))?;
        Ok(disk)
    }

    /// Its device, as the kernel's tables have it: `MAJOR:MINOR`.
    ///
    /// # Errors
    /// It is not mounted.
    pub fn device(&self) -> Result<String> {
        let device = std::fs::metadata(&self.path)?.dev();
        Ok(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)))
    }

    /// Fills it until so many octets are free, with what nobody needs.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn fill(&self, leave: u64) -> Result<()> {
        let filler = std::fs::OpenOptions::new().create(true).append(true).open(self.filler())?;
        let mut piece = LARGEST_PIECE;
        loop {
            let room = self.free()?.saturating_sub(leave);
            if room == 0 {
                return Ok(());
            }
            let (end, more) = (filler.metadata()?.len(), room.min(piece));
            match posix_fallocate(&filler, i64::try_from(end)?, i64::try_from(more)?) {
                Ok(()) => {}
                // A file system keeps some for its own books: what is left is less than a piece.
                Err(Errno::ENOSPC) if piece > SMALLEST_PIECE => piece /= 2,
                Err(Errno::ENOSPC) => return Ok(()),
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
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
