//! The whole stack under traffic while its parts die, one fault for each test.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod configs;
mod containers;
mod documents;
mod packages;

use anyhow::{Context as _, ensure};
use harness::world::World;
use harness::{Needs, ready};
use std::time::Duration;
use xtask::stack::{Cast, Stack};

const NEEDS: &[Needs] = &[Needs::Network, Needs::Python];

#[test]
fn no_confirmed_message_is_lost_when_a_broker_is_killed_and_comes_back() {
    if !ready("a broker is killed", NEEDS) {
        return;
    }
    let world = World::start("broker-killed", Cast::from_environment()).unwrap();
    world
        .survives(
            "broker A killed with -9",
            |stack| stack.kill("A", "broker"),
            |stack| {
                stack.start_broker("A")?;
                stack.wait_listening("A", 5672)
            },
        )
        .unwrap();
}

#[test]
fn the_check_script_restarts_a_killed_proxy_on_the_holder_of_the_address() {
    if !ready("a proxy is killed", NEEDS) {
        return;
    }
    let world = World::start("proxy-killed", Cast::from_environment()).unwrap();
    let before = world.stack.pid("C", "proxy");
    world
        .survives(
            "proxy on the address's holder killed with -9",
            |stack| stack.kill("C", "proxy"),
            |stack| {
                assert_eq!(stack.holders(), ["C"], "the address stays: the proxy was restarted in time");
                let after = stack.pid("C", "proxy");
                assert!(after.is_some() && after != before, "{before:?}, then {after:?}");
                Ok(())
            },
        )
        .unwrap();
}

#[test]
fn the_address_moves_when_its_holder_loses_power_and_returns_with_it() {
    if !ready("the holder of the address loses power", NEEDS) {
        return;
    }
    let world = World::start("holder-off", Cast::from_environment()).unwrap();
    world
        .survives(
            "the address's holder lost power",
            |stack| stack.power_off("C"),
            |stack| {
                stack.wait_holder("D", Duration::from_secs(1))?;
                stack.power_on("C")?;
                stack.wait_holder("C", Duration::from_secs(20))
            },
        )
        .unwrap();
}

#[test]
fn the_doctors_drill_measures_what_a_client_notices_when_the_address_moves() {
    if !ready("doctor's drill", NEEDS) {
        return;
    }
    let world = World::start("drill", Cast::from_environment()).unwrap();
    let url = format!("amqp://laosun:123456@{}:5672/%2Flagou", xtask::stack::VIP);
    let drill = |stack: &Stack| {
        let agent = stack.pid("C", "vip-agent").context("no agent on C")?;
        let mut doctor =
            stack.place().command(xtask::stack::CLIENT, harness::programs::folder().join("broker"));
        doctor.args(["doctor", &url, "--seconds", "8", &format!("--drill=kill -9 {agent}")]);
        let told = xtask::lab::process::run(&mut doctor)?;
        let line = told.lines().last().unwrap_or_default();
        println!("{line}");
        ensure!(line.contains("failover drill") && line.contains(" without a confirm; "), "{told}");
        ensure!(!line.contains(" 0 confirmed") && !line.contains(" 0 connections lost"), "{told}");
        Ok(())
    };
    let heal = |stack: &Stack| {
        ensure!(stack.holders() == ["D"], "the address did not move");
        stack.start_agent("C")
    };
    world.survives("agent of the holder killed by a drill", drill, heal).unwrap();
}

#[test]
fn guest_is_refused_through_the_address_and_told_so() {
    if !ready("guest from another host", NEEDS) {
        return;
    }
    let world = World::start("guest", Cast::from_environment()).unwrap();
    let url = format!("amqp://guest:guest@{}:5672/%2F", xtask::stack::VIP);
    let python = xtask::install::python().unwrap();
    let mut hello = world.stack.place().command(xtask::stack::CLIENT, python);
    let refused =
        xtask::lab::process::run(hello.arg(harness::clients::script("hello")).arg(url)).unwrap_err();
    assert!(refused.to_string().contains("ACCESS_REFUSED"), "{refused}");
    world.survives("guest knocked", |_| Ok(()), |_| Ok(())).unwrap();
}

#[test]
fn the_other_broker_serves_while_one_has_no_power() {
    if !ready("a broker loses power", NEEDS) {
        return;
    }
    let world = World::start("broker-off", Cast::from_environment()).unwrap();
    world.survives("broker B lost power", |stack| stack.power_off("B"), |stack| stack.power_on("B")).unwrap();
}

#[test]
fn no_confirmed_message_is_lost_when_a_host_of_the_cluster_behind_the_balancers_loses_power() {
    if !ready("a host of the cluster loses power", NEEDS) {
        return;
    }
    let world = World::start_joined("cluster-host-off", Cast::from_environment()).unwrap();
    world
        .survives("A of the cluster lost power", |stack| stack.power_off("A"), |stack| stack.power_on("A"))
        .unwrap();
}
