//! Waiting for the end of a process by its descriptor.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a descriptor of a process (pidfd_open(2)), which is readable once the process has ended.
///
/// # Errors
/// When the system cannot register it.
pub(super) fn watch(process: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it is open and the same for as long as the registration, which owns it.
    let registered = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
