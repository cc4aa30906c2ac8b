//! A queue that is much longer than memory: filled, then looked at and emptied, usually by another process and
//! after the server was killed in between.

use super::Target;
use super::connection::{CHANNEL, Connection};
use super::consumer::Consumer;
use super::figures::{Clock, Line, cpu_seconds, resident_kib};
use super::plan::{Consuming, Plan, Receipt};
use super::publisher::Publisher;
use amqp::Method;
use amqp::method::basic;
use anyhow::{Result, ensure};
use std::time::Instant;

/// Persistent messages of 1 KiB, at most 1000 unconfirmed.
fn plan(messages: u64) -> Plan {
    Plan {
        persistent: true,
        receipt: Receipt::Confirm(1000),
        consuming: Consuming::Each,
        most: messages,
        ..Plan::default()
    }
}

/// Publishes so many messages, and returns when all are confirmed.
///
/// # Errors
/// A connection fails.
pub fn fill(target: &Target, messages: u64) -> Result<Line> {
    let plan = plan(messages);
    plan.declare(&mut Connection::open(target)?)?;
    let clock = Clock::start();
    let publisher = Publisher::open(&plan, target, clock, 0)?;
    let (cpu, start) = (cpu_seconds(&target.pids), clock.nanos());
    let (count, last, _) = publisher.run()?;
    Ok(line(target, count, last - start, cpu))
}

/// Waits for one delivery, and gives it back.
///
/// # Errors
/// The connection fails.
pub fn first(target: &Target) -> Result<Line> {
    let start = Instant::now();
    let mut connection = Connection::open(target)?;
    let qos = basic::Qos { prefetch_count: 1, ..Default::default() };
    connection.call(CHANNEL, &qos.into(), |method| matches!(method, Method::BasicQosOk(_)))?;
    let queue = plan(0).queue(0);
    let consume = basic::Consume { queue: &queue, ..Default::default() };
    connection.call(CHANNEL, &consume.into(), |it| matches!(it, Method::BasicConsumeOk(_)))?;
    let mut deliveries = 0;
    while deliveries == 0 {
        connection.receive()?;
        connection.frames(|_| {
            deliveries += 1;
            Ok(())
        })?;
    }
    let mut line = Line::default();
    line.add("first_s", start.elapsed().as_secs_f64());
    line.add("resident_mib", resident_kib(&target.pids) / 1024.0);
    connection.close()?;
    Ok(line)
}

/// Consumes the messages that [`fill`] published, each acknowledged, and deletes the queue.
///
/// # Errors
/// The connection fails; a message is lost, doubled or out of order.
pub fn drain(target: &Target, messages: u64) -> Result<Line> {
    let plan = plan(messages);
    let clock = Clock::start();
    let consumer = Consumer::open(&plan, target, clock, 0)?;
    let (cpu, start) = (cpu_seconds(&target.pids), clock.nanos());
    let (count, last, _) = consumer.run(|| Some(messages))?;
    ensure!(count == messages, "{count} of {messages} messages came");
    let line = line(target, count, last - start, cpu);
    plan.delete(&mut Connection::open(target)?)?;
    Ok(line)
}

fn line(target: &Target, count: u64, nanos: u64, cpu: f64) -> Line {
    let mut line = Line::default();
    line.add("rate", count as f64 / nanos as f64 * 1e9);
    line.add("cpu_per_million", (cpu_seconds(&target.pids) - cpu) / count as f64 * 1e6);
    line.add("resident_mib", resident_kib(&target.pids) / 1024.0);
    line
}
