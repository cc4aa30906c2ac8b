//! Moving bytes between two sides, both ways, until both have finished.
//!
//! Every thread has one buffer that all its connections read into. What the other side cannot take at
//! once is kept for that connection alone, so an idle connection owns no buffer. A side's FIN is passed
//! on when everything before it has been sent; a reset becomes a reset.
//!
//! A side that was silent too long counts as finished, as in HAProxy: the other side gets its FIN and may
//! go on until it finishes or is silent itself. When there are bytes that a side does not take, there is
//! nothing left to wait for, and the connection ends.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::reactor::{self, Pipe, Sleep};
use crate::registry::Session;
use crate::side::Side;
use crate::tcplog::End;

/// Size of a thread's shared buffer, and the most that one read takes.
const BUFFER: usize = 64 * 1024;
/// What a read takes at first, and after the target did not take everything: so much is kept for a slow reader.
const SMALL: usize = 16 * 1024;
/// Full reads in a row before bytes are moved inside the kernel.
const FULL_READS: u8 = 3;
/// Rounds of one direction before other connections get a turn.
const ROUNDS: u32 = 8;
/// Bytes that are counted at once.
const REPORT_BYTES: u64 = 256 * 1024;
/// Fewer are counted after this time, when the next ones pass.
const REPORT_TIME: Duration = Duration::from_secs(1);

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Lends the thread's buffer.
pub fn with_buffer<T>(action: impl FnOnce(&mut [u8]) -> T) -> T {
    SHARED.with_borrow_mut(|shared| action(shared))
}

/// The silence each side may keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silence {
    /// The client's.
    pub client: Option<Duration>,
    /// The server's.
    pub server: Option<Duration>,
    /// The client's after the server has finished (`timeout client-fin`).
    pub client_fin: Option<Duration>,
    /// The server's after the client has finished (`timeout server-fin`).
    pub server_fin: Option<Duration>,
}

/// What a relay is told.
#[derive(Debug)]
pub struct Plan {
    /// Bytes for the server that come before all others.
    pub greeting: Vec<u8>,
    /// How many bytes of the client have been sent already.
    pub sent: u64,
    /// How many of the greeting are none of the client's.
    pub header: u64,
    /// The client has finished already.
    pub client_finished: bool,
    /// The silence each side may keep.
    pub silence: Silence,
    /// Move bulk data from the client inside the kernel.
    pub splice_up: bool,
    /// Move bulk data from the server inside the kernel.
    pub splice_down: bool,
    /// Writing to a side does not count as its activity (`option independent-streams`).
    pub independent: bool,
}

/// A relay between a client and a server; a future that ends when the connection does.
pub struct Relay<'a> {
    client: &'a mut Side,
    server: &'a mut Side,
    /// Client to server.
    up: Direction,
    /// Server to client.
    down: Direction,
    silence: Silence,
    independent: bool,
    last_client: Instant,
    last_server: Instant,
    /// The first reason to end that is not the usual one.
    end: Option<End>,
    sleep: Sleep,
    session: &'a Session,
    progress: &'a dyn Progress,
    reported: (u64, u64),
    reported_at: Instant,
}

/// Is told how many bytes went which way, now and then and at the end.
pub trait Progress {
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
    may_splice: bool,
    /// The last write did not take everything.
    blocked: bool,
    /// The target has not taken what was read before.
    stuck: bool,
    pipe: Option<Pipe>,
    /// Bytes read in all.
    bytes: u64,
    /// Bytes written in all; only good for comparing.
    written: u64,
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
    /// A relay between two sides.
    pub fn new(
        client: &'a mut Side,
        server: &'a mut Side,
        plan: Plan,
        session: &'a Session,
        progress: &'a dyn Progress,
    ) -> Self {
        let now = reactor::now();
        let ours = plan.sent + plan.greeting.len() as u64 - plan.header;
        let up = Direction {
            bytes: ours,
            rest: plan.greeting,
            state: if plan.client_finished { State::Ending } else { State::Open },
            may_splice: plan.splice_up,
            ..Direction::default()
        };
        let mut relay = Self {
            client,
            server,
            up,
            down: Direction { may_splice: plan.splice_down, ..Direction::default() },
            silence: plan.silence,
            independent: plan.independent,
            last_client: now,
            last_server: now,
            end: None,
            sleep: reactor::sleep_until(now),
            session,
            progress,
            reported: (0, 0),
            reported_at: now,
        };
        relay.arm();
        relay
    }

    /// When the client will have been silent too long: it may send, or has bytes to take.
    fn client_deadline(&self) -> Option<Instant> {
        let wanted = self.up.wants_bytes() || self.down.has_rest();
        let limit = match self.down.state {
            State::Done => self.silence.client_fin.or(self.silence.client),
            _ => self.silence.client,
        };
        limit.filter(|_| wanted).map(|limit| self.last_client + limit)
    }

    /// The same of the server.
    fn server_deadline(&self) -> Option<Instant> {
        let wanted = self.down.wants_bytes() || self.up.has_rest();
        let limit = match self.up.state {
            State::Done => self.silence.server_fin.or(self.silence.server),
            _ => self.silence.server,
        };
        limit.filter(|_| wanted).map(|limit| self.last_server + limit)
    }

    fn arm(&mut self) {
        let far = reactor::now() + Duration::from_secs(86_400 * 365);
        let earliest = self.client_deadline().into_iter().chain(self.server_deadline()).min();
        self.sleep.reset(earliest.unwrap_or(far));
    }

    /// Who was silent too long, the client first. `Some` ends the connection.
    fn look_at_silence(&mut self) -> Option<End> {
        let is_over = |at: Option<Instant>| at.is_some_and(|at| at <= reactor::now());
        let (client, server) = (is_over(self.client_deadline()), is_over(self.server_deadline()));
        if client {
            self.end.get_or_insert(End::ClientTimeout);
            if self.down.has_rest() {
                return self.end;
            }
            self.up.state = State::Ending;
        }
        if server {
            self.end.get_or_insert(End::ServerTimeout);
            if self.up.has_rest() {
                return self.end;
            }
            self.down.state = State::Ending;
        }
        None
    }

    fn report(&mut self, now: Instant) {
        let (up, down) = (self.up.bytes - self.reported.0, self.down.bytes - self.reported.1);
        if up + down > 0 {
            self.progress.moved(up, down);
            self.reported = (self.up.bytes, self.down.bytes);
        }
        self.reported_at = now;
    }

    fn finish(&mut self, end: End, reset: bool) -> Poll<Summary> {
        self.report(reactor::now());
        let end = self.end.unwrap_or(end);
        Poll::Ready(Summary { up: self.up.bytes, down: self.down.bytes, end, reset })
    }

    /// Notes what moved since `before`.
    fn note_activity(&mut self, before: [u64; 4]) {
        let now = reactor::now();
        let (read, written) = (self.up.bytes != before[0], self.up.written != before[1]);
        let (answered, delivered) = (self.down.bytes != before[2], self.down.written != before[3]);
        if read || (delivered && !self.independent) {
            self.last_client = now;
        }
        if answered || (written && !self.independent) {
            self.last_server = now;
        }
        if read || answered {
            self.session.set_bytes(self.up.bytes, self.down.bytes, now);
            let unreported = self.up.bytes + self.down.bytes - self.reported.0 - self.reported.1;
            if unreported >= REPORT_BYTES || now.saturating_duration_since(self.reported_at) >= REPORT_TIME {
                self.report(now);
            }
        }
    }

    /// Moves what can be moved. Ready when both directions are done or one has failed.
    fn run(&mut self, context: &mut Context<'_>) -> Poll<Summary> {
        let before = [self.up.bytes, self.up.written, self.down.bytes, self.down.written];
        let shape = self.shape();
        let down_done = self.down.state == State::Done;
        let up = self.up.run(context, self.client, self.server, down_done);
        let up_done = self.up.state == State::Done;
        let down = self.down.run(context, self.server, self.client, up_done);
        self.note_activity(before);
        if self.shape() != shape {
            self.arm();
        }
        let (end, error) = match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return self.finish(End::Normal, false),
            (Poll::Ready(Err(Fault::Source(error))), _) | (_, Poll::Ready(Err(Fault::Target(error)))) => {
                (End::ClientAbort, error)
            }
            (Poll::Ready(Err(Fault::Target(error))), _) | (_, Poll::Ready(Err(Fault::Source(error)))) => {
                (End::ServerAbort, error)
            }
            _ => return Poll::Pending,
        };
        tracing::trace!(%error, code = end.code(), "broken off");
        self.finish(end, true)
    }

    /// What the deadlines depend on, apart from times.
    fn shape(&self) -> (State, State, bool, bool) {
        (self.up.state, self.down.state, self.up.has_rest(), self.down.has_rest())
    }
}

impl Future for Relay<'_> {
    type Output = Summary;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Summary> {
        let this = self.get_mut();
        if let Some(cause) = this.session.asked_to_close(context.waker()) {
            this.end = None;
            return this.finish(End::Killed(cause), false);
        }
        loop {
            if let Poll::Ready(summary) = this.run(context) {
                return Poll::Ready(summary);
            }
            ready!(Pin::new(&mut this.sleep).poll(context));
            if let Some(end) = this.look_at_silence() {
                return this.finish(end, true);
            }
            this.arm();
        }
    }
}

impl Direction {
    /// Bytes wait for the target.
    fn has_rest(&self) -> bool {
        self.stuck || self.sent < self.rest.len() || self.pipe.as_ref().is_some_and(|pipe| pipe.held() > 0)
    }

    /// Bytes of the source would be read.
    fn wants_bytes(&self) -> bool {
        self.state == State::Open && !self.has_rest()
    }

    /// Moves what can be moved. Ready when the FIN has been passed on. When it is the last direction
    /// (`last`), closing the socket will do that.
    fn run(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Side,
        to: &mut Side,
        last: bool,
    ) -> Poll<Result<(), Fault>> {
        if self.state == State::Done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            self.stuck = true;
            ready!(self.flush(context, to)).map_err(Fault::Target)?;
            if self.state == State::Ending {
                if !last || to.is_tls() {
                    ready!(to.poll_finish(context)).map_err(Fault::Target)?;
                }
                self.stuck = false;
                self.pipe = None;
                self.state = State::Done;
                return Poll::Ready(Ok(()));
            }
            self.stuck = false;
            let moved = if self.pipe.is_some() || (self.may_splice && self.full_reads >= FULL_READS) {
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
        from: &mut Side,
        to: &mut Side,
    ) -> Poll<Result<usize, Fault>> {
        let chunk = if self.full_reads == 0 || self.blocked { SMALL } else { BUFFER };
        with_buffer(|shared| {
            let buffer = &mut shared[..chunk];
            let count = ready!(from.poll_recv(context, buffer)).map_err(Fault::Source)?;
            self.full_reads = if count == chunk { self.full_reads.saturating_add(1) } else { 0 };
            self.blocked = false;
            let read = &buffer[..count];
            let mut sent = 0;
            while sent < read.len() {
                match to.poll_send(context, &read[sent..]) {
                    Poll::Ready(Ok(0)) => {
                        return Poll::Ready(Err(Fault::Target(io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Ok(written)) => sent += written,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(Fault::Target(error))),
                    Poll::Pending => {
                        self.rest = read[sent..].to_vec();
                        self.sent = 0;
                        self.blocked = true;
                        break;
                    }
                }
            }
            self.written += sent as u64;
            Poll::Ready(Ok(count))
        })
    }

    /// Sends what is left from before.
    fn flush(&mut self, context: &mut Context<'_>, to: &mut Side) -> Poll<io::Result<()>> {
        while self.sent < self.rest.len() {
            let written = ready!(to.poll_send(context, &self.rest[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
            self.written += written as u64;
        }
        if !self.rest.is_empty() {
            // Give the memory back: most connections never need it again.
            (self.rest, self.sent) = (Vec::new(), 0);
        }
        match (&mut self.pipe, to.plain()) {
            (Some(pipe), Some(stream)) if pipe.held() > 0 => {
                let before = pipe.held();
                let drained = pipe.poll_drain(context, stream);
                self.written += (before - pipe.held()) as u64;
                drained
            }
            _ => to.poll_flush(context),
        }
    }

    /// Moves bytes through a pipe, without copying them to user space.
    fn splice(
        &mut self,
        context: &mut Context<'_>,
        from: &mut Side,
        to: &mut Side,
    ) -> Poll<Result<usize, Fault>> {
        let (Some(source), Some(target)) = (from.plain(), to.plain()) else {
            // One of them has to be encrypted here.
            self.may_splice = false;
            return self.copy(context, from, to);
        };
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            None => match Pipe::take() {
                Some(pipe) => self.pipe.insert(pipe),
                None => {
                    // No pipe to be had: copy, and ask again later.
                    self.full_reads = 1;
                    return self.copy(context, from, to);
                }
            },
        };
        let moved = match pipe.poll_fill(context, source) {
            Poll::Ready(moved) => moved.map_err(Fault::Source)?,
            Poll::Pending => {
                // While nothing comes another connection may use the pipe.
                self.pipe = None;
                return Poll::Pending;
            }
        };
        let drained = pipe.poll_drain(context, target);
        self.written += (moved - pipe.held().min(moved)) as u64;
        if let Poll::Ready(Err(error)) = drained {
            return Poll::Ready(Err(Fault::Target(error)));
        }
        if moved < SMALL && drained.is_ready() {
            // Small pieces are cheaper to copy; the empty pipe goes back to the pool.
            self.pipe = None;
            self.full_reads = 0;
        }
        Poll::Ready(Ok(moved))
    }
}
