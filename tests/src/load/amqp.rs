//! Publishers and consumers at full speed.
//!
//! A body begins with its number and the time of its publish; the consumer makes latencies of it.

use super::connection::{CHANNEL, Connection, FRAME_MAX};
use super::figures::{Latencies, Line, cpu_seconds};
use ::amqp::method::{basic, channel, confirm, queue};
use ::amqp::{BasicProperties, FrameKind, Method, frame};
use anyhow::{Context, Result, bail, ensure};
use std::collections::VecDeque;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use super::connection::Target;

/// Octets at the beginning of a body: number and time.
const STAMP: usize = 16;

/// The consumer acknowledges this many deliveries at once.
const ACK_EVERY: u64 = 100;

/// One run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server.
    pub target: Target,
    /// Queues, each with one publisher and one consumer.
    pub pairs: usize,
    /// How long publishers publish.
    pub time: Duration,
    /// Octets of a body, at least 16.
    pub size: usize,
    /// Messages that may be unconfirmed; 0: no confirms.
    pub window: u64,
    /// Durable queue and persistent messages, and the consumer acknowledges.
    pub persistent: bool,
    /// The server's processes, for their processor time.
    pub pids: Vec<u32>,
}

/// Runs a plan and returns its figures.
///
/// # Errors
/// A connection fails, or a message is lost or out of order.
pub fn run(plan: &Plan) -> Result<Line> {
    ensure!(plan.size >= STAMP, "a body has at least {STAMP} octets");
    let barrier = Barrier::new(plan.pairs * 2 + 1);
    let epoch = Instant::now();
    let (mut confirms, mut latencies) = (Latencies::default(), Latencies::default());
    let (mut seconds, mut cpu) = (0.0, 0.0);
    // How many messages each publisher sent in all, as soon as it knows.
    let totals: Vec<AtomicU64> = (0..plan.pairs).map(|_| AtomicU64::new(u64::MAX)).collect();
    std::thread::scope(|scope| -> Result<()> {
        let mut workers = Vec::new();
        for (pair, total) in totals.iter().enumerate() {
            let name = format!("bench-{}-{pair}", std::process::id());
            // The queue is there before either side starts.
            let consumer = consumer(plan, &name)?;
            let publisher = publisher(plan)?;
            let barrier = &barrier;
            workers.push((
                scope.spawn({
                    let name = name.clone();
                    move || publish(plan, &name, publisher, barrier, epoch, total)
                }),
                scope.spawn(move || consume(plan, &name, consumer, barrier, epoch, total)),
            ));
        }
        let before = cpu_seconds(&plan.pids);
        barrier.wait();
        let start = Instant::now();
        for (publisher, consumer) in workers {
            confirms.merge(publisher.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))??);
            latencies.merge(consumer.join().map_err(|_| anyhow::anyhow!("a consumer panicked"))??);
        }
        seconds = start.elapsed().as_secs_f64();
        cpu = cpu_seconds(&plan.pids) - before;
        Ok(())
    })?;
    let total = totals.iter().map(|total| total.load(Ordering::Relaxed)).sum::<u64>() as f64;
    let mut line = Line::default();
    line.add("rate", total / seconds);
    line.add("cpu_per_million", cpu / total * 1e6);
    for (name, share) in [("latency_p50_ms", 0.5), ("latency_p99_ms", 0.99)] {
        line.add(name, f64::from(latencies.at(share)) / 1e3);
    }
    if plan.window > 0 {
        for (name, share) in [("confirm_p50_ms", 0.5), ("confirm_p99_ms", 0.99)] {
            line.add(name, f64::from(confirms.at(share)) / 1e3);
        }
    }
    Ok(line)
}

fn consumer(plan: &Plan, name: &str) -> Result<Connection> {
    let mut connection = Connection::open(&plan.target)?;
    let declare = queue::Declare { queue: name, durable: plan.persistent, ..Default::default() };
    connection.send_on(CHANNEL, &declare.into())?;
    connection.expect("queue.declare-ok", |method| matches!(method, Method::QueueDeclareOk(_)))?;
    connection.send_on(CHANNEL, &basic::Qos { prefetch_count: 1000, ..Default::default() }.into())?;
    connection.expect("basic.qos-ok", |method| matches!(method, Method::BasicQosOk(_)))?;
    let consume = basic::Consume { queue: name, no_ack: !plan.persistent, ..Default::default() };
    connection.send_on(CHANNEL, &consume.into())?;
    connection.expect("basic.consume-ok", |method| matches!(method, Method::BasicConsumeOk(_)))?;
    Ok(connection)
}

fn publisher(plan: &Plan) -> Result<Connection> {
    let mut connection = Connection::open(&plan.target)?;
    if plan.window > 0 {
        connection.send_on(CHANNEL, &confirm::Select::default().into())?;
        connection.expect("confirm.select-ok", |method| matches!(method, Method::ConfirmSelectOk(_)))?;
    }
    Ok(connection)
}

/// Publishes everything and returns the latencies of the confirms.
fn publish(
    plan: &Plan,
    name: &str,
    mut connection: Connection,
    barrier: &Barrier,
    epoch: Instant,
    total: &AtomicU64,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let mut properties = Vec::new();
    let delivery_mode = Some(if plan.persistent { 2 } else { 1 });
    BasicProperties { delivery_mode, ..Default::default() }.encode(&mut properties);
    let publish = basic::Publish { routing_key: name, ..Default::default() };
    let mut body = vec![b'x'; plan.size];
    let mut out = Vec::new();
    let mut unconfirmed: VecDeque<(u64, Instant)> = VecDeque::new();
    let mut sent = 0_u64;
    let mut done = false;
    // Refilled a quarter at a time: one write for many messages, and never an empty pipe.
    let batch = if plan.window == 0 { 64 } else { (plan.window / 4).max(1) };
    barrier.wait();
    let end = Instant::now() + plan.time;
    while !done || !unconfirmed.is_empty() {
        let room = if plan.window == 0 { batch } else { plan.window - unconfirmed.len() as u64 };
        if !done && room >= batch {
            out.clear();
            let now = Instant::now();
            let nanos = u64::try_from((now - epoch).as_nanos()).unwrap_or(0);
            for _ in 0..batch {
                sent += 1;
                body[..8].copy_from_slice(&sent.to_be_bytes());
                body[8..STAMP].copy_from_slice(&nanos.to_be_bytes());
                frame::write_fields(&mut out, CHANNEL, &publish);
                frame::write_content_header(&mut out, CHANNEL, 60, plan.size as u64, &properties);
                frame::write_body(&mut out, CHANNEL, &body, FRAME_MAX);
                if plan.window > 0 {
                    unconfirmed.push_back((sent, now));
                }
            }
            done = now >= end;
            if done {
                // Before the last messages go: the consumer that gets them shall know that they are the last.
                total.store(sent, Ordering::Release);
            }
            connection.write(&out)?;
        }
        while !unconfirmed.is_empty()
            && (done || connection.has_frame() || unconfirmed.len() as u64 + batch > plan.window)
        {
            confirmed(&mut connection, &mut unconfirmed, &mut latencies)?;
        }
    }
    // The answer comes behind everything that was published: a server may drop what a vanished client sent.
    connection.send_on(CHANNEL, &channel::Close { reply_code: 200, ..Default::default() }.into())?;
    connection.expect("channel.close-ok", |method| matches!(method, Method::ChannelCloseOk(_)))?;
    Ok(latencies)
}

/// Waits for one confirm.
fn confirmed(
    connection: &mut Connection,
    unconfirmed: &mut VecDeque<(u64, Instant)>,
    latencies: &mut Latencies,
) -> Result<()> {
    let frame = connection.next()?;
    if frame.kind == FrameKind::Heartbeat {
        return Ok(());
    }
    match Method::decode(frame.payload).context("read a confirm")? {
        Method::BasicAck(basic::Ack { delivery_tag, multiple: true }) => {
            while unconfirmed.front().is_some_and(|(tag, _)| *tag <= delivery_tag) {
                latencies.add(unconfirmed.pop_front().map_or(Duration::ZERO, |(_, sent)| sent.elapsed()));
            }
        }
        Method::BasicAck(basic::Ack { delivery_tag, .. }) => {
            let found = unconfirmed.iter().position(|(tag, _)| *tag == delivery_tag);
            let (_, sent) =
                found.and_then(|index| unconfirmed.remove(index)).context("an unknown confirm")?;
            latencies.add(sent.elapsed());
        }
        other => bail!("expected a confirm, got {other:?}"),
    }
    Ok(())
}

/// Consumes everything and returns the latencies from publish to delivery.
fn consume(
    plan: &Plan,
    name: &str,
    mut connection: Connection,
    barrier: &Barrier,
    epoch: Instant,
    total: &AtomicU64,
) -> Result<Latencies> {
    let mut latencies = Latencies::default();
    let (mut received, mut tag, mut left) = (0, 0, 0_usize);
    let mut out = Vec::new();
    barrier.wait();
    while received < total.load(Ordering::Acquire) {
        let frame = connection.next()?;
        match frame.kind {
            FrameKind::Method => match Method::decode(frame.payload).context("read a delivery")? {
                Method::BasicDeliver(deliver) => tag = deliver.delivery_tag,
                other => bail!("expected a delivery, got {other:?}"),
            },
            FrameKind::Header => left = plan.size,
            FrameKind::Body => {
                if left == plan.size {
                    let stamp = |range: std::ops::Range<usize>| {
                        let octets = frame.payload.get(range).and_then(|octets| octets.try_into().ok());
                        octets.map(u64::from_be_bytes).context("a body without a stamp")
                    };
                    received += 1;
                    ensure!(
                        stamp(0..8)? == received,
                        "{name}: message {} came as number {received}",
                        stamp(0..8)?
                    );
                    latencies.add(epoch.elapsed().saturating_sub(Duration::from_nanos(stamp(8..STAMP)?)));
                }
                left = left.saturating_sub(frame.payload.len());
            }
            FrameKind::Heartbeat => {}
        }
        let whole = frame.kind == FrameKind::Body && left == 0;
        if plan.persistent
            && whole
            && (received % ACK_EVERY == 0 || received == total.load(Ordering::Acquire))
        {
            out.clear();
            frame::write_ack(&mut out, CHANNEL, tag, true);
            connection.write(&out)?;
        }
    }
    connection.send_on(CHANNEL, &queue::Delete { queue: name, ..Default::default() }.into())?;
    connection.expect("queue.delete-ok", |method| matches!(method, Method::QueueDeleteOk(_)))?;
    Ok(latencies)
}
