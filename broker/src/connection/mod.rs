//! One client connection: a task that reads, does the work, and writes what the socket would not take at once.
//!
//! ```text
//! socket -> read buffer (one per thread) -> frames -> publish/basic  (a turn at the shards, nothing waits)
//!                                              \----> slow            (journal, log, password hash)
//! outbox <- answers and, from any thread, deliveries -> socket
//! ```

#[cfg(test)]
mod allocations;
pub(crate) mod basic;
pub(crate) mod channel;
mod far;
mod frames;
pub(crate) mod handshake;
pub(crate) mod info;
pub(crate) mod outbox;
mod patience;
pub(crate) mod publish;
pub(crate) mod reply_to;
mod routes;
mod slow;
pub(crate) mod socket;

use crate::counters::TurnTally;
use crate::node::Node;
use crate::shard::{LocalQueue, Turn, TurnBuffers};
use crate::tls::TlsInfo;
use amqp::frame;
use amqp::method::{MethodFields, basic as basic_methods, channel as channel_methods, connection as methods};
use broker_core::channel::confirm::Pass;
use broker_core::channel::deliveries::Unacked;
use broker_core::exception::{Exception, Scope};
use broker_core::ids::QueueId;
use broker_core::meta::{Access, RouteScratch};
use broker_core::queue::{CROWDED_ABOVE, Crowd, PAGE_BEHIND};
use broker_store::Lsn;
use channel::{Channel, write_confirm};
use frames::Next;
use info::ConnectionInfo;
use outbox::{Outbox, Request};
use routes::RouteCache;
use rustc_hash::FxHashMap;
use socket::Socket;
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Octets read at a time.
const READ_SIZE: usize = 256 * 1024;
/// How long a client may take to log in, as RabbitMQ's `handshake_timeout`.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to answer `connection.close`, or to hang up after `close-ok`.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a publisher that waits for its consumers looks after them.
const PACE: Duration = Duration::from_millis(1);
/// How many looks without any progress end the wait.
const PACE_IDLE: u32 = 5;
/// How many looks end it in any case: a slow consumer slows publishers down, it does not stop them.
const PACE_LOOKS: u32 = 50;
/// How long a publisher waits for copies on other nodes: longer than it takes to give one up.
const COPIES_WAIT: Duration = Duration::from_secs(5);
/// How long a publisher waits for the consumers of a large queue, and for how long without any progress.
const CONSUMED_WAIT: Duration = Duration::from_millis(100);
const CONSUMED_IDLE: Duration = Duration::from_millis(10);
/// The same for segments to be written. When they can not be, memory's alarm stops it.
const PAGED_WAIT: Duration = Duration::from_secs(2);
const PAGED_IDLE: Duration = Duration::from_millis(500);
/// How often unsettled deliveries are looked at, at least.
const CHECK: Duration = Duration::from_secs(60);
/// A connection's leftover input is kept in its own buffer; larger ones are given back when empty.
const KEEP_INPUT: usize = 16 * 1024;

thread_local! {
    /// Every connection task of a thread reads into the same buffer: nothing is kept there between reads.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The eight octets of the protocol header are due.
    Header,
    /// `start` was sent, `start-ok` is due.
    Start,
    /// `tune` was sent, `tune-ok` is due.
    Tune,
    /// `open` is due.
    Open,
    /// Open for work.
    Running,
    /// `close` or `close-ok` was sent.
    Closing,
    /// Over.
    Done,
}

/// A client connection.
#[derive(Debug)]
pub(crate) struct Connection {
    node: Arc<Node>,
    info: Arc<ConnectionInfo>,
    stream: Arc<Socket>,
    outbox: Arc<Outbox>,
    phase: Phase,
    frame_max: u32,
    channel_max: u16,
    heartbeat: Duration,
    channels: FxHashMap<u16, Channel>,
    access: Option<Access>,
    may_impersonate: bool,
    cancel_notify: bool,
    blocked_notify: bool,
    close_on_refusal: bool,
    routes: RouteCache,
    route_scratch: RouteScratch,
    tally: TurnTally,
    targets: Vec<QueueId>,
    settled: Vec<(u64, Unacked)>,
    /// Their positions in a queue, reused.
    positions: Vec<u64>,
    /// Tags of acknowledgements that follow each other, reused.
    tags: Vec<u64>,
    buffers: TurnBuffers,
    durable: watch::Receiver<Lsn>,
    gates: watch::Receiver<u64>,
    /// Some channel published with confirms in this turn, or waits for the log.
    confirming: bool,
    /// Some confirm waits for more than the log.
    gated: bool,
    current_channel: u16,
    input: Vec<u8>,
    deadline: Option<Instant>,
    /// `connection.close` is still to be sent: what the connection held has to go first.
    farewell: Option<Exception>,
    /// The stream can not be cut into frames any more: what comes is thrown away.
    deaf: bool,
    /// The client reads too slowly for what it asks: the rest of its input waits.
    held_back: bool,
    last_sent: u64,
    last_received: u64,
    silent_ticks: u32,
    /// Input is read: no alarm and no full log holds this publisher up.
    reading: bool,
    told_blocked: bool,
    /// The client has begun to publish: alarms are for it.
    publishes: bool,
}

/// A client that has just come, before AMQP begins.
#[derive(Debug)]
pub(crate) struct Arrived {
    /// Its socket.
    pub(crate) socket: Socket,
    /// Its end.
    pub(crate) peer: SocketAddr,
    /// Ours.
    pub(crate) local: SocketAddr,
    /// What the TLS handshake said.
    pub(crate) tls: Option<TlsInfo>,
}

/// Serves a client until the connection ends.
pub(crate) async fn serve(node: Arc<Node>, arrived: Arrived) {
    let Arrived { socket, peer, local, tls } = arrived;
    let stream = Arc::new(socket);
    let outbox = Outbox::new(Arc::clone(&stream));
    let ends = (peer, local);
    let id = node.next_connection_id();
    let info = Arc::new(ConnectionInfo::new(id, ends, tls, node.now_ms(), Arc::clone(&outbox)));
    node.connections.insert(Arc::clone(&info));
    let (durable, gates) = (node.durable(), node.gates.subscribe());
    let mut connection = Connection {
        info,
        stream,
        outbox,
        phase: Phase::Header,
        // Until `tune-ok` (AMQP 0-9-1 section 4.2.3): who has not logged in can not make us keep much.
        frame_max: amqp::FRAME_MIN_SIZE,
        channel_max: 0,
        heartbeat: Duration::ZERO,
        channels: FxHashMap::default(),
        access: None,
        may_impersonate: false,
        cancel_notify: false,
        blocked_notify: false,
        close_on_refusal: false,
        routes: RouteCache::default(),
        route_scratch: RouteScratch::default(),
        tally: TurnTally::default(),
        targets: Vec::new(),
        settled: Vec::new(),
        positions: Vec::new(),
        tags: Vec::new(),
        buffers: TurnBuffers::default(),
        durable,
        gates,
        confirming: false,
        gated: false,
        current_channel: 0,
        input: Vec::new(),
        deadline: Some(Instant::now() + HANDSHAKE_TIMEOUT),
        farewell: None,
        deaf: false,
        held_back: false,
        last_sent: 0,
        last_received: 0,
        silent_ticks: 0,
        reading: true,
        told_blocked: false,
        publishes: false,
        node,
    };
    run_guarded(&mut connection).await;
    connection.clean_up().await;
}

/// Runs a connection. A mistake of ours must not leave its consumers and messages behind: whatever happens,
/// it is cleaned up after.
async fn run_guarded(connection: &mut Connection) {
    let name = Arc::clone(&connection.info.name);
    let mut run = std::pin::pin!(connection.run());
    std::future::poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(context))).unwrap_or_else(|_| {
            tracing::error!(connection = &*name, "a connection's task failed");
            Poll::Ready(())
        })
    })
    .await;
}

impl Connection {
    async fn run(&mut self) {
        let stream = Arc::clone(&self.stream);
        let outbox = Arc::clone(&self.outbox);
        let mut durable = self.durable.clone();
        let mut gates = self.gates.clone();
        let mut blocked = self.node.blocked();
        let mut next_tick = Instant::now() + Duration::from_secs(3600);
        let mut next_check = Instant::now() + self.check_interval();
        // Set anew only when it is due at another time: most turns leave it alone.
        let mut sleep = std::pin::pin!(sleep_until(next_check));
        if stream.is_tls() {
            // What came along with the handshake does not make the socket readable.
            self.read_or_end().await;
        }
        while self.phase != Phase::Done {
            if self.phase == Phase::Running
                && self.deadline.is_none()
                && next_tick > Instant::now() + self.tick()
            {
                next_tick = Instant::now() + self.tick();
            }
            let timer = self.deadline.map_or(next_tick, |deadline| deadline.min(next_tick)).min(next_check);
            if sleep.deadline() != timer || sleep.is_elapsed() {
                sleep.as_mut().reset(timer);
            }
            let congested = self.node.wal.is_congested();
            let far = self.far_hold();
            // Alarms are for publishers.
            let alarm = if self.publishes { blocked.borrow().clone().or(far.alarm) } else { None };
            let stopped =
                self.publishes && self.phase == Phase::Running && (congested || far.full || alarm.is_some());
            if stopped && !self.told_blocked || self.told_blocked && alarm.is_none() {
                self.tell_blocked(alarm.as_deref());
            }
            let follows_gates = self.gated || !self.buffers.far_used().is_empty();
            self.info.set_held(stopped);
            let reads = !stopped && !self.held_back;
            self.reading = reads;
            tokio::select! {
                ready = stream.readable(), if reads => match ready {
                    Ok(()) => self.read_or_end().await,
                    Err(error) => self.lost(&error),
                },
                ready = stream.writable(), if outbox.is_blocked() => match ready {
                    Ok(()) => {
                        outbox.unblock();
                        if self.held_back && !outbox.is_overfull() {
                            self.follow(Next::HeldBack).await;
                        }
                    }
                    Err(error) => self.lost(&error),
                },
                () = outbox.notify.notified() => {
                    self.notified();
                    if self.held_back && !outbox.is_overfull() {
                        self.follow(Next::HeldBack).await;
                    }
                }
                changed = durable.changed(), if self.confirming || congested => match changed {
                    Ok(()) => self.confirm(),
                    Err(_) => self.phase = Phase::Done,
                },
                _ = gates.changed(), if follows_gates => self.confirm(),
                _ = blocked.changed() => {}
                () = sleep.as_mut() => {
                    if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                        self.phase = Phase::Done;
                    } else if timer == next_tick {
                        self.heartbeat();
                        next_tick = Instant::now() + self.tick();
                    } else {
                        self.check_overdue();
                        next_check = Instant::now() + self.check_interval();
                    }
                }
            }
            self.say_farewell().await;
            if stream.has_ended() && !self.held_back && self.phase != Phase::Done {
                self.lost(&io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// How often unsettled deliveries are looked at: often enough to tell the timeout to a tenth, RabbitMQ's
    /// minute at most.
    fn check_interval(&self) -> Duration {
        let tenth = Duration::from_millis(self.node.settings.consumer_timeout_ms / 10);
        if tenth.is_zero() {
            Duration::from_secs(3600)
        } else {
            tenth.clamp(Duration::from_millis(10), CHECK)
        }
    }

    /// Closes channels whose consumers keep deliveries for too long (RabbitMQ's `consumer_timeout`).
    fn check_overdue(&mut self) {
        let timeout = self.node.settings.consumer_timeout_ms;
        if timeout == 0 || self.phase != Phase::Running {
            return;
        }
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        while let Some(number) = self.outbox.overdue(node.monotonic_ms(), timeout) {
            let text = format!(
                "delivery acknowledgement on channel {number} timed out. Timeout value used: {timeout} ms. \
                 This timeout value can be configured, see consumers doc guide to learn more"
            );
            let exception = Exception::channel(amqp::reply_code::PRECONDITION_FAILED, text);
            self.close_channel(&mut turn, number, &exception);
        }
        self.end_turn(turn);
    }

    /// Sends the `connection.close` that is due. RabbitMQ: the exclusive queues are gone when the client reads it.
    async fn say_farewell(&mut self) {
        let Some(exception) = self.farewell.take() else { return };
        self.node.delete_exclusive(self.info.id).await;
        let reply_text = exception.reply_text();
        let close = methods::Close {
            reply_code: exception.code,
            reply_text: &reply_text,
            class_id: exception.class_id,
            method_id: exception.method_id,
        };
        self.outbox.write(|buf| frame::write_fields(buf, 0, &close));
        self.outbox.flush();
    }

    /// Half the heartbeat interval: when to send one, and how often to look for the client's.
    fn tick(&self) -> Duration {
        if self.heartbeat.is_zero() { Duration::from_secs(3600) } else { self.heartbeat / 2 }
    }

    fn lost(&mut self, error: &io::Error) {
        if self.phase == Phase::Running {
            tracing::warn!(connection = &*self.info.name, %error, "client closed the connection without closing AMQP first");
        }
        self.phase = Phase::Done;
    }

    /// Reads once; when that fails, the connection is over.
    async fn read_or_end(&mut self) {
        if let Err(error) = self.read().await {
            self.lost(&error);
        }
        if self.stream.has_unsent() {
            self.outbox.block();
        }
    }

    /// Reads once and does what can be done with what is there.
    async fn read(&mut self) -> io::Result<()> {
        match self.read_and_process() {
            Ok(next) => self.follow(next).await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        self.pace().await;
        Ok(())
    }

    /// Goes on with the input where [`Connection::process`] stopped.
    async fn follow(&mut self, mut next: Next) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while next != Next::Read && self.phase != Phase::Done {
            if next == Next::Slow {
                let Ok(Some((frame, size))) = frame::parse(&input[at..], self.frame_max) else { break };
                at += size;
                // Boxed: it is large, rarely there, and every idle connection would carry room for it.
                Box::pin(self.slow_frame(frame.channel, frame.payload)).await;
            } else if self.outbox.wait_for_room() {
                break;
            }
            let (used, then) = self.process(&input[at..]);
            at += used;
            next = then;
        }
        self.held_back = next == Next::HeldBack;
        self.input = input;
        self.input.drain(..at);
        if self.input.is_empty() && self.input.capacity() > KEEP_INPUT {
            self.input = Vec::new();
        }
    }

    /// Waits while consumers do not keep up with what is published here, until they have been sent as much as
    /// they are owed or do not get on at all: memory is better spent than on what they can not take yet.
    async fn pace(&mut self) {
        if let Some((queue, crowd)) = self.buffers.take_crowded()
            && self.publishes
        {
            self.wait_in_crowd(queue, crowd).await;
        }
        if self.publishes && self.node.replicate.is_behind() {
            self.wait_for_copies().await;
        }
        let Some((consumer, owed)) = self.buffers.take_behind(READ_SIZE) else { return };
        let mut sent = consumer.sent();
        let enough = sent + owed as u64;
        let (mut idle, mut looks) = (0, 0);
        while sent < enough && idle < PACE_IDLE && looks < PACE_LOOKS {
            looks += 1;
            tokio::time::sleep(PACE).await;
            let now = consumer.sent();
            idle = if now == sent { idle + 1 } else { 0 };
            sent = now;
        }
    }

    /// Waits until copies elsewhere have got most of what was published, or are given up.
    #[cold]
    async fn wait_for_copies(&self) {
        let start = Instant::now();
        while self.node.replicate.is_behind() && start.elapsed() < COPIES_WAIT {
            tokio::time::sleep(5 * PACE).await;
            self.node.look_behind();
        }
    }

    /// Waits until a queue holds less in memory, or it makes no sense to wait.
    async fn wait_in_crowd(&self, queue: QueueId, crowd: Crowd) {
        let (enough, most, most_idle) = match crowd {
            Crowd::Consumed => (CROWDED_ABOVE / 2, CONSUMED_WAIT, CONSUMED_IDLE),
            Crowd::Paged => (PAGE_BEHIND, PAGED_WAIT, PAGED_IDLE),
        };
        let start = Instant::now();
        let (mut least, mut least_since) = (u64::MAX, start);
        while start.elapsed() < most
            && least_since.elapsed() < most_idle
            && let Some(octets) = self.node.with_queue(queue, LocalQueue::resident_bytes)
            && octets > enough
        {
            if octets < least {
                (least, least_since) = (octets, Instant::now());
            }
            tokio::time::sleep(PACE).await;
        }
    }

    fn read_and_process(&mut self) -> io::Result<Next> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let kept = self.input.len();
            let size = kept.next_multiple_of(READ_SIZE) + READ_SIZE;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            buffer[..kept].copy_from_slice(&self.input);
            let count = self.stream.try_read(&mut buffer[kept..kept + READ_SIZE])?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.info.counters.received_octets.bump(count as u64);
            self.info.counters.reads.bump(1);
            if self.deaf {
                self.input.clear();
                return Ok(Next::Read);
            }
            let mut data = &buffer[..kept + count];
            if self.phase == Phase::Header {
                match self.protocol_header(data) {
                    Some(used) => data = &data[used..],
                    None if self.phase == Phase::Done => return Ok(Next::Read),
                    None => {
                        self.input.clear();
                        self.input.extend_from_slice(data);
                        return Ok(Next::Read);
                    }
                }
            }
            let (used, next) = self.process(data);
            self.input.clear();
            self.input.extend_from_slice(&data[used..]);
            Ok(next)
        })
    }

    /// Somebody else has something for this connection to do.
    fn notified(&mut self) {
        if self.outbox.is_dead() {
            self.phase = Phase::Done;
            return;
        }
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        for request in self.outbox.take_requests() {
            match request {
                Request::Close(exception) => {
                    if self.phase == Phase::Running {
                        self.close_connection(&mut turn, &exception);
                    } else if self.phase != Phase::Closing {
                        self.phase = Phase::Done;
                    }
                }
                Request::ConsumerGone { channel, tag, queue } => {
                    self.consumer_gone(&mut turn, channel, &tag, queue);
                }
                Request::Attach(moved) => self.attach_again(&mut turn, *moved),
            }
        }
        for (queue, consumer) in self.outbox.take_stalled() {
            turn.resume(queue, consumer);
        }
        self.end_turn(turn);
    }

    /// The queue of a consumer was deleted (RabbitMQ's consumer cancel notification).
    fn consumer_gone(&mut self, turn: &mut Turn<'_>, channel: u16, tag: &str, queue: QueueId) {
        let Some(open) = self.channels.get_mut(&channel) else { return };
        // The client may have cancelled it meanwhile and used the tag again.
        if open.consumers.get(tag).is_none_or(|consumer| consumer.queue != queue) {
            return;
        }
        open.consumers.remove(tag);
        if self.cancel_notify && !open.closing {
            self.send(turn, channel, &basic_methods::Cancel { consumer_tag: tag, nowait: true });
        }
    }

    /// The log is durable further than before.
    fn confirm(&mut self) {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        self.write_confirms(&mut turn, false);
        self.buffers = turn.finish();
    }

    /// Confirms what may be confirmed; at the end of a turn also what was published in it.
    fn write_confirms(&mut self, turn: &mut Turn<'_>, ends_batch: bool) {
        if ends_batch {
            turn.send_forwarded();
        }
        if !self.confirming {
            return;
        }
        let position = turn.position();
        let durable = self.node.wal.durable_lsn();
        // A node alone has no gates to look at.
        let look = (self.gated || !turn.marks().is_empty()).then(|| self.node.gates.look());
        let refused = turn.outgoing().take_refused();
        let refused_there = look.as_ref().map(|_| self.outbox.take_refused());
        for (number, tag) in refused.into_iter().chain(refused_there.into_iter().flatten()) {
            let open = self.channels.get_mut(&number);
            if let Some(confirms) = open.and_then(|open| open.confirms.as_mut()) {
                confirms.refuse(tag);
            }
        }
        let pass = |mark| look.as_ref().map_or(Pass::Failed, |look| look.pass(mark));
        let mut waiting = false;
        let mut gated = false;
        let mut first = false;
        let outbox = Arc::clone(&self.outbox);
        let now = std::time::Instant::now();
        for (number, open) in &mut self.channels {
            if ends_batch {
                open.begin_wait(now);
            }
            let Some(confirms) = open.confirms.as_mut() else { continue };
            let unconfirmed = confirms.unconfirmed();
            let mut found = Vec::new();
            if ends_batch {
                confirms.end_batch(position, turn.marks(), durable, pass, |confirm| found.push(confirm));
            } else {
                confirms.durable(durable, pass, |confirm| found.push(confirm));
            }
            waiting |= confirms.is_waiting();
            gated |= confirms.is_marked();
            let confirmed = unconfirmed - confirms.unconfirmed();
            if confirmed > 0 {
                open.confirmed(confirmed, now, &self.node.counters);
            }
            if !found.is_empty() && !open.closing {
                first |= outbox
                    .write(|buf| found.into_iter().for_each(|confirm| write_confirm(buf, *number, confirm)));
            }
        }
        self.confirming = waiting;
        self.gated = gated;
        turn.touch(&self.outbox, first);
    }

    fn heartbeat(&mut self) {
        let received = self.info.counters.received_octets.get();
        // While we do not read, silence is not the client's.
        let silent = received == self.last_received && self.reading;
        self.silent_ticks = if silent { self.silent_ticks + 1 } else { 0 };
        self.last_received = received;
        // Two intervals of silence are four ticks (AMQP 0-9-1 section 4.2.7).
        if self.silent_ticks >= 4 {
            tracing::warn!(connection = &*self.info.name, "missed heartbeats from client");
            self.phase = Phase::Done;
            return;
        }
        if self.outbox.sent() == self.last_sent && self.outbox.write(frame::write_heartbeat) {
            self.outbox.flush();
        }
        self.last_sent = self.outbox.sent();
    }

    /// Tells a publishing client that its publishes are not read now, or that they are again.
    fn tell_blocked(&mut self, reason: Option<&str>) {
        let publishes = self.publishes;
        if !self.blocked_notify || self.phase != Phase::Running || reason.is_some() == self.told_blocked {
            return;
        }
        let first = match reason {
            Some(reason) if publishes => {
                self.outbox.write(|buf| frame::write_fields(buf, 0, &methods::Blocked { reason }))
            }
            Some(_) => return,
            None => self.outbox.write(|buf| frame::write_fields(buf, 0, &methods::Unblocked)),
        };
        self.told_blocked = reason.is_some();
        if first {
            self.outbox.flush();
        }
    }

    /// Appends a method; it goes out at the end of the turn.
    fn send<'m, M: MethodFields<'m>>(&self, turn: &mut Turn<'_>, channel: u16, fields: &M) {
        let first = self.outbox.write(|buf| frame::write_fields(buf, channel, fields));
        turn.touch(&self.outbox, first);
    }

    /// Closes what the exception says.
    fn fail(&mut self, turn: &mut Turn<'_>, channel: u16, exception: &Exception) {
        match exception.scope {
            Scope::Channel if channel != 0 => self.close_channel(turn, channel, exception),
            _ => self.close_connection(turn, exception),
        }
    }

    /// `channel.close` from our side.
    fn close_channel(&mut self, turn: &mut Turn<'_>, channel: u16, exception: &Exception) {
        tracing::warn!(connection = &*self.info.name, channel, error = %exception, "channel error");
        // What was published before the failing method is still confirmed.
        turn.close();
        self.write_confirms(turn, true);
        self.release_channel(turn, channel);
        let Some(open) = self.channels.get_mut(&channel) else { return };
        open.closing = true;
        let reply_text = exception.reply_text();
        let close = channel_methods::Close {
            reply_code: exception.code,
            reply_text: &reply_text,
            class_id: exception.class_id,
            method_id: exception.method_id,
        };
        self.send(turn, channel, &close);
    }

    /// `connection.close` from our side. Everything the connection holds is let go at once.
    fn close_connection(&mut self, turn: &mut Turn<'_>, exception: &Exception) {
        if matches!(self.phase, Phase::Closing | Phase::Done) {
            return;
        }
        if exception.code == amqp::reply_code::CONNECTION_FORCED {
            tracing::info!(connection = &*self.info.name, reason = %exception, "closing connection");
        } else {
            tracing::error!(connection = &*self.info.name, error = %exception, "connection error");
        }
        turn.close();
        self.write_confirms(turn, true);
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.release_channel(turn, number);
        }
        self.forget_channels();
        self.farewell = Some(exception.clone());
        self.enter_closing();
    }

    fn enter_closing(&mut self) {
        self.phase = Phase::Closing;
        self.info.update(|details| details.running = false);
        self.deadline = Some(Instant::now() + CLOSE_TIMEOUT);
    }

    /// Gives back what the connection held: consumers, unsettled messages, exclusive queues.
    async fn clean_up(&mut self) {
        self.release_all();
        self.outbox.flush();
        if !self.outbox.is_blocked() {
            self.stream.say_end();
        }
        self.outbox.close();
        self.forget_channels();
        if self.access.is_some() {
            self.node.counters.churn.connections_closed.add(1);
        }
        self.node.connections.remove(self.info.id);
        self.node.delete_exclusive(self.info.id).await;
        if self.access.is_some() {
            tracing::info!(connection = &*self.info.name, user = %self.info.user(), "closed AMQP connection");
        }
    }

    fn forget_channels(&mut self) {
        let numbers: Vec<u16> = self.channels.drain().map(|(number, _)| number).collect();
        for number in numbers {
            self.node.counters.close_channel(&self.info, number);
        }
    }

    fn release_all(&mut self) {
        let node = Arc::clone(&self.node);
        let mut turn = Turn::new(&node, std::mem::take(&mut self.buffers), node.now_ms());
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.release_channel(&mut turn, number);
        }
        turn.finish();
    }
}
