//! SIGHUP changes what changed and nothing else.

use crate::hosts::Hosts;
use crate::{ours, pair};
use harness::pair::{Pair, Settings};
use nix::sys::signal::Signal;
use std::time::Duration;
use xtask::lab::process::signal;
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

/// Who opens a pipe to read it waits for somebody who writes: for ever, if it is the loop that sends the adverts.
#[test]
fn a_pipe_in_the_place_of_the_configuration_is_refused_and_stops_nothing() {
    let Some(hosts) = Hosts::new("reload-pipe") else { return };
    let text = "vrrp_instance VI_1 {\n  interface eth0\n  virtual_router_id 6\n  virtual_ipaddress {\n    \
                192.168.204.66/24\n  }\n}\n";
    hosts.ours("C", "keepalived.conf", text);
    hosts.wait_holder("C", "D", VIP);
    let path = hosts.folder("C").join("keepalived.conf");
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    signal(hosts.pid("C"), Signal::SIGHUP);
    hosts.wait("the refusal", || hosts.log("C").contains("is a named pipe"));
    let sent = || hosts.status("C")["counters"]["adverts_sent"].as_u64().unwrap_or(0);
    let before = sent();
    hosts.wait("adverts", || sent() > before);
    // The same for what the file includes.
    std::fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&hosts.folder("C").join("more"), nix::sys::stat::Mode::from_bits_truncate(0o600))
        .unwrap();
    std::fs::write(&path, format!("include more\n{text}")).unwrap();
    signal(hosts.pid("C"), Signal::SIGHUP);
    hosts.wait("the second refusal", || hosts.log("C").matches("is a named pipe").count() >= 2);
    std::fs::write(&path, text).unwrap();
    signal(hosts.pid("C"), Signal::SIGHUP);
    hosts.wait("a reload that works", || hosts.log("C").matches("reloaded").count() >= 1);
    assert!(hosts.has("C", VIP));
    hosts.passed();
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
