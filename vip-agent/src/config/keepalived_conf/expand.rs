//! Variables and sequences of keepalived.conf: `$NAME`, `${NAME}`, `~SEQ(…)`, `~LST(…)`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Longest line, or value of a variable.
pub(super) const MAX_TEXT: usize = 64 * 1024;
/// Most rounds of one sequence.
const MAX_ROUNDS: usize = 65_536;
/// `${_HASH}` and `${_BANG}` until the lexer is past comments.
const HASH: char = '\u{E000}';
const BANG: char = '\u{E001}';

/// The text with `#` and `!` where they were asked for by name.
pub(super) fn shown(text: &str) -> String {
    text.replace(HASH, "#").replace(BANG, "!")
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// `$NAME=value` into its parts.
pub(super) fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix('$')?.split_once('=')?;
    is_name(name).then_some((name, value))
}

/// Replaces variables once; `None` when there is nothing to replace. Names that are not defined stay, because
/// scripts may have a `$` in them.
///
/// # Errors
///
/// The text grows too long.
pub(super) fn replace(
    line: &str,
    variables: &HashMap<String, String>,
    id: &str,
    directory: &str,
) -> Result<Option<String>, &'static str> {
    if !line.contains('$') {
        return Ok(None);
    }
    let mut out = String::new();
    let mut rest = line;
    let mut changed = false;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = match after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, _)) => (name, name.len() + 2),
            None => {
                let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                let end = after.find(|letter| !plain(letter)).unwrap_or(after.len());
                (&after[..end], end)
            }
        };
        match variables.get(name).cloned().or_else(|| predefined(name, id, directory)) {
            Some(value) => {
                // A variable that names itself would never end.
                changed |= value != rest[at..=at + length];
                out.push_str(&value);
            }
            None => out.push_str(&rest[at..=at + length]),
        }
        if out.len() > MAX_TEXT {
            return Err("a line is too long after its variables were replaced; is one defined by itself?");
        }
        rest = &after[length..];
    }
    out.push_str(rest);
    Ok(changed.then_some(out))
}

fn predefined(name: &str, id: &str, directory: &str) -> Option<String> {
    match name {
        "_PWD" => Some(directory.to_owned()),
        "_INSTANCE" => Some(id.to_owned()),
        "_HASH" => Some(HASH.to_string()),
        "_BANG" => Some(BANG.to_string()),
        _ => {
            let mut bounds = name.strip_prefix("_RANDOM")?.split_whitespace().map(str::parse::<u32>);
            let least = bounds.next().unwrap_or(Ok(0)).ok()?;
            let most = bounds.next().unwrap_or(Ok(32_767)).ok()?;
            let range = u64::from(most.checked_sub(least)?) + 1;
            Some((u64::from(least) + RandomState::new().build_hasher().finish() % range).to_string())
        }
    }
}

/// A sequence or a list, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loop {
    pub(super) names: Vec<String>,
    pub(super) rounds: Vec<Vec<String>>,
}

impl Loop {
    /// Reads `~SEQ(…` or `~LST(…`, up to the closing parenthesis.
    pub(super) fn parse(head: &str) -> Result<Self, &'static str> {
        let (kind, arguments) = head.split_once('(').ok_or("`(` is missing behind ~SEQ or ~LST")?;
        match kind.trim_end() {
            "~SEQ" => sequence(arguments, false),
            "~SEQx" => sequence(arguments, true),
            "~LST" => list(arguments),
            _ => Err("only ~SEQ, ~SEQx and ~LST are known"),
        }
    }
}

fn sequence(arguments: &str, hexadecimal: bool) -> Result<Loop, &'static str> {
    const WRONG: &str = "write ~SEQ(NAME, START, STEP, END) with whole numbers";
    let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
    let number = |text: &str| -> Option<i64> {
        match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
        .filter(|number| number.abs() <= i64::from(u32::MAX))
    };
    let numbers: Vec<i64> = parts[1..].iter().map(|part| number(part)).collect::<Option<_>>().ok_or(WRONG)?;
    let (start, step, end) = match numbers.as_slice() {
        [end] if *end > 0 => (1, 1, *end),
        [end] => (-1, -1, *end),
        [start, end] => (*start, if end >= start { 1 } else { -1 }, *end),
        [start, step, end] => (*start, *step, *end),
        _ => return Err(WRONG),
    };
    if !is_name(parts[0]) || step == 0 {
        return Err(WRONG);
    }
    let mut rounds = Vec::new();
    let mut at = start;
    while if step > 0 { at <= end } else { at >= end } {
        if rounds.len() >= MAX_ROUNDS {
            return Err("this sequence is too long");
        }
        rounds.push(vec![if hexadecimal { format!("{at:x}") } else { at.to_string() }]);
        at += step;
    }
    Ok(Loop { names: vec![parts[0].to_owned()], rounds })
}

fn list(arguments: &str) -> Result<Loop, &'static str> {
    const WRONG: &str = "write ~LST(NAME, VALUE, …) or ~LST({NAME, NAME}, {VALUE, VALUE}, …)";
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut rest = arguments.trim();
    while !rest.is_empty() {
        let (group, after) = match rest.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or(WRONG)?,
            None => rest.split_once(',').map_or((rest, ""), |(value, _)| (value, &rest[value.len()..])),
        };
        groups.push(group.split(',').map(|value| value.trim().to_owned()).collect());
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    let mut groups = groups.into_iter();
    let names = groups.next().filter(|names| names.iter().all(|name| is_name(name))).ok_or(WRONG)?;
    let rounds: Vec<_> = groups.collect();
    let good = !rounds.is_empty() && rounds.len() <= MAX_ROUNDS;
    if good && rounds.iter().all(|values| values.len() == names.len()) {
        Ok(Loop { names, rounds })
    } else {
        Err(WRONG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(head: &str) -> Vec<String> {
        Loop::parse(head).unwrap().rounds.into_iter().map(|values| values.join(".")).collect()
    }

    #[test]
    fn sequences_and_lists() {
        assert_eq!(values("~SEQ(A, 0, 3"), ["0", "1", "2", "3"]);
        assert_eq!(values("~SEQ(A, 3"), ["1", "2", "3"]);
        assert_eq!(values("~SEQ(A, 168,2,172"), ["168", "170", "172"]);
        assert_eq!(values("~SEQx(A, 0x12, -1, 0x0f"), ["12", "11", "10", "f"]);
        assert_eq!(values("~LST(IP, 1, 2"), ["1", "2"]);
        assert_eq!(values("~LST({IP,  IP1}, {10,1},{20,4}"), ["10.1", "20.4"]);
        for wrong in [
            "~SEQ(A, 1, 0, 2",
            "~SEQ(A",
            "~SEQ(1, 2",
            "~SEQ(A, 0, 9999999",
            "~LST(A",
            "~LST({A,B},{1}",
            "~SEQ",
        ] {
            assert!(Loop::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_are_replaced_once_and_unknown_ones_stay() {
        let variables = HashMap::from([("A".to_owned(), "x${B}".to_owned())]);
        let once = |line: &str| replace(line, &variables, "me", "/etc").unwrap();
        assert_eq!(once("${A}y $A z"), Some("x${B}y x${B} z".into()));
        assert_eq!(once("awk '{print $1}' ${NO}"), None);
        assert_eq!(once("${_PWD}/${_INSTANCE}"), Some("/etc/me".into()));
        assert_eq!(shown(&once("a ${_HASH} ${_BANG}").unwrap()), "a # !");
        let number: u32 = once("${_RANDOM 5 7}").unwrap().parse().unwrap();
        assert!((5..=7).contains(&number));
    }
}
