//! Routes that move with the address, and addresses and routes that are there as long as the agent runs.

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
