//! `cargo xtask failover`: how long a client is without an answer when the floating address moves, ours beside
//! keepalived. With `--write` the table goes into `docs/failover.md`.

use anyhow::{Context, Result, bail, ensure};
use std::process::Stdio;
use xtask::lab::process;
use xtask::{install, root};

/// The table stands between these lines.
const BEGIN: &str = "<!-- written by `cargo xtask failover --write` -->";
const END: &str = "<!-- end -->";

/// Runs the scenarios: `[--runs=N] [--write] [WORD…]`.
///
/// # Errors
/// An address does not move, or something does not build.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let (options, names): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("--"));
    let (mut runs, mut write) = ("5", false);
    for option in options {
        match option.strip_prefix("--runs=") {
            Some(number) => runs = number,
            None if option == "--write" => write = true,
            None => bail!("`failover` takes --runs=N, --write and words of a scenario, not `{option}`"),
        }
    }
    ensure!(!write || names.is_empty(), "--write writes the whole table");
    let packages: Vec<_> = install::NETWORK.iter().chain(install::PEERS).copied().collect();
    install::packages(&packages)?;
    let mut cargo = xtask::cargo();
    cargo
        .args(["run", "--quiet", "-p", "tests", "--bin", "failover", "--", runs])
        .args(names)
        .current_dir(root());
    let output = cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("start cargo")?;
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{table}");
    ensure!(output.status.success(), "not everything was measured");
    if write {
        let path = root().join("docs/failover.md");
        std::fs::write(&path, with_table(&process::read_lossy(&path), &table)?)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// The document with another table between the marks.
fn with_table(document: &str, table: &str) -> Result<String> {
    let (before, rest) = document.split_once(BEGIN).context("docs/failover.md has no place for the table")?;
    let (_, after) = rest.split_once(END).context("docs/failover.md has no end of the table")?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_the_one_before_and_nothing_else() {
        let document = format!("head\n\n{BEGIN}\n\nold\n\n{END}\n\nfoot\n");
        let expected = format!("head\n\n{BEGIN}\n\n| new |\n\n{END}\n\nfoot\n");
        assert_eq!(with_table(&document, "| new |\n").unwrap(), expected);
        assert_eq!(with_table(&expected, "| new |\n").unwrap(), expected);
        assert!(with_table("nothing", "x").is_err());
    }
}
