//! Pipes for moving bytes from socket to socket inside the kernel (`splice(2)`), kept in a pool of each
//! thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Bytes a pipe is asked to hold.
const PIPE_BYTES: usize = 256 * 1024;
/// Idle pipes a thread keeps.
const POOL: usize = 32;

thread_local! {
    static IDLE: RefCell<Vec<(OwnedFd, OwnedFd)>> = const { RefCell::new(Vec::new()) };
}

/// A pipe in use by one direction of one connection.
#[derive(Debug)]
pub struct Pipe {
    /// Read end and write end; `None` only while being dropped.
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

impl Pipe {
    /// An empty pipe from the pool, or a new one; `None` when there is none to be had.
    pub fn take() -> Option<Self> {
        if let Some(ends) = IDLE.with_borrow_mut(Vec::pop) {
            return Some(Self { ends: Some(ends), held: 0 });
        }
        let ends = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).ok()?;
        // A smaller pipe works too; users have a limit on pipe memory.
        let _ = fcntl(&ends.1, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES as nix::libc::c_int));
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Moves bytes from the socket into the pipe; 0 is the end of the stream.
    pub fn poll_fill(&mut self, context: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let Some((_, write_end)) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(from.poll_read_ready(context))?;
            let moved = from.try_io(Interest::READABLE, || move_bytes(from, write_end, PIPE_BYTES));
            match moved {
                Ok(moved) => {
                    self.held += moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Moves everything out of the pipe into the socket.
    pub fn poll_drain(&mut self, context: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        let Some((read_end, _)) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.held > 0 {
            ready!(to.poll_write_ready(context))?;
            match to.try_io(Interest::WRITABLE, || move_bytes(read_end, to, self.held)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.held -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        // Only an empty pipe can serve another connection.
        if let (0, Some(ends)) = (self.held, self.ends.take()) {
            // At the end of a thread the pool may be gone already.
            let _ = IDLE.try_with(|idle| {
                let mut idle = idle.borrow_mut();
                if idle.len() < POOL {
                    idle.push(ends);
                }
            });
        }
    }
}

fn move_bytes(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
    Ok(splice(from, None, to, None, most, flags)?)
}
