//! The protocol holds within small bounds, and every mutant is caught within them.

use super::{Bounds, Mutant, Outcome, explore};

/// More states than any of these explorations has.
const MOST: usize = 1_500_000;

/// States of the beginning of a longer exploration.
const BEGINNING: usize = 250_000;

/// Room for the shortest history that breaks a promise, per mutant.
fn bounds_for(mutant: Mutant) -> Bounds {
    let none = Bounds { publishes: 0, drops: 0, changes: 0, crashes: 0, downs: 0, collections: 0 };
    match mutant {
        Mutant::AckBeforeSync => Bounds { publishes: 1, crashes: 1, ..none },
        Mutant::ExpansionUncounted => Bounds { publishes: 1, changes: 2, ..none },
        Mutant::EarlyShrink => Bounds { publishes: 1, ..none },
        Mutant::ExpandBehind | Mutant::FillUncounted => Bounds { changes: 1, ..none },
        Mutant::StaleExpand => Bounds { publishes: 1, changes: 3, downs: 1, ..none },
        Mutant::NoFence => Bounds { publishes: 1, changes: 2, downs: 1, ..none },
        Mutant::FenceForgotten => Bounds { publishes: 1, changes: 2, crashes: 1, downs: 1, ..none },
        Mutant::ResumedEpoch => Bounds { publishes: 1, changes: 2, crashes: 1, ..none },
        Mutant::UnsyncedPromoted => Bounds { changes: 1, downs: 1, ..none },
        Mutant::ReconcileByPosition => Bounds { publishes: 2, changes: 2, downs: 1, ..none },
        Mutant::ReconcileKeeps => Bounds { drops: 1, changes: 1, ..none },
        Mutant::FillRevives => Bounds { drops: 1, changes: 1, ..none },
        Mutant::CollectedEarly => Bounds { collections: 1, ..none },
    }
}

#[test]
fn the_protocol_of_mirrored_queues_holds_in_every_small_history() {
    let whole = [
        Bounds { publishes: 1, drops: 0, changes: 0, crashes: 0, downs: 0, collections: 0 },
        Bounds { publishes: 0, drops: 1, changes: 0, crashes: 0, downs: 0, collections: 0 },
        Bounds { publishes: 0, drops: 0, changes: 1, crashes: 0, downs: 1, collections: 0 },
    ];
    for bounds in whole {
        let explored = explore(bounds, None, MOST);
        println!("{bounds:?}: {} states", explored.states);
        assert!(matches!(explored.outcome, Outcome::Holds), "{bounds:?}: {:?}", explored.outcome);
    }
    // Of longer histories, the beginnings.
    let beginnings = [
        Bounds { publishes: 1, drops: 0, changes: 1, crashes: 0, downs: 1, collections: 0 },
        Bounds { publishes: 1, drops: 0, changes: 2, crashes: 1, downs: 1, collections: 0 },
        Bounds { publishes: 0, drops: 1, changes: 1, crashes: 0, downs: 1, collections: 0 },
        Bounds { publishes: 0, drops: 1, changes: 0, crashes: 1, downs: 0, collections: 1 },
        Bounds { publishes: 2, drops: 1, changes: 3, crashes: 1, downs: 2, collections: 1 },
    ];
    for bounds in beginnings {
        let explored = explore(bounds, None, BEGINNING);
        println!("{bounds:?}: {} states", explored.states);
        assert!(!matches!(explored.outcome, Outcome::Broken(_)), "{bounds:?}: {:?}", explored.outcome);
    }
}

#[test]
fn every_broken_rule_of_the_protocol_is_noticed() {
    for mutant in Mutant::ALL {
        let explored = explore(bounds_for(mutant), Some(mutant), MOST);
        let Outcome::Broken(history) = explored.outcome else {
            panic!("{mutant:?} is not noticed in {} states: {:?}", explored.states, explored.outcome);
        };
        println!("{mutant:?}: {} states, {history:?}", explored.states);
        // The same histories without the mutant break nothing, or the bounds would prove nothing.
        let explored = explore(bounds_for(mutant), None, explored.states);
        assert!(!matches!(explored.outcome, Outcome::Broken(_)), "{mutant:?}: {:?}", explored.outcome);
    }
}
