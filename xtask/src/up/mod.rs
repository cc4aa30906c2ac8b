//! `cargo xtask up`, `down` and `status`: the stack on this machine, for people.
//!
//! One process, the supervisor, owns the stack: `up` itself, or a detached copy of it. The other commands
//! leave a request in `target/up/requests` and wait for the answer, so that they work from any terminal,
//! and also when the supervisor lives in a user namespace of its own.

mod enter;
mod follow;
mod request;
mod supervisor;

use anyhow::{Context, Result, bail, ensure};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use xtask::lab::process;
use xtask::lab::wait::{until, until_true};
use xtask::stack::{self, Cast, Maker};
use xtask::{install, root, target};

/// The folder of the running stack: state, logs, data.
fn folder() -> PathBuf {
    target().join("up")
}

/// The process id of the supervisor, if one runs.
fn supervisor() -> Option<u32> {
    let text = process::read_lossy(&folder().join("supervisor.pid"));
    let (pid, started) = text.trim().split_once(' ')?;
    let pid = pid.parse().ok()?;
    (process::exists(pid) && start_time(pid)? == started).then_some(pid)
}

/// When a process started, in clock ticks since boot: tells it from a later one with the same id.
fn start_time(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit_once(") ")?.1.split(' ').nth(19)?.to_owned())
}

/// `cargo xtask up …`.
pub(crate) fn run(words: &[&str]) -> Result<ExitCode> {
    match words {
        ["--kill", host] => ask(&format!("kill {}", known(host)?))?,
        ["--revive", host] => ask(&format!("revive {}", known(host)?))?,
        ["--exec", command @ ..] if !command.is_empty() => return exec(command),
        _ => {
            let mut detach = false;
            let mut theirs = String::new();
            let mut rest = words;
            loop {
                rest = match rest {
                    [] => break,
                    ["--detach", rest @ ..] => {
                        detach = true;
                        rest
                    }
                    ["--with", roles, rest @ ..] => {
                        (*roles).clone_into(&mut theirs);
                        rest
                    }
                    _ => bail!("`up` does not know {}; see `cargo xtask help`", rest.join(" ")),
                };
            }
            start(detach, &theirs)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn known(host: &str) -> Result<String> {
    let host = host.to_uppercase();
    let hosts = stack::BROKERS.iter().chain(&stack::BALANCERS);
    ensure!(
        hosts.clone().any(|it| *it == host),
        "there is no host `{host}`: A and B are the brokers, C and D the balancers"
    );
    Ok(host)
}

/// `cargo xtask down`.
pub(crate) fn down() -> Result<()> {
    let Some(pid) = supervisor() else {
        println!("nothing is up");
        return Ok(());
    };
    ask("down")?;
    until_true(Duration::from_secs(60), "the supervisor to end", || !process::exists(pid))?;
    println!("everything is down");
    Ok(())
}

/// `cargo xtask status`.
pub(crate) fn status() -> Result<()> {
    if supervisor().is_none() {
        println!("nothing is up; `cargo xtask up` starts the stack");
        return Ok(());
    }
    print!("{}", process::read_lossy(&folder().join("status")));
    Ok(())
}

fn ask(what: &str) -> Result<()> {
    let pid = supervisor().context("nothing is up; `cargo xtask up` starts the stack")?;
    print!("{}", request::ask(&folder(), pid, what)?);
    Ok(())
}

fn start(detach: bool, theirs: &str) -> Result<()> {
    if let Some(pid) = supervisor().filter(|pid| *pid != std::process::id()) {
        bail!(
            "the stack is up already (process {pid}): `cargo xtask status` shows it, `cargo xtask down` stops it"
        );
    }
    if !enter::is_inside() {
        let _ = std::fs::remove_dir_all(folder());
        build(theirs)?;
    }
    std::fs::create_dir_all(folder()).with_context(|| format!("create {}", folder().display()))?;
    if detach {
        return start_detached(theirs);
    }
    enter::user_namespace_if_needed(theirs)?;
    supervisor::run(theirs)
}

/// Builds the programs of ours that the stack needs, release, and installs what is missing.
fn build(theirs: &str) -> Result<()> {
    let cast = Cast::theirs(theirs);
    let mut needs = install::NETWORK.to_vec();
    needs.extend(if cast.broker == Maker::Theirs { install::RABBITMQ } else { &[] });
    needs.extend(if [cast.proxy, cast.agent_c, cast.agent_d].contains(&Maker::Theirs) {
        install::PEERS
    } else {
        &[]
    });
    if let Err(reason) = install::packages(&needs) {
        println!("note: {reason:#}");
    }
    if let Err(reason) = install::python() {
        println!("note: no Python client: {reason:#}");
    }
    let ours = cast.ours();
    if ours.is_empty() {
        return Ok(());
    }
    let mut cargo = xtask::cargo();
    cargo.args(["build", "--release", "--quiet"]).current_dir(root());
    for package in ours {
        cargo.args(["-p", package]);
    }
    ensure!(cargo.status().context("start cargo build")?.success(), "the programs do not build");
    Ok(())
}

/// Starts the supervisor as a process of its own and waits until the stack is ready.
fn start_detached(theirs: &str) -> Result<()> {
    let log = folder().join("up.log");
    let out = process::append(&log)?;
    let mut command = Command::new("setsid");
    command.arg(std::env::current_exe()?).args(["up", "--with", theirs]);
    command.env(enter::BUILT, "1").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let mut child = command.spawn().context("start the supervisor")?;
    let ready = folder().join("ready");
    let outcome = until(Duration::from_secs(120), "the stack", || {
        (ready.exists() || !matches!(child.try_wait(), Ok(None))).then_some(())
    });
    if !ready.exists() {
        let _ = child.kill();
        bail!("the stack did not come up ({outcome:?}):\n{}", process::tail(&process::read_lossy(&log), 60));
    }
    print!("{}", process::read_lossy(&folder().join("status")));
    println!("\n  running in the background: `cargo xtask down` stops it; log: {}", log.display());
    Ok(())
}

/// Runs a command on the client host, with this terminal.
fn exec(command: &[&str]) -> Result<ExitCode> {
    let pid = supervisor().context("nothing is up; `cargo xtask up` starts the stack")?;
    let namespace = process::read_lossy(&folder().join("client"));
    let mut call = if namespace.is_empty() {
        Command::new(command[0])
    } else if enter::is_own_user_namespace(pid) {
        let mut call = Command::new("nsenter");
        call.args(["--preserve-credentials", "-U", "-m", "-n", "-t", &pid.to_string()]);
        call.args(["ip", "netns", "exec", namespace.trim(), command[0]]);
        call
    } else {
        let mut call = Command::new("ip");
        call.args(["netns", "exec", namespace.trim(), command[0]]);
        call
    };
    Err(anyhow::Error::new(call.args(&command[1..]).exec()).context(format!("start {}", command[0])))
}
