//! Keys that are words of haproxy.cfg: `key = "the rest of the line"`, a list of such texts for several
//! lines, `key = true` for a word by itself, `key = false` for its `no-` form.

use std::collections::HashMap;
use std::ops::Range;

use daemon::diagnostic::Diagnostics;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Context;
use crate::config::haproxy_cfg::native::{self, SectionLines};
use crate::config::{Config, Kind, Place, ProxyConfig, Resolvers, ServerOptions, Settings, Userlist};

/// Keys of `[global]` that the TOML form has itself.
const GLOBAL: &[&str] =
    &["maxconn", "user", "group", "uid", "gid", "chroot", "pidfile", "log", "node", "description"];
/// Keys of a section that the TOML form has itself.
const SECTION: &[&str] = &[
    "bind",
    "interface",
    "backlog",
    "balance",
    "servers",
    "server_defaults",
    "check",
    "idle",
    "timeout",
    "retries",
    "redispatch",
    "maxconn",
    "fullconn",
    "log",
    "keepalive",
    "splice",
    "default_backend",
    "description",
    "disabled",
];
/// Keys of a server that the TOML form has itself.
const SERVER: &[&str] = &["address", "check", "weight", "backup", "maxconn", "maxqueue", "disabled"];

/// A key and the lines it stands for.
pub(super) struct Word {
    key: String,
    given: Given,
    span: Range<usize>,
}

enum Given {
    Flag(bool),
    Lines(Vec<String>),
}

/// All such keys of a file, taken out of the document.
#[derive(Default)]
pub(super) struct Words {
    global: Vec<Word>,
    /// Of `[defaults]` and of each section by kind and name.
    sections: HashMap<(Option<Kind>, String), Section>,
    /// Where each section begins, in the order of the file.
    pub(super) order: Vec<(usize, Option<Kind>, String)>,
    resolvers: Vec<(String, Range<usize>, Vec<Word>)>,
    userlists: Vec<(String, Range<usize>, Vec<Word>)>,
}

#[derive(Default)]
struct Section {
    lines: Vec<Word>,
    server_defaults: Vec<Word>,
    servers: HashMap<String, Vec<Word>>,
}

impl Words {
    /// Takes every key that is a word of haproxy.cfg and not one of the TOML form.
    pub(super) fn take(&mut self, document: &mut DeTable<'_>) {
        if let Some(global) = table(document, "global") {
            self.global = take_words(global, |key| !GLOBAL.contains(&key) && native::is_global_word(key));
        }
        if let Some(defaults) = table(document, "defaults") {
            self.sections.insert((None, String::new()), Section::take(defaults));
        }
        for (name, kind) in [
            ("listen", Some(Kind::Listen)),
            ("frontend", Some(Kind::Frontend)),
            ("backend", Some(Kind::Backend)),
            ("stats", None),
        ] {
            let Some(sections) = table(document, name) else { continue };
            for (key, value) in sections.iter_mut() {
                let name = key.get_ref().to_string();
                self.order.push((key.span().start, kind, name.clone()));
                if let (Some(_), DeValue::Table(section)) = (kind, value.get_mut()) {
                    self.sections.insert((kind, name), Section::take(section));
                }
            }
        }
        self.order.sort_by_key(|(start, _, _)| *start);
        for (name, list) in [("resolvers", &mut self.resolvers), ("userlist", &mut self.userlists)] {
            let Some(sections) = table(document, name) else { continue };
            for (key, value) in sections.iter_mut() {
                if let DeValue::Table(section) = value.get_mut() {
                    list.push((key.get_ref().to_string(), key.span(), take_words(section, |_| true)));
                }
            }
        }
    }

    /// Carries out those of `[global]`.
    pub(super) fn global(&self, config: &mut Config, context: &Context<'_>, remarks: &mut Diagnostics) {
        for word in &self.global {
            word.each(context, |place, rest| native::global_line(place, &word.key, rest, config, remarks));
        }
    }

    /// Carries out those of `[defaults]`.
    pub(super) fn defaults(&self, settings: &mut Settings, context: &Context<'_>, remarks: &mut Diagnostics) {
        let Some(section) = self.sections.get(&(None, String::new())) else { return };
        let mut lines = SectionLines::default();
        for word in &section.lines {
            word.each(context, |place, rest| lines.settings(place, &word.key, rest, settings, remarks));
        }
        lines.close_defaults(settings, remarks);
        options(&section.server_defaults, (&mut settings.default_server, &mut None), context, remarks);
    }

    /// Carries out those of a section, except about its servers; acls first, as rules need them.
    pub(super) fn section(&self, proxy: &mut ProxyConfig, context: &Context<'_>, remarks: &mut Diagnostics) {
        let Some(section) = self.sections.get(&(Some(proxy.kind), proxy.name.clone())) else { return };
        options(&section.server_defaults, (&mut proxy.settings.default_server, &mut None), context, remarks);
        let mut lines = SectionLines::default();
        for acl in [true, false] {
            for word in section.lines.iter().filter(|word| (word.key == "acl") == acl) {
                word.each(context, |place, rest| lines.section(place, &word.key, rest, proxy, remarks));
            }
        }
        lines.close(proxy, remarks);
    }

    /// Carries out those of one server.
    pub(super) fn server(
        &self,
        proxy: &ProxyConfig,
        name: &str,
        target: (&mut ServerOptions, &mut Option<u32>),
        context: &Context<'_>,
        remarks: &mut Diagnostics,
    ) {
        let section = self.sections.get(&(Some(proxy.kind), proxy.name.clone()));
        if let Some(words) = section.and_then(|section| section.servers.get(name)) {
            options(words, target, context, remarks);
        }
    }

    /// Sections that consist of such keys only.
    pub(super) fn lists(&self, config: &mut Config, context: &Context<'_>, remarks: &mut Diagnostics) {
        for (name, span, words) in &self.resolvers {
            let mut resolvers = Resolvers::new(name, context.place(span.clone()));
            for word in words {
                word.each(context, |place, rest| {
                    native::resolvers_line(place, &word.key, rest, &mut resolvers, remarks);
                });
            }
            config.resolvers.push(resolvers);
        }
        for (name, span, words) in &self.userlists {
            let place = context.place(span.clone());
            let mut list = Userlist { name: name.clone(), place, users: Vec::new(), groups: Vec::new() };
            for word in words {
                word.each(context, |place, rest| {
                    native::userlist_line(place, &word.key, rest, &mut list, remarks);
                });
            }
            config.userlists.push(list);
        }
    }
}

impl Section {
    fn take(table: &mut DeTable<'_>) -> Self {
        let mut section = Self {
            lines: take_words(table, |key| !SECTION.contains(&key) && native::is_section_word(key)),
            ..Self::default()
        };
        if let Some(defaults) = self::table(table, "server_defaults") {
            section.server_defaults = take_words(defaults, is_server_word);
        }
        if let Some(servers) = self::table(table, "servers") {
            for (key, value) in servers.iter_mut() {
                if let DeValue::Table(server) = value.get_mut() {
                    let words = take_words(server, is_server_word);
                    section.servers.insert(key.get_ref().to_string(), words);
                }
            }
        }
        section
    }
}

fn is_server_word(key: &str) -> bool {
    !SERVER.contains(&key) && native::is_server_word(key)
}

fn table<'a, 'i>(document: &'a mut DeTable<'i>, key: &str) -> Option<&'a mut DeTable<'i>> {
    match document.get_mut(key)?.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Takes the keys out that are wanted and have a value that can be a line.
fn take_words(table: &mut DeTable<'_>, wanted: impl Fn(&str) -> bool) -> Vec<Word> {
    let mut words = Vec::new();
    for (key, value) in table.iter() {
        if wanted(key.get_ref()) {
            let given = given(value);
            words.extend(given.map(|given| Word {
                key: key.get_ref().to_string(),
                given,
                span: value.span(),
            }));
        }
    }
    for word in &words {
        table.remove(word.key.as_str());
    }
    words
}

fn given(value: &Spanned<DeValue<'_>>) -> Option<Given> {
    match value.get_ref() {
        DeValue::Boolean(on) => Some(Given::Flag(*on)),
        DeValue::Array(list) => {
            let lines: Option<Vec<String>> = list.iter().map(|item| text(item.get_ref())).collect();
            lines.map(Given::Lines)
        }
        other => text(other).map(|line| Given::Lines(vec![line])),
    }
}

fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

impl Word {
    /// Calls `carry_out` with the rest of each line.
    fn each(&self, context: &Context<'_>, mut carry_out: impl FnMut(&Place, &str)) {
        let place = context.place(self.span.clone());
        match &self.given {
            Given::Flag(true) => carry_out(&place, ""),
            // Off is what they are without the key.
            Given::Flag(false) => {}
            Given::Lines(lines) => lines.iter().for_each(|line| carry_out(&place, line)),
        }
    }
}

fn options(
    words: &[Word],
    (server, id): (&mut ServerOptions, &mut Option<u32>),
    context: &Context<'_>,
    remarks: &mut Diagnostics,
) {
    for word in words {
        let mut one = |key: &str, rest: &str| {
            let place = context.place(word.span.clone());
            native::server_option(&place, key, rest, (server, id), remarks);
        };
        match &word.given {
            Given::Flag(true) => one(&word.key, ""),
            Given::Flag(false) => match word.key.strip_prefix("no-") {
                Some(positive) => one(positive, ""),
                None => one(&format!("no-{}", word.key), ""),
            },
            Given::Lines(lines) => lines.iter().for_each(|line| one(&word.key, line)),
        }
    }
}
