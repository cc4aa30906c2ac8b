//! The netlink socket of IPVS.

use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::os::fd::AsRawFd;

use super::{Picture, Step, message, steps};

/// The kernel answers within the call; this is for a kernel that does not.
const PATIENCE_SECONDS: i64 = 2;
const MAX_ANSWER: usize = 32 * 1024;

/// Whether this kernel has IPVS.
pub(crate) fn available() -> bool {
    Kernel::open().is_ok()
}

/// A connection to IPVS, and what this process has put there.
pub(crate) struct Kernel {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
    picture: Picture,
}

impl Kernel {
    /// # Errors
    ///
    /// `NotFound` where the kernel has no IPVS.
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkGeneric;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
        let mut kernel = Self { socket, family: 0, sequence: 0, picture: Picture::new() };
        kernel.sequence += 1;
        let asked = message::get_family("IPVS", kernel.sequence);
        let answer = kernel.exchange(&asked)?;
        kernel.family = message::family_of(&answer).ok_or(io::ErrorKind::NotFound)?;
        Ok(kernel)
    }

    fn exchange(&self, request: &[u8]) -> io::Result<Vec<u8>> {
        send(self.socket.as_raw_fd(), request, MsgFlags::empty())?;
        let mut answer = vec![0; MAX_ANSWER];
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        answer.truncate(length);
        match message::acknowledged(&answer) {
            Some(0) | None => Ok(answer),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
        }
    }

    fn carry_out(&mut self, step: &Step<'_>) -> io::Result<()> {
        self.sequence += 1;
        let request = message::step(self.family, self.sequence, step);
        self.exchange(&request).map(drop)
    }

    /// Brings the kernel to what is wanted.
    ///
    /// # Errors
    ///
    /// The first step that failed; those before it are done.
    pub(crate) fn apply(&mut self, wanted: Picture) -> io::Result<()> {
        let before = std::mem::take(&mut self.picture);
        for step in &steps(&before, &wanted) {
            let done = self.carry_out(step);
            match (step, done) {
                // An earlier run left one: it goes, with its servers.
                (Step::NewService(key, _), Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
                    self.carry_out(&Step::DelService(*key))?;
                    self.carry_out(step)?;
                }
                (Step::DelService(_) | Step::DelServer(..), Err(error)) if is_gone(&error) => {}
                (_, done) => done?,
            }
        }
        self.picture = wanted;
        Ok(())
    }
}

/// IPVS answers ESRCH for a service and ENOENT for a server that are not there.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ESRCH | nix::libc::ENOENT))
}
