//! Sockets of this thread's reactor: tried first, waited for only when the kernel has nothing.
//!
//! A stream is registered with epoll (edge triggered) the first time somebody has to wait for it. Until then it
//! costs no system call beyond its reads and writes. Writability is asked for only when a write did not fit, or
//! for a connection under way. Closing the descriptor ends the registration.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::slots::Key;
use super::{Core, Source, with};

/// A connected stream socket, TCP or unix.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    source: Option<Key>,
    /// The kernel had no more at the last read.
    drained: bool,
    /// `EPOLLOUT` is asked for.
    wants_out: bool,
    /// `TCP_NODELAY` is to be set before a write that could be held back.
    delays: bool,
    /// Something has been written.
    written: bool,
}

/// Bytes that fit into one segment on any path: the first write of up to this many is sent at once anyway.
const ONE_SEGMENT: usize = 500;

impl Stream {
    /// A stream from a non-blocking connected socket. `delays`: it is a TCP socket without `TCP_NODELAY`, which
    /// is then set when it begins to matter.
    pub fn new(fd: OwnedFd, delays: bool) -> Self {
        Self { fd, source: None, drained: false, wants_out: false, delays, written: false }
    }

    /// A stream from a socket whose connection is under way: it is told when it stands.
    pub fn connecting(fd: OwnedFd, delays: bool) -> Self {
        let mut stream = Self::new(fd, delays);
        stream.drained = true;
        stream
    }

    /// Sends the first bytes over a connection under way; 0 when it does not stand yet. Near servers have
    /// accepted by the time `connect` is back, and then nobody has to wait.
    ///
    /// # Errors
    /// The server or the network says no.
    pub fn try_first(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            other => other,
        }
    }

    /// Waits until a connection under way stands.
    ///
    /// # Errors
    /// The server or the network says no.
    pub async fn connected(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_connected(context)).await
    }

    fn poll_connected(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = match self.source {
            Some(key) => key,
            None => self.register(true)?,
        };
        let failed = with(|core| {
            let mut sources = core.sources.borrow_mut();
            let source = sources.get_mut(key)?;
            if source.writable {
                return Some(source.failed || source.hung_up);
            }
            keep(&mut source.writer, context.waker());
            None
        });
        match failed {
            None => Poll::Pending,
            Some(false) => Poll::Ready(Ok(())),
            Some(true) => match rustix::net::sockopt::socket_error(&self.fd)? {
                Ok(()) => Poll::Ready(Ok(())),
                Err(error) => Poll::Ready(Err(error.into())),
            },
        }
    }

    /// Reads what is there.
    pub fn poll_recv(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_read_ready(context))?;
        let wanted = buffer.len();
        loop {
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::empty()) {
                Ok((read, _)) => {
                    if read < wanted && read > 0 {
                        self.read_short();
                    }
                    return Poll::Ready(Ok(read));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.nothing_to_read();
                    ready!(self.poll_read_ready(context))?;
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Looks at what is there and leaves it there, once it is more than `seen` bytes. The end of the stream
    /// shows as no more than `seen`.
    pub fn poll_peek(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        seen: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_read_ready(context))?;
            match rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::PEEK) {
                Ok((count, _)) if count > seen || count == 0 || self.has_hung_up() => {
                    return Poll::Ready(Ok(count));
                }
                // More makes itself known by another event.
                Ok(_) | Err(Errno::AGAIN) => self.nothing_to_read(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Writes what fits.
    pub fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_write_ready(context))?;
        loop {
            match self.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.no_room_to_write();
                    ready!(self.poll_write_ready(context))?;
                }
                other => return Poll::Ready(other),
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.delays && (self.written || bytes.len() > ONE_SEGMENT) {
            self.delays = false;
            // It only costs time when this fails.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&self.fd, true);
        }
        self.written = true;
        loop {
            match rustix::net::send(&self.fd, bytes, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Sends the end of the stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn finish(&self) -> io::Result<()> {
        match rustix::net::shutdown(&self.fd, Shutdown::Write) {
            Err(Errno::NOTCONN) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Ready when a read is worth trying.
    pub(super) fn poll_read_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let key = match self.source {
            Some(key) => key,
            None if !self.drained => return Poll::Ready(Ok(())),
            None => self.register(false)?,
        };
        with(|core| {
            let mut sources = core.sources.borrow_mut();
            let Some(source) = sources.get_mut(key) else { return Poll::Pending };
            if source.readable {
                return Poll::Ready(Ok(()));
            }
            keep(&mut source.reader, context.waker());
            Poll::Pending
        })
    }

    /// Ready when a write is worth trying.
    pub(super) fn poll_write_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(key) = self.source else { return Poll::Ready(Ok(())) };
        with(|core| {
            let mut sources = core.sources.borrow_mut();
            let Some(source) = sources.get_mut(key) else { return Poll::Pending };
            if source.writable {
                return Poll::Ready(Ok(()));
            }
            keep(&mut source.writer, context.waker());
            drop(sources);
            if !self.wants_out {
                // Tells at once when there is room by now.
                let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll::modify(&core.epoll, &self.fd, EventData::new_u64(key.to_u64()), flags)?;
                self.wants_out = true;
            }
            Poll::Pending
        })
    }

    /// A read gave less than was asked for: the kernel has no more, unless the end has come.
    pub(super) fn read_short(&mut self) {
        match self.source {
            Some(key) => with(|core| {
                if let Some(source) = core.sources.borrow_mut().get_mut(key) {
                    source.readable = source.hung_up;
                }
            }),
            // Registering tells what came in the meantime.
            None => self.drained = true,
        }
    }

    /// A read found nothing.
    pub(super) fn nothing_to_read(&mut self) {
        self.drained = true;
        self.set(|source| source.readable = false);
    }

    /// A write found no room.
    pub(super) fn no_room_to_write(&mut self) {
        if self.source.is_none() {
            // Without memory for the registration the write is tried again by whoever polls next.
            let _ = self.register(true);
        }
        self.set(|source| source.writable = false);
    }

    fn set(&self, change: impl FnOnce(&mut Source)) {
        if let Some(key) = self.source {
            with(|core| {
                if let Some(source) = core.sources.borrow_mut().get_mut(key) {
                    change(source);
                }
            });
        }
    }

    fn register(&mut self, out: bool) -> io::Result<Key> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let flags = if out { flags | EventFlags::OUT } else { flags };
        let source = Source { readable: !self.drained, writable: !out, ..Source::default() };
        let key = with(|core| core.register(&self.fd, flags, source))?;
        self.source = Some(key);
        self.wants_out = out;
        Ok(key)
    }

    /// This end's address; asked of the kernel each time.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        SocketAddr::try_from(rustix::net::getsockname(&self.fd).ok()?).ok()
    }

    /// The next close sends a reset instead of an end, and what was not sent is thrown away.
    pub fn reset_on_close(&self) {
        // A socket that is gone already needs none.
        let _ = rustix::net::sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }

    /// The end or an error of the connection has been seen, though perhaps not yet read.
    pub fn has_hung_up(&self) -> bool {
        let Some(key) = self.source else { return false };
        with(|core| core.sources.borrow_mut().get_mut(key).is_some_and(|source| source.hung_up))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(key) = self.source {
            with(|core| core.sources.borrow_mut().remove(key));
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(self.poll_recv(context, buffer.initialize_unfilled()))?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.finish())
    }
}

/// A listening socket that several workers accept on. Only one of those that sleep is woken for a connection.
#[derive(Debug)]
pub struct Listener {
    fd: Arc<OwnedFd>,
    source: Key,
}

impl Listener {
    /// Registers a non-blocking listening socket with this thread's reactor.
    ///
    /// # Errors
    /// When the system cannot register it.
    pub fn new(fd: Arc<OwnedFd>) -> io::Result<Self> {
        // Edge triggered, so that a listener that may not accept now does not keep the thread awake.
        let flags = EventFlags::IN | EventFlags::ET | EventFlags::EXCLUSIVE;
        let source = Source { readable: true, ..Source::default() };
        let source = with(|core| core.register(&fd, flags, source))?;
        Ok(Self { fd, source })
    }

    /// Ready when a connection may be waiting.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        with(|core| {
            let mut sources = core.sources.borrow_mut();
            let Some(source) = sources.get_mut(self.source) else { return Poll::Pending };
            if source.readable {
                return Poll::Ready(());
            }
            keep(&mut source.reader, context.waker());
            Poll::Pending
        })
    }

    /// Takes a waiting connection; `None` when there is none.
    ///
    /// # Errors
    /// Those of `accept(2)`.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, Option<SocketAddrAny>)>> {
        match rustix::net::acceptfrom_with(&*self.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(accepted) => Ok(Some(accepted)),
            Err(Errno::AGAIN) => {
                with(|core| {
                    if let Some(source) = core.sources.borrow_mut().get_mut(self.source) {
                        source.readable = false;
                    }
                });
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        with(|core| {
            // Others hold the descriptor too, so closing it would not end the registration. If that fails the
            // socket is gone.
            let _ = epoll::delete(&core.epoll, &*self.fd);
            core.sources.borrow_mut().remove(self.source);
        });
    }
}

impl Core {
    fn register(&self, fd: impl AsFd, flags: EventFlags, source: Source) -> io::Result<Key> {
        let key = self.sources.borrow_mut().insert(source);
        match epoll::add(&self.epoll, fd, EventData::new_u64(key.to_u64()), flags) {
            Ok(()) => Ok(key),
            Err(error) => {
                self.sources.borrow_mut().remove(key);
                Err(error.into())
            }
        }
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    if !place.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *place = Some(waker.clone());
    }
}
