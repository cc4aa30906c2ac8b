//! The load generator of `cargo xtask bench`: raw AMQP over our codec, and plain TCP.
//!
//! Blocking sockets and one thread for each connection: the generator shall cost little beside the server.

pub mod amqp;
mod connection;
pub mod figures;
pub mod tcp;
