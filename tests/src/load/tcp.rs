//! Short connections and question and answer through a TCP balancer, with an echo server behind it.

use super::figures::{Latencies, Line, cpu_seconds};
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Octets of a question.
const SIZE: usize = 64;

/// What every client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A connection for each question.
    Connect,
    /// Many questions over one connection.
    Ask,
}

/// Answers every octet with itself, for ever.
///
/// # Errors
/// The port is taken.
pub fn echo(port: u16) -> Result<()> {
    let listener =
        TcpListener::bind(("127.0.0.1", port)).with_context(|| format!("listen on port {port}"))?;
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { continue };
        std::thread::spawn(move || {
            let _ = stream.set_nodelay(true);
            let mut buffer = [0; 4096];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 || stream.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        });
    }
    Ok(())
}

/// Runs `clients` for a time and returns the figures.
///
/// # Errors
/// A connection fails.
pub fn run(address: &str, mode: Mode, clients: usize, time: Duration, pids: &[u32]) -> Result<Line> {
    let before = cpu_seconds(pids);
    let start = Instant::now();
    let mut latencies = Latencies::default();
    let mut count = 0_u64;
    std::thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> =
            (0..clients).map(|_| scope.spawn(|| client(address, mode, start + time))).collect();
        for client in clients {
            let (done, measured) = client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            count += done;
            latencies.merge(measured);
        }
        Ok(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(pids) - before;
    let mut line = Line::default();
    line.add("rate", count as f64 / seconds);
    line.add("cpu_per_thousand", cpu / count as f64 * 1e3);
    line.add_latencies("latency_p50_ms", "latency_p99_ms", &mut latencies);
    Ok(line)
}

fn client(address: &str, mode: Mode, end: Instant) -> Result<(u64, Latencies)> {
    let mut latencies = Latencies::default();
    let mut count = 0;
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(stream)
    };
    let question = [7; SIZE];
    let mut answer = [0; SIZE];
    let mut kept = None;
    while Instant::now() < end {
        let start = Instant::now();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => connect()?,
        };
        stream.write_all(&question)?;
        stream.read_exact(&mut answer).context("no answer")?;
        latencies.add(start.elapsed());
        count += 1;
        if mode == Mode::Ask {
            kept = Some(stream);
        }
    }
    Ok((count, latencies))
}
