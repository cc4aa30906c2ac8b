//! `vrrp_script`.

use std::time::Duration;

use super::tree::Statement;
use super::{Reader, values};
use crate::config::{Command, ScriptConfig};

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
