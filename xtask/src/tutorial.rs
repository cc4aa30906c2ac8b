//! `cargo xtask tutorial`: the tutorial from its first connection to the drift of the address, on hosts with its names
//! and addresses. `tests/tutorial/steps.txt` says what is done and what has to be seen.

use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use xtask::lab::network;
use xtask::libraries::Tutorial;
use xtask::stack::{BROKERS, Cast, Place, Stack};
use xtask::{install, root, target};

/// Nothing takes longer.
const LIMIT_SECONDS: &str = "120";
const SOON: Duration = Duration::from_secs(30);

/// One thing that is done.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    section: String,
    words: Vec<String>,
    /// Patterns of lines that have to come, in this order.
    expected: Vec<String>,
}

/// Runs the tutorial; words pick sections.
///
/// # Errors
/// A step has not shown what it should.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let steps = steps(&std::fs::read_to_string(root().join("tests/tutorial/steps.txt"))?)?;
    install::packages(install::NETWORK)?;
    if let Err(why) = network::may() {
        bail!("the tutorial needs hosts of its own: {why}");
    }
    let programs = [Tutorial::Java.program()?, Tutorial::Spring.program()?];
    let cast = Cast::from_environment();
    let built = built(cast)?;
    let folder = target().join("tutorial");
    let _ = std::fs::remove_dir_all(&folder);
    let stack = Stack::new(Place::network()?, cast, &built, &folder)?;
    stack.start()?;
    for host in BROKERS {
        symlink(built.join("broker"), stack.host_folder(host).join("rabbitmqctl"))?;
    }
    let tutorial = Running { stack, programs };
    let (mut failed, mut done, mut section) = (0, 0, "");
    for step in &steps {
        let always = step.section.starts_with("Users");
        if !always
            && !words.is_empty()
            && !words.iter().any(|word| step.section.to_lowercase().contains(&word.to_lowercase()))
        {
            continue;
        }
        if section != step.section {
            section = &step.section;
            println!("\n{section}");
        }
        done += 1;
        failed += usize::from(!tutorial.shows(step));
    }
    tutorial.stack.stop();
    println!("\n{} passed, {failed} failed", done - failed);
    ensure!(
        failed == 0,
        "{failed} steps of the tutorial have not shown what they should; logs are in {}",
        folder.display()
    );
    Ok(())
}

/// The folder of our programs: `WARREN_BIN`, as for the tests, or what is built now.
fn built(cast: Cast) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("WARREN_BIN") {
        return Ok(root().join(PathBuf::from(folder)));
    }
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--quiet"]).args(cast.ours().iter().flat_map(|it| ["-p", it])).current_dir(root());
    ensure!(cast.ours().is_empty() || cargo.status()?.success(), "the programs do not build");
    Ok(target().join("debug"))
}

struct Running {
    stack: Stack,
    /// Those in Java and those with Spring, without their class.
    programs: [Command; 2],
}

impl Running {
    /// Does it, and prints what was expected and what was seen.
    fn shows(&self, step: &Step) -> bool {
        let said = step.words.join(" ");
        match self.does(&step.words) {
            Ok(output) => {
                let missing = missing(&step.expected, &output);
                println!("  {} {said}", if missing.is_none() { "ok  " } else { "FAIL" });
                for line in &step.expected {
                    println!("         expected  {line}");
                }
                if let Some(line) = missing {
                    println!("         missing   {line}");
                    output.lines().for_each(|line| println!("         seen      {line}"));
                }
                missing.is_none()
            }
            Err(error) => {
                println!("  FAIL {said}\n         {error:#}");
                false
            }
        }
    }

    fn does(&self, words: &[String]) -> Result<String> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let nothing = |()| String::new();
        match words[..] {
            ["kill", host, role] => self.stack.kill(host, role).map(nothing),
            ["stop", host, role] => self.stack.terminate(host, role).map(nothing),
            ["start", host, "broker"] => {
                self.stack.start_broker(host)?;
                self.stack.wait_listening(host, 5672).map(nothing)
            }
            ["start", host, "proxy"] => self.stack.start_proxy(host).map(nothing),
            ["start", host, "vip-agent"] => self.stack.start_agent(host).map(nothing),
            ["off", host] => self.stack.power_off(host).map(nothing),
            ["on", host] => self.stack.power_on(host).map(nothing),
            ["holder", host] => self.stack.wait_holder(host, SOON).map(nothing),
            [host, program, ref arguments @ ..] => self.runs(host, program, arguments),
            _ => bail!("a step has a host and a command"),
        }
    }

    /// A command on a host; also one that fails has an output.
    fn runs(&self, host: &str, program: &str, arguments: &[&str]) -> Result<String> {
        let place = self.stack.place();
        let mut command = place.command(host, "timeout");
        command.arg(LIMIT_SECONDS);
        match program {
            "java" | "spring" => {
                let base = &self.programs[usize::from(program == "spring")];
                command.arg(base.get_program()).args(base.get_args());
                command.env("TUTORIAL_HOST", place.address("A"));
            }
            "rabbitmqctl" => {
                // A link whose name decides what the program is.
                command.arg(self.stack.host_folder(host).join("rabbitmqctl"));
            }
            other => {
                command.arg(other);
            }
        }
        let output = command.args(arguments).output().with_context(|| format!("start {program}"))?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// The first pattern that no line fits, behind the line of the one before.
fn missing<'a>(expected: &'a [String], output: &str) -> Option<&'a str> {
    let mut lines = output.lines();
    expected.iter().map(String::as_str).find(|pattern| !lines.any(|line| fits(pattern, line.trim_end())))
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

fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut section = String::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("section ") {
            section = title.to_owned();
        } else if let Some(expected) = line.strip_prefix("> ") {
            let step = steps.last_mut().with_context(|| format!("line {}: before any step", index + 1))?;
            step.expected.push(expected.to_owned());
        } else {
            let words = line.split_whitespace().map(str::to_owned).collect();
            steps.push(Step { line: index + 1, section: section.clone(), words, expected: Vec::new() });
        }
    }
    let short = steps.iter().find(|step| step.words.len() < 2);
    ensure!(short.is_none(), "line {}: a step has a host and a command", short.map_or(0, |it| it.line));
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_their_section_and_what_has_to_be_seen() {
        let read = steps("# note\nsection One\nA ls -l\n> a*\n> b\noff C\n").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].section.as_str(), read[0].line), ("One", 3));
        assert_eq!(read[0].words, ["A", "ls", "-l"]);
        assert_eq!(read[0].expected, ["a*", "b"]);
        assert!(steps("> early\n").is_err() && steps("alone\n").is_err());
    }

    #[test]
    fn lines_have_to_come_in_their_order() {
        let expected = ["one".to_owned(), "t*o".to_owned()];
        assert_eq!(missing(&expected, "zero\none\ntwo\n"), None);
        assert_eq!(missing(&expected, "two\none\n"), Some("t*o"));
        assert_eq!(missing(&expected, "none\ntwo\n"), Some("one"));
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
    fn every_program_of_the_steps_is_there() {
        let text = std::fs::read_to_string(root().join("tests/tutorial/steps.txt")).unwrap();
        for step in steps(&text).unwrap() {
            let folder = match step.words[1].as_str() {
                kind @ ("java" | "spring") => root().join("tests/tutorial").join(kind).join("src/main/java"),
                _ => continue,
            };
            let source = folder.join(format!("{}.java", step.words[2]));
            assert!(source.exists(), "line {}: there is no {}", step.line, source.display());
        }
    }
}
