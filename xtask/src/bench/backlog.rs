//! `cargo xtask bench backlog`: a queue that is much longer than memory through `kill -9`, and many idle queues.
//! Ours alone: RabbitMQ needs a quarter of an hour for so many messages.

use super::report::Report;
use super::rivals::{self, Rival, Scratch};
use super::{build, loads, one};
use anyhow::{Context, Result};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const REMARK: &str = "The limits are those that the broker was built for: what is resident does not depend on what \
lies in queues. Every message is read again, in order, after the broker was killed.";

pub(super) fn run() -> Result<Report> {
    build()?;
    let scratch = Scratch::new("bench-backlog")?;
    let mut report = Report::new("backlog", &["ours"], REMARK);
    let mut rival = rivals::broker(&scratch)?;
    load(&rival, &loads::FILL, "", &mut report)?;
    rival.process.kill();
    let began = Instant::now();
    rival = rivals::broker_again(&scratch)?;
    answer(&rival)?;
    let start = format!("start_s={:.3} ", began.elapsed().as_secs_f64());
    load(&rival, &loads::FIRST, &start, &mut report)?;
    load(&rival, &loads::DRAIN, "", &mut report)?;
    drop(rival);
    load(&rivals::broker(&scratch)?, &loads::QUEUES, "", &mut report)?;
    println!("\n{}", report.text());
    Ok(report)
}

fn load(rival: &Rival, load: &loads::Load, before: &str, report: &mut Report) -> Result<()> {
    println!("{}", load.heading);
    let line = format!("{before}{}", one(rival, load)?);
    println!("  {line}");
    report.add(load, &[vec![line]]);
    Ok(())
}

/// Waits until the broker speaks.
fn answer(rival: &Rival) -> Result<()> {
    let mut stream = TcpStream::connect(&rival.address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    stream.read_exact(&mut [0]).context("wait for connection.start")
}
