//! Every key of both files, every flag and every variable changes what the node does, or a remark says that it does not.
//!
//! A row is a section, a line that is put into a file that works, what is then different in the checked configuration,
//! and in brackets the codes of what is remarked. What the checked configuration does is tested beside the code that
//! carries it out.

use super::*;
use crate::config::cluster::CookieSource;
use clap::Parser;
use std::collections::BTreeSet;

fn rows_of(name: &str) -> Vec<rows::Row> {
    rows::load(&format!("{}/src/config/tests/{name}.rows", env!("CARGO_MANIFEST_DIR")))
}

/// Files that lines may name: a certificate with its key, and who signs those of others. In lines and in what is found,
/// `FOLDER` stands for where they are.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = crate::tls::testing::server();
        for (name, text) in
            [("cert", &certificate), ("key", &key), ("ca", &crate::tls::testing::authority().0)]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        for (from, to) in [("cert", "cert2"), ("key", "key2")] {
            std::fs::copy(folder.path().join(from), folder.path().join(to)).unwrap();
        }
        std::fs::write(folder.path().join("secret"), "of a file\n").unwrap();
        Files(folder)
    }

    fn put(&self, text: &str) -> String {
        text.replace("FOLDER", &self.0.path().display().to_string())
    }

    fn take(&self, text: &str) -> String {
        text.replace(&self.0.path().display().to_string(), "FOLDER")
    }
}

/// Everything that a configuration says, secrets too, and the codes of the remarks about it.
type Seen = (String, Vec<&'static str>);

fn seen(read: Result<Config, Diagnostics>) -> Seen {
    let mut config = match read {
        Ok(config) => config,
        Err(errors) => return (errors.render(false), vec!["refused"]),
    };
    let remarks = std::mem::take(&mut config.warnings);
    let user = &config.default_user;
    let rights = (user.tags.clone(), user.permissions.clone());
    let passwords: Vec<String> = config
        .users
        .iter()
        .map(|user| match &user.password {
            ConfiguredPassword::Clear(text) => format!("Clear({text})"),
            ConfiguredPassword::Hashed(hash) => format!("Hashed({:?}, {})", hash.algorithm, hash.hash),
            ConfiguredPassword::None => "None".to_owned(),
        })
        .collect();
    let cookie = match &config.cluster.cookie {
        CookieSource::Given(cookie) => cookie.to_string(),
        _ => String::new(),
    };
    let secrets = (&user.password, &user.vhost, cookie, rights, passwords);
    (format!("{config:#?}{secrets:#?}"), remarks.iter().map(|remark| remark.code).collect())
}

/// What is different between two, with the new remarks in brackets.
fn found(files: &Files, (base, old): Seen, (changed, new): Seen) -> String {
    let mut left = old;
    let mut parts = vec![files.take(&rows::difference(&base, &changed))];
    for code in new {
        match left.iter().position(|known| *known == code) {
            Some(at) => drop(left.remove(at)),
            None => parts.push(format!("[{code}]")),
        }
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" ")
}

fn read(files: &Files, text: &str, file: &str) -> Seen {
    seen(Config::from_text(&files.put(text), file, &NodeArgs::default(), &environment()))
}

#[test]
fn every_native_key_changes_what_it_says_and_nothing_else() {
    let files = Files::new();
    rows::hold(&rows_of("native"), |row| {
        let file = |line: &str| read(&files, &native_rows::file(&row.section, line), "broker.toml");
        found(&files, file(""), file(&row.line))
    });
}

#[test]
fn every_key_of_rabbitmq_conf_changes_what_it_says_and_nothing_else() {
    let files = Files::new();
    rows::hold(&rows_of("rabbit"), |row| {
        let with = rabbit_rows::file(&row.line);
        let file = |line: &str| read(&files, &format!("{with}{line}\n"), "rabbitmq.conf");
        found(&files, file(""), file(&row.line))
    });
}

#[test]
fn no_documented_key_is_without_a_row() {
    let (native, rabbit) = (rows_of("native"), rows_of("rabbit"));
    let mut missing = rows::documented("broker");
    assert!(missing.len() > 70, "the keys are found");
    for row in &native {
        missing.remove(&(row.section.as_str(), rows::key(&row.line)));
    }
    assert_eq!(missing, BTreeSet::new());
    let list =
        rows::part("broker").split_once("any word: `").expect("the words of rabbitmq.conf are there").1;
    let words: Vec<&str> = list.trim_end().trim_end_matches('`').split("`, `").collect();
    assert!(words.len() > 60, "the words are found");
    for word in words {
        let fits = |key: &str| match word.strip_suffix('*') {
            Some(begin) => key.strip_prefix(begin).is_some_and(|end| !end.contains('.')),
            None => key == word,
        };
        assert!(rabbit.iter().any(|row| fits(rows::key(&row.line))), "{word}");
    }
}

/// The flags of a node as clap reads them.
#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    node: NodeArgs,
}

#[test]
fn every_flag_changes_what_it_says_and_nothing_else() {
    let files = Files::new();
    std::fs::write(files.0.path().join("broker.toml"), "[amqp]\nheartbeat = 7\n").unwrap();
    let load = |flags: &str| {
        let flags = files.put(flags);
        let flags = Flags::try_parse_from(["broker"].into_iter().chain(flags.split_whitespace())).unwrap();
        seen(Config::load(&flags.node, &environment()))
    };
    let flags = rows_of("flags");
    rows::hold(&flags, |row| found(&files, load(""), load(&row.line)));
    let command = <Flags as clap::CommandFactory>::command();
    for flag in command.get_arguments().filter_map(|argument| argument.get_long()) {
        let has_row = flags.iter().any(|row| rows::key(&row.line) == format!("--{flag}"));
        assert!(has_row || ["help", "version"].contains(&flag), "{flag}");
    }
}

/// What is set beside the variables of a row, so that they mean something.
fn beside(row: &str) -> &'static str {
    match row.split('=').next().unwrap_or_default() {
        "RABBITMQ_SSL_CERTFILE" | "RABBITMQ_SSL_KEYFILE" | "RABBITMQ_SSL_CACERTFILE" => {
            "RABBITMQ_SSL_CERTFILE=FOLDER/cert\nRABBITMQ_SSL_KEYFILE=FOLDER/key"
        }
        "RABBITMQ_SSL_VERIFY" => {
            "RABBITMQ_SSL_CERTFILE=FOLDER/cert\nRABBITMQ_SSL_KEYFILE=FOLDER/key\nRABBITMQ_SSL_CACERTFILE=FOLDER/ca"
        }
        "RABBITMQ_SSL_FAIL_IF_NO_PEER_CERT" => {
            "RABBITMQ_SSL_CERTFILE=FOLDER/cert\nRABBITMQ_SSL_KEYFILE=FOLDER/key\nRABBITMQ_SSL_CACERTFILE=FOLDER/ca\n\
             RABBITMQ_SSL_VERIFY=verify_peer"
        }
        _ => "",
    }
}

#[test]
fn every_variable_changes_what_it_says_and_nothing_else() {
    let files = Files::new();
    std::fs::write(files.0.path().join("rabbitmq.conf"), "heartbeat = 7\n").unwrap();
    let load = |variables: &str, beside: &str| {
        // The first counts: a row beats what is beside it.
        let all = files.put(&format!("{variables}\n{beside}"));
        let named = |name: &str| {
            let set = all.lines().filter_map(|line| line.split_once('='));
            set.filter(|(known, _)| *known == name).map(|(_, value)| value.to_owned()).next()
        };
        let environment = Environment { host: "laptop".to_owned(), root: false, ..Environment::of(named) };
        seen(Config::load(&NodeArgs::default(), &environment))
    };
    let variables = rows_of("variables");
    rows::hold(&variables, |row| {
        let beside = beside(&row.line);
        found(&files, load("", beside), load(&row.line, beside))
    });
    // The reader asks for no variable that has no row.
    let asked = std::cell::RefCell::new(BTreeSet::new());
    Environment::of(|name| {
        asked.borrow_mut().insert(name.to_owned());
        None
    });
    for name in asked.into_inner() {
        let has_row = variables.iter().any(|row| row.line.lines().any(|line| rows::key(line) == name));
        // Whether the host's name is used whole; what it is called is not up to a test.
        assert!(has_row || name == "RABBITMQ_USE_LONGNAME", "{name}");
    }
}
