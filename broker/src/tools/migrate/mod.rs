//! `broker migrate`: from a RabbitMQ to a node of ours: definitions from a file or from the running broker, and the
//! messages over AMQP.
//!
//! ```text
//! --definitions FILE │ --from-running URL ──► plan.rs ──► what comes along, and what does not ──► --apply
//!                                             rehearsal.rs ──► what a node would refuse
//! --from-amqp URL ──────────────────────────► queues.rs ──► how much lies where ──► --drain: drain.rs
//!                                             here.rs ──► what may cost messages in the queues here
//! ```
//!
//! Nothing is written without `--apply`, and no message moves without `--drain`.

mod arrival;
mod drain;
mod here;
mod plan;
mod progress;
mod queues;
mod rehearsal;
mod restore;
mod source;
mod summary;

use super::line;
use crate::ctl::{Asked, escaped, login_of};
use daemon::exit::Exit;
use daemon::run::Failure;
use plan::Plan;
use serde_json::Value;
use std::path::PathBuf;

/// `broker migrate`
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).multiple(true))]
pub(crate) struct Args {
    /// Definitions that RabbitMQ exported
    #[arg(long, value_name = "FILE", group = "source", conflicts_with = "from_running")]
    definitions: Option<PathBuf>,
    /// The HTTP API of a running RabbitMQ, such as http://admin:password@old:15672
    #[arg(long, value_name = "URL", group = "source")]
    from_running: Option<String>,
    /// A running RabbitMQ and a vhost whose messages are to move, such as amqp://user:password@old:5672/%2F
    #[arg(long, value_name = "URL", group = "source")]
    from_amqp: Option<String>,
    /// Write the definitions; otherwise it is only said what would be done
    #[arg(long, conflicts_with = "dry_run")]
    apply: bool,
    /// Move the messages: each is taken from there when this side has it safe
    #[arg(long, requires = "from_amqp", conflicts_with = "dry_run")]
    drain: bool,
    /// Only say what would be done, as without --apply and --drain
    #[arg(long)]
    dry_run: bool,
    /// Move the messages of this queue only; may be repeated
    #[arg(long, value_name = "QUEUE", requires = "from_amqp")]
    queue: Vec<String>,
    /// Write nothing if there are quorum queues, which become mirrored queues here
    #[arg(long)]
    keep_type: bool,
    /// The node to write to, of this machine or http://admin:password@host:15672
    #[arg(short = 'n', long, value_name = "NODE")]
    node: Option<String>,
    /// Where messages go, such as amqp://user:password@host:5672; its user needs the tag impersonator
    #[arg(long, value_name = "URL", requires = "from_amqp")]
    to_amqp: Option<String>,
    /// Certificates to trust, for amqps
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,
    /// Write everything that changes or does not come along to this file too
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Migrates, or says what that would be.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    migrate(args).map_err(printable)
}

fn migrate(args: &Args) -> Result<(), Failure> {
    fits(args)?;
    let read = match (&args.definitions, &args.from_running) {
        (Some(file), _) => Some(source::file(file)?),
        (None, Some(url)) => Some(source::running(url)?),
        (None, None) => None,
    };
    if let Some(read) = &read {
        definitions(args, read)?;
    }
    match &args.from_amqp {
        Some(url) => queues::run(args, url, read.as_ref()),
        None => Ok(()),
    }
}

/// Whether what was given belongs together, beyond what the line's own rules say.
fn fits(args: &Args) -> Result<(), Failure> {
    if args.drain && args.from_running.is_some() && !args.apply {
        return Err(Failure::new(Exit::Usage, "--drain moves messages into queues that are not there yet")
            .detail("write", "--apply as well, or --from-amqp without --from-running"));
    }
    if args.definitions.is_none() && args.from_running.is_none() {
        let option = match (args.apply, &args.report) {
            (true, _) => "--apply writes definitions",
            (false, Some(_)) => "--report is about definitions",
            (false, None) => return Ok(()),
        };
        return Err(Failure::new(Exit::Usage, format!("{option}, and --from-amqp has none")).detail(
            "write",
            "--from-running URL or --definitions FILE as well, or --drain to move messages",
        ));
    }
    Ok(())
}

/// Writes one line. Names are those of another system: what is in them does not steer the terminal, nor begin a line.
fn say(text: &str) -> Result<(), Failure> {
    line(&escaped(text))
}

/// A failure that quotes names, or what the other side answered.
fn printable(mut failure: Failure) -> Failure {
    let details = failure.details.iter_mut().map(|(_, text)| text);
    for text in std::iter::once(&mut failure.message).chain(details) {
        // Some have lines of their own.
        *text = text.split('\n').map(escaped).collect::<Vec<_>>().join("\n");
    }
    failure
}

/// Definitions: told, and written if that was asked for.
fn definitions(args: &Args, read: &source::Read) -> Result<(), Failure> {
    say(&summary::read_line(read))?;
    let mut target = Asked::connect(args.node.as_deref());
    let there = match &mut target {
        Ok(asked) => Some(present(asked)?),
        Err(_) => None,
    };
    let nodes = match &mut target {
        Ok(asked) => names(&asked.get("/api/nodes")?),
        Err(_) => Vec::new(),
    };
    let mut plan = Plan::make(&read.definitions, there.as_ref(), &nodes);
    let refused = rehearsal::run(&plan.definitions, there.as_ref())?;
    if there.is_none() {
        plan.doubt(&refused);
    }
    for note in &plan.notes {
        line(&note.to_string())?;
    }
    if let Some(file) = &args.report {
        let text: String = plan.notes.iter().map(|note| note.whole() + "\n").collect();
        std::fs::write(file, text)
            .map_err(|error| Failure::new(Exit::Io, format!("cannot write {}: {error}", file.display())))?;
    }
    if let (true, Some(queue)) = (args.keep_type, plan.quorum.first()) {
        let text = format!("queue {queue} is a quorum queue, and --keep-type was given; nothing was written");
        return Err(Failure::new(Exit::DataError, text).detail(
            "try",
            "the same without --keep-type: it becomes a mirrored queue that confirms by majority",
        ));
    }
    if there.is_some() && !refused.is_empty() {
        return Err(rehearsal::failure(&refused, args.definitions.is_some()));
    }
    let difference = summary::Difference::between(&plan.definitions, there.as_ref());
    if !args.apply {
        let where_to = if there.is_some() { "" } else { " No node answers here to compare with." };
        let said =
            format!("would create {difference}.{where_to} Nothing was written. Run again with --apply.");
        return say(&said);
    }
    let asked = target?;
    apply(args, asked, &plan, &difference)?;
    match &read.hint {
        Some(hint) if args.from_amqp.is_none() => say(&format!("{:<8}{hint}", "next")),
        _ => Ok(()),
    }
}

/// Writes the plan, and looks whether all of it is there.
fn apply(args: &Args, mut asked: Asked, plan: &Plan, wanted: &summary::Difference) -> Result<(), Failure> {
    let lacking = |asked: &mut Asked| {
        present(asked).map(|now| summary::Difference::between(&plan.definitions, Some(&now)))
    };
    if let Err(failure) = asked.post("/api/definitions", &plan.definitions) {
        let written = match lacking(&mut asked) {
            Ok(missing) if missing == *wanted => "nothing".to_owned(),
            Ok(missing) if missing.is_empty() => "everything that was not there".to_owned(),
            Ok(missing) => format!("a part; {missing} are not there"),
            Err(_) => "it is not known how much; run it again, which goes on where it is".to_owned(),
        };
        return Err(failure.detail("written", written));
    }
    match lacking(&mut asked) {
        Ok(missing) if missing.is_empty() => say(&format!("created {wanted}.")),
        Ok(missing) => {
            let text = format!("the node took the definitions, but it lacks {missing} of them");
            Err(Failure::new(Exit::Software, text))
        }
        // The definitions may have another password for the user that this logged in with.
        Err(failure) if failure.exit == Exit::NoPermission => {
            say(&format!("created {wanted}."))?;
            let login = args.node.as_deref().and_then(login_of).filter(|login| plan.has_user(login));
            let text = format!(
                "{} has the password and tags from there now, so it was not looked whether all is there",
                login.map_or_else(|| "who this logs in as".to_owned(), |login| format!("user {login}"))
            );
            if args.from_amqp.is_some() {
                return Err(Failure::new(Exit::NoPermission, format!("{text}, and no message was moved"))
                    .detail("try", "the same with the new password in --node, without --apply"));
            }
            say(&format!("{:<8}{text}", "note"))
        }
        Err(failure) => {
            Err(failure
                .detail("written", "the node took the definitions; what it has now could not be asked"))
        }
    }
}

/// What a node has, in the form of definitions. These leave out what is not durable.
fn present(asked: &mut Asked) -> Result<Value, Failure> {
    let mut all = asked.get("/api/definitions")?;
    for part in ["queues", "exchanges", "bindings"] {
        let listed = asked.get(&format!("/api/{part}"))?;
        if let Some(all) = all.as_object_mut() {
            all.insert(part.to_owned(), listed);
        }
    }
    Ok(all)
}

/// The `name` of each.
fn names(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|it| it["name"].as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn what_is_about_definitions_needs_definitions() {
        let told = |line: &str| {
            let words = line.split(' ').filter(|word| !word.is_empty());
            let line = Line::try_parse_from(std::iter::once("migrate").chain(words)).unwrap();
            fits(&line.args).err().map(|failure| (failure.exit, failure.message))
        };
        for option in ["--apply", "--report x"] {
            let (exit, text) = told(&format!("--from-amqp amqp://h {option}")).unwrap();
            assert!(exit == Exit::Usage && text.contains(option.split(' ').next().unwrap()), "{text}");
            assert_eq!(told(&format!("--from-amqp amqp://h --from-running http://h {option}")), None);
            assert_eq!(told(&format!("--definitions d {option}")), None);
        }
        assert_eq!(told("--from-amqp amqp://h --drain"), None);
        assert!(told("--from-amqp amqp://h --from-running http://h --drain").is_some());
    }

    #[test]
    fn a_failure_does_not_steer_the_terminal() {
        let failure = Failure::new(Exit::Usage, "no queue 'a\u{1b}[2Jb'").detail("try", "one\ntwo\u{7}");
        let shown = printable(failure).to_string();
        assert!(shown.contains("a\\u{1b}[2Jb") && shown.contains("one\ntwo\\u{7}"), "{shown}");
        assert!(!shown.contains('\u{1b}'));
    }
}
