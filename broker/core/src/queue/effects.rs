//! What a queue asks of its surroundings, and what it hands out.

use super::consumers::ConsumerRef;
use super::dead_letter::DeadLetter;
use super::delayed::Due;
use super::paged::{PageOut, Window, WindowRead};
use crate::channel::deliveries::Life;
use crate::ids::QueueId;
use crate::message::{Message, MessageView};
use crate::record::Record;
use std::sync::Arc;

/// What a queue asks of its surroundings. Calls happen in the order in which they must take effect.
pub trait Effects {
    /// Where deliveries for one consumer go; opaque to the queue.
    type Handle;

    /// Appends to the log. A message is logged before it is delivered or counted as ready.
    fn log(&mut self, record: &Record<'_>);

    /// Hands a message to a consumer, or refuses because that consumer cannot take more now.
    fn deliver(&mut self, to: &Self::Handle, delivery: &Delivery<'_>) -> Delivered;

    /// A message left the queue for its dead letter exchange.
    fn dead_letter(&mut self, letter: DeadLetter);

    /// A delayed message is due: it has to be routed.
    fn due(&mut self, due: Due);

    /// Call [`super::Queue::tick`] at this time (milliseconds since the epoch).
    fn wake_at(&mut self, queue: QueueId, at_ms: u64);

    /// The queue wants to be deleted: its last consumer left (auto-delete) or it expired unused.
    fn unused(&mut self, queue: QueueId);

    /// A message joined a backlog although the queue has consumers: `slowest` can not take more now, and these
    /// octets are its share of the message. Whoever publishes may want to wait for a moment.
    fn backlog(&mut self, slowest: &Self::Handle, octets: usize);

    /// Write these messages into a segment file; [`super::Queue::paged_out`] or
    /// [`super::Queue::page_out_failed`] is called when that is done.
    fn page_out(&mut self, page_out: PageOut);

    /// More lies in memory than should: whoever publishes should wait for a moment.
    fn crowded(&mut self, queue: QueueId, crowd: Crowd);

    /// Read these messages from a segment file; [`super::Queue::arrived`] or [`super::Queue::read_failed`] is
    /// called when that is done.
    fn read_ahead(&mut self, window: Window);

    /// Reads these messages now: somebody waits for an answer. `None` when they can not be read.
    fn read_now(&mut self, window: &Window) -> Option<WindowRead>;

    /// A segment file is not needed any more, once everything logged so far is durable.
    fn remove_segment(&mut self, queue: QueueId, first_qseq: u64, durable: bool);

    /// Whether another node may lead by now what this one led last: it may have handed out what is here. Asked for queues
    /// with copies only.
    fn may_be_deposed(&self) -> bool {
        false
    }

    /// Log position below which everything appended so far lies; kept with each durable message so that old
    /// log files can be emptied.
    fn log_floor(&self) -> u64;
}

/// Why publishers should wait, and for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crowd {
    /// The consumers are about to empty the queue: until little of it is left, or they do not get on.
    Consumed,
    /// Segments are written more slowly than messages come: until no more than [`super::PAGE_BEHIND`] are in memory.
    Paged,
}

/// One message on its way to one consumer.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// Queue it comes from.
    pub queue: QueueId,
    /// Its place there; the consumer's acknowledgement comes back with it.
    pub qseq: u64,
    /// The consumer.
    pub consumer: ConsumerRef,
    /// The life of the queue in which it was sent.
    pub life: Life,
    /// Whether a consumer may have seen it before.
    pub redelivered: bool,
    /// The message.
    pub view: MessageView<'a>,
    /// The shared message, when it has been copied out already: lets large bodies go out uncopied.
    pub shared: Option<&'a Arc<Message>>,
}

/// Answer to [`Effects::deliver`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivered {
    /// It is in the consumer's outbox.
    Sent,
    /// The consumer can take no more now; [`super::Queue::resume`] is called when it can.
    Full,
}

/// What [`super::Queue::get`] took.
#[derive(Debug)]
pub struct Got {
    /// Its place in the queue.
    pub qseq: u64,
    /// Whether somebody may have seen it before.
    pub redelivered: bool,
    /// The message.
    pub message: Arc<Message>,
    /// Ready messages left (`message-count` of `basic.get-ok`).
    pub remaining: u64,
}
