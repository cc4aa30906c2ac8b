//! `cargo xtask bench`: the same load on our program and on the one it replaces, in alternation.
//!
//! A benchmark tells; it never fails a build. Both servers run on loopback with their own ports and data,
//! side by side, and only one is under load at a time. Of each figure the median over the rounds is shown.

mod report;
mod rivals;

use anyhow::{Result, bail, ensure};
use report::Report;
use rivals::{Rival, Scratch};
use std::process::Command;
use xtask::lab::process;
use xtask::{install, root, target};

/// How often each side is measured.
const ROUNDS: usize = 3;

/// A load: its heading, and the arguments of the load generator around the server's address.
struct Load {
    heading: &'static str,
    mode: &'static str,
    arguments: &'static [&'static str],
}

/// Pairs of publisher and consumer, seconds, octets, window, kind.
const BROKER: &[Load] = &[
    Load {
        heading: "persistent, 1 KiB, at most 1000 unconfirmed, acknowledged",
        mode: "amqp",
        arguments: &["1", "4", "1024", "1000", "persistent"],
    },
    Load {
        heading: "persistent, 4 queues, 1 KiB, at most 1000 unconfirmed each, acknowledged",
        mode: "amqp",
        arguments: &["4", "4", "1024", "1000", "persistent"],
    },
    Load {
        heading: "persistent, 1 KiB, one at a time",
        mode: "amqp",
        arguments: &["1", "4", "1024", "1", "persistent"],
    },
    Load {
        heading: "transient, 1 KiB, no confirms, no acknowledgements",
        mode: "amqp",
        arguments: &["1", "4", "1024", "0", "transient"],
    },
];

/// What is done, clients, seconds.
const PROXY: &[Load] = &[
    Load { heading: "short connections, 4 clients", mode: "tcp", arguments: &["connect", "4", "4"] },
    Load { heading: "question and answer, 64 octets, 1 client", mode: "tcp", arguments: &["ask", "1", "4"] },
    Load {
        heading: "question and answer, 64 octets, 50 clients",
        mode: "tcp",
        arguments: &["ask", "50", "4"],
    },
];

/// `cargo xtask bench [broker|proxy] [--write]`.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let write = words.contains(&"--write");
    let subjects: Vec<&str> = words.iter().copied().filter(|word| *word != "--write").collect();
    let subjects = if subjects.is_empty() { vec!["broker", "proxy"] } else { subjects };
    let mut reports = Vec::new();
    for subject in subjects {
        reports.push(match subject {
            "broker" => broker()?,
            "proxy" => proxy()?,
            _ => bail!("`bench` takes `broker` or `proxy`, not `{subject}`"),
        });
    }
    if write {
        let path = root().join("docs/benchmarks.md");
        std::fs::create_dir_all(root().join("docs"))?;
        std::fs::write(&path, report::document(&reports))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

fn broker() -> Result<Report> {
    install::packages(install::RABBITMQ)?;
    build(&["broker"])?;
    let scratch = Scratch::new("bench-broker")?;
    let rivals = [rivals::broker(&scratch)?, rivals::rabbitmq(&scratch)?];
    let mut report =
        Report::new("broker", "RabbitMQ", rivals::DURABILITY, "cpu_per_million", "CPU s per million");
    measure(&rivals, BROKER, &mut report)?;
    Ok(report)
}

fn proxy() -> Result<Report> {
    install::packages(install::PEERS)?;
    build(&["proxy"])?;
    let scratch = Scratch::new("bench-proxy")?;
    let _echo = rivals::echo(&scratch)?;
    let rivals = [rivals::proxy(&scratch)?, rivals::haproxy(&scratch)?];
    let mut report =
        Report::new("proxy", "HAProxy", rivals::RELAYING, "cpu_per_thousand", "CPU s per thousand");
    measure(&rivals, PROXY, &mut report)?;
    Ok(report)
}

fn build(programs: &[&str]) -> Result<()> {
    println!("building, release");
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "-p", "tests", "--bin", "load"]).current_dir(root());
    ensure!(cargo.status()?.success(), "the load generator does not build");
    for program in programs {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--quiet", "-p", program]).current_dir(root());
        ensure!(cargo.status()?.success(), "{program} does not build");
    }
    Ok(())
}

/// Puts each load on each rival, in turn, and prints as it goes.
fn measure(rivals: &[Rival; 2], loads: &[Load], report: &mut Report) -> Result<()> {
    for load in loads {
        println!("{}", load.heading);
        let mut results = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            // Who begins changes, so that neither always meets the machine as the other left it.
            for index in [round % 2, 1 - round % 2] {
                let line = one(&rivals[index], load)?;
                println!("  {:9} {line}", rivals[index].name);
                results[index].push(line);
            }
        }
        report.add(load.heading, &results);
    }
    println!("\n{}", report.text());
    Ok(())
}

fn one(rival: &Rival, load: &Load) -> Result<String> {
    let mut command = Command::new(target().join("release/load"));
    command.arg(load.mode).arg(&rival.address).args(&rival.login).args(load.arguments);
    command.arg(rival.process.pid().to_string());
    Ok(process::run(&mut command)?.trim().to_owned())
}
