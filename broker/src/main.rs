//! The broker program: an AMQP 0-9-1 broker that RabbitMQ's clients use unchanged, and its tools.

mod alarms;
mod allocator;
mod app;
mod auth;
mod cluster;
mod config;
mod connection;
mod counters;
mod ctl;
mod doors;
mod firehose;
mod forward;
mod gates;
mod listener;
mod management;
mod metadata;
mod node;
mod pager;
#[cfg(test)]
mod ports;
mod proxy_protocol;
mod replicate;
mod shard;
mod start;
mod storage;
mod tls;
mod tools;

use clap::{CommandFactory, Parser, Subcommand};
use config::cli::{NodeArgs, WitnessArgs};
use daemon::exit::Exit;
use std::process::ExitCode;

/// An AMQP 0-9-1 broker. Without a command it starts a working node.
#[derive(Debug, Parser)]
#[command(name = "broker", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    node: NodeArgs,
    #[command(subcommand)]
    command: Option<Tools>,
}

/// What the program does beside running a node.
#[derive(Debug, Subcommand)]
enum Tools {
    /// Manage a node: every command of rabbitmqctl, rabbitmq-diagnostics (`broker ctl help` lists them)
    #[command(disable_help_flag = true)]
    Ctl {
        /// The command and what it takes
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make this node a member of another one's cluster
    #[command(disable_help_flag = true)]
    Join {
        /// `rabbit@A`, `A:25672` or a token of `broker token`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Leave the cluster, and take up again the data from before joining
    #[command(disable_help_flag = true)]
    Leave {
        /// Options of `broker ctl`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Make a token with which another node can join
    #[command(disable_help_flag = true)]
    Token {
        /// `--minutes N`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Go on without a majority that is lost for good
    #[command(disable_help_flag = true)]
    Recover {
        /// `--new-generation`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a node that votes in a cluster and holds no queues
    Witness(WitnessArgs),
    /// Publish messages
    Pub(tools::publish::Args),
    /// Consume messages and show them
    Sub(tools::consume::SubArgs),
    /// Fetch single messages
    Get(tools::consume::GetArgs),
    /// Measure how many messages a broker moves
    Bench(tools::bench::Args),
    /// Watch a node: queues, rates, memory
    Top(tools::top::Args),
    /// Check everything between this host and a broker, and say what to do
    Doctor(tools::doctor::Args),
    /// Take over users, queues, policies and messages from a RabbitMQ
    Migrate(tools::migrate::Args),
    /// Make certificates for TLS between the nodes of a cluster
    Ca(tools::ca::Args),
    /// Write completions for a shell
    Completions(tools::manual::CompletionArgs),
    /// Write the manual pages into a folder
    Man(daemon::manual::ManArgs),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let called = daemon::run::program_name();
    if let Some(tool) = ctl::tool_called(&called) {
        return ctl::main(tool, &called, arguments.skip(1).collect());
    }
    // Taken as they are: options of `ctl` may stand anywhere.
    match arguments.nth(1).as_deref() {
        Some("ctl") => return ctl::main(ctl::Tool::Ctl, "broker ctl", arguments.collect()),
        Some(word @ ("join" | "leave" | "token" | "recover")) => {
            let words = std::iter::once(word.to_owned()).chain(arguments).collect();
            return ctl::main(ctl::Tool::Broker, "broker", words);
        }
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Help and version are answers, not mistakes. A closed terminal changes nothing.
            let _ = answer.print();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Ok }.into();
        }
    };
    let Some(command) = cli.command else {
        return daemon::run::main(|| start::run(&cli.node));
    };
    daemon::run::main(|| match command {
        // Carried out above.
        Tools::Ctl { .. }
        | Tools::Join { .. }
        | Tools::Leave { .. }
        | Tools::Token { .. }
        | Tools::Recover { .. } => Ok(()),
        Tools::Witness(args) => start::run(&args.node()),
        Tools::Pub(args) => tools::publish::run(&args),
        Tools::Sub(args) => tools::consume::subscribe(&args),
        Tools::Get(args) => tools::consume::get(&args),
        Tools::Bench(args) => tools::bench::run(&args),
        Tools::Top(args) => tools::top::run(&args),
        Tools::Doctor(args) => tools::doctor::run(&args),
        Tools::Migrate(args) => tools::migrate::run(&args),
        Tools::Ca(args) => tools::ca::run(&args),
        Tools::Completions(args) => tools::manual::completions(&args, Cli::command()),
        Tools::Man(args) => tools::manual::pages(&args, &Cli::command()),
    })
}
