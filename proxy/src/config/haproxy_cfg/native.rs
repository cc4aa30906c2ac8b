//! Lines of haproxy.cfg that stand in the TOML form: a key is the line's first word, the text after it is
//! the rest of the line.

use std::collections::HashSet;

use daemon::diagnostic::Diagnostics;

use super::args::{Args, Line};
use super::http::Notes;
use super::lexer::{self, Word};
use super::{bind, global, proxy, resolvers, server, tls, userlist, vocabulary};
use crate::config::{Bind, Config, Place, ProxyConfig, Resolvers, ServerOptions, Settings, Userlist};

/// Longest text, and most words in it; files of networks may be long.
const MAX_BYTES: usize = 1 << 20;
const MAX_WORDS: usize = 65_536;

/// Whether `global` has this word.
pub(in crate::config) fn is_global_word(word: &str) -> bool {
    vocabulary::GLOBAL.contains(&word)
        || vocabulary::GLOBAL_TUNING.contains(&word)
        || vocabulary::GLOBAL_SSL.contains(&word)
        || vocabulary::is_tune(word)
        || vocabulary::TUNE_USED.contains(&word)
}

/// Whether a proxy section has this word.
pub(in crate::config) fn is_section_word(word: &str) -> bool {
    [vocabulary::PROXY, vocabulary::PROXY_HTTP, vocabulary::PROXY_TUNING, vocabulary::PROXY_REFUSED]
        .iter()
        .any(|list| list.contains(&word))
}

/// Whether a `server` line has this word.
pub(in crate::config) fn is_server_word(word: &str) -> bool {
    [
        vocabulary::SERVER,
        vocabulary::SERVER_VALUE,
        vocabulary::SERVER_FLAG,
        vocabulary::SERVER_REFUSED,
        tls::SHARED,
        tls::SERVER,
    ]
    .iter()
    .any(|list| list.contains(&word))
}

/// Runs `read` over a line made of a key and the text after it. Every word stands at `place`.
fn line<T>(
    place: &Place,
    key: &str,
    rest: &str,
    remarks: &mut Diagnostics,
    read: impl FnOnce(&Word, &mut Args<'_, '_>) -> T,
) -> Option<T> {
    let at = |text: String| Word { text, column: place.column.max(1), length: place.length.max(1) };
    let mut words = vec![at(key.to_owned())];
    match lexer::words_within(rest, &|name| std::env::var(name).ok(), MAX_BYTES, MAX_WORDS) {
        Ok(found) => words.extend(found.into_iter().map(|word| at(word.text))),
        Err(error) => {
            let remark = daemon::diagnostic::Diagnostic::error("syntax", error.message);
            remarks.push(place.mark(remark));
            return None;
        }
    }
    let line = Line { file: &place.file, number: place.line, text: &place.text, words: &words };
    let mut args = Args::new(&line, remarks);
    let keyword = args.next()?;
    let found = read(keyword, &mut args);
    if let Some(extra) = args.peek() {
        let message = format!("unexpected word `{}`", extra.text);
        args.error(extra, "unexpected-word", message, "the setting ends before this word");
    }
    Some(found)
}

/// A line of `global`.
pub(in crate::config) fn global_line(
    place: &Place,
    key: &str,
    rest: &str,
    config: &mut Config,
    remarks: &mut Diagnostics,
) {
    let mut identity = global::IdentityPlaces::default();
    line(place, key, rest, remarks, |keyword, args| {
        global::directive(keyword, args, &mut config.global, &mut identity);
    });
}

/// Reads the lines of one section (or `defaults`) and remembers what is only known at its end.
#[derive(Default)]
pub(in crate::config) struct SectionLines {
    notes: Notes,
}

impl SectionLines {
    /// A line of `defaults`.
    pub(in crate::config) fn settings(
        &mut self,
        place: &Place,
        key: &str,
        rest: &str,
        settings: &mut Settings,
        remarks: &mut Diagnostics,
    ) {
        line(place, key, rest, remarks, |keyword, args| {
            proxy::settings_directive(keyword, args, settings, &mut self.notes, None);
        });
    }

    /// A line of another section.
    pub(in crate::config) fn section(
        &mut self,
        place: &Place,
        key: &str,
        rest: &str,
        proxy: &mut ProxyConfig,
        remarks: &mut Diagnostics,
    ) {
        line(place, key, rest, remarks, |keyword, args| {
            proxy::directive(keyword, args, proxy, &mut self.notes);
        });
    }

    /// The end of a section.
    pub(in crate::config) fn close(&mut self, proxy: &ProxyConfig, remarks: &mut Diagnostics) {
        self.notes.close(proxy, &Notes::default(), &mut HashSet::new(), remarks);
    }

    /// The end of `defaults`.
    pub(in crate::config) fn close_defaults(&mut self, settings: &Settings, remarks: &mut Diagnostics) {
        self.notes.close_defaults(settings.mode, remarks);
    }
}

/// An option of a server.
pub(in crate::config) fn server_option(
    place: &Place,
    key: &str,
    rest: &str,
    (options, id): (&mut ServerOptions, &mut Option<u32>),
    remarks: &mut Diagnostics,
) {
    let text = format!("{key} {rest}");
    line(place, "server", &text, remarks, |_, args| {
        if server::read_options(args, options, id).is_none() {
            args.skip_rest();
        }
    });
}

/// What follows `bind`.
pub(in crate::config) fn bind_line(place: &Place, text: &str, remarks: &mut Diagnostics) -> Vec<Bind> {
    line(place, "bind", text, remarks, |_, args| bind::read(args)).unwrap_or_default()
}

/// A line of a `resolvers` section.
pub(in crate::config) fn resolvers_line(
    place: &Place,
    key: &str,
    rest: &str,
    resolvers: &mut Resolvers,
    remarks: &mut Diagnostics,
) {
    line(place, key, rest, remarks, |keyword, args| resolvers::directive(keyword, args, resolvers));
}

/// A line of a `userlist` section.
pub(in crate::config) fn userlist_line(
    place: &Place,
    key: &str,
    rest: &str,
    list: &mut Userlist,
    remarks: &mut Diagnostics,
) {
    line(place, key, rest, remarks, |keyword, args| userlist::directive(keyword, args, list));
}
