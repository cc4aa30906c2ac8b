//! Tables of options: which keys a program's TOML has, and what a configuration is changed into by one of them.
//! The unit tests of the three programs include this file.

use std::collections::BTreeSet;

/// Generated from the code that reads the files.
pub(crate) const DOCUMENTED: &str = include_str!("../../docs/configuration.md");

/// What of the lines of `changed` is not in `base`, on one line.
pub(crate) fn difference(base: &str, changed: &str) -> String {
    let mut left: Vec<&str> = base.lines().collect();
    let mut new = Vec::new();
    for line in changed.lines() {
        match left.iter().position(|old| *old == line) {
            Some(at) => drop(left.remove(at)),
            None => new.push(line.trim().trim_end_matches(',')),
        }
    }
    new.join(" ")
}

/// The part of the documentation that is about one program.
pub(crate) fn part(program: &str) -> &'static str {
    let start =
        DOCUMENTED.find(&format!("\n## {program}: ")).expect("the document has a part for each program");
    let part = &DOCUMENTED[start + 1..];
    part.split("\n## ").next().unwrap_or(part)
}

/// The keys of one program's TOML, each behind the first name of its table.
pub(crate) fn documented(program: &str) -> BTreeSet<(&'static str, &'static str)> {
    let mut table = "";
    let mut keys = BTreeSet::new();
    for line in part(program).lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            table = heading.split("`, `").next().unwrap_or(heading).trim_matches('`');
        } else if let Some((names, _)) = line.strip_prefix("| `").and_then(|row| row.split_once("` |")) {
            keys.extend(names.split("`, `").map(|name| (table, name)));
        }
    }
    keys
}

/// The first word of a line, which is the key that it sets.
pub(crate) fn key(line: &str) -> &str {
    line.trim_start().split([' ', '=', '{', '(', '\n']).next().unwrap_or(line)
}

/// A line of a configuration, and what it does to the checked form.
#[derive(Debug)]
pub(crate) struct Row {
    /// Where it stands.
    pub(crate) section: String,
    /// What is written.
    pub(crate) line: String,
    expected: String,
}

/// The rows of a file in a folder of tests: `section :: line => what is different`, with `\n` for the end of a line.
pub(crate) fn load(path: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(path).expect("the rows are there");
    let rows = text.lines().filter(|row| !row.is_empty() && !row.starts_with('#'));
    rows.map(|row| {
        let (section, rest) = row.split_once(" :: ").expect("a row has a section");
        let (line, expected) = rest.split_once(" =>").expect("a row says what is different");
        let line = line.replace("\\n", "\n");
        Row { section: section.to_owned(), line, expected: expected.trim_start().to_owned() }
    })
    .collect()
}

/// Holds each row against what is found; fails with all that differ, as they would have to be written.
pub(crate) fn hold(rows: &[Row], found: impl Fn(&Row) -> String) {
    let mut wrong = String::new();
    for row in rows {
        let found = found(row).replace('\n', "\\n");
        if found != row.expected {
            let line = row.line.replace('\n', "\\n");
            wrong.push_str(&format!("{} :: {line} => {found}\n", row.section));
        }
    }
    assert!(wrong.is_empty(), "these rows are found otherwise:\n{wrong}");
}
