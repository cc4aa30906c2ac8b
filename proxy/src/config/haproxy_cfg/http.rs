//! Words that only concern HTTP: remembered while a section is read, remarked on when it is known what the
//! section is used for.

use std::collections::HashSet;

use daemon::diagnostic::{Diagnostic, Diagnostics};

use super::args::Args;
use super::lexer::Word;
use crate::config::rules::Stage;
use crate::config::{Kind, Mode, Place, ProxyConfig};

/// What leaving a word out does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// Nobody sees it.
    Harmless,
    /// Requests or answers look different.
    Changes,
    /// Clients go elsewhere.
    Routes,
    /// Clients come in that were kept out.
    Guards,
}

/// A word that only concerns HTTP.
#[derive(Debug, Clone)]
pub(super) struct HttpWord {
    place: Place,
    what: String,
    weight: Weight,
}

/// What is remembered of a section beside its configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    /// Its words about HTTP.
    http: Vec<HttpWord>,
    /// Stages with an `accept` rule that was left out.
    pub(super) left_out_accepts: Vec<Stage>,
}

impl Notes {
    /// Remembers a word and goes past the rest of its line.
    pub(super) fn http(&mut self, word: &Word, args: &mut Args<'_, '_>, what: &str, weight: Weight) {
        args.skip_rest();
        self.http.push(HttpWord { place: args.place(word), what: what.to_owned(), weight });
    }

    /// At the end of a `defaults` section: remarks when it is in mode tcp itself; else keeps for the
    /// sections what they would miss.
    pub(super) fn close_defaults(&mut self, mode: Mode, remarks: &mut Diagnostics) {
        if mode == Mode::Tcp {
            for word in self.http.drain(..) {
                remarks.push(word.no_effect());
            }
        }
        self.http.retain(|word| word.weight != Weight::Harmless);
        self.left_out_accepts.clear();
    }

    /// At the end of a section; `inherited` is from its defaults, `warned` has the lines of those that were
    /// remarked on.
    pub(super) fn close(
        &mut self,
        proxy: &ProxyConfig,
        inherited: &Self,
        warned: &mut HashSet<(String, usize)>,
        remarks: &mut Diagnostics,
    ) {
        let is_tcp = proxy.settings.mode == Mode::Tcp;
        let carries = proxy.carries_traffic();
        for word in self.http.drain(..) {
            match word.weight {
                _ if is_tcp => remarks.push(word.no_effect()),
                Weight::Guards => {
                    remarks.push(word.refused("leaving it out would let clients in that it keeps out"));
                }
                Weight::Routes if carries => {
                    remarks.push(word.refused("leaving it out would send clients elsewhere"));
                }
                _ if carries || word.weight == Weight::Routes => remarks.push(word.left_out(proxy)),
                _ => {}
            }
        }
        if !is_tcp && !carries {
            return;
        }
        for word in &inherited.http {
            if warned.insert((word.place.file.clone(), word.place.line)) {
                remarks.push(word.left_out(proxy));
            }
        }
    }
}

impl HttpWord {
    fn no_effect(&self) -> Diagnostic {
        let message =
            format!("`{}` only concerns HTTP; it has no effect in a section with mode tcp", self.what);
        self.place.mark(Diagnostic::warning("http-only", message)).help("remove the line")
    }

    fn left_out(&self, proxy: &ProxyConfig) -> Diagnostic {
        let message = format!(
            "`{}` only concerns HTTP; `{}` relays connections whole, so it has no effect there",
            self.what, proxy.name
        );
        self.place.mark(Diagnostic::warning("http-only", message))
    }

    fn refused(&self, why: &str) -> Diagnostic {
        let message = format!("`{}` needs HTTP, which is not looked at; {why}", self.what);
        self.place
            .mark(Diagnostic::error("not-supported", message))
            .help("leave this section to an HTTP proxy, or remove the line if it may go")
    }
}

impl ProxyConfig {
    /// Whether clients' connections go through it to servers.
    pub(in crate::config) fn carries_traffic(&self) -> bool {
        !self.servers.is_empty()
            || !self.backend_rules.is_empty()
            || (self.kind != Kind::Backend && self.settings.default_backend.is_some())
    }
}

/// What leaving `http-request ACTION` and the like out does.
pub(super) fn rule_weight(keyword: &str, action: &str) -> Weight {
    match keyword {
        "http-request" | "http-response" => match action.split('(').next().unwrap_or(action) {
            "deny" | "reject" | "tarpit" | "auth" | "silent-drop" | "block" => Weight::Guards,
            "redirect" | "return" | "set-dst" | "set-dst-port" | "use-service" => Weight::Routes,
            _ => Weight::Changes,
        },
        "block" | "reqdeny" | "reqideny" | "reqtarpit" | "reqitarpit" | "rspdeny" | "rspideny" => {
            Weight::Guards
        }
        "redirect" | "use-fcgi-app" => Weight::Routes,
        "http-reuse" | "unique-id-format" | "unique-id-header" | "http-send-name-header" | "capture" => {
            Weight::Harmless
        }
        _ => Weight::Changes,
    }
}
