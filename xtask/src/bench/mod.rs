//! `cargo xtask bench`: the same load on our program and on the one it replaces, in alternation.
//!
//! A benchmark tells; it never fails a build. All servers run on loopback with their own ports and data,
//! side by side, and only one is under load at a time. Of each figure the median over the rounds is shown.

mod backlog;
mod cluster;
mod loads;
mod management;
mod report;
mod rivals;
mod soak;
mod stack;

use anyhow::{Context, Result, bail, ensure};
use loads::Load;
use report::Report;
use rivals::{Rival, Scratch};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use xtask::lab::process;
use xtask::{install, root, target};

/// `cargo xtask soak proxy --minutes N`.
pub(crate) fn soak(words: &[&str]) -> Result<()> {
    soak::run(words)
}

/// Programs that are not optimised play: the benchmark itself is tried, and its figures mean nothing.
static TRIED: AtomicBool = AtomicBool::new(false);

/// The folder of the programs that play.
fn programs() -> PathBuf {
    target().join(if TRIED.load(Ordering::Relaxed) { "debug" } else { "release" })
}

/// `cargo xtask bench [broker|proxy|backlog|management|cluster|stack] [--rounds=N] [--write|--try]`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let known = |word: &&&str| ["--write", "--try"].contains(*word) || word.starts_with("--rounds=");
    if let Some(other) = words.iter().filter(|word| word.starts_with('-')).find(|word| !known(word)) {
        bail!("`bench` takes --write, --try and --rounds=N, not `{other}`");
    }
    TRIED.store(words.contains(&"--try"), Ordering::Relaxed);
    let write = words.contains(&"--write");
    ensure!(!write || !words.contains(&"--try"), "what was only tried is not written down");
    let rounds = words.iter().find_map(|word| word.strip_prefix("--rounds="));
    let rounds = rounds.map(|word| word.parse().context("read the number of --rounds=N")).transpose()?;
    let subjects: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with("--")).collect();
    let subjects =
        if subjects.is_empty() { vec!["broker", "proxy", "backlog", "management"] } else { subjects };
    let mut reports = Vec::new();
    for subject in subjects {
        reports.push(match subject {
            "broker" => broker(rounds)?,
            "proxy" => proxy(rounds)?,
            "backlog" => backlog::run()?,
            "management" => management::run()?,
            "cluster" => cluster::run(rounds)?,
            "stack" => stack::run(rounds)?,
            _ => bail!(
                "`bench` takes `broker`, `proxy`, `backlog`, `management`, `cluster` or `stack`, not `{subject}`"
            ),
        });
    }
    if write {
        let path = root().join("docs/benchmarks.md");
        std::fs::create_dir_all(root().join("docs"))?;
        for report in &reports {
            if let Some(plot) = report.plot() {
                std::fs::write(root().join("docs").join(report.plot_name()), plot.svg())?;
            }
        }
        std::fs::write(&path, report::document(&process::read_lossy(&path), &reports))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn broker(rounds: Option<usize>) -> Result<Report> {
    install::packages(install::RABBITMQ)?;
    build()?;
    let scratch = Scratch::new("bench-broker")?;
    let mut report = Report::new("broker", &["ours", "RabbitMQ", "relay"], rivals::DURABILITY);
    measure(
        &scratch,
        &[rivals::broker, rivals::rabbitmq, rivals::relay],
        loads::BROKER,
        rounds,
        &mut report,
    )?;
    report.divide(
        "time of a transaction by that of a confirm",
        (loads::CONFIRM, "messages/s"),
        (loads::TRANSACTION, "messages/s"),
        2.0,
    );
    println!("\n{}", report.text());
    Ok(report)
}

fn proxy(rounds: Option<usize>) -> Result<Report> {
    install::packages(install::PEERS)?;
    build()?;
    let scratch = Scratch::new("bench-proxy")?;
    let _echo = rivals::echo(&scratch)?;
    let mut report = Report::new("proxy", &["ours", "HAProxy"], rivals::RELAYING);
    measure(&scratch, &[rivals::proxy, rivals::haproxy], loads::PROXY, rounds, &mut report)?;
    println!("\n{}", report.text());
    Ok(report)
}

/// Builds the programs and what measures them.
fn build() -> Result<()> {
    xtask::build_programs(if TRIED.load(Ordering::Relaxed) { "dev" } else { "release" })
}

/// Puts each load on each side, in turn, and prints as it goes.
fn measure(
    scratch: &Scratch,
    sides: &[fn(&Scratch) -> Result<Rival>],
    loads: &[Load],
    rounds: Option<usize>,
    report: &mut Report,
) -> Result<()> {
    let start = || sides.iter().map(|side| side(scratch)).collect::<Result<Vec<Rival>>>();
    let mut rivals = start()?;
    for load in loads {
        println!("{}", load.heading);
        if load.fresh {
            rivals.clear();
            rivals = start()?;
        }
        let mut results = vec![Vec::new(); rivals.len()];
        let allowed = |index: usize| load.rounds[index].min(rounds.unwrap_or(usize::MAX));
        for round in 0..(0..rivals.len()).map(allowed).max().unwrap_or(0) {
            if load.fresh && round > 0 {
                rivals.clear();
                rivals = start()?;
            }
            // Who begins changes, so that none always meets the machine as the same other left it.
            for index in (0..rivals.len()).map(|it| (it + round) % rivals.len()) {
                if round < allowed(index) {
                    let line = one(&rivals[index], load)?;
                    println!("  {:9} {line}", rivals[index].name);
                    results[index].push(line);
                }
            }
        }
        report.add(load, &results);
    }
    Ok(())
}

fn one(rival: &Rival, load: &Load) -> Result<String> {
    let mut command = Command::new(programs().join("load"));
    let spliced = load.arguments.contains(&loads::SPLICED);
    let address = if spliced { &rival.other } else { &rival.address };
    command.args([load.mode, address, &rival.process.pid().to_string()]);
    command.args(rival.login).args(load.arguments.iter().filter(|word| **word != loads::SPLICED));
    Ok(process::run(&mut command)?.trim().to_owned())
}
