//! SIGHUP changes what changed and nothing else.

use crate::{ours, pair};
use harness::pair::{Pair, Settings};
use std::time::Duration;
use xtask::lab::wait::until_true;
use xtask::stack::{Place, VIP};

const SOON: Duration = Duration::from_secs(20);
const SECOND_VIP: &str = "192.168.204.67";

/// Each reload writes one line with this word, a refused one too.
fn reloads(pair: &Pair) -> usize {
    pair.agent_log("C").matches("reloaded").count()
}

/// Reloads C with this text and waits until it is done, or refused.
fn reload(pair: &Pair, text: &str) {
    let before = reloads(pair);
    pair.reload("C", text).unwrap();
    until_true(SOON, "the reload", || reloads(pair) > before).unwrap();
}

fn transitions(pair: &Pair) -> usize {
    pair.agent_log("C").matches("transition").count()
}

#[test]
fn reload_keeps_mastership_and_adds_and_removes_addresses() {
    let Some(pair) = ours().and_then(|cast| pair("reload", cast, Settings::default())) else { return };
    let text = pair.configuration("C");
    let before = (transitions(&pair), pair.last_event());
    reload(&pair, &text);
    let more = text.replace("192.168.204.66/24\n", "192.168.204.66/24\n        192.168.204.67/24\n");
    assert_ne!(more, text);
    reload(&pair, &more);
    let Place::Network(network) = pair.stack.place() else { panic!("hosts") };
    let has = || network.addresses("C").iter().any(|it| it == SECOND_VIP);
    until_true(SOON, "the second address", has).unwrap();
    // D knows nothing of it, and the two go on as before.
    let heard = pair.adverts().len();
    until_true(SOON, "four more adverts", || pair.adverts().len() > heard + 4).unwrap();
    assert!(pair.adverts()[heard..].iter().all(|(from, _)| from == "192.168.204.143"), "D stays BACKUP");
    assert!(pair.agent_log("D").contains("names other virtual addresses"), "but it says so");
    reload(&pair, &text);
    until_true(SOON, "the second address to go", || !has()).unwrap();
    let gone: Vec<_> = pair.address_events("C", &before.1).into_iter().filter(|(_, gone)| *gone).collect();
    assert!(gone.is_empty(), "{VIP} never left C: {gone:?}");
    assert_eq!(transitions(&pair), before.0, "no transition");
    assert_eq!(pair.stack.holders(), ["C"]);
    pair.passed();
}

#[test]
fn a_bad_file_is_refused_and_a_lower_priority_moves_the_address() {
    let Some(pair) = ours().and_then(|cast| pair("reload-bad", cast, Settings::default())) else { return };
    let text = pair.configuration("C");
    reload(&pair, &text.replace("priority 100", "priority 10O"));
    let log = pair.agent_log("C");
    assert!(log.contains("10O") && log.contains("the old one stays in force"), "{log}");
    assert_eq!((pair.stack.holders(), transitions(&pair)), (vec!["C"], 2), "{log}");
    // An editor that writes the file anew has it empty for a moment.
    reload(&pair, "");
    let log = pair.agent_log("C");
    assert!(log.contains("the file names nothing at all"), "{log}");
    assert_eq!((pair.stack.holders(), transitions(&pair)), (vec!["C"], 2), "{log}");
    let outage =
        pair.moves("D", |pair| pair.reload("C", &text.replace("priority 100", "priority 80"))).unwrap();
    assert!(outage < 2.0, "a lower priority is told at once, not after {outage} s");
    pair.passed();
}
