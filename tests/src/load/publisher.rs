//! One publisher: a buffer of encoded messages in which only stamps and routing keys are rewritten.

use super::Target;
use super::connection::{CHANNEL, Connection, FRAME_MAX, PATIENCE};
use super::figures::{Clock, Latencies};
use super::plan::{Plan, Receipt, STAMP};
use amqp::method::{basic, confirm, tx};
use amqp::{BasicProperties, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Messages in a write, at most.
const BATCH: usize = 64;

/// With a pace, the time between two looks at the clock.
const TICK: Duration = Duration::from_micros(200);

pub(super) struct Publisher<'a> {
    plan: &'a Plan,
    clock: Clock,
    connection: Connection,
    batch: Batch,
    sent: u64,
    /// Numbers without a confirm, and when they were sent.
    unconfirmed: VecDeque<(u64, u64)>,
    /// From the publish to the receipt.
    receipts: Latencies,
}

impl<'a> Publisher<'a> {
    /// Connects.
    pub(super) fn open(plan: &'a Plan, target: &Target, clock: Clock, index: u64) -> Result<Self> {
        let mut connection = Connection::open(target)?;
        connection.grow();
        match plan.receipt {
            Receipt::Nothing => {}
            Receipt::Confirm(_) => {
                let select = confirm::Select::default();
                connection.call(CHANNEL, &select.into(), |it| matches!(it, Method::ConfirmSelectOk(_)))?;
            }
            Receipt::Transaction => {
                connection.call(CHANNEL, &tx::Select.into(), |it| matches!(it, Method::TxSelectOk(_)))?;
            }
        }
        let batch = Batch::new(plan, index);
        let receipts = Latencies::default();
        Ok(Self { plan, clock, connection, batch, sent: 0, unconfirmed: VecDeque::new(), receipts })
    }

    /// Publishes until the time is over and the server has taken everything. Returns how many messages
    /// there were, when it was over, and how long the receipts took.
    pub(super) fn run(mut self) -> Result<(u64, u64, Latencies)> {
        let start = self.clock.nanos();
        let end = start + u64::try_from(self.plan.time.as_nanos())?;
        loop {
            let now = self.clock.nanos();
            let most = self.plan.most;
            if self.sent >= most || (now >= end && most == u64::MAX) {
                break;
            }
            match self.room(now - start) {
                0 => self.wait()?,
                count => self.publish(count, start, now)?,
            }
        }
        while !self.unconfirmed.is_empty() {
            self.confirms()?;
        }
        self.connection.close_channel()?;
        Ok((self.sent, self.clock.nanos(), self.receipts))
    }

    /// How many messages may go now.
    fn room(&self, elapsed: u64) -> usize {
        let room = match self.plan.receipt {
            Receipt::Nothing => BATCH,
            Receipt::Transaction => 1,
            Receipt::Confirm(window) => {
                let free = window - self.unconfirmed.len();
                // Refilled a quarter at a time: one write for many messages, and never an empty pipe.
                if free < (window / 4).clamp(1, BATCH) { 0 } else { free.min(BATCH) }
            }
        };
        let left = usize::try_from(self.plan.most - self.sent).unwrap_or(usize::MAX);
        let room = room.min(left);
        if self.plan.rate > 0.0 {
            let due = (elapsed as f64 / 1e9 * self.plan.rate) as u64;
            room.min(due.saturating_sub(self.sent) as usize)
        } else {
            room
        }
    }

    fn publish(&mut self, count: usize, start: u64, now: u64) -> Result<()> {
        let rate = self.plan.rate;
        // With a pace, latencies count from when a message was due, not from when it was written.
        let due = |number: u64| if rate > 0.0 { start + (number as f64 / rate * 1e9) as u64 } else { now };
        let numbers = self.sent..self.sent + count as u64;
        self.sent = numbers.end;
        if matches!(self.plan.receipt, Receipt::Confirm(_)) {
            self.unconfirmed.extend(numbers.clone().map(|number| (number, due(number))));
        }
        self.connection.write(self.batch.prepare(numbers, due))?;
        match self.plan.receipt {
            Receipt::Nothing => {}
            Receipt::Confirm(_) => {
                while self.connection.receive_now()? {
                    self.read()?;
                }
            }
            Receipt::Transaction => {
                let commit = tx::Commit.into();
                self.connection.call(CHANNEL, &commit, |it| matches!(it, Method::TxCommitOk(_)))?;
                self.receipts.add(self.clock.since(now));
            }
        }
        Ok(())
    }

    /// Waits until there may be room again.
    fn wait(&mut self) -> Result<()> {
        if self.plan.rate == 0.0 {
            return self.confirms();
        }
        if self.connection.wait_readable(TICK)? && self.connection.receive_now()? {
            self.read()?;
        }
        Ok(())
    }

    fn confirms(&mut self) -> Result<()> {
        let asked = Instant::now();
        while !self.connection.receive()? {
            ensure!(asked.elapsed() < PATIENCE, "no confirm for {PATIENCE:?}");
        }
        self.read()
    }

    /// Reads the confirms that came.
    fn read(&mut self) -> Result<()> {
        let (unconfirmed, receipts, clock) = (&mut self.unconfirmed, &mut self.receipts, self.clock);
        self.connection.frames(|frame| {
            ensure!(frame.kind == FrameKind::Method, "expected a confirm, got {frame:?}");
            let Method::BasicAck(basic::Ack { delivery_tag, multiple }) = Method::decode(frame.payload)?
            else {
                bail!("expected a confirm, got {:?}", Method::decode(frame.payload));
            };
            // Tags count from 1, numbers from 0.
            let number = delivery_tag.checked_sub(1).context("a confirm of nothing")?;
            if multiple {
                while unconfirmed.front().is_some_and(|(it, _)| *it <= number) {
                    let (_, sent) = unconfirmed.pop_front().context("an unknown confirm")?;
                    receipts.add(clock.since(sent));
                }
            } else {
                let found = unconfirmed.iter().position(|(it, _)| *it == number);
                let (_, sent) = found.and_then(|it| unconfirmed.remove(it)).context("an unknown confirm")?;
                receipts.add(clock.since(sent));
            }
            Ok(())
        })
    }
}

/// Copies of one message, and where in each of them routing key and body are.
struct Batch {
    octets: Vec<u8>,
    message: usize,
    key: usize,
    body: usize,
    keys: Vec<String>,
}

impl Batch {
    fn new(plan: &Plan, publisher: u64) -> Self {
        let keys = plan.keys(publisher);
        let publish =
            basic::Publish { exchange: plan.exchange(), routing_key: &keys[0], ..Default::default() };
        let mut octets = Vec::new();
        frame::write_fields(&mut octets, CHANNEL, &publish);
        // Behind the key there are an octet of flags and the end of the frame.
        let key = octets.len() - 2 - keys[0].len();
        let mut properties = Vec::new();
        let delivery_mode = Some(if plan.persistent { 2 } else { 1 });
        BasicProperties { delivery_mode, ..Default::default() }.encode(&mut properties);
        frame::write_content_header(&mut octets, CHANNEL, 60, plan.size as u64, &properties);
        let body = octets.len() + frame::HEADER_SIZE;
        frame::write_body(&mut octets, CHANNEL, &vec![b'x'; plan.size], FRAME_MAX);
        let message = octets.len();
        Self { octets: octets.repeat(BATCH), message, key, body, keys }
    }

    /// Stamps and addresses messages with these numbers, and returns them.
    fn prepare(&mut self, numbers: std::ops::Range<u64>, stamp: impl Fn(u64) -> u64) -> &[u8] {
        let mut at = 0;
        for number in numbers {
            let message = &mut self.octets[at..at + self.message];
            if self.keys.len() > 1 {
                let key = &self.keys[(number % self.keys.len() as u64) as usize];
                message[self.key..self.key + key.len()].copy_from_slice(key.as_bytes());
            }
            message[self.body..self.body + 8].copy_from_slice(&number.to_be_bytes());
            message[self.body + 8..self.body + STAMP].copy_from_slice(&stamp(number).to_be_bytes());
            at += self.message;
        }
        &self.octets[..at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_carries_numbers_times_and_keys() {
        let plan = Plan::parse(&["queues=2", "topic=4", "size=20"]).unwrap();
        let mut batch = Batch::new(&plan, 0);
        let mut rest = batch.prepare(5..7, |number| number * 10);
        for number in 5..7_u64 {
            let mut frames = Vec::new();
            for _ in 0..3 {
                let (frame, used) = frame::parse(rest, FRAME_MAX).unwrap().unwrap();
                frames.push(frame.payload);
                rest = &rest[used..];
            }
            let Ok(Method::BasicPublish(publish)) = Method::decode(frames[0]) else { panic!("{frames:?}") };
            assert_eq!(publish.routing_key, format!("key.{:06}.news.eu", number % 4));
            assert_eq!(frames[2][..16], [number.to_be_bytes(), (number * 10).to_be_bytes()].concat());
        }
        assert!(rest.is_empty());
    }
}
