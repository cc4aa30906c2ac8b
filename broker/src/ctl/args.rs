//! The command line as rabbitmqctl reads it: options may stand anywhere, also behind the command.

use super::error::CtlError;
use super::format::Formatter;
use daemon::diagnostic::suggest;
use std::collections::BTreeMap;

/// An option.
#[derive(Debug, Clone, Copy)]
struct Switch {
    name: &'static str,
    short: Option<char>,
    /// It is followed by a value.
    takes_value: bool,
}

const fn flag(name: &'static str, short: Option<char>) -> Switch {
    Switch { name, short, takes_value: false }
}

const fn value(name: &'static str, short: Option<char>) -> Switch {
    Switch { name, short, takes_value: true }
}

/// Options that every command takes.
const GENERAL: &[Switch] = &[
    value("node", Some('n')),
    value("vhost", Some('p')),
    value("timeout", Some('t')),
    value("formatter", None),
    value("printer", None),
    value("script-name", None),
    value("socket", None),
    value("data", None),
    value("cacert", None),
    flag("quiet", Some('q')),
    flag("silent", Some('s')),
    flag("longnames", Some('l')),
    flag("no-table-headers", None),
    flag("table-headers", None),
    flag("dry-run", None),
    flag("help", Some('?')),
];

/// Options of single commands; [`super::catalog`] says whose.
const SPECIAL: &[Switch] = &[
    value("priority", None),
    value("apply-to", None),
    value("description", None),
    value("tags", None),
    value("default-queue-type", None),
    value("format", None),
    value("limit", None),
    value("per-connection-delay", None),
    value("user", None),
    value("number", Some('N')),
    value("unit", None),
    value("within", None),
    value("address-family", None),
    value("minutes", None),
    value("vhost-pattern", None),
    value("queue-pattern", None),
    flag("accept-loss", None),
    flag("all", None),
    flag("admin", None),
    flag("disc", None),
    flag("enabled", Some('E')),
    flag("errors-only", None),
    flag("force", None),
    flag("generate", None),
    flag("global", None),
    flag("idempotent", None),
    flag("if-empty", Some('e')),
    flag("if-unused", Some('u')),
    flag("implicitly-enabled", None),
    flag("list-commands", None),
    flag("local", None),
    flag("minimal", Some('m')),
    flag("new-generation", None),
    flag("offline", None),
    flag("online", None),
    flag("pre-hashed-password", None),
    flag("ram", None),
    flag("skip-if-unchanged", None),
    flag("verbose", Some('v')),
    flag("wait", None),
    flag("no-wait", None),
];

/// A command line taken apart.
#[derive(Debug, Clone, Default)]
pub(super) struct Parsed {
    /// Command, then its arguments.
    pub(super) words: Vec<String>,
    switches: BTreeMap<&'static str, String>,
}

impl Parsed {
    /// Takes a command line apart.
    pub(super) fn read(given: Vec<String>) -> Result<Parsed, CtlError> {
        let mut parsed = Parsed::default();
        let mut rest = given.into_iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                parsed.words.extend(rest.by_ref());
            } else if let Some(long) = word.strip_prefix("--") {
                let (name, inline) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let switch =
                    find(|switch| switch.name == name.replace('_', "-")).ok_or_else(|| unknown(name))?;
                parsed.take(switch, inline, &mut rest)?;
            } else if let Some(short) = short_name(&word) {
                let switch = find(|switch| switch.short == Some(short.0))
                    .ok_or_else(|| CtlError::usage(format!("unknown option {word}")))?;
                parsed.take(switch, short.1, &mut rest)?;
            } else {
                parsed.words.push(word);
            }
        }
        Ok(parsed)
    }

    fn take(
        &mut self,
        switch: &Switch,
        inline: Option<String>,
        rest: &mut impl Iterator<Item = String>,
    ) -> Result<(), CtlError> {
        let value = match (switch.takes_value, inline) {
            (true, Some(value)) => value,
            (true, None) => rest
                .next()
                .ok_or_else(|| CtlError::usage(format!("option --{} needs a value", switch.name)))?,
            (false, Some(value)) if value == "false" => return Ok(()),
            (false, _) => String::new(),
        };
        self.switches.insert(switch.name, value);
        Ok(())
    }

    /// The command's own arguments.
    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    /// Whether an option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.switches.contains_key(name)
    }

    /// The value of an option.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.switches.get(name).map(String::as_str)
    }

    /// A number that an option has.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, CtlError> {
        let Some(text) = self.value(name) else { return Ok(None) };
        let wrong = || CtlError::usage(format!("--{name} is `{text}`, which is not a number"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// The vhost that is meant.
    pub(super) fn vhost(&self) -> &str {
        self.value("vhost").unwrap_or("/")
    }

    /// How results are to look.
    pub(super) fn formatter(&self) -> Result<Option<Formatter>, CtlError> {
        let Some(name) = self.value("formatter") else { return Ok(None) };
        Formatter::from_name(name).map(Some).ok_or_else(|| {
            let names = Formatter::NAMES.map(|(name, _)| name).join(", ");
            CtlError::usage(format!("formatter `{name}` is not known; use one of {names}"))
        })
    }

    /// No words around results.
    pub(super) fn is_quiet(&self) -> bool {
        self.has("quiet") || self.has("silent")
    }

    /// No line with the names of columns.
    pub(super) fn hides_headers(&self) -> bool {
        self.has("silent") || self.has("no-table-headers")
    }

    /// Refuses options that are neither general nor in `own`.
    pub(super) fn allow_only(&self, own: &[&str]) -> Result<(), CtlError> {
        let stranger = self
            .switches
            .keys()
            .find(|name| !own.contains(name) && !GENERAL.iter().any(|switch| switch.name == **name));
        match stranger {
            Some(name) => Err(CtlError::usage(format!("Invalid options for this command: --{name}"))),
            None => Ok(()),
        }
    }
}

/// `-n` and `-nNAME`. A lone `-` and negative numbers are arguments.
fn short_name(word: &str) -> Option<(char, Option<String>)> {
    let rest = word.strip_prefix('-')?;
    let mut characters = rest.chars();
    let first = characters.next()?;
    if first.is_ascii_digit() {
        return None;
    }
    let inline = characters.as_str();
    Some((first, (!inline.is_empty()).then(|| inline.trim_start_matches('=').to_owned())))
}

fn find(wanted: impl Fn(&Switch) -> bool) -> Option<&'static Switch> {
    GENERAL.iter().chain(SPECIAL).find(|switch| wanted(switch))
}

fn unknown(name: &str) -> CtlError {
    let known = GENERAL.iter().chain(SPECIAL).map(|switch| switch.name);
    match suggest(name, known) {
        Some(near) => CtlError::usage(format!("unknown option --{name}; did you mean --{near}?")),
        None => CtlError::usage(format!("unknown option --{name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Parsed, CtlError> {
        Parsed::read(line.split(' ').map(str::to_owned).collect())
    }

    #[test]
    fn options_stand_anywhere() {
        let parsed = read("-q set_permissions -p /lagou laosun .* --node=rabbit@a .* - -5").unwrap();
        assert_eq!(parsed.words, ["set_permissions", "laosun", ".*", ".*", "-", "-5"]);
        assert_eq!((parsed.vhost(), parsed.value("node")), ("/lagou", Some("rabbit@a")));
        assert!(parsed.is_quiet() && !parsed.hides_headers());
        let parsed = read("add_user a -- -secret --x").unwrap();
        assert_eq!(parsed.arguments(), ["a", "-secret", "--x"]);
    }

    #[test]
    fn a_mistyped_option_names_the_nearest() {
        let text = read("list_users --fomatter json").unwrap_err().render(&[], "");
        assert!(text.contains("did you mean --formatter?"), "{text}");
        assert!(read("list_users --formatter").is_err());
        assert!(read("list_users --formatter yaml").unwrap().formatter().is_err());
        let parsed = read("list_users --if-empty").unwrap();
        assert!(parsed.allow_only(&["if-empty"]).is_ok());
        assert!(parsed.allow_only(&[]).unwrap_err().render(&[], "").contains("--if-empty"));
    }
}
