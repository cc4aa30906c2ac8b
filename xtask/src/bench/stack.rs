//! `cargo xtask bench stack`: a whole deployment behind one address, ours beside keepalived, HAProxy and RabbitMQ.

use super::loads::{Load, STACK};
use super::report::Report;
use super::rivals::Scratch;
use super::{build, programs};
use crate::test;
use anyhow::{Context, Result, bail, ensure};
use std::process::Stdio;
use xtask::install;
use xtask::lab::network;

const REMARK: &str = "Both run the same files: `configs/stack/haproxy.cfg`, `keepalived-c.conf` and `keepalived-d.conf`, the \
check script, and the policy `{\"ha-mode\":\"all\",\"ha-sync-mode\":\"automatic\"}`. Two brokers, of which RabbitMQ's have no \
third vote and ours a witness; two balancers; all clients go through the address. Each program is on a host of its own, a \
network namespace of one machine, so all share its cores and its disk. Processor time and memory are those of all daemons. \
Outage: the longest time that a publisher with up to 200 messages on their way, 200 a second, was without a confirm. It makes a \
new connection when nothing came for three seconds. \"A broker\": the worse of the two.";

/// The columns.
const SIDES: &[&str] = &["ours", "the originals"];

/// Runs both sides, in turn.
pub(super) fn run(rounds: Option<usize>) -> Result<Report> {
    install::packages(&[install::NETWORK, install::PEERS, install::RABBITMQ].concat())?;
    if let Err(why) = network::may() {
        bail!("a deployment needs hosts of its own: {why}");
    }
    build()?;
    let scratch = Scratch::new("bench-stack")?;
    let mut report = Report::new("stack", SIDES, REMARK);
    let mut printed = vec![Vec::new(); SIDES.len()];
    for _ in 0..rounds.unwrap_or(1) {
        for (side, lines) in ["ours", "theirs"].into_iter().zip(&mut printed) {
            lines.extend(one(&scratch, side)?);
        }
    }
    for load in STACK {
        let results: Vec<Vec<String>> = printed.iter().map(|lines| of(load, lines)).collect();
        report.add(load, &results);
    }
    println!("\n{}", report.text());
    Ok(report)
}

/// What a side prints.
fn one(scratch: &Scratch, side: &str) -> Result<Vec<String>> {
    println!("{side}");
    let mut command = test::isolated(&programs().join("deployment"))?;
    command.arg(side).arg(scratch.folder(side)?).env("WARREN_BIN", programs());
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start a deployment")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{text}");
    ensure!(output.status.success(), "not everything was measured");
    Ok(text.lines().map(str::to_owned).collect())
}

/// What of it belongs to a load.
fn of(load: &Load, lines: &[String]) -> Vec<String> {
    let of = |line: &String| Some(line.strip_prefix(load.mode)?.strip_prefix('\t')?.to_owned());
    lines.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_load_finds_its_lines() {
        let lines = ["start\tfirst_s=1.500", "broker\toutage_s=0.100", "note", "start\tfirst_s=2.5"];
        let lines = lines.map(str::to_owned);
        let start = STACK.iter().find(|load| load.mode == "start").unwrap();
        assert_eq!(of(start, &lines), ["first_s=1.500", "first_s=2.5"]);
        assert!(of(STACK.iter().find(|load| load.mode == "power").unwrap(), &lines).is_empty());
    }
}
