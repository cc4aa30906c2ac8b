//! Script security as keepalived's `enable_script_security`: nobody but root may be able to change a
//! program that root runs, neither the file nor any directory above it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
const ANY_EXECUTE: u32 = 0o111;

/// Finds the program as `execvp` would.
fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
}

/// Whether the program exists and may be executed by somebody.
///
/// # Errors
///
/// Says what is wrong, to be put after the name.
pub(crate) fn runnable(program: &str) -> Result<(), &'static str> {
    let path = find(program).ok_or("does not exist")?;
    let data = std::fs::metadata(path).map_err(|_| "cannot be read")?;
    if data.is_dir() {
        return Err("is a directory");
    }
    if data.mode() & ANY_EXECUTE == 0 { Err("is not executable") } else { Ok(()) }
}

/// Whether only root can change the program.
///
/// # Errors
///
/// Names the file or directory that somebody else can change.
pub(crate) fn safe_for_root(program: &str) -> Result<(), String> {
    let Some(path) = find(program) else { return Ok(()) };
    let real = std::fs::canonicalize(&path).unwrap_or(path);
    for part in real.ancestors() {
        let Ok(data) = std::fs::metadata(part) else { continue };
        let shown = part.display();
        if data.uid() != 0 {
            return Err(format!("{shown} belongs to user {}", data.uid()));
        }
        let sticky_directory = data.is_dir() && data.mode() & STICKY != 0;
        let group = data.mode() & GROUP_WRITE != 0 && data.gid() != 0;
        if (group || data.mode() & OTHERS_WRITE != 0) && !sticky_directory {
            return Err(format!("{shown} can be changed by others than root"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_script_others_can_write_is_not_safe() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("check.sh");
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let name = script.to_str().unwrap();
        assert_eq!(runnable(name), Err("is not executable"));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(runnable(name), Ok(()));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(safe_for_root(name).is_err());
        assert_eq!(runnable("/nonexistent/x"), Err("does not exist"));
        assert_eq!(runnable("sh"), Ok(()));
    }
}
