//! Loads of things rather than messages: connections opened and closed, connections held, queues.

use super::Target;
use super::connection::Connection;
use super::figures::{Latencies, Line, cpu_seconds, resident_kib};
use super::plan::{declare_queue, delete_queue};
use anyhow::Result;
use std::time::{Duration, Instant};

/// How many threads open the connections that are held.
const OPENERS: usize = 4;

/// How long a server may put its memory in order before it is measured, after a first connection too: that
/// one may have brought tables that the others share.
const SETTLE: Duration = Duration::from_secs(3);

/// `clients` threads connect, open a channel and close, again and again.
///
/// # Errors
/// A connection fails.
pub fn churn(target: &Target, clients: usize, time: Duration) -> Result<Line> {
    let pids = target.pids.as_slice();
    let (cpu, start) = (cpu_seconds(pids), Instant::now());
    let client = || -> Result<Latencies> {
        let mut latencies = Latencies::default();
        while start.elapsed() < time {
            let began = Instant::now();
            Connection::open(target)?.close()?;
            latencies.add(began.elapsed());
        }
        Ok(latencies)
    };
    let mut latencies = Latencies::default();
    for part in in_threads(clients, |_| client())? {
        latencies.merge(part);
    }
    let (seconds, count) = (start.elapsed().as_secs_f64(), latencies.count() as f64);
    let mut line = Line::default();
    line.add("rate", count / seconds);
    line.add("cpu_per_thousand", (cpu_seconds(pids) - cpu) / count * 1e3);
    line.add_latencies("latency_p50_ms", "latency_p99_ms", &mut latencies);
    Ok(line)
}

/// Opens connections with a channel each, holds them, and tells what each costs in memory.
///
/// # Errors
/// A connection fails.
pub fn connections(target: &Target, count: usize) -> Result<Line> {
    let first = Connection::open(target)?;
    std::thread::sleep(SETTLE);
    let before = resident_kib(&target.pids);
    let held = in_threads(OPENERS, |index| {
        (index..count).step_by(OPENERS).map(|_| Connection::open(target)).collect::<Result<Vec<_>>>()
    })?;
    std::thread::sleep(SETTLE);
    let growth = resident_kib(&target.pids) - before;
    drop((first, held));
    let mut line = Line::default();
    line.add("kib_each", growth / count as f64);
    Ok(line)
}

/// Declares a queue and deletes it, again and again.
///
/// # Errors
/// The connection fails.
pub fn queues(target: &Target, durable: bool, time: Duration) -> Result<Line> {
    let mut connection = Connection::open(target)?;
    let (cpu, start) = (cpu_seconds(&target.pids), Instant::now());
    let mut count = 0.0;
    while start.elapsed() < time {
        declare_queue(&mut connection, "load", durable)?;
        delete_queue(&mut connection, "load")?;
        count += 1.0;
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut line = Line::default();
    line.add("rate", count / seconds);
    line.add("cpu_per_thousand", (cpu_seconds(&target.pids) - cpu) / count * 1e3);
    connection.close()?;
    Ok(line)
}

/// Declares durable queues, leaves them alone, and tells what each costs in memory.
///
/// # Errors
/// The connection fails.
pub fn idle_queues(target: &Target, count: usize) -> Result<Line> {
    let mut connection = Connection::open(target)?;
    std::thread::sleep(SETTLE);
    let before = resident_kib(&target.pids);
    (0..count).try_for_each(|index| declare_queue(&mut connection, &format!("load-{index}"), true))?;
    std::thread::sleep(SETTLE);
    let resident = resident_kib(&target.pids);
    let mut line = Line::default();
    line.add("kib_each", (resident - before) / count as f64);
    line.add("resident_mib", resident / 1024.0);
    connection.close()?;
    Ok(line)
}

pub(super) fn in_threads<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|index| scope.spawn(move || work(index))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        };
        threads.into_iter().map(join).collect()
    })
}
