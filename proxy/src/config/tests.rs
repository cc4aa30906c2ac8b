//! Every key of both files changes what the proxy does, or a remark says that it does not; the documentation says which
//! keys there are.
//!
//! A row is a section, a line that is put into a file that works, what is then different in the checked configuration,
//! and in brackets the codes of what is remarked. What the checked configuration does is tested beside the code that
//! carries it out.

use std::collections::BTreeSet;

use daemon::diagnostic::{Diagnostics, Severity};

use super::{Config, haproxy_cfg, toml, unused, validate};

mod haproxy_rows;
mod native_rows;
#[path = "../../../tests/options/rows.rs"]
mod rows;

const NATIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/native.rows");
const HAPROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/haproxy.rows");

type Read = (Config, Diagnostics);

fn native(section: &str, line: &str) -> Read {
    let mut config = Config::default();
    let read = toml::read(&native_rows::file(section, line), "proxy.toml", &mut config);
    checked(config, read.unwrap_or_else(|errors| errors))
}

fn haproxy(section: &str, line: &str) -> Read {
    let (mut config, mut remarks) = (Config::default(), Diagnostics::new());
    haproxy_cfg::Reader::default().read(
        &haproxy_rows::file(section, line),
        "haproxy.cfg",
        &mut config,
        &mut remarks,
    );
    checked(config, remarks)
}

fn checked(mut config: Config, mut remarks: Diagnostics) -> Read {
    validate::validate(&mut config, &mut remarks);
    unused::remarks(&config, &mut remarks);
    (config.without_places(), remarks)
}

/// What a line makes different, and what is remarked about it.
fn found(base: &Read, changed: &Read) -> String {
    let codes = |remarks: &Diagnostics| -> Vec<String> {
        let mark = |severity| if severity == Severity::Error { "!" } else { "" };
        remarks.iter().map(|remark| format!("[{}{}]", remark.code, mark(remark.severity))).collect()
    };
    let mut remarks = codes(&changed.1);
    for known in codes(&base.1) {
        if let Some(at) = remarks.iter().position(|code| *code == known) {
            remarks.remove(at);
        }
    }
    let difference = rows::difference(&format!("{:#?}", base.0), &format!("{:#?}", changed.0));
    [difference, remarks.join(" ")]
        .iter()
        .filter(|part| !part.is_empty())
        .cloned()
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn every_native_key_changes_what_it_says_and_nothing_else() {
    rows::hold(&rows::load(NATIVE), |row| found(&native(&row.section, ""), &native(&row.section, &row.line)));
}

#[test]
fn every_word_of_haproxy_cfg_changes_what_it_says_and_nothing_else() {
    rows::hold(&rows::load(HAPROXY), |row| {
        found(&haproxy(&row.section, ""), &haproxy(&row.section, &row.line))
    });
}

#[test]
fn no_documented_key_is_without_a_row() {
    let (native, haproxy) = (rows::load(NATIVE), rows::load(HAPROXY));
    let mut missing = rows::documented("proxy");
    assert!(missing.len() > 80, "the keys are found");
    for row in &native {
        missing.remove(&(row.section.as_str(), rows::key(&row.line)));
    }
    assert_eq!(missing, BTreeSet::new());
    let mut words = 0;
    for line in rows::part("proxy").lines().filter(|line| !line.starts_with(['|', '#'])) {
        let Some((heading, list)) = line.split_once(": `") else { continue };
        let known = HEADINGS.iter().find(|(text, _)| heading.starts_with(text));
        let (_, section) = known.unwrap_or_else(|| panic!("{heading}"));
        for word in list.trim_end_matches('`').split("`, `") {
            let has_row = haproxy.iter().any(|row| row.section == *section && rows::key(&row.line) == word);
            assert!(has_row, "{section}: {word}");
            words += 1;
        }
    }
    assert!(words > 200, "the words are found");
}

/// How the document's lists begin, and the section of their rows.
const HEADINGS: &[(&str, &str)] = &[
    ("Words of `global`", "global"),
    ("Words of proxy sections", "listen"),
    ("Words after `option`", "option"),
    ("Words after `timeout`", "timeout"),
    ("Words after `stats`", "stats"),
    ("Words of a `server` line", "server"),
    ("Words of a `bind` line", "bind"),
    ("What an acl can look at", "acl"),
    ("Words of a resolvers section", "resolvers"),
    ("Words of a userlist section", "userlist"),
];
