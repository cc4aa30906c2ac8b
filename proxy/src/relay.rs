//! Moving bytes between two sockets, both ways, until both sides have finished.
//!
//! Every thread has one buffer that all its connections read into. What the other side cannot take at
//! once is kept for that connection alone, so an idle connection owns no buffer. A side's FIN is passed
//! on when everything before it has been sent; a reset becomes a reset.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use crate::splice::Pipe;
use crate::tcplog::End;

/// Size of a thread's shared buffer.
const BUFFER: usize = 64 * 1024;
/// Reads in a row that fill the buffer before bytes are moved inside the kernel.
const FULL_READS: u8 = 3;
/// Rounds of one direction before other connections get a turn.
const ROUNDS: u32 = 8;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// The silence each side may keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence {
    /// The client's.
    pub client: Option<Duration>,
    /// The server's.
    pub server: Option<Duration>,
    /// The client's after it has finished sending.
    pub client_fin: Option<Duration>,
    /// The server's after it has finished sending.
    pub server_fin: Option<Duration>,
}

/// A relay between a client and a server; a future that ends when the connection does.
pub struct Relay<'a> {
    client: &'a mut TcpStream,
    server: &'a mut TcpStream,
    /// Client to server.
    up: Direction,
    /// Server to client.
    down: Direction,
    silence: Silence,
    last_client: Instant,
    last_server: Instant,
    sleep: Pin<&'a mut Sleep>,
    may_splice: bool,
    progress: &'a dyn Progress,
}

/// Is told how many bytes went which way, now and then and at the end.
pub trait Progress: Send + Sync {
    /// Bytes since the last call.
    fn moved(&self, up: u64, down: u64);
}

/// One direction.
#[derive(Default)]
struct Direction {
    /// Read, but not sent yet; empty most of the time.
    rest: Vec<u8>,
    sent: usize,
    state: State,
    full_reads: u8,
    pipe: Option<Pipe>,
    /// Bytes in all, and how many of them were reported.
    bytes: u64,
    reported: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// The source has finished; the rest is to be sent.
    Ending,
    /// The FIN was passed on.
    Done,
}

/// Which socket of a direction failed.
enum Fault {
    Source(io::Error),
    Target(io::Error),
}

/// What a relay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Bytes from the client.
    pub up: u64,
    /// Bytes to the client.
    pub down: u64,
    /// Why it ended.
    pub end: End,
    /// The connection broke off: reset the other side.
    pub reset: bool,
}

impl<'a> Relay<'a> {
    /// A relay that first sends `greeting` to the server.
    pub fn new(
        client: &'a mut TcpStream,
        server: &'a mut TcpStream,
        greeting: Vec<u8>,
        silence: Silence,
        sleep: Pin<&'a mut Sleep>,
        may_splice: bool,
        progress: &'a dyn Progress,
    ) -> Self {
        let now = Instant::now();
        let mut relay = Self {
            client,
            server,
            up: Direction { rest: greeting, ..Direction::default() },
            down: Direction::default(),
            silence,
            last_client: now,
            last_server: now,
            sleep,
            may_splice,
            progress,
        };
        relay.arm();
        relay
    }

    /// The earliest moment at which a side will have been silent too long.
    fn deadline(&self) -> Option<(Instant, End)> {
        let client_limit = if self.up.state == State::Open {
            self.silence.client
        } else {
            self.silence.client_fin.or(self.silence.client)
        };
        let server_limit = if self.down.state == State::Open {
            self.silence.server
        } else {
            self.silence.server_fin.or(self.silence.server)
        };
        let client = client_limit.map(|limit| (self.last_client + limit, End::ClientTimeout));
        let server = server_limit.map(|limit| (self.last_server + limit, End::ServerTimeout));
        match (client, server) {
            (Some(client), Some(server)) => Some(if server.0 <= client.0 { server } else { client }),
            (client, server) => client.or(server),
        }
    }

    fn arm(&mut self) {
        let far = Instant::now() + Duration::from_secs(86_400 * 365);
        let at = self.deadline().map_or(far, |(at, _)| at);
        self.sleep.as_mut().reset(at);
    }

    fn report(&mut self) {
        let (up, down) = (self.up.bytes - self.up.reported, self.down.bytes - self.down.reported);
        if up + down > 0 {
            self.progress.moved(up, down);
            (self.up.reported, self.down.reported) = (self.up.bytes, self.down.bytes);
        }
    }

    fn finish(&mut self, end: End, reset: bool) -> Poll<Summary> {
        self.report();
        Poll::Ready(Summary { up: self.up.bytes, down: self.down.bytes, end, reset })
    }
}

impl Future for Relay<'_> {
    type Output = Summary;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Summary> {
        let this = self.get_mut();
        let before = (this.up.bytes, this.down.bytes);
        let states = (this.up.state, this.down.state);
        let down_done = this.down.state == State::Done;
        let up = this.up.run(context, this.client, this.server, this.may_splice, down_done);
        let up_done = this.up.state == State::Done;
        let down = this.down.run(context, this.server, this.client, this.may_splice, up_done);
        if (this.up.bytes, this.down.bytes) != before {
            // A byte that passes is activity of both sides, as HAProxy counts it.
            let now = Instant::now();
            (this.last_client, this.last_server) = (now, now);
            if this.up.bytes + this.down.bytes - this.up.reported - this.down.reported >= 1 << 20 {
                this.report();
            }
        }
        if (this.up.state, this.down.state) != states {
            this.arm();
        }
        match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return this.finish(End::Normal, false),
            (Poll::Ready(Err(fault)), _) => {
                let (end, error) = match fault {
                    Fault::Source(error) => (End::ClientAbort, error),
                    Fault::Target(error) => (End::ServerAbort, error),
                };
                tracing::trace!(%error, "client to server");
                return this.finish(end, true);
            }
            (_, Poll::Ready(Err(fault))) => {
                let (end, error) = match fault {
                    Fault::Source(error) => (End::ServerAbort, error),
                    Fault::Target(error) => (End::ClientAbort, error),
                };
                tracing::trace!(%error, "server to client");
                return this.finish(end, true);
            }
            _ => {}
        }
        while this.sleep.as_mut().poll(context).is_ready() {
            match this.deadline() {
                Some((at, end)) if at <= Instant::now() => return this.finish(end, false),
                _ => this.arm(),
            }
            this.report();
        }
        Poll::Pending
    }
}

impl Direction {
    /// Moves what can be moved. Ready when the FIN has been passed on. When it is the last direction
    /// (`last`), closing the socket will do that.
    fn run(
        &mut self,
        context: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        may_splice: bool,
        last: bool,
    ) -> Poll<Result<(), Fault>> {
        if self.state == State::Done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.flush(context, to)).map_err(Fault::Target)?;
            if self.state == State::Ending {
                if !last {
                    ready!(Pin::new(&mut *to).poll_shutdown(context)).map_err(Fault::Target)?;
                }
                self.state = State::Done;
                return Poll::Ready(Ok(()));
            }
            let moved = if self.pipe.is_some() || (may_splice && self.full_reads >= FULL_READS) {
                ready!(self.splice(context, from, to))?
            } else {
                ready!(self.copy(context, from, to))?
            };
            if moved == 0 {
                self.state = State::Ending;
            }
            self.bytes += moved as u64;
        }
        // Others first; come back.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read into the thread's buffer and one write out of it.
    fn copy(
        &mut self,
        context: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
    ) -> Poll<Result<usize, Fault>> {
        SHARED.with_borrow_mut(|shared| {
            let mut buffer = ReadBuf::new(shared);
            ready!(Pin::new(from).poll_read(context, &mut buffer)).map_err(Fault::Source)?;
            let read = buffer.filled();
            self.full_reads = if read.len() == BUFFER { self.full_reads.saturating_add(1) } else { 0 };
            let mut sent = 0;
            while sent < read.len() {
                match Pin::new(&mut *to).poll_write(context, &read[sent..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Fault::Target(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(written)) => sent += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Target(error))),
                    Poll::Pending => {
                        self.rest = read[sent..].to_vec();
                        self.sent = 0;
                        break;
                    }
                }
            }
            Poll::Ready(Ok(read.len()))
        })
    }

    /// Sends what is left from before.
    fn flush(&mut self, context: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        while self.sent < self.rest.len() {
            let written = ready!(Pin::new(&mut *to).poll_write(context, &self.rest[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.sent > 0 {
            // Give the memory back: most connections never need it again.
            (self.rest, self.sent) = (Vec::new(), 0);
        }
        match &mut self.pipe {
            Some(pipe) => pipe.poll_drain(context, to),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Moves bytes through a pipe, without copying them to user space.
    fn splice(
        &mut self,
        context: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
    ) -> Poll<Result<usize, Fault>> {
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            None => match Pipe::take() {
                Some(pipe) => self.pipe.insert(pipe),
                None => {
                    // No pipe to be had: copy, and ask again later.
                    self.full_reads = 0;
                    return self.copy(context, from, to);
                }
            },
        };
        let moved = ready!(pipe.poll_fill(context, from)).map_err(Fault::Source)?;
        let drained = pipe.poll_drain(context, to);
        if let Poll::Ready(Err(error)) = drained {
            return Poll::Ready(Err(Fault::Target(error)));
        }
        if moved < BUFFER / 4 && drained.is_ready() {
            // Small pieces are cheaper to copy; the empty pipe goes back to the pool.
            self.pipe = None;
            self.full_reads = 0;
        }
        Poll::Ready(Ok(moved))
    }
}
