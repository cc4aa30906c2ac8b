//! Taking descriptors out of a message.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, RecvMsg, UnixAddr};

/// The descriptors that came with a message; whoever calls this calls it once for each message.
///
/// # Errors
/// When the message was cut off; what came is closed then.
pub(super) fn descriptors(message: &RecvMsg<'_, '_, UnixAddr>) -> io::Result<Vec<OwnedFd>> {
    let mut all = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = part {
            // SAFETY: the kernel has just made these descriptors for this process, and nobody else knows
            // them: this is the only place that looks at the message.
            all.extend(descriptors.into_iter().map(|descriptor| unsafe { OwnedFd::from_raw_fd(descriptor) }));
        }
    }
    Ok(all)
}
