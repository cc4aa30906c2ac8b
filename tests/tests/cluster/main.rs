//! Three brokers on hosts of their own, as one cluster: RabbitMQ's lines, what clients see of it, and faults.
//!
//! With `WARREN_THEIRS=broker` RabbitMQ plays the brokers: what is expected here has to hold for it too.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod clients;
mod faults;
mod life;
mod mirrors;
mod votes;

use harness::Needs;

const NEEDS: &[Needs] = &[Needs::Network, Needs::Python];
