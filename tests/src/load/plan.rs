//! What a run of messages does: queues, routing, the shape of messages, confirms, the pace.

use super::connection::{CHANNEL, Connection};
use crate::args;
use amqp::Method;
use amqp::method::{exchange, queue};
use anyhow::{Context, Result, bail, ensure};
use std::time::Duration;

/// Octets at the beginning of a body: number and time.
pub(super) const STAMP: usize = 16;

/// How messages get from publishers to queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// Over the default exchange: each queue has a publisher of its own.
    Pairs,
    /// One publisher and a fanout exchange: each queue gets each message.
    Fanout,
    /// One publisher and a topic exchange with this many bindings, a third of them exact, a third with
    /// `*`, a third with `#`. Binding `b` is that of queue `b` mod queues, and message `n` matches only
    /// binding `n` mod bindings.
    Topic(u64),
}

/// What the server says to a message before the publisher counts it as taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Nothing.
    Nothing,
    /// A confirm; this many messages may lack one.
    Confirm(usize),
    /// A transaction for each message.
    Transaction,
}

/// What the consumers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consuming {
    /// There are none.
    Nobody,
    /// A consumer for each queue, which need not acknowledge.
    Automatic,
    /// A consumer for each queue, which acknowledges each message by itself.
    Each,
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many queues.
    pub queues: u64,
    /// How they get their messages.
    pub routing: Routing,
    /// Octets of a body, at least 16.
    pub size: usize,
    /// Durable queues and persistent messages.
    pub persistent: bool,
    /// What publishers wait for.
    pub receipt: Receipt,
    /// What consumers do.
    pub consuming: Consuming,
    /// Messages of each publisher in a second; 0: as many as it can.
    pub rate: f64,
    /// How long publishers publish, unless they reach `most`.
    pub time: Duration,
    /// The queues are quorum queues.
    pub quorum: bool,
    /// Most messages of each publisher. Where that is a number, time does not count.
    pub most: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            queues: 1,
            routing: Routing::Pairs,
            size: 1024,
            persistent: false,
            receipt: Receipt::Nothing,
            consuming: Consuming::Automatic,
            rate: 0.0,
            time: Duration::from_secs(3),
            quorum: false,
            most: u64::MAX,
        }
    }
}

impl Plan {
    /// Reads words such as `queues=4`, `persistent` or `ack`; what they leave out is as in
    /// [`Plan::default`].
    ///
    /// # Errors
    /// An unknown word, or a plan that cannot be.
    pub fn parse(words: &[&str]) -> Result<Self> {
        let mut plan = Self::default();
        for word in words {
            plan.read(word).with_context(|| format!("read `{word}`"))?;
        }
        ensure!(plan.size >= STAMP, "a body has at least {STAMP} octets");
        if let Routing::Topic(bindings) = plan.routing {
            let even = bindings > 0 && bindings.is_multiple_of(plan.queues);
            ensure!(even, "bindings are a multiple of the queues");
        }
        Ok(plan)
    }

    fn read(&mut self, word: &str) -> Result<()> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "queues" => self.queues = value.parse()?,
            "fanout" => self.routing = Routing::Fanout,
            "topic" => self.routing = Routing::Topic(value.parse()?),
            "size" => self.size = value.parse()?,
            "persistent" => self.persistent = true,
            "window" => self.receipt = Receipt::Confirm(value.parse()?),
            "tx" => self.receipt = Receipt::Transaction,
            "publish" => self.consuming = Consuming::Nobody,
            "quorum" => self.quorum = true,
            "ack" => self.consuming = Consuming::Each,
            "rate" => self.rate = value.parse()?,
            "seconds" => self.time = Duration::from_secs_f64(value.parse()?),
            _ => bail!(
                "it is none of queues, fanout, topic, size, persistent, quorum, window, tx, publish, ack, rate, seconds"
            ),
        }
        Ok(())
    }

    pub(super) fn publishers(&self) -> u64 {
        if self.routing == Routing::Pairs { self.queues } else { 1 }
    }

    pub(super) fn queue(&self, index: u64) -> String {
        format!("load-{index}")
    }

    pub(super) fn exchange(&self) -> &'static str {
        if self.routing == Routing::Pairs { "" } else { "load" }
    }

    /// The routing keys that a publisher goes through. They are of one length, so that an encoded message
    /// can be addressed anew in its place.
    pub(super) fn keys(&self, publisher: u64) -> Vec<String> {
        match self.routing {
            Routing::Pairs => vec![self.queue(publisher)],
            Routing::Fanout => vec![String::new()],
            Routing::Topic(bindings) => {
                (0..bindings).map(|binding| format!("key.{binding:06}.news.eu")).collect()
            }
        }
    }

    /// The numbers of the messages that come to a queue: the first, and the step to the next.
    pub(super) fn numbers(&self, queue: u64) -> (u64, u64) {
        if matches!(self.routing, Routing::Topic(_)) { (queue, self.queues) } else { (0, 1) }
    }

    /// Declares queues, exchange and bindings.
    pub(super) fn declare(&self, connection: &mut Connection) -> Result<()> {
        for index in 0..self.queues {
            let name = self.queue(index);
            if self.quorum {
                declare_quorum_queue(connection, &name)?;
            } else {
                declare_queue(connection, &name, self.persistent)?;
            }
        }
        let kind = match self.routing {
            Routing::Pairs => return Ok(()),
            Routing::Fanout => "fanout",
            Routing::Topic(_) => "topic",
        };
        let declare = exchange::Declare { exchange: self.exchange(), kind, ..Default::default() };
        connection.call(CHANNEL, &declare.into(), |method| matches!(method, Method::ExchangeDeclareOk(_)))?;
        let bindings = if let Routing::Topic(bindings) = self.routing { bindings } else { self.queues };
        for binding in 0..bindings {
            let key = match (self.routing, binding % 3) {
                (Routing::Topic(_), 0) => format!("key.{binding:06}.news.eu"),
                (Routing::Topic(_), 1) => format!("key.{binding:06}.*.eu"),
                (Routing::Topic(_), _) => format!("key.{binding:06}.#"),
                _ => String::new(),
            };
            let queue = self.queue(binding % self.queues);
            let bind = queue::Bind {
                queue: &queue,
                exchange: self.exchange(),
                routing_key: &key,
                ..Default::default()
            };
            connection.call(CHANNEL, &bind.into(), |method| matches!(method, Method::QueueBindOk(_)))?;
        }
        Ok(())
    }

    /// Deletes what was declared.
    pub(super) fn delete(&self, connection: &mut Connection) -> Result<()> {
        if !self.exchange().is_empty() {
            let delete = exchange::Delete { exchange: self.exchange(), ..Default::default() };
            connection.call(CHANNEL, &delete.into(), |it| matches!(it, Method::ExchangeDeleteOk(_)))?;
        }
        (0..self.queues).try_for_each(|index| delete_queue(connection, &self.queue(index)))
    }
}

pub(super) fn declare_queue(connection: &mut Connection, name: &str, durable: bool) -> Result<()> {
    let declare = queue::Declare { queue: name, durable, ..Default::default() };
    connection.call(CHANNEL, &declare.into(), |method| matches!(method, Method::QueueDeclareOk(_)))
}

pub(super) fn declare_quorum_queue(connection: &mut Connection, name: &str) -> Result<()> {
    let arguments = args! { "x-queue-type" => "quorum" };
    let declare =
        queue::Declare { queue: name, durable: true, arguments: arguments.table(), ..Default::default() };
    connection.call(CHANNEL, &declare.into(), |method| matches!(method, Method::QueueDeclareOk(_)))
}

pub(super) fn delete_queue(connection: &mut Connection, name: &str) -> Result<()> {
    let delete = queue::Delete { queue: name, ..Default::default() };
    connection.call(CHANNEL, &delete.into(), |method| matches!(method, Method::QueueDeleteOk(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_make_a_plan() {
        let plan = Plan::parse(&["queues=4", "window=1000", "persistent", "ack", "seconds=0.5"]).unwrap();
        assert_eq!((plan.queues, plan.receipt), (4, Receipt::Confirm(1000)));
        assert_eq!((plan.publishers(), plan.consuming), (4, Consuming::Each));
        assert!(plan.persistent && plan.time == Duration::from_millis(500));
        for wrong in [&["size=15"][..], &["queues=10", "topic=15"], &["nonsense"]] {
            assert!(Plan::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_topic_message_has_the_key_of_its_binding() {
        let plan = Plan::parse(&["queues=2", "topic=6"]).unwrap();
        let keys = plan.keys(0);
        assert_eq!((plan.publishers(), keys.len(), keys[5].as_str()), (1, 6, "key.000005.news.eu"));
        assert_eq!(plan.numbers(1), (1, 2));
    }
}
