//! Moving a queue's messages: consumed there, published here, and acknowledged there when here they are confirmed.
//!
//! ```text
//! there ──deliver n──► publish b+n ──► here          b: publishes of the queues before
//! there ◄──ack n────── confirm b+n ◄── here
//! ```
//!
//! One consumer and one publisher keep the order. Whatever ends this half way, a message is here, or there, or in both:
//! what was confirmed and not yet acknowledged is delivered again, marked as redelivered, when it is run again.

use super::arrival::Arrival;
use super::progress::Bar;
use super::restore::{Left, Way, forget_queue, time_left};
use crate::ctl::escaped;
use crate::tools::connection::{Connection, Event, PATIENCE};
use amqp::Method;
use amqp::method::basic;
use daemon::exit::Exit;
use daemon::run::Failure;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Messages that are on their way: no more can be here twice after a crash.
const WINDOW: u16 = 256;
/// Octets that are put together before they are sent.
const BATCH: usize = 256 * 1024;
/// How long one look at the side there, and at ours, waits for something.
const LOOK_THERE: Duration = Duration::from_millis(5);
const LOOK_HERE: Duration = Duration::from_millis(1);
/// Silence after which the queue is asked whether it is empty.
const QUIET: Duration = Duration::from_millis(300);

/// What became of a queue's messages.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Moved {
    /// They are here, and no longer there.
    pub(super) messages: u64,
    /// Of them, those that were delivered to somebody before.
    pub(super) redelivered: u64,
    /// Of them, those whose time to live has begun again.
    pub(super) restarted: u64,
    /// Consumers there, beside ours, when the queue was empty.
    pub(super) consumers: u32,
}

/// Moves what a queue has until it is empty. `ttl` is the queue's time to live here.
pub(super) fn queue(
    mut there: Connection,
    here: &mut Arrival,
    name: &str,
    ttl: Option<u64>,
    bar: &Bar,
) -> Result<Moved, Failure> {
    let binding = here.prepare(name)?;
    there.call(basic::Qos { prefetch_count: WINDOW, ..Default::default() }, "basic.qos-ok")?;
    there.call(basic::Consume { queue: name, ..Default::default() }, "basic.consume-ok")?;
    there.look_for(LOOK_THERE)?;
    here.connection.look_for(LOOK_HERE)?;
    let mut move_ = Move { base: here.published, there, here, name, binding, ttl, moved: Moved::default() };
    let outcome = move_.until_empty(bar);
    // What is confirmed already need not come a second time, whatever ended it.
    let acknowledged = move_.there.flush();
    let moved = move_.moved;
    outcome?;
    acknowledged?;
    move_.there.close()?;
    Ok(moved)
}

struct Move<'a> {
    there: Connection,
    here: &'a mut Arrival,
    name: &'a str,
    binding: String,
    ttl: Option<u64>,
    /// Publishes before this queue's.
    base: u64,
    moved: Moved,
}

impl Move<'_> {
    fn until_empty(&mut self, bar: &Bar) -> Result<(), Failure> {
        let mut last = Instant::now();
        let mut asked = Instant::now();
        loop {
            let took = self.take()?;
            let settled = self.settle()?;
            bar.at(self.moved.messages);
            bar.waits(self.here.connection.blocked.as_deref());
            if took || settled || self.under_way() > 0 || self.here.connection.blocked.is_some() {
                if took || settled {
                    last = Instant::now();
                } else if self.here.connection.blocked.is_none() && last.elapsed() > PATIENCE {
                    let text =
                        format!("{} messages of {} are not confirmed here", self.under_way(), self.shown());
                    return Err(Failure::new(Exit::TempFail, text)
                        .detail("next", "run it again: they are still there"));
                }
                continue;
            }
            if last.elapsed() < QUIET || asked.elapsed() < QUIET {
                continue;
            }
            asked = Instant::now();
            let (ready, consumers) = self.there.counts(self.name)?;
            if ready == 0 {
                self.moved.consumers = consumers.saturating_sub(1);
                return Ok(());
            }
            if last.elapsed() > PATIENCE {
                let text = format!("{} has {ready} messages and delivers none to us", self.shown());
                let why =
                    format!("it has {consumers} consumers: another one may be its single active consumer");
                return Err(Failure::new(Exit::TempFail, text).detail("why", why));
            }
        }
    }

    /// The queue's name, for a person to read.
    fn shown(&self) -> String {
        escaped(self.name)
    }

    /// Messages that were published here and are not confirmed.
    fn under_way(&self) -> u64 {
        self.here.published - self.base - self.moved.messages
    }

    /// Publishes what has come; whether anything has.
    fn take(&mut self) -> Result<bool, Failure> {
        if self.here.connection.blocked.is_some() {
            self.there.beat()?;
            return Ok(false);
        }
        // With all of them under way nothing can come.
        if self.under_way() >= u64::from(WINDOW) {
            self.there.beat()?;
            self.there.flush()?;
            return Ok(false);
        }
        let mut next = self.there.next(Duration::ZERO)?;
        let any = next.is_some();
        while let Some(event) = next {
            self.publish(&event)?;
            if self.here.connection.waiting() >= BATCH {
                self.here.connection.flush()?;
            }
            next = self.there.next_known()?;
        }
        Ok(any)
    }

    fn publish(&mut self, event: &Event) -> Result<(), Failure> {
        let deliver = match event.method()? {
            Method::BasicDeliver(deliver) => deliver,
            Method::BasicCancel(_) => {
                let text = format!("queue {} was deleted there while its messages moved", self.shown());
                return Err(Failure::new(Exit::Unavailable, text));
            }
            _ => return Ok(()),
        };
        let mut properties = event.properties();
        forget_queue(&mut properties);
        let left = time_left(&properties, self.ttl, now_ms());
        let way = Way {
            exchange: deliver.exchange,
            routing_key: deliver.routing_key,
            queue: self.name,
            binding: &self.binding,
        };
        self.moved.redelivered += u64::from(deliver.redelivered);
        self.moved.restarted += u64::from(left == Left::Unknown);
        self.here.publish(&way, properties, left, &event.body);
        debug_assert_eq!(deliver.delivery_tag, self.here.published - self.base);
        Ok(())
    }

    /// Acknowledges there what is confirmed here; whether anything was.
    fn settle(&mut self) -> Result<bool, Failure> {
        let mut any = false;
        let mut next = self.here.connection.next(Duration::ZERO)?;
        while let Some(event) = next {
            match event.method()? {
                Method::BasicAck(ack) => {
                    any = true;
                    let tag = ack.delivery_tag.saturating_sub(self.base);
                    self.moved.messages += if ack.multiple { tag - self.moved.messages.min(tag) } else { 1 };
                    self.there.acknowledge(tag, ack.multiple);
                }
                Method::BasicNack(_) => return Err(self.refused("refuses a message")),
                Method::BasicReturn(_) => return Err(self.refused("is no longer there")),
                _ => {}
            }
            next = self.here.connection.next_known()?;
        }
        if any {
            self.there.flush()?;
        }
        Ok(any)
    }

    fn refused(&self, what: &str) -> Failure {
        Failure::new(Exit::Unavailable, format!("queue {} here {what}", self.shown()))
            .detail("moved", format!("{} messages; the others are still there", self.moved.messages))
            .detail(
                "try",
                "broker ctl list_queues name arguments policy   is it full (x-max-length, reject-publish)?",
            )
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
