//! What the tools say about themselves.

use super::catalog::{self, Command, Tool};
use super::error::CtlError;
use super::run::Run;
use daemon::diagnostic::suggest;
use daemon::exit::Exit;
use std::fmt::Write as _;

/// Options that every command takes, for people.
const GENERAL: &str = "\
short     long              what it does
--------  ----------------  ---------------------------------------------------------
-n NODE   --node NODE       ask this node of the machine, or http://user:password@host
-p VHOST  --vhost VHOST     the vhost that is meant; / unless told otherwise
-q        --quiet           nothing but results
-s        --silent          nothing but results, and no column names
-t N      --timeout N       wait N seconds for an answer
          --formatter NAME  table, json, json_stream, csv, pretty_table or erlang
          --no-table-headers
                            no column names
          --data DIR        the node whose data is there
          --socket PATH     the node with this control socket
          --cacert FILE     certificates to trust, for https://
-?        --help            this text";

/// One line: how a command is used.
pub(super) fn usage(tool: &str, command: &Command) -> String {
    format!("{tool} [--node <node>] [--longnames] [--quiet] {} {}", command.name, command.usage)
        .trim_end()
        .to_owned()
}

/// All commands of a tool by group.
pub(super) fn overview(tool: Tool, called: &str) -> String {
    let mut text = format!(
        "\nUsage\n\n{called} [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]\n\nAvailable commands:\n"
    );
    let width = catalog::of(tool).map(|command| command.name.len()).max().unwrap_or(0);
    let mut group = "";
    for command in catalog::of(tool) {
        if command.group != group {
            group = command.group;
            // Writing to a string can not fail.
            let _ = write!(text, "\n{group}:\n\n");
        }
        let _ = writeln!(text, "   {:<width$}  {}", command.name, command.about);
    }
    if tool == Tool::Ctl {
        let _ = writeln!(
            text,
            "\nThe commands of rabbitmq-diagnostics ('help <command>' knows them) work here too."
        );
    }
    let _ = write!(text, "\nUse '{called} help <command>' to learn more about a specific command");
    text
}

/// A command that does not exist: the nearest, or all.
pub(super) fn not_found(tool: Tool, called: &str, name: &str) -> CtlError {
    let known = catalog::of(tool).map(|command| command.name);
    let text = match suggest(name, known) {
        Some(near) => format!("\nCommand '{name}' not found. \nDid you mean '{near}'? \n"),
        None => format!("\nCommand '{name}' not found. \n{}", overview(tool, called)),
    };
    CtlError::plain(Exit::Usage, text)
}

/// What `help` says about a command.
pub(super) fn about(called: &str, command: &Command) -> String {
    let usage = usage(called, command);
    format!("\nUsage\n\n{usage}\n\n{}.\n\nGeneral options\n\n{GENERAL}", command.about)
}

pub(super) fn help(run: &mut Run<'_>) -> Result<(), CtlError> {
    let tool = run.kind();
    let name = run.argument(0);
    if run.parsed.has("list-commands") {
        let names: Vec<&str> = catalog::of(tool).map(|command| command.name).collect();
        return run.print(&names.join("\n"));
    }
    if name.is_empty() {
        let text = overview(tool, run.tool);
        return run.print(&text);
    }
    let command = catalog::find(tool, name).ok_or_else(|| not_found(tool, run.tool, name))?;
    let text = about(run.tool, command);
    run.print(&text)
}

pub(super) fn autocomplete(run: &mut Run<'_>) -> Result<(), CtlError> {
    let (tool, prefix) = (run.kind(), run.argument(0));
    let found = catalog::of(tool).filter(|command| command.name.starts_with(prefix));
    let names: Vec<&str> = found.map(|command| command.name).collect();
    names.iter().try_for_each(|name| run.print(name))
}
