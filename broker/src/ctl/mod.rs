//! `broker ctl`, and the same program called `rabbitmqctl`, `rabbitmq-diagnostics`, `rabbitmq-plugins`,
//! `rabbitmq-queues` or `rabbitmq-upgrade`; also `broker join` and its siblings.
//!
//! ```text
//! rabbitmqctl list_queues ──► <data>/run/control.sock ──► the HTTP API, and what server.rs adds to it
//!                        └──► http://user:password@host:15672, the same without a file to open
//! ```
//!
//! A command is a client of the node's HTTP API. On the node's own machine it needs no password: whoever can
//! open the socket is the node's user or root. [`catalog`] lists the commands, [`args`] takes a line apart,
//! [`run`] has what a command needs; the other files are the commands by family.

mod absent;
mod args;
mod catalog;
mod client;
mod cluster;
mod cluster_server;
mod definitions;
mod error;
mod format;
mod health;
mod help;
mod listing;
mod membership;
mod node;
mod operations;
mod permissions;
mod place;
mod plugins;
mod policies;
mod queues;
pub(crate) mod relay;
mod run;
pub(crate) mod server;
mod term;
mod upgrade;
mod users;
mod vhosts;

use crate::config::cli::{Environment, NodeArgs};
use args::Parsed;
pub(crate) use catalog::{Tool, as_clap};
use client::{Client, Remote};
pub(crate) use client::{decoded, encoded, trusting};
use daemon::exit::Exit;
use daemon::run::Failure;
use error::CtlError;
use hyper::header::HeaderValue;
pub(crate) use place::Bound;
use run::Run;
use serde_json::Value;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
pub(crate) use term::escaped;

/// How long a node that is about to start is waited for, unless told otherwise.
const STARTING: Duration = Duration::from_secs(300);

/// The tool that a program of this name is.
pub(crate) fn tool_called(name: &str) -> Option<Tool> {
    match name {
        "rabbitmqctl" => Some(Tool::Ctl),
        "rabbitmq-diagnostics" => Some(Tool::Diagnostics),
        "rabbitmq-plugins" => Some(Tool::Plugins),
        "rabbitmq-queues" => Some(Tool::Queues),
        "rabbitmq-upgrade" => Some(Tool::Upgrade),
        _ => None,
    }
}

/// Carries out a command line; `called` is how the program was called.
pub(crate) fn main(tool: Tool, called: &str, given: Vec<String>) -> ExitCode {
    let mut out = std::io::stdout().lock();
    let (code, text) = match carry_out(tool, called, given, &mut out) {
        Ok(()) => (Exit::Ok.code(), String::new()),
        Err((error, text)) => (error.code, text),
    };
    // A reader that went away is no reason to hide the exit code.
    let _ = out.flush();
    if !text.is_empty() {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
    ExitCode::from(code)
}

/// An error with what to write to standard error.
type Failed = (CtlError, String);

fn carry_out(tool: Tool, called: &str, given: Vec<String>, out: &mut dyn Write) -> Result<(), Failed> {
    let shown = |error: CtlError, given: &[String], usage: &str| {
        let text = error.render(given, usage);
        (error, text)
    };
    let general = format!(
        "{called} [--node <node>] [--timeout <timeout>] [--longnames] [--quiet] <command> [<command options>]"
    );
    let words = given.clone();
    let parsed = Parsed::read(given).map_err(|error| shown(error, &words, &general))?;
    let Some(name) = parsed.words.first() else {
        let text = help::overview(tool, called);
        if parsed.has("help") {
            return writeln!(out, "{text}").map_err(|error| shown(error.into(), &words, &general));
        }
        return Err((CtlError::usage(""), text));
    };
    let command = catalog::find(tool, name)
        .ok_or_else(|| help::not_found(tool, called, name))
        .map_err(|error| shown(error, &words, &general))?;
    if parsed.has("help") {
        let text = help::about(called, command);
        return writeln!(out, "{text}").map_err(|error| shown(error.into(), &words, &general));
    }
    let usage = help::usage(called, command);
    prepare(command, &parsed)
        .and_then(|client| {
            let bold = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let mut run = Run::new(&parsed, (tool, called), client, bold, out)?;
            (command.act)(&mut run)
        })
        .map_err(|error| shown(error, &words, &usage))
}

/// The user that an address of a node names, such as `admin` in `http://admin:password@host:15672`.
pub(crate) fn login_of(address: &str) -> Option<String> {
    Remote::parse(address)?.user()
}

/// How long a node may take for what tools send it.
const POSTED: Duration = Duration::from_secs(600);

/// A node that tools ask.
pub(crate) struct Asked(Client);

impl Asked {
    /// Connects to a node of this machine, or to an address of one.
    pub(crate) fn connect(node: Option<&str>) -> Result<Asked, Failure> {
        let given = node.map(|node| vec!["--node".to_owned(), node.to_owned()]).unwrap_or_default();
        let client = Parsed::read(given).and_then(|parsed| connect(&parsed, None));
        client.map(Asked).map_err(|error| failure(&error))
    }

    /// Gets what must be there.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value, Failure> {
        self.must(hyper::Method::GET, path, None)
    }

    /// Gets what is no JSON.
    pub(crate) fn text(&mut self, path: &str) -> Result<String, Failure> {
        // A body that is none is kept as the reason.
        self.get(path).map(|body| body["reason"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends what must be taken, which may be much.
    pub(crate) fn post(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.0.timeout = self.0.timeout.max(POSTED);
        self.must(hyper::Method::POST, path, Some(body))
    }

    /// Makes or changes something.
    pub(crate) fn put(&mut self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.must(hyper::Method::PUT, path, Some(body))
    }

    /// Deletes something.
    pub(crate) fn delete(&mut self, path: &str) -> Result<Value, Failure> {
        self.must(hyper::Method::DELETE, path, None)
    }

    fn must(&mut self, method: hyper::Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = self.0.ask(method, path, body);
        answer.and_then(client::Answer::fine).map_err(|error| failure(&error))
    }
}

fn failure(error: &CtlError) -> Failure {
    let text = error.render(&[], "");
    let exit = if error.code == Exit::NoPermission.code() { Exit::NoPermission } else { Exit::Unavailable };
    Failure::new(exit, text.trim_start_matches("Error:").trim())
}

/// Checks the line, and connects to the node if the command needs one.
fn prepare(command: &catalog::Command, parsed: &Parsed) -> Result<Option<Client>, CtlError> {
    parsed.allow_only(command.switches)?;
    let (least, most) = command.arguments;
    let count = parsed.arguments().len();
    if count < least {
        return Err(CtlError::usage("not enough arguments."));
    }
    if count > most {
        return Err(CtlError::usage("too many arguments."));
    }
    parsed.formatter()?;
    let timeout = timeout(parsed)?;
    if !command.needs_node {
        return Ok(None);
    }
    let waits = command.name == "await_startup" || command.name == "wait";
    let mut client = connect(parsed, if waits { timeout.or(Some(STARTING)) } else { None })?;
    if let Some(timeout) = timeout {
        client.timeout = timeout;
    }
    if client.stopped && command.needs_running() {
        return Err(CtlError::must_run());
    }
    Ok(Some(client))
}

fn timeout(parsed: &Parsed) -> Result<Option<Duration>, CtlError> {
    let Some(text) = parsed.value("timeout") else { return Ok(None) };
    if text == "infinity" {
        return Ok(Some(Duration::from_secs(86_400)));
    }
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    let wrong = || CtlError::usage(format!("--timeout is `{text}`, which is not a number of seconds"));
    seconds.map(|seconds| Some(Duration::from_secs_f64(seconds))).ok_or_else(wrong)
}

/// Connects to the node that is meant. For one that is about to start, `patience` says how long to try.
fn connect(parsed: &Parsed, patience: Option<Duration>) -> Result<Client, CtlError> {
    let wanted = parsed.value("node").map(str::to_owned);
    let wanted = wanted.or_else(|| std::env::var("RABBITMQ_NODENAME").ok().filter(|name| !name.is_empty()));
    if let Some(url) = wanted.as_deref().filter(|name| name.contains("://")) {
        let remote = Remote::parse(url).ok_or_else(|| {
            CtlError::bad_argument("the node is not an address such as http://user:password@host:15672")
        })?;
        let authorities = parsed.value("cacert").map(Path::new);
        return Client::remote(&remote, authorities).map_err(|error| {
            let text = format!("Error: unable to connect to {}: {error}", remote.shown());
            CtlError::plain(Exit::Unavailable, text)
        });
    }
    let since = std::time::Instant::now();
    loop {
        match local(parsed, wanted.as_deref()) {
            Err(_) if patience.is_some_and(|patience| since.elapsed() < patience) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

/// Where a control socket may be, and why it is looked for there.
fn candidates(parsed: &Parsed, wanted: Option<&str>) -> Vec<PathBuf> {
    if let Some(socket) = parsed.value("socket") {
        return vec![PathBuf::from(socket)];
    }
    if let Some(data) = parsed.value("data") {
        return vec![place::socket_in(Path::new(data))];
    }
    let environment = Environment::read();
    let given = environment.data.is_some();
    let mut found =
        vec![place::socket_in(&crate::config::data_directory(None, &NodeArgs::default(), &environment))];
    let known = place::known();
    match wanted {
        // A name without a host means the node of that name on this one.
        Some(wanted) => {
            let fits = |name: &str| name == wanted || name.split('@').next() == Some(wanted);
            found.extend(known.into_iter().filter(|(name, _)| fits(name)).map(|(_, path)| path));
        }
        // Where the data is was said: no other node is meant.
        None if given => {}
        None => {
            found.push(place::socket_in(Path::new("/var/lib/broker")));
            // Of several nodes none is meant more than another.
            if let [(_, only)] = known.as_slice() {
                found.push(only.clone());
            }
        }
    }
    found.dedup();
    found
}

fn local(parsed: &Parsed, wanted: Option<&str>) -> Result<Client, CtlError> {
    let mut looked = Vec::new();
    for path in candidates(parsed, wanted) {
        match Client::local(&path) {
            Ok(mut client) => {
                let answer = client.ask(hyper::Method::GET, "/local/identity", None)?.fine()?;
                let name = answer["node"].as_str().unwrap_or_default();
                let fits = |wanted: &str| name == wanted || name.split('@').next() == Some(wanted);
                if wanted.is_none_or(fits) {
                    client.stopped = answer["running"] == false;
                    return Ok(client);
                }
                // Another node of its cluster is reached through it.
                let mut members =
                    answer["members"].as_array().into_iter().flatten().filter_map(Value::as_str);
                if let Some(member) = members.find(|member| Some(*member) == wanted) {
                    client.other = HeaderValue::try_from(member).ok();
                    return Ok(client);
                }
                looked.push(format!("{}: is node {name}", path.display()));
            }
            Err(error) => looked.push(format!("{}: {}", path.display(), explained(&error))),
        }
    }
    let name = wanted.map_or_else(|| format!("rabbit@{}", Environment::read().host), str::to_owned);
    let known: Vec<String> = place::known().into_iter().map(|(name, _)| name).collect();
    let others = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let text = format!(
        "Error: unable to perform an operation on node '{name}'. Please see diagnostics information and suggestions below.\n\n\
         Most common reasons for this are:\n\n \
         * Target node is not running\n \
         * It runs as another user: use its user, or root\n \
         * It is on another machine: -n http://user:password@host:15672 asks it there\n\n\
         DIAGNOSTICS\n===========\n\n\
         looked for its control socket:\n  {}\n\
         nodes of this machine: {others}\n",
        looked.join("\n  ")
    );
    Err(CtlError::plain(Exit::Unavailable, text))
}

fn explained(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "not there".to_owned(),
        ErrorKind::ConnectionRefused => "left by a node that ended".to_owned(),
        ErrorKind::PermissionDenied => "belongs to another user".to_owned(),
        _ => error.to_string(),
    }
}
