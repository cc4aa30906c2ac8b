//! Counters from the process before: an upgrade goes on counting where the old program was.
//!
//! ```text
//! process - total=812 bytes_in=0 ...
//! frontend rabbitmq total=800 bytes_in=91823 ...
//! server rabbitmq/A total=400 ... checks_failed=2 downs=1
//! ```
//! What sessions of the old process still move after that, it counts itself and takes with it.

use std::fmt::Write;

use crate::counters::Counters;
use crate::process::Process;

/// All counters, for the process that takes over.
#[must_use]
pub fn show(process: &Process) -> String {
    let mut out = String::new();
    let mut line = |kind: &str, name: &str, counters: &Counters, more: &str| {
        let _ = writeln!(out, "{kind} {name}{}{more}", counters.sums_as_text());
    };
    line("process", "-", &process.counters, "");
    for section in process.sections().iter() {
        if let Some(frontend) = &section.frontend {
            line("frontend", &frontend.name, &frontend.counters, "");
        }
        let Some(backend) = &section.backend else { continue };
        line("backend", &backend.name, &backend.counters, "");
        for server in backend.servers().iter() {
            let (failed, downs) = server.look(|condition| (condition.failed_checks, condition.downs));
            let checks = format!(" checks_failed={failed} downs={downs}");
            line("server", &server.full_name(), &server.counters, &checks);
        }
    }
    out
}

/// Adds what the process before had counted. What is there no more is left out.
pub fn load(process: &Process, text: &str) {
    let sections = process.sections();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(name)) = (words.next(), words.next()) else { continue };
        let values = || words.clone().filter_map(|word| word.split_once('='));
        let backend = |name: &str| {
            sections.iter().filter_map(|section| section.backend.as_ref()).find(|it| *it.name == *name)
        };
        match kind {
            "process" => process.counters.add_sums(values()),
            "frontend" => {
                let mut frontends = sections.iter().filter_map(|section| section.frontend.as_ref());
                if let Some(frontend) = frontends.find(|frontend| *frontend.name == *name) {
                    frontend.counters.add_sums(values());
                }
            }
            "backend" => {
                if let Some(backend) = backend(name) {
                    backend.counters.add_sums(values());
                }
            }
            "server" => {
                let server = name.split_once('/').and_then(|(section, server)| {
                    backend(section).and_then(|backend| backend.server(server))
                });
                let Some(server) = server else { continue };
                server.counters.add_sums(values());
                let number = |key: &str| {
                    values().find(|(name, _)| *name == key).and_then(|(_, value)| value.parse::<u64>().ok())
                };
                server.change(|condition| {
                    condition.failed_checks += number("checks_failed").unwrap_or(0);
                    condition.downs += number("downs").unwrap_or(0);
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::config::{Config, haproxy_cfg::Reader};

    fn process() -> Process {
        let (mut config, mut remarks) = (Config::default(), daemon::diagnostic::Diagnostics::new());
        let text = "listen l\n mode tcp\n bind 127.0.0.1:1\n server a 127.0.0.1:1\n server b 127.0.0.1:2\n";
        Reader::default().read(text, "t.cfg", &mut config, &mut remarks);
        Process::new(config, "haproxy")
    }

    #[test]
    fn the_next_process_goes_on_counting() {
        let (old, new) = (process(), process());
        old.counters.total.store(9, Relaxed);
        let server = |process: &Process| process.backend("l").unwrap().server("b").unwrap();
        server(&old).counters.bytes_out.store(1_000_000_000_000, Relaxed);
        server(&old).change(|condition| condition.downs = 3);
        old.sections()[0].frontend.as_ref().unwrap().counters.answers[1].store(7, Relaxed);
        server(&new).counters.bytes_out.store(5, Relaxed);
        load(&new, &format!("{}nonsense\nserver l/gone total=1\nfrontend l total=x\n", show(&old)));
        assert_eq!(new.counters.total.load(Relaxed), 9);
        assert_eq!(server(&new).counters.bytes_out.load(Relaxed), 1_000_000_000_005);
        assert_eq!(server(&new).condition().downs, 3);
        assert_eq!(new.sections()[0].frontend.as_ref().unwrap().counters.answers[1].load(Relaxed), 7);
    }
}
