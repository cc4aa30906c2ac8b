//! What is given to people has no symbols for debuggers in it: these lie beside it, for whoever has to read a core.

use crate::install::{self, Need};
use crate::lab::process::run;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that take ELF files apart.
const BINUTILS: &[Need] =
    &[Need { program: "objcopy", package: "binutils" }, Need { program: "strip", package: "binutils" }];

/// Takes the symbols out of a program, into a file of their own below `symbols`, which the program names. Returns that.
///
/// # Errors
/// binutils are missing, or refuse the file.
pub fn strip(program: &Path, symbols: &Path) -> Result<PathBuf> {
    install::packages(BINUTILS)?;
    std::fs::create_dir_all(symbols).with_context(|| format!("create {}", symbols.display()))?;
    let name = program.file_name().context("a program without a name")?;
    let kept = symbols.join(name).with_extension("debug");
    run(Command::new("objcopy").arg("--only-keep-debug").arg(program).arg(&kept))?;
    run(Command::new("strip").arg("--strip-unneeded").arg(program))?;
    // Debuggers look for the file by the name and the checksum that are noted here.
    let mut link = Command::new("objcopy");
    link.arg(format!("--add-gnu-debuglink={}", kept.display())).arg(program);
    run(&mut link)?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbols_of_a_program_are_beside_it_and_it_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let before = std::fs::metadata(&program).unwrap().len();
        let symbols = strip(&program, &folder.path().join("symbols")).unwrap();
        let sections = |path: &Path| run(Command::new("readelf").arg("-SW").arg(path)).unwrap();
        let left = sections(&program);
        assert!(!left.contains(".debug_info") && !left.contains(".symtab"), "{left}");
        assert!(left.contains(".gnu_debuglink"), "{left}");
        assert!(sections(&symbols).contains(".symtab"));
        assert!(std::fs::metadata(&program).unwrap().len() < before);
        // It is a program still.
        let listed = run(Command::new(&program).arg("--list")).unwrap();
        assert!(listed.contains("the_symbols_of_a_program"), "{listed}");
    }
}
