//! `broker sub` and `broker get`: what a queue has, shown message by message.

use super::connection::{Connection, Event};
use super::{Place, line};
use amqp::Method;
use amqp::method::{basic, queue};
use daemon::exit::Exit;
use daemon::run::Failure;
use std::time::Duration;

/// How long one look for the next message takes.
const LOOK: Duration = Duration::from_secs(1);

/// `broker sub`
#[derive(Debug, clap::Args)]
pub(crate) struct SubArgs {
    /// Queue
    queue: String,
    /// Stop after so many messages
    #[arg(short = 'n', long)]
    count: Option<u64>,
    /// Bodies alone, each with a line end
    #[arg(long)]
    raw: bool,
    /// Leave the messages in the queue when done
    #[arg(long)]
    keep: bool,
    /// Stop when nothing comes for so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<f64>,
    /// Declare the queue as a durable one if it is not there
    #[arg(long)]
    create: bool,
    #[command(flatten)]
    place: Place,
}

/// `broker get`
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// Queue
    queue: String,
    /// So many messages at most
    #[arg(short = 'n', long, default_value_t = 1)]
    count: u64,
    /// Take them out; otherwise they go back, marked as redelivered
    #[arg(long)]
    ack: bool,
    /// Bodies alone, each with a line end
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    place: Place,
}

/// Consumes until there were enough.
pub(crate) fn subscribe(args: &SubArgs) -> Result<(), Failure> {
    let mut connection = Connection::to(&args.place)?;
    if args.create {
        connection.declare(queue::Declare { queue: &args.queue, durable: true, ..Default::default() })?;
    }
    let wanted = args.count.unwrap_or(u64::MAX);
    if wanted == 0 {
        return connection.close();
    }
    // No more than are shown: the others stay with whoever else consumes.
    let prefetch = u16::try_from(wanted.min(100)).unwrap_or(100);
    let prefetch = if args.keep { 0 } else { prefetch };
    connection.call(basic::Qos { prefetch_count: prefetch, ..Default::default() }, "basic.qos-ok")?;
    connection.call(basic::Consume { queue: &args.queue, ..Default::default() }, "basic.consume-ok")?;
    let idle =
        args.idle.filter(|seconds| seconds.is_finite() && *seconds >= 0.0).map(Duration::from_secs_f64);
    let (mut shown, mut quiet) = (0, Duration::ZERO);
    while shown < wanted {
        let wait = idle.map_or(LOOK, |idle| idle.min(LOOK));
        let Some(event) = connection.next(wait)? else {
            quiet += wait;
            if idle.is_some_and(|idle| quiet >= idle) {
                break;
            }
            continue;
        };
        quiet = Duration::ZERO;
        match event.method()? {
            Method::BasicDeliver(deliver) => {
                shown += 1;
                let title = Title {
                    queue: &args.queue,
                    number: shown,
                    of: args.count,
                    key: deliver.routing_key,
                    redelivered: deliver.redelivered,
                };
                show(&title, &event, args.raw)?;
                if !args.keep {
                    connection.acknowledge(deliver.delivery_tag, false);
                }
            }
            Method::BasicCancel(_) => {
                return Err(Failure::new(Exit::Unavailable, format!("queue {} was deleted", args.queue)));
            }
            _ => {}
        }
    }
    connection.close()?;
    let word = if args.keep { "seen" } else { "acked" };
    if args.raw { Ok(()) } else { line(&format!("{word} {shown}")) }
}

/// Fetches.
pub(crate) fn get(args: &GetArgs) -> Result<(), Failure> {
    let mut connection = Connection::to(&args.place)?;
    let mut last = 0;
    for number in 1..=args.count {
        connection.put(1, basic::Get { queue: &args.queue, no_ack: false });
        let event = loop {
            let event = connection.next(super::connection::PATIENCE)?;
            let event = event.ok_or_else(|| Failure::new(Exit::TempFail, "the broker does not answer"))?;
            if matches!(event.method()?.name(), "basic.get-ok" | "basic.get-empty") {
                break event;
            }
        };
        let Method::BasicGetOk(ok) = event.method()? else { break };
        last = ok.delivery_tag;
        let title =
            Title { queue: &args.queue, number, of: None, key: ok.routing_key, redelivered: ok.redelivered };
        show(&title, &event, args.raw)?;
        if !args.raw && number == args.count {
            line(&format!("{} left behind it", ok.message_count))?;
        }
    }
    if args.ack && last > 0 {
        connection.acknowledge(last, true);
    }
    connection.close()?;
    if last == 0 && !args.raw {
        line(&format!("{} is empty", args.queue))?;
    }
    Ok(())
}

/// What stands over a message.
struct Title<'a> {
    queue: &'a str,
    number: u64,
    of: Option<u64>,
    key: &'a str,
    redelivered: bool,
}

fn show(title: &Title<'_>, event: &Event, raw: bool) -> Result<(), Failure> {
    if !raw {
        let properties = event.properties();
        let of = title.of.map(|of| format!("/{of}")).unwrap_or_default();
        let kind = properties.content_type.as_deref().map_or("-".into(), String::from_utf8_lossy);
        let redelivered = if title.redelivered { "yes" } else { "no" };
        line(&format!(
            "{}  {}{of}  key={}  content-type={kind}  {} bytes  redelivered={redelivered}",
            title.queue,
            title.number,
            title.key,
            event.body.len()
        ))?;
        for (name, value) in properties.headers.iter().flat_map(amqp::FieldTable::iter) {
            line(&format!("  {name}: {}", crate::metadata::json::from_value(value)))?;
        }
    }
    match std::str::from_utf8(&event.body) {
        // A terminal must not be steered by a message.
        Ok(text) if !raw && text.contains(|it: char| it.is_control() && it != '\n' && it != '\t') => {
            line(&text.escape_debug().to_string())
        }
        Ok(text) => line(text),
        Err(_) if raw => {
            use std::io::Write as _;
            std::io::stdout()
                .write_all(&event.body)
                .map_err(|error| Failure::new(Exit::Io, error.to_string()))?;
            line("")
        }
        Err(_) => line(&format!("{}", event.body.escape_ascii())),
    }
}
