//! The broker program: an AMQP 0-9-1 broker that RabbitMQ's clients use unchanged.

mod alarms;
mod allocator;
mod auth;
mod cluster;
mod config;
mod connection;
mod firehose;
mod listener;
mod management;
mod metadata;
mod node;
mod pager;
mod proxy_protocol;
mod shard;
mod start;
mod storage;
mod tls;

use clap::Parser;
use config::cli::NodeArgs;
use std::process::ExitCode;

/// An AMQP 0-9-1 broker. Without arguments it starts a working node.
#[derive(Debug, Parser)]
#[command(name = "broker", version)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    daemon::run::main(|| start::run(&cli.node))
}
