//! keepalived.conf, read directly.
//!
//! `lexer` cuts words, `tree` makes statements of them, `source` follows `include`, `$NAME=` and `@host`,
//! and the other files turn statements into the checked configuration. Every statement is looked at:
//! an unknown word, a number that is none and a missing value are errors with line, caret and the
//! nearest known word, where keepalived drops the line and goes on.

use std::path::Path;

use daemon::diagnostic::{Diagnostic, Diagnostics, Severity, suggest};

use self::lexer::{Place, Word};
use self::source::Source;
use self::tree::Statement;
use super::virtual_server::Listen;
use super::{AgentConfig, Command, GroupTracks, ScriptUser};

mod checks;
mod expand;
mod globals;
mod instance;
mod lexer;
mod routes;
mod rules;
mod script;
mod servers;
mod source;
#[cfg(test)]
mod tests;
mod tree;
mod values;

pub(crate) use self::checks::status_codes;
pub(crate) use self::values::{address_with_prefix, user};

/// Blocks of keepalived's that have no effect here, with what to tell the person.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("static_rules", "static rules belong to the host's network configuration"),
    ("bfd_instance", "BFD is not supported"),
    ("SSL", "certificates of real servers are not looked at"),
    ("garp_group", "use garp_interval in global_defs"),
    ("track_group", "use track_interface"),
    ("interface_up_down_delays", "link changes count at once"),
    ("linkbeat_interfaces", "the kernel reports carrier changes"),
    ("linkbeat_use_polling", "the kernel reports carrier changes"),
];

const TOP_LEVEL: &[&str] = &[
    "global_defs",
    "vrrp_script",
    "vrrp_track_process",
    "vrrp_track_file",
    "vrrp_instance",
    "vrrp_sync_group",
    "virtual_server_group",
    "virtual_server",
    "static_ipaddress",
    "static_routes",
];

/// Reads the text of `file`. The answer holds everything that could be read; whether it may be used is
/// for the remarks to say.
pub(crate) fn parse(text: &str, file: &str, directory: Option<&Path>) -> (AgentConfig, Diagnostics) {
    parse_as(text, file, directory, None)
}

/// Like [`parse`], with the word that `@` lines are compared with (`-i`).
pub(crate) fn parse_as(
    text: &str,
    file: &str,
    directory: Option<&Path>,
    id: Option<&str>,
) -> (AgentConfig, Diagnostics) {
    let (source, statements) = Source::read(text, file, directory, id);
    let mut reader = Reader {
        source,
        config: AgentConfig::default(),
        defaults: globals::Defaults::default(),
        groups: Vec::new(),
        tracks: Vec::new(),
    };
    // Defaults of global_defs hold for the whole file, wherever they stand.
    for statement in statements.iter().filter(|statement| statement.keyword.text == "global_defs") {
        globals::read(&mut reader, statement);
    }
    for statement in &statements {
        match statement.keyword.text.as_str() {
            "global_defs" => {}
            "vrrp_script" => script::read(&mut reader, statement),
            "vrrp_track_process" => script::read_process(&mut reader, statement),
            "vrrp_track_file" | "track_file" => script::read_file(&mut reader, statement),
            "virtual_server_group" => servers::read_group(&mut reader, statement),
            _ => {}
        }
    }
    for statement in &statements {
        match statement.keyword.text.as_str() {
            "global_defs"
            | "vrrp_script"
            | "vrrp_track_process"
            | "vrrp_track_file"
            | "track_file"
            | "virtual_server_group" => {}
            "vrrp_instance" => instance::read(&mut reader, statement),
            "vrrp_sync_group" => instance::read_group(&mut reader, statement),
            "virtual_server" => servers::read(&mut reader, statement),
            "static_ipaddress" => {
                let addresses = routes::read_addresses(&mut reader, statement);
                reader.config.static_addresses.extend(addresses);
            }
            "static_routes" => {
                let routes = routes::read(&mut reader, statement);
                reader.config.static_routes.extend(routes);
            }
            _ => reader.no_effect_or_unknown(
                &statement.keyword,
                "at the top of the file",
                TOP_LEVEL,
                WITHOUT_EFFECT,
            ),
        }
    }
    let Reader { source, mut config, tracks, .. } = reader;
    tracks.iter().for_each(|tracks| tracks.hand_down(&mut config.instances));
    let mut remarks = source.remarks;
    remarks.sort();
    (config, remarks)
}

/// What the parts share while they read.
struct Reader {
    source: Source,
    config: AgentConfig,
    defaults: globals::Defaults,
    /// `virtual_server_group`s by name.
    groups: Vec<(String, Vec<Listen>)>,
    /// What sync groups track.
    tracks: Vec<GroupTracks>,
}

impl Reader {
    fn error(
        &mut self,
        place: Place,
        code: &'static str,
        message: impl Into<String>,
        label: impl Into<String>,
    ) {
        self.source.remark(Diagnostic::error(code, message).label(label), place);
    }

    fn warning(&mut self, place: Place, code: &'static str, message: impl Into<String>, help: &str) {
        self.source.remark(Diagnostic::warning(code, message).help(help), place);
    }

    fn note(&mut self, place: Place, code: &'static str, message: impl Into<String>) {
        self.source.remark(Diagnostic::note(code, message), place);
    }

    /// A word no table knows.
    fn unknown(&mut self, word: &Word, inside: &str, known: &[&str], quiet: &[(&str, &str)]) {
        let all = known.iter().copied().chain(quiet.iter().map(|(name, _)| *name));
        let label = match suggest(&word.text, all) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "not known here".to_owned(),
        };
        let remark = Diagnostic::new(
            Severity::Error,
            "unknown-word",
            format!("unknown word `{}` {inside}", word.text),
        );
        let remark = remark.label(label).help(format!("known words: {}", known.join(", ")));
        self.source.remark(remark, word.place);
    }

    /// A word that keepalived knows and that does nothing here, or one that nobody knows.
    fn no_effect_or_unknown(&mut self, word: &Word, inside: &str, known: &[&str], quiet: &[(&str, &str)]) {
        match quiet.iter().find(|(name, _)| *name == word.text) {
            Some((name, "")) => self.note(word.place, "no-effect", format!("`{name}` has no effect here")),
            Some((name, why)) => {
                self.warning(word.place, "no-effect", format!("`{name}` has no effect here"), why);
            }
            None => self.unknown(word, inside, known, quiet),
        }
    }

    /// The one value of a statement.
    fn value<'a>(&mut self, statement: &'a Statement) -> Option<&'a Word> {
        if statement.words.is_empty() {
            let keyword = &statement.keyword;
            self.error(
                keyword.place,
                "missing-value",
                format!("`{}` needs a value", keyword.text),
                "value missing",
            );
        } else if let Some(extra) = statement.words.get(1) {
            self.error(
                extra.place,
                "extra-word",
                format!("`{}` takes one value", statement.keyword.text),
                "one word too many; two settings on one line?",
            );
        }
        statement.words.first()
    }

    /// The value of a statement as a number within bounds.
    fn number(&mut self, statement: &Statement, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let word = self.value(statement)?;
        let number = values::number(word, range);
        self.taken(word, &statement.keyword.text, number)
    }

    /// The value of a statement as a time in seconds, possibly with a fraction.
    fn seconds(
        &mut self,
        statement: &Statement,
        range: std::ops::RangeInclusive<f64>,
    ) -> Option<std::time::Duration> {
        let word = self.value(statement)?;
        let seconds = values::seconds(word, range);
        self.taken(word, &statement.keyword.text, seconds)
    }

    /// A switch: alone it is on; otherwise `on`, `true`, `yes` or their opposites.
    fn switch(&mut self, statement: &Statement) -> bool {
        let Some(word) = statement.words.first() else { return true };
        let value = values::boolean(word);
        self.taken(word, &statement.keyword.text, value).unwrap_or(true)
    }

    /// Reports a bad value; `Some` when it is good.
    fn taken<T>(&mut self, word: &Word, keyword: &str, value: Result<T, String>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(reason) => {
                self.error(
                    word.place,
                    "wrong-value",
                    format!("`{keyword}`: `{}` {reason}", word.text),
                    reason,
                );
                None
            }
        }
    }

    /// The program of a notify statement: the first word, with its arguments inside its quotes; then the
    /// user and group to run it as.
    fn notify_command(&mut self, statement: &Statement) -> Option<Command> {
        let mut command = self.command(statement, &statement.words.first()?.text)?;
        command.user = self.user(&statement.words[1..]);
        Some(command)
    }

    /// A program with arguments, given as `text`.
    fn command(&mut self, statement: &Statement, text: &str) -> Option<Command> {
        let Some(first) = statement.words.first() else {
            self.value(statement);
            return None;
        };
        let argv = match values::split_command(text) {
            Ok(argv) if !argv.is_empty() => argv,
            _ => {
                self.error(
                    first.place,
                    "wrong-value",
                    "the command is empty or its quotes are not closed",
                    "",
                );
                return None;
            }
        };
        if let Some(sign) = argv.iter().find(|word| values::looks_like_shell(word)) {
            self.warning(
                first.place,
                "shell",
                format!("`{sign}` means something to a shell, but no shell runs this command"),
                "put it into a script file with #!/bin/sh, or write: /bin/sh -c '…'",
            );
        }
        if !argv[0].starts_with('/') && argv[0].contains('/') {
            self.warning(first.place, "relative-path", "the path is relative", "write the full path");
        }
        Some(Command { argv, user: None })
    }

    /// `user [group]`.
    fn user(&mut self, words: &[Word]) -> Option<ScriptUser> {
        let name = words.first()?;
        let user = match user(&name.text, words.get(1).map(|word| word.text.as_str())) {
            Ok(user) => user,
            Err(reason) => {
                self.error(name.place, "unknown-user", reason, "");
                return None;
            }
        };
        Some(user)
    }
}
