//! Limits at run time: `set maxconn` and `set rate-limit`.

use super::{Answer, Cli, Reply, enable};
use crate::config::Level;

/// `set maxconn frontend <frontend> <value>`
pub(super) fn frontend(cli: &mut Cli, words: &[&str]) -> Answer {
    let name = enable::frontend_name(cli, words)?;
    let value = words.get(1).ok_or_else(|| Reply::error("Integer value expected.\n"))?;
    let sections = cli.process.sections();
    let found = sections.iter().find(|section| section.config.name == name);
    if let Some(frontend) = found.and_then(|section| section.frontend.as_ref()) {
        // HAProxy reads what is no number as 0, and 0 as what the process allows.
        let limit = match leading_number(value) {
            0 => cli.process.maxconn(),
            limit => limit.min(cli.process.maxconn()),
        };
        frontend.places.set_limit(limit);
    }
    Ok(Reply::done())
}

/// `set maxconn global <value>`; 0 is what the process began with.
pub(super) fn global(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let value = words.first().ok_or_else(|| Reply::error("Expects an integer value.\n"))?;
    if cli.process.set_maxconn(leading_number(value)) {
        Ok(Reply::done())
    } else {
        Err(Reply::error("Value out of range.\n"))
    }
}

/// `set maxconn server <bk>/<srv> <value>`; 0 is no limit.
pub(super) fn server(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Admin)?;
    let (backend, server) = cli.server(words.first())?;
    let value = words.get(1).ok_or_else(|| Reply::error("Require <maxconn>.\n"))?;
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(Reply::error("maxconn string empty or preceded by garbage"));
    }
    if digits < value.len() {
        return Err(Reply::error("Trailing garbage in maxconn string"));
    }
    server.set_maxconn(leading_number(value));
    // More places may have come free.
    backend.server_changed(std::time::Instant::now());
    Ok(Reply::done())
}

/// `set rate-limit <setting> global <value>`
pub(super) fn rate_limit(cli: &mut Cli, words: &[&str]) -> Answer {
    const SETTINGS: [&str; 4] = ["connections", "sessions", "ssl-sessions", "http-compression"];
    cli.need(Level::Admin)?;
    let (Some(setting), Some(&"global")) = (words.first(), words.get(1)) else { return Err(unknown_limit()) };
    if !SETTINGS.contains(setting) {
        return Err(unknown_limit());
    }
    let value = words.get(2).ok_or_else(|| Reply::error("Expects an integer value.\n"))?;
    let limit = Some(leading_number(value)).filter(|limit| *limit > 0);
    let paces = &cli.process.paces;
    match *setting {
        "connections" => paces.connections.set_limit(limit),
        "sessions" => paces.sessions.set_limit(limit),
        "ssl-sessions" => paces.tls.set_limit(limit),
        // Nothing is compressed.
        _ => {}
    }
    Ok(Reply::done())
}

fn unknown_limit() -> Reply {
    Reply::error(
        "'set rate-limit' only supports :\n\
         \u{20}  - 'connections global' to set the per-process maximum connection rate\n\
         \u{20}  - 'sessions global' to set the per-process maximum session rate\n\
         \u{20}  - 'ssl-sessions global' to set the per-process maximum SSL session rate\n\
         \u{20}  - 'http-compression global' to set the per-process maximum compression speed in kB/s\n",
    )
}

/// The digits at the beginning as a number; 0 without any, as HAProxy reads it (atol(3)).
pub(super) fn leading_number(text: &str) -> u32 {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 { 0 } else { text[..digits].parse().unwrap_or(u32::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        for (text, number) in [("5", 5), ("5x", 5), ("x", 0), ("", 0), ("-3", 0), ("99999999999", u32::MAX)] {
            assert_eq!(leading_number(text), number, "{text}");
        }
    }
}
