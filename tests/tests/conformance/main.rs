//! What an AMQP 0-9-1 client can see of the broker, frame by frame, as RabbitMQ 3.10 does it.
//!
//! ```sh
//! cargo xtask test conformance                       # our broker
//! cargo xtask test conformance --against rabbitmq    # RabbitMQ itself: are the expectations right?
//! ```
//!
//! All tests share one broker and run at the same time; each uses names or a vhost of its own. A test that
//! needs other settings, or a restart, starts a broker of its own. Users, vhosts, permissions and policies are
//! made with the HTTP API, which both have. Where the two differ on purpose (`docs/differences.md`) a test
//! states both with `ours_or_theirs`.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod acknowledging;
mod alarms;
mod authorisation;
mod channels;
mod clients;
mod confirms;
mod connections;
mod consuming;
mod content;
mod dead_letters;
mod delayed;
mod exchanges;
mod firehose;
mod framing;
mod lapin;
mod limits_and_ttl;
mod policies;
mod priorities;
mod publishing;
mod queues;
mod quorum;
mod reply_to;
mod restart;
mod routing;
mod timeouts;
mod transactions;
mod tutorial;

use harness::shared::Shared;
use harness::wire::Client;

/// The broker that all tests share.
fn node() -> &'static Shared {
    Shared::node("conformance")
}

/// A client of it that is logged in as guest, with channel 1 open.
fn client() -> Client {
    node().client()
}
