//! Lines that choose which other lines are read: `.if`, `.elif`, `.else`, `.endif`, and those that only
//! say something: `.notice`, `.warning`, `.alert`, `.diag`.
//!
//! A condition is `defined(NAME)`, `streq(A,B)`, `strneq(A,B)`, `feature(NAME)`, `version_atleast(V)`,
//! `version_before(V)` or a number, joined by `!`, `&&`, `||` and brackets.

use daemon::diagnostic::Severity;

use super::args::Args;
use super::lexer::Word;
use crate::config::Place;

/// The version of HAProxy whose configuration is read.
const VERSION: [u32; 3] = [2, 6, 12];
/// What `feature(NAME)` is true for.
const FEATURES: &[&str] = &[
    "ACCEPT4",
    "EPOLL",
    "GETADDRINFO",
    "LINUX_SPLICE",
    "OPENSSL",
    "PROMEX",
    "SYSTEMD",
    "TFO",
    "THREAD",
    "TPROXY",
];
/// Deepest nesting, as in HAProxy.
const MAX_DEPTH: usize = 64;

/// Which branches are being read.
#[derive(Debug, Default)]
pub(super) struct Conditionals {
    open: Vec<Branch>,
}

#[derive(Debug)]
struct Branch {
    /// Lines are read.
    active: bool,
    /// A branch of this `.if` has been read, or none can be.
    done: bool,
    /// `.else` was there.
    last: bool,
    place: Place,
}

impl Conditionals {
    /// Whether lines are read at this place.
    pub(super) fn is_active(&self) -> bool {
        self.open.last().is_none_or(|branch| branch.active)
    }

    /// Takes a line that begins with a dot; `false` when it is none of these.
    pub(super) fn take(
        &mut self,
        keyword: &Word,
        args: &mut Args<'_, '_>,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> bool {
        match keyword.text.as_str() {
            ".if" => {
                if self.open.len() >= MAX_DEPTH {
                    args.error(keyword, "syntax", "`.if` is nested too deeply", "");
                    args.skip_rest();
                    return true;
                }
                let reading = self.is_active();
                let holds = condition(keyword, args, variable, reading);
                let place = args.place(keyword);
                let active = reading && holds;
                self.open.push(Branch { active, done: active || !reading, last: false, place });
            }
            ".elif" => match self.open.last_mut() {
                Some(branch) if !branch.last => {
                    let holds = condition(keyword, args, variable, !branch.done);
                    branch.active = !branch.done && holds;
                    branch.done |= branch.active;
                }
                _ => misplaced(keyword, args),
            },
            ".else" => match self.open.last_mut() {
                Some(branch) if !branch.last => {
                    (branch.active, branch.done, branch.last) = (!branch.done, true, true);
                }
                _ => misplaced(keyword, args),
            },
            ".endif" => {
                if self.open.pop().is_none() {
                    misplaced(keyword, args);
                }
            }
            ".notice" | ".warning" | ".alert" | ".diag" => self.say(keyword, args),
            _ => return false,
        }
        true
    }

    fn say(&self, keyword: &Word, args: &mut Args<'_, '_>) {
        let severity = match keyword.text.as_str() {
            ".alert" => Severity::Error,
            ".warning" => Severity::Warning,
            _ => Severity::Note,
        };
        let text = args.rest_joined();
        if self.is_active() && keyword.text != ".diag" {
            args.remark(keyword, severity, "from-the-file", text, "", "");
        }
    }

    /// At the end of a file: every `.if` must be closed.
    pub(super) fn finish(&mut self, remarks: &mut daemon::diagnostic::Diagnostics) {
        for branch in self.open.drain(..) {
            let remark = daemon::diagnostic::Diagnostic::error("syntax", "`.if` is not closed by `.endif`");
            remarks.push(branch.place.mark(remark));
        }
    }
}

fn misplaced(keyword: &Word, args: &mut Args<'_, '_>) {
    args.error(keyword, "misplaced", format!("`{}` without an open `.if`", keyword.text), "");
    args.skip_rest();
}

fn condition(
    keyword: &Word,
    args: &mut Args<'_, '_>,
    variable: &dyn Fn(&str) -> Option<String>,
    matters: bool,
) -> bool {
    let first = args.peek();
    let text = args.rest_joined();
    if !matters {
        return false;
    }
    let mut parser = Parser { text: &text, at: 0, depth: 0, variable };
    let found = parser.any().and_then(|value| match parser.rest().trim() {
        "" => Ok(value),
        rest => Err(format!("unexpected `{rest}`")),
    });
    found.unwrap_or_else(|message| {
        args.error(first.unwrap_or(keyword), "wrong-value", message, "");
        false
    })
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn take(&mut self, token: &str) -> bool {
        self.at += self.rest().len() - self.rest().trim_start().len();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn any(&mut self) -> Result<bool, String> {
        let mut value = self.all()?;
        while self.take("||") {
            value |= self.all()?;
        }
        Ok(value)
    }

    fn all(&mut self) -> Result<bool, String> {
        let mut value = self.term()?;
        while self.take("&&") {
            value &= self.term()?;
        }
        Ok(value)
    }

    fn term(&mut self) -> Result<bool, String> {
        self.depth += 1;
        if self.depth > 1024 {
            return Err("the condition is too long".to_owned());
        }
        if self.take("!") {
            return Ok(!self.term()?);
        }
        if self.take("(") {
            let value = self.any()?;
            return if self.take(")") { Ok(value) } else { Err("`(` is not closed".to_owned()) };
        }
        let name: &str = {
            let rest = self.rest();
            let end = rest
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '+'))
                .unwrap_or(rest.len());
            self.at += end;
            &rest[..end]
        };
        if !self.take("(") {
            return match name.parse::<i64>() {
                Ok(number) => Ok(number != 0),
                Err(_) if name.is_empty() && self.rest().trim().is_empty() => Ok(false),
                Err(_) => Err(format!("`{name}{}` is not a condition", self.rest())),
            };
        }
        let rest = self.rest();
        let end = rest.find(')').ok_or_else(|| format!("`{name}(` is not closed"))?;
        self.at += end + 1;
        self.call(name, &rest[..end])
    }

    fn call(&self, name: &str, argument: &str) -> Result<bool, String> {
        let pair = || {
            argument.split_once(',').ok_or_else(|| format!("`{name}` needs two values with a comma between"))
        };
        Ok(match name {
            "defined" => (self.variable)(argument).is_some(),
            "streq" => pair().map(|(a, b)| a == b)?,
            "strneq" => pair().map(|(a, b)| a != b)?,
            "feature" => FEATURES.contains(&argument),
            "version_atleast" => version(argument)? <= VERSION,
            "version_before" => version(argument)? > VERSION,
            // TLS is done by rustls, which is none of these.
            "openssl_version_atleast" | "ssllib_name_startswith" => false,
            "openssl_version_before" => true,
            _ => {
                let known = ["defined", "streq", "strneq", "feature", "version_atleast", "version_before"];
                let near = daemon::diagnostic::suggest(name, known);
                let hint = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(format!("unknown condition `{name}`{hint}"));
            }
        })
    }
}

/// `2.4-dev19`, `2.6`, `2.6.12`.
fn version(text: &str) -> Result<[u32; 3], String> {
    let numbers = text.split('-').next().unwrap_or(text);
    let mut version = [0; 3];
    for (place, part) in numbers.split('.').enumerate() {
        let number = part.parse().map_err(|_| format!("`{text}` is not a version"))?;
        *version.get_mut(place).ok_or_else(|| format!("`{text}` is not a version"))? = number;
    }
    Ok(version)
}
