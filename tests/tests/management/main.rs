//! Managing the broker, as the programs of an operator see it: the HTTP API, the web pages, the command
//! line, the metrics.
//!
//! All tests share one broker, [`node`], and run at the same time; each uses a vhost and users of its own
//! (`node().api.vhost()`). A test that needs other settings starts a broker of its own
//! ([`harness::node::Node`]).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed step is a failed test, and what was measured is printed"
)]

mod browser;
mod cluster;
mod ctl;
mod front;
mod http;
mod http_client;
mod https;
mod intruders;
mod metrics;
mod migrate;
mod operations;
mod rabbitmqadmin;
mod recorded;

use harness::shared::Shared;

/// The broker of these tests, ours.
fn node() -> &'static Shared {
    Shared::node("management")
}
