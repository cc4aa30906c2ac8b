//! `cargo xtask`: the project's commands. `cargo xtask help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod bench;
mod chaos;
mod ci;
#[allow(unreachable_pub, reason = "called from here only")]
mod codegen;
mod docs;
mod failover;
mod release;
mod sim;
mod test;
mod tidy;
mod tutorial;
mod up;

use anyhow::{Result, bail};
use std::process::ExitCode;
use xtask::package::{self, Profile};

/// A command: its name, its arguments for the help text, and what it does.
type Row = (&'static str, &'static str, &'static str);

const COMMANDS: &[Row] = &[
    ("up", "[--detach] [--with ROLES]", "build and run the stack: brokers A, B; balancers C, D; one address"),
    (
        "up",
        "--kill HOST | --revive HOST",
        "cut the power of A, B, C or D in the running stack, or give it back",
    ),
    ("up", "--exec COMMAND…", "run a command on the client host of the running stack"),
    ("down", "", "take the stack down"),
    ("status", "", "show what runs and who holds the address"),
    ("test", "[GROUP]", "everything: unit, property, doc, and end to end in network namespaces"),
    ("test", "conformance --against rabbitmq", "are the expectations of the conformance tests RabbitMQ's?"),
    ("ci", "", "what has to pass before a change goes in: formats, lints, tidy, licences, docs, test"),
    (
        "bench",
        "[broker|proxy|backlog|management|cluster|stack] [--rounds=N] [--write|--try]",
        "ours beside RabbitMQ and HAProxy; --write makes docs/benchmarks.md",
    ),
    (
        "failover",
        "[--runs=N] [--write] [WORD…]",
        "how long the floating address is away when it moves, ours beside keepalived; --write makes docs/failover.md",
    ),
    ("soak", "proxy [--minutes N]", "everything at once for a long time; fails when memory grows"),
    (
        "sim",
        "[--seeds N] [--first N]",
        "mirrored queues under faults, in virtual time; the seed of a loss is printed",
    ),
    (
        "chaos",
        "[--minutes N] [--seed S] [--layout two|three] [--clients NAME,…] [--release] [--resume] [--write]",
        "the whole stack under clients and random faults: nothing confirmed is lost; --write makes docs/chaos.md, or with other clients docs/chaos-libraries.md",
    ),
    (
        "package",
        "[--profile dev] [--no-build] | --musl",
        "Debian packages of the three programs, or an archive of static ones, in target/package",
    ),
    ("release", "[--dry-run] VERSION", "version, tag, packages, sources and sums; sends nothing"),
    (
        "tutorial",
        "[WORD…]",
        "the tutorial, step by step, on hosts with its addresses and files; words pick sections",
    ),
    ("tidy", "", "check the shape of the repository: who may know whom, file headers, lengths"),
    ("docs", "[--check]", "write docs/configuration.md from the code, or check that it is current"),
    ("codegen", "[--check]", "write the generated AMQP methods, or check that they are current"),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(words: &[&str]) -> Result<ExitCode> {
    match words {
        [] | ["help" | "--help" | "-h"] => help(),
        ["up", rest @ ..] => return up::run(rest),
        ["down"] => up::down()?,
        ["status"] => up::status()?,
        ["test", rest @ ..] => test::command(rest)?,
        ["ci"] => ci::run(&names())?,
        ["bench", rest @ ..] => bench::run(rest)?,
        ["soak", rest @ ..] => bench::soak(rest)?,
        ["inside", rest @ ..] => test::inside(rest)?,
        ["failover", rest @ ..] => failover::run(rest)?,
        ["sim", rest @ ..] => sim::run(rest)?,
        ["chaos", rest @ ..] => chaos::run(rest)?,
        ["package", rest @ ..] => make_packages(rest)?,
        ["release", rest @ ..] => release::command(rest, &names())?,
        ["tutorial", rest @ ..] => tutorial::run(rest)?,
        ["tidy"] => tidy::run(&names())?,
        ["docs"] => docs::run(false)?,
        ["docs", "--check"] => docs::run(true)?,
        ["codegen"] => codegen::run(false)?,
        ["codegen", "--check"] => codegen::run(true)?,
        _ => bail!("unknown command `{}`; `cargo xtask help` lists them", words.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask package` with its arguments.
fn make_packages(words: &[&str]) -> Result<()> {
    if words == ["--musl"] {
        println!("{}", package::musl::archive(release::version()?.as_str())?.display());
        return Ok(());
    }
    let (mut profile, mut build) = (Profile::Release, true);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            "--no-build" => build = false,
            "--profile" => {
                profile = match rest.next() {
                    Some(&"dev") => Profile::Dev,
                    Some(&"release") => Profile::Release,
                    _ => bail!("`--profile` takes `dev` or `release`"),
                }
            }
            _ => bail!("`package` takes `--profile dev` and `--no-build`, or `--musl` alone, not `{word}`"),
        }
    }
    if build {
        package::compile(profile)?;
    }
    for path in package::packages(profile, &profile.folder())? {
        println!("{}", path.display());
    }
    Ok(())
}

/// The names of all commands.
fn names() -> Vec<&'static str> {
    COMMANDS.iter().map(|(name, ..)| *name).collect()
}

fn help() {
    println!("cargo xtask COMMAND\n");
    for (name, arguments, what) in COMMANDS {
        println!("  {:38} {what}", format!("{name} {arguments}"));
    }
}
