//! Slow disks: the kernel lets a process write to a device only so often a second, by a control group.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Where control groups of version 1 and 2 are.
const FIRST: &str = "/sys/fs/cgroup/blkio";
const SECOND: &str = "/sys/fs/cgroup";

/// A control group whose processes write slowly to one device.
#[derive(Debug)]
pub struct Brake {
    folder: PathBuf,
    /// Where processes go when it ends.
    above: PathBuf,
}

impl Brake {
    /// Whether the kernel can do it here.
    #[must_use]
    pub fn exists() -> bool {
        Path::new(FIRST).join("blkio.throttle.write_iops_device").exists() || has_second()
    }

    /// Lets these processes write `per_second` times a second to a device, `MAJOR:MINOR`.
    ///
    /// # Errors
    /// There are no control groups, or the kernel refuses.
    pub fn put_on(name: &str, device: &str, per_second: u64, pids: &[u32]) -> Result<Self> {
        let (above, key, value) = if Path::new(FIRST).join("blkio.throttle.write_iops_device").exists() {
            (Path::new(FIRST), "blkio.throttle.write_iops_device", format!("{device} {per_second}"))
        } else if has_second() {
            write(&Path::new(SECOND).join("cgroup.subtree_control"), "+io")?;
            (Path::new(SECOND), "io.max", format!("{device} wiops={per_second}"))
        } else {
            bail!("this kernel has no control groups for disks");
        };
        let folder = above.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let brake = Self { folder, above: above.to_owned() };
        write(&brake.folder.join(key), &value)?;
        for pid in pids {
            write(&brake.folder.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(brake)
    }
}

impl Drop for Brake {
    fn drop(&mut self) {
        let procs = std::fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for pid in procs.lines() {
            // One that has just ended cannot be moved, and need not be.
            let _ = std::fs::write(self.above.join("cgroup.procs"), pid);
        }
        // A process that was killed leaves when it is quite gone.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.folder).is_ok() || !self.folder.exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn has_second() -> bool {
    let controllers =
        std::fs::read_to_string(Path::new(SECOND).join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|it| it == "io")
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write `{text}` to {}", path.display()))
}
