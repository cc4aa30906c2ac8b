//! `cargo xtask tutorial`: the tutorial from its first connection to the drift of the address, on hosts with its names,
//! addresses and files. `tests/tutorial/steps.txt` says what is done and what has to be seen.

mod hosts;
mod steps;

use anyhow::{Context, Result, bail, ensure};
use hosts::{Hosts, Role};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use steps::{Action, Step};
use xtask::install::{self, Need};
use xtask::lab::network;
use xtask::libraries::Tutorial;
use xtask::{root, target};

/// What the tutorial's own lines call.
const LINES: &[Need] = &[Need { program: "killall", package: "psmisc" }];
/// Letters of a line that are shown.
const LONGEST: usize = 160;
/// Nothing takes longer.
const SOON: Duration = Duration::from_secs(30);

/// Builds the tutorial's programs, so that running them needs no network.
///
/// # Errors
/// Maven or a library cannot be had, or they do not compile.
pub(crate) fn prepare() -> Result<()> {
    install::packages(&[install::NETWORK, install::PEERS, LINES].concat())?;
    Tutorial::Java.program()?;
    Tutorial::Spring.program().map(drop)
}

/// Runs the tutorial; words pick sections. The first section, which makes the users, is always among them.
///
/// # Errors
/// A step has not shown what it should.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let begun = Instant::now();
    let steps = steps::read(&std::fs::read_to_string(root().join("tests/tutorial/steps.txt"))?)?;
    if let Err(why) = network::may() {
        bail!("the tutorial needs hosts of its own: {why}");
    }
    prepare()?;
    let folder = target().join("tutorial");
    let _ = std::fs::remove_dir_all(&folder);
    let programs = [("java", Tutorial::Java.program()?), ("spring", Tutorial::Spring.program()?)];
    let hosts = Hosts::new(&folder, &built()?, &programs)?;
    let first = steps.first().map(|step| step.section.clone()).unwrap_or_default();
    let picked = |step: &&Step| {
        let title = step.section.to_lowercase();
        words.is_empty() || step.section == first || words.iter().any(|it| title.contains(&it.to_lowercase()))
    };
    let (mut failed, mut done, mut section) = (0, 0, "");
    for step in steps.iter().filter(picked) {
        if section != step.section {
            section = &step.section;
            println!("\n{section}");
        }
        done += 1;
        failed += usize::from(!shows(&hosts, step));
    }
    drop(hosts);
    println!("\n{:.0} s", begun.elapsed().as_secs_f64());
    println!("{} passed, {failed} failed", done - failed);
    ensure!(
        failed == 0,
        "{failed} steps of the tutorial have not shown what they should; logs are in {}",
        folder.display()
    );
    Ok(())
}

/// The folder of our programs: `WARREN_BIN`, as for the tests, or what is built now.
fn built() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("WARREN_BIN") {
        return Ok(root().join(folder));
    }
    let mut cargo = xtask::cargo();
    cargo.args(["build", "--quiet", "-p", "broker", "-p", "proxy", "-p", "vip-agent"]).current_dir(root());
    ensure!(cargo.status().context("start cargo")?.success(), "the programs do not build");
    Ok(target().join("debug"))
}

/// Does it, and prints what was expected and, where that is not what was seen, what was.
fn shows(hosts: &Hosts, step: &Step) -> bool {
    let begun = Instant::now();
    let seen = does(hosts, &step.action);
    let wrong = match &seen {
        Ok(output) => step.wrong(output),
        Err(error) => Some(format!("{error:#}")),
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!("  {} {}  ({seconds:.1} s)", if wrong.is_none() { "ok  " } else { "FAIL" }, step.action);
    for pattern in &step.expected {
        println!("         expected  {pattern}");
    }
    for pattern in &step.unwanted {
        println!("         not       {pattern}");
    }
    match (&wrong, &seen) {
        (None, Ok(output)) => {
            step.matching(output).into_iter().for_each(seen_line);
        }
        (Some(wrong), seen) => {
            println!("         line {} of steps.txt: {wrong}", step.line);
            let output = seen.as_deref().unwrap_or_default();
            output.lines().for_each(seen_line);
        }
        (None, Err(_)) => {}
    }
    wrong.is_none()
}

/// Prints the beginning of a line, without what a terminal would obey.
fn seen_line(line: &str) {
    let plain = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    println!("         seen      {}", plain.take(LONGEST).collect::<String>());
}

fn does(hosts: &Hosts, action: &Action) -> Result<String> {
    let nothing = |()| String::new();
    let words: Vec<&str> = match action {
        Action::Shell { host, line } => return hosts.shell(host, line),
        Action::Act(words) => words.iter().map(String::as_str).collect(),
    };
    match words[..] {
        ["start", host, role] => hosts.start(host, Role::named(role)?).map(nothing),
        ["stop", host, role] => hosts.signal(host, Role::named(role)?, "TERM").map(nothing),
        ["kill", host, role] => hosts.signal(host, Role::named(role)?, "KILL").map(nothing),
        ["off", host] => hosts.power_off(host).map(nothing),
        ["on", host] => hosts.power_on(host).map(nothing),
        ["copy", from, to, path] => hosts.copy(from, to, path).map(nothing),
        ["holder", host] => hosts.wait_holder(host, SOON).map(nothing),
        ["until", host, ref line @ ..] => hosts.until(host, &line.join(" "), SOON),
        _ => bail!("there is no such step"),
    }
}
