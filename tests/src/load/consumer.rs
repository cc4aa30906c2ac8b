//! One consumer: a parser that touches only what it counts.

use super::Target;
use super::connection::{CHANNEL, Connection, PATIENCE};
use super::figures::{Clock, Latencies};
use super::plan::{Consuming, Plan, STAMP};
use amqp::method::basic;
use amqp::{ContentHeader, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use std::time::Instant;

/// Deliveries that may lack an acknowledgement.
const PREFETCH: u16 = 1000;

pub(super) struct Consumer {
    queue: String,
    clock: Clock,
    connection: Connection,
    inbound: Inbound,
}

/// What came so far.
struct Inbound {
    acknowledges: bool,
    /// The number that comes next, and the step to the one behind it.
    next: u64,
    step: u64,
    tag: u64,
    /// Octets of the current body that are still to come, and whether its beginning was seen.
    left: u64,
    stamped: bool,
    /// Acknowledgements to write.
    acks: Vec<u8>,
    received: u64,
    last: u64,
    latencies: Latencies,
}

impl Consumer {
    /// Connects and subscribes.
    pub(super) fn open(plan: &Plan, target: &Target, clock: Clock, index: u64) -> Result<Self> {
        let queue = plan.queue(index);
        let mut connection = Connection::open(target)?;
        connection.grow();
        let acknowledges = plan.consuming == Consuming::Each;
        let qos = basic::Qos { prefetch_count: PREFETCH, ..Default::default() };
        connection.call(CHANNEL, &qos.into(), |method| matches!(method, Method::BasicQosOk(_)))?;
        let consume = basic::Consume { queue: &queue, no_ack: !acknowledges, ..Default::default() };
        connection.call(CHANNEL, &consume.into(), |it| matches!(it, Method::BasicConsumeOk(_)))?;
        let (next, step) = plan.numbers(index);
        let inbound = Inbound {
            acknowledges,
            next,
            step,
            tag: 0,
            left: 0,
            stamped: false,
            acks: Vec::new(),
            received: 0,
            last: 0,
            latencies: Latencies::default(),
        };
        Ok(Self { queue, clock, connection, inbound })
    }

    /// Consumes until `published`, which is asked again and again, says how many messages there were and
    /// all of them came. Returns their count, when the last one came, and how long they took.
    pub(super) fn run(mut self, published: impl Fn() -> Option<u64>) -> Result<(u64, u64, Latencies)> {
        let mut heard = Instant::now();
        while published().is_none_or(|total| self.inbound.next < total) {
            if self.connection.receive()? {
                heard = Instant::now();
                let now = self.clock.nanos();
                self.connection.frames(|frame| self.inbound.frame(frame, now)).context(self.queue.clone())?;
            } else if published().is_some() && heard.elapsed() > PATIENCE {
                bail!("{}: lost the messages from {} on", self.queue, self.inbound.next);
            }
            if !self.inbound.acks.is_empty() {
                self.connection.write(&self.inbound.acks)?;
                self.inbound.acks.clear();
            }
        }
        self.connection.close_channel()?;
        Ok((self.inbound.received, self.inbound.last, self.inbound.latencies))
    }
}

impl Inbound {
    fn frame(&mut self, frame: &frame::Frame<'_>, now: u64) -> Result<()> {
        match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload).context("read a delivery")? {
                Method::BasicDeliver(deliver) => self.tag = deliver.delivery_tag,
                other => bail!("expected a delivery, got {other:?}"),
            },
            FrameKind::Header => {
                self.left = ContentHeader::decode(frame.payload)?.body_size;
                self.stamped = false;
            }
            FrameKind::Body => {
                if !self.stamped {
                    self.stamp(frame.payload, now)?;
                }
                self.left = self.left.saturating_sub(frame.payload.len() as u64);
                if self.left == 0 && self.acknowledges {
                    frame::write_ack(&mut self.acks, CHANNEL, self.tag, false);
                }
            }
            FrameKind::Heartbeat => {}
        }
        Ok(())
    }

    /// Reads the beginning of a body: no message is lost, doubled or out of order.
    fn stamp(&mut self, body: &[u8], now: u64) -> Result<()> {
        let stamp = body.first_chunk::<STAMP>().context("a body without a stamp")?;
        let word = |at: usize| stamp[at..at + 8].iter().fold(0, |sum, octet| sum << 8 | u64::from(*octet));
        ensure!(word(0) == self.next, "message {} came as number {}", word(0), self.next);
        self.stamped = true;
        self.next += self.step;
        self.received += 1;
        self.last = now;
        self.latencies.add_nanos(now.saturating_sub(word(8)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_message_is_noticed() {
        let (acks, latencies) = (Vec::new(), Latencies::default());
        let mut inbound = Inbound {
            acknowledges: true,
            next: 1,
            step: 10,
            tag: 7,
            left: 16,
            stamped: false,
            acks,
            received: 0,
            last: 0,
            latencies,
        };
        let body = |number: u64| [number.to_be_bytes(), 5_u64.to_be_bytes()].concat();
        let frame = |payload: &[u8], inbound: &mut Inbound| {
            inbound.frame(&frame::Frame { kind: FrameKind::Body, channel: 1, payload }, 9)
        };
        frame(&body(1), &mut inbound).unwrap();
        assert_eq!((inbound.next, inbound.received, inbound.acks.len()), (11, 1, 21));
        inbound.stamped = false;
        assert!(frame(&body(21), &mut inbound).is_err());
    }
}
