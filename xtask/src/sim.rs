//! `cargo xtask sim`: runs the simulated cluster of `broker/sim` with as many seeds as wanted.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// The test that runs seeds.
const TEST: &str = "cluster::tests::whatever_breaks_nothing_that_was_confirmed_is_lost";

/// `--seeds=N`, `--first=N`, each also as two words.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let seeds = number(words, "--seeds")?.unwrap_or(1000);
    let first = number(words, "--first")?.unwrap_or(1);
    let status = Command::new(env!("CARGO"))
        .args(["test", "-p", "broker-sim", "--lib", "--", "--exact", TEST, "--nocapture"])
        .env("WARREN_SIM_SEEDS", seeds.to_string())
        .env("WARREN_SIM_FIRST", first.to_string())
        .status()
        .context("failed to run cargo")?;
    ensure!(status.success(), "a seed failed: `cargo xtask sim --seeds 1 --first SEED` repeats it");
    Ok(())
}

fn number(words: &[&str], name: &str) -> Result<Option<u64>> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix(name) else { continue };
        let value = match rest.strip_prefix('=') {
            Some(value) => value,
            None => words.next().with_context(|| format!("{name} needs a number"))?,
        };
        return value.parse().map(Some).with_context(|| format!("{name}: `{value}` is not a number"));
    }
    Ok(None)
}
