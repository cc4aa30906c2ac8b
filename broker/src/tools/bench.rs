//! `broker bench`: how many messages a broker moves, and how long each takes.

use super::connection::{Connection, PATIENCE};
use super::{Place, line};
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use daemon::exit::Exit;
use daemon::run::Failure;
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Octets of a message at least: its number and the time.
const SMALLEST: usize = 16;
/// Octets that are put together before they are sent.
const BATCH: usize = 64 * 1024;
/// Microseconds that are told apart at most: an hour.
const LONGEST: u64 = 3_600_000_000;
/// How long the consumer waits for what is still on its way.
const TAIL: Duration = Duration::from_secs(5);
/// Deliveries that are acknowledged together.
const ACKNOWLEDGED: u64 = 100;

/// `broker bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Octets of a message
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(16..=16_777_216))]
    size: u64,
    /// Messages that may wait for their confirm
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    unconfirmed: u64,
    /// Persistent messages in a durable queue
    #[arg(long)]
    persistent: bool,
    #[command(flatten)]
    place: Place,
}

/// What both sides see.
struct Shared {
    began: Instant,
    published: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// What one side measured.
struct Measured {
    messages: u64,
    seconds: f64,
    /// Microseconds.
    latency: Histogram<u64>,
    lost: u64,
    duplicated: u64,
}

/// Measures.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let name = format!("bench-{:08x}", rand::random::<u32>());
    let mut publisher = Connection::to(&args.place)?;
    let mut consumer = Connection::to(&args.place)?;
    let declare =
        queue::Declare { queue: &name, durable: args.persistent, auto_delete: true, ..Default::default() };
    publisher.declare(declare)?;
    publisher.confirm()?;
    consumer.call(basic::Qos { prefetch_count: 1000, ..Default::default() }, "basic.qos-ok")?;
    consumer.call(basic::Consume { queue: &name, ..Default::default() }, "basic.consume-ok")?;
    let shared = Shared { began: Instant::now(), published: AtomicU64::new(0), done: AtomicBool::new(false) };
    let (published, consumed) = std::thread::scope(|scope| {
        let consuming = scope.spawn(|| consume(&mut consumer, &shared));
        let published = publish(&mut publisher, &shared, args, &name);
        shared.done.store(true, Ordering::Release);
        (
            published,
            consuming.join().unwrap_or_else(|_| Err(Failure::new(Exit::Software, "the consumer failed"))),
        )
    });
    let (published, consumed) = (published?, consumed?);
    publisher.close()?;
    consumer.close()?;
    let line_of = |word: &str, measured: &Measured, what: &str| {
        let rate = (measured.messages as f64 / measured.seconds.max(0.001)) as u64;
        let at = |quantile: f64| measured.latency.value_at_quantile(quantile) as f64 / 1000.0;
        format!(
            "  {word:<10} {:>10}   {rate:>9} msg/s   {what} p50 {:.1} ms  p99 {:.1} ms",
            measured.messages,
            at(0.5),
            at(0.99)
        )
    };
    line(&line_of("published", &published, "confirms"))?;
    let tail = format!("   lost {}  duplicated {}", consumed.lost, consumed.duplicated);
    line(&format!("{}{tail}", line_of("consumed", &consumed, "end-to-end")))?;
    if consumed.lost > 0 {
        return Err(Failure::new(Exit::DataError, format!("{} messages were lost", consumed.lost)));
    }
    Ok(())
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(|error| Failure::new(Exit::Software, error.to_string()))
}

fn publish(
    connection: &mut Connection,
    shared: &Shared,
    args: &Args,
    queue: &str,
) -> Result<Measured, Failure> {
    let mut body = vec![b'x'; usize::try_from(args.size).unwrap_or(SMALLEST).max(SMALLEST)];
    let properties =
        BasicProperties { delivery_mode: Some(if args.persistent { 2 } else { 1 }), ..Default::default() };
    let publish = basic::Publish { routing_key: queue, ..Default::default() };
    let mut latency = histogram()?;
    // When each message left that is not confirmed, the oldest first.
    let mut waiting: VecDeque<u64> = VecDeque::new();
    let (mut number, mut confirmed) = (0u64, 0u64);
    let end = shared.began + Duration::from_secs(args.seconds);
    while Instant::now() < end {
        while (waiting.len() as u64) < args.unconfirmed && connection.waiting() < BATCH {
            let now = shared.now();
            body[..8].copy_from_slice(&number.to_be_bytes());
            body[8..16].copy_from_slice(&now.to_be_bytes());
            connection.publish(publish, &properties, &body);
            number += 1;
            waiting.push_back(now);
        }
        shared.published.store(number, Ordering::Release);
        let wait = if waiting.len() as u64 >= args.unconfirmed { PATIENCE } else { Duration::ZERO };
        settle(connection, wait, &mut waiting, &mut confirmed, shared, &mut latency)?;
    }
    while confirmed < number {
        if !settle(connection, PATIENCE, &mut waiting, &mut confirmed, shared, &mut latency)? {
            let text = format!("{} messages were not confirmed", number - confirmed);
            return Err(Failure::new(Exit::TempFail, text));
        }
    }
    let seconds = shared.began.elapsed().as_secs_f64();
    Ok(Measured { messages: number, seconds, latency, lost: 0, duplicated: 0 })
}

/// Takes confirms that have come; waits for one if told so. Whether any came.
fn settle(
    connection: &mut Connection,
    wait: Duration,
    waiting: &mut VecDeque<u64>,
    confirmed: &mut u64,
    shared: &Shared,
    latency: &mut Histogram<u64>,
) -> Result<bool, Failure> {
    connection.flush()?;
    let mut event = if wait.is_zero() { connection.next_known()? } else { connection.next(wait)? };
    let mut any = false;
    while let Some(found) = event {
        if let Method::BasicAck(ack) = found.method()? {
            any = true;
            let now = shared.now();
            // Confirms of one channel come in order here.
            while *confirmed < ack.delivery_tag {
                *confirmed += 1;
                if let Some(sent) = waiting.pop_front() {
                    latency.saturating_record(now.saturating_sub(sent));
                }
            }
        } else if let Method::BasicNack(_) = found.method()? {
            return Err(Failure::new(Exit::Unavailable, "the broker refused a message"));
        }
        event = connection.next_known()?;
    }
    Ok(any)
}

fn consume(connection: &mut Connection, shared: &Shared) -> Result<Measured, Failure> {
    let mut latency = histogram()?;
    let mut seen: Vec<u64> = Vec::new();
    let (mut messages, mut duplicated, mut unacknowledged, mut last) = (0u64, 0u64, 0u64, 0u64);
    let mut until = shared.began.elapsed();
    let mut done_at = None;
    loop {
        if shared.done.load(Ordering::Acquire) {
            let since = *done_at.get_or_insert_with(Instant::now);
            if messages - duplicated >= shared.published.load(Ordering::Acquire) || since.elapsed() > TAIL {
                break;
            }
        }
        let mut event = connection.next(Duration::from_millis(100))?;
        while let Some(found) = event {
            if let Method::BasicDeliver(deliver) = found.method()? {
                let number = octets(&found.body, 0);
                latency.saturating_record(shared.now().saturating_sub(octets(&found.body, 8)));
                duplicated += u64::from(!mark(&mut seen, number));
                messages += 1;
                last = deliver.delivery_tag;
                unacknowledged += 1;
                until = shared.began.elapsed();
            }
            if unacknowledged >= ACKNOWLEDGED {
                connection.acknowledge(last, true);
                unacknowledged = 0;
            }
            event = connection.next_known()?;
        }
        if unacknowledged > 0 {
            connection.acknowledge(last, true);
            unacknowledged = 0;
        }
    }
    let lost = shared.published.load(Ordering::Acquire).saturating_sub(messages - duplicated);
    Ok(Measured { messages, seconds: until.as_secs_f64(), latency, lost, duplicated })
}

fn octets(body: &[u8], from: usize) -> u64 {
    let part = body.get(from..from + 8).and_then(|part| part.try_into().ok());
    part.map_or(0, u64::from_be_bytes)
}

/// Notes a number; `false` when it was noted before.
fn mark(seen: &mut Vec<u64>, number: u64) -> bool {
    let (word, bit) = (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64));
    // What is no number of ours does not make us allocate.
    if word > seen.len() + (1 << 20) {
        return true;
    }
    if word >= seen.len() {
        seen.resize(word + 1, 0);
    }
    let new = seen[word] & bit == 0;
    seen[word] |= bit;
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_noted_once() {
        let mut seen = Vec::new();
        assert!(mark(&mut seen, 0) && mark(&mut seen, 63) && mark(&mut seen, 64));
        assert!(!mark(&mut seen, 63) && !mark(&mut seen, 0));
        assert!(mark(&mut seen, u64::MAX));
    }
}
