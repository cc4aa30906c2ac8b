//! `cargo xtask ci`: what has to pass before a change goes in. `.ci/run` calls it.
//!
//! Not here: the advisory database of cargo-deny, which needs the network and changes by itself; a hosted
//! workflow (`.github/workflows/ci.yml`) asks it.

use crate::{chaos, codegen, docs, test, tidy};
use anyhow::{Context, Result, ensure};
use std::time::Instant;
use xtask::{install, root};

/// A step: its name, the arguments for cargo, and a variable to set.
type Step = (&'static str, &'static [&'static str], Option<(&'static str, &'static str)>);

const FIRST: &[Step] = &[
    ("format", &["fmt", "--all", "--", "--check"], None),
    ("lints", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"], None),
];

const THEN: &[Step] = &[
    (
        "bans, licences, sources",
        &["deny", "--log-level", "error", "check", "bans", "licenses", "sources"],
        None,
    ),
    ("documentation", &["doc", "--workspace", "--no-deps", "--quiet"], Some(("RUSTDOCFLAGS", "-D warnings"))),
];

/// Some of it; an hour is a command of its own. As in the tests, what fails on a machine that is busy with other things
/// is tried once more.
const CHAOS: &[&str] = &["--minutes", "5", "--seed", "1", "--again"];

/// Runs every step; the first that fails ends it.
///
/// # Errors
/// A step failed.
pub(crate) fn run(commands: &[&str]) -> Result<()> {
    let start = Instant::now();
    for step in FIRST {
        cargo(step)?;
    }
    println!("── tidy");
    tidy::run(commands)?;
    println!("── generated files");
    codegen::run(true)?;
    docs::run(true)?;
    install::cargo_deny()?;
    for step in THEN {
        cargo(step)?;
    }
    test::run(None, true)?;
    println!("── chaos");
    chaos::run(CHAOS)?;
    println!("everything passed in {:.1} min", start.elapsed().as_secs_f64() / 60.0);
    Ok(())
}

fn cargo((name, arguments, variable): &Step) -> Result<()> {
    println!("── {name}");
    let mut command = xtask::cargo();
    command.args(*arguments).current_dir(root()).envs(variable.iter().copied());
    let status = command.status().with_context(|| format!("start cargo {}", arguments[0]))?;
    ensure!(status.success(), "`cargo {}` failed", arguments.join(" "));
    Ok(())
}
