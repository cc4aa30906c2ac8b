//! A run of messages: publishers and consumers in threads, and what came of it.

use super::Target;
use super::connection::Connection;
use super::consumer::Consumer;
use super::figures::{Clock, Latencies, Line, cpu_seconds};
use super::plan::{Consuming, Plan, Receipt};
use super::publisher::Publisher;
use anyhow::Result;
use std::sync::atomic::{AtomicU64, Ordering};

/// A publisher that has not ended.
const PUBLISHING: u64 = u64::MAX;

/// Runs a plan and returns its figures. Rates and processor time are those of deliveries, and of publishes
/// when nobody consumes.
///
/// # Errors
/// A connection fails, or a message is lost, doubled or out of order.
pub fn run(target: &Target, plan: &Plan) -> Result<Line> {
    // Where there are several nodes, the queues are on the first.
    let mut admin = Connection::open(target)?;
    let (publishing, consuming) = (target.through(1), target.through(2));
    plan.declare(&mut admin)?;
    let clock = Clock::start();
    // The consumers are there before any message is.
    let consumed = if plan.consuming == Consuming::Nobody { 0 } else { plan.queues };
    let consumers = (0..consumed)
        .map(|index| Consumer::open(plan, &consuming, clock, index))
        .collect::<Result<Vec<Consumer>>>()?;
    let publishers = (0..plan.publishers())
        .map(|index| Publisher::open(plan, &publishing, clock, index))
        .collect::<Result<Vec<Publisher<'_>>>>()?;
    let totals: Vec<AtomicU64> = publishers.iter().map(|_| AtomicU64::new(PUBLISHING)).collect();

    let (cpu, start) = (cpu_seconds(&target.pids), clock.nanos());
    let (published, consumed) = std::thread::scope(|scope| {
        let consumers: Vec<_> = consumers
            .into_iter()
            .enumerate()
            .map(|(index, consumer)| {
                let total = &totals[index % totals.len()];
                let published = || match total.load(Ordering::Acquire) {
                    PUBLISHING => None,
                    total => Some(total),
                };
                scope.spawn(move || consumer.run(published))
            })
            .collect();
        let publishers: Vec<_> = publishers
            .into_iter()
            .zip(&totals)
            .map(|(publisher, total)| {
                scope.spawn(move || {
                    let result = publisher.run();
                    // Nobody shall wait for messages of a publisher that failed.
                    total.store(result.as_ref().map_or(0, |(count, ..)| *count), Ordering::Release);
                    result
                })
            })
            .collect();
        (Part::join(publishers), Part::join(consumers))
    });
    let (mut published, mut consumed) = (published?, consumed?);
    let cpu = cpu_seconds(&target.pids) - cpu;
    plan.delete(&mut admin)?;

    let counted = if plan.consuming == Consuming::Nobody { &published } else { &consumed };
    let mut line = Line::default();
    line.add("rate", counted.count as f64 / (counted.last.saturating_sub(start)) as f64 * 1e9);
    line.add("cpu_per_million", cpu / counted.count as f64 * 1e6);
    if plan.consuming != Consuming::Nobody {
        line.add_latencies("latency_p50_ms", "latency_p99_ms", &mut consumed.latencies);
    }
    if plan.receipt != Receipt::Nothing {
        line.add_latencies("receipt_p50_ms", "receipt_p99_ms", &mut published.latencies);
    }
    Ok(line)
}

/// What all publishers or all consumers did.
#[derive(Default)]
struct Part {
    count: u64,
    last: u64,
    latencies: Latencies,
}

impl Part {
    fn join(threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(u64, u64, Latencies)>>>) -> Result<Self> {
        let mut all = Self::default();
        for thread in threads {
            let (count, last, latencies) =
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            all.count += count;
            all.last = all.last.max(last);
            all.latencies.merge(latencies);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::super::relay;
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_relay_takes_what_a_run_sends_and_loses_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let journal = std::env::temp_dir().join(format!("relay-{}", std::process::id()));
        let path = journal.clone();
        std::thread::spawn(move || relay::serve(&listener, &path).unwrap());
        let guest = || "guest".to_owned();
        let (pids, others) = (vec![std::process::id()], Vec::new());
        let target =
            Target { address, others, user: guest(), password: guest(), vhost: "/".to_owned(), pids };
        for words in [
            &["seconds=0.1"][..],
            &["seconds=0.1", "queues=2", "persistent", "window=10", "ack"],
            &["seconds=0.1", "rate=1000", "size=16"],
            &["seconds=0.1", "window=1", "publish"],
        ] {
            let line = run(&target, &Plan::parse(words).unwrap()).unwrap().to_string();
            assert!(line.starts_with("rate=") && !line.contains("NaN"), "{words:?}: {line}");
        }
        let _ = std::fs::remove_file(journal);
    }
}
