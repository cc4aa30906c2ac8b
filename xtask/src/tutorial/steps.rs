//! The steps of the tutorial as text: what is done, and what has to be seen.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;

/// One thing that is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) line: usize,
    pub(super) section: String,
    pub(super) action: Action,
    /// Patterns of lines that have to come, in this order.
    pub(super) expected: Vec<String>,
    /// Patterns that no line may fit.
    pub(super) unwanted: Vec<String>,
}

/// What is done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// A line that a person would type on a host.
    Shell { host: String, line: String },
    /// Something that is done to a host.
    Act(Vec<String>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell { host, line } => write!(f, "[{host}]# {line}"),
            Self::Act(words) => f.write_str(&words.join(" ")),
        }
    }
}

impl Step {
    /// What is wrong with this output.
    pub(super) fn wrong(&self, output: &str) -> Option<String> {
        let mut lines = output.lines().map(str::trim_end);
        for pattern in &self.expected {
            if !lines.any(|line| fits(pattern, line)) {
                return Some(format!("`{pattern}` is missing"));
            }
        }
        let unwanted = |line: &&str| self.unwanted.iter().any(|pattern| fits(pattern, line.trim_end()));
        output.lines().find(unwanted).map(|line| format!("`{line}` should not be there"))
    }

    /// The lines that were expected, as they came.
    pub(super) fn matching<'a>(&self, output: &'a str) -> Vec<&'a str> {
        let mut lines = output.lines().map(str::trim_end);
        // What is the pattern itself says nothing new.
        let starred = |(pattern, line): (&String, &'a str)| (pattern != line).then_some(line);
        let each = self.expected.iter().filter_map(|pattern| {
            let line = lines.find(|line| fits(pattern, line))?;
            starred((pattern, line))
        });
        each.collect()
    }
}

/// Whether a line is what the pattern says; a star stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == line };
    let Some(mut line) = line.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = line.split_once(part) else { return false };
        line = after;
    }
    line.ends_with(last)
}

/// Reads the list of steps.
pub(super) fn read(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        let place = || format!("steps.txt, line {}", index + 1);
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("section ") {
            title.clone_into(&mut section);
            continue;
        }
        if let Some(pattern) = line.strip_prefix("> ") {
            let step = steps.last_mut().with_context(|| format!("{}: before any step", place()))?;
            step.expected.push(pattern.to_owned());
            continue;
        }
        if let Some(pattern) = line.strip_prefix("! ") {
            let step = steps.last_mut().with_context(|| format!("{}: before any step", place()))?;
            step.unwanted.push(pattern.to_owned());
            continue;
        }
        ensure!(!section.is_empty(), "{}: before any section", place());
        let (first, rest) =
            line.split_once(' ').with_context(|| format!("{}: a step has a host", place()))?;
        let action = if first.chars().all(|letter| letter.is_ascii_uppercase()) {
            Action::Shell { host: first.to_owned(), line: rest.to_owned() }
        } else if ["start", "stop", "kill", "off", "on", "copy", "holder", "until"].contains(&first) {
            Action::Act(line.split_whitespace().map(str::to_owned).collect())
        } else {
            bail!("{}: `{first}` is no host and nothing that is done to one", place());
        };
        let (expected, unwanted) = (Vec::new(), Vec::new());
        steps.push(Step { line: index + 1, section: section.clone(), action, expected, unwanted });
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::root;

    fn step(text: &str) -> Step {
        read(&format!("section S\n{text}")).unwrap().remove(0)
    }

    #[test]
    fn steps_have_their_section_and_what_has_to_be_seen() {
        let read_steps = read("# note\nsection One\nA ls  -l 'a b'\n> a*\n> b\n! c\noff C\n").unwrap();
        assert_eq!(read_steps.len(), 2);
        assert_eq!((read_steps[0].section.as_str(), read_steps[0].line), ("One", 3));
        assert_eq!(
            read_steps[0].action,
            Action::Shell { host: "A".to_owned(), line: "ls  -l 'a b'".to_owned() }
        );
        assert_eq!(
            (&read_steps[0].expected[..], &read_steps[0].unwanted[..]),
            (&["a*".to_owned(), "b".to_owned()][..], &["c".to_owned()][..])
        );
        assert_eq!(read_steps[1].action, Action::Act(vec!["off".to_owned(), "C".to_owned()]));
        for wrong in ["section S\n> early\n", "section S\nalone\n", "section S\nexplode A\n", "A early\n"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_have_to_come_in_their_order_and_others_not_at_all() {
        let both = step("A x\n> one\n> t*o\n");
        assert_eq!(both.wrong("zero\none\ntwo\n"), None);
        assert_eq!(both.wrong("two\none\n"), Some("`t*o` is missing".to_owned()));
        assert_eq!(both.wrong("none\ntwo\n"), Some("`one` is missing".to_owned()));
        assert_eq!(both.matching("zero\none\ntwo\n"), ["two"]);
        let without = step("A x\n! *secret*\n");
        assert_eq!(without.wrong("fine\n"), None);
        assert_eq!(without.wrong("a secret here\n"), Some("`a secret here` should not be there".to_owned()));
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, line, good) in [
            ("a*c", "abc", true),
            ("a*c", "abcd", false),
            ("*b*", "abc", true),
            ("abc", "abcd", false),
            ("a,*,b,*", "a,1,2,b,c", true),
        ] {
            assert_eq!(fits(pattern, line), good, "{pattern} {line}");
        }
    }

    #[test]
    fn every_program_of_the_steps_is_there_and_every_program_has_its_step() {
        let text = std::fs::read_to_string(root().join("tests/tutorial/steps.txt")).unwrap();
        let mut called = Vec::new();
        for step in read(&text).unwrap() {
            let Action::Shell { line, .. } = &step.action else { continue };
            let mut words = line.split_whitespace().skip_while(|word| word.contains('='));
            let Some(kind @ ("java" | "spring")) = words.next() else { continue };
            let class = words.next().unwrap();
            let source = format!("tests/tutorial/{kind}/src/main/java/{class}.java");
            assert!(root().join(&source).exists(), "line {}: there is no {source}", step.line);
            called.push(source);
        }
        for kind in ["java", "spring"] {
            let folder = format!("tests/tutorial/{kind}/src/main/java");
            for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
                let path = entry.unwrap().path();
                let source = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
                let runs = std::fs::read_to_string(&path).unwrap().contains("public static void main");
                assert_eq!(called.contains(&source), runs, "{source}");
            }
        }
    }
}
