//! Completions of shells and manual pages, made from the definitions that read the command line.

use std::path::{Path, PathBuf};

use clap::Command;
pub use clap_complete::Shell;
use clap_mangen::Man;

use crate::exit::Exit;
use crate::run::Failure;

/// What `completions` takes.
#[derive(Debug, clap::Args)]
pub struct CompletionArgs {
    /// For which shell
    pub shell: Shell,
}

/// What `man` takes.
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Folder for the pages
    pub folder: PathBuf,
}

/// The completions of a program for a shell, without the last line's end.
#[must_use]
pub fn completions(shell: Shell, mut program: Command) -> String {
    let name = program.get_name().to_owned();
    // Not straight to standard output: the generator panics when its reader goes away.
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut text);
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

/// The program, and each of its tools as `program-tool`, as people look for it with `man`.
#[must_use]
pub fn with_tools(program: &Command) -> Vec<Command> {
    // Gives options that every tool has to each of them.
    let mut program = program.clone();
    program.build();
    let shown = program.get_subcommands().filter(|tool| tool.get_name() != "help" && !tool.is_hide_set());
    let tools = shown.map(|tool| {
        let name: &'static str = format!("{}-{}", program.get_name(), tool.get_name()).leak();
        tool.clone().name(name)
    });
    std::iter::once(program.clone()).chain(tools).collect()
}

/// Writes a page for each of `commands` into `folder`, and returns where.
///
/// # Errors
/// The folder cannot be made or written to.
pub fn pages(folder: &Path, commands: impl IntoIterator<Item = Command>) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(Exit::CannotCreate, format!("cannot write into {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut written = Vec::new();
    for command in commands {
        let path = folder.join(format!("{}.1", command.get_name()));
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(failed)?;
        std::fs::write(&path, page).map_err(failed)?;
        written.push(path);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let tools = [Command::new("status").about("Shows it"), Command::new("guard").hide(true)];
        Command::new("prog").about("Does it").arg(clap::Arg::new("file").long("file")).subcommands(tools)
    }

    #[test]
    fn a_program_and_its_tools_have_pages_and_what_is_hidden_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let written = pages(folder.path(), with_tools(&program())).unwrap();
        let names: Vec<_> = written.iter().filter_map(|path| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["prog.1", "prog-status.1"]);
        let page = std::fs::read_to_string(&written[0]).unwrap();
        assert!(page.contains("Does it") && page.contains("\\-\\-file"), "{page}");
        let failure = pages(Path::new("/dev/null/x"), with_tools(&program())).unwrap_err();
        assert!(failure.message.contains("/dev/null/x"), "{failure}");
    }

    #[test]
    fn completions_name_tools_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text = completions(shell, program());
            assert!(text.contains("status") && text.contains("file"), "{shell}: {text}");
        }
    }
}
