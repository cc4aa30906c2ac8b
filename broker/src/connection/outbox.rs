//! What waits to be written to one client, and the delivery tags given out on the way.
//!
//! Whoever produces output (the connection's own task, or a shard that delivers) appends under a short
//! lock and, at the end of its turn, flushes: one `writev` for everything that piled up. Only what the
//! socket does not take at once is left to the connection's task. The outbox is the last lock in the order
//! (shard, then outbox): nothing else is locked while it is held.

use super::socket::Socket;
use crate::counters::ChannelInfo;
use crate::firehose::Client;
use crate::forward::consumer::Moved;
use crate::forward::served::FarOutput;
use amqp::frame;
use amqp::table::FieldTable;
use broker_core::channel::deliveries::{Deliveries, Unacked, UnknownTag};
use broker_core::exception::Exception;
use broker_core::ids::QueueId;
use broker_core::message::{Message, MessageView};
use broker_core::queue::consumers::ConsumerRef;
use broker_core::queue::{Delivered, Delivery};
use bytes::Bytes;
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio::sync::Notify;

/// Octets waiting above which consumers of this connection get nothing more.
const HIGH_WATER: usize = 1024 * 1024;
/// Octets waiting below which they are resumed.
const LOW_WATER: usize = 256 * 1024;
/// Octets waiting above which nothing more is read from the client.
const OVERFULL: usize = 4 * HIGH_WATER;
/// Octets waiting above which direct replies to this connection are dropped: no queue holds them back.
const REPLY_LIMIT: usize = 16 * 1024 * 1024;
/// Bodies from this size on are sent from where they lie instead of being copied.
const SHARE_BODY: usize = 16 * 1024;
/// Slices per `writev`.
const MAX_SLICES: usize = 64;
/// Class of message content (AMQP 0-9-1 section 1.8).
const CLASS_BASIC: u16 = 60;

/// Where deliveries go.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// To a connection of this node.
    Here(Arc<Outbox>),
    /// To another node.
    Far(Arc<FarOutput>),
}

/// Where a queue sends deliveries for one consumer.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerHandle {
    /// The consumer's connection, or its node.
    pub(crate) output: Output,
    /// Channel of the consumer.
    pub(crate) channel: u16,
    /// Consumer tag.
    pub(crate) tag: Arc<str>,
    /// Deliveries need no acknowledgement.
    pub(crate) no_ack: bool,
    /// Arguments of `basic.consume`, if there were any.
    pub(crate) arguments: Option<Arc<FieldTable>>,
}

impl ConsumerHandle {
    /// Outbox of the consumer's connection, if that is one of this node.
    pub(crate) fn outbox(&self) -> Option<&Arc<Outbox>> {
        match &self.output {
            Output::Here(outbox) => Some(outbox),
            Output::Far(_) => None,
        }
    }
}

/// Output of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    stream: Arc<Socket>,
    /// Wakes the connection's task: the socket was full, a consumer can be resumed, or the peer is gone.
    pub(crate) notify: Notify,
    blocked: AtomicBool,
    sent: AtomicU64,
    writes: AtomicU64,
    /// Who reads it, known after the login.
    client: OnceLock<Client>,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Chunk>,
    tail: Vec<u8>,
    spare: Vec<u8>,
    bytes: usize,
    /// Octets of the first chunk that are written already.
    offset: usize,
    writing: bool,
    scheduled: bool,
    dead: bool,
    frame_max: u32,
    channels: FxHashMap<u16, ChannelOut>,
    stalled: Vec<(QueueId, ConsumerRef)>,
    requests: Vec<Request>,
    /// Publishes that a queue on another node refused, by channel and number.
    refused: Vec<(u16, u64)>,
    /// The connection's task waits until less waits here.
    wants_room: bool,
}

/// Something the connection's task has to do.
#[derive(Debug)]
pub(crate) enum Request {
    /// Close the connection.
    Close(Exception),
    /// The queue of a consumer is gone.
    ConsumerGone {
        /// Its channel.
        channel: u16,
        /// Its tag.
        tag: Arc<str>,
        /// The queue.
        queue: QueueId,
    },
    /// The queue of a consumer is led elsewhere now.
    Attach(Box<Moved>),
}

#[derive(Debug)]
enum Chunk {
    Encoded(Vec<u8>),
    Body(Bytes),
}

impl Chunk {
    fn as_slice(&self) -> &[u8] {
        match self {
            Chunk::Encoded(bytes) => bytes,
            Chunk::Body(bytes) => bytes,
        }
    }
}

/// The delivering half of a channel.
#[derive(Debug, Default)]
struct ChannelOut {
    deliveries: Deliveries,
    stalled: Vec<(QueueId, ConsumerRef)>,
    replies: Option<ReplyConsumer>,
    info: Arc<ChannelInfo>,
}

/// A consumer of direct replies (RabbitMQ's `amq.rabbitmq.reply-to`).
#[derive(Clone, Debug)]
pub(crate) struct ReplyConsumer {
    /// Consumer tag.
    pub(crate) tag: Arc<str>,
    /// What requesters put into `reply-to` and responders use as the routing key.
    pub(crate) address: Arc<str>,
}

impl Outbox {
    /// An empty outbox in front of a socket.
    pub(crate) fn new(stream: Arc<Socket>) -> Arc<Outbox> {
        let state = State { frame_max: amqp::FRAME_MIN_SIZE, ..State::default() };
        Arc::new(Outbox {
            state: Mutex::new(state),
            stream,
            notify: Notify::new(),
            blocked: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            client: OnceLock::new(),
        })
    }

    /// Sets who reads it.
    pub(crate) fn set_client(&self, client: Client) {
        // A connection logs in once.
        let _ = self.client.set(client);
    }

    /// Who reads it, after the login.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.get()
    }

    /// Sets the negotiated frame size.
    pub(crate) fn set_frame_max(&self, frame_max: u32) {
        self.state.lock().frame_max = frame_max;
    }

    /// Opens the delivering half of a channel.
    pub(crate) fn open_channel(&self, channel: u16, info: Arc<ChannelInfo>) {
        self.state.lock().channels.insert(channel, ChannelOut { info, ..ChannelOut::default() });
    }

    /// Closes the delivering half of a channel and returns what was not settled on it, oldest first. Its
    /// consumers must have left their queues before.
    pub(crate) fn close_channel(&self, channel: u16) -> Vec<(u64, Unacked)> {
        let mut out = Vec::new();
        if let Some(mut closed) = self.state.lock().channels.remove(&channel) {
            closed.deliveries.take_all(&mut out);
        }
        out
    }

    /// Works on the delivery tags of a channel. `None` when it is not open.
    pub(crate) fn deliveries<R>(&self, channel: u16, work: impl FnOnce(&mut Deliveries) -> R) -> Option<R> {
        self.state.lock().channels.get_mut(&channel).map(|out| work(&mut out.deliveries))
    }

    /// Takes what a settlement names, oldest first.
    ///
    /// # Errors
    /// When the tag does not wait for a settlement.
    pub(crate) fn take(
        &self,
        channel: u16,
        tags: &[u64],
        multiple: bool,
        out: &mut Vec<(u64, Unacked)>,
    ) -> Result<(), (usize, UnknownTag)> {
        let mut state = self.state.lock();
        let mut channel = state.channels.get_mut(&channel);
        for (index, &tag) in tags.iter().enumerate() {
            match &mut channel {
                Some(channel) => channel.deliveries.take(tag, multiple, out),
                None => Err(UnknownTag(tag)),
            }
            .map_err(|unknown| (index, unknown))?;
        }
        Ok(())
    }

    /// Consumers that waited for the channel-wide limit, if there is room now.
    pub(crate) fn take_stalled_by_limit(&self, channel: u16) -> Vec<(QueueId, ConsumerRef)> {
        match self.state.lock().channels.get_mut(&channel) {
            Some(out) if !out.stalled.is_empty() && out.deliveries.has_credit() => {
                std::mem::take(&mut out.stalled)
            }
            _ => Vec::new(),
        }
    }

    /// Whether the channel-wide limit leaves room.
    pub(crate) fn has_credit(&self, channel: u16) -> bool {
        self.state.lock().channels.get(&channel).is_some_and(|out| out.deliveries.has_credit())
    }

    /// Consumers that go on waiting for the channel-wide limit, before those that began to wait since.
    pub(crate) fn stall_by_limit(
        &self,
        channel: u16,
        consumers: impl Iterator<Item = (QueueId, ConsumerRef)>,
    ) {
        if let Some(out) = self.state.lock().channels.get_mut(&channel) {
            out.stalled.splice(..0, consumers);
        }
    }

    /// Consumers that waited for the socket, if there is room now.
    pub(crate) fn take_stalled(&self) -> Vec<(QueueId, ConsumerRef)> {
        let mut state = self.state.lock();
        if state.bytes <= LOW_WATER { std::mem::take(&mut state.stalled) } else { Vec::new() }
    }

    /// Asks the connection's task to do something.
    pub(crate) fn request(&self, request: Request) {
        self.state.lock().requests.push(request);
        self.notify.notify_one();
    }

    /// What the connection's task was asked to do.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// A queue on another node refused a publish. The task that writes the confirms looks here when the gate that
    /// it waits for opens.
    pub(crate) fn refuse(&self, channel: u16, tag: u64) {
        self.state.lock().refused.push((channel, tag));
    }

    /// Publishes that queues on other nodes refused, by channel and number.
    pub(crate) fn take_refused(&self) -> Vec<(u16, u64)> {
        std::mem::take(&mut self.state.lock().refused)
    }

    /// Encodes a delivery. The first output of a turn returns `true` in the second place: the caller
    /// flushes at the end of its turn.
    pub(crate) fn deliver(&self, to: &ConsumerHandle, delivery: &Delivery<'_>) -> (Delivered, bool) {
        self.deliver_unless_full(to, delivery, false)
    }

    /// The same for what has to go out before the consumer is gone, whether there is room or not.
    pub(crate) fn deliver_forced(&self, to: &ConsumerHandle, delivery: &Delivery<'_>) -> (Delivered, bool) {
        self.deliver_unless_full(to, delivery, true)
    }

    fn deliver_unless_full(
        &self,
        to: &ConsumerHandle,
        delivery: &Delivery<'_>,
        force: bool,
    ) -> (Delivered, bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.dead {
            return (Delivered::Full, false);
        }
        if state.bytes > HIGH_WATER && !force {
            state.stalled.push((delivery.queue, delivery.consumer));
            return (Delivered::Full, false);
        }
        let Some(channel) = state.channels.get_mut(&to.channel) else { return (Delivered::Full, false) };
        // RabbitMQ: a consumer that needs no acknowledgement waits for the channel-wide limit too, without counting.
        if !channel.deliveries.has_credit() && !force {
            channel.stalled.push((delivery.queue, delivery.consumer));
            return (Delivered::Full, false);
        }
        let tag = if to.no_ack {
            channel.deliveries.tag_no_ack()
        } else {
            let (consumer, life) = (Some(delivery.consumer), delivery.life);
            channel.deliveries.tag(Unacked { queue: delivery.queue, qseq: delivery.qseq, life, consumer })
        };
        let counters = &channel.info.messages;
        if to.no_ack { &counters.deliver_no_ack } else { &counters.deliver }.bump(1);
        if delivery.redelivered {
            counters.redeliver.bump(1);
        }
        let view = &delivery.view;
        let before = state.tail.len();
        frame::write_deliver(
            &mut state.tail,
            to.channel,
            &to.tag,
            tag,
            delivery.redelivered,
            view.exchange,
            view.routing_key,
        );
        state.bytes += state.tail.len() - before;
        state.content(to.channel, view, delivery.shared);
        (Delivered::Sent, state.schedule())
    }

    /// Sets who gets the direct replies of a channel.
    pub(crate) fn set_reply_consumer(&self, channel: u16, consumer: Option<ReplyConsumer>) {
        if let Some(out) = self.state.lock().channels.get_mut(&channel) {
            out.replies = consumer;
        }
    }

    /// Whether a channel waits for direct replies under this address.
    pub(crate) fn expects_reply(&self, channel: u16, address: &str) -> bool {
        let state = self.state.lock();
        let replies = state.channels.get(&channel).and_then(|out| out.replies.as_ref());
        !state.dead && replies.is_some_and(|replies| *replies.address == *address)
    }

    /// Encodes a direct reply. `None` when nobody waits for it here, or when the requester does not read;
    /// otherwise whether the caller has to flush.
    pub(crate) fn deliver_reply(&self, channel: u16, view: &MessageView<'_>) -> Option<bool> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.dead || state.bytes > REPLY_LIMIT {
            return None;
        }
        let out = state.channels.get_mut(&channel)?;
        let replies = out.replies.as_ref().filter(|replies| *replies.address == *view.routing_key)?;
        let tag = out.deliveries.tag_no_ack();
        let before = state.tail.len();
        let (exchange, key) = (view.exchange, view.routing_key);
        frame::write_deliver(&mut state.tail, channel, &replies.tag, tag, false, exchange, key);
        state.bytes += state.tail.len() - before;
        state.content(channel, view, None);
        Some(state.schedule())
    }

    /// Appends output that `encode` writes. Returns whether the caller has to flush.
    pub(crate) fn write(&self, encode: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut state = self.state.lock();
        let before = state.tail.len();
        encode(&mut state.tail);
        state.bytes += state.tail.len() - before;
        state.schedule()
    }

    /// Appends a method that `encode` writes and the content that belongs to it (`basic.return`,
    /// `basic.get-ok`); `encode` gets the channel's delivery tags.
    pub(crate) fn write_content(
        &self,
        channel: u16,
        view: &MessageView<'_>,
        shared: Option<&Arc<Message>>,
        encode: impl FnOnce(&mut Vec<u8>, &mut Deliveries),
    ) -> bool {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(out) = state.channels.get_mut(&channel) else { return false };
        let before = state.tail.len();
        encode(&mut state.tail, &mut out.deliveries);
        state.bytes += state.tail.len() - before;
        state.content(channel, view, shared);
        state.schedule()
    }

    /// Writes what waits, as far as the socket takes it now. Cheap when somebody else is writing already.
    pub(crate) fn flush(&self) {
        loop {
            let mut state = self.state.lock();
            state.scheduled = false;
            let nothing = state.bytes == 0 && !self.stream.has_unsent();
            if state.writing || state.dead || nothing || self.blocked.load(Ordering::Relaxed) {
                return;
            }
            state.writing = true;
            let mut chunks = std::mem::take(&mut state.chunks);
            let mut offset = std::mem::take(&mut state.offset);
            if !state.tail.is_empty() {
                let spare = std::mem::take(&mut state.spare);
                chunks.push_back(Chunk::Encoded(std::mem::replace(&mut state.tail, spare)));
            }
            drop(state);

            let (written, result) = self.write_chunks(&mut chunks, &mut offset);
            self.sent.fetch_add(written as u64, Ordering::Relaxed);
            self.writes.fetch_add(1, Ordering::Relaxed);

            let mut state = self.state.lock();
            state.writing = false;
            state.bytes = state.bytes.saturating_sub(written);
            let wake = match result {
                Ok(()) => {
                    state.recycle(chunks);
                    let resume = !state.stalled.is_empty() && state.bytes <= LOW_WATER;
                    std::mem::take(&mut state.wants_room) || resume
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    chunks.append(&mut state.chunks);
                    state.chunks = chunks;
                    state.offset = offset;
                    self.blocked.store(true, Ordering::Release);
                    true
                }
                Err(_) => {
                    state.dead = true;
                    true
                }
            };
            let more = state.bytes > 0;
            drop(state);
            if wake {
                self.notify.notify_one();
            }
            if !more {
                return;
            }
        }
    }

    /// The socket takes output again: writes what waits.
    pub(crate) fn unblock(&self) {
        self.blocked.store(false, Ordering::Release);
        self.flush();
    }

    /// The socket has something of its own to send: the connection's task waits until it is writable.
    pub(crate) fn block(&self) {
        self.blocked.store(true, Ordering::Release);
    }

    /// Whether the connection's task has to wait until the socket is writable.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Acquire)
    }

    /// Whether writing failed: the peer is gone.
    pub(crate) fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Takes no more output: the connection is over.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.dead = true;
        state.chunks.clear();
        state.tail = Vec::new();
        state.bytes = 0;
    }

    /// Whether so much waits that the client has to read before it is served any further. Deliveries stop
    /// earlier, so this is what the client asked for itself.
    pub(crate) fn is_overfull(&self) -> bool {
        self.state.lock().bytes > OVERFULL
    }

    /// The same; if so, the connection's task is woken when there is room again.
    pub(crate) fn wait_for_room(&self) -> bool {
        let mut state = self.state.lock();
        state.wants_room = state.bytes > OVERFULL;
        state.wants_room
    }

    /// Octets written since the connection began.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Writes to the socket since the connection began.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Octets that wait to be written.
    pub(crate) fn pending(&self) -> usize {
        self.state.lock().bytes
    }

    /// Deliveries of a channel that are not settled.
    pub(crate) fn unacked(&self, channel: u16) -> usize {
        self.deliveries(channel, |deliveries| deliveries.unacked_count()).unwrap_or(0)
    }

    /// A channel whose oldest delivery waits longer for its settlement than `timeout` milliseconds.
    pub(crate) fn overdue(&self, now: u64, timeout: u64) -> Option<u16> {
        let mut state = self.state.lock();
        let mut channels = state.channels.iter_mut();
        channels.find_map(|(number, out)| out.deliveries.overdue(now, timeout).then_some(*number))
    }

    /// Writes until everything is out or the socket is full. What is not written stays in `chunks`; what went
    /// out whole stays too when nothing is left over, so that the buffers can be reused.
    fn write_chunks(&self, chunks: &mut VecDeque<Chunk>, offset: &mut usize) -> (usize, io::Result<()>) {
        let mut first = 0;
        let mut written = 0;
        while first < chunks.len() {
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let mut count = 0;
            let mut skip = *offset;
            for (slot, chunk) in slices.iter_mut().zip(chunks.range(first..)) {
                *slot = IoSlice::new(&chunk.as_slice()[skip..]);
                skip = 0;
                count += 1;
            }
            let mut taken = match self.stream.try_write_vectored(&slices[..count]) {
                Ok(taken) => taken,
                Err(error) => {
                    chunks.drain(..first);
                    return (written, Err(error));
                }
            };
            written += taken;
            taken += *offset;
            while first < chunks.len() && taken >= chunks[first].as_slice().len() {
                taken -= chunks[first].as_slice().len();
                first += 1;
            }
            *offset = taken;
        }
        let sent = self.stream.flush();
        if sent.is_err() {
            chunks.clear();
        }
        (written, sent)
    }
}

impl State {
    fn schedule(&mut self) -> bool {
        !std::mem::replace(&mut self.scheduled, true)
    }

    /// Content header and body frames (AMQP 0-9-1 section 4.2.6).
    fn content(&mut self, channel: u16, view: &MessageView<'_>, shared: Option<&Arc<Message>>) {
        let before = self.tail.len();
        let body = view.body;
        frame::write_content_header(&mut self.tail, channel, CLASS_BASIC, body.len() as u64, view.properties);
        match shared {
            Some(message) if body.len() >= SHARE_BODY => {
                self.bytes += self.tail.len() - before;
                let limit = self.frame_max.saturating_sub(frame::FRAME_OVERHEAD) as usize;
                let mut rest = message.body();
                while !rest.is_empty() {
                    let piece = rest.split_to(rest.len().min(limit));
                    self.tail.extend_from_slice(&frame::body_frame_header(channel, piece.len()));
                    let encoded = std::mem::take(&mut self.tail);
                    self.bytes += frame::HEADER_SIZE + piece.len() + 1;
                    self.chunks.push_back(Chunk::Encoded(encoded));
                    self.chunks.push_back(Chunk::Body(piece));
                    self.tail.push(amqp::FRAME_END);
                }
            }
            _ => {
                frame::write_body(&mut self.tail, channel, body, self.frame_max);
                self.bytes += self.tail.len() - before;
            }
        }
    }

    /// Keeps one written buffer for the next turn, unless a burst made it large.
    fn recycle(&mut self, chunks: VecDeque<Chunk>) {
        for chunk in chunks {
            if let Chunk::Encoded(mut bytes) = chunk
                && bytes.capacity() <= HIGH_WATER
                && bytes.capacity() > self.spare.capacity()
            {
                bytes.clear();
                self.spare = bytes;
            }
        }
    }
}
