//! What the documents print can be typed: every program, command and flag in their blocks of shell exists.

use harness::document::{Block, blocks};
use harness::programs;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use xtask::stack::{Cast, Maker};

/// Programs of the system that the documents use.
const SYSTEM: &[&str] = &[
    "apt-get",
    "cat",
    "curl",
    "export",
    "head",
    "install",
    "ip",
    "journalctl",
    "ls",
    "mkdir",
    "mv",
    "nft",
    "perf",
    "podman",
    "ps",
    "runuser",
    "rustup",
    "sh",
    "systemctl",
    "systemd-analyze",
    "tar",
    "target/release/load",
];

/// Names that a program of ours answers to.
const CALLED: &[(&str, &str)] = &[
    ("rabbitmqctl", "broker"),
    ("haproxy", "proxy"),
    ("keepalived", "vip-agent"),
    ("rabbitmq-diagnostics", "broker"),
];

/// Helps that were asked for already.
#[derive(Default)]
struct Helps(BTreeMap<Vec<String>, Option<String>>);

impl Helps {
    /// What a program says with these words; nothing when it refuses them.
    fn of(&mut self, program: &str, words: &[&str]) -> Option<&str> {
        let key: Vec<String> =
            std::iter::once(program).chain(words.iter().copied()).map(str::to_owned).collect();
        self.0
            .entry(key)
            .or_insert_with(|| {
                let output = Command::new(programs::folder().join(program)).args(words).output().unwrap();
                output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
            })
            .as_deref()
    }
}

/// What is wrong with a command of ours.
fn wrong(helps: &mut Helps, program: &str, words: &[String]) -> Option<String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let flags = |from: usize| words.iter().skip(from).filter(|word| word.starts_with('-') && word.len() > 1);
    if let Some(("ctl", rest)) = words.split_first().map(|(first, rest)| (*first, rest)) {
        let Some(command) = rest.iter().find(|word| !word.starts_with('-')) else {
            return Some("no command".to_owned());
        };
        return helps
            .of("broker", &["ctl", "help", command])
            .is_none()
            .then(|| format!("broker ctl has no `{command}`"));
    }
    let general = helps.of(program, &["--help"]).unwrap_or_default().to_owned();
    let tool = words.first().filter(|word| {
        general.lines().any(|line| line.trim_start().split(' ').next() == Some(word))
            && !word.starts_with('-')
    });
    if let (None, Some(first)) =
        (tool, words.first().filter(|word| !word.starts_with('-') && !word.contains('/')))
    {
        let hidden = helps.of(program, &[first, "--help"]).is_none();
        if hidden {
            return Some(format!("{program} has no `{first}`"));
        }
    }
    let help = match tool {
        Some(tool) => helps.of(program, &[tool, "--help"]).unwrap_or_default().to_owned(),
        None => general,
    };
    let known: BTreeSet<&str> = help
        .split(|it: char| !(it.is_alphanumeric() || it == '-' || it == '_'))
        .filter(|it| it.starts_with('-'))
        .collect();
    let unknown = flags(0)
        .map(|flag| flag.split('=').next().unwrap_or(flag))
        .find(|flag| !known.contains(flag) && *flag != "-vv");
    unknown.map(|flag| format!("{program} has no `{flag}` here"))
}

/// All documents.
pub(super) fn all() -> Vec<PathBuf> {
    let root = xtask::root();
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md")];
    documents.extend(std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    documents.retain(|path| path.extension().is_some_and(|it| it == "md"));
    documents.sort();
    documents
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut undecided = Vec::new();
    for path in all() {
        let text = std::fs::read_to_string(&path).unwrap();
        let open = |block: &Block| block.is_shell() && !block.is_runnable() && block.reason().is_none();
        let lines = blocks(&text).into_iter().filter(open).map(|block| block.line);
        undecided.extend(lines.map(|line| format!("{}:{line}", path.display())));
    }
    let wanted = "write ```sh runnable, or ```sh not-run: REASON";
    assert!(undecided.is_empty(), "{wanted}\n{}", undecided.join("\n"));
}

#[test]
fn every_dependency_is_used_and_justified() {
    let root = xtask::root();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let manifest = read("Cargo.toml");
    let page = read("docs/dependencies.md");
    let (_, list) = manifest.split_once("[workspace.dependencies]\n").unwrap();
    let list = list.split("\n[").next().unwrap();
    let (_, members) = manifest.split_once("members = [").unwrap();
    let members: Vec<&str> = members
        .split(']')
        .next()
        .unwrap()
        .split('"')
        .filter(|it| !it.trim_matches([',', '\n', ' ']).is_empty())
        .collect();
    let manifests: Vec<String> = members.iter().map(|member| read(&format!("{member}/Cargo.toml"))).collect();
    let mut mistakes = Vec::new();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.contains("path = ")) {
        let Some((name, _)) = line.split_once(" = ") else { continue };
        if !page.contains(&format!("`{name}`")) {
            mistakes.push(format!("docs/dependencies.md does not say what {name} is for"));
        }
        let used = format!("\n{name} = ");
        if !manifests.iter().any(|manifest| manifest.contains(&used)) {
            mistakes.push(format!("Cargo.toml names {name}, which no package uses"));
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn every_command_in_the_documents_exists() {
    let cast = Cast::from_environment();
    if [cast.broker, cast.proxy, cast.agent_c].contains(&Maker::Theirs) {
        return;
    }
    let root = xtask::root();
    let documents = all();
    let mut helps = Helps::default();
    let (mut mistakes, mut seen) = (Vec::new(), 0);
    for path in &documents {
        let text = std::fs::read_to_string(path).unwrap();
        let shell = blocks(&text).into_iter().filter(Block::is_shell);
        for (line, words) in shell.flat_map(|block| block.commands()) {
            seen += 1;
            let (name, rest) = words.split_first().unwrap();
            let found = match name.as_str() {
                "broker" | "proxy" | "vip-agent" => wrong(&mut helps, name, rest),
                // Held by `cargo xtask tidy` for the README, and here for all.
                "cargo" if rest.first().is_some_and(|word| word == "xtask") => {
                    let known = std::fs::read_to_string(root.join("xtask/src/main.rs")).unwrap();
                    let word = rest.get(1).map(String::as_str).unwrap_or_default();
                    (!known.contains(&format!("(\"{word}\""))
                        && !known.contains(&format!("\n        \"{word}\",")))
                    .then(|| format!("there is no `cargo xtask {word}`"))
                }
                "cargo" => None,
                name if SYSTEM.contains(&name) => None,
                name => match CALLED.iter().find(|(called, _)| *called == name) {
                    Some((_, "broker")) => wrong(&mut helps, "broker", &[&["ctl".to_owned()], rest].concat()),
                    Some((_, program)) => wrong(&mut helps, program, rest),
                    None => Some(format!("`{name}` is no program that the documents use")),
                },
            };
            mistakes.extend(found.map(|what| format!("{}:{line}: {what}", path.display())));
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let cast = Cast::from_environment();
    if [cast.broker, cast.proxy, cast.agent_c].contains(&Maker::Theirs) {
        return;
    }
    let mut helps = Helps::default();
    let mut look = |line: &str| {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        wrong(&mut helps, &words[0], &words[1..])
    };
    for line in [
        "broker ctl list_queues name",
        "broker pub q hello --create",
        "proxy -c -f x",
        "vip-agent status --json",
    ] {
        assert_eq!(look(line), None, "{line}");
    }
    for line in [
        "broker ctl list_qeues",
        "broker pub q --creat",
        "proxy chek",
        "vip-agent --nonsense",
        "proxy check --json",
    ] {
        assert!(look(line).is_some(), "{line}");
    }
}
