//! The balancer beside a real HAProxy with the same configuration file.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod agents;
mod balancing;
mod beside;
mod checks;
mod duo;
mod endings;
mod looking;
mod rules;
mod start;
mod storm;
mod verdicts;

const NEEDS: &[harness::Needs] = &[harness::Needs::Network, harness::Needs::Python, harness::PEERS];

/// What every configuration here has in common.
const COMMON: &str = "\
global
    maxconn 1000
defaults
    mode tcp
    timeout connect 1s
    timeout client 30s
    timeout server 30s
listen monitor
    bind :8100
    mode http
    stats enable
    stats uri /monitor
    stats refresh 5s
";
