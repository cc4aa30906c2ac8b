//! What happens when the holder stops, dies or is cut off: each better than keepalived, or as good with it as peer.

use crate::hosts::guards;
use crate::{ours, pair};
use harness::pair::{Pair, Settings};
use std::time::Duration;
use xtask::lab::Network;
use xtask::lab::process;
use xtask::lab::wait::until_true;
use xtask::stack::{Cast, Maker, Place};

const SOON: Duration = Duration::from_secs(20);
const C: &str = "192.168.204.143";
const D: &str = "192.168.204.144";

fn network(pair: &Pair) -> &Network {
    let Place::Network(network) = pair.stack.place() else { panic!("these tests have hosts") };
    network
}

/// The address arrives at the successor before it leaves the stopping host: that is what makes the outage small,
/// however slow the machine is.
pub(crate) fn orderly_stop_keeps_the_address_until_the_successor_has_it(cast: Cast) {
    if cast.agent_c == Maker::Theirs {
        return;
    }
    let Some(pair) = pair("stop-order", cast, Settings::default()) else { return };
    let since = pair.last_event();
    let outage = pair.moves("D", |pair| pair.stack.terminate("C", "vip-agent")).unwrap();
    let first = |host: &str, gone: bool| {
        let events = pair.address_events(host, &since);
        events.into_iter().find(|(_, it)| *it == gone).map(|(time, _)| time)
    };
    let (came, went) = (first("D", false).unwrap(), first("C", true).unwrap());
    assert!(came < went, "it came to D at {came} and went from C at {went}");
    println!("orderly stop ({cast:?}): outage {:.0} ms", outage * 1000.0);
    pair.passed();
}

/// The winner of a healed split is heard before it hears the loser: with keepalived on both sides nobody then renews
/// what the neighbours know.
pub(crate) fn healed_partition_serves_the_client_at_once(cast: Cast) {
    if cast.agent_d == Maker::Theirs {
        // keepalived gives up without a word, and C cannot know that there was somebody.
        return;
    }
    let Some(pair) = pair("heal", cast, Settings::default()) else { return };
    network(&pair).isolate(&["C", "D"], true).unwrap();
    until_true(SOON, "both to be master", || pair.stack.holders() == ["C", "D"]).unwrap();
    pair.answers_from("D").unwrap();
    let heard = |source: &str| pair.adverts().iter().filter(|(from, _)| from == source).count();
    let before = heard(D);
    until_true(SOON, "an advert of D", || heard(D) > before).unwrap();
    // The next advert is C's: D hears the winner first.
    let silence = pair.moves("C", |pair| network(pair).isolate(&["C", "D"], false)).unwrap();
    assert!(silence < 5.0, "the neighbours have to be told, not to find out: {silence} s");
    println!("healed partition ({cast:?}): the client is served by C, longest silence {silence:.2} s");
    pair.passed();
}

/// The agent is killed and its host lives on: keepalived would leave the address on both.
pub(crate) fn killed_agent_gives_its_address_up(cast: Cast) {
    if cast.agent_c == Maker::Theirs {
        return;
    }
    let Some(pair) = pair("kill", cast, Settings::default()) else { return };
    let outage = pair.moves("D", |pair| pair.stack.kill("C", "vip-agent")).unwrap();
    println!("agent killed ({cast:?}): outage {outage:.2} s");
    pair.passed();
}

fn lease() -> Settings {
    Settings { globals: "    address_lease 5\n", ..Settings::default() }
}

/// The agent and its guard are killed: the kernel takes the address away by itself.
#[test]
fn an_address_without_agent_and_guard_expires() {
    let Some(pair) = ours().and_then(|cast| pair("expire", cast, lease())) else { return };
    let guards = guards(network(&pair), "C");
    assert_eq!(guards.len(), 1, "one guard for one agent");
    process::kill_tree(&guards);
    let outage =
        pair.moves_within("D", Duration::from_secs(15), |pair| pair.stack.kill("C", "vip-agent")).unwrap();
    assert!(process::descendants(&guards).into_iter().all(|pid| !process::exists(pid)));
    println!("agent and guard killed: outage {outage:.2} s, then the address on C expired");
    pair.passed();
}

/// An agent that is stuck is no better than a dead one, and no guard can see it.
#[test]
fn the_address_of_a_stuck_agent_expires_and_comes_back_with_it() {
    let Some(pair) = ours().and_then(|cast| pair("stuck", cast, lease())) else { return };
    let pid = pair.stack.pid("C", "vip-agent").unwrap();
    let stop = |_: &Pair| {
        process::signal(pid, nix::sys::signal::Signal::SIGSTOP);
        Ok(())
    };
    let outage = pair.moves_within("D", Duration::from_secs(15), stop).unwrap();
    println!("agent stuck: outage {outage:.2} s");
    let go_on = |_: &Pair| {
        process::signal(pid, nix::sys::signal::Signal::SIGCONT);
        Ok(())
    };
    pair.moves("C", go_on).unwrap();
    pair.passed();
}

/// A backup that finds the address on its host takes it away before it does anything else.
#[test]
fn leftovers_are_swept_at_the_start() {
    let Some(pair) = ours().and_then(|cast| pair("sweep", cast, Settings::default())) else { return };
    pair.stack.terminate("D", "vip-agent").unwrap();
    network(&pair).ip("D", "addr add 192.168.204.66/24 dev eth0").unwrap();
    assert_eq!(pair.stack.holders(), ["C", "D"]);
    pair.start_agent("D").unwrap();
    pair.stack.wait_holder("C", SOON).unwrap();
    let log = pair.agent_log("D");
    assert!(log.contains("removed a left-over address"), "{log}");
    pair.passed();
}

/// A returning host with `preempt_delay` leaves the address where it is for that long.
#[test]
fn a_returning_host_waits_its_preempt_delay() {
    let settings = Settings { instance: "    preempt_delay 3\n", ..Settings::default() };
    let Some(pair) = ours().and_then(|cast| pair("preempt-delay", cast, settings)) else { return };
    pair.moves("D", |pair| pair.stack.terminate("C", "vip-agent")).unwrap();
    let heard = pair.adverts().len();
    pair.moves("C", |pair| pair.start_agent("C")).unwrap();
    let log = pair.agent_log("C");
    assert!(log.contains("preempt_delay is over"), "{log}");
    let adverts = pair.adverts();
    let of_d = adverts[heard..].iter().take_while(|(from, _)| from == D).count();
    assert!(of_d >= 2 && adverts[heard..].iter().any(|(from, _)| from == C), "{adverts:?}");
    pair.passed();
}

/// With version 3 and ten adverts a second a dead host is noticed ten times as fast.
pub(crate) fn ten_adverts_a_second_notice_a_dead_host_at_once(cast: Cast) {
    let settings = Settings { version: 3, interval: "0.1", ..Settings::default() };
    let Some(pair) = pair("v3", cast, settings) else { return };
    let outage = pair.moves("D", |pair| pair.stack.power_off("C")).unwrap();
    assert!(outage < 2.0, "3 x 0.1 s and the skew time, not {outage} s");
    println!("holder lost power, version 3 with 0.1 s ({cast:?}): outage {outage:.2} s");
    pair.passed();
}

pub(crate) fn peers_are_reached_without_multicast(cast: Cast) {
    let settings = Settings { unicast: true, ..Settings::default() };
    let Some(pair) = pair("unicast", cast, settings) else { return };
    let outage = pair.moves("D", |pair| pair.stack.power_off("C")).unwrap();
    println!("holder lost power, unicast ({cast:?}): outage {outage:.2} s");
    pair.passed();
}
