//! Routes that move with the address, and addresses and routes that are there as long as the agent runs.

use crate::hosts::{Hosts, guards};
use harness::scratch::Scratch;
use harness::{Needs, programs, ready};
use std::time::Duration;
use xtask::lab::{Network, Process, process, until};
use xtask::stack::{Cast, Maker};

const PATIENCE: Duration = Duration::from_secs(20);

fn config(priority: u8, route: &str) -> String {
    format!(
        "static_ipaddress {{\n  10.7.0.1/24 dev eth0\n}}\nstatic_routes {{\n  10.8.0.0/16 via 10.7.0.254 dev eth0\n}}\n\
         vrrp_instance VI_1 {{\n  interface eth0\n  virtual_router_id 6\n  priority {priority}\n  \
         virtual_ipaddress {{\n    192.168.204.66/24\n  }}\n  virtual_routes {{\n    \
         src 192.168.204.66 to 10.9.0.0/16 via 192.168.204.1 dev eth0\n    {route}\n  }}\n}}\n"
    )
}

const RULES: &str = "vrrp_instance VI_1 {
  interface eth0
  virtual_router_id 6
  virtual_ipaddress {
    192.168.204.66/24
  }
  virtual_rules {
    from 192.168.204.66/32 table 100 priority 50
    to 10.9.0.0/16 unreachable priority 60
    from 10.1.0.0/16 to 10.2.0.0/16 iif eth0 fwmark 24/31 table main preference 70
    from fd00:1::/64 table 6908 priority 80
  }
}
";

/// The rules of the master are those that keepalived makes, they go with the address, and what a crash leaves is swept.
#[test]
fn rules_come_and_go_with_the_address_and_are_keepaliveds() {
    let Some(hosts) = Hosts::new("rules") else { return };
    let rules = |host: &str| -> String {
        let [four, six] = ["-4 rule show", "-6 rule show"].map(|args| hosts.network.ip(host, args).unwrap());
        let own = |line: &&str| !line.starts_with("0:") && !line.starts_with("3276");
        four.lines().chain(six.lines()).filter(own).collect::<Vec<_>>().join("\n")
    };
    hosts.keepalived("D", RULES);
    hosts.wait("the rules of keepalived", || rules("D").lines().count() == 4);
    let theirs = rules("D");
    hosts.stop("D");
    hosts.wait("keepalived's rules to go", || rules("D").is_empty());
    hosts.ours("C", "keepalived.conf", RULES);
    hosts.wait("our rules", || rules("C") == theirs);
    // A reload changes one rule and leaves the rest.
    let path = hosts.write("C", "keepalived.conf", &RULES.replace("10.9.0.0", "10.8.0.0"));
    assert!(path.exists());
    process::signal(hosts.pid("C"), nix::sys::signal::Signal::SIGHUP);
    hosts.wait("the changed rule", || rules("C") == theirs.replace("10.9.0.0", "10.8.0.0"));
    // Agent and guard are killed: nobody is left to take the rules away.
    process::kill_tree(&guards(&hosts.network, "C"));
    hosts.kill("C");
    assert!(!rules("C").is_empty(), "a killed agent cannot take its rules along");
    // The next one is no master yet, and somebody else's rule stays.
    hosts.network.ip("C", "rule add from 10.77.0.0/16 table 100 priority 90").unwrap();
    let lower = RULES
        .replace("10.9.0.0", "10.8.0.0")
        .replace("virtual_router_id 6", "virtual_router_id 6\n  priority 50");
    hosts.keepalived("D", &RULES.split("  virtual_rules").next().map(|text| format!("{text}}}\n")).unwrap());
    hosts.wait("D to be master", || hosts.has("D", "192.168.204.66"));
    hosts.ours("C", "keepalived.conf", &lower);
    hosts.wait("the sweep", || rules("C").lines().count() == 1 && rules("C").contains("10.77.0.0"));
    hosts.passed();
}

/// The agent is killed and its host lives on: what led to the address goes with it, what is somebody else's stays.
#[test]
fn the_guard_takes_routes_and_rules_of_a_killed_agent_away() {
    let Some(hosts) = Hosts::new("guarded-routes") else { return };
    let config = config(100, "10.10.0.0/16 via 192.168.204.2 metric 7").replace(
        "  virtual_routes",
        "  virtual_rules {\n    from 10.12.0.0/16 table 100 priority 50\n  }\n  virtual_routes",
    );
    let ip = |args: &str| hosts.network.ip("C", args).unwrap();
    ip("rule add from 10.77.0.0/16 table 100 priority 90");
    hosts.ours("C", "keepalived.conf", &config);
    let there = || {
        let (routes, rules) = (ip("route show"), ip("rule show"));
        ["10.9.0.0/16", "10.10.0.0/16"]
            .map(|route| routes.contains(route))
            .into_iter()
            .chain([rules.contains("10.12.0.0/16")])
            .filter(|there| *there)
            .count()
    };
    hosts.wait("routes and rules of a master", || there() == 3);
    hosts.kill("C");
    hosts.wait("the guard", || there() == 0 && !hosts.has("C", "192.168.204.66"));
    assert!(ip("rule show").contains("10.77.0.0/16"), "{}", ip("rule show"));
    hosts.passed();
}

#[test]
fn routes_come_and_go_with_what_they_belong_to() {
    if Cast::from_environment().agent_c == Maker::Theirs || !ready("routes", &[Needs::Network]) {
        return;
    }
    let scratch = Scratch::new("routes").unwrap();
    let network = Network::new().unwrap();
    network.add_host("C", 143).unwrap();
    let file = scratch.path().join("keepalived.conf");
    std::fs::write(&file, config(100, "10.10.0.0/16 via 192.168.204.2 metric 7")).unwrap();
    let mut command = network.command("C", programs::folder().join("vip-agent"));
    command.arg("-f").arg(&file).arg("--runtime-dir").arg(scratch.path().join("run"));
    let mut agent = Process::spawn("vip-agent", command, &scratch.path().join("log")).unwrap();
    let routes = || network.ip("C", "route show").unwrap_or_default();
    let wait = |what: &str, good: &dyn Fn(&str) -> bool| {
        until(PATIENCE, what, || good(&routes()).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", routes()));
    };
    let of_master = [
        "10.9.0.0/16 via 192.168.204.1 dev eth0",
        "src 192.168.204.66",
        "10.10.0.0/16 via 192.168.204.2 dev eth0",
        "metric 7",
    ];
    wait("the routes of a master", &|text| of_master.iter().all(|part| text.contains(part)));
    assert!(routes().contains("10.8.0.0/16 via 10.7.0.254 dev eth0"), "{}", routes());
    assert!(network.addresses("C").contains(&"10.7.0.1".to_owned()));
    // A reload changes one route and leaves the rest.
    std::fs::write(&file, config(100, "10.11.0.0/16 via 192.168.204.2")).unwrap();
    process::signal(agent.pid(), nix::sys::signal::Signal::SIGHUP);
    wait("the changed route", &|text| {
        text.contains("10.11.0.0/16") && !text.contains("10.10.0.0/16") && text.contains("10.9.0.0/16")
    });
    agent.stop(PATIENCE);
    wait("nothing left", &|text| {
        !text.contains("10.8.0.0") && !text.contains("10.9.0.0") && !text.contains("10.11.0.0")
    });
    assert_eq!(network.addresses("C"), ["192.168.204.143"]);
    scratch.passed();
}
