//! What became of the questions to each name server (`show resolvers`).

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::message::Answer;
use crate::config::sections::{Nameserver, Resolvers};

/// Counters by section and name server. They outlive a reload; names that are gone are few.
static ALL: Mutex<Option<Counted>> = Mutex::new(None);

type Counted = HashMap<(String, String), Arc<Asked>>;

/// Name servers that are counted, at most.
const MOST: usize = 4096;

/// Counters of a name server.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) sent: AtomicU64,
    pub(super) send_errors: AtomicU64,
    valid: AtomicU64,
    empty: AtomicU64,
    no_name: AtomicU64,
    timeouts: AtomicU64,
    refused: AtomicU64,
    other: AtomicU64,
    truncated: AtomicU64,
}

impl Asked {
    /// An answer came, or none.
    pub(super) fn answered(&self, answer: &Answer) {
        let counter = match answer {
            Answer::Found(_) => &self.valid,
            Answer::Empty => &self.empty,
            Answer::NoName => &self.no_name,
            Answer::Timeout => &self.timeouts,
            Answer::Refused => &self.refused,
            Answer::Other => &self.other,
            Answer::Truncated => &self.truncated,
        };
        counter.fetch_add(1, Relaxed);
    }
}

/// The counters of a name server.
pub(super) fn of(section: &str, nameserver: &str) -> Arc<Asked> {
    let mut all = ALL.lock();
    let all = all.get_or_insert_default();
    if all.len() >= MOST {
        return Arc::default();
    }
    all.entry((section.to_owned(), nameserver.to_owned())).or_default().clone()
}

/// HAProxy's words about the name servers of a section.
#[must_use]
pub fn show(section: &Resolvers, servers: &[Nameserver]) -> String {
    let mut out = format!("Resolvers section {}\n", section.name);
    for server in servers {
        let asked = of(&section.name, &server.name);
        let _ = writeln!(out, " nameserver {}:", server.name);
        for (name, counter) in [
            ("sent", Some(&asked.sent)),
            ("snd_error", Some(&asked.send_errors)),
            ("valid", Some(&asked.valid)),
            // Names are followed where they lead, and only changes of answers are told by the log.
            ("update", None),
            ("cname", None),
            ("cname_error", None),
            ("any_err", Some(&asked.empty)),
            ("nx", Some(&asked.no_name)),
            ("timeout", Some(&asked.timeouts)),
            ("refused", Some(&asked.refused)),
            ("other", Some(&asked.other)),
            ("invalid", None),
            ("too_big", None),
            ("truncated", Some(&asked.truncated)),
            ("outdated", None),
        ] {
            let value = counter.map_or(0, |counter| counter.load(Relaxed));
            let _ = writeln!(out, "  {:<12} {value}", format!("{name}:"));
        }
    }
    out
}
