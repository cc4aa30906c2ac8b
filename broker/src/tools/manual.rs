//! Completions of shells and manual pages, made from the same tables that read the command line.

use super::line;
use crate::ctl::{Tool, as_clap};
use clap::{Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use daemon::exit::Exit;
use daemon::run::Failure;
use std::path::PathBuf;

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

/// `broker man`
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Folder for the pages
    folder: PathBuf,
}

/// Writes completions to standard output.
pub(crate) fn completions(args: &CompletionArgs, broker: Command) -> Result<(), Failure> {
    let mut command = match args.program {
        Program::Broker => broker,
        Program::Rabbitmqctl => as_clap(Tool::Ctl),
        Program::RabbitmqDiagnostics => as_clap(Tool::Diagnostics),
        Program::RabbitmqPlugins => as_clap(Tool::Plugins),
        Program::RabbitmqQueues => as_clap(Tool::Queues),
        Program::RabbitmqUpgrade => as_clap(Tool::Upgrade),
    };
    let name = command.get_name().to_owned();
    // Not straight to standard output: the generator panics when its reader goes away.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut text);
    line(String::from_utf8_lossy(&text).trim_end())
}

/// Writes a page for each program, and for each tool of `broker`.
pub(crate) fn pages(args: &ManArgs, broker: &Command) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::CannotCreate, format!("cannot write into {}: {error}", args.folder.display()))
    };
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    let tools = broker.get_subcommands().filter(|tool| tool.get_name() != "help");
    let tools = tools.map(|tool| {
        // `man broker-pub`, as people look for it.
        let name: &'static str = format!("broker-{}", tool.get_name()).leak();
        tool.clone().name(name)
    });
    let programs = [Tool::Ctl, Tool::Diagnostics, Tool::Plugins, Tool::Queues, Tool::Upgrade].map(as_clap);
    for command in std::iter::once(broker.clone()).chain(tools).chain(programs) {
        let path = args.folder.join(format!("{}.1", command.get_name()));
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(failed)?;
        std::fs::write(&path, page).map_err(failed)?;
        line(&path.display().to_string())?;
    }
    Ok(())
}
