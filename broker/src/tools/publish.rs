//! `broker pub`: publishes messages and waits until the broker has them.

use super::connection::{Connection, PATIENCE};
use super::{Place, line};
use amqp::Method;
use amqp::content::BasicProperties;
use amqp::method::{basic, queue};
use amqp::table::{FieldTable, FieldValue};
use daemon::exit::Exit;
use daemon::run::Failure;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

/// Octets of a body from a file or standard input.
const LARGEST: u64 = 512 << 20;
/// Octets that are put together before they are sent.
const BATCH: usize = 128 * 1024;

/// `broker pub`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Queue, or routing key with --exchange
    queue: String,
    /// The message; `-` or nothing reads standard input
    body: Option<String>,
    /// Exchange instead of the default one
    #[arg(short = 'x', long, value_name = "NAME")]
    exchange: Option<String>,
    /// Take the body from a file
    #[arg(long, value_name = "FILE", conflicts_with = "body")]
    file: Option<PathBuf>,
    /// A message for each line
    #[arg(long)]
    lines: bool,
    /// Publish it so many times
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Declare the queue as a durable one if it is not there
    #[arg(long)]
    create: bool,
    /// Not kept over a restart
    #[arg(long)]
    transient: bool,
    /// content-type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// A header, NAME=VALUE; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Time to live in milliseconds
    #[arg(long, value_name = "MS")]
    expiration: Option<u64>,
    /// Priority
    #[arg(long)]
    priority: Option<u8>,
    #[command(flatten)]
    place: Place,
}

/// Publishes.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let properties = properties(args)?;
    let body = body(args)?;
    let mut connection = Connection::to(&args.place)?;
    if args.create && args.exchange.is_none() {
        connection.declare(queue::Declare { queue: &args.queue, durable: true, ..Default::default() })?;
    }
    connection.confirm()?;
    let publish = basic::Publish {
        exchange: args.exchange.as_deref().unwrap_or_default(),
        routing_key: &args.queue,
        mandatory: true,
        ..Default::default()
    };
    let began = Instant::now();
    let bodies = bodies(args, &body);
    let mut account = Account::default();
    for _ in 0..args.count {
        for body in &bodies {
            connection.publish(publish, &properties, body);
            account.published += 1;
            if connection.waiting() >= BATCH {
                connection.flush()?;
                while let Some(event) = connection.next_known()? {
                    account.take(event.method()?);
                }
            }
        }
    }
    while account.settled < account.published {
        let blocked = connection.blocked.clone();
        match connection.next(PATIENCE)? {
            Some(event) => account.take(event.method()?),
            None => {
                let why = blocked.map_or_else(
                    || "the broker does not answer".to_owned(),
                    |why| format!("the broker is {why}"),
                );
                let text = format!(
                    "{} of {} messages are not confirmed: {why}",
                    account.published - account.settled,
                    account.published
                );
                return Err(Failure::new(Exit::TempFail, text));
            }
        }
    }
    let took = began.elapsed().as_secs_f64() * 1000.0;
    connection.close()?;
    account.finish(args, took)
}

/// What became of the messages.
#[derive(Default)]
struct Account {
    published: u64,
    settled: u64,
    /// Confirms without `multiple` may come in any order; the broker's own come in order.
    last: u64,
    refused: u64,
    returned: u64,
}

impl Account {
    fn take(&mut self, method: Method<'_>) {
        match method {
            Method::BasicAck(ack) => self.settle(ack.delivery_tag, ack.multiple),
            Method::BasicNack(nack) => {
                let before = self.settled;
                self.settle(nack.delivery_tag, nack.multiple);
                self.refused += self.settled - before;
            }
            Method::BasicReturn(_) => self.returned += 1,
            _ => {}
        }
    }

    fn settle(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.settled += tag.saturating_sub(self.last);
        } else {
            self.settled += 1;
        }
        self.last = self.last.max(tag);
    }

    fn finish(&self, args: &Args, took: f64) -> Result<(), Failure> {
        let to = match &args.exchange {
            Some(exchange) => format!("exchange {exchange} with key {}", args.queue),
            None => args.queue.clone(),
        };
        if self.returned > 0 {
            let text = format!("{} of {} messages reached no queue of {to}", self.returned, self.published);
            return Err(Failure::new(Exit::Unavailable, text).detail("try", "--create   makes the queue"));
        }
        if self.refused > 0 {
            let text = format!("{} of {} messages were refused by {to}", self.refused, self.published);
            return Err(Failure::new(Exit::Unavailable, text)
                .detail("why", "the queue is full, or the broker could not keep them"));
        }
        let word = if self.published == 1 { "message" } else { "messages" };
        line(&format!("published {} {word} to {to}  confirmed in {took:.1} ms", self.published))
    }
}

fn properties(args: &Args) -> Result<BasicProperties, Failure> {
    let mut headers = FieldTable::new();
    for header in &args.headers {
        let Some((name, value)) = header.split_once('=') else {
            return Err(Failure::new(
                Exit::Usage,
                format!("header `{header}` is not of the form NAME=VALUE"),
            ));
        };
        let number = value.parse::<i64>().ok().map(FieldValue::Long);
        headers.insert(name, number.unwrap_or_else(|| FieldValue::long_str(value)));
    }
    Ok(BasicProperties {
        content_type: args.content_type.as_ref().map(|text| text.clone().into_bytes()),
        headers: (!headers.is_empty()).then_some(headers),
        delivery_mode: Some(if args.transient { 1 } else { 2 }),
        priority: args.priority,
        expiration: args.expiration.map(|ms| ms.to_string().into_bytes()),
        ..BasicProperties::default()
    })
}

fn body(args: &Args) -> Result<Vec<u8>, Failure> {
    let unreadable =
        |error: std::io::Error| Failure::new(Exit::Io, format!("cannot read the message: {error}"));
    let mut body = Vec::new();
    match (&args.file, args.body.as_deref()) {
        (Some(file), _) => {
            let file = std::fs::File::open(file).map_err(unreadable)?;
            file.take(LARGEST).read_to_end(&mut body).map_err(unreadable)?;
        }
        (None, None | Some("-")) => {
            std::io::stdin().lock().take(LARGEST).read_to_end(&mut body).map_err(unreadable)?;
        }
        (None, Some(text)) => body.extend_from_slice(text.as_bytes()),
    }
    Ok(body)
}

/// What is published each time: the body, or a message for each line of it.
fn bodies<'a>(args: &Args, body: &'a [u8]) -> Vec<&'a [u8]> {
    if args.lines {
        body.split(|octet| *octet == b'\n').filter(|part| !part.is_empty()).collect()
    } else {
        vec![body]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(options: &[&str]) -> Args {
        Line::try_parse_from([&["pub", "q"], options].concat()).unwrap().args
    }

    #[test]
    fn every_option_of_a_message_is_in_its_properties() {
        let of = |options: &[&str]| properties(&args(options)).unwrap();
        let plain = BasicProperties { delivery_mode: Some(2), ..BasicProperties::default() };
        assert_eq!(of(&[]), plain);
        let mut headers = FieldTable::new();
        headers.insert("a", FieldValue::Long(1));
        headers.insert("b", FieldValue::long_str("x=y"));
        let headers = Some(headers);
        for (options, expected) in [
            (&["--transient"][..], BasicProperties { delivery_mode: Some(1), ..plain.clone() }),
            (
                &["--content-type", "a/b"],
                BasicProperties { content_type: Some(b"a/b".to_vec()), ..plain.clone() },
            ),
            (&["--priority", "7"], BasicProperties { priority: Some(7), ..plain.clone() }),
            (&["--expiration", "70"], BasicProperties { expiration: Some(b"70".to_vec()), ..plain.clone() }),
            (&["--header", "a=1", "-H", "b=x=y"], BasicProperties { headers, ..plain.clone() }),
        ] {
            assert_eq!(of(options), expected, "{options:?}");
        }
        assert!(properties(&args(&["--header", "nothing"])).is_err());
    }

    #[test]
    fn a_body_is_an_argument_or_a_file_and_one_message_or_a_line_each() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body");
        std::fs::write(&file, "a\n\nb\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(body(&args(&["text"])).unwrap(), b"text");
        let read = body(&args(&["--file", file])).unwrap();
        assert_eq!(bodies(&args(&["--file", file]), &read), [&b"a\n\nb\n"[..]]);
        assert_eq!(bodies(&args(&["--file", file, "--lines"]), &read), [&b"a"[..], b"b"]);
        assert!(body(&args(&["--file", "/no/such/file"])).is_err());
    }
}
