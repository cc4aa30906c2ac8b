//! Giving up root: chroot, group, user; and raising the limit of open files.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Group, Uid, User};

/// Whom to become; `None` keeps what we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: Option<u32>,
    /// Group id.
    pub gid: Option<u32>,
}

/// Why privileges could not be given up.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The user does not exist.
    #[error(
        "user `{0}` does not exist on this host; create it with: useradd --system --no-create-home --shell /usr/sbin/nologin {0}"
    )]
    NoUser(String),
    /// The group does not exist.
    #[error("group `{0}` does not exist on this host; create it with: groupadd --system {0}")]
    NoGroup(String),
    /// The user database cannot be read.
    #[error("cannot look up `{name}`: {errno}")]
    Lookup {
        /// The name that was looked up.
        name: String,
        /// What the system answered.
        errno: Errno,
    },
    /// A system call was refused.
    #[error("cannot {step}: {errno}; {advice}")]
    Refused {
        /// What was tried, e.g. "become user 99".
        step: String,
        /// What the system answered.
        errno: Errno,
        /// What to do.
        advice: &'static str,
    },
}

impl Identity {
    /// Looks the names up; a name consisting of digits is taken as a number. A user without a group
    /// brings its own primary group.
    ///
    /// # Errors
    /// When a name is unknown.
    pub fn resolve(user: Option<&str>, group: Option<&str>) -> Result<Self, PrivilegeError> {
        let mut identity = Self::default();
        if let Some(name) = user {
            if let Ok(number) = name.parse() {
                identity.uid = Some(number);
            } else {
                let found = User::from_name(name)
                    .map_err(|errno| PrivilegeError::Lookup { name: name.to_owned(), errno })?
                    .ok_or_else(|| PrivilegeError::NoUser(name.to_owned()))?;
                identity.uid = Some(found.uid.as_raw());
                identity.gid = Some(found.gid.as_raw());
            }
        }
        if let Some(name) = group {
            identity.gid = Some(match name.parse() {
                Ok(number) => number,
                Err(_) => Group::from_name(name)
                    .map_err(|errno| PrivilegeError::Lookup { name: name.to_owned(), errno })?
                    .ok_or_else(|| PrivilegeError::NoGroup(name.to_owned()))?
                    .gid
                    .as_raw(),
            });
        }
        Ok(identity)
    }

    /// Whether becoming this identity changes anything.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.uid.is_some_and(|uid| uid != Uid::effective().as_raw())
            || self.gid.is_some_and(|gid| gid != Gid::effective().as_raw())
    }
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Enters `chroot` (if given), drops supplementary groups, then becomes the group and the user. There
/// is no way back. Open sockets and files stay usable.
///
/// # Errors
/// Names the refused step; the process may then have lost part of its privileges and should end.
pub fn drop_to(identity: &Identity, chroot: Option<&Path>) -> Result<(), PrivilegeError> {
    const ADVICE: &str = "start as root, or remove user, group and chroot from the configuration";
    let refused = |step: String| move |errno| PrivilegeError::Refused { step, errno, advice: ADVICE };
    if let Some(directory) = chroot {
        nix::unistd::chroot(directory).map_err(refused(format!("chroot to {}", directory.display())))?;
        nix::unistd::chdir("/").map_err(refused("enter the new root directory".to_owned()))?;
    }
    if !identity.is_change() {
        return Ok(());
    }
    if is_root() {
        let groups: Vec<Gid> = identity.gid.map(Gid::from_raw).into_iter().collect();
        nix::unistd::setgroups(&groups).map_err(refused("drop supplementary groups".to_owned()))?;
    }
    if let Some(gid) = identity.gid {
        nix::unistd::setgid(Gid::from_raw(gid)).map_err(refused(format!("become group {gid}")))?;
    }
    if let Some(uid) = identity.uid {
        nix::unistd::setuid(Uid::from_raw(uid)).map_err(refused(format!("become user {uid}")))?;
    }
    Ok(())
}

/// Raises the limit of open files to `wanted`, or as far as the hard limit (root: also that) lets us.
/// Returns the limit that now holds; compare it with `wanted` and warn when it is lower.
pub fn raise_open_files(wanted: u64) -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    if soft >= wanted {
        return soft;
    }
    if wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        return wanted;
    }
    let reachable = wanted.min(hard);
    match setrlimit(Resource::RLIMIT_NOFILE, reachable, hard) {
        Ok(()) => reachable,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_and_unknown_ones_explained() {
        let root = Identity::resolve(Some("root"), None).unwrap();
        assert_eq!((root.uid, root.gid), (Some(0), Some(0)));
        assert_eq!(
            Identity::resolve(Some("99"), Some("98")).unwrap(),
            Identity { uid: Some(99), gid: Some(98) }
        );
        let error = Identity::resolve(Some("nobody-here"), None).unwrap_err().to_string();
        assert!(error.contains("useradd"), "{error}");
        let error = Identity::resolve(None, Some("no-group-here")).unwrap_err().to_string();
        assert!(error.contains("groupadd"), "{error}");
    }

    #[test]
    fn staying_who_we_are_needs_no_privilege() {
        let same = Identity { uid: Some(Uid::effective().as_raw()), gid: None };
        assert!(!same.is_change());
        drop_to(&same, None).unwrap();
    }

    #[test]
    fn the_file_limit_never_falls() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(raise_open_files(1), soft);
        assert!(raise_open_files(soft.min(hard)) >= soft.min(hard));
    }
}
