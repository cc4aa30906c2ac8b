//! Reads haproxy.cfg: sections, `defaults`, and every line's own words.
//!
//! All mistakes of a file are reported at once. What HAProxy refuses or silently drops although its
//! meaning is clear (two settings on one line) is read as meant, with a warning and the right form.

mod args;
mod bind;
mod global;
pub mod lexer;
mod log;
pub mod one_server;
mod proxy;
mod rules;
mod server;
mod stats;
mod vocabulary;

pub use self::log::parse_text as parse_log_sink;
pub use self::proxy::parse_algorithm;

use std::collections::HashMap;

use daemon::diagnostic::{Diagnostic, Diagnostics};

use self::args::{Args, Line};
use self::lexer::Word;
use super::{Config, Kind, ProxyConfig, Settings};

/// After this many errors the rest of a file is not read.
const MAX_ERRORS: usize = 100;

/// Reads one or more files into one configuration; `defaults` carry over from file to file.
#[derive(Debug, Default)]
pub struct Reader {
    defaults: Settings,
    named_defaults: HashMap<String, Settings>,
    section: Section,
    /// Word and line that set `user`, `group`, `uid`, `gid`.
    identity: global::IdentityPlaces,
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
    /// A section whose lines are not read.
    Skipped,
}

impl Reader {
    /// Reads `text` into `config`; `file` is only for messages.
    pub fn read(&mut self, text: &str, file: &str, config: &mut Config, remarks: &mut Diagnostics) {
        self.section = Section::None;
        let variable = |name: &str| std::env::var(name).ok();
        for (index, line_text) in text.lines().enumerate() {
            let number = index + 1;
            let words = match lexer::words(line_text, &variable) {
                Ok(words) => words,
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
        self.store_defaults();
    }

    fn read_line(&mut self, args: &mut Args<'_, '_>, config: &mut Config) {
        let Some(keyword) = args.next() else { return };
        if vocabulary::SECTIONS.contains(&keyword.text.as_str()) && is_section_start(&self.section, args) {
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
            Section::Global => global::directive(keyword, args, &mut config.global, &mut self.identity),
            Section::Defaults(_) => proxy::settings_directive(keyword, args, &mut self.defaults, None),
            Section::Proxy => {
                if let Some(proxy) = config.proxies.last_mut() {
                    proxy::directive(keyword, args, proxy);
                }
            }
        }
    }

    /// Whether a second setting may begin with this word.
    fn is_keyword(&self, text: &str) -> bool {
        match self.section {
            Section::Global => vocabulary::GLOBAL.contains(&text),
            Section::Defaults(_) | Section::Proxy => vocabulary::PROXY.contains(&text),
            Section::None | Section::Skipped => false,
        }
    }

    fn begin_section(&mut self, keyword: &Word, args: &mut Args<'_, '_>, config: &mut Config) {
        self.store_defaults();
        let kind = match keyword.text.as_str() {
            "global" => {
                self.section = Section::Global;
                return no_more(args);
            }
            "defaults" => return self.begin_defaults(args),
            "listen" => Kind::Listen,
            "frontend" => Kind::Frontend,
            "backend" => Kind::Backend,
            other => {
                args.warn(
                    keyword,
                    "section-not-used",
                    format!("section `{other}` is read over: nothing here uses it"),
                    "",
                );
                self.section = Section::Skipped;
                return args.skip_rest();
            }
        };
        let Some(name) = args.value("a name") else {
            self.section = Section::Skipped;
            return;
        };
        if let Some(wrong) = name.text.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_.:".contains(*c)) {
            args.error(
                name,
                "wrong-name",
                format!("`{wrong}` cannot be in the name of a section"),
                "letters, digits, - _ . :",
            );
        }
        let settings = self.inherited(args).unwrap_or_else(|| self.defaults.clone());
        let id = config.next_id();
        let mut proxy = ProxyConfig::new(&name.text, id, kind, settings);
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
    fn inherited(&mut self, args: &mut Args<'_, '_>) -> Option<Settings> {
        if !args.take("from") {
            return None;
        }
        let name = args.value("the name of a defaults section")?;
        let found = self.named_defaults.get(&name.text).cloned();
        if found.is_none() {
            args.error(name, "unknown-name", format!("there is no `defaults {}` above", name.text), "");
        }
        found
    }

    fn store_defaults(&mut self) {
        if let Section::Defaults(Some(name)) = &self.section {
            self.named_defaults.insert(name.clone(), self.defaults.clone());
        }
    }
}

/// `cache`, `log-forward` and the like are also words inside sections in other positions; a section
/// begins only at the first word of a line, which this always is. `program` and `ring` have names.
fn is_section_start(section: &Section, args: &Args<'_, '_>) -> bool {
    !(*section == Section::Skipped && args.peek().is_some_and(|word| word.text.contains('=')))
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

#[cfg(test)]
mod tests;
