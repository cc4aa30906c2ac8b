//! Commands that show small things, and those that change the connection itself.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Answer, Cli, Reply, Severity};
use crate::config::show::test as show_test;
use crate::config::{Level, duration};
use crate::resolvers;
use crate::stats::info;
use crate::tcplog::Accepted;

/// `show backend`
pub(super) fn backend(cli: &mut Cli, _words: &[&str]) -> Answer {
    let mut out = "# name\n".to_owned();
    for section in cli.process.sections().iter().filter(|section| section.backend.is_some()) {
        let _ = writeln!(out, "{}", section.config.name);
    }
    Ok(Reply::text(out))
}

/// `show version`
pub(super) fn version(_cli: &mut Cli, _words: &[&str]) -> Answer {
    Ok(Reply::info(format!("{}\n", info::VERSION)))
}

/// `show cli level`
pub(super) fn cli_level(cli: &mut Cli, _words: &[&str]) -> Answer {
    Ok(Reply::info(format!("{}\n", cli.level.word())))
}

/// `show cli sockets`
pub(super) fn cli_sockets(cli: &mut Cli, _words: &[&str]) -> Answer {
    let mut out = "# socket lvl processes\n".to_owned();
    for socket in &cli.process.global().stats_sockets {
        let family = match socket.bind.address.tcp() {
            Some(address) if address.is_ipv6() => "ipv6@",
            Some(_) => "ipv4@",
            None => "",
        };
        let _ = writeln!(out, "{family}{} {} all", socket.bind.address, socket.level.word());
    }
    Ok(Reply::text(out))
}

/// `operator`: fewer rights from now on.
pub(super) fn operator(cli: &mut Cli, _words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    cli.level = Level::Operator;
    Ok(Reply::done())
}

/// `user`: fewest rights from now on.
pub(super) fn user(cli: &mut Cli, _words: &[&str]) -> Answer {
    cli.level = Level::User;
    Ok(Reply::done())
}

/// `set timeout cli <delay>`; a bare number is in seconds.
pub(super) fn timeout(cli: &mut Cli, words: &[&str]) -> Answer {
    if words.first() != Some(&"cli") {
        return Err(Reply::error("'set timeout' only supports 'cli'.\n"));
    }
    let delay = words.get(1).ok_or_else(|| Reply::error("Expects an integer value.\n"))?;
    let delay = duration::parse(delay, 1_000_000).ok().filter(|delay| *delay > Duration::ZERO);
    cli.timeout = Some(delay.ok_or_else(|| Reply::error("Invalid timeout value.\n"))?);
    Ok(Reply::done())
}

/// `set severity-output [none|number|string]`
pub(super) fn severity(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.severity = match words.first() {
        Some(&"none") => Severity::None,
        Some(&"number") => Severity::Number,
        Some(&"string") => Severity::Word,
        _ => return Err(Reply::error("one of 'none', 'number', 'string' is a required argument\n")),
    };
    Ok(Reply::done())
}

/// `show env [var]`
pub(super) fn env(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    let mut out = String::new();
    match words.first() {
        Some(name) => {
            let value = std::env::var_os(name).ok_or_else(|| Reply::error("Variable not found\n"))?;
            let _ = writeln!(out, "{name}={}", value.to_string_lossy());
        }
        None => {
            for (name, value) in std::env::vars_os() {
                let _ = writeln!(out, "{}={}", name.to_string_lossy(), value.to_string_lossy());
            }
        }
    }
    Ok(Reply::text(out))
}

/// `show errors`: there are none, because only HTTP has any.
pub(super) fn errors(cli: &mut Cli, _words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    Ok(Reply::text(format!("Total events captured on [{}] : 0\n", Accepted(SystemTime::now()))))
}

/// `show startup-logs`: they went to standard error.
pub(super) fn startup_logs(cli: &mut Cli, _words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    Ok(Reply::text("\n"))
}

/// `show table`: no stick tables are kept.
pub(super) fn table(_cli: &mut Cli, words: &[&str]) -> Answer {
    match words.first() {
        Some(_) => Err(Reply::error("No such table\n")),
        None => Ok(Reply::done()),
    }
}

/// `show peers`: none are connected to.
pub(super) fn peers(_cli: &mut Cli, _words: &[&str]) -> Answer {
    Ok(Reply::done())
}

/// `show pools`: one line for all memory, since there are no pools to tell apart.
pub(super) fn pools(cli: &mut Cli, _words: &[&str]) -> Answer {
    let items = info::items(&cli.process, false);
    let bytes = info::find(&items, "PoolUsed_bytes").map_or(0, |item| item.value.number());
    Ok(Reply::text(format!(
        "Dumping pools usage.\nTotal: 0 pools, {bytes} bytes allocated, {bytes} used (~0 by thread caches).\n"
    )))
}

/// `show resolvers [id]`
pub(super) fn resolvers(cli: &mut Cli, words: &[&str]) -> Answer {
    let sections = cli.process.resolvers();
    let wanted = words.first();
    let shown: Vec<String> = sections
        .iter()
        .filter(|section| wanted.is_none_or(|name| *name == section.name))
        .map(|section| resolvers::counters::show(section, &resolvers::nameservers(section)))
        .collect();
    if shown.is_empty() && wanted.is_some() {
        return Err(Reply::error("Can't find that resolvers section\n"));
    }
    Ok(Reply::text(shown.concat()))
}

/// `show map [map]`: there are no files of maps.
pub(super) fn map(_cli: &mut Cli, words: &[&str]) -> Answer {
    match words.first() {
        Some(_) => Err(Reply::error("Unknown map identifier. Please use #<id> or <file>.\n")),
        None => Ok(Reply::text("# id (file) description\n")),
    }
}

/// `show acl [acl]`: the tests of all sections; their values are those of the file.
pub(super) fn acl(cli: &mut Cli, words: &[&str]) -> Answer {
    let mut found = Vec::new();
    for section in cli.process.sections().iter() {
        let config = &section.config;
        let rules = config.client_rules.iter().map(|rule| (&rule.condition, &rule.place));
        let rules = rules.chain(config.backend_rules.iter().map(|rule| (&rule.condition, &rule.place)));
        let rules = rules.chain(config.server_rules.iter().map(|rule| (&rule.condition, &rule.place)));
        let anonymous = rules.flat_map(|(condition, place)| {
            let terms = condition.groups.iter().flatten().filter(|term| term.name.is_none());
            terms.flat_map(|term| &term.tests).map(move |test| (test, place.clone()))
        });
        let named = config.acls.iter().flat_map(|acl| acl.tests.iter().zip(acl.places.iter().cloned()));
        found.extend(named.chain(anonymous).map(|(test, place)| (show_test(test), place)));
    }
    if let Some(wanted) = words.first() {
        let at = wanted.strip_prefix('#').and_then(|id| id.parse::<usize>().ok());
        let (text, _) = at
            .and_then(|at| found.get(at))
            .ok_or_else(|| Reply::error("Unknown ACL identifier. Please use #<id> or <file>.\n"))?;
        let values = text.split_whitespace().skip(1).filter(|word| !word.starts_with('-')).enumerate();
        let lines = values.map(|(at, value)| format!("{at:#x} {value}\n"));
        return Ok(Reply::text(lines.collect::<String>()));
    }
    let mut out = "# id (file) description\n".to_owned();
    for (at, (text, place)) in found.iter().enumerate() {
        let name = text.split_whitespace().next().unwrap_or_default();
        let entries = text.split_whitespace().skip(1).filter(|word| !word.starts_with('-')).count();
        let _ = writeln!(
            out,
            "{at} () acl '{name}' file '{}' line {}. curr_ver=0 next_ver=0 entry_cnt={entries}",
            place.file, place.line
        );
    }
    Ok(Reply::text(out))
}

/// `show tasks`: those of sessions and of the control thread; HAProxy counts them by function.
pub(super) fn tasks(cli: &mut Cli, _words: &[&str]) -> Answer {
    let items = info::items(&cli.process, false);
    let count = info::find(&items, "Tasks").map_or(0, |item| item.value.number());
    Ok(Reply::text(format!(
        "Running tasks: {count} ({} threads)\n  function                     places     %    lat_tot   lat_avg\n",
        cli.process.threads
    )))
}

/// `show ssl cert`: the files that bind lines name, in their order.
pub(super) fn certificates(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    let sections = cli.process.sections();
    let binds = sections.iter().flat_map(|section| &section.config.binds);
    let mut files: Vec<String> = binds
        .filter_map(|bind| bind.tls.as_ref())
        .flat_map(|tls| tls.crt.iter().chain(&tls.crt_list))
        .map(|file| file.display().to_string())
        .collect();
    files.sort();
    files.dedup();
    match words.first() {
        None if files.is_empty() => Ok(Reply::done()),
        None => {
            let list: String = files.iter().map(|file| format!("{file}\n")).collect();
            Ok(Reply::text(format!("# filename\n{list}")))
        }
        Some(wanted) if files.iter().any(|file| file == wanted) => {
            Ok(Reply::text(format!("Filename: {wanted}\nStatus: Used\n")))
        }
        Some(_) => {
            Err(Reply::error("Can't display the certificate: Not found or the certificate is a bundle!\n"))
        }
    }
}

/// `show activity`: what each worker has.
pub(super) fn activity(cli: &mut Cli, _words: &[&str]) -> Answer {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let counters = &cli.process.counters;
    let loads: Vec<usize> = cli.process.workers().0.iter().map(|worker| worker.load.load(Relaxed)).collect();
    let shown: Vec<String> = loads.iter().map(ToString::to_string).collect();
    Ok(Reply::text(format!(
        "thread_id: 1 (1..{})\ndate_now: {}.{:06}\nconnections: {} [ {} ]\naccepted: {}\ndropped_logs: {}\n",
        cli.process.threads,
        now.as_secs(),
        now.subsec_micros(),
        loads.iter().sum::<usize>(),
        shown.join(" "),
        counters.total.load(Relaxed),
        crate::syslog::DROPPED.load(Relaxed),
    )))
}

/// `show fd [num]`: what the system says of each.
pub(super) fn descriptors(cli: &mut Cli, words: &[&str]) -> Answer {
    cli.need(Level::Operator)?;
    let only: Option<u32> = words.first().and_then(|number| number.parse().ok());
    let entries = std::fs::read_dir("/proc/self/fd")
        .map_err(|error| Reply::error(format!("Cannot list file descriptors: {error}\n")))?;
    let mut found: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, std::fs::read_link(entry.path()).ok()?.display().to_string()))
        })
        .filter(|(number, _)| only.is_none_or(|only| only == *number))
        .collect();
    found.sort();
    let text = found.into_iter().fold(String::new(), |mut text, (number, what)| {
        let _ = writeln!(text, "{number:>7} : {what}");
        text
    });
    Ok(Reply::text(text))
}

/// `show threads`: what the system says of each.
pub(super) fn threads(_cli: &mut Cli, _words: &[&str]) -> Answer {
    let entries = std::fs::read_dir("/proc/self/task")
        .map_err(|error| Reply::error(format!("Cannot list threads: {error}\n")))?;
    let mut found: Vec<(u32, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, about_thread(&entry.path())?))
        })
        .collect();
    found.sort();
    let text = found.into_iter().zip(1..).fold(String::new(), |mut text, ((id, about), at)| {
        let _ = writeln!(text, "  Thread {at:<2}: id={id} {about}");
        text
    });
    Ok(Reply::text(text))
}

/// Name, state and processor time (proc(5): `comm`, and the third, 14th and 15th word of `stat`).
fn about_thread(folder: &std::path::Path) -> Option<String> {
    let name = std::fs::read_to_string(folder.join("comm")).ok()?;
    let stat = std::fs::read_to_string(folder.join("stat")).ok()?;
    // The name is in brackets and may hold anything; what follows the last bracket is plain words.
    let words: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    Some(format!("name={} state={} cpu_ticks={}", name.trim(), words.first()?, ticks(11)? + ticks(12)?))
}
