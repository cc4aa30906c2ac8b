//! `vrrp_script`.

use std::path::PathBuf;
use std::time::Duration;

use super::tree::Statement;
use super::{Reader, values};
use crate::config::{Command, ScriptConfig};
use crate::tracker::builtin::Probe;

const KNOWN: &[&str] = &["script", "interval", "timeout", "weight", "rise", "fall", "user", "init_fail"];
const MAX_SECONDS: f64 = 1_000_000.0;

pub(super) fn read(reader: &mut Reader, statement: &Statement) {
    let Some(name) = reader.value(statement) else { return };
    if reader.config.scripts.iter().any(|script| script.name == name.text) {
        reader.error(name.place, "duplicate", format!("there are two scripts `{}`", name.text), "rename one");
        return;
    }
    let mut script = ScriptConfig {
        name: name.text.clone(),
        command: Command::default(),
        probe: None,
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
        rise: 1,
        fall: 1,
        weight: 0,
        reverse: false,
        init_fail: false,
    };
    for line in statement.children() {
        one(reader, line, &mut script);
    }
    if script.command.argv.is_empty() {
        reader.error(
            name.place,
            "missing-value",
            "this vrrp_script has no `script`",
            "add: script \"/path/to/check\"",
        );
        return;
    }
    if script.timeout.is_zero() {
        script.timeout = script.interval;
    }
    reader.config.scripts.push(script);
}

fn one(reader: &mut Reader, line: &Statement, script: &mut ScriptConfig) {
    match line.keyword.text.as_str() {
        "script" => {
            if let Some(command) = reader.command(line, &line.texts().join(" ")) {
                script.command.argv = command.argv;
            }
        }
        "interval" => {
            if let Some(interval) = reader.seconds(line, 0.001..=MAX_SECONDS) {
                script.interval = interval;
            }
        }
        "timeout" => {
            if let Some(timeout) = reader.seconds(line, 0.0..=MAX_SECONDS) {
                script.timeout = timeout;
            }
        }
        "weight" => {
            if let Some((weight, reverse)) = weight(reader, line) {
                (script.weight, script.reverse) = (weight, reverse);
            }
        }
        "rise" => {
            if let Some(number) = reader.number(line, 1..=2_147_483_647) {
                script.rise = number as u32;
            }
        }
        "fall" => {
            if let Some(number) = reader.number(line, 1..=2_147_483_647) {
                script.fall = number as u32;
            }
        }
        "user" => {
            if reader.value_of_several(line) {
                script.command.user = reader.user(&line.words);
            }
        }
        "init_fail" => script.init_fail = true,
        _ => reader.unknown(&line.keyword, "in vrrp_script", KNOWN, &[]),
    }
}

/// `weight N [reverse|noreverse]`.
fn weight(reader: &mut Reader, line: &Statement) -> Option<(i16, bool)> {
    let word = line.words.first().or_else(|| {
        reader.value(line);
        None
    })?;
    let number = values::number(word, -253..=253);
    let number = reader.taken(word, "weight", number)? as i16;
    let reverse = match line.words.get(1).map(|word| word.text.as_str()) {
        None | Some("noreverse") => false,
        Some("reverse") => true,
        Some(_) => {
            let word = &line.words[1];
            reader.error(word.place, "extra-word", "`weight` takes a number and `reverse`", "not known here");
            false
        }
    };
    Some((number, reverse))
}

/// `vrrp_track_file`, or `track_file` at the top of the file.
pub(super) fn read_file(reader: &mut Reader, statement: &Statement) {
    const WORDS: &[&str] = &["file", "weight", "init_file"];
    let Some(name) = reader.value(statement) else { return };
    let mut script = tracked(&name.text);
    script.weight = 1;
    let mut path = None;
    for line in statement.children() {
        match line.keyword.text.as_str() {
            "file" => path = reader.value(line).map(|word| PathBuf::from(&word.text)),
            "weight" => {
                if let Some((weight, reverse)) = weight(reader, line) {
                    (script.weight, script.reverse) = (weight, reverse);
                }
            }
            "init_file" => {
                reader.note(line.keyword.place, "no-effect", "a file that is not there counts as 0");
            }
            _ => reader.unknown(&line.keyword, "in vrrp_track_file", WORDS, &[]),
        }
    }
    let Some(path) = path else {
        reader.error(
            name.place,
            "missing-value",
            "this vrrp_track_file has no `file`",
            "add: file \"/path\"",
        );
        return;
    };
    script.probe = Some(Probe::File(path));
    reader.config.scripts.push(script);
}

/// A check that runs twice a second.
fn tracked(name: &str) -> ScriptConfig {
    ScriptConfig {
        name: name.to_owned(),
        command: Command::default(),
        probe: None,
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
        weight: 0,
        reverse: false,
        init_fail: false,
    }
}

/// `vrrp_track_process`: becomes a check of its own kind.
pub(super) fn read_process(reader: &mut Reader, statement: &Statement) {
    const WORDS: &[&str] = &["process", "weight", "quorum", "delay"];
    const QUIET: &[(&str, &str)] = &[
        ("quorum_max", "only too few processes count as a failure"),
        ("full_command", "processes are found by their name"),
        ("param_match", "processes are found by their name"),
        ("fork_delay", ""),
        ("terminate_delay", ""),
    ];
    let Some(name) = reader.value(statement) else { return };
    let (mut process, mut at_least) = (None, 1);
    let mut script = tracked(&name.text);
    for line in statement.children() {
        match line.keyword.text.as_str() {
            "process" => process = line.words.first().map(|word| word.text.clone()),
            "quorum" => at_least = reader.number(line, 1..=65535).unwrap_or(1) as usize,
            "delay" => drop(reader.seconds(line, 0.0..=3600.0)),
            "weight" => {
                if let Some((weight, reverse)) = weight(reader, line) {
                    (script.weight, script.reverse) = (weight, reverse);
                }
            }
            _ => reader.no_effect_or_unknown(&line.keyword, "in vrrp_track_process", WORDS, QUIET),
        }
    }
    let Some(process) = process else {
        reader.error(
            name.place,
            "missing-value",
            "this vrrp_track_process has no `process`",
            "add: process NAME",
        );
        return;
    };
    let base = std::path::Path::new(&process).file_name().map(|name| name.to_string_lossy().into_owned());
    script.probe = Some(Probe::Process { name: base.unwrap_or(process), at_least });
    reader.config.scripts.push(script);
}
