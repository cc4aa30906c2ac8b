//! Completions of shells and manual pages, made from the same tables that read the command line.

use super::line;
use crate::ctl::{Tool, as_clap};
use clap::{Command, ValueEnum};
use daemon::manual::{self, ManArgs, Shell};
use daemon::run::Failure;

/// A program that completions are for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Program {
    Broker,
    Rabbitmqctl,
    RabbitmqDiagnostics,
    RabbitmqPlugins,
    RabbitmqQueues,
    RabbitmqUpgrade,
}

/// `broker completions`
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// For which shell
    shell: Shell,
    /// For which program
    #[arg(long, value_enum, default_value = "broker")]
    program: Program,
}

/// Writes completions to standard output.
pub(crate) fn completions(args: &CompletionArgs, broker: Command) -> Result<(), Failure> {
    let command = match args.program {
        Program::Broker => broker,
        Program::Rabbitmqctl => as_clap(Tool::Ctl),
        Program::RabbitmqDiagnostics => as_clap(Tool::Diagnostics),
        Program::RabbitmqPlugins => as_clap(Tool::Plugins),
        Program::RabbitmqQueues => as_clap(Tool::Queues),
        Program::RabbitmqUpgrade => as_clap(Tool::Upgrade),
    };
    line(&manual::completions(args.shell, command))
}

/// Writes a page for each program, and for each tool of `broker`.
pub(crate) fn pages(args: &ManArgs, broker: &Command) -> Result<(), Failure> {
    let programs = [Tool::Ctl, Tool::Diagnostics, Tool::Plugins, Tool::Queues, Tool::Upgrade].map(as_clap);
    for path in manual::pages(&args.folder, manual::with_tools(broker).into_iter().chain(programs))? {
        line(&path.display().to_string())?;
    }
    Ok(())
}
