//! The load generator of `cargo xtask bench`: raw AMQP over our codec, and plain TCP.
//!
//! Blocking sockets and one thread for each connection: the generator shall cost little beside the server.

pub mod away;
pub mod backlog;
mod connection;
mod consumer;
pub mod figures;
pub mod messages;
pub mod pages;
pub mod plan;
pub mod population;
mod publisher;
pub mod relay;
pub mod resume;
pub mod steady;
pub mod takeover;
pub mod tcp;

pub use connection::Target;
