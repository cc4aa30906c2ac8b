//! `cargo xtask tidy`: what the compiler and clippy do not check about the shape of this repository.
//!
//! Each rule returns its findings; one finding is one line of one file with what to do about it.

mod edges;
mod shape;
mod strangers;
#[cfg(test)]
mod tests;
mod tree;

use anyhow::{Result, bail};
use std::fmt;
use tree::Tree;

/// One place that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    path: String,
    line: usize,
    text: String,
}

impl Finding {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.text)
    }
}

/// Checks the working copy.
///
/// # Errors
/// A rule is broken; the findings were printed.
pub(crate) fn run(commands: &[&str]) -> Result<()> {
    let tree = Tree::of_working_copy()?;
    let findings = check(&tree, commands, &strangers::Machine::this());
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings", findings.len());
    }
    println!("tidy: {} files, nothing to say", tree.files().len());
    Ok(())
}

fn check(tree: &Tree, commands: &[&str], machine: &strangers::Machine) -> Vec<Finding> {
    let mut findings = edges::check(tree);
    findings.extend(shape::header(tree));
    findings.extend(shape::length(tree));
    findings.extend(shape::top_level(tree));
    findings.extend(shape::readme(tree, commands));
    findings.extend(strangers::check(tree, machine));
    findings.sort();
    findings
}
