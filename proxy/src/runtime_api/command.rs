//! The commands: their words, what `help` says, which one is meant, and what is close to one that is none.

use std::fmt::Write;

use super::{
    Answer, Cli, Reply, add_server, enable, maxconn, server_states, sessions, set_server, show, stat,
};

/// Commands that are shown for one that is unknown, at most.
const MAX_NEAR: usize = 5;

/// Carries a command out; the words after its name are given.
type Handler = fn(&mut Cli, &[&str]) -> Answer;

struct Command {
    /// The words it begins with.
    words: &'static [&'static str],
    /// How it is written.
    usage: &'static str,
    /// What it does.
    about: &'static str,
    handler: Handler,
}

const fn c(
    words: &'static [&'static str],
    usage: &'static str,
    about: &'static str,
    handler: Handler,
) -> Command {
    Command { words, usage, about, handler }
}

/// All commands in the order of the alphabet, then those that concern the connection.
const COMMANDS: &[Command] = &[
    c(
        &["add", "server"],
        "add server <bk>/<srv> <addr> [opts]*",
        "add a server, in maintenance",
        add_server::add,
    ),
    c(
        &["clear", "counters"],
        "clear counters [all]",
        "set maxima, or all counters, back to 0",
        stat::clear_counters,
    ),
    c(
        &["clear", "table"],
        "clear table <table> [<filter>]*",
        "remove an entry of a stick table",
        show::table,
    ),
    c(
        &["del", "server"],
        "del server <bk>/<srv>",
        "remove a server that is in maintenance",
        add_server::delete,
    ),
    c(
        &["disable", "agent"],
        "disable agent <bk>/<srv>",
        "stop a server's agent checks",
        enable::disable_agent,
    ),
    c(
        &["disable", "frontend"],
        "disable frontend <frontend>",
        "stop accepting for a while",
        enable::disable_frontend,
    ),
    c(
        &["disable", "health"],
        "disable health <bk>/<srv>",
        "stop a server's health checks",
        enable::disable_health,
    ),
    c(
        &["disable", "server"],
        "disable server <bk>/<srv>",
        "put a server into maintenance",
        enable::disable_server,
    ),
    c(
        &["enable", "agent"],
        "enable agent <bk>/<srv>",
        "run a server's agent checks again",
        enable::enable_agent,
    ),
    c(&["enable", "frontend"], "enable frontend <frontend>", "accept again", enable::enable_frontend),
    c(
        &["enable", "health"],
        "enable health <bk>/<srv>",
        "run a server's health checks again",
        enable::enable_health,
    ),
    c(
        &["enable", "server"],
        "enable server <bk>/<srv>",
        "take a server out of maintenance",
        enable::enable_server,
    ),
    c(
        &["get", "weight"],
        "get weight <bk>/<srv>",
        "a server's weight, and the one of the file",
        set_server::get_weight,
    ),
    c(&["operator"], "operator", "lower the rights of this connection to operator", show::operator),
    c(
        &["set", "maxconn", "frontend"],
        "set maxconn frontend <frontend> <value>",
        "most connections of a frontend",
        maxconn::frontend,
    ),
    c(
        &["set", "maxconn", "global"],
        "set maxconn global <value>",
        "most connections of the process",
        maxconn::global,
    ),
    c(
        &["set", "maxconn", "server"],
        "set maxconn server <bk>/<srv> <value>",
        "most connections of a server",
        maxconn::server,
    ),
    c(
        &["set", "rate-limit"],
        "set rate-limit <setting> <value>",
        "most connections in a second",
        maxconn::rate_limit,
    ),
    c(
        &["set", "server"],
        "set server <bk>/<srv> [opts]",
        "state, weight, address, health of a server",
        set_server::set,
    ),
    c(
        &["set", "severity-output"],
        "set severity-output [none|number|string]",
        "show the weight of messages",
        show::severity,
    ),
    c(&["set", "timeout"], "set timeout [cli] <delay>", "longest silence of this connection", show::timeout),
    c(
        &["set", "weight"],
        "set weight <bk>/<srv> <value>",
        "weight of a server (set server does more)",
        set_server::weight,
    ),
    c(&["show", "acl"], "show acl [id]", "tests of rules, or the values of one", show::acl),
    c(&["show", "activity"], "show activity", "work of each thread", show::activity),
    c(&["show", "backend"], "show backend", "names of all backends", show::backend),
    c(&["show", "cli", "level"], "show cli level", "rights of this connection", show::cli_level),
    c(&["show", "cli", "sockets"], "show cli sockets", "sockets that take commands", show::cli_sockets),
    c(&["show", "env"], "show env [var]", "environment of the process", show::env),
    c(&["show", "errors"], "show errors [<px>] [request|response]", "captured protocol errors", show::errors),
    c(&["show", "fd"], "show fd [num]", "open file descriptors", show::descriptors),
    c(&["show", "info"], "show info [desc|json|typed|float]*", "what the process says of itself", stat::info),
    c(&["show", "map"], "show map [id]", "maps", show::map),
    c(&["show", "peers"], "show peers [dict|-] [section]", "connections to peers", show::peers),
    c(&["show", "pools"], "show pools", "memory in use", show::pools),
    c(&["show", "resolvers"], "show resolvers [id]", "counters of name servers", show::resolvers),
    c(&["show", "schema", "json"], "show schema json", "form of the JSON answers", stat::schema),
    c(
        &["show", "servers", "conn"],
        "show servers conn [<backend>]",
        "connections of servers",
        server_states::connections,
    ),
    c(
        &["show", "servers", "state"],
        "show servers state [<backend>]",
        "states of servers, as a state file has them",
        server_states::states,
    ),
    c(&["show", "sess"], "show sess [id|all]", "the sessions, or everything about one", sessions::show),
    c(&["show", "ssl", "cert"], "show ssl cert [<certfile>]", "files of certificates", show::certificates),
    c(&["show", "startup-logs"], "show startup-logs", "what was said at the start", show::startup_logs),
    c(
        &["show", "stat"],
        "show stat [desc|json|no-maint|typed|up]*",
        "counters of everything",
        stat::statistics,
    ),
    c(&["show", "table"], "show table <table> [<filter>]*", "stick tables", show::table),
    c(&["show", "tasks"], "show tasks", "tasks at work", show::tasks),
    c(&["show", "threads"], "show threads", "threads of the process", show::threads),
    c(&["show", "version"], "show version", "version of the process", show::version),
    c(
        &["shutdown", "frontend"],
        "shutdown frontend <frontend>",
        "stop accepting for good",
        enable::shutdown_frontend,
    ),
    c(&["shutdown", "session"], "shutdown session [id]", "end a session", sessions::shutdown),
    c(
        &["shutdown", "sessions", "server"],
        "shutdown sessions server <bk>/<srv>",
        "end all sessions of a server",
        sessions::shutdown_server,
    ),
    c(&["user"], "user", "lower the rights of this connection to user", show::user),
    c(&["help"], "help [<command>]", "the commands, or those that begin so", help),
    c(&["prompt"], "prompt", "stay after a command, or no longer", prompt),
    c(&["quit"], "quit", "end the connection", quit),
];

/// How many of [`COMMANDS`] are shown with every list.
const ALWAYS: usize = 3;

/// Finds and carries out the command.
pub(super) fn run(cli: &mut Cli, words: &[&str]) -> Answer {
    let found = COMMANDS.iter().find(|command| words.starts_with(command.words));
    match found {
        Some(command) => (command.handler)(cli, &words[command.words.len()..]),
        None => Err(unknown(words)),
    }
}

fn unknown(words: &[&str]) -> Reply {
    if words.is_empty() {
        return Reply::info(format!(
            "Unknown command. Please enter one of the following commands only:\n{}",
            listed(COMMANDS.iter())
        ));
    }
    Reply::info(format!(
        "Unknown command, but maybe one of the following ones is a better match:\n{}",
        listed(near(words).into_iter().chain(&COMMANDS[COMMANDS.len() - ALWAYS..]))
    ))
}

fn listed<'a>(commands: impl Iterator<Item = &'a Command>) -> String {
    commands.fold(String::new(), |mut text, command| {
        let _ = writeln!(text, "  {:<40}: {}", command.usage, command.about);
        text
    })
}

/// Commands that begin so; else those that are written most like it.
fn near(words: &[&str]) -> Vec<&'static Command> {
    let candidates = &COMMANDS[..COMMANDS.len() - ALWAYS];
    let begin: Vec<&Command> = candidates.iter().filter(|command| begins(command, words)).collect();
    if !begin.is_empty() {
        return begin;
    }
    let given = words.join(" ");
    let mut scored: Vec<(f64, usize)> = candidates
        .iter()
        .enumerate()
        .map(|(at, command)| {
            // As many words as were given: what follows the name does not count.
            let name: Vec<&str> = command.words.iter().copied().take(words.len()).collect();
            (strsim::normalized_damerau_levenshtein(&given, &name.join(" ")), at)
        })
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    scored.truncate(MAX_NEAR);
    scored.sort_by_key(|(_, at)| *at);
    scored.into_iter().map(|(_, at)| &candidates[at]).collect()
}

/// Whether each given word begins the command's word at its place.
fn begins(command: &Command, words: &[&str]) -> bool {
    words.len() <= command.words.len()
        && words.iter().zip(command.words).all(|(given, word)| word.starts_with(given))
}

fn help(_cli: &mut Cli, words: &[&str]) -> Answer {
    let always = &COMMANDS[COMMANDS.len() - ALWAYS..];
    let body = if words.is_empty() {
        listed(COMMANDS.iter())
    } else {
        listed(near(words).into_iter().chain(always))
    };
    Ok(Reply::info(format!("The following commands are valid at this level:\n{body}")))
}

fn prompt(cli: &mut Cli, _words: &[&str]) -> Answer {
    cli.interactive = !cli.interactive;
    Ok(Reply::done())
}

fn quit(_cli: &mut Cli, _words: &[&str]) -> Answer {
    Ok(Reply::Quit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_command_hides_another() {
        for (at, command) in COMMANDS.iter().enumerate() {
            let found = COMMANDS.iter().position(|other| command.words.starts_with(other.words));
            assert_eq!(found, Some(at), "{}", command.usage);
            assert!(command.usage.starts_with(&command.words.join(" ")), "{}", command.usage);
        }
    }

    #[test]
    fn a_beginning_and_a_slip_find_their_command() {
        let names = |line: &str| -> Vec<&str> {
            let words: Vec<&str> = line.split(' ').collect();
            near(&words).iter().map(|command| command.usage).collect()
        };
        assert_eq!(names("set maxconn").len(), 3);
        assert!(names("sho sta").iter().any(|usage| usage.starts_with("show stat")));
        assert!(names("shw stat").iter().any(|usage| usage.starts_with("show stat")));
        assert!(names("dsable server").contains(&"disable server <bk>/<srv>"));
        assert_eq!(names("complete nonsense").len(), MAX_NEAR);
    }
}
