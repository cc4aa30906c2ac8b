//! The floating address: every test with our agent on both hosts, and with keepalived as its peer on
//! either side.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod alarms;
mod groups;
mod handover;
mod hosts;
mod looking;
mod privileges;
mod protocol;
mod reload;
mod routes;
mod tracking;
mod virtual_servers;

use harness::pair::{Pair, Settings};
use harness::{Needs, PEERS, ready};
use std::time::Duration;
use xtask::stack::{Cast, Maker};

const NEEDS: &[Needs] = &[Needs::Network, Needs::Python, PEERS];

/// Three adverts and the longest skew time: what may pass before a silent master is replaced.
const MASTER_DOWN: f64 = 3.0 + 1.0;

fn pair(name: &str, cast: Cast, settings: Settings) -> Option<Pair> {
    let makers = format!("{:?}-{:?}", cast.agent_c, cast.agent_d).to_lowercase();
    let name = format!("vip-{name}-{makers}");
    ready(&name, NEEDS).then(|| Pair::start(&name, cast, settings).unwrap())
}

/// Our agent on both hosts; `None` when the originals are to be shown.
fn ours() -> Option<Cast> {
    let given = Cast::from_environment();
    (given.agent_c == Maker::Ours).then_some(given)
}

fn holder_loses_power(cast: Cast) {
    let Some(pair) = pair("power", cast, Settings::default()) else { return };
    let outage = pair.moves("D", |pair| pair.stack.power_off("C")).unwrap();
    assert!((2.0..MASTER_DOWN + 0.5).contains(&outage), "{outage} s");
    assert_eq!(pair.stack.holders(), ["D"]);
    let back = pair.moves("C", |pair| pair.power_on("C")).unwrap();
    assert!(back < 1.0, "the higher priority takes over without a gap, not after {back} s");
    println!("holder lost power ({cast:?}): outage {outage:.2} s; on its return {back:.2} s");
    pair.passed();
}

fn orderly_stop_hands_over_at_once(cast: Cast) {
    let Some(pair) = pair("stop", cast, Settings::default()) else { return };
    let outage = pair.moves("D", |pair| pair.stack.terminate("C", "vip-agent")).unwrap();
    assert!(outage < 1.5, "a priority 0 advert is answered within the skew time, not after {outage} s");
    assert_eq!(pair.stack.holders(), ["D"], "the stopped agent took its address along");
    println!("agent stopped ({cast:?}): outage {outage:.2} s");
    pair.passed();
}

fn failing_check_moves_the_address_and_back(cast: Cast) {
    let Some(pair) = pair("check", cast, Settings::default()) else { return };
    let away = pair.moves("D", |pair| pair.fail_check("C", true)).unwrap();
    let back = pair.moves("C", |pair| pair.fail_check("C", false)).unwrap();
    assert!(away < 1.5 && back < 1.5, "{away} s, {back} s");
    println!("check failed and passed ({cast:?}): outage {away:.2} s and {back:.2} s");
    pair.passed();
}

fn without_preemption_the_address_stays(cast: Cast) {
    let settings = Settings { nopreempt: true, ..Settings::default() };
    let Some(pair) = pair("nopreempt", cast, settings) else { return };
    pair.moves("D", |pair| pair.stack.terminate("C", "vip-agent")).unwrap();
    pair.start_agent("C").unwrap();
    // Long enough for a preempting instance to have taken it: one master down interval.
    let stays = pair.stack.wait_holder("C", Duration::from_secs_f64(MASTER_DOWN + 1.0));
    assert!(stays.is_err() && pair.stack.holders() == ["D"], "{:?}", pair.stack.holders());
    pair.passed();
}

fn adverts_without_authentication_are_understood(cast: Cast) {
    let settings = Settings { password: None, ..Settings::default() };
    let Some(pair) = pair("noauth", cast, settings) else { return };
    let outage = pair.moves("D", |pair| pair.stack.terminate("C", "vip-agent")).unwrap();
    assert!(outage < 1.5, "{outage} s");
    pair.passed();
}

macro_rules! for_each_peer {
    ($($module:ident: $c:ident, $d:ident;)+) => { $(
        mod $module {
            use super::*;

            fn cast() -> Cast {
                let given = Cast::from_environment();
                if given.agent_c == Maker::Theirs { given } else {
                    Cast { agent_c: Maker::$c, agent_d: Maker::$d, ..given }
                }
            }

            #[test]
            fn holder_loses_power() { super::holder_loses_power(cast()); }
            #[test]
            fn orderly_stop_hands_over_at_once() { super::orderly_stop_hands_over_at_once(cast()); }
            #[test]
            fn failing_check_moves_the_address_and_back() {
                super::failing_check_moves_the_address_and_back(cast());
            }
            #[test]
            fn without_preemption_the_address_stays() { super::without_preemption_the_address_stays(cast()); }
            #[test]
            fn adverts_without_authentication_are_understood() {
                super::adverts_without_authentication_are_understood(cast());
            }
            #[test]
            fn orderly_stop_keeps_the_address_until_the_successor_has_it() {
                handover::orderly_stop_keeps_the_address_until_the_successor_has_it(cast());
            }
            #[test]
            fn healed_partition_serves_the_client_at_once() {
                handover::healed_partition_serves_the_client_at_once(cast());
            }
            #[test]
            fn killed_agent_gives_its_address_up() { handover::killed_agent_gives_its_address_up(cast()); }
            #[test]
            fn ten_adverts_a_second_notice_a_dead_host_at_once() {
                handover::ten_adverts_a_second_notice_a_dead_host_at_once(cast());
            }
            #[test]
            fn peers_are_reached_without_multicast() { handover::peers_are_reached_without_multicast(cast()); }
        }
    )+ };
}

for_each_peer! {
    ours: Ours, Ours;
    keepalived_on_d: Ours, Theirs;
    keepalived_on_c: Theirs, Ours;
}
