//! One connection after its greeting: reads it, knows its calls, and notices when nobody is there any more.

use super::handshake::shown;
use super::outbox::{NotTaken, Outbox, STREAMS};
use super::stream::{Reader, Stream, Writer};
use super::{Caller, Counters, Handler, Inner, Kind, Lane, LinkError, LinkSettings, Session, Who};
use broker_core::ids::NodeId;
use broker_core::link::assemble::{Assembler, Limits};
use broker_core::link::frame::{self, FrameError, Head, Item, Step};
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Octets that a read buffer has room for at least.
const ROOM: usize = 64 << 10;
/// Below this, more room is made before reading.
const LITTLE_ROOM: usize = 16 << 10;
/// Calls on one connection that wait for their answers.
const CALLS: usize = 8192;
/// Calls of one connection that are being answered.
const SERVED: usize = 4096;
/// Octets that a node that is no member may send at once.
const ASKED: u64 = 256 << 10;

/// Which side of the connection this is.
#[derive(Clone, Debug)]
pub(super) enum Side {
    /// We dialed: frames go out, answers come in.
    Dialer,
    /// A member dialed.
    Member(NodeId),
    /// Somebody dialed who may ask about membership, and no more.
    Stranger,
}

/// A connection.
pub(super) struct Connection {
    pub(super) session: Session,
    pub(super) who: Who,
    side: Side,
    limit: usize,
    outbox: Outbox,
    counters: Arc<Counters>,
    calls: Mutex<Calls>,
    served: Mutex<FxHashMap<u32, AbortHandle>>,
    /// Why it is to end.
    ended: watch::Sender<Option<String>>,
    /// Something was read since the last look.
    heard: AtomicBool,
    /// What was read is being worked on.
    busy: AtomicBool,
    began: Instant,
}

#[derive(Default)]
struct Calls {
    next: u32,
    waiting: FxHashMap<u32, oneshot::Sender<Result<Bytes, LinkError>>>,
    over: bool,
}

impl Connection {
    pub(super) fn new(
        side: Side,
        lane: Lane,
        who: Who,
        session: Session,
        settings: &LinkSettings,
        counters: Arc<Counters>,
    ) -> Connection {
        Connection {
            session,
            who,
            side,
            limit: settings.payload_limit(lane),
            outbox: Outbox::new(settings.waiting_limit(lane), Arc::clone(&counters)),
            counters,
            calls: Mutex::default(),
            served: Mutex::default(),
            ended: watch::Sender::new(None),
            heard: AtomicBool::new(true),
            busy: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    /// Ends it, from outside.
    pub(super) fn end(&self, why: &str) {
        self.ended.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                *now = Some(why.to_owned());
            }
            first
        });
        self.outbox.close();
    }

    /// Whether it was ended.
    pub(super) fn is_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    fn down(&self) -> LinkError {
        let why = self.ended.borrow().clone().unwrap_or_else(|| "it has just ended".to_owned());
        LinkError::Down { name: self.who.name.clone(), why }
    }

    fn put(&self, head: Head, payload: Bytes) -> Result<(), LinkError> {
        if payload.len() > self.limit {
            return Err(LinkError::TooLong(payload.len(), self.limit));
        }
        self.outbox.push(head, payload).map_err(|error| match error {
            NotTaken::Full => LinkError::Full(self.who.name.clone()),
            NotTaken::Closed => self.down(),
        })
    }

    /// Sends a frame.
    pub(super) fn send(&self, kind: Kind, payload: Bytes) -> Result<(), LinkError> {
        self.put(Head::Frame { kind }, payload)
    }

    /// Asks, and waits for the answer.
    pub(super) async fn call(
        &self,
        kind: Kind,
        payload: Bytes,
        patience: Duration,
    ) -> Result<Bytes, LinkError> {
        let (asked, answer) = self.ask()?;
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        self.put(Head::Call { kind, number: asked.number, patience_ms }, payload)?;
        match timeout(patience, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.down()),
            Err(_) => Err(LinkError::Late { name: self.who.name.clone(), after: patience }),
        }
    }

    fn ask(&self) -> Result<(Asked<'_>, oneshot::Receiver<Result<Bytes, LinkError>>), LinkError> {
        let mut calls = self.calls.lock();
        if calls.over {
            return Err(self.down());
        }
        if calls.waiting.len() >= CALLS {
            return Err(LinkError::Full(self.who.name.clone()));
        }
        let mut number = calls.next;
        while calls.waiting.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        calls.next = number.wrapping_add(1);
        let (tell, answer) = oneshot::channel();
        calls.waiting.insert(number, tell);
        Ok((Asked { connection: self, number }, answer))
    }

    fn answered(&self, number: u32, answer: Result<Bytes, LinkError>) {
        // Nobody may wait any more.
        let waiting = self.calls.lock().waiting.remove(&number);
        if let Some(waiting) = waiting {
            let _ = waiting.send(answer);
        }
    }

    /// Reads and writes until it ends. Returns why it ended.
    pub(super) async fn run(self: &Arc<Self>, inner: &Arc<Inner>, stream: Stream) -> String {
        let (reader, writer) = stream.split();
        let mut ended = self.ended.subscribe();
        let mut writing = Owned(tokio::spawn(Arc::clone(self).write(writer, inner.settings.clone())));
        let mut reading = Reading::new(Arc::clone(self), Arc::clone(inner));
        let _over = Over(self);
        let why = tokio::select! {
            why = reading.run(reader) => why,
            why = &mut writing.0 => why.unwrap_or_else(|error| error.to_string()),
            why = told_to_end(&mut ended) => why,
        };
        drop(writing);
        self.end(&why);
        why
    }

    /// Ends everything that depends on it.
    fn is_over(&self) {
        let waiting = {
            let mut calls = self.calls.lock();
            calls.over = true;
            std::mem::take(&mut calls.waiting)
        };
        waiting.into_values().for_each(|waiting| drop(waiting.send(Err(self.down()))));
        self.served.lock().drain().for_each(|(_, task)| task.abort());
        self.counters.waiting.store(0, Ordering::Relaxed);
    }

    /// Sends, and says all the time that we are there. Returns why it ended.
    async fn write(self: Arc<Self>, writer: Writer, settings: LinkSettings) -> String {
        tokio::select! {
            error = self.outbox.send_all(writer) => in_words(&error),
            why = self.watch(&settings) => why,
        }
    }

    /// Pings, and counts how long nothing was heard. Time in which this process did not run does not count, nor does
    /// time in which our own handlers did not let the connection be read.
    async fn watch(&self, settings: &LinkSettings) -> String {
        const LOOKS: u32 = 8;
        let mut looks = interval(settings.silence / LOOKS);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent = 0;
        let mut pinged: Option<Instant> = None;
        loop {
            looks.tick().await;
            // The first tick comes at once: there is nothing to count yet.
            silent = match self.heard.swap(false, Ordering::Relaxed) || self.busy.load(Ordering::Relaxed) {
                true => 0,
                false => silent + 1,
            };
            if silent >= LOOKS {
                let silence = humantime::format_duration(settings.silence);
                return format!("no sign of life for {silence}");
            }
            if pinged.is_none_or(|pinged| pinged.elapsed() >= settings.ping) {
                pinged = Some(Instant::now());
                self.outbox.push_item(Item::Ping { token: self.now_us() });
            }
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn heard_pong(&self, token: u64) {
        if let Some(took) = self.now_us().checked_sub(token) {
            let took = u32::try_from(took).unwrap_or(u32::MAX);
            self.counters.round_trip_us.store(took, Ordering::Relaxed);
        }
    }
}

/// A call that somebody waits for. Dropping it says that nobody does any more.
struct Asked<'a> {
    connection: &'a Connection,
    number: u32,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.connection.calls.lock().waiting.remove(&self.number).is_some() {
            self.connection.outbox.cancel(self.number);
        }
    }
}

/// Ends what depends on a connection with the task that reads it, also when that task is dropped.
struct Over<'a>(&'a Connection);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.end("the task that reads it has ended");
        self.0.is_over();
    }
}

/// A task that ends with its owner.
pub(super) struct Owned<T>(pub(super) tokio::task::JoinHandle<T>);

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The side that reads.
struct Reading {
    connection: Arc<Connection>,
    inner: Arc<Inner>,
    assembler: Assembler,
    /// Of the frames of this read.
    handler: Option<(Kind, Arc<dyn Handler>)>,
}

impl Reading {
    fn new(connection: Arc<Connection>, inner: Arc<Inner>) -> Reading {
        let payload = connection.limit as u64;
        let limits = match connection.side {
            Side::Stranger => Limits { payload: ASKED, streams: 0, sum: 0 },
            _ => Limits { payload, streams: STREAMS, sum: payload.saturating_mul(2) },
        };
        Reading { connection, inner, assembler: Assembler::new(limits), handler: None }
    }

    async fn run(&mut self, mut reader: Reader) -> String {
        let mut buffer = BytesMut::with_capacity(ROOM);
        let mut needed = 0;
        loop {
            let room = needed.max(LITTLE_ROOM);
            if buffer.capacity() - buffer.len() < room {
                buffer.reserve(room.max(ROOM));
            }
            let count = match reader.read_buf(&mut buffer).await {
                Ok(0) => return "the other side closed the connection".to_owned(),
                Ok(count) => count,
                Err(error) => return in_words(&error),
            };
            self.connection.heard.store(true, Ordering::Relaxed);
            self.connection.counters.received.fetch_add(count as u64, Ordering::Relaxed);
            self.connection.busy.store(true, Ordering::Relaxed);
            let outcome = self.frames(&mut buffer);
            self.connection.busy.store(false, Ordering::Relaxed);
            // Handlers may be replaced between two reads.
            self.handler = None;
            match outcome {
                Ok(more) => needed = more,
                Err(why) => return why,
            }
        }
    }

    /// Takes all whole frames of the buffer. Returns how many octets the next one lacks.
    fn frames(&mut self, buffer: &mut BytesMut) -> Result<usize, String> {
        loop {
            match frame::decode(buffer).map_err(|error| broken(&error))? {
                Step::Need(octets) => return Ok(octets - buffer.len()),
                Step::Item(item, payload) => {
                    let mut whole = buffer.split_to(payload.end).freeze();
                    whole.advance(payload.start);
                    self.item(item, whole)?;
                }
            }
        }
    }

    fn item(&mut self, item: Item, payload: Bytes) -> Result<(), String> {
        let complete = match item {
            Item::Whole(head) => {
                self.assembler.check(payload.len() as u64).map_err(|error| broken(&error))?;
                Some((head, payload))
            }
            Item::Begin { stream, total, head } => {
                self.assembler.begin(stream, total, head, &payload).map_err(|error| broken(&error))?;
                None
            }
            Item::More { stream } => self.assembler.more(stream, &payload).map_err(|error| broken(&error))?,
            Item::Abandon { stream } => {
                self.assembler.abandon(stream).map_err(|error| broken(&error))?;
                None
            }
            Item::Cancel { number } => {
                if let Some(task) = self.connection.served.lock().remove(&number) {
                    task.abort();
                }
                None
            }
            Item::Ping { token } => {
                self.connection.outbox.push_item(Item::Pong { token });
                None
            }
            Item::Pong { token } => {
                self.connection.heard_pong(token);
                None
            }
        };
        complete.map_or(Ok(()), |(head, payload)| self.payload(head, payload))
    }

    fn payload(&mut self, head: Head, payload: Bytes) -> Result<(), String> {
        let connection = &self.connection;
        match (head, &connection.side) {
            (Head::Frame { kind }, Side::Member(from)) => {
                let (from, session) = (*from, connection.session);
                self.handler(kind)?.on_frame(from, session, payload);
            }
            (Head::Call { kind, number, patience_ms }, Side::Member(_)) => {
                self.serve(kind, number, patience_ms, true, payload)?;
            }
            (Head::Call { kind: Kind::Member, number, patience_ms }, Side::Stranger) => {
                let member = self.inner.is_member(&connection.who);
                self.serve(Kind::Member, number, patience_ms, member, payload)?;
            }
            (Head::Call { .. } | Head::Frame { .. }, Side::Stranger) => {
                return Err(format!(
                    "{} is no member, and sent what only members may send",
                    connection.who.name
                ));
            }
            (Head::Answer { number }, Side::Dialer) => connection.answered(number, Ok(payload)),
            (Head::Failed { number }, Side::Dialer) => {
                let text = shown(&String::from_utf8_lossy(&payload));
                connection.answered(number, Err(LinkError::Answer(text)));
            }
            (head, _) => return Err(format!("a frame that does not belong on this side: {head:?}")),
        }
        Ok(())
    }

    fn handler(&mut self, kind: Kind) -> Result<&Arc<dyn Handler>, String> {
        if self.handler.as_ref().is_none_or(|(known, _)| *known != kind) {
            let handler =
                self.inner.handler(kind).ok_or_else(|| format!("nobody takes {kind:?} here yet"))?;
            self.handler = Some((kind, handler));
        }
        match &self.handler {
            Some((_, handler)) => Ok(handler),
            None => Err(format!("nobody takes {kind:?} here yet")),
        }
    }

    fn serve(
        &mut self,
        kind: Kind,
        number: u32,
        patience_ms: u32,
        member: bool,
        payload: Bytes,
    ) -> Result<(), String> {
        let connection = Arc::clone(&self.connection);
        let refuse = |text: &'static str| {
            // One that is full of answers gets no more, and the caller loses patience.
            let _ = connection.outbox.push(Head::Failed { number }, Bytes::from_static(text.as_bytes()));
            Ok(())
        };
        let Some(handler) = self.inner.handler(kind) else { return refuse("nobody answers this here yet") };
        let mut served = self.connection.served.lock();
        if served.len() >= SERVED {
            return refuse("too many calls at once");
        }
        if served.contains_key(&number) {
            return Err(format!("two calls with the number {number}"));
        }
        let caller = Caller { who: connection.who.clone(), member };
        let answer = handler.on_call(caller, payload);
        let connection = Arc::clone(&self.connection);
        let patience = Duration::from_millis(u64::from(patience_ms));
        // The lock is held until the task is known, which it needs to say that it is done.
        let task = tokio::spawn(async move {
            if let Ok(answer) = timeout(patience, answer).await {
                let (head, payload) = match answer {
                    Ok(payload) if payload.len() <= connection.limit => (Head::Answer { number }, payload),
                    Ok(_) => (Head::Failed { number }, Bytes::from_static(b"the answer is too long")),
                    Err(text) => (Head::Failed { number }, shown(&text).into()),
                };
                // The caller has gone if not.
                let _ = connection.outbox.push_when_room(head, payload).await;
            }
            connection.served.lock().remove(&number);
        });
        served.insert(number, task.abort_handle());
        Ok(())
    }
}

async fn told_to_end(ended: &mut watch::Receiver<Option<String>>) -> String {
    let why = ended.wait_for(Option::is_some).await;
    why.ok().and_then(|why| why.clone()).unwrap_or_default()
}

fn broken(error: &FrameError) -> String {
    format!("the other side does not keep to the protocol: {error}")
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the other side closed the connection".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the other side is gone: connection reset".to_owned()
        }
        _ => error.to_string(),
    }
}
