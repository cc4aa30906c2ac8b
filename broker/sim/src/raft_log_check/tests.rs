//! The replicated log under every crash, and proof that the enumeration notices mistakes.

use super::*;
use crate::mutant::Mutation;

fn setup(seed: u64, mutation: Option<Mutation>) -> Setup {
    Setup { seed, steps: 60, choices: 3, mutation }
}

#[test]
fn no_crash_forgets_a_vote_or_loses_an_entry() {
    let mut total = Report::default();
    for seed in 1..=30 {
        let report = enumerate(&setup(seed, None));
        assert!(report.violations.is_empty(), "{}", report.violations.join("\n"));
        total.crash_points += report.crash_points;
        total.images += report.images;
        total.torn += report.torn;
    }
    println!("{total:?}");
    assert!(total.crash_points > 3000 && total.torn > 200, "{total:?}");
}

fn is_noticed(mutation: Mutation) -> bool {
    (1..=40).any(|seed| !enumerate(&setup(seed, Some(mutation))).violations.is_empty())
}

#[test]
fn a_missing_sync_is_noticed() {
    assert!(is_noticed(Mutation::NoDataSync));
}

#[test]
fn a_missing_directory_sync_is_noticed() {
    assert!(is_noticed(Mutation::NoDirSync));
}
