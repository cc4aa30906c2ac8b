//! Pipes for moving bytes from socket to socket inside the kernel (`splice(2)`), kept in a pool of each
//! thread.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::Stream;

/// Bytes a pipe is asked to hold.
const PIPE_BYTES: usize = 1024 * 1024;
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
        let ends = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // A smaller pipe works too; users have a limit on pipe memory.
        let _ = fcntl_setpipe_size(&ends.1, PIPE_BYTES);
        Some(Self { ends: Some(ends), held: 0 })
    }

    /// Moves bytes from the socket into the pipe; 0 is the end of the stream.
    pub fn poll_fill(&mut self, context: &mut Context<'_>, from: &mut Stream) -> Poll<io::Result<usize>> {
        let Some((_, write_end)) = &self.ends else { return Poll::Ready(Ok(0)) };
        loop {
            ready!(from.poll_read_ready(context))?;
            match splice(&*from, None, write_end, None, PIPE_BYTES, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)
            {
                Ok(moved) => {
                    self.held += moved;
                    return Poll::Ready(Ok(moved));
                }
                // The pipe is empty, so it is the socket that has nothing.
                Err(Errno::AGAIN) => from.nothing_to_read(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Moves everything out of the pipe into the socket.
    pub fn poll_drain(&mut self, context: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        let Some((read_end, _)) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.held > 0 {
            ready!(to.poll_write_ready(context))?;
            match splice(read_end, None, &*to, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => self.held -= moved,
                Err(Errno::AGAIN) => to.no_room_to_write(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Bytes that wait in it.
    pub fn held(&self) -> usize {
        self.held
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
