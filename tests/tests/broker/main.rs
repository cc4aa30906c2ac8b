//! The broker as the official client sees it, and what it keeps when it dies.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints what it measured"
)]

mod backlog;
mod clients;
mod durability;
mod full_disk;
mod pressure;
mod start;
mod tls;
