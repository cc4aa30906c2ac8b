//! Which queues have messages to move, and moving them one after another.

use super::arrival::{self, Arrival};
use super::drain::{self, Moved};
use super::progress::Progress;
use super::source::Read;
use super::{Args, here, names, say};
use crate::ctl::{Asked, encoded};
use crate::tools::connection::{Connection, dial, is_refusal};
use crate::tools::url::Url;
use amqp::method::exchange;
use daemon::exit::Exit;
use daemon::run::Failure;
use serde_json::Value;
use std::time::Duration;

/// A node of a cluster may hear of a new exchange a moment after the one that made it.
const SPREADING: Duration = Duration::from_millis(500);

/// A queue there.
struct Found {
    name: String,
    messages: u32,
    consumers: u32,
}

/// Says what lies there, and moves it if that was asked for.
pub(super) fn run(args: &Args, url: &str, read: Option<&Read>) -> Result<(), Failure> {
    let from = Url::parse(url).ok_or_else(|| {
        Failure::new(Exit::Usage, "the address of the broker to move from can not be understood")
            .detail("write", "--from-amqp amqp://user:password@host:5672/vhost   (%2F is the vhost /)")
    })?;
    let wanted = wanted(args, &from, read)?;
    let found = look(args, &from, &wanted)?;
    for queue in &found {
        let consumers = match queue.consumers {
            0 => String::new(),
            count => format!("  warn: {count} consumers there take messages too; stop them first"),
        };
        say(&format!("{:<40}  {} messages{consumers}", queue.name, queue.messages))?;
    }
    let queues: Vec<&str> = found.iter().map(|queue| queue.name.as_str()).collect();
    let times = here::look(args.node.as_deref(), &arrival::vhost(args, &from.vhost)?, &queues, args.drain)?;
    let messages: u64 = found.iter().map(|queue| u64::from(queue.messages)).sum();
    if !args.drain {
        let text = format!("would move {messages} messages of {} queues.", found.len());
        return say(&format!("{text} Nothing was moved. Run again with --drain."));
    }
    if found.is_empty() {
        return say("nothing to move");
    }
    let mut here = Arrival::open(args, &from.vhost)?;
    let moved =
        refuse_itself(args, &from, &here).and_then(|()| move_all(args, &from, &found, &times, &mut here));
    let closed = here.close();
    let total = moved?;
    closed?;
    tell(&total)
}

/// Refuses to move a queue to itself, which would never end. Addresses do not tell, with proxies and clusters between:
/// an exchange that was made here just now, by a name that nobody else has, is looked for there.
fn refuse_itself(args: &Args, from: &Url, here: &Arrival) -> Result<(), Failure> {
    for wait in [Duration::ZERO, SPREADING] {
        std::thread::sleep(wait);
        let mut there = connect(args, from)?;
        let look = exchange::Declare { exchange: here.exchange(), passive: true, ..Default::default() };
        if is_there(there.call(look, "exchange.declare-ok").map(drop))? {
            let text = "messages would move from this broker, or its cluster, to itself; nothing was moved";
            return Err(Failure::new(Exit::Usage, text).detail("write", ELSEWHERE));
        }
    }
    Ok(())
}

const ELSEWHERE: &str =
    "--from-amqp with the old broker's address, and --node or --to-amqp with the new one's";

/// What a look for an exchange says.
fn is_there(answer: Result<(), Failure>) -> Result<bool, Failure> {
    match answer {
        Ok(()) => Ok(true),
        // Ours asks for no permission to look: who refuses that is another broker.
        Err(failure) if is_refusal(&failure, 404) || is_refusal(&failure, 403) => Ok(false),
        Err(failure) => Err(failure),
    }
}

fn move_all(
    args: &Args,
    from: &Url,
    found: &[Found],
    times: &[Option<u64>],
    here: &mut Arrival,
) -> Result<Moved, Failure> {
    let progress = Progress::new(found.iter().map(|queue| queue.name.as_str()));
    let mut total = Moved::default();
    for (queue, ttl) in found.iter().zip(times) {
        let bar = progress.queue(&queue.name, u64::from(queue.messages));
        let moved = drain::queue(connect(args, from)?, here, &queue.name, *ttl, &bar)?;
        say(&bar.done(moved.messages))?;
        if let Some(text) = held(&queue.name, moved.consumers) {
            say(&text)?;
        }
        total.messages += moved.messages;
        total.redelivered += moved.redelivered;
        total.restarted += moved.restarted;
    }
    Ok(total)
}

/// What to say of consumers that were there when the queue was empty. What they hold counts as nothing until they let
/// go, and AMQP tells of no more than their number.
fn held(queue: &str, consumers: u32) -> Option<String> {
    let words = match consumers {
        0 => return None,
        1 => "1 consumer is".to_owned(),
        count => format!("{count} consumers are"),
    };
    Some(format!(
        "warn    queue {queue}: {words} still there; messages that wait for acknowledgement there have not moved: stop \
         all consumers and run it again"
    ))
}

fn tell(total: &Moved) -> Result<(), Failure> {
    say(&format!(
        "moved   {} messages, in order, with properties, headers, exchange and routing key",
        total.messages
    ))?;
    if total.redelivered > 0 {
        say(&format!(
            "note    {} of them were delivered before; after a run that was cut off some may be here twice",
            total.redelivered
        ))?;
    }
    if total.restarted > 0 {
        say(&format!(
            "note    {} of them do not say when they came into their queue (timestamp): their time to live began again",
            total.restarted
        ))?;
    }
    Ok(())
}

/// The names of the queues to look for: those that were given, or those there, or else those here.
fn wanted(args: &Args, from: &Url, read: Option<&Read>) -> Result<Vec<String>, Failure> {
    if !args.queue.is_empty() {
        return Ok(args.queue.clone());
    }
    if let Some(queues) = read.and_then(|read| read.queues.as_ref()) {
        let movable = |queue: &&Value| {
            queue["vhost"] == from.vhost.as_str() && queue["type"] != "stream" && queue["exclusive"] != true
        };
        return Ok(names(&queues.iter().filter(movable).cloned().collect::<Value>()));
    }
    let mut asked = Asked::connect(args.node.as_deref()).map_err(|failure| {
        failure.detail(
            "try",
            "--queue NAME, or --from-running URL: AMQP has no list of queues, ours tells which to look for",
        )
    })?;
    let here = asked.get(&format!("/api/queues/{}?columns=name", encoded(&from.vhost)));
    let here = here.map_err(|failure| {
        failure.detail("try", "broker migrate --from-running URL --apply   makes vhost and queues first")
    })?;
    Ok(names(&here))
}

/// Looks for queues there. What nobody may consume from is told and left out.
fn look(args: &Args, from: &Url, wanted: &[String]) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let mut connection = connect(args, from)?;
    for name in wanted {
        match connection.counts(name) {
            Ok((messages, consumers)) => found.push(Found { name: name.clone(), messages, consumers }),
            // The channel is closed then.
            Err(failure) => {
                if is_refusal(&failure, 404) && args.queue.is_empty() {
                    // One that is here only.
                } else if is_refusal(&failure, 405) {
                    say(&format!("skip    queue {name} belongs to a connection there"))?;
                } else if is_refusal(&failure, 404) {
                    return Err(not_there(name, &from.vhost));
                } else {
                    return Err(failure);
                }
                connection = connect(args, from)?;
            }
        }
    }
    connection.close()?;
    Ok(found)
}

/// For a queue that was asked for by name.
fn not_there(queue: &str, vhost: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("queue {queue} is not in vhost {vhost} of the broker to move from"),
    )
    .detail(
        "try",
        "rabbitmqctl list_queues -p VHOST name   there, or no --queue: then all that are here are moved",
    )
}

fn connect(args: &Args, from: &Url) -> Result<Connection, Failure> {
    let (_, stream) = dial(from)?;
    Connection::over(stream, from, args.cacert.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_consumers_there_may_hold_is_told() {
        assert_eq!(held("q", 0), None);
        assert!(
            held("q", 1)
                .unwrap()
                .starts_with("warn    queue q: 1 consumer is still there; messages that wait")
        );
        assert!(held("q", 2).unwrap().contains("2 consumers are"));
    }

    #[test]
    fn a_wrong_queue_is_answered_with_what_migrate_can_do() {
        let told = not_there("q", "v").to_string();
        assert!(told.contains("queue q is not in vhost v") && !told.contains("--create"), "{told}");
    }

    #[test]
    fn the_same_broker_is_known_by_what_was_made_in_it() {
        let refused =
            |text: &str| Err(Failure::new(Exit::Unavailable, format!("the broker refused: {text}")));
        assert!(is_there(Ok(())).unwrap());
        assert!(!is_there(refused("404 NOT_FOUND - no exchange 'x' in vhost '/'")).unwrap());
        assert!(!is_there(refused("403 ACCESS_REFUSED - configure access to exchange 'x'")).unwrap());
        assert!(is_there(refused("541 INTERNAL_ERROR - 404 ")).is_err(), "nothing is known then");
    }
}
