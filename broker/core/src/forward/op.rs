//! Operations: what an origin asks of a leader.

use super::codec::{FarTarget, List, Malformed, Reader, number_targets, put_content, put_long, put_short};
use crate::ids::QueueId;
use crate::message::MessageView;
use crate::queue::Settle;

/// A message for queues of one leader.
#[derive(Clone, Copy, Debug)]
pub struct FarPublish<'a> {
    /// Delivery mode 2.
    pub persistent: bool,
    /// The `expiration` property in milliseconds.
    pub expiration_ms: Option<u64>,
    /// The `priority` property.
    pub priority: u8,
    /// A leader before may have handed it out, and nobody knows that it did.
    pub seen: bool,
    /// The queues.
    pub targets: List<'a, FarTarget>,
    /// The message.
    pub view: MessageView<'a>,
}

/// Deliveries that a client settled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FarSettle<'a> {
    /// The queue.
    pub queue: QueueId,
    /// The epoch in which the origin knows it.
    pub epoch: u32,
    /// How.
    pub how: Settle,
    /// Places in the queue.
    pub positions: List<'a, u64>,
}

/// Credit for a consumer, counted from its beginning: what has been sent may reach this.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Credit {
    /// Messages.
    pub messages: u64,
    /// Octets; the message that begins below it is sent whole.
    pub octets: u64,
}

/// A consumer, as its origin describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FarConsume<'a> {
    /// Which request this is.
    pub request: u64,
    /// The consumer's number at the origin.
    pub consumer: u64,
    /// The queue.
    pub queue: QueueId,
    /// The epoch in which the origin knows it.
    pub epoch: u32,
    /// Consumer tag.
    pub tag: &'a str,
    /// Channel at the origin.
    pub channel: u16,
    /// Name of the client's connection, for listings.
    pub connection: &'a str,
    /// Its user, for listings.
    pub user: &'a str,
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Deliveries it may hold unacknowledged; 0 is no limit.
    pub prefetch: u32,
    /// `x-priority`.
    pub priority: i32,
    /// Its arguments, as on the wire.
    pub arguments: &'a [u8],
    /// What it may be sent to begin with.
    pub credit: Credit,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Begins a session.
    Hello {
        /// The origin and which start of it: [`crate::queue::origins::life`].
        life: u64,
    },
    /// A message.
    Publish(FarPublish<'a>),
    /// Deliveries were settled.
    Settle(FarSettle<'a>),
    /// A consumer comes.
    Consume(FarConsume<'a>),
    /// A consumer leaves; answered after its last delivery.
    Cancel {
        /// Which request this is.
        request: u64,
        /// The consumer.
        consumer: u64,
    },
    /// A consumer leaves because its channel closed: what the channel holds comes back before the others get
    /// anything.
    Withdraw {
        /// The consumer.
        consumer: u64,
    },
    /// The channel that closed has given everything back.
    Drain {
        /// The queue.
        queue: QueueId,
    },
    /// A consumer may be sent more.
    Credit {
        /// The consumer.
        consumer: u64,
        /// How much, all in all.
        credit: Credit,
    },
    /// So many octets of deliveries have arrived in this session.
    Received {
        /// All in all.
        octets: u64,
    },
    /// `basic.get`.
    Get {
        /// Which request this is.
        request: u64,
        /// The queue.
        queue: QueueId,
        /// The epoch in which the origin knows it.
        epoch: u32,
        /// It needs no acknowledgement.
        no_ack: bool,
    },
    /// `queue.purge`.
    Purge {
        /// Which request this is.
        request: u64,
        /// The queue.
        queue: QueueId,
        /// The epoch in which the origin knows it.
        epoch: u32,
    },
    /// How many messages and consumers a queue has.
    Count {
        /// Which request this is.
        request: u64,
        /// The queue.
        queue: QueueId,
        /// The epoch in which the origin knows it.
        epoch: u32,
        /// It counts as a use of the queue, as a declare does.
        touch: bool,
    },
    /// A direct reply to a requester of the receiving node.
    Reply {
        /// The message; its routing key is the requester's address.
        view: MessageView<'a>,
    },
    /// Whether somebody waits for direct replies there.
    Expects {
        /// Which request this is.
        request: u64,
        /// The address.
        address: &'a str,
    },
    /// Publishes and settlements of a transaction: all of them or none. Counts as one publish.
    Commit {
        /// [`Op::Publish`] and [`Op::Settle`], one behind the other.
        ops: Ops<'a>,
    },
}

const HELLO: u8 = 0;
const PUBLISH: u8 = 1;
const SETTLE: u8 = 2;
const CONSUME: u8 = 3;
const CANCEL: u8 = 4;
const WITHDRAW: u8 = 5;
const DRAIN: u8 = 6;
const CREDIT: u8 = 7;
const RECEIVED: u8 = 8;
const GET: u8 = 9;
const PURGE: u8 = 10;
const COUNT: u8 = 11;
const REPLY: u8 = 12;
const EXPECTS: u8 = 13;
const COMMIT: u8 = 14;

const PERSISTENT: u8 = 1;
const EXPIRES: u8 = 2;
const SEEN: u8 = 4;

const NO_ACK: u8 = 1;
const EXCLUSIVE: u8 = 2;

impl<'a> Op<'a> {
    /// Appends the operation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Op::Hello { life } => numbers(out, HELLO, &[*life]),
            Op::Publish(publish) => {
                out.push(PUBLISH);
                publish.put(out);
            }
            Op::Settle(settle) => {
                out.push(SETTLE);
                settle.put(out);
            }
            Op::Consume(consume) => {
                out.push(CONSUME);
                consume.put(out);
            }
            Op::Cancel { request, consumer } => numbers(out, CANCEL, &[*request, *consumer]),
            Op::Withdraw { consumer } => numbers(out, WITHDRAW, &[*consumer]),
            Op::Drain { queue } => numbers(out, DRAIN, &[queue.0]),
            Op::Credit { consumer, credit } => {
                numbers(out, CREDIT, &[*consumer, credit.messages, credit.octets]);
            }
            Op::Received { octets } => numbers(out, RECEIVED, &[*octets]),
            Op::Get { request, queue, epoch, no_ack } => {
                at_queue(out, GET, *request, *queue, *epoch);
                out.push(u8::from(*no_ack));
            }
            Op::Purge { request, queue, epoch } => at_queue(out, PURGE, *request, *queue, *epoch),
            Op::Count { request, queue, epoch, touch } => {
                at_queue(out, COUNT, *request, *queue, *epoch);
                out.push(u8::from(*touch));
            }
            Op::Reply { view } => {
                out.push(REPLY);
                put_content(out, view);
            }
            Op::Expects { request, address } => {
                numbers(out, EXPECTS, &[*request]);
                put_short(out, address);
            }
            Op::Commit { ops } => {
                out.push(COMMIT);
                put_long(out, ops.0);
            }
        }
    }

    /// Takes one operation off the front.
    fn decode(reader: &mut Reader<'a>) -> Result<Op<'a>, Malformed> {
        Ok(match reader.u8()? {
            HELLO => Op::Hello { life: reader.u64()? },
            PUBLISH => Op::Publish(FarPublish::get(reader)?),
            SETTLE => Op::Settle(FarSettle::get(reader)?),
            CONSUME => Op::Consume(FarConsume::get(reader)?),
            CANCEL => Op::Cancel { request: reader.u64()?, consumer: reader.u64()? },
            WITHDRAW => Op::Withdraw { consumer: reader.u64()? },
            DRAIN => Op::Drain { queue: QueueId(reader.u64()?) },
            CREDIT => Op::Credit {
                consumer: reader.u64()?,
                credit: Credit { messages: reader.u64()?, octets: reader.u64()? },
            },
            RECEIVED => Op::Received { octets: reader.u64()? },
            GET => Op::Get {
                request: reader.u64()?,
                queue: QueueId(reader.u64()?),
                epoch: reader.u32()?,
                no_ack: reader.bool()?,
            },
            PURGE => {
                Op::Purge { request: reader.u64()?, queue: QueueId(reader.u64()?), epoch: reader.u32()? }
            }
            COUNT => Op::Count {
                request: reader.u64()?,
                queue: QueueId(reader.u64()?),
                epoch: reader.u32()?,
                touch: reader.bool()?,
            },
            REPLY => Op::Reply { view: reader.content()? },
            EXPECTS => Op::Expects { request: reader.u64()?, address: reader.short()? },
            COMMIT => Op::Commit { ops: Ops(reader.long()?) },
            _ => return Err(Malformed),
        })
    }
}

/// Operations one behind the other. After something malformed there is nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Ops<'a>(pub &'a [u8]);

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut reader = Reader(self.0);
        let op = Op::decode(&mut reader);
        self.0 = if op.is_ok() { reader.0 } else { &[] };
        Some(op)
    }
}

fn numbers(out: &mut Vec<u8>, code: u8, values: &[u64]) {
    out.push(code);
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

fn at_queue(out: &mut Vec<u8>, code: u8, request: u64, queue: QueueId, epoch: u32) {
    numbers(out, code, &[request, queue.0]);
    out.extend_from_slice(&epoch.to_le_bytes());
}

impl<'a> FarPublish<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        // In front, where numbers are filled in when it is sent.
        self.targets.put(out);
        let expires = if self.expiration_ms.is_some() { EXPIRES } else { 0 };
        out.push((u8::from(self.persistent) * PERSISTENT) | (u8::from(self.seen) * SEEN) | expires);
        if let Some(expiration) = self.expiration_ms {
            out.extend_from_slice(&expiration.to_le_bytes());
        }
        out.push(self.priority);
        put_content(out, &self.view);
    }

    /// Numbers the targets of an encoded [`Op::Publish`] that have no number yet.
    ///
    /// # Errors
    /// When it is none.
    pub fn number(op: &mut [u8], next: impl FnMut(QueueId) -> u64) -> Result<(), Malformed> {
        match op {
            [PUBLISH, list @ ..] => number_targets(list, next),
            _ => Err(Malformed),
        }
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let targets = reader.list()?;
        let flags = reader.u8()?;
        if flags > PERSISTENT | EXPIRES | SEEN {
            return Err(Malformed);
        }
        Ok(FarPublish {
            persistent: flags & PERSISTENT != 0,
            expiration_ms: if flags & EXPIRES != 0 { Some(reader.u64()?) } else { None },
            priority: reader.u8()?,
            seen: flags & SEEN != 0,
            targets,
            view: reader.content()?,
        })
    }
}

impl<'a> FarSettle<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.push(match self.how {
            Settle::Ack => 0,
            Settle::Requeue => 1,
            Settle::Release => 2,
            Settle::Discard => 3,
        });
        self.positions.put(out);
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(FarSettle {
            queue: QueueId(reader.u64()?),
            epoch: reader.u32()?,
            how: match reader.u8()? {
                0 => Settle::Ack,
                1 => Settle::Requeue,
                2 => Settle::Release,
                3 => Settle::Discard,
                _ => return Err(Malformed),
            },
            positions: reader.list()?,
        })
    }
}

impl<'a> FarConsume<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        for number in [self.request, self.consumer, self.queue.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.epoch.to_le_bytes());
        put_short(out, self.tag);
        out.extend_from_slice(&self.channel.to_le_bytes());
        put_short(out, self.connection);
        put_short(out, self.user);
        out.push((u8::from(self.no_ack) * NO_ACK) | (u8::from(self.exclusive) * EXCLUSIVE));
        out.extend_from_slice(&self.prefetch.to_le_bytes());
        out.extend_from_slice(&self.priority.to_le_bytes());
        put_long(out, self.arguments);
        out.extend_from_slice(&self.credit.messages.to_le_bytes());
        out.extend_from_slice(&self.credit.octets.to_le_bytes());
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (request, consumer, queue) = (reader.u64()?, reader.u64()?, QueueId(reader.u64()?));
        let (epoch, tag, channel) = (reader.u32()?, reader.short()?, reader.u16()?);
        let (connection, user, flags) = (reader.short()?, reader.short()?, reader.u8()?);
        if flags > NO_ACK | EXCLUSIVE {
            return Err(Malformed);
        }
        Ok(FarConsume {
            request,
            consumer,
            queue,
            epoch,
            tag,
            channel,
            connection,
            user,
            no_ack: flags & NO_ACK != 0,
            exclusive: flags & EXCLUSIVE != 0,
            prefetch: reader.u32()?,
            priority: reader.u32()? as i32,
            arguments: reader.long()?,
            credit: Credit { messages: reader.u64()?, octets: reader.u64()? },
        })
    }
}
