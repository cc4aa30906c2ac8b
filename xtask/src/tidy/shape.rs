//! How files look: a first line that says what the file is for, a length that can be read, a known place.

use super::Finding;
use super::tree::Tree;

/// The lines a file may have without its tests.
const LIMIT: usize = 800;

/// What may lie at the top.
const TOP: &[&str] = &[
    ".cargo",
    ".ci",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "broker",
    "clippy.toml",
    "configs",
    "crates",
    "deny.toml",
    "docs",
    "proxy",
    "rustfmt.toml",
    "tests",
    "vip-agent",
    "xtask",
];

/// Every Rust file begins with `//!`.
pub(super) fn header(tree: &Tree) -> Vec<Finding> {
    tree.rust("")
        .filter(|(_, text)| !text.is_empty() && !text.starts_with("//!"))
        .map(|(path, _)| Finding::new(path, 1, "a file begins with `//!`: what it is for"))
        .collect()
}

/// No Rust file is longer than [`LIMIT`] lines. Tests do not count, nor do files that a program wrote.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    let long = |(path, text): (&str, &str)| {
        let lines = lines_without_tests(path, text);
        let advice = format!("{lines} lines without tests, more than {LIMIT}: split it by idea");
        (lines > LIMIT).then(|| Finding::new(path, LIMIT + 1, advice))
    };
    tree.rust("").filter_map(long).collect()
}

/// How many lines a file has outside its test modules.
fn lines_without_tests(path: &str, text: &str) -> usize {
    let is_test = path.split('/').any(|part| ["tests", "tests.rs", "fuzz", "benches"].contains(&part));
    let is_generated = text.lines().take(5).any(|line| line.contains("@generated"));
    if is_test || is_generated {
        return 0;
    }
    let mut count = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens_tests = line == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if opens_tests {
            // rustfmt puts the end of a top-level module at the first column.
            for inner in lines.by_ref() {
                if inner == "}" {
                    break;
                }
            }
        } else {
            count += 1;
        }
    }
    count
}

/// Nothing lies at the top that the map does not show.
pub(super) fn top_level(tree: &Tree) -> Vec<Finding> {
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for (path, _) in tree.files() {
        let top = path.split('/').next().unwrap_or_default();
        if !TOP.contains(&top) && !seen.contains(&top) {
            seen.push(top);
            findings.push(Finding::new(path, 1, format!("`{top}` is not on the list of top-level entries")));
        }
    }
    findings
}

/// The README names `cargo xtask up` and `cargo xtask test`, each on a line of its own, and every
/// `cargo xtask` command that it names exists.
pub(super) fn readme(tree: &Tree, commands: &[&str]) -> Vec<Finding> {
    let Some(text) = tree.text("README.md") else {
        return vec![Finding::new("README.md", 1, "there is no README.md")];
    };
    let mut findings = Vec::new();
    for needed in ["cargo xtask up", "cargo xtask test"] {
        if !text.lines().any(|line| line.split('#').next().unwrap_or_default().trim() == needed) {
            findings.push(Finding::new("README.md", 1, format!("the command `{needed}` is missing")));
        }
    }
    for (index, line) in text.lines().enumerate() {
        for rest in line.split("cargo xtask ").skip(1) {
            let word = rest.split(|it: char| !it.is_ascii_lowercase()).next().unwrap_or_default();
            if !word.is_empty() && !commands.contains(&word) {
                findings.push(Finding::new(
                    "README.md",
                    index + 1,
                    format!("there is no `cargo xtask {word}`"),
                ));
            }
        }
    }
    findings
}
