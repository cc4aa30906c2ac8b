//! Transcripts of command lines: what was recorded, held against what is printed.
//!
//! ```text
//! $ rabbitmqctl list_users          a command; everything up to `[exit N]` is what it prints
//! Listing users ...
//! ...                               any lines
//! {*}administrator{*}               anything in a line
//! [exit 0]
//! ```
//!
//! `[any order]` right behind the command says that lines may be sorted otherwise.

use std::collections::BTreeMap;

/// What a command printed, and its exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code.
    pub code: i32,
}

impl From<std::process::Output> for Printed {
    fn from(output: std::process::Output) -> Self {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        Self {
            out: text(&output.stdout),
            err: text(&output.stderr),
            code: output.status.code().unwrap_or(-1),
        }
    }
}

impl Printed {
    /// As a transcript has it.
    fn recorded(&self) -> String {
        let error = if self.err.is_empty() { String::new() } else { format!("--stderr--\n{}", self.err) };
        let end = if error.is_empty() || error.ends_with('\n') { "" } else { "\n" };
        format!("{}{error}{end}[exit {}]", self.out, self.code)
    }
}

/// Carries out a transcript and returns every difference. `run` gets the words of a command; `masks` are the
/// values of `{name}` in the transcript.
///
/// # Panics
/// The transcript is none.
#[must_use]
pub fn differences(
    transcript: &str,
    masks: &BTreeMap<&str, String>,
    mut run: impl FnMut(Vec<String>) -> Printed,
) -> Vec<String> {
    let mut transcript = format!("\n{transcript}");
    for (name, value) in masks {
        transcript = transcript.replace(&format!("{{{name}}}"), value);
    }
    let blocks: Vec<&str> = transcript.split("\n$ ").skip(1).collect();
    assert!(!blocks.is_empty(), "there is no command in the transcript");
    let mut found = Vec::new();
    for block in blocks {
        let (line, rest) = block.split_once('\n').expect("a command and its output");
        let (expected, exit) = rest.split_once("[exit ").expect("an exit code");
        let expected = format!("{expected}[exit {}]", exit.split(']').next().unwrap_or_default());
        let (expected, unordered) = match expected.strip_prefix("[any order]\n") {
            Some(expected) => (expected, true),
            None => (expected.as_str(), false),
        };
        let (wanted, shown) = (lines(expected), lines(&run(words(line)).recorded()));
        let same = if unordered { all_fit_somehow(&wanted, &shown) } else { all_fit(&wanted, &shown) };
        if !same {
            let (wanted, shown) = (wanted.join("\n"), shown.join("\n"));
            found.push(format!("$ {line}\n--- expected\n{wanted}\n--- got\n{shown}\n"));
        }
    }
    found
}

/// The lines of a text without spaces at their ends. An empty line before the last, the exit code, says nothing.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    let end = lines.pop();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.extend(end);
    lines
}

/// Whether `line` is what `pattern` says, in which `{*}` is anything.
fn fits(pattern: &str, line: &str) -> bool {
    let Some((begin, rest)) = pattern.split_once("{*}") else { return pattern == line };
    line.strip_prefix(begin).is_some_and(|line| {
        (0..=line.len()).filter(|at| line.is_char_boundary(*at)).any(|at| fits(rest, &line[at..]))
    })
}

/// The same for lines, where `...` is any number of them.
fn all_fit(patterns: &[String], lines: &[String]) -> bool {
    match patterns.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first == "..." => (0..=lines.len()).any(|at| all_fit(rest, &lines[at..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(line, lines)| fits(first, line) && all_fit(rest, lines))
        }
    }
}

/// The same for lines in any order: each pattern has a line of its own.
fn all_fit_somehow(patterns: &[String], lines: &[String]) -> bool {
    let Some((first, rest)) = patterns.split_first() else { return lines.is_empty() };
    (0..lines.len()).filter(|at| fits(first, &lines[*at])).any(|at| {
        let others: Vec<String> = [&lines[..at], &lines[at + 1..]].concat();
        all_fit_somehow(rest, &others)
    })
}

/// Splits a line as a shell does, as far as single quotes go.
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut some) = (Vec::new(), String::new(), false, false);
    for character in line.chars() {
        match character {
            '\'' => (quoted, some) = (!quoted, true),
            ' ' if !quoted => {
                if some || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                some = false;
            }
            other => word.push(other),
        }
    }
    if some || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSCRIPT: &str = "# head\n\n$ say 'a b' c\n[any order]\n2 of {what}\n1 {*} x\n[exit 3]\n\n$ say\n...\nend\n\n[exit 0]\n";

    fn printed(out: &str, code: i32) -> Printed {
        Printed { out: out.to_owned(), err: String::new(), code }
    }

    #[test]
    fn what_fits_a_transcript_has_no_differences() {
        let masks = BTreeMap::from([("what", "all".to_owned())]);
        let mut asked = Vec::new();
        let found = differences(TRANSCRIPT, &masks, |words| {
            asked.push(words.clone());
            if words.len() > 1 { printed("1 and x\n2 of all\n", 3) } else { printed("a\nb\nend\n", 0) }
        });
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert_eq!(asked, [vec!["say", "a b", "c"], vec!["say"]]);
    }

    #[test]
    fn another_line_and_another_exit_code_are_differences() {
        let masks = BTreeMap::from([("what", "all".to_owned())]);
        let found = differences(TRANSCRIPT, &masks, |words| {
            if words.len() > 1 { printed("1 and x\n2 of all\n", 4) } else { printed("a\n", 0) }
        });
        assert_eq!(found.len(), 2, "{}", found.join("\n"));
    }
}
