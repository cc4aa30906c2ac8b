//! Where a node's control socket is: bound by the node, looked for by the command line.
//!
//! ```text
//! <data>/run/control.sock          the socket: 0600 in a folder of 0700
//! <run folder>/rabbit@host.sock    a link to it under the node's name, for -n
//! ```
//!
//! The run folder is `/run/broker` for root, `$XDG_RUNTIME_DIR/broker` or a folder of the user's own in the
//! temporary directory otherwise.

use nix::unistd::geteuid;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// The socket's name in its folder.
const SOCKET: &str = "control.sock";
/// Its folder in the data directory.
const FOLDER: &str = "run";
/// Octets a path of a socket may have (`sun_path` with its end).
const LONGEST: usize = 107;

/// A control socket that is listened on; the files go with it.
#[derive(Debug)]
pub(crate) struct Bound {
    path: PathBuf,
    link: Option<PathBuf>,
}

impl Bound {
    /// Binds the socket of the node whose data is in `data`, which nobody else uses.
    pub(crate) fn new(data: &Path, node: &str) -> io::Result<(Bound, UnixListener)> {
        let folder = data.join(FOLDER);
        private_folder(&folder)?;
        let path = folder.join(SOCKET);
        remove(&path)?;
        // Until its permissions are set, those of the folder keep others out.
        let listener = through_folder(&path, |short| UnixListener::bind(short))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let link = publish(&path, node);
        Ok((Bound { path, link }, listener))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Another node of the same name may have taken the link over.
        let own = self.link.take().filter(|link| fs::read_link(link).is_ok_and(|to| to == self.path));
        for path in own.iter().chain([&self.path]) {
            if let Err(error) = remove(path) {
                tracing::debug!(path = %path.display(), %error, "could not be removed");
            }
        }
    }
}

/// Makes the socket known by the node's name. Failing costs `-n`, not more.
fn publish(path: &Path, node: &str) -> Option<PathBuf> {
    let folder = run_folders().into_iter().find(|folder| private_folder(folder).is_ok())?;
    let link = folder.join(format!("{node}.sock"));
    let target = fs::canonicalize(path).ok()?;
    let linked = remove(&link).and_then(|()| std::os::unix::fs::symlink(target, &link));
    match linked {
        Ok(()) => Some(link),
        Err(error) => {
            tracing::debug!(link = %link.display(), %error, "the control socket has no link");
            None
        }
    }
}

/// Where links lie, the likeliest first.
fn run_folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty()) {
        folders.push(PathBuf::from(folder).join("broker"));
    }
    folders.push(PathBuf::from("/run/broker"));
    folders.push(std::env::temp_dir().join(format!("broker-{}", geteuid())));
    folders
}

/// Makes a folder that only this user can look into, or finds it so.
fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to somebody else"));
    }
    if found.mode() & 0o077 != 0 {
        fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A socket's path may be too long for the kernel; through its folder's descriptor it is short.
fn through_folder<T>(path: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= LONGEST {
        return act(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return act(path) };
    let folder = File::open(folder)?;
    act(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Connects to a control socket.
pub(super) fn connect(path: &Path) -> io::Result<UnixStream> {
    through_folder(path, |short| UnixStream::connect(short))
}

/// The socket of the node whose data is in `data`.
pub(super) fn socket_in(data: &Path) -> PathBuf {
    data.join(FOLDER).join(SOCKET)
}

/// Sockets that are known by a node's name, with the name. A folder of somebody else is not looked into,
/// unless it is root's.
pub(super) fn known() -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    for folder in run_folders() {
        let trusted = fs::symlink_metadata(&folder)
            .is_ok_and(|it| it.is_dir() && [0, geteuid().as_raw()].contains(&it.uid()));
        if !(trusted || geteuid().is_root() && folder.starts_with("/run")) {
            continue;
        }
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(node) = name.strip_suffix(".sock") {
                found.push((node.to_owned(), entry.path()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_socket_is_the_users_own_however_long_its_path() {
        let folder = tempfile::tempdir().unwrap();
        for depth in [0, 6] {
            let mut data = folder.path().to_owned();
            (0..depth).for_each(|_| data.push("a-folder-with-a-long-name"));
            fs::create_dir_all(&data).unwrap();
            let (bound, listener) = Bound::new(&data, "rabbit@place-test").unwrap();
            let path = socket_in(&data);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
            let client = connect(&path).unwrap();
            listener.set_nonblocking(false).unwrap();
            listener.accept().unwrap();
            drop((client, bound));
            assert!(!path.exists());
        }
    }
}
