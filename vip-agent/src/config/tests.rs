//! Every key of both files changes what the agent does, and nothing else; the documentation says which keys there are.
//!
//! A row is a section, a line that is put into a file that works, and what is then different in the checked
//! configuration; behind a dash, why the line is refused. What the checked configuration does is tested beside the code that carries it out.

use std::collections::BTreeSet;

use daemon::diagnostic::Severity;

use super::{check, keepalived_conf, toml};

mod keepalived_rows;
mod native_rows;
#[path = "../../../tests/options/rows.rs"]
mod rows;

const NATIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/native.rows");
const KEEPALIVED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/keepalived.rows");

/// What a line of the native file makes different.
fn native(section: &str, line: &str) -> String {
    let [before, after] = ["", line].map(|line| toml::parse(&native_rows::file(section, line), "vip.toml"));
    let (before, _) = before.expect("the file works without the line");
    match after {
        Ok((after, _)) => rows::difference(&format!("{before:#?}"), &format!("{after:#?}")),
        Err(remarks) => format!("- {}", remarks.render(false)),
    }
}

/// What a line of keepalived.conf makes different.
fn keepalived(section: &str, line: &str) -> String {
    let [before, after] = ["", line].map(|line| {
        let text = keepalived_rows::file(section, line);
        let (config, mut remarks) = keepalived_conf::parse(&text, "keepalived.conf", None);
        check::check(&config, "keepalived.conf", &mut remarks);
        (config, remarks)
    });
    assert!(!before.1.has_errors(), "{section}: {}", before.1.render(false));
    match after.1.iter().find(|remark| remark.severity == Severity::Error) {
        Some(error) => format!("- {}", error.message),
        None => rows::difference(&format!("{:#?}", before.0), &format!("{:#?}", after.0)),
    }
}

#[test]
fn every_native_key_changes_what_it_says_and_nothing_else() {
    rows::hold(&rows::load(NATIVE), |row| native(&row.section, &row.line));
}

#[test]
fn every_word_of_keepalived_conf_changes_what_it_says_and_nothing_else() {
    rows::hold(&rows::load(KEEPALIVED), |row| keepalived(&row.section, &row.line));
}

#[test]
fn no_documented_key_is_without_a_row() {
    let (native, keepalived) = (rows::load(NATIVE), rows::load(KEEPALIVED));
    let mut missing = rows::documented("vip-agent");
    assert!(missing.len() > 100, "the keys are found");
    for row in &native {
        missing.remove(&(row.section.as_str(), rows::key(&row.line)));
    }
    assert_eq!(missing, BTreeSet::new());
    // Of keepalived.conf the document has lists of words, each with a heading of its own.
    let mut words = 0;
    for part in rows::part("vip-agent").split("\n### keepalived.conf: ").skip(1) {
        let (heading, list) = part.split_once('\n').expect("a heading has a list");
        for word in list.trim().trim_matches('`').split("`, `") {
            let has_row = keepalived.iter().any(|row| row.section == heading && rows::key(&row.line) == word);
            assert!(has_row, "{heading}: {word}");
            words += 1;
        }
    }
    assert!(words > 100, "the words are found");
}
