//! `cargo xtask soak proxy --minutes N`: everything at once for a long time, and memory that must stay flat.
//!
//! Sessions that live throughout, short connections to a pair of servers of which one is killed and started
//! again every second, bulk data, storms. Fails when a session that has nothing to do with the flapping server
//! is lost, or when the resident memory grows.

use super::programs;
use super::rivals::{self, Rival, Scratch};
use anyhow::{Context, Result, bail, ensure};
use std::process::Command;
use std::time::{Duration, Instant};
use xtask::lab::Process;

/// The balancer's memory is read this often.
const SAMPLE: Duration = Duration::from_secs(5);
/// What memory may grow by between the first third and the last one: a share, and KiB.
const GROWTH: (f64, f64) = (1.1, 1024.0);

/// Runs it.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let mut minutes = 5.0;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "proxy" => {}
            "--minutes" => {
                minutes = words.next().context("--minutes N")?.parse().context("read --minutes")?;
            }
            _ => bail!("`soak` takes `proxy --minutes N`, not `{word}`"),
        }
    }
    super::build()?;
    let scratch = Scratch::new("soak-proxy")?;
    let _echo = rivals::echo(&scratch)?;
    let balancer = rivals::proxy(&scratch)?;
    let time = Duration::from_secs_f64(minutes * 60.0);
    soak(&scratch, &balancer, time)
}

fn soak(scratch: &Scratch, balancer: &Rival, time: Duration) -> Result<()> {
    let pid = balancer.process.pid();
    let seconds = time.as_secs_f64().to_string();
    let load = |name: &str, address: &str, words: &[&str]| -> Result<Process> {
        let mut command = rivals::guarded(programs().join("load"));
        command.args(["tcp", address, &pid.to_string()]).args(words);
        Process::spawn(name, command, &scratch.log(name))
    };
    let start = Instant::now();
    let mut throughout = load("sessions", &balancer.address, &["ask", "20", &seconds])?;
    let mut churn = load("churn", &balancer.flapping, &["churn", "20", &seconds])?;
    let (mut samples, mut next) = (Vec::new(), SAMPLE);
    let mut flapping = Some(rivals::flapping(scratch)?);
    while start.elapsed() < time {
        let turn = start.elapsed();
        let bulk = ["pour", "2", "0.3"];
        let other = if samples.len() % 2 == 0 { &bulk[..] } else { &["storm", "500"] };
        let mut command = Command::new(programs().join("load"));
        command.args(["tcp", &balancer.other, &pid.to_string()]).args(other);
        xtask::lab::process::run(&mut command)?;
        flapping = if flapping.take().is_none() { Some(rivals::flapping(scratch)?) } else { None };
        ensure!(
            throughout.is_running() || start.elapsed() >= time,
            "a session was lost: {}",
            throughout.log()
        );
        if start.elapsed() >= next {
            next += SAMPLE;
            let resident = resident_kib(pid).context("the balancer has ended")?;
            println!("{:6.0} s  {resident:8} KiB", start.elapsed().as_secs_f64());
            samples.push(resident);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(start.elapsed() - turn));
    }
    for process in [&mut throughout, &mut churn] {
        let status = process.wait(Duration::from_secs(30))?;
        println!("{}: {}", process.name(), process.log().trim());
        ensure!(status.success(), "the load `{}` failed", process.name());
    }
    judge(&samples)
}

/// Whether memory stayed flat. What the first third needed to warm up is not counted.
fn judge(samples: &[u64]) -> Result<()> {
    let third = samples.len() / 3;
    if third == 0 {
        println!("too short to say anything about memory");
        return Ok(());
    }
    let median = |part: &[u64]| -> f64 {
        let mut part = part.to_vec();
        part.sort_unstable();
        part[part.len() / 2] as f64
    };
    let (before, after) = (median(&samples[third..2 * third]), median(&samples[samples.len() - third..]));
    println!("resident: {before:.0} KiB in the second third, {after:.0} KiB in the last");
    ensure!(after <= before * GROWTH.0 + GROWTH.1, "memory grows");
    Ok(())
}

fn resident_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_memory_is_told_from_flat() {
        assert!(judge(&[5_000, 9_000, 9_100, 9_000, 9_050, 9_100]).is_ok());
        assert!(judge(&[5_000, 9_000, 12_000, 15_000, 18_000, 21_000]).is_err());
        assert!(judge(&[1, 2]).is_ok());
    }
}
