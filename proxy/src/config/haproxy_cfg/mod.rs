//! Reads haproxy.cfg: sections, `defaults`, and every line's own words.
//!
//! All mistakes of a file are reported at once. What HAProxy refuses or silently drops although its
//! meaning is clear (two settings on one line) is read as meant, with a warning and the right form.

mod acl;
mod args;
mod balance;
mod bind;
mod checks;
mod conditional;
mod environment;
mod global;
mod http;
pub mod lexer;
mod log;
pub(super) mod native;
pub mod one_server;
mod options;
mod other;
mod proxy;
mod resolvers;
mod rules;
mod server;
mod source;
mod stats;
mod tls;
mod userlist;
mod vocabulary;

pub use self::acl::{parse_condition, parse_test};
pub use self::balance::{parse_algorithm, show_algorithm};
pub(super) use self::log::quoted;
pub use self::log::{parse_text as parse_log_sink, show as show_log_sink};
pub use self::options::{parse_rate, show_rate};
pub use self::resolvers::parse_nameserver;

use std::collections::{HashMap, HashSet};

use daemon::diagnostic::{Diagnostic, Diagnostics};

use self::args::{Args, Line};
use self::conditional::Conditionals;
use self::environment::Environment;
use self::http::Notes;
use self::lexer::Word;
use super::{Config, Kind, ProxyConfig, Resolvers, Settings, Userlist};

/// After this many errors the rest of a file is not read.
const MAX_ERRORS: usize = 100;

/// Reads one or more files into one configuration; `defaults` carry over from file to file.
#[derive(Debug, Default)]
pub struct Reader {
    defaults: Defaults,
    named_defaults: HashMap<String, Defaults>,
    section: Section,
    /// What is remembered of the section that is read, beside its configuration.
    notes: Notes,
    /// What it has from its defaults.
    inherited: Notes,
    /// Lines of `defaults` that were remarked on for one of their sections.
    warned: HashSet<(String, usize)>,
    conditionals: Conditionals,
    environment: Environment,
    /// Word and line that set `user`, `group`, `uid`, `gid`.
    identity: global::IdentityPlaces,
}

#[derive(Debug, Default, Clone)]
struct Defaults {
    settings: Settings,
    notes: Notes,
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Section {
    /// Before the first section.
    #[default]
    None,
    Global,
    /// `defaults`, with its name.
    Defaults(Option<String>),
    /// The last one of `config.proxies`.
    Proxy,
    /// The last one of `config.resolvers`.
    Resolvers,
    /// The last one of `config.userlists`.
    Userlist,
    /// One that is not carried out.
    Other(other::Other),
    /// A section whose lines are not read.
    Skipped,
}

impl Reader {
    /// Reads `text` into `config`; `file` is only for messages.
    pub fn read(&mut self, text: &str, file: &str, config: &mut Config, remarks: &mut Diagnostics) {
        self.section = Section::None;
        for (index, line_text) in text.lines().enumerate() {
            let number = index + 1;
            self.environment.at(file, number, self.section_name());
            let words = match lexer::words(line_text, &|name| self.environment.get(name)) {
                Ok(words) => words,
                Err(_) if !self.conditionals.is_active() => continue,
                Err(error) => {
                    remarks.push(Diagnostic::error("syntax", error.message).in_file(file).at(
                        number,
                        error.column,
                        shortened(line_text),
                        error.length,
                    ));
                    continue;
                }
            };
            if words.is_empty() {
                continue;
            }
            let line = Line { file, number, text: line_text, words: &words };
            self.read_line(&mut Args::new(&line, remarks), config);
            if remarks.error_count() >= MAX_ERRORS {
                remarks.push(Diagnostic::note("too-many", "more errors than shown").in_file(file));
                return;
            }
        }
        self.close_section(config, remarks);
        self.section = Section::None;
        self.conditionals.finish(remarks);
    }

    fn section_name(&self) -> &'static str {
        match self.section {
            Section::Global => "global",
            Section::Defaults(_) => "defaults",
            Section::Resolvers => "resolvers",
            Section::Userlist => "userlist",
            _ => "",
        }
    }

    fn read_line(&mut self, args: &mut Args<'_, '_>, config: &mut Config) {
        let Some(keyword) = args.next() else { return };
        if keyword.text.starts_with('.')
            && self.conditionals.take(keyword, args, &|name| self.environment.get(name))
        {
            return args.skip_rest();
        }
        if !self.conditionals.is_active() {
            return args.skip_rest();
        }
        if vocabulary::SECTIONS.contains(&keyword.text.as_str()) {
            self.begin_section(keyword, args, config);
            return;
        }
        self.directive(keyword, args, config);
        // HAProxy stops at such a line (or ignores its end); the meaning is clear, so read on.
        while let Some(extra) = args.peek() {
            if !self.is_keyword(&extra.text) {
                let message = format!("unexpected word `{}`", extra.text);
                args.error(extra, "unexpected-word", message, "the setting ends before this word");
                return;
            }
            args.warn(
                extra,
                "two-settings",
                "two settings on one line; HAProxy 2.x refuses this or ignores the second. Both are read",
                &format!("give `{}` its own line", extra.text),
            );
            args.next();
            self.directive(extra, args, config);
        }
    }

    fn directive(&mut self, keyword: &Word, args: &mut Args<'_, '_>, config: &mut Config) {
        match &self.section {
            Section::None => {
                args.unknown(keyword, "section", &[vocabulary::SECTIONS]);
                args.skip_rest();
            }
            Section::Skipped => args.skip_rest(),
            Section::Global if self.environment.directive(keyword, args) => {}
            Section::Global => global::directive(keyword, args, &mut config.global, &mut self.identity),
            Section::Defaults(_) => {
                let Defaults { settings, notes } = &mut self.defaults;
                proxy::settings_directive(keyword, args, settings, notes, None);
            }
            Section::Proxy => {
                if let Some(proxy) = config.proxies.last_mut() {
                    proxy::directive(keyword, args, proxy, &mut self.notes);
                }
            }
            Section::Resolvers => {
                if let Some(resolvers) = config.resolvers.last_mut() {
                    resolvers::directive(keyword, args, resolvers);
                }
            }
            Section::Userlist => {
                if let Some(list) = config.userlists.last_mut() {
                    userlist::directive(keyword, args, list);
                }
            }
            Section::Other(other) => other::directive(*other, keyword, args),
        }
    }

    /// Whether a second setting may begin with this word.
    fn is_keyword(&self, text: &str) -> bool {
        match self.section {
            Section::Global => vocabulary::GLOBAL.contains(&text),
            Section::Defaults(_) | Section::Proxy => vocabulary::PROXY.contains(&text),
            _ => false,
        }
    }

    fn begin_section(&mut self, keyword: &Word, args: &mut Args<'_, '_>, config: &mut Config) {
        args.with_remarks(|remarks| self.close_section(config, remarks));
        self.section = Section::Skipped;
        let kind = match keyword.text.as_str() {
            "global" => {
                self.section = Section::Global;
                return no_more(args);
            }
            "defaults" => return self.begin_defaults(args),
            "listen" => Kind::Listen,
            "frontend" => Kind::Frontend,
            "backend" => Kind::Backend,
            "resolvers" | "userlist" => return self.begin_list(keyword, args, config),
            _ => {
                if let Some(other) = other::begin(keyword, args) {
                    self.section = Section::Other(other);
                }
                return args.skip_rest();
            }
        };
        let Some(name) = section_name(args) else { return };
        let Defaults { settings, notes } = self.inherited(args).unwrap_or_else(|| self.defaults.clone());
        self.inherited = notes;
        let mut proxy = ProxyConfig::new(&name.text, 0, kind, settings);
        proxy.place = args.place(name);
        // HAProxy 1.x allowed `listen NAME ADDRESS`; many files still have it.
        let has_address = |word: &&Word| kind != Kind::Backend && word.text.contains(':');
        if let Some(address) = args.peek().filter(has_address) {
            args.warn(
                address,
                "old-form",
                "an address on the section's line is the form of HAProxy 1.x; it is read",
                &format!("write `bind {}` in the section", address.text),
            );
            bind::directive(args, &mut proxy);
        }
        config.proxies.push(proxy);
        self.section = Section::Proxy;
        no_more(args);
    }

    fn begin_list(&mut self, keyword: &Word, args: &mut Args<'_, '_>, config: &mut Config) {
        let Some(name) = section_name(args) else { return };
        let place = args.place(name);
        let twice = if keyword.text == "resolvers" {
            let twice = config.resolvers.iter().any(|known| known.name == name.text);
            config.resolvers.push(Resolvers::new(&name.text, place));
            self.section = Section::Resolvers;
            twice
        } else {
            let twice = config.userlists.iter().any(|known| known.name == name.text);
            let list = Userlist { name: name.text.clone(), place, users: Vec::new(), groups: Vec::new() };
            config.userlists.push(list);
            self.section = Section::Userlist;
            twice
        };
        if twice {
            args.error(name, "name-twice", format!("{} `{}` exists already", keyword.text, name.text), "");
        }
        no_more(args);
    }

    fn begin_defaults(&mut self, args: &mut Args<'_, '_>) {
        let name = match args.peek() {
            Some(word) if word.text != "from" => args.next().map(|word| word.text.clone()),
            _ => None,
        };
        self.defaults = self.inherited(args).unwrap_or_default();
        self.section = Section::Defaults(name);
        no_more(args);
    }

    /// `from NAME` after a section's name.
    fn inherited(&mut self, args: &mut Args<'_, '_>) -> Option<Defaults> {
        if !args.take("from") {
            return None;
        }
        let name = args.value("the name of a defaults section")?;
        let found = self.named_defaults.get(&name.text).cloned();
        if found.is_none() {
            let near =
                daemon::diagnostic::suggest(&name.text, self.named_defaults.keys().map(String::as_str));
            let label = near.map_or_else(String::new, |near| format!("did you mean `{near}`?"));
            args.error(name, "unknown-name", format!("there is no `defaults {}` above", name.text), &label);
        }
        found
    }

    /// What is only known when a section is whole.
    fn close_section(&mut self, config: &mut Config, remarks: &mut Diagnostics) {
        match &self.section {
            Section::Defaults(name) => {
                self.defaults.notes.close_defaults(self.defaults.settings.mode, remarks);
                if let Some(name) = name {
                    self.named_defaults.insert(name.clone(), self.defaults.clone());
                }
            }
            Section::Proxy => {
                if let Some(proxy) = config.proxies.last() {
                    self.notes.close(proxy, &self.inherited, &mut self.warned, remarks);
                }
            }
            _ => {}
        }
        self.notes = Notes::default();
    }
}

fn section_name<'a>(args: &mut Args<'a, '_>) -> Option<&'a Word> {
    let Some(name) = args.value("a name") else {
        args.skip_rest();
        return None;
    };
    if let Some(wrong) = name.text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(*c)) {
        args.error(
            name,
            "wrong-name",
            format!("`{wrong}` cannot be in the name of a section"),
            "letters, digits, - _ . :",
        );
    }
    Some(name)
}

fn no_more(args: &mut Args<'_, '_>) {
    if let Some(extra) = args.peek() {
        args.error(extra, "unexpected-word", format!("unexpected word `{}`", extra.text), "");
        args.skip_rest();
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Reads one text as the words of a line, as TOML has some settings.
fn with_words<T>(text: &str, read: impl FnOnce(&mut Args<'_, '_>) -> Option<T>) -> Result<T, String> {
    let words = lexer::words(text, &|_| None).map_err(|error| error.message)?;
    if words.is_empty() {
        return Err("nothing is written here".to_owned());
    }
    let line = Line { file: "", number: 1, text, words: &words };
    let mut remarks = Diagnostics::new();
    let mut args = Args::new(&line, &mut remarks);
    let found = read(&mut args);
    let left = args.peek().map(|word| word.text.clone());
    let first = remarks.iter().find(|remark| remark.severity == daemon::diagnostic::Severity::Error);
    match (found, first, left) {
        (_, Some(error), _) if error.label.is_empty() => Err(error.message.clone()),
        (_, Some(error), _) => Err(format!("{}; {}", error.message, error.label)),
        (_, None, Some(extra)) => Err(format!("unexpected word `{extra}`")),
        (Some(found), None, None) => Ok(found),
        (None, None, None) => Err(format!("`{text}` is not understood")),
    }
}

#[cfg(test)]
mod tests;
