//! A connection's socket: plain TCP, or TLS on it.
//!
//! The connection's task reads, and whoever delivers writes, at the same time. A TLS session is one state for
//! both directions, so it has a lock of its own. It is the innermost lock: nothing is locked or awaited under it, and
//! it is held for at most one bite of output or input. Plain sockets have none.

use parking_lot::Mutex;
use rustls::ServerConnection;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Octets of TLS read from a socket at a time.
const BITE: usize = 64 * 1024;

thread_local! {
    /// What a thread reads TLS records into. Nothing is kept here between reads.
    static RECORDS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's socket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// TLS on TCP, after its handshake.
    Tls(Box<TlsSocket>),
}

/// A TLS session and its TCP connection.
#[derive(Debug)]
pub(crate) struct TlsSocket {
    tcp: TcpStream,
    session: Mutex<ServerConnection>,
    /// Records that the TCP connection did not take yet. The session bounds them.
    unsent: AtomicBool,
    /// The client has said that it sends nothing more (`close_notify`).
    ended: AtomicBool,
}

impl Socket {
    /// TLS, with a session whose handshake is over.
    pub(crate) fn tls(tcp: TcpStream, session: ServerConnection) -> Socket {
        let unsent = AtomicBool::new(session.wants_write());
        Socket::Tls(Box::new(TlsSocket {
            tcp,
            session: Mutex::new(session),
            unsent,
            ended: AtomicBool::new(false),
        }))
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => &tls.tcp,
        }
    }

    /// Whether it is TLS.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self, Socket::Tls(_))
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.tcp().readable().await
    }

    /// Whether the client will send nothing more. Known without reading.
    pub(crate) async fn is_read_closed(&self) -> bool {
        let ready = timeout(Duration::ZERO, self.tcp().ready(Interest::READABLE)).await;
        matches!(ready, Ok(Ok(ready)) if ready.is_read_closed())
    }

    /// Waits until something can be written.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.tcp().writable().await
    }

    /// Reads what is there; 0 when the client has gone. Only the connection's task may read. `buffer` has to have
    /// room for what one bite of records holds.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => tcp.try_read(buffer),
            Socket::Tls(tls) => tls.try_read(buffer),
        }
    }

    /// Writes what the socket takes now. Some of it may still be [unsent](Socket::has_unsent) after that.
    pub(crate) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Socket::Plain(tcp) => tcp.try_write_vectored(slices),
            Socket::Tls(tls) => tls.try_write_vectored(slices),
        }
    }

    /// Sends what was written and is unsent.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self {
            Socket::Tls(tls) if self.has_unsent() => tls.send(&mut tls.session.lock()),
            _ => Ok(()),
        }
    }

    /// Whether something that was written, or that TLS itself has to say, is not sent.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(tls) => tls.unsent.load(Ordering::Acquire),
        }
    }

    /// Whether the client has ended the TLS session: the TCP connection need not become readable again.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Socket::Plain(_) => false,
            Socket::Tls(tls) => tls.ended.load(Ordering::Relaxed),
        }
    }

    /// Says that nothing more comes (RFC 8446 section 6.1), as far as the socket takes it.
    pub(crate) fn say_end(&self) {
        if let Socket::Tls(tls) = self {
            let mut session = tls.session.lock();
            session.send_close_notify();
            // The client may have gone already.
            let _ = tls.send(&mut session);
        }
    }
}

impl TlsSocket {
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        // What came along with the end of the handshake.
        let early = take_plain(&mut self.session.lock(), buffer)?;
        if early > 0 {
            return Ok(early);
        }
        if self.ended.load(Ordering::Relaxed) {
            return Ok(0);
        }
        RECORDS.with_borrow_mut(|records| {
            records.resize(BITE, 0);
            let count = self.tcp.try_read(records)?;
            if count == 0 {
                return Ok(0);
            }
            let plain = self.decrypt(&records[..count], buffer)?;
            match plain {
                0 if self.ended.load(Ordering::Relaxed) => Ok(0),
                0 => Err(io::ErrorKind::WouldBlock.into()),
                plain => Ok(plain),
            }
        })
    }

    /// Takes records in. What they make the session say is sent along.
    fn decrypt(&self, mut records: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut session = self.session.lock();
        let mut plain = 0;
        let mut outcome = Ok(());
        while !records.is_empty() && session.read_tls(&mut records)? > 0 {
            match session.process_new_packets() {
                Ok(state) => {
                    if state.peer_has_closed() {
                        self.ended.store(true, Ordering::Relaxed);
                    }
                    plain += take_plain(&mut session, &mut buffer[plain..])?;
                }
                Err(error) => {
                    outcome = Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    break;
                }
            }
        }
        if session.wants_write() {
            match self.send(&mut session) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => outcome = outcome.and(Err(error)),
                _ => {}
            }
        }
        outcome.map(|()| plain)
    }

    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut session = self.session.lock();
        // With nothing left over, the session's buffer takes some of it.
        self.send(&mut session)?;
        let taken = session.writer().write_vectored(slices)?;
        match self.send(&mut session) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Sends records until none are left or the socket is full.
    fn send(&self, session: &mut ServerConnection) -> io::Result<()> {
        let mut outcome = Ok(());
        while outcome.is_ok() && session.wants_write() {
            outcome = session
                .write_tls(&mut Sink(&self.tcp))
                .and_then(|sent| if sent == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) });
        }
        self.unsent.store(session.wants_write(), Ordering::Release);
        outcome
    }
}

/// Decrypted octets that the session has; none is no error.
fn take_plain(session: &mut ServerConnection, buffer: &mut [u8]) -> io::Result<usize> {
    let mut taken = 0;
    while taken < buffer.len() {
        match session.reader().read(&mut buffer[taken..]) {
            Ok(0) => break,
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

/// A socket that is written to without waiting.
struct Sink<'a>(&'a TcpStream);

impl Write for Sink<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.try_write(octets)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
