//! What the agent says when it cannot work.

use harness::scratch::Scratch;
use harness::{Needs, programs, ready};
use std::process::Command;
use std::time::Duration;
use xtask::lab::{Network, Process};
use xtask::stack::{Cast, Maker};

const CONFIG: &str = "vrrp_instance VI_1 {\n    state BACKUP\n    interface INTERFACE\n    virtual_router_id 66\n    \
                      priority 90\n    advert_int 1\n    virtual_ipaddress {\n        192.168.204.66/24\n    }\n}\n";

/// Runs the agent on a lone host and returns what it said when it gave up.
fn gives_up(name: &str, interface: &str, before: &[&str]) -> Option<String> {
    if Cast::from_environment().agent_c == Maker::Theirs || !ready(name, &[Needs::Network]) {
        return None;
    }
    let scratch = Scratch::new(name).unwrap();
    let file = scratch.path().join("keepalived.conf");
    std::fs::write(&file, CONFIG.replace("INTERFACE", interface)).unwrap();
    let network = Network::new().unwrap();
    network.add_host("C", 143).unwrap();
    let mut command = network.command("C", before.first().copied().unwrap_or("env"));
    command.args(before.iter().skip(1)).arg(programs::folder().join("vip-agent")).arg("-f").arg(&file);
    let mut process = Process::spawn("vip-agent", command, &scratch.path().join("log")).unwrap();
    let status = process.wait(Duration::from_secs(10)).unwrap();
    assert!(!status.success(), "{}", process.log());
    let text = process.log();
    scratch.passed();
    Some(text)
}

#[test]
fn an_unknown_interface_is_named() {
    let Some(text) = gives_up("unknown-interface", "ens99", &[]) else { return };
    assert!(text.contains("ens99"), "{text}");
}

#[test]
fn a_missing_privilege_is_named() {
    let drop = ["setpriv", "--bounding-set=-net_raw,-net_admin", "--inh-caps=-net_raw,-net_admin"];
    let Some(text) = gives_up("no-privilege", "eth0", &drop) else { return };
    assert!(text.contains("CAP_NET_"), "{text}");
}

#[test]
fn a_missing_configuration_file_is_named() {
    if Cast::from_environment().agent_c == Maker::Theirs {
        return;
    }
    let output =
        Command::new(programs::folder().join("vip-agent")).args(["-f", "/no/such.conf"]).output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains("/no/such.conf"), "{text}");
}
