//! Answers: what a leader tells an origin.

use super::codec::{Malformed, Reader, put_content, put_short};
use crate::ids::QueueId;
use crate::message::MessageView;

/// Why a request was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The queue is not led here in the epoch that the origin knows: one of the two has to catch up.
    WrongEpoch,
    /// The queue does not exist any more, or is about to go.
    Gone,
    /// A consumer has the queue for itself, or wants it while there are others.
    InUse,
    /// `basic.get` from a quorum queue with a single active consumer.
    Locked,
}

/// A message of a queue on its way to a client of the origin.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'a> {
    /// The queue.
    pub queue: QueueId,
    /// The epoch it was sent in.
    pub epoch: u32,
    /// Its place there.
    pub qseq: u64,
    /// Whether a consumer may have seen it before.
    pub redelivered: bool,
    /// The message.
    pub view: MessageView<'a>,
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// The session has begun.
    Welcome,
    /// The leader's connection is there, anew: what it had sent may be lost, and the session has to begin again.
    Ready,
    /// Publishes up to this one are done with.
    Confirmed {
        /// Number of the publish.
        upto: u64,
    },
    /// A queue refused a publish. Comes before its [`Answer::Confirmed`].
    Refused {
        /// Number of the publish.
        publish: u64,
        /// Not the queue refused it: nobody leads it here in the epoch that the origin knows.
        moved: bool,
    },
    /// A request was carried out.
    Done {
        /// The request.
        request: u64,
    },
    /// A request was not carried out.
    Failed {
        /// The request.
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// Messages and consumers of a queue; messages that were purged.
    Counted {
        /// The request.
        request: u64,
        /// Ready messages.
        messages: u64,
        /// Consumers.
        consumers: u64,
    },
    /// The queue is empty.
    Empty {
        /// The request.
        request: u64,
    },
    /// The message that was asked for.
    Got {
        /// The request.
        request: u64,
        /// Ready messages left.
        remaining: u64,
        /// The message.
        sent: Sent<'a>,
    },
    /// A message for a consumer.
    Deliver {
        /// The consumer.
        consumer: u64,
        /// The message.
        sent: Sent<'a>,
    },
    /// The queue of a consumer was deleted.
    ConsumerGone {
        /// The consumer.
        consumer: u64,
    },
    /// Why publishers should be held up, or that they need not be.
    Alarm {
        /// RabbitMQ's reason; empty for none.
        reason: &'a str,
    },
}

const WELCOME: u8 = 0;
const READY: u8 = 1;
const CONFIRMED: u8 = 2;
const REFUSED: u8 = 3;
const DONE: u8 = 4;
const FAILED: u8 = 5;
const COUNTED: u8 = 6;
const EMPTY: u8 = 7;
const GOT: u8 = 8;
const DELIVER: u8 = 9;
const CONSUMER_GONE: u8 = 10;
const ALARM: u8 = 11;

impl<'a> Answer<'a> {
    /// Appends the answer.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Answer::Welcome => out.push(WELCOME),
            Answer::Ready => out.push(READY),
            Answer::Confirmed { upto } => numbers(out, CONFIRMED, &[*upto]),
            Answer::Refused { publish, moved } => {
                numbers(out, REFUSED, &[*publish]);
                out.push(u8::from(*moved));
            }
            Answer::Done { request } => numbers(out, DONE, &[*request]),
            Answer::Failed { request, failure } => {
                numbers(out, FAILED, &[*request]);
                out.push(match failure {
                    Failure::WrongEpoch => 0,
                    Failure::Gone => 1,
                    Failure::InUse => 2,
                    Failure::Locked => 3,
                });
            }
            Answer::Counted { request, messages, consumers } => {
                numbers(out, COUNTED, &[*request, *messages, *consumers]);
            }
            Answer::Empty { request } => numbers(out, EMPTY, &[*request]),
            Answer::Got { request, remaining, sent } => {
                numbers(out, GOT, &[*request, *remaining]);
                sent.put(out);
            }
            Answer::Deliver { consumer, sent } => {
                numbers(out, DELIVER, &[*consumer]);
                sent.put(out);
            }
            Answer::ConsumerGone { consumer } => numbers(out, CONSUMER_GONE, &[*consumer]),
            Answer::Alarm { reason } => {
                out.push(ALARM);
                put_short(out, reason);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Answer<'a>, Malformed> {
        Ok(match reader.u8()? {
            WELCOME => Answer::Welcome,
            READY => Answer::Ready,
            CONFIRMED => Answer::Confirmed { upto: reader.u64()? },
            REFUSED => Answer::Refused { publish: reader.u64()?, moved: reader.bool()? },
            DONE => Answer::Done { request: reader.u64()? },
            FAILED => Answer::Failed {
                request: reader.u64()?,
                failure: match reader.u8()? {
                    0 => Failure::WrongEpoch,
                    1 => Failure::Gone,
                    2 => Failure::InUse,
                    3 => Failure::Locked,
                    _ => return Err(Malformed),
                },
            },
            COUNTED => {
                Answer::Counted { request: reader.u64()?, messages: reader.u64()?, consumers: reader.u64()? }
            }
            EMPTY => Answer::Empty { request: reader.u64()? },
            GOT => Answer::Got { request: reader.u64()?, remaining: reader.u64()?, sent: Sent::get(reader)? },
            DELIVER => Answer::Deliver { consumer: reader.u64()?, sent: Sent::get(reader)? },
            CONSUMER_GONE => Answer::ConsumerGone { consumer: reader.u64()? },
            ALARM => Answer::Alarm { reason: reader.short()? },
            _ => return Err(Malformed),
        })
    }
}

fn numbers(out: &mut Vec<u8>, code: u8, values: &[u64]) {
    out.push(code);
    values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
}

impl<'a> Sent<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.queue.0.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&self.qseq.to_le_bytes());
        out.push(u8::from(self.redelivered));
        put_content(out, &self.view);
    }

    fn get(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        Ok(Sent {
            queue: QueueId(reader.u64()?),
            epoch: reader.u32()?,
            qseq: reader.u64()?,
            redelivered: reader.bool()?,
            view: reader.content()?,
        })
    }
}

/// Answers one behind the other. After something malformed there is nothing more.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a>(pub &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Result<Answer<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut reader = Reader(self.0);
        let answer = Answer::decode(&mut reader);
        self.0 = if answer.is_ok() { reader.0 } else { &[] };
        Some(answer)
    }
}
